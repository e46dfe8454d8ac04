/* TEST */
/*
 * unit_vision_config.c - config.json of vision-language models as published ones have it
 * (transformers 4) and as transformers 5 writes it, what is refused, by name; and the names that
 * their tensors have had.
 */
#include "checkpoint.h"
#include "model/tower.h"

#define GOLDEN "tests/golden/vision/"
#define QUOTE(...) #__VA_ARGS__ /* JSON as it is; commas included */

struct both {
    struct model_config decoder;
    struct vision_config tower;
};

static enum status parse(const char *text, struct both *out)
{
    bool sees = false;
    const enum status st = hf_config_parse_all((const uint8_t *)text, strlen(text), "config.json",
                                               &out->decoder, &out->tower, &sees);

    CHECK(st != ST_OK || sees);
    return st;
}

static struct both parsed(const char *text)
{
    struct both both = {0};
    const enum status st = parse(text, &both);

    if (st != ST_OK)
        fprintf(stderr, "%s\n", log_last_error());
    CHECK_INT(st, ST_OK);
    return both;
}

/* ---- published ones ----------------------------------------------------------------------------- */

static void llava(void)
{
    const struct both both = parsed(QUOTE({
        "architectures" : ["LlavaForConditionalGeneration"],
        "ignore_index" : -100,
        "image_token_index" : 32000,
        "model_type" : "llava",
        "pad_token_id" : 32001,
        "projector_hidden_act" : "gelu",
        "text_config" : {
            "_name_or_path" : "lmsys/vicuna-7b-v1.5",
            "architectures" : ["LlamaForCausalLM"],
            "max_position_embeddings" : 4096,
            "model_type" : "llama",
            "rms_norm_eps" : 1e-05,
            "torch_dtype" : "float16",
            "vocab_size" : 32064
        },
        "tie_word_embeddings" : false,
        "torch_dtype" : "float16",
        "transformers_version" : "4.36.0.dev0",
        "vision_config" : {
            "hidden_size" : 1024,
            "image_size" : 336,
            "intermediate_size" : 4096,
            "model_type" : "clip_vision_model",
            "num_attention_heads" : 16,
            "num_hidden_layers" : 24,
            "patch_size" : 14,
            "projection_dim" : 768,
            "vocab_size" : 32000
        },
        "hidden_size" : 4096,
        "vision_feature_layer" : -2,
        "vision_feature_select_strategy" : "default",
        "vocab_size" : 32064
    }));
    const struct model_config *c = &both.decoder;
    const struct vision_config *v = &both.tower;

    CHECK(c->V == 32064 && c->D == 4096 && c->L == 32 && c->context == 4096 && !c->tied);
    CHECK(c->image_id == 32000 && c->mrope[0] == 0);
    CHECK(v->layout == VISION_LLAVA && v->L == 23 && v->L_file == 24 && v->D == 1024);
    CHECK(v->F == 4096 && v->H == 16 && v->E == 64 && v->patch == 14 && v->grid == 24);
    CHECK(v->merge == 1 && v->patch_frames == 1 && v->eps == 1e-5 && v->D_out == 4096);
    CHECK(v->activation == VISION_QUICK_GELU && v->projector_activation == VISION_GELU_ERF);
    CHECK(v->class_token && !v->keep_class_token && v->pre_norm && !v->post_norm);
    CHECK(!v->patch_bias && v->projector_bias);
}

