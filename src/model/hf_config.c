/*
 * hf_config.c - hyper-parameters from the texts of a Hugging Face directory: config.json as
 * transformers 4 and 5 write it, and generation_config.json for the ids that end an answer.
 *
 * Absent keys take the defaults of the family's configuration class.  Each key is understood,
 * known not to change what the model computes, known to change nothing at its usual value, or
 * refused by name.
 */
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/source.h"

struct reader {
    const char *origin; /* file name for messages */
    const json_t *root; /* borrowed */
};

/* ---- values --------------------------------------------------------------------------------- */

static enum status bad_value(const struct reader *r, const char *key, const char *wanted)
{
    log_error("%s: key %s must be %s; correct it or get the file again", r->origin, key, wanted);
    return ST_FORMAT;
}

static enum status unsupported(const struct reader *r, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    log_error("%s: key %s = %.80s changes what the model computes and is not supported in this "
              "version",
              r->origin, key, text != NULL ? text : "?");
    free(text); /* jansson allocates with malloc */
    return ST_UNSUPPORTED;
}

/* An id or list of ids below V; null is none. */
static enum status read_ids(const struct reader *r, const char *key, const json_t *value, int V,
                            int max, int *ids, int *out_n)
{
    const bool is_list = json_is_array(value);
    const size_t n = json_is_null(value) ? 0 : is_list ? json_array_size(value) : 1;
    char wanted[96];
    int n_ids = 0;

    snprintf(wanted, sizeof wanted, "a token id below vocab_size, %d%s", V,
             max > 1 ? ", or a list of at most 16" : "");
    if (n > (size_t)max || (is_list && max == 1))
        return bad_value(r, key, wanted);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = is_list ? json_array_get(value, i) : value;
        bool seen = false;

        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= V)
            return bad_value(r, key, wanted);
        for (int j = 0; j < n_ids; j++)
            seen = seen || ids[j] == json_integer_value(id);
        if (!seen)
            ids[n_ids++] = (int)json_integer_value(id);
    }
    *out_n = n_ids;
    return ST_OK;
}

/* ---- the keys of config.json ---------------------------------------------------------------- */

/* What is made of a key's value. */
enum rule {
    READ,    /* read below */
    IGNORED, /* says nothing about inference */
    FALSE,   /* false or null */
    EMPTY,   /* null, or an empty list or object */
    ONE,     /* 1 or null */
    SILU     /* "silu", or "swish", which is the same */
};

