/*
 * frame.h - messages between ranks as frames: what really crosses.  Private to this room.
 *
 * A message is cut into frames, each with a head that names it and a checksum over everything. Only
 * the last frame of a message is not full.  Frames are so small that every MPI sends them eagerly:
 * they arrive although their sender does nothing more, be it busy or stopped.  (Open MPI sends
 * 4,064 bytes and more between two ranks of a node in several steps where the kernel does not let
 * it read the other's memory; UCX and MPICH begin between 8,000 and 16,000.)
 */
#ifndef EPIDOTE_COMM_FRAME_H
#define EPIDOTE_COMM_FRAME_H

#include "comm/comm.h"

enum {
    FRAME_BYTES = 4000, /* at most, with its head */
    FRAME_HEAD_BYTES = 56,
    FRAME_PAYLOAD_BYTES = FRAME_BYTES - FRAME_HEAD_BYTES,
};
/* The most that a message may have; beyond that a head is taken for damaged. */
#define FRAME_MESSAGE_BYTES (UINT64_C(1) << 30)

struct frame {
    enum msg_type type;
    struct address from, to;
    uint32_t number;                /* 0, 1, ... of those from one rank to another */
    uint64_t message_bytes, offset; /* of the message in all; of this frame in it */
    uint32_t n_bytes;               /* of this frame */
    const uint8_t *payload;         /* [n_bytes]; view */
};

/* frame_pack - into out [FRAME_BYTES].  Returns how many bytes it has.  Pure. */
size_t frame_pack(const struct frame *frame, uint8_t *out);
/* frame_parse - check every field.
 *   layout     in   addresses must be in it
 *   out_frame  out  payload is a view into bytes
 * Pure.  Returns ST_OK, ST_ROW (err says what is wrong). */
enum status frame_parse(const uint8_t *bytes, size_t n_bytes, const struct plan_layout *layout,
                        struct frame *out_frame, struct row_error *err);
/* frame_check - the checksum that these bytes should carry, n_bytes >= FRAME_HEAD_BYTES; frame_seal
 * writes it into them. */
uint64_t frame_check(const uint8_t *bytes, size_t n_bytes);
void frame_seal(uint8_t *bytes, size_t n_bytes);

/* The frames of one sender joined to messages, in the order that they were sent in.  All zero is
 * the state before the first. */
struct frame_join {
    struct msg *msg; /* owned; being joined, NULL between messages */
    uint64_t n_have;
    uint32_t next_number;
};
/* frame_join_add - *out_msg: the message that this frame completed, owned by the caller, else NULL.
 * Returns ST_OK, ST_ROW (err: not the frame that has to come), ST_NOMEM. */
enum status frame_join_add(struct frame_join *join, const struct frame *frame, struct msg **out_msg,
                           struct row_error *err);
/* frame_join_drop - forget what is half there. */
void frame_join_drop(struct frame_join *join);

#endif
