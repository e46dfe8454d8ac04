/*
 * links.c - which kind of link each pair of prefill and decode has, and how fast it is.
 *
 * Every rank knows the layout and which nodes share memory, so all find the same kinds without a
 * word.  What a link does is in comm/.
 */
#include <stdlib.h>

#include "stage/machine.h"

enum { PROBE_BYTES = 4 << 20, PROBE_TURNS = 2 }; /* the first turn warms up */
#define PROBE_LIMIT_S 20.0

static int rank_of(const struct crew *crew, enum role role, int index)
{
    return plan_layout_rank(&crew->layout, role, index);
}

/* Whether two ranks of one node can write into each other's blocks. */
static bool pair_shares(const struct crew *crew, const struct machine_facts *facts, int a, int b)
{
    return crew_same_node(crew, a, b) && (facts == NULL || facts[a].shares);
}

/* Whose the two ends of a pair are, and which index they have. */
struct ends {
    enum role from, to;
    int i, j;
};

/* facts NULL: not known yet; ranks of a node are taken to share. */
static enum status choose(const struct crew *crew, const struct job *job,
                          const struct machine_facts *facts, struct ends ends,
                          enum link_kind *out_kind, const char **out_why)
{
    const int from = rank_of(crew, ends.from, ends.i), to = rank_of(crew, ends.to, ends.j);
    struct row_error why;

    if (link_choose(job->link, from == to, pair_shares(crew, facts, from, to), out_kind, out_why,
                    &why) == ST_OK)
        return ST_OK;
    log_error("%s (%s/%d is %s, %s/%d is %s)", why.text, role_name(ends.from), ends.i,
              crew->who[from], role_name(ends.to), ends.j, crew->who[to]);
    return ST_CONFIG;
}

/* Prefill i and decode j. */
static struct ends handing(int i, int j)
{
    return (struct ends){ROLE_PREFILL, ROLE_DECODE, i, j};
}

/* Encoder i and prefill j. */
static struct ends embedding(int i, int j)
{
    return (struct ends){ROLE_ENCODER, ROLE_PREFILL, i, j};
}

enum status links_check(const struct crew *crew, const struct job *job)
{
    enum status st = ST_OK;
    const struct plan_layout *layout = &crew->layout;
    enum link_kind kind;
    const char *why;

    for (int i = 0; i < layout->n_stages[ROLE_PREFILL]; i++)
        for (int j = 0; j < layout->n_stages[ROLE_DECODE]; j++)
            if (crew_pair(layout, i, j))
                TRY(choose(crew, job, NULL, handing(i, j), &kind, &why), err);
    for (int i = 0; i < layout->n_stages[ROLE_ENCODER]; i++)
        for (int j = 0; j < layout->n_stages[ROLE_PREFILL]; j++)
            TRY(choose(crew, job, NULL, embedding(i, j), &kind, &why), err);
err:
    return st;
}

bool links_staging(const struct crew *crew, const struct job *job, int prefill, bool shares)
{
    const int from = rank_of(crew, ROLE_PREFILL, prefill);
    struct row_error unused;
    enum link_kind kind;
    const char *why;

    for (int j = 0; j < crew->layout.n_stages[ROLE_DECODE]; j++) {
        const int to = rank_of(crew, ROLE_DECODE, j);

        if (crew_pair(&crew->layout, prefill, j) &&
            link_choose(job->link, from == to, shares && crew_same_node(crew, from, to), &kind,
                        &why, &unused) == ST_OK &&
            kind == LINK_MPI)
            return true;
    }
    return false;
}

bool links_cross(const struct machine *machine, enum role from, enum role to)
{
    const struct crew *crew = machine->crew;
    const struct plan_layout *layout = &crew->layout;

    if (!machine->facts[crew->me].shares || strcmp(machine->session->job->link, "mpi") == 0)
        return false;
    for (int i = 0; i < layout->n_stages[from]; i++) {
        for (int j = 0; j < layout->n_stages[to]; j++) {
            const int a = rank_of(crew, from, i), b = rank_of(crew, to, j);

            if (a != b && crew_same_node(crew, a, crew->me) && crew_same_node(crew, b, crew->me) &&
                (from != ROLE_PREFILL || crew_pair(layout, i, j)))
                return true;
        }
    }
    return false;
}

