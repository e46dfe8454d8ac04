/*
 * weights.c - from the tensors of a model file to the packed matrices that the decoder reads.
 *
 *   file row (F32, F16, BF16, Q4_0, ...) ── float32 ── finite? ── rounded to the type ─► panel
 *
 *   or: file row stays where it is ── float32 ── finite? ;  the rest when the row is used
 *
 * One mapping holds everything, laid out in the order of use.  Rows are packed in parallel, a panel
 * of OPS_LANES rows a task, since the rows of a panel share cache lines.
 */
#include <assert.h>
#include <stdatomic.h>

#include "model/pack.h"
#include "model/weights.h"

/* ---- layout -------------------------------------------------------------------------------- */

/* The vector for a weight that the model has; else NULL. */
static float *carve_optional(struct carver *carver, const struct model_config *c, enum weight_id id)
{
    const struct weight_row *row = &weight_rows[id];

    if ((row->needs & ~weight_features(c)) != 0)
        return NULL;
    return carve_vector(carver, (int)weight_dim(c, row->cols));
}

static void lay_out_ffn(const struct model_config *c, enum ops_type type, struct carver *carver,
                        struct ffn_weights *out)
{
    out->gate_up = carve_matrix(carver, type, 2 * c->F, c->D);
    out->down = carve_matrix(carver, type, c->D, c->F);
}

/* experts: [X], to be laid out; NULL where only bytes are counted. */
static void lay_out_layer(const struct model_config *c, enum ops_type type, struct carver *carver,
                          struct ffn_weights *experts, struct layer_weights *out)
{
    *out = (struct layer_weights){.experts = experts};
    out->attn_norm = carve_optional(carver, c, WEIGHT_ATTN_NORM);
    out->qkv = carve_matrix(carver, type, (c->H + 2 * c->K) * c->E, c->D);
    out->q_norm = carve_optional(carver, c, WEIGHT_Q_NORM);
    out->k_norm = carve_optional(carver, c, WEIGHT_K_NORM);
    out->o = carve_matrix(carver, type, c->D, c->H * c->E);
    out->attn_post_norm = carve_optional(carver, c, WEIGHT_ATTN_POST_NORM);
    out->ffn_norm = carve_optional(carver, c, WEIGHT_FFN_NORM);
    if (c->X == 0) {
        lay_out_ffn(c, type, carver, &out->ffn);
    } else {
        struct ffn_weights unused;

        out->router = carve_matrix(carver, type, c->X, c->D);
        for (int x = 0; x < c->X; x++)
            lay_out_ffn(c, type, carver, experts != NULL ? &experts[x] : &unused);
    }
    out->ffn_post_norm = carve_optional(carver, c, WEIGHT_FFN_POST_NORM);
    out->qkv_bias = c->qkv_bias ? carve_vector(carver, (c->H + 2 * c->K) * c->E) : NULL;
    out->o_bias = carve_optional(carver, c, WEIGHT_O_BIAS);
}

static void lay_out_shared(const struct model_config *c, enum ops_type type, struct carver *carver,
                           struct weights *out)
{
    out->embed = carve_matrix(carver, type, c->V, c->D);
    out->head = c->tied ? out->embed : carve_matrix(carver, type, c->V, c->D);
    out->final_norm = carve_vector(carver, c->D);
}

static size_t count_bytes(const struct model_config *config, enum ops_type type, bool stored)
{
    struct carver layer = {.stored = stored}, shared = {.stored = stored};
    struct layer_weights unused_layer;
    struct weights unused_shared;

    lay_out_layer(config, type, &layer, NULL, &unused_layer);
    lay_out_shared(config, type, &shared, &unused_shared);
    return (size_t)config->L * layer.n_bytes + shared.n_bytes;
}

size_t weights_bytes(const struct model_config *config, enum ops_type type)
{
    return count_bytes(config, type, false);
}