static void idefics3(void)
{
    const struct both both = parsed(QUOTE({
        "architectures" : ["Idefics3ForConditionalGeneration"],
        "image_token_id" : 49190,
        "model_type" : "idefics3",
        "scale_factor" : 4,
        "text_config" : {
            "_flash_attn_2_enabled" : true,
            "architectures" : ["VLlama3ForCausalLM"],
            "bos_token_id" : 0,
            "eos_token_id" : 0,
            "head_dim" : 64,
            "hidden_size" : 576,
            "intermediate_size" : 1536,
            "is_llama_config" : true,
            "max_position_embeddings" : 8192,
            "model_type" : "llama",
            "neftune_noise_alpha" : 0.0,
            "num_attention_heads" : 9,
            "num_hidden_layers" : 30,
            "num_key_value_heads" : 3,
            "pad_token_id" : 2,
            "perceiver_config" : {"resampler_depth" : 6},
            "pixel_shuffle_factor" : 4,
            "qk_layer_norms" : false,
            "rms_norm_eps" : 1e-05,
            "rope_interleaved" : false,
            "rope_scaling" : null,
            "rope_theta" : 100000,
            "tie_word_embeddings" : true,
            "torch_dtype" : "bfloat16",
            "transformers.js_config" : {"kv_cache_dtype" : {"fp16" : "float16"}},
            "use_cache" : true,
            "use_resampler" : false,
            "vocab_size" : 49280
        },
        "tie_word_embeddings" : false,
        "torch_dtype" : "bfloat16",
        "use_cache" : true,
        "use_reentrant_checkpointing" : false,
        "vision_config" : {
            "hidden_size" : 768,
            "image_size" : 512,
            "max_image_size" : {"longest_edge" : 512},
            "model_type" : "idefics3",
            "num_attention_heads" : 12,
            "patch_size" : 16,
            "size" : {"longest_edge" : 2048},
            "tie_word_embeddings" : false,
            "torch_dtype" : "bfloat16",
            "use_base_siglip" : false
        },
        "vocab_size" : 49280
    }));
    const struct vision_config *v = &both.tower;

    CHECK(both.decoder.image_id == 49190 && both.decoder.rope.base == 100000);
    CHECK(!both.decoder.tied); /* the decoder's part is not asked */
    CHECK(v->layout == VISION_IDEFICS3 && v->L == 12 && v->L_file == 12 && v->D == 768);
    CHECK(v->F == 3072 && v->H == 12 && v->grid == 32 && v->merge == 4 && v->eps == 1e-6);
    CHECK(v->activation == VISION_GELU_TANH && !v->class_token && v->patch_bias);
    CHECK(v->post_norm && !v->pre_norm && !v->projector_bias);
}

/* The decoder's keys between the others, and, as later versions saved it, twice. */
#define QWEN2VL_TEXT                                                                               \
    "\"bos_token_id\": 151643, \"eos_token_id\": 151645, \"hidden_act\": \"silu\", "               \
    "\"hidden_size\": 1536, \"intermediate_size\": 8960, \"max_position_embeddings\": 32768, "     \
    "\"max_window_layers\": 28, \"num_attention_heads\": 12, \"num_hidden_layers\": 28, "          \
    "\"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0, "             \
    "\"sliding_window\": 32768, \"tie_word_embeddings\": true, \"use_sliding_window\": false, "    \
    "\"vocab_size\": 151936, "
#define QWEN2VL_VISION                                                                             \
    "\"image_token_id\": 151655, \"vision_start_token_id\": 151652, \"vision_token_id\": 151654, " \
    "\"vision_config\": {\"depth\": 32, \"embed_dim\": 1280, \"mlp_ratio\": 4, \"num_heads\": 16," \
    " \"in_chans\": 3, \"hidden_size\": 1536, \"patch_size\": 14, \"spatial_merge_size\": 2, "     \
    "\"spatial_patch_size\": 14, \"temporal_patch_size\": 2}"

static void is_qwen2vl(const struct both *both)
{
    const struct model_config *c = &both->decoder;
    const struct vision_config *v = &both->tower;

    CHECK_STR(c->family, "qwen2vl");
    CHECK(c->D == 1536 && c->L == 28 && c->H == 12 && c->K == 2 && c->E == 128 && c->tied);
    CHECK(c->qkv_bias && !c->o_bias && c->window == 0 && c->rope.base == 1e6);
    CHECK(c->mrope[0] == 16 && c->mrope[1] == 24 && c->mrope[2] == 24 && c->image_id == 151655);
    CHECK(v->layout == VISION_QWEN2VL && v->L == 32 && v->D == 1280 && v->F == 5120 && v->E == 80);
    CHECK(v->merge == 2 && v->patch_frames == 2 && v->patch == 14 && v->grid == 0);
    CHECK(v->activation == VISION_QUICK_GELU && v->projector_activation == VISION_GELU_ERF);
    CHECK(v->eps == 1e-6 && v->rope_base == 10000 && v->projector_bias && v->D_out == 1536);
}

