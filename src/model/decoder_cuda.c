/*
 * decoder_cuda.c - one forward pass of a decoder on a GPU: the flow of decoder.c as launches on one
 * stream.
 *
 *   pinned ═ tokens, positions, tables ═► device
 *   x = embed;  L times:
 *     x ─ norm ─ qkv ─ rope, KV blocks ─ attention ─ o ─► y
 *     x + y ─► x ─ norm ─ gate, up ─ act * ─ down ─► y       (and the next layer adds that)
 *                  └ or ─ router ─ experts of each row; 64 rows at a time:
 *                           gathered by expert ─ gate, up ─ act * ─ down ─ weighted sums ─► y
 *   x + y ─► x ─ norm ─ wanted rows ─ head ─► logits, figures ─► tokens    figures, tokens and the
 *                                             logits of the other rows ═► pinned
 *
 * What a block adds is left in y; whoever reads x next adds it, in the same launch (read_x). Norms,
 * biases, windows, factors and caps are where decoder.c has them.  The residual stream is float32,
 * what a matmul reads bf16.
 *
 * Prompts and answers have kernels of their own for attention and for the matmuls of layers: those
 * of prompts are a library's, over fixed chunks, those of answers, and the head, the decode
 * kernel's, 64 rows at a time.  The phase says which, never the number of rows, so that a
 * position's bits do not depend on the schedule.  Routers and experts have the decode kernels in
 * both phases: 64 rows at a time, so that no expert has more than they take.
 *
 * engine_cuda.c calls this.  Nothing here waits for the device, unless the driver has no room for
 * so many launches.
 */
#include <assert.h>
#include <math.h>

#include "model/decoder_cuda.h"

/* ---- a layer ------------------------------------------------------------------------------- */

/* out [T, n_out] = x [T, n_in] W^T + bias, if there is one: for answers and the head. */
static enum status multiply_few(const struct decoder_cuda *d, float *out, const uint16_t *x, int T,
                                const struct matrix_cuda *w, const float *bias)
{
    enum status st = ST_OK;

    for (int t = 0; t < T; t += MATMUL_ROWS) {
        const struct k_matmul_args args = {
            .out = out + (size_t)t * (size_t)w->n_out,
            .x = x + (size_t)t * (size_t)w->n_in,
            .w = w->data,
            .bias = bias,
            .work = d->work,
            .ldw = w->n_in,
            .ldx = w->n_in,
            .ldo = w->n_out,
            .T = T - t < MATMUL_ROWS ? T - t : MATMUL_ROWS,
            .N = w->n_out,
            .n_in = w->n_in,
        };

        TRY(ops_cuda_check(d->cuda, d->cuda->kernels->matmul(d->stream, &args),
                           "matmul (T %d, N %d, inputs %d)", args.T, args.N, args.n_in),
            err);
    }
err:
    return st;
}

/* The same of a layer's matrix, as the phase has it. */
static enum status multiply(const struct decoder_cuda *d, float *out, const uint16_t *x,
                            const struct matrix_cuda *w, const float *bias, int matrix)
{
    const struct k_matmul_prefill_args args = {
        .plan = d->plans[matrix],
        .out = out,
        .x = x,
        .w = w->data,
        .bias = bias,
        .T = d->batch.T,
    };

    if (!d->of_prompts)
        return multiply_few(d, out, x, args.T, w, bias);
    return ops_cuda_check(d->cuda, d->cuda->kernels->matmul_prefill(d->stream, &args),
                          "matmul_prefill (T %d, N %d, inputs %d)", args.T, w->n_out, w->n_in);
}

static enum status normalise(const struct decoder_cuda *d, const struct k_rmsnorm_args *args)
{
    return ops_cuda_check(d->cuda, d->cuda->kernels->rmsnorm(d->stream, args),
                          "rmsnorm (T %d, D %d)", args->T, args->D);
}

/* Add what the block before has made to x; normed = x as the next block reads it: normalised by w,
 * or just rounded where that is NULL. */
static enum status read_x(struct decoder_cuda *d, const float *w)
{
    const struct k_rmsnorm_args args = {
        .out = d->normed,
        .x = d->x,
        .add = d->y_waits ? d->y : NULL,
        .w = w,
        .T = d->batch.T,
        .D = d->config.D,
        .eps = d->config.eps,
        .add_scale = d->residual_scale,
    };

