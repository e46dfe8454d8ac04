/* TEST */
/*
 * unit_mutations_families.c - would the limits of unit_families.c notice a mistake in what is
 * peculiar to a family?  Each is made on purpose, and the NMSE against transformers has to exceed
 * the limit a hundredfold.
 *
 * As in unit_mutations.c the mistakes are made outside the program: in the configuration that the
 * decoder is given, or in a copy of the checkpoint.
 */
#include "mutations.h"

#define GOLDEN "tests/golden/families/"

/* ---- mistakes in the configuration --------------------------------------------------------- */

static void window_more(struct model_config *c)
{
    c->window++;
}

static void window_less(struct model_config *c)
{
    c->window--;
}

static void set_traits(struct model_config *c, int off, int on)
{
    for (int l = 0; l < c->L; l++)
        c->layers[l] = (uint8_t)((c->layers[l] & ~off) | on);
}

static void window_nowhere(struct model_config *c)
{
    set_traits(c, LAYER_WINDOW, 0);
}

static void window_everywhere(struct model_config *c)
{
    set_traits(c, 0, LAYER_WINDOW);
}

/* The rotations stay where they were, only the windows go elsewhere. */
static void window_in_other_layers(struct model_config *c)
{
    for (int l = 0; l < c->L; l++)
        c->layers[l] ^= LAYER_WINDOW;
    const struct model_rope rope = c->rope_window;
    if (rope.base != 0) {
        c->rope_window = c->rope;
        c->rope = rope;
    }
}

static void rope_exchanged(struct model_config *c)
{
    const struct model_rope rope = c->rope;

    c->rope = c->rope_window;
    c->rope_window = rope;
}

static void rope_of_all_layers(struct model_config *c)
{
    c->rope_window = c->rope;
}

static void rope_unscaled(struct model_config *c)
{
    c->rope.scaling[0] = '\0';
}

static void rope_scaled_too(struct model_config *c)
{
    memcpy(c->rope_window.scaling, c->rope.scaling, sizeof c->rope.scaling);
    memcpy(c->rope_window.divisors, c->rope.divisors, sizeof c->rope.divisors);
}

/* As if llama3's rule only knew long and short waves. */
static void rope_without_middle(struct model_config *c)
{
    for (int i = 0; i < c->E / 2; i++)
        if (c->rope.divisors[i] > 1)
            c->rope.divisors[i] = 8;
}

static void rope_everywhere(struct model_config *c)
{
    set_traits(c, LAYER_NO_ROPE, 0);
}

static void rope_nowhere(struct model_config *c)
{
    set_traits(c, 0, LAYER_NO_ROPE);
}

static void rope_missing_in_first(struct model_config *c)
{
    c->layers[0] |= LAYER_NO_ROPE;
}

static void no_qk_norm(struct model_config *c)
{
    c->qk_norm = QK_NORM_NONE;
}

static void qk_norm_of_heads(struct model_config *c)
{
    c->qk_norm = QK_NORM_HEAD;
}

static void no_biases(struct model_config *c)
{
    c->qkv_bias = false;
}

static void no_embed_scale(struct model_config *c)
{
    c->embed_scale = 0;
}

static void embed_scale_off(struct model_config *c)
{
    c->embed_scale *= 1.01;
}

static void silu(struct model_config *c)
{
    c->activation = ACTIVATION_SILU;
}

static void head_size_scale(struct model_config *c)
{
    c->attn_scale = 0;
}

static void attn_scale_off(struct model_config *c)
{
    c->attn_scale *= 1.01;
}

static void no_attn_softcap(struct model_config *c)
{
    c->attn_softcap = 0;
}

static void attn_softcap_off(struct model_config *c)
{
    c->attn_softcap *= 1.1;
}

static void no_final_softcap(struct model_config *c)
{
    c->final_softcap = 0;
}

static void final_softcap_off(struct model_config *c)
{
    c->final_softcap *= 1.1;
}

