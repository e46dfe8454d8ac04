/*
 * bind.c - from the tensors of a file, whatever its format, to the weights of a model.
 *
 * Every weight must be there once, in the right shape, and no tensor may be left over: one that is
 * not understood could change the arithmetic.  Called by the readers of each format.
 */
#include <stdio.h>
#include <stdlib.h>

#include "model/source.h"

const struct weight_naming weight_naming_gguf = {
    .layer_prefix = "blk.",
    .names =
        {
            [WEIGHT_EMBED] = "token_embd.weight",
            [WEIGHT_FINAL_NORM] = "output_norm.weight",
            [WEIGHT_HEAD] = "output.weight",
            [WEIGHT_ATTN_NORM] = "attn_norm.weight",
            [WEIGHT_Q] = "attn_q.weight",
            [WEIGHT_K] = "attn_k.weight",
            [WEIGHT_V] = "attn_v.weight",
            [WEIGHT_O] = "attn_output.weight",
            [WEIGHT_FFN_NORM] = "ffn_norm.weight",
            [WEIGHT_GATE] = "ffn_gate.weight",
            [WEIGHT_UP] = "ffn_up.weight",
            [WEIGHT_DOWN] = "ffn_down.weight",
            [WEIGHT_Q_BIAS] = "attn_q.bias",
            [WEIGHT_K_BIAS] = "attn_k.bias",
            [WEIGHT_V_BIAS] = "attn_v.bias",
            [WEIGHT_O_BIAS] = "attn_output.bias",
        },
    .layers_key = "llama.block_count",
    .bias_sign = "there are other biases",
};

const struct weight_naming weight_naming_hf = {
    .layer_prefix = "model.layers.",
    .names =
        {
            [WEIGHT_EMBED] = "model.embed_tokens.weight",
            [WEIGHT_FINAL_NORM] = "model.norm.weight",
            [WEIGHT_HEAD] = "lm_head.weight",
            [WEIGHT_ATTN_NORM] = "input_layernorm.weight",
            [WEIGHT_Q] = "self_attn.q_proj.weight",
            [WEIGHT_K] = "self_attn.k_proj.weight",
            [WEIGHT_V] = "self_attn.v_proj.weight",
            [WEIGHT_O] = "self_attn.o_proj.weight",
            [WEIGHT_FFN_NORM] = "post_attention_layernorm.weight",
            [WEIGHT_GATE] = "mlp.gate_proj.weight",
            [WEIGHT_UP] = "mlp.up_proj.weight",
            [WEIGHT_DOWN] = "mlp.down_proj.weight",
            [WEIGHT_Q_BIAS] = "self_attn.q_proj.bias",
            [WEIGHT_K_BIAS] = "self_attn.k_proj.bias",
            [WEIGHT_V_BIAS] = "self_attn.v_proj.bias",
            [WEIGHT_O_BIAS] = "self_attn.o_proj.bias",
        },
    .layers_key = "num_hidden_layers",
    .bias_sign = "attention_bias is true",
};

/* ---- lists ---------------------------------------------------------------------------------- */

enum status tensor_list_add(struct tensor_list *list, const struct source_tensor *tensor)
{
    if (list->n_tensors == list->cap_tensors) {
        const int64_t cap = list->cap_tensors > 0 ? 2 * list->cap_tensors : 64;
        struct source_tensor *moved =
            host_realloc(list->tensors, (size_t)cap * sizeof *list->tensors);

        if (moved == NULL)
            return ST_NOMEM;
        list->tensors = moved;
        list->cap_tensors = cap;
    }
    list->tensors[list->n_tensors++] = *tensor;
    return ST_OK;
}

void tensor_list_free(struct tensor_list *list)
{
    host_free(list->tensors);
    *list = (struct tensor_list){0};
}

bool tensor_name_ok(const char *name, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (name[i] < 0x20 || name[i] > 0x7e)
            return false;
    return n_bytes > 0 && n_bytes <= TENSOR_MAX_NAME;
}

