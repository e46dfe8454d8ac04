/*
 * jsonl.c - lines of a text file, and one JSON line as a prompt row.
 *
 * A line is refused, with a reason, where it cannot mean what its writer meant; values that a line
 * may well hold but no row can use (a negative temperature) are left to prompts.c, which makes an
 * error row of them.  Caller: import.c.
 */
#include <assert.h>
#include <errno.h>

#include "data/jsonl.h"

/* ---- lines ---------------------------------------------------------------------------------- */

void jsonl_lines_begin(struct jsonl_lines *lines, FILE *in, const char *path)
{
    *lines = (struct jsonl_lines){.in = in, .path = path};
}

void jsonl_lines_end(struct jsonl_lines *lines)
{
    buf_free(&lines->buffer);
}

/* Appends what the file has next; what was handed out goes first. */
static enum status refill(struct jsonl_lines *lines)
{
    enum { READ_BYTES = 1 << 16 };
    enum status st = ST_OK;
    struct buf *buffer = &lines->buffer;

    if (lines->at > 0) {
        memmove(buffer->data, buffer->data + lines->at, buffer->n_bytes - lines->at);
        buffer->n_bytes -= lines->at;
        lines->at = 0;
    }
    if (buffer->n_bytes > JSONL_LINE_LIMIT) {
        log_error("%s:%llu: the line is longer than %d MiB; is this a text file of one row a line?",
                  lines->path, (unsigned long long)lines->n_lines + 1, JSONL_LINE_LIMIT >> 20);
        return ST_FORMAT;
    }
    TRY(buf_reserve(buffer, READ_BYTES), err);
    const size_t n = fread(buffer->data + buffer->n_bytes, 1, READ_BYTES, lines->in);
    if (n == 0 && ferror(lines->in)) {
        log_error("%s: cannot read after line %llu: %s", lines->path,
                  (unsigned long long)lines->n_lines, strerror(errno));
        return ST_IO;
    }
    buffer->n_bytes += n;
    lines->at_end = n == 0;
err:
    return st;
}

/* The next line, whatever it holds, without its LF. */
static enum status next_raw(struct jsonl_lines *lines, const char **out_line, size_t *out_bytes)
{
    enum status st = ST_OK;
    size_t searched = 0; /* a long line is not searched again from its start */

    for (;;) {
        const size_t n = lines->buffer.n_bytes - lines->at;
        const char *line = n > 0 ? (const char *)lines->buffer.data + lines->at : "";
        const char *end = n > searched ? memchr(line + searched, '\n', n - searched) : NULL;

        if (end != NULL || (lines->at_end && n > 0)) {
            *out_line = line;
            *out_bytes = end != NULL ? (size_t)(end - line) : n;
            lines->at += *out_bytes + (end != NULL);
            lines->n_lines++;
            return ST_OK;
        }
        if (lines->at_end)
            return ST_END;
        searched = n;
        TRY(refill(lines), err);
    }
err:
    return st;
}

