/*
 * template_operand.c - tokens to nodes: what operators stand between.  Literals, names, and behind
 * them .name [item] (call) |filter and is test.
 */
#include <assert.h>

#include "text/template_parse.h"

enum { MAX_EXPRESSION_DEPTH = 400 };

static int deeper(int depth, const struct tpl_node *node)
{
    return node != NULL && node->depth > depth ? node->depth : depth;
}

enum status parse_check_depth(const struct tpl_parser *p, struct tpl_node *node)
{
    int depth = deeper(deeper(deeper(deeper(0, node->a), node->b), node->c), node->d);

    for (const struct tpl_node *one = node->list; one != NULL; one = one->next)
        depth = deeper(depth, one);
    node->depth = depth + 1;
    if (node->depth > MAX_EXPRESSION_DEPTH)
        return template_refuse(p->t, node->place, "an expression of more than %d levels",
                               MAX_EXPRESSION_DEPTH);
    return ST_OK;
}

enum status parse_make(struct tpl_parser *p, enum tpl_node_kind kind, struct tpl_node *a,
                       struct tpl_node *b, struct tpl_node **out_node)
{
    enum status st = parse_new(p, kind, out_node);

    if (st != ST_OK)
        return st;
    (*out_node)->a = a;
    (*out_node)->b = b;
    return parse_check_depth(p, *out_node);
}

enum status parse_take_name(struct tpl_parser *p, int *out_name)
{
    const struct tpl_token *token = p->at;

    if (token->kind != TOK_NAME)
        return parse_refuse(p, token, "expected a name");
    *out_name = template_name(p->t, token->text.data, token->text.n_bytes);
    if (*out_name < 0)
        return *out_name == -2
                   ? ST_NOMEM
                   : template_refuse(p->t, token->place, "more than %d names", TEMPLATE_MAX_NAMES);
    p->at++;
    return ST_OK;
}

/* ---- arguments, filters, tests --------------------------------------------------------------- */

static enum status parse_arg(struct tpl_parser *p, struct tpl_node **out_arg)
{
    struct tpl_node *arg = NULL;
    enum status st;

    TRY(parse_new(p, NODE_ARG, &arg), done);
    if (p->at->kind == TOK_MUL || p->at->kind == TOK_POW) {
        arg->op = p->at->kind == TOK_MUL ? ARG_LIST : ARG_DICT;
        p->at++;
    } else if (p->at->kind == TOK_NAME && p->at[1].kind == TOK_ASSIGN) {
        arg->op = ARG_NAMED;
        TRY(parse_take_name(p, &arg->name), done);
        p->at++;
    }
    TRY(parse_expression(p, true, &arg->a), done);
    arg->depth = arg->a->depth;
    *out_arg = arg;
done:
    return st;
}

static enum status parse_args(struct tpl_parser *p, struct tpl_node **out_list)
{
    struct tpl_node **last = out_list;
    int most = ARG_PLAIN;
    enum status st;

    TRY(parse_enter(p), done);
    TRY(parse_expect(p, TOK_LPAREN), done);
    while (p->at->kind != TOK_RPAREN) {
        if (last != out_list) {
            TRY(parse_expect(p, TOK_COMMA), done);
            if (p->at->kind == TOK_RPAREN)
                break;
        }
        TRY(parse_arg(p, last), done);
        const int op = (*last)->op;
        /* plain ones, then named ones, then *list, then **dict; the last two once */
        if (op < most || (op == most && op >= ARG_LIST))
            return template_refuse(p->t, (*last)->place, "arguments in this order");
        most = op;
        last = &(*last)->next;
    }
    p->at++;
    p->depth--;
done:
    return st;
}

/* name or name.name, as text. */
static enum status take_dotted(struct tpl_parser *p, struct text_span *out_name)
{
    enum status st;

    if (p->at->kind != TOK_NAME)
        return parse_refuse(p, p->at, "expected a name");
    *out_name = p->at->text;
    p->at++;
    while (p->at->kind == TOK_DOT) {
        p->at++;
        if (p->at->kind == TOK_NAME)
            out_name->n_bytes = (size_t)(p->at->text.data + p->at->text.n_bytes - out_name->data);
        TRY(parse_expect(p, TOK_NAME), done);
    }
    return ST_OK;
done:
    return st;
}

