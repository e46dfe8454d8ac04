#!/usr/bin/env python3
"""Compare `epidote tokenize` with the reference on very many hard strings, family by family.

    python3 compare_families.py EPIDOTE VOCABS [--n 100000] [--seed 1] [FAMILY ...]

EPIDOTE is the built program, VOCABS the folder of ggml-vocab-*.gguf that
inputs/models/fetch_llama_cpp_files.sh makes.  The reference is the family's tokeniser class of PyPI's
transformers 5 where it has one that keeps the family's rules, else `tokenizers` put together as the
family's tokenizer.json says.  Each family is compared twice, from the GGUF file and from the
tokenizer.json that the reference saves: ids with special tokens as plain text, ids with them parsed,
and the way back.  Run by `make test-oracle`; prints one line a comparison and exits with 1 if any
string differs.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import transformers
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.tokenization_utils_base import generate_merges

HERE = pathlib.Path(__file__).parent
# fmt: off
SPACES = [" ", "  ", "   ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", " \n", "\u3000", "\u2009", "\u0085", "\u2028", "\x0b", "\x1f", "\x1c"]
PARTS = [
    "the", " the", "The", "THE", "ing", " of", "don't", "I'm", "I'M", "we'Ve", "'s", "'S", "'\u017f", "'ll", "'LL", "''re", "x'd",
    "Hello", " World", "https://example.org/a?b=c#d", "user@example.org", "if (a != b) { c[i] += 2; }", "#include <x>",
    "0", "12", "123", "1234567", "3.14", "1,000,000", "0x1F", "\u0663\u0664", "\u0967", "\u00bd", "\u00b2\u00b3\u00b9", "\u2167", "\u3007", "\U00011de0",
    ",", ".", "!", "?", "...", "!!!???", "--", "=-=-", "_", "__", "\"", "(", ")", "[", "]", "<", ">", "</", "/", "\\", "|", "~", "`", "$5", "50%", "\u2019", "\u201c", "\u2026", "\u3002", "\uff0c", "\uff01", "\u00a1", "\u2018a\u2019",
    "caf\u00e9", "cafe\u0301", "\u0301", "\u0301\u0323", "\u0323\u0301", "e\u0323\u0302", "A\u030a", "\u212b", "\u1100\u1161\u11a8", "\u1112\u1161", "\u0958", "\u0f73", "\u0344", "\u2adc", "\ufb1d", "\U0001d15e", "\u08d3\u07f1", "a\u08d3\u0334", "\U00011935\U00011930", "\u1abf\u1ab0\u0334",
    "\u4f60\u597d", "\u4e16\u754c", "\u6f22\u5b57\u304b\u306a", "\u30ab\u30bf\u30ab\u30ca", "\ud55c\uad6d\uc5b4", "\u0645\u0631\u062d\u0628\u0627", "\u0645\u064e\u0631\u062d", "\u05e9\u05dc\u05d5\u05dd", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac", "Stra\u00dfe", "\u0130I\u0131i", "\u01c5", "\u02b0", "\u10d0", "\u1c90", "\u13a0", "\uab70", "\u00aa", "\u00b5",
    "\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3", "\u200d", "\u200b", "\ufeff", "\u00ad", "\ufffd", "\ue000", "\U0010ffff", "\U000e0067", "\U000e0100",
    "\u2581", "\u2581\u2581", "\u2581the", "<0x0A>", "<0x41>", "\x01", "\x7f", "\x1b[0m", "camelCaseWords", "HTTPServer", "snake_case", "\u00c9COLE\u00e9t\u00e9", "\u0e01\u0e33",
]
# fmt: on
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
ENDINGS, TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
QWEN35 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL
UPPER, LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT_4O = (UPPER + "*" + LOWER + "+" + ENDINGS + "?|" + UPPER + "+" + LOWER + "*" + ENDINGS + "?"
          + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL)  # fmt: skip
TEKKEN = (UPPER + "*" + LOWER + "+|" + UPPER + "+" + LOWER + "*"
          + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL)  # fmt: skip
V3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
      r"| ?[\p{P}\p{S}]+[\r\n]*" + TAIL)  # fmt: skip
CHINESE = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# Letters that have case, as deepseek-llm lists them.
CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-"
    "\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-"
    "\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5"
    "\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-"
    "\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-"
    "\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-"
    "\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-"
    "\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-"
    "\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-"
    "\U0001e943"
)
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
          r"|\s*[\r\n]|\s+(?!\S)|\s+")  # fmt: skip


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior)


def bytes_last(*steps):
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def digits_then_gpt2():
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def falcon():
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(individual_digits=False),
            split("[0-9][0-9][0-9]"),
        ]
    )


def deepseek_llm():
    return bytes_last(
        split("[\r\n]"), split(r"\s?[" + CASED + "]+"),
        split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"), split(r"\s+$"),
        split(CHINESE), pre_tokenizers.Digits(individual_digits=True),
    )  # fmt: skip


def deepseek_coder():
    return bytes_last(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CHINESE),
                      pre_tokenizers.Digits(individual_digits=True))  # fmt: skip


class Vocab:
    def __init__(self, path):
        fields = GGUFReader(path).fields
        get = lambda key: fields[key].contents() if key in fields else None  # noqa: E731
        self.tokens = get("tokenizer.ggml.tokens")
        self.kinds = get("tokenizer.ggml.token_type")
        self.scores = get("tokenizer.ggml.scores")
        self.merges = [tuple(m.split(" ")) for m in get("tokenizer.ggml.merges") or []]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        unk = get("tokenizer.ggml.unknown_token_id")
        self.unk = None if unk is None else self.tokens[unk]

    def add(self, tok, **flags):
        """The special tokens, as GGUF kinds say: control ones are special, user-defined ones not."""
        for kind, special in ((3, True), (2, True), (4, False)):
            which = [t for t, k in zip(self.tokens, self.kinds) if k == kind]
            added = [AddedToken(t, special=special, normalized=False, **(flags.get(t) or {})) for t in which]
            (tok.add_special_tokens if special else tok.add_tokens)(added)
        return tok


def byte_level(vocab, pre, normalizer=None, **options):
    tok = Tokenizer(models.BPE(vocab=vocab.ids, merges=vocab.merges, **options))
    tok.normalizer, tok.pre_tokenizer, tok.decoder = normalizer, pre, decoders.ByteLevel()
    return vocab.add(tok)


def of_class(name, vocab, **options):
    """The class's own pipeline over the vocabulary."""
    tok = getattr(transformers, name)(vocab=vocab.ids, merges=vocab.merges, **options)
    return vocab.add(Tokenizer.from_str(without_added(tok.backend_tokenizer.to_str())))


