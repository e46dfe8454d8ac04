/*
 * experts.cu - a mixture of experts, beside its matmuls: which experts a row goes to, and the sum
 * of what they made of it.  To the bit what src/ops/cpu/experts_body.h does.
 *
 *   route     a warp a row: softmax, the best one after another, then in the order of their ids
 *   combine   thread (element, row)
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { ROUTE_LANES = 32, ASSIGN_THREADS = 128, GATHER_THREADS = 256, COMBINE_THREADS = 256 };

/* ---- route -------------------------------------------------------------------------------------- */

/* p [X] = softmax of a row's logits, for all lanes to see. */
static __device__ inline void softmax(const float *logits, int X, float *p)
{
    const int lane = (int)threadIdx.x;
    float max = -INFINITY, sum = 0.0f;

    for (int x = lane; x < X; x += ROUTE_LANES)
        max = fmaxf(max, logits[x]);
    max = k_warp_max(max);
    for (int x = lane; x < X; x += ROUTE_LANES)
        p[x] = k_exp(logits[x] - max);
    __syncthreads();
    for (int x = lane % K_ROUTE_LANES; x < X; x += K_ROUTE_LANES)
        sum += p[x];
    for (int half = K_ROUTE_LANES / 2; half > 0; half /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, half);
    __syncthreads();
    for (int x = lane; x < X; x += ROUTE_LANES)
        p[x] /= sum;
    __syncthreads();
}

static __global__ void __launch_bounds__(ROUTE_LANES) route(struct k_route_args a)
{
    __shared__ float p[K_ROUTE_MAX_X], used[K_ROUTE_MAX_USED];
    __shared__ int32_t best[K_ROUTE_MAX_USED];
    const int lane = (int)threadIdx.x;
    const int64_t row = blockIdx.x, first = row * a.n_used;
    uint32_t taken = 0; /* of this lane's experts: bit i is expert 32 i + lane */
    float sum = 0.0f;

    softmax(a.logits + row * a.X, a.X, p);
    for (int n = 0; n < a.n_used; n++) {
        struct k_best mine = {-INFINITY, INT32_MAX};

        for (int x = lane; x < a.X; x += ROUTE_LANES) {
            const float value = p[x] >= 0.0f ? p[x] : -1.0f; /* NaNs come last */

            if ((taken >> (x / ROUTE_LANES) & 1) == 0 && value > mine.value)
                mine = {value, x};
        }
        mine = k_warp_best(mine);
        if (mine.id % ROUTE_LANES == lane)
            taken |= 1u << (mine.id / ROUTE_LANES);
        if (lane == 0)
            best[n] = mine.id;
    }
    __syncthreads();
    for (int n = lane; n < a.n_used; n += ROUTE_LANES) {
        int place = 0;

        for (int i = 0; i < a.n_used; i++)
            place += best[i] < best[n];
        a.experts[first + place] = best[n];
        used[place] = p[best[n]];
    }
    __syncthreads();
    for (int n = 0; n < a.n_used; n++)
        sum += used[n];
    for (int n = lane; n < a.n_used; n += ROUTE_LANES)
        a.weights[first + n] = a.normalise ? used[n] / sum : used[n];
}

int k_route(void *stream, const struct k_route_args *a)
{
    if (a->T < 1 || a->n_used < 1 || a->n_used > a->X || a->X > K_ROUTE_MAX_X ||
        a->n_used > K_ROUTE_MAX_USED)
        return cudaErrorInvalidValue;
    return K_LAUNCH(route, dim3((unsigned)a->T), dim3(ROUTE_LANES), 0, stream, *a);
}

/* ---- assign, gather ------------------------------------------------------------------------------ */

static __global__ void assign(struct k_assign_args a)
{
    const int i = (int)(blockIdx.x * ASSIGN_THREADS + threadIdx.x), n = a.T * a.n_used;
    const bool is_row = i < n;
    const int expert = is_row ? a.experts[i] : i - n;
    int before = 0;

    if (expert > a.X)
        return;
    for (int j = 0; j < n; j++)
        before += a.experts[j] < expert || (is_row && a.experts[j] == expert && j < i);
    if (is_row)
        a.slots[i] = before;
    else
        a.first[expert] = before;
}

int k_assign(void *stream, const struct k_assign_args *a)
{
    if (a->T < 1 || a->n_used < 1 || (int64_t)a->T * a->n_used > 65535 || a->X < 1 ||
        a->X > K_ROUTE_MAX_X)
        return cudaErrorInvalidValue;
    const int n = a->T * a->n_used + a->X + 1;

    return K_LAUNCH(assign, dim3((unsigned)k_ceil_div(n, ASSIGN_THREADS)), dim3(ASSIGN_THREADS), 0,
                    stream, *a);
}

static __global__ void gather(struct k_gather_args a)
{
    const int v = (int)(blockIdx.x * GATHER_THREADS + threadIdx.x), vecs = a.D / 8;
    const int64_t i = blockIdx.y;

    if (v < vecs)
        ((uint4 *)a.out)[a.slots[i] * (int64_t)vecs + v] =
            ((const uint4 *)a.x)[i / a.n_used * vecs + v];
}

int k_gather(void *stream, const struct k_gather_args *a)
{
    if (a->T < 1 || a->n_used < 1 || (int64_t)a->T * a->n_used > 65535 || a->D < 8 || a->D % 8 != 0)
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)k_ceil_div(a->D / 8, GATHER_THREADS), (unsigned)(a->T * a->n_used));

    return K_LAUNCH(gather, grid, dim3(GATHER_THREADS), 0, stream, *a);
}

/* ---- combine ------------------------------------------------------------------------------------ */

static __global__ void combine(struct k_combine_args a)
{
    const int i = (int)(blockIdx.x * COMBINE_THREADS + threadIdx.x);
    const int64_t t = blockIdx.y;
    float sum = 0.0f;

    if (i >= a.D)
        return;
    for (int64_t n = t * a.n_used; n < (t + 1) * a.n_used; n++)
        sum += a.rows[(int64_t)a.at[n] * a.D + i] * a.weights[n];
    a.out[t * a.D + i] = sum;
}

int k_combine(void *stream, const struct k_combine_args *a)
{
    if (a->T < 1 || a->T > 65535 || a->n_used < 1 || a->D < 1)
        return cudaErrorInvalidValue;
    return K_LAUNCH(combine, dim3((unsigned)k_ceil_div(a->D, COMBINE_THREADS), (unsigned)a->T),
                    dim3(COMBINE_THREADS), 0, stream, *a);
}
