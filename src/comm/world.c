/*
 * world.c - what all worlds share, and the world of one rank.
 *
 * A rank's stages each have a queue, first in first out, so pairs of stages are ordered.  Queues
 * are bounded by the protocol: no stage sends more than a few messages per slot.  A message to
 * another rank goes to the world's kind.
 */
#include <assert.h>

#include "comm/world.h"

/* ---- messages -------------------------------------------------------------------------------- */

struct msg *msg_create(enum msg_type type, struct address from, struct address to, size_t n_bytes)
{
    struct msg *msg = host_alloc(sizeof *msg + n_bytes);

    if (msg == NULL)
        return NULL;
    *msg = (struct msg){.type = type, .from = from, .to = to, .n_bytes = n_bytes};
    msg->payload = (const uint8_t *)(msg + 1);
    return msg;
}

void *msg_body(struct msg *msg)
{
    return msg + 1;
}

void msg_free(struct msg *msg)
{
    host_free(msg);
}

/* ---- every world ----------------------------------------------------------------------------- */

void world_init(struct world *world, const struct world_ops *ops, const struct plan_layout *layout,
                int rank)
{
    world->ops = ops;
    world->layout = *layout;
    world->rank = rank;
    for (int r = 0; r < ROLE_COUNT; r++)
        world->queues[r].last = &world->queues[r].first;
}

void world_fini(struct world *world)
{
    for (int r = 0; r < ROLE_COUNT; r++) {
        for (struct msg *msg = world->queues[r].first, *next; msg != NULL; msg = next) {
            next = msg->next;
            msg_free(msg);
        }
    }
}

void world_deliver(struct world *world, struct msg *msg)
{
    struct queue *queue = &world->queues[msg->to.role];

    assert(plan_layout_rank(&world->layout, msg->to.role, msg->to.index) == world->rank);
    msg->next = NULL;
    *queue->last = msg;
    queue->last = &msg->next;
}

static void assert_address(const struct world *world, struct address at)
{
    assert((unsigned)at.role < ROLE_COUNT);
    assert(at.index >= 0 && at.index < world->layout.n_stages[at.role]);
    (void)world, (void)at;
}

enum status world_send(struct world *world, enum msg_type type, struct address from,
                       struct address to, const void *payload, size_t n_bytes)
{
    assert_address(world, from);
    assert_address(world, to);
    assert(msg_allowed(type, from.role, to.role));
    struct msg *msg = msg_create(type, from, to, n_bytes);
    if (msg == NULL)
        return ST_NOMEM;
    if (n_bytes > 0)
        memcpy(msg_body(msg), payload, n_bytes);
    world->n_sent[type]++;
    log_trace("%s %s/%d to %s/%d, %zu bytes", msg_name(type), role_name(from.role), from.index,
              role_name(to.role), to.index, n_bytes);
    const int rank = plan_layout_rank(&world->layout, to.role, to.index);
    if (rank != world->rank)
        return world->ops->send(world, rank, msg);
    world_deliver(world, msg);
    return ST_OK;
}

enum status world_next(struct world *world, struct address to, struct msg **out_msg)
{
    struct queue *queue = &world->queues[to.role];
    struct msg *msg = queue->first;

    assert_address(world, to);
    assert(plan_layout_rank(&world->layout, to.role, to.index) == world->rank);
    if (msg == NULL)
        return ST_AGAIN;
    queue->first = msg->next;
    if (queue->first == NULL)
        queue->last = &queue->first;
    msg->next = NULL;
    *out_msg = msg;
    return ST_OK;
}

enum status world_progress(struct world *world, bool *out_worked)
{
    return world->ops->progress(world, out_worked);
}

bool world_flushed(const struct world *world)
{
    return world->ops->flushed(world);
}

enum status world_put(struct world *world, int rank, int tag, const struct byte_span *spans,
                      int n_spans, struct transfer **out_transfer)
{
    return world->ops->put(world, rank, tag, spans, n_spans, out_transfer);
}

enum status world_take(struct world *world, int rank, int tag, const struct byte_span *spans,
                       int n_spans, struct transfer **out_transfer)
{
    return world->ops->take(world, rank, tag, spans, n_spans, out_transfer);
}

bool transfer_done(struct transfer *transfer)
{
    return transfer->done(transfer);
}

uint32_t world_n_heard(const struct world *world, int rank)
{
    return world->ops->n_heard != NULL ? world->ops->n_heard(world, rank) : 0;
}

double world_now_s(const struct world *world)
{
    return world->ops->now_s(world);
}

int world_rank(const struct world *world)
{
    return world->rank;
}

const struct plan_layout *world_layout(const struct world *world)
{
    return &world->layout;
}

const uint64_t *world_n_sent(const struct world *world)
{
    return world->n_sent;
}

void world_destroy(struct world *world)
{
    if (world != NULL)
        world->ops->destroy(world, true);
}

void world_abandon(struct world *world)
{
    if (world != NULL)
        world->ops->destroy(world, false);
}

/* ---- the world of one rank ------------------------------------------------------------------- */

/* All stages are here, so nothing is ever sent to another rank. */
static enum status local_send(struct world *world, int rank, struct msg *msg)
{
    (void)world;
    log_error("message for rank %d in a world of one rank", rank);
    msg_free(msg);
    return ST_COMM;
}

static enum status local_progress(struct world *world, bool *out_worked)
{
    (void)world, (void)out_worked;
    return ST_OK;
}

static bool local_flushed(const struct world *world)
{
    (void)world;
    return true;
}

static enum status local_transfer(struct world *world, int rank, int tag,
                                  const struct byte_span *spans, int n_spans,
                                  struct transfer **out_transfer)
{
    (void)world, (void)tag, (void)spans, (void)n_spans, (void)out_transfer;
    log_error("bytes for rank %d in a world of one rank", rank);
    return ST_COMM;
}

static double local_now_s(const struct world *world)
{
    (void)world;
    return clock_now_s();
}

static void local_destroy(struct world *world, bool in_order)
{
    (void)in_order;
    world_fini(world);
    host_free(world);
}

static const struct world_ops local_ops = {
    .send = local_send,
    .progress = local_progress,
    .flushed = local_flushed,
    .put = local_transfer,
    .take = local_transfer,
    .now_s = local_now_s,
    .destroy = local_destroy,
};

enum status world_create_local(const struct plan_layout *layout, struct world **out_world)
{
    struct world *world = host_zalloc(sizeof *world);

    assert(layout->n_ranks == 1);
    if (world == NULL)
        return ST_NOMEM;
    world_init(world, &local_ops, layout, 0);
    *out_world = world;
    return ST_OK;
}
