/*
 * engine_cuda.c - the engine that computes on a GPU.
 *
 *   submit: lay the step out, enqueue all of it (model/decoder_cuda.c)
 *   poll:   ask whether the KV of layer 0 is there │ of layer 1 │ ... │ whether the step has ended;
 *           then sample, on this machine's cores, from the logits that came back: those of rows
 *           whose tokens the device does not pick itself.  Which these are, their parameters say
 *           alone, so that an answer does not depend on the schedule.
 *
 * Nothing here waits for the device: a poll that comes too early finds it busy.
 */
#include "engine/batch.h"

struct engine_cuda {
    struct engine base;
    struct decoder_cuda *decoder; /* owned */
    struct batch batch;
    struct decoder_cuda_pick *picks; /* [max_seqs] owned: of the step */
    int32_t *picked;                 /* [max_seqs] owned: its tokens, -1 where the CPU samples */
    int next_layer;                  /* L: all have been told */
    double begun_s;                  /* the step */
};

static struct engine_cuda *self_of(struct engine *engine)
{
    return (struct engine_cuda *)engine;
}

/* What the device is to pick. */
static void lay_out_picks(struct engine_cuda *self)
{
    for (int r = 0; r < self->batch.work.n_logit_rows; r++) {
        const struct step_seq *seq = batch_seq(&self->batch, r);
        const bool there = decoder_cuda_picks(self->decoder, seq->params);

        self->picks[r] =
            (struct decoder_cuda_pick){there ? seq->params : NULL, batch_position(seq)};
    }
}

static void sample(struct engine_cuda *self)
{
    const int32_t *tokens = decoder_cuda_tokens(self->decoder);
    const float *logits, *max, *logsum;

    for (int r = 0; r < self->batch.work.n_logit_rows; r++)
        self->picked[r] = self->picks[r].params != NULL ? tokens[r] : -1;
    decoder_cuda_logits(self->decoder, &logits, &max, &logsum);
    batch_sample(&self->batch, logits, max, logsum, self->picked);
}

static enum status submit(struct engine *engine, struct step *step)
{
    struct engine_cuda *self = self_of(engine);

    self->next_layer = 0;
    self->begun_s = clock_now_s();
    batch_lay_out(&self->batch, step);
    lay_out_picks(self);
    return decoder_cuda_submit(self->decoder, &self->batch.work, self->picks, step->of_prompts);
}

static enum status poll(struct engine *engine, enum engine_event *out_event, int *out_layer)
{
    struct engine_cuda *self = self_of(engine);
    enum status st;
    bool done = false;

    *out_event = ENGINE_BUSY;
    if (self->next_layer < engine->L) {
        TRY(decoder_cuda_layer_done(self->decoder, self->next_layer, &done), err);
        if (done) {
            *out_layer = self->next_layer++;
            *out_event = ENGINE_LAYER_DONE;
        }
        return ST_OK;
    }
    TRY(decoder_cuda_done(self->decoder, &done), err);
    if (done) {
        sample(self);
        engine->stats.busy_s += clock_now_s() - self->begun_s;
        *out_event = ENGINE_STEP_DONE;
    }
err:
    return st;
}

static void destroy(struct engine *engine)
{
    struct engine_cuda *self = self_of(engine);

    decoder_cuda_destroy(self->decoder);
    batch_free(&self->batch);
    host_free(self->picks);
    host_free(self->picked);
    host_free(self);
}

static const struct engine_ops engine_cuda_ops = {submit, poll, destroy};

enum status engine_cuda_create(const struct engine_cuda_args *args, struct engine **out_engine)
{
    enum status st = ST_NOMEM;
    struct engine_cuda *self = host_zalloc(sizeof *self);
    const struct decoder_cuda_args decoder = {
        .config = args->config,
        .weights = args->weights,
        .cuda = args->cuda,
        .space = args->space,
        .max_T = args->max_tok,
        .max_B = args->max_seqs,
        .max_logit_rows = args->max_seqs < args->max_tok ? args->max_seqs : args->max_tok,
        .context = args->context,
    };

    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct engine){.ops = &engine_cuda_ops,
                                 .max_tok = args->max_tok,
                                 .max_seqs = args->max_seqs,
                                 .L = args->config->L};
    self->picks = host_zalloc((size_t)args->max_seqs * sizeof *self->picks);
    self->picked = host_zalloc((size_t)args->max_seqs * sizeof *self->picked);
    if (self->picks == NULL || self->picked == NULL)
        goto err;
    TRY(batch_create(args->max_tok, args->max_seqs, args->config->V, args->threads, &self->batch),
        err);
    TRY(decoder_cuda_create(&decoder, &self->decoder), err);
    *out_engine = &self->base;
    return ST_OK;
err:
    destroy(&self->base);
    return st;
}
