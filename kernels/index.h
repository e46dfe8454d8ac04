/*
 * index.h - where things are: the index arithmetic of every kernel, as functions that compile as C,
 * as C++ and for the device.
 *
 * Kernels take every address, tile, split and fragment from here.  tests/unit_cuda_index.c looks
 * at the functions by themselves, on any machine.
 *
 * Shape letters: B sequences, T tokens, D width, F ffn width, V vocabulary, H query heads, K kv
 * heads (`n_kv` where K is an inner dimension), E head size, N blocks, P tokens per block.
 */
#ifndef EPIDOTE_KERNELS_INDEX_H
#define EPIDOTE_KERNELS_INDEX_H

#include <stdint.h>

#if defined(__CUDACC__)
#define K_FN static constexpr __host__ __device__ inline
#elif defined(__cplusplus)
#define K_FN static constexpr inline
#else
#define K_FN static inline
#endif

K_FN int k_ceil_div(int n, int by)
{
    return (n + by - 1) / by;
}

K_FN int k_min(int a, int b)
{
    return a < b ? a : b;
}

K_FN int k_max(int a, int b)
{
    return a > b ? a : b;
}

/* ---- KV blocks -------------------------------------------------------------------------------
 *
 * The layout of ops.h, [N][2][K][P*E] of bf16; a head's keys are [E/2][P][2], its values [P][E].
 */

/* First element of (block, 0 = key / 1 = value, head). */
K_FN int64_t k_kv_head(int K, int P, int E, int32_t block, int value, int head)
{
    return (((int64_t)block * 2 + value) * K + head) * ((int64_t)P * E);
}

/* Word (two elements, 2 * pair and 2 * pair + 1) of the key at position p of a block, in words from
 * the head's first. */
K_FN int k_kv_key_word(int P, int p, int pair)
{
    return pair * P + p;
}

/* Element e of the value at position p of a block, from the head's first. */
K_FN int k_kv_value_elem(int E, int p, int e)
{
    return p * E + e;
}

/* ---- attention of one token over its sequence -------------------------------------------------
 *
 * Positions are cut at multiples of K_SPLIT, wherever a sequence ends and whatever its window is.
 * One block of K_ATT_THREADS threads takes one split of one sequence and KV head, and G of the
 * query heads that share it at a time (1, 2, 4 or 8; the last may be fewer):
 *
 *   scores   thread i: positions i and i + K_ATT_THREADS of the split, all E elements
 *   values   a group of E/8 threads a position, 8 elements each; group g takes positions g, g + n,
 *            g + 2n ... of the split, n = groups.  Threads left over do nothing.
 */
enum { K_SPLIT = 256, K_ATT_THREADS = 128, K_ATT_MAX_G = 16, K_ATT_MAX_E = 256 };

K_FN int k_splits(int n_positions)
{
    return k_ceil_div(n_positions, K_SPLIT);
}

/* Positions of a split that a query at `pos` sees, from the split's first: *out_from <= j <
 * *out_to; none if they are equal.  window 0: all. */
K_FN void k_split_seen(int split, int pos, int window, int *out_from, int *out_to)
{
    const int first = split * K_SPLIT;
    const int to = k_min(pos + 1 - first, K_SPLIT);
    const int from = window > 0 ? k_max(pos + 1 - window - first, 0) : 0;

    *out_to = k_max(to, 0);
    *out_from = k_min(from, *out_to);
}

K_FN int k_att_heads_at_once(int n_heads)
{
    return n_heads >= 5 ? 8 : n_heads >= 3 ? 4 : n_heads;
}

/* Blocks that shall have room on a multiprocessor, which bounds the registers of a thread. */
K_FN int k_att_blocks(int G)
{
    return G <= 2 ? 8 : G == 4 ? 5 : 4;
}

K_FN int k_att_groups(int E)
{
    return K_ATT_THREADS / (E / 8);
}

/* First position that group g takes and that is not before `from`. */
K_FN int k_att_group_first(int E, int g, int from)
{
    const int n = k_att_groups(E);

    return from + (g - from % n + n) % n;
}

/* Floats of shared memory: scores [G][K_SPLIT], then q [G][E] and later, in its place, the groups'
 * sums of one head at a time [groups][E]. */
K_FN int k_att_score(int g, int j)
{
    return g * K_SPLIT + j;
}

K_FN int k_att_query(int G, int E, int g, int e)
{
    return G * K_SPLIT + g * E + e;
}

K_FN int k_att_group_sum(int G, int E, int group, int e)
{
    return G * K_SPLIT + group * E + e;
}

