/*
 * template_compare.c - whether values are equal, which comes first, and sorting by that.
 */
#include <math.h>

#include "text/template.h"

/* -1, 0, 1; 2: a NaN is among them.  Exact for integers beside floats, too. */
static int compare_numbers(struct tpl_value a, struct tpl_value b)
{
    int64_t x = 0, y = 0;

    if (value_integer(a, &x) && value_integer(b, &y))
        return (x > y) - (x < y);
    const bool swapped = a.kind != TPL_FLOAT;
    const double f = swapped ? b.as.number : a.as.number;
    int order = 0;

    if (isnan(f) || (!swapped && b.kind == TPL_FLOAT && isnan(b.as.number)))
        return 2;
    if (!swapped && b.kind == TPL_FLOAT)
        return (f > b.as.number) - (f < b.as.number);
    value_integer(swapped ? a : b, &x);
    if (f >= 9223372036854775808.0)
        order = 1;
    else if (f < -9223372036854775808.0)
        order = -1;
    else {
        const int64_t whole = (int64_t)f; /* towards 0 */
        const double rest = f - (double)whole;

        order = whole != x ? (whole > x) - (whole < x) : (rest > 0) - (rest < 0);
    }
    return swapped ? -order : order;
}

static enum status equal_at(struct tpl_run *run, struct tpl_value a, struct tpl_value b, int depth,
                            bool *out);

static enum status equal_seqs(struct tpl_run *run, const struct tpl_seq *a, const struct tpl_seq *b,
                              int depth, bool *out)
{
    enum status st = ST_OK;

    *out = a == b;
    if (a == b || a->kind != b->kind || a->n != b->n || a->kind == SEQ_ONCE ||
        a->kind == SEQ_VALUES)
        return ST_OK;
    *out = true;
    for (size_t i = 0; i < a->n && *out; i++)
        TRY(equal_at(run, a->items[i], b->items[i], depth + 1, out), done);
done:
    return st;
}

static enum status equal_dicts(struct tpl_run *run, const struct tpl_dict *a,
                               const struct tpl_dict *b, int depth, bool *out)
{
    enum status st = ST_OK;

    *out = a->n == b->n;
    for (size_t i = 0; a != b && i < a->n && *out; i++) {
        struct tpl_value *other = NULL;

        TRY(dict_get(run, b, a->pairs[i].key, &other), done);
        *out = other != NULL;
        if (other != NULL)
            TRY(equal_at(run, a->pairs[i].value, *other, depth + 1, out), done);
    }
done:
    return st;
}

static enum status equal_at(struct tpl_run *run, struct tpl_value a, struct tpl_value b, int depth,
                            bool *out)
{
    const enum status st = run_steps(run, 1);

    *out = false;
    if (st != ST_OK)
        return st;
    if (depth > VALUE_MAX_DEPTH)
        return run_fail(run, "values nested too deeply");
    if (value_is_number(a) && value_is_number(b)) {
        *out = compare_numbers(a, b) == 0;
        return ST_OK;
    }
    if (a.kind != b.kind)
        return ST_OK;
    switch (a.kind) {
    case TPL_STRING:
        *out = string_equal(a.as.string, b.as.string);
        return run_steps(run, a.as.string->n_bytes / 16);
    case TPL_SEQ:
        return equal_seqs(run, a.as.seq, b.as.seq, depth, out);
    case TPL_DICT:
        return equal_dicts(run, a.as.dict, b.as.dict, depth, out);
    case TPL_UNDEFINED:
    case TPL_NONE:
        *out = true;
        return ST_OK;
    case TPL_METHOD:
        *out = a.as.method == b.as.method;
        return ST_OK;
    default: /* these are themselves and nothing else */
        *out = a.as.loop == b.as.loop;
        return ST_OK;
    }
}

enum status value_equal(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *out)
{
    return equal_at(run, a, b, 0, out);
}

static enum status order_at(struct tpl_run *run, struct tpl_value a, struct tpl_value b, int depth,
                            int *out)
{
    enum status st;

    TRY(value_refuse_undefined(run, a), done);
    TRY(value_refuse_undefined(run, b), done);
    if (value_is_number(a) && value_is_number(b)) {
        *out = compare_numbers(a, b);
        return ST_OK;
    }
    if (a.kind == TPL_STRING && b.kind == TPL_STRING) {
        *out = string_compare(a.as.string, b.as.string);
        return run_steps(run, 1 + a.as.string->n_bytes / 16);
    }
    if (a.kind == TPL_SEQ && b.kind == TPL_SEQ && a.as.seq->kind == b.as.seq->kind &&
        a.as.seq->kind <= SEQ_TUPLE && depth < VALUE_MAX_DEPTH) {
        const size_t n_a = a.as.seq->n, n_b = b.as.seq->n;

        for (size_t i = 0; i < n_a && i < n_b; i++) {
            bool same = false;

            TRY(value_equal(run, a.as.seq->items[i], b.as.seq->items[i], &same), done);
            if (!same)
                return order_at(run, a.as.seq->items[i], b.as.seq->items[i], depth + 1, out);
        }
        *out = (n_a > n_b) - (n_a < n_b);
        return ST_OK;
    }
    return run_fail(run, "%s and %s have no order", value_type(a), value_type(b));
done:
    return st;
}

enum status value_order(struct tpl_run *run, struct tpl_value a, struct tpl_value b, int *out)
{
    return order_at(run, a, b, 0, out);
}

/* Merge the sorted halves of from into to. */
static enum status merge(struct tpl_run *run, const struct tpl_pair *from, size_t n_left, size_t n,
                         bool descending, struct tpl_pair *to)
{
    size_t left = 0, right = n_left;
    enum status st = ST_OK;

    for (size_t i = 0; i < n; i++) {
        int order = left == n_left ? 1 : -1;

        if (left < n_left && right < n) {
            TRY(value_order(run, from[left].key, from[right].key, &order), done);
            order = descending ? -order : order;
        }
        to[i] = order <= 0 ? from[left++] : from[right++];
    }
done:
    return st;
}

enum status pairs_sort(struct tpl_run *run, struct tpl_pair *pairs, size_t n, bool descending)
{
    void *memory = NULL;
    enum status st;

    TRY(run_alloc(run, n * sizeof *pairs, &memory), done);
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            const size_t n_both = n - at < 2 * width ? n - at : 2 * width;
            const size_t n_left = n_both < width ? n_both : width;

            TRY(merge(run, pairs + at, n_left, n_both, descending, (struct tpl_pair *)memory + at),
                done);
        }
        memcpy(pairs, memory, n * sizeof *pairs);
    }
done:
    return st;
}
