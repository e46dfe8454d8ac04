/*
 * link.c - the kinds of link, and the choice between them for a pair of ranks.
 *
 * What a kind does is in link_out.c and link_in.c.
 */
#include "comm/link.h"

static const char *const names[] = {"self", "shm", "mpi", NULL}; /* by enum link_kind */

const char *link_kind_name(enum link_kind kind)
{
    return (unsigned)kind < LINK_KIND_COUNT ? names[kind] : "no link";
}

const char *const *link_names(void)
{
    return names;
}

static bool known(const char *name)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

enum status link_choose(const char *name, bool same_rank, bool shared_space,
                        enum link_kind *out_kind, const char **out_why, struct row_error *err)
{
    const bool any = strcmp(name, "auto") == 0;

    if (!any && !known(name))
        return row_error_set(err, "link = \"%s\" is not in this build: it has auto, self, shm, mpi",
                             name);
    if (same_rank) { /* whatever was asked for: there is nothing to move */
        *out_kind = LINK_SELF;
        *out_why = "same rank";
    } else if (any && shared_space) {
        *out_kind = LINK_SHM;
        *out_why = "same node, shared memory";
    } else if (any) {
        *out_kind = LINK_MPI;
        *out_why = "no shared memory";
    } else if (strcmp(name, "shm") == 0) {
        if (!shared_space)
            return row_error_set(err, "link = \"shm\": this pair of ranks has no memory in "
                                      "common; use link = \"auto\" or \"mpi\"");
        *out_kind = LINK_SHM;
        *out_why = "asked for";
    } else if (strcmp(name, "mpi") == 0) {
        *out_kind = LINK_MPI;
        *out_why = "asked for";
    } else {
        return row_error_set(err, "link = \"self\" needs both ends of each pair on one rank; use "
                                  "link = \"auto\"");
    }
    return ST_OK;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

uint64_t link_piece_bytes(const struct kv_space *space, const struct wire_piece *piece)
{
    return (uint64_t)piece->n_layers * (uint64_t)piece->n_blocks *
           kv_layer_block_bytes(&space->layout);
}

enum status link_piece_spans(const struct kv_space *space, const struct wire_piece *piece,
                             const int32_t *table, struct buf *scratch, int *out_n_spans)
{
    enum status st;
    const size_t block_bytes = kv_layer_block_bytes(&space->layout);
    const int end = piece->block + piece->n_blocks;
    int n_spans = 0;

    buf_reset(scratch);
    for (int layer = piece->layer; layer < piece->layer + piece->n_layers; layer++) {
        for (int i = piece->block, n; i < end; i += n) {
            for (n = 1; i + n < end && table[i + n] == table[i] + n; n++)
                ;
            const struct byte_span span = {kv_space_block(space, layer, table[i]),
                                           (size_t)n * block_bytes};
            TRY(buf_put(scratch, &span, sizeof span), err);
            n_spans++;
        }
    }
    *out_n_spans = n_spans;
    return ST_OK;
err:
    return st;
}

enum status link_moves_reserve(struct link_moves *moves)
{
    const int cap = moves->cap > 0 ? 2 * moves->cap : 8;

    if (moves->n < moves->cap)
        return ST_OK;
    struct transfer **more = host_realloc(moves->moves, (size_t)cap * sizeof(struct transfer *));
    if (more == NULL)
        return ST_NOMEM;
    moves->moves = more;
    moves->cap = cap;
    return ST_OK;
}

void link_moves_add(struct link_moves *moves, struct transfer *transfer)
{
    moves->moves[moves->n++] = transfer;
}

int link_moves_poll(struct link_moves *moves)
{
    int kept = 0, ended;

    for (int i = 0; i < moves->n; i++)
        if (!transfer_done(moves->moves[i]))
            moves->moves[kept++] = moves->moves[i];
    ended = moves->n - kept;
    moves->n = kept;
    return ended;
}

void link_moves_free(struct link_moves *moves)
{
    host_free(moves->moves);
    *moves = (struct link_moves){0};
}
