/*
 * result_writer.c - writes RESULTS.tmp: every column, window by window, then the attributes.
 *
 * Hashes what it writes, so that the file can be read again and compared before it is renamed to
 * RESULTS.  Does not sync or rename.  Callers: merge.c, join.c.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "data/column_out.h"
#include "data/digest.h"
#include "data/prompts.h"
#include "data/result_file.h"

enum { IDS_AT_ONCE = 1024 };

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

struct result_writer {
    struct result_writer_args args;
    char *path; /* owned */
    hid_t file; /* owned */
    bool used[OUT_COUNT];
    struct column_out columns[OUT_COUNT];
    struct digest digests[OUT_TIMING];
    uint64_t n_rows, n_by_reason[FINISH_COUNT];
    uint64_t n_token_values, n_logprob_values; /* so far: the next offsets */
    struct arena *ids;                         /* owned; reset for every slice of ids */
    bool made, finished;                       /* the file is there; it is whole */
};

/* ---- making the file ------------------------------------------------------------------------ */

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

static hid_t column_type(enum out_kind kind)
{
    switch (kind) {
    case OUT_KIND_TEXT:
        return h5_text_type();
    case OUT_KIND_REASON:
        return reason_type();
    case OUT_KIND_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case OUT_KIND_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    default:
        return H5Tcopy(H5T_STD_I32LE);
    }
}

static enum status make_column(struct result_writer *writer, int c, const char *name,
                               enum out_kind kind, int n_cols)
{
    const struct column_out_args args = {
        .path = writer->path,
        .name = name,
        .type = column_type(kind),
        .n_cols = (uint64_t)n_cols,
        .n_rows = writer->args.rows_end - writer->args.rows_begin,
    };

    if (c < OUT_TIMING)
        digest_begin(&writer->digests[c]);
    writer->used[c] = true;
    return column_out_create(writer->file, &args, &writer->columns[c]);
}

static enum status make_columns(struct result_writer *writer)
{
    const struct result_writer_args *args = &writer->args;
    enum status st = ST_OK;

