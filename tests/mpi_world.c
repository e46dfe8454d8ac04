/* TEST np: 2 3 4 */
/*
 * mpi_world.c - messages and bulk bytes between ranks: order, content, nothing blocks.
 *
 *   mpi_world                  all of it
 *   mpi_world short|long|big   one thing that goes wrong, for e2e_ranks.sh
 *
 * Watches are the stages that may talk to each other in any pair, so all messages here are theirs;
 * the world does not look into them.
 */
#include <signal.h>

#include "comm/ranks.h"
#include "mpi_test.h"

static const struct address watch_0 = {ROLE_WATCH, 0};

static struct address watch(int rank)
{
    return (struct address){ROLE_WATCH, rank};
}

static struct world *world_of(struct ranks *ranks)
{
    static const int asked[ROLE_COUNT] = {-1, 0, -1, -1, -1};
    struct plan_layout layout;
    struct world *world = NULL;
    struct row_error err;

    CHECK(plan_layout_make(ranks_n(ranks), asked, &layout, &err) == ST_OK);
    CHECK(world_create_mpi(ranks, &layout, &world) == ST_OK);
    if (world == NULL)
        ranks_abort(ranks, 1);
    return world;
}

/* Progress, and a rest if nothing happened. */
static void turn(struct world *world, int *rest_us)
{
    bool worked = false;

    CHECK(world_progress(world, &worked) == ST_OK);
    if (worked)
        *rest_us = 0;
    else
        ranks_rest(rest_us);
}

/* The next message for this rank; fails after 30 s. */
static struct msg *await(struct world *world)
{
    const double begin_s = clock_now_s();
    struct msg *msg = NULL;
    int rest_us = 0;

    while (world_next(world, watch(world_rank(world)), &msg) != ST_OK &&
           clock_now_s() - begin_s < 30)
        turn(world, &rest_us);
    CHECK(msg != NULL);
    return msg;
}

static void await_flushed(struct world *world)
{
    int rest_us = 0;

    for (double begin_s = clock_now_s(); !world_flushed(world) && clock_now_s() - begin_s < 30;)
        turn(world, &rest_us);
    CHECK(world_flushed(world));
}

/* Send the nth message to a rank: its number, then bytes that depend on everything. */
static void send_nth(struct world *world, int to, uint64_t n, size_t n_bytes)
{
    const int me = world_rank(world);
    uint8_t *bytes = malloc(n_bytes + 1);

    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = pattern(me, to, n, i);
    CHECK(world_send(world, MSG_FAIL, watch(me), watch(to), bytes, n_bytes) == ST_OK);
    free(bytes);
}

static void check_nth(struct world *world, const struct msg *msg, uint64_t n, size_t n_bytes)
{
    const int me = world_rank(world);
    size_t wrong = 0;

    CHECK(msg->type == MSG_FAIL && msg->from.role == ROLE_WATCH && msg->to.index == me);
    CHECK((uintptr_t)msg->payload % 8 == 0);
    CHECK_INT(msg->n_bytes, n_bytes);
    for (size_t i = 0; i < msg->n_bytes; i++)
        wrong += msg->payload[i] != pattern(msg->from.index, me, n, i);
    CHECK_INT(wrong, 0);
}

/* ---- messages ---------------------------------------------------------------------------------- */

/* The edges of frames (3,944 bytes each) and some large ones. */
static const size_t sizes[] = {0,    1,    8,     3943,  3944,  3945,   7887, 7888,
                               7889, 4000, 65536, 16384, 32768, 300000, 5,    0};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

/* Each rank sends all sizes to its right neighbour, which checks what comes from its left. */
static void ring(struct world *world)
{
    const int me = world_rank(world), n = world_layout(world)->n_ranks;

    for (uint64_t i = 0; i < N_SIZES; i++)
        send_nth(world, (me + 1) % n, i, sizes[i]);
    for (uint64_t i = 0; i < N_SIZES; i++) {
        struct msg *msg = await(world);

        if (msg == NULL)
            return;
        CHECK_INT(msg->from.index, (me + n - 1) % n);
        check_nth(world, msg, i, sizes[i]);
        msg_free(msg);
    }
    await_flushed(world);
}

/* The size of the nth message of a storm: any rank can compute it. */
static size_t storm_size(int from, int to, uint64_t n)
{
    const uint64_t key[3] = {(uint64_t)from, (uint64_t)to, n};
    const uint64_t draw = hash_bytes(key, sizeof key, 7);

    return draw % 50 == 0 ? draw % 300000 : draw % 5 == 0 ? draw % 9000 : draw % 600;
}

