/*
 * engine.h - submit and poll: a batch of rows through the layers of the model, over KV blocks.
 *
 * The CPU engine computes one layer per poll, a CUDA engine will query events, a simulated engine
 * will return predicted times.  One step at a time; a stage that finds it busy comes back later.
 */
#ifndef EPIDOTE_ENGINE_H
#define EPIDOTE_ENGINE_H

#include "model/model.h"

/* One sequence of a step.  Filled by the stage; out_* by the engine at STEP_DONE. */
struct step_seq {
    uint64_t row;
    int32_t tag;           /* free for the caller: its slot */
    const int32_t *tokens; /* [n_tok] to compute, borrowed until STEP_DONE */
    int n_tok, pos0;
    const int32_t *blocks; /* table that covers pos0 + n_tok tokens, borrowed */
    bool sample;           /* pick the token that follows the last one */
    const struct sampler_params *params;
    const int32_t *history; /* [pos0 + n_tok]: every token of the row so far, for penalties */
    struct sampled sampled; /* out, if sample */
    bool failed;            /* out: the sampler refused; error says why */
    struct row_error error;
};

struct step {
    bool of_prompts; /* its tokens are prompts', not answers' */
    int n_seqs;
    struct step_seq *seqs; /* [n_seqs], borrowed until STEP_DONE */
};

enum engine_event { ENGINE_IDLE, ENGINE_BUSY, ENGINE_LAYER_DONE, ENGINE_STEP_DONE };

struct engine;
struct engine_ops {
    enum status (*submit)(struct engine *engine, struct step *step);
    enum status (*poll)(struct engine *engine, enum engine_event *out_event, int *out_layer);
    void (*destroy)(struct engine *engine);
};

/* What an engine can take and has counted. */
struct engine_stats {
    uint64_t n_steps;
    uint64_t n_prompt_tok; /* computed in steps of prompts */
    uint64_t n_answer_tok; /* sampled */
    double busy_s;
};
struct engine { /* base of every engine */
    const struct engine_ops *ops;
    const struct step *running; /* NULL when idle */
    int max_tok, max_seqs, L;   /* limits of one step */
    struct engine_stats stats;
};

struct engine_cpu_args {
    const struct model_config *config;
    const struct weights *weights; /* borrowed */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    struct kv_space space;   /* holds every block that a step may name; memory borrowed */
    int max_tok, max_seqs, context;
};
enum status engine_cpu_create(const struct engine_cpu_args *args, struct engine **out_engine);
void engine_destroy(struct engine *engine);

/* engine_submit - start a step.  The sum of n_tok and n_seqs are within the limits (assert).
 * Returns ST_OK, ST_AGAIN (a step is running). */
enum status engine_submit(struct engine *engine, struct step *step);
/* engine_poll - advance.  LAYER_DONE: KV of *out_layer is in its blocks; STEP_DONE: results are in
 * the step.  Returns ST_OK, or an error that ends the job. */
enum status engine_poll(struct engine *engine, enum engine_event *out_event, int *out_layer);

#endif
