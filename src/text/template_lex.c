/*
 * template_lex.c - a template's text as tokens.
 *
 * White space around tags is dealt with here, as transformers sets Jinja up: `-` eats all of it,
 * a line end right behind a block tag or a comment goes (trim_blocks), so do blanks before one on
 * its line (lstrip_blocks), unless the tag has `+`.
 */
#include <errno.h>
#include <stdlib.h>

#include "text/template_parse.h"

struct lexer {
    const struct template *t;
    const char *text;
    size_t n_bytes, at;
    struct tpl_tokens *out;
    bool at_line_start;            /* what came before ended with a line end, or nothing did */
    char open[TEMPLATE_MAX_DEPTH]; /* brackets that wait for their other halves */
    int n_open;
};

static const char *const kind_names[TOK_COUNT] = {
    [TOK_END] = "the end of the template",
    [TOK_TEXT] = "text",
    [TOK_OPEN_OUTPUT] = "'{{'",
    [TOK_CLOSE_OUTPUT] = "'}}'",
    [TOK_OPEN_BLOCK] = "'{%'",
    [TOK_CLOSE_BLOCK] = "'%}'",
    [TOK_NAME] = "a name",
    [TOK_STRING] = "a string",
    [TOK_INT] = "an integer",
    [TOK_FLOAT] = "a number",
    [TOK_ADD] = "'+'",
    [TOK_SUB] = "'-'",
    [TOK_MUL] = "'*'",
    [TOK_DIV] = "'/'",
    [TOK_FLOORDIV] = "'//'",
    [TOK_MOD] = "'%'",
    [TOK_POW] = "'**'",
    [TOK_TILDE] = "'~'",
    [TOK_EQ] = "'=='",
    [TOK_NE] = "'!='",
    [TOK_LT] = "'<'",
    [TOK_LE] = "'<='",
    [TOK_GT] = "'>'",
    [TOK_GE] = "'>='",
    [TOK_ASSIGN] = "'='",
    [TOK_DOT] = "'.'",
    [TOK_COMMA] = "','",
    [TOK_COLON] = "':'",
    [TOK_SEMICOLON] = "';'",
    [TOK_PIPE] = "'|'",
    [TOK_LPAREN] = "'('",
    [TOK_RPAREN] = "')'",
    [TOK_LBRACKET] = "'['",
    [TOK_RBRACKET] = "']'",
    [TOK_LBRACE] = "'{'",
    [TOK_RBRACE] = "'}'",
};

const char *token_kind_name(enum tpl_token_kind kind)
{
    return kind_names[kind];
}

static enum status add(struct lexer *l, struct tpl_token token)
{
    struct tpl_tokens *out = l->out;

    if (out->n == out->cap) {
        const size_t cap = out->cap > 0 ? 2 * out->cap : 256;
        struct tpl_token *tokens = host_realloc(out->tokens, cap * sizeof *tokens);

        if (tokens == NULL)
            return ST_NOMEM;
        out->tokens = tokens;
        out->cap = cap;
    }
    out->tokens[out->n++] = token;
    return ST_OK;
}

static char peek(const struct lexer *l, size_t ahead)
{
    return l->at + ahead < l->n_bytes ? l->text[l->at + ahead] : '\0';
}

static bool starts(const struct lexer *l, size_t at, const char *with)
{
    const size_t n = strlen(with);

    return l->n_bytes - at >= n && memcmp(l->text + at, with, n) == 0;
}

/* ---- white space ----------------------------------------------------------------------------- */

static void skip_space(struct lexer *l)
{
    size_t n = 0;

    while (l->at < l->n_bytes && char_is_space(utf8_decode(l->text + l->at, &n)))
        l->at += n;
}

/* Where text[begin, end) ends without the white space behind it. */
static size_t strip_end(const char *text, size_t begin, size_t end)
{
    while (end > begin) {
        size_t at = end - 1, n = 0;

        while (at > begin && ((uint8_t)text[at] & 0xc0) == 0x80)
            at--;
        if (!char_is_space(utf8_decode(text + at, &n)))
            break;
        end = at;
    }
    return end;
}

/* Text up to a tag whose sign is given; blank_before: what stands before it on its line may go. */
static enum status add_text(struct lexer *l, size_t begin, size_t end, char sign, bool lstrip)
{
    if (sign == '-')
        end = strip_end(l->text, begin, end);
    else if (sign != '+' && lstrip) {
        size_t line = end;

        while (line > begin && l->text[line - 1] != '\n')
            line--;
        if ((line > begin || l->at_line_start) && strip_end(l->text, line, end) == line)
            end = line;
    }
    if (end == begin)
        return ST_OK;
    return add(l, (struct tpl_token){.kind = TOK_TEXT,
                                     .place = (uint32_t)begin,
                                     .text = {l->text + begin, end - begin}});
}

