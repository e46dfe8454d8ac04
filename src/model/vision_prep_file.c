/*
 * vision_prep_file.c - preprocessor_config.json: what is done to an image before the tower sees it.
 *
 * As in hf_keys.c each key is understood, known to change nothing, or refused by name; absent ones
 * take the defaults of the image processor's class in transformers.  Its Fast and Pil variants
 * compute the same.  What is then done: vision_prep.c.  Caller: hf_dir.c.
 */
#include <math.h>
#include <stdio.h>

#include "model/hf_config.h"
#include "model/vision.h"

enum { MAX_EDGE = 16384 };
#define MAX_PIXELS ((int64_t)1 << 40)

/* ---- classes --------------------------------------------------------------------------------- */

enum { C_CLIP = 1, C_LLAVA = 2, C_SIGLIP = 4, C_IDEFICS3 = 8, C_QWEN2VL = 16 };
enum { C_FIXED = C_CLIP | C_LLAVA | C_SIGLIP };

#define OPENAI_MEAN                                                                                \
    {                                                                                              \
        0.48145466, 0.4578275, 0.40821073                                                          \
    }
#define OPENAI_STD                                                                                 \
    {                                                                                              \
        0.26862954, 0.26130258, 0.27577711                                                         \
    }
#define HALF                                                                                       \
    {                                                                                              \
        0.5, 0.5, 0.5                                                                              \
    }

static const struct vision_prep clip = {.resize = true,
                                        .crop = true,
                                        .resample = RESAMPLE_BICUBIC,
                                        .shortest_edge = 224,
                                        .crop_height = 224,
                                        .crop_width = 224,
                                        .mean = OPENAI_MEAN,
                                        .std = OPENAI_STD};
static const struct vision_prep siglip = {.resize = true,
                                          .resample = RESAMPLE_BICUBIC,
                                          .height = 224,
                                          .width = 224,
                                          .mean = HALF,
                                          .std = HALF};
static const struct vision_prep idefics3 = {.resize = true,
                                            .split = true,
                                            .resample = RESAMPLE_LANCZOS,
                                            .longest_edge = 4 * 364,
                                            .tile_edge = 364,
                                            .mean = HALF,
                                            .std = HALF};
static const struct vision_prep qwen2vl = {.resize = true,
                                           .resample = RESAMPLE_BICUBIC,
                                           .min_pixels = 56 * 56,
                                           .max_pixels = 28 * 28 * 1280,
                                           .mean = OPENAI_MEAN,
                                           .std = OPENAI_STD};

static const struct processor {
    const char *name; /* without ImageProcessor */
    int bit;
    enum vision_layout layout;
    const struct vision_prep *prep;
} classes[] = {
    /* of those of one layout the first is that of files that name none */
    {"CLIP", C_CLIP, VISION_LLAVA, &clip},
    {"Llava", C_LLAVA, VISION_LLAVA, &clip},
    {"Siglip", C_SIGLIP, VISION_LLAVA, &siglip},
    {"Idefics3", C_IDEFICS3, VISION_IDEFICS3, &idefics3},
    {"SmolVLM", C_IDEFICS3, VISION_IDEFICS3, &idefics3},
    {"Qwen2VL", C_QWEN2VL, VISION_QWEN2VL, &qwen2vl},
};

/* "CLIPImageProcessorFast" is CLIP. */
static bool is_class(const char *text, const char *name)
{
    static const char *const ends[] = {"ImageProcessor", "ImageProcessorFast", "ImageProcessorPil",
                                       "FeatureExtractor"};
    const size_t n = strlen(name);

    if (strncmp(text, name, n) != 0)
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (strcmp(text + n, ends[i]) == 0)
            return true;
    return false;
}

