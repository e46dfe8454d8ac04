/*
 * template_methods.c - methods of strings, dicts and lists.
 *
 * Those that would change their object exist in Python but not here, nor in the sandbox that
 * transformers runs templates in.
 */
#include "text/template.h"

#define SELF (call->args[0].as.string)

static const struct tpl_string *optional_string(struct tpl_value v)
{
    return v.kind == TPL_STRING ? v.as.string : NULL;
}

/* A string, or nothing (missing or None). */
static enum status check_optional(struct tpl_run *run, struct tpl_value v)
{
    const struct tpl_string *unused = NULL;

    return v.kind == TPL_MISSING || v.kind == TPL_NONE ? ST_OK : arg_string(run, v, &unused);
}

/* ---- strings --------------------------------------------------------------------------------- */

static enum status str_strip(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    const enum status st = check_optional(run, call->args[1]);

    return st != ST_OK
               ? st
               : string_strip(run, SELF, optional_string(call->args[1]), self->which, out_value);
}

static enum status str_split(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    int64_t max = -1;
    enum status st;

    TRY(check_optional(run, call->args[1]), done);
    TRY(arg_int(run, call->args[2], -1, &max), done);
    TRY(string_split(run, SELF, optional_string(call->args[1]), max, self->which != 0, out_value),
        done);
done:
    return st;
}

static enum status str_splitlines(struct tpl_run *run, const struct tpl_builtin *self,
                                  const struct tpl_call *call, struct tpl_value *out_value)
{
    (void)self;
    return string_lines(run, SELF, value_truth(call->args[1]), out_value);
}

/* startswith, endswith: a string or a tuple of them. */
static enum status str_with(struct tpl_run *run, const struct tpl_builtin *self,
                            const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *all = &call->args[1];
    const struct tpl_string *with = NULL;
    size_t n = 1;
    bool is = false;
    enum status st = ST_OK;

    if (all->kind == TPL_SEQ && all->as.seq->kind == SEQ_TUPLE) {
        n = all->as.seq->n;
        all = all->as.seq->items;
    }
    for (size_t i = 0; i < n && !is; i++) {
        TRY(arg_string(run, all[i], &with), done);
        TRY(run_steps(run, 1 + with->n_bytes / 16), done);
        is = with->n_bytes <= SELF->n_bytes &&
             memcmp(SELF->data + (self->which != 0 ? SELF->n_bytes - with->n_bytes : 0), with->data,
                    with->n_bytes) == 0;
    }
    *out_value = value_bool(is);
done:
    return st;
}

static enum status str_replace(struct tpl_run *run, const struct tpl_builtin *self,
                               const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *old = NULL, *new_text = NULL;
    int64_t max = -1;
    enum status st;

    (void)self;
    TRY(arg_string(run, call->args[1], &old), done);
    TRY(arg_string(run, call->args[2], &new_text), done);
    TRY(arg_int(run, call->args[3], -1, &max), done);
    TRY(string_replace(run, SELF, old, new_text, max, out_value), done);
done:
    return st;
}

enum { CAPITALIZE = CASE_TITLE + 1 };