static void count_pair(struct machine_link *link, const struct crew *crew, struct ends ends,
                       const char *why)
{
    if (link->n_pairs++ > 0)
        return;
    link->why = why;
    link->from = rank_of(crew, ends.from, ends.i);
    link->to = rank_of(crew, ends.to, ends.j);
}

/* All pairs that ever carry a row, counted by kind. */
static enum status count_pairs(struct machine *machine)
{
    enum status st = ST_OK;
    const struct crew *crew = machine->crew;

    for (int i = 0; i < crew->layout.n_stages[ROLE_PREFILL]; i++) {
        for (int j = 0; j < crew->layout.n_stages[ROLE_DECODE]; j++) {
            enum link_kind kind;
            const char *why;

            if (!crew_pair(&crew->layout, i, j))
                continue;
            TRY(choose(crew, machine->session->job, machine->facts, handing(i, j), &kind, &why),
                err);
            count_pair(&machine->links[kind], crew, handing(i, j), why);
        }
    }
err:
    return st;
}

enum status links_of_encoders(struct machine *machine, enum link_kind *out_kinds)
{
    enum status st = ST_OK;
    const struct crew *crew = machine->crew;
    const int n_prefill = crew->layout.n_stages[ROLE_PREFILL];

    for (int i = 0; i < crew->layout.n_stages[ROLE_ENCODER]; i++) {
        for (int j = 0; j < n_prefill; j++) {
            enum link_kind *kind = &out_kinds[i * n_prefill + j];
            const char *why;

            TRY(choose(crew, machine->session->job, machine->facts, embedding(i, j), kind, &why),
                err);
            count_pair(&machine->embed_links[*kind], crew, embedding(i, j), why);
        }
    }
err:
    return st;
}

static enum status open_out(struct machine *machine, int prefill)
{
    enum status st = ST_NOMEM;
    const struct crew *crew = machine->crew;
    const int n_decode = crew->layout.n_stages[ROLE_DECODE];
    enum link_kind *kinds = host_alloc((size_t)n_decode * sizeof *kinds);
    const char *why;

    if (kinds == NULL)
        goto err;
    for (int j = 0; j < n_decode; j++) {
        kinds[j] = LINK_SELF; /* of a pair that never carries a row */
        if (crew_pair(&crew->layout, prefill, j))
            TRY(choose(crew, machine->session->job, machine->facts, handing(prefill, j), &kinds[j],
                       &why),
                err);
    }
    const struct link_out_args args = {
        .world = machine->world,
        .kinds = kinds,
        .n_decode = n_decode,
        .index = prefill,
        .n_slots = machine->n_slots,
        .space = machine->space,
        .pool = machine->staging,
    };
    st = link_out_create(&args, &machine->link_out);
err:
    host_free(kinds);
    return st;
}

enum status links_open(struct machine *machine)
{
    enum status st;
    const struct crew *crew = machine->crew;
    const int prefill = plan_layout_hosts(&crew->layout, crew->me, ROLE_PREFILL);
    const int decode = plan_layout_hosts(&crew->layout, crew->me, ROLE_DECODE);

    TRY(count_pairs(machine), err);
    if (prefill >= 0)
        TRY(open_out(machine, prefill), err);
    if (decode >= 0)
        TRY(link_in_create(&(struct link_in_args){.world = machine->world,
                                                  .index = decode,
                                                  .n_slots = machine->n_slots,
                                                  .space = machine->space},
                           &machine->link_in),
            err);
err:
    return st;
}

/* ---- how fast -------------------------------------------------------------------------------- */

