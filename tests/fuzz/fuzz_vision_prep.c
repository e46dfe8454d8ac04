/*
 * fuzz_vision_prep.c - any bytes as preprocessor_config.json: refused, or what any image can be
 * planned with and small ones made into patches.  The first bytes choose layout, size and grid.
 *
 * Every refusal logs a line: run it with -close_fd_mask=2.
 */
#include <math.h>
#include <stdlib.h>

#include "model/vision.h"

enum { HEAD = 4, MOST_PIXELS = 1 << 20 };

static void make_patches(const struct vision_config *config, const struct vision_plan *plan)
{
    const size_t n = (size_t)plan->n_patches * (size_t)vision_patch_elems(config);
    uint8_t *rgb = malloc((size_t)plan->width * (size_t)plan->height * 3);
    float *out = malloc(n * sizeof *out);

    for (int i = 0; i < plan->width * plan->height * 3; i++)
        rgb[i] = (uint8_t)(i * 37);
    if (vision_patches(config, plan, rgb, out) != ST_OK)
        abort();
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            abort();
    free(out);
    free(rgb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct vision_config config = {.patch = 14, .patch_frames = 1, .merge = 1};
    struct vision_plan plan;
    struct row_error err = {.text = ""};

    if (n_bytes < HEAD)
        return 0;
    config.layout = (enum vision_layout)(data[0] % VISION_LAYOUT_COUNT);
    if (config.layout == VISION_QWEN2VL)
        config.patch_frames = config.merge = 2;
    if (config.layout == VISION_LLAVA)
        config.grid = data[3] % 24 + 1;
    if (vision_prep_parse(data + HEAD, n_bytes - HEAD, "fuzz", &config) != ST_OK)
        return 0;
    const int width = data[1] % 64 + 1, height = data[2] % 64 + 1;
    const int sizes[4][2] = {{width, height}, {65535, 1}, {1, 65535}, {8000, 8000}};
    for (int i = 0; i < 4; i++) {
        const enum status st = vision_plan_make(&config, sizes[i][0], sizes[i][1], &plan, &err);

        if (st != ST_OK && (st != ST_ROW || err.text[0] == '\0'))
            abort();
        if (st != ST_OK)
            continue;
        if (plan.n_patches < 1 || plan.n_rows < 1)
            abort();
        /* what is resized on the way can be larger than what comes out */
        if (i == 0 && plan.n_patches < MOST_PIXELS / 14 / 14 && config.prep.shortest_edge < 2048 &&
            config.prep.longest_edge < 2048 && config.prep.width < 2048 &&
            config.prep.height < 2048)
            make_patches(&config, &plan);
    }
    return 0;
}
