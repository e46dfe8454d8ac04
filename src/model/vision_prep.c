/*
 * vision_prep.c - from the pixels of an image to the patches that a tower takes, and how many those
 * are.
 *
 * The geometry is that of transformers' image processors, in the same steps on 8-bit pixels:
 *
 *   llava     [pad to a square] -> resize -> crop the middle              -> one picture
 *   idefics3  resize -> resize to whole tiles -> tiles; that, as one tile -> tiles and the whole
 *   qwen2vl   resize to whole blocks of patches                           -> one picture
 *
 * A pixel then has one of 256 values in each channel, which a table makes into floats.  What
 * preprocessor_config.json says: vision_prep_file.c.  Callers: the encoder's image thread; the
 * coordinator's intake, which needs the numbers alone.
 */
#include <assert.h>
#include <limits.h>
#include <math.h>

#include "model/vision.h"

enum {
    CHANNELS = 3,
    LEVELS = 256,
    MAX_RATIO = 200,               /* of edges, in qwen2vl */
    MAX_IDEFICS3_EDGE = 4096,      /* after resizing to longest_edge */
    MAX_RESIZED_PIXELS = 128 << 20 /* nothing larger is ever asked for, but by strange images */
};

struct size {
    int width, height;
};

/* What is done with an image of one size; {0, 0}: not done. */
struct geometry {
    struct size padded, resized, whole_tiles, picture; /* picture: what each one is in the end */
    int tiles_x, tiles_y;
};

/* ---- sizes ----------------------------------------------------------------------------------- */

/* What Python's int(x) is for x >= 0, if an int can hold it. */
static int truncated(double x)
{
    return x < INT_MAX ? (int)x : INT_MAX;
}

static int ceil_to(int n, int unit)
{
    return (n / unit + (n % unit != 0)) * unit;
}

/* transformers' get_resize_output_image_size: the shorter edge is given. */
static struct size by_shortest(struct size in, int shortest)
{
    const bool narrow = in.width <= in.height;
    const double edge = shortest, s = narrow ? in.width : in.height,
                 l = narrow ? in.height : in.width;
    const int longer = truncated(edge * l / s);

    return narrow ? (struct size){shortest, longer} : (struct size){longer, shortest};
}

/* transformers' get_size_with_aspect_ratio: the same, but the longer edge has a limit. */
static struct size by_both(struct size in, int shortest, int longest)
{
    const double w = in.width, h = in.height, s = w < h ? w : h, l = w < h ? h : w;
    double raw = shortest;
    int edge = shortest;

    if (l / s * shortest > longest) {
        raw = longest * s / l;
        edge = (int)rint(raw);
    }
    if ((h <= w && in.height == edge) || (w <= h && in.width == edge))
        return in;
    return w < h ? (struct size){edge, truncated(raw * h / w)}
                 : (struct size){truncated(raw * w / h), edge};
}

/* Idefics3's get_resize_output_image_size. */
static struct size by_longest(struct size in, int longest)
{
    const double ratio = (double)in.width / in.height;
    struct size out;

    if (in.width >= in.height) {
        out = (struct size){longest, truncated(longest / ratio)};
        out.height += out.height % 2;
    } else {
        out = (struct size){truncated(longest * ratio), longest};
        out.width += out.width % 2;
    }
    if (out.width < 1)
        out.width = 1;
    if (out.height < 1)
        out.height = 1;
    const double ratio_now = (double)out.width / out.height;
    if (out.width >= out.height && out.width > MAX_IDEFICS3_EDGE)
        out = (struct size){MAX_IDEFICS3_EDGE, truncated(MAX_IDEFICS3_EDGE / ratio_now)};
    else if (out.height > out.width && out.height > MAX_IDEFICS3_EDGE)
        out = (struct size){truncated(MAX_IDEFICS3_EDGE * ratio_now), MAX_IDEFICS3_EDGE};
    if (out.width < 1)
        out.width = 1;
    if (out.height < 1)
        out.height = 1;
    return out;
}

/* Idefics3's resize_for_vision_encoder. */
static struct size to_whole_tiles(struct size in, int tile)
{
    const double ratio = (double)in.width / in.height;
    struct size out;

