/*
 * template_limits.c - what a run may use up: steps, memory, depth; and how it fails.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "text/template.h"

enum status run_fail(struct tpl_run *run, const char *fmt, ...)
{
    char text[200];
    va_list args;
    int line = 0, column = 0;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    template_place(run->t, run->place, &line, &column);
    return row_error_set(run->err, "chat template, line %d column %d: %s", line, column, text);
}

enum status run_steps(struct tpl_run *run, size_t n)
{
    run->steps += n;
    if (run->steps > run->limit_steps)
        return run_fail(run, "the chat template did not end within %llu steps",
                        (unsigned long long)run->limit_steps);
    return ST_OK;
}

enum status run_alloc(struct tpl_run *run, size_t n_bytes, void **out_memory)
{
    enum { CHUNK = 64 << 10 };
    const size_t bytes = (n_bytes + 15) / 16 * 16;

    if (bytes < n_bytes || bytes > run->limit_bytes - run->used_bytes)
        return run_fail(run, "the chat template needs more than %zu MiB of memory",
                        run->limit_bytes >> 20);
    run->used_bytes += bytes;
    if (bytes > run->left) {
        const size_t chunk = bytes > CHUNK / 4 ? bytes : CHUNK;
        char *memory = arena_alloc(run->arena, chunk);

        if (memory == NULL)
            return ST_NOMEM;
        if (chunk == bytes) {
            *out_memory = memory;
            return ST_OK;
        }
        run->at = memory;
        run->left = chunk;
    }
    *out_memory = run->at;
    run->at += bytes;
    run->left -= bytes;
    return ST_OK;
}

enum status run_enter(struct tpl_run *run)
{
    if (++run->depth > TEMPLATE_RUN_DEPTH)
        return run_fail(run, "the chat template calls itself too deeply");
    return ST_OK;
}

enum status run_grow(struct tpl_run *run, void *list, size_t n, size_t *cap, size_t n_more,
                     size_t item_bytes, void **out_list)
{
    size_t more = *cap > 0 ? *cap : 64;
    void *bigger = NULL;
    enum status st;

    if (*cap - n >= n_more) {
        *out_list = list;
        return ST_OK;
    }
    while (more - n < n_more)
        more *= 2;
    st = run_alloc(run, more * item_bytes, &bigger);
    if (st != ST_OK)
        return st;
    assert(bigger != NULL);
    if (n > 0)
        memcpy(bigger, list, n * item_bytes);
    *out_list = bigger;
    *cap = more;
    return ST_OK;
}
