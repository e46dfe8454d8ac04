/*
 * hf_config.c - hyper-parameters from the texts of a Hugging Face directory: config.json as
 * transformers 4 and 5 write it, and generation_config.json for the ids that end an answer.
 *
 * Absent keys take the defaults of the family's configuration class.  Which keys may be there at
 * all is in hf_keys.c.
 */
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "model/hf_config.h"

/* ---- defaults of the configuration classes ---------------------------------------------------- */

struct defaults {
    int V, D, F, L, H, K, E, context; /* K = 0: H.  E = 0: D / H */
    double eps, base;
    bool tied;
    int bos, eos; /* -1: none */
    int window;   /* 0: none */
    int X, n_used_experts;
};

static const struct defaults defaults[FAMILY_COUNT] = {
    [FAMILY_LLAMA] = {32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6, 1e4, false, 1, 2, 0, 0, 0},
    [FAMILY_MISTRAL] = {32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-6, 1e4, false, 1, 2, 4096, 0,
                        0},
    [FAMILY_QWEN2] = {151936, 4096, 22016, 32, 32, 32, 0, 32768, 1e-6, 1e4, false, -1, -1, 4096, 0,
                      0},
    [FAMILY_QWEN3] = {151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-6, 1e4, false, -1, -1, 4096,
                      0, 0},
    [FAMILY_GEMMA2] = {256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-6, 1e4, true, 2, 1, 4096, 0, 0},
    [FAMILY_GEMMA3] = {262208, 2304, 9216, 26, 8, 4, 256, 131072, 1e-6, 1e6, true, 2, 1, 4096, 0,
                       0},
    [FAMILY_SMOLLM3] = {128256, 2048, 11008, 36, 16, 4, 0, 32768, 1e-6, 2e6, true, 128000, 128001,
                        0, 0, 0},
    [FAMILY_PHI3] = {32064, 3072, 8192, 32, 32, 0, 0, 4096, 1e-5, 1e4, false, 1, 32000, 0, 0, 0},
    [FAMILY_OLMO2] = {50304, 4096, 11008, 32, 32, 0, 0, 2048, 1e-5, 1e4, false, -1, 50279, 0, 0, 0},
    [FAMILY_GRANITE] = {32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6, 1e4, false, 1, 2, 0, 0, 0},
    [FAMILY_MIXTRAL] = {32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-5, 1e6, false, 1, 2, 0, 8, 2},
    [FAMILY_QWEN3MOE] = {151936, 2048, 768, 24, 32, 4, 0, 32768, 1e-6, 1e4, false, -1, -1, 4096,
                         128, 8},
    [FAMILY_OLMOE] = {50304, 2048, 2048, 16, 16, 0, 0, 4096, 1e-5, 1e4, false, -1, 50279, 0, 64, 8},
    [FAMILY_QWEN2VL] = {152064, 8192, 29568, 80, 64, 8, 0, 32768, 1e-5, 1e6, false, 151643, 151645,
                        4096, 0, 0},
};

static bool is_family(const struct reader *r, enum family_id id)
{
    return r->family == family_of_id(id);
}

/* ---- family and sizes ------------------------------------------------------------------------- */

static enum status read_family(struct reader *r)
{
    const json_t *type = json_object_get(r->root, "model_type");
    const json_t *classes = json_object_get(r->root, "architectures");
    char known[256];

