/*
 * drain.c - when there is too little time left to begin another row.
 *
 * What a row takes is measured, not predicted: its answer's length is not known before.  The
 * slowest of the latest rows is a bound that a few rows may break; those are computed again by the
 * next run.
 */
#include "plan/plan.h"

void plan_pace_add(struct plan_pace *pace, double took_s)
{
    pace->took_s[pace->n_rows++ % PLAN_PACE_ROWS] = took_s;
}

double plan_pace_need_s(const struct plan_pace *pace, double oldest_s)
{
    const int n = pace->n_rows < PLAN_PACE_ROWS ? (int)pace->n_rows : PLAN_PACE_ROWS;
    double most_s = oldest_s;

    for (int i = 0; i < n; i++)
        most_s = pace->took_s[i] > most_s ? pace->took_s[i] : most_s;
    return 1.25 * most_s;
}
