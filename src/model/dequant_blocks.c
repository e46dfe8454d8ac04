/*
 * dequant_blocks.c - the quantised types of GGUF files: blocks with their scales.
 *
 *   Q4_0 Q4_1 Q5_0 Q5_1 Q8_0   32 elements: a scale, with _1 a minimum, then the integers
 *   Q2_K .. Q6_K               256 elements in groups of 16 or 32 with small integer scales of
 * their own, which are multiplied by the block's
 *
 * Products and sums are made in the order of the reference, whose results these equal bit for bit.
 * Called through the table in dequant.c.
 */
#include "model/dequant.h"

enum { BLOCK = DEQUANT_BLOCK, HALF = BLOCK / 2 };

static float scale_at(const uint8_t *data)
{
    return f32_from_f16(dequant_u16(data));
}

/* ---- blocks of 32 --------------------------------------------------------------------------- */

/* The 4- and 5-bit types hold elements 0 .. 15 in the low halves of their 16 bytes, 16 .. 31 in the
 * high halves; the 5-bit types have the fifth bits in 4 bytes before them. */

/* scale (binary16), 16 bytes: (q - 8) * scale */
void dequantize_q4_0(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 2 + HALF, out += BLOCK) {
        const float scale = scale_at(data);

        for (int i = 0; i < HALF; i++) {
            out[i] = scale * (float)((data[2 + i] & 15) - 8);
            out[i + HALF] = scale * (float)((data[2 + i] >> 4) - 8);
        }
    }
}

/* scale, minimum (binary16 each), 16 bytes: q * scale + minimum */
void dequantize_q4_1(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 4 + HALF, out += BLOCK) {
        const float scale = scale_at(data), minimum = scale_at(data + 2);

        for (int i = 0; i < HALF; i++) {
            out[i] = scale * (float)(data[4 + i] & 15) + minimum;
            out[i + HALF] = scale * (float)(data[4 + i] >> 4) + minimum;
        }
    }
}

/* The 32 integers of a 5-bit block from its fifth bits and its 16 bytes.  Tests of bits instead of
 * shifts, which not every instruction set has for lanes of different amounts. */
static void five_bits(const uint8_t *restrict data, int *restrict out)
{
    uint32_t fifth;

    memcpy(&fifth, data, sizeof fifth);
    const int low = (int)(fifth & 0xffff), high = (int)(fifth >> 16);
    for (int i = 0; i < HALF; i++) {
        const int bit = 1 << i;

        out[i] = (data[4 + i] & 15) | ((low & bit) != 0 ? 16 : 0);
        out[i + HALF] = data[4 + i] >> 4 | ((high & bit) != 0 ? 16 : 0);
    }
}

/* scale (binary16), 4 bytes of fifth bits, 16 bytes: (q - 16) * scale */
void dequantize_q5_0(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 6 + HALF, out += BLOCK) {
        const float scale = scale_at(data);
        int q[BLOCK];

        five_bits(data + 2, q);
        for (int i = 0; i < BLOCK; i++)
            out[i] = scale * (float)(q[i] - 16);
    }
}

/* scale, minimum (binary16 each), 4 bytes of fifth bits, 16 bytes: q * scale + minimum */
void dequantize_q5_1(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 8 + HALF, out += BLOCK) {
        const float scale = scale_at(data), minimum = scale_at(data + 2);
        int q[BLOCK];

        five_bits(data + 4, q);
        for (int i = 0; i < BLOCK; i++)
            out[i] = scale * (float)q[i] + minimum;
    }
}

/* scale (binary16), 32 signed bytes: q * scale */
void dequantize_q8_0(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 2 + BLOCK, out += BLOCK) {
        const float scale = scale_at(data);

        for (int i = 0; i < BLOCK; i++)
            out[i] = scale * (float)(int8_t)data[2 + i];
    }
}

/* ---- blocks of 256 -------------------------------------------------------------------------- */

/* 2 bits an element: 16 bytes of scale (low half) and minimum (high half) for 16 elements each, 64
 * bytes, scale, minimum (binary16 each).  32 bytes hold 128 elements: byte i has the elements i, 32
 * + i, 64 + i and 96 + i, from its low end. */
void dequantize_q2_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 84) {
        const uint8_t *groups = data, *q = data + 16;
        const float scale = scale_at(data + 80), minimum = scale_at(data + 82);

        for (int g = 0; g < 16; g++, out += 16) {
            const float step = scale * (float)(groups[g] & 15);
            const float below = minimum * (float)(groups[g] >> 4);
            const uint8_t *bytes = q + g / 8 * 32 + g % 2 * 16;
            const int shift = g % 8 / 2 * 2;

            for (int i = 0; i < 16; i++)
                out[i] = step * (float)(bytes[i] >> shift & 3) - below;
        }
    }
}

