/*
 * engine_cpu.c - the engine that computes on this machine's cores.
 *
 *   submit: lay the sequences of the step one after another
 *   poll:   embed and KV of layer 0 │ attention │ gate │ down │ KV of layer 1 │ ... │ logits and
 *           sampling
 *
 * A step of images goes through the vision tower, a part a poll, instead.
 *
 * A poll runs to its end on all threads, so the time between two polls, in which messages wait, is
 * that of a part of a layer; half of a layer at most.  Sampling is in parallel over sequences, one
 * sampler a thread; what is drawn depends on the sequence alone.
 */
#include <assert.h>

#include "engine/engine.h"

struct engine_cpu {
    struct engine base;
    struct decoder *decoder; /* owned; NULL = none here */
    struct vision *vision;   /* owned; NULL = none here */
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
    const float **inputs;  /* [max_tok] owned */
    int32_t *positions;    /* [max_tok, 3] owned */
    struct decoder_batch batch;
    const float *logits, *max, *logsum; /* views; while sampling */
};

static struct engine_cpu *self_of(struct engine *engine)
{
    return (struct engine_cpu *)engine;
}

/* Inputs and positions of a sequence that begins with row0 of the step. */
static void place_seq(struct engine_cpu *self, const struct step_seq *seq, int row0)
{
    int32_t *positions = self->positions + 3 * (size_t)row0;

    for (int i = 0; i < seq->n_tok; i++) {
        self->inputs[row0 + i] = seq->inputs != NULL ? seq->inputs[i] : NULL;
        for (int k = 0; k < 3; k++)
            positions[3 * i + k] =
                seq->positions != NULL ? seq->positions[3 * i + k] : seq->pos0 + i + seq->shift;
    }
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

    self->step = step;
    if (step->n_images > 0)
        return vision_begin(self->vision, step->images, step->n_images);
    for (int i = 0; i < step->n_seqs; i++) {
        const struct step_seq *seq = &step->seqs[i];

        if (seq->inputs != NULL)
            batch.inputs = self->inputs;
        if (seq->positions != NULL || seq->shift != 0)
            batch.positions = self->positions;
    }
    for (int i = 0; i < step->n_seqs; i++) {
        const struct step_seq *seq = &step->seqs[i];

        self->seqs[i] = (struct ops_seq){seq->blocks, seq->pos0, seq->n_tok, batch.T};
        memcpy(self->tokens + batch.T, seq->tokens, (size_t)seq->n_tok * sizeof *self->tokens);
        if (batch.inputs != NULL || batch.positions != NULL)
            place_seq(self, seq, batch.T);
        batch.T += seq->n_tok;
        if (seq->sample) {
            self->sampled_seqs[batch.n_logit_rows] = i;
            self->logit_rows[batch.n_logit_rows++] = batch.T - 1;
        }
    }
    self->batch = batch;
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

static enum status advance_images(struct engine_cpu *self, enum engine_event *out_event)
{
    bool done = false;
    const enum status st = vision_part(self->vision, &done);

    *out_event = done ? ENGINE_STEP_DONE : ENGINE_PART_DONE;
    return st;
}

static enum status poll(struct engine *engine, enum engine_event *out_event, int *out_layer)
{
    struct engine_cpu *self = self_of(engine);
    const double begun_s = clock_now_s();
    const enum status st = self->step->n_images > 0 ? advance_images(self, out_event)
                                                    : advance(self, out_event, out_layer);

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
    host_free(self->inputs);
    host_free(self->positions);
    vision_destroy(self->vision);
    decoder_destroy(self->decoder);
    host_free(self);
}

static const struct engine_ops engine_cpu_ops = {submit, poll, destroy};

static enum status make_decoder(struct engine_cpu *self, const struct engine_cpu_args *args)
{
    enum status st = ST_NOMEM;
    const size_t n_seqs = (size_t)args->max_seqs, n_tok = (size_t)args->max_tok;
    const size_t n_threads = (size_t)threads_count(args->threads);

    self->samplers = host_zalloc(n_threads * sizeof *self->samplers);
    self->seqs = host_zalloc(n_seqs * sizeof *self->seqs);
    self->tokens = host_zalloc(n_tok * sizeof *self->tokens);
    self->logit_rows = host_zalloc(n_seqs * sizeof *self->logit_rows);
    self->sampled_seqs = host_zalloc(n_seqs * sizeof *self->sampled_seqs);
    self->inputs = host_zalloc(n_tok * sizeof(const float *));
    self->positions = host_zalloc(3 * n_tok * sizeof *self->positions);
    if (self->samplers == NULL || self->seqs == NULL || self->tokens == NULL ||
        self->logit_rows == NULL || self->sampled_seqs == NULL || self->inputs == NULL ||
        self->positions == NULL)
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
    st = decoder_create(&decoder, &self->decoder);
err:
    return st;
}

static enum status make_tower(struct engine_cpu *self, const struct engine_cpu_args *args)
{
    const struct vision_args vision = {
        .config = args->vision,
        .weights = args->vision_weights,
        .ops = args->ops,
        .threads = args->threads,
        .max_patches = args->max_patches,
    };

    return vision_create(&vision, &self->vision);
}

enum status engine_cpu_create(const struct engine_cpu_args *args, struct engine **out_engine)
{
    enum status st = ST_OK;
    struct engine_cpu *self = host_zalloc(sizeof *self);

    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct engine){.ops = &engine_cpu_ops,
                                 .max_tok = args->max_tok,
                                 .max_seqs = args->max_seqs,
                                 .L = args->config->L,
                                 .max_patches = args->max_patches};
    self->threads = args->threads;
    self->space = args->space;
    self->V = args->config->V;
    if (args->weights != NULL)
        TRY(make_decoder(self, args), err);
    if (args->vision != NULL)
        TRY(make_tower(self, args), err);
    *out_engine = &self->base;
    return ST_OK;
err:
    destroy(&self->base);
    return st;
}
