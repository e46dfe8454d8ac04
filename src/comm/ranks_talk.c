/*
 * ranks_talk.c - exchanges between all ranks outside the loop: agree, same, gather.
 *
 * Each is a star: everybody tells rank 0, rank 0 tells everybody.  MPI's own collectives would burn
 * a core while a rank waits for a slow one, and could not say which one that is.  Rank 0 knows who
 * is missing, gives up for all, and its answer says so.
 *
 *   rank 0     receives from all ─ decide ─ sends to all
 *   others     send ──────────────────────── receive
 *
 * The others' patience is with rank 0's silence: while it waits for a slow rank, or works at
 * something that all wait for (ranks_alive), it lets them know each second that it lives.
 */
#include <stdio.h>

#include "comm/ranks.h"

enum { TALK_MAGIC = 0x6b6c6154 }; /* "Talk" */
#define GRACE_S 1.0  /* how much longer others wait for word of rank 0 than it waits for them */
#define ANSWER_S 5.0 /* for those that still listen to hear who is missing */
#define NEWS_S 10.0  /* when rank 0 first says whom it waits for */
#define NOTE_S 1.0   /* between two notes of rank 0 that it lives */

struct talk_head {          /* before the bytes of both directions */
    uint32_t magic, number; /* of the exchange: ranks at different places do not mix */
    int32_t from;
    int32_t missing; /* from rank 0: who did not come, -1 = nobody */
    uint64_t n_bytes;
};

/* Requests of one direction: requests[i] is about rank first_rank + i. */
struct wait {
    struct ranks *ranks;
    const struct talk *talk;
    MPI_Request *requests;
    int n, first_rank;
    bool leads; /* rank 0: say now and then whom this waits for, and that it lives */
};

/* ---- notes that rank 0 lives ------------------------------------------------------------------- */

enum status ranks_alive(struct ranks *ranks)
{
    static const char doing[] = "telling that rank 0 lives";
    enum status st = ST_OK;
    const double now_s = clock_now_s();

    if (ranks->n == 1 || ranks->me != 0 || ranks->broken || now_s - ranks->noted_s < NOTE_S)
        return ST_OK;
    ranks->noted_s = now_s;
    for (int rank = 1; rank < ranks->n; rank++) {
        int done = 0; /* a rank that takes none is sent no more */

        TRY(ranks_mpi(MPI_Test(&ranks->notes[rank], &done, MPI_STATUS_IGNORE), doing), err);
        if (done)
            TRY(ranks_mpi(
                    MPI_Isend(NULL, 0, MPI_BYTE, rank, TAG_ALIVE, ranks->all, &ranks->notes[rank]),
                    doing),
                err);
    }
err:
    return st;
}

/* Whether a note has come since this was asked last. */
static enum status take_notes(struct ranks *ranks, bool *out_any)
{
    static const char doing[] = "hearing of rank 0";
    enum status st = ST_OK;
    int there = 1;

    *out_any = false;
    while (there) {
        TRY(ranks_mpi(MPI_Iprobe(0, TAG_ALIVE, ranks->all, &there, MPI_STATUS_IGNORE), doing), err);
        if (there) { /* the message is here: this does not wait */
            TRY(ranks_mpi(MPI_Recv(NULL, 0, MPI_BYTE, 0, TAG_ALIVE, ranks->all, MPI_STATUS_IGNORE),
                          doing),
                err);
            *out_any = true;
        }
    }
err:
    return st;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

/* Test in turn until all have ended; testing one moves all.
 * Returns ST_OK, ST_AGAIN (time is up; *out_missing), ST_COMM (logged). */
static enum status wait_all(const struct wait *wait, double limit_s, int *out_missing)
{
    double begin_s = clock_now_s(), news_s = NEWS_S;
    int next = 0, rest_us = 0;
    bool noted;
    char who[160];

