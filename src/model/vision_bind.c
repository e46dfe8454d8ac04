/*
 * vision_bind.c - the tensors of a vision-language model: which are the decoder's, what those of
 * the tower are called, and a struct tensor_view of each.
 *
 * As in bind.c every one must be there in the right shape; what is left over is refused there.
 */
#include <assert.h>
#include <stdio.h>

#include "model/tower.h"

/* ---- names ------------------------------------------------------------------------------------ */

enum { LLAVA = 1 << VISION_LLAVA, IDEFICS3 = 1 << VISION_IDEFICS3, QWEN2VL = 1 << VISION_QWEN2VL };

/* The first that fits counts. */
static const struct {
    int layouts;
    const char *from, *to;
} prefixes[] = {
    {LLAVA, "language_model.model.", "model."},
    {LLAVA, "language_model.lm_head.", "lm_head."},
    {LLAVA, "model.language_model.", "model."},
    {LLAVA, "model.vision_tower.vision_model.", "tower."},
    {LLAVA, "model.vision_tower.", "tower."},
    {LLAVA, "vision_tower.vision_model.", "tower."},
    {LLAVA, "vision_tower.", "tower."},
    {LLAVA, "model.multi_modal_projector.", "projector."},
    {LLAVA, "multi_modal_projector.", "projector."},
    {IDEFICS3, "model.text_model.", "model."},
    {IDEFICS3, "model.vision_model.", "tower."},
    {IDEFICS3, "model.connector.modality_projection.proj.", "projector."},
    {QWEN2VL, "model.language_model.", "model."},
    {QWEN2VL, "model.visual.", "tower."},
    {QWEN2VL, "visual.", "tower."},
};

enum status tower_rename(const struct model_source *source, struct tensor_list *list)
{
    const int layout = 1 << source->vision.layout;

    for (int64_t i = 0; i < list->n_tensors; i++) {
        struct source_tensor *t = &list->tensors[i];

        for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++) {
            const size_t n_from = strlen(prefixes[p].from), n_to = strlen(prefixes[p].to);

            if ((prefixes[p].layouts & layout) == 0 ||
                strncmp(t->name, prefixes[p].from, n_from) != 0)
                continue;
            const size_t n_rest = strlen(t->name + n_from);
            char *name = arena_alloc(source->arena, n_to + n_rest + 1);
            if (name == NULL)
                return ST_NOMEM;
            memcpy(name, prefixes[p].to, n_to);
            memcpy(name + n_to, t->name + n_from, n_rest + 1);
            t->file_name = t->name;
            t->name = name;
            break;
        }
    }
    return ST_OK;
}

/* Things that some towers have. */
enum {
    WITH_PATCH_BIAS = 1,
    WITH_CLASS = 2,
    WITH_POSITION = 4,
    WITH_PRE_NORM = 8, /* of the tower, not of layers */
    WITH_POST_NORM = 16,
    WITH_MERGE_NORM = 32,
    WITH_PROJECTOR_1 = 64,
    WITH_PROJECTOR_BIAS = 128
};

static unsigned features_of(const struct vision_config *c)
{
    return (c->patch_bias ? WITH_PATCH_BIAS : 0u) | (c->class_token ? WITH_CLASS : 0u) |
           (c->layout != VISION_QWEN2VL ? WITH_POSITION : WITH_MERGE_NORM) |
           (c->pre_norm ? WITH_PRE_NORM : 0u) | (c->post_norm ? WITH_POST_NORM : 0u) |
           (c->layout != VISION_IDEFICS3 ? WITH_PROJECTOR_1 : 0u) |
           (c->projector_bias ? WITH_PROJECTOR_BIAS : 0u);
}

enum dim { VECTOR, WIDTH, FFN, ELEMS, POSITIONS, INNER, MIDDLE, OUT };

