/* TEST */
/* Logs: appended, continued, cut, damaged, doubled, foreign, on a full disk. */
#include <signal.h>
#include <sys/resource.h>

#include "journal_test.h"

static void continued(void)
{
    const struct journal_args args = job(100, 120);

    dir_renew();
    struct journal *journal = open_job(&args);
    CHECK(!journal_complete(journal));
    CHECK_INT(dir_entries(beside(".parts")), 0); /* no log before the first row */
    append_rows(journal, 110, 113);
    append_rows(journal, 105, 106);
    append_error(journal, 119, "too long");
    CHECK_INT(counts_of(journal).n_done, 5);
    CHECK_INT(counts_of(journal).n_failed, 1);
    CHECK_INT(counts_of(journal).n_kept, 0);
    CHECK_INT(counts_of(journal).n_attempts, 1);
    journal_close(journal);
    CHECK(exists(beside(".parts/1.log")));
    CHECK(!exists(beside(".lock")));
    CHECK(!exists(beside(".scratch")));

    journal = open_job(&args);
    for (uint64_t row = 90; row < 130; row++)
        CHECK_INT(journal_row_done(journal, row),
                  (row >= 110 && row < 113) || row == 105 || row == 119);
    CHECK_INT(counts_of(journal).n_rows, 20);
    CHECK_INT(counts_of(journal).n_kept, 5);
    CHECK_INT(counts_of(journal).n_attempts, 2);
    append_rows(journal, 100, 105);
    CHECK_INT(counts_of(journal).n_done, 10);
    CHECK_INT(counts_of(journal).n_records, 10);
    journal_close(journal);

    /* Errors are computed again when asked for, and count as failed until then. */
    struct journal_args retry = args;
    retry.retry_errors = true;
    journal = open_job(&retry);
    CHECK(!journal_row_done(journal, 119));
    CHECK_INT(counts_of(journal).n_kept, 9);
    CHECK_INT(counts_of(journal).n_failed, 0);
    append_rows(journal, 119, 120);
    CHECK(journal_row_done(journal, 119));
    journal_close(journal);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, 10);
    CHECK_INT(counts_of(journal).n_failed, 0);
    CHECK_INT(counts_of(journal).n_records, 11);
    CHECK_INT(counts_of(journal).n_attempts, 4);
    journal_close(journal);
}

/* What the stages must not do is an error, not a wrong file. */
static void wrong_rows(void)
{
    const struct journal_args args = job(10, 20);
    struct buf payload = {0};

    dir_renew();
    struct journal *journal = open_job(&args);
    append_rows(journal, 10, 11);
    pack_row(10, NULL, NULL, 0, &payload);
    CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 10 is finished already");
    pack_row(20, NULL, NULL, 0, &payload);
    CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 20 is not in this job");
    CHECK_INT(journal_append(journal, payload.data, payload.n_bytes - 8), ST_FORMAT);
    CHECK_INT(counts_of(journal).n_records, 1);
    journal_close(journal);
    buf_free(&payload);
}

/* ---- cut and damaged ------------------------------------------------------------------------- */

enum { N_RECORDS = 4 };

/* A log of rows 0..3; out_ends: where head and records end. */
static void small_log(struct buf *out_file, size_t out_ends[N_RECORDS + 1])
{
    static const struct test_record records[N_RECORDS] = {
        {.row = 0}, {.row = 1}, {.row = 2, .error = "bad"}, {.row = 3}};
    struct journal_log *log = NULL;
    struct journal_record record;

    dir_renew();
    write_log(1, IDENTITY, 0, 10, records, N_RECORDS);
    CHECK_INT(file_read(beside(".parts/1.log"), 1 << 20, out_file), ST_OK);
    CHECK_INT(journal_log_open(beside(".parts/1.log"), &log), ST_OK);
    out_ends[0] = journal_log_head(log)->n_bytes;
    for (int i = 0; i < N_RECORDS; i++) {
        CHECK_INT(journal_log_next(log, &record), ST_OK);
        CHECK_INT(record.row, i);
        CHECK_INT((uintptr_t)record.payload % 8, 0);
        out_ends[i + 1] = record.offset + journal_log_record_bytes(record.n_bytes);
    }
    CHECK_INT(journal_log_next(log, &record), ST_END);
    CHECK_INT(journal_log_tail(log).n_bytes, 0);
    CHECK_INT(out_ends[N_RECORDS], out_file->n_bytes);
    journal_log_close(log);
}

