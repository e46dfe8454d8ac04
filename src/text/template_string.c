/*
 * template_string.c - strings that know which of their bytes the template wrote.
 *
 * Lengths and places are counted in characters, as Python does; a search in bytes finds the same
 * places, because UTF-8 is self-synchronising.
 */
#include "text/template.h"

/* ---- builders -------------------------------------------------------------------------------- */

static enum status add_mark(struct tpl_run *run, struct tpl_builder *b, size_t begin, size_t end)
{
    void *marks = NULL;
    enum status st;

    if (b->n_marks > 0 && b->marks[b->n_marks - 1].end == begin) {
        b->marks[b->n_marks - 1].end = end;
        return ST_OK;
    }
    st = run_grow(run, b->marks, b->n_marks, &b->cap_marks, 1, sizeof *b->marks, &marks);
    if (st != ST_OK)
        return st;
    b->marks = marks;
    b->marks[b->n_marks++] = (struct text_range){begin, end};
    return ST_OK;
}

static enum status put_bytes(struct tpl_run *run, struct tpl_builder *b, const char *data,
                             size_t n_bytes)
{
    void *bigger = NULL;
    enum status st;

    TRY(run_steps(run, 1 + n_bytes / 16), done);
    TRY(run_grow(run, b->data, b->n_bytes, &b->cap_bytes, n_bytes, 1, &bigger), done);
    b->data = bigger;
    memcpy(b->data + b->n_bytes, data, n_bytes);
    b->n_bytes += n_bytes;
done:
    return st;
}

enum status builder_put(struct tpl_run *run, struct tpl_builder *b, const char *data,
                        size_t n_bytes, bool marked)
{
    enum status st = ST_OK;

    if (n_bytes == 0)
        return ST_OK;
    TRY(put_bytes(run, b, data, n_bytes), done);
    if (marked)
        TRY(add_mark(run, b, b->n_bytes - n_bytes, b->n_bytes), done);
done:
    return st;
}

enum status builder_puts(struct tpl_run *run, struct tpl_builder *b, const char *text)
{
    return builder_put(run, b, text, strlen(text), false);
}

size_t string_first_mark(const struct tpl_string *s, size_t byte)
{
    size_t low = 0, high = s->n_marks;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (s->marks[mid].end <= byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

enum status builder_put_part(struct tpl_run *run, struct tpl_builder *b, const struct tpl_string *s,
                             size_t begin, size_t end)
{
    const size_t at = b->n_bytes;
    enum status st = ST_OK;

    if (end <= begin)
        return ST_OK;
    TRY(put_bytes(run, b, s->data + begin, end - begin), done);
    for (size_t i = string_first_mark(s, begin); i < s->n_marks && s->marks[i].begin < end; i++) {
        const size_t from = s->marks[i].begin > begin ? s->marks[i].begin : begin;
        const size_t to = s->marks[i].end < end ? s->marks[i].end : end;

        TRY(run_steps(run, 1), done);
        TRY(add_mark(run, b, at + (from - begin), at + (to - begin)), done);
    }
done:
    return st;
}

enum status builder_put_string(struct tpl_run *run, struct tpl_builder *b,
                               const struct tpl_string *s)
{
    return builder_put_part(run, b, s, 0, s->n_bytes);
}

static size_t count_chars(const char *data, size_t n_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++)
        n += ((uint8_t)data[i] & 0xc0) != 0x80;
    return n;
}

static enum status wrap(struct tpl_run *run, struct tpl_string s, struct tpl_value *out_value)
{
    void *memory = NULL;
    enum status st;

    TRY(run_steps(run, 1 + s.n_bytes / 16), done);
    TRY(run_alloc(run, sizeof s, &memory), done);
    s.n_chars = count_chars(s.data, s.n_bytes);
    memcpy(memory, &s, sizeof s);
    *out_value = (struct tpl_value){.kind = TPL_STRING, .as.string = memory};
done:
    return st;
}

enum status builder_end(struct tpl_run *run, const struct tpl_builder *b,
                        struct tpl_value *out_value)
{
    return wrap(run,
                (struct tpl_string){.data = b->data != NULL ? b->data : "",
                                    .n_bytes = b->n_bytes,
                                    .marks = b->marks,
                                    .n_marks = b->n_marks},
                out_value);
}

enum status string_new(struct tpl_run *run, const char *data, size_t n_bytes, bool marked,
                       struct tpl_value *out_value)
{
    struct tpl_string s = {.data = data, .n_bytes = n_bytes};
    void *memory = NULL;
    enum status st = ST_OK;

    if (marked && n_bytes > 0) {
        TRY(run_alloc(run, sizeof(struct text_range), &memory), done);
        *(struct text_range *)memory = (struct text_range){0, n_bytes};
        s.marks = memory;
        s.n_marks = 1;
    }
    TRY(wrap(run, s, out_value), done);
done:
    return st;
}

/* ---- parts and sums -------------------------------------------------------------------------- */

enum status string_part(struct tpl_run *run, const struct tpl_string *s, size_t begin, size_t end,
                        struct tpl_value *out_value)
{
    struct tpl_string part = {.data = s->data + begin, .n_bytes = end - begin, .safe = s->safe};
    const size_t first = string_first_mark(s, begin);
    struct text_range *marks = NULL;
    void *memory = NULL;
    size_t n = 0;
    enum status st;

    while (first + n < s->n_marks && s->marks[first + n].begin < end)
        n++;
    if (n > 0) {
        TRY(run_alloc(run, n * sizeof *marks, &memory), done);
        marks = memory;
        for (size_t i = 0; i < n; i++) {
            const struct text_range mark = s->marks[first + i];

            marks[i].begin = (mark.begin > begin ? mark.begin : begin) - begin;
            marks[i].end = (mark.end < end ? mark.end : end) - begin;
        }
    }
    part.marks = marks;
    part.n_marks = n;
    TRY(wrap(run, part, out_value), done);
done:
    return st;
}

static enum status put_escaped(struct tpl_run *run, struct tpl_builder *b,
                               const struct tpl_string *s)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    size_t done = 0;
    enum status st = ST_OK;

    for (size_t i = 0; i < s->n_bytes; i++) {
        const char *found = memchr(from, s->data[i], sizeof from - 1);

        if (found == NULL)
            continue;
        TRY(builder_put_part(run, b, s, done, i), done);
        TRY(builder_puts(run, b, to[found - from]), done);
        done = i + 1;
    }
    TRY(builder_put_part(run, b, s, done, s->n_bytes), done);
done:
    return st;
}

