/*
 * managed.cu - managed memory for the tests of kernels on a device; see managed.h.
 *
 * No kernels.
 */
#include <cuda_runtime.h>
#include <stdio.h>

#include "tests/gpu/managed.h"

/* The first device, ready for launchers. */
static void start(void)
{
    static bool started;
    const struct k_table *table = epidote_cuda_table();
    int n = 0, error = table->device_count(&n);

    if (started)
        return;
    if (error == 0)
        error = table->start(0);
    if (error != 0) {
        printf("no device: %s\n", table->error_text(error));
        exit(77);
    }
    started = true;
}

void *managed_alloc(size_t n_bytes)
{
    void *memory = NULL;

    start();
    const cudaError_t error = cudaMallocManaged(&memory, n_bytes > 0 ? n_bytes : 1);
    if (error != cudaSuccess) {
        fprintf(stderr, "%zu bytes of managed memory: %s\n", n_bytes, cudaGetErrorString(error));
        exit(1);
    }
    return memset(memory, 0, n_bytes);
}

void managed_free(void *memory)
{
    const cudaError_t error = cudaFree(memory);

    if (error != cudaSuccess) {
        fprintf(stderr, "freeing managed memory: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

int managed_done(int error)
{
    return error != 0 ? error : (int)cudaDeviceSynchronize();
}
