#!/usr/bin/env python3
"""Writes the small llama checkpoints of tests/golden/ and their right answers.

Usage: python3 tests/golden/make_checkpoints.py [NAME ...]   (from the root of the tree; seeded;
       NAME: only these)
Needs: torch transformers safetensors gguf tokenizers numpy, from PyPI.  The tests do not need them.

Each folder holds a checkpoint as Hugging Face would store it (config.json, model.safetensors), and
of `small` and `biased` also GGUF files, q and k permuted as every llama GGUF has them.  NAME.golden holds
tokens and the float32 logits that transformers computes from the weights as stored in NAME:

    char  magic[8]  "EPLOGIT1"      int32 T, V       float64 nmse_bf16
    int32 tokens[T]                 float32 logits[T][V]           all little-endian

nmse_bf16 is the normalised mean squared error of transformers' own bf16 run against these logits.

Weights are drawn so that bugs show: with the usual initialisation of standard deviation 0.02 all
scores are near zero, attention is an average, and a wrong RoPE base goes unnoticed.  Here q and k
have standard deviation 2/sqrt(D) (scores of standard deviation 4), embeddings 1, norms 0.5 .. 1.5.
Biases are half of what they are added to: 1 for q and k, 0.5 for v and o.
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent

#  small: what SmolLM2 looks like.   wide_eps: no grouping, own head, large eps and RoPE base, bf16.
#  odd: nothing is a multiple of anything, the heads together are wider than D.
#  biased: attention_bias, grouped heads.
CHECKPOINTS = {
    "small": dict(seed=1, T=100, dtype="F16", V=300, D=64, L=2, F=128, H=4, K=2, E=16,
                  tied=True, base=10000.0, eps=1e-5),
    "wide_eps": dict(seed=2, T=80, dtype="BF16", V=160, D=64, L=2, F=96, H=2, K=2, E=32,
                     tied=False, base=500000.0, eps=1e-2),
    "odd": dict(seed=3, T=150, dtype="F32", V=203, D=51, L=3, F=97, H=3, K=1, E=32,
                tied=True, base=100000.0, eps=1e-6),
    "biased": dict(seed=4, T=80, dtype="F32", V=300, D=48, L=2, F=64, H=4, K=2, E=16,
                   tied=True, base=10000.0, eps=1e-5, bias=True),
}
GGUF_TYPES = {"small": ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"), "biased": ("F32",)}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def draw_weights(c):
    """Hugging Face names to float32 arrays."""
    rng = np.random.default_rng(c["seed"])
    D, F, H, K, E = c["D"], c["F"], c["H"], c["K"], c["E"]

    def normal(std, *shape):
        return (rng.standard_normal(shape) * std).astype(np.float32)

    def norm():
        return rng.uniform(0.5, 1.5, D).astype(np.float32)

    w = {"model.embed_tokens.weight": normal(1.0, c["V"], D)}
    for l in range(c["L"]):
        p = f"model.layers.{l}."
        w[p + "input_layernorm.weight"] = norm()
        w[p + "self_attn.q_proj.weight"] = normal(2 / D**0.5, H * E, D)
        w[p + "self_attn.k_proj.weight"] = normal(2 / D**0.5, K * E, D)
        w[p + "self_attn.v_proj.weight"] = normal(1 / D**0.5, K * E, D)
        w[p + "self_attn.o_proj.weight"] = normal(1 / (H * E) ** 0.5, D, H * E)
        w[p + "post_attention_layernorm.weight"] = norm()
        w[p + "mlp.gate_proj.weight"] = normal(1 / D**0.5, F, D)
        w[p + "mlp.up_proj.weight"] = normal(1 / D**0.5, F, D)
        w[p + "mlp.down_proj.weight"] = normal(1 / F**0.5, D, F)
        if c.get("bias"):
            w[p + "self_attn.q_proj.bias"] = normal(1.0, H * E)
            w[p + "self_attn.k_proj.bias"] = normal(1.0, K * E)
            w[p + "self_attn.v_proj.bias"] = normal(0.5, K * E)
            w[p + "self_attn.o_proj.bias"] = normal(0.5, D)
    w["model.norm.weight"] = norm()
    if not c["tied"]:
        w["lm_head.weight"] = normal(2 / D**0.5, c["V"], D)
    return w


def to_bf16(a):
    return torch.from_numpy(a).bfloat16().float().numpy()


def round_weights(w, dtype):
    """To what dtype can hold.  F16 here means: what f16 and bf16 both hold, so that F32, F16 and
    BF16 files of one checkpoint have one answer."""
    if dtype == "F32":
        return w
    if dtype == "BF16":
        return {n: to_bf16(a) for n, a in w.items()}
    return {n: np.where(np.abs(a) < 2.0**-14, 0, to_bf16(a)).astype(np.float32)
            for n, a in w.items()}


def hf_config(c):
    return dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
                vocab_size=c["V"], hidden_size=c["D"], num_hidden_layers=c["L"],
                intermediate_size=c["F"], num_attention_heads=c["H"], num_key_value_heads=c["K"],
                head_dim=c["E"], tie_word_embeddings=c["tied"], rope_theta=c["base"],
                rms_norm_eps=c["eps"], max_position_embeddings=512,
                attention_bias=c.get("bias", False), mlp_bias=False, bos_token_id=1, eos_token_id=2, torch_dtype={
                    "F32": "float32", "F16": "float16", "BF16": "bfloat16"}[c["dtype"]])


def make_tokenizer():
    """A byte-level BPE of 300 tokens with SmolLM2's pre-tokeniser, learned from real_text.txt."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        [(HERE / "real_text.txt").read_text()],
        trainers.BpeTrainer(vocab_size=300, special_tokens=[AddedToken(s, special=True)
                                                            for s in SPECIAL],
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                            show_progress=False))
    assert tok.get_vocab_size() == 300
    return tok


