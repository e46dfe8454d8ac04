/*
 * column.c - one dataset of N rows, read in windows, in one form whatever type the file stores.
 *
 * Whoever writes a prompt file need not know our types: this is where what h5py, MATLAB, Fortran or
 * a C program write becomes the same rows.  What a column means is prompts.c's and result_file.c's
 * business.
 */
#include <assert.h>

#include "data/column.h"

enum {
    WINDOW_BYTES = 8 << 20,
    CHUNK_CACHE_LEAST = 1 << 20, /* HDF5's own */
    CHUNK_CACHE_MOST = 64 << 20, /* a larger compressed chunk is unpacked for every window */
    CHUNK_CACHE_SLOTS = 1009
};

bool window_next(struct window *window, uint64_t n_total, uint64_t n_bytes)
{
    const uint64_t max_rows = 65536;

    window->first += window->n_rows;
    if (window->first >= n_total)
        return false;
    if (window->n_rows == 0)
        window->n_rows = 64;
    else if (n_bytes < WINDOW_BYTES / 2 && window->n_rows < max_rows)
        window->n_rows *= 2;
    else if (n_bytes > WINDOW_BYTES && window->n_rows > 1)
        window->n_rows /= 2;
    if (window->n_rows > n_total - window->first)
        window->n_rows = n_total - window->first;
    return true;
}

/* ---- opening -------------------------------------------------------------------------------- */

static const char *class_name(H5T_class_t class)
{
    switch (class) {
    case H5T_INTEGER:
        return "integers";
    case H5T_FLOAT:
        return "floats";
    case H5T_STRING:
        return "strings";
    case H5T_COMPOUND:
        return "compound records";
    case H5T_ENUM:
        return "enumerated values (h5py writes booleans so)";
    case H5T_VLEN:
        return "variable-length arrays";
    case H5T_ARRAY:
        return "arrays";
    case H5T_OPAQUE:
        return "opaque bytes";
    case H5T_REFERENCE:
        return "references";
    default:
        return "values of another type";
    }
}

static const char *wanted(enum column_type type)
{
    switch (type) {
    case COLUMN_TEXT:
        return "strings (h5py: file[name] = list_of_str)";
    case COLUMN_INT:
        return "integers of at most 64 bits";
    default:
        return "floats or integers";
    }
}

static enum status check_type(struct column *column, hid_t type)
{
    bool fits = false;

    column->stored = H5Tget_class(type);
    if (H5Tget_size(type) == 0) {
        log_error("%s: column %s: its type has a size of 0 bytes; the file is damaged: write or "
                  "copy it again",
                  column->path, column->name);
        return ST_FORMAT;
    }
    switch (column->type) {
    case COLUMN_TEXT:
        fits = column->stored == H5T_STRING;
        break;
    case COLUMN_INT:
    case COLUMN_REAL:
        fits = (column->stored == H5T_INTEGER && H5Tget_size(type) <= 8) ||
               column->stored == H5T_FLOAT;
        /* An enum's codes are its base type's integers; finish_reason is one of ours. */
        if (column->type == COLUMN_INT && column->stored == H5T_ENUM)
            fits = H5Tget_nmembers(type) > 2;
        break;
    }
    if (!fits) {
        const bool too_wide = column->type != COLUMN_TEXT && column->stored == H5T_INTEGER;

        log_error("%s: column %s holds %s; it has to hold %s", column->path, column->name,
                  too_wide ? "integers of more than 64 bits" : class_name(column->stored),
                  wanted(column->type));
        return ST_FORMAT;
    }
    column->is_uint8 = column->stored == H5T_INTEGER && H5Tget_size(type) == 1 &&
                       H5Tget_sign(type) == H5T_SGN_NONE;
    column->is_uint64 = column->stored == H5T_INTEGER && H5Tget_size(type) == 8 &&
                        H5Tget_sign(type) == H5T_SGN_NONE;
    if (column->type == COLUMN_TEXT) {
        column->is_vlen = H5Tis_variable_str(type) > 0;
        column->fixed_bytes = column->is_vlen ? 0 : H5Tget_size(type);
        column->padding = H5Tget_strpad(type);
        column->mem_text = H5Tcopy(type); /* equal to the file's, so that nothing is converted */
    }
    return ST_OK;
}

