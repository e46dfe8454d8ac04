/*
 * vision_prep.h - what the files that prepare images share.  Private to this room.
 *
 *   vision_prep.c     preprocessor_config.json
 *   vision_plan.c     sizes
 *   vision_patches.c  pixels
 */
#ifndef EPIDOTE_MODEL_VISION_PREP_H
#define EPIDOTE_MODEL_VISION_PREP_H

#include "model/model.h"

struct vision_size {
    int width, height;
};

/* llava: the sizes of an image made square, and then resized. */
struct vision_size vision_padded(const struct vision_prep *prep, int width, int height);
struct vision_size vision_resized(const struct vision_prep *prep, struct vision_size size);
/* idefics3: of an image resized, and then to whole tiles. */
struct vision_size vision_scaled(const struct vision_prep *prep, int width, int height);
struct vision_size vision_tiled(const struct vision_prep *prep, struct vision_size size);

/*
 * vision_prep_parse - fill config->prep from the text of a preprocessor_config.json, or of a
 * processor_config.json that holds one (transformers 5); absent keys take the defaults of the
 * processor's class.  The tower's sizes are known already, and have to fit.
 *   *out_found  out  false: the file says nothing about images
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM; logged with origin and key.
 */
enum status vision_prep_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                              struct vision_config *config, bool *out_found);

#endif
