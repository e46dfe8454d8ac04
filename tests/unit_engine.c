/* TEST */
/*
 * unit_engine.c - the contract of submit and poll; several prompts in a step; rows that join and
 * leave between steps; greedy answers step by step equal to one long prefill.
 */
#include "checkpoint.h"
#include "engine/engine.h"

#define GOLDEN "tests/golden/"

enum { MAX_TOK = 64, MAX_SEQS = 8, CONTEXT = 128, P = 16, N_BLOCKS = 64 };

/* An engine with a pool of its own; the rig gives weights and, for the long prefill, a decoder. */
struct bench {
    struct rig rig;
    struct engine *engine;
    struct kv_pool *pool;
    void *pages;
    size_t pages_bytes;
};

static void bench_begin(struct bench *b, const char *path, int n_threads)
{
    const struct ops *ops;

    rig_begin(&b->rig,
              (struct rig_args){.path = path, .type = OPS_BF16, .n_threads = n_threads, .P = P});
    const struct kv_layout layout = {OPS_BF16, b->rig.config.L, b->rig.config.K, P,
                                     b->rig.config.E};
    b->pages_bytes = N_BLOCKS * kv_block_bytes(&layout);
    b->pages = pages_map(b->pages_bytes);
    RIG_OK(b->pages != NULL ? ST_OK : ST_NOMEM);
    RIG_OK(kv_pool_create(&(struct kv_space){layout, N_BLOCKS, b->pages}, 0, N_BLOCKS, &b->pool));
    kv_pool_poison(b->pool);
    RIG_OK(ops_find("auto", &ops));
    const struct engine_cpu_args args = {
        .config = &b->rig.config,
        .weights = b->rig.weights,
        .ops = ops,
        .threads = b->rig.threads,
        .space = *kv_pool_space(b->pool),
        .max_tok = MAX_TOK,
        .max_seqs = MAX_SEQS,
        .context = CONTEXT,
    };
    RIG_OK(engine_cpu_create(&args, &b->engine));
}

static void bench_end(struct bench *b)
{
    engine_destroy(b->engine);
    kv_pool_destroy(b->pool);
    pages_unmap(b->pages, b->pages_bytes);
    rig_end(&b->rig);
}

static const struct sampler_params greedy = {
    .temperature = 0, .top_p = 1, .repetition_penalty = 1, .n_top = 0};

/* A row on its way: prompt, then answer, in tokens. */
struct row {
    int32_t tokens[CONTEXT];
    int n_prompt, n_tok, n_done; /* n_done of n_tok tokens have their KV in blocks */
    int32_t blocks[CONTEXT / P];
    struct sampler_params params;
};

static void row_begin(struct bench *b, struct row *row, uint32_t seed, int n_prompt,
                      struct sampler_params params)
{
    *row = (struct row){.n_prompt = n_prompt, .n_tok = n_prompt, .params = params};
    for (int i = 0; i < n_prompt; i++) {
        const uint32_t key[2] = {seed, 5}, counter[4] = {(uint32_t)i, 0, 0, 0};
        uint32_t drawn[4];

        philox4x32(key, counter, drawn);
        row->tokens[i] = (int32_t)(drawn[0] % (uint32_t)b->rig.config.V);
    }
    RIG_OK(kv_pool_take(b->pool, CONTEXT / P, row->blocks));
}

static void row_end(struct bench *b, struct row *row)
{
    kv_pool_give(b->pool, row->blocks, CONTEXT / P);
    kv_pool_poison(b->pool);
}

/* The next n tokens of the row as a sequence of a step; the last one is followed by a sample. */
static struct step_seq row_seq(struct row *row, int n)
{
    return (struct step_seq){
        .row = 1,
        .tokens = row->tokens + row->n_done,
        .n_tok = n,
        .pos0 = row->n_done,
        .blocks = row->blocks,
        .sample = row->n_done + n == row->n_tok,
        .params = &row->params,
        .history = row->tokens,
    };
}

/* Take what the step gave. */
static void row_take(struct row *row, const struct step_seq *seq)
{
    CHECK(!seq->failed);
    row->n_done += seq->n_tok;
    if (seq->sample)
        row->tokens[row->n_tok++] = seq->sampled.token;
}

