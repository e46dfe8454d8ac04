/*
 * table.cu - the one function that libepidote_cuda.so shows, and the table that it gives.
 *
 * Asks the CUDA runtime about devices; knows of kernels only that there are launchers.  Called by
 * src/ops/cuda.c.
 */
#include <stdio.h>

#include "kernels/device.cuh"
#include "kernels/launch.h"

static const char *error_text(int error)
{
    return cudaGetErrorString((cudaError_t)error);
}

static int versions(int *out_runtime, int *out_driver)
{
    const cudaError_t error = cudaRuntimeGetVersion(out_runtime);

    return error != cudaSuccess ? error : cudaDriverGetVersion(out_driver);
}

static int device_count(int *out_n)
{
    return cudaGetDeviceCount(out_n);
}

static int device_facts(int device, struct k_device *out_facts)
{
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, device);

    if (error != cudaSuccess)
        return error;
    snprintf(out_facts->name, sizeof out_facts->name, "%.127s", properties.name);
    out_facts->major = properties.major;
    out_facts->minor = properties.minor;
    out_facts->n_processors = properties.multiProcessorCount;
    out_facts->memory_bytes = properties.totalGlobalMem;
    return 0;
}

static int start(void)
{
    const int error = k_matmul_start();

    return error != cudaSuccess ? error : k_prefill_start();
}

extern "C" K_SHOWN const struct k_table *epidote_cuda_table(void)
{
    static const struct k_table table = {
        K_ABI,
        sizeof table,
        error_text,
        versions,
        device_count,
        device_facts,
        start,
        k_embed,
        k_rmsnorm,
        k_rmsnorm_heads,
        k_rope_kv,
        k_gated,
        k_attention,
        k_matmul,
        k_logits,
        k_kv_copy,
        k_attention_work_floats,
        k_matmul_work_floats,
        k_logits_work_floats,
        k_prefill,
        k_sample,
        k_sample_work_words,
        k_route,
        k_combine,
        k_assign,
        k_gather,
        k_matmul_experts,
    };

    return &table;
}
