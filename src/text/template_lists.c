/*
 * template_lists.c - filters that go through lists: map, select, sort, join and their like.
 */
#include <stdlib.h>

#include "text/template.h"

/* ---- what several share ---------------------------------------------------------------------- */

/* An attribute as these filters name it: "a.b.0", looked up as items. */
static enum status get_attribute(struct tpl_run *run, struct tpl_value v, struct tpl_value path,
                                 struct tpl_value *out_value)
{
    struct tpl_value parts = {0};
    static const struct tpl_string dot = {.data = ".", .n_bytes = 1, .n_chars = 1};
    enum status st;

    if (path.kind != TPL_STRING)
        return value_item(run, v, path, out_value);
    TRY(string_split(run, path.as.string, &dot, -1, false, &parts), done);
    for (size_t i = 0; i < parts.as.seq->n; i++) {
        struct tpl_value part = parts.as.seq->items[i];
        const struct tpl_string *s = part.as.string;

        if (s->n_bytes > 0 && s->n_bytes < 10 && strspn(s->data, "0123456789") >= s->n_bytes) {
            char digits[12] = "";

            memcpy(digits, s->data, s->n_bytes);
            part = value_int(strtol(digits, NULL, 10));
        }
        TRY(value_item(run, v, part, &v), done);
    }
    *out_value = v;
done:
    return st;
}

/* What an item is compared by: the item or its attribute, strings in lower case. */
static enum status sort_key(struct tpl_run *run, struct tpl_value item, struct tpl_value attribute,
                            bool case_sensitive, struct tpl_value *out_key)
{
    struct tpl_builder b = {0};
    enum status st = ST_OK;

    *out_key = item;
    if (attribute.kind != TPL_MISSING && attribute.kind != TPL_NONE)
        TRY(get_attribute(run, item, attribute, out_key), done);
    if (!case_sensitive && out_key->kind == TPL_STRING) {
        const struct tpl_string *s = out_key->as.string;

        TRY(string_case(run, &b, s, 0, s->n_bytes, CASE_LOWER), done);
        TRY(builder_end(run, &b, out_key), done);
    }
done:
    return st;
}

/* Room for the results: as many values as there are items. */
static enum status begin_list(struct tpl_run *run, struct tpl_value v,
                              const struct tpl_value **out_items, size_t *out_n,
                              struct tpl_value **out_results)
{
    void *memory = NULL;
    enum status st;

    TRY(value_items(run, v, out_items, out_n), done);
    TRY(run_steps(run, *out_n), done);
    TRY(run_alloc(run, *out_n * sizeof **out_results, &memory), done);
    *out_results = memory;
done:
    return st;
}

/* ---- the ends and the order ------------------------------------------------------------------ */

static enum status filter_list(struct tpl_run *run, const struct tpl_builtin *self,
                               const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL;
    size_t n = 0;
    enum status st;

    (void)self;
    TRY(value_items(run, call->args[0], &items, &n), done);
    TRY(value_seq(run, SEQ_LIST, items, n, out_value), done);
done:
    return st;
}

enum { FIRST, LAST };

static enum status filter_end(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_value v = call->args[0];
    const struct tpl_value *items = NULL;
    size_t n = 0;
    enum status st = ST_OK;

    if (v.kind == TPL_SEQ && v.as.seq->kind == SEQ_ONCE && v.as.seq->n > 0) {
        if (self->which == LAST)
            return run_fail(run, "last of a generator; |list makes a list of it");
        *out_value = *v.as.seq->items++;
        v.as.seq->n--;
        return ST_OK;
    }
    if (v.kind == TPL_STRING && v.as.string->n_chars > 0)
        return value_item(run, v, value_int(self->which == FIRST ? 0 : -1), out_value);
    TRY(value_items(run, v, &items, &n), done);
    if (n == 0)
        return value_undefined(
            run, self->which == FIRST ? "first: there is no item" : "last: there is no item",
            (struct text_span){"", 0}, NULL, out_value);
    *out_value = items[self->which == FIRST ? 0 : n - 1];
done:
    return st;
}