size_t weights_stored_bytes(const struct model_source *source, size_t *out_mapped)
{
    const struct model_config *c = model_source_config(source);

    *out_mapped = 0;
    for (size_t i = 0; i < model_n_views(c); i++)
        if (source->views[i].data != NULL)
            *out_mapped += (size_t)source->views[i].n_rows * source->views[i].row_bytes;
    return count_bytes(c, OPS_BF16, true);
}

/* ---- filling ------------------------------------------------------------------------------- */

/* One tensor of the file on its way into rows first_out .. of a matrix. */
struct filling {
    const struct model_source *source;
    enum weight_id id;
    int layer;
    int64_t n_rows, n_cols;
    struct ops_matrix *to; /* NULL: a vector, its one row goes to vector */
    float *vector;
    int first_out;
    float *scratch;       /* [threads, scratch_ld] */
    size_t scratch_ld;    /* floats */
    enum ops_type type;   /* of the matrices */
    struct arena *stored; /* where matrices note their stored rows; NULL: they are packed */
    bool mine;            /* of this part: checked and filled here */
    bool rounded;         /* this one is stored as bf16, or as if */
    _Atomic(int64_t) first_bad_row; /* n_rows: none */
};

static void fill_panel(void *arg, int task, int thread)
{
    struct filling *f = arg;
    float *row = f->to != NULL ? f->scratch + (size_t)thread * f->scratch_ld : f->vector;
    const int64_t first = (int64_t)task * OPS_LANES;
    const int64_t end = first + OPS_LANES < f->n_rows ? first + OPS_LANES : f->n_rows;

    for (int64_t r = first; r < end; r++) {
        model_source_row(f->source, f->id, f->layer, r, row);
        if (!pack_row_is_finite(row, f->n_cols, f->rounded)) {
            pack_note_bad_row(&f->first_bad_row, r);
            return;
        }
        if (f->to != NULL && f->stored != NULL)
            continue;
        if (f->to != NULL)
            ops_matrix_set_row(f->to, f->first_out + (int)r, row);
        else if (f->rounded)
            pack_round_row(row, f->n_cols);
    }
}

/* ---- rows that stay in the file -------------------------------------------------------------- */

enum { MAX_STORED = 4 }; /* tensors that make one matrix */

struct stored_rows {
    struct ops_stored ops[MAX_STORED];
    struct stored_tensor {
        const struct model_source *source;
        enum weight_id id;
        int layer;
    } tensors[MAX_STORED];
};

static void expand_stored(const void *arg, int row, int first, int n, float *out)
{
    const struct stored_tensor *tensor = arg;

    model_source_part(tensor->source, tensor->id, tensor->layer, row, first, n, out);
}

/* The next rows of a matrix are those of the tensor that f is about. */
static enum status add_stored(const struct filling *f)
{
    struct ops_matrix *w = f->to;
    const int n = w->n_stored;
    struct stored_rows *rows =
        n == 0 ? arena_alloc(f->stored, sizeof *rows)
               : (struct stored_rows *)(uintptr_t)w->stored; /* ops is its first member */

    if (rows == NULL)
        return ST_NOMEM;
    assert(n < MAX_STORED);
    rows->tensors[n] = (struct stored_tensor){f->source, f->id, f->layer};
    rows->ops[n] = (struct ops_stored){
        .n_rows = (int)f->n_rows, .expand = expand_stored, .arg = &rows->tensors[n]};
    w->stored = rows->ops;
    w->n_stored++;
    return ST_OK;
}

/* Fill `to` from row first_out on (or vector) with one tensor. */
static enum status fill(struct filling *f, struct threads *threads, enum weight_id id, int layer,
                        struct ops_matrix *to, int first_out, float *vector)
{
    const struct tensor_view *tensor = model_source_tensor(f->source, id, layer);

