/*
 * preflight.c - `epidote check --links`: which link every pair of stages would have, and how fast
 * it is.
 *
 * Pairs between the same two nodes with the same kind of link are alike: one of each is measured.
 * No model is read; of the prompt file only whether it has images, since then there are encoders.
 */
#include <stdio.h>

#include "stage/machine.h"

enum { BULK_BYTES = 4 << 20, SMALL_BYTES = 8, COPY_TURNS = 4 };

/* Pairs that are alike. */
struct alike {
    enum role from_role, to_role;
    int from, to; /* ranks of the first of them */
    enum link_kind kind;
    const char *why;
    int n_pairs;
    double bulk_s, small_s; /* measured; 0 = nothing moves */
};

struct preflight {
    struct crew crew;
    const struct job *job;
    struct prompts *prompts; /* rank 0 */
    void *memory;            /* that the ranks of this node share; NULL = they cannot */
    int32_t *shares;         /* [ranks] owned: whether those of its node do */
    struct world *world;
    struct alike *alike; /* [n_alike] owned; the same on every rank */
    int n_alike;
};

static bool same_kind(const struct preflight *self, const struct alike *a, const struct alike *b)
{
    const struct crew *crew = &self->crew;

    return a->from_role == b->from_role && a->to_role == b->to_role && a->kind == b->kind &&
           crew_same_node(crew, a->from, b->from) && crew_same_node(crew, a->to, b->to);
}

/* All pairs of two roles.  Returns ST_OK, ST_CONFIG (logged). */
static enum status add_pairs(struct preflight *self, enum role from_role, enum role to_role)
{
    const struct plan_layout *layout = &self->crew.layout;
    struct row_error err;

    for (int i = 0; i < layout->n_stages[from_role]; i++) {
        for (int j = 0; j < layout->n_stages[to_role]; j++) {
            struct alike pair = {from_role, to_role, .n_pairs = 1};
            int at = 0;

            if (to_role == ROLE_DECODE && !crew_pair(layout, i, j))
                continue;
            pair.from = plan_layout_rank(layout, from_role, i);
            pair.to = plan_layout_rank(layout, to_role, j);
            if (link_choose(self->job->link, pair.from == pair.to,
                            self->shares[pair.from] &&
                                crew_same_node(&self->crew, pair.from, pair.to),
                            &pair.kind, &pair.why, &err) != ST_OK) {
                log_error("%s (%s to %s)", err.text, self->crew.who[pair.from],
                          self->crew.who[pair.to]);
                return ST_CONFIG;
            }
            while (at < self->n_alike && !same_kind(self, &self->alike[at], &pair))
                at++;
            if (at < self->n_alike)
                self->alike[at].n_pairs++;
            else
                self->alike[self->n_alike++] = pair;
        }
    }
    return ST_OK;
}

/* Every pair of two nodes, kinds of link and roles at most. */
static enum status find_pairs(struct preflight *self)
{
    enum status st = ST_NOMEM;
    size_t n_nodes = 0;

    for (int r = 0; r < self->crew.n; r++)
        n_nodes += ranks_info(self->crew.ranks, r)->node_rank == 0;
    self->alike = host_zalloc(2 * LINK_KIND_COUNT * n_nodes * n_nodes * sizeof *self->alike);
    if (self->alike == NULL)
        goto err;
    TRY(add_pairs(self, ROLE_ENCODER, ROLE_PREFILL), err);
    TRY(add_pairs(self, ROLE_PREFILL, ROLE_DECODE), err);
err:
    return st;
}

/* Seconds of a copy into memory of the node, as prefill's stores into decode's blocks. */
static double copy_s(void *memory)
{
    uint8_t *bytes = host_zalloc(BULK_BYTES);
    double took_s = 0;

    for (int turn = 0; bytes != NULL && turn < COPY_TURNS; turn++) {
        const double begun_s = clock_now_s();

        memcpy(memory, bytes, BULK_BYTES);
        took_s = clock_now_s() - begun_s;
    }
    host_free(bytes);
    return took_s;
}

/* One after the other, so that they do not disturb each other. */
static enum status measure(struct preflight *self, struct alike *pair)
{
    enum status st = ST_OK;
    struct crew *crew = &self->crew;
    double mine[2] = {0, 0};
    double *all = host_alloc((size_t)crew->n * sizeof mine);