static const struct {
    const char *key;
    enum rule rule;
} rules[] = {
    {"model_type", READ},
    {"architectures", READ},
    {"vocab_size", READ},
    {"hidden_size", READ},
    {"intermediate_size", READ},
    {"num_hidden_layers", READ},
    {"num_attention_heads", READ},
    {"num_key_value_heads", READ},
    {"head_dim", READ},
    {"max_position_embeddings", READ},
    {"rms_norm_eps", READ},
    {"rope_theta", READ},
    {"rope_scaling", READ},
    {"rope_parameters", READ},
    {"tie_word_embeddings", READ},
    {"bos_token_id", READ},
    {"eos_token_id", READ},
    {"layer_types", READ},
    {"attention_bias", READ},
    {"hidden_act", SILU},
    {"mlp_bias", FALSE},
    {"rope_interleaved", FALSE},
    {"is_encoder_decoder", FALSE},
    {"is_decoder", FALSE},
    {"add_cross_attention", FALSE},
    {"cross_attention_hidden_size", FALSE},
    {"use_sliding_window", FALSE},
    {"sliding_window", FALSE},
    {"use_qk_norm", FALSE},
    {"quantization_config", READ}, /* by hf_quant.c */
    {"compression_config", EMPTY},
    {"per_layer_config", EMPTY},
    {"auto_map", EMPTY},
    {"pruned_heads", EMPTY},
    {"pretraining_tp", ONE},
    {"partial_rotary_factor", ONE},
    /* of storage, training, other libraries, and texts for people */
    {"dtype", IGNORED},
    {"torch_dtype", IGNORED},
    {"transformers_version", IGNORED},
    {"transformers.js_config", IGNORED},
    {"is_llama_config", IGNORED},
    {"unsloth_version", IGNORED},
    {"unsloth_fixed", IGNORED},
    {"name_or_path", IGNORED},
    {"attn_implementation", IGNORED},
    {"initializer_range", IGNORED},
    {"attention_dropout", IGNORED},
    {"use_cache", IGNORED},
    {"gradient_checkpointing", IGNORED},
    {"chunk_size_feed_forward", IGNORED},
    {"return_dict", IGNORED},
    {"output_attentions", IGNORED},
    {"output_hidden_states", IGNORED},
    {"torchscript", IGNORED},
    {"use_bfloat16", IGNORED},
    {"tf_legacy_loss", IGNORED},
    {"tie_encoder_decoder", IGNORED},
    {"tokenizer_class", IGNORED},
    {"prefix", IGNORED},
    {"task_specific_params", IGNORED},
    {"finetuning_task", IGNORED},
    {"problem_type", IGNORED},
    {"id2label", IGNORED},
    {"label2id", IGNORED},
    {"num_labels", IGNORED},
    {"pad_token_id", IGNORED},
    {"sep_token_id", IGNORED},
    {"decoder_start_token_id", IGNORED},
    /* advice for sampling, which the job decides */
    {"bad_words_ids", IGNORED},
    {"begin_suppress_tokens", IGNORED},
    {"diversity_penalty", IGNORED},
    {"do_sample", IGNORED},
    {"early_stopping", IGNORED},
    {"encoder_no_repeat_ngram_size", IGNORED},
    {"exponential_decay_length_penalty", IGNORED},
    {"forced_bos_token_id", IGNORED},
    {"forced_eos_token_id", IGNORED},
    {"length_penalty", IGNORED},
    {"max_length", IGNORED},
    {"min_length", IGNORED},
    {"no_repeat_ngram_size", IGNORED},
    {"num_beam_groups", IGNORED},
    {"num_beams", IGNORED},
    {"num_return_sequences", IGNORED},
    {"output_scores", IGNORED},
    {"remove_invalid_values", IGNORED},
    {"repetition_penalty", IGNORED},
    {"return_dict_in_generate", IGNORED},
    {"suppress_tokens", IGNORED},
    {"temperature", IGNORED},
    {"top_k", IGNORED},
    {"top_p", IGNORED},
    {"typical_p", IGNORED},
};

static bool follows(enum rule rule, const json_t *value)
{
    switch (rule) {
    case READ:
    case IGNORED:
        return true;
    case FALSE:
        return json_is_null(value) || json_is_false(value);
    case EMPTY:
        return json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0) ||
               (json_is_array(value) && json_array_size(value) == 0);
    case ONE:
        return json_is_null(value) || (json_is_number(value) && json_number_value(value) == 1.0);
    case SILU:
        return json_is_string(value) && (strcmp(json_string_value(value), "silu") == 0 ||
                                         strcmp(json_string_value(value), "swish") == 0);
    }
    return false;
}

static enum status check_keys(const struct reader *r)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        size_t i = 0;

        if (key[0] == '_') /* the library's own notes, such as _name_or_path */
            continue;
        while (i < sizeof rules / sizeof rules[0] && strcmp(rules[i].key, key) != 0)
            i++;
        if (i == sizeof rules / sizeof rules[0]) {
            log_error("%s: key %.80s is not known to this version and may change what the model "
                      "computes; if you are sure that it does not, remove it",
                      r->origin, key);
            return ST_UNSUPPORTED;
        }
        if (!follows(rules[i].rule, value))
            return unsupported(r, key, value);
    }
    return ST_OK;
}

static enum status check_family(const struct reader *r)
{
    const json_t *type = json_object_get(r->root, "model_type");
    const json_t *classes = json_object_get(r->root, "architectures");

