/*
 * device.cuh - what every kernel file begins with: bf16, the exponential, warp sums, asynchronous
 * copies, the matrix instruction, launching.
 *
 * With K_EMULATED the host's C++ compiler compiles the same files, and tests/emulator/ runs their
 * threads on the CPU; what is written in PTX here is written in C++ there.
 */
#ifndef EPIDOTE_KERNELS_DEVICE_CUH
#define EPIDOTE_KERNELS_DEVICE_CUH

#include <stdint.h>
#include <math.h>

#include "kernels/index.h"

/* The library is compiled with -fvisibility=hidden; this is seen all the same. */
#define K_SHOWN __attribute__((visibility("default")))

#if defined(K_EMULATED)
#include "tests/emulator/emulator.h"
#else
#include <cuda_runtime.h>

#define K_NUMERICS "" /* before the name of a device's numerics */

/* kernel <<<grid, block, shared bytes, stream>>> (arguments); the value is cudaGetLastError(). */
#define K_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                   \
    (kernel<<<(grid), (block), (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__),             \
     (int)cudaGetLastError())
/* A block's shared memory whose size the launch says. */
#define K_SHARED(type, name)                                                                       \
    extern __shared__ __align__(16) unsigned char k_shared[];                                      \
    type *name = (type *)k_shared

/* k_copy_16 - begin to copy 16 bytes to shared memory, zeros instead if not `real`; both aligned.
 * They are there after k_copy_wait<n>() in the same thread: all but the last n groups. */
__device__ inline void k_copy_16(void *to, const void *from, bool real)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(to);

    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                 "r"(real ? 16 : 0)
                 : "memory");
}

__device__ inline void k_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N_LEFT> __device__ inline void k_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N_LEFT) : "memory");
}

/* k_mma - c += a b of one warp: 16 x 16 by 16 x 8 of bf16 (index.h says who holds what). */
__device__ inline void k_mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* k_load_transposed - four 8 x 8 matrices of bf16 in shared memory: a lane says where row lane % 8
 * of matrix lane / 8 is (16 bytes, aligned), and gets of each matrix rows 2 (lane % 4) and the next
 * of column lane / 4, as a word: registers of B of the matrix instruction. */
__device__ inline void k_load_transposed(uint32_t out[4], const void *row)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
}

/* k_word - two floats rounded to bf16, `low` the one that comes first in memory. */
__device__ inline uint32_t k_word(float low, float high)
{
    uint32_t word;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

__device__ inline float k_from_bits(uint32_t bits)
{
    return __uint_as_float(bits);
}

__device__ inline uint32_t k_bits(float x)
{
    return __float_as_uint(x);
}
#endif

/* ---- bf16 ------------------------------------------------------------------------------------- */

__device__ inline float k_f32(uint16_t x)
{
    return k_from_bits((uint32_t)x << 16);
}

/* Of a word of two: the one that comes first in memory, and the other. */
__device__ inline float k_low(uint32_t word)
{
    return k_from_bits(word << 16);
}

__device__ inline float k_high(uint32_t word)
{
    return k_from_bits(word & 0xffff0000u);
}

/* To nearest, ties to even; a NaN stays one. */
__device__ inline uint16_t k_bf16(float x)
{
    const uint32_t bits = k_bits(x);

    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if defined(K_EMULATED)
static inline uint32_t k_word(float low, float high)
{
    return (uint32_t)k_bf16(high) << 16 | k_bf16(low);
}
#endif

/* ---- exp, tanh: the steps of src/ops/cpu/exp_body.h --------------------------------------------- */

/* exp(x) / 2^n - 1, with 1.5 * 2^23 + n in *out_shifted. */
__device__ inline float k_exp_reduced(float x, float *out_shifted)
{
    const float t = fmaf(x, 0x1.715476p+0f, 0x1.8p23f), n = t - 0x1.8p23f;
    float r = fmaf(n, -0x1.62e430p-1f, x), q = 0x1.6a2352p-10f;

    r = fmaf(n, 0x1.05c610p-29f, r);
    q = fmaf(q, r, 0x1.123a6cp-7f);
    q = fmaf(q, r, 0x1.5558f4p-5f);
    q = fmaf(q, r, 0x1.555490p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    *out_shifted = t;
    return fmaf(q, r * r, r);
}

__device__ inline float k_exp2_of(float t)
{
    return k_from_bits((k_bits(t) + 127u) << 23);
}

/* x <= 88; +0 below -87; a NaN stays one. */
__device__ inline float k_exp(float x)
{
    float t;
    const float q = k_exp_reduced(x < -87.0f ? -87.0f : x, &t);

    return x < -87.0f ? 0.0f : (q + 1.0f) * k_exp2_of(t);
}

__device__ inline float k_tanh(float x)
{
    const float twice = x + x;
    const float low = twice < -40.0f ? -40.0f : twice;
    float t;
    const float q = k_exp_reduced(low > 40.0f ? 40.0f : low, &t);
    const float s = k_exp2_of(t), m = fmaf(q, s, s - 1.0f);

    return m / (m + 2.0f);
}

/* ---- sums over a warp and a block: one fixed tree ----------------------------------------------- */

/* All lanes get it; lane i adds lane i ^ 16, then ^ 8, ^ 4, ^ 2, ^ 1. */
__device__ inline float k_warp_sum(float x)
{
    for (int half = 16; half > 0; half /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, half);
    return x;
}

/* A NaN may get lost. */
__device__ inline float k_warp_max(float x)
{
    for (int half = 16; half > 0; half /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, half));
    return x;
}

struct k_best {
    float value;
    int id;
};

/* The larger, of equals the one with the lower id, of all lanes. */
__device__ inline struct k_best k_warp_best(struct k_best mine)
{
    for (int half = 16; half > 0; half /= 2) {
        const float value = __shfl_xor_sync(0xffffffffu, mine.value, half);
        const int id = __shfl_xor_sync(0xffffffffu, mine.id, half);

        if (value > mine.value || (value == mine.value && id < mine.id)) {
            mine.value = value;
            mine.id = id;
        }
    }
    return mine;
}

/* The warps' sums, in the order of the warps; all threads get it.  scratch [warps], shared. */
template <int N_WARPS> __device__ inline float k_block_sum(float x, float *scratch)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;

    x = k_warp_sum(x);
    if (lane == 0)
        scratch[warp] = x;
    __syncthreads();
    x = scratch[0];
    for (int i = 1; i < N_WARPS; i++)
        x += scratch[i];
    return x;
}

#endif
