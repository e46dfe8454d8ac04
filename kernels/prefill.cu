/*
 * prefill.cu - the new tokens of a prompt attend to its paged KV, on the tensor cores.
 *
 *   prefill   block (tile of 64 queries, query head, sequence): the tiles of 64 keys in ascending
 *             order.  Keys and values have a buffer each in shared memory: values come in while
 *             scores are made, the next keys while values are summed
 *
 * A row of the tile is multiplied by itself: what is in the other rows, or that nothing is, changes
 * none of its bits.  index.h says which lane takes what, and where tiles are cut.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { KEYS = K_PRE_KEYS, HALF = K_PRE_HALF };

/* What a block works on. */
struct place {
    const int32_t *table; /* block ids from position 0 */
    int head;             /* of keys and values */
    int from, to;         /* positions of the tile that have a query */
    int seen;             /* the first that one of them sees; the last is to - 1 */
    int b, h;             /* sequence, query head */
};

/* Element of q and out that the query at a position begins with.  What it is made of is read anew
 * each time, which is cheaper than registers. */
static __device__ inline int64_t query_elem(const struct k_prefill_args &a, const struct place &at,
                                            int pos)
{
    const int64_t t = a.row0[at.b] + pos - a.pos0[at.b];

    return (t * a.H + at.h) * a.E;
}

/* ---- keys and values into shared memory ------------------------------------------------------------ */

/* Where a head's keys (value 0) or values (1) of the block lie that holds a position. */
static __device__ inline const uint16_t *head_of(const struct k_prefill_args &a,
                                                 const struct place &at, int pos, int value)
{
    return a.kv + k_kv_head(a.K, a.P, a.E, at.table[pos / a.P], value, at.head);
}

/* Begin to bring a tile's keys in: a thread takes four neighbouring ones of every eighth pair.  Of
 * keys that nobody sees there may be anything, zeros where none of the four is seen. */
static __device__ inline void fetch_keys(const struct k_prefill_args &a, const struct place &at,
                                         unsigned char *shared, int tile)
{
    const int key = (int)threadIdx.x % (KEYS / 4) * 4, pos = tile * KEYS + key;
    const bool real = pos + 3 >= at.seen && pos < at.to;
    const uint32_t *from = (const uint32_t *)a.kv;
    uint32_t *to = (uint32_t *)shared;

    if (real)
        from = (const uint32_t *)head_of(a, at, pos, 0) + k_kv_key_word(a.P, pos % a.P, 0);
    for (int pair = (int)threadIdx.x / (KEYS / 4); pair < a.E / 2;
         pair += K_PRE_THREADS / (KEYS / 4))
        k_copy_16(to + k_pre_key_word(pair, key), from + (real ? k_kv_key_word(a.P, 0, pair) : 0),
                  real);
}

/* The same of values: eight threads a key, which is zero if nobody sees it. */
template <int MAX_E>
static __device__ inline void fetch_values(const struct k_prefill_args &a, const struct place &at,
                                           unsigned char *shared, int tile)
{
    for (int key = (int)threadIdx.x / 8; key < KEYS; key += K_PRE_THREADS / 8) {
        const int pos = tile * KEYS + key;
        const bool real = pos >= at.seen && pos < at.to;
        const uint16_t *from = a.kv;

        if (real)
            from = head_of(a, at, pos, 1) + k_kv_value_elem(a.E, pos % a.P, 0);
        for (int chunk = (int)threadIdx.x % 8; chunk < a.E / 8; chunk += 8)
            k_copy_16(shared + k_pre_value_byte(MAX_E, key, chunk), from + (real ? chunk * 8 : 0),
                      real);
    }
}

/* ---- one warp: 16 rows ------------------------------------------------------------------------------ */

/* The left side of the scores, into shared memory, where each thread finds its own again.  Rows
 * without a query are zeros. */
template <int MAX_E>
static __device__ inline void keep_queries(const struct k_prefill_args &a, const struct place &at,
                                           int row, int lane, unsigned char *shared)
{
    for (int step = 0; step < a.E / 16; step++) {
        uint32_t x[4];

#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int pos = row + k_mma_a_row(lane, i), e = step * 16 + k_mma_a_k(lane, i);
            const uint16_t *q = a.q + query_elem(a, at, pos) + e;

            x[i] = pos >= at.from && pos < at.to ? *(const uint32_t *)q : 0;
        }
        *(uint4 *)(shared + k_pre_query_byte(MAX_E, step, (int)threadIdx.x)) =
            uint4{x[0], x[1], x[2], x[3]};
    }
}

