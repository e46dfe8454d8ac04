/* TEST timeout: 240 */
/*
 * unit_engine_cuda.c - the CUDA engine over the emulated device (tests/emulator/), through the
 * loader: logits of small checkpoints of the families against transformers; the same bits
 * whatever the schedule; the contract of submit and poll; who picks tokens; what is refused, and
 * how memory that runs out is told.
 *
 * Over the emulated device nothing here says what a real one does; beside the real library
 * (tests/gpu/gpu_check.sh) all but the emulator's own moods runs on the device.
 */
#include "engine/engine.h"
#include "rig.h"

#define GOLDEN "tests/golden/"

/* Of the families what the GPU can compute, and the windows, scales and norms that only some have.
 */
static const struct {
    const char *model, *golden;
    bool every_way; /* else some of them only; the emulator takes its time */
} cases[] = {
    {GOLDEN "small", GOLDEN "small/model.golden", true},
    {GOLDEN "small/Q4_0.gguf", GOLDEN "small/Q4_0.golden", false},
    {GOLDEN "biased", GOLDEN "biased/model.golden", false},
    {GOLDEN "fp8/block", GOLDEN "fp8/block/model.golden", false},
    {GOLDEN "families/llama3", GOLDEN "families/llama3/model.golden", true},
    {GOLDEN "families/mistral", GOLDEN "families/mistral/model.golden", false},
    {GOLDEN "families/qwen2", GOLDEN "families/qwen2/model.golden", false},
    {GOLDEN "families/qwen3", GOLDEN "families/qwen3/model.golden", false},
    {GOLDEN "families/gemma2", GOLDEN "families/gemma2/model.golden", true},
    {GOLDEN "families/gemma3", GOLDEN "families/gemma3/model.golden", false},
    {GOLDEN "families/smollm3", GOLDEN "families/smollm3/model.golden", false},
    {GOLDEN "families/phi3", GOLDEN "families/phi3/model.golden", false},
    {GOLDEN "families/olmo2", GOLDEN "families/olmo2/model.golden", true},
    {GOLDEN "families/granite", GOLDEN "families/granite/model.golden", false},
    {GOLDEN "families/mixtral", GOLDEN "families/mixtral/model.golden", true},
    {GOLDEN "families/mixtral/model.gguf", GOLDEN "families/mixtral/model.golden", false},
    {GOLDEN "families/qwen3moe", GOLDEN "families/qwen3moe/model.golden", true},
    {GOLDEN "families/olmoe", GOLDEN "families/olmoe/model.golden", true},
    {GOLDEN "families/mixtral_window", GOLDEN "families/mixtral_window/model.golden", false},
    {GOLDEN "families/qwen3moe_window", GOLDEN "families/qwen3moe_window/model.golden", false},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };
enum { MAX_TOK = 128, MAX_SEQS = 70, CONTEXT = 128, N_BLOCKS = 40 };

/* ---- a model on the device ------------------------------------------------------------------- */

struct gpu {
    struct ops_cuda cuda;
    struct model_config config;
    struct threads *threads;
    struct weights_cuda *weights;
    struct kv_space space;
    struct kv_pool *pool;
};

static void gpu_begin(struct gpu *gpu, const char *path, int P)
{
    struct model_source *source;
    uint64_t free_bytes;

    *gpu = (struct gpu){.pool = NULL};
    if (!ops_cuda_look(&gpu->cuda)) {
        fprintf(stderr, "no device: %s\n", gpu->cuda.why);
        exit(1);
    }
    RIG_OK(ops_cuda_start(&gpu->cuda, &free_bytes));
    RIG_OK(threads_create(2, &gpu->threads));
    RIG_OK(model_open(path, &source));
    gpu->config = *model_source_config(source);
    RIG_OK(weights_cuda_create(&(struct weights_cuda_args){source, gpu->threads, &gpu->cuda},
                               &gpu->weights));
    model_close(source);
    gpu->space = (struct kv_space){
        {OPS_BF16, gpu->config.L, gpu->config.K, P, gpu->config.E}, N_BLOCKS, NULL};
    RIG_OK(ops_cuda_alloc(&gpu->cuda, N_BLOCKS * kv_block_bytes(&gpu->space.layout), "KV", "-",
                          &gpu->space.base));
    RIG_OK(kv_pool_create(&gpu->space, 0, N_BLOCKS, &gpu->pool));
}

