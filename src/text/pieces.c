/*
 * pieces.c - vocabularies whose symbols begin as characters, as SentencePiece has them.
 *
 * A character begins as its token; one without a token as the byte tokens of its UTF-8, and where
 * these are missing too as the unknown token.  Merges are either listed (bpe.c as ever) or follow
 * from scores: any two neighbours whose joint text is a token may merge, the highest score first.
 * Then a character that is part of tokens but none itself is a symbol, too, with an id from
 * n_tokens on, and becomes bytes only at the end.
 *
 * A text need not be merged as a whole: where no token has the two characters beside each other, no
 * merge can cross.
 */
#include <math.h>
#include <stdlib.h>

#include "text/internal.h"

enum { MAX_PIECE_BYTES = 512 };

struct piece_char {
    uint32_t code;
    int32_t id; /* -1 marks a free slot */
};

/* ---- tables --------------------------------------------------------------------------------- */

static size_t spread(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key ^ key >> 32);
}

/* The symbol that a character begins as; -1: none. */
static int32_t char_symbol(const struct pieces *p, uint32_t code)
{
    for (size_t i = spread(code) & p->chars_mask;; i = (i + 1) & p->chars_mask)
        if (p->chars[i].id < 0 || p->chars[i].code == code)
            return p->chars[i].id;
}

static void put_char(struct pieces *p, uint32_t code, int32_t id)
{
    size_t i = spread(code) & p->chars_mask;

    while (p->chars[i].id >= 0 && p->chars[i].code != code)
        i = (i + 1) & p->chars_mask;
    p->chars[i] = (struct piece_char){code, id};
}

/* Characters are below 2^21, and no pair is 0 << 32 | 0 plus one. */
static uint64_t pair_key(uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 32 | right) + 1;
}

static bool pair_known(const struct pieces *p, uint32_t left, uint32_t right)
{
    const uint64_t key = pair_key(left, right);

    for (size_t i = spread(key) & p->pairs_mask;; i = (i + 1) & p->pairs_mask)
        if (p->pairs[i] == key || p->pairs[i] == 0)
            return p->pairs[i] == key;
}

static void put_pair(struct pieces *p, uint32_t left, uint32_t right)
{
    const uint64_t key = pair_key(left, right);
    size_t i = spread(key) & p->pairs_mask;

    while (p->pairs[i] != 0 && p->pairs[i] != key)
        i = (i + 1) & p->pairs_mask;
    p->pairs[i] = key;
}

static size_t power_for(size_t n)
{
    size_t n_slots = 16;

    while (n_slots < n * 2)
        n_slots *= 2;
    return n_slots;
}

/* ---- making them ----------------------------------------------------------------------------- */

/* Whether a token can come out of merging.  Control tokens and bytes cannot: no text may spell
 * them. */
static bool is_piece(const struct tokenizer *t, int id)
{
    return t->kinds[id] == TOKEN_NORMAL || t->kinds[id] == TOKEN_USER_DEFINED;
}

/* Characters and the pairs of them that tokens have. */
static enum status make_tables(struct tokenizer *t)
{
    struct pieces *p = &t->pieces;
    size_t n_chars = 0, n = 0;

    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span key = token_span(&t->keys, id);

        for (size_t at = 0; is_piece(t, id) && at < key.n_bytes; at += n, n_chars++)
            utf8_decode(key.data + at, &n);
    }
    p->chars_mask = power_for(n_chars) - 1;
    p->pairs_mask = p->chars_mask;
    p->chars = host_alloc((p->chars_mask + 1) * sizeof *p->chars);
    p->pairs = host_zalloc((p->pairs_mask + 1) * sizeof *p->pairs);
    p->extra = host_alloc((n_chars + 1) * sizeof *p->extra);
    if (p->chars == NULL || p->pairs == NULL || p->extra == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i <= p->chars_mask; i++)
        p->chars[i].id = -1;
    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span key = token_span(&t->keys, id);
        uint32_t before = 0, code = 0;

        for (size_t at = 0; is_piece(t, id) && at < key.n_bytes; at += n, before = code) {
            code = utf8_decode(key.data + at, &n);
            if (at > 0)
                put_pair(p, before, code);
            else if (n == key.n_bytes)
                put_char(p, code, id);
        }
    }
    return ST_OK;
}

/* A symbol for each character of a token that is none itself. */
static void add_extra_chars(struct tokenizer *t)
{
    struct pieces *p = &t->pieces;
    size_t n = 0;

    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span key = token_span(&t->keys, id);

        for (size_t at = 0; is_piece(t, id) && at < key.n_bytes; at += n) {
            const uint32_t code = utf8_decode(key.data + at, &n);

            if (char_symbol(p, code) >= 0)
                continue;
            put_char(p, code, p->first_extra + p->n_extra);
            p->extra[p->n_extra++] = code;
        }
    }
}

