/* TEST */
/*
 * unit_ops_families.c - the operations that only some model families use: rmsnorm_heads, gelu_mul,
 * softcap, scale, add_scaled, route, combine.  Against a float64 loop, and bit by bit between
 * instruction sets, thread counts and batch sizes.
 */
#include "tests/ops_test.h"

enum { MAX_THREADS = 3 };

static struct threads *pools[MAX_THREADS + 1];
static struct ops_ctx *ctxs[MAX_THREADS + 1];

/* One problem of T rows; an operation fills out [T, n_out] (and ids), from rows t0 on. */
struct problem {
    int T, n, n_out, n_used;
    bool flag;
    float by;
    float *in;  /* [T, n] */
    float *w;   /* [n], or [T, n_used] */
    float *out; /* [T, n_out] what plain C made of it */
    int32_t *ids;
};

typedef enum status (*problem_fn)(const struct ops *ops, struct ops_ctx *ctx,
                                  const struct problem *p, int t0, int T, float *out, int32_t *ids);

static struct problem problem_random(int T, int n, int n_out, float spread)
{
    struct problem p = {.T = T, .n = n, .n_out = n_out};

    p.in = test_floats((size_t)(T * n));
    for (int i = 0; i < T * n; i++)
        p.in[i] *= spread;
    p.w = test_floats((size_t)(T * n));
    p.out = test_floats((size_t)(T * n_out));
    p.ids = calloc((size_t)(T * n_out), sizeof *p.ids);
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->in);
    free(p->w);
    free(p->out);
    free(p->ids);
}

/* Every variant, thread count, and each row alone give the bits of plain C. */
static void same_everywhere(const struct problem *p, problem_fn fn)
{
    const size_t n = (size_t)(p->T * p->n_out);
    float *got = test_floats(n);
    int32_t *ids = calloc(n, sizeof *ids);

    CHECK(fn(ops_list()[0], ctxs[1], p, 0, p->T, p->out, p->ids) == ST_OK);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        if (!(*ops)->usable())
            continue;
        for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
            memset(got, 0xff, n * sizeof *got);
            memset(ids, 0, n * sizeof *ids);
            CHECK(fn(*ops, ctxs[n_threads], p, 0, p->T, got, ids) == ST_OK);
            CHECK_INT(test_n_differ(got, p->out, n), 0);
            CHECK(memcmp(ids, p->ids, n * sizeof *ids) == 0);
        }
        const int t = test_between(0, p->T - 1);
        CHECK(fn(*ops, ctxs[1], p, t, 1, got, ids) == ST_OK);
        CHECK_INT(test_n_differ(got, p->out + t * p->n_out, (size_t)p->n_out), 0);
    }
    free(got);
    free(ids);
}

static void near(double got, double want, double limit)
{
    const double error = fabs(got - want);

    if (!(error <= limit))
        fprintf(stderr, "got %.9g, want %.9g\n", got, want);
    CHECK(error <= limit);
}

/* ---- element by element --------------------------------------------------------------------- */

static enum status run_gelu(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                            int t0, int T, float *out, int32_t *ids)
{
    (void)ids;
    return ops->gelu_mul(ctx, out, p->in + t0 * p->n, T, p->n / 2);
}

static enum status run_softcap(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                               int t0, int T, float *out, int32_t *ids)
{
    (void)ids;
    memcpy(out, p->in + t0 * p->n, (size_t)(T * p->n) * sizeof *out);
    return ops->softcap(ctx, out, (int64_t)T * p->n, p->by);
}

static enum status run_scale(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                             int t0, int T, float *out, int32_t *ids)
{
    (void)ids;
    memcpy(out, p->in + t0 * p->n, (size_t)(T * p->n) * sizeof *out);
    return ops->scale(ctx, out, (int64_t)T * p->n, p->by);
}

static enum status run_add_scaled(const struct ops *ops, struct ops_ctx *ctx,
                                  const struct problem *p, int t0, int T, float *out, int32_t *ids)
{
    (void)ids;
    memcpy(out, p->in + t0 * p->n, (size_t)(T * p->n) * sizeof *out);
    return ops->add_scaled(ctx, out, p->w + t0 * p->n, (int64_t)T * p->n, p->by);
}

