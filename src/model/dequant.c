/*
 * dequant.c - stored weights as float32, one row of blocks at a time.
 *
 * The table of tensor types is here; how a block looks inside is in dequant_blocks.c.  Results
 * equal the reference dequantisers of the GGUF format bit for bit.  Nothing here can round to a
 * subnormal (scales are binary16, whose smallest step is 2^-24), so flush-to-zero changes nothing;
 * F32 and BF16 are copied as bits.
 */
#include <assert.h>

#include "model/dequant.h"

static void dequantize_f32(const uint8_t *data, int64_t n_blocks, float *out)
{
    memcpy(out, data, (size_t)n_blocks * sizeof *out);
}

static void dequantize_f16(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t i = 0; i < n_blocks; i++)
        out[i] = f32_from_f16(dequant_u16(data + 2 * i));
}

static void dequantize_bf16(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t i = 0; i < n_blocks; i++) {
        const uint32_t bits = (uint32_t)dequant_u16(data + 2 * i) << 16;

        memcpy(out + i, &bits, sizeof bits); /* as bits: a signalling NaN stays one */
    }
}

/* Sign, 4 bits of exponent with bias 7, 3 bits of mantissa; no infinities, all ones are NaN. */
static void dequantize_f8_e4m3(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t i = 0; i < n_blocks; i++) {
        const int exponent = data[i] >> 3 & 15, mantissa = data[i] & 7;
        const uint32_t sign = (uint32_t)(data[i] >> 7) << 31;
        const float small = (float)mantissa * 0x1p-9f; /* exact, far above float32's subnormals */
        uint32_t bits = (uint32_t)(exponent + 120) << 23 | (uint32_t)mantissa << 20;

        if (exponent == 0)
            bits = bits_from_f32(small);
        else if (exponent == 15 && mantissa == 7)
            bits = 0x7fc00000u;
        out[i] = f32_from_bits(bits | sign);
    }
}

static const struct tensor_type_info types[TENSOR_TYPE_COUNT] = {
    [TENSOR_F32] = {"F32", 1, 4, dequantize_f32},
    [TENSOR_F16] = {"F16", 1, 2, dequantize_f16},
    [TENSOR_BF16] = {"BF16", 1, 2, dequantize_bf16},
    [TENSOR_F8_E4M3] = {"F8_E4M3", 1, 1, dequantize_f8_e4m3},
    [TENSOR_Q4_0] = {"Q4_0", DEQUANT_BLOCK, 18, dequantize_q4_0},
    [TENSOR_Q4_1] = {"Q4_1", DEQUANT_BLOCK, 20, dequantize_q4_1},
    [TENSOR_Q5_0] = {"Q5_0", DEQUANT_BLOCK, 22, dequantize_q5_0},
    [TENSOR_Q5_1] = {"Q5_1", DEQUANT_BLOCK, 24, dequantize_q5_1},
    [TENSOR_Q8_0] = {"Q8_0", DEQUANT_BLOCK, 34, dequantize_q8_0},
    [TENSOR_Q2_K] = {"Q2_K", DEQUANT_SUPER, 84, dequantize_q2_k},
    [TENSOR_Q3_K] = {"Q3_K", DEQUANT_SUPER, 110, dequantize_q3_k},
    [TENSOR_Q4_K] = {"Q4_K", DEQUANT_SUPER, 144, dequantize_q4_k},
    [TENSOR_Q5_K] = {"Q5_K", DEQUANT_SUPER, 176, dequantize_q5_k},
    [TENSOR_Q6_K] = {"Q6_K", DEQUANT_SUPER, 210, dequantize_q6_k},
};

const struct tensor_type_info *tensor_type_info(enum tensor_type type)
{
    assert((unsigned)type < TENSOR_TYPE_COUNT);
    return &types[type];
}

const char *tensor_type_name(enum tensor_type type)
{
    return tensor_type_info(type)->name;
}

/* The stored row that holds row `row` of a q or k weight in HF order.  Within a head, HF rotates
 * rows (i, i + E/2) together; llama GGUFs store such a pair as neighbours (2i, 2i + 1). */
static int64_t permuted_row(int64_t row, int E)
{
    const int64_t head = row / E, e = row % E;

    return head * E + 2 * (e % (E / 2)) + e / (E / 2);
}

/* The n elements of a q or k bias from stored into HF order, head by head. */
static void unpermute(float *bias, int64_t n, int E)
{
    float stored[MODEL_MAX_E];

    for (float *head = bias; head < bias + n; head += E) {
        memcpy(stored, head, (size_t)E * sizeof *stored);
        for (int e = 0; e < E; e++)
            head[e] = stored[permuted_row(e, E)];
    }
}

void model_source_part(const struct model_source *source, enum weight_id id, int layer, int64_t row,
                       int64_t first, int64_t n, float *out)
{
    const struct tensor_view *view = model_source_tensor(source, id, layer);

    assert(view != NULL && row >= 0 && row < view->n_rows);
    if (source->permuted && (id == WEIGHT_Q || id == WEIGHT_K))
        row = permuted_row(row, source->config.E);
    const struct tensor_type_info *info = tensor_type_info(view->type);
    assert(first % info->block_elems == 0 && n % info->block_elems == 0);
    assert(first >= 0 && n >= 0 && n <= view->n_cols - first);
    info->dequantize(view->data + (size_t)row * view->row_bytes +
                         (size_t)(first / info->block_elems) * (size_t)info->block_bytes,
                     n / info->block_elems, out);
    if (view->scales != NULL)
        tensor_apply_scales(view->scales, row, first, n, out);
}

void model_source_row(const struct model_source *source, enum weight_id id, int layer, int64_t row,
                      float *out)
{
    const struct tensor_view *view = model_source_tensor(source, id, layer);

    assert(view != NULL);
    model_source_part(source, id, layer, row, 0, view->n_cols, out);
    if (source->permuted && (id == WEIGHT_Q_BIAS || id == WEIGHT_K_BIAS))
        unpermute(out, view->n_cols, source->config.E);
    for (int64_t i = 0; source->norms_less_one && weight_is_norm(id) && i < view->n_cols; i++)
        out[i] += 1.0f;
}
