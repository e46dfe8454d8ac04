/*
 * matmul.cu - a few rows times a matrix of weights: the weights are read once, and are the tall
 * side of the tensor cores' product.
 *
 *   multiply           block (64 outputs, split of the inputs): stages of 128 inputs of W and x
 *                      come into a ring in shared memory while those before are multiplied
 *   multiply_experts   block (64 outputs, split of the inputs, expert): the same of its rows
 *   add_up             thread (output, token): the splits in ascending order, if several
 *
 * index.h says which thread takes what, and in which order sums are made.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { ADD_THREADS = 256 };

/* ---- multiply ----------------------------------------------------------------------------------- */

/* Begin to bring one stage in; beyond W, x and their rows are zeros. */
template <int TILES>
static __device__ inline void fetch(const struct k_matmul_args &a, unsigned char *stage, int at)
{
    for (int i = (int)threadIdx.x; i < (K_MM_ROWS + TILES * 8) * K_MM_CHUNKS; i += K_MM_THREADS) {
        const int r = i / K_MM_CHUNKS, c = i % K_MM_CHUNKS, k = at * K_MM_STAGE + c * 8;
        const int n = (int)blockIdx.x * K_MM_ROWS + r, t = r - K_MM_ROWS;
        const bool real = k < a.n_in && (r < K_MM_ROWS ? n < a.N : t < a.T);
        const uint16_t *from = r < K_MM_ROWS ? a.w + n * a.ldw + k : a.x + (int64_t)t * a.ldx + k;

        k_copy_16(stage + k_mm_chunk_byte(r, c), real ? from : a.w, real);
    }
}

static __device__ inline uint4 read_chunk(const unsigned char *stage, int r, int c)
{
    return *(const uint4 *)(stage + k_mm_chunk_byte(r, c));
}

static __device__ inline uint32_t word_of(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* sum += this warp's rows and inputs of a stage. */
template <int TILES>
static __device__ inline void multiply_stage(const unsigned char *stage, int warp_m, int warp_k,
                                             int lane, float sum[2][TILES][4])
{
    const int c = k_mm_lane_chunk(warp_k, lane);
    uint4 w[2][2];

#pragma unroll
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < 2; i++)
            w[m][i] = read_chunk(stage, k_mm_lane_w_row(warp_m, m, lane, i), c);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        const uint4 x = read_chunk(stage, k_mm_lane_x_row(tile, lane), c);

#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int m = 0; m < 2; m++)
                k_mma(sum[m][tile], word_of(w[m][0], k_mm_word(half, 0)),
                      word_of(w[m][1], k_mm_word(half, 0)), word_of(w[m][0], k_mm_word(half, 1)),
                      word_of(w[m][1], k_mm_word(half, 1)), word_of(x, k_mm_word(half, 0)),
                      word_of(x, k_mm_word(half, 1)));
    }
}

static __device__ inline void put(const struct k_matmul_args &a, int t, int n, float value)
{
    float *out = a.out + (int64_t)t * a.ldo + n;

    if (a.bias != NULL)
        value += a.bias[n];
    *out = a.add ? *out + value : value;
}

/* One block's outputs and split; partial sums are of work_T rows. */
template <int TILES>
static __device__ inline void multiply_split(const struct k_matmul_args &a, int work_T)
{
    constexpr int RING = k_mm_ring(TILES), STAGE_BYTES = k_mm_stage_bytes(TILES);
    K_SHARED(unsigned char, shared);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int warp_m = warp % K_MM_WARPS_M, warp_k = warp / K_MM_WARPS_M;
    const int split = (int)blockIdx.y, n_splits = (int)gridDim.y;
    const int first = k_mm_split_stage(a.n_in, n_splits, split);
    const int end = k_mm_split_stage(a.n_in, n_splits, split + 1);
    float sum[2][TILES][4];

    for (int m = 0; m < 2; m++)
        for (int tile = 0; tile < TILES; tile++)
            for (int i = 0; i < 4; i++)
                sum[m][tile][i] = 0.0f;
    for (int s = 0; s < RING - 1; s++) {
        if (first + s < end)
            fetch<TILES>(a, shared + s * STAGE_BYTES, first + s);
        k_copy_commit();
    }
    for (int s = first; s < end; s++) {
        const int ahead = s + RING - 1;

        k_copy_wait<RING - 2>(); /* stage s is there, as far as this thread brought it */
        __syncthreads(); /* and as far as the others did; and all are done with stage s - 1 */
        if (ahead < end)
            fetch<TILES>(a, shared + (ahead - first) % RING * STAGE_BYTES, ahead);
        k_copy_commit();
        multiply_stage<TILES>(shared + (s - first) % RING * STAGE_BYTES, warp_m, warp_k, lane, sum);
    }
    __syncthreads(); /* the last stage has been read; no copy is under way any more */

    float *sums = (float *)shared;
    for (int m = 0; m < 2; m++)
        for (int tile = 0; tile < TILES; tile++)
            for (int i = 0; i < 4; i++)
                sums[k_mm_sum_float(TILES, warp_k, warp_m, (m * TILES + tile) * 4 + i, lane)] =
                    sum[m][tile][i];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < K_MM_ROWS * TILES * 8; i += K_MM_THREADS) {
        const int r = i % K_MM_ROWS, t = i / K_MM_ROWS, n = (int)blockIdx.x * K_MM_ROWS + r;
        const int at = k_mm_at(TILES, r, t), its_lane = k_mm_lane(r, t);
        float value = sums[k_mm_sum_float(TILES, 0, r / 32, at, its_lane)];

        for (int k = 1; k < K_MM_WARPS_K; k++)
            value += sums[k_mm_sum_float(TILES, k, r / 32, at, its_lane)];
        if (n >= a.N || t >= a.T)
            continue;
        if (n_splits > 1)
            a.work[k_mm_partial(work_T, a.N, split, t, n)] = value;
        else
            put(a, t, n, value);
    }
}

