/*
 * result.c - one finished row as bytes and back: the form that the journal keeps and messages
 * carry.
 *
 * Bytes come from disks and wires, so unpacking trusts nothing: every count is checked against the
 * bytes that are there before it is used.  Knows nothing of files.
 *
 *   struct packed_row | tokens | logprobs | top_ids | top_logprobs | text NUL error NUL | 0..7
 * zeros
 *
 * All little-endian; the whole is a multiple of 8 bytes.
 */
#include <assert.h>

#include "data/data.h"
#include "data/result_file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed rows are little-endian");

enum { PACKED_MAGIC = 0x31525045 }; /* "EPR1": changes with the layout */

struct packed_row {
    uint32_t magic;
    uint32_t has_logprobs; /* 0 or 1 */
    uint64_t row;
    int32_t reason, prompt_len;
    int32_t n_tokens, n_top;
    uint64_t text_bytes, error_bytes;
    struct row_timing timing;
};
_Static_assert(sizeof(struct packed_row) == 72, "no padding, so no byte is left unset");

const char *finish_reason_name(enum finish_reason reason)
{
    static const char *const names[FINISH_COUNT] = {"stop", "length", "scored", "error"};

    return (unsigned)reason < FINISH_COUNT ? names[reason] : "unknown";
}

/* Bytes of the numbers between head and texts.  No overflow: the counts are below 2^31. */
static uint64_t numbers_bytes(uint64_t n_tokens, uint64_t n_top, bool has_logprobs, bool *out_fits)
{
    const uint64_t n_top_values = n_tokens * n_top; /* < 2^62 */

    *out_fits = n_top_values < UINT64_C(1) << 56;
    return 4 * (n_tokens + (has_logprobs ? n_tokens : 0)) + 8 * n_top_values;
}

static uint64_t round_up_8(uint64_t n_bytes)
{
    return (n_bytes + 7) & ~UINT64_C(7);
}

enum status result_pack(const struct result_row *row, struct buf *out)
{
    enum status st = ST_OK;
    const struct packed_row head = {
        .magic = PACKED_MAGIC,
        .has_logprobs = row->has_logprobs,
        .row = row->row,
        .reason = (int32_t)row->reason,
        .prompt_len = row->prompt_len,
        .n_tokens = row->n_tokens,
        .n_top = row->n_top,
        .text_bytes = row->text_bytes,
        .error_bytes = row->error_bytes,
        .timing = row->timing,
    };
    static const uint8_t zeros[8] = {0};
    bool fits = false;

    assert(row->n_tokens >= 0 && row->n_top >= 0 && row->prompt_len >= 0);
    assert((unsigned)row->reason < FINISH_COUNT);
    assert(row->error_bytes == 0 || row->reason == FINISH_ERROR);
    const size_t n_tokens = (size_t)row->n_tokens, n_top_values = n_tokens * (size_t)row->n_top;
    const uint64_t n_bytes =
        sizeof head + numbers_bytes(n_tokens, (uint64_t)row->n_top, row->has_logprobs, &fits) +
        row->text_bytes + row->error_bytes + 2;
    assert(fits);

    /* Room first: a row is appended whole or not at all. */
    TRY(buf_reserve(out, round_up_8(n_bytes)), err);
    TRY(buf_put(out, &head, sizeof head), err);
    TRY(buf_put(out, row->tokens, n_tokens * 4), err);
    if (row->has_logprobs)
        TRY(buf_put(out, row->logprobs, n_tokens * 4), err);
    TRY(buf_put(out, row->top_ids, n_top_values * 4), err);
    TRY(buf_put(out, row->top_logprobs, n_top_values * 4), err);
    TRY(buf_put(out, row->text, row->text_bytes), err);
    TRY(buf_put(out, zeros, 1), err);
    TRY(buf_put(out, row->error, row->error_bytes), err);
    TRY(buf_put(out, zeros, 1 + round_up_8(n_bytes) - n_bytes), err);
err:
    return st;
}

