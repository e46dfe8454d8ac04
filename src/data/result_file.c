/*
 * result_file.c - reads RESULTS: what its attributes say, its rows, its digest; verifies a new one.
 *
 * A result file is ours, but it may have been cut, edited or written by a later version since:
 * columns are opened with the same checks as those of a prompt file.  Writing: result_writer.c.
 */
#include <assert.h>
#include <stdio.h>

#include "data/digest.h"
#include "data/result_file.h"

const char *const result_timing_names[RESULT_TIMING_COUNT] = {
    "queue_s", "encode_s", "prefill_s", "exposed_transfer_s", "first_token_s", "decode_s"};

static const char schema_ours[] = "epidote.results/1";

struct result_file {
    char *path; /* owned */
    hid_t file; /* owned */
    struct result_file_info info;
    struct buf texts[5]; /* owned: program, job, identity, numerics, summary */
    uint64_t n_rows;
    struct column error, finish_reason, id, output_len, prompt_len, text, top_ids, top_logprobs;
    struct column timing[RESULT_TIMING_COUNT];
    struct ragged tokens, logprobs;
};

/* ---- attributes ----------------------------------------------------------------------------- */

/* ST_END: no schema at all. */
static enum status read_schema(hid_t file, struct buf *out)
{
    buf_reset(out);
    return h5_attr_get_text(file, "schema", out);
}

enum status result_file_is_one(const char *path, bool *out_is_results)
{
    enum status st = ST_OK;
    struct buf schema = {0};
    hid_t file;

    TRY(h5_open_read(path, &file), err);
    *out_is_results = read_schema(file, &schema) == ST_OK &&
                      strncmp((char *)schema.data, "epidote.results/", 16) == 0;
    h5_close(file);
err:
    buf_free(&schema);
    return st;
}

static enum status bad_attribute(const struct result_file *file, const char *name, enum status st)
{
    if (st == ST_NOMEM)
        return st;
    log_error("%s: attribute %s %s; the file is not a whole result file: run the job again, or "
              "restore the file",
              file->path, name, st == ST_END ? "is missing" : "cannot be read");
    return ST_FORMAT;
}

static enum status read_rows_attribute(struct result_file *file)
{
    struct buf rows = {0};
    unsigned long long begin = 0, end = 0;
    char tail = 0;
    enum status st = h5_attr_get_text(file->file, "rows", &rows);

    if (st == ST_OK &&
        (sscanf((char *)rows.data, "%llu:%llu%c", &begin, &end, &tail) != 2 || begin > end))
        st = ST_FORMAT;
    if (st != ST_OK)
        st = bad_attribute(file, "rows", st);
    file->info.rows_begin = begin;
    file->info.rows_end = end;
    file->n_rows = end - begin;
    buf_free(&rows);
    return st;
}

static enum status read_hex(struct result_file *file, const char *name, uint64_t *out)
{
    struct buf hex = {0};
    unsigned long long value = 0;
    char tail = 0;
    enum status st = h5_attr_get_text(file->file, name, &hex);

    if (st == ST_OK && sscanf((char *)hex.data, "%16llx%c", &value, &tail) != 1)
        st = ST_FORMAT;
    if (st != ST_OK)
        st = bad_attribute(file, name, st);
    *out = value;
    buf_free(&hex);
    return st;
}

static enum status read_attributes(struct result_file *file)
{
    static const char *const names[] = {"program", "job", "identity", "numerics", "summary"};
    enum { N_NAMES = sizeof names / sizeof *names, SUMMARY = N_NAMES - 1 };
    struct result_file_info *info = &file->info;
    const char **const views[N_NAMES] = {&info->program, &info->job, &info->identity,
                                         &info->numerics, &info->summary};
    struct buf schema = {0};
    enum status st = read_schema(file->file, &schema);