struct scored {
    float score;
    int32_t id, rank;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *left = a, *right = b;

    return (left->score < right->score) - (left->score > right->score);
}

/* ranks [n_tokens]: 0 for the highest score; equal scores have equal ranks. */
static enum status rank_scores(const struct vocab_spec *spec, int32_t *ranks)
{
    struct scored *all = host_alloc((size_t)spec->n_tokens * sizeof *all);
    enum status st = ST_OK;

    if (all == NULL)
        return ST_NOMEM;
    for (int id = 0; id < spec->n_tokens; id++) {
        all[id] = (struct scored){spec->scores[id], id, 0};
        if (!isfinite(spec->scores[id])) {
            log_error("%s: the score of token %d is not a number; get the file again", spec->origin,
                      id);
            st = ST_FORMAT;
            goto done;
        }
    }
    qsort(all, (size_t)spec->n_tokens, sizeof *all, by_score);
    for (int i = 0; i < spec->n_tokens; i++) {
        if (i > 0)
            all[i].rank = all[i - 1].rank + (all[i].score < all[i - 1].score);
        ranks[all[i].id] = all[i].rank;
    }
done:
    host_free(all);
    return st;
}

/* The symbol of a text; -1 if it is neither a piece nor a character of one. */
static int32_t symbol_of(const struct tokenizer *t, const struct spellings *s, const char *text,
                         size_t n_bytes)
{
    const int32_t id = spellings_find(s, text, n_bytes);
    size_t n = 0;

    if (id >= 0 && is_piece(t, id))
        return id;
    const uint32_t code = utf8_decode(text, &n);
    return n == n_bytes ? char_symbol(&t->pieces, code) : -1;
}

