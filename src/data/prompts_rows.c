/*
 * prompts_rows.c - rows of a prompt file.
 *
 * Decides what is wrong with a row: that row becomes an error row, and the others are not touched
 * by it.  Whether a row fits the model is decided elsewhere.  The file: prompts.c.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "data/prompts.h"

/* The first thing wrong with a row is what its error says. */
#define ROW_BAD(row, ...)                                                                          \
    do {                                                                                           \
        if ((row)->error.text[0] == '\0')                                                          \
            row_error_set(&(row)->error, __VA_ARGS__);                                             \
    } while (0)

static void check_text(struct prompt_row *row, const char *name, const char *text, size_t n_bytes)
{
    const char *nul = memchr(text, '\0', n_bytes);
    size_t bad = 0;

    if (nul != NULL)
        ROW_BAD(row, "%s holds a NUL at byte %zu; texts cannot", name, (size_t)(nul - text));
    else if (!utf8_valid(text, n_bytes, &bad))
        ROW_BAD(row, "%s is not valid UTF-8 at byte %zu; write it as UTF-8", name, bad);
}

static enum status read_texts(struct prompts *prompts, int c, uint64_t first, uint64_t n_rows,
                              struct arena *arena, struct prompt_row *rows)
{
    enum status st = ST_NOMEM;
    const char **texts = arena_alloc(arena, n_rows * sizeof *texts);
    size_t *bytes = arena_alloc(arena, n_rows * sizeof *bytes);

    if (texts == NULL || bytes == NULL)
        goto err;
    TRY(column_read_text(&prompts->columns[c], first, n_rows, arena, texts, bytes), err);
    for (uint64_t i = 0; i < n_rows; i++) {
        struct prompt_row *row = &rows[i];
        /* An id may be empty; the others are then not given. */
        const char *text = bytes[i] > 0 || c == COL_ID ? texts[i] : NULL;

        check_text(row, prompts_columns[c].name, texts[i], bytes[i]);
        switch (c) {
        case COL_ID:
            row->id = text;
            row->id_bytes = bytes[i];
            break;
        case COL_PROMPT:
            row->prompt = text;
            row->prompt_bytes = bytes[i];
            break;
        case COL_MESSAGES:
            row->messages = text;
            row->messages_bytes = bytes[i];
            break;
        default:
            row->stop = text;
            row->stop_bytes = bytes[i];
            break;
        }
    }
err:
    return st;
}

/* max_tokens, top_k and seed: -1 (or NaN in a column of floats) means "not set". */
static void take_int(struct prompt_row *row, int c, int64_t value, enum number_state state)
{
    const char *name = prompts_columns[c].name;

    if (state == NUMBER_UNSET || (state == NUMBER_SET && value == -1))
        return;
    if (state == NUMBER_NOT_INTEGER) {
        ROW_BAD(row, "%s is not an integer", name);
    } else if (c == COL_SEED) {
        if (state == NUMBER_SET && value < 0)
            ROW_BAD(row, "seed is %lld; it cannot be negative (-1: not set)", (long long)value);
        row->has_seed = true;
        row->seed = (uint64_t)value;
    } else if (state == NUMBER_ABOVE_INT64) {
        ROW_BAD(row, "%s is %llu, beyond the largest signed 64-bit integer", name,
                (unsigned long long)value);
    } else if (c == COL_MAX_TOKENS) {
        if (value < 1)
            ROW_BAD(row, "max_tokens is %lld; it has to be at least 1 (-1: not set)",
                    (long long)value);
        row->has_max_tokens = true;
        row->max_tokens = value;
    } else {
        if (value < 0)
            ROW_BAD(row, "top_k is %lld; it has to be at least 0 (0: off, -1: not set)",
                    (long long)value);
        row->has_top_k = true;
        row->top_k = value;
    }
}

static enum status read_ints(struct prompts *prompts, int c, uint64_t first, uint64_t n_rows,
                             struct arena *arena, struct prompt_row *rows)
{
    enum status st = ST_NOMEM;
    int64_t *values = arena_alloc(arena, n_rows * sizeof *values);
    uint8_t *states = arena_alloc(arena, n_rows * sizeof *states);

    if (values == NULL || states == NULL)
        goto err;
    TRY(column_read_int(&prompts->columns[c], first, n_rows, arena, values, states), err);
    for (uint64_t i = 0; i < n_rows; i++)
        take_int(&rows[i], c, values[i], (enum number_state)states[i]);
err:
    return st;
}

/* temperature and top_p: NaN means "not set". */
static enum status read_reals(struct prompts *prompts, int c, uint64_t first, uint64_t n_rows,
                              struct arena *arena, struct prompt_row *rows)
{
    enum status st = ST_NOMEM;
    double *values = arena_alloc(arena, n_rows * sizeof *values);

