/*
 * matmul_body.h - out = x W^T over packed panels, for every instruction set.
 *
 * Knows how work is cut into tasks and cache blocks; the arithmetic is in tile_simd.h.  None of
 * the cuts below can change a bit: each output has one chain (ops.h), and cutting the summed index
 * only stores the chain's state and loads it again.
 *
 *        n_out panels of 16 ->
 *   T    +------+------+------+      one task: a chunk of rows x a run of panels
 *   rows | task | task | task |      inside:   for each block of the summed index (fits in L1)
 *        +------+------+------+                  for each panel: for each tile of rows
 *        | task | task | task |
 *        +------+------+------+
 *
 * Included once by each cpu_<set>.c, after its lanes and tile.
 */

enum {
    MATMUL_ROWS = 96,       /* of a chunk: x of one block stays in L2 */
    MATMUL_STEPS = 288,     /* of a block of the summed index: a panel's share is 18 KiB of bf16 */
    MATMUL_TASKS = 8,       /* a thread: evens out threads of unequal speed */
    MATMUL_MIN_FMA = 32768, /* a task: below, handing it out costs more than it saves */
    MATMUL_STORED_STEPS = 256, /* of a block where rows are stored: whole OPS_STORED_ELEMS */
    ROUND_MIN_ELEMS = 32768    /* of x, for a task of rounding */
};

/*
 * tile_grid - tiles for any number of rows and panels.
 *
 *   panels  in  [n_panels] first step of each panel
 *   shape   in  x, out and the rest for row 0 and panel 0; its panel is not used
 *
 * Rows are dealt out evenly, so that no tile is left with a single row that runs at half speed.
 */
static void tile_grid(enum tile_kind kind, int rows, const uint8_t *const *panels, int n_panels,
                      const struct tile *shape)
{
    const int n_tiles = ops_ceil_div(rows, TILE_MAX_ROWS);
    struct tile tile = *shape;

    for (int i = 0; i < n_tiles; i++) {
        const int first = rows * i / n_tiles, n_rows = rows * (i + 1) / n_tiles - first;
        const int at_once = tile_panels(n_rows);

        tile.x = shape->x + first * shape->ldx;
        for (int c = 0, n; c < n_panels; c += n) {
            n = n_panels - c >= at_once ? at_once : 1;
            tile.panel = panels + c;
            tile.out = shape->out + first * shape->ldo + c * OPS_LANES;
            tile_run(kind, n_rows, n, &tile);
        }
    }
}

_Static_assert(2 * MATMUL_STORED_STEPS % OPS_STORED_ELEMS == 0, "blocks of stored rows");

/* Stored rows of one thread on their way to the tiles: one block of the summed index. */
struct stored_panels {
    uint8_t panels[TILE_MAX_PANELS][MATMUL_STORED_STEPS * OPS_LANES * 2 * sizeof(float)];
    float row[2 * MATMUL_STORED_STEPS];
};

struct matmul_args {
    float *out;
    const float *x;
    float *rounded; /* [T, ld_rounded] */
    const struct ops_matrix *w;
    struct stored_panels *stored; /* [threads], where the matrix has stored rows */
    enum tile_kind kind;
    int ldo, ldx, ld_rounded, T;
    int n_panels, n_steps;        /* of the whole product */
    int n_chunks, rows_to_round;  /* of rows; of one rounding task */
    int panels_per_task, at_once; /* at_once: panels that share one pass over the rows */
    int steps_per_block;
};

/* Round rows to the weights' type, and pad them with zeros to whole pairs. */
static void matmul_round_task(void *arg, int task, int thread)
{
    const struct matmul_args *m = arg;
    const int first = task * m->rows_to_round;
    const int last = first + m->rows_to_round < m->T ? first + m->rows_to_round : m->T;
    const int n_in = m->w->n_in;
    (void)thread;

    for (int t = first; t < last; t++) {
        const float *x = m->x + (ptrdiff_t)t * m->ldx;
        float *to = m->rounded + (ptrdiff_t)t * m->ld_rounded;

        for (int i = 0; i < n_in; i += OPS_LANES) {
            const struct lanes v =
                n_in - i < OPS_LANES ? lanes_load_n(x + i, n_in - i) : lanes_load(x + i);

            tile_store_x(m->kind, to, i, v);
        }
    }
}

