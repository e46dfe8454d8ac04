/*
 * ops.h - the table of tensor operations, one column per instruction set.
 *
 * Every CPU variant gives the same bits ("bf16chain/1", DESIGN section 7); what a row's result is
 * never depends on the other rows, the number of threads or the variant.
 *
 * Shape letters: B sequences, T tokens of the step, D width, F ffn width, V vocabulary, H query
 * heads, K kv heads, E head size, N blocks, P tokens per block.
 */
#ifndef EPIDOTE_OPS_H
#define EPIDOTE_OPS_H

#include "base/base.h"
#include "kernels/kernels.h"

/* What weights and KV are stored as; with OPS_BF16, matmul and attention round their float32 inputs
 * to bf16 (nearest even).  Accumulation is float32 in both. */
enum ops_type { OPS_BF16, OPS_F32, OPS_TYPE_COUNT };
static inline size_t ops_type_bytes(enum ops_type type)
{
    return type == OPS_BF16 ? 2 : 4;
}

enum { OPS_LANES = 16 }; /* columns of a panel; virtual lanes of every reduction */

/*
 * A weight matrix W [n_out, n_in], y = W x, packed in panels of 16 output rows:
 *   data [ceil(n_out/16)] [ceil(n_in/2)] [16] [2]   (pairs of neighbouring inputs; zero padded)
 * The chain of one output: acc = +0; for each pair of inputs in ascending order:
 *   acc = fma(x[odd], w[odd], acc); acc = fma(x[even], w[even], acc).
 * Every fma rounds to nearest, with FTZ and DAZ; vdpbf16ps is such a pair of them.
 */
struct ops_matrix {
    enum ops_type type;
    int n_out, n_in;
    void *data; /* borrowed; 64-byte aligned */
    /* Or stored [n_stored]: nothing is packed, the rows are made anew for each product, one after
     * another from these.  They are rounded to the type, so results are those of the same rows
     * packed, bit for bit.  Borrowed; data is NULL then. */
    const struct ops_stored *stored;
    int n_stored;
};
/* Some rows of a matrix in a form that ops does not know. */
struct ops_stored {
    int n_rows;
    /* Elements first .. first + n - 1 of a row as float32; first is a multiple of
     * OPS_STORED_ELEMS, and n too unless the row ends there.  Any thread calls it. */
    void (*expand)(const void *arg, int row, int first, int n, float *out);
    const void *arg; /* borrowed */
};
enum { OPS_STORED_ELEMS = 256 };
size_t ops_matrix_bytes(enum ops_type type, int n_out, int n_in);
/* ops_matrix_set_row - store row `out` (float32 [n_in], rounded to the type) in its panel; not of a
 * matrix with stored rows. */
void ops_matrix_set_row(struct ops_matrix *w, int out, const float *row);
/* ops_matrix_get_row - row `out` as float32 [n_in], rounded to the type. */
void ops_matrix_get_row(const struct ops_matrix *w, int out, float *row);

/*
 * KV of one layer: blocks [N][2][K][P*E] of the type; inside a block and head
 *   key    [E/2][P][2]   (keys are lanes)
 *   value  [P][E]
 * P is 16, 32 or 64; E is a multiple of 16, at most 256.
 */
struct ops_kv {
    enum ops_type type;
    int K, P, E;
    void *base; /* of this layer's pool */
};
/* Element index of (block, 0 = key / 1 = value, head, position in block, element). */
static inline size_t ops_kv_index(const struct ops_kv *kv, int32_t block, int value, int head,
                                  int p, int e)
{
    const size_t head_elems = (size_t)kv->P * (size_t)kv->E;
    const size_t at =
        (((size_t)block * 2 + (size_t)value) * (size_t)kv->K + (size_t)head) * head_elems;

    if (value)
        return at + (size_t)p * (size_t)kv->E + (size_t)e;
    return at + ((size_t)(e / 2) * (size_t)kv->P + (size_t)p) * 2 + (size_t)(e % 2);
}

/* n_tok tokens of one sequence, at absolute positions pos0 .. pos0 + n_tok - 1, in rows row0 .. of
 * the step's arrays.  blocks [(pos0 + n_tok + P - 1) / P] ids in token order. */
struct ops_seq {
    const int32_t *blocks;
    int pos0, n_tok, row0;
};

/* What an attention does beside q k^T and v. */
struct ops_attention {
    float scale;    /* of q k^T */
    float softcap;  /* a scaled score s becomes softcap * tanh(s / softcap); 0: stays as it is */
    int window;     /* a query sees so many keys, its own the last of them; 0: all */
    bool both_ways; /* a query sees all keys of its sequence, as far as the last of seqs' tokens */
};