    if (type == NULL && r->nested) { /* as transformers has it */
        r->family = family_of_id(FAMILY_LLAMA);
        return ST_OK;
    }
    if (!json_is_string(type))
        return hf_bad_value(r, "model_type", "the name of a family");
    r->family = r->nested && strcmp(json_string_value(type), "qwen2_vl_text") == 0
                    ? family_of_id(FAMILY_QWEN2VL)
                    : family_of_hf_type(json_string_value(type));
    if (r->family == NULL) {
        log_error("%s: key model_type: family %.64s is not supported; this version has: %s%s",
                  r->origin, json_string_value(type), families_put(false, known, sizeof known),
                  r->nested ? "" : ", llava, idefics3, smolvlm");
        return ST_UNSUPPORTED;
    }
    /* Nobody looks at the class of a part. */
    if (r->nested || classes == NULL || json_is_null(classes))
        return ST_OK;
    const char *class = json_string_value(json_array_get(classes, 0));
    if (json_array_size(classes) != 1 || class == NULL)
        return hf_bad_value(r, "architectures", "a list of one name");
    if (strcmp(class, r->family->hf_class) != 0) {
        log_error("%s: key architectures: %.64s is not supported; of this family this version has: "
                  "%s",
                  r->origin, class, r->family->hf_class);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

#define FIELD(f) offsetof(struct model_config, f)
#define DEFAULT(f) offsetof(struct defaults, f)
static const struct {
    const char *key;
    size_t field, dflt;
    bool may_be_null; /* which then means 0, to be filled in from others */
    int families;     /* 0: all */
} int_keys[] = {
    {"vocab_size", FIELD(V), DEFAULT(V), false, 0},
    {"hidden_size", FIELD(D), DEFAULT(D), false, 0},
    {"intermediate_size", FIELD(F), DEFAULT(F), false, ~(1 << FAMILY_QWEN3MOE)},
    {"moe_intermediate_size", FIELD(F), DEFAULT(F), false, 1 << FAMILY_QWEN3MOE},
    {"num_hidden_layers", FIELD(L), DEFAULT(L), false, 0},
    {"num_attention_heads", FIELD(H), DEFAULT(H), false, 0},
    {"num_key_value_heads", FIELD(K), DEFAULT(K), true, 0},
    {"head_dim", FIELD(E), DEFAULT(E), true, 0},
    {"max_position_embeddings", FIELD(context), DEFAULT(context), false, 0},
    {"num_experts_per_tok", FIELD(n_used_experts), DEFAULT(n_used_experts), false, 0},
};
#undef FIELD
#undef DEFAULT

static enum status read_ints(const struct reader *r, const struct defaults *dflt,
                             struct model_config *c)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++) {
        int *field = (int *)(void *)((char *)c + int_keys[i].field);

        if (int_keys[i].families != 0 && (int_keys[i].families & (int)family_mask(r->family)) == 0)
            continue;
        *field = *(const int *)(const void *)((const char *)dflt + int_keys[i].dflt);
        if (int_keys[i].may_be_null && json_is_null(json_object_get(r->root, int_keys[i].key)))
            *field = 0;
        TRY(hf_get_int(r, int_keys[i].key, int_keys[i].may_be_null, field), err);
    }
    c->X = dflt->X; /* the one key is the other's alias */
    TRY(hf_get_int(r, "num_experts", false, &c->X), err);
    const int X = c->X;
    TRY(hf_get_int(r, "num_local_experts", false, &c->X), err);
    if (json_object_get(r->root, "num_experts") != NULL && c->X != X) {
        log_error("%s: num_experts is %d and num_local_experts %d, which mean the same; correct "
                  "the file",
                  r->origin, X, c->X);
        return ST_FORMAT;
    }
    if (c->K == 0)
        c->K = c->H;
    if (c->E == 0 && c->D % c->H != 0) {
        log_error("%s: num_attention_heads %d does not divide hidden_size %d and there is no "
                  "head_dim; the file is damaged, get it again",
                  r->origin, c->H, c->D);
        return ST_FORMAT;
    }
    if (c->E == 0)
        c->E = c->D / c->H;
    TRY(source_check_layers(c->L, r->origin), err); /* before lists of layers are read */
err:
    return st;
}

/* ---- layers ----------------------------------------------------------------------------------- */

/* smollm3: layers without RoPE, one of `interval` or as a list of 0 (without) and 1. */
static enum status read_no_rope(const struct reader *r, struct model_config *c)
{
    const json_t *list = json_object_get(r->root, "no_rope_layers");
    int interval = r->family->no_rope_period;
    enum status st;

    TRY(hf_get_int(r, "no_rope_layer_interval", true, &interval), err);
    if (list == NULL || json_is_null(list)) {
        family_set_no_rope(c, interval);
        return ST_OK;
    }
    if (json_array_size(list) != (size_t)c->L)
        return hf_bad_value(r, "no_rope_layers", "a list of 0 and 1, one for each layer");
    for (int l = 0; l < c->L; l++) {
        const json_t *value = json_array_get(list, (size_t)l);

        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) > 1)
            return hf_bad_value(r, "no_rope_layers", "a list of 0 and 1, one for each layer");
        if (json_integer_value(value) == 0)
            c->layers[l] |= LAYER_NO_ROPE;
    }
err:
    return st;
}

/* layer_types, where it is given: LAYER_WINDOW in those layers and no others. */
static enum status read_layer_types(const struct reader *r, struct model_config *c)
{
    const json_t *types = json_object_get(r->root, "layer_types");

