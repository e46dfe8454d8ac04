/*
 * virtual.c - what one coordinator does with very many ranks: a whole cell on the virtual world,
 * with the simulated engine, in one process.
 *
 *   virtual [RANKS [ROWS [SEED]]]      1,000 ranks, 20 rows a rank
 *
 * Two clocks.  On the virtual one engines compute and messages travel; handling a message takes no
 * time on it.  On the real one the calls into the coordinator and into watch/0 that did work are
 * timed: busy share = that time / virtual time of the run, as if rank 0 had a core of its own.
 * Above 1 the coordinator could not keep up, and the virtual rate is one that no machine would
 * reach.  Not in the figures: tokenising (rows are token ids), files, and what MPI costs a message.
 *
 * Every rank has a turn every TURN_S of virtual time.  Answers are checked.
 */
#include "cell.h"

enum {
    V = 30,
    CONTEXT = 256,
    PROMPT_TOK = 128,
    MAX_TOKENS = 128,
    BATCH = 8,
    BLOCK_TOK = 16,
    NODE_RANKS = 8,
};

#define TURN_S 2e-4
#define EOS_PART (1.0 / 64) /* answers have 56 tokens on average */

/* A stage whose calls are timed. */
struct timed {
    struct stage_ops ops;
    const struct stage_ops *whole;
    double busy_s;
    uint64_t n_messages;
};

struct test {
    struct cell cell;
    struct cell_args args;
    struct memory_io io;
    struct intake intake;
    int *spaces, *blocks;       /* [n_ranks] */
    int32_t *tokens;            /* [n_rows, PROMPT_TOK] */
    struct prompt_row *prompts; /* [n_rows] */
    uint8_t *n_results;         /* [n_rows] */
    int n_rows, n_wrong;
    uint64_t n_answer_tok;
    struct timed coordinator, watch;
};

/* ---- timed stages ---------------------------------------------------------------------------- */

static enum status timed_message(struct stage *stage, struct msg *msg)
{
    struct timed *timed = (struct timed *)(uintptr_t)stage->ops;
    const double begin_s = clock_now_s();
    const enum status st = timed->whole->on_message(stage, msg);

    timed->busy_s += clock_now_s() - begin_s;
    timed->n_messages++;
    return st;
}

/* The watch never says that it worked, so its beats are told by the messages that it sends. */
static enum status timed_poll(struct stage *stage, bool *out_worked)
{
    struct timed *timed = (struct timed *)(uintptr_t)stage->ops;
    const double begin_s = clock_now_s();
    const enum status st = timed->whole->poll(stage, out_worked);

    if (*out_worked || stage->at.role == ROLE_WATCH)
        timed->busy_s += clock_now_s() - begin_s;
    return st;
}

