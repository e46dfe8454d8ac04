/*
 * memory.c - host memory: the heap, mapped pages, arenas, byte buffers, and what the system has
 * left.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"

enum { ARENA_ALIGN = 64 };

void *host_alloc(size_t bytes)
{
    void *ptr = malloc(bytes > 0 ? bytes : 1);

    if (ptr == NULL)
        log_error("no memory for %zu bytes", bytes);
    return ptr;
}

void *host_zalloc(size_t bytes)
{
    void *ptr = calloc(1, bytes > 0 ? bytes : 1);

    if (ptr == NULL)
        log_error("no memory for %zu bytes", bytes);
    return ptr;
}

void *host_realloc(void *ptr, size_t bytes)
{
    void *moved = realloc(ptr, bytes > 0 ? bytes : 1);

    if (moved == NULL)
        log_error("no memory for %zu bytes", bytes);
    return moved;
}

char *host_strndup(const char *text, size_t n_bytes)
{
    char *copy = host_alloc(n_bytes + 1);

    if (copy == NULL)
        return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    return copy;
}

char *host_strdup(const char *text)
{
    return host_strndup(text, strlen(text));
}

void host_free(void *ptr)
{
    free(ptr);
}

void *pages_map(size_t bytes)
{
    void *ptr = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (ptr == MAP_FAILED) {
        log_error("no memory for %zu bytes of pages", bytes);
        return NULL;
    }
    madvise(ptr, bytes, MADV_HUGEPAGE); /* a hint: small pages work too */
    return ptr;
}

void pages_unmap(void *ptr, size_t bytes)
{
    if (ptr != NULL)
        munmap(ptr, bytes > 0 ? bytes : 1);
}

/* The number that follows `key` at the beginning of a line; 0 if there is no such line or file. */
static uint64_t file_field(const char *path, const char *key)
{
    char line[256];
    unsigned long long number = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0 &&
            sscanf(line + strlen(key), "%llu", &number) == 1)
            break;
    fclose(file);
    return number;
}

/* The number a file begins with; UINT64_MAX if there is none ("max", no such file). */
static uint64_t file_number(const char *path)
{
    unsigned long long number = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return UINT64_MAX;
    const bool found = fscanf(file, "%llu", &number) == 1;
    fclose(file);
    return found ? number : UINT64_MAX;
}

/* The two versions of the kernel's control groups name the same facts differently. */
struct cgroup_names {
    const char *root, *limit, *used, *cached;
};
static const struct cgroup_names cgroup_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                              "memory.usage_in_bytes", "total_inactive_file "};
static const struct cgroup_names cgroup_v2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                              "inactive_file "};

/* What the group `path` and every group around it leave: limit - use, file cache not counted. */
static uint64_t cgroup_left(const struct cgroup_names *names, const char *path)
{
    uint64_t least = UINT64_MAX;
    char group[1024], file[2048];

    snprintf(group, sizeof group, "%s", path);
    for (;;) {
        snprintf(file, sizeof file, "%s%s/%s", names->root, group, names->limit);
        const uint64_t limit = file_number(file);
        snprintf(file, sizeof file, "%s%s/%s", names->root, group, names->used);
        const uint64_t used = file_number(file);
        snprintf(file, sizeof file, "%s%s/memory.stat", names->root, group);
        const uint64_t cached = file_field(file, names->cached);

        if (limit != UINT64_MAX && used != UINT64_MAX) {
            const uint64_t taken = used > cached ? used - cached : 0;
            const uint64_t left = limit > taken ? limit - taken : 0;

            least = left < least ? left : least;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return least;
        *slash = '\0'; /* at last the root group, "" */
    }
}

/* /proc/self/cgroup has a line "number:controllers:path" for each hierarchy; version 2 has
 * "0::path". */
static uint64_t cgroups_left(void)
{
    uint64_t least = UINT64_MAX;
    char line[1024];
    FILE *file = fopen("/proc/self/cgroup", "re");

    if (file == NULL)
        return least;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *controllers = strchr(line, ':');
        const char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

        if (path == NULL)
            continue;
        const bool v2 = path == controllers + 1;
        const char *memory = strstr(controllers, "memory");
        if (!v2 && (memory == NULL || memory > path))
            continue;
        const uint64_t left = cgroup_left(v2 ? &cgroup_v2 : &cgroup_v1, path + 1);
        least = left < least ? left : least;
    }
    fclose(file);
    return least;
}

uint64_t host_memory_available_bytes(void)
{
    const uint64_t host = file_field("/proc/meminfo", "MemAvailable:") * 1024;
    const uint64_t groups = cgroups_left();

    return groups < host ? groups : host;
}

uint64_t host_memory_resident_bytes(void)
{
    return file_field("/proc/self/status", "VmRSS:") * 1024;
}

uint64_t host_memory_peak_bytes(void)
{
    return file_field("/proc/self/status", "VmHWM:") * 1024;
}

/* ---- arena -------------------------------------------------------------------------------- */

