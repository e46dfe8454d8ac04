/* TEST */
/*
 * unit_plan.c - the arithmetic of admission.
 */
#include "plan/plan.h"
#include "test.h"

static void needs(void)
{
    CHECK_INT(plan_output_limit(10, 5, 100), 5);
    CHECK_INT(plan_output_limit(98, 5, 100), 2);
    CHECK_INT(plan_output_limit(100, 5, 100), 0);
    CHECK_INT(plan_need_tok(10, 5, 100), 14); /* the last token is never fed back */
    CHECK_INT(plan_need_tok(98, 5, 100), 99);
    CHECK_INT(plan_need_tok(1, 1, 100), 1);
    CHECK_INT(plan_blocks(1, 16), 1);
    CHECK_INT(plan_blocks(16, 16), 1);
    CHECK_INT(plan_blocks(17, 16), 2);
}

static void kv_sizes(void)
{
    struct row_error why = {""};
    int n = 0;
    struct plan_kv_args args = {
        .context = 1000,
        .block_tok = 16,
        .decode_batch = 8,
        .block_bytes = 1 << 20,
        .available_bytes = (uint64_t)1 << 40,
        .n_sharing = 1,
    };

    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 8 * 63);
    args.available_bytes = (uint64_t)1 << 30; /* a quarter of it: 256 blocks */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 256);
    args.n_sharing = 4;
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 64);
    args.n_sharing = 5; /* 51 blocks cannot hold a row of 63 */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);
    CHECK_HAS(why.text, "kv_memory_mib");
    CHECK_HAS(why.text, "63 blocks");
    args.asked_mib = 63;
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 63);
    args.asked_mib = 62;
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);

    args.asked_mib = 0;
    args.n_sharing = 1;
    args.weights_bytes = (uint64_t)512 << 20; /* a quarter of the other half GiB */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 128);
    args.weights_bytes = (uint64_t)2 << 30; /* nothing is left */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);
    args.available_bytes = 0; /* a system that does not tell: what the batch wants */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 8 * 63);
}

static void routes(void)
{
    struct plan_pool pools[3] = {
        {.n_free_blocks = 5, .max_rows = 2},
        {.n_free_blocks = 9, .max_rows = 2},
        {.n_free_blocks = 9, .max_rows = 2},
    };

    CHECK_INT(plan_route(pools, 3, 5), 1); /* most free blocks, lowest index */
    pools[1].n_rows = 2;                   /* full */
    CHECK_INT(plan_route(pools, 3, 5), 2);
    CHECK_INT(plan_route(pools, 3, 10), -1);
    pools[2].n_free_blocks = 4;
    CHECK_INT(plan_route(pools, 3, 5), 0);
    CHECK_INT(plan_route(pools, 3, 6), -1);
}

int main(void)
{
    needs();
    kv_sizes();
    routes();
    TEST_END();
}
