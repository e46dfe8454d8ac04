#!/usr/bin/env python3
"""Write what the reference makes of hard strings by the rules of each family, over small vocabularies,
for tests/unit_families.c.

    python3 make_families.py

strings.txt     HEX: the bytes of each string, all valid UTF-8
bytes.json      vocab and merges of a byte-level vocabulary (that of ../tokenizer) with added tokens
chars.json      the same of one of characters with byte tokens; scores: those that give these merges
FAMILY.json     a tokenizer.json without vocab and merges; "base" names the file that has them, "gguf"
                the name of its rules in GGUF files, if they are the same there
FAMILY.txt      for each string an XXH64 cut to 32 bits of: its ids with special tokens as text, its ids
                with them parsed, the latter as text without special tokens
spm.json        pieces: [text, score, type] of a SentencePiece model that lacks some characters of its
                pieces; spm.txt, spm-bare.txt: the same hashes by `sentencepiece` itself, with and
                without a space put before the text, of ids only

The reference is that of ../compare_families.py.  Needs the PyPI packages transformers 5,
gguf, xxhash and sentencepiece.
"""
import json
import pathlib
import random
import struct
import sys

import sentencepiece
import xxhash
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import compare_families as reference  # noqa: E402

N_STRINGS = 700
FLAGGED = {
    "<think>": {}, "na\u00efve": {}, "<left>": {"lstrip": True}, "<right>": {"rstrip": True},
    "<both>": {"lstrip": True, "rstrip": True}, "<word>": {"single_word": True}, "<n> \u212b": {"normalized": True},
}  # fmt: skip
GGUF = {"starcoder": "starcoder", "refact": None, "llama-spm-first": None, "llama-spm-always": None, "cl100k": None,
        "cut": None, "llama-spm": None, "phi-3": None, "gemma-4": "char-bpe"}  # fmt: skip
CHARS = ("llama-spm", "phi-3", "gemma-4", "llama-spm-first", "llama-spm-always")


class Small:
    """A vocabulary as compare_families.py wants it."""

    def __init__(self, ids, merges, kinds, scores=None):
        self.tokens = sorted(ids, key=ids.get)
        self.ids, self.merges, self.kinds, self.scores, self.unk = ids, merges, kinds, scores, "<unk>"

    def add(self, tok, **flags):
        for kind, special in ((3, True), (4, False)):
            which = [t for t, k in zip(self.tokens, self.kinds) if k == kind]
            added = [AddedToken(t, special=special, **({"normalized": False} | (flags.get(t) or FLAGGED.get(t) or {})))
                     for t in which]  # fmt: skip
            (tok.add_special_tokens if special else tok.add_tokens)(added)
        return tok


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def bytes_vocab():
    model = json.loads((HERE / "../tokenizer.json").read_text("utf-8"))["model"]
    ids = dict(model["vocab"])
    kinds = [3] * 3 + [1] * (len(ids) - 3) + [3, 3] + [4] * len(FLAGGED)
    for token in ["<|special|>", "<|strip|>", *FLAGGED]:
        ids[token] = len(ids)
    FLAGGED["<|strip|>"] = {"rstrip": True}
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    write("bytes.json", {"vocab": ids, "merges": merges})
    return Small(ids, [tuple(m) for m in merges], kinds)


