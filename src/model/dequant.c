/*
 * dequant.c - stored weights as float32, one row of blocks at a time.
 *
 * The table of tensor types is here, and nothing else knows how a block looks inside.  Results
 * equal the reference dequantisers of the GGUF format bit for bit.  Nothing here can round to a
 * subnormal (scales are binary16, whose smallest step is 2^-24), so flush-to-zero changes nothing;
 * F32 and BF16 are copied as bits.
 */
#include <assert.h>

#include "model/source.h"

static uint16_t load_u16(const uint8_t *data)
{
    uint16_t bits;

    memcpy(&bits, data, sizeof bits);
    return bits;
}

static void dequantize_f32(const uint8_t *data, int64_t n_blocks, float *out)
{
    memcpy(out, data, (size_t)n_blocks * sizeof *out);
}

static void dequantize_f16(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t i = 0; i < n_blocks; i++)
        out[i] = f32_from_f16(load_u16(data + 2 * i));
}

static void dequantize_bf16(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t i = 0; i < n_blocks; i++) {
        const uint32_t bits = (uint32_t)load_u16(data + 2 * i) << 16;

        memcpy(out + i, &bits, sizeof bits); /* as bits: a signalling NaN stays one */
    }
}

/* The 4-bit types hold elements 0 .. 15 in the low halves of their 16 bytes, 16 .. 31 in the high
 * halves. */
enum { BLOCK = 32, HALF = BLOCK / 2 };

/* scale (binary16), 16 bytes: (q - 8) * scale */
static void dequantize_q4_0(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 2 + HALF, out += BLOCK) {
        const float scale = f32_from_f16(load_u16(data));

        for (int i = 0; i < HALF; i++) {
            out[i] = scale * (float)((data[2 + i] & 15) - 8);
            out[i + HALF] = scale * (float)((data[2 + i] >> 4) - 8);
        }
    }
}

/* scale, minimum (binary16 each), 16 bytes: q * scale + minimum */
static void dequantize_q4_1(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 4 + HALF, out += BLOCK) {
        const float scale = f32_from_f16(load_u16(data));
        const float minimum = f32_from_f16(load_u16(data + 2));

        for (int i = 0; i < HALF; i++) {
            out[i] = scale * (float)(data[4 + i] & 15) + minimum;
            out[i + HALF] = scale * (float)(data[4 + i] >> 4) + minimum;
        }
    }
}

/* scale (binary16), 32 signed bytes: q * scale */
static void dequantize_q8_0(const uint8_t *data, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 2 + BLOCK, out += BLOCK) {
        const float scale = f32_from_f16(load_u16(data));

        for (int i = 0; i < BLOCK; i++)
            out[i] = scale * (float)(int8_t)data[2 + i];
    }
}

static const struct tensor_type_info types[TENSOR_TYPE_COUNT] = {
    [TENSOR_F32] = {"F32", 1, 4, dequantize_f32},
    [TENSOR_F16] = {"F16", 1, 2, dequantize_f16},
    [TENSOR_BF16] = {"BF16", 1, 2, dequantize_bf16},
    [TENSOR_Q4_0] = {"Q4_0", BLOCK, 2 + HALF, dequantize_q4_0},
    [TENSOR_Q4_1] = {"Q4_1", BLOCK, 4 + HALF, dequantize_q4_1},
    [TENSOR_Q8_0] = {"Q8_0", BLOCK, 2 + BLOCK, dequantize_q8_0},
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

void model_source_row(const struct model_source *source, enum weight_id id, int layer, int64_t row,
                      float *out)
{
    const struct tensor_view *view = model_source_tensor(source, id, layer);

    assert(view != NULL && row >= 0 && row < view->n_rows);
    if (source->permuted && (id == WEIGHT_Q || id == WEIGHT_K))
        row = permuted_row(row, source->config.E);
    const struct tensor_type_info *info = tensor_type_info(view->type);
    info->dequantize(view->data + (size_t)row * view->row_bytes, view->n_cols / info->block_elems,
                     out);
    if (source->permuted && (id == WEIGHT_Q_BIAS || id == WEIGHT_K_BIAS))
        unpermute(out, view->n_cols, source->config.E);
    for (int64_t i = 0; source->norms_less_one && weight_is_norm(id) && i < view->n_cols; i++)
        out[i] += 1.0f;
}
