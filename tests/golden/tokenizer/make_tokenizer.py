#!/usr/bin/env python3
"""Train the small tokeniser of the tests and of the model in inputs/ on corpus.txt.

    python3 make_tokenizer.py        writes tokenizer.json and tokenizer_config.json here

Of the same make as SmolLM2's: digits one by one, then GPT-2's byte-level BPE.
Needs the PyPI package tokenizers; made with 0.23.3.
"""
import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def main():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=2,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = (HERE / "corpus.txt").read_text("utf-8").splitlines(keepends=True)
    tok.train_from_iterator(lines, trainer)
    assert tok.get_vocab_size() == 1024, tok.get_vocab_size()
    tok.save(str(HERE / "tokenizer.json"), pretty=False)
    config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": False}
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


main()
