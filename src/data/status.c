/*
 * status.c - RESULTS.status, and what everything beside RESULTS says about a run.
 *
 * The status file is for people and scripts; nothing is decided by it but what `epidote status`
 * prints.  What is done stands in RESULTS and in the logs; whether someone works on it, in the
 * lock.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"
#include "data/result_file.h"

enum { STATUS_MAX_BYTES = 65536, PATH_CAP = 4096 };

const char *outcome_name(enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_DONE:
        return "done";
    case OUTCOME_ERRORS:
        return "done, with rows that ended as errors";
    case OUTCOME_JOB:
        return "the job is wrong";
    case OUTCOME_BROKEN:
        return "broken off; the same command continues it";
    case OUTCOME_MACHINE:
        return "a peer or the machine failed; the same command continues it";
    case OUTCOME_RUNNING:
        return "running";
    }
    return "unknown";
}

static enum status side_path(const char *results_path, const char *suffix, char *out)
{
    if (snprintf(out, PATH_CAP, "%s%s", results_path, suffix) >= PATH_CAP) {
        log_error("%s%s: path too long", results_path, suffix);
        return ST_IO;
    }
    return ST_OK;
}

/* ---- RESULTS.status -------------------------------------------------------------------------- */

enum status status_write(const char *results_path, const struct run_status *status)
{
    enum status st = ST_OK;
    char path[PATH_CAP], utc[32];
    char *text = NULL;
    char message[sizeof status->message];

    TRY(side_path(results_path, ".status", path), err);
    clock_utc(utc, sizeof utc);
    /* Paths may be any bytes, and a message may be cut inside a character. */
    snprintf(message, sizeof message, "%s", status->message);
    for (size_t bad; !utf8_valid(message, strlen(message), &bad);)
        message[bad] = '?';
    json_t *root =
        json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:s}", "outcome",
                  (int)status->outcome, "outcome_name", outcome_name(status->outcome), "n_rows",
                  (json_int_t)status->n_rows, "n_done", (json_int_t)status->n_done, "n_failed",
                  (json_int_t)status->n_failed, "n_attempts", (json_int_t)status->n_attempts,
                  "n_records", (json_int_t)status->n_records, "elapsed_s", status->elapsed_s,
                  "rows_per_s", status->rows_per_s, "message", message, "updated", utc);
    text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        log_error("%s: no memory to write it", path);
        st = ST_NOMEM;
        goto err;
    }
    st = file_write_atomic(path, text, strlen(text));
err:
    free(text);
    return st;
}

static uint64_t count_value(const json_t *root, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(root, key));

    return value > 0 ? (uint64_t)value : 0;
}

enum status status_read(const char *results_path, struct run_status *out_status)
{
    enum status st = ST_OK;
    char path[PATH_CAP];
    struct buf text = {0};
    struct stat facts;
    json_t *root = NULL;
    json_error_t error;

    TRY(side_path(results_path, ".status", path), err);
    if (stat(path, &facts) != 0 && errno == ENOENT)
        return ST_END;
    TRY(file_read(path, STATUS_MAX_BYTES, &text), err);
    root = json_loadb((const char *)text.data, text.n_bytes, 0, &error);
    const json_t *outcome = json_object_get(root, "outcome");
    const json_int_t value = json_integer_value(outcome);
    if (!json_is_integer(outcome) || value < 0 || value > OUTCOME_RUNNING) {
        log_error("%s: not a status file of Epidote (%s); remove it: the next run writes it anew",
                  path, root == NULL ? error.text : "no known outcome");
        st = ST_FORMAT;
        goto err;
    }
    const char *message = json_string_value(json_object_get(root, "message"));
    *out_status = (struct run_status){
        .outcome = (enum outcome)value,
        .n_rows = count_value(root, "n_rows"),
        .n_done = count_value(root, "n_done"),
        .n_failed = count_value(root, "n_failed"),
        .n_attempts = count_value(root, "n_attempts"),
        .n_records = count_value(root, "n_records"),
        .elapsed_s = json_number_value(json_object_get(root, "elapsed_s")),
        .rows_per_s = json_number_value(json_object_get(root, "rows_per_s")),
    };
    snprintf(out_status->message, sizeof out_status->message, "%s", message != NULL ? message : "");
err:
    json_decref(root);
    buf_free(&text);
    return st;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Counts from RESULTS and the logs; before, they are those of the status file.  *out_finished:
 * RESULTS alone says it all.
 * Returns ST_OK, ST_END (neither is there), ST_IO, ST_FORMAT, ST_NOMEM. */
static enum status count_rows(const char *results_path, struct run_status *status,
                              bool *out_finished)
{
    enum status st = ST_OK;
    char parts[PATH_CAP];
    struct stat facts;
    struct journal *journal = NULL;
    struct journal_counts counts;

    TRY(side_path(results_path, ".parts", parts), err);
    if (stat(parts, &facts) != 0 && stat(results_path, &facts) == 0) {
        struct result_file *results = NULL;

        TRY(result_file_open(results_path, &results), err);
        const struct result_file_info *info = result_file_info(results);
        const uint64_t n_rows = info->rows_end - info->rows_begin;

        /* A run that named more rows and ended before its first has left nothing but its word. */
        *out_finished = status->n_rows <= n_rows;
        status->n_rows = *out_finished ? n_rows : status->n_rows;
        status->n_done = n_rows;
        status->n_failed = info->n_failed;
        if (status->n_records < n_rows) /* of an attempt before the one that could not tell */
            status->n_attempts = status->n_records = 0;
        result_file_close(results);
        return ST_OK;
    }
    TRY(journal_look(results_path, &journal), err);
    journal_counts(journal, &counts);
    status->n_rows = counts.n_rows;
    status->n_done = counts.n_done;
    status->n_failed = counts.n_failed;
    status->n_attempts = counts.n_attempts;
    status->n_records = counts.n_records;
    *out_finished = journal_complete(journal);
err:
    journal_close(journal);
    return st;
}

/* How much longer it would take at the rate of this or the last attempt. */
static enum status print_left(double left_s, struct buf *out)
{
    enum { MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
    const bool days = left_s >= 2 * DAY, hours = left_s >= 2 * HOUR, minutes = left_s >= 2 * MINUTE;

