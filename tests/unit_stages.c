/* TEST */
/*
 * unit_stages.c - prefill and decode as state machines, with the test as coordinator and an engine
 * that does no arithmetic: its tokens depend on the row's history only, so whatever the order of
 * messages, the mix of steps, the size of the pools, and whether the two share a rank, every row
 * must come out the same, and every block back.
 */
#include "stages_test.h"

enum { N_ROWS = 60 };

/* ---- one run --------------------------------------------------------------------------------- */

static void check_done(const struct msg *msg, uint8_t *seen)
{
    struct wire_done done;
    struct result_row row;
    struct want want;

    CHECK(wire_done_unpack(msg->payload, msg->n_bytes, &done) == ST_OK);
    CHECK(result_unpack(done.result, done.result_bytes, &row) == ST_OK);
    make_want(row.row, &want);
    CHECK_INT(seen[row.row]++, 0);
    CHECK_INT(row.reason, want.reason);
    CHECK_INT(row.n_tokens, want.n_out);
    CHECK_INT(row.prompt_len, want.n_prompt);
    int wrong = 0;
    for (int i = 0; i < want.n_out && i < row.n_tokens; i++)
        wrong += row.tokens[i] != want.out[i];
    CHECK_INT(wrong, 0);
    const int n_text = want.n_out - (want.reason == FINISH_STOP); /* the end token has no text */
    CHECK_INT(row.text_bytes, n_text);
    for (int i = 0; i < n_text && i < (int)row.text_bytes; i++)
        wrong += row.text[i] != 'a' + want.out[i];
    CHECK_INT(wrong, 0);
    if (row.reason == FINISH_ERROR)
        CHECK(row.error_bytes == strlen("toy failure"));
}

/* A few messages and a turn for one stage. */
static bool turn(struct house *house, const struct setting *setting, int k, unsigned *seed)
{
    struct stage *stage = house->stages[k];
    struct msg *msg;
    bool worked = false, turned = false;

    while ((setting->seed == 0 || rand_r(seed) % 3 != 0) &&
           world_next(house->worlds[k], stage->at, &msg) == ST_OK) {
        CHECK(stage->ops->on_message(stage, msg) == ST_OK);
        worked = true;
    }
    CHECK(stage->ops->poll(stage, &turned) == ST_OK);
    if (house->net != NULL)
        CHECK(world_progress(house->worlds[k], &worked) == ST_OK);
    return worked || turned;
}

struct slots {
    bool used[64], prefilled[64], done[64];
    int need[64];
};

/* What came for the coordinator.  Returns how many rows are done. */
static int take_all(struct house *house, struct slots *slots, int *n_free_blocks, uint8_t *seen)
{
    int n_done = 0;

    for (struct msg *msg; world_next(house->worlds[0], coordinator, &msg) == ST_OK; msg_free(msg)) {
        const int slot = wire_slot(msg);

        CHECK(slots->used[slot]);
        if (msg->type == MSG_DONE) {
            check_done(msg, seen);
            *n_free_blocks += slots->need[slot];
            slots->done[slot] = true;
            n_done++;
        } else {
            CHECK_INT(msg->type, MSG_PREFILLED);
            CHECK(!slots->prefilled[slot]);
            slots->prefilled[slot] = true;
        }
        if (slots->done[slot] && slots->prefilled[slot])
            slots->used[slot] = slots->done[slot] = slots->prefilled[slot] = false;
    }
    return n_done;
}

/* All rows are done: STOP.  Returns whether bytes were still leaving, for which prefill waits. */
static bool stop(struct house *house, const struct setting *setting)
{
    const bool leaving = !link_out_idle(house->out);
    unsigned seed = setting->seed;

    for (int k = 0; k < 2; k++)
        CHECK(world_send(house->worlds[0], MSG_STOP, coordinator, house->stages[k]->at, NULL, 0) ==
              ST_OK);
    for (int i = 0; i < 1000 && !(house->stages[0]->ended && house->stages[1]->ended); i++) {
        turn(house, setting, i % 2, &seed);
        CHECK(!house->stages[0]->ended || link_out_idle(house->out));
        if (house->net != NULL)
            virtual_net_advance(house->net, 1e-3);
    }
    CHECK(house->stages[0]->ended && house->stages[1]->ended);
    return leaving;
}

