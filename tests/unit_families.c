/* TEST */
/*
 * unit_families.c - logits of a small checkpoint of every model family against transformers
 * (float32), from its Hugging Face directory and from GGUF; and the same bits whatever the
 * schedule.
 */
#include "rig.h"

#define GOLDEN "tests/golden/families/"

static const struct {
    const char *name;
    bool has_gguf, has_gguf_golden; /* else a GGUF file says the same as the directory */
} cases[] = {
    {"llama3", true, false},
    {"mistral", false, false},
    {"qwen2", true, false},
    {"qwen3", true, true},
    {"gemma2", true, true},
    {"gemma3", true, false},
    {"smollm3", true, false},
    {"phi3", true, false},
    {"olmo2", true, false},
    {"granite", true, false},
    {"mixtral", true, false},
    {"qwen3moe", true, false},
    {"olmoe", true, false},
    {"qwen2_window", false, false},
    {"smollm3_window", false, false},
    {"mixtral_window", false, false},
    {"qwen3moe_window", false, false},
};

static const enum ops_type types[] = {OPS_BF16, OPS_F32};

static float *logits_alloc(const struct golden *g)
{
    float *logits = host_alloc((size_t)g->T * (size_t)g->V * sizeof *logits);

    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    return logits;
}

/* f32: NMSE <= 1e-11.  bf16: at most twice the error of the reference's own bf16. */
static void right_answer(const char *path, const struct golden *g)
{
    float *logits = logits_alloc(g);
    double error[OPS_TYPE_COUNT];

    for (int k = 0; k < 2; k++) {
        struct rig rig;

        rig_begin(&rig, (struct rig_args){.path = path, .type = types[k]});
        CHECK_INT(rig.config.V, g->V);
        rig_logits(&rig, g->tokens, g->T, g->T, logits);
        error[types[k]] = nmse(logits, g->logits, (size_t)g->T * (size_t)g->V);
        rig_end(&rig);
    }
    fprintf(stderr, "%-42s nmse f32 %.1e   bf16 %.2e (the reference's bf16: %.2e)\n", path,
            error[OPS_F32], error[OPS_BF16], g->nmse_bf16);
    CHECK(error[OPS_F32] <= 1e-11);
    CHECK(error[OPS_BF16] <= 2 * g->nmse_bf16);
    CHECK(error[OPS_BF16] > 1e-9); /* it really rounds */
    host_free(logits);
}

/* Both kinds of file lead to one configuration, but for what only one of them can say. */
static void same_config(const char *dir, const char *gguf)
{
    struct model_config c[2];

    for (int i = 0; i < 2; i++) {
        struct model_source *source;

        RIG_OK(model_open(i == 0 ? dir : gguf, &source));
        c[i] = *model_source_config(source);
        model_close(source);
    }
    CHECK(c[0].L == c[1].L && c[0].D == c[1].D && c[0].F == c[1].F && c[0].H == c[1].H);
    CHECK(c[0].K == c[1].K && c[0].E == c[1].E && c[0].V == c[1].V && c[0].eps == c[1].eps);
    CHECK(c[0].context == c[1].context && c[0].tied == c[1].tied && c[0].X == c[1].X);
    CHECK(c[0].qkv_bias == c[1].qkv_bias && c[0].o_bias == c[1].o_bias);
    CHECK(c[0].window == c[1].window && memcmp(c[0].layers, c[1].layers, sizeof c[0].layers) == 0);
    CHECK(c[0].rope.base == c[1].rope.base && c[0].rope_window.base == c[1].rope_window.base);
    CHECK(fabs(c[0].residual_scale - c[1].residual_scale) < 1e-6);
    CHECK(fabs(c[0].embed_scale - c[1].embed_scale) < 1e-6);
    CHECK(fabs(c[0].logit_scale - c[1].logit_scale) < 1e-6);
    CHECK(c[0].attn_softcap == c[1].attn_softcap && c[0].final_softcap == c[1].final_softcap);
    CHECK(c[0].n_used_experts == c[1].n_used_experts);
    CHECK(c[0].normalise_experts == c[1].normalise_experts);
}

/* Every instruction set, and some chunks, blocks and threads, give the bits of plain C at once. */
static void same_bits(const char *path, const struct golden *g)
{
    static const struct {
        int chunk, P, n_threads;
    } ways[] = {{1, 16, 1}, {5, 32, 2}, {1000, 64, 3}};
    const size_t n = (size_t)g->T * (size_t)g->V;
    float *right = logits_alloc(g), *got = logits_alloc(g);

    for (int k = 0; k < 2; k++) {
        struct rig rig;

        rig_begin(&rig, (struct rig_args){.path = path, .type = types[k], .instructions = "plain"});
        rig_logits(&rig, g->tokens, g->T, g->T, right);
        rig_end(&rig);
        for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
            for (size_t i = 0; i < sizeof ways / sizeof ways[0] && (*ops)->usable(); i++) {
                size_t n_differ = 0;

                rig_begin(&rig, (struct rig_args){.path = path,
                                                  .type = types[k],
                                                  .instructions = (*ops)->name,
                                                  .n_threads = ways[i].n_threads,
                                                  .P = ways[i].P});
                memset(got, 0xff, n * sizeof *got);
                rig_logits(&rig, g->tokens, g->T, ways[i].chunk, got);
                rig_end(&rig);
                for (size_t v = 0; v < n; v++)
                    n_differ += bits_from_f32(got[v]) != bits_from_f32(right[v]);
                CHECK_INT(n_differ, 0);
            }
        }
    }
    host_free(right);
    host_free(got);
}

