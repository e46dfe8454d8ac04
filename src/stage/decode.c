/*
 * decode.c - computes answers, a token per row and step, and turns them into text.
 *
 *   RESERVE ─► take blocks ──GRANT──► prefill
 *   PIECE ───► link: bytes of the prompt's KV into those blocks
 *   FIRST ───► all pieces there? ─► ready ─► batch ─► step ─► token ─► text, stop? ──DONE──►
 *                                                                                 coordinator
 *
 * Blocks for the longest answer a row may give are taken at RESERVE and given back at DONE, so a
 * row never waits for a block once it runs.  Rows join and leave the batch between steps.
 */
#include <assert.h>

#include "stage/stage.h"

enum { ARENA_BYTES = 1 << 13 };

enum row_state { ROW_RESERVED, ROW_ARRIVING, ROW_READY, ROW_ACTIVE };

struct decode_row {
    enum row_state state;
    struct arena *arena; /* owned; holds this struct and all arrays below */
    struct msg *reserve; /* owned; row is a view into it */
    struct wire_row row;
    struct wire_first first; /* from ROW_ARRIVING on */
    int32_t *blocks;         /* [row.n_blocks] */
    int32_t *history;        /* [n_prompt + max_out] prompt, then answer */
    int n_out;
    float *logprobs; /* [max_out], and [max_out, n_top], when asked for */
    int32_t *top_ids;
    float *top_logprobs;
    struct detokenizer detok;
    struct buf text; /* owned */
    size_t longest_stop_bytes;
    double ready_s; /* when the first token and all of the prompt's KV were here */
    struct row_timing timing;
};

struct decode {
    struct stage base;
    struct decode_args args;
    int n_prefill;
    int32_t eos_ids[MODEL_MAX_EOS];
    struct decode_row **rows; /* [n_slots] owned; NULL = not open */
    int32_t *arriving;        /* [n_slots] owned: slots whose FIRST is here */
    int32_t *ready;           /* [n_slots] owned: slots in the order they became so */
    int32_t *active;          /* [max_batch] owned: slots of the step */
    int n_arriving, n_ready, n_active, n_open;
    struct step step;
    struct step_seq *seqs; /* [max_batch] owned */
    int n_layers;          /* of the step, computed */
    bool stepping;
    uint64_t n_handed; /* rows whose KV came, and sums over them */
    double exposed_s, prefill_s;
    struct buf result, done; /* scratch for packing */
};

static struct decode *self_of(struct stage *stage)
{
    return (struct decode *)stage;
}

/* ---- a row's memory -------------------------------------------------------------------------- */

/* The arrays of the row's whole life, so that only its text grows as it goes on. */
static enum status set_aside(struct decode_row *row)
{
    const size_t max_out = (size_t)row->row.max_out, n_prompt = (size_t)row->row.n_prompt;
    const size_t n_top = row->row.params.n_top > 0 ? (size_t)row->row.params.n_top : 0;

    row->blocks = arena_alloc(row->arena, (size_t)row->row.n_blocks * sizeof *row->blocks);
    row->history = arena_alloc(row->arena, (n_prompt + max_out) * sizeof *row->history);
    if (row->blocks == NULL || row->history == NULL)
        return ST_NOMEM;
    memcpy(row->history, row->row.tokens, n_prompt * sizeof *row->history);
    if (row->row.params.n_top < 0)
        return ST_OK;
    row->logprobs = arena_alloc(row->arena, max_out * sizeof *row->logprobs);
    row->top_ids = arena_alloc(row->arena, max_out * n_top * sizeof *row->top_ids);
    row->top_logprobs = arena_alloc(row->arena, max_out * n_top * sizeof *row->top_logprobs);
    return row->logprobs != NULL && row->top_ids != NULL && row->top_logprobs != NULL ? ST_OK
                                                                                      : ST_NOMEM;
}

/* Whether a row is for this stage, from a prefill stage that there is, and has all the blocks that
 * it may come to need: what it says decides where bytes are written. */
static bool row_fits(const struct decode *self, const struct wire_row *row)
{
    const int64_t block_tok = kv_pool_space(self->args.pool)->layout.P;

    return row->decode == self->base.at.index && row->prefill >= 0 &&
           row->prefill < self->n_prefill &&
           row->n_blocks * block_tok >= (int64_t)row->n_prompt + row->max_out - 1;
}

