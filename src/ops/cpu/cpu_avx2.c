/*
 * cpu_avx2.c - the operations with AVX2 and FMA.
 *
 * The bodies are shared with the other variants; lanes_avx2.h and tile_avx2.h say how 16 lanes and
 * one matmul tile are computed here.  Reached through ops_find only.
 */
#include <assert.h>

#include "ops/cpu/lanes_avx2.h"
#include "ops/cpu/tile_avx2.h"

#include "ops/cpu/exp_body.h"
#include "ops/cpu/rows_body.h"
#include "ops/cpu/matmul_body.h"
#include "ops/cpu/attention_body.h"

static bool cpu_usable(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct ops ops_cpu_avx2 = {
    .name = "avx2",
    .numerics = "bf16chain/1",
    .usable = cpu_usable,
    .matmul = cpu_matmul,
    .rmsnorm = cpu_rmsnorm,
    .rope = cpu_rope,
    .kv_store = cpu_kv_store,
    .attention = cpu_attention,
    .silu_mul = cpu_silu_mul,
    .add = cpu_add,
    .softmax_stats = cpu_softmax_stats,
    .exp = cpu_exp,
};
