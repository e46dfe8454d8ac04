/*
 * decoder_cuda.c - one forward pass of a decoder on a GPU: the flow of decoder.c as launches on one
 * stream.
 *
 *   pinned ═ tokens, positions, tables ═► ─ embed ─► x ─┬─ norm ─ qkv ─ rope, KV ─ attention ─ o ─►
 * y ├─ x += y, norm ─ gate, up ─ act * ─ down ─► y └─ ... L times x += y, norm ─ wanted rows ─ head
 * ─► logits, figures ═► pinned
 *
 * What a block adds is left in y; whoever reads x next adds it, in the same launch (read_x). Norms,
 * biases, windows, factors and caps are where decoder.c has them.  The residual stream is float32,
 * what a matmul reads bf16.
 *
 * Matmuls of prompts are a library's, over fixed chunks, those of answers and the head the decode
 * kernel, 64 rows at a time: which of them, the phase says, never the number of rows, so that a
 * position's bits do not depend on the schedule.  A token of a prompt attends as if it were the
 * only new one of its sequence yet: right, and slow.
 *
 * engine_cuda.c calls this.  Nothing here waits for the device once it is created.
 */
#include <assert.h>
#include <math.h>

#include "model/rope.h"
#include "model/weights_cuda.h"

enum { MATMUL_ROWS = 64, ATTEND_ROWS = 64 }; /* most of one launch */
enum { ALIGN_BYTES = 256 };                  /* of each array */
static const char REMEDY[] = "lower prefill_chunk_tok, decode_batch, context or kv_memory_mib";

/* Matrices of a layer: they have the same shape in every one. */
enum { MATRIX_QKV, MATRIX_O, MATRIX_GATE_UP, MATRIX_DOWN, N_MATRICES };

/* What a step brings, int32, in one piece of memory: where each array begins. */
struct step_arrays {
    int32_t *tokens, *pos; /* [T] */
    int32_t *seq;          /* [T] row of tables */
    int32_t *rows;         /* [n_logit_rows] whose logits are wanted */
    int32_t *tables;       /* [B, ld_tables] */
};

struct decoder_cuda {
    struct model_config config;
    const struct weights_cuda *weights; /* borrowed, as cuda */
    const struct ops_cuda *cuda;
    struct kv_space space;
    int max_T, max_B, max_logit_rows, context;
    float embed_scale, residual_scale;

    void *plans[N_MATRICES]; /* owned: how prompts are multiplied */

    struct decoder_batch batch; /* of the pass; its arrays are gone */
    bool of_prompts;            /* the pass */
    int ld_tables;              /* of the pass: of its longest sequence */
    struct step_arrays host, device;
    bool y_waits; /* y is still to be added to x */

    void *stream;
    void **kv_events; /* [L] owned: a layer's KV is there */
    void *end_event;

    uint8_t *memory;                             /* owned, of the device; the arrays lie here: */
    uint8_t *arrays;                             /* what a step brings */
    float *rope, *rope_window;                   /* [context, E] as in struct decoder */
    float *x, *y;                                /* [max_T, D] */
    float *qkv;                                  /* [max_T, (H + 2K) * E] */
    float *gate_up;                              /* [max_T, 2F] */
    float *logits, *max, *logsum;                /* [max_logit_rows], of V */
    float *work;                                 /* scratch of launchers */
    int32_t *best;                               /* [max_logit_rows] */
    uint16_t *normed;                            /* [max_T, D] */
    uint16_t *q, *attn;                          /* [max_T, H * E] */
    uint16_t *hidden;                            /* [max_T, F] */
    uint16_t *wanted;                            /* [max_logit_rows, D] */
    uint8_t *pinned;                             /* owned; the host's: */
    uint8_t *host_arrays;                        /* what a step brings */
    float *host_logits, *host_max, *host_logsum; /* [max_logit_rows], of V */
};

enum status decoder_cuda_check(const struct model_config *config, struct row_error *why)
{
    const char *lacks = config->X > 0                ? "mixtures of experts"
                        : config->D % 8 != 0         ? "widths that are no multiple of 8"
                        : config->F % 8 != 0         ? "ffn widths that are no multiple of 8"
                        : config->E % 16 != 0        ? "head sizes that are no multiple of 16"
                        : config->E > 256            ? "heads larger than 256"
                        : config->H / config->K > 16 ? "more than 16 query heads a KV head"
                                                     : NULL;

