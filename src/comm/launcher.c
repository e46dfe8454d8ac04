/*
 * launcher.c - which launcher started this process, as its environment tells.
 *
 * MPI_Init must not be called without one: some MPIs then start daemons, others stop.  And a
 * launcher of another MPI than ours leaves each process alone in a world of its own, which is found
 * here by comparing what it says with what MPI says.
 */
#include <stdlib.h>

#include "comm/launcher.h"

/* Launchers that MPI understands, by the variables they set; mpirun inside srun comes before srun.
 */
static const struct {
    const char *rank, *n_ranks, *name;
} known[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun of Open MPI"},
    {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", "a launcher that speaks PMIx"},
    {"PMI_RANK", "PMI_SIZE", "a launcher that speaks PMI"},
    {"PALS_RANKID", "SLURM_STEP_NUM_TASKS", "a launcher that speaks PALS"},
};

/* A variable's number, `otherwise` if it is not set or holds none. */
static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    char *end;

    if (text == NULL)
        return otherwise;
    const long number = strtol(text, &end, 10);
    return end == text || *end != '\0' || number < 0 || number > INT32_MAX ? otherwise
                                                                           : (int)number;
}

void launcher_look(struct launcher *out_launcher)
{
    struct launcher found = {.name = "nothing", .n_processes = 1};

    if (getenv("SLURM_JOB_ID") != NULL) {
        const int n_step = number_of("SLURM_STEP_NUM_TASKS", 1); /* srun sets both to its own */

        found.is_srun = n_step > 1;
        found.name = found.is_srun ? "srun" : "a Slurm job";
        found.n_processes = found.is_srun ? n_step : number_of("SLURM_NTASKS", 1);
        found.number = number_of("SLURM_PROCID", 0);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (getenv(known[i].rank) == NULL)
            continue;
        found.name = known[i].name;
        found.has_mpi = true;
        found.n_processes = number_of(known[i].n_ranks, 1);
        found.number = number_of(known[i].rank, 0);
        break;
    }
    *out_launcher = found;
}

enum status launcher_check(const struct launcher *launcher, int n_ranks, struct row_error *err)
{
    if (n_ranks > 1 || launcher->n_processes <= 1)
        return ST_OK;
    if (launcher->has_mpi)
        return row_error_set(
            err,
            "%s started %d processes, but MPI sees one: the launcher is of another "
            "MPI than this program; use the mpirun of its MPI, or srun --mpi=pmix "
            "(Open MPI), srun --mpi=pmi2 (MPICH)",
            launcher->name, launcher->n_processes);
    if (launcher->is_srun)
        return row_error_set(err,
                             "srun started %d processes without a plug-in for MPI: use srun "
                             "--mpi=pmix (Open MPI) or srun --mpi=pmi2 (MPICH); for one process "
                             "srun -n 1",
                             launcher->n_processes);
    return row_error_set(err,
                         "this Slurm job has %d tasks, but no launcher started this process: use "
                         "srun --mpi=pmix or mpirun before the command; for one process srun -n 1, "
                         "or unset SLURM_NTASKS",
                         launcher->n_processes);
}
