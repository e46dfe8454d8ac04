/* TEST */
/*
 * unit_comm.c - the protocol table, messages as bytes, queues in memory.
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
    CHECK_INT(n_allowed, 15); /* the lines of comm.h, STOP three times */
}

static const int32_t tokens[] = {5, 6, 7, 300, 2};
static const struct text_span stops[] = {{"\n\n", 2}, {"END", 3}};
static const struct seq_image images[] = {{0, 2, 1, 2}, {3, 1, 1, 1}};
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
    .embed_at = 70,
    .rope_shift = -3,
    .n_images = 2,
    .images = images,
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
    CHECK(got.embed_at == 70 && got.rope_shift == -3 && got.n_images == 2);
    CHECK(memcmp(got.images, images, sizeof images) == 0);
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

/* Images that overlap, are empty, or reach past the prompt. */
static void impossible_images_are_refused(void)
{
    static const struct seq_image bad[][2] = {
        {{0, 2, 1, 2}, {1, 1, 1, 1}},  {{0, 0, 0, 0}, {3, 1, 1, 1}},
        {{0, 2, 1, 2}, {3, 3, 1, 3}},  {{-1, 2, 1, 2}, {3, 1, 1, 1}},
        {{0, 2, -1, 2}, {3, 1, 1, 1}}, {{0, INT32_MAX, 1, 2}, {3, 1, 1, 1}}};
    struct arena *arena = NULL;
    struct wire_row row = a_row, got;
    struct buf buf = {0};

    CHECK(arena_create(4096, &arena) == ST_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        row.images = bad[i];
        buf_reset(&buf);
        CHECK(wire_row_pack(&row, &buf) == ST_OK);
        CHECK(wire_row_unpack(buf.data, buf.n_bytes, arena, &got) == ST_COMM);
    }
    buf_free(&buf);
    arena_destroy(arena);
}

static void encodes_and_embeds_survive(void)
{
    const struct wire_encode encode = {1, 2, 3, 40, 5, 60, 70, 8, 7, 9, UINT64_MAX};
    struct wire_embed embed = {
        .slot = 1, .number = 2, .at = 40, .n_rows = 5, .failed = true, .computed_s = 1e9};
    struct wire_encode got_encode;
    struct wire_embed got_embed;
    struct buf buf = {0};

    CHECK(wire_encode_pack(&encode, &buf) == ST_OK);
    CHECK(wire_encode_unpack(buf.data, buf.n_bytes, &got_encode) == ST_OK);
    CHECK(got_encode.slot == 1 && got_encode.number == 2 && got_encode.prefill == 3);
    CHECK(got_encode.at == 40 && got_encode.n_rows == 5);
    CHECK(got_encode.width == 60 && got_encode.height == 70 && got_encode.image == 8 &&
          got_encode.shown == 7);
    CHECK(got_encode.row == 9 && got_encode.next_use == UINT64_MAX);
    CHECK(wire_encode_unpack(buf.data, buf.n_bytes - 8, &got_encode) == ST_COMM);
    for (int i = 0; i < 6; i++) {
        struct wire_encode bad = encode;

        bad.slot = i == 0 ? COMM_MAX_SLOTS : bad.slot;
        bad.number = i == 1 ? -1 : bad.number;
        bad.prefill = i == 2 ? -1 : bad.prefill;
        bad.at = i == 3 ? -1 : bad.at;
        bad.n_rows = i == 4 ? 0 : bad.n_rows;
        bad.width = i == 5 ? 0 : bad.width;
        buf_reset(&buf);
        CHECK(wire_encode_pack(&bad, &buf) == ST_OK);
        CHECK(wire_encode_unpack(buf.data, buf.n_bytes, &got_encode) == ST_COMM);
    }

    buf_reset(&buf);
    row_error_set(&embed.error, "image 8 is cut off");
    CHECK(wire_embed_pack(&embed, &buf) == ST_OK);
    CHECK(wire_embed_unpack(buf.data, buf.n_bytes, &got_embed) == ST_OK);
    CHECK(got_embed.slot == 1 && got_embed.number == 2 && got_embed.at == 40);
    CHECK(got_embed.n_rows == 5 && got_embed.failed && got_embed.computed_s == 1e9);
    CHECK_STR(got_embed.error.text, "image 8 is cut off");
    CHECK(wire_embed_unpack(buf.data, buf.n_bytes - 8, &got_embed) == ST_COMM);
    memset(embed.error.text, 'x', sizeof embed.error.text); /* a text without an end */
    buf_reset(&buf);
    CHECK(wire_embed_pack(&embed, &buf) == ST_OK);
    CHECK(wire_embed_unpack(buf.data, buf.n_bytes, &got_embed) == ST_COMM);
    buf_free(&buf);
}

