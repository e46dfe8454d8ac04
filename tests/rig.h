/*
 * rig.h - what the tests of model and engine share: right answers from tests/golden/, a decoder
 * with its weights and KV pool set up from a checkpoint, and logits of a token sequence under any
 * schedule.
 *
 * A set-up step that fails prints and exits: no test can go on without it.
 */
#ifndef EPIDOTE_RIG_H
#define EPIDOTE_RIG_H

#include <math.h>

#include "model/model.h"
#include "test.h"

#define RIG_OK(expr)                                                                               \
    do {                                                                                           \
        const enum status rig_st = (expr);                                                         \
        if (rig_st != ST_OK) {                                                                     \
            fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #expr,                     \
                    status_name(rig_st), log_last_error());                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- right answers ------------------------------------------------------------------------- */

/* As tests/golden/make_checkpoints.py wrote them. */
struct golden {
    int T, V;
    double nmse_bf16;      /* of the reference's own bf16 run */
    const int32_t *tokens; /* [T] view */
    const float *logits;   /* [T, V] view */
    struct buf file;
};

static inline struct golden golden_read(const char *path)
{
    struct golden g = {0};
    int32_t shape[2];

    RIG_OK(file_read(path, 64u << 20, &g.file));
    memcpy(shape, g.file.data + 8, sizeof shape);
    memcpy(&g.nmse_bf16, g.file.data + 16, sizeof g.nmse_bf16);
    g.T = shape[0];
    g.V = shape[1];
    g.tokens = (const int32_t *)(const void *)(g.file.data + 24);
    g.logits = (const float *)(const void *)(g.tokens + g.T);
    if (memcmp(g.file.data, "EPLOGIT1", 8) != 0 ||
        g.file.n_bytes != 24 + 4 * (size_t)g.T * (1 + (size_t)g.V)) {
        fprintf(stderr, "%s is not a golden: run tests/golden/make_checkpoints.py\n", path);
        exit(1);
    }
    return g;
}

/* Normalised mean squared error; a NaN anywhere gives a NaN, which is below no limit. */
static inline double nmse(const float *got, const float *right, size_t n)
{
    double error = 0, power = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)right[i];

        error += d * d;
        power += (double)right[i] * (double)right[i];
    }
    return error / power;
}

/* ---- a model that can be run ---------------------------------------------------------------- */

struct rig_args {
    const char *path;
    enum ops_type type;
    bool stored;                       /* matrices stay in the file */
    const char *instructions;          /* NULL = "auto" */
    int n_threads, P;                  /* 0 = 1 thread, 16 positions a block */
    int max_T, context;                /* 0 = 256 */
    const struct model_config *config; /* NULL = the model's own; else what the decoder believes */
};

struct rig {
    struct rig_args args;
    struct model_config config;
    struct threads *threads;
    struct model_source *source; /* open where weights are stored */
    struct weights *weights;
    struct decoder *decoder;
    struct kv_pool *pool;
    void *pages;
    size_t pages_bytes;
};

static inline void rig_begin(struct rig *rig, struct rig_args args)
{
    struct model_source *source = NULL;
    const struct ops *ops;

    args.n_threads = args.n_threads > 0 ? args.n_threads : 1;
    args.P = args.P > 0 ? args.P : 16;
    args.max_T = args.max_T > 0 ? args.max_T : 256;
    args.context = args.context > 0 ? args.context : 256;
    *rig = (struct rig){.args = args};
    RIG_OK(ops_find(args.instructions != NULL ? args.instructions : "auto", &ops));
    RIG_OK(threads_create(args.n_threads, &rig->threads));
    RIG_OK(model_open(args.path, &source));
    rig->config = args.config != NULL ? *args.config : *model_source_config(source);
    RIG_OK(weights_create(
        &(struct weights_args){
            .source = source, .type = args.type, .stored = args.stored, .threads = rig->threads},
        &rig->weights));
    if (args.stored)
        rig->source = source;
    else
        model_close(source);
    const struct decoder_args decoder = {
        .config = &rig->config,
        .weights = rig->weights,
        .ops = ops,
        .threads = rig->threads,
        .max_T = args.max_T,
        .max_B = 16,
        .max_logit_rows = args.max_T,
        .context = args.context,
    };
    RIG_OK(decoder_create(&decoder, &rig->decoder));
    const struct kv_layout layout = {args.type, rig->config.L, rig->config.K, args.P,
                                     rig->config.E};
    const int n_blocks = 5 * (args.context / args.P + 1);
    rig->pages_bytes = (size_t)n_blocks * kv_block_bytes(&layout);
    rig->pages = pages_map(rig->pages_bytes);
    RIG_OK(rig->pages != NULL ? ST_OK : ST_NOMEM);
    RIG_OK(
        kv_pool_create(&(struct kv_space){layout, n_blocks, rig->pages}, 0, n_blocks, &rig->pool));
    kv_pool_poison(rig->pool); /* a slot that should not be read is a NaN */
}

