/* TEST */
/*
 * unit_ops.c - every operation but attention (unit_attention.c): against a float64 loop, bit by bit
 * between instruction sets, thread counts and batch sizes, and at its edges.
 */
#include "tests/ops_test.h"

enum { MAX_THREADS = 3 };

static struct threads *pools[MAX_THREADS + 1];
static struct ops_ctx *ctxs[MAX_THREADS + 1];

/* ---- finding, packing ----------------------------------------------------------------------- */

static void find(void)
{
    const struct ops *ops = NULL;
    const struct ops *widest = NULL, *before = NULL;
    bool plain_first = strcmp(ops_list()[0]->name, "plain") == 0;

    CHECK(plain_first);
    for (const struct ops *const *v = ops_list(); *v != NULL; v++) {
        CHECK_STR((*v)->numerics, "bf16chain/1");
        const enum status st = ops_find((*v)->name, &ops);
        if ((*v)->usable()) {
            CHECK(st == ST_OK && ops == *v);
            before = widest;
            widest = *v;
        } else {
            CHECK_INT(st, ST_UNSUPPORTED);
            CHECK_HAS(log_last_error(), (*v)->name);
            CHECK_HAS(log_last_error(), "use instructions = \"auto\"");
        }
    }
    CHECK(ops_find("auto", &ops) == ST_OK);
    CHECK(ops == widest || (widest->pays != NULL && ops == before));
    CHECK_INT(ops_find("sse9", &ops), ST_CONFIG);
    CHECK_HAS(log_last_error(), "\"sse9\"");
    CHECK_HAS(log_last_error(), "auto, plain, avx2, avx512, avx512bf16");
}

/* Memory starts as all ones: whatever packing leaves alone would be NaN. */
static struct ops_matrix matrix_random(enum ops_type type, int n_out, int n_in, float scale)
{
    const size_t bytes = ops_matrix_bytes(type, n_out, n_in);
    struct ops_matrix w = {.type = type, .n_out = n_out, .n_in = n_in};
    float *row = test_floats((size_t)n_in);

    w.data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(w.data, 0xff, bytes);
    for (int out = 0; out < n_out; out++) {
        for (int in = 0; in < n_in; in++)
            row[in] = scale * test_normal();
        ops_matrix_set_row(&w, out, row);
    }
    free(row);
    return w;
}

static void pack(void)
{
    for (int type = 0; type < OPS_TYPE_COUNT; type++) {
        for (int n_in = 1; n_in <= 5; n_in++) {
            for (int n_out = 15; n_out <= 18; n_out++) {
                struct ops_matrix w = matrix_random((enum ops_type)type, n_out, n_in, 1.0f);
                float *row = test_floats((size_t)n_in), back[8];
                const size_t n_bytes = ops_matrix_bytes(w.type, n_out, n_in);
                size_t n_ones = 0;

                CHECK_INT(n_bytes, (size_t)((n_out + 15) / 16 * 16 * ((n_in + 1) / 2 * 2)) *
                                       ops_type_bytes(w.type));
                ops_matrix_set_row(&w, n_out / 2, row);
                ops_matrix_get_row(&w, n_out / 2, back);
                for (int in = 0; in < n_in; in++)
                    CHECK((double)back[in] == test_rounded(w.type, row[in]));
                /* padding is zero, not what was there */
                for (size_t i = 0; i < n_bytes; i += ops_type_bytes(w.type))
                    n_ones += memcmp((uint8_t *)w.data + i, "\377\377\377\377",
                                     ops_type_bytes(w.type)) == 0;
                CHECK_INT(n_ones, 0);
                free(row);
                free(w.data);
            }
        }
    }
    /* the layout that other rooms may rely on: [panel][pair][16][2] */
    float row[6] = {1, 2, 3, 4, 5, 6};
    uint16_t data[2 * 3 * 32] = {0};
    struct ops_matrix w = {.type = OPS_BF16, .n_out = 18, .n_in = 6, .data = data};
    ops_matrix_set_row(&w, 17, row);
    CHECK_INT(data[3 * 32 + 1 * 32 + 1 * 2 + 1], bf16_from_f32(4));
    CHECK_INT(data[3 * 32 + 2 * 32 + 1 * 2 + 0], bf16_from_f32(5));
}

/* ---- matmul --------------------------------------------------------------------------------- */

