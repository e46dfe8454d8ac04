/*
 * inspect.c - what a prompt file, a result file or a journal holds, as text for people.
 *
 * Reads whole files, in windows; changes nothing, takes no lock.  Models: model_inspect.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "data/column.h"
#include "data/journal.h"
#include "data/h5.h"
#include "data/picture.h"
#include "data/result_file.h"

enum { MAX_ROWS = 1024 };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), n_end = strlen(end);

    return n > n_end && strcmp(text + n - n_end, end) == 0;
}

/* Each line of text behind two blanks. */
static enum status put_indented(struct buf *out, const char *text)
{
    enum status st = ST_OK;

    while (*text != '\0' && st == ST_OK) {
        const size_t n = strcspn(text, "\n");

        st = buf_printf(out, "  %.*s\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
    return st;
}

/* ---- prompt file ---------------------------------------------------------------------------- */

struct prompts_sums {
    uint64_t n_prompt, n_messages, n_tokens, n_bad; /* rows */
    uint64_t text_bytes, tokens;
    uint64_t n_image_ref; /* rows */
    uint64_t n_max_tokens, n_temperature, n_top_p, n_top_k, n_seed, n_stop;
    uint64_t first_bad;
    struct row_error first_error;
};

/* Returns the bytes that the row holds. */
static uint64_t sum_row(struct prompts_sums *sums, const struct prompt_row *row)
{
    const uint64_t n_bytes = row->prompt_bytes + row->messages_bytes;

    sums->n_prompt += row->prompt != NULL;
    sums->n_messages += row->messages != NULL;
    sums->n_tokens += row->n_tokens > 0;
    sums->n_image_ref += row->n_image_refs > 0;
    sums->text_bytes += n_bytes;
    sums->tokens += (uint64_t)row->n_tokens;
    sums->n_max_tokens += row->has_max_tokens;
    sums->n_temperature += row->has_temperature;
    sums->n_top_p += row->has_top_p;
    sums->n_top_k += row->has_top_k;
    sums->n_seed += row->has_seed;
    sums->n_stop += row->stop != NULL;
    if (row->error.text[0] != '\0' && sums->n_bad++ == 0) {
        sums->first_bad = row->row;
        sums->first_error = row->error;
    }
    return n_bytes + row->id_bytes + row->stop_bytes + (uint64_t)row->n_tokens * 13 +
           (uint64_t)row->n_image_refs * 9;
}

static enum status sum_prompts(struct prompts *prompts, struct prompts_sums *sums)
{
    enum status st = ST_OK;
    struct arena *arena = NULL;
    struct window window = {.first = 0};
    uint64_t n_bytes = 0;
    struct prompt_row *rows = host_alloc(MAX_ROWS * sizeof *rows);

    if (rows == NULL)
        return ST_NOMEM;
    TRY(arena_create(1 << 20, &arena), err);
    while (window_next(&window, prompts_info(prompts)->n_rows, n_bytes)) {
        if (window.n_rows > MAX_ROWS)
            window.n_rows = MAX_ROWS;
        arena_reset(arena);
        n_bytes = 0;
        TRY(prompts_read(prompts, window.first, window.n_rows, arena, rows), err);
        for (uint64_t i = 0; i < window.n_rows; i++)
            n_bytes += sum_row(sums, &rows[i]);
    }
err:
    arena_destroy(arena);
    host_free(rows);
    return st;
}

static enum status inspect_prompts(const char *path, struct buf *out)
{
    enum status st = ST_OK;
    struct prompts *prompts = NULL;
    struct prompts_sums sums = {0};
    uint64_t fingerprint = 0;

    TRY(prompts_open(path, &prompts), err);
    TRY(prompts_fingerprint(prompts, &fingerprint), err);
    TRY(sum_prompts(prompts, &sums), err);
    const struct prompts_info *info = prompts_info(prompts);
    const struct {
        const char *name;
        bool has;
        uint64_t n_set;
    } columns[] = {
        {"prompt", info->has_prompt, sums.n_prompt},
        {"messages", info->has_messages, sums.n_messages},
        {"prompt_tokens", info->has_tokens, sums.n_tokens},
        {"id", info->has_id, info->n_rows},
        {"image_ref", info->n_images > 0, sums.n_image_ref},
        {"max_tokens", info->has_max_tokens, sums.n_max_tokens},
        {"temperature", info->has_temperature, sums.n_temperature},
        {"top_p", info->has_top_p, sums.n_top_p},
        {"top_k", info->has_top_k, sums.n_top_k},
        {"seed", info->has_seed, sums.n_seed},
        {"stop", info->has_stop, sums.n_stop},
    };

    TRY(buf_printf(out, "%s: prompt file of %" PRIu64 " rows\n", path, info->n_rows), err);
    for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++)
        if (columns[c].has)
            TRY(buf_printf(out, "  %-14s %10" PRIu64 " rows set\n", columns[c].name,
                           columns[c].n_set),
                err);
    if (info->has_tokens)
        TRY(buf_printf(out, "given tokens   %12" PRIu64 "\n", sums.tokens), err);
    if (info->n_images > 0)
        TRY(buf_printf(out,
                       "images         %12" PRIu64 "\n"
                       "uses of them   %12" PRIu64 "\n",
                       info->n_images, info->n_image_refs),
            err);
    TRY(buf_printf(out,
                   "text           %12" PRIu64 " bytes\n"
                   "fingerprint    %016" PRIx64 "\n"
                   "bad rows       %12" PRIu64 "\n",
                   sums.text_bytes, fingerprint, sums.n_bad),
        err);
    if (sums.n_bad > 0)
        st = buf_printf(out, "  row %" PRIu64 " is the first: %s\n", sums.first_bad,
                        sums.first_error.text);
err:
    prompts_close(prompts);
    return st;
}

char *data_versions(char *buf, size_t cap)
{
    snprintf(buf, cap, "HDF5 %d.%d.%d, %s, %s", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE,
             picture_jpeg_version(), picture_png_version());
    return buf;
}

/* ---- result file ---------------------------------------------------------------------------- */

struct results_sums {
    uint64_t n_by_reason[FINISH_COUNT], prompt_tokens, tokens, text_bytes, first_bad;
    char first_error[256];
};

static void sum_result(struct results_sums *sums, const struct result_row *row)
{
    if (row->reason == FINISH_ERROR && sums->n_by_reason[FINISH_ERROR] == 0) {
        sums->first_bad = row->row;
        snprintf(sums->first_error, sizeof sums->first_error, "%.*s", (int)row->error_bytes,
                 row->error);
    }
    sums->n_by_reason[row->reason]++;
    sums->prompt_tokens += (uint64_t)row->prompt_len;
    sums->tokens += (uint64_t)row->n_tokens;
    sums->text_bytes += row->text_bytes;
}

static enum status sum_results(void *arg, const struct result_row *rows, const char *const *ids,
                               uint64_t n_rows)
{
    (void)ids;
    for (uint64_t i = 0; i < n_rows; i++)
        sum_result(arg, &rows[i]);
    return ST_OK;
}

static enum status put_sums(const struct results_sums *sums, struct buf *out)
{
    enum status st = ST_OK;