K_FN int k_att_shared_floats(int G, int E)
{
    return G * K_SPLIT + k_max(G, k_att_groups(E)) * E;
}

/* What splits leave, in floats: max [B][H][n_splits], sum likewise, values [B][H][n_splits][E]. */
K_FN int64_t k_att_partial(int H, int n_splits, int b, int h, int split)
{
    return ((int64_t)b * H + h) * n_splits + split;
}

/* ---- mma.sync m16n8k16, bf16 ------------------------------------------------------------------
 *
 * Which element a lane's registers hold (PTX ISA, "Matrix Fragments for mma.m16n8k16"): a register
 * of A or B is two elements that are neighbours in k.
 */
K_FN int k_mma_a_row(int lane, int i) /* register i of 4 */
{
    return lane / 4 + i % 2 * 8;
}

K_FN int k_mma_a_k(int lane, int i)
{
    return lane % 4 * 2 + i / 2 * 8;
}

K_FN int k_mma_b_col(int lane)
{
    return lane / 4;
}

K_FN int k_mma_b_k(int lane, int i) /* register i of 2 */
{
    return lane % 4 * 2 + i * 8;
}

K_FN int k_mma_c_row(int lane, int i) /* float i of 4 */
{
    return lane / 4 + i / 2 * 8;
}

K_FN int k_mma_c_col(int lane, int i)
{
    return lane % 4 * 2 + i % 2;
}

/* ---- attention of a prompt's tokens ---------------------------------------------------------------
 *
 * Queries and keys are cut at multiples of K_PRE_ROWS and K_PRE_KEYS, positions of the sequence
 * wherever a step begins.  One block takes one tile of queries of one sequence and query head, a
 * warp 16 of its rows.  The tiles of keys come in ascending order, each in two halves of 32 keys;
 * which ones depends on the tile of queries alone, not on how many of its rows are in the step.
 *
 *   scores   [16, 32] of a half are four mma tiles of 8 columns.  Column c of tile j is key
 *            4 c + j: 16 bytes of the keys' layout (four keys of a pair) are a lane's part of all
 *            four tiles
 *   values   the scores of tiles 2 s and 2 s + 1 are, register by register, the left side of step
 *            s of the half's two; its k = 0 .. 7 are then keys 4 k + 2 s, and k = 8 .. 15 the ones
 *            after those
 */
enum {
    K_PRE_ROWS = 64,
    K_PRE_WARP_ROWS = 16,
    K_PRE_KEYS = 64,
    K_PRE_HALF = 32, /* keys */
    K_PRE_THREADS = K_PRE_ROWS / K_PRE_WARP_ROWS * 32,
    K_PRE_KEY_STRIDE = K_PRE_KEYS + 8 /* words; so that 8 lanes that go together touch all banks */
};

/* Tiles of queries that n_tok tokens can be in, wherever the first one is. */
K_FN int k_pre_tiles(int n_tok)
{
    return k_ceil_div(n_tok - 1, K_PRE_ROWS) + 1;
}

/* First position that a query at `pos` sees.  window 0: all. */
K_FN int k_pre_from(int pos, int window)
{
    return window > 0 ? k_max(pos + 1 - window, 0) : 0;
}

K_FN int k_pre_sees(int pos, int key, int window)
{
    return key <= pos && key >= k_pre_from(pos, window);
}

/* Whether each of a warp's rows, the first at position `row`, sees all keys of the tile. */
K_FN int k_pre_sees_tile(int row, int key, int window)
{
    return key + K_PRE_KEYS - 1 <= row && key >= k_pre_from(row + K_PRE_WARP_ROWS - 1, window);
}

/* Key of a half that column c of mma tile j of its scores is. */
K_FN int k_pre_key(int j, int c)
{
    return c * 4 + j;
}

/* Key of the tile that k of step s (of four, two a half) of the values is. */
K_FN int k_pre_step_key(int s, int k)
{
    return s / 2 * K_PRE_HALF + k_pre_key(s % 2 * 2 + k / 8, k % 8);
}

/* First and last tile of keys, for the tile of queries whose first is at position `row`. */
K_FN int k_pre_first_tile(int row, int window)
{
    return k_pre_from(row, window) / K_PRE_KEYS;
}

K_FN int k_pre_last_tile(int row)
{
    return (row + K_PRE_ROWS - 1) / K_PRE_KEYS;
}

/* Head sizes share three kernels, for as many elements as this; it also says how memory is laid
 * out: keys as words [max_E/2][K_PRE_KEY_STRIDE], values [K_PRE_KEYS][max_E/8] of 16 bytes, queries
 * [max_E/16][K_PRE_THREADS] of 16 bytes, a thread's own of each step. */