/* Fill in what a filter or test calls. */
static enum status resolve(struct tpl_parser *p, struct tpl_node *node, struct text_span name)
{
    node->name = template_name(p->t, name.data, name.n_bytes);
    if (node->name < 0)
        return node->name == -2
                   ? ST_NOMEM
                   : template_refuse(p->t, node->place, "more than %d names", TEMPLATE_MAX_NAMES);
    node->builtin = node->kind == NODE_TEST ? test_find(name) : filter_find(name);
    if (node->builtin == NULL && p->unknown == NULL)
        p->unknown = node;
    return ST_OK;
}

static enum status parse_filter(struct tpl_parser *p, struct tpl_node *subject,
                                struct tpl_node **out_node)
{
    struct tpl_node *node = NULL;
    struct text_span name = {0};
    enum status st;

    TRY(parse_new(p, NODE_FILTER, &node), done);
    node->a = subject;
    TRY(take_dotted(p, &name), done);
    TRY(resolve(p, node, name), done);
    if (p->at->kind == TOK_LPAREN)
        TRY(parse_args(p, &node->list), done);
    TRY(parse_check_depth(p, node), done);
    *out_node = node;
done:
    return st;
}

enum status parse_filters(struct tpl_parser *p, struct tpl_node *subject, bool no_pipe,
                          struct tpl_node **out_node)
{
    enum status st = ST_OK;

    *out_node = subject;
    while (no_pipe || p->at->kind == TOK_PIPE) {
        p->at += !no_pipe;
        no_pipe = false;
        TRY(parse_filter(p, *out_node, out_node), done);
    }
done:
    return st;
}

/* Whether what follows a test's name is its argument. */
static bool argument_follows(const struct tpl_parser *p)
{
    switch (p->at->kind) {
    case TOK_NAME:
        return !parse_is_name(p, "else") && !parse_is_name(p, "or") && !parse_is_name(p, "and");
    case TOK_STRING:
    case TOK_INT:
    case TOK_FLOAT:
    case TOK_LPAREN:
    case TOK_LBRACKET:
    case TOK_LBRACE:
        return true;
    default:
        return false;
    }
}

/* Behind `is`. */
static enum status parse_test(struct tpl_parser *p, struct tpl_node **node)
{
    const bool negated = parse_skip_name(p, "not");
    struct tpl_node *test = NULL;
    struct text_span name = {0};
    enum status st;

    TRY(parse_new(p, NODE_TEST, &test), done);
    test->a = *node;
    TRY(take_dotted(p, &name), done);
    TRY(resolve(p, test, name), done);
    if (p->at->kind == TOK_LPAREN) {
        TRY(parse_args(p, &test->list), done);
    } else if (argument_follows(p)) {
        if (parse_is_name(p, "is"))
            return template_refuse(p->t, p->at->place, "two tests in a row need parentheses");
        TRY(parse_new(p, NODE_ARG, &test->list), done);
        TRY(parse_primary(p, false, &test->list->a), done);
        TRY(parse_postfix(p, &test->list->a), done);
        test->list->depth = test->list->a->depth;
    }
    TRY(parse_check_depth(p, test), done);
    *node = test;
    if (negated)
        TRY(parse_make(p, NODE_NOT, test, NULL, node), done);
done:
    return st;
}

/* ---- what is tied to a value ----------------------------------------------------------------- */

/* One index or slice between brackets. */
static enum status parse_index(struct tpl_parser *p, struct tpl_node *of,
                               struct tpl_node **out_node)
{
    struct tpl_node *node = NULL, *parts[3] = {NULL};
    int n_colons = 0;
    enum status st;

