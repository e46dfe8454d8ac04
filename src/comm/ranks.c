/*
 * ranks.c - the processes of one job: begin and end of MPI, who is there, whose cores are whose,
 * how clocks differ.
 *
 * What they tell each other is in ranks_talk.c, memory of a node in ranks_share.c.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "comm/launcher.h"
#include "comm/ranks.h"

enum { REST_MIN_US = 50, REST_MAX_US = 2000 };
#define ABORT_LIMIT_S 2.0

enum status ranks_mpi(int result, const char *doing)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n_chars = 0;

    if (result == MPI_SUCCESS)
        return ST_OK;
    if (MPI_Error_string(result, text, &n_chars) != MPI_SUCCESS)
        snprintf(text, sizeof text, "MPI error %d", result);
    log_error("%s: %s", doing, text);
    return ST_COMM;
}

void ranks_rest(int *rest_us)
{
    *rest_us = *rest_us < REST_MIN_US ? REST_MIN_US : *rest_us;
    clock_sleep_us(*rest_us);
    *rest_us = *rest_us * 2 < REST_MAX_US ? *rest_us * 2 : REST_MAX_US;
}

/* A copy of `from`, which all of its ranks have to come to. */
static enum status dup_of(MPI_Comm from, MPI_Comm *out_comm)
{
    static const char doing[] = "making a communicator";
    enum status st;
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Request request;
    const double begin_s = clock_now_s();
    int done = 0, rest_us = 0;

    TRY(ranks_mpi(MPI_Comm_idup(from, &comm, &request), doing), err);
    while (!done) {
        TRY(ranks_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), doing), err);
        if (!done && clock_now_s() - begin_s > RANKS_PATIENCE_S) {
            log_error("%s: not all ranks have come within %.0f s", doing, RANKS_PATIENCE_S);
            return ST_COMM;
        }
        if (!done)
            ranks_rest(&rest_us);
    }
    TRY(ranks_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), doing), err);
    *out_comm = comm;
    return ST_OK;
err:
    return st;
}

enum status ranks_dup(struct ranks *ranks, MPI_Comm *out_comm)
{
    return dup_of(ranks->all, out_comm);
}

/* ---- clocks ------------------------------------------------------------------------------------ */

enum { CLOCK_ROUNDS = 32 };
#define CLOCK_LIMIT_S 60.0 /* for one answer of a peer that has come to this place */

/* One 8-byte message; a round trip is what is measured, so nobody sleeps here. */
static enum status clock_move(struct ranks *ranks, int peer, bool sends, double *value)
{
    static const char doing[] = "comparing clocks";
    enum status st;
    const double begin_s = clock_now_s();
    MPI_Request request;
    int done = 0;

    TRY(ranks_mpi(sends ? MPI_Isend(value, 1, MPI_DOUBLE, peer, TAG_CLOCK, ranks->all, &request)
                        : MPI_Irecv(value, 1, MPI_DOUBLE, peer, TAG_CLOCK, ranks->all, &request),
                  doing),
        err);
    for (;;) {
        TRY(ranks_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), doing), err);
        if (done)
            return ST_OK;
        if (clock_now_s() - begin_s > CLOCK_LIMIT_S) {
            char who[160];

            log_error("%s does not answer since %.0f s: %s",
                      ranks_who(ranks, NULL, peer, who, sizeof who), CLOCK_LIMIT_S, doing);
            return ST_COMM; /* value is MPI's still; the caller's caller ends the job */
        }
        sched_yield();
    }
err:
    return st;
}

enum status ranks_clock_measure(struct ranks *ranks, int peer, double *out_offset_s)
{
    enum status st;
    double best_s = 1e9, offset_s = 0;

