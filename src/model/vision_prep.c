/*
 * vision_prep.c - preprocessor_config.json: how images are made ready for a tower.
 *
 * transformers 5 may write the same into processor_config.json, as its image_processor.  As in
 * hf_keys.c each key is understood, known to change nothing, or refused by name; absent ones take
 * the defaults of the processor's class, whatever variant of it ("Fast") is named.
 */
#include "model/vision_prep.h"
#include "model/hf_config.h"

/* Classes; bits of masks. */
enum processor { CLIP, LLAVA, SIGLIP, IDEFICS3, SMOLVLM, QWEN2VL, N_PROCESSORS };
enum {
    M_CLIP = 1 << CLIP,
    M_LLAVA = 1 << LLAVA,
    M_SIGLIP = 1 << SIGLIP,
    M_TILES = 1 << IDEFICS3 | 1 << SMOLVLM,
    M_QWEN2VL = 1 << QWEN2VL,
    M_CROP = M_CLIP | M_LLAVA
};

#define CLIP_MEAN                                                                                  \
    {                                                                                              \
        0.48145466, 0.4578275, 0.40821073                                                          \
    }
#define CLIP_STD                                                                                   \
    {                                                                                              \
        0.26862954, 0.26130258, 0.27577711                                                         \
    }
#define HALVES                                                                                     \
    {                                                                                              \
        0.5, 0.5, 0.5                                                                              \
    }

static const struct {
    const char *name; /* less "ImageProcessor" */
    enum vision_layout layout;
    struct vision_prep defaults;
} processors[N_PROCESSORS] = {
    [CLIP] = {"CLIP",
              VISION_LLAVA,
              {.resample = RESAMPLE_BICUBIC,
               .crop = true,
               .shortest_edge = 224,
               .crop_height = 224,
               .crop_width = 224,
               .mean = CLIP_MEAN,
               .std = CLIP_STD}},
    [LLAVA] = {"Llava",
               VISION_LLAVA,
               {.resample = RESAMPLE_BICUBIC,
                .crop = true,
                .shortest_edge = 224,
                .crop_height = 224,
                .crop_width = 224,
                .mean = CLIP_MEAN,
                .std = CLIP_STD}},
    [SIGLIP] = {"Siglip",
                VISION_LLAVA,
                {.resample = RESAMPLE_BICUBIC,
                 .height = 224,
                 .width = 224,
                 .mean = HALVES,
                 .std = HALVES}},
    [IDEFICS3] = {"Idefics3",
                  VISION_IDEFICS3,
                  {.resample = RESAMPLE_LANCZOS,
                   .split = true,
                   .longest_edge = 4 * 364,
                   .tile_edge = 364,
                   .mean = HALVES,
                   .std = HALVES}},
    [SMOLVLM] = {"SmolVLM",
                 VISION_IDEFICS3,
                 {.resample = RESAMPLE_LANCZOS,
                  .split = true,
                  .longest_edge = 4 * 364,
                  .tile_edge = 364,
                  .mean = HALVES,
                  .std = HALVES}},
    [QWEN2VL] = {"Qwen2VL",
                 VISION_QWEN2VL,
                 {.resample = RESAMPLE_BICUBIC,
                  .min_pixels = 56 * 56,
                  .max_pixels = 28 * 28 * 1280,
                  .mean = CLIP_MEAN,
                  .std = CLIP_STD}},
};

/* ---- keys ------------------------------------------------------------------------------------ */

