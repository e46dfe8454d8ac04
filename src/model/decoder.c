/*
 * decoder.c - one forward pass of a llama decoder, over many sequences at once.
 *
 *   tokens ─ embed ─► x ─┬─ norm ─ qkv ─ rope ─ KV blocks ─ attention ─ o ─┬─ + ─► x    L times
 *                        ├─ norm ─ gate, up ─ silu * ─ down ───────────────┴─ + ─► x
 *                        └─ wanted rows ─ norm ─ head ─► logits
 *
 * Where the model has them, qkv and o are followed by their biases: float32 values, rounded to bf16
 * where the weights are, added to the float32 sums.
 *
 * The rows of a step are tokens, whichever sequence they are of; only attention and KV know the
 * sequences.  Every operation gives a row bits that do not depend on the other rows (ops.h), so
 * neither do the logits.  The residual stream x is float32.  The engine calls this.
 */
#include <assert.h>
#include <math.h>

#include "model/rope.h"
#include "model/weights.h"

struct decoder {
    struct model_config config;
    const struct weights *weights; /* borrowed */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    struct ops_ctx *ctx;     /* owned */
    int max_T, max_B, max_logit_rows, context;

    struct decoder_batch batch; /* the step's; its arrays are borrowed until decoder_end */
    int next_layer;             /* L: all are done */
    enum decoder_part next_part;

    float *rope;    /* [context, E/2, 2] cos, sin */
    int32_t *pos;   /* [max_T] absolute position of each row */
    float *x;       /* [max_T, D] residual stream */
    float *y;       /* [max_T, D] what a block reads (x, normalised), then what it adds to x */
    float *qkv;     /* [max_T, (H + 2K) * E] */
    float *attn;    /* [max_T, H * E] */
    float *gate_up; /* [max_T, 2F] */
    float *hidden;  /* [max_T, F] */
    float *logits;  /* [max_logit_rows, V] */
    float *max;     /* [max_logit_rows] */
    float *logsum;  /* [max_logit_rows] */
    uint8_t *pages; /* owned; all of the arrays above lie here */
    size_t pages_bytes;
};

/* ---- create, destroy ----------------------------------------------------------------------- */

/* Place the arrays from base on, or only count when base is NULL.  Returns the bytes needed. */
static size_t lay_out(struct decoder *d, uint8_t *base)
{
    const struct model_config *c = &d->config;
    const size_t T = (size_t)d->max_T, R = (size_t)d->max_logit_rows;
    const struct {
        float **array;
        size_t n;
    } floats[] = {
        {&d->rope, (size_t)d->context * (size_t)c->E},
        {&d->x, T * (size_t)c->D},
        {&d->y, T * (size_t)c->D},
        {&d->qkv, T * (size_t)((c->H + 2 * c->K) * c->E)},
        {&d->attn, T * (size_t)(c->H * c->E)},
        {&d->gate_up, T * 2 * (size_t)c->F},
        {&d->hidden, T * (size_t)c->F},
        {&d->logits, R * (size_t)c->V},
        {&d->max, R},
        {&d->logsum, R},
    };
    size_t n_bytes = 0;

    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        *floats[i].array = base != NULL ? (float *)(void *)(base + n_bytes) : NULL;
        n_bytes += (floats[i].n * sizeof(float) + 63) / 64 * 64;
    }
    d->pos = base != NULL ? (int32_t *)(void *)(base + n_bytes) : NULL;
    return n_bytes + T * sizeof *d->pos;
}

enum status decoder_create(const struct decoder_args *args, struct decoder **out_decoder)
{
    enum status st = ST_NOMEM;
    struct decoder *d = host_zalloc(sizeof *d);

    assert(args->max_T > 0 && args->max_B > 0 && args->context > 0);
    assert(args->max_logit_rows > 0 && args->max_logit_rows <= args->max_T);
    if (d == NULL)
        goto err;
    d->config = *args->config;
    d->weights = args->weights;
    d->ops = args->ops;
    d->threads = args->threads;
    d->max_T = args->max_T;
    d->max_B = args->max_B;
    d->max_logit_rows = args->max_logit_rows;
    d->context = args->context;
    d->next_layer = d->config.L;
    TRY(ops_ctx_create(args->threads, &d->ctx), err);

    st = ST_NOMEM;
    d->pages_bytes = lay_out(d, NULL);
    d->pages = pages_map(d->pages_bytes);
    if (d->pages == NULL)
        goto err;
    lay_out(d, d->pages);
    rope_table_fill(d->rope, d->context, d->config.E, d->config.rope_base);
    *out_decoder = d;
    return ST_OK;
err:
    decoder_destroy(d);
    return st;
}

void decoder_destroy(struct decoder *d)
{
    if (d == NULL)
        return;
    pages_unmap(d->pages, d->pages_bytes);
    ops_ctx_destroy(d->ctx);
    host_free(d);
}

/* ---- one forward pass ---------------------------------------------------------------------- */

static void embed_row(void *arg, int t, int thread)
{
    struct decoder *d = arg;

    (void)thread;
    ops_matrix_get_row(&d->weights->embed, d->batch.tokens[t],
                       d->x + (size_t)t * (size_t)d->config.D);
}

enum status decoder_begin(struct decoder *d, const struct decoder_batch *batch)
{
    int T = 0;

    assert(batch->T > 0 && batch->T <= d->max_T);
    assert(batch->B > 0 && batch->B <= d->max_B);
    assert(batch->n_logit_rows >= 0 && batch->n_logit_rows <= d->max_logit_rows);
    for (int b = 0; b < batch->B; b++) {
        const struct ops_seq *seq = &batch->seqs[b];

        assert(seq->row0 == T && seq->n_tok > 0);
        assert(seq->pos0 >= 0 && seq->pos0 + seq->n_tok <= d->context);
        for (int i = 0; i < seq->n_tok; i++)
            d->pos[T++] = seq->pos0 + i;
    }
    assert(T == batch->T);
    for (int t = 0; t < T; t++)
        assert(batch->tokens[t] >= 0 && batch->tokens[t] < d->config.V);

