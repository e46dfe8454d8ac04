/* TEST */
/*
 * unit_stored.c - matrices that stay in the file give the same bits as packed ones: on every
 * instruction set, in one piece, in pieces and token by token, for every type; and where a tensor
 * holds several weights, as of fused projections and stacked experts.
 */
#include "gguf_copy.h"

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
    {GOLDEN "families/olmoe", GOLDEN "families/olmoe/model.golden"}, /* stacked experts */
    {GOLDEN "families/mixtral/model.gguf", GOLDEN "families/mixtral/model.golden"}, /* single */
    {GOLDEN "families/gemma3", GOLDEN "families/gemma3/model.golden"}, /* norms less 1 */
};

/* These are made into files of Q8_0 first, as far as rows are whole blocks. */
static const char *const to_quantise[] = {
    "phi3",    /* q, k, v are one tensor, gate and up another */
    "granite", /* q, k, v are one, rows of q and k permuted */
    "olmoe",   /* stacked experts, gate and up one tensor */
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

/* ---- files of Q8_0 -------------------------------------------------------------------------- */

enum { BLOCK = 32, GGUF_Q8_0 = 8 };

static bool is_quantised(const struct source_tensor *t)
{
    return t->type == TENSOR_BF16 && t->n_dims > 1 && t->dims[t->n_dims - 1] % BLOCK == 0;
}

/* A block of bf16 as Q8_0, whose scale is the power of two that it takes. */
static void put_block(struct buf *out, const uint8_t *bf16)
{
    float values[BLOCK], max = 0;
    int exponent;
    int8_t q[BLOCK];

    for (int i = 0; i < BLOCK; i++) {
        uint16_t bits;

        memcpy(&bits, bf16 + 2 * i, sizeof bits);
        values[i] = f32_from_bf16(bits);
        max = fmaxf(max, fabsf(values[i]));
    }
    frexpf(max / 127, &exponent);
    const uint16_t scale = (uint16_t)((exponent + 15) << 10); /* binary16 */
    RIG_OK(exponent > -15 && exponent < 15 ? ST_OK : ST_FORMAT);
    for (int i = 0; i < BLOCK; i++)
        q[i] = (int8_t)lrintf(ldexpf(values[i], -exponent));
    RIG_OK(buf_put(out, &scale, sizeof scale));
    RIG_OK(buf_put(out, q, sizeof q));
}

static void put_data(struct buf *out, const struct source_tensor *t)
{
    if (!is_quantised(t)) {
        RIG_OK(buf_put(out, t->data, t->n_bytes));
        return;
    }
    for (size_t at = 0; at < t->n_bytes; at += 2 * BLOCK)
        put_block(out, t->data + at);
}

/* The GGUF file `from` with matrices of bf16 as Q8_0.  Returns how many. */
static int quantise(const char *from, const char *to)
{
    struct buf out = {0}, data = {0};
    struct gguf_copy copy;
    int n = 0;

    gguf_copy_read(&copy, from);
    RIG_OK(buf_put(&out, copy.file.data, copy.keys_end)); /* header and keys, as they are */
    for (int64_t i = 0; i < copy.list.n_tensors; i++) {
        const struct source_tensor *t = &copy.list.tensors[i];

        gguf_put_tensor(&out, t, is_quantised(t) ? GGUF_Q8_0 : gguf_type_of(t), data.n_bytes);
        put_data(&data, t);
        gguf_align(&data);
        n += is_quantised(t);
    }
    gguf_align(&out);
    RIG_OK(buf_put(&out, data.data, data.n_bytes));
    RIG_OK(file_write_atomic(to, out.data, out.n_bytes));
    gguf_copy_end(&copy);
    buf_free(&out);
    buf_free(&data);
    return n;
}

/* The errors of Q8_0 are small: it is that model still. */
static void compare_quantised(const char *family)
{
    char from[128], golden[128], to[300];
    const char *tmp = getenv("TMPDIR");

    snprintf(from, sizeof from, GOLDEN "families/%s/model.gguf", family);
    snprintf(golden, sizeof golden, GOLDEN "families/%s/model.golden", family);
    snprintf(to, sizeof to, "%s/epidote-stored-%s-%d.gguf", tmp != NULL ? tmp : "/tmp", family,
             (int)getpid());
    CHECK(quantise(from, to) >= 4);
    struct golden g = golden_read(golden);
    float *logits = logits_of(&g, &(struct rig_args){.path = to, .type = OPS_BF16}, g.T);
    const double error = nmse(logits, g.logits, (size_t)g.T * (size_t)g.V);
    fprintf(stderr, "%-10s nmse as Q8_0 %.1e\n", family, error);
    CHECK(error < 0.05);
    compare(to, &g, OPS_BF16);
    compare(to, &g, OPS_F32);
    unlink(to);
    host_free(logits);
    buf_free(&g.file);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct golden g = golden_read(cases[i].golden);

        compare(cases[i].model, &g, OPS_BF16);
        compare(cases[i].model, &g, OPS_F32);
        buf_free(&g.file);
    }
    for (size_t i = 0; i < sizeof to_quantise / sizeof to_quantise[0]; i++)
        compare_quantised(to_quantise[i]);
    TEST_END();
}
