#!/usr/bin/env python3
"""Writes tests/golden/prompts/*.h5: prompt files as h5py users write them.

unit_prompts.c reads them; the files are committed, so this runs only when a case is added.
Needs h5py and numpy >= 2.  Usage: make_prompt_files.py [FOLDER]
"""

import os
import sys

import h5py
import numpy as np

# The same four rows in every kind of string; the last is empty, so it is an error row.
TEXTS = ["Say hello.", "Zwölf Äpfel", "snow ☃ and 😀", ""]
ROWS = len(TEXTS)


def bytes_column(width, encoding="utf-8", pad=b"\0"):
    return [t.encode(encoding).ljust(width, pad) for t in TEXTS]


def raw_strings(f, name, width, padding, pad, cset=h5py.h5t.CSET_UTF8):
    """A fixed-length column with a padding that h5py offers only in its low-level interface."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(width)
    kind.set_strpad(padding)
    kind.set_cset(cset)
    space = h5py.h5s.create_simple((ROWS,))
    column = h5py.h5d.create(f.id, name.encode(), kind, space)
    data = np.frombuffer(b"".join(bytes_column(width, pad=pad)), dtype=f"V{width}")
    column.write(h5py.h5s.ALL, h5py.h5s.ALL, data, mtype=kind)


def vlen(f):
    f["prompt"] = TEXTS


def vlen_ascii(f):
    f.create_dataset("prompt", data=[t.encode() for t in TEXTS], dtype=h5py.string_dtype("ascii"))


def numpy_strings(f):
    f["prompt"] = np.array(TEXTS, dtype=np.dtypes.StringDType())


def fixed_s(f):
    f["prompt"] = np.array([t.encode() for t in TEXTS], dtype="S24")


def fixed_utf8(f):
    f.create_dataset("prompt", data=[t.encode() for t in TEXTS], dtype=h5py.string_dtype("utf-8", 24))


def fixed_spaces(f):
    raw_strings(f, "prompt", 24, h5py.h5t.STR_SPACEPAD, b" ")


def fixed_nullterm(f):
    raw_strings(f, "prompt", 24, h5py.h5t.STR_NULLTERM, b"\0")


def chunked(f):
    f.create_dataset("prompt", data=[t.encode() for t in TEXTS], dtype=h5py.string_dtype("utf-8", 24), chunks=(3,),
                     compression="gzip", shuffle=True, fletcher32=True, maxshape=(None,))


def v110(f):
    f["prompt"] = TEXTS


def numbers(f):
    """Every width, sign and byte order somewhere."""
    f["prompt"] = ["a", "b", "c", "d"]
    f["id"] = np.array([b"r0", b"r1", b"r2", b"r3"])
    f["max_tokens"] = np.array([1, -1, 300, 0], dtype=">i2")
    f["temperature"] = np.array([0, 0.5, np.nan, -1], dtype=np.float16)
    f["top_p"] = np.array([1, 0.25, np.nan, 2], dtype=">f8")
    f["top_k"] = np.array([0, 40, 255, 7], dtype="u1")
    f["seed"] = np.array([0, 2**63, 2**64 - 1, 5], dtype=">u8")
    f["stop"] = ['["\\n"]', "", '"END"', ""]
    f["note"] = np.arange(4)  # ignored


def floats_for_ints(f):
    """As a data frame with gaps gives them."""
    f["prompt"] = ["a", "b", "c", "d"]
    f["max_tokens"] = np.array([16, np.nan, 2.5, 1e300])
    f["seed"] = np.array([-1, np.nan, 12, -7], dtype="f4")
    f["temperature"] = np.array([0, 1, 2, 3], dtype="i8")


def tokens(f):
    f["prompt"] = ["", "text", "", ""]
    f["messages"] = ["", "", '[{"role": "user", "content": "hi"}]', ""]
    f["prompt_tokens/values"] = np.array([5, 6, 7, 49151, 1], dtype="u2")
    f["prompt_tokens/offsets"] = np.array([0, 4, 4, 4, 5], dtype="i8")


def bad_tokens(f):
    f["prompt_tokens/values"] = np.array([5, -6, 7, 2**40, 1, 2], dtype="i8")
    f["prompt_tokens/offsets"] = np.array([0, 2, 3, 4, 6], dtype="u8")


def latin1(f):
    f["prompt"] = np.array([b"plain", "Zw\xf6lf".encode("latin-1"), b"in\0side", b"good"], dtype="S8")


def bool_column(f):
    f["prompt"] = TEXTS
    f["max_tokens"] = np.array([True, False, True, True])


def lzf(f):
    f.create_dataset("prompt", data=np.array([t.encode() for t in TEXTS], dtype="S24"), compression="lzf")


KINDS = [vlen, vlen_ascii, numpy_strings, fixed_s, fixed_utf8, fixed_spaces, fixed_nullterm, chunked, v110, numbers,
         floats_for_ints, tokens, bad_tokens, latin1, bool_column, lzf]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "prompts")
    os.makedirs(folder, exist_ok=True)
    for kind in KINDS:
        libver = ("v110", "v110") if kind is v110 else None
        with h5py.File(os.path.join(folder, kind.__name__ + ".h5"), "w", libver=libver) as f:
            if kind is vlen:
                f.attrs["schema"] = "epidote.prompts/1"
            if kind is fixed_s:
                f.attrs["schema"] = np.bytes_("epidote.prompts/1")
            kind(f)


if __name__ == "__main__":
    main()
