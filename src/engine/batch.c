/*
 * batch.c - from a step to arrays, and from logits to tokens; no arithmetic of the model.
 *
 * Called by engine_cpu.c and engine_cuda.c.
 */
#include "engine/batch.h"

enum status batch_create(int max_tok, int max_seqs, int V, struct threads *threads,
                         struct batch *batch)
{
    enum status st = ST_NOMEM;
    const size_t n_seqs = (size_t)max_seqs, n_tok = (size_t)max_tok;
    const size_t n_threads = (size_t)threads_count(threads);

    *batch = (struct batch){.V = V, .threads = threads};
    batch->samplers = host_zalloc(n_threads * sizeof *batch->samplers);
    batch->seqs = host_zalloc(n_seqs * sizeof *batch->seqs);
    batch->tokens = host_zalloc(n_tok * sizeof *batch->tokens);
    batch->logit_rows = host_zalloc(n_seqs * sizeof *batch->logit_rows);
    batch->sampled_seqs = host_zalloc(n_seqs * sizeof *batch->sampled_seqs);
    batch->inputs = host_zalloc(n_tok * sizeof *batch->inputs);
    batch->positions = host_zalloc(3 * n_tok * sizeof *batch->positions);
    if (batch->samplers == NULL || batch->seqs == NULL || batch->tokens == NULL ||
        batch->logit_rows == NULL || batch->sampled_seqs == NULL || batch->inputs == NULL ||
        batch->positions == NULL)
        goto err;
    for (size_t i = 0; i < n_threads; i++)
        TRY(sampler_create(V, &batch->samplers[i]), err);
    st = ST_OK;
err:
    return st;
}

void batch_free(struct batch *batch)
{
    for (int i = 0; batch->samplers != NULL && i < threads_count(batch->threads); i++)
        sampler_destroy(batch->samplers[i]);
    host_free(batch->samplers);
    host_free(batch->seqs);
    host_free(batch->tokens);
    host_free(batch->logit_rows);
    host_free(batch->sampled_seqs);
    host_free(batch->inputs);
    host_free(batch->positions);
    *batch = (struct batch){.samplers = NULL};
}

/* Inputs and positions of a sequence that begins with row0 of the step. */
static void place_seq(struct batch *batch, const struct step_seq *seq, int row0)
{
    int32_t *positions = batch->positions + 3 * (size_t)row0;

    for (int i = 0; i < seq->n_tok; i++) {
        batch->inputs[row0 + i] = seq->inputs != NULL ? seq->inputs[i] : NULL;
        for (int k = 0; k < 3; k++)
            positions[3 * i + k] =
                seq->positions != NULL ? seq->positions[3 * i + k] : seq->pos0 + i + seq->shift;
    }
}

void batch_lay_out(struct batch *batch, struct step *step)
{
    struct decoder_batch work = {
        .B = step->n_seqs,
        .tokens = batch->tokens,
        .seqs = batch->seqs,
        .logit_rows = batch->logit_rows,
    };

    for (int i = 0; i < step->n_seqs; i++) {
        const struct step_seq *seq = &step->seqs[i];

        if (seq->inputs != NULL)
            work.inputs = batch->inputs;
        if (seq->positions != NULL || seq->shift != 0)
            work.positions = batch->positions;
    }
    for (int i = 0; i < step->n_seqs; i++) {
        const struct step_seq *seq = &step->seqs[i];

        batch->seqs[i] = (struct ops_seq){seq->blocks, seq->pos0, seq->n_tok, work.T};
        memcpy(batch->tokens + work.T, seq->tokens, (size_t)seq->n_tok * sizeof *batch->tokens);
        if (work.inputs != NULL || work.positions != NULL)
            place_seq(batch, seq, work.T);
        work.T += seq->n_tok;
        if (seq->sample) {
            batch->sampled_seqs[work.n_logit_rows] = i;
            batch->logit_rows[work.n_logit_rows++] = work.T - 1;
        }
    }
    batch->work = work;
    batch->step = step;
}

const struct step_seq *batch_seq(const struct batch *batch, int r)
{
    return &batch->step->seqs[batch->sampled_seqs[r]];
}

int batch_position(const struct step_seq *seq)
{
    return seq->pos0 + seq->n_tok;
}

static void sample_row(void *arg, int task, int thread)
{
    struct batch *batch = arg;
    struct step_seq *seq = &batch->step->seqs[batch->sampled_seqs[task]];
    const float *logits = batch->logits + (size_t)task * (size_t)batch->V;
    const int position = batch_position(seq);

    if (batch->picked != NULL && batch->picked[task] >= 0) {
        seq->sampled.token = batch->picked[task];
        seq->failed = false;
        return;
    }
    seq->failed = sampler_pick(batch->samplers[thread], seq->params, logits, batch->max[task],
                               batch->logsum[task], seq->history, position, position, &seq->sampled,
                               &seq->error) != ST_OK;
}

void batch_sample(struct batch *batch, const float *logits, const float *max, const float *logsum,
                  const int32_t *picked)
{
    batch->picked = picked;
    batch->logits = logits;
    batch->max = max;
    batch->logsum = logsum;
    threads_run(batch->threads, batch->work.n_logit_rows, sample_row, batch);
}
