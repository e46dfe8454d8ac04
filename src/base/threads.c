/*
 * threads.c - a pool of threads that run numbered tasks.
 *
 * The caller hands out a batch of tasks and works on it too; tasks are drawn from one counter.  A
 * decode step makes some 200 such batches, so waiting threads spin for a few microseconds before
 * they sleep on a futex; with more threads than cores they sleep at once.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/base.h"

enum { SPIN_TURNS = 4000, CACHE_LINE = 64 };

struct worker {
    struct threads *threads; /* borrowed */
    pthread_t thread;
    int index;
};

struct threads {
    int n_threads, n_started;
    int spin_turns;
    struct worker *workers; /* [n_threads - 1] owned */
    threads_fn fn;
    void *arg;
    int n_tasks;
    _Alignas(CACHE_LINE) atomic_uint batch; /* futex: goes up with every batch */
    _Alignas(CACHE_LINE) atomic_int next_task;
    _Alignas(CACHE_LINE)
        atomic_uint n_working; /* futex: workers that have not finished the batch */
    atomic_bool stop;
};

static void futex_wait(atomic_uint *word, unsigned seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void spin_pause(void)
{
#if defined(__x86_64__)
    _mm_pause();
#endif
}

void threads_set_numeric_mode(void)
{
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u); /* FTZ, DAZ */
#else
#error "the numerics of this program are defined for x86-64 only"
#endif
}

int threads_default_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

int threads_count(const struct threads *threads)
{
    return threads->n_threads;
}

static void run_tasks(struct threads *threads, int thread)
{
    for (;;) {
        const int task = atomic_fetch_add_explicit(&threads->next_task, 1, memory_order_relaxed);

        if (task >= threads->n_tasks)
            return;
        threads->fn(threads->arg, task, thread);
    }
}

/* Wait until *word is no longer `seen`. */
static void wait_change(struct threads *threads, atomic_uint *word, unsigned seen)
{
    for (int turn = 0; turn < threads->spin_turns; turn++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen)
            return;
        spin_pause();
    }
    while (atomic_load_explicit(word, memory_order_acquire) == seen)
        futex_wait(word, seen);
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;
    struct threads *threads = self->threads;
    unsigned seen = 0;

    threads_set_numeric_mode();
    for (;;) {
        wait_change(threads, &threads->batch, seen);
        seen++;
        if (atomic_load(&threads->stop))
            return NULL;
        run_tasks(threads, self->index);
        if (atomic_fetch_sub_explicit(&threads->n_working, 1, memory_order_acq_rel) == 1)
            futex_wake(&threads->n_working);
    }
}

enum status threads_create(int n_threads, struct threads **out_threads)
{
    /* aligned_alloc, because malloc does not honour the alignment of the counters */
    const size_t bytes = (sizeof(struct threads) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct threads *threads = aligned_alloc(CACHE_LINE, bytes);

    if (threads == NULL) {
        log_error("no memory for a pool of %d threads", n_threads);
        return ST_NOMEM;
    }
    memset(threads, 0, bytes);
    threads->n_threads = n_threads;
    threads->n_started = 1;
    threads->spin_turns = n_threads <= threads_default_count() ? SPIN_TURNS : 0;
    threads->workers = host_zalloc((size_t)n_threads * sizeof *threads->workers);
    if (threads->workers == NULL) {
        host_free(threads);
        return ST_NOMEM;
    }
    threads_set_numeric_mode();
    for (int i = 0; i < n_threads - 1; i++) {
        struct worker *worker = &threads->workers[i];

        *worker = (struct worker){.threads = threads, .index = i + 1};
        const int error = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (error != 0) {
            log_error("cannot start thread %d of %d: %s", i + 1, n_threads, strerror(error));
            threads_destroy(threads);
            return ST_IO;
        }
        threads->n_started++;
    }
    *out_threads = threads;
    return ST_OK;
}

void threads_destroy(struct threads *threads)
{
    if (threads == NULL)
        return;
    atomic_store(&threads->stop, true);
    atomic_fetch_add(&threads->batch, 1);
    futex_wake(&threads->batch);
    for (int i = 0; i < threads->n_started - 1; i++)
        pthread_join(threads->workers[i].thread, NULL);
    host_free(threads->workers);
    host_free(threads);
}

void threads_run(struct threads *threads, int n_tasks, threads_fn fn, void *arg)
{
    if (threads->n_threads == 1 || n_tasks <= 1) {
        for (int task = 0; task < n_tasks; task++)
            fn(arg, task, 0);
        return;
    }
    threads->fn = fn;
    threads->arg = arg;
    threads->n_tasks = n_tasks;
    atomic_store_explicit(&threads->next_task, 0, memory_order_relaxed);
    atomic_store_explicit(&threads->n_working, (unsigned)threads->n_threads - 1,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&threads->batch, 1, memory_order_release);
    futex_wake(&threads->batch);
    run_tasks(threads, 0);
    for (unsigned left;
         (left = atomic_load_explicit(&threads->n_working, memory_order_acquire)) != 0;)
        wait_change(threads, &threads->n_working, left);
}
