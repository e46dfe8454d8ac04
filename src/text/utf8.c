/*
 * utf8.c - code points in and out, and repair of ill-formed UTF-8 as it streams by.
 *
 * Each maximal part of an ill-formed sequence becomes one U+FFFD (Unicode chapter 3, "U+FFFD
 * substitution of maximal subparts"), which is also what the reference's decoder does.
 */
#include "text/internal.h"

uint32_t utf8_decode(const char *text, size_t *out_n_bytes)
{
    const uint8_t *b = (const uint8_t *)text;

    if (b[0] < 0x80) {
        *out_n_bytes = 1;
        return b[0];
    }
    if (b[0] < 0xe0) {
        *out_n_bytes = 2;
        return (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu);
    }
    if (b[0] < 0xf0) {
        *out_n_bytes = 3;
        return (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
    }
    *out_n_bytes = 4;
    return (b[0] & 0x07u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu);
}

size_t utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | code);
    return n;
}

/* Bytes of the character that a lead byte begins; 0 for a byte that begins none. */
static int lead_length(uint8_t byte)
{
    if (byte < 0x80)
        return 1;
    if (byte < 0xc2 || byte > 0xf4)
        return 0;
    return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* Whether byte may stand at place n >= 1 of a character.  The second byte's range depends on the
 * first: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool continues(const uint8_t *pending, int n, uint8_t byte)
{
    if ((byte & 0xc0) != 0x80)
        return false;
    if (n > 1)
        return true;
    switch (pending[0]) {
    case 0xe0:
        return byte >= 0xa0;
    case 0xed:
        return byte < 0xa0;
    case 0xf0:
        return byte >= 0x90;
    case 0xf4:
        return byte < 0x90;
    default:
        return true;
    }
}

static enum status put_replacement(struct buf *out)
{
    return buf_put(out, "\xef\xbf\xbd", 3);
}

enum status utf8_push(struct detokenizer *stream, uint8_t byte, bool nul_is_bad, struct buf *out)
{
    enum status st = ST_OK;

    if (stream->n_pending > 0 && !continues(stream->pending, stream->n_pending, byte))
        TRY(utf8_finish(stream, out), done); /* byte begins anew */
    if (stream->n_pending == 0 && (lead_length(byte) == 0 || (byte == 0 && nul_is_bad)))
        return put_replacement(out);
    stream->pending[stream->n_pending++] = byte;
    if (stream->n_pending == lead_length(stream->pending[0])) {
        st = buf_put(out, stream->pending, (size_t)stream->n_pending);
        stream->n_pending = 0;
    }
done:
    return st;
}

enum status utf8_finish(struct detokenizer *stream, struct buf *out)
{
    if (stream->n_pending == 0)
        return ST_OK;
    stream->n_pending = 0;
    return put_replacement(out);
}