/* Behind the end of a block or comment: trim_blocks. */
static void trim_line_end(struct lexer *l)
{
    if (peek(l, 0) == '\n')
        l->at++;
}

/* ---- strings and numbers --------------------------------------------------------------------- */

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The escape behind a backslash at text[at]; unknown ones stand for themselves.  Returns the bytes
 * read, 0: refuse. */
static size_t unescape(const char *text, size_t n, char out[4], size_t *out_n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = text[0];
    const char *simple = memchr(from, c, sizeof from - 1);
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    size_t used = 0;

    *out_n = 0;
    if (c == '\n')
        return 1;
    if (simple != NULL) {
        out[(*out_n)++] = to[simple - from];
        return 1;
    }
    if (digits > 0) {
        if (n < 1 + digits)
            return 0;
        for (used = 1; used <= digits; used++) {
            const int value = hex_value(text[used]);

            if (value < 0)
                return 0;
            code = code << 4 | (uint32_t)value;
        }
    } else if (c >= '0' && c <= '7') {
        while (used < n && used < 3 && text[used] >= '0' && text[used] <= '7')
            code = code << 3 | (uint32_t)(text[used++] - '0');
    } else if (c == 'N') {
        return 0;
    } else {
        out[0] = '\\';
        *out_n = 1;
        return SIZE_MAX; /* the backslash stands, the character is read as usual */
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    *out_n = utf8_encode(code, out);
    return used;
}

static enum status lex_string(struct lexer *l)
{
    const size_t begin = l->at;
    const char quote = l->text[l->at++];
    char *out = NULL;
    size_t n = 0, end = l->at;

    while (end < l->n_bytes && l->text[end] != quote)
        end += l->text[end] == '\\' ? 2 : 1;
    if (end >= l->n_bytes)
        return template_refuse(l->t, begin, "this string does not end");
    out = arena_alloc(l->t->arena, end - l->at + 1); /* escapes only shorten */
    if (out == NULL)
        return ST_NOMEM;
    while (l->at < end) {
        if (l->text[l->at] != '\\') {
            out[n++] = l->text[l->at++];
            continue;
        }
        char bytes[4];
        size_t n_out = 0;
        const size_t used = unescape(l->text + l->at + 1, end - l->at - 1, bytes, &n_out);

        if (used == 0)
            return template_refuse(l->t, l->at, "this escape in a string is not supported");
        memcpy(out + n, bytes, n_out);
        n += n_out;
        l->at += used == SIZE_MAX ? 1 : 1 + used;
    }
    l->at = end + 1;
    return add(l,
               (struct tpl_token){.kind = TOK_STRING, .place = (uint32_t)begin, .text = {out, n}});
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits with single underscores between, without these into out. */
static size_t take_digits(struct lexer *l, int base, char *out, size_t cap, size_t n)
{
    for (;;) {
        const char c = peek(l, 0);
        const int value = hex_value(c);

        if (value >= 0 && value < base) {
            if (n < cap)
                out[n] = c;
            n++;
            l->at++;
        } else if (c == '_' && hex_value(peek(l, 1)) >= 0 && hex_value(peek(l, 1)) < base)
            l->at++;
        else
            return n;
    }
}

static enum status lex_number(struct lexer *l)
{
    const size_t begin = l->at;
    const bool behind_dot = begin > 0 && l->text[begin - 1] == '.';
    const char second = (char)(peek(l, 1) | 0x20);
    const int base = peek(l, 0) != '0' ? 10
                     : second == 'x'   ? 16
                     : second == 'o'   ? 8
                     : second == 'b'   ? 2
                                       : 10;
    struct tpl_token token = {.kind = TOK_INT, .place = (uint32_t)begin};
    char digits[320];
    size_t n = 0;

    if (base != 10)
        l->at += 2;
    n = take_digits(l, base, digits, sizeof digits - 1, 0);
    if (base == 10 && !behind_dot) {
        if (peek(l, 0) == '.' && is_digit(peek(l, 1))) {
            token.kind = TOK_FLOAT;
            l->at++;
            if (n < sizeof digits - 1)
                digits[n++] = '.';
            n = take_digits(l, 10, digits, sizeof digits - 1, n);
        }
        const size_t sign = peek(l, 1) == '+' || peek(l, 1) == '-' ? 1 : 0;
        if ((peek(l, 0) | 0x20) == 'e' && is_digit(peek(l, 1 + sign))) {
            token.kind = TOK_FLOAT;
            for (size_t i = 0; i < 1 + sign; i++, l->at++)
                if (n < sizeof digits - 1)
                    digits[n++] = peek(l, 0);
            n = take_digits(l, 10, digits, sizeof digits - 1, n);
        }
    }
    if (n == 0 || n >= sizeof digits)
        return template_refuse(l->t, begin, "this number is not supported");
    digits[n] = '\0';
    errno = 0;
    if (token.kind == TOK_FLOAT) {
        token.number = strtod(digits, NULL);
    } else {
        const long long value = strtoll(digits, NULL, base);

        if (errno != 0)
            return template_refuse(l->t, begin, "this integer is beyond 64 bits");
        if (base == 10 && n > 1 && digits[0] == '0' && strspn(digits, "0") != n)
            return template_refuse(l->t, begin, "an integer must not begin with 0");
        token.integer = value;
    }
    return add(l, token);
}

/* ---- operators ------------------------------------------------------------------------------- */

static const struct {
    char text[3];
    enum tpl_token_kind kind;
} operators[] = {
    /* longest first */
    {"**", TOK_POW},   {"//", TOK_FLOORDIV}, {"==", TOK_EQ},       {"!=", TOK_NE},
    {"<=", TOK_LE},    {">=", TOK_GE},       {"+", TOK_ADD},       {"-", TOK_SUB},
    {"*", TOK_MUL},    {"/", TOK_DIV},       {"%", TOK_MOD},       {"~", TOK_TILDE},
    {"<", TOK_LT},     {">", TOK_GT},        {"=", TOK_ASSIGN},    {".", TOK_DOT},
    {",", TOK_COMMA},  {":", TOK_COLON},     {";", TOK_SEMICOLON}, {"|", TOK_PIPE},
    {"(", TOK_LPAREN}, {")", TOK_RPAREN},    {"[", TOK_LBRACKET},  {"]", TOK_RBRACKET},
    {"{", TOK_LBRACE}, {"}", TOK_RBRACE},
};

static enum status lex_operator(struct lexer *l)
{
    static const char opening[] = "([{", closing[] = ")]}";

    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (!starts(l, l->at, operators[i].text))
            continue;
        const char c = operators[i].text[0];
        const char *close = strchr(closing, c);

        if (strchr(opening, c) != NULL) {
            if (l->n_open == TEMPLATE_MAX_DEPTH)
                return template_refuse(l->t, l->at, "more than %d brackets within each other",
                                       TEMPLATE_MAX_DEPTH);
            l->open[l->n_open++] = closing[strchr(opening, c) - opening];
        } else if (close != NULL && (l->n_open == 0 || l->open[--l->n_open] != c))
            return template_refuse(l->t, l->at, "'%c' closes nothing that was opened", c);
        const enum status st =
            add(l, (struct tpl_token){.kind = operators[i].kind, .place = (uint32_t)l->at});
        l->at += strlen(operators[i].text);
        return st;
    }
    return template_refuse(l->t, l->at, "this character means nothing here");
}

/* ---- tags ------------------------------------------------------------------------------------ */

static bool name_byte(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && is_digit(c));
}

