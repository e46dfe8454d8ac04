/*
 * run.c - `epidote run`, on every rank: set the house up, turn the loop, write the results, say how
 * it went.
 *
 *   prepare   same program, job, model, prompts everywhere? ─► who does what ─► what is done
 *   serve     weights, KV, engine, links, stages (machine.c) ─► loop
 *   finish    rank 0 merges the logs into RESULTS; the others wait
 *   end       the outcome: printed, beside RESULTS, and what every rank exits with
 *
 * Up to the loop and after it the ranks move together (crew_together): what one fails with, all
 * fail with, and they part in order.  A run that breaks off in the loop cannot do that: its ranks
 * may be dead, stopped or deep in a layer.  Then rank 0 writes down why and ends them all.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "stage/report.h"

/* For the launcher to learn that all ranks have to end. */
#define LEAVE_LIMIT_S 0.4
/* For rank 0 to write down how it ended, before the others end the run themselves: this, or
 * peer_timeout_s if that is longer, for its last sync may be slow. */
#define END_PATIENCE_S 10.0
/* Of peer_timeout_s: how long ranks wait for each other once the loop has ended well. */
#define END_PART 0.6

struct run {
    const struct job *job; /* borrowed; NULL = could not be loaded here */
    const char *program;
    int role; /* that this rank was started for, -1 = none */
    struct warden *warden;
    struct crew crew;
    struct session session;
    struct journal *journal;   /* rank 0 */
    struct image_needs images; /* rank 0 */
    struct figures figures;
    bool begun;    /* the job was right: from here on only the machine can be to blame */
    bool apart;    /* the ranks cannot meet again */
    int lost;      /* rank that is to blame for that; -1 = none */
    bool told;     /* another rank has logged why */
    char why[512]; /* what ended the run, once it is known */
};

static bool leads(const struct run *run)
{
    return run->crew.me == 0;
}

/* What ended the run, for people; cut at its end. */
__attribute__((format(printf, 2, 3))) static void set_why(struct run *run, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(run->why, sizeof run->why, fmt, args);
    va_end(args);
}

static void set_cause(struct run *run, const struct warden_cause *cause)
{
    warden_describe(cause, run->why, sizeof run->why);
}

/* ---- prepare --------------------------------------------------------------------------------- */

static enum status open_journal(struct run *run)
{
    enum status st;
    struct journal_counts *counts = &run->figures.counts;

    TRY(session_identify(&run->session), err);
    TRY(session_journal(&run->session, false, &run->journal), err);
    warden_guard(run->warden, run->job->results);
    journal_counts(run->journal, counts);
    if (journal_complete(run->journal)) {
        log_info("%s is complete: nothing to do", run->job->results);
        counts->n_attempts = 0; /* not known: the logs that would say are gone */
        return ST_OK;
    }
    log_info("rows %llu:%llu of %s: %llu to do, %llu found done",
             (unsigned long long)run->session.rows_begin, (unsigned long long)run->session.rows_end,
             run->job->prompts, (unsigned long long)(counts->n_rows - counts->n_kept),
             (unsigned long long)counts->n_kept);
    const uint64_t n_todo = counts->n_rows - counts->n_kept;
    const int n_idle = crew_idle(&run->crew.layout, n_todo);
    if (n_todo > 0 && n_idle > 0)
        log_warn("%d of %d ranks will have nothing to do: there are %llu rows left; start fewer",
                 n_idle, run->crew.n, (unsigned long long)n_todo);
err:
    return st;
}

/* Images are read once, by rank 0, while the others wait. */
static enum status look_at_images(void *arg)
{
    struct run *run = arg;

    return session_look_at_images(&run->session, run->journal, &run->images);
}

/* What rank 0 alone knows, told to all. */
static enum status tell_all(struct run *run, uint64_t mine, const char *doing,
                            uint64_t *out_of_rank_0)
{
    enum status st = ST_NOMEM;
    struct crew *crew = &run->crew;
    uint64_t *all = host_alloc((size_t)crew->n * sizeof *all);

    TRY(crew_together(crew, all != NULL ? ST_OK : ST_NOMEM, doing), err);
    TRY(ranks_gather(crew->ranks, &mine, sizeof mine, all), err);
    *out_of_rank_0 = all[0];
err:
    host_free(all);
    return st;
}