K_FN int k_pre_max_E(int E)
{
    return E <= 64 ? 64 : E <= 128 ? 128 : 256;
}

K_FN int k_pre_key_word(int pair, int key)
{
    return pair * K_PRE_KEY_STRIDE + key;
}

/* Byte of elements 8 chunk .. + 7 of a key's value.  Chunks are moved around within a row, so that
 * the 8 keys of a step that go together touch all banks once. */
K_FN int k_pre_value_byte(int max_E, int key, int chunk)
{
    return k_pre_key_word(max_E / 2, 0) * 4 + key * max_E * 2 + (chunk ^ key / 4 % 8) * 16;
}

/* From the value of k of step 0 to that of step s, whatever k is. */
K_FN int k_pre_step_bytes(int max_E, int s)
{
    return k_pre_step_key(s, 0) * max_E * 2;
}

K_FN int k_pre_query_byte(int max_E, int step, int thread)
{
    return k_pre_value_byte(max_E, K_PRE_KEYS, 0) + (step * K_PRE_THREADS + thread) * 16;
}

K_FN int k_pre_shared_bytes(int max_E)
{
    return k_pre_query_byte(max_E, max_E / 16, 0);
}

/* Blocks that shall have room on a multiprocessor, which bounds the registers of a thread. */
K_FN int k_pre_blocks(int max_E)
{
    return max_E <= 64 ? 4 : max_E <= 128 ? 3 : 2;
}

/* ---- matmul of few rows: out [T, N] = x [T, n_in] W^T, W [N, n_in] ------------------------------
 *
 *   block   K_MM_ROWS rows of W, all T rows of x, one split of n_in
 *   stage   K_MM_STAGE inputs of them in shared memory; stages are fetched ahead, in a ring
 *   warp    (m, k) of 2 x 4: rows 32 m .. 32 m + 31 and inputs 32 k .. 32 k + 31 of every stage
 *   lane    16 bytes (8 inputs) of a row of W or x at a time
 *
 * Two mma of 16 inputs take 32 inputs.  Which 16 is free, as long as W and x agree: lane l takes
 * inputs 8 (l % 4) .. + 7, the first four for the first mma and the others for the second, so that
 * one access of 16 bytes fills its registers for both.
 *
 * The order of a sum depends on N and n_in alone: in a warp the stages of the split in ascending
 * order, then the four warps k = 0 .. 3, then the splits in ascending order.
 */
enum {
    K_MM_ROWS = 64,
    K_MM_STAGE = 128, /* inputs */
    K_MM_WARPS_M = 2,
    K_MM_WARPS_K = 4,
    K_MM_THREADS = 256,
    K_MM_MAX_T = 64,
    K_MM_TARGET_BLOCKS = 256, /* with fewer, n_in is split; part of the numerics */
    K_MM_MAX_SPLITS = 8,
    K_MM_CHUNKS = K_MM_STAGE / 8 /* of 16 bytes, a row of a stage */
};

K_FN int k_mm_blocks(int N)
{
    return k_ceil_div(N, K_MM_ROWS);
}

K_FN int k_mm_stages(int n_in)
{
    return k_ceil_div(n_in, K_MM_STAGE);
}

/* Into how many parts n_in is split: as many as give the target's blocks, of 4 stages at least. */
K_FN int k_mm_splits(int N, int n_in)
{
    const int wanted = k_ceil_div(K_MM_TARGET_BLOCKS, k_mm_blocks(N));
    const int most = k_max(k_mm_stages(n_in) / 4, 1);

    return k_min(k_min(wanted, most), K_MM_MAX_SPLITS);
}

/* First stage of a split; that of split n_splits is the end. */
K_FN int k_mm_split_stage(int n_in, int n_splits, int split)
{
    return (int)((int64_t)k_mm_stages(n_in) * split / n_splits);
}

/* Columns of 8 tokens that the kernel for T rows computes. */
K_FN int k_mm_tiles(int T)
{
    return T <= 8 ? 1 : T <= 16 ? 2 : T <= 32 ? 4 : 8;
}

/* Stages in the ring, so that all fit into 160 KiB. */
K_FN int k_mm_ring(int n_tiles)
{
    return n_tiles <= 2 ? 6 : n_tiles == 4 ? 5 : 4;
}

K_FN int k_mm_stage_bytes(int n_tiles)
{
    return (K_MM_ROWS + n_tiles * 8) * K_MM_STAGE * 2;
}

K_FN int k_mm_shared_bytes(int n_tiles)
{
    return k_mm_ring(n_tiles) * k_mm_stage_bytes(n_tiles);
}

