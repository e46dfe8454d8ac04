/*
 * template_value.c - values: making them and looking into them, as Python does.
 *
 * Lists and dicts are never changed after they are made (transformers runs templates in a sandbox
 * where they cannot be), so values can share parts and no value contains itself; only a namespace
 * can.
 */
#include "text/template.h"

/* ---- making ---------------------------------------------------------------------------------- */

enum status value_undefined(struct tpl_run *run, const char *what, struct text_span name,
                            const struct tpl_value *of, struct tpl_value *out_value)
{
    void *memory = NULL;
    const enum status st = run_alloc(run, sizeof(struct tpl_undefined), &memory);

    if (st != ST_OK)
        return st;
    *(struct tpl_undefined *)memory =
        (struct tpl_undefined){what, name, of != NULL ? value_type(*of) : NULL};
    *out_value = (struct tpl_value){.kind = TPL_UNDEFINED, .as.undefined = memory};
    return ST_OK;
}

enum status value_refuse_undefined(struct tpl_run *run, struct tpl_value v)
{
    if (v.kind != TPL_UNDEFINED)
        return ST_OK;
    const struct tpl_undefined *u = v.as.undefined;
    const int n = (int)(u->name.n_bytes < 80 ? u->name.n_bytes : 80);

    if (u->of != NULL)
        return run_fail(run, "'%s' %s '%.*s'", u->of, u->what, n, u->name.data);
    if (n > 0)
        return run_fail(run, "'%.*s' %s", n, u->name.data, u->what);
    return run_fail(run, "%s", u->what);
}

enum status value_seq(struct tpl_run *run, enum tpl_seq_kind kind, const struct tpl_value *items,
                      size_t n, struct tpl_value *out_value)
{
    void *memory = NULL;
    const enum status st = run_alloc(run, sizeof(struct tpl_seq), &memory);

    if (st != ST_OK)
        return st;
    *(struct tpl_seq *)memory = (struct tpl_seq){kind, items, n};
    *out_value = (struct tpl_value){.kind = TPL_SEQ, .as.seq = memory};
    return ST_OK;
}

enum status value_dict(struct tpl_run *run, struct tpl_value *out_value)
{
    void *memory = NULL;
    const enum status st = run_alloc(run, sizeof(struct tpl_dict), &memory);

    if (st != ST_OK)
        return st;
    *(struct tpl_dict *)memory = (struct tpl_dict){0};
    *out_value = (struct tpl_value){.kind = TPL_DICT, .as.dict = memory};
    return ST_OK;
}

enum status dict_set(struct tpl_run *run, struct tpl_dict *dict, struct tpl_value key,
                     struct tpl_value value)
{
    struct tpl_value *there = NULL;
    void *memory = NULL;
    enum status st;

    TRY(dict_get(run, dict, key, &there), done);
    if (there != NULL) {
        *there = value;
        return ST_OK;
    }
    if (dict->n == dict->cap) {
        const size_t cap = dict->cap > 0 ? 2 * dict->cap : 8;

        TRY(run_alloc(run, cap * sizeof *dict->pairs, &memory), done);
        if (dict->n > 0)
            memcpy(memory, dict->pairs, dict->n * sizeof *dict->pairs);
        dict->pairs = memory;
        dict->cap = cap;
    }
    dict->pairs[dict->n++] = (struct tpl_pair){key, value};
done:
    return st;
}

/* ---- what they are --------------------------------------------------------------------------- */

const char *value_type(struct tpl_value v)
{
    static const char *const names[TPL_KIND_COUNT] = {
        [TPL_MISSING] = "missing",
        [TPL_UNDEFINED] = "Undefined",
        [TPL_NONE] = "None",
        [TPL_BOOL] = "bool object",
        [TPL_INT] = "int object",
        [TPL_FLOAT] = "float object",
        [TPL_STRING] = "str object",
        [TPL_SEQ] = "list object",
        [TPL_DICT] = "dict object",
        [TPL_NAMESPACE] = "namespace object",
        [TPL_MACRO] = "macro object",
        [TPL_FUNCTION] = "function object",
        [TPL_METHOD] = "method object",
        [TPL_LOOP] = "loop object",
    };
    static const char *const seqs[] = {
        "list object",       "tuple object", "dict_keys object", "dict_values object",
        "dict_items object", "range object", "generator object"};

    return v.kind == TPL_SEQ ? seqs[v.as.seq->kind] : names[v.kind];
}

bool value_truth(struct tpl_value v)
{
    switch (v.kind) {
    case TPL_MISSING:
    case TPL_UNDEFINED:
    case TPL_NONE:
        return false;
    case TPL_BOOL:
        return v.as.boolean;
    case TPL_INT:
        return v.as.integer != 0;
    case TPL_FLOAT:
        return v.as.number != 0;
    case TPL_STRING:
        return v.as.string->n_bytes > 0;
    case TPL_SEQ:
        return v.as.seq->kind == SEQ_ONCE || v.as.seq->n > 0;
    case TPL_DICT:
        return v.as.dict->n > 0;
    default:
        return true;
    }
}