/* Open the row: all its memory and blocks are taken here, so that it can always go on. */
static enum status open_row(struct decode *self, struct msg *msg)
{
    enum status st;
    struct arena *arena = NULL;
    struct wire_row wire;

    TRY(arena_create(ARENA_BYTES, &arena), err);
    TRY(wire_row_unpack(msg->payload, msg->n_bytes, arena, &wire), err_arena);
    if (!row_fits(self, &wire)) {
        log_error(
            "row %llu for decode/%d from prefill/%d, %d + %d tokens in %d KV blocks: decode/%d "
            "cannot serve it; the stages do not run one job",
            (unsigned long long)wire.row, wire.decode, wire.prefill, wire.n_prompt, wire.max_out,
            wire.n_blocks, self->base.at.index);
        st = ST_COMM;
        goto err_arena;
    }
    struct decode_row *row = arena_alloc(arena, sizeof *row);
    if (row == NULL) {
        st = ST_NOMEM;
        goto err_arena;
    }
    *row = (struct decode_row){.arena = arena, .reserve = msg, .row = wire};
    for (int i = 0; i < wire.n_stops; i++)
        if (wire.stops[i].n_bytes > row->longest_stop_bytes)
            row->longest_stop_bytes = wire.stops[i].n_bytes;
    TRY(set_aside(row), err_arena);
    st = kv_pool_take(self->args.pool, wire.n_blocks, row->blocks);
    if (st != ST_OK) {
        log_error("row %llu needs %d KV blocks and %d are free: the coordinator's mirror is wrong",
                  (unsigned long long)wire.row, wire.n_blocks, kv_pool_n_free(self->args.pool));
        st = ST_COMM;
        goto err_arena;
    }
    TRY(link_in_open(self->args.link, wire.slot, wire.prefill, row->blocks, wire.n_blocks),
        err_blocks);
    self->rows[wire.slot] = row;
    self->n_open++;
    return ST_OK;

err_blocks:
    kv_pool_give(self->args.pool, row->blocks, wire.n_blocks);
err_arena:
    arena_destroy(arena);
err:
    msg_free(msg);
    return st;
}

static void close_row(struct decode *self, int32_t slot)
{
    struct decode_row *row = self->rows[slot];

    kv_pool_give(self->args.pool, row->blocks, row->row.n_blocks);
    buf_free(&row->text);
    msg_free(row->reserve);
    arena_destroy(row->arena);
    self->rows[slot] = NULL;
    self->n_open--;
}

/* ---- a row's end ----------------------------------------------------------------------------- */

/* Pack the result, send DONE, give the blocks back: nothing is under way into them any more. */
static enum status finish(struct decode *self, int32_t slot, enum finish_reason reason,
                          const char *error)
{
    enum status st;
    struct decode_row *row = self->rows[slot];
    const int n_top = row->row.params.n_top;

    if (row->n_out > 0)
        row->timing.decode_s = (float)(world_now_s(self->args.world) - row->ready_s);
    TRY(detokenizer_end(&row->detok, &row->text), err);
    const struct result_row result = {
        .row = row->row.row,
        .reason = reason,
        .text = row->text.data != NULL ? (const char *)row->text.data : "",
        .text_bytes = row->text.n_bytes,
        .error = error,
        .error_bytes = strlen(error),
        .tokens = row->history + row->row.n_prompt,
        .n_tokens = row->n_out,
        .prompt_len = row->row.n_prompt,
        .has_logprobs = n_top >= 0,
        .n_top = n_top > 0 ? n_top : 0,
        .logprobs = row->logprobs,
        .top_ids = row->top_ids,
        .top_logprobs = row->top_logprobs,
        .timing = row->timing,
    };
    buf_reset(&self->result);
    buf_reset(&self->done);
    TRY(result_pack(&result, &self->result), err);
    const struct wire_done done = {slot, self->result.data, self->result.n_bytes};
    TRY(wire_done_pack(&done, &self->done), err);
    TRY(world_send(self->args.world, MSG_DONE, self->base.at, (struct address){ROLE_COORDINATOR, 0},
                   self->done.data, self->done.n_bytes),
        err);

    link_in_close(self->args.link, slot);
    close_row(self, slot);
err:
    return st;
}

