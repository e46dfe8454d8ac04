/*
 * column_out.c - one dataset that grows at its end: chunked, not compressed.
 *
 * Callers: result_writer.c and import.c.
 */
#include <assert.h>
#include <stdio.h>

#include "data/column_out.h"

enum {
    FLUSH_BYTES = 1 << 20,
    CHUNK_ELEMENTS = 16384, /* of a chunk of numbers: 64 KiB of float32 */
    CHUNK_BYTES = 1 << 18,  /* of a chunk of single bytes */
    CHUNK_TEXTS = 4096      /* 64 KiB of references to texts */
};

enum status column_out_failed(const char *path, const char *what)
{
    char reason[H5_REASON_BYTES];

    log_error("%s: cannot write %s: %s; if the disk is full, make room there and start the same "
              "command again",
              path, what, h5_reason(reason));
    return ST_IO;
}

/* Whole chunks are written, so a file of few rows gets small ones. */
static hsize_t chunk_rows(const struct column_out *column, uint64_t n_rows)
{
    const uint64_t most = (column->is_text              ? CHUNK_TEXTS
                           : column->element_bytes == 1 ? CHUNK_BYTES
                                                        : CHUNK_ELEMENTS) /
                          column->n_cols;
    const uint64_t few = n_rows < UINT64_MAX - 64 ? 64 + n_rows : UINT64_MAX;

    return most < 1 ? 1 : most < few ? most : few;
}

enum status column_out_create(hid_t file, const struct column_out_args *args,
                              struct column_out *out_column)
{
    const int n_dims = args->n_cols > 0 ? 2 : 1;
    struct column_out column = {.path = args->path,
                                .type = args->type,
                                .dataset = H5I_INVALID_HID,
                                .is_text = H5Tget_class(args->type) == H5T_STRING,
                                .n_cols = args->n_cols > 0 ? args->n_cols : 1};

    assert(args->fill == NULL || H5Tget_size(args->type) <= sizeof column.fill);
    if (args->fill != NULL)
        memcpy(column.fill, args->fill, H5Tget_size(args->type));
    column.element_bytes = column.is_text ? sizeof(uint64_t) : H5Tget_size(args->type);
    snprintf(column.name, sizeof column.name, "%s", args->name);
    const hsize_t dims[2] = {0, column.n_cols}, max_dims[2] = {H5S_UNLIMITED, column.n_cols};
    const hsize_t chunk[2] = {chunk_rows(&column, args->n_rows), column.n_cols};
    const hid_t space = H5Screate_simple(n_dims, dims, max_dims);
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), lcpl = H5Pcreate(H5P_LINK_CREATE);
    if (column.type >= 0 && space >= 0 && H5Pset_chunk(dcpl, n_dims, chunk) >= 0 &&
        H5Pset_create_intermediate_group(lcpl, 1) >= 0)
        column.dataset = H5Dcreate2(file, args->name, column.type, space, lcpl, dcpl, H5P_DEFAULT);
    const enum status st = column.dataset >= 0 ? ST_OK : column_out_failed(args->path, column.name);

    h5_close(lcpl);
    h5_close(dcpl);
    h5_close(space);
    if (st == ST_OK)
        *out_column = column;
    else
        h5_close(column.type);
    return st;
}

uint64_t column_out_rows(const struct column_out *column)
{
    return column->n_written + column->pending.n_bytes / column->element_bytes / column->n_cols;
}

static enum status write_slab(struct column_out *column, uint64_t n_rows, const void *data)
{
    const hsize_t start[2] = {column->n_written, 0}, count[2] = {n_rows, column->n_cols};
    const hsize_t dims[2] = {column->n_written + n_rows, column->n_cols};

    if (H5Dset_extent(column->dataset, dims) < 0)
        return column_out_failed(column->path, column->name);
    const hid_t file_space = H5Dget_space(column->dataset);
    const hid_t mem_space = H5Screate_simple(H5Sget_simple_extent_ndims(file_space), count, NULL);
    const bool ok =
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
        H5Dwrite(column->dataset, column->type, mem_space, file_space, H5P_DEFAULT, data) >= 0;
    const enum status st = ok ? ST_OK : column_out_failed(column->path, column->name);

    h5_close(mem_space);
    h5_close(file_space);
    column->n_written += n_rows;
    return st;
}

static enum status flush(struct column_out *column)
{
    enum status st = ST_OK;
    const uint64_t n_elements = column->pending.n_bytes / column->element_bytes;

    if (column->is_text) {
        /* Offsets become pointers now that the texts stay where they are. */
        _Static_assert(sizeof(char *) == sizeof(uint64_t), "an offset's place holds a pointer");
        for (uint64_t i = 0; i < n_elements; i++) {
            uint64_t offset;
            const char *text;

            memcpy(&offset, column->pending.data + i * sizeof offset, sizeof offset);
            text = (const char *)column->texts.data + offset;
            memcpy(column->pending.data + i * sizeof text, &text, sizeof text);
        }
    }
    if (n_elements > 0)
        st = write_slab(column, n_elements / column->n_cols, column->pending.data);
    buf_reset(&column->pending);
    buf_reset(&column->texts);
    return st;
}

enum status column_out_put(struct column_out *column, const void *data, uint64_t n_elements)
{
    const enum status st = buf_put(&column->pending, data, n_elements * column->element_bytes);

    return st != ST_OK || column->pending.n_bytes < FLUSH_BYTES ? st : flush(column);
}

enum status column_out_put_text(struct column_out *column, const char *text, size_t n_bytes)
{
    enum status st = ST_OK;
    const uint64_t offset = column->texts.n_bytes;

    TRY(buf_put(&column->texts, text, n_bytes), err);
    TRY(buf_put(&column->texts, "", 1), err);
    TRY(buf_put(&column->pending, &offset, sizeof offset), err);
    if (column->texts.n_bytes >= FLUSH_BYTES || column->pending.n_bytes >= FLUSH_BYTES / 8)
        st = flush(column);
err:
    return st;
}

enum status column_out_pad(struct column_out *column, uint64_t n_rows)
{
    enum status st = ST_OK;

    assert(column->n_cols == 1);
    while (st == ST_OK && column_out_rows(column) < n_rows)
        st = column->is_text ? column_out_put_text(column, "", 0)
                             : column_out_put(column, column->fill, 1);
    return st;
}

enum status column_out_finish(struct column_out *column)
{
    enum status st = flush(column);
    const hid_t dataset = column->dataset;

    /* Closing writes what HDF5 still holds, so it can fail like any write. */
    column->dataset = H5I_INVALID_HID;
    if (H5Dclose(dataset) < 0 && st == ST_OK)
        st = column_out_failed(column->path, column->name);
    return st;
}

void column_out_close(struct column_out *column)
{
    if (column->path == NULL)
        return;
    h5_close(column->dataset);
    h5_close(column->type);
    buf_free(&column->pending);
    buf_free(&column->texts);
    *column = (struct column_out){0};
}