static void gelu(int T, int F, float spread)
{
    struct problem p = problem_random(T, 2 * F, F, spread);

    same_everywhere(&p, run_gelu);
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < F; i++) {
            const double g = (double)p.in[t * 2 * F + i], up = (double)p.in[(t * 2 + 1) * F + i];
            const double z = 0.7978845608028654 * (g + 0.044715 * g * g * g);
            const double want = 0.5 * g * (1 + tanh(z)) * up;

            /* the exponential carries the rounding of its argument, 2 z */
            near((double)p.out[t * F + i], want, 3e-7 * fabs(want) * (1 + fabs(z)) + 1e-8);
        }
    }
    problem_free(&p);
}

static void elements(int T, int n, float spread)
{
    struct problem p = problem_random(T, n, n, spread);

    p.by = 0.37f;
    same_everywhere(&p, run_scale);
    for (int i = 0; i < T * n; i++)
        CHECK(p.out[i] == p.in[i] * 0.37f);
    same_everywhere(&p, run_add_scaled);
    for (int i = 0; i < T * n; i++)
        near((double)p.out[i], (double)p.in[i] + (double)p.w[i] * 0.37, 3e-7 * (double)spread);
    for (p.by = 1.5f; p.by < 60.0f; p.by *= 3) {
        same_everywhere(&p, run_softcap);
        for (int i = 0; i < T * n; i++) {
            const double want = (double)p.by * tanh((double)p.in[i] / (double)p.by);

            near((double)p.out[i], want, 6e-7 * fabs(want)); /* relative, at zero too */
        }
    }
    problem_free(&p);
}

static void softcap_edges(void)
{
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        float x[6] = {0.0f, 1e30f, -1e30f, INFINITY, -INFINITY, NAN};

        if (!(*ops)->usable())
            continue;
        CHECK((*ops)->softcap(ctxs[1], x, 6, 30.0f) == ST_OK);
        CHECK(x[0] == 0.0f && x[1] == 30.0f && x[2] == -30.0f && x[3] == 30.0f && x[4] == -30.0f);
        CHECK(isnan(x[5]));
    }
}

/* ---- norms of heads ------------------------------------------------------------------------- */

enum { GAP = 5 }; /* floats behind the heads of a row, which are not theirs */

static enum status run_heads(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                             int t0, int T, float *out, int32_t *ids)
{
    const int E = (p->n - GAP) / p->n_used;

    (void)ids;
    memcpy(out, p->in + t0 * p->n, (size_t)(T * p->n) * sizeof *out);
    return ops->rmsnorm_heads(ctx, out, p->n, p->w, T, p->n_used, E, 1e-3f);
}

static void heads(int T, int n_heads, int E)
{
    const int n = n_heads * E + GAP;
    struct problem p = problem_random(T, n, n, 2.0f);

    p.n_used = n_heads;
    same_everywhere(&p, run_heads);
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < n_heads; h++) {
            const float *in = p.in + t * n + h * E, *out = p.out + t * n + h * E;
            double squares = 0;

            for (int e = 0; e < E; e++)
                squares += (double)in[e] * (double)in[e];
            for (int e = 0; e < E; e++)
                near((double)out[e], (double)in[e] / sqrt(squares / E + 1e-3) * (double)p.w[e],
                     2e-6);
        }
        CHECK_INT(test_n_differ(p.in + t * n + n - GAP, p.out + t * n + n - GAP, GAP), 0);
    }
    problem_free(&p);
}

/* ---- experts -------------------------------------------------------------------------------- */

static enum status run_route(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                             int t0, int T, float *out, int32_t *ids)
{
    float *logits = test_copy(p->in + t0 * p->n, (size_t)(T * p->n));
    const enum status st = ops->route(ctx, logits, T, p->n, p->n_used, p->flag, ids, out);

    free(logits);
    return st;
}

