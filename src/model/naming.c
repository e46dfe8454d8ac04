/*
 * naming.c - which weights a model has, their shapes, and what files of each kind call them.
 *
 * Tables only: bind.c looks the names up in a file, families.c says what each family has.
 */
#include "model/source.h"

unsigned weight_features(const struct model_config *c)
{
    return (c->tied ? 0u : HAS_HEAD) | (c->qkv_bias ? HAS_QKV_BIAS : 0u) |
           (c->o_bias ? HAS_O_BIAS : 0u) | (c->qk_norm != QK_NORM_NONE ? HAS_QK_NORM : 0u) |
           (c->no_pre_norm ? 0u : HAS_PRE_NORM) | (c->post_norm ? HAS_POST_NORM : 0u) |
           (c->X > 0 ? HAS_EXPERTS : HAS_FFN);
}

int64_t weight_dim(const struct model_config *c, enum weight_dim dim)
{
    const int64_t E = c->E, q = c->H * E, kv = c->K * E;

    switch (dim) {
    case DIM_NONE:
        return 0;
    case DIM_ONE:
        return 1;
    case DIM_V:
        return c->V;
    case DIM_D:
        return c->D;
    case DIM_F:
        return c->F;
    case DIM_Q:
        return q;
    case DIM_KV:
        return kv;
    case DIM_Q_NORM:
        return c->qk_norm == QK_NORM_ALL ? q : E;
    case DIM_K_NORM:
        return c->qk_norm == QK_NORM_ALL ? kv : E;
    case DIM_X:
        return c->X;
    case DIM_QKV:
        return q + 2 * kv;
    case DIM_Q_K:
        return q + kv;
    case DIM_TWO_F:
        return 2 * (int64_t)c->F;
    }
    return 0;
}

const struct weight_row weight_rows[WEIGHT_COUNT] = {
    [WEIGHT_EMBED] = {0, DIM_V, DIM_D},
    [WEIGHT_FINAL_NORM] = {0, DIM_ONE, DIM_D},
    [WEIGHT_HEAD] = {HAS_HEAD, DIM_V, DIM_D},
    [WEIGHT_ATTN_NORM] = {HAS_PRE_NORM, DIM_ONE, DIM_D},
    [WEIGHT_Q] = {0, DIM_Q, DIM_D},
    [WEIGHT_K] = {0, DIM_KV, DIM_D},
    [WEIGHT_V] = {0, DIM_KV, DIM_D},
    [WEIGHT_O] = {0, DIM_D, DIM_Q},
    [WEIGHT_FFN_NORM] = {HAS_PRE_NORM, DIM_ONE, DIM_D},
    [WEIGHT_GATE] = {HAS_FFN, DIM_F, DIM_D},
    [WEIGHT_UP] = {HAS_FFN, DIM_F, DIM_D},
    [WEIGHT_DOWN] = {HAS_FFN, DIM_D, DIM_F},
    [WEIGHT_Q_BIAS] = {HAS_QKV_BIAS, DIM_ONE, DIM_Q},
    [WEIGHT_K_BIAS] = {HAS_QKV_BIAS, DIM_ONE, DIM_KV},
    [WEIGHT_V_BIAS] = {HAS_QKV_BIAS, DIM_ONE, DIM_KV},
    [WEIGHT_O_BIAS] = {HAS_O_BIAS, DIM_ONE, DIM_D},
    [WEIGHT_Q_NORM] = {HAS_QK_NORM, DIM_ONE, DIM_Q_NORM},
    [WEIGHT_K_NORM] = {HAS_QK_NORM, DIM_ONE, DIM_K_NORM},
    [WEIGHT_ATTN_POST_NORM] = {HAS_POST_NORM, DIM_ONE, DIM_D},
    [WEIGHT_FFN_POST_NORM] = {HAS_POST_NORM, DIM_ONE, DIM_D},
    [WEIGHT_ROUTER] = {HAS_EXPERTS, DIM_X, DIM_D},
    [WEIGHT_X_GATE] = {HAS_EXPERTS, DIM_F, DIM_D},
    [WEIGHT_X_UP] = {HAS_EXPERTS, DIM_F, DIM_D},
    [WEIGHT_X_DOWN] = {HAS_EXPERTS, DIM_D, DIM_F},
};