bool value_is_number(struct tpl_value v)
{
    return v.kind == TPL_BOOL || v.kind == TPL_INT || v.kind == TPL_FLOAT;
}

double value_number(struct tpl_value v)
{
    return v.kind == TPL_FLOAT ? v.as.number
           : v.kind == TPL_INT ? (double)v.as.integer
                               : (double)v.as.boolean;
}

bool value_integer(struct tpl_value v, int64_t *out_integer)
{
    if (v.kind != TPL_INT && v.kind != TPL_BOOL)
        return false;
    *out_integer = v.kind == TPL_INT ? v.as.integer : v.as.boolean;
    return true;
}

bool value_is_list(struct tpl_value v)
{
    return v.kind == TPL_SEQ && v.as.seq->kind <= SEQ_TUPLE;
}

bool value_iterable(struct tpl_value v)
{
    return v.kind == TPL_UNDEFINED || v.kind == TPL_STRING || v.kind == TPL_SEQ ||
           v.kind == TPL_DICT || v.kind == TPL_LOOP;
}

bool value_length(struct tpl_value v, size_t *out_n)
{
    switch (v.kind) {
    case TPL_UNDEFINED:
        *out_n = 0;
        return true;
    case TPL_STRING:
        *out_n = v.as.string->n_chars;
        return true;
    case TPL_SEQ:
        *out_n = v.as.seq->n;
        return v.as.seq->kind != SEQ_ONCE;
    case TPL_DICT:
        *out_n = v.as.dict->n;
        return true;
    default:
        return false;
    }
}

/* ---- looking into them ----------------------------------------------------------------------- */

static bool hashable(struct tpl_value v)
{
    if (v.kind == TPL_SEQ)
        return v.as.seq->kind == SEQ_TUPLE;
    return v.kind != TPL_DICT;
}

enum status dict_get(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                     struct tpl_value **out_value)
{
    enum status st = ST_OK;
    bool same = false;

    *out_value = NULL;
    if (!hashable(key))
        return run_fail(run, "a %s cannot be a key", value_type(key));
    if (key.kind == TPL_STRING) {
        *out_value =
            dict_get_name(dict, (struct text_span){key.as.string->data, key.as.string->n_bytes});
        return run_steps(run, dict->n / 8 + 1);
    }
    for (size_t i = 0; i < dict->n && *out_value == NULL; i++) {
        TRY(value_equal(run, dict->pairs[i].key, key, &same), done);
        if (same)
            *out_value = &dict->pairs[i].value;
    }
done:
    return st;
}

struct tpl_value *dict_get_name(const struct tpl_dict *dict, struct text_span name)
{
    for (size_t i = 0; i < dict->n; i++) {
        const struct tpl_value key = dict->pairs[i].key;

        if (key.kind == TPL_STRING && key.as.string->n_bytes == name.n_bytes &&
            memcmp(key.as.string->data, name.data, name.n_bytes) == 0)
            return &dict->pairs[i].value;
    }
    return NULL;
}

/* The characters of a string, or the keys of a dict. */
static enum status spread(struct tpl_run *run, struct tpl_value v, struct tpl_value *items,
                          size_t n)
{
    enum status st = ST_OK;

    if (v.kind == TPL_DICT) {
        for (size_t i = 0; i < n; i++)
            items[i] = v.as.dict->pairs[i].key;
        return ST_OK;
    }
    for (size_t i = 0, at = 0, next = 0; i < n; i++, at = next) {
        for (next = at + 1;
             next < v.as.string->n_bytes && ((uint8_t)v.as.string->data[next] & 0xc0) == 0x80;)
            next++;
        TRY(string_part(run, v.as.string, at, next, &items[i]), done);
    }
done:
    return st;
}

enum status value_items(struct tpl_run *run, struct tpl_value v, const struct tpl_value **out_items,
                        size_t *out_n)
{
    void *memory = NULL;
    enum status st = ST_OK;
    size_t n = 0;

    *out_items = NULL;
    *out_n = 0;
    switch (v.kind) {
    case TPL_UNDEFINED:
        return ST_OK;
    case TPL_SEQ:
        *out_items = v.as.seq->items;
        *out_n = v.as.seq->n;
        if (v.as.seq->kind == SEQ_ONCE)
            v.as.seq->n = 0;
        return ST_OK;
    case TPL_STRING:
    case TPL_DICT:
        value_length(v, &n);
        TRY(run_alloc(run, n * sizeof **out_items, &memory), done);
        TRY(spread(run, v, memory, n), done);
        *out_items = memory;
        *out_n = n;
        return ST_OK;
    default:
        return run_fail(run, "%s is not iterable", value_type(v));
    }
done:
    return st;
}

