/* TEST */
/*
 * unit_kernels.c - the kernels of kernels/, run thread by thread on the CPU (tests/emulator/),
 * against the CPU's operations: bit for bit where the arithmetic is the same, within rounding where
 * a sum has another order; on the awkward shapes; with NaN wherever nothing may be read.  And that
 * a row's bits do not depend on what else is in the launch.
 *
 * Nothing here says what a device does, or how fast.
 */
#include "tests/kernels_test.h"

static const int head_sizes[] = {16, 64, 80, 96, 128, 256};
static const int block_tokens[] = {16, 32, 64};
enum { N_E = sizeof head_sizes / sizeof *head_sizes, N_P = sizeof block_tokens / sizeof(int) };

/* ---- rows ------------------------------------------------------------------------------------- */

static void embeds(void)
{
    for (int round = 0; round < 8; round++) {
        const int D = 8 * test_between(1, 60), V = test_between(1, 40), T = test_between(1, 9);
        uint16_t *table = random_bf16((size_t)(V * D));
        float *out = test_floats((size_t)(T * D));
        int32_t *ids = calloc((size_t)T, sizeof *ids);
        int differ = 0;
        const struct k_embed_args args = {out, table, ids, T, D, round % 2 ? 1.0f : 12.25f};

        for (int t = 0; t < T; t++)
            ids[t] = test_between(0, V - 1);
        CHECK_INT(k_embed(NULL, &args), 0);
        for (int t = 0; t < T; t++)
            for (int i = 0; i < D; i++)
                differ += out[t * D + i] != f32_from_bf16(table[ids[t] * D + i]) * args.scale;
        CHECK_INT(differ, 0);
        free(table), free(out), free(ids);
    }
}

/* out_f32 near the CPU's, out its rounding, x the CPU's sum; a row alone has the same bits. */
static void rmsnorms(void)
{
    for (int round = 0; round < 12; round++) {
        const int D = 4 * (round == 0 ? 1 : test_between(1, 700)), T = test_between(1, 7);
        const size_t n = (size_t)(T * D);
        float *x = test_floats(n), *y = test_floats(n), *w = test_floats((size_t)D);
        float *mine = test_copy(x, n), *normed = test_floats(n), *out_f32 = test_floats(n);
        float *alone = test_copy(x + (T - 1) * D, (size_t)D);
        uint16_t *out = random_bf16(n), *out_alone = random_bf16((size_t)D);
        const bool adds = round % 3 != 0;
        struct k_rmsnorm_args args = {out, out_f32, mine,  adds ? y : NULL,         w,
                                      T,   D,       1e-5f, round % 2 ? 0.22f : 1.0f};

        CHECK_INT(k_rmsnorm(NULL, &args), 0);
        if (adds)
            ops->add_scaled(ctx, x, y, (int64_t)n, args.add_scale);
        CHECK_INT(test_n_differ(mine, x, n), 0);
        ops->rmsnorm(ctx, normed, x, w, T, D, args.eps);
        CHECK_NEAR(out_f32, normed, n, 1e-12);
        CHECK_INT(n_unrounded(out, out_f32, n), 0);
        args = (struct k_rmsnorm_args){
            out_alone, NULL, alone, adds ? y + (T - 1) * D : NULL, w, 1, D, 1e-5f, args.add_scale};
        CHECK_INT(k_rmsnorm(NULL, &args), 0);
        CHECK(memcmp(out_alone, out + (T - 1) * D, (size_t)D * 2) == 0);
        args = (struct k_rmsnorm_args){out, NULL, mine, NULL, NULL, T, D, 1e-5f, 0.0f};
        CHECK_INT(k_rmsnorm(NULL, &args), 0); /* without w: only rounded */
        CHECK_INT(n_unrounded(out, mine, n), 0);
        free(x), free(y), free(w), free(mine), free(normed), free(out_f32), free(alone);
        free(out), free(out_alone);
    }
}

