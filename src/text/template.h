/*
 * template.h - private to src/text: chat templates in the subset of Jinja2 that real ones use.
 *
 *   text --template_lex.c--> tokens
 *        --template_parse.c (statements), template_expr.c template_operand.c (expressions)--> nodes
 *   nodes, variables (template_input.c)
 *        --template_run.c template_loop.c (statements), template_eval.c (expressions),
 *          within template_limits.c--> text
 *      template_filters.c template_lists.c template_tests.c template_methods.c template_functions.c
 *        template_date.c: what a template can call
 *      template_value.c template_compare.c template_math.c template_string.c template_split.c
 *        template_print.c template_chars.c: values, as Python has them
 *
 * A template is a program from a stranger: it is bounded in size, depth, steps and memory, reads no
 * clock, no locale and no file, and every failure is one message with line and column.
 *
 * Every string knows which of its bytes the template itself wrote ("marks"); the others came from
 * the row.  Operations on strings keep the marks of the bytes they keep.  Only in marked bytes does
 * the tokeniser look for special tokens, so a row cannot spell one.
 */
#ifndef EPIDOTE_TEXT_TEMPLATE_H
#define EPIDOTE_TEXT_TEMPLATE_H

#include <jansson.h>

#include "text/internal.h"

enum {
    TEMPLATE_MAX_BYTES = 256 << 10, /* of a template's text; the largest known has 17 KiB */
    TEMPLATE_MAX_NAMES = 2048,
    TEMPLATE_MAX_DEPTH = 200,  /* of expressions and blocks within each other */
    TEMPLATE_RUN_DEPTH = 1000, /* nested evaluations, macros that call themselves among them */
    VALUE_MAX_DEPTH = 2100     /* lists and dicts within each other; JSON texts have up to 2,048 */
};

/* ---- values ---------------------------------------------------------------------------------- */

enum tpl_kind {
    TPL_MISSING, /* an argument that was not given; never seen by a template */
    TPL_UNDEFINED,
    TPL_NONE,
    TPL_BOOL,
    TPL_INT,
    TPL_FLOAT,
    TPL_STRING,
    TPL_SEQ,
    TPL_DICT,
    TPL_NAMESPACE,
    TPL_MACRO,
    TPL_FUNCTION,
    TPL_METHOD,
    TPL_LOOP,
    TPL_KIND_COUNT
};

struct tpl_value {
    enum tpl_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const struct tpl_undefined *undefined;
        const struct tpl_string *string;
        struct tpl_seq *seq;
        struct tpl_dict *dict; /* of a namespace, too */
        const struct tpl_macro *macro;
        const struct tpl_builtin *function;
        const struct tpl_method *method;
        struct tpl_loop *loop;
    } as;
};

/* What to say when something is done with it. */
struct tpl_undefined {
    const char *what; /* "%s" is the name: "'%s' is undefined" */
    struct text_span name;
    const char *of; /* type of the object that lacks it; NULL = none */
};

struct tpl_string {
    const char *data; /* valid UTF-8, may hold NUL */
    size_t n_bytes, n_chars;
    const struct text_range *marks; /* [n_marks] ascending, apart: bytes that the template wrote */
    size_t n_marks;
    bool safe; /* went through |safe: + escapes what is added, as markupsafe does */
};

enum tpl_seq_kind { SEQ_LIST, SEQ_TUPLE, SEQ_KEYS, SEQ_VALUES, SEQ_ITEMS, SEQ_RANGE, SEQ_ONCE };

/* Anything that is gone through in order.  SEQ_ONCE is a generator: empty after the first time. */
struct tpl_seq {
    enum tpl_seq_kind kind;
    const struct tpl_value *items; /* [n] */
    size_t n;
};

struct tpl_pair {
    struct tpl_value key, value;
};

/* In order of insertion. */
struct tpl_dict {
    struct tpl_pair *pairs; /* [n] */
    size_t n, cap;
};

/* ---- programs -------------------------------------------------------------------------------- */

