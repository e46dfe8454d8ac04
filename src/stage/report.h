/*
 * report.h - what `run` tells people: who does what at the start, how it went at the end.  Private
 * to this room.
 */
#ifndef EPIDOTE_STAGE_REPORT_H
#define EPIDOTE_STAGE_REPORT_H

#include <stdio.h>

#include "stage/machine.h"

/* Figures of a run, for its summary. */
struct figures {
    double load_s, run_s;
    struct wire_beat *beats; /* [ranks] owned: the last of each; NULL = nothing was computed */
    struct wire_beat totals;
    struct journal_counts counts;
};

/* report_start - to the log: what a rank is and has, which links there are, how long it took.
 * report_summary - all figures that a paper would want to cite, as text.  Both on rank 0. */
void report_start(const struct machine *machine, double load_s);
void report_summary(const struct session *session, const struct crew *crew,
                    const struct figures *figures, const char *program, FILE *out);
/* report_layout - to standard output, for `check`: who would do what. */
void report_layout(const struct session *session, const struct crew *crew);

#endif
