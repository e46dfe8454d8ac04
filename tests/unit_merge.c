/* TEST */
/* RESULTS from the logs: killed after any step, continued from RESULTS, refused where it must be.
 */
#include <signal.h>
#include <sys/resource.h>

#include "data/result_file.h"
#include "journal_test.h"

static const struct result_meta meta = {
    .program = "epidote test", .job = "job", .identity = IDENTITY, .numerics = "plain/1"};

static uint64_t digest_of(const char *path)
{
    uint64_t digest = 0;

    CHECK_INT(data_digest(path, &digest), ST_OK);
    return digest;
}

/* What a job that was never killed writes for rows [begin, end). */
static uint64_t undisturbed(uint64_t begin, uint64_t end)
{
    const struct journal_args args = job(begin, end);

    dir_renew();
    struct journal *journal = open_job(&args);
    append_rows(journal, begin, end);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    CHECK(journal_complete(journal));
    journal_close(journal);
    CHECK_INT(dir_entries(test_dir), 1);
    return digest_of(results);
}

/* Texts of RESULTS as one string, "a|b|c|"; errors in brackets. */
static const char *texts_of(const char *path, uint64_t want_begin)
{
    static char all[4096];
    struct result_file *file = NULL;
    struct arena *arena = NULL;
    struct result_row rows[64];
    size_t n = 0;

    all[0] = '\0';
    CHECK_INT(result_file_open(path, &file), ST_OK);
    if (file == NULL)
        return all;
    CHECK_INT(arena_create(4096, &arena), ST_OK);
    const struct result_file_info *info = result_file_info(file);
    const uint64_t n_rows = info->rows_end - info->rows_begin;
    CHECK_INT(info->rows_begin, want_begin);
    CHECK_INT(result_file_read(file, 0, n_rows, arena, rows, NULL), ST_OK);
    for (uint64_t i = 0; i < n_rows; i++) {
        CHECK_INT(rows[i].row, want_begin + i);
        n += (size_t)snprintf(all + n, sizeof all - n,
                              rows[i].reason == FINISH_ERROR ? "[%s]|" : "%s|",
                              rows[i].reason == FINISH_ERROR ? rows[i].error : rows[i].text);
    }
    arena_destroy(arena);
    result_file_close(file);
    return all;
}

static void any_order(void)
{
    const uint64_t want = undisturbed(5, 45);
    const struct journal_args args = job(5, 45);

    /* Rows of three attempts, from the end to the start. */
    dir_renew();
    for (uint64_t attempt = 0; attempt < 3; attempt++) {
        struct journal *journal = open_job(&args);

        for (uint64_t row = 44; row >= 5; row--)
            if (row % 3 == attempt)
                append_rows(journal, row, row + 1);
        if (attempt < 2) {
            CHECK_INT(journal_merge(journal, NULL, &meta), ST_FORMAT);
            CHECK_HAS(log_last_error(), "row 5 is not finished");
            CHECK(!exists(results));
        } else {
            CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
        }
        journal_close(journal);
    }
    CHECK(digest_of(results) == want);
    CHECK_INT(dir_entries(test_dir), 1);
}

/* ---- killed ---------------------------------------------------------------------------------- */

struct stop {
    struct journal_args args;
    enum merge_step last;
};

static void merge_and_die(void *arg)
{
    const struct stop *stop = arg;
    struct journal *journal = open_job(&stop->args);

    for (uint64_t row = 0; row < 20; row++)
        if (!journal_row_done(journal, row))
            append_rows(journal, row, row + 1);
    CHECK_INT(journal_merge_until(journal, NULL, &meta, stop->last),
              stop->last == MERGE_CLEANED ? ST_OK : ST_STOPPED);
}