/* The chain of ops.h in double for every output: |error| stays within a few roundings of the sum of
 * the absolute terms. */
static void matmul_oracle(const float *out, int ldo, const float *x, int ldx,
                          const struct ops_matrix *w, int T)
{
    float *row = test_floats((size_t)w->n_in);
    double worst = 0.0;

    for (int o = 0; o < w->n_out; o++) {
        ops_matrix_get_row(w, o, row);
        for (int t = 0; t < T; t++) {
            double sum = 0.0, all = 0.0;

            for (int i = 0; i < w->n_in; i++) {
                const double term = test_rounded(w->type, x[t * ldx + i]) * (double)row[i];
                sum += term;
                all += fabs(term);
            }
            const double error = fabs((double)out[t * ldo + o] - sum) / (all + 1e-30);
            worst = error > worst ? error : worst;
        }
    }
    free(row);
    if (!(worst < 6e-8 * (1.0 + sqrt((double)w->n_in))))
        fprintf(stderr, "matmul [%d, %d] x %d: error %.3g\n", w->n_out, w->n_in, T, worst);
    CHECK(worst < 6e-8 * (1.0 + sqrt((double)w->n_in)));
}

/* ---- the same with stored rows -------------------------------------------------------------- */

/* The rows of a packed matrix, from first_row on, as rows that are expanded for each product. */
struct stored_twin {
    const struct ops_matrix *of;
    int first_row;
};

static void expand_twin(const void *arg, int row, int first, int n, float *out)
{
    const struct stored_twin *twin = arg;
    const int n_in = twin->of->n_in;
    float *whole = malloc((size_t)n_in * sizeof *whole);

    if (first % OPS_STORED_ELEMS != 0 || n <= 0 || first + n > n_in ||
        (n % OPS_STORED_ELEMS != 0 && first + n != n_in))
        abort(); /* in a thread, where nothing is counted */
    ops_matrix_get_row(twin->of, twin->first_row + row, whole);
    memcpy(out, whole + first, (size_t)n * sizeof *out);
    free(whole);
}

/* In three runs of rows, one of which may be empty. */
static void matmul_stored(const struct ops *ops, const struct ops_matrix *w, const float *x,
                          int ldx, int T, const float *want, int ldo)
{
    const int cut[4] = {0, w->n_out / 3, w->n_out / 2, w->n_out};
    struct stored_twin twins[3];
    struct ops_stored stored[3];
    const struct ops_matrix twin = {
        .type = w->type, .n_out = w->n_out, .n_in = w->n_in, .stored = stored, .n_stored = 3};
    const size_t n = (size_t)(T * ldo);
    float *got = test_copy(want, n);

    for (int i = 0; i < 3; i++) {
        twins[i] = (struct stored_twin){w, cut[i]};
        stored[i] = (struct ops_stored){cut[i + 1] - cut[i], expand_twin, &twins[i]};
    }
    for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads += 2) {
        for (int t = 0; t < T; t++) /* all but what lies between the rows */
            memset(got + t * ldo, 0xff, (size_t)w->n_out * sizeof *got);
        CHECK(ops->matmul(ctxs[n_threads], got, ldo, x, ldx, &twin, T) == ST_OK);
        CHECK_INT(test_n_differ(got, want, n), 0);
    }
    free(got);
}

/* One product on all variants and thread counts, then each row alone. */
static void matmul_case(enum ops_type type, int T, int n_out, int n_in)
{
    struct ops_matrix w = matrix_random(type, n_out, n_in, 0.5f);
    const int ldx = n_in + test_between(0, 3), ldo = n_out + test_between(0, 3);
    const size_t n_x = (size_t)(T * ldx), n = (size_t)(T * ldo);
    float *x = test_floats(n_x), *want = test_floats(n), *guard = test_copy(want, n);
    float *got = test_floats(n), *alone = test_floats((size_t)n_out);

    CHECK(ops_list()[0]->matmul(ctxs[1], want, ldo, x, ldx, &w, T) == ST_OK);
    matmul_oracle(want, ldo, x, ldx, &w, T);
    for (int t = 0; t < T; t++) /* nothing but the outputs is written */
        CHECK_INT(
            test_n_differ(want + t * ldo + n_out, guard + t * ldo + n_out, (size_t)(ldo - n_out)),
            0);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        if (!(*ops)->usable())
            continue;
        for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
            memcpy(got, guard, n * sizeof *got);
            CHECK((*ops)->matmul(ctxs[n_threads], got, ldo, x, ldx, &w, T) == ST_OK);
            CHECK_INT(test_n_differ(got, want, n), 0);
        }
        matmul_stored(*ops, &w, x, ldx, T, want, ldo);
        const int t = test_between(0, T - 1);
        CHECK((*ops)->matmul(ctxs[1], alone, n_out, x + t * ldx, ldx, &w, 1) == ST_OK);
        CHECK_INT(test_n_differ(alone, want + t * ldo, (size_t)n_out), 0);
    }
    free(x);
    free(want);
    free(guard);
    free(got);
    free(alone);
    free(w.data);
}

