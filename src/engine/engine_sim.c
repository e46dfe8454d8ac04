/*
 * engine_sim.c - an engine that predicts instead of computing, and does not let anyone cheat on KV.
 *
 *   submit ── layer_s ──► layer 0 ── layer_s ──► layer 1 ... layer L-1 ── step_s ──► sampled tokens
 *
 * Time passes on a clock that the caller brings.  What stands for the KV of a token is a stamp of
 * row, position, token and layer, in the token's place of its block.  Each layer of each step reads
 * the stamps of all earlier tokens of its rows, as attention would, and then writes its own: a
 * block that was freed, moved or used too early, or that has not come, is found where it does harm.
 *
 * Embeddings have stamps, too: of an image's first number and the row, in the first element of
 * each; a prompt's step that finds another one in the place of an image's token ends the run
 * likewise.
 *
 * The token that follows a position is a function of row and position alone, so a test knows every
 * answer without a run.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "engine/engine.h"

struct engine_sim {
    struct engine base;
    struct engine_sim_args args;
    struct step *step; /* the one that runs; borrowed */
    int layer;         /* the next to be done; L: the samples are left */
    double begun_s, layer_s;
};

static struct engine_sim *self_of(struct engine *engine)
{
    return (struct engine_sim *)engine;
}

/* ---- what will be sampled -------------------------------------------------------------------- */

/* 0 <= draw < 1, of the nth kind of thing that is decided for a position. */
static double draw(const struct engine_sim_args *args, uint64_t row, int position, uint64_t kind)
{
    const uint64_t facts[3] = {row, (uint64_t)position, kind};

    return (double)(hash_bytes(facts, sizeof facts, args->seed) >> 11) * 0x1p-53;
}

int32_t engine_sim_token(const struct engine_sim_args *args, uint64_t row, int position)
{
    const int32_t other = (int32_t)(draw(args, row, position, 1) * (args->V - 1));

    if (draw(args, row, position, 2) < args->eos_part)
        return args->eos_id;
    return other + (other >= args->eos_id); /* any but that */
}

bool engine_sim_refuses(const struct engine_sim_args *args, uint64_t row, int position)
{
    return draw(args, row, position, 3) < args->refused_part;
}

/* ---- stamps ---------------------------------------------------------------------------------- */

enum { ROW_BITS = 24, POSITION_BITS = 16, TOKEN_BITS = 16, LAYER_BITS = 8 };

/* A row's number is cut to 24 bits. */
static uint64_t stamp_of(uint64_t row, int position, int32_t token, int layer)
{
    uint64_t stamp = row & ((1u << ROW_BITS) - 1);

    stamp = stamp << POSITION_BITS | (uint64_t)position;
    stamp = stamp << TOKEN_BITS | (uint64_t)token;
    return stamp << LAYER_BITS | (uint64_t)layer;
}

static void stamp_say(uint64_t stamp, char *buf, size_t cap)
{
    const int layer = (int)(stamp & ((1u << LAYER_BITS) - 1));
    const int token = (int)(stamp >> LAYER_BITS & ((1u << TOKEN_BITS) - 1));
    const int position = (int)(stamp >> (LAYER_BITS + TOKEN_BITS) & ((1u << POSITION_BITS) - 1));

    snprintf(buf, cap, "%016llx, which is row %llu, position %d, token %d, layer %d",
             (unsigned long long)stamp,
             (unsigned long long)(stamp >> (LAYER_BITS + TOKEN_BITS + POSITION_BITS)), position,
             token, layer);
}

/* In the first head's K part every token has E elements. */
static uint8_t *place_of(const struct kv_space *space, const int32_t *blocks, int position,
                         int layer)
{
    const struct kv_layout *layout = &space->layout;
    uint8_t *block = kv_space_block(space, layer, blocks[position / layout->P]);

    return block +
           (size_t)(position % layout->P) * (size_t)layout->E * ops_type_bytes(layout->type);
}

/* What attention would read. */
static enum status check_stamps(const struct engine_sim *self, const struct step_seq *seq,
                                int layer)
{
    for (int position = 0; position < seq->pos0; position++) {
        const uint64_t want = stamp_of(seq->row, position, seq->history[position], layer);
        uint64_t got;

        memcpy(&got, place_of(&self->args.space, seq->blocks, position, layer), sizeof got);
        if (got != want) {
            char found[128];

            stamp_say(got, found, sizeof found);
            log_error("row %llu, position %d, layer %d: block %d does not hold the KV of token "
                      "%d but %s",
                      (unsigned long long)seq->row, position, layer,
                      seq->blocks[position / self->args.space.layout.P], seq->history[position],
                      found);
            return ST_FORMAT;
        }
    }
    return ST_OK;
}

static void write_stamps(const struct engine_sim *self, const struct step_seq *seq, int layer)
{
    for (int i = 0; i < seq->n_tok; i++) {
        const int position = seq->pos0 + i;
        const uint64_t stamp = stamp_of(seq->row, position, seq->tokens[i], layer);

        memcpy(place_of(&self->args.space, seq->blocks, position, layer), &stamp, sizeof stamp);
    }
}

/* ---- images ---------------------------------------------------------------------------------- */

float engine_sim_embedding(float image, int embed_row)
{
    return image * 512 + (float)embed_row; /* exact, as long as both are small */
}