static void rmsnorms_of_heads(void)
{
    for (int round = 0; round < 2 * N_E; round++) {
        const int E = head_sizes[round % N_E], n_heads = round < N_E ? test_between(1, 9) : 1;
        const int T = test_between(1, 5), ldx = n_heads * E + 16 * test_between(0, 3);
        const size_t n = (size_t)(T * ldx);
        float *x = test_floats(n), *mine = test_copy(x, n), *w = test_floats((size_t)E);
        const struct k_rmsnorm_heads_args args = {mine, w, ldx, T, n_heads, E, 1e-6f};

        CHECK_INT(k_rmsnorm_heads(NULL, &args), 0);
        ops->rmsnorm_heads(ctx, x, ldx, w, T, n_heads, E, args.eps);
        CHECK_NEAR(mine, x, n, 1e-12);
        for (int t = 0; t < T; t++) /* what is between rows stays */
            CHECK_INT(test_n_differ(mine + t * ldx + n_heads * E, x + t * ldx + n_heads * E,
                                    (size_t)(ldx - n_heads * E)),
                      0);
        free(x), free(mine), free(w);
    }
}

static void gateds(void)
{
    for (int round = 0; round < 8; round++) {
        const int F = 4 * test_between(1, 400), T = test_between(1, 5), gelu = round % 2;
        const size_t n = (size_t)(T * F);
        float *in = test_floats(2 * n), *want = test_floats(n);
        uint16_t *out = random_bf16(n);
        const struct k_gated_args args = {out, in, T, F, gelu};

        for (size_t i = 0; i < 2 * n; i++)
            in[i] *= 8.0f; /* far into both tails */
        in[0] = -200.0f;
        in[1] = 200.0f;
        CHECK_INT(k_gated(NULL, &args), 0);
        if (gelu)
            ops->gelu_mul(ctx, want, in, T, F);
        else
            ops->silu_mul(ctx, want, in, T, F);
        CHECK_INT(n_unrounded(out, want, n), 0);
        free(in), free(want), free(out);
    }
}

/* ---- rope and KV -------------------------------------------------------------------------------- */

/* The pool and the queries are those of rope and kv_store, bit for bit, and nothing else is
 * written. */
static void ropes(void)
{
    for (int round = 0; round < N_E * N_P; round++) {
        const int E = head_sizes[round % N_E], P = block_tokens[round / N_E];
        const int K = test_between(1, 3), H = K * test_between(1, 4), T = test_between(1, 9);
        const int ld = (H + 2 * K) * E, context = 4 * P, n_tables = T;
        struct cache cache = cache_random(K, E, P, n_tables, context);
        const size_t pool_bytes = cache.n_bytes;
        uint16_t *pool = memcpy(aligned_alloc(64, pool_bytes), cache.kv.base, pool_bytes);
        float *qkv = test_floats((size_t)(T * ld)), *table = test_floats((size_t)(context * E));
        float *turned = test_copy(qkv, (size_t)(T * ld));
        uint16_t *q = random_bf16((size_t)(T * H * E));
        int32_t *pos = calloc((size_t)T, sizeof *pos), *seq = calloc((size_t)T, sizeof *seq);
        struct ops_seq seqs[9];
        int wrong = 0;

        for (int t = 0; t < T; t++) {
            const int edges[] = {0, P - 1, P, 2 * P - 1, context - 1};

            pos[t] = t < 5 ? edges[t] : test_between(0, context - 1);
            seq[t] = round % 2 ? n_tables - 1 - t : t;
            seqs[t] = (struct ops_seq){cache.tables + seq[t] * cache.ld_tables, pos[t], 1, t};
        }
        const bool rotates = round % 5 != 4;
        const struct k_rope_kv_args args = {q,
                                            pool,
                                            qkv,
                                            rotates ? table : NULL,
                                            pos,
                                            round % 2 ? seq : NULL,
                                            cache.tables,
                                            cache.ld_tables,
                                            T,
                                            H,
                                            K,
                                            E,
                                            P};
        CHECK_INT(k_rope_kv(NULL, &args), 0);
        if (rotates)
            ops->rope(ctx, turned, ld, pos, table, T, H + K, E);
        ops->kv_store(ctx, &cache.kv, seqs, T, turned + H * E, turned + (H + K) * E, ld);
        for (int t = 0; t < T; t++)
            wrong += n_unrounded(q + t * H * E, turned + t * ld, (size_t)(H * E));
        CHECK_INT(wrong, 0);
        CHECK(memcmp(pool, cache.kv.base, pool_bytes) == 0);
        cache_free(&cache);
        free(pool), free(qkv), free(table), free(turned), free(q), free(pos), free(seq);
    }
}

