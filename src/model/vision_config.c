/*
 * vision_config.c - the config.json of a vision-language model: what of it is the decoder's part,
 * and the tower's.
 *
 *   llava, idefics3, smolvlm   text_config and vision_config beside keys of the whole
 *   qwen2_vl                   the same, or (transformers 4) the decoder's keys between the others
 *
 * As in hf_keys.c each key is understood, known to change nothing, or refused by name; absent ones
 * take the defaults of the configuration classes.  The decoder's part is read by hf_config.c.
 */
#include <limits.h>
#include <stddef.h>
#include <stdio.h>

#include "model/hf_config.h"

/* The kinds of tower; bits of masks. */
enum tower_kind { KIND_CLIP, KIND_SIGLIP, KIND_IDEFICS3, KIND_QWEN2VL, KIND_COUNT };
enum {
    K_CLIP = 1 << KIND_CLIP,
    K_SIGLIP = 1 << KIND_SIGLIP,
    K_IDEFICS3 = 1 << KIND_IDEFICS3,
    K_QWEN2VL = 1 << KIND_QWEN2VL,
    K_LLAVA = K_CLIP | K_SIGLIP,
    K_VIT = K_LLAVA | K_IDEFICS3
};

static const struct {
    const char *type, *class;
    enum vision_layout layout;
} models[] = {
    {"llava", "LlavaForConditionalGeneration", VISION_LLAVA},
    {"idefics3", "Idefics3ForConditionalGeneration", VISION_IDEFICS3},
    {"smolvlm", "SmolVLMForConditionalGeneration", VISION_IDEFICS3},
    {"qwen2_vl", "Qwen2VLForConditionalGeneration", VISION_QWEN2VL},
};
enum { N_MODELS = sizeof models / sizeof models[0] };

static int model_of(const json_t *root)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));

    for (int i = 0; i < N_MODELS; i++)
        if (type != NULL && strcmp(type, models[i].type) == 0)
            return i;
    return -1;
}

/* ---- keys ------------------------------------------------------------------------------------- */

/* Of the whole model. */
static const struct key_rule root_rules[] = {
    {"model_type", READ, 0},
    {"architectures", READ, 0},
    {"text_config", READ, 0},
    {"vision_config", READ, 0},
    {"tie_word_embeddings", READ, 0},
    {"image_token_id", READ, 0},
    {"quantization_config", EMPTY, 0}, /* of which the tower would need a part */
    {"compression_config", EMPTY, 0},
    {"image_token_index", READ, K_LLAVA},
    {"vision_feature_layer", READ, K_LLAVA},
    {"vision_feature_select_strategy", READ, K_LLAVA},
    {"projector_hidden_act", READ, K_LLAVA},
    {"multimodal_projector_bias", READ, K_LLAVA},
    {"image_seq_length", IGNORED, K_LLAVA}, /* follows from the tower */
    {"ignore_index", IGNORED, K_LLAVA},     /* of a loss */
    {"scale_factor", READ, K_IDEFICS3},
    {"use_reentrant_checkpointing", IGNORED, K_IDEFICS3},
    {"video_token_id", IGNORED, K_QWEN2VL},
    {"vision_start_token_id", IGNORED, K_QWEN2VL},
    {"vision_end_token_id", IGNORED, K_QWEN2VL},
    {"vision_token_id", IGNORED, K_QWEN2VL},
};

