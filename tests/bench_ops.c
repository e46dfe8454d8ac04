/*
 * bench_ops.c - how close the operations come to what this machine can do.
 *
 * Measures the floors in the same run: the FMA peak of the instructions used (a loop over registers
 * only) and the bandwidth of reading memory, both per number of threads; then matmul, attention and
 * the small operations, each printed beside its floor.  `make bench` runs it; not a test.
 *
 *   bench_ops [seconds per figure, default 0.2 [instructions, default auto]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "floors.h"
#include "ops/ops.h"

static double seconds_per_figure = 0.2;

/* ---- the operations ------------------------------------------------------------------------- */

struct bench {
    const struct ops *ops;
    struct threads *threads;
    struct ops_ctx *ctx;
    double peak, stream; /* GFLOP/s, GB/s */
};

static void fail(const char *what)
{
    fprintf(stderr, "bench_ops: %s failed\n", what);
    exit(1);
}

static float *floats(size_t n)
{
    float *x = pages_map(n * sizeof *x);

    if (x == NULL)
        fail("memory");
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(int)(i * 2654435761u >> 20 & 1023) / 512.0f - 1.0f;
    return x;
}

/* Enough copies of the matrix that none is in a cache when its turn comes, as in a model. */
static void matmul(const struct bench *b, int n_out, int n_in, const char *what)
{
    static const int rows[] = {1, 8, 32, 64, 128, 512};
    const size_t bytes = ops_matrix_bytes(OPS_BF16, n_out, n_in);
    const int copies = (int)(STREAM_BYTES / bytes) + 1;
    uint8_t *data = pages_map(bytes * (size_t)copies);
    float *x = floats((size_t)512 * (size_t)n_in), *out = floats((size_t)512 * (size_t)n_out);
    struct ops_matrix w = {.type = OPS_BF16, .n_out = n_out, .n_in = n_in, .data = data};

    if (data == NULL)
        fail("memory");
    for (int o = 0; o < n_out; o++)
        ops_matrix_set_row(&w, o, x + (size_t)(o % 500) * (size_t)n_in);
    for (int c = 1; c < copies; c++)
        memcpy(data + bytes * (size_t)c, data, bytes);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int T = rows[i];
        const double flop = 2.0 * T * n_out * n_in;
        double best = INFINITY, spent = 0.0;

        for (int turn = 0; spent < seconds_per_figure || turn < 3; turn++) {
            w.data = data + bytes * (size_t)(turn % copies);
            const double begin = clock_now_s();
            if (b->ops->matmul(b->ctx, out, n_out, x, n_in, &w, T) != ST_OK)
                fail("matmul");
            const double s = clock_now_s() - begin;
            spent += s;
            best = turn > 0 ? fmin(best, s) : best;
        }
        const double gflops = flop / best / 1e9, gb = (double)bytes / best / 1e9;
        printf("%-10s %d  matmul %-9s %5d x %5d  M %3d  %9.1f us  %7.1f GFLOP/s %5.1f %%  "
               "%6.2f GB/s %5.1f %%\n",
               b->ops->name, threads_count(b->threads), what, n_out, n_in, T, best * 1e6, gflops,
               100.0 * gflops / b->peak, gb, 100.0 * gb / b->stream);
        fflush(stdout);
    }
    pages_unmap(data, bytes * (size_t)copies);
    pages_unmap(x, (size_t)512 * (size_t)n_in * sizeof *x);
    pages_unmap(out, (size_t)512 * (size_t)n_out * sizeof *out);
}

/* B sequences of n_tok new tokens after `past` ones; each has its own blocks. */
static void attention(const struct bench *b, int B, int past, int n_tok)
{
    enum { H = 9, K = 3, E = 64, P = 16 };
    const int n_blocks = (past + n_tok + P - 1) / P, ld = (H + 2 * K) * E;
    const size_t n_rows = (size_t)B * (size_t)n_tok;
    const struct ops_attention how = {.scale = 0.125f};
    struct ops_kv kv = {.type = OPS_BF16, .K = K, .P = P, .E = E};
    const size_t block_bytes = 2 * K * P * E * 2, bytes = block_bytes * (size_t)(B * n_blocks);
    int32_t *ids = calloc((size_t)(B * n_blocks), sizeof *ids);
    struct ops_seq *seqs = calloc((size_t)B, sizeof *seqs);
    float *rows = floats(n_rows * (size_t)ld), *out = floats(n_rows * H * E);
    double best = INFINITY, spent = 0.0;

    kv.base = pages_map(bytes); /* zeros do */
    if (kv.base == NULL || ids == NULL || seqs == NULL)
        fail("memory");
    memset(kv.base, 0, bytes);
    for (int i = 0; i < B * n_blocks; i++)
        ids[i] = i;
    for (int i = 0; i < B; i++)
        seqs[i] = (struct ops_seq){ids + i * n_blocks, past, n_tok, i * n_tok};
    for (int turn = 0; spent < seconds_per_figure || turn < 3; turn++) {
        const double begin = clock_now_s();

        if (b->ops->attention(b->ctx, out, rows, ld, H, &kv, seqs, B, &how) != ST_OK)
            fail("attention");
        const double s = clock_now_s() - begin;
        spent += s;
        best = fmin(best, s);
    }
    double pairs = 0.0; /* of query and key */
    for (int t = 0; t < n_tok; t++)
        pairs += past + t + 1;
    const double gflops = 4.0 * B * H * E * pairs / best / 1e9;
    const double gb = (double)bytes / best / 1e9;
    printf("%-10s %d  attention %2d x %4d after %4d         %9.1f us  %7.1f GFLOP/s %5.1f %%  "
           "%6.2f GB/s %5.1f %%\n",
           b->ops->name, threads_count(b->threads), B, n_tok, past, best * 1e6, gflops,
           100.0 * gflops / b->peak, gb, 100.0 * gb / b->stream);
    fflush(stdout);
    free(ids);
    free(seqs);
    pages_unmap(kv.base, bytes);
    pages_unmap(rows, n_rows * (size_t)ld * sizeof *rows);
    pages_unmap(out, n_rows * H * E * sizeof *out);
}

