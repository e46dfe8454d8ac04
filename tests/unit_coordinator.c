/* TEST */
/*
 * unit_coordinator.c - the coordinator alone: rows come from memory and results go there, the test
 * is every other stage.  Rows go where they should, no pool is asked for more than it has, a slot
 * is one row's at a time, every row is written once, and STOP comes when, and only when, all is
 * done.
 */
#include "stages_test.h"

enum { N_ROWS = 120, CONTEXT = 64, MAX_STAGES = 4, MAX_SLOTS = 32 };

/* ---- rows and results in memory --------------------------------------------------------------- */

struct shelf {
    struct io base;
    int n_rows, next, n_out; /* n_out: given and not freed */
    bool slow;               /* io_next has nothing now */
    int room;                /* results it still takes */
    bool lazy;               /* it writes later what it takes */
    int n_waiting;           /* results it took and has not written */
    int32_t tokens[N_ROWS][2 * CONTEXT];
    struct prompt_row rows[N_ROWS];
    uint8_t written[N_ROWS];
    int n_written, n_errors;
};

/* Rows 3, 14, 25, ... cannot be read; rows 7, 20, 33, ... are too long. */
static bool is_broken(int row)
{
    return row % 11 == 3;
}

static bool is_long(int row)
{
    return row % 13 == 7 && !is_broken(row);
}

static enum status shelf_next(struct io *io, const struct prompt_row **out_row)
{
    struct shelf *shelf = (struct shelf *)io;

    if (shelf->next == shelf->n_rows)
        return ST_END;
    if (shelf->slow)
        return ST_AGAIN;
    shelf->n_out++;
    *out_row = &shelf->rows[shelf->next++];
    return ST_OK;
}

static void shelf_row_free(struct io *io, const struct prompt_row *row)
{
    struct shelf *shelf = (struct shelf *)io;

    CHECK(row == &shelf->rows[shelf->next - 1]);
    shelf->n_out--;
}

static enum status shelf_put(struct io *io, const void *payload, size_t n_bytes)
{
    struct shelf *shelf = (struct shelf *)io;
    struct result_row row;

    if (shelf->room == 0)
        return ST_AGAIN;
    shelf->room--;
    shelf->n_waiting += shelf->lazy;
    CHECK(result_unpack(payload, n_bytes, &row) == ST_OK);
    CHECK_INT(shelf->written[row.row]++, 0);
    shelf->n_written++;
    shelf->n_errors += row.reason == FINISH_ERROR;
    const bool bad = is_broken((int)row.row) || is_long((int)row.row);
    CHECK_INT(row.reason, bad ? FINISH_ERROR : FINISH_STOP);
    if (bad) {
        const char *why = is_broken((int)row.row) ? "broken" : "the prompt has";

        CHECK(row.error_bytes >= strlen(why) && memcmp(row.error, why, strlen(why)) == 0);
    }
    return ST_OK;
}

static int shelf_n_waiting(struct io *io)
{
    return ((struct shelf *)io)->n_waiting;
}

static void shelf_counts(struct io *io, struct journal_counts *out_counts)
{
    const struct shelf *shelf = (const struct shelf *)io;

    *out_counts = (struct journal_counts){.n_rows = (uint64_t)shelf->n_rows,
                                          .n_done = (uint64_t)shelf->n_written,
                                          .n_failed = (uint64_t)shelf->n_errors};
}

static const struct io_ops shelf_ops = {shelf_next, shelf_row_free, shelf_put, shelf_n_waiting,
                                        shelf_counts};

static void shelf_begin(struct shelf *shelf, int n_rows)
{
    *shelf = (struct shelf){.base = {&shelf_ops}, .n_rows = n_rows, .room = N_ROWS};
    for (int i = 0; i < n_rows; i++) {
        struct prompt_row *row = &shelf->rows[i];

        row->row = (uint64_t)i;
        row->tokens = shelf->tokens[i];
        row->n_tokens = is_long(i) ? CONTEXT : 1 + i * 7 % 50;
        row->has_max_tokens = true;
        row->max_tokens = 1 + i * 5 % 30;
        if (is_broken(i))
            row_error_set(&row->error, "broken");
    }
}

