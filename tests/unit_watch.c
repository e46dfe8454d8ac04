/* TEST */
/*
 * unit_watch.c - how a run on several ranks ends: all have ended, one fails, one is told to stop,
 * one is lost.  Every rank turns the product's loop with its watch and one stage that does as the
 * test says, over a virtual world; in all cases every rank that lives comes out, in time, with the
 * same status, and one rank says why.
 */
#include "stage/stage.h"
#include "test.h"

enum { MAX_RANKS = 8, MAX_TURNS = 200000 };

static const double TIMEOUT_S = 8, TICK_S = 2e-3;

/* ---- the ranks -------------------------------------------------------------------------------- */

/* A stage that does as it is told. */
struct puppet {
    struct stage base;
    bool end;         /* end at the next turn */
    enum status fail; /* fail at the next turn, with this */
    int n_rows;
};

struct node {
    struct world *world;
    struct puppet puppet;
    struct stage *stages[2]; /* the puppet, the watch */
    struct engine engine;    /* its figures only */
    struct loop loop;
    atomic_int stop; /* a signal's number */
    bool asleep;     /* it has no turns: its process is stopped, or gone */
    bool over;
    enum status st;
    double over_s;
};

struct town {
    struct virtual_net *net;
    int n_ranks;
    struct node nodes[MAX_RANKS];
    char who[MAX_RANKS][48];
    const char *who_of[MAX_RANKS];
    int said; /* where standard error goes to, and its own place */
    int stderr_was;
};

static enum status puppet_message(struct stage *stage, struct msg *msg)
{
    (void)stage;
    msg_free(msg);
    return ST_OK;
}

static enum status puppet_poll(struct stage *stage, bool *out_worked)
{
    struct puppet *puppet = (struct puppet *)stage;

    *out_worked = false;
    if (puppet->fail != ST_OK)
        log_error("puppet %d has no strings", stage->at.index);
    stage->ended = puppet->end;
    return puppet->fail;
}

static void puppet_describe(const struct stage *stage, struct wire_beat *beat)
{
    beat->n_rows += ((const struct puppet *)stage)->n_rows;
    beat_say(beat, "dances for %d", ((const struct puppet *)stage)->n_rows);
}

static const struct stage_ops puppet_ops = {puppet_message, puppet_poll, puppet_describe, NULL};

static void node_begin(struct town *town, int rank)
{
    struct node *node = &town->nodes[rank];

    CHECK(virtual_net_world(town->net, rank, &node->world) == ST_OK);
    const struct plan_layout *layout = world_layout(node->world);
    const int prefill = plan_layout_hosts(layout, rank, ROLE_PREFILL);
    const int decode = plan_layout_hosts(layout, rank, ROLE_DECODE);
    node->puppet = (struct puppet){.base = {.ops = &puppet_ops}, .n_rows = 100 + rank};
    node->puppet.base.at = prefill >= 0  ? (struct address){ROLE_PREFILL, prefill}
                           : decode >= 0 ? (struct address){ROLE_DECODE, decode}
                                         : (struct address){ROLE_COORDINATOR, 0};
    node->engine.stats =
        (struct engine_stats){.n_steps = 1, .n_prompt_tok = 10, .n_answer_tok = 100, .busy_s = 0.5};
    node->stages[0] = &node->puppet.base;
    const struct watch_args args = {.world = node->world,
                                    .stages = node->stages,
                                    .n_stages = 2,
                                    .engine = &node->engine,
                                    .who = town->who_of,
                                    .peer_timeout_s = TIMEOUT_S};
    CHECK(watch_create(&args, &node->stages[1]) == ST_OK);
    node->loop = (struct loop){.world = node->world,
                               .stages = node->stages,
                               .n_stages = 2,
                               .watch = node->stages[1],
                               .stop = &node->stop};
}

