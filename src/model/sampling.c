/*
 * sampling.c - how a model's makers would have it sampled: generation_config.json of a directory,
 * or the keys general.sampling.* of a GGUF file.
 *
 * Read when a job asks for it (sampling = "model"), so that advice which this version cannot follow
 * stands in nobody else's way.  Advice that is not understood is then refused by name.
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "model/gguf.h"

enum { MAX_CONFIG_BYTES = 1 << 20 };

static const char instead[] =
    "leave sampling = \"model\" out and set temperature and the others in the job";

static enum status check_ranges(const struct model_sampling *s, const char *origin)
{
    const struct {
        const char *what;
        double value, min, max;
    } ranges[] = {
        {"temperature", s->temperature, 0, 100},
        {"top_k", s->top_k, 0, 1 << 24},
        {"top_p", s->top_p, 1e-9, 1},
        {"min_p", s->min_p, 0, 1},
        {"repetition_penalty", s->repetition_penalty, 0.01, 100},
    };

    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max)
            continue;
        log_error("%s: %s is %g, not %g to %g; %s", origin, ranges[i].what, ranges[i].value,
                  ranges[i].min, ranges[i].max, instead);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* ---- generation_config.json ----------------------------------------------------------------- */

enum rule {
    READ,
    IGNORED, /* says nothing about which token comes next */
    OFF,     /* null, false, 0 or empty */
    ONE      /* null or 1 */
};

static const struct {
    const char *key;
    enum rule rule;
} rules[] = {
    {"do_sample", READ},
    {"temperature", READ},
    {"top_k", READ},
    {"top_p", READ},
    {"min_p", READ},
    {"repetition_penalty", READ},
    {"typical_p", ONE},
    {"epsilon_cutoff", OFF},
    {"eta_cutoff", OFF},
    {"top_h", OFF},
    {"penalty_alpha", OFF},
    {"guidance_scale", ONE},
    {"num_beams", ONE},
    {"num_beam_groups", ONE},
    {"diversity_penalty", OFF},
    {"encoder_repetition_penalty", ONE},
    {"no_repeat_ngram_size", OFF},
    {"encoder_no_repeat_ngram_size", OFF},
    {"min_length", OFF},
    {"min_new_tokens", OFF},
    {"bad_words_ids", OFF},
    {"force_words_ids", OFF},
    {"sequence_bias", OFF},
    {"suppress_tokens", OFF},
    {"begin_suppress_tokens", OFF},
    {"forced_bos_token_id", OFF},
    {"forced_eos_token_id", OFF},
    {"exponential_decay_length_penalty", OFF},
    {"constraints", OFF},
    {"watermarking_config", OFF},
    {"stop_strings", OFF},
    {"bos_token_id", IGNORED},
    {"eos_token_id", IGNORED},
    {"pad_token_id", IGNORED},
    {"decoder_start_token_id", IGNORED},
    {"transformers_version", IGNORED},
    {"max_length", IGNORED},
    {"max_new_tokens", IGNORED},
    {"max_time", IGNORED},
    {"use_cache", IGNORED},
    {"cache_implementation", IGNORED},
    {"cache_config", IGNORED},
    {"return_legacy_cache", IGNORED},
    {"num_return_sequences", IGNORED},
    {"output_attentions", IGNORED},
    {"output_hidden_states", IGNORED},
    {"output_scores", IGNORED},
    {"output_logits", IGNORED},
    {"return_dict_in_generate", IGNORED},
    {"remove_invalid_values", IGNORED},
    {"renormalize_logits", IGNORED},
    {"length_penalty", IGNORED}, /* of beams */
    {"early_stopping", IGNORED}, /* of beams */
    {"chat_format", IGNORED},
    {"trust_remote_code", IGNORED},
};

static bool follows(enum rule rule, const json_t *value)
{
    const bool is_empty = (json_is_array(value) && json_array_size(value) == 0) ||
                          (json_is_object(value) && json_object_size(value) == 0);

    switch (rule) {
    case READ:
    case IGNORED:
        return true;
    case OFF:
        return json_is_null(value) || json_is_false(value) || is_empty ||
               (json_is_number(value) && json_number_value(value) == 0.0);
    case ONE:
        return json_is_null(value) || (json_is_number(value) && json_number_value(value) == 1.0);
    }
    return false;
}