/* Everything that can be wrong with a job.  *out_n_todo: rows to compute. */
static enum status prepare(struct run *run, uint64_t *out_n_todo)
{
    enum status st;
    struct crew *crew = &run->crew;
    int n_blocks;

    TRY(crew_same_job(crew, run->job, run->program), err);
    TRY(crew_take_roles(crew, run->role), err);
    /* Rank 0 first, so that what is wrong with a file is found, and told, once. */
    st = leads(run) ? session_open(run->job, crew->n, &run->session) : ST_OK;
    TRY(crew_together(crew, st, "reading model and prompt file"), err);
    st = leads(run) ? ST_OK : session_open(run->job, crew->n, &run->session);
    TRY(crew_together(crew, st, "opening model and prompt file"), err);
    TRY(crew_same_data(crew, &run->session), err);
    TRY(crew_assign(crew, session_has_images(&run->session)), err);
    TRY(links_check(crew, run->job), err);
    st = leads(run) ? open_journal(run) : ST_OK;
    TRY(crew_together(crew, st, "looking at what is done"), err);
    TRY(tell_all(run, run->figures.counts.n_rows - run->figures.counts.n_kept, "starting up",
                 out_n_todo),
        err);
    if (*out_n_todo == 0)
        return ST_OK;
    /* Before the weights are packed, which takes minutes; again when it is known who shares. */
    st = leads(run) ? machine_check(&run->session, crew, &n_blocks) : ST_OK;
    TRY(crew_together(crew, st, "sizing the KV blocks"), err);
    st = leads(run) ? crew_busy(crew, look_at_images, run) : ST_OK;
    st = crew_together(crew, st, "looking at the images");
err:
    return st;
}

/* ---- serve ----------------------------------------------------------------------------------- */

/* The loop has ended with st: put down why, while the watch still knows. */
static void note_end(struct run *run, enum status st, const struct stage *watch)
{
    const struct wire_fail *failure = watch_failure(watch);
    const struct warden_cause cause = warden_cause(run->warden);
    const char *doing = "";

    if (cause.frozen_s > 0 && run->crew.n > 1) { /* then what became of the others is no news */
        run->lost = run->crew.me;
        set_why(run, "%s was stopped for %.0f s, and its peers gave it up",
                run->crew.who[run->lost], cause.frozen_s);
        return;
    }
    if (run->crew.n > 1) /* neighbours that were only told to stop wait for rank 0, alive */
        run->lost = cause.lost >= 0 ? cause.lost : warden_find_lost(run->warden);
    if (run->lost >= 0) {
        doing = watch_beat(watch, run->lost)->doing;
        set_why(run, "%s has died%s%s", run->crew.who[run->lost],
                doing[0] != '\0' ? "; it last said: " : "", doing);
    } else if (failure->lost) {
        run->lost = failure->rank;
        set_why(run, "%s", failure->message);
    } else if (cause.signal != 0 && st == ST_STOPPED) {
        set_cause(run, &cause);
    } else if (failure->rank >= 0 && failure->rank != run->crew.me) {
        set_why(run, "%s: %s", run->crew.who[failure->rank], failure->message);
        run->told = failure->status != ST_STOPPED;
    } else {
        set_why(run, "%s", log_last_error());
    }
}

static void take_figures(struct run *run, const struct machine *machine, double run_s)
{
    struct figures *figures = &run->figures;

    figures->run_s = run_s;
    figures->beats = host_zalloc((size_t)run->crew.n * sizeof *figures->beats);
    for (int r = 0; figures->beats != NULL && r < run->crew.n; r++)
        figures->beats[r] = *watch_beat(machine->watch, r);
    watch_totals(machine->watch, &figures->totals);
}

/* What is queued is still written; the last sync may take its time. */
static enum status stop_io(void *io)
{
    return io_stop(io);
}

/* When the run has to be over: after the job's own limit, or with the Slurm job, if that is sooner.
 */
