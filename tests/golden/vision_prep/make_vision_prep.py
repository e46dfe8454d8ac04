#!/usr/bin/env python3
"""make_vision_prep.py - what transformers' image processors make of pictures of many shapes.

    python3 tests/golden/vision_prep/make_vision_prep.py        # transformers 5, torch, torchvision, pillow

Writes expected.bin beside itself, a sequence of
    bytes of JSON, layout, patch, patch_frames, merge, grid, width, height (uint32 each), the JSON,
    tiles_x, tiles_y, n_patches, CRC-32 of all values as float32, n_samples (uint32; n_patches 0: the
        processor refuses the picture),
    samples (float32): number k is element (uint32(k * 2654435761) * n_elements) >> 32 of the patches
and resize.txt: what torchvision's resize alone makes of scene(width, height), a line each
    filter (1 bilinear, 2 bicubic, 3 lanczos), width, height, new width, new height, FNV-1a of 64 bits
The pictures are scene() below, which tests/unit_vision_prep.c has as well.
"""
import json
import os
import struct
import warnings
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode, functional
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.idefics3.image_processing_idefics3 import Idefics3ImageProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor
from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor

warnings.simplefilter("ignore")
here = os.path.dirname(os.path.abspath(__file__))
classes = {c.__name__: c for c in (CLIPImageProcessor, LlavaImageProcessor, SiglipImageProcessor,
                                   Idefics3ImageProcessor, SmolVLMImageProcessor, Qwen2VLImageProcessor)}
LLAVA, IDEFICS3, QWEN2VL = range(3)
N_SAMPLES = 300


def scene(w, h):
    """Checks, a slope and noise: what every filter treats differently."""
    y, x, c = np.meshgrid(np.arange(h, dtype=np.uint64), np.arange(w, dtype=np.uint64), np.arange(3, dtype=np.uint64),
                          indexing="ij")
    n = (x * 374761393 + y * 668265263 + c * 2246822519) & 0xffffffff
    n = ((n ^ (n >> 13)) * 1274126177) & 0xffffffff
    checks = np.where((((x >> 4) + (y >> 3) + c) & 1) == 1, 160, 20).astype(np.uint64)
    return (checks + ((n >> 16) & 63) + x * 32 // w).astype(np.uint8)


def patches_of(layout, patch, values):
    if layout == QWEN2VL:
        return values
    n, c, h, w = values.shape
    gh, gw = h // patch, w // patch
    return values[:, :, :gh * patch, :gw * patch].reshape(n, c, gh, patch, gw, patch).transpose(0, 2, 4, 1, 3, 5) \
        .reshape(n * gh * gw, -1)


out = []


def case(config, layout, patch, frames, merge, grid, w, h):
    text = json.dumps(config).encode()
    kwargs = {k: v for k, v in config.items() if k not in ("image_processor_type", "processor_class")}
    cls = classes[config["image_processor_type"].removesuffix("Fast")]
    tiles = (0, 0)
    try:
        got = cls(**kwargs)(Image.fromarray(scene(w, h)), return_tensors="pt",
                            **({"return_row_col_info": True} if layout == IDEFICS3 else {}))
        values = got["pixel_values"].float().numpy()
        if layout == IDEFICS3:
            values = values[0]
            tiles = (got["cols"][0][0], got["rows"][0][0])
        patches = patches_of(layout, patch, values)
    except (ValueError, RuntimeError, ZeroDivisionError) as e:
        print("  refused:", config["image_processor_type"], w, h, str(e)[:80])
        patches = np.zeros((0, 1), np.float32)
    flat = patches.reshape(-1).astype("<f4")
    n = N_SAMPLES if flat.size else 0
    k = np.arange(n, dtype=np.uint64)
    at = (((k * 2654435761) & 0xffffffff) * flat.size) >> 32
    out.append(struct.pack("<8I", len(text), layout, patch, frames, merge, grid, w, h) + text +
               struct.pack("<5I", *tiles, len(patches), zlib.crc32(flat.tobytes()), n) + flat[at.astype(np.int64)].tobytes())


few = [(101, 77), (40, 90), (64, 64), (5, 3), (1, 30)]
many = few + [(30, 1), (1, 1), (160, 90), (128, 128), (400, 4), (6, 333), (333, 222), (63, 65)]

clip = {"crop_size": {"height": 64, "width": 64}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "CLIPImageProcessor", "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "LlavaProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 64}}
for size in many:
    case(clip, LLAVA, 16, 1, 1, 4, *size)
