#!/usr/bin/env python3
"""Small model files to begin fuzzing with -> seeds/gguf, seeds/safetensors, seeds/config

    python3 tests/fuzz/make_model_seeds.py        needs numpy, gguf and safetensors from PyPI
"""
import json
import pathlib

import gguf
import numpy as np
from gguf.quants import quantize
from safetensors.numpy import save

SEEDS = pathlib.Path(__file__).with_name("seeds")
D, F, H, K, E, V = 32, 32, 2, 1, 16, 8
TYPES = [gguf.GGMLQuantizationType[t] for t in ("Q8_0", "Q4_0", "Q4_1", "F16", "BF16")]
SHAPES = {
    "token_embd": (V, D), "output_norm": (D,), "blk.0.attn_norm": (D,), "blk.0.attn_q": (H * E, D),
    "blk.0.attn_k": (K * E, D), "blk.0.attn_v": (K * E, D), "blk.0.attn_output": (D, H * E),
    "blk.0.ffn_norm": (D,), "blk.0.ffn_gate": (F, D), "blk.0.ffn_up": (F, D), "blk.0.ffn_down": (D, F),
}
BIASES = {"blk.0.attn_q": H * E, "blk.0.attn_k": K * E, "blk.0.attn_v": K * E, "blk.0.attn_output": D}
rng = np.random.default_rng(3)


def put(kind, name, data):
    (SEEDS / kind).mkdir(parents=True, exist_ok=True)
    (SEEDS / kind / name).write_bytes(data)


