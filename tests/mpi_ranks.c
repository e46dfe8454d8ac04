/* TEST np: 1 2 4 */
/*
 * mpi_ranks.c - the processes of one job: who is there, do they agree, what do they share.
 *
 *   mpi_ranks                     all of it
 *   mpi_ranks abort|stuck|lone    one way of ending, for e2e_ranks.sh
 */
#include <dirent.h>
#include <math.h>
#include <signal.h>

#include "comm/ranks.h"
#include "mpi_test.h"

static void who_is_there(struct ranks *ranks)
{
    const int me = ranks_me(ranks), n = ranks_n(ranks);
    const struct rank_info *mine = ranks_info(ranks, me);
    char who[160], want[160];

    CHECK_INT(mine->pid, getpid());
    CHECK(mine->n_cores == threads_default_count() && mine->available_bytes > 0);
    int n_nodes = 0;
    for (int rank = 0; rank < n; rank++) { /* nodes are numbered as their first ranks come */
        const struct rank_info *info = ranks_info(ranks, rank);
        int before = 0, in_all = 0;

        for (int other = 0; other < n; other++) {
            const bool same = ranks_info(ranks, other)->node == info->node;

            before += same && other < rank;
            in_all += same;
        }
        CHECK(info->node == n_nodes || (info->node < n_nodes && before > 0));
        n_nodes += info->node == n_nodes;
        CHECK(info->node_rank == before && info->node_ranks == in_all);
        CHECK(info->node != mine->node || (info->pid == mine->pid) == (rank == me));
        if (info->node == mine->node)
            CHECK_STR(info->host, mine->host);
    }
    snprintf(want, sizeof want, "rank %d on %s, pid %d", me, mine->host, (int)getpid());
    CHECK_STR(ranks_who(ranks, NULL, me, who, sizeof who), want);
    CHECK(ranks_threads(ranks, NULL) >= 1);
}

/* On one host, as tests run, offsets are exact; measuring them must come to the same. */
static void clocks(struct ranks *ranks)
{
    const int me = ranks_me(ranks), n = ranks_n(ranks);
    double *starts = malloc((size_t)n * sizeof *starts), start_s = clock_start_s(), offset_s;

    CHECK(ranks_gather(ranks, &start_s, sizeof start_s, starts) == ST_OK);
    for (int rank = 0; rank < n; rank++)
        CHECK(ranks_info(ranks, rank)->clock_offset_s == starts[rank] - starts[0]);
    for (int rank = 1; rank < n; rank++) {
        if (me != 0 && me != rank)
            continue;
        CHECK(ranks_clock_measure(ranks, me == 0 ? rank : 0, &offset_s) == ST_OK);
        CHECK(fabs(offset_s - (starts[rank] - starts[0])) < 0.02); /* more ranks than cores */
    }
    free(starts);
}

static void gathers(struct ranks *ranks)
{
    static const size_t sizes[] = {1, 1000, 300001};
    const int me = ranks_me(ranks), n = ranks_n(ranks);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint8_t *mine = malloc(sizes[s]), *all = malloc(sizes[s] * (size_t)n);
        size_t wrong = 0;

        for (size_t i = 0; i < sizes[s]; i++)
            mine[i] = pattern(me, 0, s, i);
        CHECK(ranks_gather(ranks, mine, sizes[s], all) == ST_OK);
        for (size_t i = 0; i < sizes[s] * (size_t)n; i++)
            wrong += all[i] != pattern((int)(i / sizes[s]), 0, s, i % sizes[s]);
        CHECK_INT(wrong, 0);
        free(all);
        free(mine);
    }
}