static void gpu_end(struct gpu *gpu)
{
    kv_pool_destroy(gpu->pool);
    ops_cuda_free(&gpu->cuda, gpu->space.base);
    weights_cuda_destroy(gpu->weights);
    threads_destroy(gpu->threads);
}

/* Blocks with the highest ids first, so that tables are no runs in the order of tokens. */
static void take_blocks(struct gpu *gpu, int n, int32_t *blocks)
{
    for (int i = n - 1; i >= 0; i--)
        RIG_OK(kv_pool_take(gpu->pool, 1, &blocks[i]));
}

/* ---- logits ------------------------------------------------------------------------------------ */

/* Logits [T, V] of a sequence in chunks; before it in the step, n_others of the same tokens, which
 * share their blocks, as they put the same there. */
static void chunks(struct gpu *gpu, struct decoder_cuda *decoder, const struct golden *g, int chunk,
                   int n_others, bool of_prompts, float *logits)
{
    const int P = gpu->space.layout.P, n_blocks = (g->T + P - 1) / P, n_seqs = n_others + 1;
    int32_t blocks[2][CONTEXT / 16], tokens[MAX_TOK], rows[MAX_TOK];

    for (int i = 0; i < 2; i++)
        take_blocks(gpu, n_blocks, blocks[i]);
    for (int t = 0; t < g->T; t += chunk) {
        const int n = g->T - t < chunk ? g->T - t : chunk, mine = n_others * n;
        struct ops_seq seqs[MAX_SEQS];
        const struct decoder_batch batch = {.T = n * n_seqs,
                                            .B = n_seqs,
                                            .tokens = tokens,
                                            .seqs = seqs,
                                            .logit_rows = rows,
                                            .n_logit_rows = n};
        const float *got, *max, *logsum;
        bool done = false;

        for (int s = 0; s < n_seqs; s++) {
            seqs[s] = (struct ops_seq){blocks[s == n_others], t, n, s * n};
            memcpy(tokens + s * n, g->tokens + t, (size_t)n * sizeof *tokens);
        }
        for (int i = 0; i < n; i++)
            rows[i] = mine + i;
        RIG_OK(decoder_cuda_submit(decoder, &batch, NULL, of_prompts));
        while (!done)
            RIG_OK(decoder_cuda_done(decoder, &done));
        decoder_cuda_logits(decoder, &got, &max, &logsum);
        memcpy(logits + (size_t)t * (size_t)g->V, got, (size_t)(n * g->V) * sizeof *got);
    }
    for (int i = 0; i < 2; i++)
        kv_pool_give(gpu->pool, blocks[i], n_blocks);
}

/* At most twice the error of the reference's own bf16. */
static void near(const float *logits, const struct golden *g, const char *model, const char *by)
{
    const double error = nmse(logits, g->logits, (size_t)g->T * (size_t)g->V);

    fprintf(stderr, "%-28s by the kernels of %-7s nmse %.2e (the reference's bf16: %.2e)\n", model,
            by, error, g->nmse_bf16);
    CHECK(error <= 2 * g->nmse_bf16);
    CHECK(error > 1e-9); /* it really rounds */
}

/* Right by the kernels of prompts and, token by token, by those of answers; and in either phase the
 * same bits in other chunks, other blocks, beside other sequences; also where these are as many as
 * to begin another launch of a kernel that takes 64 rows. */
