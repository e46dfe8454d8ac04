/*
 * vision_test.h - what the tests of vision towers share: the golden answers that
 * tests/golden/make_vision.py wrote, its pixels, and a tower that can be run.
 */
#ifndef EPIDOTE_VISION_TEST_H
#define EPIDOTE_VISION_TEST_H

#include "model/tower.h"
#include "rig.h"

enum { VISION_MAX = 4 };

struct vision_golden {
    int n_images, D_out, V, n_prompts;
    double nmse_embeddings, nmse_logits; /* of the reference's own bf16 */
    struct golden_image {
        struct vision_plan plan;
        const float *embeddings; /* [n_rows, D_out] view */
    } images[VISION_MAX];
    struct golden_prompt {
        int T, n_prefill, n_images;
        const int32_t *images, *tokens, *positions; /* [n_images], [T], [T, 3] views */
        const float *logits;                        /* [T, V] view */
    } prompts[VISION_MAX];
    struct buf file;
};

static inline const int32_t *golden_take(const uint8_t **at, size_t n)
{
    const int32_t *taken = (const int32_t *)(const void *)*at;

    *at += 4 * n;
    return taken;
}

/* rows_h, rows_w: only where the layout has them. */
static inline struct vision_golden vision_golden_read(const char *path,
                                                      const struct vision_config *c)
{
    struct vision_golden g = {0};
    const uint8_t *at;

    RIG_OK(file_read(path, 1u << 20, &g.file));
    RIG_OK(memcmp(g.file.data, "EPVISION", 8) == 0 ? ST_OK : ST_FORMAT);
    at = g.file.data + 8;
    const int32_t *head = golden_take(&at, 4);
    g.n_images = head[0];
    g.D_out = head[1];
    g.V = head[2];
    g.n_prompts = head[3];
    memcpy(&g.nmse_embeddings, at, 8);
    memcpy(&g.nmse_logits, at + 8, 8);
    at += 16;
    for (int i = 0; i < g.n_images; i++) {
        const int32_t *h = golden_take(&at, 4);
        const bool any_size = c->layout == VISION_QWEN2VL;

        g.images[i].plan = (struct vision_plan){.n_pictures = h[0],
                                                .grid_h = h[1],
                                                .grid_w = h[2],
                                                .n_patches = h[0] * h[1] * h[2],
                                                .n_rows = h[3],
                                                .rows_h = any_size ? h[1] / c->merge : 0,
                                                .rows_w = any_size ? h[2] / c->merge : 0};
        g.images[i].embeddings =
            (const float *)(const void *)golden_take(&at, (size_t)h[3] * (size_t)g.D_out);
    }
    for (int i = 0; i < g.n_prompts; i++) {
        struct golden_prompt *p = &g.prompts[i];
        const int32_t *h = golden_take(&at, 3);

        p->T = h[0];
        p->n_prefill = h[1];
        p->n_images = h[2];
        p->images = golden_take(&at, (size_t)h[2]);
        p->tokens = golden_take(&at, (size_t)h[0]);
        p->positions = golden_take(&at, 3 * (size_t)h[0]);
        p->logits = (const float *)(const void *)golden_take(&at, (size_t)(h[0] * g.V));
    }
    RIG_OK(at == g.file.data + g.file.n_bytes ? ST_OK : ST_FORMAT);
    return g;
}

/* make_vision.py's pixels(): n numbers of an image. */
static inline float *vision_pixels(int image, size_t n)
{
    float *out = host_alloc(n * sizeof *out);

    RIG_OK(out != NULL ? ST_OK : ST_NOMEM);
    for (size_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)i * 2654435761u + (uint32_t)(image + 1) * 40503u;

        x ^= x >> 15;
        x *= 2246822519u;
        x ^= x >> 13;
        out[i] = (float)(x % 511) / 256.0f - 0.99609375f;
    }
    return out;
}

static inline float *golden_pixels(const struct vision_golden *g, const struct vision_config *c,
                                   int image)
{
    return vision_pixels(image,
                         (size_t)g->images[image].plan.n_patches * (size_t)vision_patch_elems(c));
}

/* ---- a tower that can be run ------------------------------------------------------------------ */

struct tower_rig {
    struct vision_config config;
    struct model_config decoder;
    struct threads *threads;
    struct vision_weights *weights;
    struct vision *vision;
};

/* config: NULL = the model's own; else what the tower believes. */
static inline void tower_begin(struct tower_rig *rig, const char *path, enum ops_type type,
                               const char *instructions, int n_threads,
                               const struct vision_config *config)
{
    struct model_source *source = NULL;
    const struct ops *ops;

    *rig = (struct tower_rig){0};
    RIG_OK(ops_find(instructions, &ops));
    RIG_OK(threads_create(n_threads, &rig->threads));
    RIG_OK(model_open(path, &source));
    RIG_OK(model_source_vision(source) != NULL ? ST_OK : ST_FORMAT);
    rig->config = config != NULL ? *config : *model_source_vision(source);
    rig->decoder = *model_source_config(source);
    RIG_OK(vision_weights_create(
        &(struct vision_weights_args){.source = source, .type = type, .threads = rig->threads},
        &rig->weights));
    model_close(source);
    RIG_OK(vision_create(&(struct vision_args){.config = &rig->config,
                                               .weights = rig->weights,
                                               .ops = ops,
                                               .threads = rig->threads,
                                               .max_patches = 1024},
                         &rig->vision));
}

