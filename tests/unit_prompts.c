/* TEST */
/*
 * unit_prompts.c - prompt files: every way to write one, every way to write a wrong one.
 *
 * tests/golden/prompts holds files that h5py wrote (make_prompt_files.py); bad files are made here.
 */
#include <fcntl.h>
#include <math.h>
#include <sys/file.h>

#include "prompts_test.h"

static char dir[] = "/tmp/epidote-prompts-XXXXXX";
static char path[128]; /* the file that a test works on */

/* ---- reading a whole file ------------------------------------------------------------------- */

struct loaded {
    struct prompts *prompts;
    struct arena *arena;
    struct prompt_row *rows;
    uint64_t n_rows;
};

static bool load(const char *file, struct loaded *out)
{
    *out = (struct loaded){0};
    if (prompts_open(file, &out->prompts) != ST_OK)
        return false;
    out->n_rows = prompts_info(out->prompts)->n_rows;
    out->rows = calloc(out->n_rows + 1, sizeof *out->rows);
    CHECK(arena_create(4096, &out->arena) == ST_OK);
    CHECK(prompts_read(out->prompts, 0, out->n_rows, out->arena, out->rows) == ST_OK);
    return true;
}

static void unload(struct loaded *loaded)
{
    prompts_close(loaded->prompts);
    arena_destroy(loaded->arena);
    free(loaded->rows);
}

static bool load_golden(const char *name, struct loaded *out)
{
    char file[128];

    snprintf(file, sizeof file, "tests/golden/prompts/%s.h5", name);
    const bool ok = load(file, out);
    CHECK(ok);
    return ok;
}

/* ---- what h5py writes ----------------------------------------------------------------------- */

static void every_kind_of_string_is_the_same_text(void)
{
    static const char *const kinds[] = {"vlen",           "vlen_ascii", "numpy_strings",
                                        "fixed_s",        "fixed_utf8", "fixed_spaces",
                                        "fixed_nullterm", "chunked",    "v110"};
    static const char *const texts[] = {"Say hello.", "Zw\xc3\xb6lf \xc3\x84pfel",
                                        "snow \xe2\x98\x83 and \xf0\x9f\x98\x80"};
    uint64_t first_fingerprint = 0;

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct loaded got;
        uint64_t fingerprint = 0;

        if (!load_golden(kinds[k], &got))
            continue;
        CHECK_INT(got.n_rows, 4);
        for (int i = 0; i < 3; i++) {
            CHECK_STR(got.rows[i].prompt, texts[i]);
            CHECK_INT(got.rows[i].prompt_bytes, strlen(texts[i]));
            CHECK_INT(got.rows[i].row, i);
            CHECK_STR(got.rows[i].error.text, "");
            CHECK(got.rows[i].id == NULL && got.rows[i].messages == NULL);
        }
        CHECK(got.rows[3].prompt == NULL);
        CHECK_STR(got.rows[3].error.text, "the row has no prompt: prompt is empty");
        /* The same content has the same fingerprint, however it is stored. */
        CHECK(prompts_fingerprint(got.prompts, &fingerprint) == ST_OK);
        if (k == 0)
            first_fingerprint = fingerprint;
        CHECK(fingerprint == first_fingerprint);
        unload(&got);
    }
}

