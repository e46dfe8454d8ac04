/* TEST */
/*
 * unit_vision_mutations.c - whether the right answers about images can show bugs.  Each classic
 * mistake of a vision tower, made on purpose, has to miss the f32 limit (NMSE 1e-11) by a factor of
 * 100 at least.
 *
 * The mistakes are made outside the program: in the configuration that the tower or decoder is
 * given, in the patches, in the positions of tokens, or in the weights after they are packed.
 */
#include "checkpoint.h"
#include "vision_test.h"

#define GOLDEN "tests/golden/vision/"

static const double LIMIT = 1e-11, SHOWN = 1e-9;

struct subject {
    char dir[256];
    struct vision_golden golden;
    struct vision_config config;
    struct model_config decoder;
};

static struct subject subject_begin(const char *name)
{
    struct subject s;
    struct model_source *source;
    char path[288];

    snprintf(s.dir, sizeof s.dir, GOLDEN "%s", name);
    snprintf(path, sizeof path, "%s/model.golden", s.dir);
    RIG_OK(model_open(s.dir, &source));
    s.config = *model_source_vision(source);
    s.decoder = *model_source_config(source);
    model_close(source);
    s.golden = vision_golden_read(path, &s.config);
    return s;
}

/* ---- mistakes in the tower ---------------------------------------------------------------------- */

/* What is wrong: with weights or patches, or only the configuration. */
typedef void (*spoil_fn)(struct vision_weights *w, const struct vision_config *c,
                         const struct vision_plan *plan, float *patches);

/* NMSE of the embeddings of all images that a tower makes which believes `wrong`. */
static double error_of(const struct subject *s, const struct vision_config *wrong, spoil_fn spoil)
{
    struct nmse_sum sum = {0};
    struct tower_rig rig;

    tower_begin(&rig, s->dir, OPS_F32, "auto", 1, wrong);
    for (int i = 0; i < s->golden.n_images; i++) {
        struct vision_plan plan = s->golden.images[i].plan;
        float *patches = golden_pixels(&s->golden, &rig.config, i);

        /* one embedding more or less than there should be: the first ones are compared */
        plan.n_rows += plan.n_pictures * (rig.config.keep_class_token - s->config.keep_class_token);
        float *out = rows_alloc(&plan, s->golden.D_out);
        if (spoil != NULL)
            spoil(i == 0 ? rig.weights : NULL, &rig.config, &plan, patches);
        tower_run(&rig, &(struct vision_item){&plan, patches, out}, 1);
        const int n_rows = plan.n_rows < s->golden.images[i].plan.n_rows
                               ? plan.n_rows
                               : s->golden.images[i].plan.n_rows;
        nmse_add(&sum, out, s->golden.images[i].embeddings,
                 (size_t)n_rows * (size_t)s->golden.D_out);
        host_free(patches);
        host_free(out);
    }
    tower_end(&rig);
    return sum.error / sum.power;
}

static void expect_shown(const struct subject *s, const char *what, double error)
{
    fprintf(stderr, "%-32s %-34s nmse %.1e\n", s->dir, what, error);
    CHECK(error >= SHOWN);
}

static void swap_rows(float *a, float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float t = a[i];

        a[i] = b[i];
        b[i] = t;
    }
}

/* Columns before rows. */
static void patches_by_column(struct vision_weights *w, const struct vision_config *c,
                              const struct vision_plan *plan, float *patches)
{
    const size_t n = (size_t)vision_patch_elems(c);

    (void)w;
    for (int p = 0; p < plan->n_pictures; p++)
        for (int y = 0; y < plan->grid_h; y++)
            for (int x = 0; x < y && x < plan->grid_w; x++) {
                float *picture = patches + (size_t)(p * plan->grid_h * plan->grid_w) * n;

                swap_rows(picture + (size_t)(y * plan->grid_w + x) * n,
                          picture + (size_t)(x * plan->grid_w + y) * n, n);
            }
}