    for (int r = 0; r < FINISH_COUNT; r++)
        TRY(buf_printf(out, "  %-14s %10" PRIu64 " rows\n",
                       finish_reason_name((enum finish_reason)r), sums->n_by_reason[r]),
            err);
    if (sums->n_by_reason[FINISH_ERROR] > 0)
        TRY(buf_printf(out, "  row %" PRIu64 " is the first error: %s\n", sums->first_bad,
                       sums->first_error),
            err);
    st = buf_printf(out,
                    "prompt tokens  %12" PRIu64 "\n"
                    "answer tokens  %12" PRIu64 "\n"
                    "answer text    %12" PRIu64 " bytes\n",
                    sums->prompt_tokens, sums->tokens, sums->text_bytes);
err:
    return st;
}

static enum status inspect_results(const char *path, struct buf *out)
{
    enum status st = ST_OK;
    struct result_file *file = NULL;
    struct results_sums sums = {0};
    uint64_t digest = 0;

    TRY(result_file_open(path, &file), err);
    TRY(result_file_digest(file, &digest), err);
    TRY(result_file_each(file, sum_results, &sums), err);
    const struct result_file_info *info = result_file_info(file);
    TRY(buf_printf(out, "%s: result file of rows %" PRIu64 ":%" PRIu64 "\n", path, info->rows_begin,
                   info->rows_end),
        err);
    TRY(put_sums(&sums, out), err);
    TRY(buf_printf(
            out,
            "columns        %s%sfinish_reason, error, text, tokens, prompt_len, output_len%s\n"
            "program        %s\n"
            "numerics       %s\n"
            "seed           %" PRIu64 "\n"
            "model          %016" PRIx64 "\n"
            "prompts        %016" PRIx64 "\n"
            "digest         %016" PRIx64 "\n",
            info->has_id ? "id, " : "", info->has_logprobs ? "logprobs, " : "",
            info->has_timing ? ", timing" : "", info->program, info->numerics, info->seed,
            info->model_fingerprint, info->prompts_fingerprint, digest),
        err);
    if (info->n_top > 0)
        TRY(buf_printf(out, "top logprobs   %d a token\n", info->n_top), err);
    TRY(buf_puts(out, "identity\n"), err);
    TRY(put_indented(out, info->identity), err);
    if (info->summary[0] != '\0') {
        TRY(buf_puts(out, "summary of the run that finished it\n"), err);
        st = put_indented(out, info->summary);
    }
err:
    result_file_close(file);
    return st;
}

/* ---- journal -------------------------------------------------------------------------------- */

static enum status inspect_log(const char *path, struct buf *out)
{
    struct journal_log *log = NULL;
    struct journal_record record;
    struct result_row row;
    struct results_sums sums = {0};
    uint64_t n_records = 0;
    enum status st = journal_log_open(path, &log);

