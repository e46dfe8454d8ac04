/*
 * tokenizer_json.c - reads a Hugging Face tokenizer.json (and tokenizer_config.json beside it) into
 * a struct vocab_spec.
 *
 * The file can describe far more than byte-level BPE.  Whatever would change ids or text and is not
 * understood here is refused by name; nothing is ignored that the reference would obey.
 */
#include <limits.h>
#include <stdio.h>

#include "text/tokenizer_json.h"

enum { FILE_LIMIT_BYTES = 256 << 20 };

/* flags: of jansson, beside the refusal of duplicate keys. */
static enum status read_json(const char *path, size_t flags, json_t **out_json)
{
    struct buf file = {0};
    enum status st = ST_OK;
    json_error_t error;

    TRY(file_read(path, FILE_LIMIT_BYTES, &file), done);
    *out_json =
        json_loadb((const char *)file.data, file.n_bytes, JSON_REJECT_DUPLICATES | flags, &error);
    if (*out_json == NULL) {
        log_error("%s: line %d column %d: %s", path, error.line, error.column, error.text);
        st = ST_FORMAT;
    } else if (!json_is_object(*out_json)) {
        log_error("%s: line 1: must be a JSON object", path);
        st = ST_FORMAT;
    }
done:
    buf_free(&file);
    return st;
}

/* ---- model and tokens ----------------------------------------------------------------------- */

/* model[key], which must be true or false; keeps *flag where it is not there. */
static enum status read_flag(const struct loader *l, const json_t *model, const char *key,
                             bool *flag)
{
    const json_t *value = json_object_get(model, key);

    if (value == NULL)
        return ST_OK;
    if (!json_is_boolean(value)) {
        log_error("%s: model.%s must be true or false", l->path, key);
        return ST_FORMAT;
    }
    *flag = json_is_true(value);
    return ST_OK;
}

static enum status check_model(struct loader *l, json_t *model)
{
    static const char *const keys[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "continuing_subword_prefix",
                                       "end_of_word_suffix",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "ignore_merges",
                                       "vocab",
                                       "merges",
                                       NULL};
    static const char *const nulls[] = {"continuing_subword_prefix", "end_of_word_suffix", NULL};
    static const struct wanted_flag flags[] = {{"byte_fallback", false, false},
                                               {NULL, false, false}};
    const json_t *dropout = json_object_get(model, "dropout");
    const json_t *unk = json_object_get(model, "unk_token");
    bool fallback = false;
    enum status st = ST_OK;

    if (!json_is_object(model))
        return loader_bad_type(l, "model", "an object");
    /* Files of the first versions name no type. */
    if (json_object_get(model, "type") != NULL && strcmp(loader_type(model), "BPE") != 0) {
        log_error("%s: model %s is not supported; this version has BPE", l->path,
                  loader_type(model));
        return ST_UNSUPPORTED;
    }
    TRY(loader_check_keys(l, model, "model", keys), done);
    TRY(loader_check_nulls(l, model, "model.", nulls), done);
    TRY(read_flag(l, model, "ignore_merges", &l->rules.ignore_merges), done);
    TRY(read_flag(l, model, "fuse_unk", &l->rules.fuse_unk), done);
    if (l->rules.chars)
        TRY(read_flag(l, model, "byte_fallback", &fallback), done);
    else
        TRY(loader_check_flags(l, model, "model", flags), done);
    if (fallback != l->byte_decoder) {
        log_error(
            "%s: model.byte_fallback without a decoder ByteFallback, or the other way round, is "
            "not supported",
            l->path);
        return ST_UNSUPPORTED;
    }
    if (dropout != NULL && !json_is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) <= 0)) {
        log_error("%s: model.dropout is not supported: it makes ids random; set it to null",
                  l->path);
        return ST_UNSUPPORTED;
    }
    l->has_unk = unk != NULL && !json_is_null(unk);
    if (!json_is_object(json_object_get(model, "vocab")))
        return loader_bad_type(l, "model.vocab", "an object");
    if (!json_is_array(json_object_get(model, "merges")))
        return loader_bad_type(l, "model.merges", "a list");
done:
    return st;
}

