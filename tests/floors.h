/*
 * floors.h - what this machine can do at most, measured: multiply-adds in registers, and reading
 * memory. For the benches; every figure of theirs stands beside one of these from the same run.
 */
#ifndef EPIDOTE_TESTS_FLOORS_H
#define EPIDOTE_TESTS_FLOORS_H

#include <math.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/base.h"

enum { STREAM_BYTES = 1 << 30 }; /* larger than the last cache of any machine we met: 480 MiB */

struct peak_args {
    int64_t turns;
    float sink[64]; /* so that the work has a result */
};

/* 24 chains in registers: no instruction here takes so long that they would wait for each other. */
#define PEAK_DEFINE(name, isa, n, vector, set, add, ...)                                           \
    __attribute__((target(isa))) static void name(void *arg, int task, int thread)                 \
    {                                                                                              \
        struct peak_args *a = arg;                                                                 \
        vector acc[n];                                                                             \
        (void)thread;                                                                              \
                                                                                                   \
        _Pragma("GCC unroll 24") for (int i = 0; i < (n); i++) acc[i] = set((float)i);             \
        for (int64_t turn = 0; turn < a->turns; turn++) {                                          \
            _Pragma("GCC unroll 24") for (int i = 0; i < (n); i++) acc[i] = (__VA_ARGS__);         \
        }                                                                                          \
        _Pragma("GCC unroll 24") for (int i = 1; i < (n); i++) acc[0] = add(acc[0], acc[i]);       \
        memcpy(&a->sink[task % 64], &acc[0], sizeof a->sink[0]);                                   \
    }

PEAK_DEFINE(peak_avx2, "avx2,fma", 12, __m256, _mm256_set1_ps, _mm256_add_ps,
            _mm256_fmadd_ps(acc[i], _mm256_set1_ps(0.999f), _mm256_set1_ps(0.001f)))
PEAK_DEFINE(peak_avx512, "avx512f", 24, __m512, _mm512_set1_ps, _mm512_add_ps,
            _mm512_fmadd_ps(acc[i], _mm512_set1_ps(0.999f), _mm512_set1_ps(0.001f)))
PEAK_DEFINE(peak_avx512bf16, "avx512f,avx512bf16", 24, __m512, _mm512_set1_ps, _mm512_add_ps,
            _mm512_dpbf16_ps(acc[i], (__m512bh)_mm512_set1_epi16(0x3f00),
                             (__m512bh)_mm512_set1_epi16(0x3a80)))

/* What multiplies and adds in each variant of ops. */
static const struct peak {
    const char *instructions;
    void (*fn)(void *arg, int task, int thread);
    double flop_per_turn;
} peaks[] = {
    {"avx2", peak_avx2, 12 * 8 * 2},
    {"avx512", peak_avx512, 24 * 16 * 2},
    {"avx512bf16", peak_avx512bf16, 24 * 16 * 4},
};

/* The best of many short turns: on a machine with other work, some of them run undisturbed.
 * 0 for instructions that are not in the table. */
static double peak_gflops(struct threads *threads, const char *instructions)
{
    const int n_threads = threads_count(threads);
    struct peak_args a = {.turns = 50000};
    double best = 0.0;

    for (size_t i = 0; i < sizeof peaks / sizeof peaks[0]; i++) {
        for (int turn = 0; turn < 150 && strcmp(peaks[i].instructions, instructions) == 0; turn++) {
            const double begin = clock_now_s();

            threads_run(threads, n_threads, peaks[i].fn, &a);
            const double s = clock_now_s() - begin;
            best = fmax(best, peaks[i].flop_per_turn * (double)a.turns * n_threads / s / 1e9);
        }
    }
    return best;
}

struct stream_args {
    const uint8_t *data;
    size_t bytes_per_task;
    float sink[64];
};

/* Four streams at a time: one alone does not reach the memory's speed. */
__attribute__((target("avx2"))) static void stream_task(void *arg, int task, int thread)
{
    struct stream_args *a = arg;
    const uint8_t *from = a->data + (size_t)task * a->bytes_per_task;
    const size_t part = a->bytes_per_task / 4;
    __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                     _mm256_setzero_ps()};
    (void)thread;

    for (size_t i = 0; i < part; i += 64) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            const float *line = (const float *)(const void *)(from + j * part + i);

            acc[j] = _mm256_or_ps(acc[j], _mm256_loadu_ps(line));
            acc[j] = _mm256_or_ps(acc[j], _mm256_loadu_ps(line + 8));
        }
    }
    acc[0] = _mm256_or_ps(_mm256_or_ps(acc[0], acc[1]), _mm256_or_ps(acc[2], acc[3]));
    a->sink[task % 64] += _mm256_cvtss_f32(acc[0]);
}

static inline double stream_gb_per_s(struct threads *threads, const void *data)
{
    enum { PARTS = 32, TASKS = 16 }; /* a part is timed alone, read again after all others */
    struct stream_args a = {.bytes_per_task = STREAM_BYTES / PARTS / TASKS};
    double best = 0.0;

    for (int turn = 0; turn < 3 * PARTS; turn++) {
        const double begin = clock_now_s();

        a.data = (const uint8_t *)data + (size_t)(turn % PARTS) * (STREAM_BYTES / PARTS);
        threads_run(threads, TASKS, stream_task, &a);
        best = fmax(best, (double)(STREAM_BYTES / PARTS) / (clock_now_s() - begin) / 1e9);
    }
    return best;
}

#endif