    for (int i = 0; i < CLOCK_ROUNDS; i++) {
        double mine_s = clock_now_s(), theirs_s = 0;

        if (ranks->me != 0) {
            TRY(clock_move(ranks, peer, false, &theirs_s), err);
            mine_s = clock_now_s();
            TRY(clock_move(ranks, peer, true, &mine_s), err);
            continue;
        }
        TRY(clock_move(ranks, peer, true, &theirs_s), err);
        TRY(clock_move(ranks, peer, false, &theirs_s), err);
        const double trip_s = clock_now_s() - mine_s;
        if (trip_s < best_s) {
            best_s = trip_s;
            offset_s = mine_s + trip_s / 2 - theirs_s;
        }
    }
    TRY(clock_move(ranks, peer, ranks->me == 0, &offset_s), err);
    *out_offset_s = offset_s;
    return ST_OK;
err:
    return st;
}

/* What has to be added to this rank's clock to get rank 0's. */
static enum status clock_offset(struct ranks *ranks, double *out_offset_s)
{
    enum status st;
    struct {
        double start_s;
        uint64_t host;
    } mine = {clock_start_s(), clock_host_id()}, *all;

    all = host_alloc((size_t)ranks->n * sizeof *all);
    if (all == NULL)
        return ST_NOMEM;
    TRY(ranks_gather(ranks, &mine, sizeof mine, all), out);
    *out_offset_s = 0;
    for (int rank = 1; rank < ranks->n; rank++) {
        double offset_s = all[rank].start_s - all[0].start_s;

        if (all[rank].host == 0 || all[rank].host != all[0].host) { /* two clocks */
            if (ranks->me == 0 || ranks->me == rank)
                TRY(ranks_clock_measure(ranks, ranks->me == 0 ? rank : 0, &offset_s), out);
        }
        if (ranks->me == rank)
            *out_offset_s = offset_s;
    }
out:
    host_free(all);
    return st;
}

/* ---- who is there ------------------------------------------------------------------------------ */

/* Which ranks share memory with this one: `node` becomes the lowest of them. */
static enum status find_node(struct ranks *ranks, struct rank_info *info)
{
    static const char doing[] = "finding the ranks of this node";
    enum status st;
    MPI_Comm node = MPI_COMM_NULL;
    MPI_Group node_group = MPI_GROUP_NULL, group = MPI_GROUP_NULL;
    const int lowest = 0;
    int rank, size, lowest_of_all;

    TRY(ranks_mpi(
            MPI_Comm_split_type(ranks->all, MPI_COMM_TYPE_SHARED, ranks->me, MPI_INFO_NULL, &node),
            doing),
        err);
    TRY(ranks_mpi(MPI_Comm_rank(node, &rank), doing), err_free_node);
    TRY(ranks_mpi(MPI_Comm_size(node, &size), doing), err_free_node);
    TRY(ranks_mpi(MPI_Comm_group(node, &node_group), doing), err_free_node);
    TRY(ranks_mpi(MPI_Comm_group(ranks->all, &group), doing), err_free_group);
    TRY(ranks_mpi(MPI_Group_translate_ranks(node_group, 1, &lowest, group, &lowest_of_all), doing),
        err_free_groups);
    info->node = lowest_of_all;
    info->node_rank = rank;
    info->node_ranks = size;
err_free_groups:
    MPI_Group_free(&group);
err_free_group:
    MPI_Group_free(&node_group);
err_free_node:
    MPI_Comm_free(&node);
err:
    return st;
}

static void describe_self(struct rank_info *info)
{
    gethostname(info->host, sizeof info->host - 1);
    info->host[strcspn(info->host, ".")] = '\0';
    info->pid = (int32_t)getpid();
    info->available_bytes = host_memory_available_bytes();
    place_describe(info);
}

/* Nodes by the lowest rank on them become 0, 1, ... in order of rank. */
static void number_nodes(struct rank_info *info, int n)
{
    int n_nodes = 0;

    for (int rank = 0; rank < n; rank++)
        info[rank].node = info[rank].node == rank ? n_nodes++ : info[info[rank].node].node;
}

static enum status describe(struct ranks *ranks)
{
    enum status st;
    struct rank_info mine = {.node_ranks = 1};