static inline void tower_end(struct tower_rig *rig)
{
    vision_destroy(rig->vision);
    vision_weights_destroy(rig->weights);
    threads_destroy(rig->threads);
}

static inline void tower_run(struct tower_rig *rig, const struct vision_item *items, int n_items)
{
    bool done = false;

    RIG_OK(vision_begin(rig->vision, items, n_items));
    while (!done)
        RIG_OK(vision_part(rig->vision, &done));
}

static inline float *rows_alloc(const struct vision_plan *plan, int D_out)
{
    const size_t n = (size_t)plan->n_rows * (size_t)D_out;
    float *rows = host_alloc(n * sizeof *rows);

    RIG_OK(rows != NULL ? ST_OK : ST_NOMEM);
    memset(rows, 0xff, n * sizeof *rows);
    return rows;
}

/* The embeddings of all images of a golden, each in a batch of its own. */
static inline void tower_embed_all(struct tower_rig *rig, const struct vision_golden *g,
                                   float *out[VISION_MAX])
{
    for (int i = 0; i < g->n_images; i++) {
        float *patches = golden_pixels(g, &rig->config, i);

        out[i] = rows_alloc(&g->images[i].plan, g->D_out);
        tower_run(rig, &(struct vision_item){&g->images[i].plan, patches, out[i]}, 1);
        host_free(patches);
    }
}

/* NMSE over several arrays of one size each. */
struct nmse_sum {
    double error, power;
};

static inline void nmse_add(struct nmse_sum *sum, const float *got, const float *right, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)right[i];

        sum->error += d * d;
        sum->power += (double)right[i] * (double)right[i];
    }
}

/* ---- prompts ---------------------------------------------------------------------------------- */

/* What a prompt's tokens stand for, and where they are. */
struct prompt_inputs {
    const float **inputs; /* [T] owned */
    int32_t *positions;   /* [T, 3] owned */
    int shift;
};

/* Answer tokens are at their place plus the shift. */
static inline struct prompt_inputs prompt_inputs(const struct vision_golden *g,
                                                 const struct golden_prompt *p, int image_id,
                                                 float *const embeddings[VISION_MAX], bool mrope)
{
    struct prompt_inputs in = {0};
    struct seq_image images[VISION_MAX] = {0};
    int n = 0, row = 0;

    in.inputs = host_zalloc((size_t)p->T * sizeof *in.inputs);
    in.positions = host_alloc((size_t)p->T * 3 * sizeof *in.positions);
    RIG_OK(in.inputs != NULL && in.positions != NULL ? ST_OK : ST_NOMEM);
    for (int t = 0; t < p->n_prefill; t++) {
        if (p->tokens[t] != image_id)
            continue;
        const struct vision_plan *plan = &g->images[p->images[n]].plan;
        if (row == 0)
            images[n] = (struct seq_image){t, plan->n_rows, plan->rows_h, plan->rows_w};
        in.inputs[t] = embeddings[p->images[n]] + (ptrdiff_t)row * g->D_out;
        if (++row == plan->n_rows) {
            row = 0;
            n++;
        }
    }
    RIG_OK(n == p->n_images && row == 0 ? ST_OK : ST_FORMAT);
    if (mrope)
        mrope_positions(images, n, p->n_prefill, in.positions, &in.shift);
    for (int t = mrope ? p->n_prefill : 0; t < p->T; t++)
        for (int k = 0; k < 3; k++)
            in.positions[3 * t + k] = t + in.shift;
    return in;
}

static inline void prompt_inputs_free(struct prompt_inputs *in)
{
    host_free((void *)in->inputs);
    host_free(in->positions);
}

/* Logits [T, V]: the prompt in chunks, the answer token by token. */
static inline void prompt_logits(struct rig *rig, const struct golden_prompt *p,
                                 const struct prompt_inputs *in, int chunk, float *logits)
{
    struct rig_seq seq, *seqs[1] = {&seq};

    rig_seq_begin(rig, &seq, p->tokens, p->T, logits);
    seq.inputs = in->inputs;
    seq.positions = in->positions;
    while (seq.n_done < p->T) {
        const int left = p->n_prefill - seq.n_done;
        const int n_tok[1] = {left <= 0 ? 1 : left < chunk ? left : chunk};

        rig_step(rig, seqs, n_tok, 1);
    }
    rig_seq_end(rig, &seq);
}

#endif