static const struct {
    const char *key;
    enum rule rule;
    int processors;
} keys[] = {
    {"image_processor_type", READ, ~0},
    {"feature_extractor_type", READ, ~0},
    {"do_resize", READ, ~0},
    {"size", READ, ~0},
    {"resample", READ, ~0},
    {"do_rescale", READ, ~0},
    {"rescale_factor", READ, ~0},
    {"do_normalize", READ, ~0},
    {"image_mean", READ, ~0},
    {"image_std", READ, ~0},
    {"do_center_crop", READ, M_CROP},
    {"crop_size", READ, M_CROP},
    {"do_pad", READ, M_LLAVA},
    {"do_image_splitting", READ, M_TILES},
    {"max_image_size", READ, M_TILES},
    {"min_pixels", READ, M_QWEN2VL},
    {"max_pixels", READ, M_QWEN2VL},
    {"patch_size", READ, M_QWEN2VL},
    {"merge_size", READ, M_QWEN2VL},
    {"temporal_patch_size", READ, M_QWEN2VL},
    /* what other classes have as well, and this one does not look at */
    {"do_center_crop", EMPTY, ~M_CROP},
    {"crop_size", EMPTY, ~M_CROP},
    {"do_pad", IGNORED, M_TILES}, /* pictures of a batch get one size, with a mask */
    {"do_pad", FALSE, M_CLIP | M_SIGLIP | M_QWEN2VL},
    {"pad_size", EMPTY, ~0},
    {"do_convert_rgb", IGNORED, ~0}, /* images are always RGB here */
    {"processor_class", IGNORED, ~0},
    {"return_row_col_info", IGNORED, ~0},
    {"video_sampling", IGNORED, M_TILES}, /* of films */
    {"image_seq_len", IGNORED, ~0},       /* of the processor: follows from the tower */
    {"image_seq_length", IGNORED, ~0},
    {"data_format", IGNORED, ~0}, /* of arrays that go in and out there */
    {"input_data_format", IGNORED, ~0},
    {"default_to_square", IGNORED, ~0}, /* of the class, whatever stands here */
    {"device", IGNORED, ~0},
    {"disable_grouping", IGNORED, ~0},
    {"return_tensors", IGNORED, ~0},
    {"use_fast", IGNORED, ~0},
    {"_valid_processor_keys", IGNORED, ~0},
    {"_processor_class", IGNORED, ~0},
};

static enum status check_keys(const struct reader *r, enum processor processor)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        const size_t n = sizeof keys / sizeof keys[0];
        size_t i = 0;

        while (i < n &&
               (strcmp(keys[i].key, key) != 0 || (keys[i].processors >> processor & 1) == 0))
            i++;
        if (i == n) {
            log_error("%s: key %.80s is not known to this version for %sImageProcessor and may "
                      "change what a model sees; if you are sure that it does not, remove it",
                      r->origin, key, processors[processor].name);
            return ST_UNSUPPORTED;
        }
        if (!hf_follows(keys[i].rule, value))
            return hf_unsupported(r, key, value);
    }
    return ST_OK;
}

/* "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor";
 * where nothing is said, the first of the tower's layout. */
static enum status find_processor(const struct reader *r, enum vision_layout layout,
                                  enum processor *out)
{
    const json_t *value = json_object_get(r->root, "image_processor_type");
    const char *type;
    size_t i = 0;

    if (value == NULL || json_is_null(value))
        value = json_object_get(r->root, "feature_extractor_type");
    type = json_string_value(value);
    if (type == NULL && value != NULL && !json_is_null(value))
        return hf_bad_value(r, "image_processor_type", "a name");
    for (; i < N_PROCESSORS; i++) {
        const size_t n = strlen(processors[i].name);

        if (type == NULL ? processors[i].layout == layout
                         : strncmp(type, processors[i].name, n) == 0 &&
                               (strncmp(type + n, "ImageProcessor", 14) == 0 ||
                                strcmp(type + n, "FeatureExtractor") == 0))
            break;
    }
    if (i < N_PROCESSORS && processors[i].layout == layout) {
        *out = (enum processor)i;
        return ST_OK;
    }
    log_error("%s: key image_processor_type: %.64s is not supported for this model; this version "
              "has those of CLIP, Llava, Siglip, Idefics3, SmolVLM and Qwen2VL, each for its own "
              "kind",
              r->origin, type != NULL ? type : "none");
    return ST_UNSUPPORTED;
}

/* ---- values ---------------------------------------------------------------------------------- */

enum { MOST_PIXELS = 1 << 15 }; /* along an edge */

/* A whole number in a range of an object's, or 0 if it is not there. */
static enum status get_edge(const struct reader *r, const char *key, const json_t *object,
                            const char *name, int64_t most, int64_t *out)
{
    const json_t *value = json_object_get(object, name);

    *out = 0;
    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > most)
        return hf_bad_value(r, key, "pixels, at least 1 and not absurdly many");
    *out = json_integer_value(value);
    return ST_OK;
}

