/*
 * lanes_avx512.h - 16 float32 lanes as one AVX-512 register.  lanes_plain.h says what each function
 * means; the bits are the same.  Included by cpu_avx512.c (-mavx512f -mavx512bw -mavx512dq
 * -mavx512vl).
 */
#ifndef EPIDOTE_OPS_LANES_AVX512_H
#define EPIDOTE_OPS_LANES_AVX512_H

#include <immintrin.h>
#include <math.h>

#include "ops/ctx.h"

#ifdef __AVX512BF16__
#define LANES_DOT 1
#else
#define LANES_DOT 0
#endif

struct lanes {
    __m512 f;
};

static inline struct lanes lanes_set(float value)
{
    return (struct lanes){_mm512_set1_ps(value)};
}

static inline struct lanes lanes_load(const float *from)
{
    return (struct lanes){_mm512_loadu_ps(from)};
}

static inline void lanes_store(float *to, struct lanes a)
{
    _mm512_storeu_ps(to, a.f);
}

/* One bit for each of the first n lanes, 0 <= n <= 16. */
static inline __mmask16 lanes_mask(int n)
{
    return (__mmask16)((1u << n) - 1u);
}

static inline struct lanes lanes_load_n(const float *from, int n)
{
    return (struct lanes){_mm512_maskz_loadu_ps(lanes_mask(n), from)};
}

static inline void lanes_store_n(float *to, struct lanes a, int n)
{
    _mm512_mask_storeu_ps(to, lanes_mask(n), a.f);
}

static inline struct lanes lanes_from_bf16(const uint16_t *from)
{
    const __m256i halves = _mm256_loadu_si256((const __m256i *)(const void *)from);

    return (struct lanes){
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}

/* The even or the odd members of 16 pairs, for the tile. */
static inline struct lanes lanes_pairs_bf16(const uint16_t *from, bool odd)
{
    const __m512i both = _mm512_loadu_si512(from);

    if (odd)
        return (struct lanes){
            _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u)))};
    return (struct lanes){_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))};
}

static inline struct lanes lanes_pairs_f32(const float *from, bool odd)
{
    const __m512i even_at =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i at = odd ? _mm512_add_epi32(even_at, _mm512_set1_epi32(1)) : even_at;

    return (struct lanes){
        _mm512_permutex2var_ps(_mm512_loadu_ps(from), at, _mm512_loadu_ps(from + 16))};
}

static inline struct lanes lanes_add(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm512_add_ps(a.f, b.f)};
}

static inline struct lanes lanes_sub(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm512_sub_ps(a.f, b.f)};
}

static inline struct lanes lanes_mul(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm512_mul_ps(a.f, b.f)};
}

static inline struct lanes lanes_div(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm512_div_ps(a.f, b.f)};
}

static inline struct lanes lanes_fma(struct lanes a, struct lanes b, struct lanes c)
{
    return (struct lanes){_mm512_fmadd_ps(a.f, b.f, c.f)};
}

static inline struct lanes lanes_max(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm512_max_ps(a.f, b.f)};
}

static inline struct lanes lanes_min(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm512_min_ps(a.f, b.f)};
}

static inline struct lanes lanes_zero_below(struct lanes a, struct lanes x, struct lanes limit)
{
    const __mmask16 below = _mm512_cmp_ps_mask(x.f, limit.f, _CMP_LT_OQ);

    return (struct lanes){_mm512_maskz_mov_ps((__mmask16)~below, a.f)};
}

static inline struct lanes lanes_first(struct lanes a, int n, float rest)
{
    return (struct lanes){_mm512_mask_mov_ps(_mm512_set1_ps(rest), lanes_mask(n), a.f)};
}

static inline struct lanes lanes_from(struct lanes a, int n, float rest)
{
    return (struct lanes){_mm512_mask_mov_ps(a.f, lanes_mask(n), _mm512_set1_ps(rest))};
}

/* As bf16_from_f32: a NaN gets its quiet bit, everything else is rounded in the integer domain. */
static inline struct lanes lanes_round_bf16(struct lanes a)
{
    const __m512i bits = _mm512_castps_si512(a.f);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a.f, a.f, _CMP_UNORD_Q);
    const __m512i r = _mm512_mask_mov_epi32(up, is_nan, quiet);

    return (struct lanes){
        _mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32((int)0xffff0000u)))};
}

#if LANES_DOT
/* 16 rounded as above, stored as bf16. */
static inline void lanes_store_bf16(uint16_t *to, struct lanes a)
{
    const __m512i bits = _mm512_castps_si512(lanes_round_bf16(a).f);

    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
}

/* 16 lanes of fma(x[odd], w[odd], acc), then fma(x[even], w[even], acc): x and w are pairs of bf16.
 * tests/unit_dpbf16.c proves it. */
static inline struct lanes lanes_dot(struct lanes x, struct lanes w, struct lanes acc)
{
    return (struct lanes){_mm512_dpbf16_ps(acc.f, (__m512bh)_mm512_castps_si512(x.f),
                                           (__m512bh)_mm512_castps_si512(w.f))};
}
#endif

static inline struct lanes lanes_exp2_of(struct lanes t)
{
    const __m512i n = _mm512_add_epi32(_mm512_castps_si512(t.f), _mm512_set1_epi32(127));

    return (struct lanes){_mm512_castsi512_ps(_mm512_slli_epi32(n, 23))};
}

static inline float lanes_sum(struct lanes a)
{
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.f), _mm512_extractf32x8_ps(a.f, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float lanes_max_of(struct lanes a)
{
    const __m256 eight = _mm256_max_ps(_mm512_extractf32x8_ps(a.f, 1), _mm512_castps512_ps256(a.f));
    const __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    const __m128 two = _mm_max_ps(_mm_movehl_ps(four, four), four);

    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two));
}

#endif
