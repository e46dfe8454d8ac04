/* TEST */
/*
 * unit_ops_vision.c - the operations of vision towers: layernorm, bias_act, rope_sections,
 * attention in both directions.  Against a float64 loop, and bit by bit between instruction sets,
 * thread counts and batch sizes.
 */
#include "tests/ops_test.h"

enum { MAX_THREADS = 3 };

static struct threads *pools[MAX_THREADS + 1];
static struct ops_ctx *ctxs[MAX_THREADS + 1];

/* A problem of T rows of n; fn changes rows t0 .. t0 + T - 1 in place. */
struct problem {
    int T, n;
    float *in, *w, *b;
    float *out; /* what plain C made of all rows */
    float *table;
    int32_t *pos;
    int sections[3], n_heads;
    enum ops_act act;
};
typedef enum status (*problem_fn)(const struct ops *ops, struct ops_ctx *ctx,
                                  const struct problem *p, int t0, int T, float *x);

static void same_everywhere(const struct problem *p, problem_fn fn)
{
    const size_t n = (size_t)(p->T * p->n);

    memcpy(p->out, p->in, n * sizeof *p->out);
    CHECK(fn(ops_list()[0], ctxs[1], p, 0, p->T, p->out) == ST_OK);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        for (int n_threads = 1; n_threads <= MAX_THREADS && (*ops)->usable(); n_threads++) {
            float *got = test_copy(p->in, n);
            const int t = test_between(0, p->T - 1);

            CHECK(fn(*ops, ctxs[n_threads], p, 0, p->T, got) == ST_OK);
            CHECK_INT(test_n_differ(got, p->out, n), 0);
            memcpy(got, p->in + t * p->n, (size_t)p->n * sizeof *got);
            CHECK(fn(*ops, ctxs[n_threads], p, t, 1, got) == ST_OK);
            CHECK_INT(test_n_differ(got, p->out + t * p->n, (size_t)p->n), 0);
            free(got);
        }
    }
}

static struct problem problem_begin(int T, int n, float spread)
{
    struct problem p = {.T = T, .n = n};

    p.in = test_floats((size_t)(T * n));
    p.w = test_floats((size_t)n);
    p.b = test_floats((size_t)n);
    p.out = test_floats((size_t)(T * n));
    for (int i = 0; i < T * n; i++)
        p.in[i] *= spread;
    return p;
}

static void problem_end(struct problem *p)
{
    free(p->in);
    free(p->w);
    free(p->b);
    free(p->out);
    free(p->table);
    free(p->pos);
}

static void near(double got, double want, double limit)
{
    if (!(fabs(got - want) <= limit))
        fprintf(stderr, "got %.9g, want %.9g\n", got, want);
    CHECK(fabs(got - want) <= limit);
}

/* ---- layernorm ------------------------------------------------------------------------------ */

static enum status run_layernorm(const struct ops *ops, struct ops_ctx *ctx,
                                 const struct problem *p, int t0, int T, float *x)
{
    (void)t0;
    return ops->layernorm(ctx, x, x, p->w, p->b, T, p->n, 1e-5f);
}

static void layernorm(int T, int D, float spread, float shift)
{
    struct problem p = problem_begin(T, D, spread);

    for (int i = 0; i < T * D; i++)
        p.in[i] += shift;
    same_everywhere(&p, run_layernorm);
    for (int t = 0; t < T; t++) {
        const float *x = p.in + t * D;
        double mean = 0, var = 0;

        for (int i = 0; i < D; i++)
            mean += (double)x[i] / D;
        for (int i = 0; i < D; i++)
            var += ((double)x[i] - mean) * ((double)x[i] - mean) / D;
        for (int i = 0; i < D; i++) {
            const double v = ((double)x[i] - mean) / sqrt(var + (double)1e-5f);

            near((double)p.out[t * D + i], v * (double)p.w[i] + (double)p.b[i],
                 1e-6 * (1 + fabs((double)shift) / sqrt(var + 1e-5)) * (4 + fabs((double)p.w[i])));
        }
    }
    problem_end(&p);
}

/* ---- bias_act ------------------------------------------------------------------------------- */

static enum status run_act(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                           int t0, int T, float *x)
{
    (void)t0;
    return ops->bias_act(ctx, x, p->b, T, p->n, p->act);
}

static double act_of(enum ops_act act, double x)
{
    switch (act) {
    case OPS_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case OPS_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    default:
        return 0.5 * x * erfc(-x * M_SQRT1_2);
    }
}

