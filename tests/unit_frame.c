/* TEST */
/*
 * unit_frame.c - messages cut into frames and joined again; every damage to a frame is seen.
 */
#include "comm/frame.h"
#include "test.h"

static const struct plan_layout layout = {
    .n_ranks = 4, .n_stages = {1, 0, 1, 2, 4}, .first_rank = {0, 0, 1, 2, 0}};
static const struct address watch_1 = {ROLE_WATCH, 1}, watch_0 = {ROLE_WATCH, 0};

/* A frame of a FAIL message, the nth from its sender. */
static size_t make(uint32_t number, const uint8_t *message, size_t message_bytes, size_t offset,
                   uint8_t *out)
{
    const size_t left = message_bytes - offset;
    const struct frame frame = {
        .type = MSG_FAIL,
        .from = watch_1,
        .to = watch_0,
        .number = number,
        .message_bytes = message_bytes,
        .offset = offset,
        .n_bytes = (uint32_t)(left < FRAME_PAYLOAD_BYTES ? left : FRAME_PAYLOAD_BYTES),
        .payload = message + offset,
    };

    return frame_pack(&frame, out);
}

static void messages_survive(void)
{
    static const size_t sizes[] = {
        0, 1, FRAME_PAYLOAD_BYTES - 1, FRAME_PAYLOAD_BYTES, FRAME_PAYLOAD_BYTES + 1, 100000};
    static uint8_t message[100000], bytes[FRAME_BYTES];
    struct frame_join join = {0};
    struct row_error err;
    uint32_t number = 0;

    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i * 31 + (i >> 8));
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct msg *msg = NULL;
        size_t offset = 0;

        do {
            struct frame frame;
            const size_t n = make(number++, message, sizes[s], offset, bytes);

            CHECK(msg == NULL && n <= FRAME_BYTES);
            CHECK(frame_parse(bytes, n, &layout, &frame, &err) == ST_OK);
            CHECK(frame_join_add(&join, &frame, &msg, &err) == ST_OK);
            offset += frame.n_bytes;
        } while (offset < sizes[s]);
        CHECK(msg != NULL);
        if (msg == NULL)
            continue;
        CHECK(msg->type == MSG_FAIL && msg->from.index == 1 && msg->to.role == ROLE_WATCH);
        CHECK(msg->n_bytes == sizes[s] && memcmp(msg->payload, message, sizes[s]) == 0);
        msg_free(msg);
    }
}

/* Any bit turned, any byte missing or too many: refused. */
static void damage_is_seen(void)
{
    static const uint8_t message[40] = {1, 2, 3};
    uint8_t bytes[FRAME_BYTES];
    const size_t n = make(0, message, sizeof message, 0, bytes);
    struct frame frame;
    struct row_error err;

    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(frame_parse(bytes, n, &layout, &frame, &err) == ST_ROW);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < n; cut++)
        CHECK(frame_parse(bytes, cut, &layout, &frame, &err) == ST_ROW);
    CHECK(frame_parse(bytes, n + 1, &layout, &frame, &err) == ST_ROW);
    CHECK(frame_parse(bytes, n, &layout, &frame, &err) == ST_OK);
}

/* Heads that are sealed well and say what cannot be. */
static void nonsense_is_refused(void)
{
    static const uint8_t message[2 * FRAME_PAYLOAD_BYTES] = {0};
    const struct frame good = {.type = MSG_FAIL,
                               .from = watch_1,
                               .to = watch_0,
                               .message_bytes = 8,
                               .n_bytes = 8,
                               .payload = message};
    struct frame bad[9], got;
    uint8_t bytes[FRAME_BYTES];
    struct row_error err;

    for (int i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].type = MSG_COUNT;
    bad[1].type = MSG_ADMIT; /* no watch sends that */
    bad[2].from.index = 4;   /* the layout has four, 0 to 3 */
    bad[3].to.index = -1;
    bad[4].to.role = ROLE_COUNT;
    bad[5].n_bytes = 7; /* the last frame has what is left */
    bad[6].message_bytes = FRAME_MESSAGE_BYTES + 1;
    bad[6].n_bytes = FRAME_PAYLOAD_BYTES;
    bad[7].offset = 4; /* not where a frame begins */
    bad[7].n_bytes = 4;
    bad[8].offset = FRAME_PAYLOAD_BYTES; /* nothing is left there */
    bad[8].message_bytes = FRAME_PAYLOAD_BYTES;
    bad[8].n_bytes = 0;
    CHECK(frame_parse(bytes, frame_pack(&good, bytes), &layout, &got, &err) == ST_OK);
    for (int i = 0; i < 9; i++)
        CHECK(frame_parse(bytes, frame_pack(&bad[i], bytes), &layout, &got, &err) == ST_ROW);
    CHECK_HAS(err.text, "FAIL frame of 0 bytes at 3944 of 3944");
}

/* Frames that are lost, doubled, swapped, or of another message. */
static void order_is_kept(void)
{
    static const uint8_t message[3 * FRAME_PAYLOAD_BYTES] = {0};
    static uint8_t bytes[4][FRAME_BYTES];
    struct frame frames[4];
    struct row_error err;
    static const int orders[][3] = {{0, 2, -1}, {0, 0, -1}, {1, -1, -1}, {0, 3, -1}};

    for (uint32_t i = 0; i < 3; i++) {
        const size_t n = make(i, message, sizeof message, i * FRAME_PAYLOAD_BYTES, bytes[i]);

        CHECK(frame_parse(bytes[i], n, &layout, &frames[i], &err) == ST_OK);
    }
    const size_t n = make(1, message, 10, 0, bytes[3]); /* right number, another message */
    CHECK(frame_parse(bytes[3], n, &layout, &frames[3], &err) == ST_OK);
    for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
        struct frame_join join = {0};
        struct msg *msg = NULL;
        enum status st = ST_OK;

        for (int i = 0; i < 3 && orders[o][i] >= 0; i++) {
            CHECK(st == ST_OK);
            st = frame_join_add(&join, &frames[orders[o][i]], &msg, &err);
            CHECK(msg == NULL);
        }
        CHECK(st == ST_ROW); /* the last of each order */
        frame_join_drop(&join);
    }
}

int main(void)
{
    messages_survive();
    damage_is_seen();
    nonsense_is_refused();
    order_is_kept();
    TEST_END();
}
