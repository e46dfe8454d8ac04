/*
 * kernels.h - what libepidote_cuda.so offers: one table of functions in plain C.
 *
 * The program finds the table with dlopen (src/ops/cuda.c), so that it needs no CUDA itself.  Both
 * sides are of one build: `abi` and `n_bytes` tell them apart if they are not.
 *
 * Every function that returns int returns 0, a cudaError_t or an enum k_error, which error_text
 * explains.
 */
#ifndef EPIDOTE_KERNELS_H
#define EPIDOTE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { K_ABI = 2 };                       /* changes with the meaning of anything below */
#define K_LIBRARY "libepidote_cuda.so"    /* its name */
#define K_TABLE_NAME "epidote_cuda_table" /* its only symbol */

enum k_error {
    K_ERROR_LT = 100000,   /* and a cublasStatus_t */
    K_ERROR_ROWS = 200000, /* a library's matmul gives a row other bits at another place */
    K_ERROR_ALGORITHM      /* a library has no algorithm that may be used */
};

/* The least that the kernels run on (bf16 mma.sync and cp.async came with it). */
enum { K_MIN_MAJOR = 8, K_MIN_MINOR = 0 };

struct k_device {
    char name[128];
    char numerics[32]; /* devices of one name give the same bits: "sm90-lt130000/1" */
    int major, minor;  /* compute capability */
    int n_processors;  /* streaming multiprocessors */
    uint64_t memory_bytes;
};

/*
 * What the launchers share.  Pointers are to device memory, 16-byte aligned (of i32: 4); rows of
 * what is read or written 16 bytes at a time are a multiple of that apart (said where it is so).
 * bf16 is uint16_t, float32 is float; sums are float32.  `stream` is a cudaStream_t; a launcher
 * enqueues on it and returns at once: it never waits and never allocates, so it may be captured in
 * a graph.  What is wrong with the arguments is cudaErrorInvalidValue, and then nothing was
 * enqueued; what the ids and positions in device memory say is not looked at.
 *
 * A row's bits depend on the row alone: not on T, B, its place, the other rows, or where its blocks
 * lie.  "Traffic" is bytes read and written, each once.
 */

/* k_embed - look tokens up.
 *   out [T, D] f32   table [V, D] bf16   ids [T], each in 0 .. V - 1
 *   scale            every element is multiplied by it
 * Limits: D a multiple of 8.  Traffic: T * D * 6.  No sum. */
struct k_embed_args {
    float *out;
    const uint16_t *table;
    const int32_t *ids;
    int T, D;
    float scale;
};

/* k_rmsnorm - x [T, D] f32 / sqrt(mean(x^2) + eps) * w [D] f32; x itself where w is NULL.
 *   out    [T, D] bf16   NULL: not wanted        out_f32 [T, D] f32   likewise; may be x
 *   add    [T, D] f32    NULL, or first x += add * add_scale (the product rounded before it is
 *                        added), and x is written
 * Limits: D a multiple of 4.  Traffic: T * D * (4 + 2), with add T * D * (12 + 2).
 * A row is one block's: thread i sums elements 4 i .. 4 i + 3 of every 1,024, then the tree. */
struct k_rmsnorm_args {
    uint16_t *out;
    float *out_f32, *x;
    const float *add, *w;
    int T, D;
    float eps, add_scale;
};

/* k_rmsnorm_heads - x [T, n_heads, E] f32 in place, rows ldx apart, every head by itself; w [E].
 * Limits: none.  Traffic: T * n_heads * E * 8.  A head is one warp's: lane i sums elements i,
 * i + 32 ..., then the tree. */
struct k_rmsnorm_heads_args {
    float *x;
    const float *w;
    int ldx, T, n_heads, E;
    float eps;
};

