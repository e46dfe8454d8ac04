/*
 * prefill_matmul.cu - the matmuls of prompts: cuBLASLt, held to the rule that a row's bits depend
 * on the row alone.
 *
 *   plan       for an N and n_in: one algorithm for chunks of K_PREFILL_ROWS rows, whatever T is,
 * that does not split the inputs, wants no workspace, and has passed the test test       random
 * rows, and the same rows in another order: each has to give the same bits multiply   chunk by
 * chunk; then the bias
 *
 * cuBLASLt sees columns where this tree has rows: W [N, n_in] is its A, n_in x N, transposed; x
 * [rows, n_in] its B, n_in x rows; out [rows, N] its D, N x rows.
 */
#include <stdlib.h>

#include "kernels/device.cuh"
#include "kernels/launch.h"

#if defined(K_EMULATED)
#include "tests/emulator/cublaslt.h"
#else
#include <cublasLt.h>
#endif

enum { THREADS = 256, MAX_ALGORITHMS = 16, ALIGN_BYTES = 64 };

struct plan {
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, out;
    cublasLtMatmulAlgo_t algorithm;
    int N, n_in;
};

static int lt_error(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? 0 : K_ERROR_LT + (int)status;
}

const char *k_prefill_error_text(int error)
{
    if (error == K_ERROR_ROWS)
        return "cuBLASLt's algorithm gives a row other bits at another place of its chunk";
    if (error == K_ERROR_ALGORITHM)
        return "cuBLASLt has no algorithm that does not split the inputs";
    return cublasLtGetStatusString((cublasStatus_t)(error - K_ERROR_LT));
}

int k_prefill_version(void)
{
    return (int)cublasLtGetVersion();
}

/* ---- choosing an algorithm ---------------------------------------------------------------------- */

/* Whether the sum of an output is one chain. */
static bool is_whole(const cublasLtMatmulHeuristicResult_t *result)
{
    uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
    int32_t n_splits = 1;
    size_t written;

    if (result->state != CUBLAS_STATUS_SUCCESS || result->workspaceSize != 0)
        return false;
    /* An algorithm that cannot split may not know these words. */
    (void)cublasLtMatmulAlgoConfigGetAttribute(&result->algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                               &n_splits, sizeof n_splits, &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(&result->algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                               &scheme, sizeof scheme, &written);
    return n_splits <= 1 && scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* What algorithms are asked for. */
static int prefer(cublasLtMatmulPreference_t preference)
{
    const uint64_t no_workspace = 0;
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE, align = ALIGN_BYTES;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t n_bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &no_workspace, sizeof no_workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof scheme},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align, sizeof align},
    };
    int error = 0;

    for (const auto &wish : wishes)
        if (error == 0)
            error = lt_error(cublasLtMatmulPreferenceSetAttribute(preference, wish.what, wish.value,
                                                                  wish.n_bytes));
    return error;
}

static int choose(struct plan *p)
{
    cublasLtMatmulHeuristicResult_t results[MAX_ALGORITHMS];
    cublasLtMatmulPreference_t preference = NULL;
    int n = 0, error = lt_error(cublasLtMatmulPreferenceCreate(&preference));

    if (error == 0)
        error = prefer(preference);
    if (error == 0)
        error = lt_error(cublasLtMatmulAlgoGetHeuristic(p->lt, p->op, p->w, p->x, p->out, p->out,
                                                        preference, MAX_ALGORITHMS, results, &n));
    if (preference != NULL)
        cublasLtMatmulPreferenceDestroy(preference);
    if (error != 0)
        return error;
    for (int i = 0; i < n; i++) { /* best first */
        if (is_whole(&results[i])) {
            p->algorithm = results[i].algo;
            return 0;
        }
    }
    return K_ERROR_ALGORITHM;
}

static int describe(struct plan *p)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const uint64_t n_in = (uint64_t)p->n_in, N = (uint64_t)p->N;
    int error = lt_error(cublasLtCreate(&p->lt));

    if (error == 0)
        error = lt_error(cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (error == 0)
        error = lt_error(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA,
                                                        &transposed, sizeof transposed));
    if (error == 0)
        error = lt_error(cublasLtMatrixLayoutCreate(&p->w, CUDA_R_16BF, n_in, N, p->n_in));
    if (error == 0)
        error =
            lt_error(cublasLtMatrixLayoutCreate(&p->x, CUDA_R_16BF, n_in, K_PREFILL_ROWS, p->n_in));
    if (error == 0)
        error = lt_error(cublasLtMatrixLayoutCreate(&p->out, CUDA_R_32F, N, K_PREFILL_ROWS, p->N));
    return error;
}

/* One chunk: out [K_PREFILL_ROWS, N] = x [K_PREFILL_ROWS, n_in] W^T. */
static int multiply(const struct plan *p, void *stream, float *out, const uint16_t *x,
                    const uint16_t *w)
{
    const float one = 1.0f, zero = 0.0f;

    return lt_error(cublasLtMatmul(p->lt, p->op, &one, w, p->w, x, p->x, &zero, out, p->out, out,
                                   p->out, &p->algorithm, NULL, 0, (cudaStream_t)stream));
}

/* ---- the test ----------------------------------------------------------------------------------- */

/* Which of the first order's rows is row r of the other. */
static __device__ inline int moved(int r)
{
    return (r * 1021 + 77) % K_PREFILL_ROWS; /* 1021 is odd, K_PREFILL_ROWS a power of two */
}

