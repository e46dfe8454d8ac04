/*
 * attention_body.h - attention of new tokens over paged KV, for every instruction set.
 *
 * The queries of one sequence that share a KV head are "rows": row i is query i / G, head i % G of
 * the group (G = H / K query heads a KV head).  A task takes up to 48 rows of one (sequence, KV
 * head) and walks over the positions in tiles of 64 absolute positions, from 0 up:
 *
 *   score [rows, 64] = q K^T      keys are lanes, chain over E in pairs as in matmul
 *   softmax, online: for each row   m' = max(m, scores)   c = exp(m - m')   p = exp(score - m')
 *                                   sum = sum c + p (16 lanes)              acc = acc c
 *   acc [rows, E] += p V          chain over keys in ascending order
 *
 * and at the end out = acc / tree(sum).  What a row does in a tile depends on its position alone:
 * keys after it, or before its window, are neither multiplied nor exponentiated as anything but
 * -inf, so a decode step, a prefill chunk of any size and any mix of sequences give the same bits.
 * Tiles that no row's window reaches are left out.
 *
 * Included once by each cpu_<set>.c, after matmul_body.h (tile_grid) and rows_body.h.
 */

enum {
    ATTENTION_KEYS = 64, /* of a tile; part of the numerics */
    ATTENTION_GROUPS = ATTENTION_KEYS / OPS_LANES,
    ATTENTION_ROWS = 48,       /* of a task */
    ATTENTION_MAX_E = 256,     /* ops.h */
    ATTENTION_EXPAND_ROWS = 12 /* from here on, a tile's V is turned to float32 once */
};

struct attention_args {
    float *out;
    const float *q;
    const struct ops_kv *kv;
    const struct ops_seq *seqs;
    const int32_t *first_chunk; /* [B + 1] chunks of rows before each sequence */
    struct attention_scratch *scratch;
    int ldq, H, B;
    struct ops_attention how;
};

/* One thread's.  Rows are E elements apart where [.. * MAX_E] says "at most". */
struct attention_scratch {
    float q[ATTENTION_ROWS * ATTENTION_MAX_E];
    float acc[ATTENTION_ROWS * ATTENTION_MAX_E];
    float value[ATTENTION_KEYS * ATTENTION_MAX_E]; /* V of the tile, if expanded */
    float score[ATTENTION_ROWS * ATTENTION_KEYS];  /* then p */
    float sum[ATTENTION_ROWS * OPS_LANES];
    float max[ATTENTION_ROWS];
    int pos[ATTENTION_ROWS]; /* of the last key that each sees; ascending */
};

/* Some neighbouring keys of a tile whose V rows lie one after another. */
struct value_run {
    const uint8_t *data; /* V of key `first` */
    int first, last;     /* keys of the tile, last not included */
};

/* Keys of the tile that a query at `pos` sees. */
static inline int keys_seen(int pos, int tile)
{
    return min_int(pos - tile + 1, ATTENTION_KEYS);
}

/* Keys of the tile before the window of a query at `pos`. */
static inline int keys_behind(int pos, int window, int tile)
{
    const int behind = window > 0 ? pos - window + 1 - tile : 0;

    return behind > 0 ? behind : 0;
}

static const uint8_t *kv_at(const struct ops_kv *kv, const struct ops_seq *seq, int value, int head,
                            int pos)
{
    const size_t at = ops_kv_index(kv, seq->blocks[pos / kv->P], value, head, pos % kv->P, 0);

    return (const uint8_t *)kv->base + at * ops_type_bytes(kv->type);
}

static enum tile_kind attention_keys_kind(const struct ops_kv *kv)
{
    return kv->type == OPS_BF16 ? TILE_PAIRS_BF16 : TILE_PAIRS_F32;
}

/* score [n_rows, 64] of rows first .. first+n_rows-1, for keys from .. n_keys-1 of the tile. */
static void attention_scores(struct attention_scratch *s, const struct attention_args *a,
                             const struct ops_seq *seq, int head, int tile, int from, int n_keys,
                             int first, int n_rows)
{
    const struct ops_kv *kv = a->kv;
    const uint8_t *panels[ATTENTION_GROUPS];
    const int first_group = from / OPS_LANES;
    const int n_groups = ops_ceil_div(n_keys, OPS_LANES) - first_group;
    const struct tile shape = {
        .x = s->q + (ptrdiff_t)first * kv->E,
        .ldx = kv->E,
        .step_bytes = 2 * (ptrdiff_t)kv->P * (ptrdiff_t)ops_type_bytes(kv->type),
        .n_steps = kv->E / 2,
        .out = s->score + (ptrdiff_t)first * ATTENTION_KEYS + first_group * OPS_LANES,
        .ldo = ATTENTION_KEYS,
    };

    for (int g = 0; g < n_groups; g++) /* 16 keys never straddle a block */
        panels[g] = kv_at(kv, seq, 0, head, tile + (first_group + g) * OPS_LANES);
    tile_grid(attention_keys_kind(kv), n_rows, panels, n_groups, &shape);
}