/* "[49152, 576]" */
static const char *shape_text(const struct source_tensor *tensor, char out[96])
{
    int n = snprintf(out, 96, "[");

    for (int d = 0; d < tensor->n_dims; d++)
        n += snprintf(out + n, 96 - (size_t)n, "%s%lld", d > 0 ? ", " : "",
                      (long long)tensor->dims[d]);
    snprintf(out + n, 96 - (size_t)n, "]");
    return out;
}

enum status tensor_measure(struct source_tensor *tensor)
{
    const struct tensor_type_info *info = tensor_type_info(tensor->type);
    const int64_t n_cols = tensor->n_dims > 0 ? tensor->dims[tensor->n_dims - 1] : 1;
    int64_t n_bytes = n_cols / info->block_elems;
    bool overflow = __builtin_mul_overflow(n_bytes, (int64_t)info->block_bytes, &n_bytes);
    char shape[96];

    for (int d = 0; d < tensor->n_dims - 1; d++)
        overflow = __builtin_mul_overflow(n_bytes, tensor->dims[d], &n_bytes) || overflow;
    if (overflow || n_bytes < 0 || n_bytes > INT64_C(1) << 62) {
        log_error("%s: tensor %s has the absurd shape %s; the file is damaged, get it again",
                  tensor->origin, tensor->name, shape_text(tensor, shape));
        return ST_FORMAT;
    }
    if (n_cols % info->block_elems != 0) {
        log_error("%s: tensor %s of shape %s is %s, which comes in blocks of %d elements; the file "
                  "is damaged or was badly converted, get it again",
                  tensor->origin, tensor->name, shape_text(tensor, shape), info->name,
                  info->block_elems);
        return ST_FORMAT;
    }
    tensor->n_bytes = (size_t)n_bytes;
    return ST_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct source_tensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

enum status tensor_list_check_places(struct tensor_list *list, int64_t first, const uint8_t *base)
{
    const int64_t n = list->n_tensors - first;

