/*
 * vision_patches.c - from the pixels of an image to what a tower sees.
 *
 *   llava     (square) ─ resize ─ middle ────────────────────────┐
 *   idefics3  resize ─ resize to whole tiles ─┬─ each tile ──────┤
 *                                             └─ resize to one ──┼─► patches, numbers
 *   qwen2vl   resize ────────────────────────────────────────────┘
 *
 * Up to the patches all are 8-bit pixels; a number is looked up by channel and level.
 */
#include <assert.h>

#include "model/resize.h"
#include "model/vision_prep.h"

enum { CHANNELS = 3, LEVELS = 256 };

/* Pixels on their way. */
struct image {
    int width, height;
    const uint8_t *rgb;
    uint8_t *owned; /* rgb itself, or NULL: it is the caller's */
};

static void image_free(struct image *image)
{
    host_free(image->owned);
    *image = (struct image){0};
}

static enum status image_alloc(struct vision_size size, struct image *out)
{
    *out = (struct image){.width = size.width, .height = size.height};
    out->owned = host_alloc((size_t)size.width * (size_t)size.height * CHANNELS);
    out->rgb = out->owned;
    return out->owned != NULL ? ST_OK : ST_NOMEM;
}

/* image becomes another size. */
static enum status resize(struct image *image, struct vision_size size, enum resample filter)
{
    enum status st;
    struct image out;

    if (size.width == image->width && size.height == image->height)
        return ST_OK;
    TRY(image_alloc(size, &out), err);
    TRY(resize_rgb(image->rgb, image->width, image->height, size.width, size.height, filter,
                   out.owned),
        err_out);
    image_free(image);
    *image = out;
    return ST_OK;
err_out:
    image_free(&out);
err:
    return st;
}

/* The part of image that begins at (left, top), which may lie outside; there it has colour. */
static enum status cut(struct image *image, int left, int top, struct vision_size size,
                       const uint8_t colour[CHANNELS])
{
    enum status st;
    struct image out;

    TRY(image_alloc(size, &out), err);
    for (int y = 0; y < size.height; y++)
        for (int x = 0; x < size.width; x++) {
            const int from_x = left + x, from_y = top + y;
            const bool inside =
                from_x >= 0 && from_x < image->width && from_y >= 0 && from_y < image->height;
            const size_t from = inside ? (size_t)from_y * (size_t)image->width + (size_t)from_x : 0;

            memcpy(out.owned + ((size_t)y * (size_t)size.width + (size_t)x) * CHANNELS,
                   inside ? image->rgb + from * CHANNELS : colour, CHANNELS);
        }
    image_free(image);
    *image = out;
err:
    return st;
}

/* ---- llava ----------------------------------------------------------------------------------- */

static enum status pad_to_square(const struct vision_prep *prep, struct image *image)
{
    const struct vision_size size = vision_padded(prep, image->width, image->height);
    uint8_t colour[CHANNELS];

    if (size.width == image->width && size.height == image->height)
        return ST_OK;
    for (int c = 0; c < CHANNELS; c++)
        colour[c] = (uint8_t)(prep->mean[c] * 255);
    return cut(image, -((size.width - image->width) / 2), -((size.height - image->height) / 2),
               size, colour);
}

/* Where the middle begins: before the image, if it is smaller. */
static int middle(int pixels, int crop)
{
    return crop > pixels ? -((crop - pixels) / 2) : (pixels - crop) / 2;
}

static enum status crop_middle(const struct vision_prep *prep, struct image *image)
{
    static const uint8_t black[CHANNELS] = {0};
    const struct vision_size size = {prep->crop_width, prep->crop_height};

    if (!prep->crop || (size.width == image->width && size.height == image->height))
        return ST_OK;
    return cut(image, middle(image->width, size.width), middle(image->height, size.height), size,
               black);
}

/* ---- patches --------------------------------------------------------------------------------- */

/* What a level of a channel becomes. */
static void make_levels(const struct vision_prep *prep, float levels[CHANNELS][LEVELS])
{
    for (int c = 0; c < CHANNELS; c++) {
        float mean = (float)prep->mean[c], std = (float)prep->std[c];

        if (prep->rescale && prep->normalise) { /* in one, as torch does it */
            mean *= (float)(1.0 / prep->rescale_factor);
            std *= (float)(1.0 / prep->rescale_factor);
        }
        for (int level = 0; level < LEVELS; level++) {
            float x = (float)level;

            if (prep->normalise)
                x = (x - mean) / std;
            else if (prep->rescale)
                x *= (float)prep->rescale_factor;
            levels[c][level] = x;
        }
    }
}

