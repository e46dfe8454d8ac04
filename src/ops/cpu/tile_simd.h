/*
 * tile_simd.h - the tile for instruction sets with registers of lanes.  See tile.h.
 *
 *   narrow   up to TILE_MAX_ROWS rows x 1 or 2 panels: every weight that is unpacked meets all rows
 *   wide     1 row x TILE_MAX_PANELS panels: enough chains to hide the latency of fma
 *
 * Accumulators are named variables made by macros, not arrays: gcc and clang both leave an array
 * of registers in memory unless they happen to unroll its loops early enough, at a quarter of the
 * speed.  Rows and panels are constants in every expansion, so what lies beyond them vanishes.  The
 * signal fence costs nothing when it runs: it has the compiler load a pair again for its even half
 * instead of keeping it in registers that there are too few of.
 *
 * After a change here, look at the inner loops in the assembly: no vector may go to the stack.
 *
 * Included by cpu_avx2.c, cpu_avx512.c and cpu_avx512bf16.c after their lanes; they define before
 *   TILE_MAX_ROWS    5 or 12: accumulators, weights and one x fill the registers
 *   TILE_MAX_PANELS  4 or 8, of a wide tile
 *   TILE_PANELS      1 or 2, of a narrow tile
 */
#ifndef EPIDOTE_OPS_TILE_SIMD_H
#define EPIDOTE_OPS_TILE_SIMD_H

#include <stdatomic.h>

#include "ops/cpu/tile.h"

static inline int tile_panels(int rows)
{
    return rows == 1 ? TILE_MAX_PANELS : rows == 2 ? 2 : TILE_PANELS;
}

/* The system's own prefetch of one stream gives half of the memory's speed; with this, few rows get
 * nearly all of it.  A wide tile reads streams enough. */
enum { TILE_AHEAD_BYTES = 2048 };

#define TILE_INLINE static inline __attribute__((always_inline))

/* 16 columns of one step; odd is false for kinds that have no pairs. */
TILE_INLINE struct lanes tile_load(const enum tile_kind kind, const uint8_t *at, const bool odd)
{
    const uint16_t *bf16 = (const uint16_t *)(const void *)at;
    const float *f32 = (const float *)(const void *)at;

    switch (kind) {
    case TILE_PAIRS_BF16:
        return LANES_DOT ? lanes_load(f32) : lanes_pairs_bf16(bf16, odd);
    case TILE_PAIRS_F32:
        return lanes_pairs_f32(f32, odd);
    case TILE_SINGLE_BF16:
        return lanes_from_bf16(bf16);
    default:
        return lanes_load(f32);
    }
}

/* acc + x * w; for pairs that stay pairs, both products: lanes_dot. */
TILE_INLINE struct lanes tile_add(const enum tile_kind kind, struct lanes x, struct lanes w,
                                  struct lanes acc)
{
#if LANES_DOT
    if (kind == TILE_PAIRS_BF16)
        return lanes_dot(x, w, acc);
#endif
    (void)kind;
    return lanes_fma(x, w, acc);
}

/* Row, and how to reach it: rows first + 0, 1, 2 from a pointer to the first, which is all that an
 * address can add.  With a pointer a row, twelve of them would not fit into the registers. */
/* clang-format off */
#define TILE_EACH_ROW(DO)                                                                          \
    DO(0, x0, 0) DO(1, x0, 1) DO(2, x0, 2) DO(3, x3, 0) DO(4, x3, 1) DO(5, x3, 2)                  \
    DO(6, x6, 0) DO(7, x6, 1) DO(8, x6, 2) DO(9, x9, 0) DO(10, x9, 1) DO(11, x9, 2)
/* clang-format on */
#define TILE_EACH_PANEL(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

