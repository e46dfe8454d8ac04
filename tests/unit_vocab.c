/* TEST */
/*
 * unit_vocab.c - vocabularies and tokenizer.json files that are refused, with file, place and
 * remedy, and odd ones that are understood.
 */
#include "text_test.h"

/* ---- vocabularies that are refused ----------------------------------------------------------- */

static void bad_vocabularies_are_refused(void)
{
    static const struct text_span good[] = {SPAN("a"), SPAN("b"), SPAN("ab"), SPAN("<s>")};
    static const struct text_span twice[] = {SPAN("a"), SPAN("b"), SPAN("ab"), SPAN("a")};
    static const struct text_span empty[] = {SPAN("a"), SPAN("b"), SPAN("ab"), SPAN("")};
    static const struct text_span space[] = {SPAN("a"), SPAN("b"), SPAN("ab"), SPAN("\xff")};
    static const struct text_span merge[] = {SPAN("a b")};
    static const struct text_span same[] = {SPAN("a b"), SPAN("a b")};
    static const struct text_span left[] = {SPAN("x b")};
    static const struct text_span right[] = {SPAN("a x")};
    static const struct text_span made[] = {SPAN("b a")};
    static const struct text_span one[] = {SPAN("ab")};
    static const struct text_span three[] = {SPAN("a b c")};
    static const uint8_t kinds[] = {0, 0, 0, TOKEN_CONTROL};
    static const uint8_t bytes[] = {0, 0, 0, TOKEN_BYTE};
    static const uint8_t wild[] = {0, 0, 0, 77};
    static const struct {
        struct vocab_spec spec;
        enum status st;
        const char *message;
    } cases[] = {
        {{.origin = "f",
          .model = "wpm",
          .pre = "gpt-2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_UNSUPPORTED,
         "model wpm"},
        {{.origin = "f",
          .model = "spm",
          .pre = "gpt-2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "no scores"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "llama-x",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_UNSUPPORTED,
         "llama-x is not supported; this version has: smollm, gpt-2"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 0,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "0 tokens"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = 4,
          .eos_id = -1},
         ST_FORMAT,
         "BOS token 4"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -2},
         ST_FORMAT,
         "EOS token -2"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1,
          .add_bos = 1},
         ST_FORMAT,
         "a BOS token"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = 1,
          .eos_id = -1,
          .add_bos = 1,
          .add_eos = 1},
         ST_FORMAT,
         "a EOS token"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = twice,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "tokens 0 and 3 are both \"a\""},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = empty,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "token 3 is empty"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = space,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "token 3, \"\xff\", is not UTF-8"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = bytes,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_UNSUPPORTED,
         "token 3 is a byte token"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = wild,
          .n_tokens = 4,
          .merges = merge,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "unknown kind 77"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = same,
          .n_merges = 2,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "merge 1, \"a b\", is there twice"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = left,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "merge 0, \"x b\": its left token is not"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = right,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "its right token"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = made,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "the token it makes is not in the vocabulary"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = one,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "merge 0, \"ab\", is not two tokens"},
        {{.origin = "f",
          .model = "bpe",
          .pre = "gpt2",
          .tokens = good,
          .kinds = kinds,
          .n_tokens = 4,
          .merges = three,
          .n_merges = 1,
          .bos_id = -1,
          .eos_id = -1},
         ST_FORMAT,
         "is not two tokens"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer *t = NULL;

        CHECK_INT(tokenizer_create(&cases[i].spec, &t), cases[i].st);
        CHECK(t == NULL);
        CHECK_HAS(log_last_error(), cases[i].message);
        CHECK_HAS(log_last_error(), "f: ");
        tokenizer_destroy(t);
    }
}

#define SEQUENCE(a, b) "{\"type\": \"Sequence\", \"pretokenizers\": [" a ", " b "]}"
#define DIGITS "{\"type\": \"Digits\", \"individual_digits\": true}"
#define SPLIT(pattern)                                                                             \
    "{\"type\": \"Split\", \"behavior\": \"Isolated\", \"invert\": false, \"pattern\": " pattern "}"
#define REGEX(text) "{\"Regex\": \"" text "\"}"
#define METASPACE                                                                                  \
    "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"first\"}"
#define OF_TYPE(name) "{\"type\": \"" name "\"}"

