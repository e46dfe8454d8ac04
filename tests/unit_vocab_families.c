/* TEST */
/*
 * unit_vocab_families.c - hard strings by the rules of each family of models: ids and the way back
 * are what the reference makes of them (tests/golden/tokenizer/families), from tokenizer.json and
 * by the names of GGUF.
 */
#include "families_test.h"

enum { MAX_STRINGS = 1000 };

struct strings {
    struct buf texts[MAX_STRINGS];
    int n;
};

static void strings_open(struct strings *strings)
{
    struct lines lines;
    char *hex = NULL;

    *strings = (struct strings){0};
    for (lines_open(&lines, FAMILIES "strings.txt");
         strings->n < MAX_STRINGS && lines_next(&lines, &hex, 1); strings->n++)
        from_hex(hex, &strings->texts[strings->n]);
    CHECK(strings->n >= 700);
    buf_free(&lines.file);
}

static void strings_close(struct strings *strings)
{
    for (int i = 0; i < strings->n; i++)
        buf_free(&strings->texts[i]);
}

/* ---- one string ----------------------------------------------------------------------------- */

/* What is hashed of a string: see make_families.py. */
struct work {
    const struct tokenizer *tokenizer;
    int32_t not_shown[2]; /* ids that are left out of the way back */
    bool ids_only;
    struct token_list ids;
    struct buf packed;
};

static void pack_ids(struct work *w, const struct buf *text, unsigned flags)
{
    const char *data = text->n_bytes > 0 ? (const char *)text->data : NULL;
    struct row_error err;

    w->ids.n_ids = 0;
    CHECK(tokenizer_encode(w->tokenizer, data, text->n_bytes, flags, &w->ids, &err) == ST_OK);
    const int32_t n = (int32_t)w->ids.n_ids;
    CHECK(buf_put(&w->packed, &n, sizeof n) == ST_OK);
    CHECK(buf_put(&w->packed, w->ids.ids, (size_t)n * sizeof n) == ST_OK);
}

/* Without the flag no text gives a control token. */
static void no_control(const struct work *w)
{
    for (int64_t i = 0; i < w->ids.n_ids; i++)
        CHECK(w->tokenizer->kinds[w->ids.ids[i]] != TOKEN_CONTROL ||
              w->ids.ids[i] == w->tokenizer->pieces.unk_id);
}

static void pack_text(struct work *w)
{
    const size_t begin = w->packed.n_bytes;
    struct detokenizer detok = {0};

    for (int64_t i = 0; i < w->ids.n_ids; i++) {
        const int32_t id = w->ids.ids[i];

        if (id == w->not_shown[0] || id == w->not_shown[1])
            continue;
        CHECK(detokenizer_add(&detok, w->tokenizer, id, &w->packed) == ST_OK);
        CHECK(utf8_valid((const char *)w->packed.data + begin, w->packed.n_bytes - begin, NULL));
    }
    CHECK(detokenizer_end(&detok, &w->packed) == ST_OK);
}

static uint32_t hash_string(struct work *w, const struct buf *text)
{
    buf_reset(&w->packed);
    pack_ids(w, text, 0);
    no_control(w);
    pack_ids(w, text, w->ids_only ? 0 : ENCODE_PARSE_SPECIAL);
    if (!w->ids_only)
        pack_text(w);
    return (uint32_t)hash_bytes(w->packed.data, w->packed.n_bytes, 0);
}

