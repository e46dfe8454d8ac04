/*
 * picture_jpeg.c - JPEG files as rows of RGB, by libjpeg-turbo.
 *
 * The library's defaults (exact integer DCT, smooth upsampling) are what Pillow decodes with.
 * Errors come back by longjmp to guard(), the only place with a setjmp; what was set aside until
 * then hangs on struct reader and is freed behind it.  Caller: picture.c.
 */
#include <setjmp.h>
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>

#include "data/picture.h"

enum {
    MAX_SCANS = 500, /* a progressive file has about ten; each takes time for the whole picture */
    CMYK = 4
};

struct reader {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    struct row_error *err; /* borrowed */
    enum status st;        /* of what ended by escape */
    bool has_header; /* what stands behind it says nothing about the picture's size any more */
    bool at_end;     /* the file's bytes are used up */
    struct picture_raw raw;
    uint8_t *cmyk; /* owned: one row */
};

/* ---- what the library calls ------------------------------------------------------------------ */

static struct reader *reader_of(void *info)
{
    return ((j_common_ptr)info)->client_data;
}

__attribute__((noreturn)) static void give_up(struct reader *reader, enum status st)
{
    reader->st = st;
    longjmp(reader->escape, 1);
}

__attribute__((noreturn)) static void give_up_damaged(struct reader *reader)
{
    char text[JMSG_LENGTH_MAX];

    reader->errors.format_message((j_common_ptr)&reader->info, text);
    if (reader->at_end)
        row_error_set(reader->err, "the JPEG file is cut off");
    else
        row_error_set(reader->err, "the JPEG file is damaged: %.180s", text);
    give_up(reader, ST_ROW);
}

static void on_error(j_common_ptr info)
{
    struct reader *reader = reader_of(info);

    if (info->err->msg_code == JERR_OUT_OF_MEMORY) {
        log_error("no memory for decoding a JPEG picture");
        give_up(reader, ST_NOMEM);
    }
    give_up_damaged(reader);
}

/* Warnings.  Where data are missing or wrong the library makes pixels up and goes on; here such a
 * picture is none.  Some are about what changes nothing. */
static void on_message(j_common_ptr info, int level)
{
    struct reader *reader = reader_of(info);

    if (level >= 0)
        return;
    info->err->num_warnings++;
    switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_PROGRESSION:
        return;
    default:
        break;
    }
    give_up_damaged(reader);
}

static void on_output(j_common_ptr info)
{
    (void)info;
}

static void source_begin(j_decompress_ptr info)
{
    (void)info;
}

/* Behind the last byte comes an end-of-image marker, which many files lack: if the decoder did need
 * more, it says so. */