/* ---- the other stages ------------------------------------------------------------------------- */

struct scene {
    int n_ranks, n_prefill, n_decode;
    int n_slots, n_blocks, max_rows; /* blocks and rows of one decode stage */
    int64_t max_errors;
    double max_delay_s;
    unsigned seed;
};

/* A row in the hands of the other stages, by slot. */
struct flight {
    bool reserved, admitted, prefilled, done; /* what has come, what was answered */
    uint64_t row;
    int prefill, decode, n_prompt, n_blocks;
};

struct town {
    const struct scene *setting;
    struct virtual_net *net;
    struct plan_layout layout;
    struct world *worlds[2 * MAX_STAGES + 1];
    struct shelf shelf;
    struct intake intake;
    struct stage *stage;
    struct flight flights[MAX_SLOTS];
    int n_used_blocks[MAX_STAGES], n_rows_at[MAX_STAGES]; /* of each decode stage */
    int64_t waiting_tok[MAX_STAGES];                      /* of each prefill stage */
    int n_stopped, n_seen;
    int32_t prefill_of[N_ROWS], decode_of[N_ROWS]; /* by row, once they are known */
};

static void town_begin(struct town *town, const struct scene *setting, int n_rows,
                       const struct tokenizer *tokenizer)
{
    const int asked[ROLE_COUNT] = {-1, 0, setting->n_prefill, setting->n_decode, -1};
    struct plan_pool pools[MAX_STAGES];
    struct row_error why;

    *town = (struct town){.setting = setting};
    CHECK(plan_layout_make(setting->n_ranks, asked, &town->layout, &why) == ST_OK);
    const struct virtual_args net = {
        .layout = &town->layout, .seed = setting->seed, .max_delay_s = setting->max_delay_s};
    CHECK(virtual_net_create(&net, &town->net) == ST_OK);
    for (int i = 0; i < setting->n_ranks; i++)
        CHECK(virtual_net_world(town->net, i, &town->worlds[i]) == ST_OK);
    shelf_begin(&town->shelf, n_rows);
    town->intake = (struct intake){
        .tokenizer = tokenizer, .context = CONTEXT, .max_tokens = 10, .sampling = {.n_top = -1}};
    for (int i = 0; i < setting->n_decode; i++)
        pools[i] =
            (struct plan_pool){.n_free_blocks = setting->n_blocks, .max_rows = setting->max_rows};
    const struct coordinator_args args = {.world = town->worlds[0],
                                          .io = &town->shelf.base,
                                          .intake = &town->intake,
                                          .n_slots = setting->n_slots,
                                          .block_tok = P,
                                          .pools = pools,
                                          .max_errors = setting->max_errors};
    CHECK(coordinator_create(&args, &town->stage) == ST_OK);
}

static void town_end(struct town *town)
{
    stage_destroy(town->stage);
    CHECK_INT(town->shelf.n_out, 0);
    for (int i = 0; i < town->setting->n_ranks; i++)
        world_destroy(town->worlds[i]);
    virtual_net_destroy(town->net);
}

