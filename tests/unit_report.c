/* TEST */
/*
 * unit_report.c - the sheet of pictures dot by dot, and reports of result files that are made here.
 */
#include "data/sheet.h"
#include "journal_test.h"
#include "prompts_test.h"

/* ---- the sheet ------------------------------------------------------------------------------- */

static struct colour_of {
    int r, g, b;
} dot(const struct sheet *sheet, int x, int y)
{
    const struct picture *all = sheet_picture(sheet);
    const uint8_t *at = all->rgb + ((size_t)y * (size_t)all->width + (size_t)x) * 3;

    return (struct colour_of){at[0], at[1], at[2]};
}

#define CHECK_DOT(sheet, x, y, red, green, blue)                                                   \
    do {                                                                                           \
        const struct colour_of test_dot = dot(sheet, x, y);                                        \
        CHECK_INT(test_dot.r, red);                                                                \
        CHECK_INT(test_dot.g, green);                                                              \
        CHECK_INT(test_dot.b, blue);                                                               \
    } while (0)

static struct picture plain(int width, int height, uint8_t red, uint8_t green, uint8_t blue)
{
    struct picture picture = {width, height, malloc((size_t)width * (size_t)height * 3)};

    for (int i = 0; i < width * height; i++) {
        picture.rgb[i * 3] = red;
        picture.rgb[i * 3 + 1] = green;
        picture.rgb[i * 3 + 2] = blue;
    }
    return picture;
}

/* The first cell's picture begins at LEFT, TOP. */
enum { LEFT = 23, TOP = 63 };

static struct sheet *sheet_of(const struct picture *picture, enum verdict verdict)
{
    struct sheet *sheet = NULL;

    CHECK_INT(sheet_create(1, "title", &sheet), ST_OK);
    sheet_draw(sheet, 0,
               &(struct sheet_cell){
                   .picture = picture, .question = "What?", .answer = "This.", .verdict = verdict});
    return sheet;
}

static void sizes(void)
{
    static const int n_cells[] = {1, 2, 6, 7, 12, 13, 24};
    int width[7], height[7];

    for (int i = 0; i < 7; i++) {
        struct sheet *sheet = NULL;

        CHECK_INT(sheet_create(n_cells[i], "", &sheet), ST_OK);
        width[i] = sheet_picture(sheet)->width;
        height[i] = sheet_picture(sheet)->height;
        sheet_destroy(sheet);
    }
    CHECK_INT(width[1] - width[0], (width[2] - width[0]) / 5);
    CHECK_INT(width[3], width[2]);
    CHECK_INT(width[6], width[2]);
    CHECK_INT(height[2], height[0]);
    CHECK_INT(height[4], height[3]);
    CHECK_INT(height[5] - height[4], height[3] - height[2]);
    CHECK(height[3] - height[2] > SHEET_BOX && width[1] - width[0] > SHEET_BOX);
    CHECK(width[6] < 2000 && height[6] < 2000);
}

static void small_pictures_are_magnified(void)
{
    struct picture picture = plain(3, 2, 10, 20, 30); /* 80 times: 240 x 160, 40 above and below */

    memcpy(picture.rgb + 3, (uint8_t[]){200, 100, 50}, 3); /* dot 1, 0 */
    struct sheet *sheet = sheet_of(&picture, VERDICT_RIGHT);
    CHECK_DOT(sheet, LEFT, TOP + 39, 222, 222, 218);
    CHECK_DOT(sheet, LEFT, TOP + 40, 10, 20, 30);
    CHECK_DOT(sheet, LEFT + 79, TOP + 40, 10, 20, 30);
    CHECK_DOT(sheet, LEFT + 80, TOP + 40, 200, 100, 50);
    CHECK_DOT(sheet, LEFT + 159, TOP + 119, 200, 100, 50);
    CHECK_DOT(sheet, LEFT + 159, TOP + 120, 10, 20, 30);
    CHECK_DOT(sheet, LEFT + 160, TOP + 119, 10, 20, 30);
    CHECK_DOT(sheet, LEFT + 239, TOP + 199, 10, 20, 30);
    CHECK_DOT(sheet, LEFT + 239, TOP + 200, 222, 222, 218);
    /* The frame around it, and nothing outside. */
    CHECK_DOT(sheet, LEFT - 1, TOP + 100, 34, 139, 60);
    CHECK_DOT(sheet, LEFT + 240, TOP + 100, 34, 139, 60);
    CHECK_DOT(sheet, LEFT + 100, TOP - 5, 34, 139, 60);
    CHECK_DOT(sheet, LEFT + 100, TOP - 6, 246, 246, 243);
    sheet_destroy(sheet);

    sheet = sheet_of(&picture, VERDICT_WRONG);
    CHECK_DOT(sheet, LEFT - 1, TOP + 100, 206, 38, 38);
    sheet_destroy(sheet);
    free(picture.rgb);
}