    if (st != ST_OK) {
        st = bad_attribute(file, "schema", st);
    } else if (strcmp((char *)schema.data, schema_ours) != 0) {
        log_error("%s: attribute schema is \"%s\", this version reads %s%s", file->path,
                  (char *)schema.data, schema_ours,
                  strncmp((char *)schema.data, "epidote.prompts/", 16) == 0
                      ? "; this is a prompt file, name the result file"
                      : "");
        st = ST_FORMAT;
    }
    if (st != ST_OK)
        goto err;
    TRY(read_rows_attribute(file), err);
    for (int i = 0; i < N_NAMES; i++) {
        st = h5_attr_get_text(file->file, names[i], &file->texts[i]);
        if (st == ST_END && i == SUMMARY) /* parts that were joined have none */
            st = buf_put(&file->texts[i], "", 1);
        if (st != ST_OK) {
            st = bad_attribute(file, names[i], st);
            goto err;
        }
        *views[i] = (const char *)file->texts[i].data;
    }
    TRY(read_hex(file, "model_fingerprint", &info->model_fingerprint), err);
    TRY(read_hex(file, "prompts_fingerprint", &info->prompts_fingerprint), err);
    if ((st = h5_attr_get_u64(file->file, "seed", &info->seed)) != ST_OK)
        st = bad_attribute(file, "seed", st);
    else if ((st = h5_attr_get_u64(file->file, "n_failed", &info->n_failed)) != ST_OK)
        st = bad_attribute(file, "n_failed", st);
err:
    buf_free(&schema);
    return st;
}

/* ---- opening -------------------------------------------------------------------------------- */

static enum status check_rows(const struct result_file *file, const char *name, uint64_t n_rows,
                              uint64_t n_want)
{
    if (n_rows == n_want)
        return ST_OK;
    log_error("%s: column %s has %llu rows, it has to have %llu; the file is damaged: restore it, "
              "or remove it and run the job again",
              file->path, name, (unsigned long long)n_rows, (unsigned long long)n_want);
    return ST_FORMAT;
}

static enum status open_one(struct result_file *file, const char *name, enum column_type type,
                            struct column *out_column)
{
    enum status st = ST_OK;

    TRY(column_open(file->file, file->path, name, name, type, 1, out_column), err);
    st = check_rows(file, name, out_column->n_rows, file->n_rows);
err:
    return st;
}

static bool is_there(const struct result_file *file, const char *name)
{
    return h5_object_type(file->file, name) != H5I_BADID;
}

static enum status open_top(struct result_file *file)
{
    enum status st = ST_OK;
    const uint64_t n_want = file->logprobs.values.n_rows;

    if (!file->info.has_logprobs || !is_there(file, "top_logprobs"))
        return ST_OK;
    TRY(column_open(file->file, file->path, "top_logprobs/ids", "top_logprobs/ids", COLUMN_INT, 2,
                    &file->top_ids),
        err);
    TRY(column_open(file->file, file->path, "top_logprobs/values", "top_logprobs/values",
                    COLUMN_REAL, 2, &file->top_logprobs),
        err);
    TRY(check_rows(file, "top_logprobs/ids", file->top_ids.n_rows, n_want), err);
    TRY(check_rows(file, "top_logprobs/values", file->top_logprobs.n_rows, n_want), err);
    if (file->top_ids.n_cols != file->top_logprobs.n_cols || file->top_ids.n_cols > INT32_MAX) {
        log_error("%s: columns top_logprobs/ids and top_logprobs/values have %llu and %llu "
                  "elements a token; they have to be of one shape",
                  file->path, (unsigned long long)file->top_ids.n_cols,
                  (unsigned long long)file->top_logprobs.n_cols);
        return ST_FORMAT;
    }
    file->info.n_top = (int)file->top_ids.n_cols;
err:
    return st;
}

static enum status open_columns(struct result_file *file)
{
    static const char *const token_labels[2] = {"tokens/values", "tokens/offsets"};
    static const char *const logprob_labels[2] = {"logprobs/values", "logprobs/offsets"};
    enum status st = ST_OK;