/* Both messages of a row say the same; the first of them opens it. */
static void take_row(struct town *town, const struct msg *msg)
{
    struct arena *arena = NULL;
    struct wire_row row;

    CHECK(arena_create(4096, &arena) == ST_OK);
    CHECK(wire_row_unpack(msg->payload, msg->n_bytes, arena, &row) == ST_OK);
    CHECK(row.slot < town->setting->n_slots);
    struct flight *flight = &town->flights[row.slot];
    CHECK(!flight->prefilled && !flight->done); /* else the slot is another row's still */
    if (flight->reserved || flight->admitted) {
        CHECK(flight->row == row.row && flight->prefill == row.prefill &&
              flight->decode == row.decode);
    } else {
        flight->row = row.row;
        flight->prefill = row.prefill;
        flight->decode = row.decode;
        flight->n_prompt = row.n_prompt;
        flight->n_blocks = row.n_blocks;
        CHECK_INT(row.n_blocks, plan_blocks(row.n_prompt + row.max_out - 1, P));
        CHECK(row.n_prompt + row.max_out <= CONTEXT);
        CHECK(row.tokens != NULL && row.n_prompt == 1 + (int)row.row * 7 % 50);
        town->prefill_of[row.row] = row.prefill;
        town->decode_of[row.row] = row.decode;
        town->n_seen++;
    }
    if (msg->type == MSG_RESERVE) {
        CHECK(!flight->reserved && msg->to.index == row.decode);
        flight->reserved = true;
        town->n_used_blocks[row.decode] += row.n_blocks;
        town->n_rows_at[row.decode]++;
        CHECK(town->n_used_blocks[row.decode] <= town->setting->n_blocks);
        CHECK(town->n_rows_at[row.decode] <= town->setting->max_rows);
    } else {
        CHECK(!flight->admitted && msg->to.index == row.prefill);
        flight->admitted = true;
        town->waiting_tok[row.prefill] += row.n_prompt;
    }
    arena_destroy(arena);
}

/* Whatever came for the stages of all ranks. */
static void take_all(struct town *town)
{
    static const enum role roles[] = {ROLE_PREFILL, ROLE_DECODE};

    for (int r = 0; r < 2; r++)
        for (int i = 0; i < town->layout.n_stages[roles[r]]; i++) {
            struct world *world = town->worlds[plan_layout_rank(&town->layout, roles[r], i)];

            for (struct msg *msg; world_next(world, (struct address){roles[r], i}, &msg) == ST_OK;
                 msg_free(msg)) {
                if (msg->type == MSG_STOP)
                    town->n_stopped++;
                else
                    take_row(town, msg);
            }
        }
}

static void close_if_landed(struct flight *flight)
{
    if (flight->prefilled && flight->done)
        *flight = (struct flight){.reserved = false};
}

static void send_prefilled(struct town *town, int32_t slot)
{
    struct flight *flight = &town->flights[slot];
    const struct address from = {ROLE_PREFILL, flight->prefill};
    const struct wire_prefilled prefilled = {slot, flight->n_prompt};
    struct buf buf = {0};

    CHECK(wire_prefilled_pack(&prefilled, &buf) == ST_OK);
    CHECK(world_send(town->worlds[plan_layout_rank(&town->layout, from.role, from.index)],
                     MSG_PREFILLED, from, (struct address){ROLE_COORDINATOR, 0}, buf.data,
                     buf.n_bytes) == ST_OK);
    town->waiting_tok[flight->prefill] -= flight->n_prompt;
    flight->prefilled = true;
    close_if_landed(flight);
    buf_free(&buf);
}

static void pack_done(uint64_t row, int32_t slot, struct buf *out)
{
    const struct result_row result = {.row = row, .reason = FINISH_STOP, .text = "", .error = ""};
    struct buf bytes = {0};

    CHECK(result_pack(&result, &bytes) == ST_OK);
    const struct wire_done done = {slot, bytes.data, bytes.n_bytes};
    buf_reset(out);
    CHECK(wire_done_pack(&done, out) == ST_OK);
    buf_free(&bytes);
}

static void send_done(struct town *town, int32_t slot)
{
    struct flight *flight = &town->flights[slot];
    const struct address from = {ROLE_DECODE, flight->decode};
    struct buf buf = {0};

    pack_done(flight->row, slot, &buf);
    CHECK(world_send(town->worlds[plan_layout_rank(&town->layout, from.role, from.index)], MSG_DONE,
                     from, (struct address){ROLE_COORDINATOR, 0}, buf.data, buf.n_bytes) == ST_OK);
    town->n_used_blocks[flight->decode] -= flight->n_blocks;
    town->n_rows_at[flight->decode]--;
    flight->done = true;
    close_if_landed(flight);
    buf_free(&buf);
}

/* Messages, then a poll, as the loop does. */
static enum status turn(struct town *town)
{
    enum status st = ST_OK;
    struct stage *stage = town->stage;
    struct msg *msg;
    bool worked = false;

