/*
 * rope.h - the table of rotation angles.  Private to this room: made by rope.c, read by decoder.c.
 */
#ifndef EPIDOTE_ROPE_H
#define EPIDOTE_ROPE_H

#include "model/model.h"

/*
 * rope_table_fill - cos and sin of position * base^(-2i/E) / divisors[i], for i < E/2.
 *   table  out  [context, E/2, 2] cos, sin
 * Computed in double and rounded once.  The same bits on every machine: no libm.  Local, pure.
 */
void rope_table_fill(float *table, int context, int E, const struct model_rope *rope);

#endif
