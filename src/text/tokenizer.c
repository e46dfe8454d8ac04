/*
 * tokenizer.c - builds a tokeniser from a vocabulary and answers what its tokens stand for.
 *
 * All checks of a vocabulary are here: model files are read elsewhere (tokenizer_json.c, model/),
 * encoding is in encode.c.
 */
#include <assert.h>
#include <stdio.h>

#include "text/internal.h"

/* ---- messages ------------------------------------------------------------------------------- */

enum { QUOTE_CAP = 80 };

/* A token for a message: quoted, cut, control characters and quotes escaped. */
static const char *quote(char out[QUOTE_CAP], const char *data, size_t n_bytes)
{
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < n_bytes && n < QUOTE_CAP - 8; i++) {
        const uint8_t byte = (uint8_t)data[i];

        if (byte < 0x20 || byte == 0x7f || byte == '"' || byte == '\\')
            n += (size_t)snprintf(out + n, QUOTE_CAP - n, "\\x%02x", byte);
        else
            out[n++] = (char)byte;
    }
    snprintf(out + n, QUOTE_CAP - n, "\"");
    return out;
}

static const char *quote_token(char out[QUOTE_CAP], const struct text_span *token)
{
    return quote(out, token->data, token->n_bytes);
}

/* ---- the byte-to-unicode alphabet of GPT-2 -------------------------------------------------- */

enum { ALPHABET_END = 256 + 68 };

/* Printable Latin-1 bytes stand for themselves; the 68 others are U+0100 and on, in byte order. */
struct alphabet {
    uint16_t code_of[256];
    int16_t byte_of[ALPHABET_END]; /* -1: not in the alphabet */
};

static void alphabet_fill(struct alphabet *alphabet)
{
    uint16_t next = 256;

    memset(alphabet->byte_of, 0xff, sizeof alphabet->byte_of);
    for (int byte = 0; byte < 256; byte++) {
        const bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
        const uint16_t code = itself ? (uint16_t)byte : next++;

        alphabet->code_of[byte] = code;
        alphabet->byte_of[code] = (int16_t)byte;
    }
}

/* The bytes that a token's spelling stands for, to out [n_bytes]; false if the spelling leaves the
 * alphabet. */
static bool alphabet_decode(const struct alphabet *alphabet, const struct text_span *token,
                            char *out, size_t *out_n_bytes)
{
    size_t n = 0;

    if (!utf8_valid(token->data, token->n_bytes, NULL))
        return false;
    for (size_t at = 0, step = 0; at < token->n_bytes; at += step) {
        const uint32_t code = utf8_decode(token->data + at, &step);

        if (code >= ALPHABET_END || alphabet->byte_of[code] < 0)
            return false;
        out[n++] = (char)alphabet->byte_of[code];
    }
    *out_n_bytes = n;
    return true;
}

/* ---- hash tables of tokens ------------------------------------------------------------------- */

static enum status table_create(struct token_table *table, int n_tokens)
{
    size_t n_slots = 16;

    while (n_slots < (size_t)n_tokens * 2)
        n_slots *= 2;
    table->slots = host_alloc(n_slots * sizeof *table->slots);
    if (table->slots == NULL)
        return ST_NOMEM;
    memset(table->slots, 0xff, n_slots * sizeof *table->slots);
    table->mask = n_slots - 1;
    return ST_OK;
}

static void table_free(struct token_table *table)
{
    host_free(table->slots);
    table->slots = NULL;
}

/* The spellings of a vocabulary file; lives while a tokeniser is made. */
struct spellings {
    const struct vocab_spec *spec;
    struct token_table table;
};

/* The slot that holds the token spelled so, or the free slot where it belongs. */
static size_t spellings_slot(const struct spellings *s, const char *data, size_t n_bytes)
{
    size_t i = (size_t)hash_bytes(data, n_bytes, 0) & s->table.mask;

    for (; s->table.slots[i] >= 0; i = (i + 1) & s->table.mask) {
        const struct text_span *token = &s->spec->tokens[s->table.slots[i]];

        if (token->n_bytes == n_bytes && memcmp(token->data, data, n_bytes) == 0)
            break;
    }
    return i;
}