/* Everything that is logged goes to a file, so that lines can be counted. */
static void town_begin(struct town *town, int n_ranks, unsigned seed)
{
    const int asked[ROLE_COUNT] = {-1, 0, -1, -1, -1};
    struct plan_layout layout;
    struct row_error why;
    char path[] = "/tmp/epidote-watch-XXXXXX";

    *town = (struct town){.n_ranks = n_ranks};
    CHECK(plan_layout_make(n_ranks, asked, &layout, &why) == ST_OK);
    const struct virtual_args args = {.layout = &layout, .seed = seed, .max_delay_s = 0.05};
    CHECK(virtual_net_create(&args, &town->net) == ST_OK);
    for (int rank = 0; rank < n_ranks; rank++) {
        snprintf(town->who[rank], sizeof town->who[rank], "rank %d on host%d", rank, rank);
        town->who_of[rank] = town->who[rank];
    }
    for (int rank = 0; rank < n_ranks; rank++)
        node_begin(town, rank);
    town->said = mkstemp(path);
    town->stderr_was = dup(STDERR_FILENO);
    CHECK(town->said >= 0 && unlink(path) == 0 && town->stderr_was >= 0);
    dup2(town->said, STDERR_FILENO);
}

/* Standard error is itself again; *out_text: what went there meanwhile. */
static void town_listen(struct town *town, char *out_text, size_t cap)
{
    dup2(town->stderr_was, STDERR_FILENO);
    close(town->stderr_was);
    const ssize_t n = pread(town->said, out_text, cap - 1, 0);
    CHECK(n >= 0 && (size_t)n < cap - 1);
    out_text[n > 0 ? n : 0] = '\0';
    close(town->said);
}

static void town_end(struct town *town)
{
    for (int rank = 0; rank < town->n_ranks; rank++) {
        stage_destroy(town->nodes[rank].stages[1]);
        world_abandon(town->nodes[rank].world);
    }
    virtual_net_destroy(town->net);
}

static int count(const char *text, const char *part)
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        n++;
    return n;
}

/* ---- time ------------------------------------------------------------------------------------- */

/* Time goes by, and nobody has a turn. */
static void pass(struct town *town, double seconds)
{
    const double until_s = virtual_net_now_s(town->net) + seconds;

    while (virtual_net_now_s(town->net) < until_s - 1e-9)
        virtual_net_advance(town->net, until_s - virtual_net_now_s(town->net));
}

static void tick(struct town *town)
{
    for (int rank = 0; rank < town->n_ranks; rank++) {
        struct node *node = &town->nodes[rank];
        bool worked;

        if (node->over || node->asleep)
            continue;
        node->st = loop_turn(&node->loop, &worked);
        node->over = node->st != ST_OK;
        node->over_s = virtual_net_now_s(town->net);
    }
    pass(town, TICK_S);
}

static void run_for(struct town *town, double seconds)
{
    for (int i = 0; i < (int)(seconds / TICK_S); i++)
        tick(town);
}

/* Until every rank that has turns is over. */
static void run_out(struct town *town)
{
    int n_left = 1;

    for (int i = 0; i < MAX_TURNS && n_left > 0; i++) {
        tick(town);
        n_left = 0;
        for (int rank = 0; rank < town->n_ranks; rank++)
            n_left += !town->nodes[rank].over && !town->nodes[rank].asleep;
    }
    CHECK_INT(n_left, 0);
}

/* Every rank that has turns came out with this status, within limit_s. */
static void all_over(const struct town *town, enum status st, double since_s, double limit_s)
{
    for (int rank = 0; rank < town->n_ranks; rank++) {
        const struct node *node = &town->nodes[rank];

        if (node->asleep)
            continue;
        CHECK(node->over);
        CHECK_INT(node->st, st);
        CHECK(node->over_s - since_s <= limit_s);
    }
}

/* They all know whose failure it was, and why. */
static void all_know(const struct town *town, int whose, enum status st, const char *part)
{
    for (int rank = 0; rank < town->n_ranks; rank++) {
        const struct wire_fail *fail = watch_failure(town->nodes[rank].stages[1]);

        if (town->nodes[rank].asleep)
            continue;
        CHECK_INT(fail->rank, whose);
        CHECK_INT(fail->status, st);
        CHECK(fail->lost == (st == ST_COMM)); /* the only such failure in this test */
        CHECK_HAS(fail->message, part);
    }
}

/* ---- ends ------------------------------------------------------------------------------------- */

