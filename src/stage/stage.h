/*
 * stage.h - the four kinds of work as small state machines, the loop that turns them, and `run`.
 *
 * Read in this order to follow a row: run.c sets the house up; coordinator.c admits and journals;
 * prefill.c computes prompts; decode.c computes answers.  watch.c sees that all ranks live.
 */
#ifndef EPIDOTE_STAGE_H
#define EPIDOTE_STAGE_H

#include <stdatomic.h>

#include "comm/comm.h"
#include "engine/engine.h"
#include "job/job.h"

/* ---- a stage ------------------------------------------------------------------------------- */

struct stage;

/* Two entry points; neither blocks.  A status other than ST_OK ends the run. */
struct stage_ops {
    /* Takes msg over: frees it, or keeps it as long as views into it are needed. */
    enum status (*on_message)(struct stage *stage, struct msg *msg);
    /* Do a bounded piece of work; *out_worked = false if there was none. */
    enum status (*poll)(struct stage *stage, bool *out_worked);
    /* Add what this stage holds and does to its rank's beat; `doing` gets a phrase.  May be NULL.
     */
    void (*describe)(const struct stage *stage, struct wire_beat *beat);
    void (*destroy)(struct stage *stage);
};
struct stage { /* base of every stage */
    const struct stage_ops *ops;
    struct address at;
    bool ended; /* it will do nothing any more */
};
void stage_destroy(struct stage *stage);
/* beat_say - append a phrase to what a beat says its rank is doing, cut at its end. */
void beat_say(struct wire_beat *beat, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * The only loop of a rank: messages to stages, a turn for each stage, progress for the world.
 *
 * When a stage fails, or *stop becomes non-zero, or a peer says that it failed, the loop lets the
 * watch tell the others and goes on turning the watch alone until they know, or LOOP_TELL_S are
 * over.
 */
struct loop {
    struct world *world;         /* borrowed */
    struct stage *const *stages; /* [n_stages] borrowed, in the order of their turns */
    int n_stages;
    struct stage *watch;    /* one of stages; NULL = nobody to tell */
    const atomic_int *stop; /* may be NULL */
    enum status st;         /* private: why the run ends */
    double leave_s;         /* private: when to go even if not all has left */
};
#define LOOP_TELL_S 0.25
/* loop_turn - once around.  Does not sleep.
 * Returns ST_OK (go on), ST_END (all stages have ended), or why the run is over: ST_STOPPED, or
 * what a stage or a peer failed with. */
enum status loop_turn(struct loop *loop, bool *out_worked);
/* loop_run - turn until it is over, resting when there is nothing to do.
 * Returns ST_OK, or as loop_turn. */
enum status loop_run(struct loop *loop);

/* ---- intake: from a row of the prompt file to what will be computed (intake.c) ------------- */

/* What every row has unless it says otherwise.  All pointers borrowed. */
struct intake {
    const struct tokenizer *tokenizer;
    const struct chat_template *chat; /* NULL = `messages` rows cannot be served */
    bool chat_prompts;                /* `prompt` is a user message */
    bool parse_special, ignore_eos;
    const char *system_prompt; /* NULL = the template's own */
    int context, max_tokens;
    struct sampler_params sampling; /* .row is filled in by row */
    const struct text_span *stops;
    int n_stops;
};

/* Ready to be admitted.  tokens is owned by the caller of intake_row and reused from row to row. */
struct intake_row {
    struct token_list tokens;
    int max_out;
    bool ignore_eos;
    struct sampler_params sampling;
    const struct text_span *stops; /* [n_stops] in arena, or the job's */
    int n_stops;
};

/* intake_row_make - tokenise, apply the row's own options, check against context.
 * Returns ST_OK, ST_ROW (err says why), ST_NOMEM. */
enum status intake_row_make(const struct intake *intake, const struct prompt_row *prompt,
                            struct arena *arena, struct intake_row *out_row, struct row_error *err);

/* ---- progress (progress.c) ------------------------------------------------------------------ */

struct progress {
    double elapsed_s;
    uint64_t n_rows, n_done, n_failed, n_kept; /* kept: finished before this attempt */
    uint64_t prompt_tok, answer_tok;
};
/* progress_line - one report from two snapshots, now->elapsed_s > prev->elapsed_s.  Pure. Returns
 * buf. */
char *progress_line(char *buf, size_t cap, const struct progress *now, const struct progress *prev);
/* units_si - "3.10k", "2.41M": three digits and an SI prefix.  Returns buf. */
char *units_si(char *buf, size_t cap, double value);

/* ---- the stages ------------------------------------------------------------------------------ */

struct coordinator_args {
    struct world *world; /* borrowed, as everything here */
    struct io *io;
    const struct intake *intake;
    int n_slots; /* rows in flight */
    int block_tok;
    const struct plan_pool *pools; /* [decode stages] as they are at the start */
    int64_t max_errors;            /* < 0: no limit */
    double progress_s;
    const struct stage *watch; /* of this rank, for the figures in progress lines; may be NULL */
};
enum status coordinator_create(const struct coordinator_args *args, struct stage **out_stage);
/* coordinator_pool, coordinator_queue - its mirror of a decode and of a prefill stage.  Views. */
const struct plan_pool *coordinator_pool(const struct stage *coordinator, int decode);
const struct plan_queue *coordinator_queue(const struct stage *coordinator, int prefill);

struct prefill_args {
    struct world *world;
    struct engine *engine;
    struct link_out *link;
    int index, n_slots, max_tok, max_seqs; /* of one step */
};
enum status prefill_create(const struct prefill_args *args, struct stage **out_stage);

struct decode_args {
    struct world *world;
    struct engine *engine;
    struct kv_pool *pool;
    struct link_in *link;
    const struct tokenizer *tokenizer;
    const int32_t *eos_ids; /* [n_eos] copied */
    int n_eos;
    int index, n_slots, max_batch; /* rows of one step */
};
enum status decode_create(const struct decode_args *args, struct stage **out_stage);

/*
 * The watch: one a rank.  It tells watch/0 what its rank does (BEAT) and how it ended (REPORT);
 * watch/0 tells it that the coordinator's rank lives.  Silence for most of peer_timeout_s is a lost
 * rank: it is named in one message, all others are told (FAIL), the run ends.
 */
struct watch_args {
    struct world *world;
    struct stage *const *stages; /* [n_stages] of this rank; borrowed, may hold the watch itself */
    int n_stages;
    const struct engine *engine; /* NULL = none here */
    const struct link_out *link; /* NULL = none here */
    const char *const *who;      /* [ranks] "rank 3 (decode/1) on node07, pid 4711"; borrowed */
    double peer_timeout_s;
};
enum status watch_create(const struct watch_args *args, struct stage **out_stage);
/* watch_fail - this rank ends with st: FAIL to watch/0, from there to all. */
enum status watch_fail(struct stage *watch, enum status st, const char *message);
/* watch_told - whether all that can be told of the failure has been. */
bool watch_told(const struct stage *watch);
/* watch_beat - the last that was heard of a rank (its own: as of now); totals over all ranks. */
const struct wire_beat *watch_beat(const struct stage *watch, int rank);
void watch_totals(const struct stage *watch, struct wire_beat *out_totals);
/* watch_failure - whose failure ended the run, and why; rank -1 if none did.  View. */
const struct wire_fail *watch_failure(const struct stage *watch);

/* ---- run and check -------------------------------------------------------------------------- */

/* stage_run - the whole of `epidote run`, on every rank.  Everything is logged; the outcome stands
 * beside RESULTS.
 *   job           in   NULL: this rank could not load it (logged)
 *   program       in   name, version and commit, for the result file; all ranks must run the same
 *   out_in_order  out  false: ranks are lost or stuck; ranks_abort is the only way out
 * Collective over all ranks.  Returns the outcome; in order, it is the same on every rank. */
enum outcome stage_run(const struct job *job, const char *program, struct ranks *ranks,
                       bool *out_in_order);
/* stage_check - reads all that run would, prints layout, memory, rows and the effective job on
 * standard output, changes nothing.
 *   n_ranks  in  0 = the layout of the ranks there are; else of so many on this host
 * On rank 0 alone. */
enum outcome stage_check(const struct job *job, struct ranks *ranks, int n_ranks);

#endif
