/* TEST */
/*
 * unit_results.c - finished rows packed and unpacked; result files written, verified, read, hashed.
 */
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "data/data.h"
#include "data/result_file.h"
#include "test.h"

enum { MAX_TOKENS = 40, MAX_TOP = 3, MAX_ROWS = 9000 };

static char dir[] = "/tmp/epidote-results-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* A row and the memory it points to: all of it follows from (seed, row). */
struct made_row {
    struct result_row row;
    int32_t tokens[MAX_TOKENS], top_ids[MAX_TOKENS * MAX_TOP];
    float logprobs[MAX_TOKENS], top_logprobs[MAX_TOKENS * MAX_TOP];
    char text[64], error[64];
};

static void make_row(struct made_row *made, uint32_t seed, uint64_t row, bool has_logprobs,
                     int n_top)
{
    const uint32_t key[2] = {seed, 1};
    uint32_t counter[4] = {(uint32_t)row, 0, 0, 0}, draw[4];

    memset(made, 0, sizeof *made);
    philox4x32(key, counter, draw);
    const bool failed = draw[0] % 7 == 0;
    made->row = (struct result_row){
        .row = row,
        .reason = failed        ? FINISH_ERROR
                  : draw[0] % 2 ? FINISH_STOP
                                : FINISH_LENGTH,
        .text = made->text,
        .error = made->error,
        .tokens = made->tokens,
        .n_tokens = failed ? 0 : (int)(draw[1] % (MAX_TOKENS + 1)),
        .prompt_len = (int)(draw[2] % 1000),
        .has_logprobs = has_logprobs && !failed,
        .n_top = failed ? 0 : n_top,
        .logprobs = made->logprobs,
        .top_ids = made->top_ids,
        .top_logprobs = made->top_logprobs,
        .timing = {.queue_s = (float)row, .decode_s = 0.5f},
    };
    if (failed)
        made->row.error_bytes = (size_t)sprintf(made->error, "row %u is bad", (unsigned)row);
    else
        made->row.text_bytes = (size_t)sprintf(made->text, "%.*s\xc3\xa9 %u", (int)(draw[3] % 20),
                                               "the quick brown fox jumps", (unsigned)draw[2]);
    for (int i = 0; i < made->row.n_tokens; i++) {
        counter[1] = (uint32_t)i + 1;
        philox4x32(key, counter, draw);
        made->tokens[i] = (int32_t)(draw[0] % 49152);
        made->logprobs[i] = -(float)(draw[1] % 10000) / 1000.0f;
        for (int t = 0; t < n_top; t++) {
            made->top_ids[i * n_top + t] = (int32_t)(draw[2] % 49152) + t;
            made->top_logprobs[i * n_top + t] = -(float)(draw[3] % 10000) / 1000.0f - (float)t;
        }
    }
}

static void packing_gives_back_the_row(uint32_t seed)
{
    struct buf packed = {0};
    struct made_row made;

    for (uint64_t row = 0; row < 2000; row++) {
        struct result_row got;

        buf_reset(&packed);
        make_row(&made, seed, row, row % 2 == 0, row % 2 == 0 ? (int)(row % (MAX_TOP + 1)) : 0);
        CHECK(result_pack(&made.row, &packed) == ST_OK);
        CHECK_INT(packed.n_bytes % 8, 0);
        CHECK(result_unpack(packed.data, packed.n_bytes, &got) == ST_OK);
        CHECK(result_same_answer(&made.row, &got));
        CHECK(memcmp(&made.row.timing, &got.timing, sizeof got.timing) == 0);
        CHECK_INT(strlen(got.text), got.text_bytes);
        CHECK_INT(strlen(got.error), got.error_bytes);
    }
    buf_free(&packed);
}

/* No cut and no changed byte may be read beyond the end; run under the sanitizers. */
static void unpacking_trusts_nothing(uint32_t seed)
{
    struct buf packed = {0};
    struct made_row made;
    struct result_row got;

    make_row(&made, seed, 2, true, 2);
    CHECK(result_pack(&made.row, &packed) == ST_OK);
    for (size_t n = 0; n < packed.n_bytes; n++) {
        uint64_t *copy = malloc(n > 0 ? n : 1); /* exact size, so that a sanitizer sees the end */

        memcpy(copy, packed.data, n);
        CHECK(result_unpack(copy, n, &got) == ST_FORMAT);
        free(copy);
    }
    for (size_t at = 0; at < 72; at++) {
        uint64_t *copy = malloc(packed.n_bytes);

        for (int value = 0; value < 256; value += 5) {
            memcpy(copy, packed.data, packed.n_bytes);
            ((uint8_t *)copy)[at] = (uint8_t)value;
            if (result_unpack(copy, packed.n_bytes, &got) == ST_OK)
                CHECK(got.n_tokens <= MAX_TOKENS && got.text_bytes <= packed.n_bytes);
        }
        free(copy);
    }
    /* Text that is not UTF-8, and text with a NUL inside. */
    char *text = memchr(packed.data + 72, '\xc3', packed.n_bytes - 72) ? made.text : NULL;
    CHECK(text != NULL);
    made.text[0] = '\xff';
    buf_reset(&packed);
    CHECK(result_pack(&made.row, &packed) == ST_OK);
    CHECK(result_unpack(packed.data, packed.n_bytes, &got) == ST_FORMAT);
    made.text[0] = '\0';
    buf_reset(&packed);
    CHECK(result_pack(&made.row, &packed) == ST_OK);
    CHECK(result_unpack(packed.data, packed.n_bytes, &got) == ST_FORMAT);
    buf_free(&packed);
}

