/*
 * gguf_hparams.c - hyper-parameters from the keys of a GGUF file.
 *
 * All families write the same keys behind their own name ("llama.block_count"), and where a file
 * says nothing the family decides, as it does in llama.cpp.  A key of the model's family that is
 * not known for it here could change the arithmetic and is refused by name.
 */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "model/gguf.h"

/* Masks of families. */
enum {
    LLAMA = 1 << FAMILY_LLAMA, /* and mistral and mixtral, which say "llama" */
    GEMMA2 = 1 << FAMILY_GEMMA2,
    GEMMA3 = 1 << FAMILY_GEMMA3,
    PHI3 = 1 << FAMILY_PHI3,
    GRANITE = 1 << FAMILY_GRANITE,
    QWEN3MOE = 1 << FAMILY_QWEN3MOE,
    OLMOE = 1 << FAMILY_OLMOE,
    MOE = LLAMA | QWEN3MOE | OLMOE
};

/* Numbers as the file has them; NAN where it does not. */
struct numbers {
    double L, D, F, H, K, V, context, rope_dims, key_length, value_length;
    double eps, rope_base, rope_base_window, rope_factor, rope_linear;
    double window, attn_softcap, final_softcap;
    double attn_scale, embed_scale, residual_scale, logit_scale;
    double n_experts, n_used_experts, expert_F, gating, n_shared, n_groups, n_groups_used;
    double expert_scale;
};

#define FIELD(f) offsetof(struct numbers, f)
static const struct {
    const char *key; /* behind the family's name and a dot */
    size_t field;
    bool whole, required;
    int families; /* that have it; 0: all */
} number_keys[] = {
    {"block_count", FIELD(L), true, true, 0},
    {"embedding_length", FIELD(D), true, true, 0},
    {"feed_forward_length", FIELD(F), true, true, ~QWEN3MOE},
    {"feed_forward_length", FIELD(F), true, false, QWEN3MOE},
    {"attention.head_count", FIELD(H), true, true, 0},
    {"attention.head_count_kv", FIELD(K), true, false, 0},
    {"vocab_size", FIELD(V), true, false, 0},
    {"context_length", FIELD(context), true, true, 0},
    {"rope.dimension_count", FIELD(rope_dims), true, false, 0},
    {"attention.key_length", FIELD(key_length), true, false, 0},
    {"attention.value_length", FIELD(value_length), true, false, 0},
    {"attention.layer_norm_rms_epsilon", FIELD(eps), false, true, 0},
    {"rope.freq_base", FIELD(rope_base), false, false, 0},
    {"rope.freq_base_swa", FIELD(rope_base_window), false, false, GEMMA3},
    {"rope.scaling.factor", FIELD(rope_factor), false, false, 0},
    {"rope.scale_linear", FIELD(rope_linear), false, false, 0},
    {"attention.sliding_window", FIELD(window), true, false, LLAMA | GEMMA2 | GEMMA3 | PHI3},
    {"attn_logit_softcapping", FIELD(attn_softcap), false, false, GEMMA2},
    {"final_logit_softcapping", FIELD(final_softcap), false, false, GEMMA2 | GEMMA3},
    {"attention.scale", FIELD(attn_scale), false, false, GRANITE},
    {"embedding_scale", FIELD(embed_scale), false, false, GRANITE},
    {"residual_scale", FIELD(residual_scale), false, false, GRANITE},
    {"logit_scale", FIELD(logit_scale), false, true, GRANITE},
    {"expert_count", FIELD(n_experts), true, false, 0},
    {"expert_used_count", FIELD(n_used_experts), true, false, 0},
    {"expert_feed_forward_length", FIELD(expert_F), true, true, QWEN3MOE},
    {"expert_gating_func", FIELD(gating), true, false, MOE},
    {"expert_shared_count", FIELD(n_shared), true, false, MOE},
    {"expert_group_count", FIELD(n_groups), true, false, MOE},
    {"expert_group_used_count", FIELD(n_groups_used), true, false, MOE},
    {"expert_weights_scale", FIELD(expert_scale), false, false, MOE},
};
#undef FIELD

/* Say nothing about the arithmetic, given what is asked of other keys. */
static const char *const harmless_keys[] = {
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned", /* but see check_keys */
    "tensor_data_layout",
};

/* ---- messages ------------------------------------------------------------------------------- */

enum { KEY_BYTES = 128 };

static const char *full_key(const struct gguf *g, const char *key, char out[KEY_BYTES])
{
    snprintf(out, KEY_BYTES, "%s.%s", g->arch, key);
    return out;
}

static enum status unsupported(const struct gguf *g, const char *key, const char *what)
{
    char full[KEY_BYTES];