/* score = q k^T: [half][mma tile][its registers]. */
template <int MAX_E>
static __device__ inline void scores(const unsigned char *shared, int E, int lane,
                                     float score[2][4][4])
{
    const uint32_t *keys = (const uint32_t *)shared + k_pre_key(0, k_mma_b_col(lane));

#pragma unroll
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 4; i++)
                score[half][j][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < MAX_E / 16; step++) {
        if (step * 16 >= E)
            break;
        const int pair = step * 8 + k_mma_b_k(lane, 0) / 2;
        const int next = step * 8 + k_mma_b_k(lane, 1) / 2;
        const uint4 q = *(const uint4 *)(shared + k_pre_query_byte(MAX_E, step, (int)threadIdx.x));

#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 low = *(const uint4 *)(keys + k_pre_key_word(pair, half * HALF));
            const uint4 high = *(const uint4 *)(keys + k_pre_key_word(next, half * HALF));

            k_mma(score[half][0], q.x, q.y, q.z, q.w, low.x, high.x);
            k_mma(score[half][1], q.x, q.y, q.z, q.w, low.y, high.y);
            k_mma(score[half][2], q.x, q.y, q.z, q.w, low.z, high.z);
            k_mma(score[half][3], q.x, q.y, q.z, q.w, low.w, high.w);
        }
    }
}

/* What the rows of a lane have so far: of row 0 and of row 8 of those that it holds. */
struct rows {
    float max[2], sum[2]; /* the sums of this lane's keys only */
};

/* weight = exp(score - max), rounded, the left side of the values: [half][mma tile][row].  Scores
 * are scaled, capped, and -inf where the row does not see the key; shrink is what sums so far, and
 * all that was added up by their maximum, have to be multiplied by. */
static __device__ inline void softmax(const struct k_prefill_args &a, int row, int first_key,
                                      int lane, float score[2][4][4], struct rows *rows,
                                      uint32_t weight[2][4][2], float shrink[2])
{
    const bool all = k_pre_sees_tile(row, first_key, a.window);
    float max[2] = {rows->max[0], rows->max[1]}, sum[2] = {0.0f, 0.0f};

#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int pos = row + k_mma_c_row(lane, i);
                const int key = first_key + half * HALF + k_pre_key(j, k_mma_c_col(lane, i));
                float x = score[half][j][i] * a.scale;

                if (a.softcap > 0.0f)
                    x = k_tanh(x / a.softcap) * a.softcap;
                if (!all && !k_pre_sees(pos, key, a.window))
                    x = -INFINITY;
                score[half][j][i] = x;
                max[i / 2] = fmaxf(max[i / 2], x);
            }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        max[r] = fmaxf(max[r], __shfl_xor_sync(0xffffffffu, max[r], 2));
        max[r] = fmaxf(max[r], __shfl_xor_sync(0xffffffffu, max[r], 1));
        const float top = max[r] > -INFINITY ? max[r] : 0.0f; /* nothing seen yet: all weigh 0 */

        shrink[r] = k_exp(rows->max[r] - top);
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float *x = score[half][j] + 2 * r;
                const uint32_t two = k_word(k_exp(x[0] - top), k_exp(x[1] - top));

                weight[half][j][r] = two;
                sum[r] += k_low(two);
                sum[r] += k_high(two);
            }
        rows->max[r] = max[r];
        rows->sum[r] = fmaf(rows->sum[r], shrink[r], sum[r]);
    }
}

/* acc = acc * shrink [row] + weight [half][mma tile][row] v. */
template <int MAX_E>
static __device__ inline void values(const unsigned char *shared, int E, int lane,
                                     const uint32_t weight[2][4][2], const float shrink[2],
                                     float acc[MAX_E / 8][4])
{
    const int key = k_pre_step_key(0, lane % 16);

#pragma unroll
    for (int e = 0; e < MAX_E / 16; e++) {
        if (e * 16 >= E)
            break;
        const unsigned char *mine = shared + k_pre_value_byte(MAX_E, key, 2 * e + lane / 16);
#pragma unroll
        for (int i = 0; i < 8; i++)
            acc[2 * e + i / 4][i % 4] *= shrink[i % 4 / 2];
#pragma unroll
        for (int s = 0; s < 4; s++) {
            const uint32_t *even = weight[s / 2][s % 2 * 2], *odd = weight[s / 2][s % 2 * 2 + 1];
            uint32_t v[4];

            k_load_transposed(v, mine + k_pre_step_bytes(MAX_E, s));
            k_mma(acc[2 * e], even[0], even[1], odd[0], odd[1], v[0], v[1]);
            k_mma(acc[2 * e + 1], even[0], even[1], odd[0], odd[1], v[2], v[3]);
        }
    }
}

