/* TEST */
/*
 * unit_virtual.c - the virtual world keeps its promises: pairs in order, all else in any order, the
 * nth put for the nth take, bytes read and written late, silence from lost ranks, one run a seed.
 */
#include "comm/comm.h"
#include "test.h"

enum { N_RANKS = 4 }; /* coordinator | prefill | decode | decode */

static const struct address coordinator = {ROLE_COORDINATOR, 0}, prefill = {ROLE_PREFILL, 0};
static const struct address decodes[2] = {{ROLE_DECODE, 0}, {ROLE_DECODE, 1}};

struct rig {
    struct virtual_net *net;
    struct world *worlds[N_RANKS];
};

static struct rig rig_begin(uint64_t seed, double max_delay_s)
{
    const int asked[ROLE_COUNT] = {-1, 0, -1, -1, -1};
    struct plan_layout layout;
    struct row_error why;
    struct rig rig = {0};

    CHECK(plan_layout_make(N_RANKS, asked, &layout, &why) == ST_OK);
    CHECK_INT(layout.n_stages[ROLE_DECODE], 2);
    const struct virtual_args args = {.layout = &layout, .seed = seed, .max_delay_s = max_delay_s};
    CHECK(virtual_net_create(&args, &rig.net) == ST_OK);
    for (int r = 0; r < N_RANKS; r++)
        CHECK(virtual_net_world(rig.net, r, &rig.worlds[r]) == ST_OK);
    return rig;
}

static void rig_end(struct rig *rig)
{
    for (int r = 0; r < N_RANKS; r++)
        world_destroy(rig->worlds[r]);
    virtual_net_destroy(rig->net);
}

static bool progress(struct rig *rig, int rank)
{
    bool worked = false;

    CHECK(world_progress(rig->worlds[rank], &worked) == ST_OK);
    return worked;
}

/* The number that the next message for a stage carries; -1 if there is none. */
static int next_number(struct rig *rig, struct address to, struct address *out_from)
{
    struct msg *msg;
    int number;

    if (world_next(rig->worlds[plan_layout_rank(world_layout(rig->worlds[0]), to.role, to.index)],
                   to, &msg) != ST_OK)
        return -1;
    memcpy(&number, msg->payload, sizeof number);
    *out_from = msg->from;
    msg_free(msg);
    return number;
}

