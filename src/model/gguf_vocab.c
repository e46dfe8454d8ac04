/*
 * gguf_vocab.c - the vocabulary that the keys of a GGUF file hold, as a struct vocab_spec.
 *
 * What the keys leave to the reader's knowledge is here: which BOS rule, space rule and white space
 * rule a kind of vocabulary has where no key says so.  A key under "tokenizer." that is neither
 * read nor known to say nothing about ids is refused by name.
 */
#include "model/gguf.h"

enum { MAX_TOKENS = 1 << 24, MAX_MERGES = 1 << 26 };

enum status gguf_missing_key(const struct gguf *g, const char *key)
{
    log_error("%s: key %s is missing; the file was badly converted, get another", g->origin, key);
    return ST_FORMAT;
}

/* An id key; *out stays -1 if it is absent. */
static enum status read_id(struct gguf *g, const char *key, int V, int *out)
{
    int id = -1;
    const enum status st = gguf_get_int(g, key, &id);

    if (st != ST_OK)
        return st;
    if (id >= V) {
        log_error("%s: key %s is %d, but there are only %d tokens; the file was badly converted, "
                  "get another",
                  g->origin, key, id, V);
        return ST_FORMAT;
    }
    *out = id;
    return ST_OK;
}

static enum status read_kinds(struct gguf *g, struct vocab_spec *vocab)
{
    static const uint8_t kind_of[] = {
        /* 0 and the unknown token, 2, are never meant to be found in a text. */
        TOKEN_CONTROL,      TOKEN_NORMAL, TOKEN_CONTROL, TOKEN_CONTROL,
        TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE};
    const struct gguf_value *v = gguf_find(g, "tokenizer.ggml.token_type");

    if (v == NULL)
        return ST_OK;
    if (v->type != GGUF_ARRAY || (v->elem != GGUF_I32 && v->elem != GGUF_U32) ||
        v->n != (uint64_t)vocab->n_tokens) {
        log_error("%s: byte %zu: key tokenizer.ggml.token_type must be an array of %d int32, one "
                  "for each token; the file was badly converted, get another",
                  g->origin, v->at, vocab->n_tokens);
        return ST_FORMAT;
    }
    uint8_t *kinds = arena_alloc(g->arena, (size_t)vocab->n_tokens);
    if (kinds == NULL)
        return ST_NOMEM;
    for (int i = 0; i < vocab->n_tokens; i++) {
        uint32_t kind;

        memcpy(&kind, v->data + 4 * (size_t)i, sizeof kind);
        if (kind >= sizeof kind_of) {
            log_error("%s: key tokenizer.ggml.token_type: token %d is of unknown kind %u; the file "
                      "is damaged, get it again",
                      g->origin, i, kind);
            return ST_FORMAT;
        }
        kinds[i] = kind_of[kind];
    }
    vocab->kinds = kinds;
    return ST_OK;
}

/* A short string key as text of its own, dflt where it is absent. */
static enum status read_word(struct gguf *g, const char *key, const char *dflt, const char **out)
{
    struct text_span span = {dflt, strlen(dflt)};
    const enum status st = gguf_get_string(g, key, &span);

    if (st != ST_OK)
        return st;
    *out = arena_copy(g->arena, span.data, span.n_bytes < 64 ? span.n_bytes : 64);
    return *out != NULL ? ST_OK : ST_NOMEM;
}

/* The scores that merging follows. */
static enum status read_scores(struct gguf *g, struct vocab_spec *vocab)
{
    const struct gguf_value *v = gguf_find(g, "tokenizer.ggml.scores");

    if (v == NULL)
        return gguf_missing_key(g, "tokenizer.ggml.scores");
    if (v->type != GGUF_ARRAY || v->elem != GGUF_F32 || v->n != (uint64_t)vocab->n_tokens) {
        log_error("%s: byte %zu: key tokenizer.ggml.scores must be an array of %d float32, one for "
                  "each token; the file was badly converted, get another",
                  g->origin, v->at, vocab->n_tokens);
        return ST_FORMAT;
    }
    float *scores = arena_alloc(g->arena, (size_t)vocab->n_tokens * sizeof *scores);
    if (scores == NULL)
        return ST_NOMEM;
    memcpy(scores, v->data, (size_t)vocab->n_tokens * sizeof *scores);
    vocab->scores = scores;
    return ST_OK;
}

static bool span_is(struct text_span span, const char *text)
{
    return span.n_bytes == strlen(text) && memcmp(span.data, text, span.n_bytes) == 0;
}

/* The special tokens of Phi-3 take the white space behind them with them, but for three.  No key
 * says so; the family's tokenizer.json does. */
static enum status read_phi3_flags(struct gguf *g, struct vocab_spec *vocab)
{
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    struct text_span family = {"", 0};
    enum status st = ST_OK;

