/* TEST needs: smollm2 gemma3 timeout: 300 */
/*
 * unit_real_logits.c - SmolLM2 and Gemma 3 270M on real text, teacher-forced, against the tokens
 * that transformers picks in float32 (tests/golden/make_real_logits.py).
 *
 * f32 has to pick the same wherever the reference's two best logits are more than 1e-3 apart, bf16
 * at 97 % of all positions.  `make model model-files` fetches the models.
 */
#include "rig.h"

static const struct {
    const char *model, *golden;
} models[] = {
    {"build/models/SmolLM2-135M-Instruct.Q4_1.gguf", "tests/golden/real_text.golden"},
    {"build/models/gemma-3-270m-q4_k_m.gguf", "tests/golden/real_text_gemma3.golden"},
};

enum { CHUNK = 256, MAX_SEQS = 16 };

/* As make_real_logits.py wrote it. */
struct real_golden {
    int n_seqs, n_tok;
    int seq_tok[MAX_SEQS];
    const int32_t *tokens, *picks; /* [n_tok] views */
    const float *margins;          /* [n_tok] view */
    struct buf file;
};

static struct real_golden golden_read_real(const char *path)
{
    struct real_golden g = {0};
    size_t n_bytes = 0;

    RIG_OK(file_read(path, 16u << 20, &g.file));
    const int32_t *at = (const int32_t *)(const void *)(g.file.data + 8);
    g.n_seqs = *at++;
    g.n_tok = *at++;
    for (int i = 0; i < g.n_seqs && i < MAX_SEQS; i++)
        g.seq_tok[i] = *at++;
    g.tokens = at;
    g.picks = g.tokens + g.n_tok;
    g.margins = (const float *)(const void *)(g.picks + g.n_tok);
    n_bytes = 8 + 4 * (2 + (size_t)g.n_seqs + 3 * (size_t)g.n_tok);
    if (memcmp(g.file.data, "EPREAL01", 8) != 0 || g.n_seqs > MAX_SEQS ||
        g.file.n_bytes != n_bytes) {
        fprintf(stderr, "%s is not a golden: run tests/golden/make_real_logits.py\n", path);
        exit(1);
    }
    return g;
}

static void run(const char *path, const struct real_golden *g, enum ops_type type)
{
    struct rig rig;
    int n_sure = 0, n_sure_same = 0, n_same = 0, done = 0;
    const double begun_s = clock_now_s();

    rig_begin(&rig, (struct rig_args){.path = path,
                                      .type = type,
                                      .n_threads = threads_default_count(),
                                      .P = 32,
                                      .max_T = CHUNK,
                                      .context = 1024});
    const int V = rig.config.V;
    float *logits = host_alloc(1024 * (size_t)V * sizeof *logits);
    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    for (int i = 0; i < g->n_seqs; i++) {
        rig_logits(&rig, g->tokens + done, g->seq_tok[i], CHUNK, logits);
        for (int t = 0; t < g->seq_tok[i]; t++, done++) {
            const float *row = logits + (size_t)t * (size_t)V;
            int best = 0;

            for (int v = 1; v < V; v++)
                if (row[v] > row[best])
                    best = v;
            n_same += best == g->picks[done];
            n_sure += g->margins[done] > 1e-3f;
            n_sure_same += g->margins[done] > 1e-3f && best == g->picks[done];
        }
    }
    fprintf(
        stderr,
        "%s %s: %d positions, %.2f %% with a margin above 1e-3, of which %.2f %% the same; %.2f "
        "%% of all; %.1f s\n",
        rig.config.family, type == OPS_F32 ? "f32" : "bf16", done, 100.0 * n_sure / done,
        100.0 * n_sure_same / n_sure, 100.0 * n_same / done, clock_now_s() - begun_s);
    CHECK(done >= 2000);
    CHECK(n_sure >= 0.98 * done);
    if (type == OPS_F32)
        CHECK_INT(n_sure_same, n_sure);
    CHECK(n_same >= 0.97 * done);
    host_free(logits);
    rig_end(&rig);
}

int main(void)
{
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct real_golden g = golden_read_real(models[i].golden);

        if (access(models[i].model, R_OK) != 0) {
            fprintf(stderr, "%s is not there: make model model-files\n", models[i].model);
            return 77;
        }
        run(models[i].model, &g, OPS_F32);
        run(models[i].model, &g, OPS_BF16);
        buf_free(&g.file);
    }
    TEST_END();
}
