#!/usr/bin/env python3
"""Random blocks of each tensor type and what the GGUF reference makes of them -> dequant.bin

    python3 tests/golden/dequant/make_dequant.py        needs numpy, gguf and torch from PyPI

For each type, in the order of enum tensor_type (src/model/model.h): the number of blocks (uint32),
elements and bytes of a block (uint32 each), the blocks, and the float32 values that gguf.quants
gives for them; for F8_E4M3, which GGUF does not have, torch.  All little-endian.  Scales are finite;
those of the first blocks are the extremes.
"""
import pathlib
import struct

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Where a block's binary16 scales are, and how many.
SCALES = {Type.Q4_0: (0, 1), Type.Q4_1: (0, 2), Type.Q5_0: (0, 1), Type.Q5_1: (0, 2), Type.Q8_0: (0, 1),
          Type.Q2_K: (80, 2), Type.Q3_K: (108, 1), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208, 1)}
EXTREMES = [0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x0000, 0x8000]
rng = np.random.default_rng(20)


def blocks_of(kind, n_bytes):
    if kind in SCALES:
        at, n = SCALES[kind]
        n_blocks = 32 if n_bytes < 64 else 20
        blocks = rng.integers(0, 256, (n_blocks, n_bytes), dtype=np.uint8)
        scales = rng.integers(0, 0x7C00, (n_blocks, n), dtype=np.uint16)
        scales |= rng.integers(0, 2, scales.shape, dtype=np.uint16) << 15
        scales[: len(EXTREMES)] = np.array(EXTREMES, np.uint16)[:, None]
        blocks[:, at : at + 2 * n] = scales.view(np.uint8)
        return blocks
    if kind == Type.F16:  # a signalling NaN may come out quiet; there are none here
        bits = rng.integers(0, 65536, 1024, dtype=np.uint16)
        bits = np.where((bits & 0x7FFF) > 0x7C00, bits | 0x200, bits)
        bits[: len(EXTREMES)] = EXTREMES
        bits[8:12] = [0x7C00, 0xFC00, 0x7E00, 0x3C00]
        return bits.view(np.uint8).reshape(-1, n_bytes)
    return rng.integers(0, 256, (256, n_bytes), dtype=np.uint8)


def put(out, blocks, n_elems, values):
    values = np.ascontiguousarray(values.astype(np.float32, copy=False))
    assert values.size == blocks.shape[0] * n_elems
    out.write(struct.pack("<3I", blocks.shape[0], n_elems, blocks.shape[1]))
    out.write(blocks.tobytes() + values.view(np.uint32).tobytes())


def put_f8(out):
    blocks = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    values = torch.from_numpy(blocks.ravel()).view(torch.float8_e4m3fn).float().numpy().copy()
    bits = values.view(np.uint32)  # torch keeps a NaN's sign, and which NaN it is does not matter
    bits[np.isnan(values)] = (bits[np.isnan(values)] & 0x80000000) | 0x7FC00000
    put(out, blocks, 1, values)


with open(pathlib.Path(__file__).with_name("dequant.bin"), "wb") as out:
    for name in "F32 F16 BF16 Q4_0 Q4_1 Q8_0 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K F8_E4M3".split():
        if name == "F8_E4M3":
            put_f8(out)
            continue
        kind = Type[name]
        n_elems, n_bytes = GGML_QUANT_SIZES[kind]
        blocks = blocks_of(kind, n_bytes)
        put(out, blocks, n_elems, dequantize(blocks.reshape(1, -1), kind))