template <int TILES>
static __global__ void __launch_bounds__(K_MM_THREADS) multiply(struct k_matmul_args a)
{
    multiply_split<TILES>(a, a.T);
}

/* T rows from `first` on, times the weights of one expert. */
static __host__ __device__ inline struct k_matmul_args
rows_of(const struct k_matmul_experts_args &x, int64_t first, int T, int expert)
{
    float *work = x.work != NULL ? x.work + first * x.N : NULL;

    return {x.out + first * x.N,
            x.x + first * x.n_in,
            x.w + expert * x.expert_elems,
            NULL,
            work,
            x.n_in,
            x.n_in,
            x.N,
            T,
            x.N,
            x.n_in,
            0};
}

template <int TILES>
static __global__ void __launch_bounds__(K_MM_THREADS)
    multiply_experts(struct k_matmul_experts_args x)
{
    const int expert = (int)blockIdx.z, first = x.first[expert], T = x.first[expert + 1] - first;

    if (T > 0)
        multiply_split<TILES>(rows_of(x, first, T, expert), x.n_rows);
}

/* ---- add_up ------------------------------------------------------------------------------------- */

static __global__ void add_up(struct k_matmul_args a, int n_splits)
{
    const int n = (int)(blockIdx.x * ADD_THREADS + threadIdx.x), t = (int)blockIdx.y;

    if (n >= a.N)
        return;
    float value = a.work[k_mm_partial(a.T, a.N, 0, t, n)];
    for (int split = 1; split < n_splits; split++)
        value += a.work[k_mm_partial(a.T, a.N, split, t, n)];
    put(a, t, n, value);
}

/* ---- launch ------------------------------------------------------------------------------------- */

int64_t k_matmul_work_floats(int T, int N, int n_in)
{
    const int n_splits = k_mm_splits(N, n_in);

    return n_splits > 1 ? (int64_t)n_splits * T * N : 0;
}

template <int TILES> static int start(void)
{
#if defined(K_EMULATED)
    return cudaSuccess;
#else
    const cudaError_t error = cudaFuncSetAttribute(
        multiply<TILES>, cudaFuncAttributeMaxDynamicSharedMemorySize, k_mm_shared_bytes(TILES));

    return error != cudaSuccess ? error
                                : cudaFuncSetAttribute(multiply_experts<TILES>,
                                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       k_mm_shared_bytes(TILES));
#endif
}

int k_matmul_start(void)
{
    int error = start<1>();

    error = error == cudaSuccess ? start<2>() : error;
    error = error == cudaSuccess ? start<4>() : error;
    return error == cudaSuccess ? start<8>() : error;
}

int k_matmul(void *stream, const struct k_matmul_args *a)
{
    if (a->T < 1 || a->T > K_MM_MAX_T || a->N < 1 || a->n_in < 8 || a->n_in % 8 != 0 ||
        a->ldx % 8 != 0 || a->ldw % 8 != 0)
        return cudaErrorInvalidValue;
    const int n_splits = k_mm_splits(a->N, a->n_in), tiles = k_mm_tiles(a->T);
    const dim3 grid((unsigned)k_mm_blocks(a->N), (unsigned)n_splits);
    const auto kernel = tiles == 1   ? multiply<1>
                        : tiles == 2 ? multiply<2>
                        : tiles == 4 ? multiply<4>
                                     : multiply<8>;

    if (n_splits > 1 && a->work == NULL)
        return cudaErrorInvalidValue;
    const int error =
        K_LAUNCH(kernel, grid, dim3(K_MM_THREADS), k_mm_shared_bytes(tiles), stream, *a);
    if (error != cudaSuccess || n_splits == 1)
        return error;
    return K_LAUNCH(add_up, dim3((unsigned)k_ceil_div(a->N, ADD_THREADS), (unsigned)a->T),
                    dim3(ADD_THREADS), 0, stream, *a, n_splits);
}

int k_matmul_experts(void *stream, const struct k_matmul_experts_args *x)
{
    if (x->max_rows < 1 || x->max_rows > K_MM_MAX_T || x->n_rows < 1 || x->n_rows > 65535 ||
        x->X < 1 || x->X > K_ROUTE_MAX_X || x->N < 1 || x->n_in < 8 || x->n_in % 8 != 0 ||
        x->expert_elems % 8 != 0)
        return cudaErrorInvalidValue;
    const int n_splits = k_mm_splits(x->N, x->n_in), tiles = k_mm_tiles(x->max_rows);
    const dim3 grid((unsigned)k_mm_blocks(x->N), (unsigned)n_splits, (unsigned)x->X);
    const auto kernel = tiles == 1   ? multiply_experts<1>
                        : tiles == 2 ? multiply_experts<2>
                        : tiles == 4 ? multiply_experts<4>
                                     : multiply_experts<8>;

    if (n_splits > 1 && x->work == NULL)
        return cudaErrorInvalidValue;
    const int error =
        K_LAUNCH(kernel, grid, dim3(K_MM_THREADS), k_mm_shared_bytes(tiles), stream, *x);
    if (error != cudaSuccess || n_splits == 1)
        return error;
    return K_LAUNCH(add_up, dim3((unsigned)k_ceil_div(x->N, ADD_THREADS), (unsigned)x->n_rows),
                    dim3(ADD_THREADS), 0, stream, rows_of(*x, 0, x->n_rows, 0), n_splits);
}
