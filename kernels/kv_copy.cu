/*
 * kv_copy.cu - KV blocks between the pool and one piece of memory that a link can send.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

static const int THREADS = 256;

/* Thread (v, i, l): 16 bytes of block i of layer l. */
static __global__ void kv_copy(struct k_kv_copy_args a)
{
    const int64_t v = (int64_t)blockIdx.x * THREADS + threadIdx.x, vecs = a.block_elems / 8;
    const int64_t i = blockIdx.y, l = blockIdx.z;

    if (v >= vecs)
        return;
    uint4 *packed = (uint4 *)a.packed + (l * a.n + i) * vecs + v;
    uint4 *pool = (uint4 *)(a.pool + l * a.layer_elems) + a.ids[i] * vecs + v;
    if (a.scatter)
        *pool = *packed;
    else
        *packed = *pool;
}

int k_kv_copy(void *stream, const struct k_kv_copy_args *a)
{
    if (a->n < 1 || a->n > 65535 || a->n_layers < 1 || a->n_layers > 65535 || a->block_elems < 8 ||
        a->block_elems % 8 != 0 || a->layer_elems % 8 != 0)
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)((a->block_elems / 8 + THREADS - 1) / THREADS), (unsigned)a->n,
                    (unsigned)a->n_layers);

    return K_LAUNCH(kv_copy, grid, dim3(THREADS), 0, stream, *a);
}
