/* TEST */
/*
 * unit_weights.c - packing: every row of every tensor lands where the decoder looks for it,
 * whatever the number of threads; tied models hold one matrix; NaN and infinity are refused by
 * name.
 */
#include "checkpoint.h"
#include "model/weights.h"

#define GOLDEN "tests/golden/"

/* Rows first .. of a matrix are the tensor's, rounded. */
static void check_rows(const struct model_source *source, enum weight_id id, int layer,
                       const struct ops_matrix *w, int first)
{
    const struct tensor_view *tensor = model_source_tensor(source, id, layer);
    float in_file[512], packed[512];
    int n_wrong = 0;

    CHECK_INT(w->n_in, tensor->n_cols);
    for (int r = 0; r < (int)tensor->n_rows; r++) {
        model_source_row(source, id, layer, r, in_file);
        ops_matrix_get_row(w, first + r, packed);
        for (int i = 0; i < w->n_in; i++) {
            const float want =
                w->type == OPS_BF16 ? f32_from_bf16(bf16_from_f32(in_file[i])) : in_file[i];

            n_wrong += bits_from_f32(packed[i]) != bits_from_f32(want);
        }
    }
    CHECK_INT(n_wrong, 0);
}

/* The elements of a bias are the tensor's, rounded like a matrix. */
static void check_bias(const struct model_source *source, enum weight_id id, int layer,
                       enum ops_type type, const float *bias)
{
    const struct tensor_view *tensor = model_source_tensor(source, id, layer);
    float in_file[512];
    int n_wrong = 0;

    model_source_row(source, id, layer, 0, in_file);
    for (int i = 0; i < (int)tensor->n_cols; i++) {
        const float want = type == OPS_BF16 ? f32_from_bf16(bf16_from_f32(in_file[i])) : in_file[i];

        n_wrong += bits_from_f32(bias[i]) != bits_from_f32(want);
    }
    CHECK_INT(n_wrong, 0);
}

static void check_biases(const struct model_source *source, int l, enum ops_type type,
                         const struct layer_weights *layer)
{
    const struct model_config *c = model_source_config(source);

    CHECK((layer->qkv_bias != NULL) == c->qkv_bias);
    CHECK((layer->o_bias != NULL) == c->o_bias);
    if (c->qkv_bias) {
        check_bias(source, WEIGHT_Q_BIAS, l, type, layer->qkv_bias);
        check_bias(source, WEIGHT_K_BIAS, l, type, layer->qkv_bias + c->H * c->E);
        check_bias(source, WEIGHT_V_BIAS, l, type, layer->qkv_bias + (c->H + c->K) * c->E);
    }
    if (c->o_bias)
        check_bias(source, WEIGHT_O_BIAS, l, type, layer->o_bias);
}

/* Norms stay float32; those that the model does not have are not there. */
static void check_norms(const struct model_source *source, int l, const struct layer_weights *layer)
{
    const struct {
        enum weight_id id;
        const float *norm;
    } norms[] = {
        {WEIGHT_ATTN_NORM, layer->attn_norm}, {WEIGHT_ATTN_POST_NORM, layer->attn_post_norm},
        {WEIGHT_FFN_NORM, layer->ffn_norm},   {WEIGHT_FFN_POST_NORM, layer->ffn_post_norm},
        {WEIGHT_Q_NORM, layer->q_norm},       {WEIGHT_K_NORM, layer->k_norm},
    };

    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        const struct tensor_view *tensor = model_source_tensor(source, norms[i].id, l);
        float in_file[512];

        CHECK((norms[i].norm != NULL) == (tensor != NULL));
        if (tensor == NULL || norms[i].norm == NULL)
            continue;
        model_source_row(source, norms[i].id, l, 0, in_file);
        CHECK(memcmp(in_file, norms[i].norm, (size_t)tensor->n_cols * sizeof *in_file) == 0);
    }
}

static void check_layer(const struct model_source *source, int l, const struct weights *w)
{
    const struct model_config *c = model_source_config(source);
    const struct layer_weights *layer = &w->layers[l];

    check_rows(source, WEIGHT_Q, l, &layer->qkv, 0);
    check_rows(source, WEIGHT_K, l, &layer->qkv, c->H * c->E);
    check_rows(source, WEIGHT_V, l, &layer->qkv, (c->H + c->K) * c->E);
    check_rows(source, WEIGHT_O, l, &layer->o, 0);
    if (c->X == 0) {
        check_rows(source, WEIGHT_GATE, l, &layer->ffn.gate_up, 0);
        check_rows(source, WEIGHT_UP, l, &layer->ffn.gate_up, c->F);
        check_rows(source, WEIGHT_DOWN, l, &layer->ffn.down, 0);
    } else {
        check_rows(source, WEIGHT_ROUTER, l, &layer->router, 0);
    }
    for (int x = 0; x < c->X; x++) {
        check_rows(source, WEIGHT_X_GATE, l * c->X + x, &layer->experts[x].gate_up, 0);
        check_rows(source, WEIGHT_X_UP, l * c->X + x, &layer->experts[x].gate_up, c->F);
        check_rows(source, WEIGHT_X_DOWN, l * c->X + x, &layer->experts[x].down, 0);
    }
    check_norms(source, l, layer);
    check_biases(source, l, w->type, layer);
}

