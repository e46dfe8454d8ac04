/*
 * gguf_writer.h - a small valid GGUF file of the llama family as a list of keys and tensors that a
 * test can spoil before it is written.
 */
#ifndef EPIDOTE_GGUF_WRITER_H
#define EPIDOTE_GGUF_WRITER_H

#include <stdio.h>

#include "base/base.h"

enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9, MAX_ITEMS = 64 };
enum { L = 2, D = 32, F = 64, H = 4, K = 2, E = 16, V = 6 };

struct key {
    char name[80];
    uint32_t type;
    struct buf value;
};

struct tensor {
    char name[80];
    uint32_t n_dims, type;
    uint64_t dims[4]; /* innermost first, as in the file */
    uint64_t offset;
    size_t n_bytes, n_cols; /* of what is written, whatever dims says */
};

struct file {
    struct key keys[MAX_ITEMS];
    struct tensor tensors[MAX_ITEMS];
    int n_keys, n_tensors;
    size_t n_data;
};

static inline void put_u32(struct buf *buf, uint32_t value)
{
    buf_put(buf, &value, sizeof value);
}

static inline void put_u64(struct buf *buf, uint64_t value)
{
    buf_put(buf, &value, sizeof value);
}

static inline void put_text(struct buf *buf, const char *text)
{
    put_u64(buf, strlen(text));
    buf_puts(buf, text);
}

/* The key of that name with an empty value, new or emptied. */
static inline struct buf *key(struct file *f, const char *name, uint32_t type)
{
    int i = 0;

    while (i < f->n_keys && strcmp(f->keys[i].name, name) != 0)
        i++;
    if (i == f->n_keys)
        snprintf(f->keys[f->n_keys++].name, sizeof f->keys[i].name, "%s", name);
    f->keys[i].type = type;
    buf_reset(&f->keys[i].value);
    return &f->keys[i].value;
}

static inline void key_u32(struct file *f, const char *name, uint32_t value)
{
    put_u32(key(f, name, U32), value);
}

static inline void key_float(struct file *f, const char *name, float value)
{
    put_u32(key(f, name, F32), bits_from_f32(value));
}

static inline void key_text(struct file *f, const char *name, const char *text)
{
    put_text(key(f, name, STRING), text);
}

static inline void key_texts(struct file *f, const char *name, const char *const *texts, int n)
{
    struct buf *value = key(f, name, ARRAY);

    put_u32(value, STRING);
    put_u64(value, (uint64_t)n);
    for (int i = 0; i < n; i++)
        put_text(value, texts[i]);
}

static inline struct tensor *tensor(struct file *f, const char *name)
{
    for (int i = 0; i < f->n_tensors; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

static inline void add_tensor(struct file *f, const char *name, int n_rows, int n_cols)
{
    struct tensor *t = &f->tensors[f->n_tensors++];

    snprintf(t->name, sizeof t->name, "%s", name);
    t->n_dims = n_rows > 1 ? 2 : 1;
    t->dims[0] = (uint64_t)n_cols;
    t->dims[1] = (uint64_t)n_rows;
    t->n_bytes = (size_t)n_rows * (size_t)n_cols * 4;
    t->n_cols = (size_t)n_cols;
    t->offset = f->n_data;
    f->n_data += (t->n_bytes + 31) / 32 * 32;
}

static inline void fill_keys(struct file *f)
{
    static const char *const tokens[V] = {"<s>", "</s>", "a", "b", "ab", "aab"};
    static const char *const merges[] = {"a b", "a ab"};
    struct buf *kinds;

    key_text(f, "general.architecture", "llama");
    key_text(f, "general.name", "a model");
    key_u32(f, "llama.block_count", L);
    key_u32(f, "llama.embedding_length", D);
    key_u32(f, "llama.feed_forward_length", F);
    key_u32(f, "llama.attention.head_count", H);
    key_u32(f, "llama.attention.head_count_kv", K);
    key_u32(f, "llama.attention.key_length", E);
    key_u32(f, "llama.attention.value_length", E);
    key_u32(f, "llama.context_length", 128);
    key_u32(f, "llama.rope.dimension_count", E);
    key_u32(f, "llama.vocab_size", V);
    key_float(f, "llama.rope.freq_base", 5000.0f);
    key_float(f, "llama.attention.layer_norm_rms_epsilon", 1e-3f);
    key_text(f, "tokenizer.ggml.model", "gpt2");
    key_text(f, "tokenizer.ggml.pre", "smollm");
    key_texts(f, "tokenizer.ggml.tokens", tokens, V);
    key_texts(f, "tokenizer.ggml.merges", merges, 2);
    kinds = key(f, "tokenizer.ggml.token_type", ARRAY);
    put_u32(kinds, I32);
    put_u64(kinds, V);
    for (int i = 0; i < V; i++)
        put_u32(kinds, i < 2 ? 3 : 1);
    key_u32(f, "tokenizer.ggml.bos_token_id", 0);
    key_u32(f, "tokenizer.ggml.eos_token_id", 1);
    key_u32(f, "tokenizer.ggml.eot_token_id", 0);
    key_text(f, "tokenizer.chat_template", "{{ messages }}");
}

static inline void fill(struct file *f)
{
    static const struct {
        const char *name;
        int n_rows, n_cols;
    } of_layer[] = {{"attn_norm", 1, D},  {"attn_q", H * E, D}, {"attn_k", K * E, D},
                    {"attn_v", K * E, D}, {"ffn_norm", 1, D},   {"attn_output", D, H * E},
                    {"ffn_gate", F, D},   {"ffn_up", F, D},     {"ffn_down", D, F}};

    *f = (struct file){0};
    fill_keys(f);
    add_tensor(f, "token_embd.weight", V, D);
    add_tensor(f, "output_norm.weight", 1, D);
    for (int layer = 0; layer < L; layer++) {
        for (size_t i = 0; i < sizeof of_layer / sizeof of_layer[0]; i++) {
            char name[80];

            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, of_layer[i].name);
            add_tensor(f, name, of_layer[i].n_rows, of_layer[i].n_cols);
        }
    }
}

/* Tensor data is float32 t * 10000 + row * 100 + column, where t is the tensor's number. */
static inline void write_file(const struct file *f, struct buf *out)
{
    *out = (struct buf){0};
    buf_puts(out, "GGUF");
    put_u32(out, 3);
    put_u64(out, (uint64_t)f->n_tensors);
    put_u64(out, (uint64_t)f->n_keys);
    for (int i = 0; i < f->n_keys; i++) {
        put_text(out, f->keys[i].name);
        put_u32(out, f->keys[i].type);
        buf_put(out, f->keys[i].value.data, f->keys[i].value.n_bytes);
    }
    for (int i = 0; i < f->n_tensors; i++) {
        const struct tensor *t = &f->tensors[i];

        put_text(out, t->name);
        put_u32(out, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++)
            put_u64(out, d < 4 ? t->dims[d] : 1);
        put_u32(out, t->type);
        put_u64(out, t->offset);
    }
    while (out->n_bytes % 32 != 0)
        buf_put(out, "", 1);
    for (int i = 0; i < f->n_tensors; i++) {
        const struct tensor *t = &f->tensors[i];

        for (size_t e = 0; e < t->n_bytes / 4; e++)
            put_u32(out, bits_from_f32(
                             (float)((size_t)i * 10000 + e / t->n_cols * 100 + e % t->n_cols)));
        while (out->n_bytes % 32 != 0)
            buf_put(out, "", 1);
    }
}

static inline void free_file(struct file *f)
{
    for (int i = 0; i < f->n_keys; i++)
        buf_free(&f->keys[i].value);
}

#endif
