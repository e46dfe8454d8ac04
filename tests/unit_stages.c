/* TEST */
/*
 * unit_stages.c - prefill and decode as state machines, with the test as coordinator and an engine
 * that does no arithmetic: its tokens depend on the row's history only, so whatever the order of
 * messages, the mix of steps and the size of the pool, every row must come out the same, and every
 * block back.
 */
#include "stage/stage.h"
#include "test.h"

enum { V = 26, EOS = 25, N_ROWS = 60, P = 16 };

/* ---- an engine that knows only what it was told --------------------------------------------- */

struct toy_engine {
    struct engine base;
    struct step *step;
    int layer;
    int n_steps, n_mixed; /* steps of several sequences */
    int broken;           /* promises that stages broke */
    int fail_at, stop_at; /* number of the step that fails, or in which a signal comes; 0 = none */
    volatile int stop;
};

static int32_t next_token(uint64_t row, const int32_t *history, int n)
{
    const uint64_t h = hash_bytes(history, (size_t)n * sizeof *history, row);

    return (int32_t)(h % V);
}

static enum status toy_submit(struct engine *engine, struct step *step)
{
    struct toy_engine *toy = (struct toy_engine *)engine;
    int n_tok = 0;

    if (engine->running != NULL)
        return ST_AGAIN;
    for (int i = 0; i < step->n_seqs; i++)
        n_tok += step->seqs[i].n_tok;
    toy->broken += n_tok > engine->max_tok || step->n_seqs > engine->max_seqs || n_tok == 0;
    toy->n_steps++;
    toy->n_mixed += step->n_seqs > 1;
    toy->step = step;
    toy->layer = 0;
    engine->running = step;
    return ST_OK;
}

static enum status toy_poll(struct engine *engine, enum engine_event *out_event, int *out_layer)
{
    struct toy_engine *toy = (struct toy_engine *)engine;

    toy->stop = toy->n_steps == toy->stop_at && toy->stop_at > 0;
    if (toy->n_steps == toy->fail_at && toy->fail_at > 0)
        return ST_NOMEM;
    if (engine->running == NULL) {
        *out_event = ENGINE_IDLE;
    } else if (toy->layer < engine->L) {
        *out_event = ENGINE_LAYER_DONE;
        *out_layer = toy->layer++;
    } else {
        for (int i = 0; i < toy->step->n_seqs; i++) {
            struct step_seq *seq = &toy->step->seqs[i];
            const int n = seq->pos0 + seq->n_tok;

            toy->broken += memcmp(seq->tokens, seq->history + seq->pos0,
                                  (size_t)seq->n_tok * sizeof *seq->tokens) != 0;
            if (seq->sample)
                seq->sampled = (struct sampled){.token = next_token(seq->row, seq->history, n)};
            seq->failed = seq->sample && seq->row % 17 == 13 && n > 30;
            if (seq->failed)
                row_error_set(&seq->error, "toy failure");
        }
        engine->running = NULL;
        *out_event = ENGINE_STEP_DONE;
    }
    return ST_OK;
}

static const struct engine_ops toy_ops = {toy_submit, toy_poll, NULL};

/* ---- rows and what they must give ----------------------------------------------------------- */

struct want {
    int32_t prompt[64], out[64];
    int n_prompt, max_out, n_out;
    enum finish_reason reason;
};

static void make_want(uint64_t row, struct want *want)
{
    int32_t history[128];
    unsigned seed = (unsigned)row * 7919 + 1;
    int n;

    want->n_prompt = 1 + rand_r(&seed) % 60;
    want->max_out = 1 + rand_r(&seed) % 30;
    for (n = 0; n < want->n_prompt; n++)
        history[n] = want->prompt[n] = rand_r(&seed) % V;
    want->n_out = 0;
    want->reason = FINISH_LENGTH;
    while (want->n_out < want->max_out) {
        if (row % 17 == 13 && n > 30) {
            want->reason = FINISH_ERROR;
            return;
        }
        history[n] = want->out[want->n_out++] = next_token(row, history, n);
        n++;
        if (want->out[want->n_out - 1] == EOS) {
            want->reason = FINISH_STOP;
            return;
        }
    }
}