    if (in.width >= in.height) {
        out.width = ceil_to(in.width, tile);
        out.height = ceil_to(truncated(out.width / ratio), tile);
    } else {
        out.height = ceil_to(in.height, tile);
        out.width = ceil_to(truncated(out.height * ratio), tile);
    }
    return out;
}

/* Qwen2-VL's smart_resize, in pixels. */
static struct size by_pixels(struct size in, const struct vision_prep *prep, int factor)
{
    const double w = in.width, h = in.height, f = factor;
    double w_bar = rint(w / f) * f, h_bar = rint(h / f) * f;

    if (h_bar * w_bar > (double)prep->max_pixels) {
        const double beta = sqrt(h * w / (double)prep->max_pixels);

        h_bar = fmax(f, floor(h / beta / f) * f);
        w_bar = fmax(f, floor(w / beta / f) * f);
    } else if (h_bar * w_bar < (double)prep->min_pixels) {
        const double beta = sqrt((double)prep->min_pixels / (h * w));

        h_bar = ceil(h * beta / f) * f;
        w_bar = ceil(w * beta / f) * f;
    }
    return (struct size){truncated(w_bar), truncated(h_bar)};
}

/* ---- geometry -------------------------------------------------------------------------------- */

static enum status check_pixels(struct size size, struct row_error *err)
{
    if (size.width > 0 && size.height > 0 &&
        (double)size.width * size.height <= (double)MAX_RESIZED_PIXELS)
        return ST_OK;
    return row_error_set(err, "the model would have the image as %d x %d pixels, which cannot be",
                         size.width, size.height);
}

static enum status llava_geometry(const struct vision_config *config, struct size in,
                                  struct geometry *out, struct row_error *err)
{
    const struct vision_prep *prep = &config->prep;
    enum status st = ST_OK;
    struct size size = in;

    if (prep->pad_square && in.width != in.height) {
        const int edge = in.width > in.height ? in.width : in.height;

        out->padded = (struct size){edge, edge};
        TRY(check_pixels(out->padded, err), err);
        size = out->padded;
    }
    if (prep->resize) {
        out->resized = prep->shortest_edge > 0
                           ? prep->longest_edge > 0
                                 ? by_both(size, prep->shortest_edge, prep->longest_edge)
                                 : by_shortest(size, prep->shortest_edge)
                           : (struct size){prep->width, prep->height};
        size = out->resized;
    }
    out->picture = prep->crop ? (struct size){prep->crop_width, prep->crop_height} : size;
    TRY(check_pixels(out->picture, err), err);
err:
    return st;
}

static enum status idefics3_geometry(const struct vision_config *config, struct size in,
                                     struct geometry *out, struct row_error *err)
{
    const struct vision_prep *prep = &config->prep;
    const int tile = prep->tile_edge;
    enum status st = ST_OK;
    struct size size = in;

    if (prep->resize) {
        out->resized = prep->longest_edge > 0 ? by_longest(in, prep->longest_edge)
                                              : (struct size){prep->width, prep->height};
        size = out->resized;
    }
    TRY(check_pixels(size, err), err);
    out->picture = (struct size){tile, tile};
    if (!prep->split)
        return ST_OK;
    out->whole_tiles = to_whole_tiles(size, tile);
    TRY(check_pixels(out->whole_tiles, err), err);
    if (out->whole_tiles.width > tile || out->whole_tiles.height > tile) {
        out->tiles_x = out->whole_tiles.width / tile;
        out->tiles_y = out->whole_tiles.height / tile;
    }
    if (out->tiles_x > VISION_MAX_TILES || out->tiles_y > VISION_MAX_TILES)
        return row_error_set(err, "the image becomes %d x %d tiles; this version has at most %d",
                             out->tiles_x, out->tiles_y, VISION_MAX_TILES);
err:
    return st;
}

static enum status qwen2vl_geometry(const struct vision_config *config, struct size in,
                                    struct geometry *out, struct row_error *err)
{
    const struct vision_prep *prep = &config->prep;
    const int factor = config->patch * config->merge;
    const double l = in.width > in.height ? in.width : in.height,
                 s = in.width > in.height ? in.height : in.width;

