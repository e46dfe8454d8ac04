/*
 * template_parse.c - tokens to nodes: statements.  Expressions are template_expr.c's.
 *
 * What Jinja has and this does not (blocks, includes, imports, ...) is refused by name.
 */
#include <assert.h>
#include <stdio.h>

#include "text/template_parse.h"

/* ---- what both files use --------------------------------------------------------------------- */

enum status parse_new(struct tpl_parser *p, enum tpl_node_kind kind, struct tpl_node **out_node)
{
    struct tpl_node *node = arena_alloc(p->t->arena, sizeof *node);

    if (node == NULL)
        return ST_NOMEM;
    *node = (struct tpl_node){.kind = kind, .place = p->at->place};
    *out_node = node;
    return ST_OK;
}

enum status parse_refuse(const struct tpl_parser *p, const struct tpl_token *token,
                         const char *what)
{
    if (token->kind == TOK_NAME)
        return template_refuse(p->t, token->place, "%s, not '%.*s'", what,
                               (int)(token->text.n_bytes < 40 ? token->text.n_bytes : 40),
                               token->text.data);
    return template_refuse(p->t, token->place, "%s, not %s", what, token_kind_name(token->kind));
}

enum status parse_expect(struct tpl_parser *p, enum tpl_token_kind kind)
{
    char what[64];

    if (p->at->kind == kind) {
        p->at++;
        return ST_OK;
    }
    snprintf(what, sizeof what, "expected %s", token_kind_name(kind));
    return parse_refuse(p, p->at, what);
}

static bool token_is(const struct tpl_token *token, const char *name)
{
    return token->kind == TOK_NAME && token->text.n_bytes == strlen(name) &&
           memcmp(token->text.data, name, token->text.n_bytes) == 0;
}

bool parse_is_name(const struct tpl_parser *p, const char *name)
{
    return token_is(p->at, name);
}

bool parse_skip_name(struct tpl_parser *p, const char *name)
{
    const bool is = parse_is_name(p, name);

    p->at += is;
    return is;
}

enum status parse_enter(struct tpl_parser *p)
{
    if (++p->depth > TEMPLATE_MAX_DEPTH)
        return template_refuse(p->t, p->at->place, "more than %d levels within each other",
                               TEMPLATE_MAX_DEPTH);
    return ST_OK;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static enum status parse_statement(struct tpl_parser *p, struct tpl_node **out_node);

/* Whether a block begins here with one of the names, separated by blanks. */
static bool at_block(const struct tpl_parser *p, const char *names)
{
    const struct tpl_token *name = p->at + 1;

    if (p->at->kind != TOK_OPEN_BLOCK || name->kind != TOK_NAME)
        return false;
    for (const char *at = names; *at != '\0';) {
        const size_t n = strcspn(at, " ");

        if (n == name->text.n_bytes && memcmp(at, name->text.data, n) == 0)
            return true;
        at += n + (at[n] == ' ');
    }
    return false;
}

static enum status refuse_unknown(const struct tpl_parser *p)
{
    const struct tpl_node *node = p->unknown;

    if (node == NULL || p->conditional > 0)
        return ST_OK;
    const struct text_span name = p->t->names[node->name];
    return template_refuse(p->t, node->place, "no %s named '%.*s'",
                           node->kind == NODE_TEST ? "test" : "filter",
                           (int)(name.n_bytes < 80 ? name.n_bytes : 80), name.data);
}

/* Statements up to a block that begins with one of the names ("" = up to the end of the template),
 * whose name is then the next token. */
static enum status parse_body(struct tpl_parser *p, const char *ends, struct tpl_node **out_body)
{
    const struct tpl_token *begin = p->at;
    struct tpl_node **last = out_body;
    enum status st = ST_OK;

    *out_body = NULL;
    TRY(parse_enter(p), done);
    while (p->at->kind != TOK_END && !at_block(p, ends)) {
        struct tpl_node *node = NULL;

        if (p->at->kind == TOK_TEXT) {
            struct tpl_string *s = arena_alloc(p->t->arena, sizeof *s);
            struct text_range *mark = arena_alloc(p->t->arena, sizeof *mark);

            if (s == NULL || mark == NULL)
                return ST_NOMEM;
            TRY(parse_new(p, NODE_TEXT, &node), done);
            *mark = (struct text_range){0, p->at->text.n_bytes};
            *s = (struct tpl_string){.data = p->at->text.data,
                                     .n_bytes = p->at->text.n_bytes,
                                     .marks = mark,
                                     .n_marks = 1};
            node->value = (struct tpl_value){.kind = TPL_STRING, .as.string = s};
            p->at++;
        } else if (p->at->kind == TOK_OPEN_OUTPUT) {
            TRY(parse_new(p, NODE_OUTPUT, &node), done);
            p->at++;
            TRY(parse_tuple(p, true, false, &node->a), done);
            TRY(parse_expect(p, TOK_CLOSE_OUTPUT), done);
        } else
            TRY(parse_statement(p, &node), done);
        TRY(refuse_unknown(p), done);
        assert(node != NULL);
        *last = node;
        last = &node->next;
    }
    if (p->at->kind == TOK_END && *ends != '\0')
        return template_refuse(p->t, begin->place, "this block has no %s",
                               strrchr(ends, ' ') != NULL ? strrchr(ends, ' ') + 1 : ends);
    if (p->at->kind != TOK_END)
        p->at++; /* the name of the end comes next */
    p->depth--;
done:
    return st;
}

/* The %} of the block that begins a body, the body, and the one name that can end it. */
static enum status parse_block_body(struct tpl_parser *p, const char *end,
                                    struct tpl_node **out_body)
{
    enum status st;