def without_added(text):
    spec = json.loads(text)
    spec["added_tokens"], spec["post_processor"] = [], None
    return json.dumps(spec)


def llama(vocab, flags=None, legacy=True, as_gguf=False):
    """by_score: what SentencePiece would do, as a list of merges."""
    scores = {t: s for t, s, k in zip(vocab.tokens, vocab.scores, vocab.kinds) if k == 1}
    merges = generate_merges(vocab.ids, scores)
    tok = transformers.LlamaTokenizer(vocab=vocab.ids, merges=merges, legacy=legacy).backend_tokenizer
    tok = Tokenizer.from_str(without_added(tok.to_str()))
    if as_gguf:  # as the files of the model's first years have it
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tok.pre_tokenizer = None
    return vocab.add(tok, **(flags or {}))


PHI3 = {t: {"rstrip": True} for t in ("</s>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>",
        "<|placeholder3|>", "<|placeholder4|>", "<|system|>", "<|end|>", "<|placeholder5|>",
        "<|placeholder6|>", "<|user|>")}  # fmt: skip
NFC = normalizers.NFC
# family: vocabulary, maker, whether the GGUF file means the same
FAMILIES = {
    "gpt-2": ("gpt-2", lambda v: of_class("GPT2Tokenizer", v), True),
    "starcoder": ("starcoder", lambda v: byte_level(v, digits_then_gpt2()), True),
    "refact": ("refact", lambda v: byte_level(v, digits_then_gpt2()), True),
    "command-r": ("command-r", lambda v: of_class("CohereTokenizer", v), True),
    "qwen2": ("qwen2", lambda v: of_class("Qwen2Tokenizer", v), True),
    "qwen35": ("qwen35", lambda v: of_class("Qwen3_5Tokenizer", v), True),
    "mpt": ("mpt", lambda v: of_class("GPTNeoXTokenizer", v), True),
    "llama-bpe": ("llama-bpe", lambda v: byte_level(v, bytes_last(split(LLAMA3)), ignore_merges=True), True),
    "falcon": ("falcon", lambda v: byte_level(v, falcon()), True),
    "deepseek-llm": ("deepseek-llm", lambda v: byte_level(v, deepseek_llm()), True),
    "deepseek-coder": ("deepseek-coder", lambda v: byte_level(v, deepseek_coder()), True),
    "llama-spm": ("llama-spm", lambda v: llama(v, as_gguf=True), True),
    "llama-spm-first": ("llama-spm", lambda v: llama(v, legacy=False), False),
    "llama-spm-always": ("llama-spm", lambda v: llama(v, legacy=True), False),
    "phi-3": ("phi-3", lambda v: llama(v, PHI3, as_gguf=True), True),
    "gemma-4": ("gemma-4", lambda v: of_class("GemmaTokenizer", v), True),
    # Patterns of families whose vocabulary is not at hand.
    "dbrx": ("gpt-2", lambda v: byte_level(v, bytes_last(split(LLAMA3))), False),
    "cl100k": ("gpt-2", lambda v: byte_level(v, bytes_last(split(CL100K))), False),
    "gpt-4o": ("qwen2", lambda v: byte_level(v, bytes_last(split(GPT_4O))), False),
    "tekken": ("qwen2", lambda v: byte_level(v, bytes_last(split(TEKKEN)), ignore_merges=True), False),
    "deepseek-v3": ("deepseek-llm", lambda v: byte_level(v, bytes_last(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(V3))), False),
    "cut": ("gpt-2", lambda v: byte_level(v, bytes_last(
        split("[aeiou]", "removed"), split(r"\p{Lu}", "merged_with_next"),
        split(r"[.,]|\s", "merged_with_previous"), split("[0-4]", "contiguous"))), False),
}  # fmt: skip


