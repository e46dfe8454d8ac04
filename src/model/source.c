/*
 * source.c - an open model file: what kind it is, and what it answers once it is read and checked.
 *
 * Reading is in gguf.c and gguf_config.c, or hf_dir.c, hf_config.c and safetensors.c;
 * model_source_row is in dequant.c, model_inspect in inspect.c.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "model/tower.h"

/* ---- checks for all formats ----------------------------------------------------------------- */

static bool is_rope(const struct model_rope *rope)
{
    return rope->base >= 1.0 && isfinite(rope->base);
}

/* Factors between 0 and something absurd. */
static bool check_factors(const struct model_config *c)
{
    const double factors[] = {c->attn_scale,  c->attn_softcap,   c->final_softcap,
                              c->embed_scale, c->residual_scale, c->logit_scale};
    bool good = true;

    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++)
        good = good && factors[i] >= 0 && factors[i] <= 1e6;
    return good;
}

static enum status check_size(const char *what, int value, int max, const char *origin)
{
    if (value >= 1 && value <= max)
        return ST_OK;
    log_error("%s: %s is %d, not 1 to %d; the configuration is damaged, get it again", origin, what,
              value, max);
    return ST_FORMAT;
}

enum status source_check_layers(int L, const char *origin)
{
    const enum status st = check_size("layers", L, 1 << 16, origin);

    if (st == ST_OK && L > MODEL_MAX_L) {
        log_error("%s: %d layers are not supported; this version has at most %d", origin, L,
                  MODEL_MAX_L);
        return ST_UNSUPPORTED;
    }
    return st;
}

enum status source_check_config(const struct model_config *c, const char *origin)
{
    /* Far above any real model; products of two of them are far below 2^63. */
    const struct {
        const char *what;
        int value, max;
    } sizes[] = {
        {"width", c->D, 1 << 20},         {"ffn width", c->F, 1 << 24},
        {"query heads", c->H, 1 << 16},   {"kv heads", c->K, 1 << 16},
        {"head size", c->E, 1 << 16},     {"vocabulary", c->V, 1 << 24},
        {"context", c->context, 1 << 30},
    };
    enum status st;

    TRY(source_check_layers(c->L, origin), err);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        TRY(check_size(sizes[i].what, sizes[i].value, sizes[i].max, origin), err);
    if (c->H % c->K != 0) {
        log_error("%s: %d query heads cannot share %d kv heads evenly; the configuration is "
                  "damaged, get it again",
                  origin, c->H, c->K);
        return ST_FORMAT;
    }
    if (!(c->eps >= 0.0f && c->eps < 1.0f) || !is_rope(&c->rope) ||
        (c->rope_window.base != 0 && !is_rope(&c->rope_window))) {
        log_error("%s: RMSNorm epsilon is %g (0 to 1) and RoPE base %g (1 or more); the "
                  "configuration is damaged, get it again",
                  origin, (double)c->eps, is_rope(&c->rope) ? c->rope_window.base : c->rope.base);
        return ST_FORMAT;
    }
    if (c->X < 0 || c->n_used_experts < 0 || c->n_used_experts > c->X ||
        (c->X > 0 && c->n_used_experts == 0)) {
        log_error("%s: %d of %d experts are used; the configuration is damaged, get it again",
                  origin, c->n_used_experts, c->X);
        return ST_FORMAT;
    }
    if (!check_factors(c)) {
        log_error("%s: a scale or soft cap of attention, logits, embeddings or residuals is not a "
                  "number of usual size; the configuration is damaged, get it again",
                  origin);
        return ST_FORMAT;
    }
    if (c->X > OPS_MAX_EXPERTS) {
        log_error("%s: %d experts are not supported; this version has at most %d", origin, c->X,
                  OPS_MAX_EXPERTS);
        return ST_UNSUPPORTED;
    }
    if (c->E % 16 != 0 || c->E > MODEL_MAX_E) {
        log_error("%s: head size %d is not supported; this version has multiples of 16, at most "
                  "%d",
                  origin, c->E, MODEL_MAX_E);
        return ST_UNSUPPORTED;
    }
    st = ST_OK;
err:
    return st;
}

/* ---- opening -------------------------------------------------------------------------------- */

enum status source_begin(const char *path, struct model_source **out_source)
{
    enum status st = ST_NOMEM;
    struct model_source *source = host_zalloc(sizeof *source);

    if (source == NULL)
        return ST_NOMEM;
    source->path = host_strdup(path);
    if (source->path == NULL)
        goto err;
    TRY(arena_create(64 << 10, &source->arena), err);
    *out_source = source;
    return ST_OK;
err:
    model_close(source);
    return st;
}

