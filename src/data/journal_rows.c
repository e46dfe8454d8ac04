/*
 * journal_rows.c - read finished rows back in order of their number, from the logs and from
 * RESULTS.
 *
 * Rows finish in any order, so their records lie anywhere.  A window of rows that come to at most
 * WINDOW_BYTES is taken in order of row, read in order of file and byte, and handed on in order of
 * row: memory does not grow with the job, and each log is read nearly from start to end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"
#include "data/result_file.h"

#define WINDOW_BYTES (UINT64_C(32) << 20)

enum { WINDOW_ROWS = 32768 };

/* One row of a window: where it is and which of the window's rows it becomes. */
struct want {
    struct journal_place place;
    uint32_t i;
    uint64_t row;
};

struct window {
    struct journal *journal;     /* borrowed */
    struct result_file *results; /* owned; NULL unless RESULTS holds some */
    uint64_t results_row_bytes;  /* of a row in RESULTS, about */
    struct arena *arena;         /* owned; what rows point to */
    struct want *wants;          /* owned [WINDOW_ROWS] */
    struct result_row *rows;     /* owned [WINDOW_ROWS] */
    struct result_row *run;      /* owned [WINDOW_ROWS]; rows of RESULTS that stand together */
};

static int compare_places(const void *a, const void *b)
{
    const struct want *x = a, *y = b;
    const uint32_t xs = x->place.where & PLACE_SOURCE, ys = y->place.where & PLACE_SOURCE;

    if (xs != ys)
        return (xs > ys) - (xs < ys);
    return (x->place.offset > y->place.offset) - (x->place.offset < y->place.offset);
}

enum status journal_read_record(const struct journal_file *file, int fd,
                                const struct journal_place *place, uint64_t row, void *memory,
                                struct result_row *out_row)
{
    const size_t n_bytes = (size_t)journal_log_record_bytes(place->n_bytes);
    struct journal_record record;
    size_t done = 0;

    while (done < n_bytes) {
        const ssize_t n =
            pread(fd, (uint8_t *)memory + done, n_bytes - done, (off_t)(place->offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log_error("%s: byte %llu: cannot read the record of row %llu: %s", file->path,
                      (unsigned long long)place->offset, (unsigned long long)row, strerror(errno));
            return ST_IO;
        }
        if (n == 0)
            break;
        done += (size_t)n;
    }
    if (journal_log_record_unpack(file->hash, memory, done, &record) != ST_OK ||
        record.row != row || result_unpack(record.payload, record.n_bytes, out_row) != ST_OK ||
        out_row->row != row) {
        log_error("%s: byte %llu: the record of row %llu has changed since it was written: run the "
                  "same command again, and what is damaged is computed again",
                  file->path, (unsigned long long)place->offset, (unsigned long long)row);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* Records of one log: wants [n]. */
static enum status read_log(struct window *window, const struct want *wants, size_t n)
{
    enum status st = ST_OK;
    const struct journal_file *file =
        &window->journal->files[(wants[0].place.where & PLACE_SOURCE) - 1];
    const int fd = open(file->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        log_error("%s: cannot open: %s", file->path, strerror(errno));
        return ST_IO;
    }
    for (size_t k = 0; k < n; k++) {
        void *memory =
            arena_alloc(window->arena, (size_t)journal_log_record_bytes(wants[k].place.n_bytes));

        if (memory == NULL) {
            st = ST_NOMEM;
            goto err;
        }
        TRY(journal_read_record(file, fd, &wants[k].place, wants[k].row, memory,
                                &window->rows[wants[k].i]),
            err);
    }
err:
    close(fd);
    return st;
}

/* Rows of RESULTS: wants [n], those that stand together read together. */
static enum status read_results(struct window *window, const struct want *wants, size_t n)
{
    enum status st = ST_OK;

    for (size_t first = 0, end; first < n; first = end) {
        const uint64_t at = wants[first].place.offset;

        for (end = first + 1; end < n && wants[end].place.offset == at + (end - first);)
            end++;
        TRY(result_file_read(window->results, at, end - first, window->arena, window->run, NULL),
            err);
        for (size_t k = first; k < end; k++)
            window->rows[wants[k].i] = window->run[k - first];
    }
err:
    return st;
}

/* The next window from row *first on; moves *first behind it. */
static enum status read_window(struct window *window, uint64_t *first, uint32_t *out_n)
{
    enum status st = ST_OK;
    struct journal *journal = window->journal;
    uint64_t row = *first, n_bytes = 0;
    uint32_t n = 0;

    for (; row < journal->rows_end && n < WINDOW_ROWS; row++) {
        const struct journal_place place = journal->places[row - journal->rows_begin];
        const uint64_t more = (place.where & PLACE_SOURCE) == PLACE_RESULTS
                                  ? window->results_row_bytes
                                  : journal_log_record_bytes(place.n_bytes);

        if (place.where == 0)
            continue;
        if (n > 0 && n_bytes + more > WINDOW_BYTES)
            break;
        window->wants[n] = (struct want){.place = place, .i = n, .row = row};
        n_bytes += more;
        n++;
    }
    *first = row;
    *out_n = n;
    if (n == 0)
        return ST_OK;
    qsort(window->wants, n, sizeof *window->wants, compare_places);
    arena_reset(window->arena);
    for (uint32_t begin = 0, end; begin < n; begin = end) {
        const uint32_t source = window->wants[begin].place.where & PLACE_SOURCE;

        for (end = begin + 1; end < n && (window->wants[end].place.where & PLACE_SOURCE) == source;)
            end++;
        if (source == PLACE_RESULTS)
            TRY(read_results(window, window->wants + begin, end - begin), err);
        else
            TRY(read_log(window, window->wants + begin, end - begin), err);
    }
err:
    return st;
}

enum status journal_rows(struct journal *journal, journal_rows_fn fn, void *arg)
{
    enum status st = ST_NOMEM;
    struct stat facts;
    struct window window = {.journal = journal};

    if (journal->places == NULL)
        return ST_OK;
    window.wants = host_alloc(WINDOW_ROWS * sizeof *window.wants);
    window.rows = host_alloc(WINDOW_ROWS * sizeof *window.rows);
    window.run = host_alloc(WINDOW_ROWS * sizeof *window.run);
    if (window.wants == NULL || window.rows == NULL || window.run == NULL)
        goto err;
    TRY(arena_create(1 << 20, &window.arena), err);
    if (journal->has_results) {
        TRY(result_file_open(journal->results, &window.results), err);
        const struct result_file_info *info = result_file_info(window.results);
        const uint64_t n = info->rows_end - info->rows_begin;

        window.results_row_bytes =
            n > 0 && stat(journal->results, &facts) == 0 ? (uint64_t)facts.st_size / n + 1 : 1;
    }
    for (uint64_t row = journal->rows_begin; row < journal->rows_end;) {
        uint32_t n = 0;

        TRY(read_window(&window, &row, &n), err);
        if (n > 0)
            TRY(fn(arg, window.rows, n), err);
    }
    st = ST_OK;
err:
    result_file_close(window.results);
    arena_destroy(window.arena);
    host_free(window.run);
    host_free(window.rows);
    host_free(window.wants);
    return st;
}
