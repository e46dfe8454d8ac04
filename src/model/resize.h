/*
 * resize.h - pictures in other sizes.  Private to this room.
 */
#ifndef EPIDOTE_MODEL_RESIZE_H
#define EPIDOTE_MODEL_RESIZE_H

#include "model/model.h"

/*
 * resize_rgb - in [height, width, 3] as out [out_height, out_width, 3]; they do not overlap.
 *   Along each row, then along each column; a direction whose size stays is left as it is.  Where a
 * picture gets smaller the filter gets wider (antialias).  A weight is an integer of 22 bits after
 * the point, a sum is rounded to 8 bits after each direction: what Pillow's Image.resize does, to
 * which torchvision's is equal to within one level.
 * Returns ST_OK, ST_NOMEM.
 */
enum status resize_rgb(const uint8_t *in, int width, int height, int out_width, int out_height,
                       enum resample filter, uint8_t *out);

#endif