/* Byte of chunk c (inputs 8 c .. 8 c + 7) of row r in a stage: rows of W first, then rows of x.
 * Chunks are moved around within a row, so that the 8 lanes whose accesses go together (two rows of
 * four neighbouring chunks) touch all banks once. */
K_FN int k_mm_chunk_byte(int r, int c)
{
    return r * (K_MM_STAGE * 2) + (c ^ (r % 2 * 4)) * 16;
}

K_FN int k_mm_x_row(int t) /* row of a stage that token t is */
{
    return K_MM_ROWS + t;
}

/* What a lane reads of a stage: rows of W (i = 0, 1 of an m16 tile) and of x, and its chunk. */
K_FN int k_mm_lane_w_row(int warp_m, int tile, int lane, int i)
{
    return warp_m * 32 + tile * 16 + k_mma_a_row(lane, i);
}

K_FN int k_mm_lane_x_row(int tile, int lane)
{
    return k_mm_x_row(tile * 8 + k_mma_b_col(lane));
}

K_FN int k_mm_lane_chunk(int warp_k, int lane)
{
    return warp_k * 4 + lane % 4;
}

/* Which word (two inputs) of its 16 bytes is register i of A or B of mma `half`: A has rows in
 * i % 2 and k in i / 2, B has k in i. */
K_FN int k_mm_word(int half, int k_part)
{
    return half * 2 + k_part;
}

/* Floats of shared memory, after the last stage: what warp (m, k) has summed, [k][m][..][lane]. */
K_FN int k_mm_sum_float(int n_tiles, int warp_k, int warp_m, int at, int lane)
{
    return ((warp_k * K_MM_WARPS_M + warp_m) * (2 * n_tiles * 4) + at) * 32 + lane;
}

/* Where the sum of output n of the block and token t is: its place `at` and its lane. */
K_FN int k_mm_at(int n_tiles, int n, int t)
{
    return ((n / 16 % 2) * n_tiles + t / 8) * 4 + n / 8 % 2 * 2 + t % 2;
}

K_FN int k_mm_lane(int n, int t)
{
    return n % 8 * 4 + t % 8 / 2;
}

/* Partial sums [n_splits][T][N]. */
K_FN int64_t k_mm_partial(int T, int N, int split, int t, int n)
{
    return ((int64_t)split * T + t) * N + n;
}

/* ---- matmul of prompts ------------------------------------------------------------------------ */

/* Rows of a chunk: part of the numerics, and a power of two.  The emulator has few, for its time.
 */
#if defined(K_EMULATED)
enum { K_PREFILL_ROWS = 32 };
#else
enum { K_PREFILL_ROWS = 2048 };
#endif

/* ---- logits ----------------------------------------------------------------------------------- */

enum { K_LOGITS_CHUNK = 1024, K_LOGITS_THREADS = 256, K_LOGITS_LANES = 32 };

K_FN int k_logits_chunks(int V)
{
    return k_ceil_div(V, K_LOGITS_CHUNK);
}

/* ---- sampling ----------------------------------------------------------------------------------
 *
 * A weight is a whole number of 2^-K_SAMPLE_BITS, that of the best token 1; so many tokens as
 * K_SAMPLE_MAX_V add up to 2^63.  One block takes a row.  Where in the ranks a sum is reached is
 * found K_SAMPLE_DIGIT bits of a token's key at a time, where in the order of ids a chunk at a
 * time, then a group of 32 at a time.
 */
enum {
    K_SAMPLE_BITS = 44,
    K_SAMPLE_MAX_V = 1 << 19,
    K_SAMPLE_MAX_CHUNKS = K_SAMPLE_MAX_V / K_LOGITS_CHUNK,
    K_SAMPLE_WEIGH_THREADS = 256,
    K_SAMPLE_THREADS = 512,
    K_SAMPLE_WARPS = K_SAMPLE_THREADS / 32,
    K_SAMPLE_DIGIT = 4,
    K_SAMPLE_DIGITS = 1 << K_SAMPLE_DIGIT,
    K_SAMPLE_GROUPS = K_LOGITS_CHUNK / 32
};

/* Of the bits of a float that is neither NaN nor -0: the larger the float, the smaller the key. */
K_FN uint32_t k_rank_key(uint32_t bits)
{
    return bits >> 31 ? bits : 0x7fffffffu - bits;
}

/* ---- experts ------------------------------------------------------------------------------------ */

enum { K_ROUTE_MAX_X = 1024, K_ROUTE_MAX_USED = 64, K_ROUTE_LANES = 16 };

#endif
