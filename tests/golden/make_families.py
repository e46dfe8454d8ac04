#!/usr/bin/env python3
"""Writes a small checkpoint of every model family into tests/golden/families/, and its right answers.

Usage: python3 tests/golden/make_families.py [NAME ...]   (from the root of the tree; seeded;
       NAME: only these)
Needs: torch transformers safetensors gguf numpy, from PyPI.  The tests do not need them.

NAME/ holds what transformers' save_pretrained writes (config.json as transformers 5 has it,
model.safetensors in bfloat16) and model.golden, the float32 logits that transformers computes from
it, in the form that make_checkpoints.py describes.  Where llama.cpp has the family, model.gguf holds
the same numbers under the names, keys and row orders that its converter writes.  gguf.golden is
there where a GGUF file cannot say what config.json says.  Some files are in one of the forms that
are rarer ("form"): projections as one tensor, experts one by one or stacked.

Weights are drawn as in make_checkpoints.py, so that bugs show.  Windows are 6 tokens wide and the
text has 32, so that most of it is out of sight; soft caps bend what they cap.
"""
import copy
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from make_checkpoints import permute, to_bf16
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "families"
T = 32

BASE = dict(vocab_size=48, hidden_size=24, num_hidden_layers=2, intermediate_size=24,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
            rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
            pad_token_id=None)
ROPE = dict(rope_type="default", rope_theta=10000.0)
SMALL = dict(num_attention_heads=2, num_key_value_heads=1)
WIDE = dict(SMALL, hidden_size=32)  # families that have no head size of their own

