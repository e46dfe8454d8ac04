/*
 * vision.c - the tower of a vision-language model: from patches to embeddings.
 *
 *   patches ── matrix, class token, position ──► x [rows, D]
 *     layer    x += o(attention(norm_1(x)))      each picture looks at itself alone
 *              x += fc_2(act(fc_1(norm_2(x))))
 *   llava      x without its class token ── projector_1, act, projector_2 ──► out
 *   idefics3   norm, m x m neighbours side by side ── projector_2 ──► out
 *   qwen2vl    norm, m x m neighbours (which follow each other) ── projector_1, act, projector_2
 *
 * Pictures of a batch are sequences of an attention in both directions over scratch KV blocks of
 * one layer, so that the operations and their rules are the decoder's: an image's embeddings depend
 * on nothing but the image.
 */
#include <assert.h>
#include <math.h>

#include "model/pack.h"
#include "model/rope.h"
#include "model/tower.h"

enum { BLOCK_FIXED = 64, BLOCK_ANY = 16 }; /* tokens of a block, for pictures of one or any size */

struct vision {
    struct vision_config config;
    const struct vision_weights *weights; /* borrowed */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    struct ops_ctx *ctx;     /* owned */
    int max_patches, max_rows, max_pictures, max_blocks;

    const struct vision_item *items; /* of the batch */
    int n_items, n_rows, n_pictures, next_part;
    bool busy;

    float *x;             /* [max_rows, D] */
    float *y;             /* [max_rows, D] what a block reads, then what it adds */
    float *qkv;           /* [max_rows, 3 * H * head] */
    float *attn;          /* [max_rows, H * head] */
    float *hidden;        /* [max_rows, F] */
    float *middle;        /* [embeddings, what projector_1 makes] */
    float *table;         /* [longest edge, head / 2, 2] cos, sin; qwen2vl */
    int32_t *pos;         /* [max_rows, 3] row, column, 0; qwen2vl */
    int32_t *place;       /* [max_rows] of a row in the position embedding; the others */
    int32_t *blocks;      /* [max_blocks] 0, 1, 2, ... */
    struct ops_seq *seqs; /* [max_pictures] */
    uint8_t *kv;          /* of one layer */
    uint8_t *pages;       /* owned; all of the arrays above lie here */
    size_t pages_bytes;
};

/* ---- sizes ------------------------------------------------------------------------------------ */

static bool any_size(const struct vision_config *c)
{
    return c->layout == VISION_QWEN2VL;
}

static int block_tokens(const struct vision_config *c)
{
    return any_size(c) ? BLOCK_ANY : BLOCK_FIXED;
}

/* Rows of a picture: patches and class token. */
static int rows_of(const struct vision_config *c, const struct vision_plan *plan)
{
    return plan->grid_h * plan->grid_w + c->class_token;
}

static int middle_cols(const struct vision_config *c)
{
    return c->layout == VISION_LLAVA     ? c->D_out
           : c->layout == VISION_QWEN2VL ? c->merge * c->merge * c->D
                                         : 0;
}

static struct ops_kv kv_of(const struct vision *v)
{
    return (struct ops_kv){.type = v->weights->type,
                           .K = v->config.H,
                           .P = block_tokens(&v->config),
                           .E = tower_head(&v->config),
                           .base = v->kv};
}

static void set_limits(struct vision *v)
{
    const struct vision_config *c = &v->config;
    const int merged = c->merge * c->merge;

    if (any_size(c)) { /* pictures have at least one embedding */
        v->max_pictures = v->max_patches / merged + 1;
        v->max_rows = v->max_patches;
        v->max_blocks = v->max_patches / merged + v->max_patches / BLOCK_ANY + 1;
    } else {
        const int n = c->grid * c->grid + c->class_token;

        v->max_pictures = v->max_patches / (c->grid * c->grid);
        v->max_rows = v->max_pictures * n;
        v->max_blocks = v->max_pictures * ((n + BLOCK_FIXED - 1) / BLOCK_FIXED);
    }
}