static void qwen2vl(void)
{
    struct both both = parsed("{\"model_type\": \"qwen2_vl\", " QWEN2VL_TEXT
                              "\"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": [16, 24, "
                              "24]}, " QWEN2VL_VISION "}");

    is_qwen2vl(&both);
    both = parsed("{\"model_type\": \"qwen2_vl\", " QWEN2VL_TEXT
                  "\"text_config\": {\"model_type\": \"qwen2_vl_text\", " QWEN2VL_TEXT
                  "\"image_token_id\": 151655, \"rope_parameters\": {\"rope_type\": \"default\", "
                  "\"type\": \"default\", \"mrope_section\": [16, 24, 24], \"rope_theta\": "
                  "1e6}}, " QWEN2VL_VISION "}");
    is_qwen2vl(&both);
    /* What the class means by nothing. */
    both = parsed("{\"model_type\": \"qwen2_vl\", \"vision_config\": {\"hidden_size\": 8192}}");
    CHECK(both.decoder.V == 152064 && both.decoder.L == 80 && both.decoder.eps == 1e-5f);
    CHECK(both.decoder.image_id == 151655 && both.tower.L == 32 && both.tower.H == 16);
    CHECK(both.decoder.mrope[1] == 24 && !both.decoder.tied);
}

static void class_defaults(void)
{
    struct both both =
        parsed("{\"model_type\": \"llava\", \"text_config\": {\"vocab_size\": 32001}, "
               "\"vision_config\": {}}");

    CHECK(both.decoder.image_id == 32000 && both.tower.D == 768 && both.tower.L == 11);
    CHECK(both.tower.grid == 7 && both.tower.patch == 32 && both.tower.eps == 1e-5);
    both = parsed("{\"model_type\": \"smolvlm\", \"text_config\": {\"vocab_size\": 128258}, "
                  "\"vision_config\": {\"image_size\": 64, \"patch_size\": 4}}");
    CHECK(both.decoder.image_id == 128257 && both.tower.D == 1152 && both.tower.merge == 2);
    CHECK(both.tower.H == 16 && both.tower.F == 3072 && both.tower.E == 72);
    both = parsed("{\"model_type\": \"llava\", \"image_token_index\": 7, \"text_config\": "
                  "{\"model_type\": \"qwen2\"}, \"vision_feature_select_strategy\": \"full\", "
                  "\"vision_feature_layer\": 3, \"vision_config\": {\"model_type\": "
                  "\"siglip_vision_model\"}}");
    CHECK(both.tower.L == 3 && both.tower.L_file == 12 && !both.tower.class_token);
    CHECK(!both.tower.keep_class_token && both.tower.grid == 14 && both.tower.patch_bias);
}

/* ---- refused ------------------------------------------------------------------------------------ */

static const struct refused {
    const char *root, *text, *vision; /* keys of each object */
    enum status status;
    const char *says[2];
} refused[] = {
    {"\"vision_feature_layer\": [-2, -5]", "", "", ST_UNSUPPORTED, {"vision_feature_layer = [-2"}},
    {"\"vision_feature_layer\": -14", "", "", ST_FORMAT, {"vision_feature_layer must be"}},
    {"\"vision_feature_layer\": 13", "", "", ST_FORMAT, {"vision_feature_layer must be"}},
    {"\"vision_feature_select_strategy\": \"cls\"", "", "", ST_UNSUPPORTED, {"= \"cls\""}},
    {"\"projector_hidden_act\": \"relu\"", "", "", ST_UNSUPPORTED, {"projector_hidden_act"}},
    {"\"quantization_config\": {\"quant_method\": \"fp8\"}",
     "",
     "",
     ST_UNSUPPORTED,
     {"quantization_config"}},
    {"\"scale_factor\": 2", "", "", ST_UNSUPPORTED, {"scale_factor is not known"}},
    {"\"image_token_index\": 64", "", "", ST_FORMAT, {"image_token_index must be"}},
    {"\"image_token_id\": null", "", "", ST_FORMAT, {"image_token_id must be"}},
    {"\"architectures\": [\"LlavaNextForConditionalGeneration\"]",
     "",
     "",
     ST_UNSUPPORTED,
     {"LlavaNext", "LlavaForConditionalGeneration"}},
    {"", "\"model_type\": \"gemma2\"", "", ST_UNSUPPORTED, {"gemma2", "llava"}},
    {"", "\"model_type\": \"bloom\"", "", ST_UNSUPPORTED, {"text_config: ", "bloom"}},
    {"", "\"qk_layer_norms\": true", "", ST_UNSUPPORTED, {"text_config: ", "qk_layer_norms"}},
    {"", "", "\"model_type\": \"dinov2\"", ST_UNSUPPORTED, {"vision_config: ", "dinov2"}},
    {"", "", "\"hidden_act\": \"relu\"", ST_UNSUPPORTED, {"hidden_act = \"relu\""}},
    {"", "", "\"num_channels\": 1", ST_UNSUPPORTED, {"num_channels = 1"}},
    {"", "", "\"image_size\": [336, 336]", ST_FORMAT, {"image_size must be"}},
    {"", "", "\"image_size\": 4", ST_FORMAT, {"patches along an edge of the tower: 0"}},
    {"", "", "\"num_attention_heads\": 7", ST_FORMAT, {"768 with 7 heads"}},
    {"", "", "\"num_attention_heads\": 1", ST_UNSUPPORTED, {"head size 768"}},
    {"", "", "\"num_hidden_layers\": 5000", ST_FORMAT, {"layers of the tower: 5000"}},
    {"", "", "\"hidden_size\": 2147483647", ST_FORMAT, {"width of the tower"}},
    {"", "", "\"layer_norm_eps\": 2", ST_FORMAT, {"epsilon 2"}},
    {"", "", "\"use_rope_2d\": true", ST_UNSUPPORTED, {"vision_config: ", "use_rope_2d is not"}},
};

static void expect_refused(const char *text, const struct refused *r)
{
    struct both both = {.decoder = {.L = 77}, .tower = {.L = 78}};
    const enum status st = parse(text, &both);

    if (st != r->status)
        fprintf(stderr, "%s\n", text);
    CHECK_INT(st, r->status);
    CHECK(both.decoder.L == 77 && both.tower.L == 78); /* written only on success */
    CHECK_HAS(log_last_error(), "config.json: ");
    for (int s = 0; s < 2 && r->says[s] != NULL; s++)
        CHECK_HAS(log_last_error(), r->says[s]);
}

static void each_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const struct refused *r = &refused[i];
        const bool has_id = strstr(r->root, "image_token") != NULL;
        char text[1024];

        snprintf(text, sizeof text,
                 "{\"model_type\": \"llava\"%s%s%s, \"text_config\": {\"vocab_size\": 64%s%s}, "
                 "\"vision_config\": {%s}}",
                 has_id ? "" : ", \"image_token_index\": 7", r->root[0] != '\0' ? ", " : "",
                 r->root, r->text[0] != '\0' ? ", " : "", r->text, r->vision);
        expect_refused(text, r);
    }
    static const struct refused whole[] = {
        {"{\"model_type\": \"llava\", \"vision_config\": {}}",
         NULL,
         NULL,
         ST_FORMAT,
         {"text_config must be an object"}},
        {"{\"model_type\": \"qwen2_vl\"}", NULL, NULL, ST_FORMAT, {"vision_config must be"}},
        {"{\"model_type\": \"qwen2_vl\", \"hidden_size\": 64, \"num_attention_heads\": 2, "
         "\"num_key_value_heads\": 2, \"vision_config\": {\"hidden_size\": 64}}",
         NULL,
         NULL,
         ST_FORMAT,
         {"mrope_section", "64 pairs where a head of 32"}},
        {"{\"model_type\": \"qwen2_vl\", \"vision_config\": {}}",
         NULL,
         NULL,
         ST_FORMAT,
         {"hidden_size is 3584", "8192"}},
        {"{\"model_type\": \"qwen2_vl\", \"vision_config\": {\"hidden_size\": 8192, "
         "\"rope_parameters\": {\"rope_type\": \"yarn\"}}}",
         NULL,
         NULL,
         ST_UNSUPPORTED,
         {"rope_parameters"}},
        {"{\"model_type\": \"qwen2_vl\", \"rope_scaling\": {\"type\": \"mrope\", "
         "\"mrope_section\": [16, 48]}, \"vision_config\": {\"hidden_size\": 8192}}",
         NULL,
         NULL,
         ST_FORMAT,
         {"mrope_section must be"}},
        {"{\"model_type\": \"qwen2_vl\", \"text_config\": {\"model_type\": \"llama\"}, "
         "\"vision_config\": {}}",
         NULL,
         NULL,
         ST_UNSUPPORTED,
         {"family llama", "qwen2_vl"}},
        {"{\"model_type\": \"idefics3\", \"text_config\": {\"vocab_size\": 128258}, "
         "\"scale_factor\": 2, \"vision_config\": {}}",
         NULL,
         NULL,
         ST_FORMAT,
         {"7 patches an edge, merged by 2"}},
    };
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        expect_refused(whole[i].root, &whole[i]);
}