static bool is_blank(const char *line, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

enum status jsonl_lines_next(struct jsonl_lines *lines, const char **out_line, size_t *out_bytes)
{
    enum status st = ST_OK;
    const char *line;
    size_t n;

    do {
        TRY(next_raw(lines, &line, &n), err);
        if (lines->n_lines == 1 && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3;
            n -= 3;
        }
    } while (is_blank(line, n));
    if (line[n - 1] == '\r')
        n--;
    *out_line = line;
    *out_bytes = n;
err:
    return st;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

/* A field that is there and is not null. */
static const json_t *field(const struct jsonl_row *row, const char *name)
{
    const json_t *value = name != NULL ? json_object_get(row->root, name) : NULL;

    return value == NULL || json_is_null(value) ? NULL : value;
}

static enum status wrong_type(const char *name, const json_t *value, const char *wanted,
                              struct row_error *error)
{
    return row_error_set(error, "field %.64s is %s; it has to be %s", name, type_name(value),
                         wanted);
}

static enum status take_text(const struct jsonl_row *row, const char *name, const char **out_text,
                             size_t *out_bytes, struct row_error *error)
{
    const json_t *value = field(row, name);

    if (value == NULL)
        return ST_OK;
    if (!json_is_string(value))
        return wrong_type(name, value, "a string", error);
    *out_text = json_string_value(value);
    *out_bytes = json_string_length(value);
    return ST_OK;
}

/* messages: a list, an object that has one, or already the JSON text of either.  stop: a string or
 * a list of strings. */
static enum status take_json(const struct jsonl_row *row, const char *name, char **out_scratch,
                             const char **out_text, size_t *out_bytes)
{
    const json_t *value = field(row, name);

    if (value == NULL)
        return ST_OK;
    *out_scratch = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (*out_scratch == NULL) {
        log_error("no memory for field %s", name);
        return ST_NOMEM;
    }
    *out_text = *out_scratch;
    *out_bytes = strlen(*out_scratch);
    return ST_OK;
}

/* What belongs to a list of messages and stands beside it in a line. */
static const char *const beside[] = {"tools", "chat_template_kwargs"};
enum { N_BESIDE = sizeof beside / sizeof beside[0] };

static bool any_beside(const struct jsonl_row *row)
{
    for (int i = 0; i < N_BESIDE; i++)
        if (field(row, beside[i]) != NULL)
            return true;
    return false;
}

/* messages and tools as the one object that a row holds. */
static enum status take_together(struct jsonl_row *row, json_t *messages)
{
    json_t *all = json_pack("{s:O}", "messages", messages);
    int bad = all == NULL;

    for (int i = 0; i < N_BESIDE && !bad; i++)
        if (field(row, beside[i]) != NULL)
            bad = json_object_set(all, beside[i], json_object_get(row->root, beside[i]));
    if (!bad)
        row->scratch[0] = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    if (row->scratch[0] == NULL) {
        log_error("no memory for field messages");
        return ST_NOMEM;
    }
    row->messages = row->scratch[0];
    row->messages_bytes = strlen(row->scratch[0]);
    return ST_OK;
}

static enum status take_messages(struct jsonl_row *row, const char *name, struct row_error *error)
{
    const json_t *value = field(row, name);

    if (value == NULL)
        return ST_OK;
    if (json_is_array(value) && any_beside(row))
        return take_together(row, json_object_get(row->root, name));
    if (any_beside(row))
        return row_error_set(error,
                             "field %.64s must be a list where there are tools or "
                             "chat_template_kwargs beside it",
                             name);
    if (json_is_string(value))
        return take_text(row, name, &row->messages, &row->messages_bytes, error);
    if (!json_is_array(value) && !json_is_array(json_object_get(value, "messages")))
        return wrong_type(name, value, "a list of messages", error);
    return take_json(row, name, &row->scratch[0], &row->messages, &row->messages_bytes);
}

static enum status take_stop(struct jsonl_row *row, struct row_error *error)
{
    const json_t *value = field(row, "stop");

    if (value != NULL && !json_is_string(value) && !json_is_array(value))
        return wrong_type("stop", value, "a string or a list of strings", error);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!json_is_string(json_array_get(value, i)))
            return wrong_type("stop", json_array_get(value, i), "a list of strings only", error);
    return take_json(row, "stop", &row->scratch[1], &row->stop, &row->stop_bytes);
}

/* A string, or an integer, which `number` then holds as text. */
static enum status take_label(const struct jsonl_row *row, const char *name, char number[24],
                              const char **out_text, size_t *out_bytes, struct row_error *error)
{
    const json_t *value = field(row, name);

    if (value != NULL && json_is_integer(value)) {
        *out_bytes = (size_t)snprintf(number, 24, "%lld", (long long)json_integer_value(value));
        *out_text = number;
        return ST_OK;
    }
    if (value != NULL && !json_is_string(value))
        return wrong_type(name, value, "a string or an integer", error);
    return take_text(row, name, out_text, out_bytes, error);
}

static enum status take_tokens(struct jsonl_row *row, const char *name, struct row_error *error)
{
    const json_t *value = field(row, name);

    if (value == NULL)
        return ST_OK;
    if (!json_is_array(value))
        return wrong_type(name, value, "a list of token ids", error);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *token = json_array_get(value, i);

        if (!json_is_integer(token) || json_integer_value(token) < 0 ||
            json_integer_value(token) > INT32_MAX)
            return row_error_set(error, "field %.64s: element %zu is not a token id (0 to %d)",
                                 name, i, INT32_MAX);
    }
    row->tokens = value;
    return ST_OK;
}

static enum status take_images(struct jsonl_row *row, struct row_error *error)
{
    const json_t *value = field(row, "images");

    if (value == NULL)
        return ST_OK;
    if (!json_is_array(value))
        return wrong_type("images", value, "a list of paths of JPEG or PNG files", error);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!json_is_string(json_array_get(value, i)))
            return wrong_type("images", json_array_get(value, i), "a list of paths only", error);
    row->images = value;
    return ST_OK;
}

static enum status take_int(const struct jsonl_row *row, const char *name, bool *out_has,
                            int64_t *out, struct row_error *error)
{
    const json_t *value = field(row, name);

    if (value == NULL)
        return ST_OK;
    if (!json_is_integer(value))
        return wrong_type(name, value, "an integer", error);
    *out_has = true;
    *out = json_integer_value(value);
    return ST_OK;
}

static enum status take_real(const struct jsonl_row *row, const char *name, bool *out_has,
                             double *out, struct row_error *error)
{
    const json_t *value = field(row, name);

    if (value == NULL)
        return ST_OK;
    if (!json_is_number(value))
        return wrong_type(name, value, "a number", error);
    *out_has = true;
    *out = json_number_value(value);
    return ST_OK;
}