    d->y_waits = false;
    return normalise(d, &args);
}

/* A block has left what it adds in y; w NULL: as it is. */
static enum status leave_y(struct decoder_cuda *d, const float *w)
{
    const struct k_rmsnorm_args args = {
        .out_f32 = d->y,
        .x = d->y,
        .w = w,
        .T = d->batch.T,
        .D = d->config.D,
        .eps = d->config.eps,
    };

    d->y_waits = true;
    return w != NULL ? normalise(d, &args) : ST_OK;
}

/* Norms of the query heads, or of the key heads, that begin at x. */
static enum status norm_heads(const struct decoder_cuda *d, float *x, const float *w, int n_heads)
{
    const struct model_config *c = &d->config;
    const bool all = c->qk_norm == QK_NORM_ALL; /* as if they were one head */
    const struct k_rmsnorm_heads_args args = {
        .x = x,
        .w = w,
        .ldx = (c->H + 2 * c->K) * c->E,
        .T = d->batch.T,
        .n_heads = all ? 1 : n_heads,
        .E = all ? n_heads * c->E : c->E,
        .eps = c->eps,
    };

    return ops_cuda_check(d->cuda, d->cuda->kernels->rmsnorm_heads(d->stream, &args),
                          "rmsnorm_heads (T %d, %d heads of %d)", args.T, args.n_heads, args.E);
}

/* Keys and values of the new tokens, into their blocks. */
static enum status layer_kv(struct decoder_cuda *d, const struct layer_cuda *w, unsigned traits,
                            const struct ops_kv *kv)
{
    enum status st;
    const struct model_config *c = &d->config;
    const float *angles = (traits & LAYER_WINDOW) != 0 ? d->rope_window : d->rope;
    const struct k_rope_kv_args args = {
        .q = d->q,
        .kv = kv->base,
        .qkv = d->qkv,
        .angles = (traits & LAYER_NO_ROPE) != 0 ? NULL : angles,
        .pos = d->device.pos,
        .seq = d->device.seq,
        .tables = d->device.tables,
        .ld_tables = d->ld_tables,
        .T = d->batch.T,
        .H = c->H,
        .K = c->K,
        .E = c->E,
        .P = kv->P,
    };

    TRY(read_x(d, w->attn_norm), err);
    TRY(multiply(d, d->qkv, d->normed, &w->qkv, w->qkv_bias, MATRIX_QKV), err);
    if (c->qk_norm != QK_NORM_NONE) {
        TRY(norm_heads(d, d->qkv, w->q_norm, c->H), err);
        TRY(norm_heads(d, d->qkv + c->H * c->E, w->k_norm, c->K), err);
    }
    st = ops_cuda_check(d->cuda, d->cuda->kernels->rope_kv(d->stream, &args),
                        "rope_kv (T %d, H %d, K %d, E %d, P %d)", args.T, args.H, args.K, args.E,
                        args.P);
err:
    return st;
}

static float attn_scale(const struct model_config *c)
{
    return (float)(c->attn_scale > 0 ? c->attn_scale : 1.0 / sqrt((double)c->E));
}

static enum status attend_prompts(const struct decoder_cuda *d, int window, const struct ops_kv *kv)
{
    const struct model_config *c = &d->config;
    struct k_prefill_args args = {
        .out = d->attn,
        .q = d->q,
        .kv = kv->base,
        .tables = d->device.tables,
        .pos0 = d->device.pos0,
        .n_tok = d->device.n_tok,
        .row0 = d->device.row0,
        .ld_tables = d->ld_tables,
        .B = d->batch.B,
        .T = d->batch.T,
        .H = c->H,
        .K = c->K,
        .E = c->E,
        .P = kv->P,
        .window = window,
        .scale = attn_scale(c),
        .softcap = (float)c->attn_softcap,
    };

    for (int b = 0; b < args.B; b++)
        args.max_tok = d->host.n_tok[b] > args.max_tok ? d->host.n_tok[b] : args.max_tok;
    return ops_cuda_check(d->cuda, d->cuda->kernels->prefill(d->stream, &args),
                          "prefill (B %d, T %d, H %d, K %d, E %d, P %d, up to %d tokens)", args.B,
                          args.T, args.H, args.K, args.E, args.P, args.max_tok);
}

