/*
 * gguf_copy.h - a GGUF file of tests/golden/, read to be written again in another form.
 */
#ifndef EPIDOTE_GGUF_COPY_H
#define EPIDOTE_GGUF_COPY_H

#include "model/gguf.h"
#include "rig.h"

enum { GGUF_ALIGNMENT = 32, GGUF_HEADER_BYTES = 24, GGUF_N_KEYS_AT = 16 };

struct gguf_copy {
    struct buf file;
    struct arena *arena;
    struct gguf g;
    size_t keys_end; /* byte of the file behind its keys */
    struct tensor_list list;
};

static inline void gguf_copy_read(struct gguf_copy *copy, const char *path)
{
    *copy = (struct gguf_copy){0};
    RIG_OK(file_read(path, 64u << 20, &copy->file));
    RIG_OK(arena_create(4096, &copy->arena));
    copy->g = (struct gguf){.origin = path,
                            .data = copy->file.data,
                            .n_bytes = copy->file.n_bytes,
                            .arena = copy->arena};
    RIG_OK(gguf_read_values(&copy->g));
    copy->keys_end = copy->g.at;
    RIG_OK(gguf_read_tensors(&copy->g, &copy->list));
}

static inline void gguf_copy_end(struct gguf_copy *copy)
{
    tensor_list_free(&copy->list);
    arena_destroy(copy->arena);
    buf_free(&copy->file);
}

static inline void gguf_put_u32(struct buf *out, uint32_t value)
{
    RIG_OK(buf_put(out, &value, sizeof value));
}

static inline void gguf_put_u64(struct buf *out, uint64_t value)
{
    RIG_OK(buf_put(out, &value, sizeof value));
}

static inline void gguf_put_text(struct buf *out, const char *text)
{
    gguf_put_u64(out, strlen(text));
    RIG_OK(buf_puts(out, text));
}

static inline void gguf_align(struct buf *out)
{
    while (out->n_bytes % GGUF_ALIGNMENT != 0)
        RIG_OK(buf_put(out, "", 1));
}

/* The line of the tensor table; type as numbered in the file. */
static inline void gguf_put_tensor(struct buf *out, const struct source_tensor *t, uint32_t type,
                                   uint64_t offset)
{
    gguf_put_text(out, t->name);
    gguf_put_u32(out, (uint32_t)t->n_dims);
    for (int d = t->n_dims - 1; d >= 0; d--)
        gguf_put_u64(out, (uint64_t)t->dims[d]);
    gguf_put_u32(out, type);
    gguf_put_u64(out, offset);
}

/* The number of a type that goldens of families have. */
static inline uint32_t gguf_type_of(const struct source_tensor *t)
{
    RIG_OK(t->type == TENSOR_BF16 || t->type == TENSOR_F32 ? ST_OK : ST_FORMAT);
    return t->type == TENSOR_BF16 ? 30 : 0;
}

#endif
