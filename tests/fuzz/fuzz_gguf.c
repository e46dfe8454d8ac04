/*
 * fuzz_gguf.c - any bytes as a GGUF file: refused, or a model whose every row, tokeniser and
 * template can be read; and as one part of a model that is split.
 *
 * Every refusal logs a line: run it with -close_fd_mask=2.
 */
#include <stdlib.h>

#include "model/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void read_all(const struct model_source *source)
{
    const struct model_config *c = model_source_config(source);
    struct tokenizer *tokenizer = NULL;
    const char *text = model_source_chat_template(source);

    if (source_check_config(c, "fuzz") != ST_OK)
        abort();
    for (int id = 0; id < WEIGHT_COUNT; id++) {
        for (int i = 0; i < weight_times(c, (enum weight_id)id); i++) {
            const struct tensor_view *view = model_source_tensor(source, (enum weight_id)id, i);
            float *row = view != NULL ? malloc((size_t)view->n_cols * sizeof *row) : NULL;

            for (int64_t r = 0; view != NULL && r < view->n_rows; r++)
                model_source_row(source, (enum weight_id)id, i, r, row);
            free(row);
        }
    }
    if (model_source_tokenizer(source, &tokenizer) == ST_OK && tokenizer_n_tokens(tokenizer) > c->V)
        abort();
    tokenizer_destroy(tokenizer);
    struct model_sampling sampling;
    if (model_source_sampling(source, &sampling) == ST_OK && !(sampling.temperature >= 0))
        abort();
    if (text != NULL && !utf8_valid(text, strlen(text), NULL))
        abort();
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] < 0 || c->eos_ids[i] >= c->V)
            abort();
}

/* The same bytes as the second of two files. */
static void as_part(const uint8_t *data, size_t n_bytes)
{
    const struct file_map map = {data, n_bytes};
    struct tensor_list list = {0};
    struct arena *arena = NULL;

    if (arena_create(4096, &arena) != ST_OK)
        return;
    if (gguf_split_read(&map, "fuzz", 1, 2, 11, arena, &list) == ST_OK)
        for (int64_t i = 0; i < list.n_tensors; i++)
            if (list.tensors[i].data + list.tensors[i].n_bytes > data + n_bytes)
                abort();
    tensor_list_free(&list);
    arena_destroy(arena);
}

/* The vocabulary alone, of any family: it can encode and decode. */
static void use_vocab(const struct model_source *source)
{
    static const char text[] = " The  <s>ab ab\n12 \xc3\xa9 \xe2\x96\x81";
    struct tokenizer *t = NULL;
    struct detokenizer detok = {0};
    struct token_list list = {0};
    struct buf back = {0};
    struct row_error err;

    if (tokenizer_create(&source->vocab, &t) != ST_OK)
        return;
    if (tokenizer_encode(t, text, sizeof text - 1, ENCODE_SPECIAL | ENCODE_PARSE_SPECIAL, &list,
                         &err) != ST_OK)
        abort();
    for (int64_t i = 0; i < list.n_ids; i++) {
        if (list.ids[i] < 0 || list.ids[i] >= tokenizer_n_tokens(t))
            abort();
        if (detokenizer_add(&detok, t, list.ids[i], &back) != ST_OK)
            abort();
    }
    if (back.n_bytes > 0 && !utf8_valid((const char *)back.data, back.n_bytes, NULL))
        abort();
    tokenizer_destroy(t);
    token_list_free(&list);
    buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct model_source *source = NULL;

    if (source_begin("fuzz.gguf", &source) != ST_OK)
        return 0;
    if (gguf_load_vocab(source, data, n_bytes, "fuzz.gguf") == ST_OK)
        use_vocab(source);
    model_close(source);
    source = NULL;

    if (source_begin("fuzz.gguf", &source) != ST_OK)
        return 0;
    if (gguf_load(source, data, n_bytes, "fuzz.gguf") == ST_OK)
        read_all(source);
    model_close(source);
    as_part(data, n_bytes);
    return 0;
}
