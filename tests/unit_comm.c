/* TEST */
/*
 * unit_comm.c - the protocol table, messages as bytes, queues in memory, the choice of a link.
 */
#include "comm/comm.h"
#include "test.h"

static void table(void)
{
    int n_allowed = 0;

    CHECK(msg_allowed(MSG_ADMIT, ROLE_COORDINATOR, ROLE_PREFILL));
    CHECK(!msg_allowed(MSG_ADMIT, ROLE_PREFILL, ROLE_COORDINATOR));
    CHECK(msg_allowed(MSG_GRANT, ROLE_DECODE, ROLE_PREFILL));
    CHECK(!msg_allowed(MSG_DONE, ROLE_DECODE, ROLE_PREFILL));
    for (int type = 0; type < MSG_COUNT; type++)
        for (int from = 0; from < ROLE_COUNT; from++)
            for (int to = 0; to < ROLE_COUNT; to++)
                n_allowed += msg_allowed((enum msg_type)type, (enum role)from, (enum role)to);
    CHECK_INT(n_allowed, 7); /* the lines of comm.h, STOP twice */
}

static const int32_t tokens[] = {5, 6, 7, 300, 2};
static const struct text_span stops[] = {{"\n\n", 2}, {"END", 3}};
static const struct wire_row a_row = {
    .row = 1234567890123,
    .slot = 17,
    .prefill = 1,
    .decode = 2,
    .n_prompt = 5,
    .max_out = 9,
    .n_blocks = 3,
    .n_stops = 2,
    .ignore_eos = true,
    .queue_s = 0.5f,
    .params = {.temperature = 0.7,
               .top_p = 0.9,
               .min_p = 0.01,
               .repetition_penalty = 1.1,
               .top_k = 40,
               .seed = UINT64_MAX,
               .row = 77,
               .sample = 1,
               .n_top = 5},
    .tokens = tokens,
    .stops = stops,
};

static void rows_survive(void)
{
    struct buf buf = {0};
    struct arena *arena = NULL;
    struct wire_row got;

    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(wire_row_pack(&a_row, &buf) == ST_OK);
    CHECK(wire_row_unpack(buf.data, buf.n_bytes, arena, &got) == ST_OK);
    CHECK(got.row == a_row.row && got.slot == 17 && got.prefill == 1 && got.decode == 2);
    CHECK(got.n_prompt == 5 && got.max_out == 9 && got.n_blocks == 3 && got.ignore_eos);
    CHECK(memcmp(got.tokens, tokens, sizeof tokens) == 0);
    CHECK(got.params.seed == UINT64_MAX && got.params.row == 77 && got.params.top_k == 40);
    CHECK(got.params.temperature == 0.7 && got.params.n_top == 5 && got.queue_s == 0.5f);
    CHECK_INT(got.n_stops, 2);
    CHECK(got.stops[1].n_bytes == 3 && memcmp(got.stops[1].data, "END", 3) == 0);
    /* Cut anywhere, or with any byte turned: refused or taken, never a wild read (make asan looks).
     */
    for (size_t n = 0; n < buf.n_bytes; n++) {
        uint8_t *cut = malloc(n > 0 ? n : 1);

        memcpy(cut, buf.data, n);
        CHECK(wire_row_unpack(cut, n, arena, &got) == ST_COMM);
        free(cut);
    }
    for (size_t i = 0; i < buf.n_bytes; i++) {
        buf.data[i] ^= 0x81;
        wire_row_unpack(buf.data, buf.n_bytes, arena, &got);
        buf.data[i] ^= 0x81;
    }
    buf_free(&buf);
    arena_destroy(arena);
}

