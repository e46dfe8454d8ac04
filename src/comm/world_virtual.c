/*
 * world_virtual.c - N ranks in one process, with one clock, and a seed for all that a network
 * leaves open.
 *
 *   world_send ──► heap of events by time ──virtual_net_advance──► queue of the stage it is for
 *   world_put ──┐
 *   world_take ─┴► bulk (the two ends that meet) ──► heap ──► bytes are copied when it is time
 *
 * Every delay is drawn from the seed and the number of the draw, so a run is a function of the seed
 * and the order of calls.  A message never overtakes another of its pair of stages; all else may
 * overtake all else.  One half of the bulks behaves as small MPI messages do (they leave before
 * anyone waits for them), the other as large ones (both ends must be there).  Bytes are read and
 * written as late as possible, and looked at: a source that changed before its put was done, and a
 * destination that was written to before its take was, are errors of the rank that owns it.
 */
#include <assert.h>

#include "comm/world.h"

enum { POISON = 0xa5 }; /* what lies where bytes have not come yet */

enum event_kind {
    EVENT_ARRIVE, /* a message is where its stage is */
    EVENT_LEAVE,  /* a small bulk has left its source */
    EVENT_LAND,   /* a small bulk is at its destination */
    EVENT_MOVE,   /* a large bulk goes from source to destination */
    EVENT_LET_GO, /* a large bulk's source hears that it has */
};

struct event {
    double at_s;
    uint64_t number; /* the older of two at the same time comes first */
    enum event_kind kind;
    void *what; /* struct msg, owned; or struct bulk, the net's */
};

/* One end of a bulk. */
struct virtual_transfer {
    struct transfer base;
    struct bulk *bulk;
    struct byte_span *spans; /* [n_spans] owned; NULL = this end has not come yet */
    int n_spans;
    bool done, seen; /* seen: and its owner knows */
};

struct bulk {
    struct virtual_net *net;
    struct bulk *next, **at; /* of the net's; at: what points here */
    struct bulk *next_open;  /* of those for the same rank that lack an end */
    int from, to, tag;
    struct virtual_transfer put, take;
    uint8_t *bytes; /* [n_bytes] owned; on their way */
    size_t n_bytes;
    uint64_t hash; /* of the source when it was put */
    bool is_small, has_left;
};

struct virtual_world {
    struct world base;
    struct virtual_net *net;
    int n_leaving; /* messages and puts that are on their way */
    bool is_cut, worked;
    bool takes_along; /* what it had sent before it was cut off, and had not arrived */
    enum status st;   /* what this rank did wrong */
};

struct virtual_net {
    struct plan_layout layout;
    uint64_t seed, n_draws, n_events;
    double max_delay_s, now_s;
    struct virtual_world **worlds; /* [n_ranks] owned; NULL = not there */
    int first_stage[ROLE_COUNT], n_stages;
    double *last_s;       /* [n_stages, n_stages] owned: when the last message of a pair arrives */
    struct event *events; /* [cap] owned, [n_waiting] in use: a heap */
    int n_waiting, cap;
    struct bulk *bulks; /* owned */
    struct bulk **open; /* [n_ranks] owned: for each, bulks that lack an end, oldest first */
};

static struct virtual_world *self_of(const struct world *world)
{
    return (struct virtual_world *)world;
}

/* ---- what time it is, and when things happen -------------------------------------------------- */

