/* TEST */
/* The I/O thread: every row once, in order, within bounds; results kept; errors told; no races. */
#include <signal.h>
#include <sys/resource.h>

#include "journal_test.h"
#include "prompts_test.h"

static char prompts_path[320];

/* A prompt file: row i is "row i" and then n_extra[i % 4] letters. */
static struct prompts *make_prompts(uint64_t n_rows, const size_t n_extra[4])
{
    struct prompts *prompts = NULL;
    char **texts = calloc(n_rows + 1, sizeof *texts);

    snprintf(prompts_path, sizeof prompts_path, "%s/p.h5", test_dir);
    for (uint64_t i = 0; i < n_rows; i++) {
        const size_t cap = 32 + n_extra[i % 4];

        texts[i] = malloc(cap);
        const int n = snprintf(texts[i], cap, "row %llu ", (unsigned long long)i);
        memset(texts[i] + n, 'a' + (int)(i % 26), n_extra[i % 4]);
        texts[i][(size_t)n + n_extra[i % 4]] = '\0';
    }
    const hid_t file = begin_file(prompts_path);
    put_strings(file, "prompt", n_rows, (const char *const *)texts);
    H5Fclose(file);
    for (uint64_t i = 0; i < n_rows; i++)
        free(texts[i]);
    free(texts);
    CHECK_INT(prompts_open(prompts_path, &prompts), ST_OK);
    if (prompts == NULL)
        exit(1);
    return prompts;
}

static struct io *start(struct prompts *prompts, struct journal *journal, size_t queue_bytes,
                        int window_rows, bool longest_first)
{
    struct io *io = NULL;
    const struct io_args args = {.prompts = prompts,
                                 .journal = journal,
                                 .results_path = results,
                                 .longest_first = longest_first,
                                 .queue_bytes = queue_bytes,
                                 .window_rows = window_rows};

    CHECK_INT(io_start(&args, &io), ST_OK);
    if (io == NULL)
        exit(1);
    return io;
}

/* io_next, with patience. */
static enum status next(struct io *io, const struct prompt_row **out_row)
{
    enum status st;

    while ((st = io_next(io, out_row)) == ST_AGAIN)
        clock_sleep_us(50);
    return st;
}

static enum status put_text(struct io *io, uint64_t row, const char *text)
{
    struct buf payload = {0};
    enum status st;

    pack_row(row, text, NULL, 0, &payload);
    while ((st = io_put(io, payload.data, payload.n_bytes)) == ST_AGAIN)
        clock_sleep_us(50);
    buf_free(&payload);
    return st;
}

static void check_text(const struct prompt_row *row)
{
    char want[32];

    snprintf(want, sizeof want, "row %llu ", (unsigned long long)row->row);
    CHECK(strncmp(row->prompt, want, strlen(want)) == 0);
    CHECK_INT(strlen(row->prompt), row->prompt_bytes);
}

/* Rows go through, some stay held for a while; a second start serves only what is left. */
static void every_row_once(void)
{
    enum { N_ROWS = 5000, N_HELD = 7 };
    static const size_t n_extra[4] = {0, 30, 300, 5};
    const struct prompt_row *held[N_HELD] = {NULL}, *row;
    const struct journal_args args = job(10, N_ROWS - 10);
    struct journal_counts counts;

    dir_renew();
    struct prompts *prompts = make_prompts(N_ROWS, n_extra);
    struct journal *journal = open_job(&args);
    struct io *io = start(prompts, journal, 64 << 10, 64, false);
    for (uint64_t want = 10; want < N_ROWS - 10; want++) {
        CHECK_INT(next(io, &row), ST_OK);
        CHECK_INT(row->row, want); /* in the file's order */
        check_text(row);
        const struct prompt_row **slot = &held[want * 7919 % N_HELD];
        if (*slot != NULL)
            io_row_free(io, *slot);
        *slot = row;
        if (want % 3 != 0)
            CHECK_INT(put_text(io, want, NULL), ST_OK);
    }
    CHECK_INT(next(io, &row), ST_END);
    CHECK_INT(next(io, &row), ST_END);
    for (int i = 0; i < N_HELD; i++) {
        if (held[i] != NULL) {
            check_text(held[i]); /* still there, however long ago it was read */
            io_row_free(io, held[i]);
        }
    }
    while (io_n_waiting(io) > 0)
        clock_sleep_us(100);
    io_counts(io, &counts);
    CHECK_INT(counts.n_done, (N_ROWS - 20) - 1660);
    CHECK_INT(io_stop(io), ST_OK);
    journal_close(journal);

    journal = open_job(&args);
    io = start(prompts, journal, 64 << 10, 64, false);
    for (uint64_t want = 12; want < N_ROWS - 10; want += 3) {
        CHECK_INT(next(io, &row), ST_OK);
        CHECK_INT(row->row, want);
        check_text(row);
        io_row_free(io, row);
        CHECK_INT(put_text(io, want, NULL), ST_OK);
    }
    CHECK_INT(next(io, &row), ST_END);
    CHECK_INT(io_stop(io), ST_OK); /* writes what is queued */
    CHECK_INT(counts_of(journal).n_done, N_ROWS - 20);
    CHECK_INT(counts_of(journal).n_records, N_ROWS - 20);
    journal_close(journal);
    CHECK(exists(beside(".status")));

    /* All done: nothing is served. */
    journal = open_job(&args);
    io = start(prompts, journal, 1 << 20, 64, true);
    CHECK_INT(next(io, &row), ST_END);
    CHECK_INT(io_n_waiting(io), 0);
    CHECK_INT(io_stop(io), ST_OK);
    journal_close(journal);
    prompts_close(prompts);
}

