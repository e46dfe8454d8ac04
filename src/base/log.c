/*
 * log.c - one line per event, one write(2) per line.
 *
 * The only mutable state outside structs: level, name of this rank, whether it holds its tongue,
 * text of the last error (which the outcome beside RESULTS quotes).  Lines may come from any
 * thread.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/base.h"

enum { LINE_BYTES = 2048, WHO_BYTES = 48 };

static enum log_level max_level = LOG_INFO;
static bool held;
static char who[WHO_BYTES];
static char last_error[LINE_BYTES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void log_set_level(enum log_level level)
{
    max_level = level;
}

enum log_level log_get_level(void)
{
    return max_level;
}

void log_set_who(const char *role)
{
    snprintf(who, sizeof who, "%s", role);
}

void log_hold(bool hold)
{
    held = hold;
}

const char *log_last_error(void)
{
    return last_error;
}

/* The part of a source path after the last '/'. */
static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

void log_at(enum log_level level, const char *file, int line, const char *fmt, ...)
{
    static const char letters[LOG_COUNT] = {'E', 'W', 'I', 'D', 'T'};
    char text[LINE_BYTES], out[LINE_BYTES + 256], host[64] = "?", place[96] = "";
    va_list args;

    if (level > max_level && level != LOG_ERROR)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    /* What comes from files may hold control characters; a line stays a line. */
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';

    gethostname(host, sizeof host - 1);
    host[strcspn(host, ".")] = '\0';
    if (level == LOG_ERROR || level >= LOG_DEBUG)
        snprintf(place, sizeof place, " %s:%d ", file_name(file), line);
    int n = snprintf(out, sizeof out, "%8.3f %c %s%s%s%s %s\n", clock_now_s(), letters[level], who,
                     who[0] != '\0' ? " " : "", host, place, text);
    if (n >= (int)sizeof out) {
        n = (int)sizeof out - 1;
        out[n - 1] = '\n';
    }

    pthread_mutex_lock(&lock);
    if (level == LOG_ERROR)
        memcpy(last_error, text, sizeof last_error);
    if (level <= max_level && (!held || max_level >= LOG_DEBUG) &&
        write(STDERR_FILENO, out, (size_t)n) < 0) {
        /* Standard error is gone; there is nobody left to tell. */
    }
    pthread_mutex_unlock(&lock);
}