/* {"height": h, "width": w}; one number stands for both. */
static enum status get_box(const struct reader *r, const char *key, int *out_height, int *out_width)
{
    const json_t *value = json_object_get(r->root, key);
    int64_t height = 0, width = 0;
    enum status st;

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (json_is_integer(value)) {
        TRY(get_edge(r, key, r->root, key, MOST_PIXELS, &height), err);
        width = height;
    } else {
        TRY(get_edge(r, key, value, "height", MOST_PIXELS, &height), err);
        TRY(get_edge(r, key, value, "width", MOST_PIXELS, &width), err);
    }
    if (height == 0 || width == 0)
        return hf_bad_value(r, key, "{height, width}");
    *out_height = (int)height;
    *out_width = (int)width;
    return ST_OK;
err:
    return st;
}

static enum status get_size(const struct reader *r, enum processor processor,
                            struct vision_prep *prep)
{
    const json_t *value = json_object_get(r->root, "size");
    int64_t shortest = 0, longest = 0, height = 0, width = 0;
    const int64_t most = processor == QWEN2VL ? (int64_t)1 << 40 : MOST_PIXELS;
    enum status st = ST_OK;

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (json_is_integer(value)) {
        TRY(get_edge(r, "size", r->root, "size", most, &shortest), err);
        if ((M_CROP >> processor & 1) == 0)
            return hf_unsupported(r, "size", value);
    } else {
        TRY(get_edge(r, "size", value, "shortest_edge", most, &shortest), err);
        TRY(get_edge(r, "size", value, "longest_edge", most, &longest), err);
        TRY(get_edge(r, "size", value, "height", most, &height), err);
        TRY(get_edge(r, "size", value, "width", most, &width), err);
    }
    if (processor == QWEN2VL && height == 0 && width == 0) {
        prep->min_pixels = shortest > 0 ? shortest : prep->min_pixels;
        prep->max_pixels = longest > 0 ? longest : prep->max_pixels;
        return ST_OK;
    }
    /* One way of saying it, and one that this class has. */
    const bool box = height > 0 && width > 0 && shortest == 0 && longest == 0;
    const bool edge = height == 0 && width == 0 && (shortest > 0) != (longest > 0);
    if ((!box && !edge) || processor == QWEN2VL || (processor == SIGLIP && !box) ||
        (edge && (M_TILES >> processor & 1) != (longest > 0)))
        return hf_unsupported(r, "size", value);
    prep->shortest_edge = (int)shortest;
    prep->longest_edge = (int)longest;
    prep->height = (int)height;
    prep->width = (int)width;
err:
    return st;
}

static enum status get_resample(const struct reader *r, enum resample *out)
{
    static const int filters[] = {RESAMPLE_NEAREST, RESAMPLE_LANCZOS, RESAMPLE_BILINEAR,
                                  RESAMPLE_BICUBIC}; /* by Pillow's number */
    const json_t *value = json_object_get(r->root, "resample");
    const json_int_t number = json_integer_value(value);

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_integer(value) || number < 0 || number > 3)
        return hf_unsupported(r, "resample", value);
    *out = (enum resample)filters[number];
    return ST_OK;
}

/* Three numbers, or one for all. */
static enum status get_colours(const struct reader *r, const char *key, bool positive,
                               double out[3])
{
    const json_t *value = json_object_get(r->root, key);

    if (value == NULL || json_is_null(value))
        return ST_OK;
    for (size_t c = 0; c < 3; c++) {
        const json_t *one = json_is_array(value) ? json_array_get(value, c) : value;
        const double x = json_number_value(one);

        if (!json_is_number(one) || (json_is_array(value) && json_array_size(value) != 3) ||
            !(x >= -1e6 && x <= 1e6) || (positive && !(x > 1e-9)))
            return hf_bad_value(r, key, "three numbers, one a colour");
        out[c] = x;
    }
    return ST_OK;
}

static enum status get_pixels(const struct reader *r, const char *key, int64_t *out)
{
    int64_t n = 0;
    const enum status st = get_edge(r, key, r->root, key, (int64_t)1 << 40, &n);

    if (st == ST_OK && n > 0)
        *out = n;
    return st;
}

/* What the tower's configuration says, too, has to be the same here. */
static enum status check_same(const struct reader *r, const char *key, int of_tower)
{
    int value = of_tower;
    const enum status st = hf_get_int(r, key, true, &value);

    if (st != ST_OK || value == of_tower)
        return st;
    log_error("%s: key %s is %d, and config.json says %d; the files do not belong together",
              r->origin, key, value, of_tower);
    return ST_FORMAT;
}