static void matmul(void)
{
    for (int T = 1; T <= 70; T++) {
        const enum ops_type type = T % 3 == 0 ? OPS_F32 : OPS_BF16;

        matmul_case(type, T, test_between(1, 90), test_between(1, 130));
    }
    for (int n_in = 1; n_in <= 40; n_in++)
        matmul_case(n_in % 2 ? OPS_BF16 : OPS_F32, test_between(1, 13), test_between(1, 70), n_in);
    matmul_case(OPS_BF16, 27, 33, 1537); /* blocks of the summed index */
    matmul_case(OPS_F32, 26, 17, 1200);
    matmul_case(OPS_BF16, 1, 70, 1536);
    matmul_case(OPS_BF16, 5, 18, 1025);
    matmul_case(OPS_BF16, 210, 47, 65); /* chunks of rows */
    matmul_case(OPS_BF16, 1, 1000, 64); /* many panels */
    matmul_case(OPS_BF16, 3, 1000, 64);
}

/* Infinity and NaN in one row stay there; subnormal weights and inputs count as zero. */
static void matmul_edges(void)
{
    struct ops_matrix w = matrix_random(OPS_BF16, 20, 9, 1.0f);
    float x[8 * 9], clean[8 * 20], out[8 * 20], tiny[9];

    for (int i = 0; i < 8 * 9; i++)
        x[i] = test_normal();
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        if (!(*ops)->usable())
            continue;
        CHECK((*ops)->matmul(ctxs[1], clean, 20, x, 9, &w, 8) == ST_OK);
        const float kept = x[3 * 9 + 8];
        x[3 * 9 + 8] = NAN;
        CHECK((*ops)->matmul(ctxs[1], out, 20, x, 9, &w, 8) == ST_OK);
        x[3 * 9 + 8] = kept;
        for (int t = 0; t < 8; t++)
            for (int o = 0; o < 20; o++)
                CHECK(t == 3 ? isnan(out[t * 20 + o])
                             : bits_from_f32(out[t * 20 + o]) == bits_from_f32(clean[t * 20 + o]));
        for (int i = 0; i < 9; i++)
            tiny[i] = f32_from_bits(0x00400000u);
        CHECK((*ops)->matmul(ctxs[1], out, 20, tiny, 9, &w, 1) == ST_OK);
        for (int o = 0; o < 20; o++)
            CHECK_INT(bits_from_f32(out[o]), 0);
        CHECK((*ops)->matmul(ctxs[1], out, 20, x, 9, &w, 0) == ST_OK);
    }
    free(w.data);
}

/* Rounding of inputs to bf16 is bf16_from_f32 for every bit pattern, seen through W = identity. */
static void matmul_rounding(void)
{
    struct ops_matrix w = {.type = OPS_BF16, .n_out = 16, .n_in = 16};
    float row[16], x[16], out[16];

    w.data = aligned_alloc(64, ops_matrix_bytes(OPS_BF16, 16, 16));
    for (int o = 0; o < 16; o++) {
        memset(row, 0, sizeof row);
        row[o] = 1.0f;
        ops_matrix_set_row(&w, o, row);
    }
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        int wrong = 0;

        for (int turn = 0; (*ops)->usable() && turn < 20000; turn++) {
            for (int i = 0; i < 16; i++) { /* normal and finite, so that 0 * x adds nothing */
                const uint32_t bits = test_random();
                const uint32_t exponent = 1 + test_random() % 252;

                x[i] = f32_from_bits((bits & 0x807fffffu) | exponent << 23);
                if (turn % 4 == 0) /* ties */
                    x[i] = f32_from_bits((bits_from_f32(x[i]) & 0xffff0000u) | 0x8000u);
            }
            CHECK((*ops)->matmul(ctxs[1], out, 16, x, 16, &w, 1) == ST_OK);
            for (int i = 0; i < 16; i++)
                wrong += out[i] != f32_from_bf16(bf16_from_f32(x[i]));
        }
        CHECK_INT(wrong, 0);
    }
    free(w.data);
}

