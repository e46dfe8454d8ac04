/*
 * status.c - names of status codes, and the reason one row failed.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/base.h"

const char *status_name(enum status st)
{
    static const char *const names[ST_COUNT] = {
        [ST_OK] = "ok",
        [ST_NOMEM] = "out of memory",
        [ST_IO] = "input/output error",
        [ST_CONFIG] = "wrong job or option",
        [ST_FORMAT] = "bad file content",
        [ST_UNSUPPORTED] = "not supported",
        [ST_ROW] = "bad row",
        [ST_COMM] = "communication failed",
        [ST_AGAIN] = "not now",
        [ST_END] = "end",
        [ST_STOPPED] = "stopped",
    };

    return (unsigned)st < ST_COUNT ? names[st] : "unknown status";
}

enum status row_error_set(struct row_error *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return ST_ROW;
}