static enum status check_shape(struct column *column, hid_t space, int n_dims)
{
    hsize_t dims[H5S_MAX_RANK] = {0};
    const H5S_class_t class = H5Sget_simple_extent_type(space);

    if (class != H5S_SIMPLE) {
        log_error("%s: column %s is %s; write one dataset of N rows, also when N is 1",
                  column->path, column->name,
                  class == H5S_SCALAR ? "a single value (a scalar dataset)" : "an empty dataset");
        return ST_FORMAT;
    }
    if (H5Sget_simple_extent_dims(space, dims, NULL) != n_dims) {
        log_error("%s: column %s has %d dimensions; it has to have %d%s", column->path,
                  column->name, H5Sget_simple_extent_ndims(space), n_dims,
                  n_dims == 1 ? ", one element a row" : "");
        return ST_FORMAT;
    }
    column->n_rows = dims[0];
    column->n_cols = 1;
    column->n_dims = n_dims;
    for (int d = 0; d < n_dims; d++)
        column->dims[d] = dims[d];
    for (int d = 1; d < n_dims; d++)
        if (__builtin_mul_overflow(column->n_cols, dims[d], &column->n_cols)) {
            log_error("%s: column %s has more elements in a row than can be counted", column->path,
                      column->name);
            return ST_FORMAT;
        }
    return ST_OK;
}

/* h5py offers compressors that the C library does not have: better said now than at row 70,000. */
static enum status check_filters(const struct column *column)
{
    enum status st = ST_OK;
    const hid_t dcpl = H5Dget_create_plist(column->dataset);
    const int n_filters = dcpl < 0 ? 0 : H5Pget_nfilters(dcpl);

    for (int i = 0; i < n_filters && st == ST_OK; i++) {
        unsigned flags, config;
        size_t n_values = 0;
        char name[64] = "";
        const H5Z_filter_t filter =
            H5Pget_filter2(dcpl, (unsigned)i, &flags, &n_values, NULL, sizeof name, name, &config);

        if (filter >= 0 && H5Zfilter_avail(filter) <= 0) {
            log_error("%s: column %s is compressed with filter %d (%s), which this HDF5 library "
                      "does not have; write it with gzip or uncompressed",
                      column->path, column->name, (int)filter, name[0] ? name : "no name");
            st = ST_UNSUPPORTED;
        }
    }
    h5_close(dcpl);
    return st;
}

/* Bytes of one chunk; 0 if the dataset is not chunked. */
static uint64_t chunk_bytes(hid_t dataset)
{
    hsize_t dims[H5S_MAX_RANK] = {0};
    const hid_t dcpl = H5Dget_create_plist(dataset), type = H5Dget_type(dataset);
    uint64_t n_bytes = 0;

    if (dcpl >= 0 && type >= 0 && H5Pget_layout(dcpl) == H5D_CHUNKED) {
        const int n_dims = H5Pget_chunk(dcpl, H5S_MAX_RANK, dims);

        n_bytes = H5Tget_size(type);
        for (int d = 0; d < n_dims; d++)
            n_bytes *= dims[d]; /* HDF5 keeps chunks below 4 GiB */
    }
    h5_close(type);
    h5_close(dcpl);
    return n_bytes;
}

/* Windows go forward, so a cache of one chunk does: less, and HDF5 unpacks a chunk anew for every
 * window that touches it; more, and memory grows with the file. */