/* Where the first stop string begins in the text that came since `from`; text.n_bytes if nowhere.
 */
static size_t find_stop(const struct decode_row *row, size_t from)
{
    const size_t back = row->longest_stop_bytes > 0 ? row->longest_stop_bytes - 1 : 0;
    const char *text = (const char *)row->text.data;
    size_t first = row->text.n_bytes;

    from = from > back ? from - back : 0;
    for (int i = 0; i < row->row.n_stops && from < first; i++) {
        const struct text_span *stop = &row->row.stops[i];
        const char *hit = memmem(text + from, row->text.n_bytes - from, stop->data, stop->n_bytes);

        if (hit != NULL && (size_t)(hit - text) < first)
            first = (size_t)(hit - text);
    }
    return first;
}

static bool is_eos(const struct decode *self, int32_t token)
{
    for (int i = 0; i < self->args.n_eos; i++)
        if (self->eos_ids[i] == token)
            return true;
    return false;
}

/* One more token of a row.  *out_finished: the row has ended and its slot is free. */
static enum status take_token(struct decode *self, int32_t slot, const struct sampled *sampled,
                              bool *out_finished)
{
    enum status st = ST_OK;
    struct decode_row *row = self->rows[slot];
    const int n_top = row->row.params.n_top, at = row->n_out++;
    const size_t text_bytes = row->text.n_bytes;

    row->history[row->row.n_prompt + at] = sampled->token;
    if (n_top >= 0)
        row->logprobs[at] = sampled->logprob;
    for (int i = 0; i < n_top; i++) {
        row->top_ids[at * n_top + i] = sampled->top_ids[i];
        row->top_logprobs[at * n_top + i] = sampled->top_logprobs[i];
    }
    *out_finished = true;
    if (!row->row.ignore_eos && is_eos(self, sampled->token))
        return finish(self, slot, FINISH_STOP, "");

    /* Models pad their vocabulary: ids past the tokeniser's stand for nothing. */
    if (sampled->token < tokenizer_n_tokens(self->args.tokenizer))
        TRY(detokenizer_add(&row->detok, self->args.tokenizer, sampled->token, &row->text), err);
    const size_t stop_at = find_stop(row, text_bytes);
    if (stop_at < row->text.n_bytes) {
        row->text.n_bytes = stop_at;
        row->detok = (struct detokenizer){.n_pending = 0}; /* it lies behind the stop string */
        return finish(self, slot, FINISH_STOP, "");
    }
    if (row->n_out == row->row.max_out)
        return finish(self, slot, FINISH_LENGTH, "");
    *out_finished = false;
err:
    return st;
}

/* ---- messages -------------------------------------------------------------------------------- */

static enum status take_reserve(struct decode *self, struct msg *msg)
{
    enum status st;
    struct buf payload = {0};
    const int32_t slot = wire_slot(msg);

    if (slot < 0 || slot >= self->args.n_slots || self->rows[slot] != NULL) {
        log_error("RESERVE for slot %d, which is not free", slot);
        msg_free(msg);
        return ST_COMM;
    }
    TRY(open_row(self, msg), err);
    const struct decode_row *row = self->rows[slot];
    const struct wire_grant grant = {
        .slot = slot,
        .n_blocks = row->row.n_blocks,
        .layout_id = kv_layout_id(&kv_pool_space(self->args.pool)->layout),
        .blocks = row->blocks,
    };
    TRY(wire_grant_pack(&grant, &payload), err);
    st =
        world_send(self->args.world, MSG_GRANT, self->base.at,
                   (struct address){ROLE_PREFILL, row->row.prefill}, payload.data, payload.n_bytes);
err:
    buf_free(&payload);
    return st;
}

/* The row is computed; some of its bytes may still be under way, and its blocks stay taken as long
 * as they are, also if it failed. */
static enum status take_first(struct decode *self, const struct msg *msg)
{
    enum status st;
    struct wire_first first;
    struct decode_row *row = NULL;

