/*
 * checkpoint.h - a Hugging Face checkpoint in memory that a test can spoil and write elsewhere.
 *
 * Understands the safetensors files of tests/golden/ only.
 */
#ifndef EPIDOTE_CHECKPOINT_H
#define EPIDOTE_CHECKPOINT_H

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "rig.h"

struct checkpoint {
    struct buf file, config; /* model.safetensors, config.json */
    struct buf preparation;  /* preprocessor_config.json; empty = none */
    json_t *header;
    uint8_t *data; /* of the tensors; in file */
    char dir[256]; /* where checkpoint_write put it; "" = nowhere yet */
};

/* A tensor's elements in place, in the type of the file. */
struct checkpoint_tensor {
    uint8_t *data;
    size_t n_rows, n_cols, elem_bytes;
    uint32_t one; /* 1.0 in that type */
};

static inline struct checkpoint checkpoint_read(const char *dir)
{
    struct checkpoint cp = {0};
    char path[512];
    uint64_t header_bytes;

    snprintf(path, sizeof path, "%s/config.json", dir);
    RIG_OK(file_read(path, 1u << 20, &cp.config));
    snprintf(path, sizeof path, "%s/preprocessor_config.json", dir);
    if (access(path, R_OK) == 0)
        RIG_OK(file_read(path, 1u << 20, &cp.preparation));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    RIG_OK(file_read(path, 64u << 20, &cp.file));
    memcpy(&header_bytes, cp.file.data, sizeof header_bytes);
    cp.header = json_loadb((const char *)cp.file.data + 8, header_bytes, 0, NULL);
    RIG_OK(cp.header != NULL ? ST_OK : ST_FORMAT);
    cp.data = cp.file.data + 8 + header_bytes;
    return cp;
}

static inline struct checkpoint_tensor checkpoint_tensor(const struct checkpoint *cp,
                                                         const char *name)
{
    const json_t *entry = json_object_get(cp->header, name);
    const json_t *shape = json_object_get(entry, "shape");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));

    RIG_OK(dtype != NULL ? ST_OK : ST_FORMAT); /* no such tensor: the test is wrong */
    const json_int_t at =
        json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
    const bool vector = json_array_size(shape) == 1;
    return (struct checkpoint_tensor){
        .data = cp->data + at,
        .n_rows = vector ? 1 : (size_t)json_integer_value(json_array_get(shape, 0)),
        .n_cols = (size_t)json_integer_value(json_array_get(shape, vector ? 0 : 1)),
        .elem_bytes = strcmp(dtype, "F32") == 0 ? 4 : 2,
        .one = strcmp(dtype, "F32") == 0   ? 0x3f800000u
               : strcmp(dtype, "F16") == 0 ? 0x3c00u
                                           : 0x3f80u,
    };
}

static inline struct checkpoint_tensor checkpoint_layer_tensor(const struct checkpoint *cp,
                                                               int layer, const char *name)
{
    char full[128];

    snprintf(full, sizeof full, "model.layers.%d.%s.weight", layer, name);
    return checkpoint_tensor(cp, full);
}

/* A bias is a vector: one row. */
static inline struct checkpoint_tensor checkpoint_layer_bias(const struct checkpoint *cp, int layer,
                                                             const char *name)
{
    char full[128];

    snprintf(full, sizeof full, "model.layers.%d.%s.bias", layer, name);
    return checkpoint_tensor(cp, full);
}

/* Set element i to the value whose bits are given. */
static inline void checkpoint_set(const struct checkpoint_tensor *t, size_t i, uint32_t bits)
{
    memcpy(t->data + i * t->elem_bytes, &bits, t->elem_bytes); /* little-endian */
}

/* Set all elements to the value whose bits are given. */
static inline void checkpoint_fill(const struct checkpoint_tensor *t, uint32_t bits)
{
    for (size_t i = 0; i < t->n_rows * t->n_cols; i++)
        checkpoint_set(t, i, bits);
}

/* Row r becomes what row order[r] was. */
static inline void checkpoint_reorder_rows(const struct checkpoint_tensor *t, const int *order)
{
    const size_t row_bytes = t->n_cols * t->elem_bytes;
    uint8_t *old = host_alloc(t->n_rows * row_bytes);

    RIG_OK(old != NULL ? ST_OK : ST_NOMEM);
    memcpy(old, t->data, t->n_rows * row_bytes);
    for (size_t r = 0; r < t->n_rows; r++)
        memcpy(t->data + r * row_bytes, old + (size_t)order[r] * row_bytes, row_bytes);
    host_free(old);
}

/* Column c becomes what column order[c] was. */
static inline void checkpoint_reorder_cols(const struct checkpoint_tensor *t, const int *order)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        struct checkpoint_tensor column = *t;
        /* a row of n columns is a matrix of n rows with one column */
        column.data = t->data + r * t->n_cols * t->elem_bytes;
        column.n_rows = t->n_cols;
        column.n_cols = 1;
        checkpoint_reorder_rows(&column, order);
    }
}

/* Write it to a new temporary folder and return the folder's path, a view. */
static inline const char *checkpoint_write(struct checkpoint *cp)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];

    snprintf(cp->dir, sizeof cp->dir, "%s/epidote-checkpoint-XXXXXX", tmp != NULL ? tmp : "/tmp");
    RIG_OK(mkdtemp(cp->dir) != NULL ? ST_OK : ST_IO);
    snprintf(path, sizeof path, "%s/config.json", cp->dir);
    RIG_OK(file_write_atomic(path, cp->config.data, cp->config.n_bytes));
    snprintf(path, sizeof path, "%s/preprocessor_config.json", cp->dir);
    if (cp->preparation.n_bytes > 0)
        RIG_OK(file_write_atomic(path, cp->preparation.data, cp->preparation.n_bytes));
    snprintf(path, sizeof path, "%s/model.safetensors", cp->dir);
    RIG_OK(file_write_atomic(path, cp->file.data, cp->file.n_bytes));
    return cp->dir;
}

/* Free it and remove the folder. */
static inline void checkpoint_end(struct checkpoint *cp)
{
    char path[512];

    if (cp->dir[0] != '\0') {
        snprintf(path, sizeof path, "%s/config.json", cp->dir);
        unlink(path);
        snprintf(path, sizeof path, "%s/model.safetensors", cp->dir);
        unlink(path);
        snprintf(path, sizeof path, "%s/preprocessor_config.json", cp->dir);
        unlink(path);
        rmdir(cp->dir);
    }
    json_decref(cp->header);
    buf_free(&cp->file);
    buf_free(&cp->config);
    buf_free(&cp->preparation);
}

#endif