static hid_t dataset_open(hid_t loc, const char *name)
{
    const hid_t dataset = H5Dopen2(loc, name, H5P_DEFAULT);
    uint64_t cache_bytes = dataset < 0 ? 0 : chunk_bytes(dataset);

    if (cache_bytes <= CHUNK_CACHE_LEAST)
        return dataset;
    if (cache_bytes > CHUNK_CACHE_MOST)
        cache_bytes = CHUNK_CACHE_MOST;
    h5_close(dataset); /* the size of the cache is set where a dataset is opened */
    const hid_t dapl = H5Pcreate(H5P_DATASET_ACCESS);
    if (dapl >= 0)
        H5Pset_chunk_cache(dapl, CHUNK_CACHE_SLOTS, cache_bytes, 1.0);
    const hid_t again = H5Dopen2(loc, name, dapl < 0 ? H5P_DEFAULT : dapl);
    h5_close(dapl);
    return again;
}

enum status column_open(hid_t loc, const char *path, const char *name, const char *label,
                        enum column_type type, int n_dims, struct column *out_column)
{
    enum status st = ST_FORMAT;
    char reason[H5_REASON_BYTES];
    struct column column = {.path = path, .name = label, .type = type, .mem_text = H5I_INVALID_HID};
    const H5I_type_t object = h5_object_type(loc, name);

    if (object != H5I_DATASET) {
        log_error("%s: column %s is %s; it has to be a dataset", path, label,
                  object == H5I_GROUP ? "a group" : "missing");
        return ST_FORMAT;
    }
    column.dataset = dataset_open(loc, name);
    if (column.dataset < 0) {
        log_error("%s: column %s: cannot open: %s; write or copy the file again", path, label,
                  h5_reason(reason));
        return ST_FORMAT;
    }
    const hid_t stored = H5Dget_type(column.dataset);
    const hid_t space = H5Dget_space(column.dataset);
    if (stored < 0 || space < 0) {
        log_error("%s: column %s: %s", path, label, h5_reason(reason));
        goto err_close;
    }
    TRY(check_shape(&column, space, n_dims), err_close);
    TRY(check_type(&column, stored), err_close);
    TRY(check_filters(&column), err_close);
    h5_close(space);
    h5_close(stored);
    *out_column = column;
    return ST_OK;

err_close:
    h5_close(space);
    h5_close(stored);
    column_close(&column);
    return st;
}

void column_close(struct column *column)
{
    if (column->path == NULL)
        return;
    h5_close(column->mem_text);
    h5_close(column->dataset);
    *column = (struct column){0};
}

/* ---- reading -------------------------------------------------------------------------------- */

static enum status read_failed(const struct column *column, uint64_t first, uint64_t n_rows)
{
    char reason[H5_REASON_BYTES];

    log_error("%s: column %s: cannot read rows %llu to %llu: %s; the file is damaged or its file "
              "system failed",
              column->path, column->name, (unsigned long long)first,
              (unsigned long long)(first + n_rows), h5_reason(reason));
    return ST_IO;
}

/* One hyperslab; dxpl may be H5P_DEFAULT. */
static enum status read_slab(const struct column *column, uint64_t first, uint64_t n_rows,
                             hid_t mem_type, hid_t dxpl, void *out)
{
    hsize_t start[COLUMN_MAX_DIMS] = {first}, count[COLUMN_MAX_DIMS] = {n_rows};

    for (int d = 1; d < column->n_dims; d++)
        count[d] = column->dims[d];
    assert(first <= column->n_rows && n_rows <= column->n_rows - first);
    if (n_rows == 0 || column->n_cols == 0)
        return ST_OK;
    const hid_t file_space = H5Dget_space(column->dataset);
    const hid_t mem_space = H5Screate_simple(column->n_dims, count, NULL);
    const bool ok =
        file_space >= 0 && mem_space >= 0 &&
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
        H5Dread(column->dataset, mem_type, mem_space, file_space, dxpl, out) >= 0;
    const enum status st = ok ? ST_OK : read_failed(column, first, n_rows);

    h5_close(mem_space);
    h5_close(file_space);
    return st;
}

enum status column_read(const struct column *column, uint64_t first, uint64_t n_rows,
                        hid_t mem_type, void *out)
{
    return read_slab(column, first, n_rows, mem_type, H5P_DEFAULT, out);
}

