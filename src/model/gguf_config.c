/*
 * gguf_config.c - what the keys of a GGUF file mean beside hyper-parameters (gguf_hparams.c) and
 * vocabulary (gguf_vocab.c): the chat template; and all of a file put together.
 *
 * Keys of other kinds (authors, licences, sampling advice) are not looked at.
 */
#include <stdio.h>

#include "model/gguf.h"

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

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

/* Whether the list has a weight of ids first .. last in any layer.  No key says whether there are
 * biases; with one of them, binding asks for all. */
static bool has_any(const struct tensor_list *list, enum weight_id first, enum weight_id last)
{
    const struct weight_naming *naming = &weight_naming_gguf;
    const size_t n_prefix = strlen(naming->layer_prefix);

    for (int64_t i = 0; i < list->n_tensors; i++) {
        const char *name = list->tensors[i].name; /* blk.7.attn_q.bias */

        if (strncmp(name, naming->layer_prefix, n_prefix) != 0)
            continue;
        name += n_prefix + strspn(name + n_prefix, "0123456789");
        for (int s = 0; s < naming->n_spellings; s++)
            if (naming->spellings[s].id >= first && naming->spellings[s].id <= last &&
                name[0] == '.' && strcmp(name + 1, naming->spellings[s].name) == 0)
                return true;
    }
    return false;
}

/* rope_freqs.weight: what the frequencies of a scaled RoPE are divided by. */
static enum status read_rope_divisors(struct tensor_list *list, struct model_config *c)
{
    static const char name[] = "rope_freqs.weight";

    for (int64_t i = 0; i < list->n_tensors; i++) {
        struct source_tensor *t = &list->tensors[i];
        float divisor;

        if (strcmp(t->name, name) != 0)
            continue;
        if (t->type != TENSOR_F32 || t->n_dims != 1 || t->dims[0] != c->E / 2) {
            log_error("%s: tensor %s must be %d float32, one for each pair of a head; the file was "
                      "badly converted, get another",
                      t->origin, name, c->E / 2);
            return ST_FORMAT;
        }
        for (int e = 0; e < c->E / 2; e++) {
            memcpy(&divisor, t->data + sizeof divisor * (size_t)e, sizeof divisor);
            if (!(divisor >= 1.0f && divisor <= 1e6f)) {
                log_error("%s: tensor %s: element %d is %g, not 1 to 1000000; the file is damaged, "
                          "get it again",
                          t->origin, name, e, (double)divisor);
                return ST_FORMAT;
            }
            c->rope.divisors[e] =
                (c->rope.scaling[0] != '\0' ? c->rope.divisors[e] : 1.0) * (double)divisor;
        }
        memcpy(c->rope.scaling, "by tensor", sizeof "by tensor");
        t->bound = true;
    }
    return ST_OK;
}

static enum status set_layers_key(struct model_source *source, const char *arch)
{
    char key[64];

    snprintf(key, sizeof key, "%s.block_count", arch);
    source->layers_key = arena_copy(source->arena, key, strlen(key));
    return source->layers_key != NULL ? ST_OK : ST_NOMEM;
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
    TRY(gguf_read_hparams(&g, &source->family, c), done);
    TRY(gguf_read_vocab(&g, c, &source->vocab), done);
    TRY(source_check_config(c, origin), done);
    TRY(read_template(&g, "tokenizer.chat_template", &source->chat_template), done);
    TRY(read_template(&g, "tokenizer.chat_template.tool_use", &source->tool_template), done);
    TRY(gguf_read_tensors(&g, &list), done);
    TRY(gguf_split_load(source, &g, &list), done);
    c->tied = !has_tensor(&list, "output.weight");
    c->qkv_bias = c->qkv_bias || has_any(&list, WEIGHT_Q_BIAS, WEIGHT_V_BIAS);
    c->o_bias = has_any(&list, WEIGHT_O_BIAS, WEIGHT_O_BIAS);
    TRY(read_rope_divisors(&list, c), done);
    TRY(set_layers_key(source, g.arch), done);
    TRY(source_bind(source, &weight_naming_gguf, &list), done);
    source->permuted = source->family->gguf_permuted;
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
