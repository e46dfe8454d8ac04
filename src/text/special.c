/*
 * special.c - finds special tokens in text: a trie walked from each place where one can begin.
 *
 * Time is at most bytes of text times bytes of the longest token.  Tokens may ask to take white
 * space around them with them, or not to be found inside a word.
 */
#include "text/internal.h"

struct special_node {
    int32_t child, sibling; /* node numbers, 0 = none: node 0 is the root */
    int32_t id;             /* token that ends here, -1 = none */
    uint8_t byte;
};

static enum status node_add(struct special_set *set, uint8_t byte, int32_t *out_node)
{
    if (set->n_nodes == set->cap_nodes) {
        const int cap = set->cap_nodes > 0 ? set->cap_nodes * 2 : 64;
        struct special_node *moved = host_realloc(set->nodes, (size_t)cap * sizeof *moved);

        if (moved == NULL)
            return ST_NOMEM;
        set->nodes = moved;
        set->cap_nodes = cap;
    }
    set->nodes[set->n_nodes] = (struct special_node){.id = -1, .byte = byte};
    *out_node = set->n_nodes++;
    return ST_OK;
}

static int32_t child_of(const struct special_set *set, int32_t node, uint8_t byte)
{
    if (node == 0)
        return set->first[byte]; /* the root is asked for each byte of a text */
    int32_t child = set->nodes[node].child;

    while (child != 0 && set->nodes[child].byte != byte)
        child = set->nodes[child].sibling;
    return child;
}

enum status special_set_add(struct special_set *set, const char *text, size_t n_bytes, int32_t id)
{
    enum status st = ST_OK;
    int32_t node = 0, child = 0;

    if (set->n_nodes == 0)
        TRY(node_add(set, 0, &node), done);
    for (size_t i = 0; i < n_bytes; i++, node = child) {
        child = child_of(set, node, (uint8_t)text[i]);
        if (child != 0)
            continue;
        TRY(node_add(set, (uint8_t)text[i], &child), done);
        set->nodes[child].sibling = set->nodes[node].child;
        set->nodes[node].child = child;
        if (node == 0)
            set->first[(uint8_t)text[i]] = child;
    }
    set->nodes[node].id = id;
done:
    return st;
}

void special_set_free(struct special_set *set)
{
    host_free(set->nodes);
    *set = (struct special_set){0};
}

int32_t special_set_find(const struct special_set *set, const char *text, size_t n_bytes,
                         size_t *out_at, size_t *out_n_bytes)
{
    if (set->n_nodes == 0)
        return -1;
    for (size_t at = 0; at < n_bytes; at++) {
        int32_t found = -1;
        int32_t node = child_of(set, 0, (uint8_t)text[at]);

        for (size_t end = at + 1; node != 0; end++) {
            if (set->nodes[node].id >= 0) {
                found = set->nodes[node].id;
                *out_n_bytes = end - at;
            }
            node = end < n_bytes ? child_of(set, node, (uint8_t)text[end]) : 0;
        }
        if (found >= 0) {
            *out_at = at;
            return found;
        }
    }
    return -1;
}

/* ---- one after another ---------------------------------------------------------------------- */

static bool is_kind_of(const char *text, unsigned props, size_t *out_n)
{
    return (char_props(utf8_decode(text, out_n)) & props) != 0;
}

/* Where the character before text[at] begins; at > 0. */
static size_t step_back(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((uint8_t)text[at] & 0xc0) == 0x80);
    return at;
}

/* Whether the token that stands at [at, end) has a word on one of its sides. */
static bool in_word(const struct special_finder *f, size_t at, size_t end)
{
    size_t n = 0;

    return (at > 0 && is_kind_of(f->text + step_back(f->text, at), CHAR_WORD, &n)) ||
           (end < f->n_bytes && is_kind_of(f->text + end, CHAR_WORD, &n));
}

bool special_next(struct special_finder *f)
{
    const uint8_t *flags = f->tokenizer->flags;
    size_t at = 0, n = 0;

    if (f->id_end > f->begin)
        f->begin = f->id_end;
    if (f->from < f->begin)
        f->from = f->begin;
    while (f->from < f->end) {
        f->id = special_set_find(f->set, f->text + f->from, f->end - f->from, &at, &n);
        if (f->id < 0)
            break;
        const unsigned how = flags != NULL ? flags[f->id] : 0;
        size_t begin = f->from + at, end = begin + n;

        f->from = end;
        if ((how & TOKEN_SINGLE_WORD) && in_word(f, begin, end))
            continue;
        while ((how & TOKEN_LSTRIP) && begin > f->begin &&
               is_kind_of(f->text + step_back(f->text, begin), CHAR_SPACE, &n))
            begin = step_back(f->text, begin);
        while ((how & TOKEN_RSTRIP) && end < f->n_bytes &&
               is_kind_of(f->text + end, CHAR_SPACE, &n))
            end += n;
        f->at = begin;
        f->id_end = end;
        if (f->from < end)
            f->from = end;
        return true;
    }
    f->id_end = f->begin;
    return false;
}
