/*
 * digest.c - hashes of columns' content: fingerprints of prompt files, digests of result files.
 *
 * The writer of result files hashes the same streams while it writes (result_writer.c), which is
 * how a file is verified before it replaces anything.
 */
#include <math.h>
#include <sys/stat.h>

#include "data/data.h"
#include "data/digest.h"
#include "data/result_file.h"

void digest_begin(struct digest *digest)
{
    hash_begin(&digest->hash, 0);
    digest->n_elements = 0;
}

void digest_text(struct digest *digest, const char *text, size_t n_bytes)
{
    const uint64_t n = n_bytes;

    hash_add(&digest->hash, &n, sizeof n);
    hash_add(&digest->hash, text, n_bytes);
    digest->n_elements++;
}

void digest_int(struct digest *digest, int64_t value, enum number_state state)
{
    /* A NaN in a column of floats and -1 both say "not set". */
    const int64_t element[2] = {state == NUMBER_UNSET ? -1 : value,
                                state == NUMBER_UNSET ? NUMBER_SET : (int64_t)state};

    hash_add(&digest->hash, element, sizeof element);
    digest->n_elements++;
}

void digest_real(struct digest *digest, double value)
{
    const double element = isnan(value) ? (double)NAN : value;

    hash_add(&digest->hash, &element, sizeof element);
    digest->n_elements++;
}

void digest_end(const struct digest *digest, const char *name, struct hash_state *whole)
{
    const uint64_t column[2] = {digest->n_elements, hash_end(&digest->hash)};

    hash_add(whole, name, strlen(name) + 1);
    hash_add(whole, column, sizeof column);
}

void digest_results_begin(struct hash_state *whole, uint64_t rows_begin, uint64_t rows_end)
{
    static const char schema[] = "epidote.results/1";
    const uint64_t rows[2] = {rows_begin, rows_end};

    hash_begin(whole, 0);
    hash_add(whole, schema, sizeof schema);
    hash_add(whole, rows, sizeof rows);
}

/* ---- columns that are read ------------------------------------------------------------------- */

static enum status add_texts(struct digest *digest, const struct column *column,
                             const struct window *at, struct arena *arena, uint64_t *out_bytes)
{
    enum status st = ST_NOMEM;
    const char **texts = arena_alloc(arena, at->n_rows * sizeof *texts);
    size_t *bytes = arena_alloc(arena, at->n_rows * sizeof *bytes);

    if (texts == NULL || bytes == NULL)
        goto err;
    TRY(column_read_text(column, at->first, at->n_rows, arena, texts, bytes), err);
    for (uint64_t i = 0; i < at->n_rows; i++) {
        digest_text(digest, texts[i], bytes[i]);
        *out_bytes += bytes[i] + 64; /* what the arena gives at least */
    }
err:
    return st;
}

static enum status add_ints(struct digest *digest, const struct column *column,
                            const struct window *at, struct arena *arena, uint64_t *out_bytes)
{
    enum status st = ST_NOMEM;
    const uint64_t n = at->n_rows * column->n_cols;
    int64_t *values = arena_alloc(arena, n * sizeof *values);
    uint8_t *states = arena_alloc(arena, n);

    if (values == NULL || states == NULL)
        goto err;
    TRY(column_read_int(column, at->first, at->n_rows, arena, values, states), err);
    for (uint64_t i = 0; i < n; i++)
        digest_int(digest, values[i], (enum number_state)states[i]);
    *out_bytes = n * 9;
err:
    return st;
}

static enum status add_reals(struct digest *digest, const struct column *column,
                             const struct window *at, struct arena *arena, uint64_t *out_bytes)
{
    enum status st = ST_NOMEM;
    const uint64_t n = at->n_rows * column->n_cols;
    double *values = arena_alloc(arena, n * sizeof *values);

    if (values == NULL)
        goto err;
    TRY(column_read(column, at->first, at->n_rows, H5T_NATIVE_DOUBLE, values), err);
    for (uint64_t i = 0; i < n; i++)
        digest_real(digest, values[i]);
    *out_bytes = n * 8;
err:
    return st;
}

/* Rows [first, end) of a column. */
static enum status add_rows(struct hash_state *whole, const struct column *column, uint64_t first,
                            uint64_t end)
{
    enum status st = ST_OK;
    struct digest digest;
    struct arena *arena = NULL;
    struct window window = {.first = 0};
    uint64_t n_bytes = 0;

    TRY(arena_create(1 << 20, &arena), err);
    digest_begin(&digest);
    while (window_next(&window, end - first, n_bytes)) {
        const struct window at = {.first = first + window.first, .n_rows = window.n_rows};

        n_bytes = 0;
        arena_reset(arena);
        switch (column->type) {
        case COLUMN_TEXT:
            TRY(add_texts(&digest, column, &at, arena, &n_bytes), err);
            break;
        case COLUMN_INT:
            TRY(add_ints(&digest, column, &at, arena, &n_bytes), err);
            break;
        case COLUMN_REAL:
            TRY(add_reals(&digest, column, &at, arena, &n_bytes), err);
            break;
        }
    }
    digest_end(&digest, column->name, whole);
err:
    arena_destroy(arena);
    return st;
}

enum status digest_add_column(struct hash_state *whole, const struct column *column)
{
    return add_rows(whole, column, 0, column->n_rows);
}

enum status digest_add_ragged(struct hash_state *whole, const struct ragged *ragged)
{
    enum { N_AT_ONCE = 4096 };
    enum status st = ST_OK;
    uint64_t offsets[N_AT_ONCE + 1] = {0}, begin = 0, end = 0;
    struct digest digest;

    digest_begin(&digest);
    for (uint64_t first = 0; first < ragged->n_rows; first += N_AT_ONCE) {
        const uint64_t left = ragged->n_rows - first, n = left < N_AT_ONCE ? left : N_AT_ONCE;

        TRY(ragged_offsets(ragged, first, n, offsets), err);
        for (uint64_t i = 0; i < n; i++)
            digest_int(&digest, (int64_t)(offsets[i + 1] - offsets[i]), NUMBER_SET);
        if (first == 0)
            begin = offsets[0];
        end = offsets[n];
    }
    digest_end(&digest, ragged->offsets.name, whole);
    TRY(add_rows(whole, &ragged->values, begin, end), err);
err:
    return st;
}

/* ---- files ---------------------------------------------------------------------------------- */

enum status data_digest(const char *path, uint64_t *out_hash)
{
    enum status st = ST_OK;
    struct result_file *results = NULL;
    struct prompts *prompts = NULL;
    bool is_results = false;
    struct stat facts;
    const size_t n = strlen(path);

    if ((stat(path, &facts) == 0 && S_ISDIR(facts.st_mode)) ||
        (n > 4 && strcmp(path + n - 4, ".log") == 0)) {
        log_error("%s has no digest: only models, prompt files and complete result files have one",
                  path);
        return ST_UNSUPPORTED;
    }
    TRY(result_file_is_one(path, &is_results), err);
    if (is_results) {
        TRY(result_file_open(path, &results), err);
        st = result_file_digest(results, out_hash);
    } else {
        TRY(prompts_open(path, &prompts), err);
        st = prompts_fingerprint(prompts, out_hash);
    }
err:
    prompts_close(prompts);
    result_file_close(results);
    return st;
}
