/*
 * frame.c - messages cut into frames and joined again.  No MPI: bytes in, bytes out.
 */
#include <assert.h>

#include "comm/frame.h"
#include "comm/world.h"

enum { FRAME_MAGIC = 0x46697045 /* "EpiF" */, FRAME_VERSION = 1 };

struct head {       /* as it crosses, in the byte order of the machine: ranks run one binary */
    uint64_t check; /* XXH64 of all that follows, payload too */
    uint32_t magic;
    uint16_t version, type;
    uint16_t from_role, to_role;
    int32_t from_index, to_index;
    uint32_t number, n_bytes, reserved;
    uint64_t message_bytes, offset;
};

static_assert(sizeof(struct head) == FRAME_HEAD_BYTES, "no gaps: all bytes are said");

uint64_t frame_check(const uint8_t *bytes, size_t n_bytes)
{
    const size_t skip = sizeof((struct head *)0)->check;

    return hash_bytes(bytes + skip, n_bytes - skip, FRAME_VERSION);
}

void frame_seal(uint8_t *bytes, size_t n_bytes)
{
    const uint64_t check = frame_check(bytes, n_bytes);

    memcpy(bytes + offsetof(struct head, check), &check, sizeof check);
}

size_t frame_pack(const struct frame *frame, uint8_t *out)
{
    const struct head head = {
        .magic = FRAME_MAGIC,
        .version = FRAME_VERSION,
        .type = (uint16_t)frame->type,
        .from_role = (uint16_t)frame->from.role,
        .to_role = (uint16_t)frame->to.role,
        .from_index = frame->from.index,
        .to_index = frame->to.index,
        .number = frame->number,
        .n_bytes = frame->n_bytes,
        .message_bytes = frame->message_bytes,
        .offset = frame->offset,
    };

    assert(frame->n_bytes <= FRAME_PAYLOAD_BYTES);
    memcpy(out, &head, sizeof head);
    if (frame->n_bytes > 0)
        memcpy(out + sizeof head, frame->payload, frame->n_bytes);
    frame_seal(out, sizeof head + frame->n_bytes);
    return sizeof head + frame->n_bytes;
}

static bool has_stage(const struct plan_layout *layout, unsigned role, int32_t index)
{
    return role < ROLE_COUNT && index >= 0 && index < layout->n_stages[role];
}

/* The part of a message that the frame at `offset` has. */
static uint64_t part_bytes(uint64_t message_bytes, uint64_t offset)
{
    const uint64_t left = message_bytes - offset;

    return left < FRAME_PAYLOAD_BYTES ? left : FRAME_PAYLOAD_BYTES;
}

enum status frame_parse(const uint8_t *bytes, size_t n_bytes, const struct plan_layout *layout,
                        struct frame *out_frame, struct row_error *err)
{
    struct head head;

    if (n_bytes < sizeof head || n_bytes > FRAME_BYTES)
        return row_error_set(err, "frame of %zu bytes", n_bytes);
    memcpy(&head, bytes, sizeof head);
    if (head.magic != FRAME_MAGIC || head.version != FRAME_VERSION)
        return row_error_set(err, "frame of another program or version (%08x, %u)", head.magic,
                             head.version);
    if (head.check != frame_check(bytes, n_bytes))
        return row_error_set(err, "frame of %zu bytes arrived damaged", n_bytes);
    if (!has_stage(layout, head.from_role, head.from_index) ||
        !has_stage(layout, head.to_role, head.to_index) ||
        !msg_allowed((enum msg_type)head.type, (enum role)head.from_role, (enum role)head.to_role))
        return row_error_set(err, "%s message from %s/%d to %s/%d, which no stage sends",
                             msg_name((enum msg_type)head.type),
                             role_name((enum role)head.from_role), head.from_index,
                             role_name((enum role)head.to_role), head.to_index);
    if (head.reserved != 0 || head.n_bytes != n_bytes - sizeof head ||
        head.message_bytes > FRAME_MESSAGE_BYTES || head.offset % FRAME_PAYLOAD_BYTES != 0 ||
        head.offset > head.message_bytes ||
        head.n_bytes != part_bytes(head.message_bytes, head.offset) ||
        (head.n_bytes == 0 && head.message_bytes != 0))
        return row_error_set(
            err, "%s frame of %u bytes at %llu of %llu", msg_name((enum msg_type)head.type),
            head.n_bytes, (unsigned long long)head.offset, (unsigned long long)head.message_bytes);
    *out_frame = (struct frame){
        .type = (enum msg_type)head.type,
        .from = {(enum role)head.from_role, head.from_index},
        .to = {(enum role)head.to_role, head.to_index},
        .number = head.number,
        .message_bytes = head.message_bytes,
        .offset = head.offset,
        .n_bytes = head.n_bytes,
        .payload = bytes + sizeof head,
    };
    return ST_OK;
}

static bool same_address(struct address a, struct address b)
{
    return a.role == b.role && a.index == b.index;
}

enum status frame_join_add(struct frame_join *join, const struct frame *frame, struct msg **out_msg,
                           struct row_error *err)
{
    struct msg *msg = join->msg;

    *out_msg = NULL;
    if (frame->number != join->next_number)
        return row_error_set(err, "frame %u came where frame %u had to come", frame->number,
                             join->next_number);
    if (frame->offset != join->n_have ||
        (msg != NULL &&
         (msg->type != frame->type || msg->n_bytes != frame->message_bytes ||
          !same_address(msg->from, frame->from) || !same_address(msg->to, frame->to))))
        return row_error_set(err, "%s frame at %llu of %llu bytes came into another message",
                             msg_name(frame->type), (unsigned long long)frame->offset,
                             (unsigned long long)frame->message_bytes);
    if (msg == NULL) {
        msg = msg_create(frame->type, frame->from, frame->to, (size_t)frame->message_bytes);
        if (msg == NULL)
            return ST_NOMEM;
    }
    memcpy((uint8_t *)msg_body(msg) + frame->offset, frame->payload, frame->n_bytes);
    join->next_number++;
    join->n_have += frame->n_bytes;
    join->msg = msg;
    if (join->n_have < frame->message_bytes)
        return ST_OK;
    join->msg = NULL;
    join->n_have = 0;
    *out_msg = msg;
    return ST_OK;
}

void frame_join_drop(struct frame_join *join)
{
    msg_free(join->msg);
    join->msg = NULL;
    join->n_have = 0;
}
