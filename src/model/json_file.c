/*
 * json_file.c - JSON text from a model's directory as one object.  What its keys mean is elsewhere.
 */
#include "model/source.h"

enum status json_file_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            json_t **out_object)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)data, n_bytes, JSON_REJECT_DUPLICATES, &error);

    /* tokenizer_config.json says that a length is not bounded by an integer of 31 digits. */
    if (root == NULL && json_error_code(&error) == json_error_numeric_overflow)
        root = json_loadb((const char *)data, n_bytes,
                          JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
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
