/* TEST */
/*
 * unit_long_lines.c - a line of 10 MB ends, whatever it is made of and whatever kind the tokeniser
 * is.
 *
 * Nothing is said about time but that of the test as a whole: what is quadratic does not end in it.
 */
#include "families_test.h"

enum { LINE_BYTES = 10 * 1000 * 1000 };

/* Fill a line with a part again and again, whole parts only, and end it with a letter: a run that
 * is not the end of a line is harder.  Returns how long it is. */
static size_t fill(char *line, const char *part)
{
    const size_t n = strlen(part);
    size_t at = 0;

    for (; at + n < LINE_BYTES; at += n)
        memcpy(line + at, part, n);
    line[at++] = 'x';
    return at;
}

/* It encodes, and comes back in as many bytes, but for what normal forms and dropped bytes change.
 */
static void encode(const char *family, const struct tokenizer *t, const char *line, size_t n_bytes,
                   bool comes_back)
{
    struct token_list ids = {0};
    struct detokenizer detok = {0};
    struct buf text = {0};
    struct row_error err;

    CHECK(tokenizer_encode(t, line, n_bytes, ENCODE_PARSE_SPECIAL, &ids, &err) == ST_OK);
    CHECK(ids.n_ids > 0);
    for (int64_t i = 0; comes_back && i < ids.n_ids; i++)
        detokenizer_add(&detok, t, ids.ids[i], &text);
    detokenizer_end(&detok, &text);
    if (comes_back && (text.n_bytes != n_bytes || memcmp(text.data, line, n_bytes) != 0)) {
        fprintf(stderr, "  %s: a line of \"%.8s..\" does not come back\n", family, line);
        CHECK(false);
    }
    token_list_free(&ids);
    buf_free(&text);
}

int main(void)
{
    static const struct {
        const char *family;
        const char *parts[2];
    } cases[] = {
        {"qwen2", {" ", "\xcc\x81\xcc\xa3"}},
        {"deepseek-llm", {" ", " \xe4\xb8\xad"}},
        {"gpt-4o", {"Aa"}},
        {"falcon", {"1"}},
        {"llama-spm", {" ", "a"}},
        {"gemma-4", {"\n"}},
        {"llama-bpe", {"\r\n"}},
        {"gpt-2", {"'"}},
        {"phi-3", {" "}},
        {"command-r", {"7"}},
        {"starcoder", {"7"}},
    };
    char *line = malloc(LINE_BYTES);

    tmp_begin();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer *t = family_load(cases[i].family);

        for (int k = 0; t != NULL && k < 2 && cases[i].parts[k] != NULL; k++)
            encode(cases[i].family, t, line, fill(line, cases[i].parts[k]),
                   (uint8_t)cases[i].parts[k][0] != 0xcc);
        tokenizer_destroy(t);
    }
    tmp_end();
    free(line);
    TEST_END();
}