static void names_of_reasons(void)
{
    CHECK_STR(finish_reason_name(FINISH_STOP), "stop");
    CHECK_STR(finish_reason_name(FINISH_ERROR), "error");
    CHECK_STR(finish_reason_name(FINISH_COUNT), "unknown");
}

/* ---- files ---------------------------------------------------------------------------------- */

static const struct result_meta meta = {
    .program = "epidote 0.1",
    .job = "max_tokens = 16;\n",
    .identity = "max_tokens = 16\n",
    .numerics = "bf16chain/1",
    .model_fingerprint = 0x0123456789abcdef,
    .prompts_fingerprint = 5,
    .seed = 0xffffffffffffffff,
};

struct shape {
    uint64_t begin, end;
    bool has_logprobs;
    int n_top;
    uint64_t window;     /* rows an append */
    uint64_t changed;    /* row of another prompt length; UINT64_MAX = none */
    struct prompts *ids; /* or NULL */
};

/* Returns the first status that is not ST_OK. */
static enum status write_file(const char *path, uint32_t seed, const struct shape *shape,
                              uint64_t *out_digest)
{
    const struct result_writer_args args = {.path = path,
                                            .meta = &meta,
                                            .prompts = shape->ids,
                                            .rows_begin = shape->begin,
                                            .rows_end = shape->end,
                                            .has_logprobs = shape->has_logprobs,
                                            .n_top = shape->n_top};
    struct made_row *made = calloc(shape->window, sizeof *made);
    struct result_row *rows = calloc(shape->window, sizeof *rows);
    struct result_writer *writer = NULL;
    enum status st = result_writer_create(&args, &writer);

    for (uint64_t first = shape->begin; first < shape->end && st == ST_OK; first += shape->window) {
        uint64_t n = shape->end - first < shape->window ? shape->end - first : shape->window;

        for (uint64_t i = 0; i < n; i++) {
            make_row(&made[i], seed, first + i, shape->has_logprobs, shape->n_top);
            if (first + i == shape->changed)
                made[i].row.prompt_len ^= 1;
            rows[i] = made[i].row;
        }
        st = result_writer_append(writer, rows, NULL, n);
    }
    if (st == ST_OK)
        st = result_writer_finish(writer, out_digest);
    result_writer_close(writer);
    free(made);
    free(rows);
    return st;
}

static void check_rows(const char *path, uint32_t seed, const struct shape *shape)
{
    const uint64_t n_rows = shape->end - shape->begin;
    struct result_file *file = NULL;
    struct arena *arena = NULL;
    struct result_row *rows = calloc(n_rows, sizeof *rows);
    struct made_row made;
    int wrong = 0;

    CHECK(arena_create(1 << 16, &arena) == ST_OK);
    CHECK(result_file_open(path, &file) == ST_OK);
    const struct result_file_info *info = result_file_info(file);
    CHECK_INT(info->rows_begin, shape->begin);
    CHECK_INT(info->rows_end, shape->end);
    CHECK_INT(info->has_logprobs, shape->has_logprobs);
    CHECK_INT(info->n_top, shape->n_top);
    CHECK_STR(info->identity, meta.identity);
    CHECK_STR(info->job, meta.job);
    CHECK_STR(info->program, meta.program);
    CHECK_STR(info->numerics, meta.numerics);
    CHECK(info->model_fingerprint == meta.model_fingerprint);
    CHECK(info->prompts_fingerprint == meta.prompts_fingerprint);
    CHECK(info->seed == meta.seed);
    for (uint64_t first = 0; first < n_rows; first += 333) {
        const uint64_t n = n_rows - first < 333 ? n_rows - first : 333;

        CHECK(result_file_read(file, first, n, arena, rows + first, NULL) == ST_OK);
    }
    for (uint64_t i = 0; i < n_rows; i++) {
        make_row(&made, seed, shape->begin + i, shape->has_logprobs, shape->n_top);
        wrong += !result_same_answer(&made.row, &rows[i]);
        wrong += memcmp(&made.row.timing, &rows[i].timing, sizeof made.row.timing) != 0;
    }
    CHECK_INT(wrong, 0);
    result_file_close(file);
    arena_destroy(arena);
    free(rows);
}

