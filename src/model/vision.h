/*
 * vision.h - private to src/model: how a model's files say what is done to images, and resizing.
 */
#ifndef EPIDOTE_MODEL_VISION_H
#define EPIDOTE_MODEL_VISION_H

#include "model/model.h"

/*
 * vision_prep_parse - preprocessor_config.json, or processor_config.json that has one as
 * `image_processor`, into config->prep.
 *   origin  in      file name for messages
 *   config  in,out  layout; patch, patch_frames, merge and grid are compared with what the file
 * says Absent keys take the defaults of the file's class, an absent class is that of the layout.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED (a class, key or value that this version does not
 * compute); logged.
 */
enum status vision_prep_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                              struct vision_config *config);

enum { VISION_MAX_TILES = 64 }; /* of idefics3, along an edge */

/* A part of a picture: x and y of its first pixel, width and height. */
struct resize_window {
    int x, y, width, height;
};

/*
 * resize_rgb - a window of what [in_height, in_width, 3] becomes at out_width x out_height.
 *   window  in   within the output (assert)
 *   out     out  [window.height, window.width, 3]
 * As torchvision's resize of 8-bit pixels: each axis by itself, to 8 bits in between, integers
 * only.
 * Returns ST_OK, ST_NOMEM.
 */
struct resize_args {
    const uint8_t *in;
    int in_width, in_height, out_width, out_height;
    enum resample resample;
    struct resize_window window;
};
enum status resize_rgb(const struct resize_args *args, uint8_t *out);

#endif
