/*
 * pattern_parse.c - the text of a regular expression into a tree; called by pattern.c.
 *
 * Known: characters, escapes, classes with ranges and \p{..}, . $ | ? * + {n,m}, lazy and
 * possessive repeats, groups (..) (?:..) (?i:..), and (?=x) (?!x) where x is one character or
 * class.  `$` is the end of a line and . no line feed, as in the reference.  Refused with a reason:
 * everything else, and a possessive repeat that would differ from a greedy one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "text/pattern.h"

enum { MAX_DEPTH = 40, MAX_ITEMS = 256, MAX_REPEAT = 1000 };

struct parser {
    const char *text;
    size_t n_bytes, at;
    bool own, fold; /* fold: inside (?i:..) */
    int depth;
    struct pattern_tree *tree;
    char *why;
};

static enum status refuse(const struct parser *p, const char *what)
{
    snprintf(p->why, PATTERN_WHY_CAP, "%s at byte %zu", what, p->at);
    return ST_UNSUPPORTED;
}

static bool next_is(const struct parser *p, const char *word)
{
    const size_t n = strlen(word);

    return p->n_bytes - p->at >= n && memcmp(p->text + p->at, word, n) == 0;
}

static bool take(struct parser *p, const char *word)
{
    if (!next_is(p, word))
        return false;
    p->at += strlen(word);
    return true;
}

static enum status add_node(struct parser *p, const struct pattern_node *node, int *out_node)
{
    if (p->tree->n_nodes == PATTERN_MAX_NODES)
        return refuse(p, "it is too long");
    p->tree->nodes[p->tree->n_nodes] = *node;
    *out_node = p->tree->n_nodes++;
    return ST_OK;
}

/* ---- sets ----------------------------------------------------------------------------------- */

/* Takes the set over, on failure too. */
static enum status add_set(struct parser *p, struct char_set *set, int *out_set)
{
    struct pattern_tree *tree = p->tree;

    char_set_sort(set);
    for (int i = 0; i < tree->n_sets; i++)
        if (char_set_same(&tree->sets[i], set)) {
            char_set_free(set);
            *out_set = i;
            return ST_OK;
        }
    if (tree->n_sets == PATTERN_MAX_SETS) {
        char_set_free(set);
        return refuse(p, "it has too many classes");
    }
    tree->sets[tree->n_sets] = *set;
    *out_set = tree->n_sets++;
    *set = (struct char_set){0};
    return ST_OK;
}

static bool is_letter(uint32_t code)
{
    return (code >= 'A' && code <= 'Z') || (code >= 'a' && code <= 'z');
}

/* One character, in (?i:..) in all its cases: also the long s and the Kelvin sign. */
static enum status add_char(struct parser *p, struct char_set *set, uint32_t code)
{
    enum status st = ST_OK;

    TRY(char_set_add(set, code, code), done);
    if (!p->fold)
        return ST_OK;
    if (code >= 0x80)
        return refuse(p, "a character beyond ASCII in (?i:..) is not supported");
    if (!is_letter(code))
        return ST_OK;
    TRY(char_set_add(set, code ^ 0x20, code ^ 0x20), done);
    if ((code | 0x20) == 's')
        TRY(char_set_add(set, 0x17f, 0x17f), done);
    if ((code | 0x20) == 'k')
        TRY(char_set_add(set, 0x212a, 0x212a), done);
done:
    return st;
}

static enum status add_span(struct parser *p, struct char_set *set, uint32_t first, uint32_t last)
{
    enum status st = ST_OK;

    if (!p->fold)
        return char_set_add(set, first, last);
    if (last >= 0x80)
        return refuse(p, "a character beyond ASCII in (?i:..) is not supported");
    for (uint32_t code = first; code <= last; code++)
        TRY(add_char(p, set, code), done);
done:
    return st;
}

/* \p{..} and \P{..}, of which p->at is behind the letter. */
static enum status add_property(struct parser *p, struct char_set *set, bool negate)
{
    static const struct {
        const char *name;
        unsigned props;
        bool own;
    } known[] = {
        {"{L}", CHAR_LETTER, false},    {"{N}", CHAR_NUMBER, false},    {"{M}", CHAR_M, false},
        {"{P}", CHAR_P, false},         {"{S}", CHAR_S, false},         {"{Lu}", CHAR_LU, false},
        {"{Ll}", CHAR_LL, false},       {"{Lt}", CHAR_LT, false},       {"{Lm}", CHAR_LM, false},
        {"{Lo}", CHAR_LO, false},       {"{Nd}", CHAR_ND, false},       {"{Han}", CHAR_HAN, false},
        {"{_DIGIT}", CHAR_DIGIT, true}, {"{_PUNCT}", CHAR_PUNCT, true},
    };