/* Cut at every byte: every whole record counts, whatever follows it. */
static void cut_anywhere(void)
{
    struct buf file = {0};
    size_t ends[N_RECORDS + 1];
    const struct journal_args args = job(0, 10);

    small_log(&file, ends);
    for (size_t cut = 0; cut <= file.n_bytes; cut++) {
        uint64_t n_whole = 0;

        for (int i = 1; i <= N_RECORDS; i++)
            n_whole += cut >= ends[i];
        write_file(beside(".parts/1.log"), file.data, cut);
        struct journal *journal = open_job(&args);
        CHECK_INT(counts_of(journal).n_done, n_whole);
        CHECK_INT(journal_row_done(journal, 3), n_whole == 4);
        CHECK_INT(counts_of(journal).n_attempts, 2);
        journal_close(journal);
    }
    /* After a cut log the next attempt has one of its own, and both count. */
    write_file(beside(".parts/1.log"), file.data, file.n_bytes - 1);
    struct journal *journal = open_job(&args);
    append_rows(journal, 3, 5);
    journal_close(journal);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, 5);
    journal_close(journal);
    buf_free(&file);
}

/* Any byte changed: what stands before it counts, nothing wrong is believed. */
static void damaged_anywhere(void)
{
    struct buf file = {0};
    size_t ends[N_RECORDS + 1];
    const struct journal_args args = job(0, 10);

    small_log(&file, ends);
    for (size_t at = 0; at < file.n_bytes; at++) {
        for (int bit = 0; bit < 8; bit += 7) {
            uint64_t n_whole = 0;

            for (int i = 1; i <= N_RECORDS; i++)
                n_whole += at >= ends[i];
            file.data[at] ^= (uint8_t)(1 << bit);
            write_file(beside(".parts/1.log"), file.data, file.n_bytes);
            file.data[at] ^= (uint8_t)(1 << bit);
            if (at < 8) {
                CHECK_INT(try_job(&args), ST_FORMAT);
                CHECK_HAS(log_last_error(), "1.log: byte 0: not a log of Epidote");
            } else if (at < 12) {
                CHECK_INT(try_job(&args), ST_UNSUPPORTED);
                CHECK_HAS(log_last_error(), "a log of version");
            } else {
                struct journal *journal = open_job(&args);

                CHECK_INT(counts_of(journal).n_done, n_whole);
                journal_close(journal);
            }
        }
    }
    /* A whole record of another log, left there by a crash, is not ours: its sum has another seed.
     */
    static const struct test_record other[] = {{.row = 7}};
    struct buf foreign = {0};

    write_log(2, "other = 1\n", 0, 10, other, 1);
    CHECK_INT(file_read(beside(".parts/2.log"), 1 << 20, &foreign), ST_OK);
    const size_t head_bytes = 48 + 16 + 8;
    CHECK_INT(buf_put(&file, foreign.data + head_bytes, foreign.n_bytes - head_bytes), ST_OK);
    unlink(beside(".parts/2.log"));
    write_file(beside(".parts/1.log"), file.data, file.n_bytes);
    struct journal *journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, N_RECORDS);
    CHECK(!journal_row_done(journal, 7));
    journal_close(journal);

    /* Zeros, as a power loss leaves them: behind the records, and as a whole file. */
    static const uint8_t zeros[4096];
    file.n_bytes = ends[2];
    CHECK_INT(buf_put(&file, zeros, sizeof zeros), ST_OK);
    write_file(beside(".parts/1.log"), file.data, file.n_bytes);
    write_file(beside(".parts/3.log"), zeros, sizeof zeros);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, 2);
    CHECK_INT(counts_of(journal).n_attempts, 4);
    journal_close(journal);
    buf_free(&foreign);
    buf_free(&file);
}

