/*
 * plan.c - sizes, needs and routes as plain arithmetic.
 *
 * The coordinator asks here whenever it decides; nothing here remembers anything.
 */
#include "plan/plan.h"

const char *role_name(enum role role)
{
    static const char *const names[ROLE_COUNT] = {"coordinator", "encoder", "prefill", "decode"};

    return (unsigned)role < ROLE_COUNT ? names[role] : "no role";
}

int plan_output_limit(int n_prompt, int max_tokens, int context)
{
    const int room = context - n_prompt;

    return room < max_tokens ? room : max_tokens;
}

int plan_need_tok(int n_prompt, int max_tokens, int context)
{
    /* The last token sampled is never fed back, so it needs no slot. */
    return n_prompt + plan_output_limit(n_prompt, max_tokens, context) - 1;
}

int plan_blocks(int n_tok, int block_tok)
{
    return (n_tok + block_tok - 1) / block_tok;
}

enum status plan_kv_blocks(const struct plan_kv_args *args, int *out_n_blocks,
                           struct row_error *err)
{
    const uint64_t row_blocks = (uint64_t)plan_blocks(args->context, args->block_tok);
    const uint64_t share = args->available_bytes / (uint64_t)args->n_sharing;
    const uint64_t left = share > args->weights_bytes ? share - args->weights_bytes : 0;
    uint64_t n_blocks = row_blocks * (uint64_t)args->decode_batch;

    if (args->asked_mib > 0)
        n_blocks = ((uint64_t)args->asked_mib << 20) / args->block_bytes;
    else if (args->available_bytes > 0 && n_blocks * args->block_bytes > left / 4)
        n_blocks = left / 4 / args->block_bytes;
    if (n_blocks > INT32_MAX)
        n_blocks = INT32_MAX;
    if (n_blocks < row_blocks)
        return row_error_set(
            err,
            "a KV pool of %llu blocks (%llu MiB) cannot hold one row of %d tokens, "
            "which takes %llu blocks (%llu MiB): raise kv_memory_mib or lower context",
            (unsigned long long)n_blocks,
            (unsigned long long)((n_blocks * args->block_bytes) >> 20), args->context,
            (unsigned long long)row_blocks,
            (unsigned long long)((row_blocks * args->block_bytes + (1 << 20) - 1) >> 20));
    *out_n_blocks = (int)n_blocks;
    return ST_OK;
}

int plan_route(const struct plan_pool *pools, int n_pools, int n_blocks)
{
    int best = -1;

    for (int i = 0; i < n_pools; i++) {
        if (pools[i].n_free_blocks < n_blocks || pools[i].n_rows >= pools[i].max_rows)
            continue;
        if (best < 0 || pools[i].n_free_blocks > pools[best].n_free_blocks)
            best = i;
    }
    return best;
}
