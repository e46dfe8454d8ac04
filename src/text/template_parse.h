/*
 * template_parse.h - private to src/text: what the files share that read a template's text.
 */
#ifndef EPIDOTE_TEXT_TEMPLATE_PARSE_H
#define EPIDOTE_TEXT_TEMPLATE_PARSE_H

#include "text/template.h"

/* ---- tokens (template_lex.c) ----------------------------------------------------------------- */

struct tpl_token {
    enum tpl_token_kind kind;
    uint32_t place;
    struct text_span text; /* of texts, names and strings (escapes undone) */
    int64_t integer;
    double number;
};

struct tpl_tokens {
    struct tpl_token *tokens; /* owned, host_free; the last is TOK_END */
    size_t n, cap;
};

/* template_lex - t->text as tokens; texts are views of it or lie in t->arena.
 * Returns ST_OK, ST_UNSUPPORTED (logged with line and column), ST_NOMEM. */
enum status template_lex(const struct template *t, struct tpl_tokens *out_tokens);

/* ---- parsing (template_parse.c, template_expr.c, template_operand.c) --------------------------------------------- */

struct tpl_parser {
    struct template *t;
    const struct tpl_token *at;
    int depth; /* of blocks and brackets */
    /* Unknown filters and tests are refused where they stand, but in `if` and its like, where they
     * are errors when they are reached: as Jinja has it. */
    int conditional;
    const struct tpl_node *unknown; /* the first that is not refused yet */
    int n_loops;                    /* loops around, within the macro */
    int uses;                       /* enum tpl_uses of names seen so far */
};

enum status template_parse(struct template *t, const struct tpl_tokens *tokens);
enum status parse_new(struct tpl_parser *p, enum tpl_node_kind kind, struct tpl_node **out_node);
enum status parse_refuse(const struct tpl_parser *p, const struct tpl_token *token,
                         const char *what);
enum status parse_expect(struct tpl_parser *p, enum tpl_token_kind kind);
bool parse_is_name(const struct tpl_parser *p, const char *name);
bool parse_skip_name(struct tpl_parser *p, const char *name);
enum status parse_enter(struct tpl_parser *p);
/* parse_make - a node at the current token with these parts. */
enum status parse_make(struct tpl_parser *p, enum tpl_node_kind kind, struct tpl_node *a,
                       struct tpl_node *b, struct tpl_node **out_node);
/* parse_check_depth - when all parts of an expression's node are in place. */
enum status parse_check_depth(const struct tpl_parser *p, struct tpl_node *node);
enum status parse_primary(struct tpl_parser *p, bool with_attr, struct tpl_node **out_node);
enum status parse_postfix(struct tpl_parser *p, struct tpl_node **node);
enum status parse_filters_and_tests(struct tpl_parser *p, struct tpl_node **node);
/* parse_take_name - a name as its number. */
enum status parse_take_name(struct tpl_parser *p, int *out_name);
/* parse_expression - with_cond: `a if b else c` at its top is part of it. */
enum status parse_expression(struct tpl_parser *p, bool with_cond, struct tpl_node **out_node);
/* parse_tuple - expressions with commas between become a tuple; may end before `in`. */
enum status parse_tuple(struct tpl_parser *p, bool with_cond, bool in_brackets,
                        struct tpl_node **out_node);
/* parse_target - what can be assigned to: names, tuples of names, with_attr: namespace.name. */
enum status parse_target(struct tpl_parser *p, bool with_attr, struct tpl_node **out_node);
/* parse_filters - `|a|b(c)` behind subject, or with no_pipe the first without its `|`. */
enum status parse_filters(struct tpl_parser *p, struct tpl_node *subject, bool no_pipe,
                          struct tpl_node **out_node);

#endif
