/*
 * tokenizer.c - builds a tokeniser from a vocabulary and answers what its tokens stand for.
 *
 * Tokens are checked in vocab.c, model files are read elsewhere (tokenizer_json.c, model/),
 * encoding is in encode.c.
 */
#include <assert.h>
#include <stdio.h>

#include "text/words.h"

/* ---- checks --------------------------------------------------------------------------------- */

/* What can be said without looking at the tokens. */
static enum status check_spec(const struct vocab_spec *spec)
{
    static const char *const models[] = {"bpe", "spm", "char-bpe"};
    char names[512];
    int model = 0;

    while (model < 3 && strcmp(spec->model, models[model]) != 0)
        model++;
    if (model == 3) {
        log_error(
            "%s: tokeniser model %s is not supported; this version has: bpe (byte-level), spm "
            "(by score), char-bpe (of characters)",
            spec->origin, spec->model);
        return ST_UNSUPPORTED;
    }
    if (model == 0 && spec->rules == NULL && rules_find(spec->pre) == NULL) {
        log_error("%s: pre-tokeniser %s is not supported; this version has: %s", spec->origin,
                  spec->pre, rules_names(names, sizeof names));
        return ST_UNSUPPORTED;
    }
    if (spec->n_tokens <= 0 || spec->n_merges < 0) {
        log_error("%s: a vocabulary of %d tokens and %d merges; is the file whole?", spec->origin,
                  spec->n_tokens, spec->n_merges);
        return ST_FORMAT;
    }
    if (model == 1 && spec->scores == NULL) {
        log_error("%s: a vocabulary merged by score has no scores; get another file", spec->origin);
        return ST_FORMAT;
    }
    if (spec->bos_id < -1 || spec->bos_id >= spec->n_tokens || spec->eos_id < -1 ||
        spec->eos_id >= spec->n_tokens) {
        log_error("%s: BOS token %d or EOS token %d is not among the %d tokens", spec->origin,
                  spec->bos_id, spec->eos_id, spec->n_tokens);
        return ST_FORMAT;
    }
    if (spec->has_unk && (spec->unk_id < 0 || spec->unk_id >= spec->n_tokens)) {
        log_error("%s: the unknown token %d is not among the %d tokens", spec->origin, spec->unk_id,
                  spec->n_tokens);
        return ST_FORMAT;
    }
    if ((spec->add_bos && spec->bos_id < 0) || (spec->add_eos && spec->eos_id < 0)) {
        log_error("%s: asks for a %s token before or after each text but names none", spec->origin,
                  spec->add_bos && spec->bos_id < 0 ? "BOS" : "EOS");
        return ST_FORMAT;
    }
    return ST_OK;
}

/* ---- rules ---------------------------------------------------------------------------------- */

bool vocab_default_bos(const char *model, const char *pre)
{
    const struct text_rules *rules = strcmp(model, "bpe") == 0 ? rules_find(pre) : NULL;

    return rules != NULL ? rules->add_bos : strcmp(model, "bpe") != 0;
}

/* The rules of a vocabulary of characters as GGUF files have them. */
static void rules_of_chars(const struct vocab_spec *spec, struct text_rules *rules)
{
    *rules = (struct text_rules){.name = spec->space_prefix ? "spm" : "spm-bare",
                                 .chars = true,
                                 .by_score = strcmp(spec->model, "spm") == 0,
                                 .strip_space = spec->space_prefix};
    if (spec->space_prefix)
        rules->normal[rules->n_normal++] = (struct normal_rule){NORMAL_PREPEND, NULL, SPACE_SIGN};
    rules->normal[rules->n_normal++] = (struct normal_rule){NORMAL_REPLACE, " ", SPACE_SIGN};
}