    for (int c = 0; c < OUT_TIMING; c++) {
        const bool is_logprob = c == OUT_LOGPROBS_OFFSETS || c == OUT_LOGPROBS;
        const bool is_top = c == OUT_TOP_IDS || c == OUT_TOP_LOGPROBS;

        if ((c == OUT_ID && args->prompts == NULL && !args->gives_ids) ||
            (is_logprob && !args->has_logprobs) || (is_top && args->n_top == 0))
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

/* ---- columns -------------------------------------------------------------------------------- */

static enum status put(struct result_writer *writer, enum out_column c, const void *data,
                       uint64_t n_elements)
{
    return column_out_put(&writer->columns[c], data, n_elements);
}

static enum status put_text(struct result_writer *writer, enum out_column c, const char *text,
                            size_t n_bytes)
{
    digest_text(&writer->digests[c], text, n_bytes);
    return column_out_put_text(&writer->columns[c], text, n_bytes);
}

static enum status put_i32s(struct result_writer *writer, enum out_column c, const int32_t *values,
                            uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        digest_int(&writer->digests[c], values[i], NUMBER_SET);
    return put(writer, c, values, n);
}

static enum status put_f32s(struct result_writer *writer, enum out_column c, const float *values,
                            uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        digest_real(&writer->digests[c], (double)values[i]);
    return put(writer, c, values, n);
}

/* One more row of n elements in a ragged column: its end is the next offset. */
static enum status put_offset(struct result_writer *writer, enum out_column c, uint64_t n,
                              uint64_t *inout_end)
{
    *inout_end += n;
    digest_int(&writer->digests[c], (int64_t)n, NUMBER_SET);
    return put(writer, c, inout_end, 1);
}

static enum status put_row(struct result_writer *writer, const struct result_row *row)
{
    enum status st = ST_OK;
    const uint64_t n_tokens = (uint64_t)row->n_tokens;
    const int8_t reason = (int8_t)row->reason;
    const float timing[RESULT_TIMING_COUNT] = {
        row->timing.queue_s,       row->timing.encode_s,
        row->timing.prefill_s,     row->timing.exposed_transfer_s,
        row->timing.first_token_s, row->timing.decode_s};

    TRY(put_text(writer, OUT_TEXT, row->text, row->text_bytes), err);
    TRY(put_text(writer, OUT_ERROR, row->error, row->error_bytes), err);
    digest_int(&writer->digests[OUT_FINISH_REASON], reason, NUMBER_SET);
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

/* ---- rows ----------------------------------------------------------------------------------- */

/* Whether a row continues what was written and has the columns that this file has. */
static enum status check_row(const struct result_writer *writer, const struct result_row *row,
                             uint64_t want)
{
    const int n_top = row->n_tokens > 0 && row->has_logprobs ? row->n_top : writer->args.n_top;

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
    size_t n = 0;

    if (utf8_valid(id, n_bytes, NULL) && memchr(id, '\0', n_bytes) == NULL)
        return id;
    char *out = arena_alloc(arena, n_bytes * 3 + 1);
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

static enum status put_ids(struct result_writer *writer, uint64_t first, uint64_t n_rows)
{
    enum status st = ST_OK;
    const char *ids[IDS_AT_ONCE];
    size_t bytes[IDS_AT_ONCE];

    for (uint64_t at = 0; at < n_rows; at += IDS_AT_ONCE) {
        const uint64_t left = n_rows - at, n = left < IDS_AT_ONCE ? left : IDS_AT_ONCE;

        arena_reset(writer->ids);
        TRY(prompts_read_ids(writer->args.prompts, first + at, n, writer->ids, ids, bytes), err);
        for (uint64_t i = 0; i < n; i++) {
            const char *id = clean_id(writer->ids, ids[i], bytes[i]);

            if (id == NULL)
                return ST_NOMEM;
            TRY(put_text(writer, OUT_ID, id, strlen(id)), err);
        }
    }
err:
    return st;
}

enum status result_writer_append(struct result_writer *writer, const struct result_row *rows,
                                 const char *const *ids, uint64_t n_rows)
{
    enum status st = ST_OK;
    const uint64_t first = writer->args.rows_begin + writer->n_rows;

    h5_quiet();
    for (uint64_t i = 0; i < n_rows; i++) {
        TRY(check_row(writer, &rows[i], first + i), err);
        TRY(put_row(writer, &rows[i]), err);
        if (writer->args.gives_ids)
            TRY(put_text(writer, OUT_ID, ids[i], strlen(ids[i])), err);
        writer->n_by_reason[rows[i].reason]++;
    }
    if (writer->args.prompts != NULL)
        TRY(put_ids(writer, first, n_rows), err);
    writer->n_rows += n_rows;
err:
    return st;
}

/* ---- begin and end -------------------------------------------------------------------------- */

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
    if (meta->summary != NULL)
        TRY(h5_attr_put_text(file, "summary", meta->summary), err);
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
        if (writer->used[c])
            digest_end(&writer->digests[c], writer->columns[c].name, &whole);
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
    for (int c = 0; c < OUT_COUNT; c++)
        if (writer->used[c])
            TRY(column_out_finish(&writer->columns[c]), err);
    TRY(put_attributes(writer), err);
    if (H5Fflush(writer->file, H5F_SCOPE_LOCAL) < 0)
        return column_out_failed(writer->path, "the file");
    const hid_t file = writer->file;
    writer->file = H5I_INVALID_HID;
    if (H5Fclose(file) < 0)
        return column_out_failed(writer->path, "the end of the file");
    writer->finished = true;
    digest_all(writer, out_digest);
err:
    return st;
}

void result_writer_close(struct result_writer *writer)
{
    if (writer == NULL)
        return;
    for (int c = 0; c < OUT_COUNT; c++)
        column_out_close(&writer->columns[c]);
    h5_close(writer->file);
    if (writer->made && !writer->finished && unlink(writer->path) != 0)
        log_warn("%s: cannot remove: %s", writer->path, strerror(errno));
    arena_destroy(writer->ids);
    host_free(writer->path);
    host_free(writer);
}
