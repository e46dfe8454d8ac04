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
 * that of a part of a layer; half of a layer at most.  How a step is laid out and tokens are
 * sampled is in batch.c.
 */
#include "engine/batch.h"

struct engine_cpu {
    struct engine base;
    struct decoder *decoder; /* owned; NULL = none here */
    struct vision *vision;   /* owned; NULL = none here */
    struct kv_space space;

    struct step *step; /* the one that runs; borrowed */
    struct batch batch;
    int next_layer; /* L: logits and sampling are left */
    enum decoder_part next_part;
};

static struct engine_cpu *self_of(struct engine *engine)
{
    return (struct engine_cpu *)engine;
}

static enum status submit(struct engine *engine, struct step *step)
{
    struct engine_cpu *self = self_of(engine);

    self->step = step;
    if (step->n_images > 0)
        return vision_begin(self->vision, step->images, step->n_images);
    batch_lay_out(&self->batch, step);
    self->next_layer = 0;
    self->next_part = DECODER_KV;
    return ST_OK;
}

static enum status advance(struct engine_cpu *self, enum engine_event *out_event, int *out_layer)
{
    enum status st;
    const float *logits, *max, *logsum;
    const int layer = self->next_layer;
    const enum decoder_part part = self->next_part;

    if (layer == 0 && part == DECODER_KV)
        TRY(decoder_begin(self->decoder, &self->batch.work), err);
    if (layer < self->base.L) {
        TRY(decoder_part(self->decoder, layer, part, &self->space), err);
        *out_layer = layer;
        *out_event = part == DECODER_KV ? ENGINE_LAYER_DONE : ENGINE_PART_DONE;
        self->next_part = (enum decoder_part)((part + 1) % DECODER_PARTS);
        self->next_layer += self->next_part == DECODER_KV;
        return ST_OK;
    }
    TRY(decoder_end(self->decoder, &logits, &max, &logsum), err);
    batch_sample(&self->batch, logits, max, logsum, NULL);
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

    batch_free(&self->batch);
    vision_destroy(self->vision);
    decoder_destroy(self->decoder);
    host_free(self);
}

static const struct engine_ops engine_cpu_ops = {submit, poll, destroy};

static enum status make_decoder(struct engine_cpu *self, const struct engine_cpu_args *args)
{
    enum status st;

    TRY(batch_create(args->max_tok, args->max_seqs, args->config->V, args->threads, &self->batch),
        err);
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
    self->space = args->space;
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
