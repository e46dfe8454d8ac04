/*
 * watch.c - whether all ranks live, what they do, and how all of them learn that one has failed.
 *
 *   all the time   BEAT ───► watch/0 ──BEAT──► all     each end hears that the other lives
 *   one fails      FAIL ───► watch/0 ──FAIL──► all     the run ends; who fails logs why, once
 *   one has ended  REPORT ─► watch/0                   its figures are complete
 *
 * A rank that is silent for most of peer_timeout_s is lost: watch/0 says so and fails for it.  If
 * that rank is 0, rank 1 does so in its place; the others give it time before they do.
 *
 * Whatever comes from a rank breaks its silence, if only a part of a long message: behind those of
 * many rows a BEAT may be late (world_n_heard).
 *
 * Silence counts only while this watch is awake: of the time between two polls no more than one
 * poll may take is counted, so a process that was stopped does not take its peers for lost.
 */
#include <stdarg.h>
#include <stdio.h>

#include "stage/stage.h"

/* Parts of peer_timeout_s. */
#define BEAT_PART 0.125 /* between two beats, and at most BEAT_MOST_S */
#define LOOK_PART 0.015 /* between two looks at who is silent */
#define POLL_PART 0.25  /* one poll, at most */
#define LOST_PART 0.8   /* silence of a lost rank */
#define LATE_PART 0.9   /* silence of rank 0, for those that leave it to rank 1 */
#define BEAT_MOST_S 1.0
/* What is left of a short peer_timeout_s after LOST_PART is too little for the launcher to end. */
#define END_S 1.2
#define LATE_S 0.6 /* the same after LATE_PART */

struct peer {
    struct wire_beat beat; /* the last that came */
    double heard_s;        /* when it was heard last, in time awake */
    uint32_t n_heard;      /* world_n_heard at that time */
    bool reported;         /* and says no more */
};

struct watch {
    struct stage base;
    struct watch_args args;
    int rank, n_ranks;
    struct peer *peers; /* [n_ranks] owned; rank 0 hears all, the others only rank 0 */
    int n_reported;
    bool begun;
    double begun_s, polled_s; /* the first poll and the last */
    double awake_s;           /* time that counts, since begun_s */
    double ending_s;          /* of that, until the coordinator ended; rank 0 only */
    double beat_s, look_s;    /* when the next ones are due */
    struct wire_fail failure; /* the first that is known; rank -1: none */
    bool told;                /* the others know of it */
    struct buf payload;       /* scratch */
};

static struct watch *self_of(struct stage *stage)
{
    return (struct watch *)stage;
}

static const struct watch *look_at(const struct stage *stage)
{
    return (const struct watch *)stage;
}

/* ---- what this rank does ---------------------------------------------------------------------- */

void beat_say(struct wire_beat *beat, const char *fmt, ...)
{
    size_t at = strlen(beat->doing);
    va_list args;

    if (at > 0 && at + 2 < sizeof beat->doing)
        at += (size_t)snprintf(beat->doing + at, sizeof beat->doing - at, "; ");
    va_start(args, fmt);
    vsnprintf(beat->doing + at, sizeof beat->doing - at, fmt, args);
    va_end(args);
}

static void describe_rank(const struct watch *self, struct wire_beat *beat)
{
    const struct watch_args *args = &self->args;

    *beat = (struct wire_beat){.rank = self->rank, .sent_s = clock_now_s()};
    if (self->begun)
        beat->elapsed_s = world_now_s(args->world) - self->begun_s;
    if (args->engine != NULL) {
        beat->busy_s = args->engine->stats.busy_s;
        beat->n_steps = args->engine->stats.n_steps;
        beat->n_prompt_tok = args->engine->stats.n_prompt_tok;
        beat->n_answer_tok = args->engine->stats.n_answer_tok;
    }
    if (args->link != NULL) {
        const struct link_figures figures = link_out_figures(args->link);

        beat->n_pieces = figures.n_pieces;
        beat->kv_bytes = figures.n_bytes;
    }
    for (int i = 0; i < MSG_COUNT; i++)
        beat->n_messages += world_n_sent(args->world)[i];
    for (int i = 0; i < args->n_stages; i++)
        if (args->stages[i]->ops->describe != NULL)
            args->stages[i]->ops->describe(args->stages[i], beat);
}

