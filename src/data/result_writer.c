/*
 * result_writer.c - writes RESULTS.tmp: every column, window by window, then the attributes.
 *
 *   rows ──► texts:   written at once, straight from the caller's memory
 *        └─► numbers: gathered until a column has about 1 MiB, then written as one slab
 *
 * Hashes what it writes, so that the file can be read again and compared before it is renamed to
 * RESULTS (by journal_merge, the only caller).  Does not sync or rename.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "data/digest.h"
#include "data/h5.h"
#include "data/prompts.h"
#include "data/result_file.h"

enum {
    FLUSH_BYTES = 1 << 20,
    CHUNK_ELEMENTS = 16384, /* of a chunk of numbers: 64 KiB of float32 */
    CHUNK_TEXTS = 4096,     /* 64 KiB of references to texts */
    TEXTS_AT_ONCE = 4096
};

/* In the order of names, which is that of the digest. */
enum out_column {
    OUT_ERROR,
    OUT_FINISH_REASON,
    OUT_ID,
    OUT_LOGPROBS_OFFSETS,
    OUT_LOGPROBS,
    OUT_OUTPUT_LEN,
    OUT_PROMPT_LEN,
    OUT_TEXT,
    OUT_TOKENS_OFFSETS,
    OUT_TOKENS,
    OUT_TOP_IDS,
    OUT_TOP_LOGPROBS,
    OUT_TIMING, /* and the RESULT_TIMING_COUNT - 1 after it; not part of the digest */
    OUT_COUNT = OUT_TIMING + RESULT_TIMING_COUNT
};

enum out_kind { OUT_KIND_TEXT, OUT_KIND_REASON, OUT_KIND_I32, OUT_KIND_U64, OUT_KIND_F32 };

static const struct {
    const char *name;
    enum out_kind kind;
} out_columns[OUT_TIMING] = {
    [OUT_ERROR] = {"error", OUT_KIND_TEXT},
    [OUT_FINISH_REASON] = {"finish_reason", OUT_KIND_REASON},
    [OUT_ID] = {"id", OUT_KIND_TEXT},
    [OUT_LOGPROBS_OFFSETS] = {"logprobs/offsets", OUT_KIND_U64},
    [OUT_LOGPROBS] = {"logprobs/values", OUT_KIND_F32},
    [OUT_OUTPUT_LEN] = {"output_len", OUT_KIND_I32},
    [OUT_PROMPT_LEN] = {"prompt_len", OUT_KIND_I32},
    [OUT_TEXT] = {"text", OUT_KIND_TEXT},
    [OUT_TOKENS_OFFSETS] = {"tokens/offsets", OUT_KIND_U64},
    [OUT_TOKENS] = {"tokens/values", OUT_KIND_I32},
    [OUT_TOP_IDS] = {"top_logprobs/ids", OUT_KIND_I32},
    [OUT_TOP_LOGPROBS] = {"top_logprobs/values", OUT_KIND_F32},
};

struct out_dataset {
    bool used;
    char name[32];
    hid_t dataset, type; /* owned */
    size_t element_bytes;
    uint64_t n_cols, n_written; /* elements a row; rows in the file */
    struct buf pending;
    struct digest digest;
};

struct result_writer {
    struct result_writer_args args;
    char *path; /* owned */
    hid_t file; /* owned */
    struct out_dataset columns[OUT_COUNT];
    uint64_t n_rows, n_by_reason[FINISH_COUNT];
    uint64_t n_token_values, n_logprob_values; /* so far: the next offsets */
    struct arena *ids;                         /* owned; reset for every slice of texts */
    const char *texts[TEXTS_AT_ONCE];
    bool made, finished; /* the file is there; it is whole */
};

static enum status write_failed(const struct result_writer *writer, const char *what)
{
    char reason[H5_REASON_BYTES];

    log_error("%s: cannot write %s: %s; make room there and start the same command again: finished "
              "rows are kept",
              writer->path, what, h5_reason(reason));
    return ST_IO;
}

/* ---- making the file --------------------------------------------------------------------------
 */

/* An HDF5 enum of int8, so that h5py shows names beside codes. */
static hid_t reason_type(void)
{
    const hid_t type = H5Tenum_create(H5T_STD_I8LE);

    for (int r = 0; type >= 0 && r < FINISH_COUNT; r++) {
        const int8_t code = (int8_t)r;

        H5Tenum_insert(type, finish_reason_name((enum finish_reason)r), &code);
    }
    return type;
}

