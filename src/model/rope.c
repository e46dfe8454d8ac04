/*
 * rope.c - rotation angles of all positions, in double, from additions, multiplications and
 * divisions only.
 *
 * libm's pow, sin and cos differ in the last bit between versions and CPUs, and at position 8,000
 * one bit of a frequency changes several of a million rounded entries: a continued job could then
 * differ from an undisturbed one.  What stands here is rounded the same way everywhere.  So are the
 * divisors of a scaled RoPE, which the readers of configurations ask for.
 */
#include <assert.h>
#include <stdint.h>

#include "model/rope.h"
#include "model/source.h"

static double power(double x, int n)
{
    double result = 1.0;

    for (; n > 0; n /= 2) {
        if (n % 2 != 0)
            result *= x;
        x *= x;
    }
    return result;
}

/* The n-th root of 0 < x <= 1 by bisection; its bits only need to be the same, and near. */
static double root(double x, int n)
{
    double low = 0.0, high = 1.0;

    for (;;) {
        const double middle = 0.5 * (low + high);

        if (middle <= low || middle >= high)
            return high;
        if (power(middle, n) < x)
            low = middle;
        else
            high = middle;
    }
}

/* Taylor series for |x| <= pi/4: the first term left out is below 2^-57. */
static double sin_small(double x)
{
    const double z = x * x;
    double term = x, sum = x;

    for (int k = 2; k <= 16; k += 2) {
        term *= -z / (double)(k * (k + 1));
        sum += term;
    }
    return sum;
}

static double cos_small(double x)
{
    const double z = x * x;
    double term = 1.0, sum = 1.0;

    for (int k = 1; k <= 17; k += 2) {
        term *= -z / (double)(k * (k + 1));
        sum += term;
    }
    return sum;
}

/* pi/2 in three parts; the first two have 28 bits, so that their products with a quarter-turn
 * number below 2^25 are exact. */
static const double HALF_PI[3] = {0x1.921fb54p+0, 0x1.10b461p-30, 0x1.a62633145c06ep-58};

/* angle >= 0 */
static void cos_sin(double angle, double *out_cos, double *out_sin)
{
    const int64_t quarter = (int64_t)(angle / HALF_PI[0] + 0.5);
    const double q = (double)quarter;
    const double x = ((angle - q * HALF_PI[0]) - q * HALF_PI[1]) - q * HALF_PI[2];
    const double c = cos_small(x), s = sin_small(x);

    assert(quarter < 1 << 25); /* positions below 52 million */
    switch (quarter % 4) {
    case 0:
        *out_cos = c;
        *out_sin = s;
        break;
    case 1:
        *out_cos = -s;
        *out_sin = c;
        break;
    case 2:
        *out_cos = -c;
        *out_sin = -s;
        break;
    default:
        *out_cos = s;
        *out_sin = -c;
    }
}

/* ---- frequencies ---------------------------------------------------------------------------- */

void rope_table_fill(float *table, int context, int E, const struct model_rope *rope)
{
    const int half = E / 2;
    const double step = root(1.0 / rope->base, half); /* from one frequency to the next */
    double frequency = 1.0;

    assert(rope->base >= 1.0);
    for (int i = 0; i < half; i++, frequency *= step) {
        const double scaled = rope->scaling[0] != '\0' ? frequency / rope->divisors[i] : frequency;

        for (int pos = 0; pos < context; pos++) {
            float *entry = table + ((int64_t)pos * half + i) * 2;
            double c, s;

            cos_sin((double)pos * scaled, &c, &s);
            entry[0] = (float)c;
            entry[1] = (float)s;
        }
    }
}

void rope_scale_linear(struct model_rope *rope, int E, double factor)
{
    memcpy(rope->scaling, "linear", sizeof "linear");
    for (int i = 0; i < E / 2; i++)
        rope->divisors[i] = factor;
}

/* Waves longer than original_context / low are stretched by the factor, those shorter than
 * original_context / high are kept, and between them the frequency is a mean of both. */
void rope_scale_llama3(struct model_rope *rope, int E, const struct rope_llama3 *how)
{
    const double two_pi = 4.0 * (HALF_PI[0] + HALF_PI[1] + HALF_PI[2]);
    const double step = root(1.0 / rope->base, E / 2); /* from one to the next */
    double frequency = 1.0;

    memcpy(rope->scaling, "llama3", sizeof "llama3");
    for (int i = 0; i < E / 2; i++, frequency *= step) {
        const double turns = how->original_context * frequency / two_pi; /* within that context */
        double kept = (turns - how->low) / (how->high - how->low);

        kept = kept < 0 ? 0 : kept > 1 ? 1 : kept;
        rope->divisors[i] = 1.0 / ((1.0 - kept) / how->factor + kept);
    }
}