static struct run_end end_of_time(const struct run *run)
{
    const struct job *job = run->job;
    const char *slurm = getenv("SLURM_JOB_END_TIME"); /* seconds since 1970 */
    const double slurm_s = slurm != NULL ? clock_now_s() + strtod(slurm, NULL) - clock_unix_s() : 0;
    struct run_end end = {
        .at_s = job->time_limit_s,
        .margin_s = job->time_margin_s,
        .drain = warden_drain(run->warden),
    };

    if (slurm != NULL && slurm_s <= clock_now_s())
        log_warn("SLURM_JOB_END_TIME=%s is over: it does not count", slurm);
    else if (slurm != NULL && (end.at_s == 0 || slurm_s < end.at_s))
        end.at_s = slurm_s;
    if (end.at_s > 0)
        log_info("the time of this run ends in %.0f s: rows are begun as long as they should be "
                 "finished %.0f s before",
                 end.at_s - clock_now_s(), end.margin_s);
    return end;
}

/* Rows are left, though the loop has ended well: rank 0, which knows, tells all. */
static enum status look_what_is_left(struct run *run)
{
    const struct journal_counts *counts = &run->figures.counts;

    if (run->journal == NULL || counts->n_done == counts->n_rows)
        return ST_OK;
    set_why(run, "%s",
            *warden_drain(run->warden) != 0 ? "asked to come to an end (SIGUSR1)"
                                            : "the time of this run is over");
    return ST_STOPPED;
}

/* Compute every row of the range that the journal does not hold. */
static enum status serve(struct run *run)
{
    enum status st, io_st;
    struct machine machine;
    const double begin_s = clock_now_s();
    const struct run_end end = leads(run) ? end_of_time(run) : (struct run_end){.at_s = 0};

    st = machine_create(&run->crew, &run->session, &run->images, run->journal, &end, &machine);
    const double loaded_s = clock_now_s();
    run->figures.load_s = loaded_s - begin_s;
    run->apart = st == ST_COMM;
    if (st == ST_OK) {
        struct loop loop = {
            .world = machine.world,
            .stages = machine.stages,
            .n_stages = machine.n_stages,
            .watch = machine.watch,
            .stop = warden_flag(run->warden),
        };

        if (leads(run))
            report_start(&machine, run->figures.load_s);
        log_hold(false);
        run->begun = true;
        st = loop_run(&loop);
        if (st != ST_OK)
            note_end(run, st, machine.watch);
        take_figures(run, &machine, clock_now_s() - loaded_s);
        run->apart = st != ST_OK && run->crew.n > 1;
        log_hold(!leads(run) && !run->apart); /* together again: rank 0 speaks */
    }
    struct io *io = machine.io; /* stages hold rows of it: they go first */
    machine_destroy(&machine, !run->apart);
    io_st = run->apart || !leads(run) ? io_stop(io) : crew_busy(&run->crew, stop_io, io);
    if (run->journal != NULL)
        journal_counts(run->journal, &run->figures.counts);
    if (io_st == ST_OK && st == ST_OK)
        io_st = look_what_is_left(run);
    if (st == ST_OK)
        st = crew_together(&run->crew, io_st, "ending the loop");
    return st;
}

/* ---- finish ---------------------------------------------------------------------------------- */