static void longest_first(void)
{
    enum { N_ROWS = 100, WINDOW = 32 };
    static const size_t n_extra[4] = {10, 500, 10, 90};
    const struct journal_args args = job(0, N_ROWS);
    const struct prompt_row *row;
    bool seen[N_ROWS] = {false};
    size_t before = 0;
    uint64_t row_before = 0;

    dir_renew();
    struct prompts *prompts = make_prompts(N_ROWS, n_extra);
    struct journal *journal = open_job(&args);
    struct io *io = start(prompts, journal, 1 << 20, WINDOW, true);
    for (uint64_t i = 0; i < N_ROWS; i++) {
        CHECK_INT(next(io, &row), ST_OK);
        CHECK_INT(row->row / WINDOW, i / WINDOW);
        if (i % WINDOW != 0)
            CHECK(row->prompt_bytes < before ||
                  (row->prompt_bytes == before && row->row > row_before));
        before = row->prompt_bytes;
        row_before = row->row;
        CHECK(!seen[row->row]);
        seen[row->row] = true;
        io_row_free(io, row);
    }
    CHECK_INT(next(io, &row), ST_END);
    CHECK_INT(io_stop(io), ST_OK);
    journal_close(journal);
    prompts_close(prompts);
}

/* Windows of large rows are small: reading stops while a queue's worth is held. */
static void bounded_reading(void)
{
    enum { N_ROWS = 400, QUEUE_BYTES = 200 << 10 };
    static const size_t n_extra[4] = {8000, 12000, 10000, 10000};
    const struct journal_args args = job(0, N_ROWS);
    const struct prompt_row *rows[N_ROWS];
    int n = 0;
    enum status st;

    dir_renew();
    struct prompts *prompts = make_prompts(N_ROWS, n_extra);
    struct journal *journal = open_job(&args);
    struct io *io = start(prompts, journal, QUEUE_BYTES, 1024, false);
    /* Taken and never freed: no more than the bound and one window beyond it comes. */
    for (int quiet = 0; quiet < 100;) {
        st = io_next(io, &rows[n]);
        if (st == ST_OK)
            n++;
        quiet = st == ST_OK ? 0 : quiet + 1;
        if (st == ST_AGAIN)
            clock_sleep_us(2000);
    }
    CHECK_INT(st, ST_AGAIN);
    CHECK(n >= 10 && n <= 40);
    for (int i = 0; i < n; i++) {
        check_text(rows[i]);
        io_row_free(io, rows[i]);
    }
    for (; (st = next(io, &rows[0])) == ST_OK; n++)
        io_row_free(io, rows[0]);
    CHECK_INT(st, ST_END);
    CHECK_INT(n, N_ROWS);
    CHECK_INT(io_stop(io), ST_OK);
    journal_close(journal);
    prompts_close(prompts);

    /* A row larger than the queue goes through alone, both ways; unread rows are dropped. */
    static const size_t n_large[4] = {100000, 50000, 70000, 90000};
    const struct journal_args few = job(0, 12);
    char *text = malloc(100001);
    dir_renew();
    prompts = make_prompts(12, n_large);
    journal = open_job(&few);
    io = start(prompts, journal, 10000, 4, false);
    memset(text, 'x', 100000);
    text[100000] = '\0';
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_INT(next(io, &rows[0]), ST_OK);
        CHECK_INT(rows[0]->row, i);
        io_row_free(io, rows[0]);
        CHECK_INT(put_text(io, i, text), ST_OK);
    }
    CHECK_INT(io_stop(io), ST_OK);
    CHECK_INT(counts_of(journal).n_done, 10);
    journal_close(journal);
    prompts_close(prompts);
    free(text);
}