    for (;;) {
        while (next < wait->n) {
            int done = 0;

            if (ranks_mpi(MPI_Test(&wait->requests[next], &done, MPI_STATUS_IGNORE),
                          wait->talk->doing) != ST_OK)
                return ST_COMM;
            if (!done)
                break;
            next++;
        }
        if (next == wait->n)
            return ST_OK;
        if (wait->leads && ranks_alive(wait->ranks) != ST_OK)
            return ST_COMM;
        if (!wait->leads && take_notes(wait->ranks, &noted) != ST_OK)
            return ST_COMM;
        if (!wait->leads && noted)
            begin_s = clock_now_s();
        const double waited_s = clock_now_s() - begin_s;
        if (limit_s > 0 && waited_s >= limit_s) {
            *out_missing = wait->first_rank + next;
            return ST_AGAIN;
        }
        if (wait->leads && waited_s >= news_s) {
            ranks_who(wait->ranks, NULL, wait->first_rank + next, who, sizeof who);
            log_info("waiting for %s, which has not finished %s after %.0f s", who,
                     wait->talk->doing, waited_s);
            news_s *= 2;
        }
        ranks_rest(&rest_us);
    }
}

static void log_missing(const struct ranks *ranks, const struct talk *talk, int rank,
                        double limit_s)
{
    char who[160];

    ranks_who(ranks, NULL, rank, who, sizeof who);
    log_error("%s has not finished %s after %.3g s", who, talk->doing, limit_s);
}

static struct talk_head head_of(const struct ranks *ranks, size_t n_bytes)
{
    return (struct talk_head){.magic = TALK_MAGIC,
                              .number = ranks->n_talks,
                              .from = ranks->me,
                              .missing = -1,
                              .n_bytes = n_bytes};
}

/* Whether bytes that came are of this exchange. */
static enum status check_head(const struct ranks *ranks, const struct talk *talk,
                              const struct talk_head *head, int from, size_t n_bytes)
{
    char who[160];

    if (head->magic == TALK_MAGIC && head->number == ranks->n_talks && head->from == from &&
        head->n_bytes == n_bytes)
        return ST_OK;
    ranks_who(ranks, NULL, from, who, sizeof who);
    log_error("%s is at exchange %u with %llu bytes, this rank at %u with %zu (%s): do all ranks "
              "run the same program?",
              who, head->number, (unsigned long long)head->n_bytes, ranks->n_talks, n_bytes,
              talk->doing);
    return ST_COMM;
}

/* ---- the two ends of the star ------------------------------------------------------------------ */

/* What MPI still holds when an exchange fails stays allocated: the job ends then. */

static enum status talk_to_first(struct ranks *ranks, const struct talk *talk, const void *mine,
                                 void *out_down)
{
    enum status st = ST_NOMEM;
    const size_t up_bytes = sizeof(struct talk_head) + talk->n_up;
    const size_t down_bytes = sizeof(struct talk_head) + talk->n_down;
    uint8_t *up = host_alloc(up_bytes), *down = host_alloc(down_bytes);
    MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    struct talk_head head = head_of(ranks, talk->n_up);
    int missing;

    if (up == NULL || down == NULL)
        goto err_free;
    memcpy(up, &head, sizeof head);
    memcpy(up + sizeof head, mine, talk->n_up);
    TRY(ranks_mpi(
            MPI_Irecv(down, (int)down_bytes, MPI_BYTE, 0, TAG_TALK_DOWN, ranks->all, &requests[0]),
            talk->doing),
        err);
    TRY(ranks_mpi(MPI_Isend(up, (int)up_bytes, MPI_BYTE, 0, TAG_TALK_UP, ranks->all, &requests[1]),
                  talk->doing),
        err);
    const double limit_s = talk->limit_s > 0 ? talk->limit_s + GRACE_S : 0;
    st = wait_all(&(struct wait){ranks, talk, requests, 2, 0, false}, limit_s, &missing);
    if (st == ST_AGAIN) {
        ranks->missing = 0;
        log_missing(ranks, talk, 0, limit_s);
    }
    if (st != ST_OK)
        goto err;
    memcpy(&head, down, sizeof head);
    TRY(check_head(ranks, talk, &head, 0, talk->n_down), err_free);
    if (head.missing < 0) {
        memcpy(out_down, down + sizeof head, talk->n_down);
    } else {
        ranks->missing = head.missing; /* rank 0 has said so */
        st = ST_COMM;
    }
err_free:
    host_free(down);
    host_free(up);
    return st;
err:
    return ST_COMM;
}

/* Send rank 0's answer, or who is missing, to all that may still listen. */
static enum status answer(struct ranks *ranks, const struct talk *talk, uint8_t *down, int missing)
{
    enum status st = ST_OK;
    const size_t down_bytes = sizeof(struct talk_head) + talk->n_down;
    struct talk_head head = head_of(ranks, talk->n_down);
    MPI_Request *requests = host_alloc((size_t)ranks->n * sizeof *requests);
    int late = -1, n = 0;