/* 0 <= draw < 1 (splitmix64). */
static double draw(struct virtual_net *net)
{
    uint64_t x = net->seed + ++net->n_draws * 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

/* Most delays are short and some are long, so that much is overtaken. */
static double draw_time_s(struct virtual_net *net)
{
    const double u = draw(net);

    return net->now_s + net->max_delay_s * u * u * u;
}

static bool before(const struct event *a, const struct event *b)
{
    return a->at_s != b->at_s ? a->at_s < b->at_s : a->number < b->number;
}

static enum status event_add(struct virtual_net *net, double at_s, enum event_kind kind, void *what)
{
    const struct event event = {at_s, net->n_events++, kind, what};

    if (net->n_waiting == net->cap) {
        const int cap = net->cap > 0 ? 2 * net->cap : 64;
        struct event *more = host_realloc(net->events, (size_t)cap * sizeof *more);

        if (more == NULL)
            return ST_NOMEM;
        net->events = more;
        net->cap = cap;
    }
    int i = net->n_waiting++;
    for (int up; i > 0 && before(&event, &net->events[up = (i - 1) / 2]); i = up)
        net->events[i] = net->events[up];
    net->events[i] = event;
    return ST_OK;
}

static struct event event_take(struct virtual_net *net)
{
    const struct event first = net->events[0], last = net->events[--net->n_waiting];
    int i = 0;

    for (int down; (down = 2 * i + 1) < net->n_waiting; i = down) {
        if (down + 1 < net->n_waiting && before(&net->events[down + 1], &net->events[down]))
            down++;
        if (!before(&net->events[down], &last))
            break;
        net->events[i] = net->events[down];
    }
    net->events[i] = last;
    return first;
}

/* ---- messages -------------------------------------------------------------------------------- */

static double *pair_last_s(struct virtual_net *net, struct address from, struct address to)
{
    const int row = net->first_stage[from.role] + from.index;
    const int column = net->first_stage[to.role] + to.index;

    return net->last_s + (size_t)row * (size_t)net->n_stages + column;
}

static enum status virtual_send(struct world *world, int rank, struct msg *msg)
{
    enum status st = ST_OK;
    struct virtual_world *self = self_of(world);
    double *last_s = pair_last_s(self->net, msg->from, msg->to);
    const double at_s = draw_time_s(self->net);

    (void)rank;
    if (self->is_cut)
        goto err;
    *last_s = at_s > *last_s ? at_s : *last_s;
    TRY(event_add(self->net, *last_s, EVENT_ARRIVE, msg), err);
    self->n_leaving++;
    return ST_OK;
err:
    msg_free(msg);
    return st;
}

/* What a lost rank had sent before arrives or is lost with it; what is sent to it never leaves. */
static void arrive(struct virtual_net *net, struct msg *msg)
{
    struct virtual_world *from =
        net->worlds[plan_layout_rank(&net->layout, msg->from.role, msg->from.index)];
    struct virtual_world *to =
        net->worlds[plan_layout_rank(&net->layout, msg->to.role, msg->to.index)];

    if ((to != NULL && to->is_cut) || (from != NULL && from->takes_along)) {
        msg_free(msg);
        return;
    }
    if (from != NULL) {
        from->n_leaving--;
        from->worked = true;
    }
    if (to != NULL) {
        world_deliver(&to->base, msg);
        to->worked = true;
    } else {
        msg_free(msg); /* that rank has ended */
    }
}

/* ---- bulks ----------------------------------------------------------------------------------- */

static void bulk_free(struct bulk *bulk)
{
    *bulk->at = bulk->next;
    if (bulk->next != NULL)
        bulk->next->at = bulk->at;
    host_free(bulk->put.spans);
    host_free(bulk->take.spans);
    host_free(bulk->bytes);
    host_free(bulk);
}

static bool virtual_done(struct transfer *transfer)
{
    struct virtual_transfer *end = (struct virtual_transfer *)transfer;
    struct bulk *bulk = end->bulk;

    if (!end->done)
        return false;
    end->seen = true;
    if (bulk->put.seen && bulk->take.seen)
        bulk_free(bulk);
    return true;
}

static enum status bulk_create(struct virtual_net *net, int from, int to, int tag,
                               struct bulk **out_bulk)
{
    struct bulk *bulk = host_zalloc(sizeof *bulk);

    if (bulk == NULL)
        return ST_NOMEM;
    *bulk = (struct bulk){.net = net, .from = from, .to = to, .tag = tag};
    bulk->put.base.done = bulk->take.base.done = virtual_done;
    bulk->put.bulk = bulk->take.bulk = bulk;
    bulk->is_small = draw(net) < 0.5;
    bulk->next = net->bulks;
    bulk->at = &net->bulks;
    if (bulk->next != NULL)
        bulk->next->at = &bulk->next;
    net->bulks = bulk;
    *out_bulk = bulk;
    return ST_OK;
}

/* The oldest bulk of these that lacks this end (the nth put meets the nth take), else a new one. */
static enum status bulk_meet(struct virtual_net *net, int from, int to, int tag, bool is_put,
                             struct bulk **out_bulk)
{
    struct bulk **at = &net->open[to];

    for (; *at != NULL; at = &(*at)->next_open) {
        struct bulk *bulk = *at;

        if (bulk->from == from && bulk->tag == tag &&
            (is_put ? bulk->put.spans : bulk->take.spans) == NULL) {
            *at = bulk->next_open;
            *out_bulk = bulk;
            return ST_OK;
        }
    }
    const enum status st = bulk_create(net, from, to, tag, at);
    *out_bulk = *at;
    return st;
}

static enum status end_open(struct virtual_transfer *end, const struct byte_span *spans,
                            int n_spans, size_t *out_bytes)
{
    const size_t spans_bytes = (size_t)n_spans * sizeof *spans;

    end->spans = host_alloc(spans_bytes);
    if (end->spans == NULL)
        return ST_NOMEM;
    memcpy(end->spans, spans, spans_bytes);
    end->n_spans = n_spans;
    *out_bytes = 0;
    for (int i = 0; i < n_spans; i++)
        *out_bytes += spans[i].n_bytes;
    return ST_OK;
}

static uint64_t end_hash(const struct virtual_transfer *end)
{
    struct hash_state state;

    hash_begin(&state, 0);
    for (int i = 0; i < end->n_spans; i++)
        hash_add(&state, end->spans[i].data, end->spans[i].n_bytes);
    return hash_end(&state);
}

/* A source hears later than most messages take that it may be used again. */
static enum status bulk_later(struct bulk *bulk, enum event_kind kind)
{
    struct virtual_net *net = bulk->net;
    const double at_s = draw_time_s(net);

    return event_add(net, kind == EVENT_LET_GO ? net->now_s + 8 * (at_s - net->now_s) : at_s, kind,
                     bulk);
}

static enum status virtual_put(struct world *world, int rank, int tag,
                               const struct byte_span *spans, int n_spans,
                               struct transfer **out_transfer)
{
    enum status st;
    struct virtual_world *self = self_of(world);
    struct bulk *bulk;

    TRY(bulk_meet(self->net, world->rank, rank, tag, true, &bulk), err);
    TRY(end_open(&bulk->put, spans, n_spans, &bulk->n_bytes), err);
    bulk->hash = end_hash(&bulk->put);
    bulk->bytes = host_alloc(bulk->n_bytes);
    if (bulk->bytes == NULL)
        return ST_NOMEM;
    if (bulk->is_small)
        TRY(bulk_later(bulk, EVENT_LEAVE), err);
    else if (bulk->take.spans != NULL)
        TRY(bulk_later(bulk, EVENT_MOVE), err);
    self->n_leaving++;
    *out_transfer = &bulk->put.base;
    return ST_OK;
err:
    return st;
}

static enum status virtual_take(struct world *world, int rank, int tag,
                                const struct byte_span *spans, int n_spans,
                                struct transfer **out_transfer)
{
    enum status st;
    struct virtual_world *self = self_of(world);
    struct bulk *bulk;
    size_t n_bytes;

    TRY(bulk_meet(self->net, rank, world->rank, tag, false, &bulk), err);
    TRY(end_open(&bulk->take, spans, n_spans, &n_bytes), err);
    for (int i = 0; i < n_spans; i++)
        memset(spans[i].data, POISON, spans[i].n_bytes);
    if (bulk->has_left)
        TRY(bulk_later(bulk, EVENT_LAND), err);
    else if (!bulk->is_small && bulk->put.spans != NULL)
        TRY(bulk_later(bulk, EVENT_MOVE), err);
    *out_transfer = &bulk->take.base;
    return ST_OK;
err:
    return st;
}

static enum status leave(struct bulk *bulk)
{
    uint8_t *to = bulk->bytes;

    if (end_hash(&bulk->put) != bulk->hash) {
        log_error("put of rank %d to rank %d, tag %d, %zu bytes: its source changed before it was "
                  "done",
                  bulk->from, bulk->to, bulk->tag, bulk->n_bytes);
        return ST_COMM;
    }
    for (int i = 0; i < bulk->put.n_spans; i++) {
        memcpy(to, bulk->put.spans[i].data, bulk->put.spans[i].n_bytes);
        to += bulk->put.spans[i].n_bytes;
    }
    return ST_OK;
}

static enum status land(struct bulk *bulk)
{
    const uint8_t *from = bulk->bytes;
    size_t n_bytes = 0, n_changed = 0;

    for (int i = 0; i < bulk->take.n_spans; i++) {
        const uint8_t *data = bulk->take.spans[i].data;

        n_bytes += bulk->take.spans[i].n_bytes;
        for (size_t k = 0; k < bulk->take.spans[i].n_bytes; k++)
            n_changed += data[k] != POISON;
    }
    if (n_bytes != bulk->n_bytes || n_changed > 0) {
        log_error("take of rank %d from rank %d, tag %d: %zu bytes come for %zu, of which %zu "
                  "were written to before it was done",
                  bulk->to, bulk->from, bulk->tag, bulk->n_bytes, n_bytes, n_changed);
        return ST_COMM;
    }
    for (int i = 0; i < bulk->take.n_spans; i++) {
        memcpy(bulk->take.spans[i].data, from, bulk->take.spans[i].n_bytes);
        from += bulk->take.spans[i].n_bytes;
    }
    return ST_OK;
}

/* The next event in a bulk's life; both ranks are there.  A status is of the rank *out_rank. */
static enum status bulk_step(struct bulk *bulk, enum event_kind kind, int *out_rank)
{
    enum status st = ST_OK;
    struct virtual_world *from = bulk->net->worlds[bulk->from];
    struct virtual_world *to = bulk->net->worlds[bulk->to];

    *out_rank = bulk->from;
    if (kind == EVENT_LEAVE || kind == EVENT_MOVE)
        TRY(leave(bulk), err);
    if (kind == EVENT_LEAVE || kind == EVENT_LET_GO) {
        bulk->put.done = bulk->has_left = from->worked = true;
        from->n_leaving--;
    }
    *out_rank = bulk->to;
    if (kind == EVENT_LEAVE && bulk->take.spans != NULL)
        TRY(bulk_later(bulk, EVENT_LAND), err);
    if (kind == EVENT_MOVE)
        TRY(bulk_later(bulk, EVENT_LET_GO), err);
    if (kind == EVENT_LAND || kind == EVENT_MOVE) {
        TRY(land(bulk), err);
        bulk->take.done = to->worked = true;
    }
err:
    return st;
}

/* ---- the net --------------------------------------------------------------------------------- */

/* Nothing comes to a rank that is lost or has ended, or from its memory. */
static bool is_there(const struct virtual_net *net, int rank)
{
    return net->worlds[rank] != NULL && !net->worlds[rank]->is_cut;
}

static void happen(struct virtual_net *net, const struct event *event)
{
    struct bulk *bulk = event->what;
    int rank;

    if (event->kind == EVENT_ARRIVE) {
        arrive(net, event->what);
    } else if (is_there(net, bulk->from) && is_there(net, bulk->to)) {
        const enum status st = bulk_step(bulk, event->kind, &rank);

        if (st != ST_OK)
            net->worlds[rank]->st = st;
    }
}

void virtual_net_advance(struct virtual_net *net, double most_s)
{
    const double most_at_s = net->now_s + most_s;

    net->now_s = most_at_s;
    if (net->n_waiting > 0 && net->events[0].at_s < most_at_s)
        net->now_s = net->events[0].at_s;
    while (net->n_waiting > 0 && net->events[0].at_s <= net->now_s) {
        const struct event event = event_take(net);

        happen(net, &event);
    }
}

double virtual_net_now_s(const struct virtual_net *net)
{
    return net->now_s;
}

void virtual_net_cut(struct virtual_net *net, int rank)
{
    net->worlds[rank]->is_cut = true;
    net->worlds[rank]->takes_along = draw(net) < 0.5;
}

enum status virtual_net_create(const struct virtual_args *args, struct virtual_net **out_net)
{
    const struct plan_layout *layout = args->layout;
    const size_t n_ranks = (size_t)layout->n_ranks;
    struct virtual_net *net = host_zalloc(sizeof *net);

    if (net == NULL)
        return ST_NOMEM;
    net->layout = *layout;
    net->seed = args->seed * 0xd1342543de82ef95u; /* far apart, so that seeds share no draws */
    net->max_delay_s = args->max_delay_s;
    for (int r = 0; r < ROLE_COUNT; r++) {
        net->first_stage[r] = net->n_stages;
        net->n_stages += layout->n_stages[r];
    }
    net->worlds = host_zalloc(n_ranks * sizeof(struct virtual_world *));
    net->open = host_zalloc(n_ranks * sizeof(struct bulk *));
    net->last_s = host_zalloc((size_t)net->n_stages * (size_t)net->n_stages * sizeof *net->last_s);
    if (net->worlds == NULL || net->open == NULL || net->last_s == NULL) {
        virtual_net_destroy(net);
        return ST_NOMEM;
    }
    *out_net = net;
    return ST_OK;
}

void virtual_net_destroy(struct virtual_net *net)
{
    if (net == NULL)
        return;
    for (int i = 0; i < net->n_waiting; i++)
        if (net->events[i].kind == EVENT_ARRIVE)
            msg_free(net->events[i].what);
    while (net->bulks != NULL)
        bulk_free(net->bulks);
    host_free(net->worlds);
    host_free(net->open);
    host_free(net->last_s);
    host_free(net->events);
    host_free(net);
}

/* ---- a rank's end ---------------------------------------------------------------------------- */

static enum status virtual_progress(struct world *world, bool *out_worked)
{
    struct virtual_world *self = self_of(world);

    if (self->worked)
        *out_worked = true;
    self->worked = false;
    return self->st;
}

static bool virtual_flushed(const struct world *world)
{
    return self_of(world)->n_leaving == 0;
}

static double virtual_now_s(const struct world *world)
{
    return self_of(world)->net->now_s;
}

static void virtual_destroy(struct world *world, bool in_order)
{
    struct virtual_world *self = self_of(world);

    (void)in_order;
    self->net->worlds[world->rank] = NULL;
    world_fini(world);
    host_free(self);
}

static const struct world_ops virtual_ops = {
    .send = virtual_send,
    .progress = virtual_progress,
    .flushed = virtual_flushed,
    .put = virtual_put,
    .take = virtual_take,
    .now_s = virtual_now_s,
    .destroy = virtual_destroy,
};

enum status virtual_net_world(struct virtual_net *net, int rank, struct world **out_world)
{
    struct virtual_world *self = host_zalloc(sizeof *self);

    assert(rank >= 0 && rank < net->layout.n_ranks && net->worlds[rank] == NULL);
    if (self == NULL)
        return ST_NOMEM;
    world_init(&self->base, &virtual_ops, &net->layout, rank);
    self->net = net;
    net->worlds[rank] = self;
    *out_world = &self->base;
    return ST_OK;
}
