/* TEST */
/*
 * unit_fp8_families.c - weights of 8-bit floats in every form in which families hold weights: fused
 * projections, stacked experts, experts one by one, norms less 1.  Each checkpoint is made twice,
 * with 8-bit floats and scales, and with their products as float32: both give the same logits, bit
 * for bit, packed and stored.
 */
#include "checkpoint.h"
#include "model/source.h"

#define GOLDEN "tests/golden/families/"

/* How scales are spread. */
enum spread { BLOCKS, ROWS, WHOLE, SPREAD_COUNT };
enum { BLOCK_ROWS = 10, BLOCK_COLS = 7 }; /* so that blocks end inside heads and inside gate */

static const char *const configs[SPREAD_COUNT] = {
    [BLOCKS] = "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [10, "
               "7]},",
    [ROWS] = "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": "
             "\"float-quantized\", \"config_groups\": {\"group_0\": {\"weights\": {\"num_bits\": "
             "8, \"type\": \"float\", \"strategy\": \"channel\", \"symmetric\": true}}}},",
    [WHOLE] = "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": "
              "\"float-quantized\", \"config_groups\": {\"group_0\": {\"weights\": {\"num_bits\": "
              "8, \"type\": \"float\", \"strategy\": \"tensor\", \"symmetric\": true}}}},",
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Sign, 4 bits of exponent with bias 7, 3 of mantissa. */
static float f8_value(uint8_t byte)
{
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const double value = exponent > 0 ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);

    return (float)((byte & 0x80) != 0 ? -value : value);
}

/* A safetensors file that grows. */
struct writer {
    json_t *header;
    struct buf data;
};

static void put_tensor(struct writer *w, const char *name, const char *dtype, json_t *shape,
                       const void *data, size_t n_bytes)
{
    const json_int_t at = (json_int_t)w->data.n_bytes;
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape,
                              "data_offsets", at, at + (json_int_t)n_bytes);

    RIG_OK(entry != NULL && json_object_set_new(w->header, name, entry) == 0 ? ST_OK : ST_NOMEM);
    RIG_OK(buf_put(&w->data, data, n_bytes));
}

/* The file as what is in cp instead of its own. */
static void finish(struct writer *w, struct checkpoint *cp)
{
    char *text = json_dumps(w->header, JSON_COMPACT);
    const uint64_t n_text = strlen(text);

    buf_reset(&cp->file);
    RIG_OK(buf_put(&cp->file, &n_text, sizeof n_text));
    RIG_OK(buf_put(&cp->file, text, n_text));
    RIG_OK(buf_put(&cp->file, w->data.data, w->data.n_bytes));
    free(text);
    json_decref(w->header);
    buf_free(&w->data);
}

