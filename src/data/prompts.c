/*
 * prompts.c - the prompt file: what is in it, rows of it, its fingerprint.
 *
 * Decides what is wrong with a file (it is refused) and what is wrong with a row (that row becomes
 * an error row).  Whether a row fits the model is decided elsewhere.  Called by the I/O thread and,
 * before it starts, by `run`, `check`, `inspect` and `plan`.
 *
 * How types are read: column.c.  The format: FORMATS.md.
 */
#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/column.h"
#include "data/data.h"
#include "data/digest.h"
#include "data/prompts.h"

/* The columns, in the order of their names, which is that of the fingerprint. */
enum prompts_column {
    COL_ID,
    COL_MAX_TOKENS,
    COL_MESSAGES,
    COL_PROMPT,
    COL_PROMPT_TOKENS,
    COL_SEED,
    COL_STOP,
    COL_TEMPERATURE,
    COL_TOP_K,
    COL_TOP_P,
    COL_COUNT
};

static const struct {
    const char *name;
    enum column_type type;
    bool is_source;
} known[COL_COUNT] = {
    [COL_ID] = {"id", COLUMN_TEXT, false},
    [COL_MAX_TOKENS] = {"max_tokens", COLUMN_INT, false},
    [COL_MESSAGES] = {"messages", COLUMN_TEXT, true},
    [COL_PROMPT] = {"prompt", COLUMN_TEXT, true},
    [COL_PROMPT_TOKENS] = {"prompt_tokens", COLUMN_INT, true}, /* ragged */
    [COL_SEED] = {"seed", COLUMN_INT, false},
    [COL_STOP] = {"stop", COLUMN_TEXT, false},
    [COL_TEMPERATURE] = {"temperature", COLUMN_REAL, false},
    [COL_TOP_K] = {"top_k", COLUMN_INT, false},
    [COL_TOP_P] = {"top_p", COLUMN_REAL, false},
};

/* Columns that a later version will serve: ignoring them would give wrong answers. */
static const char *const later[] = {"continuation", "images", "image_ref"};

static const char schema_ours[] = "epidote.prompts/1";

struct prompts {
    char *path; /* owned */
    hid_t file; /* owned */
    struct prompts_info info;
    bool has[COL_COUNT];
    struct column columns[COL_COUNT]; /* all but COL_PROMPT_TOKENS */
    struct ragged tokens;
};

/* ---- opening -------------------------------------------------------------------------------- */

static enum status check_schema(const struct prompts *prompts)
{
    struct buf text = {0};
    enum status st = h5_attr_get_text(prompts->file, "schema", &text);

    if (st == ST_END) {
        st = ST_OK; /* assumed */
    } else if (st == ST_FORMAT) {
        log_error("%s: attribute schema is not a text; remove it or set it to %s", prompts->path,
                  schema_ours);
    } else if (st == ST_OK && strcmp((char *)text.data, schema_ours) != 0) {
        log_error("%s: attribute schema is \"%s\", this version reads %s; %s", prompts->path,
                  (char *)text.data, schema_ours,
                  strncmp((char *)text.data, "epidote.results/", 16) == 0
                      ? "this is a result file, name the prompt file"
                      : "remove the attribute if the file is a prompt file");
        st = ST_FORMAT;
    }
    buf_free(&text);
    return st;
}

static enum status refuse_later_columns(const struct prompts *prompts)
{
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (h5_object_type(prompts->file, later[i]) == H5I_BADID)
            continue;
        log_error("%s: column %s is not supported by this version; remove the column, or wait for "
                  "the version that serves it",
                  prompts->path, later[i]);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* "Temperature" for temperature, "prompts" for prompt: likely meant, so worth more than a note. */
static const char *nearly_known(const char *name)
{
    const size_t n = strlen(name);

    for (int c = 0; c < COL_COUNT; c++) {
        const size_t n_known = strlen(known[c].name);

        if (strcasecmp(name, known[c].name) == 0 ||
            (n == n_known + 1 && tolower((unsigned char)name[n - 1]) == 's' &&
             strncasecmp(name, known[c].name, n_known) == 0))
            return known[c].name;
    }
    return NULL;
}

static void tell_ignored_columns(const struct prompts *prompts)
{
    H5G_info_t info;

    if (H5Gget_info(prompts->file, &info) < 0)
        return;
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[128];
        bool used = false;

        if (H5Lget_name_by_idx(prompts->file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                               H5P_DEFAULT) < 0)
            continue;
        for (int c = 0; c < COL_COUNT; c++)
            used = used || strcmp(name, known[c].name) == 0;
        if (used)
            continue;
        if (nearly_known(name) != NULL)
            log_warn("%s: column %s is ignored: did you mean %s?", prompts->path, name,
                     nearly_known(name));
        else
            log_info("%s: column %s is ignored", prompts->path, name);
    }
}

