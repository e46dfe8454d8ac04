/*
 * world.c - messages between the stages of one process, through memory.
 *
 * One queue a stage, first in first out, so pairs of stages are ordered.  Queues are bounded by the
 * protocol: no stage sends more than a few messages per slot.
 */
#include <assert.h>

#include "comm/comm.h"

struct queue {
    struct msg *first, **last;
};

struct world {
    int n_stages[ROLE_COUNT];
    struct queue *queues[ROLE_COUNT]; /* [n_stages] owned */
    uint64_t n_sent[MSG_COUNT];
};

enum status world_create_local(const int n_stages[ROLE_COUNT], struct world **out_world)
{
    struct world *world = host_zalloc(sizeof *world);

    if (world == NULL)
        return ST_NOMEM;
    for (int r = 0; r < ROLE_COUNT; r++) {
        world->n_stages[r] = n_stages[r];
        world->queues[r] = host_zalloc((size_t)n_stages[r] * sizeof *world->queues[r]);
        if (world->queues[r] == NULL) {
            world->n_stages[r] = 0;
            world_destroy(world);
            return ST_NOMEM;
        }
        for (int i = 0; i < n_stages[r]; i++)
            world->queues[r][i].last = &world->queues[r][i].first;
    }
    *out_world = world;
    return ST_OK;
}

void world_destroy(struct world *world)
{
    if (world == NULL)
        return;
    for (int r = 0; r < ROLE_COUNT; r++) {
        for (int i = 0; i < world->n_stages[r]; i++) {
            const struct address at = {(enum role)r, i};
            struct msg *msg;

            while (world_next(world, at, &msg) == ST_OK)
                msg_free(msg);
        }
        host_free(world->queues[r]);
    }
    host_free(world);
}

static struct queue *queue_of(struct world *world, struct address at)
{
    assert((unsigned)at.role < ROLE_COUNT);
    assert(at.index >= 0 && at.index < world->n_stages[at.role]);
    return &world->queues[at.role][at.index];
}

enum status world_send(struct world *world, enum msg_type type, struct address from,
                       struct address to, const void *payload, size_t n_bytes)
{
    struct queue *queue = queue_of(world, to);

    assert(msg_allowed(type, from.role, to.role));
    struct msg *msg = host_alloc(sizeof *msg + n_bytes);
    if (msg == NULL)
        return ST_NOMEM;
    *msg = (struct msg){.type = type, .from = from, .to = to, .n_bytes = n_bytes};
    if (n_bytes > 0)
        memcpy(msg + 1, payload, n_bytes);
    msg->payload = (const uint8_t *)(msg + 1);
    *queue->last = msg;
    queue->last = &msg->next;
    world->n_sent[type]++;
    log_trace("%s %s/%d to %s/%d, %zu bytes", msg_name(type), role_name(from.role), from.index,
              role_name(to.role), to.index, n_bytes);
    return ST_OK;
}

enum status world_next(struct world *world, struct address to, struct msg **out_msg)
{
    struct queue *queue = queue_of(world, to);
    struct msg *msg = queue->first;

    if (msg == NULL)
        return ST_AGAIN;
    queue->first = msg->next;
    if (queue->first == NULL)
        queue->last = &queue->first;
    *out_msg = msg;
    return ST_OK;
}

void msg_free(struct msg *msg)
{
    host_free(msg);
}

const uint64_t *world_n_sent(const struct world *world)
{
    return world->n_sent;
}
