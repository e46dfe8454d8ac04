/*
 * runtime.cpp - the CUDA runtime of the emulator: one device, whose memory is the host's.
 *
 * A stream is a queue of what is to be done, which goes on only when somebody asks for an event or
 * waits for one.  Memory of the device is counted, so that it can run out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/emulator/emulator.h"

struct job {
    struct job *next;
    void (*run)(void *what);
    alignas(16) unsigned char what[1]; /* and more */
};
struct emulated_stream {
    struct job *first, *last;
    uint64_t n_enqueued, n_done;
};
struct emulated_event {
    struct emulated_stream *stream; /* NULL: never recorded */
    uint64_t n;                     /* jobs of the stream before it */
};

namespace {
enum { AHEAD = 256 };         /* before a piece of device memory: its size */
enum { JOBS_A_QUESTION = 4 }; /* that are done when an event is asked for */

size_t n_taken;
cudaError_t last_error;

/* What a call returns is remembered, if it is no success. */
cudaError_t tell(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

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
/* Do at most n_jobs, and none behind the first n_end of the stream's. */
void go_on(struct emulated_stream *stream, uint64_t n_end, uint64_t n_jobs)
{
    for (; n_jobs > 0 && stream->n_done < n_end; n_jobs--) {
        struct job *job = stream->first;

        stream->first = job->next;
        stream->n_done++;
        job->run(job->what);
        free(job);
    }
}

bool is_done(const struct emulated_event *event)
{
    return event->stream == nullptr || event->stream->n_done >= event->n;
}

/* Whether this question is the one that EMULATED_FAIL names. */
bool fails(void)
{
    static int n_questions;
    const char *which = getenv("EMULATED_FAIL");

    return which != nullptr && ++n_questions == atoi(which);
}

struct copy_job {
    void *to;
    const void *from;
    size_t n_bytes;
};

void run_copy(void *what)
{
    const struct copy_job *job = (const struct copy_job *)what;

    memcpy(job->to, job->from, job->n_bytes);
}
} // namespace

cudaError_t emulator_enqueue(void *to, void (*run)(void *what), const void *what, size_t n_bytes)
{
    struct emulated_stream *stream = (struct emulated_stream *)to;
    struct job *job = (struct job *)malloc(sizeof *job + n_bytes);

    if (job == nullptr)
        return tell(cudaErrorMemoryAllocation);
    job->next = nullptr;
    job->run = run;
    memcpy(job->what, what, n_bytes);
    if (stream == nullptr) {
        run(job->what);
        free(job);
        return cudaSuccess;
    }
    if (stream->n_enqueued++ == stream->n_done)
        stream->first = job;
    else
        stream->last->next = job;
    stream->last = job;
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    default:
        return "an emulated error";
    }
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;

    last_error = cudaSuccess;
    return error;
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
    return tell(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDevice(int device)
{
    return tell(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
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
    return tell(*out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory)
{
    n_taken -= give(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
    *out = take(n_bytes);
    return tell(*out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *memory)
{
    give(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, int, cudaStream_t stream)
{
    const struct copy_job job = {to, from, n_bytes};

    return emulator_enqueue(stream, run_copy, &job, sizeof job);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    *out = (cudaStream_t)calloc(1, sizeof **out);
    return tell(*out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    go_on(stream, stream->n_enqueued, UINT64_MAX);
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (stream != nullptr)
        go_on(stream, stream->n_enqueued, UINT64_MAX);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = (cudaEvent_t)calloc(1, sizeof **out);
    return tell(*out != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->stream = stream;
    event->n = stream->n_enqueued;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (fails())
        return tell(cudaErrorIllegalAddress);
    if (is_done(event))
        return cudaSuccess;
    go_on(event->stream, event->n, JOBS_A_QUESTION);
    return tell(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (!is_done(event))
        go_on(event->stream, event->n, UINT64_MAX);
    return cudaSuccess;
}