/* Row t is the one new token of sequence t. */
static enum status attend_answers(const struct decoder_cuda *d, int window, const struct ops_kv *kv)
{
    enum status st = ST_OK;
    const struct model_config *c = &d->config;
    const size_t HE = (size_t)c->H * (size_t)c->E;
    const int B = d->batch.B;

    for (int b = 0; b < B; b += ATTEND_ROWS) {
        struct k_attention_args args = {
            .out = d->attn + (size_t)b * HE,
            .q = d->q + (size_t)b * HE,
            .kv = kv->base,
            .pos = d->device.pos + b,
            .tables = d->device.tables + (ptrdiff_t)b * d->ld_tables,
            .work = d->work,
            .ld_tables = d->ld_tables,
            .B = B - b < ATTEND_ROWS ? B - b : ATTEND_ROWS,
            .H = c->H,
            .K = c->K,
            .E = c->E,
            .P = kv->P,
            .window = window,
            .scale = attn_scale(c),
            .softcap = (float)c->attn_softcap,
        };

        for (int i = 0; i < args.B; i++)
            if (d->host.pos[b + i] > args.max_pos)
                args.max_pos = d->host.pos[b + i];
        TRY(ops_cuda_check(d->cuda, d->cuda->kernels->attention(d->stream, &args),
                           "attention (B %d, H %d, K %d, E %d, P %d, positions to %d)", args.B,
                           args.H, args.K, args.E, args.P, args.max_pos),
            err);
    }
err:
    return st;
}

static enum status layer_attend(struct decoder_cuda *d, const struct layer_cuda *w, unsigned traits,
                                const struct ops_kv *kv)
{
    enum status st;
    const int window = (traits & LAYER_WINDOW) != 0 ? d->config.window : 0;

    TRY(d->of_prompts ? attend_prompts(d, window, kv) : attend_answers(d, window, kv), err);
    TRY(multiply(d, d->y, d->attn, &w->o, w->o_bias, MATRIX_O), err);
    st = leave_y(d, w->attn_post_norm);
err:
    return st;
}

/* hidden = act(gate) * up of n_rows rows of gate_up. */
static enum status gate(const struct decoder_cuda *d, int n_rows)
{
    const struct k_gated_args args = {
        .out = d->hidden,
        .gate_up = d->gate_up,
        .T = n_rows,
        .F = d->config.F,
        .gelu = d->config.activation == ACTIVATION_GELU,
    };

    return ops_cuda_check(d->cuda, d->cuda->kernels->gated(d->stream, &args), "gated (T %d, F %d)",
                          args.T, args.F);
}

/* Which experts each row of normed goes to, and with what weight. */
static enum status route(const struct decoder_cuda *d, const struct layer_cuda *w)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct k_route_args args = {
        .experts = d->experts,
        .weights = d->expert_weights,
        .logits = d->router,
        .T = d->batch.T,
        .X = c->X,
        .n_used = c->n_used_experts,
        .normalise = c->normalise_experts,
    };

    TRY(multiply_few(d, d->router, d->normed, args.T, &w->router, NULL), err);
    st = ops_cuda_check(d->cuda, d->cuda->kernels->route(d->stream, &args),
                        "route (T %d, %d of %d experts)", args.T, args.n_used, args.X);
err:
    return st;
}

/* The rows of T tokens from t on, into slots: side by side with those of the same expert. */
static enum status gather_slots(const struct decoder_cuda *d, int t, int T)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct k_assign_args assign = {
        .slots = d->slots,
        .first = d->first,
        .experts = d->experts + (ptrdiff_t)t * c->n_used_experts,
        .T = T,
        .X = c->X,
        .n_used = c->n_used_experts,
    };
    const struct k_gather_args args = {
        .out = d->gathered,
        .x = d->normed + (ptrdiff_t)t * c->D,
        .slots = d->slots,
        .T = T,
        .n_used = c->n_used_experts,
        .D = c->D,
    };

    TRY(ops_cuda_check(d->cuda, d->cuda->kernels->assign(d->stream, &assign),
                       "assign (T %d, %d of %d experts)", T, assign.n_used, assign.X),
        err);
    st = ops_cuda_check(d->cuda, d->cuda->kernels->gather(d->stream, &args),
                        "gather (T %d, %d experts, D %d)", T, args.n_used, args.D);