static struct tokenizer *letters(void)
{
    static const char *const names[V] = {"a", "b", "c", "d", "e", "f", "g", "h",    "i",
                                         "j", "k", "l", "m", "n", "o", "p", "q",    "r",
                                         "s", "t", "u", "v", "w", "x", "y", "<end>"};
    struct text_span tokens[V];
    uint8_t kinds[V] = {0};
    struct tokenizer *tokenizer = NULL;

    for (int i = 0; i < V; i++)
        tokens[i] = (struct text_span){names[i], strlen(names[i])};
    kinds[EOS] = TOKEN_CONTROL;
    const struct vocab_spec spec = {
        .origin = "test",
        .model = "bpe",
        .pre = "gpt-2",
        .tokens = tokens,
        .kinds = kinds,
        .n_tokens = V,
        .bos_id = -1,
        .eos_id = EOS,
    };
    CHECK(tokenizer_create(&spec, &tokenizer) == ST_OK);
    return tokenizer;
}

/* ---- one run --------------------------------------------------------------------------------- */

struct setting {
    int n_slots, n_blocks, max_tok, max_seqs, batch;
    unsigned seed; /* of the order of turns; 0 = each in turn */
};

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

static void run(const struct setting *setting, struct tokenizer *tokenizer)
{
    const int n_stages[ROLE_COUNT] = {1, 0, 1, 1};
    const struct kv_layout layout = {OPS_BF16, 3, 1, P, 16};
    const struct address at[3] = {{ROLE_COORDINATOR, 0}, {ROLE_PREFILL, 0}, {ROLE_DECODE, 0}};
    static const int32_t eos[] = {EOS};
    struct toy_engine engine = {
        .base = {
            .ops = &toy_ops, .L = 3, .max_tok = setting->max_tok, .max_seqs = setting->max_seqs}};
    struct world *world = NULL;
    struct kv_pool *pool = NULL;
    struct link *link = NULL;
    struct stage *stages[2] = {NULL};
    struct buf buf = {0};
    uint8_t seen[N_ROWS] = {0};
    bool used[64] = {false};
    int n_free_blocks = setting->n_blocks, need[64] = {0};
    int next = 0, n_done = 0, idle = 0;
    unsigned seed = setting->seed;

    CHECK(world_create_local(n_stages, &world) == ST_OK);
    CHECK(kv_pool_create(&(struct kv_space){layout, setting->n_blocks, NULL}, 0, setting->n_blocks,
                         &pool) == ST_OK);
    const struct link_args link_args = {"auto", pool, setting->n_slots, true};
    CHECK(link_open(&link_args, &link) == ST_OK);
    const struct prefill_args prefill = {
        .world = world,
        .engine = &engine.base,
        .link = link,
        .layout_id = kv_layout_id(&layout),
        .n_slots = setting->n_slots,
        .max_tok = setting->max_tok,
        .max_seqs = setting->max_seqs,
    };
    const struct decode_args decode = {
        .world = world,
        .engine = &engine.base,
        .pool = pool,
        .tokenizer = tokenizer,
        .eos_ids = eos,
        .n_eos = 1,
        .n_slots = setting->n_slots,
        .max_batch = setting->batch,
    };
    CHECK(prefill_create(&prefill, &stages[0]) == ST_OK);
    CHECK(decode_create(&decode, &stages[1]) == ST_OK);

    while (n_done < N_ROWS && idle < 1000) {
        struct msg *msg;
        bool worked = false;

        /* Admit what fits, as the coordinator would. */
        for (int slot = 0; slot < setting->n_slots && next < N_ROWS; slot++) {
            struct want want;

            make_want((uint64_t)next, &want);
            const int n = plan_blocks(plan_need_tok(want.n_prompt, want.max_out, 1000), P);
            if (used[slot] || n > n_free_blocks)
                continue;
            const struct wire_row row = {
                .row = (uint64_t)next,
                .slot = slot,
                .n_prompt = want.n_prompt,
                .max_out = want.max_out,
                .n_blocks = n,
                .params = {.n_top = -1},
                .tokens = want.prompt,
            };
            const bool admit_first = setting->seed != 0 && rand_r(&seed) % 2 == 0;

            buf_reset(&buf);
            CHECK(wire_row_pack(&row, &buf) == ST_OK);
            for (int k = 0; k < 2; k++) {
                const bool admit = admit_first == (k == 0);

                CHECK(world_send(world, admit ? MSG_ADMIT : MSG_RESERVE, at[0], at[admit ? 1 : 2],
                                 buf.data, buf.n_bytes) == ST_OK);
            }
            used[slot] = true;
            need[slot] = n;
            n_free_blocks -= n;
            next++;
            worked = true;
        }
        /* A few turns, in any order. */
        for (int k = 0; k < 2; k++) {
            struct stage *stage = stages[setting->seed != 0 ? rand_r(&seed) % 2 : k];
            bool turned = false;

            while ((setting->seed == 0 || rand_r(&seed) % 3 != 0) &&
                   world_next(world, stage->at, &msg) == ST_OK) {
                CHECK(stage->ops->on_message(stage, msg) == ST_OK);
                worked = true;
            }
            CHECK(stage->ops->poll(stage, &turned) == ST_OK);
            worked |= turned;
        }
        while (world_next(world, at[0], &msg) == ST_OK) {
            const int slot = wire_slot(msg);

            check_done(msg, seen);
            used[slot] = false;
            n_free_blocks += need[slot];
            n_done++;
            msg_free(msg);
        }
        idle = worked ? 0 : idle + 1;
    }
    CHECK_INT(n_done, N_ROWS);
    CHECK_INT(kv_pool_n_free(pool), setting->n_blocks);
    CHECK_INT(engine.broken, 0);
    if (setting->batch > 1 && setting->n_slots >= 4 && setting->n_blocks >= 24)
        CHECK(engine.n_mixed > 0);
    for (int k = 0; k < 2; k++) {
        struct msg *msg;

        CHECK(world_send(world, MSG_STOP, at[0], stages[k]->at, NULL, 0) == ST_OK);
        CHECK(world_next(world, stages[k]->at, &msg) == ST_OK);
        CHECK(stages[k]->ops->on_message(stages[k], msg) == ST_OK);
        CHECK(stages[k]->ended);
        stage_destroy(stages[k]);
    }
    link_close(link);
    kv_pool_destroy(pool);
    world_destroy(world);
    buf_free(&buf);
}

