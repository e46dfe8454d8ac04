/*
 * import.c - JSONL, or one prompt a line, becomes a prompt file.
 *
 * Streams: a column is made when its first value comes, and filled up to the row before it; rows
 * without a value hold "not set" (an empty text, -1, NaN).  The file is written under another name
 * and renamed when it is whole.  Lines: jsonl.c.  Pictures: import_images.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/column_out.h"
#include "data/import_images.h"
#include "data/jsonl.h"
#include "data/replace.h"

enum import_column {
    COL_ANSWER,
    COL_CLASS,
    COL_ID,
    COL_MAX_TOKENS,
    COL_MESSAGES,
    COL_PROMPT,
    COL_SEED,
    COL_STOP,
    COL_TEMPERATURE,
    COL_TOKENS,
    COL_TOKENS_OFFSETS,
    COL_TOP_K,
    COL_TOP_P,
    COL_COUNT
};

enum import_kind { KIND_TEXT, KIND_INT, KIND_REAL, KIND_TOKENS, KIND_OFFSETS };

static const struct {
    const char *name;
    enum import_kind kind;
} columns[COL_COUNT] = {
    [COL_ANSWER] = {"answer", KIND_TEXT},
    [COL_CLASS] = {"class", KIND_TEXT},
    [COL_ID] = {"id", KIND_TEXT},
    [COL_MAX_TOKENS] = {"max_tokens", KIND_INT},
    [COL_MESSAGES] = {"messages", KIND_TEXT},
    [COL_PROMPT] = {"prompt", KIND_TEXT},
    [COL_SEED] = {"seed", KIND_INT},
    [COL_STOP] = {"stop", KIND_TEXT},
    [COL_TEMPERATURE] = {"temperature", KIND_REAL},
    [COL_TOKENS] = {"prompt_tokens/values", KIND_TOKENS},
    [COL_TOKENS_OFFSETS] = {"prompt_tokens/offsets", KIND_OFFSETS},
    [COL_TOP_K] = {"top_k", KIND_INT},
    [COL_TOP_P] = {"top_p", KIND_REAL},
};

enum { MAX_IGNORED = 8, IGNORED_BYTES = 64 };

struct import {
    const struct import_args *args;
    char *temp_path; /* owned */
    hid_t file;      /* owned */
    bool made;
    struct column_out columns[COL_COUNT]; /* .path is NULL until the column is made */
    struct import_images images;
    uint64_t n_rows, n_tokens;
    char ignored[MAX_IGNORED][IGNORED_BYTES]; /* [n_ignored] names of fields that were told */
    int n_ignored;
};

/* ---- columns -------------------------------------------------------------------------------- */

static enum status need_column(struct import *import, enum import_column c)
{
    static const int64_t unset_int = -1;
    static const double unset_real = NAN;
    struct column_out_args args = {
        .path = import->temp_path, .name = columns[c].name, .n_rows = 1024};

    if (import->columns[c].path != NULL)
        return ST_OK;
    switch (columns[c].kind) {
    case KIND_TEXT:
        args.type = h5_text_type();
        break;
    case KIND_INT:
        args.type = H5Tcopy(H5T_STD_I64LE);
        args.fill = &unset_int;
        break;
    case KIND_REAL:
        args.type = H5Tcopy(H5T_IEEE_F64LE);
        args.fill = &unset_real;
        break;
    case KIND_TOKENS:
        args.type = H5Tcopy(H5T_STD_I32LE);
        break;
    case KIND_OFFSETS:
        args.type = H5Tcopy(H5T_STD_U64LE);
        break;
    }
    return column_out_create(import->file, &args, &import->columns[c]);
}

/* Makes the column if need be and fills it up to the current row. */
static enum status reach_row(struct import *import, enum import_column c)
{
    enum status st = ST_OK;

    TRY(need_column(import, c), err);
    st = column_out_pad(&import->columns[c], import->n_rows);
err:
    return st;
}

static enum status put_text(struct import *import, enum import_column c, const char *text,
                            size_t n_bytes)
{
    enum status st = ST_OK;

    if (text == NULL)
        return ST_OK;
    TRY(reach_row(import, c), err);
    st = column_out_put_text(&import->columns[c], text, n_bytes);
err:
    return st;
}

static enum status put_number(struct import *import, enum import_column c, bool has,
                              const void *value)
{
    enum status st = ST_OK;

    if (!has)
        return ST_OK;
    TRY(reach_row(import, c), err);
    st = column_out_put(&import->columns[c], value, 1);
err:
    return st;
}

