/*
 * tile.h - what a tile is: the one piece of code in which weights, keys and values meet inputs.
 *
 * A tile is a few rows of x times a few panels of 16 columns.  Every output has ONE accumulation
 * chain, in ascending order of the summed index, so how rows and panels are grouped into tiles can
 * be chosen for speed alone.  tile_plain.h and tile_simd.h have
 *
 *   TILE_MAX_ROWS, TILE_MAX_PANELS
 *   int tile_panels(int rows)               panels that a tile of that many rows takes at once
 *   void tile_run(kind, rows, panels, tile) 1 <= rows <= TILE_MAX_ROWS; panels is tile_panels(rows)
 *                                           or 1
 *
 * Included after the lanes: LANES_DOT says whether they have lanes_dot.
 */
#ifndef EPIDOTE_OPS_TILE_H
#define EPIDOTE_OPS_TILE_H

#include "ops/ctx.h"

/* How the 16 columns of a panel lie in memory at one step of the chain. */
enum tile_kind {
    TILE_PAIRS_BF16,  /* [16][2] bf16: weights and keys, two of the summed index a step */
    TILE_PAIRS_F32,   /* [16][2] float32 */
    TILE_SINGLE_BF16, /* [16] bf16: values, one of the summed index a step */
    TILE_SINGLE_F32,  /* [16] float32 */
    TILE_KIND_COUNT
};

/* Words of x that a step reads: the two of a pair, odd first, or the one of a single.  Where there
 * is lanes_dot, a pair of bf16 is one word too: x is packed as the weights are. */
static inline int tile_x_per_step(enum tile_kind kind)
{
    return kind == TILE_PAIRS_F32 || (kind == TILE_PAIRS_BF16 && !LANES_DOT) ? 2 : 1;
}

/* Elements i .. i+15 of a row of x as tiles of pairs read them: rounded to the kind's type. */
static inline void tile_store_x(enum tile_kind kind, float *row, int i, struct lanes x)
{
#if LANES_DOT
    if (kind == TILE_PAIRS_BF16) {
        lanes_store_bf16((uint16_t *)(void *)row + i, x);
        return;
    }
#endif
    lanes_store(row + i, kind == TILE_PAIRS_BF16 ? lanes_round_bf16(x) : x);
}

struct tile {
    const float *x; /* row r at x + r * ldx; tile_x_per_step words a step */
    ptrdiff_t ldx;
    const uint8_t *const *panel; /* first step of each panel */
    ptrdiff_t step_bytes;        /* from one step of a panel to the next */
    int n_steps;
    float *out; /* row r, panel c at out + r * ldo + c * 16 */
    ptrdiff_t ldo;
    bool carry; /* continue the chains that out holds; else they start at +0 */
};

#endif
