/* TEST */
/*
 * unit_jsonl.c - JSONL and plain lines in, JSONL out; what inspect says about each kind of file.
 */
#include <jansson.h>
#include <math.h>
#include <time.h>

#include "data/column.h"
#include "data/jsonl.h"
#include "data/result_file.h"
#include "test.h"

/* Its quarantine keeps what was freed, so memory says nothing. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#define UNDER_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#else
#define UNDER_ADDRESS_SANITIZER 0
#endif

static char dir[] = "/tmp/epidote-jsonl-XXXXXX";
static char in_path[64], out_path[64], results_path[64];

static void write_text(const char *text, size_t n_bytes)
{
    FILE *f = fopen(in_path, "wb");

    CHECK(fwrite(text, 1, n_bytes, f) == n_bytes);
    fclose(f);
}

static enum status import_text(const char *text, const struct import_args *wanted)
{
    struct import_args args = *wanted;

    write_text(text, strlen(text));
    args.in_path = in_path;
    args.out_path = out_path;
    return data_import(&args);
}

struct loaded {
    struct prompts *prompts;
    struct arena *arena;
    struct prompt_row rows[16];
    uint64_t n_rows;
};

static bool load(struct loaded *out)
{
    *out = (struct loaded){0};
    if (prompts_open(out_path, &out->prompts) != ST_OK)
        return false;
    out->n_rows = prompts_info(out->prompts)->n_rows;
    CHECK(out->n_rows <= 16);
    CHECK(arena_create(4096, &out->arena) == ST_OK);
    CHECK(prompts_read(out->prompts, 0, out->n_rows, out->arena, out->rows) == ST_OK);
    return true;
}

static void unload(struct loaded *loaded)
{
    prompts_close(loaded->prompts);
    arena_destroy(loaded->arena);
    unlink(out_path);
}

static const struct import_args plain = {.lines = false}, lines = {.lines = true};

/* ---- import --------------------------------------------------------------------------------- */

/* Every field somewhere, and gaps before, between and behind. */
static void fields_become_columns(void)
{
    struct loaded got;

    CHECK(import_text(
              "{\"prompt\": \"one\", \"note\": 1}\n"
              "\n"
              "{\"messages\": [{\"role\": \"user\", \"content\": \"h\\u00e9\"}], \"id\": 7}\r\n"
              "{\"prompt_tokens\": [1, 2, 2147483647], \"max_tokens\": 5, \"seed\": 0}\n"
              "{\"prompt\": \"four \xf0\x9f\x98\x80\", \"temperature\": 1, \"top_p\": 0.5,"
              " \"top_k\": 3, \"stop\": [\"a\", \"\\n\"], \"id\": \"x\"}\n"
              "{\"prompt\": null, \"tokens\": [], \"id\": null}\n"
              "{\"tokens\": [9], \"stop\": \"END\", \"max_tokens\": null}",
              &plain) == ST_OK);
    CHECK(load(&got));
    const struct prompt_row *r = got.rows;
    CHECK_INT(got.n_rows, 6);
    CHECK_STR(r[0].prompt, "one");
    CHECK_STR(r[0].id, "");
    CHECK(!r[0].has_max_tokens && !r[0].has_seed && !r[0].has_top_k && !r[0].has_top_p &&
          !r[0].has_temperature && r[0].stop == NULL && r[0].messages == NULL);
    CHECK_STR(r[1].messages, "[{\"role\":\"user\",\"content\":\"h\xc3\xa9\"}]");
    CHECK_STR(r[1].id, "7");
    CHECK_INT(r[2].n_tokens, 3);
    CHECK_INT(r[2].tokens[2], INT32_MAX);
    CHECK(r[2].has_max_tokens && r[2].max_tokens == 5 && r[2].has_seed && r[2].seed == 0);
    CHECK_STR(r[3].prompt, "four \xf0\x9f\x98\x80");
    CHECK(r[3].temperature == 1 && r[3].top_p == 0.5 && r[3].top_k == 3 && !r[3].has_seed);
    CHECK_STR(r[3].stop, "[\"a\",\"\\n\"]");
    CHECK_STR(r[3].id, "x");
    CHECK_HAS(r[4].error.text, "the row has no prompt");
    CHECK_INT(r[5].tokens[0], 9);
    CHECK_STR(r[5].stop, "\"END\"");
    CHECK(!r[5].has_max_tokens);
    for (int i = 0; i < 6; i++)
        CHECK_INT(r[i].error.text[0] != '\0', i == 4);
    unload(&got);
}