    if (lacks == NULL)
        return ST_OK;
    (void)row_error_set(why, "%s", lacks);
    return ST_UNSUPPORTED;
}

/* ---- memory -------------------------------------------------------------------------------- */

/* A piece of memory, to be cut. */
struct cut {
    void *array; /* address of a pointer */
    size_t n_bytes;
};

/* Set the pointers from base on, or only count.  Returns the bytes needed. */
static size_t cut(uint8_t *base, const struct cut *cuts, size_t n)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < n; i++) {
        void *at = base != NULL ? base + n_bytes : NULL;

        memcpy(cuts[i].array, &at, sizeof at);
        n_bytes += (cuts[i].n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    }
    return n_bytes;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int longest_table(const struct decoder_cuda *d)
{
    return (d->context + d->space.layout.P - 1) / d->space.layout.P;
}

/* Place the arrays of a step of T tokens, R wanted rows and n ids of blocks.  Returns the bytes. */
static size_t place_arrays(uint8_t *base, size_t T, size_t R, size_t n, struct step_arrays *out)
{
    const struct cut cuts[] = {
        {&out->tokens, T * sizeof(int32_t)}, {&out->pos, T * sizeof(int32_t)},
        {&out->seq, T * sizeof(int32_t)},    {&out->rows, R * sizeof(int32_t)},
        {&out->tables, n * sizeof(int32_t)},
    };

    return cut(base, cuts, sizeof cuts / sizeof cuts[0]);
}

static size_t arrays_bytes(const struct decoder_cuda *d)
{
    struct step_arrays unused;

    return place_arrays(NULL, (size_t)d->max_T, (size_t)d->max_logit_rows,
                        (size_t)d->max_B * (size_t)longest_table(d), &unused);
}

/* The most that any launcher wants. */
static size_t work_bytes(const struct decoder_cuda *d)
{
    const struct model_config *c = &d->config;
    const struct k_table *k = d->cuda->kernels;
    const struct layer_cuda *w = &d->weights->layers[0];
    const struct matrix_cuda *matrices[] = {&w->qkv, &w->o, &w->gate_up, &w->down,
                                            &d->weights->head};
    size_t n = (size_t)k->attention_work_floats(ATTEND_ROWS, c->H, c->E, d->context - 1);

    n = larger(n, (size_t)k->logits_work_floats(d->max_logit_rows, c->V));
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++)
        n = larger(
            n, (size_t)k->matmul_work_floats(MATMUL_ROWS, matrices[i]->n_out, matrices[i]->n_in));
    return n * sizeof(float);
}

/* Arrays of tokens have room for whole chunks: T is max_T, rounded up. */
static size_t cut_memory(struct decoder_cuda *d, uint8_t *base)
{
    const struct model_config *c = &d->config;
    const size_t chunk = (size_t)d->cuda->kernels->prefill_rows;
    const size_t T = ((size_t)d->max_T + chunk - 1) / chunk * chunk, R = (size_t)d->max_logit_rows;
    const size_t D = (size_t)c->D, F = (size_t)c->F, V = (size_t)c->V, E = (size_t)c->E;
    const size_t heads = (size_t)c->H * E, context = (size_t)d->context;
    const struct cut cuts[] = {
        {&d->arrays, arrays_bytes(d)},
        {&d->rope, context * E * sizeof(float)},
        {&d->rope_window, c->rope_window.base > 0 ? context * E * sizeof(float) : 0},
        {&d->x, T * D * sizeof(float)},
        {&d->y, T * D * sizeof(float)},
        {&d->qkv, T * (size_t)(c->H + 2 * c->K) * E * sizeof(float)},
        {&d->gate_up, T * 2 * F * sizeof(float)},
        {&d->logits, R * V * sizeof(float)},
        {&d->max, R * sizeof(float)},
        {&d->logsum, R * sizeof(float)},
        {&d->work, work_bytes(d)},
        {&d->best, R * sizeof(int32_t)},
        {&d->normed, T * D * sizeof(uint16_t)},
        {&d->q, T * heads * sizeof(uint16_t)},
        {&d->attn, T * heads * sizeof(uint16_t)},
        {&d->hidden, T * F * sizeof(uint16_t)},
        {&d->wanted, R * D * sizeof(uint16_t)},
    };

    return cut(base, cuts, sizeof cuts / sizeof cuts[0]);
}