static enum status find_class(const struct reader *r, enum vision_layout layout,
                              const struct processor **out)
{
    const char *key = "image_processor_type";
    const json_t *value = json_object_get(r->root, key);

    if (value == NULL || json_is_null(value)) {
        key = "feature_extractor_type";
        value = json_object_get(r->root, key);
    }
    const char *text = json_string_value(value);

    if (value != NULL && !json_is_null(value) && text == NULL)
        return hf_bad_value(r, key, "the name of a class");
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (classes[i].layout != layout || (text != NULL && !is_class(text, classes[i].name)))
            continue;
        *out = &classes[i];
        return ST_OK;
    }
    log_error("%s: key %s = %.80s is not an image processor that this version knows for this model",
              r->origin, key, text != NULL ? text : "null");
    return ST_UNSUPPORTED;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static const struct key_rule rules[] = {
    {"image_processor_type", READ, 0},
    {"feature_extractor_type", READ, 0},
    {"do_resize", READ, 0},
    {"size", READ, 0},
    {"resample", READ, 0},
    {"default_to_square", READ, C_FIXED},
    {"default_to_square", IGNORED, 0}, /* is about sizes that are a number, not about these */
    {"do_center_crop", READ, C_FIXED},
    {"do_center_crop", FALSE, 0},
    {"crop_size", READ, C_FIXED},
    {"crop_size", IGNORED, 0},
    {"do_rescale", READ, 0},
    {"rescale_factor", READ, 0},
    {"do_normalize", READ, 0},
    {"image_mean", READ, 0},
    {"image_std", READ, 0},
    {"do_pad", READ, C_LLAVA},
    {"do_pad", IGNORED, C_IDEFICS3}, /* to the largest of several images */
    {"do_pad", FALSE, 0},
    {"pad_size", FALSE, 0},
    {"do_convert_rgb", IGNORED, 0}, /* every image is */
    {"do_flip_channel_order", FALSE, 0},
    {"do_image_splitting", READ, C_IDEFICS3},
    {"do_image_splitting", FALSE, 0},
    {"max_image_size", READ, C_IDEFICS3},
    {"min_pixels", READ, C_QWEN2VL},
    {"max_pixels", READ, C_QWEN2VL},
    {"patch_size", READ, C_QWEN2VL},
    {"temporal_patch_size", READ, C_QWEN2VL},
    {"merge_size", READ, C_QWEN2VL},
    /* of whole processors and films, and what changes no number */
    {"patch_size", IGNORED, C_FIXED},
    {"vision_feature_select_strategy", IGNORED, C_FIXED},
    {"num_additional_image_tokens", IGNORED, C_FIXED},
    {"return_row_col_info", IGNORED, C_IDEFICS3},
    {"video_sampling", IGNORED, C_IDEFICS3},
    {"image_seq_len", IGNORED, C_IDEFICS3},
    {"image_seq_length", IGNORED, 0},
    {"processor_class", IGNORED, 0},
    {"data_format", IGNORED, 0},
    {"input_data_format", IGNORED, 0},
    {"device", IGNORED, 0},
    {"return_tensors", IGNORED, 0},
    {"disable_grouping", IGNORED, 0},
};

static enum status check_keys(const struct reader *r, const struct processor *processor)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        const struct key_rule *rule =
            hf_find_rule(rules, sizeof rules / sizeof rules[0], key, processor->bit);

        if (key[0] == '_') /* the library's own notes */
            continue;
        if (rule == NULL) {
            log_error("%s: key %.80s is not known to this version for %sImageProcessor and may "
                      "change what the model sees; if you are sure that it does not, remove it",
                      r->origin, key, processor->name);
            return ST_UNSUPPORTED;
        }
        if (!hf_follows(rule->rule, value))
            return hf_unsupported(r, key, value);
    }
    return ST_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* A whole number from 1 to max; *out stays where it is absent. */
static enum status get_count(const struct reader *r, const json_t *object, const char *key,
                             int64_t max, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    char wanted[64];

    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (json_is_integer(value) && json_integer_value(value) >= 1 &&
        json_integer_value(value) <= max) {
        *out = json_integer_value(value);
        return ST_OK;
    }
    snprintf(wanted, sizeof wanted, "a whole number from 1 to %lld", (long long)max);
    return hf_bad_value(r, key, wanted);
}

