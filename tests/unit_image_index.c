/* TEST */
/*
 * unit_image_index.c - which images are the same, how large they are, when each is used next;
 * against a plain look at all rows.
 */
#include "prompts_test.h"

static char path[] = "/tmp/epidote-index-XXXXXX";

enum { N_IMAGES = 8, N_ROWS = 500 };

static const char *const names[N_IMAGES] = {
    "jpeg_exif6.jpg", "png_rgb8.png", "=none",        "jpeg_exif6.jpg",
    "png_rgb8.png",   "=none",        "jpeg_420.jpg", "jpeg_grey.jpg",
};
/* the first of the same content; bad ones are by themselves */
static const uint64_t same[N_IMAGES] = {0, 1, 2, 0, 1, 5, 6, 7};

static int64_t refs[2 * N_ROWS], offsets[N_ROWS + 1];

static void write_file(void)
{
    uint32_t random = 1;
    int64_t n = 0;

    for (int i = 0; i < N_ROWS; i++) {
        offsets[i] = n;
        for (int k = 0; k < (int)(random >> 16) % 3; k++) {
            random = random * 1664525u + 1013904223u;
            refs[n] = (random >> 16) % (N_IMAGES - 1); /* never the last */
            /* the first of all is image 3, which is the same as one that comes later */
            if (n == 0)
                refs[n] = 3;
            n++;
        }
        random = random * 1664525u + 1013904223u;
    }
    offsets[N_ROWS] = n;
    refs[offsets[7]] = 99; /* a bad row */
    const hid_t f = begin_file(path);
    put_texts(f, "prompt", N_ROWS);
    put_encoded(f, names, N_IMAGES);
    put_ints(f, "image_ref/values", (hsize_t)n, refs);
    put_ints(f, "image_ref/offsets", N_ROWS + 1, offsets);
    H5Fclose(f);
}

static bool odd(const void *arg, uint64_t row)
{
    CHECK_STR((const char *)arg, "arg");
    return row % 2 == 1;
}

static bool row_counts(uint64_t row, uint64_t begin, uint64_t end, bool skip_odd)
{
    for (int64_t k = offsets[row]; k < offsets[row + 1]; k++)
        if (refs[k] >= N_IMAGES)
            return false;
    return row >= begin && row < end && (!skip_odd || row % 2 == 0);
}

static uint64_t next_use(uint64_t image, uint64_t after, uint64_t begin, uint64_t end,
                         bool skip_odd)
{
    for (uint64_t row = after + 1; row < N_ROWS; row++) {
        if (!row_counts(row, begin, end, skip_odd))
            continue;
        for (int64_t k = offsets[row]; k < offsets[row + 1]; k++)
            if (same[refs[k]] == same[image])
                return row;
    }
    return UINT64_MAX;
}

static void check_range(struct prompts *prompts, uint64_t begin, uint64_t end, bool skip_odd)
{
    const struct image_index_args args = {.prompts = prompts,
                                          .rows_begin = begin,
                                          .rows_end = end,
                                          .skip = skip_odd ? odd : NULL,
                                          .arg = "arg"};
    struct image_index *index = NULL;
    struct image_index_counts counts, want = {0};
    bool used[N_IMAGES] = {false}, seen[N_IMAGES] = {false};

    for (uint64_t row = begin; row < end; row++)
        for (int64_t k = offsets[row]; k < offsets[row + 1]; k++)
            if (row_counts(row, begin, end, skip_odd)) {
                want.n_uses++;
                used[refs[k]] = true;
            }
    /* image_index_facts may be asked about used ones only, and the first with that content need
     * not be used itself: it is the first of those that are */
    uint64_t first_used[N_IMAGES];
    for (int i = N_IMAGES - 1; i >= 0; i--) {
        if (!used[i])
            continue;
        want.n_images++;
        want.n_distinct += !seen[same[i]];
        seen[same[i]] = true;
        first_used[same[i]] = (uint64_t)i;
    }
    CHECK(image_index_make(&args, &index) == ST_OK);
    image_index_counts(index, &counts);
    CHECK_INT(counts.n_uses, want.n_uses);
    CHECK_INT(counts.n_images, want.n_images);
    CHECK_INT(counts.n_distinct, want.n_distinct);
    for (uint64_t i = 0; i < N_IMAGES; i++) {
        struct image_facts facts;
        struct row_error err;

        if (!used[i])
            continue;
        if (names[i][0] == '=') {
            CHECK(image_index_facts(index, i, &facts, &err) == ST_ROW);
            CHECK_HAS(err.text, i == 2 ? "image 2: it is neither" : "image 5: it is neither");
        } else {
            CHECK(image_index_facts(index, i, &facts, &err) == ST_OK);
            CHECK_INT(facts.same_as, first_used[same[i]]);
            CHECK_INT(facts.width, same[i] == 0 ? 9 : same[i] == 1 ? 9 : 29);
            CHECK_INT(facts.height, same[i] == 0 ? 14 : same[i] == 1 ? 10 : 19);
        }
        for (uint64_t row = begin; row < end; row++)
            CHECK(image_index_next_use(index, i, row) == next_use(i, row, begin, end, skip_odd));
    }
    image_index_destroy(index);
}

static void without_images(void)
{
    struct prompts *prompts = NULL;
    struct image_index *index = NULL;
    struct image_index_counts counts;
    const hid_t f = begin_file(path);

    put_texts(f, "prompt", 3);
    H5Fclose(f);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    const struct image_index_args args = {.prompts = prompts, .rows_begin = 0, .rows_end = 3};
    CHECK(image_index_make(&args, &index) == ST_OK);
    image_index_counts(index, &counts);
    CHECK(counts.n_uses == 0 && counts.n_images == 0 && counts.n_distinct == 0);
    image_index_destroy(index);
    image_index_destroy(NULL);
    prompts_close(prompts);
}

int main(void)
{
    struct prompts *prompts = NULL;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    CHECK(close(mkstemp(path)) == 0);
    write_file();
    CHECK(prompts_open(path, &prompts) == ST_OK);
    check_range(prompts, 0, N_ROWS, false);
    check_range(prompts, 0, N_ROWS, true);
    check_range(prompts, 100, 110, false);
    check_range(prompts, 480, N_ROWS, true);
    check_range(prompts, 5, 5, false);
    setenv("TMPDIR", "/nonexistent", 1); /* then it is in memory */
    check_range(prompts, 0, N_ROWS, false);
    prompts_close(prompts);
    without_images();
    unlink(path);
    TEST_END();
}
