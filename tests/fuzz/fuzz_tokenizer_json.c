/*
 * fuzz_tokenizer_json.c - any tokenizer.json is read or refused, and one that is read can encode
 * and decode.
 *
 * The input is written to a file in memory: what is fuzzed is what a user's file goes through.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void use(const struct tokenizer *t)
{
    static const char text[] = "The  <|im_end|>ab ab\n12 \xc3\xa9 \xff";
    struct detokenizer detok = {0};
    struct token_list list = {0};
    struct buf back = {0};
    struct row_error err;

    if (tokenizer_encode(t, text, sizeof text - 1,
                         ENCODE_SPECIAL | ENCODE_PARSE_SPECIAL | ENCODE_LOSSY, &list,
                         &err) != ST_OK)
        abort();
    for (int64_t i = 0; i < list.n_ids; i++) {
        if (list.ids[i] < 0 || list.ids[i] >= tokenizer_n_tokens(t))
            abort();
        if (detokenizer_add(&detok, t, list.ids[i], &back) != ST_OK)
            abort();
    }
    if (!utf8_valid((const char *)back.data, back.n_bytes, NULL))
        abort();
    token_list_free(&list);
    buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static int fd = -1;
    struct tokenizer *t = NULL;
    char path[64];

    if (fd < 0)
        fd = memfd_create("tokenizer.json", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, n_bytes, 0) != (ssize_t)n_bytes)
        abort();
    if (tokenizer_load_json(path, &t) == ST_OK)
        use(t);
    tokenizer_destroy(t);
    return 0;
}
