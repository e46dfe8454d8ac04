/*
 * prefill.c - computes prompts: their KV, layer by layer, and the token that follows them.
 *
 *   ADMIT ─┐                        ┌ LAYER_DONE l ─► link: the layer's KV may leave (PIECE)
 *   GRANT ─┴─► queue ─link─► step ──┤
 *                                   └ STEP_DONE, prompt complete ─┬─FIRST─────► decode
 *                                                                 └─PREFILLED─► coordinator
 *
 * A row joins the queue when it has both ADMIT and GRANT, so decode has all its blocks; it begins,
 * in its turn, when the link says where to write.  A step takes tokens from the rows in the order
 * they came, up to its limit: several short prompts share a step, a long one takes several.  What a
 * row computes does not depend on that (DESIGN section 7).  Once computed a row is gone from here;
 * bytes that have not left by then are the link's.
 */
#include <assert.h>

#include "stage/stage.h"

enum { ARENA_BYTES = 1 << 12 };
#define LEAVE_PART 0.02 /* of a step: how long the next one may wait for bytes to leave */

struct prefill_row {
    struct arena *arena;       /* owned; holds this struct and the stop strings */
    struct msg *admit, *grant; /* owned; row and granted are views into them */
    struct wire_row row;
    struct wire_grant granted;
    const int32_t *blocks; /* where KV is written: the link says */
    int n_done;            /* tokens computed */
    double admitted_s, begun_s;
};

struct prefill {
    struct stage base;
    struct prefill_args args;
    int n_decode;
    struct prefill_row **rows; /* [n_slots] owned; NULL = not open */
    int32_t *queue;       /* [n_slots] owned: slots in order of arrival; the first n_begun of */
    int n_queue, n_begun; /* n_queue have blocks */
    int n_open;
    struct step step;      /* its sequences are the queue's first */
    struct step_seq *seqs; /* [max_seqs] owned */
    int n_layers;          /* of the step, computed */
    bool stepping, stopping;
    double submitted_s, leave_until_s;
    struct buf payload; /* scratch */
};

static struct prefill *self_of(struct stage *stage)
{
    return (struct prefill *)stage;
}

/* ---- messages ------------------------------------------------------------------------------- */

static enum status open_row(struct prefill *self, int32_t slot, struct prefill_row **out_row)
{
    enum status st = ST_OK;
    struct arena *arena = NULL;
    struct prefill_row *row = self->rows[slot];

    if (row == NULL) {
        TRY(arena_create(ARENA_BYTES, &arena), err);
        row = arena_alloc(arena, sizeof *row);
        if (row == NULL) {
            arena_destroy(arena);
            return ST_NOMEM;
        }
        *row = (struct prefill_row){.arena = arena};
        self->rows[slot] = row;
        self->n_open++;
    }
    *out_row = row;
err:
    return st;
}

static void close_row(struct prefill *self, int32_t slot)
{
    struct prefill_row *row = self->rows[slot];

    msg_free(row->admit);
    msg_free(row->grant);
    arena_destroy(row->arena);
    self->rows[slot] = NULL;
    self->n_open--;
}

static enum status refuse(const struct msg *msg)
{
    log_error("%s from %s/%d for slot %d, which is not there or has had one: the stages do not "
              "run one job",
              msg_name(msg->type), role_name(msg->from.role), msg->from.index, wire_slot(msg));
    return ST_COMM;
}

/* A row that has both its messages waits for its turn. */
static enum status queue_if_whole(struct prefill *self, const struct prefill_row *row)
{
    if (row->admit == NULL || row->grant == NULL)
        return ST_OK;
    if (row->grant->from.index != row->row.decode)
        return refuse(row->grant);
    self->queue[self->n_queue++] = row->row.slot;
    return ST_OK;
}

static enum status take_admit(struct prefill *self, struct msg *msg)
{
    enum status st;
    struct prefill_row *row;
    const int32_t slot = wire_slot(msg);

    if (slot < 0 || slot >= self->args.n_slots) {
        st = refuse(msg);
        goto err;
    }
    TRY(open_row(self, slot, &row), err);
    if (row->admit != NULL) {
        st = refuse(msg);
        goto err;
    }
    TRY(wire_row_unpack(msg->payload, msg->n_bytes, row->arena, &row->row), err);
    if (row->row.prefill != self->base.at.index || row->row.decode < 0 ||
        row->row.decode >= self->n_decode) {
        st = refuse(msg);
        goto err;
    }
    row->admit = msg;
    row->admitted_s = world_now_s(self->args.world);
    return queue_if_whole(self, row);
err:
    msg_free(msg);
    return st;
}

