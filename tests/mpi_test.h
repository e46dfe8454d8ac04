/*
 * mpi_test.h - for tests that run under mpirun: one verdict for all ranks.
 */
#ifndef EPIDOTE_MPI_TEST_H
#define EPIDOTE_MPI_TEST_H

#include <mpi.h>
#include <sys/resource.h>

#include "comm/comm.h"
#include "test.h"

/* Seconds of a core that this process has used. */
static inline double cpu_s(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* What byte i of the nth thing from one rank to another is. */
static inline uint8_t pattern(int from, int to, uint64_t n, size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7 + (size_t)from * 101 + (size_t)to * 53 + n * 17 + 1);
}

/* All ranks return alike, whichever of them has seen something.  By MPI itself, since what is
 * tested may be broken. */
static inline int mpi_test_end(struct ranks *ranks, const char *file)
{
    const int mine[2] = {test_n_checks, test_n_failed};
    const int me = ranks_me(ranks);
    int all[2] = {mine[0], mine[1]}, is_up = 0;

    MPI_Initialized(&is_up);
    if (is_up)
        MPI_Allreduce(mine, all, 2, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    ranks_end(ranks, 10, 1);
    if (me == 0)
        fprintf(stderr, "%s: %d checks, %d failed\n", file, all[0], all[1]);
    return all[1] != 0 || all[0] == 0;
}

#endif
