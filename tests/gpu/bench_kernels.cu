/*
 * bench_kernels.cu - how long the kernels take on a device, in the shapes of an 8B model, beside
 * the copy bandwidth and the bf16 matmul rate measured in the same run.
 *
 *   bench_kernels            a line for each: kernel, shape, us, rate, unit, percent of what was
 *                            measured; separated by tabs
 *   bench_kernels --device   a line about the device; exit status 77 if there is none
 *   bench_kernels --toy      everything once, tiny: the times mean nothing (for the emulator)
 *
 * Inputs are random, made on the device from fixed seeds; several sets take turns, so that no cache
 * holds what is read.  A time is the median of 7, each of launches back to back for about 4 ms.
 * Launches go through the table.  Called by gpu_check.sh.
 */
#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "kernels/device.cuh"
#include "kernels/kernels.h"

#if defined(K_EMULATED)
#include "tests/emulator/cublaslt.h"
enum { WORKSPACE_BYTES = 0 };
#else
#include <cublasLt.h>
enum { WORKSPACE_BYTES = 64 << 20 };
#endif

struct shapes {
    int D, H, K, E, F, V, P; /* letters as in model.h */
    int n_prompt, n_context, n_batch;
    int matmul_n; /* of the measured matmul, n x n x n */
    size_t copy_bytes, cache_bytes;
};
static const struct shapes llama_8b = {4096, 32,   8,  128,  14336,      128256,    16,
                                       2048, 4096, 64, 8192, 2ull << 30, 256u << 20};
static const struct shapes toy = {64, 4, 2, 16, 96, 200, 16, 40, 40, 3, 64, 4096, 1};

static const struct k_table *table;
static struct shapes s;
static void *stream;
static bool is_toy;
static double copy_per_s, flops_per_s;
static int n_timed, n_failed;

/* ---- arrays of the device ----------------------------------------------------------------------- */

static void must(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "bench_kernels: %s: %s\n", what, table->error_text(error));
    exit(1);
}

/* Element i from a hash of i and the seed: between 2^-8 and 1, of either sign. */
static __device__ inline uint16_t random_bits(int64_t i, uint32_t seed)
{
    uint32_t h = (uint32_t)i * 0x9e3779b1u ^ seed * 0x85ebca77u ^ (uint32_t)(i >> 32);

    h = (h ^ h >> 15) * 0x2c1b3c6du;
    h ^= h >> 13;
    return (uint16_t)((h & 1u) << 15 | (119u + (h >> 8) % 8u) << 7 | (h >> 16 & 0x7fu));
}

static __global__ void fill(uint16_t *x, float *x_f32, int64_t n, uint32_t seed)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        if (x != NULL)
            x[i] = random_bits(i, seed);
        else
            x_f32[i] = k_f32(random_bits(i, seed));
    }
}

/* n elements of the device, random if they are numbers; freed with it. */
template <class T> struct array {
    T *at = NULL;

    explicit array(int64_t n)
    {
        static uint32_t seed;
        void *memory = NULL;

        must(table->alloc(&memory, (size_t)n * sizeof(T)), "memory");
        at = (T *)memory;
        const bool is_bf16 = sizeof(T) == 2;
        must(K_LAUNCH(fill, dim3(is_toy ? 2 : 2048), dim3(256), 0, NULL,
                      is_bf16 ? (uint16_t *)memory : NULL, is_bf16 ? NULL : (float *)memory, n,
                      ++seed),
             "random numbers");
        must(cudaStreamSynchronize(NULL), "random numbers");
    }
    explicit array(const std::vector<T> &from)
    {
        void *memory = NULL;

        must(table->alloc(&memory, from.size() * sizeof(T)), "memory");
        at = (T *)memory;
        must(table->copy(NULL, memory, from.data(), from.size() * sizeof(T)), "copy");
        must(cudaStreamSynchronize(NULL), "copy");
    }
    array(const array &) = delete;
    ~array()
    {
        (void)table->release(at);
    }
};
typedef array<uint16_t> bf16s;
typedef array<float> floats;
typedef array<int32_t> ints;

/* How many sets of so many bytes are more than a cache holds. */
static int n_sets(double n_bytes)
{
    const double n = (double)s.cache_bytes / n_bytes + 1.0;

    return n > 1000.0 ? 1000 : (int)n;
}

static std::vector<int32_t> counting(int n, int from, int step)
{
    std::vector<int32_t> x;

    for (int i = 0; i < n; i++)
        x.push_back(from + i * step);
    return x;
}

/* ---- time --------------------------------------------------------------------------------------- */