/* A process that ends after any step of the merge: the next start gets to the same file. */
static void killed_at_each_step(void)
{
    const uint64_t want = undisturbed(0, 20);

    for (int step = 0; step < MERGE_COUNT; step++) {
        struct stop stop = {.args = job(0, 20), .last = (enum merge_step)step};
        struct run_status status;
        struct buf text = {0};

        dir_renew();
        CHECK_INT(in_child(merge_and_die, &stop), 0);
        CHECK(exists(beside(".lock")));
        CHECK_INT(exists(beside(".tmp")), step < MERGE_RENAMED);
        CHECK_INT(exists(results), step >= MERGE_RENAMED);
        CHECK_INT(exists(beside(".parts")), step < MERGE_CLEANED);
        CHECK_INT(status_report(results, &status, &text), ST_OK);
        CHECK_INT(status.outcome, step < MERGE_RENAMED ? OUTCOME_BROKEN : OUTCOME_DONE);
        CHECK_INT(status.n_done, 20);

        struct journal *journal = open_job(&stop.args);
        CHECK_INT(journal_complete(journal), step >= MERGE_RENAMED);
        CHECK_INT(counts_of(journal).n_kept, 20);
        CHECK(!exists(beside(".tmp")));
        CHECK(journal_row_done(journal, 0) && journal_row_done(journal, 19));
        CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
        journal_close(journal);
        CHECK(digest_of(results) == want);
        CHECK_INT(dir_entries(test_dir), 1);
        buf_free(&text);
    }
    /* Among the logs, too: one is gone, one is there. */
    const struct test_record rows[] = {{.row = 3}, {.row = 4}};
    const struct journal_args args = job(0, 20);

    write_log(2, IDENTITY, 0, 20, rows, 2);
    struct journal *journal = open_job(&args);
    CHECK(journal_complete(journal));
    journal_close(journal);
    CHECK_INT(dir_entries(test_dir), 1);
    CHECK(digest_of(results) == want);
}

/* ---- killed at any moment -------------------------------------------------------------------- */

enum { KILL_ROWS = 150, N_KILLS = 60 };

/* A whole run: what is missing, in an order of its own, then the merge. */
static void run_job(const struct journal_args *args)
{
    struct journal *journal = NULL;

    if (journal_open(args, &journal) != ST_OK)
        _exit(1);
    for (uint64_t i = 0; i < KILL_ROWS; i++) {
        const uint64_t row = i * 47 % KILL_ROWS;

        if (!journal_row_done(journal, row))
            append_rows(journal, row, row + 1);
    }
    if (journal_merge(journal, NULL, &meta) != ST_OK)
        _exit(1);
    journal_close(journal);
    _exit(test_n_failed > 0);
}

/* Killed and started again until one comes through, round after round. */
static void killed_at_random(void)
{
    const uint64_t want = undisturbed(0, KILL_ROWS);
    const struct journal_args args = job(0, KILL_ROWS);
    const uint32_t key[2] = {20260131, 3};
    int n_kills = 0;

    fprintf(stderr, "seed %u %u\n", key[0], key[1]);
    for (uint32_t round = 0; n_kills < N_KILLS; round++) {
        uint64_t n_done = 0;
        int status = -1;

        dir_renew();
        for (uint32_t start = 0; start == 0 || WIFSIGNALED(status); start++) {
            const uint32_t counter[4] = {round, start};
            uint32_t draw[4];

            const pid_t pid = fork();
            if (pid == 0)
                run_job(&args);
            philox4x32(key, counter, draw);
            clock_sleep_us((int)(draw[0] % (1000 * (1 + start)))); /* so that one gets through */
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            n_kills += WIFSIGNALED(status);

            /* What was finished stays finished, and no row was computed twice. */
            struct journal_args dry = args;
            dry.dry = true;
            struct journal *journal = open_job(&dry);
            CHECK(counts_of(journal).n_done >= n_done);
            n_done = counts_of(journal).n_done;
            if (!journal_complete(journal))
                CHECK_INT(counts_of(journal).n_records, n_done);
            journal_close(journal);
        }
        CHECK_INT(WEXITSTATUS(status), 0);
        CHECK(digest_of(results) == want);
        CHECK_INT(dir_entries(test_dir), 1);
    }
}

