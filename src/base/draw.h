/*
 * draw.h - the arithmetic of a random draw, as functions that compile as C, as C++ and for a
 * device: the host's sampler and the device's must not differ by a bit.
 *
 * Used by philox.c, model/sampler.c and kernels/sample.cu.
 */
#ifndef EPIDOTE_BASE_DRAW_H
#define EPIDOTE_BASE_DRAW_H

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define DRAW_FN static __host__ __device__ inline
#else
#define DRAW_FN static inline
#endif

/* draw_philox - Philox4x32-10: counter [4] becomes random bits that belong to key and counter.
 *
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
 */
DRAW_FN void draw_philox(uint32_t k0, uint32_t k1, uint32_t counter[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];

    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    counter[0] = c0;
    counter[1] = c1;
    counter[2] = c2;
    counter[3] = c3;
}

/*
 * draw_exp - e^x for -50 <= x <= 0 by the same steps on every machine; libm's differs.
 *
 * x = k ln2 + r with |r| <= ln2 / 2; Taylor series of e^r up to r^13 (the next term is below
 * 1e-17), times 2^k.  draw_exp(0) is exactly 1.  Compiled without contraction to fma.
 */
DRAW_FN double draw_exp(double x)
{
    const double log2e = 0x1.71547652b82fep0;
    const double ln2_high = 0x1.62e42fefa0000p-1; /* k * ln2_high is exact */
    const double ln2_low = 0x1.cf79abc9e3b3ap-40;
    const double rounder = 0x1.8p52; /* adding it leaves an integer in the low bits */
    const double k_rounded = x * log2e + rounder, k = k_rounded - rounder;
    const double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1.0 / 6227020800.0;

    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 1.0 / 2.0;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;

    uint64_t bits; /* k in the low ones; everything above leaves by the shift */
    double power;
    memcpy(&bits, &k_rounded, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

#endif
