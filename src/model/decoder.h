/*
 * decoder.h - what the two halves of the decoder share.  Private to this room.
 *
 *   decoder.c      the flow, embedding, attention, logits
 *   decoder_ffn.c  the feed-forward half of a layer: one network, or a mixture of experts
 */
#ifndef EPIDOTE_DECODER_H
#define EPIDOTE_DECODER_H

#include "model/weights.h"

struct decoder {
    struct model_config config;
    const struct weights *weights; /* borrowed */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    struct ops_ctx *ctx;     /* owned */
    int max_T, max_B, max_logit_rows, context;
    float embed_scale, residual_scale; /* 1: none */

    struct decoder_batch batch; /* the step's; its arrays are borrowed until decoder_end */
    int next_layer;             /* L: all are done */
    enum decoder_part next_part;

    float *rope;        /* [context, E/2, 2] cos, sin */
    float *rope_window; /* of layers with a window; rope itself, unless they have their own */
    int32_t *pos;       /* [max_T] that each row turns by, if it has one */
    float *x;           /* [max_T, D] residual stream */
    float *y;           /* [max_T, D] what a block reads (x, normalised), then what it adds to x */
    float *qkv;         /* [max_T, (H + 2K) * E] */
    float *attn;        /* [max_T, H * E] */
    float *gate_up;     /* [R, 2F]; R = max_T, times n_used_experts where there are experts */
    float *hidden;      /* [R, F] */
    float *logits;      /* [max_logit_rows, V] */
    float *max;         /* [max_logit_rows] */
    float *logsum;      /* [max_logit_rows] */

    /* experts only */
    float *router;         /* [max_T, X] */
    float *expert_weights; /* [R] of the experts that each row goes to, ids ascending */
    float *gathered;       /* [R, D] rows by expert: what experts read, then what they give */
    int32_t *experts;      /* [R] ids */
    int32_t *slots;        /* [R] where each of them lies in gathered */
    int32_t *first_slot;   /* [X + 1] of each expert */

    uint8_t *pages; /* owned; all of the arrays above lie here */
    size_t pages_bytes;
};

/* decoder_add - add what a block has made, in y, to the residual stream. */
enum status decoder_add(struct decoder *decoder);
/* decoder_ffn_gate, _down - the parts DECODER_GATE and DECODER_DOWN of a layer. */
enum status decoder_ffn_gate(struct decoder *decoder, const struct layer_weights *weights);
enum status decoder_ffn_down(struct decoder *decoder, const struct layer_weights *weights);

#endif
