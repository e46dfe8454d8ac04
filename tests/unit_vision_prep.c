/* TEST */
/*
 * unit_vision_prep.c - images as patches, against transformers' image processors.
 *
 * tests/golden/vision_prep/expected.bin: configurations, sizes and samples of what the processors
 * make (make_vision_prep.py), and a CRC-32 of all of it: not one value may differ.  Mistakes have
 * to move a sample by more than one level of 8 bits.
 */
#include <math.h>

#include "model/vision.h"
#include "test.h"

struct one {          /* case */
    const char *json; /* [n_json] */
    uint32_t n_json, layout, patch, frames, merge, grid, width, height;
    uint32_t tiles_x, tiles_y, n_patches, crc, n_samples;
    const float *samples;
    struct vision_config config;
};

enum { MAX_CASES = 128, N_FIRST = 8, N_SECOND = 5 };
static struct one cases[MAX_CASES];
static int n_cases;
static struct buf expected;
static long n_compared, n_exact;

/* scene() of make_vision_prep.py */
static uint8_t *scene(uint32_t w, uint32_t h)
{
    uint8_t *rgb = malloc((size_t)w * h * 3), *out = rgb;

    for (uint32_t y = 0; y < h; y++) {
        for (uint32_t x = 0; x < w; x++) {
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t n = x * 374761393u + y * 668265263u + c * 2246822519u;

                n = (n ^ (n >> 13)) * 1274126177u;
                *out++ = (uint8_t)(((((x >> 4) + (y >> 3) + c) & 1) == 1 ? 160 : 20) +
                                   ((n >> 16) & 63) + x * 32 / w);
            }
        }
    }
    return rgb;
}

static bool parse(const char *json, size_t n, struct vision_config *config)
{
    return vision_prep_parse((const uint8_t *)json, n, "preprocessor_config.json", config) == ST_OK;
}

static void load_cases(void)
{
    CHECK(file_read("tests/golden/vision_prep/expected.bin", 1 << 20, &expected) == ST_OK);
    for (size_t at = 0; at < expected.n_bytes && n_cases < MAX_CASES;) {
        struct one *c = &cases[n_cases++];
        uint32_t first[N_FIRST], second[N_SECOND];

        memcpy(first, expected.data + at, sizeof first);
        at += sizeof first;
        *c = (struct one){.json = (const char *)expected.data + at,
                          .n_json = first[0],
                          .layout = first[1],
                          .patch = first[2],
                          .frames = first[3],
                          .merge = first[4],
                          .grid = first[5],
                          .width = first[6],
                          .height = first[7]};
        at += c->n_json;
        memcpy(second, expected.data + at, sizeof second);
        at += sizeof second;
        c->tiles_x = second[0];
        c->tiles_y = second[1];
        c->n_patches = second[2];
        c->crc = second[3];
        c->n_samples = second[4];
        float *samples = malloc((size_t)c->n_samples * sizeof *samples + 1);
        memcpy(samples, expected.data + at, (size_t)c->n_samples * sizeof *samples);
        c->samples = samples;
        at += (size_t)c->n_samples * sizeof *samples;
        c->config = (struct vision_config){.layout = (enum vision_layout)c->layout,
                                           .patch = (int)c->patch,
                                           .patch_frames = (int)c->frames,
                                           .merge = (int)c->merge,
                                           .grid = (int)c->grid};
        CHECK(parse(c->json, c->n_json, &c->config));
    }
    CHECK(n_cases > 80 && n_cases < MAX_CASES);
}