    while (st == ST_OK && world_next(town->worlds[0], stage->at, &msg) == ST_OK)
        st = stage->ops->on_message(stage, msg);
    return st == ST_OK ? stage->ops->poll(stage, &worked) : st;
}

static int n_good(int n_rows)
{
    int n = 0;

    for (int i = 0; i < n_rows; i++)
        n += !is_broken(i) && !is_long(i);
    return n;
}

/* ---- whole runs ------------------------------------------------------------------------------- */

/* Answers in any order, a journal that is full at times, a file that is slow at times. */
static void run(const struct scene *setting, const struct tokenizer *tokenizer)
{
    struct town town;
    unsigned seed = setting->seed;
    int n_turns = 0;

    town_begin(&town, setting, N_ROWS, tokenizer);
    town.shelf.room = 0;
    town.shelf.lazy = true;
    while (!town.stage->ended && n_turns++ < 100000) {
        const int n_written = town.shelf.n_written;

        CHECK_INT(turn(&town), ST_OK);
        virtual_net_advance(town.net, 1e-3);
        take_all(&town);
        for (int32_t slot = 0; slot < setting->n_slots; slot++) {
            struct flight *flight = &town.flights[slot];
            const bool whole = flight->reserved && flight->admitted;

            if (whole && !flight->prefilled && rand_r(&seed) % 4 == 0)
                send_prefilled(&town, slot);
            else if (whole && !flight->done && rand_r(&seed) % 6 == 0)
                send_done(&town, slot); /* PREFILLED may come later than DONE */
        }
        town.shelf.slow = rand_r(&seed) % 3 == 0;
        if (rand_r(&seed) % 4 == 0)
            town.shelf.room = rand_r(&seed) % 5;
        if (town.shelf.n_written == n_written)
            town.shelf.n_waiting = 0;
    }
    CHECK(town.stage->ended);
    CHECK_INT(town.shelf.n_written, N_ROWS);
    CHECK_INT(town.n_seen, n_good(N_ROWS));
    for (int32_t slot = 0; slot < setting->n_slots; slot++)
        CHECK(!town.flights[slot].reserved && !town.flights[slot].admitted);
    CHECK_INT(town.shelf.n_waiting, 0);
    for (int i = 0; i < 100; i++) {
        virtual_net_advance(town.net, 1e-2);
        take_all(&town);
    }
    CHECK_INT(town.n_stopped, setting->n_prefill + setting->n_decode);
    town_end(&town);
}

/* ---- routes ----------------------------------------------------------------------------------- */

/* Prompts go to the queue with the fewest tokens, answers to the pool with the most room. */
static void balanced(const struct tokenizer *tokenizer)
{
    const struct scene setting = {.n_ranks = 6,
                                  .n_prefill = 3,
                                  .n_decode = 2,
                                  .n_slots = 12,
                                  .n_blocks = 40,
                                  .max_rows = 100,
                                  .max_errors = -1};
    struct town town;
    int64_t waiting[3] = {0};
    int used[2] = {0}, next = 0;

    town_begin(&town, &setting, N_ROWS, tokenizer);
    for (int i = 0; i < 400 && !town.stage->ended; i++) {
        CHECK_INT(turn(&town), ST_OK);
        virtual_net_advance(town.net, 1e-3); /* no delay: all arrives */
        take_all(&town);
        for (; next < town.shelf.next; next++) { /* what it has decided, in order */
            if (is_broken(next) || is_long(next))
                continue;
            int32_t slot = 0;
            while (slot < MAX_SLOTS &&
                   (!town.flights[slot].reserved || town.flights[slot].row != (uint64_t)next))
                slot++;
            if (slot == MAX_SLOTS)
                break; /* held, not admitted yet */
            const struct flight *flight = &town.flights[slot];
            const int decode = used[1] < used[0] ? 1 : 0;
            int prefill = 0;

            for (int p = 1; p < 3; p++)
                prefill = waiting[p] < waiting[prefill] ? p : prefill;
            CHECK_INT(flight->decode, decode);
            CHECK_INT(flight->prefill, prefill);
            used[flight->decode] += flight->n_blocks;
            waiting[flight->prefill] += flight->n_prompt;
        }
        /* One answer a turn: the mirror moves by what comes. */
        for (int32_t slot = 0; slot < setting.n_slots; slot++) {
            const struct flight flight = town.flights[slot];

            if (!flight.reserved)
                continue;
            if (!flight.prefilled) {
                waiting[flight.prefill] -= flight.n_prompt;
                send_prefilled(&town, slot);
            } else {
                used[flight.decode] -= flight.n_blocks;
                send_done(&town, slot);
            }
            break;
        }
        virtual_net_advance(town.net, 1e-3);
        town.shelf.n_waiting = 0;
    }
    CHECK(town.stage->ended);
    town_end(&town);
}

