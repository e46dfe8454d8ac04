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

static const struct plan_kv_args kv_args = {
    .context = 1000,
    .block_tok = 16,
    .decode_batch = 8,
    .block_bytes = 1 << 20,
    .available_bytes = (uint64_t)1 << 40,
    .n_sharing = 1,
    .n_pools = 1,
};

static void kv_sizes(void)
{
    struct row_error why = {""};
    struct plan_kv_args args = kv_args;
    int n = 0;

    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 8 * 63);
    args.available_bytes = (uint64_t)1 << 30; /* a quarter of it: 256 blocks */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 256);
    args.n_sharing = 4;
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 64);
    args.n_sharing = 5; /* a quarter is 51 blocks, and no row of 63: then just one row */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 63);
    args.n_sharing = 13; /* three quarters are 59 blocks */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);
    CHECK_STR(why.text, "a row of the context of 1000 tokens takes 63 MiB of KV blocks, and there "
                        "can be 59 MiB beside weights and the rest: set context = 944 or less");
    args.asked_mib = 63;
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 63);
    args.asked_mib = 62;
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);
    CHECK_STR(why.text, "a row of the context of 1000 tokens takes 63 MiB of KV blocks, and there "
                        "can be 62 MiB (kv_memory_mib): set context = 992 or less, or "
                        "kv_memory_mib = 63 or more");

    args = kv_args;
    args.available_bytes = (uint64_t)1 << 30;
    args.weights_bytes = (uint64_t)512 << 20; /* a quarter of the other half GiB */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 128);
    args.weights_bytes = (uint64_t)2 << 30; /* nothing is left */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);
    CHECK_HAS(why.text, "no context is small enough");
    args.available_bytes = 0; /* a system that does not tell: what the batch wants */
    CHECK(plan_kv_blocks(&args, &n, &why) == ST_OK);
    CHECK_INT(n, 8 * 63);
}

