/*
 * pack.h - pieces of one mapping, and rows of weights that are checked on their way into it: what a
 * decoder and a tower share.  Private to this room: weights.c, vision_weights.c; decoder.c and
 * vision.c for the arrays of a step.
 */
#ifndef EPIDOTE_MODEL_PACK_H
#define EPIDOTE_MODEL_PACK_H

#include <stdatomic.h>

#include "model/source.h"

/* Hands out 64-byte aligned pieces; without a base it only counts. */
struct carver {
    uint8_t *base; /* borrowed, or NULL */
    size_t n_bytes;
    bool stored; /* matrices get none: their rows stay in the file */
};

static inline void *carve(struct carver *carver, size_t n_bytes)
{
    void *piece = carver->base != NULL ? carver->base + carver->n_bytes : NULL;

    carver->n_bytes += (n_bytes + 63) / 64 * 64;
    return piece;
}

static inline float *carve_vector(struct carver *carver, int n)
{
    return carve(carver, (size_t)n * sizeof(float));
}

static inline struct ops_matrix carve_matrix(struct carver *carver, enum ops_type type, int n_out,
                                             int n_in)
{
    struct ops_matrix w = {.type = type, .n_out = n_out, .n_in = n_in};

    if (!carver->stored)
        w.data = carve(carver, ops_matrix_bytes(type, n_out, n_in));
    return w;
}

/* Rounding to bf16 also loses what rounds up to infinity there. */
static inline bool pack_row_is_finite(const float *row, int64_t n, bool rounded)
{
    const uint32_t too_big = rounded ? 0x7f7f8000u : 0x7f800000u; /* float32 bits, without sign */
    uint32_t n_bad = 0;

    for (int64_t i = 0; i < n; i++)
        n_bad += (bits_from_f32(row[i]) & 0x7fffffffu) >= too_big;
    return n_bad == 0;
}

static inline void pack_round_row(float *row, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        row[i] = f32_from_bf16(bf16_from_f32(row[i]));
}

/* The lowest bad row is named, whichever thread is first. */
static inline void pack_note_bad_row(_Atomic(int64_t) *first_bad_row, int64_t row)
{
    int64_t seen = atomic_load(first_bad_row);

    while (row < seen && !atomic_compare_exchange_weak(first_bad_row, &seen, row))
        ;
}

/* first_bad_row: of the view; its number of rows: none. */
static inline enum status pack_check(const struct tensor_view *tensor, int64_t first_bad_row,
                                     bool rounded)
{
    if (first_bad_row >= tensor->n_rows)
        return ST_OK;
    log_error("tensor %s, row %lld of %lld: a weight is NaN or infinite%s; the model file is "
              "damaged or was badly converted, get it again",
              tensor->name, (long long)(tensor->first_row + first_bad_row),
              (long long)tensor->tensor_rows, rounded ? " as bf16" : "");
    return ST_FORMAT;
}

#endif
