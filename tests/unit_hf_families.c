/* TEST */
/*
 * unit_hf_families.c - config.json of each family as published models have it (transformers 4),
 * what absent keys mean, and what is refused, by name.
 */
#include "model/source.h"
#include "test.h"

#define QUOTE(...) #__VA_ARGS__ /* JSON as it is; commas included */

static enum status parse(const char *text, struct model_config *config)
{
    return hf_config_parse((const uint8_t *)text, strlen(text), "config.json", config);
}

static struct model_config parsed(const char *text)
{
    struct model_config c = {0};

    CHECK_INT(parse(text, &c), ST_OK);
    return c;
}

/* The configuration of a published model: tests/golden/configs/NAME.json. */
static struct model_config published(const char *name)
{
    char path[128];
    struct buf file = {0};
    struct model_config c = {0};

    snprintf(path, sizeof path, "tests/golden/configs/%s.json", name);
    CHECK_INT(file_read(path, 1u << 20, &file), ST_OK);
    CHECK_INT(hf_config_parse(file.data, file.n_bytes, path, &c), ST_OK);
    buf_free(&file);
    return c;
}

static int count(const struct model_config *c, int trait)
{
    int n = 0;

    for (int l = 0; l < c->L; l++)
        n += (c->layers[l] & trait) != 0;
    return n;
}

static bool near(double a, double b)
{
    return a > b * (1 - 1e-12) && a < b * (1 + 1e-12);
}

/* Llama 3.1 8B: the divisors are those of the rule's formula. */
static void llama3(void)
{
    const struct model_config c = published("llama3.1-8b");

    CHECK_STR(c.family, "llama");
    CHECK_STR(c.rope.scaling, "llama3");
    CHECK(c.rope.base == 500000.0 && c.E == 128 && c.n_eos == 3);
    CHECK(c.rope.divisors[0] == 1.0 && c.rope.divisors[28] == 1.0); /* waves below 2,048 tokens */
    CHECK(c.rope.divisors[29] > 1.0 && c.rope.divisors[34] < 8.0);
    CHECK(near(c.rope.divisors[35], 8.0) && near(c.rope.divisors[63], 8.0)); /* above 8,192 */
    for (int i = 1; i < 64; i++)
        CHECK(c.rope.divisors[i] >= c.rope.divisors[i - 1]);
}

static void mistral(void)
{
    struct model_config c = published("mistral-7b");

    CHECK(c.window == 4096 && count(&c, LAYER_WINDOW) == 32 && c.K == 8);
    c = parsed(QUOTE({"model_type" : "mistral", "sliding_window" : null}));
    CHECK(c.window == 0 && count(&c, LAYER_WINDOW) == 0);
    c = parsed(QUOTE({"model_type" : "mistral"})); /* the class's default */
    CHECK(c.window == 4096 && c.context == 131072 && c.F == 14336);
}

static void qwen2(void)
{
    struct model_config c = published("qwen2.5-0.5b");

    CHECK(c.qkv_bias && !c.o_bias && c.E == 64 && c.tied);
    CHECK(c.window == 0 && count(&c, LAYER_WINDOW) == 0); /* not in use */
    c = parsed(QUOTE({
        "model_type" : "qwen2",
        "num_hidden_layers" : 24,
        "max_window_layers" : 21,
        "sliding_window" : 32,
        "use_sliding_window" : true
    }));
    CHECK(c.window == 32 && count(&c, LAYER_WINDOW) == 3 && c.layers[20] == 0);
    CHECK(c.layers[21] == LAYER_WINDOW && c.bos_id == -1 && c.n_eos == 0);
}

static void qwen3(void)
{
    const struct model_config c = published("qwen3-0.6b");

    CHECK(c.qk_norm == QK_NORM_HEAD && c.E == 128 && c.window == 0 && !c.qkv_bias && !c.o_bias);
}

