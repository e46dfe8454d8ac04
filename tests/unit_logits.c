/* TEST */
/*
 * unit_logits.c - logits of small checkpoints against transformers (float32), and the same bits
 * whatever the schedule: chunks, batch mix, block size, threads, instruction set.
 */
#include "rig.h"

#define GOLDEN "tests/golden/"

static const struct {
    const char *model, *golden;
} cases[] = {
    {GOLDEN "small", GOLDEN "small/model.golden"},
    {GOLDEN "small/F32.gguf", GOLDEN "small/model.golden"}, /* F32, F16, BF16: the same numbers */
    {GOLDEN "small/F16.gguf", GOLDEN "small/model.golden"},
    {GOLDEN "small/BF16.gguf", GOLDEN "small/model.golden"},
    {GOLDEN "small/Q8_0.gguf", GOLDEN "small/Q8_0.golden"},
    {GOLDEN "small/Q4_0.gguf", GOLDEN "small/Q4_0.golden"},
    {GOLDEN "small/Q4_1.gguf", GOLDEN "small/Q4_1.golden"},
    {GOLDEN "wide_eps", GOLDEN "wide_eps/model.golden"},
    {GOLDEN "odd", GOLDEN "odd/model.golden"},
    {GOLDEN "biased", GOLDEN "biased/model.golden"},
    {GOLDEN "biased/F32.gguf", GOLDEN "biased/model.golden"},
    {GOLDEN "kquant/kquant.gguf", GOLDEN "kquant/kquant.golden"}, /* all types of GGUF */
    {GOLDEN "fp8/block", GOLDEN "fp8/block/model.golden"},        /* 8-bit floats */
    {GOLDEN "fp8/row", GOLDEN "fp8/row/model.golden"},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static const enum ops_type types[] = {OPS_BF16, OPS_F32};

static size_t n_differ(const float *a, const float *b, size_t n)
{
    size_t n_differing = 0;

    for (size_t i = 0; i < n; i++)
        n_differing += bits_from_f32(a[i]) != bits_from_f32(b[i]);
    return n_differing;
}

static float *logits_alloc(const struct golden *g)
{
    float *logits = host_alloc((size_t)g->T * (size_t)g->V * sizeof *logits);

    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    return logits;
}

/* f32: NMSE <= 1e-11.  bf16: at most twice the error of the reference's own bf16. */
static void right_answers(void)
{
    for (int i = 0; i < N_CASES; i++) {
        struct golden g = golden_read(cases[i].golden);
        float *logits = logits_alloc(&g);
        double error[OPS_TYPE_COUNT];

        for (int k = 0; k < 2; k++) {
            struct rig rig;

            rig_begin(&rig, (struct rig_args){.path = cases[i].model, .type = types[k]});
            CHECK_INT(rig.config.V, g.V);
            rig_logits(&rig, g.tokens, g.T, g.T, logits);
            error[types[k]] = nmse(logits, g.logits, (size_t)g.T * (size_t)g.V);
            rig_end(&rig);
        }
        fprintf(stderr, "%-26s nmse f32 %.1e   bf16 %.2e (the reference's bf16: %.2e)\n",
                cases[i].model, error[OPS_F32], error[OPS_BF16], g.nmse_bf16);
        CHECK(error[OPS_F32] <= 1e-11);
        CHECK(error[OPS_BF16] <= 2 * g.nmse_bf16);
        CHECK(error[OPS_BF16] > 1e-9); /* it really rounds */
        host_free(logits);
        buf_free(&g.file);
    }
}

/* One sequence alone, under every schedule that may not matter; right [T, V] is the first. */
static void schedules(const char *path, const struct golden *g, enum ops_type type,
                      const float *right)
{
    static const int chunks[] = {1, 7, 64, 1000};
    const size_t n = (size_t)g->T * (size_t)g->V;
    float *logits = logits_alloc(g);

    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++) {
        if (!(*ops)->usable())
            continue;
        for (int P = 16; P <= 64; P *= 2) {
            for (int n_threads = 1; n_threads <= 3; n_threads++) {
                struct rig rig;

                if (P != 16 && n_threads != 2)
                    continue; /* one axis at a time */
                rig_begin(&rig, (struct rig_args){.path = path,
                                                  .type = type,
                                                  .instructions = (*ops)->name,
                                                  .n_threads = n_threads,
                                                  .P = P});
                for (int i = 0; i < 4; i++) {
                    if (chunks[i] == 1 && (P != 16 || n_threads == 3))
                        continue; /* many small steps: slow where cores are few */
                    memset(logits, 0xff, n * sizeof *logits);
                    rig_logits(&rig, g->tokens, g->T, chunks[i], logits);
                    const size_t n_wrong = n_differ(logits, right, n);
                    if (n_wrong > 0)
                        fprintf(stderr, "%s type %d %s P %d threads %d chunk %d:\n", path, type,
                                (*ops)->name, P, n_threads, chunks[i]);
                    CHECK_INT(n_wrong, 0);
                }
                rig_end(&rig);
            }
        }
    }
    host_free(logits);
}

