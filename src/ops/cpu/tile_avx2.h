/*
 * tile_avx2.h - the tile with AVX2 and FMA: up to 6 rows by 16 columns or 1 row by 64, all
 * accumulators in registers.  See tile.h.
 *
 * tile_body is expanded once for every (kind, rows, panels), so that all its loops over registers
 * have constant bounds.  The pragmas unroll them early enough for gcc and clang to keep acc in
 * registers: without them both spill, at less than half the speed.  After a change here, look for
 * stores to the stack between the fma instructions in the assembly.
 *
 * Included by cpu_avx2.c.
 */
#ifndef EPIDOTE_OPS_TILE_AVX2_H
#define EPIDOTE_OPS_TILE_AVX2_H

#include "ops/cpu/lanes_avx2.h"
#include "ops/cpu/tile.h"

enum { TILE_MAX_ROWS = 6, TILE_MAX_PANELS = 4 };

/* At least 8 chains of 8 lanes hide the latency of fma (4 cycles, 2 a cycle); 12 leave registers
 * for the weights. */
static inline int tile_panels(int rows)
{
    return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}

#define TILE_INLINE static inline __attribute__((always_inline))

/* Eight columns of one pair: out[0] even, out[1] odd. */
TILE_INLINE void tile_load_pair_f32(const float *at, __m256 out[2])
{
    const __m256 a = _mm256_loadu_ps(at), b = _mm256_loadu_ps(at + 8);
    const __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    const __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd));

    out[0] = _mm256_castpd_ps(_mm256_permute4x64_pd(even, 0xd8));
    out[1] = _mm256_castpd_ps(_mm256_permute4x64_pd(odd, 0xd8));
}

/* The columns' weights at one step, [half][even, odd]; a single kind has no odd. */
TILE_INLINE void tile_load(const enum tile_kind kind, const uint8_t *panel, const int half,
                           __m256 out[2])
{
    const uint16_t *bf16 = (const uint16_t *)(const void *)panel;
    const float *f32 = (const float *)(const void *)panel;

    if (kind == TILE_PAIRS_BF16) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(bf16 + 16 * half));
        const __m256i odd = _mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000u));

        out[0] = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
        out[1] = _mm256_castsi256_ps(odd);
    } else if (kind == TILE_PAIRS_F32) {
        tile_load_pair_f32(f32 + 16 * half, out);
    } else if (kind == TILE_SINGLE_BF16) {
        out[0] = lanes_bf16x8(bf16 + 8 * half);
    } else {
        out[0] = _mm256_loadu_ps(f32 + 8 * half);
    }
}

TILE_INLINE void tile_body(const enum tile_kind kind, const int R, const int C,
                           const struct tile *tile)
{
    const bool paired = kind == TILE_PAIRS_BF16 || kind == TILE_PAIRS_F32;
    const int step_x = paired ? 2 : 1;
    const float *x[TILE_MAX_ROWS];
    const uint8_t *panel[TILE_MAX_PANELS];
    __m256 acc[TILE_MAX_ROWS][TILE_MAX_PANELS][2];

#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
        x[r] = tile->x + r * tile->ldx;
#pragma GCC unroll 8
    for (int c = 0; c < C; c++)
        panel[c] = tile->panel[c];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            const float *out = tile->out + r * tile->ldo + c * OPS_LANES;

            acc[r][c][0] = tile->carry ? _mm256_loadu_ps(out) : _mm256_setzero_ps();
            acc[r][c][1] = tile->carry ? _mm256_loadu_ps(out + 8) : _mm256_setzero_ps();
        }
    }

    for (int step = 0; step < tile->n_steps; step++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            __m256 w[2][2];

            tile_load(kind, panel[c], 0, w[0]);
            tile_load(kind, panel[c], 1, w[1]);
            panel[c] += tile->step_bytes;
#pragma GCC unroll 2
            for (int odd = step_x - 1; odd >= 0; odd--) { /* the odd one first */
#pragma GCC unroll 8
                for (int r = 0; r < R; r++) {
                    const __m256 xr = _mm256_broadcast_ss(x[r] + odd);

                    acc[r][c][0] = _mm256_fmadd_ps(xr, w[0][odd], acc[r][c][0]);
                    acc[r][c][1] = _mm256_fmadd_ps(xr, w[1][odd], acc[r][c][1]);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
            x[r] += step_x;
    }

#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            float *out = tile->out + r * tile->ldo + c * OPS_LANES;

            _mm256_storeu_ps(out, acc[r][c][0]);
            _mm256_storeu_ps(out + 8, acc[r][c][1]);
        }
    }
}

/* One kind's tiles of all shapes. */
TILE_INLINE void tile_shapes(const enum tile_kind kind, int rows, int panels,
                             const struct tile *tile)
{
    switch (rows * 8 + panels) {
    case 1 * 8 + 4:
        tile_body(kind, 1, 4, tile);
        return;
    case 1 * 8 + 1:
        tile_body(kind, 1, 1, tile);
        return;
    case 2 * 8 + 2:
        tile_body(kind, 2, 2, tile);
        return;
    case 2 * 8 + 1:
        tile_body(kind, 2, 1, tile);
        return;
    case 3 * 8 + 2:
        tile_body(kind, 3, 2, tile);
        return;
    case 3 * 8 + 1:
        tile_body(kind, 3, 1, tile);
        return;
    case 4 * 8 + 1:
        tile_body(kind, 4, 1, tile);
        return;
    case 5 * 8 + 1:
        tile_body(kind, 5, 1, tile);
        return;
    default:
        tile_body(kind, 6, 1, tile);
        return;
    }
}

/* Not inlined into each other, so that each shape is allocated registers on its own. */
static __attribute__((noinline)) void tile_pairs_bf16(int rows, int panels, const struct tile *tile)
{
    tile_shapes(TILE_PAIRS_BF16, rows, panels, tile);
}
static __attribute__((noinline)) void tile_pairs_f32(int rows, int panels, const struct tile *tile)
{
    tile_shapes(TILE_PAIRS_F32, rows, panels, tile);
}
static __attribute__((noinline)) void tile_single_bf16(int rows, int panels,
                                                       const struct tile *tile)
{
    tile_shapes(TILE_SINGLE_BF16, rows, panels, tile);
}
static __attribute__((noinline)) void tile_single_f32(int rows, int panels, const struct tile *tile)
{
    tile_shapes(TILE_SINGLE_F32, rows, panels, tile);
}

static inline void tile_run(enum tile_kind kind, int rows, int panels, const struct tile *tile)
{
    static void (*const run[TILE_KIND_COUNT])(int, int, const struct tile *) = {
        [TILE_PAIRS_BF16] = tile_pairs_bf16,
        [TILE_PAIRS_F32] = tile_pairs_f32,
        [TILE_SINGLE_BF16] = tile_single_bf16,
        [TILE_SINGLE_F32] = tile_single_f32,
    };

    run[kind](rows, panels, tile);
}

#endif
