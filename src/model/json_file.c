/*
 * json_file.c - JSON text from a model's directory as one object.  What its keys mean is elsewhere.
 */
#include "model/source.h"

enum status json_file_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            json_t **out_object)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)data, n_bytes, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL) {
        log_error("%s: line %d column %d: %s; the file is damaged, get it again", origin,
                  error.line, error.column, error.text);
        return ST_FORMAT;
    }
    if (!json_is_object(root)) {
        log_error("%s: line 1: must be a JSON object; the file is damaged, get it again", origin);
        json_decref(root);
        return ST_FORMAT;
    }
    *out_object = root;
    return ST_OK;
}
