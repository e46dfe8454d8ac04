/*
 * fuzz_safetensors.c - any bytes as a safetensors file: refused, or a list of tensors that lie in
 * the file without overlaps.
 *
 * Every refusal logs a line: run it with -close_fd_mask=2.
 */
#include <stdlib.h>

#include "model/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct tensor_list list = {0};
    struct arena *arena = NULL;
    size_t n_used = 0;

    if (arena_create(4096, &arena) != ST_OK)
        return 0;
    if (safetensors_list(data, n_bytes, "fuzz.safetensors", arena, &list) == ST_OK) {
        for (int64_t i = 0; i < list.n_tensors; i++) {
            const struct source_tensor *t = &list.tensors[i];

            if (t->data < data || t->data + t->n_bytes > data + n_bytes)
                abort();
            n_used += t->n_bytes;
            if (!tensor_name_ok(t->name, strlen(t->name)))
                abort();
        }
        if (n_used > n_bytes)
            abort();
    }
    tensor_list_free(&list);
    arena_destroy(arena);
    return 0;
}