    TRY(parse_expect(p, TOK_CLOSE_BLOCK), done);
    TRY(parse_body(p, end, out_body), done);
    p->at++;
done:
    return st;
}

/* ---- statements ------------------------------------------------------------------------------ */

static enum status parse_if(struct tpl_parser *p, struct tpl_node **out_node)
{
    const struct tpl_node *unknown = p->unknown;
    struct tpl_node *node = NULL, *branch = NULL, **last = NULL;
    bool is_else = false;
    enum status st;

    TRY(parse_new(p, NODE_IF, &node), done);
    last = &node->list;
    p->conditional++;
    do {
        TRY(parse_new(p, NODE_BRANCH, &branch), done);
        is_else = parse_is_name(p, "else");
        p->at++;
        if (!is_else)
            TRY(parse_tuple(p, false, false, &branch->a), done);
        TRY(parse_expect(p, TOK_CLOSE_BLOCK), done);
        TRY(parse_body(p, is_else ? "endif" : "elif else endif", &branch->body), done);
        *last = branch;
        last = &branch->next;
    } while (!parse_skip_name(p, "endif"));
    p->conditional--;
    p->unknown = unknown;
    *out_node = node;
done:
    return st;
}

static enum status parse_for(struct tpl_parser *p, struct tpl_node **out_node)
{
    const int conditional = p->conditional;
    const struct tpl_node *unknown = NULL;
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_new(p, NODE_FOR, &node), done);
    p->at++;
    TRY(parse_target(p, false, &node->a), done);
    if (!parse_skip_name(p, "in"))
        return parse_refuse(p, p->at, "expected 'in'");
    TRY(parse_tuple(p, false, false, &node->b), done);
    if (parse_skip_name(p, "if"))
        TRY(parse_expression(p, true, &node->c), done);
    node->op = parse_skip_name(p, "recursive");
    TRY(parse_expect(p, TOK_CLOSE_BLOCK), done);
    unknown = p->unknown;
    p->n_loops++;
    p->conditional = 0;
    p->unknown = NULL;
    TRY(parse_body(p, "else endfor", &node->body), done);
    p->n_loops--;
    if (parse_skip_name(p, "else"))
        TRY(parse_block_body(p, "endfor", &node->other), done);
    else
        p->at++;
    p->conditional = conditional;
    if (p->unknown == NULL)
        p->unknown = unknown;
    *out_node = node;
done:
    return st;
}

static enum status parse_set(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_new(p, NODE_SET, &node), done);
    p->at++;
    TRY(parse_target(p, true, &node->a), done);
    if (p->at->kind == TOK_ASSIGN) {
        p->at++;
        TRY(parse_tuple(p, true, false, &node->b), done);
    } else {
        node->kind = NODE_SET_BLOCK;
        TRY(parse_filters(p, NULL, false, &node->b), done);
        TRY(parse_block_body(p, "endset", &node->body), done);
    }
    *out_node = node;
done:
    return st;
}

/* (a, b=1) of a macro or a call block. */
static enum status parse_params(struct tpl_parser *p, struct tpl_node **out_list)
{
    struct tpl_node **last = out_list;
    bool defaults = false;
    enum status st;

    TRY(parse_expect(p, TOK_LPAREN), done);
    while (p->at->kind != TOK_RPAREN) {
        struct tpl_node *param = NULL;

        if (last != out_list)
            TRY(parse_expect(p, TOK_COMMA), done);
        TRY(parse_new(p, NODE_PARAM, &param), done);
        TRY(parse_take_name(p, &param->name), done);
        if (p->at->kind == TOK_ASSIGN) {
            p->at++;
            TRY(parse_expression(p, true, &param->a), done);
            defaults = true;
        } else if (defaults)
            return template_refuse(p->t, param->place,
                                   "a parameter without default follows one that has one");
        *last = param;
        last = &param->next;
    }
    p->at++;
done:
    return st;
}