    if (st == ST_END)
        return buf_printf(out, "%s: journal log, broken off in its head: it holds nothing\n", path);
    if (st != ST_OK)
        return st;
    while ((st = journal_log_next(log, &record)) == ST_OK) {
        n_records++;
        if (result_unpack(record.payload, record.n_bytes, &row) == ST_OK)
            sum_result(&sums, &row);
    }
    if (st != ST_END)
        goto err;
    const struct journal_log_head *head = journal_log_head(log);
    const struct journal_log_tail tail = journal_log_tail(log);
    TRY(buf_printf(out,
                   "%s: journal log of attempt %" PRIu64 ", rows %" PRIu64 ":%" PRIu64 ", %" PRIu64
                   " records\n",
                   path, head->attempt, head->rows_begin, head->rows_end, n_records),
        err);
    TRY(put_sums(&sums, out), err);
    if (tail.n_bytes > 0)
        TRY(buf_printf(out, "%" PRIu64 " bytes from byte %" PRIu64 " on are %s and do not count\n",
                       tail.n_bytes, tail.offset, tail.damaged ? "damaged" : "a torn record"),
            err);
    TRY(buf_puts(out, "identity\n"), err);
    st = put_indented(out, head->identity);
err:
    journal_log_close(log);
    return st;
}

static enum status sum_journal_rows(void *arg, const struct result_row *rows, uint64_t n_rows)
{
    for (uint64_t i = 0; i < n_rows; i++)
        sum_result(arg, &rows[i]);
    return ST_OK;
}

/* path: RESULTS.parts, perhaps with a slash behind it. */
static enum status inspect_parts(const char *path, size_t n_results, struct buf *out)
{
    enum status st = ST_NOMEM;
    struct journal *journal = NULL;
    struct results_sums sums = {0};
    struct journal_counts counts;
    char *results = host_strndup(path, n_results);

    if (results == NULL)
        return ST_NOMEM;
    st = journal_look(results, &journal);
    if (st == ST_END)
        st = buf_printf(out, "%s: journal without a row\n", path);
    if (st != ST_OK || journal == NULL)
        goto err;
    TRY(journal_rows(journal, sum_journal_rows, &sums), err);
    journal_counts(journal, &counts);
    TRY(buf_printf(out,
                   "%s: journal of rows %" PRIu64 ":%" PRIu64 ", %" PRIu64 " of %" PRIu64
                   " finished, %" PRIu64 " records\n",
                   path, journal->rows_begin, journal->rows_end, counts.n_done, counts.n_rows,
                   counts.n_records),
        err);
    TRY(put_sums(&sums, out), err);
    TRY(buf_puts(out, "identity\n"), err);
    st = put_indented(out, journal->identity);
err:
    journal_close(journal);
    host_free(results);
    return st;
}

enum status data_inspect(const char *path, struct buf *out_text)
{
    enum status st = ST_OK;
    struct stat facts;
    bool is_results = false;
    size_t n = strlen(path);

    if (stat(path, &facts) != 0) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        return ST_IO;
    }
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (S_ISDIR(facts.st_mode))
        return n > 6 && strncmp(path + n - 6, ".parts", 6) == 0
                   ? inspect_parts(path, n - 6, out_text)
                   : ST_UNSUPPORTED;
    if (ends_with(path, ".log"))
        return inspect_log(path, out_text);
    h5_quiet();
    if (facts.st_size > 0 && H5Fis_hdf5(path) <= 0)
        return ST_UNSUPPORTED;
    TRY(result_file_is_one(path, &is_results), err);
    st = is_results ? inspect_results(path, out_text) : inspect_prompts(path, out_text);
err:
    return st;
}