static enum status open_columns(struct prompts *prompts)
{
    static const char *const token_labels[2] = {"prompt_tokens/values", "prompt_tokens/offsets"};
    enum status st = ST_OK;
    bool has_source = false;

    for (int c = 0; c < COL_COUNT; c++) {
        if (h5_object_type(prompts->file, known[c].name) == H5I_BADID)
            continue;
        if (c == COL_PROMPT_TOKENS)
            TRY(ragged_open(prompts->file, prompts->path, known[c].name, token_labels, COLUMN_INT,
                            &prompts->tokens),
                err);
        else
            TRY(column_open(prompts->file, prompts->path, known[c].name, known[c].name,
                            known[c].type, 1, &prompts->columns[c]),
                err);
        prompts->has[c] = true;
        has_source = has_source || known[c].is_source;
    }
    if (!has_source) {
        char found[512];

        log_error("%s: no known prompt column (prompt, messages or prompt_tokens); found: %s",
                  prompts->path, h5_names(prompts->file, found, sizeof found));
        st = ST_FORMAT;
    }
err:
    return st;
}

static uint64_t column_rows(const struct prompts *prompts, int c)
{
    return c == COL_PROMPT_TOKENS ? prompts->tokens.n_rows : prompts->columns[c].n_rows;
}

static enum status check_lengths(struct prompts *prompts)
{
    int first = -1;

    for (int c = 0; c < COL_COUNT; c++) {
        if (!prompts->has[c])
            continue;
        if (first < 0)
            first = c;
        if (column_rows(prompts, c) == column_rows(prompts, first))
            continue;
        log_error("%s: column %s has %llu rows, column %s has %llu; all columns need one element "
                  "a row (offsets: one more)",
                  prompts->path, known[c].name, (unsigned long long)column_rows(prompts, c),
                  known[first].name, (unsigned long long)column_rows(prompts, first));
        return ST_FORMAT;
    }
    prompts->info = (struct prompts_info){
        .n_rows = column_rows(prompts, first),
        .has_prompt = prompts->has[COL_PROMPT],
        .has_messages = prompts->has[COL_MESSAGES],
        .has_tokens = prompts->has[COL_PROMPT_TOKENS],
        .has_id = prompts->has[COL_ID],
        .has_max_tokens = prompts->has[COL_MAX_TOKENS],
        .has_temperature = prompts->has[COL_TEMPERATURE],
        .has_top_p = prompts->has[COL_TOP_P],
        .has_top_k = prompts->has[COL_TOP_K],
        .has_seed = prompts->has[COL_SEED],
        .has_stop = prompts->has[COL_STOP],
    };
    return ST_OK;
}

enum status prompts_open(const char *path, struct prompts **out_prompts)
{
    enum status st = ST_NOMEM;
    struct prompts *prompts = host_zalloc(sizeof *prompts);

    if (prompts == NULL)
        return ST_NOMEM;
    prompts->file = H5I_INVALID_HID;
    prompts->path = host_strdup(path);
    if (prompts->path == NULL)
        goto err;
    TRY(h5_open_read(path, &prompts->file), err);
    TRY(check_schema(prompts), err);
    TRY(refuse_later_columns(prompts), err);
    TRY(open_columns(prompts), err);
    TRY(check_lengths(prompts), err);
    tell_ignored_columns(prompts);
    *out_prompts = prompts;
    return ST_OK;

err:
    prompts_close(prompts);
    return st;
}

void prompts_close(struct prompts *prompts)
{
    if (prompts == NULL)
        return;
    for (int c = 0; c < COL_COUNT; c++)
        column_close(&prompts->columns[c]);
    ragged_close(&prompts->tokens);
    h5_close(prompts->file);
    host_free(prompts->path);
    host_free(prompts);
}

const struct prompts_info *prompts_info(const struct prompts *prompts)
{
    return &prompts->info;
}

/* ---- rows ----------------------------------------------------------------------------------- */

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

        check_text(row, known[c].name, texts[i], bytes[i]);
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
    const char *name = known[c].name;

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

static enum status read_tokens(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                               struct arena *arena, struct prompt_row *rows)
{
    enum { N_SCRATCH = 1 << 16 };
    enum status st = ST_NOMEM;
    const struct column *column = &prompts->tokens.values;
    uint64_t *offsets = arena_alloc(arena, (n_rows + 1) * sizeof *offsets);