    assert(tensor != NULL); /* model_open has checked presence and shape */
    assert(to == NULL || (tensor->n_cols == to->n_in && first_out + tensor->n_rows <= to->n_out));
    assert(to != NULL || tensor->n_rows == 1);
    f->id = id;
    f->layer = layer;
    f->n_rows = tensor->n_rows;
    f->n_cols = tensor->n_cols;
    f->to = to;
    f->vector = vector;
    f->first_out = first_out;
    if (to != NULL && f->stored != NULL && add_stored(f) != ST_OK)
        return ST_NOMEM;
    if (!f->mine)
        return ST_OK;
    f->rounded = f->type == OPS_BF16 && (to != NULL || weight_is_bias(id)); /* all but norms */
    atomic_store(&f->first_bad_row, tensor->n_rows);
    threads_run(threads, (int)((tensor->n_rows + OPS_LANES - 1) / OPS_LANES), fill_panel, f);

    return pack_check(tensor, atomic_load(&f->first_bad_row), f->rounded);
}

/* The vectors that the model has. */
static enum status fill_vectors(struct filling *f, struct threads *threads,
                                const struct model_config *c, int layer, struct layer_weights *w)
{
    float *q = w->qkv_bias, *k = q != NULL ? q + c->H * c->E : NULL;
    const struct {
        enum weight_id id;
        float *to;
    } vectors[] = {
        {WEIGHT_ATTN_NORM, w->attn_norm},
        {WEIGHT_FFN_NORM, w->ffn_norm},
        {WEIGHT_ATTN_POST_NORM, w->attn_post_norm},
        {WEIGHT_FFN_POST_NORM, w->ffn_post_norm},
        {WEIGHT_Q_NORM, w->q_norm},
        {WEIGHT_K_NORM, w->k_norm},
        {WEIGHT_Q_BIAS, q},
        {WEIGHT_K_BIAS, k},
        {WEIGHT_V_BIAS, k != NULL ? k + c->K * c->E : NULL},
        {WEIGHT_O_BIAS, w->o_bias},
    };
    enum status st = ST_OK;

    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        if (vectors[i].to != NULL)
            TRY(fill(f, threads, vectors[i].id, layer, NULL, 0, vectors[i].to), err);
err:
    return st;
}

static enum status fill_experts(struct filling *f, struct threads *threads,
                                const struct model_config *c, int layer, struct layer_weights *w)
{
    enum status st;

    TRY(fill(f, threads, WEIGHT_ROUTER, layer, &w->router, 0, NULL), err);
    for (int x = 0; x < c->X; x++) {
        const int index = layer * c->X + x;

        TRY(fill(f, threads, WEIGHT_X_GATE, index, &w->experts[x].gate_up, 0, NULL), err);
        TRY(fill(f, threads, WEIGHT_X_UP, index, &w->experts[x].gate_up, c->F, NULL), err);
        TRY(fill(f, threads, WEIGHT_X_DOWN, index, &w->experts[x].down, 0, NULL), err);
    }
err:
    return st;
}

static enum status fill_layer(struct filling *f, struct threads *threads,
                              const struct model_config *c, int layer, struct layer_weights *w)
{
    enum status st;

    TRY(fill_vectors(f, threads, c, layer, w), err);
    TRY(fill(f, threads, WEIGHT_Q, layer, &w->qkv, 0, NULL), err);
    TRY(fill(f, threads, WEIGHT_K, layer, &w->qkv, c->H * c->E, NULL), err);
    TRY(fill(f, threads, WEIGHT_V, layer, &w->qkv, (c->H + c->K) * c->E, NULL), err);
    TRY(fill(f, threads, WEIGHT_O, layer, &w->o, 0, NULL), err);
    if (c->X > 0)
        return fill_experts(f, threads, c, layer, w);
    TRY(fill(f, threads, WEIGHT_GATE, layer, &w->ffn.gate_up, 0, NULL), err);
    TRY(fill(f, threads, WEIGHT_UP, layer, &w->ffn.gate_up, c->F, NULL), err);
    TRY(fill(f, threads, WEIGHT_DOWN, layer, &w->ffn.down, 0, NULL), err);
err:
    return st;
}