/* What bias_act does to a sum: x times the logistic function of 1.702 x; GELU by tanh; GELU. */
enum ops_act { OPS_QUICK_GELU, OPS_GELU_TANH, OPS_GELU_ERF };

enum { OPS_MAX_EXPERTS = 1024 };

/* Scratch and threads of one caller.  Opaque. */
struct ops_ctx;

struct ops {
    const char *name;     /* "plain", "avx2", ...: the value of job option `instructions` */
    const char *numerics; /* "bf16chain/1" */
    bool (*usable)(void); /* whether this CPU has the instructions */
    bool (*pays)(void); /* (optional) whether it is faster here than the one before it in the list,
                           by a short measurement; NULL: always */

    /* out [T, n_out] = x [T, n_in] W^T.  ldx, ldo: elements from row to row.  out may not alias x.
     */
    enum status (*matmul)(struct ops_ctx *ctx, float *out, int ldo, const float *x, int ldx,
                          const struct ops_matrix *w, int T);

    /* out [T, D] = x / sqrt(mean(x^2) + eps) * w.  16 lanes (element i in lane i % 16), then the
     * tree.  out may be x. */
    enum status (*rmsnorm)(struct ops_ctx *ctx, float *out, const float *x, const float *w, int T,
                           int D, float eps);

    /* x [T, n_heads, E] in place, rows ldx apart: as rmsnorm, of every head by itself; w [E]. */
    enum status (*rmsnorm_heads)(struct ops_ctx *ctx, float *x, int ldx, const float *w, int T,
                                 int n_heads, int E, float eps);

    /* x [T, n_heads, E] in place, rows ldx apart: rotate pairs (i, i + E/2) by the angles of
     * positions pos [T]; table [context, E/2, 2] holds cos, sin. */
    enum status (*rope)(struct ops_ctx *ctx, float *x, int ldx, const int32_t *pos,
                        const float *table, int T, int n_heads, int E);

    /* As rope, where a token has three positions, pos [T, 3]: the first sections[0] pairs of a head
     * turn by the first of them, the next sections[1] by the second, and so on; pairs beyond stay.
     */
    enum status (*rope_sections)(struct ops_ctx *ctx, float *x, int ldx, const int32_t *pos,
                                 const int sections[3], const float *table, int T, int n_heads,
                                 int E);

    /* Round and store k, v [T, K, E] (rows ld apart) of every sequence into its blocks. */
    enum status (*kv_store)(struct ops_ctx *ctx, const struct ops_kv *kv,
                            const struct ops_seq *seqs, int B, const float *k, const float *v,
                            int ld);

    /* out [T, H, E] = softmax(q k^T scale) v, causal, grouped queries (H % K == 0); q rows ldq
     * apart, out rows H * E apart; `how` adds soft cap and window, or takes causality away.  Online
     * softmax over tiles of 64 absolute positions. A slot beyond a sequence's last position, or one
     * that no query's window reaches, never influences a result. */
    enum status (*attention)(struct ops_ctx *ctx, float *out, const float *q, int ldq, int H,
                             const struct ops_kv *kv, const struct ops_seq *seqs, int B,
                             const struct ops_attention *how);

    /* out [T, D] = (x - mean) / sqrt(mean((x - mean)^2) + eps) * w + b, the last two rounded once;
     * both means as in rmsnorm.  out may be x. */
    enum status (*layernorm)(struct ops_ctx *ctx, float *out, const float *x, const float *w,
                             const float *b, int T, int D, float eps);

    /* x [T, n] = act(x + bias [n]). */
    enum status (*bias_act)(struct ops_ctx *ctx, float *x, const float *bias, int T, int n,
                            enum ops_act act);

    /* out [T, F] = silu(gate) * up, where gate_up [T, 2F] holds gate, then up. */
    enum status (*silu_mul)(struct ops_ctx *ctx, float *out, const float *gate_up, int T, int F);

    /* The same with GELU by its tanh formula. */
    enum status (*gelu_mul)(struct ops_ctx *ctx, float *out, const float *gate_up, int T, int F);

    /* x [n] += y [n]. */
    enum status (*add)(struct ops_ctx *ctx, float *x, const float *y, int64_t n);

    /* x [n] += y [n] * by, the product rounded before it is added. */
    enum status (*add_scaled)(struct ops_ctx *ctx, float *x, const float *y, int64_t n, float by);

    /* x [T, n] += row [n], to every row: a bias, in float32 after the whole sum of the matmul (a
     * chain begins at zero, bias or not). */
    enum status (*add_row)(struct ops_ctx *ctx, float *x, const float *row, int T, int n);

