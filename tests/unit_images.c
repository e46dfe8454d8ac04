/* TEST */
/*
 * unit_images.c - images in prompt files: how they are written, read, refused and imported.
 */
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>

#include "prompts_test.h"

static char dir[] = "/tmp/epidote-images-XXXXXX";
static char path[128], in_path[128];

static const int64_t counting[8] = {0, 1, 2, 3, 4, 5, 6, 7};

/* Three rows that use images 2; none; 0 and 2. */
static void put_refs(hid_t f)
{
    static const int64_t refs[3] = {2, 0, 2}, offsets[4] = {0, 1, 1, 3};

    put_ints(f, "image_ref/values", 3, refs);
    put_ints(f, "image_ref/offsets", 4, offsets);
}

enum { N_PIXELS = 3 * 4 * 5 * 3 };

static void put_pixels(hid_t f, const uint8_t *pixels)
{
    static const hsize_t dims[4] = {3, 4, 5, 3};

    put_dataset(f, "images/pixels", H5T_NATIVE_UINT8, 4, dims, pixels);
}

static void check_refs(struct prompts *prompts)
{
    struct arena *arena = NULL;
    struct prompt_row rows[3];
    const struct prompts_info *info = prompts_info(prompts);

    CHECK_INT(info->n_rows, 3);
    CHECK_INT(info->n_images, 3);
    CHECK_INT(info->n_image_refs, 3);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(prompts_read(prompts, 0, 3, arena, rows) == ST_OK);
    CHECK_INT(rows[0].n_image_refs, 1);
    CHECK_INT(rows[0].image_refs[0], 2);
    CHECK_INT(rows[1].n_image_refs, 0);
    CHECK(rows[1].image_refs == NULL);
    CHECK_INT(rows[2].n_image_refs, 2);
    CHECK(rows[2].image_refs[0] == 0 && rows[2].image_refs[1] == 2);
    CHECK(prompts_read(prompts, 2, 1, arena, rows) == ST_OK);
    CHECK(rows[0].n_image_refs == 2 && rows[0].image_refs[0] == 0);
    for (int i = 0; i < 3; i++)
        CHECK_STR(rows[i].error.text, "");
    arena_destroy(arena);
}

static void pixels_and_files_are_read(void)
{
    static const char *const names[3] = {"jpeg_420.jpg", "=no picture", "png_exif6.png"};
    struct prompts *prompts = NULL;
    struct picture picture;
    struct row_error err;
    uint8_t pixels[N_PIXELS];
    uint64_t fingerprints[3] = {0};

    for (int i = 0; i < N_PIXELS; i++)
        pixels[i] = (uint8_t)(i * 7);
    for (int changed = 0; changed < 2; changed++) {
        hid_t f = begin_file(path);

        pixels[N_PIXELS - 1] ^= (uint8_t)changed;
        put_texts(f, "prompt", 3);
        put_refs(f);
        put_pixels(f, pixels);
        put_ints(f, "answer", 3, counting); /* a column that is not ours */
        H5Fclose(f);
        CHECK(prompts_open(path, &prompts) == ST_OK);
        check_refs(prompts);
        CHECK(prompts_fingerprint(prompts, &fingerprints[changed]) == ST_OK);
        CHECK(prompts_read_image(prompts, 2, &picture, &err) == ST_OK);
        CHECK(picture.width == 5 && picture.height == 4);
        CHECK(memcmp(picture.rgb, pixels + 2 * 60, 60) == 0);
        host_free(picture.rgb);
        prompts_close(prompts);
    }
    hid_t f = begin_file(path);
    put_texts(f, "prompt", 3);
    put_refs(f);
    put_encoded(f, names, 3);
    H5Fclose(f);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    check_refs(prompts);
    CHECK(prompts_fingerprint(prompts, &fingerprints[2]) == ST_OK);
    CHECK(prompts_read_image(prompts, 0, &picture, &err) == ST_OK);
    CHECK(picture.width == 29 && picture.height == 19);
    host_free(picture.rgb);
    CHECK(prompts_read_image(prompts, 1, &picture, &err) == ST_ROW);
    CHECK_STR(err.text, "it is neither a JPEG nor a PNG file: its 10 bytes begin with n");
    CHECK(prompts_read_image(prompts, 2, &picture, &err) == ST_OK);
    CHECK(picture.width == 5 && picture.height == 8); /* turned */
    host_free(picture.rgb);
    prompts_close(prompts);
    CHECK(fingerprints[0] != fingerprints[1] && fingerprints[1] != fingerprints[2]);

    struct buf text = {0};
    CHECK(data_inspect(path, &text) == ST_OK && buf_put(&text, "", 1) == ST_OK);
    CHECK_HAS((const char *)text.data, "image_ref               2 rows set");
    CHECK_HAS((const char *)text.data, "images                    3\n");
    CHECK_HAS((const char *)text.data, "uses of them              3\n");
    buf_free(&text);
}