#if defined(K_EMULATED)
static double seconds_between(cudaEvent_t, cudaEvent_t)
{
    return 1.0;
}
#else
static double seconds_between(cudaEvent_t begin, cudaEvent_t end)
{
    float ms = 0.0f;

    must(cudaEventElapsedTime(&ms, begin, end), "events");
    return ms / 1e3;
}
#endif

/* n launches, one behind the other: seconds of each; launch(i) takes set i.  -1 after an error. */
template <class Launch> static double seconds_of_n(Launch launch, int n)
{
    cudaEvent_t begin, end;
    int error = 0;

    must(cudaEventCreateWithFlags(&begin, 0), "events");
    must(cudaEventCreateWithFlags(&end, 0), "events");
    must(cudaEventRecord(begin, (cudaStream_t)stream), "events");
    for (int i = 0; i < n && error == 0; i++)
        error = launch(i);
    must(cudaEventRecord(end, (cudaStream_t)stream), "events");
    if (error == 0)
        error = cudaEventSynchronize(end);
    const double seconds = error == 0 ? seconds_between(begin, end) / n : -1.0;
    if (error != 0)
        fprintf(stderr, "bench_kernels: %s\n", table->error_text(error));
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return seconds;
}

template <class Launch> static double seconds_of(Launch launch)
{
    std::vector<double> times;
    double once = seconds_of_n(launch, 2); /* loads the code */

    if (once >= 0.0 && !is_toy)
        once = seconds_of_n(launch, 2);
    if (once < 0.0)
        return -1.0;
    const int n = is_toy ? 2 : (int)std::min(1000.0, std::max(1.0, 4e-3 / once));
    for (int i = 0; i < (is_toy || once > 1.0 ? 1 : 7); i++)
        times.push_back(seconds_of_n(launch, n));
    std::sort(times.begin(), times.end());
    return times.front() < 0.0 ? -1.0 : times[times.size() / 2];
}

static void line(const char *kernel, const char *shape, double seconds, double amount, double of,
                 const char *unit)
{
    if (seconds <= 0.0) {
        n_failed++;
        printf("%s\t%s\tfailed\t\t\t\n", kernel, shape);
    } else {
        printf("%s\t%s\t%.1f\t%.2f\t%s\t%.0f\n", kernel, shape, seconds * 1e6,
               amount / seconds / 1e12, unit, 100.0 * amount / seconds / of);
    }
    fflush(stdout);
    n_timed++;
}
static void line_of_bytes(const char *kernel, const char *shape, double seconds, double n_bytes)
{
    line(kernel, shape, seconds, n_bytes, copy_per_s, "TB/s");
}
static void line_of_flops(const char *kernel, const char *shape, double seconds, double n_flops)
{
    line(kernel, shape, seconds, n_flops, flops_per_s, "TFLOP/s");
}

/* ---- what the device can do ---------------------------------------------------------------------- */

static void measure_copy(void)
{
    const size_t n_bytes = s.copy_bytes;
    bf16s from((int64_t)n_bytes / 2), to((int64_t)n_bytes / 2);
    const auto copy = [&](int) { return table->copy(stream, to.at, from.at, n_bytes); };
    char shape[64];

    for (double busy = 0.0; busy < 0.3 && !is_toy;) /* until the clocks are up */
        busy += std::max(0.01, 20.0 * seconds_of_n(copy, 20));
    const double seconds = seconds_of(copy);
    copy_per_s = 2.0 * (double)n_bytes / seconds;
    snprintf(shape, sizeof shape, "%.0f MiB", (double)n_bytes / 1048576.0);
    line_of_bytes("copy on the device", shape, seconds, 2.0 * (double)n_bytes);
}

/* cuBLASLt's first choice, with workspace: out [n, n] f32 = x [n, n] bf16 W^T. */
static double library_seconds(int n)
{
    const int64_t elems = (int64_t)n * n;
    const uint64_t workspace_bytes = WORKSPACE_BYTES;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const float one = 1.0f, zero = 0.0f;
    bf16s w(elems), x(elems), workspace(WORKSPACE_BYTES / 2 + 8);
    floats out(elems);
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t in_layout, out_layout;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t best[2];
    int n_found = 0;
    const auto lt_must = [](cublasStatus_t status) {
        must(status == CUBLAS_STATUS_SUCCESS ? 0 : K_ERROR_LT + (int)status, "cuBLASLt");
    };

    lt_must(cublasLtCreate(&lt));
    lt_must(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    lt_must(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                           sizeof transposed));
    lt_must(cublasLtMatrixLayoutCreate(&in_layout, CUDA_R_16BF, (uint64_t)n, (uint64_t)n, n));
    lt_must(cublasLtMatrixLayoutCreate(&out_layout, CUDA_R_32F, (uint64_t)n, (uint64_t)n, n));
    lt_must(cublasLtMatmulPreferenceCreate(&preference));
    lt_must(cublasLtMatmulPreferenceSetAttribute(preference,
                                                 CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                 &workspace_bytes, sizeof workspace_bytes));
#if defined(K_EMULATED) /* it wants to be told */
    const uint32_t no_scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
    lt_must(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_scheme, sizeof no_scheme));
