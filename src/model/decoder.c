/*
 * decoder.c - one forward pass of a decoder of any family, over many sequences at once.
 *
 *   tokens ─ embed ─► x ─┬─ norm ─ qkv ─ rope ─ KV blocks ─ attention ─ o ─┬─ + ─► x    L times
 *                        ├─ norm ─ gate, up ─ act * ─ down ────────────────┴─ + ─► x
 *                        └─ wanted rows ─ norm ─ head ─► logits
 *
 * struct model_config says what else there is, or is not: norms of q and k before the rotation and
 * of what a block adds; windows, rotations and soft caps of attention; factors of embeddings, of
 * what is added and of logits; experts in the second half of a layer (decoder_ffn.c).  qkv and o
 * may be followed by biases: float32 values, rounded to bf16 where the weights are, added to the
 * float32 sums.  What a model does not have costs nothing.
 *
 * The rows of a step are tokens, whichever sequence they are of; only attention and KV know the
 * sequences.  Every operation gives a row bits that do not depend on the other rows (ops.h), so
 * neither do the logits.  The residual stream x is float32.  The engine calls this.
 */
#include <assert.h>
#include <math.h>

#include "model/decoder.h"
#include "model/pack.h"
#include "model/rope.h"

/* ---- create, destroy ----------------------------------------------------------------------- */

/* Place the arrays from base on, or only count when base is NULL.  Returns the bytes needed. */
static size_t lay_out(struct decoder *d, uint8_t *base)
{
    const struct model_config *c = &d->config;
    const size_t T = (size_t)d->max_T, R = (size_t)d->max_logit_rows;
    const size_t X = (size_t)c->X, T_used = X > 0 ? T * (size_t)c->n_used_experts : 0;
    const size_t T_ffn = X > 0 ? T_used : T;
    const size_t n_window = c->rope_window.base > 0 ? (size_t)d->context : 0;
    struct carver carver = {.base = base};

    d->rope = carve(&carver, (size_t)d->context * (size_t)c->E * sizeof *d->rope);
    d->x = carve(&carver, T * (size_t)c->D * sizeof *d->x);
    d->y = carve(&carver, T * (size_t)c->D * sizeof *d->y);
    d->qkv = carve(&carver, T * (size_t)((c->H + 2 * c->K) * c->E) * sizeof *d->qkv);
    d->attn = carve(&carver, T * (size_t)(c->H * c->E) * sizeof *d->attn);
    d->gate_up = carve(&carver, T_ffn * 2 * (size_t)c->F * sizeof *d->gate_up);
    d->hidden = carve(&carver, T_ffn * (size_t)c->F * sizeof *d->hidden);
    d->logits = carve(&carver, R * (size_t)c->V * sizeof *d->logits);
    d->max = carve(&carver, R * sizeof *d->max);
    d->logsum = carve(&carver, R * sizeof *d->logsum);
    d->rope_window = carve(&carver, n_window * (size_t)c->E * sizeof *d->rope_window);
    d->router = carve(&carver, T * X * sizeof *d->router);
    d->expert_weights = carve(&carver, T_used * sizeof *d->expert_weights);
    d->gathered = carve(&carver, T_used * (size_t)c->D * sizeof *d->gathered);
    d->pos = carve(&carver, T * sizeof *d->pos);
    d->experts = carve(&carver, T_used * sizeof *d->experts);
    d->slots = carve(&carver, T_used * sizeof *d->slots);
    d->first_slot = carve(&carver, (X + 1) * sizeof *d->first_slot);
    return carver.n_bytes;
}

size_t decoder_position_bytes(const struct model_config *config)
{
    return (config->rope_window.base > 0 ? 2 : 1) * (size_t)config->E * sizeof(float);
}

/* A factor of the configuration, where 0 stands for none. */
static float factor(double value)
{
    return value != 0 ? (float)value : 1.0f;
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
    d->embed_scale = factor(d->config.embed_scale);
    if (d->config.embed_scale_rounded && d->weights->type != OPS_F32)
        d->embed_scale = f32_from_bf16(bf16_from_f32(d->embed_scale));
    d->residual_scale = factor(d->config.residual_scale);
    TRY(ops_ctx_create(args->threads, &d->ctx), err);

    st = ST_NOMEM;
    d->pages_bytes = lay_out(d, NULL);
    d->pages = pages_map(d->pages_bytes);
    if (d->pages == NULL)
        goto err;
    lay_out(d, d->pages);
    rope_table_fill(d->rope, d->context, d->config.E, &d->config.rope);
    if (d->config.rope_window.base > 0)
        rope_table_fill(d->rope_window, d->context, d->config.E, &d->config.rope_window);
    else
        d->rope_window = d->rope;
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
    float *x = d->x + (size_t)t * (size_t)d->config.D;

    (void)thread;
    if (d->batch.inputs != NULL && d->batch.inputs[t] != NULL) {
        memcpy(x, d->batch.inputs[t], (size_t)d->config.D * sizeof *x);
        return;
    }
    ops_matrix_get_row(&d->weights->embed, d->batch.tokens[t], x);
    for (int i = 0; d->embed_scale != 1.0f && i < d->config.D; i++)
        x[i] *= d->embed_scale;
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
    for (int t = 0; t < 3 * T && batch->positions != NULL; t++) {
        assert(batch->positions[t] >= 0 && batch->positions[t] < d->context);
        d->pos[t / 3] = batch->positions[t / 3 * 3];
    }
    for (int t = 0; t < T; t++)
        assert(batch->tokens[t] >= 0 && batch->tokens[t] < d->config.V);

    d->batch = *batch;
    d->next_layer = 0;
    d->next_part = DECODER_KV;
    threads_run(d->threads, T, embed_row, d);
    return ST_OK;
}