    if (p->fold)
        return refuse(p, "\\p{..} in (?i:..) is not supported");
    if (take(p, "{^"))
        return refuse(p, "\\p{^..} is not supported");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((p->own || !known[i].own) && take(p, known[i].name))
            return char_set_add_props(set, known[i].props, negate);
    return refuse(p, "this \\p{..} is not supported");
}

/* Hexadecimal digits, at least one; false if there are none. */
static bool take_hex(struct parser *p, int n_max, uint32_t *out_code)
{
    uint32_t code = 0;
    int n = 0;

    for (; n < n_max && p->at < p->n_bytes; n++, p->at++) {
        const char c = p->text[p->at];
        const char *const digits = "0123456789abcdef";
        const char *digit = c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;

        if (digit == NULL)
            break;
        code = code * 16 + (uint32_t)(digit - digits);
    }
    *out_code = code;
    return n > 0;
}

/* What follows a backslash: a class goes to set, and *out_code is -1; else a character's code. */
static enum status read_escape(struct parser *p, struct char_set *set, int64_t *out_code)
{
    static const char plain[] = "\\/.*+?()[]{}|^$-'\"!#%&,:;<=>@_`~ ";
    static const char controls[][2] = {
        {'r', '\r'}, {'n', '\n'}, {'t', '\t'}, {'f', '\f'}, {'v', '\v'}};
    uint32_t code = 0;

    if (p->at >= p->n_bytes)
        return refuse(p, "it ends with a backslash");
    const char c = p->text[p->at++];
    *out_code = -1;
    switch (c) {
    case 'p':
    case 'P':
        return add_property(p, set, c == 'P');
    case 's':
    case 'S':
        return char_set_add_props(set, CHAR_SPACE, c == 'S');
    case 'd':
    case 'D':
        return char_set_add_props(set, CHAR_ND, c == 'D');
    case 'u':
        if (!take_hex(p, 4, &code))
            return refuse(p, "\\u without digits");
        break;
    case 'x':
        if (take(p, "{") ? !take_hex(p, 6, &code) || !take(p, "}") : !take_hex(p, 2, &code))
            return refuse(p, "\\x without digits");
        break;
    default:
        for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++)
            if (c == controls[i][0])
                code = (uint32_t)controls[i][1];
        if (code == 0 && c != '\0' && strchr(plain, c) != NULL)
            code = (uint32_t)c;
        if (code == 0)
            return refuse(p, "this escape is not supported");
    }
    if (code > 0x10ffff)
        return refuse(p, "this code point does not exist");
    *out_code = (int64_t)code;
    return ST_OK;
}

/* A character of a class, or with *out_code -1 a class in it. */
static enum status read_class_item(struct parser *p, struct char_set *set, int64_t *out_code)
{
    size_t n = 0;

    if (p->at >= p->n_bytes)
        return refuse(p, "a class without ]");
    if (next_is(p, "[") || next_is(p, "&&"))
        return refuse(p, "a class inside a class is not supported");
    if (take(p, "\\"))
        return read_escape(p, set, out_code);
    *out_code = (int64_t)utf8_decode(p->text + p->at, &n);
    p->at += n;
    return ST_OK;
}

/* [..], of which p->at is behind the bracket. */
static enum status read_class(struct parser *p, struct char_set *set)
{
    const bool negate = take(p, "^");
    enum status st = ST_OK;
    int64_t first = -1, last = -1;

    if (next_is(p, "]"))
        return refuse(p, "an empty class");
    while (!take(p, "]")) {
        TRY(read_class_item(p, set, &first), done);
        if (first < 0)
            continue;
        if (!next_is(p, "-") || (p->at + 1 < p->n_bytes && p->text[p->at + 1] == ']')) {
            TRY(add_char(p, set, (uint32_t)first), done);
            continue;
        }
        p->at++;
        TRY(read_class_item(p, set, &last), done);
        if (last < first)
            return refuse(p, "a range in a class that is none");
        TRY(add_span(p, set, (uint32_t)first, (uint32_t)last), done);
    }
    if (negate)
        TRY(char_set_negate(set), done);
done:
    return st;
}

/* ---- the tree ------------------------------------------------------------------------------- */

static enum status read_alternatives(struct parser *p, int *out_node);

/* What is one character: to set, and true in *out_is; else p is where it was. */
static enum status read_single(struct parser *p, struct char_set *set, bool *out_is)
{
    enum status st = ST_OK;
    int64_t code = -1;
    size_t n = 0;

