#!/usr/bin/env python3
"""Writes what transformers picks on a real model after every token of real_text.txt.

Usage: python3 tests/golden/make_real_logits.py SmolLM2-135M-Instruct.Q4_1.gguf real_text.golden
       python3 tests/golden/make_real_logits.py gemma-3-270m-q4_k_m.gguf real_text_gemma3.golden
Needs: torch transformers gguf tokenizers numpy, from PyPI.  The tests do not need them.

The GGUF's tensors are dequantised to float32, put back into Hugging Face's form (order of q and k
rows of llama, norms less one of gemma3), and run teacher-forced through LlamaForCausalLM or
Gemma3ForCausalLM in float32 with eager attention, in sequences of at most SEQ_TOK tokens.  The
tokeniser is built from the GGUF's own tokens and merges or scores.  Output, all little-endian:

    char magic[8] "EPREAL01"    int32 n_seqs, n_tok    int32 seq_tok[n_seqs]
    int32 tokens[n_tok]   int32 picks[n_tok]   float32 margins[n_tok]

picks is the highest logit's id, margin the highest logit less the second.  Printed as well: how
often the reference's own bf16 run agrees with picks.
"""
import pathlib
import sys

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
SEQ_TOK = 800
HF_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA3_NAMES = HF_NAMES | {
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def hf_name(name, names):
    if name.startswith("blk."):
        _, layer, rest, _ = name.split(".")
        return f"model.layers.{layer}.{names[rest]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight"}[name]


def unpermute(a, n_heads):
    return a.reshape(n_heads, a.shape[0] // n_heads // 2, 2, a.shape[1]).swapaxes(1, 2).reshape(
        a.shape)


def load_llama(reader, field):
    config = LlamaConfig(
        vocab_size=field("llama.vocab_size"), hidden_size=field("llama.embedding_length"),
        num_hidden_layers=field("llama.block_count"),
        intermediate_size=field("llama.feed_forward_length"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"), tie_word_embeddings=True,
        rope_theta=field("llama.rope.freq_base"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), attn_implementation="eager")
    state = {}
    for t in reader.tensors:
        a = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        if "attn_q." in t.name:
            a = unpermute(a, config.num_attention_heads)
        if "attn_k." in t.name:
            a = unpermute(a, config.num_key_value_heads)
        state[hf_name(t.name, HF_NAMES)] = torch.from_numpy(a.copy())
    model = LlamaForCausalLM(config)
    load_state(model, state)
    head_size = config.hidden_size // config.num_attention_heads
    assert abs(model.model.rotary_emb.inv_freq[1].item()
               / field("llama.rope.freq_base") ** (-2 / head_size) - 1) < 1e-6

    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)])
    return model, tok


def load_gemma3(reader, field):
    n_layers, window_every = field("gemma3.block_count"), 6
    config = Gemma3TextConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")),
        hidden_size=field("gemma3.embedding_length"), num_hidden_layers=n_layers,
        intermediate_size=field("gemma3.feed_forward_length"),
        num_attention_heads=field("gemma3.attention.head_count"),
        num_key_value_heads=field("gemma3.attention.head_count_kv"),
        head_dim=field("gemma3.attention.key_length"),
        query_pre_attn_scalar=field("gemma3.attention.key_length"),
        max_position_embeddings=field("gemma3.context_length"),
        sliding_window=field("gemma3.attention.sliding_window"),
        layer_types=["full_attention" if (l + 1) % window_every == 0 else "sliding_attention"
                     for l in range(n_layers)],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": field("gemma3.rope.freq_base")},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}},
        rms_norm_eps=field("gemma3.attention.layer_norm_rms_epsilon"), attn_implementation="eager")
    state = {}
    for t in reader.tensors:
        a = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        if "norm" in t.name:
            a = a - np.float32(1)
        state[hf_name(t.name, GEMMA3_NAMES)] = torch.from_numpy(a.copy())
    model = Gemma3ForCausalLM(config)
    load_state(model, state)
    # Merges by score: each token that is two tokens, in the order of their scores.
    tokens, scores = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.scores")
    ids = {t: i for i, t in enumerate(tokens)}
    merges = []
    for i, t in enumerate(tokens):
        pairs = [(t[:k], t[k:]) for k in range(1, len(t)) if t[:k] in ids and t[k:] in ids]
        merges += [(-scores[i], ids[a], ids[b], a, b) for a, b in pairs]
    tok = Tokenizer(models.BPE(ids, [m[3:] for m in sorted(merges)], byte_fallback=True,
                               fuse_unk=True, unk_token="<unk>"))
    tok.normalizer = normalizers.Replace(" ", "\u2581")
    return model, tok


def load_state(model, state):
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)


def load(path):
    reader = gguf.GGUFReader(path)

    def field(key):
        return reader.fields[key].contents()

    loaders = {"llama": load_llama, "gemma3": load_gemma3}
    family = field("general.architecture")
    model, tok = loaders[family](reader, field)
    # Gemma does not work without it, and no sequence of SmolLM2 begins so.
    bos = [field("tokenizer.ggml.bos_token_id")] if family == "gemma3" else []
    return model.eval(), tok, bos


def run(model, seqs):
    picks, margins = [], []
    with torch.no_grad():
        for seq in seqs:
            top = model(torch.tensor(seq)[None]).logits[0].float().topk(2)
            picks.append(top.indices[:, 0].numpy())
            margins.append((top.values[:, 0] - top.values[:, 1]).numpy())
    return np.concatenate(picks).astype("<i4"), np.concatenate(margins).astype("<f4")


def main():
    model, tok, bos = load(sys.argv[1])
    ids = tok.encode((HERE / "real_text.txt").read_text()).ids
    seqs = [bos + ids[i:i + SEQ_TOK] for i in range(0, len(ids), SEQ_TOK)]
    ids = [i for seq in seqs for i in seq]
    picks, margins = run(model, seqs)
    with open(HERE / sys.argv[2], "wb") as f:
        f.write(b"EPREAL01")
        f.write(np.array([len(seqs), len(ids)] + [len(s) for s in seqs], "<i4").tobytes())
        f.write(np.array(ids, "<i4").tobytes())
        f.write(picks.tobytes())
        f.write(margins.tobytes())
    predicted = np.mean(picks[:-1] == np.array(ids[1:]))
    print(f"{len(ids)} tokens in {len(seqs)} sequences; {np.mean(margins > 1e-3):.2%} have a margin "
          f"above 1e-3; the text's own next token is picked at {predicted:.1%}")
    bf16_picks, _ = run(model.bfloat16(), seqs)
    print(f"transformers in bf16 picks the same at {np.mean(bf16_picks == picks):.2%}")


if __name__ == "__main__":
    main()
