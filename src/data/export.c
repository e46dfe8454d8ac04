/*
 * export.c - result rows become JSONL: one object a row, in row order.
 *
 * Rows come from RESULTS or, for a run that was broken off, from its logs; the ids stand in RESULTS
 * only.  Streams.  The fields: FORMATS.md.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/column.h"
#include "data/journal.h"
#include "data/replace.h"
#include "data/result_file.h"

struct export
{
    FILE *out;
    const char *out_path; /* for messages */
    uint64_t n_rows;
};

/* float32 has nine digits; a NaN or an infinity is null, which JSON has. */
static json_t *real(float value)
{
    return isfinite(value) ? json_real((double)value) : json_null();
}

/* The list if all n elements got into it, else NULL: no memory. */
static json_t *whole(json_t *list, int n)
{
    if (list != NULL && json_array_size(list) == (size_t)n)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *ids_list(const int32_t *ids, int n)
{
    json_t *list = json_array();

    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return whole(list, n);
}

static json_t *reals_list(const float *values, int n)
{
    json_t *list = json_array();

    for (int i = 0; i < n; i++)
        json_array_append_new(list, real(values[i]));
    return whole(list, n);
}

/* For every token a list of [id, logprob]. */
static json_t *top_list(const struct result_row *row)
{
    json_t *list = json_array();

    for (int i = 0; i < row->n_tokens; i++) {
        json_t *of_token = json_array();

        for (int t = 0; t < row->n_top; t++) {
            const int at = i * row->n_top + t;
            json_t *pair = json_array();

            json_array_append_new(pair, json_integer(row->top_ids[at]));
            json_array_append_new(pair, real(row->top_logprobs[at]));
            json_array_append_new(of_token, whole(pair, 2));
        }
        json_array_append_new(list, whole(of_token, row->n_top));
    }
    return whole(list, row->n_tokens);
}

static json_t *timing_object(const struct row_timing *timing)
{
    const float seconds[RESULT_TIMING_COUNT] = {timing->queue_s,       timing->encode_s,
                                                timing->prefill_s,     timing->exposed_transfer_s,
                                                timing->first_token_s, timing->decode_s};
    json_t *object = json_object();

    for (int t = 0; t < RESULT_TIMING_COUNT; t++)
        json_object_set_new(object, result_timing_names[t], real(seconds[t]));
    return object;
}

/* NULL: no memory, or a text that is not UTF-8. */
static json_t *row_object(const struct result_row *row, const char *id)
{
    json_t *object = json_object();
    int bad = 0;

    bad |= json_object_set_new(object, "row", json_integer((json_int_t)row->row));
    if (id != NULL)
        bad |= json_object_set_new(object, "id", json_string(id));
    bad |=
        json_object_set_new(object, "finish_reason", json_string(finish_reason_name(row->reason)));
    bad |= json_object_set_new(object, "text", json_stringn(row->text, row->text_bytes));
    if (row->reason == FINISH_ERROR)
        bad |= json_object_set_new(object, "error", json_stringn(row->error, row->error_bytes));
    bad |= json_object_set_new(object, "prompt_len", json_integer(row->prompt_len));
    bad |= json_object_set_new(object, "output_len", json_integer(row->n_tokens));
    bad |= json_object_set_new(object, "tokens", ids_list(row->tokens, row->n_tokens));
    if (row->has_logprobs)
        bad |= json_object_set_new(object, "logprobs", reals_list(row->logprobs, row->n_tokens));
    if (row->has_logprobs && row->n_top > 0)
        bad |= json_object_set_new(object, "top_logprobs", top_list(row));
    bad |= json_object_set_new(object, "timing", timing_object(&row->timing));
    if (bad == 0)
        return object;
    json_decref(object);
    return NULL;
}

static enum status put_row(struct export *export, const struct result_row *row, const char *id)
{
    json_t *object = row_object(row, id);

    if (object == NULL) {
        log_error("row %" PRIu64 " cannot be written as JSON: no memory, or an id that is not "
                  "UTF-8",
                  row->row);
        return ST_FORMAT;
    }
    const bool ok = json_dumpf(object, export->out, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 &&
                    fputc('\n', export->out) != EOF;
    json_decref(object);
    if (!ok) {
        log_error("%s: cannot write: %s", export->out_path, strerror(errno));
        return ST_IO;
    }
    export->n_rows++;
    return ST_OK;
}

static enum status put_rows_with_ids(void *arg, const struct result_row *rows,
                                     const char *const *ids, uint64_t n_rows)
{
    enum status st = ST_OK;

    for (uint64_t i = 0; i < n_rows && st == ST_OK; i++)
        st = put_row(arg, &rows[i], ids[i]);
    return st;
}

static enum status from_results(struct export *export, const char *results_path)
{
    struct result_file *file = NULL;
    enum status st = result_file_open(results_path, &file);

    if (st == ST_OK)
        st = result_file_each(file, put_rows_with_ids, export);
    result_file_close(file);
    return st;
}

static enum status put_rows(void *arg, const struct result_row *rows, uint64_t n_rows)
{
    enum status st = ST_OK;

    for (uint64_t i = 0; i < n_rows && st == ST_OK; i++)
        st = put_row(arg, &rows[i], NULL);
    return st;
}

static enum status from_logs(struct export *export, const char *results_path)
{
    struct journal *journal = NULL;
    enum status st = journal_look(results_path, &journal);

    if (st == ST_END) {
        log_error("%s: nothing to export: neither %s nor %s.parts is there", results_path,
                  results_path, results_path);
        return ST_IO;
    }
    if (st == ST_OK)
        st = journal_rows(journal, put_rows, export);
    journal_close(journal);
    return st;
}

/* Rows into out, then everything to the system. */
static enum status write_rows(struct export *export, const char *results_path, bool partial)
{
    enum status st = ST_OK;
    char parts[4096];

    snprintf(parts, sizeof parts, "%s.parts", results_path);
    if (partial) {
        TRY(from_logs(export, results_path), err);
    } else if (access(results_path, F_OK) != 0 && access(parts, F_OK) == 0) {
        log_error("%s: not there yet, but %s is: the run was broken off or still works; --partial "
                  "exports the rows that are finished",
                  results_path, parts);
        return ST_IO;
    } else {
        TRY(from_results(export, results_path), err);
    }
    if (fflush(export->out) != 0) {
        log_error("%s: cannot write: %s", export->out_path, strerror(errno));
        st = ST_IO;
    }
err:
    return st;
}

enum status data_export(const char *results_path, const char *out_path, bool partial)
{
    enum status st = ST_OK;
    struct buf temp = {0};
    struct export export = {.out = stdout, .out_path = "standard output"};

    if (strcmp(out_path, "-") == 0)
        return write_rows(&export, results_path, partial);
    TRY(replace_allowed(results_path, out_path), err);
    h5_quiet();
    if (H5Fis_hdf5(out_path) > 0) { /* a result file, or prompts: most likely swapped arguments */
        log_error("%s is an HDF5 file and is not overwritten: choose another name", out_path);
        return ST_CONFIG;
    }
    TRY(buf_printf(&temp, "%s.tmp", out_path), err);
    const char *temp_path = (const char *)temp.data;
    export.out_path = out_path;
    export.out = fopen(temp_path, "wbe");
    if (export.out == NULL) {
        log_error("%s: cannot create: %s", temp_path, strerror(errno));
        st = ST_IO;
        goto err;
    }
    st = write_rows(&export, results_path, partial);
    if (fclose(export.out) != 0 && st == ST_OK) {
        log_error("%s: cannot write: %s", temp_path, strerror(errno));
        st = ST_IO;
    }
    if (st == ST_OK)
        st = replace_file(temp_path, out_path);
    if (st != ST_OK)
        unlink(temp_path);
    else
        log_info("%s: %" PRIu64 " rows of %s", out_path, export.n_rows, results_path);
err:
    buf_free(&temp);
    return st;
}