    describe_self(&mine);
    if (ranks->has_mpi) {
        /* All are here, then: the split that follows is MPI's, and could not name who is not. */
        TRY(ranks_agree(ranks, ST_OK, "starting up", RANKS_PATIENCE_S), err);
        TRY(find_node(ranks, &mine), err);
        TRY(clock_offset(ranks, &mine.clock_offset_s), err);
    }
    struct rank_info *info = host_alloc((size_t)ranks->n * sizeof *info);
    if (info == NULL)
        return ST_NOMEM;
    st = ranks_gather(ranks, &mine, sizeof mine, info);
    if (st != ST_OK) {
        host_free(info);
        return st;
    }
    number_nodes(info, ranks->n);
    ranks->info = info;
    return ST_OK;
err:
    return st;
}

/* ---- begin and end ----------------------------------------------------------------------------- */

/* MPI_Init, and a communicator of our own. */
static enum status begin_mpi(struct ranks *ranks, const struct launcher *launcher)
{
    static const char doing[] = "starting MPI";
    enum status st;
    int level, is_up = 0;
    struct row_error err;

    TRY(ranks_mpi(MPI_Initialized(&is_up), doing), err);
    if (is_up) {
        log_error("%s: it is up already", doing);
        return ST_COMM;
    }
    TRY(ranks_mpi(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), doing), err);
    ranks->has_mpi = true;
    TRY(ranks_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), doing), err);
    TRY(dup_of(MPI_COMM_WORLD, &ranks->all), err);
    TRY(ranks_mpi(MPI_Comm_rank(ranks->all, &ranks->me), doing), err);
    TRY(ranks_mpi(MPI_Comm_size(ranks->all, &ranks->n), doing), err);
    ranks->notes = host_alloc((size_t)ranks->n * sizeof(MPI_Request));
    if (ranks->notes == NULL)
        return ST_NOMEM;
    for (int rank = 0; rank < ranks->n; rank++)
        ranks->notes[rank] = MPI_REQUEST_NULL;
    if (level < MPI_THREAD_FUNNELED) {
        log_error("%s: this MPI allows no other threads beside the one that calls it", doing);
        return ST_COMM;
    }
    if (launcher_check(launcher, ranks->n, &err) != ST_OK) {
        if (launcher->number == 0) /* one message, not one of each process */
            log_error("%s", err.text);
        return ST_CONFIG;
    }
    return ST_OK;
err:
    return st;
}

enum status ranks_begin(struct ranks **out_ranks)
{
    enum status st;
    struct launcher launcher;
    struct row_error err;
    struct ranks *ranks = host_zalloc(sizeof *ranks);

    if (ranks == NULL)
        return ST_NOMEM;
    ranks->n = 1;
    ranks->missing = -1;
    ranks->parent = (int)getppid();
    ranks->all = MPI_COMM_NULL;
    launcher_look(&launcher);
    if (launcher.has_mpi) {
        TRY(begin_mpi(ranks, &launcher), err);
    } else if (launcher_check(&launcher, 1, &err) != ST_OK) {
        if (launcher.number == 0)
            log_error("%s", err.text);
        st = ST_CONFIG;
        goto err;
    }
    TRY(describe(ranks), err);
    *out_ranks = ranks;
    return ST_OK;
err:
    ranks_end(ranks, ABORT_LIMIT_S, st == ST_CONFIG ? OUTCOME_JOB : OUTCOME_MACHINE);
    return st;
}

/* ---- a bound for what MPI does at the end ------------------------------------------------------- */

static void on_time_out(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number, (void)context;
    _exit(info->si_value.sival_int);
}

/* From now on the process has limit_s left.  Returns the timer, for time_out_cancel. */
static bool time_out_set(double limit_s, int exit_code, timer_t *out_timer)
{
    const struct sigaction action = {.sa_sigaction = on_time_out, .sa_flags = SA_SIGINFO};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    const struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)limit_s,
                     .tv_nsec = (long)((limit_s - (double)(time_t)limit_s) * 1e9)}};
    sigset_t alarm_only;

    event.sigev_value.sival_int = exit_code;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    if (sigaction(SIGALRM, &action, NULL) == 0 &&
        pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL) == 0 &&
        timer_create(CLOCK_MONOTONIC, &event, out_timer) == 0) {
        if (timer_settime(*out_timer, 0, &at, NULL) == 0)
            return true;
        timer_delete(*out_timer);
    }
    log_warn("no timer for the end of MPI: it may hang if a rank is lost");
    return false;
}

