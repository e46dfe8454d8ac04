/*
 * bind.c - from the tensors of a file, whatever its format, to the weights of a model.
 *
 * Every weight must be there once, in the right shape, and no tensor may be left over: one that is
 * not understood could change the arithmetic.  Called by the readers of each format.
 */
#include <stdio.h>
#include <stdlib.h>

#include "model/tower.h"

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
static const char *shape_text(const struct source_tensor *tensor, char out[128])
{
    int n = snprintf(out, 128, "[");

    for (int d = 0; d < tensor->n_dims; d++)
        n += snprintf(out + n, 128 - (size_t)n, "%s%lld", d > 0 ? ", " : "",
                      (long long)tensor->dims[d]);
    snprintf(out + n, 128 - (size_t)n, "]");
    return out;
}

enum status tensor_measure(struct source_tensor *tensor)
{
    const struct tensor_type_info *info = tensor_type_info(tensor->type);
    const int64_t n_cols = tensor->n_dims > 0 ? tensor->dims[tensor->n_dims - 1] : 1;
    int64_t n_bytes = n_cols / info->block_elems;
    bool overflow = __builtin_mul_overflow(n_bytes, (int64_t)info->block_bytes, &n_bytes);
    char shape[128];

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
                      t[i].origin, source_tensor_name(&t[i]));
        else
            log_error("%s: tensor %s is also in %s; remove the file that does not belong here",
                      t[i].origin, source_tensor_name(&t[i]), t[i - 1].origin);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* What a weight is called there; index as in model_source_tensor. */
static void weight_name(const struct model_source *source, const struct weight_naming *naming,
                        const struct weight_spelling *spelling, int index,
                        char out[TENSOR_MAX_NAME + 1])
{
    const int X = source->config.X > 0 ? source->config.X : 1;
    const char *hole = strstr(spelling->name, "%d");
    int n = 0;

    out[0] = '\0';
    if (weight_of_layer(spelling->id))
        n = snprintf(out, TENSOR_MAX_NAME + 1, "%s%d.", naming->layer_prefix,
                     weight_of_expert(spelling->id) ? index / X : index);
    if (hole == NULL)
        snprintf(out + n, TENSOR_MAX_NAME + 1 - (size_t)n, "%s", spelling->name);
    else
        snprintf(out + n, TENSOR_MAX_NAME + 1 - (size_t)n, "%.*s%d%s", (int)(hole - spelling->name),
                 spelling->name, index % X, hole + 2);
}

struct source_tensor *tensor_list_find(const struct tensor_list *list, const char *name)
{
    const struct source_tensor key = {.name = name};

    if (list->n_tensors == 0)
        return NULL;
    return bsearch(&key, list->tensors, (size_t)list->n_tensors, sizeof key, by_name);
}

/* The shape that a tensor of that spelling has. */
struct wanted_shape {
    int n_dims;
    int64_t dims[3]; /* outermost first */
};

static struct wanted_shape wanted_shape(const struct model_config *c,
                                        const struct weight_spelling *spelling)
{
    const struct weight_row *row = &weight_rows[spelling->id];
    const enum weight_dim rows = spelling->whole != DIM_NONE ? spelling->whole : row->rows;
    struct wanted_shape shape = {0};

    if (spelling->stacked)
        shape.dims[shape.n_dims++] = c->X;
    if (rows != DIM_ONE)
        shape.dims[shape.n_dims++] = weight_dim(c, rows);
    shape.dims[shape.n_dims++] = weight_dim(c, row->cols);
    return shape;
}

static bool has_shape(const struct source_tensor *t, const struct wanted_shape *wanted)
{
    bool same = t->n_dims == wanted->n_dims;

    for (int d = 0; d < wanted->n_dims; d++)
        same = same && t->dims[d] == wanted->dims[d];
    return same;
}

static enum status wrong_shape(const struct source_tensor *t, const struct wanted_shape *wanted)
{
    struct source_tensor right = {.n_dims = wanted->n_dims};
    char shape[128], wanted_text[128];

    memcpy(right.dims, wanted->dims, sizeof wanted->dims);
    log_error(
        "%s: tensor %s is %s where the hyper-parameters ask for %s; weights and configuration "
        "do not belong together, get both from one place",
        t->origin, source_tensor_name(t), shape_text(t, shape), shape_text(&right, wanted_text));
    return ST_FORMAT;
}

static enum status missing(const struct model_source *source, const struct weight_naming *naming,
                           enum weight_id id, const char *name)
{
    const char *why = id == WEIGHT_HEAD    ? "tie_word_embeddings is false"
                      : weight_is_bias(id) ? naming->bias_sign
                                           : NULL;

    log_error("%s: tensor %s is missing (%s is %d%s%s); get the model again, whole", source->path,
              name, source->layers_key, source->config.L, why != NULL ? ", " : "",
              why != NULL ? why : "");
    return ST_FORMAT;
}

