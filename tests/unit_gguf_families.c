/* TEST */
/*
 * unit_gguf_families.c - hyper-parameters from the keys of a GGUF file, family by family: what the
 * keys mean, what the family decides where there is none, and what is refused, by name.
 */
#include "gguf_writer.h"
#include "model/gguf.h"
#include "test.h"

/* A key and its value as text: "name u 6", "name f 0.5", "name b 1", "name s text",
 * "name a 10" (an array of booleans), "name -" (dropped); names stand behind the family's. */
static void edit(struct file *f, const char *arch, const char *text)
{
    char name[51], kind, value[64] = "", full[80];

    CHECK(sscanf(text, "%50s %c %63s", name, &kind, value) >= 2);
    snprintf(full, sizeof full, "%.20s.%s", arch, name);
    if (kind == 'u')
        key_u32(f, full, (uint32_t)strtoul(value, NULL, 10));
    if (kind == 'f')
        key_float(f, full, strtof(value, NULL));
    if (kind == 'b')
        buf_put(key(f, full, BOOL), value[0] == '1' ? "\1" : "", 1);
    if (kind == 's')
        key_text(f, full, value);
    if (kind == 'a') {
        struct buf *array = key(f, full, ARRAY);

        put_u32(array, BOOL);
        put_u64(array, strlen(value));
        for (size_t i = 0; i < strlen(value); i++)
            buf_put(array, value[i] == '1' ? "\1" : "", 1);
    }
    for (int i = 0; i < f->n_keys && kind == '-'; i++)
        if (strcmp(f->keys[i].name, full) == 0)
            snprintf(f->keys[i].name, sizeof f->keys[i].name, "general.dropped%d", i);
}

/* The file of gguf_writer.h as one of another family, with up to six edits. */
static enum status read_keys(const char *arch, const char *const *edits, struct model_config *out)
{
    struct file f = {0};
    struct buf bytes;
    struct arena *arena = NULL;
    const struct model_family *family = NULL;

    fill_keys(&f);
    for (int i = 0; i < f.n_keys; i++) {
        char behind[80];

        if (strncmp(f.keys[i].name, "llama.", 6) != 0)
            continue;
        snprintf(behind, sizeof behind, "%s", f.keys[i].name + 5);
        snprintf(f.keys[i].name, sizeof f.keys[i].name, "%.20s%.50s", arch, behind);
    }
    key_text(&f, "general.architecture", arch);
    for (int i = 0; i < 6 && edits != NULL && edits[i] != NULL; i++)
        edit(&f, arch, edits[i]);
    write_file(&f, &bytes);
    CHECK(arena_create(4096, &arena) == ST_OK);
    struct gguf g = {
        .origin = "test.gguf", .data = bytes.data, .n_bytes = bytes.n_bytes, .arena = arena};
    CHECK(gguf_read_values(&g) == ST_OK);
    const enum status st = gguf_read_hparams(&g, &family, out);
    if (st == ST_OK)
        CHECK_STR(family->gguf_arch, arch);
    arena_destroy(arena);
    buf_free(&bytes);
    free_file(&f);
    return st;
}

#define EDITS(...) ((const char *const[7]){__VA_ARGS__})

static struct model_config read_ok(const char *arch, const char *const *edits)
{
    struct model_config c = {0};

    CHECK_INT(read_keys(arch, edits, &c), ST_OK);
    return c;
}

static bool near(double a, double b)
{
    return a > b * (1 - 1e-6) && a < b * (1 + 1e-6);
}

/* ---- what is right ---------------------------------------------------------------------------- */

static void llama(void)
{
    struct model_config c = read_ok("llama", NULL);

    CHECK(c.qk_norm == QK_NORM_NONE && c.X == 0 && c.window == 0 && c.attn_scale == 0);
    CHECK(c.rope.scaling[0] == '\0' && c.rope_window.base == 0);
    c = read_ok("llama", EDITS("rope.scaling.type s linear", "rope.scaling.factor f 4"));
    CHECK_STR(c.rope.scaling, "linear");
    CHECK(c.rope.divisors[0] == 4 && c.rope.divisors[E / 2 - 1] == 4);
    c = read_ok("llama", EDITS("rope.scale_linear f 2")); /* as early files say it */
    CHECK(c.rope.divisors[3] == 2);
    c = read_ok("llama", EDITS("rope.scaling.type s none", "rope.scaling.factor f 4"));
    CHECK(c.rope.scaling[0] == '\0');
    c = read_ok("llama", EDITS("attention.sliding_window u 7")); /* mistral */
    CHECK(c.window == 7 && c.layers[0] == LAYER_WINDOW && c.layers[1] == LAYER_WINDOW);
    c = read_ok("llama", EDITS("expert_count u 8", "expert_used_count u 2")); /* mixtral */
    CHECK(c.X == 8 && c.n_used_experts == 2 && c.normalise_experts && c.F == F);
    c = read_ok("llama", EDITS("expert_count u 0", "expert_used_count u 0"));
    CHECK(c.X == 0 && !c.normalise_experts);
    c = read_ok("llama", EDITS("vocab_size -", "rope.freq_base -", "attention.key_length -",
                               "attention.value_length -", "rope.dimension_count -"));
    CHECK(c.V == -1 && c.rope.base == 10000 && c.E == D / H);
}

