/*
 * cpu_avx512.c - the operations with AVX-512 (F, BW, DQ, VL).
 *
 * The bodies are shared with the other variants; lanes_avx512.h says how 16 lanes are
 * computed here, tile_simd.h how a matmul tile is.  Reached through ops_find only.
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

static bool cpu_usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const struct ops ops_cpu_avx512 = {
    .name = "avx512",
    .numerics = "bf16chain/1",
    .usable = cpu_usable,
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
