/*
 * hf_keys.c - the keys that may stand in config.json, and values read one by one.
 *
 * Each key is understood, known not to change what the model computes, known to change nothing at
 * its usual value, or refused by name.  What the understood ones mean is in hf_config.c and
 * hf_rope.c.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/hf_config.h"

/* ---- values --------------------------------------------------------------------------------- */

/* NULL: *out keeps what it holds. */
static const json_t *value_of(const struct reader *r, const char *key, bool null_is_absent)
{
    const json_t *value = json_object_get(r->root, key);

    return json_is_null(value) && null_is_absent ? NULL : value;
}

enum status hf_get_bool(const struct reader *r, const char *key, bool null_is_absent, bool *out)
{
    const json_t *value = value_of(r, key, null_is_absent);

    if (value != NULL && !json_is_boolean(value))
        return hf_bad_value(r, key, "true or false");
    if (value != NULL)
        *out = json_is_true(value);
    return ST_OK;
}

enum status hf_get_number(const struct reader *r, const char *key, bool null_is_absent, double *out)
{
    const json_t *value = value_of(r, key, null_is_absent);

    if (value != NULL && !json_is_number(value))
        return hf_bad_value(r, key, "a number");
    if (value != NULL)
        *out = json_number_value(value);
    return ST_OK;
}

enum status hf_get_int(const struct reader *r, const char *key, bool null_is_absent, int *out)
{
    const json_t *value = value_of(r, key, null_is_absent);

    if (value != NULL && (!json_is_integer(value) || json_integer_value(value) < 1 ||
                          json_integer_value(value) > INT_MAX))
        return hf_bad_value(r, key, "a positive whole number");
    if (value != NULL)
        *out = (int)json_integer_value(value);
    return ST_OK;
}

enum status hf_bad_value(const struct reader *r, const char *key, const char *wanted)
{
    log_error("%s: key %s must be %s; correct it or get the file again", r->origin, key, wanted);
    return ST_FORMAT;
}

enum status hf_unsupported(const struct reader *r, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    log_error("%s: key %s = %.80s changes what the model computes and is not supported in this "
              "version",
              r->origin, key, text != NULL ? text : "?");
    free(text); /* jansson allocates with malloc */
    return ST_UNSUPPORTED;
}

enum status hf_get_ids(const struct reader *r, const char *key, const json_t *value, int V, int max,
                       int *ids, int *out_n)
{
    const bool is_list = json_is_array(value);
    const size_t n = json_is_null(value) ? 0 : is_list ? json_array_size(value) : 1;
    char wanted[96];
    int n_ids = 0;

    snprintf(wanted, sizeof wanted, "a token id below vocab_size, %d%s", V,
             max > 1 ? ", or a list of at most 16" : "");
    if (n > (size_t)max || (is_list && max == 1))
        return hf_bad_value(r, key, wanted);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = is_list ? json_array_get(value, i) : value;
        bool seen = false;

        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= V)
            return hf_bad_value(r, key, wanted);
        for (int j = 0; j < n_ids; j++)
            seen = seen || ids[j] == json_integer_value(id);
        if (!seen)
            ids[n_ids++] = (int)json_integer_value(id);
    }
    *out_n = n_ids;
    return ST_OK;
}

/* ---- keys ----------------------------------------------------------------------------------- */