void ranks_end(struct ranks *ranks, double limit_s, int exit_code)
{
    timer_t timer;

    if (ranks == NULL)
        return;
    if (ranks->has_mpi) {
        fflush(NULL); /* the timer's way out does not */
        const bool bounded = time_out_set(limit_s, exit_code, &timer);

        for (int rank = 0; ranks->notes != NULL && rank < ranks->n; rank++)
            if (ranks->notes[rank] != MPI_REQUEST_NULL)
                MPI_Request_free(&ranks->notes[rank]); /* it has no bytes that must stay */
        if (ranks->all != MPI_COMM_NULL)
            MPI_Comm_free(&ranks->all);
        MPI_Finalize();
        if (bounded)
            timer_delete(timer);
    }
    host_free(ranks->notes);
    host_free(ranks->info);
    host_free(ranks);
}

_Noreturn void ranks_abort(struct ranks *ranks, int exit_code)
{
    timer_t timer;

    fflush(NULL);
    if (ranks != NULL && ranks->has_mpi) {
        time_out_set(ABORT_LIMIT_S, exit_code, &timer);
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    _exit(exit_code);
}

/* ---- questions --------------------------------------------------------------------------------- */

int ranks_me(const struct ranks *ranks)
{
    return ranks->me;
}

int ranks_n(const struct ranks *ranks)
{
    return ranks->n;
}

bool ranks_launched(const struct ranks *ranks)
{
    return ranks->has_mpi;
}

int ranks_parent(const struct ranks *ranks)
{
    return ranks->parent;
}

int ranks_missing(const struct ranks *ranks)
{
    return ranks->missing;
}

const struct rank_info *ranks_info(const struct ranks *ranks, int rank)
{
    return &ranks->info[rank];
}

char *ranks_who(const struct ranks *ranks, const struct plan_layout *layout, int rank, char *buf,
                size_t cap)
{
    char stages[96] = "";

    for (int role = 0; layout != NULL && role < ROLE_WATCH; role++) { /* a watch is everywhere */
        const int index = plan_layout_hosts(layout, rank, (enum role)role);
        const size_t n = strlen(stages);

        if (index < 0)
            continue;
        snprintf(stages + n, sizeof stages - n, "%s%s", n == 0 ? " (" : ", ",
                 role_name((enum role)role));
        if (layout->n_stages[role] > 1 || role != ROLE_COORDINATOR)
            snprintf(stages + strlen(stages), sizeof stages - strlen(stages), "/%d", index);
    }
    if (stages[0] != '\0')
        snprintf(stages + strlen(stages), sizeof stages - strlen(stages), ")");
    if (ranks->info == NULL) /* before they have told */
        snprintf(buf, cap, "rank %d%s", rank, stages);
    else
        snprintf(buf, cap, "rank %d%s on %s, pid %d", rank, stages, ranks->info[rank].host,
                 ranks->info[rank].pid);
    return buf;
}

int ranks_threads(const struct ranks *ranks, const struct plan_layout *layout)
{
    const struct rank_info *me = &ranks->info[ranks->me];
    double share = 0;
    int n_seen = 0;

    for (int core = 0; core < (int)(8 * sizeof me->cores); core++) {
        const uint64_t bit = UINT64_C(1) << core % 64;
        int n_sharing = 1; /* this rank */

        if ((me->cores[core / 64] & bit) == 0)
            continue;
        for (int rank = 0; rank < ranks->n; rank++)
            n_sharing += rank != ranks->me && ranks->info[rank].node == me->node &&
                         (layout == NULL || plan_layout_computes(layout, rank)) &&
                         (ranks->info[rank].cores[core / 64] & bit) != 0;
        share += 1.0 / n_sharing;
        n_seen++;
    }
    if (n_seen == 0) /* a host with more cores than the mask has bits */
        share = (double)me->n_cores / me->node_ranks;
    return share + 1e-9 >= 1 ? (int)(share + 1e-9) : 1;
}