/* The end of the tag, if it is here: its bytes, else 0. */
static size_t tag_end(const struct lexer *l, bool block)
{
    const char *end = block ? "%}" : "}}";
    const char c = peek(l, 0);

    if (l->n_open > 0)
        return 0;
    if (starts(l, l->at, end))
        return 2;
    return (c == '-' || (block && c == '+')) && starts(l, l->at + 1, end) ? 3 : 0;
}

static enum status lex_tag(struct lexer *l, size_t begin, bool block)
{
    enum status st = ST_OK;
    size_t n = 0;

    TRY(add(l, (struct tpl_token){.kind = block ? TOK_OPEN_BLOCK : TOK_OPEN_OUTPUT,
                                  .place = (uint32_t)begin}),
        done);
    for (;;) {
        skip_space(l);
        if (l->at == l->n_bytes)
            return template_refuse(l->t, begin, "this tag does not end");
        n = tag_end(l, block);
        if (n > 0)
            break;
        const char c = peek(l, 0);
        if (is_digit(c)) {
            TRY(lex_number(l), done);
        } else if (c == '\'' || c == '"') {
            TRY(lex_string(l), done);
        } else if (name_byte(c, true)) {
            const size_t from = l->at;

            while (name_byte(peek(l, 0), false))
                l->at++;
            TRY(add(l, (struct tpl_token){.kind = TOK_NAME,
                                          .place = (uint32_t)from,
                                          .text = {l->text + from, l->at - from}}),
                done);
        } else
            TRY(lex_operator(l), done);
    }
    TRY(add(l, (struct tpl_token){.kind = block ? TOK_CLOSE_BLOCK : TOK_CLOSE_OUTPUT,
                                  .place = (uint32_t)l->at}),
        done);
    const char sign = peek(l, 0);
    l->at += n;
    if (sign == '-')
        skip_space(l);
    else if (block && sign != '+')
        trim_line_end(l);
done:
    return st;
}

