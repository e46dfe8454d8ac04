/*
 * merge.c - make RESULTS of what the journal knows.
 *
 *   logs (and an earlier RESULTS) -> RESULTS.tmp, closed -> read again -> synced
 *     -> renamed to RESULTS, folder synced -> logs removed
 *
 * A process may end between any two of these steps.  Up to the rename the logs are what counts, and
 * journal_open removes RESULTS.tmp; from the rename on RESULTS is, and journal_open removes the
 * logs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "data/journal.h"
#include "data/result_file.h"

/* The first row that is not finished; rows_end if there is none. */
static uint64_t first_missing(const struct journal *journal)
{
    uint64_t row = journal->rows_begin;

    while (row < journal->rows_end && journal_row_done(journal, row))
        row++;
    return row;
}

static enum status append_rows(void *arg, const struct result_row *rows, uint64_t n_rows)
{
    return result_writer_append(arg, rows, NULL, n_rows);
}

static enum status write_temp(struct journal *journal, struct prompts *prompts,
                              const struct result_meta *meta, uint64_t *out_digest)
{
    enum status st = ST_OK;
    struct result_writer *writer = NULL;
    const struct result_writer_args args = {
        .path = journal->temp,
        .meta = meta,
        .prompts = prompts,
        .rows_begin = journal->rows_begin,
        .rows_end = journal->rows_end,
        .has_logprobs = journal->has_logprobs,
        .n_top = journal->n_top,
    };

    TRY(result_writer_create(&args, &writer), err);
    TRY(journal_rows(journal, append_rows, writer), err);
    TRY(result_writer_finish(writer, out_digest), err);
err:
    result_writer_close(writer);
    return st;
}

static enum status sync_temp(const struct journal *journal)
{
    const int fd = open(journal->temp, O_RDWR | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    ok = (fd < 0 || close(fd) == 0) && ok;
    if (!ok)
        log_error("%s: cannot sync: %s; the logs are kept: free space and run the same command "
                  "again",
                  journal->temp, strerror(errno));
    return ok ? ST_OK : ST_IO;
}

enum status journal_merge_until(struct journal *journal, struct prompts *prompts,
                                const struct result_meta *meta, enum merge_step last)
{
    enum status st = ST_OK;
    uint64_t digest = 0;
    const uint64_t missing = journal->complete ? journal->rows_end : first_missing(journal);

    if (journal->complete)
        return ST_OK;
    if (missing < journal->rows_end) {
        log_error("%s: row %llu is not finished, so there is no result file to make: run the same "
                  "command again",
                  journal->results, (unsigned long long)missing);
        return ST_FORMAT;
    }
    TRY(journal_sync(journal), err);

    TRY(write_temp(journal, prompts, meta, &digest), err);
    if (last == MERGE_WRITTEN)
        return ST_STOPPED;
    TRY(result_file_verify(journal->temp, journal->rows_begin, journal->rows_end, digest), err);
    if (last == MERGE_VERIFIED)
        return ST_STOPPED;
    TRY(sync_temp(journal), err);
    if (last == MERGE_SYNCED)
        return ST_STOPPED;
    if (rename(journal->temp, journal->results) != 0) {
        log_error("%s: cannot rename to %s: %s; the logs are kept: run the same command again",
                  journal->temp, journal->results, strerror(errno));
        st = ST_IO;
        goto err;
    }
    TRY(file_sync_dir(journal->results), err);
    journal->complete = true;
    if (last == MERGE_RENAMED)
        return ST_STOPPED;
    TRY(journal_remove_logs(journal), err);
err:
    return st;
}

enum status journal_merge(struct journal *journal, struct prompts *prompts,
                          const struct result_meta *meta)
{
    return journal_merge_until(journal, prompts, meta, MERGE_CLEANED);
}
