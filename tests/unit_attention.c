/* TEST */
/*
 * unit_attention.c - kv_store and attention: against a float64 loop; bit by bit between instruction
 * sets, thread counts, chunk sizes, block sizes and batch mixes; with NaN in every slot that no
 * token has been written to.
 */
#include "tests/ops_test.h"

enum { MAX_THREADS = 3, MAX_TOK = 400 };

static struct threads *pools[MAX_THREADS + 1];
static struct ops_ctx *ctxs[MAX_THREADS + 1];

/* One sequence, computed in whatever way a test asks for. */
struct shape {
    enum ops_type type;
    int H, K, E, n_tok;
    float *q, *k, *v; /* [n_tok, H or K, E] */
    struct ops_attention how;
};

static struct shape shape_random(enum ops_type type, int K, int G, int E, int n_tok)
{
    struct shape s = {.type = type, .H = K * G, .K = K, .E = E, .n_tok = n_tok};

    s.q = test_floats((size_t)(n_tok * s.H * E));
    s.k = test_floats((size_t)(n_tok * K * E));
    s.v = test_floats((size_t)(n_tok * K * E));
    s.how.scale = 2.0f / sqrtf((float)E); /* scores spread enough for a softmax that picks */
    return s;
}

static void shape_free(struct shape *s)
{
    free(s->q);
    free(s->k);
    free(s->v);
}

/* A pool of blocks in random order, every slot NaN (for floats and for bf16). */
struct pool {
    struct ops_kv kv;
    int32_t *ids;
    int n_used, N;
};

static struct pool pool_random(const struct shape *s, int P, int n_tok_total)
{
    struct pool pool = {.kv = {.type = s->type, .K = s->K, .P = P, .E = s->E}};

    pool.N = n_tok_total / P + 40;
    const size_t bytes = (size_t)(pool.N * 2 * s->K * P * s->E) * ops_type_bytes(s->type);
    pool.kv.base = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(pool.kv.base, 0xff, bytes);
    pool.ids = calloc((size_t)pool.N, sizeof *pool.ids);
    for (int i = 0; i < pool.N; i++)
        pool.ids[i] = i;
    for (int i = pool.N - 1; i > 0; i--) {
        const int j = test_between(0, i);
        const int32_t id = pool.ids[i];

        pool.ids[i] = pool.ids[j];
        pool.ids[j] = id;
    }
    return pool;
}

static const int32_t *pool_take(struct pool *pool, int n_tok)
{
    const int32_t *blocks = pool->ids + pool->n_used;

    pool->n_used += (n_tok + pool->kv.P - 1) / pool->kv.P;
    CHECK(pool->n_used <= pool->N);
    return blocks;
}

static void pool_free(struct pool *pool)
{
    free(pool->kv.base);
    free(pool->ids);
}

/* Some sequences side by side, in chunks of up to `chunk` tokens (0: of random sizes), all of them
 * in each step.  outs[i] [n_tok, H, E]. */
static void compute(const struct ops *ops, int n_threads, const struct shape *shapes, int B, int P,
                    int chunk, float **outs)
{
    const struct shape *s0 = &shapes[0];
    const int q_len = s0->H * s0->E, k_len = s0->K * s0->E, ld = q_len + 2 * k_len + 8;
    const int32_t *blocks[16];
    int done[16] = {0}, n_total = 0;

    for (int b = 0; b < B; b++)
        n_total += shapes[b].n_tok + P;
    struct pool pool = pool_random(s0, P, n_total);
    float *rows = test_floats((size_t)(n_total * ld)); /* q, k, v of a token, as a step has them */
    float *out = test_floats((size_t)(n_total * q_len));
    for (int b = 0; b < B; b++)
        blocks[b] = pool_take(&pool, shapes[b].n_tok);

    for (bool more = true; more;) {
        struct ops_seq seqs[16];
        int n_seqs = 0, T = 0, which[16] = {0};

        more = false;
        for (int b = B - 1; b >= 0; b--) { /* order of rows is not the order of sequences */
            const struct shape *s = &shapes[b];
            const int left = s->n_tok - done[b];
            const int want = chunk > 0 ? chunk : test_between(1, 80);
            const int n = left < want ? left : want;

            if (n == 0)
                continue;
            for (int t = 0; t < n; t++) {
                float *row = rows + (T + t) * ld;
                const int at = done[b] + t;

                memcpy(row, s->q + at * q_len, (size_t)q_len * sizeof *row);
                memcpy(row + q_len, s->k + at * k_len, (size_t)k_len * sizeof *row);
                memcpy(row + q_len + k_len, s->v + at * k_len, (size_t)k_len * sizeof *row);
            }
            which[n_seqs] = b;
            seqs[n_seqs++] = (struct ops_seq){blocks[b], done[b], n, T};
            T += n;
            more |= n < left;
        }
        CHECK(ops->kv_store(ctxs[n_threads], &pool.kv, seqs, n_seqs, rows + q_len,
                            rows + q_len + k_len, ld) == ST_OK);
        CHECK(ops->attention(ctxs[n_threads], out, rows, ld, s0->H, &pool.kv, seqs, n_seqs,
                             &s0->how) == ST_OK);
        for (int i = 0; i < n_seqs; i++) {
            const int b = which[i];

            memcpy(outs[b] + done[b] * q_len, out + seqs[i].row0 * q_len,
                   (size_t)(seqs[i].n_tok * q_len) * sizeof *out);
            done[b] += seqs[i].n_tok;
        }
    }
    free(rows);
    free(out);
    pool_free(&pool);
}