/* One patch, its upper left pixel at (x0, y0). */
static float *put_patch(const struct vision_config *config, const struct image *image, int x0,
                        int y0, float levels[CHANNELS][LEVELS], float *out)
{
    const int patch = config->patch;

    for (int c = 0; c < CHANNELS; c++)
        for (int frame = 0; frame < config->patch_frames; frame++)
            for (int y = 0; y < patch; y++) {
                const uint8_t *row =
                    image->rgb + ((size_t)(y0 + y) * (size_t)image->width + (size_t)x0) * CHANNELS +
                    c;

                for (int x = 0; x < patch; x++)
                    *out++ = levels[c][row[x * CHANNELS]];
            }
    return out;
}

/* A picture of grid_h x grid_w patches that begins at (x0, y0): squares of m x m patches, row by
 * row, and in each its patches likewise. */
static float *put_picture(const struct vision_config *config, const struct image *image, int x0,
                          int y0, int grid_h, int grid_w, int m, float levels[CHANNELS][LEVELS],
                          float *out)
{
    for (int gy = 0; gy < grid_h; gy += m)
        for (int gx = 0; gx < grid_w; gx += m)
            for (int my = 0; my < m; my++)
                for (int mx = 0; mx < m; mx++)
                    out = put_patch(config, image, x0 + (gx + mx) * config->patch,
                                    y0 + (gy + my) * config->patch, levels, out);
    return out;
}

static enum status patch_llava(const struct vision_config *config, const struct vision_plan *plan,
                               struct image *image, float levels[CHANNELS][LEVELS], float *out)
{
    enum status st;
    const struct vision_prep *prep = &config->prep;

    TRY(pad_to_square(prep, image), err);
    TRY(resize(image, vision_resized(prep, (struct vision_size){image->width, image->height}),
               prep->resample),
        err);
    TRY(crop_middle(prep, image), err);
    put_picture(config, image, 0, 0, plan->grid_h, plan->grid_w, 1, levels, out);
err:
    return st;
}

static enum status patch_idefics3(const struct vision_config *config,
                                  const struct vision_plan *plan, struct image *image,
                                  float levels[CHANNELS][LEVELS], float *out)
{
    enum status st;
    const struct vision_prep *prep = &config->prep;
    const int edge = prep->tile_edge, grid = config->grid;
    const struct vision_size scaled = vision_scaled(prep, image->width, image->height);

    TRY(resize(image, scaled, prep->resample), err);
    TRY(resize(image, vision_tiled(prep, scaled), prep->resample), err);
    for (int y = 0; y < plan->tiles_y; y++)
        for (int x = 0; x < plan->tiles_x; x++)
            out = put_picture(config, image, x * edge, y * edge, grid, grid, 1, levels, out);
    TRY(resize(image, (struct vision_size){edge, edge}, prep->resample), err);
    put_picture(config, image, 0, 0, grid, grid, 1, levels, out);
err:
    return st;
}

static enum status patch_qwen2vl(const struct vision_config *config, const struct vision_plan *plan,
                                 struct image *image, float levels[CHANNELS][LEVELS], float *out)
{
    enum status st;
    const struct vision_size size = {plan->grid_w * config->patch, plan->grid_h * config->patch};

    TRY(resize(image, size, config->prep.resample), err);
    put_picture(config, image, 0, 0, plan->grid_h, plan->grid_w, config->merge, levels, out);
err:
    return st;
}

enum status vision_patches(const struct vision_config *config, const struct vision_plan *plan,
                           const uint8_t *rgb, float *out)
{
    enum status st;
    struct image image = {.width = plan->width, .height = plan->height, .rgb = rgb};
    float levels[CHANNELS][LEVELS];

    make_levels(&config->prep, levels);
    switch (config->layout) {
    case VISION_IDEFICS3:
        st = patch_idefics3(config, plan, &image, levels, out);
        break;
    case VISION_QWEN2VL:
        st = patch_qwen2vl(config, plan, &image, levels, out);
        break;
    default:
        st = patch_llava(config, plan, &image, levels, out);
    }
    image_free(&image);
    return st;
}
