/* TEST */
/*
 * unit_gguf_vocab.c - vocabularies of GGUF files without tensors: the rules that keys give or leave
 * to the reader, and what is refused with file, place and remedy.
 */
#include <unistd.h>

#include "gguf_writer.h"
#include "model/source.h"
#include "test.h"

#define SIGN "\xe2\x96\x81"

static enum status load(const struct file *f, struct tokenizer **out_tokenizer)
{
    struct model_source *source = NULL;
    struct buf bytes;

    write_file(f, &bytes);
    CHECK(source_begin("test.gguf", &source) == ST_OK);
    enum status st = gguf_load_vocab(source, bytes.data, bytes.n_bytes, "test.gguf");
    if (st == ST_OK)
        st = tokenizer_create(&source->vocab, out_tokenizer);
    model_close(source);
    buf_free(&bytes);
    return st;
}

static void key_floats(struct file *f, const char *name, const float *values, int n)
{
    struct buf *value = key(f, name, ARRAY);

    put_u32(value, F32);
    put_u64(value, (uint64_t)n);
    for (int i = 0; i < n; i++)
        put_u32(value, bits_from_f32(values[i]));
}

static void key_ints(struct file *f, const char *name, const uint32_t *values, int n)
{
    struct buf *value = key(f, name, ARRAY);

    put_u32(value, I32);
    put_u64(value, (uint64_t)n);
    for (int i = 0; i < n; i++)
        put_u32(value, values[i]);
}

static void key_flag(struct file *f, const char *name, bool flag)
{
    buf_put(key(f, name, BOOL), &(uint8_t){flag}, 1);
}

static const char *const tokens[] = {"<unk>",  "<s>",    "</s>",    "<|end|>", "<0x41>",
                                     "<0xC3>", "<0xA9>", SIGN,      "a",       "b",
                                     "ab",     SIGN "a", SIGN "ab", "u"};
enum { N_TOKENS = sizeof tokens / sizeof tokens[0] };
static const float scores[N_TOKENS] = {0, 0, 0, 0, 0, 0, 0, -9, -9, -9, -1, -2, -3, -9};
static const uint32_t kinds[N_TOKENS] = {2, 3, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1, 1, 4};

/* A vocabulary merged by score, of a family that does not exist. */
static void fill_spm(struct file *f)
{
    *f = (struct file){0};
    key_text(f, "general.architecture", "nobody");
    key_text(f, "tokenizer.ggml.model", "llama");
    key_texts(f, "tokenizer.ggml.tokens", tokens, N_TOKENS);
    key_floats(f, "tokenizer.ggml.scores", scores, N_TOKENS);
    key_ints(f, "tokenizer.ggml.token_type", kinds, N_TOKENS);
    key_u32(f, "tokenizer.ggml.bos_token_id", 1);
    key_u32(f, "tokenizer.ggml.eos_token_id", 2);
    key_u32(f, "tokenizer.ggml.unknown_token_id", 0);
}

