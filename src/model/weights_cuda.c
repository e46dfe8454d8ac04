/*
 * weights_cuda.c - from the tensors of a model file to matrices in memory of a GPU.
 *
 *   file row ── float32 ── finite? ── bf16 ── one of two pinned buffers ══► memory of the device
 *
 * struct weights with stored rows knows where every row of every matrix is, whatever the file, and
 * has checked it; it lives only while they are uploaded.  So rows are expanded twice, and host
 * memory never holds more of them than the two buffers.  One buffer is filled, by all threads,
 * while the other is copied.
 */
#include "model/pack.h"
#include "model/weights.h"
#include "model/weights_cuda.h"

enum { N_BUFFERS = 2 };
static const size_t BUFFER_BYTES = 32 << 20; /* or one row, if that is more */
static const char REMEDY[] = "take a smaller model or a larger GPU";

/* ---- upload -------------------------------------------------------------------------------- */

struct upload {
    const struct ops_cuda *cuda;
    struct threads *threads;
    void *stream;
    struct {
        uint8_t *data; /* pinned */
        void *copied;  /* event: what it held is on the device */
    } buffers[N_BUFFERS];
    int next; /* buffer to fill */
    size_t buffer_bytes;
    float *scratch; /* [threads, scratch_ld] */
    size_t scratch_ld;

    /* the rows on their way */
    const struct ops_matrix *from;
    int first;
    uint16_t *to;
};

static enum status begin_upload(struct upload *up, size_t max_row_elems)
{
    enum status st = ST_NOMEM;
    const struct k_table *k = up->cuda->kernels;

    up->scratch_ld = max_row_elems;
    up->buffer_bytes = max_row_elems * sizeof(float);
    if (up->buffer_bytes < BUFFER_BYTES)
        up->buffer_bytes = BUFFER_BYTES;
    up->scratch =
        host_alloc((size_t)threads_count(up->threads) * max_row_elems * sizeof *up->scratch);
    if (up->scratch == NULL)
        goto err;
    TRY(ops_cuda_check(up->cuda, k->stream_create(&up->stream), "making a stream"), err);
    for (int i = 0; i < N_BUFFERS; i++) {
        void *data;

        TRY(ops_cuda_alloc_pinned(up->cuda, up->buffer_bytes, "weights on their way", REMEDY,
                                  &data),
            err);
        up->buffers[i].data = data;
        TRY(ops_cuda_check(up->cuda, k->event_create(&up->buffers[i].copied), "making an event"),
            err);
        TRY(ops_cuda_check(up->cuda, k->event_record(up->buffers[i].copied, up->stream),
                           "recording an event"),
            err);
    }
err:
    return st;
}

/* The buffers have been copied, or something failed and the process will end. */
static void end_upload(struct upload *up)
{
    const struct k_table *k = up->cuda->kernels;

    for (int i = 0; i < N_BUFFERS; i++) {
        if (up->buffers[i].copied != NULL)
            k->event_destroy(up->buffers[i].copied);
        ops_cuda_free_pinned(up->cuda, up->buffers[i].data);
    }
    if (up->stream != NULL)
        k->stream_destroy(up->stream);
    host_free(up->scratch);
}

/* Wait until the next buffer may be filled. */
static enum status next_buffer(struct upload *up, uint8_t **out_data)
{
    *out_data = up->buffers[up->next].data;
    return ops_cuda_check(up->cuda, up->cuda->kernels->event_wait(up->buffers[up->next].copied),
                          "uploading weights");
}

/* Send the buffer that was given out on its way. */
static enum status send_buffer(struct upload *up, const void *to, size_t n_bytes)
{
    enum status st;
    const struct k_table *k = up->cuda->kernels;

    TRY(ops_cuda_check(
            up->cuda,
            k->copy(up->stream, (void *)(uintptr_t)to, up->buffers[up->next].data, n_bytes),
            "uploading %zu bytes of weights", n_bytes),
        err);
    TRY(ops_cuda_check(up->cuda, k->event_record(up->buffers[up->next].copied, up->stream),
                       "recording an event"),
        err);
    up->next = (up->next + 1) % N_BUFFERS;
err:
    return st;
}

/* All that was sent is on the device. */
static enum status finish_upload(struct upload *up)
{
    enum status st = ST_OK;

    for (int i = 0; i < N_BUFFERS; i++)
        TRY(ops_cuda_check(up->cuda, up->cuda->kernels->event_wait(up->buffers[i].copied),
                           "uploading weights"),
            err);
err:
    return st;
}