enum status source_map(struct model_source *source, const char *path, struct file_map *out_map)
{
    const size_t n = (size_t)source->n_files;
    struct source_file *files = host_realloc(source->files, (n + 1) * sizeof *files);
    enum status st = ST_NOMEM;

    if (files == NULL)
        return ST_NOMEM;
    source->files = files;
    files[n].path = path;
    TRY(file_map_open(path, &files[n].map), err);
    source->n_files++;
    *out_map = files[n].map;
err:
    return st;
}

static enum status load_file(struct model_source *source)
{
    struct file_map map;
    enum status st;

    TRY(source_map(source, source->path, &map), err);
    TRY(gguf_load(source, map.data, map.n_bytes, source->path), err);
err:
    return st;
}

enum status model_open(const char *path, struct model_source **out_source)
{
    enum status st;
    struct stat info;
    struct model_source *source = NULL;

    if (stat(path, &info) != 0) {
        log_error(
            "%s: cannot open the model: %s; name a .gguf file or a directory with config.json",
            path, strerror(errno));
        return ST_IO;
    }
    TRY(source_begin(path, &source), err);
    TRY(S_ISDIR(info.st_mode) ? hf_dir_load(source) : load_file(source), err);
    *out_source = source;
    return ST_OK;
err:
    model_close(source);
    return st;
}

void model_close(struct model_source *source)
{
    if (source == NULL)
        return;
    for (int i = 0; i < source->n_files; i++)
        file_map_close(&source->files[i].map);
    host_free(source->files);
    host_free(source->views);
    host_free(source->tower);
    arena_destroy(source->arena);
    host_free(source->path);
    host_free(source);
}

void model_source_forget(const struct model_source *source)
{
    for (int i = 0; i < source->n_files; i++)
        file_map_forget(&source->files[i].map);
}

/* ---- questions ------------------------------------------------------------------------------ */

const struct model_config *model_source_config(const struct model_source *source)
{
    return &source->config;
}

const struct tensor_view *model_source_tensor(const struct model_source *source, enum weight_id id,
                                              int layer)
{
    assert((unsigned)id < WEIGHT_COUNT);
    if (weight_of_expert(id) && source->config.X == 0)
        return NULL;
    assert(!weight_of_layer(id) || (layer >= 0 && layer < weight_times(&source->config, id)));
    const struct tensor_view *view = &source->views[weight_place(&source->config, id, layer)];

    return view->data != NULL ? view : NULL;
}

const char *model_source_chat_template(const struct model_source *source)
{
    return source->chat_template;
}

const char *model_source_tool_template(const struct model_source *source)
{
    return source->tool_template;
}

/* tokenizer.json of a directory, and its path. */
static enum status load_json(const char *dir, char path[4096], struct tokenizer **out_tokenizer)
{
    if (snprintf(path, 4096, "%s/tokenizer.json", dir) >= 4096) {
        log_error("%s: path too long", dir);
        return ST_IO;
    }
    return tokenizer_load_json(path, out_tokenizer);
}

/* Every id of it must have a row in the embedding. */
static enum status load_tokenizer(const struct model_source *source,
                                  struct tokenizer **out_tokenizer)
{
    struct tokenizer *tokenizer = NULL;
    char path[4096];
    enum status st;

    TRY(load_json(source->path, path, &tokenizer), err);
    const int n_tokens = tokenizer_n_tokens(tokenizer);
    if (n_tokens > source->config.V) {
        st = tokenizer_trim(tokenizer, source->config.V);
        if (st == ST_OK)
            log_warn(
                "%s: has %d tokens where vocab_size in config.json is %d; the last %d, which are "
                "added ones, are not used",
                path, n_tokens, source->config.V, n_tokens - source->config.V);
        if (st == ST_FORMAT)
            log_error("%s: has %d tokens where vocab_size in config.json is %d, and not only added "
                      "ones lie beyond; get both files from one place",
                      path, n_tokens, source->config.V);
    }
    TRY(st, err);
    *out_tokenizer = tokenizer;
    return ST_OK;
err:
    tokenizer_destroy(tokenizer);
    return st;
}

enum status model_source_tokenizer(const struct model_source *source,
                                   struct tokenizer **out_tokenizer)
{
    if (source->vocab.n_tokens > 0)
        return tokenizer_create(&source->vocab, out_tokenizer);
    return load_tokenizer(source, out_tokenizer);
}

enum status model_open_tokenizer(const char *path, struct tokenizer **out_tokenizer)
{
    struct model_source *source = NULL;
    struct file_map map = {0};
    char json_path[4096];
    struct stat info;
    enum status st;

