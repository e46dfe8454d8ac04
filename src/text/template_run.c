/*
 * template_run.c - statements: scopes, macros, blocks.  Loops are template_loop.c's.
 *
 * Names are looked up from the inside out.  Each turn of a loop, each macro call and each block
 * with a body of its own has a scope; `if` has none.  So `set` in a loop is gone after the turn, as
 * in Jinja.
 */
#include "text/template.h"

/* ---- scopes ---------------------------------------------------------------------------------- */

/* What is looked at counts as steps; the next one to be taken finds out if they were too many. */
static struct tpl_binding *binding_find(struct tpl_run *run, const struct tpl_scope *scope,
                                        int name)
{
    struct tpl_binding *b = scope->first;
    uint64_t n = 0;

    for (; b != NULL && b->name != name; b = b->next)
        n++;
    run->steps += n / 8;
    return b;
}

struct tpl_binding *scope_find(struct tpl_run *run, const struct tpl_scope *scope, int name)
{
    struct tpl_binding *binding = NULL;

    for (uint64_t depth = 1; scope != NULL && binding == NULL; scope = scope->parent, depth++) {
        run->steps += depth % 8 == 0;
        binding = binding_find(run, scope, name);
    }
    return binding;
}

enum status scope_new(struct tpl_run *run, struct tpl_scope *parent, struct tpl_scope **out_scope)
{
    void *memory = NULL;
    const enum status st = run_alloc(run, sizeof **out_scope, &memory);

    if (st != ST_OK)
        return st;
    *out_scope = memory;
    **out_scope = (struct tpl_scope){.parent = parent};
    return ST_OK;
}

enum status scope_set(struct tpl_run *run, struct tpl_scope *scope, int name,
                      struct tpl_value value)
{
    struct tpl_binding *binding = binding_find(run, scope, name);
    void *memory = NULL;
    enum status st;

    if (binding != NULL) {
        binding->value = value;
        return ST_OK;
    }
    TRY(run_alloc(run, sizeof *binding, &memory), done);
    binding = memory;
    *binding = (struct tpl_binding){scope->first, name, value};
    scope->first = binding;
done:
    return st;
}

enum status run_assign(struct tpl_run *run, const struct tpl_node *target, struct tpl_scope *scope,
                       struct tpl_value value)
{
    const struct tpl_value *items = NULL;
    struct tpl_binding *binding = NULL;
    struct tpl_value key = {0};
    size_t n = 0, i = 0;
    enum status st;

    run->place = target->place;
    if (target->kind == NODE_NAME)
        return scope_set(run, scope, target->name, value);
    if (target->kind == NODE_ATTR) {
        const struct text_span name = run->t->names[target->name];

        binding = scope_find(run, scope, target->name2);
        if (binding == NULL || binding->value.kind != TPL_NAMESPACE)
            return run_fail(run, "an attribute can be set on a namespace only");
        if (name.data[0] == '_')
            return run_fail(run, "an attribute of a namespace must not begin with _");
        TRY(string_new(run, name.data, name.n_bytes, true, &key), done);
        return dict_set(run, binding->value.as.dict, key, value);
    }
    TRY(value_items(run, value, &items, &n), done);
    for (const struct tpl_node *one = target->list; one != NULL; one = one->next)
        i++;
    if (i != n)
        return run_fail(run, "%zu values for %zu names", n, i);
    for (const struct tpl_node *one = target->list; one != NULL; one = one->next)
        TRY(run_assign(run, one, scope, *items++), done);
done:
    return st;
}

/* ---- macros ---------------------------------------------------------------------------------- */

/* Arguments without a parameter of their own: varargs, kwargs and caller, if the body uses them. */
static enum status bind_rest(struct tpl_run *run, const struct tpl_node *node,
                             const struct tpl_call *call, size_t n_params, const bool *used,
                             struct tpl_scope *scope)
{
    const struct template *t = run->t;
    const struct text_span name =
        node->name >= 0 ? t->names[node->name] : (struct text_span){"", 0};
    struct tpl_value rest = {0}, named = {0}, caller = {0};
    enum status st;