enum tpl_node_kind {
    /* expressions */
    NODE_CONST,   /* value */
    NODE_NAME,    /* name */
    NODE_TUPLE,   /* list */
    NODE_LIST,    /* list */
    NODE_DICT,    /* list of NODE_PAIR */
    NODE_PAIR,    /* a: b */
    NODE_ATTR,    /* a.name; as a target: namespace `name2` */
    NODE_ITEM,    /* a[b] */
    NODE_SLICE,   /* a[b:c:d]; each may be NULL */
    NODE_CALL,    /* a(list of NODE_ARG) */
    NODE_ARG,     /* a; op: enum tpl_arg; name */
    NODE_FILTER,  /* a | name(list); a NULL = the block's text */
    NODE_TEST,    /* a is name(list) */
    NODE_NEG,     /* -a */
    NODE_POS,     /* +a */
    NODE_NOT,     /* not a */
    NODE_AND,     /* a and b */
    NODE_OR,      /* a or b */
    NODE_MATH,    /* a op b; op: enum tpl_token_kind */
    NODE_COMPARE, /* a, then list of NODE_ARG with op: enum tpl_compare */
    NODE_CONCAT,  /* list */
    NODE_COND,    /* b if a else c; c may be NULL */
    /* statements */
    NODE_TEXT,         /* value */
    NODE_OUTPUT,       /* a */
    NODE_IF,           /* list of NODE_BRANCH */
    NODE_BRANCH,       /* a (NULL = else), body */
    NODE_FOR,          /* a in b if c: body, else other; op 1: recursive */
    NODE_SET,          /* a = b */
    NODE_SET_BLOCK,    /* a = body through the filters b (NULL = none) */
    NODE_MACRO,        /* name(list of NODE_PARAM): body; op: bits of enum tpl_uses */
    NODE_PARAM,        /* name = a (NULL = no default) */
    NODE_CALL_BLOCK,   /* a is a NODE_CALL, b a NODE_MACRO without name */
    NODE_FILTER_BLOCK, /* body through the filters a */
    NODE_WITH,         /* list of NODE_SET, body */
    NODE_SCOPE,        /* body */
    NODE_BREAK,
    NODE_CONTINUE
};

enum tpl_arg { ARG_PLAIN, ARG_NAMED, ARG_LIST, ARG_DICT };
enum tpl_compare { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };
/* What a macro's body asks for by name. */
enum tpl_uses { USES_VARARGS = 1, USES_KWARGS = 2, USES_CALLER = 4 };

/* Of tokens; operators keep theirs in NODE_MATH. */
enum tpl_token_kind {
    TOK_END,
    TOK_TEXT,
    TOK_OPEN_OUTPUT,
    TOK_CLOSE_OUTPUT,
    TOK_OPEN_BLOCK,
    TOK_CLOSE_BLOCK,
    TOK_NAME,
    TOK_STRING,
    TOK_INT,
    TOK_FLOAT,
    TOK_ADD,
    TOK_SUB,
    TOK_MUL,
    TOK_DIV,
    TOK_FLOORDIV,
    TOK_MOD,
    TOK_POW,
    TOK_TILDE,
    TOK_EQ,
    TOK_NE,
    TOK_LT,
    TOK_LE,
    TOK_GT,
    TOK_GE,
    TOK_ASSIGN,
    TOK_DOT,
    TOK_COMMA,
    TOK_COLON,
    TOK_SEMICOLON,
    TOK_PIPE,
    TOK_LPAREN,
    TOK_RPAREN,
    TOK_LBRACKET,
    TOK_RBRACKET,
    TOK_LBRACE,
    TOK_RBRACE,
    TOK_COUNT
};

struct tpl_node {
    enum tpl_node_kind kind;
    uint32_t place; /* offset in the text */
    int op, name, name2;
    int depth;                         /* of the expression */
    const struct tpl_builtin *builtin; /* of filters and tests; NULL = not known */
    struct tpl_value value;
    struct tpl_node *a, *b, *c, *d, *list, *body, *other, *next;
};

struct template
{
    struct arena *arena; /* owned; holds all of the below */
    char *origin;        /* what load messages begin with */
    char *text;          /* line ends are LF */
    size_t n_bytes;
    struct text_span *names;
    int n_names, cap_names;
    struct tpl_node *body;
    int name_loop, name_caller, name_varargs, name_kwargs;
};