/* The operations between the matmuls, on T rows: figures in microseconds only. */
static void small(const struct bench *b, int T)
{
    enum { D = 576, F = 1536, V = 49152, H = 9, E = 64 };
    float *x = floats((size_t)T * 2 * F), *out = floats((size_t)T * 2 * F), *w = floats(D);
    float *logits = floats((size_t)T * V), *table = floats(1024 * E);
    int32_t *pos = calloc((size_t)T, sizeof *pos);
    static const char *const names[] = {"rmsnorm", "rope",    "silu_mul",
                                        "add",     "add_row", "softmax_stats"};

    if (pos == NULL)
        fail("memory");
    for (int which = 0; which < 6; which++) {
        double best = INFINITY, spent = 0.0;

        for (int turn = 0; spent < seconds_per_figure / 4 || turn < 3; turn++) {
            const double begin = clock_now_s();
            enum status st = ST_OK;

            if (which == 0)
                st = b->ops->rmsnorm(b->ctx, out, x, w, T, D, 1e-5f);
            else if (which == 1)
                st = b->ops->rope(b->ctx, x, H * E, pos, table, T, H, E);
            else if (which == 2)
                st = b->ops->silu_mul(b->ctx, out, x, T, F);
            else if (which == 3)
                st = b->ops->add(b->ctx, out, x, (int64_t)T * D);
            else if (which == 4)
                st = b->ops->add_row(b->ctx, out, w, T, D);
            else
                st = b->ops->softmax_stats(b->ctx, logits, T, V, out, out + T);
            if (st != ST_OK)
                fail(names[which]);
            const double s = clock_now_s() - begin;
            spent += s;
            best = fmin(best, s);
        }
        printf("%-10s %d  %-14s M %3d  %9.1f us\n", b->ops->name, threads_count(b->threads),
               names[which], T, best * 1e6);
    }
    free(pos);
    pages_unmap(x, (size_t)T * 2 * F * sizeof *x);
    pages_unmap(out, (size_t)T * 2 * F * sizeof *out);
    pages_unmap(w, D * sizeof *w);
    pages_unmap(logits, (size_t)T * V * sizeof *logits);
    pages_unmap(table, 1024 * E * sizeof *table);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    uint8_t *stream = pages_map(STREAM_BYTES);
    const int n_cores = threads_default_count();

    if (argc > 1)
        seconds_per_figure = atof(argv[1]);
    if (stream == NULL || ops_find(argc > 2 ? argv[2] : "auto", &b.ops) != ST_OK)
        fail("start");
    memset(stream, 1, STREAM_BYTES);
    if (strcmp(b.ops->name, "plain") == 0) {
        printf("bench_ops: plain C is not measured\n");
        return 0;
    }
    for (int n = 1;; n = n_cores) {
        if (threads_create(n, &b.threads) != ST_OK || ops_ctx_create(b.threads, &b.ctx) != ST_OK)
            fail("start");
        b.peak = peak_gflops(b.threads, b.ops->name);
        b.stream = stream_gb_per_s(b.threads, stream);
        printf("%-10s %d  floors: multiply-add %.1f GFLOP/s, memory read %.2f GB/s\n", b.ops->name,
               n, b.peak, b.stream);
        matmul(&b, 960, 576, "qkv");
        matmul(&b, 576, 576, "o");
        matmul(&b, 3072, 576, "gate_up");
        matmul(&b, 576, 1536, "down");
        matmul(&b, 49152, 576, "head");
        matmul(&b, 4096, 4096, "square");
        attention(&b, 1, 0, 512);
        attention(&b, 1, 1536, 512);
        attention(&b, 1, 2047, 1);
        attention(&b, 16, 1023, 1);
        small(&b, 1);
        small(&b, 128);
        ops_ctx_destroy(b.ctx);
        threads_destroy(b.threads);
        if (n == n_cores)
            break;
    }
    pages_unmap(stream, STREAM_BYTES);
    return 0;
}