    if (n == 0)
        return ST_OK;
    struct source_tensor *t = list->tensors + first;
    qsort(t, (size_t)n, sizeof *t, by_place);
    for (int64_t i = 1; i < n; i++) {
        if (t[i - 1].data + t[i - 1].n_bytes <= t[i].data)
            continue;
        log_error("%s: tensors %s (%zu bytes at %zu of the data) and %s (at %zu) overlap; the file "
                  "is damaged, get it again",
                  t[i].origin, t[i - 1].name, t[i - 1].n_bytes, (size_t)(t[i - 1].data - base),
                  t[i].name, (size_t)(t[i].data - base));
        return ST_FORMAT;
    }
    return ST_OK;
}

/* ---- binding -------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct source_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static enum status sort_by_name(struct tensor_list *list)
{
    const struct source_tensor *t = list->tensors;

    if (list->n_tensors > 0)
        qsort(list->tensors, (size_t)list->n_tensors, sizeof *list->tensors, by_name);
    for (int64_t i = 1; i < list->n_tensors; i++) {
        if (strcmp(t[i - 1].name, t[i].name) != 0)
            continue;
        if (strcmp(t[i - 1].origin, t[i].origin) == 0)
            log_error("%s: tensor %s is there twice; the file is damaged, get it again",
                      t[i].origin, t[i].name);
        else
            log_error("%s: tensor %s is also in %s; remove the file that does not belong here",
                      t[i].origin, t[i].name, t[i - 1].origin);
        return ST_FORMAT;
    }
    return ST_OK;
}

static void weight_name(const struct weight_naming *naming, enum weight_id id, int layer,
                        char out[TENSOR_MAX_NAME + 1])
{
    if (weight_of_layer(id))
        snprintf(out, TENSOR_MAX_NAME + 1, "%s%d.%s", naming->layer_prefix, layer,
                 naming->names[id]);
    else
        snprintf(out, TENSOR_MAX_NAME + 1, "%s", naming->names[id]);
}

static void weight_shape(const struct model_config *c, enum weight_id id, int64_t *n_rows,
                         int64_t *n_cols)
{
    const int shapes[WEIGHT_COUNT][2] = {
        [WEIGHT_EMBED] = {c->V, c->D},      [WEIGHT_FINAL_NORM] = {1, c->D},
        [WEIGHT_HEAD] = {c->V, c->D},       [WEIGHT_ATTN_NORM] = {1, c->D},
        [WEIGHT_Q] = {c->H * c->E, c->D},   [WEIGHT_K] = {c->K * c->E, c->D},
        [WEIGHT_V] = {c->K * c->E, c->D},   [WEIGHT_O] = {c->D, c->H * c->E},
        [WEIGHT_FFN_NORM] = {1, c->D},      [WEIGHT_GATE] = {c->F, c->D},
        [WEIGHT_UP] = {c->F, c->D},         [WEIGHT_DOWN] = {c->D, c->F},
        [WEIGHT_Q_BIAS] = {1, c->H * c->E}, [WEIGHT_K_BIAS] = {1, c->K * c->E},
        [WEIGHT_V_BIAS] = {1, c->K * c->E}, [WEIGHT_O_BIAS] = {1, c->D},
    };

    *n_rows = shapes[id][0];
    *n_cols = shapes[id][1];
}

static bool is_vector(enum weight_id id)
{
    return id == WEIGHT_FINAL_NORM || id == WEIGHT_ATTN_NORM || id == WEIGHT_FFN_NORM ||
           weight_is_bias(id);
}

struct source_tensor *tensor_list_find(const struct tensor_list *list, const char *name)
{
    const struct source_tensor key = {.name = name};

    if (list->n_tensors == 0)
        return NULL;
    return bsearch(&key, list->tensors, (size_t)list->n_tensors, sizeof key, by_name);
}

static enum status check_shape(const struct source_tensor *t, enum weight_id id, int64_t n_rows,
                               int64_t n_cols)
{
    const int n_dims = is_vector(id) ? 1 : 2;
    char shape[96], wanted[48];

    if (t->n_dims == n_dims && t->dims[n_dims - 1] == n_cols &&
        (n_dims == 1 || t->dims[0] == n_rows))
        return ST_OK;
    if (n_dims == 1)
        snprintf(wanted, sizeof wanted, "[%lld]", (long long)n_cols);
    else
        snprintf(wanted, sizeof wanted, "[%lld, %lld]", (long long)n_rows, (long long)n_cols);
    log_error(
        "%s: tensor %s is %s where the hyper-parameters ask for %s; weights and configuration "
        "do not belong together, get both from one place",
        t->origin, t->name, shape_text(t, shape), wanted);
    return ST_FORMAT;
}

/* Find weight (id, layer) and fill *view; one that is not there leaves it absent. */
static enum status bind_one(struct model_source *source, const struct weight_naming *naming,
                            struct tensor_list *list, enum weight_id id, int layer,
                            struct tensor_view *view)
{
    char name[TENSOR_MAX_NAME + 1];
    int64_t n_rows, n_cols;
    enum status st;

    weight_name(naming, id, layer, name);
    struct source_tensor *t = tensor_list_find(list, name);
    if (t == NULL)
        return ST_OK;
    weight_shape(&source->config, id, &n_rows, &n_cols);
    st = check_shape(t, id, n_rows, n_cols);
    if (st != ST_OK)
        return st;
    t->bound = true;
    *view = (struct tensor_view){.name = t->name,
                                 .type = t->type,
                                 .n_rows = n_rows,
                                 .n_cols = n_cols,
                                 .data = t->data,
                                 .row_bytes = t->n_bytes / (size_t)n_rows};
    return source_bind_scales(source, list, t, 0, view);
}

static enum status missing(const struct model_source *source, const struct weight_naming *naming,
                           enum weight_id id, int layer)
{
    char name[TENSOR_MAX_NAME + 1];
    const char *why = id == WEIGHT_HEAD    ? "tie_word_embeddings is false"
                      : weight_is_bias(id) ? naming->bias_sign
                                           : NULL;

