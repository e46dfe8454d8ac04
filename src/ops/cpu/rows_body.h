/*
 * rows_body.h - the operations that work on rows one by one: rmsnorm, rope, kv_store, silu_mul,
 * gelu_mul, add, add_scaled, add_row, scale, softcap.
 *
 * A row's reduction runs over 16 lanes (element i in lane i % 16, ascending), then the tree of
 * lanes_sum; a last partial group is filled up with values that leave the result alone.  Loops
 * without a reduction are plain C: the compiler may vectorise them, which cannot change them.
 *
 * Included once by each cpu_<set>.c, after its lanes and exp_body.h.
 */

enum { ROWS_MIN_ELEMS = 16384 }; /* of a task: below, handing it out costs more than it saves */

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}

static inline int max_int(int a, int b)
{
    return a > b ? a : b;
}

/* Rows of a task, so that it has enough elements to be worth handing out. */
static int rows_per_task(int n_elems)
{
    return n_elems < ROWS_MIN_ELEMS ? ops_ceil_div(ROWS_MIN_ELEMS, n_elems) : 1;
}

/* Lanes i .. i+15 of a row of n, zeros behind its end. */
static inline struct lanes row_load(const float *row, int i, int n)
{
    return n - i < OPS_LANES ? lanes_load_n(row + i, n - i) : lanes_load(row + i);
}

static inline void row_store(float *row, int i, int n, struct lanes v)
{
    if (n - i < OPS_LANES)
        lanes_store_n(row + i, v, n - i);
    else
        lanes_store(row + i, v);
}

/* ---- rmsnorm -------------------------------------------------------------------------------- */

/* A row is n_heads pieces of D elements, each normalised by itself with the same w. */
struct rmsnorm_args {
    float *out;
    const float *x, *w;
    int ld, T, n_heads, D, rows;
    float eps;
};

static inline void rmsnorm_piece(float *out, const float *x, const float *w, int D, float eps)
{
    struct lanes squares = lanes_set(0.0f);

    for (int i = 0; i < D; i += OPS_LANES) {
        const struct lanes v = row_load(x, i, D);

        squares = lanes_fma(v, v, squares);
    }
    const float root = sqrtf(lanes_sum(squares) / (float)D + eps);
    for (int i = 0; i < D; i += OPS_LANES) {
        const struct lanes v = lanes_div(row_load(x, i, D), lanes_set(root));

        row_store(out, i, D, lanes_mul(v, row_load(w, i, D)));
    }
}

static void rmsnorm_task(void *arg, int task, int thread)
{
    const struct rmsnorm_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    (void)thread;

    for (int t = first; t < last; t++) {
        const ptrdiff_t at = (ptrdiff_t)t * a->ld;

        for (int h = 0; h < a->n_heads; h++)
            rmsnorm_piece(a->out + at + h * a->D, a->x + at + h * a->D, a->w, a->D, a->eps);
    }
}

static enum status cpu_rmsnorm(struct ops_ctx *ctx, float *out, const float *x, const float *w,
                               int T, int D, float eps)
{
    struct rmsnorm_args a = {out, x, w, D, T, 1, D, rows_per_task(D), eps};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), rmsnorm_task, &a);
    return ST_OK;
}

static enum status cpu_rmsnorm_heads(struct ops_ctx *ctx, float *x, int ldx, const float *w, int T,
                                     int n_heads, int E, float eps)
{
    struct rmsnorm_args a = {x, x, w, ldx, T, n_heads, E, rows_per_task(n_heads * E), eps};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), rmsnorm_task, &a);
    return ST_OK;
}

/* ---- rope ----------------------------------------------------------------------------------- */

struct rope_args {
    float *x;
    const int32_t *pos;
    const float *table;
    int ldx, T, n_heads, E, rows;
};

static void rope_task(void *arg, int task, int thread)
{
    const struct rope_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    const int half = a->E / 2;
    (void)thread;

    for (int t = first; t < last; t++) {
        const float *angle = a->table + (ptrdiff_t)a->pos[t] * a->E; /* [E/2] (cos, sin) */

        for (int h = 0; h < a->n_heads; h++) {
            float *restrict low = a->x + (ptrdiff_t)t * a->ldx + (ptrdiff_t)h * a->E;
            float *restrict high = low + half;

            for (int i = 0; i < half; i++) {
                const float c = angle[2 * i], s = angle[2 * i + 1];
                const float u = low[i], v = high[i];

                low[i] = u * c - v * s;
                high[i] = v * c + u * s;
            }
        }
    }
}

static enum status cpu_rope(struct ops_ctx *ctx, float *x, int ldx, const int32_t *pos,
                            const float *table, int T, int n_heads, int E)
{
    struct rope_args a = {x, pos, table, ldx, T, n_heads, E, rows_per_task(n_heads * E)};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), rope_task, &a);
    return ST_OK;
}

