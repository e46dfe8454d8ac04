/*
 * progress.c - progress as text; pure, so a test pins it.
 */
#include <stdio.h>

#include "stage/stage.h"

char *units_si(char *buf, size_t cap, double value)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    size_t p = 0;

    while (value >= 999.5 && p + 1 < sizeof prefixes / sizeof prefixes[0]) {
        value /= 1000;
        p++;
    }
    snprintf(buf, cap, "%.*f%s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, prefixes[p]);
    return buf;
}

char *progress_line(char *buf, size_t cap, const struct progress *now, const struct progress *prev)
{
    const double dt = now->elapsed_s - prev->elapsed_s;
    const double n_new = (double)(now->n_done - now->n_kept);
    const double left = (double)(now->n_rows - now->n_done);
    char pre[16], dec[16], eta[32] = "?";

    if (n_new > 0)
        snprintf(eta, sizeof eta, "%.0f s", left * now->elapsed_s / n_new);
    snprintf(buf, cap, "%llu/%llu rows, %llu failed  prompts %s tok/s  answers %s tok/s  eta %s",
             (unsigned long long)now->n_done, (unsigned long long)now->n_rows,
             (unsigned long long)now->n_failed,
             units_si(pre, sizeof pre, (double)(now->prompt_tok - prev->prompt_tok) / dt),
             units_si(dec, sizeof dec, (double)(now->answer_tok - prev->answer_tok) / dt), eta);
    return buf;
}