    *out_is = true;
    if (take(p, "["))
        return read_class(p, set);
    if (take(p, ".")) {
        TRY(char_set_add(set, '\n', '\n'), done);
        return char_set_negate(set);
    }
    if (take(p, "\\")) {
        TRY(read_escape(p, set, &code), done);
        return code >= 0 ? add_char(p, set, (uint32_t)code) : ST_OK;
    }
    if (p->at >= p->n_bytes || strchr("^$()|?*+", p->text[p->at]) != NULL) {
        *out_is = false;
        return ST_OK;
    }
    code = (int64_t)utf8_decode(p->text + p->at, &n);
    p->at += n;
    st = add_char(p, set, (uint32_t)code);
done:
    return st;
}

static enum status add_look(struct parser *p, struct char_set *set, bool at_end, int *out_node)
{
    struct pattern_node node = {.kind = NODE_LOOK, .b = at_end};
    enum status st = ST_OK;

    TRY(add_set(p, set, &node.a), done);
    st = add_node(p, &node, out_node);
done:
    return st;
}

/* (?=x) and (?!x), of which p->at is behind the sign. */
static enum status read_look(struct parser *p, bool negate, int *out_node)
{
    struct char_set set = {0};
    enum status st = ST_OK;
    bool single = false;

    TRY(read_single(p, &set, &single), done);
    if (!single || !take(p, ")")) {
        st = refuse(p, "looking ahead further than one character is not supported");
        goto done;
    }
    if (negate)
        TRY(char_set_negate(&set), done);
    st = add_look(p, &set, negate, out_node);
done:
    char_set_free(&set);
    return st;
}

static enum status read_group(struct parser *p, int *out_node)
{
    const bool fold = p->fold;
    enum status st = ST_OK;

    if (take(p, "?i:"))
        p->fold = true;
    else if (!take(p, "?:") && next_is(p, "?"))
        return refuse(p, "this kind of group is not supported");
    if (++p->depth > MAX_DEPTH)
        return refuse(p, "groups are nested too deep");
    TRY(read_alternatives(p, out_node), done);
    p->depth--;
    p->fold = fold;
    if (!take(p, ")"))
        return refuse(p, "a group without )");
done:
    return st;
}

static enum status read_atom(struct parser *p, int *out_node)
{
    struct pattern_node node = {.kind = NODE_SET};
    struct char_set set = {0};
    enum status st = ST_OK;
    bool single = false;

    if (take(p, "(?="))
        return read_look(p, false, out_node);
    if (take(p, "(?!"))
        return read_look(p, true, out_node);
    if (take(p, "("))
        return read_group(p, out_node);
    if (take(p, "$")) {
        TRY(char_set_add(&set, '\n', '\n'), done);
        st = add_look(p, &set, true, out_node);
        goto done;
    }
    TRY(read_single(p, &set, &single), done);
    if (!single)
        return refuse(p, next_is(p, "^") ? "^ is not supported" : "nothing to repeat");
    TRY(add_set(p, &set, &node.a), done);
    st = add_node(p, &node, out_node);
done:
    char_set_free(&set);
    return st;
}

static bool take_number(struct parser *p, int *out)
{
    const size_t begin = p->at;
    int n = 0;

    while (p->at < p->n_bytes && p->text[p->at] >= '0' && p->text[p->at] <= '9' && n <= MAX_REPEAT)
        n = n * 10 + (p->text[p->at++] - '0');
    *out = n;
    return p->at > begin;
}

/* ? * + {n} {n,} {n,m}; false where there is none. */
static enum status read_count(struct parser *p, struct pattern_node *node, bool *out_is)
{
    const size_t begin = p->at;
    bool braces = false;

    *out_is = true;
    node->min = next_is(p, "+") ? 1 : 0;
    node->max = next_is(p, "?") ? 1 : -1;
    if (!take(p, "?") && !take(p, "*") && !take(p, "+")) {
        braces = take(p, "{");
        *out_is = braces && take_number(p, &node->min);
        node->max = node->min;
        if (*out_is && take(p, ",") && !take_number(p, &node->max))
            node->max = -1;
        if (*out_is && !take(p, "}"))
            *out_is = false;
        if (!*out_is) {
            p->at = begin;
            return braces ? refuse(p, "this { is not supported; write \\{") : ST_OK;
        }
        if (node->min > MAX_REPEAT || node->max > MAX_REPEAT ||
            (node->max >= 0 && node->max < node->min))
            return refuse(p, "this count of repeats is not supported");
    }
    node->lazy = take(p, "?");
    node->possessive = !node->lazy && !braces && take(p, "+");
    if (next_is(p, "?") || next_is(p, "*") || next_is(p, "+"))
        return refuse(p, "a repeat of a repeat is not supported");
    return ST_OK;
}