/* HDF5 puts variable-length strings where it is told: into the arena, so nothing is left to free.
 */
static void *vlen_alloc(size_t n_bytes, void *arena)
{
    return arena_alloc(arena, n_bytes);
}

static void vlen_free(void *ptr, void *arena)
{
    (void)ptr;
    (void)arena;
}

static enum status read_vlen(const struct column *column, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_texts, size_t *out_bytes)
{
    const hid_t dxpl = H5Pcreate(H5P_DATASET_XFER);

    if (dxpl < 0 || H5Pset_vlen_mem_manager(dxpl, vlen_alloc, arena, vlen_free, arena) < 0) {
        h5_close(dxpl);
        return read_failed(column, first, n_rows);
    }
    const enum status st = read_slab(column, first, n_rows, column->mem_text, dxpl, out_texts);
    h5_close(dxpl);
    if (st != ST_OK)
        return st;
    for (uint64_t i = 0; i < n_rows; i++) {
        if (out_texts[i] == NULL) /* how HDF5 stores a string that was never written */
            out_texts[i] = "";
        out_bytes[i] = strlen(out_texts[i]);
    }
    return ST_OK;
}

static size_t unpadded_bytes(const char *text, size_t n_bytes, H5T_str_t padding)
{
    const char pad = padding == H5T_STR_SPACEPAD ? ' ' : '\0';

    if (padding == H5T_STR_NULLTERM)
        return strnlen(text, n_bytes);
    while (n_bytes > 0 && text[n_bytes - 1] == pad)
        n_bytes--;
    return n_bytes;
}

static enum status read_fixed(const struct column *column, uint64_t first, uint64_t n_rows,
                              struct arena *arena, const char **out_texts, size_t *out_bytes)
{
    enum status st = ST_OK;
    const size_t width = column->fixed_bytes;
    uint64_t slice = WINDOW_BYTES / width;

    if (slice < 1)
        slice = 1;
    if (slice > n_rows)
        slice = n_rows;
    char *raw = host_alloc(slice * width);
    if (raw == NULL)
        return ST_NOMEM;
    for (uint64_t at = 0; at < n_rows; at += slice) {
        if (slice > n_rows - at)
            slice = n_rows - at;
        TRY(read_slab(column, first + at, slice, column->mem_text, H5P_DEFAULT, raw), err);
        for (uint64_t i = 0; i < slice; i++) {
            const char *text = raw + i * width;
            const size_t n_bytes = unpadded_bytes(text, width, column->padding);
            const char *copy = arena_copy(arena, text, n_bytes);

            if (copy == NULL) {
                st = ST_NOMEM;
                goto err;
            }
            out_texts[at + i] = copy;
            out_bytes[at + i] = n_bytes;
        }
    }
err:
    host_free(raw);
    return st;
}

enum status column_read_text(const struct column *column, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_texts, size_t *out_bytes)
{
    if (n_rows == 0)
        return ST_OK;
    return column->is_vlen ? read_vlen(column, first, n_rows, arena, out_texts, out_bytes)
                           : read_fixed(column, first, n_rows, arena, out_texts, out_bytes);
}

static enum number_state int_from_real(double real, int64_t *out)
{
    if (real != real)
        return NUMBER_UNSET;
    if (!(real >= -0x1p53 && real <= 0x1p53) || real != (double)(int64_t)real)
        return NUMBER_NOT_INTEGER;
    *out = (int64_t)real;
    return NUMBER_SET;
}

enum status column_read_int(const struct column *column, uint64_t first, uint64_t n_rows,
                            struct arena *arena, int64_t *out, uint8_t *out_states)
{
    enum status st = ST_OK;
    const uint64_t n = n_rows * column->n_cols;

