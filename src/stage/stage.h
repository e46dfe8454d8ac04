/*
 * stage.h - the four kinds of work as small state machines, the loop that turns them, and `run`.
 *
 * Read in this order to follow a row: run.c sets the house up; coordinator.c admits and journals;
 * prefill.c computes prompts; decode.c computes answers.
 */
#ifndef EPIDOTE_STAGE_H
#define EPIDOTE_STAGE_H

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
    void (*destroy)(struct stage *stage);
};
struct stage { /* base of every stage */
    const struct stage_ops *ops;
    struct address at;
    bool ended; /* it will do nothing any more */
};
void stage_destroy(struct stage *stage);

/* loop_run - turn the stages until all have ended, or *stop becomes non-zero, or one fails.
 *   stages  in  [n_stages], in the order in which they get their turn
 * Returns ST_OK, ST_STOPPED, or what a stage returned. */
enum status loop_run(struct world *world, struct stage *const *stages, int n_stages,
                     const volatile int *stop);

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
    int n_slots;   /* rows in flight */
    int n_prefill; /* stages */
    int block_tok;
    const struct plan_pool *pools; /* [n_decode] as they are at the start */
    int n_decode;
    int64_t max_errors; /* < 0: no limit */
    double progress_s;
    const struct engine *engine; /* for the figures in progress lines; NULL = none here */
};
enum status coordinator_create(const struct coordinator_args *args, struct stage **out_stage);

struct prefill_args {
    struct world *world;
    struct engine *engine;
    struct link *link;
    uint64_t layout_id;
    int index, n_slots, max_tok, max_seqs; /* of one step */
};
enum status prefill_create(const struct prefill_args *args, struct stage **out_stage);

struct decode_args {
    struct world *world;
    struct engine *engine;
    struct kv_pool *pool;
    const struct tokenizer *tokenizer;
    const int32_t *eos_ids; /* [n_eos] copied */
    int n_eos;
    int index, n_slots, max_batch; /* rows of one step */
};
enum status decode_create(const struct decode_args *args, struct stage **out_stage);

/* ---- run and check -------------------------------------------------------------------------- */

/* stage_run - the whole of `epidote run`.  Everything is logged; the outcome stands beside RESULTS.
 *   program  in  name and version, for the result file */
enum outcome stage_run(const struct job *job, const char *program);
/* stage_check - reads all that run would, prints layout, memory, rows and the effective job on
 * standard output, changes nothing. */
enum outcome stage_check(const struct job *job);

#endif
