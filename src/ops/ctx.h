/*
 * ctx.h - what the operations share inside this room: the context with its scratch memory, and the
 * way work over rows is cut into tasks.
 *
 * Included by ops.c and by the instruction-set files of cpu/.  Not for other rooms.
 */
#ifndef EPIDOTE_OPS_CTX_H
#define EPIDOTE_OPS_CTX_H

#include "ops/ops.h"

/* One growing area for each use, so that no operation can step on another's data. */
enum scratch_use {
    SCRATCH_INPUT,  /* matmul: x, rounded and padded */
    SCRATCH_THREAD, /* attention: one struct a thread */
    SCRATCH_PANELS, /* matmul: stored rows on their way to the tiles, one struct a thread */
    SCRATCH_TASKS,  /* attention and kv_store: first task of each sequence */
    SCRATCH_CHUNKS, /* softmax_stats: figures of every chunk of logits */
    SCRATCH_COUNT
};

struct scratch {
    void *data; /* owned, page-aligned; NULL when cap_bytes is 0 */
    size_t cap_bytes;
};

struct ops_ctx {
    struct threads *threads; /* borrowed */
    struct scratch scratch[SCRATCH_COUNT];
};

/*
 * ops_ctx_reserve - at least n_bytes of scratch, 64-byte aligned, content undefined.
 *
 *   use       in   which area; what it held before is lost
 *   out_data  out  view, until the next call with the same use
 *
 * Grows only when a larger shape comes by.  Local.  Returns ST_OK, ST_NOMEM.
 */
enum status ops_ctx_reserve(struct ops_ctx *ctx, enum scratch_use use, size_t n_bytes,
                            void **out_data);

/* ops_matrix_expand - elements first .. of row `out` of a matrix with stored rows, as they are. */
void ops_matrix_expand(const struct ops_matrix *w, int out, int first, int n, float *row);

static inline int ops_ceil_div(int n, int by)
{
    return (n + by - 1) / by;
}

/* The variants that this build has; ops.c lists them. */
extern const struct ops ops_cpu_plain;
#if defined(__x86_64__)
extern const struct ops ops_cpu_avx2;
extern const struct ops ops_cpu_avx512;
extern const struct ops ops_cpu_avx512bf16;
#endif

#endif
