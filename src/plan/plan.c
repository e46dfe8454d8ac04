/*
 * plan.c - sizes, needs and routes as plain arithmetic.
 *
 * The coordinator asks here whenever it decides; nothing here remembers anything.
 */
#include <stdio.h>

#include "plan/plan.h"

const char *role_name(enum role role)
{
    static const char *const names[ROLE_COUNT] = {"coordinator", "encoder", "prefill", "decode",
                                                  "watch"};

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

static unsigned long long mib_up(uint64_t n_bytes)
{
    return (unsigned long long)((n_bytes + (1 << 20) - 1) >> 20);
}

/* The remedies: the largest context that fits, and what would hold the one that does not. */
static enum status refuse_kv(const struct plan_kv_args *args, uint64_t can_bytes,
                             uint64_t most_blocks, struct row_error *err)
{
    const uint64_t need_bytes =
        (uint64_t)plan_blocks(args->context, args->block_tok) * args->block_bytes;
    char other[64] = "", context[64] = "no context is small enough";

    if (most_blocks > 0)
        snprintf(context, sizeof context, "set context = %llu or less",
                 (unsigned long long)most_blocks * (unsigned long long)args->block_tok);
    if (args->asked_mib > 0)
        snprintf(other, sizeof other, ", or kv_memory_mib = %llu or more", mib_up(need_bytes));
    return row_error_set(err,
                         "a row of the context of %d tokens takes %llu MiB of KV blocks, and there "
                         "can be %llu MiB%s: %s%s",
                         args->context, mib_up(need_bytes), (unsigned long long)(can_bytes >> 20),
                         args->asked_mib > 0 ? " (kv_memory_mib)" : " beside weights and the rest",
                         context, other);
}

enum status plan_kv_blocks(const struct plan_kv_args *args, int *out_n_blocks,
                           struct row_error *err)
{
    enum { AIM = 4, MOST_OF_4 = 3 }; /* a quarter; three of four quarters */
    const uint64_t row_blocks = (uint64_t)plan_blocks(args->context, args->block_tok);
    const uint64_t share = args->available_bytes / (uint64_t)args->n_sharing;
    const uint64_t before = args->weights_bytes + row_blocks * args->table_bytes;
    const uint64_t left = share > before ? share - before : 0;
    uint64_t n_blocks = row_blocks * (uint64_t)args->decode_batch;

    if (args->asked_mib > 0) {
        const uint64_t asked_bytes = (uint64_t)args->asked_mib << 20;

        n_blocks = asked_bytes / args->block_bytes;
        if (n_blocks < row_blocks)
            return refuse_kv(args, asked_bytes, n_blocks, err);
    } else if (args->available_bytes > 0 && n_blocks * args->block_bytes > left / AIM) {
        const uint64_t parts = 4 * (uint64_t)args->n_pools; /* of which a row may have 3 */
        const uint64_t with_row =
            share > args->weights_bytes ? share - args->weights_bytes : 0; /* tables and blocks */

        n_blocks = left / AIM / args->block_bytes;
        if (n_blocks < row_blocks)
            n_blocks = row_blocks;
        if (n_blocks == row_blocks && row_blocks * args->block_bytes * parts > MOST_OF_4 * left)
            return refuse_kv(args, MOST_OF_4 * left / parts,
                             MOST_OF_4 * with_row /
                                 (parts * args->block_bytes + MOST_OF_4 * args->table_bytes),
                             err);
    }
    *out_n_blocks = n_blocks < INT32_MAX ? (int)n_blocks : INT32_MAX;
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

int plan_route_prompt(const struct plan_queue *queues, int n_queues, int near)
{
    int best = 0;

    if (near >= 0)
        return near;
    for (int i = 1; i < n_queues; i++)
        if (queues[i].waiting_tok < queues[best].waiting_tok)
            best = i;
    return best;
}

/* ---- who is where --------------------------------------------------------------------------- */

/* Stages of prefill and decode on n ranks of which the first may be the coordinator's alone. */
static void fill_in(int n_ranks, int *prefill, int *decode)
{
    if (*prefill < 0 && *decode < 0) {
        *prefill = n_ranks <= 2 ? 1 : (n_ranks - 1) / 2;
        *decode = n_ranks <= 2 ? 1 : n_ranks - 1 - *prefill;
    } else if (*prefill < 0 || *decode < 0) {
        const int given = *prefill < 0 ? *decode : *prefill;
        const int left = n_ranks == 1 ? given : n_ranks - given > 1 ? n_ranks - 1 - given : 1;

        *prefill = *prefill < 0 ? left : *prefill;
        *decode = *decode < 0 ? left : *decode;
    }
}

/* Where prefill and decode begin when n_own ranks, which follow the coordinator's, are others' own;
 * whether they fit. */
static bool place(int n_ranks, int n_own, int prefill, int decode, struct plan_layout *layout)
{
    const int left = n_ranks - n_own; /* of which rank 0 is one */

    if (prefill + decode == left || prefill + decode == left - 1) {
        layout->first_rank[ROLE_PREFILL] = n_ranks - prefill - decode;
        layout->first_rank[ROLE_DECODE] = n_ranks - decode;
    } else if (prefill == decode && (prefill == left || prefill == left - 1)) {
        layout->first_rank[ROLE_PREFILL] = layout->first_rank[ROLE_DECODE] = n_ranks - prefill;
    } else {
        return false;
    }
    layout->first_rank[ROLE_ENCODER] = layout->first_rank[ROLE_PREFILL] - n_own;
    return layout->first_rank[ROLE_ENCODER] >= 0;
}

enum status plan_layout_make(int n_ranks, const int asked[ROLE_COUNT],
                             struct plan_layout *out_layout, struct row_error *err)
{
    enum { OWN_ENCODER_RANKS = 4 };
    const int encoder = asked[ROLE_ENCODER] >= 0 ? asked[ROLE_ENCODER] : 1;
    struct plan_layout layout = {.n_ranks = n_ranks};
    bool fits = false;
    int prefill = 0, decode = 0;

    if (asked[ROLE_PREFILL] == 0 || asked[ROLE_DECODE] == 0)
        return row_error_set(err,
                             "groups: %s = 0, but every row needs prefill and decode: leave it out "
                             "or give it a rank",
                             asked[ROLE_PREFILL] == 0 ? "prefill" : "decode");
    /* Encoders by themselves first, then beside prefill. */
    for (int own = encoder; own >= 0 && !fits; own -= encoder > 0 ? encoder : 1) {
        if (own > 0 && n_ranks - own < (asked[ROLE_ENCODER] >= 0 ? 1 : OWN_ENCODER_RANKS - own))
            continue;
        prefill = asked[ROLE_PREFILL];
        decode = asked[ROLE_DECODE];
        /* The encoder takes its rank from decode, not from the number that is divided. */
        if (own > 0 && prefill < 0 && decode < 0) {
            fill_in(n_ranks, &prefill, &decode);
            decode -= own;
            if (decode < 1) {
                prefill += decode - 1;
                decode = 1;
            }
        } else {
            fill_in(n_ranks - own, &prefill, &decode);
        }
        fits = prefill >= 1 && place(n_ranks, own, prefill, decode, &layout) &&
               (own > 0 || encoder <= prefill);
    }
    if (!fits)
        return row_error_set(
            err,
            "groups: %d encoder, %d prefill and %d decode do not fill %d rank%s: start %d ranks "
            "(%d with a coordinator of its own), or leave groups out",
            encoder, prefill, decode, n_ranks, n_ranks == 1 ? "" : "s", encoder + prefill + decode,
            encoder + prefill + decode + 1);
    layout.n_stages[ROLE_COORDINATOR] = 1;
    layout.n_stages[ROLE_ENCODER] = encoder;
    layout.n_stages[ROLE_PREFILL] = prefill;
    layout.n_stages[ROLE_DECODE] = decode;
    layout.n_stages[ROLE_WATCH] = n_ranks;
    *out_layout = layout;
    return ST_OK;
}

enum status plan_roles(const int *roles, int n_ranks, int inout_asked[ROLE_COUNT],
                       struct row_error *err)
{
    int counts[ROLE_COUNT] = {0};
    int n_given = 0;

    for (int r = 0; r < n_ranks; r++)
        n_given += roles[r] >= 0;
    if (n_given == 0)
        return ST_OK;
    for (int r = 0; r < n_ranks; r++) {
        if (roles[r] < 0)
            return row_error_set(err,
                                 "rank %d was started without --role, others with it: give one to "
                                 "all ranks or to none",
                                 r);
        if ((roles[r] == ROLE_COORDINATOR) != (r == 0) || (r > 0 && roles[r] < roles[r - 1]))
            return row_error_set(err,
                                 "rank %d was started as %s: rank 0 has to be the coordinator, the "
                                 "only one, and encoder, prefill and decode follow in this order",
                                 r, role_name((enum role)roles[r]));
        counts[roles[r]]++;
    }
    if (counts[ROLE_PREFILL] == 0 || counts[ROLE_DECODE] == 0)
        return row_error_set(err,
                             "no rank was started as %s, and every row needs prefill and decode",
                             counts[ROLE_PREFILL] == 0 ? "prefill" : "decode");
    for (int role = ROLE_ENCODER; role <= ROLE_DECODE; role++)
        inout_asked[role] = counts[role];
    return ST_OK;
}

int plan_layout_rank(const struct plan_layout *layout, enum role role, int index)
{
    return layout->first_rank[role] + index;
}

int plan_layout_hosts(const struct plan_layout *layout, int rank, enum role role)
{
    const int index = rank - layout->first_rank[role];

    return index >= 0 && index < layout->n_stages[role] ? index : -1;
}

bool plan_layout_computes(const struct plan_layout *layout, int rank)
{
    return plan_layout_hosts(layout, rank, ROLE_ENCODER) >= 0 ||
           plan_layout_hosts(layout, rank, ROLE_PREFILL) >= 0 ||
           plan_layout_hosts(layout, rank, ROLE_DECODE) >= 0;
}

uint64_t plan_shard(uint64_t n_rows, uint64_t shard, uint64_t n_shards)
{
    const uint64_t rest = n_rows % n_shards; /* the first `rest` parts have one row more */

    return n_rows / n_shards * shard + (shard < rest ? shard : rest);
}