static void grants_firsts_dones_survive(void)
{
    static const int32_t blocks[] = {3, 4, 9};
    static const uint64_t result[] = {1, 2, 3};
    const struct wire_grant grant = {5, 3, 0xabcdef, blocks};
    const struct wire_done done = {6, result, sizeof result};
    struct wire_first first = {
        .slot = 7, .n_pieces = 3, .wait_s = 1, .prefill_s = 2, .computed_s = 1e9};
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
    CHECK(got_first.n_pieces == 3 && got_first.prefill_s == 2 && got_first.computed_s == 1e9);
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

static void pieces_and_prefilled_survive(void)
{
    const struct wire_piece piece = {1, 2, 3, 4, 5, 6, 0xabcdef, 4096};
    const struct wire_prefilled prefilled = {8, 77};
    struct wire_piece got_piece;
    struct wire_prefilled got_prefilled;
    struct buf buf = {0};

    CHECK(wire_piece_pack(&piece, &buf) == ST_OK);
    CHECK(wire_piece_unpack(buf.data, buf.n_bytes, &got_piece) == ST_OK);
    CHECK(memcmp(&got_piece, &piece, sizeof piece) == 0);
    CHECK(wire_piece_unpack(buf.data, buf.n_bytes - 1, &got_piece) == ST_COMM);
    for (int i = 0; i < 5; i++) { /* what no row can have */
        struct wire_piece bad = piece;

        bad.slot = i == 0 ? COMM_MAX_SLOTS : bad.slot;
        bad.number = i == 1 ? -1 : bad.number;
        bad.layer = i == 2 ? INT32_MAX : bad.layer;
        bad.n_blocks = i == 3 ? 0 : bad.n_blocks;
        bad.block = i == 4 ? INT32_MAX : bad.block;
        buf_reset(&buf);
        CHECK(wire_piece_pack(&bad, &buf) == ST_OK);
        CHECK(wire_piece_unpack(buf.data, buf.n_bytes, &got_piece) == ST_COMM);
    }

    buf_reset(&buf);
    CHECK(wire_prefilled_pack(&prefilled, &buf) == ST_OK);
    CHECK(wire_prefilled_unpack(buf.data, buf.n_bytes, &got_prefilled) == ST_OK);
    CHECK(got_prefilled.slot == 8 && got_prefilled.n_prompt == 77);
    CHECK(wire_prefilled_unpack(buf.data, buf.n_bytes - 1, &got_prefilled) == ST_COMM);
    buf_free(&buf);
}

static void beats_and_fails_survive(void)
{
    struct wire_beat beat = {
        .rank = 3,
        .n_rows = 4,
        .sent_s = 5,
        .elapsed_s = 6,
        .busy_s = 7,
        .n_steps = 8,
        .n_prompt_tok = 9,
        .n_answer_tok = 10,
        .n_messages = 11,
        .n_pieces = 12,
        .kv_bytes = 13,
        .n_handed = 14,
        .exposed_s = 15,
        .prefill_s = 16,
        .encode = {1, 2, 3, 4, 5, 6, 7, 8, 9},
        .memory_peak_bytes = 17,
        .doing = "decode/1: step of 12 rows, layer 7 of 30",
    };
    struct wire_fail fail = {2, ST_NOMEM, true, "no memory for 7 bytes"};
    struct wire_beat got_beat;
    struct wire_fail got_fail;
    struct buf buf = {0};

    CHECK(wire_beat_pack(&beat, &buf) == ST_OK);
    CHECK(wire_beat_unpack(buf.data, buf.n_bytes, &got_beat) == ST_OK);
    CHECK(memcmp(&got_beat, &beat, sizeof beat) == 0);
    CHECK(wire_beat_unpack(buf.data, buf.n_bytes - 8, &got_beat) == ST_COMM);
    memset(beat.doing, 'x', sizeof beat.doing); /* a text without an end */
    buf_reset(&buf);
    CHECK(wire_beat_pack(&beat, &buf) == ST_OK);
    CHECK(wire_beat_unpack(buf.data, buf.n_bytes, &got_beat) == ST_COMM);

    buf_reset(&buf);
    CHECK(wire_fail_pack(&fail, &buf) == ST_OK);
    CHECK(wire_fail_unpack(buf.data, buf.n_bytes, &got_fail) == ST_OK);
    CHECK(got_fail.rank == 2 && got_fail.status == ST_NOMEM && got_fail.lost);
    CHECK_STR(got_fail.message, fail.message);
    for (int i = 0; i < 3; i++) { /* no failure, no status, a text without an end */
        struct wire_fail bad = fail;

        bad.status = i == 0 ? ST_OK : i == 1 ? ST_COUNT : bad.status;
        if (i == 2)
            memset(bad.message, 'x', sizeof bad.message);
        buf_reset(&buf);
        CHECK(wire_fail_pack(&bad, &buf) == ST_OK);
        CHECK(wire_fail_unpack(buf.data, buf.n_bytes, &got_fail) == ST_COMM);
    }
    buf_free(&buf);
}

/* The world of one rank; unit_virtual has those of several. */
static void messages_keep_their_order(void)
{
    const int asked[ROLE_COUNT] = {-1, 0, -1, -1, -1};
    const struct address coordinator = {ROLE_COORDINATOR, 0}, prefill = {ROLE_PREFILL, 0},
                         decode = {ROLE_DECODE, 0};
    struct plan_layout layout;
    struct row_error why;
    struct world *world = NULL;
    struct msg *msg;
    bool worked = false;

    CHECK(plan_layout_make(1, asked, &layout, &why) == ST_OK);
    CHECK(world_create_local(&layout, &world) == ST_OK);
    CHECK_INT(world_rank(world), 0);
    CHECK_INT(world_layout(world)->n_stages[ROLE_DECODE], 1);
    CHECK(world_next(world, decode, &msg) == ST_AGAIN);
    for (int i = 0; i < 10; i++)
        CHECK(world_send(world, i % 2 == 0 ? MSG_ADMIT : MSG_RESERVE, coordinator,
                         i % 2 == 0 ? prefill : decode, &i, sizeof i) == ST_OK);
    CHECK(world_progress(world, &worked) == ST_OK && !worked && world_flushed(world));
    for (int i = 0; i < 10; i++) {
        CHECK(world_next(world, i % 2 == 0 ? prefill : decode, &msg) == ST_OK);
        CHECK_INT(wire_slot(msg), i);
        CHECK(msg->type == (i % 2 == 0 ? MSG_ADMIT : MSG_RESERVE) && msg->n_bytes == sizeof i &&
              msg->from.role == ROLE_COORDINATOR);
        CHECK((uintptr_t)msg->payload % 8 == 0);
        msg_free(msg);
    }
    CHECK(world_next(world, prefill, &msg) == ST_AGAIN);
    CHECK(world_send(world, MSG_STOP, coordinator, decode, NULL, 0) == ST_OK);
    CHECK_INT(world_n_sent(world)[MSG_ADMIT], 5);
    CHECK_INT(world_n_sent(world)[MSG_STOP], 1);
    world_destroy(world); /* with a message that nobody took */
}

int main(void)
{
    table();
    rows_survive();
    impossible_images_are_refused();
    encodes_and_embeds_survive();
    grants_firsts_dones_survive();
    pieces_and_prefilled_survive();
    beats_and_fails_survive();
    messages_keep_their_order();
    TEST_END();
}