/* Place the arrays from base on, or only count when base is NULL.  Returns the bytes needed. */
static size_t lay_out(struct vision *v, uint8_t *base)
{
    const struct vision_config *c = &v->config;
    const size_t R = (size_t)v->max_rows, D = (size_t)c->D, head = (size_t)tower_head(c);
    const size_t inner = (size_t)c->H * head, P = (size_t)block_tokens(c);
    const size_t n_merged = R / (size_t)(c->merge * c->merge) + 1;
    const size_t edge = any_size(c) ? (size_t)(v->max_patches / c->merge + 1) : 0;
    struct carver carver = {.base = base};

    v->x = carve(&carver, R * D * sizeof *v->x);
    v->y = carve(&carver, R * D * sizeof *v->y);
    v->qkv = carve(&carver, R * 3 * inner * sizeof *v->qkv);
    v->attn = carve(&carver, R * inner * sizeof *v->attn);
    v->hidden = carve(&carver, R * (size_t)c->F * sizeof *v->hidden);
    v->middle = carve(&carver, n_merged * (size_t)middle_cols(c) * sizeof *v->middle);
    v->table = carve(&carver, edge * head * sizeof *v->table);
    v->pos = carve(&carver, any_size(c) ? R * 3 * sizeof *v->pos : 0);
    v->place = carve(&carver, any_size(c) ? 0 : R * sizeof *v->place);
    v->blocks = carve(&carver, (size_t)v->max_blocks * sizeof *v->blocks);
    v->seqs = carve(&carver, (size_t)v->max_pictures * sizeof *v->seqs);
    v->kv =
        carve(&carver, (size_t)v->max_blocks * 2 * inner * P * ops_type_bytes(v->weights->type));
    return carver.n_bytes;
}

/* ---- tables ------------------------------------------------------------------------------------ */

/* Angles of a row or column number: the first E/4 pairs of a head turn by the row, the next by the
 * column, at the same speeds. */
static enum status fill_table(struct vision *v)
{
    const struct vision_config *c = &v->config;
    const int edge = v->max_patches / c->merge + 1, quarter = c->E / 4;
    float *one = host_alloc((size_t)edge * (size_t)quarter * 2 * sizeof *one);

    if (one == NULL)
        return ST_NOMEM;
    rope_table_fill(one, edge, c->E / 2, &(struct model_rope){.base = c->rope_base});
    for (int p = 0; p < edge; p++)
        for (int half = 0; half < 2; half++)
            memcpy(v->table + (ptrdiff_t)p * tower_head(c) + (ptrdiff_t)half * quarter * 2,
                   one + (ptrdiff_t)p * quarter * 2, (size_t)quarter * 2 * sizeof *one);
    host_free(one);
    return ST_OK;
}

/* ---- create, destroy ---------------------------------------------------------------------------- */

enum status vision_create(const struct vision_args *args, struct vision **out_vision)
{
    struct vision *v = host_zalloc(sizeof *v);
    enum status st = ST_NOMEM;

    if (v == NULL)
        goto err;
    v->config = *args->config;
    v->weights = args->weights;
    v->ops = args->ops;
    v->threads = args->threads;
    v->max_patches = args->max_patches;
    set_limits(v);
    assert(v->max_pictures > 0 && v->weights->L == v->config.L);
    TRY(ops_ctx_create(args->threads, &v->ctx), err);
    st = ST_NOMEM;
    v->pages_bytes = lay_out(v, NULL);
    v->pages = pages_map(v->pages_bytes);
    if (v->pages == NULL)
        goto err;
    lay_out(v, v->pages);
    for (int b = 0; b < v->max_blocks; b++)
        v->blocks[b] = b;
    if (any_size(&v->config))
        TRY(fill_table(v), err);
    *out_vision = v;
    return ST_OK;
err:
    vision_destroy(v);
    return st;
}

