/*
 * io.c - the loop's side of struct io, and the thread that reads prompts and writes results, so
 * that the loop never waits for a file.
 *
 *   prompts ──read──► windows ──io_next──► loop ──io_put──► queue ──append──► journal
 *                     (bytes, rows)                         (bytes)
 *
 * One mutex guards everything that both sides see; it is never held while a file is touched, so the
 * loop waits for a few instructions at most.  Prompts and journal belong to the thread alone.  Both
 * directions are bounded: the thread stops reading when enough rows wait, io_put says ST_AGAIN when
 * enough results do.  An error ends its direction for good and is kept for whoever asks.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "data/journal.h"

#define STATUS_S 2.0

enum {
    BATCH_ROWS = 128,     /* rows asked of the file at once, at most */
    WINDOWS = 4,          /* of full size that a queue holds */
    FIRST_BATCH_ROWS = 8, /* while nothing is known of their size */
    ARENA_CHUNK_BYTES = 1 << 18,
};

/* Rows that were read together and are freed together. */
struct window {
    struct window *next;     /* older to newer */
    struct arena *arena;     /* owned; holds what rows point to */
    struct prompt_row *rows; /* in arena, [n_rows] */
    int *order;              /* in arena, [n_rows]; in which they are handed out */
    int n_rows, n_given, n_freed;
    size_t n_bytes; /* of text and tokens */
};

/* A finished row on its way to the journal; malloc'ed, so the payload is aligned. */
struct result {
    struct result *next;
    size_t n_bytes; /* of payload */
    uint64_t payload[];
};

struct io_thread {
    struct io base;
    struct io_args args;
    char *results_path; /* owned */
    struct background *thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake; /* there is something for the thread to do */

    /* Guarded by mutex. */
    struct window *oldest, *newest, *giving; /* giving: the first with rows to hand out */
    size_t windows_bytes;
    int n_ready; /* rows that were read and not handed out */
    struct result *first, **last;
    size_t results_bytes; /* queued, or being written */
    int n_results;        /* likewise */
    struct journal_counts counts;
    enum status read_st, write_st; /* ST_OK, ST_END (read_st only), or the error that ended it */
    bool stopping;

    /* The thread's own. */
    uint64_t next_row;
    size_t row_bytes; /* of a row, by the last batch */
    int batch_rows;
    double status_due_s;
    bool status_written, status_failed;
};

static struct io_thread *self_of(struct io *io)
{
    return (struct io_thread *)io;
}

/* ---- reading --------------------------------------------------------------------------------- */

static size_t prompt_bytes(const struct prompt_row *row)
{
    return row->prompt_bytes + row->messages_bytes + (size_t)row->n_tokens * sizeof *row->tokens;
}

static void window_destroy(struct window *window)
{
    if (window == NULL)
        return;
    arena_destroy(window->arena);
    host_free(window);
}

static enum status window_create(int n_rows, struct window **out_window)
{
    enum status st = ST_NOMEM;
    struct window *window = host_zalloc(sizeof *window);

    if (window == NULL)
        return ST_NOMEM;
    TRY(arena_create(ARENA_CHUNK_BYTES, &window->arena), err);
    window->rows = arena_alloc(window->arena, (size_t)n_rows * sizeof *window->rows);
    window->order = arena_alloc(window->arena, (size_t)n_rows * sizeof *window->order);
    if (window->rows == NULL || window->order == NULL) {
        st = ST_NOMEM;
        goto err;
    }
    *out_window = window;
    return ST_OK;
err:
    window_destroy(window);
    return st;
}

/* The longest first; the rest of the order is the file's. */
static int compare_rows(const void *a, const void *b, void *arg)
{
    const struct prompt_row *rows = arg, *x = &rows[*(const int *)a], *y = &rows[*(const int *)b];
    const size_t xn = prompt_bytes(x), yn = prompt_bytes(y);

    if (xn != yn)
        return (xn < yn) - (xn > yn);
    return (x->row > y->row) - (x->row < y->row);
}

/* How many of the next rows to ask the file for: they are not done, and are about room_bytes. */
static int next_batch(const struct io_thread *io, uint64_t rows_end, int room_rows,
                      size_t room_bytes)
{
    const size_t fit = room_bytes / (io->row_bytes > 0 ? io->row_bytes : 1);
    int n = io->batch_rows < room_rows ? io->batch_rows : room_rows;

    if ((size_t)n > fit)
        n = fit > 0 ? (int)fit : 1;
    for (int i = 0; i < n; i++)
        if (io->next_row + (uint64_t)i == rows_end ||
            journal_row_done(io->args.journal, io->next_row + (uint64_t)i))
            return i;
    return n;
}