/* Prefill's stores into shared memory, as its own matmul will make them. */
static double measure_shm(struct machine *machine, int to)
{
    const struct machine_facts *facts = machine->facts;
    const size_t layer_bytes = kv_layer_block_bytes(&machine->space.layout);
    size_t n_bytes = (size_t)facts[to].n_blocks * layer_bytes;
    int first = 0;
    double took_s = 0;

    for (int r = 0; r < to; r++)
        if (crew_same_node(machine->crew, r, to))
            first += facts[r].n_blocks + facts[r].n_staging;
    n_bytes = n_bytes < PROBE_BYTES ? n_bytes : PROBE_BYTES;
    uint8_t *bytes = host_zalloc(n_bytes);
    if (bytes == NULL)
        return 0;
    for (int turn = 0; turn < PROBE_TURNS; turn++) {
        const double begun_s = clock_now_s();

        memcpy(kv_space_block(&machine->space, 0, first), bytes, n_bytes);
        took_s = clock_now_s() - begun_s;
    }
    host_free(bytes);
    return (double)n_bytes / (took_s > 0 ? took_s : 1e-9);
}

static enum status finish(struct world *world, struct transfer *transfer, size_t n_bytes,
                          const char *peer)
{
    enum status st = ST_OK;
    const double until_s = clock_now_s() + PROBE_LIMIT_S;
    bool worked;

    while (!transfer_done(transfer)) {
        TRY(world_progress(world, &worked), err);
        if (clock_now_s() > until_s) {
            log_error("%zu bytes to or from %s take more than %.0f s: the network between the "
                      "ranks does not work",
                      n_bytes, peer, PROBE_LIMIT_S);
            return ST_COMM;
        }
    }
err:
    return st;
}

enum status links_probe(struct world *world, const struct crew *crew, int from, int to,
                        size_t n_bytes, double *out_s)
{
    enum status st = ST_NOMEM;
    const bool sends = crew->me == from;
    uint8_t *bytes = host_zalloc(n_bytes);
    const struct byte_span span = {bytes, n_bytes};

    if (bytes == NULL)
        goto err;
    for (int turn = 0; turn < PROBE_TURNS; turn++) {
        const double begun_s = clock_now_s();
        struct transfer *transfer;

        TRY(sends ? world_put(world, to, 0, &span, 1, &transfer)
                  : world_take(world, from, 0, &span, 1, &transfer),
            err);
        st = finish(world, transfer, n_bytes, crew->who[sends ? to : from]);
        if (st != ST_OK)
            return st; /* the bytes may still be on their way: they stay */
        *out_s = clock_now_s() - begun_s;
    }
err:
    host_free(bytes);
    return st;
}

enum status links_measure(struct machine *machine)
{
    enum status st = ST_OK;
    struct crew *crew = machine->crew;
    double mine[LINK_KIND_COUNT] = {0};
    double *all = NULL;

    for (int kind = 0; kind < LINK_KIND_COUNT && st == ST_OK; kind++) {
        const struct machine_link *link = &machine->links[kind];

        if (link->n_pairs == 0)
            continue;
        if (kind == LINK_SHM && crew->me == link->from)
            mine[kind] = measure_shm(machine, link->to);
        if (kind == LINK_MPI && (crew->me == link->from || crew->me == link->to)) {
            double took_s = 1e-9;

            st = links_probe(machine->world, crew, link->from, link->to, PROBE_BYTES, &took_s);
            mine[kind] = PROBE_BYTES / took_s;
        }
    }
    all = host_alloc((size_t)crew->n * sizeof mine);
    if (st == ST_OK && all == NULL)
        st = ST_NOMEM;
    st = crew_together(crew, st, "measuring the links");
    if (st != ST_OK || all == NULL)
        goto err;
    TRY(ranks_gather(crew->ranks, mine, sizeof mine, all), err);
    for (int kind = 0; kind < LINK_KIND_COUNT; kind++) {
        struct machine_link *link = &machine->links[kind];

        if (link->n_pairs > 0)
            link->bytes_per_s =
                all[(kind == LINK_SHM ? link->from : link->to) * LINK_KIND_COUNT + kind];
    }
err:
    host_free(all);
    return st;
}