static void right_answers(void)
{
    static const struct {
        int P, chunk, n_others, n_tok;
        bool of_prompts;
    } ways[] = {{16, 1000, 0, 1000, true}, {16, 1, 0, 1000, false}, /* to compare with: */
                {32, 1, 0, 1000, true},    {64, 1, 1, 1000, false}, {64, 9, 1, 1000, true},
                {16, 25, 2, 1000, true},   {32, 1, 65, 2, false}};
    enum { N_WAYS = sizeof ways / sizeof ways[0] };

    for (int i = 0; i < N_CASES; i++) {
        struct golden g = golden_read(cases[i].golden);
        const size_t n = (size_t)g.T * (size_t)g.V;
        float *logits[3] = {
            host_alloc(n * sizeof **logits), host_alloc(n * sizeof **logits),
            host_alloc(n * sizeof **logits)}; /* of prompts, of answers, to compare */

        for (int w = 0; w < N_WAYS; w++) {
            float *to = logits[w < 2 ? w : 2];
            struct golden some = g;
            struct gpu gpu;
            struct decoder_cuda *decoder;
            struct row_error why;

            if (w > 1 && !cases[i].every_way)
                continue;
            some.T = g.T < ways[w].n_tok ? g.T : ways[w].n_tok;
            gpu_begin(&gpu, cases[i].model, ways[w].P);
            CHECK_INT(decoder_cuda_check(&gpu.config, &why), ST_OK);
            const struct decoder_cuda_args args = {&gpu.config, gpu.weights, &gpu.cuda, gpu.space,
                                                   MAX_TOK,     MAX_SEQS,    MAX_TOK,   CONTEXT};
            RIG_OK(decoder_cuda_create(&args, &decoder));
            chunks(&gpu, decoder, &some, ways[w].chunk, ways[w].n_others, ways[w].of_prompts, to);
            CHECK(w < 2 || memcmp(logits[ways[w].of_prompts ? 0 : 1], to,
                                  (size_t)some.T * (size_t)g.V * sizeof *to) == 0);
            decoder_cuda_destroy(decoder);
            gpu_end(&gpu);
        }
        near(logits[0], &g, cases[i].model, "prompts");
        near(logits[1], &g, cases[i].model, "answers");
        CHECK(memcmp(logits[0], logits[1], n * sizeof **logits) != 0); /* they are others */
        for (int k = 0; k < 3; k++)
            host_free(logits[k]);
        buf_free(&g.file);
    }
}

/* ---- submit and poll --------------------------------------------------------------------------- */

/* Poll until the step is done: layers in order, each found busy at least once before. */
static void poll_step(struct engine *engine)
{
    enum engine_event event = ENGINE_IDLE;
    int layer = -1, next = 0, n_busy = 0;

    while (event != ENGINE_STEP_DONE) {
        RIG_OK(engine_poll(engine, &event, &layer));
        n_busy += event == ENGINE_BUSY;
        CHECK(event != ENGINE_IDLE && event != ENGINE_PART_DONE);
        if (event == ENGINE_LAYER_DONE)
            CHECK_INT(layer, next++);
    }
    CHECK_INT(next, engine->L);
    CHECK(n_busy > engine->L);
}