    file->info.has_id = is_there(file, "id");
    file->info.has_logprobs = is_there(file, "logprobs");
    file->info.has_timing = is_there(file, "timing");
    TRY(open_one(file, "error", COLUMN_TEXT, &file->error), err);
    TRY(open_one(file, "finish_reason", COLUMN_INT, &file->finish_reason), err);
    TRY(open_one(file, "output_len", COLUMN_INT, &file->output_len), err);
    TRY(open_one(file, "prompt_len", COLUMN_INT, &file->prompt_len), err);
    TRY(open_one(file, "text", COLUMN_TEXT, &file->text), err);
    if (file->info.has_id)
        TRY(open_one(file, "id", COLUMN_TEXT, &file->id), err);
    TRY(ragged_open(file->file, file->path, "tokens", token_labels, COLUMN_INT, &file->tokens),
        err);
    TRY(check_rows(file, "tokens/offsets", file->tokens.n_rows, file->n_rows), err);
    if (file->info.has_logprobs) {
        TRY(ragged_open(file->file, file->path, "logprobs", logprob_labels, COLUMN_REAL,
                        &file->logprobs),
            err);
        TRY(check_rows(file, "logprobs/offsets", file->logprobs.n_rows, file->n_rows), err);
    }
    TRY(open_top(file), err);
    for (int t = 0; t < RESULT_TIMING_COUNT && file->info.has_timing; t++) {
        char name[32];

        snprintf(name, sizeof name, "timing/%s", result_timing_names[t]);
        TRY(column_open(file->file, file->path, name, result_timing_names[t], COLUMN_REAL, 1,
                        &file->timing[t]),
            err);
        TRY(check_rows(file, name, file->timing[t].n_rows, file->n_rows), err);
    }
err:
    return st;
}

enum status result_file_open(const char *path, struct result_file **out_file)
{
    enum status st = ST_NOMEM;
    struct result_file *file = host_zalloc(sizeof *file);

    if (file == NULL)
        return ST_NOMEM;
    file->file = H5I_INVALID_HID;
    file->path = host_strdup(path);
    if (file->path == NULL)
        goto err;
    TRY(h5_open_read(path, &file->file), err);
    TRY(read_attributes(file), err);
    TRY(open_columns(file), err);
    *out_file = file;
    return ST_OK;

err:
    result_file_close(file);
    return st;
}

void result_file_close(struct result_file *file)
{
    if (file == NULL)
        return;
    struct column *const columns[] = {&file->error,      &file->finish_reason, &file->id,
                                      &file->output_len, &file->prompt_len,    &file->text,
                                      &file->top_ids,    &file->top_logprobs};

    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        column_close(columns[i]);
    for (int t = 0; t < RESULT_TIMING_COUNT; t++)
        column_close(&file->timing[t]);
    ragged_close(&file->tokens);
    ragged_close(&file->logprobs);
    h5_close(file->file);
    for (size_t i = 0; i < sizeof file->texts / sizeof file->texts[0]; i++)
        buf_free(&file->texts[i]);
    host_free(file->path);
    host_free(file);
}