/* For `report`: an integer will do as well. */
static void answers_and_classes(void)
{
    const char *texts[3];
    size_t bytes[3];
    struct column column;
    struct arena *arena = NULL;
    hid_t file = -1;

    CHECK(import_text("{\"prompt\": \"a\", \"class\": \"sum\"}\n"
                      "{\"prompt\": \"b\", \"answer\": \"Yes, \\u00e9\", \"class\": null}\n"
                      "{\"prompt\": \"c\", \"answer\": -12, \"class\": 3}\n",
                      &plain) == ST_OK);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(h5_open_read(out_path, &file) == ST_OK);
    CHECK(column_open(file, out_path, "answer", "answer", COLUMN_TEXT, 1, &column) == ST_OK);
    CHECK(column_read_text(&column, 0, 3, arena, texts, bytes) == ST_OK);
    CHECK_STR(texts[0], "");
    CHECK_STR(texts[1], "Yes, \xc3\xa9");
    CHECK_STR(texts[2], "-12");
    column_close(&column);
    CHECK(column_open(file, out_path, "class", "class", COLUMN_TEXT, 1, &column) == ST_OK);
    CHECK(column_read_text(&column, 0, 3, arena, texts, bytes) == ST_OK);
    CHECK_STR(texts[0], "sum");
    CHECK_STR(texts[1], "");
    CHECK_STR(texts[2], "3");
    column_close(&column);
    h5_close(file);
    arena_destroy(arena);
    unlink(out_path);
    CHECK(import_text("{\"prompt\": \"a\", \"answer\": [\"x\"]}\n", &plain) == ST_FORMAT);
    CHECK_HAS(log_last_error(), ":1: field answer is a list; it has to be a string or an integer");
}

static void chosen_fields(void)
{
    struct loaded got;
    const struct import_args question = {.field_prompt = "question", .field_id = "key"};
    const struct import_args chat = {.field_messages = "chat"};

    CHECK(import_text("{\"question\": \"q\", \"prompt\": \"no\", \"key\": \"k\", \"id\": \"no\","
                      " \"messages\": []}\n",
                      &question) == ST_OK);
    CHECK(load(&got));
    CHECK_STR(got.rows[0].prompt, "q");
    CHECK_STR(got.rows[0].id, "k");
    CHECK_STR(got.rows[0].error.text, "");
    unload(&got);
    CHECK(import_text("{\"chat\": [{}], \"prompt\": \"no\"}\n", &chat) == ST_OK);
    CHECK(load(&got));
    CHECK_STR(got.rows[0].messages, "[{}]");
    CHECK(got.rows[0].prompt == NULL);
    unload(&got);
    CHECK(import_text("{\"question\": \"q\"}\n{\"prompt\": \"q\", \"key\": 2}\n", &question) ==
          ST_FORMAT);
    CHECK_HAS(log_last_error(), ":2: no prompt: no field question; found: prompt, key");
}

static void plain_lines(void)
{
    struct loaded got;

    CHECK(import_text("\xef\xbb\xbf"
                      "first\r\n\n  two  \nlast {\"a\": 1}",
                      &lines) == ST_OK);
    CHECK(load(&got));
    CHECK_INT(got.n_rows, 3);
    CHECK_STR(got.rows[0].prompt, "first");
    CHECK_STR(got.rows[1].prompt, "  two  ");
    CHECK_STR(got.rows[2].prompt, "last {\"a\": 1}");
    unload(&got);
}

