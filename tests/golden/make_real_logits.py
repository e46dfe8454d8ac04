#!/usr/bin/env python3
"""Writes what transformers picks on SmolLM2 after every token of real_text.txt.

Usage: python3 tests/golden/make_real_logits.py SmolLM2-135M-Instruct.Q4_1.gguf
Needs: torch transformers gguf tokenizers numpy, from PyPI.  The tests do not need them.

The GGUF's tensors are dequantised to float32, q and k rows put back in Hugging Face's order, and run
teacher-forced through LlamaForCausalLM in float32 with eager attention, in sequences of at most
SEQ_TOK tokens.  The tokeniser is built from the GGUF's own tokens and merges.  Output,
real_text.golden, all little-endian:

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
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
SEQ_TOK = 800
HF_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_name(name):
    if name.startswith("blk."):
        _, layer, rest, _ = name.split(".")
        return f"model.layers.{layer}.{HF_NAMES[rest]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight"}[name]


def unpermute(a, n_heads):
    return a.reshape(n_heads, a.shape[0] // n_heads // 2, 2, a.shape[1]).swapaxes(1, 2).reshape(
        a.shape)


def load(path):
    reader = gguf.GGUFReader(path)

    def field(key):
        return reader.fields[key].contents()

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
        state[hf_name(t.name)] = torch.from_numpy(a.copy())
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    head_size = config.hidden_size // config.num_attention_heads
    assert abs(model.model.rotary_emb.inv_freq[1].item()
               / field("llama.rope.freq_base") ** (-2 / head_size) - 1) < 1e-6

    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)])
    return model.eval(), tok


def run(model, seqs):
    picks, margins = [], []
    with torch.no_grad():
        for seq in seqs:
            top = model(torch.tensor(seq)[None]).logits[0].float().topk(2)
            picks.append(top.indices[:, 0].numpy())
            margins.append((top.values[:, 0] - top.values[:, 1]).numpy())
    return np.concatenate(picks).astype("<i4"), np.concatenate(margins).astype("<f4")


def main():
    model, tok = load(sys.argv[1])
    ids = tok.encode((HERE / "real_text.txt").read_text()).ids
    seqs = [ids[i:i + SEQ_TOK] for i in range(0, len(ids), SEQ_TOK)]
    picks, margins = run(model, seqs)
    with open(HERE / "real_text.golden", "wb") as f:
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
