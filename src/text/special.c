/*
 * special.c - finds special tokens in text: a trie walked from each place where one can begin.
 *
 * Time is at most bytes of text times bytes of the longest token.
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
