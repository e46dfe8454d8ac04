/*
 * cublaslt.cpp - a matmul as cuBLASLt's documentation has it: column by column, transposed where
 * the descriptor says so, with leading dimensions.
 *
 * Only what cublaslt.h says; whatever else is asked for is an invalid value.
 */
#include <stdlib.h>

#include "tests/emulator/cublaslt.h"

struct emulated_lt {
    int unused;
};
struct emulated_lt_op {
    cublasOperation_t a, b;
};
struct emulated_lt_layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};
struct emulated_lt_preference {
    uint64_t workspace_bytes;
    uint32_t schemes;
};

namespace {
enum { SPLITS, WHOLE, MOODY }; /* algorithms: data[0] */

template <class T> cublasStatus_t make(T **out, const T &value)
{
    *out = (T *)malloc(sizeof **out);
    if (*out == nullptr)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **out = value;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t drop(void *memory)
{
    free(memory);
    return CUBLAS_STATUS_SUCCESS;
}

/* op(matrix) as floats, its k last: [n][n_k].  Owned by the caller. */
float *expand(const void *matrix, const struct emulated_lt_layout *of, bool k_first, uint64_t n,
              uint64_t n_k)
{
    float *out = (float *)malloc(n * n_k * sizeof *out);

    for (uint64_t i = 0; out != nullptr && i < n; i++)
        for (uint64_t k = 0; k < n_k; k++) {
            const uint64_t row = k_first ? k : i, col = k_first ? i : k;
            const uint64_t at = row + col * (uint64_t)of->ld;

            out[i * n_k + k] = of->type == CUDA_R_16BF
                                   ? k_from_bits((uint32_t)((const uint16_t *)matrix)[at] << 16)
                                   : ((const float *)matrix)[at];
        }
    return out;
}

float chain(const float *a, const float *b, uint64_t n, bool backwards)
{
    float sum = 0.0f;

    for (uint64_t i = 0; i < n; i++)
        sum += a[backwards ? n - 1 - i : i] * b[backwards ? n - 1 - i : i];
    return sum;
}
} // namespace

size_t cublasLtGetVersion(void)
{
    return 130000;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "no error" : "an emulated error of cuBLASLt";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    return make(out, emulated_lt{0});
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lt)
{
    return drop(lt);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_INVALID_VALUE;
    return make(out, emulated_lt_op{CUBLAS_OP_N, CUBLAS_OP_N});
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t op)
{
    return drop(op);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t op,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t n_bytes)
{
    cublasOperation_t *to = what == CUBLASLT_MATMUL_DESC_TRANSA ? &op->a : &op->b;

    if (n_bytes != sizeof *to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (ld < (int64_t)rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    return make(out, emulated_lt_layout{type, rows, cols, ld});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    return drop(layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    return make(out, emulated_lt_preference{0, 7});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    return drop(preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t n_bytes)
{
    uint32_t unused;
    void *to = what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES     ? &preference->workspace_bytes
               : what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK ? (void *)&preference->schemes
                                                                    : &unused;
    const size_t n_wanted = to == &preference->workspace_bytes ? 8 : 4;

    if (n_bytes != n_wanted)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *out_n)
{
    const char *mood = getenv("EMULATED_LT");

    if (n_wanted < 2 || preference->workspace_bytes != 0 || preference->schemes != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(results, 0, 2 * sizeof *results);
    results[0].algo.data[0] = SPLITS;
    results[1].algo.data[0] = mood != nullptr && strcmp(mood, "moody") == 0 ? MOODY : WHOLE;
    *out_n = 2;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t what,
                                                    void *value, size_t n_bytes, size_t *out_n)
{
    const bool splits = algo->data[0] == SPLITS;
    const uint32_t n = what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? (splits ? 4 : 1) : splits ? 2 : 0;

    if (n_bytes != sizeof n)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, &n, sizeof n);
    *out_n = sizeof n;
    return CUBLAS_STATUS_SUCCESS;
}

/* d = op(a) op(b) as it waits in its stream, with copies of what describes it. */
struct matmul_job {
    struct emulated_lt_op op;
    struct emulated_lt_layout of_a, of_b, of_d;
    const void *a, *b;
    float *d;
    bool moody;
};

static void run_matmul(void *what)
{
    const struct matmul_job *j = (const struct matmul_job *)what;
    const bool a_t = j->op.a == CUBLAS_OP_T, b_t = j->op.b == CUBLAS_OP_T;
    const uint64_t n_k = a_t ? j->of_a.rows : j->of_a.cols;
    float *rows = expand(j->a, &j->of_a, a_t, j->of_d.rows, n_k);
    float *cols = expand(j->b, &j->of_b, !b_t, j->of_d.cols, n_k);

    if (rows == nullptr || cols == nullptr)
        abort();
    for (uint64_t col = 0; col < j->of_d.cols; col++)
        for (uint64_t row = 0; row < j->of_d.rows; row++)
            j->d[row + col * (uint64_t)j->of_d.ld] =
                chain(rows + row * n_k, cols + col * n_k, n_k, j->moody && col % 2 == 1);
    free(rows);
    free(cols);
}

/* alpha is one, beta zero. */
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t op, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t of_a, const void *b,
                              cublasLtMatrixLayout_t of_b, const void *beta, const void *,
                              cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t of_d,
                              const cublasLtMatmulAlgo_t *algo, void *, size_t, cudaStream_t stream)
{
    const bool a_t = op->a == CUBLAS_OP_T, b_t = op->b == CUBLAS_OP_T;
    const uint64_t n_k = a_t ? of_a->rows : of_a->cols;
    const struct matmul_job job = {*op, *of_a, *of_b,      *of_d,
                                   a,   b,     (float *)d, algo->data[0] == MOODY};

    if (*(const float *)alpha != 1.0f || *(const float *)beta != 0.0f || of_d->type != CUDA_R_32F ||
        algo->data[0] == SPLITS || (a_t ? of_a->cols : of_a->rows) != of_d->rows ||
        (b_t ? of_b->rows : of_b->cols) != of_d->cols || (b_t ? of_b->cols : of_b->rows) != n_k)
        return CUBLAS_STATUS_INVALID_VALUE;
    return emulator_enqueue(stream, run_matmul, &job, sizeof job) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_ALLOC_FAILED;
}
