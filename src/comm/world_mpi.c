/*
 * world_mpi.c - messages and bulk bytes between ranks by MPI: the world of a job of several ranks.
 *
 *   world_send ─► frames ─► MPI_Isend ═══ control ════► ring of receives ─► join ─► deliver
 *   world_put  ──────────► MPI_Isend ═══ bulk, tag ══► MPI_Irecv ◄─────────── world_take
 *
 * No call waits.  world_progress and transfer_done test what is under way; one test moves
 * everything that MPI has in hand.  Receives for frames are posted at the start and looked at in
 * the order they were posted in, so that what one rank sends to another stays in order; frames are
 * small enough never to need their sender again (frame.h), so none of them holds up those behind
 * it.
 */
#include <assert.h>
#include <stdio.h>

#include "comm/frame.h"
#include "comm/ranks.h"
#include "comm/world.h"

enum {
    RING = 64, /* frames that may come between two turns before MPI has to keep them itself */
    /* Frames to one rank that MPI may have without having sent them: Open MPI's ob1 looks at all of
     * them at every test, so a rank that does not take its own would slow down those who send. */
    LANE = 32,
    TAG_FRAME = 0,
};
#define END_LIMIT_S 10.0 /* how long world_destroy waits for the others */
#define TURN_S 2e-3      /* for frames that have come, before the stages have theirs */

struct parcel { /* a frame on its way out */
    struct parcel *next;
    MPI_Request request; /* once MPI has it */
    size_t n_bytes;
    uint8_t bytes[FRAME_BYTES];
};

struct lane {                     /* what is on its way to one rank, in order */
    struct parcel *first, **last; /* owned */
    struct parcel *waiting;       /* the first that MPI has not been given; NULL: it has all */
    int n_given;                  /* those before it: at most LANE */
    uint32_t n_frames;            /* so far */
};

struct mpi_world {
    struct world base;
    struct ranks *ranks;    /* borrowed */
    MPI_Comm control, bulk; /* owned */
    double clock_offset_s;
    enum status failed; /* a transfer's failure, for the next world_progress */

    uint8_t (*ring)[FRAME_BYTES]; /* [RING] owned */
    MPI_Request receives[RING];
    int n_receives;           /* that were made: RING once the world is up */
    int oldest;               /* of the receives, by when it was posted */
    struct frame_join *joins; /* [n_ranks] owned; by sender */

    struct lane *lanes; /* [n_ranks] owned; by receiver */
};

struct mpi_transfer {
    struct transfer base;
    struct mpi_world *world; /* borrowed */
    MPI_Request request;
    int rank, tag;
    size_t n_bytes;
    bool takes;
};

/* ---- errors ------------------------------------------------------------------------------------ */

static char *who_is(const struct mpi_world *world, int rank, char *buf, size_t cap)
{
    return ranks_who(world->ranks, &world->base.layout, rank, buf, cap);
}

/* What an MPI call about a peer returned.  `doing` stands before the peer's name. */
static enum status check(const struct mpi_world *world, int result, const char *doing, int rank)
{
    char who[160], text[256];

    if (result == MPI_SUCCESS)
        return ST_OK;
    snprintf(text, sizeof text, "%s %s", doing, who_is(world, rank, who, sizeof who));
    return ranks_mpi(result, text);
}

/* ---- frames out -------------------------------------------------------------------------------- */

/* The first parcel has left. */
static void drop_first(struct lane *lane)
{
    struct parcel *parcel = lane->first;

    lane->first = parcel->next;
    if (lane->first == NULL)
        lane->last = &lane->first;
    lane->n_given--;
    host_free(parcel);
}

/* Forget parcels that have left, and give MPI those that wait, as far as it goes. */
static enum status move_lane(struct mpi_world *world, int rank, bool *out_worked)
{
    static const char doing[] = "message to";
    struct lane *lane = &world->lanes[rank];
    enum status st;