/* Columns not given are 0: no condition, not stacked, a tensor of its own. */
static const struct weight_spelling gguf_spellings[] = {
    {.id = WEIGHT_EMBED, .name = "token_embd.weight"},
    {.id = WEIGHT_FINAL_NORM, .name = "output_norm.weight"},
    {.id = WEIGHT_HEAD, .name = "output.weight"},
    {.id = WEIGHT_ATTN_NORM, .name = "attn_norm.weight"},
    {.id = WEIGHT_Q, .name = "attn_q.weight"},
    {.id = WEIGHT_Q, .name = "attn_qkv.weight", .whole = DIM_QKV},
    {.id = WEIGHT_K, .name = "attn_k.weight"},
    {.id = WEIGHT_K, .name = "attn_qkv.weight", .whole = DIM_QKV, .skip = DIM_Q},
    {.id = WEIGHT_V, .name = "attn_v.weight"},
    {.id = WEIGHT_V, .name = "attn_qkv.weight", .whole = DIM_QKV, .skip = DIM_Q_K},
    {.id = WEIGHT_O, .name = "attn_output.weight"},
    {.id = WEIGHT_FFN_NORM, .name = "ffn_norm.weight"},
    {.id = WEIGHT_GATE, .name = "ffn_gate.weight"},
    {.id = WEIGHT_GATE, .name = "ffn_up.weight", .whole = DIM_TWO_F},
    {.id = WEIGHT_UP, .name = "ffn_up.weight"},
    {.id = WEIGHT_UP, .name = "ffn_up.weight", .whole = DIM_TWO_F, .skip = DIM_F},
    {.id = WEIGHT_DOWN, .name = "ffn_down.weight"},
    {.id = WEIGHT_Q_BIAS, .name = "attn_q.bias"},
    {.id = WEIGHT_K_BIAS, .name = "attn_k.bias"},
    {.id = WEIGHT_V_BIAS, .name = "attn_v.bias"},
    {.id = WEIGHT_O_BIAS, .name = "attn_output.bias"},
    {.id = WEIGHT_Q_NORM, .name = "attn_q_norm.weight"},
    {.id = WEIGHT_K_NORM, .name = "attn_k_norm.weight"},
    {.id = WEIGHT_ATTN_POST_NORM, .name = "post_attention_norm.weight"},
    {.id = WEIGHT_FFN_POST_NORM, .name = "post_ffw_norm.weight"},
    {.id = WEIGHT_ROUTER, .name = "ffn_gate_inp.weight"},
    {.id = WEIGHT_X_GATE, .name = "ffn_gate_exps.weight", .stacked = true},
    {.id = WEIGHT_X_GATE, .name = "ffn_gate_up_exps.weight", .stacked = true, .whole = DIM_TWO_F},
    {.id = WEIGHT_X_GATE, .name = "ffn_gate.%d.weight"}, /* before 2024 */
    {.id = WEIGHT_X_UP, .name = "ffn_up_exps.weight", .stacked = true},
    {.id = WEIGHT_X_UP,
     .name = "ffn_gate_up_exps.weight",
     .stacked = true,
     .whole = DIM_TWO_F,
     .skip = DIM_F},
    {.id = WEIGHT_X_UP, .name = "ffn_up.%d.weight"},
    {.id = WEIGHT_X_DOWN, .name = "ffn_down_exps.weight", .stacked = true},
    {.id = WEIGHT_X_DOWN, .name = "ffn_down.%d.weight"},
};

/* Beside the names that all share: gemma and olmo2 have norms behind their blocks and so other
 * names for those before them, phi3 has fused projections, mixtral calls its experts otherwise, and
 * transformers 5 may store the experts of a layer as one tensor. */
