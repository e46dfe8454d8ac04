/* TEST */
/*
 * unit_dpbf16.c - vdpbf16ps does what the bf16 chain of ops.h does: acc = fma(x[odd], w[odd], acc),
 * then acc = fma(x[even], w[even], acc), both rounded to nearest, with FTZ and DAZ.  That is what
 * lets cpu_avx512bf16.c share its numerics with the other variants.
 *
 *   unit_dpbf16 [triples, default 10^7]      a triple: one accumulator, one pair of x, one of w
 *
 * The instruction runs under several settings of MXCSR, which it must neither consult nor change.
 * To show that the triples would find a difference, they must tell the chain from everything that
 * the instruction could be instead.  NaN equals NaN: which payload a chain of fma keeps is up to
 * the order in which a compiler puts the operands.
 */
#include "tests/ops_test.h"

#if !defined(__x86_64__)
int main(void)
{
    fprintf(stderr, "vdpbf16ps is an instruction of x86-64\n");
    return 77;
}
#else
#include <immintrin.h>

#define TARGET __attribute__((noinline, target("avx512f,avx512bf16")))

enum { BATCH = 1 << 12, MXCSR_DEFAULT = 0x1f80, MXCSR_NUMERIC = 0x9fc0, MXCSR_FLAGS = 0x3f };

struct triples {
    uint32_t x[BATCH], w[BATCH]; /* pairs of bf16, even member in the low half */
    float acc[BATCH];
};

/* ---- the instruction, and what it is compared with --------------------------------------------- */

/* out [BATCH] of all triples.  noinline: MXCSR is set around the call. */
typedef void (*eval_fn)(const struct triples *t, float *out);

TARGET static void eval_instruction(const struct triples *t, float *out)
{
    for (int i = 0; i < BATCH; i += 16)
        _mm512_storeu_ps(out + i, _mm512_dpbf16_ps(_mm512_loadu_ps(t->acc + i),
                                                   (__m512bh)_mm512_loadu_si512(t->x + i),
                                                   (__m512bh)_mm512_loadu_si512(t->w + i)));
}

/* 16 triples as float32. */
struct parts {
    __m512 acc, x[2], w[2]; /* [0] even, [1] odd */
};

TARGET static void parts_load(const struct triples *t, int i, struct parts *p)
{
    const __m512i x = _mm512_loadu_si512(t->x + i), w = _mm512_loadu_si512(t->w + i);
    const __m512i odd = _mm512_set1_epi32((int)0xffff0000u);

    p->acc = _mm512_loadu_ps(t->acc + i);
    p->x[0] = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    p->x[1] = _mm512_castsi512_ps(_mm512_and_si512(x, odd));
    p->w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    p->w[1] = _mm512_castsi512_ps(_mm512_and_si512(w, odd));
}

/* EXPR is made of struct parts p. */
#define EVAL_DEFINE(name, expr)                                                                    \
    TARGET static void name(const struct triples *t, float *out)                                   \
    {                                                                                              \
        for (int i = 0; i < BATCH; i += 16) {                                                      \
            struct parts p;                                                                        \
                                                                                                   \
            parts_load(t, i, &p);                                                                  \
            _mm512_storeu_ps(out + i, (expr));                                                     \
        }                                                                                          \
    }

EVAL_DEFINE(eval_chain, _mm512_fmadd_ps(p.x[0], p.w[0], _mm512_fmadd_ps(p.x[1], p.w[1], p.acc)))
EVAL_DEFINE(eval_even_first,
            _mm512_fmadd_ps(p.x[1], p.w[1], _mm512_fmadd_ps(p.x[0], p.w[0], p.acc)))
EVAL_DEFINE(eval_products_first, /* each product rounded or flushed before it is added */
            _mm512_add_ps(_mm512_add_ps(p.acc, _mm512_mul_ps(p.x[1], p.w[1])),
                          _mm512_mul_ps(p.x[0], p.w[0])))
EVAL_DEFINE(eval_pair_first, /* the sum of the pair is added to the accumulator */
            _mm512_add_ps(p.acc, _mm512_fmadd_ps(p.x[0], p.w[0], _mm512_mul_ps(p.x[1], p.w[1]))))

/* ---- triples ------------------------------------------------------------------------------------ */