    for (;;) {
        while (lane->n_given > 0) {
            int done = 0;

            TRY(check(world, MPI_Test(&lane->first->request, &done, MPI_STATUS_IGNORE), doing,
                      rank),
                err);
            if (!done)
                break;
            drop_first(lane);
            *out_worked = true;
        }
        struct parcel *parcel = lane->waiting;
        if (parcel == NULL || lane->n_given == LANE)
            return ST_OK;
        TRY(check(world,
                  MPI_Isend(parcel->bytes, (int)parcel->n_bytes, MPI_BYTE, rank, TAG_FRAME,
                            world->control, &parcel->request),
                  doing, rank),
            err);
        lane->waiting = parcel->next;
        lane->n_given++;
    }
err:
    return st;
}

static enum status add_frame(struct lane *lane, struct frame *frame)
{
    struct parcel *parcel = host_alloc(sizeof *parcel);

    if (parcel == NULL)
        return ST_NOMEM;
    frame->number = lane->n_frames++;
    parcel->next = NULL;
    parcel->n_bytes = frame_pack(frame, parcel->bytes);
    *lane->last = parcel;
    lane->last = &parcel->next;
    if (lane->waiting == NULL)
        lane->waiting = parcel;
    return ST_OK;
}

static enum status mpi_send(struct world *base, int rank, struct msg *msg)
{
    struct mpi_world *world = (struct mpi_world *)base;
    struct lane *lane = &world->lanes[rank];
    enum status st = ST_OK;
    struct frame frame = {
        .type = msg->type, .from = msg->from, .to = msg->to, .message_bytes = msg->n_bytes};
    bool worked;

    if (msg->n_bytes > FRAME_MESSAGE_BYTES) {
        log_error("%s message of %zu bytes is over the limit of %llu", msg_name(msg->type),
                  msg->n_bytes, (unsigned long long)FRAME_MESSAGE_BYTES);
        st = ST_COMM;
        goto out;
    }
    do { /* a message of no bytes is one frame too */
        const size_t left = msg->n_bytes - (size_t)frame.offset;

        frame.payload = msg->payload + frame.offset;
        frame.n_bytes = (uint32_t)(left < FRAME_PAYLOAD_BYTES ? left : FRAME_PAYLOAD_BYTES);
        TRY(add_frame(lane, &frame), out);
        frame.offset += frame.n_bytes;
    } while (frame.offset < msg->n_bytes);
    if (lane->n_given < LANE) /* else progress sees to it, when there is room */
        st = move_lane(world, rank, &worked);
out:
    msg_free(msg);
    return st;
}

static bool mpi_flushed(const struct world *base)
{
    const struct mpi_world *world = (const struct mpi_world *)base;

    for (int rank = 0; rank < base->layout.n_ranks; rank++)
        if (world->lanes[rank].first != NULL)
            return false;
    return true;
}

/* ---- frames in --------------------------------------------------------------------------------- */

static enum status take_frame(struct mpi_world *world, const uint8_t *bytes,
                              const MPI_Status *status)
{
    const struct plan_layout *layout = &world->base.layout;
    const int rank = status->MPI_SOURCE;
    enum status st;
    struct row_error why;
    struct frame frame;
    struct msg *msg;
    int n_bytes;
    char who[160];

    TRY(check(world, MPI_Get_count(status, MPI_BYTE, &n_bytes), "message from", rank), err);
    TRY(frame_parse(bytes, (size_t)n_bytes, layout, &frame, &why), err_say);
    if (plan_layout_rank(layout, frame.from.role, frame.from.index) != rank ||
        plan_layout_rank(layout, frame.to.role, frame.to.index) != world->base.rank) {
        st = row_error_set(&why, "%s message from %s/%d to %s/%d, which are not those two ranks",
                           msg_name(frame.type), role_name(frame.from.role), frame.from.index,
                           role_name(frame.to.role), frame.to.index);
        goto err_say;
    }
    TRY(frame_join_add(&world->joins[rank], &frame, &msg, &why), err_say);
    if (msg != NULL)
        world_deliver(&world->base, msg);
    return ST_OK;
err_say:
    if (st == ST_ROW) {
        log_error("message from %s: %s", who_is(world, rank, who, sizeof who), why.text);
        st = ST_COMM;
    }
err:
    return st;
}

