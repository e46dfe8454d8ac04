/*
 * plan.h - pure policy: who does what, in which order, and what it needs.
 *
 * No I/O, no MPI, no clock, no state: all inputs are arguments.
 */
#ifndef EPIDOTE_PLAN_H
#define EPIDOTE_PLAN_H

#include "base/base.h"

/* The kinds of stage.  A rank hosts a set of them; every rank hosts a watch. */
enum role { ROLE_COORDINATOR, ROLE_ENCODER, ROLE_PREFILL, ROLE_DECODE, ROLE_WATCH, ROLE_COUNT };
const char *role_name(enum role role);

/* ---- who is where --------------------------------------------------------------------------- */

/* Stage i of a role is hosted by rank first_rank[role] + i. */
struct plan_layout {
    int n_ranks;
    int n_stages[ROLE_COUNT];
    int first_rank[ROLE_COUNT];
};

/* plan_layout_make - divide n_ranks into groups.
 *   n_ranks  in  >= 1
 *   asked    in  [ROLE_COUNT] stages of each role, -1 = choose; only encoder, prefill, decode
 * count; encoder 0: there is nothing to encode Chosen: 1 rank hosts all; 2 ranks: coordinator +
 * prefill | decode; else one coordinator, (n_ranks - 1) / 2 prefill, the rest decode, but that from
 * 4 ranks on one of them is the encoder; with fewer, prefill/0 shares its rank with it. Asked, with
 * p prefill and d decode: p + d = n_ranks: the coordinator shares rank 0 with prefill/0; p + d =
 * n_ranks - 1: it has rank 0 alone; p = d = n_ranks or n_ranks - 1: every (other) rank hosts both;
 * one of them asked: the other is what is left beside a coordinator (beside none if that leaves
 * nothing).  e encoders have e ranks of their own, after the coordinator's, if that leaves what p
 * and d need; else they share the first e of prefill's. Pure.  Returns ST_OK, ST_ROW (err says what
 * the groups are, what the world is, and what would fit). */
enum status plan_layout_make(int n_ranks, const int asked[ROLE_COUNT],
                             struct plan_layout *out_layout, struct row_error *err);
/* plan_roles - the groups that ranks were started for, each with its own role.
 *   roles        in   [n_ranks], -1 = none was given
 *   inout_asked  i/o  as in plan_layout_make; stays as it is if no rank has a role
 * Rank 0 coordinates, alone; encoders, if there are any, prefill and decode follow in this order.
 * Pure.  Returns ST_OK, ST_ROW (err says which rank is out of order, or has no role). */
enum status plan_roles(const int *roles, int n_ranks, int inout_asked[ROLE_COUNT],
                       struct row_error *err);
/* plan_layout_rank - the rank that hosts a stage.  plan_layout_hosts - the index of the role's
 * stage on a rank, -1 if it has none.  plan_layout_computes - whether a rank has an engine. */
int plan_layout_rank(const struct plan_layout *layout, enum role role, int index);
int plan_layout_hosts(const struct plan_layout *layout, int rank, enum role role);
bool plan_layout_computes(const struct plan_layout *layout, int rank);

/* ---- what a row needs, what a pool is, where a row goes -------------------------------------- */

/* plan_need_tok - KV slots a row may come to need: its prompt and every answer token but the last
 * one sampled, bounded by context.  Pure. */
int plan_need_tok(int n_prompt, int max_tokens, int context);
/* plan_blocks - blocks of block_tok tokens that hold n_tok tokens. */
int plan_blocks(int n_tok, int block_tok);
/* plan_output_limit - tokens a row may still generate: max_tokens, cut so that prompt + output <=
 * context.  <= 0: the row does not fit. */
int plan_output_limit(int n_prompt, int max_tokens, int context);

/* plan_shard - the first row of the shard-th (from 0) of n_shards parts of n_rows that differ by
 * one row at most; n_rows for shard = n_shards.  n_shards < 2^32.  Pure. */
uint64_t plan_shard(uint64_t n_rows, uint64_t shard, uint64_t n_shards);

/* What one rank's KV pool may be. */
struct plan_kv_args {
    int context, block_tok, decode_batch; /* tokens, tokens, rows */
    size_t block_bytes;                   /* of all layers */
    size_t table_bytes;       /* that the engine keeps for the positions of one block of context */
    uint64_t available_bytes; /* free on this host, shared by n_sharing ranks; 0 = unknown */
    uint64_t weights_bytes;   /* of each rank; they come first */
    int n_sharing;
    int n_pools;       /* that this rank sets aside, this one counted */
    int64_t asked_mib; /* job option; 0 = choose */
};
/* plan_kv_blocks - blocks to reserve: what was asked for, else enough for decode_batch rows of full
 * context, at most a quarter of what weights and tables leave of this rank's share of the memory;
 * if that holds no row, then exactly one row, which may take three quarters over the rank's pools.
 *   err  out  why it cannot be: context, what it needs, what there is, the largest that would fit
 * Returns ST_OK, ST_ROW (err is set). */
enum status plan_kv_blocks(const struct plan_kv_args *args, int *out_n_blocks,
                           struct row_error *err);

/* A mirror of one decode rank, as the coordinator keeps it. */
struct plan_pool {
    int n_free_blocks, n_rows, max_rows;
};
/* plan_route - which decode rank takes a row of n_blocks: the one with the most free blocks after
 * it, ties to the lowest index; -1 if none has room.  Pure. */
int plan_route(const struct plan_pool *pools, int n_pools, int n_blocks);

/*
 * A row of numbered places of which neighbours are taken together: the embeddings of a row of
 * prompts in prefill's memory, those of an image in an encoder's.  First fit.
 */
struct plan_extent {
    int32_t first, n;
};
struct plan_room {
    int32_t n_places, n_free;
    struct plan_extent *free; /* [cap_free] owned by whoever made the room: ascending, apart */
    int n_extents, cap_free;
};
/* plan_room_init - all places free.  cap_free: one more than what can be taken at a time. */
void plan_room_init(struct plan_room *room, int32_t n_places, struct plan_extent *memory,
                    int cap_free);
/* plan_room_take - the first of n neighbouring places, -1 if there are none (n > 0). */
int32_t plan_room_take(struct plan_room *room, int32_t n);
void plan_room_give(struct plan_room *room, int32_t first, int32_t n);

/* How long the latest rows took, from admission to result (drain.c). */
enum { PLAN_PACE_ROWS = 256 };
struct plan_pace {
    double took_s[PLAN_PACE_ROWS]; /* a ring */
    uint64_t n_rows;
};
void plan_pace_add(struct plan_pace *pace, double took_s);
/* plan_pace_need_s - how long a row that is begun now may take: a quarter more than 95 of 100 of
 * the latest rows took; or, as long as there are few, than the slowest of them and than `oldest_s`,
 * the age of the oldest row in flight.  Pure. */
double plan_pace_need_s(const struct plan_pace *pace, double oldest_s);

/* A mirror of one prefill stage. */
struct plan_queue {
    int64_t waiting_tok; /* prompt tokens admitted to it and not computed yet */
};
/* plan_route_prompt - which prefill stage computes the prompt of a row: `near` (the one that shares
 * a rank with its decode stage; -1 = none), since then nothing has to move; else the one with the
 * fewest waiting tokens, ties to the lowest index.  Pure. */
int plan_route_prompt(const struct plan_queue *queues, int n_queues, int near);

#endif