static size_t cut_pinned(struct decoder_cuda *d, uint8_t *base)
{
    const size_t R = (size_t)d->max_logit_rows;
    const struct cut cuts[] = {
        {&d->host_arrays, arrays_bytes(d)},
        {&d->host_logits, R * (size_t)d->config.V * sizeof(float)},
        {&d->host_max, R * sizeof(float)},
        {&d->host_logsum, R * sizeof(float)},
    };

    return cut(base, cuts, sizeof cuts / sizeof cuts[0]);
}

/* ---- create, destroy ----------------------------------------------------------------------- */

static enum status make_event(const struct decoder_cuda *d, void **out_event)
{
    return ops_cuda_check(d->cuda, d->cuda->kernels->event_create(out_event), "making an event");
}

static enum status record(const struct decoder_cuda *d, void *event)
{
    return ops_cuda_check(d->cuda, d->cuda->kernels->event_record(event, d->stream),
                          "recording an event");
}

static enum status copy(const struct decoder_cuda *d, void *to, const void *from, size_t n_bytes)
{
    return ops_cuda_check(d->cuda, d->cuda->kernels->copy(d->stream, to, from, n_bytes),
                          "copying %zu bytes", n_bytes);
}

/* Fill a table of angles and wait for it: pinned memory of its own, for the start only. */
static enum status upload_rope(const struct decoder_cuda *d, float *to,
                               const struct model_rope *rope)
{
    enum status st;
    const size_t n_bytes = (size_t)d->context * (size_t)d->config.E * sizeof(float);
    void *table = NULL;

    TRY(ops_cuda_alloc_pinned(d->cuda, n_bytes, "a table of angles", "lower context", &table), err);
    rope_table_fill(table, d->context, d->config.E, rope);
    TRY(copy(d, to, table, n_bytes), err);
    TRY(record(d, d->end_event), err);
    st = ops_cuda_check(d->cuda, d->cuda->kernels->event_wait(d->end_event), "uploading angles");
err:
    ops_cuda_free_pinned(d->cuda, table);
    return st;
}

static enum status make_memory(struct decoder_cuda *d)
{
    enum status st;
    void *memory;

    TRY(ops_cuda_alloc(d->cuda, cut_memory(d, NULL), "the arrays of a step", REMEDY, &memory), err);
    d->memory = memory;
    (void)cut_memory(d, d->memory);
    TRY(ops_cuda_alloc_pinned(d->cuda, cut_pinned(d, NULL), "a step's tokens and logits", REMEDY,
                              &memory),
        err);
    d->pinned = memory;
    (void)cut_pinned(d, d->pinned);
    TRY(upload_rope(d, d->rope, &d->config.rope), err);
    if (d->config.rope_window.base > 0)
        TRY(upload_rope(d, d->rope_window, &d->config.rope_window), err);
    else
        d->rope_window = d->rope;
err:
    return st;
}

static enum status make_plans(struct decoder_cuda *d)
{
    enum status st = ST_OK;
    const struct layer_cuda *w = &d->weights->layers[0];
    const struct matrix_cuda *matrices[N_MATRICES] = {
        [MATRIX_QKV] = &w->qkv,
        [MATRIX_O] = &w->o,
        [MATRIX_GATE_UP] = &w->gate_up,
        [MATRIX_DOWN] = &w->down,
    };

    for (int i = 0; i < N_MATRICES; i++) {
        const struct matrix_cuda *m = matrices[i];

        TRY(ops_cuda_check(
                d->cuda,
                d->cuda->kernels->prefill_plan_create(m->data, m->n_out, m->n_in, &d->plans[i]),
                "planning the matmul of prompts (N %d, inputs %d)", m->n_out, m->n_in),
            err);
    }
err:
    return st;
}

/* A factor of the configuration, where 0 stands for none. */
static float factor(double value)
{
    return value != 0 ? (float)value : 1.0f;
}

enum status decoder_cuda_create(const struct decoder_cuda_args *args,
                                struct decoder_cuda **out_decoder)
{
    enum status st = ST_NOMEM;
    struct decoder_cuda *d = host_zalloc(sizeof *d);