static void encode(const struct engine_sim *self)
{
    for (int i = 0; i < self->step->n_images; i++) {
        const struct vision_item *item = &self->step->images[i];

        for (int r = 0; r < item->plan->n_rows; r++)
            item->out[(size_t)r * (size_t)self->args.D] = engine_sim_embedding(item->patches[0], r);
    }
}

/* What the decoder would take for the tokens of a sequence. */
static enum status check_inputs(const struct engine_sim *self, const struct step_seq *seq)
{
    for (int i = 0; self->args.image_of != NULL && i < seq->n_tok; i++) {
        const int position = seq->pos0 + i;
        const float *input = seq->inputs != NULL ? seq->inputs[i] : NULL;
        float image = 0;
        int embed_row = 0;
        const bool wanted =
            self->args.image_of(self->args.image_arg, seq->row, position, &image, &embed_row);

        if (wanted == (input != NULL) &&
            (!wanted || input[0] == engine_sim_embedding(image, embed_row)))
            continue;
        log_error("row %llu, position %d: embedding %g is not number %d of image %g",
                  (unsigned long long)seq->row, position, input != NULL ? (double)input[0] : -1.0,
                  embed_row, (double)image);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* ---- the engine ------------------------------------------------------------------------------ */

double engine_sim_due_s(const struct engine *engine)
{
    const struct engine_sim *self = (const struct engine_sim *)engine;
    const bool sampling = self->layer == engine->L;

    if (engine->running == NULL)
        return INFINITY;
    if (engine->running->n_images > 0)
        return self->begun_s + self->layer_s + self->args.step_s;
    return self->begun_s + self->layer_s * (sampling ? self->layer : self->layer + 1) +
           (sampling ? self->args.step_s : 0);
}

static enum status submit(struct engine *engine, struct step *step)
{
    struct engine_sim *self = self_of(engine);
    const double tok_s = step->of_prompts ? self->args.prompt_tok_s : self->args.answer_tok_s;

    self->step = step;
    self->layer = 0;
    self->begun_s = self->args.now_s(self->args.clock);
    self->layer_s = 0;
    for (int i = 0; i < step->n_seqs; i++)
        self->layer_s += tok_s * step->seqs[i].n_tok;
    for (int i = 0; i < step->n_images; i++)
        self->layer_s += self->args.patch_s * step->images[i].plan->n_patches;
    return ST_OK;
}

static enum status end_layer(struct engine_sim *self)
{
    enum status st = ST_OK;

    for (int i = 0; i < self->step->n_seqs; i++) {
        TRY(check_stamps(self, &self->step->seqs[i], self->layer), err);
        if (self->step->of_prompts && self->layer == 0)
            TRY(check_inputs(self, &self->step->seqs[i]), err);
        write_stamps(self, &self->step->seqs[i], self->layer);
    }
err:
    return st;
}

static void sample(struct engine_sim *self)
{
    for (int i = 0; i < self->step->n_seqs; i++) {
        struct step_seq *seq = &self->step->seqs[i];
        const int position = seq->pos0 + seq->n_tok; /* of the token to be sampled */

        if (!seq->sample)
            continue;
        seq->failed = engine_sim_refuses(&self->args, seq->row, position);
        if (seq->failed)
            row_error_set(&seq->error, "the simulated sampler refuses position %d", position);
        seq->sampled = (struct sampled){.token = engine_sim_token(&self->args, seq->row, position)};
    }
}

static enum status poll(struct engine *engine, enum engine_event *out_event, int *out_layer)
{
    enum status st = ST_OK;
    struct engine_sim *self = self_of(engine);

    *out_event = ENGINE_BUSY;
    if (self->args.now_s(self->args.clock) < engine_sim_due_s(engine))
        return ST_OK;
    if (self->step->n_images > 0) {
        encode(self);
        engine->stats.busy_s += self->layer_s + self->args.step_s;
        *out_event = ENGINE_STEP_DONE;
        return ST_OK;
    }
    if (self->layer < engine->L) {
        TRY(end_layer(self), err);
        *out_layer = self->layer++;
        *out_event = ENGINE_LAYER_DONE;
        return ST_OK;
    }
    sample(self);
    engine->stats.busy_s += self->layer_s * engine->L + self->args.step_s;
    *out_event = ENGINE_STEP_DONE;
err:
    return st;
}

static void destroy(struct engine *engine)
{
    host_free(self_of(engine));
}

static const struct engine_ops engine_sim_ops = {submit, poll, destroy};

enum status engine_sim_create(const struct engine_sim_args *args, struct engine **out_engine)
{
    const struct kv_layout *layout = &args->space.layout;
    struct engine_sim *self = host_zalloc(sizeof *self);

    assert(args->space.N == 0 || /* it only encodes */
           (size_t)layout->E * ops_type_bytes(layout->type) >= sizeof(uint64_t));
    assert(layout->L < 1 << LAYER_BITS && args->V > 1 && args->V <= 1 << TOKEN_BITS);
    assert(args->context <= 1 << POSITION_BITS);
    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct engine){.ops = &engine_sim_ops,
                                 .max_tok = args->max_tok,
                                 .max_seqs = args->max_seqs,
                                 .L = layout->L,
                                 .max_patches = args->max_patches};
    self->args = *args;
    *out_engine = &self->base;
    return ST_OK;
}
