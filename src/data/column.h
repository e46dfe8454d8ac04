/*
 * column.h - private to src/data: one dataset of N rows, read in windows, in one form whatever type
 * the file stores.
 *
 *   text   variable- or fixed-length strings, any padding   -> bytes and their number
 *   int    integers of any width, sign, byte order; floats  -> int64 and a state
 *   real   floats and integers of any width                 -> double
 *
 * A ragged column is a group with `values` (all rows' elements, one after another) and `offsets`
 * (N + 1 integers: row i is values[offsets[i] .. offsets[i + 1]) ).
 */
#ifndef EPIDOTE_DATA_COLUMN_H
#define EPIDOTE_DATA_COLUMN_H

#include "data/h5.h"

enum column_type { COLUMN_TEXT, COLUMN_INT, COLUMN_REAL };
enum { COLUMN_MAX_DIMS = 4 };

struct column {
    const char *path, *name; /* borrowed: for messages */
    enum column_type type;   /* asked for */
    H5T_class_t stored;      /* what the file has */
    bool is_uint64;          /* stored as one */
    bool is_uint8;           /* likewise */
    bool is_vlen;
    size_t fixed_bytes; /* of a fixed-length string */
    H5T_str_t padding;
    hid_t dataset, mem_text; /* owned; mem_text is for COLUMN_TEXT only */
    uint64_t n_rows;
    uint64_t n_cols; /* elements of a row: 1 unless opened with more than one dimension */
    int n_dims;
    uint64_t dims[COLUMN_MAX_DIMS]; /* n_rows, then what n_cols is the product of */
};

/*
 * column_open - open and check one column.
 *   loc      in   file or group
 *   name     in   as in loc; `label` is how messages call it, such as "prompt_tokens/values"
 *   n_dims   in   1, or 2 for [rows, cols], ... up to COLUMN_MAX_DIMS
 * Refused: groups, scalars, other shapes, types that do not fit, compression that this HDF5 lacks.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED (logged with path, column and remedy), ST_NOMEM.
 */
enum status column_open(hid_t loc, const char *path, const char *name, const char *label,
                        enum column_type type, int n_dims, struct column *out_column);
/* column_close - also of one that is all zero. */
void column_close(struct column *column);

/* column_read - n_rows rows from first on as mem_type, converted by HDF5; for columns of numbers.
 * out has room for n_rows * n_cols elements.  The range must be inside the column (assert).
 * Returns ST_OK, ST_IO (logged). */
enum status column_read(const struct column *column, uint64_t first, uint64_t n_rows,
                        hid_t mem_type, void *out);

/* column_read_text - out_texts[i] has out_bytes[i] bytes and a NUL behind them, in arena; padding
 * is gone; NULs inside a fixed-length string stay.  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status column_read_text(const struct column *column, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_texts, size_t *out_bytes);

enum number_state {
    NUMBER_SET,
    NUMBER_UNSET,       /* a NaN in a column of floats */
    NUMBER_ABOVE_INT64, /* the 64 bits of the value, which is a uint64, are in out */
    NUMBER_NOT_INTEGER  /* a float with a fraction, or too large to be exact */
};
/* column_read_int - out and out_states have room for n_rows * n_cols.  arena: scratch.  Returns
 * ST_OK, ST_IO, ST_NOMEM. */
enum status column_read_int(const struct column *column, uint64_t first, uint64_t n_rows,
                            struct arena *arena, int64_t *out, uint8_t *out_states);

struct ragged {
    struct column values, offsets;
    uint64_t n_rows;
};

/* ragged_open - open group `name` of file and check every offset: none negative, ascending, none
 * beyond `values`.  Reads the offsets in windows.  labels: how messages call values and offsets.
 * Returns as column_open, and ST_IO. */
enum status ragged_open(hid_t file, const char *path, const char *name, const char *const labels[2],
                        enum column_type type, struct ragged *out_ragged);
void ragged_close(struct ragged *ragged);
/* ragged_offsets - out is [n_rows + 1].  Returns ST_OK, ST_IO. */
enum status ragged_offsets(const struct ragged *ragged, uint64_t first, uint64_t n_rows,
                           uint64_t *out);

/* Rows to read at a time when a whole column is walked: grows and shrinks so that a window holds
 * about 8 MiB, whatever the rows hold. */
struct window {
    uint64_t first, n_rows; /* this window; begin with n_rows = 0 */
};
/* window_next - the window behind this one; n_bytes: what this one held.  False at the end. */
bool window_next(struct window *window, uint64_t n_total, uint64_t n_bytes);

#endif
