/* TEST */
/*
 * unit_dequant.c - float32 values of stored blocks, bit for bit those of the GGUF reference
 * (tests/golden/dequant/), also where subnormals are flushed to zero.
 */
#include "model/source.h"
#include "test.h"

/* One type of the golden file at *at; returns how many values differ. */
static void one_type(enum tensor_type type, const struct buf *file, size_t *at)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    uint32_t head[3];
    int n_wrong = 0;

    CHECK(file->n_bytes - *at >= sizeof head);
    memcpy(head, file->data + *at, sizeof head);
    *at += sizeof head;
    CHECK_INT(head[1], info->block_elems);
    CHECK_INT(head[2], info->block_bytes);
    const size_t n_elems = (size_t)head[0] * head[1];
    const uint8_t *blocks = file->data + *at, *want = blocks + (size_t)head[0] * head[2];
    float *got = malloc(n_elems * sizeof *got);
    info->dequantize(blocks, head[0], got);
    for (size_t i = 0; i < n_elems; i++)
        n_wrong += memcmp(want + 4 * i, got + i, 4) != 0;
    if (n_wrong > 0)
        fprintf(stderr, "%s: %d of %zu values differ\n", info->name, n_wrong, n_elems);
    CHECK_INT(n_wrong, 0);
    CHECK(n_elems >= 256);
    free(got);
    *at = (size_t)(want - file->data) + 4 * n_elems;
}

static void all_types(void)
{
    struct buf file = {0};
    size_t at = 0;

    CHECK(file_read("tests/golden/dequant/dequant.bin", 1 << 20, &file) == ST_OK);
    for (int type = 0; type < TENSOR_TYPE_COUNT; type++)
        one_type((enum tensor_type)type, &file, &at);
    CHECK_INT(at, file.n_bytes);
    buf_free(&file);
}

int main(void)
{
    all_types();
    threads_set_numeric_mode(); /* as in the threads that load weights */
    all_types();
    TEST_END();
}
