/*
 * engine.h - submit and poll: a batch of rows through the layers of the model, over KV blocks.
 *
 * The CPU engine computes a part of a layer per poll, the CUDA engine queries events, a simulated
 * engine returns predicted times.  One step at a time; a stage that finds it busy comes back later.
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
    const int32_t *blocks;      /* table that covers pos0 + n_tok tokens, borrowed */
    const float *const *inputs; /* [n_tok] as in struct decoder_batch; NULL = all looked up */
    const int32_t *positions;   /* [n_tok, 3] likewise; NULL = the places, each plus shift */
    int32_t shift;
    bool sample; /* pick the token that follows the last one */
    const struct sampler_params *params;
    const int32_t *history; /* [pos0 + n_tok]: every token of the row so far, for penalties */
    struct sampled sampled; /* out, if sample */
    bool failed;            /* out: the sampler refused; error says why */
    struct row_error error;
};

/* Work for the decoder, or images for the vision tower; never both. */
struct step {
    bool of_prompts; /* its tokens are prompts', not answers' */
    int n_seqs;
    struct step_seq *seqs; /* [n_seqs], borrowed until STEP_DONE */
    int n_images;
    const struct vision_item *images; /* [n_images] likewise; embeddings are there at STEP_DONE */
};

/* BUSY: nothing to do before it is polled again, later; PART_DONE: it has computed, nothing is
 * finished. */
enum engine_event {
    ENGINE_IDLE,
    ENGINE_BUSY,
    ENGINE_PART_DONE,
    ENGINE_LAYER_DONE,
    ENGINE_STEP_DONE
};

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
    uint64_t n_images;     /* encoded, in n_image_steps of n_steps */
    uint64_t n_image_steps;
    double busy_s, encode_busy_s; /* of that, with images */
};
struct engine { /* base of every engine */
    const struct engine_ops *ops;
    const struct step *running; /* NULL when idle */
    int max_tok, max_seqs, L;   /* limits of one step; 0 = no decoder here */
    int max_patches;            /* of the images of one step; 0 = no vision tower here */
    struct engine_stats stats;
};

struct engine_cpu_args {
    const struct model_config *config;
    const struct weights *weights; /* borrowed; NULL = no decoder here, only a tower */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    struct kv_space space;   /* holds every block that a step may name; memory borrowed */
    int max_tok, max_seqs, context;
    const struct vision_config *vision;          /* NULL = no tower here */
    const struct vision_weights *vision_weights; /* borrowed */
    int max_patches;
};
enum status engine_cpu_create(const struct engine_cpu_args *args, struct engine **out_engine);

/* Text of models that decoder_cuda_check agrees with, on one GPU.  Tokens too are picked there,
 * unless a row wants log-probabilities or has a repetition penalty: of these by the CPU. */
struct engine_cuda_args {
    const struct model_config *config;
    const struct weights_cuda *weights; /* borrowed */
    const struct ops_cuda *cuda;        /* borrowed; started by the thread that submits and polls */
    struct threads *threads;            /* borrowed, for sampling */
    struct kv_space space;              /* in memory of the device, borrowed */
    int max_tok, max_seqs, context;
};
/* engine_cuda_create - Returns ST_OK, ST_NOMEM, ST_IO (logged). */
enum status engine_cuda_create(const struct engine_cuda_args *args, struct engine **out_engine);

/*
 * The simulated engine: results come when the predicted time has passed on the caller's clock.  It
 * computes nothing, but keeps KV honest: every token has a stamp in its block, and a step that
 * finds a wrong one among the earlier tokens of a row ends the run (ST_FORMAT, logged with row,
 * position and layer).  For tests; no job can ask for it.
 */
struct engine_sim_args {
    struct kv_space space; /* a token has room for 8 bytes: E * bytes of an element >= 8 */
    int V, context, max_tok, max_seqs;
    double step_s;                     /* of every step */
    double prompt_tok_s, answer_tok_s; /* of every layer and token */
    double patch_s;                    /* of every patch of an image */
    int max_patches, D;                /* D: of embeddings */
    /* What the embedding of a token must begin with, as engine_sim_embedding has made it: of image
     * `patches[0]`, row *out_embed_row.  False: the token is no image's.  NULL = none is. */
    bool (*image_of)(const void *arg, uint64_t row, int position, float *out_image,
                     int *out_embed_row);
    const void *image_arg;
    double (*now_s)(void *clock);
    void *clock; /* borrowed */
    uint64_t seed;
    int32_t eos_id;
    double eos_part;     /* of the positions whose token is eos_id */
    double refused_part; /* of the positions that the sampler refuses */
};
enum status engine_sim_create(const struct engine_sim_args *args, struct engine **out_engine);
/* engine_sim_embedding - what stands in element 0 of row `embed_row` of an image's embeddings; the
 * image is known by its first patch's first number.  Pure. */
float engine_sim_embedding(float image, int embed_row);
/* engine_sim_token, engine_sim_refuses - what is sampled for a position of a row (position n_prompt
 * is the first of the answer).  Pure. */
int32_t engine_sim_token(const struct engine_sim_args *args, uint64_t row, int position);
bool engine_sim_refuses(const struct engine_sim_args *args, uint64_t row, int position);
/* engine_sim_due_s - when the next event of a simulated engine is due; INFINITY when idle. */
double engine_sim_due_s(const struct engine *engine);

void engine_destroy(struct engine *engine);

/* engine_submit - start a step.  The sum of n_tok, n_seqs and the sum of patches are within the
 * limits (assert).
 * Returns ST_OK, ST_AGAIN (a step is running). */
enum status engine_submit(struct engine *engine, struct step *step);
/* engine_poll - advance.  LAYER_DONE: KV of *out_layer is in its blocks; STEP_DONE: results are in
 * the step.  Returns ST_OK, or an error that ends the job. */
enum status engine_poll(struct engine *engine, enum engine_event *out_event, int *out_layer);

#endif