#endif
    lt_must(cublasLtMatmulAlgoGetHeuristic(lt, op, in_layout, in_layout, out_layout, out_layout,
                                           preference, 2, best, &n_found));
    must(n_found > 0 ? 0 : K_ERROR_ALGORITHM, "cuBLASLt");
    const auto *algorithm = &best[is_toy ? n_found - 1 : 0].algo; /* the emulator's second works */
    const double seconds = seconds_of([&](int) {
        const cublasStatus_t status = cublasLtMatmul(
            lt, op, &one, w.at, in_layout, x.at, in_layout, &zero, out.at, out_layout, out.at,
            out_layout, algorithm, WORKSPACE_BYTES > 0 ? workspace.at : NULL, WORKSPACE_BYTES,
            (cudaStream_t)stream);

        return status == CUBLAS_STATUS_SUCCESS ? 0 : K_ERROR_LT + (int)status;
    });
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatrixLayoutDestroy(out_layout);
    cublasLtMatrixLayoutDestroy(in_layout);
    cublasLtMatmulDescDestroy(op);
    cublasLtDestroy(lt);
    return seconds;
}

static void measure_matmul(void)
{
    const double n = s.matmul_n, seconds = library_seconds(s.matmul_n);
    char shape[64];

    flops_per_s = 2.0 * n * n * n / seconds;
    snprintf(shape, sizeof shape, "%.0f x %.0f x %.0f", n, n, n);
    line_of_flops("cuBLASLt's matmul", shape, seconds, 2.0 * n * n * n);
}

/* ---- matmuls ------------------------------------------------------------------------------------ */

struct linear {
    const char *name;
    int N, n_in;
};

static std::vector<struct linear> linears(void)
{
    return {{"qkv", (s.H + 2 * s.K) * s.E, s.D},
            {"o", s.D, s.H * s.E},
            {"gate, up", 2 * s.F, s.D},
            {"down", s.D, s.F}};
}

static void bench_matmul(const struct linear &of, int B)
{
    const int64_t elems = (int64_t)of.N * of.n_in;
    const int n = n_sets(2.0 * (double)elems);
    bf16s w(elems * n), x((int64_t)B * of.n_in);
    floats out((int64_t)B * of.N), work(table->matmul_work_floats(B, of.N, of.n_in) + 8);
    char shape[96];

    snprintf(shape, sizeof shape, "B %d, %s %d x %d", B, of.name, of.N, of.n_in);
    line_of_bytes("decode matmul", shape, seconds_of([&](int i) {
                      const struct k_matmul_args args = {out.at,  x.at,    w.at + i % n * elems,
                                                         NULL,    work.at, of.n_in,
                                                         of.n_in, of.N,    B,
                                                         of.N,    of.n_in, 0};
                      return table->matmul(stream, &args);
                  }),
                  2.0 * (double)elems + 2.0 * B * of.n_in + 4.0 * B * of.N);
}

static void bench_matmul_prefill(const struct linear &of)
{
    const int rows = table->prefill_rows, T = (s.n_prompt + rows - 1) / rows * rows;
    bf16s w((int64_t)of.N * of.n_in), x((int64_t)T * of.n_in);
    floats out((int64_t)T * of.N);
    void *plan = NULL;
    char shape[96];
    const int error = table->prefill_plan_create(w.at, of.N, of.n_in, &plan);

    snprintf(shape, sizeof shape, "T %d, %s %d x %d", T, of.name, of.N, of.n_in);
    if (error != 0)
        fprintf(stderr, "bench_kernels: %s: %s\n", shape, table->error_text(error));
    const struct k_matmul_prefill_args args = {plan, out.at, x.at, w.at, NULL, T};
    line_of_flops("prefill matmul", shape, error != 0 ? -1.0 : seconds_of([&](int) {
                      return table->matmul_prefill(stream, &args);
                  }),
                  2.0 * T * of.N * of.n_in);
    table->prefill_plan_destroy(plan);
}

/* ---- attention ---------------------------------------------------------------------------------- */

