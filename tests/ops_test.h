/*
 * ops_test.h - what the tests of ops share: random numbers, exact comparison, the list of variants
 * that this CPU can run.
 */
#ifndef EPIDOTE_OPS_TEST_H
#define EPIDOTE_OPS_TEST_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "tests/test.h"

static uint64_t test_random_state;

/* From the environment (TEST_SEED) or fixed; printed, so that a failure can be repeated. */
static inline void test_seed(uint64_t fixed)
{
    const char *given = getenv("TEST_SEED");

    test_random_state = given != NULL ? strtoull(given, NULL, 10) : fixed;
    fprintf(stderr, "seed %llu\n", (unsigned long long)test_random_state);
    test_random_state = test_random_state * 2 + 1;
}

static inline uint32_t test_random(void)
{
    test_random_state ^= test_random_state << 13;
    test_random_state ^= test_random_state >> 7;
    test_random_state ^= test_random_state << 17;
    return (uint32_t)(test_random_state * 0x2545f4914f6cdd1du >> 32);
}

static inline int test_between(int low, int high)
{
    return low + (int)(test_random() % (uint32_t)(high - low + 1));
}

/* About normal with standard deviation 1: the sum of 4 uniform numbers. */
static inline float test_normal(void)
{
    double sum = 0.0;

    for (int i = 0; i < 4; i++)
        sum += (double)test_random() / 4294967296.0 - 0.5;
    return (float)(sum * 1.7320508);
}

static inline float *test_floats(size_t n)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 127) / 64 * 64);

    for (size_t i = 0; i < n; i++)
        x[i] = test_normal();
    return x;
}

static inline float *test_copy(const float *x, size_t n)
{
    float *y = aligned_alloc(64, (n * sizeof *y + 127) / 64 * 64);

    memcpy(y, x, n * sizeof *y);
    return y;
}

/* How many of n floats differ in their bits. */
static inline int test_n_differ(const float *a, const float *b, size_t n)
{
    int differ = 0;

    for (size_t i = 0; i < n; i++)
        differ += bits_from_f32(a[i]) != bits_from_f32(b[i]);
    return differ;
}

/* A value as a matmul or attention of the type sees it. */
static inline double test_rounded(enum ops_type type, float x)
{
    return type == OPS_BF16 ? (double)f32_from_bf16(bf16_from_f32(x)) : (double)x;
}

#endif
