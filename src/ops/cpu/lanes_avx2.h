/*
 * lanes_avx2.h - 16 float32 lanes as two AVX2 registers.  lanes_plain.h says what each function
 * means; the bits are the same.  Included by cpu_avx2.c, which is built with -mavx2 -mfma.
 */
#ifndef EPIDOTE_OPS_LANES_AVX2_H
#define EPIDOTE_OPS_LANES_AVX2_H

#include <immintrin.h>
#include <math.h>

#include "ops/ctx.h"

#define LANES_DOT 0

struct lanes {
    __m256 lo, hi; /* lanes 0-7, 8-15 */
};

static inline struct lanes lanes_set(float value)
{
    return (struct lanes){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

static inline struct lanes lanes_load(const float *from)
{
    return (struct lanes){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

static inline void lanes_store(float *to, struct lanes a)
{
    _mm256_storeu_ps(to, a.lo);
    _mm256_storeu_ps(to + 8, a.hi);
}

/* All ones in lanes first .. first+7 that are below n. */
static inline __m256i lanes_mask(int first, int n)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), index);
}

static inline struct lanes lanes_load_n(const float *from, int n)
{
    struct lanes r = {_mm256_maskload_ps(from, lanes_mask(0, n)), _mm256_setzero_ps()};

    if (n > 8) /* so that no pointer behind the end is ever formed */
        r.hi = _mm256_maskload_ps(from + 8, lanes_mask(8, n));
    return r;
}

static inline void lanes_store_n(float *to, struct lanes a, int n)
{
    _mm256_maskstore_ps(to, lanes_mask(0, n), a.lo);
    if (n > 8)
        _mm256_maskstore_ps(to + 8, lanes_mask(8, n), a.hi);
}

static inline __m256 lanes_bf16x8(const uint16_t *from)
{
    const __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)from);

    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

static inline struct lanes lanes_from_bf16(const uint16_t *from)
{
    return (struct lanes){lanes_bf16x8(from), lanes_bf16x8(from + 8)};
}

/* The even or the odd members of 16 pairs, for the tile. */
static inline struct lanes lanes_pairs_bf16(const uint16_t *from, bool odd)
{
    const __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)from);
    const __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(from + 16));
    const __m256i upper = _mm256_set1_epi32((int)0xffff0000u);

    if (odd)
        return (struct lanes){_mm256_castsi256_ps(_mm256_and_si256(lo, upper)),
                              _mm256_castsi256_ps(_mm256_and_si256(hi, upper))};
    return (struct lanes){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                          _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}

static inline __m256 lanes_pairs_f32x8(const float *from, bool odd)
{
    const __m256 a = _mm256_loadu_ps(from), b = _mm256_loadu_ps(from + 8);
    const __m256 mixed = odd ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0x88);

    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
}

static inline struct lanes lanes_pairs_f32(const float *from, bool odd)
{
    return (struct lanes){lanes_pairs_f32x8(from, odd), lanes_pairs_f32x8(from + 16, odd)};
}

static inline struct lanes lanes_add(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

static inline struct lanes lanes_sub(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

static inline struct lanes lanes_mul(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

static inline struct lanes lanes_div(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

static inline struct lanes lanes_fma(struct lanes a, struct lanes b, struct lanes c)
{
    return (struct lanes){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

static inline struct lanes lanes_max(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

static inline struct lanes lanes_min(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

static inline struct lanes lanes_zero_below(struct lanes a, struct lanes x, struct lanes limit)
{
    const __m256 lo = _mm256_cmp_ps(x.lo, limit.lo, _CMP_LT_OQ);
    const __m256 hi = _mm256_cmp_ps(x.hi, limit.hi, _CMP_LT_OQ);

    return (struct lanes){_mm256_andnot_ps(lo, a.lo), _mm256_andnot_ps(hi, a.hi)};
}

static inline struct lanes lanes_first(struct lanes a, int n, float rest)
{
    const __m256 r = _mm256_set1_ps(rest);

    return (struct lanes){_mm256_blendv_ps(r, a.lo, _mm256_castsi256_ps(lanes_mask(0, n))),
                          _mm256_blendv_ps(r, a.hi, _mm256_castsi256_ps(lanes_mask(8, n)))};
}

static inline struct lanes lanes_from(struct lanes a, int n, float rest)
{
    const __m256 r = _mm256_set1_ps(rest);

    return (struct lanes){_mm256_blendv_ps(a.lo, r, _mm256_castsi256_ps(lanes_mask(0, n))),
                          _mm256_blendv_ps(a.hi, r, _mm256_castsi256_ps(lanes_mask(8, n)))};
}

/* As bf16_from_f32: a NaN gets its quiet bit, everything else is rounded in the integer domain. */
static inline __m256 lanes_round_bf16x8(__m256 a)
{
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_castsi256_ps(_mm256_cmpgt_epi32(
        _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)), _mm256_set1_epi32(0x7f800000)));
    const __m256 r = _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), is_nan);

    return _mm256_and_ps(r, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u)));
}

static inline struct lanes lanes_round_bf16(struct lanes a)
{
    return (struct lanes){lanes_round_bf16x8(a.lo), lanes_round_bf16x8(a.hi)};
}

static inline __m256 lanes_exp2_ofx8(__m256 t)
{
    const __m256i n = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127));

    return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}

static inline struct lanes lanes_exp2_of(struct lanes t)
{
    return (struct lanes){lanes_exp2_ofx8(t.lo), lanes_exp2_ofx8(t.hi)};
}

static inline float lanes_sum(struct lanes a)
{
    const __m256 eight = _mm256_add_ps(a.lo, a.hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float lanes_max_of(struct lanes a)
{
    const __m256 eight = _mm256_max_ps(a.hi, a.lo);
    const __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    const __m128 two = _mm_max_ps(_mm_movehl_ps(four, four), four);

    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two));
}

#endif
