/*
 * decoder_cuda_setup.c - what the GPU's decoder can compute, what memory it has, create and
 * destroy.
 *
 * Two pieces of memory, one of the device and one of the host, pinned; each is cut into arrays, and
 * nothing is allocated after that.  The passes are in decoder_cuda.c.
 */
#include <assert.h>

#include "model/decoder_cuda.h"
#include "model/rope.h"

enum { ALIGN_BYTES = 256 };                         /* of each array */
enum { MAX_EXPERTS = 1024, MAX_USED_EXPERTS = 64 }; /* of k_route */
enum { MAX_SAMPLE_V = 1 << 19 };                    /* of k_sample */
static const char REMEDY[] = "lower prefill_chunk_tok, decode_batch, context or kv_memory_mib";

enum status decoder_cuda_check(const struct model_config *config, struct row_error *why)
{
    const char *lacks = config->D % 8 != 0           ? "widths that are no multiple of 8"
                        : config->F % 8 != 0         ? "ffn widths that are no multiple of 8"
                        : config->E % 16 != 0        ? "head sizes that are no multiple of 16"
                        : config->E > 256            ? "heads larger than 256"
                        : config->H / config->K > 16 ? "more than 16 query heads a KV head"
                        : config->X > MAX_EXPERTS    ? "more than 1024 experts"
                        : config->n_used_experts > MAX_USED_EXPERTS
                            ? "more than 64 experts for a token"
                            : NULL;

    if (lacks == NULL)
        return ST_OK;
    (void)row_error_set(why, "%s", lacks);
    return ST_UNSUPPORTED;
}

bool decoder_cuda_picks(const struct decoder_cuda *d, const struct sampler_params *params)
{
    return params->repetition_penalty == 1.0 && params->n_top < 0 && d->config.V <= MAX_SAMPLE_V;
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

size_t decoder_cuda_place(uint8_t *base, size_t T, size_t B, size_t R, size_t n,
                          struct step_arrays *out)
{
    const struct cut cuts[] = {
        {&out->tokens, T * sizeof(int32_t)},
        {&out->pos, T * sizeof(int32_t)},
        {&out->seq, T * sizeof(int32_t)},
        {&out->pos0, B * sizeof(int32_t)},
        {&out->n_tok, B * sizeof(int32_t)},
        {&out->row0, B * sizeof(int32_t)},
        {&out->rows, R * sizeof(int32_t)},
        {&out->tables, n * sizeof(int32_t)},
        {&out->draws, R * sizeof(struct k_sample_row)},
    };

    return cut(base, cuts, sizeof cuts / sizeof cuts[0]);
}

static size_t arrays_bytes(const struct decoder_cuda *d)
{
    struct step_arrays unused;

    return decoder_cuda_place(NULL, (size_t)d->max_T, (size_t)d->max_B, (size_t)d->max_logit_rows,
                              (size_t)d->max_B * (size_t)longest_table(d), &unused);
}

enum { FLOATS_OF_WORD = sizeof(uint64_t) / sizeof(float) };

/* The most that any launcher wants. */
static size_t work_bytes(const struct decoder_cuda *d)
{
    const struct model_config *c = &d->config;
    const struct k_table *k = d->cuda->kernels;
    const struct layer_cuda *w = &d->weights->layers[0];
    const int ffn_rows = c->X > 0 ? EXPERTS_TOK * c->n_used_experts : MATMUL_ROWS;
    const int sample_rows = d->max_logit_rows < SAMPLE_ROWS ? d->max_logit_rows : SAMPLE_ROWS;
    const struct {
        const struct matrix_cuda *matrix;
        int rows;
    } matmuls[] = {
        {&w->qkv, MATMUL_ROWS},    {&w->o, MATMUL_ROWS},    {&d->weights->head, MATMUL_ROWS},
        {&w->router, MATMUL_ROWS}, {&w->gate_up, ffn_rows}, {&w->down, ffn_rows},
    };
    size_t n = (size_t)k->attention_work_floats(ATTEND_ROWS, c->H, c->E, d->context - 1);

    n = larger(n, (size_t)k->logits_work_floats(d->max_logit_rows, c->V));
    n = larger(n, (size_t)k->sample_work_words(sample_rows, c->V) * FLOATS_OF_WORD);
    for (size_t i = 0; i < sizeof matmuls / sizeof matmuls[0]; i++) {
        const struct matrix_cuda *m = matmuls[i].matrix;

        if (m->n_out > 0) /* else there are no experts */
            n = larger(n, (size_t)k->matmul_work_floats(matmuls[i].rows, m->n_out, m->n_in));
    }
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
    const size_t X = (size_t)c->X, n_used = X > 0 ? (size_t)c->n_used_experts : 0;
    const size_t slots = EXPERTS_TOK * n_used, ffn_rows = X > 0 ? slots : T;
    const struct cut cuts[] = {
        {&d->arrays, arrays_bytes(d)},
        {&d->rope, context * E * sizeof(float)},
        {&d->rope_window, c->rope_window.base > 0 ? context * E * sizeof(float) : 0},
        {&d->x, T * D * sizeof(float)},
        {&d->y, T * D * sizeof(float)},
        {&d->qkv, T * (size_t)(c->H + 2 * c->K) * E * sizeof(float)},
        {&d->gate_up, ffn_rows * 2 * F * sizeof(float)},
        {&d->logits, R * V * sizeof(float)},
        {&d->max, R * sizeof(float)},
        {&d->logsum, R * sizeof(float)},
        {&d->work, work_bytes(d)},
        {&d->best, R * sizeof(int32_t)},
        {&d->picked, R * sizeof(int32_t)},
        {&d->normed, T * D * sizeof(uint16_t)},
        {&d->q, T * heads * sizeof(uint16_t)},
        {&d->attn, T * heads * sizeof(uint16_t)},
        {&d->hidden, ffn_rows * F * sizeof(uint16_t)},
        {&d->wanted, R * D * sizeof(uint16_t)},
        {&d->router, T * X * sizeof(float)},
        {&d->experts, T * n_used * sizeof(int32_t)},
        {&d->expert_weights, T * n_used * sizeof(float)},
        {&d->slots, slots * sizeof(int32_t)},
        {&d->first, (X + 1) * sizeof(int32_t)},
        {&d->gathered, slots * D * sizeof(uint16_t)},
        {&d->expert_rows, slots * D * sizeof(float)},
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
        {&d->host_picked, R * sizeof(int32_t)},
    };

    return cut(base, cuts, sizeof cuts / sizeof cuts[0]);
}

/* ---- create, destroy ----------------------------------------------------------------------- */

static enum status make_event(const struct decoder_cuda *d, void **out_event)
{
    return ops_cuda_check(d->cuda, d->cuda->kernels->event_create(out_event), "making an event");
}

enum status decoder_cuda_record(const struct decoder_cuda *d, void *event)
{
    return ops_cuda_check(d->cuda, d->cuda->kernels->event_record(event, d->stream),
                          "recording an event");
}

enum status decoder_cuda_copy(const struct decoder_cuda *d, void *to, const void *from,
                              size_t n_bytes)
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
    TRY(decoder_cuda_copy(d, to, table, n_bytes), err);
    TRY(decoder_cuda_record(d, d->end_event), err);
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

    for (int i = 0; i < (d->config.X > 0 ? MATRIX_GATE_UP : N_MATRICES); i++) {
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
        if (decoder_cuda_record(d, d->end_event) == ST_OK)
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