    assert(args->max_T > 0 && args->max_B > 0 && args->context > 0 && args->max_logit_rows > 0);
    if (d == NULL)
        return ST_NOMEM;
    d->config = *args->config;
    d->weights = args->weights;
    d->cuda = args->cuda;
    d->space = args->space;
    d->max_T = args->max_T;
    d->max_B = args->max_B;
    d->max_logit_rows = args->max_logit_rows;
    d->context = args->context;
    d->embed_scale = factor(d->config.embed_scale);
    if (d->config.embed_scale_rounded)
        d->embed_scale = f32_from_bf16(bf16_from_f32(d->embed_scale));
    d->residual_scale = factor(d->config.residual_scale);
    d->kv_events = host_zalloc((size_t)d->config.L * sizeof *d->kv_events);
    if (d->kv_events == NULL)
        goto err;
    TRY(ops_cuda_check(d->cuda, d->cuda->kernels->stream_create(&d->stream), "making a stream"),
        err);
    TRY(make_event(d, &d->end_event), err);
    for (int l = 0; l < d->config.L; l++)
        TRY(make_event(d, &d->kv_events[l]), err);
    TRY(make_plans(d), err);
    TRY(make_memory(d), err);
    *out_decoder = d;
    return ST_OK;
err:
    decoder_cuda_destroy(d);
    return st;
}

void decoder_cuda_destroy(struct decoder_cuda *d)
{
    if (d == NULL)
        return;
    const struct k_table *k = d->cuda->kernels;

    if (d->end_event != NULL) {
        if (record(d, d->end_event) == ST_OK)
            (void)k->event_wait(d->end_event);
        (void)k->event_destroy(d->end_event);
    }
    for (int l = 0; d->kv_events != NULL && l < d->config.L; l++)
        if (d->kv_events[l] != NULL)
            (void)k->event_destroy(d->kv_events[l]);
    for (int i = 0; i < N_MATRICES; i++)
        k->prefill_plan_destroy(d->plans[i]);
    if (d->stream != NULL)
        (void)k->stream_destroy(d->stream);
    ops_cuda_free(d->cuda, d->memory);
    ops_cuda_free_pinned(d->cuda, d->pinned);
    host_free(d->kv_events);
    host_free(d);
}

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

/* Rows t .. t + n - 1 attend, each as the newest of its sequence: row i has table i * ld_tables. */
static enum status attend(const struct decoder_cuda *d, unsigned traits, const struct ops_kv *kv,
                          int t, int n, const int32_t *tables, int ld_tables)
{
    enum status st = ST_OK;
    const struct model_config *c = &d->config;
    const int HE = c->H * c->E, end = t + n;

    for (; t < end; t += ATTEND_ROWS) {
        struct k_attention_args args = {
            .out = d->attn + (size_t)t * (size_t)HE,
            .q = d->q + (size_t)t * (size_t)HE,
            .kv = kv->base,
            .pos = d->device.pos + t,
            .tables = tables,
            .work = d->work,
            .ld_tables = ld_tables,
            .B = end - t < ATTEND_ROWS ? end - t : ATTEND_ROWS,
            .H = c->H,
            .K = c->K,
            .E = c->E,
            .P = kv->P,
            .window = (traits & LAYER_WINDOW) != 0 ? c->window : 0,
            .scale = (float)(c->attn_scale > 0 ? c->attn_scale : 1.0 / sqrt((double)c->E)),
            .softcap = (float)c->attn_softcap,
        };

        for (int i = 0; i < args.B; i++)
            if (d->host.pos[t + i] > args.max_pos)
                args.max_pos = d->host.pos[t + i];
        TRY(ops_cuda_check(d->cuda, d->cuda->kernels->attention(d->stream, &args),
                           "attention (B %d, H %d, K %d, E %d, P %d, positions to %d)", args.B,
                           args.H, args.K, args.E, args.P, args.max_pos),
            err);
        tables += (ptrdiff_t)args.B * ld_tables;
    }
err:
    return st;
}

/* Answers: one launch for all.  Prompts: one a sequence, whose tokens all have its table. */
static enum status attend_all(const struct decoder_cuda *d, unsigned traits,
                              const struct ops_kv *kv)
{
    enum status st = ST_OK;
    const struct decoder_batch *batch = &d->batch;

    if (batch->T == batch->B)
        return attend(d, traits, kv, 0, batch->T, d->device.tables, d->ld_tables);
    for (int b = 0, t = 0; b < batch->B; b++) {
        const int first = t;

        while (t < batch->T && d->host.seq[t] == b)
            t++;
        TRY(attend(d, traits, kv, first, t - first, d->device.tables + (ptrdiff_t)b * d->ld_tables,
                   0),
            err);
    }
err:
    return st;
}

