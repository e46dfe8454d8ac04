/*
 * pool.c - which blocks are free, and where a layer's blocks lie.
 *
 * Free blocks are bits; taking scans for the first run that is long enough, else takes the lowest
 * free ids, so that tables are contiguous where they can be.
 */
#include <assert.h>

#include "kv/kv.h"

struct kv_pool {
    struct kv_layout layout;
    int n_blocks, n_free;
    uint8_t *base;  /* borrowed */
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

enum status kv_pool_create(const struct kv_layout *layout, int n_blocks, void *base,
                           struct kv_pool **out_pool)
{
    struct kv_pool *pool = host_zalloc(sizeof *pool);

    if (pool == NULL)
        return ST_NOMEM;
    pool->taken = host_zalloc((size_t)n_blocks);
    if (pool->taken == NULL) {
        host_free(pool);
        return ST_NOMEM;
    }
    pool->layout = *layout;
    pool->n_blocks = n_blocks;
    pool->n_free = n_blocks;
    pool->base = base;
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

const struct kv_layout *kv_pool_layout(const struct kv_pool *pool)
{
    return &pool->layout;
}

struct ops_kv kv_pool_layer(const struct kv_pool *pool, int layer)
{
    const struct kv_layout *layout = &pool->layout;

    assert(layer >= 0 && layer < layout->L);
    return (struct ops_kv){
        .type = layout->type,
        .K = layout->K,
        .P = layout->P,
        .E = layout->E,
        .base = pool->base + (size_t)layer * (size_t)pool->n_blocks * kv_layer_block_bytes(layout),
    };
}

/* First block of a run of n free ones, -1 if there is none. */
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
        out_blocks[i++] = id;
    }
    pool->n_free -= n;
    while (pool->first_free < pool->n_blocks && pool->taken[pool->first_free])
        pool->first_free++;
    return ST_OK;
}

void kv_pool_give(struct kv_pool *pool, const int32_t *blocks, int n)
{
    for (int i = 0; i < n; i++) {
        const int32_t id = blocks[i];

        assert(id >= 0 && id < pool->n_blocks && pool->taken[id]);
        pool->taken[id] = 0;
        if (id < pool->first_free)
            pool->first_free = id;
    }
    pool->n_free += n;
}

void kv_pool_poison(struct kv_pool *pool)
{
    const size_t block_bytes = kv_layer_block_bytes(&pool->layout);

    for (int l = 0; l < pool->layout.L; l++) {
        uint8_t *layer = kv_pool_layer(pool, l).base;

        for (int id = 0; id < pool->n_blocks; id++)
            if (!pool->taken[id]) /* all ones is a NaN as bf16 and as float32 */
                memset(layer + (size_t)id * block_bytes, 0xff, block_bytes);
    }
}