static void bias_act(int T, int n, float spread)
{
    for (int act = 0; act < 3; act++) {
        struct problem p = problem_begin(T, n, spread);

        p.act = (enum ops_act)act;
        same_everywhere(&p, run_act);
        for (int i = 0; i < T * n; i++) {
            const double x = (double)(p.in[i] + p.b[i % n]), want = act_of(p.act, x);

            /* an exponential carries the rounding of its argument; a GELU's error is that of a
             * factor of x */
            near((double)p.out[i], want, 2.5e-7 * fabs(x) + 3e-7 * fabs(want) * (1 + fabs(x)));
        }
        problem_end(&p);
    }
}

static void act_edges(void)
{
    static const float at[] = {0.0f,  -0.0f, 1e-30f, -1e-30f, 9.0f,
                               -9.0f, 40.0f, -40.0f, 1e4f,    -1e4f};
    enum { N = sizeof at / sizeof at[0] };
    const float bias[N] = {0};

    for (int act = 0; act < 3; act++) {
        float x[N];

        memcpy(x, at, sizeof x);
        CHECK(ops_list()[0]->bias_act(ctxs[1], x, bias, 1, N, (enum ops_act)act) == ST_OK);
        for (int i = 0; i < N; i++)
            near((double)x[i], act_of((enum ops_act)act, (double)at[i]),
                 1e-6 * fabs((double)at[i]));
        x[0] = NAN;
        CHECK(ops_list()[0]->bias_act(ctxs[1], x, bias, 1, 1, (enum ops_act)act) == ST_OK);
        CHECK(isnan(x[0]));
    }
}

/* ---- rope_sections -------------------------------------------------------------------------- */

enum { ROPE_CONTEXT = 40 };

static enum status run_rope(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                            int t0, int T, float *x)
{
    return ops->rope_sections(ctx, x, p->n, p->pos + 3 * t0, p->sections, p->table, T, p->n_heads,
                              p->n / p->n_heads);
}

static void rope_sections(int T, int n_heads, int E, const int sections[3])
{
    struct problem p = problem_begin(T, n_heads * E, 1);
    const int half = E / 2;

    p.n_heads = n_heads;
    memcpy(p.sections, sections, sizeof p.sections);
    p.table = test_floats((size_t)(ROPE_CONTEXT * E));
    p.pos = malloc((size_t)(3 * T) * sizeof *p.pos);
    for (int i = 0; i < 3 * T; i++)
        p.pos[i] = test_between(0, ROPE_CONTEXT - 1);
    same_everywhere(&p, run_rope);
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < n_heads * half; i++) {
            const int pair = i % half, at = t * p.n + i / half * E + pair;
            const int s = pair < sections[0] ? 0 : pair < sections[0] + sections[1] ? 1 : 2;
            const float *angle = p.table + (p.pos[3 * t + s] * half + pair) * 2;
            const double u = (double)p.in[at], v = (double)p.in[at + half];
            const bool turns = pair < sections[0] + sections[1] + sections[2];
            const double c = turns ? (double)angle[0] : 1, z = turns ? (double)angle[1] : 0;

            near((double)p.out[at], u * c - v * z, 1e-5);
            near((double)p.out[at + half], v * c + u * z, 1e-5);
        }
    }
    if (sections[0] + sections[1] + sections[2] == half) { /* three equal positions: rope's bits */
        float *one = test_copy(p.in, (size_t)(T * p.n)), *three = test_copy(one, (size_t)(T * p.n));
        int32_t *pos = malloc((size_t)T * sizeof *pos);

        for (int t = 0; t < T; t++)
            pos[t] = p.pos[3 * t + 1] = p.pos[3 * t + 2] = p.pos[3 * t];
        CHECK(run_rope(ops_list()[0], ctxs[1], &p, 0, T, three) == ST_OK);
        CHECK(ops_list()[0]->rope(ctxs[1], one, p.n, pos, p.table, T, n_heads, E) == ST_OK);
        CHECK_INT(test_n_differ(one, three, (size_t)(T * p.n)), 0);
        free(one);
        free(three);
        free(pos);
    }
    problem_end(&p);
}

/* ---- attention in both directions ------------------------------------------------------------ */