/* The part of a tensor that is the weight. */
static struct tensor_view view_of(const struct model_config *c,
                                  const struct weight_spelling *spelling, int index,
                                  const struct source_tensor *t)
{
    const struct weight_row *row = &weight_rows[spelling->id];
    const int64_t whole = weight_dim(c, spelling->whole != DIM_NONE ? spelling->whole : row->rows);
    const int64_t n_stacked = spelling->stacked ? c->X : 1;
    const size_t row_bytes = t->n_bytes / (size_t)(whole * n_stacked);
    const int64_t before =
        (spelling->stacked ? index % c->X * whole : 0) + weight_dim(c, spelling->skip);

    return (struct tensor_view){.name = source_tensor_name(t),
                                .type = t->type,
                                .n_rows = weight_dim(c, row->rows),
                                .n_cols = weight_dim(c, row->cols),
                                .first_row = before,
                                .tensor_rows = whole * n_stacked,
                                .data = t->data + (size_t)before * row_bytes,
                                .row_bytes = row_bytes};
}

/* Find a weight and fill *view; an optional one that is not there leaves it absent. */
static enum status bind_one(struct model_source *source, const struct weight_naming *naming,
                            struct tensor_list *list, enum weight_id id, int index, bool optional,
                            struct tensor_view *view)
{
    const unsigned features = weight_features(&source->config);
    char name[TENSOR_MAX_NAME + 1], first_name[TENSOR_MAX_NAME + 1] = "";
    struct source_tensor *misfit = NULL;
    struct wanted_shape misfit_shape = {0};

    for (int i = 0; i < naming->n_spellings; i++) {
        const struct weight_spelling *spelling = &naming->spellings[i];

        if (spelling->id != id || (spelling->when & ~features) != 0 ||
            (spelling->unless & features) != 0)
            continue;
        weight_name(source, naming, spelling, index, name);
        struct source_tensor *t = tensor_list_find(list, name);
        const struct wanted_shape wanted = wanted_shape(&source->config, spelling);
        if (t != NULL && has_shape(t, &wanted)) {
            t->bound = true;
            *view = view_of(&source->config, spelling, index, t);
            return source_bind_scales(source, list, t, view);
        }
        /* A misfit counts by its first name only: the other one may mean another weight. */
        if (first_name[0] == '\0') {
            memcpy(first_name, name, sizeof name);
            misfit = t;
            misfit_shape = wanted;
        }
    }
    if (misfit != NULL)
        return wrong_shape(misfit, &misfit_shape);
    return optional ? ST_OK : missing(source, naming, id, first_name);
}

/* Of two weights of one shape and type. */
static bool same_scales(const struct tensor_scales *a, const struct tensor_scales *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return a->type == b->type && a->n_bytes == b->n_bytes &&
           memcmp(a->data, b->data, a->n_bytes) == 0;
}

/* A tied model may still hold its head, if it really is the embedding. */
static enum status check_tied(struct model_source *source, struct tensor_view *head)
{
    const struct tensor_view *embed = &source->views[WEIGHT_EMBED];

    if (head->data != NULL &&
        (head->type != embed->type ||
         memcmp(head->data, embed->data, (size_t)embed->n_rows * embed->row_bytes) != 0 ||
         !same_scales(head->scales, embed->scales))) {
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

    if (!c->qkv_bias && strstr(name, "self_attn.") != NULL && strstr(name, "bias") != NULL)
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

static enum status check_leftover(const struct model_source *source, const struct tensor_list *list)
{
    for (int64_t i = 0; i < list->n_tensors; i++) {
        const struct source_tensor *t = &list->tensors[i];

        if (t->bound || is_harmless(t->name))
            continue;
        log_error("%s: tensor %s%s is not part of a %s model of %d layers (%s) as this version "
                  "knows it; such models are not supported",
                  t->origin, source_tensor_name(t), what_it_is(&source->config, t->name),
                  source->config.family, source->config.L, source->layers_key);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

enum status source_bind(struct model_source *source, const struct weight_naming *naming,
                        struct tensor_list *list)
{
    const struct model_config *c = &source->config;
    const unsigned features = weight_features(c);
    enum status st;

    TRY(sort_by_name(list), err);
    source->views = host_zalloc(model_n_views(c) * sizeof *source->views);
    if (source->views == NULL)
        return ST_NOMEM;
    for (int id = 0; id < WEIGHT_COUNT; id++) {
        const bool wanted = (weight_rows[id].needs & ~features) == 0;
        const bool optional = id == WEIGHT_HEAD && c->tied; /* looked at, see check_tied */

        if (!wanted && !optional)
            continue; /* one that is there all the same is left over */
        for (int i = 0; i < weight_times(c, (enum weight_id)id); i++)
            TRY(bind_one(source, naming, list, (enum weight_id)id, i, optional,
                         &source->views[weight_place(c, (enum weight_id)id, i)]),
                err);
    }
    if (c->tied)
        TRY(check_tied(source, &source->views[WEIGHT_HEAD]), err);
    if (source->sees)
        TRY(tower_bind(source, list), err);
    TRY(check_leftover(source, list), err);
err:
    return st;
}
