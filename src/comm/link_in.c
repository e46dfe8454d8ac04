/*
 * link_in.c - decode's end of the links: pieces come into the blocks that were set aside.
 *
 * A PIECE message says which part of a row comes next; only then is its receive posted, straight
 * into the blocks.  With `self` and `shm` no piece ever comes.
 */
#include <assert.h>

#include "comm/link.h"

struct coming {
    int prefill, n_blocks;
    const int32_t *blocks; /* [n_blocks] borrowed */
    int n_pieces;          /* announced */
    struct link_moves moves;
};

struct link_in {
    struct link_in_args args;
    struct coming **rows; /* [n_slots] owned; NULL = not open */
    uint64_t layout_id;
    struct buf spans; /* scratch */
};

enum status link_in_create(const struct link_in_args *args, struct link_in **out_link)
{
    struct link_in *link = host_zalloc(sizeof *link);

    if (link == NULL)
        return ST_NOMEM;
    link->args = *args;
    link->layout_id = kv_layout_id(&args->space.layout);
    link->rows = host_zalloc((size_t)args->n_slots * sizeof(struct coming *));
    if (link->rows == NULL) {
        host_free(link);
        return ST_NOMEM;
    }
    *out_link = link;
    return ST_OK;
}

void link_in_destroy(struct link_in *link)
{
    if (link == NULL)
        return;
    for (int slot = 0; slot < link->args.n_slots; slot++) {
        if (link->rows[slot] != NULL)
            link_moves_free(&link->rows[slot]->moves); /* of a run that failed */
        host_free(link->rows[slot]);
    }
    buf_free(&link->spans);
    host_free(link->rows);
    host_free(link);
}

enum status link_in_open(struct link_in *link, int32_t slot, int prefill, const int32_t *blocks,
                         int n_blocks)
{
    struct coming *row = host_zalloc(sizeof *row);

    assert(slot >= 0 && slot < link->args.n_slots && link->rows[slot] == NULL);
    if (row == NULL)
        return ST_NOMEM;
    row->prefill = prefill;
    row->blocks = blocks;
    row->n_blocks = n_blocks;
    link->rows[slot] = row;
    return ST_OK;
}

/* Whether a piece is the next of an open row, and inside it. */
static bool fits(const struct link_in *link, const struct wire_piece *piece, const struct msg *msg)
{
    if (piece->slot >= link->args.n_slots || link->rows[piece->slot] == NULL)
        return false;
    const struct coming *row = link->rows[piece->slot];
    return row->prefill == msg->from.index && piece->number == row->n_pieces &&
           piece->layout_id == link->layout_id &&
           piece->layer + piece->n_layers <= link->args.space.layout.L &&
           piece->block + piece->n_blocks <= row->n_blocks &&
           piece->n_bytes == link_piece_bytes(&link->args.space, piece);
}

enum status link_in_piece(struct link_in *link, const struct msg *msg)
{
    enum status st;
    struct wire_piece piece;
    struct transfer *transfer;
    struct world *world = link->args.world;
    int n_spans;

    TRY(wire_piece_unpack(msg->payload, msg->n_bytes, &piece), err);
    if (!fits(link, &piece, msg)) {
        log_error(
            "PIECE %d from prefill/%d for slot %d: layers %d + %d, blocks %d + %d, %llu bytes "
            "of layout %016llx do not belong to a row that waits for them",
            piece.number, msg->from.index, piece.slot, piece.layer, piece.n_layers, piece.block,
            piece.n_blocks, (unsigned long long)piece.n_bytes, (unsigned long long)piece.layout_id);
        return ST_COMM;
    }
    struct coming *row = link->rows[piece.slot];
    TRY(link_piece_spans(&link->args.space, &piece, row->blocks, &link->spans, &n_spans), err);
    TRY(link_moves_reserve(&row->moves), err);
    TRY(world_take(world, plan_layout_rank(world_layout(world), ROLE_PREFILL, row->prefill),
                   piece.slot, (const struct byte_span *)(const void *)link->spans.data, n_spans,
                   &transfer),
        err);
    link_moves_add(&row->moves, transfer);
    row->n_pieces++;
err:
    return st;
}

bool link_in_arrived(struct link_in *link, int32_t slot, int n_pieces)
{
    struct coming *row = link->rows[slot];

    link_moves_poll(&row->moves);
    return row->moves.n == 0 && row->n_pieces >= n_pieces;
}

void link_in_close(struct link_in *link, int32_t slot)
{
    struct coming *row = link->rows[slot];

    assert(row != NULL && row->moves.n == 0);
    link->rows[slot] = NULL;
    link_moves_free(&row->moves);
    host_free(row);
}
