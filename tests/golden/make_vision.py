#!/usr/bin/env python3
"""Small vision-language checkpoints and what transformers makes of them.

Usage: python3 tests/golden/make_vision.py [NAME ...]
Needs: torch, transformers (5), numpy, safetensors, tokenizers, from PyPI.

Writes tests/golden/vision/NAME/: config.json, model.safetensors, tokenizer files, model.golden; read
by tests/unit_vision.c, tests/unit_vision_mutations.c, tests/unit_vision_prompt.c.

Weights are drawn from a seed and rounded to bfloat16; norms, biases and the class token are far from
what a fresh model has, so that leaving one out shows.  Pixels come from a formula (pixels()), which
the tests know too, so that no preprocessing stands between the two programs.

model.golden: "EPVISION", then int32 and float32, little-endian:
  n_images, D_out, V, n_prompts, nmse of the reference's bf16 (float64: embeddings, logits)
  for each image: n_pictures, grid_h, grid_w, n_rows, embeddings [n_rows, D_out]
  for each prompt: T, n_prefill, n_images, the images, tokens [T], positions [T, 3], logits [T, V];
                   tokens from n_prefill on are answers, one a step
"""
import copy
import pathlib
import struct
import json
import sys

import numpy as np
import torch
import transformers
from make_checkpoints import to_bf16
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "vision"
V = 64
TEXT = dict(vocab_size=V, hidden_size=24, num_hidden_layers=2, intermediate_size=24,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=512,
            rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
            tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0))
IMAGE = 60  # the token

# images: (pictures, patches high, patches wide).
MODELS = {
    "llava": dict(seed=31, images=[(1, 3, 3), (1, 3, 3)]),
    "llava-full": dict(seed=34, images=[(1, 2, 2), (1, 2, 2)]),
    "idefics3": dict(seed=32, images=[(1, 6, 6), (5, 6, 6)]),
    "qwen2vl": dict(seed=33, images=[(1, 4, 6), (1, 8, 2)]),
}


def llava_config(**changes):
    return transformers.LlavaConfig(**{**dict(
        text_config=dict(TEXT, model_type="llama"),
        vision_config=dict(model_type="clip_vision_model", hidden_size=24, intermediate_size=40,
                           num_hidden_layers=3, num_attention_heads=2, image_size=19, patch_size=6,
                           hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=8),
        image_token_index=IMAGE, vision_feature_layer=-2, tie_word_embeddings=True,
        vision_feature_select_strategy="default", projector_hidden_act="gelu"), **changes})


CONFIGS = {
    "llava": llava_config,
    # SigLIP, the last layer, every row, no biases in the projector
    "llava-full": lambda: llava_config(
        vision_config=dict(model_type="siglip_vision_model", hidden_size=36, intermediate_size=20,
                           num_hidden_layers=1, num_attention_heads=2, image_size=12, patch_size=6,
                           layer_norm_eps=1e-6, vision_use_head=False),
        text_config={**TEXT, "model_type": "qwen2", "head_dim": 16, "hidden_size": 32,
                     "tie_word_embeddings": False},
        vision_feature_layer=1, vision_feature_select_strategy="full",
        multimodal_projector_bias=False, projector_hidden_act="gelu_pytorch_tanh",
        tie_word_embeddings=False),
    "idefics3": lambda: transformers.Idefics3Config(
        text_config=dict(TEXT, model_type="llama", tie_word_embeddings=False),
        vision_config=dict(hidden_size=24, intermediate_size=36, num_hidden_layers=2,
                           num_attention_heads=2, image_size=25, patch_size=4,
                           hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6),
        image_token_id=IMAGE, scale_factor=3, tie_word_embeddings=False),
    "qwen2vl": lambda: transformers.Qwen2VLConfig(
        text_config=dict({k: v for k, v in TEXT.items() if k != "head_dim"}, hidden_size=32,
                         rope_parameters=dict(rope_type="default", rope_theta=1000.0,
                                              mrope_section=[2, 3, 3])),
        vision_config=dict(depth=2, embed_dim=24, hidden_size=32, mlp_ratio=2, num_heads=2,
                           patch_size=4, spatial_merge_size=2, temporal_patch_size=2),
        image_token_id=IMAGE, video_token_id=61, vision_start_token_id=58,
        vision_end_token_id=59, tie_word_embeddings=True),
}
CLASSES = {"llava": "Llava", "llava-full": "Llava", "idefics3": "Idefics3", "qwen2vl": "Qwen2VL"}