def make_gguf(name, types, head=False, biases=False, arch="llama", keys=(), shapes=None):
    path = SEEDS / "gguf" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    out = gguf.GGUFWriter(path, arch)
    out.add_block_count(1)
    out.add_embedding_length(D)
    out.add_feed_forward_length(F)
    out.add_head_count(H)
    out.add_head_count_kv(K)
    out.add_context_length(64)
    out.add_rope_dimension_count(E)
    out.add_rope_freq_base(10000.0)
    out.add_layer_norm_rms_eps(1e-5)
    for method, *values in keys:
        getattr(out, method)(*values)
    out.add_quantization_version(2)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(["<s>", "</s>", "a", "b", "ab", "c", "abc", "<u>"])
    out.add_token_types([3, 3, 1, 1, 1, 1, 1, 4])
    out.add_token_merges(["a b", "ab c"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_add_bos_token(True)
    out.add_chat_template("{{ messages }}")
    if head:  # values that no key of a model has, and a tensor that is no part of one
        out.add_array("general.tags", ["x", "y"])
        out.add_float64("general.f64", 0.5)
        out.add_int64("general.i64", -1)
    shapes = shapes or (dict(SHAPES, output=(V, D)) if head else SHAPES)
    for i, (tensor, shape) in enumerate(shapes.items()):
        values = rng.standard_normal(shape).astype(np.float32)
        if tensor == "rope_freqs":
            values = 1 + np.abs(values)
        if len(shape) == 1:
            out.add_tensor(tensor + ".weight", values)
        else:
            kind = types[i % len(types)]
            out.add_tensor(tensor + ".weight", quantize(values, kind), raw_dtype=kind)
    for tensor, n in BIASES.items() if biases else ():
        out.add_tensor(tensor + ".bias", rng.standard_normal(n).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def make_safetensors():
    def vector(n, kind):
        return rng.standard_normal(n).astype(kind)

    put("safetensors", "two", save({"a": vector((2, 3), np.float32), "b": vector(4, np.float16)},
                                   metadata={"format": "pt"}))
    put("safetensors", "scalar", save({"x": np.array(1, np.float32), "empty": vector(0, np.float32)}))
    put("safetensors", "none", save({}))
    put("safetensors", "other", save({"i": np.arange(3), "f": vector(1, np.float64)}))
    bf16 = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    put("safetensors", "bf16", len(bf16).to_bytes(8, "little") + bf16 + bytes(8))


def make_config():
    base = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 576,
            "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": True}
    four = dict(base, rope_theta=100000, rope_scaling=None, torch_dtype="bfloat16", pretraining_tp=1,
                attention_bias=False, eos_token_id=[2, 0], bos_token_id=1)
    five = dict(base, head_dim=64, rope_parameters={"rope_theta": 1e5, "rope_type": "default"},
                layer_types=["full_attention"] * 2, eos_token_id=None, mlp_bias=False)
    scaled = dict(base, rope_scaling={"rope_type": "llama3", "factor": 8.0}, quantization_config={})
    biased = dict(base, attention_bias=True)
    for name, config in (("four", four), ("five", five), ("scaled", scaled), ("biased", biased)):
        put("config", name, json.dumps(config).encode())
    put("config", "least", b'{"model_type": "llama"}')
    put("config", "generation", b'{"eos_token_id": [1, 2], "temperature": 0.6}')


def make_families():
    """Windows, norms behind blocks, norms of q and k; stacked experts; fused projections."""
    norms = {"blk.0." + n: (D,) for n in ("post_attention_norm", "post_ffw_norm")}
    make_gguf("gemma3", TYPES[:1], arch="gemma3", keys=[
        ("add_key_length", E), ("add_value_length", E), ("add_sliding_window", 4),
        ("add_rope_scaling_type", gguf.RopeScalingType.LINEAR), ("add_rope_scaling_factor", 8.0),
        ("add_sliding_window_pattern", [True])],
        shapes=dict(SHAPES, **norms, **{"blk.0.attn_q_norm": (E,), "blk.0.attn_k_norm": (E,)}))
    dense = {n: s for n, s in SHAPES.items() if "ffn_gate" not in n and "ffn_up" not in n
             and "ffn_down" not in n}
    make_gguf("experts", TYPES[3:4], keys=[("add_expert_count", 2), ("add_expert_used_count", 1)],
              shapes=dict(dense, **{"blk.0.ffn_gate_inp": (2, D), "blk.0.ffn_gate_exps": (2, F, D),
                                    "blk.0.ffn_up_exps": (2, F, D),
                                    "blk.0.ffn_down_exps": (2, D, F), "rope_freqs": (E // 2,)}))
    fused = {n: s for n, s in SHAPES.items() if n[6:] not in ("attn_q", "attn_k", "attn_v",
                                                              "ffn_gate", "ffn_up")}
    make_gguf("phi3", TYPES[:1], arch="phi3", keys=[("add_sliding_window", 4)],
              shapes=dict(fused, **{"blk.0.attn_qkv": ((H + 2 * K) * E, D),
                                    "blk.0.ffn_up": (2 * F, D)}))
    base = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "vocab_size": 96}
    put("config", "gemma3", json.dumps(dict(
        base, model_type="gemma3_text", head_dim=16, sliding_window=8, query_pre_attn_scalar=16,
        layer_types=["sliding_attention", "full_attention"], final_logit_softcapping=None,
        rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0},
                         "sliding_attention": {"rope_theta": 1e4}})).encode())
    put("config", "llama3", json.dumps(dict(
        base, model_type="llama", rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192})).encode())
    put("config", "smollm3", json.dumps(dict(
        base, model_type="smollm3", no_rope_layers=[1, 0], use_sliding_window=True,
        sliding_window=8)).encode())
    put("config", "qwen3moe", json.dumps(dict(
        base, model_type="qwen3_moe", num_experts=4, num_experts_per_tok=2, norm_topk_prob=True,
        moe_intermediate_size=32, mlp_only_layers=[], max_window_layers=1)).encode())
    put("config", "granite", json.dumps(dict(
        base, model_type="granite", embedding_multiplier=12.0, residual_multiplier=0.22,
        attention_multiplier=0.015625, logits_scaling=8.0)).encode())


def make_vision():
    """The small vision-language models of the goldens, and one with its keys in one object."""
    golden = pathlib.Path(__file__).parents[1] / "golden" / "vision"
    for name in ("llava", "llava-full", "idefics3", "qwen2vl"):
        config = json.loads((golden / name / "config.json").read_text())
        put("config", name, json.dumps(config).encode())
    text = config.pop("text_config")
    put("config", "qwen2vl-flat", json.dumps(dict(text, **config)).encode())


def make_kquant():
    """Every type of GGUF, the larger ones with random blocks; as one file and as parts of a model."""
    width = 256
    shapes = {"token_embd": (V, width), "output_norm": (width,), "blk.0.attn_norm": (width,),
              "blk.0.attn_q": (H * E, width), "blk.0.attn_k": (K * E, width),
              "blk.0.attn_v": (K * E, width), "blk.0.attn_output": (width, H * E),
              "blk.0.ffn_norm": (width,), "blk.0.ffn_gate": (F, width), "blk.0.ffn_up": (F, width),
              "blk.0.ffn_down": (width, F)}
    types = {"token_embd": "Q6_K", "blk.0.attn_q": "Q4_K", "blk.0.attn_k": "Q2_K", "blk.0.attn_v": "Q3_K",
             "blk.0.attn_output": "Q5_0", "blk.0.ffn_gate": "Q5_K", "blk.0.ffn_up": "Q8_0",
             "blk.0.ffn_down": "Q5_1"}

    def begin(name):
        return gguf.GGUFWriter(SEEDS / "gguf" / name, "llama")

    def keys(out):
        out.add_block_count(1)
        out.add_embedding_length(width)
        out.add_feed_forward_length(F)
        out.add_head_count(H)
        out.add_head_count_kv(K)
        out.add_key_length(E)
        out.add_value_length(E)
        out.add_context_length(64)
        out.add_layer_norm_rms_eps(1e-5)
        out.add_tokenizer_model("gpt2")
        out.add_tokenizer_pre("smollm")
        out.add_token_list(["<s>", "</s>", "a", "b", "ab", "c", "abc", "<u>"])
        out.add_token_merges(["a b", "ab c"])
        out.add_float32("general.sampling.temp", 0.7)
        out.add_int32("general.sampling.top_k", 40)

    def split(out, no):
        out.add_uint16("split.no", no)
        out.add_uint16("split.count", 2)
        out.add_int32("split.tensors.count", len(shapes))

    def tensor(out, name):
        shape = shapes[name]
        if name not in types:
            out.add_tensor(name + ".weight", np.ones(shape, np.float32))
            return
        kind = gguf.GGMLQuantizationType[types[name]]
        n_elems, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 256, (shape[0], shape[1] // n_elems * n_bytes), dtype=np.uint8)
        out.add_tensor(name + ".weight", raw, raw_dtype=kind)

    def end(out):
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()

    whole = begin("kquant")
    keys(whole)
    for name in shapes:
        tensor(whole, name)
    end(whole)
    first = begin("split_first")
    keys(first)
    split(first, 0)
    tensor(first, "output_norm")
    end(first)
    part = begin("split_part")
    split(part, 1)
    tensor(part, "blk.0.attn_norm")
    tensor(part, "blk.0.attn_k")
    end(part)


def make_f8(name, matrices, rng):
    """A whole model as fuzz_safetensors.c expects it, with scales for each block of 8 x 8."""
    header, data = {}, b""
    d, v = 16, 4

    def put_tensor(name, dtype, shape, raw):
        nonlocal data
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw

    put_tensor("model.embed_tokens.weight", "BF16", [v, d], bytes(2 * v * d))
    put_tensor("model.norm.weight", "F32", [d], np.ones(d, np.float32).tobytes())
    for norm in ("input_layernorm", "post_attention_layernorm"):
        put_tensor(f"model.layers.0.{norm}.weight", "F32", [d], np.ones(d, np.float32).tobytes())
    for matrix, (*stack, rows, cols) in matrices.items():
        n = int(np.prod(stack, dtype=int))
        if matrix == "mlp.gate.weight":
            put_tensor(f"model.layers.0.{matrix}", "F32", [rows, cols], bytes(4 * rows * cols))
            continue
        raw = rng.integers(0, 0x7F, n * rows * cols, dtype=np.uint8).tobytes()
        put_tensor(f"model.layers.0.{matrix}", "F8_E4M3", [*stack, rows, cols], raw)
        put_tensor(f"model.layers.0.{matrix}_scale_inv", "F32", [*stack, rows // 8, cols // 8],
                   rng.random(n * rows * cols // 64, np.float32).tobytes())
    text = json.dumps(header).encode()
    put("safetensors", name, len(text).to_bytes(8, "little") + text + data)


def make_f8_models():
    square = (16, 16)
    make_f8("f8", {f"{n}.weight": square for n in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
        "mlp.up_proj", "mlp.down_proj")}, rng)
    make_f8("f8_experts", {
        "self_attn.qkv_proj.weight": (48, 16), "self_attn.o_proj.weight": square, "mlp.gate.weight": (2, 16),
        "mlp.experts.gate_up_proj": (2, 32, 16), "mlp.experts.down_proj": (2, 16, 16)},
        np.random.default_rng(4))


def make_more_configs():
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3", "activation_scheme": "dynamic"}
    row = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {
        "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}}}}
    for name, quantization in (("fp8", fp8), ("row8", row)):
        put("config", name, json.dumps({"model_type": "llama", "quantization_config": quantization}).encode())
    put("config", "sampling", json.dumps({"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                                          "repetition_penalty": 1.05, "suppress_tokens": []}).encode())


make_gguf("q8_0", TYPES[:1])
make_gguf("types", TYPES, head=True)
make_safetensors()
make_config()
make_gguf("biased", TYPES[:1], biases=True)
numbers = rng.bit_generator.state
make_families()
rng.bit_generator.state = numbers  # what follows was first made right after "biased"
make_kquant()
make_f8_models()
make_more_configs()
make_vision()
