/* TEST */
/*
 * unit_vision.c - embeddings and logits of small vision-language checkpoints against transformers
 * (float32); and the same bits whatever the batch, threads and instructions.
 */
#include "vision_test.h"

#define GOLDEN "tests/golden/vision/"

static const char *const models[] = {"llava", "llava-full", "idefics3", "qwen2vl"};
static const enum ops_type types[] = {OPS_BF16, OPS_F32};

/* f32: NMSE <= 1e-11.  bf16: at most twice the error of the reference's own bf16. */
static void judge(const char *what, enum ops_type type, double got, double of_reference)
{
    fprintf(stderr, "    %-10s %s nmse %.1e (the reference's bf16: %.1e)\n", what,
            type == OPS_BF16 ? "bf16" : "f32 ", got, of_reference);
    CHECK(got <= (type == OPS_F32 ? 1e-11 : 2 * of_reference));
    CHECK(type == OPS_F32 || got > 1e-9); /* it really rounds */
}

static void right_embeddings(const char *dir, const struct vision_golden *g, enum ops_type type,
                             float *embeddings[VISION_MAX])
{
    struct tower_rig rig;
    struct nmse_sum sum = {0};

    tower_begin(&rig, dir, type, "auto", 1, NULL);
    CHECK_INT(rig.config.D_out, g->D_out);
    tower_embed_all(&rig, g, embeddings);
    for (int i = 0; i < g->n_images; i++)
        nmse_add(&sum, embeddings[i], g->images[i].embeddings,
                 (size_t)g->images[i].plan.n_rows * (size_t)g->D_out);
    judge("embeddings", type, sum.error / sum.power, g->nmse_embeddings);
    tower_end(&rig);
}

/* Prompts with no, one and two images, and the tokens of answers to them. */
static void right_logits(const char *dir, const struct vision_golden *g, enum ops_type type,
                         float *embeddings[VISION_MAX])
{
    struct rig rig;
    struct nmse_sum sum = {0};

    rig_begin(&rig, (struct rig_args){.path = dir, .type = type});
    const int *sections = rig.config.mrope;
    const bool mrope = sections[0] + sections[1] + sections[2] > 0;
    for (int i = 0; i < g->n_prompts; i++) {
        const struct golden_prompt *p = &g->prompts[i];
        const size_t n = (size_t)p->T * (size_t)g->V;
        struct prompt_inputs in = prompt_inputs(g, p, rig.config.image_id, embeddings, mrope);
        float *logits = host_alloc(n * sizeof *logits), *again = host_alloc(n * sizeof *again);
        size_t n_differ = 0;

        CHECK(memcmp(in.positions, p->positions, (size_t)p->T * 12) == 0);
        prompt_logits(&rig, p, &in, 1000, logits);
        prompt_logits(&rig, p, &in, 3, again);
        nmse_add(&sum, logits, p->logits, n);
        for (size_t v = 0; v < n; v++)
            n_differ += bits_from_f32(logits[v]) != bits_from_f32(again[v]);
        CHECK_INT(n_differ, 0);
        host_free(logits);
        host_free(again);
        prompt_inputs_free(&in);
    }
    judge("logits", type, sum.error / sum.power, g->nmse_logits);
    rig_end(&rig);
}

/* All instruction sets and threads, and images side by side in either order. */
static void same_bits(const char *dir, const struct vision_golden *g, enum ops_type type)
{
    float *right[VISION_MAX];
    struct tower_rig rig;

    tower_begin(&rig, dir, type, "plain", 1, NULL);
    tower_embed_all(&rig, g, right);
    tower_end(&rig);
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        for (int n_threads = 1; n_threads <= 3 && (*ops)->usable(); n_threads += 2) {
            struct vision_item items[5];
            float *patches[VISION_MAX];

            tower_begin(&rig, dir, type, (*ops)->name, n_threads, NULL);
            for (int i = 0; i < g->n_images; i++)
                patches[i] = golden_pixels(g, &rig.config, i);
            for (int i = 0; i < 5; i++) {
                const int image = (5 - i) * n_threads / 2 % g->n_images;

                items[i] = (struct vision_item){&g->images[image].plan, patches[image],
                                                rows_alloc(&g->images[image].plan, g->D_out)};
            }
            tower_run(&rig, items, 5);
            for (int i = 0; i < 5; i++) {
                const int image = (5 - i) * n_threads / 2 % g->n_images;
                const size_t n = (size_t)items[i].plan->n_rows * (size_t)g->D_out;
                size_t n_differ = 0;

                for (size_t v = 0; v < n; v++)
                    n_differ += bits_from_f32(items[i].out[v]) != bits_from_f32(right[image][v]);
                CHECK_INT(n_differ, 0);
                host_free(items[i].out);
            }
            for (int i = 0; i < g->n_images; i++)
                host_free(patches[i]);
            tower_end(&rig);
        }
    }
    for (int i = 0; i < g->n_images; i++)
        host_free(right[i]);
}