    if (prep->resize && l / s > MAX_RATIO)
        return row_error_set(err,
                             "the image has %d x %d pixels; an edge may be at most %d times as "
                             "long as the other",
                             in.width, in.height, MAX_RATIO);
    out->resized = prep->resize ? by_pixels(in, prep, factor) : (struct size){0, 0};
    out->picture = prep->resize ? out->resized : in;
    if (out->picture.width % factor != 0 || out->picture.height % factor != 0)
        return row_error_set(err,
                             "the image has %d x %d pixels and is not resized; both have to "
                             "be multiples of %d",
                             in.width, in.height, factor);
    return check_pixels(out->picture, err);
}

static enum status geometry_make(const struct vision_config *config, struct size in,
                                 struct geometry *out, struct row_error *err)
{
    *out = (struct geometry){.tiles_x = 0};
    switch (config->layout) {
    case VISION_LLAVA:
        return llava_geometry(config, in, out, err);
    case VISION_IDEFICS3:
        return idefics3_geometry(config, in, out, err);
    default:
        return qwen2vl_geometry(config, in, out, err);
    }
}

enum status vision_plan_make(const struct vision_config *config, int width, int height,
                             struct vision_plan *out_plan, struct row_error *err)
{
    enum status st = ST_OK;
    struct geometry geometry;
    struct vision_plan plan = {.width = width, .height = height, .n_pictures = 1};

    if (width < 1 || height < 1)
        return row_error_set(err, "the image has %d x %d pixels", width, height);
    TRY(geometry_make(config, (struct size){width, height}, &geometry, err), err);
    plan.grid_h = geometry.picture.height / config->patch;
    plan.grid_w = geometry.picture.width / config->patch;
    if (plan.grid_h == 0 || plan.grid_w == 0 || plan.grid_h % config->merge != 0 ||
        plan.grid_w % config->merge != 0 ||
        (config->grid > 0 && (plan.grid_h != config->grid || plan.grid_w != config->grid)))
        return row_error_set(err,
                             "the image becomes a picture of %d x %d patches; the model takes "
                             "%d x %d",
                             plan.grid_w, plan.grid_h, config->grid, config->grid);
    plan.tiles_x = geometry.tiles_x;
    plan.tiles_y = geometry.tiles_y;
    if (plan.tiles_x > 0)
        plan.n_pictures = plan.tiles_x * plan.tiles_y + 1;
    const int of_one = plan.grid_h * plan.grid_w; /* at most MAX_RESIZED_PIXELS */
    if (plan.n_pictures > MAX_RESIZED_PIXELS / of_one)
        return row_error_set(err, "the image becomes %d pictures, which are too many",
                             plan.n_pictures);
    plan.n_patches = plan.n_pictures * of_one;
    plan.n_rows = plan.n_patches / (config->merge * config->merge) +
                  (config->keep_class_token ? plan.n_pictures : 0);
    if (config->layout == VISION_QWEN2VL) {
        plan.rows_h = plan.grid_h / config->merge;
        plan.rows_w = plan.grid_w / config->merge;
    }
    *out_plan = plan;
err:
    return st;
}