/* Each merged window column by column: patches 1 and 2 of four exchanged. */
static void merged_by_column(struct vision_weights *w, const struct vision_config *c,
                             const struct vision_plan *plan, float *patches)
{
    const size_t n = (size_t)vision_patch_elems(c);

    (void)w;
    for (int i = 0; i + 3 < plan->n_patches; i += 4)
        swap_rows(patches + (size_t)(i + 1) * n, patches + (size_t)(i + 2) * n, n);
}

/* Red and blue exchanged. */
static void channels(struct vision_weights *w, const struct vision_config *c,
                     const struct vision_plan *plan, float *patches)
{
    const size_t n = (size_t)vision_patch_elems(c) / 3;

    (void)w;
    for (int i = 0; i < plan->n_patches; i++)
        swap_rows(patches + (size_t)i * 3 * n, patches + (size_t)i * 3 * n + 2 * n, n);
}

static void no_class_token(struct vision_weights *w, const struct vision_config *c,
                           const struct vision_plan *plan, float *patches)
{
    (void)plan;
    (void)patches;
    if (w != NULL)
        memset(w->class_token, 0, (size_t)c->D * sizeof(float));
}

/* The class token has the last place, not the first. */
static void positions_shifted(struct vision_weights *w, const struct vision_config *c,
                              const struct vision_plan *plan, float *patches)
{
    (void)plan;
    (void)patches;
    for (int i = 0; w != NULL && i + 1 < tower_n_positions(c); i++)
        swap_rows(w->position + (ptrdiff_t)i * c->D, w->position + (ptrdiff_t)(i + 1) * c->D,
                  (size_t)c->D);
}

static void positions_by_column(struct vision_weights *w, const struct vision_config *c,
                                const struct vision_plan *plan, float *patches)
{
    (void)plan;
    (void)patches;
    for (int y = 0; w != NULL && y < c->grid; y++)
        for (int x = 0; x < y; x++)
            swap_rows(w->position + (ptrdiff_t)(y * c->grid + x + c->class_token) * c->D,
                      w->position + (ptrdiff_t)(x * c->grid + y + c->class_token) * c->D,
                      (size_t)c->D);
}

static void no_patch_bias(struct vision_weights *w, const struct vision_config *c,
                          const struct vision_plan *plan, float *patches)
{
    (void)plan;
    (void)patches;
    if (w != NULL)
        memset(w->patch_bias, 0, (size_t)c->D * sizeof(float));
}

static void no_projector_bias(struct vision_weights *w, const struct vision_config *c,
                              const struct vision_plan *plan, float *patches)
{
    (void)plan;
    (void)patches;
    if (w != NULL)
        memset(w->projector_2_bias, 0, (size_t)c->D_out * sizeof(float));
}

static void no_qkv_bias(struct vision_weights *w, const struct vision_config *c,
                        const struct vision_plan *plan, float *patches)
{
    (void)plan;
    (void)patches;
    if (w != NULL)
        memset(w->layers[0].qkv_bias, 0, (size_t)(3 * c->H * tower_head(c)) * sizeof(float));
}

/* Columns of the matrix behind a merge, which stand for patches of a window, column by column. */
static void shuffle_by_column(struct vision_weights *w, const struct vision_config *c,
                              const struct vision_plan *plan, float *patches)
{
    struct ops_matrix *m = NULL;
    const int D = c->D, k = c->merge;

    (void)plan;
    (void)patches;
    if (w == NULL)
        return;
    m = w->projector_1.n_out > 0 ? &w->projector_1 : &w->projector_2;
    float *row = host_alloc((size_t)m->n_in * sizeof *row);
    RIG_OK(row != NULL ? ST_OK : ST_NOMEM);
    for (int r = 0; r < m->n_out; r++) {
        ops_matrix_get_row(m, r, row);
        for (int y = 0; y < k; y++)
            for (int x = 0; x < y; x++)
                swap_rows(row + (ptrdiff_t)(y * k + x) * D, row + (ptrdiff_t)(x * k + y) * D,
                          (size_t)D);
        ops_matrix_set_row(m, r, row);
    }
    host_free(row);
}