/* Returns whether prefill had bytes under way when it was told to stop. */
static bool run(const struct setting *setting, struct tokenizer *tokenizer)
{
    const bool split = setting->kind == LINK_MPI;
    struct house house;
    struct slots slots = {0};
    uint8_t seen[N_ROWS] = {0};
    int n_free_blocks = setting->n_blocks, next = 0, n_done = 0, idle = 0;
    unsigned seed = setting->seed;

    house_begin(&house, setting, tokenizer);
    while (n_done < N_ROWS && idle < 1000) {
        bool worked = false;

        /* Admit what fits, as the coordinator would. */
        for (int slot = 0; slot < setting->n_slots && next < N_ROWS; slot++) {
            struct want want;

            make_want((uint64_t)next, &want);
            const struct wire_row row = row_of(&want, (uint64_t)next, slot);
            if (slots.used[slot] || row.n_blocks > n_free_blocks)
                continue;
            admit(&house, &row, setting->seed != 0 && rand_r(&seed) % 2 == 0);
            slots.used[slot] = true;
            slots.need[slot] = row.n_blocks;
            n_free_blocks -= row.n_blocks;
            next++;
            worked = true;
        }
        for (int k = 0; k < 2; k++) /* a few turns, in any order */
            worked |= turn(&house, setting, setting->seed != 0 ? rand_r(&seed) % 2 : k, &seed);
        if (split)
            virtual_net_advance(house.net, 1e-3);
        n_done += take_all(&house, &slots, &n_free_blocks, seen);
        idle = worked ? 0 : idle + 1;
    }
    CHECK_INT(n_done, N_ROWS);
    CHECK_INT(n_free_blocks, setting->n_blocks);
    CHECK_INT(kv_pool_n_free(house.pool), setting->n_blocks);
    CHECK_INT(house.toys[0].broken + house.toys[1].broken, 0);
    if (!split && setting->batch > 1 && setting->n_slots >= 4 && setting->n_blocks >= 24)
        CHECK(house.toys[0].n_mixed > 0);

    struct wire_beat beat = {0};
    for (int k = 0; k < 2; k++)
        house.stages[k]->ops->describe(house.stages[k], &beat);
    CHECK_INT(beat.n_rows, 0);
    CHECK_INT(beat.n_handed, N_ROWS);
    CHECK(!split || beat.exposed_s > 0); /* bytes take time between ranks */
    CHECK(beat.exposed_s >= 0 && beat.prefill_s >= 0);
    CHECK_STR(beat.doing, "prefill/0: 0 rows, no step; decode/0: 0 rows, no step");
    const bool leaving = stop(&house, setting);
    house_end(&house);
    return leaving;
}

/* A step fails, or a signal comes, with rows in every state: the loop says so, and nothing is lost
 * or leaks (make asan looks). */
static void ended_early(struct tokenizer *tokenizer, int fail_at, int stop_at, enum status want_st)
{
    const struct setting setting = {
        .n_slots = 6, .n_blocks = 6 * 6, .max_tok = 64, .max_seqs = 4, .batch = 2};
    struct house house;

    house_begin(&house, &setting, tokenizer);
    house.toys[0].fail_at = fail_at;
    house.toys[0].stop_at = stop_at;
    for (int slot = 0; slot < setting.n_slots; slot++) {
        struct want want;

        make_want((uint64_t)slot, &want);
        const struct wire_row row = row_of(&want, (uint64_t)slot, slot);
        admit(&house, &row, false);
    }
    struct loop loop = {.world = house.worlds[0],
                        .stages = house.stages,
                        .n_stages = 2,
                        .stop = &house.toys[0].stop};
    CHECK_INT(loop_run(&loop), want_st);
    CHECK_INT(house.toys[0].n_steps, fail_at + stop_at);
    CHECK(kv_pool_n_free(house.pool) < setting.n_blocks); /* there were rows in flight */
    house_end(&house);
}