#  config: for the family's configuration class.  gguf: architecture, None: no such file.
#  permuted: q and k rows in GGUF.   gguf_config: what a GGUF file says instead.
#  form: qkv: q, k, v are one tensor of the GGUF file.   single: experts one by one, as before 2024.
#        gate_up: gate and up of experts are one tensor, and in the directory all experts of a layer.
FAMILIES = {
    "llama3": dict(cls="Llama", seed=11, gguf="llama", permuted=True, config=dict(
        tie_word_embeddings=False, rope_parameters=dict(
            rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
            high_freq_factor=4.0, original_max_position_embeddings=32))),
    "mistral": dict(cls="Mistral", seed=12, gguf=None, config=dict(
        sliding_window=6, rope_parameters=ROPE)),
    # transformers gives windows to layers from max_window_layers on, to those without RoPE, to all
    "qwen2_window": dict(cls="Qwen2", seed=24, gguf=None, config=dict(
        SMALL, num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=2,
        rope_parameters=ROPE)),
    "smollm3_window": dict(cls="SmolLM3", seed=25, gguf=None, config=dict(
        SMALL, num_hidden_layers=4, use_sliding_window=True, sliding_window=6,
        rope_parameters=ROPE)),
    "mixtral_window": dict(cls="Mixtral", seed=26, gguf=None, config=dict(
        SMALL, tie_word_embeddings=False, intermediate_size=16, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=6, rope_parameters=ROPE)),
    "qwen3moe_window": dict(cls="Qwen3Moe", seed=27, gguf=None, config=dict(
        SMALL, moe_intermediate_size=8, num_experts=5, num_experts_per_tok=3, norm_topk_prob=True,
        use_sliding_window=True, sliding_window=6, rope_parameters=ROPE)),
    "qwen2": dict(cls="Qwen2", seed=13, gguf="qwen2", config=dict(
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen3": dict(cls="Qwen3", seed=14, gguf="qwen3", config=dict(
        num_attention_heads=3, num_key_value_heads=1, use_sliding_window=True, sliding_window=6,
        max_window_layers=1, rope_parameters=ROPE),
        gguf_config=dict(use_sliding_window=False, layer_types=None)),
    "gemma2": dict(cls="Gemma2", seed=15, gguf="gemma2", less_one=True, config=dict(
        sliding_window=6, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0, rope_parameters=ROPE),
        gguf_config=dict(query_pre_attn_scalar=16)),
    "gemma3": dict(cls="Gemma3", config_cls="Gemma3TextConfig", seed=16, gguf="gemma3",
                   less_one=True, config=dict(
        SMALL, num_hidden_layers=6, intermediate_size=16, sliding_window=6,
        query_pre_attn_scalar=16, rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=8.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0)))),
    "smollm3": dict(cls="SmolLM3", seed=17, gguf="smollm3", permuted=True, config=dict(
        SMALL, num_hidden_layers=4, intermediate_size=24,
        rope_parameters=dict(rope_type="default", rope_theta=5000000.0))),
    "phi3": dict(cls="Phi3", seed=18, gguf="phi3", config=dict(
        **dict(WIDE, num_key_value_heads=2), tie_word_embeddings=False, sliding_window=6,
        rope_parameters=ROPE)),
    "olmo2": dict(cls="Olmo2", seed=19, gguf="olmo2", config=dict(
        WIDE, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=500000.0))),
    "granite": dict(cls="Granite", seed=20, gguf="granite", permuted=True, form="qkv", config=dict(
        WIDE, embedding_multiplier=3.0, attention_multiplier=0.1, residual_multiplier=0.6,
        logits_scaling=4.0, rope_parameters=ROPE)),
    "mixtral": dict(cls="Mixtral", seed=21, gguf="llama", permuted=True, form="single", config=dict(
        SMALL, tie_word_embeddings=False, intermediate_size=16, num_local_experts=4,
        num_experts_per_tok=2, rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen3moe": dict(cls="Qwen3Moe", seed=22, gguf="qwen3moe", config=dict(
        SMALL, moe_intermediate_size=8, num_experts=5, num_experts_per_tok=3, norm_topk_prob=True,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "olmoe": dict(cls="Olmoe", seed=23, gguf="olmoe", form="gate_up", config=dict(
        WIDE, tie_word_embeddings=False, intermediate_size=8, num_experts=5,
        num_experts_per_tok=2, norm_topk_prob=False, rope_parameters=ROPE)),
}


def make_config(f, **changes):
    cls = getattr(transformers, f.get("config_cls", f["cls"] + "Config"))
    return cls(**copy.deepcopy({**BASE, **f["config"], **changes}), attn_implementation="eager")


def model_class(f):
    return getattr(transformers, f["cls"] + "ForCausalLM")


def draw_weights(f, c, state):
    """The values of a model's parameters, rounded to bfloat16; names as in state."""
    rng = np.random.default_rng(f["seed"])
    D, E = c.hidden_size, c.head_dim if getattr(c, "head_dim", None) else (
        c.hidden_size // c.num_attention_heads)
    H, K = c.num_attention_heads, c.num_key_value_heads
    one = 1.0 if f.get("less_one") else 0.0

    def std_of(name, shape):
        if "embed_tokens" in name:
            return 1.0
        if name.endswith(".bias"):
            return 1.0 if "q_proj" in name or "k_proj" in name else 0.5
        if "q_proj" in name or "k_proj" in name or "lm_head" in name or name.endswith("gate.weight"):
            return 2 / D**0.5
        return 1 / shape[-1] ** 0.5

    w = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape)
        if name.endswith("q_norm.weight") or name.endswith("k_norm.weight"):
            a = rng.uniform(1.0, 3.0, shape) - one
        elif name.endswith("norm.weight"):
            a = rng.uniform(0.5, 1.5, shape) - one
        else:
            a = rng.standard_normal(shape) * std_of(name, shape)
        if "qkv_proj" in name:
            a[: (H + K) * E] *= 2
        w[name] = to_bf16(a.astype(np.float32))
    if c.tie_word_embeddings:
        w.pop("lm_head.weight", None)
    return w


# ---- the right answers -------------------------------------------------------------------------

def logits_of(f, folder, config, tokens, dtype):
    model = model_class(f).from_pretrained(folder, config=config, dtype=dtype,
                                           attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64))[None],
                     use_cache=False).logits[0].float().numpy()