enum status string_add(struct tpl_run *run, const struct tpl_string *a, const struct tpl_string *b,
                       struct tpl_value *out_value)
{
    const bool safe = a->safe || b->safe;
    struct tpl_builder sum = {0};
    enum status st;

    TRY(safe && !a->safe ? put_escaped(run, &sum, a) : builder_put_string(run, &sum, a), done);
    TRY(safe && !b->safe ? put_escaped(run, &sum, b) : builder_put_string(run, &sum, b), done);
    TRY(wrap(run,
             (struct tpl_string){.data = sum.data != NULL ? sum.data : "",
                                 .n_bytes = sum.n_bytes,
                                 .marks = sum.marks,
                                 .n_marks = sum.n_marks,
                                 .safe = safe},
             out_value),
        done);
done:
    return st;
}

enum status string_repeat(struct tpl_run *run, const struct tpl_string *s, int64_t n,
                          struct tpl_value *out_value)
{
    struct tpl_builder b = {0};
    enum status st = ST_OK;

    for (int64_t i = 0; i < n && s->n_bytes > 0; i++)
        TRY(builder_put_string(run, &b, s), done);
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

/* ---- looking --------------------------------------------------------------------------------- */

size_t string_offset(const struct tpl_string *s, size_t i)
{
    size_t at = 0;

    if (s->n_chars == s->n_bytes)
        return i;
    for (; at < s->n_bytes; at++)
        if (((uint8_t)s->data[at] & 0xc0) != 0x80 && i-- == 0)
            break;
    return at;
}

bool string_equal(const struct tpl_string *a, const struct tpl_string *b)
{
    return a->n_bytes == b->n_bytes && memcmp(a->data, b->data, a->n_bytes) == 0;
}

bool string_is(const struct tpl_string *s, const char *text)
{
    return s->n_bytes == strlen(text) && memcmp(s->data, text, s->n_bytes) == 0;
}

int string_compare(const struct tpl_string *a, const struct tpl_string *b)
{
    const size_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    const int order = memcmp(a->data, b->data, n);

    return order != 0 ? (order > 0) - (order < 0)
                      : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

size_t string_find(const struct tpl_string *s, const struct tpl_string *needle, size_t from)
{
    if (from > s->n_bytes || s->n_bytes - from < needle->n_bytes)
        return SIZE_MAX;
    if (needle->n_bytes == 0)
        return from;
    const char *found = memmem(s->data + from, s->n_bytes - from, needle->data, needle->n_bytes);
    return found != NULL ? (size_t)(found - s->data) : SIZE_MAX;
}

bool char_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x20) || code == 0x85 ||
           code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool string_char_in(const char *text, size_t n, const struct tpl_string *chars)
{
    size_t used = 0;

    if (chars == NULL)
        return char_is_space(utf8_decode(text, &used));
    return n <= chars->n_bytes && memmem(chars->data, chars->n_bytes, text, n) != NULL;
}

size_t string_char_bytes(const struct tpl_string *s, size_t at)
{
    size_t n = 1;

    while (at + n < s->n_bytes && ((uint8_t)s->data[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

size_t string_char_before(const struct tpl_string *s, size_t at)
{
    do
        at--;
    while (at > 0 && ((uint8_t)s->data[at] & 0xc0) == 0x80);
    return at;
}

enum status string_strip(struct tpl_run *run, const struct tpl_string *s,
                         const struct tpl_string *chars, int sides, struct tpl_value *out_value)
{
    size_t begin = 0, end = s->n_bytes, n = 0;
    const enum status st =
        run_steps(run, 1 + (chars != NULL ? s->n_bytes / 16 * (1 + chars->n_bytes / 16) : 0));

    if (st != ST_OK)
        return st;
    for (; sides & STRIP_LEFT && begin < end; begin += n) {
        n = string_char_bytes(s, begin);
        if (!string_char_in(s->data + begin, n, chars))
            break;
    }
    while (sides & STRIP_RIGHT && end > begin) {
        const size_t at = string_char_before(s, end);

        if (!string_char_in(s->data + at, end - at, chars))
            break;
        end = at;
    }
    return string_part(run, s, begin, end, out_value);
}