static void agreement(struct ranks *ranks)
{
    const int me = ranks_me(ranks), n = ranks_n(ranks);
    char text[64], name[32];

    CHECK(ranks_agree(ranks, ST_OK, "loading", 10) == ST_OK);
    for (int bad = 0; bad < n; bad++) {
        snprintf(text, sizeof text, "no such file for rank %d", bad);
        snprintf(name, sizeof name, "rank %d on ", bad);
        if (me == bad)
            log_error("%s", text);
        CHECK(ranks_agree(ranks, me == bad ? ST_IO : ST_OK, "loading", 10) == ST_IO);
        if (me == 0)
            CHECK_HAS(log_last_error(), text);
        if (me == 0 && bad > 0)
            CHECK_HAS(log_last_error(), name);
    }
    if (n < 3)
        return;
    if (me > 0)
        log_error("reason of %d", me);
    const enum status mine = me == 0 ? ST_OK : me == 1 ? ST_FORMAT : ST_NOMEM;
    CHECK(ranks_agree(ranks, mine, "loading", 0) == ST_FORMAT); /* of the lowest that is not well */
    if (me == 0) {
        CHECK_HAS(log_last_error(), "reason of 1; ");
        snprintf(text, sizeof text, "; %d other rank%s failed too", n - 2, n > 3 ? "s" : "");
        CHECK_HAS(log_last_error(), text);
    }
}

static void sameness(struct ranks *ranks)
{
    const int me = ranks_me(ranks), n = ranks_n(ranks);

    CHECK(ranks_same(ranks, "job file", 42, "use one") == ST_OK);
    if (n == 1)
        return;
    CHECK(ranks_same(ranks, "job file", me == n - 1, "use one") == ST_CONFIG);
    if (me == 0) {
        char name[32];

        snprintf(name, sizeof name, "job file: rank %d on", n - 1);
        CHECK_HAS(log_last_error(), name);
        CHECK_HAS(log_last_error(), "than rank 0 on");
        CHECK_HAS(log_last_error(), ": use one");
    }
}

/* Entries of /dev/shm with our name. */
static int n_segments(void)
{
    DIR *dir = opendir("/dev/shm");
    int n = 0;

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += strstr(entry->d_name, "epidote") != NULL;
    if (dir != NULL)
        closedir(dir);
    return n;
}

static void sharing(struct ranks *ranks)
{
    static const size_t sizes[] = {1, 4096, 5000001};
    const struct rank_info *mine = ranks_info(ranks, ranks_me(ranks));
    const size_t me = (size_t)mine->node_rank, n = (size_t)mine->node_ranks;
    struct row_error why = {""};

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t n_bytes = sizes[s];
        uint8_t *base = NULL;
        size_t wrong = 0;

        CHECK(ranks_share(ranks, n_bytes, (void **)&base, &why) == ST_OK);
        CHECK_STR(why.text, "");
        CHECK(base != NULL && (uintptr_t)base % 64 == 0);
        if (base == NULL)
            continue;
        for (size_t i = 0; i < n_bytes; i++)
            wrong += base[i] != 0;
        CHECK_INT(wrong, 0);
        CHECK(ranks_agree(ranks, ST_OK, "looking", 10) == ST_OK);
        for (size_t i = me; i < n_bytes; i += n) /* each writes its own; nodes differ */
            base[i] = pattern((int)(i % n), mine->node, s, i);
        CHECK(ranks_agree(ranks, ST_OK, "writing", 10) == ST_OK);
        for (size_t i = 0; i < n_bytes; i++)
            wrong += base[i] != pattern((int)(i % n), mine->node, s, i);
        CHECK_INT(wrong, 0);
        CHECK_INT(n_segments(), 0);
        ranks_unshare(base, n_bytes);
    }
    void *none = &why;
    CHECK(ranks_share(ranks, 0, &none, &why) == ST_OK); /* none is wanted */
    CHECK(none == NULL);
    CHECK_STR(why.text, "");
    CHECK(ranks_share(ranks, (size_t)1 << 60, &none, &why) == ST_OK);
    CHECK(none == NULL);
    CHECK_HAS(why.text, "1152921504606846976 bytes");
}