static uint32_t crc32_of(const void *data, size_t n_bytes)
{
    const uint8_t *bytes = data;
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* One level of 8 bits, in the channel where it is the most. */
static double level(const struct vision_prep *prep)
{
    double most = 0;

    for (int c = 0; c < 3; c++) {
        const double step =
            (prep->rescale ? prep->rescale_factor : 1) / (prep->normalise ? prep->std[c] : 1);
        most = step > most ? step : most;
    }
    return most;
}

/* Samples that are more than a level from what they have to be. */
static long compare(const struct one *c, const float *patches)
{
    const uint64_t n = (uint64_t)c->n_patches * (uint64_t)vision_patch_elems(&c->config);
    const double limit = level(&c->config.prep) * 1.0001 + 1e-6;
    long n_far = 0;

    for (uint32_t k = 0; k < c->n_samples; k++) {
        const uint64_t at = ((uint64_t)(k * 2654435761u) * n) >> 32;

        n_far += !(fabs((double)patches[at] - (double)c->samples[k]) <= limit);
        n_exact += patches[at] == c->samples[k];
        n_compared++;
    }
    return n_far;
}

/* NULL: no such image can be taken. */
static float *patches_of(const struct vision_config *config, int width, int height,
                         const uint8_t *rgb, struct vision_plan *plan)
{
    struct row_error err = {.text = ""};

    if (vision_plan_make(config, width, height, plan, &err) != ST_OK) {
        CHECK(err.text[0] != '\0');
        return NULL;
    }
    float *out = malloc((size_t)plan->n_patches * (size_t)vision_patch_elems(config) * sizeof *out);
    CHECK(vision_patches(config, plan, rgb, out) == ST_OK);
    return out;
}

static void pixels_are_those_of_the_reference(void)
{
    for (int i = 0; i < n_cases; i++) {
        const struct one *c = &cases[i];
        struct vision_plan plan;
        uint8_t *rgb = scene(c->width, c->height);
        float *patches = patches_of(&c->config, (int)c->width, (int)c->height, rgb, &plan);

        CHECK((patches != NULL) == (c->n_patches > 0));
        if (patches != NULL && c->n_patches > 0) {
            const int merge = (int)(c->merge * c->merge);

            CHECK_INT(plan.n_patches, c->n_patches);
            CHECK_INT(plan.tiles_x, c->tiles_x);
            CHECK_INT(plan.tiles_y, c->tiles_y);
            CHECK_INT(plan.n_pictures, c->tiles_x > 0 ? c->tiles_x * c->tiles_y + 1 : 1);
            CHECK_INT(plan.n_rows, plan.n_patches / merge);
            if ((uint32_t)plan.n_patches == c->n_patches) {
                const long n_far = compare(c, patches);

                if (n_far > 0)
                    fprintf(stderr, "%u x %u: %ld of %u samples are off: %.*s\n", c->width,
                            c->height, n_far, c->n_samples, (int)c->n_json, c->json);
                CHECK_INT(n_far, 0);
                CHECK_INT(crc32_of(patches, (size_t)plan.n_patches *
                                                (size_t)vision_patch_elems(&c->config) *
                                                sizeof *patches),
                          c->crc);
            }
        }
        free(patches);
        free(rgb);
    }
    CHECK_INT(n_exact, n_compared);
}

/* ---- resizing alone -------------------------------------------------------------------------- */

static void resizing_is_torchvisions_to_the_bit(void)
{
    FILE *f = fopen("tests/golden/vision_prep/resize.txt", "r");
    int resample, w, h, new_w, new_h, n = 0;
    unsigned long long want;

    CHECK(f != NULL);
    while (f != NULL &&
           fscanf(f, "%d %d %d %d %d %llx", &resample, &w, &h, &new_w, &new_h, &want) == 6) {
        const size_t n_bytes = (size_t)new_w * (size_t)new_h * 3;
        uint8_t *in = scene((uint32_t)w, (uint32_t)h), *out = malloc(n_bytes),
                *part = malloc(n_bytes);
        struct resize_args args = {.in = in,
                                   .in_width = w,
                                   .in_height = h,
                                   .out_width = new_w,
                                   .out_height = new_h,
                                   .resample = (enum resample)resample,
                                   .window = {0, 0, new_w, new_h}};
        unsigned long long fnv = 0xcbf29ce484222325u;
        bool same = true;

        CHECK(resize_rgb(&args, out) == ST_OK);
        for (size_t i = 0; i < n_bytes; i++)
            fnv = (fnv ^ out[i]) * 0x100000001b3u;
        if (fnv != want)
            fprintf(stderr, "filter %d, %d x %d to %d x %d\n", resample, w, h, new_w, new_h);
        CHECK(fnv == want);

        /* a part is what it is in the whole */
        args.window = (struct resize_window){new_w / 3, new_h / 4, new_w - new_w / 3 * 2, 1};
        CHECK(resize_rgb(&args, part) == ST_OK);
        for (int i = 0; i < args.window.width * 3; i++)
            same = same && part[i] == out[(args.window.y * new_w + args.window.x) * 3 + i];
        CHECK(same);
        free(part);
        free(out);
        free(in);
        n++;
    }
    CHECK_INT(n, 21);
    if (f != NULL)
        fclose(f);
}

/* ---- mistakes -------------------------------------------------------------------------------- */

/* The case of a layout and a size whose configuration contains a text. */
static const struct one *find(enum vision_layout layout, uint32_t w, uint32_t h, const char *part)
{
    for (int i = 0; i < n_cases; i++)
        if (cases[i].layout == layout && cases[i].width == w && cases[i].height == h &&
            memmem(cases[i].json, cases[i].n_json, part, strlen(part)) != NULL)
            return &cases[i];
    CHECK(false);
    return &cases[0];
}

static void expect_far(const char *what, const struct one *c, const float *patches)
{
    const long n_far = patches != NULL ? compare(c, patches) : 0;

    if (n_far == 0)
        fprintf(stderr, "nobody sees: %s\n", what);
    CHECK(n_far > 0);
}

static void swap_patches(float *patches, int elems, int a, int b)
{
    for (int k = 0; k < elems; k++) {
        const float x = patches[a * elems + k];

        patches[a * elems + k] = patches[b * elems + k];
        patches[b * elems + k] = x;
    }
}

/* Two pixels along each axis, however much the picture shrinks. */
static uint8_t *without_antialias(const uint8_t *in, int w, int h, int out_w, int out_h)
{
    uint8_t *out = malloc((size_t)(out_w * out_h * 3));

    for (int y = 0; y < out_h; y++) {
        for (int x = 0; x < out_w; x++) {
            const double sy = fmax((y + 0.5) * h / out_h - 0.5, 0),
                         sx = fmax((x + 0.5) * w / out_w - 0.5, 0);
            const int y0 = (int)sy, x0 = (int)sx, y1 = y0 + 1 < h ? y0 + 1 : y0,
                      x1 = x0 + 1 < w ? x0 + 1 : x0;
            const double fy = sy - y0, fx = sx - x0;

            for (int c = 0; c < 3; c++) {
                const double top =
                    in[(y0 * w + x0) * 3 + c] * (1 - fx) + in[(y0 * w + x1) * 3 + c] * fx;
                const double low =
                    in[(y1 * w + x0) * 3 + c] * (1 - fx) + in[(y1 * w + x1) * 3 + c] * fx;

                out[(y * out_w + x) * 3 + c] = (uint8_t)(top * (1 - fy) + low * fy + 0.5);
            }
        }
    }
    return out;
}

static void mistakes_are_seen(void)
{
    struct vision_plan plan;
    const long exact = n_exact, compared = n_compared;

    /* each filter in the place of each other, where a picture shrinks and where it grows */
    static const struct {
        enum vision_layout layout;
        uint32_t w, h;
        const char *part;
    } kinds[] = {
        {VISION_LLAVA, 101, 77, "\"resample\": 3"}, {VISION_LLAVA, 40, 90, "\"resample\": 2"},
        {VISION_LLAVA, 5, 3, "\"resample\": 3"},    {VISION_IDEFICS3, 333, 222, "Idefics3"},
        {VISION_IDEFICS3, 40, 90, "Idefics3"},      {VISION_QWEN2VL, 333, 222, "min_pixels"}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const struct one *c = find(kinds[k].layout, kinds[k].w, kinds[k].h, kinds[k].part);
        uint8_t *rgb = scene(c->width, c->height);

        for (int r = RESAMPLE_NEAREST; r <= RESAMPLE_LANCZOS; r++) {
            struct one wrong = *c;

            if (r == (int)c->config.prep.resample)
                continue;
            wrong.config.prep.resample = (enum resample)r;
            float *patches = patches_of(&wrong.config, (int)c->width, (int)c->height, rgb, &plan);
            expect_far("another filter", c, patches);
            free(patches);
        }
        free(rgb);
    }

    /* no antialias: the picture comes at its final size, so nothing else is done to it */
    const struct one *c = find(VISION_LLAVA, 101, 77, "\"size\": {\"height\": 30");
    uint8_t *rgb = scene(101, 77), *small = without_antialias(rgb, 101, 77, 30, 30);
    float *patches = patches_of(&c->config, 30, 30, small, &plan);
    expect_far("no antialias", c, patches);
    free(patches);
    free(small);

    /* red and blue swapped */
    c = find(VISION_LLAVA, 101, 77, "\"resample\": 3");
    for (int i = 0; i < 101 * 77; i++) {
        const uint8_t red = rgb[i * 3];

        rgb[i * 3] = rgb[i * 3 + 2];
        rgb[i * 3 + 2] = red;
    }
    patches = patches_of(&c->config, 101, 77, rgb, &plan);
    expect_far("channels swapped", c, patches);
    free(patches);
    free(rgb);

    /* a crop that begins one pixel too far to the right */
    c = find(VISION_LLAVA, 101, 50, "\"do_resize\": false");
    rgb = scene(101, 50);
    memmove(rgb, rgb + 3, (101 * 50 - 1) * 3);
    patches = patches_of(&c->config, 101, 50, rgb, &plan);
    expect_far("a crop off by one", c, patches);
    free(patches);
    free(rgb);

    /* mean and deviation of another model */
    c = find(VISION_IDEFICS3, 333, 222, "Idefics3");
    struct one wrong = *c;
    rgb = scene(333, 222);
    wrong.config.prep.mean[0] = 0.48145466;
    patches = patches_of(&wrong.config, 333, 222, rgb, &plan);
    expect_far("another mean", c, patches);
    free(patches);

    /* tiles by columns; the whole before the tiles; patches of a tile by columns */
    const int elems = vision_patch_elems(&c->config);
    patches = patches_of(&c->config, 333, 222, rgb, &plan);
    CHECK_INT(plan.tiles_x, 3);
    CHECK_INT(plan.tiles_y, 2);
    const int of_one = plan.grid_h * plan.grid_w;
    for (int i = 0; i < of_one; i++)
        swap_patches(patches, elems, 1 * of_one + i, 3 * of_one + i);
    expect_far("tiles out of order", c, patches);
    for (int i = 0; i < of_one; i++)
        swap_patches(patches, elems, 1 * of_one + i, 3 * of_one + i);
    CHECK_INT(compare(c, patches), 0);
    for (int i = 0; i < of_one; i++)
        swap_patches(patches, elems, i, 6 * of_one + i);
    expect_far("the whole before the tiles", c, patches);
    for (int i = 0; i < of_one; i++)
        swap_patches(patches, elems, i, 6 * of_one + i);
    for (int y = 0; y < plan.grid_h; y++)
        for (int x = 0; x < y; x++)
            for (int p = 0; p < plan.n_pictures; p++)
                swap_patches(patches, elems, p * of_one + y * plan.grid_w + x,
                             p * of_one + x * plan.grid_w + y);
    expect_far("patches by columns", c, patches);
    free(patches);
    free(rgb);

    /* qwen2vl's patches row by row instead of in blocks */
    c = find(VISION_QWEN2VL, 84, 112, "min_pixels");
    wrong = *c;
    wrong.config.layout = VISION_LLAVA; /* which has no blocks */
    wrong.config.prep.height = 112;
    wrong.config.prep.width = 84;
    wrong.config.prep.shortest_edge = 0;
    rgb = scene(84, 112);
    patches = patches_of(&wrong.config, 84, 112, rgb, &plan);
    CHECK_INT(plan.n_patches, c->n_patches);
    expect_far("no blocks", c, patches);
    free(patches);
    free(rgb);
    n_exact = exact;
    n_compared = compared;
}

/* ---- plans ----------------------------------------------------------------------------------- */

static void plans_say_what_is_asked_for(void)
{
    const struct one *c = find(VISION_IDEFICS3, 333, 222, "Idefics3");
    struct vision_plan plan;
    struct row_error err;

    CHECK(vision_plan_make(&c->config, 333, 222, &plan, &err) == ST_OK);
    CHECK_INT(plan.n_rows, 7 * 4);
    CHECK(plan.rows_h == 0 && plan.rows_w == 0 && plan.width == 333 && plan.height == 222);

    c = find(VISION_QWEN2VL, 84, 112, "min_pixels");
    CHECK(vision_plan_make(&c->config, 84, 112, &plan, &err) == ST_OK);
    CHECK(plan.rows_h == 4 && plan.rows_w == 3 && plan.n_rows == 12);
    CHECK(vision_plan_make(&c->config, 1, 201, &plan, &err) == ST_ROW);
    CHECK_HAS(err.text, "1 x 201 pixels; an edge may be at most 200 times");

    c = find(VISION_LLAVA, 101, 77, "\"resample\": 3");
    struct vision_config config = c->config;
    CHECK(vision_plan_make(&config, 65535, 1, &plan, &err) == ST_OK);
    CHECK_INT(plan.n_rows, 16);
    config.keep_class_token = true;
    CHECK(vision_plan_make(&config, 1, 65535, &plan, &err) == ST_OK);
    CHECK_INT(plan.n_rows, 17);
    CHECK_INT(plan.n_patches, 16);
    CHECK(vision_plan_make(&config, 0, 4, &plan, &err) == ST_ROW);
    config.prep.crop = false;
    CHECK(vision_plan_make(&config, 50, 40, &plan, &err) == ST_ROW);
    CHECK_HAS(err.text, "a picture of 5 x 4 patches; the model takes 4 x 4");
}

/* Whatever an image's size, the prompt has a name for each of its tiles. */
static void tiles_have_a_limit(void)
{
    const struct one *c = find(VISION_IDEFICS3, 64, 64, "\"do_resize\": false");
    struct vision_plan plan;
    struct row_error err;

    CHECK(vision_plan_make(&c->config, 64 * 64, 64, &plan, &err) == ST_OK);
    CHECK_INT(plan.tiles_x, 64);
    CHECK(vision_plan_make(&c->config, 64 * 64 + 1, 64, &plan, &err) == ST_ROW);
    CHECK_HAS(err.text, "65 x 1 tiles; this version has at most 64");
}

/* A long picture takes no more memory than what is seen of it. */
static void long_pictures_are_cropped_first(void)
{
    const struct one *c = find(VISION_LLAVA, 101, 77, "\"resample\": 3");
    struct vision_plan plan;
    uint8_t *rgb = scene(1, 65535);
    float *patches = patches_of(&c->config, 1, 65535, rgb, &plan);

    CHECK(patches != NULL);
    free(patches);
    free(rgb);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void expect_refused(enum vision_layout layout, const char *json, enum status want,
                           const char *part)
{
    struct vision_config config = {.layout = layout, .patch = 14, .patch_frames = 1, .merge = 1};

    if (layout == VISION_QWEN2VL)
        config.patch_frames = config.merge = 2;
    if (layout == VISION_LLAVA)
        config.grid = 16;
    CHECK_INT(vision_prep_parse((const uint8_t *)json, strlen(json), "f.json", &config), want);
    if (want != ST_OK)
        CHECK_HAS(log_last_error(), part);
}

static void files_that_mean_something_else_are_refused(void)
{
    static const struct {
        enum vision_layout layout;
        const char *json;
        enum status want;
        const char *part;
    } files[] = {
        {VISION_LLAVA, "{}", ST_OK, ""},
        {VISION_IDEFICS3, "{}", ST_OK, ""},
        {VISION_QWEN2VL, "{}", ST_OK, ""},
        {VISION_LLAVA, "{\"feature_extractor_type\": \"CLIPFeatureExtractor\", \"size\": 224}",
         ST_OK, ""},
        {VISION_QWEN2VL,
         "{\"size\": {\"min_pixels\": 3136, \"max_pixels\": 12845056}, \"min_pixels\": 3136}",
         ST_OK, ""},
        {VISION_IDEFICS3,
         "{\"image_seq_len\": 64, \"image_processor\": {\"image_processor_type\": "
         "\"SmolVLMImageProcessorFast\", \"size\": {\"longest_edge\": 2048}}}",
         ST_OK, ""},
        {VISION_LLAVA, "{\"image_processor\": {\"sharpen\": 1}}", ST_UNSUPPORTED, "key sharpen"},
        {VISION_LLAVA, "[]", ST_FORMAT, "JSON object"},
        {VISION_LLAVA, "{\"image_processor_type\": \"ViTImageProcessor\"}", ST_UNSUPPORTED,
         "image_processor_type = ViTImageProcessor"},
        {VISION_LLAVA, "{\"image_processor_type\": \"Qwen2VLImageProcessor\"}", ST_UNSUPPORTED,
         "for this model"},
        {VISION_LLAVA, "{\"image_processor_type\": 3}", ST_FORMAT, "the name of a class"},
        {VISION_LLAVA, "{\"do_sharpen\": true}", ST_UNSUPPORTED, "key do_sharpen"},
        {VISION_LLAVA, "{\"min_pixels\": 100}", ST_UNSUPPORTED, "key min_pixels"},
        {VISION_LLAVA, "{\"do_pad\": true}", ST_UNSUPPORTED, "key do_pad = true"},
        {VISION_LLAVA, "{\"resample\": 5}", ST_UNSUPPORTED, "key resample = 5"},
        {VISION_LLAVA, "{\"do_resize\": \"yes\"}", ST_FORMAT, "key do_resize must be true"},
        {VISION_LLAVA, "{\"image_mean\": [1, 2]}", ST_FORMAT, "image_mean must be three numbers"},
        {VISION_LLAVA, "{\"image_std\": [1, 0, 1]}", ST_FORMAT, "image_std must be three numbers"},
        {VISION_LLAVA, "{\"rescale_factor\": 0}", ST_FORMAT, "rescale_factor must be"},
        {VISION_LLAVA, "{\"size\": {\"longest_edge\": 224}}", ST_FORMAT, "size must be height"},
        {VISION_LLAVA, "{\"size\": {\"max_height\": 224}}", ST_UNSUPPORTED, "key size"},
        {VISION_LLAVA, "{\"size\": 0}", ST_FORMAT, "size must be"},
        {VISION_LLAVA, "{\"size\": {\"height\": 99999, \"width\": 2}}", ST_FORMAT,
         "height must be"},
        {VISION_LLAVA, "{\"crop_size\": {\"shortest_edge\": 224}}", ST_FORMAT, "crop_size must be"},
        {VISION_LLAVA, "{\"crop_size\": 336}", ST_FORMAT, "336 x 336 pixels, and by config.json"},
        {VISION_IDEFICS3, "{\"do_center_crop\": true}", ST_UNSUPPORTED, "do_center_crop = true"},
        {VISION_IDEFICS3, "{\"size\": {\"shortest_edge\": 5}}", ST_FORMAT, "size must be longest"},
        {VISION_IDEFICS3, "{\"max_image_size\": 364}", ST_FORMAT, "max_image_size must be"},
        {VISION_IDEFICS3, "{\"max_image_size\": {\"longest_edge\": 7}}", ST_FORMAT, "a 64th"},
        {VISION_QWEN2VL, "{\"patch_size\": 16}", ST_FORMAT, "patch_size is 16, and config.json"},
        {VISION_QWEN2VL, "{\"merge_size\": 3}", ST_FORMAT, "merge_size is 3"},
        {VISION_QWEN2VL, "{\"min_pixels\": 0}", ST_FORMAT, "min_pixels must be a whole number"},
        {VISION_QWEN2VL, "{\"size\": {\"height\": 3}}", ST_UNSUPPORTED, "key size"},
    };

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        expect_refused(files[i].layout, files[i].json, files[i].want, files[i].part);
}

int main(void)
{
    load_cases();
    pixels_are_those_of_the_reference();
    resizing_is_torchvisions_to_the_bit();
    mistakes_are_seen();
    plans_say_what_is_asked_for();
    tiles_have_a_limit();
    long_pictures_are_cropped_first();
    files_that_mean_something_else_are_refused();
    for (int i = 0; i < n_cases; i++)
        free((void *)(uintptr_t)cases[i].samples);
    buf_free(&expected);
    TEST_END();
}
