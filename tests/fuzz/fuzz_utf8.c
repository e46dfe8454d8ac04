/*
 * fuzz_utf8.c - utf8_valid never reads past its input and names an offset inside it.
 */
#include <stdlib.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    size_t bad = 0;

    if (!utf8_valid((const char *)data, n_bytes, &bad) && bad >= n_bytes)
        abort();
    return 0;
}
