/*
 * emulator.h - enough of CUDA C++ to run the files of kernels/ on the CPU, for tests.
 *
 * Included by kernels/device.cuh with K_EMULATED.  A block's threads are fibers that run in a
 * random order and give way only where CUDA's would meet: __syncthreads, warp functions, their end;
 * blocks run one after another in a random order.  So that mistakes show:
 *
 *   shared memory     is NaN when a block begins
 *   k_copy_16         makes its 16 bytes NaN at once and copies them when they are waited for
 *   a barrier or warp function that not all threads come to ends the program, with a word why
 *   the matrix instructions are PTX's text, not index.h
 *
 * runtime.cpp has what the files call of the CUDA runtime, for one made-up device, "emulated", of
 * EMULATED_BYTES: its memory is NaN until it is written; what is enqueued on a stream is done as
 * late as it may, a few things each time that somebody asks for an event.  EMULATED_FAIL=n in the
 * environment: the n-th such question is answered by an error.
 *
 * What it cannot show: that the hardware does what the manual says, and how fast.
 */
#ifndef EPIDOTE_TESTS_EMULATOR_H
#define EPIDOTE_TESTS_EMULATOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};

/* ---- the runtime (runtime.cpp); names, numbers and meaning as in CUDA's headers ---------------- */

#define K_NUMERICS "emulated-"
#define EMULATED_BYTES ((size_t)1 << 30)

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidDevice = 101,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700
};
enum { cudaMemcpyDefault = 4, cudaStreamNonBlocking = 1 };
enum { cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void); /* of any call since the last time; a launch asks, too */
cudaError_t cudaRuntimeGetVersion(int *out);
cudaError_t cudaDriverGetVersion(int *out);
cudaError_t cudaGetDeviceCount(int *out);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t *out_free, size_t *out_all);
cudaError_t cudaMalloc(void **out, size_t n_bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **out, size_t n_bytes);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, int kind, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

/* emulator_enqueue - run(a copy of n_bytes of what) when the stream gets there; at once in the
 * default stream, NULL. */
cudaError_t emulator_enqueue(void *stream, void (*run)(void *what), const void *what,
                             size_t n_bytes);

/* ---- threads and blocks (emulator.cpp) --------------------------------------------------------- */

/* Of the thread that runs. */
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

void emulator_launch(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void *), void *arg);
void *emulator_shared(void);
/* emulator_meet - wait for the 32 lanes of the warp; returns what each has brought, [32] of 64
 * bytes, valid until the next call. */
const unsigned char *emulator_meet(const void *mine, size_t n_bytes);
void emulator_copy(void *to, const void *from, bool real);
void emulator_commit(void);
void emulator_wait(int n_left);
void emulator_barrier(void);

/* A launch as it waits in its stream: with its arguments as they were. */
template <class Kernel, class... Args>
int emulator_run(dim3 grid, dim3 block, size_t shared_bytes, void *stream, Kernel kernel,
                 Args... args)
{
    auto body = [=] { kernel(args...); };
    using Body = decltype(body);
    struct launch {
        dim3 grid, block;
        size_t shared_bytes;
        Body body;
    } launch = {grid, block, shared_bytes, body};

    static_assert(std::is_trivially_copyable<Body>::value, "arguments are copied as bytes");
    (void)emulator_enqueue(
        stream,
        [](void *arg) {
            struct launch *l = (struct launch *)arg;

            emulator_launch(
                l->grid, l->block, l->shared_bytes, [](void *what) { (*(Body *)what)(); },
                &l->body);
        },
        &launch, sizeof launch);
    return cudaGetLastError();
}
#define K_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                   \
    emulator_run((grid), (block), (size_t)(shared_bytes), (void *)(stream), (kernel), __VA_ARGS__)
#define K_SHARED(type, name) type *name = (type *)emulator_shared()
#define __syncthreads() emulator_barrier()

template <class T> T __shfl_xor_sync(unsigned, T value, int other)
{
    const unsigned char *all = emulator_meet(&value, sizeof value);

    memcpy(&value, all + (threadIdx.x % 32 ^ (unsigned)other) * 64, sizeof value);
    return value;
}

static inline void k_copy_16(void *to, const void *from, bool real)
{
    emulator_copy(to, from, real);
}

static inline void k_copy_commit(void)
{
    emulator_commit();
}

template <int N_LEFT> void k_copy_wait(void)
{
    emulator_wait(N_LEFT);
}

void k_mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
           uint32_t b1);

void k_load_transposed(uint32_t out[4], const void *row);

static inline float k_from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t k_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

#endif