static void check_strings(const struct tokenizer *t, const struct strings *strings,
                          const char *name, const char *how, bool ids_only)
{
    struct work w = {.tokenizer = t, .ids_only = ids_only};
    char path[128], *line = NULL;
    struct lines lines;
    int n_wrong = 0;

    w.not_shown[0] = ids_only ? -1 : tokenizer_find(t, "na\xc3\xafve");
    w.not_shown[1] = ids_only ? -1 : tokenizer_find(t, "<n> \xe2\x84\xab");
    snprintf(path, sizeof path, FAMILIES "%s.txt", name);
    lines_open(&lines, path);
    for (int i = 0; i < strings->n; i++) {
        CHECK(lines_next(&lines, &line, 1));
        if (line[0] == '-' ||
            hash_string(&w, &strings->texts[i]) == (uint32_t)strtoul(line, NULL, 16))
            continue;
        if (n_wrong++ < 5)
            fprintf(stderr, "  %s (%s): string %d differs: \"%.*s\"\n", name, how, i,
                    (int)strings->texts[i].n_bytes, (const char *)strings->texts[i].data);
    }
    CHECK_INT(n_wrong, 0);
    token_list_free(&w.ids);
    buf_free(&w.packed);
    buf_free(&lines.file);
}

/* ---- from tokenizer.json --------------------------------------------------------------------- */

static void from_json(json_t *spec, const json_t *base, const struct strings *strings,
                      const char *name)
{
    struct tokenizer *t = family_create(spec, base);

    if (t != NULL)
        check_strings(t, strings, name, "tokenizer.json", false);
    tokenizer_destroy(t);
}

/* ---- as a GGUF file would say it ------------------------------------------------------------- */

enum { MAX_TOKENS = 4096 };

struct vocab {
    struct text_span tokens[MAX_TOKENS], merges[MAX_TOKENS];
    uint8_t kinds[MAX_TOKENS], flags[MAX_TOKENS];
    float scores[MAX_TOKENS];
    struct arena *arena;
    struct vocab_spec spec;
};

static struct text_span span_of(const json_t *text)
{
    return (struct text_span){json_string_value(text), json_string_length(text)};
}

static void add_tokens(struct vocab *v, json_t *ids, const json_t *added)
{
    const char *key = NULL;
    json_t *id = NULL;
    size_t i = 0;
    json_t *token = NULL;

    json_object_foreach(ids, key, id)
    {
        CHECK(json_integer_value(id) < MAX_TOKENS);
        v->tokens[json_integer_value(id)] = (struct text_span){key, strlen(key)};
    }
    json_array_foreach(added, i, token)
    {
        const json_int_t at = json_integer_value(json_object_get(token, "id"));

        v->kinds[at] =
            json_is_true(json_object_get(token, "special")) ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
        v->flags[at] =
            (uint8_t)((json_is_true(json_object_get(token, "lstrip")) ? TOKEN_LSTRIP : 0) |
                      (json_is_true(json_object_get(token, "rstrip")) ? TOKEN_RSTRIP : 0) |
                      (json_is_true(json_object_get(token, "single_word")) ? TOKEN_SINGLE_WORD
                                                                           : 0) |
                      (json_is_true(json_object_get(token, "normalized")) ? TOKEN_NORMALIZED : 0));
    }
    v->spec.n_tokens = (int)json_object_size(ids);
}

static void add_merges(struct vocab *v, const json_t *merges)
{
    json_t *merge = NULL;
    size_t i = 0;

    json_array_foreach(merges, i, merge)
    {
        const struct text_span left = span_of(json_array_get(merge, 0)),
                               right = span_of(json_array_get(merge, 1));
        char *text = arena_alloc(v->arena, left.n_bytes + right.n_bytes + 1);

        CHECK(text != NULL && i < MAX_TOKENS);
        if (text == NULL || i >= MAX_TOKENS)
            return;
        memcpy(text, left.data, left.n_bytes);
        text[left.n_bytes] = ' ';
        memcpy(text + left.n_bytes + 1, right.data, right.n_bytes);
        v->merges[i] = (struct text_span){text, left.n_bytes + right.n_bytes + 1};
    }
    v->spec.n_merges = (int)json_array_size(merges);
}

