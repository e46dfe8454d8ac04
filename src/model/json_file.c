/*
 * json_file.c - JSON text from a model's directory as one object.  What its keys mean is elsewhere.
 */
#include "model/source.h"

enum status json_file_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            json_t **out_object)
{
    static const char lenient[] = "tokenizer_config.json";
    const size_t n_origin = strlen(origin), n_name = sizeof lenient - 1;
    const bool is_lenient = n_origin >= n_name && strcmp(origin + n_origin - n_name, lenient) == 0;
    json_error_t error;
    /* That file says that a length is not bounded by an integer of 31 digits; nobody looks at its
     * integers. */
    json_t *root = json_loadb(
        (const char *)data, n_bytes,
        JSON_REJECT_DUPLICATES | (is_lenient ? (size_t)JSON_DECODE_INT_AS_REAL : 0), &error);

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