enum status value_contains(struct tpl_run *run, struct tpl_value in, struct tpl_value what,
                           bool *out)
{
    struct tpl_value *there = NULL;
    enum status st = ST_OK;

    *out = false;
    switch (in.kind) {
    case TPL_UNDEFINED:
        return ST_OK;
    case TPL_STRING:
        TRY(value_refuse_undefined(run, what), done);
        if (what.kind != TPL_STRING)
            return run_fail(run, "%s in a string: only a string can be", value_type(what));
        *out = string_find(in.as.string, what.as.string, 0) != SIZE_MAX;
        return run_steps(run, 1 + in.as.string->n_bytes / 16);
    case TPL_DICT:
        TRY(dict_get(run, in.as.dict, what, &there), done);
        *out = there != NULL;
        return ST_OK;
    case TPL_SEQ: {
        const size_t n = in.as.seq->n;

        for (size_t i = 0; i < n && !*out; i++) {
            TRY(value_equal(run, in.as.seq->items[i], what, out), done);
            if (in.as.seq->kind == SEQ_ONCE) { /* what was looked at is gone */
                in.as.seq->items++;
                in.as.seq->n--;
                i--;
                if (in.as.seq->n == 0)
                    break;
            }
        }
        return ST_OK;
    }
    default:
        return run_fail(run, "%s is not iterable", value_type(in));
    }
done:
    return st;
}

enum status value_attr(struct tpl_run *run, struct tpl_value v, struct text_span name,
                       struct tpl_value *out_value)
{
    const struct tpl_builtin *method = NULL;
    struct tpl_value *there = NULL;
    bool unsafe = false, found = false;
    void *memory = NULL;
    enum status st;

    TRY(value_refuse_undefined(run, v), done);
    TRY(run_steps(run, 1), done);
    method = method_find(v, name, &unsafe);
    if (unsafe)
        return value_undefined(run, "has an attribute that templates must not use:", name, &v,
                               out_value);
    if (method != NULL) {
        TRY(run_alloc(run, sizeof(struct tpl_method), &memory), done);
        *(struct tpl_method *)memory = (struct tpl_method){v, method};
        *out_value = (struct tpl_value){.kind = TPL_METHOD, .as.method = memory};
        return ST_OK;
    }
    if (v.kind == TPL_LOOP) {
        TRY(loop_attr(run, v.as.loop, name, out_value, &found), done);
        if (found)
            return ST_OK;
    }
    if (v.kind == TPL_DICT || v.kind == TPL_NAMESPACE) {
        there = dict_get_name(v.as.dict, name);
        TRY(run_steps(run, v.as.dict->n / 8), done);
    }
    if (there != NULL)
        *out_value = *there;
    else
        TRY(value_undefined(run, "has no attribute", name, &v, out_value), done);
done:
    return st;
}

/* A key as a name for messages. */
static struct text_span key_name(struct tpl_value key)
{
    return key.kind == TPL_STRING ? (struct text_span){key.as.string->data, key.as.string->n_bytes}
                                  : (struct text_span){"", 0};
}

enum status value_item(struct tpl_run *run, struct tpl_value v, struct tpl_value key,
                       struct tpl_value *out_value)
{
    struct tpl_value *there = NULL;
    int64_t i = 0;
    size_t n = 0;
    enum status st;

    TRY(value_refuse_undefined(run, v), done);
    TRY(run_steps(run, 1), done);
    if (v.kind == TPL_DICT && hashable(key)) {
        TRY(dict_get(run, v.as.dict, key, &there), done);
        if (there != NULL) {
            *out_value = *there;
            return ST_OK;
        }
    } else if (value_integer(key, &i) && value_length(v, &n) &&
               (v.kind == TPL_STRING || (v.kind == TPL_SEQ && (v.as.seq->kind <= SEQ_TUPLE ||
                                                               v.as.seq->kind == SEQ_RANGE)))) {
        i += i < 0 ? (int64_t)n : 0;
        if (i >= 0 && i < (int64_t)n) {
            if (v.kind == TPL_SEQ) {
                *out_value = v.as.seq->items[i];
                return ST_OK;
            }
            const size_t begin = string_offset(v.as.string, (size_t)i);
            const size_t end = string_offset(v.as.string, (size_t)i + 1);

            TRY(run_steps(run, end / 16), done);
            return string_part(run, v.as.string, begin, end, out_value);
        }
        return value_undefined(run, "has no item of this number", key_name(key), &v, out_value);
    }
    if (key.kind == TPL_STRING) /* Jinja tries the other way, too */
        return value_attr(run, v, key_name(key), out_value);
    return value_undefined(run, "has no such item", key_name(key), &v, out_value);
done:
    return st;
}