/* Give token `id` its text. */
static enum status set_token(struct loader *l, const char *where, json_int_t id, const char *text,
                             size_t n_bytes, enum token_kind kind)
{
    if (id < 0 || id >= l->spec.n_tokens) {
        log_error("%s: %s \"%.60s\" has id %lld; ids must be 0 to %d without holes", l->path, where,
                  text, (long long)id, l->spec.n_tokens - 1);
        return ST_FORMAT;
    }
    if (l->tokens[id].data != NULL &&
        (l->tokens[id].n_bytes != n_bytes || memcmp(l->tokens[id].data, text, n_bytes) != 0)) {
        log_error("%s: %s \"%.60s\" has id %lld, which is already that of \"%.60s\"", l->path,
                  where, text, (long long)id, l->tokens[id].data);
        return ST_FORMAT;
    }
    l->tokens[id] = (struct text_span){text, n_bytes};
    l->kinds[id] = (uint8_t)kind;
    return ST_OK;
}

static enum status read_added_token(struct loader *l, json_t *added)
{
    static const char *const keys[] = {"id",     "content",    "single_word", "lstrip",
                                       "rstrip", "normalized", "special",     NULL};
    static const struct {
        const char *key;
        enum token_flags flag;
    } flags[] = {{"lstrip", TOKEN_LSTRIP},
                 {"rstrip", TOKEN_RSTRIP},
                 {"single_word", TOKEN_SINGLE_WORD},
                 {"normalized", TOKEN_NORMALIZED}};
    const json_t *id = json_object_get(added, "id"), *text = json_object_get(added, "content");
    const json_t *special = json_object_get(added, "special");
    enum status st = ST_OK;

    if (!json_is_integer(id) || !json_is_string(text) || !json_is_boolean(special))
        return loader_bad_type(l, "each of added_tokens", "an object with id, content and special");
    TRY(loader_check_keys(l, added, "added_tokens", keys), done);
    TRY(set_token(l, "added token", json_integer_value(id), json_string_value(text),
                  json_string_length(text),
                  json_is_true(special) ? TOKEN_CONTROL : TOKEN_USER_DEFINED),
        done);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const json_t *flag = json_object_get(added, flags[i].key);

        if (flag != NULL && !json_is_boolean(flag))
            return loader_bad_type(l, flags[i].key, "true or false");
        if (json_is_true(flag))
            l->flags[json_integer_value(id)] |= (uint8_t)flags[i].flag;
    }
done:
    return st;
}

/* "<0x0A>" and the like. */
static bool is_byte_token(const char *text)
{
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>' &&
           strspn(text + 3, "0123456789ABCDEF") == 2;
}

static enum status read_tokens(struct loader *l, json_t *vocab, const json_t *added)
{
    const char *text = NULL;
    json_t *id = NULL;
    size_t n_tokens = json_object_size(vocab);
    enum status st = ST_OK;

    if (added != NULL && !json_is_array(added))
        return loader_bad_type(l, "added_tokens", "a list");
    for (size_t i = 0; i < json_array_size(added); i++) {
        text = json_string_value(json_object_get(json_array_get(added, i), "content"));
        n_tokens += text == NULL || json_object_get(vocab, text) == NULL;
    }
    if (n_tokens > INT_MAX / 2)
        return loader_bad_type(l, "model.vocab", "smaller");
    l->spec.n_tokens = (int)n_tokens;
    l->tokens = host_zalloc(n_tokens * sizeof *l->tokens);
    l->kinds = host_zalloc(n_tokens);
    l->flags = host_zalloc(n_tokens);
    if (l->tokens == NULL || l->kinds == NULL || l->flags == NULL)
        return ST_NOMEM;

    json_object_foreach(vocab, text, id)
    {
        if (!json_is_integer(id))
            return loader_bad_type(l, "each id in model.vocab", "a number");
        TRY(set_token(l, "token", json_integer_value(id), text, strlen(text),
                      l->byte_decoder && is_byte_token(text) ? TOKEN_BYTE : TOKEN_NORMAL),
            done);
    }
    for (size_t i = 0; i < json_array_size(added); i++)
        TRY(read_added_token(l, json_array_get(added, i)), done);
    TRY(loader_check_order(l, added), done);
done:
    return st;
}

/* Merges are "left right" or ["left", "right"]. */
static enum status read_merges(struct loader *l, const json_t *merges)
{
    const size_t n_merges = json_array_size(merges);

