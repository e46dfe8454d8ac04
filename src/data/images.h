/*
 * images.h - private to src/data: the images of an open prompt file, as it stores them.
 *
 * Nothing here takes turns at HDF5: prompts.c does.
 */
#ifndef EPIDOTE_DATA_IMAGES_H
#define EPIDOTE_DATA_IMAGES_H

#include "data/column.h"
#include "data/data.h"

struct images {
    const char *path; /* borrowed: for messages; NULL: the file has none */
    bool encoded;     /* bytes of JPEG and PNG files; else pixels */
    uint64_t n_images;
    struct column pixels; /* uint8 [n_images, height, width, 3] */
    struct ragged files;  /* uint8 */
};

/* images_open - the group `images` of a prompt file: exactly one of pixels and encoded.
 * Returns as column_open, and ST_IO. */
enum status images_open(hid_t file, const char *path, struct images *out_images);
/* images_close - also of one that is all zero. */
void images_close(struct images *images);

/* images_read - what the file stores of an image, into bytes (replaced): pixels, or a JPEG or PNG
 * file.  Returns ST_OK, ST_ROW (nothing that could be a picture), ST_IO, ST_NOMEM. */
enum status images_read(const struct images *images, uint64_t image, struct buf *bytes,
                        struct row_error *err);
/* images_peek, images_decode - width and height, or the picture, of what images_read gave.
 * Return as picture_peek and picture_decode. */
enum status images_peek(const struct images *images, const struct buf *bytes, int *out_width,
                        int *out_height, struct row_error *err);
enum status images_decode(const struct images *images, const struct buf *bytes,
                          struct picture *out_picture, struct row_error *err);

/* images_digest - add the content of all images to a file's digest.  Returns ST_OK, ST_IO,
 * ST_NOMEM. */
enum status images_digest(const struct images *images, struct hash_state *whole);

#endif