static enum status check_keys(const json_t *root, const char *origin)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        size_t i = 0;

        if (key[0] == '_') /* the library's own notes */
            continue;
        while (i < sizeof rules / sizeof rules[0] && strcmp(rules[i].key, key) != 0)
            i++;
        if (i < sizeof rules / sizeof rules[0] && follows(rules[i].rule, value))
            continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        log_error("%s: key %.80s = %.80s is sampling that this version does not have; %s", origin,
                  key, text != NULL ? text : "?", instead);
        free(text); /* jansson allocates with malloc */
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* A number; *out stays where the key is absent or null. */
static enum status read_number(const json_t *root, const char *origin, const char *key, double *out)
{
    const json_t *value = json_object_get(root, key);

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_number(value)) {
        log_error("%s: key %s must be a number; get the file again", origin, key);
        return ST_FORMAT;
    }
    *out = json_number_value(value);
    return ST_OK;
}

enum status hf_sampling_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                              struct model_sampling *out)
{
    /* What transformers takes for absent keys. */
    struct model_sampling s = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    double top_k = 50;
    json_t *root = NULL;
    enum status st;

    TRY(json_file_parse(data, n_bytes, origin, &root), done);
    TRY(check_keys(root, origin), done);
    const json_t *do_sample = json_object_get(root, "do_sample");
    if (do_sample != NULL && !json_is_boolean(do_sample) && !json_is_null(do_sample)) {
        log_error("%s: key do_sample must be true or false; get the file again", origin);
        st = ST_FORMAT;
        goto done;
    }
    TRY(read_number(root, origin, "temperature", &s.temperature), done);
    TRY(read_number(root, origin, "top_k", &top_k), done);
    TRY(read_number(root, origin, "top_p", &s.top_p), done);
    TRY(read_number(root, origin, "min_p", &s.min_p), done);
    TRY(read_number(root, origin, "repetition_penalty", &s.repetition_penalty), done);
    if (!(top_k >= 0 && top_k <= INT_MAX) || top_k != floor(top_k)) {
        log_error("%s: key top_k is %g, not a whole number from 0; get the file again", origin,
                  top_k);
        st = ST_FORMAT;
        goto done;
    }
    s.top_k = (int)top_k;
    if (!json_is_true(do_sample)) { /* always the most likely token */
        s.temperature = 0;
        s.top_k = 0;
        s.top_p = 1;
        s.min_p = 0;
    }
    TRY(check_ranges(&s, origin), done);
    *out = s;
done:
    json_decref(root);
    return st;
}

static enum status of_directory(const struct model_source *source, struct model_sampling *out)
{
    struct buf file = {0};
    struct stat info;
    char path[4096];
    enum status st;

    if (snprintf(path, sizeof path, "%s/generation_config.json", source->path) >=
        (int)sizeof path) {
        log_error("%s: path too long", source->path);
        return ST_IO;
    }
    if (stat(path, &info) != 0 && errno == ENOENT) {
        log_error("%s: not there, so the model says nothing about sampling; %s", path, instead);
        return ST_CONFIG;
    }
    TRY(file_read(path, MAX_CONFIG_BYTES, &file), done);
    TRY(hf_sampling_parse(file.data, file.n_bytes, path, out), done);
done:
    buf_free(&file);
    return st;
}

/* ---- general.sampling.* --------------------------------------------------------------------- */

static enum status of_gguf(struct gguf *g, struct model_sampling *out)
{
    static const char prefix[] = "general.sampling.";
    static const char *const known[] = {"temp", "top_k", "top_p", "min_p", "penalty_repeat"};
    struct model_sampling s = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    int n_found = 0;
    enum status st;

    for (int i = 0; i < g->n_values; i++) {
        const char *key = g->values[i].key;
        bool is_known = false;

        if (strncmp(key, prefix, sizeof prefix - 1) != 0)
            continue;
        n_found++;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            is_known = is_known || strcmp(key + sizeof prefix - 1, known[k]) == 0;
        if (is_known)
            continue;
        log_error("%s: byte %zu: key %s is sampling that this version does not have; %s", g->origin,
                  g->values[i].at, key, instead);
        return ST_UNSUPPORTED;
    }
    if (n_found == 0) {
        log_error(
            "%s: has no keys general.sampling.*, so the model says nothing about sampling; %s",
            g->origin, instead);
        return ST_CONFIG;
    }
    TRY(gguf_get_double(g, "general.sampling.temp", &s.temperature), err);
    TRY(gguf_get_int(g, "general.sampling.top_k", &s.top_k), err);
    TRY(gguf_get_double(g, "general.sampling.top_p", &s.top_p), err);
    TRY(gguf_get_double(g, "general.sampling.min_p", &s.min_p), err);
    TRY(gguf_get_double(g, "general.sampling.penalty_repeat", &s.repetition_penalty), err);
    TRY(check_ranges(&s, g->origin), err);
    *out = s;
err:
    return st;
}

enum status model_source_sampling(const struct model_source *source, struct model_sampling *out)
{
    return source->gguf != NULL ? of_gguf(source->gguf, out) : of_directory(source, out);
}