static enum status filter_reverse(struct tpl_run *run, const struct tpl_builtin *self,
                                  const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL;
    struct tpl_value *results = NULL;
    struct tpl_builder b = {0};
    size_t n = 0;
    enum status st;

    (void)self;
    TRY(begin_list(run, call->args[0], &items, &n, &results), done);
    for (size_t i = 0; i < n; i++) {
        results[i] = items[n - 1 - i];
        if (call->args[0].kind == TPL_STRING)
            TRY(builder_put_string(run, &b, results[i].as.string), done);
    }
    if (call->args[0].kind == TPL_STRING)
        return builder_end(run, &b, out_value);
    TRY(value_seq(run, SEQ_ONCE, results, n, out_value), done);
done:
    return st;
}

static enum status sort_by(struct tpl_run *run, const struct tpl_value *items, size_t n,
                           struct tpl_value attribute, bool case_sensitive, bool descending,
                           struct tpl_value *results)
{
    struct tpl_pair *pairs = NULL;
    void *memory = NULL;
    enum status st;

    TRY(run_alloc(run, n * sizeof *pairs, &memory), done);
    pairs = memory;
    for (size_t i = 0; i < n; i++) {
        pairs[i].value = items[i];
        TRY(sort_key(run, items[i], attribute, case_sensitive, &pairs[i].key), done);
    }
    TRY(pairs_sort(run, pairs, n, descending), done);
    for (size_t i = 0; i < n; i++)
        results[i] = pairs[i].value;
done:
    return st;
}

static enum status filter_sort(struct tpl_run *run, const struct tpl_builtin *self,
                               const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL, attribute = call->args[3];
    struct tpl_value *results = NULL;
    size_t n = 0;
    enum status st;

    (void)self;
    if (attribute.kind == TPL_STRING &&
        memchr(attribute.as.string->data, ',', attribute.as.string->n_bytes) != NULL)
        return run_fail(run, "sort by several attributes is not supported");
    TRY(begin_list(run, call->args[0], &items, &n, &results), done);
    TRY(sort_by(run, items, n, attribute, value_truth(call->args[2]), value_truth(call->args[1]),
                results),
        done);
    TRY(value_seq(run, SEQ_LIST, results, n, out_value), done);
done:
    return st;
}

static enum status call_items(struct tpl_run *run, struct tpl_value v, struct tpl_value *out_value)
{
    static const struct text_span name = {"items", 5};
    const struct tpl_call call = {.args = &v, .n_args = 1};
    bool unsafe = false;

    if (v.kind != TPL_DICT)
        return run_fail(run, "items of a %s, which is no dict", value_type(v));
    return builtin_call(run, method_find(v, name, &unsafe), &call, out_value);
}

static enum status filter_items(struct tpl_run *run, const struct tpl_builtin *self,
                                const struct tpl_call *call, struct tpl_value *out_value)
{
    enum status st;

    (void)self;
    if (call->args[0].kind == TPL_UNDEFINED)
        return value_seq(run, SEQ_ONCE, NULL, 0, out_value);
    TRY(call_items(run, call->args[0], out_value), done);
    out_value->as.seq->kind = SEQ_ONCE;
done:
    return st;
}

static enum status filter_dictsort(struct tpl_run *run, const struct tpl_builtin *self,
                                   const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value by = call->args[2];
    struct tpl_value *results = NULL, pairs = {0};
    const struct tpl_value *items = NULL;
    const bool by_value = by.kind == TPL_STRING && string_is(by.as.string, "value");
    size_t n = 0;
    enum status st;

    (void)self;
    TRY(value_refuse_undefined(run, call->args[0]), done);
    if (by.kind != TPL_MISSING && !by_value &&
        (by.kind != TPL_STRING || !string_is(by.as.string, "key")))
        return run_fail(run, "dictsort: by must be key or value");
    TRY(call_items(run, call->args[0], &pairs), done);
    TRY(begin_list(run, pairs, &items, &n, &results), done);
    TRY(sort_by(run, items, n, value_int(by_value), value_truth(call->args[1]),
                value_truth(call->args[3]), results),
        done);
    TRY(value_seq(run, SEQ_LIST, results, n, out_value), done);
done:
    return st;
}

enum { LEAST, MOST };

