/*
 * named.c - the texts of tokens that a model file names: bos_token, unk_token, pad_token and the
 * like, which chat templates read.
 *
 * They need not be tokens of the vocabulary.  BOS and EOS themselves, which have ids, are read with
 * the rest (tokenizer_json.c, and model/ for GGUF files).
 */
#include "text/internal.h"

const char *token_name_key(enum token_name name)
{
    static const char *const keys[TOKEN_NAME_COUNT] = {"unk_token", "sep_token", "pad_token",
                                                       "cls_token", "mask_token"};

    return keys[name];
}

enum status named_take(struct tokenizer *t, const struct vocab_spec *spec)
{
    for (int i = 0; i < TOKEN_NAME_COUNT; i++) {
        const struct text_span *text = &spec->named[i];

        if (text->data == NULL)
            continue;
        t->named[i] = host_strndup(text->data, text->n_bytes);
        if (t->named[i] == NULL)
            return ST_NOMEM;
    }
    return ST_OK;
}

void named_hash(struct hash_state *state, const struct tokenizer *t)
{
    for (int32_t i = 0; i < TOKEN_NAME_COUNT; i++) {
        if (t->named[i] == NULL)
            continue;
        hash_add(state, &i, sizeof i);
        hash_add(state, t->named[i], strlen(t->named[i]) + 1);
    }
}

void named_free(struct tokenizer *t)
{
    for (int i = 0; i < TOKEN_NAME_COUNT; i++)
        host_free(t->named[i]);
}

const char *tokenizer_named(const struct tokenizer *t, enum token_name name)
{
    return t->named[name];
}
