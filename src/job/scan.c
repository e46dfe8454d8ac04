/*
 * scan.c - a pass over a job file's text before libconfig reads it.
 *
 * It knows libconfig's comments, strings, names and numbers, nothing else: what is between them is
 * libconfig's to judge.  Lines stay where they are, so its error lines are the file's.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "job/options.h"

struct scan {
    const char *at, *end;
    const char *place;
    int line; /* 0 = not a file */
    struct buf *out;
};

static enum status refuse(const struct scan *s, const char *why)
{
    char line[16] = "";

    if (s->line > 0)
        snprintf(line, sizeof line, ":%d", s->line);
    log_error("%s%s: %s", s->place, line, why);
    return ST_CONFIG;
}

static bool starts(const struct scan *s, const char *what)
{
    const size_t n = strlen(what);

    return (size_t)(s->end - s->at) >= n && memcmp(s->at, what, n) == 0;
}

/* Copy n bytes, counting lines. */
static enum status copy(struct scan *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->line += s->line > 0 && s->at[i] == '\n';
    s->at += n;
    return buf_put(s->out, s->at - n, n);
}

/* Copy up to and with the next `stop`, or to the end. */
static enum status copy_through(struct scan *s, size_t n_skip, const char *stop)
{
    const size_t n_left = (size_t)(s->end - s->at);
    const char *found =
        n_left > n_skip ? memmem(s->at + n_skip, n_left - n_skip, stop, strlen(stop)) : NULL;

    return copy(s, found != NULL ? (size_t)(found - s->at) + strlen(stop) : n_left);
}

static enum status copy_string(struct scan *s)
{
    const char *c = s->at + 1;

    while (c < s->end && *c != '"')
        c += *c == '\\' && c + 1 < s->end ? 2 : 1;
    if (c >= s->end)
        return refuse(s, "a text in quotes begins here and does not end");
    return copy(s, (size_t)(c - s->at) + 1);
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

static enum status copy_name(struct scan *s)
{
    size_t n = 0;

    while (s->at + n < s->end && is_name(s->at[n]))
        n++;
    return copy(s, n);
}

/* A number; an integer that needs more than 32 bits gets an L. */
static enum status copy_number(struct scan *s)
{
    const bool sign = *s->at == '-' || *s->at == '+';
    const char *digits = s->at + sign, *c = digits;
    const bool hex = c + 1 < s->end && c[0] == '0' && (c[1] == 'x' || c[1] == 'X');
    char number[80];
    enum status st;

    for (c += hex ? 2 : 0; c < s->end; c++)
        if (hex ? !isxdigit((unsigned char)*c) : !isdigit((unsigned char)*c))
            break;
    if (!hex && c < s->end && strchr(".eE", *c) != NULL) {
        for (bool exponent = false; c < s->end; c++) {
            if (*c == 'e' || *c == 'E')
                exponent = true;
            else if (!(isdigit((unsigned char)*c) || *c == '.' ||
                       (exponent && (*c == '-' || *c == '+') && (c[-1] == 'e' || c[-1] == 'E'))))
                break;
        }
        return copy(s, (size_t)(c - s->at));
    }

    const size_t n = (size_t)(c - s->at);
    snprintf(number, sizeof number, "%.*s", (int)(n < 70 ? n : 70), s->at);
    errno = 0;
    const long long value = strtoll(number, NULL, hex ? 16 : 10);
    if (errno == ERANGE || n >= 70)
        return refuse(s, "an integer is over 64 bits");
    TRY(copy(s, n), err);
    if (s->at < s->end && *s->at == 'L')
        return copy_name(s); /* the suffixes L and LL */
    if (value > INT32_MAX || value < INT32_MIN)
        return buf_put(s->out, "L", 1);
    return ST_OK;

err:
    return st;
}

static enum status copy_next(struct scan *s)
{
    const char c = *s->at;
    const char next = s->at + 1 < s->end ? s->at[1] : '\0';

    if (c == '#' || starts(s, "//"))
        return copy_through(s, 1, "\n");
    if (starts(s, "/*"))
        return copy_through(s, 2, "*/");
    if (c == '"')
        return copy_string(s);
    if (isalpha((unsigned char)c) || c == '*')
        return copy_name(s);
    if (isdigit((unsigned char)c) || c == '.' ||
        ((c == '-' || c == '+') && (isdigit((unsigned char)next) || next == '.')))
        return copy_number(s);
    if (c == '@')
        return refuse(s, "@include is not supported: write all options into one file");
    if (c == '\0')
        return refuse(s, "a NUL byte: this is not a job file");
    return copy(s, 1);
}

enum status scan_job_text(const char *text, size_t n_bytes, const char *place, int first_line,
                          struct buf *out)
{
    struct scan s = {text, text + n_bytes, place, first_line, out};
    enum status st = ST_OK;

    while (s.at < s.end && st == ST_OK)
        st = copy_next(&s);
    return st == ST_OK ? buf_put(out, "", 1) : st;
}
