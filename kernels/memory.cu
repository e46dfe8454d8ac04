/*
 * memory.cu - memory, copies, streams and events: the CUDA runtime's own, under the names of the
 * table.
 *
 * No kernels.  Streams do not wait for the default one; events keep no time, and who waits for one
 * sleeps.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

int k_free_bytes(size_t *out_n_bytes)
{
    size_t all;

    return cudaMemGetInfo(out_n_bytes, &all);
}

int k_alloc(void **out, size_t n_bytes)
{
    return cudaMalloc(out, n_bytes);
}

int k_release(void *memory)
{
    return cudaFree(memory);
}

int k_alloc_pinned(void **out, size_t n_bytes)
{
    return cudaMallocHost(out, n_bytes);
}

int k_release_pinned(void *memory)
{
    return cudaFreeHost(memory);
}

/* Which way, the addresses say. */
int k_copy(void *stream, void *to, const void *from, size_t n_bytes)
{
    return cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, (cudaStream_t)stream);
}

int k_stream_create(void **out_stream)
{
    return cudaStreamCreateWithFlags((cudaStream_t *)out_stream, cudaStreamNonBlocking);
}

int k_stream_destroy(void *stream)
{
    return cudaStreamDestroy((cudaStream_t)stream);
}

int k_event_create(void **out_event)
{
    return cudaEventCreateWithFlags((cudaEvent_t *)out_event,
                                    cudaEventDisableTiming | cudaEventBlockingSync);
}

int k_event_destroy(void *event)
{
    return cudaEventDestroy((cudaEvent_t)event);
}

int k_event_record(void *event, void *stream)
{
    return cudaEventRecord((cudaEvent_t)event, (cudaStream_t)stream);
}

int k_event_query(void *event, int *out_done)
{
    const cudaError_t error = cudaEventQuery((cudaEvent_t)event);

    *out_done = error == cudaSuccess;
    if (error != cudaErrorNotReady)
        return error;
    (void)cudaGetLastError(); /* or the next launch would take it for its own */
    return cudaSuccess;
}

int k_event_wait(void *event)
{
    return cudaEventSynchronize((cudaEvent_t)event);
}