def build(name, config):
    return getattr(transformers, CLASSES[name] + "ForConditionalGeneration")(config)


def draw_weights(seed, state):
    rng = np.random.default_rng(seed)
    w = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape)
        norm = "norm" in name or "layrnorm" in name or "ln_q" in name
        if norm and name.endswith("weight"):
            a = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("bias"):
            a = rng.standard_normal(shape) * (0.3 if norm else 0.5)
        elif "embed_tokens" in name or "position_embedding" in name or "class_embedding" in name:
            a = rng.standard_normal(shape)
        else:
            n_in = int(np.prod(shape[1:]))
            sharp = any(k in name for k in ("q_proj", "k_proj", "attn.qkv", "lm_head"))
            a = rng.standard_normal(shape) * (2 if sharp else 1) / n_in**0.5
        w[name] = to_bf16(a.astype(np.float32))
    return w


def pixels(image, n_pictures, h, w, n):
    """Patches [n_pictures, h * w, n] of an image, h * w in the order in which they are stored."""
    i = np.arange(n_pictures * h * w * n, dtype=np.uint64)
    x = (i * 2654435761 + (image + 1) * 40503) % 4294967296
    x ^= x >> 15
    x = (x * 2246822519) % 4294967296
    x ^= x >> 13
    values = (x % 511).astype(np.float32) / 256 - np.float32(0.99609375)
    return values.reshape(n_pictures, h * w, n)


def to_picture(patches, h, w, p):
    """[h * w, 3 * p * p] in rows to [3, h * p, w * p]."""
    return patches.reshape(h, w, 3, p, p).transpose(2, 0, 3, 1, 4).reshape(3, h * p, w * p)


def image_inputs(name, config, images):
    """What the reference takes for some images, and how many embeddings each has."""
    v = config.vision_config
    shapes = MODELS[name]["images"]
    p = v.patch_size
    if name == "qwen2vl":
        n = 3 * v.temporal_patch_size * p * p
        flat = [pixels(i, *shapes[i], n)[0] for i in images]
        return dict(pixel_values=torch.from_numpy(np.concatenate(flat)),
                    image_grid_thw=torch.tensor([[1, *shapes[i][1:]] for i in images]))
    pictures = []
    edge = v.image_size
    for i in images:
        k, h, w = shapes[i]
        for one in pixels(i, k, h, w, 3 * p * p):
            whole = np.zeros((3, edge, edge), np.float32)  # what is beyond the last patch is not seen
            whole[:, : h * p, : w * p] = to_picture(one, h, w, p)
            pictures.append(whole)
    values = torch.from_numpy(np.stack(pictures))
    return dict(pixel_values=values[None] if name == "idefics3" else values)


def embeddings(name, model, config, image):
    inputs = image_inputs(name, config, [image])
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    with torch.no_grad():
        out = model.model.get_image_features(**inputs, return_dict=True).pooler_output
    return torch.cat(list(out), 0).float().numpy()


def make_prompts(name, n_rows, rng):
    """(tokens, images in it, tokens of the prompt)"""
    def text(n):
        return list(rng.integers(3, 56, n))

    # tokens of text and images, then tokens of the answer
    plans = [([7], 3), ([3, (0,), 4], 4), ([2, (1,), 3, (0,), 1], 5), ([(1,), 2], 3)]
    out = []
    for parts, n_answer in plans:
        tokens, images = [1], []
        for part in parts:
            if isinstance(part, tuple):
                if name == "qwen2vl":
                    tokens.append(58)
                tokens += [IMAGE] * n_rows[part[0]]
                images.append(part[0])
                if name == "qwen2vl":
                    tokens.append(59)
            else:
                tokens += text(part)
        n_prefill = len(tokens)
        out.append((np.array(tokens + text(n_answer)), images, n_prefill))
    return out


