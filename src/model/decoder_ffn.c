/*
 * decoder_ffn.c - the feed-forward half of a layer.
 *
 *   one:      y ─ gate, up ─ act * ─ down ─► y
 *   experts:  y ─ router ─ the n most likely of X experts for each row
 *               └─ rows gathered by expert ─ gate, up ─ act * ─ down     one expert after another
 *                    └─ for each row its experts' rows, weighted, in the order of their ids ─► y
 *
 * A row's experts follow from the row alone, each expert's matmuls give a row bits that do not
 * depend on its other rows (ops.h), and the sum has a fixed order: so a row's result does not
 * depend on what else is in the step.  decoder.c calls this.
 */
#include "model/decoder.h"

static enum status act_mul(struct decoder *d, float *hidden, const float *gate_up, int T)
{
    const struct ops *ops = d->ops;

    if (d->config.activation == ACTIVATION_GELU)
        return ops->gelu_mul(d->ctx, hidden, gate_up, T, d->config.F);
    return ops->silu_mul(d->ctx, hidden, gate_up, T, d->config.F);
}

/* ---- experts -------------------------------------------------------------------------------- */

/* Slots of all rows in `gathered`: those of expert 0 first, rows ascending. */
static void assign_slots(struct decoder *d)
{
    const int X = d->config.X, n = d->batch.T * d->config.n_used_experts;
    int32_t *first = d->first_slot;

    memset(first, 0, ((size_t)X + 1) * sizeof *first);
    for (int i = 0; i < n; i++)
        first[d->experts[i] + 1]++;
    for (int x = 0; x < X; x++)
        first[x + 1] += first[x];
    for (int i = 0; i < n; i++) /* afterwards first[x] is where x + 1 begins */
        d->slots[i] = first[d->experts[i]]++;
    memmove(first + 1, first, (size_t)X * sizeof *first);
    first[0] = 0;
}

struct gathering {
    const struct decoder *d;
    const float *from; /* [T, D] */
};

static void gather_row(void *arg, int t, int thread)
{
    const struct gathering *g = arg;
    const struct decoder *d = g->d;
    const size_t D = (size_t)d->config.D;
    const int n = d->config.n_used_experts;

    (void)thread;
    for (int i = t * n; i < (t + 1) * n; i++)
        memcpy(d->gathered + (size_t)d->slots[i] * D, g->from + (size_t)t * D, D * sizeof(float));
}

static enum status experts_gate(struct decoder *d, const struct layer_weights *w, const float *in)
{
    enum status st;
    const struct model_config *c = &d->config;
    const struct ops *ops = d->ops;
    const int T = d->batch.T, D = c->D, F = c->F;
    struct gathering gathering = {d, in};

    TRY(ops->matmul(d->ctx, d->router, c->X, in, D, &w->router, T), err);
    TRY(ops->route(d->ctx, d->router, T, c->X, c->n_used_experts, c->normalise_experts, d->experts,
                   d->expert_weights),
        err);
    assign_slots(d);
    threads_run(d->threads, T, gather_row, &gathering);
    for (int x = 0; x < c->X; x++) {
        const size_t at = (size_t)d->first_slot[x];
        const int n = d->first_slot[x + 1] - d->first_slot[x];
        float *gate_up = d->gate_up + at * 2 * (size_t)F;

        if (n == 0)
            continue;
        TRY(ops->matmul(d->ctx, gate_up, 2 * F, d->gathered + at * (size_t)D, D,
                        &w->experts[x].gate_up, n),
            err);
        TRY(act_mul(d, d->hidden + at * (size_t)F, gate_up, n), err);
    }
err:
    return st;
}

static enum status experts_down(struct decoder *d, const struct layer_weights *w)
{
    enum status st = ST_OK;
    const struct model_config *c = &d->config;

    for (int x = 0; x < c->X; x++) {
        const size_t at = (size_t)d->first_slot[x];
        const int n = d->first_slot[x + 1] - d->first_slot[x];

        if (n > 0)
            TRY(d->ops->matmul(d->ctx, d->gathered + at * (size_t)c->D, c->D,
                               d->hidden + at * (size_t)c->F, c->F, &w->experts[x].down, n),
                err);
    }
    st = d->ops->combine(d->ctx, d->y, d->gathered, d->slots, d->expert_weights, d->batch.T,
                         c->n_used_experts, c->D);
err:
    return st;
}

/* ---- both ----------------------------------------------------------------------------------- */

enum status decoder_ffn_gate(struct decoder *d, const struct layer_weights *w)
{
    enum status st;
    const struct model_config *c = &d->config;
    const int T = d->batch.T, F = c->F;
    const float *in = d->x;

    if (w->ffn_norm != NULL) {
        TRY(d->ops->rmsnorm(d->ctx, d->y, d->x, w->ffn_norm, T, c->D, c->eps), err);
        in = d->y;
    }
    if (c->X > 0)
        return experts_gate(d, w, in);
    TRY(d->ops->matmul(d->ctx, d->gate_up, 2 * F, in, c->D, &w->ffn.gate_up, T), err);
    st = act_mul(d, d->hidden, d->gate_up, T);
err:
    return st;
}

enum status decoder_ffn_down(struct decoder *d, const struct layer_weights *w)
{
    enum status st;
    const struct model_config *c = &d->config;
    const int T = d->batch.T;

    if (c->X > 0)
        TRY(experts_down(d, w), err);
    else
        TRY(d->ops->matmul(d->ctx, d->y, c->D, d->hidden, c->F, &w->ffn.down, T), err);
    if (w->ffn_post_norm != NULL)
        TRY(d->ops->rmsnorm(d->ctx, d->y, d->y, w->ffn_post_norm, T, c->D, c->eps), err);
    st = decoder_add(d);
err:
    return st;
}
