/*
 * template_loop.c - for loops and the variable `loop`.
 */
#include "text/template.h"

struct tpl_loop {
    const struct tpl_node *node;
    struct tpl_scope *scope; /* around the loop */
    const struct tpl_value *items;
    size_t n, at; /* at: of items not looked at yet */
    size_t index; /* of the turn, from 0 */
    int depth;    /* of recursion, from 1 */
    bool has_next;
    struct tpl_value previous, current, next;
    struct tpl_value changed; /* what loop.changed saw last */
};

/* The next item for which the loop's condition holds.  Conditions are looked at as late as
 * possible, since the body can change what they say. */
static enum status loop_fetch(struct tpl_run *run, struct tpl_loop *loop, bool *out_found,
                              struct tpl_value *out_item)
{
    struct tpl_value truth = {0};
    struct tpl_scope *scope = NULL;
    enum status st = ST_OK;

    *out_found = false;
    while (!*out_found && loop->at < loop->n) {
        *out_item = loop->items[loop->at++];
        *out_found = true;
        if (loop->node->c == NULL)
            break;
        TRY(scope_new(run, loop->scope, &scope), done);
        TRY(run_assign(run, loop->node->a, scope, *out_item), done);
        TRY(eval(run, loop->node->c, scope, &truth), done);
        *out_found = value_truth(truth);
    }
done:
    return st;
}

static enum status loop_peek(struct tpl_run *run, struct tpl_loop *loop)
{
    return loop->has_next ? ST_OK : loop_fetch(run, loop, &loop->has_next, &loop->next);
}

/* How many items come after this turn. */
static enum status loop_rest(struct tpl_run *run, struct tpl_loop *loop, size_t *out_n)
{
    struct tpl_value *rest = NULL;
    bool found = true;
    void *memory = NULL;
    size_t n = 0;
    enum status st = ST_OK;

    if (loop->node->c != NULL) { /* look at all conditions now */
        TRY(run_alloc(run, (loop->n - loop->at) * sizeof *rest, &memory), done);
        rest = memory;
        for (;;) {
            TRY(loop_fetch(run, loop, &found, &rest[n]), done);
            if (!found)
                break;
            n++;
        }
        loop->items = rest;
        loop->n = n;
        loop->at = 0;
        struct tpl_node *plain = NULL;
        TRY(run_alloc(run, sizeof *plain, &memory), done);
        plain = memory;
        *plain = *loop->node;
        plain->c = NULL;
        loop->node = plain;
    }
    *out_n = loop->n - loop->at + loop->has_next;
done:
    return st;
}

static enum status loop_number(struct tpl_run *run, struct tpl_loop *loop, struct text_span name,
                               struct tpl_value *out_value, bool *out_found)
{
    static const char *const names[] = {"index",    "index0",    "depth", "depth0",
                                        "revindex", "revindex0", "length"};
    int64_t i = (int64_t)loop->index, value = 0;
    size_t which = 0, rest = 0;
    enum status st = ST_OK;

    while (which < 7 && (strlen(names[which]) != name.n_bytes ||
                         memcmp(names[which], name.data, name.n_bytes) != 0))
        which++;
    *out_found = which < 7;
    if (which >= 4 && *out_found)
        TRY(loop_rest(run, loop, &rest), done);
    switch (which) {
    case 0:
    case 1:
        value = i + (which == 0);
        break;
    case 2:
    case 3:
        value = loop->depth - (which == 3);
        break;
    case 4:
    case 5:
        value = (int64_t)rest + (which == 4);
        break;
    default:
        value = i + 1 + (int64_t)rest;
    }
    *out_value = value_int(value);
done:
    return st;
}

static bool name_is(struct text_span name, const char *text)
{
    return strlen(text) == name.n_bytes && memcmp(text, name.data, name.n_bytes) == 0;
}

static enum status loop_cycle(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_loop *loop = call->args[0].as.loop;
    bool same = false;
    enum status st;

    if (self->which == 0) {
        if (call->n_args < 2)
            return run_fail(run, "cycle needs something to go through");
        *out_value = call->args[1 + loop->index % (call->n_args - 1)];
        return ST_OK;
    }
    struct tpl_value seen = {0};
    TRY(value_seq(run, SEQ_TUPLE, call->args + 1, call->n_args - 1, &seen), done);
    if (loop->changed.kind != TPL_MISSING)
        TRY(value_equal(run, loop->changed, seen, &same), done);
    loop->changed = seen;
    *out_value = value_bool(!same);
done:
    return st;
}

