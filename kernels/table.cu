/*
 * table.cu - the one function that libepidote_cuda.so shows, and the table that it gives.
 *
 * Asks the CUDA runtime about devices; knows of kernels only that there are launchers.  Called by
 * src/ops/cuda.c.
 */
#include <stdio.h>

#include "kernels/device.cuh"
#include "kernels/launch.h"

enum { K_NUMERICS_VERSION = 1 }; /* changes with the order of any sum */

static const char *error_text(int error)
{
    return error >= K_ERROR_LT ? k_prefill_error_text(error)
                               : cudaGetErrorString((cudaError_t)error);
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
    snprintf(out_facts->numerics, sizeof out_facts->numerics, K_NUMERICS "sm%d%d-lt%d/%d",
             properties.major, properties.minor, k_prefill_version(), K_NUMERICS_VERSION);
    out_facts->major = properties.major;
    out_facts->minor = properties.minor;
    out_facts->n_processors = properties.multiProcessorCount;
    out_facts->memory_bytes = properties.totalGlobalMem;
    return 0;
}

static int start(int device)
{
    int error = cudaSetDevice(device);

    error = error != cudaSuccess ? error : k_matmul_start();
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
        k_free_bytes,
        k_alloc,
        k_release,
        k_alloc_pinned,
        k_release_pinned,
        k_copy,
        k_stream_create,
        k_stream_destroy,
        k_event_create,
        k_event_destroy,
        k_event_record,
        k_event_query,
        k_event_wait,
        K_PREFILL_ROWS,
        k_prefill_plan_create,
        k_prefill_plan_destroy,
        k_embed,
        k_rmsnorm,
        k_rmsnorm_heads,
        k_rope_kv,
        k_gated,
        k_attention,
        k_matmul,
        k_matmul_prefill,
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
