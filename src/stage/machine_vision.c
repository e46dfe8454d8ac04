/*
 * machine_vision.c - what a rank has for images: the tower, prefill's memory for embeddings, an
 * encoder's cache, feed and link.
 *
 *   needs     rank 0 has looked at all images: how large, how many to a row
 *   tower     one copy a node, packed by its encoders together; nowhere else
 *   places    for embeddings, in memory that the encoders of the node see too
 *
 * machine.c calls this between its own steps.  With no images nothing happens here, on any rank.
 */
#include "stage/machine.h"

enum {
    CACHE_MIB = 512,       /* most that is chosen for an encoder's cache */
    PLACES_MIB = 256,      /* likewise for a prefill stage's embeddings */
    PLACES_ROWS = 64,      /* of the prompt file, with as many embeddings as there can be */
    FEED_MIB = 256,        /* patches that wait for the engine */
    STEP_PATCHES = 1 << 14 /* of one step, beyond its first image */
};

static int64_t at_least(int64_t n, int64_t least)
{
    return n > least ? n : least;
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

/* What rank 0 knows, on every rank. */
static enum status share_needs(struct machine *machine, const struct image_needs *needs)
{
    enum status st = ST_NOMEM;
    struct crew *crew = machine->crew;
    struct image_needs *all = host_alloc((size_t)crew->n * sizeof *all);

    TRY(crew_together(crew, all != NULL ? ST_OK : ST_NOMEM, "sizing the encoders"), err);
    TRY(ranks_gather(crew->ranks, needs, sizeof *needs, all), err);
    machine->vision.needs = all[0];
err:
    host_free(all);
    return st;
}

/* ---- the tower ------------------------------------------------------------------------------- */

static enum status make_tower(struct machine *machine)
{
    enum status st;
    struct crew *crew = machine->crew;
    const struct session *session = machine->session;
    struct machine_vision *vision = &machine->vision;
    struct row_error why;
    int n_encoders;
    const int place = crew_place(crew, ROLE_ENCODER, crew->me, &n_encoders);

    vision->weights_bytes = vision_weights_bytes(session->vision, session->type);
    TRY(crew_share(crew, n_encoders > 1 ? vision->weights_bytes : 0, &vision->shared_weights, &why),
        err);
    if (place >= 0) {
        const bool shared = vision->shared_weights != NULL;

        st = vision_weights_create(
            &(struct vision_weights_args){
                .source = session->source,
                .type = session->type,
                .threads = machine->threads,
                .memory = vision->shared_weights,
                .part = shared ? place : 0,
                .n_parts = shared ? n_encoders : 0,
            },
            &vision->weights);
        if (!session->stored)
            model_source_forget(session->source);
    }
    st = crew_together(crew, st, "packing the weights of the vision tower");
err:
    return st;
}

/* ---- places for embeddings ------------------------------------------------------------------- */

/* Which places this rank sees: its own, and those of its node if they are in one memory. */
static enum status see_places(struct machine *machine)
{
    struct machine_vision *vision = &machine->vision;
    const struct crew *crew = machine->crew;
    const int n_prefill = crew->layout.n_stages[ROLE_PREFILL];
    const int32_t D = model_source_config(machine->session->source)->D;
    float *base = vision->memory.base;

    vision->spaces = host_zalloc((size_t)n_prefill * sizeof *vision->spaces);
    if (vision->spaces == NULL)
        return ST_NOMEM;
    for (int j = 0; j < n_prefill; j++) {
        const int rank = plan_layout_rank(&crew->layout, ROLE_PREFILL, j);
        struct embed_space *space = &vision->spaces[j];

        *space = (struct embed_space){NULL, vision->n_places, D};
        if (rank != crew->me && !(vision->memory.shared && crew_same_node(crew, rank, crew->me)))
            continue;
        space->base = base;
        base += (size_t)vision->n_places * (size_t)D;
    }
    return ST_OK;
}

static enum status make_places(struct machine *machine)
{
    enum status st;
    struct machine_vision *vision = &machine->vision;
    struct crew *crew = machine->crew;
    int n_here;
    const bool mine = crew_place(crew, ROLE_PREFILL, crew->me, &n_here) >= 0;
    const int32_t most = vision->needs.max_row_embeds;
    const size_t row_bytes =
        (size_t)model_source_config(machine->session->source)->D * sizeof(float);
    const int64_t affordable = ((int64_t)PLACES_MIB << 20) / (int64_t)row_bytes;

    vision->n_places =
        (int)at_least(at_most((int64_t)PLACES_ROWS * most, at_most(affordable, INT32_MAX)), most);
    const bool shared = links_cross(machine, ROLE_ENCODER, ROLE_PREFILL);
    const size_t n_stages = shared ? (size_t)n_here : mine;
    TRY(crew_memory_make(crew, "embeddings", n_stages * (size_t)vision->n_places * row_bytes,
                         shared, &vision->memory),
        err);
    st = crew_together(crew, see_places(machine), "setting memory for embeddings aside");
err:
    return st;
}

/* ---- an encoder ------------------------------------------------------------------------------ */

static enum status make_cache(struct machine *machine)
{
    struct machine_vision *vision = &machine->vision;
    const struct job *job = machine->session->job;
    const size_t row_bytes = (size_t)machine->session->vision->D_out * sizeof(float);
    const int64_t mib = job->encode_cache_mib > 0 ? job->encode_cache_mib : CACHE_MIB;
    const int64_t max_rows = vision->needs.max_rows;
    int64_t n = (mib << 20) / (int64_t)row_bytes;

    /* No more than all images need; as much as one does. */
    if (vision->needs.n_images < (uint64_t)(n / max_rows) + 1)
        n = (int64_t)vision->needs.n_images * max_rows;
    if (job->encode_cache_mib > 0 && n < max_rows) {
        log_error("encode_cache_mib = %lld cannot hold the %lld embeddings of the largest image, "
                  "which take %.1f MiB: raise it",
                  (long long)mib, (long long)max_rows,
                  (double)max_rows * (double)row_bytes / 1048576);
        return ST_CONFIG;
    }
    vision->n_cached = (int)at_most(at_least(n, max_rows), INT32_MAX / 2);
    vision->cache_bytes = (size_t)vision->n_cached * row_bytes;
    vision->cache = pages_map(vision->cache_bytes);
    return vision->cache != NULL ? ST_OK : ST_NOMEM;
}

/* Patches of one step: of as many images as it takes, or of the largest one. */
static int step_patches(const struct machine *machine)
{
    const int64_t one = machine->vision.needs.max_patches;
    const int64_t all = one * machine->session->job->encode_batch;

    return (int)at_least(at_most(all, STEP_PATCHES), one);
}

enum status vision_make(struct machine *machine, const struct image_needs *needs)
{
    enum status st = ST_OK;
    struct crew *crew = machine->crew;

    if (crew->layout.n_stages[ROLE_ENCODER] == 0)
        return ST_OK;
    TRY(share_needs(machine, needs), err);
    if (machine->vision.needs.n_images == 0) /* of the rows that are left; encoders stay idle */
        return ST_OK;
    TRY(make_tower(machine), err);
    TRY(make_places(machine), err);
    if (machine->vision.weights != NULL) {
        machine->vision.max_patches = step_patches(machine);
        st = make_cache(machine);
    }
    st = crew_together(crew, st, "setting the cache for embeddings aside");
err:
    return st;
}

enum status vision_open(struct machine *machine)
{
    enum status st;
    struct machine_vision *vision = &machine->vision;
    const struct session *session = machine->session;
    const struct plan_layout *layout = &machine->crew->layout;
    const int index = plan_layout_hosts(layout, machine->crew->me, ROLE_ENCODER);
    const int n_prefill = layout->n_stages[ROLE_PREFILL];

    if (vision->needs.n_images == 0)
        return ST_OK;
    vision->kinds =
        host_zalloc((size_t)(layout->n_stages[ROLE_ENCODER] * n_prefill) * sizeof *vision->kinds);
    if (vision->kinds == NULL)
        return ST_NOMEM;
    TRY(links_of_encoders(machine, vision->kinds), err);
    if (index < 0)
        return ST_OK;
    const struct image_feed_args feed = {
        .prompts = session->prompts,
        .vision = session->vision,
        .max_images = 2 * session->job->encode_batch,
        .max_bytes = (size_t)FEED_MIB << 20,
    };
    TRY(image_feed_create(&feed, &vision->feed), err);
    const struct embed_out_args link = {
        .world = machine->world,
        .index = index,
        .n_prefill = n_prefill,
        .kinds = vision->kinds + (size_t)index * (size_t)n_prefill,
        .spaces = vision->spaces,
    };
    st = embed_out_create(&link, &vision->link);
err:
    return st;
}

enum status vision_add_encoder(struct machine *machine, struct stage **out_stage)
{
    const struct machine_vision *vision = &machine->vision;
    const struct session *session = machine->session;
    const struct encoder_args args = {
        .world = machine->world,
        .engine = machine->engine,
        .link = vision->link,
        .feed = vision->feed,
        .vision = session->vision,
        .cache = vision->cache,
        .cache_places = vision->n_cached,
        .index = plan_layout_hosts(&machine->crew->layout, machine->crew->me, ROLE_ENCODER),
        .n_slots = machine->n_slots,
        .max_images = session->job->encode_batch,
        .n_file_images = prompts_info(session->prompts)->n_images,
    };

    return encoder_create(&args, out_stage);
}

/* The feed reads the prompt file: it ends before that is closed, whatever becomes of the rest. */
void vision_end_feed(struct machine *machine)
{
    image_feed_destroy(machine->vision.feed);
    machine->vision.feed = NULL;
}

void vision_end(struct machine *machine)
{
    struct machine_vision *vision = &machine->vision;

    embed_out_destroy(vision->link);
    host_free(vision->kinds);
    pages_unmap(vision->cache, vision->cache_bytes);
    host_free(vision->spaces);
    crew_memory_end(&vision->memory);
    vision_weights_destroy(vision->weights);
    if (vision->shared_weights != NULL)
        ranks_unshare(vision->shared_weights, vision->weights_bytes);
}
