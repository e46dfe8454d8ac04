/* TEST timeout: 300 */
/*
 * unit_protocol.c - the protocol cannot hang and loses nothing: whole cells on the virtual world,
 * one a seed, with everything that a seed can make hard: layouts, links, tiny pools, odd sizes,
 * delays, slow files, rows that fail, ranks that are lost, stopped or broken, signals.
 *
 * Half of the seeds have images: files of few, some twice, some broken, some rows with several;
 * encoders alone or beside others, caches and memory for embeddings that hold next to nothing.
 *
 *   unit_protocol               the seeds of `make test`
 *   unit_protocol SEED          one seed, with its log
 *   unit_protocol FIRST COUNT   many, on all cores
 *
 * Every run must end in bounded time, on every rank; every row must end once, with the tokens that
 * its number says, or the run must fail and every rank know why; all that was taken must be given
 * back.  The engine's stamps (engine_sim.c) see a block that is freed or used too early.
 */
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cell.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { N_SEEDS = 1000 };
#else
enum { N_SEEDS = 10000 };
#endif

enum {
    V = 30, /* more than there are words, as models have it */
    MAX_RANKS = 12,
    MAX_CONTEXT = 48,
    MAX_ROWS = 40,
    MAX_TURNS = 1000000,
    MAX_SKIPPED = 3,
    MAX_IMAGES = 12, /* of the file */
    MAX_ROW_IMAGES = 3,
    IMAGE = 24,   /* the token that stands for one */
    HANG_S = 120, /* of real time, for one seed */
};

#define TIMEOUT_S 8.0  /* peer_timeout_s */
#define QUANTUM_S 0.04 /* the clock never jumps further: watches look that often */
#define SLOW_S (3 * MAX_SKIPPED * QUANTUM_S) /* what skipped turns can cost on a message's way */
#define LEAVE_S 0.8 /* within which a run that knows why it ends has ended */

enum fault {
    FAULT_NONE,
    FAULT_LOST,    /* a rank falls silent for good, or two */
    FAULT_STOPPED, /* a rank has no turns for a while */
    FAULT_STAGE,   /* a stage fails */
    FAULT_FILES,   /* rows and results cannot be read and written any more */
    FAULT_SIGNAL,  /* to one rank or all */
    FAULT_ERRORS,  /* more rows fail than the job allows */
    FAULT_DRAIN,   /* no fault: the run is asked to come to an end */
};

/* One row, and what has to come of it. */
struct row {
    struct prompt_row prompt;
    int32_t tokens[MAX_CONTEXT + 8];
    uint64_t refs[MAX_ROW_IMAGES];
    int n_prompt; /* with images in their places */
    struct {
        int at, ref;
    } images[MAX_ROW_IMAGES]; /* where their embeddings begin, which they are */
    enum finish_reason reason;
    int32_t answer[MAX_CONTEXT];
    int n_answer, n_results;
};

/* What a stage that is to fail does in place of what it did. */
struct broken_ops {
    struct stage_ops ops;
    const struct stage_ops *whole;
};

struct run {
    uint64_t seed;
    struct dice dice;
    struct cell cell;
    struct cell_args args;
    int spaces[MAX_RANKS], decode_blocks[MAX_RANKS], own_blocks[MAX_RANKS];
    struct intake intake;
    struct vision_config vision;
    struct vision_prompt *vision_prompt;
    int n_images, n_image_rows; /* embeddings of one */
    uint64_t same_as[MAX_IMAGES];
    bool bad_header[MAX_IMAGES], broken_image[MAX_IMAGES];
    struct memory_io io;
    struct prompt_row prompts[MAX_ROWS];
    struct row rows[MAX_ROWS];
    int n_rows, n_errors;

    enum fault fault;
    double fault_s; /* when */
    double sleep_s; /* FAULT_STOPPED: how long */
    int fault_done; /* after so many rows; n_rows + 1: at the end; -1: by time alone */
    int victims[2], n_victims;
    bool struck, happened; /* the fault, whenever; and before it was too late for it */
    struct broken_ops broken;
    atomic_int drain; /* FAULT_DRAIN: becomes 1 */

    int skip_one_in;              /* turns of a rank that are left out; 0 = none */
    int n_skipped[MAX_RANKS];     /* in a row */
    enum status ended[MAX_RANKS]; /* ST_OK: not yet */
    double ended_s[MAX_RANKS], limit_s;
    char wrong[400];                             /* "": nothing so far */
    enum link_kind kinds[MAX_RANKS * MAX_RANKS]; /* for the figures */
    uint64_t n_pieces;
    struct encode_figures encoded;
};