/* All to all at once: much is sent before anything is taken. */
static void storm(struct world *world, uint64_t n_each)
{
    const int me = world_rank(world), n = world_layout(world)->n_ranks;
    uint64_t next[64] = {0}, left = n_each * (uint64_t)(n - 1);

    for (uint64_t i = 0; i < n_each; i++)
        for (int to = 0; to < n; to++)
            if (to != me)
                send_nth(world, to, i, storm_size(me, to, i));
    for (; left > 0; left--) {
        struct msg *msg = await(world);

        if (msg == NULL)
            return;
        const int from = msg->from.index;
        check_nth(world, msg, next[from], storm_size(from, me, next[from]));
        next[from]++;
        msg_free(msg);
    }
    await_flushed(world);
    CHECK_INT(world_n_sent(world)[MSG_FAIL], n_each * (uint64_t)(n - 1) + N_SIZES);
}

/* ---- bulk bytes -------------------------------------------------------------------------------- */

enum { GUARD = 64, MAX_SPANS = 40 };

/* A buffer cut into spans with gaps between them, so that a byte at the wrong place shows. */
struct cut {
    uint8_t *data;
    size_t cap_bytes;
    struct byte_span spans[MAX_SPANS];
    int n_spans;
};

static void cut_make(struct cut *cut, size_t n_bytes, int n_spans, uint64_t seed)
{
    size_t at = GUARD, left = n_bytes;

    cut->cap_bytes = n_bytes + (size_t)(n_spans + 1) * GUARD;
    cut->data = calloc(1, cut->cap_bytes);
    cut->n_spans = n_spans;
    for (int i = 0; i < n_spans; i++) {
        const size_t mean = left / (size_t)(n_spans - i);
        const size_t some = mean > 0 ? hash_bytes(&i, sizeof i, seed) % (2 * mean) : 0;
        const size_t n = i == n_spans - 1 || some > left ? left : some;

        cut->spans[i] = (struct byte_span){cut->data + at, n};
        at += n + GUARD;
        left -= n;
    }
}

/* Bytes of the spans that are wrong, and of the gaps that are not 0. */
static size_t cut_wrong(const struct cut *cut, int from, int to, uint64_t n)
{
    size_t wrong = 0, i = 0, sum = 0, inside = 0;

    for (int s = 0; s < cut->n_spans; s++) {
        const uint8_t *data = cut->spans[s].data;

        for (size_t k = 0; k < cut->spans[s].n_bytes; k++, i++) {
            wrong += data[k] != pattern(from, to, n, i);
            inside += data[k];
        }
    }
    for (size_t k = 0; k < cut->cap_bytes; k++)
        sum += cut->data[k];
    return wrong + (sum - inside);
}

static void cut_fill(struct cut *cut, int from, int to, uint64_t n)
{
    size_t i = 0;

    for (int s = 0; s < cut->n_spans; s++)
        for (size_t k = 0; k < cut->spans[s].n_bytes; k++)
            ((uint8_t *)cut->spans[s].data)[k] = pattern(from, to, n, i++);
}

static void await_transfer(struct world *world, struct transfer *transfer)
{
    const double begin_s = clock_now_s();
    int rest_us = 0;
    bool done = false;

    while (!(done = transfer_done(transfer)) && clock_now_s() - begin_s < 30)
        turn(world, &rest_us);
    CHECK(done);
}

/* Rank 0 puts to each other rank in turn; cuts differ on both sides; the message about them goes
 * before or after; the receiver takes early or late; the nth put meets the nth take of its tag. */