/* Of the tower. */
static const struct key_rule tower_rules[] = {
    {"model_type", READ, 0},
    {"architectures", IGNORED, 0},
    {"hidden_size", READ, 0},
    {"hidden_act", READ, 0},
    {"patch_size", READ, 0},
    {"tie_word_embeddings", IGNORED, 0},
    {"quantization_config", EMPTY, 0},
    {"intermediate_size", READ, K_VIT},
    {"num_hidden_layers", READ, K_VIT},
    {"num_attention_heads", READ, K_VIT},
    {"num_channels", THREE, K_VIT},
    {"image_size", READ, K_VIT},
    {"layer_norm_eps", READ, K_VIT},
    {"vocab_size", IGNORED, K_VIT}, /* of a text model that is not here */
    {"projection_dim", IGNORED, K_LLAVA},
    {"initializer_factor", IGNORED, K_LLAVA},
    {"dropout", IGNORED, K_LLAVA},
    {"vision_use_head", IGNORED, K_SIGLIP}, /* whose output is not used */
    {"max_image_size", IGNORED, K_IDEFICS3},
    {"size", IGNORED, K_IDEFICS3},
    {"use_base_siglip", IGNORED, K_IDEFICS3},
    {"depth", READ, K_QWEN2VL},
    {"embed_dim", READ, K_QWEN2VL},
    {"mlp_ratio", READ, K_QWEN2VL},
    {"num_heads", READ, K_QWEN2VL},
    {"in_channels", THREE, K_QWEN2VL},
    {"in_chans", THREE, K_QWEN2VL},
    {"spatial_merge_size", READ, K_QWEN2VL},
    {"temporal_patch_size", READ, K_QWEN2VL},
    {"spatial_patch_size", IGNORED, K_QWEN2VL}, /* patch_size counts */
    {"rope_parameters", READ, K_QWEN2VL},
};

/* may_be_text: keys of decoders change nothing here, as they have a part of their own. */
static enum status check_keys(const struct reader *r, const struct key_rule *rules, size_t n_rules,
                              int kinds, bool may_be_text)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        const struct key_rule *rule = hf_find_rule(rules, n_rules, key, kinds);

        if (key[0] == '_' || (rule != NULL && hf_follows(rule->rule, value)))
            continue;
        if (rule != NULL)
            return hf_unsupported(r, key, value);
        if (hf_is_harmless(key, value) || (may_be_text && hf_is_text_key(key)))
            continue;
        log_error("%s: key %.80s is not known to this version for such a model and may change what "
                  "it computes; if you are sure that it does not, remove it",
                  r->origin, key);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* ---- whose is what ---------------------------------------------------------------------------- */

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

/* Everything but the keys of the whole: the decoder's, where it has no object of its own. */
static json_t *flat_text(const json_t *root)
{
    json_t *text = json_copy((json_t *)(uintptr_t)root);

    for (size_t i = 0; text != NULL && i < sizeof root_rules / sizeof root_rules[0]; i++)
        if ((root_rules[i].who == 0 || (root_rules[i].who & K_QWEN2VL) != 0) &&
            strcmp(root_rules[i].key, "tie_word_embeddings") != 0)
            json_object_del(text, root_rules[i].key);
    if (text != NULL && json_object_set_new(text, "model_type", json_string("qwen2_vl")) != 0) {
        json_decref(text);
        return NULL;
    }
    return text;
}

enum status vision_config_split(const json_t *root, const char *origin, json_t **out_text)
{
    const struct reader r = {origin, root, NULL, false};
    const json_t *text = json_object_get(root, "text_config");
    const json_t *classes = json_object_get(root, "architectures");
    const int m = model_of(root);

    if (m < 0)
        return ST_OK;
    const char *class = json_string_value(json_array_get(classes, 0));
    if (!is_absent(classes) && (json_array_size(classes) != 1 || class == NULL))
        return hf_bad_value(&r, "architectures", "a list of one name");
    if (class != NULL && strcmp(class, models[m].class) != 0) {
        log_error("%s: key architectures: %.64s is not supported; of this family this version has: "
                  "%s",
                  origin, class, models[m].class);
        return ST_UNSUPPORTED;
    }
    if (!json_is_object(json_object_get(root, "vision_config")))
        return hf_bad_value(&r, "vision_config", "an object");
    if (is_absent(text) && models[m].layout == VISION_QWEN2VL) {
        *out_text = flat_text(root);
        return *out_text != NULL ? ST_OK : ST_NOMEM;
    }
    if (!json_is_object(text))
        return hf_bad_value(&r, "text_config", "an object");
    json_t *copy = json_copy((json_t *)(uintptr_t)text);
    if (copy == NULL)
        return ST_NOMEM;
    /* Old files have the whole model's type here, or none. */
    if (models[m].layout == VISION_QWEN2VL && json_object_get(copy, "model_type") == NULL &&
        json_object_set_new(copy, "model_type", json_string("qwen2_vl")) != 0) {
        json_decref(copy);
        return ST_NOMEM;
    }
    *out_text = copy;
    return ST_OK;
}

/* ---- the tower -------------------------------------------------------------------------------- */

