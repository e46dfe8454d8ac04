/*
 * stage.h - the four kinds of work as small state machines, the loop that turns them, and `run`.
 *
 * Read in this order to follow a row: run.c sets the house up; coordinator.c admits and journals;
 * encoder.c makes embeddings of images; prefill.c computes prompts; decode.c computes answers.
 * watch.c sees that all ranks live.
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

/* ---- intake: from a row of the prompt file to what will be computed (intake*.c) ------------- */

/* What is known of the images of the prompt file before any is decoded; tests bring their own. */
struct image_book {
    const void *arg; /* borrowed */
    /* As image_index_facts and image_index_next_use. */
    enum status (*facts)(const void *arg, uint64_t image, struct image_facts *out_facts,
                         struct row_error *err);
    uint64_t (*next_use)(const void *arg, uint64_t image, uint64_t row);
};
struct image_book image_book_of(const struct image_index *index);

/* How rows with images are served. */
struct intake_vision {
    const struct vision_config *config; /* NULL: the model sees nothing */
    const struct vision_prompt *prompt;
    int image_id; /* as in struct model_config */
    bool mrope;
    struct image_book book;
};

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
    struct intake_vision vision;
};

/* An image of a row that is ready. */
struct intake_image {
    uint64_t image;    /* the first of the file with its content */
    uint64_t shown;    /* the one that the row names */
    int width, height; /* of it */
};

/* Ready to be admitted.  Its lists are reused from row to row; intake_row_free at the end. */
struct intake_row {
    struct token_list tokens;
    int max_out;
    bool ignore_eos;
    struct sampler_params sampling;
    const struct text_span *stops; /* [n_stops] in arena, or the job's */
    int n_stops;
    struct token_list unplaced; /* scratch: tokens before images took their places */
    int n_images;
    int n_embeds;                     /* embeddings of all of them */
    struct seq_image *images;         /* [n_images] in arena, in order of place */
    struct intake_image *image_facts; /* [n_images] in arena */
    int rope_shift;                   /* as in struct wire_row */
};

/* intake_row_make - tokenise, apply the row's own options, check against context.
 * Returns ST_OK, ST_ROW (err says why), ST_NOMEM. */
enum status intake_row_make(const struct intake *intake, const struct prompt_row *prompt,
                            struct arena *arena, struct intake_row *out_row, struct row_error *err);

void intake_row_free(struct intake_row *row);
/* intake_place_images - put the tokens of the row's images in the places that its prompt has for
 * them: row->unplaced and prompt->image_refs become row->tokens and row->images (intake_images.c).
 *   order  in  which of the row's images stands in which place; NULL: in turn
 * Returns as intake_row_make. */
enum status intake_place_images(const struct intake_vision *vision, const struct prompt_row *prompt,
                                const struct token_list *order, struct arena *arena,
                                struct intake_row *row, struct row_error *err);

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

/* When to come to an end though rows are left. */
struct run_end {
    double at_s;             /* by the world's clock; 0 = no end is known */
    double margin_s;         /* kept before it: rows that are not finished by then are given up */
    const atomic_int *drain; /* not 0: begin no more rows; may be NULL */
};

struct coordinator_args {
    struct world *world; /* borrowed, as everything here */
    struct io *io;
    const struct intake *intake;
    int n_slots; /* rows in flight */
    int block_tok;
    const struct plan_pool *pools; /* [decode stages] as they are at the start */
    int embed_places;              /* of each prefill stage; 0: no row has images */
    int64_t max_errors;            /* < 0: no limit */
    double progress_s;
    struct run_end end;
    const struct stage *watch; /* of this rank, for the figures in progress lines; may be NULL */
};
enum status coordinator_create(const struct coordinator_args *args, struct stage **out_stage);
/* coordinator_pool, coordinator_queue, coordinator_room - its mirror of a decode stage, and of a
 * prefill stage's queue and memory for embeddings (NULL: there is none).  Views. */
const struct plan_pool *coordinator_pool(const struct stage *coordinator, int decode);
const struct plan_queue *coordinator_queue(const struct stage *coordinator, int prefill);
const struct plan_room *coordinator_room(const struct stage *coordinator, int prefill);

/*
 * Where an encoder gets images, read, decoded and cut into patches; no call blocks.  The thread in
 * feed.c is the product's; tests bring one that makes them up.
 */
struct fed_image {
    int32_t ticket;
    float *patches; /* as vision_patches makes them; until image_feed_ops.free */
    bool failed;    /* error says which image and why; patches is NULL */
    struct row_error error;
};
struct image_feed;
struct image_feed_ops {
    /* Returns ST_OK, ST_AGAIN (enough is under way).  plan is copied. */
    enum status (*want)(struct image_feed *feed, int32_t ticket, uint64_t image,
                        const struct vision_plan *plan);
    /* Returns ST_OK, ST_AGAIN (none is ready), or the error that ended reading. */
    enum status (*next)(struct image_feed *feed, struct fed_image *out);
    void (*free)(struct image_feed *feed, float *patches);
    void (*destroy)(struct image_feed *feed);
};
struct image_feed { /* base of every kind */
    const struct image_feed_ops *ops;
};
struct image_feed_args {
    struct prompts *prompts;            /* borrowed; other threads may read rows of it */
    const struct vision_config *vision; /* borrowed */
    int max_images;                     /* wanted at a time */
    size_t max_bytes;                   /* of patches at a time; one image may exceed it alone */
};
enum status image_feed_create(const struct image_feed_args *args, struct image_feed **out_feed);
void image_feed_destroy(struct image_feed *feed);

struct encoder_args {
    struct world *world;
    struct engine *engine;
    struct embed_out *link;
    struct image_feed *feed;
    const struct vision_config *vision;
    float *cache;     /* [cache_places, D_out] borrowed */
    int cache_places; /* as many as the largest image has embeddings, at least */
    int index, n_slots;
    int max_images;         /* of one step */
    uint64_t n_file_images; /* of the prompt file */
};
enum status encoder_create(const struct encoder_args *args, struct stage **out_stage);

struct prefill_args {
    struct world *world;
    struct engine *engine;
    struct link_out *link;
    int index, n_slots, max_tok, max_seqs; /* of one step */
    struct embed_space embeds;             /* base NULL: no row has images */
    const enum link_kind *encoder_links;   /* [encoder stages] copied; NULL likewise */
    int image_id;                          /* as in struct model_config */
    bool mrope;
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
 *   role          in   an enum role that this rank was started for: then the ranks' roles are the
 *                      groups, not the job's; -1 = none
 *   out_in_order  out  false: ranks are lost or stuck; ranks_abort is the only way out
 * Collective over all ranks.  Returns the outcome; in order, it is the same on every rank. */
enum outcome stage_run(const struct job *job, const char *program, int role, struct ranks *ranks,
                       bool *out_in_order);
/* stage_check - reads all that run would, prints layout, memory, rows and the effective job on
 * standard output, changes nothing.
 *   n_ranks  in  0 = the layout of the ranks there are; else of so many on this host
 * On rank 0 alone. */
enum outcome stage_check(const struct job *job, struct ranks *ranks, int n_ranks);
/* stage_preflight - which link each pair of stages would have and how fast it is, as a table on
 * standard output; no model is read.
 *   job  in  NULL: this rank could not load it (logged)
 * Collective over all ranks.  Returns the outcome, the same on all. */
enum outcome stage_preflight(const struct job *job, const char *program, struct ranks *ranks);

#endif
