/*
 * plan.h - pure policy: who does what, in which order, and what it needs.
 *
 * No I/O, no MPI, no clock, no state: all inputs are arguments.
 */
#ifndef EPIDOTE_PLAN_H
#define EPIDOTE_PLAN_H

#include "base/base.h"

/* The kinds of stage.  A rank hosts a set of them. */
enum role { ROLE_COORDINATOR, ROLE_ENCODER, ROLE_PREFILL, ROLE_DECODE, ROLE_COUNT };
const char *role_name(enum role role);

/* plan_need_tok - KV slots a row may come to need: its prompt and every answer token but the last
 * one sampled, bounded by context.  Pure. */
int plan_need_tok(int n_prompt, int max_tokens, int context);
/* plan_blocks - blocks of block_tok tokens that hold n_tok tokens. */
int plan_blocks(int n_tok, int block_tok);
/* plan_output_limit - tokens a row may still generate: max_tokens, cut so that prompt + output <=
 * context.  <= 0: the row does not fit. */
int plan_output_limit(int n_prompt, int max_tokens, int context);

/* What one rank's KV pool may be. */
struct plan_kv_args {
    int context, block_tok, decode_batch; /* tokens, tokens, rows */
    size_t block_bytes;                   /* of all layers */
    uint64_t available_bytes; /* free on this host, shared by n_sharing ranks; 0 = unknown */
    uint64_t weights_bytes;   /* of each rank; they come first */
    int n_sharing;
    int64_t asked_mib; /* job option; 0 = choose */
};
/* plan_kv_blocks - blocks to reserve: what was asked for, else enough for decode_batch rows of full
 * context, at most a quarter of what the weights leave of this rank's share of the memory.
 *   err  out  why it cannot be: a pool must hold one row of full context
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

#endif