/* A rank that decodes and prefills does both for a row: nothing has to move. */
static void near(const struct tokenizer *tokenizer)
{
    const struct scene setting = {.n_ranks = 3,
                                  .n_prefill = 3,
                                  .n_decode = 3,
                                  .n_slots = 12,
                                  .n_blocks = 40,
                                  .max_rows = 100,
                                  .max_errors = -1};
    struct town town;
    int n_at[3] = {0};

    town_begin(&town, &setting, N_ROWS, tokenizer);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(turn(&town), ST_OK);
        virtual_net_advance(town.net, 1e-3);
        take_all(&town);
    }
    for (int32_t slot = 0; slot < setting.n_slots; slot++) {
        CHECK(town.flights[slot].reserved);
        CHECK_INT(town.flights[slot].prefill, town.flights[slot].decode);
        n_at[town.flights[slot].decode]++;
    }
    CHECK(n_at[0] > 1 && n_at[1] > 1 && n_at[2] > 1);
    town_end(&town);
}

/* ---- limits ----------------------------------------------------------------------------------- */

static const struct scene plain = {.n_ranks = 2,
                                   .n_prefill = 1,
                                   .n_decode = 1,
                                   .n_slots = 4,
                                   .n_blocks = 100,
                                   .max_rows = 100,
                                   .max_errors = -1};

static void step(struct town *town)
{
    CHECK_INT(turn(town), ST_OK);
    for (int i = 0; i < 4; i++)
        virtual_net_advance(town->net, 1e-3);
    take_all(town);
}

/* The journal takes nothing: nothing is admitted any more, and nothing is lost. */
static void full_journal(const struct tokenizer *tokenizer)
{
    struct town town;

    town_begin(&town, &plain, N_ROWS, tokenizer);
    step(&town);
    step(&town);
    CHECK_INT(town.n_seen, 4); /* rows 0, 1, 2, 4; row 3 is broken and was written */
    CHECK_INT(town.shelf.n_written, 1);
    town.shelf.room = 0;
    for (int32_t slot = 0; slot < 4; slot++) {
        send_prefilled(&town, slot);
        send_done(&town, slot);
    }
    for (int i = 0; i < 10; i++)
        step(&town);
    CHECK_INT(town.n_seen, 4); /* slots and blocks are free, and yet */
    town.shelf.room = 3;
    step(&town);
    CHECK_INT(town.shelf.n_written, 4);
    CHECK_INT(town.n_seen, 4);
    town.shelf.room = 100;
    step(&town);
    CHECK_INT(town.shelf.n_written, 6); /* and row 7, which is too long */
    CHECK_INT(town.n_seen, 8);
    town_end(&town);
}