static void files_give_back_the_rows(uint32_t seed)
{
    static const struct shape shapes[] = {
        {0, 0, false, 0, 1, UINT64_MAX, NULL},      {0, 0, true, 2, 1, UINT64_MAX, NULL},
        {0, 1, false, 0, 1, UINT64_MAX, NULL},      {1000, 1100, true, 0, 7, UINT64_MAX, NULL},
        {0, 5000, true, 3, 5000, UINT64_MAX, NULL}, {5, 9000, false, 0, 6000, UINT64_MAX, NULL},
    };

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        uint64_t digest = 0, read_digest = 1;

        CHECK(write_file(in_dir("r.h5"), seed, &shapes[i], &digest) == ST_OK);
        CHECK(result_file_verify(in_dir("r.h5"), shapes[i].begin, shapes[i].end, digest) == ST_OK);
        CHECK(data_digest(in_dir("r.h5"), &read_digest) == ST_OK);
        CHECK(read_digest == digest);
        check_rows(in_dir("r.h5"), seed, &shapes[i]);
        unlink(in_dir("r.h5"));
    }
}

static void digests_follow_content_only(uint32_t seed)
{
    const struct shape shape = {10, 3010, true, 2, 3000, UINT64_MAX, NULL};
    struct shape other = shape;
    uint64_t digest = 0, again = 0;

    CHECK(write_file(in_dir("a.h5"), seed, &shape, &digest) == ST_OK);
    other.window = 17;
    CHECK(write_file(in_dir("b.h5"), seed, &other, &again) == ST_OK);
    CHECK(again == digest);
    for (uint64_t row = 10; row < 3010; row += 1499) {
        other.changed = row;
        CHECK(write_file(in_dir("b.h5"), seed, &other, &again) == ST_OK);
        CHECK(again != digest);
    }
    /* The same answers for other rows are other answers. */
    const struct shape none_a = {0, 0, false, 0, 1, UINT64_MAX, NULL};
    const struct shape none_b = {9, 9, false, 0, 1, UINT64_MAX, NULL};
    CHECK(write_file(in_dir("a.h5"), seed, &none_a, &digest) == ST_OK);
    CHECK(write_file(in_dir("b.h5"), seed, &none_b, &again) == ST_OK);
    CHECK(again != digest);
    unlink(in_dir("a.h5"));
    unlink(in_dir("b.h5"));
}

/* One float of /timing and one byte of tokens, changed in the finished file. */
static void verify_sees_damage(uint32_t seed)
{
    const struct shape shape = {0, 50, true, 1, 50, UINT64_MAX, NULL};
    const char *path = in_dir("d.h5");
    const hsize_t start = 3, count = 1;
    uint64_t digest = 0;

    CHECK(write_file(path, seed, &shape, &digest) == ST_OK);
    CHECK(result_file_verify(path, 0, 51, digest) == ST_FORMAT);
    CHECK_HAS(log_last_error(), path);
    static const char *const columns[] = {"timing/queue_s", "tokens/values", "top_logprobs/values"};
    for (int c = 0; c < 3; c++) {
        const float value = 77.5f;
        const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        const hid_t dataset = H5Dopen2(file, columns[c], H5P_DEFAULT);
        const hid_t space = H5Dget_space(dataset);
        const int n_dims = H5Sget_simple_extent_ndims(space);
        const hsize_t start2[2] = {start, 0}, count2[2] = {count, 1};
        const hid_t mem = H5Screate_simple(n_dims, count2, NULL);

        H5Sselect_hyperslab(space, H5S_SELECT_SET, start2, NULL, count2, NULL);
        CHECK(H5Dwrite(dataset, H5T_NATIVE_FLOAT, mem, space, H5P_DEFAULT, &value) >= 0);
        H5Sclose(mem);
        H5Sclose(space);
        H5Dclose(dataset);
        H5Fclose(file);
        CHECK_INT(result_file_verify(path, 0, 50, digest), c == 0 ? ST_OK : ST_FORMAT);
    }
    CHECK_HAS(log_last_error(), "digest");
    CHECK(truncate(path, 3000) == 0);
    CHECK(result_file_verify(path, 0, 50, digest) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "truncated");
    unlink(path);
    CHECK(result_file_verify(path, 0, 50, digest) == ST_IO);
}

