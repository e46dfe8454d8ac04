/*
 * picture.h - private to src/data: what the two kinds of picture file share.
 *
 * A reader of a kind turns bytes in memory into rows of RGB as they stand in the file; picture.c
 * turns the whole as EXIF says.
 */
#ifndef EPIDOTE_DATA_PICTURE_H
#define EPIDOTE_DATA_PICTURE_H

#include "data/data.h"

/* A picture as its file has it. */
struct picture_raw {
    int width, height;
    int orientation; /* of EXIF: 1 = upright .. 8 */
    uint8_t *rgb;    /* [height, width, 3] owned; NULL after a look at the header */
};

/* picture_jpeg_version, picture_png_version - of the libraries; static. */
const char *picture_jpeg_version(void);
const char *picture_png_version(void);
/* picture_jpeg_read, picture_png_read - the header or, with pixels, the whole of a file that begins
 * as one of its kind.  On failure raw->rgb is NULL.  Return ST_OK, ST_ROW, ST_NOMEM. */
enum status picture_jpeg_read(const uint8_t *data, size_t n_bytes, bool pixels,
                              struct picture_raw *out_raw, struct row_error *err);
enum status picture_png_read(const uint8_t *data, size_t n_bytes, bool pixels,
                             struct picture_raw *out_raw, struct row_error *err);

/* picture_check_size - Returns ST_OK, ST_ROW (nothing in it, or too large). */
enum status picture_check_size(uint64_t width, uint64_t height, struct row_error *err);

/* picture_orientation - what the EXIF block at data says, from its "II" or "MM" on; 1 if it says
 * nothing that can be understood. */
int picture_orientation(const uint8_t *data, size_t n_bytes);

#endif