/* upper, lower, capitalize, title. */
static enum status str_case(struct tpl_run *run, const struct tpl_builtin *self,
                            const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *s = SELF;
    struct tpl_builder b = {0};
    size_t next = 0, n = 0;
    bool in_word = false;
    enum status st = ST_OK;

    if (self->which == CASE_LOWER || self->which == CASE_UPPER) {
        TRY(string_case(run, &b, s, 0, s->n_bytes, (enum tpl_case)self->which), done);
    } else if (self->which == CAPITALIZE) {
        next = string_offset(s, s->n_chars > 0);
        TRY(string_case(run, &b, s, 0, next, CASE_TITLE), done);
        TRY(string_case(run, &b, s, next, s->n_bytes, CASE_LOWER), done);
    } else {
        for (size_t at = 0; at < s->n_bytes; at += n) {
            const bool cased = char_cased(utf8_decode(s->data + at, &n));

            TRY(string_case(run, &b, s, at, at + n, in_word ? CASE_LOWER : CASE_TITLE), done);
            in_word = cased;
        }
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

/* find, count, index: of a string in another; rfind. */
enum { STR_FIND, STR_RFIND, STR_COUNT, STR_INDEX };

static size_t chars_before(const struct tpl_string *s, size_t byte)
{
    size_t n = 0;

    for (size_t i = 0; i < byte; i++)
        n += ((uint8_t)s->data[i] & 0xc0) != 0x80;
    return n;
}

static enum status str_find(struct tpl_run *run, const struct tpl_builtin *self,
                            const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *needle = NULL;
    size_t at = 0, last = SIZE_MAX;
    int64_t n = 0;
    enum status st;

    TRY(arg_string(run, call->args[1], &needle), done);
    TRY(run_steps(run, 1 + SELF->n_bytes / 8), done);
    if (needle->n_bytes == 0) {
        if (self->which == STR_COUNT || self->which == STR_RFIND)
            n = (int64_t)SELF->n_chars + (self->which == STR_COUNT);
        *out_value = value_int(n);
        return ST_OK;
    }
    if (self->which == STR_RFIND) {
        TRY(string_find_last(run, SELF, needle, SELF->n_bytes, &last), done);
        n = last != SIZE_MAX;
    }
    while (self->which != STR_RFIND && (at = string_find(SELF, needle, at)) != SIZE_MAX) {
        last = at;
        at += needle->n_bytes;
        n++;
        if (self->which == STR_FIND || self->which == STR_INDEX)
            break;
    }
    if (self->which == STR_INDEX && n == 0)
        return run_fail(run, "index: the text is not there");
    *out_value = value_int(self->which == STR_COUNT ? n
                           : n == 0                 ? -1
                                                    : (int64_t)chars_before(SELF, last));
done:
    return st;
}

static enum status str_join(struct tpl_run *run, const struct tpl_builtin *self,
                            const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_value *items = NULL;
    const struct tpl_string *item = NULL;
    struct tpl_builder b = {0};
    size_t n = 0;
    enum status st;

    (void)self;
    TRY(value_items(run, call->args[1], &items, &n), done);
    for (size_t i = 0; i < n; i++) {
        TRY(arg_string(run, items[i], &item), done);
        if (i > 0)
            TRY(builder_put_string(run, &b, SELF), done);
        TRY(builder_put_string(run, &b, item), done);
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

/* removeprefix, removesuffix. */
static enum status str_remove(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_value is = {0};
    enum status st;

    TRY(str_with(run, self, call, &is), done);
    const size_t n = is.as.boolean ? call->args[1].as.string->n_bytes : 0;
    TRY(string_part(run, SELF, self->which == 0 ? n : 0, SELF->n_bytes - (self->which != 0 ? n : 0),
                    out_value),
        done);
done:
    return st;
}

/* partition, rpartition. */
static enum status str_partition(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *sep = NULL;
    struct tpl_value parts = {0}, *items = NULL;
    const bool right = self->which != 0;
    void *memory = NULL;
    enum status st;

    TRY(arg_string(run, call->args[1], &sep), done);
    TRY(string_split(run, SELF, sep, 1, right, &parts), done);
    TRY(run_alloc(run, 3 * sizeof *items, &memory), done);
    items = memory;
    for (int i = 0; i < 3; i++)
        TRY(string_new(run, "", 0, false, &items[i]), done);
    if (parts.as.seq->n == 2) {
        items[0] = parts.as.seq->items[0];
        items[1] = call->args[1];
        items[2] = parts.as.seq->items[1];
    } else
        items[right ? 2 : 0] = call->args[0];
    TRY(value_seq(run, SEQ_TUPLE, items, 3, out_value), done);
done:
    return st;
}

/* isdigit and its like: of ASCII only. */
enum { IS_DIGIT, IS_ALPHA, IS_ALNUM, IS_SPACE, IS_UPPER, IS_LOWER };

static enum status str_is(struct tpl_run *run, const struct tpl_builtin *self,
                          const struct tpl_call *call, struct tpl_value *out_value)
{
    bool all = SELF->n_bytes > 0, cased = false;

    for (size_t i = 0; i < SELF->n_bytes; i++) {
        const char c = SELF->data[i];
        const bool digit = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'z',
                   upper = c >= 'A' && c <= 'Z';

        if ((uint8_t)c >= 0x80)
            return run_fail(run, "%s of text beyond ASCII is not supported", self->name);
        cased |= lower || upper;
        all &= self->which == IS_DIGIT   ? digit
               : self->which == IS_ALPHA ? lower || upper
               : self->which == IS_ALNUM ? digit || lower || upper
               : self->which == IS_SPACE ? char_is_space((uint8_t)c)
               : self->which == IS_UPPER ? !lower
                                         : !upper;
    }
    *out_value = value_bool(all && (self->which < IS_UPPER || cased));
    return run_steps(run, 1 + SELF->n_bytes / 8);
}

/* "{} {0} {name}".format(...), without attributes and formats of their own. */
static enum status format_field(struct tpl_run *run, struct tpl_builder *b,
                                const struct tpl_call *call, struct text_span field, size_t *next)
{
    size_t number = 0;
    bool digits = field.n_bytes > 0;

    for (size_t i = 0; i < field.n_bytes; i++) {
        digits &= field.data[i] >= '0' && field.data[i] <= '9' && field.n_bytes < 4;
        number = digits ? 10 * number + (size_t)(field.data[i] - '0') : 0;
        if (strchr(".[:!", field.data[i]) != NULL)
            return run_fail(run, "format: only fields like {}, {0} and {name} are supported");
    }
    if (digits || field.n_bytes == 0) {
        if (field.n_bytes == 0)
            number = (*next)++;
        if (number + 1 >= call->n_args)
            return run_fail(run, "format: there is no argument number %zu", number);
        return print_str(run, b, call->args[number + 1]);
    }
    for (size_t i = 0; i < call->n_named; i++)
        if (call->named[i].key.as.string->n_bytes == field.n_bytes &&
            memcmp(call->named[i].key.as.string->data, field.data, field.n_bytes) == 0)
            return print_str(run, b, call->named[i].value);
    return run_fail(run, "format: there is no argument '%.*s'",
                    (int)(field.n_bytes < 40 ? field.n_bytes : 40), field.data);
}

static enum status str_format(struct tpl_run *run, const struct tpl_builtin *self,
                              const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_string *s = SELF;
    struct tpl_builder b = {0};
    size_t next = 0;
    enum status st = ST_OK;

    (void)self;
    for (size_t at = 0, end = 0; at < s->n_bytes; at = end) {
        const char c = s->data[at];

        for (end = at; end < s->n_bytes && s->data[end] != '{' && s->data[end] != '}';)
            end++;
        if (end > at) {
            TRY(builder_put_part(run, &b, s, at, end), done);
            continue;
        }
        if (at + 1 < s->n_bytes && s->data[at + 1] == c) {
            TRY(builder_put_part(run, &b, s, at, at + 1), done);
            end = at + 2;
            continue;
        }
        const char *close = c == '{' ? memchr(s->data + at, '}', s->n_bytes - at) : NULL;
        if (close == NULL)
            return run_fail(run, "format: a single '%c'", c);
        end = (size_t)(close - s->data) + 1;
        TRY(format_field(run, &b, call, (struct text_span){s->data + at + 1, end - at - 2}, &next),
            done);
    }
    TRY(builder_end(run, &b, out_value), done);
done:
    return st;
}

/* ---- dicts and lists ------------------------------------------------------------------------- */

static enum status dict_view(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_dict *dict = call->args[0].as.dict;
    struct tpl_value *items = NULL, *pair = NULL;
    void *memory = NULL;
    enum status st;

    TRY(run_steps(run, dict->n), done);
    TRY(run_alloc(run, dict->n * sizeof *items, &memory), done);
    items = memory;
    for (size_t i = 0; i < dict->n; i++) {
        if (self->which != SEQ_ITEMS) {
            items[i] = self->which == SEQ_KEYS ? dict->pairs[i].key : dict->pairs[i].value;
            continue;
        }
        TRY(run_alloc(run, 2 * sizeof *pair, &memory), done);
        pair = memory;
        pair[0] = dict->pairs[i].key;
        pair[1] = dict->pairs[i].value;
        TRY(value_seq(run, SEQ_TUPLE, pair, 2, &items[i]), done);
    }
    TRY(value_seq(run, (enum tpl_seq_kind)self->which, items, dict->n, out_value), done);
done:
    return st;
}

static enum status dict_find(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    struct tpl_value *there = NULL;
    const enum status st = dict_get(run, call->args[0].as.dict, call->args[1], &there);

    (void)self;
    if (st == ST_OK)
        *out_value = there != NULL                       ? *there
                     : call->args[2].kind == TPL_MISSING ? value_none()
                                                         : call->args[2];
    return st;
}

static enum status copy(struct tpl_run *run, const struct tpl_builtin *self,
                        const struct tpl_call *call, struct tpl_value *out_value)
{
    (void)run, (void)self;
    *out_value = call->args[0]; /* nothing ever changes */
    return ST_OK;
}

/* count, index. */
static enum status list_find(struct tpl_run *run, const struct tpl_builtin *self,
                             const struct tpl_call *call, struct tpl_value *out_value)
{
    const struct tpl_seq *seq = call->args[0].as.seq;
    int64_t n = 0;
    enum status st = ST_OK;

    for (size_t i = 0; i < seq->n; i++) {
        bool same = false;

        TRY(value_equal(run, seq->items[i], call->args[1], &same), done);
        n += same;
        if (same && self->which == STR_INDEX) {
            *out_value = value_int((int64_t)i);
            return ST_OK;
        }
    }
    if (self->which == STR_INDEX)
        return run_fail(run, "index: the value is not there");
    *out_value = value_int(n);
done:
    return st;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* A parameter with - before its name cannot be given by name. */
static const struct tpl_builtin str_methods[] = {
    {"strip", {"self", "-chars"}, 1, false, str_strip, STRIP_LEFT | STRIP_RIGHT},
    {"lstrip", {"self", "-chars"}, 1, false, str_strip, STRIP_LEFT},
    {"rstrip", {"self", "-chars"}, 1, false, str_strip, STRIP_RIGHT},
    {"split", {"self", "sep", "maxsplit"}, 1, false, str_split, 0},
    {"rsplit", {"self", "sep", "maxsplit"}, 1, false, str_split, 1},
    {"splitlines", {"self", "keepends"}, 1, false, str_splitlines, 0},
    {"startswith", {"self", "-prefix"}, 2, false, str_with, 0},
    {"endswith", {"self", "-suffix"}, 2, false, str_with, 1},
    {"removeprefix", {"self", "-prefix"}, 2, false, str_remove, 0},
    {"removesuffix", {"self", "-suffix"}, 2, false, str_remove, 1},
    {"partition", {"self", "-sep"}, 2, false, str_partition, 0},
    {"rpartition", {"self", "-sep"}, 2, false, str_partition, 1},
    {"replace", {"self", "-old", "-new", "-count"}, 3, false, str_replace, 0},
    {"upper", {"self"}, 1, false, str_case, CASE_UPPER},
    {"lower", {"self"}, 1, false, str_case, CASE_LOWER},
    {"title", {"self"}, 1, false, str_case, CASE_TITLE},
    {"capitalize", {"self"}, 1, false, str_case, CAPITALIZE},
    {"find", {"self", "-sub"}, 2, false, str_find, STR_FIND},
    {"rfind", {"self", "-sub"}, 2, false, str_find, STR_RFIND},
    {"index", {"self", "-sub"}, 2, false, str_find, STR_INDEX},
    {"count", {"self", "-sub"}, 2, false, str_find, STR_COUNT},
    {"join", {"self", "-iterable"}, 2, false, str_join, 0},
    {"format", {NULL}, 0, true, str_format, 0},
    {"isdigit", {"self"}, 1, false, str_is, IS_DIGIT},
    {"isalpha", {"self"}, 1, false, str_is, IS_ALPHA},
    {"isalnum", {"self"}, 1, false, str_is, IS_ALNUM},
    {"isspace", {"self"}, 1, false, str_is, IS_SPACE},
    {"isupper", {"self"}, 1, false, str_is, IS_UPPER},
    {"islower", {"self"}, 1, false, str_is, IS_LOWER},
    {.name = NULL},
};
static const struct tpl_builtin dict_methods[] = {
    {"items", {"self"}, 1, false, dict_view, SEQ_ITEMS},
    {"keys", {"self"}, 1, false, dict_view, SEQ_KEYS},
    {"values", {"self"}, 1, false, dict_view, SEQ_VALUES},
    {"get", {"self", "-key", "-default"}, 2, false, dict_find, 0},
    {"copy", {"self"}, 1, false, copy, 0},
    {.name = NULL},
};
static const struct tpl_builtin list_methods[] = {
    {"count", {"self", "-value"}, 2, false, list_find, STR_COUNT},
    {"index", {"self", "-value"}, 2, false, list_find, STR_INDEX},
    {"copy", {"self"}, 1, false, copy, 0},
    {.name = NULL},
};

static bool name_is(struct text_span name, const char *text)
{
    return strlen(text) == name.n_bytes && memcmp(text, name.data, name.n_bytes) == 0;
}

static enum status not_supported(struct tpl_run *run, const struct tpl_builtin *self,
                                 const struct tpl_call *call, struct tpl_value *out_value)
{
    (void)call, (void)out_value;
    return run_fail(run, "method %s is not supported", self->name);
}

/* What Python's types have and this subset does not: an attribute, but an error to call. */
static const struct tpl_builtin other_str_methods[] = {
    {"casefold", {NULL}, 0, true, not_supported, 0},
    {"center", {NULL}, 0, true, not_supported, 0},
    {"encode", {NULL}, 0, true, not_supported, 0},
    {"expandtabs", {NULL}, 0, true, not_supported, 0},
    {"format_map", {NULL}, 0, true, not_supported, 0},
    {"isascii", {NULL}, 0, true, not_supported, 0},
    {"isdecimal", {NULL}, 0, true, not_supported, 0},
    {"isidentifier", {NULL}, 0, true, not_supported, 0},
    {"isnumeric", {NULL}, 0, true, not_supported, 0},
    {"isprintable", {NULL}, 0, true, not_supported, 0},
    {"istitle", {NULL}, 0, true, not_supported, 0},
    {"ljust", {NULL}, 0, true, not_supported, 0},
    {"maketrans", {NULL}, 0, true, not_supported, 0},
    {"rindex", {NULL}, 0, true, not_supported, 0},
    {"rjust", {NULL}, 0, true, not_supported, 0},
    {"swapcase", {NULL}, 0, true, not_supported, 0},
    {"translate", {NULL}, 0, true, not_supported, 0},
    {"zfill", {NULL}, 0, true, not_supported, 0},
    {.name = NULL},
};

static const struct tpl_builtin *find_in(const struct tpl_builtin *table, struct text_span name)
{
    for (; table->name != NULL; table++)
        if (name_is(name, table->name))
            return table;
    return NULL;
}

static bool is_unsafe(struct tpl_value v, struct text_span name)
{
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const of_lists[] = {"append", "clear",  "pop",    "reverse", "insert",
                                           "sort",   "extend", "remove", NULL};
    const char *const *names = v.kind == TPL_DICT ? of_dicts : of_lists;

    if (name.n_bytes > 4 && memcmp(name.data, "__", 2) == 0)
        return true;
    if (v.kind != TPL_DICT && (v.kind != TPL_SEQ || v.as.seq->kind != SEQ_LIST))
        return false;
    for (; *names != NULL; names++)
        if (name_is(name, *names))
            return true;
    return false;
}

const struct tpl_builtin *method_find(struct tpl_value v, struct text_span name, bool *out_unsafe)
{
    const struct tpl_builtin *found = NULL;

    *out_unsafe = is_unsafe(v, name);
    if (*out_unsafe)
        return NULL;
    if (v.kind == TPL_STRING) {
        found = find_in(str_methods, name);
        return found != NULL ? found : find_in(other_str_methods, name);
    }
    if (v.kind == TPL_DICT)
        return find_in(dict_methods, name);
    if (v.kind == TPL_SEQ && v.as.seq->kind <= SEQ_TUPLE)
        found = find_in(list_methods, name);
    return found != NULL && v.as.seq->kind == SEQ_TUPLE && found->call == copy ? NULL : found;
}
