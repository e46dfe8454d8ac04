/*
 * report.c - what the answers of a finished run look like: some rows, how many are right, a sheet
 * of pictures.
 *
 * Reads RESULTS beside the prompt file that it was made of, in windows: memory does not grow with
 * the rows.  What is right: answers.c; which rows are shown: sample.c; drawing: sheet.c.  Called by
 * main.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "data/answers.h"
#include "data/column.h"
#include "data/oneline.h"
#include "data/replace.h"
#include "data/result_file.h"
#include "data/sheet.h"

enum { WINDOW_ROWS = 1024, MAX_ERRORS = 8, MAX_PICTURES = 8, TEXT_MOST = 100, REASON_MOST = 200 };

/* The first rows that ended as errors. */
struct failed_row {
    uint64_t row;
    char reason[REASON_MOST * 4 + 1]; /* REASON_MOST characters of UTF-8 */
};

struct report {
    const struct report_args *args;
    struct result_file *results;
    struct prompts *prompts;
    hid_t file; /* the prompt file once more, for the two columns that no run reads */
    struct column answer, class_name;
    bool has_answer, has_class;
    uint64_t first, n_rows; /* of RESULTS, in the prompt file */
    struct tally *tally;
    struct sample *shown, *pictured;
    uint64_t n_failed;
    struct failed_row failed[MAX_ERRORS];
};

/* ---- opening --------------------------------------------------------------------------------- */

static enum status check_sheet_path(const struct report_args *args)
{
    enum status st;

    TRY(replace_allowed(args->results_path, args->sheet_path), err);
    h5_quiet();
    if (H5Fis_hdf5(args->sheet_path) > 0) { /* results or prompts */
        log_error("%s is an HDF5 file and is not overwritten: choose another name for the sheet",
                  args->sheet_path);
        st = ST_CONFIG;
    }
err:
    return st;
}

/* The rows of RESULTS have to be those of this prompt file. */
static enum status check_prompts(struct report *report)
{
    const struct report_args *args = report->args;
    const struct result_file_info *info = result_file_info(report->results);
    uint64_t fingerprint = 0;
    enum status st;

    TRY(prompts_fingerprint(report->prompts, &fingerprint), err);
    if (fingerprint != info->prompts_fingerprint) {
        log_error("%s: its fingerprint is %016" PRIx64 ", and %s was made of a prompt file with "
                  "%016" PRIx64 ": name that one with --prompts",
                  args->prompts_path, fingerprint, args->results_path, info->prompts_fingerprint);
        return ST_FORMAT;
    }
    if (info->rows_end > prompts_info(report->prompts)->n_rows) {
        log_error("%s has rows %" PRIu64 ":%" PRIu64 ", %s only %" PRIu64
                  "; one of the two is damaged: restore it",
                  args->results_path, info->rows_begin, info->rows_end, args->prompts_path,
                  prompts_info(report->prompts)->n_rows);
        st = ST_FORMAT;
    }
    report->first = info->rows_begin;
    report->n_rows = info->rows_end - info->rows_begin;
err:
    return st;
}

/* An optional column of texts. */
static enum status open_texts(struct report *report, const char *name, struct column *out_column,
                              bool *out_has)
{
    const char *path = report->args->prompts_path;
    const uint64_t n_want = prompts_info(report->prompts)->n_rows;
    enum status st;

    if (h5_object_type(report->file, name) == H5I_BADID)
        return ST_OK;
    TRY(column_open(report->file, path, name, name, COLUMN_TEXT, 1, out_column), err);
    *out_has = true;
    if (out_column->n_rows != n_want) {
        log_error("%s: column %s has %" PRIu64 " rows, the file has %" PRIu64
                  "; all columns need one element a row",
                  path, name, out_column->n_rows, n_want);
        st = ST_FORMAT;
    }
err:
    return st;
}

static enum status open_all(struct report *report)
{
    const struct report_args *args = report->args;
    enum status st = ST_OK;