static hid_t column_type(enum out_kind kind, size_t *out_element_bytes)
{
    switch (kind) {
    case OUT_KIND_TEXT:
        *out_element_bytes = sizeof(char *);
        return h5_text_type();
    case OUT_KIND_REASON:
        *out_element_bytes = 1;
        return reason_type();
    case OUT_KIND_U64:
        *out_element_bytes = 8;
        return H5Tcopy(H5T_STD_U64LE);
    case OUT_KIND_F32:
        *out_element_bytes = 4;
        return H5Tcopy(H5T_IEEE_F32LE);
    default:
        *out_element_bytes = 4;
        return H5Tcopy(H5T_STD_I32LE);
    }
}

/* Whole chunks are written, so a file of few rows gets small ones. */
static hsize_t chunk_rows(const struct result_writer *writer, enum out_kind kind, uint64_t n_cols)
{
    const uint64_t n_rows = writer->args.rows_end - writer->args.rows_begin;
    const uint64_t most = (kind == OUT_KIND_TEXT ? CHUNK_TEXTS : CHUNK_ELEMENTS) / n_cols;
    const uint64_t few = 64 + n_rows;

    return most < 1 ? 1 : most < few ? most : few;
}

static enum status make_column(struct result_writer *writer, int c, const char *name,
                               enum out_kind kind, int n_cols)
{
    struct out_dataset *column = &writer->columns[c];
    const int n_dims = n_cols > 0 ? 2 : 1;

    *column = (struct out_dataset){.used = true, .n_cols = n_cols > 0 ? (uint64_t)n_cols : 1};
    column->dataset = H5I_INVALID_HID;
    snprintf(column->name, sizeof column->name, "%s", name);
    digest_begin(&column->digest);
    column->type = column_type(kind, &column->element_bytes);

    const hsize_t dims[2] = {0, column->n_cols}, max_dims[2] = {H5S_UNLIMITED, column->n_cols};
    const hsize_t chunk[2] = {chunk_rows(writer, kind, column->n_cols), column->n_cols};
    const hid_t space = H5Screate_simple(n_dims, dims, max_dims);
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), lcpl = H5Pcreate(H5P_LINK_CREATE);
    if (column->type >= 0 && space >= 0 && H5Pset_chunk(dcpl, n_dims, chunk) >= 0 &&
        H5Pset_create_intermediate_group(lcpl, 1) >= 0)
        column->dataset =
            H5Dcreate2(writer->file, name, column->type, space, lcpl, dcpl, H5P_DEFAULT);
    const enum status st = column->dataset >= 0 ? ST_OK : write_failed(writer, name);

    h5_close(lcpl);
    h5_close(dcpl);
    h5_close(space);
    return st;
}

static enum status make_columns(struct result_writer *writer)
{
    const struct result_writer_args *args = &writer->args;
    enum status st = ST_OK;

    for (int c = 0; c < OUT_TIMING; c++) {
        const bool is_logprob = c == OUT_LOGPROBS_OFFSETS || c == OUT_LOGPROBS;
        const bool is_top = c == OUT_TOP_IDS || c == OUT_TOP_LOGPROBS;

        if ((c == OUT_ID && args->prompts == NULL) || (is_logprob && !args->has_logprobs) ||
            (is_top && args->n_top == 0))
            continue;
        TRY(make_column(writer, c, out_columns[c].name, out_columns[c].kind,
                        is_top ? args->n_top : 0),
            err);
    }
    for (int t = 0; t < RESULT_TIMING_COUNT; t++) {
        char name[32];

        snprintf(name, sizeof name, "timing/%s", result_timing_names[t]);
        TRY(make_column(writer, OUT_TIMING + t, name, OUT_KIND_F32, 0), err);
    }
err:
    return st;
}

/* ---- columns ----------------------------------------------------------------------------------
 */

/* n_rows rows of data at the end of the column. */
static enum status write_slab(struct result_writer *writer, struct out_dataset *column,
                              uint64_t n_rows, const void *data)
{
    const hsize_t start[2] = {column->n_written, 0}, count[2] = {n_rows, column->n_cols};
    const hsize_t dims[2] = {column->n_written + n_rows, column->n_cols};

    if (n_rows == 0)
        return ST_OK;
    if (H5Dset_extent(column->dataset, dims) < 0)
        return write_failed(writer, column->name);
    const hid_t file_space = H5Dget_space(column->dataset);
    const hid_t mem_space = H5Screate_simple(H5Sget_simple_extent_ndims(file_space), count, NULL);
    const bool ok =
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
        H5Dwrite(column->dataset, column->type, mem_space, file_space, H5P_DEFAULT, data) >= 0;
    const enum status st = ok ? ST_OK : write_failed(writer, column->name);

    h5_close(mem_space);
    h5_close(file_space);
    column->n_written += n_rows;
    return st;
}