/* Every key of an object like {"height": 224, "width": 224}, by its place in names. */
static enum status get_edges(const struct reader *r, const char *key, const json_t *object,
                             const char *const *names, int n_names, int64_t max, int64_t *out)
{
    enum status st = ST_OK;
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        int i = 0;

        while (i < n_names && strcmp(names[i], name) != 0)
            i++;
        if (i == n_names && !json_is_null(value))
            return hf_unsupported(r, key, object);
    }
    for (int i = 0; i < n_names; i++)
        TRY(get_count(r, object, names[i], max, &out[i]), err);
err:
    return st;
}

enum { HEIGHT, WIDTH, SHORTEST, LONGEST, N_EDGES };
static const char *const edge_names[N_EDGES] = {"height", "width", "shortest_edge", "longest_edge"};

/* A size as an object, a list [height, width] or a number.  out [N_EDGES]; 0 = not there. */
static enum status get_size(const struct reader *r, const char *key, bool square, int64_t *out,
                            bool *out_there)
{
    const json_t *value = json_object_get(r->root, key);
    const bool is_list = json_is_array(value) && json_array_size(value) == 2;
    const json_t *edges[2] = {is_list ? json_array_get(value, 0) : value,
                              is_list ? json_array_get(value, 1) : value};

    *out_there = value != NULL && !json_is_null(value);
    for (int i = 0; i < N_EDGES; i++)
        out[i] = 0;
    if (!*out_there)
        return ST_OK;
    if (json_is_object(value))
        return get_edges(r, key, value, edge_names, N_EDGES, MAX_EDGE, out);
    for (int i = 0; i < 2; i++) {
        if (!json_is_integer(edges[i]) || json_integer_value(edges[i]) < 1 ||
            json_integer_value(edges[i]) > MAX_EDGE)
            return hf_bad_value(r, key,
                                "an object with height and width or shortest_edge, or a "
                                "number of pixels up to 16384");
        out[is_list || square ? HEIGHT + i : SHORTEST] = json_integer_value(edges[i]);
    }
    return ST_OK;
}

/* One number for all, or three. */
static enum status get_three(const struct reader *r, const char *key, double least, double out[3])
{
    const json_t *value = json_object_get(r->root, key);
    const bool is_list = json_is_array(value) && json_array_size(value) == 3;

    if (value == NULL || json_is_null(value))
        return ST_OK;
    for (size_t c = 0; c < 3; c++) {
        const json_t *number = is_list ? json_array_get(value, c) : value;
        const double x = json_number_value(number);

        if (!json_is_number(number) || !(x >= least && x <= 1e6))
            return hf_bad_value(
                r, key, least > 0 ? "three numbers above 0, or one" : "three numbers, or one");
        out[c] = x;
    }
    return ST_OK;
}

static enum status read_resample(const struct reader *r, struct vision_prep *prep)
{
    static const int codes[] = {[RESAMPLE_NEAREST] = 0,
                                [RESAMPLE_BILINEAR] = 2,
                                [RESAMPLE_BICUBIC] = 3,
                                [RESAMPLE_LANCZOS] = 1}; /* Pillow's */
    const json_t *value = json_object_get(r->root, "resample");

    if (value == NULL || json_is_null(value))
        return ST_OK;
    for (int i = 0; i < (int)(sizeof codes / sizeof codes[0]); i++) {
        if (!json_is_integer(value) || json_integer_value(value) != codes[i])
            continue;
        prep->resample = (enum resample)i;
        return ST_OK;
    }
    return hf_unsupported(r, "resample", value);
}

/* ---- classes' own ---------------------------------------------------------------------------- */

static enum status read_fixed(const struct reader *r, struct vision_config *config)
{
    enum status st = ST_OK;
    struct vision_prep *prep = &config->prep;
    int64_t edges[N_EDGES];
    bool there, square = false;

