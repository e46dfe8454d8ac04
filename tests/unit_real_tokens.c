/* TEST needs: smollm2 */
/*
 * unit_real_tokens.c - SmolLM2's own vocabulary: 24,000 generated strings and their way back, and
 * conversations, give what the reference gives.
 *
 * tests/golden/real_tokens/make_tokens.py generates the same strings and says what is hashed.
 */
#include "model/model.h"
#include "text_test.h"

#define REAL "tests/golden/real_tokens/"

/* ---- the strings of make_tokens.py ---------------------------------------------------------- */

struct draw {
    uint64_t state;
};

static uint32_t draw(struct draw *d, uint32_t n)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((d->state >> 33) % n);
}

static void put(struct buf *out, const char *text, size_t n_bytes, int times)
{
    for (int i = 0; i < times; i++)
        CHECK(buf_put(out, text, n_bytes) == ST_OK);
}

static void put_part(struct draw *d, const json_t *fragments, struct buf *out)
{
    static const char *const spaces[] = {" ",        "\t",  "\n",          "\r\n",
                                         "\xc2\xa0", " \n", "\xe3\x80\x80"};
    static const uint32_t planes[] = {0x80, 0x800, 0x3100, 0x10000, 0x20000, 0x110000};
    const uint32_t kind = draw(d, 100);
    char bytes[4];

    if (kind < 66) {
        const json_t *fragment =
            json_array_get(fragments, draw(d, (uint32_t)json_array_size(fragments)));

        put(out, json_string_value(fragment), json_string_length(fragment), 1);
    } else if (kind < 82) {
        const uint32_t code = draw(d, planes[draw(d, 6)]);

        put(out, bytes, utf8_encode(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, bytes), 1);
    } else if (kind < 92) {
        const char *space = spaces[draw(d, 7)];

        put(out, space, strlen(space), (int)(1 + draw(d, 12)));
    } else if (kind < 98) {
        for (uint32_t n = 1 + draw(d, 6); n > 0; n--) {
            bytes[0] = (char)('0' + draw(d, 10));
            put(out, bytes, 1, 1);
        }
    } else {
        for (uint32_t n = 1 + draw(d, 3); n > 0; n--) {
            bytes[0] = (char)(0x80 + draw(d, 0x80));
            put(out, bytes, 1, 1);
        }
    }
}

static void make_string(int number, const json_t *fragments, struct buf *out)
{
    struct draw d = {(uint64_t)number * 0x9e3779b97f4a7c15u};

    buf_reset(out);
    for (uint32_t n = 1 + draw(&d, 16); n > 0; n--)
        put_part(&d, fragments, out);
}

/* ---- what the tokeniser makes of them -------------------------------------------------------- */

struct work {
    struct token_list ids;
    struct buf text, packed;
};

static uint32_t hash_string(const struct tokenizer *t, struct work *w)
{
    struct detokenizer detok = {0};
    struct row_error err;

    buf_reset(&w->packed);
    for (int parse = 0; parse < 2; parse++) {
        w->ids.n_ids = 0;
        CHECK(tokenizer_encode(t, (const char *)w->text.data, w->text.n_bytes,
                               ENCODE_LOSSY | (parse ? ENCODE_PARSE_SPECIAL : 0u), &w->ids,
                               &err) == ST_OK);
        const int32_t n = (int32_t)w->ids.n_ids;
        CHECK(buf_put(&w->packed, &n, sizeof n) == ST_OK);
        CHECK(buf_put(&w->packed, w->ids.ids, (size_t)n * sizeof n) == ST_OK);
    }
    for (int64_t i = 0; i < w->ids.n_ids; i++)
        CHECK(detokenizer_add(&detok, t, w->ids.ids[i], &w->packed) == ST_OK);
    CHECK(detokenizer_end(&detok, &w->packed) == ST_OK);
    return (uint32_t)hash_bytes(w->packed.data, w->packed.n_bytes, 0);
}

static void strings_encode_as_the_reference(const struct tokenizer *t)
{
    json_t *fragments = json_load_file(REAL "fragments.json", JSON_ALLOW_NUL, NULL);
    unsigned long long want_all = 0;
    struct hash_state all;
    struct work w = {0};
    struct buf file = {0};
    int n_strings = 0, n_wrong = 0;

    CHECK(fragments != NULL);
    CHECK(file_read(REAL "expect.txt", 4 << 20, &file) == ST_OK);
    CHECK(buf_put(&file, "", 1) == ST_OK);
    char *next = strchr((char *)file.data, '\n');
    CHECK_INT(sscanf((char *)file.data, "%d %llx", &n_strings, &want_all), 2);
    CHECK(n_strings >= 20000);
    hash_begin(&all, 0);
    for (int i = 0; i < n_strings; i++) {
        const uint32_t want = (uint32_t)strtoul(next, &next, 16);

        make_string(i, fragments, &w.text);
        hash_add(&all, w.text.data, w.text.n_bytes);
        if (hash_string(t, &w) == want)
            continue;
        if (n_wrong++ < 10)
            fprintf(stderr, "  string %d differs: \"%.*s\"\n", i, (int)w.text.n_bytes,
                    (const char *)w.text.data);
    }
    CHECK(hash_end(&all) == want_all); /* else the generators differ, not the tokenisers */
    CHECK_INT(n_wrong, 0);
    fprintf(stderr, "  %d strings\n", n_strings);
    json_decref(fragments);
    buf_free(&file);
    buf_free(&w.text);
    buf_free(&w.packed);
    token_list_free(&w.ids);
}

static void conversations_encode_as_the_reference(const struct tokenizer *t, const char *source)
{
    struct chat_template *chat = NULL;
    int n_injections = 0;

    CHECK(source != NULL);
    CHECK(open_chat("auto", source, t, &chat) == ST_OK);
    CHECK_STR(chat != NULL ? chat_template_name(chat) : NULL, "smollm2");
    CHECK(check_conversations(t, REAL "chat.jsonl", &n_injections) >= 60);
    CHECK(n_injections > 0);
    chat_template_destroy(chat);
}

int main(void)
{
    const char *path = getenv("EPIDOTE_SMOLLM2");
    struct model_source *source = NULL;
    struct tokenizer *t = NULL;

    path = path != NULL ? path : "build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    CHECK(model_open(path, &source) == ST_OK);
    CHECK(source != NULL && model_source_tokenizer(source, &t) == ST_OK);
    if (t != NULL) {
        CHECK_INT(tokenizer_n_tokens(t), 49152);
        CHECK_INT(tokenizer_eos(t), 2);
        strings_encode_as_the_reference(t);
        conversations_encode_as_the_reference(t, model_source_chat_template(source));
    }
    tokenizer_destroy(t);
    model_close(source);
    TEST_END();
}