    if (offsets == NULL)
        goto err;
    TRY(ragged_offsets(&prompts->tokens, first, n_rows, offsets), err);
    for (uint64_t i = 0; i <= n_rows; i++) {
        if (offsets[i] <= column->n_rows && (i == 0 || offsets[i] >= offsets[i - 1]))
            continue;
        log_error("%s: column prompt_tokens/offsets changed while it was read; leave the file "
                  "alone while a job runs",
                  prompts->path);
        st = ST_IO;
        goto err;
    }
    const uint64_t base = offsets[0], n_values = offsets[n_rows] - base;
    int64_t *values = arena_alloc(arena, n_values * sizeof *values);
    uint8_t *states = arena_alloc(arena, n_values * sizeof *states);
    int32_t *narrow = arena_alloc(arena, n_values * sizeof *narrow);

    st = ST_NOMEM;
    if (values == NULL || states == NULL || narrow == NULL)
        goto err;
    TRY(column_read_int(column, base, n_values, arena, values, states), err);
    for (uint64_t i = 0; i < n_rows; i++) {
        const uint64_t at = offsets[i] - base, n = offsets[i + 1] - offsets[i];

        if (n > 0)
            take_tokens(&rows[i], values + at, states + at, n, narrow + at);
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
        if (known[c].is_source && prompts->has[c]) {
            add_name(present, sizeof present, known[c].name);
            n_present++;
        }
        if (filled[c]) {
            add_name(given, sizeof given, known[c].name);
            n_given++;
        }
    }
    if (n_given > 1)
        ROW_BAD(row, "the row has %d prompts (%s); leave all but one empty", n_given, given);
    else if (n_given == 0)
        ROW_BAD(row, "the row has no prompt: %s %s empty", present, n_present > 1 ? "are" : "is");
}

enum status prompts_read(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                         struct arena *arena, struct prompt_row *out_rows)
{
    enum status st = ST_OK;

    assert(first <= prompts->info.n_rows && n_rows <= prompts->info.n_rows - first);
    h5_quiet();
    for (uint64_t i = 0; i < n_rows; i++)
        out_rows[i] = (struct prompt_row){.row = first + i};
    if (n_rows == 0)
        return ST_OK;
    for (int c = 0; c < COL_COUNT; c++) {
        if (!prompts->has[c])
            continue;
        if (c == COL_PROMPT_TOKENS)
            TRY(read_tokens(prompts, first, n_rows, arena, out_rows), err);
        else if (known[c].type == COLUMN_TEXT)
            TRY(read_texts(prompts, c, first, n_rows, arena, out_rows), err);
        else if (known[c].type == COLUMN_INT)
            TRY(read_ints(prompts, c, first, n_rows, arena, out_rows), err);
        else
            TRY(read_reals(prompts, c, first, n_rows, arena, out_rows), err);
    }
    for (uint64_t i = 0; i < n_rows; i++)
        check_sources(prompts, &out_rows[i]);
err:
    return st;
}

enum status prompts_read_ids(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_ids, size_t *out_bytes)
{
    assert(prompts->has[COL_ID]);
    assert(first <= prompts->info.n_rows && n_rows <= prompts->info.n_rows - first);
    h5_quiet();
    return column_read_text(&prompts->columns[COL_ID], first, n_rows, arena, out_ids, out_bytes);
}

/* ---- fingerprint ---------------------------------------------------------------------------- */

enum status prompts_fingerprint(struct prompts *prompts, uint64_t *out_hash)
{
    enum status st = ST_OK;
    struct hash_state whole;

    h5_quiet();
    hash_begin(&whole, 0);
    hash_add(&whole, schema_ours, sizeof schema_ours);
    for (int c = 0; c < COL_COUNT; c++) {
        if (!prompts->has[c])
            continue;
        if (c == COL_PROMPT_TOKENS)
            TRY(digest_add_ragged(&whole, &prompts->tokens), err);
        else
            TRY(digest_add_column(&whole, &prompts->columns[c]), err);
    }
    *out_hash = hash_end(&whole);
err:
    return st;
}

uint64_t prompts_glimpse(const struct prompts *prompts)
{
    enum { END_BYTES = 1 << 20 };
    struct hash_state some;
    struct stat facts = {.st_size = 0};
    const int fd = open(prompts->path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = host_alloc(END_BYTES);

    hash_begin(&some, 0);
    hash_add(&some, &prompts->info.n_rows, sizeof prompts->info.n_rows);
    if (fd >= 0 && bytes != NULL && fstat(fd, &facts) == 0) {
        const off_t last = facts.st_size > END_BYTES ? facts.st_size - END_BYTES : 0;
        const off_t places[2] = {0, last};

        hash_add(&some, &facts.st_size, sizeof facts.st_size);
        for (int i = 0; i < 2; i++) {
            const ssize_t n = pread(fd, bytes, END_BYTES, places[i]);

            hash_add(&some, bytes, n > 0 ? (size_t)n : 0);
        }
    }
    host_free(bytes);
    if (fd >= 0)
        close(fd);
    return hash_end(&some);
}