/* ---- attention ---------------------------------------------------------------------------------- */

struct attention_case {
    int E, P, K, G, window, n_seqs;
    float softcap;
    const int *pos; /* [n_seqs] */
};

static void attends(const struct attention_case *c)
{
    const int B = c->n_seqs, K = c->K, H = K * c->G, E = c->E;
    int max_pos = 0;

    for (int b = 0; b < B; b++)
        max_pos = c->pos[b] > max_pos ? c->pos[b] : max_pos;
    struct cache cache = cache_random(K, E, c->P, B, max_pos + 1);
    const size_t n = (size_t)(B * H * E);
    float *q = test_floats(n), *want = test_floats(n), *got = test_floats(n);
    uint16_t *q16 = random_bf16(n), *out = random_bf16(n), *alone = random_bf16((size_t)(H * E));
    int32_t *pos = ints(c->pos, (size_t)B);
    struct ops_seq seqs[64];
    const struct ops_attention how = {
        .scale = 2.0f / sqrtf((float)E), .softcap = c->softcap, .window = c->window};

    for (size_t i = 0; i < n; i++) {
        q16[i] = bf16_from_f32(q[i]);
        q[i] = f32_from_bf16(q16[i]);
    }
    for (int b = 0; b < B; b++) {
        seqs[b] = (struct ops_seq){cache.tables + b * cache.ld_tables, c->pos[b], 1, b};
        cache_fill(&cache, b, c->window > 0 ? c->pos[b] + 1 - c->window : 0, c->pos[b]);
    }
    float *work = poisoned((size_t)k_attention_work_floats(B, H, E, max_pos));
    struct k_attention_args args = {
        .out = out,
        .q = q16,
        .kv = cache.kv.base,
        .pos = pos,
        .tables = cache.tables,
        .work = work,
        .ld_tables = cache.ld_tables,
        .B = B,
        .H = H,
        .K = K,
        .E = E,
        .P = c->P,
        .max_pos = max_pos,
        .window = c->window,
        .scale = how.scale,
        .softcap = how.softcap,
    };
    CHECK_INT(k_attention(NULL, &args), 0);
    ops->attention(ctx, want, q, H * E, H, &cache.kv, seqs, B, &how);
    for (size_t i = 0; i < n; i++)
        got[i] = f32_from_bf16(out[i]);
    CHECK_NEAR(got, want, n, 1e-5); /* what rounding to bf16 costs */
    free(work);

    /* The last sequence alone, with more splits launched than it needs. */
    args.out = alone;
    args.q = q16 + (size_t)(B - 1) * (size_t)(H * E);
    args.pos = pos + B - 1;
    args.tables = cache.tables + (B - 1) * cache.ld_tables;
    args.B = 1;
    args.max_pos = max_pos + 3 * 256;
    args.work = work = poisoned((size_t)k_attention_work_floats(1, H, E, args.max_pos));
    CHECK_INT(k_attention(NULL, &args), 0);
    CHECK(memcmp(alone, out + (size_t)(B - 1) * (size_t)(H * E), (size_t)(H * E) * 2) == 0);
    cache_free(&cache);
    free(work), free(q), free(want), free(got), free(q16), free(out), free(alone), free(pos);
}