enum status loop_attr(struct tpl_run *run, struct tpl_loop *loop, struct text_span name,
                      struct tpl_value *out_value, bool *out_found)
{
    static const struct tpl_builtin methods[] = {{"cycle", {NULL}, 0, true, loop_cycle, 0},
                                                 {"changed", {NULL}, 0, true, loop_cycle, 1}};
    const struct text_span none = {"", 0};
    void *memory = NULL;
    enum status st;

    TRY(loop_number(run, loop, name, out_value, out_found), done);
    if (*out_found)
        return ST_OK;
    *out_found = true;
    if (name_is(name, "first")) {
        *out_value = value_bool(loop->index == 0);
    } else if (name_is(name, "last")) {
        TRY(loop_peek(run, loop), done);
        *out_value = value_bool(!loop->has_next);
    } else if (name_is(name, "previtem")) {
        if (loop->index == 0)
            return value_undefined(run, "there is no previous item", none, NULL, out_value);
        *out_value = loop->previous;
    } else if (name_is(name, "nextitem")) {
        TRY(loop_peek(run, loop), done);
        if (!loop->has_next)
            return value_undefined(run, "there is no next item", none, NULL, out_value);
        *out_value = loop->next;
    } else if (name_is(name, "cycle") || name_is(name, "changed")) {
        const struct tpl_value self = {.kind = TPL_LOOP, .as.loop = loop};

        TRY(run_alloc(run, sizeof(struct tpl_method), &memory), done);
        *(struct tpl_method *)memory =
            (struct tpl_method){self, &methods[name_is(name, "changed")]};
        *out_value = (struct tpl_value){.kind = TPL_METHOD, .as.method = memory};
    } else
        *out_found = false;
done:
    return st;
}

enum status run_loop(struct tpl_run *run, const struct tpl_node *node, struct tpl_value items,
                     struct tpl_scope *scope, int depth, struct tpl_builder *out, int *flow)
{
    struct tpl_loop *loop = NULL;
    struct tpl_scope *turn = NULL;
    void *memory = NULL;
    int inner = 0;
    bool found = false;
    enum status st;

    TRY(run_alloc(run, sizeof *loop, &memory), done);
    loop = memory;
    *loop = (struct tpl_loop){.node = node, .scope = scope, .depth = depth};
    run->place = node->b->place;
    TRY(value_items(run, items, &loop->items, &loop->n), done);
    for (size_t i = 0; inner != NODE_BREAK; i++) {
        TRY(loop_peek(run, loop), done);
        found = loop->has_next;
        if (!found) {
            if (i == 0 && node->other != NULL) {
                TRY(scope_new(run, scope, &turn), done);
                TRY(run_body(run, node->other, turn, out, flow), done);
            }
            break;
        }
        loop->previous = loop->current;
        loop->current = loop->next;
        loop->has_next = false;
        loop->index = i;
        TRY(scope_new(run, scope, &turn), done);
        TRY(scope_set(run, turn, run->t->name_loop,
                      (struct tpl_value){.kind = TPL_LOOP, .as.loop = loop}),
            done);
        TRY(run_assign(run, node->a, turn, loop->current), done);
        inner = 0;
        TRY(run_body(run, node->body, turn, out, &inner), done);
    }
done:
    return st;
}

enum status loop_call(struct tpl_run *run, struct tpl_loop *loop, const struct tpl_call *call,
                      struct tpl_value *out_value)
{
    struct tpl_builder b = {0};
    int flow = 0;
    enum status st;

    if (loop->node->op == 0)
        return run_fail(run, "loop(...) needs a loop that is declared recursive");
    if (call->n_args != 1 || call->n_named > 0)
        return run_fail(run, "loop(...) takes one argument");
    TRY(run_enter(run), done);
    TRY(run_loop(run, loop->node, call->args[0], loop->scope, loop->depth + 1, &b, &flow), done);
    TRY(builder_end(run, &b, out_value), done);
    run->depth--;
done:
    return st;
}