static void numbers_of_every_width(void)
{
    struct loaded got;

    if (!load_golden("numbers", &got))
        return;
    const struct prompt_row *r = got.rows;
    const struct prompts_info *info = prompts_info(got.prompts);
    CHECK(info->has_id && info->has_max_tokens && info->has_temperature && info->has_top_p);
    CHECK(info->has_top_k && info->has_seed && info->has_stop && info->has_prompt);
    CHECK(!info->has_messages && !info->has_tokens);
    CHECK_STR(r[2].id, "r2");
    CHECK(r[0].has_max_tokens && r[0].max_tokens == 1);
    CHECK(!r[1].has_max_tokens);
    CHECK(r[2].has_max_tokens && r[2].max_tokens == 300);
    CHECK(r[0].has_temperature && r[0].temperature == 0);
    CHECK(r[1].has_temperature && r[1].temperature == 0.5);
    CHECK(!r[2].has_temperature && !r[2].has_top_p);
    CHECK(r[1].has_top_p && r[1].top_p == 0.25);
    CHECK(r[2].has_top_k && r[2].top_k == 255);
    CHECK(r[1].has_seed && r[1].seed == UINT64_C(1) << 63);
    CHECK(r[2].has_seed && r[2].seed == UINT64_MAX);
    CHECK_STR(r[0].stop, "[\"\\n\"]");
    CHECK(r[1].stop == NULL);
    CHECK_STR(r[2].stop, "\"END\"");
    for (int i = 0; i < 3; i++)
        CHECK_STR(r[i].error.text, "");
    CHECK_HAS(r[3].error.text, "max_tokens is 0; it has to be at least 1");
    unload(&got);

    if (!load_golden("floats_for_ints", &got))
        return;
    r = got.rows;
    CHECK(r[0].has_max_tokens && r[0].max_tokens == 16 && !r[0].has_seed);
    CHECK(!r[1].has_max_tokens && !r[1].has_seed && r[1].temperature == 1);
    CHECK_STR(r[1].error.text, "");
    CHECK_STR(r[2].error.text, "max_tokens is not an integer");
    CHECK_STR(r[3].error.text, "max_tokens is not an integer");
    unload(&got);
}

static void tokens_are_ragged_and_rows_have_one_prompt(void)
{
    struct loaded got;

    if (!load_golden("tokens", &got))
        return;
    const struct prompt_row *r = got.rows;
    static const int32_t want[] = {5, 6, 7, 49151};
    CHECK_INT(got.n_rows, 4);
    CHECK_INT(r[0].n_tokens, 4);
    CHECK(memcmp(r[0].tokens, want, sizeof want) == 0);
    CHECK(r[0].prompt == NULL && r[0].messages == NULL);
    CHECK_STR(r[1].prompt, "text");
    CHECK(r[1].tokens == NULL && r[1].n_tokens == 0);
    CHECK_HAS(r[2].messages, "\"hi\"");
    CHECK_INT(r[3].n_tokens, 1);
    for (int i = 0; i < 4; i++)
        CHECK_STR(r[i].error.text, "");
    unload(&got);

    if (!load_golden("bad_tokens", &got))
        return;
    r = got.rows;
    CHECK_HAS(r[0].error.text, "prompt_tokens: element 1 is -6; token ids are 0 to 2147483647");
    CHECK(r[0].tokens == NULL);
    CHECK_STR(r[1].error.text, "");
    CHECK_INT(r[1].tokens[0], 7);
    CHECK_HAS(r[2].error.text, "element 0 is 1099511627776");
    CHECK_INT(r[3].n_tokens, 2);
    CHECK_STR(r[3].error.text, "");
    unload(&got);
}

static void bad_texts_are_bad_rows(void)
{
    struct loaded got;

    if (!load_golden("latin1", &got))
        return;
    CHECK_STR(got.rows[0].error.text, "");
    CHECK_STR(got.rows[1].error.text, "prompt is not valid UTF-8 at byte 2; write it as UTF-8");
    CHECK_HAS(got.rows[2].error.text, "prompt holds a NUL at byte 2");
    CHECK_STR(got.rows[3].error.text, "");
    CHECK_STR(got.rows[3].prompt, "good");
    unload(&got);
}

/* ---- files made here ------------------------------------------------------------------------ */

static void put_schema(hid_t file, const char *text)
{
    const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);

    H5Tset_size(type, strlen(text));
    const hid_t attr = H5Acreate2(file, "schema", type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attr, type, text);
    H5Aclose(attr);
    H5Sclose(space);
    H5Tclose(type);
}