static void all_end(int n_ranks, unsigned seed)
{
    struct town town;
    struct wire_beat totals;
    char text[4096];

    town_begin(&town, n_ranks, seed);
    run_for(&town, 2.5);
    const struct stage *first = town.nodes[0].stages[1];
    for (int rank = 1; rank < n_ranks; rank++) { /* they are heard of */
        const struct wire_beat *beat = watch_beat(first, rank);

        CHECK_INT(beat->rank, rank);
        CHECK_INT(beat->n_rows, 100 + rank);
        CHECK(beat->elapsed_s >= 1 && beat->elapsed_s <= 2.5);
        CHECK(beat->n_messages >= 1 && beat->n_messages <= 4);
        CHECK_HAS(beat->doing, "dances for 10");
        CHECK_INT(watch_beat(town.nodes[rank].stages[1], 0)->n_rows, 100);
    }
    town.nodes[n_ranks - 1].puppet.end = true; /* one long before the others */
    run_for(&town, 3 * TIMEOUT_S);
    CHECK(town.nodes[n_ranks - 1].over || n_ranks == 1);
    for (int rank = 0; rank < n_ranks - 1; rank++) {
        CHECK(!town.nodes[rank].over);
        town.nodes[rank].puppet.end = true;
        run_for(&town, 0.1);
    }
    run_out(&town);
    all_over(&town, ST_END, 0, 100);
    all_know(&town, -1, ST_OK, "");
    watch_totals(first, &totals);
    CHECK_INT(totals.n_prompt_tok, 10 * n_ranks);
    CHECK_INT(totals.n_answer_tok, 100 * n_ranks);
    CHECK(totals.busy_s == 0.5 * n_ranks && totals.elapsed_s > 3 * TIMEOUT_S - 1);
    CHECK(totals.memory_peak_bytes > 0);
    town_listen(&town, text, sizeof text);
    CHECK_STR(text, "");
    town_end(&town);
}

/* A stage fails: everybody is told at once; its own line is the only one. */
static void one_fails(int n_ranks, int whose, unsigned seed)
{
    struct town town;
    char text[4096], part[64];

    town_begin(&town, n_ranks, seed);
    run_for(&town, 0.5 + 0.001 * seed);
    town.nodes[whose].puppet.fail = ST_NOMEM;
    const double from_s = virtual_net_now_s(town.net);
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_NOMEM, from_s, LOOP_TELL_S);
    snprintf(part, sizeof part, "puppet %d has no strings", town.nodes[whose].puppet.base.at.index);
    all_know(&town, whose, ST_NOMEM, part);
    CHECK_INT(count(text, "\n"), 1);
    CHECK_HAS(text, part);
    town_end(&town);
}

/* A signal comes to one rank; with `all`, as launchers do it, to every rank at the same time. */
static void one_is_stopped(int n_ranks, int whose, bool all, unsigned seed)
{
    struct town town;
    char text[4096];

    town_begin(&town, n_ranks, seed);
    run_for(&town, 1);
    for (int rank = 0; rank < n_ranks; rank++)
        if (rank == whose || all)
            town.nodes[rank].stop = 15;
    const double from_s = virtual_net_now_s(town.net);
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_STOPPED, from_s, LOOP_TELL_S);
    if (!all)
        all_know(&town, whose, ST_STOPPED, "stopped by signal 15");
    CHECK_INT(count(text, " E "), 0);                  /* nothing is wrong */
    CHECK_INT(count(text, "stopped by signal 15"), 0); /* `run` says that, with the rows done */
    town_end(&town);
}

/* A rank is gone (nothing leaves it or comes to it), or stopped (it has no turns). */
static void one_is_lost(int n_ranks, int whose, bool gone, unsigned seed)
{
    struct town town;
    char text[8192], part[96];

    town_begin(&town, n_ranks, seed);
    run_for(&town, 1.5 + 0.01 * seed);
    town.nodes[whose].asleep = true;
    if (gone)
        virtual_net_cut(town.net, whose);
    const double from_s = virtual_net_now_s(town.net);
    run_for(&town, 0.75 * TIMEOUT_S - 1);
    for (int rank = 0; rank < n_ranks; rank++) /* a pause is not a loss */
        CHECK(!town.nodes[rank].over);
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_COMM, from_s, TIMEOUT_S);
    snprintf(part, sizeof part, "%s has been silent for ", town.who[whose]);
    all_know(&town, whose, ST_COMM, part);
    if (whose == 0) { /* all ranks know it; `run` has one of them say so */
        CHECK_STR(text, "");
    } else {
        CHECK_INT(count(text, "\n"), 1);
        CHECK_HAS(text, part);
        snprintf(part, sizeof part, "dances for %d", 100 + whose);
        CHECK_HAS(text, part);
    }
    town_end(&town);
}