/* The summary as text; NULL: no memory. */
static char *summary_text(const struct run *run)
{
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);

    if (out == NULL)
        return NULL;
    report_summary(&run->session, &run->crew, &run->figures, run->program, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static enum status merge(void *arg)
{
    enum status st = ST_NOMEM;
    struct run *run = arg;
    const struct session *session = &run->session;
    char *summary = summary_text(run);
    const struct result_meta meta = {
        .program = run->program,
        .job = (const char *)session->effective_job.data,
        .identity = (const char *)session->identity.data,
        .numerics = session->numerics,
        .model_fingerprint = session->model_fingerprint,
        .prompts_fingerprint = session->prompts_fingerprint,
        .seed = run->job->seed,
        .summary = summary,
    };
    const double begin_s = clock_now_s();

    if (summary == NULL) {
        log_error("no memory for the summary");
        goto err;
    }
    TRY(journal_merge(run->journal, session->prompts, &meta), err);
    printf("%smerge     %.2f s\n", summary, clock_now_s() - begin_s);
err:
    free(summary);
    return st;
}

/* The others wait as long as it takes, and as long as rank 0 is heard of meanwhile. */
static enum status finish(struct run *run)
{
    enum status st = ST_OK;

    run->begun = true;
    run->crew.patience_s = END_PART * run->job->peer_timeout_s;
    if (leads(run) && !journal_complete(run->journal))
        st = crew_busy(&run->crew, merge, run);
    const bool complete = leads(run) && st == ST_OK;
    st = ranks_agree(run->crew.ranks, st, "merging the results", run->crew.patience_s);
    if (!complete || st != ST_COMM)
        return st;
    log_warn("a rank was lost at the very end; %s is complete", run->job->results);
    run->apart = true;
    return ST_OK;
}

/* ---- end ------------------------------------------------------------------------------------- */

static enum outcome outcome_of(const struct run *run, enum status st)
{
    if (st == ST_OK)
        return run->figures.counts.n_failed > 0 ? OUTCOME_ERRORS : OUTCOME_DONE;
    if (run->lost >= 0)
        return OUTCOME_MACHINE;
    if (leads(run) && st == ST_STOPPED && run->job->max_errors >= 0 &&
        run->figures.counts.n_failed > (uint64_t)run->job->max_errors)
        return OUTCOME_JOB; /* it asks for another max_errors, or for other rows */
    if (st == ST_STOPPED)
        return OUTCOME_BROKEN;
    return st == ST_NOMEM || st == ST_COMM || run->begun ? OUTCOME_MACHINE : OUTCOME_JOB;
}

/* Whether RESULTS.status has this outcome: OUTCOME_RUNNING, nobody has told an end yet. */
static bool status_says(const struct run *run, enum outcome outcome)
{
    struct run_status status;

    return status_read(run->job->results, &status) == ST_OK && status.outcome == outcome;
}

/* Whether RESULTS.status tells this rank's reason already. */
static bool status_quotes(const struct run *run)
{
    struct run_status status;

    return status_read(run->job->results, &status) == ST_OK &&
           strncmp(status.message, run->why, sizeof status.message - 1) == 0;
}

/* To the log, on one rank: why the run is over.  What failed here has been logged where it did. */
static void log_end(const struct run *run, enum status st)
{
    const struct journal_counts *counts = &run->figures.counts;

    if (strcmp(run->why, log_last_error()) == 0)
        return;
    if (run->told)
        log_info("the run ends: %s", run->why);
    else if (st == ST_STOPPED && run->lost < 0)
        log_warn("%s: %llu of %llu rows are done; the same command goes on", run->why,
                 (unsigned long long)counts->n_done, (unsigned long long)counts->n_rows);
    else
        log_error("%s", run->why);
}

/* Rank 0, which has the lock: say beside RESULTS how it ended. */
static void tell_owner(const struct run *run, enum outcome outcome)
{
    const struct journal_counts *counts = &run->figures.counts;
    struct run_status status = {
        .outcome = outcome,
        .n_rows = counts->n_rows,
        .n_done = counts->n_done,
        .n_failed = counts->n_failed,
        .n_attempts = counts->n_attempts,
        .n_records = counts->n_records,
        .elapsed_s = clock_now_s(),
    };

    status.rows_per_s = (double)(counts->n_done - counts->n_kept) / status.elapsed_s;
    if (outcome != OUTCOME_DONE && outcome != OUTCOME_ERRORS)
        snprintf(status.message, sizeof status.message, "%s", run->why);
    if (status_write(run->job->results, &status) != ST_OK)
        log_warn("the outcome could not be written beside %s", run->job->results);
}

/* Wait for another rank to end this one; not longer than that, nor past another signal. */
static void wait_for_end(const struct run *run, double most_s)
{
    enum { TURN_US = 5000 };
    const double until_s = clock_now_s() + most_s;
    const int pressed = warden_pressed(run->warden);

    while (clock_now_s() < until_s && warden_pressed(run->warden) == pressed)
        clock_sleep_us(TURN_US);
}

/* Rank 0 is lost: one of the others says so, the lowest that can.  Its turn has to be longer than
 * loops of ranks differ in their ends, but after a signal there is no time for many. */
static void tell_finder(const struct run *run)
{
    const bool in_haste = *warden_flag(run->warden) != 0;
    const double turn_s = in_haste ? 0.1 : 2 * LOOP_TELL_S;
    enum status st;

    wait_for_end(run, turn_s * (run->crew.me < 4 ? run->crew.me - 1 : 3));
    /* One has told it, or rank 0 went in its own way. */
    if (run->begun ? !status_says(run, OUTCOME_RUNNING) : status_quotes(run))
        return;
    log_hold(false);
    log_error("%s", run->why);
    st = run->begun ? status_note(run->job->results, OUTCOME_MACHINE, run->why)
                    : status_refuse(run->job->results, OUTCOME_MACHINE, run->why);
    if (st != ST_OK)
        log_warn("the outcome could not be written beside %s", run->job->results);
}

/* Tell the outcome, and give everything back. */
static enum outcome end(struct run *run, enum status st)
{
    enum outcome outcome = outcome_of(run, st);
    const struct warden_cause cause = warden_cause(run->warden);

    if (st != ST_OK && run->why[0] == '\0') {
        if (st == ST_STOPPED && cause.signal != 0)
            set_cause(run, &cause);
        else if (st == ST_STOPPED)
            set_why(run, "a rank was stopped by a signal");
        else
            set_why(run, "%s", log_last_error());
    }
    warden_guard(run->warden, NULL);
    if (leads(run) && run->lost == 0 && status_says(run, OUTCOME_MACHINE)) {
        /* The others took this rank for lost: what they said stands. */
    } else if (leads(run)) {
        if (st != ST_OK)
            log_end(run, st);
        if (run->journal != NULL)
            tell_owner(run, outcome); /* while the lock is still ours */
        else if (st != ST_OK && run->job != NULL &&
                 status_refuse(run->job->results, outcome, run->why) != ST_OK)
            log_warn("the outcome could not be written beside %s", run->job->results);
    } else if (run->apart && run->lost == 0 && run->job != NULL) {
        tell_finder(run);
    } else if (run->apart) {
        const double patience_s = run->job != NULL && run->job->peer_timeout_s > END_PATIENCE_S
                                      ? run->job->peer_timeout_s
                                      : END_PATIENCE_S;

        wait_for_end(run, *warden_flag(run->warden) != 0 ? 0.75 * WARDEN_HARD_S : patience_s);
    }
    journal_close(run->journal);
    host_free(run->figures.beats);
    session_close(&run->session);
    return outcome;
}

enum outcome stage_run(const struct job *job, const char *program, int role, struct ranks *ranks,
                       bool *out_in_order)
{
    enum status st;
    struct run run = {.job = job, .program = program, .role = role, .lost = -1};
    uint64_t n_todo = 0, outcome;
    const struct warden_args warden = {.ranks = ranks, .has_launcher = ranks_launched(ranks)};

    log_hold(ranks_me(ranks) > 0);
    st = warden_start(&warden, &run.warden);
    crew_begin(ranks, run.warden, job, &run.crew);
    TRY(crew_together(&run.crew, st, "starting up"), err);
    TRY(prepare(&run, &n_todo), err);
    if (n_todo > 0)
        TRY(serve(&run), err);
    st = finish(&run);
err:
    run.apart = run.apart || st == ST_COMM;
    if (st == ST_COMM && run.lost < 0)
        run.lost = ranks_missing(ranks);
    outcome = (uint64_t)end(&run, st);
    if (!run.apart && tell_all(&run, outcome, "ending", &outcome) != ST_OK)
        run.apart = true;
    crew_end(&run.crew);
    if (run.apart)
        warden_leave(run.warden, LEAVE_LIMIT_S, (int)outcome);
    else
        warden_stop(run.warden);
    *out_in_order = !run.apart;
    return (enum outcome)outcome;
}