/* Submit, and poll until the step is done. */
static void run_step(struct engine *engine, struct step_seq *seqs, int n_seqs)
{
    struct step step = {.n_seqs = n_seqs, .seqs = seqs};
    enum engine_event event = ENGINE_BUSY;
    int layer;

    RIG_OK(engine_submit(engine, &step));
    while (event != ENGINE_STEP_DONE)
        RIG_OK(engine_poll(engine, &event, &layer));
}

static void contract(void)
{
    struct bench b;
    struct row row;
    enum engine_event event = ENGINE_BUSY;
    int layer = -1;

    bench_begin(&b, GOLDEN "odd", 2);
    CHECK_INT(engine_poll(b.engine, &event, &layer), ST_OK);
    CHECK_INT(event, ENGINE_IDLE);
    CHECK_INT(b.engine->L, 3);

    row_begin(&b, &row, 1, 20, greedy);
    struct step_seq seq = row_seq(&row, 20), other = seq;
    struct step step = {.of_prompts = true, .n_seqs = 1, .seqs = &seq};
    struct step second = {.of_prompts = true, .n_seqs = 1, .seqs = &other};
    CHECK_INT(engine_submit(b.engine, &step), ST_OK);
    CHECK(b.engine->running == &step);
    CHECK_INT(engine_submit(b.engine, &second), ST_AGAIN);
    for (int l = 0; l < 3; l++) {
        do
            CHECK_INT(engine_poll(b.engine, &event, &layer), ST_OK);
        while (event == ENGINE_PART_DONE);
        CHECK_INT(event, ENGINE_LAYER_DONE);
        CHECK_INT(layer, l);
        CHECK_INT(engine_submit(b.engine, &second), ST_AGAIN);
        /* the layer's KV is there: no NaN of the poison is left in the prompt's slots */
        const struct ops_kv kv = kv_space_layer(kv_pool_space(b.pool), l);
        const uint16_t *base = kv.base;
        int n_nan = 0;
        for (int pos = 0; pos < 20; pos++)
            for (int e = 0; e < kv.E; e++)
                for (int value = 0; value < 2; value++)
                    n_nan += isnan(f32_from_bf16(
                        base[ops_kv_index(&kv, row.blocks[pos / P], value, 0, pos % P, e)]));
        CHECK_INT(n_nan, 0);
    }
    do
        CHECK_INT(engine_poll(b.engine, &event, &layer), ST_OK);
    while (event == ENGINE_PART_DONE);
    CHECK_INT(event, ENGINE_STEP_DONE);
    CHECK(b.engine->running == NULL);
    CHECK(seq.sampled.token >= 0 && seq.sampled.token < 203);
    CHECK(seq.sampled.logprob <= 0);
    CHECK_INT(engine_poll(b.engine, &event, &layer), ST_OK);
    CHECK_INT(event, ENGINE_IDLE);

    row_take(&row, &seq);
    struct step_seq next = row_seq(&row, 1);
    run_step(b.engine, &next, 1);
    CHECK_INT(b.engine->stats.n_steps, 2);
    CHECK_INT(b.engine->stats.n_prompt_tok, 20);
    CHECK_INT(b.engine->stats.n_answer_tok, 2);
    CHECK(b.engine->stats.busy_s > 0);
    row_end(&b, &row);
    bench_end(&b);
}

/* The highest of V logits, the lowest id among equals. */
static int32_t highest(const float *logits, int V)
{
    int32_t best = 0;

    for (int v = 1; v < V; v++)
        if (logits[v] > logits[best])
            best = v;
    return best;
}

/* Six rows of different lengths and arrival, at most three at a time, prompts in pieces beside
 * answers: each answer is the one that a single long prefill of prompt and answer picks. */
