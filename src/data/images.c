/*
 * images.c - the images of a prompt file: pixels of one size, or files of JPEG and PNG.
 *
 * Which rows use which image is in prompts.c, what a file of a picture says in picture.c, which
 * images are the same in image_index.c.  Callers: those.
 */
#include <assert.h>

#include "data/digest.h"
#include "data/images.h"
#include "data/picture.h"

enum { MAX_FILE_BYTES = 1 << 30 };

static enum status check_bytes(const struct column *column)
{
    if (column->is_uint8)
        return ST_OK;
    log_error("%s: column %s has to hold unsigned integers of 8 bits (numpy: uint8)", column->path,
              column->name);
    return ST_FORMAT;
}

static enum status open_pixels(hid_t group, const char *path, struct images *images)
{
    enum status st = ST_OK;

    TRY(column_open(group, path, "pixels", "images/pixels", COLUMN_INT, 4, &images->pixels), err);
    TRY(check_bytes(&images->pixels), err);
    if (images->pixels.dims[3] != 3) {
        log_error("%s: column images/pixels is [%llu, %llu, %llu, %llu]; it has to be [images, "
                  "height, width, 3]: red, green and blue last",
                  path, (unsigned long long)images->pixels.dims[0],
                  (unsigned long long)images->pixels.dims[1],
                  (unsigned long long)images->pixels.dims[2],
                  (unsigned long long)images->pixels.dims[3]);
        st = ST_FORMAT;
        goto err;
    }
    images->n_images = images->pixels.n_rows;
err:
    return st;
}

enum status images_open(hid_t file, const char *path, struct images *out_images)
{
    static const char *const labels[2] = {"images/encoded/values", "images/encoded/offsets"};
    enum status st = ST_FORMAT;
    struct images images = {.path = path};
    hid_t group = H5I_INVALID_HID;

    if (h5_object_type(file, "images") == H5I_GROUP)
        group = H5Gopen2(file, "images", H5P_DEFAULT);
    const bool has_pixels = group >= 0 && h5_object_type(group, "pixels") != H5I_BADID;
    const bool has_files = group >= 0 && h5_object_type(group, "encoded") != H5I_BADID;
    if (has_pixels == has_files) {
        log_error("%s: column images %s; it has to be a group with either `pixels` (uint8 [images, "
                  "height, width, 3]) or `encoded/{values,offsets}` (bytes of JPEG and PNG files)",
                  path,
                  group < 0    ? "is not a group"
                  : has_pixels ? "has both pixels and encoded"
                               : "has neither pixels nor encoded");
        goto err;
    }
    images.encoded = has_files;
    if (has_pixels) {
        TRY(open_pixels(group, path, &images), err);
    } else {
        TRY(ragged_open(group, path, "encoded", labels, COLUMN_INT, &images.files), err);
        TRY(check_bytes(&images.files.values), err);
        images.n_images = images.files.n_rows;
    }
    h5_close(group);
    *out_images = images;
    return ST_OK;

err:
    images_close(&images);
    h5_close(group);
    return st;
}

void images_close(struct images *images)
{
    column_close(&images->pixels);
    ragged_close(&images->files);
    *images = (struct images){0};
}

/* ---- one image ------------------------------------------------------------------------------ */

enum status images_read(const struct images *images, uint64_t image, struct buf *bytes,
                        struct row_error *err)
{
    enum status st = ST_OK;
    const struct column *column = images->encoded ? &images->files.values : &images->pixels;
    uint64_t at[2] = {image, image + 1};

    assert(image < images->n_images);
    if (images->encoded) {
        TRY(ragged_offsets(&images->files, image, 1, at), err);
        if (at[0] > at[1] || at[1] > column->n_rows) {
            log_error("%s: column images/encoded/offsets changed while it was read; leave the file "
                      "alone while a job runs",
                      images->path);
            return ST_IO;
        }
        if (at[1] - at[0] > MAX_FILE_BYTES)
            return row_error_set(err, "it has %llu bytes; the most are %d",
                                 (unsigned long long)(at[1] - at[0]), MAX_FILE_BYTES);
    } else {
        TRY(picture_check_size(column->dims[2], column->dims[1], err), err);
    }
    const uint64_t n_bytes = (at[1] - at[0]) * column->n_cols;
    buf_reset(bytes);
    TRY(buf_reserve(bytes, n_bytes), err);
    TRY(column_read(column, at[0], at[1] - at[0], H5T_NATIVE_UINT8, bytes->data), err);
    bytes->n_bytes = n_bytes;
err:
    return st;
}

enum status images_peek(const struct images *images, const struct buf *bytes, int *out_width,
                        int *out_height, struct row_error *err)
{
    if (images->encoded)
        return picture_peek(bytes->data, bytes->n_bytes, out_width, out_height, err);
    *out_height = (int)images->pixels.dims[1]; /* images_read has looked at them */
    *out_width = (int)images->pixels.dims[2];
    return ST_OK;
}

enum status images_decode(const struct images *images, const struct buf *bytes,
                          struct picture *out_picture, struct row_error *err)
{
    struct picture picture = {.rgb = NULL};

    if (images->encoded)
        return picture_decode(bytes->data, bytes->n_bytes, out_picture, err);
    picture.height = (int)images->pixels.dims[1];
    picture.width = (int)images->pixels.dims[2];
    picture.rgb = host_alloc(bytes->n_bytes);
    if (picture.rgb == NULL)
        return ST_NOMEM;
    memcpy(picture.rgb, bytes->data, bytes->n_bytes);
    *out_picture = picture;
    return ST_OK;
}

/* ---- all of them ---------------------------------------------------------------------------- */

enum status images_digest(const struct images *images, struct hash_state *whole)
{
    enum status st = ST_OK;
    struct digest digest;
    struct buf bytes = {0};
    struct row_error err;

    digest_begin(&digest);
    if (!images->encoded)
        for (int d = 1; d < images->pixels.n_dims; d++)
            digest_int(&digest, (int64_t)images->pixels.dims[d], NUMBER_SET);
    for (uint64_t i = 0; i < images->n_images; i++) {
        st = images_read(images, i, &bytes, &err);
        if (st == ST_ROW) /* none that could be read */
            bytes.n_bytes = 0;
        else if (st != ST_OK)
            goto err;
        digest_text(&digest, (const char *)bytes.data, bytes.n_bytes);
    }
    digest_end(&digest, images->encoded ? "images/encoded" : "images/pixels", whole);
    st = ST_OK;
err:
    buf_free(&bytes);
    return st;
}