/* ---- RESULTS is there ------------------------------------------------------------------------ */

static void refused(void)
{
    struct journal_args args = job(0, 20);

    (void)undisturbed(0, 20);
    args.identity = "temperature = 1\nmodel = 1234\nprompts = 77\n";
    CHECK_INT(try_job(&args), ST_CONFIG);
    CHECK_HAS(log_last_error(), "r.h5 holds rows of another job (temperature: ours 1, theirs 0)");
    CHECK_HAS(log_last_error(), "r.h5 away to start anew");
    args = job(0, 19);
    CHECK_INT(try_job(&args), ST_CONFIG);
    CHECK_HAS(log_last_error(), "begun for rows 0:20, and this job names rows 0:19");
    args = job(0, 20);
    args.dry = true;
    struct journal *journal = open_job(&args);
    CHECK(journal_complete(journal));
    journal_close(journal);

    write_file(results, "somebody's notes, worth keeping", 31);
    args = job(0, 20);
    CHECK_INT(try_job(&args), ST_CONFIG);
    CHECK_HAS(log_last_error(), "is never overwritten");
    struct buf text = {0};
    CHECK_INT(file_read(results, 100, &text), ST_OK);
    CHECK_INT(text.n_bytes, 31);
    buf_free(&text);
    CHECK_INT(mkdir(beside(".dir"), 0777), 0);
    args.results_path = beside(".dir");
    CHECK_INT(try_job(&args), ST_CONFIG);
}

/* More rows than RESULTS has: its rows are kept, the file becomes longer. */
static void more_rows(void)
{
    const uint64_t want = undisturbed(0, 30);
    const struct journal_args args = job(0, 30);

    (void)undisturbed(10, 20);
    struct journal *journal = open_job(&args);
    CHECK(!journal_complete(journal));
    CHECK_INT(counts_of(journal).n_kept, 10);
    CHECK(journal_row_done(journal, 10) && !journal_row_done(journal, 20));
    append_rows(journal, 0, 10);
    journal_close(journal);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_kept, 20);
    append_rows(journal, 20, 30);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    CHECK(digest_of(results) == want);
    CHECK_INT(dir_entries(test_dir), 1);
}

/* Rows that ended as errors, computed again from a finished RESULTS; killed on the way. */
static void retry(void)
{
    struct journal_args args = job(7, 12);

    dir_renew();
    struct journal *journal = open_job(&args);
    append_rows(journal, 7, 9);
    append_error(journal, 9, "too long");
    append_error(journal, 10, "no memory");
    append_rows(journal, 11, 12);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    CHECK_STR(texts_of(results, 7), "answer to 7|answer to 8|[too long]|[no memory]|answer to 11|");
    journal = open_job(&args);
    CHECK(journal_complete(journal));
    CHECK_INT(counts_of(journal).n_failed, 2);
    CHECK_INT(counts_of(journal).n_done, 5);
    journal_close(journal);

    args.retry_errors = true;
    journal = open_job(&args);
    CHECK(!journal_complete(journal));
    CHECK_INT(counts_of(journal).n_kept, 3);
    CHECK(!journal_row_done(journal, 9) && !journal_row_done(journal, 10));
    append_rows(journal, 10, 11);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 9 is not finished");
    journal_close(journal);

    /* The same command goes on with what is left; without retry_errors the new answer counts too.
     */
    journal = open_job(&args);
    CHECK(!journal_row_done(journal, 9) && journal_row_done(journal, 10));
    journal_close(journal);
    args.retry_errors = false;
    journal = open_job(&args);
    CHECK(!journal_complete(journal));
    CHECK_INT(counts_of(journal).n_done, 5);
    CHECK_INT(counts_of(journal).n_failed, 1);
    journal_close(journal);
    args.retry_errors = true;
    journal = open_job(&args);
    append_error(journal, 9, "still too long");
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    CHECK_STR(texts_of(results, 7),
              "answer to 7|answer to 8|[still too long]|answer to 10|answer to 11|");
    CHECK_INT(dir_entries(test_dir), 1);
}