static void bulk(struct world *world)
{
    static const struct {
        size_t n_bytes;
        int n_out, n_in;
        bool message_first, take_late;
    } cases[] = {
        {1, 1, 1, true, true},         {12288, 1, 3, true, false},   {12288, 3, 1, false, true},
        {262144, 22, 22, true, true},  {262144, 5, 37, false, true}, {1000003, 40, 2, true, false},
        {8 << 20, 1, 1, false, false}, {0, 1, 1, true, true},        {100, 40, 40, false, true},
    };
    const int me = world_rank(world), n = world_layout(world)->n_ranks;

    for (int to = 1; to < n; to++) {
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            struct cut cuts[2];
            struct transfer *transfers[2] = {NULL, NULL};
            const int tag = c % 2 == 0 ? 17 : COMM_MAX_SLOTS - 1;

            if (me != 0 && me != to)
                continue;
            for (uint64_t i = 0; i < 2; i++)
                cut_make(&cuts[i], cases[c].n_bytes, me == 0 ? cases[c].n_out : cases[c].n_in,
                         (uint64_t)me * 1000 + c * 10 + i);
            if (me == 0) {
                if (cases[c].message_first)
                    send_nth(world, to, c, 24);
                for (uint64_t i = 0; i < 2; i++) {
                    cut_fill(&cuts[i], me, to, i);
                    CHECK(world_put(world, to, tag, cuts[i].spans, cuts[i].n_spans,
                                    &transfers[i]) == ST_OK);
                }
                if (!cases[c].message_first)
                    send_nth(world, to, c, 24);
            } else {
                struct msg *msg = cases[c].take_late ? await(world) : NULL;

                for (uint64_t i = 0; i < 2; i++)
                    CHECK(world_take(world, 0, tag, cuts[i].spans, cuts[i].n_spans,
                                     &transfers[i]) == ST_OK);
                if (msg == NULL)
                    msg = await(world);
                msg_free(msg);
            }
            for (int i = 1; i >= 0; i--) /* also the later one first */
                if (transfers[i] != NULL)
                    await_transfer(world, transfers[i]);
            for (uint64_t i = 0; i < 2; i++) {
                CHECK_INT(cut_wrong(&cuts[i], 0, to, i), 0);
                free(cuts[i].data);
            }
        }
    }
}

/* ---- nothing blocks ---------------------------------------------------------------------------- */

/* Rank 1 does nothing for a while; rank 0 sends and puts much and is back long before. */
static void peer_sleeps(struct world *world)
{
    enum { N_MESSAGES = 60, N_PUTS = 8, PUT_BYTES = 1 << 20 };
    const int me = world_rank(world);
    struct transfer *puts[N_PUTS];
    struct cut cuts[N_PUTS];

    if (me > 1)
        return;
    for (uint64_t i = 0; i < N_PUTS; i++) {
        cut_make(&cuts[i], PUT_BYTES, 11, i + (uint64_t)me);
        if (me == 0)
            cut_fill(&cuts[i], 0, 1, i);
    }
    if (me == 0) {
        msg_free(await(world)); /* rank 1 says that it goes to sleep */
        const double begin_s = clock_now_s(), begin_cpu_s = cpu_s();
        for (uint64_t i = 0; i < N_MESSAGES; i++)
            send_nth(world, 1, i, 300000);
        CHECK(cpu_s() - begin_cpu_s < 0.2); /* a message costs no more for those before it */
        for (uint64_t i = 0; i < N_PUTS; i++)
            CHECK(world_put(world, 1, 3, cuts[i].spans, cuts[i].n_spans, &puts[i]) == ST_OK);
        for (int i = 0; i < 10; i++)
            turn(world, &(int){0});
        CHECK(clock_now_s() - begin_s < 1.0); /* rank 1 sleeps for 1.5 s */
        for (uint64_t i = 0; i < N_PUTS; i++)
            await_transfer(world, puts[i]);
        await_flushed(world);
    } else {
        CHECK(world_send(world, MSG_FAIL, watch(1), watch_0, NULL, 0) == ST_OK);
        await_flushed(world);
        clock_sleep_us(1500000);
        for (uint64_t i = 0; i < N_PUTS; i++)
            CHECK(world_take(world, 0, 3, cuts[i].spans, cuts[i].n_spans, &puts[i]) == ST_OK);
        for (uint64_t i = 0; i < N_MESSAGES; i++) {
            struct msg *msg = await(world);

            if (msg == NULL)
                return;
            check_nth(world, msg, i, 300000);
            msg_free(msg);
        }
        for (uint64_t i = 0; i < N_PUTS; i++)
            await_transfer(world, puts[i]);
    }
    for (uint64_t i = 0; i < N_PUTS; i++) {
        CHECK_INT(cut_wrong(&cuts[i], 0, 1, i), 0);
        free(cuts[i].data);
    }
}

/* What was sent arrives although its sender stops at once: frames need nobody's second step. */
static void sender_stops(struct world *world, const struct ranks *ranks)
{
    enum { N_BYTES = 30000 };

    if (world_rank(world) == 1) {
        send_nth(world, 0, 0, N_BYTES);
        raise(SIGSTOP); /* rank 0 ends this */
        await_flushed(world);
    } else if (world_rank(world) == 0) {
        struct msg *msg = NULL;
        int rest_us = 0;

        for (double begin_s = clock_now_s(); clock_now_s() - begin_s < 5;) {
            turn(world, &rest_us);
            if (world_next(world, watch_0, &msg) == ST_OK)
                break;
        }
        CHECK(msg != NULL);
        if (msg != NULL)
            check_nth(world, msg, 0, N_BYTES);
        msg_free(msg);
        clock_sleep_us(20000); /* it may not have stopped yet */
        CHECK(kill(ranks_info(ranks, 1)->pid, SIGCONT) == 0);
    }
}

