/*
 * stages_test.h - what the tests of stages share: an engine that does no arithmetic, rows and what
 * must become of them, prefill and decode set up on one rank or on two.
 */
#ifndef EPIDOTE_STAGES_TEST_H
#define EPIDOTE_STAGES_TEST_H

#include "stage/stage.h"
#include "test.h"

enum { V = 26, EOS = 25, P = 16 };

/* ---- an engine that knows only what it was told --------------------------------------------- */

struct toy_engine {
    struct engine base;
    struct step *step;
    int layer;
    int n_steps, n_mixed; /* steps of several sequences */
    int broken;           /* promises that stages broke */
    int fail_at, stop_at; /* number of the step that fails, or in which a signal comes; 0 = none */
    atomic_int stop;
};

static inline int32_t next_token(uint64_t row, const int32_t *history, int n)
{
    const uint64_t h = hash_bytes(history, (size_t)n * sizeof *history, row);

    return (int32_t)(h % V);
}

static inline enum status toy_submit(struct engine *engine, struct step *step)
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

static inline enum status toy_poll(struct engine *engine, enum engine_event *out_event,
                                   int *out_layer)
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

static inline void make_want(uint64_t row, struct want *want)
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

static inline struct tokenizer *letters(void)
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

/* ---- the two stages, on one rank or on two ---------------------------------------------------- */

struct setting {
    enum link_kind kind; /* LINK_SELF: on one rank; LINK_MPI: on two */
    int n_slots, n_blocks, n_own, max_tok, max_seqs, batch;
    unsigned seed; /* of the order of turns; 0 = each in turn */
};

static const struct kv_layout kv = {OPS_BF16, 3, 1, P, 16};
static const struct address coordinator = {ROLE_COORDINATOR, 0}, prefill_0 = {ROLE_PREFILL, 0},
                            decode_0 = {ROLE_DECODE, 0};

/* [0] is prefill's and the coordinator's, [1] decode's; the same but for the stages on one rank. */
struct house {
    struct virtual_net *net; /* NULL on one rank */
    struct world *worlds[2];
    void *memory[2];
    struct toy_engine toys[2];
    struct kv_pool *own, *pool;
    struct link_out *out;
    struct link_in *in;
    struct stage *stages[2];
};

static inline void house_stages(struct house *house, const struct setting *setting,
                                const struct tokenizer *tokenizer, struct kv_space own)
{
    const bool split = setting->kind == LINK_MPI;
    static const int32_t eos[] = {EOS};
    const struct link_out_args out = {.world = house->worlds[0],
                                      .kinds = &setting->kind,
                                      .n_decode = 1,
                                      .n_slots = setting->n_slots,
                                      .space = own,
                                      .pool = house->own};
    const struct link_in_args in = {.world = house->worlds[1],
                                    .n_slots = setting->n_slots,
                                    .space = *kv_pool_space(house->pool)};

    CHECK(link_out_create(&out, &house->out) == ST_OK);
    CHECK(link_in_create(&in, &house->in) == ST_OK);
    const struct prefill_args prefill = {.world = house->worlds[0],
                                         .engine = &house->toys[0].base,
                                         .link = house->out,
                                         .n_slots = setting->n_slots,
                                         .max_tok = setting->max_tok,
                                         .max_seqs = setting->max_seqs};
    const struct decode_args decode = {.world = house->worlds[1],
                                       .engine = &house->toys[split ? 1 : 0].base,
                                       .pool = house->pool,
                                       .link = house->in,
                                       .tokenizer = tokenizer,
                                       .eos_ids = eos,
                                       .n_eos = 1,
                                       .n_slots = setting->n_slots,
                                       .max_batch = setting->batch};
    CHECK(prefill_create(&prefill, &house->stages[0]) == ST_OK);
    CHECK(decode_create(&decode, &house->stages[1]) == ST_OK);
}

static inline void house_begin(struct house *house, const struct setting *setting,
                               const struct tokenizer *tokenizer)
{
    const bool split = setting->kind == LINK_MPI;
    const int asked[ROLE_COUNT] = {-1, 0, 1, 1, -1};
    const int n_own = split ? setting->n_own : setting->n_blocks;
    struct plan_layout layout;
    struct row_error why;

    *house = (struct house){0};
    CHECK(plan_layout_make(split ? 2 : 1, asked, &layout, &why) == ST_OK);
    if (split) {
        const struct virtual_args args = {
            .layout = &layout, .seed = setting->seed, .max_delay_s = 1e-2};

        CHECK(virtual_net_create(&args, &house->net) == ST_OK);
        for (int i = 0; i < 2; i++)
            CHECK(virtual_net_world(house->net, i, &house->worlds[i]) == ST_OK);
    } else {
        CHECK(world_create_local(&layout, &house->worlds[0]) == ST_OK);
        house->worlds[1] = house->worlds[0];
    }
    for (int i = 0; i < 2; i++) {
        house->memory[i] =
            calloc((size_t)(i == 0 ? n_own : setting->n_blocks), kv_block_bytes(&kv));
        house->toys[i].base = (struct engine){
            .ops = &toy_ops, .L = kv.L, .max_tok = setting->max_tok, .max_seqs = setting->max_seqs};
    }
    const struct kv_space own = {kv, n_own, house->memory[0]};
    const struct kv_space space = {kv, setting->n_blocks, house->memory[1]};
    CHECK(kv_pool_create(&space, 0, setting->n_blocks, &house->pool) == ST_OK);
    if (split)
        CHECK(kv_pool_create(&own, 0, n_own, &house->own) == ST_OK);
    house_stages(house, setting, tokenizer, split ? own : space);
}

static inline void house_end(struct house *house)
{
    stage_destroy(house->stages[0]);
    stage_destroy(house->stages[1]);
    link_out_destroy(house->out);
    link_in_destroy(house->in);
    world_destroy(house->worlds[0]);
    if (house->net != NULL)
        world_destroy(house->worlds[1]);
    virtual_net_destroy(house->net);
    if (house->own != NULL)
        CHECK_INT(kv_pool_n_free(house->own), kv_pool_n_blocks(house->own));
    CHECK_INT(kv_pool_n_free(house->pool), kv_pool_n_blocks(house->pool));
    kv_pool_destroy(house->own);
    kv_pool_destroy(house->pool);
    free(house->memory[0]);
    free(house->memory[1]);
}

/* RESERVE and ADMIT for a row. */
static inline void admit(struct house *house, const struct wire_row *row, bool admit_first)
{
    struct buf buf = {0};

    CHECK(wire_row_pack(row, &buf) == ST_OK);
    for (int k = 0; k < 2; k++) {
        const bool now = admit_first == (k == 0);

        CHECK(world_send(house->worlds[0], now ? MSG_ADMIT : MSG_RESERVE, coordinator,
                         now ? prefill_0 : decode_0, buf.data, buf.n_bytes) == ST_OK);
    }
    buf_free(&buf);
}

static inline struct wire_row row_of(const struct want *want, uint64_t row, int32_t slot)
{
    return (struct wire_row){
        .row = row,
        .slot = slot,
        .n_prompt = want->n_prompt,
        .max_out = want->max_out,
        .n_blocks = plan_blocks(plan_need_tok(want->n_prompt, want->max_out, 1000), P),
        .params = {.n_top = -1},
        .tokens = want->prompt,
    };
}

#endif
