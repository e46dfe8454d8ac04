/*
 * base.h - what every room stands on: status codes, log, memory, byte buffers, files, threads,
 * clock, Philox, checksums, 16-bit floats.
 *
 * Needs libc, pthreads and xxHash only.  Knows nothing of prompts, models or messages.
 */
#ifndef EPIDOTE_BASE_H
#define EPIDOTE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/draw.h"

/* ---- status ------------------------------------------------------------------------------- */

/* Every function that can fail returns one of these.  Whoever first decides on the error logs it.
 */
enum status {
    ST_OK,
    ST_NOMEM,       /* no memory */
    ST_IO,          /* the system refused to read, write, map or lock */
    ST_CONFIG,      /* the job, an option or a command line is wrong */
    ST_FORMAT,      /* a file's content is not what it has to be */
    ST_UNSUPPORTED, /* well-formed, but not in this version */
    ST_ROW,         /* only this row is bad; a struct row_error says why */
    ST_COMM,        /* a peer is lost or broke the protocol */
    ST_AGAIN,       /* not now: a queue is full or empty, an engine is busy */
    ST_END,         /* nothing more will come */
    ST_STOPPED,     /* asked to stop (signal, walltime) */
    ST_COUNT
};

/* status_name - "ok", "nomem", ... for messages.  Local. */
const char *status_name(enum status st);

/* Needs a local `enum status st`; the label is written at the call. */
#define TRY(expr, label)                                                                           \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != ST_OK)                                                                           \
            goto label;                                                                            \
    } while (0)

/* Why one row cannot be served; becomes the row's `error` column. */
struct row_error {
    char text[256];
};

/* row_error_set - printf into err, cut at its end.  Local.  Returns ST_ROW, so callers can return
 * it. */
enum status row_error_set(struct row_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- log ---------------------------------------------------------------------------------- */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE, LOG_COUNT };

/* One line per event, one write(2) per line, to standard error:
 *   "  41.207 E prefill/1 node07 kv_pool.c:181  kv pool ..."  (place only for E and D). */
void log_at(enum log_level level, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* log_set_who - role/index printed in every line from now on; copied, cut at 47 characters. */
void log_set_who(const char *role);
/* log_hold - write no lines until log_hold(false), but keep the last error: a rank at start-up,
 * which would only repeat what rank 0 says.  Without effect at level debug and above. */
void log_hold(bool hold);
/* log_last_error - text of the last log_error line without its prefix, "" if none; view. */
const char *log_last_error(void);

#define log_error(...) log_at(LOG_ERROR, __FILE__, __LINE__, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __FILE__, __LINE__, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __FILE__, __LINE__, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __FILE__, __LINE__, __VA_ARGS__)
#define log_trace(...) log_at(LOG_TRACE, __FILE__, __LINE__, __VA_ARGS__)

/* ---- memory ------------------------------------------------------------------------------- */

/* host_alloc / host_zalloc - NULL after a log line when there is no memory.  bytes == 0 gives a
 * pointer that host_free accepts. */
void *host_alloc(size_t bytes);
void *host_zalloc(size_t bytes);
/* host_realloc - as realloc; on failure NULL, and ptr stays valid. */
void *host_realloc(void *ptr, size_t bytes);
/* host_strdup, host_strndup - copies with a NUL at the end. */
char *host_strdup(const char *text);
char *host_strndup(const char *text, size_t n_bytes);
void host_free(void *ptr);

/* pages_map - zeroed, page-aligned memory for pools and weights, huge pages where the system has
 * them.  NULL after a log line on failure.  Free with pages_unmap(ptr, the same bytes). */
void *pages_map(size_t bytes);
void pages_unmap(void *ptr, size_t bytes);

/* host_memory_available_bytes - MemAvailable, capped by what this process's control groups leave;
 * 0 if unknown. */
uint64_t host_memory_available_bytes(void);
/* host_memory_resident_bytes - this process's resident set now; peak: its highest so far. */
uint64_t host_memory_resident_bytes(void);
uint64_t host_memory_peak_bytes(void);

/* An arena hands out memory that is freed all at once.  Grows by chunks; alignment 64. */
struct arena;
enum status arena_create(size_t chunk_bytes, struct arena **out_arena);
void arena_destroy(struct arena *arena);
/* arena_alloc - NULL after a log line when there is no memory.  Not zeroed. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* arena_copy - arena_alloc of n_bytes + 1, copied, NUL at the end. */
char *arena_copy(struct arena *arena, const void *data, size_t n_bytes);
/* arena_reset - everything handed out is gone; the chunks stay. */
void arena_reset(struct arena *arena);

/* A growable run of bytes.  All zero is a valid empty buffer. */
struct buf {
    uint8_t *data; /* owned; NULL when cap is 0 */
    size_t n_bytes, cap_bytes;
};
/* buf_put - append; buf_reserve - room for n_bytes more.  Returns ST_OK or ST_NOMEM. */
enum status buf_reserve(struct buf *buf, size_t n_bytes);
enum status buf_put(struct buf *buf, const void *data, size_t n_bytes);
enum status buf_puts(struct buf *buf, const char *text);
enum status buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_reset(struct buf *buf); /* n_bytes = 0, memory kept */
void buf_free(struct buf *buf);

/* ---- files -------------------------------------------------------------------------------- */

/* A file mapped read-only. */
struct file_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t n_bytes;
};
/* file_map_open - Returns ST_OK, ST_IO (logged, with path and reason). */
enum status file_map_open(const char *path, struct file_map *out_map);
void file_map_close(struct file_map *map);
/* file_map_forget - its pages leave this process's memory; they come back when they are touched. */
void file_map_forget(const struct file_map *map);
/* file_read - whole file into buf (appended).  limit_bytes guards against absurd sizes.
 * Returns ST_OK, ST_IO, ST_FORMAT (over the limit), ST_NOMEM. */