static void gemma2(void)
{
    const struct model_config c = published("gemma2-27b");

    CHECK(c.tied && c.post_norm && !c.no_pre_norm && c.activation == ACTIVATION_GELU);
    CHECK(c.attn_softcap == 50 && c.final_softcap == 30 && near(c.attn_scale, 1 / 12.0));
    CHECK(near(c.embed_scale * c.embed_scale, 4608) && c.embed_scale_rounded);
    CHECK(c.window == 4096 && count(&c, LAYER_WINDOW) == 23 && c.layers[0] == LAYER_WINDOW);
    CHECK(c.layers[1] == 0 && c.rope_window.base == 0); /* one RoPE */
}

static void gemma3(void)
{
    struct model_config c = published("gemma3-1b");

    CHECK(c.qk_norm == QK_NORM_HEAD && c.attn_softcap == 0 && c.final_softcap == 0 && c.tied);
    CHECK(c.rope.base == 1000000 && c.rope_window.base == 10000 && c.window == 512);
    CHECK(count(&c, LAYER_WINDOW) == 22 && c.layers[4] == LAYER_WINDOW && c.layers[5] == 0);
    CHECK(near(c.attn_scale, 1 / 16.0) && c.rope.scaling[0] == '\0');
    /* scaling is of the global layers alone; transformers 5 nests */
    c = parsed(QUOTE({
        "model_type" : "gemma3_text",
        "rope_scaling" : {"factor" : 8.0, "rope_type" : "linear"},
        "rope_theta" : 500000.0,
        "_sliding_window_pattern" : 6,
        "use_bidirectional_attention" : false
    }));
    CHECK(c.rope.base == 500000 && c.rope.divisors[127] == 8.0 && c.rope_window.scaling[0] == '\0');
    CHECK(c.L == 26 && c.V == 262208 && c.window == 4096);
    c = parsed(QUOTE({
        "model_type" : "gemma3_text",
        "num_hidden_layers" : 2,
        "layer_types" : [ "full_attention", "sliding_attention" ],
        "rope_parameters" : {
            "full_attention" : {"rope_type" : "default"},
            "sliding_attention" : {"rope_theta" : 20000.0, "rope_type" : "default"}
        }
    }));
    CHECK(c.rope.base == 1000000 && c.rope_window.base == 20000 && c.layers[0] == 0);
    CHECK(c.layers[1] == LAYER_WINDOW);
}

static void smollm3(void)
{
    struct model_config c = published("smollm3");

    CHECK(c.tied && c.bos_id == -1 && count(&c, LAYER_NO_ROPE) == 1 &&
          c.layers[3] == LAYER_NO_ROPE);
    c = parsed(QUOTE({"model_type" : "smollm3"}));
    CHECK(c.L == 36 && count(&c, LAYER_NO_ROPE) == 9 && count(&c, LAYER_WINDOW) == 0);
    c = parsed(QUOTE({
        "model_type" : "smollm3",
        "use_sliding_window" : true,
        "sliding_window" : 9,
        "no_rope_layer_interval" : 2
    }));
    CHECK(count(&c, LAYER_NO_ROPE) == 18 && c.layers[1] == (LAYER_NO_ROPE | LAYER_WINDOW));
}

static void phi3(void)
{
    const struct model_config c = published("phi3-mini-4k");

    CHECK(c.E == 96 && c.window == 2047 && count(&c, LAYER_WINDOW) == 32 && !c.tied);
}

static void olmo2(void)
{
    const struct model_config c = published("olmo2-1b");

    CHECK(c.qk_norm == QK_NORM_ALL && c.no_pre_norm && c.post_norm && c.bos_id == -1);
}

static void granite(void)
{
    struct model_config c = published("granite3.3-2b");

    CHECK(c.embed_scale == 12 && c.residual_scale == 0.22 && c.attn_scale == 0.015625);
    CHECK(c.logit_scale == 0.125 && !c.embed_scale_rounded);
    c = parsed(QUOTE({"model_type" : "granite"}));
    CHECK(c.attn_scale == 1 && c.logit_scale == 1); /* not 1/sqrt(E) */
}

static void experts(void)
{
    struct model_config c = published("mixtral-8x7b");

    CHECK(c.X == 8 && c.n_used_experts == 2 && c.normalise_experts && c.window == 0 &&
          c.F == 14336);
    c = published("qwen3-30b-a3b");
    CHECK(c.X == 128 && c.n_used_experts == 8 && c.normalise_experts && c.F == 768 && c.L == 48);
    CHECK(c.qk_norm == QK_NORM_HEAD && c.window == 0);
    c = published("olmoe-1b-7b");
    CHECK(c.X == 64 && !c.normalise_experts && c.qk_norm == QK_NORM_ALL && c.eps == 1e-5f);
}