    d->batch = *batch;
    d->next_layer = 0;
    d->next_part = DECODER_KV;
    threads_run(d->threads, T, embed_row, d);
    return ST_OK;
}

/* Keys and values of the new tokens, into their blocks. */
static enum status layer_kv(struct decoder *d, const struct layer_weights *w,
                            const struct ops_kv *kv)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct ops *ops = d->ops;
    const int T = d->batch.T, H = c->H, K = c->K, E = c->E;
    const int ld = (H + 2 * K) * E; /* a row of qkv: H query, K key, K value heads */

    TRY(ops->rmsnorm(d->ctx, d->y, d->x, w->attn_norm, T, c->D, c->eps), err);
    TRY(ops->matmul(d->ctx, d->qkv, ld, d->y, c->D, &w->qkv, T), err);
    if (c->attention_bias)
        TRY(ops->add_row(d->ctx, d->qkv, w->qkv_bias, T, ld), err);
    TRY(ops->rope(d->ctx, d->qkv, ld, d->pos, d->rope, T, H + K, E), err);
    st = ops->kv_store(d->ctx, kv, d->batch.seqs, d->batch.B, d->qkv + H * E, d->qkv + (H + K) * E,
                       ld);
err:
    return st;
}

static enum status layer_attend(struct decoder *d, const struct layer_weights *w,
                                const struct ops_kv *kv)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct ops *ops = d->ops;
    const int T = d->batch.T, D = c->D, H = c->H, E = c->E;
    const struct ops_attention how = {.scale = (float)(1.0 / sqrt((double)E))};

    TRY(ops->attention(d->ctx, d->attn, d->qkv, (H + 2 * c->K) * E, H, kv, d->batch.seqs,
                       d->batch.B, &how),
        err);
    TRY(ops->matmul(d->ctx, d->y, D, d->attn, H * E, &w->o, T), err);
    if (c->attention_bias)
        TRY(ops->add_row(d->ctx, d->y, w->o_bias, T, D), err);
    st = ops->add(d->ctx, d->x, d->y, (int64_t)T * D);
err:
    return st;
}

static enum status layer_gate(struct decoder *d, const struct layer_weights *w)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct ops *ops = d->ops;
    const int T = d->batch.T, F = c->F;

    TRY(ops->rmsnorm(d->ctx, d->y, d->x, w->ffn_norm, T, c->D, c->eps), err);
    TRY(ops->matmul(d->ctx, d->gate_up, 2 * F, d->y, c->D, &w->gate_up, T), err);
    st = ops->silu_mul(d->ctx, d->hidden, d->gate_up, T, F);
err:
    return st;
}

static enum status layer_down(struct decoder *d, const struct layer_weights *w)
{
    enum status st;
    const int T = d->batch.T, D = d->config.D;

    TRY(d->ops->matmul(d->ctx, d->y, D, d->hidden, d->config.F, &w->down, T), err);
    st = d->ops->add(d->ctx, d->x, d->y, (int64_t)T * D);
err:
    return st;
}

enum status decoder_part(struct decoder *d, int layer, enum decoder_part part,
                         const struct kv_space *space)
{
    enum status st = ST_OK;
    const struct layer_weights *w = &d->weights->layers[layer];
    const struct ops_kv kv = kv_space_layer(space, layer);

    assert(layer == d->next_layer && part == d->next_part);
    assert(kv.K == d->config.K && kv.E == d->config.E);
    switch (part) {
    case DECODER_KV:
        TRY(layer_kv(d, w, &kv), err);
        break;
    case DECODER_ATTEND:
        TRY(layer_attend(d, w, &kv), err);
        break;
    case DECODER_GATE:
        TRY(layer_gate(d, w), err);
        break;
    default:
        assert(part == DECODER_DOWN);
        TRY(layer_down(d, w), err);
        d->next_layer++;
    }
    d->next_part = (enum decoder_part)((part + 1) % DECODER_PARTS);
err:
    return st;
}

enum status decoder_layer(struct decoder *d, int layer, const struct kv_space *space)
{
    enum status st = ST_OK;

    for (int part = 0; part < DECODER_PARTS; part++)
        TRY(decoder_part(d, layer, (enum decoder_part)part, space), err);
err:
    return st;
}

enum status decoder_end(struct decoder *d, const float **out_logits, const float **out_max,
                        const float **out_logsum)
{
    enum status st = ST_OK;
    const struct model_config *c = &d->config;
    const size_t D = (size_t)c->D;
    const int R = d->batch.n_logit_rows;

    assert(d->next_layer == c->L);
    for (int i = 0; i < R; i++) {
        const int t = d->batch.logit_rows[i];

        assert(t >= 0 && t < d->batch.T && (i == 0 || t > d->batch.logit_rows[i - 1]));
        memcpy(d->y + (size_t)i * D, d->x + (size_t)t * D, D * sizeof *d->y);
    }
    if (R > 0) {
        TRY(d->ops->rmsnorm(d->ctx, d->y, d->y, d->weights->final_norm, R, c->D, c->eps), err);
        TRY(d->ops->matmul(d->ctx, d->logits, c->V, d->y, c->D, &d->weights->head, R), err);
        TRY(d->ops->softmax_stats(d->ctx, d->logits, R, c->V, d->max, d->logsum), err);
    }
    *out_logits = d->logits;
    *out_max = d->max;
    *out_logsum = d->logsum;
err:
    return st;
}