/* All that has come, but not for long, so that a flood cannot keep the stages from their turn. */
static enum status take_frames(struct mpi_world *world, bool *out_worked)
{
    enum status st;
    const double until_s = clock_now_s() + TURN_S;

    for (int i = 0; i < RING || clock_now_s() < until_s; i++) {
        const int at = world->oldest;
        MPI_Status status = {.MPI_SOURCE = MPI_ANY_SOURCE};
        int done = 0;
        const int result = MPI_Test(&world->receives[at], &done, &status);

        if (status.MPI_SOURCE < 0)
            TRY(ranks_mpi(result, "receiving messages"), err);
        else
            TRY(check(world, result, "message from", status.MPI_SOURCE), err);
        if (!done)
            return ST_OK;
        TRY(take_frame(world, world->ring[at], &status), err);
        TRY(ranks_mpi(MPI_Start(&world->receives[at]), "receiving messages"), err);
        world->oldest = (at + 1) % RING;
        *out_worked = true;
    }
    return ST_OK;
err:
    return st;
}

static enum status mpi_progress(struct world *base, bool *out_worked)
{
    struct mpi_world *world = (struct mpi_world *)base;
    enum status st;

    TRY(world->failed, err);
    TRY(take_frames(world, out_worked), err);
    for (int rank = 0; rank < base->layout.n_ranks; rank++)
        if (world->lanes[rank].first != NULL)
            TRY(move_lane(world, rank, out_worked), err);
    return ST_OK;
err:
    return st;
}

/* ---- bulk bytes -------------------------------------------------------------------------------- */

static bool mpi_transfer_done(struct transfer *base)
{
    struct mpi_transfer *transfer = (struct mpi_transfer *)base;
    struct mpi_world *world = transfer->world;
    MPI_Status status = {.MPI_SOURCE = transfer->rank};
    char who[160];
    int done = 0, n_bytes = 0;

    if (world->failed != ST_OK)
        return false;
    world->failed = check(world, MPI_Test(&transfer->request, &done, &status),
                          transfer->takes ? "bytes from" : "bytes to", transfer->rank);
    if (world->failed != ST_OK || !done)
        return false;
    if (transfer->takes && MPI_Get_elements(&status, MPI_BYTE, &n_bytes) == MPI_SUCCESS &&
        (size_t)n_bytes != transfer->n_bytes) {
        log_error("%d bytes with tag %d came from %s where %zu had to come", n_bytes, transfer->tag,
                  who_is(world, transfer->rank, who, sizeof who), transfer->n_bytes);
        world->failed = ST_COMM;
        return false;
    }
    host_free(transfer);
    return true;
}

/* One datatype for all spans, with their addresses in it. */
static enum status make_type(const struct byte_span *spans, int n_spans, MPI_Datatype *out_type)
{
    static const char doing[] = "describing bytes to move";
    enum status st = ST_NOMEM;
    int *lengths = host_alloc((size_t)n_spans * sizeof *lengths);
    MPI_Aint *places = host_alloc((size_t)n_spans * sizeof *places);
    MPI_Datatype type;

    if (lengths == NULL || places == NULL)
        goto out;
    for (int i = 0; i < n_spans; i++) {
        lengths[i] = (int)spans[i].n_bytes;
        TRY(ranks_mpi(MPI_Get_address(spans[i].data, &places[i]), doing), out);
    }
    TRY(ranks_mpi(MPI_Type_create_hindexed(n_spans, lengths, places, MPI_BYTE, &type), doing), out);
    st = ranks_mpi(MPI_Type_commit(&type), doing);
    if (st == ST_OK)
        *out_type = type;
    else
        MPI_Type_free(&type);
out:
    host_free(places);
    host_free(lengths);
    return st;
}