/* k_rope_kv - rotate q and k, round, and put k and v into their blocks.
 *   qkv     [T, H + 2 K, E] f32   queries, keys, values of a token (a row of the matmul)
 *   q       [T, H, E] bf16        out
 *   kv      [N][2][K][P*E] bf16   out: one layer's pool, as ops.h has it
 *   angles  [.., E/2, 2] f32      cos, sin of each position; NULL: nothing is rotated
 *   pos     [T] i32               positions
 *   seq     [T] i32               which row of tables a token's sequence has; NULL: row t
 *   tables  [.., ld_tables] i32   block ids in token order
 * Limits: E a multiple of 16, at most 256; P 16, 32 or 64.
 * Traffic: T * E * (6 H + 12 K) + T * E * 4 of angles.  No sum. */
struct k_rope_kv_args {
    uint16_t *q, *kv;
    const float *qkv, *angles;
    const int32_t *pos, *seq, *tables;
    int ld_tables, T, H, K, E, P;
};

/* k_gated - out [T, F] bf16 = act(gate) * up, from gate_up [T, 2 F] f32: gate, then up.
 *   gelu  0: SiLU; else GELU by its tanh formula
 * Limits: F a multiple of 4, T at most 65535.  Traffic: T * F * 10.  No sum; the bits are those of
 * the CPU, rounded. */
struct k_gated_args {
    uint16_t *out;
    const float *gate_up;
    int T, F, gelu;
};

/* k_attention - of B sequences with one new token each, over their KV, which has it already.
 *   out     [B, H, E] bf16
 *   q       [B, H, E] bf16
 *   kv      [N][2][K][P*E] bf16
 *   pos     [B] i32               of the new token
 *   tables  [B, ld_tables] i32
 *   work    f32                   scratch, k_attention_work_floats() of them
 *   max_pos                       no pos is above it; how many splits are launched follows from it
 *   scale, softcap, window        as in struct ops_attention
 * Limits: E a multiple of 16, at most 256; H / K whole, at most 16; P 16, 32 or 64; B at most
 * 65535. Traffic: for each sequence K * E * 4 of every position seen, and for every 256 of them H *
 * E * 8. Positions are cut at multiples of 256; a key's score is one chain over E; the values of a
 * split are summed by groups of threads, then the groups in order, then the splits in order.  A
 * position that is not seen is not read. */
struct k_attention_args {
    uint16_t *out;
    const uint16_t *q, *kv;
    const int32_t *pos, *tables;
    float *work;
    int ld_tables, B, H, K, E, P, max_pos, window;
    float scale, softcap;
};

/* k_matmul - out [T, N] f32 = x [T, n_in] bf16 W^T, W [N, n_in] bf16 (rows as a file has them).
 *   bias   [N] f32        NULL, or added to the whole sum
 *   add    0: out is written; else out += what would be written
 *   work   f32            scratch, k_matmul_work_floats() of them; NULL if that is 0
 *   ldx, ldw, ldo         elements from row to row; ldx and ldw multiples of 8
 * Limits: 1 <= T <= 64, n_in a multiple of 8.  Traffic: N * n_in * 2, and of every split T * N * 8.
 * Products of bf16 on the tensor cores; index.h says how the sum is cut, by N and n_in alone. */
struct k_matmul_args {
    float *out;
    const uint16_t *x, *w;
    const float *bias;
    float *work;
    int64_t ldw;
    int ldx, ldo, T, N, n_in, add;
};

/* k_matmul_prefill - out [T, N] f32 = x [T, n_in] bf16 W^T + bias, for prompts: a library's matmul,
 * over chunks of prefill_rows rows whatever T is, by the one algorithm of its plan.
 *   plan     of prefill_plan_create, for this N and n_in
 *   x, out   have room for T rounded up to whole chunks: rows from T on are read, whatever they
 *            hold, and written
 *   w        [N, n_in] bf16       bias   [N] f32, or NULL; added to the whole sum
 * Limits: T at most 65535; w, x and out 64-byte aligned.  Traffic, of each chunk: N * n_in * 2 +
 * prefill_rows * (n_in * 2 + N * 4).  The sum of an output is not split; its order is the
 * library's, the same for each row: that is tested when a plan is made. */