static void attentions(void)
{
    static const int edges[] = {0, 1, 15, 16, 63, 254, 255, 256, 257, 511, 512, 700};
    static const int groups[] = {1, 2, 3, 4, 5, 7, 8, 16};
    static const int windows[] = {0, 1, 100, 256, 300};
    int pos[64];

    for (int i = 0; i < N_E; i++) { /* every head size and block size, at all edges */
        const struct attention_case c = {head_sizes[i], block_tokens[i % 3], 1, 2, 0, 12, 0.0f,
                                         edges};
        attends(&c);
    }
    for (int i = 0; i < 8; i++) {
        const struct attention_case c = {64,       16, 2, groups[i], 0, 3, i % 2 ? 20.0f : 0.0f,
                                         edges + 8};
        attends(&c);
    }
    for (int i = 0; i < 5; i++) {
        const struct attention_case c = {80, 32, 1, 3, windows[i], 12, 0.0f, edges};
        attends(&c);
    }
    for (int b = 0; b < 64; b++)
        pos[b] = test_between(0, 300);
    const struct attention_case many = {16, 16, 1, 4, 0, 64, 0.0f, pos};
    attends(&many);
    const struct attention_case seven = {128, 64, 2, 4, 0, 7, 0.0f, pos};
    attends(&seven);
}

/* ---- matmul ------------------------------------------------------------------------------------- */

static void multiplies(int T, int N, int n_in, bool bias, bool add)
{
    const int ldx = n_in + 8 * test_between(0, 2), ldo = N + test_between(0, 3);
    const int64_t ldw = n_in + 8 * test_between(0, 1);
    uint16_t *x = nan_bf16((size_t)(T * ldx)), *w = nan_bf16((size_t)(N * ldw));
    float *b = test_floats((size_t)N), *was = test_floats((size_t)(T * ldo));
    float *out = test_copy(was, (size_t)(T * ldo)), *again = test_copy(was, (size_t)(T * ldo));
    float *want = test_copy(was, (size_t)(T * ldo));
    float *work = poisoned((size_t)k_matmul_work_floats(T, N, n_in));

    for (int t = 0; t < T; t++)
        for (int k = 0; k < n_in; k++)
            x[t * ldx + k] = bf16_from_f32(test_normal());
    for (int n = 0; n < N; n++)
        for (int k = 0; k < n_in; k++)
            w[n * ldw + k] = bf16_from_f32(test_normal());
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) {
            double sum = bias ? b[n] : 0.0;

            for (int k = 0; k < n_in; k++)
                sum += (double)f32_from_bf16(x[t * ldx + k]) * f32_from_bf16(w[n * ldw + k]);
            want[t * ldo + n] = (float)(sum + (add ? was[t * ldo + n] : 0.0f));
        }
    struct k_matmul_args args = {out, x, w, bias ? b : NULL, work, ldw, ldx, ldo, T, N, n_in, add};
    CHECK_INT(k_matmul(NULL, &args), 0);
    CHECK_NEAR(out, want, (size_t)(T * ldo), 1e-12);
    for (int t = 0; t < T; t++)
        CHECK_INT(test_n_differ(out + t * ldo + N, was + t * ldo + N, (size_t)(ldo - N)), 0);

    /* The last row alone, and the first rows without it. */
    args.x = x + (T - 1) * ldx;
    args.out = again + (T - 1) * ldo;
    args.T = 1;
    CHECK_INT(k_matmul(NULL, &args), 0);
    args.x = x;
    args.out = again;
    args.T = T - 1;
    CHECK_INT(k_matmul(NULL, &args), T > 1 ? 0 : 1);
    CHECK_INT(test_n_differ(out, again, (size_t)(T * ldo)), 0);
    free(x), free(w), free(b), free(was), free(out), free(again), free(want), free(work);
}

/* As the above, of prompts: any T, rows that lie beyond it NaN; a row's bits are those of the same
 * row in another place of another chunk. */
