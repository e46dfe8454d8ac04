#!/usr/bin/env python3
"""Write what the reference makes of many generated strings with SmolLM2's real vocabulary, for
tests/unit_real_tokens.c, which generates the same strings.

    python3 make_tokens.py SMOLLM2.gguf

expect.txt   first line: the number of strings and the XXH64 of all of them, one after another; then
             one XXH64 a string, cut to 32 bits, of: its ids, its ids with special tokens parsed, and
             the latter as text without special tokens, NUL replaced by U+FFFD
chat.jsonl   template, messages, ids: written by Jinja, then encoded with special tokens parsed

The reference is `tokenizers` built from the file's tokens and merges with SmolLM2's own
pre-tokeniser, Digits(individual) then ByteLevel.  (A model loader that knows GGUF may drop the digit
rule.)  Needs the PyPI packages tokenizers, gguf, xxhash and jinja2.
"""
import json
import pathlib
import struct
import sys

import jinja2
import jinja2.sandbox
import xxhash
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).parent
N_STRINGS = 24000
FRAGMENTS = [f.encode() for f in json.loads((HERE / "fragments.json").read_text("utf-8"))]
SPACES = [" ", "\t", "\n", "\r\n", "\u00a0", " \n", "\u3000"]


class Draw:
    """Knuth's 64-bit linear congruential generator, one for each string."""

    def __init__(self, string):
        self.state = string * 0x9E3779B97F4A7C15 % 2**64

    def __call__(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


def make_string(number):
    draw = Draw(number)
    out = b""
    for _ in range(1 + draw(16)):
        kind = draw(100)
        if kind < 66:
            out += FRAGMENTS[draw(len(FRAGMENTS))]
        elif kind < 82:  # any character of a plane, or of the scripts of the first one
            code = draw([0x80, 0x800, 0x3100, 0x10000, 0x20000, 0x110000][draw(6)])
            out += chr(code if not 0xD800 <= code < 0xE000 else 0xFFFD).encode()
        elif kind < 92:
            out += SPACES[draw(len(SPACES))].encode() * (1 + draw(12))
        elif kind < 98:
            for _ in range(1 + draw(6)):
                out += b"%d" % draw(10)
        else:  # ill-formed
            for _ in range(1 + draw(3)):
                out += bytes([0x80 + draw(0x80)])
    return out


def load(path):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    control = [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, kinds) if k == 3]
    tok.add_special_tokens(control)
    assert tok.get_vocab_size() == len(tokens)
    return tok, fields["tokenizer.chat_template"].contents()


def expect(tok, data):
    text = data.decode("utf-8", "replace")
    packed = b""
    for tok.encode_special_tokens in (True, False):
        ids = tok.encode(text, add_special_tokens=False).ids
        packed += struct.pack(f"<{len(ids) + 1}i", len(ids), *ids)
    back = tok.decode(ids, skip_special_tokens=True).replace("\0", "\ufffd").encode()
    return xxhash.xxh64_intdigest(packed + back) & 0xFFFFFFFF


def write_chat(tok, template):
    # The settings that transformers' apply_chat_template uses.
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    tok.encode_special_tokens = False
    with open(HERE / "chat.jsonl", "w") as out:
        for i in range(60):
            roles = ["system"] * (i % 3 == 0) + ["user", "assistant", "user"][2 * (i % 2):]
            content = [make_string(10**6 + 10 * i + k).decode("utf-8", "replace") for k in range(len(roles))]
            messages = [{"role": r, "content": c} for r, c in zip(roles, content)]
            text = env.from_string(template).render(messages=messages, add_generation_prompt=True)
            ids = tok.encode(text, add_special_tokens=False).ids
            print(json.dumps({"template": "smollm2", "messages": messages, "ids": ids}), file=out)


def main():
    tok, template = load(sys.argv[1])
    all_strings = xxhash.xxh64()
    hashes = []
    for i in range(N_STRINGS):
        data = make_string(i)
        all_strings.update(data)
        hashes.append(f"{expect(tok, data):08x}")
    with open(HERE / "expect.txt", "w") as out:
        print(N_STRINGS, all_strings.hexdigest(), file=out)
        for i in range(0, N_STRINGS, 10):
            print(*hashes[i : i + 10], file=out)
    write_chat(tok, template)


main()
