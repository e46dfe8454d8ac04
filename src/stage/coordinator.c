/*
 * coordinator.c - admits rows, takes finished ones, knows when the run is over.
 *
 *   prompt file ──io_next──► intake ──► route ──RESERVE──► decode
 *                              │          ├─────ADMIT────► prefill
 *                              │          └─────ENCODE───► encoder, for each image of the row
 *                              └ error row ─┐  ◄─PREFILLED─ prefill
 *   journal ◄──io_put───────────────────────┴──────DONE──── decode
 *
 * Only this stage admits, against its mirror of every decode rank's free blocks, so no stage ever
 * has to refuse a row.  So are places for embeddings in prefill's memory set aside, in a mirror of
 * it.  The mirror of prefill's queues only balances them.  Rows that are computed
 * but not yet in the journal count as rows in flight, of which there are at most n_slots: so many,
 * and no more, are computed again after a kill.  When the journal is slow, admission stops, and
 * everything behind it comes to rest by itself.
 *
 * When the run's time is nearly over, or it is asked to, it drains: no more rows are begun, those
 * in flight are finished, and the run ends as if all were done.  What is not finished then is given
 * up.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "stage/stage.h"

enum { ROWS_PER_POLL = 16, ARENA_BYTES = 1 << 16 };
#define LOOK_S 0.1 /* between looks at how much time is left */

/* A row in flight, by slot: until both PREFILLED and DONE have come, in either order. */
struct flight {
    uint64_t row;
    double since_s;
    bool used, prefilled, done;
    int prefill, decode, n_prompt, n_blocks;
    int32_t embed_at, n_embeds; /* its places for embeddings; n_embeds 0 = none */
};

struct coordinator {
    struct stage base;
    struct coordinator_args args;
    int n_encoder, n_prefill, n_decode;
    struct plan_queue *queues;   /* [n_prefill] owned: the mirror of prefill */
    struct plan_room *rooms;     /* [n_prefill] owned: its memory for embeddings; NULL: no images */
    struct plan_extent *extents; /* [n_prefill, n_slots + 1] owned: the rooms' */
    struct plan_pool *pools;     /* [n_decode] owned: the mirror of decode */
    struct flight *flights;      /* [n_slots] owned */
    int32_t *free_slots;         /* [n_slots] owned, a stack */
    int n_free;
    struct arena *arena;                  /* of the held row */
    struct intake_row held;               /* tokens stay allocated from row to row */
    const struct prompt_row *held_prompt; /* not NULL: read, made ready, not yet placed */
    double held_since_s;
    struct msg **unwritten; /* [n_slots] owned: DONEs that the journal's queue had no room for */
    int n_unwritten;
    struct buf error_row; /* packed; not empty: an error row that waits for room */
    struct buf scratch;
    bool read_all, draining;
    struct plan_pace pace;
    double next_look_s;
    uint64_t n_failed; /* rows that ended as errors, in all attempts */
    struct progress last;
    double next_progress_s, start_s;
};

static struct coordinator *self_of(struct stage *stage)
{
    return (struct coordinator *)stage;
}

/* ---- results -------------------------------------------------------------------------------- */

/* After the row is on its way to the journal, so that its reason can be looked at. */
static enum status count_failed(struct coordinator *self)
{
    self->n_failed++;
    if (self->args.max_errors >= 0 && self->n_failed > (uint64_t)self->args.max_errors) {
        log_error(
            "%llu rows ended as errors, more than max_errors = %lld: look at the reasons with "
            "`epidote export --partial`, then raise max_errors to go on",
            (unsigned long long)self->n_failed, (long long)self->args.max_errors);
        return ST_STOPPED;
    }
    return ST_OK;
}

/* Queue the waiting error row.  Returns ST_OK, ST_AGAIN, or what ended the journal. */
static enum status write_error_row(struct coordinator *self)
{
    enum status st = ST_OK;

