/*
 * vision_weights.c - from the tensors of a vision tower to the packed matrices that vision.c reads.
 *
 * As weights.c: one mapping, rows checked for NaN and infinity and packed in parallel, layers in
 * turn for each of several ranks that fill it together.  Heads whose size is not a multiple of 16
 * are filled up with zeros, in rows of q, k and v and in columns of o.
 */
#include <assert.h>
#include <stdatomic.h>

#include "model/pack.h"
#include "model/tower.h"

/* ---- layout ------------------------------------------------------------------------------------ */

static void lay_out_layer(const struct vision_config *c, enum ops_type type, struct carver *carver,
                          struct tower_layer *out)
{
    const int inner = c->H * tower_head(c);

    out->norm_1 = carve_vector(carver, c->D);
    out->norm_1_bias = carve_vector(carver, c->D);
    out->qkv = carve_matrix(carver, type, 3 * inner, c->D);
    out->qkv_bias = carve_vector(carver, 3 * inner);
    out->o = carve_matrix(carver, type, c->D, inner);
    out->o_bias = carve_vector(carver, c->D);
    out->norm_2 = carve_vector(carver, c->D);
    out->norm_2_bias = carve_vector(carver, c->D);
    out->fc_1 = carve_matrix(carver, type, c->F, c->D);
    out->fc_1_bias = carve_vector(carver, c->F);
    out->fc_2 = carve_matrix(carver, type, c->D, c->F);
    out->fc_2_bias = carve_vector(carver, c->D);
}

static float *carve_if(bool there, struct carver *carver, int n)
{
    return there ? carve_vector(carver, n) : NULL;
}

static void lay_out_shared(const struct vision_config *c, enum ops_type type, struct carver *carver,
                           struct vision_weights *out)
{
    const bool merges = c->layout == VISION_QWEN2VL;
    const int inner = c->merge * c->merge * c->D;
    const int middle = c->layout == VISION_LLAVA ? c->D_out : inner;

    out->patch = carve_matrix(carver, type, c->D, vision_patch_elems(c));
    out->patch_bias = carve_if(c->patch_bias, carver, c->D);
    out->class_token = carve_if(c->class_token, carver, c->D);
    out->position = carve_if(!merges, carver, tower_n_positions(c) * c->D);
    out->pre_norm = carve_if(c->pre_norm, carver, c->D);
    out->pre_norm_bias = carve_if(c->pre_norm, carver, c->D);
    out->post_norm = carve_if(c->post_norm, carver, c->D);
    out->post_norm_bias = carve_if(c->post_norm, carver, c->D);
    out->merge_norm = carve_if(merges, carver, c->D);
    out->merge_norm_bias = carve_if(merges, carver, c->D);
    out->projector_1 = (struct ops_matrix){0};
    out->projector_1_bias = NULL;
    if (c->layout != VISION_IDEFICS3) {
        out->projector_1 = carve_matrix(carver, type, middle, inner);
        out->projector_1_bias = carve_vector(carver, middle);
    }
    out->projector_2 = carve_matrix(carver, type, c->D_out, middle);
    out->projector_2_bias = carve_vector(carver, c->D_out);
}

size_t vision_weights_bytes(const struct vision_config *config, enum ops_type type)
{
    struct carver layer = {0}, shared = {0};
    struct tower_layer unused_layer;
    struct vision_weights unused_shared;

    lay_out_layer(config, type, &layer, &unused_layer);
    lay_out_shared(config, type, &shared, &unused_shared);
    return (size_t)config->L * layer.n_bytes + shared.n_bytes;
}

/* ---- filling ----------------------------------------------------------------------------------- */

/* How heads are filled up: not; rows are elements of heads; columns are.  Those that turn have
 * their halves half a filled head apart. */
enum fill_up { AS_IT_IS, ROWS, TURNED_ROWS, COLUMNS };

struct tower_filling {
    const struct vision_config *config;
    const struct tensor_view *from;
    struct ops_matrix *to; /* NULL: vectors, which go to vector */
    float *vector;         /* [n_rows, n_cols], or one row filled up */
    int first_out;
    enum fill_up how;
    bool rounded;
    float *scratch; /* [threads, 2, scratch_ld]: a row as stored, and filled up */
    size_t scratch_ld;
    _Atomic(int64_t) first_bad_row; /* n_rows: none */
};

/* The place of element i of heads one after another. */
static int64_t filled_place(const struct vision_config *c, int64_t i, bool turned)
{
    const int64_t h = i / c->E, e = i % c->E, head = tower_head(c), half = c->E / 2;

    return h * head + (turned && e >= half ? head / 2 + e - half : e);
}