/* Greedy answers, two rows side by side, are the CPU's: the models are sure enough. */
static void answers(void)
{
    enum { N_PROMPT = 11, N_OUT = 6, N = N_PROMPT + N_OUT };
    const struct sampler_params greedy = {
        .top_p = 1, .repetition_penalty = 1, .n_top = 1, .temperature = 0};
    struct golden g = golden_read(GOLDEN "small/model.golden");
    float *logits = host_alloc((size_t)(N * g.V) * sizeof *logits);
    struct gpu gpu;
    struct engine *engine;
    int32_t tokens[2][N], blocks[2][2];

    gpu_begin(&gpu, GOLDEN "small", 16);
    const struct engine_cuda_args args = {&gpu.config, gpu.weights, &gpu.cuda, gpu.threads,
                                          gpu.space,   MAX_TOK,     MAX_SEQS,  CONTEXT};
    RIG_OK(engine_cuda_create(&args, &engine));
    for (int b = 0; b < 2; b++) {
        memcpy(tokens[b], g.tokens + 20 * b, N_PROMPT * sizeof *g.tokens);
        take_blocks(&gpu, 2, blocks[b]);
    }
    for (int at = 0; at < N - 1;) { /* the prompt in two chunks, then token by token */
        const int n = at == 0 ? 5 : at < N_PROMPT ? N_PROMPT - at : 1;
        struct step_seq seqs[2];
        struct step step = {.of_prompts = at < N_PROMPT, .n_seqs = 2, .seqs = seqs};

        for (int b = 0; b < 2; b++)
            seqs[b] = (struct step_seq){.tokens = tokens[b] + at,
                                        .n_tok = n,
                                        .pos0 = at,
                                        .blocks = blocks[b],
                                        .sample = at + n >= N_PROMPT,
                                        .params = &greedy,
                                        .history = tokens[b]};
        RIG_OK(engine_submit(engine, &step));
        CHECK_INT(engine_submit(engine, &step), ST_AGAIN);
        poll_step(engine);
        at += n;
        for (int b = 0; b < 2 && at >= N_PROMPT; b++) {
            CHECK(!seqs[b].failed);
            CHECK_INT(seqs[b].sampled.top_ids[0], seqs[b].sampled.token);
            tokens[b][at] = seqs[b].sampled.token;
        }
    }
    CHECK_INT(engine->stats.n_answer_tok, 2 * N_OUT);
    CHECK_INT(engine->stats.n_prompt_tok, 2 * N_PROMPT);
    engine_destroy(engine);
    gpu_end(&gpu);

    for (int b = 0; b < 2; b++) { /* the CPU, told all tokens but the last, names each answer */
        struct rig rig;

        rig_begin(&rig, (struct rig_args){.path = GOLDEN "small", .type = OPS_BF16});
        rig_logits(&rig, tokens[b], N - 1, N - 1, logits);
        for (int t = N_PROMPT; t < N; t++) {
            const float *row = logits + (size_t)((t - 1) * g.V);
            float best = -INFINITY;

            for (int v = 0; v < g.V; v++)
                best = row[v] > best ? row[v] : best;
            CHECK(row[tokens[b][t]] >= best - 0.05f); /* of logits some units wide */
        }
        rig_end(&rig);
    }
    host_free(logits);
    buf_free(&g.file);
}

/* ---- who picks ------------------------------------------------------------------------------- */

enum { N_PICKED = 4, N_PICK_PROMPT = 11, N_PICK_OUT = 12, N_PICK = N_PICK_PROMPT + N_PICK_OUT };

/* What the device was asked for; the emulator's own functions do it. */
static struct {
    const struct k_table *real;
    int n_rows;     /* of sample */
    size_t n_bytes; /* of copies */
    bool spoil;     /* logits are infinite */
} seen;

static int seen_sample(void *stream, const struct k_sample_args *args)
{
    seen.n_rows += args->T;
    return seen.real->sample(stream, args);
}

static int seen_copy(void *stream, void *to, const void *from, size_t n_bytes)
{
    seen.n_bytes += n_bytes;
    return seen.real->copy(stream, to, from, n_bytes);
}

static int seen_logits(void *stream, const struct k_logits_args *args)
{
    struct k_logits_args spoilt = *args;

    if (seen.spoil)
        spoilt.scale = INFINITY;
    return seen.real->logits(stream, &spoilt);
}

