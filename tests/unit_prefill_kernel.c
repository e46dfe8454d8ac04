/* TEST */
/*
 * unit_prefill_kernel.c - kernels/prefill.cu, run thread by thread on the CPU (tests/emulator/),
 * against the CPU's attention; with NaN wherever nothing may be read.  And that a token's bits do
 * not depend on the chunk that it comes in, on the other sequences, or on where its blocks lie.
 *
 * Nothing here says what a device does, or how fast.
 */
#include "tests/kernels_test.h"

enum { MAX_SEQS = 8 };

struct shape {
    int E, P, K, G, window;
    float softcap;
};

/* Sequences of one step.  What is before pos0 has been written, as far as a window reaches. */
struct step {
    const struct shape *shape;
    struct cache cache;
    int B, T, max_tok;
    int32_t *pos0, *n_tok, *row0; /* [B] */
    uint16_t *q, *out;            /* [T, H, E] */
};

static size_t row_elems(const struct shape *shape)
{
    return (size_t)(shape->K * shape->G * shape->E);
}

static void step_begin(struct step *s, const struct shape *shape, int B, const int32_t *pos0,
                       const int32_t *n_tok)
{
    int most = 0;

    *s = (struct step){.shape = shape,
                       .B = B,
                       .pos0 = ints(pos0, (size_t)B),
                       .n_tok = ints(n_tok, (size_t)B),
                       .row0 = ints(n_tok, (size_t)B)};
    for (int b = B - 1; b >= 0; b--) { /* rows in another order than sequences */
        s->row0[b] = s->T;
        s->T += n_tok[b];
        s->max_tok = n_tok[b] > s->max_tok ? n_tok[b] : s->max_tok;
        most = pos0[b] + n_tok[b] > most ? pos0[b] + n_tok[b] : most;
    }
    s->cache = cache_random(shape->K, shape->E, shape->P, B, most);
    for (int b = 0; b < B; b++)
        cache_fill(&s->cache, b, shape->window > 0 ? pos0[b] + 1 - shape->window : 0,
                   pos0[b] + n_tok[b] - 1);
    s->q = random_bf16((size_t)s->T * row_elems(shape));
    s->out = nan_bf16((size_t)s->T * row_elems(shape));
}

static void step_end(struct step *s)
{
    cache_free(&s->cache);
    free(s->q), free(s->out), free(s->pos0), free(s->n_tok), free(s->row0);
}

static struct k_prefill_args step_args(const struct step *s)
{
    const struct shape *shape = s->shape;

    return (struct k_prefill_args){
        .out = s->out,
        .q = s->q,
        .kv = s->cache.kv.base,
        .tables = s->cache.tables,
        .pos0 = s->pos0,
        .n_tok = s->n_tok,
        .row0 = s->row0,
        .ld_tables = s->cache.ld_tables,
        .B = s->B,
        .T = s->T,
        .H = shape->K * shape->G,
        .K = shape->K,
        .E = shape->E,
        .P = shape->P,
        .max_tok = s->max_tok,
        .window = shape->window,
        .scale = 2.0f / sqrtf((float)shape->E),
        .softcap = shape->softcap,
    };
}

/* The step's rows are near those of the CPU. */
static void is_near(const struct step *s)
{
    const struct k_prefill_args args = step_args(s);
    const size_t n = (size_t)s->T * row_elems(s->shape);
    float *q = test_floats(n), *got = test_floats(n), *want = test_floats(n);
    struct ops_seq seqs[MAX_SEQS] = {0};
    const struct ops_attention how = {
        .scale = args.scale, .softcap = args.softcap, .window = args.window};

    for (int b = 0; b < s->B; b++)
        seqs[b] = (struct ops_seq){s->cache.tables + b * s->cache.ld_tables, s->pos0[b],
                                   s->n_tok[b], s->row0[b]};
    for (size_t i = 0; i < n; i++) {
        q[i] = f32_from_bf16(s->q[i]);
        got[i] = f32_from_bf16(s->out[i]);
    }
    ops->attention(ctx, want, q, args.H * args.E, args.H, &s->cache.kv, seqs, s->B, &how);
    CHECK_NEAR(got, want, n, 2e-5); /* what rounding weights and results to bf16 costs */
    free(q), free(got), free(want);
}

