/* TEST */
/*
 * unit_text.c - the tokeniser and detokeniser against what the reference makes of the same strings
 * (tests/golden/tokenizer).
 */
#include <time.h>

#include "text_test.h"

/* ---- encoding ------------------------------------------------------------------------------- */

static void check_ids(const struct tokenizer *t, const struct buf *text, unsigned flags,
                      char *want_text, const char *which)
{
    struct token_list got = {0}, want = {0};
    struct row_error err;

    from_decimals(want_text, &want);
    CHECK(tokenizer_encode(t, (const char *)text->data, text->n_bytes, flags | ENCODE_LOSSY, &got,
                           &err) == ST_OK);
    CHECK(same_ids(&got, &want));
    if (!same_ids(&got, &want))
        fprintf(stderr, "  %s: \"%.*s\"\n", which, (int)text->n_bytes, (const char *)text->data);
    token_list_free(&got);
    token_list_free(&want);
}

static void strings_encode_as_the_reference(void)
{
    struct tokenizer *t = load_small(), *b = load_variant_b();
    struct buf text = {0};
    char *columns[4];
    struct lines lines;
    int n = 0;

    lines_open(&lines, GOLDEN "encode.txt");
    while (lines_next(&lines, columns, 4)) {
        char first[4096], second[4096];

        from_hex(columns[0], &text);
        columns[2] = strcmp(columns[2], "=") == 0 ? columns[1] : columns[2];
        columns[3] = strcmp(columns[3], "=") == 0 ? columns[2] : columns[3];
        snprintf(first, sizeof first, "%s", columns[1]);
        snprintf(second, sizeof second, "%s", columns[2]);
        check_ids(t, &text, 0, first, "plain");
        check_ids(t, &text, ENCODE_PARSE_SPECIAL, second, "special");
        check_ids(b, &text, ENCODE_PARSE_SPECIAL | ENCODE_SPECIAL, columns[3], "variant B");
        n++;
    }
    CHECK(n >= 2000);
    buf_free(&text);
    buf_free(&lines.file);
    tokenizer_destroy(t);
    tokenizer_destroy(b);
}

/* What the tables of char_ranges.c have to be: ascending, of known classes and sizes (Unicode 16,
 * and 13 digits of Unicode 17). */
static void classes_are_whole(void)
{
    static const struct {
        unsigned props;
        int n;
    } known[] = {{CHAR_LETTER, 141028}, {CHAR_NUMBER, 1911}, {CHAR_DIGIT, 1911 + 13},
                 {CHAR_SPACE, 25},      {CHAR_LU, 1858},     {CHAR_LL, 2258}};

    for (int i = 0; i < n_char_ranges; i++) {
        CHECK(char_ranges[i].first <= char_ranges[i].last);
        CHECK(char_ranges[i].class < n_char_classes);
        CHECK(i == 0 || char_ranges[i - 1].last < char_ranges[i].first);
    }
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
        int n = 0;

        for (uint32_t code = 0; code < 0x110000; code++)
            n += (char_props(code) & known[k].props) != 0;
        CHECK_INT(n, known[k].n);
    }
    for (int byte = 0; byte < 256; byte++)
        CHECK_INT(alphabet_byte(alphabet_code((uint8_t)byte)), byte);
}

static void invalid_text_is_a_bad_row(void)
{
    static const struct {
        const char *text;
        size_t n_bytes;
        const char *message;
    } cases[] = {
        {"abc\xff", 4, "byte 0xff at offset 3 of 4"},     {"\xc0\x80", 2, "byte 0xc0 at offset 0"},
        {"ab\xed\xa0\x80", 5, "byte 0xed at offset 2"},   {"a\xe4\xbd", 3, "byte 0xe4 at offset 1"},
        {"\xf4\x90\x80\x80", 4, "byte 0xf4 at offset 0"}, {"x\x80", 2, "byte 0x80 at offset 1"},
    };
    struct tokenizer *t = load_small();
    struct token_list list = {0};
    struct row_error err;

    CHECK(tokenizer_encode(t, "ok", 2, 0, &list, &err) == ST_OK);
    const int64_t n_before = list.n_ids;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT(tokenizer_encode(t, cases[i].text, cases[i].n_bytes, 0, &list, &err), ST_ROW);
        CHECK_HAS(err.text, cases[i].message);
        CHECK_HAS(err.text, "UTF-8");
        CHECK_INT(list.n_ids, n_before);
        CHECK(tokenizer_encode(t, cases[i].text, cases[i].n_bytes, ENCODE_LOSSY, &list, &err) ==
              ST_OK);
        list.n_ids = n_before;
    }
    CHECK(tokenizer_encode(t, NULL, 0, 0, &list, &err) == ST_OK);
    CHECK_INT(list.n_ids, n_before);
    token_list_free(&list);
    tokenizer_destroy(t);
}