/* Four sequences side by side with step sizes from a generator: the first has to come out as it
 * does alone, and so has the second. */
static void batch_mixes(const char *path, const struct golden *g, enum ops_type type,
                        const float *right)
{
    enum { N = 4, SEEDS = 12 };
    const size_t n = (size_t)g->T * (size_t)g->V;
    int32_t *other = host_alloc((size_t)g->T * sizeof *other);
    float *logits = logits_alloc(g), *other_right = logits_alloc(g),
          *other_logits = logits_alloc(g);
    struct rig rig;

    for (int t = 0; t < g->T; t++)
        other[t] = g->tokens[g->T - 1 - t];
    rig_begin(&rig, (struct rig_args){.path = path, .type = type, .n_threads = 2});
    rig_logits(&rig, other, g->T, g->T, other_right);
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        const uint32_t key[2] = {seed, 41};
        struct rig_seq seqs[N], *table[N];
        uint32_t n_drawn = 0;

        for (int i = 0; i < N; i++) {
            const int rotated = (int)(((uint32_t)i + seed) % N); /* each place in the batch */

            table[rotated] = &seqs[i];
            rig_seq_begin(&rig, &seqs[i], i % 2 == 0 ? g->tokens : other, i < 2 ? g->T : g->T / i,
                          i == 0   ? logits
                          : i == 1 ? other_logits
                                   : NULL);
        }
        while (seqs[0].n_done < g->T || seqs[1].n_done < g->T) {
            int n_tok[N], total = 0;

            for (int i = 0; i < N; i++) {
                static const int sizes[8] = {0, 1, 1, 1, 2, 5, 17, 40};
                const uint32_t counter[4] = {n_drawn++, 0, 0, 0};
                const int left = table[i]->T - table[i]->n_done;
                uint32_t drawn[4];

                philox4x32(key, counter, drawn);
                n_tok[i] = sizes[drawn[0] % 8] < left ? sizes[drawn[0] % 8] : left;
                total += n_tok[i];
            }
            if (total > 0)
                rig_step(&rig, table, n_tok, N);
        }
        CHECK_INT(n_differ(logits, right, n), 0);
        CHECK_INT(n_differ(other_logits, other_right, n), 0);
        for (int i = 0; i < N; i++)
            rig_seq_end(&rig, &seqs[i]);
    }
    rig_end(&rig);
    host_free(other);
    host_free(logits);
    host_free(other_right);
    host_free(other_logits);
}

/* Logits of some rows only are those of all rows. */
static void wanted_rows(const char *path, const struct golden *g, enum ops_type type,
                        const float *right)
{
    static const int32_t rows[] = {0, 3, 64, 79};
    struct rig rig;
    struct rig_seq seq;
    const float *logits, *max, *logsum;

    rig_begin(&rig, (struct rig_args){.path = path, .type = type});
    rig_seq_begin(&rig, &seq, g->tokens, g->T, NULL);
    const struct ops_seq whole = {seq.blocks, 0, g->T, 0};
    const struct decoder_batch batch = {g->T, 1, g->tokens, &whole, rows, 4, NULL, NULL};
    RIG_OK(decoder_begin(rig.decoder, &batch));
    for (int l = 0; l < rig.config.L; l++)
        RIG_OK(decoder_layer(rig.decoder, l, kv_pool_space(rig.pool)));
    RIG_OK(decoder_end(rig.decoder, &logits, &max, &logsum));
    for (int i = 0; i < 4; i++) {
        const float *row = right + (size_t)rows[i] * (size_t)g->V;
        double top = -INFINITY, sum = 0;

        CHECK_INT(n_differ(logits + (size_t)i * (size_t)g->V, row, (size_t)g->V), 0);
        for (int v = 0; v < g->V; v++)
            top = fmax(top, (double)row[v]);
        for (int v = 0; v < g->V; v++)
            sum += exp((double)row[v] - top);
        CHECK((double)max[i] == top);
        CHECK(fabs((double)logsum[i] - log(sum)) < 1e-5);
    }
    rig_seq_end(&rig, &seq);
    rig_end(&rig);
}

static void same_bits(int which)
{
    struct golden g = golden_read(cases[which].golden);
    float *right = logits_alloc(&g);

    for (int k = 0; k < 2; k++) {
        struct rig rig;

        rig_begin(&rig, (struct rig_args){
                            .path = cases[which].model, .type = types[k], .instructions = "plain"});
        rig_logits(&rig, g.tokens, g.T, g.T, right);
        rig_end(&rig);
        schedules(cases[which].model, &g, types[k], right);
        batch_mixes(cases[which].model, &g, types[k], right);
        wanted_rows(cases[which].model, &g, types[k], right);
    }
    host_free(right);
    buf_free(&g.file);
}

int main(void)
{
    right_answers();
    same_bits(0); /* small: grouped heads, tied */
    same_bits(7); /* wide_eps: own head */
    same_bits(8); /* odd: ragged panels, three layers, two tiles and more */
    same_bits(9); /* biased */
    TEST_END();
}
