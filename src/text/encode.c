/*
 * encode.c - text to token ids: special tokens first, then words, then merges.
 *
 * Control tokens are looked for only where the caller allows them, so a text cannot spell its way
 * out of its place in a conversation (chat.c).  User-defined tokens are looked for everywhere else.
 */
#include <stdint.h>

#include "text/words.h"

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
    struct bpe_word word;
    struct word_walk walk;
    struct buf normal[2], late[2];
};

static void encoder_free(struct encoder *e)
{
    bpe_word_free(&e->word);
    word_walk_free(&e->walk);
    for (int i = 0; i < 2; i++) {
        buf_free(&e->normal[i]);
        buf_free(&e->late[i]);
    }
}

static enum status encode_word(struct encoder *e, struct text_span word)
{
    const struct tokenizer *t = e->tokenizer;

    if (t->rules.chars)
        return pieces_encode(t, word.data, word.n_bytes, &e->word, e->list);
    const int32_t id = tokenizer_word(t, word.data, word.n_bytes);
    return id >= 0 ? token_list_add(e->list, id)
                   : bytes_encode(t, word.data, word.n_bytes, &e->word, e->list);
}

/* Text in normal form, without special tokens; first: with nothing before it. */
static enum status encode_words(struct encoder *e, const char *text, size_t n_bytes, bool first)
{
    const struct text_rules *rules = &e->tokenizer->rules;
    struct text_span span = {text, n_bytes};
    enum status st = ST_OK;

    TRY(normal_apply(rules->late, rules->n_late, first, span, e->late, &span), done);
    word_walk_begin(&e->walk, e->tokenizer->words, span.data, span.n_bytes);
    for (;;) {
        TRY(word_walk_next(&e->walk, &span), done);
        if (span.n_bytes == 0)
            break;
        TRY(encode_word(e, span), done);
    }
done:
    return st;
}

/* Text without those user-defined tokens that are found in text as it is written. */
static enum status encode_normal(struct encoder *e, const char *text, size_t n_bytes, bool first)
{
    const struct tokenizer *t = e->tokenizer;
    struct special_finder finder = {.tokenizer = t, .set = &t->user_late};
    struct text_span span = {text, n_bytes};
    enum status st = ST_OK;

    TRY(normal_apply(t->rules.normal, t->rules.n_normal, first, span, e->normal, &span), done);
    finder.text = span.data;
    finder.n_bytes = finder.end = span.n_bytes;
    while (special_next(&finder)) {
        TRY(encode_words(e, span.data + finder.begin, finder.at - finder.begin,
                         first && finder.begin == 0),
            done);
        TRY(token_list_add(e->list, finder.id), done);
    }
    TRY(encode_words(e, span.data + finder.begin, span.n_bytes - finder.begin,
                     first && finder.begin == 0),
        done);
done:
    return st;
}

/* Text without control tokens. */
static enum status encode_plain(struct encoder *e, const char *text, size_t n_bytes, bool first)
{
    struct special_finder finder = {.tokenizer = e->tokenizer,
                                    .set = &e->tokenizer->user,
                                    .text = text,
                                    .n_bytes = n_bytes,
                                    .end = n_bytes};
    enum status st = ST_OK;

    while (special_next(&finder)) {
        TRY(encode_normal(e, text + finder.begin, finder.at - finder.begin,
                          first && finder.begin == 0),
            done);
        TRY(token_list_add(e->list, finder.id), done);
    }
    TRY(encode_normal(e, text + finder.begin, n_bytes - finder.begin, first && finder.begin == 0),
        done);
done:
    return st;
}

enum status encode_text(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                        const struct text_range *marks, size_t n_marks, struct token_list *list)
{
    struct encoder e = {.tokenizer = tokenizer, .list = list};
    struct special_finder finder = {
        .tokenizer = tokenizer, .set = &tokenizer->control, .text = text, .n_bytes = n_bytes};
    enum status st = ST_OK;

