/*
 * ranks.h - what ranks_*.c and the MPI world share.  Private to this room; here MPI begins.
 */
#ifndef EPIDOTE_COMM_RANKS_H
#define EPIDOTE_COMM_RANKS_H

#include <mpi.h>

#include "comm/comm.h"

struct ranks {
    int me, n;
    bool has_mpi;           /* else this is the only rank, and nothing below is MPI's */
    bool broken;            /* a rank was missing once: nothing collective will work any more */
    int missing;            /* that rank, as far as this one knows; -1 = none */
    uint32_t n_talks;       /* collective calls so far */
    int parent;             /* process that started this one, before MPI did anything */
    MPI_Request *notes;     /* [n] owned; rank 0's notes that it lives, to each other rank */
    double noted_s;         /* when the last of them left */
    MPI_Comm all;           /* owned; every rank of the job */
    struct rank_info *info; /* [n] owned */
};

/* Tags of messages over ranks->all. */
enum ranks_tag { TAG_TALK_UP, TAG_TALK_DOWN, TAG_CLOCK, TAG_ALIVE };

/* ranks_mpi - an MPI call's result as a status; `doing` begins the message.  Local.
 * Returns ST_OK, ST_COMM (logged). */
enum status ranks_mpi(int result, const char *doing);
/* ranks_rest - sleep *rest_us, which doubles from 50 us up to 2 ms; set it to 0 for a new start. */
void ranks_rest(int *rest_us);
/* ranks_dup - a communicator of its own over all ranks, that returns errors.
 * Collective over all, polls.  Returns ST_OK, ST_COMM (logged). */
enum status ranks_dup(struct ranks *ranks, MPI_Comm *out_comm);

/*
 * One exchange: each rank's n_up bytes to rank 0, whose `decide` makes n_down bytes of them, which
 * go to all.
 */
struct talk {
    const char *doing; /* "rank 3 has not finished ..." */
    double limit_s;    /* <= 0: for ever */
    size_t n_up, n_down;
    /* On rank 0.  ups [n][n_up] in order of rank. */
    void (*decide)(const struct ranks *ranks, const struct talk *talk, const uint8_t *ups,
                   uint8_t *down);
};
/* ranks_talk - Collective over all, polls.  If a rank does not come in time, rank 0 logs which and
 * all get ST_COMM, then and from then on.  Returns ST_OK, ST_COMM, ST_NOMEM. */
enum status ranks_talk(struct ranks *ranks, const struct talk *talk, const void *mine,
                       void *out_down);
/* How long start-up exchanges without a limit of their own wait. */
#define RANKS_PATIENCE_S 300.0

/* place_describe - what a rank says of where it runs: cores, NUMA nodes, CPU (place.c).  Local. */
void place_describe(struct rank_info *info);

/* ranks_clock_measure - called on rank 0 with a peer and on that peer with 0: the offset of the
 * peer's clock to rank 0's by ping-pong, good to half of the least round trip.
 * Pairwise.  Returns ST_OK, ST_COMM (logged). */
enum status ranks_clock_measure(struct ranks *ranks, int peer, double *out_offset_s);

#endif
