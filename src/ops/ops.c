/*
 * ops.c - the list of variants, packed matrices, and contexts.
 *
 * Does no arithmetic on activations: that is in cpu/.  Called by model/ and by tests.
 */
#include <assert.h>
#include <stdio.h>

#include "ops/ctx.h"

/* ---- variants ------------------------------------------------------------------------------- */

/* Narrowest first: "auto" takes the last one that this CPU can run, and that pays. */
static const struct ops *const variants[] = {
    &ops_cpu_plain,
#if defined(__x86_64__)
    &ops_cpu_avx2,  &ops_cpu_avx512, &ops_cpu_avx512bf16,
#endif
    NULL,
};

const struct ops *const *ops_list(void)
{
    return variants;
}

enum status ops_find(const char *name, const struct ops **out_ops)
{
    const bool any = strcmp(name, "auto") == 0;
    const struct ops *best = NULL;
    char known[128] = "auto";
    size_t n_known = strlen(known);

    for (const struct ops *const *ops = variants; *ops != NULL; ops++) {
        if (strcmp((*ops)->name, name) == 0) {
            if ((*ops)->usable()) {
                *out_ops = *ops;
                return ST_OK;
            }
            log_error("instructions %s: this CPU does not have them; use instructions = \"auto\"",
                      name);
            return ST_UNSUPPORTED;
        }
        if (any && (*ops)->usable() && ((*ops)->pays == NULL || (*ops)->pays()))
            best = *ops;
        n_known += (size_t)snprintf(known + n_known, sizeof known - n_known, ", %s", (*ops)->name);
    }
    if (any) {
        *out_ops = best;
        return ST_OK;
    }
    log_error("instructions \"%s\" are unknown; use one of: %s", name, known);
    return ST_CONFIG;
}

/* ---- packed matrices ------------------------------------------------------------------------ */

/* Elements of one panel: 16 outputs of all inputs, in pairs. */
static size_t panel_elems(int n_in)
{
    return (size_t)ops_ceil_div(n_in, 2) * 2 * OPS_LANES;
}

size_t ops_matrix_bytes(enum ops_type type, int n_out, int n_in)
{
    return (size_t)ops_ceil_div(n_out, OPS_LANES) * panel_elems(n_in) * ops_type_bytes(type);
}

/* Index of weight (out, in) in w->data. */
static size_t matrix_index(const struct ops_matrix *w, int out, int in)
{
    return (size_t)(out / OPS_LANES) * panel_elems(w->n_in) +
           ((size_t)(in / 2) * OPS_LANES + (size_t)(out % OPS_LANES)) * 2 + (size_t)(in % 2);
}

static void matrix_set(struct ops_matrix *w, int out, int in, float value)
{
    const size_t at = matrix_index(w, out, in);

    if (w->type == OPS_BF16)
        ((uint16_t *)w->data)[at] = bf16_from_f32(value);
    else
        ((float *)w->data)[at] = value;
}

void ops_matrix_set_row(struct ops_matrix *w, int out, const float *row)
{
    assert(out >= 0 && out < w->n_out && w->stored == NULL);
    for (int in = 0; in < w->n_in; in++)
        matrix_set(w, out, in, row[in]);
    /* The padding takes part in the chains, so it has to be zero whatever the memory held. */
    if (w->n_in % 2 != 0)
        matrix_set(w, out, w->n_in, 0.0f);
    if (out == w->n_out - 1)
        for (int pad = w->n_out; pad % OPS_LANES != 0; pad++)
            for (int in = 0; in < w->n_in + w->n_in % 2; in++)
                matrix_set(w, pad, in, 0.0f);
}

void ops_matrix_expand(const struct ops_matrix *w, int out, int first, int n, float *row)
{
    const struct ops_stored *rows = w->stored;

    while (out >= rows->n_rows) {
        out -= rows->n_rows;
        rows++;
    }
    assert(rows < w->stored + w->n_stored);
    rows->expand(rows->arg, out, first, n, row);
}

void ops_matrix_get_row(const struct ops_matrix *w, int out, float *row)
{
    assert(out >= 0 && out < w->n_out);
    if (w->stored != NULL) {
        ops_matrix_expand(w, out, 0, w->n_in, row);
        for (int in = 0; w->type == OPS_BF16 && in < w->n_in; in++)
            row[in] = f32_from_bf16(bf16_from_f32(row[in]));
        return;
    }
    for (int in = 0; in < w->n_in; in++) {
        const size_t at = matrix_index(w, out, in);

        row[in] = w->type == OPS_BF16 ? f32_from_bf16(((const uint16_t *)w->data)[at])
                                      : ((const float *)w->data)[at];
    }
}

/* ---- contexts ------------------------------------------------------------------------------- */

enum status ops_ctx_create(struct threads *threads, struct ops_ctx **out_ctx)
{
    struct ops_ctx *ctx = host_zalloc(sizeof *ctx);

    if (ctx == NULL)
        return ST_NOMEM;
    ctx->threads = threads;
    *out_ctx = ctx;
    return ST_OK;
}

void ops_ctx_destroy(struct ops_ctx *ctx)
{
    if (ctx == NULL)
        return;
    for (int use = 0; use < SCRATCH_COUNT; use++)
        pages_unmap(ctx->scratch[use].data, ctx->scratch[use].cap_bytes);
    host_free(ctx);
}

enum status ops_ctx_reserve(struct ops_ctx *ctx, enum scratch_use use, size_t n_bytes,
                            void **out_data)
{
    struct scratch *scratch = &ctx->scratch[use];

    if (scratch->cap_bytes < n_bytes || scratch->data == NULL) {
        const size_t cap_bytes = n_bytes + n_bytes / 4 + 4096; /* so that small steps are few */
        void *data = pages_map(cap_bytes);

        if (data == NULL)
            return ST_NOMEM;
        pages_unmap(scratch->data, scratch->cap_bytes);
        *scratch = (struct scratch){.data = data, .cap_bytes = cap_bytes};
    }
    *out_data = scratch->data;
    return ST_OK;
}
