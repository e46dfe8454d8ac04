/*
 * import_images.c - pictures that lines of JSONL name become images/encoded and image_ref.
 *
 * Bytes go into the prompt file as they are, equal ones once: two files are equal if 128 bits of
 * hash agree.  A file that is there and is no picture goes in as well, with a warning: its rows
 * will be error rows.  Memory: one picture, and 24 bytes for each that differs.  Caller: import.c.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "data/import_images.h"

enum { MAX_PICTURE_BYTES = 1 << 30, FIRST_CAP = 64 };

struct import_image {
    uint64_t hash, other_hash;
    uint64_t number_plus_1; /* 0: an empty place */
};

void import_images_begin(struct import_images *images, const char *path, hid_t file,
                         const char *in_path)
{
    const char *slash = strrchr(in_path, '/');

    *images =
        (struct import_images){.path = path,
                               .file = file,
                               .folder = in_path,
                               .folder_bytes = slash != NULL ? (size_t)(slash + 1 - in_path) : 0};
}

void import_images_end(struct import_images *images)
{
    column_out_close(&images->values);
    column_out_close(&images->offsets);
    column_out_close(&images->ref_values);
    column_out_close(&images->ref_offsets);
    buf_free(&images->bytes);
    buf_free(&images->name);
    host_free(images->known);
    *images = (struct import_images){0};
}

static enum status make_column(struct import_images *images, const char *name, hid_t type,
                               uint64_t n_rows, struct column_out *out)
{
    const struct column_out_args args = {
        .path = images->path, .name = name, .type = type, .n_rows = n_rows};

    return column_out_create(images->file, &args, out);
}

static enum status make_columns(struct import_images *images)
{
    const uint64_t zero = 0, many_bytes = 1 << 20, some = 1024;
    enum status st = ST_OK;

    TRY(make_column(images, "images/encoded/values", H5Tcopy(H5T_STD_U8LE), many_bytes,
                    &images->values),
        err);
    TRY(make_column(images, "images/encoded/offsets", H5Tcopy(H5T_STD_U64LE), some,
                    &images->offsets),
        err);
    TRY(make_column(images, "image_ref/values", H5Tcopy(H5T_STD_U64LE), some, &images->ref_values),
        err);
    TRY(make_column(images, "image_ref/offsets", H5Tcopy(H5T_STD_U64LE), some,
                    &images->ref_offsets),
        err);
    st = column_out_put(&images->offsets, &zero, 1);
err:
    return st;
}

/* ---- which bytes are there ------------------------------------------------------------------- */

static struct import_image *find(struct import_images *images, uint64_t hash, uint64_t other_hash)
{
    uint64_t at = hash & (images->cap - 1);

    while (images->known[at].number_plus_1 != 0 &&
           (images->known[at].hash != hash || images->known[at].other_hash != other_hash))
        at = (at + 1) & (images->cap - 1);
    return &images->known[at];
}

/* Room for one more: the table is at most half full. */
static enum status make_room(struct import_images *images)
{
    struct import_image *old = images->known;
    const uint64_t old_cap = images->cap;

    if (images->n_images < old_cap / 2)
        return ST_OK;
    images->cap = old_cap > 0 ? old_cap * 2 : FIRST_CAP;
    images->known = host_zalloc(images->cap * sizeof *images->known);
    if (images->known == NULL) {
        images->known = old;
        images->cap = old_cap;
        return ST_NOMEM;
    }
    for (uint64_t i = 0; i < old_cap; i++)
        if (old[i].number_plus_1 != 0)
            *find(images, old[i].hash, old[i].other_hash) = old[i];
    host_free(old);
    return ST_OK;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* The file into images->bytes, and its path into images->name. */
static enum status read_file(struct import_images *images, const char *name, struct row_error *err)
{
    enum status st = ST_OK;
    struct stat facts;

    buf_reset(&images->name);
    buf_reset(&images->bytes);
    if (name[0] != '/')
        TRY(buf_put(&images->name, images->folder, images->folder_bytes), err);
    TRY(buf_put(&images->name, name, strlen(name) + 1), err);
    const char *path = (const char *)images->name.data;
    if (stat(path, &facts) != 0)
        return row_error_set(err, "image %.160s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(facts.st_mode))
        return row_error_set(err, "image %.160s is no regular file", path);
    if (facts.st_size > MAX_PICTURE_BYTES)
        return row_error_set(err, "image %.160s has more than %d bytes", path, MAX_PICTURE_BYTES);
    st = file_read(path, MAX_PICTURE_BYTES, &images->bytes);
    if (st == ST_IO || st == ST_FORMAT)
        return row_error_set(err, "image %.160s cannot be read", path);
err:
    return st;
}

static enum status put_picture(struct import_images *images, uint64_t *out_number)
{
    enum status st = ST_OK;
    const struct buf *bytes = &images->bytes;
    const uint64_t hash = hash_bytes(bytes->data, bytes->n_bytes, 0);
    const uint64_t other_hash = hash_bytes(bytes->data, bytes->n_bytes, ~(uint64_t)bytes->n_bytes);
    struct row_error why;
    int width, height;

    TRY(make_room(images), err);
    struct import_image *place = find(images, hash, other_hash);
    if (place->number_plus_1 == 0) {
        if (picture_peek(bytes->data, bytes->n_bytes, &width, &height, &why) != ST_OK)
            log_warn("image %s: %s; rows that use it will be error rows",
                     (const char *)images->name.data, why.text);
        TRY(column_out_put(&images->values, bytes->data, bytes->n_bytes), err);
        images->n_bytes += bytes->n_bytes;
        TRY(column_out_put(&images->offsets, &images->n_bytes, 1), err);
        *place = (struct import_image){hash, other_hash, ++images->n_images};
    }
    *out_number = place->number_plus_1 - 1;
err:
    return st;
}

enum status import_images_put(struct import_images *images, uint64_t n_rows, const json_t *list,
                              struct row_error *err)
{
    enum status st = ST_OK;

    if (list == NULL && images->values.path == NULL)
        return ST_OK;
    if (images->values.path == NULL) {
        TRY(make_columns(images), err);
        TRY(column_out_pad(&images->ref_offsets, n_rows + 1), err); /* zeros: rows before */
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        uint64_t number = 0;

        TRY(read_file(images, json_string_value(json_array_get(list, i)), err), err);
        TRY(put_picture(images, &number), err);
        TRY(column_out_put(&images->ref_values, &number, 1), err);
        images->n_refs++;
    }
    st = column_out_put(&images->ref_offsets, &images->n_refs, 1);
err:
    return st;
}

enum status import_images_finish(struct import_images *images)
{
    enum status st = ST_OK;

    if (images->values.path == NULL)
        return ST_OK;
    TRY(column_out_finish(&images->values), err);
    TRY(column_out_finish(&images->offsets), err);
    TRY(column_out_finish(&images->ref_values), err);
    st = column_out_finish(&images->ref_offsets);
err:
    return st;
}