/* The ids of a text, as text. */
static const char *ids_of(const struct tokenizer *t, const char *text, unsigned flags)
{
    static char out[256];
    struct token_list list = {0};
    struct row_error err;
    size_t n = 0;

    out[0] = '\0';
    CHECK(t != NULL && tokenizer_encode(t, text, strlen(text), flags, &list, &err) == ST_OK);
    for (int64_t i = 0; i < list.n_ids && n < sizeof out - 16; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%d", i > 0 ? " " : "", list.ids[i]);
    token_list_free(&list);
    return out;
}

/* One text with the vocabulary as a change leaves it. */
static void check_ids(struct file *f, const char *text, unsigned flags, const char *want)
{
    struct tokenizer *t = NULL;

    CHECK(load(f, &t) == ST_OK);
    if (t != NULL)
        CHECK_STR(ids_of(t, text, flags), want);
    tokenizer_destroy(t);
    free_file(f);
}

static void keys_give_rules(void)
{
    const unsigned all = ENCODE_SPECIAL | ENCODE_PARSE_SPECIAL;
    struct file f;

    fill_spm(&f); /* BOS and the space come without a key that says so; the higher score first */
    check_ids(&f, "ab", all, "1 12");
    fill_spm(&f);
    key_flag(&f, "tokenizer.ggml.add_bos_token", false);
    key_flag(&f, "tokenizer.ggml.add_eos_token", true);
    check_ids(&f, "ab", all, "12 2");
    fill_spm(&f);
    key_flag(&f, "tokenizer.ggml.add_space_prefix", false);
    check_ids(&f, "ab a", all, "1 10 11");
    fill_spm(&f); /* bytes where there are some, else the unknown token */
    check_ids(&f, "A\xc3\xa9z", 0, "7 4 5 6 0");
    fill_spm(&f); /* a control token only where it may be; after it there is a space again */
    check_ids(&f, "b<s>a", 0, "7 9 0 0 0 8");
    fill_spm(&f);
    check_ids(&f, "b<s>a", ENCODE_PARSE_SPECIAL, "7 9 1 11");
    fill_spm(&f);
    check_ids(&f, "aua", 0, "11 13 11");
    fill_spm(&f);
    check_ids(&f, "a<|end|>  \n b", ENCODE_PARSE_SPECIAL, "11 3 7 7 7 0 7 9");
    fill_spm(&f); /* Phi-3's take the white space after them */
    key_text(&f, "general.architecture", "phi3");
    check_ids(&f, "a<|end|>  \n b", ENCODE_PARSE_SPECIAL, "11 3 7 9");
    fill_spm(&f);
    key_text(&f, "general.architecture", "phi3");
    check_ids(&f, "a<s>  b", ENCODE_PARSE_SPECIAL, "11 1 7 7 7 9");
}

/* Tokens that chat templates may ask for; an id of no token is how files say that there is none. */
static void named_tokens(void)
{
    struct tokenizer *t = NULL;
    struct file f;

    fill_spm(&f);
    key_u32(&f, "tokenizer.ggml.padding_token_id", 3);
    key_u32(&f, "tokenizer.ggml.mask_token_id", 0xffffffff);
    CHECK(load(&f, &t) == ST_OK);
    CHECK_STR(tokenizer_named(t, TOKEN_NAME_UNK), "<unk>");
    CHECK_STR(tokenizer_named(t, TOKEN_NAME_PAD), "<|end|>");
    CHECK(tokenizer_named(t, TOKEN_NAME_MASK) == NULL);
    CHECK(tokenizer_named(t, TOKEN_NAME_SEP) == NULL);
    free_file(&f);
    tokenizer_destroy(t);
}

/* An answer ends at the tokens that keys name and at those that are known to end a turn. */
static void ends_of_answers(void)
{
    struct model_source *source = NULL;
    struct buf bytes;
    struct file f;

    fill_spm(&f);
    write_file(&f, &bytes);
    CHECK(source_begin("test.gguf", &source) == ST_OK);
    CHECK(gguf_load_vocab(source, bytes.data, bytes.n_bytes, "test.gguf") == ST_OK);
    const struct model_config *c = &source->config;
    CHECK(c->n_eos == 2 && c->eos_ids[0] == 2 && c->eos_ids[1] == 3); /* </s>, <|end|> */
    model_close(source);
    buf_free(&bytes);
    free_file(&f);
}

/* A merge that makes a control token is left out: no text may become one. */
static void control_tokens_are_not_merged(void)
{
    static const struct text_span spelled[] = {{"a", 1}, {"b", 1}, {"ab", 2}, {"ba", 2}};
    static const struct text_span merges[] = {{"a b", 3}, {"b a", 3}};
    static const uint8_t kind_of[] = {0, 0, TOKEN_CONTROL, 0};
    const struct vocab_spec spec = {.origin = "test",
                                    .model = "bpe",
                                    .pre = "gpt-2",
                                    .tokens = spelled,
                                    .kinds = kind_of,
                                    .n_tokens = 4,
                                    .merges = merges,
                                    .n_merges = 2,
                                    .bos_id = -1,
                                    .eos_id = -1};
    struct tokenizer *t = NULL;

    CHECK(tokenizer_create(&spec, &t) == ST_OK);
    CHECK_STR(ids_of(t, "ab", 0), "0 1");
    CHECK_STR(ids_of(t, "aba", 0), "0 3");
    CHECK_STR(ids_of(t, "ab", ENCODE_PARSE_SPECIAL), "2");
    tokenizer_destroy(t);
}

static void names_give_rules(void)
{
    static const struct {
        const char *pre;
        const char *ids;
    } cases[] = {{"gpt-2", "5"}, {"llama-bpe", "0 5"}, {"llama3", "0 5"},
                 {"qwen2", "5"}, {"falcon", "5"},      {"tekken", "0 5"}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file f = {0};

        fill_keys(&f); /* merges: a b, a ab */
        key_text(&f, "tokenizer.ggml.pre", cases[i].pre);
        check_ids(&f, "aab", ENCODE_SPECIAL, cases[i].ids);
    }
}

/* A space that was put before a text does not come back, whatever stands first. */
static void spaces_come_back(void)
{
    static const struct {
        int32_t ids[4];
        int n;
        const char *text;
    } cases[] = {{{11, 9}, 2, "ab"},
                 {{1, 11, 11}, 3, "a a"},
                 {{7, 7, 8}, 3, " a"},
                 {{8, 11}, 2, "a a"},
                 {{5, 6}, 2, "\xc3\xa9"},
                 {{5, 8},
                  2,
                  "\xef\xbf\xbd"
                  "a"}};
    struct tokenizer *t = NULL;
    struct file f;

    fill_spm(&f);
    CHECK(load(&f, &t) == ST_OK);
    for (size_t i = 0; t != NULL && i < sizeof cases / sizeof cases[0]; i++) {
        struct detokenizer detok = {0};
        struct buf text = {0};

        for (int k = 0; k < cases[i].n; k++) {
            CHECK(detokenizer_add(&detok, t, cases[i].ids[k], &text) == ST_OK);
            CHECK(utf8_valid((const char *)text.data, text.n_bytes, NULL));
        }
        CHECK(detokenizer_end(&detok, &text) == ST_OK);
        CHECK(buf_put(&text, "", 1) == ST_OK);
        CHECK_STR((const char *)text.data, cases[i].text);
        buf_free(&text);
    }
    tokenizer_destroy(t);
    free_file(&f);
}

/* As the commands open one: from a path, without tensors. */
static void a_file_is_opened(void)
{
    const char *base = getenv("TMPDIR");
    struct tokenizer *t = NULL;
    struct buf bytes;
    struct file f;
    char path[256];

    snprintf(path, sizeof path, "%s/epidote-vocab-%d.gguf", base != NULL ? base : "/tmp",
             (int)getpid());
    fill_spm(&f);
    write_file(&f, &bytes);
    CHECK(file_write_atomic(path, bytes.data, bytes.n_bytes) == ST_OK);
    CHECK(model_open_tokenizer(path, &t) == ST_OK);
    CHECK(t != NULL && tokenizer_n_tokens(t) == N_TOKENS);
    tokenizer_destroy(t);
    CHECK(file_write_atomic(path, bytes.data, bytes.n_bytes / 2) == ST_OK);
    CHECK_INT(model_open_tokenizer(path, &t), ST_FORMAT);
    CHECK_HAS(log_last_error(), path);
    unlink(path);
    CHECK_INT(model_open_tokenizer(path, &t), ST_IO);
    CHECK_INT(model_open_tokenizer("tests/golden", &t), ST_IO);
    CHECK_HAS(log_last_error(), "tests/golden/tokenizer.json");
    buf_free(&bytes);
    free_file(&f);
}

static void refused(struct file *f, enum status want, const char *says)
{
    struct tokenizer *t = NULL;

    CHECK_INT(load(f, &t), want);
    CHECK(t == NULL);
    CHECK_HAS(log_last_error(), says);
    CHECK_HAS(log_last_error(), "test.gguf: ");
    tokenizer_destroy(t);
    free_file(f);
}

static void others_are_refused(void)
{
    static const char *const spelled[] = {"<0x4>", "\xff"};
    float wild[N_TOKENS];
    struct file f;

    fill_spm(&f);
    key_text(&f, "tokenizer.ggml.model", "bert");
    refused(&f, ST_UNSUPPORTED, "tokeniser model bert is not supported");
    fill_spm(&f);
    snprintf(f.keys[3].name, sizeof f.keys[3].name, "tokenizer.ggml.stores");
    refused(&f, ST_FORMAT, "key tokenizer.ggml.scores is missing");
    fill_spm(&f);
    key_floats(&f, "tokenizer.ggml.scores", scores, N_TOKENS - 1);
    refused(&f, ST_FORMAT, "scores must be an array of 14 float32");
    fill_spm(&f);
    memcpy(wild, scores, sizeof wild);
    wild[9] = f32_from_bits(0x7fc00000);
    key_floats(&f, "tokenizer.ggml.scores", wild, N_TOKENS);
    refused(&f, ST_FORMAT, "the score of token 9 is not a number");
    fill_spm(&f);
    key_u32(&f, "tokenizer.ggml.unknown_token_id", N_TOKENS);
    refused(&f, ST_FORMAT, "there are only 14 tokens");
    fill_spm(&f);
    key_text(&f, "tokenizer.ggml.precompiled_charsmap", "x");
    refused(&f, ST_UNSUPPORTED, "table of normal forms");
    for (int i = 0; i < 2; i++) {
        const char *changed[N_TOKENS];

        memcpy(changed, tokens, sizeof changed);
        changed[i == 0 ? 4 : 9] = spelled[i];
        fill_spm(&f);
        key_texts(&f, "tokenizer.ggml.tokens", changed, N_TOKENS);
        refused(&f, ST_FORMAT,
                i == 0 ? "not spelled like <0x0A>" : "token 9, \"\xff\", is not UTF-8");
    }
}

int main(void)
{
    keys_give_rules();
    named_tokens();
    ends_of_answers();
    control_tokens_are_not_merged();
    names_give_rules();
    spaces_come_back();
    a_file_is_opened();
    others_are_refused();
    TEST_END();
}