/* ---- kv_store ------------------------------------------------------------------------------- */

enum { KV_RUN_TOK = 64 }; /* tokens that are dealt out together */

struct kv_store_args {
    const struct ops_kv *kv;
    const struct ops_seq *seqs;
    const float *k, *v;
    int ld, B, n_slices;
};

static inline void kv_put(const struct ops_kv *kv, size_t at, float value)
{
    if (kv->type == OPS_BF16)
        ((uint16_t *)kv->base)[at] = bf16_from_f32(value);
    else
        ((float *)kv->base)[at] = value;
}

/* Tokens first .. last-1 of one sequence, one head. */
static void kv_store_run(const struct kv_store_args *a, const struct ops_seq *seq, int head,
                         int first, int last)
{
    const struct ops_kv *kv = a->kv;

    for (int t = first; t < last; t++) {
        const ptrdiff_t from = (ptrdiff_t)(seq->row0 + t) * a->ld + (ptrdiff_t)head * kv->E;
        const int32_t block = seq->blocks[(seq->pos0 + t) / kv->P];
        const int p = (seq->pos0 + t) % kv->P;
        const size_t key = ops_kv_index(kv, block, 0, head, p, 0);
        const size_t value = ops_kv_index(kv, block, 1, head, p, 0);

        for (int e = 0; e < kv->E; e += 2) {
            const size_t pair = key + (size_t)e * (size_t)kv->P;

            kv_put(kv, pair, a->k[from + e]);
            kv_put(kv, pair + 1, a->k[from + e + 1]);
        }
        for (int e = 0; e < kv->E; e++)
            kv_put(kv, value + (size_t)e, a->v[from + e]);
    }
}

/* One task: one head, every n_slices-th run of tokens. */
static void kv_store_task(void *arg, int task, int thread)
{
    const struct kv_store_args *a = arg;
    const int head = task / a->n_slices, slice = task % a->n_slices;
    int run = 0;
    (void)thread;

    for (int b = 0; b < a->B; b++) {
        const struct ops_seq *seq = &a->seqs[b];

        for (int t = 0; t < seq->n_tok; t += KV_RUN_TOK, run++)
            if (run % a->n_slices == slice)
                kv_store_run(a, seq, head, t, min_int(t + KV_RUN_TOK, seq->n_tok));
    }
}

static enum status cpu_kv_store(struct ops_ctx *ctx, const struct ops_kv *kv,
                                const struct ops_seq *seqs, int B, const float *k, const float *v,
                                int ld)
{
    struct kv_store_args a = {kv, seqs, k, v, ld, B, threads_count(ctx->threads)};
    int n_tok = 0;

    for (int b = 0; b < B; b++)
        n_tok += seqs[b].n_tok;
    if (n_tok < KV_RUN_TOK) { /* a decode step of a few rows: handing it out costs more */
        a.n_slices = 1;
        for (int head = 0; head < kv->K; head++)
            kv_store_task(&a, head, 0);
    } else {
        threads_run(ctx->threads, kv->K * a.n_slices, kv_store_task, &a);
    }
    return ST_OK;
}

/* ---- silu_mul, gelu_mul --------------------------------------------------------------------- */

struct gated_args {
    float *out;
    const float *gate_up;
    int T, F, rows;
};

/* gate / (1 + exp(-z)) * up; z is the gate itself for SiLU.  GELU by tanh is the same with
 * z = 2 sqrt(2/pi) (gate + 0.044715 gate^3), as (1 + tanh(z/2)) / 2 = 1 / (1 + exp(-z)). */
static inline __attribute__((always_inline)) void gated_rows(const struct gated_args *a, int task,
                                                             const bool gelu)
{
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    const struct lanes zero = lanes_set(0.0f), one = lanes_set(1.0f), most = lanes_set(88.0f);

    for (int t = first; t < last; t++) {
        const float *gate = a->gate_up + (ptrdiff_t)t * 2 * a->F, *up = gate + a->F;
        float *out = a->out + (ptrdiff_t)t * a->F;

        for (int i = 0; i < a->F; i += OPS_LANES) {
            const struct lanes g = row_load(gate, i, a->F);
            struct lanes z = g;

            if (gelu)
                z = lanes_mul(g, lanes_fma(lanes_mul(g, g), lanes_set(0x1.2444f2p-4f),
                                           lanes_set(0x1.988454p+0f)));
            /* in this order a NaN survives the limit of exp */
            const struct lanes e = lanes_exp(lanes_min(most, lanes_sub(zero, z)));
            const struct lanes act = lanes_div(g, lanes_add(one, e));

            row_store(out, i, a->F, lanes_mul(act, row_load(up, i, a->F)));
        }
    }
}