    if (requests == NULL)
        return ST_NOMEM;
    head.missing = missing;
    memcpy(down, &head, sizeof head);
    for (int rank = 1; rank < ranks->n; rank++)
        TRY(ranks_mpi(MPI_Isend(down, (int)down_bytes, MPI_BYTE, rank, TAG_TALK_DOWN, ranks->all,
                                &requests[n++]),
                      talk->doing),
            err);
    const double limit_s = missing >= 0 ? ANSWER_S : RANKS_PATIENCE_S;
    st = wait_all(&(struct wait){ranks, talk, requests, n, 1, true}, limit_s, &late);
    if (st == ST_AGAIN && missing < 0) {
        ranks->missing = late;
        log_missing(ranks, talk, late, limit_s);
    }
    if (st != ST_OK)
        goto err;
    host_free(requests);
    return ST_OK;
err: /* requests and down stay: MPI may read them */
    return ST_COMM;
}

static enum status talk_as_first(struct ranks *ranks, const struct talk *talk, const void *mine,
                                 void *out_down)
{
    enum status st = ST_NOMEM;
    const size_t up_bytes = sizeof(struct talk_head) + talk->n_up;
    const int n_others = ranks->n - 1;
    uint8_t *in = host_alloc((size_t)n_others * up_bytes);
    uint8_t *ups = host_alloc((size_t)ranks->n * talk->n_up);
    uint8_t *down = host_zalloc(sizeof(struct talk_head) + talk->n_down);
    MPI_Request *requests = host_alloc((size_t)ranks->n * sizeof *requests);
    int missing = -1;

    if (in == NULL || ups == NULL || down == NULL || requests == NULL)
        goto err_free;
    for (int i = 0; i < n_others; i++)
        TRY(ranks_mpi(MPI_Irecv(in + (size_t)i * up_bytes, (int)up_bytes, MPI_BYTE, i + 1,
                                TAG_TALK_UP, ranks->all, &requests[i]),
                      talk->doing),
            err);
    st =
        wait_all(&(struct wait){ranks, talk, requests, n_others, 1, true}, talk->limit_s, &missing);
    if (st == ST_AGAIN) {
        ranks->missing = missing;
        log_missing(ranks, talk, missing, talk->limit_s);
        if (answer(ranks, talk, down, missing) != ST_OK)
            log_debug("not all ranks could be told");
    }
    if (st != ST_OK)
        goto err;
    memcpy(ups, mine, talk->n_up);
    for (int i = 0; i < n_others; i++) {
        struct talk_head head;

        memcpy(&head, in + (size_t)i * up_bytes, sizeof head);
        TRY(check_head(ranks, talk, &head, i + 1, talk->n_up), err);
        memcpy(ups + (size_t)(i + 1) * talk->n_up, in + (size_t)i * up_bytes + sizeof head,
               talk->n_up);
    }
    talk->decide(ranks, talk, ups, down + sizeof(struct talk_head));
    TRY(answer(ranks, talk, down, -1), err);
    memcpy(out_down, down + sizeof(struct talk_head), talk->n_down);
err_free:
    host_free(requests);
    host_free(down);
    host_free(ups);
    host_free(in);
    return st;
err:
    return ST_COMM;
}

enum status ranks_talk(struct ranks *ranks, const struct talk *talk, const void *mine,
                       void *out_down)
{
    if (ranks->n == 1) {
        talk->decide(ranks, talk, mine, out_down);
        return ST_OK;
    }
    if (ranks->broken)
        return ST_COMM;
    ranks->n_talks++;
    const size_t n_most = talk->n_up > talk->n_down ? talk->n_up : talk->n_down;
    if (n_most > INT32_MAX - sizeof(struct talk_head)) {
        log_error("%s: %zu bytes for an exchange between ranks are over its 2 GiB", talk->doing,
                  n_most);
        return ST_COMM; /* the same on all ranks */
    }
    const enum status st = ranks->me == 0 ? talk_as_first(ranks, talk, mine, out_down)
                                          : talk_to_first(ranks, talk, mine, out_down);
    ranks->broken = st != ST_OK;
    return st;
}

/* ---- gather ------------------------------------------------------------------------------------ */

static void decide_gather(const struct ranks *ranks, const struct talk *talk, const uint8_t *ups,
                          uint8_t *down)
{
    (void)ranks;
    memcpy(down, ups, talk->n_down);
}

enum status ranks_gather(struct ranks *ranks, const void *mine, size_t n_bytes, void *out_all)
{
    const struct talk talk = {
        .doing = "starting up",
        .limit_s = RANKS_PATIENCE_S,
        .n_up = n_bytes,
        .n_down = (size_t)ranks->n * n_bytes,
        .decide = decide_gather,
    };