static const int64_t counting[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static void no_column(hid_t f)
{
    put_texts(f, "Prompt", 3);
    put_ints(f, "other", 3, counting);
}
static void nothing(hid_t f)
{
    (void)f;
}
static void lengths_differ(hid_t f)
{
    put_texts(f, "prompt", 3);
    put_texts(f, "id", 4);
}
static void offsets_differ(hid_t f)
{
    put_texts(f, "prompt", 3);
    put_ints(f, "prompt_tokens/values", 3, counting);
    put_ints(f, "prompt_tokens/offsets", 3, counting);
}
static void offsets_descend(hid_t f)
{
    static const int64_t offsets[] = {0, 3, 2, 4};

    put_ints(f, "prompt_tokens/values", 8, counting);
    put_ints(f, "prompt_tokens/offsets", 4, offsets);
}
static void offsets_past_values(hid_t f)
{
    static const int64_t offsets[] = {0, 3, 9};

    put_ints(f, "prompt_tokens/values", 8, counting);
    put_ints(f, "prompt_tokens/offsets", 3, offsets);
}
static void offsets_negative(hid_t f)
{
    static const int64_t offsets[] = {0, -3, 2};

    put_ints(f, "prompt_tokens/values", 8, counting);
    put_ints(f, "prompt_tokens/offsets", 3, offsets);
}
static void offsets_empty(hid_t f)
{
    put_ints(f, "prompt_tokens/values", 8, counting);
    put_ints(f, "prompt_tokens/offsets", 0, counting);
}
static void offsets_missing(hid_t f)
{
    put_ints(f, "prompt_tokens/values", 8, counting);
}
static void offsets_float(hid_t f)
{
    static const double offsets[] = {0, 1, 2};
    const hsize_t n = 3;

    put_ints(f, "prompt_tokens/values", 8, counting);
    put_dataset(f, "prompt_tokens/offsets", H5T_NATIVE_DOUBLE, 1, &n, offsets);
}
static void tokens_flat(hid_t f)
{
    put_ints(f, "prompt_tokens", 8, counting);
}
static void prompt_of_ints(hid_t f)
{
    put_ints(f, "prompt", 3, counting);
}
static void prompt_scalar(hid_t f)
{
    const hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, 5);
    put_dataset(f, "prompt", type, 0, NULL, "hello");
    H5Tclose(type);
}
static void prompt_square(hid_t f)
{
    const hsize_t dims[2] = {2, 2};
    const hid_t type = H5Tcopy(H5T_C_S1);

    put_dataset(f, "prompt", type, 2, dims, "abcd");
    H5Tclose(type);
}
static void prompt_group(hid_t f)
{
    put_texts(f, "prompt/values", 3);
}
static void temperature_text(hid_t f)
{
    put_texts(f, "prompt", 3);
    put_texts(f, "temperature", 3);
}
static void later_column(hid_t f)
{
    put_texts(f, "prompt", 3);
    put_texts(f, "continuation", 3);
}
static void other_schema(hid_t f)
{
    put_texts(f, "prompt", 3);
    put_schema(f, "epidote.prompts/2");
}
static void results_schema(hid_t f)
{
    put_texts(f, "prompt", 3);
    put_schema(f, "epidote.results/1");
}

