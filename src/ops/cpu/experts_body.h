/*
 * experts_body.h - the operations of a mixture of experts: which experts a row goes to, and the sum
 * of what they made of it.  The experts themselves are matmuls like any other.
 *
 * Both look at one row alone and add in the order of expert ids, so that neither the other rows of
 * a step nor the order in which experts are computed can change a bit.
 *
 * Included once by each cpu_<set>.c, after rows_body.h.
 */

/* ---- route ---------------------------------------------------------------------------------- */

struct route_args {
    float *p; /* [T, X] logits, then probabilities */
    int T, X, n_used, rows;
    bool normalise;
    int32_t *experts; /* [T, n_used] */
    float *weights;   /* [T, n_used] */
};

/* Softmax of one row: 16 lanes, then the tree, as everywhere. */
static void route_softmax(float *p, int X)
{
    struct lanes most = lanes_set(-INFINITY), sum = lanes_set(0.0f);

    for (int i = 0; i < X; i += OPS_LANES) {
        struct lanes v = row_load(p, i, X);

        if (X - i < OPS_LANES)
            v = lanes_first(v, X - i, -INFINITY);
        most = lanes_max(v, most);
    }
    const struct lanes max = lanes_set(lanes_max_of(most));
    for (int i = 0; i < X; i += OPS_LANES) {
        struct lanes v = row_load(p, i, X);

        if (X - i < OPS_LANES)
            v = lanes_first(v, X - i, -INFINITY); /* exp gives 0 */
        v = lanes_exp(lanes_sub(v, max));
        sum = lanes_add(sum, v);
        row_store(p, i, X, v);
    }
    const struct lanes total = lanes_set(lanes_sum(sum));
    for (int i = 0; i < X; i += OPS_LANES)
        row_store(p, i, X, lanes_div(row_load(p, i, X), total));
}

/* The n_used largest of p, of equals the lowest id; in ascending order of ids.  NaNs come last. */
static void route_pick(const float *p, int X, int n_used, int32_t *experts)
{
    uint64_t taken[OPS_MAX_EXPERTS / 64] = {0};

    for (int n = 0; n < n_used; n++) {
        int best = 0;

        while ((taken[best / 64] >> (best % 64) & 1) != 0) /* n < X are */
            best++;
        for (int x = best + 1; x < X; x++)
            if ((taken[x / 64] >> (x % 64) & 1) == 0 &&
                (p[x] > p[best] || (p[best] != p[best] && p[x] == p[x])))
                best = x;
        taken[best / 64] |= UINT64_C(1) << (best % 64);
    }
    for (int x = 0, n = 0; n < n_used; x++)
        if ((taken[x / 64] >> (x % 64) & 1) != 0)
            experts[n++] = x;
}

static void route_task(void *arg, int task, int thread)
{
    const struct route_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    (void)thread;

    for (int t = first; t < last; t++) {
        float *p = a->p + (ptrdiff_t)t * a->X, *weights = a->weights + (ptrdiff_t)t * a->n_used;
        int32_t *experts = a->experts + (ptrdiff_t)t * a->n_used;
        float total = 0.0f;

        route_softmax(p, a->X);
        route_pick(p, a->X, a->n_used, experts);
        for (int n = 0; n < a->n_used; n++)
            total += weights[n] = p[experts[n]];
        for (int n = 0; a->normalise && n < a->n_used; n++)
            weights[n] /= total;
    }
}

static enum status cpu_route(struct ops_ctx *ctx, float *logits, int T, int X, int n_used,
                             bool normalise, int32_t *out_experts, float *out_weights)
{
    struct route_args a = {logits,    T,           X,          n_used, rows_per_task(X * n_used),
                           normalise, out_experts, out_weights};

    assert(n_used > 0 && n_used <= X && X <= OPS_MAX_EXPERTS);
    threads_run(ctx->threads, ops_ceil_div(T, a.rows), route_task, &a);
    return ST_OK;
}

/* ---- combine -------------------------------------------------------------------------------- */

struct combine_args {
    float *out;
    const float *rows, *weights;
    const int32_t *at;
    int T, n_used, D, rows_of_task;
};

static void combine_task(void *arg, int task, int thread)
{
    const struct combine_args *a = arg;
    const int first = task * a->rows_of_task, last = min_int(first + a->rows_of_task, a->T);
    (void)thread;

    for (int t = first; t < last; t++) {
        float *restrict out = a->out + (ptrdiff_t)t * a->D;

        memset(out, 0, (size_t)a->D * sizeof *out);
        for (int n = t * a->n_used; n < (t + 1) * a->n_used; n++) {
            const float *row = a->rows + (ptrdiff_t)a->at[n] * a->D;
            const float weight = a->weights[n];

            for (int i = 0; i < a->D; i++)
                out[i] += row[i] * weight;
        }
    }
}

static enum status cpu_combine(struct ops_ctx *ctx, float *out, const float *rows,
                               const int32_t *at, const float *weights, int T, int n_used, int D)
{
    struct combine_args a = {out, rows, weights, at, T, n_used, D, rows_per_task(D * n_used)};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows_of_task), combine_task, &a);
    return ST_OK;
}