/* Rows in flight when a run is broken off: everything is freed (make asan looks). */
static void broken_off(struct tokenizer *tokenizer)
{
    const int n_stages[ROLE_COUNT] = {1, 0, 1, 1};
    const struct kv_layout layout = {OPS_BF16, 1, 1, P, 16};
    static const int32_t tokens[] = {1, 2, 3}, eos[] = {EOS};
    const struct wire_row row = {.n_prompt = 3, .max_out = 5, .n_blocks = 1, .tokens = tokens};
    struct world *world = NULL;
    struct kv_pool *pool = NULL;
    struct stage *stage = NULL;
    struct buf buf = {0};
    struct msg *msg;

    CHECK(world_create_local(n_stages, &world) == ST_OK);
    CHECK(kv_pool_create(&(struct kv_space){layout, 4, NULL}, 0, 4, &pool) == ST_OK);
    const struct decode_args decode = {.world = world,
                                       .pool = pool,
                                       .tokenizer = tokenizer,
                                       .eos_ids = eos,
                                       .n_eos = 1,
                                       .n_slots = 2,
                                       .max_batch = 2};
    CHECK(decode_create(&decode, &stage) == ST_OK);
    CHECK(wire_row_pack(&row, &buf) == ST_OK);
    CHECK(world_send(world, MSG_RESERVE, (struct address){ROLE_COORDINATOR, 0}, stage->at, buf.data,
                     buf.n_bytes) == ST_OK);
    CHECK(world_next(world, stage->at, &msg) == ST_OK);
    CHECK(stage->ops->on_message(stage, msg) == ST_OK);
    CHECK_INT(kv_pool_n_free(pool), 3);
    stage_destroy(stage);
    CHECK_INT(kv_pool_n_free(pool), 4);
    kv_pool_destroy(pool);
    world_destroy(world);
    buf_free(&buf);
}

/* A step fails, or a signal comes, with rows in every state: the loop says so, and nothing is lost
 * or leaks (make asan looks). */
