/*
 * drain.c - when there is too little time left to begin another row.
 *
 * What a row takes is measured, not predicted: the length of its answer is not known before.  A few
 * rows may take longer, and are left to the next run; the slowest of all must not decide, or one
 * straggler would hold up everything else for as long as itself.
 */
#include <stdlib.h>

#include "plan/plan.h"

enum { FEW = 32 };

void plan_pace_add(struct plan_pace *pace, double took_s)
{
    pace->took_s[pace->n_rows++ % PLAN_PACE_ROWS] = took_s;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double plan_pace_need_s(const struct plan_pace *pace, double oldest_s)
{
    const int n = pace->n_rows < PLAN_PACE_ROWS ? (int)pace->n_rows : PLAN_PACE_ROWS;
    double sorted[PLAN_PACE_ROWS];

    memcpy(sorted, pace->took_s, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    if (n >= FEW)
        return 1.25 * sorted[n * 95 / 100];
    return 1.25 * (n > 0 && sorted[n - 1] > oldest_s ? sorted[n - 1] : oldest_s);
}
