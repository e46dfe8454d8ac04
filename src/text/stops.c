/*
 * stops.c - a row's own stop strings.
 */
#include <jansson.h>

#include "text/internal.h"

static enum status add_stop(const json_t *stop, size_t i, struct arena *arena,
                            struct text_span *out_stop, struct row_error *err)
{
    const size_t n_bytes = json_string_length(stop);

    if (!json_is_string(stop) || n_bytes == 0)
        return row_error_set(err, "stop %zu is %s", i,
                             json_is_string(stop) ? "an empty string" : "not a string");
    const char *text = arena_copy(arena, json_string_value(stop), n_bytes);
    if (text == NULL)
        return ST_NOMEM;
    *out_stop = (struct text_span){text, n_bytes};
    return ST_OK;
}

enum status text_stop_list(const char *json, size_t n_bytes, struct arena *arena,
                           struct text_span **out_stops, int *out_n_stops, struct row_error *err)
{
    json_error_t error;
    /* No JSON_ALLOW_NUL: NUL never occurs in the text that stops are looked for in. */
    json_t *root = json_loadb(json, n_bytes, JSON_DECODE_ANY, &error);
    const size_t n_stops = json_is_array(root) ? json_array_size(root) : 1;
    struct text_span *stops = NULL;
    enum status st = ST_OK;

    if (root == NULL) {
        st = row_error_set(err,
                           "stop: line %d column %d: %s; it has to be JSON text, like [\"END\"]",
                           error.line, error.column, error.text);
        goto done;
    }
    if (!json_is_array(root) && !json_is_string(root)) {
        st = row_error_set(err, "stop must be a string or a list of strings");
        goto done;
    }
    stops = arena_alloc(arena, n_stops * sizeof *stops);
    if (stops == NULL) {
        st = ST_NOMEM;
        goto done;
    }
    for (size_t i = 0; i < n_stops; i++)
        TRY(add_stop(json_is_array(root) ? json_array_get(root, i) : root, i, arena, &stops[i],
                     err),
            done);
    *out_stops = stops;
    *out_n_stops = (int)n_stops;
done:
    json_decref(root);
    return st;
}