    if (n_merges > INT_MAX / 2)
        return loader_bad_type(l, "model.merges", "shorter");
    l->spec.n_merges = (int)n_merges;
    l->merges = host_zalloc(n_merges * sizeof *l->merges);
    if (l->merges == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i < n_merges; i++) {
        const json_t *merge = json_array_get(merges, i);
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        const size_t n_left = json_string_length(left), n_right = json_string_length(right);

        if (json_is_string(merge)) {
            l->merges[i] = (struct text_span){json_string_value(merge), json_string_length(merge)};
            continue;
        }
        if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
            return loader_bad_type(l, "each of model.merges",
                                   "\"left right\" or [\"left\", \"right\"]");
        char *text = arena_alloc(l->arena, n_left + 1 + n_right);
        if (text == NULL)
            return ST_NOMEM;
        memcpy(text, json_string_value(left), n_left);
        text[n_left] = ' ';
        memcpy(text + n_left + 1, json_string_value(right), n_right);
        l->merges[i] = (struct text_span){text, n_left + 1 + n_right};
    }
    return ST_OK;
}

/* ---- tokenizer_config.json ------------------------------------------------------------------ */

/* The id of config[key], a token's text or an object with it; keeps *id if there is none. */
static enum status read_config_token(const struct loader *l, const char *key, int *id)
{
    const json_t *value = json_object_get(l->config, key);
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_string(text)) {
        log_error("%s: %s in tokenizer_config.json must be a token", l->path, key);
        return ST_FORMAT;
    }
    for (int i = 0; i < l->spec.n_tokens; i++) {
        if (l->tokens[i].n_bytes != json_string_length(text) || l->tokens[i].data == NULL ||
            memcmp(l->tokens[i].data, json_string_value(text), l->tokens[i].n_bytes) != 0)
            continue;
        if (*id >= 0 && *id != i) {
            log_error("%s: post_processor adds token %d but tokenizer_config.json says %s is %d",
                      l->path, *id, key, i);
            return ST_UNSUPPORTED;
        }
        *id = i;
        return ST_OK;
    }
    log_error("%s: %s \"%.60s\" of tokenizer_config.json is not in the vocabulary", l->path, key,
              json_string_value(text));
    return ST_FORMAT;
}

/* The text of config[key] where it is not looked for among the tokens. */
static void read_config_name(const struct loader *l, const char *key, struct text_span *out)
{
    const json_t *value = json_object_get(l->config, key);
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;

    if (json_is_string(text))
        *out = (struct text_span){json_string_value(text), json_string_length(text)};
}

static enum status read_config_flag(const struct loader *l, const char *key, bool *flag)
{
    const json_t *value = json_object_get(l->config, key);

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_boolean(value)) {
        log_error("%s: %s in tokenizer_config.json must be true or false", l->path, key);
        return ST_FORMAT;
    }
    if (l->has_template && json_is_true(value) != *flag) {
        log_error("%s: post_processor and %s in tokenizer_config.json contradict each other; "
                  "correct one of them",
                  l->path, key);
        return ST_UNSUPPORTED;
    }
    *flag = json_is_true(value);
    return ST_OK;
}

static bool prepends(const struct text_rules *rules)
{
    bool any = false;

    for (int i = 0; i < rules->n_normal; i++)
        any = any || rules->normal[i].kind == NORMAL_PREPEND;
    for (int i = 0; i < rules->n_late; i++)
        any = any || rules->late[i].kind != NORMAL_REPLACE;
    return any;
}

static enum status read_config(struct loader *l)
{
    enum status st = ST_OK;

    TRY(read_config_token(l, "bos_token", &l->spec.bos_id), done);
    TRY(read_config_token(l, "eos_token", &l->spec.eos_id), done);
    for (int i = 0; i < TOKEN_NAME_COUNT; i++)
        read_config_name(l, token_name_key((enum token_name)i), &l->spec.named[i]);
    TRY(read_config_flag(l, "add_bos_token", &l->spec.add_bos), done);
    TRY(read_config_flag(l, "add_eos_token", &l->spec.add_eos), done);
    if (json_is_true(json_object_get(l->config, "add_prefix_space")) && !prepends(&l->rules)) {
        log_error("%s: add_prefix_space in tokenizer_config.json is not supported where "
                  "tokenizer.json puts no space before a text",
                  l->path);
        st = ST_UNSUPPORTED;
    }
done:
    return st;
}