/* ---- the operations on rows ----------------------------------------------------------------- */

struct rows_case {
    int T, n; /* rows, elements a row */
    float *in, *w, *out;
    int32_t *pos;
    float *table;
    int n_heads, E;
};

/* out [T, n] from in; the row count may be cut to check rows alone. */
typedef enum status (*rows_fn)(const struct ops *ops, struct ops_ctx *ctx,
                               const struct rows_case *c, const float *in, const int32_t *pos,
                               float *out, int T);

static enum status run_rmsnorm(const struct ops *ops, struct ops_ctx *ctx,
                               const struct rows_case *c, const float *in, const int32_t *pos,
                               float *out, int T)
{
    (void)pos;
    return ops->rmsnorm(ctx, out, in, c->w, T, c->n, 1e-5f);
}

static enum status run_silu(const struct ops *ops, struct ops_ctx *ctx, const struct rows_case *c,
                            const float *in, const int32_t *pos, float *out, int T)
{
    float *gate_up = test_floats((size_t)(2 * T * c->n));

    (void)pos;
    for (int t = 0; t < T; t++) {
        memcpy(gate_up + 2 * t * c->n, in + t * c->n, (size_t)c->n * sizeof *in);
        memcpy(gate_up + (2 * t + 1) * c->n, c->w, (size_t)c->n * sizeof *in);
    }
    const enum status st = ops->silu_mul(ctx, out, gate_up, T, c->n);
    free(gate_up);
    return st;
}

static enum status run_rope(const struct ops *ops, struct ops_ctx *ctx, const struct rows_case *c,
                            const float *in, const int32_t *pos, float *out, int T)
{
    memcpy(out, in, (size_t)(T * c->n) * sizeof *in);
    return ops->rope(ctx, out, c->n, pos, c->table, T, c->n_heads, c->E);
}

static enum status run_add(const struct ops *ops, struct ops_ctx *ctx, const struct rows_case *c,
                           const float *in, const int32_t *pos, float *out, int T)
{
    (void)pos;
    for (int t = 0; t < T; t++)
        memcpy(out + t * c->n, c->w, (size_t)c->n * sizeof *in);
    return ops->add(ctx, out, in, (int64_t)T * c->n);
}

static enum status run_add_row(const struct ops *ops, struct ops_ctx *ctx,
                               const struct rows_case *c, const float *in, const int32_t *pos,
                               float *out, int T)
{
    (void)pos;
    memcpy(out, in, (size_t)(T * c->n) * sizeof *in);
    return ops->add_row(ctx, out, c->w, T, c->n);
}

/* All variants and thread counts agree bit by bit, and a row alone equals its row in the batch. */
static void rows_same(const struct rows_case *c, rows_fn fn)
{
    const size_t n = (size_t)(c->T * c->n);
    float *got = test_floats(n);

    CHECK(fn(ops_list()[0], ctxs[1], c, c->in, c->pos, c->out, c->T) == ST_OK);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        if (!(*ops)->usable())
            continue;
        for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
            memset(got, 0xff, n * sizeof *got);
            CHECK(fn(*ops, ctxs[n_threads], c, c->in, c->pos, got, c->T) == ST_OK);
            CHECK_INT(test_n_differ(got, c->out, n), 0);
        }
        const int t = test_between(0, c->T - 1);
        CHECK(fn(*ops, ctxs[1], c, c->in + t * c->n, c->pos + t, got, 1) == ST_OK);
        CHECK_INT(test_n_differ(got, c->out + t * c->n, (size_t)c->n), 0);
    }
    free(got);
}

/* Largest |got - want| over the row's largest |want|, or over 1 if that is smaller. */
static double rows_error(const float *got, const double *want, int n)
{
    double worst = 0.0, most = 1.0;

    for (int i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - want[i]);
        worst = error > worst || isnan(error) ? error : worst;
        most = fabs(want[i]) > most ? fabs(want[i]) : most;
    }
    return worst / most;
}