    TRY(gguf_get_string(g, "general.architecture", &family), err);
    if (!span_is(family, "phi3") || vocab->kinds == NULL)
        return ST_OK;
    uint8_t *flags = arena_alloc(g->arena, (size_t)vocab->n_tokens);
    if (flags == NULL)
        return ST_NOMEM;
    for (int i = 0; i < vocab->n_tokens; i++) {
        const struct text_span token = vocab->tokens[i];
        const bool special =
            vocab->kinds[i] == TOKEN_CONTROL || vocab->kinds[i] == TOKEN_USER_DEFINED;
        const bool strips = special && !span_is(token, plain[0]) && !span_is(token, plain[1]) &&
                            !span_is(token, plain[2]);

        flags[i] = strips ? TOKEN_RSTRIP : 0;
    }
    vocab->flags = flags;
err:
    return st;
}

/* What only vocabularies of characters have. */
static enum status read_chars(struct gguf *g, struct vocab_spec *vocab)
{
    const bool by_score = strcmp(vocab->model, "spm") == 0;
    enum status st = ST_OK;

    if (gguf_find(g, "tokenizer.ggml.precompiled_charsmap") != NULL) {
        log_error("%s: key tokenizer.ggml.precompiled_charsmap: a table of normal forms is not "
                  "supported in this version",
                  g->origin);
        return ST_UNSUPPORTED;
    }
    if (by_score)
        TRY(read_scores(g, vocab), err);
    vocab->space_prefix = by_score;
    TRY(gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &vocab->space_prefix), err);
    TRY(read_id(g, "tokenizer.ggml.unknown_token_id", vocab->n_tokens, &vocab->unk_id), err);
    vocab->has_unk = gguf_find(g, "tokenizer.ggml.unknown_token_id") != NULL;
    if (by_score)
        TRY(read_phi3_flags(g, vocab), err);
err:
    return st;
}

/* The names of GGUF for kinds of vocabularies, and ours. */
static const char *model_of(const char *name)
{
    static const char *const names[][2] = {
        {"gpt2", "bpe"}, {"llama", "spm"}, {"gemma4", "char-bpe"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i][0]) == 0)
            return names[i][1];
    return name; /* tokenizer_create refuses it by this name */
}

static enum status read_tokens(struct gguf *g, struct model_config *c, struct vocab_spec *vocab)
{
    const char *model = NULL;
    enum status st;

    vocab->origin = g->origin;
    TRY(read_word(g, "tokenizer.ggml.model", "(none)", &model), err);
    vocab->model = model_of(model);
    TRY(read_word(g, "tokenizer.ggml.pre", "(none)", &vocab->pre), err);
    TRY(gguf_get_strings(g, "tokenizer.ggml.tokens", MAX_TOKENS, &vocab->tokens, &vocab->n_tokens),
        err);
    if (vocab->n_tokens == 0)
        return gguf_missing_key(g, "tokenizer.ggml.tokens");
    TRY(gguf_get_strings(g, "tokenizer.ggml.merges", MAX_MERGES, &vocab->merges, &vocab->n_merges),
        err);
    if (c->V < 0)
        c->V = vocab->n_tokens;
    if (vocab->n_tokens > c->V) {
        log_error("%s: key tokenizer.ggml.tokens has %d tokens where %s.vocab_size is %d; the file "
                  "was badly converted, get another",
                  g->origin, vocab->n_tokens, g->arch, c->V);
        return ST_FORMAT;
    }
    TRY(read_kinds(g, vocab), err);
    if (strcmp(vocab->model, "spm") == 0 || strcmp(vocab->model, "char-bpe") == 0)
        TRY(read_chars(g, vocab), err);
err:
    return st;
}

static void add_end(struct model_config *c, int id)
{
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id)
            return;
    if (id >= 0 && c->n_eos < MODEL_MAX_EOS)
        c->eos_ids[c->n_eos++] = id;
}