/* The journal takes all and writes nothing: no more rows are computed than a kill may cost. */
static void slow_journal(const struct tokenizer *tokenizer)
{
    struct town town;

    town_begin(&town, &plain, N_ROWS, tokenizer);
    town.shelf.lazy = true;
    step(&town);
    step(&town);
    CHECK_INT(town.n_seen, 3); /* rows 0, 1, 2; row 3, which is broken, has the fourth slot */
    CHECK_INT(town.shelf.n_waiting, 1);
    for (int32_t slot = 0; slot < 3; slot++) {
        send_prefilled(&town, slot);
        send_done(&town, slot);
    }
    for (int i = 0; i < 10; i++)
        step(&town);
    CHECK_INT(town.n_seen, 3); /* slots and blocks are free, and yet */
    CHECK_INT(town.shelf.n_waiting, 4);
    town.shelf.n_waiting = 3;
    step(&town);
    step(&town);
    CHECK_INT(town.n_seen, 4);
    town.shelf.n_waiting = 0;
    step(&town);
    step(&town);
    CHECK_INT(town.n_seen, 6); /* rows 5 and 6; row 7 is too long, and waits */
    town_end(&town);
}

/* An error row that the journal has no room for waits; the rows behind it wait too. */
static void full_journal_error_row(const struct tokenizer *tokenizer)
{
    struct town town;

    town_begin(&town, &plain, N_ROWS, tokenizer);
    town.shelf.room = 0;
    for (int i = 0; i < 5; i++)
        step(&town);
    CHECK_INT(town.n_seen, 3);
    CHECK_INT(town.shelf.next, 4);
    town.shelf.room = 1;
    step(&town);
    CHECK_INT(town.shelf.n_written, 1);
    CHECK_INT(town.n_seen, 4);
    town_end(&town);
}

/* A slot is free when both its messages have come, whichever is the first. */
static void slots(const struct tokenizer *tokenizer)
{
    struct town town;

    for (int done_first = 0; done_first < 2; done_first++) {
        town_begin(&town, &plain, N_ROWS, tokenizer);
        step(&town);
        step(&town);
        CHECK_INT(town.n_seen, 4);
        if (done_first)
            send_done(&town, 2);
        else
            send_prefilled(&town, 2);
        step(&town);
        step(&town);
        CHECK_INT(town.n_seen, 4);
        if (done_first)
            send_prefilled(&town, 2);
        else
            send_done(&town, 2);
        for (int i = 0; i < 4; i++)
            step(&town);
        CHECK_INT(town.n_seen, 5);
        CHECK(town.flights[2].reserved && town.flights[2].row == 5);
        town_end(&town);
    }
}

static void too_many_errors(const struct tokenizer *tokenizer)
{
    struct scene setting = plain;
    struct town town;
    enum status st = ST_OK;

    setting.max_errors = 1;
    setting.n_slots = MAX_SLOTS;
    town_begin(&town, &setting, N_ROWS, tokenizer);
    for (int i = 0; i < 20 && st == ST_OK; i++)
        st = turn(&town);
    CHECK_INT(st, ST_STOPPED);
    CHECK_INT(town.shelf.n_written, 2); /* rows 3 and 7: their reasons can be looked at */
    CHECK_HAS(log_last_error(), "more than max_errors = 1");
    town_end(&town);
}

/* STOP waits until what was put is written. */
static void unwritten_rows(const struct tokenizer *tokenizer)
{
    struct town town;

    town_begin(&town, &plain, 1, tokenizer);
    town.shelf.lazy = true;
    step(&town);
    step(&town);
    CHECK_INT(town.n_seen, 1);
    send_done(&town, 0);
    step(&town);
    step(&town);
    CHECK(town.shelf.n_written == 1 && !town.stage->ended); /* PREFILLED is missing */
    send_prefilled(&town, 0);
    step(&town);
    step(&town);
    CHECK(!town.stage->ended && town.n_stopped == 0); /* the journal is not idle */
    town.shelf.n_waiting = 0;
    step(&town);
    CHECK(town.stage->ended);
    CHECK_INT(town.n_stopped, 2);
    town_end(&town);

    town_begin(&town, &plain, 0, tokenizer); /* nothing to do */
    step(&town);
    CHECK(town.stage->ended);
    town_end(&town);
}

/* ---- messages it must not believe ------------------------------------------------------------- */

