/*
 * journal_test.h - rows, logs and folders for the tests of journal, lock, merge, status and io.
 */
#ifndef EPIDOTE_JOURNAL_TEST_H
#define EPIDOTE_JOURNAL_TEST_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "data/journal.h"
#include "test.h"

#define IDENTITY "temperature = 0\nmodel = 1234\nprompts = 77\n"

static char test_dir[256];
static char results[320]; /* test_dir/r.h5 */

static int remove_entry(const char *path, const struct stat *facts, int type, struct FTW *where)
{
    (void)facts, (void)type, (void)where;
    return remove(path);
}

static void dir_remove(void)
{
    nftw(test_dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* An empty folder; the one before it is gone. */
static inline void dir_renew(void)
{
    const char *base = getenv("TMPDIR");

    if (test_dir[0] != '\0')
        dir_remove();
    else
        atexit(dir_remove);
    snprintf(test_dir, sizeof test_dir, "%.200s/epidote-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(test_dir) == NULL) {
        perror(test_dir);
        exit(1);
    }
    snprintf(results, sizeof results, "%s/r.h5", test_dir);
}

/* A path beside RESULTS, in one of a few buffers that take turns. */
static inline const char *beside(const char *suffix)
{
    static char paths[4][400];
    static int turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s%s", results, suffix);
    return path;
}

static inline bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Names in a folder; 0 if it is not there. */
static inline int dir_entries(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);

    if (dir == NULL)
        return 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* What a model might have answered to a row; as an error if `error` says one. */
static inline void pack_row(uint64_t row, const char *text, const char *error, float queue_s,
                            struct buf *out)
{
    int32_t tokens[5];
    float logprobs[5];
    char own[64];
    const int n = (int)(row % 5);

    for (int i = 0; i < n; i++) {
        tokens[i] = (int32_t)(row * 31 + (uint64_t)i);
        logprobs[i] = -0.5f * (float)i - (float)row;
    }
    snprintf(own, sizeof own, "answer to %llu", (unsigned long long)row);
    text = error != NULL ? "" : text != NULL ? text : own;
    const struct result_row result = {
        .row = row,
        .reason = error != NULL ? FINISH_ERROR
                  : row % 2     ? FINISH_STOP
                                : FINISH_LENGTH,
        .text = text,
        .text_bytes = strlen(text),
        .error = error != NULL ? error : "",
        .error_bytes = error != NULL ? strlen(error) : 0,
        .tokens = tokens,
        .n_tokens = error != NULL ? 0 : n,
        .prompt_len = (int)(row % 100),
        .has_logprobs = true,
        .logprobs = logprobs,
        .timing = {.queue_s = queue_s},
    };

    buf_reset(out);
    CHECK_INT(result_pack(&result, out), ST_OK);
}

static inline struct journal_args job(uint64_t rows_begin, uint64_t rows_end)
{
    return (struct journal_args){.results_path = results,
                                 .identity = IDENTITY,
                                 .rows_begin = rows_begin,
                                 .rows_end = rows_end};
}

static inline struct journal *open_job(const struct journal_args *args)
{
    struct journal *journal = NULL;

    CHECK_INT(journal_open(args, &journal), ST_OK);
    if (journal == NULL)
        exit(1); /* nothing after this makes sense */
    return journal;
}

/* Open, expect a refusal. */
static inline enum status try_job(const struct journal_args *args)
{
    struct journal *journal = NULL;
    const enum status st = journal_open(args, &journal);

    journal_close(journal);
    return st;
}

static inline void append_error(struct journal *journal, uint64_t row, const char *error)
{
    struct buf payload = {0};

    pack_row(row, NULL, error, 0, &payload);
    CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_OK);
    buf_free(&payload);
}

static inline void append_rows(struct journal *journal, uint64_t begin, uint64_t end)
{
    for (uint64_t row = begin; row < end; row++)
        append_error(journal, row, NULL);
}

static inline struct journal_counts counts_of(const struct journal *journal)
{
    struct journal_counts counts;

    journal_counts(journal, &counts);
    return counts;
}

/* One record of a log that a test writes by hand. */
struct test_record {
    uint64_t row;
    const char *text, *error; /* NULL: the row's own answer */
    float queue_s;
};

static inline void write_file(const char *path, const void *data, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");

    CHECK(file != NULL && fwrite(data, 1, n_bytes, file) == n_bytes);
    if (file != NULL)
        fclose(file);
}

static inline void write_log(uint64_t attempt, const char *identity, uint64_t rows_begin,
                             uint64_t rows_end, const struct test_record *records, int n)
{
    struct buf file = {0}, payload = {0};
    struct journal_log_head head = {
        .attempt = attempt, .rows_begin = rows_begin, .rows_end = rows_end, .identity = identity};
    char name[64];

    CHECK_INT(journal_log_head_pack(&head, &file), ST_OK);
    for (int i = 0; i < n; i++) {
        pack_row(records[i].row, records[i].text, records[i].error, records[i].queue_s, &payload);
        CHECK_INT(journal_log_record_pack(head.hash, records[i].row, payload.data, payload.n_bytes,
                                          &file),
                  ST_OK);
    }
    mkdir(beside(".parts"), 0777);
    snprintf(name, sizeof name, ".parts/%llu.log", (unsigned long long)attempt);
    write_file(beside(name), file.data, file.n_bytes);
    buf_free(&payload);
    buf_free(&file);
}

/* Run fn in a process of its own, which ends without any cleaning up.  Returns its exit status. */
static inline int in_child(void (*fn)(void *arg), void *arg)
{
    int status = 0;
    const pid_t pid = fork();

    if (pid == 0) {
        test_n_failed = 0;
        fn(arg);
        _exit(test_n_failed > 0);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