/* ---- names of tensors --------------------------------------------------------------------------- */

/* A copy of a checkpoint in which names that begin with from[i] begin with to[i] instead; the first
 * that fits counts. */
static void renamed(struct checkpoint *cp, const char *const *from, const char *const *to, size_t n)
{
    json_t *header = json_object();
    const char *name;
    json_t *entry;
    struct buf file = {0};

    json_object_foreach(cp->header, name, entry)
    {
        char full[256];

        snprintf(full, sizeof full, "%s", name);
        for (size_t i = 0; i < n; i++) {
            if (strncmp(name, from[i], strlen(from[i])) != 0)
                continue;
            snprintf(full, sizeof full, "%s%s", to[i], name + strlen(from[i]));
            break;
        }
        json_object_set(header, full, entry);
    }
    char *text = json_dumps(header, JSON_COMPACT);
    const uint64_t n_text = strlen(text);
    RIG_OK(buf_put(&file, &n_text, sizeof n_text));
    RIG_OK(buf_put(&file, text, n_text));
    RIG_OK(buf_put(&file, cp->data, cp->file.n_bytes - (size_t)(cp->data - cp->file.data)));
    buf_free(&cp->file);
    cp->file = file;
    json_decref(header);
    free(text);
}

static uint64_t fingerprint_of(const char *dir)
{
    struct model_source *source;

    RIG_OK(model_open(dir, &source));
    const uint64_t fingerprint = model_source_fingerprint(source);
    model_close(source);
    return fingerprint;
}

