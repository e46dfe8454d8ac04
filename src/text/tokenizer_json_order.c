/*
 * tokenizer_json_order.c - whether the order in which added tokens are looked for matters.  Called
 * by tokenizer_json.c.
 */
#include <stdlib.h>

#include "text/tokenizer_json.h"

enum { MAX_PAIRS = 10 * 1000 * 1000 };

struct added {
    const char *text;
    size_t n_bytes;
    bool normalized, control, late; /* late: looked for in normal form */
};

/* Whether in some text `a` begins before `b` and overlaps it, or begins with it and is longer: what
 * a search for both finds is then `a`. */
static bool can_lead(const struct added *a, const struct added *b)
{
    for (size_t at = 0; at < a->n_bytes; at++) {
        const size_t left = a->n_bytes - at, n = left < b->n_bytes ? left : b->n_bytes;

        if (memcmp(a->text + at, b->text, n) == 0 && (at > 0 || a->n_bytes > b->n_bytes))
            return true;
    }
    return false;
}

/* What a search finds of two overlapping tokens. */
enum winner { LEADER, FIRST, SECOND };

static enum winner winner_of(int first_stage, int second_stage)
{
    return first_stage == second_stage ? LEADER : first_stage < second_stage ? FIRST : SECOND;
}

/* This tokeniser looks for control tokens, then for user-defined ones. */
static int stage_of(const struct added *a)
{
    return a->control ? 0 : a->late ? 2 : 1;
}

static bool order_matters(const struct added *a, const struct added *b)
{
    /* The reference looks for what is not `normalized` first. */
    const enum winner theirs = winner_of(a->normalized, b->normalized);
    const enum winner ours = winner_of(stage_of(a), stage_of(b));

    if (theirs == ours)
        return false;
    /* Where a leads, FIRST is LEADER; where b does, SECOND is. */
    return (can_lead(a, b) && (theirs == SECOND) != (ours == SECOND)) ||
           (can_lead(b, a) && (theirs == FIRST) != (ours == FIRST));
}

/* Tokens of one kind are found in one search, here and there. */
static int kind_of(const struct added *a)
{
    return 2 * a->control + a->normalized;
}

static int by_kind(const void *a, const void *b)
{
    return kind_of(a) - kind_of(b);
}

static enum status check_pairs(const struct loader *l, const struct added *list, size_t n)
{
    size_t n_pairs = 0;

    for (size_t i = 0, other = 0; i < n; i++) {
        while (other < n && kind_of(&list[other]) == kind_of(&list[i]))
            other++;
        n_pairs += n - other;
        if (n_pairs > MAX_PAIRS) {
            log_error("%s: %zu added_tokens of mixed kinds are too many", l->path, n);
            return ST_UNSUPPORTED;
        }
        for (size_t j = other; j < n; j++)
            if (order_matters(&list[i], &list[j])) {
                log_error("%s: added_tokens \"%.60s\" and \"%.60s\" overlap, and their flags "
                          "special and normalized put them in an order that is not supported",
                          l->path, list[i].text, list[j].text);
                return ST_UNSUPPORTED;
            }
    }
    return ST_OK;
}

enum status loader_check_order(const struct loader *l, const json_t *added)
{
    const size_t n = json_array_size(added);
    struct added *list = host_alloc(n * sizeof *list);

    if (list == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(added, i), *text = json_object_get(item, "content");

        list[i] = (struct added){json_string_value(text), json_string_length(text),
                                 json_is_true(json_object_get(item, "normalized")),
                                 json_is_true(json_object_get(item, "special")), false};
        list[i].late = list[i].normalized && !list[i].control && l->rules.n_normal > 0;
    }
    qsort(list, n, sizeof *list, by_kind);
    const enum status st = check_pairs(l, list, n);
    host_free(list);
    return st;
}