    TRY(hf_get_bool(r, "default_to_square", true, &square), err);
    TRY(hf_get_bool(r, "do_center_crop", true, &prep->crop), err);
    TRY(hf_get_bool(r, "do_pad", true, &prep->pad_square), err);
    TRY(get_size(r, "size", square, edges, &there), err);
    if (there) {
        const bool fixed = edges[HEIGHT] > 0 && edges[WIDTH] > 0;

        if (fixed ? edges[SHORTEST] + edges[LONGEST] > 0
                  : edges[SHORTEST] == 0 || edges[HEIGHT] + edges[WIDTH] > 0)
            return hf_bad_value(r, "size", "height and width, or shortest_edge");
        prep->height = (int)edges[HEIGHT];
        prep->width = (int)edges[WIDTH];
        prep->shortest_edge = (int)edges[SHORTEST];
        prep->longest_edge = (int)edges[LONGEST];
    }
    TRY(get_size(r, "crop_size", true, edges, &there), err);
    if (there) {
        prep->crop_height = (int)edges[HEIGHT];
        prep->crop_width = (int)edges[WIDTH];
    }
    if (prep->crop && (prep->crop_height == 0 || prep->crop_width == 0 ||
                       (there && edges[SHORTEST] + edges[LONGEST] > 0)))
        return hf_bad_value(r, "crop_size", "an object with height and width, or a number");
    for (int c = 0; c < 3 && prep->pad_square; c++)
        if (!(prep->mean[c] >= 0 && prep->mean[c] <= 1))
            return hf_bad_value(r, "image_mean", "from 0 to 1 where do_pad is true");
err:
    return st;
}

static enum status read_idefics3(const struct reader *r, struct vision_config *config)
{
    static const char *const longest[] = {"longest_edge"};
    enum status st = ST_OK;
    struct vision_prep *prep = &config->prep;
    const json_t *tile = json_object_get(r->root, "max_image_size");
    int64_t edges[N_EDGES], tile_edge = prep->tile_edge;
    bool there;

    TRY(hf_get_bool(r, "do_image_splitting", true, &prep->split), err);
    TRY(get_size(r, "size", true, edges, &there), err);
    if (there) {
        if (edges[LONGEST] > 0 ? edges[SHORTEST] + edges[HEIGHT] + edges[WIDTH] > 0
                               : edges[HEIGHT] == 0 || edges[WIDTH] == 0 || edges[SHORTEST] > 0)
            return hf_bad_value(r, "size", "longest_edge, or height and width");
        prep->longest_edge = (int)edges[LONGEST];
        prep->height = (int)edges[HEIGHT];
        prep->width = (int)edges[WIDTH];
    }
    if (tile != NULL && !json_is_null(tile)) {
        if (!json_is_object(tile))
            return hf_bad_value(r, "max_image_size", "an object with longest_edge");
        TRY(get_edges(r, "max_image_size", tile, longest, 1, MAX_EDGE, &tile_edge), err);
    }
    prep->tile_edge = (int)tile_edge;
err:
    return st;
}

/* A size of patches that config.json says, too. */
static enum status same(const struct reader *r, const char *key, int said, int by_default)
{
    enum status st = ST_OK;
    int64_t value = by_default;

    TRY(get_count(r, r->root, key, MAX_EDGE, &value), err);
    if (said > 0 && value != said) {
        log_error("%s: key %s is %lld, and config.json says %d; get both files from one place",
                  r->origin, key, (long long)value, said);
        st = ST_FORMAT;
    }
err:
    return st;
}

static enum status read_qwen2vl(const struct reader *r, struct vision_config *config)
{
    /* as transformers 5 calls them and as 4 did */
    static const char *const names[4] = {"shortest_edge", "longest_edge", "min_pixels",
                                         "max_pixels"};
    enum status st = ST_OK;
    struct vision_prep *prep = &config->prep;
    const json_t *size = json_object_get(r->root, "size");
    int64_t pixels[4] = {0};