static int32_t spellings_find(const struct spellings *s, const char *data, size_t n_bytes)
{
    return s->table.slots[spellings_slot(s, data, n_bytes)];
}

static struct text_span token_span(const struct tokenizer *t, int32_t id)
{
    return (struct text_span){t->bytes + t->offsets[id], t->offsets[id + 1] - t->offsets[id]};
}

static size_t words_slot(const struct tokenizer *t, const char *word, size_t n_bytes)
{
    size_t i = (size_t)hash_bytes(word, n_bytes, 0) & t->words.mask;

    for (; t->words.slots[i] >= 0; i = (i + 1) & t->words.mask) {
        const struct text_span token = token_span(t, t->words.slots[i]);

        if (token.n_bytes == n_bytes && memcmp(token.data, word, n_bytes) == 0)
            break;
    }
    return i;
}

int32_t tokenizer_word(const struct tokenizer *t, const char *word, size_t n_bytes)
{
    return t->words.slots[words_slot(t, word, n_bytes)];
}

/* ---- making one ------------------------------------------------------------------------------ */

static enum token_kind spec_kind(const struct vocab_spec *spec, int id)
{
    return spec->kinds != NULL ? (enum token_kind)spec->kinds[id] : TOKEN_NORMAL;
}

/* What can be said without looking at the tokens. */
static enum status check_spec(const struct vocab_spec *spec)
{
    char names[128];

    if (strcmp(spec->model, "bpe") != 0) {
        log_error("%s: tokeniser model %s is not supported; this version has: bpe (byte-level)",
                  spec->origin, spec->model);
        return ST_UNSUPPORTED;
    }
    if (pretokenizer_find(spec->pre) == NULL) {
        log_error("%s: pre-tokeniser %s is not supported; this version has: %s", spec->origin,
                  spec->pre, pretokenizer_names(names, sizeof names));
        return ST_UNSUPPORTED;
    }
    if (spec->n_tokens <= 0 || spec->n_merges < 0) {
        log_error("%s: a vocabulary of %d tokens and %d merges; is the file whole?", spec->origin,
                  spec->n_tokens, spec->n_merges);
        return ST_FORMAT;
    }
    if (spec->bos_id < -1 || spec->bos_id >= spec->n_tokens || spec->eos_id < -1 ||
        spec->eos_id >= spec->n_tokens) {
        log_error("%s: BOS token %d or EOS token %d is not among the %d tokens", spec->origin,
                  spec->bos_id, spec->eos_id, spec->n_tokens);
        return ST_FORMAT;
    }
    if ((spec->add_bos && spec->bos_id < 0) || (spec->add_eos && spec->eos_id < 0)) {
        log_error("%s: asks for a %s token before or after each text but names none", spec->origin,
                  spec->add_bos && spec->bos_id < 0 ? "BOS" : "EOS");
        return ST_FORMAT;
    }
    return ST_OK;
}

