/*
 * fuzz_picture.c - any bytes as a JPEG or PNG file: an error, or pixels of the size that the header
 * names.
 */
#include <assert.h>

#include "data/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct picture picture = {.rgb = NULL};
    struct row_error err = {.text = ""};
    int width = 0, height = 0;
    const enum status peeked = picture_peek(data, n_bytes, &width, &height, &err);

    assert(peeked == ST_OK || (peeked == ST_ROW && err.text[0] != '\0'));
    if (peeked == ST_OK && (int64_t)width * height > 1 << 22)
        return 0; /* allowed, and slow */
    err.text[0] = '\0';
    const enum status decoded = picture_decode(data, n_bytes, &picture, &err);
    assert(decoded == ST_OK || (decoded == ST_ROW && err.text[0] != '\0'));
    if (decoded == ST_OK) {
        uint64_t hash = hash_bytes(picture.rgb, (size_t)width * (size_t)height * 3, 0);

        assert(peeked == ST_OK && picture.width == width && picture.height == height);
        (void)hash; /* every pixel was read */
    }
    host_free(picture.rgb);
    return 0;
}