/* Masks of families. */
enum {
    F_LLAMA = 1 << FAMILY_LLAMA,
    F_MISTRAL = 1 << FAMILY_MISTRAL,
    F_QWEN2 = 1 << FAMILY_QWEN2,
    F_QWEN3 = 1 << FAMILY_QWEN3,
    F_GEMMA2 = 1 << FAMILY_GEMMA2,
    F_GEMMA3 = 1 << FAMILY_GEMMA3,
    F_SMOLLM3 = 1 << FAMILY_SMOLLM3,
    F_PHI3 = 1 << FAMILY_PHI3,
    F_OLMO2 = 1 << FAMILY_OLMO2,
    F_GRANITE = 1 << FAMILY_GRANITE,
    F_MIXTRAL = 1 << FAMILY_MIXTRAL,
    F_QWEN3MOE = 1 << FAMILY_QWEN3MOE,
    F_OLMOE = 1 << FAMILY_OLMOE,
    F_QWEN2VL = 1 << FAMILY_QWEN2VL,
    F_QWEN = F_QWEN2 | F_QWEN3 | F_QWEN3MOE | F_QWEN2VL,
    F_GEMMA = F_GEMMA2 | F_GEMMA3,
    F_MOE = F_MIXTRAL | F_QWEN3MOE | F_OLMOE
};