static void bad_tokenizer_json_is_refused(void)
{
    static const struct {
        struct change change;
        enum status st;
        const char *message;
    } cases[] = {
        {{"normalizer", OF_TYPE("NFKC")}, ST_UNSUPPORTED, "normalizer (NFKC) is not supported"},
        {{"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}, "
                        "\"content\": \"b\"}"},
         ST_UNSUPPORTED,
         "normalizer Replace is supported only of a String"},
        {{"normalizer", "{\"type\": \"Prepend\"}"}, ST_FORMAT, "normalizer.Prepend.prepend"},
        {{"version", "\"2.0\""}, ST_UNSUPPORTED, "version 2.0"},
        {{"version", NULL}, ST_UNSUPPORTED, "version (none)"},
        {{"extra", "1"}, ST_UNSUPPORTED, "the key \"extra\""},
        {{"decoder", OF_TYPE("WordPiece")}, ST_UNSUPPORTED, "decoder WordPiece"},
        {{"decoder", "null"}, ST_UNSUPPORTED, "decoder (no type)"},
        {{"pre_tokenizer", "null"}, ST_UNSUPPORTED, "decoder ByteLevel is not supported beside"},
        {{"pre_tokenizer", OF_TYPE("Whitespace")}, ST_UNSUPPORTED, "pre_tokenizer Whitespace"},
        {{"pre_tokenizer", SEQUENCE(OF_TYPE("Split"), BYTE_LEVEL)},
         ST_UNSUPPORTED,
         "Split.behavior (none)"},
        {{"pre_tokenizer", SEQUENCE(SPLIT("{}"), BYTE_LEVEL)}, ST_FORMAT, "Split.pattern"},
        {{"pre_tokenizer", SEQUENCE(SPLIT(REGEX("a(?<=b)")), BYTE_LEVEL)},
         ST_UNSUPPORTED,
         "pattern a(?<=b) is not supported: this kind of group is not supported at byte 2"},
        {{"pre_tokenizer", SEQUENCE(BYTE_LEVEL, BYTE_LEVEL)}, ST_UNSUPPORTED, "ByteLevel twice"},
        {{"pre_tokenizer", SEQUENCE(METASPACE, BYTE_LEVEL)}, ST_UNSUPPORTED, "beside ByteLevel"},
        {{"pre_tokenizer/pretokenizers/0/individual_digits", NULL}, ST_FORMAT, "individual_digits"},
        {{"pre_tokenizer/pretokenizers/1/add_prefix_space", "true"},
         ST_UNSUPPORTED,
         "ByteLevel.add_prefix_space = true"},
        {{"pre_tokenizer/pretokenizers/1/use_regex", "7"}, ST_FORMAT, "ByteLevel.use_regex"},
        {{"pre_tokenizer/pretokenizers/1/new", "false"}, ST_UNSUPPORTED, "the key \"new\""},
        {{"post_processor", OF_TYPE("RobertaProcessing")}, ST_UNSUPPORTED, "RobertaProcessing"},
        {{"post_processor", OF_TYPE("TemplateProcessing")}, ST_UNSUPPORTED, "[BOS] text [EOS]"},
        {{"model", "[]"}, ST_FORMAT, "model must be an object"},
        {{"model/type", "\"Unigram\""}, ST_UNSUPPORTED, "model Unigram"},
        {{"model/dropout", "0.1"}, ST_UNSUPPORTED, "model.dropout"},
        {{"model/byte_fallback", "true"}, ST_UNSUPPORTED, "model.byte_fallback = true"},
        {{"model/ignore_merges", "7"}, ST_FORMAT, "model.ignore_merges must be true or false"},
        {{"model/end_of_word_suffix", "\"</w>\""}, ST_UNSUPPORTED, "model.end_of_word_suffix"},
        {{"model/continuing_subword_prefix", "\"##\""},
         ST_UNSUPPORTED,
         "continuing_subword_prefix"},
        {{"model/new", "1"}, ST_UNSUPPORTED, "model has the key \"new\""},
        {{"model/vocab", "[]"}, ST_FORMAT, "model.vocab must be an object"},
        {{"model/vocab/the", "\"x\""}, ST_FORMAT, "each id in model.vocab"},
        {{"model/vocab/new", "5000"}, ST_FORMAT, "\"new\" has id 5000; ids must be 0 to 1024"},
        {{"model/vocab/new", "-1"}, ST_FORMAT, "has id -1"},
        {{"model/vocab/new", "1023"}, ST_FORMAT, "already that of"},
        {{"model/merges", "7"}, ST_FORMAT, "model.merges must be a list"},
        {{"model/merges/0", "[\"a\"]"}, ST_FORMAT, "each of model.merges"},
        {{"model/merges/0", "7"}, ST_FORMAT, "each of model.merges"},
        {{"model/merges/0", "\"zz top\""}, ST_FORMAT, "its left token is not in the vocabulary"},
        {{"added_tokens", "{}"}, ST_FORMAT, "added_tokens must be a list"},
        {{"added_tokens/0", "{}"}, ST_FORMAT, "each of added_tokens"},
        {{"added_tokens/0/lstrip", "7"}, ST_FORMAT, "lstrip must be true or false"},
        {{"added_tokens/1/new", "true"}, ST_UNSUPPORTED, "the key \"new\""},
        {{"added_tokens/1/id", "9"}, ST_FORMAT, "already that of"},
        {{"added_tokens/1/content", "\"\""}, ST_FORMAT, "already that of"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct change changes[] = {cases[i].change, {NULL, NULL}};
        const char *path = write_changed(changes, NULL);
        struct tokenizer *t = NULL;

        CHECK_INT(tokenizer_load_json(path, &t), cases[i].st);
        CHECK(t == NULL);
        CHECK_HAS(log_last_error(), cases[i].message);
        CHECK_HAS(log_last_error(), path);
        tokenizer_destroy(t);
    }
}

#define ORDERED(id, content, special, normalized)                                                  \
    "{\"id\": " #id ", \"content\": \"" content "\", \"special\": " #special                       \
    ", \"normalized\": " #normalized "}"

/* Added tokens that overlap are refused where the reference would look for them in another order,
 * and only there. */
static void overlapping_added_tokens_are_refused(void)
{
    static const struct {
        const char *token;
        enum status st;
    } cases[] = {
        {ORDERED(1024, "<|im_start|>user", true, false), ST_OK}, /* one search, longest first */
        {ORDERED(1024, "<|im_start|>user", false, false), ST_UNSUPPORTED}, /* holds one */
        {ORDERED(1024, "<|im_start|>user", false, true), ST_OK}, /* both look for it last */
        {ORDERED(1024, "im_start", false, false), ST_OK},        /* the longer one leads anyway */
        {ORDERED(1024, "im_start", false, true), ST_OK},
        {ORDERED(1024, "im_start", true, true), ST_OK},
        {ORDERED(1024, "x<|im", false, false), ST_UNSUPPORTED}, /* begins before */
        {ORDERED(1024, "x<|im", true, true), ST_UNSUPPORTED},
        {ORDERED(1024, "x<|im", false, true), ST_OK},
        {ORDERED(1024, "|>x", false, false), ST_OK}, /* begins after */
        {ORDERED(1024, "<think>", false, false), ST_OK},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct change changes[] = {{"added_tokens/+", cases[i].token}, {NULL, NULL}};
        struct tokenizer *t = NULL;

        CHECK_INT(tokenizer_load_json(write_changed(changes, NULL), &t), cases[i].st);
        if (cases[i].st != ST_OK)
            CHECK_HAS(log_last_error(), "overlap");
        tokenizer_destroy(t);
    }
}

/* What is understood: merges as strings, no model type, BOS and EOS by template, a null dropout,
 * what training left behind. */
static void odd_tokenizer_json_is_read(void)
{
    static const struct change changes[] = {
        {"model/merges", "[\"t h\"]"},
        {"model/type", NULL},
        {"model/dropout", "0.0"},
        {"truncation", "{\"max_length\": 1}"},
        {"padding", "{\"pad_id\": 1}"},
        {"model/unk_token", "\"<|im_end|>\""},
        {"model/end_of_word_suffix", "\"\""},
        {"post_processor",
         "{\"type\": \"Sequence\", \"processors\": [" BYTE_LEVEL ", " TEMPLATE_BOS "]}"},
        {NULL, NULL},
    };
    struct tokenizer *t = NULL;
    struct token_list list = {0};
    struct row_error err;

    CHECK(tokenizer_load_json(
              write_changed(changes, "{\"model_max_length\": 1000000000000000019884624838656}"),
              &t) == ST_OK);
    CHECK(tokenizer_encode(t, "the", 3, ENCODE_SPECIAL, &list, &err) == ST_OK);
    CHECK_INT(list.n_ids, 3);
    CHECK_INT(list.ids[0], 1);
    CHECK_INT(list.ids[1], tokenizer_find(t, "th"));
    token_list_free(&list);
    tokenizer_destroy(t);
}

static void bad_files_are_refused(void)
{
    static const struct {
        const char *text;
        enum status st;
        const char *message;
    } files[] = {
        {"", ST_FORMAT, "line 1"},
        {"{\"version\": \"1.0\",\n \"model\": }", ST_FORMAT, "line 2 column"},
        {"{\"a\": 1, \"a\": 2}", ST_FORMAT, "duplicate"},
        {"[]", ST_FORMAT, "must be a JSON object"},
        {"{}", ST_UNSUPPORTED, "version"},
    };
    static const struct {
        const char *config, *processor;
        enum status st;
        const char *message;
    } configs[] = {
        {"{\"bos_token\": 7}", "null", ST_FORMAT, "bos_token in tokenizer_config.json"},
        {"{\"eos_token\": \"</s>\"}", "null", ST_FORMAT, "eos_token \"</s>\""},
        {"{\"add_bos_token\": true}", "null", ST_FORMAT, "names none"},
        {"{\"add_eos_token\": 1}", "null", ST_FORMAT, "add_eos_token"},
        {"{\"add_prefix_space\": true}", "null", ST_UNSUPPORTED, "add_prefix_space"},
        {"{\"bos_token\": \"<|im_end|>\"}", TEMPLATE_BOS, ST_UNSUPPORTED, "bos_token is 2"},
        {"{\"add_bos_token\": false}", TEMPLATE_BOS, ST_UNSUPPORTED, "contradict"},
        {"{", "null", ST_FORMAT, "tokenizer_config.json: line 1"},
    };
    char path[300];
    struct tokenizer *t = NULL;

    snprintf(path, sizeof path, "%s/bad.json", tmp_dir);
    CHECK_INT(tokenizer_load_json(path, &t), ST_IO);
    CHECK_HAS(log_last_error(), path);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        CHECK(file_write_atomic(path, files[i].text, strlen(files[i].text)) == ST_OK);
        CHECK_INT(tokenizer_load_json(path, &t), files[i].st);
        CHECK_HAS(log_last_error(), files[i].message);
        CHECK_HAS(log_last_error(), path);
    }
    unlink(path);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        const struct change changes[] = {{"post_processor", configs[i].processor}, {NULL, NULL}};

        CHECK_INT(tokenizer_load_json(write_changed(changes, configs[i].config), &t),
                  configs[i].st);
        CHECK_HAS(log_last_error(), configs[i].message);
    }
    CHECK(t == NULL);
}