    if (values == NULL)
        goto err;
    TRY(column_read(&prompts->columns[c], first, n_rows, H5T_NATIVE_DOUBLE, values), err);
    for (uint64_t i = 0; i < n_rows; i++) {
        const double value = values[i];

        if (isnan(value))
            continue;
        if (c == COL_TEMPERATURE) {
            if (!isfinite(value) || value < 0)
                ROW_BAD(&rows[i], "temperature is %g; it has to be at least 0 (NaN: not set)",
                        value);
            rows[i].has_temperature = true;
            rows[i].temperature = value;
        } else {
            if (!(value > 0 && value <= 1))
                ROW_BAD(&rows[i], "top_p is %g; it has to be above 0 and at most 1 (NaN: not set)",
                        value);
            rows[i].has_top_p = true;
            rows[i].top_p = value;
        }
    }
err:
    return st;
}

/* Narrows one row's token ids; a row with a bad one keeps its number of tokens but no list. */
static void take_tokens(struct prompt_row *row, const int64_t *values, const uint8_t *states,
                        uint64_t n, int32_t *out)
{
    row->tokens = out;
    row->n_tokens = (int64_t)n;
    for (uint64_t k = 0; k < n; k++) {
        if (states[k] == NUMBER_SET && values[k] >= 0 && values[k] <= INT32_MAX) {
            out[k] = (int32_t)values[k];
            continue;
        }
        if (states[k] == NUMBER_SET)
            ROW_BAD(row, "prompt_tokens: element %llu is %lld; token ids are 0 to %d",
                    (unsigned long long)k, (long long)values[k], INT32_MAX);
        else
            ROW_BAD(row, "prompt_tokens: element %llu is not a token id", (unsigned long long)k);
        row->tokens = NULL;
        return;
    }
}

/* Offsets [n_rows + 1] and the values between them, as they stand in the file. */
struct lists {
    uint64_t *offsets;
    int64_t *values;
    uint8_t *states;
    uint64_t n_values;
};

static enum status read_lists(const struct ragged *ragged, uint64_t first, uint64_t n_rows,
                              struct arena *arena, struct lists *out)
{
    enum status st = ST_NOMEM;
    const struct column *column = &ragged->values;

    out->offsets = arena_alloc(arena, (n_rows + 1) * sizeof *out->offsets);
    if (out->offsets == NULL)
        goto err;
    TRY(ragged_offsets(ragged, first, n_rows, out->offsets), err);
    for (uint64_t i = 0; i <= n_rows; i++) {
        if (out->offsets[i] <= column->n_rows && (i == 0 || out->offsets[i] >= out->offsets[i - 1]))
            continue;
        log_error("%s: column %s changed while it was read; leave the file alone while a job runs",
                  column->path, ragged->offsets.name);
        st = ST_IO;
        goto err;
    }
    const uint64_t base = out->offsets[0];
    out->n_values = out->offsets[n_rows] - base;
    out->values = arena_alloc(arena, out->n_values * sizeof *out->values);
    out->states = arena_alloc(arena, out->n_values * sizeof *out->states);
    for (uint64_t i = 0; i <= n_rows; i++)
        out->offsets[i] -= base;
    st = ST_NOMEM;
    if (out->values == NULL || out->states == NULL)
        goto err;
    st = column_read_int(column, base, out->n_values, arena, out->values, out->states);
err:
    return st;
}

static enum status read_tokens(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                               struct arena *arena, struct prompt_row *rows)
{
    enum status st = ST_OK;
    struct lists lists = {0};

    TRY(read_lists(&prompts->tokens, first, n_rows, arena, &lists), err);
    int32_t *narrow = arena_alloc(arena, lists.n_values * sizeof *narrow);
    if (narrow == NULL) {
        st = ST_NOMEM;
        goto err;
    }
    for (uint64_t i = 0; i < n_rows; i++) {
        const uint64_t at = lists.offsets[i], n = lists.offsets[i + 1] - at;

        if (n > 0)
            take_tokens(&rows[i], lists.values + at, lists.states + at, n, narrow + at);
    }
err:
    return st;
}

static enum status read_image_refs(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                                   struct arena *arena, struct prompt_row *rows)
{
    enum status st = ST_OK;
    const uint64_t n_images = prompts->images.n_images;
    struct lists lists = {0};