    if (self->error_row.n_bytes > 0) {
        TRY(io_put(self->args.io, self->error_row.data, self->error_row.n_bytes), err);
        buf_reset(&self->error_row);
    }
err:
    return st;
}

static enum status make_error_row(struct coordinator *self, const struct prompt_row *prompt,
                                  const struct row_error *why)
{
    enum status st;
    const struct result_row row = {
        .row = prompt->row,
        .reason = FINISH_ERROR,
        .text = "",
        .error = why->text,
        .error_bytes = strlen(why->text),
        .prompt_len = (int)self->held.tokens.n_ids,
    };

    log_debug("row %llu: %s", (unsigned long long)prompt->row, why->text);
    TRY(result_pack(&row, &self->error_row), err);
    st = write_error_row(self);
    if (st == ST_OK || st == ST_AGAIN)
        st = count_failed(self);
err:
    return st;
}

static enum status put_done(struct coordinator *self, const struct msg *msg)
{
    struct wire_done done;
    const enum status st = wire_done_unpack(msg->payload, msg->n_bytes, &done);

    return st != ST_OK ? st : io_put(self->args.io, done.result, done.result_bytes);
}

/* The journal's queue first: rows that are computed but not written must not pile up. */
static enum status write_waiting(struct coordinator *self, bool *out_worked)
{
    enum status st = ST_OK;
    int n = 0;

    while (n < self->n_unwritten) {
        st = put_done(self, self->unwritten[n]);
        if (st != ST_OK)
            break;
        msg_free(self->unwritten[n++]);
        *out_worked = true;
    }
    self->n_unwritten -= n;
    memmove(self->unwritten, self->unwritten + n,
            (size_t)self->n_unwritten * sizeof *self->unwritten);
    return st == ST_OK ? write_error_row(self) : st;
}

/* ---- admission ------------------------------------------------------------------------------ */

static void drop_held(struct coordinator *self)
{
    io_row_free(self->args.io, self->held_prompt);
    self->held_prompt = NULL;
    arena_reset(self->arena);
}

/* Read the next row and make it ready; a row that cannot be served becomes an error row at once.
 * Returns ST_OK with held_prompt set, ST_AGAIN if there is none now. */
static enum status hold_next(struct coordinator *self, bool *out_worked)
{
    enum status st;
    struct row_error why = {""};

