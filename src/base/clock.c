/*
 * clock.c - seconds since start, short sleeps, the date.
 */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

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

double clock_start_s(void)
{
    return start_s;
}

uint64_t clock_host_id(void)
{
    char text[128];
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    const ssize_t n_boot = fd >= 0 ? read(fd, text, sizeof text / 2) : -1;

    if (fd >= 0)
        close(fd);
    if (n_boot <= 0)
        return 0;
    /* A kernel without time namespaces has no such file, and one clock. */
    const ssize_t n_space =
        readlink("/proc/self/ns/time", text + n_boot, sizeof text - (size_t)n_boot);
    return hash_bytes(text, (size_t)(n_boot + (n_space > 0 ? n_space : 0)), 0);
}

void clock_sleep_us(int us)
{
    const struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    nanosleep(&t, NULL);
}

double clock_unix_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void clock_utc(char *out, size_t cap)
{
    const time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(out, cap, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