/* "{%- raw -%}" or "{%- endraw -%}" at `at`: its bytes, else 0. */
static size_t raw_tag(const struct lexer *l, size_t at, const char *word, char *out_sign,
                      char *out_end_sign)
{
    const size_t begin = at;

    *out_sign = *out_end_sign = '\0';
    at += 2;
    if (at < l->n_bytes && (l->text[at] == '-' || l->text[at] == '+'))
        *out_sign = l->text[at++];
    while (at < l->n_bytes && strchr(" \t\n", l->text[at]) != NULL)
        at++;
    if (!starts(l, at, word))
        return 0;
    at += strlen(word);
    while (at < l->n_bytes && strchr(" \t\n", l->text[at]) != NULL)
        at++;
    if (at < l->n_bytes && (l->text[at] == '-' || l->text[at] == '+'))
        *out_end_sign = l->text[at++];
    return starts(l, at, "%}") ? at + 2 - begin : 0;
}

/* All up to endraw is text. */
static enum status lex_raw(struct lexer *l, size_t tag)
{
    const size_t begin = l->at;
    char sign, end_sign;
    size_t at = l->at, n = 0;
    enum status st;

    for (; at < l->n_bytes && n == 0; at += n == 0)
        if (starts(l, at, "{%"))
            n = raw_tag(l, at, "endraw", &sign, &end_sign);
    if (n == 0)
        return template_refuse(l->t, tag, "raw without endraw");
    TRY(add_text(l, begin, at, sign, true), done);
    l->at = at + n;
    if (end_sign == '-')
        skip_space(l);
    else if (end_sign != '+')
        trim_line_end(l);
done:
    return st;
}

static enum status lex_comment(struct lexer *l, size_t begin)
{
    size_t at = l->at;

    while (at < l->n_bytes && !starts(l, at, "#}"))
        at++;
    if (at == l->n_bytes)
        return template_refuse(l->t, begin, "this comment does not end");
    const char sign = at > l->at ? l->text[at - 1] : '\0';
    l->at = at + 2;
    if (sign == '-')
        skip_space(l);
    else if (sign != '+')
        trim_line_end(l);
    return ST_OK;
}

/* Where the next tag begins; n_bytes if there is none. */
static size_t next_tag(const struct lexer *l)
{
    for (size_t at = l->at; at + 1 < l->n_bytes; at++)
        if (l->text[at] == '{' && strchr("{%#", l->text[at + 1]) != NULL && l->text[at + 1] != '\0')
            return at;
    return l->n_bytes;
}

enum status template_lex(const struct template *t, struct tpl_tokens *out_tokens)
{
    struct lexer l = {
        .t = t, .text = t->text, .n_bytes = t->n_bytes, .out = out_tokens, .at_line_start = true};
    enum status st = ST_OK;

    while (l.at < l.n_bytes) {
        const size_t begin = l.at, tag = next_tag(&l);

        if (tag == l.n_bytes) {
            TRY(add_text(&l, begin, tag, '+', false), done);
            break;
        }
        const char what = l.text[tag + 1];
        char sign = tag + 2 < l.n_bytes ? l.text[tag + 2] : '\0', raw_sign, raw_end;
        const size_t raw = what == '%' ? raw_tag(&l, tag, "raw", &raw_sign, &raw_end) : 0;

        if (sign != '-' && sign != '+')
            sign = '\0';
        TRY(add_text(&l, begin, tag, sign, what != '{'), done);
        l.at = tag + 2 + (sign != '\0');
        if (raw > 0 && raw_end != '+') {
            l.at = tag + raw;
            if (raw_end == '-')
                skip_space(&l);
            TRY(lex_raw(&l, tag), done);
        } else if (what == '#') {
            TRY(lex_comment(&l, tag), done);
        } else
            TRY(lex_tag(&l, tag, what == '%'), done);
        l.at_line_start = l.text[l.at - 1] == '\n';
    }
    TRY(add(&l, (struct tpl_token){.kind = TOK_END, .place = (uint32_t)l.n_bytes}), done);
done:
    return st;
}