def chars_vocab():
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<mask>", "<|end|>", "<|user|>"]
    names = special + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581\u2581\u2581", "\n\n"]
    trainer = trainers.BpeTrainer(vocab_size=len(names) + 700, min_frequency=2, special_tokens=names, show_progress=False)
    lines = (HERE / "../corpus.txt").read_text("utf-8").splitlines(keepends=True)
    tok.train_from_iterator(lines + reference.PARTS, trainer)
    ids = tok.get_vocab()
    kinds = [3] * len(special) + [6] * 256 + [4] * 2 + [1] * (len(ids) - len(names))
    order = sorted(ids, key=ids.get)
    scores = [0.0 if k != 1 else -float(i // 3) for i, k in enumerate(kinds)]  # with ties
    merges = reference.generate_merges(ids, {t: -float(i) for i, (t, k) in enumerate(zip(order, kinds)) if k == 1})
    write("chars.json", {"vocab": ids, "merges": merges, "scores": scores})
    return Small(ids, merges, kinds, [-float(i) for i in range(len(ids))])


def hashes(texts, encode, decode):
    out = []
    for text in texts:
        packed = b""
        for parse in (False, True):
            ids = encode(text, parse)
            packed += struct.pack(f"<{len(ids) + 1}i", len(ids), *ids)
        out.append(f"{xxhash.xxh64_intdigest(packed + decode(ids)) & 0xFFFFFFFF:08x}")
    return out


def write_family(name, vocab, base, texts):
    tok = reference.FAMILIES[name][1](vocab)
    spec = json.loads(tok.to_str())
    for key in ("vocab", "merges"):
        del spec["model"][key]
    gguf = GGUF[name] if name in GGUF else name
    if gguf == "char-bpe":
        gguf = None
    write(f"{name}.json", {"base": base, "gguf": gguf, "tokenizer": spec})

    def encode(text, parse):
        tok.encode_special_tokens = not parse
        return tok.encode(text, add_special_tokens=False).ids

    def decode(ids):
        spelled = {vocab.ids.get("na\u00efve"), vocab.ids.get("<n> \u212b")}  # see compare_families.py
        return tok.decode([i for i in ids if i not in spelled], skip_special_tokens=True).encode()

    lines = hashes(texts, encode, decode)
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_spm(vocab, texts):
    missing = {"q", "\u4f60", "\u0645", "w"}
    proto = sentencepiece_model_pb2.ModelProto()
    types = {3: 3, 6: 6, 4: 4, 1: 1}
    pieces = []
    for i, (token, kind) in enumerate(zip(vocab.tokens, vocab.kinds)):
        kind = 2 if token == "<unk>" else types[kind]
        if kind == 1 and (token in missing):
            continue
        if token == "\n\n":  # the reference of others puts a space after user-defined tokens, this one does not
            kind = 1
        score = -float(i // 4) if kind == 1 else 0.0
        pieces.append([token, score, kind])
        proto.pieces.add(piece=token, score=score, type=kind)
    proto.trainer_spec.model_type = 2  # BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id, proto.trainer_spec.bos_id, proto.trainer_spec.eos_id = 0, 1, 2
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    write("spm.json", {"pieces": pieces})
    for name, prefix in (("spm", True), ("spm-bare", False)):
        proto.normalizer_spec.add_dummy_prefix = prefix
        model = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        lines = hashes(texts, lambda text, parse: model.encode(text), lambda ids: b"")
        # SentencePiece does not tell a space from its sign, of which user-defined tokens are made.
        lines = ["-" if "\u2581" in t else line for t, line in zip(texts, lines)]
        (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def main():
    rng = random.Random(20260202)
    by_bytes, by_chars = bytes_vocab(), chars_vocab()
    special = ["<|im_start|>", "<|special|>", "<|strip|>", " <|strip|> ", *FLAGGED, " <left> ", " <right> ", "a<word>b",
               " <word> ", "<s>", "</s>", "<|user|>\n", "<n> \u00c5", "\u2581\u2581\u2581"]  # fmt: skip
    texts = [t for t in reference.make_strings(N_STRINGS, rng, special) if len(t) < 5000 and "\0" not in t]
    texts += ["", " ", "Hello", " Hello", "   Hello", "Hello ", "\n", "\n\n\n", "quw q", "\u4f60\u597d"]
    (HERE / "strings.txt").write_text("".join(t.encode().hex() + "\n" for t in texts))
    for name in reference.FAMILIES:
        if name != "refact":
            chars = name in CHARS
            write_family(name, by_chars if chars else by_bytes, "chars" if chars else "bytes", texts)
    write_spm(by_chars, texts)


main()
