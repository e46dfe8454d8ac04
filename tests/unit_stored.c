/* TEST */
/*
 * unit_stored.c - matrices that stay in the file give the same bits as packed ones: on every
 * instruction set, in one piece, in pieces and token by token, for every type.
 */
#include "rig.h"

#define GOLDEN "tests/golden/"

static const struct {
    const char *model, *golden;
} cases[] = {
    {GOLDEN "kquant/kquant.gguf", GOLDEN "kquant/kquant.golden"}, /* all types of 256 elements */
    {GOLDEN "small/Q4_0.gguf", GOLDEN "small/Q4_0.golden"},       /* rows of q and k permuted */
    {GOLDEN "wide_eps", GOLDEN "wide_eps/model.golden"},          /* bf16, own head */
    {GOLDEN "odd", GOLDEN "odd/model.golden"}, /* float32, nothing a multiple of anything */
    {GOLDEN "biased/F32.gguf", GOLDEN "biased/model.golden"},
    {GOLDEN "fp8/block", GOLDEN "fp8/block/model.golden"},
    {GOLDEN "fp8/row", GOLDEN "fp8/row/model.golden"},
};

static float *logits_of(const struct golden *g, const struct rig_args *args, int chunk)
{
    float *logits = host_alloc((size_t)g->T * (size_t)g->V * sizeof *logits);
    struct rig rig;

    RIG_OK(logits != NULL ? ST_OK : ST_NOMEM);
    rig_begin(&rig, *args);
    rig_logits(&rig, g->tokens, g->T, chunk, logits);
    rig_end(&rig);
    return logits;
}

/* Equal, and not because there is nothing: the packed ones are held to the reference elsewhere. */
static void compare(const char *path, const struct golden *g, enum ops_type type)
{
    struct rig_args args = {.path = path, .type = type};
    float *packed = logits_of(g, &args, g->T);
    const size_t n_bytes = (size_t)g->T * (size_t)g->V * sizeof *packed;
    int n_variants = 0;

    args.stored = true;
    for (const struct ops *const *ops = ops_list(); *ops != NULL; ops++, n_variants++) {
        static const int chunks[] = {1000, 7, 1};
        const int n_chunks = n_variants == 0 ? 1 : n_variants == 1 ? 3 : 2; /* plain is slow */

        if (!(*ops)->usable())
            continue;
        args.instructions = (*ops)->name;
        args.n_threads = 1 + n_variants % 2;
        for (int i = 0; i < n_chunks; i++) {
            float *stored = logits_of(g, &args, chunks[i]);

            if (memcmp(stored, packed, n_bytes) != 0)
                fprintf(stderr, "%s, type %d, %s, %d tokens a step:\n", path, type, (*ops)->name,
                        chunks[i]);
            CHECK(memcmp(stored, packed, n_bytes) == 0);
            host_free(stored);
        }
    }
    host_free(packed);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct golden g = golden_read(cases[i].golden);

        compare(cases[i].model, &g, OPS_BF16);
        compare(cases[i].model, &g, OPS_F32);
        buf_free(&g.file);
    }
    TEST_END();
}