/* Others wait for rank 0, which is slow, without burning a core. */
static void waiting_is_cheap(struct ranks *ranks)
{
    const double begin_cpu_s = cpu_s(), begin_s = clock_now_s();

    if (ranks_me(ranks) == 0)
        clock_sleep_us(1000000);
    CHECK(ranks_agree(ranks, ST_OK, "sleeping", 30) == ST_OK);
    CHECK(cpu_s() - begin_cpu_s <= 0.05 * (clock_now_s() - begin_s));
}

/* The last rank comes too late: all get to know, and rank 0 says which it was.  Nothing collective
 * works after this. */
static void one_is_missing(struct ranks *ranks)
{
    const int me = ranks_me(ranks), n = ranks_n(ranks);
    const double begin_s = clock_now_s();
    char name[32];

    if (me == n - 1)
        clock_sleep_us(1500000);
    CHECK(ranks_agree(ranks, ST_OK, "loading the model", 0.3) == ST_COMM);
    if (me < n - 1)
        CHECK(clock_now_s() - begin_s < 1.4);
    if (me == 0) {
        snprintf(name, sizeof name, "rank %d on ", n - 1);
        CHECK_HAS(log_last_error(), name);
        CHECK_HAS(log_last_error(), "has not finished loading the model after 0.3 s");
    }
    CHECK(ranks_agree(ranks, ST_OK, "more", 10) == ST_COMM); /* at once */
}

/* Rank 0 keeps the others waiting for longer than their limit.  It lives and lets them know, and
 * they stay; or it is stopped, and they know who is missing. */
static int keep_waiting(struct ranks *ranks, bool silent)
{
    if (ranks_me(ranks) == 0 && silent)
        raise(SIGSTOP);
    if (ranks_me(ranks) == 0) {
        const double begin_s = clock_now_s();

        while (clock_now_s() - begin_s < 3.5) {
            CHECK(ranks_alive(ranks) == ST_OK);
            clock_sleep_us(1000);
        }
    }
    CHECK(ranks_agree(ranks, ST_OK, "waiting", 0.5) == (silent ? ST_COMM : ST_OK));
    CHECK_INT(ranks_missing(ranks), silent ? 0 : -1);
    if (!silent)
        return mpi_test_end(ranks, __FILE__);
    if (ranks_me(ranks) == ranks_n(ranks) - 1) {
        CHECK_HAS(log_last_error(), "rank 0 on ");
        ranks_abort(ranks, test_n_failed > 0 ? 9 : 5);
    }
    raise(SIGSTOP);
    return 9;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    struct ranks *ranks = NULL;

    if (ranks_begin(&ranks) != ST_OK)
        return 2;
    if (strcmp(way, "abort") == 0) { /* whatever the others do */
        printf("said before\n");
        if (ranks_me(ranks) == ranks_n(ranks) - 1)
            ranks_abort(ranks, 3);
        raise(SIGSTOP);
    }
    if (strcmp(way, "stuck") == 0) { /* rank 0 ends, the last rank never does */
        if (ranks_me(ranks) == ranks_n(ranks) - 1)
            raise(SIGSTOP);
        ranks_end(ranks, 0.5, 4);
        return 9;
    }
    if (strcmp(way, "lone") == 0) {
        printf("%d ranks\n", ranks_n(ranks));
        ranks_end(ranks, 1, 4);
        return 0;
    }
    if (strcmp(way, "slow") == 0 || strcmp(way, "silent") == 0)
        return keep_waiting(ranks, strcmp(way, "silent") == 0);
    who_is_there(ranks);
    clocks(ranks);
    gathers(ranks);
    agreement(ranks);
    sameness(ranks);
    sharing(ranks);
    if (ranks_n(ranks) > 1) {
        waiting_is_cheap(ranks);
        one_is_missing(ranks);
    }
    return mpi_test_end(ranks, __FILE__);
}