    if (pair->kind == LINK_SHM && crew->me == pair->from)
        mine[0] = copy_s(self->memory);
    if (pair->kind == LINK_MPI && (crew->me == pair->from || crew->me == pair->to)) {
        TRY(links_probe(self->world, crew, pair->from, pair->to, BULK_BYTES, &mine[0]), err);
        TRY(links_probe(self->world, crew, pair->from, pair->to, SMALL_BYTES, &mine[1]), err);
    }
    TRY(crew_together(crew, all != NULL ? ST_OK : ST_NOMEM, "measuring a link"), err);
    TRY(ranks_gather(crew->ranks, mine, sizeof mine, all), err);
    const double *of = all + 2 * (pair->kind == LINK_SHM ? pair->from : pair->to);
    pair->bulk_s = of[0];
    pair->small_s = of[1];
err:
    host_free(all);
    return st;
}

static void print_pair(const struct preflight *self, const struct alike *pair)
{
    const struct ranks *ranks = self->crew.ranks;
    char roles[48], nodes[160], speed[32] = "-", small[32] = "-";

    snprintf(roles, sizeof roles, "%s to %s", role_name(pair->from_role), role_name(pair->to_role));
    snprintf(nodes, sizeof nodes, "rank %d on %s to rank %d on %s", pair->from,
             ranks_info(ranks, pair->from)->host, pair->to, ranks_info(ranks, pair->to)->host);
    if (pair->bulk_s > 0)
        snprintf(speed, sizeof speed, "%.2f", BULK_BYTES / pair->bulk_s / 1e9);
    if (pair->small_s > 0)
        snprintf(small, sizeof small, "%.1f", pair->small_s * 1e6);
    printf("%-18s %-44s %6d %-5s %8s %8s  %s\n", roles, nodes, pair->n_pairs,
           link_kind_name(pair->kind), speed, small, pair->why);
}

static void print_table(const struct preflight *self)
{
    printf("%-18s %-44s %6s %-5s %8s %8s  %s\n", "stages", "measured between", "pairs", "link",
           "GB/s", "us", "why");
    for (int i = 0; i < self->n_alike; i++)
        print_pair(self, &self->alike[i]);
}

/* Who does what, as in a run of this job. */
static enum status assign(struct preflight *self, const char *program)
{
    enum status st;
    struct crew *crew = &self->crew;
    int32_t images = 0, *all = NULL;

    TRY(crew_same_job(crew, self->job, program), err);
    st = crew->me == 0 ? prompts_open(self->job->prompts, &self->prompts) : ST_OK;
    TRY(crew_together(crew, st, "opening the prompt file"), err);
    if (self->prompts != NULL)
        images = prompts_info(self->prompts)->n_image_refs > 0;
    all = host_alloc((size_t)crew->n * sizeof *all);
    TRY(crew_together(crew, all != NULL ? ST_OK : ST_NOMEM, "starting up"), err);
    TRY(ranks_gather(crew->ranks, &images, sizeof images, all), err);
    st = crew_assign(crew, all[0] != 0);
err:
    host_free(all);
    return st;
}

/* What the ranks of each node have in common. */
static enum status share(struct preflight *self)
{
    enum status st = ST_NOMEM;
    struct crew *crew = &self->crew;
    struct row_error why = {""};
    int32_t mine;

    self->shares = host_zalloc((size_t)crew->n * sizeof *self->shares);
    TRY(crew_together(crew, self->shares != NULL ? ST_OK : ST_NOMEM, "starting up"), err);
    TRY(crew_share(crew, BULK_BYTES, &self->memory, &why), err);
    mine = self->memory != NULL;
    if (crew->n > 1 && !mine)
        log_warn("the ranks of %s cannot share memory: %s", ranks_info(crew->ranks, crew->me)->host,
                 why.text);
    st = ranks_gather(crew->ranks, &mine, sizeof mine, self->shares);
err:
    return st;
}

enum outcome stage_preflight(const struct job *job, const char *program, struct ranks *ranks)
{
    enum status st;
    struct preflight self = {.job = job};

    crew_begin(ranks, NULL, job, &self.crew);
    TRY(assign(&self, program), err);
    TRY(share(&self), err);
    TRY(crew_together(&self.crew, find_pairs(&self), "choosing links"), err);
    st = self.crew.n == 1 ? world_create_local(&self.crew.layout, &self.world)
                          : world_create_mpi(ranks, &self.crew.layout, &self.world);
    TRY(crew_together(&self.crew, st, "connecting"), err);
    for (int i = 0; i < self.n_alike; i++)
        TRY(measure(&self, &self.alike[i]), err);
    if (self.crew.me == 0)
        print_table(&self);
err:
    if (st != ST_COMM)
        world_destroy(self.world);
    if (self.memory != NULL)
        ranks_unshare(self.memory, BULK_BYTES);
    host_free(self.alike);
    host_free(self.shares);
    prompts_close(self.prompts);
    crew_end(&self.crew);
    return st == ST_OK                       ? OUTCOME_DONE
           : st == ST_NOMEM || st == ST_COMM ? OUTCOME_MACHINE
                                             : OUTCOME_JOB;
}