/* The first thing that is wrong is what counts. */
static void __attribute__((format(printf, 2, 3))) wrong(struct run *run, const char *fmt, ...)
{
    va_list args;

    if (run->wrong[0] != '\0')
        return;
    va_start(args, fmt);
    vsnprintf(run->wrong, sizeof run->wrong, fmt, args);
    va_end(args);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* What comes of a row, without a run. */
static void make_answer(struct run *run, struct row *row)
{
    const struct prompt_row *prompt = &row->prompt;
    const int context = run->intake.context, n_prompt = row->n_prompt;
    const int max_tokens =
        prompt->has_max_tokens ? (int)prompt->max_tokens : run->intake.max_tokens;

    row->reason = FINISH_ERROR;
    if (prompt->error.text[0] != '\0' || n_prompt >= context || max_tokens < 1 ||
        row->tokens[prompt->n_tokens / 2] >= CELL_WORDS)
        return;
    for (int i = 0; i < (int)prompt->n_image_refs; i++)
        if (run->bad_header[row->refs[i]] || run->broken_image[run->same_as[row->refs[i]]])
            return;
    for (;;) {
        const int position = n_prompt + row->n_answer;

        if (engine_sim_refuses(&run->args.engine, prompt->row, position))
            return;
        const int32_t token = engine_sim_token(&run->args.engine, prompt->row, position);
        row->answer[row->n_answer++] = token;
        if (token == CELL_EOS && !run->intake.ignore_eos) {
            row->reason = FINISH_STOP;
            return;
        }
        if (row->n_answer == max_tokens || n_prompt + row->n_answer == context) {
            row->reason = FINISH_LENGTH;
            return;
        }
    }
}

/* Give a row images: places among its tokens, and what they become.  Returns whether there are as
 * many as places. */
static bool make_row_images(struct run *run, struct row *row)
{
    struct dice *dice = &run->dice;
    struct prompt_row *prompt = &row->prompt;
    int n = 0;

    row->n_prompt = (int)prompt->n_tokens;
    if (run->n_images == 0)
        return true;
    for (int i = 0; i < prompt->n_tokens; i++)
        if (row->tokens[i] == IMAGE)
            row->tokens[i]--;
    const int most = prompt->n_tokens < MAX_ROW_IMAGES ? (int)prompt->n_tokens : MAX_ROW_IMAGES;
    const int n_images = one_in(dice, 3) ? 0 : roll(dice, 1, most);
    for (int k = 0; k < n_images; k++)
        row->tokens[roll(dice, 0, (int)prompt->n_tokens - 1)] = IMAGE;
    for (int i = 0; i < prompt->n_tokens; i++) {
        if (row->tokens[i] != IMAGE)
            continue;
        row->refs[n] = (uint64_t)roll(dice, 0, run->n_images - 1);
        row->images[n].ref = (int)run->same_as[row->refs[n]];
        row->images[n].at = i + n * (run->n_image_rows - 1);
        n++;
    }
    row->n_prompt += n * (run->n_image_rows - 1);
    prompt->image_refs = row->refs;
    prompt->n_image_refs = n > 0 && one_in(dice, 25) ? n - 1 : n;
    return prompt->n_image_refs == n;
}

static bool image_of(const void *arg, uint64_t number, int position, float *out_image,
                     int *out_embed_row)
{
    const struct run *run = arg;
    const struct row *row = &run->rows[number];

    for (int i = 0; i < (int)row->prompt.n_image_refs; i++) {
        const int k = position - row->images[i].at;

        if (k < 0 || k >= run->n_image_rows)
            continue;
        *out_image = (float)row->images[i].ref;
        *out_embed_row = k;
        return true;
    }
    return false;
}

static enum status facts_of(const void *arg, uint64_t image, struct image_facts *out_facts,
                            struct row_error *err)
{
    const struct run *run = arg;
    const int edge = run->vision.grid * run->vision.patch;

    if (run->bad_header[image])
        return row_error_set(err, "image %llu is none", (unsigned long long)image);
    *out_facts = (struct image_facts){run->same_as[image], edge, edge};
    return ST_OK;
}

static uint64_t next_use_of(const void *arg, uint64_t image, uint64_t number)
{
    const struct run *run = arg;

    for (int r = (int)number + 1; r < run->n_rows; r++)
        for (int i = 0; i < (int)run->rows[r].prompt.n_image_refs; i++)
            if (run->same_as[run->rows[r].refs[i]] == image)
                return (uint64_t)r;
    return UINT64_MAX;
}

static void make_row(struct run *run, int number)
{
    struct dice *dice = &run->dice;
    struct row *row = &run->rows[number];
    struct prompt_row *prompt = &row->prompt;
    const int context = run->intake.context;

    prompt->row = (uint64_t)number;
    prompt->tokens = row->tokens;
    /* Short, long, or anything up to a little too long. */
    prompt->n_tokens = one_in(dice, 3)   ? roll(dice, 1, 2)
                       : one_in(dice, 3) ? roll(dice, context / 2, context - 1)
                                         : roll(dice, 1, context + 1);
    if (prompt->n_tokens == 0)
        prompt->n_tokens = 1;
    for (int i = 0; i < prompt->n_tokens; i++)
        row->tokens[i] = roll(dice, 0, CELL_WORDS - 1);
    if (one_in(dice, 25))
        row->tokens[prompt->n_tokens / 2] = CELL_WORDS; /* there is no such token */
    if (one_in(dice, 25))
        row_error_set(&prompt->error, "this row could not be read");
    prompt->has_max_tokens = one_in(dice, 2);
    prompt->max_tokens = one_in(dice, 25) ? 0 : roll(dice, 1, one_in(dice, 2) ? 4 : context);
    if (make_row_images(run, row))
        make_answer(run, row);
    else
        row->reason = FINISH_ERROR;
    run->n_errors += row->reason == FINISH_ERROR;
    run->prompts[number] = *prompt;
}

static void take_result(void *arg, const struct result_row *result)
{
    struct run *run = arg;

    if (result->row >= (uint64_t)run->n_rows) {
        wrong(run, "a result for row %llu of %d", (unsigned long long)result->row, run->n_rows);
        return;
    }
    struct row *row = &run->rows[result->row];
    if (row->n_results++ > 0)
        wrong(run, "row %llu ended twice", (unsigned long long)result->row);
    if (result->reason != row->reason || result->n_tokens != row->n_answer)
        wrong(run, "row %llu ended as %s with %d tokens (%.*s), not as %s with %d",
              (unsigned long long)result->row, finish_reason_name(result->reason), result->n_tokens,
              (int)result->error_bytes, result->error, finish_reason_name(row->reason),
              row->n_answer);
    else if (memcmp(result->tokens, row->answer, (size_t)row->n_answer * sizeof *row->answer) != 0)
        wrong(run, "row %llu has wrong tokens", (unsigned long long)result->row);
}

/* ---- what a seed makes ----------------------------------------------------------------------- */

static struct plan_layout make_layout(struct dice *dice, bool images)
{
    struct plan_layout layout;
    struct row_error err;

    for (;;) {
        const int n_ranks = one_in(dice, 2) ? roll(dice, 1, 4) : roll(dice, 1, MAX_RANKS);
        int asked[ROLE_COUNT] = {-1, images ? -1 : 0, -1, -1, -1};

        if (images && one_in(dice, 2))
            asked[ROLE_ENCODER] = roll(dice, 1, n_ranks);
        if (one_in(dice, 2))
            asked[ROLE_PREFILL] = roll(dice, 1, n_ranks);
        if (one_in(dice, 2))
            asked[ROLE_DECODE] = roll(dice, 1, n_ranks);
        if (one_in(dice, 4)) /* every (other) rank does both */
            asked[ROLE_PREFILL] = asked[ROLE_DECODE] = n_ranks > 1 ? n_ranks - roll(dice, 0, 1) : 1;
        if (plan_layout_make(n_ranks, asked, &layout, &err) == ST_OK)
            return layout;
    }
}

/* Ranks share a space, all of them, node by node, or none. */
static void make_spaces(struct run *run)
{
    const int n_ranks = run->args.layout.n_ranks;
    const int n_nodes = one_in(&run->dice, 3) ? n_ranks : roll(&run->dice, 1, n_ranks);
    const bool scattered = one_in(&run->dice, 3);

    for (int r = 0; r < n_ranks; r++)
        run->spaces[r] = scattered ? roll(&run->dice, 0, n_nodes - 1) : r * n_nodes / n_ranks;
}

static void make_fault(struct run *run)
{
    static const enum fault faults[] = {
        FAULT_NONE,  FAULT_NONE,   FAULT_NONE,   FAULT_NONE,    FAULT_NONE,
        FAULT_NONE,  FAULT_LOST,   FAULT_LOST,   FAULT_STOPPED, FAULT_STAGE,
        FAULT_FILES, FAULT_SIGNAL, FAULT_ERRORS, FAULT_DRAIN,
    };
    struct dice *dice = &run->dice;
    const int n_ranks = run->args.layout.n_ranks;

    run->fault = faults[roll(dice, 0, (int)(sizeof faults / sizeof *faults) - 1)];
    if (run->fault == FAULT_LOST && n_ranks == 1)
        run->fault = FAULT_NONE;
    run->args.max_errors = run->fault == FAULT_ERRORS ? roll(dice, 0, 3) : -1;
    run->fault_s = one_in(dice, 2) ? roll_real(dice, 0, 0.05) : roll_real(dice, 0, 3);
    run->fault_done = one_in(dice, 3) ? -1 : roll(dice, 0, run->n_rows);
    if (one_in(dice, 3))
        run->fault_done = run->n_rows + 1;
    if (run->fault_done >= 0)
        run->fault_s = INFINITY;
    run->sleep_s = roll_real(dice, 0, one_in(dice, 2) ? 0.5 : 3) * TIMEOUT_S;
    run->victims[0] = roll(dice, 0, n_ranks - 1);
    run->n_victims = 1;
    if (run->fault == FAULT_LOST && n_ranks > 2 && one_in(dice, 6))
        run->victims[run->n_victims++] = (run->victims[0] + roll(dice, 1, n_ranks - 1)) % n_ranks;
}

static void make_sizes(struct run *run)
{
    struct dice *dice = &run->dice;
    struct cell_args *args = &run->args;
    const bool large = one_in(dice, 150); /* blocks so big that layers leave one by one */
    const int context = large ? roll(dice, 4, 12) : roll(dice, 2, MAX_CONTEXT);

    args->kv = (struct kv_layout){
        .type = OPS_BF16, .L = roll(dice, 1, 4), .K = 1, .P = 1 << roll(dice, 0, 3), .E = 4};
    if (large)
        args->kv.E = roll(dice, 1, 3) * (128 << 10) / (4 * args->kv.P);
    const int whole = plan_blocks(context, args->kv.P); /* of one row of full context */
    const bool tiny = one_in(dice, 3), tiny_own = one_in(dice, 2);
    for (int i = 0; i < MAX_RANKS; i++) {
        run->decode_blocks[i] = tiny ? whole : whole * roll(dice, 1, 6) + roll(dice, 0, 3);
        run->own_blocks[i] = tiny_own ? whole : whole + roll(dice, 0, 2 * whole);
    }
    args->n_slots = one_in(dice, 6) ? 1 : roll(dice, 1, 24);
    args->max_rows = roll(dice, 1, args->n_slots);
    args->prefill_tok = one_in(dice, 3) ? roll(dice, 1, 4) : roll(dice, 1, 2 * MAX_CONTEXT);
    args->prefill_seqs = roll(dice, 1, 6);
    args->decode_batch = roll(dice, 1, 8);
    run->intake.context = context;
    run->intake.max_tokens = roll(dice, 1, context);
    run->intake.ignore_eos = one_in(dice, 4);
    run->n_rows = large              ? roll(dice, 1, 5)
                  : one_in(dice, 20) ? 0
                                     : roll(dice, 1, one_in(dice, 3) ? MAX_ROWS : 12);
}

/* Images of the file and what there is for them; before the rows are made. */
static void make_images(struct run *run)
{
    struct dice *dice = &run->dice;
    struct cell_args *args = &run->args;
    const int grid = roll(dice, 1, 3), edge = grid * 8;
    const struct model_config decoder = {.image_id = IMAGE};

    run->n_images = roll(dice, 1, MAX_IMAGES);
    run->n_image_rows = grid * grid;
    run->vision = (struct vision_config){
        .layout = VISION_LLAVA,
        .prep = {.resize = true,
                 .crop = true,
                 .shortest_edge = edge,
                 .crop_height = edge,
                 .crop_width = edge},
        .L = 1,
        .D = 16,
        .F = 16,
        .H = 1,
        .E = 16,
        .patch = 8,
        .patch_frames = 1,
        .grid = grid,
        .merge = 1,
        .class_token = true,
        .D_out = roll(dice, 1, one_in(dice, 4) ? 2000 : 4),
    };
    for (int i = 0; i < run->n_images; i++) {
        run->same_as[i] = (uint64_t)i;
        if (i > 0 && one_in(dice, 4))
            run->same_as[i] = run->same_as[roll(dice, 0, i - 1)];
        run->bad_header[i] = one_in(dice, 15);
        run->broken_image[i] = one_in(dice, 10);
    }
    CELL_OK(
        vision_prompt_create(&run->vision, &decoder, run->intake.tokenizer, &run->vision_prompt));
    run->intake.vision = (struct intake_vision){
        .config = &run->vision,
        .prompt = run->vision_prompt,
        .image_id = IMAGE,
        .book = {run, facts_of, next_use_of},
    };
    args->vision = &run->vision;
    args->broken = run->broken_image;
    args->n_images = run->n_images;
    args->image_id = IMAGE;
    args->feed_images = roll(dice, 1, 16);
    args->encode_images = roll(dice, 1, 6);
    args->embed_places = run->n_image_rows * roll(dice, MAX_ROW_IMAGES, one_in(dice, 2) ? 3 : 20);
    args->cache_places = run->n_image_rows * (one_in(dice, 2) ? 1 : roll(dice, 1, MAX_IMAGES));
    args->engine.patch_s = args->engine.prompt_tok_s;
    args->engine.max_patches = run->n_image_rows * roll(dice, 1, 4);
    args->engine.D = run->vision.D_out;
    args->engine.image_of = image_of;
    args->engine.image_arg = run;
}

/* A time between 1 us and most_s, each order of magnitude as likely as the others. */
static double roll_time_s(struct dice *dice, double most_s)
{
    return most_s * pow(most_s / 1e-6, -roll_real(dice, 0, 1));
}

static void make_run(struct run *run, uint64_t seed, const struct tokenizer *tokenizer)
{
    struct dice *dice = &run->dice;
    struct cell_args *args = &run->args;

    memset(run, 0, sizeof *run);
    run->seed = seed;
    run->dice = (struct dice){.seed = hash_bytes(&seed, sizeof seed, 0)};
    const bool images = one_in(dice, 2);
    args->layout = make_layout(dice, images);
    run->intake.tokenizer = tokenizer;
    run->intake.sampling.n_top = -1;
    make_spaces(run);
    make_sizes(run);
    make_fault(run);
    args->spaces = run->spaces;
    args->decode_blocks = run->decode_blocks;
    args->own_blocks = run->own_blocks;
    args->link = one_in(dice, 3) ? "mpi" : "auto";
    args->seed = seed;
    args->max_delay_s = roll_time_s(dice, 0.05);
    args->peer_timeout_s = TIMEOUT_S;
    args->engine = (struct engine_sim_args){
        .V = V,
        .context = MAX_CONTEXT,
        .step_s = roll_time_s(dice, 0.01),
        .prompt_tok_s = roll_time_s(dice, 1e-3),
        .answer_tok_s = roll_time_s(dice, 1e-3),
        .seed = seed,
        .eos_id = CELL_EOS,
        .eos_part = one_in(dice, 2) ? roll_real(dice, 0, 0.3) : 0,
        .refused_part = one_in(dice, 4) ? 0.05 : 0,
    };
    if (images)
        make_images(run);
    run->skip_one_in = one_in(dice, 2) ? 0 : roll(dice, 2, 5);
    for (int i = 0; i < run->n_rows; i++)
        make_row(run, i);
    run->io = (struct memory_io){.base = {&memory_io_ops},
                                 .rows = run->prompts,
                                 .n_rows = run->n_rows,
                                 .most_queued = one_in(dice, 3) ? 1 : roll(dice, 1, 8),
                                 .take = take_result,
                                 .arg = run};
    args->io = &run->io.base;
    args->end = (struct run_end){.drain = &run->drain};
    args->intake = &run->intake;
    cell_begin(&run->cell, args);
    for (int r = 0; r < args->layout.n_ranks;
         r++) { /* a rank's stages have their turns in any order */
        struct cell_rank *rank = &run->cell.ranks[r];

        for (int i = rank->n_stages - 1; i > 0; i--) {
            const int other = roll(dice, 0, i);
            struct stage *stage = rank->stages[i];

            rank->stages[i] = rank->stages[other];
            rank->stages[other] = stage;
        }
    }

    /* One row after another, everything at its slowest, and then some. */
    const double step_s = args->engine.step_s + args->kv.L * MAX_CONTEXT * 2 * 1e-3;
    for (int i = 0; i < run->n_rows; i++)
        run->limit_s +=
            (images ? 120 : 40) * (args->max_delay_s + QUANTUM_S) +
            (double)(run->rows[i].n_prompt + run->rows[i].n_answer + 1) * (step_s + 2 * QUANTUM_S);
    run->limit_s = 2 * run->limit_s + 8 * TIMEOUT_S;
}

/* ---- bad luck -------------------------------------------------------------------------------- */

/* Fails once; if the stage is the watch, it has to tell the others after that. */
static enum status broken_poll(struct stage *stage, bool *out_worked)
{
    const struct broken_ops *broken = (const struct broken_ops *)stage->ops;

    (void)out_worked;
    stage->ops = broken->whole;
    log_error("%s/%d fails: it was asked for", role_name(stage->at.role), stage->at.index);
    return ST_NOMEM;
}

static bool is_victim(const struct run *run, int rank)
{
    return rank == run->victims[0] || (run->n_victims == 2 && rank == run->victims[1]);
}

static void strike(struct run *run)
{
    const int n_ranks = run->args.layout.n_ranks;
    struct cell_rank *victim = &run->cell.ranks[run->victims[0]];
    const bool all = one_in(&run->dice, 2);

    run->struck = run->happened = true;
    switch (run->fault) {
    case FAULT_LOST:
        for (int i = 0; i < run->n_victims; i++)
            virtual_net_cut(run->cell.net, run->victims[i]);
        break;
    case FAULT_STAGE: {
        struct stage *stage = victim->stages[roll(&run->dice, 0, victim->n_stages - 1)];

        run->happened = !stage->ended;
        run->broken = (struct broken_ops){*stage->ops, stage->ops};
        run->broken.ops.poll = broken_poll;
        stage->ops = &run->broken.ops;
        break;
    }
    case FAULT_FILES:
        run->io.st = ST_IO;
        break;
    case FAULT_SIGNAL:
        for (int r = 0; r < n_ranks; r++)
            if (all || r == run->victims[0])
                run->cell.ranks[r].stop = SIGTERM;
        break;
    case FAULT_DRAIN:
        run->drain = 1;
        break;
    default: /* those that are asleep have no turns; errors come by themselves */
        break;
    }
}

/* Whether as much is done as the fault waits for. */
static bool is_due(const struct run *run)
{
    return run->fault_done <= run->n_rows ? (int)run->io.n_done >= run->fault_done
                                          : run->cell.coordinator->ended;
}

/* Whether a rank has turns. */
static bool is_awake(const struct run *run, int rank, double now_s)
{
    if (run->ended[rank] != ST_OK)
        return false;
    if (!run->happened || !is_victim(run, rank))
        return true;
    return run->fault != FAULT_LOST &&
           (run->fault != FAULT_STOPPED || now_s >= run->fault_s + run->sleep_s);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Mirrors promise no more than there is. */
static void check_mirrors(struct run *run)
{
    const struct plan_layout *layout = &run->args.layout;

    for (int d = 0; d < layout->n_stages[ROLE_DECODE]; d++) {
        const struct plan_pool *mirror = coordinator_pool(run->cell.coordinator, d);
        const struct kv_pool *pool = run->cell.ranks[plan_layout_rank(layout, ROLE_DECODE, d)].pool;

        if (mirror->n_free_blocks < 0 || mirror->n_free_blocks > kv_pool_n_free(pool) ||
            mirror->n_rows < 0 || mirror->n_rows > mirror->max_rows)
            wrong(run, "decode/%d has %d free blocks, its mirror says %d, with %d rows of %d", d,
                  kv_pool_n_free(pool), mirror->n_free_blocks, mirror->n_rows, mirror->max_rows);
    }
}

/* A rank may be slow, but not for ever. */
static bool skips(struct run *run, int rank)
{
    const bool skip = run->skip_one_in > 0 && run->n_skipped[rank] < MAX_SKIPPED &&
                      one_in(&run->dice, run->skip_one_in);

    run->n_skipped[rank] = skip ? run->n_skipped[rank] + 1 : 0;
    return skip;
}

/* Every rank that has a turn, in any order.  Returns whether there was work. */
static bool turn_ranks(struct run *run, double now_s)
{
    const int n_ranks = run->args.layout.n_ranks;
    int order[MAX_RANKS] = {0};
    bool any_worked = false;

    for (int r = 0; r < n_ranks; r++) {
        const int other = roll(&run->dice, 0, r);

        order[r] = order[other];
        order[other] = r;
    }
    for (int i = 0; i < n_ranks; i++) {
        const int r = order[i];
        bool worked;

        if (!is_awake(run, r, now_s) || skips(run, r))
            continue;
        run->ended[r] = loop_turn(&run->cell.ranks[r].loop, &worked);
        run->ended_s[r] = now_s;
        if (run->ended[r] != ST_OK && run->ended[r] != ST_END)
            virtual_net_cut(run->cell.net, r); /* its process ends without a farewell */
        any_worked |= worked;
    }
    return any_worked;
}

/* Files are slow now and then. */
static void turn_files(struct run *run)
{
    run->io.reader_waits = one_in(&run->dice, 4);
    if (run->io.n_queued > 0 && one_in(&run->dice, 3))
        run->io.n_queued -= roll(&run->dice, 1, run->io.n_queued);
}

static bool all_ended(const struct run *run)
{
    for (int r = 0; r < run->args.layout.n_ranks; r++)
        if (run->ended[r] == ST_OK &&
            !(run->happened && run->fault == FAULT_LOST && is_victim(run, r)))
            return false;
    return true;
}

/* To what happens next, but not far. */
static void advance(struct run *run, double now_s)
{
    double most_s = QUANTUM_S;

    for (int r = 0; r < run->args.layout.n_ranks; r++) {
        const struct engine *engine = run->cell.ranks[r].engine;

        if (engine != NULL && is_awake(run, r, now_s)) {
            const double left_s = engine_sim_due_s(engine) - now_s;

            if (left_s > 0 && left_s < most_s) /* the past is for ranks that had no turn */
                most_s = left_s;
        }
    }
    virtual_net_advance(run->cell.net, most_s);
}

/* Where everything stands, for the log of a run that hangs. */
static void say_ranks(const struct run *run)
{
    for (int r = 0; r < run->args.layout.n_ranks; r++) {
        const struct cell_rank *rank = &run->cell.ranks[r];

        log_debug("rank %d: %s; %s; %s; failure of rank %d: %s", r,
                  run->ended[r] == ST_OK ? "goes on" : status_name(run->ended[r]),
                  world_flushed(rank->world) ? "flushed" : "not flushed",
                  watch_beat(rank->loop.watch, r)->doing, watch_failure(rank->loop.watch)->rank,
                  watch_failure(rank->loop.watch)->message);
    }
    log_debug("files: %d of %d rows given, %d freed, %d queued", run->io.n_given, run->n_rows,
              run->io.n_freed, run->io.n_queued);
}

static void turn_until_ended(struct run *run)
{
    for (int turn = 0; !all_ended(run) && run->wrong[0] == '\0'; turn++) {
        const double now_s = virtual_net_now_s(run->cell.net);

        if (run->fault_s == INFINITY && is_due(run))
            run->fault_s = now_s + roll_real(&run->dice, 0, 4 * run->args.max_delay_s);
        if (!run->struck && run->fault != FAULT_NONE && now_s >= run->fault_s)
            strike(run);
        turn_files(run);
        if (!turn_ranks(run, now_s))
            advance(run, now_s);
        check_mirrors(run);
        if (turn == MAX_TURNS || now_s > run->limit_s) {
            wrong(run, "it hangs: %d turns, %.3f s of %.3f", turn, now_s, run->limit_s);
            say_ranks(run);
        }
    }
}

/* ---- what has to be true at the end ----------------------------------------------------------- */

static void check_all_rows(struct run *run)
{
    for (int p = 0; p < run->args.layout.n_stages[ROLE_PREFILL]; p++) {
        const struct plan_room *room = coordinator_room(run->cell.coordinator, p);

        if (room != NULL && (room->n_free != room->n_places || room->n_extents != 1))
            wrong(run, "prefill/%d has %d of %d places for embeddings free at the end", p,
                  room->n_free, room->n_places);
    }
    const bool drained = run->fault == FAULT_DRAIN && run->happened;
    int n_left = 0;
    for (int i = 0; i < run->n_rows; i++) {
        n_left += run->rows[i].n_results == 0;
        if (run->rows[i].n_results != 1 && !drained)
            wrong(run, "row %d ended %d times", i, run->rows[i].n_results);
    }
    /* All that were begun are finished; one may have been read and not begun. */
    if (drained && n_left - (run->n_rows - run->io.n_given) > 1)
        wrong(run, "%d rows are left, of which %d were read", n_left,
              n_left - (run->n_rows - run->io.n_given));
    if (run->io.n_queued != 0)
        wrong(run, "it ended with %d results that are not written", run->io.n_queued);
}

/* Beats may still be on their way to a rank that has ended; nothing else may. */
static void check_no_message(struct run *run)
{
    const struct plan_layout *layout = &run->args.layout;
    const double until_s = virtual_net_now_s(run->cell.net) + 2 * run->args.max_delay_s;
    struct msg *msg;

    while (virtual_net_now_s(run->cell.net) < until_s)
        virtual_net_advance(run->cell.net, QUANTUM_S);
    for (int r = 0; r < layout->n_ranks; r++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            const int index = plan_layout_hosts(layout, r, (enum role)role);

            if (index < 0)
                continue;
            while (world_next(run->cell.ranks[r].world, (struct address){(enum role)role, index},
                              &msg) == ST_OK) {
                if (msg->type != MSG_BEAT)
                    wrong(run, "a %s is left for %s/%d", msg_name(msg->type),
                          role_name((enum role)role), index);
                msg_free(msg);
            }
        }
}

/* Everything that was taken is back. */
static void check_conserved(struct run *run)
{
    const struct plan_layout *layout = &run->args.layout;

    for (int r = 0; r < layout->n_ranks; r++) {
        const struct cell_rank *rank = &run->cell.ranks[r];

        if (rank->pool != NULL && kv_pool_n_free(rank->pool) != kv_pool_n_blocks(rank->pool))
            wrong(run, "rank %d: %d of %d decode blocks are free", r, kv_pool_n_free(rank->pool),
                  kv_pool_n_blocks(rank->pool));
        if (rank->own != NULL && kv_pool_n_free(rank->own) != kv_pool_n_blocks(rank->own))
            wrong(run, "rank %d: %d of %d prefill blocks are free", r, kv_pool_n_free(rank->own),
                  kv_pool_n_blocks(rank->own));
        if (rank->out != NULL && !link_out_idle(rank->out))
            wrong(run, "rank %d: its link is not idle", r);
        if (rank->engine != NULL && rank->engine->running != NULL)
            wrong(run, "rank %d: its engine still runs", r);
        if (!world_flushed(rank->world) && run->fault != FAULT_LOST)
            wrong(run, "rank %d: its world is not flushed", r);
    }
    for (int d = 0; d < layout->n_stages[ROLE_DECODE]; d++) {
        const struct plan_pool *mirror = coordinator_pool(run->cell.coordinator, d);

        if (mirror->n_free_blocks != run->decode_blocks[d] || mirror->n_rows != 0)
            wrong(run, "the mirror of decode/%d ends with %d free blocks of %d and %d rows", d,
                  mirror->n_free_blocks, run->decode_blocks[d], mirror->n_rows);
    }
    for (int p = 0; p < layout->n_stages[ROLE_PREFILL]; p++)
        if (coordinator_queue(run->cell.coordinator, p)->waiting_tok != 0)
            wrong(run, "the mirror of prefill/%d ends with %lld tokens waiting", p,
                  (long long)coordinator_queue(run->cell.coordinator, p)->waiting_tok);
    if ((run->io.n_given != run->n_rows && run->fault != FAULT_DRAIN) ||
        run->io.n_freed != run->io.n_given)
        wrong(run, "%d rows were read and %d freed, of %d", run->io.n_given, run->io.n_freed,
              run->n_rows);
}

/* first_s: when the first rank ended.
 * A rank of a run that failed knows whose failure it is, and why, and has ended soon. */
static void check_failure(struct run *run, int rank, double first_s)
{
    static const enum status statuses[] = {
        [FAULT_LOST] = ST_COMM, [FAULT_STOPPED] = ST_COMM,   [FAULT_STAGE] = ST_NOMEM,
        [FAULT_FILES] = ST_IO,  [FAULT_SIGNAL] = ST_STOPPED, [FAULT_ERRORS] = ST_STOPPED,
    };
    static const char *const says[] = {
        [FAULT_LOST] = "silent",     [FAULT_STOPPED] = "silent",   [FAULT_STAGE] = "fails",
        [FAULT_FILES] = "cannot be", [FAULT_SIGNAL] = "by signal", [FAULT_ERRORS] = "max_errors",
    };
    const struct wire_fail *failure = watch_failure(run->cell.ranks[rank].loop.watch);
    /* A rank was lost when all rows were written, and another waits for it. */
    const bool at_end = run->fault <= FAULT_STOPPED && (int)run->io.n_done == run->n_rows &&
                        strstr(failure->message, "has not ended for") != NULL;

    if (run->ended[rank] != statuses[run->fault] ||
        (enum status)failure->status != run->ended[rank])
        wrong(run, "rank %d ended with %s and knows of %s", rank, status_name(run->ended[rank]),
              status_name((enum status)failure->status));
    if (failure->rank < 0 || (strstr(failure->message, says[run->fault]) == NULL && !at_end))
        wrong(run, "rank %d ended with %s and knows that of rank %d: \"%s\"", rank,
              status_name(run->ended[rank]), failure->rank, failure->message);
    if ((run->fault == FAULT_LOST || run->fault == FAULT_STAGE) && !at_end &&
        !is_victim(run, failure->rank))
        wrong(run, "rank %d thinks that rank %d failed: \"%s\"", rank, failure->rank,
              failure->message);
    if ((run->fault == FAULT_FILES || run->fault == FAULT_ERRORS) && failure->rank != 0)
        wrong(run, "rank %d thinks that rank %d failed: \"%s\"", rank, failure->rank,
              failure->message);

    double within_s = LEAVE_S + SLOW_S, since_s = run->fault_s;
    if (run->fault == FAULT_ERRORS || run->fault == FAULT_FILES)
        since_s = first_s;        /* the coordinator finds out when it comes to it */
    if (run->fault == FAULT_LOST) /* of two lost ranks, one may have to be found by each alone */
        within_s = TIMEOUT_S + (run->n_victims == 2 ? LEAVE_S + SLOW_S : 0);
    if (run->fault == FAULT_STOPPED) /* itself it wakes up and finds all others silent */
        within_s = TIMEOUT_S + (is_victim(run, rank) ? run->sleep_s + LEAVE_S + SLOW_S : 0);
    if (run->ended_s[rank] > since_s + within_s)
        wrong(run, "rank %d ended %.3f s after the fault", rank, run->ended_s[rank] - since_s);
}

static void check_end(struct run *run)
{
    const int n_ranks = run->args.layout.n_ranks;
    int n_done = 0, n_broken = 0;
    double first_s = INFINITY;

    for (int r = 0; r < n_ranks; r++)
        if (run->ended[r] != ST_OK && run->ended_s[r] < first_s)
            first_s = run->ended_s[r];
    for (int r = 0; r < n_ranks; r++) {
        n_done += run->ended[r] == ST_END;
        n_broken += run->ended[r] != ST_END && run->ended[r] != ST_OK;
        if (run->ended[r] != ST_END && run->ended[r] != ST_OK && run->fault != FAULT_NONE &&
            run->fault != FAULT_DRAIN)
            check_failure(run, r, first_s);
    }
    if (n_done > 0) /* nobody is told to end before all is written */
        check_all_rows(run);
    if (n_done == n_ranks) {
        check_no_message(run);
        check_conserved(run);
    }
    /* Whether the run has to end well, or must not. */
    const bool harmless = !run->happened || run->fault == FAULT_NONE || run->fault == FAULT_DRAIN ||
                          (run->fault == FAULT_STOPPED && run->sleep_s < 0.5 * TIMEOUT_S) ||
                          (run->fault == FAULT_ERRORS && run->n_errors <= run->args.max_errors);
    if (run->fault == FAULT_ERRORS && run->n_errors > run->args.max_errors) {
        if (n_broken != n_ranks)
            wrong(run, "%d rows failed, and %d ranks ended well", run->n_errors, n_done);
    } else if (harmless && n_done != n_ranks) {
        for (int r = 0; r < n_ranks; r++)
            if (run->ended[r] != ST_END)
                wrong(run, "rank %d ended with %s (%s)", r, status_name(run->ended[r]),
                      log_last_error());
    }
}

static void keep_figures(struct run *run)
{
    const struct plan_layout *layout = &run->args.layout;
    const int n_pairs = layout->n_stages[ROLE_PREFILL] * layout->n_stages[ROLE_DECODE];

    memcpy(run->kinds, run->cell.kinds, (size_t)n_pairs * sizeof *run->kinds);
    struct wire_beat totals;
    watch_totals(run->cell.ranks[0].loop.watch, &totals);
    run->encoded = totals.encode;
    for (int r = 0; r < layout->n_ranks; r++)
        if (run->cell.ranks[r].out != NULL)
            run->n_pieces += link_out_figures(run->cell.ranks[r].out).n_pieces;
}

/* Returns what is wrong, "" if nothing; valid until the next run. */
static const char *run_seed(struct run *run, uint64_t seed, const struct tokenizer *tokenizer)
{
    make_run(run, seed, tokenizer);
    log_debug("seed %llu: %d ranks (%d prefill, %d decode), link %s, %d rows, context %d, %d + %d "
              "blocks of %d, %d slots, fault %d after %.3f s or %d rows",
              (unsigned long long)seed, run->args.layout.n_ranks,
              run->args.layout.n_stages[ROLE_PREFILL], run->args.layout.n_stages[ROLE_DECODE],
              run->args.link, run->n_rows, run->intake.context, run->decode_blocks[0],
              run->own_blocks[0], run->args.kv.P, run->args.n_slots, run->fault, run->fault_s,
              run->fault_done);
    turn_until_ended(run);
    if (run->wrong[0] == '\0')
        check_end(run);
    keep_figures(run);
    cell_end(&run->cell);
    vision_prompt_destroy(run->vision_prompt);
    return run->wrong;
}

/* ---- many seeds ------------------------------------------------------------------------------ */

enum { N_FAULTS = FAULT_DRAIN + 1 };

/* What a process is at and has seen; its parent reads it. */
struct worker {
    uint64_t seed, n_runs, n_wrong, n_rows, n_pieces;
    uint64_t n_uses, n_images, n_again, n_embed_bytes;
    uint64_t n_well[N_FAULTS], n_broken[N_FAULTS], n_links[LINK_KIND_COUNT];
    pid_t pid;
};

static void note_run(struct worker *worker, const struct run *run)
{
    const struct plan_layout *layout = &run->args.layout;
    const int n_pairs = layout->n_stages[ROLE_PREFILL] * layout->n_stages[ROLE_DECODE];
    bool broken = false;

    for (int r = 0; r < layout->n_ranks; r++)
        broken |= run->ended[r] != ST_END;
    worker->n_runs++;
    worker->n_wrong += run->wrong[0] != '\0';
    worker->n_rows += run->io.n_done;
    (broken ? worker->n_broken : worker->n_well)[run->fault]++;
    for (int i = 0; i < n_pairs; i++)
        worker->n_links[run->kinds[i]]++;
    worker->n_pieces += run->n_pieces;
    worker->n_uses += run->encoded.n_uses;
    worker->n_images += run->encoded.n_images;
    worker->n_again += run->encoded.n_again;
    worker->n_embed_bytes += run->encoded.n_bytes;
}

/* Every nth seed, in silence but for what is wrong. */
static void work(struct worker *worker, uint64_t first, uint64_t end, uint64_t every,
                 const struct tokenizer *tokenizer)
{
    struct run *run = cell_zalloc(1, sizeof *run);

    if (freopen("/dev/null", "w", stderr) == NULL)
        exit(1);
    for (worker->seed = first; worker->seed < end; worker->seed += every) {
        alarm(HANG_S);
        if (run_seed(run, worker->seed, tokenizer)[0] != '\0') {
            printf("seed %llu: %s\n", (unsigned long long)worker->seed, run->wrong);
            fflush(stdout);
        }
        note_run(worker, run);
    }
    free(run);
}

/* Add one worker's figures to those of all. */
static void add(struct worker *all, const struct worker *worker)
{
    all->n_runs += worker->n_runs;
    all->n_wrong += worker->n_wrong;
    all->n_rows += worker->n_rows;
    all->n_pieces += worker->n_pieces;
    all->n_uses += worker->n_uses;
    all->n_images += worker->n_images;
    all->n_again += worker->n_again;
    all->n_embed_bytes += worker->n_embed_bytes;
    for (int i = 0; i < N_FAULTS; i++) {
        all->n_well[i] += worker->n_well[i];
        all->n_broken[i] += worker->n_broken[i];
    }
    for (int i = 0; i < LINK_KIND_COUNT; i++)
        all->n_links[i] += worker->n_links[i];
}

/* The seeds must have been what this test is for. */
static int n_missing(const struct worker *all)
{
    static const char *const names[N_FAULTS] = {"no fault",        "rank lost",  "rank stopped",
                                                "stage broken",    "files gone", "signal",
                                                "too many errors", "drained"};
    int n = 0;

    printf("unit_protocol: %llu seeds, %llu wrong, %llu rows, %llu pieces, pairs linked:",
           (unsigned long long)all->n_runs, (unsigned long long)all->n_wrong,
           (unsigned long long)all->n_rows, (unsigned long long)all->n_pieces);
    for (int i = 0; i < LINK_KIND_COUNT; i++) {
        printf(" %s %llu", link_kind_name((enum link_kind)i), (unsigned long long)all->n_links[i]);
        n += all->n_links[i] == 0;
    }
    printf("\n  images: %llu uses, %llu encoded, %llu of them again, %llu bytes sent\n",
           (unsigned long long)all->n_uses, (unsigned long long)all->n_images,
           (unsigned long long)all->n_again, (unsigned long long)all->n_embed_bytes);
    n +=
        all->n_uses <= all->n_images - all->n_again || all->n_again == 0 || all->n_embed_bytes == 0;
    for (int i = 0; i < N_FAULTS; i++) {
        printf("  %-16s %8llu ended well %8llu did not\n", names[i],
               (unsigned long long)all->n_well[i], (unsigned long long)all->n_broken[i]);
        n +=
            all->n_well[i] == 0 || (all->n_broken[i] == 0) != (i == FAULT_NONE || i == FAULT_DRAIN);
    }
    return n + (all->n_pieces == 0);
}

static int many_seeds(uint64_t first, uint64_t count, const struct tokenizer *tokenizer)
{
    const int n_workers = threads_default_count();
    struct worker all = {0};
    struct worker *workers = mmap(NULL, (size_t)n_workers * sizeof *workers, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (workers == MAP_FAILED)
        return 1;
    for (int i = 0; i < n_workers; i++) {
        const pid_t pid = fork();

        if (pid == 0) {
            work(&workers[i], first + (uint64_t)i, first + count, (uint64_t)n_workers, tokenizer);
            exit(0);
        }
        workers[i].pid = pid;
    }
    for (int i = 0; i < n_workers; i++) {
        int status;

        if (waitpid(workers[i].pid, &status, 0) < 0 || status != 0) {
            printf("seed %llu: its process ended with %s %d\n", (unsigned long long)workers[i].seed,
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            workers[i].n_wrong++;
        }
        add(&all, &workers[i]);
    }
    munmap(workers, (size_t)n_workers * sizeof *workers);
    const int missing = n_missing(&all);
    if (all.n_wrong > 0)
        printf("a seed again, with its log: unit_protocol SEED\n");
    return all.n_wrong > 0 || missing > 0;
}

static int one_seed(uint64_t seed, const struct tokenizer *tokenizer)
{
    struct run *run = cell_zalloc(1, sizeof *run);

    log_set_level(LOG_DEBUG);
    const char *says = run_seed(run, seed, tokenizer);
    const bool failed = says[0] != '\0';
    printf("seed %llu: %s\n", (unsigned long long)seed, failed ? says : "nothing is wrong");
    free(run);
    return failed;
}

int main(int argc, char **argv)
{
    struct tokenizer *tokenizer = cell_tokenizer();
    const uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    const uint64_t n = argc > 2 ? strtoull(argv[2], NULL, 10) : N_SEEDS;

    log_set_level(LOG_ERROR);
    const int failed = argc == 2 ? one_seed(first, tokenizer) : many_seeds(first, n, tokenizer);
    tokenizer_destroy(tokenizer);
    return failed;
}
