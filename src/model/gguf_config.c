/*
 * gguf_config.c - what the keys of a GGUF file mean: hyper-parameters, chat template; the
 * vocabulary is gguf_vocab.c's.
 *
 * A key of the model's family that is not known here could change the arithmetic and is refused by
 * name.  Keys of other kinds (authors, licences, sampling advice) are not looked at.
 */
#include <stddef.h>

#include "model/gguf.h"

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

/* ---- hyper-parameters ----------------------------------------------------------------------- */

struct llama_keys {
    int L, D, F, H, K, V, context, rope_dims, key_length, value_length, n_experts, n_used_experts;
    double eps, rope_base, rope_factor, rope_scale;
    bool causal;
    struct text_span rope_scaling;
};

#define FIELD(f) offsetof(struct llama_keys, f)
static const struct {
    const char *key;
    size_t field; /* an int, -1 where the key is absent */
    bool required;
} int_keys[] = {
    {"llama.block_count", FIELD(L), true},
    {"llama.embedding_length", FIELD(D), true},
    {"llama.feed_forward_length", FIELD(F), true},
    {"llama.attention.head_count", FIELD(H), true},
    {"llama.attention.head_count_kv", FIELD(K), false},
    {"llama.vocab_size", FIELD(V), false},
    {"llama.context_length", FIELD(context), true},
    {"llama.rope.dimension_count", FIELD(rope_dims), false},
    {"llama.attention.key_length", FIELD(key_length), false},
    {"llama.attention.value_length", FIELD(value_length), false},
    {"llama.expert_count", FIELD(n_experts), false},
    {"llama.expert_used_count", FIELD(n_used_experts), false},
};
#undef FIELD

/* Say nothing about the arithmetic once RoPE scaling is known to be off. */
static const char *const harmless_keys[] = {
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.finetuned",
    "llama.tensor_data_layout",
};

static enum status unsupported(const struct gguf *g, const char *key, const char *what)
{
    log_error("%s: key %s: %s is not supported in this version", g->origin, key, what);
    return ST_UNSUPPORTED;
}

/* A file of another family, or something else than a model. */
static enum status check_kind(struct gguf *g)
{
    struct text_span family = {0}, type = {0};
    int quantization = 2;
    enum status st;

    TRY(gguf_get_string(g, "general.architecture", &family), err);
    if (family.data == NULL)
        return gguf_missing_key(g, "general.architecture");
    if (family.n_bytes != 5 || memcmp(family.data, "llama", 5) != 0) {
        log_error("%s: key general.architecture: family %.*s is not supported; this version has: "
                  "llama",
                  g->origin, (int)(family.n_bytes < 64 ? family.n_bytes : 64), family.data);
        return ST_UNSUPPORTED;
    }
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

static enum status read_keys(struct gguf *g, struct llama_keys *k)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < sizeof int_keys / sizeof int_keys[0]; i++) {
        int *field = (int *)(void *)((char *)k + int_keys[i].field);

        *field = -1;
        const struct gguf_value *v = gguf_find(g, int_keys[i].key);
        if (v == NULL && int_keys[i].required)
            return gguf_missing_key(g, int_keys[i].key);
        if (v != NULL && v->type == GGUF_ARRAY)
            return unsupported(g, int_keys[i].key, "a number for each layer");
        TRY(gguf_get_int(g, int_keys[i].key, field), err);
    }
    if (gguf_find(g, "llama.attention.layer_norm_rms_epsilon") == NULL)
        return gguf_missing_key(g, "llama.attention.layer_norm_rms_epsilon");
    TRY(gguf_get_double(g, "llama.attention.layer_norm_rms_epsilon", &k->eps), err);
    k->rope_base = 10000.0;
    TRY(gguf_get_double(g, "llama.rope.freq_base", &k->rope_base), err);
    k->rope_factor = k->rope_scale = 1.0;
    TRY(gguf_get_double(g, "llama.rope.scaling.factor", &k->rope_factor), err);
    TRY(gguf_get_double(g, "llama.rope.scale_linear", &k->rope_scale), err);
    TRY(gguf_get_string(g, "llama.rope.scaling.type", &k->rope_scaling), err);
    k->causal = true;
    TRY(gguf_get_bool(g, "llama.attention.causal", &k->causal), err);
err:
    return st;
}

/* What is well-formed but computes something else. */
static enum status check_keys(struct gguf *g, const struct llama_keys *k)
{
    const struct text_span *scaling = &k->rope_scaling;

    if (scaling->data != NULL && (scaling->n_bytes != 4 || memcmp(scaling->data, "none", 4) != 0)) {
        log_error("%s: key llama.rope.scaling.type: RoPE scaling %.*s is not supported in this "
                  "version",
                  g->origin, (int)(scaling->n_bytes < 64 ? scaling->n_bytes : 64), scaling->data);
        return ST_UNSUPPORTED;
    }
    if (scaling->data == NULL && k->rope_factor != 1.0)
        return unsupported(g, "llama.rope.scaling.factor", "RoPE scaling");
    if (k->rope_scale != 1.0)
        return unsupported(g, "llama.rope.scale_linear", "RoPE scaling");
    if (k->n_experts > 0 || k->n_used_experts > 0)
        return unsupported(g, "llama.expert_count", "mixture of experts");
    if (!k->causal)
        return unsupported(g, "llama.attention.causal", "attention to later tokens");
    for (size_t i = 0; i < sizeof harmless_keys / sizeof harmless_keys[0]; i++)
        gguf_find(g, harmless_keys[i]);
    for (int i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->values[i];

        if (!v->used && strncmp(v->key, "llama.", 6) == 0) {
            log_error("%s: byte %zu: key %s may change what the model computes and is not known to "
                      "this version; such models are not supported",
                      g->origin, v->at, v->key);
            return ST_UNSUPPORTED;
        }
    }
    return ST_OK;
}