static void from_gguf(const json_t *spec, const json_t *base, const struct strings *strings,
                      const char *name, const char *pre)
{
    struct vocab *v = calloc(1, sizeof *v);
    struct tokenizer *t = NULL;

    CHECK(arena_create(1 << 16, &v->arena) == ST_OK);
    v->spec = (struct vocab_spec){.origin = name,
                                  .model = "bpe",
                                  .pre = pre,
                                  .tokens = v->tokens,
                                  .kinds = v->kinds,
                                  .flags = v->flags,
                                  .merges = v->merges,
                                  .bos_id = -1,
                                  .eos_id = -1};
    add_tokens(v, json_object_get(base, "vocab"), json_object_get(spec, "added_tokens"));
    add_merges(v, json_object_get(base, "merges"));
    CHECK(tokenizer_create(&v->spec, &t) == ST_OK);
    if (t != NULL)
        check_strings(t, strings, name, "as GGUF", false);
    tokenizer_destroy(t);
    arena_destroy(v->arena);
    free(v);
}

static void families_encode_as_the_reference(const struct strings *strings)
{
    static const char *const names[] = {
        "gpt-2",     "starcoder",       "command-r",        "qwen2",        "qwen35",
        "mpt",       "llama-bpe",       "falcon",           "deepseek-llm", "deepseek-coder",
        "llama-spm", "llama-spm-first", "llama-spm-always", "phi-3",        "gemma-4",
        "dbrx",      "cl100k",          "gpt-4o",           "tekken",       "deepseek-v3",
        "cut"};
    json_t *bytes = family_json("bytes"), *chars = family_json("chars");

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *family = family_json(names[i]), *spec = json_object_get(family, "tokenizer");
        const char *base = json_string_value(json_object_get(family, "base"));
        const char *pre = json_string_value(json_object_get(family, "gguf"));
        const json_t *vocab = base != NULL && strcmp(base, "chars") == 0 ? chars : bytes;

        from_json(spec, vocab, strings, names[i]);
        if (pre != NULL)
            from_gguf(spec, vocab, strings, names[i], pre);
        json_decref(family);
    }
    json_decref(bytes);
    json_decref(chars);
}

/* ---- merged by score ------------------------------------------------------------------------- */

/* Against SentencePiece, with characters that have no token but are part of some. */
static void scores_encode_as_the_reference(const struct strings *strings)
{
    static const uint8_t kinds[] = {
        0,         TOKEN_NORMAL, TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED,
        TOKEN_BYTE};
    json_t *json = family_json("spm"), *piece = NULL;
    struct vocab *v = calloc(1, sizeof *v);
    size_t i = 0;

    json_array_foreach(json_object_get(json, "pieces"), i, piece)
    {
        CHECK(i < MAX_TOKENS);
        if (i >= MAX_TOKENS)
            break;
        v->tokens[i] = span_of(json_array_get(piece, 0));
        v->scores[i] = (float)json_number_value(json_array_get(piece, 1));
        v->kinds[i] = kinds[json_integer_value(json_array_get(piece, 2))];
    }
    for (int prefix = 0; prefix < 2; prefix++) {
        struct tokenizer *t = NULL;

        v->spec = (struct vocab_spec){.origin = "spm",
                                      .model = "spm",
                                      .tokens = v->tokens,
                                      .kinds = v->kinds,
                                      .scores = v->scores,
                                      .n_tokens = (int)i,
                                      .bos_id = 1,
                                      .eos_id = 2,
                                      .has_unk = true,
                                      .space_prefix = prefix != 0};
        CHECK(tokenizer_create(&v->spec, &t) == ST_OK);
        if (t != NULL)
            check_strings(t, strings, prefix ? "spm" : "spm-bare", "by score", true);
        tokenizer_destroy(t);
    }
    free(v);
    json_decref(json);
}

int main(void)
{
    struct strings strings;

    tmp_begin();
    strings_open(&strings);
    families_encode_as_the_reference(&strings);
    scores_encode_as_the_reference(&strings);
    strings_close(&strings);
    tmp_end();
    TEST_END();
}