/* The next window of rows that are not done; NULL at the end of the rows. */
static enum status read_window(struct io_thread *io, struct window **out_window)
{
    enum status st = ST_OK;
    struct window *window = NULL;
    const uint64_t rows_end = io->args.journal->rows_end;
    const size_t most_bytes = io->args.queue_bytes / WINDOWS;

    *out_window = NULL;
    while (io->next_row < rows_end && journal_row_done(io->args.journal, io->next_row))
        io->next_row++;
    if (io->next_row >= rows_end)
        return ST_OK;
    TRY(window_create(io->args.window_rows, &window), err);
    while (window->n_rows < io->args.window_rows && window->n_bytes < most_bytes) {
        struct prompt_row *rows = window->rows + window->n_rows;
        const int n = next_batch(io, rows_end, io->args.window_rows - window->n_rows,
                                 most_bytes - window->n_bytes);
        size_t n_bytes = 0;

        if (n > 0)
            TRY(prompts_read(io->args.prompts, io->next_row, (uint64_t)n, window->arena, rows),
                err);
        for (int i = 0; i < n; i++) {
            window->order[window->n_rows + i] = window->n_rows + i;
            n_bytes += prompt_bytes(&rows[i]);
        }
        window->n_rows += n;
        window->n_bytes += n_bytes;
        io->next_row += (uint64_t)n;
        if (n > 0) {
            io->row_bytes = n_bytes / (size_t)n;
            io->batch_rows = 2 * n < BATCH_ROWS ? 2 * n : BATCH_ROWS;
        }
        while (io->next_row < rows_end && journal_row_done(io->args.journal, io->next_row))
            io->next_row++;
        if (io->next_row >= rows_end)
            break;
    }
    if (io->args.longest_first)
        qsort_r(window->order, (size_t)window->n_rows, sizeof *window->order, compare_rows,
                window->rows);
    *out_window = window;
    return ST_OK;
err:
    window_destroy(window);
    return st;
}

/* Called with the mutex. */
static bool wants_to_read(const struct io_thread *io)
{
    return io->read_st == ST_OK && io->write_st == ST_OK && !io->stopping &&
           io->n_ready < io->args.window_rows &&
           (io->oldest == NULL ||
            io->windows_bytes <= io->args.queue_bytes - io->args.queue_bytes / WINDOWS);
}