    TRY(read_lists(&prompts->image_refs, first, n_rows, arena, &lists), err);
    for (uint64_t i = 0; i < n_rows; i++) {
        const uint64_t at = lists.offsets[i], n = lists.offsets[i + 1] - at;

        for (uint64_t k = at; k < at + n; k++) {
            if (lists.states[k] == NUMBER_UNSET || lists.states[k] == NUMBER_NOT_INTEGER)
                ROW_BAD(&rows[i], "image_ref: element %llu is not a whole number",
                        (unsigned long long)(k - at));
            else if (lists.states[k] != NUMBER_SET || lists.values[k] < 0 ||
                     (uint64_t)lists.values[k] >= n_images)
                ROW_BAD(&rows[i],
                        "image_ref: element %llu is %lld, and the file has %llu images, numbered "
                        "from 0",
                        (unsigned long long)(k - at), (long long)lists.values[k],
                        (unsigned long long)n_images);
        }
        rows[i].n_image_refs = (int64_t)n;
        if (n > 0 && rows[i].error.text[0] == '\0') /* int64 above 0 is uint64 */
            rows[i].image_refs = (const uint64_t *)(const void *)(lists.values + at);
    }
err:
    return st;
}

static void add_name(char *names, size_t cap, const char *name)
{
    const size_t n = strlen(names);

    snprintf(names + n, cap - n, "%s%s", n > 0 ? ", " : "", name);
}

/* A row has exactly one prompt: an empty text or an empty list means "not this one". */
static void check_sources(const struct prompts *prompts, struct prompt_row *row)
{
    const bool filled[COL_COUNT] = {[COL_MESSAGES] = row->messages != NULL,
                                    [COL_PROMPT] = row->prompt != NULL,
                                    [COL_PROMPT_TOKENS] = row->n_tokens > 0};
    char present[64] = "", given[64] = "";
    int n_present = 0, n_given = 0;

    for (int c = 0; c < COL_COUNT; c++) {
        if (prompts_columns[c].is_source && prompts->has[c]) {
            add_name(present, sizeof present, prompts_columns[c].name);
            n_present++;
        }
        if (filled[c]) {
            add_name(given, sizeof given, prompts_columns[c].name);
            n_given++;
        }
    }
    if (n_given > 1)
        ROW_BAD(row, "the row has %d prompts (%s); leave all but one empty", n_given, given);
    else if (n_given == 0)
        ROW_BAD(row, "the row has no prompt: %s %s empty", present, n_present > 1 ? "are" : "is");
}

static enum status read_rows(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                             struct arena *arena, struct prompt_row *rows)
{
    enum status st = ST_OK;

    for (int c = 0; c < COL_COUNT; c++) {
        if (!prompts->has[c] || c == COL_IMAGES)
            continue;
        if (c == COL_PROMPT_TOKENS)
            TRY(read_tokens(prompts, first, n_rows, arena, rows), err);
        else if (c == COL_IMAGE_REF)
            TRY(read_image_refs(prompts, first, n_rows, arena, rows), err);
        else if (prompts_columns[c].type == COLUMN_TEXT)
            TRY(read_texts(prompts, c, first, n_rows, arena, rows), err);
        else if (prompts_columns[c].type == COLUMN_INT)
            TRY(read_ints(prompts, c, first, n_rows, arena, rows), err);
        else
            TRY(read_reals(prompts, c, first, n_rows, arena, rows), err);
    }
err:
    return st;
}

enum status prompts_read(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                         struct arena *arena, struct prompt_row *out_rows)
{
    enum status st = ST_OK;

    assert(first <= prompts->info.n_rows && n_rows <= prompts->info.n_rows - first);
    for (uint64_t i = 0; i < n_rows; i++)
        out_rows[i] = (struct prompt_row){.row = first + i};
    if (n_rows == 0)
        return ST_OK;
    prompts_lock(prompts);
    st = read_rows(prompts, first, n_rows, arena, out_rows);
    prompts_unlock(prompts);
    for (uint64_t i = 0; i < n_rows && st == ST_OK; i++)
        check_sources(prompts, &out_rows[i]);
    return st;
}

enum status prompts_read_ids(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_ids, size_t *out_bytes)
{
    assert(prompts->has[COL_ID]);
    assert(first <= prompts->info.n_rows && n_rows <= prompts->info.n_rows - first);
    prompts_lock(prompts);
    const enum status st =
        column_read_text(&prompts->columns[COL_ID], first, n_rows, arena, out_ids, out_bytes);
    prompts_unlock(prompts);
    return st;
}

enum status prompts_read_image_refs(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                                    struct arena *arena, struct prompt_row *out_rows)
{
    enum status st = ST_OK;

    assert(first <= prompts->info.n_rows && n_rows <= prompts->info.n_rows - first);
    for (uint64_t i = 0; i < n_rows; i++)
        out_rows[i] = (struct prompt_row){.row = first + i};
    if (n_rows == 0 || !prompts->has[COL_IMAGE_REF])
        return ST_OK;
    prompts_lock(prompts);
    st = read_image_refs(prompts, first, n_rows, arena, out_rows);
    prompts_unlock(prompts);
    return st;
}
