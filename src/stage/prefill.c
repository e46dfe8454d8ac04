/*
 * prefill.c - computes prompts: their KV, layer by layer, and the token that follows them.
 *
 *   ADMIT ─┐                 ┌ LAYER_DONE l ─► link (the layer's KV may leave)
 *   GRANT ─┴─► queue ─► step ┤
 *                            └ STEP_DONE ────► prompt complete, all KV arrived ──FIRST──► decode
 *
 * A row starts when it has both ADMIT and GRANT, so it has all its blocks in hand.  A step takes
 * tokens from the rows in the order they came, up to its limit: several short prompts share a step,
 * a long one takes several.  What a row computes does not depend on that (DESIGN section 7).
 */
#include <assert.h>

#include "stage/stage.h"

enum { ARENA_BYTES = 1 << 12 };

enum row_state { ROW_FREE, ROW_WAITING, ROW_QUEUED, ROW_LEAVING };

struct prefill_row {
    enum row_state state;
    struct msg *admit, *grant; /* owned; row and blocks are views into them */
    struct wire_row row;
    struct wire_grant granted;
    const int32_t *blocks; /* where KV is written: the link says */
    struct arena *arena;   /* owned; the stop strings that unpacking lists */
    int n_done;            /* tokens computed */
    double admitted_s, begun_s, computed_s;
    struct wire_first first;
};

struct prefill {
    struct stage base;
    struct prefill_args args;
    struct prefill_row *rows; /* [n_slots] owned */
    int32_t *queue; /* [n_slots] owned: slots in order of arrival; states QUEUED and LEAVING */
    int n_queue, n_leaving;
    struct step step;
    struct step_seq *seqs; /* [max_seqs] owned */
    bool stepping;
};

static struct prefill *self_of(struct stage *stage)
{
    return (struct prefill *)stage;
}

/* ---- messages ------------------------------------------------------------------------------- */

static void row_free(struct prefill_row *row)
{
    msg_free(row->admit);
    msg_free(row->grant);
    arena_destroy(row->arena);
    *row = (struct prefill_row){.state = ROW_FREE};
}

static enum status refuse(const struct msg *msg, int32_t slot)
{
    log_error("%s from %s/%d for slot %d, which is not there or has had one: the stages do not "
              "run one job",
              msg_name(msg->type), role_name(msg->from.role), msg->from.index, slot);
    return ST_COMM;
}

/* ADMIT and GRANT are both here: the row may be computed. */
static enum status start_row(struct prefill *self, int32_t slot)
{
    enum status st;
    struct prefill_row *row = &self->rows[slot];

    if (row->granted.layout_id != self->args.layout_id ||
        row->granted.n_blocks < row->row.n_blocks) {
        log_error(
            "row %llu: decode/%d granted %d blocks of layout %016llx, prefill needs %d of %016llx",
            (unsigned long long)row->row.row, row->row.decode, row->granted.n_blocks,
            (unsigned long long)row->granted.layout_id, row->row.n_blocks,
            (unsigned long long)self->args.layout_id);
        return ST_COMM;
    }
    TRY(self->args.link->ops->begin(self->args.link, &row->granted, &row->blocks), err);
    row->state = ROW_QUEUED;
    self->queue[self->n_queue++] = slot;
err:
    return st;
}

static enum status take_admit(struct prefill *self, struct msg *msg)
{
    enum status st;
    struct arena *arena = NULL;
    struct wire_row wire;

    TRY(arena_create(ARENA_BYTES, &arena), err);
    TRY(wire_row_unpack(msg->payload, msg->n_bytes, arena, &wire), err);
    if (wire.slot >= self->args.n_slots || self->rows[wire.slot].admit != NULL) {
        st = refuse(msg, wire.slot);
        goto err;
    }
    struct prefill_row *row = &self->rows[wire.slot];
    row->admit = msg;
    row->arena = arena;
    row->row = wire;
    row->admitted_s = clock_now_s();
    if (row->grant != NULL)
        return start_row(self, wire.slot);
    row->state = ROW_WAITING;
    return ST_OK;
err:
    arena_destroy(arena);
    msg_free(msg);
    return st;
}

static enum status take_grant(struct prefill *self, struct msg *msg)
{
    enum status st;
    struct wire_grant grant;