const struct result_file_info *result_file_info(const struct result_file *file)
{
    return &file->info;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static enum status bad_row(const struct result_file *file, uint64_t row, const char *what)
{
    log_error("%s: row %llu: %s; the file is damaged: restore it, or remove it and run the job "
              "again",
              file->path, (unsigned long long)row, what);
    return ST_FORMAT;
}

/* Everything but ragged columns. */
static enum status read_plain(struct result_file *file, uint64_t first, uint64_t n,
                              struct arena *arena, struct result_row *rows, const char **out_ids)
{
    enum status st = ST_NOMEM;
    const char **texts = arena_alloc(arena, n * sizeof *texts);
    const char **errors = arena_alloc(arena, n * sizeof *errors);
    size_t *text_bytes = arena_alloc(arena, n * sizeof *text_bytes);
    size_t *error_bytes = arena_alloc(arena, n * sizeof *error_bytes);
    int32_t *reasons = arena_alloc(arena, n * sizeof *reasons);
    int32_t *prompt_lens = arena_alloc(arena, n * sizeof *prompt_lens);
    float *seconds = arena_alloc(arena, n * sizeof *seconds);

    if (texts == NULL || errors == NULL || text_bytes == NULL || error_bytes == NULL ||
        reasons == NULL || prompt_lens == NULL || seconds == NULL)
        goto err;
    if (file->info.has_id && out_ids != NULL)
        TRY(column_read_text(&file->id, first, n, arena, out_ids, text_bytes), err);
    TRY(column_read_text(&file->text, first, n, arena, texts, text_bytes), err);
    TRY(column_read_text(&file->error, first, n, arena, errors, error_bytes), err);
    TRY(column_read(&file->finish_reason, first, n, H5T_NATIVE_INT32, reasons), err);
    TRY(column_read(&file->prompt_len, first, n, H5T_NATIVE_INT32, prompt_lens), err);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t row = file->info.rows_begin + first + i;

        if (!file->info.has_id && out_ids != NULL)
            out_ids[i] = NULL;
        if (reasons[i] < 0 || reasons[i] >= FINISH_COUNT || prompt_lens[i] < 0 ||
            (error_bytes[i] > 0 && reasons[i] != FINISH_ERROR))
            return bad_row(file, row, "finish_reason, error or prompt_len cannot be");
        if (!utf8_valid(texts[i], text_bytes[i], NULL) ||
            !utf8_valid(errors[i], error_bytes[i], NULL) ||
            memchr(texts[i], '\0', text_bytes[i]) != NULL ||
            memchr(errors[i], '\0', error_bytes[i]) != NULL)
            return bad_row(file, row, "text or error is not UTF-8");
        rows[i] = (struct result_row){
            .row = row,
            .reason = (enum finish_reason)reasons[i],
            .text = texts[i],
            .text_bytes = text_bytes[i],
            .error = errors[i],
            .error_bytes = error_bytes[i],
            .prompt_len = prompt_lens[i],
        };
    }
    for (int t = 0; t < RESULT_TIMING_COUNT && file->info.has_timing; t++) {
        TRY(column_read(&file->timing[t], first, n, H5T_NATIVE_FLOAT, seconds), err);
        for (uint64_t i = 0; i < n; i++) {
            struct row_timing *timing = &rows[i].timing;
            float *const fields[RESULT_TIMING_COUNT] = {
                &timing->queue_s,       &timing->encode_s,
                &timing->prefill_s,     &timing->exposed_transfer_s,
                &timing->first_token_s, &timing->decode_s};

            *fields[t] = seconds[i];
        }
    }
err:
    return st;
}

/* The window's part of a ragged column of 4-byte elements; offsets count from its first value. */
static enum status read_ragged(const struct result_file *file, const struct ragged *ragged,
                               uint64_t first, uint64_t n, hid_t mem_type, struct arena *arena,
                               uint64_t **out_offsets, void **out_values, uint64_t *out_base)
{
    enum status st = ST_NOMEM;
    uint64_t *offsets = arena_alloc(arena, (n + 1) * sizeof *offsets);

    if (offsets == NULL)
        goto err;
    TRY(ragged_offsets(ragged, first, n, offsets), err);
    for (uint64_t i = 0; i < n; i++) /* so no product of sizes below wraps around */
        if (offsets[i + 1] - offsets[i] > INT32_MAX)
            return bad_row(file, file->info.rows_begin + first + i, "more than 2^31 tokens");
    const uint64_t base = offsets[0], n_values = offsets[n] - base;
    void *values = arena_alloc(arena, n_values * 4);
    if (values == NULL)
        return ST_NOMEM;
    TRY(column_read(&ragged->values, base, n_values, mem_type, values), err);
    for (uint64_t i = 0; i <= n; i++)
        offsets[i] -= base;
    *out_offsets = offsets;
    *out_values = values;
    *out_base = base;
err:
    return st;
}

static enum status read_tokens(struct result_file *file, uint64_t first, uint64_t n,
                               struct arena *arena, struct result_row *rows)
{
    enum status st = ST_OK;
    uint64_t *offsets, base;
    void *tokens;

    TRY(read_ragged(file, &file->tokens, first, n, H5T_NATIVE_INT32, arena, &offsets, &tokens,
                    &base),
        err);
    for (uint64_t i = 0; i < n; i++) {
        rows[i].n_tokens = (int)(offsets[i + 1] - offsets[i]);
        rows[i].tokens = (const int32_t *)tokens + offsets[i];
    }
err:
    return st;
}

static enum status read_logprobs(struct result_file *file, uint64_t first, uint64_t n,
                                 struct arena *arena, struct result_row *rows)
{
    enum status st = ST_OK;
    const uint64_t n_top = (uint64_t)file->info.n_top;
    uint64_t *offsets, base;
    void *logprobs;
    int32_t *ids = NULL;
    float *tops = NULL;