static void fill_row(struct tower_filling *f, int64_t r, float *row, float *filled)
{
    const struct vision_config *c = f->config;
    const int64_t n = f->from->n_cols;

    if (f->to == NULL && f->how != AS_IT_IS) { /* a bias: its elements are what rows are */
        for (int64_t i = 0; i < n; i++)
            f->vector[filled_place(c, i, f->how == TURNED_ROWS)] = row[i];
    } else if (f->to == NULL) {
        memcpy(f->vector + r * n, row, (size_t)n * sizeof *row);
    } else if (f->how == COLUMNS) {
        memset(filled, 0, (size_t)f->to->n_in * sizeof *filled);
        for (int64_t i = 0; i < n; i++)
            filled[filled_place(c, i, false)] = row[i];
        ops_matrix_set_row(f->to, (int)r, filled);
    } else {
        const int64_t at = f->how == AS_IT_IS ? r : filled_place(c, r, f->how == TURNED_ROWS);

        ops_matrix_set_row(f->to, f->first_out + (int)at, row);
    }
}

static void fill_panel(void *arg, int task, int thread)
{
    struct tower_filling *f = arg;
    const struct tensor_view *from = f->from;
    float *row = f->scratch + (size_t)thread * 2 * f->scratch_ld;
    const int64_t first = (int64_t)task * OPS_LANES;
    const int64_t end = first + OPS_LANES < from->n_rows ? first + OPS_LANES : from->n_rows;

    for (int64_t r = first; r < end; r++) {
        tensor_type_info(from->type)
            ->dequantize(from->data + (size_t)r * from->row_bytes, from->n_cols, row);
        if (!pack_row_is_finite(row, from->n_cols, f->rounded)) {
            pack_note_bad_row(&f->first_bad_row, r);
            return;
        }
        if (f->to == NULL && f->rounded)
            pack_round_row(row, from->n_cols);
        fill_row(f, r, row, row + f->scratch_ld);
    }
}

/* Rows of zeros that fill heads up, where q, k and v end in the middle of a panel: the memory is
 * zeros already. */
static enum status fill(struct tower_filling *f, const struct vision_weights_args *args,
                        enum tower_id id, int layer, struct ops_matrix *to, int first_out,
                        float *vector, enum fill_up how)
{
    const struct tensor_view *from = tower_tensor(args->source, id, layer);

    if (from == NULL)
        return ST_OK; /* one that this tower does not have; a bias stays zero */
    assert(to != NULL || vector != NULL);
    f->from = from;
    f->to = to;
    f->vector = vector;
    f->first_out = first_out;
    f->how = how;
    const bool is_norm = id == TOWER_PRE_NORM || id == TOWER_PRE_NORM_BIAS ||
                         id == TOWER_POST_NORM || id == TOWER_POST_NORM_BIAS ||
                         id == TOWER_MERGE_NORM || id == TOWER_MERGE_NORM_BIAS ||
                         id == TOWER_NORM_1 || id == TOWER_NORM_1_BIAS || id == TOWER_NORM_2 ||
                         id == TOWER_NORM_2_BIAS;
    f->rounded = args->type == OPS_BF16 && !is_norm;
    atomic_store(&f->first_bad_row, from->n_rows);
    threads_run(args->threads, (int)((from->n_rows + OPS_LANES - 1) / OPS_LANES), fill_panel, f);
    return pack_check(from, atomic_load(&f->first_bad_row), f->rounded);
}

static enum status fill_layer(struct tower_filling *f, const struct vision_weights_args *args,
                              int l, struct tower_layer *w)
{
    const struct vision_config *c = f->config;
    const int inner = c->H * tower_head(c);
    const enum fill_up turned = c->layout == VISION_QWEN2VL ? TURNED_ROWS : ROWS;
    const struct {
        enum tower_id id;
        struct ops_matrix *to;
        int first_out;
        float *vector;
        enum fill_up how;
    } parts[] = {
        {TOWER_NORM_1, NULL, 0, w->norm_1, AS_IT_IS},
        {TOWER_NORM_1_BIAS, NULL, 0, w->norm_1_bias, AS_IT_IS},
        {TOWER_Q, &w->qkv, 0, NULL, turned},
        {TOWER_Q_BIAS, NULL, 0, w->qkv_bias, turned},
        {TOWER_K, &w->qkv, inner, NULL, turned},
        {TOWER_K_BIAS, NULL, 0, w->qkv_bias + inner, turned},
        {TOWER_V, &w->qkv, 2 * inner, NULL, ROWS},
        {TOWER_V_BIAS, NULL, 0, w->qkv_bias + (ptrdiff_t)2 * inner, ROWS},
        {TOWER_O, &w->o, 0, NULL, COLUMNS},
        {TOWER_O_BIAS, NULL, 0, w->o_bias, AS_IT_IS},
        {TOWER_NORM_2, NULL, 0, w->norm_2, AS_IT_IS},
        {TOWER_NORM_2_BIAS, NULL, 0, w->norm_2_bias, AS_IT_IS},
        {TOWER_FC_1, &w->fc_1, 0, NULL, AS_IT_IS},
        {TOWER_FC_1_BIAS, NULL, 0, w->fc_1_bias, AS_IT_IS},
        {TOWER_FC_2, &w->fc_2, 0, NULL, AS_IT_IS},
        {TOWER_FC_2_BIAS, NULL, 0, w->fc_2_bias, AS_IT_IS},
    };
    enum status st = ST_OK;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        TRY(fill(f, args, parts[i].id, l, parts[i].to, parts[i].first_out, parts[i].vector,
                 parts[i].how),
            err);
err:
    return st;
}

