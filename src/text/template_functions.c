/*
 * template_functions.c - calling what templates call by name, and the functions among it: range,
 * namespace, dict, raise_exception, strftime_now.
 */
#include <stdio.h>

#include "text/template.h"

/* ---- arguments ------------------------------------------------------------------------------- */

static int n_params(const struct tpl_builtin *builtin)
{
    int n = 0;

    while (n < BUILTIN_MAX_PARAMS && builtin->params[n] != NULL)
        n++;
    return n;
}

enum status builtin_call(struct tpl_run *run, const struct tpl_builtin *builtin,
                         const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_value args[BUILTIN_MAX_PARAMS] = {{0}};
    const int n = n_params(builtin);
    enum status st;

    TRY(run_steps(run, 1), done);
    if (builtin->free_form)
        return builtin->call(run, builtin, call, out_value);
    if (call->n_args > (size_t)n)
        return run_fail(run, "%s takes at most %d arguments", builtin->name, n);
    for (size_t i = 0; i < call->n_args; i++)
        args[i] = call->args[i];
    for (size_t i = 0; i < call->n_named; i++) {
        const struct tpl_string *name = call->named[i].key.as.string;
        int at = 0;

        while (at < n && !string_is(name, builtin->params[at]))
            at++;
        if (at == n || args[at].kind != TPL_MISSING)
            return run_fail(run, "%s takes no (second) argument '%.*s'", builtin->name,
                            (int)(name->n_bytes < 40 ? name->n_bytes : 40), name->data);
        args[at] = call->named[i].value;
    }
    for (int i = 0; i < builtin->n_required; i++)
        if (args[i].kind == TPL_MISSING)
            return run_fail(run, "%s needs its argument '%s'", builtin->name, builtin->params[i]);
    const struct tpl_call bound = {.args = args, .n_args = (size_t)n};
    TRY(builtin->call(run, builtin, &bound, out_value), done);
done:
    return st;
}

enum status arg_int(struct tpl_run *run, struct tpl_value v, int64_t dflt, int64_t *out)
{
    enum status st;

    *out = dflt;
    if (v.kind == TPL_MISSING || value_integer(v, out))
        return ST_OK;
    TRY(value_refuse_undefined(run, v), done);
    return run_fail(run, "an argument must be an integer, not a %s", value_type(v));
done:
    return st;
}

enum status arg_string(struct tpl_run *run, struct tpl_value v, const struct tpl_string **out)
{
    enum status st;

    TRY(value_refuse_undefined(run, v), done);
    if (v.kind != TPL_STRING)
        return run_fail(run, "an argument must be a string, not a %s", value_type(v));
    *out = v.as.string;
done:
    return st;
}

/* ---- the functions --------------------------------------------------------------------------- */

static enum status call_range(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    enum { MAX_RANGE = 100000 }; /* Jinja's sandbox has the same */
    const bool one = call->args[1].kind == TPL_MISSING;
    int64_t begin = 0, end = 0, step = 1;
    struct tpl_value *items = NULL;
    void *memory = NULL;
    enum status st;

    (void)self;
    TRY(arg_int(run, call->args[one ? 1 : 0], 0, &begin), done);
    TRY(arg_int(run, call->args[one ? 0 : 1], 0, &end), done);
    TRY(arg_int(run, call->args[2], 1, &step), done);
    if (step == 0)
        return run_fail(run, "range with a step of 0");
    uint64_t n = 0;
    if (step > 0 && begin < end)
        n = ((uint64_t)end - (uint64_t)begin - 1) / (uint64_t)step + 1;
    else if (step < 0 && begin > end)
        n = ((uint64_t)begin - (uint64_t)end - 1) / (0 - (uint64_t)step) + 1;
    if (n > MAX_RANGE)
        return run_fail(run, "range of more than %d", MAX_RANGE);
    TRY(run_alloc(run, (size_t)n * sizeof *items, &memory), done);
    items = memory;
    for (uint64_t i = 0; i < n; i++)
        items[i] = value_int((int64_t)((uint64_t)begin + i * (uint64_t)step));
    TRY(value_seq(run, SEQ_RANGE, items, (size_t)n, out_value), done);
done:
    return st;
}

/* dict(x, a=1): x is a dict or pairs.  namespace(...) is the same, and can be changed. */
static enum status call_dict(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL;
    struct tpl_dict *dict = NULL;
    size_t n = 0;
    enum status st;

    if (call->n_args > 1)
        return run_fail(run, "%s takes at most one argument without a name", self->name);
    TRY(value_dict(run, out_value), done);
    dict = out_value->as.dict;
    if (call->n_args == 1 && call->args[0].kind == TPL_DICT) {
        const struct tpl_dict *from = call->args[0].as.dict;

        for (size_t i = 0; i < from->n; i++)
            TRY(dict_set(run, dict, from->pairs[i].key, from->pairs[i].value), done);
    } else if (call->n_args == 1) {
        TRY(value_items(run, call->args[0], &items, &n), done);
        for (size_t i = 0; i < n; i++) {
            const struct tpl_value *pair = NULL;
            size_t n_pair = 0;

            TRY(value_items(run, items[i], &pair, &n_pair), done);
            if (n_pair != 2)
                return run_fail(run, "%s from a list needs pairs", self->name);
            TRY(dict_set(run, dict, pair[0], pair[1]), done);
        }
    }
    for (size_t i = 0; i < call->n_named; i++)
        TRY(dict_set(run, dict, call->named[i].key, call->named[i].value), done);
    if (self->which == 0)
        return ST_OK;
    for (size_t i = 0; i < dict->n; i++)
        if (dict->pairs[i].key.kind == TPL_STRING && dict->pairs[i].key.as.string->n_bytes > 0 &&
            dict->pairs[i].key.as.string->data[0] == '_')
            return run_fail(run, "an attribute of a namespace must not begin with _");
    out_value->kind = TPL_NAMESPACE;
done:
    return st;
}

static enum status call_raise(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *text = NULL;
    const enum status st = value_string(run, call->args[0], &text);

    (void)self, (void)out_value;
    if (st != ST_OK)
        return st;
    return row_error_set(run->err, "the chat template refuses this conversation: %.*s",
                         (int)(text->n_bytes < 200 ? text->n_bytes : 200), text->data);
}

static enum status call_strftime(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *format = NULL;
    struct tpl_builder b = {0};
    enum status st;

    (void)self;
    TRY(arg_string(run, call->args[0], &format), done);
    if (run->date == NULL)
        return run_fail(run, "the chat template asks for today's date; the job has to give one, "
                             "like chat_date = \"2026-01-31\", so that answers can be repeated");
    TRY(print_date(run, &b, run->date, format), done);
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

static const struct tpl_builtin functions[] = {
    {"range", {"start", "stop", "step"}, 1, false, call_range, 0},
    {"dict", {NULL}, 0, true, call_dict, 0},
    {"namespace", {NULL}, 0, true, call_dict, 1},
    {"raise_exception", {"message"}, 1, false, call_raise, 0},
    {"strftime_now", {"format"}, 1, false, call_strftime, 0},
};

const struct tpl_builtin *function_find(struct text_span name)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strlen(functions[i].name) == name.n_bytes &&
            memcmp(functions[i].name, name.data, name.n_bytes) == 0)
            return &functions[i];
    return NULL;
}