/* Whether a node can match without taking a character. */
static bool can_be_empty(const struct pattern_tree *tree, int node)
{
    const struct pattern_node *n = &tree->nodes[node];

    switch (n->kind) {
    case NODE_SET:
        return false;
    case NODE_CAT:
        return can_be_empty(tree, n->a) && can_be_empty(tree, n->b);
    case NODE_ALT:
        return can_be_empty(tree, n->a) || can_be_empty(tree, n->b);
    case NODE_REPEAT:
        return n->min == 0 || can_be_empty(tree, n->a);
    case NODE_EMPTY:
    case NODE_LOOK:
        break;
    }
    return true;
}

static enum status read_item(struct parser *p, int *out_node)
{
    struct pattern_node node = {.kind = NODE_REPEAT};
    enum status st = ST_OK;
    bool repeats = false;

    TRY(read_atom(p, &node.a), done);
    TRY(read_count(p, &node, &repeats), done);
    if (!repeats) {
        *out_node = node.a;
        return ST_OK;
    }
    if (can_be_empty(p->tree, node.a)) /* matchers differ in how they go round without moving */
        return refuse(p, "a repeat of what can be empty is not supported");
    st = add_node(p, &node, out_node);
done:
    return st;
}

/* The class with which a node must begin; -1 if it is none or the node can be empty. */
static int first_set(const struct pattern_tree *tree, int node)
{
    const struct pattern_node *n = &tree->nodes[node];

    if (n->kind == NODE_REPEAT && n->min > 0)
        return first_set(tree, n->a);
    return n->kind == NODE_SET ? n->a : -1;
}

/* A possessive repeat is as a greedy one if what follows always matches, or cannot begin with what
 * the repeat would have to give back. */
static bool possessive_is_greedy(const struct pattern_tree *tree, const int *items, int n)
{
    const struct pattern_node *repeat = &tree->nodes[items[0]];
    bool always = true;

    if (tree->nodes[repeat->a].kind != NODE_SET)
        return false;
    if (n > 1 && first_set(tree, items[1]) >= 0)
        return !char_set_meets(&tree->sets[tree->nodes[repeat->a].a],
                               &tree->sets[first_set(tree, items[1])]);
    for (int i = 1; i < n; i++)
        always = always && can_be_empty(tree, items[i]);
    return always;
}

static enum status read_sequence(struct parser *p, int *out_node)
{
    struct pattern_node node = {.kind = NODE_EMPTY};
    int items[MAX_ITEMS], n = 0;
    enum status st = ST_OK;

    while (p->at < p->n_bytes && !next_is(p, "|") && !next_is(p, ")")) {
        if (n == MAX_ITEMS)
            return refuse(p, "it is too long");
        TRY(read_item(p, &items[n]), done);
        n++;
    }
    for (int i = 0; i < n; i++)
        if (p->tree->nodes[items[i]].possessive &&
            (p->depth > 0 || !possessive_is_greedy(p->tree, items + i, n - i)))
            return refuse(p, "a possessive repeat that matters is not supported");
    if (n == 0)
        return add_node(p, &node, out_node);
    *out_node = items[n - 1];
    for (int i = n - 1; i-- > 0;) {
        node = (struct pattern_node){.kind = NODE_CAT, .a = items[i], .b = *out_node};
        TRY(add_node(p, &node, out_node), done);
    }
done:
    return st;
}

static enum status read_alternatives(struct parser *p, int *out_node)
{
    struct pattern_node node = {.kind = NODE_ALT};
    enum status st = ST_OK;
    int others = 0;

    TRY(read_sequence(p, &node.a), done);
    if (!take(p, "|")) {
        *out_node = node.a;
        return ST_OK;
    }
    /* A loop rather than recursion, so that depth is that of groups: a chain of ALT to the right.
     */
    int *tail = out_node, chain = -1;
    for (;;) {
        TRY(add_node(p, &node, tail), done);
        if (chain >= 0)
            p->tree->nodes[chain].b = *tail;
        chain = *tail;
        tail = &others;
        TRY(read_sequence(p, &node.a), done);
        if (!take(p, "|"))
            break;
    }
    p->tree->nodes[chain].b = node.a;
done:
    return st;
}

enum status pattern_parse(const char *text, size_t n_bytes, bool own, struct pattern_tree *tree,
                          char out_why[PATTERN_WHY_CAP])
{
    struct parser p = {.text = text, .n_bytes = n_bytes, .own = own, .tree = tree, .why = out_why};
    enum status st = ST_OK;

    if (!utf8_valid(text, n_bytes, NULL))
        return refuse(&p, "it is not UTF-8");
    TRY(read_alternatives(&p, &tree->root), done);
    if (p.at < n_bytes)
        return refuse(&p, "a ) without (");
done:
    return st;
}

void pattern_tree_free(struct pattern_tree *tree)
{
    for (int i = 0; i < tree->n_sets; i++)
        char_set_free(&tree->sets[i]);
    tree->n_sets = 0;
}
