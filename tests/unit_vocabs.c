/* TEST needs: templates */
/*
 * unit_vocabs.c - real vocabularies of well-known families, files without tensors, give the ids of
 * the test vectors that come with them (make model-files).
 */
#include "model/model.h"
#include "text_test.h"

#define VOCABS "build/models/llama_cpp_files/"
#define PARTING "\n__ggml_vocab_test__\n"

static void read_text(const char *name, const char *ending, struct buf *out)
{
    char path[256];

    snprintf(path, sizeof path, VOCABS "ggml-vocab-%s.gguf%s", name, ending);
    buf_reset(out);
    CHECK(file_read(path, 1 << 20, out) == ST_OK);
    CHECK(buf_put(out, "", 1) == ST_OK);
}

/* One text and its line of ids. */
static void check_text(const struct tokenizer *t, const char *name, const char *text, size_t n,
                       char *line)
{
    struct token_list got = {0}, want = {0};
    struct row_error err;

    line[strcspn(line, "\n")] = '\0';
    for (size_t end = strlen(line); end > 0 && line[end - 1] == ' ';)
        line[--end] = '\0';
    from_decimals(line, &want);
    CHECK(tokenizer_encode(t, text, n, 0, &got, &err) == ST_OK);
    CHECK(same_ids(&got, &want));
    if (!same_ids(&got, &want))
        fprintf(stderr, "  %s: \"%.*s\"\n", name, (int)n, text);
    token_list_free(&got);
    token_list_free(&want);
}

static void check_vocab(const char *name)
{
    struct buf texts = {0}, lines = {0};
    struct tokenizer *t = NULL;
    char path[256];
    int n = 0;

    snprintf(path, sizeof path, VOCABS "ggml-vocab-%s.gguf", name);
    CHECK(model_open_tokenizer(path, &t) == ST_OK);
    read_text(name, ".inp", &texts);
    read_text(name, ".out", &lines);
    char *text = (char *)texts.data, *line = (char *)lines.data;
    while (t != NULL && text != NULL) {
        char *end = strstr(text, PARTING), *next_line = strchr(line, '\n');
        const size_t n_bytes = end != NULL ? (size_t)(end - text) : strlen(text);

        CHECK(next_line != NULL || n_bytes == 0); /* what follows the last parting is no text */
        if (next_line == NULL)
            break;
        check_text(t, name, text, n_bytes, line);
        line = next_line + 1;
        text = end != NULL ? end + strlen(PARTING) : NULL;
        n++;
    }
    CHECK(n >= 46);
    tokenizer_destroy(t);
    buf_free(&texts);
    buf_free(&lines);
}

int main(void)
{
    static const char *const names[] = {"llama-bpe",    "llama-spm",      "qwen2",   "phi-3",
                                        "deepseek-llm", "deepseek-coder", "falcon",  "gpt-2",
                                        "starcoder",    "command-r",      "gemma-4", "mpt",
                                        "refact"};

    if (access(VOCABS "ggml-vocab-gpt-2.gguf", F_OK) != 0) {
        printf(VOCABS " has no vocabularies: make model-files\n");
        return 77;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_vocab(names[i]);
    TEST_END();
}