/* A line without spaces is one word; merging it must not be quadratic. */
static double encode_seconds(const struct tokenizer *t, const char *text, size_t n_bytes)
{
    const clock_t begin = clock(); /* of this process: the machine may be busy */
    struct token_list list = {0};
    struct row_error err;

    CHECK(tokenizer_encode(t, text, n_bytes, ENCODE_PARSE_SPECIAL, &list, &err) == ST_OK);
    CHECK(list.n_ids > 0);
    token_list_free(&list);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

static void long_lines_end(void)
{
    const size_t n_bytes = 10 * 1000 * 1000;
    struct tokenizer *t = load_small();
    char *text = malloc(n_bytes);
    uint32_t state = 1;

    for (size_t i = 0; i < n_bytes; i++) {
        state = state * 1664525u + 1013904223u;
        text[i] = (char)('a' + (state >> 24) % 26);
    }
    const double one = encode_seconds(t, text, n_bytes / 10),
                 ten = encode_seconds(t, text, n_bytes);
    fprintf(stderr, "  a word of 10 MB: %.2f s; of 1 MB: %.2f s\n", ten, one);
    CHECK(ten < 50 * one + 1); /* 100 times if it were quadratic */
    memset(text, ' ', n_bytes / 5);
    encode_seconds(t, text, n_bytes / 5);
    memset(text, '<', n_bytes / 5); /* each may begin a special token */
    encode_seconds(t, text, n_bytes / 5);
    free(text);
    tokenizer_destroy(t);
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* Detokenise one id at a time; what is out after each must be whole characters. */
static void stream(const struct tokenizer *t, const struct token_list *ids, struct buf *out)
{
    struct detokenizer detok = {0};

    buf_reset(out);
    for (int64_t i = 0; i < ids->n_ids; i++) {
        CHECK(detokenizer_add(&detok, t, ids->ids[i], out) == ST_OK);
        CHECK(utf8_valid((const char *)out->data, out->n_bytes, NULL));
        CHECK(out->n_bytes == 0 || memchr(out->data, 0, out->n_bytes) == NULL);
    }
    CHECK(detokenizer_end(&detok, out) == ST_OK);
}

static void ids_decode_as_the_reference(void)
{
    struct tokenizer *t = load_small();
    struct buf want = {0}, got = {0};
    struct token_list ids = {0};
    struct lines lines;
    char *columns[2];
    int n = 0;

    lines_open(&lines, GOLDEN "decode.txt");
    while (lines_next(&lines, columns, 2)) {
        from_decimals(columns[0], &ids);
        from_hex(columns[1], &want);
        stream(t, &ids, &got);
        CHECK(same_bytes(&got, &want));
        n++;
    }
    CHECK(n >= 400);
    token_list_free(&ids);
    buf_free(&want);
    buf_free(&got);
    buf_free(&lines.file);
    tokenizer_destroy(t);
}

/* Text -> ids -> text gives the text back, but for NUL. */
static void texts_come_back(void)
{
    struct tokenizer *t = load_small();
    struct buf text = {0}, want = {0}, got = {0};
    struct token_list ids = {0};
    struct lines lines;
    struct row_error err;
    char *columns[4];

    lines_open(&lines, GOLDEN "encode.txt");
    while (lines_next(&lines, columns, 4)) {
        struct detokenizer repair = {0};

        from_hex(columns[0], &text);
        buf_reset(&want);
        for (size_t i = 0; i < text.n_bytes; i++)
            CHECK(utf8_push(&repair, text.data[i], true, &want) == ST_OK);
        CHECK(utf8_finish(&repair, &want) == ST_OK);
        ids.n_ids = 0;
        CHECK(tokenizer_encode(t, (const char *)text.data, text.n_bytes, ENCODE_LOSSY, &ids,
                               &err) == ST_OK);
        stream(t, &ids, &got);
        CHECK(same_bytes(&got, &want));
    }
    token_list_free(&ids);
    buf_free(&text);
    buf_free(&want);
    buf_free(&got);
    buf_free(&lines.file);
    tokenizer_destroy(t);
}

/* ---- special tokens, questions -------------------------------------------------------------- */

static void tokens_are_found(void)
{
    struct tokenizer *t = load_small(), *b = load_variant_b(), *again = load_small();
    struct text_span span;

    CHECK_INT(tokenizer_n_tokens(t), 1024);
    CHECK_INT(tokenizer_bos(t), 1);
    CHECK_INT(tokenizer_eos(t), 2);
    CHECK_INT(tokenizer_bos(b), 1); /* from the post-processor */
    CHECK_INT(tokenizer_eos(b), -1);
    CHECK_INT(tokenizer_find(t, "<|im_end|>"), 2);
    CHECK(tokenizer_find(t, " the") > 0);
    CHECK_INT(tokenizer_find(t, "no such token"), -1);
    CHECK_INT(tokenizer_find(b, "na\xc3\xafve"), 1026);
    span = tokenizer_token_bytes(t, 2, false);
    CHECK_INT(span.n_bytes, 0);
    span = tokenizer_token_bytes(t, 2, true);
    CHECK(span.n_bytes == 10 && memcmp(span.data, "<|im_end|>", 10) == 0);
    span = tokenizer_token_bytes(t, tokenizer_find(t, " the"), false);
    CHECK(span.n_bytes == 4 && memcmp(span.data, " the", 4) == 0);
    CHECK(tokenizer_fingerprint(t) == tokenizer_fingerprint(again));
    CHECK(tokenizer_fingerprint(t) != tokenizer_fingerprint(b));
    tokenizer_destroy(t);
    tokenizer_destroy(b);
    tokenizer_destroy(again);
    tokenizer_destroy(NULL);
}

/* Bytes without a token are left out, and what is left can merge, as in the reference. */
static void missing_bytes_are_left_out(void)
{
    static const struct text_span tokens[] = {SPAN("a"), SPAN("b"), SPAN("ab"), SPAN("<s>")};
    static const struct text_span merges[] = {SPAN("a b")};
    static const uint8_t kinds[] = {0, 0, 0, TOKEN_CONTROL};
    const struct vocab_spec spec = {.origin = "f",
                                    .model = "bpe",
                                    .pre = "gpt2",
                                    .tokens = tokens,
                                    .kinds = kinds,
                                    .n_tokens = 4,
                                    .merges = merges,
                                    .n_merges = 1,
                                    .bos_id = 3,
                                    .eos_id = 3,
                                    .add_bos = true,
                                    .add_eos = true};
    const int32_t want[] = {3, 2, 2, 3};
    struct tokenizer *t = NULL;
    struct token_list list = {0};
    struct row_error err;

    CHECK(tokenizer_create(&spec, &t) == ST_OK);
    CHECK(tokenizer_encode(t, "axb ab", 6, ENCODE_SPECIAL, &list, &err) == ST_OK);
    CHECK(list.n_ids == 4 && memcmp(list.ids, want, sizeof want) == 0);
    token_list_free(&list);
    tokenizer_destroy(t);
}

int main(void)
{
    tmp_begin();
    classes_are_whole();
    strings_encode_as_the_reference();
    ids_decode_as_the_reference();
    texts_come_back();
    tokens_are_found();
    invalid_text_is_a_bad_row();
    missing_bytes_are_left_out();
    long_lines_end();
    tmp_end();
    TEST_END();
}
