/* TEST */
/*
 * unit_vision_prompt.c - what stands for an image in a prompt against the processors of
 * transformers (tests/golden/make_vision_prompts.py), and the positions of tokens in and around
 * images.
 */
#include "model/model.h"
#include "text_test.h"

#define VISION "tests/golden/vision/"

static const char *const layouts[] = {"llava", "idefics3", "qwen2vl"};

static struct vision_prompt *prompt_of(enum vision_layout layout, const struct tokenizer *t)
{
    const struct vision_config config = {
        .layout = layout, .prep = {.split = true, .longest_edge = 30, .tile_edge = 10}};
    const struct model_config decoder = {
        .image_id = tokenizer_find(t, layout == VISION_QWEN2VL ? "<|image_pad|>" : "<image>")};
    struct vision_prompt *prompt = NULL;

    CHECK_INT(vision_prompt_create(&config, &decoder, t, &prompt), ST_OK);
    return prompt;
}

/* The ids of a text in which each marker is replaced. */
static void as_processors(const struct tokenizer *t)
{
    struct lines lines;
    char *columns[6];
    int n_lines = 0;

    lines_open(&lines, VISION "prompts.txt");
    for (; lines_next(&lines, columns, 6); n_lines++) {
        struct token_list text = {0}, got = {0};
        struct buf shown = {0};
        struct row_error err;
        int layout = 0;

        while (strcmp(layouts[layout], columns[0]) != 0)
            layout++;
        struct vision_prompt *prompt = prompt_of((enum vision_layout)layout, t);
        const int rows = atoi(columns[1]), cols = atoi(columns[2]), n = atoi(columns[3]);
        const struct vision_plan plan = {.tiles_x = cols,
                                         .tiles_y = rows,
                                         .n_pictures = rows * cols + 1,
                                         .n_rows = n * (rows * cols + 1)};
        json_t *json = json_loads(columns[4], JSON_DECODE_ANY, NULL);
        const int32_t image = tokenizer_find(t, vision_prompt_marker(prompt));

        CHECK_HAS(json_string_value(json), vision_prompt_wrapped(prompt));
        CHECK_INT(tokenizer_encode(t, json_string_value(json), json_string_length(json),
                                   ENCODE_PARSE_SPECIAL, &text, &err),
                  ST_OK);
        for (int64_t i = 0; i < text.n_ids; i++) {
            if (text.ids[i] == image)
                CHECK_INT(vision_prompt_put(prompt, &plan, &got), ST_OK);
            else
                CHECK_INT(token_list_append(&got, &text.ids[i], 1), ST_OK);
        }
        for (int64_t i = 0; i < got.n_ids; i++)
            CHECK_INT(buf_printf(&shown, "%s%d", i > 0 ? " " : "", got.ids[i]), ST_OK);
        CHECK_INT(buf_put(&shown, "", 1), ST_OK);
        CHECK_STR((const char *)shown.data, columns[5]);
        json_decref(json);
        buf_free(&shown);
        token_list_free(&text);
        token_list_free(&got);
        vision_prompt_destroy(prompt);
    }
    CHECK_INT(n_lines, 27);
    buf_free(&lines.file);
}

static void markers(const struct tokenizer *t)
{
    struct vision_prompt *prompt = prompt_of(VISION_QWEN2VL, t);

    CHECK_STR(vision_prompt_marker(prompt), "<|image_pad|>");
    CHECK_STR(vision_prompt_wrapped(prompt), "<|vision_start|><|image_pad|><|vision_end|>");
    vision_prompt_destroy(prompt);
    prompt = prompt_of(VISION_LLAVA, t);
    CHECK_STR(vision_prompt_marker(prompt), "<image>");
    CHECK_STR(vision_prompt_wrapped(prompt), "<image>");
    vision_prompt_destroy(prompt);
}

/* A tokeniser without the tokens is refused. */
static void lacking(void)
{
    struct tokenizer *t = load_small();
    const struct model_config there = {.image_id = 5}, beyond = {.image_id = 5000};
    struct vision_config config = {.layout = VISION_QWEN2VL};
    struct vision_prompt *prompt = NULL;

    CHECK_INT(vision_prompt_create(&config, &there, t, &prompt), ST_FORMAT);
    CHECK_HAS(log_last_error(), "<|vision_start|>");
    config.layout = VISION_IDEFICS3;
    CHECK_INT(vision_prompt_create(&config, &there, t, &prompt), ST_FORMAT);
    CHECK_HAS(log_last_error(), "<fake_token_around_image>");
    CHECK_INT(vision_prompt_create(&config, &beyond, t, &prompt), ST_FORMAT);
    CHECK_HAS(log_last_error(), "5000");
    tokenizer_destroy(t);
}

/* t t [2 x 3] t [1 x 2] [2 x 1] t */
static void positions(void)
{
    enum { T = 2 + 6 + 1 + 2 + 2 + 1 };
    static const struct seq_image images[] = {{2, 6, 2, 3}, {9, 2, 1, 2}, {11, 2, 2, 1}};
    static const int32_t right[T][3] = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {2, 2, 3},   {2, 2, 4},
                                        {2, 3, 2}, {2, 3, 3}, {2, 3, 4}, {5, 5, 5},   {6, 6, 6},
                                        {6, 6, 7}, {8, 8, 8}, {8, 9, 8}, {10, 10, 10}};
    int32_t got[T][3];
    int shift;

    mrope_positions(images, 3, T, got[0], &shift);
    CHECK(memcmp(got, right, sizeof got) == 0);
    CHECK_INT(shift, 11 - T);
    mrope_positions(NULL, 0, 3, got[0], &shift);
    CHECK_INT(shift, 0);
    CHECK(got[2][0] == 2 && got[2][1] == 2 && got[2][2] == 2);
}

int main(void)
{
    struct tokenizer *t = NULL;

    CHECK_INT(tokenizer_load_json(VISION "tokenizer.json", &t), ST_OK);
    as_processors(t);
    markers(t);
    tokenizer_destroy(t);
    lacking();
    positions();
    TEST_END();
}