    log_error("%s: key %s: %s is not supported in this version", g->origin, full_key(g, key, full),
              what);
    return ST_UNSUPPORTED;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* A file of another family, or something else than a model. */
static enum status check_kind(struct gguf *g, const struct model_family **out_family)
{
    struct text_span family = {0}, type = {0};
    int quantization = 2;
    enum status st;

    TRY(gguf_get_string(g, "general.architecture", &family), err);
    if (family.data == NULL)
        return gguf_missing_key(g, "general.architecture");
    *out_family = family_of_gguf(family.data, family.n_bytes);
    if (*out_family == NULL) {
        char known[256];

        log_error("%s: key general.architecture: family %.*s is not supported; this version has: "
                  "%s",
                  g->origin, (int)(family.n_bytes < 64 ? family.n_bytes : 64), family.data,
                  families_put(true, known, sizeof known));
        return ST_UNSUPPORTED;
    }
    g->arch = (*out_family)->gguf_arch;
    TRY(gguf_get_string(g, "general.type", &type), err);
    if (type.data != NULL && (type.n_bytes != 5 || memcmp(type.data, "model", 5) != 0)) {
        log_error("%s: key general.type: the file holds a %.*s, not a model; name the model's own "
                  "file",
                  g->origin, (int)(type.n_bytes < 64 ? type.n_bytes : 64), type.data);
        return ST_UNSUPPORTED;
    }
    TRY(gguf_get_int(g, "general.quantization_version", &quantization), err);
    if (quantization != 2) {
        log_error("%s: key general.quantization_version is %d, this version reads 2; convert the "
                  "model anew",
                  g->origin, quantization);
        return ST_UNSUPPORTED;
    }
err:
    return st;
}

static bool is_given(double number)
{
    return !isnan(number);
}

/* The number, or what stands for it where there is none. */
static double or_else(double number, double other)
{
    return is_given(number) ? number : other;
}

static int int_or(double number, int other)
{
    return is_given(number) ? (int)number : other;
}

static enum status read_numbers(struct gguf *g, int mask, struct numbers *n)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < sizeof *n / sizeof(double); i++)
        ((double *)(void *)n)[i] = NAN;
    for (size_t i = 0; i < sizeof number_keys / sizeof number_keys[0]; i++) {
        double *field = (double *)(void *)((char *)n + number_keys[i].field);
        char key[KEY_BYTES];
        int whole = 0;

        if (number_keys[i].families != 0 && (number_keys[i].families & mask) == 0)
            continue;
        const struct gguf_value *v = gguf_find(g, full_key(g, number_keys[i].key, key));
        if (v == NULL && number_keys[i].required)
            return gguf_missing_key(g, key);
        if (v == NULL)
            continue;
        if (v->type == GGUF_ARRAY)
            return unsupported(g, number_keys[i].key, "a number for each layer");
        if (number_keys[i].whole) {
            TRY(gguf_get_int(g, key, &whole), err);
            *field = whole;
        } else {
            TRY(gguf_get_double(g, key, field), err);
        }
        if (!isfinite(*field)) {
            log_error("%s: byte %zu: key %s is %g; the file is damaged, get it again", g->origin,
                      v->at, key, *field);
            return ST_FORMAT;
        }
    }
err:
    return st;
}

/* attention.sliding_window_pattern: a flag for each layer, or every how many layers there is one
 * without a window. */
static enum status read_window_pattern(struct gguf *g, struct model_family *family,
                                       struct model_config *c, bool *out_listed)
{
    char key[KEY_BYTES];
    enum status st = ST_OK;

    *out_listed = false;
    if (family->window_layers != WINDOW_PERIOD)
        return ST_OK;
    const struct gguf_value *v = gguf_find(g, full_key(g, "attention.sliding_window_pattern", key));
    if (v == NULL)
        return ST_OK;
    if (v->type != GGUF_ARRAY) {
        TRY(gguf_get_int(g, key, &family->window_period), err);
        if (family->window_period == 0)
            st = unsupported(g, "attention.sliding_window_pattern", "0");
        return st;
    }
    if (v->elem != GGUF_BOOL || v->n != (uint64_t)c->L) {
        log_error("%s: byte %zu: key %s must be an array of %d booleans, one for each layer; the "
                  "file was badly converted, get another",
                  g->origin, v->at, key, c->L);
        return ST_FORMAT;
    }
    for (int l = 0; l < c->L; l++)
        if (v->data[l] != 0)
            c->layers[l] |= LAYER_WINDOW;
    *out_listed = true;
err:
    return st;
}

