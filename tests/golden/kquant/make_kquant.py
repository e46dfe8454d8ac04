#!/usr/bin/env python3
"""A llama checkpoint in the types whose blocks have 256 elements -> kquant.gguf, kquant.golden

    python3 tests/golden/kquant/make_kquant.py        needs what ../make_checkpoints.py needs

No quantiser is needed: blocks are random, with scales that give the weights the spread of the other
checkpoints', and what gguf makes of the blocks are the weights that transformers computes with.  As
in real files, every matrix has a type of its own, and rows that are no multiple of 256 have one of
the older types.
"""
import json
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import make_checkpoints as mc  # noqa: E402

C = dict(seed=5, T=48, dtype="F32", V=300, D=256, L=2, F=256, H=2, K=1, E=32, tied=True,
         base=10000.0, eps=1e-5)
EMBED = Type.Q6_K
LAYERS = [
    dict(attn_q=Type.Q4_K, attn_k=Type.Q5_K, attn_v=Type.Q6_K, attn_output=Type.Q5_0,
         ffn_gate=Type.Q2_K, ffn_up=Type.Q3_K, ffn_down=Type.Q4_K),
    dict(attn_q=Type.Q3_K, attn_k=Type.Q2_K, attn_v=Type.Q8_0, attn_output=Type.Q5_1,
         ffn_gate=Type.Q4_K, ffn_up=Type.Q5_K, ffn_down=Type.Q6_K),
]
SCALE_AT = {Type.Q5_0: 0, Type.Q5_1: 0, Type.Q8_0: 0, Type.Q2_K: 80, Type.Q3_K: 108, Type.Q4_K: 0,
            Type.Q5_K: 0, Type.Q6_K: 208}
# The minimum, in multiples of the scale: what brings the mean to zero.
MINIMUM = {Type.Q5_1: -15.5, Type.Q2_K: 1.5, Type.Q4_K: 7.5, Type.Q5_K: 15.5}


def set_half(blocks, at, value):
    blocks[:, at : at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)


def pack_groups(scales):
    """[n, 8] scales of 6 bits, each also the minimum of its group, as Q4_K and Q5_K have them."""
    low, high = scales[:, :4], scales[:, 4:]
    return np.concatenate([low | (high >> 4) << 6, low | (high >> 4) << 6,
                           (high & 15) | (high & 15) << 4], axis=1).astype(np.uint8)


def draw(rng, kind, n_rows, n_cols, std):
    """[n_rows, bytes of a row] of that type, with weights of that standard deviation."""
    n_elems, n_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (n_rows * n_cols // n_elems, n_bytes), dtype=np.uint8)
    if kind == Type.Q2_K:  # the minimum of each group is its scale
        blocks[:, :16] = (rng.integers(4, 16, (len(blocks), 16)) * 17).astype(np.uint8)
    if kind in (Type.Q4_K, Type.Q5_K):
        blocks[:, 4:16] = pack_groups(rng.integers(16, 64, (len(blocks), 8)))

    def set_scale(scale):
        set_half(blocks, SCALE_AT[kind], scale)
        if kind in MINIMUM:
            set_half(blocks, SCALE_AT[kind] + 2, scale * MINIMUM[kind])

    set_scale(1 / 64)
    spread = gguf.quants.dequantize(blocks, kind).std()
    set_scale(std / 64 / spread)
    return blocks.reshape(n_rows, -1)


def write_gguf(path, tok, weights):
    """weights: HF name -> (raw, type) or float32 vector."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(512)
    out.add_embedding_length(C["D"])
    out.add_block_count(C["L"])
    out.add_feed_forward_length(C["F"])
    out.add_head_count(C["H"])
    out.add_head_count_kv(C["K"])
    out.add_key_length(C["E"])
    out.add_value_length(C["E"])
    out.add_rope_dimension_count(C["E"])
    out.add_rope_freq_base(C["base"])
    out.add_layer_norm_rms_eps(C["eps"])
    out.add_vocab_size(C["V"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    vocab = sorted(tok.get_vocab().items(), key=lambda item: item[1])
    out.add_token_list([t for t, _ in vocab])
    out.add_token_types([gguf.TokenType.CONTROL if t in mc.SPECIAL else gguf.TokenType.NORMAL
                         for t, _ in vocab])
    out.add_token_merges([" ".join(m) for m in json.loads(tok.to_str())["model"]["merges"]])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_add_bos_token(False)
    for name, stored in weights.items():
        if isinstance(stored, tuple):
            raw, kind = stored
            if "q_proj" in name or "k_proj" in name:
                raw = mc.permute(raw, C["H"] if "q_proj" in name else C["K"])
            out.add_tensor(mc.gguf_name(name), raw, raw_dtype=kind)
        else:
            out.add_tensor(mc.gguf_name(name), stored)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    rng = np.random.default_rng(C["seed"])
    drawn = mc.draw_weights(C)  # for the norms, and for the spread of each matrix
    stored, values = {}, {}
    for name, a in drawn.items():
        if a.ndim == 1:
            stored[name] = values[name] = a
            continue
        short = mc.gguf_name(name).removesuffix(".weight")
        kind = EMBED if short == "token_embd" else LAYERS[int(short.split(".")[1])][short.split(".")[2]]
        raw = draw(rng, kind, *a.shape, a.std())
        stored[name] = raw, kind
        values[name] = gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(a.shape)
        print(f"{name:44} {kind.name:5} std {values[name].std():.3f} mean {values[name].mean():+.4f}")
    write_gguf(HERE / "kquant.gguf", mc.make_tokenizer(), stored)
    mc.write_golden(HERE / "kquant.golden", C, values)


if __name__ == "__main__":
    main()
