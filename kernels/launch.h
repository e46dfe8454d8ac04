/*
 * launch.h - the functions that table.cu puts into the table; kernels.h has their contracts.
 */
#ifndef EPIDOTE_KERNELS_LAUNCH_H
#define EPIDOTE_KERNELS_LAUNCH_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

int k_free_bytes(size_t *out_n_bytes);
int k_alloc(void **out, size_t n_bytes);
int k_release(void *memory);
int k_alloc_pinned(void **out, size_t n_bytes);
int k_release_pinned(void *memory);
int k_copy(void *stream, void *to, const void *from, size_t n_bytes);
int k_stream_create(void **out_stream);
int k_stream_destroy(void *stream);
int k_event_create(void **out_event);
int k_event_destroy(void *event);
int k_event_record(void *event, void *stream);
int k_event_query(void *event, int *out_done);
int k_event_wait(void *event);

int k_embed(void *stream, const struct k_embed_args *args);
int k_rmsnorm(void *stream, const struct k_rmsnorm_args *args);
int k_rmsnorm_heads(void *stream, const struct k_rmsnorm_heads_args *args);
int k_rope_kv(void *stream, const struct k_rope_kv_args *args);
int k_gated(void *stream, const struct k_gated_args *args);

int k_attention(void *stream, const struct k_attention_args *args);
int64_t k_attention_work_floats(int B, int H, int E, int max_pos);
int k_matmul(void *stream, const struct k_matmul_args *args);
int64_t k_matmul_work_floats(int T, int N, int n_in);
/* k_matmul_start - ask for its shared memory, which is more than a kernel has without asking. */
int k_matmul_start(void);

int k_prefill_plan_create(const uint16_t *w, int N, int n_in, void **out_plan);
void k_prefill_plan_destroy(void *plan);
int k_matmul_prefill(void *stream, const struct k_matmul_prefill_args *args);
/* k_prefill_error_text - of an enum k_error.  k_prefill_version - of the library. */
const char *k_prefill_error_text(int error);
int k_prefill_version(void);

int k_logits(void *stream, const struct k_logits_args *args);
int64_t k_logits_work_floats(int T, int V);
int k_kv_copy(void *stream, const struct k_kv_copy_args *args);

int k_prefill(void *stream, const struct k_prefill_args *args);
/* k_prefill_start - ask for its shared memory, as above. */
int k_prefill_start(void);

int k_sample(void *stream, const struct k_sample_args *args);
int64_t k_sample_work_words(int T, int V);
int k_route(void *stream, const struct k_route_args *args);
int k_combine(void *stream, const struct k_combine_args *args);
int k_assign(void *stream, const struct k_assign_args *args);
int k_gather(void *stream, const struct k_gather_args *args);
int k_matmul_experts(void *stream, const struct k_matmul_experts_args *args);

#ifdef __cplusplus
}
#endif

#endif
