/*
 * engine_cpu.c - the engine that computes on this machine's cores.
 *
 *   submit: lay the sequences of the step one after another
 *   poll:   embed and KV of layer 0 │ attention │ gate │ down │ KV of layer 1 │ ... │ logits and
 *           sampling
 *
 * A poll runs to its end on all threads, so the time between two polls, in which messages wait, is
 * that of a part of a layer; half of a layer at most.  Sampling is in parallel over sequences, one
 * sampler a thread; what is drawn depends on the sequence alone.
 */
#include <assert.h>

#include "engine/engine.h"

struct engine_cpu {
    struct engine base;
    struct decoder *decoder; /* owned */
    struct threads *threads; /* borrowed */
    struct kv_space space;
    int V;
    struct sampler **samplers; /* [threads] owned */

    struct step *step; /* the one that runs; borrowed */
    int next_layer;    /* L: logits and sampling are left */
    enum decoder_part next_part;
    struct ops_seq *seqs;  /* [max_seqs] owned */
    int32_t *tokens;       /* [max_tok] owned */
    int32_t *logit_rows;   /* [max_seqs] owned */
    int32_t *sampled_seqs; /* [max_seqs] owned: which sequence a row of logits is of */
    struct decoder_batch batch;
    const float *logits, *max, *logsum; /* views; while sampling */
};

static struct engine_cpu *self_of(struct engine *engine)
{
    return (struct engine_cpu *)engine;
}

static enum status submit(struct engine *engine, struct step *step)
{
    struct engine_cpu *self = self_of(engine);
    struct decoder_batch batch = {
        .B = step->n_seqs,
        .tokens = self->tokens,
        .seqs = self->seqs,
        .logit_rows = self->logit_rows,
    };

    for (int i = 0; i < step->n_seqs; i++) {
        const struct step_seq *seq = &step->seqs[i];

        self->seqs[i] = (struct ops_seq){seq->blocks, seq->pos0, seq->n_tok, batch.T};
        memcpy(self->tokens + batch.T, seq->tokens, (size_t)seq->n_tok * sizeof *self->tokens);
        batch.T += seq->n_tok;
        if (seq->sample) {
            self->sampled_seqs[batch.n_logit_rows] = i;
            self->logit_rows[batch.n_logit_rows++] = batch.T - 1;
        }
    }
    self->batch = batch;
    self->step = step;
    self->next_layer = 0;
    self->next_part = DECODER_KV;
    return ST_OK;
}

static void sample_row(void *arg, int task, int thread)
{
    struct engine_cpu *self = arg;
    struct step_seq *seq = &self->step->seqs[self->sampled_seqs[task]];
    const float *logits = self->logits + (size_t)task * (size_t)self->V;
    const int position = seq->pos0 + seq->n_tok; /* of the token to be sampled */

    seq->failed = sampler_pick(self->samplers[thread], seq->params, logits, self->max[task],
                               self->logsum[task], seq->history, position, position, &seq->sampled,
                               &seq->error) != ST_OK;
}

static enum status advance(struct engine_cpu *self, enum engine_event *out_event, int *out_layer)
{
    enum status st;
    const int layer = self->next_layer;
    const enum decoder_part part = self->next_part;

    if (layer == 0 && part == DECODER_KV)
        TRY(decoder_begin(self->decoder, &self->batch), err);
    if (layer < self->base.L) {
        TRY(decoder_part(self->decoder, layer, part, &self->space), err);
        *out_layer = layer;
        *out_event = part == DECODER_KV ? ENGINE_LAYER_DONE : ENGINE_PART_DONE;
        self->next_part = (enum decoder_part)((part + 1) % DECODER_PARTS);
        self->next_layer += self->next_part == DECODER_KV;
        return ST_OK;
    }
    TRY(decoder_end(self->decoder, &self->logits, &self->max, &self->logsum), err);
    threads_run(self->threads, self->batch.n_logit_rows, sample_row, self);
    *out_event = ENGINE_STEP_DONE;
err:
    return st;
}

static enum status poll(struct engine *engine, enum engine_event *out_event, int *out_layer)
{
    const double begun_s = clock_now_s();
    const enum status st = advance(self_of(engine), out_event, out_layer);

    engine->stats.busy_s += clock_now_s() - begun_s;
    return st;
}

static void destroy(struct engine *engine)
{
    struct engine_cpu *self = self_of(engine);

    for (int i = 0; self->samplers != NULL && i < threads_count(self->threads); i++)
        sampler_destroy(self->samplers[i]);
    host_free(self->samplers);
    host_free(self->seqs);
    host_free(self->tokens);
    host_free(self->logit_rows);
    host_free(self->sampled_seqs);
    decoder_destroy(self->decoder);
    host_free(self);
}

static const struct engine_ops engine_cpu_ops = {submit, poll, destroy};

enum status engine_cpu_create(const struct engine_cpu_args *args, struct engine **out_engine)
{
    enum status st = ST_NOMEM;
    const size_t n_seqs = (size_t)args->max_seqs, n_threads = (size_t)threads_count(args->threads);
    struct engine_cpu *self = host_zalloc(sizeof *self);

    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct engine){.ops = &engine_cpu_ops,
                                 .max_tok = args->max_tok,
                                 .max_seqs = args->max_seqs,
                                 .L = args->config->L};
    self->threads = args->threads;
    self->space = args->space;
    self->V = args->config->V;
    self->samplers = host_zalloc(n_threads * sizeof *self->samplers);
    self->seqs = host_zalloc(n_seqs * sizeof *self->seqs);
    self->tokens = host_zalloc((size_t)args->max_tok * sizeof *self->tokens);
    self->logit_rows = host_zalloc(n_seqs * sizeof *self->logit_rows);
    self->sampled_seqs = host_zalloc(n_seqs * sizeof *self->sampled_seqs);
    if (self->samplers == NULL || self->seqs == NULL || self->tokens == NULL ||
        self->logit_rows == NULL || self->sampled_seqs == NULL)
        goto err;
    for (size_t i = 0; i < n_threads; i++)
        TRY(sampler_create(self->V, &self->samplers[i]), err);
    const struct decoder_args decoder = {
        .config = args->config,
        .weights = args->weights,
        .ops = args->ops,
        .threads = args->threads,
        .max_T = args->max_tok,
        .max_B = args->max_seqs,
        .max_logit_rows = args->max_seqs < args->max_tok ? args->max_seqs : args->max_tok,
        .context = args->context,
    };
    TRY(decoder_create(&decoder, &self->decoder), err);
    *out_engine = &self->base;
    return ST_OK;
err:
    destroy(&self->base);
    return st;
}