    if (stat(path, &info) != 0) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        return ST_IO;
    }
    if (S_ISDIR(info.st_mode))
        return load_json(path, json_path, out_tokenizer);
    TRY(source_begin(path, &source), err);
    TRY(file_map_open(path, &map), err);
    st = gguf_load_vocab(source, map.data, map.n_bytes, path);
    if (st == ST_OK)
        st = tokenizer_create(&source->vocab, out_tokenizer);
    file_map_close(&map);
err:
    model_close(source);
    return st;
}

/* ---- fingerprint ---------------------------------------------------------------------------- */

static void hash_rope(struct hash_state *state, const struct model_rope *rope, int E)
{
    hash_add(state, &rope->base, sizeof rope->base);
    if (rope->scaling[0] != '\0')
        hash_add(state, rope->divisors, (size_t)(E / 2) * sizeof rope->divisors[0]);
}

/* What makes the model another one than a llama of these sizes: a llama without any of it keeps the
 * fingerprint that it always had. */
static void hash_differences(struct hash_state *state, const struct model_config *c)
{
    const double numbers[] = {c->activation,
                              c->qk_norm,
                              c->no_pre_norm,
                              c->post_norm,
                              c->X,
                              c->n_used_experts,
                              c->attn_scale,
                              c->normalise_experts,
                              c->attn_softcap,
                              c->final_softcap,
                              c->embed_scale,
                              c->embed_scale_rounded,
                              c->logit_scale,
                              c->residual_scale,
                              c->window,
                              c->rope_window.base,
                              c->rope.scaling[0] != '\0',
                              c->rope_window.scaling[0] != '\0'};
    bool any = false;

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        any = any || numbers[i] != 0;
    for (int l = 0; l < c->L; l++)
        any = any || c->layers[l] != 0;
    if (!any)
        return;
    hash_add(state, numbers, sizeof numbers);
    hash_add(state, c->layers, (size_t)c->L);
    hash_rope(state, &c->rope, c->E);
    hash_rope(state, &c->rope_window, c->E);
}

static void hash_config(struct hash_state *state, const struct model_config *c)
{
    const int32_t numbers[] = {c->L, c->D,       c->F,    c->H,      c->K,    c->E,
                               c->V, c->context, c->tied, c->bos_id, c->n_eos};

    hash_add(state, c->family, strlen(c->family));
    hash_add(state, numbers, sizeof numbers);
    hash_add(state, c->eos_ids, (size_t)c->n_eos * sizeof c->eos_ids[0]);
    hash_add(state, &c->eps, sizeof c->eps);
    hash_add(state, &c->rope.base, sizeof c->rope.base);
    hash_differences(state, c);
}

uint64_t model_source_fingerprint(const struct model_source *source)
{
    struct hash_state state;
    struct tokenizer *tokenizer = NULL;
    uint64_t of_tokenizer = 0;

    if (model_source_tokenizer(source, &tokenizer) == ST_OK)
        of_tokenizer = tokenizer_fingerprint(tokenizer);
    tokenizer_destroy(tokenizer);

    hash_begin(&state, 1); /* the seed is the version of this list */
    hash_config(&state, &source->config);
    hash_add(&state, &of_tokenizer, sizeof of_tokenizer);
    for (size_t i = 0; i < model_n_views(&source->config); i++) {
        const struct tensor_view *view = &source->views[i];
        const int32_t kind[] = {view->data != NULL, (int32_t)view->type,
                                source->permuted + 2 * source->norms_less_one};

        if (view->data == NULL && i >= WEIGHT_ATTN_NORM)
            continue; /* one that only some models have */
        hash_add(&state, kind, sizeof kind);
        if (view->data != NULL)
            hash_add(&state, view->data, (size_t)view->n_rows * view->row_bytes);
        if (view->data != NULL && view->scales != NULL)
            hash_add(&state, view->scales->data, view->scales->n_bytes);
    }
    tower_hash(source, true, &state);
    return hash_end(&state);
}

uint64_t model_source_glimpse(const struct model_source *source)
{
    struct hash_state state;

    hash_begin(&state, 0);
    hash_config(&state, &source->config);
    for (size_t i = 0; i < model_n_views(&source->config); i++) {
        const struct tensor_view *view = &source->views[i];

        hash_add(&state, &view->n_rows, sizeof view->n_rows);
        if (view->data != NULL)
            hash_add(&state, view->data, view->row_bytes);
    }
    tower_hash(source, false, &state);
    return hash_end(&state);
}