/* Element i + 1 of the offsets is the end of row i. */
static enum status put_tokens(struct import *import, const json_t *tokens)
{
    enum status st = ST_OK;
    struct column_out *offsets = &import->columns[COL_TOKENS_OFFSETS];
    const size_t n = json_array_size(tokens);

    if (tokens == NULL && offsets->path == NULL)
        return ST_OK;
    TRY(need_column(import, COL_TOKENS), err);
    TRY(need_column(import, COL_TOKENS_OFFSETS), err);
    if (column_out_rows(offsets) == 0) /* zeros for the rows before the first with tokens */
        TRY(column_out_pad(offsets, import->n_rows + 1), err);
    for (size_t i = 0; i < n; i++) {
        const int32_t token = (int32_t)json_integer_value(json_array_get(tokens, i));

        TRY(column_out_put(&import->columns[COL_TOKENS], &token, 1), err);
    }
    import->n_tokens += n;
    st = column_out_put(offsets, &import->n_tokens, 1);
err:
    return st;
}

static enum status put_row(struct import *import, const struct jsonl_row *row,
                           struct row_error *error)
{
    enum status st = ST_OK;

    TRY(import_images_put(&import->images, import->n_rows, row->images, error), err);
    TRY(put_text(import, COL_ANSWER, row->answer, row->answer_bytes), err);
    TRY(put_text(import, COL_CLASS, row->class_name, row->class_bytes), err);
    TRY(put_text(import, COL_ID, row->id, row->id_bytes), err);
    TRY(put_number(import, COL_MAX_TOKENS, row->has_max_tokens, &row->max_tokens), err);
    TRY(put_text(import, COL_MESSAGES, row->messages, row->messages_bytes), err);
    TRY(put_text(import, COL_PROMPT, row->prompt, row->prompt_bytes), err);
    TRY(put_number(import, COL_SEED, row->has_seed, &row->seed), err);
    TRY(put_text(import, COL_STOP, row->stop, row->stop_bytes), err);
    TRY(put_number(import, COL_TEMPERATURE, row->has_temperature, &row->temperature), err);
    TRY(put_tokens(import, row->tokens), err);
    TRY(put_number(import, COL_TOP_K, row->has_top_k, &row->top_k), err);
    TRY(put_number(import, COL_TOP_P, row->has_top_p, &row->top_p), err);
    import->n_rows++;
err:
    return st;
}

/* ---- fields that no column takes ------------------------------------------------------------- */

static bool is_used(const struct import_args *args, const char *field)
{
    const char *const chosen[] = {args->field_prompt, args->field_messages, args->field_id};
    const bool named = args->field_prompt != NULL || args->field_messages != NULL;

    for (int i = 0; i < 3; i++)
        if (chosen[i] != NULL && strcmp(field, chosen[i]) == 0)
            return true;
    if (strcmp(field, "prompt_tokens") == 0 || strcmp(field, "tokens") == 0 ||
        strcmp(field, columns[COL_PROMPT].name) == 0 ||
        strcmp(field, columns[COL_MESSAGES].name) == 0)
        return !named;
    if (strcmp(field, "images") == 0)
        return true;
    if (strcmp(field, "tools") == 0 || strcmp(field, "chat_template_kwargs") == 0)
        return !named || args->field_messages != NULL; /* they go with messages */
    if (strcmp(field, columns[COL_ID].name) == 0)
        return args->field_id == NULL;
    for (int c = 0; c < COL_COUNT; c++)
        if (strcmp(field, columns[c].name) == 0)
            return true;
    return false;
}

/* A misspelt option would change nothing in silence: the first few such names are told, once. */
static void tell_ignored(struct import *import, const struct jsonl_row *row, const char *in_path,
                         uint64_t line)
{
    for (void *at = json_object_iter(row->root); at != NULL && import->n_ignored < MAX_IGNORED;
         at = json_object_iter_next(row->root, at)) {
        const char *field = json_object_iter_key(at);
        bool told = strlen(field) >= IGNORED_BYTES || is_used(import->args, field);

        for (int i = 0; i < import->n_ignored; i++)
            told = told || strcmp(import->ignored[i], field) == 0;
        if (told)
            continue;
        snprintf(import->ignored[import->n_ignored++], IGNORED_BYTES, "%s", field);
        log_info("%s:%llu: field %s is ignored, here and in later lines", in_path,
                 (unsigned long long)line, field);
    }
}

/* ---- the whole ------------------------------------------------------------------------------ */