static enum status layer_attend(struct decoder_cuda *d, const struct layer_cuda *w, unsigned traits,
                                const struct ops_kv *kv)
{
    enum status st;

    TRY(attend_all(d, traits, kv), err);
    TRY(multiply(d, d->y, d->attn, &w->o, w->o_bias, MATRIX_O), err);
    st = leave_y(d, w->attn_post_norm);
err:
    return st;
}

static enum status layer_ffn(struct decoder_cuda *d, const struct layer_cuda *w)
{
    enum status st;
    const struct k_gated_args args = {
        .out = d->hidden,
        .gate_up = d->gate_up,
        .T = d->batch.T,
        .F = d->config.F,
        .gelu = d->config.activation == ACTIVATION_GELU,
    };

    TRY(read_x(d, w->ffn_norm), err);
    TRY(multiply(d, d->gate_up, d->normed, &w->gate_up, NULL, MATRIX_GATE_UP), err);
    TRY(ops_cuda_check(d->cuda, d->cuda->kernels->gated(d->stream, &args), "gated (T %d, F %d)",
                       args.T, args.F),
        err);
    TRY(multiply(d, d->y, d->hidden, &w->down, NULL, MATRIX_DOWN), err);
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
    TRY(record(d, d->kv_events[l]), err);
    TRY(layer_attend(d, w, traits, &kv), err);
    st = layer_ffn(d, w);
err:
    return st;
}

/* ---- a pass -------------------------------------------------------------------------------- */

/* The step's arrays, by pinned memory; the tables side by side, as wide as the longest. */
static enum status bring(struct decoder_cuda *d, const struct decoder_batch *batch)
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
    const size_t T = (size_t)batch->T, R = (size_t)batch->n_logit_rows;
    const size_t n_ids = (size_t)batch->B * (size_t)longest;
    const size_t n_bytes = place_arrays(d->host_arrays, T, R, n_ids, &d->host);
    (void)place_arrays(d->arrays, T, R, n_ids, &d->device);

    memcpy(d->host.tokens, batch->tokens, T * sizeof *d->host.tokens);
    memcpy(d->host.rows, batch->logit_rows, R * sizeof *d->host.rows);
    for (int b = 0; b < batch->B; b++) {
        const struct ops_seq *seq = &batch->seqs[b];
        int32_t *table = d->host.tables + (ptrdiff_t)b * longest;
        const int n = (seq->pos0 + seq->n_tok + P - 1) / P;

        for (int i = 0; i < seq->n_tok; i++) {
            d->host.pos[seq->row0 + i] = seq->pos0 + i;
            d->host.seq[seq->row0 + i] = b;
        }
        for (int i = 0; i < longest; i++)
            table[i] = i < n ? seq->blocks[i] : -1;
    }
    return copy(d, d->arrays, d->host_arrays, n_bytes);
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

static enum status end(struct decoder_cuda *d)
{
    enum status st = ST_OK;
    const struct model_config *c = &d->config;
    const int R = d->batch.n_logit_rows;
    const size_t row_bytes = (size_t)R * sizeof(float);
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
        TRY(copy(d, d->host_logits, d->logits, row_bytes * (size_t)c->V), err);
        TRY(copy(d, d->host_max, d->max, row_bytes), err);
        TRY(copy(d, d->host_logsum, d->logsum, row_bytes), err);
    }
    st = record(d, d->end_event);
err:
    return st;
}

enum status decoder_cuda_submit(struct decoder_cuda *d, const struct decoder_batch *batch,
                                bool of_prompts)
{
    enum status st;

    assert(batch->T > 0 && batch->T <= d->max_T && batch->B > 0 && batch->B <= d->max_B);
    assert(batch->n_logit_rows >= 0 && batch->n_logit_rows <= d->max_logit_rows);
    assert(batch->inputs == NULL && batch->positions == NULL);
    assert(of_prompts || batch->T == batch->B);
    TRY(bring(d, batch), err);
    d->batch =
        (struct decoder_batch){.T = batch->T, .B = batch->B, .n_logit_rows = batch->n_logit_rows};
    d->of_prompts = of_prompts;
    TRY(embed(d), err);
    for (int l = 0; l < d->config.L; l++)
        TRY(layer(d, l), err);
    st = end(d);
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