    TRY(wire_first_unpack(msg->payload, msg->n_bytes, &first), err);
    if (first.slot < self->args.n_slots)
        row = self->rows[first.slot];
    if (row == NULL || row->state != ROW_RESERVED || row->row.prefill != msg->from.index) {
        log_error("FIRST from prefill/%d for slot %d, which waits for none: the stages do not run "
                  "one job",
                  msg->from.index, first.slot);
        return ST_COMM;
    }
    row->first = first;
    row->state = ROW_ARRIVING;
    self->arriving[self->n_arriving++] = first.slot;
err:
    return st;
}

static enum status take_stop(struct decode *self)
{
    if (self->n_open > 0) {
        log_error("STOP for decode/%d, which has %d rows: the coordinator has lost count",
                  self->base.at.index, self->n_open);
        return ST_COMM;
    }
    assert(kv_pool_n_free(self->args.pool) == kv_pool_n_blocks(self->args.pool));
    self->base.ended = true;
    return ST_OK;
}

static enum status on_message(struct stage *stage, struct msg *msg)
{
    enum status st;
    struct decode *self = self_of(stage);

    switch (msg->type) {
    case MSG_RESERVE:
        return take_reserve(self, msg);
    case MSG_PIECE:
        st = link_in_piece(self->args.link, msg);
        break;
    case MSG_FIRST:
        st = take_first(self, msg);
        break;
    default:
        assert(msg->type == MSG_STOP);
        st = take_stop(self);
    }
    msg_free(msg);
    return st;
}

/* ---- from prefill to the batch --------------------------------------------------------------- */

/* First token and KV of a row are here: its answer begins, or ends with an error. */
static enum status begin_answer(struct decode *self, int32_t slot)
{
    enum status st;
    struct decode_row *row = self->rows[slot];
    const struct wire_first *first = &row->first;
    bool finished;

    row->ready_s = world_now_s(self->args.world);
    /* Clocks of two hosts agree to within the network's latency only. */
    const double waited_s = row->ready_s - first->computed_s;
    const double exposed_s = waited_s > 0 ? waited_s : 0;
    row->timing = (struct row_timing){
        .queue_s = row->row.queue_s + first->wait_s,
        .encode_s = first->encode_s,
        .prefill_s = first->prefill_s,
        .exposed_transfer_s = (float)exposed_s,
        .first_token_s = row->row.queue_s + first->encode_s + first->wait_s + first->prefill_s +
                         (float)exposed_s,
    };
    self->n_handed++;
    self->exposed_s += exposed_s;
    self->prefill_s += first->prefill_s;
    if (first->failed)
        return finish(self, slot, FINISH_ERROR, first->error.text);
    TRY(take_token(self, slot, &first->first, &finished), err);
    if (!finished) {
        row->state = ROW_READY;
        self->ready[self->n_ready++] = slot;
    }
err:
    return st;
}

static enum status take_arrived(struct decode *self, bool *out_worked)
{
    enum status st = ST_OK;
    int kept = 0;

    for (int i = 0; i < self->n_arriving; i++) {
        const int32_t slot = self->arriving[i];

        if (!link_in_arrived(self->args.link, slot, self->rows[slot]->first.n_pieces)) {
            self->arriving[kept++] = slot;
            continue;
        }
        TRY(begin_answer(self, slot), err);
        *out_worked = true;
    }
    self->n_arriving = kept;
err:
    return st;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void compose(struct decode *self)
{
    int taken = 0;

    while (taken < self->n_ready && self->n_active < self->args.max_batch) {
        const int32_t slot = self->ready[taken++];

        self->rows[slot]->state = ROW_ACTIVE;
        self->active[self->n_active++] = slot;
    }
    self->n_ready -= taken;
    memmove(self->ready, self->ready + taken, (size_t)self->n_ready * sizeof *self->ready);

    for (int i = 0; i < self->n_active; i++) {
        const struct decode_row *row = self->rows[self->active[i]];
        const int last = row->row.n_prompt + row->n_out - 1;

        self->seqs[i] = (struct step_seq){
            .row = row->row.row,
            .tokens = row->history + last,
            .n_tok = 1,
            .pos0 = last,
            .blocks = row->blocks,
            .shift = row->row.rope_shift,
            .sample = true,
            .params = &row->row.params,
            .history = row->history,
            .tag = self->active[i],
        };
    }
    self->step = (struct step){.n_seqs = self->n_active, .seqs = self->seqs};
    self->n_layers = 0;
}

static enum status take_step(struct decode *self)
{
    enum status st = ST_OK;
    int kept = 0;