static void check_all(const struct model_source *source, const struct weights *w, bool stored)
{
    const struct model_config *c = model_source_config(source);

    for (int l = 0; l < c->L; l++)
        check_layer(source, l, w);
    check_rows(source, WEIGHT_EMBED, 0, &w->embed, 0);
    if (c->tied)
        CHECK(w->head.data == w->embed.data && w->head.stored == w->embed.stored);
    else
        check_rows(source, WEIGHT_HEAD, 0, &w->head, 0);
    size_t mapped;
    const size_t of_stored = weights_stored_bytes(source, &mapped);
    CHECK_INT(w->pages_bytes, stored ? of_stored : weights_bytes(c, w->type));
    CHECK((w->embed.data == NULL) == stored);
}

static void every_row(const char *path, enum ops_type type, bool stored, int n_threads)
{
    struct threads *threads;
    struct model_source *source;
    struct weights *w;

    RIG_OK(threads_create(n_threads, &threads));
    RIG_OK(model_open(path, &source));
    RIG_OK(weights_create(
        &(struct weights_args){
            .source = source, .type = type, .stored = stored, .threads = threads},
        &w));
    check_all(source, w, stored);
    weights_destroy(w);
    model_close(source);
    threads_destroy(threads);
}

/* As the ranks of a node do it: each fills some layers in memory that all of them read. */
static void in_parts(const char *path, bool stored)
{
    enum { N = 3 };
    struct threads *threads;
    struct model_source *source;
    struct weights *parts[N];
    size_t mapped;

    RIG_OK(threads_create(1, &threads));
    RIG_OK(model_open(path, &source));
    const size_t n_bytes = stored ? weights_stored_bytes(source, &mapped)
                                  : weights_bytes(model_source_config(source), OPS_BF16);
    void *memory = pages_map(n_bytes);
    RIG_OK(memory != NULL ? ST_OK : ST_NOMEM);
    for (int i = 0; i < N; i++)
        RIG_OK(weights_create(&(struct weights_args){.source = source,
                                                     .type = OPS_BF16,
                                                     .stored = stored,
                                                     .threads = threads,
                                                     .memory = memory,
                                                     .part = i,
                                                     .n_parts = N},
                              &parts[i]));
    for (int i = 0; i < N; i++) {
        check_all(source, parts[i], stored);
        weights_destroy(parts[i]);
    }
    pages_unmap(memory, n_bytes);
    model_close(source);
    threads_destroy(threads);
}

/* weights_create of a checkpoint with one element of one tensor set to these bits. */
static enum status create_spoilt_as(const char *model, const char *tensor, size_t at, uint32_t bits,
                                    enum ops_type type, bool stored)
{
    struct threads *threads;
    struct model_source *source;
    struct weights *w = NULL;
    struct checkpoint cp = checkpoint_read(model);
    const struct checkpoint_tensor t = checkpoint_tensor(&cp, tensor);

    checkpoint_set(&t, at, bits);
    RIG_OK(threads_create(2, &threads));
    RIG_OK(model_open(checkpoint_write(&cp), &source));
    const enum status st = weights_create(
        &(struct weights_args){
            .source = source, .type = type, .stored = stored, .threads = threads},
        &w);
    CHECK((st == ST_OK) == (w != NULL));
    weights_destroy(w);
    model_close(source);
    threads_destroy(threads);
    checkpoint_end(&cp);
    return st;
}

/* Packed, and then stored, which has to come to the same. */
static enum status create_spoilt(const char *model, const char *tensor, size_t at, uint32_t bits,
                                 enum ops_type type)
{
    char first[1024];
    const enum status st = create_spoilt_as(model, tensor, at, bits, type, false);

    snprintf(first, sizeof first, "%s", log_last_error());
    CHECK_INT(create_spoilt_as(model, tensor, at, bits, type, true), st);
    CHECK_STR(log_last_error(), first);
    return st;
}