/* Weights that stay in the file, whichever way it holds them, give the bits of packed ones. */
static void same_stored(const char *path, const struct golden *g)
{
    const size_t n = (size_t)g->T * (size_t)g->V;
    float *logits[2] = {logits_alloc(g), logits_alloc(g)};
    size_t n_differ = 0;

    for (int stored = 0; stored < 2; stored++) {
        struct rig rig;

        rig_begin(&rig, (struct rig_args){
                            .path = path, .type = OPS_BF16, .stored = stored, .n_threads = 2});
        rig_logits(&rig, g->tokens, g->T, 9, logits[stored]);
        rig_end(&rig);
    }
    for (size_t v = 0; v < n; v++)
        n_differ += bits_from_f32(logits[0][v]) != bits_from_f32(logits[1][v]);
    CHECK_INT(n_differ, 0);
    host_free(logits[0]);
    host_free(logits[1]);
}

/* Three sequences side by side in steps of mixed sizes: each comes out as it does alone.  With
 * experts, other rows of a step go to the same ones. */
static void side_by_side(const char *path, const struct golden *g)
{
    enum { N = 3 };
    const size_t n = (size_t)g->T * (size_t)g->V;
    int32_t *tokens[N];
    float *alone[N], *mixed[N];
    struct rig_seq seqs[N], *table[N];
    struct rig rig;

    rig_begin(&rig, (struct rig_args){.path = path, .type = OPS_BF16, .n_threads = 2});
    for (int i = 0; i < N; i++) {
        tokens[i] = host_alloc((size_t)g->T * sizeof *tokens[i]);
        alone[i] = logits_alloc(g);
        mixed[i] = logits_alloc(g);
        for (int t = 0; t < g->T; t++)
            tokens[i][t] = g->tokens[(t * (i + 1)) % g->T];
        rig_logits(&rig, tokens[i], g->T, g->T, alone[i]);
    }
    for (int i = 0; i < N; i++) {
        table[i] = &seqs[i];
        rig_seq_begin(&rig, &seqs[i], tokens[i], g->T, mixed[i]);
    }
    for (int step = 0; seqs[0].n_done < g->T || seqs[1].n_done < g->T || seqs[2].n_done < g->T;
         step++) {
        int n_tok[N];

        for (int i = 0; i < N; i++) {
            const int want = (step * 5 + i * 7) % 9, left = g->T - seqs[i].n_done;

            n_tok[i] = want < left ? want : left;
        }
        if (n_tok[0] + n_tok[1] + n_tok[2] > 0)
            rig_step(&rig, table, n_tok, N);
    }
    for (int i = 0; i < N; i++) {
        size_t n_differ = 0;

        for (size_t v = 0; v < n; v++)
            n_differ += bits_from_f32(mixed[i][v]) != bits_from_f32(alone[i][v]);
        CHECK_INT(n_differ, 0);
        rig_seq_end(&rig, &seqs[i]);
        host_free(tokens[i]);
        host_free(alone[i]);
        host_free(mixed[i]);
    }
    rig_end(&rig);
}

/* A tensor counts once, however many weights it holds. */
static void inspected(const char *path, const char *says)
{
    struct model_source *source;
    struct buf text = {0};

    RIG_OK(model_open(path, &source));
    RIG_OK(model_inspect(source, &text));
    RIG_OK(buf_put(&text, "", 1));
    CHECK_HAS((const char *)text.data, says);
    buf_free(&text);
    model_close(source);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[128], path[160];

        snprintf(dir, sizeof dir, GOLDEN "%s", cases[i].name);
        snprintf(path, sizeof path, "%s/model.golden", dir);
        struct golden g = golden_read(path);
        right_answer(dir, &g);
        same_bits(dir, &g);
        side_by_side(dir, &g);
        same_stored(dir, &g);
        if (cases[i].has_gguf_golden) {
            buf_free(&g.file);
            snprintf(path, sizeof path, "%s/gguf.golden", dir);
            g = golden_read(path);
        }
        snprintf(path, sizeof path, "%s/model.gguf", dir);
        if (cases[i].has_gguf) {
            right_answer(path, &g);
            same_stored(path, &g);
        }
        if (cases[i].has_gguf && !cases[i].has_gguf_golden)
            same_config(dir, path);
        buf_free(&g.file);
    }
    inspected(GOLDEN "phi3", "             attention  BF16 in 4 tensors\n"
                             "             ffn        BF16 in 4 tensors\n");
    inspected(GOLDEN "olmoe", "             attention  BF16 in 8 tensors\n"
                              "             experts    BF16 in 4 tensors\n"
                              "             router     BF16 in 2 tensors\n"
                              "             norms      BF16 in 9 tensors\n");
    inspected(GOLDEN "mixtral/model.gguf", "             experts    BF16 in 24 tensors\n"
                                           "             router     F32 in 2 tensors\n");
    inspected(GOLDEN "qwen2", "             biases     BF16 in 6 tensors\n");
    TEST_END();
}
