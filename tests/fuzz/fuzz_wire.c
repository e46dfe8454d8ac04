/*
 * fuzz_wire.c - any bytes as what comes from another rank: frames, alone and in a row, and the
 * content of every message.
 *
 * The first byte says what the rest is.  A checksum that has to fit would end every other try at
 * once, so frames in a row are sealed here; what else is in their heads is the fuzzer's.
 */
#include <assert.h>
#include <stdlib.h>

#include "comm/frame.h"

enum { MOST_BYTES = 1 << 20 }; /* of a message: more would only test malloc */

static const struct plan_layout layout = {
    .n_ranks = 4, .n_stages = {1, 1, 1, 2, 4}, .first_rank = {0, 1, 1, 2, 0}};

/* As it is: what is accepted must pack into the same bytes again. */
static void one_frame(const uint8_t *data, size_t n_bytes)
{
    uint8_t again[FRAME_BYTES];
    struct row_error err;
    struct frame frame;

    if (frame_parse(data, n_bytes, &layout, &frame, &err) != ST_OK)
        return;
    assert(frame_pack(&frame, again) == n_bytes && memcmp(again, data, n_bytes) == 0);
}

/* Each frame with its length before it, in 2 bytes. */
static void many_frames(const uint8_t *data, size_t n_bytes)
{
    struct frame_join join = {0};
    struct row_error err;

    while (n_bytes >= 2) {
        size_t n = (size_t)data[0] | (size_t)data[1] << 8;
        struct frame frame;
        struct msg *msg = NULL;

        data += 2, n_bytes -= 2;
        n = n < n_bytes ? n : n_bytes;
        uint8_t *copy = malloc(n > 0 ? n : 1); /* ends where the frame ends */
        if (copy == NULL)
            break;
        memcpy(copy, data, n);
        if (n >= FRAME_HEAD_BYTES)
            frame_seal(copy, n);
        if (frame_parse(copy, n, &layout, &frame, &err) == ST_OK &&
            frame.message_bytes <= MOST_BYTES &&
            frame_join_add(&join, &frame, &msg, &err) == ST_OK && msg != NULL)
            assert(msg->n_bytes == frame.offset + frame.n_bytes && join.msg == NULL);
        msg_free(msg);
        free(copy);
        data += n, n_bytes -= n;
    }
    frame_join_drop(&join);
}

/* What unpacks must pack again, and that must unpack and have as many bytes. */
#define AGAIN(kind, bytes, n)                                                                      \
    do {                                                                                           \
        struct wire_##kind it;                                                                     \
        if (wire_##kind##_unpack(bytes, n, &it) == ST_OK) {                                        \
            enum status st = wire_##kind##_pack(&it, &packed);                                     \
            assert(st == ST_OK && packed.n_bytes == (n));                                          \
            st = wire_##kind##_unpack(packed.data, packed.n_bytes, &it);                           \
            assert(st == ST_OK);                                                                   \
        }                                                                                          \
    } while (0)

static void row_message(const uint8_t *bytes, size_t n_bytes, struct buf *packed)
{
    struct arena *arena = NULL;
    struct wire_row row;

    if (arena_create(4096, &arena) != ST_OK)
        return;
    if (wire_row_unpack(bytes, n_bytes, arena, &row) == ST_OK) {
        enum status st = wire_row_pack(&row, packed);

        assert(st == ST_OK && packed->n_bytes <= n_bytes); /* bytes after the last stop are lost */
        st = wire_row_unpack(packed->data, packed->n_bytes, arena, &row);
        assert(st == ST_OK);
    }
    arena_destroy(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct buf packed = {0};

    if (n_bytes == 0)
        return 0;
    const uint8_t what = data[0];
    uint8_t *copy = malloc(n_bytes > 1 ? n_bytes - 1 : 1); /* aligned, and ends where it ends */
    if (copy == NULL)
        return 0;
    memcpy(copy, data + 1, --n_bytes);
    switch (what % 12) {
    case 0:
        one_frame(copy, n_bytes);
        break;
    case 1:
        many_frames(copy, n_bytes);
        break;
    case 2:
        row_message(copy, n_bytes, &packed);
        break;
    case 3:
        AGAIN(grant, copy, n_bytes);
        break;
    case 4:
        AGAIN(piece, copy, n_bytes);
        break;
    case 5:
        AGAIN(first, copy, n_bytes);
        break;
    case 6:
        AGAIN(prefilled, copy, n_bytes);
        break;
    case 7:
        AGAIN(done, copy, n_bytes);
        break;
    case 8:
        AGAIN(beat, copy, n_bytes);
        break;
    case 9:
        AGAIN(encode, copy, n_bytes);
        break;
    case 10:
        AGAIN(embed, copy, n_bytes);
        break;
    default:
        AGAIN(fail, copy, n_bytes);
        break;
    }
    buf_free(&packed);
    free(copy);
    return 0;
}
