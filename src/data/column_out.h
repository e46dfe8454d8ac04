/*
 * column_out.h - private to src/data: one dataset that grows at its end.
 *
 * Elements are gathered until there is about 1 MiB of them, then written as one slab; what is given
 * is copied.  Used for result files and by import.  Reading: column.h.
 */
#ifndef EPIDOTE_DATA_COLUMN_OUT_H
#define EPIDOTE_DATA_COLUMN_OUT_H

#include "data/h5.h"

struct column_out {
    const char *path; /* borrowed: for messages */
    char name[32];
    hid_t dataset, type; /* owned */
    bool is_text;
    uint8_t fill[8];            /* one number */
    size_t element_bytes;       /* of one number; of a text's place in pending */
    uint64_t n_cols, n_written; /* elements a row; rows in the file */
    struct buf pending, texts;  /* numbers, or each text's offset in texts */
};

struct column_out_args {
    const char *path; /* borrowed until column_out_close */
    const char *name; /* groups in it are made */
    hid_t type;       /* taken over; of the file and of what is given */
    uint64_t n_cols;  /* 0: one dimension */
    uint64_t n_rows;  /* about as many will come: a file of few rows gets small chunks */
    const void *fill; /* one number: what column_out_pad adds; NULL: zero.  Texts: always "" */
};

/* column_out_create - an empty column.  Returns ST_OK, ST_IO (logged). */
enum status column_out_create(hid_t file, const struct column_out_args *args,
                              struct column_out *out_column);
/* column_out_put - n_elements numbers; whole rows only.  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status column_out_put(struct column_out *column, const void *data, uint64_t n_elements);
/* column_out_put_text - one text, without a NUL inside.  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status column_out_put_text(struct column_out *column, const char *text, size_t n_bytes);
/* column_out_pad - lengthen a column of one dimension to n_rows rows, with its fill value.
 * Returns ST_OK, ST_IO, ST_NOMEM. */
enum status column_out_pad(struct column_out *column, uint64_t n_rows);
/* column_out_rows - rows given so far. */
uint64_t column_out_rows(const struct column_out *column);
/* column_out_finish - write what is left and close the dataset; only column_out_close may follow.
 * Returns ST_OK, ST_IO. */
enum status column_out_finish(struct column_out *column);
/* column_out_close - also of one that is all zero. */
void column_out_close(struct column_out *column);

/* column_out_failed - log that `what` of path could not be written, and why.  Returns ST_IO. */
enum status column_out_failed(const char *path, const char *what);

#endif