/* GRANT may come before ADMIT: then it is parked. */
static enum status take_grant(struct prefill *self, struct msg *msg)
{
    enum status st;
    struct wire_grant grant;
    struct prefill_row *row;

    TRY(wire_grant_unpack(msg->payload, msg->n_bytes, &grant), err);
    if (grant.slot >= self->args.n_slots) {
        st = refuse(msg);
        goto err;
    }
    TRY(open_row(self, grant.slot, &row), err);
    if (row->grant != NULL) {
        st = refuse(msg);
        goto err;
    }
    row->grant = msg;
    row->granted = grant;
    return queue_if_whole(self, row);
err:
    msg_free(msg);
    return st;
}

static enum status take_stop(struct prefill *self)
{
    if (self->n_open > 0) {
        log_error("STOP for prefill/%d, which has %d rows: the coordinator has lost count",
                  self->base.at.index, self->n_open);
        return ST_COMM;
    }
    self->stopping = true;
    return ST_OK;
}

static enum status on_message(struct stage *stage, struct msg *msg)
{
    struct prefill *self = self_of(stage);

    switch (msg->type) {
    case MSG_ADMIT:
        return take_admit(self, msg);
    case MSG_GRANT:
        return take_grant(self, msg);
    default:
        assert(msg->type == MSG_STOP);
        msg_free(msg);
        return take_stop(self);
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* Let rows begin, in their order, as far as the link has room. */
static enum status begin_rows(struct prefill *self, bool *out_worked)
{
    enum status st = ST_OK;

    while (self->n_begun < self->n_queue) {
        struct prefill_row *row = self->rows[self->queue[self->n_begun]];

        st = link_out_begin(self->args.link, &row->row, &row->granted, &row->blocks);
        if (st != ST_OK)
            break;
        self->n_begun++;
        *out_worked = true;
    }
    return st == ST_AGAIN ? ST_OK : st;
}

/* Fill the step from the rows that have begun; there is one. */
static void compose(struct prefill *self)
{
    const double now_s = world_now_s(self->args.world);
    int n_seqs = 0, left_tok = self->args.max_tok;

    while (n_seqs < self->n_begun && n_seqs < self->args.max_seqs && left_tok > 0) {
        struct prefill_row *row = self->rows[self->queue[n_seqs]];
        const int todo = row->row.n_prompt - row->n_done;
        const int n_tok = todo < left_tok ? todo : left_tok;

        if (row->n_done == 0)
            row->begun_s = now_s;
        self->seqs[n_seqs++] = (struct step_seq){
            .row = row->row.row,
            .tokens = row->row.tokens + row->n_done,
            .n_tok = n_tok,
            .pos0 = row->n_done,
            .blocks = row->blocks,
            .sample = n_tok == todo,
            .params = &row->row.params,
            .history = row->row.tokens,
            .tag = row->row.slot,
        };
        left_tok -= n_tok;
    }
    self->step = (struct step){.of_prompts = true, .n_seqs = n_seqs, .seqs = self->seqs};
    self->n_layers = 0;
}

/* KV of this layer is in its blocks, for every row of the step. */
static enum status push_layer(struct prefill *self, int layer)
{
    enum status st = ST_OK;

    for (int i = 0; i < self->step.n_seqs; i++) {
        const struct step_seq *seq = &self->seqs[i];

        TRY(link_out_layer(self->args.link, seq->tag, layer, seq->pos0, seq->n_tok), err);
    }
    self->n_layers = layer + 1;
err:
    return st;
}

/* A prompt is computed: the row is decode's from now on. */
static enum status hand_over(struct prefill *self, const struct step_seq *seq)
{
    enum status st;
    const struct prefill_row *row = self->rows[seq->tag];
    const double now_s = world_now_s(self->args.world);
    struct wire_first first = {
        .slot = seq->tag,
        .failed = seq->failed,
        .error = seq->error,
        .wait_s = (float)(row->begun_s - row->admitted_s),
        .prefill_s = (float)(now_s - row->begun_s),
        .computed_s = now_s,
        .first = seq->sampled,
    };
    const struct wire_prefilled prefilled = {seq->tag, row->row.n_prompt};

    link_out_end(self->args.link, seq->tag, &first.n_pieces);
    buf_reset(&self->payload);
    TRY(wire_first_pack(&first, &self->payload), err);
    TRY(world_send(self->args.world, MSG_FIRST, self->base.at,
                   (struct address){ROLE_DECODE, row->row.decode}, self->payload.data,
                   self->payload.n_bytes),
        err);
    buf_reset(&self->payload);
    TRY(wire_prefilled_pack(&prefilled, &self->payload), err);
    TRY(world_send(self->args.world, MSG_PREFILLED, self->base.at,
                   (struct address){ROLE_COORDINATOR, 0}, self->payload.data,
                   self->payload.n_bytes),
        err);
    close_row(self, seq->tag);
err:
    return st;
}

static enum status take_step(struct prefill *self)
{
    enum status st = ST_OK;
    const int n_seqs = self->step.n_seqs;
    const double now_s = world_now_s(self->args.world);
    int kept = 0;

    self->stepping = false;
    self->leave_until_s = now_s + LEAVE_PART * (now_s - self->submitted_s);
    for (int i = 0; i < n_seqs; i++) {
        const struct step_seq *seq = &self->seqs[i];

        self->rows[seq->tag]->n_done += seq->n_tok;
        if (seq->sample)
            TRY(hand_over(self, seq), err);
        else
            self->queue[kept++] = seq->tag;
    }
    self->n_begun -= n_seqs - kept;
    self->n_queue -= n_seqs - kept;
    memmove(self->queue + kept, self->queue + n_seqs,
            (size_t)(self->n_queue - kept) * sizeof *self->queue);
err:
    return st;
}

/* Whether the next step is better begun a little later: the last bytes of the rows of this one need
 * this rank's hand, for which a layer of the next would keep decode waiting. */
static bool bytes_leave(const struct prefill *self)
{
    return !link_out_idle(self->args.link) && world_now_s(self->args.world) < self->leave_until_s;
}

static enum status poll(struct stage *stage, bool *out_worked)
{
    enum status st;
    struct prefill *self = self_of(stage);

    link_out_poll(self->args.link, out_worked);
    if (self->stopping) {
        stage->ended = link_out_idle(self->args.link);
        return ST_OK;
    }
    TRY(begin_rows(self, out_worked), err);
    if (!self->stepping) {
        if (self->n_begun == 0 || self->args.engine->running != NULL || bytes_leave(self))
            return ST_OK;
        compose(self);
        self->submitted_s = world_now_s(self->args.world);
        TRY(engine_submit(self->args.engine, &self->step), err);
        self->stepping = true;
    }
    enum engine_event event;
    int layer;
    TRY(engine_poll(self->args.engine, &event, &layer), err);
    *out_worked |= event != ENGINE_BUSY;
    if (event == ENGINE_LAYER_DONE)
        TRY(push_layer(self, layer), err);
    if (event == ENGINE_STEP_DONE)
        TRY(take_step(self), err);
err:
    return st;
}

/* ---- create, destroy ------------------------------------------------------------------------ */

static void describe(const struct stage *stage, struct wire_beat *beat)
{
    const struct prefill *self = (const struct prefill *)stage;

    beat->n_rows += self->n_open;
    if (self->stepping)
        beat_say(beat, "prefill/%d: step of %d rows, layer %d of %d", stage->at.index,
                 self->step.n_seqs, self->n_layers, self->args.engine->L);
    else
        beat_say(beat, "prefill/%d: %d rows, no step", stage->at.index, self->n_open);
}

/* What the link still moves is the link's to end. */
static void destroy(struct stage *stage)
{
    struct prefill *self = self_of(stage);

    for (int i = 0; self->rows != NULL && i < self->args.n_slots; i++)
        if (self->rows[i] != NULL)
            close_row(self, i);
    buf_free(&self->payload);
    host_free(self->rows);
    host_free(self->queue);
    host_free(self->seqs);
    host_free(self);
}

static const struct stage_ops prefill_ops = {on_message, poll, describe, destroy};

enum status prefill_create(const struct prefill_args *args, struct stage **out_stage)
{
    struct prefill *self = host_zalloc(sizeof *self);

    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct stage){.ops = &prefill_ops, .at = {ROLE_PREFILL, args->index}};
    self->args = *args;
    self->n_decode = world_layout(args->world)->n_stages[ROLE_DECODE];
    self->rows = host_zalloc((size_t)args->n_slots * sizeof(struct prefill_row *));
    self->queue = host_zalloc((size_t)args->n_slots * sizeof *self->queue);
    self->seqs = host_zalloc((size_t)args->max_seqs * sizeof *self->seqs);
    if (self->rows == NULL || self->queue == NULL || self->seqs == NULL) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    *out_stage = &self->base;
    return ST_OK;
}