/* tokenizer_config.json beside the file; none is fine. */
static enum status load_config(struct loader *l)
{
    const char *slash = strrchr(l->path, '/');
    struct buf path = {0};
    enum status st = ST_OK;
    FILE *file = NULL;

    TRY(buf_put(&path, l->path, slash != NULL ? (size_t)(slash - l->path) + 1 : 0), done);
    TRY(buf_put(&path, "tokenizer_config.json", sizeof "tokenizer_config.json"), done);
    file = fopen((const char *)path.data, "re");
    if (file == NULL)
        goto done;
    fclose(file);
    /* It says that a length is not bounded by an integer of 31 digits; integers are not looked at.
     */
    TRY(read_json((const char *)path.data, JSON_DECODE_INT_AS_REAL, &l->config), done);
done:
    buf_free(&path);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Whether any token asks for something that changes how it is found here. */
static bool has_flags(const struct loader *l)
{
    const unsigned idle = l->rules.n_normal == 0 ? TOKEN_NORMALIZED : 0;
    bool any = false;

    for (int i = 0; i < l->spec.n_tokens && !any; i++)
        any = (l->flags[i] & ~idle) != 0;
    return any;
}

/* The unknown token of a vocabulary of characters. */
static enum status find_unk(struct loader *l, const json_t *model)
{
    const json_t *unk = json_object_get(model, "unk_token");

    if (!l->has_unk || !l->rules.chars)
        return ST_OK;
    for (int i = 0; i < l->spec.n_tokens && !l->spec.has_unk; i++)
        if (l->tokens[i].data != NULL && json_is_string(unk) &&
            l->tokens[i].n_bytes == json_string_length(unk) &&
            memcmp(l->tokens[i].data, json_string_value(unk), l->tokens[i].n_bytes) == 0) {
            l->spec.has_unk = true;
            l->spec.unk_id = i;
        }
    return l->spec.has_unk ? ST_OK : loader_bad_type(l, "model.unk_token", "a token");
}

static enum status load(struct loader *l, struct tokenizer **out_tokenizer)
{
    struct tokenizer *t = NULL;
    enum status st = ST_OK;
    int byte = 0;

    TRY(read_json(l->path, 0, &l->root), done);
    TRY(load_config(l), done);
    json_t *model = json_object_get(l->root, "model");
    TRY(loader_read_pipeline(l), done);
    TRY(check_model(l, model), done);
    TRY(read_tokens(l, json_object_get(model, "vocab"), json_object_get(l->root, "added_tokens")),
        done);
    TRY(read_merges(l, json_object_get(model, "merges")), done);
    TRY(read_config(l), done);
    l->spec.tokens = l->tokens;
    l->spec.kinds = l->kinds;
    l->spec.merges = l->merges;
    l->spec.flags = has_flags(l) ? l->flags : NULL;
    l->rules.name = rules_name(&l->rules);
    l->spec.rules = &l->rules;
    TRY(find_unk(l, model), done);
    TRY(tokenizer_create(&l->spec, &t), done);
    while (byte < 256 && t->byte_ids[byte] >= 0)
        byte++;
    if (l->has_unk && !l->rules.chars && byte < 256) {
        log_error("%s: model.unk_token is not supported where a byte (0x%02x) has no token",
                  l->path, (unsigned)byte);
        st = ST_UNSUPPORTED;
        goto done;
    }
    *out_tokenizer = t;
    t = NULL;
done:
    tokenizer_destroy(t);
    return st;
}

enum status tokenizer_load_json(const char *path, struct tokenizer **out_tokenizer)
{
    struct loader l = {
        .path = path,
        .spec = {.origin = path, .model = "bpe", .bos_id = -1, .eos_id = -1},
    };
    enum status st = arena_create(1 << 20, &l.arena);

    if (st == ST_OK)
        st = load(&l, out_tokenizer);
    json_decref(l.config);
    json_decref(l.root);
    host_free(l.tokens);
    host_free(l.merges);
    host_free(l.kinds);
    host_free(l.flags);
    arena_destroy(l.arena);
    return st;
}
