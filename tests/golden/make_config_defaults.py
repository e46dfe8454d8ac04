#!/usr/bin/env python3
"""What transformers' configuration classes mean by a config.json that says nothing but its family.

Usage: python3 tests/golden/make_config_defaults.py > tests/golden/configs/defaults.txt
Needs: transformers, from PyPI.  One line a family, as unit_hf_families.c prints it.
"""
import transformers

CLASSES = dict(llama="Llama", mistral="Mistral", qwen2="Qwen2", qwen3="Qwen3", gemma2="Gemma2",
               gemma3_text="Gemma3Text", smollm3="SmolLM3", phi3="Phi3", olmo2="Olmo2",
               granite="Granite", mixtral="Mixtral", qwen3_moe="Qwen3Moe", olmoe="Olmoe")


def line(family, c):
    def get(name, other=None):
        value = getattr(c, name, None)
        return other if value is None else value

    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    local = c.rope_parameters.get("sliding_attention", {}).get("rope_theta", 0)
    window = get("sliding_window", 0)
    n_windows = (c.layer_types.count("sliding_attention") if get("layer_types")
                 else c.num_hidden_layers if window else 0)
    scale = (c.query_pre_attn_scalar ** -0.5 if get("query_pre_attn_scalar")
             else get("attention_multiplier", 0))
    return (f"{family} V {c.vocab_size} D {c.hidden_size} "
            f"F {get('moe_intermediate_size', c.intermediate_size)} L {c.num_hidden_layers} "
            f"H {c.num_attention_heads} K {get('num_key_value_heads', c.num_attention_heads)} "
            f"E {get('head_dim', c.hidden_size // c.num_attention_heads)} "
            f"context {c.max_position_embeddings} eps {c.rms_norm_eps:g} "
            f"base {rope['rope_theta']:g} local {local:g} tied {int(c.tie_word_embeddings)} "
            f"bos {get('bos_token_id', -1)} eos {get('eos_token_id', -1)} "
            f"window {window if n_windows else 0} in {n_windows} "
            f"no_rope {get('no_rope_layers', []).count(0)} "
            f"experts {get('num_local_experts', get('num_experts', 0))} "
            f"used {get('num_experts_per_tok', 0)} "
            f"normalised {int(get('norm_topk_prob', family == 'mixtral'))} "
            f"caps {get('attn_logit_softcapping', 0):g} {get('final_logit_softcapping', 0):g} "
            f"scale {scale:.6f}")


for family, name in CLASSES.items():
    print(line(family, getattr(transformers, name + "Config")()))