/* A right checksum does not make a result. */
static void right_sum_wrong_content(void)
{
    struct buf file = {0};
    struct journal_log_head head = {.attempt = 1, .rows_end = 10, .identity = IDENTITY};
    const uint64_t nonsense[20] = {1, 2, 3};
    const struct journal_args args = job(0, 10);
    static const struct test_record outside[] = {{.row = 12}};

    dir_renew();
    mkdir(beside(".parts"), 0777);
    CHECK_INT(journal_log_head_pack(&head, &file), ST_OK);
    CHECK_INT(journal_log_record_pack(head.hash, 4, nonsense, sizeof nonsense, &file), ST_OK);
    write_file(beside(".parts/1.log"), file.data, file.n_bytes);
    CHECK_INT(try_job(&args), ST_FORMAT);
    CHECK_HAS(log_last_error(), "1.log: byte 104: row 4: has a right checksum but is not a result");
    write_log(1, IDENTITY, 0, 10, outside, 1);
    CHECK_INT(try_job(&args), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 12: not among the rows that this log was begun for");
    buf_free(&file);
}

/* ---- twice ----------------------------------------------------------------------------------- */

static enum status two_logs(const struct test_record *first, const struct test_record *second)
{
    const struct journal_args args = job(0, 10);

    dir_renew();
    write_log(3, IDENTITY, 0, 10, first, 1);
    write_log(20, IDENTITY, 0, 10, second, 1);
    return try_job(&args);
}

static void found_twice(void)
{
    const struct test_record answer = {.row = 6}, slower = {.row = 6, .queue_s = 9};
    const struct test_record other = {.row = 6, .text = "something else"};
    const struct test_record error = {.row = 6, .error = "no"}, error2 = {.row = 6, .error = "nay"};
    const struct test_record twice[2] = {other, answer}, both[2] = {error, answer};
    const struct journal_args args = job(0, 10);
    struct journal *journal;

    CHECK_INT(two_logs(&answer, &slower), ST_OK); /* timings are not answers */
    CHECK_INT(two_logs(&answer, &other), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 6 has two different answers");
    CHECK_HAS(log_last_error(), "3.log at byte 104");
    CHECK_HAS(log_last_error(), "20.log at byte 104");
    CHECK_HAS(log_last_error(), "Remove their folder");
    CHECK_INT(two_logs(&error, &answer), ST_OK); /* a later attempt may do better, */
    CHECK_INT(two_logs(&error, &error2), ST_OK); /* or fail otherwise */
    CHECK_INT(two_logs(&answer, &error), ST_FORMAT);
    dir_renew();
    write_log(1, IDENTITY, 0, 10, twice, 2);
    CHECK_INT(try_job(&args), ST_FORMAT);
    write_log(1, IDENTITY, 0, 10, both, 2); /* no retry within one attempt */
    CHECK_INT(try_job(&args), ST_FORMAT);

    /* By number, not by name: 20 is after 3. */
    CHECK_INT(two_logs(&error, &answer), ST_OK);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, 1);
    CHECK_INT(counts_of(journal).n_failed, 0);
    CHECK_INT(counts_of(journal).n_records, 2);
    CHECK_INT(counts_of(journal).n_attempts, 21);
    journal_close(journal);
}

/* ---- other jobs ------------------------------------------------------------------------------ */

static void other_job(void)
{
    struct journal_args args = job(0, 10);

    dir_renew();
    write_log(1, IDENTITY, 0, 10, NULL, 0);
    args.identity = "temperature = 0.5\nmodel = 1234\ntop_k = 3\n";
    CHECK_INT(try_job(&args), ST_CONFIG);
    CHECK_HAS(log_last_error(), "1.log holds rows of another job");
    CHECK_HAS(log_last_error(), "temperature: ours 0.5, theirs 0;");
    CHECK_HAS(log_last_error(), "top_k: ours 3, theirs not set;");
    CHECK_HAS(log_last_error(), "prompts: ours not set, theirs 77)");
    CHECK(strstr(log_last_error(), "model") == NULL);
    CHECK_HAS(log_last_error(), "another `results` path, or move");
    CHECK_HAS(log_last_error(), "r.h5.parts away");
    CHECK(!exists(beside(".lock"))); /* refused, and let go of */
    args.identity = "model = 1234\ntemperature = 0\nprompts = 77\n";
    CHECK_INT(try_job(&args), ST_CONFIG);

    /* More rows than before are fine, fewer would be lost. */
    args = job(0, 25);
    CHECK_INT(try_job(&args), ST_OK);
    args = job(1, 25);
    CHECK_INT(try_job(&args), ST_CONFIG);
    CHECK_HAS(log_last_error(), "begun for rows 0:10, and this job names rows 1:25");
    CHECK_HAS(log_last_error(), "more rows, never fewer");

    /* What is not ours in the folder is left alone; what has our name has to be ours. */
    args = job(0, 10);
    write_file(beside(".parts/notes.txt"), "x", 1);
    write_file(beside(".parts/02.log"), "x", 1);
    CHECK_INT(try_job(&args), ST_OK);
    static const char foreign[] = "what somebody has put here, of more bytes than a head has";
    write_file(beside(".parts/2.log"), foreign, sizeof foreign);
    CHECK_INT(try_job(&args), ST_FORMAT);
    CHECK_HAS(log_last_error(), "2.log: byte 0: not a log of Epidote");
}

/* `check` looks and touches nothing. */
static void dry(void)
{
    static const struct test_record records[] = {{.row = 2}};
    struct journal_args args = job(0, 10);

    dir_renew();
    args.dry = true;
    struct journal *journal = open_job(&args);
    CHECK_INT(dir_entries(test_dir), 0);
    journal_close(journal);
    write_log(1, IDENTITY, 0, 10, records, 1);
    write_file(beside(".tmp"), "x", 1);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_kept, 1);
    CHECK_INT(dir_entries(test_dir), 2);
    journal_close(journal);
    CHECK_INT(dir_entries(test_dir), 2);
    args.identity = "other = 1\n";
    CHECK_INT(try_job(&args), ST_CONFIG);
}