static enum status copy_strings(struct arena *arena, struct normal_rule *rules, int n)
{
    for (int i = 0; i < n; i++) {
        if (rules[i].from != NULL)
            rules[i].from = arena_copy(arena, rules[i].from, strlen(rules[i].from));
        if (rules[i].to != NULL)
            rules[i].to = arena_copy(arena, rules[i].to, strlen(rules[i].to));
        if ((rules[i].from == NULL && rules[i].kind == NORMAL_REPLACE) ||
            (rules[i].to == NULL && rules[i].kind != NORMAL_NFC))
            return ST_NOMEM;
    }
    return ST_OK;
}

/* Sets t->rules and t->words. */
static enum status take_rules(struct tokenizer *t, const struct vocab_spec *spec)
{
    enum status st = ST_OK;

    if (spec->rules != NULL)
        t->rules = *spec->rules;
    else if (strcmp(spec->model, "bpe") == 0)
        t->rules = *rules_find(spec->pre);
    else
        rules_of_chars(spec, &t->rules);
    TRY(arena_create(4096, &t->arena), done);
    TRY(copy_strings(t->arena, t->rules.normal, t->rules.n_normal), done);
    TRY(copy_strings(t->arena, t->rules.late, t->rules.n_late), done);
    t->words = host_zalloc(sizeof *t->words);
    if (t->words == NULL)
        return ST_NOMEM;
    TRY(words_create(t->words, t->rules.words, t->rules.n_words, spec->origin), done);
    t->rules.words = NULL; /* borrowed until now */
done:
    return st;
}

/* ---- merges and words ----------------------------------------------------------------------- */

/* The token each byte starts as. */
static void find_byte_tokens(struct tokenizer *t, const struct spellings *s)
{
    int n_missing = 0;

    for (int byte = 0; byte < 256; byte++) {
        char spelled[4];
        const size_t n = utf8_encode(alphabet_code((uint8_t)byte), spelled);

        t->byte_ids[byte] = spellings_find(s, spelled, n);
        n_missing += t->byte_ids[byte] < 0;
    }
    if (n_missing > 0)
        log_debug("%s: %d bytes have no token; they are left out of texts, as the reference does",
                  s->spec->origin, n_missing);
}

/* One merge, "left right". */
static enum status add_merge(struct tokenizer *t, const struct spellings *s, int rank,
                             struct buf *joined)
{
    const struct text_span *merge = &s->spec->merges[rank];
    const char *space = merge->n_bytes > 0 ? memchr(merge->data, ' ', merge->n_bytes) : NULL;
    enum status st = ST_OK;
    char text[QUOTE_CAP];

    if (space == NULL ||
        memchr(space + 1, ' ', (size_t)(merge->data + merge->n_bytes - space - 1))) {
        log_error("%s: merge %d, %s, is not two tokens with a space between them", s->spec->origin,
                  rank, token_quote(text, *merge));
        return ST_FORMAT;
    }
    const size_t n_left = (size_t)(space - merge->data), n_right = merge->n_bytes - n_left - 1;
    buf_reset(joined);
    TRY(buf_put(joined, merge->data, n_left), done);
    TRY(buf_put(joined, space + 1, n_right), done);
    const int32_t left = spellings_find(s, merge->data, n_left);
    const int32_t right = spellings_find(s, space + 1, n_right);
    const int32_t id = spellings_find(s, (const char *)joined->data, joined->n_bytes);
    if (left < 0 || right < 0 || id < 0) {
        log_error("%s: merge %d, %s: %s is not in the vocabulary", s->spec->origin, rank,
                  token_quote(text, *merge),
                  left < 0    ? "its left token"
                  : right < 0 ? "its right token"
                              : "the token it makes");
        return ST_FORMAT;
    }
    /* No text without markup may become a control token, whatever the file has merged. */
    if (s->spec->kinds != NULL && s->spec->kinds[id] == TOKEN_CONTROL) {
        log_debug("%s: merge %d, %s, makes a control token: left out", s->spec->origin, rank,
                  token_quote(text, *merge));
        goto done;
    }
    if (!bpe_add(&t->bpe, left, right, rank, id)) {
        log_error("%s: merge %d, %s, is there twice", s->spec->origin, rank,
                  token_quote(text, *merge));
        return ST_FORMAT;
    }
done:
    return st;
}

