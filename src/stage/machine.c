/*
 * machine.c - what computes on a rank, made step by step, all ranks together.
 *
 *   weights   one copy a node, packed by its ranks together, or one a rank
 *   facts     what each rank has, told to all
 *   KV        a decode stage's blocks; shared by the ranks of a node where prefill writes into them
 *   vision    what there is for images (machine_vision.c)
 *   engine, world, links, stages
 *
 * Every step ends in crew_together or another collective call, so a rank that fails ends all; no
 * step leaves before it.
 */
#include <stdio.h>

#include "stage/machine.h"

enum { IO_QUEUE_BYTES = 64 << 20, IO_WINDOW_ROWS = 1024, MAX_PREFILL_SEQS = 64 };
enum { STAGING_ROWS = 2 }; /* of full context, beside one step's prompts */

static int hosts(const struct machine *machine, enum role role)
{
    return plan_layout_hosts(&machine->crew->layout, machine->crew->me, role);
}

static bool computes(const struct machine *machine)
{
    return machine->node.part >= 0;
}

/* Whether the decoder runs here; else this rank only encodes images, or coordinates. */
static bool decodes(const struct machine *machine)
{
    return hosts(machine, ROLE_PREFILL) >= 0 || hosts(machine, ROLE_DECODE) >= 0;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

enum status machine_size(const struct session *session, const struct crew *crew, int rank,
                         const struct node *node, bool shares, struct machine_sizes *out_sizes)
{
    const struct job *job = session->job;
    const int prefill = plan_layout_hosts(&crew->layout, rank, ROLE_PREFILL);
    const int decode = plan_layout_hosts(&crew->layout, rank, ROLE_DECODE);
    const bool stages = prefill >= 0 && links_staging(crew, job, prefill, shares);
    const int n_sharing = node->n_computing > 0 ? node->n_computing : 1;
    size_t own, mapped;

    session_weights_bytes(session, &own, &mapped);
    struct plan_kv_args args = {
        .context = session->context,
        .block_tok = session->kv.P,
        .decode_batch = job->decode_batch,
        .block_bytes = kv_block_bytes(&session->kv),
        .table_bytes =
            (size_t)session->kv.P * decoder_position_bytes(model_source_config(session->source)),
        .available_bytes = session->cuda != NULL ? session->cuda_free_bytes : node->available_bytes,
        .weights_bytes = (shares ? own / (size_t)n_sharing : own) + mapped / (size_t)n_sharing,
        .n_sharing = n_sharing,
        .n_pools = (decode >= 0) + stages,
        .asked_mib = job->kv_memory_mib,
    };
    struct machine_sizes sizes = {.n_blocks = 0};
    struct row_error why;

    if (decode >= 0) {
        if (plan_kv_blocks(&args, &sizes.n_blocks, &why) != ST_OK)
            goto err;
        sizes.max_tok = sizes.max_seqs = job->decode_batch;
    }
    if (prefill >= 0) {
        sizes.max_tok =
            job->prefill_chunk_tok > sizes.max_tok ? job->prefill_chunk_tok : sizes.max_tok;
        sizes.max_seqs = MAX_PREFILL_SEQS > sizes.max_seqs ? MAX_PREFILL_SEQS : sizes.max_seqs;
        if (stages) {
            args.decode_batch =
                STAGING_ROWS + (job->prefill_chunk_tok + session->context - 1) / session->context;
            if (plan_kv_blocks(&args, &sizes.n_staging, &why) != ST_OK)
                goto err;
        }
    }
    *out_sizes = sizes;
    return ST_OK;
err:
    log_error("%s%s%s", crew->n > 1 ? crew->who[rank] : "", crew->n > 1 ? ": " : "", why.text);
    return ST_CONFIG;
}

enum status machine_check(const struct session *session, const struct crew *crew, int *out_n_blocks)
{
    enum status st = ST_OK;
    struct machine_sizes sizes;

    *out_n_blocks = INT32_MAX;
    for (int rank = 0; rank < crew->n; rank++) {
        const struct node node = crew_node(crew, rank);

        TRY(machine_size(session, crew, rank, &node, node.n_computing > 1, &sizes), err);
        if (plan_layout_hosts(&crew->layout, rank, ROLE_DECODE) >= 0 &&
            sizes.n_blocks < *out_n_blocks)
            *out_n_blocks = sizes.n_blocks;
    }
err:
    return st;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Threads and this rank's part of the weights; *why: they should have been shared and are not. */
static enum status make_weights(struct machine *machine, struct row_error *why)
{
    enum status st;
    struct crew *crew = machine->crew;
    const struct session *session = machine->session;
    const int n_computing = machine->node.n_computing;

    session_weights_bytes(session, &machine->weights_bytes, &machine->mapped_bytes);
    TRY(crew_share(crew, n_computing > 1 ? machine->weights_bytes : 0, &machine->shared_weights,
                   why),
        err);
    if (computes(machine)) {
        const int n_threads = session->job->threads > 0 ? session->job->threads
                                                        : ranks_threads(crew->ranks, &crew->layout);

        st = threads_create(n_threads, &machine->threads);
        /* Packing is everybody's where it is for all; else an encoder alone needs none. */
        const bool packs = machine->shared_weights != NULL || decodes(machine);

        if (st == ST_OK && session->cuda != NULL)
            st = weights_cuda_create(
                &(struct weights_cuda_args){session->source, machine->threads, session->cuda},
                &machine->weights_cuda);
        else if (st == ST_OK && packs)
            st = weights_create(
                &(struct weights_args){
                    .source = session->source,
                    .type = session->type,
                    .stored = session->stored,
                    .threads = machine->threads,
                    .memory = machine->shared_weights,
                    .part = machine->shared_weights != NULL ? machine->node.part : 0,
                    .n_parts = machine->shared_weights != NULL ? n_computing : 0,
                },
                &machine->weights);
        if (!session->stored)
            model_source_forget(session->source);
    }
    st = crew_together(crew, st, "packing the weights");
err:
    return st;
}

/* ---- facts ----------------------------------------------------------------------------------- */

static enum status tell_facts(struct machine *machine, const struct row_error *why)
{
    enum status st = ST_OK;
    struct crew *crew = machine->crew;
    struct machine_facts mine = {
        .n_threads = machine->threads != NULL ? threads_count(machine->threads) : 0,
        .shares = machine->shared_weights != NULL,
    };

    snprintf(mine.why, sizeof mine.why, "%.*s", (int)sizeof mine.why - 1, why->text);
    machine->facts = host_zalloc((size_t)crew->n * sizeof *machine->facts);
    if (machine->facts == NULL)
        st = ST_NOMEM;
    else if (computes(machine))
        st = machine_size(machine->session, crew, crew->me, &machine->node, mine.shares,
                          &machine->sizes);
    mine.n_blocks = machine->sizes.n_blocks;
    mine.n_staging = machine->sizes.n_staging;
    TRY(crew_together(crew, st, "sizing the KV blocks"), err);
    st = ranks_gather(crew->ranks, &mine, sizeof mine, machine->facts);
err:
    return st;
}

/* ---- KV blocks ------------------------------------------------------------------------------- */

/* How many blocks this rank's space has, and which is its own first. */
static enum status count_blocks(const struct machine *machine, bool shared, int *out_n,
                                int *out_first)
{
    const struct crew *crew = machine->crew;
    int64_t n = 0;

    *out_first = 0;
    for (int r = 0; r < crew->n; r++) {
        if (r != crew->me && (!shared || !crew_same_node(crew, r, crew->me)))
            continue;
        if (r == crew->me)
            *out_first = (int)n;
        n += machine->facts[r].n_blocks + machine->facts[r].n_staging;
        if (n > INT32_MAX) {
            log_error("the ranks of %s have more than %d KV blocks together: set kv_memory_mib",
                      ranks_info(crew->ranks, crew->me)->host, INT32_MAX);
            return ST_CONFIG;
        }
    }
    *out_n = (int)n;
    return ST_OK;
}

static enum status make_pools(struct machine *machine, int first)
{
    enum status st = ST_OK;
    const struct machine_facts *mine = &machine->facts[machine->crew->me];

    if (mine->n_blocks > 0)
        TRY(kv_pool_create(&machine->space, first, mine->n_blocks, &machine->pool), err);
    if (mine->n_staging > 0)
        TRY(kv_pool_create(&machine->space, first + mine->n_blocks, mine->n_staging,
                           &machine->staging),
            err);
err:
    return st;
}

/* In memory of the GPU.  Collective over all. */
static enum status make_kv_cuda(struct machine *machine, size_t n_bytes)
{
    const enum status st =
        ops_cuda_alloc(machine->session->cuda, n_bytes, "KV blocks",
                       "lower kv_memory_mib, decode_batch or context", &machine->kv.base);

    machine->kv.n_bytes = st == ST_OK ? n_bytes : 0;
    return crew_together(machine->crew, st, "setting memory aside");
}

static enum status make_kv(struct machine *machine)
{
    enum status st;
    struct crew *crew = machine->crew;
    const struct kv_layout *layout = &machine->session->kv;
    const bool shared = links_cross(machine, ROLE_PREFILL, ROLE_DECODE);
    int n_blocks = 0, first = 0;

    TRY(crew_together(crew, count_blocks(machine, shared, &n_blocks, &first),
                      "counting the KV blocks"),
        err);
    const size_t n_bytes = (size_t)n_blocks * kv_block_bytes(layout);

    TRY(machine->session->cuda != NULL
            ? make_kv_cuda(machine, n_bytes)
            : crew_memory_make(crew, "KV blocks", n_bytes, shared, &machine->kv),
        err);
    machine->space = (struct kv_space){*layout, n_blocks, machine->kv.base};
    st = crew_together(crew, make_pools(machine, first), "setting the KV blocks aside");
err:
    return st;
}

/* ---- engine, world, links, stages ------------------------------------------------------------ */

static enum status make_engine_cuda(struct machine *machine)
{
    const struct session *session = machine->session;
    const struct engine_cuda_args args = {
        .config = model_source_config(session->source),
        .weights = machine->weights_cuda,
        .cuda = session->cuda,
        .threads = machine->threads,
        .space = machine->space,
        .max_tok = machine->sizes.max_tok,
        .max_seqs = machine->sizes.max_seqs,
        .context = session->context,
    };

    return engine_cuda_create(&args, &machine->engine);
}

static enum status make_engine(struct machine *machine)
{
    const struct session *session = machine->session;

    if (!computes(machine))
        return ST_OK;
    if (session->cuda != NULL)
        return make_engine_cuda(machine);
    const struct engine_cpu_args args = {
        .config = model_source_config(session->source),
        .weights = decodes(machine) ? machine->weights : NULL,
        .ops = session->ops,
        .threads = machine->threads,
        .space = machine->space,
        .max_tok = machine->sizes.max_tok,
        .max_seqs = machine->sizes.max_seqs,
        .context = session->context,
        .vision = machine->vision.weights != NULL ? session->vision : NULL,
        .vision_weights = machine->vision.weights,
        .max_patches = machine->vision.max_patches,
    };
    return engine_cpu_create(&args, &machine->engine);
}

static void add_stage(struct machine *machine, struct stage *stage)
{
    machine->stages[machine->n_stages++] = stage;
}

static enum status make_coordinator(struct machine *machine, struct journal *journal,
                                    const struct run_end *end)
{
    enum status st = ST_NOMEM;
    const struct session *session = machine->session;
    const struct job *job = session->job;
    const struct plan_layout *layout = &machine->crew->layout;
    const int n_decode = layout->n_stages[ROLE_DECODE];
    struct plan_pool *pools = host_zalloc((size_t)n_decode * sizeof *pools);
    struct stage *stage;

    if (pools == NULL)
        goto err;
    for (int j = 0; j < n_decode; j++)
        pools[j] = (struct plan_pool){
            .n_free_blocks = machine->facts[plan_layout_rank(layout, ROLE_DECODE, j)].n_blocks,
            .max_rows = 2 * job->decode_batch,
        };
    const struct io_args io = {
        .prompts = session->prompts,
        .journal = journal,
        .results_path = job->results,
        .longest_first = job->order == ORDER_LONGEST,
        .queue_bytes = IO_QUEUE_BYTES,
        .window_rows = IO_WINDOW_ROWS,
    };
    TRY(io_start(&io, &machine->io), err);
    const struct coordinator_args args = {
        .world = machine->world,
        .io = machine->io,
        .intake = &session->intake,
        .n_slots = machine->n_slots,
        .block_tok = session->kv.P,
        .pools = pools,
        .embed_places = machine->vision.n_places,
        .max_errors = job->max_errors,
        .progress_s = job->progress_s,
        .end = *end,
        .watch = machine->watch,
    };
    TRY(coordinator_create(&args, &stage), err);
    add_stage(machine, stage);
err:
    host_free(pools);
    return st;
}

static enum status make_encoder(struct machine *machine)
{
    struct stage *stage;
    const enum status st = vision_add_encoder(machine, &stage);

    if (st == ST_OK)
        add_stage(machine, stage);
    return st;
}

static enum status make_prefill(struct machine *machine)
{
    const int index = hosts(machine, ROLE_PREFILL);
    const struct model_config *config = model_source_config(machine->session->source);
    struct machine_vision *vision = &machine->vision;
    const int n_encoder = machine->crew->layout.n_stages[ROLE_ENCODER];
    const int n_prefill = machine->crew->layout.n_stages[ROLE_PREFILL];
    struct prefill_args args = {
        .world = machine->world,
        .engine = machine->engine,
        .link = machine->link_out,
        .index = index,
        .n_slots = machine->n_slots,
        .max_tok = machine->session->job->prefill_chunk_tok,
        .max_seqs = machine->engine->max_seqs,
        .image_id = config->image_id,
        .mrope = config->mrope[0] > 0,
    };
    enum status st = ST_NOMEM;
    struct stage *stage;
    enum link_kind *kinds = host_zalloc((size_t)n_encoder * sizeof *kinds); /* to this stage */

    if (kinds == NULL)
        goto err;
    if (vision->spaces != NULL) {
        args.embeds = vision->spaces[index];
        args.encoder_links = kinds;
        for (int i = 0; i < n_encoder; i++)
            kinds[i] = vision->kinds[i * n_prefill + index];
    }
    TRY(prefill_create(&args, &stage), err);
    add_stage(machine, stage);
err:
    host_free(kinds);
    return st;
}

static enum status make_decode(struct machine *machine)
{
    const struct model_config *config = model_source_config(machine->session->source);
    const struct decode_args args = {
        .world = machine->world,
        .engine = machine->engine,
        .pool = machine->pool,
        .link = machine->link_in,
        .tokenizer = machine->session->tokenizer,
        .eos_ids = config->eos_ids,
        .n_eos = config->n_eos,
        .index = hosts(machine, ROLE_DECODE),
        .n_slots = machine->n_slots,
        .max_batch = machine->session->job->decode_batch,
    };
    struct stage *stage;
    const enum status st = decode_create(&args, &stage);

    if (st == ST_OK)
        add_stage(machine, stage);
    return st;
}

/* The watch is made first, since the coordinator asks it for figures, and has the last turn. */
static enum status make_stages(struct machine *machine, struct journal *journal,
                               const struct run_end *end)
{
    enum status st;

    const bool encodes = machine->vision.weights != NULL;

    TRY(links_open(machine), err); /* the watch counts what goes over them */
    TRY(vision_open(machine), err);
    const struct watch_args watch = {
        .world = machine->world,
        .stages = machine->stages,
        .n_stages = (hosts(machine, ROLE_COORDINATOR) >= 0) + encodes +
                    (hosts(machine, ROLE_PREFILL) >= 0) + (hosts(machine, ROLE_DECODE) >= 0),
        .engine = machine->engine,
        .link = machine->link_out,
        .who = (const char *const *)machine->crew->who,
        .peer_timeout_s = machine->session->job->peer_timeout_s,
    };
    TRY(watch_create(&watch, &machine->watch), err);
    /* In the order of a row: a full batch further on is worth more than an early answer. */
    if (hosts(machine, ROLE_COORDINATOR) >= 0)
        TRY(make_coordinator(machine, journal, end), err);
    if (encodes)
        TRY(make_encoder(machine), err);
    if (hosts(machine, ROLE_PREFILL) >= 0)
        TRY(make_prefill(machine), err);
    if (hosts(machine, ROLE_DECODE) >= 0)
        TRY(make_decode(machine), err);
    add_stage(machine, machine->watch);
err:
    return st;
}

static enum status make_world(struct machine *machine)
{
    struct crew *crew = machine->crew;
    const enum status st = crew->n == 1
                               ? world_create_local(&crew->layout, &machine->world)
                               : world_create_mpi(crew->ranks, &crew->layout, &machine->world);

    return st == ST_COMM ? st : crew_together(crew, st, "connecting");
}

enum status machine_create(struct crew *crew, const struct session *session,
                           const struct image_needs *needs, struct journal *journal,
                           const struct run_end *end, struct machine *machine)
{
    enum status st;
    struct row_error why;
    const int n_slots = 2 * session->job->decode_batch * crew->layout.n_stages[ROLE_DECODE];

    /* Twice the batches in flight, so that a row that ends has a successor with its prompt done. */
    *machine = (struct machine){
        .crew = crew,
        .session = session,
        .node = crew_node(crew, crew->me),
        .n_slots = n_slots < COMM_MAX_SLOTS ? n_slots : COMM_MAX_SLOTS,
    };
    TRY(make_weights(machine, &why), err);
    TRY(tell_facts(machine, &why), err);
    TRY(make_kv(machine), err);
    TRY(vision_make(machine, needs), err);
    TRY(crew_together(crew, make_engine(machine), "making the engine"), err);
    TRY(make_world(machine), err);
    TRY(crew_together(crew, make_stages(machine, journal, end), "making the stages"), err);
    TRY(links_measure(machine), err);
err:
    return st;
}

void machine_destroy(struct machine *machine, bool in_order)
{
    for (int i = 0; i < machine->n_stages; i++)
        if (machine->stages[i] != machine->watch)
            stage_destroy(machine->stages[i]);
    stage_destroy(machine->watch);
    vision_end_feed(machine);
    if (!in_order) { /* bytes may still come in: their places stay until the process ends */
        world_abandon(machine->world);
        return;
    }
    world_destroy(machine->world);
    link_out_destroy(machine->link_out);
    link_in_destroy(machine->link_in);
    engine_destroy(machine->engine);
    vision_end(machine);
    kv_pool_destroy(machine->staging);
    kv_pool_destroy(machine->pool);
    if (machine->session->cuda != NULL)
        ops_cuda_free(machine->session->cuda, machine->kv.base);
    else
        crew_memory_end(&machine->kv);
    weights_cuda_destroy(machine->weights_cuda);
    weights_destroy(machine->weights);
    if (machine->shared_weights != NULL)
        ranks_unshare(machine->shared_weights, machine->weights_bytes);
    threads_destroy(machine->threads);
    host_free(machine->facts);
    *machine = (struct machine){.n_stages = 0};
}
