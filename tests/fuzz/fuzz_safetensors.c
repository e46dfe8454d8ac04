/*
 * fuzz_safetensors.c - any bytes as a safetensors file: refused, or a list of tensors that lie in
 * the file without overlaps; and as the weights of a model of 8-bit floats.
 *
 * Every refusal logs a line: run it with -close_fd_mask=2.
 */
#include <stdlib.h>

#include "model/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* The tensors as a small model of 8-bit floats, with X experts or none; every row that there is can
 * be read. */
static void as_model(struct tensor_list *list, int X)
{
    struct model_source *source = NULL;
    float row[16];

    if (source_begin("fuzz", &source) != ST_OK)
        return;
    source->config = (struct model_config){.family = "llama",
                                           .L = 1,
                                           .D = 16,
                                           .F = 16,
                                           .H = 1,
                                           .K = 1,
                                           .E = 16,
                                           .V = 4,
                                           .tied = true,
                                           .X = X,
                                           .n_used_experts = X / 2};
    source->layers_key = "num_hidden_layers";
    for (int64_t i = 0; i < list->n_tensors; i++)
        list->tensors[i].bound = false;
    source->quant = (struct hf_quant){"_scale_inv", 8, 8};
    if (source_bind(source, &weight_naming_hf, list) == ST_OK) {
        for (int id = 0; id < WEIGHT_COUNT; id++) {
            for (int i = 0; i < weight_times(&source->config, (enum weight_id)id); i++) {
                const struct tensor_view *view = model_source_tensor(source, (enum weight_id)id, i);

                for (int64_t r = 0; view != NULL && r < view->n_rows; r++)
                    model_source_row(source, (enum weight_id)id, i, r, row);
            }
        }
    }
    model_close(source);
}

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
        as_model(&list, 0);
        as_model(&list, 2);
    }
    tensor_list_free(&list);
    arena_destroy(arena);
    return 0;
}
