/*
 * template_filters.c - filters on one value.  Those that go through lists are template_lists.c's.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template.h"

/* ---- text ------------------------------------------------------------------------------------ */

static enum status filter_string(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *s = NULL;
    const enum status st = value_string(run, call->args[0], &s);

    (void)self;
    *out_value = (struct tpl_value){.kind = TPL_STRING, .as.string = s};
    return st;
}

/* A filter that is a string's method of the same name, on str(value). */
static enum status filter_method(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const char *name = self->which != 0 ? "strip" : self->name;
    struct tpl_value args[2] = {{0}, call->n_args > 1 ? call->args[1] : (struct tpl_value){0}};
    const struct tpl_builtin *method = NULL;
    bool unsafe = false;
    enum status st;

    TRY(filter_string(run, self, call, &args[0]), done);
    method = method_find(args[0], (struct text_span){name, strlen(name)}, &unsafe);
    const struct tpl_call inner = {.args = args, .n_args = args[1].kind == TPL_MISSING ? 1u : 2u};
    TRY(builtin_call(run, method, &inner, out_value), done);
done:
    return st;
}

/* Jinja's own idea of words, which is not Python's. */
static enum status filter_title(struct tpl_run *run, const struct tpl_builtin *self,
                                const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_value v = {0};
    struct tpl_builder b = {0};
    bool in_word = false;
    size_t n = 0;
    enum status st;

    TRY(filter_string(run, self, call, &v), done);
    for (size_t at = 0; at < v.as.string->n_bytes; at += n) {
        const uint32_t code = utf8_decode(v.as.string->data + at, &n);
        const bool between =
            char_is_space(code) || (code < 0x80 && code != 0 && strchr("-({[<", (int)code) != NULL);

        TRY(string_case(run, &b, v.as.string, at, at + n, in_word ? CASE_LOWER : CASE_UPPER), done);
        in_word = !between;
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

static enum status filter_replace(struct tpl_run *run, const struct tpl_builtin *self,
                                  const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *s = NULL, *old = NULL, *new_text = NULL;
    int64_t max = -1;
    enum status st;

    (void)self;
    TRY(value_string(run, call->args[0], &s), done);
    TRY(value_string(run, call->args[1], &old), done);
    TRY(value_string(run, call->args[2], &new_text), done);
    if (call->args[3].kind != TPL_NONE)
        TRY(arg_int(run, call->args[3], -1, &max), done);
    TRY(string_replace(run, s, old, new_text, max, out_value), done);
done:
    return st;
}

static enum status filter_safe(struct tpl_run *run, const struct tpl_builtin *self,
                               const struct tpl_call *call, struct tpl_value *out_value)
{
    static const struct tpl_string empty = {.data = "", .safe = true};
    struct tpl_string *safe = NULL;
    void *memory = NULL;
    enum status st;

    TRY(filter_string(run, self, call, out_value), done);
    if (self->which != 0 && !out_value->as.string->safe) /* escape: what adding to safe text does */
        return string_add(run, &empty, out_value->as.string, out_value);
    TRY(run_alloc(run, sizeof *safe, &memory), done);
    safe = memory;
    *safe = *out_value->as.string;
    safe->safe = true;
    out_value->as.string = safe;
done:
    return st;
}

static enum status filter_indent(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const bool first = value_truth(call->args[2]), blank = value_truth(call->args[3]);
    struct tpl_value lines = {0}, with = {0}, whole = {0};
    struct tpl_builder b = {0}, spaces = {0};
    const struct tpl_string *s = NULL;
    int64_t width = 4;
    enum status st;

    (void)self;
    TRY(arg_string(run, call->args[0], &s), done);
    with = call->args[1];
    if (with.kind != TPL_STRING) {
        TRY(arg_int(run, with, 4, &width), done);
        for (int64_t i = 0; i < width; i++)
            TRY(builder_puts(run, &spaces, " "), done);
        TRY(builder_end(run, &spaces, &with), done);
    }
    TRY(builder_put_string(run, &b, s), done);
    TRY(builder_puts(run, &b, "\n"), done); /* so that the last line counts when it is empty */
    TRY(builder_end(run, &b, &whole), done);
    TRY(string_lines(run, whole.as.string, false, &lines), done);
    b = (struct tpl_builder){0};
    for (size_t i = 0; i < lines.as.seq->n; i++) {
        const struct tpl_string *line = lines.as.seq->items[i].as.string;

        if (i > 0)
            TRY(builder_puts(run, &b, "\n"), done);
        if (i == 0 ? first : blank || line->n_bytes > 0)
            TRY(builder_put_string(run, &b, with.as.string), done);
        TRY(builder_put_string(run, &b, line), done);
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

static enum status filter_tojson(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value indent = call->args[2], separators = call->args[3];
    struct tpl_json_style style = {.ascii = value_truth(call->args[1]),
                                   .sort_keys = value_truth(call->args[4])};
    struct tpl_builder b = {0}, spaces = {0};
    struct tpl_value with = indent;
    int64_t width = 0;
    enum status st;

    (void)self;
    if (value_integer(indent, &width)) {
        for (int64_t i = 0; i < width; i++)
            TRY(builder_puts(run, &spaces, " "), done);
        TRY(builder_end(run, &spaces, &with), done);
    }
    if (with.kind != TPL_MISSING && with.kind != TPL_NONE)
        TRY(arg_string(run, with, &style.indent), done);
    if (separators.kind != TPL_MISSING && separators.kind != TPL_NONE) {
        if (separators.kind != TPL_SEQ || separators.as.seq->n != 2)
            return run_fail(run, "tojson: separators must be two strings");
        TRY(arg_string(run, separators.as.seq->items[0], &style.item_sep), done);
        TRY(arg_string(run, separators.as.seq->items[1], &style.key_sep), done);
    }
    TRY(print_json(run, &b, call->args[0], &style), done);
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

/* ---- values ---------------------------------------------------------------------------------- */

static enum status filter_default(struct tpl_run *run, const struct tpl_builtin *self,
                                  const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value v = call->args[0];

    (void)self;
    if (v.kind != TPL_UNDEFINED && (!value_truth(call->args[2]) || value_truth(v))) {
        *out_value = v;
        return ST_OK;
    }
    if (call->args[1].kind == TPL_MISSING)
        return string_new(run, "", 0, true, out_value);
    *out_value = call->args[1];
    return ST_OK;
}

static enum status filter_length(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    size_t n = 0;

    (void)self;
    if (!value_length(call->args[0], &n))
        return run_fail(run, "%s has no length", value_type(call->args[0]));
    *out_value = value_int((int64_t)n);
    return ST_OK;
}

/* Text of a number as Python reads it: blanks around, single underscores between digits.  Into
 * out, without these; false: not one. */
static bool number_text(const struct tpl_string *s, char *out, size_t cap)
{
    size_t begin = 0, end = s->n_bytes, n = 0;

    while (begin < end && char_is_space((uint8_t)s->data[begin]) && (uint8_t)s->data[begin] < 0x80)
        begin++;
    while (end > begin && char_is_space((uint8_t)s->data[end - 1]) &&
           (uint8_t)s->data[end - 1] < 0x80)
        end--;
    for (size_t i = begin; i < end; i++) {
        const char c = s->data[i];

        if (c == '_') {
            if (i == begin || i + 1 == end || strchr("0123456789", s->data[i - 1]) == NULL ||
                strchr("0123456789", s->data[i + 1]) == NULL)
                return false;
            continue;
        }
        /* what strtod takes and Python does not: hexadecimal, nan(...) */
        if (c == '\0' || c == 'x' || c == 'X' || c == '(' || n + 1 >= cap)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0;
}

static bool to_float(struct tpl_value v, double *out)
{
    char text[400], *end = NULL;

    if (value_is_number(v)) {
        *out = value_number(v);
        return true;
    }
    if (v.kind != TPL_STRING || !number_text(v.as.string, text, sizeof text))
        return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static enum status float_to_int(struct tpl_run *run, double f, struct tpl_value *out_value)
{
    if (!(f > -9.2e18 && f < 9.2e18))
        return run_fail(run, "int: the number is beyond 64 bits");
    *out_value = value_int((int64_t)f);
    return ST_OK;
}

static enum status filter_int(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value v = call->args[0];
    char text[400], *end = NULL;
    int64_t base = 10, whole = 0;
    double f = 0;
    enum status st;

    (void)self;
    TRY(value_refuse_undefined(run, v), done);
    TRY(arg_int(run, call->args[2], 10, &base), done);
    if (base != 10)
        return run_fail(run, "int: a base other than 10 is not supported");
    *out_value = call->args[1].kind == TPL_MISSING ? value_int(0) : call->args[1];
    if (value_integer(v, &whole)) {
        *out_value = value_int(whole);
    } else if (v.kind == TPL_FLOAT) {
        if (!isnan(v.as.number))
            return float_to_int(run, v.as.number, out_value);
    } else if (v.kind == TPL_STRING && number_text(v.as.string, text, sizeof text)) {
        errno = 0;
        whole = strtoll(text, &end, 10);
        if (*end == '\0' && errno != 0)
            return run_fail(run, "int: the number is beyond 64 bits");
        if (*end == '\0')
            *out_value = value_int(whole);
        else if (to_float(v, &f) && isfinite(f))
            return float_to_int(run, f, out_value);
    }
done:
    return st;
}

static enum status filter_float(struct tpl_run *run, const struct tpl_builtin *self,
                                const struct tpl_call *call, struct tpl_value *out_value)
{
    double f = 0;
    enum status st;

    (void)self;
    TRY(value_refuse_undefined(run, call->args[0]), done);
    if (to_float(call->args[0], &f))
        *out_value = value_float(f);
    else
        *out_value = call->args[1].kind == TPL_MISSING ? value_float(0) : call->args[1];
done:
    return st;
}

static enum status filter_abs(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value v = call->args[0];
    int64_t whole = 0;

    (void)self;
    if (value_integer(v, &whole)) {
        if (whole == INT64_MIN)
            return run_fail(run, "abs: the number is beyond 64 bits");
        *out_value = value_int(whole < 0 ? -whole : whole);
        return ST_OK;
    }
    if (v.kind != TPL_FLOAT)
        return run_fail(run, "abs of a %s", value_type(v));
    *out_value = value_float(fabs(v.as.number));
    return ST_OK;
}

static enum status filter_round(struct tpl_run *run, const struct tpl_builtin *self,
                                const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value v = call->args[0];
    const struct tpl_value method = call->args[2];
    int64_t precision = 0;
    double power = 1;
    char text[400];
    enum status st;

    (void)self;
    TRY(arg_int(run, call->args[1], 0, &precision), done);
    if (!value_is_number(v) || precision < 0 || precision > 20)
        return run_fail(run, "round of a %s to %lld digits is not supported", value_type(v),
                        (long long)precision);
    if (method.kind == TPL_MISSING ||
        (method.kind == TPL_STRING && string_is(method.as.string, "common"))) {
        *out_value = v;
        if (v.kind == TPL_FLOAT && isfinite(v.as.number)) {
            snprintf(text, sizeof text, "%.*f", (int)precision, v.as.number);
            *out_value = value_float(strtod(text, NULL));
        }
        return ST_OK;
    }
    const bool ceiling = method.kind == TPL_STRING && string_is(method.as.string, "ceil");
    if (!ceiling && (method.kind != TPL_STRING || !string_is(method.as.string, "floor")))
        return run_fail(run, "round: the method must be common, ceil or floor");
    for (int64_t i = 0; i < precision; i++)
        power *= 10;
    const double scaled = value_number(v) * power;
    *out_value = value_float((ceiling ? ceil(scaled) : floor(scaled)) / power);
done:
    return st;
}

static const struct tpl_builtin filters[] = {
    {"string", {"value"}, 1, false, filter_string, 0},
    {"upper", {"s"}, 1, false, filter_method, 0},
    {"lower", {"s"}, 1, false, filter_method, 0},
    {"capitalize", {"s"}, 1, false, filter_method, 0},
    {"trim", {"value", "chars"}, 1, false, filter_method, 1},
    {"title", {"s"}, 1, false, filter_title, 0},
    {"replace", {"s", "old", "new", "count"}, 3, false, filter_replace, 0},
    {"safe", {"value"}, 1, false, filter_safe, 0},
    {"escape", {"value"}, 1, false, filter_safe, 1},
    {"e", {"value"}, 1, false, filter_safe, 1},
    {"indent", {"s", "width", "first", "blank"}, 1, false, filter_indent, 0},
    {"tojson",
     {"x", "ensure_ascii", "indent", "separators", "sort_keys"},
     1,
     false,
     filter_tojson,
     0},
    {"default", {"value", "default_value", "boolean"}, 1, false, filter_default, 0},
    {"d", {"value", "default_value", "boolean"}, 1, false, filter_default, 0},
    {"length", {"obj"}, 1, false, filter_length, 0},
    {"count", {"obj"}, 1, false, filter_length, 0},
    {"int", {"value", "default", "base"}, 1, false, filter_int, 0},
    {"float", {"value", "default"}, 1, false, filter_float, 0},
    {"abs", {"x"}, 1, false, filter_abs, 0},
    {"round", {"value", "precision", "method"}, 1, false, filter_round, 0},
};

const struct tpl_builtin *filter_find(struct text_span name)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strlen(filters[i].name) == name.n_bytes &&
            memcmp(filters[i].name, name.data, name.n_bytes) == 0)
            return &filters[i];
    return list_filter_find(name);
}
