/*
 * bench_engine.c - prefill and decode of a whole model beside their floors, measured in one run.
 *
 *   bench_engine [model]     a GGUF file or HF directory; else $EPIDOTE_SMOLLM2 if it is there,
 * else a model of SmolLM2-135M's shape whose weights are zero (same work)
 *
 * Floor of prefill: operations / FMA peak.  Floor of decoding one row: bytes of the weights that a
 * token reads, and its KV, / bandwidth.  `make bench` runs it; not a test.
 */
#include "engine/engine.h"
#include "floors.h"
#include "zero_model.h"

enum { CONTEXT = 1024, CHUNK = 512, MAX_BATCH = 64, BLOCK_TOK = 16 };

static void fail(const char *what)
{
    fprintf(stderr, "bench_engine: %s\n", what);
    exit(1);
}

/* ---- a model of the right shape ---------------------------------------------------------------- */

static void write_zero_model(const char *dir)
{
    enum { L = 30, D = 576, F = 1536, H = 9, K = 3, E = 64, V = 49152 };
    static const struct {
        const char *name;
        int rows, cols;
    } layer[] = {
        {"input_layernorm", D, 0},      {"post_attention_layernorm", D, 0},
        {"self_attn.q_proj", H * E, D}, {"self_attn.k_proj", K * E, D},
        {"self_attn.v_proj", K * E, D}, {"self_attn.o_proj", D, H * E},
        {"mlp.gate_proj", F, D},        {"mlp.up_proj", F, D},
        {"mlp.down_proj", D, F},
    };
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":576,"
        "\"intermediate_size\":1536,\"num_hidden_layers\":30,\"num_attention_heads\":9,"
        "\"num_key_value_heads\":3,\"vocab_size\":49152,\"max_position_embeddings\":8192,"
        "\"rms_norm_eps\":1e-5,\"rope_theta\":100000.0,\"tie_word_embeddings\":true,"
        "\"hidden_act\":\"silu\",\"bos_token_id\":1,\"eos_token_id\":2}";
    struct zero_model model = {.at = 0};
    char name[256];

    zero_model_put(&model, "model.embed_tokens.weight", V, D);
    zero_model_put(&model, "model.norm.weight", D, 0);
    for (int l = 0; l < L; l++)
        for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, layer[i].name);
            zero_model_put(&model, name, layer[i].rows, layer[i].cols);
        }
    zero_model_write(&model, dir, config);
}

/* ---- steps ---------------------------------------------------------------------------------------- */

struct bench {
    const struct model_config *config;
    struct engine *engine;
    struct kv_pool *pool;
    int32_t blocks[MAX_BATCH][CONTEXT / BLOCK_TOK];
    int32_t tokens[CONTEXT];
};

/* Seconds of one step of B sequences with n_tok tokens each from position pos0 on. */
static double step_s(struct bench *b, int B, int pos0, int n_tok)
{
    static const struct sampler_params greedy = {.top_p = 1, .repetition_penalty = 1, .n_top = -1};
    static struct step_seq seqs[MAX_BATCH];
    struct step step = {.of_prompts = n_tok > 1, .n_seqs = B, .seqs = seqs};
    enum engine_event event = ENGINE_BUSY;
    int layer;

    for (int i = 0; i < B; i++)
        seqs[i] = (struct step_seq){
            .tokens = b->tokens + pos0,
            .n_tok = n_tok,
            .pos0 = pos0,
            .blocks = b->blocks[i],
            .sample = true,
            .params = &greedy,
            .history = b->tokens,
        };
    const double begin_s = clock_now_s();
    if (engine_submit(b->engine, &step) != ST_OK)
        fail("submit");
    while (event != ENGINE_STEP_DONE)
        if (engine_poll(b->engine, &event, &layer) != ST_OK)
            fail("poll");
    return clock_now_s() - begin_s;
}

static double best_step_s(struct bench *b, int B, int pos0, int n_tok, int n_times)
{
    double best = 1e9;

    for (int i = 0; i < n_times; i++)
        best = fmin(best, step_s(b, B, pos0, n_tok));
    return best;
}

/* Multiply-adds of all matrices for one token, the LM head apart. */
static double layers_flop(const struct model_config *c)
{
    const double per_layer =
        (double)c->D * (c->H + 2 * c->K) * c->E + (double)c->D * c->H * c->E + 3.0 * c->D * c->F;

    return 2 * per_layer * c->L;
}

