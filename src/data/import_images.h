/*
 * import_images.h - private to src/data: pictures that lines of JSONL name, for a prompt file.
 */
#ifndef EPIDOTE_DATA_IMPORT_IMAGES_H
#define EPIDOTE_DATA_IMPORT_IMAGES_H

#include <jansson.h>

#include "data/column_out.h"
#include "data/data.h"

/* The four columns and which bytes are in them already. */
struct import_images {
    const char *path;                          /* borrowed: of the file that is written */
    hid_t file;                                /* borrowed */
    const char *folder;                        /* borrowed [folder_bytes] + '/', or empty */
    size_t folder_bytes;                       /* of in_path, its slash included */
    struct column_out values, offsets;         /* images/encoded; .path NULL: not made */
    struct column_out ref_values, ref_offsets; /* image_ref */
    uint64_t n_images, n_bytes, n_refs;        /* put so far */
    struct import_image *known;                /* owned [cap]: a table of hashes */
    uint64_t cap;
    struct buf bytes, name; /* scratch: a picture, its path */
};

/* import_images_begin - in_path: the JSONL file, whose folder paths are relative to. */
void import_images_begin(struct import_images *images, const char *path, hid_t file,
                         const char *in_path);
void import_images_end(struct import_images *images);

/* import_images_put - the pictures of row number n_rows; list: paths, or NULL.
 * Returns ST_OK; ST_ROW (a file cannot be read: err names it); ST_IO, ST_NOMEM. */
enum status import_images_put(struct import_images *images, uint64_t n_rows, const json_t *list,
                              struct row_error *err);
/* import_images_finish - write what is left.  Returns ST_OK, ST_IO. */
enum status import_images_finish(struct import_images *images);

#endif