static enum status read_windows(struct gguf *g, const struct model_family *family,
                                const struct numbers *n, struct model_config *c)
{
    struct model_family pattern = *family;
    bool listed;
    enum status st;

    TRY(read_window_pattern(g, &pattern, c, &listed), err);
    c->window = int_or(n->window, family == family_of_id(FAMILY_GEMMA2) ? 4096 : 0);
    if (c->window > 0 && !listed)
        family_set_windows(&pattern, c, c->L);
    for (int l = 0; l < c->L && c->window == 0; l++)
        c->layers[l] &= (uint8_t)~LAYER_WINDOW;
err:
    return st;
}

static enum status read_rope(struct gguf *g, const struct numbers *n, struct model_config *c)
{
    struct text_span type = {0};
    char key[KEY_BYTES];
    enum status st;

    TRY(gguf_get_string(g, full_key(g, "rope.scaling.type", key), &type), err);
    const bool linear =
        type.data != NULL && type.n_bytes == 6 && memcmp(type.data, "linear", 6) == 0;
    const bool none = type.data != NULL && type.n_bytes == 4 && memcmp(type.data, "none", 4) == 0;
    if (type.data != NULL && !linear && !none) {
        log_error("%s: key %s: RoPE scaling %.*s is not supported in this version", g->origin, key,
                  (int)(type.n_bytes < 64 ? type.n_bytes : 64), type.data);
        return ST_UNSUPPORTED;
    }
    if (type.data == NULL && or_else(n->rope_factor, 1) != 1)
        return unsupported(g, "rope.scaling.factor", "RoPE scaling of no type");
    c->rope.base = or_else(n->rope_base, 10000);
    if (is_given(n->rope_base_window) && !(n->rope_base_window >= 1)) {
        log_error("%s: key %s: RoPE base %g must be 1 or more; the file is damaged, get it again",
                  g->origin, full_key(g, "rope.freq_base_swa", key), n->rope_base_window);
        return ST_FORMAT;
    }
    c->rope_window.base = or_else(n->rope_base_window, 0);
    const double factor = linear ? or_else(n->rope_factor, 1) : or_else(n->rope_linear, 1);
    if (factor == 1)
        return ST_OK;
    if (!(factor > 1 && factor <= 1e6)) {
        log_error("%s: key %s: a factor of %g is not 1 to 1000000; the file is damaged, get it "
                  "again",
                  g->origin, full_key(g, linear ? "rope.scaling.factor" : "rope.scale_linear", key),
                  factor);
        return ST_FORMAT;
    }
    if (c->E > 0 && c->E <= MODEL_MAX_E)
        rope_scale_linear(&c->rope, c->E, factor);
err:
    return st;
}

/* What is well-formed but computes something else. */
static enum status check_keys(struct gguf *g, const struct model_family *family,
                              const struct numbers *n, const struct model_config *c)
{
    bool causal = true, finetuned = true, normalised = c->normalise_experts;
    char key[KEY_BYTES];
    enum status st;

    TRY(gguf_get_bool(g, full_key(g, "attention.causal", key), &causal), err);
    if (!causal)
        return unsupported(g, "attention.causal", "attention to later tokens");
    TRY(gguf_get_bool(g, full_key(g, "rope.scaling.finetuned", key), &finetuned), err);
    if (!finetuned && family == family_of_id(FAMILY_GRANITE))
        return unsupported(g, "rope.scaling.finetuned", "granite without RoPE");
    if (c->X > 0)
        TRY(gguf_get_bool(g, full_key(g, "expert_weights_norm", key), &normalised), err);
    if (normalised != c->normalise_experts)
        return unsupported(g, "expert_weights_norm", "another normalisation than the family's own");
    if (c->X > 0 && ((int)family_mask(family) & MOE) == 0)
        return unsupported(g, "expert_count", "a mixture of experts of this family");
    if (c->X == 0 && ((int)family_mask(family) & MOE & ~LLAMA) != 0)
        return gguf_missing_key(g, full_key(g, "expert_count", key));
    if (or_else(n->gating, 1) != 1)
        return unsupported(g, "expert_gating_func", "another router than softmax");
    if (or_else(n->n_shared, 0) != 0)
        return unsupported(g, "expert_shared_count", "an expert that all tokens share");
    if (or_else(n->n_groups, 0) > 1 || or_else(n->n_groups_used, 0) > 1)
        return unsupported(g, "expert_group_count", "routing to groups of experts");
    if (or_else(n->expert_scale, 0) != 0 && n->expert_scale != 1)
        return unsupported(g, "expert_weights_scale", "a factor of the experts' sum");
    for (size_t i = 0; i < sizeof harmless_keys / sizeof harmless_keys[0]; i++)
        gguf_find(g, full_key(g, harmless_keys[i], key));
    for (int i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->values[i];
        const size_t n_arch = strlen(g->arch);

        if (!v->used && strncmp(v->key, g->arch, n_arch) == 0 && v->key[n_arch] == '.') {
            log_error("%s: byte %zu: key %s may change what the model computes and is not known to "
                      "this version; such models are not supported",
                      g->origin, v->at, v->key);
            return ST_UNSUPPORTED;
        }
    }
err:
    return st;
}