    if (!json_is_string(type))
        return bad_value(r, "model_type", "the name of a family");
    if (strcmp(json_string_value(type), "llama") != 0) {
        log_error("%s: key model_type: family %.64s is not supported; this version has: llama",
                  r->origin, json_string_value(type));
        return ST_UNSUPPORTED;
    }
    if (classes == NULL || json_is_null(classes))
        return ST_OK;
    const char *class = json_string_value(json_array_get(classes, 0));
    if (json_array_size(classes) != 1 || class == NULL)
        return bad_value(r, "architectures", "a list of one name");
    if (strcmp(class, "LlamaForCausalLM") != 0) {
        log_error("%s: key architectures: %.64s is not supported; this version has: "
                  "LlamaForCausalLM",
                  r->origin, class);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* Every layer sees all earlier tokens. */
static enum status check_layer_types(const struct reader *r)
{
    const json_t *types = json_object_get(r->root, "layer_types");

    if (types == NULL || json_is_null(types))
        return ST_OK;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));

        if (type == NULL || strcmp(type, "full_attention") != 0)
            return unsupported(r, "layer_types", json_array_get(types, i));
    }
    return json_is_array(types) ? ST_OK : bad_value(r, "layer_types", "a list");
}

/* ---- RoPE ----------------------------------------------------------------------------------- */

static enum status read_base(const struct reader *r, const char *key, const json_t *value,
                             double *base)
{
    if (value == NULL)
        return ST_OK;
    if (!json_is_number(value))
        return bad_value(r, key, "a number");
    *base = json_number_value(value);
    return ST_OK;
}

/* rope_parameters (transformers 5) or rope_scaling (4): only the default kind. */
static enum status read_rope_object(const struct reader *r, const char *name, const json_t *rope,
                                    double *base)
{
    const char *key;
    json_t *value;
    enum status st = ST_OK;

    if (!json_is_object(rope))
        return bad_value(r, name, "an object");
    json_object_foreach((json_t *)(uintptr_t)rope, key, value)
    {
        char full[160];

        snprintf(full, sizeof full, "%s.%.80s", name, key);
        if (strcmp(key, "rope_theta") == 0) {
            TRY(read_base(r, full, value, base), err);
        } else if (strcmp(key, "rope_type") == 0 || strcmp(key, "type") == 0) {
            const char *type = json_string_value(value);

            if (type == NULL || strcmp(type, "default") != 0)
                return unsupported(r, full, value);
        } else if (strcmp(key, "partial_rotary_factor") != 0 || !follows(ONE, value)) {
            return unsupported(r, full, value);
        }
    }
err:
    return st;
}

static bool is_given(const json_t *value)
{
    return value != NULL && !follows(EMPTY, value);
}

static enum status read_rope(const struct reader *r, double *out_base)
{
    const json_t *scaling = json_object_get(r->root, "rope_scaling");
    const json_t *parameters = json_object_get(r->root, "rope_parameters");
    double base = 10000.0;
    enum status st;

    if (is_given(scaling) && is_given(parameters) && !json_equal(scaling, parameters)) {
        log_error("%s: keys rope_scaling and rope_parameters contradict each other; remove one",
                  r->origin);
        return ST_FORMAT;
    }
    /* rope_theta inside an object goes before the one beside it. */
    TRY(read_base(r, "rope_theta", json_object_get(r->root, "rope_theta"), &base), err);
    if (is_given(scaling))
        TRY(read_rope_object(r, "rope_scaling", scaling, &base), err);
    if (is_given(parameters))
        TRY(read_rope_object(r, "rope_parameters", parameters, &base), err);
    *out_base = base;
err:
    return st;
}

/* ---- config.json ---------------------------------------------------------------------------- */

#define FIELD(f) offsetof(struct model_config, f)
static const struct {
    const char *key;
    size_t field;
    int dflt;
    bool may_be_null; /* which then means the default */
} int_keys[] = {
    {"vocab_size", FIELD(V), 32000, false},
    {"hidden_size", FIELD(D), 4096, false},
    {"intermediate_size", FIELD(F), 11008, false},
    {"num_hidden_layers", FIELD(L), 32, false},
    {"num_attention_heads", FIELD(H), 32, false},
    {"num_key_value_heads", FIELD(K), 0, true}, /* as many as query heads */
    {"head_dim", FIELD(E), 0, true},            /* width over query heads */
    {"max_position_embeddings", FIELD(context), 2048, false},
};
#undef FIELD