/* MPI_Isend or MPI_Irecv of the spans. */
static enum status start(struct mpi_transfer *transfer, const struct byte_span *spans, int n_spans)
{
    struct mpi_world *world = transfer->world;
    enum status st;
    const bool plain = n_spans == 1;
    void *data = plain ? spans[0].data : MPI_BOTTOM;
    MPI_Datatype type = MPI_BYTE;
    const int n = plain ? (int)spans[0].n_bytes : 1;

    if (!plain)
        TRY(make_type(spans, n_spans, &type), err);
    if (transfer->takes)
        st = check(world,
                   MPI_Irecv(data, n, type, transfer->rank, transfer->tag, world->bulk,
                             &transfer->request),
                   "bytes from", transfer->rank);
    else
        st = check(world,
                   MPI_Isend(data, n, type, transfer->rank, transfer->tag, world->bulk,
                             &transfer->request),
                   "bytes to", transfer->rank);
    if (!plain)
        MPI_Type_free(&type); /* MPI keeps it until the transfer has ended */
err:
    return st;
}

static enum status begin_transfer(struct world *base, int rank, int tag, bool takes,
                                  const struct byte_span *spans, int n_spans,
                                  struct transfer **out_transfer)
{
    struct mpi_world *world = (struct mpi_world *)base;
    enum status st;
    char who[160];
    size_t n_bytes = 0;

    assert(rank >= 0 && rank < base->layout.n_ranks && rank != base->rank);
    assert(tag >= 0 && tag < COMM_MAX_SLOTS && n_spans >= 1); /* MPI has that many tags */
    for (int i = 0; i < n_spans; i++) {
        if (spans[i].n_bytes > INT32_MAX - n_bytes) {
            log_error("bytes %s %s with tag %d: one transfer has at most 2 GiB",
                      takes ? "from" : "to", who_is(world, rank, who, sizeof who), tag);
            return ST_COMM;
        }
        n_bytes += spans[i].n_bytes;
    }
    struct mpi_transfer *transfer = host_alloc(sizeof *transfer);
    if (transfer == NULL)
        return ST_NOMEM;
    *transfer = (struct mpi_transfer){.base = {mpi_transfer_done},
                                      .world = world,
                                      .rank = rank,
                                      .tag = tag,
                                      .n_bytes = n_bytes,
                                      .takes = takes};
    st = start(transfer, spans, n_spans);
    if (st == ST_OK)
        *out_transfer = &transfer->base;
    else
        host_free(transfer);
    return st;
}

static enum status mpi_put(struct world *base, int rank, int tag, const struct byte_span *spans,
                           int n_spans, struct transfer **out_transfer)
{
    return begin_transfer(base, rank, tag, false, spans, n_spans, out_transfer);
}

static enum status mpi_take(struct world *base, int rank, int tag, const struct byte_span *spans,
                            int n_spans, struct transfer **out_transfer)
{
    return begin_transfer(base, rank, tag, true, spans, n_spans, out_transfer);
}

static uint32_t mpi_n_heard(const struct world *base, int rank)
{
    return ((const struct mpi_world *)base)->joins[rank].next_number;
}

static double mpi_now_s(const struct world *base)
{
    return clock_now_s() + ((const struct mpi_world *)base)->clock_offset_s;
}

/* ---- begin and end ----------------------------------------------------------------------------- */

/* Let all that is under way arrive and all ranks come here. */
static enum status settle(struct mpi_world *world)
{
    static const char doing[] = "ending together";
    enum status st;
    const double begin_s = clock_now_s();
    MPI_Request barrier = MPI_REQUEST_NULL;
    bool in_barrier = false;
    int all_here = 0, rest_us = 0;

    while (!all_here) {
        bool worked = false;

        TRY(mpi_progress(&world->base, &worked), err);
        if (!in_barrier && mpi_flushed(&world->base)) {
            TRY(ranks_mpi(MPI_Ibarrier(world->control, &barrier), doing), err);
            in_barrier = true;
        }
        if (in_barrier)
            TRY(ranks_mpi(MPI_Test(&barrier, &all_here, MPI_STATUS_IGNORE), doing), err);
        if (clock_now_s() - begin_s > END_LIMIT_S) {
            log_warn("not all ranks have come to the end within %.0f s; this one does not wait",
                     END_LIMIT_S);
            return ST_COMM;
        }
        rest_us = worked ? 0 : rest_us;
        if (!all_here)
            ranks_rest(&rest_us);
    }
    return ST_OK;
err:
    return st;
}