static void large_pictures_are_averaged(void)
{
    /* 720 x 360: nine dots become one, 240 x 120, 60 above and below. */
    struct picture picture = plain(720, 360, 90, 0, 9);

    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++)
            picture.rgb[(y * 720 + x) * 3] = (uint8_t)(10 * (y * 3 + x)); /* 0 to 80: 40 */
    struct sheet *sheet = sheet_of(&picture, VERDICT_NONE);
    CHECK_DOT(sheet, LEFT, TOP + 59, 222, 222, 218);
    CHECK_DOT(sheet, LEFT, TOP + 60, 40, 0, 9);
    CHECK_DOT(sheet, LEFT + 1, TOP + 60, 90, 0, 9);
    CHECK_DOT(sheet, LEFT + 239, TOP + 179, 90, 0, 9);
    CHECK_DOT(sheet, LEFT + 239, TOP + 180, 222, 222, 218);
    sheet_destroy(sheet);
    free(picture.rgb);

    /* What no whole number divides, and what is all length and no height. */
    static const int shapes[][2] = {{241, 240}, {500, 333}, {4000, 1}, {1, 4000}, {1, 1}, {239, 7}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        picture = plain(shapes[i][0], shapes[i][1], 1, 2, 3);
        sheet = sheet_of(&picture, VERDICT_RIGHT);
        CHECK_DOT(sheet, LEFT + 119, TOP + 119, 1, 2, 3);
        CHECK_DOT(sheet, LEFT + 240, TOP + 120, 34, 139, 60);
        CHECK_DOT(sheet, LEFT + 120, TOP + 240, 34, 139, 60);
        sheet_destroy(sheet);
        free(picture.rgb);
    }
    sheet = sheet_of(NULL, VERDICT_ERROR);
    CHECK_DOT(sheet, LEFT, TOP, 222, 222, 218);
    CHECK_DOT(sheet, LEFT + 120, TOP + 120, 140, 140, 140);
    sheet_destroy(sheet);
}

/* Text of any length and of any bytes; the dots are the same on every machine. */
static void dots_are_always_the_same(void)
{
    const char *texts[] = {"",
                           "a",
                           "an answer of several words that goes on and on and on",
                           "Donaudampfschifffahrtsgesellschaftskapitaensmuetze and what not else",
                           "\xc3\xa4\xff\x01 \xf0\x9f\x98\x80~",
                           "                 x",
                           "  "};
    struct picture picture = plain(50, 20, 60, 120, 180);
    uint64_t hashes[2];

    for (int run = 0; run < 2; run++) {
        struct sheet *sheet = NULL;

        CHECK_INT(sheet_create(SHEET_CELLS, texts[2], &sheet), ST_OK);
        for (int i = 0; i < SHEET_CELLS; i++)
            sheet_draw(sheet, i,
                       &(struct sheet_cell){.picture = i % 5 > 0 ? &picture : NULL,
                                            .question = texts[i % 7],
                                            .answer = texts[i / 4],
                                            .verdict = (enum verdict)(i % VERDICT_COUNT)});
        const struct picture *all = sheet_picture(sheet);
        hashes[run] = hash_bytes(all->rgb, (size_t)all->width * (size_t)all->height * 3, 0);
        sheet_destroy(sheet);
    }
    CHECK(hashes[0] == hashes[1]);
    CHECK(hashes[0] == UINT64_C(0x32f8a814a4ee4747)); /* with letters and colours as they are */
    free(picture.rgb);
}