static void multiplies_prompts(int T, int N, int n_in, bool bias)
{
    const int chunk = epidote_cuda_table()->prefill_rows;
    const size_t room = (size_t)((T + chunk - 1) / chunk * chunk);
    uint16_t *x = nan_bf16(room * (size_t)n_in), *w = random_bf16((size_t)(N * n_in));
    float *out = poisoned(room * (size_t)N), *b = test_floats((size_t)N);
    float *want = malloc((size_t)(T * N) * sizeof *want);
    void *plan = NULL;

    for (int i = 0; i < T * n_in; i++)
        x[i] = bf16_from_f32(test_normal());
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) {
            double sum = bias ? (double)b[n] : 0.0;

            for (int k = 0; k < n_in; k++)
                sum +=
                    (double)f32_from_bf16(x[t * n_in + k]) * (double)f32_from_bf16(w[n * n_in + k]);
            want[t * N + n] = (float)sum;
        }
    CHECK_INT(k_prefill_plan_create(w, N, n_in, &plan), 0);
    struct k_matmul_prefill_args args = {plan, out, x, w, bias ? b : NULL, T};
    CHECK_INT(k_matmul_prefill(NULL, &args), 0);
    CHECK_NEAR(out, want, (size_t)(T * N), 1e-12);
    memcpy(want, out + (T - 1) * N, (size_t)N * sizeof *want);
    memmove(x, x + (T - 1) * n_in, (size_t)n_in * sizeof *x);
    args.T = 1;
    CHECK_INT(k_matmul_prefill(NULL, &args), 0);
    CHECK_INT(test_n_differ(out, want, (size_t)N), 0);
    k_prefill_plan_destroy(plan);
    free(x), free(w), free(out), free(b), free(want);
}

static void matmuls_of_prompts(void)
{
    const int chunk = epidote_cuda_table()->prefill_rows;
    const int tokens[] = {1, 2, chunk - 1, chunk, chunk + 1, 3 * chunk + 5};

    for (int i = 0; i < 6; i++)
        multiplies_prompts(tokens[i], test_between(1, 70), 8 * test_between(1, 40), i % 2);
}

static void matmuls(void)
{
    static const int tokens[] = {1, 7, 8, 9, 16, 17, 33, 64};

    for (int i = 0; i < 8; i++)
        multiplies(tokens[i], test_between(1, 200), 8 * test_between(1, 80), i % 2, i % 3 == 0);
    multiplies(1, 64, 8, false, false);        /* one chunk */
    multiplies(3, 65, 128, true, false);       /* one output in the second block */
    multiplies(64, 63, 136, false, true);      /* one chunk in the second stage */
    multiplies(2, 100, 128 * 9, false, false); /* two splits, of 4 and 5 stages */
    multiplies(9, 70, 2048 + 40, true, true);  /* four */
    multiplies(1, 40, 8192, false, false);     /* eight, as many as there are */
}

/* ---- logits ------------------------------------------------------------------------------------- */

static void logits_of(int T, int V, int kind)
{
    float *x = test_floats((size_t)(T * V)), *want = test_copy(x, (size_t)(T * V));
    float *max = poisoned((size_t)T), *logsum = poisoned((size_t)T);
    float want_max[8], want_logsum[8];
    int32_t *id = calloc((size_t)T, sizeof *id);
    float *work = poisoned((size_t)k_logits_work_floats(T, V));
    struct k_logits_args args = {x, max, logsum, id, work, T, V, 0.0f, 0.0f};

    for (int i = 0; i < T * V; i++)
        x[i] = want[i] = x[i] * 5.0f;
    if (kind == 1) { /* scaled and capped */
        args.scale = 0.25f;
        args.softcap = 3.0f;
        ops->scale(ctx, want, (int64_t)T * V, args.scale);
        ops->softcap(ctx, want, (int64_t)T * V, args.softcap);
    } else if (kind == 2) { /* ties in several chunks, and -inf */
        for (int t = 0; t < T; t++)
            for (int i = 0; i < V; i++)
                x[t * V + i] = want[t * V + i] = i % 7 == 3 ? 2.5f : i % 5 == 4 ? -INFINITY : 1.0f;
    } else if (kind == 3) { /* each row bad in its own way */
        for (int t = 0; t < T; t++) {
            for (int i = 0; t % 3 == 2 && i < V; i++)
                x[t * V + i] = want[t * V + i] = -INFINITY;
            if (t % 3 < 2)
                x[t * V + V / 2] = want[t * V + V / 2] = t % 3 == 0 ? NAN : INFINITY;
        }
    }
    CHECK_INT(k_logits(NULL, &args), 0);
    if (kind != 3)
        CHECK_INT(test_n_differ(x, want, (size_t)(T * V)), 0);
    ops->softmax_stats(ctx, want, T, V, want_max, want_logsum);
    for (int t = 0; t < T; t++) {
        int first = -1;

        for (int i = 0; kind != 3 && i < V && first < 0; i++)
            first = want[t * V + i] == want_max[t] ? i : -1;
        CHECK_INT(id[t], first);
        if (kind == 3) {
            CHECK(isnan(max[t]) && isnan(logsum[t]));
        } else {
            CHECK(max[t] == want_max[t]);
            CHECK(fabsf(logsum[t] - want_logsum[t]) < 1e-5f);
        }
    }
    free(x), free(want), free(work), free(max), free(logsum), free(id);
}

