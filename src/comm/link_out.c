/*
 * link_out.c - prefill's end of the links: where a row's KV is written, and how it leaves.
 *
 *   self, shm   decode's own blocks; nothing leaves
 *   mpi         own blocks ──┬─ layer 0 1 2 │ 3 4 5 │ ... collected until a piece is big enough
 *                            └─ per piece: PIECE (which part), then its bytes (world_put, tag slot)
 *
 * A piece holds whole blocks: a block that a chunk leaves half full goes with the chunk that fills
 * it, or the last.  Own blocks are free again when the last byte has left, which may be after the
 * row itself is gone; until then the slot's next row waits.
 */
#include <assert.h>

#include "comm/link.h"

/* A row that goes by `mpi`. */
struct leaving {
    int32_t slot;
    int decode, n_prompt, n_blocks;
    struct wire_piece piece; /* being collected; n_layers 0 = none */
    int n_pieces;
    bool ended; /* prefill is done with it */
    struct link_moves moves;
    struct leaving *next;
    int32_t blocks[]; /* [n_blocks] of the own pool */
};

struct link_out {
    struct link_out_args args;
    enum link_kind *kinds; /* [n_decode] owned */
    struct leaving **rows; /* [n_slots] owned; NULL = not by `mpi` */
    struct leaving *first; /* all of them */
    uint64_t layout_id;
    struct buf spans, payload; /* scratch */
    struct link_figures figures;
};

enum status link_out_create(const struct link_out_args *args, struct link_out **out_link)
{
    struct link_out *link = host_zalloc(sizeof *link);

    if (link == NULL)
        return ST_NOMEM;
    link->args = *args;
    link->layout_id = kv_layout_id(&args->space.layout);
    link->kinds = host_alloc((size_t)args->n_decode * sizeof *link->kinds);
    link->rows = host_zalloc((size_t)args->n_slots * sizeof(struct leaving *));
    if (link->kinds == NULL || link->rows == NULL) {
        link_out_destroy(link);
        return ST_NOMEM;
    }
    memcpy(link->kinds, args->kinds, (size_t)args->n_decode * sizeof *link->kinds);
    *out_link = link;
    return ST_OK;
}

/* Forget a row and give its blocks back. */
static void drop(struct link_out *link, struct leaving *row)
{
    struct leaving **at = &link->first;

    while (*at != row)
        at = &(*at)->next;
    *at = row->next;
    link->rows[row->slot] = NULL;
    kv_pool_give(link->args.pool, row->blocks, row->n_blocks);
    link_moves_free(&row->moves);
    host_free(row);
}

void link_out_destroy(struct link_out *link)
{
    if (link == NULL)
        return;
    while (link->first != NULL)
        drop(link, link->first);
    buf_free(&link->spans);
    buf_free(&link->payload);
    host_free(link->rows);
    host_free(link->kinds);
    host_free(link);
}

/* Whether what was granted can hold the prompt, where prefill is to write: a message decides where
 * bytes go, so it is not believed. */
static bool fits(const struct link_out *link, const struct wire_row *row,
                 const struct wire_grant *grant)
{
    const int64_t block_tok = link->args.space.layout.P;

    if (grant->layout_id != link->layout_id || grant->n_blocks < row->n_blocks ||
        grant->n_blocks * block_tok < row->n_prompt)
        return false;
    if (link->kinds[row->decode] == LINK_MPI)
        return true; /* they are decode's to look at */
    for (int i = 0; i < grant->n_blocks; i++)
        if (grant->blocks[i] < 0 || grant->blocks[i] >= link->args.space.N)
            return false;
    return true;
}