/* softmax(softcap(q k^T scale)) v over the window in double, on what the type keeps of q, k, v. */
static void oracle(const struct shape *s, const float *out)
{
    const int G = s->H / s->K;
    /* scores carry the rounding of chains over E */
    const double limit = 5e-7 * sqrt((double)s->E);
    double worst = 0.0;

    for (int t = 0; t < s->n_tok; t++) {
        for (int h = 0; h < s->H; h++) {
            const float *q = s->q + (t * s->H + h) * s->E;
            double score[MAX_TOK], most = -INFINITY, sum = 0.0;
            const int from = s->how.window > 0 && t >= s->how.window ? t - s->how.window + 1 : 0;

            for (int j = from; j <= t; j++) {
                const float *k = s->k + (j * s->K + h / G) * s->E;

                score[j] = 0.0;
                for (int e = 0; e < s->E; e++)
                    score[j] += test_rounded(s->type, q[e]) * test_rounded(s->type, k[e]);
                score[j] *= (double)s->how.scale;
                if (s->how.softcap > 0)
                    score[j] = (double)s->how.softcap * tanh(score[j] / (double)s->how.softcap);
                most = fmax(most, score[j]);
            }
            for (int j = from; j <= t; j++)
                sum += score[j] = exp(score[j] - most);
            for (int e = 0; e < s->E; e++) {
                double want = 0.0;

                for (int j = from; j <= t; j++)
                    want +=
                        score[j] / sum * test_rounded(s->type, s->v[(j * s->K + h / G) * s->E + e]);
                const double error = fabs((double)out[(t * s->H + h) * s->E + e] - want);
                worst = error > worst || isnan(error) ? error : worst;
            }
        }
    }
    if (!(worst < limit))
        fprintf(stderr, "attention H %d K %d E %d, %d tokens, window %d, cap %g: error %.3g\n",
                s->H, s->K, s->E, s->n_tok, s->how.window, (double)s->how.softcap, worst);
    CHECK(worst < limit);
}

/* One shape in all the ways that must not matter. */
static void same_however(enum ops_type type, int K, int G, int E, int n_tok, int window,
                         float softcap)
{
    static const int block_sizes[] = {16, 32, 64};
    struct shape s = shape_random(type, K, G, E, n_tok);

    s.how.window = window;
    s.how.softcap = softcap;
    const size_t n = (size_t)(n_tok * s.H * E);
    float *want = test_floats(n), *got = test_floats(n);

    compute(ops_list()[0], 1, &s, 1, 16, n_tok, &want);
    oracle(&s, want);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        const bool plain = ops == ops_list();

        if (!(*ops)->usable())
            continue;
        for (int i = 0; i < 3; i++) {
            static const int chunks[] = {1, 7, 64, 0, 0, 1000};

            for (int c = plain ? 3 : 0; c < (plain ? 4 : 6); c++) { /* plain C is slow */
                memset(got, 0xff, n * sizeof *got);
                compute(*ops, test_between(1, MAX_THREADS), &s, 1, block_sizes[i], chunks[c], &got);
                CHECK_INT(test_n_differ(got, want, n), 0);
            }
        }
    }
    free(want);
    free(got);
    shape_free(&s);
}

