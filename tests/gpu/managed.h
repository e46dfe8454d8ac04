/*
 * managed.h - comes before everything else of a test of kernels (-include), and the test runs on a
 * device: its arrays are in managed memory, which host and device both see, its launches go through
 * the table of libepidote_cuda.so, and each is waited for.
 */
#ifndef EPIDOTE_MANAGED_H
#define EPIDOTE_MANAGED_H

#include <stdlib.h>
#include <string.h>

#include "kernels/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* managed_alloc - zeros; each piece by itself, so that a sanitizer sees what is beyond.  Says why
 * and exits if there is none; the first call starts the device. */
void *managed_alloc(size_t n_bytes);
void managed_free(void *memory);

/* managed_done - what became of a launch: what the launcher said, else what the device says when it
 * has done everything. */
int managed_done(int error);

#ifdef __cplusplus
}
#else

#define malloc(n_bytes) managed_alloc(n_bytes)
#define calloc(n, each) managed_alloc((n) * (each))
#define aligned_alloc(align, n_bytes) managed_alloc(n_bytes)
#define free(memory) managed_free(memory)

#define k_embed(...) managed_done(epidote_cuda_table()->embed(__VA_ARGS__))
#define k_rmsnorm(...) managed_done(epidote_cuda_table()->rmsnorm(__VA_ARGS__))
#define k_rmsnorm_heads(...) managed_done(epidote_cuda_table()->rmsnorm_heads(__VA_ARGS__))
#define k_rope_kv(...) managed_done(epidote_cuda_table()->rope_kv(__VA_ARGS__))
#define k_gated(...) managed_done(epidote_cuda_table()->gated(__VA_ARGS__))
#define k_attention(...) managed_done(epidote_cuda_table()->attention(__VA_ARGS__))
#define k_matmul(...) managed_done(epidote_cuda_table()->matmul(__VA_ARGS__))
#define k_matmul_prefill(...) managed_done(epidote_cuda_table()->matmul_prefill(__VA_ARGS__))
#define k_logits(...) managed_done(epidote_cuda_table()->logits(__VA_ARGS__))
#define k_kv_copy(...) managed_done(epidote_cuda_table()->kv_copy(__VA_ARGS__))
#define k_route(...) managed_done(epidote_cuda_table()->route(__VA_ARGS__))
#define k_combine(...) managed_done(epidote_cuda_table()->combine(__VA_ARGS__))
#define k_assign(...) managed_done(epidote_cuda_table()->assign(__VA_ARGS__))
#define k_gather(...) managed_done(epidote_cuda_table()->gather(__VA_ARGS__))
#define k_matmul_experts(...) managed_done(epidote_cuda_table()->matmul_experts(__VA_ARGS__))
#define k_prefill(...) managed_done(epidote_cuda_table()->prefill(__VA_ARGS__))
#define k_attention_work_floats(...) epidote_cuda_table()->attention_work_floats(__VA_ARGS__)
#define k_matmul_work_floats(...) epidote_cuda_table()->matmul_work_floats(__VA_ARGS__)
#define k_logits_work_floats(...) epidote_cuda_table()->logits_work_floats(__VA_ARGS__)
#define k_prefill_plan_create(...) epidote_cuda_table()->prefill_plan_create(__VA_ARGS__)
#define k_prefill_plan_destroy(...) epidote_cuda_table()->prefill_plan_destroy(__VA_ARGS__)

#endif
#endif