static void bench_attention(int B)
{
    const int n_blocks = (s.n_context + s.P - 1) / s.P;
    const int64_t kv_elems = (int64_t)B * n_blocks * 2 * s.K * s.P * s.E;
    const double seen = 4.0 * B * (double)s.n_context * s.K * s.E;
    const int n = n_sets(seen);
    bf16s q((int64_t)B * s.H * s.E), out((int64_t)B * s.H * s.E), kv(kv_elems * n);
    ints pos(counting(B, s.n_context - 1, 0)), tables(counting(B * n_blocks, B * n_blocks - 1, -1));
    floats work(table->attention_work_floats(B, s.H, s.E, s.n_context - 1) + 8);
    char shape[64];

    snprintf(shape, sizeof shape, "B %d, context %d", B, s.n_context);
    line_of_bytes("decode attention", shape, seconds_of([&](int i) {
                      struct k_attention_args args = {};
                      args.out = out.at;
                      args.q = q.at;
                      args.kv = kv.at + i % n * kv_elems;
                      args.pos = pos.at;
                      args.tables = tables.at;
                      args.work = work.at;
                      args.ld_tables = n_blocks;
                      args.B = B;
                      args.H = s.H;
                      args.K = s.K;
                      args.E = s.E;
                      args.P = s.P;
                      args.max_pos = s.n_context - 1;
                      args.scale = 0.1f;
                      return table->attention(stream, &args);
                  }),
                  seen + B * ((s.n_context + 255) / 256) * 8.0 * s.H * s.E);
}

static void bench_prefill(void)
{
    const int T = s.n_prompt, n_blocks = (T + s.P - 1) / s.P;
    bf16s q((int64_t)T * s.H * s.E), out((int64_t)T * s.H * s.E);
    bf16s kv((int64_t)n_blocks * 2 * s.K * s.P * s.E);
    ints tables(counting(n_blocks, n_blocks - 1, -1)), zero(counting(1, 0, 0));
    ints n_tok(counting(1, T, 0));
    struct k_prefill_args args = {};
    char shape[64];

    args.out = out.at;
    args.q = q.at;
    args.kv = kv.at;
    args.tables = tables.at;
    args.pos0 = args.row0 = zero.at;
    args.n_tok = n_tok.at;
    args.ld_tables = n_blocks;
    args.B = 1;
    args.T = args.max_tok = T;
    args.H = s.H;
    args.K = s.K;
    args.E = s.E;
    args.P = s.P;
    args.scale = 0.1f;
    snprintf(shape, sizeof shape, "T %d", T);
    line_of_flops("prefill attention", shape,
                  seconds_of([&](int) { return table->prefill(stream, &args); }),
                  2.0 * s.H * s.E * T * (T + 1.0));
}

/* ---- the rest ----------------------------------------------------------------------------------- */

static void bench_rows(int T)
{
    const double DT = (double)s.D * T, FT = (double)s.F * T;
    const int ld = (s.H + 2 * s.K) * s.E, n_blocks = (T + s.P - 1) / s.P;
    char shape[64];

    snprintf(shape, sizeof shape, "T %d", T);
    {
        const int n = n_sets(14.0 * DT);
        floats x((int64_t)DT * n), add((int64_t)DT * n), w(s.D);
        bf16s out((int64_t)DT);

        line_of_bytes("rmsnorm, added", shape, seconds_of([&](int i) {
                          const int64_t at = i % n * (int64_t)DT;
                          const struct k_rmsnorm_args args = {
                              out.at, NULL, x.at + at, add.at + at, w.at, T, s.D, 1e-5f, 0.5f};
                          return table->rmsnorm(stream, &args);
                      }),
                      14.0 * DT);
    }
    {
        const double n_bytes = (double)T * s.E * (6 * s.H + 12 * s.K + 4);
        const int n = n_sets(n_bytes);
        floats qkv((int64_t)T * ld * n), angles((int64_t)T * s.E);
        bf16s q((int64_t)T * s.H * s.E), kv((int64_t)n_blocks * 2 * s.K * s.P * s.E);
        ints pos(counting(T, 0, 1)), seq(counting(T, 0, 0)), tables(counting(n_blocks, 0, 1));

        line_of_bytes("rope_kv", shape, seconds_of([&](int i) {
                          const struct k_rope_kv_args args = {
                              q.at,      kv.at,    qkv.at + (int64_t)(i % n) * T * ld,
                              angles.at, pos.at,   seq.at,
                              tables.at, n_blocks, T,
                              s.H,       s.K,      s.E,
                              s.P};
                          return table->rope_kv(stream, &args);
                      }),
                      n_bytes);
    }
    {
        const int n = n_sets(10.0 * FT);
        floats gate_up(2 * (int64_t)FT * n);
        bf16s out((int64_t)FT);

        line_of_bytes("gated", shape, seconds_of([&](int i) {
                          const struct k_gated_args args = {
                              out.at, gate_up.at + i % n * 2 * (int64_t)FT, T, s.F, 0};
                          return table->gated(stream, &args);
                      }),
                      10.0 * FT);
    }
    {
        bf16s words((int64_t)s.V * s.D);
        floats out((int64_t)DT);
        const int n = s.V / T;
        std::vector<int32_t> all; /* other tokens in every set */

        for (int64_t t = 0; t < (int64_t)T * n; t++)
            all.push_back((int32_t)(t * 7919 % s.V));
        ints ids(all);
        line_of_bytes("embed", shape, seconds_of([&](int i) {
                          const struct k_embed_args args = {out.at, words.at, ids.at + i % n * T,
                                                            T,      s.D,      1.0f};
                          return table->embed(stream, &args);
                      }),
                      6.0 * DT);
    }
}