/* A file that says nothing means what the family's class means: a line of defaults.txt. */
static void class_defaults(void)
{
    struct buf file = {0};
    int n_families = 0;

    CHECK_INT(file_read("tests/golden/configs/defaults.txt", 1u << 20, &file), ST_OK);
    CHECK_INT(buf_put(&file, "", 1), ST_OK);
    char *text = (char *)file.data;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), n_families++) {
        char family[32], json[80], got[512];

        CHECK_INT(sscanf(line, "%31s", family), 1);
        snprintf(json, sizeof json, "{\"model_type\": \"%s\"}", family);
        const struct model_config c = parsed(json);
        const int n_windows = count(&c, LAYER_WINDOW);
        snprintf(
            got, sizeof got,
            "%s V %d D %d F %d L %d H %d K %d E %d context %d eps %g base %g local %g tied %d "
            "bos %d eos %d window %d in %d no_rope %d experts %d used %d normalised %d caps %g "
            "%g scale %.6f",
            family, c.V, c.D, c.F, c.L, c.H, c.K, c.E, c.context, (double)c.eps, c.rope.base,
            c.rope_window.base, c.tied, c.bos_id, c.n_eos > 0 ? c.eos_ids[0] : -1, c.window,
            n_windows, count(&c, LAYER_NO_ROPE), c.X, c.n_used_experts, c.normalise_experts,
            c.attn_softcap, c.final_softcap, c.attn_scale);
        CHECK_STR(got, line);
    }
    CHECK_INT(n_families, FAMILY_COUNT - 1); /* all but the one that has a tower */
    buf_free(&file);
}