struct tower_defaults {
    int D, F, L, H, patch, image_size;
    double eps;
    enum vision_activation activation;
};

static const struct tower_defaults defaults[KIND_COUNT] = {
    [KIND_CLIP] = {768, 3072, 12, 12, 32, 224, 1e-5, VISION_QUICK_GELU},
    [KIND_SIGLIP] = {768, 3072, 12, 12, 16, 224, 1e-6, VISION_GELU_TANH},
    [KIND_IDEFICS3] = {1152, 3072, 12, 16, 32, 224, 1e-6, VISION_GELU_TANH},
    [KIND_QWEN2VL] = {1280, 5120, 32, 16, 14, 0, 1e-6, VISION_QUICK_GELU},
};

static enum status read_activation(const struct reader *r, const char *key,
                                   enum vision_activation *out)
{
    static const struct {
        const char *name;
        enum vision_activation activation;
    } names[] = {
        {"quick_gelu", VISION_QUICK_GELU},
        {"gelu_pytorch_tanh", VISION_GELU_TANH},
        {"gelu_new", VISION_GELU_TANH},
        {"gelu", VISION_GELU_ERF},
    };
    const json_t *value = json_object_get(r->root, key);

    if (value == NULL)
        return ST_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), names[i].name) == 0) {
            *out = names[i].activation;
            return ST_OK;
        }
    }
    return hf_unsupported(r, key, value);
}

/* {"rope_type": "axial", "rope_theta": 10000.0}, or nothing. */
static enum status read_axial(const struct reader *r, struct vision_config *v)
{
    const json_t *rope = json_object_get(r->root, "rope_parameters");
    const char *key;
    json_t *value;

    v->rope_base = 10000.0;
    if (is_absent(rope))
        return ST_OK;
    if (!json_is_object(rope))
        return hf_bad_value(r, "rope_parameters", "an object");
    json_object_foreach((json_t *)(uintptr_t)rope, key, value)
    {
        const char *text = json_string_value(value);

        if (strcmp(key, "rope_theta") == 0 && json_is_number(value)) {
            v->rope_base = json_number_value(value);
        } else if (strcmp(key, "rope_type") != 0 || text == NULL ||
                   (strcmp(text, "axial") != 0 && strcmp(text, "default") != 0)) {
            return hf_unsupported(r, "rope_parameters", rope);
        }
    }
    if (!(v->rope_base >= 1.0 && v->rope_base <= 1e12))
        return hf_bad_value(r, "rope_parameters.rope_theta", "a number of at least 1");
    return ST_OK;
}

static enum status read_vit(const struct reader *r, const struct tower_defaults *dflt,
                            struct vision_config *v)
{
    int image_size = dflt->image_size;
    enum status st;

    TRY(hf_get_int(r, "hidden_size", false, &v->D), err);
    TRY(hf_get_int(r, "intermediate_size", false, &v->F), err);
    TRY(hf_get_int(r, "num_hidden_layers", false, &v->L), err);
    TRY(hf_get_int(r, "num_attention_heads", false, &v->H), err);
    TRY(hf_get_int(r, "image_size", false, &image_size), err);
    TRY(hf_get_number(r, "layer_norm_eps", false, &v->eps), err);
    v->grid = image_size / v->patch;
err:
    return st;
}

static enum status read_qwen2vl(const struct reader *r, struct vision_config *v)
{
    int ratio = 4, out = 3584;
    enum status st;

    v->merge = v->patch_frames = 2;
    TRY(hf_get_int(r, "embed_dim", false, &v->D), err);
    TRY(hf_get_int(r, "mlp_ratio", false, &ratio), err);
    TRY(hf_get_int(r, "depth", false, &v->L), err);
    TRY(hf_get_int(r, "num_heads", false, &v->H), err);
    TRY(hf_get_int(r, "hidden_size", false, &out), err);
    TRY(hf_get_int(r, "spatial_merge_size", false, &v->merge), err);
    TRY(hf_get_int(r, "temporal_patch_size", false, &v->patch_frames), err);
    TRY(read_axial(r, v), err);
    v->F = ratio <= INT_MAX / v->D ? v->D * ratio : INT_MAX;
    if (out != v->D_out) {
        log_error("%s: key hidden_size is %d where the decoder's embeddings have %d; correct it or "
                  "get the file again",
                  r->origin, out, v->D_out);
        return ST_FORMAT;
    }
err:
    return st;
}