/* Names: of layers what follows the number. */
static const struct {
    unsigned needs;
    enum dim rows, cols;
    const char *vit, *qwen2vl;
} rows[TOWER_COUNT] = {
    [TOWER_PATCH] = {0, WIDTH, ELEMS, "embeddings.patch_embedding.weight",
                     "patch_embed.proj.weight"},
    [TOWER_PATCH_BIAS] = {WITH_PATCH_BIAS, VECTOR, WIDTH, "embeddings.patch_embedding.bias", ""},
    [TOWER_CLASS] = {WITH_CLASS, VECTOR, WIDTH, "embeddings.class_embedding", ""},
    [TOWER_POSITION] = {WITH_POSITION, POSITIONS, WIDTH, "embeddings.position_embedding.weight",
                        ""},
    [TOWER_PRE_NORM] = {WITH_PRE_NORM, VECTOR, WIDTH, "pre_layrnorm.weight", ""},
    [TOWER_PRE_NORM_BIAS] = {WITH_PRE_NORM, VECTOR, WIDTH, "pre_layrnorm.bias", ""},
    [TOWER_POST_NORM] = {WITH_POST_NORM, VECTOR, WIDTH, "post_layernorm.weight", ""},
    [TOWER_POST_NORM_BIAS] = {WITH_POST_NORM, VECTOR, WIDTH, "post_layernorm.bias", ""},
    [TOWER_MERGE_NORM] = {WITH_MERGE_NORM, VECTOR, WIDTH, "", "merger.ln_q.weight"},
    [TOWER_MERGE_NORM_BIAS] = {WITH_MERGE_NORM, VECTOR, WIDTH, "", "merger.ln_q.bias"},
    [TOWER_PROJECTOR_1] = {WITH_PROJECTOR_1, MIDDLE, INNER, "projector.linear_1.weight",
                           "merger.mlp.0.weight"},
    [TOWER_PROJECTOR_1_BIAS] = {WITH_PROJECTOR_1 | WITH_PROJECTOR_BIAS, VECTOR, MIDDLE,
                                "projector.linear_1.bias", "merger.mlp.0.bias"},
    [TOWER_PROJECTOR_2] = {0, OUT, MIDDLE, "projector.linear_2.weight", "merger.mlp.2.weight"},
    [TOWER_PROJECTOR_2_BIAS] = {WITH_PROJECTOR_BIAS, VECTOR, OUT, "projector.linear_2.bias",
                                "merger.mlp.2.bias"},
    [TOWER_NORM_1] = {0, VECTOR, WIDTH, "layer_norm1.weight", "norm1.weight"},
    [TOWER_NORM_1_BIAS] = {0, VECTOR, WIDTH, "layer_norm1.bias", "norm1.bias"},
    [TOWER_Q] = {0, WIDTH, WIDTH, "self_attn.q_proj.weight", "attn.qkv.weight"},
    [TOWER_Q_BIAS] = {0, VECTOR, WIDTH, "self_attn.q_proj.bias", "attn.qkv.bias"},
    [TOWER_K] = {0, WIDTH, WIDTH, "self_attn.k_proj.weight", "attn.qkv.weight"},
    [TOWER_K_BIAS] = {0, VECTOR, WIDTH, "self_attn.k_proj.bias", "attn.qkv.bias"},
    [TOWER_V] = {0, WIDTH, WIDTH, "self_attn.v_proj.weight", "attn.qkv.weight"},
    [TOWER_V_BIAS] = {0, VECTOR, WIDTH, "self_attn.v_proj.bias", "attn.qkv.bias"},
    [TOWER_O] = {0, WIDTH, WIDTH, "self_attn.out_proj.weight", "attn.proj.weight"},
    [TOWER_O_BIAS] = {0, VECTOR, WIDTH, "self_attn.out_proj.bias", "attn.proj.bias"},
    [TOWER_NORM_2] = {0, VECTOR, WIDTH, "layer_norm2.weight", "norm2.weight"},
    [TOWER_NORM_2_BIAS] = {0, VECTOR, WIDTH, "layer_norm2.bias", "norm2.bias"},
    [TOWER_FC_1] = {0, FFN, WIDTH, "mlp.fc1.weight", "mlp.fc1.weight"},
    [TOWER_FC_1_BIAS] = {0, VECTOR, FFN, "mlp.fc1.bias", "mlp.fc1.bias"},
    [TOWER_FC_2] = {0, WIDTH, FFN, "mlp.fc2.weight", "mlp.fc2.weight"},
    [TOWER_FC_2_BIAS] = {0, VECTOR, WIDTH, "mlp.fc2.bias", "mlp.fc2.bias"},
};

static int64_t length(const struct vision_config *c, enum dim dim)
{
    const int64_t inner = (int64_t)c->merge * c->merge * c->D;

    switch (dim) {
    case VECTOR:
        return 1;
    case WIDTH:
        return c->D;
    case FFN:
        return c->F;
    case ELEMS:
        return vision_patch_elems(c);
    case POSITIONS:
        return tower_n_positions(c);
    case INNER:
        return inner;
    case MIDDLE:
        return c->layout == VISION_LLAVA ? c->D_out : inner;
    case OUT:
        return c->D_out;
    }
    return 0;
}

static const char *name_of(const struct vision_config *c, enum tower_id id, int layer,
                           char out[128])
{
    const bool qwen = c->layout == VISION_QWEN2VL;
    const char *name = qwen ? rows[id].qwen2vl : rows[id].vit;

    if (tower_of_layer(id))
        snprintf(out, 128, "tower.%s.%d.%s", qwen ? "blocks" : "encoder.layers", layer, name);
    else if (c->layout == VISION_IDEFICS3 && id == TOWER_PROJECTOR_2)
        snprintf(out, 128, "projector.weight");
    else
        snprintf(out, 128, "%s%s", strncmp(name, "projector.", 10) == 0 ? "" : "tower.", name);
    return out;
}

