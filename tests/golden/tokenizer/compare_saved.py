#!/usr/bin/env python3
"""Compare `epidote tokenize` with transformers 5 on directories that its tokeniser classes save.

    python3 compare_saved.py EPIDOTE VOCABS [--n 500]

Unlike compare_families.py this looks at the whole of a directory: tokenizer.json with its
post-processor, and tokenizer_config.json; ids with BOS and EOS, special tokens parsed.  EPIDOTE and
VOCABS are as there.  Run by `make test-oracle`; exits with 1 if any string differs.
"""
import argparse
import pathlib
import random
import sys
import tempfile

import compare_families as reference
import transformers


def classes(vocabs):
    """Name and tokeniser of each class."""
    read = lambda name: reference.Vocab(str(pathlib.Path(vocabs) / f"ggml-vocab-{name}.gguf"))  # noqa: E731
    spm, qwen2, gemma, gpt2, mpt = map(read, ("llama-spm", "qwen2", "gemma-4", "gpt-2", "mpt"))
    scores = {t: s for t, s, k in zip(spm.tokens, spm.scores, spm.kinds) if k == 1}
    merges = reference.generate_merges(spm.ids, scores)
    below = lambda v, n: {t: i for t, i in v.ids.items() if i < n}  # noqa: E731
    yield "llama", transformers.LlamaTokenizer(vocab=spm.ids, merges=merges, add_bos_token=True)
    yield "llama-legacy", transformers.LlamaTokenizer(
        vocab=spm.ids, merges=merges, legacy=True, add_bos_token=True, add_eos_token=True
    )
    yield "qwen2", transformers.Qwen2Tokenizer(vocab=below(qwen2, 151643), merges=qwen2.merges)
    yield "gemma", transformers.GemmaTokenizer(vocab=gemma.ids, merges=gemma.merges, add_bos_token=True)
    yield "gpt2", transformers.GPT2Tokenizer(vocab=gpt2.ids, merges=gpt2.merges)
    yield "neox", transformers.GPTNeoXTokenizer(
        vocab=below(mpt, 50254), merges=mpt.merges, bos_token="<|endoftext|>"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("epidote")
    parser.add_argument("vocabs")
    parser.add_argument("--n", type=int, default=500)
    args = parser.parse_args()
    special = ["<s>", "</s>", "<bos>", "<eos>", "<|im_start|>", "<|endoftext|>"]
    n_bad = 0
    for name, tokenizer in classes(args.vocabs):
        texts = reference.make_strings(args.n, random.Random(name), special)[: args.n]
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            got = reference.epidote(args.epidote, folder, texts, "--special", "--parse-special")
        want = [tokenizer(t).input_ids for t in texts]
        n_bad += reference.compare(f"{name} saved", texts, [[int(i) for i in a.split()] for a in got], want)
    sys.exit(n_bad > 0)


main()