def run_prompt(name, model, config, tokens, images, n_prefill):
    """Logits of all tokens, the answer's one by one with a cache, and their positions."""
    ids = torch.from_numpy(tokens)[None]
    inputs = image_inputs(name, config, images) if images else {}
    if images:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    positions = np.repeat(np.arange(len(tokens))[:, None], 3, 1)
    if name == "qwen2vl":
        types = (ids == IMAGE).int()
        model.model.rope_deltas = None
        if images:
            inputs["mm_token_type_ids"] = types[:, :n_prefill]
            p, _ = model.model.get_rope_index(ids, types, inputs["image_grid_thw"])
            positions = p[:, 0].T.numpy()
    logits = []
    with torch.no_grad():
        out = model(input_ids=ids[:, :n_prefill], use_cache=True, **inputs)
        logits.append(out.logits[0])
        cache = out.cache
        for t in range(n_prefill, len(tokens)):
            at = dict(position_ids=torch.from_numpy(positions[t])[:, None, None]) \
                if name == "qwen2vl" else {}
            out = model(input_ids=ids[:, t:t + 1], cache=cache, use_cache=True, **at)
            logits.append(out.logits[0])
    return torch.cat(logits).float().numpy(), positions


def nmse(got, right):
    got, right = [np.concatenate([a.ravel() for a in x]).astype(np.float64) for x in (got, right)]
    return float(((got - right) ** 2).sum() / (right**2).sum())


def load(name, folder, config, dtype):
    model = getattr(transformers, CLASSES[name] + "ForConditionalGeneration").from_pretrained(
        folder, config=copy.deepcopy(config), dtype=dtype, attn_implementation="eager")
    return model.eval()


def write_golden(name, folder, config):
    shapes = MODELS[name]["images"]
    models = {d: load(name, folder, config, d) for d in (torch.float32, torch.bfloat16)}
    f32, bf16 = models[torch.float32], models[torch.bfloat16]
    right = [embeddings(name, f32, config, i) for i in range(len(shapes))]
    rounded = [embeddings(name, bf16, config, i) for i in range(len(shapes))]
    rng = np.random.default_rng(MODELS[name]["seed"] + 100)
    prompts = make_prompts(name, [len(e) for e in right], rng)
    answers = [run_prompt(name, f32, config, *p) for p in prompts]
    error = [nmse(rounded, right),
             nmse([run_prompt(name, bf16, config, *p)[0] for p in prompts],
                  [a[0] for a in answers])]
    with open(folder / "model.golden", "wb") as out:
        out.write(b"EPVISION")
        out.write(struct.pack("<4i", len(shapes), right[0].shape[1], V, len(prompts)))
        out.write(struct.pack("<2d", *error))
        for shape, e in zip(shapes, right):
            out.write(struct.pack("<4i", *shape, len(e)))
            out.write(e.astype("<f4").tobytes())
        for (tokens, images, n_prefill), (logits, positions) in zip(prompts, answers):
            out.write(struct.pack("<3i", len(tokens), n_prefill, len(images)))
            out.write(np.array(images, "<i4").tobytes())
            out.write(tokens.astype("<i4").tobytes())
            out.write(positions.astype("<i4").tobytes())
            out.write(logits.astype("<f4").tobytes())
    print(f"{name}: embeddings {[e.shape for e in right]} std {right[0].std():.2f}, logits std "
          f"{answers[2][0].std():.2f}, bf16 nmse {error[0]:.2e} {error[1]:.2e}")


# How images are made ready: not used by the goldens, whose patches come from a formula, but a model
# without it is refused.
PREPARATIONS = {
    "llava": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 19},
              "crop_size": {"height": 19, "width": 19}},
    "llava-full": {"image_processor_type": "SiglipImageProcessor",
                   "size": {"height": 12, "width": 12}},
    "idefics3": {"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 50},
                 "max_image_size": {"longest_edge": 25}},
    "qwen2vl": {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 4, "merge_size": 2,
                "temporal_patch_size": 2, "min_pixels": 64, "max_pixels": 4096},
}


def write_preparation(name, folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATIONS[name], indent=1) + "\n")


def main():
    transformers.logging.set_verbosity_error()
    for name, m in MODELS.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        folder = HERE / name
        folder.mkdir(parents=True, exist_ok=True)
        config = CONFIGS[name]()
        torch.manual_seed(0)
        model = build(name, config)
        w = draw_weights(m["seed"], model.state_dict())
        if config.tie_word_embeddings:
            w.pop("lm_head.weight", None)
        missing, unexpected = model.load_state_dict(
            {n: torch.from_numpy(a) for n, a in w.items()}, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "model.safetensors").chmod(0o644)
        write_golden(name, folder, config)
        write_preparation(name, folder)


if __name__ == "__main__":
    main()