static void no_residual_scale(struct model_config *c)
{
    c->residual_scale = 0;
}

static void residual_scale_off(struct model_config *c)
{
    c->residual_scale *= 1.01;
}

static void logit_scale_inverted(struct model_config *c)
{
    c->logit_scale = 1 / c->logit_scale;
}

static void logit_scale_off(struct model_config *c)
{
    c->logit_scale *= 1.01;
}

static void other_normalisation(struct model_config *c)
{
    c->normalise_experts = !c->normalise_experts;
}

static void one_expert_less(struct model_config *c)
{
    c->n_used_experts--;
}

static void one_expert_more(struct model_config *c)
{
    c->n_used_experts++;
}

static const struct {
    const char *model, *mistake;
    void (*make)(struct model_config *c);
} wrong_configs[] = {
    {"llama3", "RoPE not scaled", rope_unscaled},
    {"llama3", "RoPE scaled without a middle", rope_without_middle},
    {"mistral", "window + 1", window_more},
    {"mistral", "window - 1", window_less},
    {"mistral", "no window", window_nowhere},
    {"qwen2", "q, k, v biases missing", no_biases},
    {"qwen3", "QK-norm missing", no_qk_norm},
    {"qwen3", "window + 1", window_more},
    {"qwen3", "window - 1", window_less},
    {"qwen3", "window in all layers", window_everywhere},
    {"gemma2", "window + 1", window_more},
    {"gemma2", "window - 1", window_less},
    {"gemma2", "window in the other layers", window_in_other_layers},
    {"gemma2", "embeddings not scaled", no_embed_scale},
    {"gemma2", "embeddings scaled by 1 % more", embed_scale_off},
    {"gemma2", "SiLU for GELU", silu},
    {"gemma2", "scores scaled by the head size", head_size_scale},
    {"gemma2", "no soft cap of attention", no_attn_softcap},
    {"gemma2", "soft cap of attention 10 % higher", attn_softcap_off},
    {"gemma2", "no soft cap of logits", no_final_softcap},
    {"gemma2", "soft cap of logits 10 % higher", final_softcap_off},
    {"gemma3", "local and global RoPE exchanged", rope_exchanged},
    {"gemma3", "global RoPE in all layers", rope_of_all_layers},
    {"gemma3", "global RoPE not scaled", rope_unscaled},
    {"gemma3", "local RoPE scaled too", rope_scaled_too},
    {"gemma3", "window + 1", window_more},
    {"gemma3", "window - 1", window_less},
    {"gemma3", "window in the other layers", window_in_other_layers},
    {"gemma3", "QK-norm missing", no_qk_norm},
    {"gemma3", "embeddings not scaled", no_embed_scale},
    {"smollm3", "RoPE in a layer without", rope_everywhere},
    {"smollm3", "RoPE in no layer", rope_nowhere},
    {"smollm3", "no RoPE in a layer with it", rope_missing_in_first},
    {"phi3", "window + 1", window_more},
    {"phi3", "window - 1", window_less},
    {"olmo2", "QK-norm missing", no_qk_norm},
    {"olmo2", "QK-norm of heads, not of all", qk_norm_of_heads},
    {"granite", "embeddings not scaled", no_embed_scale},
    {"granite", "embedding multiplier 1 % more", embed_scale_off},
    {"granite", "scores scaled by the head size", head_size_scale},
    {"granite", "attention multiplier 1 % more", attn_scale_off},
    {"granite", "residual multiplier missing", no_residual_scale},
    {"granite", "residual multiplier 1 % more", residual_scale_off},
    {"granite", "logits multiplied, not divided", logit_scale_inverted},
    {"granite", "logits scaling 1 % off", logit_scale_off},
    {"mixtral", "experts' weights not normalised", other_normalisation},
    {"mixtral", "one expert less", one_expert_less},
    {"mixtral", "one expert more", one_expert_more},
    {"qwen3moe", "experts' weights not normalised", other_normalisation},
    {"qwen3moe", "QK-norm missing", no_qk_norm},
    {"qwen3moe", "one expert less", one_expert_less},
    {"qwen2_window", "window + 1", window_more},
    {"qwen2_window", "window - 1", window_less},
    {"qwen2_window", "window in the other layers", window_in_other_layers},
    {"smollm3_window", "window + 1", window_more},
    {"smollm3_window", "window - 1", window_less},
    {"smollm3_window", "window in the other layers", window_in_other_layers},
    {"mixtral_window", "window + 1", window_more},
    {"mixtral_window", "window - 1", window_less},
    {"mixtral_window", "no window", window_nowhere},
    {"qwen3moe_window", "window + 1", window_more},
    {"qwen3moe_window", "window - 1", window_less},
    {"qwen3moe_window", "no window", window_nowhere},
    {"olmoe", "experts' weights normalised", other_normalisation},
    {"olmoe", "QK-norm missing", no_qk_norm},
    {"olmoe", "one expert more", one_expert_more},
};