    TRY(parse_new(p, NODE_ITEM, &node), done);
    for (;;) {
        if (p->at->kind == TOK_COLON && n_colons < 2) {
            n_colons++;
            p->at++;
        } else if (p->at->kind == TOK_RBRACKET || parts[n_colons] != NULL)
            break;
        else
            TRY(parse_expression(p, true, &parts[n_colons]), done);
    }
    if (n_colons == 0 && parts[0] == NULL)
        return parse_refuse(p, p->at, "expected an index");
    node->kind = n_colons > 0 ? NODE_SLICE : NODE_ITEM;
    node->a = of;
    node->b = parts[0];
    node->c = parts[1];
    node->d = parts[2];
    TRY(parse_check_depth(p, node), done);
    *out_node = node;
done:
    return st;
}

static enum status parse_attribute(struct tpl_parser *p, struct tpl_node **node)
{
    struct tpl_node *key = NULL;
    enum status st;

    if (p->at->kind == TOK_INT) { /* a.0 is a[0] */
        TRY(parse_make(p, NODE_CONST, NULL, NULL, &key), done);
        key->value = value_int(p->at->integer);
        TRY(parse_make(p, NODE_ITEM, *node, key, node), done);
        p->at++;
        return ST_OK;
    }
    if (p->at->kind != TOK_NAME)
        return parse_refuse(p, p->at, "expected a name or a number behind '.'");
    TRY(parse_make(p, NODE_ATTR, *node, NULL, node), done);
    TRY(parse_take_name(p, &(*node)->name), done);
done:
    return st;
}

static enum status parse_call(struct tpl_parser *p, struct tpl_node **node)
{
    struct tpl_node *call = NULL;
    enum status st;

    TRY(parse_new(p, NODE_CALL, &call), done);
    call->a = *node;
    TRY(parse_args(p, &call->list), done);
    TRY(parse_check_depth(p, call), done);
    *node = call;
done:
    return st;
}

enum status parse_postfix(struct tpl_parser *p, struct tpl_node **node)
{
    enum status st = ST_OK;

    for (;;) {
        if (p->at->kind == TOK_DOT) {
            p->at++;
            TRY(parse_attribute(p, node), done);
        } else if (p->at->kind == TOK_LBRACKET) {
            p->at++;
            TRY(parse_enter(p), done);
            TRY(parse_index(p, *node, node), done);
            TRY(parse_expect(p, TOK_RBRACKET), done);
            p->depth--;
        } else if (p->at->kind == TOK_LPAREN) {
            TRY(parse_call(p, node), done);
        } else
            return ST_OK;
    }
done:
    return st;
}

enum status parse_filters_and_tests(struct tpl_parser *p, struct tpl_node **node)
{
    enum status st = ST_OK;

    for (;;) {
        if (p->at->kind == TOK_PIPE)
            TRY(parse_filters(p, *node, false, node), done);
        else if (parse_skip_name(p, "is"))
            TRY(parse_test(p, node), done);
        else if (p->at->kind == TOK_LPAREN)
            TRY(parse_call(p, node), done);
        else
            return ST_OK;
    }
done:
    return st;
}

/* ---- literals and names ---------------------------------------------------------------------- */

/* Strings in a row are one. */
static enum status parse_string(struct tpl_parser *p, struct tpl_value *out_value)
{
    struct tpl_string *s = arena_alloc(p->t->arena, sizeof *s);
    struct text_range *mark = arena_alloc(p->t->arena, sizeof *mark);
    size_t n = 0;

    for (const struct tpl_token *one = p->at; one->kind == TOK_STRING; one++)
        n += one->text.n_bytes;
    char *data = arena_alloc(p->t->arena, n + 1);
    if (s == NULL || mark == NULL || data == NULL)
        return ST_NOMEM;
    *s = (struct tpl_string){.data = data, .n_bytes = n, .marks = mark, .n_marks = n > 0};
    *mark = (struct text_range){0, n};
    for (; p->at->kind == TOK_STRING; p->at++) {
        memcpy(data, p->at->text.data, p->at->text.n_bytes);
        data += p->at->text.n_bytes;
    }
    for (size_t i = 0; i < n; i++)
        s->n_chars += ((uint8_t)s->data[i] & 0xc0) != 0x80;
    *out_value = (struct tpl_value){.kind = TPL_STRING, .as.string = s};
    return ST_OK;
}

