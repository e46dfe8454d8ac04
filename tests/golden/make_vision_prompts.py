#!/usr/bin/env python3
"""Ids of prompts with images, as the processors of transformers make them.

Usage: python3 tests/golden/make_vision_prompts.py
Needs: transformers (5), numpy, tokenizers, from PyPI.

Writes tests/golden/vision/tokenizer.json (tests/golden/tokenizer/tokenizer.json with the tokens that
stand by images, and one that two line ends merge into) and prompts.txt, read by
tests/unit_vision_prompt.c: one prompt a line,
  layout, tile rows, tile columns, embeddings of a picture, text as JSON with one marker, ids
"""
import json
import pathlib

import numpy as np
from transformers import PreTrainedTokenizerFast
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

HERE = pathlib.Path(__file__).parent
TOKENS = (["<image>", "<fake_token_around_image>", "<global-img>", "<|vision_start|>",
           "<|vision_end|>", "<|image_pad|>"]
          + [f"<row_{r + 1}_col_{c + 1}>" for r in range(3) for c in range(3)])


def make_tokenizer(path):
    t = json.loads((HERE / "tokenizer" / "tokenizer.json").read_text())
    vocab = t["model"]["vocab"]
    vocab["ĊĊ"] = len(vocab)
    t["model"]["merges"].append(["Ċ", "Ċ"] if isinstance(t["model"]["merges"][0], list) else "Ċ Ċ")
    for i, text in enumerate(TOKENS):
        t["added_tokens"].append(dict(id=len(vocab) + i, content=text, single_word=False,
                                      lstrip=False, rstrip=False, normalized=False, special=True))
    path.write_text(json.dumps(t, ensure_ascii=False))
    return PreTrainedTokenizerFast(tokenizer_file=str(path))


class Grid:
    """What a processor asks of its image processor's answer."""

    def __init__(self, n):
        self.n = n

    def prod(self):
        return self.n * 4


def replacement(layout, rows, cols, n):
    if layout == "llava":
        p = LlavaProcessor.__new__(LlavaProcessor)
        p.image_token, p.patch_size = "<image>", 1
        p.num_additional_image_tokens, p.vision_feature_select_strategy = 1, "default"
        return p.replace_image_token({"pixel_values": [np.zeros((3, 1, n), np.float32)]}, 0)
    if layout == "qwen2vl":
        p = Qwen2VLProcessor.__new__(Qwen2VLProcessor)
        p.image_token = "<|image_pad|>"
        p.image_processor = type("Merge", (), {"merge_size": 2})
        return p.replace_image_token({"image_grid_thw": [Grid(n)]}, 0)
    p = Idefics3Processor.__new__(Idefics3Processor)
    p.fake_image_token, p.image_token = "<fake_token_around_image>", "<image>"
    p.global_image_tag, p.image_seq_len = "<global-img>", n
    text = p.replace_image_token({"rows": [[rows]], "cols": [[cols]]}, 0)
    assert text == get_image_prompt_string(rows, cols, n, p.fake_image_token, p.image_token,
                                           p.global_image_tag)
    return text


def main():
    tokenizer = make_tokenizer(HERE / "vision" / "tokenizer.json")
    texts = {"llava": "<image>", "idefics3": "<image>", "qwen2vl":
             "<|vision_start|><|image_pad|><|vision_end|>"}
    with open(HERE / "vision" / "prompts.txt", "w") as out:
        for layout, wrapped in texts.items():
            marker = "<|image_pad|>" if layout == "qwen2vl" else "<image>"
            shapes = [(0, 0, 5)] + ([(1, 1, 4), (2, 3, 4), (3, 1, 2), (1, 2, 1)]
                                    if layout == "idefics3" else [(0, 0, 1)])
            for rows, cols, n in shapes:
                for around in ("{}What is it?", "\n{}\n\nHow many?", "<|im_start|>user\n{} {}"):
                    text = around.replace("{}", wrapped, 1).replace("{}", "the end\n")
                    whole = text.replace(marker, replacement(layout, rows, cols, n))
                    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
                    print(layout, rows, cols, n, json.dumps(text), " ".join(map(str, ids)),
                          sep="\t", file=out)


if __name__ == "__main__":
    main()