static void same_whatever(enum ops_type type, int K, int G, int E, int n_tok)
{
    same_however(type, K, G, E, n_tok, 0, 0.0f);
}

/* Windows of one key, of less than a group of 16, of a tile and of more, soft caps that bend. */
static void windows_and_caps(void)
{
    same_however(OPS_F32, 1, 3, 16, 150, 1, 0.0f);
    same_however(OPS_BF16, 2, 2, 32, 200, 5, 0.0f);
    same_however(OPS_F32, 1, 4, 48, 190, 16, 3.0f);
    same_however(OPS_BF16, 1, 1, 16, 180, 17, 0.0f);
    same_however(OPS_BF16, 2, 1, 64, 200, 63, 50.0f);
    same_however(OPS_F32, 1, 2, 32, 250, 64, 0.0f);
    same_however(OPS_BF16, 1, 2, 256, 140, 65, 2.0f);
    same_however(OPS_BF16, 1, 5, 16, 330, 100, 0.0f);
    same_however(OPS_F32, 2, 3, 32, 90, 1000, 1.0f); /* reaches before the first token */
    same_however(OPS_BF16, 1, 71, 16, 40, 7, 4.0f);
}

/* A window as wide as the sequence is no window, bit for bit. */
static void wide_window(const struct ops *ops)
{
    struct shape s = shape_random(OPS_BF16, 2, 3, 32, 150);
    const size_t n = (size_t)(150 * s.H * s.E);
    float *want = test_floats(n), *got = test_floats(n);

    compute(ops, 1, &s, 1, 16, 1000, &want);
    s.how.window = 150;
    compute(ops, 2, &s, 1, 16, 40, &got);
    CHECK_INT(test_n_differ(want, got, n), 0);
    free(want);
    free(got);
    shape_free(&s);
}

/* What lies before a query's window changes nothing, not even when it is NaN or infinite. */
static void past_is_unseen(const struct ops *ops)
{
    enum { N_TOK = 170, BAD = 75, WINDOW = 30 };
    struct shape s = shape_random(OPS_BF16, 2, 3, 32, N_TOK);
    const size_t row = (size_t)(s.H * s.E), n = N_TOK * row;
    float *want = test_floats(n), *got = test_floats(n);

    s.how.window = WINDOW;
    compute(ops, 1, &s, 1, 16, 1000, &want);
    for (int i = 0; i < s.K * s.E; i++) {
        s.k[BAD * s.K * s.E + i] = NAN;
        s.v[BAD * s.K * s.E + i] = i % 2 ? INFINITY : -INFINITY;
    }
    compute(ops, 2, &s, 1, 32, 1000, &got);
    CHECK_INT(test_n_differ(want, got, BAD * row), 0);
    CHECK_INT(test_n_differ(want + (BAD + WINDOW) * row, got + (BAD + WINDOW) * row,
                            n - (BAD + WINDOW) * row),
              0);
    for (size_t i = BAD * row; i < (BAD + WINDOW) * row; i++) /* and a NaN is not swallowed */
        CHECK(isnan(got[i]));
    free(want);
    free(got);
    shape_free(&s);
}

/* Sequences of all lengths in one step give what each gives alone. */
static void batch_mix(const struct ops *ops, enum ops_type type)
{
    struct shape shapes[9];
    float *alone[9], *mixed[9];
    const int K = test_between(1, 3), G = test_between(1, 4), E = 16 * test_between(1, 5);

    const int window = test_between(0, 1) * test_between(1, 90);

    for (int b = 0; b < 9; b++) {
        shapes[b] = shape_random(type, K, G, E, b == 4 ? 1 : test_between(1, 150));
        shapes[b].how.window = window;
        const size_t n = (size_t)(shapes[b].n_tok * K * G * E);
        alone[b] = test_floats(n);
        mixed[b] = test_floats(n);
        compute(ops, 1, &shapes[b], 1, 32, 1000, &alone[b]);
    }
    for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        compute(ops, n_threads, shapes, 9, 16, 0, mixed);
        for (int b = 0; b < 9; b++)
            CHECK_INT(test_n_differ(alone[b], mixed[b], (size_t)(shapes[b].n_tok * K * G * E)), 0);
    }
    for (int b = 0; b < 9; b++) {
        free(alone[b]);
        free(mixed[b]);
        shape_free(&shapes[b]);
    }
}

