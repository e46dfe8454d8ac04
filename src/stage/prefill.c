/*
 * prefill.c - computes prompts: their KV, layer by layer, and the token that follows them.
 *
 *   ADMIT ─┐                        ┌ LAYER_DONE l ─► link: the layer's KV may leave (PIECE)
 *   GRANT ─┼─► queue ─link─► step ──┤
 *   EMBED ─┘                        └ STEP_DONE, prompt complete ─┬─FIRST─────► decode
 *                                                                 └─PREFILLED─► coordinator
 *
 * A row joins the queue when it has both ADMIT and GRANT, so decode has all its blocks, and the
 * embeddings of all its images; if one of those cannot be had, it is handed over as failed.  It
 * begins, in its turn, when the link says where to write.  A step takes tokens from the rows in the
 * order they came, up to its limit: several short prompts share a step, a long one takes several.
 * What a row computes does not depend on that (DESIGN section 7).  Once computed a row is gone from
 * here; bytes that have not left by then are the link's.
 */
#include <assert.h>

#include "stage/stage.h"

enum { ARENA_BYTES = 1 << 12 };
#define LEAVE_PART 0.02 /* of a step: how long the next one may wait for bytes to leave */

/* An EMBED that came before its ADMIT. */
struct parked {
    struct wire_embed embed;
    int encoder;
    struct parked *next;
};

struct prefill_row {
    struct arena *arena;       /* owned; holds this struct and all arrays below */
    struct msg *admit, *grant; /* owned; row and granted are views into them */
    struct wire_row row;
    struct wire_grant granted;
    const int32_t *blocks; /* where KV is written: the link says */
    int n_done;            /* tokens computed */
    double admitted_s, whole_s, begun_s;

    struct parked *parked;
    struct transfer **moves; /* [n_images] embeddings that are coming in; NULL = here, or not yet */
    bool *has_embed;         /* [n_images] its EMBED has come */
    int n_embeds, n_moving;
    int failed_image; /* lowest number of one that cannot be had; -1 = none */
    struct row_error error;
    double computed_s;    /* when the last embedding was */
    const float **inputs; /* [n_prompt] NULL without images */
    int32_t *positions;   /* [n_prompt, 3] NULL but with M-RoPE */
};

struct prefill {
    struct stage base;
    struct prefill_args args;
    int n_decode, n_encoder;
    struct prefill_row **rows; /* [n_slots] owned; NULL = not open */
    int32_t *queue;       /* [n_slots] owned: slots in order of arrival; the first n_begun of */
    int n_queue, n_begun; /* n_queue have blocks */
    int n_open;
    enum link_kind *encoder_links; /* [n_encoder] owned */
    int32_t *arriving;             /* [n_slots] owned: slots with embeddings that are coming in */
    int n_arriving;
    struct encode_figures figures; /* what rows have waited for embeddings */
    struct step step;              /* its sequences are the queue's first */
    struct step_seq *seqs;         /* [max_seqs] owned */
    int n_layers;                  /* of the step, computed */
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
        *row = (struct prefill_row){.arena = arena, .failed_image = -1};
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

static enum status fail_row(struct prefill *self, int32_t slot);

/* Which tokens are images', and where all tokens stand. */
static enum status place_images(struct prefill *self, struct prefill_row *row)
{
    const struct wire_row *wire = &row->row;
    const struct embed_space *space = &self->args.embeds;
    const float *embed = space->base + (size_t)wire->embed_at * (size_t)space->D;
    int unused;

    row->inputs = arena_alloc(row->arena, (size_t)wire->n_prompt * sizeof(const float *));
    if (row->inputs == NULL)
        return ST_NOMEM;
    memset(row->inputs, 0, (size_t)wire->n_prompt * sizeof(const float *));
    for (int i = 0; i < wire->n_images; i++) {
        const struct seq_image *image = &wire->images[i];
        int left = image->n_rows;

        if (self->args.mrope && (int64_t)image->rows_h * image->rows_w != left)
            return refuse(row->admit);
        for (int at = image->first; left > 0 && at < wire->n_prompt; at++) {
            if (wire->tokens[at] != self->args.image_id)
                continue;
            row->inputs[at] = embed;
            embed += space->D;
            left--;
        }
        if (left > 0)
            return refuse(row->admit);
    }
    if (!self->args.mrope)
        return ST_OK;
    row->positions = arena_alloc(row->arena, 3 * (size_t)wire->n_prompt * sizeof *row->positions);
    if (row->positions == NULL)
        return ST_NOMEM;
    mrope_positions(wire->images, wire->n_images, wire->n_prompt, row->positions, &unused);
    return ST_OK;
}

/* A row that has all its messages and embeddings waits for its turn. */
static enum status queue_if_whole(struct prefill *self, struct prefill_row *row)
{
    enum status st = ST_OK;
    const int32_t slot = row->row.slot;

