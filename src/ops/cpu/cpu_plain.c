/*
 * cpu_plain.c - the operations in plain C: the documentation of the numerics, and slow.
 *
 * The bodies are shared with the other variants; lanes_plain.h and tile_plain.h say how 16 lanes
 * and one matmul tile are computed here.  Reached through ops_find only.
 */
#include <assert.h>

#include "ops/cpu/lanes_plain.h"
#include "ops/cpu/tile_plain.h"

#include "ops/cpu/exp_body.h"
#include "ops/cpu/rows_body.h"
#include "ops/cpu/vision_body.h"
#include "ops/cpu/softmax_body.h"
#include "ops/cpu/experts_body.h"
#include "ops/cpu/matmul_body.h"
#include "ops/cpu/attention_body.h"

static bool cpu_usable(void)
{
    return true;
}

const struct ops ops_cpu_plain = {
    .name = "plain",
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