static boolean source_fill(j_decompress_ptr info)
{
    static const JOCTET end[2] = {0xff, JPEG_EOI};

    reader_of(info)->at_end = true;
    info->src->next_input_byte = end;
    info->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

static void source_skip(j_decompress_ptr info, long n_bytes)
{
    struct jpeg_source_mgr *source = info->src;

    if (n_bytes <= 0)
        return;
    if ((size_t)n_bytes > source->bytes_in_buffer) {
        source_fill(info);
        return;
    }
    source->next_input_byte += n_bytes;
    source->bytes_in_buffer -= (size_t)n_bytes;
}

/* APP1, looked at where it stands. */
static boolean on_app1(j_decompress_ptr info)
{
    static const uint8_t exif[6] = "Exif\0";
    struct jpeg_source_mgr *source = info->src;

    if (source->bytes_in_buffer < 2)
        return source_fill(info), TRUE;
    const size_t n_bytes = (size_t)source->next_input_byte[0] << 8 | source->next_input_byte[1];
    const uint8_t *body = source->next_input_byte + 2;

    if (!reader_of(info)->has_header && n_bytes >= 2 + sizeof exif &&
        n_bytes <= source->bytes_in_buffer && memcmp(body, exif, sizeof exif) == 0)
        reader_of(info)->raw.orientation =
            picture_orientation(body + sizeof exif, n_bytes - 2 - sizeof exif);
    source_skip(info, n_bytes < 2 ? 2 : (long)n_bytes);
    return TRUE;
}

static void on_progress(j_common_ptr info)
{
    if (((j_decompress_ptr)info)->input_scan_number <= MAX_SCANS)
        return;
    row_error_set(reader_of(info)->err, "the JPEG file has more than %d scans", MAX_SCANS);
    give_up(reader_of(info), ST_ROW);
}

/* ---- reading --------------------------------------------------------------------------------- */

static enum status guard(struct reader *reader, void (*step)(struct reader *))
{
    if (setjmp(reader->escape) != 0)
        return reader->st;
    step(reader);
    return ST_OK;
}

static void read_header(struct reader *reader)
{
    struct jpeg_decompress_struct *info = &reader->info;

    jpeg_create_decompress(info);
    info->client_data = reader;
    info->src = &reader->source;
    info->progress = &reader->progress;
    jpeg_set_marker_processor(info, JPEG_APP0 + 1, on_app1);
    jpeg_read_header(info, TRUE);
    reader->has_header = true;
    if (info->num_components != 1 && info->num_components != 3 && info->num_components != CMYK) {
        row_error_set(reader->err, "the JPEG file has %d colour components; 1, 3 or 4 can be read",
                      info->num_components);
        give_up(reader, ST_ROW);
    }
    reader->st = picture_check_size(info->image_width, info->image_height, reader->err);
    if (reader->st != ST_OK)
        give_up(reader, reader->st);
    reader->raw.width = (int)info->image_width;
    reader->raw.height = (int)info->image_height;
}

/* Inverted, as Adobe has it and Pillow takes every such file; its arithmetic. */
static void rgb_from_cmyk(uint8_t *rgb, const uint8_t *cmyk, int width)
{
    for (int x = 0; x < width; x++, rgb += 3, cmyk += CMYK) {
        const int k = cmyk[3];

        for (int c = 0; c < 3; c++) {
            const int product = (255 - cmyk[c]) * k + 128;

            rgb[c] = (uint8_t)(k - (((product >> 8) + product) >> 8));
        }
    }
}

static void read_pixels(struct reader *reader)
{
    struct jpeg_decompress_struct *info = &reader->info;
    const size_t row_bytes = (size_t)reader->raw.width * 3;

    info->out_color_space = info->num_components == CMYK ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(info);
    /* Of several scans, later ones may be what is missing. */
    if (reader->at_end && jpeg_has_multiple_scans(info)) {
        row_error_set(reader->err, "the JPEG file is cut off");
        give_up(reader, ST_ROW);
    }
    while (info->output_scanline < info->output_height) {
        const size_t y = info->output_scanline;
        JSAMPROW row = reader->cmyk != NULL ? reader->cmyk : reader->raw.rgb + y * row_bytes;

        if (jpeg_read_scanlines(info, &row, 1) == 1 && reader->cmyk != NULL)
            rgb_from_cmyk(reader->raw.rgb + y * row_bytes, reader->cmyk, reader->raw.width);
    }
}

enum status picture_jpeg_read(const uint8_t *data, size_t n_bytes, bool pixels,
                              struct picture_raw *out_raw, struct row_error *err)
{
    enum status st = ST_NOMEM;
    struct reader *reader = host_zalloc(sizeof *reader); /* longjmp leaves it as it is */

    if (reader == NULL)
        return ST_NOMEM;
    reader->err = err;
    reader->raw.orientation = 1;
    reader->info.err = jpeg_std_error(&reader->errors);
    reader->info.client_data = reader;
    reader->errors.error_exit = on_error;
    reader->errors.emit_message = on_message;
    reader->errors.output_message = on_output;
    reader->progress.progress_monitor = on_progress;
    reader->source = (struct jpeg_source_mgr){.next_input_byte = data,
                                              .bytes_in_buffer = n_bytes,
                                              .init_source = source_begin,
                                              .fill_input_buffer = source_fill,
                                              .skip_input_data = source_skip,
                                              .resync_to_restart = jpeg_resync_to_restart,
                                              .term_source = source_begin};
    TRY(guard(reader, read_header), err);
    if (pixels) {
        st = ST_NOMEM;
        reader->raw.rgb = host_alloc((size_t)reader->raw.width * (size_t)reader->raw.height * 3);
        if (reader->raw.rgb == NULL)
            goto err;
        if (reader->info.num_components == CMYK) {
            reader->cmyk = host_alloc((size_t)reader->raw.width * CMYK);
            if (reader->cmyk == NULL)
                goto err;
        }
        TRY(guard(reader, read_pixels), err);
    }
    *out_raw = reader->raw;
    reader->raw.rgb = NULL;
err:
    jpeg_destroy_decompress(&reader->info);
    host_free(reader->cmyk);
    host_free(reader->raw.rgb);
    host_free(reader);
    return st;
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *picture_jpeg_version(void)
{
#ifdef LIBJPEG_TURBO_VERSION
    return "libjpeg-turbo " TEXT(LIBJPEG_TURBO_VERSION);
#else
    return "libjpeg " TEXT(JPEG_LIB_VERSION);
#endif
}
