/*
 * exp_body.h - the exponential that every operation uses, the tanh of soft caps, and the logarithm
 * of softmax_stats.
 *
 * exp(x) = 2^n * exp(r), n = x / ln 2 rounded, |r| <= ln 2 / 2.  exp(r) = 1 + r + r^2 q(r), where q
 * is the minimax polynomial (relative error of exp(r): 3.1e-9); the result is within 1.1 units in
 * the last place.  exp(0) = 1 exactly; below -87, where the result would be subnormal, it is +0
 * (also at -inf); a NaN stays a NaN.  x <= 88.
 *
 * tanh(x) = m / (m + 2) with m = exp(2x) - 1, which the same steps give without cancellation.
 *
 * Included once by each cpu_<set>.c, after its lanes.
 */

/* exp(at) / 2^n - 1, with 1.5 * 2^23 + n in *out_shifted; -87 <= at <= 88. */
static inline struct lanes lanes_exp_reduced(struct lanes at, struct lanes *out_shifted)
{
    const struct lanes shift = lanes_set(0x1.8p23f); /* adding it rounds to an integer */
    const struct lanes t = lanes_fma(at, lanes_set(0x1.715476p+0f), shift);
    const struct lanes n = lanes_sub(t, shift);
    struct lanes r = lanes_fma(n, lanes_set(-0x1.62e430p-1f), at);
    struct lanes q = lanes_set(0x1.6a2352p-10f);

    r = lanes_fma(n, lanes_set(0x1.05c610p-29f), r); /* what ln 2 lost as a float */
    q = lanes_fma(q, r, lanes_set(0x1.123a6cp-7f));
    q = lanes_fma(q, r, lanes_set(0x1.5558f4p-5f));
    q = lanes_fma(q, r, lanes_set(0x1.555490p-3f));
    q = lanes_fma(q, r, lanes_set(0x1.fffffcp-2f));
    *out_shifted = t;
    return lanes_fma(q, lanes_mul(r, r), r);
}

static inline struct lanes lanes_exp(struct lanes x)
{
    const struct lanes least = lanes_set(-87.0f);
    struct lanes t;
    const struct lanes q =
        lanes_exp_reduced(lanes_max(least, x), &t); /* in this order a NaN survives */

    return lanes_zero_below(lanes_mul(lanes_add(q, lanes_set(1.0f)), lanes_exp2_of(t)), x, least);
}

/* Within 4 units in the last place; 1 beyond 20, -1 below -20; a NaN stays a NaN. */
static inline struct lanes lanes_tanh(struct lanes x)
{
    const struct lanes twice = lanes_add(x, x);
    struct lanes t;
    const struct lanes q =
        lanes_exp_reduced(lanes_min(lanes_set(40.0f), lanes_max(lanes_set(-40.0f), twice)), &t);
    const struct lanes s = lanes_exp2_of(t);
    const struct lanes m = lanes_fma(q, s, lanes_sub(s, lanes_set(1.0f)));

    return lanes_div(m, lanes_add(m, lanes_set(2.0f)));
}

static void cpu_exp(float *out, const float *x, int64_t n)
{
    int64_t i = 0;

    for (; n - i >= OPS_LANES; i += OPS_LANES)
        lanes_store(out + i, lanes_exp(lanes_load(x + i)));
    if (i < n)
        lanes_store_n(out + i, lanes_exp(lanes_load_n(x + i, (int)(n - i))), (int)(n - i));
}

/* log(x) of a finite x >= 2^-126, by plain double arithmetic in a fixed order: 2 atanh(z) as a
 * series in z = (m - 1) / (m + 1), with the mantissa m between sqrt(1/2) and sqrt(2). */
static inline float log_of(float x)
{
    const uint32_t bits = bits_from_f32(x);
    int exponent = (int)(bits >> 23) - 127;
    double m = (double)f32_from_bits((bits & 0x7fffffu) | 0x3f800000u);

    if (m > 0x1.6a09e6p+0) {
        m *= 0.5;
        exponent++;
    }
    const double z = (m - 1.0) / (m + 1.0), zz = z * z;
    double series = 1.0 / 21.0;
    for (int odd = 19; odd >= 1; odd -= 2)
        series = series * zz + 1.0 / odd;
    return (float)(exponent * 0x1.62e42fefa39efp-1 + 2.0 * z * series);
}
