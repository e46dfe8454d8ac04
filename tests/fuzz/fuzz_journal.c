/*
 * fuzz_journal.c - logs of any content: nothing crashes, and rows that are counted can be read
 * back.
 *
 *   first byte even   the rest is 1.log as it stands
 *   first byte odd    the rest is records, (log 0..3, row, bytes / 8, payload) each, which go into
 *                     logs with right checksums: so that what is behind them is reached too
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"

enum { N_LOGS = 4, N_ROWS = 8 };

static char dir[256], results[300], parts[320];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void remove_dir(void)
{
    rmdir(parts);
    rmdir(dir);
}

static void make_dir(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%.200s/epidote-fuzz-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir) == NULL)
        abort();
    snprintf(results, sizeof results, "%s/r.h5", dir);
    snprintf(parts, sizeof parts, "%s.parts", results);
    if (mkdir(parts, 0700) != 0)
        abort();
    atexit(remove_dir);
}

static void write_log(int i, const void *data, size_t n_bytes)
{
    char path[340];

    snprintf(path, sizeof path, "%s/%d.log", parts, i + 1);
    FILE *file = fopen(path, "wb");
    if (file == NULL || (n_bytes > 0 && fwrite(data, 1, n_bytes, file) != n_bytes) ||
        fclose(file) != 0)
        abort();
}

static void write_records(const uint8_t *data, size_t n_bytes)
{
    struct buf logs[N_LOGS] = {{0}};
    struct journal_log_head heads[N_LOGS];
    size_t at = 0;

    for (int i = 0; i < N_LOGS; i++) {
        heads[i] = (struct journal_log_head){
            .attempt = (uint64_t)i + 1, .rows_end = N_ROWS, .identity = "fuzz = 1\n"};
        if (journal_log_head_pack(&heads[i], &logs[i]) != ST_OK)
            abort();
    }
    while (n_bytes - at >= 3) {
        const int i = data[at] % N_LOGS;
        const uint64_t row = data[at + 1] % (N_ROWS + 1);
        size_t payload_bytes = data[at + 2] * (size_t)8;
        uint8_t payload[256 * 8];

        at += 3;
        if (payload_bytes > n_bytes - at)
            payload_bytes = n_bytes - at;
        memcpy(payload, data + at, payload_bytes);
        if (payload_bytes >= 16) /* the row's number in result_pack's form */
            memcpy(payload + 8, &row, sizeof row);
        at += payload_bytes;
        if (journal_log_record_pack(heads[i].hash, row, payload, payload_bytes, &logs[i]) != ST_OK)
            abort();
    }
    for (int i = 0; i < N_LOGS; i++) {
        write_log(i, logs[i].data, logs[i].n_bytes);
        buf_free(&logs[i]);
    }
}

struct seen {
    uint64_t n_rows, next_row;
};

static enum status see_rows(void *arg, const struct result_row *rows, uint64_t n_rows)
{
    struct seen *seen = arg;

    for (uint64_t i = 0; i < n_rows; i++) {
        if (rows[i].row < seen->next_row || (unsigned)rows[i].reason >= FINISH_COUNT ||
            strlen(rows[i].text) != rows[i].text_bytes)
            abort();
        seen->next_row = rows[i].row + 1;
        seen->n_rows++;
    }
    return ST_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct journal *journal = NULL;
    struct journal_counts counts;
    struct seen seen = {0};
    struct run_status status;
    struct buf text = {0};

    if (n_bytes == 0)
        return 0;
    if (dir[0] == '\0')
        make_dir();
    if (data[0] % 2 == 0)
        write_log(0, data + 1, n_bytes - 1);
    else
        write_records(data + 1, n_bytes - 1);

    if (journal_look(results, &journal) == ST_OK) {
        journal_counts(journal, &counts);
        if (journal_rows(journal, see_rows, &seen) != ST_OK || seen.n_rows != counts.n_done)
            abort();
        journal_close(journal);
        if (status_report(results, &status, &text) != ST_OK || status.n_done != counts.n_done)
            abort();
        buf_free(&text);
    }
    for (int i = 0; i < N_LOGS; i++) {
        char path[340];

        snprintf(path, sizeof path, "%s/%d.log", parts, i + 1);
        if (unlink(path) != 0 && errno != ENOENT)
            abort();
    }
    return 0;
}