static void grants_firsts_dones_survive(void)
{
    static const int32_t blocks[] = {3, 4, 9};
    static const uint64_t result[] = {1, 2, 3};
    const struct wire_grant grant = {5, 3, 0xabcdef, blocks};
    const struct wire_done done = {6, result, sizeof result};
    struct wire_first first = {.slot = 7, .wait_s = 1, .prefill_s = 2, .exposed_transfer_s = 3};
    struct wire_grant got_grant;
    struct wire_done got_done;
    struct wire_first got_first;
    struct buf buf = {0};

    CHECK(wire_grant_pack(&grant, &buf) == ST_OK);
    CHECK(wire_grant_unpack(buf.data, buf.n_bytes, &got_grant) == ST_OK);
    CHECK(got_grant.slot == 5 && got_grant.layout_id == 0xabcdef && got_grant.blocks[2] == 9);
    CHECK(wire_grant_unpack(buf.data, buf.n_bytes - 4, &got_grant) == ST_COMM);

    buf_reset(&buf);
    first.first.token = 42;
    first.first.top_ids[63] = 9;
    row_error_set(&first.error, "because");
    CHECK(wire_first_pack(&first, &buf) == ST_OK);
    CHECK(wire_first_unpack(buf.data, buf.n_bytes, &got_first) == ST_OK);
    CHECK(got_first.slot == 7 && got_first.first.token == 42 && got_first.first.top_ids[63] == 9);
    CHECK_STR(got_first.error.text, "because");
    CHECK(wire_first_unpack(buf.data, buf.n_bytes - 8, &got_first) == ST_COMM);

    buf_reset(&buf);
    CHECK(wire_done_pack(&done, &buf) == ST_OK);
    CHECK(wire_done_unpack(buf.data, buf.n_bytes, &got_done) == ST_OK);
    CHECK(got_done.slot == 6 && got_done.result_bytes == sizeof result &&
          memcmp(got_done.result, result, sizeof result) == 0);
    CHECK(wire_done_unpack(buf.data, 7, &got_done) == ST_COMM);
    buf_free(&buf);
}

static void messages_keep_their_order(void)
{
    const int n_stages[ROLE_COUNT] = {1, 0, 2, 1};
    const struct address coordinator = {ROLE_COORDINATOR, 0}, decode = {ROLE_DECODE, 0};
    struct world *world = NULL;
    struct msg *msg;

    CHECK(world_create_local(n_stages, &world) == ST_OK);
    CHECK(world_next(world, decode, &msg) == ST_AGAIN);
    for (int i = 0; i < 10; i++)
        CHECK(world_send(world, MSG_ADMIT, coordinator, (struct address){ROLE_PREFILL, i % 2}, &i,
                         sizeof i) == ST_OK);
    for (int i = 0; i < 10; i++) {
        CHECK(world_next(world, (struct address){ROLE_PREFILL, i % 2}, &msg) == ST_OK);
        CHECK_INT(wire_slot(msg), i);
        CHECK(msg->type == MSG_ADMIT && msg->n_bytes == sizeof i &&
              msg->from.role == ROLE_COORDINATOR);
        CHECK((uintptr_t)msg->payload % 8 == 0);
        msg_free(msg);
    }
    CHECK(world_next(world, (struct address){ROLE_PREFILL, 1}, &msg) == ST_AGAIN);
    CHECK(world_send(world, MSG_STOP, coordinator, decode, NULL, 0) == ST_OK);
    CHECK_INT(world_n_sent(world)[MSG_ADMIT], 10);
    world_destroy(world); /* with a message that nobody took */
}

static void links(void)
{
    struct link_args args = {.name = "auto", .n_slots = 4, .same_rank = true};
    struct link *link = NULL;
    static const int32_t blocks[] = {3, 4};
    const struct wire_grant grant = {1, 2, 0, blocks};
    const int32_t *to = NULL;

    CHECK(link_open(&args, &link) == ST_OK);
    CHECK_STR(link->ops->name, "self");
    CHECK(link->ops->begin(link, &grant, &to) == ST_OK);
    CHECK(to == blocks); /* prefill writes where decode reads: nothing moves */
    CHECK(link->ops->arrived(link, 1));
    link->ops->end(link, 1);
    link_close(link);
    args.name = "nccl";
    CHECK(link_open(&args, &link) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "nccl");
    args.name = "self";
    args.same_rank = false;
    CHECK(link_open(&args, &link) == ST_CONFIG);
}

int main(void)
{
    table();
    rows_survive();
    grants_firsts_dones_survive();
    messages_keep_their_order();
    links();
    TEST_END();
}
