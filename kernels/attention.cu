/*
 * attention.cu - one new token of each sequence attends to its paged KV.
 *
 *   attend   block (split, KV head, sequence): scores of 256 positions, their softmax, their values
 *   merge    block (query head, sequence): the splits in ascending order
 *
 * index.h says which thread takes what.  The keys' layout lets neighbouring threads read
 * neighbouring positions, the values' 16 bytes of a position.
 */
#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { MERGE_THREADS = 64 };

/* ---- attend ------------------------------------------------------------------------------------- */

/* What a block works on. */
struct place {
    const int32_t *table; /* of its split: block ids from the split's first position */
    int head, from, to;   /* KV head; positions of the split that are seen */
};

/* Where a head's keys (value 0) or values (1) of the block lie that holds position j. */
static __device__ inline const uint16_t *head_of(const struct k_attention_args &a,
                                                 const struct place &at, int j, int value)
{
    return a.kv + k_kv_head(a.K, a.P, a.E, at.table[j / a.P], value, at.head);
}

/* shared [G][256] = the scores of this block's positions, -inf where one is not seen. */
template <int G>
static __device__ inline void scores(const struct k_attention_args &a, const struct place &at,
                                     float *shared)
{
    const int j0 = (int)threadIdx.x, j1 = j0 + K_ATT_THREADS;
    const bool seen0 = j0 >= at.from && j0 < at.to, seen1 = j1 >= at.from && j1 < at.to;
    const uint32_t *key0 = NULL, *key1 = NULL;
    float s0[G], s1[G];

    for (int g = 0; g < G; g++)
        s0[g] = s1[g] = 0.0f;
    if (seen0)
        key0 = (const uint32_t *)head_of(a, at, j0, 0) + k_kv_key_word(a.P, j0 % a.P, 0);
    if (seen1)
        key1 = (const uint32_t *)head_of(a, at, j1, 0) + k_kv_key_word(a.P, j1 % a.P, 0);
    if (seen0 || seen1) {
#pragma unroll 4
        for (int pair = 0; pair < a.E / 2; pair += 2) {
            const int here = k_kv_key_word(a.P, 0, pair), next = k_kv_key_word(a.P, 0, pair + 1);
            const uint32_t w0 = seen0 ? key0[here] : 0, v0 = seen0 ? key0[next] : 0;
            const uint32_t w1 = seen1 ? key1[here] : 0, v1 = seen1 ? key1[next] : 0;

#pragma unroll
            for (int g = 0; g < G; g++) {
                const float4 q = *(const float4 *)(shared + k_att_query(G, a.E, g, 2 * pair));

                s0[g] = fmaf(q.y, k_high(w0), s0[g]);
                s0[g] = fmaf(q.x, k_low(w0), s0[g]);
                s0[g] = fmaf(q.w, k_high(v0), s0[g]);
                s0[g] = fmaf(q.z, k_low(v0), s0[g]);
                s1[g] = fmaf(q.y, k_high(w1), s1[g]);
                s1[g] = fmaf(q.x, k_low(w1), s1[g]);
                s1[g] = fmaf(q.w, k_high(v1), s1[g]);
                s1[g] = fmaf(q.z, k_low(v1), s1[g]);
            }
        }
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
        float x0 = s0[g] * a.scale, x1 = s1[g] * a.scale;

        if (a.softcap > 0.0f) {
            x0 = k_tanh(x0 / a.softcap) * a.softcap;
            x1 = k_tanh(x1 / a.softcap) * a.softcap;
        }
        shared[k_att_score(g, j0)] = seen0 ? x0 : -INFINITY;
        shared[k_att_score(g, j1)] = seen1 ? x1 : -INFINITY;
    }
}

/* Scores become exp(score - max); a warp takes heads warp, warp + 4 ... */
template <int G>
static __device__ inline void softmax(float *shared, int n_heads, float *out_max, float *out_sum,
                                      int64_t stride)
{
    const int lane = (int)threadIdx.x % 32;

    for (int g = (int)threadIdx.x / 32; g < n_heads; g += K_ATT_THREADS / 32) {
        float most = -INFINITY, sum = 0.0f;

        for (int j = lane; j < K_SPLIT; j += 32)
            most = fmaxf(most, shared[k_att_score(g, j)]);
        most = k_warp_max(most);
        for (int j = lane; j < K_SPLIT; j += 32) {
            const float p = k_exp(shared[k_att_score(g, j)] - most);

            shared[k_att_score(g, j)] = p;
            sum += p;
        }
        sum = k_warp_sum(sum);
        if (lane == 0) {
            out_max[g * stride] = most;
            out_sum[g * stride] = sum;
        }
    }
}

