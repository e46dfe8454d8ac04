/*
 * codes.c - half-precision floats and UTF-8 well-formedness.
 */
#include "base/base.h"

float f32_from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;

    if (exponent == 0x1f)
        return f32_from_bits(sign | 0x7f800000u | (mantissa << 13));
    if (exponent != 0)
        return f32_from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
    if (mantissa == 0)
        return f32_from_bits(sign);
    /* Subnormal: shift the leading one up to where the implicit one is. */
    uint32_t e = 113;
    while ((mantissa & 0x400u) == 0) {
        mantissa <<= 1;
        e--;
    }
    return f32_from_bits(sign | (e << 23) | ((mantissa & 0x3ffu) << 13));
}

/* Bytes of the well-formed character at s (Unicode 15, table 3-7), 0 if there is none. */
static size_t utf8_char_bytes(const uint8_t *s, size_t n)
{
    const uint8_t c = s[0];
    const size_t n_tail = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    uint8_t low = 0x80, high = 0xbf;

    if ((c >= 0x80 && c < 0xc2) || c >= 0xf5 || n <= n_tail)
        return 0;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i <= n_tail; i++) {
        if (s[i] < low || s[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return n_tail + 1;
}

bool utf8_valid(const char *text, size_t n_bytes, size_t *out_bad)
{
    const uint8_t *s = (const uint8_t *)text;

    for (size_t i = 0; i < n_bytes;) {
        const size_t n = utf8_char_bytes(s + i, n_bytes - i);

        if (n == 0) {
            if (out_bad != NULL)
                *out_bad = i;
            return false;
        }
        i += n;
    }
    return true;
}