/* Answers of some rows side by side; true if they were refused, each by the sampler's words. */
static bool pick_answers(const struct engine_cuda_args *args, struct gpu *gpu,
                         const struct sampler_params *params, int32_t tokens[][N_PICK])
{
    struct engine *engine;
    int32_t blocks[N_PICKED][2];
    int n_failed = 0;

    RIG_OK(engine_cuda_create(args, &engine));
    seen.n_rows = 0;
    seen.n_bytes = 0;
    for (int b = 0; b < N_PICKED; b++)
        take_blocks(gpu, 2, blocks[b]);
    for (int at = 0; at < N_PICK - 1 && n_failed == 0;) {
        const int n = at < N_PICK_PROMPT ? N_PICK_PROMPT : 1;
        struct step_seq seqs[N_PICKED];
        struct step step = {.of_prompts = at < N_PICK_PROMPT, .n_seqs = N_PICKED, .seqs = seqs};

        for (int b = 0; b < N_PICKED; b++)
            seqs[b] = (struct step_seq){.tokens = tokens[b] + at,
                                        .n_tok = n,
                                        .pos0 = at,
                                        .blocks = blocks[b],
                                        .sample = true,
                                        .params = &params[b],
                                        .history = tokens[b],
                                        .failed = !seen.spoil};
        RIG_OK(engine_submit(engine, &step));
        poll_step(engine);
        at += n;
        for (int b = 0; b < N_PICKED; b++) {
            n_failed += seqs[b].failed;
            if (seqs[b].failed)
                CHECK_HAS(seqs[b].error.text, "no usable logits at position 11 (one is NaN");
            else
                tokens[b][at] = seqs[b].sampled.token;
        }
    }
    for (int b = 0; b < N_PICKED; b++)
        kv_pool_give(gpu->pool, blocks[b], 2);
    engine_destroy(engine);
    return n_failed == N_PICKED;
}

/* The device picks for whom it can, and the host's tokens; only the others' logits come back. */
static void who_picks(void)
{
    static const struct sampler_params rows[N_PICKED] = {
        {.temperature = 0.9, .top_p = 0.9, .repetition_penalty = 1, .seed = 7, .n_top = -1},
        {.temperature = 1.3,
         .top_p = 1,
         .min_p = 0.02,
         .repetition_penalty = 1,
         .top_k = 30,
         .seed = 8,
         .row = 5,
         .sample = 2,
         .n_top = -1},
        {.temperature = 1, .top_p = 1, .repetition_penalty = 1.3, .seed = 9, .n_top = -1},
        {.top_p = 1, .repetition_penalty = 1, .n_top = -1}};
    static const struct {
        bool told[N_PICKED];                   /* wants log-probabilities */
        int n_there;                           /* rows that the device picks for */
    } ways[] = {{{true, true, true, true}, 0}, /* the host picks for all */
                {{false, false, false, false}, 3},
                {{false, true, false, false}, 2},
                {{true, true, false, true}, 0}};
    struct golden g = golden_read(GOLDEN "small/model.golden");
    const size_t row_bytes = (size_t)g.V * sizeof(float);
    int32_t tokens[2][N_PICKED][N_PICK];
    size_t all_bytes = 0;
    struct gpu gpu;

    gpu_begin(&gpu, GOLDEN "small", 16);
    seen.real = gpu.cuda.kernels;
    struct k_table table = *seen.real;
    table.sample = seen_sample;
    table.copy = seen_copy;
    table.logits = seen_logits;
    gpu.cuda.kernels = &table;
    const struct engine_cuda_args args = {&gpu.config, gpu.weights, &gpu.cuda, gpu.threads,
                                          gpu.space,   MAX_TOK,     MAX_SEQS,  CONTEXT};
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        const size_t n_there = (size_t)ways[w].n_there;
        int32_t(*to)[N_PICK] = tokens[w > 0];
        struct sampler_params params[N_PICKED];

        for (int b = 0; b < N_PICKED; b++) {
            params[b] = rows[b];
            params[b].n_top = ways[w].told[b] ? 0 : -1;
            memcpy(to[b], g.tokens + 5 * b, N_PICK_PROMPT * sizeof **to);
        }
        seen.spoil = false;
        CHECK(!pick_answers(&args, &gpu, params, to));
        CHECK_INT(seen.n_rows, n_there > 0 ? N_PICKED * N_PICK_OUT : 0);
        CHECK(memcmp(tokens[0], to, sizeof tokens[0]) == 0);
        all_bytes = w == 0 ? seen.n_bytes : all_bytes;
        if (n_there > 0)
            CHECK_INT(all_bytes - seen.n_bytes,
                      N_PICK_OUT * (n_there * row_bytes - N_PICKED * sizeof(int32_t)));
        seen.spoil = true;
        CHECK(pick_answers(&args, &gpu, params, to));
    }
    gpu.cuda.kernels = seen.real;
    gpu_end(&gpu);
    buf_free(&g.file);
}