static enum status flush_pending(struct result_writer *writer, struct out_dataset *column)
{
    const uint64_t n_rows = column->pending.n_bytes / (column->element_bytes * column->n_cols);
    const enum status st = write_slab(writer, column, n_rows, column->pending.data);

    buf_reset(&column->pending);
    return st;
}

static enum status put(struct result_writer *writer, enum out_column c, const void *data,
                       uint64_t n_elements)
{
    struct out_dataset *column = &writer->columns[c];
    const enum status st = buf_put(&column->pending, data, n_elements * column->element_bytes);

    if (st != ST_OK || column->pending.n_bytes < FLUSH_BYTES)
        return st;
    return flush_pending(writer, column);
}

static enum status put_i32s(struct result_writer *writer, enum out_column c, const int32_t *values,
                            uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        digest_int(&writer->columns[c].digest, values[i], NUMBER_SET);
    return put(writer, c, values, n);
}

static enum status put_f32s(struct result_writer *writer, enum out_column c, const float *values,
                            uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        digest_real(&writer->columns[c].digest, (double)values[i]);
    return put(writer, c, values, n);
}

/* One more row of n elements in a ragged column: its end is the next offset. */
static enum status put_offset(struct result_writer *writer, enum out_column c, uint64_t n,
                              uint64_t *inout_end)
{
    *inout_end += n;
    digest_int(&writer->columns[c].digest, (int64_t)n, NUMBER_SET);
    return put(writer, c, inout_end, 1);
}

static enum status put_numbers(struct result_writer *writer, const struct result_row *row)
{
    enum status st = ST_OK;
    const uint64_t n_tokens = (uint64_t)row->n_tokens;
    const int8_t reason = (int8_t)row->reason;
    const float timing[RESULT_TIMING_COUNT] = {
        row->timing.queue_s,       row->timing.encode_s,
        row->timing.prefill_s,     row->timing.exposed_transfer_s,
        row->timing.first_token_s, row->timing.decode_s};

    digest_int(&writer->columns[OUT_FINISH_REASON].digest, reason, NUMBER_SET);
    TRY(put(writer, OUT_FINISH_REASON, &reason, 1), err);
    TRY(put_i32s(writer, OUT_PROMPT_LEN, &row->prompt_len, 1), err);
    TRY(put_i32s(writer, OUT_OUTPUT_LEN, &row->n_tokens, 1), err);
    TRY(put_offset(writer, OUT_TOKENS_OFFSETS, n_tokens, &writer->n_token_values), err);
    TRY(put_i32s(writer, OUT_TOKENS, row->tokens, n_tokens), err);
    if (writer->args.has_logprobs) {
        const uint64_t n = row->has_logprobs ? n_tokens : 0;

        TRY(put_offset(writer, OUT_LOGPROBS_OFFSETS, n, &writer->n_logprob_values), err);
        TRY(put_f32s(writer, OUT_LOGPROBS, row->logprobs, n), err);
        if (writer->args.n_top > 0) {
            const uint64_t n_top_values = n * (uint64_t)writer->args.n_top;

            TRY(put_i32s(writer, OUT_TOP_IDS, row->top_ids, n_top_values), err);
            TRY(put_f32s(writer, OUT_TOP_LOGPROBS, row->top_logprobs, n_top_values), err);
        }
    }
    for (int t = 0; t < RESULT_TIMING_COUNT; t++)
        TRY(put(writer, OUT_TIMING + (enum out_column)t, &timing[t], 1), err);
err:
    return st;
}

/* ---- rows -------------------------------------------------------------------------------------
 */