void vision_destroy(struct vision *v)
{
    if (v == NULL)
        return;
    pages_unmap(v->pages, v->pages_bytes);
    ops_ctx_destroy(v->ctx);
    host_free(v);
}

/* ---- a batch ------------------------------------------------------------------------------------ */

/* Where the patches of a picture are: m x m neighbours follow each other in qwen2vl.  Elsewhere
 * patch i is at place i of the position embedding; idefics3's code computes that from fractions of
 * the edge in float32, which comes to the same on the grids of published models and is noise on
 * some others. */
static void place_patches(struct vision *v, const struct vision_plan *plan, int row0)
{
    const struct vision_config *c = &v->config;
    const int n = plan->grid_h * plan->grid_w, w = plan->grid_w, m = c->merge;

    if (c->class_token)
        v->place[row0++] = 0;
    for (int i = 0; i < n; i++) {
        if (any_size(c)) {
            const int window = i / (m * m), inside = i % (m * m);
            int32_t *pos = v->pos + (ptrdiff_t)(row0 + i) * 3;

            pos[0] = window / (w / m) * m + inside / m;
            pos[1] = window % (w / m) * m + inside % m;
            pos[2] = 0;
        } else {
            v->place[row0 + i] = i + c->class_token;
        }
    }
}

static void check_plan(const struct vision_config *c, const struct vision_plan *plan)
{
    const int n = plan->grid_h * plan->grid_w, m = c->merge;

    assert(plan->n_pictures > 0 && n > 0 && plan->n_patches == plan->n_pictures * n);
    assert(plan->grid_h % m == 0 && plan->grid_w % m == 0);
    assert(any_size(c) || (plan->grid_h == c->grid && plan->grid_w == c->grid));
    assert(plan->n_rows == plan->n_pictures * (n / (m * m) + c->keep_class_token));
    (void)c;
    (void)n;
    (void)m;
}

enum status vision_begin(struct vision *v, const struct vision_item *items, int n_items)
{
    const struct vision_config *c = &v->config;
    const int P = block_tokens(c);
    int n_patches = 0, n_blocks = 0;

    assert(n_items > 0 && !v->busy);
    v->items = items;
    v->n_items = n_items;
    v->n_rows = v->n_pictures = v->next_part = 0;
    v->busy = true;
    for (int i = 0; i < n_items; i++) {
        const struct vision_plan *plan = items[i].plan;
        const int n = rows_of(c, plan);

        check_plan(c, plan);
        n_patches += plan->n_patches;
        assert(n_patches <= v->max_patches);
        for (int p = 0; p < plan->n_pictures; p++) {
            v->seqs[v->n_pictures++] = (struct ops_seq){v->blocks + n_blocks, 0, n, v->n_rows};
            place_patches(v, plan, v->n_rows);
            v->n_rows += n;
            n_blocks += (n + P - 1) / P;
        }
    }
    assert(v->n_pictures <= v->max_pictures && n_blocks <= v->max_blocks);
    return ST_OK;
}

/* Bias, class token and position of one row. */
static void embed_row(void *arg, int t, int thread)
{
    const struct vision *v = arg;
    const struct vision_weights *w = v->weights;
    const int D = v->config.D;
    float *x = v->x + (ptrdiff_t)t * D;

    (void)thread;
    if (w->class_token != NULL && v->place[t] == 0)
        memcpy(x, w->class_token, (size_t)D * sizeof *x);
    for (int i = 0; w->patch_bias != NULL && i < D; i++)
        x[i] += w->patch_bias[i];
    for (int i = 0; w->position != NULL && i < D; i++)
        x[i] += w->position[(ptrdiff_t)v->place[t] * D + i];
}

static enum status embed(struct vision *v)
{
    const struct vision_config *c = &v->config;
    const struct vision_weights *w = v->weights;
    const int elems = vision_patch_elems(c);
    ptrdiff_t row = 0;
    enum status st = ST_OK;