/* Turning the world with the loop's rests of 2 ms costs little. */
static void idle_is_cheap(struct world *world)
{
    const double begin_cpu_s = cpu_s(), begin_s = clock_now_s();
    int rest_us = 0;

    while (clock_now_s() - begin_s < 1.5)
        turn(world, &rest_us);
    const double share = (cpu_s() - begin_cpu_s) / (clock_now_s() - begin_s);
    fprintf(stderr, "idle rank %d: %.2f %% of a core\n", world_rank(world), 100 * share);
    CHECK(share <= 0.03);
}

/* All ranks tell rank 0's time: a message never arrives before it was sent. */
static void time_of_rank_0(struct world *world)
{
    const int me = world_rank(world), n = world_layout(world)->n_ranks;
    double sent_s = world_now_s(world);

    for (int to = 0; to < n; to++)
        if (to != me)
            CHECK(world_send(world, MSG_FAIL, watch(me), watch(to), &sent_s, sizeof sent_s) ==
                  ST_OK);
    for (int i = 0; i < n - 1; i++) {
        struct msg *msg = await(world);

        if (msg == NULL)
            return;
        memcpy(&sent_s, msg->payload, sizeof sent_s);
        const double took_s = world_now_s(world) - sent_s;
        CHECK(took_s > 0 && took_s < 10);
        msg_free(msg);
    }
}

/* ---- what goes wrong --------------------------------------------------------------------------- */

/* Rank 0 puts out_bytes, the others take in_bytes: the taker must notice and say who it was. */
static void mismatch(struct world *world, size_t out_bytes, size_t in_bytes)
{
    static uint8_t bytes[200];
    const struct byte_span out = {bytes, out_bytes}, in = {bytes, in_bytes};
    struct transfer *transfer;
    enum status st = ST_OK;
    bool worked;

    if (world_rank(world) == 0) {
        for (int to = 1; to < world_layout(world)->n_ranks; to++)
            CHECK(world_put(world, to, 5, &out, 1, &transfer) == ST_OK);
        return;
    }
    CHECK(world_take(world, 0, 5, &in, 1, &transfer) == ST_OK);
    for (double begin_s = clock_now_s(); st == ST_OK && clock_now_s() - begin_s < 10;) {
        CHECK(!transfer_done(transfer));
        st = world_progress(world, &worked);
        clock_sleep_us(100);
    }
    CHECK(st == ST_COMM);
    CHECK_HAS(log_last_error(), "rank 0 (coordinator");
}

static void go_wrong(struct world *world, const char *way)
{
    if (strcmp(way, "short") == 0) {
        mismatch(world, 50, 100);
    } else if (strcmp(way, "long") == 0) {
        mismatch(world, 100, 50);
    } else if (strcmp(way, "big") == 0) {
        static uint8_t byte;
        const struct byte_span spans[2] = {{&byte, 1}, {&byte, INT32_MAX}};
        const int peer = world_rank(world) == 0 ? 1 : 0;
        struct transfer *transfer;

        CHECK(world_put(world, peer, 0, spans, 2, &transfer) == ST_COMM);
        CHECK_HAS(log_last_error(), "at most 2 GiB");
    }
}

static void part_ends(struct ranks *ranks)
{
    CHECK(ranks_agree(ranks, ST_OK, "a part of the test", 60) == ST_OK);
}

int main(int argc, char **argv)
{
    struct ranks *ranks = NULL;

    if (ranks_begin(&ranks) != ST_OK)
        return 2;
    struct world *world = world_of(ranks);
    if (argc > 1) {
        go_wrong(world, argv[1]);
        world_abandon(world);
        return mpi_test_end(ranks, argv[1]);
    }
    ring(world);
    part_ends(ranks); /* a rank that is early sends what the part before must not take */
    storm(world, 200);
    part_ends(ranks);
    bulk(world);
    part_ends(ranks);
    peer_sleeps(world);
    part_ends(ranks);
    sender_stops(world, ranks);
    part_ends(ranks);
    idle_is_cheap(world);
    time_of_rank_0(world);
    part_ends(ranks);
    if (world_rank(world) == 0) /* nobody takes these */
        for (int to = 1; to < ranks_n(ranks); to++)
            send_nth(world, to, 0, 10000);
    world_destroy(world);
    return mpi_test_end(ranks, __FILE__);
}