    weight_name(naming, id, layer, name);
    log_error("%s: tensor %s is missing (%s is %d%s%s); get the model again, whole", source->path,
              name, naming->layers_key, source->config.L, why != NULL ? ", " : "",
              why != NULL ? why : "");
    return ST_FORMAT;
}

/* A tied model may still hold its head, if it really is the embedding. */
static enum status check_tied(struct model_source *source, struct tensor_view *head)
{
    const struct tensor_view *embed = &source->views[WEIGHT_EMBED];

    if (head->data != NULL &&
        (head->type != embed->type ||
         memcmp(head->data, embed->data, (size_t)embed->n_rows * embed->row_bytes) != 0)) {
        log_error("%s: tie_word_embeddings is true, but tensor %s differs from %s; correct "
                  "config.json or remove the tensor",
                  source->path, head->name, embed->name);
        return ST_FORMAT;
    }
    head->data = NULL;
    return ST_OK;
}

/* What an unknown tensor probably is; for messages. */
static const char *what_it_is(const struct model_config *c, const char *name)
{
    static const char *const parts[][2] = {
        {"rope_freqs", " (frequencies of a scaled RoPE)"},
        {"rope_factors", " (frequencies of a scaled RoPE)"},
        {"bias", " (a bias)"},
        {"q_norm", " (QK-norm)"},
        {"k_norm", " (QK-norm)"},
        {"exps", " (mixture of experts)"},
        {"expert", " (mixture of experts)"},
        {"lora", " (an adapter)"},
        {"scale", " (scales of quantised weights)"},
    };

    if (!c->attention_bias && strstr(name, "self_attn.") != NULL && strstr(name, "bias") != NULL)
        return " (a bias, while attention_bias is not true)";
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(name, parts[i][0]) != NULL)
            return parts[i][1];
    return "";
}

/* Old checkpoints carry this buffer; it follows from the configuration and is not read. */
static bool is_harmless(const char *name)
{
    static const char tail[] = ".self_attn.rotary_emb.inv_freq";
    const size_t n = strlen(name);

    return n > sizeof tail && strcmp(name + n - (sizeof tail - 1), tail) == 0;
}

static enum status check_leftover(const struct model_source *source,
                                  const struct weight_naming *naming,
                                  const struct tensor_list *list)
{
    for (int64_t i = 0; i < list->n_tensors; i++) {
        const struct source_tensor *t = &list->tensors[i];

        if (t->bound || is_harmless(t->name))
            continue;
        log_error("%s: tensor %s%s is not part of a %s model of %d layers (%s) as this version "
                  "knows it; such models are not supported",
                  t->origin, t->name, what_it_is(&source->config, t->name), source->config.family,
                  source->config.L, naming->layers_key);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* Whether a model of this configuration has the weight at all. */
static bool is_wanted(const struct model_config *c, enum weight_id id)
{
    return !weight_is_bias(id) || c->attention_bias;
}

enum status source_bind(struct model_source *source, const struct weight_naming *naming,
                        struct tensor_list *list)
{
    const int L = source->config.L;
    enum status st;

    TRY(sort_by_name(list), err);
    source->views = host_zalloc(model_n_views(&source->config) * sizeof *source->views);
    if (source->views == NULL)
        return ST_NOMEM;

    struct tensor_view *view = source->views;
    for (int id = 0; id < WEIGHT_ATTN_NORM; id++, view++) {
        TRY(bind_one(source, naming, list, (enum weight_id)id, 0, view), err);
        if (view->data == NULL && !(id == WEIGHT_HEAD && source->config.tied))
            return missing(source, naming, (enum weight_id)id, 0);
    }
    for (int layer = 0; layer < L; layer++) {
        for (int id = WEIGHT_ATTN_NORM; id < WEIGHT_COUNT; id++, view++) {
            if (!is_wanted(&source->config, (enum weight_id)id))
                continue; /* one that is there all the same is left over */
            TRY(bind_one(source, naming, list, (enum weight_id)id, layer, view), err);
            if (view->data == NULL)
                return missing(source, naming, (enum weight_id)id, layer);
        }
    }
    if (source->config.tied)
        TRY(check_tied(source, &source->views[WEIGHT_HEAD]), err);
    TRY(check_leftover(source, naming, list), err);
err:
    return st;
}