static inline void rig_end(struct rig *rig)
{
    kv_pool_destroy(rig->pool);
    pages_unmap(rig->pages, rig->pages_bytes);
    decoder_destroy(rig->decoder);
    weights_destroy(rig->weights);
    model_close(rig->source);
    threads_destroy(rig->threads);
}

/* A sequence that is computed piece by piece. */
struct rig_seq {
    const int32_t *tokens; /* [T] */
    int T, n_done;
    float *logits;              /* [T, V] out; NULL = not wanted */
    const float *const *inputs; /* [T], as in struct decoder_batch; NULL = tokens only */
    const int32_t *positions;   /* [T, 3] likewise; NULL = places */
    int n_blocks;
    int32_t blocks[1024];
};

/* Blocks are taken one by one and with gaps, so that tables are not runs. */
static inline void rig_seq_begin(struct rig *rig, struct rig_seq *seq, const int32_t *tokens, int T,
                                 float *logits)
{
    seq->tokens = tokens;
    seq->T = T;
    seq->n_done = 0;
    seq->logits = logits;
    seq->inputs = NULL;
    seq->positions = NULL;
    seq->n_blocks = (T + rig->args.P - 1) / rig->args.P;
    for (int i = seq->n_blocks - 1; i >= 0; i--) /* descending: token order is not id order */
        RIG_OK(kv_pool_take(rig->pool, 1, &seq->blocks[i]));
}

/* Give the blocks back and poison them. */
static inline void rig_seq_end(struct rig *rig, struct rig_seq *seq)
{
    kv_pool_give(rig->pool, seq->blocks, seq->n_blocks);
    kv_pool_poison(rig->pool);
}

/* One step: the next n_tok[i] tokens of seqs[i]; 0 = this one sits out. */
static inline void rig_step(struct rig *rig, struct rig_seq **seqs, const int *n_tok, int n_seqs)
{
    static int32_t tokens[4096], rows[4096], positions[3 * 4096];
    static const float *inputs[4096];
    struct ops_seq ops_seqs[16];
    struct decoder_batch batch = {.tokens = tokens, .seqs = ops_seqs, .logit_rows = rows};
    const float *logits, *max, *logsum;
    const size_t V = (size_t)rig->config.V;

    for (int i = 0; i < n_seqs; i++) {
        const struct rig_seq *seq = seqs[i];

        if (n_tok[i] == 0)
            continue;
        ops_seqs[batch.B++] = (struct ops_seq){seq->blocks, seq->n_done, n_tok[i], batch.T};
        for (int t = 0; t < n_tok[i]; t++) {
            const int at = seq->n_done + t;

            if (seq->logits != NULL)
                rows[batch.n_logit_rows++] = batch.T;
            inputs[batch.T] = seq->inputs != NULL ? seq->inputs[at] : NULL;
            for (int k = 0; k < 3; k++)
                positions[3 * batch.T + k] =
                    seq->positions != NULL ? seq->positions[3 * at + k] : at;
            if (seq->inputs != NULL)
                batch.inputs = inputs;
            if (seq->positions != NULL)
                batch.positions = positions;
            tokens[batch.T++] = seq->tokens[at];
        }
    }
    RIG_OK(decoder_begin(rig->decoder, &batch));
    for (int l = 0; l < rig->config.L; l++)
        RIG_OK(decoder_layer(rig->decoder, l, kv_pool_space(rig->pool)));
    RIG_OK(decoder_end(rig->decoder, &logits, &max, &logsum));
    for (int i = 0, row = 0; i < n_seqs; i++) {
        struct rig_seq *seq = seqs[i];

        if (seq->logits != NULL) {
            memcpy(seq->logits + (size_t)seq->n_done * V, logits + (size_t)row * V,
                   (size_t)n_tok[i] * V * sizeof *logits);
            row += n_tok[i];
        }
        seq->n_done += n_tok[i];
    }
}

/* Logits [T, V] of one sequence, `chunk` tokens a step. */
static inline void rig_logits(struct rig *rig, const int32_t *tokens, int T, int chunk,
                              float *logits)
{
    struct rig_seq seq, *seqs[1] = {&seq};

    rig_seq_begin(rig, &seq, tokens, T, logits);
    while (seq.n_done < T) {
        const int n_tok[1] = {T - seq.n_done < chunk ? T - seq.n_done : chunk};

        rig_step(rig, seqs, n_tok, 1);
    }
    rig_seq_end(rig, &seq);
}

#endif