/* Called with the mutex; lets go of it meanwhile. */
static void read_rows(struct io_thread *io)
{
    struct window *window = NULL;

    pthread_mutex_unlock(&io->mutex);
    const enum status st = read_window(io, &window);
    pthread_mutex_lock(&io->mutex);
    io->read_st = st == ST_OK && window == NULL ? ST_END : st;
    if (window == NULL)
        return;
    if (io->newest != NULL)
        io->newest->next = window;
    else
        io->oldest = window;
    io->newest = window;
    if (io->giving == NULL)
        io->giving = window;
    io->windows_bytes += window->n_bytes;
    io->n_ready += window->n_rows;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void results_free(struct result *first)
{
    while (first != NULL) {
        struct result *next = first->next;

        host_free(first);
        first = next;
    }
}

/* Called with the mutex; lets go of it meanwhile. */
static void write_results(struct io_thread *io)
{
    enum status st = io->write_st;
    struct result *const first = io->first;
    size_t n_bytes = 0;
    int n = 0;

    io->first = NULL;
    io->last = &io->first;
    pthread_mutex_unlock(&io->mutex);
    for (struct result *result = first; result != NULL; result = result->next) {
        n_bytes += sizeof *result + result->n_bytes;
        n++;
        if (st == ST_OK)
            st = journal_append(io->args.journal, result->payload, result->n_bytes);
    }
    results_free(first);
    pthread_mutex_lock(&io->mutex);
    io->results_bytes -= n_bytes;
    io->n_results -= n;
    io->write_st = st;
    journal_counts(io->args.journal, &io->counts);
}

/* RESULTS.status, for `epidote status` of a job that runs. */
static void write_status(struct io_thread *io)
{
    struct journal_counts counts;
    struct run_status status = {.outcome = OUTCOME_RUNNING}, told;

    if (io->status_failed)
        return;
    /* Peers of a process that was stopped for long give it up, and say so here: that stands. */
    if (io->status_written && status_read(io->results_path, &told) == ST_OK &&
        told.outcome != OUTCOME_RUNNING)
        return;
    io->status_written = true;
    status.elapsed_s = clock_now_s();
    journal_counts(io->args.journal, &counts);
    status.n_rows = counts.n_rows;
    status.n_done = counts.n_done;
    status.n_failed = counts.n_failed;
    status.n_attempts = counts.n_attempts;
    status.n_records = counts.n_records;
    if (status.elapsed_s > 0)
        status.rows_per_s = (double)(counts.n_done - counts.n_kept) / status.elapsed_s;
    /* Not worth the job: what counts is in the journal. */
    if (status_write(io->results_path, &status) != ST_OK) {
        log_warn("%s.status: is not kept up to date from here on; the job goes on",
                 io->results_path);
        io->status_failed = true;
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void wait_until(struct io_thread *io, double due_s)
{
    struct timespec until;
    const double wait_s = due_s - clock_now_s();

    if (wait_s <= 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const double at_s = (double)until.tv_nsec * 1e-9 + wait_s;
    until.tv_sec += (time_t)at_s;
    until.tv_nsec = (long)((at_s - (double)(time_t)at_s) * 1e9);
    pthread_cond_timedwait(&io->wake, &io->mutex, &until);
}

/* What io_stop returns. */
static enum status run(void *arg)
{
    struct io_thread *io = arg;

    pthread_mutex_lock(&io->mutex);
    for (;;) {
        if (clock_now_s() >= io->status_due_s) {
            pthread_mutex_unlock(&io->mutex);
            write_status(io);
            const enum status st = journal_sync_if_due(io->args.journal);
            io->status_due_s = clock_now_s() + STATUS_S;
            pthread_mutex_lock(&io->mutex);
            io->write_st = io->write_st != ST_OK ? io->write_st : st;
        }
        if (io->first != NULL)
            write_results(io);
        else if (wants_to_read(io))
            read_rows(io);
        else if (io->stopping)
            break;
        else
            wait_until(io, io->status_due_s);
    }
    pthread_mutex_unlock(&io->mutex);

    const enum status st = journal_sync(io->args.journal);
    io->write_st = io->write_st != ST_OK ? io->write_st : st;
    write_status(io);
    return io->write_st != ST_OK ? io->write_st : io->read_st != ST_END ? io->read_st : ST_OK;
}

/* ---- the thread's queues, from the loop's side ----------------------------------------------- */

static enum status queue_next(struct io *base, const struct prompt_row **out_row)
{
    struct io_thread *io = self_of(base);
    enum status st = ST_OK;

    pthread_mutex_lock(&io->mutex);
    struct window *window = io->giving;
    if (io->write_st != ST_OK) {
        st = io->write_st; /* what cannot be kept need not be computed */
    } else if (window != NULL) {
        *out_row = &window->rows[window->order[window->n_given++]];
        io->n_ready--;
        if (window->n_given == window->n_rows)
            io->giving = window->next;
    } else {
        st = io->read_st == ST_OK ? ST_AGAIN : io->read_st;
    }
    if (wants_to_read(io))
        pthread_cond_signal(&io->wake);
    pthread_mutex_unlock(&io->mutex);
    return st;
}

static void queue_row_free(struct io *base, const struct prompt_row *row)
{
    struct io_thread *io = self_of(base);
    struct window *window, *before = NULL, *gone = NULL;

    pthread_mutex_lock(&io->mutex);
    for (window = io->oldest; window != NULL; before = window, window = window->next)
        if (row >= window->rows && row < window->rows + window->n_rows)
            break;
    assert(window != NULL && window->n_freed < window->n_given);
    if (++window->n_freed == window->n_rows) {
        gone = window;
        if (before != NULL)
            before->next = window->next;
        else
            io->oldest = window->next;
        if (io->newest == window)
            io->newest = before;
        io->windows_bytes -= window->n_bytes;
        if (wants_to_read(io))
            pthread_cond_signal(&io->wake);
    }
    pthread_mutex_unlock(&io->mutex);
    window_destroy(gone);
}

static enum status queue_put(struct io *base, const void *payload, size_t n_bytes)
{
    struct io_thread *io = self_of(base);
    enum status st;
    struct result *result = NULL;
    const size_t queue_bytes = sizeof *result + n_bytes;

    result = host_alloc(queue_bytes);
    if (result == NULL)
        return ST_NOMEM;
    result->next = NULL;
    result->n_bytes = n_bytes;
    memcpy(result->payload, payload, n_bytes);

    pthread_mutex_lock(&io->mutex);
    st = io->write_st;
    if (st == ST_OK && io->results_bytes > 0 &&
        io->results_bytes + queue_bytes > io->args.queue_bytes)
        st = ST_AGAIN;
    if (st == ST_OK) {
        *io->last = result;
        io->last = &result->next;
        io->results_bytes += queue_bytes;
        io->n_results++;
        pthread_cond_signal(&io->wake);
    }
    pthread_mutex_unlock(&io->mutex);
    if (st != ST_OK)
        host_free(result);
    return st;
}

static int queue_n_waiting(struct io *base)
{
    struct io_thread *io = self_of(base);

    pthread_mutex_lock(&io->mutex);
    const int n_waiting = io->n_results;
    pthread_mutex_unlock(&io->mutex);
    return n_waiting;
}

static void queue_counts(struct io *base, struct journal_counts *out_counts)
{
    struct io_thread *io = self_of(base);

    pthread_mutex_lock(&io->mutex);
    *out_counts = io->counts;
    pthread_mutex_unlock(&io->mutex);
}

static const struct io_ops thread_ops = {
    .next = queue_next,
    .row_free = queue_row_free,
    .put = queue_put,
    .n_waiting = queue_n_waiting,
    .counts = queue_counts,
};

/* ---- start, stop ----------------------------------------------------------------------------- */

static void destroy(struct io_thread *io)
{
    for (struct window *window = io->oldest; window != NULL;) {
        struct window *next = window->next;

        window_destroy(window);
        window = next;
    }
    results_free(io->first);
    pthread_cond_destroy(&io->wake);
    pthread_mutex_destroy(&io->mutex);
    host_free(io->results_path);
    host_free(io);
}

enum status io_start(const struct io_args *args, struct io **out_io)
{
    pthread_condattr_t attr;
    const uint64_t n_rows = prompts_info(args->prompts)->n_rows;

    assert(args->window_rows > 0 && args->queue_bytes > 0);
    if (args->journal->rows_end > n_rows) {
        log_error("%s: rows %llu:%llu are asked for, and the prompt file has %llu: change `rows`",
                  args->results_path, (unsigned long long)args->journal->rows_begin,
                  (unsigned long long)args->journal->rows_end, (unsigned long long)n_rows);
        return ST_CONFIG;
    }
    struct io_thread *io = host_zalloc(sizeof *io);
    if (io == NULL)
        return ST_NOMEM;
    io->base.ops = &thread_ops;
    io->args = *args;
    io->last = &io->first;
    io->next_row = args->journal->rows_begin;
    io->batch_rows = FIRST_BATCH_ROWS;
    journal_counts(args->journal, &io->counts);
    pthread_mutex_init(&io->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* the clock that wait_until uses */
    pthread_cond_init(&io->wake, &attr);
    pthread_condattr_destroy(&attr);
    io->results_path = host_strdup(args->results_path);
    const enum status st =
        io->results_path != NULL ? background_start(run, io, &io->thread) : ST_NOMEM;
    if (st != ST_OK) {
        destroy(io);
        return st;
    }
    *out_io = &io->base;
    return ST_OK;
}

enum status io_stop(struct io *base)
{
    if (base == NULL)
        return ST_OK;
    assert(base->ops == &thread_ops);
    struct io_thread *io = self_of(base);
    pthread_mutex_lock(&io->mutex);
    io->stopping = true;
    pthread_cond_signal(&io->wake);
    pthread_mutex_unlock(&io->mutex);
    const enum status st = background_join(io->thread);
    destroy(io);
    return st;
}

/* ---- every struct io ------------------------------------------------------------------------- */

enum status io_next(struct io *io, const struct prompt_row **out_row)
{
    return io->ops->next(io, out_row);
}

void io_row_free(struct io *io, const struct prompt_row *row)
{
    io->ops->row_free(io, row);
}

enum status io_put(struct io *io, const void *payload, size_t n_bytes)
{
    return io->ops->put(io, payload, n_bytes);
}

int io_n_waiting(struct io *io)
{
    return io->ops->n_waiting(io);
}

void io_counts(struct io *io, struct journal_counts *out_counts)
{
    io->ops->counts(io, out_counts);
}