/* ---- binding ---------------------------------------------------------------------------------- */

static bool has_shape(const struct vision_config *c, enum tower_id id, int64_t n_rows,
                      int64_t n_cols, const struct source_tensor *t)
{
    const int64_t *d = t->dims;

    if (id != TOWER_PATCH && rows[id].rows == VECTOR)
        return t->n_dims == 1 && d[0] == n_cols;
    if (id != TOWER_PATCH)
        return t->n_dims == 2 && d[0] == n_rows && d[1] == n_cols;
    if (c->layout == VISION_QWEN2VL)
        return t->n_dims == 5 && d[0] == n_rows && d[1] == 3 && d[2] == c->patch_frames &&
               d[3] == c->patch && d[4] == c->patch;
    return t->n_dims == 4 && d[0] == n_rows && d[1] == 3 && d[2] == c->patch && d[3] == c->patch;
}

static enum status bind_tensor(struct model_source *source, const struct tensor_list *list,
                               enum tower_id id, int layer)
{
    const struct vision_config *c = &source->vision;
    const int64_t n_cols = length(c, rows[id].cols), n_rows = length(c, rows[id].rows);
    /* q, k and v of qwen2vl are thirds of one tensor. */
    const bool third = c->layout == VISION_QWEN2VL && id >= TOWER_Q && id <= TOWER_V_BIAS;
    const bool vector = rows[id].rows == VECTOR;
    const int64_t times = third ? 3 : 1, part = third ? (id - TOWER_Q) / 2 : 0;
    char name[128];

    assert(n_rows > 0 && n_cols > 0);
    struct source_tensor *t = tensor_list_find(list, name_of(c, id, layer, name));
    if (t == NULL) {
        log_error("%s: tensor *%s is missing (of a tower of %d layers); get the model again, whole",
                  source->path, strchr(name, '.'), c->L_file);
        return ST_FORMAT;
    }
    if (!has_shape(c, id, vector ? 1 : times * n_rows, vector ? times * n_cols : n_cols, t)) {
        log_error("%s: tensor %s has another shape than the %lld x %lld that the configuration of "
                  "the tower asks for; weights and configuration do not belong together, get both "
                  "from one place",
                  t->origin, source_tensor_name(t), (long long)(vector ? 1 : times * n_rows),
                  (long long)(vector ? times * n_cols : n_cols));
        return ST_FORMAT;
    }
    if (tensor_type_info(t->type)->block_elems != 1 || t->type == TENSOR_F8_E4M3) {
        log_error("%s: tensor %s is %s, not supported in a vision tower; get the model in BF16, "
                  "F16 or F32",
                  t->origin, source_tensor_name(t), tensor_type_name(t->type));
        return ST_UNSUPPORTED;
    }
    t->bound = true;
    const size_t part_bytes = t->n_bytes / (size_t)times;
    source->tower[tower_place(id, layer)] = (struct tensor_view){
        .name = source_tensor_name(t),
        .type = t->type,
        .n_rows = n_rows,
        .n_cols = n_cols,
        .first_row = vector ? 0 : part * n_rows,
        .tensor_rows = vector ? 1 : times * n_rows,
        .data = t->data + (size_t)part * part_bytes,
        .row_bytes = part_bytes / (size_t)n_rows,
    };
    return ST_OK;
}

/* Tensors of the tower that nothing is made of: layers behind the last that counts, what looks at
 * the whole picture, and buffers. */
static void mark_unused(const struct vision_config *c, const struct tensor_list *list)
{
    static const char layers[] = "tower.encoder.layers.";
    static const char *const heads[] = {"tower.post_layernorm.", "tower.head.",
                                        "tower.embeddings.position_ids",
                                        "tower.rotary_pos_emb.inv_freq"};

    for (int64_t i = 0; i < list->n_tensors; i++) {
        struct source_tensor *t = &list->tensors[i];

        for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++)
            t->bound = t->bound || (c->layout != VISION_IDEFICS3 &&
                                    strncmp(t->name, heads[h], strlen(heads[h])) == 0);
        if (strcmp(t->name, heads[2]) == 0)
            t->bound = true;
        if (strncmp(t->name, layers, sizeof layers - 1) != 0)
            continue;
        int layer = 0, n = 0;
        if (sscanf(t->name + sizeof layers - 1, "%6d.%n", &layer, &n) == 1 && n > 0 &&
            layer >= c->L && layer < c->L_file)
            t->bound = true;
    }
}

