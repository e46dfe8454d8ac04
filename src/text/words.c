/*
 * words.c - walks over the words of a text, by rules made of patterns (pattern.c).
 *
 * A piece is to the rule that cuts it a text of its own: what a pattern sees ends where the piece
 * does.  Each rule holds the piece that it has cut last, the next rule cuts that one.
 */
#include "text/words.h"

enum status words_create(struct words *words, const struct word_rule *rules, int n_rules,
                         const char *origin)
{
    char why[256];
    enum status st = ST_OK;

    for (int i = 0; i < n_rules; i++) {
        st = pattern_create(rules[i].pattern, strlen(rules[i].pattern), rules[i].own,
                            &words->rules[i].pattern, why);
        if (st == ST_UNSUPPORTED)
            log_error("%s: pre-tokeniser pattern %.400s is not supported: %s", origin,
                      rules[i].pattern, why);
        if (st != ST_OK)
            return st;
        words->rules[i].cut = rules[i].cut;
        words->rules[i].spelled = rules[i].spelled;
        words->n_rules = i + 1;
    }
    return st;
}

void words_free(struct words *words)
{
    for (int i = 0; i < words->n_rules; i++)
        pattern_destroy(words->rules[i].pattern);
    *words = (struct words){0};
}

void word_walk_begin(struct word_walk *walk, const struct words *words, const char *text,
                     size_t n_bytes)
{
    walk->words = words;
    walk->text = text;
    walk->n_bytes = n_bytes;
    walk->at = 0;
    for (int i = 0; i < MAX_WORD_RULES; i++) {
        walk->levels[i].end = 0;
        walk->levels[i].match = walk->levels[i].n_match = 0;
        walk->levels[i].trail.n_states = 0;
    }
}

void word_walk_free(struct word_walk *walk)
{
    for (int i = 0; i < MAX_WORD_RULES; i++) {
        host_free(walk->levels[i].trail.states);
        walk->levels[i].trail = (struct pattern_trail){0};
    }
}

/* The match of rule i at `from` or, if there is none, the next one before `limit`: its place and
 * length, or limit and 0. */
static enum status find_match(struct word_walk *walk, int i, size_t from, size_t limit)
{
    const bool spelled = walk->words->rules[i].spelled;
    enum status st = ST_OK;

    if (walk->levels[i].n_match > 0 && walk->levels[i].match >= from)
        return ST_OK; /* found before */
    walk->levels[i].match = from;
    walk->levels[i].n_match =
        pattern_match(walk->words->rules[i].pattern, walk->text + from, limit - from, spelled);
    if (walk->levels[i].n_match == 0)
        TRY(pattern_search(walk->words->rules[i].pattern, walk->text, limit, from, spelled,
                           &walk->levels[i].trail, &walk->levels[i].match,
                           &walk->levels[i].n_match),
            done);
done:
    return st;
}

/* The next piece of rule i, from walk->at to at most `limit`, the end of the piece that it cuts. */
static enum status cut(struct word_walk *walk, int i, size_t limit)
{
    const enum word_cut how = walk->words->rules[i].cut;
    const size_t at = walk->at;
    enum status st = ST_OK;

    TRY(find_match(walk, i, at, limit), done);
    const bool matches = walk->levels[i].n_match > 0 && walk->levels[i].match == at;
    size_t end = walk->levels[i].match;

    if (matches || how == CUT_WITH_PREVIOUS)
        end += walk->levels[i].n_match;
    if (matches && how == CUT_CONTIGUOUS) {
        TRY(end < limit ? find_match(walk, i, end, limit) : ST_OK, done);
        while (end < limit && walk->levels[i].n_match > 0 && walk->levels[i].match == end) {
            end += walk->levels[i].n_match;
            TRY(end < limit ? find_match(walk, i, end, limit) : ST_OK, done);
        }
    }
    if (matches && how == CUT_WITH_NEXT && end < limit) {
        TRY(find_match(walk, i, end, limit), done);
        end = walk->levels[i].match;
    }
    walk->levels[i].end = end;
    walk->levels[i].dropped = matches ? how == CUT_REMOVED : how == CUT_KEPT;
    if (end >= limit || walk->levels[i].match < end)
        walk->levels[i].n_match = 0; /* used up */
done:
    return st;
}

enum status word_walk_next(struct word_walk *walk, struct text_span *out_word)
{
    const int n = walk->words->n_rules;
    enum status st = ST_OK;

    while (walk->at < walk->n_bytes) {
        size_t end = walk->n_bytes;
        bool dropped = false;

        for (int i = 0; i < n && !dropped; i++) {
            if (walk->levels[i].end <= walk->at)
                TRY(cut(walk, i, end), done);
            end = walk->levels[i].end;
            dropped = walk->levels[i].dropped;
        }
        *out_word = (struct text_span){walk->text + walk->at, end - walk->at};
        walk->at = end;
        if (!dropped)
            return ST_OK;
    }
    *out_word = (struct text_span){walk->text + walk->n_bytes, 0};
done:
    return st;
}