static float random_float(int exponent_low, int exponent_high)
{
    const uint32_t exponent = (uint32_t)test_between(exponent_low + 127, exponent_high + 127);

    return f32_from_bits((test_random() & 0x807fffffu) | exponent << 23);
}

static uint16_t random_bf16(int exponent_low, int exponent_high)
{
    return (uint16_t)(bits_from_f32(random_float(exponent_low, exponent_high)) >> 16);
}

/* Zero, subnormals, the ends of the normal range, one and its neighbour, infinity, NaN. */
static uint16_t special_bf16(void)
{
    static const uint16_t special[] = {0x0000, 0x0001, 0x007f, 0x0080, 0x0081, 0x3f7f, 0x3f80,
                                       0x3f81, 0x7f7f, 0x7f80, 0x7f81, 0x7fc0, 0x1fc0, 0x5f80};

    return (uint16_t)(special[test_random() % 14] | (test_random() & 0x8000u));
}

static float product(uint16_t x, uint16_t w)
{
    return f32_from_bf16(x) * f32_from_bf16(w);
}

/* x moved by -2 .. 2 units in its last place. */
static float nudged(float x)
{
    return f32_from_bits(bits_from_f32(x) + (uint32_t)test_between(-2, 2));
}

/* One triple; kinds in which two quantities are of one size take their exponents from `at`. */
static void triple_random(struct triples *t, int i)
{
    const int kind = (int)(test_random() % 8), at = test_between(-60, 60);
    uint16_t x[2], w[2];
    float acc;

    for (int k = 0; k < 2; k++) {
        const int half = test_between(-62, 62);

        switch (kind) {
        case 0: /* any bits */
            x[k] = (uint16_t)test_random();
            w[k] = (uint16_t)test_random();
            break;
        case 1: /* special values */
            x[k] = special_bf16();
            w[k] = special_bf16();
            break;
        case 2: /* products about the smallest normal number: 2^-126 */
            x[k] = random_bf16(half - 63, half - 63);
            w[k] = random_bf16(-half - 90, -half - 60);
            break;
        case 3: /* products about the largest number */
            x[k] = random_bf16(half + 63, half + 64);
            w[k] = random_bf16(-half + 61, -half + 64);
            break;
        case 4: /* sizes of a model's weights and activations */
            x[k] = random_bf16(-8, 4);
            w[k] = random_bf16(-12, 0);
            break;
        default: /* products of few bits within a factor of 2^50 of each other: ties and sums that
                    cancel */
            x[k] = random_bf16(at, at + 1) & 0xffe0u;
            w[k] = random_bf16(-25, 25) & 0xfff8u;
            break;
        }
    }
    if (kind >= 5 && test_random() % 4 == 0) { /* the pair cancels, all but a bit */
        x[0] = x[1] ^ 0x8000u;
        w[0] = (uint16_t)(w[1] + test_random() % 2);
    }
    switch (kind) {
    case 0:
        acc = f32_from_bits(test_random());
        break;
    case 1:
        acc = f32_from_bits((uint32_t)special_bf16() << 16 | (test_random() % 4 ? 0 : 0xffffu));
        break;
    case 2: /* around the smallest normal number, from both sides */
        acc = test_random() % 2 ? nudged(0x1p-126f) : random_float(-126, -124);
        break;
    case 3:
        acc = test_random() % 2 ? f32_from_bits(0x7f7fffffu - test_random() % 4)
                                : random_float(124, 127);
        break;
    case 4:
        acc = random_float(-12, 6);
        break;
    default: /* what is left of it after the first product, or after the second, is small */
        acc = random_float(at - 30, at + 30);
        if (kind == 6)
            acc = nudged(-product(x[1], w[1]));
        if (kind == 7)
            acc = nudged(-product(x[0], w[0]));
        break;
    }
    if (test_random() % 2)
        acc = -acc;
    t->x[i] = (uint32_t)x[1] << 16 | x[0];
    t->w[i] = (uint32_t)w[1] << 16 | w[0];
    t->acc[i] = acc;
}

/* ---- the comparison ------------------------------------------------------------------------------ */

static void eval(eval_fn fn, unsigned mxcsr, const struct triples *t, float *out)
{
    const unsigned before = _mm_getcsr();

    _mm_setcsr(mxcsr);
    fn(t, out);
    _mm_setcsr(before);
}