struct arena_chunk {
    struct arena_chunk *next; /* owned */
    size_t cap_bytes, used_bytes;
    uint8_t *data; /* inside this allocation, aligned */
};

struct arena {
    struct arena_chunk *first, *current; /* chunks before current are full */
    size_t chunk_bytes;
};

static struct arena_chunk *chunk_create(size_t cap_bytes)
{
    if (cap_bytes > SIZE_MAX / 2) { /* what stands before it must not wrap around */
        log_error("no memory for %zu bytes", cap_bytes);
        return NULL;
    }
    struct arena_chunk *chunk = host_alloc(sizeof *chunk + ARENA_ALIGN + cap_bytes);
    if (chunk == NULL)
        return NULL;
    const uintptr_t after = (uintptr_t)(chunk + 1);
    chunk->data = (uint8_t *)((after + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN);
    chunk->next = NULL;
    chunk->cap_bytes = cap_bytes;
    chunk->used_bytes = 0;
    return chunk;
}

enum status arena_create(size_t chunk_bytes, struct arena **out_arena)
{
    struct arena *arena = host_zalloc(sizeof *arena);

    if (arena == NULL)
        return ST_NOMEM;
    arena->chunk_bytes = chunk_bytes;
    arena->first = arena->current = chunk_create(chunk_bytes);
    if (arena->first == NULL) {
        host_free(arena);
        return ST_NOMEM;
    }
    *out_arena = arena;
    return ST_OK;
}

void arena_destroy(struct arena *arena)
{
    if (arena == NULL)
        return;
    for (struct arena_chunk *chunk = arena->first, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        host_free(chunk);
    }
    host_free(arena);
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    const size_t need = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_chunk *chunk = arena->current;

    if (need < bytes) {
        log_error("no memory for %zu bytes", bytes);
        return NULL;
    }
    while (chunk->cap_bytes - chunk->used_bytes < need) {
        if (chunk->next == NULL) {
            chunk->next = chunk_create(need > arena->chunk_bytes ? need : arena->chunk_bytes);
            if (chunk->next == NULL)
                return NULL;
        }
        chunk = chunk->next;
        arena->current = chunk;
    }
    void *ptr = chunk->data + chunk->used_bytes;
    chunk->used_bytes += need;
    return ptr;
}

char *arena_copy(struct arena *arena, const void *data, size_t n_bytes)
{
    char *copy = arena_alloc(arena, n_bytes + 1);

    if (copy == NULL)
        return NULL;
    if (n_bytes > 0)
        memcpy(copy, data, n_bytes);
    copy[n_bytes] = '\0';
    return copy;
}

void arena_reset(struct arena *arena)
{
    /* Chunks larger than usual served one odd request; keeping them would be a leak by ratchet. */
    struct arena_chunk **link = &arena->first->next;

    while (*link != NULL) {
        struct arena_chunk *chunk = *link;

        if (chunk->cap_bytes > arena->chunk_bytes) {
            *link = chunk->next;
            host_free(chunk);
        } else {
            chunk->used_bytes = 0;
            link = &chunk->next;
        }
    }
    arena->first->used_bytes = 0;
    arena->current = arena->first;
}

/* ---- buf ---------------------------------------------------------------------------------- */

enum status buf_reserve(struct buf *buf, size_t n_bytes)
{
    if (n_bytes > SIZE_MAX / 2 - buf->n_bytes) {
        log_error("no memory for %zu more bytes", n_bytes);
        return ST_NOMEM;
    }
    if (buf->cap_bytes - buf->n_bytes >= n_bytes)
        return ST_OK;
    size_t cap = buf->cap_bytes > 0 ? buf->cap_bytes : 256;
    while (cap - buf->n_bytes < n_bytes)
        cap *= 2;
    uint8_t *moved = host_realloc(buf->data, cap);
    if (moved == NULL)
        return ST_NOMEM;
    buf->data = moved;
    buf->cap_bytes = cap;
    return ST_OK;
}

enum status buf_put(struct buf *buf, const void *data, size_t n_bytes)
{
    const enum status st = buf_reserve(buf, n_bytes);

    if (st != ST_OK || n_bytes == 0)
        return st;
    memcpy(buf->data + buf->n_bytes, data, n_bytes);
    buf->n_bytes += n_bytes;
    return ST_OK;
}

enum status buf_puts(struct buf *buf, const char *text)
{
    return buf_put(buf, text, strlen(text));
}

enum status buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args, again;

    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    enum status st = n < 0 ? ST_NOMEM : buf_reserve(buf, (size_t)n + 1);
    if (st == ST_OK) {
        vsnprintf((char *)buf->data + buf->n_bytes, (size_t)n + 1, fmt, again);
        buf->n_bytes += (size_t)n;
    }
    va_end(again);
    return st;
}

void buf_reset(struct buf *buf)
{
    buf->n_bytes = 0;
}

void buf_free(struct buf *buf)
{
    host_free(buf->data);
    *buf = (struct buf){0};
}
