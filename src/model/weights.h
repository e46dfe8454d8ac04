/*
 * weights.h - the packed weights as the decoder sees them.  Private to this room: made by
 * weights.c, read by decoder.c.
 */
#ifndef EPIDOTE_WEIGHTS_H
#define EPIDOTE_WEIGHTS_H

#include "model/model.h"

/* Matrices that read the same input are one matrix, so that a layer has four matmuls, not seven. */
struct layer_weights {
    float *attn_norm, *ffn_norm; /* [D] */
    struct ops_matrix qkv;       /* [(H + 2K) * E, D]: query heads, key heads, value heads */
    struct ops_matrix o;         /* [D, H * E] */
    float *qkv_bias;             /* [(H + 2K) * E], as qkv; NULL: the model has no biases */
    float *o_bias;               /* [D] or NULL */
    struct ops_matrix gate_up;   /* [2F, D]: gate, then up */
    struct ops_matrix down;      /* [D, F] */
};

struct weights {
    enum ops_type type; /* of all matrices; norms are float32, biases too, but rounded to it */
    int L;
    struct layer_weights *layers; /* [L] owned */
    float *final_norm;            /* [D] */
    struct ops_matrix embed;      /* [V, D] */
    struct ops_matrix head;       /* [V, D]; of a tied model the embedding itself */
    uint8_t *pages;               /* all of the above lies here */
    size_t pages_bytes;
    bool pages_owned; /* else the caller's, shared by the ranks of a node */
    struct arena
        *stored; /* owned; what matrices with stored rows point to.  NULL: all are packed */
};

#endif
