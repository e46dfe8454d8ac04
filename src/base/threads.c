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
    struct threads *pool; /* borrowed */
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

static void run_tasks(struct threads *pool, int thread)
{
    for (;;) {
        const int task = atomic_fetch_add_explicit(&pool->next_task, 1, memory_order_relaxed);

        if (task >= pool->n_tasks)
            return;
        pool->fn(pool->arg, task, thread);
    }
}

/* Wait until *word is no longer `seen`. */
static void wait_change(struct threads *pool, atomic_uint *word, unsigned seen)
{
    for (int turn = 0; turn < pool->spin_turns; turn++) {
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
    struct threads *pool = self->pool;
    unsigned seen = 0;

    threads_set_numeric_mode();
    for (;;) {
        wait_change(pool, &pool->batch, seen);
        seen++;
        if (atomic_load(&pool->stop))
            return NULL;
        run_tasks(pool, self->index);
        if (atomic_fetch_sub_explicit(&pool->n_working, 1, memory_order_acq_rel) == 1)
            futex_wake(&pool->n_working);
    }
}

enum status threads_create(int n_threads, struct threads **out_threads)
{
    /* aligned_alloc, because malloc does not honour the alignment of the counters */
    const size_t bytes = (sizeof(struct threads) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct threads *pool = aligned_alloc(CACHE_LINE, bytes);

    if (pool == NULL) {
        log_error("no memory for a pool of %d threads", n_threads);
        return ST_NOMEM;
    }
    memset(pool, 0, bytes);
    pool->n_threads = n_threads;
    pool->n_started = 1;
    pool->spin_turns = n_threads <= threads_default_count() ? SPIN_TURNS : 0;
    pool->workers = host_zalloc((size_t)n_threads * sizeof *pool->workers);
    if (pool->workers == NULL) {
        host_free(pool);
        return ST_NOMEM;
    }
    threads_set_numeric_mode();
    for (int i = 0; i < n_threads - 1; i++) {
        struct worker *worker = &pool->workers[i];

        *worker = (struct worker){.pool = pool, .index = i + 1};
        const int error = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (error != 0) {
            log_error("cannot start thread %d of %d: %s", i + 1, n_threads, strerror(error));
            threads_destroy(pool);
            return ST_IO;
        }
        pool->n_started++;
    }
    *out_threads = pool;
    return ST_OK;
}

void threads_destroy(struct threads *pool)
{
    if (pool == NULL)
        return;
    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->batch, 1);
    futex_wake(&pool->batch);
    for (int i = 0; i < pool->n_started - 1; i++)
        pthread_join(pool->workers[i].thread, NULL);
    host_free(pool->workers);
    host_free(pool);
}

void threads_run(struct threads *pool, int n_tasks, threads_fn fn, void *arg)
{
    if (pool->n_threads == 1 || n_tasks <= 1) {
        for (int task = 0; task < n_tasks; task++)
            fn(arg, task, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->n_tasks = n_tasks;
    atomic_store_explicit(&pool->next_task, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->n_working, (unsigned)pool->n_threads - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->batch, 1, memory_order_release);
    futex_wake(&pool->batch);
    run_tasks(pool, 0);
    for (unsigned left; (left = atomic_load_explicit(&pool->n_working, memory_order_acquire)) != 0;)
        wait_change(pool, &pool->n_working, left);
}