static void figures(struct bench *b, double gflops, double gb_per_s, size_t weight_bytes)
{
    const struct model_config *c = b->config;
    const double kv_bytes_tok = 4.0 * c->L * c->K * c->E; /* key and value, bf16 */
    const double prefill_flop = CHUNK * layers_flop(c) +
                                2.0 * 2 * c->L * c->H * c->E * CHUNK * (CHUNK + 1) / 2 +
                                2.0 * c->D * c->V;

    const double prefill_s = best_step_s(b, 1, 0, CHUNK, 4);
    printf("  prefill  1 x %d tokens      %8.2f ms  %7.0f tok/s  floor %8.2f ms  %5.1f %% of the "
           "FMA peak\n",
           CHUNK, prefill_s * 1e3, CHUNK / prefill_s, prefill_flop / gflops / 1e6,
           100 * prefill_flop / prefill_s / 1e9 / gflops);
    for (int B = 1; B <= MAX_BATCH; B *= 4) {
        const int pos = CHUNK;
        const double s = best_step_s(b, B, pos, 1, B == 1 ? 12 : 6);
        const double bytes = (double)weight_bytes + B * pos * kv_bytes_tok;
        const double flop =
            B * (layers_flop(c) + 2.0 * c->D * c->V + 4.0 * c->L * c->H * c->E * pos);
        const double floor_s = fmax(bytes / gb_per_s / 1e9, flop / gflops / 1e9);

        printf("  decode  %2d rows after %d    %8.2f ms  %7.0f tok/s  floor %8.2f ms  %5.1f %% of "
               "the floor "
               "(%s)\n",
               B, pos, s * 1e3, B / s, floor_s * 1e3, 100 * floor_s / s,
               bytes / gb_per_s > flop / gflops ? "bandwidth" : "FMA");
    }
}

static void run(const struct model_source *source, const struct ops *ops, int n_threads,
                const void *stream)
{
    const struct model_config *config = model_source_config(source);
    const struct kv_layout layout = {OPS_BF16, config->L, config->K, BLOCK_TOK, config->E};
    const int n_blocks = MAX_BATCH * (CONTEXT / BLOCK_TOK);
    const size_t kv_bytes = (size_t)n_blocks * kv_block_bytes(&layout);
    struct bench *b = host_zalloc(sizeof *b);
    struct threads *threads = NULL;
    struct weights *weights = NULL;
    void *kv = pages_map(kv_bytes);

    if (b == NULL || kv == NULL || threads_create(n_threads, &threads) != ST_OK ||
        weights_create(
            &(struct weights_args){.source = source, .type = OPS_BF16, .threads = threads},
            &weights) != ST_OK ||
        kv_pool_create(&(struct kv_space){layout, n_blocks, kv}, 0, n_blocks, &b->pool) != ST_OK)
        fail("no memory");
    memset(kv, 0, kv_bytes);
    for (int i = 0; i < MAX_BATCH; i++)
        kv_pool_take(b->pool, CONTEXT / BLOCK_TOK, b->blocks[i]);
    for (int i = 0; i < CONTEXT; i++)
        b->tokens[i] = (i * 7919 + 11) % config->V;
    b->config = config;
    const struct engine_cpu_args args = {
        .config = config,
        .weights = weights,
        .ops = ops,
        .threads = threads,
        .space = *kv_pool_space(b->pool),
        .max_tok = CHUNK,
        .max_seqs = MAX_BATCH,
        .context = CONTEXT,
    };
    if (engine_cpu_create(&args, &b->engine) != ST_OK)
        fail("no engine");
    const double gflops = peak_gflops(threads, ops->name);
    const double gb_per_s = stream_gb_per_s(threads, stream);
    printf("%s, %d threads: FMA peak %.1f GFLOP/s, memory read %.1f GB/s, weights %.0f MiB\n",
           ops->name, n_threads, gflops, gb_per_s,
           (double)weights_bytes(config, OPS_BF16) / 1048576);
    figures(b, gflops, gb_per_s, weights_bytes(config, OPS_BF16));

    engine_destroy(b->engine);
    kv_pool_destroy(b->pool);
    weights_destroy(weights);
    threads_destroy(threads);
    pages_unmap(kv, kv_bytes);
    host_free(b);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : getenv("EPIDOTE_SMOLLM2");
    char dir[] = "/tmp/epidote-bench-XXXXXX";
    struct model_source *source = NULL;
    const struct ops *ops = NULL;
    uint8_t *stream = pages_map(STREAM_BYTES);

    if (stream == NULL || ops_find("auto", &ops) != ST_OK)
        fail("no memory");
    if (strcmp(ops->name, "plain") == 0)
        fail("the floors are measured with AVX2, which this CPU lacks");
    memset(stream, 1, STREAM_BYTES); /* or all of it would be one page of zeros */
    const bool zeros = path == NULL || access(path, R_OK) != 0;
    if (zeros) {
        if (mkdtemp(dir) == NULL)
            fail("no temporary folder");
        write_zero_model(dir);
        path = dir;
    }
    printf("model: %s\n", zeros ? "zeros in the shape of SmolLM2-135M" : path);
    const bool opened = model_open(path, &source) == ST_OK;
    if (opened)
        for (int n = 1; n <= threads_default_count() && n <= 64; n *= 2)
            run(source, ops, n, stream);
    model_close(source);
    if (zeros)
        zero_model_remove(dir);
    pages_unmap(stream, STREAM_BYTES);
    return !opened;
}