/* Turn row r's scores of keys from .. n_keys-1 into p, and bring max, sum and acc up to date. */
static inline __attribute__((always_inline)) void attention_softmax(struct attention_scratch *s,
                                                                    int r, const int from,
                                                                    const int n_keys, float scale,
                                                                    const float softcap, int E)
{
    float *score = s->score + (ptrdiff_t)r * ATTENTION_KEYS;
    float *acc = s->acc + (ptrdiff_t)r * E, *sum = s->sum + (ptrdiff_t)r * OPS_LANES;
    struct lanes most = lanes_set(-INFINITY), total = lanes_set(0.0f);
    const int first_group = from / OPS_LANES, n_groups = ops_ceil_div(n_keys, OPS_LANES);

    for (int g = first_group; g < n_groups; g++) {
        struct lanes v = lanes_mul(lanes_load(score + g * OPS_LANES), lanes_set(scale));

        if (softcap > 0.0f)
            v = lanes_softcap(v, lanes_set(softcap));
        if (n_keys - g * OPS_LANES < OPS_LANES) /* after the query: whatever is there is -inf */
            v = lanes_first(v, n_keys - g * OPS_LANES, -INFINITY);
        if (from > g * OPS_LANES) /* before its window */
            v = lanes_from(v, from - g * OPS_LANES, -INFINITY);
        lanes_store(score + g * OPS_LANES, v);
        most = lanes_max(v, most);
    }
    const float tile_max = lanes_max_of(most);
    const float max = tile_max > s->max[r] ? tile_max : s->max[r];

    for (int g = first_group; g < n_groups; g++) {
        const struct lanes v = lanes_load(score + g * OPS_LANES);
        const struct lanes p = lanes_exp(lanes_sub(v, lanes_set(max)));

        lanes_store(score + g * OPS_LANES, p);
        total = lanes_add(total, p);
    }
    struct lanes shrink = lanes_set(1.0f); /* which is what exp(0) gives */
    if (max != s->max[r]) {
        shrink = lanes_exp(lanes_set(s->max[r] - max));
        for (int e = 0; e < E; e += OPS_LANES)
            lanes_store(acc + e, lanes_mul(lanes_load(acc + e), shrink));
        s->max[r] = max;
    }
    lanes_store(sum, lanes_fma(lanes_load(sum), shrink, total));
}

/* The usual cases are expanded. */
static void attention_row(struct attention_scratch *s, const struct attention_args *a, int r,
                          int tile, int E)
{
    const int from = keys_behind(s->pos[r], a->how.window, tile);
    const int n_keys = keys_seen(s->pos[r], tile);

    if (a->how.softcap > 0.0f || from > 0)
        attention_softmax(s, r, from, n_keys, a->how.scale, a->how.softcap, E);
    else if (n_keys == ATTENTION_KEYS)
        attention_softmax(s, r, 0, ATTENTION_KEYS, a->how.scale, 0.0f, E);
    else
        attention_softmax(s, r, 0, n_keys, a->how.scale, 0.0f, E);
}

/* Where the V rows of the tile's keys from .. n_keys-1 lie; expands them when that pays. */
static int attention_value_runs(struct attention_scratch *s, const struct ops_kv *kv,
                                const struct ops_seq *seq, int head, int tile, int from, int n_keys,
                                bool expand, struct value_run *runs)
{
    const int from_block = from / kv->P * kv->P;
    int n_runs = 0;

    for (int first = from_block; first < n_keys; first += kv->P, n_runs++)
        runs[n_runs] = (struct value_run){.data = kv_at(kv, seq, 1, head, tile + first),
                                          .first = first,
                                          .last = min_int(first + kv->P, n_keys)};
    if (!expand)
        return n_runs;
    for (int i = 0; i < n_runs; i++) {
        const uint16_t *stored = (const uint16_t *)(const void *)runs[i].data;
        float *to = s->value + (ptrdiff_t)runs[i].first * kv->E;

        for (int e = 0; e < (runs[i].last - runs[i].first) * kv->E; e += OPS_LANES)
            lanes_store(to + e, lanes_from_bf16(stored + e));
    }
    const float *expanded = s->value + (ptrdiff_t)from_block * kv->E;
    runs[0] = (struct value_run){(const uint8_t *)(const void *)expanded, from_block, n_keys};
    return 1;
}

