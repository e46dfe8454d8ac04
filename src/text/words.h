/*
 * words.h - how a text falls into words, within which merging goes on: rules one after another,
 * each cutting the pieces that those before it left.
 */
#ifndef EPIDOTE_TEXT_WORDS_H
#define EPIDOTE_TEXT_WORDS_H

#include "text/internal.h"

enum { MAX_WORD_RULES = 12 };

/* What becomes of what a pattern matches, and of what lies between. */
enum word_cut {
    CUT_ISOLATED,      /* each is a piece */
    CUT_CONTIGUOUS,    /* matches that touch are one piece */
    CUT_REMOVED,       /* matches are dropped */
    CUT_KEPT,          /* what lies between is dropped */
    CUT_WITH_PREVIOUS, /* a match ends the piece before it */
    CUT_WITH_NEXT,     /* a match begins a piece */
    CUT_COUNT
};

struct word_rule {
    const char *pattern;
    enum word_cut cut;
    bool spelled; /* the pattern sees bytes as the byte-level alphabet spells them */
    bool own;     /* the pattern is of this program: see pattern_parse */
};

struct words {
    struct {
        struct pattern *pattern; /* owned */
        enum word_cut cut;
        bool spelled;
    } rules[MAX_WORD_RULES];
    int n_rules;
};

/* words_create - fill an all-zero struct; free it whatever is returned.  Logs with origin.
 * Returns ST_OK, ST_UNSUPPORTED (prints the pattern), ST_NOMEM. */
enum status words_create(struct words *words, const struct word_rule *rules, int n_rules,
                         const char *origin);
void words_free(struct words *words);

/* A walk over the words of one text; all zero is a valid start, and fit to be used again after
 * word_walk_begin. */
struct word_walk {
    const struct words *words;
    const char *text;
    size_t n_bytes, at;
    struct {
        size_t end;            /* of the piece at hand */
        size_t match, n_match; /* the next match, found when looking for the end of what precedes */
        bool dropped;
        struct pattern_trail trail;
    } levels[MAX_WORD_RULES];
};
void word_walk_begin(struct word_walk *walk, const struct words *words, const char *text,
                     size_t n_bytes);
/* word_walk_next - the next word; empty at the end.  Returns ST_OK, ST_NOMEM. */
enum status word_walk_next(struct word_walk *walk, struct text_span *out_word);
void word_walk_free(struct word_walk *walk);

#endif
