/*
 * sample.cu - a token of each row of logits, by the steps of src/model/sampler.c.
 *
 *   weigh    block (chunk of 1,024 ids, row): every token's weight, a whole number
 *   choose   block (row): which tokens top-k, top-p and min-p keep, then the draw
 *
 * Sums of whole numbers are exact, so it does not matter who adds what first: threads take ids as
 * suits them.  Two searches do everything: find_rank goes through tokens from the best on, find_id
 * through ids from 0 on, to where the sum of what they pass reaches a goal.
 */
#include <float.h>
#include <string.h>

#include "kernels/device.cuh"
#include "kernels/launch.h"
#include "src/base/draw.h"

/* ---- weigh -------------------------------------------------------------------------------------- */

/* Whether a row has something to draw: it is neither bad nor greedy. */
static __device__ inline bool draws(const struct k_sample_args &a, int row)
{
    return a.id[row] >= 0 && a.rows[row].temperature >= DBL_MIN;
}

static __device__ inline uint64_t whole(double weight)
{
    return (uint64_t)(weight * (double)(1ull << K_SAMPLE_BITS) + 0.5);
}

static __global__ void __launch_bounds__(K_SAMPLE_WEIGH_THREADS) weigh(struct k_sample_args a)
{
    const int row = (int)blockIdx.y, first = (int)blockIdx.x * K_LOGITS_CHUNK;

    if (!draws(a, row))
        return;
    const double max = (double)a.max[row], temperature = a.rows[row].temperature;
    for (int i = (int)threadIdx.x; i < K_LOGITS_CHUNK; i += K_SAMPLE_WEIGH_THREADS) {
        if (first + i >= a.V)
            break;
        const int64_t at = (int64_t)row * a.V + first + i;
        const double score = ((double)a.logits[at] - max) / temperature;

        a.work[at] = score >= -50.0 ? whole(draw_exp(score)) : 0;
    }
}

/* ---- tokens ------------------------------------------------------------------------------------- */

/* A token's place among all: better ones have smaller keys, of equals the lowest id is first. */
struct rank {
    uint32_t key;
    int id;
};

/* The tokens of a row that may still be drawn, and what each of them counts. */
struct tokens {
    const float *logits;
    const uint64_t *weights;
    int V;
    bool by_number;      /* each counts 1; else its weight */
    uint32_t first_key;  /* none before this key, */
    struct rank last;    /* none after this rank, */
    uint64_t min_weight; /* none that weighs less */
};

/* What the block's threads tell each other. */
struct scratch {
    uint64_t warps[K_SAMPLE_WARPS][K_SAMPLE_DIGITS], digits[K_SAMPLE_DIGITS];
    uint64_t chunks[K_SAMPLE_MAX_CHUNKS], groups[K_SAMPLE_GROUPS];
};

static __device__ inline uint32_t key_of(const struct tokens &t, int id)
{
    return k_rank_key(k_bits(t.logits[id] + 0.0f)); /* -0 becomes 0 */
}

/* What a token counts; 0 if it is not one of them. */
static __device__ inline uint64_t count_of(const struct tokens &t, int id, uint32_t key)
{
    if (key < t.first_key || key > t.last.key || (key == t.last.key && id > t.last.id))
        return 0;
    const uint64_t weight = t.weights[id];
    return weight < t.min_weight ? 0 : t.by_number ? 1 : weight;
}

static __device__ inline uint64_t warp_sum(uint64_t x)
{
    for (int half = 16; half > 0; half /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, half);
    return x;
}

/* ---- the two searches, by all threads ----------------------------------------------------------- */

/* s->digits = what the tokens count whose keys begin with `prefix`, by the next digit. */
static __device__ inline void count_digits(const struct tokens &t, uint32_t prefix, int shift,
                                           struct scratch *s)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    uint64_t sum[K_SAMPLE_DIGITS] = {};

    for (int id = (int)threadIdx.x; id < t.V; id += K_SAMPLE_THREADS) {
        const uint32_t key = key_of(t, id);
        const uint32_t digit = key >> shift & (K_SAMPLE_DIGITS - 1);

        if ((uint64_t)key >> (shift + K_SAMPLE_DIGIT) != prefix)
            continue;
        const uint64_t count = count_of(t, id, key);
#pragma unroll
        for (uint32_t d = 0; d < K_SAMPLE_DIGITS; d++)
            sum[d] += d == digit ? count : 0;
    }
    __syncthreads(); /* what was there before has been read */
#pragma unroll
    for (int d = 0; d < K_SAMPLE_DIGITS; d++) {
        sum[d] = warp_sum(sum[d]);
        if (lane == 0)
            s->warps[warp][d] = sum[d];
    }
    __syncthreads();
    if (threadIdx.x < K_SAMPLE_DIGITS) {
        uint64_t total = 0;

        for (int w = 0; w < K_SAMPLE_WARPS; w++)
            total += s->warps[w][threadIdx.x];
        s->digits[threadIdx.x] = total;
    }
    __syncthreads();
}