    const size_t n_rest = call->n_args > n_params ? call->n_args - n_params : 0;
    TRY(value_seq(run, SEQ_TUPLE, n_rest > 0 ? call->args + n_params : NULL, n_rest, &rest), done);
    if (n_rest > 0 && !(node->op & USES_VARARGS))
        return run_fail(run, "macro '%.*s' takes %zu arguments, not %zu", (int)name.n_bytes,
                        name.data, n_params, call->n_args);
    TRY(value_dict(run, &named), done);
    TRY(value_undefined(run, "no caller: the macro was not called by a call block",
                        (struct text_span){"", 0}, NULL, &caller),
        done);
    for (size_t i = 0; i < call->n_named; i++) {
        const struct tpl_string *key = call->named[i].key.as.string;

        if (used[i])
            continue;
        if (string_is(key, "caller") && (node->op & USES_CALLER))
            caller = call->named[i].value;
        else if (node->op & USES_KWARGS)
            TRY(dict_set(run, named.as.dict, call->named[i].key, call->named[i].value), done);
        else
            return run_fail(run, "macro '%.*s' takes no argument '%.*s'", (int)name.n_bytes,
                            name.data, (int)(key->n_bytes < 40 ? key->n_bytes : 40), key->data);
    }
    if (node->op & USES_VARARGS)
        TRY(scope_set(run, scope, t->name_varargs, rest), done);
    if (node->op & USES_KWARGS)
        TRY(scope_set(run, scope, t->name_kwargs, named), done);
    if (node->op & USES_CALLER)
        TRY(scope_set(run, scope, t->name_caller, caller), done);
done:
    return st;
}

static enum status bind_params(struct tpl_run *run, const struct tpl_node *node,
                               const struct tpl_call *call, struct tpl_scope *scope)
{
    struct tpl_value value = {0};
    void *memory = NULL;
    bool *used = NULL;
    size_t n = 0;
    enum status st;

    TRY(run_alloc(run, call->n_named + 1, &memory), done);
    used = memory;
    memset(used, 0, call->n_named + 1);
    for (const struct tpl_node *param = node->list; param != NULL; param = param->next, n++) {
        const struct text_span name = run->t->names[param->name];
        bool given = n < call->n_args;

        if (given)
            value = call->args[n];
        for (size_t i = 0; i < call->n_named; i++) {
            const struct tpl_string *key = call->named[i].key.as.string;

            if (key->n_bytes != name.n_bytes || memcmp(key->data, name.data, name.n_bytes) != 0)
                continue;
            if (given)
                return run_fail(run, "argument '%.*s' is given twice", (int)name.n_bytes,
                                name.data);
            value = call->named[i].value;
            given = used[i] = true;
        }
        if (!given && param->a != NULL)
            TRY(eval(run, param->a, scope, &value), done);
        else if (!given)
            TRY(value_undefined(run, "is a parameter that was not given", name, NULL, &value),
                done);
        TRY(scope_set(run, scope, param->name, value), done);
    }
    TRY(bind_rest(run, node, call, n, used, scope), done);
done:
    return st;
}

enum status run_macro(struct tpl_run *run, const struct tpl_macro *macro,
                      const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_scope *scope = NULL;
    struct tpl_builder b = {0};
    int flow = 0;
    enum status st;

    TRY(run_enter(run), done);
    TRY(scope_new(run, macro->scope, &scope), done);
    TRY(bind_params(run, macro->node, call, scope), done);
    TRY(run_body(run, macro->node->body, scope, &b, &flow), done);
    TRY(builder_end(run, &b, out_value), done);
    run->depth--;
done:
    return st;
}

static enum status new_macro(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_scope *scope, struct tpl_value *out_value)
{
    void *memory = NULL;
    const enum status st = run_alloc(run, sizeof(struct tpl_macro), &memory);

    if (st != ST_OK)
        return st;
    *(struct tpl_macro *)memory = (struct tpl_macro){node, scope};
    *out_value = (struct tpl_value){.kind = TPL_MACRO, .as.macro = memory};
    return ST_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

/* A body on its own, as a string, through filters if there are any. */
static enum status run_block(struct tpl_run *run, const struct tpl_node *body,
                             const struct tpl_node *filters, struct tpl_scope *parent,
                             struct tpl_value *out_value, int *flow)
{
    const struct tpl_value outer = run->block_text;
    struct tpl_scope *scope = NULL;
    struct tpl_builder b = {0};
    enum status st;

