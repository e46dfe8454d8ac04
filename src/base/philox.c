/*
 * philox.c - Philox4x32-10, a random function of (key, counter); the rounds are in draw.h.
 */
#include "base/base.h"

void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    memmove(out, counter, 4 * sizeof *out);
    draw_philox(key[0], key[1], out);
}