    if (types == NULL || json_is_null(types))
        return ST_OK;
    if (!json_is_array(types))
        return hf_bad_value(r, "layer_types", "a list");
    /* A family whose class does not look at the list must agree with it. */
    const bool by_list =
        r->family->window_layers != WINDOW_NOWHERE && r->family->window_layers != WINDOW_EVERYWHERE;
    for (size_t l = 0; l < json_array_size(types); l++) {
        const char *type = json_string_value(json_array_get(types, l));
        const bool windowed = type != NULL && strcmp(type, "sliding_attention") == 0;

        if (type == NULL || (!windowed && strcmp(type, "full_attention") != 0))
            return hf_unsupported(r, "layer_types", json_array_get(types, l));
        if (l >= (size_t)c->L)
            continue; /* counted below */
        if (!by_list && windowed != ((c->layers[l] & LAYER_WINDOW) != 0))
            return hf_unsupported(r, "layer_types", json_array_get(types, l));
        c->layers[l] &= (uint8_t)~LAYER_WINDOW;
        if (windowed)
            c->layers[l] |= LAYER_WINDOW;
    }
    if (by_list && json_array_size(types) != (size_t)c->L)
        return hf_bad_value(r, "layer_types", "a list with a type for each layer");
    return ST_OK;
}

static enum status read_windows(const struct reader *r, const struct defaults *dflt,
                                struct model_config *c)
{
    const bool has_switch = is_family(r, FAMILY_QWEN2) || is_family(r, FAMILY_QWEN3) ||
                            is_family(r, FAMILY_QWEN3MOE) || is_family(r, FAMILY_SMOLLM3) ||
                            is_family(r, FAMILY_QWEN2VL);
    const json_t *given = json_object_get(r->root, "sliding_window");
    int window = json_is_null(given) ? 0 : dflt->window;
    double max_window_layers = is_family(r, FAMILY_QWEN2VL) ? 80 : 28;
    bool used = !has_switch;
    struct model_family family = *r->family;
    enum status st;

    if (r->family->window_layers != WINDOW_NOWHERE && !is_family(r, FAMILY_LLAMA))
        TRY(hf_get_int(r, "sliding_window", true, &window), err);
    TRY(hf_get_bool(r, "use_sliding_window", true, &used), err);
    TRY(hf_get_int(r, "sliding_window_pattern", true, &family.window_period), err);
    TRY(hf_get_number(r, "max_window_layers", true, &max_window_layers), err);
    if (!(max_window_layers >= 0 && max_window_layers <= INT_MAX))
        return hf_bad_value(r, "max_window_layers", "a number of layers");
    if (used && window > 0)
        family_set_windows(&family, c, (int)max_window_layers);
    TRY(read_layer_types(r, c), err);
    for (int l = 0; l < c->L; l++) {
        if ((c->layers[l] & LAYER_WINDOW) == 0)
            continue;
        if (!used || window == 0)
            return hf_bad_value(r, "sliding_window",
                                "a number, and in use, where layer_types has sliding_attention");
        c->window = window;
    }
err:
    return st;
}

/* ---- what families differ in -------------------------------------------------------------------- */

static enum status read_gemma(const struct reader *r, struct model_config *c)
{
    double scalar = 256;
    enum status st;

    if (is_family(r, FAMILY_GEMMA2)) {
        const json_t *attn = json_object_get(r->root, "attn_logit_softcapping");

        c->attn_softcap = json_is_null(attn) ? 0 : 50;
        TRY(hf_get_number(r, "attn_logit_softcapping", true, &c->attn_softcap), err);
        c->final_softcap =
            json_is_null(json_object_get(r->root, "final_logit_softcapping")) ? 0 : 30;
    }
    TRY(hf_get_number(r, "final_logit_softcapping", true, &c->final_softcap), err);
    TRY(hf_get_number(r, "query_pre_attn_scalar", false, &scalar), err);
    if (!(scalar > 0))
        return hf_bad_value(r, "query_pre_attn_scalar", "a number above 0");
    c->attn_scale = 1.0 / sqrt(scalar);
err:
    return st;
}

static enum status read_granite(const struct reader *r, struct model_config *c)
{
    double logits_scaling = 1;
    enum status st;

    c->embed_scale = c->residual_scale = c->attn_scale = 1;
    TRY(hf_get_number(r, "embedding_multiplier", false, &c->embed_scale), err);
    TRY(hf_get_number(r, "residual_multiplier", false, &c->residual_scale), err);
    TRY(hf_get_number(r, "attention_multiplier", false, &c->attn_scale), err);
    TRY(hf_get_number(r, "logits_scaling", false, &logits_scaling), err);
    if (!(c->embed_scale > 0 && c->residual_scale > 0 && c->attn_scale > 0 && logits_scaling > 0)) {
        log_error("%s: each of the keys embedding_multiplier, residual_multiplier, "
                  "attention_multiplier and logits_scaling must be above 0; correct it or get the "
                  "file again",
                  r->origin);
        return ST_FORMAT;
    }
    c->logit_scale = 1.0 / logits_scaling;
err:
    return st;
}