    for (int i = 0; i < v->n_items; i++) {
        const struct vision_plan *plan = v->items[i].plan;
        const int n = plan->grid_h * plan->grid_w;

        for (int p = 0; p < plan->n_pictures; p++) {
            TRY(v->ops->matmul(v->ctx, v->x + (row + c->class_token) * c->D, c->D,
                               v->items[i].patches + (ptrdiff_t)p * n * elems, elems, &w->patch, n),
                err);
            row += n + c->class_token;
        }
    }
    threads_run(v->threads, v->n_rows, embed_row, v);
    if (w->pre_norm != NULL)
        st = v->ops->layernorm(v->ctx, v->x, v->x, w->pre_norm, w->pre_norm_bias, v->n_rows, c->D,
                               (float)c->eps);
err:
    return st;
}

static enum status attend(struct vision *v, const struct tower_layer *w)
{
    const struct vision_config *c = &v->config;
    const struct ops *ops = v->ops;
    const int R = v->n_rows, D = c->D, head = tower_head(c), inner = c->H * head, ld = 3 * inner;
    const struct ops_kv kv = kv_of(v);
    const struct ops_attention how = {.scale = (float)(1.0 / sqrt((double)c->E)),
                                      .both_ways = true};
    const int sections[3] = {c->E / 4, c->E / 4, 0};
    enum status st;

    TRY(ops->layernorm(v->ctx, v->y, v->x, w->norm_1, w->norm_1_bias, R, D, (float)c->eps), err);
    TRY(ops->matmul(v->ctx, v->qkv, ld, v->y, D, &w->qkv, R), err);
    TRY(ops->add_row(v->ctx, v->qkv, w->qkv_bias, R, ld), err);
    if (any_size(c))
        TRY(ops->rope_sections(v->ctx, v->qkv, ld, v->pos, sections, v->table, R, 2 * c->H, head),
            err);
    TRY(ops->kv_store(v->ctx, &kv, v->seqs, v->n_pictures, v->qkv + inner, v->qkv + 2L * inner, ld),
        err);
    TRY(ops->attention(v->ctx, v->attn, v->qkv, ld, c->H, &kv, v->seqs, v->n_pictures, &how), err);
    TRY(ops->matmul(v->ctx, v->y, D, v->attn, inner, &w->o, R), err);
    TRY(ops->add_row(v->ctx, v->y, w->o_bias, R, D), err);
    st = ops->add(v->ctx, v->x, v->y, (int64_t)R * D);
err:
    return st;
}

static enum ops_act act_of(enum vision_activation activation)
{
    return activation == VISION_QUICK_GELU  ? OPS_QUICK_GELU
           : activation == VISION_GELU_TANH ? OPS_GELU_TANH
                                            : OPS_GELU_ERF;
}

static enum status feed_forward(struct vision *v, const struct tower_layer *w)
{
    const struct vision_config *c = &v->config;
    const struct ops *ops = v->ops;
    const int R = v->n_rows, D = c->D, F = c->F;
    enum status st;

    TRY(ops->layernorm(v->ctx, v->y, v->x, w->norm_2, w->norm_2_bias, R, D, (float)c->eps), err);
    TRY(ops->matmul(v->ctx, v->hidden, F, v->y, D, &w->fc_1, R), err);
    TRY(ops->bias_act(v->ctx, v->hidden, w->fc_1_bias, R, F, act_of(c->activation)), err);
    TRY(ops->matmul(v->ctx, v->y, D, v->hidden, F, &w->fc_2, R), err);
    TRY(ops->add_row(v->ctx, v->y, w->fc_2_bias, R, D), err);
    st = ops->add(v->ctx, v->x, v->y, (int64_t)R * D);
err:
    return st;
}

/* idefics3: the m x m patches of each embedding side by side, row after row, from y to x.  Task:
 * one patch of all. */
