/*
 * vocab.c - checks and indexes the tokens of a vocabulary, and copies what they stand for.
 *
 * Part of making a tokeniser (tokenizer.c); nothing here is used when encoding.
 */
#include <stdio.h>

#include "text/internal.h"

/* ---- messages ------------------------------------------------------------------------------- */

const char *token_quote(char out[QUOTE_CAP], struct text_span token)
{
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < token.n_bytes && n < QUOTE_CAP - 8; i++) {
        const uint8_t byte = (uint8_t)token.data[i];

        if (byte < 0x20 || byte == 0x7f || byte == '"' || byte == '\\')
            n += (size_t)snprintf(out + n, QUOTE_CAP - n, "\\x%02x", byte);
        else
            out[n++] = (char)byte;
    }
    snprintf(out + n, QUOTE_CAP - n, "\"");
    return out;
}

/* ---- hash tables ---------------------------------------------------------------------------- */

enum status token_table_create(struct token_table *table, size_t n_tokens)
{
    size_t n_slots = 16;

    while (n_slots < n_tokens * 2)
        n_slots *= 2;
    table->slots = host_alloc(n_slots * sizeof *table->slots);
    if (table->slots == NULL)
        return ST_NOMEM;
    memset(table->slots, 0xff, n_slots * sizeof *table->slots);
    table->mask = n_slots - 1;
    return ST_OK;
}

void token_table_free(struct token_table *table)
{
    host_free(table->slots);
    table->slots = NULL;
}

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

int32_t spellings_find(const struct spellings *s, const char *data, size_t n_bytes)
{
    return s->table.slots[spellings_slot(s, data, n_bytes)];
}

void spellings_free(struct spellings *s)
{
    token_table_free(&s->table);
}

/* ---- checks --------------------------------------------------------------------------------- */

enum token_kind spec_kind(const struct vocab_spec *spec, int id)
{
    return spec->kinds != NULL ? (enum token_kind)spec->kinds[id] : TOKEN_NORMAL;
}

/* The byte of a token like "<0x0A>"; -1 if it is none. */
static int byte_of(struct text_span token)
{
    unsigned byte = 0;
    char text[7] = "";

    if (token.n_bytes != 6 || memcmp(token.data, "<0x", 3) != 0 || token.data[5] != '>')
        return -1;
    memcpy(text, token.data, 6);
    for (int i = 3; i < 5; i++) {
        const char c = text[i];
        const bool digit = c >= '0' && c <= '9';

        if (!digit && !(c >= 'A' && c <= 'F'))
            return -1;
        byte = byte * 16 + (unsigned)(digit ? c - '0' : c - 'A' + 10);
    }
    return (int)byte;
}

static enum status check_token(const struct vocab_spec *spec, int id, bool chars)
{
    const struct text_span token = spec->tokens[id];
    char text[QUOTE_CAP];

    if ((unsigned)spec_kind(spec, id) >= TOKEN_KIND_COUNT) {
        log_error("%s: token %d is of unknown kind %d", spec->origin, id, spec->kinds[id]);
        return ST_FORMAT;
    }
    if (spec_kind(spec, id) == TOKEN_BYTE && !chars) {
        log_error("%s: token %d is a byte token (byte fallback): not supported in byte-level BPE",
                  spec->origin, id);
        return ST_UNSUPPORTED;
    }
    if (spec_kind(spec, id) == TOKEN_BYTE && byte_of(token) < 0) {
        log_error("%s: token %d, %s, is a byte token but not spelled like <0x0A>", spec->origin, id,
                  token_quote(text, token));
        return ST_FORMAT;
    }
    if (token.n_bytes == 0 && spec_kind(spec, id) != TOKEN_UNUSED) {
        log_error("%s: token %d is empty", spec->origin, id);
        return ST_FORMAT;
    }
    if ((chars || spec_kind(spec, id) == TOKEN_NORMAL) &&
        !utf8_valid(token.data, token.n_bytes, NULL)) {
        log_error("%s: token %d, %s, is not UTF-8", spec->origin, id, token_quote(text, token));
        return ST_FORMAT;
    }
    return ST_OK;
}

enum status spellings_create(struct spellings *s, const struct vocab_spec *spec, bool chars)
{
    char text[QUOTE_CAP];
    enum status st = ST_OK;