/* Row and column of the 2-D RoPE exchanged: as if rows of q and k that turn by the one were those
 * that turn by the other. */
static void rope_exchanged(struct vision_weights *w, const struct vision_config *c,
                           const struct vision_plan *plan, float *patches)
{
    const int head = tower_head(c), quarter = c->E / 4;

    (void)plan;
    (void)patches;
    for (int l = 0; w != NULL && l < c->L; l++) {
        struct ops_matrix *m = &w->layers[l].qkv;
        float *a = host_alloc((size_t)m->n_in * sizeof *a);
        float *b = host_alloc((size_t)m->n_in * sizeof *b);

        RIG_OK(a != NULL && b != NULL ? ST_OK : ST_NOMEM);
        for (int h = 0; h < 2 * c->H; h++) {
            for (int i = 0; i < 2 * quarter; i++) {
                const int at = h * head + i / quarter * (head / 2) + i % quarter;

                ops_matrix_get_row(m, at, a);
                ops_matrix_get_row(m, at + quarter, b);
                ops_matrix_set_row(m, at, b);
                ops_matrix_set_row(m, at + quarter, a);
                swap_rows(w->layers[l].qkv_bias + at, w->layers[l].qkv_bias + at + quarter, 1);
            }
        }
        host_free(a);
        host_free(b);
    }
}

static void shown(const struct subject *s, const char *what, spoil_fn spoil)
{
    expect_shown(s, what, error_of(s, NULL, spoil));
}

static void activations(const struct subject *s)
{
    struct vision_config wrong = s->config;

    wrong.activation = s->config.activation == VISION_GELU_ERF ? VISION_GELU_TANH : VISION_GELU_ERF;
    expect_shown(s, "activation", error_of(s, &wrong, NULL));
    wrong = s->config;
    wrong.eps = 1e-3;
    expect_shown(s, "LayerNorm epsilon", error_of(s, &wrong, NULL));
    if (s->config.layout == VISION_IDEFICS3)
        return;
    wrong = s->config;
    wrong.projector_activation =
        s->config.projector_activation == VISION_GELU_ERF ? VISION_GELU_TANH : VISION_GELU_ERF;
    expect_shown(s, "activation of the projector", error_of(s, &wrong, NULL));
}

/* Another feature layer: its config.json says so. */
static void feature_layers(const struct subject *s)
{
    for (int change = -1; change <= 1; change += 2) {
        static const char key[] = "\"vision_feature_layer\": -2";
        struct checkpoint cp = checkpoint_read(s->dir);
        struct subject other = *s;
        struct model_source *source = NULL;

        char *at = memmem(cp.config.data, cp.config.n_bytes, key, sizeof key - 1);
        RIG_OK(at != NULL ? ST_OK : ST_FORMAT);
        at[sizeof key - 2] = (char)('2' - change);
        snprintf(other.dir, sizeof other.dir, "%s", checkpoint_write(&cp));
        RIG_OK(model_open(other.dir, &source));
        CHECK_INT(model_source_vision(source)->L, s->config.L + change);
        model_close(source);
        expect_shown(s, change > 0 ? "feature layer + 1" : "feature layer - 1",
                     error_of(&other, NULL, NULL));
        checkpoint_end(&cp);
    }
}

/* ---- mistakes in the decoder -------------------------------------------------------------------- */