static enum status filter_extreme(struct tpl_run *run, const struct tpl_builtin *self,
                                  const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL;
    struct tpl_value best = {0}, key = {0};
    size_t n = 0;
    int order = 0;
    enum status st;

    TRY(value_items(run, call->args[0], &items, &n), done);
    if (n == 0)
        return value_undefined(run, "no item to choose from", (struct text_span){"", 0}, NULL,
                               out_value);
    for (size_t i = 0; i < n; i++) {
        TRY(sort_key(run, items[i], call->args[2], value_truth(call->args[1]), &key), done);
        if (i > 0)
            TRY(value_order(run, key, best, &order), done);
        if (i == 0 || (self->which == LEAST ? order < 0 : order == 1)) {
            best = key;
            *out_value = items[i];
        }
    }
done:
    return st;
}

static enum status filter_unique(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL;
    struct tpl_value *results = NULL, keys = {0}, key = {0};
    struct tpl_value *there = NULL;
    size_t n = 0, n_results = 0;
    enum status st;

    (void)self;
    TRY(begin_list(run, call->args[0], &items, &n, &results), done);
    TRY(value_dict(run, &keys), done);
    for (size_t i = 0; i < n; i++) {
        TRY(sort_key(run, items[i], call->args[2], value_truth(call->args[1]), &key), done);
        TRY(dict_get(run, keys.as.dict, key, &there), done);
        if (there != NULL)
            continue;
        TRY(dict_set(run, keys.as.dict, key, value_none()), done);
        results[n_results++] = items[i];
    }
    TRY(value_seq(run, SEQ_ONCE, results, n_results, out_value), done);
done:
    return st;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static enum status filter_join(struct tpl_run *run, const struct tpl_builtin *self,
                               const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL, attribute = call->args[2];
    const struct tpl_string *between = NULL;
    struct tpl_builder b = {0};
    size_t n = 0;
    enum status st;

    (void)self;
    TRY(value_items(run, call->args[0], &items, &n), done);
    if (call->args[1].kind != TPL_MISSING)
        TRY(value_string(run, call->args[1], &between), done);
    for (size_t i = 0; i < n; i++) {
        struct tpl_value item = items[i];

        if (attribute.kind != TPL_MISSING && attribute.kind != TPL_NONE)
            TRY(get_attribute(run, item, attribute, &item), done);
        if (i > 0 && between != NULL)
            TRY(builder_put_string(run, &b, between), done);
        TRY(print_str(run, &b, item), done);
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

static enum status filter_sum(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL, attribute = call->args[1];
    struct tpl_value item = {0};
    size_t n = 0;
    enum status st;

    (void)self;
    TRY(value_items(run, call->args[0], &items, &n), done);
    *out_value = call->args[2].kind == TPL_MISSING ? value_int(0) : call->args[2];
    for (size_t i = 0; i < n; i++) {
        item = items[i];
        if (attribute.kind != TPL_MISSING && attribute.kind != TPL_NONE)
            TRY(get_attribute(run, item, attribute, &item), done);
        TRY(eval_math(run, TOK_ADD, *out_value, item, out_value), done);
    }
done:
    return st;
}

/* ---- map and select -------------------------------------------------------------------------- */

static const struct tpl_value *named_argument(const struct tpl_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_named; i++)
        if (string_is(call->named[i].key.as.string, name))
            return &call->named[i].value;
    return NULL;
}

/* A filter or test for every item, which goes before its arguments. */
struct application {
    const struct tpl_builtin *builtin; /* NULL = none */
    struct tpl_value *args;
    struct tpl_call call;
};

/* The one whose name is args[at]; the rest are its arguments. */
static enum status begin_apply(struct tpl_run *run, const struct tpl_call *call, size_t at,
                               bool is_test, struct application *out)
{
    const size_t n = call->n_args - at;
    const struct tpl_string *name = NULL;
    void *memory = NULL;
    enum status st;

    TRY(arg_string(run, call->args[at], &name), done);
    const struct text_span span = {name->data, name->n_bytes};
    out->builtin = is_test ? test_find(span) : filter_find(span);
    if (out->builtin == NULL)
        return run_fail(run, "no %s named '%.*s'", is_test ? "test" : "filter",
                        (int)(name->n_bytes < 40 ? name->n_bytes : 40), name->data);
    TRY(run_alloc(run, n * sizeof *out->args, &memory), done);
    out->args = memory;
    memcpy(out->args, call->args + at, n * sizeof *out->args);
    out->call = (struct tpl_call){out->args, n, call->named, call->n_named};
done:
    return st;
}

static enum status apply(struct tpl_run *run, const struct application *a, struct tpl_value item,
                         struct tpl_value *out_value)
{
    a->args[0] = item;
    return builtin_call(run, a->builtin, &a->call, out_value);
}

static enum status filter_map(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *attribute = named_argument(call, "attribute");
    const struct tpl_value *dflt = named_argument(call, "default"), *items = NULL;
    struct application inner = {0};
    struct tpl_value *results = NULL;
    size_t n = 0;
    enum status st;

    (void)self;
    if (!value_truth(call->args[0])) /* Jinja does not look at what is false, even None */
        return value_seq(run, SEQ_ONCE, NULL, 0, out_value);
    TRY(begin_list(run, call->args[0], &items, &n, &results), done);
    if (call->n_args > 1)
        TRY(begin_apply(run, call, 1, false, &inner), done);
    else if (attribute == NULL)
        return run_fail(run, "map needs a filter or an attribute");
    for (size_t i = 0; i < n; i++) {
        if (inner.builtin != NULL) {
            TRY(apply(run, &inner, items[i], &results[i]), done);
            continue;
        }
        TRY(get_attribute(run, items[i], *attribute, &results[i]), done);
        if (dflt != NULL && results[i].kind == TPL_UNDEFINED)
            results[i] = *dflt;
    }
    TRY(value_seq(run, SEQ_ONCE, results, n, out_value), done);
done:
    return st;
}

enum { OF_ATTRIBUTE = 1, REJECT = 2 };

static enum status filter_select(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const size_t n_before = self->which & OF_ATTRIBUTE ? 2 : 1; /* arguments before the test */
    const struct tpl_value *items = NULL;
    struct application inner = {0};
    struct tpl_value *results = NULL, what = {0};
    size_t n = 0, n_results = 0;
    enum status st;

    if (!value_truth(call->args[0]))
        return value_seq(run, SEQ_ONCE, NULL, 0, out_value);
    TRY(begin_list(run, call->args[0], &items, &n, &results), done);
    if (call->n_args < n_before)
        return run_fail(run, "%s needs an attribute", self->name);
    if (call->n_args > n_before)
        TRY(begin_apply(run, call, n_before, true, &inner), done);
    for (size_t i = 0; i < n; i++) {
        what = items[i];
        if (self->which & OF_ATTRIBUTE)
            TRY(get_attribute(run, what, call->args[1], &what), done);
        if (inner.builtin != NULL)
            TRY(apply(run, &inner, what, &what), done);
        if (value_truth(what) != ((self->which & REJECT) != 0))
            results[n_results++] = items[i];
    }
    TRY(value_seq(run, SEQ_ONCE, results, n_results, out_value), done);
done:
    return st;
}

static const struct tpl_builtin filters[] = {
    {"list", {"value"}, 1, false, filter_list, 0},
    {"first", {"seq"}, 1, false, filter_end, FIRST},
    {"last", {"seq"}, 1, false, filter_end, LAST},
    {"reverse", {"value"}, 1, false, filter_reverse, 0},
    {"sort", {"value", "reverse", "case_sensitive", "attribute"}, 1, false, filter_sort, 0},
    {"items", {"value"}, 1, false, filter_items, 0},
    {"dictsort", {"value", "case_sensitive", "by", "reverse"}, 1, false, filter_dictsort, 0},
    {"min", {"value", "case_sensitive", "attribute"}, 1, false, filter_extreme, LEAST},
    {"max", {"value", "case_sensitive", "attribute"}, 1, false, filter_extreme, MOST},
    {"unique", {"value", "case_sensitive", "attribute"}, 1, false, filter_unique, 0},
    {"join", {"value", "d", "attribute"}, 1, false, filter_join, 0},
    {"sum", {"iterable", "attribute", "start"}, 1, false, filter_sum, 0},
    {"map", {NULL}, 0, true, filter_map, 0},
    {"select", {NULL}, 0, true, filter_select, 0},
    {"reject", {NULL}, 0, true, filter_select, REJECT},
    {"selectattr", {NULL}, 0, true, filter_select, OF_ATTRIBUTE},
    {"rejectattr", {NULL}, 0, true, filter_select, OF_ATTRIBUTE | REJECT},
};

const struct tpl_builtin *list_filter_find(struct text_span name)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strlen(filters[i].name) == name.n_bytes &&
            memcmp(filters[i].name, name.data, name.n_bytes) == 0)
            return &filters[i];
    return NULL;
}