static const struct key_rule rules[] = {
    {"model_type", READ, 0},
    {"architectures", READ, 0},
    {"vocab_size", READ, 0},
    {"hidden_size", READ, 0},
    {"intermediate_size", IGNORED, F_QWEN3MOE}, /* of layers without experts, which are refused */
    {"intermediate_size", READ, 0},
    {"num_hidden_layers", READ, 0},
    {"num_attention_heads", READ, 0},
    {"num_key_value_heads", READ, 0},
    {"head_dim", READ, 0},
    {"max_position_embeddings", READ, 0},
    {"rms_norm_eps", READ, 0},
    {"rope_theta", READ, 0},
    {"rope_scaling", READ, 0},
    {"rope_parameters", READ, 0},
    {"rope_local_base_freq", READ, F_GEMMA3},
    {"tie_word_embeddings", READ, 0},
    {"bos_token_id", READ, 0},
    {"eos_token_id", READ, 0},
    {"layer_types", READ, 0},
    {"attention_bias", FALSE, F_MISTRAL | F_QWEN2 | F_QWEN2VL | F_PHI3 | F_MIXTRAL},
    {"attention_bias", READ, 0},
    {"hidden_act", IGNORED, F_GEMMA}, /* those go by hidden_activation */
    {"hidden_act", SILU, 0},
    {"hidden_activation", GELU, F_GEMMA},
    {"mlp_bias", FALSE, 0},
    {"rope_interleaved", FALSE, 0},
    {"is_encoder_decoder", FALSE, 0},
    {"is_decoder", FALSE, 0},
    {"add_cross_attention", FALSE, 0},
    {"cross_attention_hidden_size", FALSE, 0},
    {"sliding_window", READ, F_MISTRAL | F_QWEN | F_GEMMA | F_SMOLLM3 | F_PHI3 | F_MIXTRAL},
    {"sliding_window", FALSE, 0},
    {"use_sliding_window", READ, F_QWEN | F_SMOLLM3},
    {"use_sliding_window", FALSE, 0},
    {"max_window_layers", READ, F_QWEN2 | F_QWEN3 | F_QWEN2VL},
    {"max_window_layers", IGNORED, F_QWEN3MOE | F_SMOLLM3}, /* which have windows otherwise */
    {"sliding_window_pattern", READ, F_GEMMA3},
    {"use_bidirectional_attention", FALSE, F_GEMMA},
    {"query_pre_attn_scalar", READ, F_GEMMA},
    {"attn_logit_softcapping", READ, F_GEMMA2},
    {"attn_logit_softcapping", FALSE, F_GEMMA3},
    {"final_logit_softcapping", READ, F_GEMMA},
    {"cache_implementation", IGNORED, F_GEMMA},
    {"no_rope_layers", READ, F_SMOLLM3},
    {"no_rope_layer_interval", READ, F_SMOLLM3},
    {"embedding_multiplier", READ, F_GRANITE},
    {"residual_multiplier", READ, F_GRANITE},
    {"attention_multiplier", READ, F_GRANITE},
    {"logits_scaling", READ, F_GRANITE},
    {"num_experts", READ, F_MOE},
    {"num_local_experts", READ, F_MOE},
    {"num_experts_per_tok", READ, F_MOE},
    {"norm_topk_prob", READ, F_QWEN3MOE | F_OLMOE},
    {"moe_intermediate_size", READ, F_QWEN3MOE},
    {"decoder_sparse_step", ONE, F_QWEN3MOE},
    {"mlp_only_layers", EMPTY, F_QWEN3MOE},
    {"clip_qkv", FALSE, F_OLMOE},
    {"output_router_logits", IGNORED, F_MOE},
    {"router_aux_loss_coef", IGNORED, F_MOE},
    {"router_jitter_noise", IGNORED, F_MOE},
    {"original_max_position_embeddings", IGNORED, F_PHI3}, /* of longrope, which is refused */
    {"embd_pdrop", IGNORED, F_PHI3},
    {"resid_pdrop", IGNORED, F_PHI3},
    {"auto_map", IGNORED, F_PHI3}, /* code that transformers has had of its own since */
    {"use_mrope", FALSE, F_QWEN},
    {"use_qk_norm", FALSE, 0},
    /* notes about the whole model in the decoder's part of a vision-language model */
    {"qk_layer_norms", FALSE, F_LLAMA},
    {"use_resampler", FALSE, F_LLAMA},
    {"perceiver_config", IGNORED, F_LLAMA}, /* of a resampler */
    {"pixel_shuffle_factor", IGNORED, F_LLAMA},
    {"neftune_noise_alpha", IGNORED, F_LLAMA},
    {"image_token_id", IGNORED, F_QWEN2VL},
    {"video_token_id", IGNORED, F_QWEN2VL},
    {"vision_start_token_id", IGNORED, F_QWEN2VL},
    {"vision_end_token_id", IGNORED, F_QWEN2VL},
    {"vision_token_id", IGNORED, F_QWEN2VL},
    {"quantization_config", READ, 0}, /* by hf_quant.c */
    {"compression_config", EMPTY, 0},
    {"per_layer_config", EMPTY, 0},
    {"auto_map", EMPTY, 0},
    {"pruned_heads", EMPTY, 0},
    {"pretraining_tp", IGNORED, F_SMOLLM3},
    {"pretraining_tp", ONE, 0},
    {"partial_rotary_factor", ONE, 0},
    /* of storage, training, other libraries, and texts for people */
    {"dtype", IGNORED, 0},
    {"torch_dtype", IGNORED, 0},
    {"transformers_version", IGNORED, 0},
    {"transformers.js_config", IGNORED, 0},
    {"is_llama_config", IGNORED, 0},
    {"unsloth_version", IGNORED, 0},
    {"unsloth_fixed", IGNORED, 0},
    {"name_or_path", IGNORED, 0},
    {"_name_or_path", IGNORED, 0},
    {"_commit_hash", IGNORED, 0},
    {"_attn_implementation", IGNORED, 0},
    {"_attn_implementation_internal", IGNORED, 0},
    {"_attn_implementation_autoset", IGNORED, 0},
    {"_experts_implementation", IGNORED, 0},
    {"_experts_implementation_internal", IGNORED, 0},
    {"_output_attentions", IGNORED, 0},
    {"_flash_attn_2_enabled", IGNORED, 0},
    {"_use_flash_attention_2", IGNORED, 0},
    {"_pre_quantization_dtype", IGNORED, 0},
    {"_sliding_window_pattern", IGNORED, F_GEMMA3}, /* only a copy: nobody reads it back */
    {"attn_implementation", IGNORED, 0},
    {"initializer_range", IGNORED, 0},
    {"attention_dropout", IGNORED, 0},
    {"use_cache", IGNORED, 0},
    {"gradient_checkpointing", IGNORED, 0},
    {"chunk_size_feed_forward", IGNORED, 0},
    {"return_dict", IGNORED, 0},
    {"output_attentions", IGNORED, 0},
    {"output_hidden_states", IGNORED, 0},
    {"torchscript", IGNORED, 0},
    {"use_bfloat16", IGNORED, 0},
    {"tf_legacy_loss", IGNORED, 0},
    {"tie_encoder_decoder", IGNORED, 0},
    {"tokenizer_class", IGNORED, 0},
    {"prefix", IGNORED, 0},
    {"task_specific_params", IGNORED, 0},
    {"finetuning_task", IGNORED, 0},
    {"problem_type", IGNORED, 0},
    {"id2label", IGNORED, 0},
    {"label2id", IGNORED, 0},
    {"num_labels", IGNORED, 0},
    {"pad_token_id", IGNORED, 0},
    {"sep_token_id", IGNORED, 0},
    {"decoder_start_token_id", IGNORED, 0},
    /* advice for sampling, which the job decides */
    {"bad_words_ids", IGNORED, 0},
    {"begin_suppress_tokens", IGNORED, 0},
    {"diversity_penalty", IGNORED, 0},
    {"do_sample", IGNORED, 0},
    {"early_stopping", IGNORED, 0},
    {"encoder_no_repeat_ngram_size", IGNORED, 0},
    {"exponential_decay_length_penalty", IGNORED, 0},
    {"forced_bos_token_id", IGNORED, 0},
    {"forced_eos_token_id", IGNORED, 0},
    {"length_penalty", IGNORED, 0},
    {"max_length", IGNORED, 0},
    {"min_length", IGNORED, 0},
    {"no_repeat_ngram_size", IGNORED, 0},
    {"num_beam_groups", IGNORED, 0},
    {"num_beams", IGNORED, 0},
    {"num_return_sequences", IGNORED, 0},
    {"output_scores", IGNORED, 0},
    {"remove_invalid_values", IGNORED, 0},
    {"repetition_penalty", IGNORED, 0},
    {"return_dict_in_generate", IGNORED, 0},
    {"suppress_tokens", IGNORED, 0},
    {"temperature", IGNORED, 0},
    {"top_k", IGNORED, 0},
    {"top_p", IGNORED, 0},
    {"typical_p", IGNORED, 0},
};
enum { N_RULES = sizeof rules / sizeof rules[0] };