/* Receives that were posted, or only made, are taken back. */
static void close_ring(struct mpi_world *world, bool posted)
{
    for (int i = 0; i < world->n_receives; i++) {
        if (posted && MPI_Cancel(&world->receives[i]) == MPI_SUCCESS)
            MPI_Wait(&world->receives[i], MPI_STATUS_IGNORE); /* local: it was cancelled */
        MPI_Request_free(&world->receives[i]);
    }
    host_free(world->ring);
}

static void free_rest(struct mpi_world *world)
{
    if (world->bulk != MPI_COMM_NULL)
        MPI_Comm_free(&world->bulk);
    if (world->control != MPI_COMM_NULL)
        MPI_Comm_free(&world->control);
    host_free(world->lanes);
    host_free(world->joins);
    host_free(world);
}

static void mpi_destroy(struct world *base, bool in_order)
{
    struct mpi_world *world = (struct mpi_world *)base;

    in_order = in_order && settle(world) == ST_OK;
    world_fini(base);
    for (int rank = 0; rank < base->layout.n_ranks; rank++)
        frame_join_drop(&world->joins[rank]);
    if (!in_order)
        return; /* MPI may still read and write the rest; the process ends soon */
    close_ring(world, true);
    free_rest(world);
}

static const struct world_ops mpi_ops = {
    .send = mpi_send,
    .progress = mpi_progress,
    .flushed = mpi_flushed,
    .put = mpi_put,
    .take = mpi_take,
    .n_heard = mpi_n_heard,
    .now_s = mpi_now_s,
    .destroy = mpi_destroy,
};

/* Make all receives, then post them. */
static enum status open_ring(struct mpi_world *world)
{
    static const char doing[] = "receiving messages";
    enum status st;

    world->ring = host_alloc(RING * sizeof *world->ring);
    if (world->ring == NULL)
        return ST_NOMEM;
    for (; world->n_receives < RING; world->n_receives++)
        TRY(ranks_mpi(MPI_Recv_init(world->ring[world->n_receives], FRAME_BYTES, MPI_BYTE,
                                    MPI_ANY_SOURCE, TAG_FRAME, world->control,
                                    &world->receives[world->n_receives]),
                      doing),
            err);
    TRY(ranks_mpi(MPI_Startall(RING, world->receives), doing), err);
    return ST_OK;
err:
    close_ring(world, false);
    return st;
}

enum status world_create_mpi(struct ranks *ranks, const struct plan_layout *layout,
                             struct world **out_world)
{
    enum status st = ST_NOMEM;
    struct mpi_world *world = host_zalloc(sizeof *world);

    assert(ranks->has_mpi && layout->n_ranks == ranks->n);
    if (world == NULL)
        return ST_NOMEM;
    world_init(&world->base, &mpi_ops, layout, ranks->me);
    world->ranks = ranks;
    world->control = world->bulk = MPI_COMM_NULL;
    world->clock_offset_s = ranks->info[ranks->me].clock_offset_s;
    world->joins = host_zalloc((size_t)ranks->n * sizeof *world->joins);
    world->lanes = host_zalloc((size_t)ranks->n * sizeof *world->lanes);
    if (world->joins == NULL || world->lanes == NULL)
        goto err;
    for (int rank = 0; rank < ranks->n; rank++)
        world->lanes[rank].last = &world->lanes[rank].first;
    TRY(ranks_dup(ranks, &world->control), err);
    TRY(ranks_dup(ranks, &world->bulk), err);
    TRY(open_ring(world), err);
    *out_world = &world->base;
    return ST_OK;
err:
    free_rest(world);
    return st;
}