static void rows_oracle(const struct rows_case *c, rows_fn fn)
{
    double *want = calloc((size_t)c->n, sizeof *want);

    for (int t = 0; t < c->T; t++) {
        const float *in = c->in + t * c->n;
        double squares = 0.0;

        for (int i = 0; i < c->n; i++)
            squares += (double)in[i] * (double)in[i];
        for (int i = 0; i < c->n; i++) {
            const double x = (double)in[i], w = (double)c->w[i];

            if (fn == run_rmsnorm)
                want[i] = x / sqrt(squares / c->n + 1e-5) * w;
            else if (fn == run_silu)
                want[i] = x / (1.0 + exp(-x)) * w;
            else if (fn == run_add || fn == run_add_row)
                want[i] = x + w;
        }
        for (int h = 0; fn == run_rope && h < c->n_heads; h++) {
            for (int i = 0; i < c->E / 2; i++) {
                const float *angle = c->table + (c->pos[t] * c->E / 2 + i) * 2;
                const int a = h * c->E + i, b = a + c->E / 2;

                want[a] = (double)in[a] * (double)angle[0] - (double)in[b] * (double)angle[1];
                want[b] = (double)in[b] * (double)angle[0] + (double)in[a] * (double)angle[1];
            }
        }
        CHECK(rows_error(c->out + t * c->n, want, c->n) < 6e-7);
    }
    free(want);
}

static void rows(void)
{
    static const int heads[] = {16, 32, 48, 64, 80, 96, 128, 256};

    for (int turn = 0; turn < 60; turn++) {
        struct rows_case c = {.T = test_between(1, 70)};

        c.E = heads[turn % 8];
        c.n_heads = test_between(1, 5);
        c.n = c.n_heads * c.E;
        c.in = test_floats((size_t)(c.T * c.n));
        c.w = test_floats((size_t)c.n);
        c.out = test_floats((size_t)(c.T * c.n));
        c.table = test_floats((size_t)(100 * c.E));
        c.pos = calloc((size_t)c.T, sizeof *c.pos);
        for (int t = 0; t < c.T; t++)
            c.pos[t] = test_between(0, 99);
        rows_same(&c, run_rope);
        rows_oracle(&c, run_rope);
        c.n = test_between(1, c.n); /* the others take any width */
        rows_same(&c, run_rmsnorm);
        rows_oracle(&c, run_rmsnorm);
        rows_same(&c, run_add);
        rows_oracle(&c, run_add);
        rows_same(&c, run_add_row);
        rows_oracle(&c, run_add_row);
        for (int i = 0; i < c.n; i++)
            c.in[i] *= 60.0f; /* both ends of the sigmoid */
        rows_same(&c, run_silu);
        rows_oracle(&c, run_silu);
        free(c.in);
        free(c.w);
        free(c.out);
        free(c.table);
        free(c.pos);
    }
    /* in place */
    float x[37], w[37], out[37];
    for (int i = 0; i < 37; i++)
        x[i] = w[i] = test_normal();
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        float same[37];

        if (!(*ops)->usable())
            continue;
        memcpy(same, x, sizeof same);
        CHECK((*ops)->rmsnorm(ctxs[1], out, x, w, 1, 37, 1e-2f) == ST_OK);
        CHECK((*ops)->rmsnorm(ctxs[1], same, same, w, 1, 37, 1e-2f) == ST_OK);
        CHECK_INT(test_n_differ(out, same, 37), 0);
    }
}

/* ---- exp, softmax_stats --------------------------------------------------------------------- */

static void exponential(void)
{
    enum { N = 200003 };
    float *x = test_floats(N), *want = test_floats(N), *got = test_floats(N);
    static const float edges[] = {0.0f, -0.0f, 88.0f, -86.99f, -87.0f, -87.01f, -1e30f, 1e-30f};
    double worst = 0.0;

    for (int i = 0; i < N; i++)
        x[i] = (float)(-90.0 + 178.0 * i / (N - 1));
    memcpy(x, edges, sizeof edges);
    ops_list()[0]->exp(want, x, N);
    for (int i = 0; i < N; i++) {
        const double exact = exp((double)x[i]);

        if (x[i] < -87.0f)
            CHECK(bits_from_f32(want[i]) == 0);
        else
            worst = fmax(worst, fabs((double)want[i] / exact - 1.0));
    }
    fprintf(stderr, "exp: largest relative error %.3g\n", worst);
    CHECK(worst < 1.1 * 0x1p-23);
    CHECK(want[0] == 1.0f && want[1] == 1.0f);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        const float odd[2] = {-INFINITY, NAN};
        float out[2];

        if (!(*ops)->usable())
            continue;
        (*ops)->exp(got, x, N);
        CHECK_INT(test_n_differ(got, want, N), 0);
        (*ops)->exp(out, odd, 2);
        CHECK(bits_from_f32(out[0]) == 0 && isnan(out[1]));
        for (int n = 0; n < 20; n++) { /* tails: same bits, nothing behind the end */
            got[n] = 7.0f;
            (*ops)->exp(got, x + 100000, n);
            CHECK_INT(test_n_differ(got, want + 100000, (size_t)n), 0);
            CHECK(got[n] == 7.0f);
        }
    }
    free(x);
    free(want);
    free(got);
}