/* NMSE of the logits of all prompts, with the reference's own embeddings. */
static double logits_error(const struct subject *s, const struct model_config *wrong, int shift,
                           bool flat, bool exchanged)
{
    float *embeddings[VISION_MAX] = {NULL};
    struct nmse_sum sum = {0};
    struct rig rig;

    for (int i = 0; i < s->golden.n_images; i++) /* not written to */
        embeddings[i] = (float *)(uintptr_t)s->golden.images[i].embeddings;
    rig_begin(&rig, (struct rig_args){.path = s->dir, .type = OPS_F32, .config = wrong});
    for (int i = 0; i < s->golden.n_prompts; i++) {
        const struct golden_prompt *p = &s->golden.prompts[i];
        const size_t n = (size_t)p->T * (size_t)s->golden.V;
        struct prompt_inputs in =
            prompt_inputs(&s->golden, p, s->decoder.image_id, embeddings, !flat);
        float *logits = host_alloc(n * sizeof *logits);

        for (int t = 0; t < p->T; t++) {
            int32_t *pos = in.positions + (ptrdiff_t)3 * t;

            for (int k = 0; k < 3 && t >= p->n_prefill; k++)
                pos[k] += shift;
            if (exchanged) {
                const int32_t h = pos[1];

                pos[1] = pos[2];
                pos[2] = h;
            }
        }
        prompt_logits(&rig, p, &in, 1000, logits);
        nmse_add(&sum, logits, p->logits, n);
        prompt_inputs_free(&in);
        host_free(logits);
    }
    rig_end(&rig);
    return sum.error / sum.power;
}

static void mrope(const struct subject *s)
{
    struct model_config wrong = s->decoder;

    CHECK(logits_error(s, &wrong, 0, false, false) <= LIMIT);
    expect_shown(s, "M-RoPE: places", logits_error(s, &wrong, 0, true, false));
    expect_shown(s, "M-RoPE: shift of answers", logits_error(s, &wrong, 1, false, false));
    expect_shown(s, "M-RoPE: rows and columns", logits_error(s, &wrong, 0, false, true));
    wrong.mrope[0] = s->decoder.mrope[1];
    wrong.mrope[1] = s->decoder.mrope[0];
    expect_shown(s, "M-RoPE: sections", logits_error(s, &wrong, 0, false, false));
    wrong = s->decoder;
    memset(wrong.mrope, 0, sizeof wrong.mrope);
    expect_shown(s, "M-RoPE: none", logits_error(s, &wrong, 0, false, false));
}

int main(void)
{
    struct subject s = subject_begin("llava");

    CHECK(error_of(&s, NULL, NULL) <= LIMIT);
    shown(&s, "patch order", patches_by_column);
    shown(&s, "red and blue", channels);
    shown(&s, "no class token", no_class_token);
    shown(&s, "positions shifted by one", positions_shifted);
    shown(&s, "positions by column", positions_by_column);
    shown(&s, "no bias of the projector", no_projector_bias);
    shown(&s, "no biases of attention", no_qkv_bias);
    activations(&s);
    feature_layers(&s);
    struct vision_config wrong = s.config;
    wrong.keep_class_token = true;
    expect_shown(&s, "class token kept", error_of(&s, &wrong, NULL));
    buf_free(&s.golden.file);

    s = subject_begin("idefics3");
    CHECK(error_of(&s, NULL, NULL) <= LIMIT);
    shown(&s, "patch order", patches_by_column);
    shown(&s, "positions by column", positions_by_column);
    shown(&s, "no bias of patches", no_patch_bias);
    shown(&s, "pixel shuffle by column", shuffle_by_column);
    activations(&s);
    buf_free(&s.golden.file);

    s = subject_begin("qwen2vl");
    CHECK(error_of(&s, NULL, NULL) <= LIMIT);
    shown(&s, "patches of a window by column", merged_by_column);
    shown(&s, "merge by column", shuffle_by_column);
    shown(&s, "2-D RoPE: rows and columns", rope_exchanged);
    wrong = s.config;
    wrong.rope_base = 1e5;
    expect_shown(&s, "2-D RoPE: base", error_of(&s, &wrong, NULL));
    activations(&s);
    mrope(&s);
    buf_free(&s.golden.file);
    TEST_END();
}
