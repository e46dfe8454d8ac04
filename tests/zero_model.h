/*
 * zero_model.h - models of any shape whose weights are zero, for benches: the work is that of real
 * ones, and the file of weights is one hole.
 */
#ifndef EPIDOTE_TESTS_ZERO_MODEL_H
#define EPIDOTE_TESTS_ZERO_MODEL_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

/* A model as it is written. */
struct zero_model {
    struct buf json; /* header of its safetensors */
    size_t at;
};

static inline void zero_model_fail(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

/* One tensor of the header; its data is a hole in the file.  cols 0: a vector. */
static inline void zero_model_put(struct zero_model *model, const char *name, int rows, int cols)
{
    const size_t n_bytes = (size_t)rows * (size_t)(cols > 0 ? cols : 1) * 2;
    char shape[48];

    snprintf(shape, sizeof shape, cols > 0 ? "%d,%d" : "%d", rows, cols);
    if (buf_printf(&model->json,
                   "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                   model->json.n_bytes > 0 ? "," : "{", name, shape, model->at,
                   model->at + n_bytes) != ST_OK)
        zero_model_fail("no memory");
    model->at += n_bytes;
}

static inline void zero_model_file(const char *dir, const char *name, const void *head,
                                   size_t head_bytes, size_t n_bytes)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, head, head_bytes) != (ssize_t)head_bytes ||
        ftruncate(fd, (off_t)n_bytes) != 0 || close(fd) != 0)
        zero_model_fail("cannot write the model of zeros");
}

/* DIR/model.safetensors of all tensors that were put, and DIR/config.json. */
static inline void zero_model_write(struct zero_model *model, const char *dir, const char *config)
{
    struct buf file = {0};

    buf_puts(&model->json, "}");
    while (model->json.n_bytes % 8 != 0)
        buf_puts(&model->json, " ");
    const uint64_t n = model->json.n_bytes;
    buf_put(&file, &n, sizeof n);
    buf_put(&file, model->json.data, model->json.n_bytes);
    zero_model_file(dir, "model.safetensors", file.data, file.n_bytes, file.n_bytes + model->at);
    zero_model_file(dir, "config.json", config, strlen(config), strlen(config));
    buf_free(&model->json);
    buf_free(&file);
}

static inline void zero_model_remove(const char *dir)
{
    static const char *const names[] = {"model.safetensors", "config.json",
                                        "preprocessor_config.json", ""};
    char path[4096];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        remove(path);
    }
}

#endif
