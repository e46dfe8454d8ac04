/*
 * bench_vision.c - images per second of a vision tower beside the floor by operations, and of
 * reading and preparing them, measured in one run.
 *
 *   bench_vision                  a tower of CLIP-ViT-L/14-336's shape, as LLaVA-1.5 has it, with
 *                                 weights that are zero (same work)
 *   bench_vision --pictures N DIR write N different pictures, DIR/0.png ..., for bench_images.sh
 *
 * Floor: operations / multiply-add peak.  `make bench` runs it; not a test.
 */
#include "data/data.h"
#include "engine/engine.h"
#include "floors.h"
#include "zero_model.h"

enum { L = 24, D = 1024, F = 4096, EDGE = 336, PATCH = 14, GRID = EDGE / PATCH, MAX_IMAGES = 4 };
enum { D_TEXT = 64, V_TEXT = 512 };

static void fail(const char *what)
{
    fprintf(stderr, "bench_vision: %s\n", what);
    exit(1);
}

/* ---- a model of the right shape ---------------------------------------------------------------- */

static void put_linear(struct zero_model *model, const char *stem, const char *name, int n_out,
                       int n_in)
{
    char whole[256];

    snprintf(whole, sizeof whole, "%s%s.weight", stem, name);
    zero_model_put(model, whole, n_out, n_in);
    snprintf(whole, sizeof whole, "%s%s.bias", stem, name);
    zero_model_put(model, whole, n_out, 0);
}

static void put_tower(struct zero_model *model)
{
    static const char tower[] = "vision_tower.vision_model.";
    char stem[128];

    snprintf(stem, sizeof stem, "%sembeddings.class_embedding", tower);
    zero_model_put(model, stem, D, 0);
    snprintf(stem, sizeof stem, "%sembeddings.position_embedding.weight", tower);
    zero_model_put(model, stem, GRID * GRID + 1, D);
    put_linear(model, tower, "pre_layrnorm", D, 0);
    put_linear(model, tower, "post_layernorm", D, 0);
    for (int l = 0; l < L; l++) {
        snprintf(stem, sizeof stem, "%sencoder.layers.%d.", tower, l);
        put_linear(model, stem, "layer_norm1", D, 0);
        put_linear(model, stem, "layer_norm2", D, 0);
        put_linear(model, stem, "self_attn.q_proj", D, D);
        put_linear(model, stem, "self_attn.k_proj", D, D);
        put_linear(model, stem, "self_attn.v_proj", D, D);
        put_linear(model, stem, "self_attn.out_proj", D, D);
        put_linear(model, stem, "mlp.fc1", F, D);
        put_linear(model, stem, "mlp.fc2", D, F);
    }
    put_linear(model, "multi_modal_projector.", "linear_1", D_TEXT, D);
    put_linear(model, "multi_modal_projector.", "linear_2", D_TEXT, D_TEXT);
}

/* A decoder that is there because a model has one. */
static void put_decoder(struct zero_model *model)
{
    static const struct {
        const char *name;
        int rows, cols;
    } layer[] = {
        {"input_layernorm", D_TEXT, 0},       {"post_attention_layernorm", D_TEXT, 0},
        {"self_attn.q_proj", D_TEXT, D_TEXT}, {"self_attn.k_proj", D_TEXT, D_TEXT},
        {"self_attn.v_proj", D_TEXT, D_TEXT}, {"self_attn.o_proj", D_TEXT, D_TEXT},
        {"mlp.gate_proj", D_TEXT, D_TEXT},    {"mlp.up_proj", D_TEXT, D_TEXT},
        {"mlp.down_proj", D_TEXT, D_TEXT},
    };
    char name[256];

    zero_model_put(model, "language_model.model.embed_tokens.weight", V_TEXT, D_TEXT);
    zero_model_put(model, "language_model.model.norm.weight", D_TEXT, 0);
    zero_model_put(model, "language_model.lm_head.weight", V_TEXT, D_TEXT);
    for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
        snprintf(name, sizeof name, "language_model.model.layers.0.%s.weight", layer[i].name);
        zero_model_put(model, name, layer[i].rows, layer[i].cols);
    }
}