/* More rows than one launch of k_sample takes, some of them the host's: the sampler's tokens. */
static void many_picks(void)
{
    enum { N = 70, N_HOST = 3 }; /* every N_HOST-th row is */
    struct golden g = golden_read(GOLDEN "small/model.golden");
    float *logits = host_alloc((size_t)(N * g.V) * sizeof *logits);
    struct sampler_params params[N];
    struct decoder_cuda_pick picks[N];
    int32_t blocks[CONTEXT / 16], tokens[N], rows[N];
    struct gpu gpu;
    struct decoder_cuda *decoder;
    struct sampler *sampler;

    gpu_begin(&gpu, GOLDEN "small", 16);
    const struct decoder_cuda_args args = {&gpu.config, gpu.weights, &gpu.cuda, gpu.space,
                                           MAX_TOK,     MAX_SEQS,    MAX_TOK,   CONTEXT};
    RIG_OK(decoder_cuda_create(&args, &decoder));
    RIG_OK(sampler_create(g.V, &sampler));
    take_blocks(&gpu, CONTEXT / 16, blocks);
    for (int i = 0; i < N; i++) {
        params[i] = (struct sampler_params){.temperature = 1,
                                            .top_p = 0.99,
                                            .repetition_penalty = 1,
                                            .seed = (uint64_t)i,
                                            .n_top = i % N_HOST == 0 ? 0 : -1};
        CHECK(decoder_cuda_picks(decoder, &params[i]) == (i % N_HOST != 0));
        picks[i] = (struct decoder_cuda_pick){i % N_HOST != 0 ? &params[i] : NULL, i + 1};
        tokens[i] = g.tokens[i % g.T];
        rows[i] = i;
    }
    const struct ops_seq seq = {blocks, 0, N, 0};
    const struct decoder_batch batch = {
        .T = N, .B = 1, .tokens = tokens, .seqs = &seq, .logit_rows = rows, .n_logit_rows = N};
    for (int way = 0; way < 2; way++) {
        const float *got, *max, *logsum;
        bool done = false;

        RIG_OK(decoder_cuda_submit(decoder, &batch, way == 0 ? NULL : picks, true));
        while (!done)
            RIG_OK(decoder_cuda_done(decoder, &done));
        decoder_cuda_logits(decoder, &got, &max, &logsum);
        if (way == 0) {
            memcpy(logits, got, (size_t)(N * g.V) * sizeof *logits);
            continue;
        }
        for (int i = 0; i < N; i++) {
            const float *row = logits + (size_t)(i * g.V);
            struct sampled by_host;
            struct row_error why;

            if (i % N_HOST == 0) {
                CHECK(memcmp(got + (size_t)(i * g.V), row, (size_t)g.V * sizeof *row) == 0);
                continue;
            }
            RIG_OK(sampler_pick(sampler, &params[i], row, max[i], logsum[i], NULL, 0, i + 1,
                                &by_host, &why));
            CHECK_INT(decoder_cuda_tokens(decoder)[i], by_host.token);
        }
    }
    sampler_destroy(sampler);
    decoder_cuda_destroy(decoder);
    gpu_end(&gpu);
    host_free(logits);
    buf_free(&g.file);
}

