/*
 * crew.h - the ranks of a run: that they agree, and who does what.  Private to this room.
 */
#ifndef EPIDOTE_STAGE_CREW_H
#define EPIDOTE_STAGE_CREW_H

#include "stage/session.h"
#include "stage/warden.h"

struct crew {
    struct ranks *ranks;   /* borrowed */
    struct warden *warden; /* borrowed; NULL = nobody can tell us to stop */
    int me, n;
    bool supposed;         /* `check`: these ranks are not there, but would be on this host */
    int asked[ROLE_COUNT]; /* stages of each role, -1 = to be chosen */
    double patience_s;     /* how long a step of the start waits for the slowest rank */
    struct plan_layout layout;
    char **who; /* [n] owned; as ranks_who */
};

/* What a rank shares with the others of its node. */
struct node {
    int n_computing;          /* ranks of the node that have an engine */
    int part;                 /* which of those the rank is; -1 = it computes nothing */
    uint64_t available_bytes; /* of memory: the least that one of its ranks found; 0 = unknown */
};

/* crew_begin - of these ranks, with nothing to do yet.  crew_end frees what crew_assign made. */
void crew_begin(struct ranks *ranks, struct warden *warden, const struct job *job,
                struct crew *out_crew);
void crew_end(struct crew *crew);
/* crew_suppose - n ranks that are not there, for `check`: nothing collective may be done with them.
 */
void crew_suppose(struct ranks *ranks, int n, const struct job *job, struct crew *out_crew);

/* crew_together - one step of the start: it failed for all if it failed for one, or if one was told
 * to stop.
 *   doing  in  what the ranks were doing, for the message about one that does not come
 * Collective over all.  Returns ST_OK, or what the lowest rank failed with. */
enum status crew_together(struct crew *crew, enum status mine, const char *doing);
/* crew_busy - work(arg), on a thread of its own, while rank 0, which does it, lets the others know
 * that it lives: they wait for it in the next exchange.  A rank alone just does it.
 * On rank 0.  Returns what work returned; ST_NOMEM, ST_IO (there is no thread). */
enum status crew_busy(struct crew *crew, background_fn work, void *arg);
/* crew_same_job - that all run the same program and job.  crew_same_data - that all see the same
 * model and prompt file.
 *   job  in  NULL = this rank could not load it (logged)
 * Collective over all. */
enum status crew_same_job(struct crew *crew, const struct job *job, const char *program);
/* crew_take_roles - ranks that were started for a role each make the groups, not the job.
 *   mine  in  of this rank, -1 = none
 * Collective over all.  Returns ST_OK, ST_CONFIG (logged), ST_COMM, ST_NOMEM. */
enum status crew_take_roles(struct crew *crew, int mine);
enum status crew_same_data(struct crew *crew, struct session *session);

/* crew_assign - who does what, as job or roles ask for; without images no encoder is there, and its
 * ranks compute prompts.  Names the ranks, in their logs too.
 * Local, the same on every rank.  Returns ST_OK, ST_CONFIG (logged), ST_NOMEM. */
enum status crew_assign(struct crew *crew, bool images);
/* crew_stages - "coordinator+prefill/0" into buf; "nothing" if it has none.  Returns buf. */
char *crew_stages(const struct plan_layout *layout, int rank, char *buf, size_t cap);
/* crew_idle - how many ranks have nothing to do when there are so few rows. */
int crew_idle(const struct plan_layout *layout, uint64_t n_rows);
/* crew_pair - whether prefill i ever computes a row of decode j: a decode stage whose rank has a
 * prefill stage, too, leaves its rows to that one. */
bool crew_pair(const struct plan_layout *layout, int prefill, int decode);

/* crew_share - as ranks_share, and all or none; with one rank nothing is shared.
 * Collective over all.  Returns ST_OK (*out_base may be NULL: out_why), or what one failed with. */
enum status crew_share(struct crew *crew, size_t n_bytes, void **out_base,
                       struct row_error *out_why);

/* Memory of this rank alone, or of all ranks of its node.  All zero is a valid one of no bytes. */
struct node_memory {
    void *base; /* owned; NULL = no bytes */
    size_t n_bytes;
    bool shared;
};
/* crew_memory_make - zeroed.  What is to be shared and cannot be is an error.
 *   what     in  goes into it, for messages
 *   n_bytes  in  of this rank; shared: of its node, the same on all its ranks
 * Collective over all.  Returns ST_OK, or what one failed with. */
enum status crew_memory_make(struct crew *crew, const char *what, size_t n_bytes, bool shared,
                             struct node_memory *out_memory);
void crew_memory_end(struct node_memory *memory);

/* crew_place - which of the ranks of its node that host a role a rank is, -1 = none; *out_n: how
 * many those are. */
int crew_place(const struct crew *crew, enum role role, int rank, int *out_n);
struct node crew_node(const struct crew *crew, int rank);
bool crew_same_node(const struct crew *crew, int a, int b);

#endif