/* ---- large, empty, damaged ------------------------------------------------------------------- */

/* Records that come to more than a window, scattered over two logs. */
static void windows(void)
{
    enum { N_ROWS = 2400, TEXT_BYTES = 20000 };
    const struct journal_args args = job(0, N_ROWS);
    char *text = malloc(TEXT_BYTES + 1);
    struct buf payload = {0};
    uint64_t digests[2];

    for (int scattered = 0; scattered < 2; scattered++) {
        dir_renew();
        struct journal *journal = open_job(&args);
        for (uint64_t i = 0; i < N_ROWS; i++) {
            const uint64_t row = scattered ? i * 1009 % N_ROWS : i; /* 1009 is prime to N_ROWS */

            memset(text, 'a' + (int)(row % 26), TEXT_BYTES);
            text[row % TEXT_BYTES] = '\0';
            if (row % 3 == 0)
                text[row % TEXT_BYTES] = ' ';
            text[TEXT_BYTES] = '\0';
            pack_row(row, text, NULL, 0, &payload);
            CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_OK);
            if (scattered && i == N_ROWS / 2) {
                journal_close(journal);
                journal = open_job(&args);
            }
        }
        CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
        journal_close(journal);
        digests[scattered] = digest_of(results);
    }
    CHECK(digests[0] == digests[1]);
    buf_free(&payload);
    free(text);
}

static void no_rows(void)
{
    const struct journal_args args = job(4, 4);

    dir_renew();
    struct journal *journal = open_job(&args);
    CHECK(!journal_complete(journal));
    CHECK_INT(counts_of(journal).n_rows, 0);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    journal = open_job(&args);
    CHECK(journal_complete(journal));
    journal_close(journal);
}

/* A log that changes between start and merge is found out, and RESULTS is not written. */
static void changed_meanwhile(void)
{
    const struct journal_args args = job(0, 3);
    char byte = 0;

    dir_renew();
    struct journal *journal = open_job(&args);
    append_rows(journal, 0, 3);
    const int fd = open(beside(".parts/1.log"), O_RDWR);
    CHECK_INT(pread(fd, &byte, 1, 300), 1);
    byte ^= 4;
    CHECK_INT(pwrite(fd, &byte, 1, 300), 1);
    close(fd);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_FORMAT);
    CHECK_HAS(log_last_error(), "has changed since it was written");
    CHECK_HAS(log_last_error(), "1.log: byte ");
    journal_close(journal);
    CHECK(!exists(results));
    CHECK(!exists(beside(".tmp")));
    CHECK(exists(beside(".parts/1.log")));
}

/* No room for RESULTS.tmp: the logs stay, and the same job merges when there is. */
static void no_room(void *arg)
{
    const struct journal_args args = job(0, 300);
    struct rlimit limit;

    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    struct journal *journal = open_job(&args);
    append_rows(journal, 0, 300);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){20000, limit.rlim_max});
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_IO);
    CHECK_HAS(log_last_error(), "r.h5.tmp");
    CHECK(exists(beside(".parts/1.log")));
    CHECK(!exists(results));
    CHECK(!exists(beside(".tmp")));
    setrlimit(RLIMIT_FSIZE, &limit);
    CHECK_INT(journal_merge(journal, NULL, &meta), ST_OK);
    journal_close(journal);
    CHECK_INT(dir_entries(test_dir), 1);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    any_order();
    killed_at_each_step();
    killed_at_random();
    refused();
    more_rows();
    retry();
    windows();
    no_rows();
    changed_meanwhile();
    dir_renew();
    CHECK_INT(in_child(no_room, NULL), 0);
    TEST_END();
}