enum status file_read(const char *path, size_t limit_bytes, struct buf *buf);
/* file_write_atomic - write PATH.tmp, sync, rename to path, sync the directory.
 * Returns ST_OK, ST_IO. */
enum status file_write_atomic(const char *path, const void *data, size_t n_bytes);
/* file_sync_dir - fsync the directory that holds path.  Returns ST_OK, ST_IO. */
enum status file_sync_dir(const char *path);

/* ---- threads ------------------------------------------------------------------------------ */

/* A pool of n threads, the caller among them.  Which thread runs which task is not fixed, so a task
 * may depend on its number only.  Every thread has flush-to-zero and denormals-are-zero set. */
struct threads;
/* threads_create - n_threads >= 1; also sets FTZ/DAZ in the calling thread.
 * Returns ST_OK, ST_NOMEM, ST_IO. */
enum status threads_create(int n_threads, struct threads **out_threads);
void threads_destroy(struct threads *threads);
int threads_count(const struct threads *threads);
typedef void (*threads_fn)(void *arg, int task, int thread); /* 0 <= thread < threads_count */
/* threads_run - run tasks 0 .. n_tasks-1, return when all have ended.  Only one caller at a time.
 */
void threads_run(struct threads *threads, int n_tasks, threads_fn fn, void *arg);
/* threads_default_count - cores in this process's affinity mask. */
int threads_default_count(void);
/* threads_set_numeric_mode - FTZ and DAZ for the calling thread (x86-64 MXCSR). */
void threads_set_numeric_mode(void);

/* One piece of work on a thread of its own. */
struct background;
typedef enum status (*background_fn)(void *arg);
/* background_start - run work(arg) on a new thread, which takes no signals: they are for the loop.
 * End it with background_join, which waits for it and gives back what it returned.
 * Returns ST_OK, ST_NOMEM, ST_IO. */
enum status background_start(background_fn work, void *arg, struct background **out_background);
bool background_done(const struct background *background);
enum status background_join(struct background *background);

/* ---- clock -------------------------------------------------------------------------------- */

double clock_now_s(void); /* monotonic, since this process started */
/* clock_start_s - when that was, by a clock that all processes of the host share.  clock_host_id -
 * equal in two processes that share it, 0 if unknown: of this boot of the kernel and, in a
 * container, of its time namespace. */
double clock_start_s(void);
uint64_t clock_host_id(void);
void clock_sleep_us(int us);           /* may be cut short by a signal */
void clock_utc(char *out, size_t cap); /* "2026-01-31T09:00:00Z" */
double clock_unix_s(void);             /* since 1970, UTC; may jump */

/* ---- random numbers and checksums ---------------------------------------------------------- */

/* philox4x32 - Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011). */
void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* hash_bytes - XXH64. */
uint64_t hash_bytes(const void *data, size_t n_bytes, uint64_t seed);
/* The same hash over bytes that come in pieces. */
struct hash_state {
    uint64_t opaque[12];
};
void hash_begin(struct hash_state *state, uint64_t seed);
void hash_add(struct hash_state *state, const void *data, size_t n_bytes);
uint64_t hash_end(const struct hash_state *state);

/* ---- 16-bit floats and text checks --------------------------------------------------------- */

static inline float f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t bits_from_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float f32_from_bf16(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

/* bf16_from_f32 - round to nearest, ties to even; NaN stays a NaN. */
static inline uint16_t bf16_from_f32(float f)
{
    const uint32_t bits = bits_from_f32(f);

    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* f32_from_f16 - IEEE binary16, exact (subnormals, infinities and NaN too; independent of DAZ). */
float f32_from_f16(uint16_t h);

/* utf8_valid - whether all n_bytes are well-formed UTF-8 (no surrogates, no overlong forms);
 * if not, *out_bad (may be NULL) is the offset of the first bad byte. */
bool utf8_valid(const char *text, size_t n_bytes, size_t *out_bad);

#endif