static enum status add_merges(struct tokenizer *t, const struct spellings *s)
{
    struct buf joined = {0};
    enum status st = ST_OK;

    TRY(bpe_create(&t->bpe, s->spec->n_merges), done);
    for (int rank = 0; rank < s->spec->n_merges; rank++)
        TRY(add_merge(t, s, rank, &joined), done);
done:
    buf_free(&joined);
    return st;
}

/* ---- words that are one token ----------------------------------------------------------------- */

static size_t known_slot(const struct tokenizer *t, const char *word, size_t n_bytes)
{
    size_t i = (size_t)hash_bytes(word, n_bytes, 0) & t->known.mask;

    for (; t->known.slots[i] >= 0; i = (i + 1) & t->known.mask) {
        const struct text_span token = token_span(&t->keys, t->known.slots[i]);

        if (token.n_bytes == n_bytes && memcmp(token.data, word, n_bytes) == 0)
            break;
    }
    return i;
}

int32_t tokenizer_word(const struct tokenizer *t, const char *word, size_t n_bytes)
{
    return t->known.slots[known_slot(t, word, n_bytes)];
}

enum status bytes_encode(const struct tokenizer *t, const char *text, size_t n_bytes,
                         struct bpe_word *word, struct token_list *list)
{
    enum status st = ST_OK;

    TRY(bpe_word_begin(word, n_bytes), done);
    for (size_t i = 0; i < n_bytes; i++)
        if (t->byte_ids[(uint8_t)text[i]] >= 0) /* else as the reference without an unknown token */
            bpe_word_add(word, t->byte_ids[(uint8_t)text[i]]);
    bpe_merge(&t->bpe, word);
    TRY(token_list_reserve(list, (size_t)word->n_symbols), done);
    for (int32_t i = word->n_symbols > 0 ? 0 : -1; i >= 0; i = word->symbols[i].next)
        list->ids[list->n_ids++] = word->symbols[i].id;
done:
    return st;
}

/* Most words of a text are one token.  Those tokens whose keys merge into themselves can be looked
 * up whole, which gives the same ids as merging; where merges are ignored, all can. */
static enum status find_known(struct tokenizer *t)
{
    struct bpe_word word = {0};
    struct token_list list = {0};
    enum status st = ST_OK;

    TRY(token_table_create(&t->known, (size_t)t->n_tokens), done);
    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span key = token_span(&t->keys, id);

        if (t->kinds[id] != TOKEN_NORMAL)
            continue;
        list.n_ids = 0;
        if (t->rules.chars)
            TRY(pieces_encode_whole(t, key.data, key.n_bytes, &word, &list), done);
        else
            TRY(bytes_encode(t, key.data, key.n_bytes, &word, &list), done);
        if ((list.n_ids == 1 && list.ids[0] == id) || t->rules.ignore_merges)
            t->known.slots[known_slot(t, key.data, key.n_bytes)] = id;
    }
done:
    token_list_free(&list);
    bpe_word_free(&word);
    return st;
}

/* ---- special tokens ------------------------------------------------------------------------- */

/* A user-defined token in the text that merges see, where that is not the text as it is written. */
static enum status add_late(struct tokenizer *t, struct text_span token, int id)
{
    struct buf buffers[2] = {{0}, {0}};
    struct text_span normal = {0};
    enum status st = ST_OK;

    TRY(normal_apply(t->rules.normal, t->rules.n_normal, true, token, buffers, &normal), done);
    if (normal.n_bytes > 0)
        TRY(special_set_add(&t->user_late, normal.data, normal.n_bytes, id), done);
done:
    buf_free(&buffers[0]);
    buf_free(&buffers[1]);
    return st;
}

static enum status find_special(struct tokenizer *t)
{
    enum status st = ST_OK;

    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span token = token_span(&t->keys, id); /* of these kinds: as spelled */
        const unsigned flags = t->flags != NULL ? t->flags[id] : 0;

