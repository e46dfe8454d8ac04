/*
 * cell.h - a whole cell in one process: every rank of a layout on the virtual world, with the
 * simulated engine and the real stages, links and loop; rows and results in memory.
 *
 * unit_protocol.c turns it in all kinds of bad luck; virtual.c measures it with 1,000 ranks.
 */
#ifndef EPIDOTE_TESTS_CELL_H
#define EPIDOTE_TESTS_CELL_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "stage/stage.h"

/* What cannot fail in a test: memory, mostly. */
#define CELL_OK(expr)                                                                              \
    do {                                                                                           \
        const enum status cell_st = (expr);                                                        \
                                                                                                   \
        if (cell_st != ST_OK) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #expr,                     \
                    status_name(cell_st), log_last_error());                                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline void *cell_zalloc(size_t n, size_t bytes)
{
    void *memory = calloc(n, bytes);

    CELL_OK(memory != NULL ? ST_OK : ST_NOMEM);
    return memory;
}

/* ---- dice ------------------------------------------------------------------------------------ */

struct dice {
    uint64_t seed, n;
};

static inline uint64_t dice_bits(struct dice *dice)
{
    uint64_t x = dice->seed + ++dice->n * 0x9e3779b97f4a7c15u; /* splitmix64 */

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* least <= roll <= most */
static inline int roll(struct dice *dice, int least, int most)
{
    return least + (int)(dice_bits(dice) % (uint64_t)(most - least + 1));
}

/* One of so many. */
static inline bool one_in(struct dice *dice, int n)
{
    return roll(dice, 1, n) == 1;
}

/* least <= roll_real < most */
static inline double roll_real(struct dice *dice, double least, double most)
{
    return least + (most - least) * ((double)(dice_bits(dice) >> 11) * 0x1p-53);
}

/* ---- words ----------------------------------------------------------------------------------- */

enum { CELL_WORDS = 26, CELL_EOS = 25 };

/* Token i is the letter 'a' + i; the last one ends an answer. */
static inline struct tokenizer *cell_tokenizer(void)
{
    static const char *const names[CELL_WORDS] = {"a", "b", "c", "d", "e", "f", "g", "h",    "i",
                                                  "j", "k", "l", "m", "n", "o", "p", "q",    "r",
                                                  "s", "t", "u", "v", "w", "x", "y", "<end>"};
    struct text_span tokens[CELL_WORDS];
    uint8_t kinds[CELL_WORDS] = {0};
    struct tokenizer *tokenizer = NULL;

    for (int i = 0; i < CELL_WORDS; i++)
        tokens[i] = (struct text_span){names[i], strlen(names[i])};
    kinds[CELL_EOS] = TOKEN_CONTROL;
    const struct vocab_spec spec = {.origin = "test",
                                    .model = "bpe",
                                    .pre = "gpt-2",
                                    .tokens = tokens,
                                    .kinds = kinds,
                                    .n_tokens = CELL_WORDS,
                                    .bos_id = -1,
                                    .eos_id = CELL_EOS};
    CELL_OK(tokenizer_create(&spec, &tokenizer));
    return tokenizer;
}

/* ---- rows in, results out -------------------------------------------------------------------- */

/* Rows that lie in memory; results are looked at and forgotten.  Both sides can be slow. */
struct memory_io {
    struct io base;
    const struct prompt_row *rows; /* [n_rows] borrowed */
    int n_rows, n_given, n_freed;
    int n_queued, most_queued; /* results that are not written, and how many may be */
    bool reader_waits;         /* nothing is read at the moment */
    enum status st;            /* not ST_OK: the files are gone */
    uint64_t n_done, n_failed;
    void (*take)(void *arg, const struct result_row *row); /* each result as it is put */
    void *arg;
};

static inline enum status memory_next(struct io *io, const struct prompt_row **out_row)
{
    struct memory_io *self = (struct memory_io *)io;

    if (self->st != ST_OK) {
        log_error("rows cannot be read any more: it was asked for");
        return self->st;
    }
    if (self->n_given == self->n_rows)
        return ST_END;
    if (self->reader_waits)
        return ST_AGAIN;
    *out_row = &self->rows[self->n_given++];
    return ST_OK;
}

static inline void memory_row_free(struct io *io, const struct prompt_row *row)
{
    (void)row;
    ((struct memory_io *)io)->n_freed++;
}

static inline enum status memory_put(struct io *io, const void *payload, size_t n_bytes)
{
    struct memory_io *self = (struct memory_io *)io;
    struct result_row row;

    if (self->st != ST_OK) {
        log_error("results cannot be written any more: it was asked for");
        return self->st;
    }
    if (self->n_queued == self->most_queued)
        return ST_AGAIN;
    CELL_OK(result_unpack(payload, n_bytes, &row));
    self->n_queued++;
    self->n_done++;
    self->n_failed += row.reason == FINISH_ERROR;
    self->take(self->arg, &row);
    return ST_OK;
}

static inline int memory_n_waiting(struct io *io)
{
    return ((struct memory_io *)io)->n_queued;
}

static inline void memory_counts(struct io *io, struct journal_counts *out_counts)
{
    const struct memory_io *self = (const struct memory_io *)io;

    *out_counts = (struct journal_counts){
        .n_rows = (uint64_t)self->n_rows, .n_done = self->n_done, .n_failed = self->n_failed};
}

static const struct io_ops memory_io_ops = {
    .next = memory_next,
    .row_free = memory_row_free,
    .put = memory_put,
    .n_waiting = memory_n_waiting,
    .counts = memory_counts,
};

/* ---- the cell -------------------------------------------------------------------------------- */

/* Images that are made up: the first number of each one's patches is its own. */
struct memory_feed {
    struct image_feed base;
    struct dice dice;
    const bool *broken;  /* [images] borrowed */
    int most;            /* wanted at a time */
    int n_wanted, n_out; /* n_out: patches that are not freed */
    struct fed_image images[16];
};

static inline enum status memory_want(struct image_feed *feed, int32_t ticket, uint64_t image,
                                      const struct vision_plan *plan)
{
    struct memory_feed *self = (struct memory_feed *)feed;
    struct fed_image *fed = &self->images[self->n_wanted];

    (void)plan;
    if (self->n_wanted + self->n_out >= self->most)
        return ST_AGAIN;
    *fed = (struct fed_image){.ticket = ticket, .failed = self->broken[image]};
    if (fed->failed) {
        row_error_set(&fed->error, "image %llu cannot be read", (unsigned long long)image);
    } else {
        fed->patches = cell_zalloc(1, sizeof *fed->patches);
        fed->patches[0] = (float)image;
    }
    self->n_wanted++;
    return ST_OK;
}

/* Any of them, some time. */
static inline enum status memory_next_image(struct image_feed *feed, struct fed_image *out)
{
    struct memory_feed *self = (struct memory_feed *)feed;

    if (self->n_wanted == 0 || one_in(&self->dice, 3))
        return ST_AGAIN;
    const int i = roll(&self->dice, 0, self->n_wanted - 1);
    *out = self->images[i];
    self->images[i] = self->images[--self->n_wanted];
    self->n_out += !out->failed;
    return ST_OK;
}

static inline void memory_free(struct image_feed *feed, float *patches)
{
    ((struct memory_feed *)feed)->n_out--;
    free(patches);
}

static inline void memory_destroy(struct image_feed *feed)
{
    struct memory_feed *self = (struct memory_feed *)feed;

    CELL_OK(self->n_out == 0 ? ST_OK : ST_FORMAT); /* an encoder forgot some */
    for (int i = 0; i < self->n_wanted; i++)
        free(self->images[i].patches);
    free(self);
}

static const struct image_feed_ops memory_feed_ops = {memory_want, memory_next_image, memory_free,
                                                      memory_destroy};

struct cell_args {
    struct plan_layout layout;
    const int *spaces; /* [ranks] ranks with the same number share a KV space; below n_ranks */
    const char *link;  /* "auto", "mpi" */
    struct kv_layout kv;
    const int *decode_blocks; /* [decode stages] of their pools */
    const int *own_blocks;    /* [prefill stages] likewise, for rows that go by `mpi` */
    int n_slots, max_rows;    /* in all, and of one decode rank */
    int prefill_tok, prefill_seqs, decode_batch; /* of a step */
    struct engine_sim_args engine;               /* space, clock and limits are filled in */
    const struct intake *intake;                 /* borrowed */
    struct io *io;                               /* borrowed */
    int64_t max_errors;
    struct run_end end;
    double peer_timeout_s, max_delay_s;
    uint64_t seed;

    const struct vision_config *vision; /* NULL: no row has images, and what follows is not used */
    const bool *broken;                 /* [n_images] */
    int n_images, image_id, feed_images, encode_images;
    int embed_places, cache_places;
};

enum { CELL_STAGES = 5 };

struct cell_rank {
    struct world *world;
    struct kv_space space;
    struct kv_pool *pool, *own; /* decode's; prefill's for rows that go by `mpi` */
    struct engine *engine;
    struct link_out *out;
    struct link_in *in;
    struct embed_out *embed;
    struct image_feed *feed;
    float *cache;
    struct stage *stages[CELL_STAGES]; /* the watch is the last */
    int n_stages;
    atomic_int stop;
    struct loop loop;
};

struct cell {
    struct cell_args args;
    struct virtual_net *net;
    struct cell_rank *ranks;     /* [n_ranks] */
    enum link_kind *kinds;       /* [prefill, decode] */
    void **memory;               /* [n_ranks] of each space */
    enum link_kind *embed_kinds; /* [encoder, prefill] */
    float **embeds;              /* [prefill] their places for embeddings */
    char (*names)[48];           /* [n_ranks] */
    const char **who;            /* [n_ranks] views of names */
    struct stage *coordinator;   /* of rank 0 */
};

static inline double cell_now_s(void *world)
{
    return world_now_s(world);
}

/* Which link each pair has. */
static inline void cell_links(struct cell *cell)
{
    const struct plan_layout *layout = &cell->args.layout;
    const int n_decode = layout->n_stages[ROLE_DECODE];
    const char *why;
    struct row_error err;

    for (int p = 0; p < layout->n_stages[ROLE_PREFILL]; p++)
        for (int d = 0; d < n_decode; d++) {
            const int from = plan_layout_rank(layout, ROLE_PREFILL, p);
            const int to = plan_layout_rank(layout, ROLE_DECODE, d);

            CELL_OK(link_choose(cell->args.link, from == to,
                                cell->args.spaces[from] == cell->args.spaces[to],
                                &cell->kinds[p * n_decode + d], &why, &err));
        }
}

/* And each pair of an encoder and a prefill stage; memory for embeddings. */
static inline void cell_embeds(struct cell *cell)
{
    const struct cell_args *args = &cell->args;
    const int n_prefill = args->layout.n_stages[ROLE_PREFILL];
    const char *why;
    struct row_error err;

    for (int p = 0; p < n_prefill; p++) {
        const int to = plan_layout_rank(&args->layout, ROLE_PREFILL, p);

        cell->embeds[p] =
            cell_zalloc((size_t)args->embed_places, (size_t)args->vision->D_out * sizeof(float));
        for (int e = 0; e < args->layout.n_stages[ROLE_ENCODER]; e++) {
            const int from = plan_layout_rank(&args->layout, ROLE_ENCODER, e);

            CELL_OK(link_choose(args->link, from == to, args->spaces[from] == args->spaces[to],
                                &cell->embed_kinds[e * n_prefill + p], &why, &err));
        }
    }
}

static inline void cell_encoder(struct cell *cell, int number)
{
    const struct cell_args *args = &cell->args;
    const struct plan_layout *layout = &args->layout;
    struct cell_rank *rank = &cell->ranks[number];
    const int n_prefill = layout->n_stages[ROLE_PREFILL];
    const int index = plan_layout_hosts(layout, number, ROLE_ENCODER);
    struct embed_space spaces[16];
    struct memory_feed *feed = cell_zalloc(1, sizeof *feed);

    for (int p = 0; p < n_prefill; p++) {
        const int to = plan_layout_rank(layout, ROLE_PREFILL, p);
        const bool seen = to == number || args->spaces[to] == args->spaces[number];

        spaces[p] = (struct embed_space){seen ? cell->embeds[p] : NULL, args->embed_places,
                                         args->vision->D_out};
    }
    *feed = (struct memory_feed){.base = {&memory_feed_ops},
                                 .dice = {.seed = args->seed + (uint64_t)number},
                                 .broken = args->broken,
                                 .most = args->feed_images};
    rank->feed = &feed->base;
    rank->cache =
        cell_zalloc((size_t)args->cache_places, (size_t)args->vision->D_out * sizeof(float));
    const struct embed_out_args out = {.world = rank->world,
                                       .index = index,
                                       .n_prefill = n_prefill,
                                       .kinds = cell->embed_kinds + index * n_prefill,
                                       .spaces = spaces};
    CELL_OK(embed_out_create(&out, &rank->embed));
    const struct encoder_args stage = {.world = rank->world,
                                       .engine = rank->engine,
                                       .link = rank->embed,
                                       .feed = rank->feed,
                                       .vision = args->vision,
                                       .cache = rank->cache,
                                       .cache_places = args->cache_places,
                                       .index = index,
                                       .n_slots = args->n_slots,
                                       .max_images = args->encode_images,
                                       .n_file_images = (uint64_t)args->n_images};
    CELL_OK(encoder_create(&stage, &rank->stages[rank->n_stages++]));
}

/* Blocks of a rank that hosts these. */
static inline int cell_blocks(const struct cell_args *args, int rank, enum role role)
{
    const int index = plan_layout_hosts(&args->layout, rank, role);

    if (index < 0)
        return 0;
    return role == ROLE_DECODE ? args->decode_blocks[index] : args->own_blocks[index];
}

/* KV memory and pools: the ranks of a space one after another, each decode's before prefill's. */
static inline void cell_pools(struct cell *cell)
{
    const struct cell_args *args = &cell->args;
    const int n_ranks = args->layout.n_ranks;

    for (int s = 0; s < n_ranks; s++) {
        struct kv_space space = {.layout = args->kv};
        int first = 0;

        for (int r = 0; r < n_ranks; r++)
            if (args->spaces[r] == s)
                space.N += cell_blocks(args, r, ROLE_DECODE) + cell_blocks(args, r, ROLE_PREFILL);
        if (space.N == 0)
            continue;
        const size_t n_bytes = (size_t)space.N * kv_block_bytes(&args->kv);
        CELL_OK(posix_memalign(&cell->memory[s], 64, n_bytes) == 0 ? ST_OK : ST_NOMEM);
        memset(cell->memory[s], 0xff, n_bytes);
        space.base = cell->memory[s];
        for (int r = 0; r < n_ranks; r++) {
            struct cell_rank *rank = &cell->ranks[r];
            const int n_decode = cell_blocks(args, r, ROLE_DECODE);
            const int n_own = cell_blocks(args, r, ROLE_PREFILL);

            if (args->spaces[r] != s)
                continue;
            rank->space = space;
            if (n_decode > 0)
                CELL_OK(kv_pool_create(&space, first, n_decode, &rank->pool));
            if (n_own > 0)
                CELL_OK(kv_pool_create(&space, first + n_decode, n_own, &rank->own));
            first += n_decode + n_own;
        }
    }
}

/* The stages that a rank has, in the order in which run.c turns them. */
static inline void cell_stages(struct cell *cell, int number)
{
    const struct cell_args *args = &cell->args;
    const struct plan_layout *layout = &args->layout;
    struct cell_rank *rank = &cell->ranks[number];
    const int n_decode = layout->n_stages[ROLE_DECODE];
    const int prefill = plan_layout_hosts(layout, number, ROLE_PREFILL);
    const int decode = plan_layout_hosts(layout, number, ROLE_DECODE);
    static const int32_t eos[] = {CELL_EOS};
    enum link_kind encoder_links[16] = {LINK_SELF};

    if (plan_layout_hosts(layout, number, ROLE_ENCODER) >= 0)
        cell_encoder(cell, number);
    for (int e = 0; prefill >= 0 && e < layout->n_stages[ROLE_ENCODER]; e++)
        encoder_links[e] = cell->embed_kinds[e * layout->n_stages[ROLE_PREFILL] + prefill];
    if (prefill >= 0) {
        const struct link_out_args out = {.world = rank->world,
                                          .kinds = cell->kinds + prefill * n_decode,
                                          .n_decode = n_decode,
                                          .index = prefill,
                                          .n_slots = args->n_slots,
                                          .space = rank->space,
                                          .pool = rank->own};
        CELL_OK(link_out_create(&out, &rank->out));
        struct prefill_args stage = {.world = rank->world,
                                     .engine = rank->engine,
                                     .link = rank->out,
                                     .index = prefill,
                                     .n_slots = args->n_slots,
                                     .max_tok = args->prefill_tok,
                                     .max_seqs = args->prefill_seqs,
                                     .encoder_links = encoder_links,
                                     .image_id = args->image_id};
        if (args->vision != NULL)
            stage.embeds = (struct embed_space){cell->embeds[prefill], args->embed_places,
                                                args->vision->D_out};
        CELL_OK(prefill_create(&stage, &rank->stages[rank->n_stages++]));
    }
    if (decode >= 0) {
        const struct link_in_args in = {
            .world = rank->world, .index = decode, .n_slots = args->n_slots, .space = rank->space};
        CELL_OK(link_in_create(&in, &rank->in));
        const struct decode_args stage = {.world = rank->world,
                                          .engine = rank->engine,
                                          .pool = rank->pool,
                                          .link = rank->in,
                                          .tokenizer = args->intake->tokenizer,
                                          .eos_ids = eos,
                                          .n_eos = 1,
                                          .index = decode,
                                          .n_slots = args->n_slots,
                                          .max_batch = args->decode_batch};
        CELL_OK(decode_create(&stage, &rank->stages[rank->n_stages++]));
    }
}

static inline void cell_coordinator(struct cell *cell)
{
    const struct cell_args *args = &cell->args;
    const int n_decode = args->layout.n_stages[ROLE_DECODE];
    struct cell_rank *rank = &cell->ranks[0];
    struct plan_pool *pools = cell_zalloc((size_t)n_decode, sizeof *pools);

    for (int d = 0; d < n_decode; d++)
        pools[d] =
            (struct plan_pool){.n_free_blocks = args->decode_blocks[d], .max_rows = args->max_rows};
    const struct coordinator_args stage = {.world = rank->world,
                                           .io = args->io,
                                           .intake = args->intake,
                                           .n_slots = args->n_slots,
                                           .block_tok = args->kv.P,
                                           .pools = pools,
                                           .embed_places = args->embed_places,
                                           .max_errors = args->max_errors,
                                           .end = args->end};
    CELL_OK(coordinator_create(&stage, &cell->coordinator));
    free(pools);
    rank->stages[rank->n_stages++] = cell->coordinator;
}

static inline void cell_begin(struct cell *cell, const struct cell_args *args)
{
    const size_t n_ranks = (size_t)args->layout.n_ranks;
    const size_t n_pairs =
        (size_t)args->layout.n_stages[ROLE_PREFILL] * (size_t)args->layout.n_stages[ROLE_DECODE];
    const struct virtual_args net = {
        .layout = &args->layout, .seed = args->seed, .max_delay_s = args->max_delay_s};
    const int max_tok =
        args->prefill_tok > args->decode_batch ? args->prefill_tok : args->decode_batch;
    const int max_seqs =
        args->prefill_seqs > args->decode_batch ? args->prefill_seqs : args->decode_batch;

    *cell = (struct cell){.args = *args,
                          .ranks = cell_zalloc(n_ranks, sizeof *cell->ranks),
                          .kinds = cell_zalloc(n_pairs, sizeof *cell->kinds),
                          .memory = cell_zalloc(n_ranks, sizeof(void *)),
                          .embed_kinds = cell_zalloc(n_ranks * n_ranks, sizeof *cell->embed_kinds),
                          .embeds = cell_zalloc(n_ranks, sizeof(float *)),
                          .names = cell_zalloc(n_ranks, sizeof *cell->names),
                          .who = cell_zalloc(n_ranks, sizeof(char *))};
    CELL_OK(virtual_net_create(&net, &cell->net));
    cell_links(cell);
    cell_pools(cell);
    if (args->vision != NULL)
        cell_embeds(cell);
    for (size_t r = 0; r < n_ranks; r++) {
        snprintf(cell->names[r], sizeof cell->names[r], "rank %zu on space %d", r, args->spaces[r]);
        cell->who[r] = cell->names[r];
    }
    for (size_t r = 0; r < n_ranks; r++) {
        struct cell_rank *rank = &cell->ranks[r];

        CELL_OK(virtual_net_world(cell->net, (int)r, &rank->world));
        if (plan_layout_computes(&args->layout, (int)r)) {
            struct engine_sim_args engine = args->engine;

            engine.space = rank->space;
            engine.max_tok = max_tok;
            engine.max_seqs = max_seqs;
            engine.now_s = cell_now_s;
            engine.clock = rank->world;
            CELL_OK(engine_sim_create(&engine, &rank->engine));
        }
        if (r == 0)
            cell_coordinator(cell);
        cell_stages(cell, (int)r);
        const struct watch_args watch = {.world = rank->world,
                                         .stages = rank->stages,
                                         .n_stages = rank->n_stages + 1, /* itself too */
                                         .engine = rank->engine,
                                         .link = rank->out,
                                         .who = cell->who,
                                         .peer_timeout_s = args->peer_timeout_s};
        CELL_OK(watch_create(&watch, &rank->stages[rank->n_stages++]));
        rank->loop = (struct loop){.world = rank->world,
                                   .stages = rank->stages,
                                   .n_stages = rank->n_stages,
                                   .watch = rank->stages[rank->n_stages - 1],
                                   .stop = &rank->stop};
    }
}

static inline void cell_end(struct cell *cell)
{
    const int n_ranks = cell->args.layout.n_ranks;

    for (int r = 0; r < n_ranks; r++) {
        struct cell_rank *rank = &cell->ranks[r];

        for (int i = 0; i < rank->n_stages; i++)
            stage_destroy(rank->stages[i]);
        image_feed_destroy(rank->feed);
        embed_out_destroy(rank->embed);
        free(rank->cache);
        link_out_destroy(rank->out);
        link_in_destroy(rank->in);
        engine_destroy(rank->engine);
        kv_pool_destroy(rank->pool);
        kv_pool_destroy(rank->own);
        world_destroy(rank->world);
    }
    virtual_net_destroy(cell->net);
    for (int r = 0; r < n_ranks; r++) {
        free(cell->memory[r]);
        free(cell->embeds[r]);
    }
    free(cell->embed_kinds);
    free(cell->embeds);
    free(cell->ranks);
    free(cell->kinds);
    free(cell->memory);
    free(cell->names);
    free(cell->who);
}

#endif