static void no_lines_are_no_rows(void)
{
    struct loaded got;

    CHECK(import_text("", &plain) == ST_OK);
    CHECK(load(&got));
    CHECK_INT(got.n_rows, 0);
    unload(&got);
    CHECK(import_text("\n \n\r\n", &lines) == ST_OK);
    CHECK(load(&got));
    CHECK_INT(got.n_rows, 0);
    unload(&got);
}

/* Each stands on line 3; the output must not appear, and an older one must stay. */
static void bad_lines_are_refused(void)
{
    static const struct {
        const char *line, *part;
        bool as_text;
    } cases[] = {
        {"{\"prompt\": \"a\"", "not valid JSON", false},
        {"{\"prompt\": \"a\"} x", "not valid JSON", false},
        {"{\"prompt\": \"\\u0000\"}", "not valid JSON", false},
        {"{\"prompt\": \"\\ud800\"}", "not valid JSON", false},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "not valid JSON", false},
        {"{\"prompt\": \"a\", \"seed\": 99999999999999999999}", "not valid JSON", false},
        {"{\"prompt\": \"\xff\"}", "not valid UTF-8 at byte 12", false},
        {"ab\xc3", "not valid UTF-8 at byte 2", true},
        {"\"prompt\"", "the line is a string", false},
        {"[1]", "the line is a list", false},
        {"{\"Prompt\": \"a\"}", "no field prompt, messages, prompt_tokens; found: Prompt", false},
        {"{}", "found: none", false},
        {"{\"prompt\": 5}", "field prompt is an integer; it has to be a string", false},
        {"{\"messages\": {}}", "field messages is an object", false},
        {"{\"messages\": \"[]\", \"tools\": []}", "must be a list where there are tools", false},
        {"{\"prompt_tokens\": \"1 2\"}", "field prompt_tokens is a string", false},
        {"{\"tokens\": [1, -1]}", "field tokens: element 1 is not a token id", false},
        {"{\"tokens\": [2147483648]}", "element 0 is not a token id", false},
        {"{\"tokens\": [1.0]}", "element 0 is not a token id", false},
        {"{\"prompt\": \"a\", \"id\": 1.5}", "field id is a number with a fraction", false},
        {"{\"prompt\": \"a\", \"max_tokens\": \"7\"}", "field max_tokens is a string", false},
        {"{\"prompt\": \"a\", \"top_p\": true}", "field top_p is true or false", false},
        {"{\"prompt\": \"a\", \"stop\": [\"a\", 1]}", "field stop is an integer", false},
        {"{\"prompt\": \"a\", \"stop\": 1}", "field stop is an integer", false},
    };
    char place[96], temp[96];

    snprintf(place, sizeof place, "%s:3: ", in_path);
    snprintf(temp, sizeof temp, "%s.tmp", out_path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        struct loaded got;

        CHECK(import_text("old\n", &lines) == ST_OK);
        snprintf(text, sizeof text, "{\"prompt\": \"x\"}\n\n%s\n{\"prompt\": \"y\"}\n",
                 cases[i].line);
        CHECK_INT(import_text(text, cases[i].as_text ? &lines : &plain), ST_FORMAT);
        CHECK_HAS(log_last_error(), place);
        CHECK_HAS(log_last_error(), cases[i].part);
        CHECK(access(temp, F_OK) != 0);
        CHECK(load(&got));
        CHECK_STR(got.rows[0].prompt, "old");
        unload(&got);
    }
    write_text("a\0b\n", 4);
    const struct import_args args = {.in_path = in_path, .out_path = out_path, .lines = true};
    CHECK(data_import(&args) == ST_FORMAT);
    CHECK_HAS(log_last_error(), ":1: a NUL in the line");
}

