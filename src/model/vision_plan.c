/*
 * vision_plan.c - what an image of one size becomes: sizes on its way to the tower, patches,
 * embeddings.
 *
 * The arithmetic is that of the image processors of transformers, roundings included.
 */
#include <assert.h>
#include <math.h>

#include "model/vision_prep.h"

enum { LONGEST_EDGE = 4096 }; /* of idefics3, whatever is asked for */

int vision_patch_elems(const struct vision_config *config)
{
    return 3 * config->patch_frames * config->patch * config->patch;
}

/* ---- llava ----------------------------------------------------------------------------------- */

/* The shorter edge as asked for, the other in proportion, cut. */
static struct vision_size by_shortest(struct vision_size size, int edge)
{
    if (size.width <= size.height)
        return (struct vision_size){edge, (int)((int64_t)edge * size.height / size.width)};
    return (struct vision_size){(int)((int64_t)edge * size.width / size.height), edge};
}

struct vision_size vision_padded(const struct vision_prep *prep, int width, int height)
{
    const int edge = width > height ? width : height;

    return prep->pad_square ? (struct vision_size){edge, edge}
                            : (struct vision_size){width, height};
}

struct vision_size vision_resized(const struct vision_prep *prep, struct vision_size size)
{
    if (!prep->resize)
        return size;
    if (prep->height > 0)
        return (struct vision_size){prep->width, prep->height};
    return by_shortest(size, prep->shortest_edge);
}

/* ---- idefics3 -------------------------------------------------------------------------------- */

static struct vision_size at_least_1(struct vision_size size)
{
    return (struct vision_size){size.width > 1 ? size.width : 1, size.height > 1 ? size.height : 1};
}

struct vision_size vision_scaled(const struct vision_prep *prep, int width, int height)
{
    struct vision_size size = {width, height};
    double ratio = (double)width / height;

    if (!prep->resize)
        return size;
    if (prep->longest_edge == 0)
        return (struct vision_size){prep->width, prep->height};
    /* The longer edge as asked for, the other even; then no edge beyond 4,096. */
    if (width >= height) {
        size.width = prep->longest_edge;
        size.height = (int)(size.width / ratio);
        size.height += size.height % 2;
    } else {
        size.height = prep->longest_edge;
        size.width = (int)(size.height * ratio);
        size.width += size.width % 2;
    }
    size = at_least_1(size);
    ratio = (double)size.width / size.height;
    if (size.width >= size.height && size.width > LONGEST_EDGE)
        size = (struct vision_size){LONGEST_EDGE, (int)(LONGEST_EDGE / ratio)};
    else if (size.height > size.width && size.height > LONGEST_EDGE)
        size = (struct vision_size){(int)(LONGEST_EDGE * ratio), LONGEST_EDGE};
    return at_least_1(size);
}

static int tiles_of(int pixels, int edge)
{
    return (pixels + edge - 1) / edge;
}

struct vision_size vision_tiled(const struct vision_prep *prep, struct vision_size size)
{
    const int edge = prep->tile_edge;
    const double ratio = (double)size.width / size.height;
    struct vision_size out;

    if (!prep->split)
        return (struct vision_size){edge, edge};
    if (size.width >= size.height) {
        out.width = tiles_of(size.width, edge) * edge;
        out.height = tiles_of((int)(out.width / ratio), edge) * edge;
    } else {
        out.height = tiles_of(size.height, edge) * edge;
        out.width = tiles_of((int)(out.height * ratio), edge) * edge;
    }
    /* A strip of no height takes one tile. */
    return (struct vision_size){out.width > edge ? out.width : edge,
                                out.height > edge ? out.height : edge};
}