static void expand_row(void *arg, int task, int thread)
{
    const struct upload *up = arg;
    const int n_in = up->from->n_in;
    float *row = up->scratch + (size_t)thread * up->scratch_ld;
    uint16_t *to = up->to + (size_t)task * (size_t)n_in;

    ops_matrix_get_row(up->from, up->first + task, row);
    for (int i = 0; i < n_in; i++)
        to[i] = bf16_from_f32(row[i]);
}

static enum status upload_matrix(struct upload *up, const struct ops_matrix *from,
                                 const struct matrix_cuda *to)
{
    enum status st = ST_OK;
    const size_t row_bytes = (size_t)from->n_in * sizeof *to->data;
    const int at_once = (int)(up->buffer_bytes / row_bytes);

    up->from = from;
    for (up->first = 0; up->first < from->n_out; up->first += at_once) {
        const int left = from->n_out - up->first, n = left < at_once ? left : at_once;
        uint8_t *data;

        TRY(next_buffer(up, &data), err);
        up->to = (uint16_t *)(void *)data;
        threads_run(up->threads, n, expand_row, up);
        TRY(send_buffer(up, to->data + (size_t)up->first * (size_t)from->n_in,
                        (size_t)n * row_bytes),
            err);
    }
err:
    return st;
}

static enum status upload_vector(struct upload *up, const float *from, const float *to, int n)
{
    enum status st = ST_OK;
    const size_t n_bytes = (size_t)n * sizeof *from;
    uint8_t *data;

    if (from == NULL)
        return ST_OK;
    TRY(next_buffer(up, &data), err);
    memcpy(data, from, n_bytes);
    st = send_buffer(up, to, n_bytes);
err:
    return st;
}

/* ---- layout -------------------------------------------------------------------------------- */

/* Of n matrices, one behind the other, the first. */
static struct matrix_cuda carve_stack(struct carver *carver, int n, int n_out, int n_in)
{
    struct matrix_cuda first = {.n_out = n_out, .n_in = n_in};

    first.data = carve(carver, (size_t)n * matrix_cuda_elems(&first) * sizeof *first.data);
    return first;
}

static struct matrix_cuda carve_cuda(struct carver *carver, int n_out, int n_in)
{
    return carve_stack(carver, 1, n_out, n_in);
}

static void lay_out_layer(const struct model_config *c, struct carver *carver,
                          struct layer_cuda *out)
{
    const bool all = c->qk_norm == QK_NORM_ALL, some = c->qk_norm != QK_NORM_NONE;
    const int qkv = (c->H + 2 * c->K) * c->E, n_ffn = c->X > 0 ? c->X : 1;

    *out = (struct layer_cuda){.attn_norm = NULL};
    if (!c->no_pre_norm) {
        out->attn_norm = carve_vector(carver, c->D);
        out->ffn_norm = carve_vector(carver, c->D);
    }
    if (c->post_norm) {
        out->attn_post_norm = carve_vector(carver, c->D);
        out->ffn_post_norm = carve_vector(carver, c->D);
    }
    if (some) {
        out->q_norm = carve_vector(carver, all ? c->H * c->E : c->E);
        out->k_norm = carve_vector(carver, all ? c->K * c->E : c->E);
    }
    if (c->qkv_bias)
        out->qkv_bias = carve_vector(carver, qkv);
    if (c->o_bias)
        out->o_bias = carve_vector(carver, c->D);
    out->qkv = carve_cuda(carver, qkv, c->D);
    out->o = carve_cuda(carver, c->D, c->H * c->E);
    if (c->X > 0)
        out->router = carve_cuda(carver, c->X, c->D);
    out->gate_up = carve_stack(carver, n_ffn, 2 * c->F, c->D);
    out->down = carve_stack(carver, n_ffn, c->D, c->F);
}

/* Everything from base on, or only counted.  w->layers NULL: likewise. */
static size_t lay_out(const struct model_config *c, uint8_t *base, struct weights_cuda *w)
{
    struct carver carver = {.base = base};
    struct layer_cuda unused;

    for (int l = 0; l < c->L; l++)
        lay_out_layer(c, &carver, w->layers != NULL ? &w->layers[l] : &unused);
    w->embed = carve_cuda(&carver, c->V, c->D);
    w->head = c->tied ? w->embed : carve_cuda(&carver, c->V, c->D);
    w->final_norm = carve_vector(&carver, c->D);
    return carver.n_bytes;
}

size_t weights_cuda_bytes(const struct model_config *config)
{
    struct weights_cuda unused = {.layers = NULL};

    return lay_out(config, NULL, &unused);
}