static void numbers_out_of_range_are_bad_rows(void)
{
    static const double refs[5] = {1, 3, -1, 0.5, NAN};
    static const hsize_t n = 5;
    static const char *const want[5] = {
        "", "image_ref: element 0 is 3, and the file has 3 images, numbered from 0",
        "image_ref: element 0 is -1, and the file has 3 images, numbered from 0",
        "image_ref: element 0 is not a whole number", "image_ref: element 0 is not a whole number"};
    struct prompts *prompts = NULL;
    struct arena *arena = NULL;
    struct prompt_row rows[5];
    const hid_t f = begin_file(path);

    put_texts(f, "prompt", 5);
    put_dataset(f, "image_ref/values", H5T_NATIVE_DOUBLE, 1, &n, refs);
    put_ints(f, "image_ref/offsets", 6, counting);
    put_pixels(f, NULL);
    H5Fclose(f);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(prompts_read(prompts, 0, 5, arena, rows) == ST_OK);
    for (int i = 0; i < 5; i++) {
        CHECK_STR(rows[i].error.text, want[i]);
        CHECK((rows[i].image_refs != NULL) == (i == 0));
        CHECK_INT(rows[i].n_image_refs, 1);
    }
    arena_destroy(arena);
    prompts_close(prompts);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void no_refs(hid_t f)
{
    put_pixels(f, NULL);
}
static void no_images(hid_t f)
{
    put_refs(f);
}
static void refs_of_other_length(hid_t f)
{
    put_pixels(f, NULL);
    put_ints(f, "image_ref/values", 3, counting);
    put_ints(f, "image_ref/offsets", 3, counting);
}
static void refs_flat(hid_t f)
{
    put_pixels(f, NULL);
    put_ints(f, "image_ref", 3, counting);
}
static void both_kinds(hid_t f)
{
    static const char *const names[1] = {"png_rgb8.png"};

    put_refs(f);
    put_pixels(f, NULL);
    put_encoded(f, names, 1);
}
static void neither_kind(hid_t f)
{
    put_refs(f);
    put_ints(f, "images/other", 3, counting);
}
static void images_flat(hid_t f)
{
    put_refs(f);
    put_ints(f, "images", 3, counting);
}
static void pixels_wide(hid_t f)
{
    static const hsize_t dims[4] = {3, 4, 5, 3};

    put_refs(f);
    put_dataset(f, "images/pixels", H5T_NATIVE_UINT16, 4, dims, NULL);
}
static void pixels_first(hid_t f)
{
    static const hsize_t dims[4] = {3, 3, 4, 5};

    put_refs(f);
    put_dataset(f, "images/pixels", H5T_NATIVE_UINT8, 4, dims, NULL);
}
static void pixels_grey(hid_t f)
{
    static const hsize_t dims[3] = {3, 4, 5};

    put_refs(f);
    put_dataset(f, "images/pixels", H5T_NATIVE_UINT8, 3, dims, NULL);
}
static void bytes_wide(hid_t f)
{
    put_refs(f);
    put_ints(f, "images/encoded/values", 3, counting);
    put_ints(f, "images/encoded/offsets", 4, counting);
}
static void bytes_past_end(hid_t f)
{
    static const hsize_t n = 2;

    put_refs(f);
    put_dataset(f, "images/encoded/values", H5T_NATIVE_UINT8, 1, &n, NULL);
    put_ints(f, "images/encoded/offsets", 4, counting);
}

static void bad_files_are_refused(void)
{
    static const struct {
        void (*make)(hid_t file);
        const char *parts[2]; /* of the message, beside the path */
    } cases[] = {
        {no_refs, {"column images is there", "add image_ref/{values,offsets}"}},
        {no_images, {"column image_ref is there", "add images/pixels or"}},
        {refs_of_other_length, {"prompt has 3 rows", "image_ref has 2"}},
        {refs_flat, {"column image_ref", "`offsets`"}},
        {both_kinds, {"column images has both", "either"}},
        {neither_kind, {"column images has neither", "either"}},
        {images_flat, {"column images is not a group", "either"}},
        {pixels_wide, {"column images/pixels", "unsigned integers of 8 bits"}},
        {pixels_first, {"images/pixels is [3, 3, 4, 5]", "[images, height, width, 3]"}},
        {pixels_grey, {"images/pixels has 3 dimensions", "4"}},
        {bytes_wide, {"column images/encoded/values", "unsigned integers of 8 bits"}},
        {bytes_past_end, {"images/encoded/offsets: element 3 is 3", "beyond the end"}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct prompts *prompts = NULL;
        const hid_t f = begin_file(path);

        put_texts(f, "prompt", 3);
        cases[i].make(f);
        H5Fclose(f);
        CHECK_INT(prompts_open(path, &prompts), ST_FORMAT);
        CHECK_HAS(log_last_error(), path);
        CHECK_HAS(log_last_error(), cases[i].parts[0]);
        CHECK_HAS(log_last_error(), cases[i].parts[1]);
        prompts_close(prompts);
    }
}

/* A size that nothing can be made of is each image's own error. */
static void empty_and_huge_pixels_are_bad_images(void)
{
    static const hsize_t dims[2][4] = {{3, 0, 5, 3}, {3, 70000, 70000, 3}};
    static const char *const want[2] = {"it has 5 x 0 pixels", "it has 70000 x 70000 pixels"};

    for (int i = 0; i < 2; i++) {
        struct prompts *prompts = NULL;
        struct picture picture;
        struct row_error err = {.text = ""};
        uint64_t fingerprint;
        const hid_t f = begin_file(path), space = H5Screate_simple(4, dims[i], NULL);
        const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), lcpl = H5Pcreate(H5P_LINK_CREATE);
        const hsize_t chunk[4] = {1, 16, 16, 3};

        put_texts(f, "prompt", 3);
        put_refs(f);
        H5Pset_create_intermediate_group(lcpl, 1);
        if (i == 1) /* of which nothing is ever written */
            H5Pset_chunk(dcpl, 4, chunk);
        H5Dclose(H5Dcreate2(f, "images/pixels", H5T_NATIVE_UINT8, space, lcpl, dcpl, H5P_DEFAULT));
        H5Pclose(lcpl);
        H5Pclose(dcpl);
        H5Sclose(space);
        H5Fclose(f);
        CHECK(prompts_open(path, &prompts) == ST_OK);
        CHECK(prompts_fingerprint(prompts, &fingerprint) == ST_OK);
        CHECK(prompts_read_image(prompts, 1, &picture, &err) == ST_ROW);
        CHECK_HAS(err.text, want[i]);
        prompts_close(prompts);
    }
}

/* ---- two threads ----------------------------------------------------------------------------- */

static void *read_images(void *arg)
{
    struct prompts *prompts = arg;
    uintptr_t n_bad = 0;

    for (int i = 0; i < 300; i++) {
        struct picture picture = {.rgb = NULL};
        struct row_error err;

        n_bad += prompts_read_image(prompts, (uint64_t)(i % 3), &picture, &err) !=
                 (i % 3 == 1 ? ST_ROW : ST_OK);
        host_free(picture.rgb);
    }
    return (void *)n_bad;
}

static void rows_and_images_are_read_at_the_same_time(void)
{
    static const char *const names[3] = {"jpeg_420.jpg", "=no picture", "png_rgb8.png"};
    struct prompts *prompts = NULL;
    struct arena *arena = NULL;
    struct prompt_row rows[3];
    pthread_t thread;
    void *n_bad = NULL;
    const hid_t f = begin_file(path);

    put_texts(f, "prompt", 3);
    put_refs(f);
    put_encoded(f, names, 3);
    H5Fclose(f);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(pthread_create(&thread, NULL, read_images, prompts) == 0);
    for (int i = 0; i < 300; i++) {
        arena_reset(arena);
        CHECK(prompts_read(prompts, 0, 3, arena, rows) == ST_OK);
        CHECK(rows[2].n_image_refs == 2 && strcmp(rows[2].prompt, "text") == 0);
    }
    pthread_join(thread, &n_bad);
    CHECK(n_bad == NULL);
    arena_destroy(arena);
    prompts_close(prompts);
}

/* ---- import ---------------------------------------------------------------------------------- */

static void copy_golden(const char *name, const char *to)
{
    char from_path[128], to_path[192];
    struct buf bytes = {0};

    snprintf(from_path, sizeof from_path, "tests/golden/images/%s", name);
    snprintf(to_path, sizeof to_path, "%s/%s", dir, to);
    CHECK(file_read(from_path, 1 << 20, &bytes) == ST_OK);
    CHECK(file_write_atomic(to_path, bytes.data, bytes.n_bytes) == ST_OK);
    buf_free(&bytes);
}

static enum status import_text(const char *text)
{
    const struct import_args args = {.in_path = in_path, .out_path = path};

    CHECK(file_write_atomic(in_path, text, strlen(text)) == ST_OK);
    return data_import(&args);
}

static void import_takes_files_that_lines_name(void)
{
    struct prompts *prompts = NULL;
    struct arena *arena = NULL;
    struct prompt_row rows[5];
    struct picture picture;
    struct row_error err;
    char line[256];

    unlink(path);
    copy_golden("jpeg_420.jpg", "a.jpg");
    copy_golden("jpeg_420.jpg", "same.jpg");
    copy_golden("png_rgb8.png", "b.png");
    copy_golden("make_images.py", "no.png");
    snprintf(line, sizeof line,
             "{\"prompt\": \"0\"}\n"
             "{\"prompt\": \"1\", \"images\": [\"b.png\", \"a.jpg\"]}\n"
             "{\"prompt\": \"2\", \"images\": []}\n"
             "{\"prompt\": \"3\", \"images\": [\"%s/same.jpg\", \"no.png\", \"./b.png\"]}\n"
             "{\"prompt\": \"4\", \"images\": null}\n",
             dir);
    CHECK(import_text(line) == ST_OK);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    CHECK_INT(prompts_info(prompts)->n_images, 3); /* equal bytes once */
    CHECK_INT(prompts_info(prompts)->n_image_refs, 5);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(prompts_read(prompts, 0, 5, arena, rows) == ST_OK);
    static const uint64_t want[5][3] = {{0}, {0, 1}, {0}, {1, 2, 0}, {0}};
    static const int n_want[5] = {0, 2, 0, 3, 0};
    for (int i = 0; i < 5; i++) {
        CHECK_INT(rows[i].n_image_refs, n_want[i]);
        for (int k = 0; k < n_want[i]; k++)
            CHECK_INT(rows[i].image_refs[k], want[i][k]);
    }
    CHECK(prompts_read_image(prompts, 1, &picture, &err) == ST_OK);
    CHECK(picture.width == 29 && picture.height == 19);
    host_free(picture.rgb);
    CHECK(prompts_read_image(prompts, 2, &picture, &err) == ST_ROW);
    arena_destroy(arena);
    prompts_close(prompts);

    CHECK(import_text("{\"prompt\": \"0\"}\n{\"prompt\": \"1\", \"images\": [\"c.png\"]}\n") ==
          ST_FORMAT);
    CHECK_HAS(log_last_error(), "in.jsonl:2: image ");
    CHECK_HAS(log_last_error(), "/c.png: cannot open: No such file");
    CHECK(import_text("{\"prompt\": \"0\", \"images\": [\".\"]}\n") == ST_FORMAT);
    CHECK_HAS(log_last_error(), "is no regular file");
    CHECK(import_text("{\"prompt\": \"0\", \"images\": \"a.jpg\"}\n") == ST_FORMAT);
    CHECK_HAS(log_last_error(), "field images is a string; it has to be a list of paths");
    CHECK(import_text("{\"prompt\": \"0\", \"images\": [1]}\n") == ST_FORMAT);
    CHECK_HAS(log_last_error(), "field images is an integer; it has to be a list of paths only");
}

/* More than the table of hashes begins with. */
static void import_knows_many_files(void)
{
    enum { N = 200 };
    struct prompts *prompts = NULL;
    struct buf text = {0};
    char name[192];

    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%s/many%d", dir, i);
        CHECK(file_write_atomic(name, name, strlen(name) - (size_t)(i % 2)) == ST_OK);
        CHECK(buf_printf(&text, "{\"prompt\": \"p\", \"images\": [\"many%d\", \"many%d\"]}\n", i,
                         i / 2) == ST_OK);
    }
    CHECK(buf_put(&text, "", 1) == ST_OK);
    log_set_level(LOG_ERROR);
    CHECK(import_text((const char *)text.data) == ST_OK);
    log_set_level(LOG_INFO);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    /* Of an odd number the last digit is missing: 100 even ones; "many" for 1 .. 9; "many1",
     * "many3" .. for 11 .. 19 and so on, while "many2" is even. */
    CHECK_INT(prompts_info(prompts)->n_images, 111);
    CHECK_INT(prompts_info(prompts)->n_image_refs, 2 * N);
    prompts_close(prompts);
    buf_free(&text);
}

static void clean_up(void)
{
    char command[160];

    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK(system(command) == 0);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/p.h5", dir);
    snprintf(in_path, sizeof in_path, "%s/in.jsonl", dir);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    pixels_and_files_are_read();
    numbers_out_of_range_are_bad_rows();
    bad_files_are_refused();
    empty_and_huge_pixels_are_bad_images();
    rows_and_images_are_read_at_the_same_time();
    import_takes_files_that_lines_name();
    import_knows_many_files();
    clean_up();
    TEST_END();
}