static void paths_that_do_not_work(void)
{
    struct import_args args = {.in_path = "/no/such/file", .out_path = out_path};

    CHECK(data_import(&args) == ST_IO);
    CHECK_HAS(log_last_error(), "/no/such/file: cannot open");
    write_text("", 0);
    args = (struct import_args){.in_path = in_path, .out_path = "/no/such/folder/out.h5"};
    CHECK(data_import(&args) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "/no/such/folder/out.h5");
    args = (struct import_args){.in_path = dir, .out_path = out_path};
    CHECK(data_import(&args) == ST_IO);
    CHECK_HAS(log_last_error(), dir);
}

/* Swapped arguments cost neither the source nor a file that an import did not make. */
static void targets_that_are_kept(void)
{
    struct import_args args = {.in_path = in_path, .out_path = in_path};
    char text[64] = "";

    write_text("{\"prompt\": \"a\"}\n", 16);
    CHECK(data_import(&args) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "the same file");
    FILE *f = fopen(in_path, "rb");
    CHECK(fgets(text, sizeof text, f) != NULL);
    fclose(f);
    CHECK_STR(text, "{\"prompt\": \"a\"}\n");
    args.out_path = dir;
    CHECK(data_import(&args) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "not a regular file");
    f = fopen(results_path, "wb"); /* answers, say */
    fputs("precious", f);
    fclose(f);
    args.out_path = results_path;
    CHECK(data_import(&args) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "was not made by import");
    unlink(results_path);
    args.out_path = out_path; /* its own earlier one is replaced */
    CHECK(data_import(&args) == ST_OK);
    CHECK(data_import(&args) == ST_OK);
    unlink(out_path);
}

/* Lines of every length around the reader's block, in one file. */
static void lines_across_blocks(uint32_t seed)
{
    enum { N = 400 };
    FILE *f = fopen(in_path, "wb");
    const uint32_t key[2] = {seed, 0};
    size_t lengths[N];
    uint64_t n_wrong = 0, i = 0;

    for (uint32_t k = 0; k < N; k++) {
        const uint32_t counter[4] = {k, 0, 0, 0};
        uint32_t draw[4];

        philox4x32(key, counter, draw);
        lengths[k] = 1 + (k % 5 == 0 ? 65530 + draw[0] % 12 : draw[0] % 300);
        for (size_t c = 0; c < lengths[k]; c++)
            fputc('a' + (int)((k + c) % 26), f);
        fputs(k % 3 == 0 ? "\r\n" : "\n", f);
    }
    fclose(f);
    f = fopen(in_path, "rb");
    struct jsonl_lines reader;
    const char *line;
    size_t n_bytes;
    jsonl_lines_begin(&reader, f, in_path);
    for (; jsonl_lines_next(&reader, &line, &n_bytes) == ST_OK; i++) {
        n_wrong += i >= N || n_bytes != lengths[i];
        for (size_t c = 0; c < n_bytes; c++)
            n_wrong += line[c] != 'a' + (char)((i + c) % 26);
    }
    CHECK_INT(i, N);
    CHECK_INT(n_wrong, 0);
    jsonl_lines_end(&reader);
    fclose(f);
}

