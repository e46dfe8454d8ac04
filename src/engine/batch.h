/*
 * batch.h - what the engines that compute share: the sequences of a step one after another, as the
 * decoders take them, and the tokens that follow from the logits.  Private to this room.
 */
#ifndef EPIDOTE_ENGINE_BATCH_H
#define EPIDOTE_ENGINE_BATCH_H

#include "engine/engine.h"

struct batch {
    struct decoder_batch work; /* the step's; views of what follows */
    struct ops_seq *seqs;      /* [max_seqs] owned */
    int32_t *tokens;           /* [max_tok] owned */
    int32_t *logit_rows;       /* [max_seqs] owned */
    int32_t *sampled_seqs;     /* [max_seqs] owned: which sequence a row of logits is of */
    const float **inputs;      /* [max_tok] owned */
    int32_t *positions;        /* [max_tok, 3] owned */
    int V;
    struct threads *threads;   /* borrowed */
    struct sampler **samplers; /* [threads] owned */

    struct step *step;                  /* the one that is laid out; borrowed */
    const float *logits, *max, *logsum; /* views; while sampling */
    const int32_t *picked;
};

/* batch_create - for steps of up to max_tok tokens and max_seqs sequences.
 * Returns ST_OK, ST_NOMEM; free it in either case. */
enum status batch_create(int max_tok, int max_seqs, int V, struct threads *threads,
                         struct batch *batch);
void batch_free(struct batch *batch);

/* batch_lay_out - fill batch->work with the sequences of a step, which is borrowed until
 * batch_sample. */
void batch_lay_out(struct batch *batch, struct step *step);

/* batch_seq - whose the wanted row r is.  batch_position - of the token to be sampled for it. */
const struct step_seq *batch_seq(const struct batch *batch, int r);
int batch_position(const struct step_seq *seq);

/* batch_sample - pick the tokens of that step from logits [n_logit_rows, V] and their figures, in
 * parallel over rows; what is drawn depends on the row alone.  Fills the step's out_ members.
 *   picked  in  [n_logit_rows] tokens that are known already, else -1; the logits of these rows
 *               may be anything.  NULL = none is known */
void batch_sample(struct batch *batch, const float *logits, const float *max, const float *logsum,
                  const int32_t *picked);

#endif