/* io_put says "not now" instead of waiting. */
static void bounded_writing(void)
{
    enum { N_ROWS = 3000 };
    static const size_t n_extra[4] = {0};
    const struct journal_args args = job(0, N_ROWS);
    struct buf payload = {0};
    int n_again = 0;

    dir_renew();
    struct prompts *prompts = make_prompts(N_ROWS, n_extra);
    struct journal *journal = open_job(&args);
    struct io *io = start(prompts, journal, 1000, 16, false);
    for (uint64_t row = 0; row < N_ROWS;) {
        pack_row(row, NULL, NULL, 0, &payload);
        const enum status st = io_put(io, payload.data, payload.n_bytes);

        CHECK(st == ST_OK || st == ST_AGAIN);
        row += st == ST_OK;
        n_again += st == ST_AGAIN;
    }
    CHECK(n_again > 0);
    CHECK_INT(io_stop(io), ST_OK);
    CHECK_INT(counts_of(journal).n_done, N_ROWS);
    journal_close(journal);
    prompts_close(prompts);
    buf_free(&payload);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* A disk that is full while the loop goes on: it is told by put or next, and whole rows are kept.
 */
static void disk_full(void *arg)
{
    enum { N_ROWS = 200 };
    static const size_t n_extra[4] = {0};
    const struct journal_args args = job(0, N_ROWS);
    const struct prompt_row *row;
    struct rlimit limit;
    enum status st = ST_OK;

    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    struct prompts *prompts = make_prompts(N_ROWS, n_extra);
    struct journal *journal = open_job(&args);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){5000, limit.rlim_max});
    struct io *io = start(prompts, journal, 1 << 20, 16, false);
    while (st == ST_OK) {
        st = next(io, &row);
        if (st == ST_OK) {
            st = put_text(io, row->row, NULL);
            io_row_free(io, row);
        }
        clock_sleep_us(200);
    }
    CHECK_INT(st, ST_IO);
    CHECK_HAS(log_last_error(), "free space and run the same command again");
    while (io_n_waiting(io) > 0)
        clock_sleep_us(100);
    CHECK_INT(io_next(io, &row), ST_IO); /* no use in computing more */
    CHECK_INT(put_text(io, 199, NULL), ST_IO);
    CHECK_INT(io_stop(io), ST_IO);
    setrlimit(RLIMIT_FSIZE, &limit);
    const uint64_t n_done = counts_of(journal).n_done;
    CHECK(n_done > 5 && n_done < 50);
    journal_close(journal);
    journal = open_job(&args);
    CHECK_INT(counts_of(journal).n_kept, n_done);
    journal_close(journal);
    prompts_close(prompts);
}

/* A row that the journal refuses ends writing, and io_stop says so even if nobody asked before. */
static void refused_row(void)
{
    static const size_t n_extra[4] = {0};
    const struct journal_args args = job(0, 10);

    dir_renew();
    struct prompts *prompts = make_prompts(20, n_extra);
    struct journal *journal = open_job(&args);
    struct io *io = start(prompts, journal, 1 << 20, 16, false);
    CHECK_INT(put_text(io, 3, NULL), ST_OK);
    (void)put_text(io, 15, NULL);
    CHECK_INT(io_stop(io), ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 15 is not in this job");
    CHECK_INT(counts_of(journal).n_done, 1);
    journal_close(journal);

    /* More rows than the prompt file has. */
    struct io_args io_args = {
        .prompts = prompts, .results_path = results, .queue_bytes = 1000, .window_rows = 4};
    const struct journal_args many = job(0, 30);
    journal = open_job(&many);
    io_args.journal = journal;
    io = NULL;
    CHECK_INT(io_start(&io_args, &io), ST_CONFIG);
    CHECK_HAS(log_last_error(), "rows 0:30 are asked for, and the prompt file has 20");
    CHECK_INT(io_stop(io), ST_OK);
    journal_close(journal);
    prompts_close(prompts);
}

/* The prompt file is cut while it is read: rows read before are served, then comes the error. */
static void prompts_vanish(void)
{
    enum { N_ROWS = 4000 };
    static const size_t n_extra[4] = {2000, 2000, 2000, 2000};
    const struct journal_args args = job(0, N_ROWS);
    const struct prompt_row *row;
    uint64_t n = 0;
    enum status st;

    dir_renew();
    struct prompts *prompts = make_prompts(N_ROWS, n_extra);
    struct journal *journal = open_job(&args);
    struct io *io = start(prompts, journal, 256 << 10, 64, false);
    CHECK_INT(next(io, &row), ST_OK);
    CHECK_INT(truncate(prompts_path, 20000), 0);
    do {
        check_text(row);
        io_row_free(io, row);
        n++;
        st = next(io, &row);
    } while (st == ST_OK);
    CHECK(st == ST_IO || st == ST_FORMAT);
    CHECK(n >= 1 && n < N_ROWS);
    CHECK_HAS(log_last_error(), "p.h5");
    CHECK_INT(put_text(io, 0, NULL), ST_OK); /* what is computed is still kept */
    CHECK_INT(io_stop(io), st);
    CHECK_INT(counts_of(journal).n_done, 1);
    journal_close(journal);
    prompts_close(prompts);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    every_row_once();
    longest_first();
    bounded_reading();
    bounded_writing();
    dir_renew();
    CHECK_INT(in_child(disk_full, NULL), 0);
    refused_row();
    prompts_vanish();
    TEST_END();
}