/* 20,000 rows whose optional fields come and go; peak memory must stay far below the file. */
static void many_rows_stream(void)
{
    enum { N = 20000 };
    struct import_args args = {.in_path = in_path, .out_path = out_path};
    FILE *f = fopen(in_path, "wb");

    for (int i = 0; i < N; i++) {
        fprintf(f, "{\"prompt\": \"row %d %0800d\"", i, 0);
        if (i % 7 == 3)
            fprintf(f, ", \"max_tokens\": %d", i + 1);
        if (i > N / 2)
            fprintf(f, ", \"id\": %d", i);
        fputs("}\n", f);
    }
    fclose(f);
    const uint64_t before = host_memory_peak_bytes();
    CHECK(data_import(&args) == ST_OK);
    const uint64_t grown = host_memory_peak_bytes() - before;
    fprintf(stderr, "import of %d rows, %d MB: peak memory grew by %.1f MB\n", N,
            (int)(N * 840L / 1000000), (double)grown / 1e6);
    CHECK(UNDER_ADDRESS_SANITIZER || grown < 20000000);

    struct prompts *prompts = NULL;
    struct arena *arena = NULL;
    struct prompt_row row;
    CHECK(prompts_open(out_path, &prompts) == ST_OK);
    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK_INT(prompts_info(prompts)->n_rows, N);
    for (int i = 0; i < N; i += 997) {
        char want[32];

        arena_reset(arena);
        CHECK(prompts_read(prompts, (uint64_t)i, 1, arena, &row) == ST_OK);
        snprintf(want, sizeof want, "row %d ", i);
        CHECK(strncmp(row.prompt, want, strlen(want)) == 0);
        CHECK_INT(row.has_max_tokens, i % 7 == 3);
        CHECK(!row.has_max_tokens || row.max_tokens == i + 1);
        snprintf(want, sizeof want, "%d", i);
        CHECK_STR(row.id, i > N / 2 ? want : "");
    }
    arena_destroy(arena);
    prompts_close(prompts);
    unlink(out_path);
}

/* ---- export --------------------------------------------------------------------------------- */

static const int32_t some_tokens[] = {5, 6};
static const float some_logprobs[] = {-0.5f, -1.0f / 3};
static const int32_t some_top_ids[] = {5, 9, 6, 1};
static const float some_top[] = {-0.5f, -2, -1.0f / 3, -(float)INFINITY};
static const struct result_row some_rows[] = {
    {.row = 3,
     .reason = FINISH_STOP,
     .text = "say \"hi\"\n\xc3\xa9",
     .text_bytes = 11,
     .error = "",
     .tokens = some_tokens,
     .n_tokens = 2,
     .prompt_len = 4,
     .has_logprobs = true,
     .n_top = 2,
     .logprobs = some_logprobs,
     .top_ids = some_top_ids,
     .top_logprobs = some_top,
     .timing = {.decode_s = 0.25f}},
    {.row = 4,
     .reason = FINISH_ERROR,
     .text = "",
     .error = "prompt too long",
     .error_bytes = 15,
     .tokens = some_tokens,
     .logprobs = some_logprobs},
};
static const struct result_meta meta = {
    .program = "epidote test", .job = "job", .identity = "seed = 1\n", .numerics = "bf16chain/1"};

static void make_results(struct prompts *prompts)
{
    const struct result_writer_args args = {.path = results_path,
                                            .meta = &meta,
                                            .prompts = prompts,
                                            .rows_begin = 3,
                                            .rows_end = 5,
                                            .has_logprobs = true,
                                            .n_top = 2};
    struct result_writer *writer = NULL;
    uint64_t digest;

    CHECK(result_writer_create(&args, &writer) == ST_OK);
    CHECK(result_writer_append(writer, some_rows, NULL, 2) == ST_OK);
    CHECK(result_writer_finish(writer, &digest) == ST_OK);
    result_writer_close(writer);
    CHECK(result_file_verify(results_path, 3, 5, digest) == ST_OK);
}

/* The exported lines, parsed; returns their number. */
static int read_lines(json_t **out_rows, int max_rows)
{
    FILE *f = fopen(out_path, "rb");
    struct jsonl_lines reader;
    const char *line;
    size_t n_bytes;
    int n = 0;

    CHECK(f != NULL);
    jsonl_lines_begin(&reader, f, out_path);
    while (jsonl_lines_next(&reader, &line, &n_bytes) == ST_OK && n < max_rows) {
        out_rows[n] = json_loadb(line, n_bytes, 0, NULL);
        CHECK(out_rows[n] != NULL);
        n++;
    }
    jsonl_lines_end(&reader);
    fclose(f);
    return n;
}