/* A text of n_bytes and its NUL: UTF-8, no NUL inside. */
static bool text_is_good(const char *text, size_t n_bytes)
{
    return text[n_bytes] == '\0' && memchr(text, '\0', n_bytes) == NULL &&
           utf8_valid(text, n_bytes, NULL);
}

enum status result_unpack(const void *data, size_t n_bytes, struct result_row *out_row)
{
    struct packed_row head;
    bool fits = false;

    assert((uintptr_t)data % 8 == 0);
    if (n_bytes < sizeof head || n_bytes % 8 != 0)
        return ST_FORMAT;
    memcpy(&head, data, sizeof head);
    if (head.magic != PACKED_MAGIC || head.has_logprobs > 1 || head.reason < 0 ||
        head.reason >= FINISH_COUNT || head.prompt_len < 0 || head.n_tokens < 0 || head.n_top < 0)
        return ST_FORMAT;
    /* Each text is checked alone first, so that their sum cannot wrap. */
    const uint64_t numbers =
        numbers_bytes((uint64_t)head.n_tokens, (uint64_t)head.n_top, head.has_logprobs == 1, &fits);
    if (!fits || numbers > n_bytes || head.text_bytes > n_bytes || head.error_bytes > n_bytes)
        return ST_FORMAT;
    const uint64_t used = sizeof head + numbers + head.text_bytes + head.error_bytes + 2;
    if (round_up_8(used) != n_bytes)
        return ST_FORMAT;
    if (head.error_bytes > 0 && head.reason != FINISH_ERROR)
        return ST_FORMAT;

    const uint8_t *at = (const uint8_t *)data + sizeof head;
    const size_t n_tokens = (size_t)head.n_tokens, n_top_values = n_tokens * (size_t)head.n_top;
    struct result_row row = {
        .row = head.row,
        .reason = (enum finish_reason)head.reason,
        .text_bytes = (size_t)head.text_bytes,
        .error_bytes = (size_t)head.error_bytes,
        .n_tokens = head.n_tokens,
        .prompt_len = head.prompt_len,
        .has_logprobs = head.has_logprobs == 1,
        .n_top = head.n_top,
        .timing = head.timing,
    };
    row.tokens = (const int32_t *)(const void *)at;
    at += n_tokens * 4;
    if (row.has_logprobs) {
        row.logprobs = (const float *)(const void *)at;
        at += n_tokens * 4;
    }
    if (row.n_top > 0) {
        row.top_ids = (const int32_t *)(const void *)at;
        row.top_logprobs = (const float *)(const void *)(at + n_top_values * 4);
        at += n_top_values * 8;
    }
    row.text = (const char *)at;
    row.error = row.text + row.text_bytes + 1;
    if (!text_is_good(row.text, row.text_bytes) || !text_is_good(row.error, row.error_bytes))
        return ST_FORMAT;
    *out_row = row;
    return ST_OK;
}

bool result_same_answer(const struct result_row *a, const struct result_row *b)
{
    const size_t n_tokens = (size_t)a->n_tokens, n_top_values = n_tokens * (size_t)a->n_top;

    /* Bits, not values: a NaN equals itself and -0 is not 0. */
    return a->row == b->row && a->reason == b->reason && a->prompt_len == b->prompt_len &&
           a->n_tokens == b->n_tokens &&
           (n_tokens == 0 || (a->n_top == b->n_top && a->has_logprobs == b->has_logprobs)) &&
           a->text_bytes == b->text_bytes && a->error_bytes == b->error_bytes &&
           (a->text_bytes == 0 || memcmp(a->text, b->text, a->text_bytes) == 0) &&
           (a->error_bytes == 0 || memcmp(a->error, b->error, a->error_bytes) == 0) &&
           (n_tokens == 0 || memcmp(a->tokens, b->tokens, n_tokens * 4) == 0) &&
           (!a->has_logprobs || n_tokens == 0 ||
            memcmp(a->logprobs, b->logprobs, n_tokens * 4) == 0) &&
           (n_top_values == 0 || (memcmp(a->top_ids, b->top_ids, n_top_values * 4) == 0 &&
                                  memcmp(a->top_logprobs, b->top_logprobs, n_top_values * 4) == 0));
}
