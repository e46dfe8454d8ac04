/*
 * fuzz_encode.c - any text encodes to known ids in bounded number and comes back as the text, with
 * NUL and ill-formed bytes replaced; conversations and stop lists of any bytes are read or refused.
 */
#include <stdlib.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Every byte, some words and spaces that merge, a control and two user-defined tokens. */
static struct tokenizer *make_tokenizer(void)
{
    static const char *const more[] = {
        "th",  "the",   "\xc4\xa0t",        "\xc4\xa0the",  "\xc4\xa0\xc4\xa0",
        "aa",  "aaaa",  "\xc3\xb0\xc5\x81", "<|im_start|>", "<|im_end|>",
        "<x>", "<x><x>"};
    static const char *const merges[] = {
        "t h", "th e",  "\xc4\xa0 t",       "\xc4\xa0 the", "\xc4\xa0 \xc4\xa0",
        "a a", "aa aa", "\xc3\xb0 \xc5\x81"};
    enum { N_MORE = sizeof more / sizeof more[0], N_MERGES = sizeof merges / sizeof merges[0] };
    static char spelled[256][3];
    static struct text_span tokens[256 + N_MORE], merge_spans[N_MERGES];
    static uint8_t kinds[256 + N_MORE];
    struct tokenizer *t = NULL;
    int next = 256;

    for (int byte = 0; byte < 256; byte++) {
        const bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
        const int code = itself ? byte : next++;

        if (code < 0x80)
            spelled[byte][0] = (char)code;
        else {
            spelled[byte][0] = (char)(0xc0 | code >> 6);
            spelled[byte][1] = (char)(0x80 | (code & 0x3f));
        }
        tokens[byte] = (struct text_span){spelled[byte], code < 0x80 ? 1 : 2};
    }
    for (int i = 0; i < N_MORE; i++) {
        tokens[256 + i] = (struct text_span){more[i], strlen(more[i])};
        kinds[256 + i] = i < 8 ? TOKEN_NORMAL : i < 10 ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    }
    for (int i = 0; i < N_MERGES; i++)
        merge_spans[i] = (struct text_span){merges[i], strlen(merges[i])};
    const struct vocab_spec spec = {.origin = "fuzz",
                                    .model = "bpe",
                                    .pre = "smollm",
                                    .tokens = tokens,
                                    .kinds = kinds,
                                    .n_tokens = 256 + N_MORE,
                                    .merges = merge_spans,
                                    .n_merges = N_MERGES,
                                    .bos_id = -1,
                                    .eos_id = -1};
    if (tokenizer_create(&spec, &t) != ST_OK)
        abort();
    return t;
}

/* ids of data, then back, must be what a repair of data gives. */
static void there_and_back(const struct tokenizer *t, const uint8_t *data, size_t n_bytes,
                           unsigned flags)
{
    struct detokenizer detok = {0}, repair = {0};
    struct buf back = {0}, want = {0};
    struct token_list list = {0};
    struct row_error err;
    bool control = false;

    if (tokenizer_encode(t, (const char *)data, n_bytes, flags | ENCODE_LOSSY, &list, &err) !=
        ST_OK)
        abort();
    if (list.n_ids > 3 * (int64_t)n_bytes)
        abort();
    for (int64_t i = 0; i < list.n_ids; i++) {
        control |= list.ids[i] == 264 || list.ids[i] == 265;
        if (detokenizer_add(&detok, t, list.ids[i], &back) != ST_OK)
            abort();
    }
    for (size_t i = 0; i < n_bytes; i++) /* tokens 0 to 255 are the bytes themselves */
        if (detokenizer_add(&repair, t, data[i], &want) != ST_OK)
            abort();
    if (detokenizer_end(&detok, &back) != ST_OK || detokenizer_end(&repair, &want) != ST_OK)
        abort();
    if (control && !(flags & ENCODE_PARSE_SPECIAL))
        abort();
    if (!control && (back.n_bytes != want.n_bytes ||
                     (want.n_bytes > 0 && memcmp(back.data, want.data, want.n_bytes) != 0)))
        abort();
    token_list_free(&list);
    buf_free(&back);
    buf_free(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static struct tokenizer *t;
    static struct chat_template *chat;
    static struct arena *arena;
    const char *text = (const char *)data;
    struct token_list list = {0};
    struct text_span *stops = NULL;
    struct row_error err;
    int n_stops = 0;
    const struct chat_spec spec = {.name = "smollm2"};

    if (t == NULL) {
        t = make_tokenizer();
        if (chat_template_create(&spec, t, &chat) != ST_OK ||
            arena_create(1 << 16, &arena) != ST_OK)
            abort();
    }
    there_and_back(t, data, n_bytes, 0);
    there_and_back(t, data, n_bytes, ENCODE_PARSE_SPECIAL);
    if (tokenizer_encode(t, text, n_bytes, 0, &list, &err) == ST_OK &&
        !utf8_valid(text, n_bytes, NULL))
        abort();
    chat_encode_messages(chat, t, text, n_bytes, NULL, 0, &list, &err);
    chat_encode_user(chat, t, text, n_bytes, NULL, ENCODE_LOSSY, &list, &err);
    text_stop_list(text, n_bytes, arena, &stops, &n_stops, &err);
    arena_reset(arena);
    token_list_free(&list);
    return 0;
}