static void not_finite(void)
{
    static const char down[] = "model.layers.1.mlp.down_proj.weight"; /* [51, 97] */
    static const char norm[] = "model.layers.2.input_layernorm.weight";
    const uint32_t nan = 0x7fc00000, minus_inf = 0xff800000;
    const uint32_t big = 0x7f7fffff; /* largest float32: infinite as bf16 */
    const size_t at = 33 * 97 + 96;  /* the last element of row 33 */

    CHECK_INT(create_spoilt(GOLDEN "odd", down, at, nan, OPS_BF16), ST_FORMAT);
    CHECK_HAS(log_last_error(), down);
    CHECK_HAS(log_last_error(), "row 33 of 51");
    CHECK_HAS(log_last_error(), "get it again");
    CHECK_INT(create_spoilt(GOLDEN "odd", down, at, minus_inf, OPS_F32), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 33 of 51");
    CHECK_INT(create_spoilt(GOLDEN "odd", norm, 50, nan, OPS_BF16), ST_FORMAT);
    CHECK_HAS(log_last_error(), norm);
    CHECK_INT(create_spoilt(GOLDEN "odd", down, at, big, OPS_BF16), ST_FORMAT);
    CHECK_HAS(log_last_error(), "as bf16");
    CHECK_INT(create_spoilt(GOLDEN "odd", down, at, big, OPS_F32), ST_OK);
    CHECK_INT(create_spoilt(GOLDEN "odd", norm, 50, big, OPS_BF16), ST_OK); /* norms stay float32 */
    /* a bf16 and an f16 NaN */
    CHECK_INT(create_spoilt(GOLDEN "wide_eps", "lm_head.weight", 7, 0x7fc0, OPS_BF16), ST_FORMAT);
    CHECK_HAS(log_last_error(), "lm_head.weight, row 0 of 160");
    CHECK_INT(create_spoilt(GOLDEN "small", "model.embed_tokens.weight", 64, 0x7e00, OPS_BF16),
              ST_FORMAT);
    CHECK_HAS(log_last_error(), "model.embed_tokens.weight, row 1 of 300");
}

/* The row that is named is the tensor's, not that of the weight which is a part of it. */
static void not_finite_in_parts(void)
{
    static const char qkv[] = "model.layers.1.self_attn.qkv_proj.weight";    /* [96, 32] */
    static const char experts[] = "model.layers.1.mlp.experts.gate_up_proj"; /* [5, 16, 32] */

    CHECK_INT(create_spoilt(GOLDEN "families/phi3", qkv, 70 * 32 + 5, 0x7fc0, OPS_BF16), ST_FORMAT);
    CHECK_HAS(log_last_error(), "qkv_proj.weight, row 70 of 96");
    CHECK_INT(create_spoilt(GOLDEN "families/olmoe", experts, 61 * 32, 0x7fc0, OPS_BF16),
              ST_FORMAT);
    CHECK_HAS(log_last_error(), "experts.gate_up_proj, row 61 of 80");
}

/* A bias is refused as a matrix is, infinite as bf16 or not a number. */
static void biases_not_finite(void)
{
    static const char *const names[] = {"q", "k", "v", "o"};
    const uint32_t nan = 0x7fc00000, big = 0x7f7fffff;

    for (int i = 0; i < 4; i++) {
        char name[64];

        snprintf(name, sizeof name, "model.layers.1.self_attn.%s_proj.bias", names[i]);
        CHECK_INT(create_spoilt(GOLDEN "biased", name, 31, nan, OPS_F32), ST_FORMAT);
        CHECK_HAS(log_last_error(), name);
        CHECK_HAS(log_last_error(), "NaN or infinite; the model file is damaged");
        CHECK_INT(create_spoilt(GOLDEN "biased", name, 0, nan, OPS_BF16), ST_FORMAT);
        CHECK_INT(create_spoilt(GOLDEN "biased", name, 0, big, OPS_BF16), ST_FORMAT);
        CHECK_HAS(log_last_error(), "as bf16");
        CHECK_INT(create_spoilt(GOLDEN "biased", name, 0, big, OPS_F32), ST_OK);
    }
}

/* Both vectors of a layer count, whole cache lines each. */
static void bytes_of_biases(void)
{
    struct model_config c = {.L = 3, .D = 51, .F = 97, .H = 3, .K = 1, .E = 32, .V = 203};
    const size_t plain = weights_bytes(&c, OPS_BF16);

    c.qkv_bias = c.o_bias = true;
    CHECK_INT(weights_bytes(&c, OPS_BF16) - plain, 3 * (160 * 4 + 256));
}

/* What a llama does not have. */
static const char *const families[] = {
    GOLDEN "families/phi3",               /* fused projections */
    GOLDEN "families/olmoe",              /* stacked experts; norms of q and k */
    GOLDEN "families/mixtral/model.gguf", /* single experts */
    GOLDEN "families/gemma3",             /* norms behind blocks, less 1 in the file */
    GOLDEN "families/olmo2",              /* none before them */
    GOLDEN "families/qwen2",              /* biases of q, k, v alone */
};

int main(void)
{
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        for (int stored = 0; stored < 2; stored++) {
            every_row(GOLDEN "small/Q4_1.gguf", OPS_BF16, stored, n_threads);
            every_row(GOLDEN "odd", OPS_BF16, stored, n_threads);
            every_row(GOLDEN "odd", OPS_F32, stored, n_threads);
            every_row(GOLDEN "wide_eps", OPS_F32, stored, n_threads);
            every_row(GOLDEN "biased", OPS_BF16, stored, n_threads);
            every_row(GOLDEN "biased/F32.gguf", OPS_F32, stored, n_threads);
            every_row(GOLDEN "kquant/kquant.gguf", OPS_BF16, stored, n_threads);
            for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
                every_row(families[i], OPS_BF16, stored, n_threads);
        }
    }
    for (int stored = 0; stored < 2; stored++) {
        in_parts(GOLDEN "kquant/kquant.gguf", stored);
        for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
            in_parts(families[i], stored);
    }
    not_finite();
    not_finite_in_parts();
    biases_not_finite();
    bytes_of_biases();
    TEST_END();
}