static void refused(struct town *town, enum msg_type type, struct address from,
                    const struct buf *payload)
{
    struct msg *msg = host_alloc(sizeof *msg + payload->n_bytes);

    *msg = (struct msg){.type = type,
                        .from = from,
                        .to = town->stage->at,
                        .payload = (const uint8_t *)(msg + 1),
                        .n_bytes = payload->n_bytes};
    memcpy(msg + 1, payload->data, payload->n_bytes);
    CHECK_INT(town->stage->ops->on_message(town->stage, msg), ST_COMM);
    CHECK_HAS(log_last_error(), msg_name(type));
}

static void strangers(const struct tokenizer *tokenizer)
{
    const struct address prefill = {ROLE_PREFILL, 0}, decode = {ROLE_DECODE, 0},
                         other_prefill = {ROLE_PREFILL, 1}, other_decode = {ROLE_DECODE, 1};
    struct scene setting = plain;
    struct town town;
    struct buf buf = {0};

    setting.n_slots = 6;
    town_begin(&town, &setting, 3, tokenizer); /* rows 0, 1, 2 in slots 0, 1, 2 */
    step(&town);
    step(&town);
    for (int i = 0; i < 4;
         i++) { /* a slot without a row, slots beyond the last, another's length */
        const struct wire_prefilled bad[] = {{3, 1}, {6, 1}, {COMM_MAX_SLOTS - 1, 1}, {0, 2}};

        buf_reset(&buf);
        CHECK(wire_prefilled_pack(&bad[i], &buf) == ST_OK);
        refused(&town, MSG_PREFILLED, prefill, &buf);
        pack_done(0, bad[i].slot, &buf);
        if (i < 3)
            refused(&town, MSG_DONE, decode, &buf);
    }
    pack_done(0, 0, &buf);
    refused(&town, MSG_DONE, other_decode, &buf);
    memset(buf.data + buf.n_bytes - 8, 0xff, 8);
    buf.n_bytes -= 1;
    refused(&town, MSG_DONE, decode, &buf);
    const struct wire_prefilled good = {0, 1};
    buf_reset(&buf);
    CHECK(wire_prefilled_pack(&good, &buf) == ST_OK);
    refused(&town, MSG_PREFILLED, other_prefill, &buf);
    send_prefilled(&town, 0);
    step(&town);
    step(&town);
    refused(&town, MSG_PREFILLED, prefill, &buf); /* it has had one */
    send_done(&town, 1);
    step(&town);
    step(&town);
    pack_done(1, 1, &buf);
    refused(&town, MSG_DONE, decode, &buf);
    CHECK_INT(town.shelf.n_written, 1);
    buf_free(&buf);
    town_end(&town);
}

int main(void)
{
    struct tokenizer *tokenizer = letters();

    log_set_level(LOG_ERROR);
    for (unsigned seed = 1; seed <= 150; seed++) {
        static const int layouts[][3] = {{2, 1, 1}, {3, 1, 1}, {4, 1, 3}, {5, 3, 1},
                                         {3, 3, 3}, {7, 3, 3}, {2, 2, 2}};
        const int *layout = layouts[seed % (sizeof layouts / sizeof *layouts)];
        unsigned draw = seed;
        const struct scene setting = {.n_ranks = layout[0],
                                      .n_prefill = layout[1],
                                      .n_decode = layout[2],
                                      .n_slots = 1 + rand_r(&draw) % MAX_SLOTS,
                                      .n_blocks = CONTEXT / P + rand_r(&draw) % 20,
                                      .max_rows = 1 + rand_r(&draw) % 10,
                                      .max_errors = -1,
                                      .max_delay_s = seed % 3 * 5e-3,
                                      .seed = seed};
        const int failed = test_n_failed;

        run(&setting, tokenizer);
        if (test_n_failed != failed)
            fprintf(stderr, "seed %u failed\n", seed);
    }
    balanced(tokenizer);
    near(tokenizer);
    full_journal(tokenizer);
    slow_journal(tokenizer);
    full_journal_error_row(tokenizer);
    slots(tokenizer);
    too_many_errors(tokenizer);
    unwritten_rows(tokenizer);
    strangers(tokenizer);
    tokenizer_destroy(tokenizer);
    TEST_END();
}
