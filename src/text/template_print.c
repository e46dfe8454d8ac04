/*
 * template_print.c - values as text: as Python's str() and repr(), and as JSON.
 *
 * What stands between strings (quotes, commas) counts as the row's: it never becomes part of a
 * special token.  No locale: numbers are written by our own rules.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template.h"

/* ---- numbers --------------------------------------------------------------------------------- */

/* The fewest digits that read back as the same number, in Python's shape. */
static enum status put_float(struct tpl_run *run, struct tpl_builder *b, double f, bool json)
{
    char digits[32], text[64];
    size_t n = 0;
    int n_digits = 0, exponent = 0;

    if (isnan(f))
        return builder_puts(run, b, json ? "NaN" : "nan");
    if (isinf(f))
        return builder_puts(run, b,
                            json    ? (f < 0 ? "-Infinity" : "Infinity")
                            : f < 0 ? "-inf"
                                    : "inf");
    for (int i = 0; i < 17; i++) {
        snprintf(digits, sizeof digits, "%.*e", i, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    char *e = strchr(digits, 'e');
    exponent = (int)strtol(e + 1, NULL, 10);
    const bool minus = digits[0] == '-';
    char *from = digits + minus, mantissa[24] = "";
    for (; from < e; from++)
        if (*from != '.')
            mantissa[n_digits++] = *from;
    if (minus)
        text[n++] = '-';
    if (exponent < -4 || exponent >= 16) {
        text[n++] = mantissa[0];
        if (n_digits > 1)
            text[n++] = '.';
        for (int i = 1; i < n_digits; i++)
            text[n++] = mantissa[i];
        n += (size_t)snprintf(text + n, sizeof text - n, "e%c%02d", exponent < 0 ? '-' : '+',
                              abs(exponent));
    } else if (exponent < 0) {
        text[n++] = '0';
        text[n++] = '.';
        for (int i = -1; i > exponent; i--)
            text[n++] = '0';
        for (int i = 0; i < n_digits; i++)
            text[n++] = mantissa[i];
    } else {
        for (int i = 0; i <= exponent || i < n_digits; i++) {
            if (i == exponent + 1)
                text[n++] = '.';
            text[n++] = i < n_digits ? mantissa[i] : '0';
        }
        if (n_digits <= exponent + 1) {
            text[n++] = '.';
            text[n++] = '0';
        }
    }
    return builder_put(run, b, text, n, false);
}

static enum status put_int(struct tpl_run *run, struct tpl_builder *b, int64_t i)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)i);
    return builder_puts(run, b, text);
}

/* ---- repr ------------------------------------------------------------------------------------ */

