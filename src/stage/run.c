/*
 * run.c - `epidote run`: set the house up, turn the loop, write the results, say how it went.
 *
 *   session (files, sizes) ─► journal (what is done) ─► weights, KV pool, engine, stages ─► loop
 *                                                                                            │
 *   outcome beside RESULTS ◄─ merge of the logs into RESULTS ◄───────────────────────────────┘
 */
#include <signal.h>
#include <stdio.h>

#include "stage/session.h"

enum { IO_QUEUE_BYTES = 64 << 20, IO_WINDOW_ROWS = 1024 };

/* What computes: made when there is something to compute. */
struct machine {
    struct threads *threads;
    struct weights *weights;
    void *kv_memory;
    size_t kv_bytes;
    struct kv_pool *pool;
    struct engine *engine;
    struct link *link;
    struct world *world;
    struct io *io;
    struct stage *stages[3];
    int n_stages;
};

/* Figures of a run, for its summary. */
struct figures {
    bool begun; /* the job was right: from here on only the machine can be to blame */
    double load_s, run_s, merge_s;
    struct engine_stats engine;
    uint64_t n_messages;
    struct journal_counts counts;
};

/* ---- signals -------------------------------------------------------------------------------- */

/* A signal handler has no argument; this is the only state outside structs in this room. */
static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
}

static void catch_signals(void)
{
    /* Once: a second signal ends the process the hard way, which the journal survives. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    stop_signal = 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit shows as a failed write, like a full disk */
    signal(SIGPIPE, SIG_IGN);
}

/* ---- set-up --------------------------------------------------------------------------------- */

static enum status machine_stages(const struct session *session, struct journal *journal,
                                  struct machine *machine)
{
    enum status st;
    const struct job *job = session->job;
    const struct model_config *config = model_source_config(session->source);
    const int n_stages[ROLE_COUNT] = {
        [ROLE_COORDINATOR] = 1, [ROLE_PREFILL] = 1, [ROLE_DECODE] = 1};

    TRY(world_create_local(n_stages, &machine->world), err);
    const struct link_args link_args = {
        .name = job->link, .pool = machine->pool, .n_slots = session->n_slots, .same_rank = true};
    TRY(link_open(&link_args, &machine->link), err);
    const struct io_args io_args = {
        .prompts = session->prompts,
        .journal = journal,
        .results_path = job->results,
        .longest_first = job->order == ORDER_LONGEST,
        .queue_bytes = IO_QUEUE_BYTES,
        .window_rows = IO_WINDOW_ROWS,
    };
    TRY(io_start(&io_args, &machine->io), err);

    const struct plan_pool pool = {.n_free_blocks = session->n_blocks,
                                   .max_rows = session->n_slots};
    const struct coordinator_args coordinator = {
        .world = machine->world,
        .io = machine->io,
        .intake = &session->intake,
        .n_slots = session->n_slots,
        .n_prefill = 1,
        .block_tok = session->kv.P,
        .pools = &pool,
        .n_decode = 1,
        .max_errors = job->max_errors,
        .progress_s = job->progress_s,
        .engine = machine->engine,
    };
    const struct prefill_args prefill = {
        .world = machine->world,
        .engine = machine->engine,
        .link = machine->link,
        .layout_id = kv_layout_id(&session->kv),
        .n_slots = session->n_slots,
        .max_tok = job->prefill_chunk_tok,
        .max_seqs = session->max_seqs,
    };
    const struct decode_args decode = {
        .world = machine->world,
        .engine = machine->engine,
        .pool = machine->pool,
        .tokenizer = session->tokenizer,
        .eos_ids = config->eos_ids,
        .n_eos = config->n_eos,
        .n_slots = session->n_slots,
        .max_batch = job->decode_batch,
    };
    /* Prefill has its turn before decode: a full decode batch is worth more than an early answer.
     */
    TRY(coordinator_create(&coordinator, &machine->stages[machine->n_stages]), err);
    machine->n_stages++;
    TRY(prefill_create(&prefill, &machine->stages[machine->n_stages]), err);
    machine->n_stages++;
    TRY(decode_create(&decode, &machine->stages[machine->n_stages]), err);
    machine->n_stages++;
err:
    return st;
}

static enum status machine_create(const struct session *session, struct journal *journal,
                                  struct machine *machine)
{
    enum status st;
    const struct model_config *config = model_source_config(session->source);