const struct wire_beat *watch_beat(const struct stage *watch, int rank)
{
    const struct watch *self = look_at(watch);
    struct wire_beat *beat = &self->peers[rank].beat;

    if (rank == self->rank) {
        describe_rank(self, beat);
        beat->memory_peak_bytes = host_memory_peak_bytes();
    }
    return beat;
}

static void add_encode(struct encode_figures *sum, const struct encode_figures *more)
{
    sum->n_images += more->n_images;
    sum->n_again += more->n_again;
    sum->n_uses += more->n_uses;
    sum->n_steps += more->n_steps;
    sum->n_bytes += more->n_bytes;
    sum->n_rows += more->n_rows;
    sum->busy_s += more->busy_s;
    sum->flop += more->flop;
    sum->exposed_s += more->exposed_s;
}

void watch_totals(const struct stage *watch, struct wire_beat *out_totals)
{
    const struct watch *self = look_at(watch);
    struct wire_beat sum = {.rank = self->rank};

    for (int rank = 0; rank < self->n_ranks; rank++) {
        const struct wire_beat *beat = watch_beat(watch, rank);

        sum.n_rows += beat->n_rows;
        sum.elapsed_s = beat->elapsed_s > sum.elapsed_s ? beat->elapsed_s : sum.elapsed_s;
        sum.busy_s += beat->busy_s;
        sum.n_steps += beat->n_steps;
        sum.n_prompt_tok += beat->n_prompt_tok;
        sum.n_answer_tok += beat->n_answer_tok;
        sum.n_messages += beat->n_messages;
        sum.n_pieces += beat->n_pieces;
        sum.kv_bytes += beat->kv_bytes;
        sum.n_handed += beat->n_handed;
        sum.exposed_s += beat->exposed_s;
        sum.prefill_s += beat->prefill_s;
        add_encode(&sum.encode, &beat->encode);
        sum.memory_peak_bytes += beat->memory_peak_bytes;
    }
    *out_totals = sum;
}

/* BEAT or REPORT to one rank. */
static enum status send_beat(struct watch *self, enum msg_type type, int rank)
{
    return world_send(self->args.world, type, self->base.at, (struct address){ROLE_WATCH, rank},
                      self->payload.data, self->payload.n_bytes);
}

static enum status send_beats(struct watch *self)
{
    enum status st;
    struct wire_beat beat;

    describe_rank(self, &beat);
    buf_reset(&self->payload);
    TRY(wire_beat_pack(&beat, &self->payload), err);
    if (self->rank != 0)
        return send_beat(self, MSG_BEAT, 0);
    for (int rank = 1; rank < self->n_ranks; rank++)
        if (!self->peers[rank].reported)
            TRY(send_beat(self, MSG_BEAT, rank), err);
err:
    return st;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static bool others_ended(const struct watch *self)
{
    for (int i = 0; i < self->args.n_stages; i++)
        if (self->args.stages[i] != &self->base && !self->args.stages[i]->ended)
            return false;
    return true;
}

static bool coordinator_ended(const struct watch *self)
{
    for (int i = 0; i < self->args.n_stages; i++)
        if (self->args.stages[i]->at.role == ROLE_COORDINATOR)
            return self->args.stages[i]->ended;
    return false;
}

/* The other stages have ended: report, and stay until all that this rank sent has left; or, on rank
 * 0, until all have reported. */
static enum status wind_up(struct watch *self)
{
    enum status st;
    struct peer *me = &self->peers[self->rank];

    if (self->rank == 0) {
        self->base.ended = self->n_reported == self->n_ranks - 1;
        return ST_OK;
    }
    if (!me->reported) {
        buf_reset(&self->payload);
        TRY(wire_beat_pack(watch_beat(&self->base, self->rank), &self->payload), err);
        TRY(send_beat(self, MSG_REPORT, 0), err);
        me->reported = true;
    }
    self->base.ended = world_flushed(self->args.world);
    return ST_OK;
err:
    return st;
}

/* The first failure counts. */
static void note_failure(struct watch *self, int rank, enum status st, const char *message)
{
    self->failure = (struct wire_fail){.rank = rank, .status = (int32_t)st};
    snprintf(self->failure.message, sizeof self->failure.message, "%s", message);
}

static enum status send_failure(struct watch *self, int rank)
{
    return world_send(self->args.world, MSG_FAIL, self->base.at, (struct address){ROLE_WATCH, rank},
                      self->payload.data, self->payload.n_bytes);
}

/* To all that can still hear it; the rank whose failure it is, if it lives, so learns that all
 * know.
 */
static enum status tell_all(struct watch *self, int lost)
{
    enum status st;