static void bad_files_are_refused(void)
{
    static const struct {
        const char *name;
        void (*make)(hid_t file);
        enum status want;
        const char *parts[3]; /* of the message, beside the path */
    } cases[] = {
        {"no_column", no_column, ST_FORMAT, {"no known prompt column", "found: Prompt, other"}},
        {"nothing", nothing, ST_FORMAT, {"no known prompt column", "found: nothing"}},
        {"lengths", lengths_differ, ST_FORMAT, {"prompt has 3 rows", "id has 4"}},
        {"offsets_differ",
         offsets_differ,
         ST_FORMAT,
         {"prompt_tokens has 2 rows", "offsets: one more"}},
        {"descend",
         offsets_descend,
         ST_FORMAT,
         {"prompt_tokens/offsets: element 2 is 2", "ascend"}},
        {"past", offsets_past_values, ST_FORMAT, {"element 2 is 9", "beyond the end"}},
        {"negative", offsets_negative, ST_FORMAT, {"element 1 is -3", "negative"}},
        {"empty offsets", offsets_empty, ST_FORMAT, {"prompt_tokens/offsets is empty"}},
        {"no offsets", offsets_missing, ST_FORMAT, {"prompt_tokens/offsets is missing"}},
        {"float offsets", offsets_float, ST_FORMAT, {"prompt_tokens/offsets holds floats"}},
        {"flat tokens", tokens_flat, ST_FORMAT, {"prompt_tokens", "`values`", "`offsets`"}},
        {"ints",
         prompt_of_ints,
         ST_FORMAT,
         {"column prompt holds integers; it has to hold strings"}},
        {"scalar", prompt_scalar, ST_FORMAT, {"column prompt", "scalar", "N rows"}},
        {"square", prompt_square, ST_FORMAT, {"column prompt has 2 dimensions"}},
        {"group", prompt_group, ST_FORMAT, {"column prompt is a group"}},
        {"text for real",
         temperature_text,
         ST_FORMAT,
         {"column temperature holds strings", "floats"}},
        {"continuation", later_column, ST_UNSUPPORTED, {"continuation", "remove the column"}},
        {"schema 2", other_schema, ST_FORMAT, {"epidote.prompts/2", "epidote.prompts/1"}},
        {"results", results_schema, ST_FORMAT, {"epidote.results/1", "result file"}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct prompts *prompts = NULL;
        const hid_t file = begin_file(path);

        cases[i].make(file);
        H5Fclose(file);
        const enum status st = prompts_open(path, &prompts);
        if (st != cases[i].want)
            fprintf(stderr, "case %s:\n", cases[i].name);
        CHECK_INT(st, cases[i].want);
        CHECK_HAS(log_last_error(), path);
        for (int p = 0; p < 3 && cases[i].parts[p] != NULL; p++)
            CHECK_HAS(log_last_error(), cases[i].parts[p]);
        if (st == ST_OK)
            prompts_close(prompts);
    }
    struct prompts *prompts;
    CHECK(prompts_open("tests/golden/prompts/bool_column.h5", &prompts) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "column max_tokens holds enumerated values");
    CHECK(prompts_open("tests/golden/prompts/lzf.h5", &prompts) == ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "(lzf), which this HDF5 library does not have");
    unlink(path);
}

static void write_bytes(const char *data, size_t n_bytes)
{
    FILE *f = fopen(path, "wb");

    CHECK(fwrite(data, 1, n_bytes, f) == n_bytes);
    fclose(f);
}

static void files_that_are_not_hdf5(void)
{
    struct prompts *prompts = NULL;
    struct buf whole = {0};

    CHECK(prompts_open(path, &prompts) == ST_IO);
    CHECK_HAS(log_last_error(), path);
    CHECK_HAS(log_last_error(), "No such file");
    CHECK(prompts_open(dir, &prompts) == ST_IO);
    CHECK_HAS(log_last_error(), "not a regular file");
    write_bytes("", 0);
    CHECK(prompts_open(path, &prompts) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "empty (0 bytes)");
    write_bytes("{\"prompt\": \"hello\"}\n", 20);
    CHECK(prompts_open(path, &prompts) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "not an HDF5 file");
    CHECK_HAS(log_last_error(), "epidote import");

    /* Cut anywhere: refused, or - where only unused space is gone - read; never a crash. */
    CHECK(file_read("tests/golden/prompts/numbers.h5", 1 << 20, &whole) == ST_OK);
    for (size_t n = 0; n < whole.n_bytes; n += 97) {
        write_bytes((char *)whole.data, n);
        CHECK(prompts_open(path, &prompts) != ST_OK);
        CHECK_HAS(log_last_error(), path);
    }
    CHECK_HAS(log_last_error(), "truncated");
    CHECK_HAS(log_last_error(), "copy it again"); /* its "sblock" is no lock */
    buf_free(&whole);
    unlink(path);
}

/* A changed byte can make texts of no width at all. */
static void texts_of_no_width(void)
{
    static const uint8_t of_seven[] = {0x13, 0, 0, 0, 7, 0, 0, 0}; /* class string, 7 bytes wide */
    const hid_t file = begin_file(path), type = H5Tcopy(H5T_C_S1);
    const hsize_t n = 2;
    struct prompts *prompts = NULL;
    struct buf bytes = {0};

    H5Tset_size(type, 7);
    put_dataset(file, "prompt", type, 1, &n, "abcdef\0ghijkl");
    H5Tclose(type);
    H5Fclose(file);
    CHECK(file_read(path, 1 << 20, &bytes) == ST_OK);
    uint8_t *at = memmem(bytes.data, bytes.n_bytes, of_seven, sizeof of_seven);
    CHECK(at != NULL);
    if (at != NULL)
        at[4] = 0;
    write_bytes((const char *)bytes.data, bytes.n_bytes);
    CHECK_INT(prompts_open(path, &prompts), ST_FORMAT);
    CHECK_HAS(log_last_error(), "column prompt: its type has a size of 0 bytes");
    buf_free(&bytes);
    unlink(path);
}

static void zero_rows_are_a_file(void)
{
    struct loaded got;
    uint64_t fingerprint = 0;
    const hid_t file = begin_file(path);

    put_texts(file, "prompt", 0);
    put_texts(file, "id", 0);
    put_ints(file, "prompt_tokens/values", 0, NULL);
    put_ints(file, "prompt_tokens/offsets", 1, counting);
    H5Fclose(file);
    CHECK(load(path, &got));
    CHECK_INT(got.n_rows, 0);
    CHECK(prompts_fingerprint(got.prompts, &fingerprint) == ST_OK);
    unload(&got);
    unlink(path);
}

static void rows_with_none_or_several_prompts(void)
{
    struct loaded got;
    static const int64_t offsets[] = {0, 1, 1};
    const hid_t file = begin_file(path), type = H5Tcopy(H5T_C_S1);
    const hsize_t n = 2;

    H5Tset_size(type, 2);
    put_texts(file, "prompt", 2);
    put_dataset(file, "messages", type, 1, &n, "[]\0\0");
    put_ints(file, "prompt_tokens/values", 1, counting);
    put_ints(file, "prompt_tokens/offsets", 3, offsets);
    H5Tclose(type);
    H5Fclose(file);
    CHECK(load(path, &got));
    CHECK_STR(got.rows[0].error.text, "the row has 3 prompts (messages, prompt, prompt_tokens); "
                                      "leave all but one empty");
    CHECK_STR(got.rows[1].error.text, "");
    unload(&got);
    unlink(path);
}

/* Settings out of range spoil their row only; every row is read alone as it is in a window. */
static void settings_out_of_range(void)
{
    enum { N = 6 };
    const hid_t file = begin_file(path);
    const hsize_t n = N;
    const int64_t max_tokens[N] = {1, -2, 1, 1, 1, 1}, top_k[N] = {-1, 1, -5, 1, 1, 1};
    const uint64_t unsigned_max[N] = {1, 1, 1, UINT64_MAX, 1, 1};
    const float temperature[N] = {0, 1, 1, 1, INFINITY, 1}, top_p[N] = {1, 1, 1, 1, 1, 0};
    static const char *const want[N] = {"", "max_tokens is -2",   "top_k is -5",
                                        "", "temperature is inf", "top_p is 0"};
    struct loaded got;

    put_texts(file, "prompt", N);
    put_ints(file, "max_tokens", N, max_tokens);
    put_ints(file, "top_k", N, top_k);
    put_dataset(file, "seed", H5T_NATIVE_UINT64, 1, &n, unsigned_max);
    put_dataset(file, "temperature", H5T_NATIVE_FLOAT, 1, &n, temperature);
    put_dataset(file, "top_p", H5T_NATIVE_FLOAT, 1, &n, top_p);
    H5Fclose(file);
    CHECK(load(path, &got));
    for (uint64_t i = 0; i < N; i++) {
        struct prompt_row alone;

        CHECK_HAS(got.rows[i].error.text, want[i]);
        CHECK_INT(got.rows[i].error.text[0] == '\0', want[i][0] == '\0');
        CHECK(prompts_read(got.prompts, i, 1, got.arena, &alone) == ST_OK);
        CHECK_STR(alone.error.text, got.rows[i].error.text);
        CHECK_INT(alone.row, i);
    }
    unload(&got);
    unlink(path);

    const hid_t big = begin_file(path);
    put_texts(big, "prompt", N);
    put_dataset(big, "max_tokens", H5T_NATIVE_UINT64, 1, &n, unsigned_max);
    H5Fclose(big);
    CHECK(load(path, &got));
    CHECK_HAS(got.rows[3].error.text, "max_tokens is 18446744073709551615, beyond");
    CHECK_STR(got.rows[4].error.text, "");
    unload(&got);
    unlink(path);
}

/* A compressed chunk that is larger than HDF5's own cache: every window finds its rows in it. */
static void large_compressed_chunks(void)
{
    enum { N = 200000, WIDTH = 12 };
    const hid_t file = begin_file(path), type = H5Tcopy(H5T_C_S1),
                dcpl = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t n = N;
    const hid_t space = H5Screate_simple(1, &n, NULL);
    char *texts = calloc(N + 1, WIDTH);
    struct prompts *prompts = NULL;
    struct arena *arena = NULL;
    static struct prompt_row rows[1000];
    int wrong = 0;

    for (int i = 0; i < N; i++)
        snprintf(texts + i * WIDTH, WIDTH, "row %d", i);
    H5Tset_size(type, WIDTH);
    H5Pset_chunk(dcpl, 1, &n);
    H5Pset_deflate(dcpl, 1);
    const hid_t dataset = H5Dcreate2(file, "prompt", type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(dcpl);
    H5Tclose(type);
    H5Fclose(file);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    CHECK(arena_create(4096, &arena) == ST_OK);
    for (uint64_t first = 0; first < N; first += 1000) {
        arena_reset(arena);
        CHECK(prompts_read(prompts, first, 1000, arena, rows) == ST_OK);
        for (uint64_t i = 0; i < 1000; i++)
            wrong += strcmp(rows[i].prompt, texts + (first + i) * WIDTH) != 0;
    }
    CHECK_INT(wrong, 0);
    prompts_close(prompts);
    arena_destroy(arena);
    free(texts);
    unlink(path);
}

/* 64 texts, chunked as given; row `changed` is another text. */
static uint64_t fingerprint_of(hsize_t chunk, int changed, bool with_note)
{
    const hid_t file = begin_file(path), type = H5Tcopy(H5T_C_S1),
                dcpl = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t n = 64;
    const hid_t space = H5Screate_simple(1, &n, NULL);
    const char *texts[64];
    struct prompts *prompts = NULL;
    uint64_t fingerprint = 0;

    for (int i = 0; i < 64; i++)
        texts[i] = i == changed ? "Text" : "text";
    H5Tset_size(type, H5T_VARIABLE);
    if (chunk > 0)
        H5Pset_chunk(dcpl, 1, &chunk);
    const hid_t dataset = H5Dcreate2(file, "prompt", type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts);
    if (with_note)
        put_ints(file, "note", 8, counting);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(dcpl);
    H5Tclose(type);
    H5Fclose(file);
    CHECK(prompts_open(path, &prompts) == ST_OK);
    CHECK(prompts_fingerprint(prompts, &fingerprint) == ST_OK);
    prompts_close(prompts);
    unlink(path);
    return fingerprint;
}

static void fingerprints_follow_content(void)
{
    const uint64_t plain = fingerprint_of(0, -1, false);

    CHECK(fingerprint_of(7, -1, false) == plain);
    CHECK(fingerprint_of(64, -1, false) == plain);
    CHECK(fingerprint_of(0, -1, true) == plain); /* a column that is ignored changes no result */
    for (int i = 0; i < 64; i += 9)
        CHECK(fingerprint_of(0, i, false) != plain);
}

/* data_digest of a prompt file is its fingerprint. */
static void digest_of_prompts(void)
{
    struct loaded got;
    uint64_t fingerprint = 0, digest = 1;

    if (!load_golden("tokens", &got))
        return;
    CHECK(prompts_fingerprint(got.prompts, &fingerprint) == ST_OK);
    CHECK(data_digest("tests/golden/prompts/tokens.h5", &digest) == ST_OK);
    CHECK(digest == fingerprint);
    unload(&got);
}

/* A lock such as HDF5 itself takes, held by someone else, is in nobody's way. */
static void opened_twice_and_while_locked(void)
{
    struct loaded a, b;
    const hid_t file = begin_file(path);

    put_texts(file, "prompt", 3);
    H5Fclose(file);
    const int fd = open(path, O_RDWR);
    CHECK(flock(fd, LOCK_EX) == 0);
    CHECK(load(path, &a));
    CHECK(load(path, &b));
    unload(&b);
    unload(&a);
    close(fd);
    unlink(path);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/p.h5", dir);
    every_kind_of_string_is_the_same_text();
    numbers_of_every_width();
    tokens_are_ragged_and_rows_have_one_prompt();
    bad_texts_are_bad_rows();
    bad_files_are_refused();
    files_that_are_not_hdf5();
    texts_of_no_width();
    zero_rows_are_a_file();
    rows_with_none_or_several_prompts();
    settings_out_of_range();
    fingerprints_follow_content();
    digest_of_prompts();
    large_compressed_chunks();
    opened_twice_and_while_locked();
    CHECK(rmdir(dir) == 0);
    TEST_END();
}
