/*
 * pool.c - which blocks are free, and where a layer's blocks lie.
 *
 * Free blocks are bits; taking scans for the first run that is long enough, else takes the lowest
 * free ids, so that tables are contiguous where they can be.
 */
#include <assert.h>

#include "kv/kv.h"

struct kv_pool {
    struct kv_space space;
    int32_t first; /* id of its first block; numbers below are from there */
    int n_blocks, n_free;
    uint8_t *taken; /* [n_blocks] owned; 1 = in use */
    int first_free; /* no block below it is free */
};

uint64_t kv_layout_id(const struct kv_layout *layout)
{
    const int32_t facts[6] = {
        KV_LAYOUT_VERSION, (int32_t)layout->type, layout->L, layout->K, layout->P, layout->E};

    return hash_bytes(facts, sizeof facts, 0);
}

size_t kv_layer_block_bytes(const struct kv_layout *layout)
{
    return 2 * (size_t)layout->K * (size_t)layout->P * (size_t)layout->E *
           ops_type_bytes(layout->type);
}

size_t kv_block_bytes(const struct kv_layout *layout)
{
    return (size_t)layout->L * kv_layer_block_bytes(layout);
}

void *kv_space_block(const struct kv_space *space, int layer, int32_t block)
{
    assert(layer >= 0 && layer < space->layout.L && block >= 0 && block < space->N);
    return (uint8_t *)space->base + ((size_t)layer * (size_t)space->N + (size_t)block) *
                                        kv_layer_block_bytes(&space->layout);
}

struct ops_kv kv_space_layer(const struct kv_space *space, int layer)
{
    const struct kv_layout *layout = &space->layout;

    assert(layer >= 0 && layer < layout->L);
    return (struct ops_kv){
        .type = layout->type,
        .K = layout->K,
        .P = layout->P,
        .E = layout->E,
        .base = (uint8_t *)space->base +
                (size_t)layer * (size_t)space->N * kv_layer_block_bytes(layout),
    };
}

enum status kv_pool_create(const struct kv_space *space, int first, int n_blocks,
                           struct kv_pool **out_pool)
{
    struct kv_pool *pool = host_zalloc(sizeof *pool);

    assert(first >= 0 && n_blocks >= 0 && n_blocks <= space->N - first);
    if (pool == NULL)
        return ST_NOMEM;
    pool->taken = host_zalloc((size_t)n_blocks);
    if (pool->taken == NULL) {
        host_free(pool);
        return ST_NOMEM;
    }
    pool->space = *space;
    pool->first = first;
    pool->n_blocks = n_blocks;
    pool->n_free = n_blocks;
    *out_pool = pool;
    return ST_OK;
}

void kv_pool_destroy(struct kv_pool *pool)
{
    if (pool == NULL)
        return;
    if (pool->n_free != pool->n_blocks)
        log_debug("kv pool closed with %d of %d blocks in use", pool->n_blocks - pool->n_free,
                  pool->n_blocks);
    host_free(pool->taken);
    host_free(pool);
}

int kv_pool_n_blocks(const struct kv_pool *pool)
{
    return pool->n_blocks;
}

int kv_pool_n_free(const struct kv_pool *pool)
{
    return pool->n_free;
}

const struct kv_space *kv_pool_space(const struct kv_pool *pool)
{
    return &pool->space;
}

/* Number of the first block of a run of n free ones, -1 if there is none. */
static int find_run(const struct kv_pool *pool, int n)
{
    int run = 0;

    for (int id = pool->first_free; id < pool->n_blocks; id++) {
        run = pool->taken[id] ? 0 : run + 1;
        if (run == n)
            return id - n + 1;
    }
    return -1;
}

enum status kv_pool_take(struct kv_pool *pool, int n, int32_t *out_blocks)
{
    if (n > pool->n_free)
        return ST_AGAIN;
    const int start = find_run(pool, n);
    int id = start >= 0 ? start : pool->first_free;
    for (int i = 0; i < n; id++) {
        if (pool->taken[id])
            continue;
        pool->taken[id] = 1;
        out_blocks[i++] = pool->first + id;
    }
    pool->n_free -= n;
    while (pool->first_free < pool->n_blocks && pool->taken[pool->first_free])
        pool->first_free++;
    return ST_OK;
}

void kv_pool_give(struct kv_pool *pool, const int32_t *blocks, int n)
{
    for (int i = 0; i < n; i++) {
        const int32_t id = blocks[i] - pool->first;

        assert(id >= 0 && id < pool->n_blocks && pool->taken[id]);
        pool->taken[id] = 0;
        if (id < pool->first_free)
            pool->first_free = id;
    }
    pool->n_free += n;
}

void kv_pool_poison(struct kv_pool *pool)
{
    const struct kv_space *space = &pool->space;
    const size_t block_bytes = kv_layer_block_bytes(&space->layout);

    for (int l = 0; l < space->layout.L; l++)
        for (int id = 0; id < pool->n_blocks; id++)
            if (!pool->taken[id]) /* all ones is a NaN as bf16 and as float32 */
                memset(kv_space_block(space, l, pool->first + id), 0xff, block_bytes);
}