/* Added tokens for which there are no weights are forgotten; other tokens are not. */
static void added_tokens_are_trimmed(void)
{
    static const struct change changes[] = {
        {"added_tokens/+", ADDED(1024, "<image>", true)},
        {"added_tokens/+", ADDED(1025, "<think>", false)},
        {NULL, NULL},
    };
    static const char text[] = "<image><think><|im_end|>";
    struct tokenizer *t = NULL;
    struct token_list list = {0};
    struct row_error err;

    CHECK(tokenizer_load_json(write_changed(changes, NULL), &t) == ST_OK);
    CHECK(tokenizer_encode(t, text, sizeof text - 1, ENCODE_PARSE_SPECIAL, &list, &err) == ST_OK);
    CHECK(list.n_ids == 3 && list.ids[0] == 1024 && list.ids[1] == 1025 && list.ids[2] == 2);
    CHECK(tokenizer_trim(t, 1025) == ST_OK);
    list.n_ids = 0;
    CHECK(tokenizer_encode(t, text, sizeof text - 1, ENCODE_PARSE_SPECIAL, &list, &err) == ST_OK);
    CHECK(list.n_ids > 3 && list.ids[0] == 1024 && list.ids[list.n_ids - 1] == 2);
    for (int64_t i = 0; i < list.n_ids; i++)
        CHECK(list.ids[i] < 1025);
    CHECK_INT(tokenizer_n_tokens(t), 1025);
    CHECK_INT(tokenizer_find(t, "<think>"), -1);
    CHECK_INT(tokenizer_trim(t, 1023), ST_FORMAT);
    token_list_free(&list);
    tokenizer_destroy(t);
}

int main(void)
{
    tmp_begin();
    bad_vocabularies_are_refused();
    bad_tokenizer_json_is_refused();
    overlapping_added_tokens_are_refused();
    odd_tokenizer_json_is_read();
    added_tokens_are_trimmed();
    bad_files_are_refused();
    tmp_end();
    TEST_END();
}
