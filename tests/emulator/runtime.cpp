/*
 * runtime.cpp - the CUDA runtime of the emulator: one device, whose memory is the host's.
 *
 * Streams have nothing to remember, since everything is done when it is enqueued.  Memory of the
 * device is counted, so that it can run out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/emulator/emulator.h"

struct emulated_stream {
    int unused;
};
struct emulated_event {
    bool asked; /* since it was recorded */
};

namespace {
enum { AHEAD = 256 }; /* before a piece of device memory: its size */

size_t n_taken;

void *take(size_t n_bytes)
{
    unsigned char *memory =
        (unsigned char *)aligned_alloc(AHEAD, AHEAD + (n_bytes + AHEAD - 1) / AHEAD * AHEAD);

    if (memory == nullptr)
        return nullptr;
    memcpy(memory, &n_bytes, sizeof n_bytes);
    memset(memory + AHEAD, 0xff, n_bytes);
    return memory + AHEAD;
}

size_t give(void *memory)
{
    size_t n_bytes = 0;

    if (memory == nullptr)
        return 0;
    memcpy(&n_bytes, (unsigned char *)memory - AHEAD, sizeof n_bytes);
    free((unsigned char *)memory - AHEAD);
    return n_bytes;
}
} // namespace

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidValue:
        return "invalid argument";
    default:
        return "an emulated error";
    }
}

cudaError_t cudaRuntimeGetVersion(int *out)
{
    *out = 13000;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *out)
{
    *out = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *out)
{
    *out = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    *out = cudaDeviceProp{"emulated", 8, 0, 1, EMULATED_BYTES};
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaMemGetInfo(size_t *out_free, size_t *out_all)
{
    *out_free = EMULATED_BYTES - n_taken;
    *out_all = EMULATED_BYTES;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t n_bytes)
{
    *out = n_bytes <= EMULATED_BYTES - n_taken ? take(n_bytes) : nullptr;
    n_taken += *out != nullptr ? n_bytes : 0;
    return *out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *memory)
{
    n_taken -= give(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
    *out = take(n_bytes);
    return *out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *memory)
{
    give(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, int, cudaStream_t)
{
    memcpy(to, from, n_bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    *out = (cudaStream_t)calloc(1, sizeof **out);
    return *out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = (cudaEvent_t)calloc(1, sizeof **out);
    return *out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    event->asked = false;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const bool asked = event->asked;

    event->asked = true;
    return asked ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    event->asked = true;
    return cudaSuccess;
}
