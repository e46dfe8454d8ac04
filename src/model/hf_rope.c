/*
 * hf_rope.c - the rotation of a Hugging Face model: rope_theta and rope_scaling of transformers 4,
 * rope_parameters of 5, which for gemma 3 holds one object for each type of layer.
 *
 * Understood: default, linear and llama3; others (yarn, longrope, dynamic) are refused by name.
 */
#include <math.h>
#include <stdio.h>

#include "model/hf_config.h"

/* One object of parameters, as far as it has been read. */
struct rope_object {
    const char *name; /* "rope_scaling", "rope_parameters.full_attention" */
    const char *type;
    double base; /* keeps its value where the object has none */
    double factor, low, high, original;
    int mrope[3]; /* sections; all 0: not given */
};

/* Three counts of pairs, which the head's size is checked against later. */
static enum status read_sections(const struct reader *r, const char *key, const json_t *value,
                                 int sections[3])
{
    static const char wanted[] = "a list of three numbers of pairs, 0 or more";

    if (json_array_size(value) != 3)
        return hf_bad_value(r, key, wanted);
    for (size_t i = 0; i < 3; i++) {
        const json_t *n = json_array_get(value, i);

        if (!json_is_integer(n) || json_integer_value(n) < 0 ||
            json_integer_value(n) > MODEL_MAX_E / 2)
            return hf_bad_value(r, key, wanted);
        sections[i] = (int)json_integer_value(n);
    }
    return ST_OK;
}

static bool has_mrope(const struct reader *r)
{
    return r->family == family_of_id(FAMILY_QWEN2VL);
}

static enum status read_member(const struct reader *r, struct rope_object *o, const char *key,
                               const json_t *value)
{
    const struct {
        const char *key;
        double *field;
        const char *type; /* that has it; NULL: all */
    } members[] = {
        {"rope_theta", &o->base, NULL},
        {"factor", &o->factor, "linear, llama3"},
        {"low_freq_factor", &o->low, "llama3"},
        {"high_freq_factor", &o->high, "llama3"},
        {"original_max_position_embeddings", &o->original, "llama3"},
    };
    char full[160];

    snprintf(full, sizeof full, "%s.%.80s", o->name, key);
    if (strcmp(key, "rope_type") == 0 || strcmp(key, "type") == 0) {
        const char *type = json_string_value(value);

        if (type != NULL && strcmp(type, "mrope") == 0 && has_mrope(r))
            return ST_OK;
        if (type == NULL || (strcmp(type, "default") != 0 && strcmp(type, "linear") != 0 &&
                             strcmp(type, "llama3") != 0))
            return hf_unsupported(r, full, value);
        return ST_OK;
    }
    if (strcmp(key, "partial_rotary_factor") == 0 && hf_follows(ONE, value))
        return ST_OK;
    if (strcmp(key, "mrope_section") == 0 && has_mrope(r))
        return read_sections(r, full, value, o->mrope);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (strcmp(members[i].key, key) != 0)
            continue;
        if (members[i].type != NULL && strstr(members[i].type, o->type) == NULL)
            return hf_unsupported(r, full, value);
        if (!json_is_number(value))
            return hf_bad_value(r, full, "a number");
        *members[i].field = json_number_value(value);
        return ST_OK;
    }
    return hf_unsupported(r, full, value);
}

static enum status read_object(const struct reader *r, const char *name, const json_t *object,
                               struct rope_object *o)
{
    const char *key;
    json_t *value;
    enum status st = ST_OK;

    if (!json_is_object(object))
        return hf_bad_value(r, name, "an object");
    const char *type = json_string_value(json_object_get(object, "rope_type"));
    const char *old_type = json_string_value(json_object_get(object, "type"));
    o->name = name;
    o->type = type != NULL ? type : old_type != NULL ? old_type : "default";
    o->factor = o->low = o->high = NAN;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        TRY(read_member(r, o, key, value), err);
    }
err:
    return st;
}

/* What an object says, as divisors. */
static enum status apply(const struct reader *r, const struct rope_object *o, int E,
                         struct model_rope *rope)
{
    const bool good_factor = o->factor >= 1.0 && o->factor <= 1e6;
    char full[160];