    TRY(wire_grant_unpack(msg->payload, msg->n_bytes, &grant), err);
    if (grant.slot >= self->args.n_slots || self->rows[grant.slot].grant != NULL) {
        st = refuse(msg, grant.slot);
        goto err;
    }
    struct prefill_row *row = &self->rows[grant.slot];
    row->grant = msg;
    row->granted = grant;
    if (row->admit != NULL)
        return start_row(self, grant.slot);
    row->state = ROW_WAITING; /* GRANT came first: parked */
    return ST_OK;
err:
    msg_free(msg);
    return st;
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
        assert(self->n_queue == 0 && !self->stepping);
        stage->ended = true;
        return ST_OK;
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* Fill the step from the queue.  Returns the number of its sequences. */
static int compose(struct prefill *self)
{
    int n_seqs = 0, left_tok = self->args.max_tok;

    for (int i = 0; i < self->n_queue && n_seqs < self->args.max_seqs && left_tok > 0; i++) {
        struct prefill_row *row = &self->rows[self->queue[i]];
        const int todo = row->row.n_prompt - row->n_done;

        if (row->state != ROW_QUEUED)
            continue;
        if (row->n_done == 0)
            row->begun_s = clock_now_s();
        const int n_tok = todo < left_tok ? todo : left_tok;
        self->seqs[n_seqs++] = (struct step_seq){
            .row = row->row.row,
            .tokens = row->row.tokens + row->n_done,
            .n_tok = n_tok,
            .pos0 = row->n_done,
            .blocks = row->blocks,
            .sample = n_tok == todo,
            .params = &row->row.params,
            .history = row->row.tokens,
            .tag = self->queue[i],
        };
        left_tok -= n_tok;
    }
    self->step = (struct step){.of_prompts = true, .n_seqs = n_seqs, .seqs = self->seqs};
    return n_seqs;
}

/* KV of this layer is in its blocks, for every row of the step. */
static enum status push_layer(struct prefill *self, int layer)
{
    enum status st = ST_OK;
    struct link *link = self->args.link;

    for (int i = 0; i < self->step.n_seqs; i++) {
        const struct step_seq *seq = &self->seqs[i];

        TRY(link->ops->layer(link, seq->tag, layer, seq->pos0, seq->n_tok), err);
    }
err:
    return st;
}

static void take_step(struct prefill *self)
{
    for (int i = 0; i < self->step.n_seqs; i++) {
        const struct step_seq *seq = &self->seqs[i];
        struct prefill_row *row = &self->rows[seq->tag];

        row->n_done += seq->n_tok;
        if (!seq->sample)
            continue;
        row->computed_s = clock_now_s();
        row->first = (struct wire_first){
            .slot = seq->tag,
            .failed = seq->failed,
            .error = seq->error,
            .wait_s = (float)(row->begun_s - row->admitted_s),
            .prefill_s = (float)(row->computed_s - row->begun_s),
            .first = seq->sampled,
        };
        row->state = ROW_LEAVING;
        self->n_leaving++;
    }
    self->stepping = false;
}

/* Rows whose KV has arrived are decode's from now on. */
static enum status hand_over(struct prefill *self, bool *out_worked)
{
    enum status st = ST_OK;
    struct link *link = self->args.link;
    struct buf payload = {0};
    int kept = 0;

    for (int i = 0; i < self->n_queue; i++) {
        const int32_t slot = self->queue[i];
        struct prefill_row *row = &self->rows[slot];

        if (st != ST_OK || row->state != ROW_LEAVING || !link->ops->arrived(link, slot)) {
            self->queue[kept++] = slot;
            continue;
        }
        row->first.exposed_transfer_s = (float)(clock_now_s() - row->computed_s);
        link->ops->end(link, slot);
        buf_reset(&payload);
        st = wire_first_pack(&row->first, &payload);
        if (st == ST_OK)
            st = world_send(self->args.world, MSG_FIRST, self->base.at,
                            (struct address){ROLE_DECODE, row->row.decode}, payload.data,
                            payload.n_bytes);
        row_free(row);
        self->n_leaving--;
        *out_worked = true;
    }
    self->n_queue = kept;
    buf_free(&payload);
    return st;
}

static enum status poll(struct stage *stage, bool *out_worked)
{
    enum status st;
    struct prefill *self = self_of(stage);

    if (self->n_leaving > 0)
        TRY(hand_over(self, out_worked), err);
    if (!self->stepping) {
        if (self->n_queue == 0 || self->args.engine->running != NULL || compose(self) == 0)
            return ST_OK;
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
        take_step(self);
    return ST_OK;
err:
    return st;
}

/* ---- create, destroy ------------------------------------------------------------------------ */

static void destroy(struct stage *stage)
{
    struct prefill *self = self_of(stage);

    for (int i = 0; self->rows != NULL && i < self->args.n_slots; i++)
        row_free(&self->rows[i]);
    host_free(self->rows);
    host_free(self->queue);
    host_free(self->seqs);
    host_free(self);
}

static const struct stage_ops prefill_ops = {on_message, poll, destroy};

enum status prefill_create(const struct prefill_args *args, struct stage **out_stage)
{
    struct prefill *self = host_zalloc(sizeof *self);

    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct stage){.ops = &prefill_ops, .at = {ROLE_PREFILL, args->index}};
    self->args = *args;
    self->rows = host_zalloc((size_t)args->n_slots * sizeof *self->rows);
    self->queue = host_zalloc((size_t)args->n_slots * sizeof *self->queue);
    self->seqs = host_zalloc((size_t)args->max_seqs * sizeof *self->seqs);
    if (self->rows == NULL || self->queue == NULL || self->seqs == NULL) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    *out_stage = &self->base;
    return ST_OK;
}
