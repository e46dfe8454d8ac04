/* TEST */
/* What `epidote status` says before, during and after a run, whoever died meanwhile. */
#include <signal.h>

#include "journal_test.h"

static const struct result_meta meta = {
    .program = "epidote test", .job = "job", .identity = IDENTITY, .numerics = "plain/1"};

/* The report's text, its outcome checked. */
static const char *report(enum outcome want)
{
    static struct buf text;
    struct run_status status = {.outcome = OUTCOME_RUNNING};

    buf_reset(&text);
    CHECK_INT(status_report(results, &status, &text), ST_OK);
    CHECK_INT(status.outcome, want);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    return (const char *)text.data;
}

static void nothing_there(void)
{
    struct run_status status;
    struct buf text = {0};

    dir_renew();
    CHECK_INT(status_report(results, &status, &text), ST_IO);
    CHECK_HAS(log_last_error(), "r.h5: no result file, no logs, no status");
    CHECK_HAS(log_last_error(), "another `results` path");
    CHECK_INT(text.n_bytes, 0);
    write_file(beside(".status"), "{\"outcome\": 9}", 14);
    CHECK_INT(status_report(results, &status, &text), ST_FORMAT);
    CHECK_HAS(log_last_error(), "r.h5.status: not a status file of Epidote");
    write_file(beside(".status"), "", 0);
    CHECK_INT(status_report(results, &status, &text), ST_FORMAT);
    buf_free(&text);
}

static void there_and_back(void)
{
    struct run_status status = {.outcome = OUTCOME_MACHINE,
                                .n_rows = 10,
                                .n_done = 4,
                                .n_failed = 1,
                                .n_attempts = 3,
                                .n_records = 5,
                                .elapsed_s = 12.5,
                                .rows_per_s = 0.25,
                                .message = "disk \"full\"\n\xff"};
    struct buf text = {0};

    dir_renew();
    CHECK_INT(status_write(results, &status), ST_OK);
    CHECK_INT(dir_entries(test_dir), 1);
    CHECK_HAS(report(OUTCOME_MACHINE), "message   disk \"full\"\n?");
    snprintf(status.message, sizeof status.message, "disk \"full\"");
    CHECK_INT(status_write(results, &status), ST_OK);
    const char *said = report(OUTCOME_MACHINE);
    CHECK_HAS(said, "r.h5\n  outcome   4, a peer or the machine failed");
    CHECK_HAS(said, "rows      10: 4 done, 1 of them failed, 6 left");
    CHECK_HAS(said, "attempts  3, 5 rows computed in all");
    CHECK_HAS(said, "12.5 s in the last attempt, 0.25 rows/s");
    CHECK_HAS(said, "left      about 24 seconds at that rate");
    CHECK_HAS(said, "message   disk \"full\"");
    CHECK_INT(file_read(beside(".status"), 4096, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_HAS((const char *)text.data, "\"outcome\": 4,");
    CHECK_HAS((const char *)text.data, "\"updated\": \"20");
    buf_free(&text);
    for (int i = 0; i <= OUTCOME_RUNNING; i++)
        CHECK(strcmp(outcome_name((enum outcome)i), "unknown") != 0);
}

/* Starts a job, appends some rows, says so, waits for the end. */
static pid_t start_job(void)
{
    int ends[2];
    char byte = 0;

    CHECK_INT(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        const struct journal_args args = job(0, 10);
        struct journal *journal = open_job(&args);

        append_rows(journal, 0, 3);
        append_error(journal, 3, "too long");
        if (write(ends[1], "y", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    CHECK_INT(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    return pid;
}

static void life_of_a_job(void)
{
    struct run_status running = {.outcome = OUTCOME_RUNNING, .n_rows = 10, .n_done = 2};
    char owner[64];

    dir_renew();
    const pid_t pid = start_job();
    snprintf(owner, sizeof owner, "owner     pid %d on ", (int)pid);
    /* Before its first word the logs speak. */
    const char *said = report(OUTCOME_RUNNING);
    CHECK_HAS(said, "10: 4 done, 1 of them failed, 6 left");
    CHECK_HAS(said, owner);
    CHECK_INT(status_write(results, &running), ST_OK);
    said = report(OUTCOME_RUNNING);
    CHECK_HAS(said, "10: 2 done");
    CHECK_HAS(said, owner);

    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    said = report(OUTCOME_BROKEN);
    CHECK_HAS(said, "10: 4 done, 1 of them failed, 6 left");
    CHECK_HAS(said, "ended without a word");
    CHECK(strstr(said, "owner") == NULL);
    CHECK(exists(beside(".lock"))); /* only looked at */

    /* Broken off with a word. */
    running.outcome = OUTCOME_BROKEN;
    snprintf(running.message, sizeof running.message, "signal 15");
    CHECK_INT(status_write(results, &running), ST_OK);
    CHECK_HAS(report(OUTCOME_BROKEN), "message   signal 15");
    unlink(beside(".status"));
    CHECK_HAS(report(OUTCOME_BROKEN), "10: 4 done");

    /* Finished: RESULTS speaks, with or without a status file. */
    struct journal_args args = job(0, 10);
    struct journal *journal = open_job(&args);
    append_rows(journal, 4, 10);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    CHECK_HAS(report(OUTCOME_ERRORS), "10: 10 done, 1 of them failed, 0 left");
    CHECK_INT(status_write(results, &running), ST_OK);
    CHECK_HAS(report(OUTCOME_ERRORS), "10: 10 done");
    args.retry_errors = true;
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, 9);
    append_rows(journal, 3, 4);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    CHECK_HAS(report(OUTCOME_DONE), "10: 10 done, 0 of them failed");
}

/* A finished job that is continued with more rows, and ends before the first of them. */
static void more_rows(void)
{
    struct run_status broken = {.outcome = OUTCOME_BROKEN, .n_rows = 15, .n_done = 10};
    const struct journal_args args = job(0, 10);

    dir_renew();
    struct journal *journal = open_job(&args);
    append_rows(journal, 0, 10);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    snprintf(broken.message, sizeof broken.message, "stopped by signal 15");
    CHECK_INT(status_write(results, &broken), ST_OK);
    const char *said = report(OUTCOME_BROKEN);
    CHECK_HAS(said, "15: 10 done, 0 of them failed, 5 left");
    CHECK_HAS(said, "stopped by signal 15");
    broken.outcome = OUTCOME_RUNNING; /* killed */
    CHECK_INT(status_write(results, &broken), ST_OK);
    CHECK_HAS(report(OUTCOME_BROKEN), "ended without a word");
}

int main(void)
{
    log_set_level(LOG_ERROR);
    nothing_there();
    there_and_back();
    life_of_a_job();
    more_rows();
    TEST_END();
}