/* ---- folders and disks that refuse ----------------------------------------------------------- */

static void as_nobody(void *arg)
{
    const struct journal_args *args = arg;
    struct journal_args check = *args;

    CHECK_INT(setgid(65534) | setuid(65534), 0);
    CHECK_INT(try_job(args), ST_IO);
    CHECK_HAS(log_last_error(), "r.h5.lock: cannot create: Permission denied");
    CHECK_HAS(log_last_error(), "choose another `results` path");
    check.dry = true;
    CHECK_INT(try_job(&check), ST_IO);
    CHECK_HAS(log_last_error(), "cannot write in this folder");
}

static void unwritable(void)
{
    struct journal_args args = job(0, 10);

    dir_renew();
    if (geteuid() == 0) {
        CHECK_INT(chmod(test_dir, 0755), 0);
        CHECK_INT(in_child(as_nobody, &args), 0);
    }
    args.results_path = beside(".none/r.h5");
    CHECK_INT(try_job(&args), ST_IO);
    CHECK_HAS(log_last_error(), "No such file or directory");
    write_file(beside(".none"), "x", 1);
    CHECK_INT(try_job(&args), ST_IO);
    CHECK_HAS(log_last_error(), "Not a directory");
}

/* A file that may not grow is a full disk, but for the reason that the system gives. */
static void on_full_disk(void *arg)
{
    const struct journal_args args = job(0, 1000);
    struct rlimit limit;
    struct buf payload = {0};
    struct stat facts;
    uint64_t n_whole = 0;

    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    struct journal *journal = open_job(&args);
    append_rows(journal, 0,
                150); /* the scratch file is as large as it gets; now the log is larger */
    CHECK_INT(stat(beside(".parts/1.log"), &facts), 0);
    CHECK(facts.st_size > 16 * 1000);
    for (rlim_t extra = 1; extra < 400; extra += 13) {
        const off_t before = facts.st_size;
        const uint64_t row = 150 + n_whole;
        enum status st;

        setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)before + extra, limit.rlim_max});
        pack_row(row, NULL, NULL, 0, &payload);
        st = journal_append(journal, payload.data, payload.n_bytes);
        CHECK_INT(stat(beside(".parts/1.log"), &facts), 0);
        if (st == ST_OK) {
            n_whole++;
            continue;
        }
        CHECK_INT(st, ST_IO);
        CHECK_INT(facts.st_size, before);
        CHECK_HAS(log_last_error(), "1.log: cannot write a record of");
        CHECK_HAS(log_last_error(), "File too large");
        CHECK_HAS(log_last_error(), "free space and run the same command again");
        CHECK(!journal_row_done(journal, row));
    }
    CHECK(n_whole > 0 && n_whole < 31);
    setrlimit(RLIMIT_FSIZE, &limit);
    append_rows(journal, 500, 510); /* space is back: the log goes on after the last whole record */
    journal_close(journal);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_done, 150 + n_whole + 10);
    journal_close(journal);

    /* No space for the log's head, none for the places. */
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){16000, limit.rlim_max});
    dir_renew();
    journal = open_job(&args);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){50, limit.rlim_max});
    pack_row(1, NULL, NULL, 0, &payload);
    CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_IO);
    CHECK_HAS(log_last_error(), "1.log: cannot write");
    CHECK_INT(dir_entries(beside(".parts")), 0);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){16000, limit.rlim_max});
    CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_OK);
    journal_close(journal);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){15999, limit.rlim_max});
    CHECK_INT(try_job(&args), ST_IO);
    CHECK_HAS(log_last_error(), "r.h5.scratch: cannot reserve 16000 bytes");
    CHECK(!exists(beside(".scratch")));
    buf_free(&payload);
    dir_remove();
}

/* A killed process loses no row that it has appended. */
static void append_and_die(void *arg)
{
    struct journal *journal = open_job(arg);

    append_rows(journal, 0, 7);
    raise(SIGKILL);
}

static void killed(void)
{
    struct journal_args args = job(0, 10);

    dir_renew();
    CHECK_INT(in_child(append_and_die, &args), -1);
    CHECK(exists(beside(".lock")));
    struct journal *journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_kept, 7);
    journal_close(journal);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    continued();
    wrong_rows();
    cut_anywhere();
    damaged_anywhere();
    right_sum_wrong_content();
    found_twice();
    other_job();
    dry();
    unwritable();
    dir_renew();
    CHECK_INT(in_child(on_full_disk, NULL), 0);
    killed();
    TEST_END();
}