/* Puts a dataset of n elements that takes no space in the place of another. */
static void put_sparse(hid_t file, const char *name, hid_t type, hsize_t n)
{
    const hsize_t chunk = 1024;
    const hid_t space = H5Screate_simple(1, &n, NULL), dcpl = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_chunk(dcpl, 1, &chunk);
    CHECK(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    CHECK(dataset >= 0);
    H5Dclose(dataset);
    H5Pclose(dcpl);
    H5Sclose(space);
}

/* A dataset may say that it holds more than any memory: its bytes must not wrap around to few. */
static void absurd_numbers_of_values(void)
{
    const struct shape shape = {0, 1, false, 0, 1, UINT64_MAX, NULL};
    const uint64_t n = UINT64_C(1) << 62, offsets[2] = {0, n};
    const char *path = in_dir("w.h5");
    struct result_file *file = NULL;
    struct arena *arena = NULL;
    struct result_row row;
    uint64_t digest = 0;

    CHECK(write_file(path, 1, &shape, &digest) == ST_OK);
    const hid_t h5 = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    put_sparse(h5, "tokens/values", H5T_STD_I32LE, n);
    const hid_t dataset = H5Dopen2(h5, "tokens/offsets", H5P_DEFAULT);
    CHECK(H5Dwrite(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, offsets) >= 0);
    H5Dclose(dataset);
    H5Fclose(h5);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(result_file_open(path, &file) == ST_OK);
    CHECK_INT(result_file_read(file, 0, 1, arena, &row, NULL), ST_FORMAT);
    CHECK_HAS(log_last_error(), "w.h5: row 0: more than 2^31 tokens");
    result_file_close(file);
    arena_destroy(arena);
    unlink(path);
}

static void gaps_and_short_files_are_refused(uint32_t seed)
{
    const struct result_writer_args args = {
        .path = in_dir("g.h5"), .meta = &meta, .rows_begin = 5, .rows_end = 8};
    struct result_writer *writer = NULL;
    struct made_row made;
    uint64_t digest;

    CHECK(result_writer_create(&args, &writer) == ST_OK);
    make_row(&made, seed, 6, false, 0);
    CHECK(result_writer_append(writer, &made.row, NULL, 1) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 6 came where row 5 was due");
    make_row(&made, seed, 5, false, 0);
    CHECK(result_writer_append(writer, &made.row, NULL, 1) == ST_OK);
    make_row(&made, seed, 6, true, 2);
    made.row.reason = FINISH_STOP;
    made.row.error_bytes = 0;
    made.error[0] = '\0';
    made.row.has_logprobs = true;
    made.row.n_top = 2;
    made.row.n_tokens = 2;
    CHECK(result_writer_append(writer, &made.row, NULL, 1) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "logprobs");
    CHECK(result_writer_finish(writer, &digest) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "row 6 is the first missing");
    result_writer_close(writer);
    CHECK(access(args.path, F_OK) != 0); /* an unfinished file is removed */
}

/* A limit on the file's size stands for a full disk; in a child, which must end by itself. */
static void full_disk(uint32_t seed)
{
    const rlim_t limits[] = {1000, 50000, 120000, 200000};

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const pid_t child = fork();

        if (child == 0) {
            const struct rlimit limit = {limits[i], limits[i]};
            const struct shape shape = {0, 3000, false, 0, 3000, UINT64_MAX, NULL};
            uint64_t digest;

            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &limit);
            const enum status st = write_file(in_dir("full.h5"), seed, &shape, &digest);
            CHECK_INT(st, ST_IO);
            CHECK_HAS(log_last_error(), in_dir("full.h5"));
            CHECK_HAS(log_last_error(), "file write failed: File too large; ");
            CHECK_HAS(log_last_error(), "room");
            CHECK(access(in_dir("full.h5"), F_OK) != 0);
            exit(test_n_failed != 0);
        }
        int how = 0;
        CHECK(waitpid(child, &how, 0) == child);
        CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    const struct shape shape = {0, 1, false, 0, 1, UINT64_MAX, NULL};
    uint64_t digest;
    CHECK(write_file(in_dir("no/such/folder.h5"), seed, &shape, &digest) == ST_IO);
    CHECK_HAS(log_last_error(), "no/such/folder.h5");
}

int main(void)
{
    const uint32_t seed = (uint32_t)time(NULL);

    fprintf(stderr, "seed %u\n", seed);
    CHECK(mkdtemp(dir) != NULL);
    packing_gives_back_the_row(seed);
    unpacking_trusts_nothing(3);
    names_of_reasons();
    files_give_back_the_rows(seed);
    digests_follow_content_only(seed);
    verify_sees_damage(3);
    absurd_numbers_of_values();
    gaps_and_short_files_are_refused(1);
    full_disk(seed);
    CHECK(rmdir(dir) == 0);
    TEST_END();
}