static enum status check_heads(const struct gguf *g, const struct numbers *n,
                               const struct model_config *c)
{
    char key[KEY_BYTES];

    if (c->H == 0 || (!is_given(n->key_length) && c->D % c->H != 0)) {
        log_error("%s: key %s: %d heads do not divide the width %d; the file is damaged, get it "
                  "again",
                  g->origin, full_key(g, "attention.head_count", key), c->H, c->D);
        return ST_FORMAT;
    }
    if (is_given(n->value_length) && n->value_length != c->E) {
        log_error("%s: key %s: values of %d elements beside keys of %d are not supported in this "
                  "version",
                  g->origin, full_key(g, "attention.value_length", key), (int)n->value_length,
                  c->E);
        return ST_UNSUPPORTED;
    }
    if (is_given(n->rope_dims) && n->rope_dims != c->E) {
        log_error("%s: key %s: rotating %d of %d elements of a head is not supported in this "
                  "version",
                  g->origin, full_key(g, "rope.dimension_count", key), (int)n->rope_dims, c->E);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* ---- what families differ in ------------------------------------------------------------------ */

/* No key says what the scores of gemma are scaled by: the largest of each generation, known by its
 * layers, goes by the width of a head's share, the others by the head size. */
static void set_gemma(const struct model_family *family, const struct numbers *n,
                      struct model_config *c)
{
    const bool two = family == family_of_id(FAMILY_GEMMA2);
    const bool largest = c->L == (two ? 46 : 62);

    c->attn_scale = 1.0 / sqrt((double)(largest && c->H > 0 ? c->D / c->H : c->E));
    c->attn_softcap = two ? or_else(n->attn_softcap, 50) : 0;
    c->final_softcap = or_else(n->final_softcap, two ? 30 : 0);
    if (!two && c->rope_window.base == 0)
        c->rope_window.base = 10000;
}

static void set_granite(const struct numbers *n, struct model_config *c)
{
    c->attn_scale = or_else(n->attn_scale, 0);
    c->embed_scale = or_else(n->embed_scale, 0);
    c->residual_scale = or_else(n->residual_scale, 0);
    c->logit_scale = n->logit_scale != 0 ? 1.0 / n->logit_scale : 0;
}

static void set_experts(const struct model_family *family, const struct numbers *n,
                        struct model_config *c)
{
    c->X = int_or(n->n_experts, 0);
    c->n_used_experts = int_or(n->n_used_experts, 0);
    c->normalise_experts = c->X > 0 && family != family_of_id(FAMILY_OLMOE);
}

enum status gguf_read_hparams(struct gguf *g, const struct model_family **out_family,
                              struct model_config *out_config)
{
    const struct model_family *family = NULL;
    struct numbers n;
    enum status st;

    TRY(check_kind(g, &family), err);
    assert(family != NULL);
    TRY(read_numbers(g, (int)family_mask(family), &n), err);
    struct model_config c = family->common;
    snprintf(c.family, sizeof c.family, "%s", family->name);
    c.L = (int)n.L;
    c.D = (int)n.D;
    c.F = int_or(n.expert_F, int_or(n.F, 0));
    c.H = (int)n.H;
    c.K = int_or(n.K, c.H);
    c.E = int_or(n.key_length, c.H > 0 ? c.D / c.H : 0);
    c.V = int_or(n.V, -1); /* as many as there are tokens */
    c.context = (int)n.context;
    c.eps = (float)n.eps;
    TRY(source_check_layers(c.L, g->origin), err);
    TRY(check_heads(g, &n, &c), err);
    set_experts(family, &n, &c);
    TRY(read_rope(g, &n, &c), err);
    family_set_no_rope(&c, family->no_rope_period);
    TRY(read_windows(g, family, &n, &c), err);
    if (family == family_of_id(FAMILY_GEMMA2) || family == family_of_id(FAMILY_GEMMA3))
        set_gemma(family, &n, &c);
    if (family == family_of_id(FAMILY_GRANITE))
        set_granite(&n, &c);
    if (family->embed_by_width)
        c.embed_scale = sqrt((double)c.D);
    TRY(check_keys(g, family, &n, &c), err);
    *out_family = family;
    *out_config = c;
err:
    return st;
}
