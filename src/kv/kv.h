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

/*
 * One space of block ids: [L] [N] blocks of a layer, in one piece of memory.  The ranks of a node
 * may share it, each with a pool of its own range of ids; a block is then named by the same id, and
 * reached in the same way, by all of them.
 */
struct kv_space {
    struct kv_layout layout;
    int N;      /* blocks of all ranks that share it */
    void *base; /* borrowed; N * kv_block_bytes(layout), 64-byte aligned.  It may be memory of a
                   GPU: then what is here computes addresses with it, and nobody follows them */
};
/* kv_space_layer - what ops need to address layer l. */
struct ops_kv kv_space_layer(const struct kv_space *space, int layer);
/* kv_space_block - one block of one layer. */
void *kv_space_block(const struct kv_space *space, int layer, int32_t block);

struct kv_pool;

/* kv_pool_create - manage blocks first .. first + n_blocks - 1 of a space.
 *   space  in  copied; its memory outlives the pool
 * Local.  Returns ST_OK, ST_NOMEM. */
enum status kv_pool_create(const struct kv_space *space, int first, int n_blocks,
                           struct kv_pool **out_pool);
/* kv_pool_destroy - logs blocks that were never given back.  Accepts NULL. */
void kv_pool_destroy(struct kv_pool *pool);
int kv_pool_n_blocks(const struct kv_pool *pool);
int kv_pool_n_free(const struct kv_pool *pool);
const struct kv_space *kv_pool_space(const struct kv_pool *pool);

/* kv_pool_take - n blocks, lowest free ids first, contiguous where possible.
 *   out_blocks  out  [n], written only on success
 * Returns ST_OK, ST_AGAIN (fewer than n are free). */
enum status kv_pool_take(struct kv_pool *pool, int n, int32_t *out_blocks);
/* kv_pool_give - take blocks back; giving a free block back is a broken promise (assert). */
void kv_pool_give(struct kv_pool *pool, const int32_t *blocks, int n);
/* kv_pool_poison - fill free blocks with NaN (tests, and `debug` builds); in host memory. */
void kv_pool_poison(struct kv_pool *pool);

#endif