static void gemma(void)
{
    struct model_config c = read_ok("gemma2", NULL);

    CHECK(c.window == 4096 && c.layers[0] == LAYER_WINDOW && c.layers[1] == 0);
    CHECK(c.attn_softcap == 50 && c.final_softcap == 30 && near(c.attn_scale, 0.25));
    CHECK(near(c.embed_scale * c.embed_scale, D) && c.post_norm && c.embed_scale_rounded);
    CHECK(c.activation == ACTIVATION_GELU && c.rope_window.base == 0);
    c = read_ok("gemma2", EDITS("attn_logit_softcapping f 20", "final_logit_softcapping f 10",
                                "attention.sliding_window u 0"));
    CHECK(c.attn_softcap == 20 && c.final_softcap == 10 && c.window == 0 && c.layers[0] == 0);
    c = read_ok("gemma2", EDITS("block_count u 46", "embedding_length u 96"));
    CHECK(near(c.attn_scale, 1 / 4.898979)); /* the 27B goes by 96 / 4 = 24 */

    c = read_ok("gemma3", EDITS("attention.sliding_window u 512", "block_count u 12"));
    CHECK(c.window == 512 && c.layers[4] == LAYER_WINDOW && c.layers[5] == 0 && c.layers[11] == 0);
    CHECK(c.rope.base == 5000 && c.rope_window.base == 10000 && c.qk_norm == QK_NORM_HEAD);
    CHECK(c.attn_softcap == 0 && c.final_softcap == 0);
    c = read_ok("gemma3", EDITS("rope.scaling.type s linear", "rope.scaling.factor f 8",
                                "rope.freq_base_swa f 20000", "attention.sliding_window u 9",
                                "attention.sliding_window_pattern a 01"));
    CHECK(c.rope.divisors[0] == 8 && c.rope_window.base == 20000);
    CHECK(c.rope_window.scaling[0] == '\0' && c.layers[0] == 0 && c.layers[1] == LAYER_WINDOW);
    c = read_ok("gemma3", EDITS("attention.sliding_window u 9",
                                "attention.sliding_window_pattern u 2", "block_count u 4"));
    CHECK(c.layers[0] == LAYER_WINDOW && c.layers[1] == 0 && c.layers[2] == LAYER_WINDOW);
    c = read_ok("gemma3", EDITS("attention.sliding_window_pattern a 11")); /* of no width */
    CHECK(c.window == 0 && c.layers[0] == 0);
}

static void others(void)
{
    struct model_config c = read_ok("qwen2", NULL);

    CHECK(c.qkv_bias && c.qk_norm == QK_NORM_NONE);
    c = read_ok("qwen3", NULL);
    CHECK(c.qk_norm == QK_NORM_HEAD && !c.qkv_bias);
    c = read_ok("smollm3", EDITS("block_count u 8"));
    CHECK(c.layers[2] == 0 && c.layers[3] == LAYER_NO_ROPE && c.layers[7] == LAYER_NO_ROPE);
    c = read_ok("phi3", EDITS("attention.sliding_window u 0",
                              "rope.scaling.original_context_length u 4096"));
    CHECK(c.window == 0 && c.layers[0] == 0);
    c = read_ok("olmo2", NULL);
    CHECK(c.qk_norm == QK_NORM_ALL && c.no_pre_norm && c.post_norm);
    c = read_ok("granite", EDITS("attention.scale f 0.5", "embedding_scale f 12",
                                 "residual_scale f 0.25", "logit_scale f 8"));
    CHECK(c.attn_scale == 0.5 && c.embed_scale == 12 && c.residual_scale == 0.25);
    CHECK(c.logit_scale == 0.125);
    c = read_ok("qwen3moe", EDITS("expert_count u 6", "expert_used_count u 3",
                                  "expert_feed_forward_length u 24", "expert_weights_norm b 1",
                                  "expert_gating_func u 1", "expert_weights_scale f 1"));
    CHECK(c.X == 6 && c.n_used_experts == 3 && c.F == 24 && c.normalise_experts);
    c = read_ok("olmoe", EDITS("expert_count u 6", "expert_used_count u 3"));
    CHECK(!c.normalise_experts && c.qk_norm == QK_NORM_ALL && c.F == F);
}

/* ---- what is refused ---------------------------------------------------------------------------- */