err:
    return st;
}

/* out = the slots of T tokens, x, each times its expert's matrix. */
static enum status multiply_slots(const struct decoder_cuda *d, float *out, const uint16_t *x,
                                  const struct matrix_cuda *w, int T)
{
    const struct k_matmul_experts_args args = {
        .out = out,
        .x = x,
        .w = w->data,
        .first = d->first,
        .work = d->work,
        .expert_elems = (int64_t)matrix_cuda_elems(w),
        .n_rows = T * d->config.n_used_experts,
        .max_rows = T,
        .X = d->config.X,
        .N = w->n_out,
        .n_in = w->n_in,
    };

    return ops_cuda_check(d->cuda, d->cuda->kernels->matmul_experts(d->stream, &args),
                          "matmul_experts (%d rows of %d tokens, %d experts, N %d, inputs %d)",
                          args.n_rows, T, args.X, args.N, args.n_in);
}

/* y of T tokens from t on = what their experts made of them, weighted, in the order of their ids.
 */
static enum status combine(const struct decoder_cuda *d, int t, int T)
{
    const struct model_config *c = &d->config;
    const struct k_combine_args args = {
        .out = d->y + (ptrdiff_t)t * c->D,
        .rows = d->expert_rows,
        .weights = d->expert_weights + (ptrdiff_t)t * c->n_used_experts,
        .at = d->slots,
        .T = T,
        .n_used = c->n_used_experts,
        .D = c->D,
    };

    return ops_cuda_check(d->cuda, d->cuda->kernels->combine(d->stream, &args),
                          "combine (T %d, %d experts, D %d)", T, args.n_used, args.D);
}

static enum status experts(const struct decoder_cuda *d, const struct layer_cuda *w)
{
    enum status st;

    TRY(route(d, w), err);
    for (int t = 0; t < d->batch.T; t += EXPERTS_TOK) {
        const int left = d->batch.T - t, T = left < EXPERTS_TOK ? left : EXPERTS_TOK;

        TRY(gather_slots(d, t, T), err);
        TRY(multiply_slots(d, d->gate_up, d->gathered, &w->gate_up, T), err);
        TRY(gate(d, T * d->config.n_used_experts), err);
        TRY(multiply_slots(d, d->expert_rows, d->hidden, &w->down, T), err);
        TRY(combine(d, t, T), err);
    }
err:
    return st;
}

static enum status layer_ffn(struct decoder_cuda *d, const struct layer_cuda *w)
{
    enum status st;

    TRY(read_x(d, w->ffn_norm), err);
    if (d->config.X > 0) {
        TRY(experts(d, w), err);
    } else {
        TRY(multiply(d, d->gate_up, d->normed, &w->gate_up, NULL, MATRIX_GATE_UP), err);
        TRY(gate(d, d->batch.T), err);
        TRY(multiply(d, d->y, d->hidden, &w->down, NULL, MATRIX_DOWN), err);
    }
    st = leave_y(d, w->ffn_post_norm);
err:
    return st;
}

static enum status layer(struct decoder_cuda *d, int l)
{
    enum status st;
    const struct layer_cuda *w = &d->weights->layers[l];
    const struct ops_kv kv = kv_space_layer(&d->space, l);
    const unsigned traits = d->config.layers[l];

    TRY(layer_kv(d, w, traits, &kv), err);
    TRY(decoder_cuda_record(d, d->kv_events[l]), err);
    TRY(layer_attend(d, w, traits, &kv), err);
    st = layer_ffn(d, w);
err:
    return st;
}

/* ---- a pass -------------------------------------------------------------------------------- */

/* What k_sample does for a row; without a pick the least, and nobody looks. */
static struct k_sample_row draw_of(const struct decoder_cuda_pick *pick)
{
    const struct sampler_params *params = pick->params;

    if (params == NULL)
        return (struct k_sample_row){.temperature = 0, .top_p = 1};
    return (struct k_sample_row){
        .temperature = params->temperature,
        .top_p = params->top_p,
        .min_p = params->min_p,
        .seed = params->seed,
        .row = params->row,
        .sample = (uint32_t)params->sample,
        .top_k = params->top_k,
        .position = pick->position,
    };
}

