/*
 * gated.cu - SwiGLU and GeGLU: what stands between the two matmuls of a feed-forward layer.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

static const int THREADS = 256;

/* The steps of gated_rows in src/ops/cpu/rows_body.h. */
template <bool GELU> static __device__ inline float gate_mul(float gate, float up)
{
    const float z = GELU ? gate * fmaf(gate * gate, 0x1.2444f2p-4f, 0x1.988454p+0f) : gate;
    const float minus = 0.0f - z;

    return gate / (1.0f + k_exp(minus > 88.0f ? 88.0f : minus)) * up;
}

/* Thread (i, t): elements 4 i .. 4 i + 3 of row t. */
template <bool GELU> static __global__ void gated(struct k_gated_args a)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    const int64_t t = blockIdx.y;

    if (i >= a.F / 4)
        return;
    const float4 gate = ((const float4 *)(a.gate_up + t * 2 * a.F))[i];
    const float4 up = ((const float4 *)(a.gate_up + (t * 2 + 1) * a.F))[i];
    uint32_t *to = (uint32_t *)(a.out + t * a.F) + 2 * i;

    to[0] = k_word(gate_mul<GELU>(gate.x, up.x), gate_mul<GELU>(gate.y, up.y));
    to[1] = k_word(gate_mul<GELU>(gate.z, up.z), gate_mul<GELU>(gate.w, up.w));
}

int k_gated(void *stream, const struct k_gated_args *a)
{
    if (a->T < 1 || a->T > 65535 || a->F < 4 || a->F % 4 != 0)
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)k_ceil_div(a->F / 4, THREADS), (unsigned)a->T);
    const auto kernel = a->gelu ? gated<true> : gated<false>;

    return K_LAUNCH(kernel, grid, dim3(THREADS), 0, stream, *a);
}