struct k_matmul_prefill_args {
    const void *plan;
    float *out;
    const uint16_t *x, *w;
    const float *bias;
    int T;
};

/* k_logits - of every row of logits [T, V] f32 (in place: scaled, then capped, where that is not
 * 0): its maximum, the lowest id that has it, and the logarithm of the sum of exp(x - max).
 *   out_max, out_logsum [T] f32   out_id [T] i32   work f32: k_logits_work_floats() of them
 * A NaN or +inf, or nothing above -inf, gives NaN, NaN and -1.
 * Limits: T at most 65535.  Traffic: T * V * 4 (8 if they are changed).  Chunks of 1,024 ids, each
 * summed by its own maximum; then lane i of 32 takes chunks i, i + 32 ..., then the tree. */
struct k_logits_args {
    float *logits, *out_max, *out_logsum;
    int32_t *out_id;
    float *work;
    int T, V;
    float scale, softcap;
};

/* k_kv_copy - blocks of some layers between the pool and one piece of memory, for links.
 *   packed   [n_layers][n][block_elems] bf16
 *   pool     [n_layers][N][block_elems] bf16, layers layer_elems apart
 *   ids      [n] i32
 *   scatter  0: pool to packed; else packed to pool
 * Limits: block_elems and layer_elems multiples of 8; n and n_layers at most 65535.
 * Traffic: n_layers * n * block_elems * 4. */
struct k_kv_copy_args {
    uint16_t *packed, *pool;
    const int32_t *ids;
    int n, n_layers, scatter;
    int64_t block_elems, layer_elems;
};

/* k_prefill - of the new tokens of B sequences, over their KV, which has these already.
 *   out     [T, H, E] bf16
 *   q       [T, H, E] bf16
 *   kv      [N][2][K][P*E] bf16   one layer's pool, as ops.h has it
 *   tables  [B, ld_tables] i32    block ids in token order
 *   pos0, n_tok, row0 [B] i32     sequence b has n_tok[b] tokens at positions pos0[b] .., in rows
 *                                 row0[b] .. of out and q
 *   T                             rows in all
 *   max_tok                       no n_tok is above it; it says how many blocks are launched
 *   scale, softcap, window        as in struct ops_attention
 * Limits: E a multiple of 16, at most 256; H / K whole; H and B at most 65535; P 16, 32 or 64;
 * 1 <= max_tok <= T.
 * Traffic: T * H * E * 4, and for each tile of 64 queries of a head E * 4 of every position seen.
 * Products of bf16 on the tensor cores; so the weights of the values, exp(score - max), are rounded
 * to bf16, and it is these that are summed.  Queries and keys are cut at multiples of 64, tiles of
 * keys come in ascending order, each weighed by the maximum so far.  The bits of a token depend on
 * its position and what it sees, not on the chunk that it comes in.  A position that none of a
 * tile's queries sees is not read as a value, and its key changes nothing; one that only some see
 * weighs 0 for the others, which is as good as nothing unless the value is infinite or NaN. */
struct k_prefill_args {
    uint16_t *out;
    const uint16_t *q, *kv;
    const int32_t *tables, *pos0, *n_tok, *row0;
    int ld_tables, B, T, H, K, E, P, max_tok, window;
    float scale, softcap;
};

/* k_sample - a token of each row of logits [T, V] f32, as sampler_pick (src/model/sampler.c) picks
 * it of rows without a repetition penalty.
 *   out      [T] i32         -1 where id is
 *   max, id  [T] f32, i32    of k_logits
 *   rows     [T]             what is asked of each row: fields as in struct sampler_params
 *   work     u64             scratch, k_sample_work_words() of them
 * Limits: T at most 65535; V at most 2^19; top_p > 0, 0 <= min_p <= 1.
 * Traffic: T * V * 12; then V * 12 for each row's draw, up to V * 100 for each of top_k and top_p.
 * Temperature 0 (below the least normal double) gives id.  Else weights are exp((logit - max) /
 * temperature) by the sampler's steps in double, then rounded to whole numbers of 2^-44 of the
 * best's: sums are exact and have no order.  Both pick the same token unless a random number or
 * top_p comes within V * 2^-45 of the border between two.  A token that weighs less than 2^-45, its
 * logit 31 temperatures below the best, is never picked.  Ranks are by logit, ties to the lowest
 * id; the sampler's are by score, which has a tie more where two logits are so small beside the
 * best that the difference to it is the same. */