static const struct refused {
    const char *family, *text; /* {"model_type": "family", text} */
    enum status status;
    const char *says[2];
} refused[] = {
    {"gemma3", "\"x\": 1", ST_UNSUPPORTED, {"family gemma3", "gemma3_text"}},
    {"gemma", "\"x\": 1", ST_UNSUPPORTED, {"family gemma is"}},
    {"mistral",
     "\"architectures\": [\"LlamaForCausalLM\"]",
     ST_UNSUPPORTED,
     {"MistralForCausalLM"}},
    {"mistral", "\"attention_bias\": true", ST_UNSUPPORTED, {"attention_bias = true"}},
    {"mistral", "\"sliding_window\": 0", ST_FORMAT, {"sliding_window must be a positive"}},
    {"mistral",
     "\"sliding_window\": null, \"layer_types\": [\"sliding_attention\"]",
     ST_UNSUPPORTED,
     {"layer_types", "sliding_attention"}},
    {"llama", "\"norm_topk_prob\": true", ST_UNSUPPORTED, {"norm_topk_prob is not known", "llama"}},
    {"llama",
     "\"query_pre_attn_scalar\": 256",
     ST_UNSUPPORTED,
     {"query_pre_attn_scalar is not kn"}},
    {"llama", "\"use_sliding_window\": true", ST_UNSUPPORTED, {"use_sliding_window = true"}},
    {"llama", "\"num_hidden_layers\": 5000", ST_UNSUPPORTED, {"5000 layers are not supported"}},
    {"qwen2", "\"use_mrope\": true", ST_UNSUPPORTED, {"use_mrope = true"}},
    {"qwen2",
     "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}",
     ST_UNSUPPORTED,
     {"rope_scaling.type = \"yarn\"", "not supported"}},
    {"qwen2", "\"use_sliding_window\": 1", ST_FORMAT, {"use_sliding_window must be true or false"}},
    {"qwen3", "\"max_window_layers\": -1", ST_FORMAT, {"max_window_layers must be"}},
    {"qwen3",
     "\"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"]",
     ST_FORMAT,
     {"sliding_window must be", "in use"}},
    {"qwen3",
     "\"layer_types\": [\"full_attention\"]",
     ST_FORMAT,
     {"layer_types must be a list with"}},
    {"qwen3", "\"layer_types\": [\"linear_attention\"]", ST_UNSUPPORTED, {"linear_attention"}},
    {"gemma2", "\"hidden_activation\": \"gelu\"", ST_UNSUPPORTED, {"hidden_activation = \"gelu\""}},
    {"gemma2", "\"query_pre_attn_scalar\": 0", ST_FORMAT, {"query_pre_attn_scalar must be"}},
    {"gemma2", "\"attn_logit_softcapping\": -1", ST_FORMAT, {"soft cap"}},
    {"gemma2", "\"use_bidirectional_attention\": true", ST_UNSUPPORTED, {"use_bidirectional"}},
    {"gemma3_text", "\"attn_logit_softcapping\": 50.0", ST_UNSUPPORTED, {"attn_logit_softcapping"}},
    {"gemma3_text", "\"rope_local_base_freq\": 0", ST_FORMAT, {"RoPE base 0"}},
    {"gemma3_text",
     "\"rope_parameters\": {\"rope_theta\": 1e6}",
     ST_UNSUPPORTED,
     {"rope_parameters.rope_theta"}},
    {"gemma3_text",
     "\"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"longrope\"}}",
     ST_UNSUPPORTED,
     {"rope_parameters.sliding_attention.rope_type = \"longrope\""}},
    {"smollm3", "\"no_rope_layers\": [1]", ST_FORMAT, {"no_rope_layers must be", "each layer"}},
    {"smollm3",
     "\"num_hidden_layers\": 1, \"no_rope_layers\": [2]",
     ST_FORMAT,
     {"no_rope_layers must be"}},
    {"phi3",
     "\"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [1], \"short_factor\": [1]}",
     ST_UNSUPPORTED,
     {"rope_scaling.type = \"longrope\""}},
    {"phi3", "\"partial_rotary_factor\": 0.75", ST_UNSUPPORTED, {"partial_rotary_factor = 0.75"}},
    {"granite", "\"logits_scaling\": 0", ST_FORMAT, {"logits_scaling must be above 0"}},
    {"granite", "\"attention_multiplier\": null", ST_FORMAT, {"attention_multiplier must be"}},
    {"olmo2", "\"sliding_window\": 4096", ST_UNSUPPORTED, {"sliding_window = 4096"}},
    {"mixtral", "\"num_experts_per_tok\": 9", ST_FORMAT, {"9 of 8 experts"}},
    {"mixtral", "\"num_local_experts\": 4096", ST_UNSUPPORTED, {"4096 experts are not supported"}},
    {"qwen3_moe", "\"mlp_only_layers\": [0]", ST_UNSUPPORTED, {"mlp_only_layers = [0]"}},
    {"qwen3_moe", "\"decoder_sparse_step\": 2", ST_UNSUPPORTED, {"decoder_sparse_step = 2"}},
    {"qwen3_moe", "\"shared_expert_intermediate_size\": 9", ST_UNSUPPORTED, {"is not known"}},
    {"olmoe", "\"clip_qkv\": 8.0", ST_UNSUPPORTED, {"clip_qkv = 8"}},
    {"olmoe", "\"norm_topk_prob\": null", ST_FORMAT, {"norm_topk_prob must be true or false"}},
};

static void each_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const struct refused *r = &refused[i];
        struct model_config c = {.L = 77};
        char text[512];

        snprintf(text, sizeof text, "{\"model_type\": \"%s\", %s}", r->family, r->text);
        const enum status st = parse(text, &c);
        if (st != r->status)
            fprintf(stderr, "%s\n", text);
        CHECK_INT(st, r->status);
        CHECK_INT(c.L, 77); /* outputs are written only on success */
        CHECK_HAS(log_last_error(), "config.json: ");
        for (int s = 0; s < 2 && r->says[s] != NULL; s++)
            CHECK_HAS(log_last_error(), r->says[s]);
    }
}

int main(void)
{
    class_defaults();
    llama3();
    mistral();
    qwen2();
    qwen3();
    gemma2();
    gemma3();
    smollm3();
    phi3();
    olmo2();
    granite();
    experts();
    each_refused();
    TEST_END();
}
