/*
 * rows_body.h - the operations that work on rows one by one: rmsnorm, rope, kv_store, silu_mul,
 * add, add_row, softmax_stats.
 *
 * A row's reduction runs over 16 lanes (element i in lane i % 16, ascending), then the tree of
 * lanes_sum; a last partial group is filled up with values that leave the result alone.  Loops
 * without a reduction are plain C: the compiler may vectorise them, which cannot change them.
 *
 * Included once by each cpu_<set>.c, after its lanes and exp_body.h.
 */

enum {
    ROWS_MIN_ELEMS = 16384, /* of a task: below, handing it out costs more than it saves */
    SOFTMAX_CHUNK = 1024    /* part of the numerics */
};

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
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

struct rmsnorm_args {
    float *out;
    const float *x, *w;
    int T, D, rows;
    float eps;
};

static void rmsnorm_task(void *arg, int task, int thread)
{
    const struct rmsnorm_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    (void)thread;

    for (int t = first; t < last; t++) {
        const float *x = a->x + (ptrdiff_t)t * a->D;
        float *out = a->out + (ptrdiff_t)t * a->D;
        struct lanes squares = lanes_set(0.0f);

        for (int i = 0; i < a->D; i += OPS_LANES) {
            const struct lanes v = row_load(x, i, a->D);

            squares = lanes_fma(v, v, squares);
        }
        const float root = sqrtf(lanes_sum(squares) / (float)a->D + a->eps);
        for (int i = 0; i < a->D; i += OPS_LANES) {
            const struct lanes v = lanes_div(row_load(x, i, a->D), lanes_set(root));

            row_store(out, i, a->D, lanes_mul(v, row_load(a->w, i, a->D)));
        }
    }
}

static enum status cpu_rmsnorm(struct ops_ctx *ctx, float *out, const float *x, const float *w,
                               int T, int D, float eps)
{
    struct rmsnorm_args a = {out, x, w, T, D, rows_per_task(D), eps};

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

/* ---- silu_mul, add, add_row ----------------------------------------------------------------- */

struct silu_args {
    float *out;
    const float *gate_up;
    int T, F, rows;
};

static void silu_task(void *arg, int task, int thread)
{
    const struct silu_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    const struct lanes zero = lanes_set(0.0f), one = lanes_set(1.0f), most = lanes_set(88.0f);
    (void)thread;

    for (int t = first; t < last; t++) {
        const float *gate = a->gate_up + (ptrdiff_t)t * 2 * a->F, *up = gate + a->F;
        float *out = a->out + (ptrdiff_t)t * a->F;

        for (int i = 0; i < a->F; i += OPS_LANES) {
            const struct lanes g = row_load(gate, i, a->F);
            /* gate / (1 + exp(-gate)); in this order a NaN survives the limit of exp */
            const struct lanes e = lanes_exp(lanes_min(most, lanes_sub(zero, g)));
            const struct lanes silu = lanes_div(g, lanes_add(one, e));

            row_store(out, i, a->F, lanes_mul(silu, row_load(up, i, a->F)));
        }
    }
}

static enum status cpu_silu_mul(struct ops_ctx *ctx, float *out, const float *gate_up, int T, int F)
{
    struct silu_args a = {out, gate_up, T, F, rows_per_task(F)};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), silu_task, &a);
    return ST_OK;
}

struct add_args {
    float *x;
    const float *y;
    int64_t n;
};

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
    struct add_args a = {x, y, n};

    threads_run(ctx->threads, (int)((n + ROWS_MIN_ELEMS - 1) / ROWS_MIN_ELEMS), add_task, &a);
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

/* ---- softmax_stats -------------------------------------------------------------------------- */

/*
 * Three passes, so that one row of a large vocabulary can use all threads: the maximum of each
 * chunk, the sum of exp(x - maximum of the row) over each chunk, and the sum of those: chunk c in
 * lane c % 16, ascending, then the tree.
 */
struct softmax_args {
    const float *logits;
    float *chunk_max, *chunk_sum; /* [T, n_chunks] */
    const float *row_max;         /* [T] */
    int T, V, n_chunks, chunks;   /* chunks: of a task, counted through all rows */
};