        if (t->kinds[id] == TOKEN_CONTROL)
            TRY(special_set_add(&t->control, token.data, token.n_bytes, id), done);
        if (t->kinds[id] != TOKEN_USER_DEFINED)
            continue;
        if (t->rules.n_normal > 0 && (flags & TOKEN_NORMALIZED)) {
            TRY(add_late(t, token, id), done);
            continue;
        }
        TRY(special_set_add(&t->user, token.data, token.n_bytes, id), done);
        /* SentencePiece finds them where spaces are signs already. */
        if (t->rules.by_score && memmem(token.data, token.n_bytes, SPACE_SIGN, strlen(SPACE_SIGN)))
            TRY(special_set_add(&t->user_late, token.data, token.n_bytes, id), done);
    }
done:
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void hash_text(struct hash_state *state, const char *text)
{
    hash_add(state, text, strlen(text));
}

/* Rules that are of no known family, by all that is in them. */
static void hash_rules(struct hash_state *state, const struct text_rules *rules)
{
    const int32_t flags[] = {rules->chars, rules->by_score, rules->ignore_merges, rules->fuse_unk,
                             rules->strip_space};

    hash_add(state, flags, sizeof flags);
    for (int i = 0; i < rules->n_normal + rules->n_late; i++) {
        const struct normal_rule *rule =
            i < rules->n_normal ? &rules->normal[i] : &rules->late[i - rules->n_normal];
        const int32_t kind = (int32_t)rule->kind;

        hash_add(state, &kind, sizeof kind);
        hash_text(state, rule->from != NULL ? rule->from : "");
        hash_text(state, rule->to != NULL ? rule->to : "");
    }
    for (int i = 0; i < rules->n_words; i++) {
        const int32_t how[] = {(int32_t)rules->words[i].cut, rules->words[i].spelled};

        hash_add(state, how, sizeof how);
        hash_text(state, rules->words[i].pattern);
    }
}

static uint64_t fingerprint_of(const struct tokenizer *t, const struct vocab_spec *spec,
                               const struct text_rules *rules)
{
    const int32_t numbers[] = {spec->n_tokens, spec->n_merges, spec->bos_id,
                               spec->eos_id,   spec->add_bos,  spec->add_eos};
    struct hash_state state;

    hash_begin(&state, 1); /* the seed is the version of this list */
    hash_add(&state, numbers, sizeof numbers);
    if (rules->name != NULL)
        hash_text(&state, rules->name);
    else
        hash_rules(&state, rules);
    hash_add(&state, t->kinds, (size_t)spec->n_tokens);
    if (spec->flags != NULL)
        hash_add(&state, spec->flags, (size_t)spec->n_tokens);
    if (rules->chars) {
        const int32_t unknown[] = {spec->has_unk, spec->has_unk ? spec->unk_id : -1};

        hash_add(&state, unknown, sizeof unknown);
    }
    if (rules->by_score)
        hash_add(&state, spec->scores, (size_t)spec->n_tokens * sizeof *spec->scores);
    for (int i = 0; i < spec->n_tokens + spec->n_merges; i++) {
        const struct text_span *span =
            i < spec->n_tokens ? &spec->tokens[i] : &spec->merges[i - spec->n_tokens];
        const uint64_t n_bytes = span->n_bytes;

        hash_add(&state, &n_bytes, sizeof n_bytes);
        hash_add(&state, span->data, span->n_bytes);
    }
    named_hash(&state, t);
    return hash_end(&state);
}

static enum status fill(struct tokenizer *t, const struct vocab_spec *spec)
{
    struct spellings spellings = {.spec = spec};
    struct text_rules rules;
    enum status st = ST_OK;

