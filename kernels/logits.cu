/*
 * logits.cu - the maximum of a row of logits, who has it, and the logarithm of the sum of their
 * exponentials.
 *
 *   chunks   block (chunk of 1,024 ids, row)
 *   rows     a warp a row: the chunks
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { ROWS_LANES = K_LOGITS_LANES };

/* max, sum and id of a row's chunks, each [T][n_chunks]; a NaN as max is a chunk that is bad. */
struct figures {
    float *max, *sum;
    int32_t *id;
};

static __device__ inline struct figures figures_of(const struct k_logits_args &a, int64_t row)
{
    const int64_t n_chunks = k_logits_chunks(a.V), n_all = a.T * n_chunks;
    float *max = a.work + row * n_chunks;

    return {max, max + n_all, (int32_t *)(max + 2 * n_all)};
}

static __global__ void __launch_bounds__(K_LOGITS_THREADS) chunks(struct k_logits_args a)
{
    enum { WARPS = K_LOGITS_THREADS / 32, EACH = K_LOGITS_CHUNK / K_LOGITS_THREADS };
    __shared__ float scratch[3][WARPS];
    __shared__ int ids[WARPS];
    const int first = (int)blockIdx.x * K_LOGITS_CHUNK, lane = (int)threadIdx.x % 32;
    float *logits = a.logits + (int64_t)blockIdx.y * a.V;
    struct k_best most = {-INFINITY, INT32_MAX};
    float x[EACH], bad = 0.0f, sum = 0.0f;

#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int id = first + i * K_LOGITS_THREADS + (int)threadIdx.x;

        x[i] = -INFINITY;
        if (id >= a.V)
            continue;
        x[i] = logits[id];
        if (a.scale != 0.0f)
            x[i] *= a.scale;
        if (a.softcap != 0.0f)
            x[i] = k_tanh(x[i] / a.softcap) * a.softcap;
        if (a.scale != 0.0f || a.softcap != 0.0f)
            logits[id] = x[i];
        if (!(x[i] < INFINITY))
            bad = 1.0f;
        if (x[i] > most.value)
            most = {x[i], id};
    }
    most = k_warp_best(most);
    if (lane == 0) {
        scratch[0][threadIdx.x / 32] = most.value;
        ids[threadIdx.x / 32] = most.id;
    }
    bad = k_block_sum<WARPS>(bad, scratch[1]); /* a barrier, so the warps' best are there too */
    most = {scratch[0][0], ids[0]};
    for (int i = 1; i < WARPS; i++)
        if (scratch[0][i] > most.value || (scratch[0][i] == most.value && ids[i] < most.id))
            most = {scratch[0][i], ids[i]};
#pragma unroll
    for (int i = 0; i < EACH; i++)
        sum += x[i] > -INFINITY ? k_exp(x[i] - most.value) : 0.0f;
    sum = k_block_sum<WARPS>(sum, scratch[2]);
    if (threadIdx.x == 0) {
        const struct figures to = figures_of(a, blockIdx.y);

        to.max[blockIdx.x] = bad > 0.0f ? NAN : most.value;
        to.sum[blockIdx.x] = sum;
        to.id[blockIdx.x] = most.id;
    }
}

/* The steps of log_of in src/ops/cpu/exp_body.h; x >= 2^-126 and finite. */
static __device__ inline float log_of(float x)
{
    const uint32_t bits = k_bits(x);
    int exponent = (int)(bits >> 23) - 127;
    double m = (double)k_from_bits((bits & 0x7fffffu) | 0x3f800000u);

    if (m > 0x1.6a09e6p+0) {
        m *= 0.5;
        exponent++;
    }
    const double z = (m - 1.0) / (m + 1.0), zz = z * z;
    double series = 1.0 / 21.0;
    for (int odd = 19; odd >= 1; odd -= 2)
        series = series * zz + 1.0 / odd;
    return (float)(exponent * 0x1.62e42fefa39efp-1 + 2.0 * z * series);
}

static __global__ void __launch_bounds__(ROWS_LANES) rows(struct k_logits_args a)
{
    const int n_chunks = k_logits_chunks(a.V), row = (int)blockIdx.x, lane = (int)threadIdx.x;
    const struct figures from = figures_of(a, row);
    struct k_best most = {-INFINITY, INT32_MAX};
    float bad = 0.0f, sum = 0.0f;

    for (int c = lane; c < n_chunks; c += ROWS_LANES) {
        if (!(from.max[c] < INFINITY))
            bad = 1.0f;
        if (from.max[c] > most.value)
            most = {from.max[c], from.id[c]};
    }
    most = k_warp_best(most);
    bad = k_warp_sum(bad);
    for (int c = lane; c < n_chunks; c += ROWS_LANES)
        if (from.max[c] > -INFINITY)
            sum = fmaf(from.sum[c], k_exp(from.max[c] - most.value), sum);
    sum = k_warp_sum(sum);
    if (lane == 0) {
        const bool none = bad > 0.0f || !(most.value > -INFINITY);

        a.out_max[row] = none ? NAN : most.value;
        a.out_id[row] = none ? -1 : most.id;
        a.out_logsum[row] = none ? NAN : log_of(sum);
    }
}

int64_t k_logits_work_floats(int T, int V)
{
    return (int64_t)3 * T * k_logits_chunks(V);
}

int k_logits(void *stream, const struct k_logits_args *a)
{
    if (a->T < 1 || a->T > 65535 || a->V < 1)
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)k_logits_chunks(a->V), (unsigned)a->T);
    const int error = K_LAUNCH(chunks, grid, dim3(K_LOGITS_THREADS), 0, stream, *a);

    if (error != cudaSuccess)
        return error;
    return K_LAUNCH(rows, dim3((unsigned)a->T), dim3(ROWS_LANES), 0, stream, *a);
}