case(dict(clip, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}), LLAVA, 14, 1, 1, 24, 640, 427)
# defaults; numbers for sizes; a crop that is larger, and one that is not square
case({"image_processor_type": "CLIPImageProcessorFast"}, LLAVA, 14, 1, 1, 16, 300, 500)
for size in few:
    case({"image_processor_type": "CLIPImageProcessor", "size": 48, "crop_size": 56, "resample": 2}, LLAVA, 14, 1, 1, 4, *size)
    case({"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}}, LLAVA, 16, 1, 1, 4, *size)
    case({"image_processor_type": "SiglipImageProcessor", "size": {"height": 30, "width": 30}, "resample": 2,
          "image_mean": 0.4, "image_std": 0.25}, LLAVA, 10, 1, 1, 3, *size)
    case({"image_processor_type": "LlavaImageProcessor", "size": {"shortest_edge": 42},
          "crop_size": {"height": 42, "width": 42}, "do_pad": True}, LLAVA, 14, 1, 1, 3, *size)
    case(dict(clip, size={"shortest_edge": 32, "longest_edge": 70}), LLAVA, 16, 1, 1, 4, *size)
case({"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}, "resample": 0,
      "do_normalize": False}, LLAVA, 16, 1, 1, 4, 101, 77)
case({"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}, "do_rescale": False,
      "image_mean": [127.5] * 3, "image_std": [60.0, 61.0, 62.0]}, LLAVA, 16, 1, 1, 4, 101, 77)
case(dict(clip, do_resize=False), LLAVA, 16, 1, 1, 4, 101, 50)

smol = {"do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "Idefics3ImageProcessor",
        "image_std": [0.5, 0.5, 0.5], "max_image_size": {"longest_edge": 64}, "processor_class": "Idefics3Processor",
        "resample": 1, "rescale_factor": 0.00392156862745098, "size": {"longest_edge": 192}}
for size in many:
    case(smol, IDEFICS3, 16, 1, 2, 4, *size)
for size in few:
    case(dict(smol, do_image_splitting=False, image_processor_type="SmolVLMImageProcessor"), IDEFICS3, 16, 1, 2, 4, *size)
    case(dict(smol, size={"longest_edge": 64}, resample=3), IDEFICS3, 16, 1, 4, 4, *size)
    case(dict(smol, do_resize=False, resample=2), IDEFICS3, 16, 1, 2, 4, *size)
case(dict(smol, size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}), IDEFICS3, 16, 1, 4, 32, 500, 375)
case(dict(smol, size={"longest_edge": 5000}, max_image_size={"longest_edge": 2048}), IDEFICS3, 16, 1, 4, 128, 9, 2)

qwen = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711], "max_pixels": 28 * 28 * 20, "merge_size": 2,
        "min_pixels": 3136, "patch_size": 14, "resample": 3, "rescale_factor": 0.00392156862745098,
        "temporal_patch_size": 2}
for size in many + [(1, 201), (1, 200), (84, 112), (42, 70), (70, 98)]:
    case(qwen, QWEN2VL, 14, 2, 2, 0, *size)
case({"image_processor_type": "Qwen2VLImageProcessorFast"}, QWEN2VL, 14, 2, 2, 0, 640, 427)
case({"image_processor_type": "Qwen2VLImageProcessor", "size": {"shortest_edge": 10000, "longest_edge": 20000}}, QWEN2VL,
     14, 2, 2, 0, 50, 60)
case({"image_processor_type": "Qwen2VLImageProcessor", "do_resize": False}, QWEN2VL, 14, 2, 2, 0, 56, 84)

with open(os.path.join(here, "expected.bin"), "wb") as f:
    f.write(b"".join(out))
lines = []
for number, mode in enumerate((InterpolationMode.BILINEAR, InterpolationMode.BICUBIC, InterpolationMode.LANCZOS), 1):
    for w, h, new_w, new_h in ((101, 77, 40, 30), (101, 77, 150, 200), (7, 300, 64, 64), (64, 64, 64, 20), (1, 1, 5, 9),
                               (333, 222, 32, 221), (2, 50, 33, 1)):
        fnv = 0xcbf29ce484222325
        picture = torch.from_numpy(scene(w, h)).permute(2, 0, 1).contiguous()
        for byte in functional.resize(picture, [new_h, new_w], interpolation=mode).permute(1, 2, 0).numpy().tobytes():
            fnv = ((fnv ^ byte) * 0x100000001b3) & 0xffffffffffffffff
        lines.append(f"{number} {w} {h} {new_w} {new_h} {fnv:016x}\n")
with open(os.path.join(here, "resize.txt"), "w") as f:
    f.writelines(lines)
print(len(out), "cases,", sum(map(len, out)), "bytes")
