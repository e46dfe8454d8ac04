/*
 * lanes_plain.h - 16 float32 lanes in plain C: the meaning of every lanes_ function.
 *
 * lanes_avx2.h and lanes_avx512.h define the same functions with the same results to the bit.  All
 * arithmetic here is IEEE float32, round to nearest even, with subnormal inputs and results taken
 * as zero (threads_create sets that mode).  Included by cpu_plain.c.
 */
#ifndef EPIDOTE_OPS_LANES_PLAIN_H
#define EPIDOTE_OPS_LANES_PLAIN_H

#include <math.h>

#include "ops/ctx.h"

#define LANES_DOT 0 /* lanes_dot, a product of bf16 pairs, is in lanes_avx512.h only */

struct lanes {
    float f[OPS_LANES];
};

static inline struct lanes lanes_set(float value)
{
    struct lanes r;

    for (int i = 0; i < OPS_LANES; i++)
        r.f[i] = value;
    return r;
}

static inline struct lanes lanes_load(const float *from)
{
    struct lanes r;

    memcpy(r.f, from, sizeof r.f);
    return r;
}

/* The first n lanes from memory, the others zero; nothing behind from[n-1] is read. */
static inline struct lanes lanes_load_n(const float *from, int n)
{
    struct lanes r = lanes_set(0.0f);

    memcpy(r.f, from, (size_t)n * sizeof r.f[0]);
    return r;
}

static inline void lanes_store(float *to, struct lanes a)
{
    memcpy(to, a.f, sizeof a.f);
}

/* Only the first n lanes are written. */
static inline void lanes_store_n(float *to, struct lanes a, int n)
{
    memcpy(to, a.f, (size_t)n * sizeof a.f[0]);
}

static inline struct lanes lanes_from_bf16(const uint16_t *from)
{
    struct lanes r;

    for (int i = 0; i < OPS_LANES; i++)
        r.f[i] = f32_from_bf16(from[i]);
    return r;
}

static inline struct lanes lanes_add(struct lanes a, struct lanes b)
{
    for (int i = 0; i < OPS_LANES; i++)
        a.f[i] += b.f[i];
    return a;
}

static inline struct lanes lanes_sub(struct lanes a, struct lanes b)
{
    for (int i = 0; i < OPS_LANES; i++)
        a.f[i] -= b.f[i];
    return a;
}

static inline struct lanes lanes_mul(struct lanes a, struct lanes b)
{
    for (int i = 0; i < OPS_LANES; i++)
        a.f[i] *= b.f[i];
    return a;
}

static inline struct lanes lanes_div(struct lanes a, struct lanes b)
{
    for (int i = 0; i < OPS_LANES; i++)
        a.f[i] /= b.f[i];
    return a;
}

/* a * b + c, rounded once. */
static inline struct lanes lanes_fma(struct lanes a, struct lanes b, struct lanes c)
{
    for (int i = 0; i < OPS_LANES; i++)
        c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return c;
}

/* The larger; b where either is a NaN. */
static inline struct lanes lanes_max(struct lanes a, struct lanes b)
{
    for (int i = 0; i < OPS_LANES; i++)
        b.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return b;
}

/* The smaller; b where either is a NaN. */
static inline struct lanes lanes_min(struct lanes a, struct lanes b)
{
    for (int i = 0; i < OPS_LANES; i++)
        b.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i];
    return b;
}

/* a, but +0 in every lane where x < limit (not where x is a NaN). */
static inline struct lanes lanes_zero_below(struct lanes a, struct lanes x, struct lanes limit)
{
    for (int i = 0; i < OPS_LANES; i++)
        a.f[i] = x.f[i] < limit.f[i] ? 0.0f : a.f[i];
    return a;
}

/* Lanes 0 .. n-1 of a, the others replaced by `rest`, whatever they held. */
static inline struct lanes lanes_first(struct lanes a, int n, float rest)
{
    for (int i = n; i < OPS_LANES; i++)
        a.f[i] = rest;
    return a;
}

/* Lanes n .. 15 of a, those before replaced by `rest`, whatever they held. */
static inline struct lanes lanes_from(struct lanes a, int n, float rest)
{
    for (int i = 0; i < n; i++)
        a.f[i] = rest;
    return a;
}

/* a rounded to the nearest bf16 (ties to even), as float32. */
static inline struct lanes lanes_round_bf16(struct lanes a)
{
    for (int i = 0; i < OPS_LANES; i++)
        a.f[i] = f32_from_bf16(bf16_from_f32(a.f[i]));
    return a;
}

/* t = 1.5 * 2^23 + n with -126 <= n <= 127: 2^n, by moving n into the exponent. */
static inline struct lanes lanes_exp2_of(struct lanes t)
{
    for (int i = 0; i < OPS_LANES; i++)
        t.f[i] = f32_from_bits((bits_from_f32(t.f[i]) + 127u) << 23);
    return t;
}

/* THE tree: lane i + lane i+8, then i + i+4, i + i+2, i + i+1. */
static inline float lanes_sum(struct lanes a)
{
    for (int half = OPS_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a.f[i] += a.f[i + half];
    return a.f[0];
}

/* The same tree with lanes_max(upper, lower). */
static inline float lanes_max_of(struct lanes a)
{
    for (int half = OPS_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a.f[i] = a.f[i + half] > a.f[i] ? a.f[i + half] : a.f[i];
    return a.f[0];
}

#endif
