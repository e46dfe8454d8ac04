/*
 * kernels.h - what libepidote_cuda.so offers: one table of functions in plain C.
 *
 * The program finds the table with dlopen (src/ops/cuda.c), so that it needs no CUDA itself.  Both
 * sides are of one build: `abi` and `n_bytes` tell them apart if they are not.
 *
 * Every function returns 0 or a cudaError_t, which error_text explains.
 */
#ifndef EPIDOTE_KERNELS_H
#define EPIDOTE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { K_ABI = 1 };                       /* changes with the meaning of anything below */
#define K_LIBRARY "libepidote_cuda.so"    /* its name */
#define K_TABLE_NAME "epidote_cuda_table" /* its only symbol */

/* The least that the kernels run on (bf16 mma.sync and cp.async came with it). */
enum { K_MIN_MAJOR = 8, K_MIN_MINOR = 0 };

struct k_device {
    char name[128];
    int major, minor; /* compute capability */
    int n_processors; /* streaming multiprocessors */
    uint64_t memory_bytes;
};

struct k_table {
    int abi;        /* K_ABI */
    size_t n_bytes; /* of this struct */

    /* error_text - of a function's return value; never NULL. */
    const char *(*error_text)(int error);

    /* versions - of the runtime in use and of the newest that the driver knows, as 1000 * major +
     * 10 * minor; 0 for a driver that is not there. */
    int (*versions)(int *out_runtime, int *out_driver);

    /* device_count, device_facts - what this process may use.  Neither sets a context up. */
    int (*device_count)(int *out_n);
    int (*device_facts)(int device, struct k_device *out_facts);
};

/* epidote_cuda_table - the table.  It lives as long as the library. */
const struct k_table *epidote_cuda_table(void);

#ifdef __cplusplus
}
#endif

#endif
