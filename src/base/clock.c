/*
 * clock.c - seconds since start, short sleeps, the date.
 */
#include <time.h>

#include "base/base.h"

static double monotonic_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Before main, so that second 0 is the start of the process whoever asks first. */
static double start_s;

__attribute__((constructor)) static void clock_start(void)
{
    start_s = monotonic_s();
}

double clock_now_s(void)
{
    return monotonic_s() - start_s;
}

void clock_sleep_us(int us)
{
    const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    nanosleep(&t, NULL);
}

void clock_utc(char *out, size_t cap)
{
    const time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(out, cap, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