/* Parameters, if there are any, what `call` may stand between, and the body. */
static enum status parse_macro_rest(struct tpl_parser *p, struct tpl_node *macro,
                                    struct tpl_node *call_block, const char *end)
{
    const int uses = p->uses, n_loops = p->n_loops, conditional = p->conditional;
    enum status st;

    if (call_block == NULL || p->at->kind == TOK_LPAREN)
        TRY(parse_params(p, &macro->list), done);
    if (call_block != NULL) {
        TRY(parse_expression(p, true, &call_block->a), done);
        if (call_block->a->kind != NODE_CALL)
            return template_refuse(p->t, call_block->a->place, "expected a call");
    }
    const struct tpl_node *unknown = p->unknown;
    p->uses = p->n_loops = p->conditional = 0;
    p->unknown = NULL;
    TRY(parse_block_body(p, end, &macro->body), done);
    p->unknown = unknown;
    macro->op = p->uses;
    p->uses |= uses;
    p->n_loops = n_loops;
    p->conditional = conditional;
done:
    return st;
}

static enum status parse_macro(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_new(p, NODE_MACRO, &node), done);
    p->at++;
    TRY(parse_take_name(p, &node->name), done);
    TRY(parse_macro_rest(p, node, NULL, "endmacro"), done);
    *out_node = node;
done:
    return st;
}

static enum status parse_call_block(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_new(p, NODE_CALL_BLOCK, &node), done);
    TRY(parse_new(p, NODE_MACRO, &node->b), done);
    p->at++;
    node->b->name = p->t->name_caller;
    TRY(parse_macro_rest(p, node->b, node, "endcall"), done);
    *out_node = node;
done:
    return st;
}

static enum status parse_filter_block(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_new(p, NODE_FILTER_BLOCK, &node), done);
    p->at++;
    TRY(parse_filters(p, NULL, true, &node->a), done);
    TRY(parse_block_body(p, "endfilter", &node->body), done);
    *out_node = node;
done:
    return st;
}

static enum status parse_with(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL, **last = NULL;
    enum status st;

    TRY(parse_new(p, NODE_WITH, &node), done);
    p->at++;
    for (last = &node->list; p->at->kind != TOK_CLOSE_BLOCK; last = &(*last)->next) {
        if (node->list != NULL)
            TRY(parse_expect(p, TOK_COMMA), done);
        TRY(parse_new(p, NODE_SET, last), done);
        TRY(parse_target(p, false, &(*last)->a), done);
        TRY(parse_expect(p, TOK_ASSIGN), done);
        TRY(parse_expression(p, true, &(*last)->b), done);
    }
    TRY(parse_block_body(p, "endwith", &node->body), done);
    *out_node = node;
done:
    return st;
}

static enum status parse_generation(struct tpl_parser *p, struct tpl_node **out_node)
{
    const int n_loops = p->n_loops;
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_new(p, NODE_SCOPE, &node), done);
    p->at++;
    p->n_loops = 0; /* its body is a function to Jinja: no break out of it */
    TRY(parse_block_body(p, "endgeneration", &node->body), done);
    p->n_loops = n_loops;
    *out_node = node;
done:
    return st;
}

static enum status parse_jump(struct tpl_parser *p, struct tpl_node **out_node)
{
    if (p->n_loops == 0)
        return template_refuse(p->t, p->at->place, "'%.*s' outside a loop",
                               (int)p->at->text.n_bytes, p->at->text.data);
    const enum status st =
        parse_new(p, parse_is_name(p, "break") ? NODE_BREAK : NODE_CONTINUE, out_node);

    p->at++;
    return st;
}

static enum status parse_statement(struct tpl_parser *p, struct tpl_node **out_node)
{
    static const struct {
        const char *name;
        enum status (*parse)(struct tpl_parser *p, struct tpl_node **out_node);
    } statements[] = {
        {"if", parse_if},           {"for", parse_for},
        {"set", parse_set},         {"macro", parse_macro},
        {"call", parse_call_block}, {"filter", parse_filter_block},
        {"with", parse_with},       {"generation", parse_generation},
        {"break", parse_jump},      {"continue", parse_jump},
    };
    enum status st;

    TRY(parse_expect(p, TOK_OPEN_BLOCK), done);
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (!parse_is_name(p, statements[i].name))
            continue;
        TRY(parse_enter(p), done);
        TRY(statements[i].parse(p, out_node), done);
        p->depth--;
        return parse_expect(p, TOK_CLOSE_BLOCK);
    }
    return parse_refuse(p, p->at,
                        "expected if, for, set, macro, call, filter, with, generation, break or "
                        "continue");
done:
    return st;
}

enum status template_parse(struct template *t, const struct tpl_tokens *tokens)
{
    struct tpl_parser p = {.t = t, .at = tokens->tokens};

    return parse_body(&p, "", &t->body);
}