bool hf_follows(enum rule rule, const json_t *value)
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
    case THREE:
        return json_is_integer(value) && json_integer_value(value) == 3;
    case SILU:
        return json_is_string(value) && (strcmp(json_string_value(value), "silu") == 0 ||
                                         strcmp(json_string_value(value), "swish") == 0);
    case GELU:
        return json_is_string(value) && strcmp(json_string_value(value), "gelu_pytorch_tanh") == 0;
    }
    return false;
}

const struct key_rule *hf_find_rule(const struct key_rule *rows, size_t n_rows, const char *key,
                                    int who)
{
    for (size_t i = 0; i < n_rows; i++)
        if (strcmp(rows[i].key, key) == 0 && (rows[i].who == 0 || (rows[i].who & who) != 0))
            return &rows[i];
    return NULL;
}

bool hf_is_text_key(const char *key)
{
    return hf_find_rule(rules, N_RULES, key, ~0) != NULL;
}

bool hf_is_harmless(const char *key, const json_t *value)
{
    const struct key_rule *rule = hf_find_rule(rules, N_RULES, key, 0);

    return rule != NULL && rule->rule != READ && hf_follows(rule->rule, value);
}

enum status hf_check_keys(const struct reader *r)
{
    const int family = (int)family_mask(r->family);
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        const struct key_rule *rule = hf_find_rule(rules, N_RULES, key, family);

        if (rule == NULL) {
            log_error(
                "%s: key %.80s is not known to this version for family %s and may change what "
                "the model computes; if you are sure that it does not, remove it",
                r->origin, key, r->family->hf_type);
            return ST_UNSUPPORTED;
        }
        if (!hf_follows(rule->rule, value))
            return hf_unsupported(r, key, value);
    }
    return ST_OK;
}
