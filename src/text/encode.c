/*
 * encode.c - text to token ids: special tokens first, then words, then merges.
 *
 * Control tokens are looked for only where the caller allows them, so a text cannot spell its way
 * out of its place in a conversation (chat.c).  User-defined tokens are looked for everywhere else.
 */
#include <stdint.h>

#include "text/internal.h"

/* ---- lists ---------------------------------------------------------------------------------- */

enum status token_list_reserve(struct token_list *list, size_t n)
{
    size_t cap = list->cap_ids > 0 ? (size_t)list->cap_ids : 64;

    if ((size_t)(list->cap_ids - list->n_ids) >= n)
        return ST_OK;
    while (cap - (size_t)list->n_ids < n)
        cap *= 2;
    int32_t *ids = host_realloc(list->ids, cap * sizeof *ids);
    if (ids == NULL)
        return ST_NOMEM;
    list->ids = ids;
    list->cap_ids = (int64_t)cap;
    return ST_OK;
}

enum status token_list_append(struct token_list *list, const int32_t *ids, int64_t n_ids)
{
    const enum status st = token_list_reserve(list, (size_t)n_ids);

    if (st == ST_OK && n_ids > 0) {
        memcpy(list->ids + list->n_ids, ids, (size_t)n_ids * sizeof *ids);
        list->n_ids += n_ids;
    }
    return st;
}

static enum status token_list_add(struct token_list *list, int32_t id)
{
    return token_list_append(list, &id, 1);
}

void token_list_free(struct token_list *list)
{
    host_free(list->ids);
    *list = (struct token_list){0};
}

/* ---- from large to small -------------------------------------------------------------------- */

struct encoder {
    const struct tokenizer *tokenizer;
    struct token_list *list;
    struct bpe_scratch scratch;
};

/* Text without special tokens. */
static enum status encode_words(struct encoder *e, const char *text, size_t n_bytes)
{
    const struct tokenizer *t = e->tokenizer;
    enum status st = ST_OK;

    for (size_t at = 0, n = 0; at < n_bytes; at += n) {
        n = t->pre->next(t->classes, text + at, n_bytes - at);
        const int32_t id = tokenizer_word(t, text + at, n);
        if (id >= 0)
            TRY(token_list_add(e->list, id), done);
        else
            TRY(bpe_encode(&t->bpe, text + at, n, &e->scratch, e->list), done);
    }
done:
    return st;
}

/* Text without control tokens. */
static enum status encode_plain(struct encoder *e, const char *text, size_t n_bytes)
{
    enum status st = ST_OK;
    size_t begin = 0, at = 0, n = 0;
    int32_t id = -1;

    while ((id = special_set_find(&e->tokenizer->user, text + begin, n_bytes - begin, &at, &n)) >=
           0) {
        TRY(encode_words(e, text + begin, at), done);
        TRY(token_list_add(e->list, id), done);
        begin += at + n;
    }
    TRY(encode_words(e, text + begin, n_bytes - begin), done);
done:
    return st;
}

enum status encode_text(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                        const struct text_range *marks, size_t n_marks, struct token_list *list)
{
    struct encoder e = {.tokenizer = tokenizer, .list = list};
    enum status st = ST_OK;
    size_t begin = 0, at = 0, n = 0;
    int32_t id = -1;

    for (size_t i = 0; i < n_marks; i++) {
        size_t from = marks[i].begin; /* never before begin: a token found ends inside its mark */

        while ((id = special_set_find(&tokenizer->control, text + from, marks[i].end - from, &at,
                                      &n)) >= 0) {
            TRY(encode_plain(&e, text + begin, from + at - begin), done);
            TRY(token_list_add(list, id), done);
            from += at + n;
            begin = from;
        }
    }
    TRY(encode_plain(&e, text + begin, n_bytes - begin), done);
done:
    bpe_scratch_free(&e.scratch);
    return st;
}

/* ---- the public way in ---------------------------------------------------------------------- */

enum status encode_check(const char *text, size_t n_bytes, unsigned flags, struct buf *lossy,
                         struct text_span *out_text, struct row_error *err)
{
    struct detokenizer stream = {0};
    enum status st = ST_OK;
    size_t bad = 0;

    *out_text = (struct text_span){n_bytes > 0 ? text : "", n_bytes};
    if (n_bytes > INT32_MAX)
        return row_error_set(err, "a text of %zu bytes is too long: the limit is 2 GiB", n_bytes);
    if (utf8_valid(text, n_bytes, &bad))
        return ST_OK;
    if (!(flags & ENCODE_LOSSY))
        return row_error_set(err, "not valid UTF-8: byte 0x%02x at offset %zu of %zu",
                             (unsigned)(uint8_t)text[bad], bad, n_bytes);
    TRY(buf_reserve(lossy, n_bytes + 3), done);
    for (size_t i = 0; i < n_bytes; i++)
        TRY(utf8_push(&stream, (uint8_t)text[i], false, lossy), done);
    TRY(utf8_finish(&stream, lossy), done);
    if (lossy->n_bytes > INT32_MAX)
        return row_error_set(err, "a text of %zu bytes is too long: the limit is 2 GiB",
                             lossy->n_bytes);
    *out_text = (struct text_span){(const char *)lossy->data, lossy->n_bytes};
done:
    return st;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n_bytes,
                             unsigned flags, struct token_list *list, struct row_error *err)
{
    const int64_t n_before = list->n_ids;
    const bool special = (flags & ENCODE_SPECIAL) != 0;
    struct text_span valid = {0};
    struct buf lossy = {0};
    enum status st = ST_OK;

    TRY(encode_check(text, n_bytes, flags, &lossy, &valid, err), done);
    if (special && t->add_bos)
        TRY(token_list_add(list, t->bos_id), done);
    const struct text_range whole = {0, valid.n_bytes};
    TRY(encode_text(t, valid.data, valid.n_bytes, &whole, flags & ENCODE_PARSE_SPECIAL ? 1 : 0,
                    list),
        done);
    if (special && t->add_eos)
        TRY(token_list_add(list, t->eos_id), done);
done:
    if (st != ST_OK)
        list->n_ids = n_before;
    buf_free(&lossy);
    return st;
}