static void every_letter_is_drawn_and_its_own(void)
{
    for (int a = ' ' + 1; a < 128; a++) {
        for (int b = ' '; b < a; b++) {
            int n_different = 0;

            for (int y = 0; y < FONT_HEIGHT; y++)
                for (int x = 0; x < FONT_WIDTH; x++)
                    n_different +=
                        font_dot((unsigned char)a, x, y) != font_dot((unsigned char)b, x, y);
            CHECK(n_different > 0);
        }
    }
    CHECK(font_dot(0xc3, 0, 0) && font_dot('\n', 4, 6) && !font_dot(' ', 2, 2));
}

/* ---- reports --------------------------------------------------------------------------------- */

static char prompts_path[400];

enum { N_ROWS = 6, SIDE = 4 };
static const char *const questions[N_ROWS] = {
    "USER: <image>\nWhich colour? ASSISTANT:", "USER: <image>\nHow many? ASSISTANT:",
    "USER: <image>\nHow many? ASSISTANT:",     "USER: <image><image>\nThe same? ASSISTANT:",
    "USER: Two and two? ASSISTANT:",           "USER: <image>\nWhich colour? ASSISTANT:",
};

/* Rows 1 to 5 of a prompt file, and what a run might have made of them. */
enum { WITH_PICTURES = 1, WITH_ANSWERS = 2, SHORT_CLASS = 4, OTHER_PROMPTS = 8 };
static void make_files(unsigned what)
{
    static const char *const answers[N_ROWS] = {"red", "2", "3", "yes", "four", "blue"};
    static const char *const classes[N_ROWS] = {"colour",  "count", "count",
                                                "compare", "",      "colour"};
    static const char *const got[N_ROWS] = {NULL, " 2\n", "2", NULL, "Four", "blue"};
    static const uint64_t offsets[N_ROWS + 1] = {0, 1, 2, 3, 5, 5, 6}, refs[6] = {0, 1, 2, 0, 1, 2};
    static const hsize_t n_refs = 6, n_offsets = N_ROWS + 1, dims[4] = {3, SIDE, SIDE, 3};
    const struct journal_args args = job(1, N_ROWS);
    uint8_t pixels[3 * SIDE * SIDE * 3];
    struct result_meta meta = {.program = "epidote test",
                               .job = "# a job\nprompts = \"somewhere\";\n",
                               .identity = IDENTITY,
                               .numerics = "plain/1"};
    struct prompts *prompts = NULL;
    struct buf payload = {0};

    dir_renew();
    snprintf(prompts_path, sizeof prompts_path, "%s", beside(".prompts"));
    memset(pixels, 200, sizeof pixels);
    const hid_t file = begin_file(prompts_path);
    put_strings(file, "prompt", N_ROWS, questions);
    if (what & WITH_ANSWERS) {
        put_strings(file, "answer", N_ROWS, answers);
        put_strings(file, "class", what & SHORT_CLASS ? N_ROWS - 1 : N_ROWS, classes);
    }
    if (what & WITH_PICTURES) {
        put_dataset(file, "images/pixels", H5T_NATIVE_UINT8, 4, dims, pixels);
        put_dataset(file, "image_ref/values", H5T_NATIVE_UINT64, 1, &n_refs, refs);
        put_dataset(file, "image_ref/offsets", H5T_NATIVE_UINT64, 1, &n_offsets, offsets);
    }
    H5Fclose(file);

    CHECK_INT(prompts_open(prompts_path, &prompts), ST_OK);
    CHECK_INT(prompts_fingerprint(prompts, &meta.prompts_fingerprint), ST_OK);
    meta.prompts_fingerprint += (what & OTHER_PROMPTS) != 0;
    struct journal *journal = open_job(&args);
    for (uint64_t row = 1; row < N_ROWS; row++) {
        pack_row(row, got[row], got[row] == NULL ? "image 1: cut short" : NULL, 0, &payload);
        CHECK_INT(journal_append(journal, payload.data, payload.n_bytes), ST_OK);
    }
    CHECK_INT(journal_merge(journal, prompts, &meta), ST_OK);
    journal_close(journal);
    prompts_close(prompts);
    buf_free(&payload);
}

static enum status report(const char *sheet, int n_rows, struct buf *out)
{
    const struct report_args args = {.results_path = results,
                                     .prompts_path = prompts_path,
                                     .sheet_path = sheet,
                                     .n_rows = n_rows};

