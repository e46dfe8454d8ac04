/*
 * picture_png.c - PNG files as rows of RGB, and back, by libpng.
 *
 * Alpha is dropped, not blended, and colour profiles and gamma change nothing: as Pillow does.
 * Chunks that say nothing about pixels are skipped unread, so that none can ask for memory; EXIF is
 * found here.  Errors come back by longjmp to guard(), as in picture_jpeg.c.  Caller: picture.c.
 */
#include <png.h>
#include <setjmp.h>

#include "data/picture.h"

enum { SIGNATURE = 8, CHUNK_FRAME = 12 /* length, name, checksum */ };

struct reader {
    png_structp png;
    png_infop info;
    jmp_buf escape;
    const uint8_t *data; /* borrowed [n_bytes] */
    size_t n_bytes, at;
    struct row_error *err; /* borrowed */
    enum status st;        /* of what ended by escape */
    bool cut_off, has_rows;
    struct picture_raw raw;
};

/* ---- what the library calls ------------------------------------------------------------------ */

__attribute__((noreturn)) static void give_up(struct reader *reader, enum status st)
{
    reader->st = st;
    longjmp(reader->escape, 1);
}

__attribute__((noreturn)) static void on_error(png_structp png, png_const_charp text)
{
    struct reader *reader = png_get_error_ptr(png);

    if (reader->cut_off && reader->has_rows) /* only what follows the pixels is missing */
        give_up(reader, ST_OK);
    if (reader->cut_off)
        row_error_set(reader->err, "the PNG file is cut off");
    else
        row_error_set(reader->err, "the PNG file is damaged: %.180s", text);
    give_up(reader, ST_ROW);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t n_bytes)
{
    struct reader *reader = png_get_io_ptr(png);

    if (n_bytes > reader->n_bytes - reader->at) {
        reader->cut_off = true;
        png_error(png, "cut off");
    }
    memcpy(out, reader->data + reader->at, n_bytes);
    reader->at += n_bytes;
}

/* ---- reading --------------------------------------------------------------------------------- */

static enum status guard(struct reader *reader, void (*step)(struct reader *))
{
    if (setjmp(reader->escape) != 0)
        return reader->st;
    step(reader);
    return ST_OK;
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The eXIf chunk may stand before the pixels or behind them. */
static int find_orientation(const uint8_t *data, size_t n_bytes)
{
    size_t at = SIGNATURE;

    while (n_bytes - at >= CHUNK_FRAME) {
        const size_t n = big_endian(data + at);

        if (n > n_bytes - at - CHUNK_FRAME)
            break;
        if (memcmp(data + at + 4, "eXIf", 4) == 0)
            return picture_orientation(data + at + 8, n);
        at += CHUNK_FRAME + n;
    }
    return 1;
}

static void read_header(struct reader *reader)
{
    png_structp png = reader->png;

    png_set_read_fn(png, reader, on_read);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    /* What is too large is for picture_check_size to say. */
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(png, reader->info);
    reader->st = picture_check_size(png_get_image_width(png, reader->info),
                                    png_get_image_height(png, reader->info), reader->err);
    if (reader->st != ST_OK)
        give_up(reader, reader->st);
    reader->raw.width = (int)png_get_image_width(png, reader->info);
    reader->raw.height = (int)png_get_image_height(png, reader->info);
}

static void read_pixels(struct reader *reader)
{
    png_structp png = reader->png;
    const size_t row_bytes = (size_t)reader->raw.width * 3;

    png_set_strip_16(png);
    png_set_expand(png); /* palettes, and grey of less than 8 bits */
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    const int n_passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    if (png_get_rowbytes(png, reader->info) != row_bytes)
        png_error(png, "rows of an unexpected size");
    for (int pass = 0; pass < n_passes; pass++)
        for (int y = 0; y < reader->raw.height; y++)
            png_read_row(png, reader->raw.rgb + (size_t)y * row_bytes, NULL);
    reader->has_rows = true;
    png_read_end(png, NULL); /* looks at the last checksums */
}

enum status picture_png_read(const uint8_t *data, size_t n_bytes, bool pixels,
                             struct picture_raw *out_raw, struct row_error *err)
{
    enum status st = ST_NOMEM;
    struct reader *reader = host_zalloc(sizeof *reader);

    if (reader == NULL)
        return ST_NOMEM;
    reader->data = data;
    reader->n_bytes = n_bytes;
    reader->err = err;
    reader->raw.orientation = find_orientation(data, n_bytes);
    reader->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, reader, on_error, on_warning);
    if (reader->png != NULL)
        reader->info = png_create_info_struct(reader->png);
    if (reader->info == NULL) {
        log_error("no memory for decoding a PNG picture");
        goto err;
    }
    TRY(guard(reader, read_header), err);
    if (pixels) {
        const size_t rgb_bytes = (size_t)reader->raw.width * (size_t)reader->raw.height * 3;

        /* What an interlaced file lacks would be left as it is. */
        reader->raw.rgb = host_alloc(rgb_bytes);
        st = ST_NOMEM;
        if (reader->raw.rgb == NULL)
            goto err;
        TRY(guard(reader, read_pixels), err);
    }
    *out_raw = reader->raw;
    reader->raw.rgb = NULL;
err:
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    host_free(reader->raw.rgb);
    host_free(reader);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writer {
    png_structp png;
    png_infop info;
    jmp_buf escape;
    struct buf out;                /* owned */
    const struct picture *picture; /* borrowed */
};

__attribute__((noreturn)) static void on_write_error(png_structp png, png_const_charp text)
{
    struct writer *writer = png_get_error_ptr(png);

    (void)text;
    longjmp(writer->escape, 1);
}

static void on_write(png_structp png, png_bytep data, size_t n_bytes)
{
    struct writer *writer = png_get_io_ptr(png);

    if (buf_put(&writer->out, data, n_bytes) != ST_OK)
        png_error(png, "no memory");
}

static void on_flush(png_structp png)
{
    (void)png;
}

static enum status write_all(struct writer *writer)
{
    const struct picture *picture = writer->picture;
    png_structp png = writer->png;

    if (setjmp(writer->escape) != 0)
        return ST_NOMEM; /* nothing else can fail here */
    png_set_write_fn(png, writer, on_write, on_flush);
    png_set_IHDR(png, writer->info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, writer->info);
    for (int y = 0; y < picture->height; y++)
        png_write_row(png, picture->rgb + (size_t)y * (size_t)picture->width * 3);
    png_write_end(png, NULL);
    return ST_OK;
}

enum status picture_write_png(const char *path, const struct picture *picture)
{
    enum status st = ST_NOMEM;
    struct writer *writer = host_zalloc(sizeof *writer);

    if (writer == NULL)
        return ST_NOMEM;
    writer->picture = picture;
    writer->png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, writer, on_write_error, on_warning);
    if (writer->png != NULL)
        writer->info = png_create_info_struct(writer->png);
    if (writer->info == NULL) {
        log_error("%s: no memory for writing a PNG picture", path);
        goto err;
    }
    TRY(write_all(writer), err);
    st = file_write_atomic(path, writer->out.data, writer->out.n_bytes);
err:
    png_destroy_write_struct(&writer->png, &writer->info);
    buf_free(&writer->out);
    host_free(writer);
    return st;
}

const char *picture_png_version(void)
{
    return "libpng " PNG_LIBPNG_VER_STRING;
}