static enum status check_heads(const struct gguf *g, const struct llama_keys *k, int E)
{
    if (k->H == 0 || (k->key_length < 0 && k->D % k->H != 0)) {
        log_error("%s: key llama.attention.head_count: %d heads do not divide the width %d; the "
                  "file is damaged, get it again",
                  g->origin, k->H, k->D);
        return ST_FORMAT;
    }
    if (k->value_length >= 0 && k->value_length != E) {
        log_error("%s: key llama.attention.value_length: values of %d elements beside keys of %d "
                  "are not supported in this version",
                  g->origin, k->value_length, E);
        return ST_UNSUPPORTED;
    }
    if (k->rope_dims >= 0 && k->rope_dims != E) {
        log_error("%s: key llama.rope.dimension_count: rotating %d of %d elements of a head is not "
                  "supported in this version",
                  g->origin, k->rope_dims, E);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

static enum status read_config(struct gguf *g, struct model_config *c)
{
    struct llama_keys k = {0};
    enum status st;

    TRY(check_kind(g), err);
    TRY(read_keys(g, &k), err);
    TRY(check_keys(g, &k), err);
    const int E = k.key_length >= 0 ? k.key_length : k.H > 0 ? k.D / k.H : 0;
    TRY(check_heads(g, &k, E), err);
    *c = (struct model_config){.family = "llama",
                               .L = k.L,
                               .D = k.D,
                               .F = k.F,
                               .H = k.H,
                               .K = k.K >= 0 ? k.K : k.H,
                               .E = E,
                               .V = k.V, /* -1: as many as there are tokens */
                               .context = k.context,
                               .eps = (float)k.eps,
                               .rope_base = k.rope_base};
err:
    return st;
}

/* ---- template ------------------------------------------------------------------------------- */

static enum status read_template(struct gguf *g, const char *key, const char **out_template)
{
    struct text_span text = {0};
    size_t bad = 0;
    enum status st;

    TRY(gguf_get_string(g, key, &text), err);
    if (text.data == NULL)
        return ST_OK;
    if (text.n_bytes > MAX_TEMPLATE_BYTES || !utf8_valid(text.data, text.n_bytes, &bad) ||
        memchr(text.data, '\0', text.n_bytes) != NULL) {
        log_error("%s: key %s (%zu bytes) must be UTF-8 without NUL, at most %d "
                  "bytes; the file is damaged, get it again",
                  g->origin, key, text.n_bytes, MAX_TEMPLATE_BYTES);
        return ST_FORMAT;
    }
    *out_template = arena_copy(g->arena, text.data, text.n_bytes);
    st = *out_template != NULL ? ST_OK : ST_NOMEM;
err:
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool has_tensor(const struct tensor_list *list, const char *name)
{
    for (int64_t i = 0; i < list->n_tensors; i++)
        if (strcmp(list->tensors[i].name, name) == 0)
            return true;
    return false;
}

/* Whether the list has a bias of any layer's attention.  No key says so; with one of them, binding
 * asks for all. */
static bool has_attention_bias(const struct tensor_list *list)
{
    const struct weight_naming *naming = &weight_naming_gguf;
    const size_t n_prefix = strlen(naming->layer_prefix);

    for (int64_t i = 0; i < list->n_tensors; i++) {
        const char *name = list->tensors[i].name; /* blk.7.attn_q.bias */

        if (strncmp(name, naming->layer_prefix, n_prefix) != 0)
            continue;
        name += n_prefix + strspn(name + n_prefix, "0123456789");
        for (int id = WEIGHT_Q_BIAS; id <= WEIGHT_O_BIAS; id++)
            if (name[0] == '.' && strcmp(name + 1, naming->names[id]) == 0)
                return true;
    }
    return false;
}

enum status gguf_load(struct model_source *source, const uint8_t *data, size_t n_bytes,
                      const char *origin)
{
    struct gguf g = {.origin = origin, .data = data, .n_bytes = n_bytes, .arena = source->arena};
    struct tensor_list list = {0};
    struct model_config *c = &source->config;
    enum status st;

    TRY(gguf_read_values(&g), done);
    TRY(gguf_split_check(&g), done);
    TRY(read_config(&g, c), done);
    TRY(gguf_read_vocab(&g, c, &source->vocab), done);
    TRY(source_check_config(c, origin), done);
    TRY(read_template(&g, "tokenizer.chat_template", &source->chat_template), done);
    TRY(read_template(&g, "tokenizer.chat_template.tool_use", &source->tool_template), done);
    TRY(gguf_read_tensors(&g, &list), done);
    TRY(gguf_split_load(source, &g, &list), done);
    c->tied = !has_tensor(&list, weight_naming_gguf.names[WEIGHT_HEAD]);
    c->attention_bias = has_attention_bias(&list);
    TRY(source_bind(source, &weight_naming_gguf, &list), done);
    source->permuted = true;
    source->gguf = arena_alloc(source->arena, sizeof g);
    if (source->gguf == NULL) {
        st = ST_NOMEM;
        goto done;
    }
    *source->gguf = g;
    source->format = g.version == 2 ? "GGUF v2" : "GGUF v3";
done:
    tensor_list_free(&list);
    return st;
}
