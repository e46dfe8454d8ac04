/*
 * template_math.c - operators on values: arithmetic and comparisons, as Python does them.
 *
 * Integers have 64 bits here and no limit there: what does not fit is an error.
 */
#include <math.h>

#include "text/template.h"

/* ---- arithmetic ------------------------------------------------------------------------------ */

static enum status overflow(struct tpl_run *run)
{
    return run_fail(run, "the number is beyond 64 bits");
}

static enum status floor_divide(struct tpl_run *run, bool modulo, int64_t a, int64_t b,
                                struct tpl_value *out_value)
{
    if (b == 0)
        return run_fail(run, "division by zero");
    if (b == -1) {
        if (!modulo && a == INT64_MIN)
            return overflow(run);
        *out_value = value_int(modulo ? 0 : -a);
        return ST_OK;
    }
    const bool down = a % b != 0 && (a < 0) != (b < 0);
    *out_value = value_int(modulo ? a % b + (down ? b : 0) : a / b - down);
    return ST_OK;
}

static enum status int_power(struct tpl_run *run, int64_t base, int64_t exponent,
                             struct tpl_value *out_value)
{
    int64_t result = 1;

    if (exponent < 0) {
        if (base == 0)
            return run_fail(run, "division by zero");
        *out_value = value_float(pow((double)base, (double)exponent));
        return ST_OK;
    }
    if (base >= -1 && base <= 1) { /* the others overflow within 64 steps */
        *out_value = value_int(base == -1 && exponent % 2 == 0 ? 1 : exponent == 0 ? 1 : base);
        return ST_OK;
    }
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(result, base, &result))
            return overflow(run);
    *out_value = value_int(result);
    return ST_OK;
}

static enum status int_math(struct tpl_run *run, enum tpl_token_kind op, int64_t a, int64_t b,
                            struct tpl_value *out_value)
{
    int64_t result = 0;
    bool over = false;

    switch (op) {
    case TOK_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case TOK_SUB:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case TOK_MUL:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    case TOK_DIV:
        if (b == 0)
            return run_fail(run, "division by zero");
        *out_value = value_float((double)a / (double)b);
        return ST_OK;
    case TOK_POW:
        return int_power(run, a, b, out_value);
    default:
        return floor_divide(run, op == TOK_MOD, a, b, out_value);
    }
    *out_value = value_int(result);
    return over ? overflow(run) : ST_OK;
}

static enum status float_math(struct tpl_run *run, enum tpl_token_kind op, double a, double b,
                              struct tpl_value *out_value)
{
    double result = 0;

    if (b == 0 && (op == TOK_DIV || op == TOK_FLOORDIV || op == TOK_MOD))
        return run_fail(run, "division by zero");
    switch (op) {
    case TOK_ADD:
        result = a + b;
        break;
    case TOK_SUB:
        result = a - b;
        break;
    case TOK_MUL:
        result = a * b;
        break;
    case TOK_DIV:
        result = a / b;
        break;
    case TOK_POW:
        return run_fail(run, "** of other than integers is not supported");
    default: /* as Python: the rest has the sign of b */
        result = fmod(a, b);
        if (result != 0 && (result < 0) != (b < 0))
            result += b;
        if (op == TOK_FLOORDIV)
            result = nearbyint((a - result) / b);
        else if (result == 0)
            result = copysign(0, b);
    }
    *out_value = value_float(result);
    return ST_OK;
}

static enum status add_seqs(struct tpl_run *run, const struct tpl_seq *a, const struct tpl_seq *b,
                            struct tpl_value *out_value)
{
    struct tpl_value *items = NULL;
    void *memory = NULL;
    enum status st;

    TRY(run_steps(run, a->n / 4 + b->n / 4), done);
    TRY(run_alloc(run, (a->n + b->n) * sizeof *items, &memory), done);
    items = memory;
    if (a->n > 0)
        memcpy(items, a->items, a->n * sizeof *items);
    if (b->n > 0)
        memcpy(items + a->n, b->items, b->n * sizeof *items);
    TRY(value_seq(run, a->kind, items, a->n + b->n, out_value), done);
done:
    return st;
}

/* A string or a list so many times. */
static enum status repeat(struct tpl_run *run, struct tpl_value v, int64_t n,
                          struct tpl_value *out_value)
{
    struct tpl_value *items = NULL;
    void *memory = NULL;
    size_t n_items = 0;
    enum status st;

    if (v.kind == TPL_STRING)
        return string_repeat(run, v.as.string, n, out_value);
    if (n > 0 && __builtin_mul_overflow(v.as.seq->n, (size_t)n, &n_items))
        return overflow(run);
    if (n_items > run->limit_bytes)
        n_items = run->limit_bytes; /* which run_alloc refuses */
    TRY(run_steps(run, n_items / 4), done);
    TRY(run_alloc(run, n_items * sizeof *items, &memory), done);
    items = memory;
    for (size_t i = 0; i < n_items; i++)
        items[i] = v.as.seq->items[i % v.as.seq->n];
    TRY(value_seq(run, v.as.seq->kind, items, n_items, out_value), done);
done:
    return st;
}

enum status eval_math(struct tpl_run *run, enum tpl_token_kind op, struct tpl_value a,
                      struct tpl_value b, struct tpl_value *out_value)
{
    int64_t x = 0, y = 0;
    enum status st;

    TRY(value_refuse_undefined(run, a), done);
    TRY(value_refuse_undefined(run, b), done);
    if (value_integer(a, &x) && value_integer(b, &y))
        return int_math(run, op, x, y, out_value);
    if (value_is_number(a) && value_is_number(b))
        return float_math(run, op, value_number(a), value_number(b), out_value);
    if (op == TOK_ADD && a.kind == TPL_STRING && b.kind == TPL_STRING)
        return string_add(run, a.as.string, b.as.string, out_value);
    if (op == TOK_ADD && value_is_list(a) && value_is_list(b) && a.as.seq->kind == b.as.seq->kind)
        return add_seqs(run, a.as.seq, b.as.seq, out_value);
    if (op == TOK_MUL && (a.kind == TPL_STRING || value_is_list(a)) && value_integer(b, &y))
        return repeat(run, a, y, out_value);
    if (op == TOK_MUL && (b.kind == TPL_STRING || value_is_list(b)) && value_integer(a, &x))
        return repeat(run, b, x, out_value);
    return run_fail(run, "%s of a %s and a %s", token_kind_name(op), value_type(a), value_type(b));
done:
    return st;
}

/* ---- comparisons ----------------------------------------------------------------------------- */

enum status eval_comparison(struct tpl_run *run, enum tpl_compare op, struct tpl_value a,
                            struct tpl_value b, bool *out)
{
    int order = 0;
    enum status st;

    if (op == CMP_EQ || op == CMP_NE) {
        TRY(value_equal(run, a, b, out), done);
        *out = *out == (op == CMP_EQ);
        return ST_OK;
    }
    if (op == CMP_IN || op == CMP_NOT_IN) {
        TRY(value_contains(run, b, a, out), done);
        *out = *out == (op == CMP_IN);
        return ST_OK;
    }
    TRY(value_order(run, a, b, &order), done);
    *out = op == CMP_LT   ? order < 0
           : op == CMP_LE ? order <= 0
           : op == CMP_GT ? order == 1
                          : order == 0 || order == 1;
done:
    return st;
}
