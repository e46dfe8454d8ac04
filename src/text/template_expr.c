/*
 * template_expr.c - tokens to nodes: operators, in Jinja's order of precedence, tuples and targets.
 * What they stand between is template_operand.c's.
 *
 *   a if b else c  <  or  <  and  <  not  <  comparisons  <  + -  <  ~  <  * / // %  <  **  < unary
 */
#include "text/template_parse.h"

/* ---- operators ------------------------------------------------------------------------------- */

static enum status parse_unary(struct tpl_parser *p, bool with_filter, struct tpl_node **out_node)
{
    enum status st;

    TRY(parse_enter(p), done);
    if (p->at->kind == TOK_SUB || p->at->kind == TOK_ADD) {
        struct tpl_node *node = NULL;

        TRY(parse_new(p, p->at->kind == TOK_SUB ? NODE_NEG : NODE_POS, &node), done);
        p->at++;
        TRY(parse_unary(p, false, &node->a), done);
        TRY(parse_check_depth(p, node), done);
        *out_node = node;
    } else
        TRY(parse_primary(p, false, out_node), done);
    TRY(parse_postfix(p, out_node), done);
    if (with_filter)
        TRY(parse_filters_and_tests(p, out_node), done);
    p->depth--;
done:
    return st;
}

/* Operators of one precedence, from the left; levels count from the tightest. */
enum { LEVEL_POW, LEVEL_MUL, LEVEL_CONCAT, LEVEL_ADD };

static bool of_level(enum tpl_token_kind kind, int level)
{
    switch (kind) {
    case TOK_POW:
        return level == LEVEL_POW;
    case TOK_MUL:
    case TOK_DIV:
    case TOK_FLOORDIV:
    case TOK_MOD:
        return level == LEVEL_MUL;
    case TOK_TILDE:
        return level == LEVEL_CONCAT;
    case TOK_ADD:
    case TOK_SUB:
        return level == LEVEL_ADD;
    default:
        return false;
    }
}

static enum status parse_math(struct tpl_parser *p, int level, struct tpl_node **out_node)
{
    struct tpl_node *right = NULL, **last = NULL;
    enum status st;

    if (level < LEVEL_POW)
        return parse_unary(p, true, out_node);
    TRY(parse_math(p, level - 1, out_node), done);
    while (of_level(p->at->kind, level)) {
        const enum tpl_token_kind op = p->at->kind;

        if (op == TOK_TILDE) { /* one node for the whole chain */
            struct tpl_node *first = *out_node;

            TRY(parse_new(p, NODE_CONCAT, out_node), done);
            (*out_node)->list = first;
            last = &first->next;
            while (p->at->kind == TOK_TILDE) {
                p->at++;
                TRY(parse_math(p, level - 1, last), done);
                last = &(*last)->next;
            }
            TRY(parse_check_depth(p, *out_node), done);
            continue;
        }
        struct tpl_node *node = NULL;

        TRY(parse_new(p, NODE_MATH, &node), done);
        p->at++;
        TRY(parse_math(p, level - 1, &right), done);
        node->op = (int)op;
        node->a = *out_node;
        node->b = right;
        TRY(parse_check_depth(p, node), done);
        *out_node = node;
    }
done:
    return st;
}

static bool take_comparison(struct tpl_parser *p, int *out_op)
{
    static const int of_token[TOK_COUNT] = {
        [TOK_EQ] = 1 + CMP_EQ, [TOK_NE] = 1 + CMP_NE, [TOK_LT] = 1 + CMP_LT,
        [TOK_LE] = 1 + CMP_LE, [TOK_GT] = 1 + CMP_GT, [TOK_GE] = 1 + CMP_GE,
    };

    if (of_token[p->at->kind] != 0) {
        *out_op = of_token[p->at->kind] - 1;
        p->at++;
        return true;
    }
    if (parse_skip_name(p, "in")) {
        *out_op = CMP_IN;
        return true;
    }
    if (parse_is_name(p, "not") && p->at[1].kind == TOK_NAME && p->at[1].text.n_bytes == 2 &&
        memcmp(p->at[1].text.data, "in", 2) == 0) {
        p->at += 2;
        *out_op = CMP_NOT_IN;
        return true;
    }
    return false;
}

static enum status parse_compare(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL, **last = NULL;
    enum status st;
    int op = 0;

    TRY(parse_new(p, NODE_COMPARE, &node), done);
    TRY(parse_math(p, LEVEL_ADD, &node->a), done);
    for (last = &node->list; take_comparison(p, &op); last = &(*last)->next) {
        TRY(parse_new(p, NODE_ARG, last), done);
        (*last)->op = op;
        TRY(parse_math(p, LEVEL_ADD, &(*last)->a), done);
        (*last)->depth = (*last)->a->depth;
    }
    *out_node = node->list != NULL ? node : node->a;
    TRY(parse_check_depth(p, node), done);
done:
    return st;
}