static enum status check_sizes(const struct vision_config *v, const char *origin)
{
    const struct {
        const char *what;
        int value, max;
    } sizes[] = {
        {"width", v->D, 1 << 14},
        {"ffn width", v->F, 1 << 20},
        {"layers", v->L_file, MODEL_MAX_L},
        {"heads", v->H, 1 << 12},
        {"patch size", v->patch, 1 << 8},
        {"frames of a patch", v->patch_frames, 1 << 4},
        {"patches along an edge", v->layout == VISION_QWEN2VL ? 1 : v->grid, 1 << 8},
        {"merged patches along an edge", v->merge, 1 << 4},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value >= 1 && sizes[i].value <= sizes[i].max)
            continue;
        log_error("%s: %s of the tower: %d, not 1 to %d; the configuration is damaged, get it "
                  "again",
                  origin, sizes[i].what, sizes[i].value, sizes[i].max);
        return ST_FORMAT;
    }
    if (v->D % v->H != 0 || !(v->eps > 0 && v->eps < 1) ||
        (v->grid > 0 && v->grid % v->merge != 0)) {
        log_error("%s: a tower of width %d with %d heads, LayerNorm epsilon %g and %d patches an "
                  "edge, merged by %d, cannot be; the configuration is damaged, get it again",
                  origin, v->D, v->H, v->eps, v->grid, v->merge);
        return ST_FORMAT;
    }
    if (v->E > MODEL_MAX_E || v->E % 2 != 0 || (v->layout == VISION_QWEN2VL && v->E % 4 != 0)) {
        log_error("%s: head size %d of the tower is not supported; this version has even ones, at "
                  "most %d (of qwen2_vl multiples of 4)",
                  origin, v->E, MODEL_MAX_E);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

static enum status read_kind(const struct reader *r, enum vision_layout layout,
                             enum tower_kind *out)
{
    const json_t *value = json_object_get(r->root, "model_type");
    const char *type = json_string_value(value);

    *out = layout == VISION_LLAVA      ? KIND_CLIP
           : layout == VISION_IDEFICS3 ? KIND_IDEFICS3
                                       : KIND_QWEN2VL;
    /* Only llava looks at it. */
    if (layout != VISION_LLAVA || value == NULL)
        return ST_OK;
    if (type != NULL && strcmp(type, "siglip_vision_model") == 0)
        *out = KIND_SIGLIP;
    else if (type == NULL || strcmp(type, "clip_vision_model") != 0)
        return hf_unsupported(r, "model_type", value);
    return ST_OK;
}

static enum status read_tower(const struct reader *r, enum tower_kind kind, struct vision_config *v)
{
    const struct tower_defaults *dflt = &defaults[kind];
    enum status st;

    TRY(check_keys(r, tower_rules, sizeof tower_rules / sizeof tower_rules[0], 1 << kind, false),
        err);
    v->D = dflt->D;
    v->F = dflt->F;
    v->L = dflt->L;
    v->H = dflt->H;
    v->patch = dflt->patch;
    v->eps = dflt->eps;
    v->activation = dflt->activation;
    v->patch_frames = v->merge = 1;
    TRY(hf_get_int(r, "patch_size", false, &v->patch), err);
    TRY(read_activation(r, "hidden_act", &v->activation), err);
    TRY(kind == KIND_QWEN2VL ? read_qwen2vl(r, v) : read_vit(r, dflt, v), err);
    v->L_file = v->L;
    v->E = v->H <= v->D ? v->D / v->H : 0;
    v->class_token = v->pre_norm = kind == KIND_CLIP;
    v->patch_bias = kind == KIND_SIGLIP || kind == KIND_IDEFICS3;
    v->post_norm = kind == KIND_IDEFICS3;
err:
    return st;
}

/* ---- what stands beside the tower --------------------------------------------------------------- */

static enum status read_llava(const struct reader *r, struct vision_config *v)
{
    const json_t *layer = json_object_get(r->root, "vision_feature_layer");
    const json_t *strategy = json_object_get(r->root, "vision_feature_select_strategy");
    const char *name = strategy != NULL ? json_string_value(strategy) : "default";
    json_int_t at = -2;
    enum status st;

    v->projector_activation = VISION_GELU_ERF;
    v->projector_bias = true;
    TRY(read_activation(r, "projector_hidden_act", &v->projector_activation), err);
    TRY(hf_get_bool(r, "multimodal_projector_bias", false, &v->projector_bias), err);
    if (layer != NULL && !json_is_integer(layer))
        return hf_unsupported(r, "vision_feature_layer", layer);
    if (layer != NULL)
        at = json_integer_value(layer);
    /* Of L + 1 states: what goes into the first layer, then what comes out of each. */
    if (at < -(json_int_t)v->L_file - 1 || at > v->L_file)
        return hf_bad_value(r, "vision_feature_layer", "one of the tower's layers");
    v->L = (int)(at < 0 ? at + v->L_file + 1 : at);
    if (name == NULL || (strcmp(name, "default") != 0 && strcmp(name, "full") != 0) ||
        (strcmp(name, "default") == 0 && !v->class_token)) /* would leave out a patch */
        return hf_unsupported(r, "vision_feature_select_strategy", strategy);
    v->keep_class_token = v->class_token && strcmp(name, "full") == 0;
err:
    return st;
}

static enum status read_image_id(const struct reader *r, enum vision_layout layout,
                                 struct model_config *c)
{
    const json_t *id = json_object_get(r->root, "image_token_id");
    const char *key = "image_token_id";
    int n_ids = 1;
    enum status st;

    c->image_id = layout == VISION_LLAVA ? 32000 : layout == VISION_IDEFICS3 ? 128257 : 151655;
    if (id == NULL && layout == VISION_LLAVA) {
        key = "image_token_index";
        id = json_object_get(r->root, key);
    }
    if (id != NULL)
        TRY(hf_get_ids(r, key, id, c->V, 1, &c->image_id, &n_ids), err);
    st = ST_OK;
    if (n_ids == 0 || c->image_id >= c->V)
        return hf_bad_value(r, key, "a token id below the decoder's vocab_size");
err:
    return st;
}

static enum status read_tied(const struct reader *r, enum vision_layout layout,
                             struct model_config *c)
{
    bool tied = false;
    const enum status st = hf_get_bool(r, "tie_word_embeddings", true, &tied);

    /* idefics3 does not ask its decoder. */
    c->tied = tied || (c->tied && layout != VISION_IDEFICS3);
    return st;
}

enum status vision_config_read(const json_t *root, const char *origin, struct model_config *config,
                               struct vision_config *out)
{
    const struct reader whole = {origin, root, NULL, false};
    const enum vision_layout layout = models[model_of(root)].layout;
    struct vision_config v = {.layout = layout, .D_out = config->D, .projector_bias = true};
    struct model_config c = *config;
    enum tower_kind kind;
    char of_tower[512];
    enum status st;

    snprintf(of_tower, sizeof of_tower, "%s: vision_config", origin);
    const struct reader r = {of_tower, json_object_get(root, "vision_config"), NULL, false};
    TRY(read_kind(&r, layout, &kind), err);
    TRY(check_keys(&whole, root_rules, sizeof root_rules / sizeof root_rules[0], 1 << kind, true),
        err);
    if (c.embed_scale != 0 ||
        (layout == VISION_QWEN2VL) != (c.mrope[0] + c.mrope[1] > 0 || c.mrope[2] > 0)) {
        log_error("%s: a decoder of family %s is not supported in a model of type %s in this "
                  "version",
                  origin, c.family, models[model_of(root)].type);
        return ST_UNSUPPORTED;
    }
    TRY(read_tower(&r, kind, &v), err);
    if (layout == VISION_LLAVA)
        TRY(read_llava(&whole, &v), err);
    if (layout == VISION_IDEFICS3) {
        v.merge = 2;
        v.projector_bias = false;
        TRY(hf_get_int(&whole, "scale_factor", false, &v.merge), err);
    }
    if (layout == VISION_QWEN2VL)
        v.projector_activation = VISION_GELU_ERF;
    TRY(check_sizes(&v, of_tower), err);
    TRY(read_image_id(&whole, layout, &c), err);
    TRY(read_tied(&whole, layout, &c), err);
    *config = c;
    *out = v;
err:
    return st;
}