/* The patches' matrix has four dimensions in the file. */
static void put_patches(struct zero_model *model)
{
    const size_t n_bytes = (size_t)D * 3 * PATCH * PATCH * 2;

    buf_printf(&model->json,
               ",\"vision_tower.vision_model.embeddings.patch_embedding.weight\":{\"dtype\":"
               "\"BF16\",\"shape\":[%d,3,%d,%d],\"data_offsets\":[%zu,%zu]}",
               D, PATCH, PATCH, model->at, model->at + n_bytes);
    model->at += n_bytes;
}

static void write_model(const char *dir)
{
    static const char config[] =
        "{\"architectures\":[\"LlavaForConditionalGeneration\"],\"model_type\":\"llava\","
        "\"image_token_index\":511,\"projector_hidden_act\":\"gelu\","
        "\"vision_feature_layer\":-2,\"vision_feature_select_strategy\":\"default\","
        "\"text_config\":{\"model_type\":\"llama\",\"hidden_size\":64,"
        "\"intermediate_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":2,\"vocab_size\":512,\"max_position_embeddings\":4096,"
        "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":false},"
        "\"vision_config\":{\"model_type\":\"clip_vision_model\",\"hidden_size\":1024,"
        "\"intermediate_size\":4096,\"num_hidden_layers\":24,\"num_attention_heads\":16,"
        "\"image_size\":336,\"patch_size\":14,\"projection_dim\":768,\"vocab_size\":32000}}";
    static const char prep[] =
        "{\"image_processor_type\":\"CLIPImageProcessor\",\"do_resize\":true,\"size\":"
        "{\"shortest_edge\":336},\"do_center_crop\":true,\"crop_size\":{\"height\":336,"
        "\"width\":336},\"do_rescale\":true,\"rescale_factor\":0.00392156862745098,"
        "\"do_normalize\":true,\"do_convert_rgb\":true,\"resample\":3,"
        "\"image_mean\":[0.48145466,0.4578275,0.40821073],"
        "\"image_std\":[0.26862954,0.26130258,0.27577711]}";
    struct zero_model model = {.at = 0};

    put_tower(&model);
    put_decoder(&model);
    put_patches(&model);
    zero_model_write(&model, dir, config);
    zero_model_file(dir, "preprocessor_config.json", prep, strlen(prep), strlen(prep));
}

/* ---- images ------------------------------------------------------------------------------------ */

/* Smooth, with something of its own for each number, and no two alike. */
static struct picture make_picture(int number, int width, int height)
{
    struct picture picture = {width, height, host_alloc((size_t)width * (size_t)height * 3)};

    if (picture.rgb == NULL)
        fail("no memory");
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *rgb = picture.rgb + 3 * ((size_t)y * (size_t)width + (size_t)x);

            rgb[0] = (uint8_t)(x * 2 + number);
            rgb[1] = (uint8_t)(y * 3 + number / 7);
            rgb[2] = (uint8_t)(x / 8 * (number % 5) + y / 16 + number / 3);
        }
    return picture;
}

static void write_pictures(int n, const char *dir)
{
    for (int i = 0; i < n; i++) {
        struct picture picture = make_picture(i, 96, 64);
        char path[4096];

        snprintf(path, sizeof path, "%s/%d.png", dir, i);
        if (picture_write_png(path, &picture) != ST_OK)
            fail("cannot write a picture");
        host_free(picture.rgb);
    }
}

/* ---- figures ------------------------------------------------------------------------------------ */