    if (size != NULL && !json_is_null(size)) {
        if (!json_is_object(size))
            return hf_bad_value(r, "size", "an object with shortest_edge and longest_edge");
        TRY(get_edges(r, "size", size, names, 4, MAX_PIXELS, pixels), err);
        for (int i = 0; i < 2; i++)
            pixels[i] = pixels[i] > 0 ? pixels[i] : pixels[i + 2];
    }
    TRY(get_count(r, r->root, "min_pixels", MAX_PIXELS, &pixels[0]), err);
    TRY(get_count(r, r->root, "max_pixels", MAX_PIXELS, &pixels[1]), err);
    if (pixels[0] > 0)
        prep->min_pixels = pixels[0];
    if (pixels[1] > 0)
        prep->max_pixels = pixels[1];
    TRY(same(r, "patch_size", config->patch, 14), err);
    TRY(same(r, "temporal_patch_size", config->patch_frames, 2), err);
    TRY(same(r, "merge_size", config->merge, 2), err);
err:
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* That what comes out is what the tower takes, where that does not depend on the image. */
static enum status check_picture(const struct reader *r, const struct vision_config *config)
{
    const struct vision_prep *prep = &config->prep;
    const int edge = config->grid * config->patch;
    int height = 0, width = 0;

    if (config->layout == VISION_IDEFICS3) {
        height = width = prep->tile_edge;
        const int longest = prep->longest_edge > 0       ? prep->longest_edge
                            : prep->height > prep->width ? prep->height
                                                         : prep->width;
        if (prep->split && longest / prep->tile_edge > VISION_MAX_TILES)
            return hf_bad_value(r, "max_image_size", "no less than a 64th of size");
    } else if (config->layout == VISION_LLAVA) {
        height = prep->crop ? prep->crop_height : prep->resize ? prep->height : 0;
        width = prep->crop ? prep->crop_width : prep->resize ? prep->width : 0;
    }
    if (edge == 0 || height == 0 ||
        (height / config->patch == config->grid && width / config->patch == config->grid))
        return ST_OK;
    log_error("%s: images become pictures of %d x %d pixels, and by config.json the model takes %d "
              "x %d; get both files from one place",
              r->origin, width, height, edge, edge);
    return ST_FORMAT;
}

static enum status read_all(const struct reader *r, struct vision_config *config)
{
    enum status st = ST_OK;
    const struct processor *processor = &classes[0];
    struct vision_prep *prep = &config->prep;

    TRY(find_class(r, config->layout, &processor), err);
    TRY(check_keys(r, processor), err);
    *prep = *processor->prep;
    prep->rescale = prep->normalise = true;
    prep->rescale_factor = 1.0 / 255;
    TRY(hf_get_bool(r, "do_resize", true, &prep->resize), err);
    TRY(hf_get_bool(r, "do_rescale", true, &prep->rescale), err);
    TRY(hf_get_bool(r, "do_normalize", true, &prep->normalise), err);
    TRY(hf_get_number(r, "rescale_factor", true, &prep->rescale_factor), err);
    if (!(prep->rescale_factor > 1e-9 && prep->rescale_factor < 1e9))
        return hf_bad_value(r, "rescale_factor", "a number above 0, usually 1/255");
    TRY(read_resample(r, prep), err);
    TRY(get_three(r, "image_mean", -1e6, prep->mean), err);
    TRY(get_three(r, "image_std", 1e-6, prep->std), err);
    switch (config->layout) {
    case VISION_LLAVA:
        TRY(read_fixed(r, config), err);
        break;
    case VISION_IDEFICS3:
        TRY(read_idefics3(r, config), err);
        break;
    default:
        TRY(read_qwen2vl(r, config), err);
        break;
    }
    st = check_picture(r, config);
err:
    return st;
}

enum status vision_prep_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                              struct vision_config *config)
{
    enum status st = ST_OK;
    struct reader r = {.origin = origin};
    struct vision_config read = *config;
    json_t *root = NULL;

    TRY(json_file_parse(data, n_bytes, origin, &root), err);
    const json_t *nested = json_object_get(root, "image_processor"); /* processor_config.json */
    r.root = json_is_object(nested) ? nested : root;
    TRY(read_all(&r, &read), err);
    *config = read;
err:
    json_decref(root);
    return st;
}