enum status link_out_begin(struct link_out *link, const struct wire_row *row,
                           const struct wire_grant *grant, const int32_t **out_blocks)
{
    enum status st;

    assert(row->decode >= 0 && row->decode < link->args.n_decode);
    if (!fits(link, row, grant)) {
        log_error(
            "row %llu of %d tokens: decode/%d granted %d KV blocks of layout %016llx, prefill "
            "needs %d of %016llx with ids below %d: the ranks do not run one job",
            (unsigned long long)row->row, row->n_prompt, row->decode, grant->n_blocks,
            (unsigned long long)grant->layout_id, row->n_blocks,
            (unsigned long long)link->layout_id, link->args.space.N);
        return ST_COMM;
    }
    if (link->rows[row->slot] != NULL) /* whichever way this one goes */
        return ST_AGAIN;
    if (link->kinds[row->decode] != LINK_MPI) {
        *out_blocks = grant->blocks;
        return ST_OK;
    }

    const int n_blocks = plan_blocks(row->n_prompt, link->args.space.layout.P);
    struct leaving *leaving =
        host_zalloc(sizeof *leaving + (size_t)n_blocks * sizeof *leaving->blocks);
    if (leaving == NULL)
        return ST_NOMEM;
    leaving->slot = row->slot;
    leaving->decode = row->decode;
    leaving->n_prompt = row->n_prompt;
    leaving->n_blocks = n_blocks;
    TRY(kv_pool_take(link->args.pool, n_blocks, leaving->blocks), err);
    leaving->next = link->first;
    link->first = leaving;
    link->rows[row->slot] = leaving;
    *out_blocks = leaving->blocks;
    return ST_OK;
err:
    host_free(leaving);
    return st;
}

/* The piece that was collected leaves. */
static enum status send_piece(struct link_out *link, struct leaving *row)
{
    enum status st;
    struct world *world = link->args.world;
    struct transfer *transfer;
    int n_spans;

    row->piece.slot = row->slot;
    row->piece.number = row->n_pieces;
    row->piece.layout_id = link->layout_id;
    row->piece.n_bytes = link_piece_bytes(&link->args.space, &row->piece);
    buf_reset(&link->payload);
    TRY(wire_piece_pack(&row->piece, &link->payload), err);
    TRY(link_piece_spans(&link->args.space, &row->piece, row->blocks, &link->spans, &n_spans), err);
    TRY(link_moves_reserve(&row->moves), err);
    TRY(world_send(world, MSG_PIECE, (struct address){ROLE_PREFILL, link->args.index},
                   (struct address){ROLE_DECODE, row->decode}, link->payload.data,
                   link->payload.n_bytes),
        err);
    TRY(world_put(world, plan_layout_rank(world_layout(world), ROLE_DECODE, row->decode), row->slot,
                  (const struct byte_span *)(const void *)link->spans.data, n_spans, &transfer),
        err);
    link_moves_add(&row->moves, transfer);
    row->n_pieces++;
    link->figures.n_pieces++;
    link->figures.n_bytes += row->piece.n_bytes;
    row->piece.n_layers = 0;
err:
    return st;
}

enum status link_out_layer(struct link_out *link, int32_t slot, int layer, int pos0, int n_tok)
{
    struct leaving *row = link->rows[slot];
    const int P = link->args.space.layout.P, end = pos0 + n_tok;

    if (row == NULL)
        return ST_OK;
    /* Blocks that this range of tokens completes. */
    const int first = pos0 / P;
    const int n_blocks = (end == row->n_prompt ? row->n_blocks : end / P) - first;
    if (n_blocks == 0)
        return ST_OK;
    if (row->piece.n_layers == 0)
        row->piece = (struct wire_piece){.layer = layer, .block = first, .n_blocks = n_blocks};
    assert(row->piece.layer + row->piece.n_layers == layer && row->piece.block == first &&
           row->piece.n_blocks == n_blocks);
    row->piece.n_layers++;
    if (layer + 1 < link->args.space.layout.L &&
        link_piece_bytes(&link->args.space, &row->piece) < LINK_PIECE_BYTES)
        return ST_OK;
    return send_piece(link, row);
}

void link_out_end(struct link_out *link, int32_t slot, int *out_n_pieces)
{
    struct leaving *row = link->rows[slot];

    *out_n_pieces = 0;
    if (row == NULL)
        return;
    *out_n_pieces = row->n_pieces;
    row->ended = true;
    if (row->moves.n == 0)
        drop(link, row);
}

void link_out_poll(struct link_out *link, bool *out_worked)
{
    for (struct leaving *row = link->first, *next; row != NULL; row = next) {
        next = row->next;
        if (link_moves_poll(&row->moves) > 0)
            *out_worked = true;
        if (row->ended && row->moves.n == 0)
            drop(link, row);
    }
}

bool link_out_idle(const struct link_out *link)
{
    return link->first == NULL;
}

struct link_figures link_out_figures(const struct link_out *link)
{
    return link->figures;
}