    TRY(take_rules(t, spec), done);
    TRY(spellings_create(&spellings, spec, t->rules.chars), done);
    TRY(vocab_copy(t, spec), done);
    if (!t->rules.by_score)
        TRY(add_merges(t, &spellings), done);
    if (t->rules.chars)
        TRY(pieces_create(t, &spellings), done);
    else
        find_byte_tokens(t, &spellings);
    TRY(find_known(t), done);
    TRY(find_special(t), done);
    t->bos_id = spec->bos_id;
    t->eos_id = spec->eos_id;
    t->add_bos = spec->add_bos;
    t->add_eos = spec->add_eos;
    TRY(named_take(t, spec), done);
    rules = t->rules;
    rules.words = spec->rules != NULL ? spec->rules->words : NULL; /* of a family: its name tells */
    t->fingerprint = fingerprint_of(t, spec, &rules);
done:
    spellings_free(&spellings);
    return st;
}

enum status tokenizer_create(const struct vocab_spec *spec, struct tokenizer **out_tokenizer)
{
    struct tokenizer *t = NULL;
    enum status st = ST_OK;

    TRY(check_spec(spec), done);
    t = host_zalloc(sizeof *t);
    if (t == NULL)
        return ST_NOMEM;
    TRY(fill(t, spec), done);
    *out_tokenizer = t;
    t = NULL;
done:
    tokenizer_destroy(t);
    return st;
}

enum status tokenizer_trim(struct tokenizer *t, int n_tokens)
{
    int first = n_tokens;

    while (first < t->n_tokens && t->kinds[first] != TOKEN_NORMAL && t->kinds[first] != TOKEN_BYTE)
        first++;
    if (first < t->n_tokens || t->bos_id >= n_tokens || t->eos_id >= n_tokens)
        return ST_FORMAT;
    if (n_tokens >= t->n_tokens)
        return ST_OK;
    t->n_tokens = n_tokens;
    special_set_free(&t->control);
    special_set_free(&t->user);
    special_set_free(&t->user_late);
    return find_special(t);
}

static void texts_free(struct token_texts *texts)
{
    host_free(texts->bytes);
    host_free(texts->offsets);
}

void tokenizer_destroy(struct tokenizer *t)
{
    if (t == NULL)
        return;
    special_set_free(&t->control);
    special_set_free(&t->user);
    special_set_free(&t->user_late);
    token_table_free(&t->known);
    pieces_free(&t->pieces);
    bpe_destroy(&t->bpe);
    if (t->words != NULL)
        words_free(t->words);
    host_free(t->words);
    named_free(t);
    host_free(t->flags);
    host_free(t->kinds);
    if (t->rules.chars)
        texts_free(&t->keys);
    texts_free(&t->texts);
    arena_destroy(t->arena);
    host_free(t);
}

/* ---- questions ------------------------------------------------------------------------------ */

int tokenizer_n_tokens(const struct tokenizer *t)
{
    return t->n_tokens;
}

int tokenizer_bos(const struct tokenizer *t)
{
    return t->bos_id;
}

int tokenizer_eos(const struct tokenizer *t)
{
    return t->eos_id;
}

uint64_t tokenizer_fingerprint(const struct tokenizer *t)
{
    return t->fingerprint;
}

struct text_span tokenizer_token_bytes(const struct tokenizer *t, int32_t id, bool show_special)
{
    assert(id >= 0 && id < t->n_tokens);
    if (t->kinds[id] == TOKEN_CONTROL && !show_special)
        return (struct text_span){"", 0};
    return token_span(&t->texts, id);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    const size_t n_bytes = strlen(text);
    int32_t found = -1;

    /* A special token and a normal one can stand for the same bytes: the special one is meant. */
    for (int32_t id = 0; id < t->n_tokens; id++) {
        const struct text_span token = token_span(&t->texts, id);

        if (token.n_bytes != n_bytes || memcmp(token.data, text, n_bytes) != 0)
            continue;
        if (t->kinds[id] == TOKEN_CONTROL || t->kinds[id] == TOKEN_USER_DEFINED)
            return id;
        found = found < 0 ? id : found;
    }
    return found;
}