/* Everything that is of this part: layers in turn, what they share with part 0. */
static enum status fill_part(struct weights *w, const struct weights_args *args)
{
    enum status st = ST_NOMEM;
    const struct model_config *c = model_source_config(args->source);
    const int n_parts = args->n_parts > 0 ? args->n_parts : 1;
    struct filling f = {.source = args->source, .type = args->type, .stored = w->stored};

    f.scratch_ld = (size_t)(c->D > c->F ? c->D : c->F);
    if (f.scratch_ld < (size_t)(c->H * c->E))
        f.scratch_ld = (size_t)(c->H * c->E);
    f.scratch = host_alloc((size_t)threads_count(args->threads) * f.scratch_ld * sizeof *f.scratch);
    if (f.scratch == NULL)
        goto err;

    /* Where rows stay in the file, every part has to know where they all are. */
    for (int l = 0; l < c->L; l++) {
        f.mine = l % n_parts == args->part;
        if (f.mine || args->stored)
            TRY(fill_layer(&f, args->threads, c, l, &w->layers[l]), err_scratch);
    }
    st = ST_OK;
    f.mine = args->part == 0;
    if (!f.mine && !args->stored)
        goto err_scratch;
    TRY(fill(&f, args->threads, WEIGHT_EMBED, 0, &w->embed, 0, NULL), err_scratch);
    TRY(fill(&f, args->threads, WEIGHT_FINAL_NORM, 0, NULL, 0, w->final_norm), err_scratch);
    if (!c->tied)
        TRY(fill(&f, args->threads, WEIGHT_HEAD, 0, &w->head, 0, NULL), err_scratch);
    else
        w->head = w->embed;

err_scratch:
    host_free(f.scratch);
err:
    return st;
}

enum status weights_create(const struct weights_args *args, struct weights **out_weights)
{
    enum status st = ST_NOMEM;
    const struct model_config *c = model_source_config(args->source);
    const double begun_s = clock_now_s();
    struct weights *w = host_zalloc(sizeof *w);

    if (w == NULL)
        goto err;
    w->type = args->type;
    w->L = c->L;
    w->layers = host_zalloc((size_t)c->L * sizeof *w->layers);
    w->pages_bytes = count_bytes(c, args->type, args->stored);
    w->pages_owned = args->memory == NULL;
    w->pages = w->pages_owned ? pages_map(w->pages_bytes) : args->memory;
    if (c->X > 0)
        w->experts = host_zalloc((size_t)c->L * (size_t)c->X * sizeof *w->experts);
    if (w->layers == NULL || w->pages == NULL || (c->X > 0 && w->experts == NULL))
        goto err;

    if (args->stored)
        TRY(arena_create(64 << 10, &w->stored), err);
    struct carver carver = {.base = w->pages, .stored = args->stored};
    for (int l = 0; l < c->L; l++)
        lay_out_layer(c, args->type, &carver, c->X > 0 ? w->experts + (ptrdiff_t)l * c->X : NULL,
                      &w->layers[l]);
    lay_out_shared(c, args->type, &carver, w);
    assert(carver.n_bytes == w->pages_bytes);

    TRY(fill_part(w, args), err);
    log_debug("weights: part %d of %.1f MiB packed in %.2f s", args->part,
              (double)w->pages_bytes / (1 << 20), clock_now_s() - begun_s);
    *out_weights = w;
    return ST_OK;
err:
    weights_destroy(w);
    return st;
}

void weights_destroy(struct weights *weights)
{
    if (weights == NULL)
        return;
    if (weights->pages_owned)
        pages_unmap(weights->pages, weights->pages_bytes);
    arena_destroy(weights->stored);
    host_free(weights->layers);
    host_free(weights->experts);
    host_free(weights);
}