static void send_number(struct rig *rig, enum msg_type type, struct address from, struct address to,
                        int number)
{
    const int rank = plan_layout_rank(world_layout(rig->worlds[0]), from.role, from.index);

    CHECK(world_send(rig->worlds[rank], type, from, to, &number, sizeof number) == ST_OK);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Messages from three senders to decode/0 and decode/1; returns a hash of the order of arrival. */
static uint64_t order(uint64_t seed, int *out_overtaken)
{
    enum { N = 300 };
    struct rig rig = rig_begin(seed, 1e-3);
    int last[2][ROLE_COUNT], n_got = 0, newest = -1;
    uint64_t trace = 0;

    memset(last, -1, sizeof last);
    *out_overtaken = 0;
    for (int i = 0; i < N; i++) {
        switch (i % 3) {
        case 0:
            send_number(&rig, MSG_RESERVE, coordinator, decodes[i % 2], i);
            break;
        case 1:
            send_number(&rig, MSG_FIRST, prefill, decodes[i % 2], i);
            break;
        default:
            send_number(&rig, MSG_GRANT, decodes[1], prefill, i);
        }
        if (i % 10 == 9)
            virtual_net_advance(rig.net, 1e-5);
    }
    CHECK(!world_flushed(rig.worlds[0]));
    for (int turn = 0; turn < 10000 && n_got < N; turn++) {
        const double before_s = virtual_net_now_s(rig.net);

        virtual_net_advance(rig.net, 1e-5);
        CHECK(virtual_net_now_s(rig.net) >= before_s &&
              virtual_net_now_s(rig.net) <= before_s + 1e-5 + 1e-12);
        CHECK(world_now_s(rig.worlds[2]) == virtual_net_now_s(rig.net));
        for (int k = 0; k < 3; k++) {
            const struct address to = k < 2 ? decodes[k] : prefill;
            struct address from;

            for (int number; (number = next_number(&rig, to, &from)) >= 0; n_got++) {
                int *before = k < 2 ? &last[k][from.role] : &last[0][ROLE_DECODE];

                CHECK(number > *before); /* pairs are in order */
                *before = number;
                *out_overtaken += number < newest;
                newest = number > newest ? number : newest;
                trace = hash_bytes(&number, sizeof number, trace);
            }
        }
    }
    CHECK_INT(n_got, N);
    for (int r = 0; r < N_RANKS; r++) {
        CHECK(world_flushed(rig.worlds[r]));
        CHECK(progress(&rig, r));
        CHECK(!progress(&rig, r)); /* once is enough */
    }
    rig_end(&rig);
    return trace;
}

static void messages(void)
{
    uint64_t traces[20];
    int n_overtaken, n_again;

    for (uint64_t seed = 0; seed < 20; seed++) {
        traces[seed] = order(seed, &n_overtaken);
        CHECK(n_overtaken > 30); /* of 300 */
        CHECK(order(seed, &n_again) == traces[seed] && n_again == n_overtaken);
        for (uint64_t other = 0; other < seed; other++)
            CHECK(traces[other] != traces[seed]);
    }
}

/* The clock stops at a delivery, and stages of one rank need no clock. */
static void clock_moves(void)
{
    struct rig rig = rig_begin(1, 1.0);
    struct address from;

    virtual_net_advance(rig.net, 5.0);
    CHECK(virtual_net_now_s(rig.net) == 5.0);
    send_number(&rig, MSG_ADMIT, coordinator, prefill, 3);
    CHECK_INT(next_number(&rig, prefill, &from), -1);
    virtual_net_advance(rig.net, 100.0);
    CHECK(virtual_net_now_s(rig.net) >= 5.0 && virtual_net_now_s(rig.net) <= 6.0);
    CHECK_INT(next_number(&rig, prefill, &from), 3);
    send_number(&rig, MSG_BEAT, (struct address){ROLE_WATCH, 2}, (struct address){ROLE_WATCH, 2},
                4);
    CHECK_INT(next_number(&rig, (struct address){ROLE_WATCH, 2}, &from), 4);
    rig_end(&rig);
}

/* ---- bulks ----------------------------------------------------------------------------------- */

enum { N_BULKS = 60, BULK_BYTES = 96 };

static uint8_t pattern(int number, int i)
{
    return (uint8_t)(number * 37 + i * 5 + 1);
}

/* Bytes of a bulk cut into spans of n, the last one shorter. */
static int cut(uint8_t *data, int n, struct byte_span spans[BULK_BYTES])
{
    int n_spans = 0;

    for (int i = 0; i < BULK_BYTES; i += n)
        spans[n_spans++] =
            (struct byte_span){data + i, (size_t)(BULK_BYTES - i < n ? BULK_BYTES - i : n)};
    return n_spans;
}

/* Puts and takes of three tags between prefill (rank 1) and two decode ranks, in any order, sources
 * being used again as soon as they may be, and messages that race with them. */
static void bulks(uint64_t seed, int *out_first, int *out_later)
{
    static uint8_t sources[N_BULKS][BULK_BYTES], targets[N_BULKS][BULK_BYTES];
    struct transfer *puts[N_BULKS] = {NULL}, *takes[N_BULKS] = {NULL};
    struct byte_span spans[BULK_BYTES];
    struct rig rig = rig_begin(seed, 1e-3);
    bool got_message[N_BULKS] = {false};
    int n_put = 0, n_taken = 0, n_done = 0, n_early = 0;
    struct address from;
    unsigned dice = (unsigned)seed;

    for (int turn = 0; turn < 100000 && n_done < 2 * N_BULKS; turn++) {
        if (n_put < N_BULKS && rand_r(&dice) % 2 == 0) {
            for (int i = 0; i < BULK_BYTES; i++)
                sources[n_put][i] = pattern(n_put, i);
            CHECK(world_put(rig.worlds[1], 2 + n_put % 2, n_put % 3, spans,
                            cut(sources[n_put], 1 + n_put % 40, spans), &puts[n_put]) == ST_OK);
            send_number(&rig, MSG_PIECE, prefill, decodes[n_put % 2], n_put);
            CHECK(!world_flushed(rig.worlds[1]));
            n_put++;
        }
        if (n_taken < N_BULKS && rand_r(&dice) % 2 == 0) {
            CHECK(world_take(rig.worlds[2 + n_taken % 2], 1, n_taken % 3, spans,
                             cut(targets[n_taken], 1 + rand_r(&dice) % 50, spans),
                             &takes[n_taken]) == ST_OK);
            n_taken++;
        }
        if (rand_r(&dice) % 4 == 0)
            virtual_net_advance(rig.net, 1e-4);
        for (int k = 0; k < 2; k++)
            for (int number; (number = next_number(&rig, decodes[k], &from)) >= 0;)
                got_message[number] = true;
        for (int i = 0; i < N_BULKS; i++) {
            if (puts[i] != NULL && transfer_done(puts[i])) {
                memset(sources[i], 0, BULK_BYTES); /* it may be used again */
                puts[i] = NULL;
                n_early += i >= n_taken;
                n_done++;
            }
            if (takes[i] != NULL && transfer_done(takes[i])) {
                for (int b = 0; b < BULK_BYTES; b++)
                    CHECK_INT(targets[i][b], pattern(i, b));
                takes[i] = NULL;
                *(got_message[i] ? out_later : out_first) += 1;
                n_done++;
            }
        }
        for (int r = 0; r < N_RANKS; r++)
            progress(&rig, r);
    }
    CHECK_INT(n_done, 2 * N_BULKS);
    for (int i = 0; i < 100; i++)
        virtual_net_advance(rig.net, 1e-3);
    CHECK(world_flushed(rig.worlds[1]));
    rig_end(&rig);
    CHECK(seed != 1 || n_early > 0); /* small ones leave before they are waited for */
}

/* One bulk of prefill for decode/0; `broken` says what goes wrong; whose progress fails. */
static int fails_on(uint64_t seed, int broken)
{
    uint8_t source[BULK_BYTES] = {1}, target[BULK_BYTES];
    struct byte_span from = {source, BULK_BYTES}, to = {target, BULK_BYTES};
    struct rig rig = rig_begin(seed, 1e-3);
    struct transfer *put, *take;
    int rank = -1;

    to.n_bytes -= broken == 2;
    CHECK(world_put(rig.worlds[1], 2, 7, &from, 1, &put) == ST_OK);
    CHECK(world_take(rig.worlds[2], 1, 7, &to, 1, &take) == ST_OK);
    CHECK(target[0] != 1 && target[BULK_BYTES - 2] == target[0]); /* nothing that could be read */
    if (broken == 0)
        source[BULK_BYTES - 1] = 9;
    if (broken == 1)
        target[3] = 0;
    for (int i = 0; i < 100; i++)
        virtual_net_advance(rig.net, 1e-3);
    for (int r = 0; r < N_RANKS; r++) {
        bool worked = false;

        if (world_progress(rig.worlds[r], &worked) != ST_OK)
            rank = r;
    }
    CHECK(!transfer_done(take) || rank == -1);
    rig_end(&rig); /* with transfers that nobody saw end */
    return rank;
}

static void bytes(void)
{
    int n_first = 0, n_later = 0;

    for (uint64_t seed = 1; seed < 20; seed++)
        bulks(seed, &n_first, &n_later);
    CHECK(n_first > 100 && n_later > 100); /* bytes overtake messages, and the other way round */
    for (uint64_t seed = 0; seed < 20; seed++) {
        CHECK_INT(fails_on(seed, 0), 1);
        CHECK_HAS(log_last_error(), "put of rank 1 to rank 2, tag 7, 96 bytes: its source changed");
        CHECK_INT(fails_on(seed, 1), 2);
        CHECK_HAS(log_last_error(), "of which 1 were written to before it was done");
        CHECK_INT(fails_on(seed, 2), 2);
        CHECK_HAS(log_last_error(), "96 bytes come for 95");
        CHECK_INT(fails_on(seed, 3), -1);
    }
}

/* ---- lost ranks ------------------------------------------------------------------------------ */

static void silence(uint64_t seed, int *out_n_got)
{
    uint8_t here[BULK_BYTES] = {1}, there[BULK_BYTES] = {2};
    struct byte_span source = {here, BULK_BYTES}, target = {there, BULK_BYTES};
    struct rig rig = rig_begin(seed, 1e-3);
    struct transfer *put, *take;
    struct address from;
    int n_got = 0;

    send_number(&rig, MSG_RESERVE, coordinator, decodes[0], 1); /* under way to the lost rank */
    send_number(&rig, MSG_DONE, decodes[0], coordinator, 2);    /* and from it */
    CHECK(world_put(rig.worlds[1], 2, 5, &source, 1, &put) == ST_OK);
    CHECK(world_take(rig.worlds[2], 1, 5, &target, 1, &take) == ST_OK);
    virtual_net_cut(rig.net, 2);
    send_number(&rig, MSG_RESERVE, coordinator, decodes[0], 3);
    send_number(&rig, MSG_RESERVE, coordinator, decodes[1], 4);
    send_number(&rig, MSG_DONE, decodes[0], coordinator, 5); /* nobody hears it */
    send_number(&rig, MSG_DONE, decodes[1], coordinator, 6);
    for (int i = 0; i < 100; i++)
        virtual_net_advance(rig.net, 1e-3);
    CHECK_INT(next_number(&rig, decodes[0], &from), -1);
    CHECK_INT(next_number(&rig, decodes[1], &from), 4);
    for (int number; (number = next_number(&rig, coordinator, &from)) >= 0; n_got += number)
        ;
    CHECK(n_got == 6 || n_got == 2 + 6); /* it may have taken along what was under way */
    *out_n_got |= 1 << n_got;
    CHECK(!transfer_done(put) && !transfer_done(take));
    CHECK(!world_flushed(rig.worlds[0]) && !world_flushed(rig.worlds[1]));
    CHECK(world_flushed(rig.worlds[3]));
    for (int r = 0; r < N_RANKS; r++)
        progress(&rig, r);
    rig_end(&rig);
}

/* A rank that ended in order: what is still sent to it is dropped, and does leave. */
static void ended(void)
{
    struct rig rig = rig_begin(1, 1e-3);
    struct address from;

    send_number(&rig, MSG_REPORT, (struct address){ROLE_WATCH, 3}, (struct address){ROLE_WATCH, 0},
                1);
    world_destroy(rig.worlds[3]);
    rig.worlds[3] = NULL;
    send_number(&rig, MSG_BEAT, (struct address){ROLE_WATCH, 0}, (struct address){ROLE_WATCH, 3},
                2);
    for (int i = 0; i < 10; i++)
        virtual_net_advance(rig.net, 1e-3);
    CHECK_INT(next_number(&rig, (struct address){ROLE_WATCH, 0}, &from), 1);
    CHECK(world_flushed(rig.worlds[0]));
    rig_end(&rig);
}

/* Messages under way when all is taken down are freed (make asan looks). */
static void taken_down(void)
{
    struct rig rig = rig_begin(1, 1e-3);

    for (int i = 0; i < 100; i++)
        send_number(&rig, MSG_ADMIT, coordinator, prefill, i);
    virtual_net_advance(rig.net, 2e-4);
    rig_end(&rig);
    virtual_net_destroy(NULL);
}

int main(void)
{
    messages();
    clock_moves();
    bytes();
    int n_got = 0;

    for (uint64_t seed = 0; seed < 20; seed++)
        silence(seed, &n_got);
    CHECK_INT(n_got, 1 << 6 | 1 << 8); /* both have been */
    ended();
    taken_down();
    TEST_END();
}