static void logits(void)
{
    static const int sizes[] = {1, 5, 1023, 1024, 1025, 3000, 40000};

    for (int i = 0; i < 7; i++)
        for (int kind = 0; kind < 4; kind++)
            logits_of(i < 6 ? 3 : 1, sizes[i], kind);
}

/* ---- experts ------------------------------------------------------------------------------------ */

/* Experts and weights are the CPU's, to the bit; a bad row has the lowest ids and NaN. */
static void routes(void)
{
    static const int counts[] = {1, 2, 8, 15, 16, 17, 60, 64, 128, 1024};

    for (int round = 0; round < 20; round++) {
        const int X = counts[round / 2], T = test_between(1, 6);
        const int most = X < 64 ? X : 64;
        const int n_used = round % 2 ? most : test_between(1, most < 9 ? most : 9);
        float *logits = test_floats((size_t)(T * X));
        float *weights = test_floats((size_t)(T * n_used)),
              *want = test_floats((size_t)(T * n_used));
        int32_t *experts = calloc((size_t)(T * n_used), sizeof *experts);
        int32_t *want_experts = calloc((size_t)(T * n_used), sizeof *experts);
        const struct k_route_args args = {experts, weights, logits, T, X, n_used, round % 3 == 0};

        for (int i = 0; i < T * X; i++)
            logits[i] = round % 4 == 1 ? roundf(logits[i]) : logits[i] * 4.0f; /* ties */
        if (round == 7)
            logits[X / 2] = NAN;
        CHECK_INT(k_route(NULL, &args), 0);
        ops->route(ctx, logits, T, X, n_used, args.normalise != 0, want_experts, want);
        CHECK(memcmp(experts, want_experts, (size_t)(T * n_used) * sizeof *experts) == 0);
        for (int i = 0; i < T * n_used; i++)
            CHECK(weights[i] == want[i] || (isnan(weights[i]) && isnan(want[i])));
        free(logits), free(weights), free(want), free(experts), free(want_experts);
    }
}

static void combines(void)
{
    for (int round = 0; round < 6; round++) {
        const int T = test_between(1, 5), n_used = test_between(1, 8), D = test_between(1, 600);
        const int n = T * n_used;
        float *rows = test_floats((size_t)(n * D)), *weights = test_floats((size_t)n);
        float *out = test_floats((size_t)(T * D)), *want = test_floats((size_t)(T * D));
        int32_t *at = calloc((size_t)n, sizeof *at);
        const struct k_combine_args args = {out, rows, weights, at, T, n_used, D};

        for (int i = 0; i < n; i++)
            at[i] = n - 1 - i;
        CHECK_INT(k_combine(NULL, &args), 0);
        ops->combine(ctx, want, rows, at, weights, T, n_used, D);
        CHECK_INT(test_n_differ(out, want, (size_t)(T * D)), 0);
        free(rows), free(weights), free(out), free(want), free(at);
    }
}