/* Whether a row continues what was written and has the columns that this file has. */
static enum status check_row(const struct result_writer *writer, const struct result_row *row,
                             uint64_t want)
{
    const int n_top = row->n_tokens > 0 && row->has_logprobs ? row->n_top : writer->args.n_top;

    assert(row->text[row->text_bytes] == '\0' && row->error[row->error_bytes] == '\0');
    if (row->row != want || want >= writer->args.rows_end) {
        log_error("%s: row %llu came where row %llu was due", writer->path,
                  (unsigned long long)row->row, (unsigned long long)want);
        return ST_FORMAT;
    }
    if ((row->has_logprobs && !writer->args.has_logprobs) || n_top != writer->args.n_top ||
        (row->n_top > 0 && row->n_tokens > 0 && !row->has_logprobs)) {
        log_error("%s: row %llu has logprobs of %d top tokens, the file of %d; its logs are of two "
                  "jobs: remove them to start anew",
                  writer->path, (unsigned long long)row->row, row->n_top, writer->args.n_top);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* An id with every byte that is not UTF-8, and every NUL, replaced by U+FFFD; NULL: no memory. */
static const char *clean_id(struct arena *arena, const char *id, size_t n_bytes)
{
    char *out = arena_alloc(arena, n_bytes * 3 + 1);
    size_t n = 0;

    if (out == NULL)
        return NULL;
    while (n_bytes > 0) {
        size_t n_good = n_bytes;

        utf8_valid(id, n_bytes, &n_good);
        n_good = strnlen(id, n_good);
        memcpy(out + n, id, n_good);
        n += n_good;
        id += n_good;
        n_bytes -= n_good;
        if (n_bytes > 0) {
            memcpy(out + n, "\xef\xbf\xbd", 3);
            n += 3;
            id++;
            n_bytes--;
        }
    }
    out[n] = '\0';
    return out;
}

/* The writer's slice of texts becomes rows of a column of texts. */
static enum status put_texts(struct result_writer *writer, enum out_column c, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        digest_text(&writer->columns[c].digest, writer->texts[i], strlen(writer->texts[i]));
    return write_slab(writer, &writer->columns[c], n, writer->texts);
}

static enum status put_ids(struct result_writer *writer, uint64_t first, uint64_t n)
{
    enum status st = ST_OK;
    size_t bytes[TEXTS_AT_ONCE];

    arena_reset(writer->ids);
    TRY(prompts_read_ids(writer->args.prompts, first, n, writer->ids, writer->texts, bytes), err);
    for (uint64_t i = 0; i < n; i++) {
        if (memchr(writer->texts[i], '\0', bytes[i]) == NULL &&
            utf8_valid(writer->texts[i], bytes[i], NULL))
            continue;
        writer->texts[i] = clean_id(writer->ids, writer->texts[i], bytes[i]);
        if (writer->texts[i] == NULL)
            return ST_NOMEM;
    }
    st = put_texts(writer, OUT_ID, n);
err:
    return st;
}

/* At most TEXTS_AT_ONCE rows. */
static enum status append_slice(struct result_writer *writer, const struct result_row *rows,
                                uint64_t n_rows)
{
    enum status st = ST_OK;

    for (uint64_t i = 0; i < n_rows; i++) {
        TRY(check_row(writer, &rows[i], writer->args.rows_begin + writer->n_rows + i), err);
        TRY(put_numbers(writer, &rows[i]), err);
        writer->n_by_reason[rows[i].reason]++;
    }
    for (uint64_t i = 0; i < n_rows; i++)
        writer->texts[i] = rows[i].text;
    TRY(put_texts(writer, OUT_TEXT, n_rows), err);
    for (uint64_t i = 0; i < n_rows; i++)
        writer->texts[i] = rows[i].error;
    TRY(put_texts(writer, OUT_ERROR, n_rows), err);
    if (writer->columns[OUT_ID].used)
        TRY(put_ids(writer, writer->args.rows_begin + writer->n_rows, n_rows), err);
    writer->n_rows += n_rows;
err:
    return st;
}

enum status result_writer_append(struct result_writer *writer, const struct result_row *rows,
                                 uint64_t n_rows)
{
    enum status st = ST_OK;

    h5_quiet();
    for (uint64_t at = 0; at < n_rows && st == ST_OK; at += TEXTS_AT_ONCE) {
        const uint64_t left = n_rows - at;

        st = append_slice(writer, rows + at, left < TEXTS_AT_ONCE ? left : TEXTS_AT_ONCE);
    }
    return st;
}

/* ---- begin and end ----------------------------------------------------------------------------
 */

enum status result_writer_create(const struct result_writer_args *args,
                                 struct result_writer **out_writer)
{
    enum status st = ST_NOMEM;
    struct result_writer *writer = host_zalloc(sizeof *writer);
    const uint64_t zero = 0;

    assert(args->rows_begin <= args->rows_end && args->n_top >= 0);
    assert(args->n_top == 0 || args->has_logprobs);
    if (writer == NULL)
        return ST_NOMEM;
    writer->args = *args;
    if (args->prompts != NULL && !prompts_info(args->prompts)->has_id)
        writer->args.prompts = NULL;
    writer->file = H5I_INVALID_HID;
    writer->path = host_strdup(args->path);
    if (writer->path == NULL)
        goto err;
    TRY(arena_create(1 << 20, &writer->ids), err);
    TRY(h5_create(writer->path, &writer->file), err);
    writer->made = true;
    TRY(make_columns(writer), err);
    TRY(put(writer, OUT_TOKENS_OFFSETS, &zero, 1), err);
    if (args->has_logprobs)
        TRY(put(writer, OUT_LOGPROBS_OFFSETS, &zero, 1), err);
    *out_writer = writer;
    return ST_OK;

err:
    result_writer_close(writer);
    return st;
}

static enum status put_hex(hid_t file, const char *name, uint64_t value)
{
    char hex[24];

    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)value);
    return h5_attr_put_text(file, name, hex);
}