static enum status read_ints(const struct reader *r, struct model_config *c)
{
    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++) {
        int *field = (int *)(void *)((char *)c + int_keys[i].field);
        const json_t *value = json_object_get(r->root, int_keys[i].key);

        *field = int_keys[i].dflt;
        if (value == NULL || (json_is_null(value) && int_keys[i].may_be_null))
            continue;
        if (!json_is_integer(value) || json_integer_value(value) < 1 ||
            json_integer_value(value) > INT_MAX)
            return bad_value(r, int_keys[i].key, "a positive whole number");
        *field = (int)json_integer_value(value);
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
    return ST_OK;
}

static enum status read_rest(const struct reader *r, struct model_config *c)
{
    const json_t *eps = json_object_get(r->root, "rms_norm_eps");
    const json_t *tied = json_object_get(r->root, "tie_word_embeddings");
    const json_t *bias = json_object_get(r->root, "attention_bias");
    const json_t *bos = json_object_get(r->root, "bos_token_id");
    const json_t *eos = json_object_get(r->root, "eos_token_id");
    int n_bos = 1;
    enum status st;

    if (eps != NULL && !json_is_number(eps))
        return bad_value(r, "rms_norm_eps", "a number");
    if (tied != NULL && !json_is_boolean(tied))
        return bad_value(r, "tie_word_embeddings", "true or false");
    if (bias != NULL && !json_is_boolean(bias) && !json_is_null(bias))
        return bad_value(r, "attention_bias", "true or false");
    c->eps = eps != NULL ? (float)json_number_value(eps) : 1e-6f;
    c->tied = json_is_true(tied);
    c->attention_bias = json_is_true(bias);
    TRY(read_rope(r, &c->rope_base), err);
    /* The class's defaults, which a vocabulary too small for them does not have. */
    c->bos_id = c->V > 1 ? 1 : -1;
    c->eos_ids[0] = 2;
    c->n_eos = c->V > 2;
    if (bos != NULL)
        TRY(read_ids(r, "bos_token_id", bos, c->V, 1, &c->bos_id, &n_bos), err);
    if (eos != NULL)
        TRY(read_ids(r, "eos_token_id", eos, c->V, MODEL_MAX_EOS, c->eos_ids, &c->n_eos), err);
    if (n_bos == 0)
        c->bos_id = -1;
err:
    return st;
}

enum status hf_config_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            struct model_config *config)
{
    struct model_config c = {.family = "llama"};
    json_t *root = NULL;
    enum status st;

    TRY(json_file_parse(data, n_bytes, origin, &root), done);
    const struct reader r = {origin, root};
    struct hf_quant quant;
    TRY(check_family(&r), done);
    TRY(check_keys(&r), done);
    TRY(hf_quant_parse(json_object_get(root, "quantization_config"), origin, &quant), done);
    TRY(check_layer_types(&r), done);
    TRY(read_ints(&r, &c), done);
    TRY(read_rest(&r, &c), done);
    TRY(source_check_config(&c, origin), done);
    *config = c;
done:
    json_decref(root);
    return st;
}

enum status hf_config_parse_generation(const uint8_t *data, size_t n_bytes, const char *origin,
                                       struct model_config *config)
{
    int ids[MODEL_MAX_EOS], n = 0;
    json_t *root = NULL;
    enum status st;

    TRY(json_file_parse(data, n_bytes, origin, &root), done);
    const struct reader r = {origin, root};
    const json_t *eos = json_object_get(root, "eos_token_id");
    if (eos == NULL || json_is_null(eos))
        goto done;
    TRY(read_ids(&r, "eos_token_id", eos, config->V, MODEL_MAX_EOS, ids, &n), done);
    memcpy(config->eos_ids, ids, (size_t)n * sizeof ids[0]);
    config->n_eos = n;
done:
    json_decref(root);
    return st;
}