    if (row->admit == NULL || row->grant == NULL || row->n_embeds < row->row.n_images ||
        row->n_moving > 0)
        return ST_OK;
    if (row->grant->from.index != row->row.decode)
        return refuse(row->grant);
    row->whole_s = row->begun_s = world_now_s(self->args.world);
    if (row->failed_image >= 0)
        return fail_row(self, slot);
    if (row->row.n_images > 0) {
        const double waited_s = row->whole_s - row->computed_s;

        self->figures.n_rows++;
        self->figures.exposed_s += waited_s > 0 ? waited_s : 0;
        TRY(place_images(self, row), err);
    }
    self->queue[self->n_queue++] = slot;
err:
    return st;
}

/* Whether an EMBED is for an image of this row that has none yet, and for its places. */
static bool embed_fits(const struct prefill *self, const struct prefill_row *row,
                       const struct wire_embed *embed, int encoder)
{
    const struct wire_row *wire = &row->row;
    int32_t at = wire->embed_at;

    if (embed->number >= wire->n_images || row->has_embed[embed->number] ||
        encoder >= self->n_encoder)
        return false;
    for (int i = 0; i < embed->number; i++)
        at += wire->images[i].n_rows;
    return embed->at == at && embed->n_rows == wire->images[embed->number].n_rows;
}

/* The embeddings of one image of a row are there, coming, or not to be had. */
static enum status begin_embed(struct prefill *self, struct prefill_row *row,
                               const struct wire_embed *embed, int encoder)
{
    enum status st;
    struct transfer *transfer;

    if (!embed_fits(self, row, embed, encoder)) {
        log_error("EMBED from encoder/%d for image %d of the row in slot %d, which does not wait "
                  "for it: the stages do not run one job",
                  encoder, embed->number, embed->slot);
        return ST_COMM;
    }
    TRY(embed_in_take(self->args.world, self->encoder_links[encoder], &self->args.embeds, encoder,
                      embed, &transfer),
        err);
    row->has_embed[embed->number] = true;
    row->n_embeds++;
    if (embed->computed_s > row->computed_s)
        row->computed_s = embed->computed_s;
    if (embed->failed && (row->failed_image < 0 || embed->number < row->failed_image)) {
        row->failed_image = embed->number;
        row->error = embed->error;
    }
    if (transfer != NULL) {
        row->moves[embed->number] = transfer;
        if (row->n_moving++ == 0)
            self->arriving[self->n_arriving++] = embed->slot;
    }
err:
    return st;
}

/* ADMIT is here: EMBEDs that came before it count now. */
static enum status begin_parked(struct prefill *self, struct prefill_row *row)
{
    enum status st = ST_OK;
    const size_t n_images = (size_t)row->row.n_images;

    row->moves = arena_alloc(row->arena, n_images * sizeof(struct transfer *));
    row->has_embed = arena_alloc(row->arena, n_images * sizeof *row->has_embed);
    if (row->moves == NULL || row->has_embed == NULL)
        return ST_NOMEM;
    memset(row->moves, 0, n_images * sizeof(struct transfer *));
    memset(row->has_embed, 0, n_images * sizeof *row->has_embed);
    for (const struct parked *parked = row->parked; parked != NULL; parked = parked->next)
        TRY(begin_embed(self, row, &parked->embed, parked->encoder), err);
err:
    return st;
}

static enum status take_embed(struct prefill *self, const struct msg *msg)
{
    enum status st;
    struct wire_embed embed;
    struct prefill_row *row;

    TRY(wire_embed_unpack(msg->payload, msg->n_bytes, &embed), err);
    if (embed.slot >= self->args.n_slots)
        return refuse(msg);
    TRY(open_row(self, embed.slot, &row), err);
    if (row->admit == NULL) {
        struct parked *parked = arena_alloc(row->arena, sizeof *parked);
        struct parked **last = &row->parked;

        if (parked == NULL)
            return ST_NOMEM;
        *parked = (struct parked){.embed = embed, .encoder = msg->from.index};
        while (*last != NULL)
            last = &(*last)->next;
        *last = parked;
        return ST_OK;
    }
    TRY(begin_embed(self, row, &embed, msg->from.index), err);
    st = queue_if_whole(self, row);
err:
    return st;
}

/* Rows whose embeddings have come in meanwhile. */
static enum status take_arrived(struct prefill *self, bool *out_worked)
{
    enum status st = ST_OK;
    int n = self->n_arriving;