/* The first of ascending ids up to which tokens count `goal` together; goal >= 1 is reached. */
static __device__ inline int find_id(const struct tokens &t, uint64_t goal, struct scratch *s)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int n_chunks = k_logits_chunks(t.V);
    uint64_t sum;
    int chunk = 0, group = 0;

    __syncthreads(); /* what was there before has been read */
    for (int c = warp; c < n_chunks; c += K_SAMPLE_WARPS) {
        const int first = c * K_LOGITS_CHUNK, end = k_min(first + K_LOGITS_CHUNK, t.V);

        sum = 0;
        for (int id = first + lane; id < end; id += 32)
            sum += count_of(t, id, key_of(t, id));
        sum = warp_sum(sum);
        if (lane == 0)
            s->chunks[c] = sum;
    }
    __syncthreads();
    for (; s->chunks[chunk] < goal; chunk++)
        goal -= s->chunks[chunk];
    for (int g = warp; g < K_SAMPLE_GROUPS; g += K_SAMPLE_WARPS) {
        const int id = chunk * K_LOGITS_CHUNK + g * 32 + lane;

        sum = warp_sum(id < t.V ? count_of(t, id, key_of(t, id)) : 0);
        if (lane == 0)
            s->groups[g] = sum;
    }
    __syncthreads();
    for (; s->groups[group] < goal; group++)
        goal -= s->groups[group];
    int id = chunk * K_LOGITS_CHUNK + group * 32;
    for (;; id++) {
        const uint64_t count = count_of(t, id, key_of(t, id));

        if (count >= goal)
            return id;
        goal -= count;
    }
}

/* The first of ascending ranks up to which tokens count `goal` together; goal >= 1 is reached. */
static __device__ inline struct rank find_rank(const struct tokens &t, uint64_t goal,
                                               struct scratch *s)
{
    struct tokens ties = t;
    uint32_t prefix = 0;

    for (int shift = 32 - K_SAMPLE_DIGIT; shift >= 0; shift -= K_SAMPLE_DIGIT) {
        uint32_t digit = 0;

        count_digits(t, prefix, shift, s);
        for (; s->digits[digit] < goal; digit++)
            goal -= s->digits[digit];
        prefix = prefix << K_SAMPLE_DIGIT | digit;
    }
    ties.first_key = prefix;
    if (prefix < ties.last.key)
        ties.last = {prefix, INT32_MAX};
    return {prefix, find_id(ties, goal, s)};
}

/* What all of them count. */
static __device__ inline uint64_t count_all(const struct tokens &t, struct scratch *s)
{
    uint64_t sum = 0;

    for (int id = (int)threadIdx.x; id < t.V; id += K_SAMPLE_THREADS)
        sum += count_of(t, id, key_of(t, id));
    sum = warp_sum(sum);
    __syncthreads(); /* what was there before has been read */
    if (threadIdx.x % 32 == 0)
        s->warps[threadIdx.x / 32][0] = sum;
    __syncthreads();
    sum = 0;
    for (int w = 0; w < K_SAMPLE_WARPS; w++)
        sum += s->warps[w][0];
    return sum;
}

/* ---- choose ------------------------------------------------------------------------------------- */

/* 53 random bits that belong to (seed, row, sample, position). */
static __device__ inline uint64_t random_53(const struct k_sample_row &of)
{
    uint32_t bits[4] = {(uint32_t)of.row, (uint32_t)(of.row >> 32), of.sample,
                        (uint32_t)of.position};

    draw_philox((uint32_t)of.seed, (uint32_t)(of.seed >> 32), bits);
    return ((uint64_t)bits[0] << 32 | bits[1]) >> 11;
}

static __global__ void __launch_bounds__(K_SAMPLE_THREADS) choose(struct k_sample_args a)
{
    __shared__ struct scratch scratch;
    const int row = (int)blockIdx.x;
    const struct k_sample_row &of = a.rows[row];
    struct tokens t = {a.logits + (int64_t)row * a.V,
                       a.work + (int64_t)row * a.V,
                       a.V,
                       false,
                       0,
                       {UINT32_MAX, INT32_MAX},
                       0};

    if (!draws(a, row)) {
        if (threadIdx.x == 0)
            a.out[row] = a.id[row];
        return;
    }
    if (of.top_k > 0 && of.top_k < a.V) {
        t.by_number = true;
        t.last = find_rank(t, (uint64_t)of.top_k, &scratch);
        t.by_number = false;
    }
    if (of.top_p < 1.0) {
        const double goal = ceil(of.top_p * (double)count_all(t, &scratch));

        t.last = find_rank(t, goal > 1.0 ? (uint64_t)goal : 1, &scratch);
    }
    t.min_weight = whole(of.min_p);
    /* u < 1 of the sum, rounded down: the draw is the first token whose sum is beyond it. */
    const unsigned __int128 share = (unsigned __int128)random_53(of) * count_all(t, &scratch);
    const int id = find_id(t, (uint64_t)(share >> 53) + 1, &scratch);
    if (threadIdx.x == 0)
        a.out[row] = id;
}

int64_t k_sample_work_words(int T, int V)
{
    return (int64_t)T * V;
}

int k_sample(void *stream, const struct k_sample_args *a)
{
    if (a->T < 1 || a->T > 65535 || a->V < 1 || a->V > K_SAMPLE_MAX_V)
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)k_logits_chunks(a->V), (unsigned)a->T);
    const int error = K_LAUNCH(weigh, grid, dim3(K_SAMPLE_WEIGH_THREADS), 0, stream, *a);

    if (error != cudaSuccess)
        return error;
    return K_LAUNCH(choose, dim3((unsigned)a->T), dim3(K_SAMPLE_THREADS), 0, stream, *a);
}