/* Rank 0 is lost with the one that would have said so. */
static void two_are_lost(void)
{
    struct town town;
    char text[8192];

    town_begin(&town, 5, 1);
    run_for(&town, 2);
    const double from_s = virtual_net_now_s(town.net);
    for (int rank = 0; rank < 2; rank++) {
        town.nodes[rank].asleep = true;
        virtual_net_cut(town.net, rank);
    }
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_COMM, from_s, TIMEOUT_S);
    all_know(&town, 0, ST_COMM, "rank 0 on host0 has been silent");
    CHECK_STR(text, ""); /* which of the three says so is for `run` to find */
    town_end(&town);
}

/* A rank that is cut off alone sees all others fall silent, and ends too. */
static void cut_off(int whose)
{
    struct town town;
    char text[8192];

    town_begin(&town, 4, 2);
    run_for(&town, 2);
    virtual_net_cut(town.net, whose);
    const double from_s = virtual_net_now_s(town.net);
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_COMM, from_s, TIMEOUT_S);
    town_end(&town);
}

/* What a rank has to report never leaves it: rank 0 is lost. */
static void report_to_nobody(void)
{
    struct town town;
    char text[8192];

    town_begin(&town, 3, 3);
    run_for(&town, 2);
    town.nodes[0].asleep = true;
    virtual_net_cut(town.net, 0);
    const double from_s = virtual_net_now_s(town.net);
    town.nodes[1].puppet.end = town.nodes[2].puppet.end = true;
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_COMM, from_s, TIMEOUT_S);
    town_end(&town);
}

/* The machine slept, all ranks with it, or one long poll kept each from its watch: no peer is to
 * blame. */
static void all_were_asleep(double seconds)
{
    struct town town;
    char text[4096];

    town_begin(&town, 4, 4);
    run_for(&town, 2);
    for (int i = 0; i < 3; i++) {
        pass(&town, seconds);
        run_for(&town, 1.5);
    }
    for (int rank = 0; rank < 4; rank++) {
        CHECK(!town.nodes[rank].over);
        town.nodes[rank].puppet.end = true;
    }
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_END, 0, 1e9);
    CHECK_STR(text, "");
    town_end(&town);
}

/* Messages that no watch of this job sends. */
static void strangers(void)
{
    struct town town;
    struct buf buf = {0};
    char text[4096];
    const struct wire_beat beat = {.rank = 2};

    town_begin(&town, 3, 5);
    CHECK(wire_beat_pack(&beat, &buf) == ST_OK);
    CHECK(world_send(town.nodes[1].world, MSG_BEAT, (struct address){ROLE_WATCH, 1},
                     (struct address){ROLE_WATCH, 0}, buf.data, buf.n_bytes) == ST_OK);
    run_out(&town);
    town_listen(&town, text, sizeof text);
    all_over(&town, ST_COMM, 0, 1);
    CHECK_HAS(text, "BEAT of rank 2 came from rank 1");
    buf_free(&buf);
    town_end(&town);
}

static void phrases(void)
{
    struct wire_beat beat = {.n_rows = 0};
    char want[sizeof beat.doing];

    beat_say(&beat, "one");
    CHECK_STR(beat.doing, "one");
    beat_say(&beat, "%d", 2);
    CHECK_STR(beat.doing, "one; 2");
    for (int i = 0; i < 30; i++)
        beat_say(&beat, "twenty letters long.");
    CHECK_INT(strlen(beat.doing), sizeof beat.doing - 1);
    memcpy(want, "one; 2; twenty letters long.; ", 30);
    CHECK(memcmp(beat.doing, want, 30) == 0);
}

int main(void)
{
    log_set_level(LOG_WARN);
    for (int n = 1; n <= 5; n++)
        all_end(n, (unsigned)n);
    for (int n = 1; n <= 4; n++) {
        for (int whose = 0; whose < n; whose++)
            for (unsigned seed = 1; seed <= 20; seed++) {
                one_fails(n, whose, seed);
                one_is_stopped(n, whose, false, seed);
            }
        one_is_stopped(n, 0, true, 1);
    }
    for (int n = 2; n <= 4; n++)
        for (int whose = 0; whose < n; whose++)
            for (unsigned seed = 1; seed <= 6; seed++)
                one_is_lost(n, whose, seed % 2 == 0, seed);
    two_are_lost();
    cut_off(0);
    cut_off(2);
    report_to_nobody();
    all_were_asleep(10 * TIMEOUT_S);
    all_were_asleep(0.9 * TIMEOUT_S);
    strangers();
    phrases();
    TEST_END();
}