static const struct weight_spelling hf_spellings[] = {
    {.id = WEIGHT_EMBED, .name = "model.embed_tokens.weight"},
    {.id = WEIGHT_FINAL_NORM, .name = "model.norm.weight"},
    {.id = WEIGHT_HEAD, .name = "lm_head.weight"},
    {.id = WEIGHT_ATTN_NORM, .name = "input_layernorm.weight"},
    {.id = WEIGHT_Q, .name = "self_attn.q_proj.weight"},
    {.id = WEIGHT_Q, .name = "self_attn.qkv_proj.weight", .whole = DIM_QKV},
    {.id = WEIGHT_K, .name = "self_attn.k_proj.weight"},
    {.id = WEIGHT_K, .name = "self_attn.qkv_proj.weight", .whole = DIM_QKV, .skip = DIM_Q},
    {.id = WEIGHT_V, .name = "self_attn.v_proj.weight"},
    {.id = WEIGHT_V, .name = "self_attn.qkv_proj.weight", .whole = DIM_QKV, .skip = DIM_Q_K},
    {.id = WEIGHT_O, .name = "self_attn.o_proj.weight"},
    {.id = WEIGHT_FFN_NORM, .name = "post_attention_layernorm.weight", .unless = HAS_POST_NORM},
    {.id = WEIGHT_FFN_NORM, .name = "pre_feedforward_layernorm.weight", .when = HAS_POST_NORM},
    {.id = WEIGHT_GATE, .name = "mlp.gate_proj.weight"},
    {.id = WEIGHT_GATE, .name = "mlp.gate_up_proj.weight", .whole = DIM_TWO_F},
    {.id = WEIGHT_UP, .name = "mlp.up_proj.weight"},
    {.id = WEIGHT_UP, .name = "mlp.gate_up_proj.weight", .whole = DIM_TWO_F, .skip = DIM_F},
    {.id = WEIGHT_DOWN, .name = "mlp.down_proj.weight"},
    {.id = WEIGHT_Q_BIAS, .name = "self_attn.q_proj.bias"},
    {.id = WEIGHT_K_BIAS, .name = "self_attn.k_proj.bias"},
    {.id = WEIGHT_V_BIAS, .name = "self_attn.v_proj.bias"},
    {.id = WEIGHT_O_BIAS, .name = "self_attn.o_proj.bias"},
    {.id = WEIGHT_Q_NORM, .name = "self_attn.q_norm.weight"},
    {.id = WEIGHT_K_NORM, .name = "self_attn.k_norm.weight"},
    {.id = WEIGHT_ATTN_POST_NORM, .name = "post_attention_layernorm.weight"},
    {.id = WEIGHT_FFN_POST_NORM, .name = "post_feedforward_layernorm.weight"},
    {.id = WEIGHT_ROUTER, .name = "mlp.gate.weight"},
    {.id = WEIGHT_ROUTER, .name = "block_sparse_moe.gate.weight"},
    {.id = WEIGHT_X_GATE, .name = "mlp.experts.%d.gate_proj.weight"},
    {.id = WEIGHT_X_GATE, .name = "block_sparse_moe.experts.%d.w1.weight"},
    {.id = WEIGHT_X_GATE, .name = "mlp.experts.gate_up_proj", .stacked = true, .whole = DIM_TWO_F},
    {.id = WEIGHT_X_UP, .name = "mlp.experts.%d.up_proj.weight"},
    {.id = WEIGHT_X_UP, .name = "block_sparse_moe.experts.%d.w3.weight"},
    {.id = WEIGHT_X_UP,
     .name = "mlp.experts.gate_up_proj",
     .stacked = true,
     .whole = DIM_TWO_F,
     .skip = DIM_F},
    {.id = WEIGHT_X_DOWN, .name = "mlp.experts.%d.down_proj.weight"},
    {.id = WEIGHT_X_DOWN, .name = "block_sparse_moe.experts.%d.w2.weight"},
    {.id = WEIGHT_X_DOWN, .name = "mlp.experts.down_proj", .stacked = true},
};

const struct weight_naming weight_naming_gguf = {
    .layer_prefix = "blk.",
    .bias_sign = "there are other biases",
    .spellings = gguf_spellings,
    .n_spellings = sizeof gguf_spellings / sizeof gguf_spellings[0],
};

const struct weight_naming weight_naming_hf = {
    .layer_prefix = "model.layers.",
    .bias_sign = "attention_bias is true",
    .spellings = hf_spellings,
    .n_spellings = sizeof hf_spellings / sizeof hf_spellings[0],
};