static enum status check_token(const struct vocab_spec *spec, int id)
{
    if ((unsigned)spec_kind(spec, id) >= TOKEN_KIND_COUNT) {
        log_error("%s: token %d is of unknown kind %d", spec->origin, id, spec->kinds[id]);
        return ST_FORMAT;
    }
    if (spec_kind(spec, id) == TOKEN_BYTE) {
        log_error("%s: token %d is a byte token (byte fallback): not supported in byte-level BPE",
                  spec->origin, id);
        return ST_UNSUPPORTED;
    }
    if (spec->tokens[id].n_bytes == 0 && spec_kind(spec, id) != TOKEN_UNUSED) {
        log_error("%s: token %d is empty", spec->origin, id);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* Index the spellings; refuses two tokens of one spelling. */
static enum status index_spellings(struct spellings *s)
{
    const struct vocab_spec *spec = s->spec;
    char text[QUOTE_CAP];
    enum status st = ST_OK;

    TRY(table_create(&s->table, spec->n_tokens), done);
    for (int id = 0; id < spec->n_tokens; id++) {
        TRY(check_token(spec, id), done);
        if (spec->tokens[id].n_bytes == 0)
            continue; /* a hole */
        const size_t slot = spellings_slot(s, spec->tokens[id].data, spec->tokens[id].n_bytes);
        if (s->table.slots[slot] >= 0) {
            log_error("%s: tokens %d and %d are both %s", spec->origin, s->table.slots[slot], id,
                      quote_token(text, &spec->tokens[id]));
            return ST_FORMAT;
        }
        s->table.slots[slot] = id;
    }
done:
    return st;
}

/* Copy what each token stands for: normal ones leave the alphabet, others are as they are spelled.
 */
static enum status copy_tokens(struct tokenizer *t, const struct vocab_spec *spec,
                               const struct alphabet *alphabet)
{
    size_t total = 0;
    char text[QUOTE_CAP];

    for (int id = 0; id < spec->n_tokens; id++)
        total += spec->tokens[id].n_bytes; /* never less than what the token stands for */
    t->bytes = host_alloc(total);
    t->offsets = host_alloc(((size_t)spec->n_tokens + 1) * sizeof *t->offsets);
    t->kinds = host_alloc((size_t)spec->n_tokens);
    if (t->bytes == NULL || t->offsets == NULL || t->kinds == NULL)
        return ST_NOMEM;

    size_t at = 0;
    for (int id = 0; id < spec->n_tokens; id++) {
        const struct text_span *token = &spec->tokens[id];
        size_t n = token->n_bytes;

        t->offsets[id] = at;
        t->kinds[id] = (uint8_t)spec_kind(spec, id);
        if (t->kinds[id] != TOKEN_NORMAL) {
            if (n > 0)
                memcpy(t->bytes + at, token->data, n);
        } else if (!alphabet_decode(alphabet, token, t->bytes + at, &n)) {
            log_error("%s: token %d, %s, is not in the byte-level alphabet; if it is meant to be "
                      "found in text, its kind must be control or user-defined",
                      spec->origin, id, quote_token(text, token));
            return ST_FORMAT;
        }
        at += n;
    }
    t->offsets[spec->n_tokens] = at;
    t->n_tokens = spec->n_tokens;
    return ST_OK;
}

/* The token each byte starts as. */
static void find_byte_tokens(struct tokenizer *t, const struct spellings *s,
                             const struct alphabet *alphabet)
{
    int n_missing = 0;

    for (int byte = 0; byte < 256; byte++) {
        char spelled[4];
        const size_t n = utf8_encode(alphabet->code_of[byte], spelled);

        t->bpe.byte_ids[byte] = spellings_find(s, spelled, n);
        n_missing += t->bpe.byte_ids[byte] < 0;
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
                  rank, quote_token(text, merge));
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
                  quote_token(text, merge),
                  left < 0    ? "its left token"
                  : right < 0 ? "its right token"
                              : "the token it makes");
        return ST_FORMAT;
    }
    if (!bpe_add(&t->bpe, left, right, rank, id)) {
        log_error("%s: merge %d, %s, is there twice", s->spec->origin, rank,
                  quote_token(text, merge));
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

/* Most words of a text are one token.  Those tokens whose bytes merge into themselves can be
 * looked up whole, which gives the same ids as merging. */
static enum status find_words(struct tokenizer *t)
{
    struct bpe_scratch scratch = {0};
    struct token_list list = {0};
    enum status st = ST_OK;

    TRY(table_create(&t->words, t->n_tokens), done);
    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span token = token_span(t, id);

        if (t->kinds[id] != TOKEN_NORMAL)
            continue;
        list.n_ids = 0;
        TRY(bpe_encode(&t->bpe, token.data, token.n_bytes, &scratch, &list), done);
        if (list.n_ids == 1 && list.ids[0] == id)
            t->words.slots[words_slot(t, token.data, token.n_bytes)] = id;
    }
done:
    token_list_free(&list);
    bpe_scratch_free(&scratch);
    return st;
}

static enum status find_special(struct tokenizer *t)
{
    enum status st = ST_OK;

    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span token = token_span(t, id);

