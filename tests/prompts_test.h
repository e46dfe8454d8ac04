/*
 * prompts_test.h - prompt files, with images or without, written for a test.
 */
#ifndef EPIDOTE_PROMPTS_TEST_H
#define EPIDOTE_PROMPTS_TEST_H

#include <hdf5.h>

#include "data/data.h"
#include "test.h"

static inline hid_t begin_file(const char *path)
{
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);

    CHECK(file >= 0);
    return file;
}

/* n_dims 0: a scalar.  data NULL: nothing is written into it. */
static inline void put_dataset(hid_t file, const char *name, hid_t type, int n_dims,
                               const hsize_t *dims, const void *data)
{
    const hid_t space = n_dims == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(n_dims, dims, NULL);
    const hid_t lcpl = H5Pcreate(H5P_LINK_CREATE);

    H5Pset_create_intermediate_group(lcpl, 1);
    const hid_t dataset = H5Dcreate2(file, name, type, space, lcpl, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(dataset >= 0);
    if (data != NULL)
        CHECK(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
    H5Pclose(lcpl);
    H5Sclose(space);
}

static inline void put_strings(hid_t file, const char *name, hsize_t n, const char *const *texts)
{
    const hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    put_dataset(file, name, type, 1, &n, n > 0 ? (const void *)texts : NULL);
    H5Tclose(type);
}

/* n copies of "text". */
static inline void put_texts(hid_t file, const char *name, hsize_t n)
{
    const char **texts = calloc(n + 1, sizeof *texts);

    for (hsize_t i = 0; i < n; i++)
        texts[i] = "text";
    put_strings(file, name, n, texts);
    free(texts);
}

static inline void put_ints(hid_t file, const char *name, hsize_t n, const int64_t *values)
{
    put_dataset(file, name, H5T_NATIVE_INT64, 1, &n, n > 0 ? values : NULL);
}

/* Files of tests/golden/images, and texts that are none: "=text". */
static inline void put_encoded(hid_t file, const char *const *names, int n)
{
    struct buf bytes = {0};
    int64_t *offsets = calloc((size_t)n + 1, sizeof *offsets);

    for (int i = 0; i < n; i++) {
        char path[128];

        snprintf(path, sizeof path, "tests/golden/images/%s", names[i]);
        if (names[i][0] == '=')
            CHECK(buf_puts(&bytes, names[i] + 1) == ST_OK);
        else
            CHECK(file_read(path, 1 << 20, &bytes) == ST_OK);
        offsets[i + 1] = (int64_t)bytes.n_bytes;
    }
    const hsize_t n_bytes = bytes.n_bytes;
    put_dataset(file, "images/encoded/values", H5T_NATIVE_UINT8, 1, &n_bytes, bytes.data);
    put_ints(file, "images/encoded/offsets", (hsize_t)n + 1, offsets);
    buf_free(&bytes);
    free(offsets);
}

#endif
