/*
 * decoder_cuda.h - what the two halves of the GPU's decoder share.  Private to this room.
 *
 *   decoder_cuda_setup.c  what it can compute, its memory, create and destroy
 *   decoder_cuda.c        a forward pass as launches
 */
#ifndef EPIDOTE_DECODER_CUDA_H
#define EPIDOTE_DECODER_CUDA_H

#include "model/weights_cuda.h"

enum { MATMUL_ROWS = 64, ATTEND_ROWS = 64 }; /* most of one launch, of answers */
enum { EXPERTS_TOK = 64 };                   /* tokens whose experts one launch computes */
enum { SAMPLE_ROWS = 64 };                   /* most of one launch */

/* Matrices of a layer: they have the same shape in every one.  The last two have no plan where
 * there are experts. */
enum { MATRIX_QKV, MATRIX_O, MATRIX_GATE_UP, MATRIX_DOWN, N_MATRICES };

/* What a step brings, in one piece of memory: where each array begins. */
struct step_arrays {
    int32_t *tokens, *pos;        /* [T] */
    int32_t *seq;                 /* [T] row of tables */
    int32_t *pos0, *n_tok, *row0; /* [B] as in struct ops_seq */
    int32_t *rows;                /* [n_logit_rows] whose logits are wanted */
    int32_t *tables;              /* [B, ld_tables] */
    struct k_sample_row *draws;   /* [n_logit_rows]; temperature 0 where nothing is picked */
};

struct decoder_cuda {
    struct model_config config;
    const struct weights_cuda *weights; /* borrowed, as cuda */
    const struct ops_cuda *cuda;
    struct kv_space space;
    int max_T, max_B, max_logit_rows, context;
    float embed_scale, residual_scale;

    void *plans[N_MATRICES]; /* owned: how prompts are multiplied */

    struct decoder_batch batch; /* of the pass; its arrays are gone */
    bool of_prompts;            /* the pass */
    int ld_tables;              /* of the pass: of its longest sequence */
    struct step_arrays host, device;
    bool any_picked; /* of the pass */
    bool y_waits;    /* y is still to be added to x */

    void *stream;
    void **kv_events; /* [L] owned: a layer's KV is there */
    void *end_event;

    uint8_t *memory;              /* owned, of the device; the arrays lie here: */
    uint8_t *arrays;              /* what a step brings */
    float *rope, *rope_window;    /* [context, E] as in struct decoder */
    float *x, *y;                 /* [max_T, D] */
    float *qkv;                   /* [max_T, (H + 2K) * E] */
    float *gate_up;               /* [max_T, 2F]; with experts [slots, 2F] */
    float *logits, *max, *logsum; /* [max_logit_rows], of V */
    float *work;                  /* scratch of launchers */
    int32_t *best;                /* [max_logit_rows] */
    int32_t *picked;              /* [max_logit_rows] */
    uint16_t *normed;             /* [max_T, D] */
    uint16_t *q, *attn;           /* [max_T, H * E] */
    uint16_t *hidden;             /* [max_T, F]; with experts [slots, F] */
    uint16_t *wanted;             /* [max_logit_rows, D] */

    /* experts: a slot is a row of a token for one of those that it goes to, EXPERTS_TOK * n_used */
    float *router;          /* [max_T, X] */
    int32_t *experts;       /* [max_T, n_used] ascending */
    float *expert_weights;  /* [max_T, n_used] */
    int32_t *slots, *first; /* [slots] by token; [X + 1] where each expert's begin */
    uint16_t *gathered;     /* [slots, D] in the order of their experts */
    float *expert_rows;     /* [slots, D] what the experts made of them */

    uint8_t *pinned;                             /* owned; the host's: */
    uint8_t *host_arrays;                        /* what a step brings */
    float *host_logits, *host_max, *host_logsum; /* [max_logit_rows], of V */
    int32_t *host_picked;                        /* [max_logit_rows] */
};

/* decoder_cuda_place - where the arrays of a step of T tokens of B sequences, R wanted rows and n
 * ids of blocks lie in memory that begins at base; NULL: nowhere.  Returns the bytes. */
size_t decoder_cuda_place(uint8_t *base, size_t T, size_t B, size_t R, size_t n,
                          struct step_arrays *out);
/* decoder_cuda_copy, decoder_cuda_record - enqueue.  Return ST_OK, ST_IO (logged). */
enum status decoder_cuda_copy(const struct decoder_cuda *d, void *to, const void *from,
                              size_t n_bytes);
enum status decoder_cuda_record(const struct decoder_cuda *d, void *event);

#endif