    TRY(scope_new(run, parent, &scope), done);
    TRY(run_body(run, body, scope, &b, flow), done);
    TRY(builder_end(run, &b, out_value), done);
    if (filters != NULL) {
        run->block_text = *out_value;
        TRY(eval(run, filters, parent, out_value), done);
    }
done:
    run->block_text = outer;
    return st;
}

static enum status run_call_block(struct tpl_run *run, const struct tpl_node *node,
                                  struct tpl_scope *scope, struct tpl_builder *out)
{
    struct tpl_value caller = {0}, callee = {0}, result = {0};
    struct tpl_call call = {0};
    enum status st;

    TRY(new_macro(run, node->b, scope, &caller), done);
    TRY(eval(run, node->a->a, scope, &callee), done);
    TRY(eval_args(run, node->a->list, scope, NULL, &caller, &call), done);
    run->place = node->a->place;
    TRY(eval_call(run, callee, &call, &result), done);
    TRY(print_str(run, out, result), done);
done:
    return st;
}

static enum status run_if(struct tpl_run *run, const struct tpl_node *node, struct tpl_scope *scope,
                          struct tpl_builder *out, int *flow)
{
    struct tpl_value truth = {0};
    enum status st = ST_OK;

    for (const struct tpl_node *branch = node->list; branch != NULL; branch = branch->next) {
        if (branch->a != NULL) {
            TRY(eval(run, branch->a, scope, &truth), done);
            if (!value_truth(truth))
                continue;
        }
        return run_body(run, branch->body, scope, out, flow);
    }
done:
    return st;
}

static enum status run_with(struct tpl_run *run, const struct tpl_node *node,
                            struct tpl_scope *scope, struct tpl_builder *out, int *flow)
{
    struct tpl_scope *inner = NULL;
    struct tpl_value value = {0};
    enum status st;

    TRY(scope_new(run, scope, &inner), done);
    for (const struct tpl_node *one = node->list; one != NULL; one = one->next) {
        TRY(eval(run, one->b, scope, &value), done);
        TRY(run_assign(run, one->a, inner, value), done);
    }
    TRY(run_body(run, node->body, inner, out, flow), done);
done:
    return st;
}

static enum status run_statement(struct tpl_run *run, const struct tpl_node *node,
                                 struct tpl_scope *scope, struct tpl_builder *out, int *flow)
{
    struct tpl_value value = {0};
    enum status st = ST_OK;

    switch (node->kind) {
    case NODE_TEXT:
        return builder_put_string(run, out, node->value.as.string);
    case NODE_OUTPUT:
        TRY(eval(run, node->a, scope, &value), done);
        run->place = node->a->place;
        return print_str(run, out, value);
    case NODE_IF:
        return run_if(run, node, scope, out, flow);
    case NODE_FOR:
        TRY(eval(run, node->b, scope, &value), done);
        return run_loop(run, node, value, scope, 1, out, flow);
    case NODE_SET:
        TRY(eval(run, node->b, scope, &value), done);
        return run_assign(run, node->a, scope, value);
    case NODE_SET_BLOCK:
        TRY(run_block(run, node->body, node->b, scope, &value, flow), done);
        return *flow != 0 ? ST_OK : run_assign(run, node->a, scope, value);
    case NODE_MACRO:
        TRY(new_macro(run, node, scope, &value), done);
        return scope_set(run, scope, node->name, value);
    case NODE_CALL_BLOCK:
        return run_call_block(run, node, scope, out);
    case NODE_FILTER_BLOCK:
        TRY(run_block(run, node->body, node->a, scope, &value, flow), done);
        return *flow != 0 ? ST_OK : print_str(run, out, value);
    case NODE_WITH:
        return run_with(run, node, scope, out, flow);
    case NODE_SCOPE:
        TRY(run_block(run, node->body, NULL, scope, &value, flow), done);
        return print_str(run, out, value);
    default:
        *flow = (int)node->kind; /* break, continue */
    }
done:
    return st;
}

enum status run_body(struct tpl_run *run, const struct tpl_node *body, struct tpl_scope *scope,
                     struct tpl_builder *out, int *flow)
{
    enum status st;

    TRY(run_enter(run), done);
    for (; body != NULL && *flow == 0; body = body->next) {
        TRY(run_steps(run, 1), done);
        run->place = body->place;
        TRY(run_statement(run, body, scope, out, flow), done);
    }
    run->depth--;
done:
    return st;
}
