/*
 * chars.c - what a code point is, sets of code points, and the byte-to-unicode alphabet of GPT-2.
 *
 * Sets are what patterns are made of (pattern_parse.c).  The facts are in char_ranges.c.
 */
#include <stdlib.h>

#include "text/pattern.h"

enum { LAST_CODE = 0x10ffff };

unsigned char_props(uint32_t code)
{
    int low = 0, high = n_char_ranges;

    while (low < high) {
        const int middle = (low + high) / 2;

        if (char_ranges[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n_char_ranges && char_ranges[low].first <= code
               ? char_class_props[char_ranges[low].class]
               : 0;
}

/* ---- sets ----------------------------------------------------------------------------------- */

enum status char_set_add(struct char_set *set, uint32_t first, uint32_t last)
{
    if (set->n_ranges > 0 && set->ranges[set->n_ranges - 1].last + 1 == first) {
        set->ranges[set->n_ranges - 1].last = last;
        return ST_OK;
    }
    if (set->n_ranges == set->cap_ranges) {
        const int cap = set->cap_ranges > 0 ? set->cap_ranges * 2 : 16;
        struct code_range *moved = host_realloc(set->ranges, (size_t)cap * sizeof *moved);

        if (moved == NULL)
            return ST_NOMEM;
        set->ranges = moved;
        set->cap_ranges = cap;
    }
    set->ranges[set->n_ranges++] = (struct code_range){first, last};
    return ST_OK;
}

static int by_first(const void *a, const void *b)
{
    const struct code_range *left = a, *right = b;

    return (left->first > right->first) - (left->first < right->first);
}

void char_set_sort(struct char_set *set)
{
    int n = 0;

    if (set->n_ranges == 0)
        return;
    qsort(set->ranges, (size_t)set->n_ranges, sizeof *set->ranges, by_first);
    for (int i = 1; i < set->n_ranges; i++) {
        struct code_range *last = &set->ranges[n];

        if (set->ranges[i].first > last->last + 1)
            set->ranges[++n] = set->ranges[i];
        else if (set->ranges[i].last > last->last)
            last->last = set->ranges[i].last;
    }
    set->n_ranges = n + 1;
}

enum status char_set_negate(struct char_set *set)
{
    struct char_set out = {0};
    uint32_t next = 0;
    enum status st = ST_OK;

    char_set_sort(set);
    for (int i = 0; i < set->n_ranges; i++) {
        if (set->ranges[i].first > next)
            TRY(char_set_add(&out, next, set->ranges[i].first - 1), err);
        next = set->ranges[i].last + 1;
    }
    if (next <= LAST_CODE)
        TRY(char_set_add(&out, next, LAST_CODE), err);
    char_set_free(set);
    *set = out;
    return ST_OK;
err:
    char_set_free(&out);
    return st;
}

enum status char_set_add_props(struct char_set *set, unsigned props, bool negate)
{
    struct char_set with = {0};
    enum status st = ST_OK;

    for (int i = 0; i < n_char_ranges; i++)
        if (char_class_props[char_ranges[i].class] & props)
            TRY(char_set_add(&with, char_ranges[i].first, char_ranges[i].last), done);
    if (negate)
        TRY(char_set_negate(&with), done);
    for (int i = 0; i < with.n_ranges; i++)
        TRY(char_set_add(set, with.ranges[i].first, with.ranges[i].last), done);
done:
    char_set_free(&with);
    return st;
}

bool char_set_meets(const struct char_set *a, const struct char_set *b)
{
    for (int i = 0, j = 0; i < a->n_ranges && j < b->n_ranges;) {
        if (a->ranges[i].last < b->ranges[j].first)
            i++;
        else if (b->ranges[j].last < a->ranges[i].first)
            j++;
        else
            return true;
    }
    return false;
}

bool char_set_same(const struct char_set *a, const struct char_set *b)
{
    return a->n_ranges == b->n_ranges &&
           (a->n_ranges == 0 ||
            memcmp(a->ranges, b->ranges, (size_t)a->n_ranges * sizeof *a->ranges) == 0);
}

void char_set_free(struct char_set *set)
{
    host_free(set->ranges);
    *set = (struct char_set){0};
}

/* ---- the alphabet --------------------------------------------------------------------------- */

/* Printable Latin-1 bytes stand for themselves; the 68 others are U+0100 and on, in byte order. */
uint32_t alphabet_code(uint8_t byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7f && byte <= 0xa0)
        return 0x121u + (byte - 0x7fu);
    return byte == 0xad ? 0x143 : byte;
}

int alphabet_byte(uint32_t code)
{
    if (code >= 0x100 && code <= 0x120)
        return (int)(code - 0x100);
    if (code >= 0x121 && code <= 0x142)
        return (int)(code - 0x121 + 0x7f);
    if (code == 0x143)
        return 0xad;
    return (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xff && code != 0xad)
               ? (int)code
               : -1;
}