struct k_sample_row {
    double temperature, top_p, min_p;
    uint64_t seed, row;
    uint32_t sample;
    int32_t top_k, position;
};
struct k_sample_args {
    int32_t *out;
    const float *logits, *max;
    const int32_t *id;
    const struct k_sample_row *rows;
    uint64_t *work;
    int T, V;
};

/* k_route - of logits [T, X] f32 the n_used most likely experts of each row, in ascending order of
 * their ids, and their probabilities; of equals the lowest ids.
 *   experts, weights [T, n_used]   i32, f32
 *   normalise                      1: weights are divided by their sum
 * Limits: n_used <= X <= 1024, n_used at most 64.  Traffic: T * (X * 4 + n_used * 8).
 * A row is one warp's: 16 lanes sum elements i, i + 16 ..., then the tree; the weights' sum in
 * ascending order.  The bits are those of ops->route. */
struct k_route_args {
    int32_t *experts;
    float *weights;
    const float *logits;
    int T, X, n_used, normalise;
};

/* k_combine - out [T, D] f32 = the sum of weights [T, n_used] * rows[at [T, n_used]] [.., D] f32,
 * from left to right, a product rounded before it is added.  out may not be rows.
 * Limits: T at most 65535.  Traffic: T * D * (n_used * 4 + 4).  The bits are those of ops->combine.
 */
struct k_combine_args {
    float *out;
    const float *rows, *weights;
    const int32_t *at;
    int T, n_used, D;
};

/* k_assign - rows of a step in the order of their experts: those of expert 0 first, then by row.
 *   experts [T, n_used] i32      of k_route
 *   slots   [T, n_used] i32      where in that order each comes
 *   first   [X + 1] i32          where each expert's begin, and how many there are
 * Limits: 1 <= n_used, 1 <= X <= 1024, T * n_used at most 65535.  Traffic: next to none. */
struct k_assign_args {
    int32_t *slots, *first;
    const int32_t *experts;
    int T, X, n_used;
};

/* k_gather - row t of x [T, D] bf16 to rows slots [t, 0 ..] of out [T * n_used, D] bf16.
 * Limits: D a multiple of 8; T * n_used at most 65535.  Traffic: T * D * (2 + n_used * 2). */
struct k_gather_args {
    uint16_t *out;
    const uint16_t *x;
    const int32_t *slots;
    int T, n_used, D;
};

/* k_matmul_experts - out [n_rows, N] f32 = x [n_rows, n_in] bf16 W^T, where rows first[e] ..
 * first[e + 1] - 1 have the W [N, n_in] bf16 of expert e, expert_elems from one to the next.
 *   first    [X + 1] i32   of k_assign
 *   max_rows               no expert has more; the number of tokens will do
 *   work     f32           scratch, k_matmul_work_floats(n_rows, N, n_in); NULL if that is 0
 * Limits: max_rows at most 64, n_rows 65535, X 1024; n_in and expert_elems multiples of 8.
 * Traffic: N * n_in * 2 of each expert that has rows, and of every split n_rows * N * 8.  The bits
 * of a row are those of k_matmul. */
struct k_matmul_experts_args {
    float *out;
    const uint16_t *x, *w;
    const int32_t *first;
    float *work;
    int64_t expert_elems;
    int n_rows, max_rows, X, N, n_in;
};

struct k_table {
    int abi;        /* K_ABI */
    size_t n_bytes; /* of this struct */

    /* error_text - of a function's return value; never NULL. */
    const char *(*error_text)(int error);