    TRY(threads_create(session->n_threads, &machine->threads), err);
    TRY(weights_create(&(struct weights_args){.source = session->source,
                                              .type = session->type,
                                              .threads = machine->threads},
                       &machine->weights),
        err);
    machine->kv_bytes = (size_t)session->n_blocks * kv_block_bytes(&session->kv);
    machine->kv_memory = pages_map(machine->kv_bytes);
    if (machine->kv_memory == NULL) {
        st = ST_NOMEM;
        goto err;
    }
    TRY(kv_pool_create(&(struct kv_space){session->kv, session->n_blocks, machine->kv_memory}, 0,
                       session->n_blocks, &machine->pool),
        err);
    const struct engine_cpu_args engine_args = {
        .config = config,
        .weights = machine->weights,
        .ops = session->ops,
        .threads = machine->threads,
        .space = *kv_pool_space(machine->pool),
        .max_tok = session->max_tok,
        .max_seqs = session->max_seqs,
        .context = session->context,
    };
    TRY(engine_cpu_create(&engine_args, &machine->engine), err);
    TRY(machine_stages(session, journal, machine), err);
err:
    return st;
}

/* Everything but the I/O thread, which run_rows stops. */
static void machine_destroy(struct machine *machine)
{
    for (int i = 0; i < machine->n_stages; i++)
        stage_destroy(machine->stages[i]);
    world_destroy(machine->world);
    link_close(machine->link);
    engine_destroy(machine->engine);
    kv_pool_destroy(machine->pool);
    pages_unmap(machine->kv_memory, machine->kv_bytes);
    weights_destroy(machine->weights);
    threads_destroy(machine->threads);
    *machine = (struct machine){0};
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Compute every row of the range that the journal does not hold. */
static enum status run_rows(const struct session *session, struct journal *journal,
                            struct figures *figures)
{
    enum status st, io_st;
    struct machine machine = {0};
    const double begin_s = clock_now_s();

    st = machine_create(session, journal, &machine);
    const double loaded_s = clock_now_s();
    figures->load_s = loaded_s - begin_s;
    if (st == ST_OK) {
        log_info("loaded in %.2f s: weights %.0f MiB, KV %d blocks of %d tokens, %.0f MiB; %s, %d "
                 "threads",
                 figures->load_s,
                 (double)weights_bytes(model_source_config(session->source), session->type) /
                     1048576,
                 session->n_blocks, session->kv.P, (double)machine.kv_bytes / 1048576,
                 session->ops->name, session->n_threads);
        figures->begun = true;
        st = loop_run(machine.world, machine.stages, machine.n_stages, &stop_signal);
        figures->run_s = clock_now_s() - loaded_s;
        figures->engine = machine.engine->stats;
        for (int i = 0; i < MSG_COUNT; i++)
            figures->n_messages += world_n_sent(machine.world)[i];
    }
    /* Stages hold rows of the I/O thread: they go first.  What is queued is still written. */
    for (int i = 0; i < machine.n_stages; i++)
        stage_destroy(machine.stages[i]);
    machine.n_stages = 0;
    io_st = io_stop(machine.io);
    machine_destroy(&machine);
    return st != ST_OK ? st : io_st;
}

static void print_summary(const struct session *session, const struct figures *figures)
{
    const struct journal_counts *counts = &figures->counts;
    const double run_s = figures->run_s > 0 ? figures->run_s : 1e-9;
    char in_rate[16], out_rate[16];

    printf("rows      %llu in = %llu done + %llu failed%s\n", (unsigned long long)counts->n_rows,
           (unsigned long long)(counts->n_done - counts->n_failed),
           (unsigned long long)counts->n_failed,
           counts->n_done == counts->n_rows ? "" : " + some left");
    printf("attempts  %llu, %llu rows found done by this one\n",
           (unsigned long long)counts->n_attempts, (unsigned long long)counts->n_kept);
    printf("time      %.2f s load, %.2f s run (engine busy %.0f %%), %.2f s merge\n",
           figures->load_s, figures->run_s, 100 * figures->engine.busy_s / run_s, figures->merge_s);
    printf("tokens    %llu prompt (%s/s), %llu answer (%s/s), %llu steps, %llu messages\n",
           (unsigned long long)figures->engine.n_prompt_tok,
           units_si(in_rate, sizeof in_rate, (double)figures->engine.n_prompt_tok / run_s),
           (unsigned long long)figures->engine.n_answer_tok,
           units_si(out_rate, sizeof out_rate, (double)figures->engine.n_answer_tok / run_s),
           (unsigned long long)figures->engine.n_steps, (unsigned long long)figures->n_messages);
    printf("memory    %.0f MiB resident at most\n", (double)host_memory_peak_bytes() / 1048576);
    if (counts->n_failed > 0)
        printf("failed    why: epidote inspect %s\n", session->job->results);
    printf("results   %s\n", session->job->results);
}

static enum outcome outcome_of(enum status st, const struct figures *figures)
{
    if (st == ST_OK)
        return figures->counts.n_failed > 0 ? OUTCOME_ERRORS : OUTCOME_DONE;
    if (st == ST_STOPPED)
        return OUTCOME_BROKEN;
    return st == ST_NOMEM || figures->begun ? OUTCOME_MACHINE : OUTCOME_JOB;
}

/* Say how it ended: to the log, and beside RESULTS. */
static void tell(const struct job *job, enum outcome outcome, const struct figures *figures)
{
    struct run_status status = {
        .outcome = outcome,
        .n_rows = figures->counts.n_rows,
        .n_done = figures->counts.n_done,
        .n_failed = figures->counts.n_failed,
        .n_attempts = figures->counts.n_attempts,
        .n_records = figures->counts.n_records,
        .elapsed_s = clock_now_s(),
    };

    status.rows_per_s =
        (double)(figures->counts.n_done - figures->counts.n_kept) / status.elapsed_s;
    if (outcome == OUTCOME_BROKEN && stop_signal != 0)
        snprintf(status.message, sizeof status.message, "stopped by signal %d", (int)stop_signal);
    else if (outcome != OUTCOME_DONE && outcome != OUTCOME_ERRORS)
        snprintf(status.message, sizeof status.message, "%.*s", (int)sizeof status.message - 1,
                 log_last_error());
    if (status_write(job->results, &status) != ST_OK)
        log_warn("the outcome could not be written beside %s", job->results);
}

enum outcome stage_run(const struct job *job, const char *program)
{
    enum status st;
    enum outcome outcome;
    struct session session;
    struct figures figures = {0};
    struct journal *journal = NULL;

    catch_signals();
    TRY(session_open(job, &session), err);
    TRY(session_journal(&session, false, &journal), err);
    journal_counts(journal, &figures.counts);
    if (journal_complete(journal)) {
        log_info("%s is complete: nothing to do", job->results);
        figures.counts.n_attempts = 0; /* not known: the logs that would say are gone */
    } else {
        log_info("rows %llu:%llu of %s: %llu to do, %llu found done",
                 (unsigned long long)session.rows_begin, (unsigned long long)session.rows_end,
                 job->prompts, (unsigned long long)(figures.counts.n_rows - figures.counts.n_kept),
                 (unsigned long long)figures.counts.n_kept);
        if (figures.counts.n_kept < figures.counts.n_rows) {
            st = run_rows(&session, journal, &figures);
            journal_counts(journal, &figures.counts);
            if (st != ST_OK)
                goto err;
        }
        const struct result_meta meta = {
            .program = program,
            .job = (const char *)session.effective_job.data,
            .identity = (const char *)session.identity.data,
            .numerics = session.ops->numerics,
            .model_fingerprint = session.model_fingerprint,
            .prompts_fingerprint = session.prompts_fingerprint,
            .seed = job->seed,
        };
        const double merge_from_s = clock_now_s();
        figures.begun = true;
        TRY(journal_merge(journal, session.prompts, &meta), err);
        figures.merge_s = clock_now_s() - merge_from_s;
        print_summary(&session, &figures);
    }
err:
    outcome = outcome_of(st, &figures);
    if (stop_signal != 0 && st == ST_STOPPED)
        log_warn("stopped by signal %d: %llu of %llu rows are done; the same command goes on",
                 (int)stop_signal, (unsigned long long)figures.counts.n_done,
                 (unsigned long long)figures.counts.n_rows);
    if (journal != NULL)
        tell(job, outcome, &figures); /* while the lock is still ours */
    else if (outcome == OUTCOME_JOB && status_refuse(job->results, log_last_error()) != ST_OK)
        log_warn("the outcome could not be written beside %s", job->results);
    journal_close(journal);
    session_close(&session);
    return outcome;
}