/* Thread k of block r: element k of row r, between 2^-8 and 2, of either sign. */
static __global__ void fill(uint16_t *x, int n_in, bool other)
{
    const int r = (int)blockIdx.x, row = other ? moved(r) : r;

    for (int k = (int)threadIdx.x; k < n_in; k += THREADS) {
        uint32_t h = (uint32_t)row * 0x9e3779b1u + (uint32_t)k * 0x85ebca77u;

        h = (h ^ h >> 15) * 0x2c1b3c6du;
        h ^= h >> 13;
        x[(int64_t)r * n_in + k] =
            (uint16_t)((h & 1u) << 15 | (119u + (h >> 8) % 9u) << 7 | (h >> 16 & 0x7fu));
    }
}

/* Thread r: 1 in differ[r] if the row is not, bit for bit, what it was at its other place. */
static __global__ void compare(const float *out, const float *other, int N, int32_t *differ)
{
    const int r = (int)(blockIdx.x * 32 + threadIdx.x);
    int32_t any = 0;

    for (int n = 0; n < N; n++)
        any |= k_bits(out[(int64_t)moved(r) * N + n]) != k_bits(other[(int64_t)r * N + n]);
    differ[r] = any;
}

static int test_in(const struct plan *p, const uint16_t *w, uint16_t *x, float *out,
                   int32_t *differ)
{
    static_assert((K_PREFILL_ROWS & (K_PREFILL_ROWS - 1)) == 0, "moved() is no permutation");
    float *other = out + (int64_t)K_PREFILL_ROWS * p->N;
    int32_t found[K_PREFILL_ROWS];
    int error = 0;

    for (int i = 0; i < 2 && error == 0; i++) {
        error = K_LAUNCH(fill, dim3(K_PREFILL_ROWS), dim3(THREADS), 0, NULL, x, p->n_in, i == 1);
        if (error == 0)
            error = multiply(p, NULL, i == 0 ? out : other, x, w);
    }
    if (error == 0)
        error = K_LAUNCH(compare, dim3(K_PREFILL_ROWS / 32), dim3(32), 0, NULL, out, other, p->N,
                         differ);
    if (error == 0)
        error = cudaMemcpyAsync(found, differ, sizeof found, cudaMemcpyDefault, NULL);
    if (error == 0)
        error = cudaStreamSynchronize(NULL);
    for (int r = 0; r < K_PREFILL_ROWS && error == 0; r++)
        error = found[r] != 0 ? K_ERROR_ROWS : 0;
    return error;
}

/* In memory that is given back. */
static int test(const struct plan *p, const uint16_t *w)
{
    const size_t rows = K_PREFILL_ROWS;
    void *x = NULL, *out = NULL, *differ = NULL;
    int error = cudaMalloc(&x, rows * (size_t)p->n_in * sizeof(uint16_t));

    if (error == 0)
        error = cudaMalloc(&out, 2 * rows * (size_t)p->N * sizeof(float));
    if (error == 0)
        error = cudaMalloc(&differ, rows * sizeof(int32_t));
    if (error == 0)
        error = test_in(p, w, (uint16_t *)x, (float *)out, (int32_t *)differ);
    cudaFree(x);
    cudaFree(out);
    cudaFree(differ);
    return error;
}

/* ---- plans -------------------------------------------------------------------------------------- */

int k_prefill_plan_create(const uint16_t *w, int N, int n_in, void **out_plan)
{
    if (N < 1 || n_in < 8 || n_in % 8 != 0)
        return cudaErrorInvalidValue;
    struct plan *p = (struct plan *)calloc(1, sizeof *p);
    if (p == NULL)
        return cudaErrorMemoryAllocation;
    p->N = N;
    p->n_in = n_in;
    int error = describe(p);
    if (error == 0)
        error = choose(p);
    if (error == 0)
        error = test(p, w);
    if (error == 0)
        *out_plan = p;
    else
        k_prefill_plan_destroy(p);
    return error;
}

void k_prefill_plan_destroy(void *plan)
{
    struct plan *p = (struct plan *)plan;

    if (p == NULL)
        return;
    if (p->out != NULL)
        cublasLtMatrixLayoutDestroy(p->out);
    if (p->x != NULL)
        cublasLtMatrixLayoutDestroy(p->x);
    if (p->w != NULL)
        cublasLtMatrixLayoutDestroy(p->w);
    if (p->op != NULL)
        cublasLtMatmulDescDestroy(p->op);
    if (p->lt != NULL)
        cublasLtDestroy(p->lt);
    free(p);
}

/* ---- launch ------------------------------------------------------------------------------------- */

/* Thread (n, t). */
static __global__ void add_bias(float *out, const float *bias, int N)
{
    const int n = (int)(blockIdx.x * THREADS + threadIdx.x);

    if (n < N)
        out[(int64_t)blockIdx.y * N + n] += bias[n];
}

int k_matmul_prefill(void *stream, const struct k_matmul_prefill_args *a)
{
    const struct plan *p = (const struct plan *)a->plan;
    int error = 0;

    if (a->T < 1 || a->T > 65535)
        return cudaErrorInvalidValue;
    for (int64_t t = 0; t < a->T && error == 0; t += K_PREFILL_ROWS)
        error = multiply(p, stream, a->out + t * p->N, a->x + t * p->n_in, a->w);
    if (error != 0 || a->bias == NULL)
        return error;
    return K_LAUNCH(add_bias, dim3((unsigned)k_ceil_div(p->N, THREADS), (unsigned)a->T),
                    dim3(THREADS), 0, stream, a->out, a->bias, p->N);
}
