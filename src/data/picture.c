/*
 * picture.c - JPEG and PNG files in memory as pixels to be looked at.
 *
 * The pixels are those of Pillow's Image.open(f).convert("RGB") after ImageOps.exif_transpose,
 * which is what transformers' load_image gives a model; but where Pillow turns 16-bit grey into
 * white here it is 8-bit grey.  Callers: images.c, image_index.c, import, tests.
 *
 *   bytes -> picture_jpeg.c or picture_png.c -> rows as stored -> turned here
 */
#include "data/picture.h"

enum status picture_check_size(uint64_t width, uint64_t height, struct row_error *err)
{
    if (width == 0 || height == 0)
        return row_error_set(err, "it has %llu x %llu pixels, which is nothing to look at",
                             (unsigned long long)width, (unsigned long long)height);
    if (width > PICTURE_MAX_EDGE || height > PICTURE_MAX_EDGE ||
        width * height > PICTURE_MAX_PIXELS)
        return row_error_set(err,
                             "it has %llu x %llu pixels; the most are %d along an edge and %d "
                             "million in all",
                             (unsigned long long)width, (unsigned long long)height,
                             PICTURE_MAX_EDGE, PICTURE_MAX_PIXELS / 1000000);
    return ST_OK;
}

/* ---- orientation ---------------------------------------------------------------------------- */

static uint32_t number(const uint8_t *at, int n_bytes, bool big)
{
    uint32_t value = 0;

    for (int i = 0; i < n_bytes; i++)
        value |= (uint32_t)at[i] << 8 * (big ? n_bytes - 1 - i : i);
    return value;
}

/* A TIFF header, then a directory of entries (tag, type, count, value), each of 12 bytes. */
int picture_orientation(const uint8_t *data, size_t n_bytes)
{
    enum { HEAD = 8, ENTRY = 12, TAG_ORIENTATION = 0x112, TYPE_SHORT = 3, TYPE_LONG = 4 };
    int orientation = 1;

    if (n_bytes < HEAD || (memcmp(data, "II", 2) != 0 && memcmp(data, "MM", 2) != 0))
        return 1;
    const bool big = data[0] == 'M';
    const size_t directory = number(data + 4, 4, big);
    if (number(data + 2, 2, big) != 42 || directory > n_bytes - 2)
        return 1;
    const size_t n = number(data + directory, 2, big), room = (n_bytes - directory - 2) / ENTRY;

    for (size_t i = 0; i < n && i < room; i++) {
        const uint8_t *entry = data + directory + 2 + i * ENTRY;
        const uint32_t type = number(entry + 2, 2, big);

        if (number(entry, 2, big) != TAG_ORIENTATION || number(entry + 4, 4, big) != 1 ||
            (type != TYPE_SHORT && type != TYPE_LONG))
            continue;
        const uint32_t value = number(entry + 8, type == TYPE_SHORT ? 2 : 4, big);
        if (value >= 1 && value <= 8)
            orientation = (int)value;
    }
    return orientation;
}

static bool is_lying(int orientation)
{
    return orientation >= 5; /* rows become columns */
}

/* Pixel (0, 0) of the upright picture is pixel `first` of the file's, and each step to the right or
 * down there is so many pixels here. */
struct turn {
    ptrdiff_t first, right, down;
};

static struct turn turn_of(int orientation, ptrdiff_t w, ptrdiff_t h)
{
    switch (orientation) {
    case 2: /* left is right */
        return (struct turn){w - 1, -1, w};
    case 3: /* upside down */
        return (struct turn){w * h - 1, -1, -w};
    case 4: /* top is bottom */
        return (struct turn){w * (h - 1), 1, -w};
    case 5: /* transposed */
        return (struct turn){0, w, 1};
    case 6: /* to be turned to the right */
        return (struct turn){w * (h - 1), -w, 1};
    case 7: /* transposed the other way */
        return (struct turn){w * h - 1, -w, -1};
    default: /* 8: to be turned to the left */
        return (struct turn){w - 1, w, -1};
    }
}

/* raw->rgb is taken over or freed. */
static enum status upright(struct picture_raw *raw, struct picture *out_picture)
{
    const bool lying = is_lying(raw->orientation);
    struct picture picture = {.width = lying ? raw->height : raw->width,
                              .height = lying ? raw->width : raw->height};

    if (raw->orientation == 1) {
        picture.rgb = raw->rgb;
        *out_picture = picture;
        return ST_OK;
    }
    picture.rgb = host_alloc((size_t)raw->width * (size_t)raw->height * 3);
    if (picture.rgb == NULL) {
        host_free(raw->rgb);
        return ST_NOMEM;
    }
    const struct turn turn = turn_of(raw->orientation, raw->width, raw->height);
    uint8_t *out = picture.rgb;
    for (int y = 0; y < picture.height; y++) {
        const uint8_t *in = raw->rgb + (turn.first + y * turn.down) * 3;

        for (int x = 0; x < picture.width; x++, in += turn.right * 3, out += 3) {
            out[0] = in[0];
            out[1] = in[1];
            out[2] = in[2];
        }
    }
    host_free(raw->rgb);
    *out_picture = picture;
    return ST_OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static enum status read_any(const uint8_t *data, size_t n_bytes, bool pixels,
                            struct picture_raw *out_raw, struct row_error *err)
{
    static const uint8_t jpeg[3] = {0xff, 0xd8, 0xff},
                         png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

    *out_raw = (struct picture_raw){.orientation = 1};
    if (n_bytes == 0)
        return row_error_set(err, "it has no bytes");
    if (n_bytes >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0)
        return picture_jpeg_read(data, n_bytes, pixels, out_raw, err);
    if (n_bytes >= sizeof png && memcmp(data, png, sizeof png) == 0)
        return picture_png_read(data, n_bytes, pixels, out_raw, err);
    return row_error_set(
        err, "it is neither a JPEG nor a PNG file: its %zu bytes begin with %s%.*s", n_bytes,
        data[0] < 0x20 || data[0] > 0x7e ? "one that is no character" : "",
        data[0] < 0x20 || data[0] > 0x7e ? 0 : 1, (const char *)data);
}

enum status picture_peek(const uint8_t *data, size_t n_bytes, int *out_width, int *out_height,
                         struct row_error *err)
{
    enum status st = ST_OK;
    struct picture_raw raw;

    TRY(read_any(data, n_bytes, false, &raw, err), err);
    const bool lying = is_lying(raw.orientation);
    *out_width = lying ? raw.height : raw.width;
    *out_height = lying ? raw.width : raw.height;
err:
    return st;
}

enum status picture_decode(const uint8_t *data, size_t n_bytes, struct picture *out_picture,
                           struct row_error *err)
{
    enum status st = ST_OK;
    struct picture_raw raw;

    TRY(read_any(data, n_bytes, true, &raw, err), err);
    st = upright(&raw, out_picture);
err:
    return st;
}
