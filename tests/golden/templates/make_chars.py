#!/usr/bin/env python3
"""make_chars.py - print src/text/template_chars.c: what Python says of each character beyond ASCII.

    python3 tests/golden/templates/make_chars.py > src/text/template_chars.c

The tables are those of the Python that runs this (3.11: Unicode 14), whose str methods chat
templates were written for.
"""
import unicodedata


def ranges(holds):
    out, first = [], None
    for c in range(0x80, 0x110001):
        now = c < 0x110000 and holds(chr(c))
        if now and first is None:
            first = c
        if not now and first is not None:
            out.append((first, c - 1))
            first = None
    return out


def moves(change):
    """(first, last, step, by): of single characters; and what becomes several."""
    out, several = [], []
    for c in range(0x80, 0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        to = change(chr(c))
        if to == chr(c):
            continue
        if len(to) > 1:
            several.append((c, [ord(x) for x in to]))
            continue
        by = ord(to) - c
        if out and out[-1][3] == by:
            first, last, step, _ = out[-1]
            if (step == 0 and c - last <= 2) or step == c - last:
                out[-1] = (first, c, c - last, by)
                continue
        out.append((c, c, 0, by))
    return [(a, b, max(s, 1), d) for a, b, s, d in out], several


def table(rows, width):
    line, lines = "   ", []
    for row in rows:
        text = " {" + ", ".join(row) + "},"
        if len(line) + len(text) > width:
            lines.append(line)
            line = "   "
        line += text
    return "\n".join(lines + [line])


HEAD = """/*
 * template_chars.c - case and printability of characters, as Python's str has them.
 *
 * Made by tests/golden/templates/make_chars.py from Unicode %s; ASCII is in the code.
 */
#include "text/template.h"

struct range {
    uint32_t first, last;
};

/* Characters first, first + step, ... up to last become themselves plus `by`. */
struct move {
    uint32_t first, last, step;
    int32_t by;
};

/* A character that becomes several. */
struct several {
    uint32_t code, to[3];
};

/* clang-format off */
"""

FOOT = """/* clang-format on */

#define N(table) (sizeof(table) / sizeof(table)[0])

static bool in_ranges(const struct range *ranges, size_t n, uint32_t code)
{
    size_t low = 0, high = n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (ranges[mid].last < code)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && ranges[low].first <= code;
}

bool char_printable(uint32_t code)
{
    return code < 0x80 ? code >= 0x20 && code < 0x7f : !in_ranges(unprintable, N(unprintable), code);
}

bool char_cased(uint32_t code)
{
    if (code < 0x80)
        return ((code | 0x20) >= 'a' && (code | 0x20) <= 'z');
    return in_ranges(cased, N(cased), code);
}

static uint32_t move(const struct move *moves, size_t n, uint32_t code)
{
    for (size_t i = 0; i < n && moves[i].first <= code; i++)
        if (code <= moves[i].last && (code - moves[i].first) % moves[i].step == 0)
            return (uint32_t)((int32_t)code + moves[i].by);
    return code;
}

static int several_of(const struct several *table, size_t n, uint32_t code, uint32_t out[3])
{
    for (size_t i = 0; i < n && table[i].code <= code; i++)
        if (table[i].code == code) {
            memcpy(out, table[i].to, sizeof table[i].to);
            return out[2] != 0 ? 3 : 2;
        }
    return 0;
}

int char_case(uint32_t code, enum tpl_case to, uint32_t out[3])
{
    int n = 0;

    if (code < 0x80) {
        const bool small = code >= 'a' && code <= 'z', large = code >= 'A' && code <= 'Z';

        out[0] = (to == CASE_LOWER && large) || (to != CASE_LOWER && small) ? code ^ 0x20 : code;
        return 1;
    }
    if (to == CASE_LOWER)
        n = several_of(lower_several, N(lower_several), code, out);
    else if (to == CASE_UPPER)
        n = several_of(upper_several, N(upper_several), code, out);
    else
        n = several_of(title_several, N(title_several), code, out);
    if (n > 0)
        return n;
    out[0] = to == CASE_LOWER   ? move(lower, N(lower), code)
             : to == CASE_UPPER ? move(upper, N(upper), code)
                                : move(title, N(title), code);
    return 1;
}
"""


def main():
    print(HEAD % unicodedata.unidata_version, end="")
    for name, rows in (
        ("unprintable", ranges(lambda c: not c.isprintable())),
        ("cased", ranges(lambda c: c.islower() or c.isupper() or c.istitle())),
    ):
        print(f"static const struct range {name}[] = {{")
        print(table([(f"{a:#x}", f"{b:#x}") for a, b in rows], 118))
        print("};")
    for name, change in (("lower", str.lower), ("upper", str.upper), ("title", str.title)):
        single, several = moves(change)
        print(f"static const struct move {name}[] = {{")
        print(table([(f"{a:#x}", f"{b:#x}", str(s), str(d)) for a, b, s, d in single], 118))
        print("};")
        print(f"static const struct several {name}_several[] = {{")
        print(table([(f"{c:#x}", "{" + ", ".join(f"{x:#x}" for x in to) + "}") for c, to in several], 118))
        print("};")
    print(FOOT, end="")


main()