static void same_under(const char *model, const char *const *from, const char *const *to, size_t n)
{
    char dir[128];

    snprintf(dir, sizeof dir, GOLDEN "%s", model);
    struct checkpoint cp = checkpoint_read(dir);
    renamed(&cp, from, to, n);
    CHECK(fingerprint_of(checkpoint_write(&cp)) == fingerprint_of(dir));
    checkpoint_end(&cp);
}

static void names(void)
{
    /* From what transformers 5 saves for the goldens to what its classes and older versions have.
     */
    static const char *const llava_from[] = {"language_model.model.", "language_model.lm_head.",
                                             "vision_tower.", "multi_modal_projector."};
    static const char *const llava_to[][4] = {
        {"model.language_model.", "lm_head.", "model.vision_tower.",
         "model.multi_modal_projector."},
        {"model.language_model.", "lm_head.", "model.vision_tower.vision_model.",
         "model.multi_modal_projector."},
        {"language_model.model.", "language_model.lm_head.", "vision_tower.vision_model.",
         "multi_modal_projector."},
    };
    static const char *const qwen_from[] = {"model.", "visual."};
    static const char *const qwen_to[] = {"model.language_model.", "model.visual."};

    for (size_t i = 0; i < sizeof llava_to / sizeof llava_to[0]; i++) {
        same_under("llava", llava_from, llava_to[i], 4);
        same_under("llava-full", llava_from, llava_to[i], 4);
    }
    same_under("qwen2vl", qwen_from, qwen_to, 2);
}