static enum status fill_shared(struct tower_filling *f, const struct vision_weights_args *args,
                               struct vision_weights *w)
{
    const struct {
        enum tower_id id;
        struct ops_matrix *to;
        float *vector;
    } parts[] = {
        {TOWER_PATCH, &w->patch, NULL},
        {TOWER_PATCH_BIAS, NULL, w->patch_bias},
        {TOWER_CLASS, NULL, w->class_token},
        {TOWER_POSITION, NULL, w->position},
        {TOWER_PRE_NORM, NULL, w->pre_norm},
        {TOWER_PRE_NORM_BIAS, NULL, w->pre_norm_bias},
        {TOWER_POST_NORM, NULL, w->post_norm},
        {TOWER_POST_NORM_BIAS, NULL, w->post_norm_bias},
        {TOWER_MERGE_NORM, NULL, w->merge_norm},
        {TOWER_MERGE_NORM_BIAS, NULL, w->merge_norm_bias},
        {TOWER_PROJECTOR_1, &w->projector_1, NULL},
        {TOWER_PROJECTOR_1_BIAS, NULL, w->projector_1_bias},
        {TOWER_PROJECTOR_2, &w->projector_2, NULL},
        {TOWER_PROJECTOR_2_BIAS, NULL, w->projector_2_bias},
    };
    enum status st = ST_OK;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        TRY(fill(f, args, parts[i].id, 0, parts[i].to, 0, parts[i].vector, AS_IT_IS), err);
err:
    return st;
}

static size_t longest_row(const struct vision_config *c)
{
    const int rows[] = {c->D,
                        c->F,
                        c->H * tower_head(c),
                        vision_patch_elems(c),
                        c->D_out,
                        c->merge * c->merge * c->D};
    int most = 0;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        most = rows[i] > most ? rows[i] : most;
    return (size_t)most;
}

static enum status fill_part(struct vision_weights *w, const struct vision_weights_args *args)
{
    const struct vision_config *c = model_source_vision(args->source);
    const int n_parts = args->n_parts > 0 ? args->n_parts : 1;
    struct tower_filling f = {.config = c, .scratch_ld = longest_row(c)};
    enum status st = ST_NOMEM;

    f.scratch =
        host_alloc((size_t)threads_count(args->threads) * 2 * f.scratch_ld * sizeof *f.scratch);
    if (f.scratch == NULL)
        goto err;
    st = ST_OK;
    for (int l = 0; l < c->L; l++)
        if (l % n_parts == args->part)
            TRY(fill_layer(&f, args, l, &w->layers[l]), err_scratch);
    if (args->part == 0)
        TRY(fill_shared(&f, args, w), err_scratch);
err_scratch:
    host_free(f.scratch);
err:
    return st;
}

enum status vision_weights_create(const struct vision_weights_args *args,
                                  struct vision_weights **out_weights)
{
    const struct vision_config *c = model_source_vision(args->source);
    struct vision_weights *w = host_zalloc(sizeof *w);
    struct carver carver = {0};
    enum status st = ST_NOMEM;

    assert(c != NULL);
    if (w == NULL)
        goto err;
    w->type = args->type;
    w->L = c->L;
    w->layers = host_zalloc(((size_t)c->L + 1) * sizeof *w->layers);
    w->pages_bytes = vision_weights_bytes(c, args->type);
    w->pages_owned = args->memory == NULL;
    w->pages = w->pages_owned ? pages_map(w->pages_bytes) : args->memory;
    if (w->layers == NULL || w->pages == NULL)
        goto err;
    carver.base = w->pages;
    for (int l = 0; l < c->L; l++)
        lay_out_layer(c, args->type, &carver, &w->layers[l]);
    lay_out_shared(c, args->type, &carver, w);
    assert(carver.n_bytes == w->pages_bytes);
    TRY(fill_part(w, args), err);
    *out_weights = w;
    return ST_OK;
err:
    vision_weights_destroy(w);
    return st;
}

void vision_weights_destroy(struct vision_weights *weights)
{
    if (weights == NULL)
        return;
    if (weights->pages_owned)
        pages_unmap(weights->pages, weights->pages_bytes);
    host_free(weights->layers);
    host_free(weights);
}