static double encode_s(struct vision *vision, const struct vision_item *items, int n)
{
    const double begin_s = clock_now_s();
    bool done = false;

    if (vision_begin(vision, items, n) != ST_OK)
        fail("begin");
    while (!done)
        if (vision_part(vision, &done) != ST_OK)
            fail("part");
    return clock_now_s() - begin_s;
}

static void run(const struct model_source *source, const struct ops *ops, int n_threads)
{
    const struct vision_config *config = model_source_vision(source);
    struct threads *threads = NULL;
    struct vision_weights *weights = NULL;
    struct vision *vision = NULL;
    struct vision_plan plan;
    struct row_error why;
    struct picture picture = make_picture(1, 640, 480);

    if (threads_create(n_threads, &threads) != ST_OK ||
        vision_plan_make(config, picture.width, picture.height, &plan, &why) != ST_OK ||
        vision_weights_create(
            &(struct vision_weights_args){.source = source, .type = OPS_BF16, .threads = threads},
            &weights) != ST_OK ||
        vision_create(&(struct vision_args){.config = config,
                                            .weights = weights,
                                            .ops = ops,
                                            .threads = threads,
                                            .max_patches = MAX_IMAGES * plan.n_patches},
                      &vision) != ST_OK)
        fail("no tower");
    const size_t n_elems = (size_t)plan.n_patches * (size_t)vision_patch_elems(config);
    float *patches = host_alloc(n_elems * sizeof *patches);
    float *out = host_alloc((size_t)(MAX_IMAGES * plan.n_rows * config->D_out) * sizeof *out);
    struct vision_item items[MAX_IMAGES];
    if (patches == NULL || out == NULL)
        fail("no memory");

    const double begin_s = clock_now_s();
    if (vision_patches(config, &plan, picture.rgb, patches) != ST_OK)
        fail("no memory");
    const double prepare_s = clock_now_s() - begin_s;
    for (int i = 0; i < MAX_IMAGES; i++)
        items[i] =
            (struct vision_item){&plan, patches, out + (size_t)(i * plan.n_rows * config->D_out)};
    const double gflops = peak_gflops(threads, ops->name);
    const double flop = vision_flop(config, &plan);
    printf("%s, %d thread%s: multiply-add peak %.1f GFLOP/s, %.1f GFLOP an image\n", ops->name,
           n_threads, n_threads == 1 ? "" : "s", gflops, flop / 1e9);
    printf("  prepare  640 x 480 to %d patches  %8.2f ms (one thread, beside the engine)\n",
           plan.n_patches, prepare_s * 1e3);
    for (int n = 1; n <= MAX_IMAGES; n *= 4) {
        const double s = fmin(encode_s(vision, items, n), encode_s(vision, items, n));

        printf("  encode   %d image%s a step          %8.2f ms  %6.2f images/s  floor %8.2f ms  "
               "%5.1f %% of the peak\n",
               n, n == 1 ? " " : "s", s * 1e3, n / s, n * flop / gflops / 1e6,
               100 * n * flop / s / 1e9 / gflops);
    }
    host_free(out);
    host_free(patches);
    host_free(picture.rgb);
    vision_destroy(vision);
    vision_weights_destroy(weights);
    threads_destroy(threads);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/epidote-bench-XXXXXX";
    struct model_source *source = NULL;
    const struct ops *ops = NULL;

    if (argc == 4 && strcmp(argv[1], "--pictures") == 0) {
        write_pictures(atoi(argv[2]), argv[3]);
        return 0;
    }
    if (ops_find("auto", &ops) != ST_OK || strcmp(ops->name, "plain") == 0)
        fail("the floors are measured with AVX2, which this CPU lacks");
    if (mkdtemp(dir) == NULL)
        fail("no temporary folder");
    write_model(dir);
    const bool opened = model_open(dir, &source) == ST_OK;
    if (opened)
        for (int n = 1; n <= threads_default_count() && n <= 64; n *= 2)
            run(source, ops, n);
    model_close(source);
    zero_model_remove(dir);
    return !opened;
}