/* ---- mistakes in the weights ---------------------------------------------------------------- */

static float get_bf16(const struct checkpoint_tensor *t, size_t i)
{
    uint16_t bits;

    memcpy(&bits, t->data + i * t->elem_bytes, sizeof bits);
    return f32_from_bf16(bits);
}

/* Norms as a file that does not hold them less 1 would be read: (w - 1) + 1. */
static void norm_less_one(const struct checkpoint_tensor *t)
{
    for (size_t i = 0; i < t->n_rows * t->n_cols; i++)
        checkpoint_set(t, i, bf16_from_f32(get_bf16(t, i) - 1.0f));
}

static void layer_norm_less_one(const struct checkpoint *cp, const char *name)
{
    const struct checkpoint_tensor t = checkpoint_layer_tensor(cp, 0, name);

    norm_less_one(&t);
}

static void attn_norm_less_one(const struct checkpoint *cp)
{
    layer_norm_less_one(cp, "input_layernorm");
}

static void post_norm_less_one(const struct checkpoint *cp)
{
    layer_norm_less_one(cp, "post_feedforward_layernorm");
}

static void q_norm_less_one(const struct checkpoint *cp)
{
    layer_norm_less_one(cp, "self_attn.q_norm");
}

static void final_norm_less_one(const struct checkpoint *cp)
{
    const struct checkpoint_tensor t = checkpoint_tensor(cp, "model.norm.weight");

    norm_less_one(&t);
}

static void exchange(const struct checkpoint_tensor *a, const struct checkpoint_tensor *b)
{
    for (size_t i = 0; i < a->n_rows * a->n_cols * a->elem_bytes; i++) {
        const uint8_t byte = a->data[i];

        a->data[i] = b->data[i];
        b->data[i] = byte;
    }
}

static void exchange_named(const struct checkpoint *cp, const char *one, const char *other)
{
    const struct checkpoint_tensor a = checkpoint_layer_tensor(cp, 0, one);
    const struct checkpoint_tensor b = checkpoint_layer_tensor(cp, 0, other);

    exchange(&a, &b);
}

static void norms_exchanged(const struct checkpoint *cp)
{
    exchange_named(cp, "post_attention_layernorm", "post_feedforward_layernorm");
}

static void pre_and_post_exchanged(const struct checkpoint *cp)
{
    exchange_named(cp, "post_attention_layernorm", "pre_feedforward_layernorm");
}

static void mixtral_experts(const struct checkpoint *cp)
{
    exchange_named(cp, "block_sparse_moe.experts.0.w1", "block_sparse_moe.experts.1.w1");
    exchange_named(cp, "block_sparse_moe.experts.0.w2", "block_sparse_moe.experts.1.w2");
    exchange_named(cp, "block_sparse_moe.experts.0.w3", "block_sparse_moe.experts.1.w3");
}

static void mixtral_gate_up(const struct checkpoint *cp)
{
    exchange_named(cp, "block_sparse_moe.experts.2.w1", "block_sparse_moe.experts.2.w3");
}