static enum status parse_not(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *node = NULL;
    enum status st;

    if (!parse_is_name(p, "not"))
        return parse_compare(p, out_node);
    TRY(parse_enter(p), done);
    TRY(parse_new(p, NODE_NOT, &node), done);
    p->at++;
    TRY(parse_not(p, &node->a), done);
    TRY(parse_check_depth(p, node), done);
    *out_node = node;
    p->depth--;
done:
    return st;
}

static enum status parse_and(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *right = NULL;
    enum status st;

    TRY(parse_not(p, out_node), done);
    while (parse_skip_name(p, "and")) {
        TRY(parse_not(p, &right), done);
        TRY(parse_make(p, NODE_AND, *out_node, right, out_node), done);
    }
done:
    return st;
}

static enum status parse_or(struct tpl_parser *p, struct tpl_node **out_node)
{
    struct tpl_node *right = NULL;
    enum status st;

    TRY(parse_and(p, out_node), done);
    while (parse_skip_name(p, "or")) {
        TRY(parse_and(p, &right), done);
        TRY(parse_make(p, NODE_OR, *out_node, right, out_node), done);
    }
done:
    return st;
}

enum status parse_expression(struct tpl_parser *p, bool with_cond, struct tpl_node **out_node)
{
    const struct tpl_node *unknown = p->unknown;
    struct tpl_node *node = NULL;
    enum status st;

    TRY(parse_enter(p), done);
    TRY(parse_or(p, out_node), done);
    while (with_cond && parse_skip_name(p, "if")) {
        TRY(parse_new(p, NODE_COND, &node), done);
        node->b = *out_node;
        TRY(parse_or(p, &node->a), done);
        if (parse_skip_name(p, "else"))
            TRY(parse_expression(p, true, &node->c), done);
        TRY(parse_check_depth(p, node), done);
        *out_node = node;
        p->unknown = unknown; /* those in here may never be reached */
    }
    p->depth--;
done:
    return st;
}

/* ---- tuples and targets ---------------------------------------------------------------------- */

static bool tuple_ends(const struct tpl_parser *p)
{
    return p->at->kind == TOK_CLOSE_OUTPUT || p->at->kind == TOK_CLOSE_BLOCK ||
           p->at->kind == TOK_RPAREN || parse_is_name(p, "in") || parse_is_name(p, "recursive");
}

/* Things with commas between; one without a comma is itself. */
static enum status parse_commas(struct tpl_parser *p, bool target, bool flag, bool in_brackets,
                                struct tpl_node **out_node)
{
    struct tpl_node *node = NULL, **last = NULL;
    bool is_tuple = false;
    enum status st;

    TRY(parse_enter(p), done);
    TRY(parse_new(p, NODE_TUPLE, &node), done);
    for (last = &node->list; !tuple_ends(p); last = &(*last)->next) {
        TRY(target ? parse_primary(p, flag, last) : parse_expression(p, flag, last), done);
        if (p->at->kind != TOK_COMMA)
            break;
        is_tuple = true;
        p->at++;
    }
    if (!is_tuple && node->list == NULL && !in_brackets)
        return parse_refuse(p, p->at, "expected an expression");
    *out_node = is_tuple || node->list == NULL ? node : node->list;
    TRY(parse_check_depth(p, node), done);
    p->depth--;
done:
    return st;
}

enum status parse_tuple(struct tpl_parser *p, bool with_cond, bool in_brackets,
                        struct tpl_node **out_node)
{
    return parse_commas(p, false, with_cond, in_brackets, out_node);
}

/* In a loop, `loop` is the loop's own. */
static bool is_target(const struct tpl_parser *p, const struct tpl_node *node, bool with_attr)
{
    if (node->kind == NODE_TUPLE) {
        for (const struct tpl_node *one = node->list; one != NULL; one = one->next)
            if (!is_target(p, one, with_attr))
                return false;
        return node->list != NULL;
    }
    if (node->kind == NODE_NAME)
        return node->name != p->t->name_loop || (with_attr && p->n_loops == 0);
    return with_attr && node->kind == NODE_ATTR;
}

enum status parse_target(struct tpl_parser *p, bool with_attr, struct tpl_node **out_node)
{
    const struct tpl_token *begin = p->at;
    const int uses = p->uses;
    const enum status st = parse_commas(p, true, with_attr, false, out_node);

    p->uses = uses;
    if (st == ST_OK && !is_target(p, *out_node, with_attr))
        return template_refuse(p->t, begin->place, "this cannot be assigned to");
    return st;
}