static void bench_logits(int B)
{
    const int64_t elems = (int64_t)B * s.V;
    const int n = n_sets(4.0 * (double)elems);
    floats x(elems * n), max(B), logsum(B), work(table->logits_work_floats(B, s.V) + 8);
    ints id(counting(B, 0, 0));
    char shape[64];

    snprintf(shape, sizeof shape, "B %d, %d", B, s.V);
    line_of_bytes(
        "logits", shape, seconds_of([&](int i) {
            const struct k_logits_args args = {
                x.at + i % n * elems, max.at, logsum.at, id.at, work.at, B, s.V, 0.0f, 0.0f};
            return table->logits(stream, &args);
        }),
        4.0 * (double)elems);
}

static void bench_kv_copy(void)
{
    const int n_layers = is_toy ? 2 : 32, n_blocks = (s.n_prompt + s.P - 1) / s.P;
    const int64_t block_elems = 2ll * s.K * s.P * s.E, layer_elems = block_elems * n_blocks;
    bf16s pool(layer_elems * n_layers), packed(layer_elems * n_layers);
    ints ids(counting(n_blocks, n_blocks - 1, -1));
    const struct k_kv_copy_args args = {packed.at, pool.at, ids.at,      n_blocks,
                                        n_layers,  0,       block_elems, layer_elems};
    char shape[64];

    snprintf(shape, sizeof shape, "%d tokens, %d layers", s.n_prompt, n_layers);
    line_of_bytes("kv_copy", shape, seconds_of([&](int) { return table->kv_copy(stream, &args); }),
                  4.0 * (double)layer_elems * n_layers);
}

/* ---- main --------------------------------------------------------------------------------------- */

static int device(void)
{
    struct k_device facts;
    int n = 0, runtime = 0, driver = 0, error = table->device_count(&n);

    (void)table->versions(&runtime, &driver);
    if (error == 0 && n > 0)
        error = table->device_facts(0, &facts);
    if (error != 0 || n == 0) {
        printf("%s\n", driver == 0  ? "there is no NVIDIA driver"
                       : error != 0 ? table->error_text(error)
                                    : "the driver counts no device");
        return 77;
    }
    printf("%s, %.0f GiB, %s, CUDA %d.%d, driver for CUDA %d.%d\n", facts.name,
           (double)facts.memory_bytes / 1073741824.0, facts.numerics, runtime / 1000,
           runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    return 0;
}

int main(int argc, char **argv)
{
    table = epidote_cuda_table();
    if (argc > 1 && strcmp(argv[1], "--device") == 0)
        return device();
    is_toy = argc > 1 && strcmp(argv[1], "--toy") == 0;
    s = is_toy ? toy : llama_8b;
    must(table->start(0), "starting the device");
    must(table->stream_create(&stream), "a stream");
    measure_copy();
    measure_matmul();
    for (const int B : {1, s.n_batch}) {
        for (const struct linear &of : linears())
            bench_matmul(of, B);
        bench_matmul({"head", s.V, s.D}, B);
        bench_attention(B);
        bench_logits(B);
    }
    for (const struct linear &of : linears())
        bench_matmul_prefill(of);
    bench_prefill();
    bench_rows(s.n_batch);
    bench_rows(s.n_prompt);
    bench_kv_copy();
    (void)table->stream_destroy(stream);
    fprintf(stderr, "%d timed, %d of them failed\n", n_timed, n_failed);
    return n_failed > 0;
}