static void continuous(const char *path, int n_threads)
{
    enum { N_ROWS = 6, N_OUT = 24, AT_A_TIME = 3, CHUNK = 9 };
    static const int n_prompt[N_ROWS] = {1, 70, 16, 33, 5, 64};
    struct bench b;
    struct row rows[N_ROWS];
    int n_begun = 0, n_ended = 0, active[AT_A_TIME], n_active = 0;

    bench_begin(&b, path, n_threads);
    const int V = b.rig.config.V;
    float *logits = host_alloc((size_t)CONTEXT * (size_t)V * sizeof *logits);
    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    while (n_ended < N_ROWS) {
        struct step_seq seqs[AT_A_TIME];
        int kept = 0;

        while (n_active < AT_A_TIME && n_begun < N_ROWS) {
            row_begin(&b, &rows[n_begun], (uint32_t)n_begun, n_prompt[n_begun], greedy);
            active[n_active++] = n_begun++;
        }
        for (int i = 0; i < n_active; i++) {
            struct row *row = &rows[active[i]];
            const int left = row->n_tok - row->n_done;

            seqs[i] = row_seq(row, left < CHUNK ? left : CHUNK);
        }
        run_step(b.engine, seqs, n_active);
        for (int i = 0; i < n_active; i++) {
            struct row *row = &rows[active[i]];

            row_take(row, &seqs[i]);
            if (row->n_tok < row->n_prompt + N_OUT) {
                active[kept++] = active[i];
                continue;
            }
            row_end(&b, row);
            n_ended++;
        }
        n_active = kept;
    }
    for (int r = 0; r < N_ROWS; r++) {
        int n_wrong = 0;

        rig_logits(&b.rig, rows[r].tokens, rows[r].n_tok, rows[r].n_tok, logits);
        for (int t = rows[r].n_prompt; t < rows[r].n_tok; t++)
            n_wrong += rows[r].tokens[t] != highest(logits + (size_t)(t - 1) * (size_t)V, V);
        CHECK_INT(n_wrong, 0);
    }
    host_free(logits);
    bench_end(&b);
}

/* Draws do not depend on the batch, the place in it or the threads. */
static void sampled_the_same(void)
{
    enum { N_OUT = 30, N_ROWS = 5 };
    struct sampler_params params = greedy;
    int32_t first[N_ROWS][CONTEXT];

    params.temperature = 1.2;
    params.top_k = 40;
    params.repetition_penalty = 1.1;
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        struct bench b;
        struct row rows[N_ROWS];

        bench_begin(&b, GOLDEN "small", n_threads);
        for (int r = 0; r < N_ROWS; r++) {
            params.row = (uint64_t)r;
            row_begin(&b, &rows[r], 77, 10, params); /* one prompt, five draws */
        }
        for (int step = 0; step < N_OUT; step++) {
            struct step_seq seqs[N_ROWS];

            if (n_threads == 1) { /* each alone */
                for (int r = 0; r < N_ROWS; r++) {
                    seqs[r] = row_seq(&rows[r], step == 0 ? 10 : 1);
                    run_step(b.engine, &seqs[r], 1);
                    row_take(&rows[r], &seqs[r]);
                }
                continue;
            }
            for (int r = 0; r < N_ROWS; r++) /* together, in another order every step */
                seqs[r] = row_seq(&rows[(r + step) % N_ROWS], step == 0 ? 10 : 1);
            run_step(b.engine, seqs, N_ROWS);
            for (int r = 0; r < N_ROWS; r++)
                row_take(&rows[(r + step) % N_ROWS], &seqs[r]);
        }
        for (int r = 0; r < N_ROWS; r++) {
            if (n_threads == 1)
                memcpy(first[r], rows[r].tokens, sizeof first[r]);
            CHECK(memcmp(first[r], rows[r].tokens, sizeof first[r]) == 0);
            row_end(&b, &rows[r]);
        }
        bench_end(&b);
    }
    CHECK(memcmp(first[0], first[1], sizeof first[0]) != 0); /* rows draw for themselves */
}

/* Logits that overflow fail the rows, not the engine. */
static void overflow_is_the_rows(void)
{
    struct checkpoint cp = checkpoint_read(GOLDEN "odd");
    const struct checkpoint_tensor norm = checkpoint_tensor(&cp, "model.norm.weight");
    struct bench b;
    struct row rows[2];

    checkpoint_fill(&norm, 0x7e800000); /* 8.5e37 */
    bench_begin(&b, checkpoint_write(&cp), 1);
    row_begin(&b, &rows[0], 1, 12, greedy);
    row_begin(&b, &rows[1], 2, 12, greedy);
    struct step_seq seqs[2] = {row_seq(&rows[0], 12), row_seq(&rows[1], 11)};
    run_step(b.engine, seqs, 2);
    CHECK(seqs[0].failed);
    CHECK_HAS(seqs[0].error.text, "logit");
    CHECK(!seqs[1].failed); /* it asked for nothing */
    row_end(&b, &rows[0]);
    row_end(&b, &rows[1]);
    bench_end(&b);
    checkpoint_end(&cp);
}

int main(void)
{
    contract();
    continuous(GOLDEN "small", 1);
    continuous(GOLDEN "odd", 3);
    continuous(GOLDEN "wide_eps", 2);
    sampled_the_same();
    overflow_is_the_rows();
    TEST_END();
}
