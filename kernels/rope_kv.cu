/*
 * rope_kv.cu - a row of the qkv matmul becomes queries for the attention and a token in the KV
 * blocks: rotated, rounded to bf16, put in place.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

static const int THREADS = 128;

/* Elements 2 j, 2 j + 1 of the lower and of the upper half of a head, rotated and rounded. */
static __device__ inline void rotate(const float *x, const float *angles, int E, int j,
                                     uint32_t *out_low, uint32_t *out_high)
{
    const float2 low = ((const float2 *)x)[j], high = ((const float2 *)(x + E / 2))[j];

    if (angles == NULL) {
        *out_low = k_word(low.x, low.y);
        *out_high = k_word(high.x, high.y);
        return;
    }
    const float4 turn = ((const float4 *)angles)[j]; /* cos, sin, cos, sin */
    *out_low = k_word(low.x * turn.x - high.x * turn.y, low.y * turn.z - high.y * turn.w);
    *out_high = k_word(high.x * turn.x + low.x * turn.y, high.y * turn.z + low.y * turn.w);
}

/* Block t: one token; a thread takes two pairs of elements that turn together, or a word of v. */
static __global__ void rope_kv(struct k_rope_kv_args a)
{
    const int t = (int)blockIdx.x, pos = a.pos[t], row = a.seq != NULL ? a.seq[t] : t;
    const int32_t block = a.tables[(int64_t)row * a.ld_tables + pos / a.P];
    const int p = pos % a.P, quarter = a.E / 4, half = a.E / 2;
    const float *qkv = a.qkv + (int64_t)t * (a.H + 2 * a.K) * a.E;
    const float *angles = a.angles != NULL ? a.angles + (int64_t)pos * a.E : NULL;
    uint32_t low, high;

    for (int i = (int)threadIdx.x; i < a.H * quarter; i += THREADS) {
        const int head = i / quarter, j = i % quarter;
        uint32_t *q = (uint32_t *)(a.q + ((int64_t)t * a.H + head) * a.E);

        rotate(qkv + (int64_t)head * a.E, angles, a.E, j, &low, &high);
        q[j] = low;
        q[quarter + j] = high;
    }
    for (int i = (int)threadIdx.x; i < a.K * quarter; i += THREADS) {
        const int head = i / quarter, j = i % quarter;
        uint32_t *key = (uint32_t *)(a.kv + k_kv_head(a.K, a.P, a.E, block, 0, head));

        rotate(qkv + (int64_t)(a.H + head) * a.E, angles, a.E, j, &low, &high);
        key[k_kv_key_word(a.P, p, j)] = low;
        key[k_kv_key_word(a.P, p, quarter + j)] = high;
    }
    for (int i = (int)threadIdx.x; i < a.K * half; i += THREADS) {
        const int head = i / half, j = i % half;
        const float2 v = ((const float2 *)(qkv + (int64_t)(a.H + a.K + head) * a.E))[j];
        uint16_t *value = a.kv + k_kv_head(a.K, a.P, a.E, block, 1, head);

        *(uint32_t *)(value + k_kv_value_elem(a.E, p, 2 * j)) = k_word(v.x, v.y);
    }
}

int k_rope_kv(void *stream, const struct k_rope_kv_args *a)
{
    if (a->T < 1 || a->K < 1 || a->H < 1 || a->E % 16 != 0 || a->E < 16 || a->E > K_ATT_MAX_E ||
        (a->P != 16 && a->P != 32 && a->P != 64))
        return cudaErrorInvalidValue;
    return K_LAUNCH(rope_kv, dim3((unsigned)a->T), dim3(THREADS), 0, stream, *a);
}