/* acc += p V for rows first .. first+n_rows-1 of one tile of rows and keys from .. to-1 of a run.
 */
static void attention_add(struct attention_scratch *s, enum tile_kind kind, int E, int first,
                          int n_rows, const struct value_run *run, int from, int to)
{
    const ptrdiff_t elem_bytes = kind == TILE_SINGLE_BF16 ? 2 : 4;
    const uint8_t *panels[ATTENTION_MAX_E / OPS_LANES];
    const struct tile shape = {
        .x = s->score + (ptrdiff_t)first * ATTENTION_KEYS + from,
        .ldx = ATTENTION_KEYS,
        .step_bytes = E * elem_bytes,
        .n_steps = to - from,
        .out = s->acc + (ptrdiff_t)first * E,
        .ldo = E,
        .carry = true,
    };

    if (from >= to)
        return;
    for (int c = 0; c < E / OPS_LANES; c++)
        panels[c] = run->data + ((from - run->first) * (ptrdiff_t)E + c * OPS_LANES) * elem_bytes;
    tile_grid(kind, n_rows, panels, E / OPS_LANES, &shape);
}

/* acc += p V.  Rows of a tile go together over the keys that all of them see, from where the last
 * row's window begins to what the first row sees; each goes alone over the few before and after. */
static void attention_values(struct attention_scratch *s, enum tile_kind kind, int E, int window,
                             int tile, int first, int n_rows, const struct value_run *runs,
                             int n_runs)
{
    const int n_tiles = ops_ceil_div(n_rows, TILE_MAX_ROWS);

    for (int i = 0; i < n_tiles; i++) {
        const int row = first + n_rows * i / n_tiles, end = first + n_rows * (i + 1) / n_tiles;
        int from = keys_behind(s->pos[end - 1], window, tile), to = keys_seen(s->pos[row], tile);

        if (from >= to) /* none: everything is before what they share */
            from = to = ATTENTION_KEYS;
        for (const struct value_run *run = runs; run < runs + n_runs; run++) {
            for (int r = row; window > 0 && r < end; r++)
                attention_add(s, kind, E, r, 1, run,
                              max_int(keys_behind(s->pos[r], window, tile), run->first),
                              min_int(min_int(from, keys_seen(s->pos[r], tile)), run->last));
            attention_add(s, kind, E, row, end - row, run, max_int(from, run->first),
                          min_int(to, run->last));
            for (int r = row; r < end; r++)
                attention_add(s, kind, E, r, 1, run, max_int(to, run->first),
                              min_int(keys_seen(s->pos[r], tile), run->last));
        }
    }
}

