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

enum { STREAM_BYTES = 256 << 20 }; /* larger than the last cache of most machines */

struct peak_args {
    int64_t turns;
    float sink[64]; /* so that the work has a result */
};

/* 12 chains of 8 lanes, 2 flop each, per turn. */
__attribute__((target("avx2,fma"))) static void peak_avx2(void *arg, int task, int thread)
{
    struct peak_args *a = arg;
    __m256 acc[12];
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
    (void)thread;

#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        acc[i] = _mm256_set1_ps((float)i);
    for (int64_t turn = 0; turn < a->turns; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            acc[i] = _mm256_fmadd_ps(acc[i], x, y);
    }
#pragma GCC unroll 12
    for (int i = 1; i < 12; i++)
        acc[0] = _mm256_add_ps(acc[0], acc[i]);
    a->sink[task % 64] = _mm256_cvtss_f32(acc[0]);
}

__attribute__((target("avx512f"))) static void peak_avx512(void *arg, int task, int thread)
{
    struct peak_args *a = arg;
    __m512 acc[12];
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
    (void)thread;

#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        acc[i] = _mm512_set1_ps((float)i);
    for (int64_t turn = 0; turn < a->turns; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            acc[i] = _mm512_fmadd_ps(acc[i], x, y);
    }
#pragma GCC unroll 12
    for (int i = 1; i < 12; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    a->sink[task % 64] = _mm512_cvtss_f32(acc[0]);
}

/* The best of many short turns: on a machine with other work, some of them run undisturbed. */
static double peak_gflops(struct threads *threads, bool wide)
{
    const int n_threads = threads_count(threads);
    const double flop_per_turn = 12.0 * (wide ? 16 : 8) * 2.0;
    struct peak_args a = {.turns = 100000};
    double best = 0.0;

    for (int turn = 0; turn < 150; turn++) {
        const double begin = clock_now_s();

        threads_run(threads, n_threads, wide ? peak_avx512 : peak_avx2, &a);
        const double s = clock_now_s() - begin;
        best = fmax(best, flop_per_turn * (double)a.turns * n_threads / s / 1e9);
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

static double stream_gb_per_s(struct threads *threads, const void *data)
{
    enum { PARTS = 8, TASKS = 16 }; /* a part is timed alone, read again after all others */
    struct stream_args a = {.bytes_per_task = STREAM_BYTES / PARTS / TASKS};
    double best = 0.0;

    for (int turn = 0; turn < 5 * PARTS; turn++) {
        const double begin = clock_now_s();

        a.data = (const uint8_t *)data + (size_t)(turn % PARTS) * (STREAM_BYTES / PARTS);
        threads_run(threads, TASKS, stream_task, &a);
        best = fmax(best, (double)(STREAM_BYTES / PARTS) / (clock_now_s() - begin) / 1e9);
    }
    return best;
}

#endif
