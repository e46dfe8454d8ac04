/*
 * world.h - what the kinds of world share.  Private to this room.
 *
 * A world is its kind's struct with a struct world at its head.  world.c keeps the queues of this
 * rank's stages; a kind moves bytes between ranks and gives what arrives to world_deliver.
 */
#ifndef EPIDOTE_COMM_WORLD_H
#define EPIDOTE_COMM_WORLD_H

#include "comm/comm.h"

struct world_ops {
    /* send - msg goes to another rank; taken over, also on failure. */
    enum status (*send)(struct world *world, int rank, struct msg *msg);
    enum status (*progress)(struct world *world, bool *out_worked);
    bool (*flushed)(const struct world *world);
    enum status (*put)(struct world *world, int rank, int tag, const struct byte_span *spans,
                       int n_spans, struct transfer **out_transfer);
    enum status (*take)(struct world *world, int rank, int tag, const struct byte_span *spans,
                        int n_spans, struct transfer **out_transfer);
    /* (optional) n_heard - as world_n_heard; NULL: 0, always. */
    uint32_t (*n_heard)(const struct world *world, int rank);
    double (*now_s)(const struct world *world);
    /* destroy - frees the kind's own parts and the struct; in_order: as world_destroy. */
    void (*destroy)(struct world *world, bool in_order);
};

struct queue {
    struct msg *first, **last;
};

struct world { /* base of every world */
    const struct world_ops *ops;
    struct plan_layout layout;
    int rank;
    struct queue queues[ROLE_COUNT]; /* of this rank's stages: at most one of a role */
    uint64_t n_sent[MSG_COUNT];
};

/* A kind begins with this and lets world_fini drop the queues. */
void world_init(struct world *world, const struct world_ops *ops, const struct plan_layout *layout,
                int rank);
void world_fini(struct world *world);
/* world_deliver - msg is for a stage of this rank; taken over. */
void world_deliver(struct world *world, struct msg *msg);
/* msg_create - with room for n_bytes of payload, zeroed head. */
struct msg *msg_create(enum msg_type type, struct address from, struct address to, size_t n_bytes);
/* msg_body - where the payload of a message that is being made goes. */
void *msg_body(struct msg *msg);

struct transfer {                            /* base of every kind's transfer */
    bool (*done)(struct transfer *transfer); /* frees it when it says true */
};

#endif
