/*
 * template_input.c - JSON to values: what the row and the job give to a template.
 */
#include "text/template.h"

/* Those that templates put between marks of their own: <|user|>.  They count as the template's. */
static bool known_role(const json_t *json)
{
    static const char *const roles[] = {"system", "developer", "user",        "assistant",
                                        "tool",   "function",  "ipython",     "observation",
                                        "model",  "documents", "environment", "tool_response"};
    const char *role = json_string_value(json);

    if (role != NULL && strlen(role) != json_string_length(json))
        return false; /* a NUL, and something behind it */
    for (size_t i = 0; role != NULL && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(roles[i], role) == 0)
            return true;
    return false;
}

static enum status from_array(struct tpl_run *run, const json_t *json, bool marked, bool roles,
                              struct tpl_value *out_value)
{
    const size_t n = json_array_size(json);
    struct tpl_value *items = NULL;
    void *memory = NULL;
    enum status st;

    TRY(run_alloc(run, n * sizeof *items, &memory), done);
    items = memory;
    for (size_t i = 0; i < n; i++)
        TRY(value_from_json(run, json_array_get(json, i), marked, roles, &items[i]), done);
    TRY(value_seq(run, SEQ_LIST, items, n, out_value), done);
done:
    return st;
}

static enum status from_object(struct tpl_run *run, const json_t *json, bool marked, bool roles,
                               struct tpl_value *out_value)
{
    json_t *object = (json_t *)(uintptr_t)json; /* jansson iterates over what is not const */
    struct tpl_dict *dict = NULL;
    void *memory = NULL;
    enum status st;

    TRY(value_dict(run, out_value), done);
    dict = out_value->as.dict;
    dict->cap = json_object_size(json);
    TRY(run_alloc(run, dict->cap * sizeof *dict->pairs, &memory), done);
    dict->pairs = memory;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *value = json_object_iter_value(at);
        const bool role = roles && strcmp(key, "role") == 0 && known_role(value);
        struct tpl_pair *pair = &dict->pairs[dict->n++];

        TRY(string_new(run, key, strlen(key), marked, &pair->key), done);
        TRY(value_from_json(run, value, marked || role, false, &pair->value), done);
    }
done:
    return st;
}

enum status value_from_json(struct tpl_run *run, const json_t *json, bool marked, bool roles,
                            struct tpl_value *out_value)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return from_object(run, json, marked, roles, out_value);
    case JSON_ARRAY:
        return from_array(run, json, marked, roles, out_value);
    case JSON_STRING:
        return string_new(run, json_string_value(json), json_string_length(json), marked,
                          out_value);
    case JSON_INTEGER:
        *out_value = value_int(json_integer_value(json));
        return ST_OK;
    case JSON_REAL:
        *out_value = value_float(json_real_value(json));
        return ST_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *out_value = value_bool(json_is_true(json));
        return ST_OK;
    case JSON_NULL:
        break;
    }
    *out_value = value_none();
    return ST_OK;
}