/* out = acc / the sum of the four lanes that share a row. */
template <int MAX_E>
static __device__ inline void put(const struct k_prefill_args &a, const struct place &at, int row,
                                  int lane, const struct rows &rows, const float acc[MAX_E / 8][4])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int pos = row + k_mma_c_row(lane, 2 * r);
        uint16_t *out = a.out + query_elem(a, at, pos) + k_mma_c_col(lane, 0);
        float sum = rows.sum[r];

        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        if (pos < at.from || pos >= at.to)
            continue;
#pragma unroll
        for (int e = 0; e < MAX_E / 8; e++)
            if (e * 8 < a.E)
                *(uint32_t *)(out + e * 8) = k_word(acc[e][2 * r] / sum, acc[e][2 * r + 1] / sum);
    }
}

/* ---- a block ---------------------------------------------------------------------------------------- */

template <int MAX_E>
static __global__ void __launch_bounds__(K_PRE_THREADS, k_pre_blocks(MAX_E))
    prefill(struct k_prefill_args a)
{
    K_SHARED(unsigned char, shared);
    const int h = (int)blockIdx.y, b = (int)blockIdx.z, lane = (int)threadIdx.x % 32;
    const int pos0 = a.pos0[b], end = pos0 + a.n_tok[b];
    /* The last tiles see the most: they go first. */
    const int first = (pos0 / K_PRE_ROWS + (int)(gridDim.x - 1 - blockIdx.x)) * K_PRE_ROWS;
    const int row = first + (int)threadIdx.x / 32 * K_PRE_WARP_ROWS;
    struct place at;

    at.from = k_max(first, pos0);
    at.to = k_min(first + K_PRE_ROWS, end);
    if (at.from >= at.to)
        return;
    at.table = a.tables + (int64_t)b * a.ld_tables;
    at.b = b;
    at.h = h;
    at.head = h / (a.H / a.K);
    at.seen = k_pre_from(at.from, a.window);

    const int last_tile = k_pre_last_tile(first);
    struct rows rows = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    float acc[MAX_E / 8][4];

#pragma unroll
    for (int e = 0; e < MAX_E / 8; e++)
        for (int i = 0; i < 4; i++)
            acc[e][i] = 0.0f;
    int tile = k_pre_first_tile(first, a.window);
    fetch_keys(a, at, shared, tile);
    k_copy_commit();
    keep_queries<MAX_E>(a, at, row, lane, shared);
    for (; tile <= last_tile; tile++) {
        float score[2][4][4], shrink[2];
        uint32_t weight[2][4][2];

        k_copy_wait<0>(); /* the keys are there, as far as this thread brought them */
        __syncthreads(); /* and as far as the others did; and all are done with the values before */
        fetch_values<MAX_E>(a, at, shared, tile);
        k_copy_commit();
        scores<MAX_E>(shared, a.E, lane, score);
        softmax(a, row, tile * KEYS, lane, score, &rows, weight, shrink);
        k_copy_wait<0>(); /* the values, likewise */
        __syncthreads();  /* and all are done with the keys */
        if (tile < last_tile)
            fetch_keys(a, at, shared, tile + 1);
        k_copy_commit();
        values<MAX_E>(shared, a.E, lane, weight, shrink, acc);
    }
    put<MAX_E>(a, at, row, lane, rows, acc);
}

/* ---- launch ----------------------------------------------------------------------------------------- */

int k_prefill_start(void)
{
#if defined(K_EMULATED)
    return cudaSuccess;
#else
    const cudaError_t error = cudaFuncSetAttribute(
        prefill<128>, cudaFuncAttributeMaxDynamicSharedMemorySize, k_pre_shared_bytes(128));

    return error != cudaSuccess
               ? error
               : cudaFuncSetAttribute(prefill<256>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      k_pre_shared_bytes(256));
#endif
}

int k_prefill(void *stream, const struct k_prefill_args *a)
{
    if (a->B < 1 || a->B > 65535 || a->T < 1 || a->K < 1 || a->H < 1 || a->H > 65535 ||
        a->H % a->K != 0 || a->E % 16 != 0 || a->E < 16 || a->E > K_ATT_MAX_E ||
        (a->P != 16 && a->P != 32 && a->P != 64) || a->max_tok < 1 || a->max_tok > a->T ||
        a->window < 0)
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)k_pre_tiles(a->max_tok), (unsigned)a->H, (unsigned)a->B);
    const int max_E = k_pre_max_E(a->E);
    const auto kernel = max_E == 64 ? prefill<64> : max_E == 128 ? prefill<128> : prefill<256>;

    return K_LAUNCH(kernel, grid, dim3(K_PRE_THREADS), (size_t)k_pre_shared_bytes(max_E), stream,
                    *a);
}