static void check_exported(bool with_ids)
{
    json_t *rows[4];
    const int n = read_lines(rows, 4);

    CHECK_INT(n, 2);
    CHECK_INT(json_integer_value(json_object_get(rows[0], "row")), 3);
    CHECK_STR(json_string_value(json_object_get(rows[0], "text")), some_rows[0].text);
    CHECK_STR(json_string_value(json_object_get(rows[0], "finish_reason")), "stop");
    CHECK(json_object_get(rows[0], "error") == NULL);
    CHECK_INT(json_integer_value(json_object_get(rows[0], "output_len")), 2);
    CHECK_INT(json_integer_value(json_object_get(rows[0], "prompt_len")), 4);
    const json_t *tokens = json_object_get(rows[0], "tokens");
    CHECK_INT(json_array_size(tokens), 2);
    CHECK_INT(json_integer_value(json_array_get(tokens, 1)), 6);
    const json_t *logprobs = json_object_get(rows[0], "logprobs");
    CHECK((float)json_real_value(json_array_get(logprobs, 1)) == some_logprobs[1]);
    const json_t *top = json_array_get(json_object_get(rows[0], "top_logprobs"), 1);
    CHECK_INT(json_integer_value(json_array_get(json_array_get(top, 0), 0)), 6);
    CHECK(json_is_null(json_array_get(json_array_get(top, 1), 1))); /* -infinity */
    CHECK(json_real_value(json_object_get(json_object_get(rows[0], "timing"), "decode_s")) == 0.25);
    CHECK_STR(json_string_value(json_object_get(rows[1], "finish_reason")), "error");
    CHECK_STR(json_string_value(json_object_get(rows[1], "error")), "prompt too long");
    CHECK_INT(json_array_size(json_object_get(rows[1], "tokens")), 0);
    CHECK_INT(json_object_get(rows[0], "id") != NULL, with_ids);
    if (with_ids)
        CHECK_STR(json_string_value(json_object_get(rows[1], "id")), "id 4");
    for (int i = 0; i < n; i++)
        json_decref(rows[i]);
    unlink(out_path);
}

static void results_are_exported(void)
{
    struct prompts *prompts = NULL;
    char temp[96];

    make_results(NULL);
    CHECK(data_export(results_path, out_path, false) == ST_OK);
    check_exported(false);
    unlink(out_path);
    CHECK(import_text("{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}\n"
                      "{\"prompt\":\"a\",\"id\":\"id 3\"}\n{\"prompt\":\"a\",\"id\":\"id 4\"}\n",
                      &plain) == ST_OK);
    CHECK(prompts_open(out_path, &prompts) == ST_OK);
    make_results(prompts);
    prompts_close(prompts);
    CHECK(data_export(results_path, out_path, false) == ST_CONFIG); /* the prompts */
    CHECK_HAS(log_last_error(), "not overwritten");
    CHECK(data_export(results_path, results_path, false) == ST_CONFIG);
    CHECK(data_export(results_path, dir, false) == ST_CONFIG);
    unlink(out_path);
    CHECK(data_export(results_path, out_path, false) == ST_OK);
    check_exported(true);

    CHECK(data_export("/no/such/results.h5", out_path, false) == ST_IO);
    CHECK_HAS(log_last_error(), "/no/such/results.h5");
    CHECK(access(out_path, F_OK) != 0);
    CHECK(data_export(results_path, "/no/such/folder/out.jsonl", false) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "/no/such/folder");
    snprintf(temp, sizeof temp, "%s.tmp", out_path);
    CHECK(access(temp, F_OK) != 0);
    unlink(results_path);
}