    if (!(o->base >= 1.0) || !isfinite(o->base)) {
        log_error("%s: RoPE base %g must be 1 or more; correct it or get the file again", r->origin,
                  o->base);
        return ST_FORMAT;
    }
    rope->base = o->base;
    if (E < 2 || E > MODEL_MAX_E)
        return ST_OK; /* refused by source_check_config */
    if (o->type == NULL || strcmp(o->type, "default") == 0 || strcmp(o->type, "mrope") == 0)
        return ST_OK;
    snprintf(full, sizeof full, "%s.factor", o->name);
    if (!good_factor)
        return hf_bad_value(r, full, "a number from 1 to 1000000");
    if (strcmp(o->type, "linear") == 0) {
        rope_scale_linear(rope, E, o->factor);
        return ST_OK;
    }
    if (!(o->low > 0.0 && o->high > o->low && o->high <= 1e6 && o->original >= 1.0 &&
          o->original <= 1e9)) {
        snprintf(full, sizeof full, "%s.low_freq_factor", o->name);
        return hf_bad_value(r, full, "above 0 and below high_freq_factor, both given");
    }
    rope_scale_llama3(rope, E, &(struct rope_llama3){o->factor, o->low, o->high, o->original});
    return ST_OK;
}

static bool is_given(const json_t *value)
{
    return value != NULL && !hf_follows(EMPTY, value);
}

/* {"full_attention": {...}, "sliding_attention": {...}} */
static enum status read_nested(const struct reader *r, const json_t *parameters,
                               struct rope_object *full, struct rope_object *window)
{
    const char *key;
    json_t *value;
    enum status st = ST_OK;

    if (!json_is_object(parameters))
        return hf_bad_value(r, "rope_parameters", "an object");
    json_object_foreach((json_t *)(uintptr_t)parameters, key, value)
    {
        char name[160];

        snprintf(name, sizeof name, "rope_parameters.%.80s", key);
        if (json_is_null(value))
            continue;
        if (strcmp(key, "full_attention") == 0)
            TRY(read_object(r, "rope_parameters.full_attention", value, full), err);
        else if (strcmp(key, "sliding_attention") == 0)
            TRY(read_object(r, "rope_parameters.sliding_attention", value, window), err);
        else
            return hf_unsupported(r, name, value);
    }
err:
    return st;
}

/* Each pair of a head belongs to one section. */
static enum status apply_mrope(const struct reader *r, const int sections[3],
                               struct model_config *c)
{
    static const int usual[3] = {16, 24, 24};
    const int n = sections[0] + sections[1] + sections[2];

    memcpy(c->mrope, n > 0 ? sections : usual, sizeof c->mrope);
    if (c->mrope[0] + c->mrope[1] + c->mrope[2] == c->E / 2)
        return ST_OK;
    log_error("%s: mrope_section of RoPE has %d pairs where a head of %d elements has %d; correct "
              "it or get the file again",
              r->origin, c->mrope[0] + c->mrope[1] + c->mrope[2], c->E, c->E / 2);
    return ST_FORMAT;
}

enum status hf_read_rope(const struct reader *r, double default_base, struct model_config *c)
{
    const json_t *scaling = json_object_get(r->root, "rope_scaling");
    const json_t *parameters = json_object_get(r->root, "rope_parameters");
    const bool two = r->family == family_of_id(FAMILY_GEMMA3);
    struct rope_object full = {.base = default_base, .original = c->context};
    struct rope_object window = {.base = 10000.0, .original = c->context};
    enum status st;

    if (is_given(scaling) && is_given(parameters) && !json_equal(scaling, parameters)) {
        log_error("%s: keys rope_scaling and rope_parameters contradict each other; remove one",
                  r->origin);
        return ST_FORMAT;
    }
    /* rope_theta inside an object goes before the one beside it. */
    TRY(hf_get_number(r, "rope_theta", false, &full.base), err);
    if (two)
        TRY(hf_get_number(r, "rope_local_base_freq", false, &window.base), err);
    if (is_given(scaling) && !is_given(parameters))
        TRY(read_object(r, "rope_scaling", scaling, &full), err);
    if (is_given(parameters) && two)
        TRY(read_nested(r, parameters, &full, &window), err);
    else if (is_given(parameters))
        TRY(read_object(r, "rope_parameters", parameters, &full), err);
    TRY(apply(r, &full, c->E, &c->rope), err);
    if (has_mrope(r))
        TRY(apply_mrope(r, full.mrope, c), err);
    if (two)
        TRY(apply(r, &window, c->E, &c->rope_window), err);
err:
    return st;
}