        if (t->kinds[id] == TOKEN_CONTROL)
            TRY(special_set_add(&t->control, token.data, token.n_bytes, id), done);
        else if (t->kinds[id] == TOKEN_USER_DEFINED)
            TRY(special_set_add(&t->user, token.data, token.n_bytes, id), done);
    }
done:
    return st;
}

static uint64_t fingerprint_of(const struct tokenizer *t, const struct vocab_spec *spec)
{
    const int32_t numbers[] = {spec->n_tokens, spec->n_merges, spec->bos_id,
                               spec->eos_id,   spec->add_bos,  spec->add_eos};
    struct hash_state state;

    hash_begin(&state, 1); /* the seed is the version of this list */
    hash_add(&state, numbers, sizeof numbers);
    hash_add(&state, t->pre->name, strlen(t->pre->name));
    hash_add(&state, t->kinds, (size_t)spec->n_tokens);
    for (int i = 0; i < spec->n_tokens + spec->n_merges; i++) {
        const struct text_span *span =
            i < spec->n_tokens ? &spec->tokens[i] : &spec->merges[i - spec->n_tokens];
        const uint64_t n_bytes = span->n_bytes;

        hash_add(&state, &n_bytes, sizeof n_bytes);
        hash_add(&state, span->data, span->n_bytes);
    }
    return hash_end(&state);
}

enum status tokenizer_create(const struct vocab_spec *spec, struct tokenizer **out_tokenizer)
{
    enum status st = ST_NOMEM;
    struct spellings spellings = {.spec = spec};
    struct tokenizer *t = NULL;
    struct alphabet alphabet;

    TRY(check_spec(spec), done);
    alphabet_fill(&alphabet);
    st = ST_NOMEM;
    t = host_zalloc(sizeof *t);
    if (t == NULL)
        goto done;
    t->classes = char_classes_create();
    if (t->classes == NULL)
        goto done;
    TRY(index_spellings(&spellings), done);
    TRY(copy_tokens(t, spec, &alphabet), done);
    find_byte_tokens(t, &spellings, &alphabet);
    TRY(add_merges(t, &spellings), done);
    TRY(find_words(t), done);
    TRY(find_special(t), done);
    t->pre = pretokenizer_find(spec->pre);
    t->bos_id = spec->bos_id;
    t->eos_id = spec->eos_id;
    t->add_bos = spec->add_bos;
    t->add_eos = spec->add_eos;
    t->fingerprint = fingerprint_of(t, spec);
    *out_tokenizer = t;
    t = NULL;
done:
    table_free(&spellings.table);
    tokenizer_destroy(t);
    return st;
}

void tokenizer_destroy(struct tokenizer *t)
{
    if (t == NULL)
        return;
    special_set_free(&t->control);
    special_set_free(&t->user);
    table_free(&t->words);
    bpe_destroy(&t->bpe);
    host_free(t->classes);
    host_free(t->kinds);
    host_free(t->offsets);
    host_free(t->bytes);
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
    return token_span(t, id);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    const size_t n_bytes = strlen(text);
    int32_t found = -1;

    /* A special token and a normal one can stand for the same bytes: the special one is meant. */
    for (int32_t id = 0; id < t->n_tokens; id++) {
        const struct text_span token = token_span(t, id);

        if (token.n_bytes != n_bytes || memcmp(token.data, text, n_bytes) != 0)
            continue;
        if (t->kinds[id] == TOKEN_CONTROL || t->kinds[id] == TOKEN_USER_DEFINED)
            return id;
        found = found < 0 ? id : found;
    }
    return found;
}