def write_golden(path, f, folder, config):
    tokens = np.random.default_rng(f["seed"] + 100).integers(0, config.vocab_size, T).astype("<i4")
    right = logits_of(f, folder, config, tokens, torch.float32)
    bf16 = logits_of(f, folder, config, tokens, torch.bfloat16)
    nmse = float(((bf16.astype(np.float64) - right) ** 2).sum()
                 / (right.astype(np.float64) ** 2).sum())
    with open(path, "wb") as out:
        out.write(b"EPLOGIT1")
        out.write(np.array(right.shape, "<i4").tobytes())
        out.write(np.array([nmse], "<f8").tobytes())
        out.write(tokens.tobytes())
        out.write(right.astype("<f4").tobytes())
    print(f"{path.relative_to(HERE)}: T {right.shape[0]} V {right.shape[1]} bf16 nmse {nmse:.2e} "
          f"logits std {right.std():.2f}")


# ---- GGUF --------------------------------------------------------------------------------------

NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_tensors(f, w):
    """(name, array) as the converter has them."""
    post = any("post_feedforward_layernorm" in name for name in w)
    parts = []  # q, k, v of a layer
    for name, a in w.items():
        if f.get("less_one") and name.endswith("norm.weight"):
            a = a + 1
        if f.get("permuted") and "self_attn.q_proj" in name:
            a = permute(a, f["H"])
        if f.get("permuted") and "self_attn.k_proj" in name:
            a = permute(a, f["K"])
        if not name.startswith("model.layers."):
            yield {"model.embed_tokens.weight": "token_embd.weight",
                   "model.norm.weight": "output_norm.weight",
                   "lm_head.weight": "output.weight"}[name], a
            continue
        layer, rest = name[len("model.layers."):].split(".", 1)
        blk = f"blk.{layer}."
        if rest.startswith("mlp.experts.") and f.get("form") == "single":
            half = a.shape[1] // 2
            for x, expert in enumerate(a):
                if "down" in rest:
                    yield f"{blk}ffn_down.{x}.weight", expert
                else:
                    yield f"{blk}ffn_gate.{x}.weight", expert[:half]
                    yield f"{blk}ffn_up.{x}.weight", expert[half:]
        elif rest == "mlp.experts.gate_up_proj" and f.get("form") == "gate_up":
            yield blk + "ffn_gate_up_exps.weight", a
        elif rest in ("self_attn.q_proj.weight", "self_attn.k_proj.weight",
                      "self_attn.v_proj.weight") and f.get("form") == "qkv":
            parts.append(a)
            if len(parts) == 3:
                yield blk + "attn_qkv.weight", np.concatenate(parts)
                parts.clear()
        elif rest == "mlp.experts.gate_up_proj":
            half = a.shape[1] // 2
            yield blk + "ffn_gate_exps.weight", np.ascontiguousarray(a[:, :half])
            yield blk + "ffn_up_exps.weight", np.ascontiguousarray(a[:, half:])
        elif rest == "mlp.experts.down_proj":
            yield blk + "ffn_down_exps.weight", a
        elif rest == "post_attention_layernorm.weight":
            yield blk + ("post_attention_norm.weight" if post else "ffn_norm.weight"), a
        else:
            module, kind = rest.rsplit(".", 1)
            yield f"{blk}{NAMES[module]}.{kind}", a