static void softmax_case(int T, int V, float spread)
{
    const size_t n = (size_t)T * (size_t)V;
    float *x = test_floats(n), max[8], logsum[8], other_max[8], other_logsum[8];

    for (size_t i = 0; i < n; i++)
        x[i] *= spread;
    if (V > 1)
        x[test_between(0, V - 1)] = -INFINITY; /* a masked id is no trouble */
    CHECK(ops_list()[0]->softmax_stats(ctxs[1], x, T, V, max, logsum) == ST_OK);
    for (int t = 0; t < T; t++) {
        double sum = 0.0, most = -INFINITY;

        for (int i = 0; i < V; i++)
            most = fmax(most, (double)x[t * V + i]);
        for (int i = 0; i < V; i++)
            sum += exp((double)x[t * V + i] - most);
        CHECK((double)max[t] == most);
        CHECK(fabs((double)logsum[t] - log(sum)) < 4e-7 * (1.0 + log(sum)));
    }
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        for (int n_threads = 1; (*ops)->usable() && n_threads <= MAX_THREADS; n_threads++) {
            CHECK((*ops)->softmax_stats(ctxs[n_threads], x, T, V, other_max, other_logsum) ==
                  ST_OK);
            CHECK_INT(test_n_differ(max, other_max, (size_t)T), 0);
            CHECK_INT(test_n_differ(logsum, other_logsum, (size_t)T), 0);
            CHECK((*ops)->softmax_stats(ctxs[n_threads], x + (T - 1) * V, 1, V, other_max,
                                        other_logsum) == ST_OK);
            CHECK_INT(test_n_differ(logsum + T - 1, other_logsum, 1), 0);
        }
    }
    free(x);
}

static void softmax(void)
{
    static const int vocabularies[] = {1, 2, 15, 16, 17, 1023, 1024, 1025, 5000, 49152};
    float x[3 * 40], max[3], logsum[3];

    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++) {
        softmax_case(1, vocabularies[i], 3.0f);
        softmax_case(test_between(2, 8), vocabularies[i], 40.0f);
    }
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        for (int where = 0; (*ops)->usable() && where < 40; where++) {
            for (int i = 0; i < 3 * 40; i++)
                x[i] = test_normal();
            x[40 + where] = where % 2 ? NAN : INFINITY;
            CHECK((*ops)->softmax_stats(ctxs[1], x, 3, 40, max, logsum) == ST_OK);
            CHECK(isnan(max[1]) && isnan(logsum[1]));
            CHECK(isfinite(max[0]) && isfinite(max[2]) && isfinite(logsum[0]) &&
                  isfinite(logsum[2]));
        }
        for (int i = 0; i < 40; i++)
            x[i] = -INFINITY;
        if ((*ops)->usable()) {
            CHECK((*ops)->softmax_stats(ctxs[1], x, 1, 40, max, logsum) == ST_OK);
            CHECK(isnan(max[0])); /* nothing to choose from */
        }
    }
}

int main(void)
{
    test_seed(20260131);
    for (int n = 1; n <= MAX_THREADS; n++) {
        CHECK(threads_create(n, &pools[n]) == ST_OK);
        CHECK(ops_ctx_create(pools[n], &ctxs[n]) == ST_OK);
    }
    find();
    pack();
    matmul();
    matmul_edges();
    matmul_rounding();
    rows();
    exponential();
    softmax();
    for (int n = 1; n <= MAX_THREADS; n++) {
        ops_ctx_destroy(ctxs[n]);
        threads_destroy(pools[n]);
    }
    ops_ctx_destroy(NULL);
    TEST_END();
}