/* A tower of fixed size sees pictures of that size and no other. */
static enum status check_fits(const struct reader *r, const struct vision_config *config)
{
    const struct vision_prep *prep = &config->prep;
    const int edge = config->grid * config->patch;
    int height = 0, width = 0; /* of what comes out; 0 = any */

    if (config->layout == VISION_QWEN2VL) {
        if (prep->min_pixels <= prep->max_pixels)
            return ST_OK;
        return hf_bad_value(r, "min_pixels", "not more than max_pixels");
    }
    if (config->layout == VISION_LLAVA)
        width = prep->crop ? prep->crop_width : prep->resize ? prep->width : 0;
    if (config->layout == VISION_IDEFICS3)
        height = width = prep->tile_edge;
    else if (prep->crop)
        height = prep->crop_height;
    else if (prep->resize)
        height = prep->height;
    if (height == edge && width == edge)
        return ST_OK;
    if (height > 0)
        log_error("%s: pictures become %d x %d pixels, and the tower sees %d x %d; the files do "
                  "not belong together",
                  r->origin, width, height, edge, edge);
    else
        log_error("%s: pictures are neither cropped nor resized to one size, and the tower sees "
                  "%d x %d pixels; set do_center_crop and crop_size",
                  r->origin, edge, edge);
    return ST_FORMAT;
}

/* ---- the file -------------------------------------------------------------------------------- */

static enum status read_prep(const struct reader *r, struct vision_config *config)
{
    enum status st;
    enum processor processor = CLIP;
    struct vision_prep *prep = &config->prep;
    const json_t *tile = json_object_get(r->root, "max_image_size");
    int64_t edge = 0;

    TRY(find_processor(r, config->layout, &processor), err);
    TRY(check_keys(r, processor), err);
    *prep = processors[processor].defaults;
    prep->resize = prep->rescale = prep->normalise = true;
    prep->rescale_factor = 1.0 / 255;
    TRY(hf_get_bool(r, "do_resize", true, &prep->resize), err);
    TRY(hf_get_bool(r, "do_rescale", true, &prep->rescale), err);
    TRY(hf_get_bool(r, "do_normalize", true, &prep->normalise), err);
    TRY(hf_get_bool(r, "do_image_splitting", true, &prep->split), err);
    if ((M_CROP >> processor & 1) != 0) {
        TRY(hf_get_bool(r, "do_center_crop", true, &prep->crop), err);
        TRY(get_box(r, "crop_size", &prep->crop_height, &prep->crop_width), err);
    }
    if (processor == LLAVA)
        TRY(hf_get_bool(r, "do_pad", true, &prep->pad_square), err);
    TRY(hf_get_number(r, "rescale_factor", true, &prep->rescale_factor), err);
    if (!(prep->rescale_factor > 1e-9 && prep->rescale_factor < 1e9))
        return hf_bad_value(r, "rescale_factor", "a number above 0");
    TRY(get_size(r, processor, prep), err);
    TRY(get_resample(r, &prep->resample), err);
    TRY(get_colours(r, "image_mean", false, prep->mean), err);
    TRY(get_colours(r, "image_std", true, prep->std), err);
    TRY(get_edge(r, "max_image_size", tile, "longest_edge", MOST_PIXELS, &edge), err);
    if (edge > 0)
        prep->tile_edge = (int)edge;
    TRY(get_pixels(r, "min_pixels", &prep->min_pixels), err);
    TRY(get_pixels(r, "max_pixels", &prep->max_pixels), err);
    if (processor == QWEN2VL) {
        TRY(check_same(r, "patch_size", config->patch), err);
        TRY(check_same(r, "merge_size", config->merge), err);
        TRY(check_same(r, "temporal_patch_size", config->patch_frames), err);
    }
    st = check_fits(r, config);
err:
    return st;
}

enum status vision_prep_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                              struct vision_config *config, bool *out_found)
{
    enum status st;
    json_t *file = NULL;

    *out_found = false;
    TRY(json_file_parse(data, n_bytes, origin, &file), done);
    /* A processor's file without one of images is about something else. */
    const json_t *nested = json_object_get(file, "image_processor");
    if (nested == NULL && json_object_get(file, "image_processor_type") == NULL &&
        json_object_get(file, "feature_extractor_type") == NULL &&
        json_object_get(file, "size") == NULL)
        goto done;
    const struct reader r = {origin, json_is_object(nested) ? nested : file, NULL, false};
    TRY(read_prep(&r, config), done);
    *out_found = true;
done:
    json_decref(file);
    return st;
}
