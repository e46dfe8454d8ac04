/*
 * kv.h - the KV cache: block layout (one truth, versioned) and the pool of blocks.
 *
 * Later in this room: prefix index, tiers.
 */
#ifndef EPIDOTE_KV_H
#define EPIDOTE_KV_H

#include "ops/ops.h"

/* Version of the layout below and of ops_kv_index; every transfer header carries it. */
enum { KV_LAYOUT_VERSION = 1 };

/* Layer-major: [L] [N] [2] [K] [P*E] of type.  Both ends of a link must agree on all of it. */
struct kv_layout {
    enum ops_type type;
    int L, K, P, E;
};
/* kv_layout_id - one number that differs when version, type or shape differ. */
uint64_t kv_layout_id(const struct kv_layout *layout);
/* kv_layer_block_bytes - one block of one layer; kv_block_bytes - of all layers. */
size_t kv_layer_block_bytes(const struct kv_layout *layout);
size_t kv_block_bytes(const struct kv_layout *layout);

struct kv_pool;

/* kv_pool_create - manage n_blocks blocks in memory that the caller owns.
 *   base  in  n_blocks * kv_block_bytes(layout), 64-byte aligned, borrowed; outlives the pool
 * Local.  Returns ST_OK, ST_NOMEM. */
enum status kv_pool_create(const struct kv_layout *layout, int n_blocks, void *base,
                           struct kv_pool **out_pool);
/* kv_pool_destroy - logs blocks that were never given back.  Accepts NULL. */
void kv_pool_destroy(struct kv_pool *pool);
int kv_pool_n_blocks(const struct kv_pool *pool);
int kv_pool_n_free(const struct kv_pool *pool);
const struct kv_layout *kv_pool_layout(const struct kv_pool *pool);
/* kv_pool_layer - what ops need to address layer l. */
struct ops_kv kv_pool_layer(const struct kv_pool *pool, int layer);

/* kv_pool_take - n blocks, lowest free ids first, contiguous where possible.
 *   out_blocks  out  [n], written only on success
 * Returns ST_OK, ST_AGAIN (fewer than n are free). */
enum status kv_pool_take(struct kv_pool *pool, int n, int32_t *out_blocks);
/* kv_pool_give - take blocks back; giving a free block back is a broken promise (assert). */
void kv_pool_give(struct kv_pool *pool, const int32_t *blocks, int n);
/* kv_pool_poison - fill free blocks with NaN (tests, and `debug` builds). */
void kv_pool_poison(struct kv_pool *pool);

#endif
