/* TEST */
/*
 * unit_picture.c - JPEG and PNG files as pixels.
 *
 * tests/golden/images holds awkward files and what Pillow sees in them (make_images.py).
 */
#include <dirent.h>
#include <unistd.h>

#include "data/data.h"
#include "test.h"

static char path[64];

/* ---- the files ------------------------------------------------------------------------------- */

struct golden {
    char name[33];
    uint32_t width, height;
    const uint8_t *rgb; /* view into expected */
    struct buf file;    /* owned */
};

enum { MAX_GOLDEN = 128 };
static struct golden golden[MAX_GOLDEN];
static int n_golden;
static struct buf expected;

static bool load_file(const char *name, struct buf *out)
{
    char file[128];

    snprintf(file, sizeof file, "tests/golden/images/%s", name);
    const bool ok = file_read(file, 1 << 20, out) == ST_OK;
    CHECK(ok);
    return ok;
}

static void load_goldens(void)
{
    if (!load_file("expected.bin", &expected))
        return;
    for (size_t at = 0; at + 40 <= expected.n_bytes && n_golden < MAX_GOLDEN;) {
        struct golden *g = &golden[n_golden++];

        memcpy(g->name, expected.data + at, 32);
        memcpy(&g->width, expected.data + at + 32, 4);
        memcpy(&g->height, expected.data + at + 36, 4);
        g->rgb = expected.data + at + 40;
        at += 40 + (size_t)g->width * g->height * 3;
        load_file(g->name, &g->file);
    }
    CHECK(n_golden >= 60 && n_golden < MAX_GOLDEN);
}

static const struct golden *find(const char *name)
{
    for (int i = 0; i < n_golden; i++)
        if (strcmp(golden[i].name, name) == 0)
            return &golden[i];
    fprintf(stderr, "no golden file %s\n", name);
    CHECK(false);
    return &golden[0];
}

static int largest_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
    int most = 0;

    for (size_t i = 0; i < n; i++)
        most = abs(a[i] - b[i]) > most ? abs(a[i] - b[i]) : most;
    return most;
}

