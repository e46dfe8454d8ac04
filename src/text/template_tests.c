/*
 * template_tests.c - what stands behind `is`.
 */
#include "text/template.h"

enum which {
    IS_DEFINED,
    IS_UNDEFINED,
    IS_NONE,
    IS_BOOLEAN,
    IS_TRUE,
    IS_FALSE,
    IS_INTEGER,
    IS_FLOAT,
    IS_NUMBER,
    IS_STRING,
    IS_MAPPING,
    IS_SEQUENCE,
    IS_ITERABLE,
    IS_CALLABLE,
    IS_FILTER,
    IS_TEST
};

static bool is_of_kind(struct tpl_value v, enum which which)
{
    switch (which) {
    case IS_DEFINED:
        return v.kind != TPL_UNDEFINED;
    case IS_UNDEFINED:
        return v.kind == TPL_UNDEFINED;
    case IS_NONE:
        return v.kind == TPL_NONE;
    case IS_BOOLEAN:
        return v.kind == TPL_BOOL;
    case IS_TRUE:
    case IS_FALSE:
        return v.kind == TPL_BOOL && v.as.boolean == (which == IS_TRUE);
    case IS_INTEGER:
        return v.kind == TPL_INT;
    case IS_FLOAT:
        return v.kind == TPL_FLOAT;
    case IS_NUMBER:
        return value_is_number(v);
    case IS_STRING:
        return v.kind == TPL_STRING;
    case IS_MAPPING:
        return v.kind == TPL_DICT;
    case IS_SEQUENCE: /* it has a length and items: a generator or a view does not, Undefined does
                       */
        return v.kind == TPL_STRING || v.kind == TPL_UNDEFINED || v.kind == TPL_DICT ||
               (v.kind == TPL_SEQ && (v.as.seq->kind <= SEQ_TUPLE || v.as.seq->kind == SEQ_RANGE));
    case IS_ITERABLE:
        return value_iterable(v);
    case IS_CALLABLE: /* Undefined can be called; it only fails then */
        return v.kind == TPL_UNDEFINED || v.kind == TPL_MACRO || v.kind == TPL_FUNCTION ||
               v.kind == TPL_METHOD || v.kind == TPL_LOOP;
    case IS_FILTER:
    case IS_TEST:
        break;
    }
    const struct text_span name = {v.as.string->data, v.as.string->n_bytes};

    return which == IS_FILTER ? filter_find(name) != NULL : test_find(name) != NULL;
}

static enum status test_kind(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    if (self->which >= IS_FILTER && call->args[0].kind != TPL_STRING)
        return run_fail(run, "%s needs a name", self->name);
    *out_value = value_bool(is_of_kind(call->args[0], (enum which)self->which));
    return ST_OK;
}

static enum status test_compare(struct tpl_run *run, const struct tpl_builtin *self,
                                const struct tpl_call *call, struct tpl_value *out_value)
{
    bool is = false;
    enum status st;

    TRY(eval_comparison(run, (enum tpl_compare)self->which, call->args[0], call->args[1], &is),
        done);
    *out_value = value_bool(is);
done:
    return st;
}

enum { ARE_EVEN, ARE_ODD, ARE_DIVISIBLE };

static enum status test_division(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    int64_t value = 0, by = 2;
    enum status st;

    TRY(arg_int(run, call->args[0], 0, &value), done);
    if (self->which == ARE_DIVISIBLE)
        TRY(arg_int(run, call->args[1], 0, &by), done);
    if (by == 0)
        return run_fail(run, "division by zero");
    *out_value = value_bool((by == -1 || value % by == 0) == (self->which != ARE_ODD));
done:
    return st;
}

static enum status test_case(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_builder b = {0};
    struct tpl_value other = {0};
    const struct tpl_string *s = NULL;
    bool cased = false;
    size_t n = 0;
    enum status st;

    TRY(value_string(run, call->args[0], &s), done);
    TRY(string_case(run, &b, s, 0, s->n_bytes, (enum tpl_case)self->which), done);
    TRY(builder_end(run, &b, &other), done);
    for (size_t at = 0; at < s->n_bytes && !cased; at += n)
        cased = char_cased(utf8_decode(s->data + at, &n));
    *out_value = value_bool(cased && string_equal(s, other.as.string));
done:
    return st;
}