/* Broken off at any moment with bytes under way: all blocks come back, nothing leaks. */
static void broken_off(struct tokenizer *tokenizer, int n_turns)
{
    const struct setting setting = {.kind = LINK_MPI,
                                    .n_slots = 8,
                                    .n_blocks = 8 * 6,
                                    .n_own = 8,
                                    .max_tok = 64,
                                    .max_seqs = 4,
                                    .batch = 4,
                                    .seed = 1 + (unsigned)n_turns};
    struct house house;
    unsigned seed = setting.seed;

    house_begin(&house, &setting, tokenizer);
    for (int slot = 0; slot < setting.n_slots; slot++) {
        struct want want;

        make_want((uint64_t)slot, &want);
        const struct wire_row row = row_of(&want, (uint64_t)slot, slot);
        admit(&house, &row, slot % 2 == 0);
    }
    for (int i = 0; i < n_turns; i++) {
        turn(&house, &setting, i % 2, &seed);
        virtual_net_advance(house.net, 1e-3);
    }
    house_end(&house);
}

static void progress_text(void)
{
    const struct progress prev = {.elapsed_s = 110, .prompt_tok = 1000, .answer_tok = 500};
    const struct progress now = {
        .elapsed_s = 120,
        .n_rows = 1000,
        .n_done = 412,
        .n_failed = 2,
        .n_kept = 12,
        .prompt_tok = 183000,
        .answer_tok = 31500,
    };
    char buf[256];

    CHECK_STR(progress_line(buf, sizeof buf, &now, &prev),
              "412/1000 rows, 2 failed  prompts 18.2k tok/s  answers 3.10k tok/s  eta 176 s");
    CHECK_STR(units_si(buf, sizeof buf, 0), "0.00");
    CHECK_STR(units_si(buf, sizeof buf, 999), "999");
    CHECK_STR(units_si(buf, sizeof buf, 999.6), "1.00k");
    CHECK_STR(units_si(buf, sizeof buf, 2.4e9), "2.40G");
}

int main(void)
{
    struct tokenizer *tokenizer = letters();
    static const struct setting plain[] = {
        {.n_slots = 1, .n_blocks = 6, .max_tok = 512, .max_seqs = 64, .batch = 1},
        {.n_slots = 8, .n_blocks = 6, .max_tok = 512, .max_seqs = 64, .batch = 4}, /* tiny pool */
        {.n_slots = 32, .n_blocks = 300, .max_tok = 7, .max_seqs = 64, .batch = 16},
        {.n_slots = 32, .n_blocks = 300, .max_tok = 100, .max_seqs = 3, .batch = 3},
    };
    int n_leaving = 0;

    log_set_level(LOG_WARN);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        struct setting setting = plain[i];

        run(&setting, tokenizer);
        setting.kind = LINK_MPI;
        setting.n_own = 4; /* blocks of the longest prompt */
        run(&setting, tokenizer);
    }
    for (unsigned seed = 1; seed <= 200; seed++) {
        unsigned draw = seed;
        struct setting setting = {
            .n_slots = 1 + rand_r(&draw) % 32,
            .n_blocks = 6 + rand_r(&draw) % 40,
            .n_own = 4 + rand_r(&draw) % 12,
            .max_tok = 16 + rand_r(&draw) % 100,
            .max_seqs = 16,
            .batch = 1 + rand_r(&draw) % 16,
            .seed = seed,
        };
        const int failed = test_n_failed;

        run(&setting, tokenizer);
        setting.kind = LINK_MPI;
        n_leaving += run(&setting, tokenizer);
        if (test_n_failed != failed)
            fprintf(stderr, "seed %u failed\n", seed);
    }
    CHECK(n_leaving > 0); /* STOP came before the last bytes had left, at least once */
    for (int n_turns = 0; n_turns < 60; n_turns++)
        broken_off(tokenizer, n_turns);
    for (int step = 1; step <= 8; step++) {
        ended_early(tokenizer, step, 0, ST_NOMEM);
        ended_early(tokenizer, 0, step, ST_STOPPED);
    }
    progress_text();
    tokenizer_destroy(tokenizer);
    TEST_END();
}