/* The step's arrays, by pinned memory; the tables side by side, as wide as the longest. */
static enum status bring(struct decoder_cuda *d, const struct decoder_batch *batch,
                         const struct decoder_cuda_pick *picks)
{
    const int P = d->space.layout.P;
    int longest = 0;

    for (int b = 0; b < batch->B; b++) {
        const struct ops_seq *seq = &batch->seqs[b];
        const int n = (seq->pos0 + seq->n_tok + P - 1) / P;

        assert(seq->pos0 + seq->n_tok <= d->context);
        longest = n > longest ? n : longest;
    }
    d->ld_tables = longest;
    const size_t T = (size_t)batch->T, B = (size_t)batch->B, R = (size_t)batch->n_logit_rows;
    const size_t n_ids = B * (size_t)longest;
    const size_t n_bytes = decoder_cuda_place(d->host_arrays, T, B, R, n_ids, &d->host);
    (void)decoder_cuda_place(d->arrays, T, B, R, n_ids, &d->device);

    memcpy(d->host.tokens, batch->tokens, T * sizeof *d->host.tokens);
    memcpy(d->host.rows, batch->logit_rows, R * sizeof *d->host.rows);
    d->any_picked = false;
    for (int r = 0; r < batch->n_logit_rows; r++) {
        const struct decoder_cuda_pick pick =
            picks != NULL ? picks[r] : (struct decoder_cuda_pick){.params = NULL};

        d->host.draws[r] = draw_of(&pick);
        d->any_picked = d->any_picked || pick.params != NULL;
    }
    for (int b = 0; b < batch->B; b++) {
        const struct ops_seq *seq = &batch->seqs[b];
        int32_t *table = d->host.tables + (ptrdiff_t)b * longest;
        const int n = (seq->pos0 + seq->n_tok + P - 1) / P;

        for (int i = 0; i < seq->n_tok; i++) {
            d->host.pos[seq->row0 + i] = seq->pos0 + i;
            d->host.seq[seq->row0 + i] = b;
        }
        d->host.pos0[b] = seq->pos0;
        d->host.n_tok[b] = seq->n_tok;
        d->host.row0[b] = seq->row0;
        for (int i = 0; i < longest; i++)
            table[i] = i < n ? seq->blocks[i] : -1;
    }
    return decoder_cuda_copy(d, d->arrays, d->host_arrays, n_bytes);
}

static enum status embed(struct decoder_cuda *d)
{
    const struct k_embed_args args = {
        .out = d->x,
        .table = d->weights->embed.data,
        .ids = d->device.tokens,
        .T = d->batch.T,
        .D = d->config.D,
        .scale = d->embed_scale,
    };

    d->y_waits = false;
    return ops_cuda_check(d->cuda, d->cuda->kernels->embed(d->stream, &args), "embed (T %d, D %d)",
                          args.T, args.D);
}

/* wanted = the rows of normed whose logits are wanted: rows are blocks of D elements. */
static enum status gather(const struct decoder_cuda *d)
{
    const struct k_kv_copy_args args = {
        .packed = d->wanted,
        .pool = d->normed,
        .ids = d->device.rows,
        .n = d->batch.n_logit_rows,
        .n_layers = 1,
        .block_elems = d->config.D,
    };

    return ops_cuda_check(d->cuda, d->cuda->kernels->kv_copy(d->stream, &args),
                          "kv_copy (%d rows of %d)", args.n, d->config.D);
}

/* picked = a token of each row. */
static enum status pick_tokens(const struct decoder_cuda *d)
{
    enum status st = ST_OK;
    const int R = d->batch.n_logit_rows, V = d->config.V;

    for (int r = 0; r < R; r += SAMPLE_ROWS) {
        const struct k_sample_args args = {
            .out = d->picked + r,
            .logits = d->logits + (ptrdiff_t)r * V,
            .max = d->max + r,
            .id = d->best + r,
            .rows = d->device.draws + r,
            .work = (uint64_t *)(void *)d->work,
            .T = R - r < SAMPLE_ROWS ? R - r : SAMPLE_ROWS,
            .V = V,
        };

        TRY(ops_cuda_check(d->cuda, d->cuda->kernels->sample(d->stream, &args),
                           "sample (T %d, V %d)", args.T, V),
            err);
    }
err:
    return st;
}

static bool is_picked(const struct decoder_cuda_pick *picks, int r)
{
    return picks != NULL && picks[r].params != NULL;
}