/* Whatever is refused is told the largest context that is not; two pools of a row fit together. */
static void kv_refusals_name_the_largest(void)
{
    for (int seed = 0; seed < 2000; seed++) {
        struct plan_kv_args args = kv_args;
        struct row_error why = {""};
        int n = 0, most = 0;

        args.available_bytes = (uint64_t)(seed * 7919 % 4096) << 19;
        args.weights_bytes = (uint64_t)(seed * 104729 % 512) << 19;
        args.table_bytes = (size_t)(seed % 3) << 16;
        args.n_pools = 1 + seed % 2;
        args.asked_mib = seed % 5 == 0 ? 1 + seed % 70 : 0;
        args.context = 1 + seed * 31 % 20000;
        const enum status st = plan_kv_blocks(&args, &n, &why);
        const uint64_t fixed =
            args.weights_bytes + (uint64_t)plan_blocks(args.context, 16) * args.table_bytes;
        if (st == ST_OK && args.asked_mib == 0 && args.available_bytes > 0)
            CHECK(fixed + (uint64_t)(n * args.n_pools) * args.block_bytes <= args.available_bytes);
        if (st == ST_OK)
            continue;
        const char *told = strstr(why.text, "set context = ");
        CHECK(st == ST_ROW && (told != NULL || strstr(why.text, "no context") != NULL));
        if (told != NULL)
            most = atoi(told + strlen("set context = "));
        CHECK(most < args.context);
        args.context = most;
        CHECK(most == 0 || plan_kv_blocks(&args, &n, &why) == ST_OK);
        args.context = most + 1;
        CHECK(plan_kv_blocks(&args, &n, &why) == ST_ROW);
    }
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

/* What a world of n ranks becomes: "n_prefill n_decode coordinator's-partner", or why not. */
static void layouts(void)
{
    static const struct {
        int n_ranks, prefill, decode; /* asked */
        int got_prefill, got_decode;  /* 0 = refused */
        int first_prefill, first_decode;
    } cases[] = {
        {1, -1, -1, 1, 1, 0, 0}, {2, -1, -1, 1, 1, 0, 1}, {3, -1, -1, 1, 1, 1, 2},
        {4, -1, -1, 1, 2, 1, 2}, {5, -1, -1, 2, 2, 1, 3}, {8, -1, -1, 3, 4, 1, 4},
        {1, 1, 1, 1, 1, 0, 0},   {2, 1, 1, 1, 1, 0, 1},   {4, 1, 3, 1, 3, 0, 1},
        {5, 1, 3, 1, 3, 1, 2},   {4, 3, 1, 3, 1, 0, 3},   {2, 2, 2, 2, 2, 0, 0},
        {3, 2, 2, 2, 2, 1, 1},   {8, 2, -1, 2, 5, 1, 3},  {8, -1, 5, 2, 5, 1, 3},
        {2, 1, -1, 1, 1, 0, 1},  {4, 3, -1, 3, 1, 0, 3},  {1, 1, -1, 1, 1, 0, 0},
        {4, 2, 4, 0, 0, 0, 0},   {8, 2, 2, 0, 0, 0, 0},   {4, 0, 3, 0, 0, 0, 0},
        {4, 3, 0, 0, 0, 0, 0},   {1, 2, 1, 0, 0, 0, 0},   {4, 4, -1, 0, 0, 0, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int asked[ROLE_COUNT] = {[ROLE_COORDINATOR] = -1,
                                       [ROLE_ENCODER] = 0,
                                       [ROLE_PREFILL] = cases[i].prefill,
                                       [ROLE_DECODE] = cases[i].decode,
                                       [ROLE_WATCH] = -1};
        struct plan_layout layout;
        struct row_error why;
        int n_prefill = 0, n_decode = 0, n_idle = 0;

        const enum status st = plan_layout_make(cases[i].n_ranks, asked, &layout, &why);
        CHECK_INT(st, cases[i].got_prefill > 0 ? ST_OK : ST_ROW);
        if (st != ST_OK) {
            CHECK_HAS(why.text, "groups: ");
            continue;
        }
        CHECK_INT(layout.n_stages[ROLE_PREFILL], cases[i].got_prefill);
        CHECK_INT(layout.n_stages[ROLE_DECODE], cases[i].got_decode);
        CHECK_INT(layout.first_rank[ROLE_PREFILL], cases[i].first_prefill);
        CHECK_INT(layout.first_rank[ROLE_DECODE], cases[i].first_decode);
        CHECK_INT(plan_layout_hosts(&layout, 0, ROLE_COORDINATOR), 0);
        for (int rank = 0; rank < layout.n_ranks; rank++) {
            const int p = plan_layout_hosts(&layout, rank, ROLE_PREFILL);
            const int d = plan_layout_hosts(&layout, rank, ROLE_DECODE);

            CHECK_INT(plan_layout_hosts(&layout, rank, ROLE_WATCH), rank);
            CHECK(p < 0 || plan_layout_rank(&layout, ROLE_PREFILL, p) == rank);
            CHECK(d < 0 || plan_layout_rank(&layout, ROLE_DECODE, d) == rank);
            CHECK(plan_layout_computes(&layout, rank) == (p >= 0 || d >= 0));
            n_prefill += p >= 0;
            n_decode += d >= 0;
            n_idle += p < 0 && d < 0;
        }
        CHECK_INT(n_prefill, cases[i].got_prefill);
        CHECK_INT(n_decode, cases[i].got_decode);
        CHECK_INT(n_idle, cases[i].first_prefill); /* at most the coordinator's own rank */
    }
}

/* The same with images: encoders by themselves or beside prefill. */
static void layouts_with_encoders(void)
{
    static const struct {
        int n_ranks, encoder, prefill, decode; /* asked */
        int n[3], first[3];                    /* encoder, prefill, decode; n 0 = refused */
    } cases[] = {
        {1, -1, -1, -1, {1, 1, 1}, {0, 0, 0}}, /* all in one */
        {2, -1, -1, -1, {1, 1, 1}, {0, 0, 1}}, /* coordinator + encoder + prefill | decode */
        {3, -1, -1, -1, {1, 1, 1}, {1, 1, 2}}, /* coordinator | encoder + prefill | decode */
        {4, -1, -1, -1, {1, 1, 1}, {1, 2, 3}}, /* each by itself */
        {5, -1, -1, -1, {1, 2, 1}, {1, 2, 4}}, /* one decode became the encoder */
        {8, -1, -1, -1, {1, 3, 3}, {1, 2, 5}},
        {4, -1, 1, 2, {1, 1, 2}, {0, 1, 2}}, /* the coordinator shares with the encoder */
        {5, -1, 1, 3, {1, 1, 3}, {0, 1, 2}},
        {5, -1, 1, 2, {1, 1, 2}, {1, 2, 3}},
        {4, 2, 1, 1, {2, 1, 1}, {0, 2, 3}},
        {5, 2, 1, 1, {2, 1, 1}, {1, 3, 4}},
        {8, 3, -1, -1, {3, 3, 1}, {1, 4, 7}},
        {4, 2, 2, 2, {2, 2, 2}, {0, 2, 2}}, /* encoders | prefill + decode */
        {2, 2, 2, 2, {2, 2, 2}, {0, 0, 0}}, /* every rank does all */
        {3, 2, 2, 2, {2, 2, 2}, {1, 1, 1}},
        {2, 1, 1, 1, {1, 1, 1}, {0, 1, 1}}, /* the encoder by itself first of all */
        {1, 1, 1, 1, {1, 1, 1}, {0, 0, 0}},
        {4, 2, 2, 1, {2, 2, 1}, {1, 1, 3}}, /* each beside a prefill */
        {4, 2, 1, 2, {0}, {0}},             /* and here there are too few */
        {8, 1, 2, 2, {0}, {0}},
        {2, 3, -1, -1, {0}, {0}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int asked[ROLE_COUNT] = {[ROLE_COORDINATOR] = -1,
                                       [ROLE_ENCODER] = cases[i].encoder,
                                       [ROLE_PREFILL] = cases[i].prefill,
                                       [ROLE_DECODE] = cases[i].decode,
                                       [ROLE_WATCH] = -1};
        struct plan_layout layout;
        struct row_error why;
        const enum status st = plan_layout_make(cases[i].n_ranks, asked, &layout, &why);

        CHECK_INT(st, cases[i].n[0] > 0 ? ST_OK : ST_ROW);
        for (int k = 0; st == ST_OK && k < 3; k++) {
            CHECK_INT(layout.n_stages[ROLE_ENCODER + k], cases[i].n[k]);
            CHECK_INT(layout.first_rank[ROLE_ENCODER + k], cases[i].first[k]);
        }
        for (int rank = 1; st == ST_OK && rank < layout.n_ranks; rank++)
            CHECK(plan_layout_computes(&layout, rank)); /* none has nothing to do */
    }
}

/* Places are never given out twice, neighbours come together again, and what can be had is had. */
static void rooms(void)
{
    enum { N = 200, TAKEN = 24, ROUNDS = 20000 };
    struct plan_extent memory[TAKEN + 1], taken[TAKEN] = {{0, 0}};
    struct plan_room room;
    uint8_t used[N] = {0};
    uint64_t x = 1;

    plan_room_init(&room, N, memory, TAKEN + 1);
    for (int round = 0; round < ROUNDS; round++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        struct plan_extent *extent = &taken[(x >> 33) % TAKEN];
        const int n = 1 + (int)((x >> 41) % 30);

        if (extent->n > 0) {
            memset(used + extent->first, 0, (size_t)extent->n);
            plan_room_give(&room, extent->first, extent->n);
            extent->n = 0;
        } else {
            int run = 0, longest = 0;

            for (int i = 0; i < N; i++) {
                run = used[i] ? 0 : run + 1;
                longest = run > longest ? run : longest;
            }
            *extent = (struct plan_extent){plan_room_take(&room, n), n};
            CHECK((extent->first >= 0) == (longest >= n));
            if (extent->first < 0) {
                extent->n = 0;
                continue;
            }
            for (int i = 0; i < n; i++)
                CHECK_INT(used[extent->first + i]++, 0);
        }
    }
    for (int i = 0; i < TAKEN; i++)
        if (taken[i].n > 0)
            plan_room_give(&room, taken[i].first, taken[i].n);
    CHECK_INT(room.n_free, N);
    CHECK_INT(room.n_extents, 1);
    CHECK_INT(plan_room_take(&room, N), 0);
    CHECK_INT(plan_room_take(&room, 1), -1);
}

static void prompt_routes(void)
{
    const struct plan_queue queues[] = {{500}, {20}, {20}, {700}};

    CHECK_INT(plan_route_prompt(queues, 4, -1), 1);
    CHECK_INT(plan_route_prompt(queues, 4, 3), 3);
    CHECK_INT(plan_route_prompt(queues, 1, -1), 0);
}

/* A row that is begun takes a quarter more than most of the latest 256; the slowest count while
 * there are few. */
static void paces(void)
{
    struct plan_pace pace = {.n_rows = 0};

    CHECK(plan_pace_need_s(&pace, 0) == 0);
    CHECK(plan_pace_need_s(&pace, 8) == 10);
    plan_pace_add(&pace, 40);
    plan_pace_add(&pace, 4);
    CHECK(plan_pace_need_s(&pace, 8) == 50);
    CHECK(plan_pace_need_s(&pace, 80) == 100);
    for (int i = 0; i < 98; i++)
        plan_pace_add(&pace, 4);
    CHECK(plan_pace_need_s(&pace, 80) == 5); /* one straggler of a hundred */
    for (int i = 0; i < 6; i++)
        plan_pace_add(&pace, 40);
    CHECK(plan_pace_need_s(&pace, 0) == 50); /* but not seven */
    for (int i = 0; i < PLAN_PACE_ROWS; i++)
        plan_pace_add(&pace, 2);
    CHECK(plan_pace_need_s(&pace, 0) == 2.5); /* the latest alone count */
}

/* Parts follow one another, hold every row, and differ by one row at most. */
static void shards(void)
{
    int wrong = 0;

    for (uint64_t n_rows = 0; n_rows < 100; n_rows++) {
        for (uint64_t n = 1; n < 40; n++) {
            for (uint64_t i = 0; i < n; i++) {
                const uint64_t size = plan_shard(n_rows, i + 1, n) - plan_shard(n_rows, i, n);

                wrong += size != n_rows / n && size != n_rows / n + 1;
            }
            wrong += plan_shard(n_rows, 0, n) != 0 || plan_shard(n_rows, n, n) != n_rows;
        }
    }
    CHECK_INT(wrong, 0);
    CHECK(plan_shard(UINT64_MAX, UINT32_MAX, UINT32_MAX) == UINT64_MAX);
}

/* Roles that ranks were started for: coordinator, encoders, prefill, decode. */
static void roles(void)
{
    enum { C = ROLE_COORDINATOR, E = ROLE_ENCODER, P = ROLE_PREFILL, D = ROLE_DECODE };
    static const struct {
        int roles[6], n;
        const char *wrong; /* part of the message; NULL: fine */
        int asked[3];      /* encoder, prefill, decode */
    } cases[] = {
        {{C, P, D}, 3, NULL, {0, 1, 1}},
        {{C, E, E, P, D, D}, 6, NULL, {2, 1, 2}},
        {{-1, -1, -1}, 3, NULL, {7, 8, 9}}, /* as they were */
        {{C, P, -1}, 3, "rank 2 was started without --role", {0}},
        {{P, C, D}, 3, "rank 0 was started as prefill", {0}},
        {{C, C, P, D}, 4, "rank 1 was started as coordinator", {0}},
        {{C, D, P}, 3, "rank 2 was started as prefill", {0}},
        {{C, P, E, D}, 4, "rank 2 was started as encoder", {0}},
        {{C, D, D}, 3, "no rank was started as prefill", {0}},
        {{C, E, P}, 3, "no rank was started as decode", {0}},
        {{C}, 1, "no rank was started as prefill", {0}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int asked[ROLE_COUNT] = {[E] = 7, [P] = 8, [D] = 9};
        struct row_error err = {""};
        const enum status st = plan_roles(cases[i].roles, cases[i].n, asked, &err);

        CHECK_INT(st, cases[i].wrong == NULL ? ST_OK : ST_ROW);
        if (cases[i].wrong != NULL)
            CHECK_HAS(err.text, cases[i].wrong);
        for (int k = 0; cases[i].wrong == NULL && k < 3; k++)
            CHECK_INT(asked[E + k], cases[i].asked[k]);
    }
}

int main(void)
{
    needs();
    kv_sizes();
    kv_refusals_name_the_largest();
    routes();
    layouts();
    layouts_with_encoders();
    rooms();
    prompt_routes();
    paces();
    shards();
    roles();
    TEST_END();
}