/* Rows of a run that was broken off, from its logs. */
static void partial_results_are_exported(void)
{
    const struct journal_args args = {
        .results_path = results_path, .identity = "seed = 1\n", .rows_begin = 0, .rows_end = 9};
    struct journal *journal = NULL;
    struct buf packed = {0}, text = {0};
    char path[96];
    uint64_t hash;

    CHECK(journal_open(&args, &journal) == ST_OK);
    for (int i = 1; i >= 0; i--) { /* finished out of order */
        buf_reset(&packed);
        CHECK(result_pack(&some_rows[i], &packed) == ST_OK);
        CHECK(journal_append(journal, packed.data, packed.n_bytes) == ST_OK);
    }
    journal_close(journal);
    CHECK(data_export(results_path, out_path, false) == ST_IO);
    CHECK_HAS(log_last_error(), "--partial");
    CHECK(data_export(results_path, out_path, true) == ST_OK);
    check_exported(false);

    snprintf(path, sizeof path, "%s.parts", results_path);
    CHECK(data_inspect(path, &text) == ST_OK);
    CHECK(buf_put(&text, "", 1) == ST_OK);
    CHECK_HAS((char *)text.data, "journal of rows 0:9, 2 of 9 finished, 2 records");
    CHECK_HAS((char *)text.data, "row 4 is the first error: prompt too long");
    CHECK_HAS((char *)text.data, "  seed = 1\n");
    buf_reset(&text);
    snprintf(path, sizeof path, "%s.parts/1.log", results_path);
    CHECK(data_inspect(path, &text) == ST_OK);
    CHECK(buf_put(&text, "", 1) == ST_OK);
    CHECK_HAS((char *)text.data, "attempt 1, rows 0:9, 2 records");
    CHECK(data_digest(path, &hash) == ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "has no digest");
    buf_free(&text);
    buf_free(&packed);
    unlink(path);
    snprintf(path, sizeof path, "%s.parts", results_path);
    CHECK(rmdir(path) == 0);
    CHECK(data_export(results_path, out_path, true) == ST_IO);
    CHECK_HAS(log_last_error(), "nothing to export");
}

/* ---- inspect -------------------------------------------------------------------------------- */

static void files_are_described(void)
{
    struct buf text = {0};

    CHECK(data_inspect("tests/golden/prompts/numbers.h5", &text) == ST_OK);
    CHECK(buf_put(&text, "", 1) == ST_OK);
    CHECK_HAS((char *)text.data, "numbers.h5: prompt file of 4 rows");
    CHECK_HAS((char *)text.data, "  max_tokens              3 rows set");
    CHECK_HAS((char *)text.data, "row 3 is the first: max_tokens is 0");
    make_results(NULL);
    buf_reset(&text);
    CHECK(data_inspect(results_path, &text) == ST_OK);
    CHECK(buf_put(&text, "", 1) == ST_OK);
    CHECK_HAS((char *)text.data, "result file of rows 3:5");
    CHECK_HAS((char *)text.data, "row 4 is the first error: prompt too long");
    CHECK_HAS((char *)text.data, "answer tokens             2");
    CHECK_HAS((char *)text.data, "bf16chain/1");
    unlink(results_path);
    write_text("text", 4);
    CHECK(data_inspect(in_path, &text) == ST_UNSUPPORTED);
    CHECK(data_inspect(dir, &text) == ST_UNSUPPORTED);
    write_text("", 0);
    CHECK(data_inspect(in_path, &text) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "empty");
    CHECK(data_inspect("/no/such/file", &text) == ST_IO);
    buf_free(&text);
}

int main(void)
{
    const uint32_t seed = (uint32_t)time(NULL);

    fprintf(stderr, "seed %u\n", seed);
    CHECK(mkdtemp(dir) != NULL);
    snprintf(in_path, sizeof in_path, "%s/in.jsonl", dir);
    snprintf(out_path, sizeof out_path, "%s/out", dir);
    snprintf(results_path, sizeof results_path, "%s/r.h5", dir);
    many_rows_stream();
    fields_become_columns();
    answers_and_classes();
    chosen_fields();
    plain_lines();
    no_lines_are_no_rows();
    bad_lines_are_refused();
    paths_that_do_not_work();
    targets_that_are_kept();
    lines_across_blocks(seed);
    results_are_exported();
    partial_results_are_exported();
    files_are_described();
    unlink(in_path);
    CHECK(rmdir(dir) == 0);
    TEST_END();
}
