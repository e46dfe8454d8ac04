/*
 * nfc.c - Unicode's normal form C, by the tables of utf8proc.
 *
 * utf8proc orders combining marks by insertion, which is quadratic in their number; a text of marks
 * only would not end.  So they are ordered here, and utf8proc decomposes and composes.
 *
 * It sees only characters that the reference's normal form knows (char_ranges.c); newer ones stay
 * where they are and nothing passes them.  What becomes of a known character never changes, so ids
 * do not depend on the version of the library.
 */
#include <utf8proc.h>

#include "text/normal.h"

/* No character below U+0300 changes alone or with others below. */
static bool may_change(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if ((uint8_t)text[i] >= 0xcc) /* the lead byte of U+0300 */
            return true;
    return false;
}

static int combining_class(int32_t code)
{
    return utf8proc_get_property(code)->combining_class;
}

/* Order marks [0, n) by class, those of one class as they stand: count, then put. */
static void order_marks(int32_t *marks, size_t n, int32_t *scratch)
{
    size_t place[257] = {0};
    bool ordered = true;

    for (size_t i = 1; i < n && ordered; i++)
        ordered = combining_class(marks[i - 1]) <= combining_class(marks[i]);
    if (ordered)
        return;
    for (size_t i = 0; i < n; i++)
        place[combining_class(marks[i]) % 256 + 1]++;
    for (int i = 1; i < 257; i++)
        place[i] += place[i - 1];
    for (size_t i = 0; i < n; i++)
        scratch[place[combining_class(marks[i]) % 256]++] = marks[i];
    memcpy(marks, scratch, n * sizeof *marks);
}

static void order_all(int32_t *codes, size_t n, int32_t *scratch)
{
    for (size_t i = 0, end = 0; i < n; i = end + 1) {
        for (end = i; end < n && combining_class(codes[end]) != 0;)
            end++;
        order_marks(codes + i, end - i, scratch);
    }
}

/* A character of at most 4 decomposed ones in NFC's data; more is asked for anyway. */
enum { MAX_DECOMPOSED = 18 };

static enum status decompose(const char *text, size_t n_bytes, struct buf *codes)
{
    enum status st = ST_OK;
    int boundary = 0;

    for (size_t at = 0, n = 0; at < n_bytes; at += n) {
        int32_t out[MAX_DECOMPOSED];
        const int32_t code = (int32_t)utf8_decode(text + at, &n);
        const utf8proc_ssize_t count = utf8proc_decompose_char(
            code, out, MAX_DECOMPOSED, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);

        if (count < 1 || count > MAX_DECOMPOSED)
            TRY(buf_put(codes, &code, sizeof code), done);
        else
            TRY(buf_put(codes, out, (size_t)count * sizeof *out), done);
    }
done:
    return st;
}

/* Work memory that stretches of a text share. */
struct work {
    struct buf codes, scratch;
};

/* A stretch of characters that may be ordered, decomposed or composed. */
static enum status put_stretch(const char *text, size_t n_bytes, struct work *w, struct buf *out)
{
    enum status st = ST_OK;

    if (!may_change(text, n_bytes))
        return buf_put(out, text, n_bytes);
    buf_reset(&w->codes);
    buf_reset(&w->scratch);
    TRY(decompose(text, n_bytes, &w->codes), done);
    TRY(buf_reserve(&w->scratch, w->codes.n_bytes), done);
    int32_t *all = (int32_t *)(void *)w->codes.data;
    size_t n = w->codes.n_bytes / sizeof *all;

    order_all(all, n, (int32_t *)(void *)w->scratch.data);
    n = (size_t)utf8proc_normalize_utf32(all, (utf8proc_ssize_t)n,
                                         UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (size_t i = 0; i < n; i++) {
        char bytes[4];

        TRY(buf_put(out, bytes, utf8_encode((uint32_t)all[i], bytes)), done);
    }
done:
    return st;
}

enum status nfc_put(const char *text, size_t n_bytes, struct buf *out)
{
    struct work work = {{0}, {0}};
    enum status st = ST_OK;
    size_t begin = 0, step = 0;

    if (!may_change(text, n_bytes))
        return buf_put(out, text, n_bytes);
    for (size_t at = 0; at < n_bytes; at += step) {
        if (char_props(utf8_decode(text + at, &step)) & CHAR_NFC)
            continue;
        TRY(put_stretch(text + begin, at - begin, &work, out), done);
        TRY(buf_put(out, text + at, step), done);
        begin = at + step;
    }
    TRY(put_stretch(text + begin, n_bytes - begin, &work, out), done);
done:
    buf_free(&work.codes);
    buf_free(&work.scratch);
    return st;
}
