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
 * What it cannot show: that the hardware does what the manual says, and how fast.
 */
#ifndef EPIDOTE_TESTS_EMULATOR_H
#define EPIDOTE_TESTS_EMULATOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1 };

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

template <class Body> int emulator_run(dim3 grid, dim3 block, size_t shared_bytes, Body body)
{
    emulator_launch(
        grid, block, shared_bytes, [](void *arg) { (*(Body *)arg)(); }, &body);
    return cudaSuccess;
}
#define K_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                   \
    ((void)(stream),                                                                               \
     emulator_run((grid), (block), (size_t)(shared_bytes), [&] { kernel(__VA_ARGS__); }))
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
