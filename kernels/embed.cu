/*
 * embed.cu - look tokens up in the table of embeddings.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

static const int THREADS = 128;

/* Block t: one token; a thread takes 8 elements at a time. */
static __global__ void embed(struct k_embed_args a)
{
    const int64_t t = blockIdx.x;
    const uint4 *from = (const uint4 *)(a.table + a.ids[t] * (int64_t)a.D);
    float4 *to = (float4 *)(a.out + t * a.D);

    for (int i = (int)threadIdx.x; i < a.D / 8; i += THREADS) {
        const uint4 v = from[i];

        to[2 * i] = float4{k_low(v.x) * a.scale, k_high(v.x) * a.scale, k_low(v.y) * a.scale,
                           k_high(v.y) * a.scale};
        to[2 * i + 1] = float4{k_low(v.z) * a.scale, k_high(v.z) * a.scale, k_low(v.w) * a.scale,
                               k_high(v.w) * a.scale};
    }
}

int k_embed(void *stream, const struct k_embed_args *a)
{
    if (a->T < 1 || a->D < 8 || a->D % 8 != 0)
        return cudaErrorInvalidValue;
    return K_LAUNCH(embed, dim3((unsigned)a->T), dim3(THREADS), 0, stream, *a);
}
