/*
 * rmsnorm.cu - rows and heads divided by their root mean square, with the residual added before.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { THREADS = 256, HEAD_WARPS = 4 };

/* ---- rows --------------------------------------------------------------------------------------- */

/* Block t: one row, read twice; the second time it is in the cache. */
static __global__ void __launch_bounds__(THREADS) rmsnorm(struct k_rmsnorm_args a)
{
    __shared__ float sums[THREADS / 32];
    const int64_t row = (int64_t)blockIdx.x * a.D;
    float4 *x = (float4 *)(a.x + row);
    float squares = 0.0f;

    for (int i = (int)threadIdx.x; i < a.D / 4; i += THREADS) {
        float4 v = x[i];

        if (a.add != NULL) {
            const float4 y = ((const float4 *)(a.add + row))[i];

            v.x += y.x * a.add_scale;
            v.y += y.y * a.add_scale;
            v.z += y.z * a.add_scale;
            v.w += y.w * a.add_scale;
            x[i] = v;
        }
        squares = fmaf(v.x, v.x, squares);
        squares = fmaf(v.y, v.y, squares);
        squares = fmaf(v.z, v.z, squares);
        squares = fmaf(v.w, v.w, squares);
    }
    const float root = sqrtf(k_block_sum<THREADS / 32>(squares, sums) / (float)a.D + a.eps);

    for (int i = (int)threadIdx.x; i < a.D / 4; i += THREADS) {
        float4 y = x[i];

        if (a.w != NULL) {
            const float4 w = ((const float4 *)a.w)[i];

            y = float4{y.x / root * w.x, y.y / root * w.y, y.z / root * w.z, y.w / root * w.w};
        }

        if (a.out != NULL) {
            uint32_t *to = (uint32_t *)(a.out + row) + 2 * i;

            to[0] = k_word(y.x, y.y);
            to[1] = k_word(y.z, y.w);
        }
        if (a.out_f32 != NULL)
            ((float4 *)(a.out_f32 + row))[i] = y;
    }
}

int k_rmsnorm(void *stream, const struct k_rmsnorm_args *a)
{
    if (a->T < 1 || a->D < 4 || a->D % 4 != 0 || (a->out == NULL && a->out_f32 == NULL))
        return cudaErrorInvalidValue;
    return K_LAUNCH(rmsnorm, dim3((unsigned)a->T), dim3(THREADS), 0, stream, *a);
}

/* ---- heads -------------------------------------------------------------------------------------- */

/* Block (t, i): heads 4 i .. 4 i + 3 of row t, a warp each. */
static __global__ void __launch_bounds__(HEAD_WARPS * 32)
    rmsnorm_heads(struct k_rmsnorm_heads_args a)
{
    const int lane = (int)threadIdx.x % 32;
    const int head = (int)blockIdx.y * HEAD_WARPS + (int)threadIdx.x / 32;

    if (head >= a.n_heads)
        return;
    float *x = a.x + (int64_t)blockIdx.x * a.ldx + (int64_t)head * a.E;
    float squares = 0.0f;

    for (int e = lane; e < a.E; e += 32)
        squares = fmaf(x[e], x[e], squares);
    const float root = sqrtf(k_warp_sum(squares) / (float)a.E + a.eps);
    for (int e = lane; e < a.E; e += 32)
        x[e] = x[e] / root * a.w[e];
}

int k_rmsnorm_heads(void *stream, const struct k_rmsnorm_heads_args *a)
{
    if (a->T < 1 || a->n_heads < 1 || a->n_heads > 65535 * HEAD_WARPS || a->E < 1)
        return cudaErrorInvalidValue;
    return K_LAUNCH(rmsnorm_heads,
                    dim3((unsigned)a->T, (unsigned)k_ceil_div(a->n_heads, HEAD_WARPS)),
                    dim3(HEAD_WARPS * 32), 0, stream, *a);
}