    return ranks_talk(ranks, &talk, mine, out_all);
}

/* ---- agree ------------------------------------------------------------------------------------- */

struct report { /* how a rank is */
    int32_t st;
    char error[508];
};

static void decide_agree(const struct ranks *ranks, const struct talk *talk, const uint8_t *ups,
                         uint8_t *down)
{
    const struct report *reports = (const struct report *)(const void *)ups;
    char who[160], others[64] = "";
    int32_t verdict = ST_OK;
    int first = -1, n_bad = 0;

    for (int rank = 0; rank < ranks->n; rank++) {
        if (reports[rank].st == ST_OK)
            continue;
        n_bad++;
        if (first < 0)
            first = rank;
    }
    if (first >= 0)
        verdict = reports[first].st;
    if (n_bad > 1)
        snprintf(others, sizeof others, "; %d other rank%s failed too", n_bad - 1,
                 n_bad > 2 ? "s" : "");
    if (first > 0 && verdict != ST_STOPPED) { /* what rank 0 failed with, it has logged itself */
        ranks_who(ranks, NULL, first, who, sizeof who);
        log_error("%s failed %s: %s%s", who, talk->doing,
                  reports[first].error[0] != '\0' ? reports[first].error
                                                  : status_name((enum status)verdict),
                  others);
    }
    memcpy(down, &verdict, sizeof verdict);
}

enum status ranks_agree(struct ranks *ranks, enum status mine, const char *doing, double limit_s)
{
    enum status st;
    struct report report = {.st = (int32_t)mine};
    int32_t verdict;
    const struct talk talk = {
        .doing = doing,
        .limit_s = limit_s,
        .n_up = sizeof report,
        .n_down = sizeof verdict,
        .decide = decide_agree,
    };

    if (mine != ST_OK)
        snprintf(report.error, sizeof report.error, "%.*s", (int)sizeof report.error - 1,
                 log_last_error());
    TRY(ranks_talk(ranks, &talk, &report, &verdict), err);
    return (enum status)verdict;
err:
    return st;
}

/* ---- same -------------------------------------------------------------------------------------- */

static void decide_same(const struct ranks *ranks, const struct talk *talk, const uint8_t *ups,
                        uint8_t *down)
{
    const uint64_t *values = (const uint64_t *)(const void *)ups;
    int32_t other = -1;

    (void)talk;
    for (int rank = ranks->n - 1; rank > 0; rank--)
        if (values[rank] != values[0])
            other = rank;
    memcpy(down, &other, sizeof other);
}

enum status ranks_same(struct ranks *ranks, const char *what, uint64_t value, const char *remedy)
{
    enum status st;
    char who[160], first[160];
    int32_t other;
    const struct talk talk = {
        .doing = "starting up",
        .limit_s = RANKS_PATIENCE_S,
        .n_up = sizeof value,
        .n_down = sizeof other,
        .decide = decide_same,
    };

    TRY(ranks_talk(ranks, &talk, &value, &other), err);
    if (other < 0)
        return ST_OK;
    if (ranks->me == 0)
        log_error("%s: %s has another than %s: %s", what,
                  ranks_who(ranks, NULL, other, who, sizeof who),
                  ranks_who(ranks, NULL, 0, first, sizeof first), remedy);
    return ST_CONFIG;
err:
    return st;
}
