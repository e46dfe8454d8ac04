#!/usr/bin/env python3
"""Write src/text/char_ranges.c: what each code point is to the patterns and rules of tokenisers.

Asks the reference itself (Hugging Face `tokenizers`) about every code point, so that ids do not
depend on the Unicode version of whatever library a machine has:

    python3 make_classes.py > ../../../src/text/char_ranges.c       (some minutes)

The reference has five opinions: that of its regular expressions, of its Digits rule, of its
Punctuation rule, of what a word is around an added token and of what its normal form C can change.
Code points of which it says the same are one class.
"""
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
PATTERNS = {  # name in C: pattern
    "LU": r"\p{Lu}", "LL": r"\p{Ll}", "LT": r"\p{Lt}", "LM": r"\p{Lm}", "LO": r"\p{Lo}",
    "M": r"\p{M}", "ND": r"\p{Nd}", "NX": r"[\p{Nl}\p{No}]", "P": r"\p{P}", "S": r"\p{S}",
    "SPACE": r"\s", "HAN": r"\p{Han}",
}  # fmt: skip


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    return {c for c in CODE_POINTS if split.pre_tokenize_str(chr(c)) == []}


def isolated(rule):
    return {c for c in CODE_POINTS if len(rule.pre_tokenize_str("a" + chr(c) + "a")) == 3}


def word_characters():
    """Those beside which an added token that must be a single word is not found."""
    tok = Tokenizer(models.BPE(vocab={"<x>": 0}, merges=[]))
    tok.add_tokens([AddedToken("<x>", single_word=True, normalized=False)])
    return {c for c in CODE_POINTS if tok.encode(chr(c) + "<x>").ids == []}


def changed_by_nfc():
    """Those that normal form C orders, decomposes or composes; newer ones it leaves where they are."""
    nfc, nfd = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    out = set()
    for c in CODE_POINTS:
        text = chr(c)
        # Marks of class 1 and of class 10 beside it show whether it has a class.
        if nfc("x" + text + "\u0334") != "x" + text + "\u0334" or nfc("x\u05b0" + text) != "x\u05b0" + text:
            out.add(c)
        if nfd(text) != text:
            out |= {c} | {ord(part) for part in nfd(text)}
    return out


def main():
    sets = {name: matched(pattern) for name, pattern in PATTERNS.items()}
    sets["DIGIT"] = isolated(pre_tokenizers.Digits(individual_digits=True))
    sets["PUNCT"] = isolated(pre_tokenizers.Punctuation("isolated"))
    sets["WORD"] = word_characters()
    sets["NFC"] = changed_by_nfc()
    assert matched(r"\p{L}") == sets["LU"] | sets["LL"] | sets["LT"] | sets["LM"] | sets["LO"]
    assert matched(r"\p{N}") == sets["ND"] | sets["NX"]
    assert matched(r"\d") == sets["ND"]
    of_point = {}
    for name, points in sets.items():
        for c in points:
            of_point.setdefault(c, []).append(name)
    names_of = {c: tuple(names) for c, names in of_point.items()}
    classes = [()] + sorted(set(names_of.values()))
    rows = []
    for c in sorted(names_of):
        k = classes.index(names_of[c])
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == k:
            rows[-1][1] = c
        else:
            rows.append([c, c, k])
    print(f"""/*
 * char_ranges.c - what each code point is to the patterns and rules of tokenisers.
 *
 * Made by tests/golden/tokenizer/make_classes.py from tokenizers {tokenizers.__version__}; do not edit.  A table of
 * our own, because token ids must not change with the Unicode version of an installed library.
 */
#include "text/internal.h"

/* clang-format off */
const uint16_t char_class_props[] = {{""")
    for names in classes:
        print("    " + (" | ".join("CHAR_" + n for n in names) or "0") + ",")
    print("""};
const int n_char_classes = sizeof char_class_props / sizeof char_class_props[0];

const struct char_range char_ranges[] = {""")
    line = ""
    for a, b, k in rows:
        item = f"{{{a:#x}, {b:#x}, {k}}},"
        if len(line) + len(item) + 1 > 95:
            print("   " + line)
            line = ""
        line += " " + item
    print("   " + line)
    print("""};
/* clang-format on */
const int n_char_ranges = sizeof char_ranges / sizeof char_ranges[0];""")


main()