    return buf_printf(out, "  left      about %.0f %s at that rate\n",
                      left_s / (days      ? DAY
                                : hours   ? HOUR
                                : minutes ? MINUTE
                                          : 1),
                      days      ? "days"
                      : hours   ? "hours"
                      : minutes ? "minutes"
                                : "seconds");
}

static enum status print_report(const char *results_path, const struct run_status *status,
                                const struct lock_owner *owner, struct buf *out)
{
    enum status st = ST_OK;

    TRY(buf_printf(out, "%s\n  outcome   %d, %s\n", results_path, (int)status->outcome,
                   outcome_name(status->outcome)),
        err);
    TRY(buf_printf(out, "  rows      %llu: %llu done, %llu of them failed, %llu left\n",
                   (unsigned long long)status->n_rows, (unsigned long long)status->n_done,
                   (unsigned long long)status->n_failed,
                   (unsigned long long)(status->n_rows - status->n_done)),
        err);
    if (status->n_attempts > 0)
        TRY(buf_printf(out, "  attempts  %llu, %llu rows computed in all\n",
                       (unsigned long long)status->n_attempts,
                       (unsigned long long)status->n_records),
            err);
    if (status->elapsed_s > 0)
        TRY(buf_printf(out, "  time      %.1f s in the last attempt, %.2f rows/s\n",
                       status->elapsed_s, status->rows_per_s),
            err);
    if (status->n_done < status->n_rows && status->rows_per_s > 0)
        TRY(print_left((double)(status->n_rows - status->n_done) / status->rows_per_s, out), err);
    if (owner != NULL)
        TRY(buf_printf(out, "  owner     pid %lld on %s since %s%s%s\n", (long long)owner->pid,
                       owner->host, owner->since, owner->job[0] != '\0' ? ", job " : "",
                       owner->job),
            err);
    if (status->message[0] != '\0')
        TRY(buf_printf(out, "  message   %s\n", status->message), err);
err:
    return st;
}

enum status status_note(const char *results_path, enum outcome outcome, const char *message)
{
    struct run_status status;

    if (status_read(results_path, &status) != ST_OK)
        status = (struct run_status){.n_rows = 0};
    status.outcome = outcome;
    snprintf(status.message, sizeof status.message, "%s", message);
    return status_write(results_path, &status);
}

enum status status_refuse(const char *results_path, enum outcome outcome, const char *message)
{
    enum status st;
    char path[PATH_CAP];
    struct lock_owner owner;

    TRY(side_path(results_path, "", path), err);
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    if (access(slash == NULL ? "." : slash == path ? "/" : path, W_OK) != 0)
        return ST_OK;
    TRY(side_path(results_path, ".lock", path), err);
    if (lock_look(path, &owner) == LOCK_HELD)
        return ST_OK;
    st = status_note(results_path, outcome, message);
err:
    return st;
}

enum status status_report(const char *results_path, struct run_status *out_status,
                          struct buf *out_text)
{
    enum status st = ST_OK;
    char lock[PATH_CAP];
    struct lock_owner owner = {.pid = 0};
    struct run_status status = {.outcome = OUTCOME_BROKEN};
    bool finished = false;

    TRY(side_path(results_path, ".lock", lock), err);
    const bool running = lock_look(lock, &owner) == LOCK_HELD;
    st = status_read(results_path, &status);
    if (st != ST_OK && st != ST_END)
        goto err;
    const bool has_status = st == ST_OK;
    if (running && has_status && status.outcome == OUTCOME_RUNNING) {
        /* Its own word is at most a few seconds old; the logs change under our eyes. */
    } else {
        st = count_rows(results_path, &status, &finished);
        if (st == ST_END && !has_status && !running) {
            log_error("%s: no result file, no logs, no status: this job has not been started, or "
                      "with another `results` path",
                      results_path);
            st = ST_IO;
            goto err;
        }
        if (st != ST_OK && st != ST_END)
            goto err;
    }
    if (status.n_done > status.n_rows) /* of a status file that does not fit the logs */
        status.n_done = status.n_rows;
    if (running) {
        status.outcome = OUTCOME_RUNNING;
        status.message[0] = '\0';
    } else if (finished && (!has_status || status.outcome != OUTCOME_JOB)) {
        status.outcome = status.n_failed > 0 ? OUTCOME_ERRORS : OUTCOME_DONE;
        status.message[0] = '\0';
    } else if (status.outcome == OUTCOME_RUNNING || status.outcome == OUTCOME_DONE ||
               status.outcome == OUTCOME_ERRORS) {
        status.outcome = OUTCOME_BROKEN;
        snprintf(status.message, sizeof status.message,
                 "the process that worked on it has ended without a word");
    }
    TRY(print_report(results_path, &status, running ? &owner : NULL, out_text), err);
    *out_status = status;
err:
    return st;
}