static enum status read_rest(const struct reader *r, const struct defaults *dflt,
                             struct model_config *c)
{
    const json_t *bos = json_object_get(r->root, "bos_token_id");
    const json_t *eos = json_object_get(r->root, "eos_token_id");
    double eps = dflt->eps;
    bool bias = false;
    int n_bos = 1;
    enum status st;

    c->tied = dflt->tied;
    TRY(hf_get_number(r, "rms_norm_eps", false, &eps), err);
    TRY(hf_get_bool(r, "tie_word_embeddings", false, &c->tied), err);
    TRY(hf_get_bool(r, "attention_bias", true, &bias), err);
    TRY(hf_get_bool(r, "norm_topk_prob", false, &c->normalise_experts), err);
    c->eps = (float)eps;
    c->qkv_bias = c->qkv_bias || bias;
    c->o_bias = bias;
    TRY(hf_read_rope(r, dflt->base, c), err);
    TRY(read_no_rope(r, c), err);
    TRY(read_windows(r, dflt, c), err);
    if (is_family(r, FAMILY_GEMMA2) || is_family(r, FAMILY_GEMMA3))
        TRY(read_gemma(r, c), err);
    if (is_family(r, FAMILY_GRANITE))
        TRY(read_granite(r, c), err);
    if (r->family->embed_by_width)
        c->embed_scale = sqrt((double)c->D);
    /* The class's defaults, which a vocabulary too small for them does not have. */
    c->bos_id = c->V > dflt->bos ? dflt->bos : -1;
    c->eos_ids[0] = dflt->eos;
    c->n_eos = dflt->eos >= 0 && c->V > dflt->eos;
    if (bos != NULL)
        TRY(hf_get_ids(r, "bos_token_id", bos, c->V, 1, &c->bos_id, &n_bos), err);
    if (eos != NULL)
        TRY(hf_get_ids(r, "eos_token_id", eos, c->V, MODEL_MAX_EOS, c->eos_ids, &c->n_eos), err);
    if (n_bos == 0)
        c->bos_id = -1;
err:
    return st;
}

/* ---- the files ---------------------------------------------------------------------------------- */

/* One object as the configuration of a decoder. */
static enum status parse_decoder(struct reader *r, struct model_config *config)
{
    struct hf_quant quant;
    enum status st;

    TRY(read_family(r), done);
    assert(r->family != NULL);
    TRY(hf_check_keys(r), done);
    TRY(hf_quant_parse(json_object_get(r->root, "quantization_config"), r->origin, &quant), done);
    struct model_config c = r->family->common;
    const struct defaults *dflt = &defaults[r->family - family_of_id(FAMILY_LLAMA)];
    snprintf(c.family, sizeof c.family, "%s", r->family->name);
    TRY(read_ints(r, dflt, &c), done);
    TRY(read_rest(r, dflt, &c), done);
    TRY(source_check_config(&c, r->origin), done);
    *config = c;
done:
    return st;
}

enum status hf_config_parse_all(const uint8_t *data, size_t n_bytes, const char *origin,
                                struct model_config *config, struct vision_config *vision,
                                bool *out_sees)
{
    json_t *root = NULL, *text = NULL;
    struct model_config c;
    char of_text[512];
    enum status st;

    TRY(json_file_parse(data, n_bytes, origin, &root), done);
    TRY(vision_config_split(root, origin, &text), done);
    const bool sees = text != NULL;
    snprintf(of_text, sizeof of_text, "%s%s", origin, sees ? ": text_config" : "");
    struct reader r = {of_text, sees ? text : root, NULL, sees};
    TRY(parse_decoder(&r, &c), done);
    if (sees)
        TRY(vision_config_read(root, origin, &c, vision), done);
    *config = c;
    *out_sees = sees;
done:
    json_decref(text);
    json_decref(root);
    return st;
}

enum status hf_config_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            struct model_config *config)
{
    struct vision_config vision;
    bool sees;

    return hf_config_parse_all(data, n_bytes, origin, config, &vision, &sees);
}

enum status hf_config_parse_generation(const uint8_t *data, size_t n_bytes, const char *origin,
                                       struct model_config *config)
{
    int ids[MODEL_MAX_EOS], n = 0;
    json_t *root = NULL;
    enum status st;

    TRY(json_file_parse(data, n_bytes, origin, &root), done);
    const struct reader r = {origin, root, NULL, false};
    const json_t *eos = json_object_get(root, "eos_token_id");
    if (eos == NULL || json_is_null(eos))
        goto done;
    TRY(hf_get_ids(&r, "eos_token_id", eos, config->V, MODEL_MAX_EOS, ids, &n), done);
    memcpy(config->eos_ids, ids, (size_t)n * sizeof ids[0]);
    config->n_eos = n;
done:
    json_decref(root);
    return st;
}
