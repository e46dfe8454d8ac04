/*
 * crew.c - the ranks of a run: that they agree, and who does what.
 *
 * What does not need a run (a layout for so many ranks) is used by `check`, too.
 */
#include <stdio.h>

#include "stage/crew.h"

/* A model of 100 GB from a shared file system takes minutes; that is not a lost rank. */
enum { START_PATIENCE = 30 }; /* times peer_timeout_s */
#define NO_JOB_PATIENCE_S 300.0

static void ask_as_job(struct crew *crew, const struct job *job)
{
    crew->asked[ROLE_ENCODER] = job->n_encoder;
    crew->asked[ROLE_PREFILL] = job->n_prefill;
    crew->asked[ROLE_DECODE] = job->n_decode;
}

void crew_begin(struct ranks *ranks, struct warden *warden, const struct job *job,
                struct crew *out_crew)
{
    *out_crew = (struct crew){
        .ranks = ranks,
        .warden = warden,
        .me = ranks_me(ranks),
        .n = ranks_n(ranks),
        .patience_s = job != NULL ? START_PATIENCE * job->peer_timeout_s : NO_JOB_PATIENCE_S,
    };
    if (job != NULL)
        ask_as_job(out_crew, job);
}

void crew_suppose(struct ranks *ranks, int n, const struct job *job, struct crew *out_crew)
{
    *out_crew = (struct crew){.ranks = ranks, .n = n, .supposed = true};
    ask_as_job(out_crew, job);
}

void crew_end(struct crew *crew)
{
    for (int r = 0; crew->who != NULL && r < crew->n; r++)
        host_free(crew->who[r]);
    host_free(crew->who);
    crew->who = NULL;
}

/* ---- do they agree --------------------------------------------------------------------------- */

enum status crew_together(struct crew *crew, enum status mine, const char *doing)
{
    if (mine == ST_OK && crew->warden != NULL && *warden_flag(crew->warden) != 0)
        mine = ST_STOPPED;
    return ranks_agree(crew->ranks, mine, doing, crew->patience_s);
}

enum status crew_busy(struct crew *crew, background_fn work, void *arg)
{
    enum { TURN_US = 2000 };
    enum status st;
    struct background *background;

    if (crew->n == 1)
        return work(arg);
    TRY(background_start(work, arg, &background), err);
    while (!background_done(background)) {
        st = ranks_alive(crew->ranks);
        clock_sleep_us(st == ST_OK ? TURN_US : 100 * TURN_US); /* the work is worth its end */
    }
    st = background_join(background);
err:
    return st;
}

/* What this process is: name, version, and every byte of its program file. */
static enum status hash_program(const char *program, uint64_t *out_hash)
{
    struct file_map map;
    const enum status st = file_map_open("/proc/self/exe", &map);

    if (st == ST_OK)
        *out_hash = hash_bytes(map.data, map.n_bytes, hash_bytes(program, strlen(program), 0));
    if (st == ST_OK)
        file_map_close(&map);
    return st;
}

static enum status hash_job(const struct job *job, uint64_t *out_hash)
{
    struct buf text = {0};
    const enum status st = job_print(job, &text);

    if (st == ST_OK)
        *out_hash = hash_bytes(text.data, text.n_bytes, 0);
    buf_free(&text);
    return st;
}

enum status crew_same_job(struct crew *crew, const struct job *job, const char *program)
{
    enum status st = job != NULL ? ST_OK : ST_CONFIG;
    uint64_t of_program = 0, of_job = 0;

    if (st == ST_OK && crew->n > 1)
        st = hash_program(program, &of_program);
    if (st == ST_OK && crew->n > 1)
        st = hash_job(job, &of_job);
    TRY(crew_together(crew, st, "reading the job file"), err);
    TRY(ranks_same(crew->ranks, "two different binaries in one run", of_program,
                   "start the same build of epidote on every rank"),
        err);
    TRY(ranks_same(crew->ranks, "two different jobs in one run", of_job,
                   "give every rank the same job file and the same --set options"),
        err);
err:
    return st;
}

static const char different_models[] = "two different models in one run";
static const char same_models[] =
    "put the model on a shared file system, or the same file on every node";

/* A model file is read to its end once a node, whose ranks have had the same glimpse of it. */
static enum status same_model(struct crew *crew, struct session *session)
{
    enum status st = ST_NOMEM;
    const bool reads = ranks_info(crew->ranks, crew->me)->node_rank == 0;
    const uint64_t mine = reads ? session_fingerprint(session) : 0;
    uint64_t *all = host_zalloc((size_t)crew->n * sizeof *all);