/* All merges that make token `id`. */
static enum status add_merges_of(const struct tokenizer *t, const struct spellings *s, int32_t id,
                                 int32_t rank, struct buf *merges)
{
    const struct text_span key = token_span(&t->keys, id);
    enum status st = ST_OK;
    size_t n = 0;

    utf8_decode(key.data, &n);
    for (size_t at = n; at < key.n_bytes; at += n) {
        utf8_decode(key.data + at, &n);
        const int32_t left = symbol_of(t, s, key.data, at);
        const int32_t right = left >= 0 ? symbol_of(t, s, key.data + at, key.n_bytes - at) : -1;

        if (right < 0)
            continue;
        const struct bpe_merge merge = {(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id};
        TRY(buf_put(merges, &merge, sizeof merge), done);
    }
done:
    return st;
}

static enum status add_scored_merges(struct tokenizer *t, const struct spellings *s)
{
    int32_t *ranks = host_alloc((size_t)t->n_tokens * sizeof *ranks);
    struct buf merges = {0};
    enum status st = ST_NOMEM;
    char text[QUOTE_CAP];

    if (ranks == NULL)
        goto done;
    TRY(rank_scores(s->spec, ranks), done);
    add_extra_chars(t);
    for (int id = 0; id < t->n_tokens; id++) {
        const struct text_span key = token_span(&t->keys, id);

        if (!is_piece(t, id))
            continue;
        if (key.n_bytes > MAX_PIECE_BYTES) {
            log_error("%s: token %d, %s, is of %zu bytes; at most %d are supported",
                      s->spec->origin, id, token_quote(text, key), key.n_bytes, MAX_PIECE_BYTES);
            st = ST_UNSUPPORTED;
            goto done;
        }
        TRY(add_merges_of(t, s, id, ranks[id], &merges), done);
    }
    const struct bpe_merge *all = (const struct bpe_merge *)(const void *)merges.data;
    const size_t n = merges.n_bytes / sizeof *all;

    if (n > INT32_MAX / 4) {
        log_error("%s: too many merges follow from the scores", s->spec->origin);
        st = ST_UNSUPPORTED;
        goto done;
    }
    TRY(bpe_create(&t->bpe, (int)n), done);
    for (size_t i = 0; i < n; i++)
        bpe_add(&t->bpe, (int32_t)(all[i].pair >> 32), (int32_t)(uint32_t)all[i].pair, all[i].rank,
                all[i].id);
done:
    buf_free(&merges);
    host_free(ranks);
    return st;
}

enum status pieces_create(struct tokenizer *t, const struct spellings *s)
{
    static const char digits[] = "0123456789ABCDEF";
    struct pieces *p = &t->pieces;
    int n_missing = 0;
    enum status st = ST_OK;

    p->unk_id = s->spec->has_unk ? s->spec->unk_id : -1;
    p->fuse_unk = t->rules.fuse_unk;
    p->first_extra = t->n_tokens;
    for (int byte = 0; byte < 256; byte++) {
        const char name[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        const int32_t id = spellings_find(s, name, sizeof name);

        p->byte_ids[byte] = id >= 0 && t->kinds[id] == TOKEN_BYTE ? id : -1;
        n_missing += p->byte_ids[byte] < 0;
    }
    p->splits = !p->fuse_unk || n_missing == 0; /* unknown ones in a row must be seen together */
    TRY(make_tables(t), done);
    if (t->rules.by_score)
        TRY(add_scored_merges(t, s), done);
done:
    return st;
}

void pieces_free(struct pieces *p)
{
    host_free(p->chars);
    host_free(p->pairs);
    host_free(p->extra);
    *p = (struct pieces){0};
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* The symbols of a character that is in no token. */
static void add_unknown(const struct pieces *p, const char *text, size_t n, bool after_unknown,
                        struct bpe_word *word, bool *out_unknown)
{
    bool all = true;

    for (size_t i = 0; i < n; i++)
        all = all && p->byte_ids[(uint8_t)text[i]] >= 0;
    *out_unknown = !all && p->unk_id >= 0;
    if (all)
        for (size_t i = 0; i < n; i++)
            bpe_word_add(word, p->byte_ids[(uint8_t)text[i]]);
    else if (*out_unknown && !(after_unknown && p->fuse_unk))
        bpe_word_add(word, p->unk_id);
}

enum status pieces_encode_whole(const struct tokenizer *t, const char *text, size_t n_bytes,
                                struct bpe_word *word, struct token_list *list)
{
    const struct pieces *p = &t->pieces;
    enum status st = ST_OK;
    bool unknown = false;

    TRY(bpe_word_begin(word, n_bytes), done);
    for (size_t at = 0, n = 0; at < n_bytes; at += n) {
        const int32_t id = char_symbol(p, utf8_decode(text + at, &n));

        if (id < 0) {
            add_unknown(p, text + at, n, unknown, word, &unknown);
            continue;
        }
        unknown = false;
        bpe_word_add(word, id);
    }
    bpe_merge(&t->bpe, word);
    TRY(token_list_reserve(list, n_bytes), done);
    for (int32_t i = word->n_symbols > 0 ? 0 : -1; i >= 0; i = word->symbols[i].next) {
        const int32_t id = word->symbols[i].id;
        char bytes[4];

        if (id < p->first_extra) {
            list->ids[list->n_ids++] = id;
            continue;
        }
        const size_t n = utf8_encode(p->extra[id - p->first_extra], bytes);
        bool all = true;
        for (size_t k = 0; k < n; k++)
            all = all && p->byte_ids[(uint8_t)bytes[k]] >= 0;
        for (size_t k = 0; all && k < n; k++)
            list->ids[list->n_ids++] = p->byte_ids[(uint8_t)bytes[k]];
        if (!all && p->unk_id >= 0)
            list->ids[list->n_ids++] = p->unk_id;
    }
done:
    return st;
}

static enum status encode_part(const struct tokenizer *t, const char *text, size_t n_bytes,
                               struct bpe_word *word, struct token_list *list)
{
    const int32_t id = tokenizer_word(t, text, n_bytes);

    return id >= 0 ? token_list_append(list, &id, 1)
                   : pieces_encode_whole(t, text, n_bytes, word, list);
}

enum status pieces_encode(const struct tokenizer *t, const char *text, size_t n_bytes,
                          struct bpe_word *word, struct token_list *list)
{
    const struct pieces *p = &t->pieces;
    enum status st = ST_OK;
    uint32_t before = 0;
    size_t begin = 0;

    if (!p->splits || (t->rules.ignore_merges && tokenizer_word(t, text, n_bytes) >= 0))
        return encode_part(t, text, n_bytes, word, list);
    for (size_t at = 0, n = 0; at < n_bytes; at += n) {
        const uint32_t code = utf8_decode(text + at, &n);

        if (at > begin && !pair_known(p, before, code)) {
            TRY(t->rules.ignore_merges
                    ? pieces_encode_whole(t, text + begin, at - begin, word, list)
                    : encode_part(t, text + begin, at - begin, word, list),
                done);
            begin = at;
        }
        before = code;
    }
    TRY(t->rules.ignore_merges ? pieces_encode_whole(t, text + begin, n_bytes - begin, word, list)
                               : encode_part(t, text + begin, n_bytes - begin, word, list),
        done);
done:
    return st;
}