/* A line without any source is most likely one whose field has another name. */
static enum status no_source(const struct jsonl_row *row, const char *const *names, int n_names,
                             struct row_error *error)
{
    char wanted[160] = "", found[96] = "none";
    size_t used = 0;

    for (int i = 0; i < n_names; i++) {
        const size_t n = strlen(wanted);

        snprintf(wanted + n, sizeof wanted - n, "%s%.40s", n > 0 ? ", " : "", names[i]);
    }
    for (void *at = json_object_iter(row->root); at != NULL && used < sizeof found;
         at = json_object_iter_next(row->root, at)) {
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%.40s", used > 0 ? ", " : "",
                                 json_object_iter_key(at));
    }
    return row_error_set(error,
                         "no prompt: no field %s; found: %s; name it with --prompt or --messages",
                         wanted, found);
}

static enum status take_sources(const struct import_args *args, struct jsonl_row *row,
                                struct row_error *error)
{
    enum status st = ST_OK;
    const bool chosen = args->field_prompt != NULL || args->field_messages != NULL;
    const char *prompt = args->field_prompt, *messages = args->field_messages, *tokens = NULL;
    const char *names[3];
    int n_names = 0;
    bool any = false;

    /* Whoever names a field means that field only. */
    if (!chosen) {
        prompt = "prompt";
        messages = "messages";
        tokens = json_object_get(row->root, "prompt_tokens") != NULL ? "prompt_tokens" : "tokens";
    }
    if (prompt != NULL)
        names[n_names++] = prompt;
    if (messages != NULL)
        names[n_names++] = messages;
    if (tokens != NULL)
        names[n_names++] = "prompt_tokens";
    for (int i = 0; i < n_names; i++)
        any = any || json_object_get(row->root, names[i]) != NULL;
    if (!any && (tokens == NULL || json_object_get(row->root, tokens) == NULL))
        return no_source(row, names, n_names, error);
    TRY(take_text(row, prompt, &row->prompt, &row->prompt_bytes, error), err);
    TRY(take_messages(row, messages, error), err);
    TRY(take_tokens(row, tokens, error), err);
err:
    return st;
}

static enum status take_fields(const struct import_args *args, struct jsonl_row *row,
                               struct row_error *error)
{
    enum status st = ST_OK;

    TRY(take_sources(args, row, error), err);
    TRY(take_label(row, args->field_id != NULL ? args->field_id : "id", row->id_text, &row->id,
                   &row->id_bytes, error),
        err);
    TRY(take_label(row, "answer", row->answer_text, &row->answer, &row->answer_bytes, error), err);
    TRY(take_label(row, "class", row->class_text, &row->class_name, &row->class_bytes, error), err);
    TRY(take_stop(row, error), err);
    TRY(take_images(row, error), err);
    TRY(take_int(row, "max_tokens", &row->has_max_tokens, &row->max_tokens, error), err);
    TRY(take_int(row, "top_k", &row->has_top_k, &row->top_k, error), err);
    TRY(take_int(row, "seed", &row->has_seed, &row->seed, error), err);
    TRY(take_real(row, "temperature", &row->has_temperature, &row->temperature, error), err);
    TRY(take_real(row, "top_p", &row->has_top_p, &row->top_p, error), err);
err:
    return st;
}

enum status jsonl_row_parse(const struct import_args *args, const char *line, size_t n_bytes,
                            struct jsonl_row *out_row, struct row_error *out_error)
{
    json_error_t error;
    size_t bad = 0;

    *out_row = (struct jsonl_row){.root = NULL};
    if (!utf8_valid(line, n_bytes, &bad))
        return row_error_set(out_error, "not valid UTF-8 at byte %zu of the line", bad);
    if (args->lines) {
        if (memchr(line, '\0', n_bytes) != NULL)
            return row_error_set(out_error, "a NUL in the line; texts cannot hold one");
        out_row->prompt = line;
        out_row->prompt_bytes = n_bytes;
        return ST_OK;
    }
    out_row->root = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (out_row->root == NULL)
        return row_error_set(out_error, "not valid JSON at byte %d of the line: %s%s",
                             error.position, error.text,
                             n_bytes > 0 && line[0] != '{' ? "; plain text wants --lines" : "");
    if (!json_is_object(out_row->root))
        return row_error_set(out_error, "the line is %s; it has to be an object with a prompt",
                             type_name(out_row->root));
    return take_fields(args, out_row, out_error);
}

void jsonl_row_free(struct jsonl_row *row)
{
    json_decref(row->root);
    free(row->scratch[0]);
    free(row->scratch[1]);
    *row = (struct jsonl_row){.root = NULL};
}
