#!/usr/bin/env python3
"""Two llama checkpoints with matrices of 8-bit floats -> block/, row/

    python3 tests/golden/fp8/make_fp8.py        needs what ../make_checkpoints.py needs

block: quant_method fp8, a float32 scale for each block of 32 x 20 (which divides nothing evenly).
row: quant_method compressed-tensors, a bf16 scale for each row.  The right answers are what
transformers computes in float32 with the weights as float32(8-bit value) * float32(scale).
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import make_checkpoints as mc  # noqa: E402

C = dict(seed=6, T=40, dtype="F32", V=160, D=48, L=2, F=80, H=2, K=1, E=32, tied=True,
         base=10000.0, eps=1e-5)
BLOCK = (32, 20)
CONFIGS = {
    "block": dict(quant_method="fp8", activation_scheme="dynamic", fmt="e4m3",
                  weight_block_size=list(BLOCK), modules_to_not_convert=["lm_head"]),
    "row": dict(quant_method="compressed-tensors", format="float-quantized", kv_cache_scheme=None,
                ignore=["lm_head"], quantization_status="compressed",
                config_groups=dict(group_0=dict(
                    targets=["Linear"], output_activations=None,
                    input_activations=dict(num_bits=8, type="float", dynamic=True, strategy="token"),
                    weights=dict(num_bits=8, type="float", dynamic=False, strategy="channel",
                                 symmetric=True, group_size=None)))),
}


def quantize(w, kind):
    """(8-bit values, scales as stored, the weights that they mean)"""
    rows, cols = BLOCK if kind == "block" else (1, w.shape[1])
    n_rows, n_cols = -(-w.shape[0] // rows), -(-w.shape[1] // cols)
    scales = torch.empty(n_rows, n_cols)
    for i in range(n_rows):
        for j in range(n_cols):
            scales[i, j] = w[i * rows:(i + 1) * rows, j * cols:(j + 1) * cols].abs().max() / 448
    if kind == "row":
        scales = scales.bfloat16()
    spread = scales.float().repeat_interleave(rows, 0)[: w.shape[0]]
    spread = spread.repeat_interleave(cols, 1)[:, : w.shape[1]]
    q = (w / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
    return q, scales.contiguous(), q.float() * spread


def main():
    for kind, quantization in CONFIGS.items():
        folder = HERE / kind
        folder.mkdir(exist_ok=True)
        stored, values = {}, {}
        for name, a in mc.round_weights(mc.draw_weights(C), "BF16").items():
            values[name] = a
            if a.ndim == 1 or "embed" in name:
                stored[name] = torch.from_numpy(a).bfloat16()
                continue
            q, scales, means = quantize(torch.from_numpy(a), kind)
            stored[name] = q
            stored[name + ("_scale_inv" if kind == "block" else "_scale")] = scales
            values[name] = means.numpy()
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        config = dict(mc.hf_config(C), torch_dtype="bfloat16", quantization_config=quantization)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        mc.write_golden(folder / "model.golden", C, values)


if __name__ == "__main__":
    main()