/* ---- what is refused --------------------------------------------------------------------------- */

static void refused(void)
{
    static const struct {
        const char *model;
        int X, n_used; /* if not 0 */
        const char *why;
    } models[] = {
        {GOLDEN "odd", 0, 0, "widths that are no multiple of 8"},
        {GOLDEN "families/mixtral", 1025, 0, "more than 1024 experts"},
        {GOLDEN "families/mixtral", 128, 65, "more than 64 experts for a token"},
    };

    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct model_source *source;
        struct row_error why = {""};

        RIG_OK(model_open(models[i].model, &source));
        struct model_config config = *model_source_config(source);
        config.X = models[i].X > 0 ? models[i].X : config.X;
        config.n_used_experts = models[i].n_used > 0 ? models[i].n_used : config.n_used_experts;
        CHECK_INT(decoder_cuda_check(&config, &why), ST_UNSUPPORTED);
        CHECK_STR(why.text, models[i].why);
        model_close(source);
    }
}

/* A library's matmul whose bits depend on a row's place is not taken. */
static void moody_library(void)
{
    struct ops_cuda cuda;
    void *w, *plan = NULL;

    CHECK(ops_cuda_look(&cuda));
    CHECK_INT(ops_cuda_alloc(&cuda, 24 * 40 * 2, "a test", "-", &w), ST_OK);
    for (int i = 0; i < 24 * 40; i++) /* the emulated device's memory is the host's */
        ((uint16_t *)w)[i] = bf16_from_f32((float)(i % 37) / 3);
    CHECK_INT(cuda.kernels->prefill_plan_create(w, 24, 40, &plan), 0);
    cuda.kernels->prefill_plan_destroy(plan);
    setenv("EMULATED_LT", "moody", 1);
    const int error = cuda.kernels->prefill_plan_create(w, 24, 40, &plan);
    CHECK_INT(error, K_ERROR_ROWS);
    CHECK_HAS(cuda.kernels->error_text(error), "other bits at another place");
    unsetenv("EMULATED_LT");
    ops_cuda_free(&cuda, w);
}

static void memory_runs_out(void)
{
    struct ops_cuda cuda;
    uint64_t all, less, again;
    void *half, *more;

    CHECK(ops_cuda_look(&cuda));
    CHECK_STR(cuda.numerics, "emulated-sm80-lt130000/1");
    CHECK_INT(ops_cuda_start(&cuda, &all), ST_OK);
    CHECK_INT(ops_cuda_alloc(&cuda, (size_t)all / 2 + 1, "a test", "ask for less", &half), ST_OK);
    CHECK_INT(ops_cuda_start(&cuda, &less), ST_OK);
    CHECK(less < all / 2);
    CHECK_INT(ops_cuda_alloc(&cuda, (size_t)all / 2 + 1, "a test", "ask for less", &more),
              ST_NOMEM);
    CHECK(strstr(log_last_error(), "512 MiB of GPU memory for a test: out of memory; 512 MiB are "
                                   "free on the emulated, sm_80, 1 GiB: ask for less") != NULL);
    CHECK_INT(ops_cuda_check(&cuda, 1, "matmul (T %d)", 65), ST_IO);
    CHECK(strstr(log_last_error(), "failed at matmul (T 65): invalid argument") != NULL);
    ops_cuda_free(&cuda, half);
    CHECK_INT(ops_cuda_start(&cuda, &again), ST_OK);
    CHECK(again == all);
}

static bool is_emulated(void)
{
    struct ops_cuda cuda;

    return ops_cuda_look(&cuda) && strncmp(cuda.numerics, "emulated-", 9) == 0;
}

int main(void)
{
    right_answers();
    answers();
    who_picks();
    many_picks();
    refused();
    if (is_emulated()) {
        moody_library();
        memory_runs_out();
    }
    TEST_END();
}