    TRY(crew_together(crew, all != NULL ? ST_OK : ST_NOMEM, "reading the model"), err);
    TRY(ranks_gather(crew->ranks, &mine, sizeof mine, all), err);
    int leader = crew->me;
    for (int r = crew->n - 1; r >= 0; r--)
        if (crew_same_node(crew, r, crew->me))
            leader = r;
    st = ranks_same(crew->ranks, different_models, all[leader], same_models);
err:
    host_free(all);
    return st;
}

enum status crew_same_data(struct crew *crew, struct session *session)
{
    enum status st = ST_OK;

    if (crew->n == 1)
        return ST_OK;
    TRY(ranks_same(crew->ranks, different_models, model_source_glimpse(session->source),
                   same_models),
        err);
    TRY(same_model(crew, session), err);
    TRY(ranks_same(crew->ranks, "two different numerics in one run",
                   hash_bytes(session->numerics, strlen(session->numerics), 0),
                   "use nodes of one kind, or set the option `instructions`"),
        err);
    TRY(ranks_same(crew->ranks, "ranks see different prompt files",
                   prompts_glimpse(session->prompts), "put the file on a shared file system"),
        err);
err:
    return st;
}

/* ---- who does what --------------------------------------------------------------------------- */

enum status crew_take_roles(struct crew *crew, int mine)
{
    enum status st = ST_NOMEM;
    const int32_t role = mine;
    struct row_error why;
    int32_t *all = host_alloc((size_t)crew->n * sizeof *all);

    TRY(crew_together(crew, all != NULL ? ST_OK : ST_NOMEM, "looking at roles"), err);
    TRY(ranks_gather(crew->ranks, &role, sizeof role, all), err);
    if (plan_roles(all, crew->n, crew->asked, &why) != ST_OK) {
        log_error("%s", why.text);
        st = ST_CONFIG;
    }
err:
    host_free(all);
    return st;
}

static enum status make_layout(struct crew *crew, bool images)
{
    int asked[ROLE_COUNT];
    struct row_error why;

    memcpy(asked, crew->asked, sizeof asked);
    if (images && asked[ROLE_ENCODER] == 0) {
        log_error("groups: encoder = 0, but rows have images: leave it out or give it a rank");
        return ST_CONFIG;
    }
    if (!images) {
        if (asked[ROLE_ENCODER] > 0 && asked[ROLE_PREFILL] > 0)
            asked[ROLE_PREFILL] += asked[ROLE_ENCODER];
        asked[ROLE_ENCODER] = 0;
    }
    if (plan_layout_make(crew->n, asked, &crew->layout, &why) == ST_OK)
        return ST_OK;
    /* Encoders that were to share prefill's ranks leave none behind. */
    asked[ROLE_PREFILL] = crew->asked[ROLE_PREFILL];
    if (!images && plan_layout_make(crew->n, asked, &crew->layout, &why) == ST_OK)
        return ST_OK;
    log_error("%s", why.text);
    return ST_CONFIG;
}

char *crew_stages(const struct plan_layout *layout, int rank, char *buf, size_t cap)
{
    size_t n = 0;

    snprintf(buf, cap, "nothing");
    for (int role = 0; role < ROLE_WATCH; role++) {
        const int index = plan_layout_hosts(layout, rank, (enum role)role);

        if (index < 0 || n >= cap)
            continue;
        n += (size_t)snprintf(buf + n, cap - n, "%s%s", n > 0 ? "+" : "",
                              role_name((enum role)role));
        if (role != ROLE_COORDINATOR && n < cap)
            n += (size_t)snprintf(buf + n, cap - n, "/%d", index);
    }
    return buf;
}

enum status crew_assign(struct crew *crew, bool images)
{
    enum status st;
    char text[256], stages[64];