static float chunk_max(const float *x, int n)
{
    const struct lanes zero = lanes_set(0.0f);
    struct lanes most = lanes_set(-INFINITY), bad = zero;

    for (int i = 0; i < n; i += OPS_LANES) {
        struct lanes v = row_load(x, i, n);
        /* max(0, x) lets a NaN through; then x - x is 0, but a NaN for a NaN or +inf */
        const struct lanes positive = lanes_max(zero, v);

        bad = lanes_add(bad, lanes_sub(positive, positive));
        if (n - i < OPS_LANES)
            v = lanes_first(v, n - i, -INFINITY);
        most = lanes_max(v, most);
    }
    return lanes_max_of(most) + lanes_sum(bad);
}

static float chunk_sum(const float *x, int n, float max)
{
    struct lanes sum = lanes_set(0.0f);

    for (int i = 0; i < n; i += OPS_LANES) {
        struct lanes v = row_load(x, i, n);

        if (n - i < OPS_LANES)
            v = lanes_first(v, n - i, -INFINITY); /* exp gives 0 */
        sum = lanes_add(sum, lanes_exp(lanes_sub(v, lanes_set(max))));
    }
    return lanes_sum(sum);
}

static void softmax_task(void *arg, int task, int thread)
{
    const struct softmax_args *a = arg;
    const int first = task * a->chunks, last = min_int(first + a->chunks, a->T * a->n_chunks);
    (void)thread;

    for (int at = first; at < last; at++) {
        const int t = at / a->n_chunks, i = at % a->n_chunks * SOFTMAX_CHUNK;
        const float *x = a->logits + (ptrdiff_t)t * a->V + i;
        const int n = min_int(SOFTMAX_CHUNK, a->V - i);

        if (a->row_max == NULL)
            a->chunk_max[at] = chunk_max(x, n);
        else
            a->chunk_sum[at] = chunk_sum(x, n, a->row_max[t]);
    }
}

/* NaN if any chunk's is, or if there is nothing above -inf to choose from. */
static float row_max(const float *chunks, int n)
{
    float most = -INFINITY;

    for (int c = 0; c < n; c++) {
        if (!(chunks[c] <= INFINITY))
            return NAN;
        most = chunks[c] > most ? chunks[c] : most;
    }
    return most > -INFINITY ? most : NAN;
}

static float row_logsum(const float *chunks, int n)
{
    struct lanes sum = lanes_set(0.0f);

    for (int c = 0; c < n; c += OPS_LANES)
        sum = lanes_add(sum, row_load(chunks, c, n));
    return log_of(lanes_sum(sum));
}

static enum status cpu_softmax_stats(struct ops_ctx *ctx, const float *logits, int T, int V,
                                     float *out_max, float *out_logsum)
{
    enum status st;
    const int n_chunks = ops_ceil_div(V, SOFTMAX_CHUNK);
    const size_t n_all = (size_t)T * (size_t)n_chunks;
    void *figures;

    TRY(ops_ctx_reserve(ctx, SCRATCH_CHUNKS, 2 * n_all * sizeof(float), &figures), err);
    struct softmax_args a = {
        .logits = logits,
        .chunk_max = figures,
        .chunk_sum = (float *)figures + n_all,
        .T = T,
        .V = V,
        .n_chunks = n_chunks,
        .chunks = ROWS_MIN_ELEMS / SOFTMAX_CHUNK,
    };
    const int n_tasks = ops_ceil_div(T * n_chunks, a.chunks);

    threads_run(ctx->threads, n_tasks, softmax_task, &a);
    for (int t = 0; t < T; t++)
        out_max[t] = row_max(a.chunk_max + (ptrdiff_t)t * n_chunks, n_chunks);
    a.row_max = out_max;
    threads_run(ctx->threads, n_tasks, softmax_task, &a);
    for (int t = 0; t < T; t++)
        out_logsum[t] = out_max[t] <= INFINITY
                            ? row_logsum(a.chunk_sum + (ptrdiff_t)t * n_chunks, n_chunks)
                            : NAN;
    return ST_OK;
err:
    return st;
}
