/*
 * fuzz_result.c - any bytes as a packed row; what is accepted must pack into the same row again.
 */
#include <assert.h>
#include <stdlib.h>

#include "data/data.h"
#include "data/result_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    void *copy = malloc(n_bytes > 0 ? n_bytes : 1); /* aligned, and ends where the bytes end */
    struct result_row row, again;
    struct buf packed = {0};

    if (copy == NULL)
        return 0;
    memcpy(copy, data, n_bytes);
    if (result_unpack(copy, n_bytes, &row) == ST_OK) {
        enum status st = result_pack(&row, &packed);

        assert(st == ST_OK && packed.n_bytes == n_bytes);
        st = result_unpack(packed.data, packed.n_bytes, &again);
        assert(st == ST_OK && result_same_answer(&row, &again));
    }
    buf_free(&packed);
    free(copy);
    return 0;
}