    buf_reset(out);
    const enum status st = data_report(&args, out);
    CHECK_INT(buf_put(out, "", 1), ST_OK);
    return st;
}

static void whole_reports(void)
{
    struct buf text = {0}, png = {0};
    struct picture sheet = {.rgb = NULL};
    struct row_error why;
    char sheet_path[400];

    make_files(WITH_PICTURES | WITH_ANSWERS);
    snprintf(sheet_path, sizeof sheet_path, "%s", beside(".png"));
    CHECK_INT(report(sheet_path, 8, &text), ST_OK);
    const char *got = (const char *)text.data;
    CHECK_HAS(got, "rows 1:6 of ");
    CHECK_HAS(got, "row 1, count, picture 1\n    How many?\n    > 2    [right]\n");
    CHECK_HAS(got, "row 2, count, picture 2\n    How many?\n    > 2, not 3    [wrong]\n");
    CHECK_HAS(got,
              "row 3, compare, pictures 0, 1\n    The same?\n    > error: image 1: cut short\n");
    CHECK_HAS(got, "row 4\n    Two and two?\n    > Four    [right]\n");
    CHECK_HAS(got, "\n(none)          1         0         1         1    100.0 %    100.0 %\n");
    CHECK_HAS(got, "\ncount           2         0         2         1     50.0 %     50.0 %\n");
    CHECK_HAS(got, "\nall             5         1         5         3     60.0 %     80.0 %\n");
    CHECK_HAS(got, "(they count as wrong):\n  row 3: image 1: cut short\n");
    CHECK_INT(file_read(sheet_path, 1 << 24, &png), ST_OK);
    CHECK_INT(picture_decode(png.data, png.n_bytes, &sheet, &why), ST_OK);
    CHECK_INT(sheet.width, 18 + 4 * 268); /* rows 1, 2, 3 and 5 */
    host_free(sheet.rgb);
    CHECK_INT(report(NULL, 0, &text), ST_OK);
    CHECK(strstr((const char *)text.data, "How many") == NULL);

    make_files(0);
    CHECK_INT(report(NULL, 2, &text), ST_OK);
    CHECK_HAS((const char *)text.data, "no column `answer`");
    CHECK_HAS((const char *)text.data, "class      rows    errors\nall           5         1\n");
    CHECK_HAS((const char *)text.data, "errors:\n  row 3");
    buf_free(&png);
    buf_free(&text);
}

static void refused(void)
{
    struct buf text = {0};

    make_files(WITH_ANSWERS);
    CHECK_INT(report(beside(".png"), 8, &text), ST_CONFIG);
    CHECK_HAS(log_last_error(), "no row of ");
    CHECK(!exists(beside(".png")));
    CHECK_INT(report(prompts_path, 8, &text), ST_CONFIG);
    CHECK_HAS(log_last_error(), "is an HDF5 file and is not overwritten");
    CHECK_INT(report(results, 8, &text), ST_CONFIG);
    CHECK_HAS(log_last_error(), "input and output are the same file");
    CHECK_INT(report("/nowhere/sheet.png", 8, &text), ST_CONFIG);
    CHECK_HAS(log_last_error(), "/nowhere/sheet.png: cannot create");
    make_files(WITH_ANSWERS | OTHER_PROMPTS);
    CHECK_INT(report(NULL, 8, &text), ST_FORMAT);
    CHECK_HAS(log_last_error(), "its fingerprint is");
    CHECK_HAS(log_last_error(), "--prompts");
    make_files(WITH_ANSWERS | SHORT_CLASS);
    CHECK_INT(report(NULL, 8, &text), ST_FORMAT);
    CHECK_HAS(log_last_error(), "column class has 5 rows, the file has 6");
    snprintf(prompts_path, sizeof prompts_path, "%s", results);
    CHECK_INT(report(NULL, 8, &text), ST_FORMAT);
    CHECK_HAS(log_last_error(), "this is a result file, name the prompt file");
    buf_free(&text);
}

int main(void)
{
    sizes();
    small_pictures_are_magnified();
    large_pictures_are_averaged();
    dots_are_always_the_same();
    every_letter_is_drawn_and_its_own();
    whole_reports();
    refused();
    TEST_END();
}