/* The same experts as sorting by logits, their probabilities, ids ascending. */
static void route(int T, int X, int n_used, bool normalise)
{
    struct problem p = problem_random(T, X, n_used, 3.0f);

    p.n_used = n_used;
    p.flag = normalise;
    same_everywhere(&p, run_route);
    for (int t = 0; t < T; t++) {
        const float *logits = p.in + t * X;
        const int32_t *ids = p.ids + t * n_used;
        double sum = 0, chosen = 0;

        for (int x = 0; x < X; x++)
            sum += exp((double)logits[x]);
        for (int i = 0; i < n_used; i++) {
            int n_above = 0;

            chosen += exp((double)logits[ids[i]]);
            for (int x = 0; x < X; x++)
                n_above += logits[x] > logits[ids[i]];
            CHECK(n_above < n_used);
            CHECK(i == 0 || ids[i] > ids[i - 1]);
        }
        for (int i = 0; i < n_used; i++)
            near((double)p.out[t * n_used + i],
                 exp((double)logits[ids[i]]) / (normalise ? chosen : sum), 1e-6);
    }
    problem_free(&p);
}

/* Equal logits: the lowest ids.  A NaN never hangs nor picks an expert twice. */
static void route_edges(void)
{
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        float same[6] = {1, 1, 1, 1, 1, 1}, nan[3] = {NAN, 2, 1}, weights[3];
        int32_t ids[3];

        if (!(*ops)->usable())
            continue;
        CHECK((*ops)->route(ctxs[1], same, 1, 6, 3, true, ids, weights) == ST_OK);
        CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 2);
        near((double)weights[1], 1.0 / 3, 1e-7);
        CHECK((*ops)->route(ctxs[1], nan, 1, 3, 2, false, ids, weights) == ST_OK);
        CHECK(ids[0] < ids[1] && ids[1] < 3);
        CHECK(isnan(weights[0]) || isnan(weights[1]));
    }
}

static enum status run_combine(const struct ops *ops, struct ops_ctx *ctx, const struct problem *p,
                               int t0, int T, float *out, int32_t *ids)
{
    int32_t *at = calloc((size_t)(T * p->n_used), sizeof *at);

    (void)ids;
    for (int i = 0; i < T * p->n_used; i++) /* a fixed mix of rows */
        at[i] = (int32_t)((i + t0 * p->n_used) * 7 % p->T);
    const enum status st =
        ops->combine(ctx, out, p->in, at, p->w + t0 * p->n_used, T, p->n_used, p->n);
    free(at);
    return st;
}

static void combine(int T, int n_used, int D)
{
    struct problem p = problem_random(T, D, D, 1.0f);

    p.n_used = n_used < D ? n_used : D; /* w is [T, D] floats, enough for the weights */
    same_everywhere(&p, run_combine);
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < D; i++) {
            float want = 0;

            for (int n = 0; n < p.n_used; n++) {
                const int slot = t * p.n_used + n;
                const float product = p.in[slot * 7 % T * D + i] * p.w[slot];

                want += product;
            }
            CHECK(p.out[t * D + i] == want);
        }
    }
    problem_free(&p);
}

int main(void)
{
    test_seed(20260214);
    for (int n = 1; n <= MAX_THREADS; n++) {
        CHECK(threads_create(n, &pools[n]) == ST_OK);
        CHECK(ops_ctx_create(pools[n], &ctxs[n]) == ST_OK);
    }
    for (int turn = 0; turn < 12; turn++) {
        const int T = test_between(1, 40), n = test_between(1, 300);

        gelu(T, n, turn % 2 ? 1.0f : 8.0f);
        elements(T, n, turn % 2 ? 1.0f : 40.0f);
        heads(T, test_between(1, 6), turn % 2 ? 16 * test_between(1, 16) : test_between(1, 99));
        route(T, turn % 3 == 0 ? 1024 : test_between(8, 130), test_between(1, 8), turn % 2);
        combine(T, test_between(1, 8), n);
    }
    elements(70, 1000, 3.0f); /* several tasks */
    route(200, 64, 8, true);
    route(3, 8, 8, true);
    route_edges();
    softcap_edges();
    for (int n = 1; n <= MAX_THREADS; n++) {
        ops_ctx_destroy(ctxs[n]);
        threads_destroy(pools[n]);
    }
    TEST_END();
}
