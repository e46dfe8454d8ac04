/*
 * launcher.h - which launcher started this process, as its environment tells.  Private to this
 * room.
 */
#ifndef EPIDOTE_COMM_LAUNCHER_H
#define EPIDOTE_COMM_LAUNCHER_H

#include "base/base.h"

struct launcher {
    const char *name; /* static; "nothing" if there is no sign of one */
    bool has_mpi;     /* it left what MPI needs to find the other processes */
    bool is_srun;     /* several processes by Slurm's, with that or without */
    int n_processes;  /* that it started for this job step, as far as it says; at least 1 */
    int number;       /* of this process among them; 0 if it does not say */
};

/* launcher_look - read the environment.  Local. */
void launcher_look(struct launcher *out_launcher);
/* launcher_check - whether a world of n_ranks (1 without MPI) is what was asked for: several
 * processes that each believe to be alone would all do the whole job.
 * Returns ST_OK, ST_ROW (err: how to launch). */
enum status launcher_check(const struct launcher *launcher, int n_ranks, struct row_error *err);

#endif