int vision_patch_elems(const struct vision_config *config)
{
    return CHANNELS * config->patch_frames * config->patch * config->patch;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* An 8-bit picture, owned or not. */
struct pixels {
    struct size size;
    const uint8_t *rgb;
    uint8_t *owned; /* NULL: rgb is another's */
};

static enum status pixels_alloc(struct size size, struct pixels *out)
{
    out->size = size;
    out->owned = host_zalloc((size_t)size.width * (size_t)size.height * CHANNELS);
    out->rgb = out->owned;
    return out->owned != NULL ? ST_OK : ST_NOMEM;
}

static void pixels_free(struct pixels *pixels)
{
    host_free(pixels->owned);
    *pixels = (struct pixels){.rgb = NULL};
}

/* `in` in the middle of a square of the colour that becomes 0. */
static enum status pad(const struct vision_prep *prep, const struct pixels *in, int edge,
                       struct pixels *out)
{
    enum status st = ST_OK;
    const size_t row_bytes = (size_t)in->size.width * CHANNELS;
    const int left = (edge - in->size.width) / 2, top = (edge - in->size.height) / 2;
    uint8_t colour[CHANNELS];

    TRY(pixels_alloc((struct size){edge, edge}, out), err);
    for (int c = 0; c < CHANNELS; c++)
        colour[c] = (uint8_t)(int)(prep->mean[c] * 255);
    for (size_t i = 0; i < (size_t)edge * (size_t)edge; i++)
        memcpy(out->owned + i * CHANNELS, colour, CHANNELS);
    for (int y = 0; y < in->size.height; y++)
        memcpy(out->owned + ((size_t)(top + y) * (size_t)edge + (size_t)left) * CHANNELS,
               in->rgb + (size_t)y * row_bytes, row_bytes);
err:
    return st;
}

/* What of `all` pixels a crop to n takes: n of them from *first on, or all behind *before. */
static int crop_axis(int all, int n, int *out_first, int *out_before)
{
    *out_first = all > n ? (all - n) / 2 : 0;
    *out_before = all < n ? (n - all) / 2 : 0;
    return all < n ? all : n;
}

/* `in` at the size `full`, and of that the middle; where the middle is larger, black around it. */
static enum status resize_and_crop(const struct pixels *in, struct size full, struct size cropped,
                                   enum resample resample, struct pixels *out)
{
    enum status st = ST_OK;
    struct pixels part = {.rgb = NULL};
    struct resize_window window;
    int left, top;

    window.width = crop_axis(full.width, cropped.width, &window.x, &left);
    window.height = crop_axis(full.height, cropped.height, &window.y, &top);
    TRY(pixels_alloc((struct size){window.width, window.height}, &part), err);
    const size_t row_bytes = (size_t)window.width * CHANNELS;
    if (full.width == in->size.width && full.height == in->size.height) {
        for (int y = 0; y < window.height; y++)
            memcpy(part.owned + (size_t)y * row_bytes,
                   in->rgb +
                       ((size_t)(window.y + y) * (size_t)full.width + (size_t)window.x) * CHANNELS,
                   row_bytes);
    } else {
        const struct resize_args args = {.in = in->rgb,
                                         .in_width = in->size.width,
                                         .in_height = in->size.height,
                                         .out_width = full.width,
                                         .out_height = full.height,
                                         .resample = resample,
                                         .window = window};

        TRY(resize_rgb(&args, part.owned), err);
    }
    if (window.width == cropped.width && window.height == cropped.height) {
        *out = part;
        return ST_OK;
    }
    TRY(pixels_alloc(cropped, out), err);
    for (int y = 0; y < window.height; y++)
        memcpy(out->owned + ((size_t)(top + y) * (size_t)cropped.width + (size_t)left) * CHANNELS,
               part.owned + (size_t)y * row_bytes, row_bytes);
err:
    pixels_free(&part);
    return st;
}

/* *pixels at another size; {0, 0} or its own: nothing to do. */
static enum status resize(struct pixels *pixels, struct size size, enum resample resample)
{
    enum status st = ST_OK;
    struct pixels out = {.rgb = NULL};

    if (size.width == 0 || (size.width == pixels->size.width && size.height == pixels->size.height))
        return ST_OK;
    st = resize_and_crop(pixels, size, size, resample, &out);
    if (st != ST_OK)
        return st;
    pixels_free(pixels);
    *pixels = out;
    return ST_OK;
}

/* ---- patches --------------------------------------------------------------------------------- */

struct levels {
    float of[CHANNELS][LEVELS];
};

/* In float32 and in the order of transformers' rescale_and_normalize. */
static void levels_make(const struct vision_prep *prep, struct levels *out)
{
    const float inverse = (float)(1 / prep->rescale_factor);

    for (int c = 0; c < CHANNELS; c++) {
        const float mean = prep->rescale ? (float)prep->mean[c] * inverse : (float)prep->mean[c];
        const float std = prep->rescale ? (float)prep->std[c] * inverse : (float)prep->std[c];

        for (int v = 0; v < LEVELS; v++) {
            if (prep->normalise)
                out->of[c][v] = ((float)v - mean) / std;
            else
                out->of[c][v] = prep->rescale ? (float)v * (float)prep->rescale_factor : (float)v;
        }
    }
}

/* One patch; rows of `in` are row_bytes apart. */
static void put_patch(const struct vision_config *config, const struct levels *levels,
                      const uint8_t *in, size_t row_bytes, float *out)
{
    const int patch = config->patch;
    const size_t frame = (size_t)patch * (size_t)patch;

    for (int c = 0; c < CHANNELS; c++) {
        const float *level = levels->of[c];

        for (int y = 0; y < patch; y++) {
            const uint8_t *at = in + (size_t)y * row_bytes + c;

            for (int x = 0; x < patch; x++)
                out[y * patch + x] = level[at[x * CHANNELS]];
        }
        for (int f = 1; f < config->patch_frames; f++)
            memcpy(out + (size_t)f * frame, out, frame * sizeof *out);
        out += (size_t)config->patch_frames * frame;
    }
}

/* The patches of one picture: blocks of `block` x `block` row by row, and so within a block.
 * Returns what is behind them. */
static float *put_picture(const struct vision_config *config, const struct vision_plan *plan,
                          const struct levels *levels, const uint8_t *in, size_t row_bytes,
                          float *out)
{
    const int block = config->layout == VISION_QWEN2VL ? config->merge : 1;
    const size_t elems = (size_t)vision_patch_elems(config);

    for (int i = 0; i < plan->grid_h * plan->grid_w; i++, out += elems) {
        const int within = i % (block * block), at = i / (block * block);
        const int blocks_w = plan->grid_w / block;
        const size_t y = (size_t)(at / blocks_w * block + within / block) * (size_t)config->patch;
        const size_t x = (size_t)(at % blocks_w * block + within % block) * (size_t)config->patch;

        put_patch(config, levels, in + y * row_bytes + x * CHANNELS, row_bytes, out);
    }
    return out;
}

static float *put_tiles(const struct vision_config *config, const struct vision_plan *plan,
                        const struct levels *levels, const struct pixels *all, float *out)
{
    const size_t row_bytes = (size_t)all->size.width * CHANNELS;
    const size_t tile = (size_t)config->prep.tile_edge;

    for (int y = 0; y < plan->tiles_y; y++)
        for (int x = 0; x < plan->tiles_x; x++)
            out = put_picture(config, plan, levels,
                              all->rgb + (size_t)y * tile * row_bytes + (size_t)x * tile * CHANNELS,
                              row_bytes, out);
    return out;
}

enum status vision_patches(const struct vision_config *config, const struct vision_plan *plan,
                           const uint8_t *rgb, float *out)
{
    const struct vision_prep *prep = &config->prep;
    struct pixels pixels = {.size = {plan->width, plan->height}, .rgb = rgb};
    struct pixels other = {.rgb = NULL};
    struct levels levels;
    struct geometry g;
    struct row_error err;
    enum status st = geometry_make(config, pixels.size, &g, &err);

    assert(st == ST_OK); /* it was when the plan was made */
    if (st != ST_OK)
        return st;
    levels_make(prep, &levels);
    if (g.padded.width > 0) {
        TRY(pad(prep, &pixels, g.padded.width, &other), err);
        pixels = other;
        other = (struct pixels){.rgb = NULL};
    }
    if (config->layout == VISION_LLAVA) {
        TRY(resize_and_crop(&pixels, g.resized.width > 0 ? g.resized : pixels.size, g.picture,
                            prep->resample, &other),
            err);
        pixels_free(&pixels);
        pixels = other;
        other = (struct pixels){.rgb = NULL};
    } else {
        TRY(resize(&pixels, g.resized, prep->resample), err);
        TRY(resize(&pixels, g.whole_tiles, prep->resample), err);
        out = put_tiles(config, plan, &levels, &pixels, out);
        TRY(resize(&pixels, g.picture, prep->resample), err);
    }
    put_picture(config, plan, &levels, pixels.rgb, (size_t)pixels.size.width * CHANNELS, out);
err:
    pixels_free(&other);
    pixels_free(&pixels);
    return st;
}