static enum status test_same(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value a = call->args[0], b = call->args[1];

    (void)self;
    if (a.kind == b.kind && (a.kind == TPL_NONE || a.kind == TPL_BOOL)) {
        *out_value = value_bool(a.kind == TPL_NONE || a.as.boolean == b.as.boolean);
        return ST_OK;
    }
    if (a.kind == b.kind && a.kind != TPL_DICT && a.kind != TPL_SEQ && a.kind != TPL_NAMESPACE)
        return run_fail(run, "sameas of two of %s is not supported", value_type(a));
    *out_value = value_bool(a.kind == b.kind && a.as.seq == b.as.seq);
    return ST_OK;
}

static const struct tpl_builtin tests[] = {
    {"defined", {"value"}, 1, false, test_kind, IS_DEFINED},
    {"undefined", {"value"}, 1, false, test_kind, IS_UNDEFINED},
    {"none", {"value"}, 1, false, test_kind, IS_NONE},
    {"boolean", {"value"}, 1, false, test_kind, IS_BOOLEAN},
    {"true", {"value"}, 1, false, test_kind, IS_TRUE},
    {"false", {"value"}, 1, false, test_kind, IS_FALSE},
    {"integer", {"value"}, 1, false, test_kind, IS_INTEGER},
    {"float", {"value"}, 1, false, test_kind, IS_FLOAT},
    {"number", {"value"}, 1, false, test_kind, IS_NUMBER},
    {"string", {"value"}, 1, false, test_kind, IS_STRING},
    {"mapping", {"value"}, 1, false, test_kind, IS_MAPPING},
    {"sequence", {"value"}, 1, false, test_kind, IS_SEQUENCE},
    {"iterable", {"value"}, 1, false, test_kind, IS_ITERABLE},
    {"callable", {"value"}, 1, false, test_kind, IS_CALLABLE},
    {"filter", {"value"}, 1, false, test_kind, IS_FILTER},
    {"test", {"value"}, 1, false, test_kind, IS_TEST},
    {"sameas", {"value", "other"}, 2, false, test_same, 0},
    {"even", {"value"}, 1, false, test_division, ARE_EVEN},
    {"odd", {"value"}, 1, false, test_division, ARE_ODD},
    {"divisibleby", {"value", "num"}, 2, false, test_division, ARE_DIVISIBLE},
    {"lower", {"value"}, 1, false, test_case, CASE_LOWER},
    {"upper", {"value"}, 1, false, test_case, CASE_UPPER},
    {"eq", {"a", "b"}, 2, false, test_compare, CMP_EQ},
    {"equalto", {"a", "b"}, 2, false, test_compare, CMP_EQ},
    {"==", {"a", "b"}, 2, false, test_compare, CMP_EQ},
    {"ne", {"a", "b"}, 2, false, test_compare, CMP_NE},
    {"!=", {"a", "b"}, 2, false, test_compare, CMP_NE},
    {"lt", {"a", "b"}, 2, false, test_compare, CMP_LT},
    {"lessthan", {"a", "b"}, 2, false, test_compare, CMP_LT},
    {"<", {"a", "b"}, 2, false, test_compare, CMP_LT},
    {"le", {"a", "b"}, 2, false, test_compare, CMP_LE},
    {"<=", {"a", "b"}, 2, false, test_compare, CMP_LE},
    {"gt", {"a", "b"}, 2, false, test_compare, CMP_GT},
    {"greaterthan", {"a", "b"}, 2, false, test_compare, CMP_GT},
    {">", {"a", "b"}, 2, false, test_compare, CMP_GT},
    {"ge", {"a", "b"}, 2, false, test_compare, CMP_GE},
    {">=", {"a", "b"}, 2, false, test_compare, CMP_GE},
    {"in", {"value", "seq"}, 2, false, test_compare, CMP_IN},
};

const struct tpl_builtin *test_find(struct text_span name)
{
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (strlen(tests[i].name) == name.n_bytes &&
            memcmp(tests[i].name, name.data, name.n_bytes) == 0)
            return &tests[i];
    return NULL;
}