static void gather_patch(void *arg, int t, int thread)
{
    const struct vision *v = arg;
    const int D = v->config.D, g = v->config.grid, m = v->config.merge;
    const int picture = t / (g * g), r = t % (g * g) / g, col = t % g;
    const ptrdiff_t window = (ptrdiff_t)picture * (g / m) * (g / m) + r / m * (g / m) + col / m;
    const ptrdiff_t to = window * m * m + r % m * m + col % m;

    (void)thread;
    memcpy(v->x + to * D, v->y + (ptrdiff_t)t * D, (size_t)D * sizeof *v->x);
}

/* From rows [n, inner] to the embeddings of an image. */
static enum status project(struct vision *v, const float *rows, int inner, int n, float *out)
{
    const struct vision_config *c = &v->config;
    const struct vision_weights *w = v->weights;
    const struct ops *ops = v->ops;
    const int middle = w->projector_1.n_out;
    enum status st;

    if (middle > 0) {
        TRY(ops->matmul(v->ctx, v->middle, middle, rows, inner, &w->projector_1, n), err);
        TRY(ops->bias_act(v->ctx, v->middle, w->projector_1_bias, n, middle,
                          act_of(c->projector_activation)),
            err);
        rows = v->middle;
    }
    TRY(ops->matmul(v->ctx, out, c->D_out, rows, w->projector_2.n_in, &w->projector_2, n), err);
    if (c->layout != VISION_IDEFICS3)
        st = ops->add_row(v->ctx, out, w->projector_2_bias, n, c->D_out);
err:
    return st;
}

static enum status finish(struct vision *v)
{
    const struct vision_config *c = &v->config;
    const struct vision_weights *w = v->weights;
    const float *norm = w->post_norm != NULL ? w->post_norm : w->merge_norm;
    const float *norm_bias = w->post_norm != NULL ? w->post_norm_bias : w->merge_norm_bias;
    const int inner = c->merge * c->merge * c->D;
    const float *rows = v->x;
    enum status st;

    if (norm != NULL) {
        TRY(v->ops->layernorm(v->ctx, v->y, v->x, norm, norm_bias, v->n_rows, c->D, (float)c->eps),
            err);
        rows = v->y;
    }
    if (c->layout == VISION_IDEFICS3) {
        threads_run(v->threads, v->n_rows, gather_patch, v);
        rows = v->x;
    }
    for (int i = 0; i < v->n_items; i++) {
        const struct vision_plan *plan = v->items[i].plan;
        const int skipped = c->class_token && !c->keep_class_token ? 1 : 0;

        TRY(project(v, rows + (ptrdiff_t)skipped * c->D, inner, plan->n_rows, v->items[i].out),
            err);
        rows += (ptrdiff_t)plan->n_pictures * rows_of(c, plan) * c->D;
    }
    st = ST_OK;
err:
    return st;
}

enum status vision_part(struct vision *v, bool *out_done)
{
    const int n_parts = 2 + 2 * v->config.L, part = v->next_part++;
    enum status st;

    assert(v->busy && part < n_parts);
    if (part == 0)
        TRY(embed(v), err);
    else if (part == n_parts - 1)
        TRY(finish(v), err);
    else if (part % 2 == 1)
        TRY(attend(v, &v->weights->layers[part / 2]), err);
    else
        TRY(feed_forward(v, &v->weights->layers[part / 2 - 1]), err);
    *out_done = part == n_parts - 1;
    v->busy = !*out_done;
    return ST_OK;
err:
    v->busy = false;
    return st;
}

double vision_flop(const struct vision_config *c, const struct vision_plan *plan)
{
    const double D = c->D, rows = rows_of(c, plan), pictures = plan->n_pictures;
    const double inner = (double)(c->merge * c->merge) * D, middle = middle_cols(c);
    const double layer = rows * (4 * D * D + 2 * D * c->F) + 2 * rows * rows * D;
    const double projector =
        middle > 0 ? inner * middle + middle * c->D_out : inner * (double)c->D_out;

    return 2 * (plan->n_patches * (double)vision_patch_elems(c) * D + pictures * c->L * layer +
                plan->n_rows * projector);
}