def make_strings(n, rng, special):
    special = special or [""]
    out = []
    for i in range(n):
        text = []
        for _ in range(1 + rng.randrange(12)):
            kind = rng.randrange(100)
            if kind < 50:
                text.append(rng.choice(PARTS))
            elif kind < 66:
                text.append(rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 3, 7]))
            elif kind < 82:
                code = rng.randrange(rng.choice([0x80, 0x800, 0x3100, 0x10000, 0x20000, 0x110000]))
                text.append(chr(code) if code > 0 and not 0xD800 <= code < 0xE000 else "\ufffd")
            elif kind < 88:
                text.append(str(rng.randrange(10 ** rng.randrange(1, 9))))
            elif kind < 94:
                text.append(rng.choice("abcdefghijklmnopqrstuvwxyzABC'") * rng.choice([1, 2, 5]))
            else:
                text.append(rng.choice(special))
        out.append("".join(text))
    for piece in ("a", " ", "\n", "\u4e2d", "ab ", "1", "\u0301", "'", "\U0001f600", "x\u0301 "):
        out.append((piece * 100000)[:100000])
    return out


def epidote(program, model, texts, *options):
    data = "".join(t + "\0" for t in texts).encode()
    run = subprocess.run([program, "tokenize", "--model", model, "--null", *options], input=data, capture_output=True)
    if run.returncode != 0:
        sys.exit(f"{model}: {run.stderr.decode()}")
    answers = run.stdout.split(b"\0")[:-1]
    assert len(answers) == len(texts), (len(answers), len(texts))
    return answers


def compare(what, texts, got, want):
    bad = [i for i in range(len(texts)) if got[i] != want[i]]
    print(f"{what:44} {len(texts):8} strings {len(bad):6} differ", flush=True)
    for i in bad[:3]:
        print("   ", repr(texts[i][:100]), "\n      got ", got[i][:200], "\n      want", want[i][:200])
    return len(bad)


def check(name, args, rng, folder):
    file, make, gguf_same = FAMILIES[name]
    gguf = str(pathlib.Path(args.vocabs) / f"ggml-vocab-{file}.gguf")
    vocab = Vocab(gguf)
    tok = make(vocab)
    saved = pathlib.Path(folder) / "tokenizer.json"
    tok.save(str(saved))
    special = [t for t, k in zip(vocab.tokens, vocab.kinds) if k in (3, 4)]
    texts = make_strings(args.n, rng, special[:40] + special[-40:])
    n_bad = 0
    for parse in (False, True):
        tok.encode_special_tokens = not parse
        want = []
        for at in range(0, len(texts), 2000):
            want += [e.ids for e in tok.encode_batch(texts[at : at + 2000], add_special_tokens=False)]
        option = ["--parse-special"] if parse else []
        for model in ([gguf] if gguf_same else []) + [str(saved)]:
            what = f"{name} {'parsed' if parse else 'plain'} {'gguf' if model == gguf else 'json'}"
            got = [[int(i) for i in a.split()] for a in epidote(args.epidote, model, texts, *option)]
            n_bad += compare(what, texts, got, want)
    # A user-defined token beyond ASCII stands for its own text here; the reference reads its characters
    # as the bytes that they spell in a byte-level alphabet.
    spelled = {i for i, (t, k) in enumerate(zip(vocab.tokens, vocab.kinds)) if k == 4 and not t.isascii()}
    if vocab.scores is None:
        want = [[i for i in ids if i not in spelled] for ids in want]
    rows = [" ".join(map(str, ids)) for ids in want]
    back = [t.encode() for t in tok.decode_batch(want, skip_special_tokens=True)]
    got = [a.decode("utf-8", "replace").encode() for a in epidote(args.epidote, str(saved), rows, "--decode")]
    return n_bad + compare(f"{name} back", rows, got, back)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("epidote")
    parser.add_argument("vocabs")
    parser.add_argument("families", nargs="*")
    parser.add_argument("--n", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_intermixed_args()
    n_bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.families or FAMILIES:
            n_bad += check(name, args, random.Random(f"{args.seed} {name}"), folder)
    sys.exit(n_bad > 0)


if __name__ == "__main__":
    main()
