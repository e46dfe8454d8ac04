/* TEST */
/*
 * unit_kv.c - blocks are conserved, contiguous where possible, and every element has its own place.
 */
#include "kv/kv.h"
#include "test.h"

/* (layer, block, key or value, head, position, element) -> bytes: a bijection onto the pool. */
static void layout_is_a_bijection(enum ops_type type, int P)
{
    const struct kv_layout layout = {type, 2, 3, P, 32};
    const int n_blocks = 4;
    const size_t bytes = (size_t)n_blocks * kv_block_bytes(&layout);
    uint8_t *base = pages_map(bytes), *seen = calloc(1, bytes);
    struct kv_pool *pool = NULL;
    size_t wrong = 0;

    CHECK(kv_pool_create(&(struct kv_space){layout, n_blocks, base}, 0, n_blocks, &pool) == ST_OK);
    for (int l = 0; l < layout.L; l++) {
        const struct ops_kv kv = kv_space_layer(kv_pool_space(pool), l);

        for (int b = 0; b < n_blocks; b++)
            for (int v = 0; v < 2; v++)
                for (int h = 0; h < kv.K; h++)
                    for (int p = 0; p < kv.P; p++)
                        for (int e = 0; e < kv.E; e++) {
                            const size_t at =
                                (size_t)((uint8_t *)kv.base - base) +
                                ops_kv_index(&kv, b, v, h, p, e) * ops_type_bytes(type);

                            wrong += at >= bytes || seen[at]++ != 0;
                        }
    }
    CHECK_INT(wrong, 0);
    for (size_t i = 0; i < bytes; i += ops_type_bytes(type))
        wrong += seen[i] != 1;
    CHECK_INT(wrong, 0);
    kv_pool_destroy(pool);
    pages_unmap(base, bytes);
    free(seen);
}

static void take_and_give(void)
{
    const struct kv_layout layout = {OPS_BF16, 1, 1, 16, 16};
    struct kv_pool *pool = NULL;
    int32_t a[4], b[3], c[8];

    CHECK(kv_pool_create(&(struct kv_space){layout, 10, NULL}, 0, 10, &pool) == ST_OK);
    CHECK(kv_pool_take(pool, 4, a) == ST_OK);
    CHECK(kv_pool_take(pool, 3, b) == ST_OK);
    CHECK_INT(kv_pool_n_free(pool), 3);
    CHECK(kv_pool_take(pool, 4, c) == ST_AGAIN);
    kv_pool_give(pool, a, 4);
    CHECK(kv_pool_take(pool, 3, c) == ST_OK);
    CHECK_INT(c[2] - c[0], 2); /* a run, though the free blocks lie in two places */
    kv_pool_give(pool, c, 3);
    CHECK(kv_pool_take(pool, 7, c) == ST_OK); /* no run of 7: both places */
    for (int i = 1; i < 7; i++)
        CHECK(c[i] > c[i - 1]);
    kv_pool_give(pool, c, 7);
    kv_pool_give(pool, b, 3);
    CHECK_INT(kv_pool_n_free(pool), 10);
    kv_pool_destroy(pool);
}

/* Rows of random need come and go: no block is held twice, none is lost. */
static void blocks_are_conserved(unsigned seed)
{
    enum { N = 61, ROWS = 12 };
    const struct kv_layout layout = {OPS_BF16, 1, 1, 16, 16};
    struct kv_pool *pool = NULL;
    int32_t rows[ROWS][N];
    int n[ROWS] = {0}, held = 0, wrong = 0;

    CHECK(kv_pool_create(&(struct kv_space){layout, N, NULL}, 0, N, &pool) == ST_OK);
    for (int turn = 0; turn < 4000; turn++) {
        const int r = rand_r(&seed) % ROWS;

        if (n[r] > 0) {
            kv_pool_give(pool, rows[r], n[r]);
            held -= n[r];
            n[r] = 0;
        } else {
            const int want = 1 + rand_r(&seed) % 20;
            const enum status st = kv_pool_take(pool, want, rows[r]);

            wrong += (st == ST_OK) != (held + want <= N);
            n[r] = st == ST_OK ? want : 0;
            held += n[r];
        }
        uint8_t owners[N] = {0};
        for (int i = 0; i < ROWS; i++)
            for (int k = 0; k < n[i]; k++)
                wrong += owners[rows[i][k]]++ != 0;
        wrong += kv_pool_n_free(pool) != N - held;
    }
    CHECK_INT(wrong, 0);
    kv_pool_destroy(pool);
}

static void layout_ids_differ(void)
{
    const struct kv_layout a = {OPS_BF16, 2, 3, 16, 32};
    struct kv_layout b = a;

    CHECK(kv_layout_id(&a) == kv_layout_id(&b));
    b.P = 32;
    CHECK(kv_layout_id(&a) != kv_layout_id(&b));
    b = a;
    b.type = OPS_F32;
    CHECK(kv_layout_id(&a) != kv_layout_id(&b));
}

int main(void)
{
    for (int P = 16; P <= 64; P *= 2) {
        layout_is_a_bijection(OPS_BF16, P);
        layout_is_a_bijection(OPS_F32, P);
    }
    take_and_give();
    for (unsigned seed = 1; seed <= 5; seed++)
        blocks_are_conserved(seed);
    layout_ids_differ();
    TEST_END();
}