static void silu_task(void *arg, int task, int thread)
{
    (void)thread;
    gated_rows(arg, task, false);
}

static void gelu_task(void *arg, int task, int thread)
{
    (void)thread;
    gated_rows(arg, task, true);
}

static enum status cpu_silu_mul(struct ops_ctx *ctx, float *out, const float *gate_up, int T, int F)
{
    struct gated_args a = {out, gate_up, T, F, rows_per_task(F)};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), silu_task, &a);
    return ST_OK;
}

static enum status cpu_gelu_mul(struct ops_ctx *ctx, float *out, const float *gate_up, int T, int F)
{
    struct gated_args a = {out, gate_up, T, F, rows_per_task(F)};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), gelu_task, &a);
    return ST_OK;
}

/* ---- add, add_scaled, add_row, scale, softcap ----------------------------------------------- */

struct add_args {
    float *x;
    const float *y;
    int64_t n;
    float by;
};

static int add_tasks(int64_t n)
{
    return (int)((n + ROWS_MIN_ELEMS - 1) / ROWS_MIN_ELEMS);
}

static void add_task(void *arg, int task, int thread)
{
    const struct add_args *a = arg;
    const int64_t first = (int64_t)task * ROWS_MIN_ELEMS;
    const int64_t last = first + ROWS_MIN_ELEMS < a->n ? first + ROWS_MIN_ELEMS : a->n;
    (void)thread;

    for (int64_t i = first; i < last; i++)
        a->x[i] += a->y[i];
}

static enum status cpu_add(struct ops_ctx *ctx, float *x, const float *y, int64_t n)
{
    struct add_args a = {x, y, n, 1.0f};

    threads_run(ctx->threads, add_tasks(n), add_task, &a);
    return ST_OK;
}

static void add_scaled_task(void *arg, int task, int thread)
{
    const struct add_args *a = arg;
    const int64_t first = (int64_t)task * ROWS_MIN_ELEMS;
    const int64_t last = first + ROWS_MIN_ELEMS < a->n ? first + ROWS_MIN_ELEMS : a->n;
    (void)thread;

    for (int64_t i = first; i < last; i++)
        a->x[i] += a->y[i] * a->by;
}

static enum status cpu_add_scaled(struct ops_ctx *ctx, float *x, const float *y, int64_t n,
                                  float by)
{
    struct add_args a = {x, y, n, by};

    threads_run(ctx->threads, add_tasks(n), add_scaled_task, &a);
    return ST_OK;
}

static void scale_task(void *arg, int task, int thread)
{
    const struct add_args *a = arg;
    const int64_t first = (int64_t)task * ROWS_MIN_ELEMS;
    const int64_t last = first + ROWS_MIN_ELEMS < a->n ? first + ROWS_MIN_ELEMS : a->n;
    (void)thread;

    for (int64_t i = first; i < last; i++)
        a->x[i] *= a->by;
}

static enum status cpu_scale(struct ops_ctx *ctx, float *x, int64_t n, float by)
{
    struct add_args a = {x, NULL, n, by};

    threads_run(ctx->threads, add_tasks(n), scale_task, &a);
    return ST_OK;
}

static inline struct lanes lanes_softcap(struct lanes x, struct lanes cap)
{
    return lanes_mul(lanes_tanh(lanes_div(x, cap)), cap);
}

static void softcap_task(void *arg, int task, int thread)
{
    const struct add_args *a = arg;
    const int64_t first = (int64_t)task * ROWS_MIN_ELEMS;
    const int n = a->n - first < ROWS_MIN_ELEMS ? (int)(a->n - first) : ROWS_MIN_ELEMS;
    float *x = a->x + first;
    (void)thread;

    for (int i = 0; i < n; i += OPS_LANES)
        row_store(x, i, n, lanes_softcap(row_load(x, i, n), lanes_set(a->by)));
}

static enum status cpu_softcap(struct ops_ctx *ctx, float *x, int64_t n, float cap)
{
    struct add_args a = {x, NULL, n, cap};

    threads_run(ctx->threads, add_tasks(n), softcap_task, &a);
    return ST_OK;
}

struct add_row_args {
    float *x;
    const float *row;
    int T, n, rows;
};

static void add_row_task(void *arg, int task, int thread)
{
    const struct add_row_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    (void)thread;

    for (int t = first; t < last; t++) {
        float *restrict x = a->x + (ptrdiff_t)t * a->n;

        for (int i = 0; i < a->n; i++)
            x[i] += a->row[i];
    }
}

static enum status cpu_add_row(struct ops_ctx *ctx, float *x, const float *row, int T, int n)
{
    struct add_row_args a = {x, row, T, n, rows_per_task(n)};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), add_row_task, &a);
    return ST_OK;
}