/* Tokens that end a turn and that many files name in no key. */
static void add_known_ends(struct model_config *c, const struct vocab_spec *vocab)
{
    static const char *const known[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"};

    for (int id = 0; vocab->kinds != NULL && id < vocab->n_tokens; id++) {
        const struct text_span *token = &vocab->tokens[id];

        if (vocab->kinds[id] != TOKEN_CONTROL && vocab->kinds[id] != TOKEN_USER_DEFINED)
            continue;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (token->n_bytes == strlen(known[i]) &&
                memcmp(token->data, known[i], token->n_bytes) == 0)
                add_end(c, id);
    }
}

/* BOS, and every token that ends an answer: of the text, of the turn, of the message. */
static enum status read_ids(struct gguf *g, struct model_config *c, struct vocab_spec *vocab)
{
    static const char *const end_keys[] = {"tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.eot_token_id",
                                           "tokenizer.ggml.eom_token_id"};
    int ids[] = {-1, -1, -1};
    enum status st;

    c->bos_id = -1;
    TRY(read_id(g, "tokenizer.ggml.bos_token_id", vocab->n_tokens, &c->bos_id), err);
    for (int i = 0; i < 3; i++) {
        TRY(read_id(g, end_keys[i], vocab->n_tokens, &ids[i]), err);
        add_end(c, ids[i]);
    }
    add_known_ends(c, vocab);
    vocab->bos_id = c->bos_id;
    vocab->eos_id = ids[0];
err:
    return st;
}

/* Tokens that only chat templates read: what is no id is none, as files write where there is none.
 */
static void read_names(struct gguf *g, struct vocab_spec *vocab)
{
    static const char *const keys[TOKEN_NAME_COUNT] = {
        [TOKEN_NAME_UNK] = "tokenizer.ggml.unknown_token_id",
        [TOKEN_NAME_SEP] = "tokenizer.ggml.seperator_token_id",
        [TOKEN_NAME_PAD] = "tokenizer.ggml.padding_token_id",
        [TOKEN_NAME_CLS] = "tokenizer.ggml.cls_token_id",
        [TOKEN_NAME_MASK] = "tokenizer.ggml.mask_token_id",
    };

    for (int i = 0; i < TOKEN_NAME_COUNT; i++) {
        const struct gguf_value *v = gguf_find(g, keys[i]);
        uint32_t id;

        if (v == NULL || v->type != GGUF_U32)
            continue;
        memcpy(&id, v->data, sizeof id);
        if (id < (uint32_t)vocab->n_tokens)
            vocab->named[i] = vocab->tokens[id];
    }
}

/* Whether BOS and EOS are put around each text. */
static enum status read_ends(struct gguf *g, struct vocab_spec *vocab)
{
    enum status st;

    vocab->add_bos = vocab_default_bos(vocab->model, vocab->pre) && vocab->bos_id >= 0;
    TRY(gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &vocab->add_bos), err);
    TRY(gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &vocab->add_eos), err);
    /* Files of Gemma 4 say false where the family needs it. */
    if (strcmp(vocab->model, "char-bpe") == 0 && vocab->bos_id >= 0)
        vocab->add_bos = true;
err:
    return st;
}

/* Say nothing about the ids of a text, given the kinds of vocabularies that there are. */
static const char *const harmless_keys[] = {
    "chat_template", /* and by name, chat_template.NAME: gguf_config.c reads what it wants */
    "chat_templates",
    "huggingface.json", /* what the other keys were made of */
    /* of merging by score, or of characters only */
    "ggml.scores",
    "ggml.add_space_prefix",
    /* of texts in pairs, and of classifiers */
    "ggml.add_sep_token",
    "ggml.token_type_count",
    /* of filling in the middle, which is written with the tokens themselves */
    "ggml.prefix_token_id",
    "ggml.suffix_token_id",
    "ggml.middle_token_id",
    "ggml.fim_pre_token_id",
    "ggml.fim_suf_token_id",
    "ggml.fim_mid_token_id",
    "ggml.fim_pad_token_id",
    "ggml.fim_rep_token_id",
    "ggml.fim_sep_token_id",
};

static bool is_harmless(const char *name)
{
    static const char named_template[] = "chat_template.";

    for (size_t i = 0; i < sizeof harmless_keys / sizeof harmless_keys[0]; i++)
        if (strcmp(name, harmless_keys[i]) == 0)
            return true;
    return strncmp(name, named_template, sizeof named_template - 1) == 0;
}

/* After all others have been read. */
static enum status check_keys(struct gguf *g)
{
    static const char prefix[] = "tokenizer.";
    bool removes_spaces = false;
    enum status st;

    TRY(gguf_get_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &removes_spaces), err);
    if (removes_spaces) {
        log_error("%s: key tokenizer.ggml.remove_extra_whitespaces: runs of spaces made one are "
                  "not supported in this version",
                  g->origin);
        return ST_UNSUPPORTED;
    }
    for (int i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->values[i];

        if (strncmp(v->key, prefix, sizeof prefix - 1) != 0 || v->used ||
            is_harmless(v->key + sizeof prefix - 1))
            continue;
        log_error("%s: byte %zu: key %.80s may change the ids of a text and is not known to this "
                  "version",
                  g->origin, v->at, v->key);
        return ST_UNSUPPORTED;
    }
err:
    return st;
}

enum status gguf_read_vocab(struct gguf *g, struct model_config *c, struct vocab_spec *vocab)
{
    enum status st;

    TRY(read_tokens(g, c, vocab), err);
    TRY(read_ids(g, c, vocab), err);
    TRY(read_ends(g, vocab), err);
    read_names(g, vocab);
    TRY(check_keys(g), err);
err:
    return st;
}

enum status gguf_load_vocab(struct model_source *source, const uint8_t *data, size_t n_bytes,
                            const char *origin)
{
    struct gguf g = {.origin = origin, .data = data, .n_bytes = n_bytes, .arena = source->arena};
    enum status st;

    TRY(gguf_read_values(&g), err);
    source->config.V = -1;
    TRY(gguf_read_vocab(&g, &source->config, &source->vocab), err);
    source->format = g.version == 2 ? "GGUF v2" : "GGUF v3";
err:
    return st;
}