    /* x [n] *= by. */
    enum status (*scale)(struct ops_ctx *ctx, float *x, int64_t n, float by);

    /* x [n] = cap * tanh(x / cap). */
    enum status (*softcap)(struct ops_ctx *ctx, float *x, int64_t n, float cap);

    /* For each of T rows the n_used most likely of X experts, in ascending order of their ids, and
     * their probabilities, softmax over all X (16 lanes, then the tree); `normalise`: divided by
     * their sum.  Of equals the lowest ids.  logits [T, X] are overwritten.
     *   out_experts, out_weights  out  [T, n_used] */
    enum status (*route)(struct ops_ctx *ctx, float *logits, int T, int X, int n_used,
                         bool normalise, int32_t *out_experts, float *out_weights);

    /* out [T, D] = the sum of weights [T, n_used] * rows[at [T, n_used]] [.., D], from left to
     * right, beginning at zero; a product is rounded before it is added. */
    enum status (*combine)(struct ops_ctx *ctx, float *out, const float *rows, const int32_t *at,
                           const float *weights, int T, int n_used, int D);

    /* For each of T rows: out_max = max(logits), out_logsum = log(sum(exp(logits - max))); chunks
     * of 1,024 ids, then the tree.  A NaN or +inf logit, or none above -inf, gives NaN for both. */
    enum status (*softmax_stats)(struct ops_ctx *ctx, const float *logits, int T, int V,
                                 float *out_max, float *out_logsum);

    /* out [n] = exp(x), the polynomial every op above uses.  x <= 88; +0 below -87; out may be x.
     */
    void (*exp)(float *out, const float *x, int64_t n);
};

/* ops_find - "auto" = the fastest that this CPU has.
 * Returns ST_OK, ST_CONFIG (unknown name, listing the known), ST_UNSUPPORTED (this CPU lacks it).
 */
enum status ops_find(const char *name, const struct ops **out_ops);
/* ops_list - NULL-terminated table of all variants, plain first. */
const struct ops *const *ops_list(void);

/* ---- a GPU (cuda.c cuda_device.c) ------------------------------------------------------------ */

/* What there is to compute with on a GPU. */
struct ops_cuda {
    char library[256];             /* where the kernels were found; "" = nowhere */
    char device[192];              /* the first that can be used: name, architecture, memory */
    char why[1024];                /* what is missing, and the remedy */
    int index;                     /* of the device */
    char numerics[32];             /* of its results: "sm90-lt130000/1" */
    const struct k_table *kernels; /* static; NULL if anything is missing */
};
/* ops_cuda_look - whether library, driver and a device are there; if not, out_found->why says what
 * was looked for.  Loads the library; sets no device up.  Local. */
bool ops_cuda_look(struct ops_cuda *out_found);

/* ops_cuda_start - the calling thread computes on the device that was found, from now on; what
 * follows is for that thread.  *out_free_bytes: of its memory.  Returns ST_OK, ST_IO (logged). */
enum status ops_cuda_start(const struct ops_cuda *cuda, uint64_t *out_free_bytes);
/* ops_cuda_check - of a function of the table: ST_OK for 0; else ST_IO, logged with the error's
 * text and what was being done, such as a kernel with its shape. */
enum status ops_cuda_check(const struct ops_cuda *cuda, int error, const char *doing, ...)
    __attribute__((format(printf, 3, 4)));
/* ops_cuda_alloc - memory of the device, 256-byte aligned, for the start only.
 *   what    in  it is for, and
 *   remedy  in  what takes less of it, both for the message
 * Returns ST_OK, ST_NOMEM (logged). */
enum status ops_cuda_alloc(const struct ops_cuda *cuda, size_t n_bytes, const char *what,
                           const char *remedy, void **out_memory);
/* ops_cuda_alloc_pinned - likewise of the host, that the device reads and writes. */
enum status ops_cuda_alloc_pinned(const struct ops_cuda *cuda, size_t n_bytes, const char *what,
                                  const char *remedy, void **out_memory);
/* ops_cuda_free, ops_cuda_free_pinned - accept NULL. */
void ops_cuda_free(const struct ops_cuda *cuda, void *memory);
void ops_cuda_free_pinned(const struct ops_cuda *cuda, void *memory);

/* ---- contexts of the CPU's operations --------------------------------------------------------- */

/* ops_ctx_create - threads is borrowed.  Returns ST_OK, ST_NOMEM. */
enum status ops_ctx_create(struct threads *threads, struct ops_ctx **out_ctx);
void ops_ctx_destroy(struct ops_ctx *ctx);

#endif