    if (column->stored == H5T_FLOAT) {
        double *reals = arena_alloc(arena, n * sizeof *reals);

        if (reals == NULL)
            return ST_NOMEM;
        TRY(column_read(column, first, n_rows, H5T_NATIVE_DOUBLE, reals), err);
        for (uint64_t i = 0; i < n; i++) {
            out[i] = 0;
            out_states[i] = (uint8_t)int_from_real(reals[i], &out[i]);
        }
        return ST_OK;
    }
    /* As int64 HDF5 would cut a large uint64 down to the largest int64 and say nothing. */
    TRY(column_read(column, first, n_rows, column->is_uint64 ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64,
                    out),
        err);
    for (uint64_t i = 0; i < n; i++)
        out_states[i] = column->is_uint64 && out[i] < 0 ? NUMBER_ABOVE_INT64 : NUMBER_SET;
err:
    return st;
}

/* ---- ragged columns ------------------------------------------------------------------------- */

/* Walks the offsets once, in windows that share one element with the next. */
static enum status check_offsets(const struct ragged *ragged)
{
    enum { N_AT_ONCE = 65536 };
    enum status st = ST_OK;
    const struct column *offsets = &ragged->offsets;
    const uint64_t n_values = ragged->values.n_rows;
    uint64_t before = 0;
    uint64_t *at = host_alloc(N_AT_ONCE * sizeof *at);

    if (at == NULL)
        return ST_NOMEM;
    for (uint64_t first = 0; first < offsets->n_rows; first += N_AT_ONCE) {
        const uint64_t left = offsets->n_rows - first, n = left < N_AT_ONCE ? left : N_AT_ONCE;

        /* A negative offset, read as int64 and looked at as uint64, is beyond any file. */
        TRY(column_read(offsets, first, n,
                        offsets->is_uint64 ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64, at),
            err);
        for (uint64_t i = 0; i < n; i++) {
            if (at[i] < before || at[i] > n_values) {
                log_error("%s: column %s: element %llu is %lld, %s; offsets have to ascend from 0 "
                          "to the number of values",
                          offsets->path, offsets->name, (unsigned long long)(first + i),
                          (long long)at[i],
                          at[i] < before ? "less than the one before it"
                                         : "which is negative or beyond the end of the values");
                st = ST_FORMAT;
                goto err;
            }
            before = at[i];
        }
    }
err:
    host_free(at);
    return st;
}

enum status ragged_open(hid_t file, const char *path, const char *name, const char *const labels[2],
                        enum column_type type, struct ragged *out_ragged)
{
    enum status st = ST_FORMAT;
    struct ragged ragged = {0};

    if (h5_object_type(file, name) != H5I_GROUP) {
        log_error("%s: column %s has to be a group with two datasets: `values`, and `offsets` with "
                  "one element more than there are rows",
                  path, name);
        return ST_FORMAT;
    }
    const hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    TRY(column_open(group, path, "values", labels[0], type, 1, &ragged.values), err);
    TRY(column_open(group, path, "offsets", labels[1], COLUMN_INT, 1, &ragged.offsets), err);
    st = ST_FORMAT;
    if (ragged.offsets.stored != H5T_INTEGER) {
        log_error("%s: column %s holds %s; it has to hold integers", path, labels[1],
                  class_name(ragged.offsets.stored));
        goto err;
    }
    if (ragged.offsets.n_rows == 0) {
        log_error("%s: column %s is empty; it has to have one element more than there are rows, "
                  "the first of them 0",
                  path, labels[1]);
        goto err;
    }
    ragged.n_rows = ragged.offsets.n_rows - 1;
    TRY(check_offsets(&ragged), err);
    h5_close(group);
    *out_ragged = ragged;
    return ST_OK;

err:
    ragged_close(&ragged);
    h5_close(group);
    return st;
}

void ragged_close(struct ragged *ragged)
{
    column_close(&ragged->values);
    column_close(&ragged->offsets);
}

enum status ragged_offsets(const struct ragged *ragged, uint64_t first, uint64_t n_rows,
                           uint64_t *out)
{
    return column_read(&ragged->offsets, first, n_rows + 1,
                       ragged->offsets.is_uint64 ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64, out);
}