static size_t ceil_div(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

/* One tensor, [n_stacked, n_rows, n_cols], of random 8-bit floats with random scales, and their
 * products. */
static void put_quantised(struct writer *f8, struct writer *f32, const char *name,
                          const json_t *shape, enum spread spread, uint32_t *state)
{
    const size_t n_dims = json_array_size(shape), lead = n_dims - 2;
    const size_t n_stacked = lead > 0 ? (size_t)json_integer_value(json_array_get(shape, 0)) : 1;
    const size_t n_rows = (size_t)json_integer_value(json_array_get(shape, lead));
    const size_t n_cols = (size_t)json_integer_value(json_array_get(shape, lead + 1));
    const size_t by_rows = spread == BLOCKS ? BLOCK_ROWS : spread == ROWS ? 1 : n_rows;
    const size_t by_cols = spread == BLOCKS ? BLOCK_COLS : n_cols;
    const size_t down = ceil_div(n_rows, by_rows), across = ceil_div(n_cols, by_cols);
    struct buf bytes = {0}, values = {0}, scales = {0};
    char scales_name[160];

    for (size_t i = 0; i < n_stacked * down * across; i++) {
        const float scale = (1.0f + (float)(next_random(state) % 997) / 499.0f) * 0x1p-8f;

        RIG_OK(buf_put(&scales, &scale, sizeof scale));
    }
    for (size_t i = 0; i < n_stacked * n_rows * n_cols; i++) {
        const size_t row = i / n_cols % n_rows, col = i % n_cols, x = i / n_cols / n_rows;
        const uint32_t random = next_random(state);
        const uint8_t byte = (uint8_t)((random & 0x80) | random % 0x78); /* below 256 */
        float scale;

        memcpy(&scale,
               scales.data + ((x * down + row / by_rows) * across + col / by_cols) * sizeof scale,
               sizeof scale);
        const float value = f8_value(byte) * scale;
        RIG_OK(buf_put(&bytes, &byte, 1));
        RIG_OK(buf_put(&values, &value, sizeof value));
    }
    json_t *of_scales = lead > 0 ? json_pack("[i]", (int)n_stacked) : json_array();
    json_array_append_new(of_scales, json_integer((json_int_t)down));
    if (spread != WHOLE || lead > 0) /* one for a whole tensor is [1] */
        json_array_append_new(of_scales, json_integer((json_int_t)across));
    snprintf(scales_name, sizeof scales_name, "%s%s", name,
             spread == BLOCKS ? "_scale_inv" : "_scale");
    put_tensor(f8, name, "F8_E4M3", json_deep_copy(shape), bytes.data, bytes.n_bytes);
    put_tensor(f8, scales_name, "F32", of_scales, scales.data, scales.n_bytes);
    put_tensor(f32, name, "F32", json_deep_copy(shape), values.data, values.n_bytes);
    buf_free(&bytes);
    buf_free(&values);
    buf_free(&scales);
}

/* All matrices of layers but the router, as such checkpoints have it. */
static bool is_quantised(const char *name, size_t n_dims)
{
    return n_dims >= 2 && strncmp(name, "model.layers.", 13) == 0 &&
           strstr(name, ".gate.weight") == NULL;
}

static int make_both(const char *dir, enum spread spread, struct checkpoint *f8,
                     struct checkpoint *f32)
{
    struct writer to_f8 = {json_object(), {0}}, to_f32 = {json_object(), {0}};
    struct checkpoint cp = checkpoint_read(dir);
    uint32_t state = 7 + (uint32_t)spread;
    const char *name;
    json_t *entry;
    int n_quantised = 0;

    *f8 = checkpoint_read(dir);
    *f32 = checkpoint_read(dir);
    json_object_foreach(cp.header, name, entry)
    {
        const json_t *shape = json_object_get(entry, "shape");
        const json_t *places = json_object_get(entry, "data_offsets");
        const json_int_t begin = json_integer_value(json_array_get(places, 0));
        const size_t n = (size_t)(json_integer_value(json_array_get(places, 1)) - begin);
        const char *dtype = json_string_value(json_object_get(entry, "dtype"));

        if (dtype == NULL)
            continue; /* __metadata__ */
        if (is_quantised(name, json_array_size(shape))) {
            put_quantised(&to_f8, &to_f32, name, shape, spread, &state);
            n_quantised++;
            continue;
        }
        put_tensor(&to_f8, name, dtype, json_deep_copy(shape), cp.data + begin, n);
        put_tensor(&to_f32, name, dtype, json_deep_copy(shape), cp.data + begin, n);
    }
    finish(&to_f8, f8);
    finish(&to_f32, f32);
    struct buf config = {0};
    RIG_OK(buf_puts(&config, configs[spread]));
    RIG_OK(buf_put(&config, f8->config.data + 1, f8->config.n_bytes - 1)); /* behind its { */
    buf_free(&f8->config);
    f8->config = config;
    checkpoint_end(&cp);
    return n_quantised;
}

enum { T = 20 };

static float *logits_of(const char *path, enum ops_type type, bool stored)
{
    static int32_t tokens[T];
    struct rig rig;

    rig_begin(&rig, (struct rig_args){.path = path, .type = type, .stored = stored});
    float *logits = host_alloc((size_t)T * (size_t)rig.config.V * sizeof *logits);
    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    for (int t = 0; t < T; t++)
        tokens[t] = (3 + 7 * t) % rig.config.V;
    rig_logits(&rig, tokens, T, 6, logits);
    rig_end(&rig);
    return logits;
}

static void same_bits(const char *got_path, const char *right_path, size_t V)
{
    for (int type = 0; type < OPS_TYPE_COUNT; type++) {
        float *right = logits_of(right_path, (enum ops_type)type, false);
        size_t n_usual = 0;

        for (size_t i = 0; i < (size_t)T * V; i++)
            n_usual += isfinite(right[i]) && right[i] != 0;
        CHECK_INT(n_usual, (size_t)T * V);
        for (int stored = 0; stored < 2; stored++) {
            float *got = logits_of(got_path, (enum ops_type)type, stored != 0);

            CHECK(memcmp(got, right, (size_t)T * V * sizeof *got) == 0);
            host_free(got);
        }
        host_free(right);
    }
}

/* Scales of stacked experts that belong to another number of them. */
static void wrong_stack(void)
{
    static const char right[] = "\"shape\":[5,2,5]", wrong[] = "\"shape\":[2,5,5]";
    struct model_source *source = NULL;
    struct checkpoint f8, f32;

    make_both(GOLDEN "olmoe", BLOCKS, &f8, &f32);
    uint8_t *at = memmem(f8.file.data, f8.file.n_bytes, right, strlen(right));
    CHECK(at != NULL);
    if (at != NULL)
        memcpy(at, wrong, strlen(wrong));
    CHECK_INT(model_open(checkpoint_write(&f8), &source), ST_FORMAT);
    CHECK_HAS(log_last_error(), "mlp.experts.gate_up_proj_scale_inv (F32, 3 dimensions");
    CHECK_HAS(log_last_error(), "cannot be the scales of model.layers.0.mlp.experts.gate_up_proj "
                                "of [16, 32]");
    checkpoint_end(&f8);
    checkpoint_end(&f32);
}

int main(void)
{
    static const struct {
        const char *dir;
        int n_quantised; /* matrices of both layers, or all six */
    } cases[] = {
        {GOLDEN "phi3", 2 * 4},            /* q, k, v and gate, up are one tensor each */
        {GOLDEN "olmoe", 2 * 6},           /* experts are stacked, gate and up one tensor */
        {GOLDEN "qwen3moe", 2 * (4 + 15)}, /* experts one by one */
        {GOLDEN "mixtral", 2 * (4 + 12)},  /* and called otherwise */
        {GOLDEN "gemma3", 6 * 7},          /* norms less 1, head tied */
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int spread = 0; spread < SPREAD_COUNT; spread++) {
            struct checkpoint f8, f32;

            CHECK_INT(make_both(cases[i].dir, (enum spread)spread, &f8, &f32),
                      cases[i].n_quantised);
            fprintf(stderr, "%s, spread %d\n", cases[i].dir, spread);
            same_bits(checkpoint_write(&f8), checkpoint_write(&f32), 48);
            checkpoint_end(&f8);
            checkpoint_end(&f32);
        }
    }
    wrong_stack();
    TEST_END();
}