/* Tokens from .. to - 1 of sequence b alone, in a step of their own and in other blocks; slots
 * that they do not see are NaN or not there.  They have the bits that they have in the step. */
static void same_alone(const struct step *s, int b, int from, int to)
{
    const struct shape *shape = s->shape;
    const int pos0 = s->pos0[b] + from, n_tok = to - from, end = pos0 + n_tok;
    const size_t first = (size_t)(s->row0[b] + from) * row_elems(shape);
    const size_t n = (size_t)n_tok * row_elems(shape);
    struct cache other = cache_random(shape->K, shape->E, shape->P, 2, end);
    const struct ops_kv *kv = &other.kv;
    int32_t *table = other.tables + other.ld_tables;
    int32_t *one = ints((const int32_t[]){pos0, n_tok, 0}, 3);
    const int seen = shape->window > 0 && pos0 >= shape->window ? pos0 + 1 - shape->window : 0;
    uint16_t *out = nan_bf16(n);
    struct k_prefill_args args = step_args(s);

    for (int i = 0; i < seen / shape->P; i++)
        table[i] = -1000000; /* nothing there any more */
    for (int pos = seen; pos < end; pos++)
        for (int value = 0; value < 2; value++)
            for (int head = 0; head < kv->K; head++)
                for (int e = 0; e < kv->E; e++) {
                    const int32_t block = s->cache.tables[b * s->cache.ld_tables + pos / kv->P];
                    const int p = pos % kv->P;

                    ((uint16_t *)
                         kv->base)[ops_kv_index(kv, table[pos / kv->P], value, head, p, e)] =
                        ((uint16_t *)s->cache.kv.base)[ops_kv_index(kv, block, value, head, p, e)];
                }
    args.out = out;
    args.q = s->q + first;
    args.kv = kv->base;
    args.tables = table;
    args.pos0 = one;
    args.n_tok = one + 1;
    args.row0 = one + 2;
    args.ld_tables = other.ld_tables;
    args.B = 1;
    args.T = args.max_tok = n_tok;
    CHECK_INT(k_prefill(NULL, &args), 0);
    CHECK(memcmp(out, s->out + first, n * sizeof *out) == 0);
    cache_free(&other);
    free(out), free(one);
}

/* A step is near the CPU's; each of its sequences in two or three chunks has the same bits. */
static void attends(const struct shape *shape, int B, const int32_t *pos0, const int32_t *n_tok)
{
    struct step s;

    step_begin(&s, shape, B, pos0, n_tok);
    const struct k_prefill_args args = step_args(&s);
    CHECK_INT(k_prefill(NULL, &args), 0);
    is_near(&s);
    for (int b = 0; b < B; b++) {
        const int cut = test_between(0, n_tok[b]), again = test_between(cut, n_tok[b]);
        const int cuts[] = {0, cut, again, n_tok[b]};

        for (int i = 0; i < 3; i++)
            if (cuts[i] < cuts[i + 1])
                same_alone(&s, b, cuts[i], cuts[i + 1]);
    }
    step_end(&s);
}

static void shapes(void)
{
    static const int head_sizes[] = {16, 64, 80, 96, 128, 256}, block_tokens[] = {16, 32, 64};
    static const int32_t pos0[] = {0, 0, 63, 64, 100}, n_tok[] = {1, 65, 2, 16, 31};

    for (int i = 0; i < 6; i++) { /* every head size, block edges and edges of tiles */
        const struct shape shape = {head_sizes[i], block_tokens[i % 3], 1, 1, 0, 0.0f};
        attends(&shape, 5, pos0, n_tok);
    }
    for (int i = 0; i < 3; i++) { /* every block size, grouped heads */
        const struct shape shape = {32, block_tokens[i], 2, i + 1, 0, i == 1 ? 20.0f : 0.0f};
        const int32_t from = i * 16, n = 130 - i;
        attends(&shape, 1, &from, &n);
    }
}