    TRY(make_layout(crew, images), err);
    crew->who = host_zalloc((size_t)crew->n * sizeof *crew->who);
    for (int r = 0; crew->who != NULL && r < crew->n; r++) {
        if (crew->supposed)
            snprintf(text, sizeof text, "rank %d (%s)", r,
                     crew_stages(&crew->layout, r, stages, sizeof stages));
        else
            ranks_who(crew->ranks, &crew->layout, r, text, sizeof text);
        crew->who[r] = host_strdup(text);
        if (crew->who[r] == NULL)
            return ST_NOMEM;
    }
    if (crew->who == NULL)
        return ST_NOMEM;
    if (crew->n > 1 && !crew->supposed) {
        snprintf(text, sizeof text, "rank %d %s", crew->me,
                 crew_stages(&crew->layout, crew->me, stages, sizeof stages));
        log_set_who(text);
    }
err:
    return st;
}

bool crew_pair(const struct plan_layout *layout, int prefill, int decode)
{
    const int near =
        plan_layout_hosts(layout, plan_layout_rank(layout, ROLE_DECODE, decode), ROLE_PREFILL);

    return near < 0 || near == prefill;
}

int crew_idle(const struct plan_layout *layout, uint64_t n_rows)
{
    int n_idle = 0;

    for (int r = 0; r < layout->n_ranks; r++) {
        const int prefill = plan_layout_hosts(layout, r, ROLE_PREFILL);
        const int decode = plan_layout_hosts(layout, r, ROLE_DECODE);
        const int encoder = plan_layout_hosts(layout, r, ROLE_ENCODER);
        const bool coordinates = plan_layout_hosts(layout, r, ROLE_COORDINATOR) >= 0;

        n_idle += !coordinates && (encoder < 0 || (uint64_t)encoder >= n_rows) &&
                  (prefill < 0 || (uint64_t)prefill >= n_rows) &&
                  (decode < 0 || (uint64_t)decode >= n_rows);
    }
    return n_idle;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

bool crew_same_node(const struct crew *crew, int a, int b)
{
    return crew->supposed || ranks_info(crew->ranks, a)->node == ranks_info(crew->ranks, b)->node;
}

int crew_place(const struct crew *crew, enum role role, int rank, int *out_n)
{
    int place = -1;

    *out_n = 0;
    for (int r = 0; r < crew->n; r++) {
        if (!crew_same_node(crew, r, rank) || plan_layout_hosts(&crew->layout, r, role) < 0)
            continue;
        if (r == rank)
            place = *out_n;
        (*out_n)++;
    }
    return place;
}

struct node crew_node(const struct crew *crew, int rank)
{
    struct node node = {.part = -1, .available_bytes = UINT64_MAX};

    for (int r = 0; r < crew->n; r++) {
        const int there = crew->supposed ? ranks_me(crew->ranks) : r;
        const uint64_t available = ranks_info(crew->ranks, there)->available_bytes;

        if (!crew_same_node(crew, r, rank))
            continue;
        if (available < node.available_bytes)
            node.available_bytes = available;
        if (!plan_layout_computes(&crew->layout, r))
            continue;
        if (r == rank)
            node.part = node.n_computing;
        node.n_computing++;
    }
    return node;
}

enum status crew_share(struct crew *crew, size_t n_bytes, void **out_base,
                       struct row_error *out_why)
{
    enum status st;

    *out_base = NULL;
    *out_why = (struct row_error){""};
    if (crew->n == 1)
        return ST_OK;
    st = ranks_share(crew->ranks, n_bytes, out_base, out_why);
    return st == ST_COMM ? st : crew_together(crew, st, "setting memory aside");
}

enum status crew_memory_make(struct crew *crew, const char *what, size_t n_bytes, bool shared,
                             struct node_memory *out_memory)
{
    enum status st;
    struct node_memory memory = {.n_bytes = n_bytes, .shared = shared};
    struct row_error why;

    TRY(crew_share(crew, shared ? n_bytes : 0, &memory.base, &why), err);
    if (!shared && n_bytes > 0)
        memory.base = pages_map(n_bytes);
    else if (memory.base == NULL && n_bytes > 0)
        log_error("%s: the ranks share their weights, but cannot share %.0f MiB of %s: %s",
                  ranks_info(crew->ranks, crew->me)->host, (double)n_bytes / 1048576, what,
                  why.text);
    TRY(crew_together(crew, memory.base != NULL || n_bytes == 0 ? ST_OK : ST_NOMEM,
                      "setting memory aside"),
        err);
    *out_memory = memory;
    return ST_OK;
err:
    crew_memory_end(&memory);
    return st;
}

void crew_memory_end(struct node_memory *memory)
{
    if (memory->shared)
        ranks_unshare(memory->base, memory->n_bytes);
    else
        pages_unmap(memory->base, memory->n_bytes);
}