static enum status put_attributes(const struct result_writer *writer)
{
    enum status st = ST_OK;
    const struct result_meta *meta = writer->args.meta;
    const hid_t file = writer->file;
    char rows[64];

    snprintf(rows, sizeof rows, "%llu:%llu", (unsigned long long)writer->args.rows_begin,
             (unsigned long long)writer->args.rows_end);
    TRY(h5_attr_put_text(file, "rows", rows), err);
    TRY(h5_attr_put_text(file, "program", meta->program), err);
    TRY(h5_attr_put_text(file, "job", meta->job), err);
    TRY(h5_attr_put_text(file, "identity", meta->identity), err);
    TRY(h5_attr_put_text(file, "numerics", meta->numerics), err);
    TRY(put_hex(file, "model_fingerprint", meta->model_fingerprint), err);
    TRY(put_hex(file, "prompts_fingerprint", meta->prompts_fingerprint), err);
    TRY(h5_attr_put_u64(file, "seed", meta->seed), err);
    TRY(h5_attr_put_u64(file, "n_rows", writer->n_rows), err);
    TRY(h5_attr_put_u64(file, "n_stop", writer->n_by_reason[FINISH_STOP]), err);
    TRY(h5_attr_put_u64(file, "n_length", writer->n_by_reason[FINISH_LENGTH]), err);
    TRY(h5_attr_put_u64(file, "n_scored", writer->n_by_reason[FINISH_SCORED]), err);
    TRY(h5_attr_put_u64(file, "n_failed", writer->n_by_reason[FINISH_ERROR]), err);
    /* Last: a file without it is not taken for a result file. */
    TRY(h5_attr_put_text(file, "schema", "epidote.results/1"), err);
err:
    return st;
}

static void digest_all(const struct result_writer *writer, uint64_t *out_digest)
{
    struct hash_state whole;

    digest_results_begin(&whole, writer->args.rows_begin, writer->args.rows_end);
    for (int c = 0; c < OUT_TIMING; c++)
        if (writer->columns[c].used)
            digest_end(&writer->columns[c].digest, writer->columns[c].name, &whole);
    *out_digest = hash_end(&whole);
}

enum status result_writer_finish(struct result_writer *writer, uint64_t *out_digest)
{
    enum status st = ST_OK;
    const uint64_t n_want = writer->args.rows_end - writer->args.rows_begin;

    h5_quiet();
    assert(!writer->finished);
    if (writer->n_rows != n_want) {
        log_error("%s: %llu of %llu rows are there; row %llu is the first missing", writer->path,
                  (unsigned long long)writer->n_rows, (unsigned long long)n_want,
                  (unsigned long long)(writer->args.rows_begin + writer->n_rows));
        return ST_FORMAT;
    }
    for (int c = 0; c < OUT_COUNT; c++) {
        struct out_dataset *column = &writer->columns[c];

        if (!column->used)
            continue;
        TRY(flush_pending(writer, column), err);
        /* Closing writes what HDF5 still holds, so it can fail like any write. */
        const hid_t dataset = column->dataset;
        column->dataset = H5I_INVALID_HID;
        if (H5Dclose(dataset) < 0)
            return write_failed(writer, column->name);
    }
    TRY(put_attributes(writer), err);
    if (H5Fflush(writer->file, H5F_SCOPE_LOCAL) < 0)
        return write_failed(writer, "the file");
    const hid_t file = writer->file;
    writer->file = H5I_INVALID_HID;
    if (H5Fclose(file) < 0)
        return write_failed(writer, "the end of the file");
    writer->finished = true;
    digest_all(writer, out_digest);
err:
    return st;
}

void result_writer_close(struct result_writer *writer)
{
    if (writer == NULL)
        return;
    for (int c = 0; c < OUT_COUNT; c++) {
        if (!writer->columns[c].used)
            continue;
        h5_close(writer->columns[c].dataset);
        h5_close(writer->columns[c].type);
        buf_free(&writer->columns[c].pending);
    }
    h5_close(writer->file);
    if (writer->made && !writer->finished && unlink(writer->path) != 0)
        log_warn("%s: cannot remove: %s", writer->path, strerror(errno));
    arena_destroy(writer->ids);
    host_free(writer->path);
    host_free(writer);
}