static void windows(void)
{
    static const int sizes[] = {1, 2, 33, 64, 65, 100};
    static const int32_t pos0[] = {0, 50, 127}, n_tok[] = {67, 90, 3};

    for (int i = 0; i < 6; i++) {
        const struct shape shape = {48, 16 << i % 3, 1, 2, sizes[i], i == 4 ? 15.0f : 0.0f};
        attends(&shape, 3, pos0, n_tok);
    }
}

/* Whatever comes: sequences of any length, some of one token, some after a long prefix. */
static void random_steps(void)
{
    for (int round = 0; round < 12; round++) {
        const struct shape shape = {16 * test_between(1, 9),
                                    16 << test_between(0, 2),
                                    test_between(1, 2),
                                    test_between(1, 3),
                                    round % 2 ? test_between(1, 150) : 0,
                                    round % 5 == 4 ? 30.0f : 0.0f};
        const int B = test_between(1, 4);
        int32_t pos0[MAX_SEQS], n_tok[MAX_SEQS];

        for (int b = 0; b < B; b++) {
            pos0[b] = test_between(0, 1) ? test_between(0, 200) : 0;
            n_tok[b] = test_between(0, 2) ? test_between(1, 90) : 1;
        }
        attends(&shape, B, pos0, n_tok);
    }
}

/* Values that are all the same come out as they are: weights are summed as they are multiplied. */
static void equal_values_stay(void)
{
    const struct shape shape = {64, 16, 1, 1, 0, 0.0f};
    const int32_t pos0 = 0, n_tok = 100;
    struct step s;
    int differ = 0;

    step_begin(&s, &shape, 1, &pos0, &n_tok);
    for (int pos = 0; pos < n_tok; pos++)
        for (int e = 0; e < shape.E; e++)
            ((uint16_t *)s.cache.kv.base)[ops_kv_index(&s.cache.kv, s.cache.tables[pos / shape.P],
                                                       1, 0, pos % shape.P, e)] =
                bf16_from_f32(1.0f);
    const struct k_prefill_args args = step_args(&s);
    CHECK_INT(k_prefill(NULL, &args), 0);
    for (int i = 0; i < n_tok * shape.E; i++)
        differ += s.out[i] != bf16_from_f32(1.0f);
    CHECK_INT(differ, 0);
    step_end(&s);
}

static void limits(void)
{
    const struct shape shape = {16, 16, 1, 1, 0, 0.0f};
    const int32_t pos0 = 0, n_tok = 4;
    struct step s;

    step_begin(&s, &shape, 1, &pos0, &n_tok);
    const struct k_prefill_args good = step_args(&s);
    struct k_prefill_args args = good;
    CHECK(k_prefill(NULL, &args) == 0);
    args.E = 24;
    CHECK(k_prefill(NULL, &args) != 0);
    args.E = 272;
    CHECK(k_prefill(NULL, &args) != 0);
    args = good;
    args.P = 8;
    CHECK(k_prefill(NULL, &args) != 0);
    args = good;
    args.H = 3;
    args.K = 2;
    CHECK(k_prefill(NULL, &args) != 0);
    args = good;
    args.B = 65536;
    CHECK(k_prefill(NULL, &args) != 0);
    args = good;
    args.max_tok = 5; /* more than rows */
    CHECK(k_prefill(NULL, &args) != 0);
    args = good;
    args.window = -1;
    CHECK(k_prefill(NULL, &args) != 0);
    step_end(&s);
}

int main(void)
{
    test_seed(1);
    begin();
    shapes();
    windows();
    random_steps();
    equal_values_stay();
    limits();
    end();
    TEST_END();
}