static enum status put_quoted(struct tpl_run *run, struct tpl_builder *b,
                              const struct tpl_string *s)
{
    const bool single = memchr(s->data, '\'', s->n_bytes) != NULL;
    const char quote = single && memchr(s->data, '"', s->n_bytes) == NULL ? '"' : '\'';
    size_t n = 0, done = 0;
    enum status st;

    TRY(builder_put(run, b, &quote, 1, false), done);
    for (size_t at = 0; at < s->n_bytes; at += n) {
        const uint32_t code = utf8_decode(s->data + at, &n);
        char escape[16] = "";

        if (code == '\\' || code == (uint32_t)quote)
            snprintf(escape, sizeof escape, "\\%c", (char)code);
        else if (code == '\n' || code == '\r' || code == '\t')
            snprintf(escape, sizeof escape, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        else if (code < 0x20 || (code >= 0x7f && code < 0x100 && !char_printable(code)))
            snprintf(escape, sizeof escape, "\\x%02x", code);
        else if (code >= 0x100 && !char_printable(code))
            snprintf(escape, sizeof escape, code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
        if (escape[0] == '\0')
            continue;
        TRY(builder_put(run, b, s->data + done, at - done, false), done);
        TRY(builder_puts(run, b, escape), done);
        done = at + n;
    }
    TRY(builder_put(run, b, s->data + done, s->n_bytes - done, false), done);
    TRY(builder_put(run, b, &quote, 1, false), done);
done:
    return st;
}

static enum status repr_at(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v,
                           int depth);

static enum status repr_seq(struct tpl_run *run, struct tpl_builder *b, const struct tpl_seq *seq,
                            int depth)
{
    static const char *const begins[] = {"[", "(", "dict_keys([", "dict_values([", "dict_items(["};
    static const char *const ends[] = {"]", ")", "])", "])", "])"};
    enum status st;

    if (seq->kind > SEQ_ITEMS)
        return run_fail(run, "a %s cannot be printed; |list makes a list of it",
                        seq->kind == SEQ_RANGE ? "range" : "generator");
    TRY(builder_puts(run, b, begins[seq->kind]), done);
    for (size_t i = 0; i < seq->n; i++) {
        if (i > 0)
            TRY(builder_puts(run, b, ", "), done);
        TRY(repr_at(run, b, seq->items[i], depth + 1), done);
    }
    if (seq->kind == SEQ_TUPLE && seq->n == 1)
        TRY(builder_puts(run, b, ","), done);
    TRY(builder_puts(run, b, ends[seq->kind]), done);
done:
    return st;
}

static enum status repr_dict(struct tpl_run *run, struct tpl_builder *b,
                             const struct tpl_dict *dict, int depth)
{
    enum status st;

    TRY(builder_puts(run, b, "{"), done);
    for (size_t i = 0; i < dict->n; i++) {
        if (i > 0)
            TRY(builder_puts(run, b, ", "), done);
        TRY(repr_at(run, b, dict->pairs[i].key, depth + 1), done);
        TRY(builder_puts(run, b, ": "), done);
        TRY(repr_at(run, b, dict->pairs[i].value, depth + 1), done);
    }
    TRY(builder_puts(run, b, "}"), done);
done:
    return st;
}

static enum status repr_at(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v,
                           int depth)
{
    if (depth > VALUE_MAX_DEPTH)
        return run_fail(run, "values nested too deeply");
    switch (v.kind) {
    case TPL_UNDEFINED:
        return builder_puts(run, b, "Undefined");
    case TPL_NONE:
        return builder_puts(run, b, "None");
    case TPL_BOOL:
        return builder_puts(run, b, v.as.boolean ? "True" : "False");
    case TPL_INT:
        return put_int(run, b, v.as.integer);
    case TPL_FLOAT:
        return put_float(run, b, v.as.number, false);
    case TPL_STRING:
        return put_quoted(run, b, v.as.string);
    case TPL_SEQ:
        return repr_seq(run, b, v.as.seq, depth);
    case TPL_DICT:
        return repr_dict(run, b, v.as.dict, depth);
    default:
        return run_fail(run, "a %s cannot be printed", value_type(v));
    }
}

enum status print_repr(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v)
{
    return repr_at(run, b, v, 0);
}

enum status print_str(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v)
{
    if (v.kind == TPL_STRING)
        return builder_put_string(run, b, v.as.string);
    return v.kind == TPL_UNDEFINED ? ST_OK : print_repr(run, b, v);
}

enum status value_string(struct tpl_run *run, struct tpl_value v,
                         const struct tpl_string **out_string)
{
    struct tpl_builder b = {0};
    enum status st = ST_OK;

    if (v.kind != TPL_STRING) {
        TRY(print_str(run, &b, v), done);
        TRY(builder_end(run, &b, &v), done);
    }
    *out_string = v.as.string;
done:
    return st;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static enum status json_text(struct tpl_run *run, struct tpl_builder *b, const struct tpl_string *s,
                             bool ascii)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    size_t n = 0, done = 0;
    enum status st;

    TRY(builder_puts(run, b, "\""), done);
    for (size_t at = 0; at < s->n_bytes; at += n) {
        const uint32_t code = utf8_decode(s->data + at, &n);
        const char *simple = code < 0x80 && code != 0 ? strchr(from, (int)code) : NULL;
        char escape[16] = "";

        if (simple != NULL)
            snprintf(escape, sizeof escape, "\\%c", to[simple - from]);
        else if (code < 0x20 || (ascii && code >= 0x7f && code < 0x10000))
            snprintf(escape, sizeof escape, "\\u%04x", code);
        else if (ascii && code >= 0x10000)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
                     0xdc00 + ((code - 0x10000) & 0x3ff));
        if (escape[0] == '\0')
            continue;
        TRY(builder_put(run, b, s->data + done, at - done, false), done);
        TRY(builder_puts(run, b, escape), done);
        done = at + n;
    }
    TRY(builder_put(run, b, s->data + done, s->n_bytes - done, false), done);
    TRY(builder_puts(run, b, "\""), done);
done:
    return st;
}

static enum status json_at(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v,
                           const struct tpl_json_style *style, int depth);

/* What stands before an element or, at the end, before the closing bracket. */
static enum status json_gap(struct tpl_run *run, struct tpl_builder *b,
                            const struct tpl_json_style *style, bool first, bool last, int depth)
{
    enum status st = ST_OK;

    if (!first && !last) {
        if (style->item_sep != NULL)
            TRY(builder_put_string(run, b, style->item_sep), done);
        else
            TRY(builder_puts(run, b, style->indent != NULL ? "," : ", "), done);
    }
    if (style->indent == NULL)
        return ST_OK;
    TRY(builder_puts(run, b, "\n"), done);
    for (int i = last ? 1 : 0; i <= depth; i++)
        TRY(builder_put_string(run, b, style->indent), done);
done:
    return st;
}

static enum status json_name(struct tpl_run *run, struct tpl_builder *b, struct tpl_value key,
                             const struct tpl_json_style *style)
{
    enum status st;

    if (key.kind == TPL_STRING) {
        TRY(json_text(run, b, key.as.string, style->ascii), done);
    } else if (value_is_number(key) || key.kind == TPL_NONE) {
        TRY(builder_puts(run, b, "\""), done);
        TRY(json_at(run, b, key, style, 0), done);
        TRY(builder_puts(run, b, "\""), done);
    } else
        return run_fail(run, "tojson: a %s cannot be a key", value_type(key));
    if (style->key_sep != NULL)
        return builder_put_string(run, b, style->key_sep);
    return builder_puts(run, b, ": ");
done:
    return st;
}

static enum status json_dict(struct tpl_run *run, struct tpl_builder *b,
                             const struct tpl_dict *dict, const struct tpl_json_style *style,
                             int depth)
{
    const struct tpl_pair *pairs = dict->pairs;
    void *memory = NULL;
    enum status st;

    if (dict->n == 0)
        return builder_puts(run, b, "{}");
    if (style->sort_keys) {
        TRY(run_alloc(run, dict->n * sizeof *pairs, &memory), done);
        memcpy(memory, pairs, dict->n * sizeof *pairs);
        TRY(pairs_sort(run, memory, dict->n, false), done);
        pairs = memory;
    }
    TRY(builder_puts(run, b, "{"), done);
    for (size_t i = 0; i < dict->n; i++) {
        TRY(json_gap(run, b, style, i == 0, false, depth), done);
        TRY(json_name(run, b, pairs[i].key, style), done);
        TRY(json_at(run, b, pairs[i].value, style, depth + 1), done);
    }
    TRY(json_gap(run, b, style, false, true, depth), done);
    TRY(builder_puts(run, b, "}"), done);
done:
    return st;
}

static enum status json_list(struct tpl_run *run, struct tpl_builder *b, const struct tpl_seq *seq,
                             const struct tpl_json_style *style, int depth)
{
    enum status st;

    if (seq->n == 0)
        return builder_puts(run, b, "[]");
    TRY(builder_puts(run, b, "["), done);
    for (size_t i = 0; i < seq->n; i++) {
        TRY(json_gap(run, b, style, i == 0, false, depth), done);
        TRY(json_at(run, b, seq->items[i], style, depth + 1), done);
    }
    TRY(json_gap(run, b, style, false, true, depth), done);
    TRY(builder_puts(run, b, "]"), done);
done:
    return st;
}

static enum status json_at(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v,
                           const struct tpl_json_style *style, int depth)
{
    if (depth > VALUE_MAX_DEPTH)
        return run_fail(run, "values nested too deeply");
    switch (v.kind) {
    case TPL_NONE:
        return builder_puts(run, b, "null");
    case TPL_BOOL:
        return builder_puts(run, b, v.as.boolean ? "true" : "false");
    case TPL_INT:
        return put_int(run, b, v.as.integer);
    case TPL_FLOAT:
        return put_float(run, b, v.as.number, true);
    case TPL_STRING:
        return json_text(run, b, v.as.string, style->ascii);
    case TPL_DICT:
        return json_dict(run, b, v.as.dict, style, depth);
    case TPL_SEQ:
        if (v.as.seq->kind <= SEQ_TUPLE)
            return json_list(run, b, v.as.seq, style, depth);
        break;
    case TPL_UNDEFINED:
        return value_refuse_undefined(run, v);
    default:
        break;
    }
    return run_fail(run, "tojson: a %s has no JSON", value_type(v));
}

enum status print_json(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v,
                       const struct tpl_json_style *style)
{
    return json_at(run, b, v, style, 0);
}