static void ended_early(struct tokenizer *tokenizer, int fail_at, int stop_at, enum status want_st)
{
    enum { N_IN_FLIGHT = 6, N_BLOCKS = 6 * 6 };
    const int n_stages[ROLE_COUNT] = {1, 0, 1, 1};
    const struct kv_layout layout = {OPS_BF16, 3, 1, P, 16};
    static const int32_t eos[] = {EOS};
    struct toy_engine engine = {.base = {.ops = &toy_ops, .L = 3, .max_tok = 64, .max_seqs = 4},
                                .fail_at = fail_at,
                                .stop_at = stop_at};
    struct world *world = NULL;
    struct kv_pool *pool = NULL;
    struct link *link = NULL;
    struct stage *stages[2] = {NULL};
    struct buf buf = {0};

    CHECK(world_create_local(n_stages, &world) == ST_OK);
    CHECK(kv_pool_create(&(struct kv_space){layout, N_BLOCKS, NULL}, 0, N_BLOCKS, &pool) == ST_OK);
    const struct link_args link_args = {"auto", pool, N_IN_FLIGHT, true};
    CHECK(link_open(&link_args, &link) == ST_OK);
    const struct prefill_args prefill = {.world = world,
                                         .engine = &engine.base,
                                         .link = link,
                                         .layout_id = kv_layout_id(&layout),
                                         .n_slots = N_IN_FLIGHT,
                                         .max_tok = 64,
                                         .max_seqs = 4};
    const struct decode_args decode = {.world = world,
                                       .engine = &engine.base,
                                       .pool = pool,
                                       .tokenizer = tokenizer,
                                       .eos_ids = eos,
                                       .n_eos = 1,
                                       .n_slots = N_IN_FLIGHT,
                                       .max_batch = 2};
    CHECK(prefill_create(&prefill, &stages[0]) == ST_OK);
    CHECK(decode_create(&decode, &stages[1]) == ST_OK);
    for (int slot = 0; slot < N_IN_FLIGHT; slot++) {
        struct want want;

        make_want((uint64_t)slot, &want);
        const struct wire_row row = {
            .row = (uint64_t)slot,
            .slot = slot,
            .n_prompt = want.n_prompt,
            .max_out = want.max_out,
            .n_blocks = plan_blocks(plan_need_tok(want.n_prompt, want.max_out, 1000), P),
            .params = {.n_top = -1},
            .tokens = want.prompt,
        };
        buf_reset(&buf);
        CHECK(wire_row_pack(&row, &buf) == ST_OK);
        for (int k = 0; k < 2; k++)
            CHECK(world_send(world, k == 0 ? MSG_RESERVE : MSG_ADMIT,
                             (struct address){ROLE_COORDINATOR, 0}, stages[1 - k]->at, buf.data,
                             buf.n_bytes) == ST_OK);
    }
    CHECK_INT(loop_run(world, stages, 2, &engine.stop), want_st);
    CHECK_INT(engine.n_steps, fail_at + stop_at);
    CHECK(kv_pool_n_free(pool) < N_BLOCKS); /* there were rows in flight */
    stage_destroy(stages[0]);
    stage_destroy(stages[1]);
    CHECK_INT(kv_pool_n_free(pool), N_BLOCKS);
    link_close(link);
    kv_pool_destroy(pool);
    world_destroy(world);
    buf_free(&buf);
}

/* Hand a message to a stage; it must be refused with a line that holds `says`. */
static void refused(struct world *world, struct stage *stage, enum msg_type type,
                    struct address from, const struct buf *payload, const char *says)
{
    struct msg *msg;

    CHECK(world_send(world, type, from, stage->at, payload->data, payload->n_bytes) == ST_OK);
    CHECK(world_next(world, stage->at, &msg) == ST_OK);
    CHECK_INT(stage->ops->on_message(stage, msg), ST_COMM);
    CHECK_HAS(log_last_error(), says);
}