/* Rows go to their experts and back: each has the bits of k_matmul with its expert's weights. */
static void matmuls_of_experts(void)
{
    static const int inputs[] = {40, 1152, 128, 8};

    for (int round = 0; round < 4; round++) {
        const int T = round == 3 ? 64 : test_between(1, 20), X = test_between(2, 9);
        const int n_used = test_between(1, X < 4 ? X : 4), n_rows = T * n_used;
        const int n_in = inputs[round], N = test_between(1, 90);
        const int64_t elems = (int64_t)N * n_in + 8 * round;
        const int n_work = (int)k_matmul_work_floats(n_rows, N, n_in);
        uint16_t *x = random_bf16((size_t)(T * n_in)), *w = random_bf16((size_t)(X * elems));
        uint16_t *sorted = nan_bf16((size_t)(n_rows * n_in));
        float *out = poisoned((size_t)(n_rows * N)), *alone = poisoned((size_t)N);
        float *work = poisoned((size_t)n_work), *logits = test_floats((size_t)(T * X));
        float *weights = test_floats((size_t)n_rows);
        int32_t *experts = calloc((size_t)n_rows, sizeof *experts);
        int32_t *slots = calloc((size_t)n_rows, sizeof *slots);
        int32_t *first = calloc((size_t)X + 1, sizeof *first);
        const struct k_route_args route = {experts, weights, logits, T, X, n_used, 1};
        const struct k_assign_args assign = {slots, first, experts, T, X, n_used};
        const struct k_gather_args gather = {sorted, x, slots, T, n_used, n_in};
        const struct k_matmul_experts_args args = {out,    sorted, w, first, work, elems,
                                                   n_rows, T,      X, N,     n_in};
        int wrong = 0;

        CHECK_INT(k_route(NULL, &route), 0);
        CHECK_INT(k_assign(NULL, &assign), 0);
        CHECK_INT(k_gather(NULL, &gather), 0);
        CHECK_INT(k_matmul_experts(NULL, &args), 0);
        CHECK_INT(first[0], 0);
        CHECK_INT(first[X], n_rows);
        for (int i = 0; i < n_rows; i++) {
            const int expert = experts[i], slot = slots[i];
            const struct k_matmul_args one = {alone,
                                              x + i / n_used * n_in,
                                              w + expert * elems,
                                              NULL,
                                              work,
                                              n_in,
                                              n_in,
                                              N,
                                              1,
                                              N,
                                              n_in,
                                              0};

            wrong += slot < first[expert] || slot >= first[expert + 1];
            wrong += i >= n_used && expert == experts[i - n_used] && slot <= slots[i - n_used];
            CHECK_INT(k_matmul(NULL, &one), 0);
            wrong += test_n_differ(alone, out + slot * N, (size_t)N) != 0;
        }
        CHECK_INT(wrong, 0);
        free(x), free(w), free(sorted), free(out), free(alone), free(work), free(logits);
        free(weights), free(experts), free(slots), free(first);
    }
}

/* ---- copies ------------------------------------------------------------------------------------- */

static void copies(void)
{
    for (int round = 0; round < 6; round++) {
        const int elems = 8 * test_between(1, 600), N = test_between(1, 9), n = test_between(1, N);
        const int L = test_between(1, 3);
        const int64_t layer_elems = (int64_t)N * elems + 8 * (round % 2);
        uint16_t *pool = random_bf16((size_t)(L * layer_elems));
        uint16_t *to = nan_bf16((size_t)(L * layer_elems));
        uint16_t *packed = nan_bf16((size_t)(L * n * elems));
        int32_t *ids = calloc((size_t)n, sizeof *ids);
        int wrong = 0;

        for (int i = 0; i < n; i++)
            ids[i] = N - 1 - i;
        struct k_kv_copy_args args = {packed, pool, ids, n, L, 0, elems, layer_elems};
        CHECK_INT(k_kv_copy(NULL, &args), 0);
        args.pool = to;
        args.scatter = 1;
        CHECK_INT(k_kv_copy(NULL, &args), 0);
        for (int64_t at = 0; at < L * layer_elems; at++) {
            const int64_t block = at % layer_elems / elems;
            const bool copied = block >= N - n && block < N;

            wrong += to[at] != (copied ? pool[at] : 0xffff);
        }
        CHECK_INT(wrong, 0);
        free(pool), free(to), free(packed), free(ids);
    }
}