/* template_place - line and column (in characters) of an offset, both from 1. */
void template_place(const struct template *t, size_t place, int *out_line, int *out_column);
/* template_name - the number of a name, which is added; -1: too many (logged), -2: no memory. */
int template_name(struct template *t, const char *name, size_t n_bytes);
/* template_refuse - log "ORIGIN: line L column C: ...".  Returns ST_UNSUPPORTED. */
enum status template_refuse(const struct template *t, size_t place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* token_kind_name - for messages: "'}}'", "a name". */
const char *token_kind_name(enum tpl_token_kind kind);

/* ---- running --------------------------------------------------------------------------------- */

struct tpl_binding {
    struct tpl_binding *next;
    int name;
    struct tpl_value value;
};

struct tpl_scope {
    struct tpl_scope *parent;
    struct tpl_binding *first;
};

struct tpl_macro {
    const struct tpl_node *node;
    struct tpl_scope *scope; /* where it was defined */
};

/* A function of a name, bound to its object. */
struct tpl_method {
    struct tpl_value self;
    const struct tpl_builtin *builtin;
};

struct tpl_run {
    const struct template *t;
    struct arena *arena; /* owned */
    char *at;            /* the rest of its current chunk */
    size_t left, used_bytes, limit_bytes;
    uint64_t steps, limit_steps;
    int depth;
    size_t place; /* of what is being evaluated, for messages */
    const char *date;
    struct tpl_value block_text; /* what the filters of a block work on */
    struct row_error *err;
};

/* run_fail - the row's error, with line and column.  Returns ST_ROW. */
enum status run_fail(struct tpl_run *run, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* run_steps - count work; fails beyond the limit. */
enum status run_steps(struct tpl_run *run, size_t n);
/* run_alloc - memory until the end of the run.  Returns ST_OK, ST_ROW (over the limit), ST_NOMEM.
 */
enum status run_alloc(struct tpl_run *run, size_t n_bytes, void **out_memory);
/* run_grow - room for n_more items in a list of n that has *cap; it may move. */
enum status run_grow(struct tpl_run *run, void *list, size_t n, size_t *cap, size_t n_more,
                     size_t item_bytes, void **out_list);
enum status run_enter(struct tpl_run *run);

/* scope_find - a name in a scope or those around it; NULL if it is in none. */
struct tpl_binding *scope_find(struct tpl_run *run, const struct tpl_scope *scope, int name);
enum status scope_new(struct tpl_run *run, struct tpl_scope *parent, struct tpl_scope **out_scope);
enum status scope_set(struct tpl_run *run, struct tpl_scope *scope, int name,
                      struct tpl_value value);

/* ---- strings (template_string.c) ------------------------------------------------------------- */

/* A string under construction. */
struct tpl_builder {
    char *data;
    size_t n_bytes, cap_bytes;
    struct text_range *marks;
    size_t n_marks, cap_marks;
};

enum status builder_put(struct tpl_run *run, struct tpl_builder *b, const char *data,
                        size_t n_bytes, bool marked);
enum status builder_puts(struct tpl_run *run, struct tpl_builder *b, const char *text);
/* builder_put_part - bytes [begin, end) of s with their marks. */
enum status builder_put_part(struct tpl_run *run, struct tpl_builder *b, const struct tpl_string *s,
                             size_t begin, size_t end);
enum status builder_put_string(struct tpl_run *run, struct tpl_builder *b,
                               const struct tpl_string *s);
enum status builder_end(struct tpl_run *run, const struct tpl_builder *b,
                        struct tpl_value *out_value);

/* string_new - a string that borrows data. */
enum status string_new(struct tpl_run *run, const char *data, size_t n_bytes, bool marked,
                       struct tpl_value *out_value);
enum status string_part(struct tpl_run *run, const struct tpl_string *s, size_t begin, size_t end,
                        struct tpl_value *out_value);
enum status string_add(struct tpl_run *run, const struct tpl_string *a, const struct tpl_string *b,
                       struct tpl_value *out_value);
enum status string_repeat(struct tpl_run *run, const struct tpl_string *s, int64_t n,
                          struct tpl_value *out_value);
/* string_offset - the byte where character number i begins; i <= n_chars. */
size_t string_offset(const struct tpl_string *s, size_t i);
bool string_equal(const struct tpl_string *a, const struct tpl_string *b);
bool string_is(const struct tpl_string *s, const char *text);
/* string_compare - -1, 0 or 1. */
int string_compare(const struct tpl_string *a, const struct tpl_string *b);
/* string_find - where needle begins in s at or after from; SIZE_MAX if nowhere. */
size_t string_find(const struct tpl_string *s, const struct tpl_string *needle, size_t from);
/* string_find_last - the last place, which ends at or before byte `to`; SIZE_MAX if nowhere. Counts
 * its comparisons.  Returns ST_OK, and as run_steps. */
enum status string_find_last(struct tpl_run *run, const struct tpl_string *s,
                             const struct tpl_string *needle, size_t to, size_t *out_at);
/* The character at or before a byte, which is not the first or last of the string. */
size_t string_char_bytes(const struct tpl_string *s, size_t at);
size_t string_char_before(const struct tpl_string *s, size_t at);
/* string_char_in - whether a character is one of chars (NULL = white space). */
bool string_char_in(const char *text, size_t n, const struct tpl_string *chars);
/* string_first_mark - the number of the first mark that ends behind a byte. */
size_t string_first_mark(const struct tpl_string *s, size_t byte);
/* string_strip - without characters of chars (NULL = white space) at the sides chosen. */
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
enum status string_strip(struct tpl_run *run, const struct tpl_string *s,
                         const struct tpl_string *chars, int sides, struct tpl_value *out_value);
/* string_replace - max < 0: all. */
enum status string_replace(struct tpl_run *run, const struct tpl_string *s,
                           const struct tpl_string *old, const struct tpl_string *new_text,
                           int64_t max, struct tpl_value *out_value);
/* string_split - sep NULL: at runs of white space; max < 0: everywhere. */
enum status string_split(struct tpl_run *run, const struct tpl_string *s,
                         const struct tpl_string *sep, int64_t max, bool from_right,
                         struct tpl_value *out_value);
enum status string_lines(struct tpl_run *run, const struct tpl_string *s, bool keep_ends,
                         struct tpl_value *out_value);
enum tpl_case { CASE_LOWER, CASE_UPPER, CASE_TITLE };
/* string_case - each character of [begin, end) in another case. */
enum status string_case(struct tpl_run *run, struct tpl_builder *b, const struct tpl_string *s,
                        size_t begin, size_t end, enum tpl_case to);
/* char_is_space - as Python's str.isspace. */
bool char_is_space(uint32_t code);
/* char_printable - as Python's str.isprintable (template_chars.c). */
bool char_printable(uint32_t code);
/* char_case - a character's other case: one to three characters; returns how many. */
int char_case(uint32_t code, enum tpl_case to, uint32_t out[3]);
bool char_cased(uint32_t code);

/* ---- values (template_value.c) --------------------------------------------------------------- */

static inline struct tpl_value value_bool(bool b)
{
    return (struct tpl_value){.kind = TPL_BOOL, .as.boolean = b};
}
static inline struct tpl_value value_int(int64_t i)
{
    return (struct tpl_value){.kind = TPL_INT, .as.integer = i};
}
static inline struct tpl_value value_float(double f)
{
    return (struct tpl_value){.kind = TPL_FLOAT, .as.number = f};
}
static inline struct tpl_value value_none(void)
{
    return (struct tpl_value){.kind = TPL_NONE};
}

enum status value_undefined(struct tpl_run *run, const char *what, struct text_span name,
                            const struct tpl_value *of, struct tpl_value *out_value);
/* value_refuse_undefined - fails if v is undefined: what Jinja does of most uses. */
enum status value_refuse_undefined(struct tpl_run *run, struct tpl_value v);
enum status value_seq(struct tpl_run *run, enum tpl_seq_kind kind, const struct tpl_value *items,
                      size_t n, struct tpl_value *out_value);
enum status value_dict(struct tpl_run *run, struct tpl_value *out_value);
enum status dict_set(struct tpl_run *run, struct tpl_dict *dict, struct tpl_value key,
                     struct tpl_value value);
/* dict_get - NULL if it is not there. */
enum status dict_get(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                     struct tpl_value **out_value);
struct tpl_value *dict_get_name(const struct tpl_dict *dict, struct text_span name);
const char *value_type(struct tpl_value v); /* as Python calls it */
bool value_truth(struct tpl_value v);
bool value_is_number(struct tpl_value v); /* bools are numbers */
double value_number(struct tpl_value v);
/* value_integer - an int or a bool as one. */
bool value_integer(struct tpl_value v, int64_t *out_integer);
enum status value_equal(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *out);
/* value_order - -1, 0, 1; 2 if a NaN is among them. */
enum status value_order(struct tpl_run *run, struct tpl_value a, struct tpl_value b, int *out);
enum status value_contains(struct tpl_run *run, struct tpl_value in, struct tpl_value what,
                           bool *out);
/* value_items - what a loop over v goes through. */
enum status value_items(struct tpl_run *run, struct tpl_value v, const struct tpl_value **out_items,
                        size_t *out_n);
/* pairs_sort - by key, stable; descending: equal ones still stay in order. */
enum status pairs_sort(struct tpl_run *run, struct tpl_pair *pairs, size_t n, bool descending);
bool value_is_list(struct tpl_value v); /* a list or a tuple */
bool value_iterable(struct tpl_value v);
/* value_length - false: it has none. */
bool value_length(struct tpl_value v, size_t *out_n);
enum status value_attr(struct tpl_run *run, struct tpl_value v, struct text_span name,
                       struct tpl_value *out_value);
enum status value_item(struct tpl_run *run, struct tpl_value v, struct tpl_value key,
                       struct tpl_value *out_value);
/* value_from_json - roles: the `role`s of a list's objects count as written by the template. */
enum status value_from_json(struct tpl_run *run, const json_t *json, bool marked, bool roles,
                            struct tpl_value *out_value);

/* ---- values as text (template_print.c) ------------------------------------------------------- */

/* print_str - as Python's str(); print_repr - as repr(). */
enum status print_str(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v);
enum status print_repr(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v);
/* value_string - str(v) as a string. */
enum status value_string(struct tpl_run *run, struct tpl_value v,
                         const struct tpl_string **out_string);
struct tpl_json_style {
    bool ascii, sort_keys;
    const struct tpl_string *indent;             /* NULL = one line */
    const struct tpl_string *item_sep, *key_sep; /* NULL = as json.dumps */
};
enum status print_json(struct tpl_run *run, struct tpl_builder *b, struct tpl_value v,
                       const struct tpl_json_style *style);

/* ---- dates (template_date.c) ----------------------------------------------------------------- */

/* print_date - a date "YYYY-MM-DD", at midnight, as strftime in the C locale. */
enum status print_date(struct tpl_run *run, struct tpl_builder *b, const char *date,
                       const struct tpl_string *format);
/* date_valid - whether text is "YYYY-MM-DD" and a day of the calendar. */
bool date_valid(const char *text);

/* ---- what a template can call ---------------------------------------------------------------- */

struct tpl_call {
    const struct tpl_value *args; /* [n_args]; filters, tests, methods: the first is the subject */
    size_t n_args;
    const struct tpl_pair *named; /* [n_named] keys are strings */
    size_t n_named;
};

enum { BUILTIN_MAX_PARAMS = 6 };

struct tpl_builtin {
    const char *name;
    /* With params, each argument is put at its place and those not given are TPL_MISSING;
     * a call without them sees what was given. */
    const char *params[BUILTIN_MAX_PARAMS];
    int n_required;
    bool free_form;
    enum status (*call)(struct tpl_run *run, const struct tpl_builtin *self,
                        const struct tpl_call *call, struct tpl_value *out_value);
    int which; /* for calls that share a function */
};

/* builtin_call - bind arguments and call. */
enum status builtin_call(struct tpl_run *run, const struct tpl_builtin *builtin,
                         const struct tpl_call *call, struct tpl_value *out_value);
const struct tpl_builtin *filter_find(struct text_span name);
const struct tpl_builtin *list_filter_find(struct text_span name);
const struct tpl_builtin *test_find(struct text_span name);
const struct tpl_builtin *function_find(struct text_span name);
/* method_find - a method of v; *out_unsafe: one that would change v. */
const struct tpl_builtin *method_find(struct tpl_value v, struct text_span name, bool *out_unsafe);
/* Arguments: the default where missing. */
enum status arg_int(struct tpl_run *run, struct tpl_value v, int64_t dflt, int64_t *out);
enum status arg_string(struct tpl_run *run, struct tpl_value v, const struct tpl_string **out);

/* ---- evaluation (template_run.c, template_loop.c, template_eval.c) -------------------------------------------- */

enum status eval(struct tpl_run *run, const struct tpl_node *node, struct tpl_scope *scope,
                 struct tpl_value *out_value);
/* eval_math - one of + ... **. */
enum status eval_math(struct tpl_run *run, enum tpl_token_kind op, struct tpl_value a,
                      struct tpl_value b, struct tpl_value *out_value);
/* eval_comparison - one of == ... not in. */
enum status eval_comparison(struct tpl_run *run, enum tpl_compare op, struct tpl_value a,
                            struct tpl_value b, bool *out);
/* eval_call - call any value. */
enum status eval_call(struct tpl_run *run, struct tpl_value callee, const struct tpl_call *call,
                      struct tpl_value *out_value);
/* eval_args - evaluate a list of NODE_ARG; `first`, if not NULL, goes before them. */
enum status eval_args(struct tpl_run *run, const struct tpl_node *list, struct tpl_scope *scope,
                      const struct tpl_value *first, const struct tpl_value *caller,
                      struct tpl_call *out_call);
enum status run_macro(struct tpl_run *run, const struct tpl_macro *macro,
                      const struct tpl_call *call, struct tpl_value *out_value);
enum status loop_call(struct tpl_run *run, struct tpl_loop *loop, const struct tpl_call *call,
                      struct tpl_value *out_value);
enum status loop_attr(struct tpl_run *run, struct tpl_loop *loop, struct text_span name,
                      struct tpl_value *out_value, bool *out_found);
/* run_assign - to a name, a tuple of names, or an attribute of a namespace. */
enum status run_assign(struct tpl_run *run, const struct tpl_node *target, struct tpl_scope *scope,
                       struct tpl_value value);
/* run_loop - depth: how often the loop was called from within itself, from 1. */
enum status run_loop(struct tpl_run *run, const struct tpl_node *node, struct tpl_value items,
                     struct tpl_scope *scope, int depth, struct tpl_builder *out, int *flow);
/* run_body - statements one after another; *flow: NODE_BREAK or NODE_CONTINUE if one was met. */
enum status run_body(struct tpl_run *run, const struct tpl_node *body, struct tpl_scope *scope,
                     struct tpl_builder *out, int *flow);

/* ---- the whole (template.c) ------------------------------------------------------------------ */

/*
 * template_create - read a template.
 *   text    in  UTF-8, not kept
 *   origin  in  what messages begin with: the file it comes from
 * Returns ST_OK, ST_UNSUPPORTED (logged with line and column), ST_NOMEM.
 */
enum status template_create(const char *text, size_t n_bytes, const char *origin,
                            struct template **out_template);
void template_destroy(struct template *t);
/* template_uses - whether it reads a variable or calls a function of this name. */
bool template_uses(const struct template *t, const char *name);

struct template_variable {
    const char *name;
    const json_t *json; /* borrowed while it runs */
    const char *text;   /* instead of json: written by the template, so to speak */
    bool roles;         /* see value_from_json */
};

/*
 * template_render - run it.
 *   date       in   what strftime_now gives, "YYYY-MM-DD"; NULL = an error that asks for it
 *   out_text   out  appended
 *   out_marks  out  appended: struct text_range of what the template wrote, offsets in out_text
 * Returns ST_OK, ST_ROW (the template's own error, a limit), ST_NOMEM.
 */
enum status template_render(const struct template *t, const struct template_variable *variables,
                            size_t n_variables, const char *date, struct buf *out_text,
                            struct buf *out_marks, struct row_error *err);

#endif
