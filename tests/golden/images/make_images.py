#!/usr/bin/env python3
"""make_images.py - awkward JPEG and PNG files, and the pixels that Pillow sees in them.

    python3 tests/golden/images/make_images.py        # Pillow, numpy

Writes NAME.jpg and NAME.png beside itself, and expected.bin: for each file in order of name
    name (32 bytes, NUL padded), width, height (uint32), pixels [height, width, 3]
Pixels are those of Image.open(f), exif_transpose, convert("RGB"): what transformers' load_image does.
16-bit grey is the exception: Pillow turns it into white, here the lower 8 bits are left out.
"""
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

here = os.path.dirname(os.path.abspath(__file__))
files = {}


def scene(h, w, channels=3, seed=0):
    """Edges, slopes and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    out = np.stack([(x * 255 // max(w - 1, 1)), (y * 255 // max(h - 1, 1)), ((x // 3 + y // 5) % 2) * 200,
                    255 - (x + y) * 255 // max(w + h - 2, 1)], -1)[..., :channels]
    return np.clip(out + rng.integers(-20, 21, out.shape), 0, 255).astype(np.uint8)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def pack_rows(samples, depth):
    """samples [h, w, channels] of `depth` bits as rows of bytes, each behind a filter byte 0."""
    h = samples.shape[0]
    rows = []
    for y in range(h):
        flat = samples[y].reshape(-1)
        if depth == 16:
            body = flat.astype(">u2").tobytes()
        elif depth == 8:
            body = flat.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), f"0{depth}b") for v in flat)
            bits += "0" * (-len(bits) % 8)
            body = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
        rows.append(b"\0" + body)
    return b"".join(rows)


def png(samples, depth, colour, interlaced=False, extra=b"", late=b""):
    h, w = samples.shape[:2]
    if interlaced:
        raw = b""
        for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
            part = samples[y0::dy, x0::dx]
            if part.shape[0] and part.shape[1]:
                raw += pack_rows(part, depth)
    else:
        raw = pack_rows(samples, depth)
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + late +
            chunk(b"IEND", b""))


def exif(orientation, big=False):
    e = ">" if big else "<"
    return (b"MM" if big else b"II") + struct.pack(e + "HIH", 42, 8, 2) + \
        struct.pack(e + "HHII", 0x10e, 2, 4, 0) + struct.pack(e + "HHIHH", 0x112, 3, 1, orientation, 0) + \
        struct.pack(e + "I", 0)


def jpeg(array, mode="RGB", **options):
    out = io.BytesIO()
    Image.fromarray(array, mode).save(out, "JPEG", **options)
    return out.getvalue()


# ---- JPEG
for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
    files[f"jpeg_{name}.jpg"] = jpeg(scene(19, 29), subsampling=sampling, quality=80)
files["jpeg_progressive.jpg"] = jpeg(scene(23, 17), progressive=True, quality=70)
files["jpeg_optimised.jpg"] = jpeg(scene(16, 16), optimize=True, quality=95)
files["jpeg_restarts.jpg"] = jpeg(scene(40, 33), restart_marker_blocks=1, quality=75)
files["jpeg_grey.jpg"] = jpeg(scene(13, 11, 1)[..., 0], "L", quality=80)
files["jpeg_grey_progressive.jpg"] = jpeg(scene(13, 11, 1)[..., 0], "L", quality=80, progressive=True)
files["jpeg_rgb.jpg"] = jpeg(scene(12, 18), quality=90, keep_rgb=True)
cmyk = jpeg(scene(15, 14, 4), "CMYK", quality=90)
files["jpeg_cmyk.jpg"] = cmyk
at = cmyk.index(b"Adobe")
files["jpeg_ycck.jpg"] = cmyk[:at + 11] + b"\x02" + cmyk[at + 12:]
files["jpeg_cmyk_plain.jpg"] = cmyk[:at - 4] + cmyk[at + 12:]  # without the Adobe marker
files["jpeg_1x40.jpg"] = jpeg(scene(40, 1), quality=90)
files["jpeg_40x1.jpg"] = jpeg(scene(1, 40), quality=90)
files["jpeg_1x1.jpg"] = jpeg(scene(1, 1), quality=90)
for o in range(1, 9):
    files[f"jpeg_exif{o}.jpg"] = jpeg(scene(9, 14), quality=90, exif=b"Exif\0\0" + exif(o, big=o % 2 == 0))
files["jpeg_exif9.jpg"] = jpeg(scene(9, 14), quality=90, exif=b"Exif\0\0" + exif(9))
files["jpeg_no_end.jpg"] = files["jpeg_420.jpg"][:-2]
files["jpeg_junk_behind.jpg"] = files["jpeg_420.jpg"] + b"junk\xff\xd8"

# ---- PNG
rng = np.random.default_rng(1)
for depth in (1, 2, 4, 8, 16):
    for interlaced in (False, True):
        tail = "_interlaced" if interlaced else ""
        values = rng.integers(0, 2**depth, (11, 13, 1))
        files[f"png_grey{depth}{tail}.png"] = png(values, depth, 0, interlaced)
        if depth <= 8:
            palette = chunk(b"PLTE", rng.integers(0, 256, (2**depth, 3), dtype=np.uint8).tobytes())
            files[f"png_palette{depth}{tail}.png"] = png(values, depth, 3, interlaced, palette)
for depth in (8, 16):
    values = rng.integers(0, 2**depth, (10, 9, 4))
    files[f"png_rgb{depth}.png"] = png(values[..., :3], depth, 2)
    files[f"png_rgb{depth}_interlaced.png"] = png(values[..., :3], depth, 2, True)
    files[f"png_rgba{depth}.png"] = png(values, depth, 6)
    files[f"png_grey_alpha{depth}.png"] = png(values[..., :2], depth, 4)
palette = chunk(b"PLTE", rng.integers(0, 256, (16, 3), dtype=np.uint8).tobytes())
files["png_palette_alpha.png"] = png(rng.integers(0, 16, (7, 7, 1)), 4, 3, False,
                                     palette + chunk(b"tRNS", bytes(range(0, 160, 10))))
files["png_rgb_key.png"] = png(np.tile(np.array([1, 2, 3]), (5, 6, 1)), 8, 2, False,
                               chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
files["png_grey_key.png"] = png(rng.integers(0, 4, (5, 6, 1)), 2, 0, False, chunk(b"tRNS", struct.pack(">H", 1)))
files["png_gamma.png"] = png(rng.integers(0, 256, (6, 5, 3)), 8, 2, False,
                             chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"sBIT", b"\5\6\5"))
files["png_1x30.png"] = png(rng.integers(0, 256, (30, 1, 3)), 8, 2)
files["png_30x1_interlaced.png"] = png(rng.integers(0, 256, (1, 30, 3)), 8, 2, True)
for o in range(1, 9):
    values = rng.integers(0, 256, (5, 8, 3))
    eXIf = chunk(b"eXIf", exif(o, big=o % 2 == 1))
    files[f"png_exif{o}.png"] = png(values, 8, 2, False, b"" if o == 6 else eXIf, eXIf if o == 6 else b"")

# ---- what Pillow sees
expected = b""
for name in sorted(files):
    data = files[name]
    with open(os.path.join(here, name), "wb") as f:
        f.write(data)
    if name == "jpeg_no_end.jpg":  # refused by Pillow, though no pixel is missing
        data += b"\xff\xd9"
    image = Image.open(io.BytesIO(data))
    if image.mode == "I;16":
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    image = ImageOps.exif_transpose(image).convert("RGB")
    pixels = np.array(image)
    expected += struct.pack("<32sII", name.encode(), image.width, image.height) + pixels.tobytes()
with open(os.path.join(here, "expected.bin"), "wb") as f:
    f.write(expected)
print(len(files), "files,", sum(map(len, files.values())), "bytes,", len(expected), "bytes of pixels")