/* Scale g of 16 from 12 bytes: 4 low bits in the first 8, 2 high bits in the last 4. */
static int q3_k_scale(const uint8_t *scales, int g)
{
    const int low = scales[g % 8] >> g / 8 * 4 & 15, high = scales[8 + g % 4] >> g / 4 * 2 & 3;

    return (low | high << 4) - 32;
}

/* 3 bits an element: 32 bytes of third bits, 64 bytes as with 2 bits, 12 bytes of 16 scales, scale
 * (binary16).  A third bit that is not set subtracts 4. */
void dequantize_q3_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 110) {
        const float scale = scale_at(data + 108);

        for (int g = 0; g < 16; g++, out += 16) {
            const float step = scale * (float)q3_k_scale(data + 96, g);
            const uint8_t *third = data + g % 2 * 16, *bytes = data + 32 + g / 8 * 32 + g % 2 * 16;
            const int shift = g % 8 / 2 * 2, bit = g / 2;

            for (int i = 0; i < 16; i++) {
                const int q = (bytes[i] >> shift & 3) - (~third[i] >> bit & 1) * 4;

                out[i] = step * (float)q;
            }
        }
    }
}

/* Scale and minimum g of 8, 6 bits each, from 12 bytes: those of the first 4 in the low bits of the
 * first 8 bytes, of the others 4 low bits in the last 4 bytes and 2 high bits above the first. */
static void q4_k_group(const uint8_t *bytes, int g, int *out_scale, int *out_minimum)
{
    if (g < 4) {
        *out_scale = bytes[g] & 63;
        *out_minimum = bytes[g + 4] & 63;
    } else {
        *out_scale = (bytes[g + 4] & 15) | bytes[g - 4] >> 6 << 4;
        *out_minimum = bytes[g + 4] >> 4 | bytes[g] >> 6 << 4;
    }
}

/* 4 bits an element: scale, minimum (binary16 each), 12 bytes of 8 scales and minima, 128 bytes: of
 * 32 each, the low halves are one group and the high halves the next. */
void dequantize_q4_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 144) {
        const float scale = scale_at(data), minimum = scale_at(data + 2);

        for (int g = 0; g < 8; g++, out += 32) {
            const uint8_t *bytes = data + 16 + g / 2 * 32;
            const int shift = g % 2 * 4;
            int of_scale, of_minimum;

            q4_k_group(data + 4, g, &of_scale, &of_minimum);
            const float step = scale * (float)of_scale, below = minimum * (float)of_minimum;
            for (int i = 0; i < 32; i++)
                out[i] = step * (float)(bytes[i] >> shift & 15) - below;
        }
    }
}

/* 5 bits an element: as 4 bits, with 32 bytes of fifth bits before the 128: bit g for group g. */
void dequantize_q5_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 176) {
        const float scale = scale_at(data), minimum = scale_at(data + 2);

        for (int g = 0; g < 8; g++, out += 32) {
            const uint8_t *fifth = data + 16, *bytes = data + 48 + g / 2 * 32;
            const int shift = g % 2 * 4;
            int of_scale, of_minimum;

            q4_k_group(data + 4, g, &of_scale, &of_minimum);
            const float step = scale * (float)of_scale, below = minimum * (float)of_minimum;
            for (int i = 0; i < 32; i++) {
                const int q = (bytes[i] >> shift & 15) | (fifth[i] >> g & 1) << 4;

                out[i] = step * (float)q - below;
            }
        }
    }
}

/* 6 bits an element: 128 bytes of 4 low bits, 64 bytes of 2 high bits, 16 signed scales for 16
 * elements each, scale (binary16).  Of each 128 elements, the low bits of the first 64 are in low
 * halves and of the last 64 in high halves; the high bits lie as those of 2 bits do. */
void dequantize_q6_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out)
{
    for (int64_t b = 0; b < n_blocks; b++, data += 210) {
        const float scale = scale_at(data + 208);

        for (int g = 0; g < 16; g++, out += 16) {
            const int in_half = g % 8; /* of 8 groups in 128 elements */
            const float step = scale * (float)(int8_t)data[192 + g];
            const uint8_t *low = data + g / 8 * 64 + in_half % 4 * 16;
            const uint8_t *high = data + 128 + g / 8 * 32 + in_half % 2 * 16;
            const int low_shift = in_half / 4 * 4, high_shift = in_half / 2 * 2;

            for (int i = 0; i < 16; i++) {
                const int q = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;

                out[i] = step * (float)(q - 32);
            }
        }
    }
}