static void both_ways(enum ops_type type, const int *lengths, int B, int H, int E, int P)
{
    int T = 0, n_blocks = 0;
    struct ops_seq seqs[8];
    int32_t blocks[64];

    for (int b = 0; b < B; b++) {
        seqs[b] = (struct ops_seq){blocks + n_blocks, 0, lengths[b], T};
        T += lengths[b];
        for (int i = 0; i < (lengths[b] + P - 1) / P; i++, n_blocks++)
            blocks[n_blocks] = n_blocks;
    }
    const int ld = 3 * H * E;
    float *qkv = test_floats((size_t)(T * ld)), *right = test_floats((size_t)(T * H * E));
    float *got = test_floats((size_t)(T * H * E));
    const size_t kv_elems = (size_t)n_blocks * 2 * (size_t)(H * P * E);
    uint8_t *store = aligned_alloc(64, (kv_elems * ops_type_bytes(type) + 63) / 64 * 64);
    const struct ops_kv kv = {.type = type, .K = H, .P = P, .E = E, .base = store};
    const struct ops_attention how = {.scale = 0.3f, .both_ways = true};
    const struct ops *plain = ops_list()[0];

    memset(store, 0xff, kv_elems * ops_type_bytes(type)); /* NaN in slots that nobody may read */
    CHECK(plain->kv_store(ctxs[1], &kv, seqs, B, qkv + H * E, qkv + 2 * H * E, ld) == ST_OK);
    CHECK(plain->attention(ctxs[1], right, qkv, ld, H, &kv, seqs, B, &how) == ST_OK);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        for (int n_threads = 1; n_threads <= MAX_THREADS && (*ops)->usable(); n_threads++) {
            memset(got, 0xff, (size_t)(T * H * E) * sizeof *got);
            CHECK((*ops)->attention(ctxs[n_threads], got, qkv, ld, H, &kv, seqs, B, &how) == ST_OK);
            CHECK_INT(test_n_differ(got, right, (size_t)(T * H * E)), 0);
        }
    }
    double worst = 0, *p = malloc((size_t)T * sizeof *p);
    for (int b = 0; b < B; b++) {
        for (int i = 0; i < lengths[b] * H; i++) {
            const int h = i % H, row0 = seqs[b].row0;
            const float *q = qkv + (row0 + i / H) * ld + h * E;
            double max = -INFINITY, sum = 0;

            for (int k = 0; k < lengths[b]; k++) {
                p[k] = 0;
                for (int e = 0; e < E; e++)
                    p[k] += (double)how.scale * test_rounded(type, q[e]) *
                            test_rounded(type, qkv[(row0 + k) * ld + (H + h) * E + e]);
                max = fmax(max, p[k]);
            }
            for (int k = 0; k < lengths[b]; k++)
                sum += p[k] = exp(p[k] - max);
            for (int e = 0; e < E; e++) {
                double want = 0;

                for (int k = 0; k < lengths[b]; k++)
                    want +=
                        p[k] / sum * test_rounded(type, qkv[(row0 + k) * ld + (2 * H + h) * E + e]);
                worst = fmax(worst, fabs((double)right[(row0 + i / H) * H * E + h * E + e] - want));
            }
        }
    }
    fprintf(stderr, "both ways, %s, P %d: largest error %.1e\n", type == OPS_BF16 ? "bf16" : "f32",
            P, worst);
    CHECK(worst < 3e-6);
    free(p);
    free(qkv);
    free(right);
    free(got);
    free(store);
}

int main(void)
{
    test_seed(20260801);
    for (int n = 1; n <= MAX_THREADS; n++) {
        CHECK(threads_create(n, &pools[n]) == ST_OK);
        CHECK(ops_ctx_create(pools[n], &ctxs[n]) == ST_OK);
    }
    layernorm(5, 16, 1, 0);
    layernorm(3, 1, 1, 0);
    layernorm(37, 1153, 3, 0.5f);
    layernorm(9, 77, 0.01f, 2);
    bias_act(3, 16, 1);
    bias_act(7, 1001, 3);
    bias_act(40, 515, 9);
    act_edges();
    rope_sections(9, 3, 32, (const int[3]){4, 6, 6});
    rope_sections(5, 2, 16, (const int[3]){0, 3, 3}); /* two pairs stay */
    rope_sections(70, 12, 128, (const int[3]){16, 24, 24});
    for (int type = 0; type < OPS_TYPE_COUNT; type++) {
        both_ways((enum ops_type)type, (const int[]){1, 64, 7}, 3, 2, 32, 64);
        both_ways((enum ops_type)type, (const int[]){65, 130, 16, 3}, 4, 3, 80, 16);
    }
    for (int n = 1; n <= MAX_THREADS; n++) {
        ops_ctx_destroy(ctxs[n]);
        threads_destroy(pools[n]);
    }
    TEST_END();
}
