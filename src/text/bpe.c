/*
 * bpe.c - byte-pair merges of one word: always the pair of lowest rank, of those the leftmost.
 *
 * The word is a linked list of symbols in an array; a heap holds rank and place of every pair that
 * can merge.  A heap entry whose pair has changed since is found out when it comes up.
 */
#include "text/internal.h"

enum { SCRATCH_MIN = 64 };

static size_t slot_of(const struct bpe *bpe, uint64_t pair)
{
    uint64_t h = pair * 0x9e3779b97f4a7c15u;

    return (size_t)(h ^ h >> 32) & bpe->mask;
}

/* The merge of two neighbours; NULL if there is none. */
static const struct bpe_merge *merge_of(const struct bpe *bpe, int32_t left, int32_t right)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    for (size_t i = slot_of(bpe, pair);; i = (i + 1) & bpe->mask) {
        if (bpe->slots[i].id < 0)
            return NULL;
        if (bpe->slots[i].pair == pair)
            return &bpe->slots[i];
    }
}

enum status bpe_create(struct bpe *bpe, int n_merges)
{
    size_t n_slots = 16;

    while (n_slots < (size_t)n_merges * 2)
        n_slots *= 2;
    bpe->slots = host_alloc(n_slots * sizeof *bpe->slots);
    if (bpe->slots == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i < n_slots; i++)
        bpe->slots[i].id = -1;
    bpe->mask = n_slots - 1;
    return ST_OK;
}

void bpe_destroy(struct bpe *bpe)
{
    host_free(bpe->slots);
    bpe->slots = NULL;
}

bool bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = slot_of(bpe, pair);

    for (; bpe->slots[i].id >= 0; i = (i + 1) & bpe->mask)
        if (bpe->slots[i].pair == pair)
            return false;
    bpe->slots[i] = (struct bpe_merge){.pair = pair, .rank = rank, .id = id};
    return true;
}

/* ---- the symbols of a word ------------------------------------------------------------------- */

/* Each merge takes one pair away and makes at most two, so the heap never holds more than the n - 1
 * first pairs and n - 1 more. */
enum status bpe_word_begin(struct bpe_word *word, size_t n)
{
    word->n_symbols = 0;
    if (n > word->cap_symbols) {
        const size_t cap = n > SCRATCH_MIN ? n : SCRATCH_MIN;
        struct bpe_symbol *symbols = host_realloc(word->symbols, cap * sizeof *symbols);

        if (symbols == NULL)
            return ST_NOMEM;
        word->symbols = symbols;
        word->cap_symbols = cap;
    }
    if (n * 2 > word->cap_heap) {
        const size_t cap = n > SCRATCH_MIN ? n * 2 : SCRATCH_MIN * 2;
        uint64_t *heap = host_realloc(word->heap, cap * sizeof *heap);

        if (heap == NULL)
            return ST_NOMEM;
        word->heap = heap;
        word->cap_heap = cap;
    }
    return ST_OK;
}

void bpe_word_free(struct bpe_word *word)
{
    host_free(word->symbols);
    host_free(word->heap);
    *word = (struct bpe_word){0};
}

/* ---- heap of rank << 32 | place, lowest on top ---------------------------------------------- */

static void heap_sink(uint64_t *heap, size_t n, size_t at)
{
    const uint64_t entry = heap[at];

    for (size_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= entry)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

static void heap_push(uint64_t *heap, size_t n, uint64_t entry)
{
    size_t at = n;

    for (; at > 0 && heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = entry;
}

/* ---- one word ------------------------------------------------------------------------------- */

/* The merge of the symbol at `place` with its right neighbour, NULL if there is none. */
static const struct bpe_merge *merge_at(const struct bpe *bpe, const struct bpe_symbol *symbols,
                                        int32_t place)
{
    const struct bpe_symbol *left = &symbols[place];

    if (left->id < 0 || left->next < 0)
        return NULL;
    return merge_of(bpe, left->id, symbols[left->next].id);
}

static uint64_t heap_entry(const struct bpe_merge *merge, int32_t place)
{
    return (uint64_t)(uint32_t)merge->rank << 32 | (uint32_t)place;
}

/* Merge until no pair is left. */
static void merge_all(const struct bpe *bpe, struct bpe_symbol *symbols, int32_t n, uint64_t *heap)
{
    const struct bpe_merge *merge = NULL;
    size_t n_heap = 0;

    for (int32_t i = 0; i + 1 < n; i++)
        if ((merge = merge_at(bpe, symbols, i)) != NULL)
            heap[n_heap++] = heap_entry(merge, i);
    for (size_t i = n_heap / 2; i-- > 0;)
        heap_sink(heap, n_heap, i);

    while (n_heap > 0) {
        const uint64_t top = heap[0];
        const int32_t place = (int32_t)(uint32_t)top;

        heap[0] = heap[--n_heap];
        if (n_heap > 0)
            heap_sink(heap, n_heap, 0);
        merge = merge_at(bpe, symbols, place);
        if (merge == NULL || heap_entry(merge, place) != top)
            continue; /* the pair has changed since */

        struct bpe_symbol *left = &symbols[place], *right = &symbols[left->next];
        left->id = merge->id;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0)
            symbols[left->next].prev = place;
        if ((merge = merge_at(bpe, symbols, place)) != NULL)
            heap_push(heap, n_heap++, heap_entry(merge, place));
        if (left->prev >= 0 && (merge = merge_at(bpe, symbols, left->prev)) != NULL)
            heap_push(heap, n_heap++, heap_entry(merge, left->prev));
    }
}

void bpe_merge(const struct bpe *bpe, struct bpe_word *word)
{
    if (word->n_symbols == 0)
        return;
    word->symbols[word->n_symbols - 1].next = -1;
    merge_all(bpe, word->symbols, word->n_symbols, word->heap);
}
