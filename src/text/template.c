/*
 * template.c - a chat template as a whole: read it, give it its variables, run it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "text/template_parse.h"

/* Limits of one run.  What it needs grows with what it is given: contents are copied some times. */
enum { BASE_STEPS = 4 << 20, BASE_BYTES = 64 << 20, STEPS_PER_BYTE = 64, BYTES_PER_BYTE = 64 };

/* ---- places and names ------------------------------------------------------------------------ */

void template_place(const struct template *t, size_t place, int *out_line, int *out_column)
{
    *out_line = *out_column = 1;
    for (size_t i = 0; i < place && i < t->n_bytes; i++) {
        if (t->text[i] == '\n') {
            ++*out_line;
            *out_column = 1;
        } else
            *out_column += ((uint8_t)t->text[i] & 0xc0) != 0x80;
    }
}

enum status template_refuse(const struct template *t, size_t place, const char *fmt, ...)
{
    char text[300];
    va_list args;
    int line = 0, column = 0;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    template_place(t, place, &line, &column);
    log_error("%s: chat template, line %d column %d: %s", t->origin, line, column, text);
    return ST_UNSUPPORTED;
}

static bool same_name(struct text_span a, const char *b, size_t n_bytes)
{
    return a.n_bytes == n_bytes && memcmp(a.data, b, n_bytes) == 0;
}

static int find_name(const struct template *t, const char *name, size_t n_bytes)
{
    int i = 0;

    while (i < t->n_names && !same_name(t->names[i], name, n_bytes))
        i++;
    return i < t->n_names ? i : -1;
}

int template_name(struct template *t, const char *name, size_t n_bytes)
{
    const int there = find_name(t, name, n_bytes);

    if (there >= 0)
        return there;
    if (t->n_names == TEMPLATE_MAX_NAMES)
        return -1;
    if (t->names == NULL) {
        t->names = arena_alloc(t->arena, TEMPLATE_MAX_NAMES * sizeof *t->names);
        if (t->names == NULL)
            return -2;
    }
    const char *copy = arena_copy(t->arena, name, n_bytes);
    if (copy == NULL)
        return -2;
    t->names[t->n_names] = (struct text_span){copy, n_bytes};
    return t->n_names++;
}

bool template_uses(const struct template *t, const char *name)
{
    return find_name(t, name, strlen(name)) >= 0;
}

/* ---- create ---------------------------------------------------------------------------------- */

/* Line ends become LF; the last one goes, as in Jinja. */
static enum status take_text(struct template *t, const char *text, size_t n_bytes)
{
    t->text = arena_alloc(t->arena, n_bytes + 1);
    if (t->text == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i < n_bytes; i++) {
        const bool cr = text[i] == '\r';

        t->text[t->n_bytes++] = cr ? '\n' : text[i];
        i += cr && i + 1 < n_bytes && text[i + 1] == '\n';
    }
    if (t->n_bytes > 0 && t->text[t->n_bytes - 1] == '\n')
        t->n_bytes--;
    t->text[t->n_bytes] = '\0';
    return ST_OK;
}

enum status template_create(const char *text, size_t n_bytes, const char *origin,
                            struct template **out_template)
{
    struct template *t = host_zalloc(sizeof *t);
    struct tpl_tokens tokens = {0};
    size_t bad = 0;
    enum status st = ST_NOMEM;