/* Messages of another job's stages: slots that are not there, messages that were there before. */
static void strangers(struct tokenizer *tokenizer)
{
    const int n_stages[ROLE_COUNT] = {1, 0, 1, 1};
    const struct kv_layout layout = {OPS_BF16, 1, 1, P, 16};
    const struct address coordinator = {ROLE_COORDINATOR, 0}, to_prefill = {ROLE_DECODE, 0},
                         to_decode = {ROLE_PREFILL, 0};
    static const int32_t tokens[] = {1, 2, 3}, eos[] = {EOS}, blocks[] = {0};
    struct wire_row row = {.n_prompt = 3, .max_out = 5, .n_blocks = 1, .tokens = tokens};
    struct wire_grant grant = {.slot = 2, .n_blocks = 1, .blocks = blocks};
    struct wire_first first = {.slot = 2};
    struct world *world = NULL;
    struct kv_pool *pool = NULL;
    struct stage *prefill = NULL, *decode = NULL;
    struct buf buf = {0};
    struct msg *msg;

    CHECK(world_create_local(n_stages, &world) == ST_OK);
    CHECK(kv_pool_create(&(struct kv_space){layout, 4, NULL}, 0, 4, &pool) == ST_OK);
    const struct prefill_args prefill_args = {
        .world = world, .n_slots = 2, .max_tok = 8, .max_seqs = 2};
    const struct decode_args decode_args = {.world = world,
                                            .pool = pool,
                                            .tokenizer = tokenizer,
                                            .eos_ids = eos,
                                            .n_eos = 1,
                                            .n_slots = 2,
                                            .max_batch = 2};
    CHECK(prefill_create(&prefill_args, &prefill) == ST_OK);
    CHECK(decode_create(&decode_args, &decode) == ST_OK);

    row.slot = 2;
    CHECK(wire_row_pack(&row, &buf) == ST_OK);
    refused(world, prefill, MSG_ADMIT, coordinator, &buf, "ADMIT from coordinator/0 for slot 2");
    refused(world, decode, MSG_RESERVE, coordinator, &buf, "RESERVE for slot 2");
    buf_reset(&buf);
    CHECK(wire_grant_pack(&grant, &buf) == ST_OK);
    refused(world, prefill, MSG_GRANT, to_prefill, &buf, "GRANT from decode/0 for slot 2");
    buf_reset(&buf);
    CHECK(wire_first_pack(&first, &buf) == ST_OK);
    refused(world, decode, MSG_FIRST, to_decode, &buf, "FIRST from prefill/0 for slot 2");

    row.slot = 1;
    first.slot = 1;
    buf_reset(&buf);
    CHECK(wire_first_pack(&first, &buf) == ST_OK);
    refused(world, decode, MSG_FIRST, to_decode, &buf, "slot 1, which waits for none");
    buf_reset(&buf);
    CHECK(wire_row_pack(&row, &buf) == ST_OK);
    CHECK(world_send(world, MSG_ADMIT, coordinator, prefill->at, buf.data, buf.n_bytes) == ST_OK);
    CHECK(world_next(world, prefill->at, &msg) == ST_OK);
    CHECK(prefill->ops->on_message(prefill, msg) == ST_OK);
    refused(world, prefill, MSG_ADMIT, coordinator, &buf, "ADMIT from coordinator/0 for slot 1");

    stage_destroy(prefill);
    stage_destroy(decode);
    CHECK_INT(kv_pool_n_free(pool), 4);
    kv_pool_destroy(pool);
    world_destroy(world);
    buf_free(&buf);
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

    log_set_level(LOG_WARN);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        run(&plain[i], tokenizer);
    for (unsigned seed = 1; seed <= 200; seed++) {
        unsigned draw = seed;
        const struct setting setting = {
            .n_slots = 1 + rand_r(&draw) % 32,
            .n_blocks = 6 + rand_r(&draw) % 40,
            .max_tok = 16 + rand_r(&draw) % 100,
            .max_seqs = 16,
            .batch = 1 + rand_r(&draw) % 16,
            .seed = seed,
        };
        const int failed = test_n_failed;

        run(&setting, tokenizer);
        if (test_n_failed != failed)
            fprintf(stderr, "seed %u failed\n", seed);
    }
    broken_off(tokenizer);
    strangers(tokenizer);
    for (int step = 1; step <= 8; step++) {
        ended_early(tokenizer, step, 0, ST_NOMEM);
        ended_early(tokenizer, 0, step, ST_STOPPED);
    }
    progress_text();
    tokenizer_destroy(tokenizer);
    TEST_END();
}
