/*
 * kernels_test.h - what the tests of kernels share: bf16 arrays, KV blocks full of NaN, the CPU's
 * operations to compare with.
 *
 * The same tests run on a device (tests/gpu/managed.h), which sees what they allocate, and neither
 * stacks nor constants.
 */
#ifndef EPIDOTE_KERNELS_TEST_H
#define EPIDOTE_KERNELS_TEST_H

#include "kernels/launch.h"
#include "tests/ops_test.h"

static const struct ops *ops;
static struct ops_ctx *ctx;
static struct threads *threads;

static inline void begin(void)
{
    ops = ops_list()[0];
    CHECK(threads_create(1, &threads) == ST_OK && ops_ctx_create(threads, &ctx) == ST_OK);
}

static inline void end(void)
{
    ops_ctx_destroy(ctx);
    threads_destroy(threads);
}

static inline uint16_t *nan_bf16(size_t n)
{
    uint16_t *x = aligned_alloc(64, (n * sizeof *x + 127) / 64 * 64);

    memset(x, 0xff, n * sizeof *x);
    return x;
}

static inline uint16_t *random_bf16(size_t n)
{
    uint16_t *x = nan_bf16(n);

    for (size_t i = 0; i < n; i++)
        x[i] = bf16_from_f32(test_normal());
    return x;
}

/* A copy, since a device cannot read what is on a stack. */
static inline int32_t *ints(const int32_t *from, size_t n)
{
    int32_t *x = calloc(n, sizeof *x);

    memcpy(x, from, n * sizeof *x);
    return x;
}

/* Scratch that holds NaN. */
static inline float *poisoned(size_t n)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 127) / 64 * 64);

    memset(x, 0xff, n * sizeof *x);
    return x;
}

/* How many of n bf16 are not the float beside them, rounded. */
static inline int n_unrounded(const uint16_t *got, const float *want, size_t n)
{
    int differ = 0;

    for (size_t i = 0; i < n; i++)
        differ += got[i] != bf16_from_f32(want[i]);
    return differ;
}

/* Normalised mean squared error; NaN where one is. */
static inline double nmse(const float *got, const float *want, size_t n)
{
    double error = 0.0, power = 1e-30;

    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        power += (double)want[i] * want[i];
    }
    return error / power;
}

#define CHECK_NEAR(got, want, n, limit)                                                            \
    do {                                                                                           \
        const double test_nmse = nmse(got, want, n);                                               \
        test_n_checks++;                                                                           \
        if (!(test_nmse < (limit))) {                                                              \
            test_n_failed++;                                                                       \
            fprintf(stderr, "%s:%d: error of %s is %g, not below %g\n", __FILE__, __LINE__, #got,  \
                    test_nmse, limit);                                                             \
        }                                                                                          \
    } while (0)

/* One layer's pool with every slot NaN, and tables of blocks in random order for some sequences. */
struct cache {
    struct ops_kv kv;
    size_t n_bytes;
    int32_t *tables; /* [n_seqs, ld_tables] */
    int ld_tables;
};

static inline struct cache cache_random(int K, int E, int P, int n_seqs, int n_tok)
{
    struct cache c = {.kv = {.type = OPS_BF16, .K = K, .P = P, .E = E}};
    const int each = (n_tok + P - 1) / P, N = n_seqs * each;
    int32_t *ids = calloc((size_t)N, sizeof *ids);

    c.n_bytes = (size_t)N * 2 * (size_t)(K * P * E) * 2;
    c.kv.base = nan_bf16(c.n_bytes / 2);
    c.ld_tables = each + test_between(0, 2);
    c.tables = calloc((size_t)(n_seqs * c.ld_tables), sizeof *c.tables);
    for (int i = 0; i < N; i++)
        ids[i] = i;
    for (int i = N - 1; i > 0; i--) {
        const int j = test_between(0, i);
        const int32_t id = ids[i];

        ids[i] = ids[j];
        ids[j] = id;
    }
    for (int i = 0; i < n_seqs * c.ld_tables; i++)
        c.tables[i] =
            i % c.ld_tables < each ? ids[i / c.ld_tables * each + i % c.ld_tables] : -1000000;
    free(ids);
    return c;
}

/* Random keys and values at positions from .. to of a sequence. */
static inline void cache_fill(struct cache *c, int seq, int from, int to)
{
    const struct ops_kv *kv = &c->kv;

    for (int pos = from > 0 ? from : 0; pos <= to; pos++)
        for (int value = 0; value < 2; value++)
            for (int head = 0; head < kv->K; head++)
                for (int e = 0; e < kv->E; e++)
                    ((uint16_t *)
                         kv->base)[ops_kv_index(kv, c->tables[seq * c->ld_tables + pos / kv->P],
                                                value, head, pos % kv->P, e)] =
                        bf16_from_f32(test_normal());
}

static inline void cache_free(struct cache *c)
{
    free(c->kv.base);
    free(c->tables);
}

#endif