    *s = (struct spellings){.spec = spec};
    TRY(token_table_create(&s->table, (size_t)spec->n_tokens), done);
    for (int id = 0; id < spec->n_tokens; id++) {
        TRY(check_token(spec, id, chars), done);
        if (spec->tokens[id].n_bytes == 0)
            continue; /* a hole */
        const size_t slot = spellings_slot(s, spec->tokens[id].data, spec->tokens[id].n_bytes);
        if (s->table.slots[slot] >= 0) {
            log_error("%s: tokens %d and %d are both %s", spec->origin, s->table.slots[slot], id,
                      token_quote(text, spec->tokens[id]));
            return ST_FORMAT;
        }
        s->table.slots[slot] = id;
    }
done:
    return st;
}

/* ---- what tokens stand for ------------------------------------------------------------------- */

/* Out of the byte-level alphabet, to out [n_bytes]; false if the spelling leaves it. */
static bool decode_bytes(struct text_span token, char *out, size_t *out_n_bytes)
{
    size_t n = 0;

    for (size_t at = 0, step = 0; at < token.n_bytes; at += step) {
        const int byte = alphabet_byte(utf8_decode(token.data + at, &step));

        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *out_n_bytes = n;
    return true;
}

/* With spaces for their signs. */
static size_t decode_spaces(struct text_span token, char *out)
{
    const size_t n_sign = strlen(SPACE_SIGN);
    size_t n = 0;

    for (size_t at = 0; at < token.n_bytes;) {
        const bool sign =
            token.n_bytes - at >= n_sign && memcmp(token.data + at, SPACE_SIGN, n_sign) == 0;

        out[n++] = sign ? ' ' : token.data[at];
        at += sign ? n_sign : 1;
    }
    return n;
}

/* What a token stands for, to out, which has room for its spelling; returns its kind.  A normal
 * token of a byte-level vocabulary that is not spelled in the alphabet can come out of no text: it
 * stands for itself, as in the reference. */
static enum token_kind decode_token(const struct vocab_spec *spec, int id, bool chars, char *out,
                                    size_t *out_n_bytes)
{
    const struct text_span token = spec->tokens[id];
    const enum token_kind kind = spec_kind(spec, id);

    *out_n_bytes = token.n_bytes;
    if (kind == TOKEN_BYTE) {
        out[0] = (char)byte_of(token);
        *out_n_bytes = 1;
    } else if (chars && kind != TOKEN_CONTROL) {
        *out_n_bytes = decode_spaces(token, out);
    } else if (kind != TOKEN_NORMAL) {
        if (token.n_bytes > 0)
            memcpy(out, token.data, token.n_bytes);
    } else if (!decode_bytes(token, out, out_n_bytes)) {
        memcpy(out, token.data, token.n_bytes);
        return TOKEN_UNUSED;
    }
    return kind;
}

static enum status texts_create(struct token_texts *texts, int n_tokens, size_t n_bytes)
{
    texts->bytes = host_alloc(n_bytes);
    texts->offsets = host_alloc(((size_t)n_tokens + 1) * sizeof *texts->offsets);
    return texts->bytes != NULL && texts->offsets != NULL ? ST_OK : ST_NOMEM;
}

enum status vocab_copy(struct tokenizer *t, const struct vocab_spec *spec)
{
    const bool chars = t->rules.chars;
    const size_t n_tokens = (size_t)spec->n_tokens;
    size_t total = 0, at = 0, key_at = 0, n = 0;
    enum status st = ST_OK;

    for (size_t id = 0; id < n_tokens; id++)
        total += spec->tokens[id].n_bytes; /* never less than what the token stands for */
    TRY(texts_create(&t->texts, spec->n_tokens, total), done);
    if (chars)
        TRY(texts_create(&t->keys, spec->n_tokens, total), done);
    t->kinds = host_alloc(n_tokens);
    t->flags = spec->flags != NULL ? host_alloc(n_tokens) : NULL;
    if (t->kinds == NULL || (spec->flags != NULL && t->flags == NULL))
        return ST_NOMEM;
    if (spec->flags != NULL)
        memcpy(t->flags, spec->flags, n_tokens);
    for (int id = 0; id < spec->n_tokens; id++) {
        const struct text_span *token = &spec->tokens[id];

        t->texts.offsets[id] = at;
        t->kinds[id] = (uint8_t)decode_token(spec, id, chars, t->texts.bytes + at, &n);
        at += n;
        if (!chars)
            continue;
        t->keys.offsets[id] = key_at;
        if (token->n_bytes > 0)
            memcpy(t->keys.bytes + key_at, token->data, token->n_bytes);
        key_at += token->n_bytes;
    }
    t->texts.offsets[n_tokens] = at;
    if (chars)
        t->keys.offsets[n_tokens] = key_at;
    else
        t->keys = t->texts;
    t->n_tokens = spec->n_tokens;
done:
    return st;
}