enum status decoder_add(struct decoder *d)
{
    const int64_t n = (int64_t)d->batch.T * d->config.D;

    if (d->residual_scale != 1.0f)
        return d->ops->add_scaled(d->ctx, d->x, d->y, n, d->residual_scale);
    return d->ops->add(d->ctx, d->x, d->y, n);
}

/* Turn query and key heads, by the places of their tokens or by the positions that they come with.
 */
static enum status turn(struct decoder *d, int ld, const float *table)
{
    const struct model_config *c = &d->config;
    const int *sections = c->mrope;

    if (d->batch.positions != NULL && sections[0] + sections[1] + sections[2] > 0)
        return d->ops->rope_sections(d->ctx, d->qkv, ld, d->batch.positions, sections, table,
                                     d->batch.T, c->H + c->K, c->E);
    return d->ops->rope(d->ctx, d->qkv, ld, d->pos, table, d->batch.T, c->H + c->K, c->E);
}

static enum status norm_q_k(struct decoder *d, const struct layer_weights *w, int ld)
{
    enum status st;
    const struct model_config *c = &d->config;
    const bool all = c->qk_norm == QK_NORM_ALL; /* as if they were one head */
    const int T = d->batch.T, H = c->H, K = c->K, E = c->E;

    TRY(d->ops->rmsnorm_heads(d->ctx, d->qkv, ld, w->q_norm, T, all ? 1 : H, all ? H * E : E,
                              c->eps),
        err);
    st = d->ops->rmsnorm_heads(d->ctx, d->qkv + H * E, ld, w->k_norm, T, all ? 1 : K,
                               all ? K * E : E, c->eps);
err:
    return st;
}

/* Keys and values of the new tokens, into their blocks. */
static enum status layer_kv(struct decoder *d, const struct layer_weights *w, unsigned traits,
                            const struct ops_kv *kv)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct ops *ops = d->ops;
    const int T = d->batch.T, H = c->H, K = c->K, E = c->E;
    const int ld = (H + 2 * K) * E; /* a row of qkv: H query, K key, K value heads */
    const float *in = d->x, *table = (traits & LAYER_WINDOW) != 0 ? d->rope_window : d->rope;

    if (w->attn_norm != NULL) {
        TRY(ops->rmsnorm(d->ctx, d->y, d->x, w->attn_norm, T, c->D, c->eps), err);
        in = d->y;
    }
    TRY(ops->matmul(d->ctx, d->qkv, ld, in, c->D, &w->qkv, T), err);
    if (c->qkv_bias)
        TRY(ops->add_row(d->ctx, d->qkv, w->qkv_bias, T, ld), err);
    if (c->qk_norm != QK_NORM_NONE)
        TRY(norm_q_k(d, w, ld), err);
    if ((traits & LAYER_NO_ROPE) == 0)
        TRY(turn(d, ld, table), err);
    st = ops->kv_store(d->ctx, kv, d->batch.seqs, d->batch.B, d->qkv + H * E, d->qkv + (H + K) * E,
                       ld);
err:
    return st;
}

static enum status layer_attend(struct decoder *d, const struct layer_weights *w, unsigned traits,
                                const struct ops_kv *kv)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct ops *ops = d->ops;
    const int T = d->batch.T, D = c->D, H = c->H, E = c->E;
    const struct ops_attention how = {
        .scale = (float)(c->attn_scale > 0 ? c->attn_scale : 1.0 / sqrt((double)E)),
        .softcap = (float)c->attn_softcap,
        .window = (traits & LAYER_WINDOW) != 0 ? c->window : 0,
    };

    TRY(ops->attention(d->ctx, d->attn, d->qkv, (H + 2 * c->K) * E, H, kv, d->batch.seqs,
                       d->batch.B, &how),
        err);
    TRY(ops->matmul(d->ctx, d->y, D, d->attn, H * E, &w->o, T), err);
    if (c->o_bias)
        TRY(ops->add_row(d->ctx, d->y, w->o_bias, T, D), err);
    if (w->attn_post_norm != NULL)
        TRY(ops->rmsnorm(d->ctx, d->y, d->y, w->attn_post_norm, T, D, c->eps), err);
    st = decoder_add(d);
err:
    return st;
}

enum status decoder_part(struct decoder *d, int layer, enum decoder_part part,
                         const struct kv_space *space)
{
    enum status st = ST_OK;
    const struct layer_weights *w = &d->weights->layers[layer];
    const struct ops_kv kv = kv_space_layer(space, layer);
    const unsigned traits = d->config.layers[layer];

    assert(layer == d->next_layer && part == d->next_part);
    assert(kv.K == d->config.K && kv.E == d->config.E);
    switch (part) {
    case DECODER_KV:
        TRY(layer_kv(d, w, traits, &kv), err);
        break;
    case DECODER_ATTEND:
        TRY(layer_attend(d, w, traits, &kv), err);
        break;
    case DECODER_GATE:
        TRY(decoder_ffn_gate(d, w), err);
        break;
    default:
        assert(part == DECODER_DOWN);
        TRY(decoder_ffn_down(d, w), err);
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
        if (c->logit_scale != 0)
            TRY(d->ops->scale(d->ctx, d->logits, (int64_t)R * c->V, (float)c->logit_scale), err);
        if (c->final_softcap != 0)
            TRY(d->ops->softcap(d->ctx, d->logits, (int64_t)R * c->V, (float)c->final_softcap),
                err);
        TRY(d->ops->softmax_stats(d->ctx, d->logits, R, c->V, d->max, d->logsum), err);
    }
    *out_logits = d->logits;
    *out_max = d->max;
    *out_logsum = d->logsum;
err:
    return st;
}