static void plan_idefics3(const struct vision_config *config, struct vision_plan *plan)
{
    const struct vision_prep *prep = &config->prep;
    const struct vision_size size =
        vision_tiled(prep, vision_scaled(prep, plan->width, plan->height));
    const int per_edge = config->grid / config->merge;

    if (size.width > prep->tile_edge || size.height > prep->tile_edge) {
        plan->tiles_x = size.width / prep->tile_edge;
        plan->tiles_y = size.height / prep->tile_edge;
    }
    plan->n_pictures = plan->tiles_x * plan->tiles_y + 1;
    plan->grid_h = plan->grid_w = config->grid;
    plan->n_patches = plan->n_pictures * config->grid * config->grid;
    plan->n_rows = plan->n_pictures * per_edge * per_edge;
}

/* ---- qwen2vl --------------------------------------------------------------------------------- */

/* n / by to the nearest whole number, halves to even ones. */
static int64_t nearest(int64_t n, int64_t by)
{
    const int64_t whole = n / by, twice = 2 * (n % by);

    return whole + (twice > by || (twice == by && whole % 2 != 0));
}

static int64_t at_least(int64_t n, int64_t least)
{
    return n > least ? n : least;
}

static enum status plan_qwen2vl(const struct vision_config *config, struct vision_plan *plan,
                                struct row_error *err)
{
    const struct vision_prep *prep = &config->prep;
    const int unit = config->patch * config->merge, w = plan->width, h = plan->height;
    const double pixels = (double)w * h;
    int64_t width = nearest(w, unit) * unit, height = nearest(h, unit) * unit;

    if ((w > h ? (double)w / h : (double)h / w) > 200)
        return row_error_set(err, "%d x %d pixels: one edge may be 200 times as long as the other",
                             w, h);
    if (!prep->resize) {
        if (w % unit != 0 || h % unit != 0)
            return row_error_set(
                err, "%d x %d pixels: without resizing, edges must be multiples of %d", w, h, unit);
        width = w;
        height = h;
    } else if (width * height > prep->max_pixels) {
        const double beta = sqrt(pixels / (double)prep->max_pixels);

        width = at_least((int64_t)(w / beta / unit) * unit, unit);
        height = at_least((int64_t)(h / beta / unit) * unit, unit);
    } else if (width * height < prep->min_pixels) {
        const double beta = sqrt((double)prep->min_pixels / pixels);

        width = (int64_t)ceil(w * beta / unit) * unit;
        height = (int64_t)ceil(h * beta / unit) * unit;
    }
    plan->grid_w = (int)(width / config->patch);
    plan->grid_h = (int)(height / config->patch);
    plan->n_pictures = 1;
    plan->n_patches = plan->grid_w * plan->grid_h;
    plan->rows_h = plan->grid_h / config->merge;
    plan->rows_w = plan->grid_w / config->merge;
    plan->n_rows = plan->rows_h * plan->rows_w;
    return ST_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

enum status vision_plan_make(const struct vision_config *config, int width, int height,
                             struct vision_plan *out_plan, struct row_error *err)
{
    enum { LONGEST_RESIZED = 1 << 16 };
    struct vision_plan plan = {.width = width, .height = height};
    const struct vision_size resized =
        vision_resized(&config->prep, vision_padded(&config->prep, width, height));

    assert(width > 0 && height > 0);
    switch (config->layout) {
    case VISION_IDEFICS3:
        plan_idefics3(config, &plan);
        break;
    case VISION_QWEN2VL:
        if (plan_qwen2vl(config, &plan, err) != ST_OK)
            return ST_ROW;
        break;
    default:
        /* A strip so long that its middle is resized to more than a picture can be. */
        if (resized.width > LONGEST_RESIZED || resized.height > LONGEST_RESIZED ||
            resized.width < 1 || resized.height < 1)
            return row_error_set(err, "%d x %d pixels: one edge is too long for the other", width,
                                 height);
        plan.n_pictures = 1;
        plan.grid_h = plan.grid_w = config->grid;
        plan.n_patches = config->grid * config->grid;
        plan.n_rows = plan.n_patches + config->keep_class_token;
    }
    *out_plan = plan;
    return ST_OK;
}
