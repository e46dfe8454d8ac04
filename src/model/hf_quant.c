/*
 * hf_quant.c - checkpoints with weights of 8-bit floats: what quantization_config in config.json
 * says about them, and the scales that stand beside each weight.
 *
 *   quant_method "fp8"                 NAME.weight_scale_inv, one for each block of 128 x 128
 *   quant_method "compressed-tensors"  NAME.weight_scale, one for each row, block or tensor
 *
 * Rows of fused projections have their part of the tensor's scales; those of stacked experts have
 * one more dimension.  A weight is its 8-bit value times its scale, in float32.  Inputs are not
 * quantised, whatever the configuration says about activations: they keep the precision that the
 * job asks for.  Everything else is refused by name.  Called by hf_config.c, hf_dir.c and bind.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "model/source.h"

enum { MAX_BLOCK = 1 << 16 };

/* ---- the configuration ---------------------------------------------------------------------- */

static enum status unsupported(const char *origin, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    log_error("%s: key quantization_config.%s = %.80s is not supported in this version, which has "
              "weights of 8-bit floats (quant_method fp8, or compressed-tensors with "
              "float-quantized): get the model in bf16 or as a GGUF file",
              origin, key,
              value == NULL  ? "(absent)"
              : text != NULL ? text
                             : "?");
    free(text); /* jansson allocates with malloc */
    return ST_UNSUPPORTED;
}

static bool is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

/* Absent or null counts as what it usually is. */
static bool is_text_or_absent(const json_t *value, const char *text)
{
    return value == NULL || json_is_null(value) || is_text(value, text);
}

/* [rows, columns] of a block; null: none. */
static bool read_block(const json_t *value, struct hf_quant *out)
{
    const json_int_t rows = json_integer_value(json_array_get(value, 0));
    const json_int_t cols = json_integer_value(json_array_get(value, 1));

    if (value == NULL || json_is_null(value))
        return true;
    if (json_array_size(value) != 2 || rows < 1 || rows > MAX_BLOCK || cols < 1 || cols > MAX_BLOCK)
        return false;
    out->block_rows = (int)rows;
    out->block_cols = (int)cols;
    return true;
}

/* DeepSeek's kind, which transformers calls FineGrainedFP8. */
static enum status parse_fp8(const json_t *config, const char *origin, struct hf_quant *out)
{
    static const char *const harmless[] = {"quant_method", "modules_to_not_convert", "dequantize"};
    const char *key;
    json_t *value;

    *out = (struct hf_quant){.suffix = "_scale_inv"};
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        bool ok = false;

        for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
            ok = ok || strcmp(key, harmless[i]) == 0;
        if (strcmp(key, "fmt") == 0)
            ok = is_text_or_absent(value, "e4m3");
        else if (strcmp(key, "activation_scheme") == 0)
            ok = is_text_or_absent(value, "dynamic");
        else if (strcmp(key, "weight_block_size") == 0)
            ok = read_block(value, out);
        if (!ok)
            return unsupported(origin, key, value);
    }
    return ST_OK;
}

/* Each group's weights must be plain 8-bit floats; how scales are spread shows by their shapes. */
static enum status parse_group(const json_t *group, const char *origin, struct hf_quant *out)
{
    const json_t *weights = json_object_get(group, "weights");
    const json_t *bits = json_object_get(weights, "num_bits");
    const json_t *symmetric = json_object_get(weights, "symmetric");
    const json_t *group_size = json_object_get(weights, "group_size");

    if (!json_is_object(weights) || !is_text(json_object_get(weights, "type"), "float") ||
        !json_is_integer(bits) || json_integer_value(bits) != 8 || json_is_false(symmetric) ||
        (group_size != NULL && !json_is_null(group_size)) ||
        !read_block(json_object_get(weights, "block_structure"), out))
        return unsupported(origin, "config_groups", weights);
    return ST_OK;
}

static enum status parse_compressed(const json_t *config, const char *origin, struct hf_quant *out)
{
    const json_t *groups = json_object_get(config, "config_groups");
    const json_t *kv = json_object_get(config, "kv_cache_scheme");
    const char *name;
    json_t *group;