static bool constant_name(const struct tpl_parser *p, struct tpl_value *out_value)
{
    if (parse_is_name(p, "true") || parse_is_name(p, "True"))
        *out_value = value_bool(true);
    else if (parse_is_name(p, "false") || parse_is_name(p, "False"))
        *out_value = value_bool(false);
    else if (parse_is_name(p, "none") || parse_is_name(p, "None"))
        *out_value = value_none();
    else
        return false;
    return true;
}

static enum status parse_name(struct tpl_parser *p, bool with_attr, struct tpl_node **out_node)
{
    const struct template *t = p->t;
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_make(p, NODE_NAME, NULL, NULL, &node), done);
    if (constant_name(p, &node->value)) {
        node->kind = NODE_CONST;
        p->at++;
    } else {
        TRY(parse_take_name(p, &node->name), done);
        p->uses |= (node->name == t->name_varargs ? USES_VARARGS : 0) |
                   (node->name == t->name_kwargs ? USES_KWARGS : 0) |
                   (node->name == t->name_caller ? USES_CALLER : 0);
        if (with_attr && p->at->kind == TOK_DOT) {
            p->at++;
            node->kind = NODE_ATTR;
            node->name2 = node->name;
            TRY(parse_take_name(p, &node->name), done);
        }
    }
    *out_node = node;
done:
    return st;
}

static enum status parse_list(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL, **last = NULL;
    enum status st;

    TRY(parse_new(p, NODE_LIST, &node), done);
    p->at++;
    for (last = &node->list; p->at->kind != TOK_RBRACKET; last = &(*last)->next) {
        if (node->list != NULL)
            TRY(parse_expect(p, TOK_COMMA), done);
        if (p->at->kind == TOK_RBRACKET)
            break;
        TRY(parse_expression(p, true, last), done);
        assert(*last != NULL);
    }
    p->at++;
    TRY(parse_check_depth(p, node), done);
    *out_node = node;
done:
    return st;
}

static enum status parse_dict(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL, **last = NULL;
    enum status st;

    TRY(parse_new(p, NODE_DICT, &node), done);
    p->at++;
    for (last = &node->list; p->at->kind != TOK_RBRACE; last = &(*last)->next) {
        if (node->list != NULL)
            TRY(parse_expect(p, TOK_COMMA), done);
        if (p->at->kind == TOK_RBRACE)
            break;
        TRY(parse_new(p, NODE_PAIR, last), done);
        assert(*last != NULL);
        TRY(parse_expression(p, true, &(*last)->a), done);
        TRY(parse_expect(p, TOK_COLON), done);
        TRY(parse_expression(p, true, &(*last)->b), done);
        TRY(parse_check_depth(p, *last), done);
    }
    p->at++;
    TRY(parse_check_depth(p, node), done);
    *out_node = node;
done:
    return st;
}

enum status parse_primary(struct tpl_parser *p, bool with_attr, struct tpl_node **out_node)
{
    const struct tpl_token *token = p->at;
    enum status st;

    TRY(parse_enter(p), done);
    switch (token->kind) {
    case TOK_NAME:
        TRY(parse_name(p, with_attr, out_node), done);
        break;
    case TOK_STRING:
        TRY(parse_make(p, NODE_CONST, NULL, NULL, out_node), done);
        TRY(parse_string(p, &(*out_node)->value), done);
        break;
    case TOK_INT:
    case TOK_FLOAT:
        TRY(parse_make(p, NODE_CONST, NULL, NULL, out_node), done);
        (*out_node)->value =
            token->kind == TOK_INT ? value_int(token->integer) : value_float(token->number);
        p->at++;
        break;
    case TOK_LPAREN:
        p->at++;
        TRY(parse_tuple(p, true, true, out_node), done);
        TRY(parse_expect(p, TOK_RPAREN), done);
        break;
    case TOK_LBRACKET:
        TRY(parse_list(p, out_node), done);
        break;
    case TOK_LBRACE:
        TRY(parse_dict(p, out_node), done);
        break;
    default:
        return parse_refuse(p, token, "expected an expression");
    }
    p->depth--;
done:
    return st;
}