    buf_reset(&self->payload);
    TRY(wire_fail_pack(&self->failure, &self->payload), err);
    for (int rank = 0; rank < self->n_ranks; rank++)
        if (rank != self->rank && rank != lost && !self->peers[rank].reported)
            TRY(send_failure(self, rank), err);
    self->told = true;
err:
    return st;
}

enum status watch_fail(struct stage *watch, enum status failed_st, const char *message)
{
    enum status st;
    struct watch *self = self_of(watch);

    if (self->failure.rank >= 0)
        return ST_OK;
    note_failure(self, self->rank, failed_st, message);
    if (self->rank == 0)
        return tell_all(self, -1);
    buf_reset(&self->payload);
    TRY(wire_fail_pack(&self->failure, &self->payload), err);
    return send_failure(self, 0); /* it comes back from there: then the others know */
err:
    return st;
}

bool watch_told(const struct stage *watch)
{
    return look_at(watch)->told;
}

const struct wire_fail *watch_failure(const struct stage *watch)
{
    return &look_at(watch)->failure;
}

/* ---- lost ranks ------------------------------------------------------------------------------- */

static enum status look_at_peer(struct watch *self, int rank, double limit_s)
{
    enum status st;
    struct peer *peer = &self->peers[rank];
    const uint32_t n_heard = world_n_heard(self->args.world, rank);

    if (n_heard != peer->n_heard) {
        peer->n_heard = n_heard;
        peer->heard_s = self->awake_s;
    }
    const double silent_s = self->awake_s - peer->heard_s;
    char message[sizeof self->failure.message];

    if (peer->reported || silent_s < limit_s)
        return ST_OK;
    snprintf(
        message, sizeof message,
        "%s has been silent for %.1f s (peer_timeout_s = %g): it has died, was stopped or cannot "
        "be reached; it last said: %s; look at its host, then start the same command again, "
        "finished rows are kept",
        self->args.who[rank], silent_s, self->args.peer_timeout_s,
        peer->beat.doing[0] != '\0' ? peer->beat.doing : "nothing");
    if (self->rank == 0) /* of rank 0 many ranks hear nothing: who tells is found when they end */
        log_error("%s", message);
    note_failure(self, rank, ST_COMM, message);
    self->failure.lost = true;
    TRY(tell_all(self, rank), err);
    return ST_COMM;
err:
    return st;
}

/* How much silence is a loss, so that the run is over within peer_timeout_s. */
static double lost_after_s(const struct watch *self, double part, double end_s)
{
    const double timeout_s = self->args.peer_timeout_s;

    return part * timeout_s < timeout_s - end_s ? part * timeout_s : timeout_s - end_s;
}

/* Rank 0, when all rows are written: all ranks are to end soon.  One that does not may wait for a
 * rank that ended, said so, and was lost after that: nobody misses it any more. */
static enum status look_at_end(struct watch *self)
{
    enum status st;
    int rank = 0;
    char message[sizeof self->failure.message];

    if (!coordinator_ended(self))
        self->ending_s = self->awake_s;
    const double ending_s = self->awake_s - self->ending_s;
    if (ending_s < lost_after_s(self, LOST_PART, END_S))
        return ST_OK;
    while (rank + 1 < self->n_ranks &&
           (rank == 0 ? others_ended(self) : self->peers[rank].reported))
        rank++;
    snprintf(message, sizeof message,
             "all rows are written, but %s has not ended for %.1f s (peer_timeout_s = %g): it may "
             "wait for a rank that has died; it last said: %s; start the same command again, it "
             "has only to merge",
             self->args.who[rank], ending_s, self->args.peer_timeout_s,
             watch_beat(&self->base, rank)->doing);
    log_error("%s", message);
    note_failure(self, rank, ST_COMM, message);
    TRY(tell_all(self, -1), err);
    return ST_COMM;
err:
    return st;
}

static enum status look_for_lost(struct watch *self)
{
    enum status st = ST_OK;
    const double limit_s = self->rank <= 1 ? lost_after_s(self, LOST_PART, END_S)
                                           : lost_after_s(self, LATE_PART, LATE_S);