/* The last panel of a matrix whose n_out is not a multiple of 16, by way of a full-width copy. */
static void matmul_partial_panel(const struct matmul_args *m, int n_rows, const uint8_t *panel,
                                 const struct tile *shape)
{
    const int n_cols = m->w->n_out % OPS_LANES;
    float copy[MATMUL_ROWS][OPS_LANES];
    struct tile tile = *shape;

    tile.out = copy[0];
    tile.ldo = OPS_LANES;
    for (int r = 0; tile.carry && r < n_rows; r++)
        lanes_store(copy[r], lanes_load_n(shape->out + r * shape->ldo, n_cols));
    tile_grid(m->kind, n_rows, &panel, 1, &tile);
    for (int r = 0; r < n_rows; r++)
        lanes_store_n(shape->out + r * shape->ldo, lanes_load(copy[r]), n_cols);
}

/* Steps first .. of one stored row, into its lane of a panel. */
static void matmul_place_row(const struct matmul_args *m, const float *row, int lane, int n_steps,
                             uint8_t *panel)
{
    if (m->w->type == OPS_BF16) {
        uint32_t pairs[MATMUL_STORED_STEPS];
        uint32_t *to = (uint32_t *)(void *)panel + lane;

        for (int s = 0; s < n_steps; s++)
            pairs[s] = bf16_from_f32(row[2 * s]) | (uint32_t)bf16_from_f32(row[2 * s + 1]) << 16;
        for (int s = 0; s < n_steps; s++)
            to[s * OPS_LANES] = pairs[s];
    } else {
        float *to = (float *)(void *)panel + 2 * lane;

        for (int s = 0; s < n_steps; s++, to += 2 * OPS_LANES)
            memcpy(to, row + 2 * s, 2 * sizeof *to);
    }
}

/* Steps first .. of panel p, packed as ops.h says, from stored rows. */
static void matmul_expand(const struct matmul_args *m, int p, int first, int n_steps,
                          struct stored_panels *scratch, uint8_t *panel)
{
    const struct ops_matrix *w = m->w;
    const int left = w->n_in - 2 * first, n = left < 2 * n_steps ? left : 2 * n_steps;

    for (int lane = 0; lane < OPS_LANES; lane++) {
        const int out = p * OPS_LANES + lane;

        if (out < w->n_out)
            ops_matrix_expand(w, out, 2 * first, n, scratch->row);
        else
            memset(scratch->row, 0, (size_t)n * sizeof *scratch->row);
        if (n < 2 * n_steps)
            scratch->row[n] = 0.0f; /* the odd one at the end */
        matmul_place_row(m, scratch->row, lane, n_steps, panel);
    }
}

static void matmul_task(void *arg, int task, int thread)
{
    const struct matmul_args *m = arg;
    const int chunk = task % m->n_chunks; /* tasks side by side read the same weights */
    const int row = (int)((int64_t)m->T * chunk / m->n_chunks);
    const int last_row = (int)((int64_t)m->T * (chunk + 1) / m->n_chunks);
    const int first = task / m->n_chunks * m->panels_per_task;
    const int last =
        first + m->panels_per_task < m->n_panels ? first + m->panels_per_task : m->n_panels;
    const int n_full = m->w->n_out / OPS_LANES;
    const ptrdiff_t step_bytes = 2 * OPS_LANES * (ptrdiff_t)ops_type_bytes(m->w->type);
    const uint8_t *panels[TILE_MAX_PANELS] = {NULL};

    for (int step = 0; step < m->n_steps; step += m->steps_per_block) {
        const int left = m->n_steps - step;
        struct tile shape = {
            .ldx = m->ld_rounded,
            .step_bytes = step_bytes,
            .n_steps = left < m->steps_per_block ? left : m->steps_per_block,
            .ldo = m->ldo,
            .carry = step > 0,
        };

        for (int p = first, n; p < last; p += n) {
            n = last - p < m->at_once ? last - p : m->at_once;
            if (p < n_full && p + n > n_full)
                n = n_full - p;
            for (int j = 0; j < n; j++) {
                if (m->stored == NULL) {
                    panels[j] = (const uint8_t *)m->w->data +
                                ((ptrdiff_t)(p + j) * m->n_steps + step) * step_bytes;
                } else {
                    struct stored_panels *scratch = &m->stored[thread];

                    matmul_expand(m, p + j, step, shape.n_steps, scratch, scratch->panels[j]);
                    panels[j] = scratch->panels[j];
                }
            }
            /* of packed rows one turn, since a chunk has no more */
            for (int r = row, n_rows; r < last_row; r += n_rows) {
                n_rows = last_row - r < MATMUL_ROWS ? last_row - r : MATMUL_ROWS;
                shape.x =
                    m->rounded + (ptrdiff_t)r * m->ld_rounded + step * tile_x_per_step(m->kind);
                shape.out = m->out + (ptrdiff_t)r * m->ldo + (ptrdiff_t)p * OPS_LANES;
                if (p < n_full)
                    tile_grid(m->kind, n_rows, panels, n, &shape);
                else
                    matmul_partial_panel(m, n_rows, panels[0], &shape);
            }
        }
    }
}

