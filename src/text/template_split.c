/*
 * template_split.c - strings taken apart and put together anew: replace, split, lines, case.
 */
#include "text/template.h"

/* ---- replacing and cutting ------------------------------------------------------------------- */

enum status string_replace(struct tpl_run *run, const struct tpl_string *s,
                           const struct tpl_string *old, const struct tpl_string *new_text,
                           int64_t max, struct tpl_value *out_value)
{
    struct tpl_builder b = {0};
    size_t at = 0, found = 0;
    enum status st = ST_OK;

    while (max != 0 && (found = string_find(s, old, at)) != SIZE_MAX) {
        /* An empty one is found before every character and at the end. */
        const size_t next = old->n_bytes > 0 || found == s->n_bytes
                                ? found + old->n_bytes
                                : found + string_char_bytes(s, found);

        TRY(builder_put_part(run, &b, s, at, found), done);
        TRY(builder_put_string(run, &b, new_text), done);
        TRY(builder_put_part(run, &b, s, found + old->n_bytes, next), done);
        TRY(run_steps(run, 1), done);
        max -= max > 0;
        at = next;
        if (old->n_bytes == 0 && found == s->n_bytes)
            break;
    }
    TRY(builder_put_part(run, &b, s, at, s->n_bytes), done);
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

enum status string_find_last(struct tpl_run *run, const struct tpl_string *s,
                             const struct tpl_string *needle, size_t to, size_t *out_at)
{
    const size_t each = 1 + needle->n_bytes / 64; /* of a comparison */
    size_t at = to >= needle->n_bytes ? to - needle->n_bytes + 1 : 0;
    enum status st = ST_OK;

    while (at-- > 0) {
        TRY(run_steps(run, each), done);
        if (memcmp(s->data + at, needle->data, needle->n_bytes) == 0) {
            *out_at = at;
            return ST_OK;
        }
    }
    *out_at = SIZE_MAX;
done:
    return st;
}

/* A list of parts that grows. */
struct parts {
    struct tpl_value *items;
    size_t n, cap;
};

static enum status add_part(struct tpl_run *run, struct parts *parts, const struct tpl_string *s,
                            size_t begin, size_t end)
{
    void *bigger = NULL;
    enum status st;

    TRY(run_grow(run, parts->items, parts->n, &parts->cap, 1, sizeof *parts->items, &bigger), done);
    parts->items = bigger;
    TRY(string_part(run, s, begin, end, &parts->items[parts->n]), done);
    parts->n++;
done:
    return st;
}

static void reverse(struct parts *parts)
{
    for (size_t i = 0; i < parts->n / 2; i++) {
        const struct tpl_value value = parts->items[i];

        parts->items[i] = parts->items[parts->n - 1 - i];
        parts->items[parts->n - 1 - i] = value;
    }
}

/* At runs of white space; none at the ends. */
static enum status split_words(struct tpl_run *run, const struct tpl_string *s, int64_t max,
                               struct parts *parts)
{
    size_t at = 0;
    enum status st = ST_OK;

    for (;;) {
        while (at < s->n_bytes && string_char_in(s->data + at, string_char_bytes(s, at), NULL))
            at += string_char_bytes(s, at);
        if (at == s->n_bytes)
            return ST_OK;
        size_t end = at;
        if (max >= 0 && (int64_t)parts->n == max)
            end = s->n_bytes;
        while (end < s->n_bytes && !string_char_in(s->data + end, string_char_bytes(s, end), NULL))
            end += string_char_bytes(s, end);
        TRY(add_part(run, parts, s, at, end), done);
        at = end;
    }
done:
    return st;
}

static enum status split_words_right(struct tpl_run *run, const struct tpl_string *s, int64_t max,
                                     struct parts *parts)
{
    size_t end = s->n_bytes;
    enum status st = ST_OK;

    for (;;) {
        while (end > 0 && string_char_in(s->data + string_char_before(s, end),
                                         end - string_char_before(s, end), NULL))
            end = string_char_before(s, end);
        if (end == 0)
            break;
        size_t at = end;
        if (max >= 0 && (int64_t)parts->n == max)
            at = 0;
        while (at > 0 && !string_char_in(s->data + string_char_before(s, at),
                                         at - string_char_before(s, at), NULL))
            at = string_char_before(s, at);
        TRY(add_part(run, parts, s, at, end), done);
        end = at;
    }
    reverse(parts);
done:
    return st;
}

static enum status split_at(struct tpl_run *run, const struct tpl_string *s,
                            const struct tpl_string *sep, int64_t max, bool from_right,
                            struct parts *parts)
{
    size_t begin = 0, end = s->n_bytes, found = 0;
    enum status st = ST_OK;

    while (max < 0 || (int64_t)parts->n < max) {
        if (from_right)
            TRY(string_find_last(run, s, sep, end, &found), done);
        else
            found = string_find(s, sep, begin);
        if (found == SIZE_MAX)
            break;
        if (from_right) {
            TRY(add_part(run, parts, s, found + sep->n_bytes, end), done);
            end = found;
        } else {
            TRY(add_part(run, parts, s, begin, found), done);
            begin = found + sep->n_bytes;
        }
    }
    TRY(add_part(run, parts, s, begin, end), done);
    if (from_right)
        reverse(parts);
done:
    return st;
}

enum status string_split(struct tpl_run *run, const struct tpl_string *s,
                         const struct tpl_string *sep, int64_t max, bool from_right,
                         struct tpl_value *out_value)
{
    struct parts parts = {0};
    enum status st;

    TRY(run_steps(run, 1 + s->n_bytes / 4), done);
    if (sep != NULL && sep->n_bytes == 0)
        return run_fail(run, "split at an empty text");
    if (sep != NULL)
        TRY(split_at(run, s, sep, max, from_right, &parts), done);
    else if (from_right && max >= 0)
        TRY(split_words_right(run, s, max, &parts), done);
    else
        TRY(split_words(run, s, max, &parts), done);
    TRY(value_seq(run, SEQ_LIST, parts.items, parts.n, out_value), done);
done:
    return st;
}

static bool ends_line(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1c && code <= 0x1e) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

enum status string_lines(struct tpl_run *run, const struct tpl_string *s, bool keep_ends,
                         struct tpl_value *out_value)
{
    struct parts parts = {0};
    size_t begin = 0, n = 0;
    enum status st;

    TRY(run_steps(run, 1 + s->n_bytes / 4), done);
    for (size_t at = 0; at < s->n_bytes; at += n) {
        if (!ends_line(utf8_decode(s->data + at, &n)))
            continue;
        if (s->data[at] == '\r' && at + 1 < s->n_bytes && s->data[at + 1] == '\n')
            n = 2;
        TRY(add_part(run, &parts, s, begin, keep_ends ? at + n : at), done);
        begin = at + n;
    }
    if (begin < s->n_bytes)
        TRY(add_part(run, &parts, s, begin, s->n_bytes), done);
    TRY(value_seq(run, SEQ_LIST, parts.items, parts.n, out_value), done);
done:
    return st;
}

/* ---- case ------------------------------------------------------------------------------------ */

/* Greek sigma at the end of a word has a lower case of its own. */
static bool final_sigma(const struct tpl_string *s, size_t at)
{
    size_t n = 0, before = at, behind = at + 2;
    bool cased = false;

    while (before > 0 && !cased) {
        before = string_char_before(s, before);
        const uint32_t code = utf8_decode(s->data + before, &n);
        cased = char_cased(code);
        if (!cased && code != '\'' && code != 0xad && code != '.' && code != ':')
            break;
    }
    if (!cased)
        return false;
    for (; behind < s->n_bytes; behind += n) {
        const uint32_t code = utf8_decode(s->data + behind, &n);

        if (char_cased(code))
            return false;
        if (code != '\'' && code != 0xad && code != '.' && code != ':')
            break;
    }
    return true;
}

enum status string_case(struct tpl_run *run, struct tpl_builder *b, const struct tpl_string *s,
                        size_t begin, size_t end, enum tpl_case to)
{
    size_t n = 0, mark = string_first_mark(s, begin);
    enum status st;

    TRY(run_steps(run, 1 + (end - begin) / 2), done);
    for (size_t at = begin; at < end; at += n) {
        const uint32_t code = utf8_decode(s->data + at, &n);
        uint32_t codes[3] = {code};
        int n_codes = char_case(code, to, codes);

        while (mark < s->n_marks && s->marks[mark].end <= at)
            mark++;
        if (code == 0x3a3 && to == CASE_LOWER && final_sigma(s, at))
            codes[0] = 0x3c2;
        for (int i = 0; i < n_codes; i++) {
            char bytes[4];
            const size_t n_bytes = utf8_encode(codes[i], bytes);

            TRY(builder_put(run, b, bytes, n_bytes,
                            mark < s->n_marks && s->marks[mark].begin <= at),
                done);
        }
    }
done:
    return st;
}