enum status tower_bind(struct model_source *source, const struct tensor_list *list)
{
    const struct vision_config *c = &source->vision;
    const unsigned features = features_of(c);
    enum status st = ST_OK;

    source->tower = host_zalloc(tower_n_views(c) * sizeof *source->tower);
    if (source->tower == NULL)
        return ST_NOMEM;
    for (int i = 0; i < TOWER_COUNT; i++) {
        const enum tower_id id = (enum tower_id)i;

        if ((rows[id].needs & ~features) != 0)
            continue;
        for (int l = 0; l < (tower_of_layer(id) ? c->L : 1); l++)
            TRY(bind_tensor(source, list, id, l), err);
    }
    mark_unused(c, list);
err:
    return st;
}

const struct tensor_view *tower_tensor(const struct model_source *source, enum tower_id id,
                                       int layer)
{
    const struct tensor_view *view = &source->tower[tower_place(id, layer)];

    assert(source->sees && layer >= 0 && layer <= source->vision.L);
    return view->data != NULL ? view : NULL;
}

/* ---- questions -------------------------------------------------------------------------------- */

const struct vision_config *model_source_vision(const struct model_source *source)
{
    return source->sees ? &source->vision : NULL;
}

void tower_hash(const struct model_source *source, bool whole, struct hash_state *state)
{
    const struct vision_config *c = &source->vision;
    const struct vision_prep *p = &c->prep;
    const double numbers[] = {
        c->layout,
        c->L,
        c->D,
        c->F,
        c->H,
        c->E,
        c->patch,
        c->patch_frames,
        c->grid,
        c->merge,
        c->eps,
        c->rope_base,
        c->activation,
        c->projector_activation,
        c->class_token,
        c->keep_class_token,
        c->patch_bias,
        c->pre_norm,
        c->post_norm,
        c->projector_bias,
        c->D_out,
        source->config.image_id,
        p->resize,
        p->crop,
        p->rescale,
        p->normalise,
        p->split,
        p->pad_square,
        p->resample,
        p->shortest_edge,
        p->longest_edge,
        p->height,
        p->width,
        p->crop_height,
        p->crop_width,
        p->tile_edge,
        (double)p->min_pixels,
        p->rescale_factor,
        (double)p->max_pixels,
        p->mean[0],
        p->mean[1],
        p->mean[2],
        p->std[0],
        p->std[1],
        p->std[2],
    };

    if (!source->sees)
        return;
    hash_add(state, numbers, sizeof numbers);
    hash_add(state, source->config.mrope, sizeof source->config.mrope);
    for (size_t i = 0; i < tower_n_views(c); i++) {
        const struct tensor_view *view = &source->tower[i];
        const int32_t kind[] = {view->data != NULL, (int32_t)view->type};

        hash_add(state, kind, sizeof kind);
        if (view->data != NULL)
            hash_add(state, view->data, (whole ? (size_t)view->n_rows : 1) * view->row_bytes);
    }
}

static const char *const layout_names[VISION_LAYOUT_COUNT] = {
    [VISION_LLAVA] = "llava", [VISION_IDEFICS3] = "idefics3", [VISION_QWEN2VL] = "qwen2vl"};

enum status tower_inspect(const struct model_source *source, struct buf *out)
{
    const struct vision_config *c = &source->vision;
    int64_t n_weights = 0;
    enum status st = ST_OK;

    if (!source->sees)
        return ST_OK;
    for (size_t i = 0; i < tower_n_views(c); i++)
        n_weights += source->tower[i].n_rows * source->tower[i].n_cols;
    TRY(buf_printf(out,
                   "vision       %s: %d layers%s, width %d, ffn width %d, %d heads, head size %d, "
                   "%.1f million parameters\n",
                   layout_names[c->layout], c->L, c->L < c->L_file ? " that count" : "", c->D, c->F,
                   c->H, c->E, (double)n_weights / 1e6),
        err);
    if (c->layout == VISION_QWEN2VL)
        TRY(buf_printf(out,
                       "images       of about their own size, patches of %d, an embedding for each "
                       "%d x %d pixels; token %d\n",
                       c->patch, c->patch * c->merge, c->patch * c->merge, source->config.image_id),
            err);
    else
        TRY(buf_printf(
                out, "images       %d x %d patches of %d, %d embeddings%s; token %d\n", c->grid,
                c->grid, c->patch, c->grid / c->merge * (c->grid / c->merge) + c->keep_class_token,
                c->prep.split ? " for each tile and the whole" : "", source->config.image_id),
            err);
    TRY(buf_printf(out, "memory       tower %.1f MiB as bf16\n",
                   (double)vision_weights_bytes(c, OPS_BF16) / (1 << 20)),
        err);
err:
    return st;
}