static bool same(float a, float b)
{
    return bits_from_f32(a) == bits_from_f32(b) || (isnan(a) && isnan(b));
}

static int64_t n_differ(const float *a, const float *b)
{
    int64_t n = 0;

    for (int i = 0; i < BATCH; i++)
        n += !same(a[i], b[i]);
    return n;
}

/* Under this MXCSR the instruction gives `want`, and leaves MXCSR as it was. */
static void instruction_is(const struct triples *t, unsigned mxcsr, const float *want)
{
    static float got[BATCH];
    const unsigned before = _mm_getcsr();

    _mm_setcsr(mxcsr);
    eval_instruction(t, got);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    CHECK_INT(after, mxcsr);
    CHECK_INT(n_differ(got, want), 0);
    for (int i = 0; i < BATCH && test_n_failed < 20; i++)
        if (!same(got[i], want[i]))
            fprintf(stderr, "mxcsr %04x: x %08x w %08x acc %08x gives %08x, the chain %08x\n",
                    mxcsr, t->x[i], t->w[i], bits_from_f32(t->acc[i]), bits_from_f32(got[i]),
                    bits_from_f32(want[i]));
}

int main(int argc, char **argv)
{
    /* the program's own; the system's; toward zero; flush without round to nearest; all exceptions
     * unmasked, where one that is raised would end the test */
    static const unsigned settings[] = {MXCSR_NUMERIC, MXCSR_DEFAULT, 0x7f80, 0xdfc0, 0x0000};
    static const struct {
        const char *name;
        eval_fn fn;
        unsigned mxcsr;
    } others[] = {
        {"even before odd", eval_even_first, MXCSR_NUMERIC},
        {"products rounded first", eval_products_first, MXCSR_NUMERIC},
        {"pair summed first", eval_pair_first, MXCSR_NUMERIC},
        {"subnormals kept", eval_chain, MXCSR_DEFAULT},
        {"subnormals read as zero, but kept", eval_chain, MXCSR_DEFAULT | 0x40},
        {"flushed, but read", eval_chain, MXCSR_DEFAULT | 0x8000},
        {"rounded toward zero", eval_chain, MXCSR_NUMERIC | 0x6000}, /* the last: see n_edge */
    };
    enum { N_OTHERS = sizeof others / sizeof others[0] };
    static struct triples t;
    static float want[BATCH], other[BATCH];
    int64_t n_told[N_OTHERS] = {0}, n_nan = 0, n_infinite = 0, n_zero = 0, n_edge = 0, n = 0;
    const int64_t n_triples = argc > 1 ? atoll(argv[1]) : 10000000;

    if (!__builtin_cpu_supports("avx512bf16")) {
        fprintf(stderr, "this CPU has no avx512_bf16\n");
        return 77;
    }
    test_seed(1);
    for (; n < n_triples && test_n_failed == 0; n += BATCH) {
        for (int i = 0; i < BATCH; i++)
            triple_random(&t, i);
        eval(eval_chain, MXCSR_NUMERIC, &t, want);
        instruction_is(&t, settings[n / BATCH % 5], want);
        for (int i = 0; i < N_OTHERS; i++) {
            eval(others[i].fn, others[i].mxcsr, &t, other);
            n_told[i] += n_differ(other, want);
        }
        for (int i = 0; i < BATCH; i++) {
            n_nan += isnan(want[i]) != 0;
            n_infinite += isinf(want[i]) != 0;
            n_zero += want[i] == 0.0f;
            /* what is tiny before it is rounded, and not after, is not flushed */
            n_edge += fabsf(want[i]) == 0x1p-126f && other[i] == 0.0f;
        }
    }
    fprintf(stderr,
            "%lld triples: %lld NaN, %lld infinite, %lld zero, %lld rounded up to 2^-126; "
            "the instruction is not:\n",
            (long long)n, (long long)n_nan, (long long)n_infinite, (long long)n_zero,
            (long long)n_edge);
    for (int i = 0; i < N_OTHERS; i++) {
        fprintf(stderr, "  %-34s %lld triples say so\n", others[i].name, (long long)n_told[i]);
        CHECK(n_told[i] > 0);
    }
    CHECK(n_nan > 0 && n_infinite > 0 && n_zero > 0 && n_edge > 0 && n_nan < n / 4);
    TEST_END();
}
#endif