/* Rows row0 .. row0+n_rows-1 of one sequence and KV head, from q to out. */
static void attention_rows(const struct attention_args *a, const struct ops_seq *seq, int head,
                           int row0, int n_rows, struct attention_scratch *s)
{
    const struct ops_kv *kv = a->kv;
    const int E = kv->E, G = a->H / kv->K;
    const bool expand = kv->type == OPS_BF16 && n_rows >= ATTENTION_EXPAND_ROWS;
    const enum tile_kind kind =
        kv->type == OPS_BF16 && !expand ? TILE_SINGLE_BF16 : TILE_SINGLE_F32;

    for (int r = 0; r < n_rows; r++) {
        const int t = (row0 + r) / G, h = head * G + (row0 + r) % G;
        const float *q = a->q + (ptrdiff_t)(seq->row0 + t) * a->ldq + (ptrdiff_t)h * E;

        s->pos[r] = seq->pos0 + (a->how.both_ways ? seq->n_tok - 1 : t);
        s->max[r] = -INFINITY;
        lanes_store(s->sum + (ptrdiff_t)r * OPS_LANES, lanes_set(0.0f));
        for (int e = 0; e < E; e += OPS_LANES) {
            tile_store_x(attention_keys_kind(kv), s->q + (ptrdiff_t)r * E, e, lanes_load(q + e));
            lanes_store(s->acc + (ptrdiff_t)r * E + e, lanes_set(0.0f));
        }
    }

    const int window = a->how.window, last_pos = s->pos[n_rows - 1];
    const int first_tile = keys_behind(s->pos[0], window, 0) / ATTENTION_KEYS * ATTENTION_KEYS;
    for (int tile = first_tile, first = 0, end = 0; tile <= last_pos; tile += ATTENTION_KEYS) {
        struct value_run runs[ATTENTION_GROUPS];

        while (s->pos[first] < tile) /* rows that are done */
            first++;
        while (end < n_rows && keys_behind(s->pos[end], window, tile) < ATTENTION_KEYS)
            end++; /* rows that have begun */
        const int from = keys_behind(s->pos[first], window, tile);
        const int n_keys = keys_seen(s->pos[end - 1], tile);

        attention_scores(s, a, seq, head, tile, from, n_keys, first, end - first);
        for (int r = first; r < end; r++)
            attention_row(s, a, r, tile, E);
        const int n_runs = attention_value_runs(s, kv, seq, head, tile, from, n_keys, expand, runs);
        attention_values(s, kind, E, window, tile, first, end - first, runs, n_runs);
    }

    for (int r = 0; r < n_rows; r++) {
        const int t = (row0 + r) / G, h = head * G + (row0 + r) % G;
        float *out = a->out + ((ptrdiff_t)(seq->row0 + t) * a->H + h) * E;
        const struct lanes sum =
            lanes_set(lanes_sum(lanes_load(s->sum + (ptrdiff_t)r * OPS_LANES)));

        for (int e = 0; e < E; e += OPS_LANES)
            lanes_store(out + e, lanes_div(lanes_load(s->acc + (ptrdiff_t)r * E + e), sum));
    }
}

static void attention_task(void *arg, int task, int thread)
{
    const struct attention_args *a = arg;
    const int K = a->kv->K, G = a->H / K;
    /* Later chunks of a prompt see more keys; the longest tasks go first. */
    const int at = a->first_chunk[a->B] - 1 - task / K, head = task % K;
    int low = 0, high = a->B - 1;

    while (low < high) { /* the sequence that chunk `at` belongs to */
        const int middle = (low + high + 1) / 2;

        if (a->first_chunk[middle] <= at)
            low = middle;
        else
            high = middle - 1;
    }
    const struct ops_seq *seq = &a->seqs[low];
    const int row0 = (at - a->first_chunk[low]) * ATTENTION_ROWS;

    attention_rows(a, seq, head, row0, min_int(ATTENTION_ROWS, seq->n_tok * G - row0),
                   &a->scratch[thread]);
}

static enum status cpu_attention(struct ops_ctx *ctx, float *out, const float *q, int ldq, int H,
                                 const struct ops_kv *kv, const struct ops_seq *seqs, int B,
                                 const struct ops_attention *how)
{
    enum status st;
    void *first_chunk, *scratch;
    int32_t n_chunks = 0;

    assert(!how->both_ways || how->window == 0);
    assert(H % kv->K == 0 && kv->E % OPS_LANES == 0 && kv->E <= ATTENTION_MAX_E);
    assert(kv->P % OPS_LANES == 0 && ATTENTION_KEYS % kv->P == 0);
    TRY(ops_ctx_reserve(ctx, SCRATCH_TASKS, ((size_t)B + 1) * sizeof(int32_t), &first_chunk), err);
    TRY(ops_ctx_reserve(ctx, SCRATCH_THREAD,
                        (size_t)threads_count(ctx->threads) * sizeof(struct attention_scratch),
                        &scratch),
        err);
    for (int b = 0; b < B; b++) {
        ((int32_t *)first_chunk)[b] = n_chunks;
        n_chunks += ops_ceil_div(seqs[b].n_tok * (H / kv->K), ATTENTION_ROWS);
    }
    ((int32_t *)first_chunk)[B] = n_chunks;

    struct attention_args a = {
        .out = out,
        .q = q,
        .kv = kv,
        .seqs = seqs,
        .first_chunk = first_chunk,
        .scratch = scratch,
        .ldq = ldq,
        .H = H,
        .B = B,
        .how = *how,
    };
    threads_run(ctx->threads, n_chunks * kv->K, attention_task, &a);
    return ST_OK;
err:
    return st;
}