/* What later tokens hold changes nothing before them, not even when it is NaN or infinite. */
static void future_is_unseen(const struct ops *ops)
{
    enum { N_TOK = 130, BAD = 75 };
    struct shape s = shape_random(OPS_BF16, 2, 3, 32, N_TOK);
    const size_t row = (size_t)(s.H * s.E), n = N_TOK * row;
    float *want = test_floats(n), *got = test_floats(n);

    compute(ops, 1, &s, 1, 16, 1000, &want);
    for (int i = 0; i < s.K * s.E; i++) {
        s.k[BAD * s.K * s.E + i] = NAN;
        s.v[BAD * s.K * s.E + i] = i % 2 ? INFINITY : -INFINITY;
    }
    compute(ops, 2, &s, 1, 64, 1000, &got);
    CHECK_INT(test_n_differ(want, got, BAD * row), 0);
    for (size_t i = BAD * row; i < n; i++) /* and a NaN is not swallowed */
        CHECK(isnan(got[i]));
    free(want);
    free(got);
    shape_free(&s);
}

/* kv_store puts element e of key and value where ops_kv_index says, rounded, and nowhere else. */
static void store(const struct ops *ops, enum ops_type type)
{
    struct shape s = shape_random(type, 2, 1, 48, 90);
    struct pool pool = pool_random(&s, 32, 200);
    const size_t n_bytes = (size_t)(pool.N * 2 * s.K * 32 * s.E) * ops_type_bytes(type);
    const int32_t *blocks = pool_take(&pool, 100 + s.n_tok);
    const struct ops_seq seq = {blocks, 70, s.n_tok, 0};
    size_t n_written = 0;
    int wrong = 0;

    CHECK(ops->kv_store(ctxs[2], &pool.kv, &seq, 1, s.k, s.v, s.K * s.E) == ST_OK);
    for (int t = 0; t < s.n_tok; t++) {
        for (int h = 0; h < s.K; h++) {
            for (int e = 0; e < s.E; e++) {
                for (int value = 0; value < 2; value++) {
                    const int pos = 70 + t;
                    const size_t at =
                        ops_kv_index(&pool.kv, blocks[pos / 32], value, h, pos % 32, e);
                    const float x = (value ? s.v : s.k)[(t * s.K + h) * s.E + e];
                    const float got = type == OPS_BF16
                                          ? f32_from_bf16(((uint16_t *)pool.kv.base)[at])
                                          : ((float *)pool.kv.base)[at];

                    wrong += (double)got != test_rounded(type, x);
                }
            }
        }
    }
    CHECK_INT(wrong, 0);
    for (size_t i = 0; i < n_bytes; i += ops_type_bytes(type))
        n_written +=
            memcmp((uint8_t *)pool.kv.base + i, "\377\377\377\377", ops_type_bytes(type)) != 0;
    CHECK_INT(n_written, 2 * s.n_tok * s.K * s.E);
    pool_free(&pool);
    shape_free(&s);
}

int main(void)
{
    static const int heads[] = {16, 32, 48, 64, 80, 96, 128, 256};

    test_seed(20260201);
    for (int n = 1; n <= MAX_THREADS; n++) {
        CHECK(threads_create(n, &pools[n]) == ST_OK);
        CHECK(ops_ctx_create(pools[n], &ctxs[n]) == ST_OK);
    }
    for (int i = 0; i < 8; i++) {
        const enum ops_type type = i % 3 == 1 ? OPS_F32 : OPS_BF16;

        same_whatever(type, 1 + i % 2, 1 + i % 4, heads[i], test_between(60, 200));
    }
    same_whatever(OPS_F32, 1, 7, 16, 129);
    same_whatever(OPS_BF16, 1, 71, 16, 66); /* a group wider than a task */
    same_whatever(OPS_BF16, 3, 3, 64, 64);
    same_whatever(OPS_BF16, 2, 5, 32, 1);
    windows_and_caps();
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        if (!(*ops)->usable())
            continue;
        batch_mix(*ops, OPS_BF16);
        batch_mix(*ops, OPS_F32);
        future_is_unseen(*ops);
        past_is_unseen(*ops);
        wide_window(*ops);
        store(*ops, OPS_BF16);
        store(*ops, OPS_F32);
    }
    for (int n = 1; n <= MAX_THREADS; n++) {
        ops_ctx_destroy(ctxs[n]);
        threads_destroy(pools[n]);
    }
    TEST_END();
}