    /* versions - of the runtime in use and of the newest that the driver knows, as 1000 * major +
     * 10 * minor; 0 for a driver that is not there. */
    int (*versions)(int *out_runtime, int *out_driver);

    /* device_count, device_facts - what this process may use.  Neither sets a context up. */
    int (*device_count)(int *out_n);
    int (*device_facts)(int device, struct k_device *out_facts);

    /* start - the calling thread computes on this device from now on; and what launchers need once
     * for it.  Before anything below. */
    int (*start)(int device);

    /* Memory of the device and, pinned, of the host: at least 256-byte aligned, not cleared.  For
     * the start and the end: all of it may wait for the device.  free_bytes - of the device. */
    int (*free_bytes)(size_t *out_n_bytes);
    int (*alloc)(void **out, size_t n_bytes);
    int (*release)(void *memory);
    int (*alloc_pinned)(void **out, size_t n_bytes);
    int (*release_pinned)(void *memory);

    /* copy - enqueue on stream, between memory of the device and pinned memory or within one of
     * them; the bytes are read when the stream gets there. */
    int (*copy)(void *stream, void *to, const void *from, size_t n_bytes);

    /* What is enqueued on a stream is done in order.  An event stands for all that its stream had
     * to do when it was recorded: event_query asks whether that is done, event_wait waits for it.
     * Both also give what went wrong before on the device. */
    int (*stream_create)(void **out_stream);
    int (*stream_destroy)(void *stream);
    int (*event_create)(void **out_event);
    int (*event_destroy)(void *event);
    int (*event_record)(void *event, void *stream);
    int (*event_query)(void *event, int *out_done);
    int (*event_wait)(void *event);

    /* prefill_plan_create - choose how such a matmul is done, and test that a row's bits do not
     * depend on its place, with w [N, n_in] bf16.  n_in is a multiple of 8.  Takes memory of the
     * device meanwhile, prefill_rows * (n_in * 2 + N * 8) bytes, and waits for it. */
    int prefill_rows; /* rows of a chunk */
    int (*prefill_plan_create)(const uint16_t *w, int N, int n_in, void **out_plan);
    void (*prefill_plan_destroy)(void *plan); /* accepts NULL */

    /* The launchers, as above. */
    int (*embed)(void *stream, const struct k_embed_args *args);
    int (*rmsnorm)(void *stream, const struct k_rmsnorm_args *args);
    int (*rmsnorm_heads)(void *stream, const struct k_rmsnorm_heads_args *args);
    int (*rope_kv)(void *stream, const struct k_rope_kv_args *args);
    int (*gated)(void *stream, const struct k_gated_args *args);
    int (*attention)(void *stream, const struct k_attention_args *args);
    int (*matmul)(void *stream, const struct k_matmul_args *args);
    int (*matmul_prefill)(void *stream, const struct k_matmul_prefill_args *args);
    int (*logits)(void *stream, const struct k_logits_args *args);
    int (*kv_copy)(void *stream, const struct k_kv_copy_args *args);
    int64_t (*attention_work_floats)(int B, int H, int E, int max_pos);
    int64_t (*matmul_work_floats)(int T, int N, int n_in);
    int64_t (*logits_work_floats)(int T, int V);
    int (*prefill)(void *stream, const struct k_prefill_args *args);
    int (*sample)(void *stream, const struct k_sample_args *args);
    int64_t (*sample_work_words)(int T, int V);
    int (*route)(void *stream, const struct k_route_args *args);
    int (*combine)(void *stream, const struct k_combine_args *args);
    int (*assign)(void *stream, const struct k_assign_args *args);
    int (*gather)(void *stream, const struct k_gather_args *args);
    int (*matmul_experts)(void *stream, const struct k_matmul_experts_args *args);
};

/* epidote_cuda_table - the table.  It lives as long as the library. */
const struct k_table *epidote_cuda_table(void);

#ifdef __cplusplus
}
#endif

#endif