static void time_stage(struct timed *timed, struct stage *stage)
{
    timed->ops = *stage->ops;
    timed->whole = stage->ops;
    timed->ops.on_message = timed_message;
    timed->ops.poll = timed_poll;
    stage->ops = &timed->ops;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void take_result(void *arg, const struct result_row *result)
{
    struct test *test = arg;
    bool wrong = test->n_results[result->row]++ > 0 || result->reason == FINISH_ERROR;

    for (int i = 0; i < result->n_tokens; i++)
        wrong |=
            result->tokens[i] != engine_sim_token(&test->args.engine, result->row, PROMPT_TOK + i);
    test->n_wrong += wrong;
    test->n_answer_tok += (uint64_t)result->n_tokens;
}

static void make_rows(struct test *test, struct dice *dice)
{
    test->tokens = cell_zalloc((size_t)test->n_rows * PROMPT_TOK, sizeof *test->tokens);
    test->prompts = cell_zalloc((size_t)test->n_rows, sizeof *test->prompts);
    test->n_results = cell_zalloc((size_t)test->n_rows, 1);
    for (int i = 0; i < test->n_rows; i++) {
        int32_t *row = test->tokens + (size_t)i * PROMPT_TOK;

        for (int k = 0; k < PROMPT_TOK; k++)
            row[k] = roll(dice, 0, CELL_WORDS - 1);
        test->prompts[i] =
            (struct prompt_row){.row = (uint64_t)i, .tokens = row, .n_tokens = PROMPT_TOK};
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

static void advance(struct virtual_net *net)
{
    const double until_s = virtual_net_now_s(net) + TURN_S;

    while (virtual_net_now_s(net) < until_s)
        virtual_net_advance(net, until_s - virtual_net_now_s(net));
}

/* Returns how many ranks ended well. */
static int turn_all(struct test *test)
{
    const int n_ranks = test->args.layout.n_ranks;
    enum status *ended = cell_zalloc((size_t)n_ranks, sizeof *ended);
    int n_ended = 0, n_well = 0;

    while (n_ended < n_ranks) {
        test->io.n_queued = 0;
        for (int r = 0; r < n_ranks; r++) {
            bool worked;

            if (ended[r] != ST_OK)
                continue;
            ended[r] = loop_turn(&test->cell.ranks[r].loop, &worked);
            n_ended += ended[r] != ST_OK;
            n_well += ended[r] == ST_END;
        }
        advance(test->cell.net);
    }
    free(ended);
    return n_well;
}

static double busy_part(const struct test *test, enum role role, double run_s)
{
    const int n = test->args.layout.n_stages[role];
    double busy_s = 0;

    for (int i = 0; i < n; i++)
        busy_s +=
            test->cell.ranks[plan_layout_rank(&test->args.layout, role, i)].engine->stats.busy_s;
    return busy_s / n / run_s;
}

static void print_figures(const struct test *test, double wall_s)
{
    const struct plan_layout *layout = &test->args.layout;
    const double run_s = virtual_net_now_s(test->cell.net), n_rows = test->n_rows;
    const struct timed *coordinator = &test->coordinator, *watch = &test->watch;
    uint64_t n_sent[MSG_COUNT] = {0}, n_of_rows = 0;

    for (int r = 0; r < layout->n_ranks; r++)
        for (int i = 0; i < MSG_COUNT; i++)
            n_sent[i] += world_n_sent(test->cell.ranks[r].world)[i];
    for (int i = 0; i <= MSG_DONE; i++)
        n_of_rows += n_sent[i];
    printf("ranks        %d: 1 coordinator, %d prefill, %d decode; nodes of %d share KV memory\n",
           layout->n_ranks, layout->n_stages[ROLE_PREFILL], layout->n_stages[ROLE_DECODE],
           NODE_RANKS);
    printf("rows         %d of %d + %.1f tokens, %d wrong\n", test->n_rows, PROMPT_TOK,
           (double)test->n_answer_tok / n_rows, test->n_wrong);
    printf("virtual      %.2f s, %.0f rows/s; engines busy: prefill %.0f %%, decode %.0f %%\n",
           run_s, n_rows / run_s, 100 * busy_part(test, ROLE_PREFILL, run_s),
           100 * busy_part(test, ROLE_DECODE, run_s));
    printf("wall         %.2f s, %.0f rows/s, for all ranks on one core\n", wall_s,
           n_rows / wall_s);
    printf("messages     %.2f a row:", (double)n_of_rows / n_rows);
    for (int i = 0; i <= MSG_DONE; i++)
        printf(" %s %.2f", msg_name((enum msg_type)i), (double)n_sent[i] / n_rows);
    printf("; %s %.0f /s\n", msg_name(MSG_BEAT), (double)n_sent[MSG_BEAT] / run_s);
    printf("coordinator  busy %.2f %%: %.2f us a row, %.2f us a message taken or sent\n",
           100 * coordinator->busy_s / run_s, 1e6 * coordinator->busy_s / n_rows,
           1e6 * coordinator->busy_s /
               (double)(coordinator->n_messages + n_sent[MSG_RESERVE] + n_sent[MSG_ADMIT]));
    printf("watch/0      busy %.2f %%, %.0f messages /s taken\n", 100 * watch->busy_s / run_s,
           (double)watch->n_messages / run_s);
}

/* ---- a cell and its end ---------------------------------------------------------------------- */

static void begin(struct test *test, const struct plan_layout *layout, int n_rows, uint64_t seed)
{
    const int n_ranks = layout->n_ranks;
    const int n_slots = 2 * BATCH * layout->n_stages[ROLE_DECODE];
    struct dice dice = {.seed = seed};

    *test = (struct test){.n_rows = n_rows,
                          .intake = {.tokenizer = cell_tokenizer(),
                                     .context = CONTEXT,
                                     .max_tokens = MAX_TOKENS,
                                     .sampling = {.n_top = -1}},
                          .spaces = cell_zalloc((size_t)n_ranks, sizeof *test->spaces),
                          .blocks = cell_zalloc((size_t)n_ranks, sizeof *test->blocks)};
    make_rows(test, &dice);
    test->io = (struct memory_io){.base = {&memory_io_ops},
                                  .rows = test->prompts,
                                  .n_rows = n_rows,
                                  .most_queued = INT32_MAX,
                                  .take = take_result,
                                  .arg = test};
    for (int r = 0; r < n_ranks; r++) {
        test->spaces[r] = r / NODE_RANKS;
        test->blocks[r] = 2 * BATCH * CONTEXT / BLOCK_TOK;
    }
    test->args = (struct cell_args){
        .layout = *layout,
        .spaces = test->spaces,
        .link = "auto",
        .kv = {.type = OPS_BF16, .L = 4, .K = 1, .P = BLOCK_TOK, .E = 4},
        .decode_blocks = test->blocks,
        .own_blocks = test->blocks,
        .n_slots = n_slots < COMM_MAX_SLOTS ? n_slots : COMM_MAX_SLOTS,
        .max_rows = 2 * BATCH,
        .prefill_tok = 2 * PROMPT_TOK,
        .prefill_seqs = 8,
        .decode_batch = BATCH,
        .engine = {.V = V,
                   .context = CONTEXT,
                   .step_s = 1e-3,
                   .prompt_tok_s = 150e-6,
                   .answer_tok_s = 300e-6,
                   .seed = seed,
                   .eos_id = CELL_EOS,
                   .eos_part = EOS_PART},
        .intake = &test->intake,
        .io = &test->io.base,
        .max_errors = -1,
        .peer_timeout_s = 30,
        .max_delay_s = 1e-3,
        .seed = seed,
    };
    cell_begin(&test->cell, &test->args);
    time_stage(&test->coordinator, test->cell.coordinator);
    time_stage(&test->watch, test->cell.ranks[0].loop.watch);
}

static void end(struct test *test)
{
    cell_end(&test->cell);
    tokenizer_destroy((struct tokenizer *)(uintptr_t)test->intake.tokenizer);
    free(test->tokens);
    free(test->prompts);
    free(test->n_results);
    free(test->spaces);
    free(test->blocks);
    free(test);
}

/* A number of the command line; 0 if it is none, or not below 2^31. */
static int number(const char *text)
{
    char *rest;
    const long n = strtol(text, &rest, 10);

    return *rest == '\0' && n > 0 && n <= INT32_MAX ? (int)n : 0;
}

int main(int argc, char **argv)
{
    const int n_ranks = argc > 1 ? number(argv[1]) : 1000;
    const int n_rows = argc > 2 ? number(argv[2]) : 20 * n_ranks;
    const int seed = argc > 3 ? number(argv[3]) : 1;
    const int asked[ROLE_COUNT] = {-1, 0, -1, -1, -1};
    struct plan_layout layout;
    struct row_error err;

    if (n_ranks == 0 || n_rows == 0 || seed == 0 ||
        plan_layout_make(n_ranks, asked, &layout, &err) != ST_OK) {
        fprintf(stderr, "virtual [RANKS [ROWS [SEED]]]: each a number above 0\n");
        return 2;
    }
    log_set_level(LOG_ERROR);
    struct test *test = cell_zalloc(1, sizeof *test);
    begin(test, &layout, n_rows, (uint64_t)seed);
    const double begin_s = clock_now_s();
    const int n_well = turn_all(test);
    print_figures(test, clock_now_s() - begin_s);
    const bool failed =
        n_well < n_ranks || test->n_wrong > 0 || test->io.n_done != (uint64_t)n_rows;
    if (failed)
        printf("FAILED: %d of %d ranks ended well, %llu of %d rows are done: %s\n", n_well, n_ranks,
               (unsigned long long)test->io.n_done, n_rows, log_last_error());
    end(test);
    return failed;
}