TILE_INLINE void tile_narrow(const enum tile_kind kind, const int R, const int C,
                             const struct tile *tile)
{
    const int per_step = tile_x_per_step(kind);
    const ptrdiff_t ldx = tile->ldx, ldo = tile->ldo, step_bytes = tile->step_bytes;
    const uint8_t *panel = tile->panel[0], *panel2 = C == 2 ? tile->panel[1] : NULL;
    const float *x0 = tile->x, *x3 = R > 3 ? x0 + 3 * ldx : x0;
    const float *x6 = R > 6 ? x3 + 3 * ldx : x0, *x9 = R > 9 ? x6 + 3 * ldx : x0;
    float *out = tile->out;
    struct lanes w, w2;

#define TILE_BEGIN(r, first, nth)                                                                  \
    struct lanes acc##r = lanes_set(0.0f), next##r = lanes_set(0.0f);                              \
    if (R > (r) && tile->carry) {                                                                  \
        acc##r = lanes_load(out + ldo * (r));                                                      \
        if (C == 2)                                                                                \
            next##r = lanes_load(out + ldo * (r) + OPS_LANES);                                     \
    }
#define TILE_ADD(r, first, nth)                                                                    \
    if (R > (r)) {                                                                                 \
        const struct lanes x = lanes_set((first)[odd + ldx * (nth)]);                              \
        acc##r = tile_add(kind, x, w, acc##r);                                                     \
        if (C == 2)                                                                                \
            next##r = tile_add(kind, x, w2, next##r);                                              \
    }
#define TILE_END(r, first, nth)                                                                    \
    if (R > (r)) {                                                                                 \
        lanes_store(out + ldo * (r), acc##r);                                                      \
        if (C == 2)                                                                                \
            lanes_store(out + ldo * (r) + OPS_LANES, next##r);                                     \
    }

    TILE_EACH_ROW(TILE_BEGIN)
    for (int step = tile->n_steps; step > 0; step--) {
        if (per_step == 2) {
            const int odd = 1;

            w = tile_load(kind, panel, true);
            w2 = C == 2 ? tile_load(kind, panel2, true) : w;
            TILE_EACH_ROW(TILE_ADD)
            atomic_signal_fence(memory_order_seq_cst); /* see above */
        }
        const int odd = 0;

        w = tile_load(kind, panel, false);
        w2 = C == 2 ? tile_load(kind, panel2, false) : w;
        TILE_EACH_ROW(TILE_ADD)
        x0 += per_step;
        x3 += per_step;
        x6 += per_step;
        x9 += per_step;
        panel += step_bytes;
        __builtin_prefetch(panel + TILE_AHEAD_BYTES);
        if (C == 2) {
            panel2 += step_bytes;
            __builtin_prefetch(panel2 + TILE_AHEAD_BYTES);
        }
    }
    TILE_EACH_ROW(TILE_END)
#undef TILE_BEGIN
#undef TILE_ADD
#undef TILE_END
}

TILE_INLINE void tile_wide(const enum tile_kind kind, const int C, const struct tile *tile)
{
    const int per_step = tile_x_per_step(kind);
    const ptrdiff_t step_bytes = tile->step_bytes;
    const float *x = tile->x;
    float *out = tile->out;
    ptrdiff_t at = 0;

#define TILE_BEGIN(c)                                                                              \
    const uint8_t *panel##c = tile->panel[C > (c) ? (c) : 0];                                      \
    struct lanes acc##c = lanes_set(0.0f);                                                         \
    if (C > (c) && tile->carry)                                                                    \
        acc##c = lanes_load(out + OPS_LANES * (c));
#define TILE_ADD(c)                                                                                \
    if (C > (c))                                                                                   \
        acc##c = tile_add(kind, xs, tile_load(kind, panel##c + at, odd), acc##c);
#define TILE_END(c)                                                                                \
    if (C > (c))                                                                                   \
        lanes_store(out + OPS_LANES * (c), acc##c);

    TILE_EACH_PANEL(TILE_BEGIN)
    for (int step = tile->n_steps; step > 0; step--, at += step_bytes) {
        if (per_step == 2) {
            const bool odd = true;
            const struct lanes xs = lanes_set(x[1]);

            TILE_EACH_PANEL(TILE_ADD)
            atomic_signal_fence(memory_order_seq_cst);
        }
        const bool odd = false;
        const struct lanes xs = lanes_set(x[0]);

        TILE_EACH_PANEL(TILE_ADD)
        x += per_step;
    }
    TILE_EACH_PANEL(TILE_END)
#undef TILE_BEGIN
#undef TILE_ADD
#undef TILE_END
}

/* One function for each shape, so that registers are allocated for it alone. */
#define TILE_DEFINE(name, call, ...)                                                               \
    static __attribute__((noinline)) void name(enum tile_kind kind, const struct tile *tile)       \
    {                                                                                              \
        switch (kind) {                                                                            \
        case TILE_PAIRS_BF16:                                                                      \
            call(TILE_PAIRS_BF16, __VA_ARGS__, tile);                                              \
            break;                                                                                 \
        case TILE_PAIRS_F32:                                                                       \
            call(TILE_PAIRS_F32, __VA_ARGS__, tile);                                               \
            break;                                                                                 \
        case TILE_SINGLE_BF16:                                                                     \
            call(TILE_SINGLE_BF16, __VA_ARGS__, tile);                                             \
            break;                                                                                 \
        default:                                                                                   \
            call(TILE_SINGLE_F32, __VA_ARGS__, tile);                                              \
            break;                                                                                 \
        }                                                                                          \
    }

/* Rows that a tile of one panel may have, and of two. */
#if TILE_PANELS == 1
#define TILE_EACH_OF_1(DO) DO(1) DO(2) DO(3) DO(4) DO(5)
#define TILE_EACH_OF_2(DO) DO(2)
#else
#define TILE_EACH_OF_1(DO)                                                                         \
    DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12)
#define TILE_EACH_OF_2(DO) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12)
#endif
#define TILE_DEFINE_1(r) TILE_DEFINE(tile_##r##x1, tile_narrow, r, 1)
#define TILE_DEFINE_2(r) TILE_DEFINE(tile_##r##x2, tile_narrow, r, 2)
#define TILE_NAME_1(r) tile_##r##x1,
#define TILE_NAME_2(r) tile_##r##x2,

TILE_DEFINE(tile_wide_1, tile_wide, TILE_MAX_PANELS)
TILE_EACH_OF_1(TILE_DEFINE_1)
TILE_EACH_OF_2(TILE_DEFINE_2)

static inline void tile_run(enum tile_kind kind, int rows, int panels, const struct tile *tile)
{
    static void (*const one_panel[])(enum tile_kind,
                                     const struct tile *) = {TILE_EACH_OF_1(TILE_NAME_1)};
    static void (*const two_panels[])(enum tile_kind,
                                      const struct tile *) = {TILE_EACH_OF_2(TILE_NAME_2)};

    if (panels == 1)
        one_panel[rows - 1](kind, tile);
    else if (panels == 2)
        two_panels[rows - 2](kind, tile);
    else
        tile_wide_1(kind, tile);
}

#undef TILE_DEFINE
#undef TILE_DEFINE_1
#undef TILE_DEFINE_2
#undef TILE_NAME_1
#undef TILE_NAME_2

#endif
