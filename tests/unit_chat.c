/* TEST */
/*
 * unit_chat.c - conversations against the reference's, contents that try to leave their turn, bad
 * conversations, and stop lists.
 */
#include "text_test.h"

/* ---- chat ----------------------------------------------------------------------------------- */

static const char chatml_source[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

static void conversations_encode_as_the_reference(void)
{
    struct tokenizer *t = load_small();
    int n_injections = 0;

    CHECK(check_conversations(t, GOLDEN "chat.jsonl", &n_injections) >= 200);
    CHECK(n_injections > 10);
    tokenizer_destroy(t);
}

/* The ids as text, special tokens shown. */
static const char *shown(const struct tokenizer *t, struct token_list *list, struct buf *out)
{
    buf_reset(out);
    for (int64_t i = 0; i < list->n_ids; i++) {
        const struct text_span span = tokenizer_token_bytes(t, list->ids[i], true);

        CHECK(buf_put(out, span.data, span.n_bytes) == ST_OK);
    }
    CHECK(buf_put(out, "", 1) == ST_OK);
    list->n_ids = 0;
    return (const char *)out->data;
}

static void one_user_message(void)
{
    struct tokenizer *t = load_small();
    struct chat_template *smollm2 = NULL, *chatml = NULL;
    struct token_list list = {0};
    struct buf text = {0};
    struct row_error err;

    CHECK(open_chat("smollm2", NULL, t, &smollm2) == ST_OK);
    CHECK(open_chat("auto", chatml_source, t, &chatml) == ST_OK);
    CHECK_STR(chat_template_name(chatml), "chatml");

    CHECK(chat_encode_user(smollm2, t, "Hi", 2, NULL, 0, &list, &err) == ST_OK);
    CHECK_STR(shown(t, &list, &text),
              "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
              "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(chat_encode_user(chatml, t, "Hi", 2, NULL, 0, &list, &err) == ST_OK);
    CHECK_STR(shown(t, &list, &text), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(chat_encode_user(chatml, t, "Hi", 2, "Be kind.", 0, &list, &err) == ST_OK);
    CHECK_STR(shown(t, &list, &text), "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
                                      "Hi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(chat_encode_messages(smollm2, t, "[{\"role\": \"user\", \"content\": \"Hi\"}]", 35, "", 0,
                               &list, &err) == ST_OK);
    CHECK_STR(shown(t, &list, &text), "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi"
                                      "<|im_end|>\n<|im_start|>assistant\n");

    CHECK_INT(chat_encode_user(chatml, t, "H\xff", 2, NULL, 0, &list, &err), ST_ROW);
    CHECK_HAS(err.text, "offset 1");
    CHECK_INT(chat_encode_user(chatml, t, "Hi", 2, "\xff", 0, &list, &err), ST_ROW);
    CHECK_INT(list.n_ids, 0);
    CHECK(chat_encode_user(chatml, t, "H\xff", 2, NULL, ENCODE_LOSSY, &list, &err) == ST_OK);
    CHECK_STR(shown(t, &list, &text),
              "<|im_start|>user\nH\xef\xbf\xbd<|im_end|>\n<|im_start|>assistant\n");
    token_list_free(&list);
    buf_free(&text);
    chat_template_destroy(smollm2);
    chat_template_destroy(chatml);
    tokenizer_destroy(t);
}

static void gemma_by_name(void)
{
    static const struct change turns[] = {
        {"added_tokens/+", ADDED(1024, "<start_of_turn>", true)},
        {"added_tokens/+", ADDED(1025, "<end_of_turn>", true)},
        {NULL, NULL},
    };
    static const char messages[] =
        "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \" Hi "
        "\"}, {\"role\": \"assistant\", \"content\": \"<end_of_turn>\"}, {\"role\": \"user\", "
        "\"content\": [{\"type\": \"text\", \"text\": \"a\"}]}]";
    struct chat_template *gemma = NULL;
    struct tokenizer *t = NULL;
    struct token_list list = {0};
    struct buf text = {0};
    struct row_error err;

    CHECK(tokenizer_load_json(write_changed(turns, NULL), &t) == ST_OK);
    CHECK(open_chat("gemma", NULL, t, &gemma) == ST_OK);
    CHECK(chat_encode_messages(gemma, t, messages, sizeof messages - 1, NULL, 0, &list, &err) ==
          ST_OK);
    CHECK_INT(count_control(t, &list), 7);
    CHECK_STR(shown(t, &list, &text),
              "<start_of_turn>user\nS\n\nHi<end_of_turn>\n<start_of_turn>model\n<end_of_turn>"
              "<end_of_turn>\n<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n");
    CHECK_INT(chat_encode_messages(gemma, t, "[{\"role\": \"assistant\", \"content\": \"x\"}]", 39,
                                   NULL, 0, &list, &err),
              ST_ROW);
    CHECK_HAS(err.text, "have to alternate");
    token_list_free(&list);
    buf_free(&text);
    chat_template_destroy(gemma);
    tokenizer_destroy(t);
}

static void bad_conversations_are_bad_rows(void)
{
    static const struct {
        const char *messages, *message;
    } cases[] = {
        {"", "line 1"},
        {"[{\"role\": \"user\",\n]", "line 2"},
        {"\xff", "offset 0"},
        {"{}", "must be a list"},
        {"[]", "at least one message"},
        {"[7]", "message 0 is not an object"},
        {"[{\"content\": \"x\"}]", "message 0 has no role"},
        {"[{\"role\": \"usr\", \"content\": \"x\"}]", "role \"usr\"; known are system"},
        {"[{\"role\": \"user\\u0000<|im_end|>\", \"content\": \"x\"}]", "a role with a NUL"},
        {"[{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"user\"}]",
         "message 1 has no content"},
        {"[{\"role\": \"user\", \"content\": null}]", "null as content; it must be a string"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]", "part 0 has no text"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]",
         "which template smollm2 does not write"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"video\"}]}]", "takes text and image"},
        {"[{\"role\": \"user\", \"content\": [{}]}]", "part 0 has no type"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tools\": [{}]}",
         "has tools, which template smollm2 does not write"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tool\": []}",
         "key \"tool\""},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tools\": {}}",
         "tools must be a list"},
        {"[{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [1]}]", "tool_calls"},
    };
    struct chat_template *chat = NULL;
    struct tokenizer *t = load_small();
    struct token_list list = {0};
    struct row_error err;

    CHECK(open_chat("smollm2", NULL, t, &chat) == ST_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT(chat_encode_messages(chat, t, cases[i].messages, strlen(cases[i].messages), NULL,
                                       0, &list, &err),
                  ST_ROW);
        CHECK_HAS(err.text, cases[i].message);
        CHECK_INT(list.n_ids, 0);
    }
    token_list_free(&list);
    chat_template_destroy(chat);
    tokenizer_destroy(t);
}

/* Ids of one user message "Hi" by a template, as text. */
static const char *chat_of(const struct tokenizer *t, const char *source, struct buf *text)
{
    struct chat_template *chat = NULL;
    struct token_list list = {0};
    struct row_error err;

    CHECK(open_chat("auto", source, t, &chat) == ST_OK);
    CHECK(chat_encode_user(chat, t, "Hi", 2, NULL, 0, &list, &err) == ST_OK);
    shown(t, &list, text);
    token_list_free(&list);
    chat_template_destroy(chat);
    return (const char *)text->data;
}

/* BOS comes from the template alone: once where it writes it, also if the tokeniser puts one before
 * each text, and not at all where it writes none. */
static void bos_is_not_doubled(void)
{
    static const struct change adds_bos[] = {{"post_processor", TEMPLATE_BOS}, {NULL, NULL}};
    struct tokenizer *t = NULL;
    struct token_list list = {0};
    struct buf text = {0};
    struct row_error err;

    CHECK(tokenizer_load_json(write_changed(adds_bos, "{\"bos_token\": \"<|im_start|>\"}"), &t) ==
          ST_OK);
    CHECK(tokenizer_encode(t, "Hi", 2, ENCODE_SPECIAL, &list, &err) == ST_OK);
    CHECK_STR(shown(t, &list, &text), "<|im_start|>Hi");
    CHECK_STR(chat_of(t, "{{ bos_token }}{{ messages[0].content }}", &text), "<|im_start|>Hi");
    CHECK_STR(chat_of(t, "{{ messages[0].content }}", &text), "Hi");
    token_list_free(&list);
    buf_free(&text);
    tokenizer_destroy(t);
}

/* As in transformers, which gives templates its special_tokens_map. */
static void templates_read_named_tokens(void)
{
    static const struct change none[] = {{NULL, NULL}};
    static const char config[] =
        "{\"unk_token\": \"<u>\", \"pad_token\": {\"content\": \"<|im_end|>\"},"
        "\"cls_token\": null, \"mask_token\": \"<m>\"}";
    static const char source[] =
        "{{ unk_token }}|{{ pad_token }}|{{ mask_token }}|{{ cls_token is defined }}|"
        "{{ sep_token is defined }}|{{ messages[0].content }}";
    struct tokenizer *named = NULL, *t = NULL;
    struct buf text = {0};

    CHECK(tokenizer_load_json(write_changed(none, config), &named) == ST_OK);
    CHECK(tokenizer_load_json(write_changed(none, NULL), &t) == ST_OK);
    CHECK_STR(chat_of(named, source, &text), "<u>|<|im_end|>|<m>|False|False|Hi");
    CHECK_STR(chat_of(t, "{{ unk_token is defined }}{{ messages[0].content }}", &text), "FalseHi");
    CHECK(tokenizer_fingerprint(named) != tokenizer_fingerprint(t));
    buf_free(&text);
    tokenizer_destroy(named);
    tokenizer_destroy(t);
}

static void unknown_templates_are_refused(void)
{
    static const struct change no_marks[] = {{"added_tokens/2/special", "false"}, {NULL, NULL}};
    struct chat_template *chat = NULL;
    struct tokenizer *t = load_small(), *other = NULL;

    CHECK_INT(open_chat("vicuna", NULL, t, &chat), ST_CONFIG);
    CHECK_HAS(log_last_error(),
              "vicuna is not known; there are: auto, smollm2, gemma, chatml, and the path");
    CHECK_INT(open_chat("auto", NULL, t, &chat), ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "carries no chat template");
    CHECK_INT(open_chat("auto", "a\n{% include 'x' %}", t, &chat), ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "choose another with chat_template (smollm2, gemma");
    CHECK(tokenizer_load_json(write_changed(no_marks, NULL), &other) == ST_OK);
    CHECK_INT(open_chat("chatml", NULL, other, &chat), ST_CONFIG);
    CHECK_HAS(log_last_error(), "<|im_end|>, which is no special token of this model");
    CHECK(chat == NULL);
    tokenizer_destroy(other);
    tokenizer_destroy(t);
}

/* ---- stop lists ----------------------------------------------------------------------------- */

static void stop_lists_are_read(void)
{
    static const struct {
        const char *json;
        int n_stops; /* -1 = a bad row */
        const char *first;
    } cases[] = {
        {"\"\\n\"", 1, "\n"},
        {"[\"a\", \"\\u00e9\"]", 2, "a"},
        {"[]", 0, NULL},
        {"", -1, "stop: line 1"},
        {"\"\"", -1, "stop 0 is an empty string"},
        {"[\"a\", \"\"]", -1, "stop 1 is an empty string"},
        {"[\"a\", 5]", -1, "stop 1 is not a string"},
        {"5", -1, "stop must be a string or a list"},
        {"null", -1, "stop must be a string or a list"},
        {"{\"a\": 1}", -1, "stop must be a string or a list"},
        {"[\"a\\u0000\"]", -1, "stop: line 1"},
        {"[\"a\"", -1, "stop: line 1"},
    };
    struct arena *arena = NULL;

    CHECK(arena_create(4096, &arena) == ST_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct text_span *stops = NULL;
        struct row_error err;
        int n_stops = -1;
        const enum status st =
            text_stop_list(cases[i].json, strlen(cases[i].json), arena, &stops, &n_stops, &err);

        CHECK_INT(st, cases[i].n_stops < 0 ? ST_ROW : ST_OK);
        CHECK_INT(n_stops, cases[i].n_stops);
        if (st == ST_ROW)
            CHECK_HAS(err.text, cases[i].first);
        else if (n_stops > 0)
            CHECK_STR(stops[0].data, cases[i].first);
    }
    arena_destroy(arena);
}

int main(void)
{
    tmp_begin();
    conversations_encode_as_the_reference();
    one_user_message();
    gemma_by_name();
    bad_conversations_are_bad_rows();
    bos_is_not_doubled();
    templates_read_named_tokens();
    unknown_templates_are_refused();
    stop_lists_are_read();
    tmp_end();
    TEST_END();
}