static const struct refused {
    const char *arch, *edits[4];
    enum status status;
    const char *says[2];
} refused[] = {
    {"gemma", {NULL}, ST_UNSUPPORTED, {"family gemma is", "gemma2, gemma3"}},
    {"gemma3", {"attn_logit_softcapping f 50"}, ST_UNSUPPORTED, {"gemma3.attn_logit_softcapping"}},
    {"gemma3", {"attention.sliding_window_pattern a 101"}, ST_FORMAT, {"array of 2 booleans"}},
    {"gemma3", {"attention.sliding_window_pattern u 0"}, ST_UNSUPPORTED, {"pattern: 0"}},
    {"gemma3", {"rope.freq_base_swa f 0"}, ST_FORMAT, {"freq_base_swa", "1 or more"}},
    {"gemma3", {"rope.scaling.type s yarn"}, ST_UNSUPPORTED, {"gemma3.rope.scaling.type", "yarn"}},
    {"gemma3", {"expert_count u 4"}, ST_UNSUPPORTED, {"gemma3.expert_count", "mixture"}},
    {"gemma3", {"pooling_type u 1"}, ST_UNSUPPORTED, {"gemma3.pooling_type may change"}},
    {"qwen2",
     {"attention.sliding_window u 64"},
     ST_UNSUPPORTED,
     {"qwen2.attention.sliding_window"}},
    {"qwen3", {"attention.causal b 0"}, ST_UNSUPPORTED, {"qwen3.attention.causal"}},
    {"olmo2",
     {"attention.sliding_window u 64"},
     ST_UNSUPPORTED,
     {"olmo2.attention.sliding_window"}},
    {"phi3",
     {"rope.dimension_count u 8"},
     ST_UNSUPPORTED,
     {"phi3.rope.dimension_count", "8 of 16"}},
    {"phi3", {"rope.scaling.type s longrope"}, ST_UNSUPPORTED, {"longrope"}},
    {"phi3", {"rope.scaling.attn_factor f 1.19"}, ST_UNSUPPORTED, {"rope.scaling.attn_factor may"}},
    {"granite", {NULL}, ST_FORMAT, {"granite.logit_scale is missing"}},
    {"granite",
     {"logit_scale f 8", "rope.scaling.finetuned b 0"},
     ST_UNSUPPORTED,
     {"finetuned", "without RoPE"}},
    {"granite",
     {"logit_scale f 8", "attention.scale f nan"},
     ST_FORMAT,
     {"attention.scale is nan"}},
    {"llama",
     {"rope.scaling.type s linear", "rope.scaling.factor f 0.5"},
     ST_FORMAT,
     {"0.5 is not"}},
    {"llama", {"attention.scale f 1"}, ST_UNSUPPORTED, {"llama.attention.scale may change"}},
    {"llama",
     {"expert_count u 8", "expert_used_count u 2", "expert_gating_func u 2"},
     ST_UNSUPPORTED,
     {"expert_gating_func", "softmax"}},
    {"llama",
     {"expert_count u 8", "expert_used_count u 2", "expert_weights_norm b 0"},
     ST_UNSUPPORTED,
     {"expert_weights_norm"}},
    {"llama", {"expert_shared_count u 1"}, ST_UNSUPPORTED, {"expert_shared_count"}},
    {"llama", {"expert_group_count u 2"}, ST_UNSUPPORTED, {"groups of experts"}},
    {"qwen3moe", {"expert_count u 8"}, ST_FORMAT, {"expert_feed_forward_length is missing"}},
    {"qwen3moe", {"expert_feed_forward_length u 8"}, ST_FORMAT, {"expert_count is missing"}},
    {"qwen3moe",
     {"expert_feed_forward_length u 8", "expert_count u 8", "expert_weights_scale f 2.5"},
     ST_UNSUPPORTED,
     {"expert_weights_scale"}},
    {"olmoe", {"expert_count u 8", "attention.clamp_kqv f 8"}, ST_UNSUPPORTED, {"clamp_kqv may"}},
};

static void each_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const struct refused *r = &refused[i];
        const char *edits[7] = {r->edits[0], r->edits[1], r->edits[2], r->edits[3]};
        struct model_config c = {.L = 77};

        const enum status st = read_keys(r->arch, edits, &c);
        if (st != r->status)
            fprintf(stderr, "refused[%zu], %s\n", i, r->arch);
        CHECK_INT(st, r->status);
        CHECK_INT(c.L, 77); /* outputs are written only on success */
        CHECK_HAS(log_last_error(), "test.gguf: ");
        for (int s = 0; s < 2 && r->says[s] != NULL; s++)
            CHECK_HAS(log_last_error(), r->says[s]);
    }
}

int main(void)
{
    llama();
    gemma();
    others();
    each_refused();
    TEST_END();
}