    while (self->held_prompt == NULL) {
        if (self->error_row.n_bytes > 0 || self->read_all)
            return ST_AGAIN;
        st = io_next(self->args.io, &self->held_prompt);
        if (st == ST_END)
            self->read_all = true;
        if (st != ST_OK)
            return st == ST_END ? ST_AGAIN : st;
        *out_worked = true;
        self->held_since_s = world_now_s(self->args.world);
        st = intake_row_make(self->args.intake, self->held_prompt, self->arena, &self->held, &why);
        if (st == ST_ROW) {
            st = make_error_row(self, self->held_prompt, &why);
            drop_held(self);
        }
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* The prefill stage for a row that `decode` will answer. */
static int route_prompt(const struct coordinator *self, int decode)
{
    const struct plan_layout *layout = world_layout(self->args.world);
    const int rank = plan_layout_rank(layout, ROLE_DECODE, decode);

    return plan_route_prompt(self->queues, self->n_prefill,
                             plan_layout_hosts(layout, rank, ROLE_PREFILL));
}

/* Ask for the embeddings of the held row's images. */
static enum status ask_for_images(struct coordinator *self, int32_t slot, int prefill, int32_t at)
{
    enum status st = ST_OK;
    const struct coordinator_args *args = &self->args;
    const struct image_book *book = &args->intake->vision.book;

    for (int i = 0; i < self->held.n_images; i++) {
        const struct intake_image *image = &self->held.image_facts[i];
        const int encoder = (int)(image->image % (uint64_t)self->n_encoder);
        const struct wire_encode encode = {
            .slot = slot,
            .number = i,
            .prefill = prefill,
            .at = at,
            .n_rows = self->held.images[i].n_rows,
            .width = image->width,
            .height = image->height,
            .image = image->image,
            .shown = image->shown,
            .row = self->held_prompt->row,
            .next_use = book->next_use(book->arg, image->image, self->held_prompt->row),
        };

        buf_reset(&self->scratch);
        TRY(wire_encode_pack(&encode, &self->scratch), err);
        TRY(world_send(args->world, MSG_ENCODE, self->base.at,
                       (struct address){ROLE_ENCODER, encoder}, self->scratch.data,
                       self->scratch.n_bytes),
            err);
        at += encode.n_rows;
    }
err:
    return st;
}

/* Place the held row.  Returns ST_OK, ST_AGAIN if no decode rank has room for it, or prefill none
 * for its embeddings, ST_NOMEM. */
static enum status admit(struct coordinator *self)
{
    enum status st;
    const struct coordinator_args *args = &self->args;
    const int n_prompt = (int)self->held.tokens.n_ids;
    const int n_blocks = plan_blocks(
        plan_need_tok(n_prompt, self->held.max_out, args->intake->context), args->block_tok);
    const int decode = plan_route(self->pools, self->n_decode, n_blocks);
    int32_t embed_at = 0;

    if (decode < 0 || self->n_free <= self->n_unwritten + io_n_waiting(args->io))
        return ST_AGAIN;
    const int prefill = route_prompt(self, decode);
    assert(self->held.n_embeds <= args->embed_places); /* or the row would wait for ever */
    if (self->held.n_embeds > 0)
        embed_at = plan_room_take(&self->rooms[prefill], self->held.n_embeds);
    if (embed_at < 0)
        return ST_AGAIN;
    const int32_t slot = self->free_slots[self->n_free - 1];
    const struct wire_row row = {
        .row = self->held_prompt->row,
        .slot = slot,
        .prefill = prefill,
        .decode = decode,
        .n_prompt = n_prompt,
        .max_out = self->held.max_out,
        .n_blocks = n_blocks,
        .n_stops = self->held.n_stops,
        .ignore_eos = self->held.ignore_eos,
        .queue_s = (float)(world_now_s(args->world) - self->held_since_s),
        .embed_at = embed_at,
        .rope_shift = self->held.rope_shift,
        .n_images = self->held.n_images,
        .params = self->held.sampling,
        .tokens = self->held.tokens.ids,
        .stops = self->held.stops,
        .images = self->held.images,
    };
    buf_reset(&self->scratch);
    TRY(wire_row_pack(&row, &self->scratch), err);
    TRY(world_send(args->world, MSG_RESERVE, self->base.at, (struct address){ROLE_DECODE, decode},
                   self->scratch.data, self->scratch.n_bytes),
        err);
    TRY(world_send(args->world, MSG_ADMIT, self->base.at, (struct address){ROLE_PREFILL, prefill},
                   self->scratch.data, self->scratch.n_bytes),
        err);
    TRY(ask_for_images(self, slot, prefill, embed_at), err);

    self->n_free--;
    self->flights[slot] = (struct flight){.row = row.row,
                                          .since_s = world_now_s(args->world),
                                          .used = true,
                                          .prefill = prefill,
                                          .decode = decode,
                                          .n_prompt = n_prompt,
                                          .n_blocks = n_blocks,
                                          .embed_at = embed_at,
                                          .n_embeds = self->held.n_embeds};
    self->queues[prefill].waiting_tok += n_prompt;
    self->pools[decode].n_free_blocks -= n_blocks;
    self->pools[decode].n_rows++;
    drop_held(self);
    return ST_OK;
err:
    return st;
}

/* ---- the end of the time -------------------------------------------------------------------- */

static int n_in_flight(const struct coordinator *self)
{
    return self->args.n_slots - self->n_free;
}

/* How long the oldest row in flight has been computed. */
static double oldest_s(const struct coordinator *self, double now_s)
{
    double most_s = 0;

    for (int i = 0; i < self->args.n_slots; i++)
        if (self->flights[i].used && now_s - self->flights[i].since_s > most_s)
            most_s = now_s - self->flights[i].since_s;
    return most_s;
}

/* Begin no more rows. */
static void drain(struct coordinator *self, const char *why)
{
    log_info("%s: no more rows are begun, %d in flight are finished", why, n_in_flight(self));
    self->draining = true;
    if (self->held_prompt != NULL)
        drop_held(self);
}

/* Drain when it is time.  Returns ST_OK; ST_STOPPED (logged) when there is no time left for rows in
 * flight. */
static enum status look_at_clock(struct coordinator *self, double now_s)
{
    const struct run_end *end = &self->args.end;
    const double left_s = end->at_s > 0 ? end->at_s - end->margin_s - now_s : INFINITY;
    const bool all_begun = self->draining || (self->read_all && self->held_prompt == NULL);
    char why[128];

    if (now_s < self->next_look_s)
        return ST_OK;
    self->next_look_s = now_s + LOOK_S;
    if (!all_begun && end->drain != NULL && *end->drain != 0) {
        drain(self, "asked to come to an end");
    } else if (!all_begun && left_s < INFINITY) {
        const double need_s = plan_pace_need_s(&self->pace, oldest_s(self, now_s));

        snprintf(why, sizeof why, "rows take up to %.1f s, %.1f s are left", need_s,
                 left_s > 0 ? left_s : 0.0);
        if (left_s <= need_s + 2 * LOOK_S) /* so that one more look comes before it is too late */
            drain(self, why);
    }
    if (left_s > 0 || n_in_flight(self) == 0)
        return ST_OK;
    log_error("the time is over: %d rows in flight are left to the next run", n_in_flight(self));
    return ST_STOPPED;
}

/* ---- the stage ------------------------------------------------------------------------------ */

static enum status refuse(const struct msg *msg)
{
    log_error("%s from %s/%d for slot %d is damaged or not of a row in flight there",
              msg_name(msg->type), role_name(msg->from.role), msg->from.index, wire_slot(msg));
    return ST_COMM;
}

/* A row that both sides are done with leaves its slot to another. */
static void land(struct coordinator *self, int32_t slot)
{
    struct flight *flight = &self->flights[slot];

    if (!flight->prefilled || !flight->done)
        return;
    flight->used = false;
    self->free_slots[self->n_free++] = slot;
}

static enum status take_prefilled(struct coordinator *self, const struct msg *msg)
{
    enum status st;
    struct wire_prefilled prefilled;

    TRY(wire_prefilled_unpack(msg->payload, msg->n_bytes, &prefilled), err);
    if (prefilled.slot >= self->args.n_slots)
        return refuse(msg);
    struct flight *flight = &self->flights[prefilled.slot];
    if (!flight->used || flight->prefilled || flight->prefill != msg->from.index ||
        flight->n_prompt != prefilled.n_prompt)
        return refuse(msg);
    self->queues[flight->prefill].waiting_tok -= flight->n_prompt;
    if (flight->n_embeds > 0)
        plan_room_give(&self->rooms[flight->prefill], flight->embed_at, flight->n_embeds);
    flight->prefilled = true;
    land(self, prefilled.slot);
err:
    return st;
}

/* *out_keep: the journal has no room now, the message waits in `unwritten`. */
static enum status take_done(struct coordinator *self, struct msg *msg, bool *out_keep)
{
    enum status st;
    struct wire_done done;
    struct result_row row;

    TRY(wire_done_unpack(msg->payload, msg->n_bytes, &done), err);
    if (result_unpack(done.result, done.result_bytes, &row) != ST_OK ||
        done.slot >= self->args.n_slots)
        return refuse(msg);
    struct flight *flight = &self->flights[done.slot];
    if (!flight->used || flight->done || flight->decode != msg->from.index ||
        flight->row != row.row)
        return refuse(msg);
    self->pools[flight->decode].n_free_blocks += flight->n_blocks;
    self->pools[flight->decode].n_rows--;
    flight->done = true;
    plan_pace_add(&self->pace, world_now_s(self->args.world) - flight->since_s);
    land(self, done.slot);

    log_debug("row %llu done", (unsigned long long)row.row);
    st = self->n_unwritten > 0 ? ST_AGAIN : put_done(self, msg);
    if (st == ST_AGAIN) {
        self->unwritten[self->n_unwritten++] = msg;
        *out_keep = true;
        st = ST_OK;
    }
    if (st == ST_OK && row.reason == FINISH_ERROR)
        st = count_failed(self);
err:
    return st;
}

static enum status on_message(struct stage *stage, struct msg *msg)
{
    enum status st;
    struct coordinator *self = self_of(stage);
    bool keep = false;

    assert(msg->type == MSG_DONE || msg->type == MSG_PREFILLED);
    if (msg->type == MSG_DONE)
        st = take_done(self, msg, &keep);
    else
        st = take_prefilled(self, msg);
    if (!keep)
        msg_free(msg);
    return st;
}

static void report(struct coordinator *self, double now_s)
{
    struct journal_counts counts;
    struct wire_beat totals = {0};
    char line[256];

    io_counts(self->args.io, &counts);
    if (self->args.watch != NULL)
        watch_totals(self->args.watch, &totals);
    const struct progress now = {
        .elapsed_s = now_s - self->start_s,
        .n_rows = counts.n_rows,
        .n_done = counts.n_done,
        .n_failed = counts.n_failed,
        .n_kept = counts.n_kept,
        .prompt_tok = totals.n_prompt_tok,
        .answer_tok = totals.n_answer_tok,
    };
    log_info("%s", progress_line(line, sizeof line, &now, &self->last));
    self->last = now;
    self->next_progress_s = now_s + self->args.progress_s;
}

/* All rows read, none in flight, everything written: tell the others to end. */
static enum status stop_all(struct coordinator *self)
{
    enum status st;

    static const enum role roles[] = {ROLE_ENCODER, ROLE_PREFILL, ROLE_DECODE};

    for (size_t k = 0; k < sizeof roles / sizeof *roles; k++)
        for (int i = 0; i < world_layout(self->args.world)->n_stages[roles[k]]; i++)
            TRY(world_send(self->args.world, MSG_STOP, self->base.at, (struct address){roles[k], i},
                           NULL, 0),
                err);
    self->base.ended = true;
    return ST_OK;
err:
    return st;
}

static enum status poll(struct stage *stage, bool *out_worked)
{
    struct coordinator *self = self_of(stage);
    const double now_s = world_now_s(self->args.world);
    enum status st = write_waiting(self, out_worked);

    if (st == ST_OK || st == ST_AGAIN) {
        const enum status clock_st = look_at_clock(self, now_s);

        st = clock_st != ST_OK ? clock_st : st;
    }
    for (int i = 0; st == ST_OK && !self->draining && i < ROWS_PER_POLL; i++) {
        st = hold_next(self, out_worked);
        if (st == ST_OK)
            st = admit(self);
        *out_worked |= st == ST_OK;
    }
    if (st != ST_OK && st != ST_AGAIN)
        return st;

    if (self->args.progress_s > 0 && now_s >= self->next_progress_s)
        report(self, now_s);
    if ((self->read_all || self->draining) && self->held_prompt == NULL && n_in_flight(self) == 0 &&
        self->n_unwritten == 0 && self->error_row.n_bytes == 0 && io_n_waiting(self->args.io) == 0)
        return stop_all(self);
    return ST_OK;
}

static void describe(const struct stage *stage, struct wire_beat *beat)
{
    const struct coordinator *self = (const struct coordinator *)stage;

    beat->n_rows += self->n_unwritten + (self->held_prompt != NULL); /* others have the rest */
    beat_say(beat, "coordinator: %d rows in flight", n_in_flight(self));
}

const struct plan_pool *coordinator_pool(const struct stage *coordinator, int decode)
{
    return &((const struct coordinator *)coordinator)->pools[decode];
}

const struct plan_queue *coordinator_queue(const struct stage *coordinator, int prefill)
{
    return &((const struct coordinator *)coordinator)->queues[prefill];
}

const struct plan_room *coordinator_room(const struct stage *coordinator, int prefill)
{
    const struct coordinator *self = (const struct coordinator *)coordinator;

    return self->rooms != NULL ? &self->rooms[prefill] : NULL;
}

static void destroy(struct stage *stage)
{
    struct coordinator *self = self_of(stage);

    if (self->held_prompt != NULL)
        drop_held(self);
    for (int i = 0; self->unwritten != NULL && i < self->n_unwritten; i++)
        msg_free(self->unwritten[i]);
    intake_row_free(&self->held);
    buf_free(&self->error_row);
    buf_free(&self->scratch);
    arena_destroy(self->arena);
    host_free(self->unwritten);
    host_free(self->free_slots);
    host_free(self->flights);
    host_free(self->pools);
    host_free(self->queues);
    host_free(self->rooms);
    host_free(self->extents);
    host_free(self);
}

/* A mirror of each prefill stage's memory for embeddings, if there will be any. */
static enum status make_rooms(struct coordinator *self)
{
    const size_t n_prefill = (size_t)self->n_prefill, cap = (size_t)self->args.n_slots + 1;

    if (self->args.embed_places == 0)
        return ST_OK;
    self->rooms = host_zalloc(n_prefill * sizeof *self->rooms);
    self->extents = host_alloc(n_prefill * cap * sizeof *self->extents);
    if (self->rooms == NULL || self->extents == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i < n_prefill; i++)
        plan_room_init(&self->rooms[i], self->args.embed_places, self->extents + i * cap, (int)cap);
    return ST_OK;
}

static const struct stage_ops coordinator_ops = {on_message, poll, describe, destroy};

enum status coordinator_create(const struct coordinator_args *args, struct stage **out_stage)
{
    const size_t n_slots = (size_t)args->n_slots;
    const struct plan_layout *layout = world_layout(args->world);
    struct coordinator *self = host_zalloc(sizeof *self);
    struct journal_counts counts;

    assert(args->n_slots > 0 && args->n_slots <= COMM_MAX_SLOTS);
    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct stage){.ops = &coordinator_ops, .at = {ROLE_COORDINATOR, 0}};
    self->args = *args;
    self->n_encoder = layout->n_stages[ROLE_ENCODER];
    self->n_prefill = layout->n_stages[ROLE_PREFILL];
    self->n_decode = layout->n_stages[ROLE_DECODE];
    self->queues = host_zalloc((size_t)self->n_prefill * sizeof *self->queues);
    self->pools = host_alloc((size_t)self->n_decode * sizeof *self->pools);
    self->flights = host_zalloc(n_slots * sizeof *self->flights);
    self->free_slots = host_alloc(n_slots * sizeof *self->free_slots);
    self->unwritten = host_zalloc(n_slots * sizeof *self->unwritten);
    if (self->queues == NULL || self->pools == NULL || self->flights == NULL ||
        self->free_slots == NULL || self->unwritten == NULL || make_rooms(self) != ST_OK ||
        arena_create(ARENA_BYTES, &self->arena) != ST_OK) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    memcpy(self->pools, args->pools, (size_t)self->n_decode * sizeof *self->pools);
    for (int i = 0; i < args->n_slots; i++)
        self->free_slots[i] = args->n_slots - 1 - i; /* so pops give 0, 1, 2, ... */
    self->n_free = args->n_slots;
    io_counts(args->io, &counts);
    self->n_failed = counts.n_failed;
    self->start_s = world_now_s(args->world);
    self->next_progress_s = self->start_s + args->progress_s;
    *out_stage = &self->base;
    return ST_OK;
}
