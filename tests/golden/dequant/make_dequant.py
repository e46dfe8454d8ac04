#!/usr/bin/env python3
"""Random blocks of each tensor type and what the GGUF reference makes of them -> dequant.bin

    python3 tests/golden/dequant/make_dequant.py        needs numpy and gguf from PyPI

For each type, in the order of enum tensor_type (src/model/model.h): the number of blocks (uint32),
elements and bytes of a block (uint32 each), the blocks, and the float32 values that gguf.quants
gives for them.  All little-endian.  Scales are finite; those of the first blocks are the extremes.
"""
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

N_SCALES = {Type.Q4_0: 1, Type.Q4_1: 2, Type.Q8_0: 1}
EXTREMES = [0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x0000, 0x8000]
rng = np.random.default_rng(20)


def blocks_of(kind, n_bytes):
    if kind in N_SCALES:
        blocks = rng.integers(0, 256, (32, n_bytes), dtype=np.uint8)
        scales = rng.integers(0, 0x7C00, (32, N_SCALES[kind]), dtype=np.uint16)
        scales |= rng.integers(0, 2, scales.shape, dtype=np.uint16) << 15
        scales[: len(EXTREMES)] = np.array(EXTREMES, np.uint16)[:, None]
        blocks[:, : 2 * N_SCALES[kind]] = scales.view(np.uint8)
        return blocks
    if kind == Type.F16:  # a signalling NaN may come out quiet; there are none here
        bits = rng.integers(0, 65536, 1024, dtype=np.uint16)
        bits = np.where((bits & 0x7FFF) > 0x7C00, bits | 0x200, bits)
        bits[: len(EXTREMES)] = EXTREMES
        bits[8:12] = [0x7C00, 0xFC00, 0x7E00, 0x3C00]
        return bits.view(np.uint8).reshape(-1, n_bytes)
    return rng.integers(0, 256, (256, n_bytes), dtype=np.uint8)


with open(pathlib.Path(__file__).with_name("dequant.bin"), "wb") as out:
    for kind in (Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q8_0):
        n_elems, n_bytes = GGML_QUANT_SIZES[kind]
        blocks = blocks_of(kind, n_bytes)
        values = dequantize(blocks.reshape(1, -1), kind).astype(np.float32, copy=False)
        assert values.size == blocks.shape[0] * n_elems
        out.write(struct.pack("<3I", blocks.shape[0], n_elems, n_bytes))
        out.write(blocks.tobytes() + np.ascontiguousarray(values).view(np.uint32).tobytes())
