/*
 * normal.c - the normal form of a stretch of text: what a family's rules replace and put before it.
 */
#include "text/normal.h"

/* The first `from` in text from `begin` on; NULL if there is none.  (memmem would do, but a
 * sanitizer looks at all that is left of the text in each call.) */
static const char *find(struct text_span text, size_t begin, const char *from, size_t n_from)
{
    const char *at = text.data + begin, *end = text.data + text.n_bytes;

    while ((size_t)(end - at) >= n_from &&
           (at = memchr(at, from[0], (size_t)(end - at) - n_from + 1)) != NULL) {
        if (memcmp(at, from, n_from) == 0)
            return at;
        at++;
    }
    return NULL;
}

static enum status put_replaced(struct text_span text, const char *from, const char *to,
                                struct buf *out)
{
    const size_t n_from = strlen(from), n_to = strlen(to);
    enum status st = ST_OK;
    size_t begin = 0;

    while (begin < text.n_bytes) {
        const char *at = find(text, begin, from, n_from);
        const size_t n = at != NULL ? (size_t)(at - text.data) - begin : text.n_bytes - begin;

        TRY(buf_put(out, text.data + begin, n), done);
        if (at == NULL)
            break;
        TRY(buf_put(out, to, n_to), done);
        begin += n + n_from;
    }
done:
    return st;
}

static bool begins_with(struct text_span text, const char *word)
{
    const size_t n = strlen(word);

    return text.n_bytes >= n && memcmp(text.data, word, n) == 0;
}

/* Whether the rule leaves this text as it is. */
static bool is_idle(const struct normal_rule *rule, bool first, struct text_span text)
{
    switch (rule->kind) {
    case NORMAL_PREPEND:
        return text.n_bytes == 0;
    case NORMAL_PREPEND_FIRST:
        return !first || text.n_bytes == 0 || begins_with(text, rule->to);
    case NORMAL_PREPEND_MISSING:
        return text.n_bytes == 0 || begins_with(text, rule->to);
    case NORMAL_REPLACE:
    case NORMAL_NFC:
        break;
    }
    return text.n_bytes == 0;
}

static enum status apply(const struct normal_rule *rule, struct text_span text, struct buf *out)
{
    enum status st = ST_OK;

    if (rule->kind == NORMAL_NFC)
        return nfc_put(text.data, text.n_bytes, out);
    if (rule->kind == NORMAL_REPLACE)
        return put_replaced(text, rule->from, rule->to, out);
    TRY(buf_puts(out, rule->to), done);
    TRY(buf_put(out, text.data, text.n_bytes), done);
done:
    return st;
}

enum status normal_apply(const struct normal_rule *rules, int n_rules, bool first,
                         struct text_span text, struct buf buffers[2], struct text_span *out_text)
{
    enum status st = ST_OK;
    int used = 0;

    for (int i = 0; i < n_rules; i++) {
        struct buf *out = &buffers[used];

        if (is_idle(&rules[i], first, text))
            continue;
        buf_reset(out);
        TRY(apply(&rules[i], text, out), done);
        text = (struct text_span){out->n_bytes > 0 ? (const char *)out->data : "", out->n_bytes};
        used = 1 - used;
    }
    *out_text = text;
done:
    return st;
}