    if (self->rank != 0)
        return look_at_peer(self, 0, limit_s);
    for (int rank = 1; st == ST_OK && rank < self->n_ranks; rank++)
        st = look_at_peer(self, rank, limit_s);
    return st == ST_OK ? look_at_end(self) : st;
}

/* ---- the stage -------------------------------------------------------------------------------- */

static enum status take_beat(struct watch *self, const struct msg *msg)
{
    enum status st;
    struct wire_beat beat;
    struct peer *peer = &self->peers[msg->from.index];

    TRY(wire_beat_unpack(msg->payload, msg->n_bytes, &beat), err);
    if (beat.rank != msg->from.index) {
        log_error("%s of rank %d came from rank %d: the ranks do not run one job",
                  msg_name(msg->type), beat.rank, msg->from.index);
        return ST_COMM;
    }
    peer->beat = beat;
    if (msg->type == MSG_REPORT && !peer->reported) {
        peer->reported = true;
        self->n_reported++;
    }
err:
    return st;
}

static enum status take_fail(struct watch *self, const struct msg *msg)
{
    enum status st;
    struct wire_fail fail;

    TRY(wire_fail_unpack(msg->payload, msg->n_bytes, &fail), err);
    if (self->rank != 0)
        self->told = true; /* it comes from the one that tells all */
    if (self->failure.rank >= 0)
        return ST_OK;
    self->failure = fail;
    if (self->rank == 0) {
        TRY(tell_all(self, -1), err); /* that rank has logged it */
    }
    return (enum status)fail.status;
err:
    return st;
}

static enum status on_message(struct stage *stage, struct msg *msg)
{
    struct watch *self = self_of(stage);
    enum status st;

    self->peers[msg->from.index].heard_s = self->awake_s;
    st = msg->type == MSG_FAIL ? take_fail(self, msg) : take_beat(self, msg);
    msg_free(msg);
    return st;
}

static void tick(struct watch *self, double now_s)
{
    const double most_s = POLL_PART * self->args.peer_timeout_s;

    if (!self->begun) {
        self->begun = true;
        self->begun_s = self->polled_s = self->beat_s = self->look_s = now_s;
    }
    const double since_s = now_s - self->polled_s;
    self->awake_s += since_s < most_s ? since_s : most_s;
    self->polled_s = now_s;
}

static enum status poll(struct stage *stage, bool *out_worked)
{
    enum status st = ST_OK;
    struct watch *self = self_of(stage);
    const double now_s = world_now_s(self->args.world), timeout_s = self->args.peer_timeout_s;

    (void)out_worked; /* a beat is no reason to look for work sooner */
    if (self->failure.rank >= 0)
        return ST_OK;
    tick(self, now_s);
    if (others_ended(self))
        TRY(wind_up(self), err);
    if (stage->ended)
        return ST_OK;
    if (now_s >= self->beat_s && !self->peers[self->rank].reported) {
        const double every_s = BEAT_PART * timeout_s;

        TRY(send_beats(self), err);
        self->beat_s = now_s + (every_s < BEAT_MOST_S ? every_s : BEAT_MOST_S);
    }
    if (now_s >= self->look_s) {
        self->look_s = now_s + LOOK_PART * timeout_s;
        st = look_for_lost(self);
    }
err:
    return st;
}

static void destroy(struct stage *stage)
{
    struct watch *self = self_of(stage);

    buf_free(&self->payload);
    host_free(self->peers);
    host_free(self);
}

static const struct stage_ops watch_ops = {on_message, poll, NULL, destroy};

enum status watch_create(const struct watch_args *args, struct stage **out_stage)
{
    struct watch *self = host_zalloc(sizeof *self);

    if (self == NULL)
        return ST_NOMEM;
    self->rank = world_rank(args->world);
    self->n_ranks = world_layout(args->world)->n_ranks;
    self->base = (struct stage){.ops = &watch_ops, .at = {ROLE_WATCH, self->rank}};
    self->args = *args;
    self->failure.rank = -1;
    self->peers = host_zalloc((size_t)self->n_ranks * sizeof *self->peers);
    if (self->peers == NULL) {
        destroy(&self->base);
        return ST_NOMEM;
    }
    *out_stage = &self->base;
    return ST_OK;
}
