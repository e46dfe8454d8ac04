/*
 * template_date.c - strftime of a date that the job names; the clock is never read.
 */
#include <stdio.h>

#include "text/template.h"

struct date {
    int year, month, day; /* from 1 */
};

static const int days_before[13] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};

static bool leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool read_date(const char *text, struct date *out)
{
    static const char shape[] = "dddd-dd-dd";
    int parts[3] = {0}, part = 0;

    for (size_t i = 0; i < sizeof shape; i++) {
        const char c = text[i];

        if (shape[i] == 'd' ? c < '0' || c > '9' : c != shape[i])
            return false;
        if (shape[i] == 'd')
            parts[part] = 10 * parts[part] + (c - '0');
        else
            part += c == '-';
    }
    *out = (struct date){parts[0], parts[1], parts[2]};
    if (out->year < 1 || out->month < 1 || out->month > 12 || out->day < 1)
        return false;
    return out->day <= days_before[out->month] - days_before[out->month - 1] +
                           (out->month == 2 && leap(out->year));
}

bool date_valid(const char *text)
{
    struct date date;

    return read_date(text, &date);
}

static int day_of_year(const struct date *d)
{
    return days_before[d->month - 1] + (d->month > 2 && leap(d->year)) + d->day;
}

/* 0 = Monday. */
static int weekday(const struct date *d)
{
    const int before = d->year - 1;

    return (365 * before + before / 4 - before / 100 + before / 400 + day_of_year(d) - 1) % 7;
}

/* One directive as text; false: not one of these. */
static bool directive(const struct date *d, char c, bool no_pad, char *out, size_t cap)
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    static const char *const days[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                       "Friday", "Saturday", "Sunday"};
    const char *two = no_pad ? "%d" : "%02d";

    switch (c) {
    case 'Y':
        return snprintf(out, cap, no_pad ? "%d" : "%04d", d->year) > 0;
    case 'y':
        return snprintf(out, cap, two, d->year % 100) > 0;
    case 'm':
        return snprintf(out, cap, two, d->month) > 0;
    case 'd':
        return snprintf(out, cap, two, d->day) > 0;
    case 'e':
        return snprintf(out, cap, no_pad ? "%d" : "%2d", d->day) > 0;
    case 'j':
        return snprintf(out, cap, no_pad ? "%d" : "%03d", day_of_year(d)) > 0;
    case 'H':
    case 'M':
    case 'S':
        return snprintf(out, cap, two, 0) > 0;
    case 'I':
        return snprintf(out, cap, "12") > 0;
    case 'p':
        return snprintf(out, cap, "AM") > 0;
    case 'B':
        return snprintf(out, cap, "%s", months[d->month - 1]) > 0;
    case 'b':
    case 'h':
        return snprintf(out, cap, "%.3s", months[d->month - 1]) > 0;
    case 'A':
        return snprintf(out, cap, "%s", days[weekday(d)]) > 0;
    case 'a':
        return snprintf(out, cap, "%.3s", days[weekday(d)]) > 0;
    case 'F':
        return snprintf(out, cap, "%d-%02d-%02d", d->year, d->month, d->day) > 0;
    case 'D':
        return snprintf(out, cap, "%02d/%02d/%02d", d->month, d->day, d->year % 100) > 0;
    case 'T':
        return snprintf(out, cap, "00:00:00") > 0;
    case 'R':
        return snprintf(out, cap, "00:00") > 0;
    case '%':
        return snprintf(out, cap, "%%") > 0;
    default:
        return false;
    }
}

enum status print_date(struct tpl_run *run, struct tpl_builder *b, const char *date,
                       const struct tpl_string *format)
{
    struct date d = {1, 1, 1};
    enum status st = ST_OK;

    if (!read_date(date, &d))
        return run_fail(run, "the date \"%.20s\" is not one like 2026-01-31", date);
    for (size_t i = 0; i < format->n_bytes; i++) {
        char text[32];

        if (format->data[i] != '%') {
            TRY(builder_put_part(run, b, format, i, i + 1), done);
            continue;
        }
        const bool no_pad = i + 1 < format->n_bytes && format->data[i + 1] == '-';
        i += 1 + no_pad;
        if (i >= format->n_bytes || !directive(&d, format->data[i], no_pad, text, sizeof text))
            return run_fail(run, "strftime_now: this format is not supported: \"%.*s\"",
                            (int)(format->n_bytes < 40 ? format->n_bytes : 40), format->data);
        TRY(builder_puts(run, b, text), done);
    }
done:
    return st;
}