static size_t rgb_bytes(const struct golden *g)
{
    return (size_t)g->width * g->height * 3;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void every_kind_of_file_has_the_pixels_that_pillow_sees(void)
{
    for (int i = 0; i < n_golden; i++) {
        const struct golden *g = &golden[i];
        struct picture got = {.rgb = NULL};
        struct row_error err = {.text = ""};
        int width = 0, height = 0;

        CHECK(picture_peek(g->file.data, g->file.n_bytes, &width, &height, &err) == ST_OK);
        const enum status st = picture_decode(g->file.data, g->file.n_bytes, &got, &err);
        if (st != ST_OK)
            fprintf(stderr, "%s: %s\n", g->name, err.text);
        CHECK(st == ST_OK);
        if (st != ST_OK)
            continue;
        CHECK_INT(width, g->width);
        CHECK_INT(height, g->height);
        CHECK_INT(got.width, g->width);
        CHECK_INT(got.height, g->height);
        if (got.width == (int)g->width && got.height == (int)g->height) {
            const int most = largest_difference(got.rgb, g->rgb, rgb_bytes(g));

            if (most > 0)
                fprintf(stderr, "%s: pixels differ by up to %d\n", g->name, most);
            CHECK_INT(most, 0);
        }
        host_free(got.rgb);
    }
}

/* However much is missing: an error, or all of the picture. */
static void half_a_picture_is_none(void)
{
    for (int i = 0; i < n_golden; i++) {
        const struct golden *g = &golden[i];
        size_t n_bad = 0;

        for (size_t n = 0; n < g->file.n_bytes; n++) {
            struct picture got = {.rgb = NULL};
            struct row_error err = {.text = ""};
            uint8_t *copy = malloc(n + (n == 0)); /* so that a reader of more is seen */
            memcpy(copy, g->file.data, n);
            const enum status st = picture_decode(copy, n, &got, &err);

            /* Without an eXIf chunk the picture is another one; only such as is behind the pixels
             * can be missing. */
            if (st == ST_OK)
                n_bad += strcmp(g->name, "png_exif6.png") != 0 &&
                         (got.width != (int)g->width || got.height != (int)g->height ||
                          memcmp(got.rgb, g->rgb, rgb_bytes(g)) != 0);
            else
                n_bad += st != ST_ROW || err.text[0] == '\0';
            host_free(got.rgb);
            free(copy);
        }
        if (n_bad > 0)
            fprintf(stderr, "%s: %zu cuts give something else\n", g->name, n_bad);
        CHECK_INT(n_bad, 0);
    }
}

static void expect_error(const void *data, size_t n_bytes, const char *part)
{
    struct picture got = {.rgb = NULL};
    struct row_error err = {.text = ""};

    CHECK_INT(picture_decode(data, n_bytes, &got, &err), ST_ROW);
    CHECK_HAS(err.text, part);
    CHECK(got.rgb == NULL);
}

/* A golden file with some bytes of it changed. */
static void expect_error_at(const char *name, size_t at, const void *bytes, size_t n,
                            const char *part)
{
    const struct golden *g = find(name);
    uint8_t *copy = malloc(g->file.n_bytes);

    memcpy(copy, g->file.data, g->file.n_bytes);
    memcpy(copy + at, bytes, n);
    expect_error(copy, g->file.n_bytes, part);
    free(copy);
}

static size_t place_of(const char *name, const char *bytes, size_t n)
{
    const struct golden *g = find(name);
    const uint8_t *at = memmem(g->file.data, g->file.n_bytes, bytes, n);

    CHECK(at != NULL);
    return at == NULL ? 0 : (size_t)(at - g->file.data);
}

static void what_is_no_picture_says_why(void)
{
    const struct golden *jpeg = find("jpeg_420.jpg"), *png = find("png_rgb8.png");

    expect_error("", 0, "no bytes");
    expect_error("GIF89a", 6, "neither a JPEG nor a PNG file");
    expect_error("\xff\xd8\xff", 3, "the JPEG file");
    expect_error("\x89PNG\r\n\x1a\n", 8, "the PNG file is cut off");
    expect_error(jpeg->file.data, jpeg->file.n_bytes / 2, "cut off");
    expect_error(png->file.data, png->file.n_bytes / 2, "cut off");
    expect_error_at("png_rgb8.png", 60, "\x55\xaa\x55\xaa", 4, "damaged");
    /* the very last byte of the pixels' checksum */
    expect_error_at("png_rgb8.png", png->file.n_bytes - 13, "\0", 1, "damaged");
}

/* Sizes that no memory is set aside for. */
static void bombs_and_nothing(void)
{
    const size_t sof = place_of("jpeg_420.jpg", "\xff\xc0", 2);
    static const struct {
        const char *jpeg, *png; /* height, width; width, height */
        const char *part;
    } cases[] = {
        {"\x80\0\x80\0", "\0\0\x80\0\0\0\x80\0", "32768 x 32768 pixels; the most are"},
        {NULL, "\x7f\xff\xff\xff\x7f\xff\xff\xff", "2147483647 x 2147483647 pixels"},
        {NULL, "\0\1\0\0\0\0\0\1", "65536 x 1 pixels"},
        {"\0\0\0\x10", "\0\0\0\x10\0\0\0\0", "damaged"},
        {"\0\x10\0\0", "\0\0\0\0\0\0\0\x10", "damaged"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct golden *png = (struct golden *)(uintptr_t)find("png_rgb8.png");
        uint8_t head[33];

        if (cases[i].jpeg != NULL)
            expect_error_at("jpeg_420.jpg", sof + 5, cases[i].jpeg, 4,
                            i == 0 ? cases[i].part : "damaged");
        /* IHDR with a checksum that is right, so that the size is what is wrong */
        memcpy(head, png->file.data, sizeof head);
        memcpy(head + 16, cases[i].png, 8);
        uint32_t crc = 0xffffffffu;
        for (int b = 12; b < 29; b++) {
            crc ^= head[b];
            for (int k = 0; k < 8; k++)
                crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
        }
        crc = ~crc;
        for (int b = 0; b < 4; b++)
            head[29 + b] = (uint8_t)(crc >> (24 - 8 * b));
        expect_error_at("png_rgb8.png", 0, head, sizeof head, cases[i].part);
    }
    /* large, but allowed: given up where the data end */
    expect_error_at("jpeg_420.jpg", sof + 5, "\x20\0\x20\0", 4, "premature end");
}

/* Orientation is the header's: an EXIF block between scans must not turn a picture whose size has
 * been told. */
static void exif_behind_the_header_is_not_heeded(void)
{
    const struct golden *g = find("jpeg_progressive.jpg"), *exif = find("jpeg_exif6.jpg");
    const size_t app1 = place_of("jpeg_exif6.jpg", "\xff\xe1", 2);
    const size_t n_app1 = 2 + (size_t)exif->file.data[app1 + 2] * 256 + exif->file.data[app1 + 3];
    const size_t first = place_of("jpeg_progressive.jpg", "\xff\xda", 2);
    const uint8_t *second =
        memmem(g->file.data + first + 2, g->file.n_bytes - first - 2, "\xff\xda", 2);
    struct buf file = {0};
    struct picture got = {.rgb = NULL};
    struct row_error err;

    CHECK(second != NULL);
    if (second == NULL)
        return;
    const size_t at = (size_t)(second - g->file.data);
    CHECK(buf_put(&file, g->file.data, at) == ST_OK);
    CHECK(buf_put(&file, exif->file.data + app1, n_app1) == ST_OK);
    CHECK(buf_put(&file, second, g->file.n_bytes - at) == ST_OK);
    CHECK(picture_decode(file.data, file.n_bytes, &got, &err) == ST_OK);
    CHECK(got.width == (int)g->width && got.height == (int)g->height);
    CHECK(got.rgb != NULL && memcmp(got.rgb, g->rgb, rgb_bytes(g)) == 0);
    host_free(got.rgb);
    buf_free(&file);
}

static void what_is_written_is_read_back(void)
{
    uint8_t rgb[7 * 5 * 3];
    const struct picture picture = {.width = 7, .height = 5, .rgb = rgb};
    struct picture got = {.rgb = NULL};
    struct buf file = {0};
    struct row_error err;

    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 37);
    CHECK(picture_write_png(path, &picture) == ST_OK);
    CHECK(file_read(path, 1 << 20, &file) == ST_OK);
    CHECK(picture_decode(file.data, file.n_bytes, &got, &err) == ST_OK);
    CHECK(got.width == 7 && got.height == 5 && memcmp(got.rgb, rgb, sizeof rgb) == 0);
    CHECK(picture_write_png("/nonexistent/picture.png", &picture) == ST_IO);
    host_free(got.rgb);
    buf_free(&file);
    unlink(path);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/epidote-picture-%d.png", (int)getpid());
    load_goldens();
    if (n_golden == 0)
        TEST_END();
    every_kind_of_file_has_the_pixels_that_pillow_sees();
    half_a_picture_is_none();
    what_is_no_picture_says_why();
    bombs_and_nothing();
    exif_behind_the_header_is_not_heeded();
    what_is_written_is_read_back();
    for (int i = 0; i < n_golden; i++)
        buf_free(&golden[i].file);
    buf_free(&expected);
    TEST_END();
}