static void bad_tensors(void)
{
    static const struct {
        const char *from, *to, *says;
        enum status status;
    } cases[] = {
        {"vision_tower.post_layernorm.bias", "vision_tower.middle_layernorm.bias",
         "tensor vision_tower.middle_layernorm.bias", ST_UNSUPPORTED},
        {"vision_tower.encoder.layers.2.", "vision_tower.encoder.layers.3.",
         "tensor vision_tower.encoder.layers.3.", ST_UNSUPPORTED},
        {"vision_tower.pre_layrnorm.bias", "vision_tower.extra",
         "tensor *.pre_layrnorm.bias is missing", ST_FORMAT},
        {"multi_modal_projector.linear_1.weight", "multi_modal_projector.linear_3.weight",
         "tensor *.linear_1.weight is missing", ST_FORMAT},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct checkpoint cp = checkpoint_read(GOLDEN "llava");
        struct model_source *source = NULL;

        renamed(&cp, &cases[i].from, &cases[i].to, 1);
        CHECK_INT(model_open(checkpoint_write(&cp), &source), cases[i].status);
        CHECK_HAS(log_last_error(), cases[i].says);
        checkpoint_end(&cp);
    }
}

/* A weight of the tower changes the fingerprint, and a NaN in one is found. */
static void contents(void)
{
    struct checkpoint cp = checkpoint_read(GOLDEN "llava");
    const struct checkpoint_tensor t =
        checkpoint_tensor(&cp, "vision_tower.encoder.layers.1.mlp.fc1.weight");
    struct model_source *source;
    struct threads *threads;
    struct vision_weights *weights = NULL;

    checkpoint_set(&t, 24 * 3 + 5, 0x7fc0); /* row 3 */
    checkpoint_write(&cp);
    CHECK(fingerprint_of(cp.dir) != fingerprint_of(GOLDEN "llava"));
    RIG_OK(model_open(cp.dir, &source));
    RIG_OK(threads_create(2, &threads));
    CHECK_INT(
        vision_weights_create(
            &(struct vision_weights_args){.source = source, .type = OPS_BF16, .threads = threads},
            &weights),
        ST_FORMAT);
    CHECK_HAS(log_last_error(), "encoder.layers.1.mlp.fc1.weight, row 3 of 40");
    model_close(source);
    threads_destroy(threads);
    checkpoint_end(&cp);
}

static void inspected(void)
{
    static const char *const says[][2] = {
        {"llava", "llava: 2 layers that count, width 24"},
        {"idefics3", "6 x 6 patches of 4, 4 embeddings"},
        {"qwen2vl", "an embedding for each 8 x 8 pixels; token 60"},
    };

    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        struct model_source *source;
        struct buf text = {0};
        char dir[128];

        snprintf(dir, sizeof dir, GOLDEN "%s", says[i][0]);
        RIG_OK(model_open(dir, &source));
        RIG_OK(model_inspect(source, &text));
        RIG_OK(buf_put(&text, "", 1));
        CHECK_HAS((const char *)text.data, says[i][1]);
        buf_free(&text);
        model_close(source);
    }
}

int main(void)
{
    llava();
    idefics3();
    qwen2vl();
    class_defaults();
    each_refused();
    names();
    bad_tensors();
    contents();
    inspected();
    TEST_END();
}