/* Figures, tokens, and the logits of rows that have no token yet: side by side, in one piece. */
static enum status take_back(const struct decoder_cuda *d, const struct decoder_cuda_pick *picks)
{
    enum status st = ST_OK;
    const int R = d->batch.n_logit_rows;
    const size_t V = (size_t)d->config.V, row_bytes = (size_t)R * sizeof(float);

    for (int r = 0, n; r < R; r += n) {
        for (n = 1; r + n < R && is_picked(picks, r + n) == is_picked(picks, r); n++)
            ;
        if (!is_picked(picks, r))
            TRY(decoder_cuda_copy(d, d->host_logits + (size_t)r * V, d->logits + (size_t)r * V,
                                  (size_t)n * V * sizeof *d->logits),
                err);
    }
    TRY(decoder_cuda_copy(d, d->host_max, d->max, row_bytes), err);
    TRY(decoder_cuda_copy(d, d->host_logsum, d->logsum, row_bytes), err);
    if (d->any_picked)
        TRY(decoder_cuda_copy(d, d->host_picked, d->picked, (size_t)R * sizeof *d->picked), err);
err:
    return st;
}

static enum status end(struct decoder_cuda *d, const struct decoder_cuda_pick *picks)
{
    enum status st = ST_OK;
    const struct model_config *c = &d->config;
    const int R = d->batch.n_logit_rows;
    const struct k_logits_args args = {
        .logits = d->logits,
        .out_max = d->max,
        .out_logsum = d->logsum,
        .out_id = d->best,
        .work = d->work,
        .T = R,
        .V = c->V,
        .scale = (float)c->logit_scale,
        .softcap = (float)c->final_softcap,
    };

    if (R > 0) {
        TRY(read_x(d, d->weights->final_norm), err);
        TRY(gather(d), err);
        TRY(multiply_few(d, d->logits, d->wanted, R, &d->weights->head, NULL), err);
        TRY(ops_cuda_check(d->cuda, d->cuda->kernels->logits(d->stream, &args),
                           "logits (T %d, V %d)", args.T, args.V),
            err);
        if (d->any_picked)
            TRY(pick_tokens(d), err);
        TRY(take_back(d, picks), err);
    }
    st = decoder_cuda_record(d, d->end_event);
err:
    return st;
}

enum status decoder_cuda_submit(struct decoder_cuda *d, const struct decoder_batch *batch,
                                const struct decoder_cuda_pick *picks, bool of_prompts)
{
    enum status st;

    assert(batch->T > 0 && batch->T <= d->max_T && batch->B > 0 && batch->B <= d->max_B);
    assert(batch->n_logit_rows >= 0 && batch->n_logit_rows <= d->max_logit_rows);
    assert(batch->inputs == NULL && batch->positions == NULL);
    assert(of_prompts || batch->T == batch->B);
    TRY(bring(d, batch, picks), err);
    d->batch =
        (struct decoder_batch){.T = batch->T, .B = batch->B, .n_logit_rows = batch->n_logit_rows};
    d->of_prompts = of_prompts;
    TRY(embed(d), err);
    for (int l = 0; l < d->config.L; l++)
        TRY(layer(d, l), err);
    st = end(d, picks);
err:
    return st;
}

static enum status query(const struct decoder_cuda *d, void *event, bool *out_done)
{
    int done = 0;
    const int error = d->cuda->kernels->event_query(event, &done);

    *out_done = done != 0;
    return ops_cuda_check(d->cuda, error,
                          "a step of %d tokens of %d sequences (CUDA_LAUNCH_BLOCKING=1 tells the "
                          "kernel)",
                          d->batch.T, d->batch.B);
}

enum status decoder_cuda_layer_done(struct decoder_cuda *d, int l, bool *out_done)
{
    return query(d, d->kv_events[l], out_done);
}

enum status decoder_cuda_done(struct decoder_cuda *d, bool *out_done)
{
    return query(d, d->end_event, out_done);
}

void decoder_cuda_logits(const struct decoder_cuda *d, const float **out_logits,
                         const float **out_max, const float **out_logsum)
{
    *out_logits = d->host_logits;
    *out_max = d->host_max;
    *out_logsum = d->host_logsum;
}

const int32_t *decoder_cuda_tokens(const struct decoder_cuda *d)
{
    return d->host_picked;
}
