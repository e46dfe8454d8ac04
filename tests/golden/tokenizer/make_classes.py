#!/usr/bin/env python3
"""Write src/text/char_ranges.c: the character classes that pre-tokeniser patterns speak of.

Asks the reference itself (Hugging Face `tokenizers`) about every code point, so that ids do not
depend on the Unicode version of whatever library a machine has:

    python3 make_classes.py > ../../../src/text/char_ranges.c       (about a minute)
"""
import tokenizers
from tokenizers import Regex, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    return {c for c in CODE_POINTS if split.pre_tokenize_str(chr(c)) == []}


def isolated_digits():
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {c for c in CODE_POINTS if len(digits.pre_tokenize_str("a" + chr(c) + "a")) == 3}


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def main():
    letters, numbers, spaces = matched(r"\p{L}"), matched(r"\p{N}"), matched(r"\s")
    digits = isolated_digits()
    assert numbers <= digits and not letters & digits and not spaces & (letters | digits)
    classes = [("LETTER", letters), ("NUMBER", numbers), ("DIGIT", digits - numbers), ("SPACE", spaces)]
    rows = sorted((a, b, name) for name, points in classes for a, b in ranges(points))
    print(f"""/*
 * char_ranges.c - which code points are letters, numbers and spaces to a pre-tokeniser.
 *
 * Made by tests/golden/tokenizer/make_classes.py from tokenizers {tokenizers.__version__}; do not edit.  A table of
 * our own, because token ids must not change with the Unicode version of an installed library.
 */
#include "text/internal.h"

/* clang-format off */
const struct char_range char_ranges[] = {{""")
    line = ""
    for a, b, name in rows:
        item = f"{{{a:#x}, {b:#x}, CHAR_{name}}},"
        if len(line) + len(item) + 1 > 95:
            print("   " + line)
            line = ""
        line += " " + item
    print("   " + line)
    print("""};
/* clang-format on */
const int n_char_ranges = sizeof char_ranges / sizeof char_ranges[0];""")


main()