/* out [n_heads][E], `stride` positions apart = the values, weighted. */
template <int G>
static __device__ inline void values(const struct k_attention_args &a, const struct place &at,
                                     float *shared, int n_heads, float *out, int64_t stride)
{
    const int n_groups = k_att_groups(a.E);
    const int group = (int)threadIdx.x / (a.E / 8), e = (int)threadIdx.x % (a.E / 8) * 8;
    float sum[G][8];

    for (int g = 0; g < G; g++)
        for (int i = 0; i < 8; i++)
            sum[g][i] = 0.0f;
    if (group < n_groups) {
#pragma unroll 4
        for (int j = k_att_group_first(a.E, group, at.from); j < at.to; j += n_groups) {
            const uint16_t *value = head_of(a, at, j, 1) + k_kv_value_elem(a.E, j % a.P, e);
            const uint4 v = *(const uint4 *)value;

#pragma unroll
            for (int g = 0; g < G; g++) {
                const float p = shared[k_att_score(g, j)];

                sum[g][0] = fmaf(p, k_low(v.x), sum[g][0]);
                sum[g][1] = fmaf(p, k_high(v.x), sum[g][1]);
                sum[g][2] = fmaf(p, k_low(v.y), sum[g][2]);
                sum[g][3] = fmaf(p, k_high(v.y), sum[g][3]);
                sum[g][4] = fmaf(p, k_low(v.z), sum[g][4]);
                sum[g][5] = fmaf(p, k_high(v.z), sum[g][5]);
                sum[g][6] = fmaf(p, k_low(v.w), sum[g][6]);
                sum[g][7] = fmaf(p, k_high(v.w), sum[g][7]);
            }
        }
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
        if (g >= n_heads)
            break;
        __syncthreads(); /* q, or the sums of the head before, have been read */
        if (group < n_groups) {
            float4 *to = (float4 *)(shared + k_att_group_sum(G, a.E, group, e));

            to[0] = float4{sum[g][0], sum[g][1], sum[g][2], sum[g][3]};
            to[1] = float4{sum[g][4], sum[g][5], sum[g][6], sum[g][7]};
        }
        __syncthreads();
        for (int i = (int)threadIdx.x; i < a.E; i += K_ATT_THREADS) {
            float total = shared[k_att_group_sum(G, a.E, 0, i)];

            for (int k = 1; k < n_groups; k++)
                total += shared[k_att_group_sum(G, a.E, k, i)];
            out[g * stride * a.E + i] = total;
        }
    }
}

template <int G>
static __global__ void __launch_bounds__(K_ATT_THREADS, k_att_blocks(G))
    attend(struct k_attention_args a)
{
    K_SHARED(float, shared);
    const int split = (int)blockIdx.x, b = (int)blockIdx.z, n_splits = (int)gridDim.x;
    const int n_group = a.H / a.K;
    const int64_t n_partials = (int64_t)a.B * a.H * n_splits;
    struct place at;

    at.head = (int)blockIdx.y;
    k_split_seen(split, a.pos[b], a.window, &at.from, &at.to);
    if (at.from == at.to)
        return;
    at.table = a.tables + (int64_t)b * a.ld_tables + split * (K_SPLIT / a.P);
    for (int first = 0; first < n_group; first += G) {
        const int h = at.head * n_group + first, n_heads = k_min(G, n_group - first);
        const uint16_t *q = a.q + ((int64_t)b * a.H + h) * a.E;
        const int64_t partial = k_att_partial(a.H, n_splits, b, h, split);

        if (first > 0)
            __syncthreads(); /* the sums before have been read */
        for (int i = (int)threadIdx.x; i < G * a.E; i += K_ATT_THREADS)
            shared[k_att_query(G, a.E, 0, i)] = i < n_heads * a.E ? k_f32(q[i]) : 0.0f;
        __syncthreads();
        scores<G>(a, at, shared);
        __syncthreads();
        softmax<G>(shared, n_heads, a.work + partial, a.work + n_partials + partial, n_splits);
        __syncthreads();
        values<G>(a, at, shared, n_heads, a.work + 2 * n_partials + partial * a.E, n_splits);
    }
}

/* ---- merge -------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(MERGE_THREADS)
    merge(struct k_attention_args a, int n_splits)
{
    const int h = (int)blockIdx.x, b = (int)blockIdx.y, pos = a.pos[b];
    const int64_t n_partials = (int64_t)a.B * a.H * n_splits;
    const int64_t partial = k_att_partial(a.H, n_splits, b, h, 0);
    const float *max = a.work + partial, *sum = max + n_partials;
    const float *values = a.work + 2 * n_partials + partial * a.E;
    const int first = a.window > 0 ? k_max(pos + 1 - a.window, 0) / K_SPLIT : 0;
    const int end = k_splits(pos + 1);
    float most = max[first], total = 0.0f;

    for (int s = first + 1; s < end; s++)
        most = fmaxf(most, max[s]);
    for (int s = first; s < end; s++)
        total = fmaf(sum[s], k_exp(max[s] - most), total);
    for (int e = (int)threadIdx.x; e < a.E; e += MERGE_THREADS) {
        float value = 0.0f;

        for (int s = first; s < end; s++)
            value = fmaf(values[(int64_t)s * a.E + e], k_exp(max[s] - most), value);
        a.out[((int64_t)b * a.H + h) * a.E + e] = k_bf16(value / total);
    }
}

int64_t k_attention_work_floats(int B, int H, int E, int max_pos)
{
    return (int64_t)B * H * k_splits(max_pos + 1) * (2 + E);
}

int k_attention(void *stream, const struct k_attention_args *a)
{
    if (a->B < 1 || a->B > 65535 || a->K < 1 || a->K > 65535 || a->H < 1 || a->H % a->K != 0 ||
        a->H / a->K > K_ATT_MAX_G || a->E % 16 != 0 || a->E < 16 || a->E > K_ATT_MAX_E ||
        (a->P != 16 && a->P != 32 && a->P != 64) || a->max_pos < 0 || a->window < 0)
        return cudaErrorInvalidValue;
    const int G = k_att_heads_at_once(a->H / a->K), n_splits = k_splits(a->max_pos + 1);
    const dim3 grid((unsigned)n_splits, (unsigned)a->K, (unsigned)a->B);
    const auto kernel = G == 1 ? attend<1> : G == 2 ? attend<2> : G == 4 ? attend<4> : attend<8>;
    const int error = K_LAUNCH(kernel, grid, dim3(K_ATT_THREADS),
                               (size_t)k_att_shared_floats(G, a->E) * sizeof(float), stream, *a);

    if (error != cudaSuccess)
        return error;
    return K_LAUNCH(merge, dim3((unsigned)a->H, (unsigned)a->B), dim3(MERGE_THREADS), 0, stream, *a,
                    n_splits);
}
