/* TEST */
/*
 * unit_base.c - what every room stands on.
 */
#include <stdatomic.h>

#include "base/base.h"
#include "test.h"

/* Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10). */
static void philox_known_answers(void)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } kats[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    for (size_t i = 0; i < sizeof kats / sizeof kats[0]; i++) {
        uint32_t got[4];

        philox4x32(kats[i].key, kats[i].counter, got);
        for (int w = 0; w < 4; w++)
            CHECK_INT(got[w], kats[i].want[w]);
    }
}

static void hashes(void)
{
    struct hash_state state;
    uint8_t data[1000];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    CHECK(hash_bytes("", 0, 0) ==
          0xef46db3751d8e999u); /* XXH64 of nothing, from its specification */
    hash_begin(&state, 5);
    hash_add(&state, data, 1);
    hash_add(&state, data + 1, 0);
    hash_add(&state, data + 1, 700);
    hash_add(&state, data + 701, 299);
    CHECK(hash_end(&state) == hash_bytes(data, sizeof data, 5));
    CHECK(hash_end(&state) != hash_bytes(data, sizeof data, 6));
}

static void halves(void)
{
    CHECK(f32_from_f16(0x3c00) == 1.0f);
    CHECK(f32_from_f16(0xc000) == -2.0f);
    CHECK(f32_from_f16(0x7bff) == 65504.0f);
    CHECK(bits_from_f32(f32_from_f16(0x0001)) == bits_from_f32(0x1p-24f));
    CHECK(bits_from_f32(f32_from_f16(0x03ff)) == bits_from_f32(1023 * 0x1p-24f));
    CHECK(bits_from_f32(f32_from_f16(0x8000)) == 0x80000000u);
    CHECK(f32_from_f16(0x7e00) != f32_from_f16(0x7e00));
    CHECK_INT(bf16_from_f32(1.0f), 0x3f80);
    CHECK_INT(bf16_from_f32(f32_from_bits(0x3f808000u)), 0x3f80); /* a tie goes to even */
    CHECK_INT(bf16_from_f32(f32_from_bits(0x3f818000u)), 0x3f82);
    CHECK_INT(bf16_from_f32(f32_from_bits(0x3f808001u)), 0x3f81);
    CHECK_INT(bf16_from_f32(f32_from_bits(0x7f800001u)) & 0x7fff, 0x7fc0); /* NaN stays one */
}

static void utf8(void)
{
    static const struct {
        const char *text;
        int bad; /* -1 = valid */
    } cases[] = {
        {"", -1},
        {"a\xc3\xa9z", -1},
        {"\xf0\x9f\x98\x80", -1},
        {"\xed\x9f\xbf", -1},
        {"\xed\xa0\x80", 0},
        {"x\xc0\x80", 1},
        {"\xe0\x9f\xbf", 0},
        {"\xf4\x90\x80\x80", 0},
        {"ab\xff", 2},
        {"a\xe2\x82", 1},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\x80", 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bad = 999;
        const bool ok = utf8_valid(cases[i].text, strlen(cases[i].text), &bad);

        CHECK_INT(ok, cases[i].bad < 0);
        if (!ok)
            CHECK_INT(bad, cases[i].bad);
    }
}

static void arenas(void)
{
    struct arena *arena = NULL;

    CHECK(arena_create(1000, &arena) == ST_OK);
    for (int round = 0; round < 3; round++) {
        uint8_t *parts[50];

        for (int i = 0; i < 50; i++) {
            parts[i] = arena_alloc(arena, (size_t)i * 60 + 1);
            CHECK((uintptr_t)parts[i] % 64 == 0);
            memset(parts[i], i, (size_t)i * 60 + 1);
        }
        int wrong = 0;
        for (int i = 0; i < 50; i++)
            for (int k = 0; k < i * 60 + 1; k++)
                wrong += parts[i][k] != i;
        CHECK_INT(wrong, 0);
        arena_reset(arena);
    }
    CHECK_STR(arena_copy(arena, "abc", 2), "ab");
    /* Sizes that would wrap around when rounded up, or with what a chunk needs besides. */
    for (size_t less = 0; less < 1000; less += 37) {
        const size_t absurd = SIZE_MAX - less;

        CHECK(arena_alloc(arena, absurd) == NULL);
    }
    CHECK_HAS(log_last_error(), "no memory for");
    arena_destroy(arena);
}

static void bufs(void)
{
    struct buf buf = {0};

    CHECK(buf_puts(&buf, "row ") == ST_OK);
    for (int i = 0; i < 1000; i++)
        CHECK(buf_printf(&buf, "%d,", i) == ST_OK);
    CHECK_INT(buf.n_bytes, 4 + 10 * 2 + 90 * 3 + 900 * 4);
    CHECK(memcmp(buf.data, "row 0,1,2,", 10) == 0);
    buf_free(&buf);
}

struct sums {
    atomic_int times[997];
};

static void count_task(void *arg, int task, int thread)
{
    struct sums *sums = arg;

    (void)thread;
    atomic_fetch_add(&sums->times[task], 1);
}

/* Every task of every batch runs exactly once, with more threads than cores too. */
static void thread_pools(void)
{
    for (int n = 1; n <= 5; n++) {
        struct threads *threads = NULL;
        struct sums sums = {0};
        int wrong = 0;

        CHECK(threads_create(n, &threads) == ST_OK);
        CHECK_INT(threads_count(threads), n);
        for (int batch = 0; batch < 300; batch++)
            threads_run(threads, batch % 7 == 0 ? 997 : batch % 13, count_task, &sums);
        for (int i = 0; i < 997; i++) {
            int want = 0;

            for (int batch = 0; batch < 300; batch++)
                want += i < (batch % 7 == 0 ? 997 : batch % 13);
            wrong += sums.times[i] != want;
        }
        CHECK_INT(wrong, 0);
        threads_destroy(threads);
    }
}

static void denormal_task(void *arg, int task, int thread)
{
    volatile float tiny = 1e-30f;

    (void)thread;
    ((float *)arg)[task] = tiny * 1e-10f; /* 1e-40 is denormal */
}

static void denormals_are_flushed_in_all_threads(void)
{
    struct threads *threads = NULL;
    float got[64];

    CHECK(threads_create(3, &threads) == ST_OK);
    threads_run(threads, 64, denormal_task, got);
    for (int i = 0; i < 64; i++)
        CHECK(got[i] == 0.0f);
    threads_destroy(threads);
}

static void files(void)
{
    char dir[] = "/tmp/epidote-base-XXXXXX", path[64];
    struct file_map map;
    struct buf buf = {0};

    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/a", dir);
    CHECK(file_map_open(path, &map) == ST_IO);
    CHECK_HAS(log_last_error(), path);
    CHECK(file_map_open(dir, &map) == ST_IO);
    CHECK(file_write_atomic(path, "hello", 5) == ST_OK);
    CHECK(file_map_open(path, &map) == ST_OK);
    CHECK_INT(map.n_bytes, 5);
    CHECK(memcmp(map.data, "hello", 5) == 0);
    file_map_close(&map);
    CHECK(file_read(path, 5, &buf) == ST_OK);
    CHECK_INT(buf.n_bytes, 5);
    CHECK(file_read(path, 4, &buf) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "4 bytes");
    buf_free(&buf);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    philox_known_answers();
    hashes();
    halves();
    utf8();
    arenas();
    bufs();
    thread_pools();
    denormals_are_flushed_in_all_threads();
    files();
    TEST_END();
}