static void moe_experts(const struct checkpoint *cp)
{
    exchange_named(cp, "mlp.experts.0.gate_proj", "mlp.experts.1.gate_proj");
    exchange_named(cp, "mlp.experts.0.up_proj", "mlp.experts.1.up_proj");
    exchange_named(cp, "mlp.experts.0.down_proj", "mlp.experts.1.down_proj");
}

static void moe_down(const struct checkpoint *cp)
{
    exchange_named(cp, "mlp.experts.0.down_proj", "mlp.experts.1.down_proj");
}

/* Rows of a fused projection in another order: its halves exchanged. */
static void halves_exchanged(const struct checkpoint *cp)
{
    struct checkpoint_tensor gate = checkpoint_layer_tensor(cp, 0, "mlp.gate_up_proj"), up = gate;

    gate.n_rows = up.n_rows = gate.n_rows / 2;
    up.data += gate.n_rows * gate.n_cols * gate.elem_bytes;
    exchange(&gate, &up);
}

/* q, k, v read as if they stood in the order k, q, v. */
static void q_and_k_exchanged(const struct checkpoint *cp)
{
    struct checkpoint_tensor q = checkpoint_layer_tensor(cp, 0, "self_attn.qkv_proj"), k = q;

    q.n_rows = k.n_rows = q.n_rows / 3;
    k.data += q.n_rows * q.n_cols * q.elem_bytes;
    exchange(&q, &k);
}

static const struct {
    const char *model, *mistake;
    void (*make)(const struct checkpoint *cp);
} wrong_weights[] = {
    {"gemma2", "+1 missing in an attention norm", attn_norm_less_one},
    {"gemma2", "+1 missing in a norm after an ffn", post_norm_less_one},
    {"gemma3", "+1 missing in a norm of q", q_norm_less_one},
    {"gemma3", "+1 missing in the final norm", final_norm_less_one},
    {"gemma3", "norms before and after exchanged", pre_and_post_exchanged},
    {"olmo2", "norms of attention and ffn exchanged", norms_exchanged},
    {"phi3", "gate and up exchanged", halves_exchanged},
    {"phi3", "q and k exchanged", q_and_k_exchanged},
    {"mixtral", "two experts exchanged", mixtral_experts},
    {"mixtral", "gate and up of an expert exchanged", mixtral_gate_up},
    {"qwen3moe", "two experts exchanged", moe_experts},
    {"qwen3moe", "down of two experts exchanged", moe_down},
};

int main(void)
{
    for (size_t i = 0; i < sizeof wrong_configs / sizeof wrong_configs[0]; i++) {
        char path[128], golden[160];

        snprintf(path, sizeof path, GOLDEN "%s", wrong_configs[i].model);
        snprintf(golden, sizeof golden, "%s/model.golden", path);
        struct golden g = golden_read(golden);
        struct model_config config = config_of(path);
        if (i == 0 || strcmp(wrong_configs[i].model, wrong_configs[i - 1].model) != 0)
            CHECK(error_of(path, NULL, &g) <= LIMIT);
        wrong_configs[i].make(&config);
        expect_shown(wrong_configs[i].model, wrong_configs[i].mistake, error_of(path, &config, &g));
        buf_free(&g.file);
    }
    for (size_t i = 0; i < sizeof wrong_weights / sizeof wrong_weights[0]; i++) {
        char path[128], golden[160];

        snprintf(path, sizeof path, GOLDEN "%s", wrong_weights[i].model);
        snprintf(golden, sizeof golden, "%s/model.golden", path);
        struct golden g = golden_read(golden);
        struct checkpoint cp = checkpoint_read(path);
        wrong_weights[i].make(&cp);
        expect_shown(wrong_weights[i].model, wrong_weights[i].mistake,
                     error_of(checkpoint_write(&cp), NULL, &g));
        checkpoint_end(&cp);
        buf_free(&g.file);
    }
    TEST_END();
}