    TRY(read_ragged(file, &file->logprobs, first, n, H5T_NATIVE_FLOAT, arena, &offsets, &logprobs,
                    &base),
        err);
    if (n_top > 0) {
        if (offsets[n] > SIZE_MAX / sizeof *ids / n_top)
            return bad_row(file, file->info.rows_begin + first, "more top_logprobs than can be");
        ids = arena_alloc(arena, offsets[n] * n_top * sizeof *ids);
        tops = arena_alloc(arena, offsets[n] * n_top * sizeof *tops);
        if (ids == NULL || tops == NULL)
            return ST_NOMEM;
        TRY(column_read(&file->top_ids, base, offsets[n], H5T_NATIVE_INT32, ids), err);
        TRY(column_read(&file->top_logprobs, base, offsets[n], H5T_NATIVE_FLOAT, tops), err);
    }
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t n_values = offsets[i + 1] - offsets[i];

        if (n_values == 0)
            continue;
        if (n_values != (uint64_t)rows[i].n_tokens)
            return bad_row(file, rows[i].row, "logprobs and tokens are not equally many");
        rows[i].has_logprobs = true;
        rows[i].logprobs = (const float *)logprobs + offsets[i];
        if (n_top > 0) {
            rows[i].n_top = (int)n_top;
            rows[i].top_ids = ids + offsets[i] * n_top;
            rows[i].top_logprobs = tops + offsets[i] * n_top;
        }
    }
err:
    return st;
}

enum status result_file_read(struct result_file *file, uint64_t first, uint64_t n_rows,
                             struct arena *arena, struct result_row *out_rows, const char **out_ids)
{
    enum status st = ST_OK;

    assert(first <= file->n_rows && n_rows <= file->n_rows - first);
    h5_quiet();
    if (n_rows == 0)
        return ST_OK;
    TRY(read_plain(file, first, n_rows, arena, out_rows, out_ids), err);
    TRY(read_tokens(file, first, n_rows, arena, out_rows), err);
    if (file->info.has_logprobs)
        TRY(read_logprobs(file, first, n_rows, arena, out_rows), err);
err:
    return st;
}

/* ---- digest --------------------------------------------------------------------------------- */

enum status result_file_digest(struct result_file *file, uint64_t *out_digest)
{
    enum status st = ST_OK;
    struct hash_state whole;

    h5_quiet();
    digest_results_begin(&whole, file->info.rows_begin, file->info.rows_end);
    TRY(digest_add_column(&whole, &file->error), err);
    TRY(digest_add_column(&whole, &file->finish_reason), err);
    if (file->info.has_id)
        TRY(digest_add_column(&whole, &file->id), err);
    if (file->info.has_logprobs)
        TRY(digest_add_ragged(&whole, &file->logprobs), err);
    TRY(digest_add_column(&whole, &file->output_len), err);
    TRY(digest_add_column(&whole, &file->prompt_len), err);
    TRY(digest_add_column(&whole, &file->text), err);
    TRY(digest_add_ragged(&whole, &file->tokens), err);
    if (file->info.n_top > 0) {
        TRY(digest_add_column(&whole, &file->top_ids), err);
        TRY(digest_add_column(&whole, &file->top_logprobs), err);
    }
    *out_digest = hash_end(&whole);
err:
    return st;
}

enum status result_file_verify(const char *path, uint64_t rows_begin, uint64_t rows_end,
                               uint64_t digest)
{
    enum status st = ST_OK;
    struct result_file *file = NULL;
    uint64_t got = 0;

    TRY(result_file_open(path, &file), err);
    TRY(result_file_digest(file, &got), err);
    if (file->info.rows_begin != rows_begin || file->info.rows_end != rows_end || got != digest) {
        log_error("%s: read again, the file has rows %llu:%llu and digest %016llx; %llu:%llu and "
                  "%016llx were written: the file system or its disk is failing",
                  path, (unsigned long long)file->info.rows_begin,
                  (unsigned long long)file->info.rows_end, (unsigned long long)got,
                  (unsigned long long)rows_begin, (unsigned long long)rows_end,
                  (unsigned long long)digest);
        st = ST_FORMAT;
    }
err:
    result_file_close(file);
    return st;
}