/* ---- limits ------------------------------------------------------------------------------------- */

static void limits(void)
{
    float f[64] = {0};
    uint16_t h[64] = {0};
    int32_t i[64] = {0};

    CHECK(k_embed(NULL, &(struct k_embed_args){f, h, i, 1, 12, 1.0f}) != 0);
    CHECK(k_embed(NULL, &(struct k_embed_args){f, h, i, 0, 8, 1.0f}) != 0);
    CHECK(k_rmsnorm(NULL, &(struct k_rmsnorm_args){h, NULL, f, NULL, f, 1, 6, 0.1f, 1.0f}) != 0);
    CHECK(k_rmsnorm(NULL, &(struct k_rmsnorm_args){NULL, NULL, f, NULL, f, 1, 8, 0.1f, 1.0f}) != 0);
    CHECK(k_gated(NULL, &(struct k_gated_args){h, f, 70000, 4, 0}) != 0);
    struct k_attention_args a = {h, h, h, i, i, f, 1, 1, 34, 2, 16, 16, 0, 0, 1.0f, 0.0f};
    CHECK(k_attention(NULL, &a) != 0); /* 17 heads a KV head */
    a.H = 3;
    CHECK(k_attention(NULL, &a) != 0);
    a.H = 2;
    a.E = 24;
    CHECK(k_attention(NULL, &a) != 0);
    a.E = 272;
    CHECK(k_attention(NULL, &a) != 0);
    a.E = 16;
    a.P = 8;
    CHECK(k_attention(NULL, &a) != 0);
    struct k_matmul_args m = {f, h, h, NULL, NULL, 8, 8, 8, 65, 8, 8, 0};
    CHECK(k_matmul(NULL, &m) != 0); /* too many rows */
    m.T = 1;
    m.n_in = 12;
    CHECK(k_matmul(NULL, &m) != 0);
    m.n_in = m.ldx = 2048;
    m.ldw = 2048;
    CHECK(k_matmul(NULL, &m) != 0); /* needs work */
    CHECK(k_logits(NULL, &(struct k_logits_args){f, f, f, i, f, 0, 8, 0, 0}) != 0);
    CHECK(k_route(NULL, &(struct k_route_args){i, f, f, 1, 8, 9, 0}) != 0);
    CHECK(k_route(NULL, &(struct k_route_args){i, f, f, 1, 1025, 8, 0}) != 0);
    CHECK(k_assign(NULL, &(struct k_assign_args){i, i, i, 65536, 8, 1}) != 0);
    CHECK(k_gather(NULL, &(struct k_gather_args){h, h, i, 1, 1, 12}) != 0);
    struct k_matmul_experts_args e = {f, h, h, i, NULL, 64, 65, 65, 1, 8, 8};
    CHECK(k_matmul_experts(NULL, &e) != 0); /* too many rows of an expert */
    e.max_rows = 1;
    e.n_in = 2048;
    CHECK(k_matmul_experts(NULL, &e) != 0); /* needs work */
    CHECK(k_combine(NULL, &(struct k_combine_args){f, f, f, i, 65536, 1, 1}) != 0);
    CHECK(k_kv_copy(NULL, &(struct k_kv_copy_args){h, h, i, 1, 1, 0, 12, 16}) != 0);
}

int main(void)
{
    test_seed(1);
    begin();
    embeds();
    rmsnorms();
    rmsnorms_of_heads();
    gateds();
    ropes();
    attentions();
    matmuls();
    matmuls_of_prompts();
    logits();
    routes();
    combines();
    matmuls_of_experts();
    copies();
    limits();
    end();
    TEST_END();
}