    for (size_t i = 0; i < n_marks; i++) {
        /* A token that takes white space with it may have ended behind the mark's beginning. */
        finder.from = marks[i].begin > finder.from ? marks[i].begin : finder.from;
        finder.end = marks[i].end;
        while (special_next(&finder)) {
            TRY(encode_plain(&e, text + finder.begin, finder.at - finder.begin, finder.begin == 0),
                done);
            TRY(token_list_add(list, finder.id), done);
        }
    }
    TRY(encode_plain(&e, text + finder.begin, n_bytes - finder.begin, finder.begin == 0), done);
done:
    encoder_free(&e);
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

/* Valid text with the marks of what is the model's own in it, and BOS and EOS around. */
static enum status encode_marked(const struct tokenizer *t, struct text_span text,
                                 const struct text_range *marks, size_t n_marks, bool special,
                                 struct token_list *list)
{
    const int64_t n_before = list->n_ids;
    enum status st = ST_OK;

    if (special && t->add_bos)
        TRY(token_list_add(list, t->bos_id), done);
    TRY(encode_text(t, text.data, text.n_bytes, marks, n_marks, list), done);
    if (special && t->add_eos)
        TRY(token_list_add(list, t->eos_id), done);
done:
    if (st != ST_OK)
        list->n_ids = n_before;
    return st;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n_bytes,
                             unsigned flags, struct token_list *list, struct row_error *err)
{
    return tokenizer_encode_swapped(t, text, n_bytes, flags, NULL, 0, list, err);
}

const struct text_swap *encode_find_swap(struct text_span text, const struct text_swap *swaps,
                                         int n_swaps, size_t *at)
{
    for (; *at < text.n_bytes; (*at)++) {
        const struct text_swap *best = NULL;
        size_t longest = 0;

        for (int i = 0; i < n_swaps; i++) {
            const struct text_span *find = &swaps[i].find;

            if (find->n_bytes <= longest || find->n_bytes > text.n_bytes - *at ||
                memcmp(find->data, text.data + *at, find->n_bytes) != 0)
                continue;
            best = &swaps[i];
            longest = find->n_bytes;
        }
        if (best != NULL)
            return best;
    }
    return NULL;
}

/* Text with its words swapped, and marks of what was put in. */
static enum status swap_all(struct text_span text, const struct text_swap *swaps, int n_swaps,
                            struct buf *out_text, struct buf *out_marks)
{
    enum status st = ST_OK;
    const struct text_swap *swap;
    size_t kept = 0, at = 0;

    while ((swap = encode_find_swap(text, swaps, n_swaps, &at)) != NULL) {
        TRY(buf_put(out_text, text.data + kept, at - kept), done);
        const struct text_range mark = {out_text->n_bytes, out_text->n_bytes + swap->put.n_bytes};
        TRY(buf_put(out_text, swap->put.data, swap->put.n_bytes), done);
        TRY(buf_put(out_marks, &mark, sizeof mark), done);
        at += swap->find.n_bytes;
        kept = at;
    }
    TRY(buf_put(out_text, text.data + kept, text.n_bytes - kept), done);
done:
    return st;
}

enum status tokenizer_encode_swapped(const struct tokenizer *t, const char *text, size_t n_bytes,
                                     unsigned flags, const struct text_swap *swaps, int n_swaps,
                                     struct token_list *list, struct row_error *err)
{
    const bool special = (flags & ENCODE_SPECIAL) != 0;
    struct text_span valid = {0};
    struct buf lossy = {0}, swapped = {0}, marks = {0};
    enum status st = ST_OK;

    TRY(encode_check(text, n_bytes, flags, &lossy, &valid, err), done);
    if (n_swaps > 0) {
        TRY(swap_all(valid, swaps, n_swaps, &swapped, &marks), done);
        valid = (struct text_span){swapped.n_bytes > 0 ? (const char *)swapped.data : "",
                                   swapped.n_bytes};
        if (valid.n_bytes > INT32_MAX) {
            st = row_error_set(err, "a text of %zu bytes is too long: the limit is 2 GiB",
                               valid.n_bytes);
            goto done;
        }
    }
    if (flags & ENCODE_PARSE_SPECIAL) {
        const struct text_range whole = {0, valid.n_bytes};

        TRY(encode_marked(t, valid, &whole, 1, special, list), done);
    } else {
        TRY(encode_marked(t, valid, (const struct text_range *)(const void *)marks.data,
                          marks.n_bytes / sizeof(struct text_range), special, list),
            done);
    }
done:
    buf_free(&lossy);
    buf_free(&swapped);
    buf_free(&marks);
    return st;
}