# ---- the right answers -------------------------------------------------------------------------

def reference_logits(c, w, tokens, dtype):
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in hf_config(c).items()
                                            if k != "torch_dtype"}, attn_implementation="eager"))
    state = {n: torch.from_numpy(a) for n, a in w.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"} and (not missing or c["tied"])
    # transformers keeps moving this setting; a golden made with another base would be worthless
    assert abs(model.model.rotary_emb.inv_freq[1].item() / c["base"] ** (-2 / c["E"]) - 1) < 1e-6
    model = model.to(dtype).eval()
    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].float().numpy()


def write_golden(path, c, w):
    tokens = np.random.default_rng(c["seed"] + 100).integers(0, c["V"], c["T"]).astype("<i4")
    right = reference_logits(c, w, tokens, torch.float32)
    bf16 = reference_logits(c, w, tokens, torch.bfloat16)
    nmse = float(((bf16.astype(np.float64) - right) ** 2).sum()
                 / (right.astype(np.float64) ** 2).sum())
    with open(path, "wb") as f:
        f.write(b"EPLOGIT1")
        f.write(np.array(right.shape, "<i4").tobytes())
        f.write(np.array([nmse], "<f8").tobytes())
        f.write(tokens.tobytes())
        f.write(right.astype("<f4").tobytes())
    print(f"{path.relative_to(HERE)}: T {right.shape[0]} V {right.shape[1]} "
          f"bf16 nmse {nmse:.2e} logits std {right.std():.2f}")


# ---- files -------------------------------------------------------------------------------------

def write_hf(folder, c, w):
    """safetensors by hand where numpy has no bf16."""
    if c["dtype"] == "BF16":
        from safetensors.torch import save_file as save_torch
        save_torch({n: torch.from_numpy(a).bfloat16() for n, a in w.items()},
                   folder / "model.safetensors", metadata={"format": "pt"})
    else:
        np_type = {"F32": np.float32, "F16": np.float16}[c["dtype"]]
        save_file({n: a.astype(np_type) for n, a in w.items()}, folder / "model.safetensors",
                  metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_config(c), indent=2) + "\n")


GGUF_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name.startswith("model.layers."):
        layer, rest = name[len("model.layers."):].split(".", 1)
        module, kind = rest.rsplit(".", 1)  # kind: weight or bias
        return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"
    return {"model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}[name]


def permute(a, n_heads):
    """Rows of each head, or elements of its bias, from halves (i, i + E/2) to neighbours
    (2i, 2i + 1), as GGUF has them."""
    return a.reshape(n_heads, 2, a.shape[0] // n_heads // 2, *a.shape[1:]).swapaxes(1, 2).reshape(
        a.shape)


def write_gguf(path, c, w, qtype, tok):
    """Returns the weights as the file holds them, under their Hugging Face names."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_name(path.stem)
    out.add_context_length(512)
    out.add_embedding_length(c["D"])
    out.add_block_count(c["L"])
    out.add_feed_forward_length(c["F"])
    out.add_head_count(c["H"])
    out.add_head_count_kv(c["K"])
    if c["H"] * c["E"] != c["D"]:
        out.add_key_length(c["E"])
        out.add_value_length(c["E"])
    out.add_rope_dimension_count(c["E"])
    out.add_rope_freq_base(c["base"])
    out.add_layer_norm_rms_eps(c["eps"])
    out.add_vocab_size(c["V"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    vocab = sorted(tok.get_vocab().items(), key=lambda item: item[1])
    out.add_token_list([t for t, _ in vocab])
    out.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL
                         for t, _ in vocab])
    out.add_token_merges([" ".join(m) for m in json.loads(tok.to_str())["model"]["merges"]])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_add_bos_token(False)

    stored = {}
    for name, a in w.items():
        file_type = qtype if a.ndim == 2 else gguf.GGMLQuantizationType.F32
        raw = gguf.quants.quantize(a, file_type)
        stored[name] = gguf.quants.dequantize(raw, file_type).astype(np.float32).reshape(a.shape)
        if "q_proj" in name or "k_proj" in name:
            raw = permute(raw, c["H"] if "q_proj" in name else c["K"])
        out.add_tensor(gguf_name(name), raw, raw_dtype=file_type)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return stored


def main():
    torch.manual_seed(0)
    for name, c in CHECKPOINTS.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        w = round_weights(draw_weights(c), c["dtype"])
        write_hf(folder, c, w)
        write_golden(folder / "model.golden", c, w)
        if name not in GGUF_TYPES:
            continue
        tok = make_tokenizer()
        if name == "small":
            tok.save(str(folder / "tokenizer.json"))
        for qtype in GGUF_TYPES[name]:
            stored = write_gguf(folder / f"{qtype}.gguf", c, w,
                                gguf.GGMLQuantizationType[qtype], tok)
            if qtype.startswith("Q"):
                write_golden(folder / f"{qtype}.golden", c, stored)
            else:  # these hold the same numbers as model.safetensors
                assert all((stored[n] == a).all() for n, a in w.items())


if __name__ == "__main__":
    main()
