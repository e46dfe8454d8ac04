/*
 * template_eval.c - the value of an expression.
 */
#include "text/template.h"

/* ---- operators -------------------------------------------------------------------------------- */

static enum status eval_compare(struct tpl_run *run, const struct tpl_node *node,
                                struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value left = {0}, right = {0};
    bool is = true;
    enum status st;

    TRY(eval(run, node->a, scope, &left), done);
    for (const struct tpl_node *one = node->list; one != NULL && is; one = one->next) {
        TRY(eval(run, one->a, scope, &right), done);
        run->place = one->place;
        TRY(eval_comparison(run, (enum tpl_compare)one->op, left, right, &is), done);
        left = right;
    }
    *out_value = value_bool(is);
done:
    return st;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Arguments under construction. */
struct args {
    struct tpl_value *plain;
    struct tpl_pair *named;
    size_t n_plain, n_named, cap_plain, cap_named;
};

static enum status add_arg(struct tpl_run *run, struct args *args, const struct tpl_value *key,
                           struct tpl_value value)
{
    enum { MAX_ARGS = 10000 };
    void *memory = NULL;
    enum status st;

    if (args->n_plain + args->n_named >= MAX_ARGS)
        return run_fail(run, "more than %d arguments", MAX_ARGS);
    if (key == NULL && args->n_plain == args->cap_plain) {
        args->cap_plain = 2 * args->cap_plain + 4;
        TRY(run_alloc(run, args->cap_plain * sizeof *args->plain, &memory), done);
        if (args->n_plain > 0)
            memcpy(memory, args->plain, args->n_plain * sizeof *args->plain);
        args->plain = memory;
    } else if (key != NULL && args->n_named == args->cap_named) {
        args->cap_named = 2 * args->cap_named + 4;
        TRY(run_alloc(run, args->cap_named * sizeof *args->named, &memory), done);
        if (args->n_named > 0)
            memcpy(memory, args->named, args->n_named * sizeof *args->named);
        args->named = memory;
    }
    if (key == NULL)
        args->plain[args->n_plain++] = value;
    else
        args->named[args->n_named++] = (struct tpl_pair){*key, value};
    return ST_OK;
done:
    return st;
}

/* What *list or **dict stands for. */
static enum status spread_arg(struct tpl_run *run, struct args *args, bool named,
                              struct tpl_value value)
{
    const struct tpl_value *items = NULL;
    size_t n = 0;
    enum status st = ST_OK;

    if (named) {
        if (value.kind != TPL_DICT)
            return run_fail(run, "** of a %s, which is no dict", value_type(value));
        for (size_t i = 0; i < value.as.dict->n; i++) {
            if (value.as.dict->pairs[i].key.kind != TPL_STRING)
                return run_fail(run, "** of a dict whose keys are not all strings");
            TRY(add_arg(run, args, &value.as.dict->pairs[i].key, value.as.dict->pairs[i].value),
                done);
        }
        return ST_OK;
    }
    TRY(value_items(run, value, &items, &n), done);
    for (size_t i = 0; i < n; i++)
        TRY(add_arg(run, args, NULL, items[i]), done);
done:
    return st;
}

static enum status name_value(struct tpl_run *run, int name, struct tpl_value *out_value)
{
    const struct text_span span = run->t->names[name];

    return string_new(run, span.data, span.n_bytes, true, out_value);
}

enum status eval_args(struct tpl_run *run, const struct tpl_node *list, struct tpl_scope *scope,
                      const struct tpl_value *first, const struct tpl_value *caller,
                      struct tpl_call *out_call)
{
    struct args args = {0};
    struct tpl_value value = {0}, key = {0};
    enum status st = ST_OK;

    if (first != NULL)
        TRY(add_arg(run, &args, NULL, *first), done);
    for (; list != NULL; list = list->next) {
        TRY(eval(run, list->a, scope, &value), done);
        if (list->op == ARG_PLAIN) {
            TRY(add_arg(run, &args, NULL, value), done);
        } else if (list->op == ARG_NAMED) {
            TRY(name_value(run, list->name, &key), done);
            TRY(add_arg(run, &args, &key, value), done);
        } else
            TRY(spread_arg(run, &args, list->op == ARG_DICT, value), done);
    }
    if (caller != NULL) {
        TRY(name_value(run, run->t->name_caller, &key), done);
        TRY(add_arg(run, &args, &key, *caller), done);
    }
    *out_call = (struct tpl_call){args.plain, args.n_plain, args.named, args.n_named};
done:
    return st;
}

enum status eval_call(struct tpl_run *run, struct tpl_value callee, const struct tpl_call *call,
                      struct tpl_value *out_value)
{
    const struct tpl_method *method = callee.as.method;
    struct tpl_value *args = NULL;
    void *memory = NULL;
    enum status st;

    switch (callee.kind) {
    case TPL_FUNCTION:
        return builtin_call(run, callee.as.function, call, out_value);
    case TPL_MACRO:
        return run_macro(run, callee.as.macro, call, out_value);
    case TPL_LOOP:
        return loop_call(run, callee.as.loop, call, out_value);
    case TPL_METHOD:
        break;
    default:
        TRY(value_refuse_undefined(run, callee), done);
        return run_fail(run, "a %s cannot be called", value_type(callee));
    }
    TRY(run_alloc(run, (call->n_args + 1) * sizeof *args, &memory), done);
    args = memory;
    args[0] = method->self;
    if (call->n_args > 0)
        memcpy(args + 1, call->args, call->n_args * sizeof *args);
    const struct tpl_call with_self = {args, call->n_args + 1, call->named, call->n_named};
    TRY(builtin_call(run, method->builtin, &with_self, out_value), done);
done:
    return st;
}

static enum status eval_call_node(struct tpl_run *run, const struct tpl_node *node,
                                  struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value callee = {0};
    struct tpl_call call = {0};
    enum status st;

    TRY(eval(run, node->a, scope, &callee), done);
    TRY(eval_args(run, node->list, scope, NULL, NULL, &call), done);
    run->place = node->a->place;
    TRY(eval_call(run, callee, &call, out_value), done);
done:
    return st;
}

/* A filter or a test. */
static enum status eval_applied(struct tpl_run *run, const struct tpl_node *node,
                                struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value subject = run->block_text;
    struct tpl_call call = {0};
    enum status st = ST_OK;

    if (node->a != NULL)
        TRY(eval(run, node->a, scope, &subject), done);
    TRY(eval_args(run, node->list, scope, &subject, NULL, &call), done);
    run->place = node->place;
    if (node->builtin == NULL) {
        const struct text_span name = run->t->names[node->name];

        return run_fail(run, "no %s named '%.*s'", node->kind == NODE_TEST ? "test" : "filter",
                        (int)(name.n_bytes < 40 ? name.n_bytes : 40), name.data);
    }
    TRY(builtin_call(run, node->builtin, &call, out_value), done);
done:
    return st;
}

/* ---- slices ---------------------------------------------------------------------------------- */

/* One end of a slice, as Python clips it. */
static enum status slice_end(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_scope *scope, int64_t dflt, int64_t low, int64_t high,
                             int64_t n, int64_t *out)
{
    struct tpl_value v = value_none();
    enum status st = ST_OK;

    *out = dflt;
    if (node != NULL)
        TRY(eval(run, node, scope, &v), done);
    if (v.kind == TPL_NONE)
        return ST_OK;
    TRY(arg_int(run, v, 0, out), done);
    if (*out < 0)
        *out = *out < -n ? low : *out + n < low ? low : *out + n;
    if (*out > high)
        *out = high;
done:
    return st;
}

static enum status eval_slice(struct tpl_run *run, const struct tpl_node *node,
                              struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value v = {0}, part = {0};
    int64_t n = 0, begin = 0, end = 0, step = 1;
    struct tpl_value *items = NULL;
    struct tpl_builder b = {0};
    void *memory = NULL;
    size_t length = 0, n_items = 0;
    enum status st;

    TRY(eval(run, node->a, scope, &v), done);
    if (node->d != NULL) {
        TRY(eval(run, node->d, scope, &part), done);
        if (part.kind != TPL_NONE)
            TRY(arg_int(run, part, 1, &step), done);
    }
    run->place = node->place;
    TRY(value_refuse_undefined(run, v), done);
    if ((v.kind != TPL_STRING && !value_is_list(v) &&
         !(v.kind == TPL_SEQ && v.as.seq->kind == SEQ_RANGE)) ||
        step == 0)
        return value_undefined(run, "has no such slice", (struct text_span){"", 0}, &v, out_value);
    value_length(v, &length);
    n = (int64_t)length;
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    TRY(slice_end(run, node->b, scope, step < 0 ? high : low, low, high, n, &begin), done);
    TRY(slice_end(run, node->c, scope, step < 0 ? low : high, low, high, n, &end), done);
    if (v.kind == TPL_STRING && step == 1)
        return begin >= end
                   ? string_new(run, "", 0, false, out_value)
                   : string_part(run, v.as.string, string_offset(v.as.string, (size_t)begin),
                                 string_offset(v.as.string, (size_t)end), out_value);
    if (v.kind == TPL_SEQ) {
        TRY(run_alloc(run, length * sizeof *items, &memory), done);
        items = memory;
    }
    for (int64_t i = begin; step > 0 ? i < end : i > end;) {
        TRY(value_item(run, v, value_int(i), &part), done);
        if (items != NULL)
            items[n_items++] = part;
        else
            TRY(builder_put_string(run, &b, part.as.string), done);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    if (items == NULL)
        return builder_end(run, &b, out_value);
    TRY(value_seq(run, v.as.seq->kind, items, n_items, out_value), done);
done:
    return st;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static enum status eval_name(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_scope *scope, struct tpl_value *out_value)
{
    const struct text_span name = run->t->names[node->name];
    const struct tpl_builtin *function = NULL;
    const struct tpl_binding *binding = scope_find(run, scope, node->name);

    if (binding != NULL) {
        *out_value = binding->value;
        return ST_OK;
    }
    function = function_find(name);
    if (function == NULL)
        return value_undefined(run, "is undefined", name, NULL, out_value);
    *out_value = (struct tpl_value){.kind = TPL_FUNCTION, .as.function = function};
    return ST_OK;
}

static enum status eval_list(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value *items = NULL;
    void *memory = NULL;
    size_t n = 0;
    enum status st;

    for (const struct tpl_node *one = node->list; one != NULL; one = one->next)
        n++;
    TRY(run_alloc(run, n * sizeof *items, &memory), done);
    items = memory;
    n = 0;
    for (const struct tpl_node *one = node->list; one != NULL; one = one->next)
        TRY(eval(run, one, scope, &items[n++]), done);
    TRY(value_seq(run, node->kind == NODE_LIST ? SEQ_LIST : SEQ_TUPLE, items, n, out_value), done);
done:
    return st;
}

static enum status eval_dict(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value key = {0}, value = {0};
    enum status st;

    TRY(value_dict(run, out_value), done);
    struct tpl_dict *dict = out_value->as.dict;
    for (const struct tpl_node *one = node->list; one != NULL; one = one->next) {
        TRY(eval(run, one->a, scope, &key), done);
        TRY(eval(run, one->b, scope, &value), done);
        TRY(dict_set(run, dict, key, value), done);
    }
done:
    return st;
}

static enum status eval_concat(struct tpl_run *run, const struct tpl_node *node,
                               struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_builder b = {0};
    struct tpl_value part = {0};
    enum status st = ST_OK;

    for (const struct tpl_node *one = node->list; one != NULL; one = one->next) {
        TRY(eval(run, one, scope, &part), done);
        TRY(print_str(run, &b, part), done);
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

static enum status eval_unary(struct tpl_run *run, const struct tpl_node *node,
                              struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value v = {0};
    int64_t whole = 0;
    enum status st;

    TRY(eval(run, node->a, scope, &v), done);
    run->place = node->place;
    if (node->kind == NODE_NOT) {
        *out_value = value_bool(!value_truth(v));
        return ST_OK;
    }
    TRY(value_refuse_undefined(run, v), done);
    const bool minus = node->kind == NODE_NEG;
    if (value_integer(v, &whole)) {
        if (minus && whole == INT64_MIN)
            return run_fail(run, "the number is beyond 64 bits");
        *out_value = value_int(minus ? -whole : whole);
    } else if (v.kind == TPL_FLOAT)
        *out_value = value_float(minus ? -v.as.number : v.as.number);
    else
        return run_fail(run, "sign of a %s", value_type(v));
done:
    return st;
}

static enum status eval_choice(struct tpl_run *run, const struct tpl_node *node,
                               struct tpl_scope *scope, struct tpl_value *out_value)
{
    enum status st;

    TRY(eval(run, node->a, scope, out_value), done);
    const bool truth = value_truth(*out_value);
    if (node->kind == NODE_AND || node->kind == NODE_OR)
        return truth == (node->kind == NODE_AND) ? eval(run, node->b, scope, out_value) : ST_OK;
    if (truth)
        return eval(run, node->b, scope, out_value);
    if (node->c != NULL)
        return eval(run, node->c, scope, out_value);
    TRY(value_undefined(run, "the condition was false and there is no else",
                        (struct text_span){"", 0}, NULL, out_value),
        done);
done:
    return st;
}

/* a.name, a[b] and a op b. */
static enum status eval_two(struct tpl_run *run, const struct tpl_node *node,
                            struct tpl_scope *scope, struct tpl_value *out_value)
{
    struct tpl_value a = {0}, b = {0};
    enum status st;

    TRY(eval(run, node->a, scope, &a), done);
    if (node->b != NULL)
        TRY(eval(run, node->b, scope, &b), done);
    run->place = node->place;
    if (node->kind == NODE_ATTR)
        TRY(value_attr(run, a, run->t->names[node->name], out_value), done);
    else if (node->kind == NODE_ITEM)
        TRY(value_item(run, a, b, out_value), done);
    else
        TRY(eval_math(run, (enum tpl_token_kind)node->op, a, b, out_value), done);
done:
    return st;
}

static enum status eval_node(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_scope *scope, struct tpl_value *out_value)
{
    switch (node->kind) {
    case NODE_CONST:
        *out_value = node->value;
        return ST_OK;
    case NODE_NAME:
        return eval_name(run, node, scope, out_value);
    case NODE_TUPLE:
    case NODE_LIST:
        return eval_list(run, node, scope, out_value);
    case NODE_DICT:
        return eval_dict(run, node, scope, out_value);
    case NODE_ATTR:
    case NODE_ITEM:
    case NODE_MATH:
        return eval_two(run, node, scope, out_value);
    case NODE_SLICE:
        return eval_slice(run, node, scope, out_value);
    case NODE_CALL:
        return eval_call_node(run, node, scope, out_value);
    case NODE_FILTER:
    case NODE_TEST:
        return eval_applied(run, node, scope, out_value);
    case NODE_NEG:
    case NODE_POS:
    case NODE_NOT:
        return eval_unary(run, node, scope, out_value);
    case NODE_AND:
    case NODE_OR:
    case NODE_COND:
        return eval_choice(run, node, scope, out_value);
    case NODE_COMPARE:
        return eval_compare(run, node, scope, out_value);
    case NODE_CONCAT:
        return eval_concat(run, node, scope, out_value);
    default:
        return run_fail(run, "this is no expression"); /* the parser makes none */
    }
}

enum status eval(struct tpl_run *run, const struct tpl_node *node, struct tpl_scope *scope,
                 struct tpl_value *out_value)
{
    enum status st;

    TRY(run_enter(run), done);
    TRY(run_steps(run, 1), done);
    run->place = node->place;
    TRY(eval_node(run, node, scope, out_value), done);
    run->depth--;
done:
    return st;
}
