/*
 * dequant.h - the functions behind the table of tensor types: dequant.c has the table and the plain
 * types, dequant_blocks.c the types in blocks.
 */
#ifndef EPIDOTE_MODEL_DEQUANT_H
#define EPIDOTE_MODEL_DEQUANT_H

#include "model/source.h"

/* Elements of a block: of the older quantised types, and of those whose blocks have scales inside
 * ("k-quants"). */
enum { DEQUANT_BLOCK = 32, DEQUANT_SUPER = 256 };

/* n_blocks blocks as float32; data has no alignment. */
void dequantize_q4_0(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q4_1(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q5_0(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q5_1(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q8_0(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q2_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q3_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q4_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q5_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);
void dequantize_q6_k(const uint8_t *restrict data, int64_t n_blocks, float *restrict out);

static inline uint16_t dequant_u16(const uint8_t *data)
{
    uint16_t bits;

    memcpy(&bits, data, sizeof bits);
    return bits;
}

#endif