    self->n_arriving = 0;
    for (int k = 0; k < n; k++) {
        const int32_t slot = self->arriving[k];
        struct prefill_row *row = self->rows[slot];

        for (int i = 0; i < row->row.n_images; i++) {
            if (row->moves[i] == NULL || !transfer_done(row->moves[i]))
                continue;
            row->moves[i] = NULL;
            row->n_moving--;
            *out_worked = true;
        }
        if (row->n_moving > 0)
            self->arriving[self->n_arriving++] = slot;
        else
            TRY(queue_if_whole(self, row), err);
    }
err:
    return st;
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
        row->row.decode >= self->n_decode ||
        (row->row.n_images > 0 && self->args.embeds.base == NULL)) {
        st = refuse(msg);
        goto err;
    }
    row->admit = msg;
    row->admitted_s = world_now_s(self->args.world);
    st = begin_parked(self, row);
    return st == ST_OK ? queue_if_whole(self, row) : st;
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
    enum status st;

    switch (msg->type) {
    case MSG_ADMIT:
        return take_admit(self, msg);
    case MSG_GRANT:
        return take_grant(self, msg);
    case MSG_EMBED:
        st = take_embed(self, msg);
        msg_free(msg);
        return st;
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

        const int32_t *positions = row->positions;

        if (row->n_done == 0)
            row->begun_s = now_s;
        self->seqs[n_seqs++] = (struct step_seq){
            .row = row->row.row,
            .tokens = row->row.tokens + row->n_done,
            .n_tok = n_tok,
            .pos0 = row->n_done,
            .blocks = row->blocks,
            .inputs = row->inputs != NULL ? row->inputs + row->n_done : NULL,
            .positions = positions != NULL ? positions + 3 * (size_t)row->n_done : NULL,
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

/* FIRST to decode, PREFILLED to the coordinator: the row is not here any more. */
static enum status let_go(struct prefill *self, int32_t slot, struct wire_first *first)
{
    enum status st;
    const struct prefill_row *row = self->rows[slot];
    const double now_s = world_now_s(self->args.world);
    const double encode_s = row->row.n_images > 0 ? row->whole_s - row->admitted_s : 0;
    const struct wire_prefilled prefilled = {slot, row->row.n_prompt};

    first->slot = slot;
    first->encode_s = (float)encode_s;
    first->wait_s = (float)(row->begun_s - row->admitted_s - encode_s);
    first->prefill_s = (float)(now_s - row->begun_s);
    first->computed_s = now_s;
    buf_reset(&self->payload);
    TRY(wire_first_pack(first, &self->payload), err);
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
    close_row(self, slot);
err:
    return st;
}

/* A prompt is computed: the row is decode's from now on. */
static enum status hand_over(struct prefill *self, const struct step_seq *seq)
{
    struct wire_first first = {.failed = seq->failed, .error = seq->error, .first = seq->sampled};

    link_out_end(self->args.link, seq->tag, &first.n_pieces);
    return let_go(self, seq->tag, &first);
}

/* One of the row's images cannot be had; nothing of it has been computed. */
static enum status fail_row(struct prefill *self, int32_t slot)
{
    struct wire_first first = {.failed = true, .error = self->rows[slot]->error};

    return let_go(self, slot, &first);
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
    TRY(take_arrived(self, out_worked), err);
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
    beat->encode.n_rows += self->figures.n_rows;
    beat->encode.exposed_s += self->figures.exposed_s;
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
    host_free(self->arriving);
    host_free(self->encoder_links);
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
    self->n_encoder = world_layout(args->world)->n_stages[ROLE_ENCODER];
    self->arriving = host_zalloc((size_t)args->n_slots * sizeof *self->arriving);
    self->encoder_links = host_zalloc((size_t)self->n_encoder * sizeof *self->encoder_links);
    if (self->encoder_links != NULL && args->encoder_links != NULL)
        memcpy(self->encoder_links, args->encoder_links,
               (size_t)self->n_encoder * sizeof *self->encoder_links);
    self->rows = host_zalloc((size_t)args->n_slots * sizeof(struct prefill_row *));
    self->queue = host_zalloc((size_t)args->n_slots * sizeof *self->queue);
    self->seqs = host_zalloc((size_t)args->max_seqs * sizeof *self->seqs);
    if (self->rows == NULL || self->queue == NULL || self->arriving == NULL ||
        self->encoder_links == NULL || self->seqs == NULL) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    *out_stage = &self->base;
    return ST_OK;
}