    self->stepping = false;
    for (int i = 0; i < self->step.n_seqs; i++) {
        const struct step_seq *seq = &self->seqs[i];
        bool finished = true;

        if (seq->failed)
            TRY(finish(self, seq->tag, FINISH_ERROR, seq->error.text), err);
        else
            TRY(take_token(self, seq->tag, &seq->sampled, &finished), err);
        if (!finished)
            self->active[kept++] = seq->tag;
    }
    self->n_active = kept;
err:
    return st;
}

static enum status poll(struct stage *stage, bool *out_worked)
{
    enum status st;
    struct decode *self = self_of(stage);

    TRY(take_arrived(self, out_worked), err);
    if (!self->stepping) {
        if (self->n_active + self->n_ready == 0 || self->args.engine->running != NULL)
            return ST_OK;
        compose(self);
        TRY(engine_submit(self->args.engine, &self->step), err);
        self->stepping = true;
    }
    enum engine_event event;
    int layer;
    TRY(engine_poll(self->args.engine, &event, &layer), err);
    *out_worked |= event != ENGINE_BUSY;
    if (event == ENGINE_LAYER_DONE)
        self->n_layers = layer + 1;
    if (event == ENGINE_STEP_DONE)
        TRY(take_step(self), err);
err:
    return st;
}

/* ---- create, destroy ------------------------------------------------------------------------- */

static void describe(const struct stage *stage, struct wire_beat *beat)
{
    const struct decode *self = (const struct decode *)stage;

    beat->n_rows += self->n_open;
    beat->n_handed += self->n_handed;
    beat->exposed_s += self->exposed_s;
    beat->prefill_s += self->prefill_s;
    if (self->stepping)
        beat_say(beat, "decode/%d: step of %d rows, layer %d of %d", stage->at.index,
                 self->step.n_seqs, self->n_layers, self->args.engine->L);
    else
        beat_say(beat, "decode/%d: %d rows, no step", stage->at.index, self->n_open);
}

/* Of a run that failed rows are left, and bytes may be under way into their blocks: those are the
 * link's and the world's to end. */
static void destroy(struct stage *stage)
{
    struct decode *self = self_of(stage);

    for (int i = 0; self->rows != NULL && i < self->args.n_slots; i++)
        if (self->rows[i] != NULL)
            close_row(self, i);
    buf_free(&self->result);
    buf_free(&self->done);
    host_free(self->rows);
    host_free(self->arriving);
    host_free(self->ready);
    host_free(self->active);
    host_free(self->seqs);
    host_free(self);
}

static const struct stage_ops decode_ops = {on_message, poll, describe, destroy};

enum status decode_create(const struct decode_args *args, struct stage **out_stage)
{
    struct decode *self = host_zalloc(sizeof *self);

    assert(args->n_eos <= MODEL_MAX_EOS);
    if (self == NULL)
        return ST_NOMEM;
    self->base = (struct stage){.ops = &decode_ops, .at = {ROLE_DECODE, args->index}};
    self->args = *args;
    memcpy(self->eos_ids, args->eos_ids, (size_t)args->n_eos * sizeof *self->eos_ids);
    self->n_prefill = world_layout(args->world)->n_stages[ROLE_PREFILL];
    self->rows = host_zalloc((size_t)args->n_slots * sizeof(struct decode_row *));
    self->arriving = host_zalloc((size_t)args->n_slots * sizeof *self->arriving);
    self->ready = host_zalloc((size_t)args->n_slots * sizeof *self->ready);
    self->active = host_zalloc((size_t)args->max_batch * sizeof *self->active);
    self->seqs = host_zalloc((size_t)args->max_batch * sizeof *self->seqs);
    if (self->rows == NULL || self->arriving == NULL || self->ready == NULL ||
        self->active == NULL || self->seqs == NULL) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    *out_stage = &self->base;
    return ST_OK;
}
