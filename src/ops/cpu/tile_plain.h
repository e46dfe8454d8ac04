/*
 * tile_plain.h - the tile in plain C: the meaning of the others.  See tile.h.
 *
 * Included by cpu_plain.c.
 */
#ifndef EPIDOTE_OPS_TILE_PLAIN_H
#define EPIDOTE_OPS_TILE_PLAIN_H

#include "ops/cpu/lanes_plain.h"
#include "ops/cpu/tile.h"

enum { TILE_MAX_ROWS = 1, TILE_MAX_PANELS = 1 };

static inline int tile_panels(int rows)
{
    (void)rows;
    return 1;
}

/* Element `at` of a panel, counted in elements of its own type. */
static inline float tile_element(enum tile_kind kind, const uint8_t *panel, int at)
{
    if (kind == TILE_PAIRS_BF16 || kind == TILE_SINGLE_BF16)
        return f32_from_bf16(((const uint16_t *)(const void *)panel)[at]);
    return ((const float *)(const void *)panel)[at];
}

static void tile_run(enum tile_kind kind, int rows, int panels, const struct tile *tile)
{
    (void)rows;
    (void)panels;
    for (int lane = 0; lane < OPS_LANES; lane++) {
        const uint8_t *panel = tile->panel[0];
        float acc = tile->carry ? tile->out[lane] : 0.0f;

        for (int step = 0; step < tile->n_steps; step++, panel += tile->step_bytes) {
            if (tile_x_per_step(kind) == 2) {
                const float *x = tile->x + 2 * step;

                acc = fmaf(x[1], tile_element(kind, panel, 2 * lane + 1), acc);
                acc = fmaf(x[0], tile_element(kind, panel, 2 * lane), acc);
            } else {
                acc = fmaf(tile->x[step], tile_element(kind, panel, lane), acc);
            }
        }
        tile->out[lane] = acc;
    }
}

#endif