static enum status read_lines(struct import *import, FILE *in, const char *in_path)
{
    enum status st = ST_OK;
    struct jsonl_lines lines;
    struct jsonl_row row = {.root = NULL};
    const char *line;
    size_t n_bytes;

    jsonl_lines_begin(&lines, in, in_path);
    while ((st = jsonl_lines_next(&lines, &line, &n_bytes)) == ST_OK) {
        struct row_error error;

        st = jsonl_row_parse(import->args, line, n_bytes, &row, &error);
        if (st == ST_OK) {
            tell_ignored(import, &row, in_path, lines.n_lines);
            st = put_row(import, &row, &error);
        }
        if (st == ST_ROW) {
            log_error("%s:%llu: %s", in_path, (unsigned long long)lines.n_lines, error.text);
            st = ST_FORMAT;
        }
        jsonl_row_free(&row);
        if (st != ST_OK)
            break;
    }
    jsonl_lines_end(&lines);
    return st == ST_END ? ST_OK : st;
}

/* All columns to one length, the schema, and onto the disk under the name that was asked for. */
static enum status finish(struct import *import)
{
    enum status st = ST_OK;
    bool any = false;

    for (int c = 0; c < COL_COUNT; c++)
        any = any || import->columns[c].path != NULL;
    if (!any) /* no lines: a file of no rows still says what its rows would be */
        TRY(need_column(import, COL_PROMPT), err);
    for (int c = 0; c < COL_COUNT; c++) {
        const bool ragged = c == COL_TOKENS || c == COL_TOKENS_OFFSETS;

        if (import->columns[c].path == NULL)
            continue;
        if (!ragged)
            TRY(reach_row(import, (enum import_column)c), err);
        TRY(column_out_finish(&import->columns[c]), err);
    }
    TRY(import_images_finish(&import->images), err);
    TRY(h5_attr_put_text(import->file, "schema", "epidote.prompts/1"), err);
    const hid_t file = import->file;
    import->file = H5I_INVALID_HID;
    if (H5Fclose(file) < 0)
        return column_out_failed(import->temp_path, "the file");
    TRY(replace_file(import->temp_path, import->args->out_path), err);
    import->made = false;
err:
    return st;
}

/* Only what an import made may be replaced by one: `import RESULTS OUT` with its arguments swapped,
 * or IN named twice, must not cost the answers or the source. */
static enum status check_target(const char *path)
{
    struct buf schema = {0};
    struct stat facts;

    if (stat(path, &facts) != 0 || facts.st_size == 0)
        return ST_OK;
    h5_quiet();
    const hid_t file = H5Fis_hdf5(path) > 0 ? H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT) : -1;
    const bool ours = file >= 0 && h5_attr_get_text(file, "schema", &schema) == ST_OK &&
                      strncmp((const char *)schema.data, "epidote.prompts/", 16) == 0;
    h5_close(file);
    buf_free(&schema);
    if (ours)
        return ST_OK;
    log_error("%s is there and was not made by import; it is not overwritten: move it away, or "
              "choose another name",
              path);
    return ST_CONFIG;
}

enum status data_import(const struct import_args *args)
{
    enum status st = ST_IO;
    const bool from_stdin = strcmp(args->in_path, "-") == 0;
    const char *in_path = from_stdin ? "standard input" : args->in_path;
    struct import import = {.args = args, .file = H5I_INVALID_HID};
    struct buf temp_path = {0};
    FILE *in = from_stdin ? stdin : fopen(args->in_path, "rbe");

    if (in == NULL) {
        log_error("%s: cannot open: %s", in_path, strerror(errno));
        return ST_IO;
    }
    TRY(replace_allowed(args->in_path, args->out_path), err);
    TRY(check_target(args->out_path), err);
    TRY(buf_printf(&temp_path, "%s.tmp", args->out_path), err);
    import.temp_path = (char *)temp_path.data;
    TRY(h5_create(import.temp_path, &import.file), err);
    import.made = true;
    import_images_begin(&import.images, import.temp_path, import.file,
                        from_stdin ? "" : args->in_path);
    TRY(read_lines(&import, in, in_path), err);
    TRY(finish(&import), err);
    log_info("%s: %llu rows and %llu images from %s", args->out_path,
             (unsigned long long)import.n_rows, (unsigned long long)import.images.n_images,
             in_path);
err:
    for (int c = 0; c < COL_COUNT; c++)
        column_out_close(&import.columns[c]);
    import_images_end(&import.images);
    h5_close(import.file);
    if (import.made)
        unlink(import.temp_path);
    buf_free(&temp_path);
    if (!from_stdin)
        fclose(in);
    return st;
}
