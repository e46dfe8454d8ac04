/*
 * cuda_device.c - the device that cuda.c has found, in use: its memory, and what goes wrong on it,
 * in words.
 *
 * Called by those who compute on it and by stage/, which has the KV blocks there.
 */
#include <stdarg.h>
#include <stdio.h>

#include "ops/ops.h"

enum status ops_cuda_start(const struct ops_cuda *cuda, uint64_t *out_free_bytes)
{
    enum status st;
    size_t n_bytes = 0;

    TRY(ops_cuda_check(cuda, cuda->kernels->start(cuda->index), "starting up"), err);
    TRY(ops_cuda_check(cuda, cuda->kernels->free_bytes(&n_bytes), "looking at its memory"), err);
    *out_free_bytes = n_bytes;
err:
    return st;
}

enum status ops_cuda_check(const struct ops_cuda *cuda, int error, const char *doing, ...)
{
    char what[256];
    va_list args;

    if (error == 0)
        return ST_OK;
    va_start(args, doing);
    vsnprintf(what, sizeof what, doing, args);
    va_end(args);
    log_error("the GPU (%s) failed at %s: %s", cuda->device, what,
              cuda->kernels->error_text(error));
    return ST_IO;
}

static double mib(size_t n_bytes)
{
    return (double)n_bytes / 1048576;
}

enum status ops_cuda_alloc(const struct ops_cuda *cuda, size_t n_bytes, const char *what,
                           const char *remedy, void **out_memory)
{
    void *memory = NULL;
    size_t free_bytes = 0;
    const int error = cuda->kernels->alloc(&memory, n_bytes);

    if (error == 0) {
        *out_memory = memory;
        return ST_OK;
    }
    (void)cuda->kernels->free_bytes(&free_bytes);
    log_error("%.0f MiB of GPU memory for %s: %s; %.0f MiB are free on the %s: %s", mib(n_bytes),
              what, cuda->kernels->error_text(error), mib(free_bytes), cuda->device, remedy);
    return ST_NOMEM;
}

enum status ops_cuda_alloc_pinned(const struct ops_cuda *cuda, size_t n_bytes, const char *what,
                                  const char *remedy, void **out_memory)
{
    void *memory = NULL;
    const int error = cuda->kernels->alloc_pinned(&memory, n_bytes);

    if (error == 0) {
        *out_memory = memory;
        return ST_OK;
    }
    log_error("%.0f MiB of pinned host memory for %s: %s; look at ulimit -l and the free memory, "
              "or: %s",
              mib(n_bytes), what, cuda->kernels->error_text(error), remedy);
    return ST_NOMEM;
}

/* Memory that cannot be given back goes when the process does. */
static void note(const struct ops_cuda *cuda, int error)
{
    if (error != 0)
        log_warn("giving memory of the GPU back: %s", cuda->kernels->error_text(error));
}

void ops_cuda_free(const struct ops_cuda *cuda, void *memory)
{
    if (memory != NULL)
        note(cuda, cuda->kernels->release(memory));
}

void ops_cuda_free_pinned(const struct ops_cuda *cuda, void *memory)
{
    if (memory != NULL)
        note(cuda, cuda->kernels->release_pinned(memory));
}
