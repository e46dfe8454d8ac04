/*
 * cpu_avx512bf16.c - the operations with AVX-512 and its product of bf16 pairs, vdpbf16ps.
 *
 * As cpu_avx512.c, but where both factors are bf16 (weights and keys) one instruction does what is
 * two of fma there, and nothing is unpacked.  The bits are the same: see lanes_dot.  How fast the
 * instruction is differs: one Intel Xeon does half as many multiply-adds a second with it as with
 * fma, so `auto` measures.  Reached through ops_find only.
 */
#include <assert.h>

#include "ops/cpu/lanes_avx512.h"

#define TILE_MAX_ROWS 12
#define TILE_MAX_PANELS 8
#define TILE_PANELS 2
#include "ops/cpu/tile_simd.h"

#include "ops/cpu/exp_body.h"
#include "ops/cpu/rows_body.h"
#include "ops/cpu/vision_body.h"
#include "ops/cpu/softmax_body.h"
#include "ops/cpu/experts_body.h"
#include "ops/cpu/matmul_body.h"
#include "ops/cpu/attention_body.h"

/*
 * dot_is_chain - whether lanes_dot does here what tests/unit_dpbf16.c found that it does.
 *
 * No CPU is known where it does not, but few are known, and on such a one answers would differ from
 * those of other machines without a word.  24,000 triples, some 10 us: exponents about 1, among the
 * lowest, and among the highest.
 */
static bool dot_is_chain(void)
{
    static const uint32_t range[] = {0x38003800u, 0, 0x78007800u};
    const unsigned mode = _mm_getcsr();
    __m512i random =
        _mm512_mullo_epi32(_mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
                           _mm512_set1_epi32((int)2654435761u));
    __mmask16 differ = 0;

    _mm_setcsr(mode | 0x8040u); /* FTZ, DAZ: the numeric mode of threads.c, for this loop */
    for (int turn = 0; turn < 1500; turn++) {
        uint32_t pairs[3][OPS_LANES]; /* x, w, accumulators */

        for (int i = 0; i < 3; i++) {
            const uint32_t exponents = range[i == 1 ? 0 : turn % 3];

            random = _mm512_xor_si512(random, _mm512_slli_epi32(random, 13));
            random = _mm512_xor_si512(random, _mm512_srli_epi32(random, 17));
            random = _mm512_xor_si512(random, _mm512_slli_epi32(random, 5));
            _mm512_storeu_si512(
                pairs[i],
                _mm512_or_si512(_mm512_and_si512(random, _mm512_set1_epi32((int)0x87ff87ffu)),
                                _mm512_set1_epi32((int)exponents)));
        }
        const uint16_t *x = (const uint16_t *)pairs[0], *w = (const uint16_t *)pairs[1];
        const struct lanes acc = lanes_load((const float *)pairs[2]);
        const struct lanes odd =
            lanes_fma(lanes_pairs_bf16(x, true), lanes_pairs_bf16(w, true), acc);
        const struct lanes want =
            lanes_fma(lanes_pairs_bf16(x, false), lanes_pairs_bf16(w, false), odd);
        const struct lanes got = lanes_dot(lanes_load((const float *)pairs[0]),
                                           lanes_load((const float *)pairs[1]), acc);
        const __mmask16 bits_differ =
            _mm512_cmpneq_epi32_mask(_mm512_castps_si512(got.f), _mm512_castps_si512(want.f));
        const __mmask16 got_nan = _mm512_cmp_ps_mask(got.f, got.f, _CMP_UNORD_Q);
        const __mmask16 want_nan = _mm512_cmp_ps_mask(want.f, want.f, _CMP_UNORD_Q);

        differ |= bits_differ & (__mmask16) ~(got_nan & want_nan);
    }
    _mm_setcsr(mode);
    return differ == 0;
}

static bool cpu_usable(void)
{
    return ops_cpu_avx512.usable() && __builtin_cpu_supports("avx512bf16") && dot_is_chain();
}

/* Seconds of the fastest of some runs of a full tile over n_steps steps that stay in L1. */
static double tile_s(enum tile_kind kind, int n_steps)
{
    static const float zeros[256];
    static const uint8_t *const panels[] = {(const uint8_t *)zeros, (const uint8_t *)zeros};
    float out[TILE_MAX_ROWS * TILE_PANELS * OPS_LANES];
    const struct tile tile = {.x = zeros,
                              .panel = panels,
                              .n_steps = n_steps,
                              .out = out,
                              .ldo = (ptrdiff_t)TILE_PANELS * OPS_LANES};
    double best = INFINITY;

    for (int turn = 0; turn < 20; turn++) {
        const double begin = clock_now_s();

        tile_run(kind, TILE_MAX_ROWS, TILE_PANELS, &tile);
        const double s = clock_now_s() - begin;
        best = s < best ? s : best;
    }
    return best;
}

/* The same number of multiply-adds, by lanes_dot and by fma: some 20 us. */
static bool cpu_pays(void)
{
    return tile_s(TILE_PAIRS_BF16, 64) < tile_s(TILE_SINGLE_F32, 128);
}

const struct ops ops_cpu_avx512bf16 = {
    .name = "avx512bf16",
    .numerics = "bf16chain/1",
    .usable = cpu_usable,
    .pays = cpu_pays,
    .matmul = cpu_matmul,
    .rmsnorm = cpu_rmsnorm,
    .rmsnorm_heads = cpu_rmsnorm_heads,
    .rope = cpu_rope,
    .rope_sections = cpu_rope_sections,
    .layernorm = cpu_layernorm,
    .bias_act = cpu_bias_act,
    .kv_store = cpu_kv_store,
    .attention = cpu_attention,
    .silu_mul = cpu_silu_mul,
    .gelu_mul = cpu_gelu_mul,
    .add = cpu_add,
    .add_scaled = cpu_add_scaled,
    .add_row = cpu_add_row,
    .scale = cpu_scale,
    .softcap = cpu_softcap,
    .route = cpu_route,
    .combine = cpu_combine,
    .softmax_stats = cpu_softmax_stats,
    .exp = cpu_exp,
};
