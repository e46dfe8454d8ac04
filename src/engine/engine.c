/*
 * engine.c - what all engines share: one step at a time, its limits, the counts.
 */
#include <assert.h>

#include "engine/engine.h"

void engine_destroy(struct engine *engine)
{
    if (engine != NULL)
        engine->ops->destroy(engine);
}

enum status engine_submit(struct engine *engine, struct step *step)
{
    int n_tok = 0, n_patches = 0;

    if (engine->running != NULL)
        return ST_AGAIN;
    assert((step->n_seqs > 0) != (step->n_images > 0) && step->n_seqs <= engine->max_seqs);
    for (int i = 0; i < step->n_images; i++) {
        assert(step->images[i].plan->n_patches <= engine->max_patches - n_patches);
        n_patches += step->images[i].plan->n_patches;
    }
    for (int i = 0; i < step->n_seqs; i++) {
        assert(step->seqs[i].n_tok > 0 && step->seqs[i].n_tok <= engine->max_tok - n_tok);
        n_tok += step->seqs[i].n_tok;
    }
    const enum status st = engine->ops->submit(engine, step);
    if (st == ST_OK)
        engine->running = step;
    return st;
}

enum status engine_poll(struct engine *engine, enum engine_event *out_event, int *out_layer)
{
    enum engine_event event = ENGINE_IDLE;
    const struct step *step = engine->running;

    if (step != NULL) {
        const double busy_s = engine->stats.busy_s;
        const enum status st = engine->ops->poll(engine, &event, out_layer);

        if (st != ST_OK)
            return st;
        if (step->n_images > 0)
            engine->stats.encode_busy_s += engine->stats.busy_s - busy_s;
    }
    if (event == ENGINE_STEP_DONE) {
        struct engine_stats *stats = &engine->stats;

        for (int i = 0; i < step->n_seqs; i++) {
            const struct step_seq *seq = &step->seqs[i];

            stats->n_prompt_tok += step->of_prompts ? (uint64_t)seq->n_tok : 0;
            stats->n_answer_tok += seq->sample;
        }
        stats->n_images += (uint64_t)step->n_images;
        stats->n_image_steps += step->n_images > 0;
        stats->n_steps++;
        engine->running = NULL;
    }
    *out_event = event;
    return ST_OK;
}
