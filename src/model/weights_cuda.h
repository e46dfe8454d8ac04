/*
 * weights_cuda.h - the weights on a GPU as its decoder sees them.  Private to this room: made by
 * weights_cuda.c, read by decoder_cuda.c.
 */
#ifndef EPIDOTE_WEIGHTS_CUDA_H
#define EPIDOTE_WEIGHTS_CUDA_H

#include "model/model.h"

/* W [n_out, n_in] bf16 row by row, in memory of the device. */
struct matrix_cuda {
    const uint16_t *data;
    int n_out, n_in;
};

/* As struct layer_weights; vectors are float32 of the device.  With experts, gate_up and down are
 * those of the first of X, and the others' follow, each right behind the one before. */
struct layer_cuda {
    const float *attn_norm, *ffn_norm;
    const float *attn_post_norm, *ffn_post_norm;
    const float *q_norm, *k_norm;
    const float *qkv_bias, *o_bias;
    struct matrix_cuda qkv, o, gate_up, down;
    struct matrix_cuda router; /* of a model with experts */
};

/* matrix_cuda_elems - of one of them, and from one expert's to the next one's. */
static inline size_t matrix_cuda_elems(const struct matrix_cuda *m)
{
    return (size_t)m->n_out * (size_t)m->n_in;
}

struct weights_cuda {
    const struct ops_cuda *cuda; /* borrowed */
    struct layer_cuda *layers;   /* [L] owned */
    const float *final_norm;
    struct matrix_cuda embed, head; /* of a tied model the same */
    uint8_t *memory;                /* owned, of the device; all of the above points into it */
};

#endif