def llama3_divisors(c):
    r = c.rope_parameters
    freqs = 1.0 / (r["rope_theta"] ** (np.arange(0, c.head_dim, 2) / c.head_dim))
    old, low, high = r["original_max_position_embeddings"], r["low_freq_factor"], r["high_freq_factor"]
    divisors = []
    for freq in freqs:
        length = 2 * np.pi / freq
        if length < old / high:
            divisors.append(1.0)
        elif length > old / low:
            divisors.append(r["factor"])
        else:
            smooth = (old / length - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(divisors, np.float32)


def write_gguf(path, f, c, w):
    out = gguf.GGUFWriter(path, f["gguf"])
    E = c.head_dim if getattr(c, "head_dim", None) else c.hidden_size // c.num_attention_heads
    arch = f["gguf"]
    out.add_name(path.parent.name)
    out.add_context_length(c.max_position_embeddings)
    out.add_embedding_length(c.hidden_size)
    out.add_block_count(c.num_hidden_layers)
    out.add_feed_forward_length(c.intermediate_size)
    out.add_head_count(c.num_attention_heads)
    out.add_head_count_kv(c.num_key_value_heads)
    out.add_layer_norm_rms_eps(c.rms_norm_eps)
    if arch in ("llama", "smollm3", "granite"):
        out.add_vocab_size(c.vocab_size)
        out.add_rope_dimension_count(E)
    if arch == "phi3":
        out.add_rope_dimension_count(E)
        out.add_rope_scaling_orig_ctx_len(c.max_position_embeddings)
    elif E * c.num_attention_heads != c.hidden_size or arch in ("gemma2", "gemma3"):
        out.add_key_length(E)
        out.add_value_length(E)
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    if arch != "gemma2":
        out.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(rope["factor"])
    if arch in ("gemma2", "gemma3", "phi3"):
        out.add_sliding_window(c.sliding_window)
    if arch == "gemma2":
        out.add_attn_logit_softcapping(c.attn_logit_softcapping)
        out.add_final_logit_softcapping(c.final_logit_softcapping)
    if arch == "granite":
        out.add_attention_scale(c.attention_multiplier)
        out.add_embedding_scale(c.embedding_multiplier)
        out.add_residual_scale(c.residual_multiplier)
        out.add_logit_scale(c.logits_scaling)
    if getattr(c, "num_experts_per_tok", None):
        out.add_expert_count(getattr(c, "num_experts", None) or c.num_local_experts)
        out.add_expert_used_count(c.num_experts_per_tok)
    if arch == "qwen3moe":
        out.add_expert_feed_forward_length(c.moe_intermediate_size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("default")
    out.add_token_list([f"t{i}" for i in range(c.vocab_size)])
    out.add_token_types([gguf.TokenType.NORMAL] * c.vocab_size)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    for name, a in gguf_tensors(dict(f, H=c.num_attention_heads, K=c.num_key_value_heads), w):
        qtype = gguf.GGMLQuantizationType.F32
        if a.ndim > 1 and "ffn_gate_inp" not in name:
            qtype = gguf.GGMLQuantizationType.BF16
        out.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(a), qtype), raw_dtype=qtype)
    if rope["rope_type"] == "llama3":
        out.add_tensor("rope_freqs.weight", llama3_divisors(c))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    transformers.logging.set_verbosity_error()
    for name, f in FAMILIES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        folder = HERE / name
        folder.mkdir(parents=True, exist_ok=True)
        config = make_config(f)
        torch.manual_seed(0)
        model = model_class(f)(config)
        w = draw_weights(f, config, model.state_dict())
        missing, unexpected = model.load_state_dict(
            {n: torch.from_numpy(a) for n, a in w.items()}, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "model.safetensors").chmod(0o644)
        write_golden(folder / "model.golden", f, folder, config)
        if f.get("form") == "gate_up":
            save_file({n: torch.from_numpy(a).bfloat16() for n, a in w.items()},
                      folder / "model.safetensors", metadata={"format": "pt"})
        if f["gguf"] is None:
            continue
        gguf_config = make_config(f, **f.get("gguf_config", {}))
        write_gguf(folder / "model.gguf", f, gguf_config, w)
        if "gguf_config" in f:
            write_golden(folder / "gguf.golden", f, folder, gguf_config)


if __name__ == "__main__":
    main()