    if (args->sheet_path != NULL)
        TRY(check_sheet_path(args), err);
    TRY(result_file_open(args->results_path, &report->results), err);
    TRY(prompts_open(args->prompts_path, &report->prompts), err);
    TRY(check_prompts(report), err);
    TRY(h5_open_read(args->prompts_path, &report->file), err);
    TRY(open_texts(report, "answer", &report->answer, &report->has_answer), err);
    TRY(open_texts(report, "class", &report->class_name, &report->has_class), err);
    TRY(tally_create(&report->tally), err);
    if (args->n_rows > 0)
        TRY(sample_create(args->n_rows, &report->shown), err);
    if (args->sheet_path != NULL)
        TRY(sample_create(SHEET_CELLS, &report->pictured), err);
err:
    return st;
}

static void close_all(struct report *report)
{
    sample_destroy(report->pictured);
    sample_destroy(report->shown);
    tally_destroy(report->tally);
    column_close(&report->answer);
    column_close(&report->class_name);
    h5_close(report->file);
    prompts_close(report->prompts);
    result_file_close(report->results);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Rows as they stand in both files; everything lives in the arena that they were read with. */
struct rows {
    struct prompt_row *prompts;
    struct result_row *results;
    const char **answers, **classes; /* "" where the file has no such column */
    size_t *answer_bytes, *class_bytes;
};

static enum status read_texts(const struct column *column, bool has, uint64_t first, uint64_t n,
                              struct arena *arena, const char ***out_texts, size_t **out_bytes)
{
    const char **texts = arena_alloc(arena, n * sizeof *texts);
    size_t *bytes = arena_alloc(arena, n * sizeof *bytes);

    if (texts == NULL || bytes == NULL)
        return ST_NOMEM;
    *out_texts = texts;
    *out_bytes = bytes;
    if (has)
        return column_read_text(column, first, n, arena, texts, bytes);
    for (uint64_t i = 0; i < n; i++) {
        texts[i] = "";
        bytes[i] = 0;
    }
    return ST_OK;
}

/* n rows from `first` on, a number in the prompt file.  What was in the arena is gone. */
static enum status read_rows(struct report *report, uint64_t first, uint64_t n, struct arena *arena,
                             struct rows *out)
{
    enum status st = ST_NOMEM;

    arena_reset(arena);
    out->prompts = arena_alloc(arena, n * sizeof *out->prompts);
    out->results = arena_alloc(arena, n * sizeof *out->results);
    if (out->prompts == NULL || out->results == NULL)
        goto err;
    TRY(prompts_read(report->prompts, first, n, arena, out->prompts), err);
    TRY(result_file_read(report->results, first - report->first, n, arena, out->results, NULL),
        err);
    TRY(read_texts(&report->answer, report->has_answer, first, n, arena, &out->answers,
                   &out->answer_bytes),
        err);
    TRY(read_texts(&report->class_name, report->has_class, first, n, arena, &out->classes,
                   &out->class_bytes),
        err);
err:
    return st;
}

static enum verdict judge(const struct rows *rows, uint64_t i)
{
    const struct result_row *result = &rows->results[i];

    return answer_judge(result->reason, (struct answer_text){result->text, result->text_bytes},
                        (struct answer_text){rows->answers[i], rows->answer_bytes[i]});
}

/* A row's reason with a NUL behind it. */
static enum status note_error(struct report *report, const struct result_row *row)
{
    struct buf reason = {0};
    enum status st = ST_OK;

    if (report->n_failed++ >= MAX_ERRORS)
        return ST_OK;
    struct failed_row *note = &report->failed[report->n_failed - 1];
    note->row = row->row;
    TRY(oneline_put(row->error, row->error_bytes, REASON_MOST, &reason), err);
    snprintf(note->reason, sizeof note->reason, "%.*s", (int)reason.n_bytes,
             reason.n_bytes > 0 ? (const char *)reason.data : "");
err:
    buf_free(&reason);
    return st;
}

static enum status take_row(struct report *report, const struct rows *rows, uint64_t i)
{
    const struct prompt_row *prompt = &rows->prompts[i];
    const enum verdict verdict = judge(rows, i);
    struct sample_row row = {.row = prompt->row, .picture = SAMPLE_NO_PICTURE};
    enum status st;

    if (prompt->n_image_refs > 0 && prompt->image_refs != NULL)
        row.picture = prompt->image_refs[0];
    TRY(tally_add(report->tally, (struct answer_text){rows->classes[i], rows->class_bytes[i]},
                  (struct answer_text){rows->answers[i], rows->answer_bytes[i]}, verdict,
                  &row.class),
        err);
    if (report->shown != NULL)
        TRY(sample_offer(report->shown, &row), err);
    if (report->pictured != NULL && row.picture != SAMPLE_NO_PICTURE)
        TRY(sample_offer(report->pictured, &row), err);
    if (verdict == VERDICT_ERROR)
        st = note_error(report, &rows->results[i]);
err:
    return st;
}

static uint64_t bytes_of(const struct rows *rows, uint64_t i)
{
    const struct prompt_row *prompt = &rows->prompts[i];
    const struct result_row *result = &rows->results[i];
    const uint64_t n_top = (uint64_t)(1 + result->n_top);

    return prompt->prompt_bytes + prompt->messages_bytes + prompt->stop_bytes +
           (uint64_t)prompt->n_tokens * 13 + (uint64_t)prompt->n_image_refs * 9 +
           result->text_bytes + result->error_bytes + (uint64_t)result->n_tokens * 8 * n_top +
           rows->answer_bytes[i] + rows->class_bytes[i];
}

static enum status count_all(struct report *report, struct arena *arena)
{
    struct window window = {.first = 0};
    uint64_t n_bytes = 0;
    struct rows rows;
    enum status st = ST_OK;

    while (window_next(&window, report->n_rows, n_bytes)) {
        if (window.n_rows > WINDOW_ROWS)
            window.n_rows = WINDOW_ROWS;
        n_bytes = 0;
        TRY(read_rows(report, report->first + window.first, window.n_rows, arena, &rows), err);
        for (uint64_t i = 0; i < window.n_rows; i++) {
            TRY(take_row(report, &rows, i), err);
            n_bytes += bytes_of(&rows, i);
        }
    }
err:
    return st;
}

/* ---- rows for people ------------------------------------------------------------------------- */

/* "red", "red, not blue", "error: ..." */
static enum status put_answer(const struct rows *rows, enum verdict verdict, struct buf *out)
{
    const struct result_row *result = &rows->results[0];
    enum status st;

    if (verdict == VERDICT_ERROR) {
        TRY(buf_puts(out, "error: "), err);
        return oneline_put(result->error, result->error_bytes, REASON_MOST, out);
    }
    TRY(oneline_put(result->text, result->text_bytes, TEXT_MOST, out), err);
    if (verdict == VERDICT_WRONG) {
        TRY(buf_puts(out, ", not "), err);
        st = oneline_put(rows->answers[0], rows->answer_bytes[0], TEXT_MOST, out);
    }
err:
    return st;
}

/* "row 7, count, picture 3 (count-0007)" */
static enum status put_row_head(const struct report *report, const struct rows *rows,
                                struct buf *out)
{
    const struct prompt_row *prompt = &rows->prompts[0];
    enum status st;

    TRY(buf_printf(out, "row %" PRIu64, prompt->row), err);
    if (report->has_class && rows->class_bytes[0] > 0) {
        TRY(buf_puts(out, ", "), err);
        TRY(oneline_put(rows->classes[0], rows->class_bytes[0], TEXT_MOST, out), err);
    }
    for (int64_t i = 0; prompt->image_refs != NULL && i < prompt->n_image_refs; i++) {
        if (i == MAX_PICTURES) {
            TRY(buf_puts(out, ", ..."), err);
            break;
        }
        TRY(buf_printf(out, "%s%" PRIu64,
                       i > 0                      ? ", "
                       : prompt->n_image_refs > 1 ? ", pictures "
                                                  : ", picture ",
                       prompt->image_refs[i]),
            err);
    }
    if (prompt->id_bytes > 0) {
        TRY(buf_puts(out, " ("), err);
        TRY(oneline_put(prompt->id, prompt->id_bytes, TEXT_MOST, out), err);
        TRY(buf_puts(out, ")"), err);
    }
    st = buf_puts(out, "\n    ");
err:
    return st;
}

static enum status put_rows(struct report *report, const int *order, struct arena *arena,
                            struct buf *out)
{
    static const char *const marks[VERDICT_COUNT] = {"right", "wrong", "error", "not judged"};
    enum status st = ST_NOMEM;
    struct rows rows;
    struct sample_row *chosen =
        host_alloc((size_t)(report->args->n_rows + 1) * sizeof *chosen); /* n_rows may be 0 */

    if (chosen == NULL)
        return ST_NOMEM;
    const int n = report->shown == NULL
                      ? 0
                      : sample_take(report->shown, order, tally_n_classes(report->tally), chosen);
    st = ST_OK;
    for (int i = 0; i < n; i++) {
        TRY(read_rows(report, chosen[i].row, 1, arena, &rows), err);
        const enum verdict verdict = judge(&rows, 0);

        TRY(put_row_head(report, &rows, out), err);
        TRY(oneline_question(&rows.prompts[0], TEXT_MOST, out), err);
        TRY(buf_puts(out, "\n    > "), err);
        TRY(put_answer(&rows, verdict, out), err);
        if (report->has_answer && verdict != VERDICT_ERROR)
            TRY(buf_printf(out, "    [%s]", marks[verdict]), err);
        TRY(buf_puts(out, "\n\n"), err);
    }
err:
    host_free(chosen);
    return st;
}

static enum status put_errors(const struct report *report, struct buf *out)
{
    enum status st = ST_OK;

    if (report->n_failed == 0)
        return ST_OK;
    TRY(buf_printf(out, "\nrows that ended as errors%s:\n",
                   report->has_answer ? " (they count as wrong)" : ""),
        err);
    for (uint64_t i = 0; i < report->n_failed && i < MAX_ERRORS; i++)
        TRY(buf_printf(out, "  row %" PRIu64 ": %s\n", report->failed[i].row,
                       report->failed[i].reason),
            err);
    if (report->n_failed > MAX_ERRORS)
        st = buf_printf(out, "  and %" PRIu64 " more\n", report->n_failed - MAX_ERRORS);
err:
    return st;
}

static enum status put_text(struct report *report, const int *order, struct arena *arena,
                            struct buf *out)
{
    enum status st;

    TRY(buf_printf(out, "%s: rows %" PRIu64 ":%" PRIu64 " of %s\n\n", report->args->results_path,
                   report->first, report->first + report->n_rows, report->args->prompts_path),
        err);
    TRY(put_rows(report, order, arena, out), err);
    TRY(tally_put(report->tally, report->has_answer, out), err);
    if (report->has_answer)
        TRY(buf_puts(out, "majority: what always giving the most frequent answer of the class "
                          "would reach\n"),
            err);
    else
        TRY(buf_puts(out, "the prompt file has no column `answer`: nothing can be judged\n"), err);
    st = put_errors(report, out);
err:
    return st;
}

/* ---- the sheet ------------------------------------------------------------------------------- */

static enum status put_title(const struct report *report, struct buf *out)
{
    const char *slash = strrchr(report->args->results_path, '/');
    struct tally_counts all;
    enum status st;

    tally_counts(report->tally, -1, &all);
    const uint64_t n_right = all.n_rows[VERDICT_RIGHT];
    const uint64_t n_judged = n_right + all.n_rows[VERDICT_WRONG] + all.n_rows[VERDICT_ERROR];
    TRY(buf_puts(out, slash != NULL ? slash + 1 : report->args->results_path), err);
    if (n_judged > 0 && report->has_answer)
        TRY(buf_printf(out, ": %" PRIu64 " of %" PRIu64 " right, %.1f %% (green; red is wrong)",
                       n_right, n_judged, 100.0 * (double)n_right / (double)n_judged),
            err);
    st = buf_put(out, "", 1);
err:
    return st;
}

/* The cell of one row, in `text` as two NUL-terminated texts. */
static enum status draw_row(struct report *report, struct sheet *sheet, int cell,
                            const struct sample_row *row, struct arena *arena, struct buf *text)
{
    struct picture picture = {.rgb = NULL};
    struct row_error why;
    struct rows rows;
    enum status st;

    TRY(read_rows(report, row->row, 1, arena, &rows), err);
    const enum verdict verdict = judge(&rows, 0);
    buf_reset(text);
    TRY(oneline_question(&rows.prompts[0], TEXT_MOST, text), err);
    if (rows.prompts[0].n_image_refs > 1)
        TRY(buf_printf(text, " (1 of %" PRId64 " pictures)", rows.prompts[0].n_image_refs), err);
    TRY(buf_put(text, "", 1), err);
    const size_t at = text->n_bytes;
    TRY(put_answer(&rows, verdict, text), err);
    TRY(buf_put(text, "", 1), err);

    st = prompts_read_image(report->prompts, row->picture, &picture, &why);
    if (st != ST_OK && st != ST_ROW)
        goto err;
    sheet_draw(sheet, cell,
               &(struct sheet_cell){.picture = st == ST_OK ? &picture : NULL,
                                    .question = (const char *)text->data,
                                    .answer = (const char *)text->data + at,
                                    .verdict = verdict});
    st = ST_OK;
err:
    host_free(picture.rgb);
    return st;
}

static enum status make_sheet(struct report *report, const int *order, struct arena *arena)
{
    const struct report_args *args = report->args;
    struct sample_row chosen[SHEET_CELLS];
    const int n = sample_take(report->pictured, order, tally_n_classes(report->tally), chosen);
    struct sheet *sheet = NULL;
    struct buf text = {0};
    enum status st;

    if (n == 0) {
        log_error("%s: no row of %s has a picture: there is nothing to draw, leave out --sheet",
                  args->sheet_path, args->prompts_path);
        return ST_CONFIG;
    }
    TRY(put_title(report, &text), err);
    TRY(sheet_create(n, (const char *)text.data, &sheet), err);
    for (int i = 0; i < n; i++)
        TRY(draw_row(report, sheet, i, &chosen[i], arena, &text), err);
    TRY(picture_write_png(args->sheet_path, sheet_picture(sheet)), err);
    log_info("%s: %d pictures", args->sheet_path, n);
err:
    sheet_destroy(sheet);
    buf_free(&text);
    return st;
}

/* ---- the report ------------------------------------------------------------------------------ */

enum status data_report(const struct report_args *args, struct buf *out_text)
{
    struct report *report = host_zalloc(sizeof *report);
    struct arena *arena = NULL;
    int order[TALLY_CLASSES];
    enum status st;

    if (report == NULL)
        return ST_NOMEM;
    report->args = args;
    report->file = H5I_INVALID_HID;
    h5_quiet();
    TRY(arena_create(1 << 20, &arena), err);
    TRY(open_all(report), err);
    TRY(count_all(report, arena), err);
    tally_order(report->tally, order);
    TRY(put_text(report, order, arena, out_text), err);
    if (args->sheet_path != NULL)
        st = make_sheet(report, order, arena);
err:
    close_all(report);
    arena_destroy(arena);
    host_free(report);
    return st;
}

enum status data_results_job(const char *results_path, struct buf *out_text)
{
    struct result_file *results = NULL;
    enum status st;

    h5_quiet();
    TRY(result_file_open(results_path, &results), err);
    TRY(buf_puts(out_text, result_file_info(results)->job), err);
    st = buf_put(out_text, "", 1);
err:
    result_file_close(results);
    return st;
}