static enum status cpu_matmul(struct ops_ctx *ctx, float *out, int ldo, const float *x, int ldx,
                              const struct ops_matrix *w, int T)
{
    enum status st;
    void *rounded;
    struct matmul_args m = {
        .out = out,
        .x = x,
        .w = w,
        .kind = w->type == OPS_BF16 ? TILE_PAIRS_BF16 : TILE_PAIRS_F32,
        .ldo = ldo,
        .ldx = ldx,
        .T = T,
        .n_panels = ops_ceil_div(w->n_out, OPS_LANES),
        .n_steps = ops_ceil_div(w->n_in, 2),
        /* the odd line keeps rows off each other's cache sets when n_in is a power of two */
        .ld_rounded = ops_ceil_div(w->n_in, OPS_LANES) * OPS_LANES + OPS_LANES,
    };

    if (T == 0 || w->n_out == 0)
        return ST_OK;
    TRY(ops_ctx_reserve(ctx, SCRATCH_INPUT, (size_t)T * (size_t)m.ld_rounded * sizeof(float),
                        &rounded),
        err);
    m.rounded = rounded;
    m.rows_to_round = ops_ceil_div(ROUND_MIN_ELEMS, m.ld_rounded);
    threads_run(ctx->threads, ops_ceil_div(T, m.rows_to_round), matmul_round_task, &m);

    /* Few rows, one tile: the weights stream past once, as many panels at a time as a tile takes.
     * Many rows: one block of one panel stays in L1 while the rows stream past. */
    const bool few = T <= TILE_MAX_ROWS;
    const int n_blocks = few ? 1 : ops_ceil_div(m.n_steps, MATMUL_STEPS);
    m.steps_per_block = n_blocks > 1 ? ops_ceil_div(m.n_steps, n_blocks) : m.n_steps;
    m.at_once = few ? TILE_MAX_PANELS : tile_panels(TILE_MAX_ROWS);
    m.n_chunks = ops_ceil_div(T, MATMUL_ROWS);
    if (w->stored != NULL) { /* whoever expands a panel uses it for all rows */
        void *panels;

        TRY(ops_ctx_reserve(ctx, SCRATCH_PANELS,
                            (size_t)threads_count(ctx->threads) * sizeof *m.stored, &panels),
            err);
        m.stored = panels;
        m.steps_per_block = MATMUL_STORED_STEPS;
        m.n_chunks = 1;
    }

    const int n_runs = ops_ceil_div(MATMUL_TASKS * threads_count(ctx->threads), m.n_chunks);
    const int64_t fma_per_panel =
        (int64_t)ops_ceil_div(T, m.n_chunks) * (2 * m.n_steps + 1) * OPS_LANES;
    int panels = ops_ceil_div(m.n_panels, n_runs);
    if (panels * fma_per_panel < MATMUL_MIN_FMA)
        panels = (int)(MATMUL_MIN_FMA / fma_per_panel);
    m.panels_per_task = ops_ceil_div(panels, m.at_once) * m.at_once;
    threads_run(ctx->threads, m.n_chunks * ops_ceil_div(m.n_panels, m.panels_per_task), matmul_task,
                &m);
    return ST_OK;
err:
    return st;
}