    *out = (struct hf_quant){.suffix = "_scale"};
    if (!is_text(json_object_get(config, "format"), "float-quantized"))
        return unsupported(origin, "format", json_object_get(config, "format"));
    if (kv != NULL && !json_is_null(kv))
        return unsupported(origin, "kv_cache_scheme", kv);
    if (!json_is_object(groups))
        return unsupported(origin, "config_groups", groups);
    json_object_foreach((json_t *)(uintptr_t)groups, name, group)
    {
        const enum status st = parse_group(group, origin, out);

        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status hf_quant_parse(const json_t *config, const char *origin, struct hf_quant *out)
{
    const json_t *method = json_object_get(config, "quant_method");

    *out = (struct hf_quant){0};
    if (config == NULL || json_is_null(config) ||
        (json_is_object(config) && json_object_size(config) == 0))
        return ST_OK;
    if (is_text(method, "fp8"))
        return parse_fp8(config, origin, out);
    if (is_text(method, "compressed-tensors"))
        return parse_compressed(config, origin, out);
    return unsupported(origin, "quant_method", method);
}

/* ---- scales --------------------------------------------------------------------------------- */

static int64_t ceil_div(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

/* How many elements of a matrix share a scale, from the shape of the scales. */
static bool read_shape(const struct hf_quant *quant, const struct source_tensor *scales,
                       const struct source_tensor *matrix, struct tensor_scales *out)
{
    const int lead = matrix->n_dims - 2; /* 1 where experts are stacked: each has scales */
    const int64_t n_rows = matrix->dims[lead], n_cols = matrix->dims[lead + 1];
    const int64_t rows = scales->n_dims > lead ? scales->dims[lead] : 1;
    const int64_t cols = scales->n_dims > lead + 1 ? scales->dims[lead + 1] : 1;

    if (scales->n_dims > lead + 2 || (lead > 0 && scales->dims[0] != matrix->dims[0]))
        return false;
    out->block_rows = n_rows;
    out->block_cols = n_cols;
    out->n_across = 1;
    if (quant->block_rows > 0) {
        out->block_rows = quant->block_rows;
        out->block_cols = quant->block_cols;
        out->n_across = ceil_div(n_cols, quant->block_cols);
        return scales->n_dims == lead + 2 && rows == ceil_div(n_rows, quant->block_rows) &&
               cols == out->n_across;
    }
    if (rows == n_rows)
        out->block_rows = 1;
    return cols == 1 && (rows == 1 || rows == n_rows);
}

enum status source_bind_scales(struct model_source *source, const struct tensor_list *list,
                               const struct source_tensor *tensor, struct tensor_view *view)
{
    const struct hf_quant *quant = &source->quant;
    char name[TENSOR_MAX_NAME + 16];

    if (tensor->type != TENSOR_F8_E4M3 || quant->suffix == NULL)
        return ST_OK;
    if (tensor->n_dims != 2 && tensor->n_dims != 3) {
        log_error("%s: tensor %s of 8-bit floats has %d dimensions; this version has scales for "
                  "matrices and stacks of them",
                  tensor->origin, tensor->name, tensor->n_dims);
        return ST_UNSUPPORTED;
    }
    snprintf(name, sizeof name, "%s%s", tensor->name, quant->suffix);
    struct source_tensor *t = tensor_list_find(list, name);
    if (t == NULL) {
        log_error(
            "%s: tensor %s is of 8-bit floats, but its scales, %s, are missing; get the model "
            "again, whole",
            tensor->origin, tensor->name, name);
        return ST_FORMAT;
    }
    struct tensor_scales *scales = arena_alloc(source->arena, sizeof *scales);
    if (scales == NULL)
        return ST_NOMEM;
    *scales = (struct tensor_scales){.type = t->type};
    if (!read_shape(quant, t, tensor, scales) ||
        (t->type != TENSOR_F32 && t->type != TENSOR_BF16 && t->type != TENSOR_F16)) {
        log_error(
            "%s: tensor %s (%s, %d dimensions, the last of %lld) cannot be the scales of %s of "
            "[%lld, %lld] as quantization_config describes them; get both from one place",
            t->origin, t->name, tensor_type_name(t->type), t->n_dims,
            (long long)(t->n_dims > 0 ? t->dims[t->n_dims - 1] : 1), tensor->name,
            (long long)tensor->dims[tensor->n_dims - 2],
            (long long)tensor->dims[tensor->n_dims - 1]);
        return ST_FORMAT;
    }
    const int64_t n_stacked = tensor->n_dims == 3 ? tensor->dims[0] : 1;
    const int64_t n_rows = view->tensor_rows / n_stacked; /* of the matrix that view is in */
    scales->n_bytes = t->n_bytes / (size_t)n_stacked;
    scales->data = t->data + (size_t)(view->first_row / n_rows) * scales->n_bytes;
    scales->first_row = view->first_row % n_rows;
    t->bound = true;
    view->scales = scales;
    return ST_OK;
}

void tensor_apply_scales(const struct tensor_scales *scales, int64_t row, int64_t first, int64_t n,
                         float *out)
{
    const struct tensor_type_info *info = tensor_type_info(scales->type);
    const uint8_t *of_row =
        scales->data + (size_t)((scales->first_row + row) / scales->block_rows * scales->n_across) *
                           (size_t)info->block_bytes;
    int64_t end;

    for (int64_t i = 0; i < n; i = end) {
        const int64_t block = (first + i) / scales->block_cols;
        float scale;

        end = (block + 1) * scales->block_cols - first;
        if (end > n)
            end = n;
        info->dequantize(of_row + (size_t)block * (size_t)info->block_bytes, 1, &scale);
        for (int64_t j = i; j < end; j++)
            out[j] *= scale;
    }
}
