/*
 * vision_body.h - the operations that only the tower of a vision-language model uses, and the RoPE
 * of tokens that have three positions: layernorm, bias_act, rope_sections.
 *
 * Reductions over a row as in rows_body.h: 16 lanes, then the tree.
 *
 * Included once by each cpu_<set>.c, after rows_body.h.
 */

/* ---- layernorm ------------------------------------------------------------------------------ */

struct layernorm_args {
    float *out;
    const float *x, *w, *b;
    int T, D, rows;
    float eps;
};

static inline void layernorm_row(float *out, const float *x, const struct layernorm_args *a)
{
    const int D = a->D;
    struct lanes sum = lanes_set(0.0f), squares = lanes_set(0.0f);

    for (int i = 0; i < D; i += OPS_LANES)
        sum = lanes_add(sum, row_load(x, i, D));
    const struct lanes mean = lanes_set(lanes_sum(sum) / (float)D);
    for (int i = 0; i < D; i += OPS_LANES) {
        struct lanes v = lanes_sub(row_load(x, i, D), mean);

        if (D - i < OPS_LANES)
            v = lanes_first(v, D - i, 0.0f);
        squares = lanes_fma(v, v, squares);
    }
    const struct lanes root = lanes_set(sqrtf(lanes_sum(squares) / (float)D + a->eps));
    for (int i = 0; i < D; i += OPS_LANES) {
        const struct lanes v = lanes_div(lanes_sub(row_load(x, i, D), mean), root);

        row_store(out, i, D, lanes_fma(v, row_load(a->w, i, D), row_load(a->b, i, D)));
    }
}

static void layernorm_task(void *arg, int task, int thread)
{
    const struct layernorm_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    (void)thread;

    for (int t = first; t < last; t++)
        layernorm_row(a->out + (ptrdiff_t)t * a->D, a->x + (ptrdiff_t)t * a->D, a);
}

static enum status cpu_layernorm(struct ops_ctx *ctx, float *out, const float *x, const float *w,
                                 const float *b, int T, int D, float eps)
{
    struct layernorm_args a = {out, x, w, b, T, D, rows_per_task(D), eps};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), layernorm_task, &a);
    return ST_OK;
}

/* ---- bias_act ------------------------------------------------------------------------------- */

struct bias_act_args {
    float *x;
    const float *bias;
    int T, n, rows;
    enum ops_act act;
};

/* x / (1 + exp(-z)): x times the logistic function of z. */
static inline struct lanes lanes_gate(struct lanes x, struct lanes z)
{
    /* in this order a NaN survives the limit of exp */
    const struct lanes e = lanes_exp(lanes_min(lanes_set(88.0f), lanes_sub(lanes_set(0.0f), z)));

    return lanes_div(x, lanes_add(lanes_set(1.0f), e));
}

/*
 * x Phi(x) = max(x, 0) - |x| erfc(a) / 2 with a = |x| / sqrt(2).  erfc(a) = t q(t) exp(-a^2) with
 * t = 1 / (1 + 0.4 a); q is a polynomial fitted over 0 <= a <= 9.4, where exp has become 0 (largest
 * relative error 4.3e-8).
 */
static inline struct lanes lanes_gelu_erf(struct lanes x)
{
    static const float q_of[] = {-0x1.131e48p-5f, 0x1.c17276p-3f, -0x1.18eba6p-1f, 0x1.39ec12p-1f,
                                 -0x1.5a6b38p-2f, 0x1.33d586p-2f, 0x1.eb50ecp-4f,  0x1.bc5c8ap-3f,
                                 0x1.cc33eep-3f,  0x1.ce45e6p-3f};
    const struct lanes zero = lanes_set(0.0f), one = lanes_set(1.0f);
    const struct lanes size = lanes_max(x, lanes_sub(zero, x));
    const struct lanes a = lanes_mul(size, lanes_set(0x1.6a09e6p-1f));
    const struct lanes t = lanes_div(one, lanes_fma(a, lanes_set(0x1.99999ap-2f), one));
    struct lanes q = lanes_set(q_of[0]);

    for (size_t i = 1; i < sizeof q_of / sizeof q_of[0]; i++)
        q = lanes_fma(q, t, lanes_set(q_of[i]));
    const struct lanes e = lanes_exp(lanes_sub(zero, lanes_mul(a, a)));
    const struct lanes half = lanes_mul(lanes_mul(lanes_mul(q, t), e), lanes_set(0.5f));

    return lanes_sub(lanes_zero_below(x, x, zero), lanes_mul(size, half));
}

static inline struct lanes lanes_act(struct lanes x, enum ops_act act)
{
    if (act == OPS_QUICK_GELU)
        return lanes_gate(x, lanes_mul(x, lanes_set(0x1.b3b646p+0f))); /* 1.702 */
    if (act == OPS_GELU_TANH)                                          /* as gelu_mul */
        return lanes_gate(x, lanes_mul(x, lanes_fma(lanes_mul(x, x), lanes_set(0x1.2444f2p-4f),
                                                    lanes_set(0x1.988454p+0f))));
    return lanes_gelu_erf(x);
}

static void bias_act_task(void *arg, int task, int thread)
{
    const struct bias_act_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    (void)thread;

    for (int t = first; t < last; t++) {
        float *x = a->x + (ptrdiff_t)t * a->n;

        for (int i = 0; i < a->n; i += OPS_LANES) {
            const struct lanes v = lanes_add(row_load(x, i, a->n), row_load(a->bias, i, a->n));

            row_store(x, i, a->n, lanes_act(v, a->act));
        }
    }
}

static enum status cpu_bias_act(struct ops_ctx *ctx, float *x, const float *bias, int T, int n,
                                enum ops_act act)
{
    struct bias_act_args a = {x, bias, T, n, rows_per_task(n), act};

    threads_run(ctx->threads, ops_ceil_div(T, a.rows), bias_act_task, &a);
    return ST_OK;
}

/* ---- rope_sections -------------------------------------------------------------------------- */

struct rope_sections_args {
    float *x;
    const int32_t *pos;
    const int *sections;
    const float *table;
    int ldx, T, n_heads, E, rows;
};

static void rope_sections_task(void *arg, int task, int thread)
{
    const struct rope_sections_args *a = arg;
    const int first = task * a->rows, last = min_int(first + a->rows, a->T);
    const int half = a->E / 2;
    (void)thread;

    for (int t = first; t < last; t++) {
        for (int h = 0; h < a->n_heads; h++) {
            float *restrict low = a->x + (ptrdiff_t)t * a->ldx + (ptrdiff_t)h * a->E;
            float *restrict high = low + half;

            for (int s = 0, i = 0; s < 3; s++) {
                const float *angle = a->table + (ptrdiff_t)a->pos[3 * t + s] * a->E;

                for (const int end = i + a->sections[s]; i < end; i++) {
                    const float cosine = angle[2 * i], sine = angle[2 * i + 1];
                    const float u = low[i], v = high[i];

                    low[i] = u * cosine - v * sine;
                    high[i] = v * cosine + u * sine;
                }
            }
        }
    }
}

static enum status cpu_rope_sections(struct ops_ctx *ctx, float *x, int ldx, const int32_t *pos,
                                     const int sections[3], const float *table, int T, int n_heads,
                                     int E)
{
    struct rope_sections_args a = {
        x, pos, sections, table, ldx, T, n_heads, E, rows_per_task(n_heads * E)};

    assert(sections[0] + sections[1] + sections[2] <= E / 2);
    threads_run(ctx->threads, ops_ceil_div(T, a.rows), rope_sections_task, &a);
    return ST_OK;
}
