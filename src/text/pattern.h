/*
 * pattern.h - regular expressions as pre-tokenisers use them.
 *
 *   pattern_parse.c   text -> a tree over sets of code points (chars.c)
 *   pattern.c         tree -> program -> one table, walked once per character
 *
 * A pattern matches what a backtracking matcher of the reference finds first: alternatives in
 * order, repeats greedy unless they say otherwise.  There is no backtracking.  Time is linear for
 * the patterns of all known families (tests/unit_long_lines.c); one made to look far ahead of every
 * short match, such as a*b|a, takes the square of a run's length.  What is outside the subset is
 * refused with a reason.
 */
#ifndef EPIDOTE_TEXT_PATTERN_H
#define EPIDOTE_TEXT_PATTERN_H

#include "text/internal.h"

/* ---- sets of code points (chars.c) ----------------------------------------------------------- */

struct code_range {
    uint32_t first, last;
};

/* All zero is the empty set. */
struct char_set {
    struct code_range *ranges; /* owned; ascending and apart after char_set_sort */
    int n_ranges, cap_ranges;
};
enum status char_set_add(struct char_set *set, uint32_t first, uint32_t last);
/* char_set_add_props - all that have one of the properties, or with negate none of them. */
enum status char_set_add_props(struct char_set *set, unsigned props, bool negate);
enum status char_set_negate(struct char_set *set); /* sorts */
void char_set_sort(struct char_set *set);
/* Of sorted sets: whether they share a code point; whether they are equal. */
bool char_set_meets(const struct char_set *a, const struct char_set *b);
bool char_set_same(const struct char_set *a, const struct char_set *b);
void char_set_free(struct char_set *set);

/* ---- the tree (pattern_parse.c) -------------------------------------------------------------- */

enum node_kind {
    NODE_EMPTY,
    NODE_SET,    /* one character of sets[a] */
    NODE_CAT,    /* a, then b */
    NODE_ALT,    /* a, else b */
    NODE_REPEAT, /* a, min to max times; max -1 = any number */
    NODE_LOOK    /* the next character is of sets[a]; with b, or the text ends */
};

struct pattern_node {
    enum node_kind kind;
    int a, b, min, max;
    bool lazy, possessive;
};

enum { PATTERN_MAX_NODES = 2048, PATTERN_MAX_SETS = 64, PATTERN_WHY_CAP = 160 };

struct pattern_tree {
    struct pattern_node nodes[PATTERN_MAX_NODES];
    struct char_set sets[PATTERN_MAX_SETS]; /* owned; sorted */
    int n_nodes, n_sets, root;
};

/* pattern_parse - tree must be all zero; free it whatever is returned.
 *   own      in   also know \p{_DIGIT} and \p{_PUNCT}, the Digits and Punctuation rules
 *   out_why  out  on ST_UNSUPPORTED: what is not understood, and where
 * Returns ST_OK, ST_UNSUPPORTED, ST_NOMEM. */
enum status pattern_parse(const char *text, size_t n_bytes, bool own, struct pattern_tree *tree,
                          char out_why[PATTERN_WHY_CAP]);
void pattern_tree_free(struct pattern_tree *tree);

#endif