    if (t == NULL)
        return ST_NOMEM;
    TRY(arena_create(64 << 10, &t->arena), err);
    t->origin = arena_copy(t->arena, origin, strlen(origin));
    if (t->origin == NULL) {
        st = ST_NOMEM;
        goto err;
    }
    if (n_bytes > TEMPLATE_MAX_BYTES || !utf8_valid(text, n_bytes, &bad)) {
        log_error("%s: chat template of %zu bytes: must be UTF-8 of at most %d bytes", origin,
                  n_bytes, TEMPLATE_MAX_BYTES);
        st = ST_UNSUPPORTED;
        goto err;
    }
    TRY(take_text(t, text, n_bytes), err);
    t->name_loop = template_name(t, "loop", 4);
    t->name_caller = template_name(t, "caller", 6);
    t->name_varargs = template_name(t, "varargs", 7);
    t->name_kwargs = template_name(t, "kwargs", 6);
    if (t->name_kwargs < 0) {
        st = ST_NOMEM;
        goto err;
    }
    TRY(template_lex(t, &tokens), err);
    TRY(template_parse(t, &tokens), err);
    host_free(tokens.tokens);
    *out_template = t;
    return ST_OK;
err:
    host_free(tokens.tokens);
    template_destroy(t);
    return st;
}

void template_destroy(struct template *t)
{
    if (t == NULL)
        return;
    arena_destroy(t->arena);
    host_free(t);
}

/* ---- render ---------------------------------------------------------------------------------- */

/* Bytes of strings in a JSON value, roughly. */
static size_t json_weight(const json_t *json)
{
    json_t *value = (json_t *)(uintptr_t)json;
    size_t n = 16;

    if (json_is_string(json))
        return n + json_string_length(json);
    for (size_t i = 0; i < json_array_size(json); i++)
        n += json_weight(json_array_get(json, i));
    for (void *at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at))
        n += 16 + strlen(json_object_iter_key(at)) + json_weight(json_object_iter_value(at));
    return n;
}

static enum status set_variables(struct tpl_run *run, const struct template_variable *variables,
                                 size_t n_variables, struct tpl_scope *scope)
{
    struct tpl_value value = {0};
    enum status st = ST_OK;

    for (size_t i = 0; i < n_variables; i++) {
        const struct template_variable *v = &variables[i];
        const int name = find_name(run->t, v->name, strlen(v->name));

        if (name < 0)
            continue;
        if (v->json != NULL)
            TRY(value_from_json(run, v->json, false, v->roles, &value), done);
        else
            TRY(string_new(run, v->text, strlen(v->text), true, &value), done);
        TRY(scope_set(run, scope, name, value), done);
    }
done:
    return st;
}

static enum status give_out(const struct tpl_builder *b, struct buf *out_text,
                            struct buf *out_marks)
{
    const size_t at = out_text->n_bytes;
    enum status st = ST_OK;

    if (b->n_bytes > 0)
        TRY(buf_put(out_text, b->data, b->n_bytes), done);
    for (size_t i = 0; i < b->n_marks; i++) {
        const struct text_range mark = {at + b->marks[i].begin, at + b->marks[i].end};

        TRY(buf_put(out_marks, &mark, sizeof mark), done);
    }
done:
    return st;
}

enum status template_render(const struct template *t, const struct template_variable *variables,
                            size_t n_variables, const char *date, struct buf *out_text,
                            struct buf *out_marks, struct row_error *err)
{
    struct tpl_run run = {.t = t, .date = date, .err = err};
    struct tpl_scope *globals = NULL, *scope = NULL;
    struct tpl_builder out = {0};
    size_t weight = 0;
    int flow = 0;
    enum status st;

    for (size_t i = 0; i < n_variables; i++)
        weight += variables[i].json != NULL ? json_weight(variables[i].json) : 64;
    run.limit_steps = BASE_STEPS + (uint64_t)STEPS_PER_BYTE * weight;
    run.limit_bytes = BASE_BYTES + (size_t)BYTES_PER_BYTE * weight;
    TRY(arena_create(64 << 10, &run.arena), done);
    TRY(scope_new(&run, NULL, &globals), done);
    TRY(set_variables(&run, variables, n_variables, globals), done);
    TRY(scope_new(&run, globals, &scope), done);
    TRY(run_body(&run, t->body, scope, &out, &flow), done);
    TRY(give_out(&out, out_text, out_marks), done);
done:
    arena_destroy(run.arena);
    return st;
}
