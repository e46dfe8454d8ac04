/*
 * softmax_body.h - softmax_stats: the maximum of a row of logits, and the logarithm of the sum of
 * their exponentials.
 *
 * Included once by each cpu_<set>.c, after rows_body.h.
 */

enum { SOFTMAX_CHUNK = 1024 }; /* part of the numerics */

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