/* ---- create, destroy ----------------------------------------------------------------------- */

static enum status upload_experts(struct upload *up, int X, const struct layer_weights *from,
                                  const struct layer_cuda *to)
{
    enum status st;
    struct matrix_cuda gate_up = to->gate_up, down = to->down;

    TRY(upload_matrix(up, &from->router, &to->router), err);
    for (int x = 0; x < X; x++) {
        TRY(upload_matrix(up, &from->experts[x].gate_up, &gate_up), err);
        TRY(upload_matrix(up, &from->experts[x].down, &down), err);
        gate_up.data += matrix_cuda_elems(&gate_up);
        down.data += matrix_cuda_elems(&down);
    }
err:
    return st;
}

static enum status upload_layer(struct upload *up, const struct model_config *c,
                                const struct layer_weights *from, const struct layer_cuda *to)
{
    enum status st;
    const bool all = c->qk_norm == QK_NORM_ALL;

    TRY(upload_vector(up, from->attn_norm, to->attn_norm, c->D), err);
    TRY(upload_vector(up, from->ffn_norm, to->ffn_norm, c->D), err);
    TRY(upload_vector(up, from->attn_post_norm, to->attn_post_norm, c->D), err);
    TRY(upload_vector(up, from->ffn_post_norm, to->ffn_post_norm, c->D), err);
    TRY(upload_vector(up, from->q_norm, to->q_norm, all ? c->H * c->E : c->E), err);
    TRY(upload_vector(up, from->k_norm, to->k_norm, all ? c->K * c->E : c->E), err);
    TRY(upload_vector(up, from->qkv_bias, to->qkv_bias, to->qkv.n_out), err);
    TRY(upload_vector(up, from->o_bias, to->o_bias, c->D), err);
    TRY(upload_matrix(up, &from->qkv, &to->qkv), err);
    TRY(upload_matrix(up, &from->o, &to->o), err);
    if (c->X > 0)
        return upload_experts(up, c->X, from, to);
    TRY(upload_matrix(up, &from->ffn.gate_up, &to->gate_up), err);
    st = upload_matrix(up, &from->ffn.down, &to->down);
err:
    return st;
}

static enum status upload_all(struct upload *up, const struct model_config *c,
                              const struct weights *from, const struct weights_cuda *to)
{
    enum status st;

    for (int l = 0; l < c->L; l++)
        TRY(upload_layer(up, c, &from->layers[l], &to->layers[l]), err);
    TRY(upload_matrix(up, &from->embed, &to->embed), err);
    if (!c->tied)
        TRY(upload_matrix(up, &from->head, &to->head), err);
    TRY(upload_vector(up, from->final_norm, to->final_norm, c->D), err);
    st = finish_upload(up);
err:
    return st;
}

static size_t max_row_elems(const struct model_config *c)
{
    const int widest = c->D > c->F ? c->D : c->F, qkv = (c->H + 2 * c->K) * c->E;

    return (size_t)(widest > qkv ? widest : qkv);
}

enum status weights_cuda_create(const struct weights_cuda_args *args,
                                struct weights_cuda **out_weights)
{
    enum status st = ST_NOMEM;
    const struct model_config *c = model_source_config(args->source);
    struct upload up = {.cuda = args->cuda, .threads = args->threads};
    struct weights *stored = NULL;
    struct weights_cuda *w = host_zalloc(sizeof *w);
    void *memory;

    if (w == NULL)
        goto err;
    w->cuda = args->cuda;
    w->layers = host_zalloc((size_t)c->L * sizeof *w->layers);
    if (w->layers == NULL)
        goto err;
    TRY(ops_cuda_alloc(args->cuda, weights_cuda_bytes(c), "the weights", REMEDY, &memory), err);
    w->memory = memory;
    (void)lay_out(c, w->memory, w);
    TRY(weights_create(
            &(struct weights_args){
                .source = args->source, .type = OPS_BF16, .stored = true, .threads = args->threads},
            &stored),
        err);
    TRY(begin_upload(&up, max_row_elems(c)), err);
    TRY(upload_all(&up, c, stored, w), err);
err:
    end_upload(&up);
    weights_destroy(stored);
    if (st == ST_OK)
        *out_weights = w;
    else
        weights_cuda_destroy(w);
    return st;
}

void weights_cuda_destroy(struct weights_cuda *weights)
{
    if (weights == NULL)
        return;
    ops_cuda_free(weights->cuda, weights->memory);
    host_free(weights->layers);
    host_free(weights);
}
