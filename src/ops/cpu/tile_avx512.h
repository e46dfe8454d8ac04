/*
 * tile_avx512.h - the tile with AVX-512: up to 12 rows by 32 columns or 1 row by 128, all
 * accumulators in registers.  See tile.h, and tile_avx2.h on why the loops are unrolled by pragma.
 *
 * fma only: vdpbf16ps is a numerics of its own until it is proven to give the same bits.
 *
 * Included by cpu_avx512.c.
 */
#ifndef EPIDOTE_OPS_TILE_AVX512_H
#define EPIDOTE_OPS_TILE_AVX512_H

#include "ops/cpu/lanes_avx512.h"
#include "ops/cpu/tile.h"

enum { TILE_MAX_ROWS = 12, TILE_MAX_PANELS = 8 };

/* At least 8 chains hide the latency of fma (4 cycles, 2 a cycle). */
static inline int tile_panels(int rows)
{
    return rows == 1 ? 8 : rows <= 3 ? 4 : 2;
}

#define TILE_INLINE static inline __attribute__((always_inline))

/* 16 columns of one step: out[0] even, out[1] odd; a single kind has no odd. */
TILE_INLINE void tile_load(const enum tile_kind kind, const uint8_t *panel, __m512 out[2])
{
    if (kind == TILE_PAIRS_BF16) {
        const __m512i both = _mm512_loadu_si512(panel);

        out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        out[1] = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u)));
    } else if (kind == TILE_PAIRS_F32) {
        const __m512i even =
            _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        const __m512 a = _mm512_loadu_ps(panel), b = _mm512_loadu_ps(panel + 64);

        out[0] = _mm512_permutex2var_ps(a, even, b);
        out[1] = _mm512_permutex2var_ps(a, odd, b);
    } else if (kind == TILE_SINGLE_BF16) {
        out[0] = lanes_from_bf16((const uint16_t *)(const void *)panel).f;
    } else {
        out[0] = _mm512_loadu_ps(panel);
    }
}

TILE_INLINE void tile_body(const enum tile_kind kind, const int R, const int C,
                           const struct tile *tile)
{
    const bool paired = kind == TILE_PAIRS_BF16 || kind == TILE_PAIRS_F32;
    const int step_x = paired ? 2 : 1;
    const float *x[TILE_MAX_ROWS];
    const uint8_t *panel[TILE_MAX_PANELS];
    __m512 acc[TILE_MAX_ROWS][TILE_MAX_PANELS];

#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
        x[r] = tile->x + r * tile->ldx;
#pragma GCC unroll 8
    for (int c = 0; c < C; c++)
        panel[c] = tile->panel[c];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++)
            acc[r][c] = tile->carry ? _mm512_loadu_ps(tile->out + r * tile->ldo + c * OPS_LANES)
                                    : _mm512_setzero_ps();
    }

    for (int step = 0; step < tile->n_steps; step++) {
        __m512 w[TILE_MAX_PANELS][2];

#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            tile_load(kind, panel[c], w[c]);
            panel[c] += tile->step_bytes;
        }
#pragma GCC unroll 2
        for (int odd = step_x - 1; odd >= 0; odd--) { /* the odd one first */
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                const __m512 xr = _mm512_set1_ps(x[r][odd]);

#pragma GCC unroll 8
                for (int c = 0; c < C; c++)
                    acc[r][c] = _mm512_fmadd_ps(xr, w[c][odd], acc[r][c]);
            }
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
            x[r] += step_x;
    }

#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < C; c++)
            _mm512_storeu_ps(tile->out + r * tile->ldo + c * OPS_LANES, acc[r][c]);
    }
}

/* The rows of tile_rows that take two panels at once, each alone and in the pair. */
#define TILE_CASE(kind, rows, panels, tile)                                                        \
    case (rows)*16 + (panels):                                                                     \
        tile_body(kind, rows, panels, tile);                                                       \
        break

/* One kind's tiles of all shapes. */
TILE_INLINE void tile_shapes(const enum tile_kind kind, int rows, int panels,
                             const struct tile *tile)
{
    switch (rows * 16 + panels) {
        TILE_CASE(kind, 1, 8, tile);
        TILE_CASE(kind, 1, 1, tile);
        TILE_CASE(kind, 2, 4, tile);
        TILE_CASE(kind, 2, 1, tile);
        TILE_CASE(kind, 3, 4, tile);
        TILE_CASE(kind, 3, 1, tile);
        TILE_CASE(kind, 4, 2, tile);
        TILE_CASE(kind, 4, 1, tile);
        TILE_CASE(kind, 5, 2, tile);
        TILE_CASE(kind, 5, 1, tile);
        TILE_CASE(kind, 6, 2, tile);
        TILE_CASE(kind, 6, 1, tile);
        TILE_CASE(kind, 7, 2, tile);
        TILE_CASE(kind, 7, 1, tile);
        TILE_CASE(kind, 8, 2, tile);
        TILE_CASE(kind, 8, 1, tile);
        TILE_CASE(kind, 9, 2, tile);
        TILE_CASE(kind, 9, 1, tile);
        TILE_CASE(kind, 10, 2, tile);
        TILE_CASE(kind, 10, 1, tile);
        TILE_CASE(kind, 11, 2, tile);
        TILE_CASE(kind, 11, 1, tile);
        TILE_CASE(kind, 12, 2, tile);
        TILE_CASE(kind, 12, 1, tile);
    }
}

#undef TILE_CASE

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
