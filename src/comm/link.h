/*
 * link.h - what both ends of a link share.  Private to this room.
 */
#ifndef EPIDOTE_COMM_LINK_H
#define EPIDOTE_COMM_LINK_H

#include "comm/comm.h"

/* Bytes of a piece: layers x blocks. */
uint64_t link_piece_bytes(const struct kv_space *space, const struct wire_piece *piece);

/* link_piece_spans - where a piece lies in a space: layer by layer, blocks that follow each other
 * in memory as one span.
 *   table    in   [piece->block + piece->n_blocks] block ids of the row
 *   scratch  out  reset, then holds the spans; view them as struct byte_span
 * Local.  Returns ST_OK, ST_NOMEM. */
enum status link_piece_spans(const struct kv_space *space, const struct wire_piece *piece,
                             const int32_t *table, struct buf *scratch, int *out_n_spans);

/* Transfers that have been started and not been seen to end, oldest first. */
struct link_moves {
    struct transfer **moves; /* [cap] owned */
    int n, cap;
};
/* link_moves_reserve - room for one more; before the transfer is started, so that none is lost.
 * link_moves_add - takes it over.  link_moves_poll - forget those that have ended; returns how
 * many. link_moves_free - what is still under way is the world's to end. */
enum status link_moves_reserve(struct link_moves *moves);
void link_moves_add(struct link_moves *moves, struct transfer *transfer);
int link_moves_poll(struct link_moves *moves);
void link_moves_free(struct link_moves *moves);

#endif