/* Ranks that fill the weights together fill what one alone does. */
static void in_parts(const char *dir)
{
    struct model_source *source;
    struct threads *threads;
    struct vision_weights *parts[3] = {NULL}, *whole;

    RIG_OK(threads_create(2, &threads));
    RIG_OK(model_open(dir, &source));
    const size_t n_bytes = vision_weights_bytes(model_source_vision(source), OPS_BF16);
    void *memory[2] = {pages_map(n_bytes), pages_map(n_bytes)};
    struct vision_weights_args args = {
        .source = source, .type = OPS_BF16, .threads = threads, .memory = memory[0]};
    RIG_OK(vision_weights_create(&args, &whole));
    args.memory = memory[1];
    args.n_parts = 3;
    for (args.part = 0; args.part < 3; args.part++)
        RIG_OK(vision_weights_create(&args, &parts[args.part]));
    CHECK(memcmp(memory[0], memory[1], n_bytes) == 0);
    vision_weights_destroy(whole);
    for (int p = 0; p < 3; p++)
        vision_weights_destroy(parts[p]);
    pages_unmap(memory[0], n_bytes);
    pages_unmap(memory[1], n_bytes);
    model_close(source);
    threads_destroy(threads);
}

/* Without images such a model is a decoder like any other: rows of the embedding that come from
 * outside, and places that do, change no bit. */
static void text_only(const char *dir, const struct vision_golden *g)
{
    const struct golden_prompt *p = &g->prompts[0];
    const size_t n = (size_t)p->T * (size_t)g->V;
    float *right = host_alloc(n * sizeof *right), *got = host_alloc(n * sizeof *got);
    struct prompt_inputs in = {0};
    struct rig rig;
    size_t n_differ = 0;

    rig_begin(&rig, (struct rig_args){.path = dir, .type = OPS_BF16});
    const size_t D = (size_t)rig.config.D;
    float *rows = host_alloc((size_t)p->T * D * sizeof *rows);
    in.inputs = host_zalloc((size_t)p->T * sizeof *in.inputs);
    in.positions = host_zalloc((size_t)p->T * 3 * sizeof *in.positions);
    CHECK_INT(p->n_images, 0);
    rig_logits(&rig, p->tokens, p->T, 100, right);
    RIG_OK(ops_list()[0] != NULL ? ST_OK : ST_NOMEM);
    for (int t = 0; t < p->T; t++) {
        struct model_source *source;

        RIG_OK(model_open(dir, &source));
        model_source_row(source, WEIGHT_EMBED, 0, p->tokens[t], rows + (size_t)t * D);
        model_close(source);
        in.inputs[t] = t % 3 > 0 ? rows + (size_t)t * D : NULL;
        for (int k = 0; k < 3; k++)
            in.positions[3 * t + k] = t;
    }
    prompt_logits(&rig, p, &in, 4, got);
    for (size_t v = 0; v < n; v++)
        n_differ += bits_from_f32(got[v]) != bits_from_f32(right[v]);
    CHECK_INT(n_differ, 0);
    rig_end(&rig);
    prompt_inputs_free(&in);
    host_free(rows);
    host_free(right);
    host_free(got);
}

int main(void)
{
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct model_source *source;
        char dir[128], path[160];

        snprintf(dir, sizeof dir, GOLDEN "%s", models[m]);
        snprintf(path, sizeof path, "%s/model.golden", dir);
        fprintf(stderr, "%s\n", models[m]);
        RIG_OK(model_open(dir, &source));
        struct vision_golden g = vision_golden_read(path, model_source_vision(source));
        model_close(source);
        for (int k = 0; k < 2; k++) {
            float *embeddings[VISION_MAX];

            right_embeddings(dir, &g, types[k], embeddings);
            right_logits(dir, &g, types[k], embeddings);
            same_bits(dir, &g, types[k]);
            for (int i = 0; i < g.n_images; i++)
                host_free(embeddings[i]);
        }
        in_parts(dir);
        text_only(dir, &g);
        buf_free(&g.file);
    }
    TEST_END();
}
