/*
 * machine.h - what computes on a rank: weights, KV blocks, engine, links, stages.  Private to this
 * room.
 */
#ifndef EPIDOTE_STAGE_MACHINE_H
#define EPIDOTE_STAGE_MACHINE_H

#include "stage/crew.h"

/* What a rank's stages need; decided from the layout alone. */
struct machine_sizes {
    int n_blocks;  /* of the pool of its decode stage */
    int n_staging; /* blocks for prompts that its prefill stage computes and sends by `mpi` */
    int max_tok, max_seqs; /* of one step of its engine; 0 = it has none */
};

/* What all stages have for images (machine_vision.c); all 0 where there are none. */
struct machine_vision {
    struct image_needs needs; /* the same on every rank, from rank 0 */
    void *shared_weights;     /* of the tower; NULL = pages of its own */
    size_t weights_bytes;
    struct vision_weights *weights; /* of an encoder's rank */
    int max_patches;                /* of one step */
    int n_places;                   /* for embeddings, of each prefill stage */
    struct node_memory memory;      /* those of this rank, or of the node's prefill stages */
    struct embed_space *spaces;     /* [prefill stages] owned; as this rank sees them */
    float *cache;                   /* [n_cached, D] of an encoder */
    int n_cached;
    size_t cache_bytes;
    struct image_feed *feed;
    struct embed_out *link;
    enum link_kind *kinds; /* [encoders, prefill stages] owned */
};

/* What each rank has told all others when its weights were there. */
struct machine_facts {
    int32_t n_threads, n_blocks, n_staging;
    int32_t shares; /* the ranks of its node have memory in common */
    char why[200];  /* why not, if they should */
};

/* The pairs of a prefill and a decode stage that have the same kind of link. */
struct machine_link {
    int n_pairs; /* 0 = there is none of this kind */
    const char *why;
    int from, to;       /* ranks of the first pair */
    double bytes_per_s; /* measured between those; 0 = nothing moves */
};

struct machine {
    struct crew *crew; /* borrowed, as the session */
    const struct session *session;
    struct node node;
    struct machine_sizes sizes;
    struct machine_facts *facts;                      /* [crew->n] owned */
    struct machine_link links[LINK_KIND_COUNT];       /* rank 0 has all figures */
    struct machine_link embed_links[LINK_KIND_COUNT]; /* of encoder and prefill; not measured */
    struct machine_vision vision;
    int n_slots; /* rows in flight */
    struct threads *threads;
    void *shared_weights; /* NULL = the weights have pages of their own */
    size_t
        weights_bytes; /* set aside; stored weights are mapped_bytes of the model's files beside */
    size_t mapped_bytes;
    struct weights *weights;
    struct weights_cuda *weights_cuda; /* instead, where a GPU computes */
    struct node_memory kv;             /* of the GPU, where one computes */
    struct kv_space space;             /* N = 0: this rank has no blocks */
    struct kv_pool *pool, *staging;    /* NULL = it has none */
    struct engine *engine;
    struct world *world;
    struct link_out *link_out;
    struct link_in *link_in;
    struct io *io; /* rank 0 */
    struct stage *stages[ROLE_COUNT];
    int n_stages;
    struct stage *watch; /* one of them */
};

/* machine_size - what the stages of `rank` need.
 *   node      in  what it shares
 *   shares    in  whether the ranks of its node will have memory in common
 * Local.  Returns ST_OK, ST_CONFIG (logged). */
enum status machine_size(const struct session *session, const struct crew *crew, int rank,
                         const struct node *node, bool shares, struct machine_sizes *out_sizes);

/* machine_check - that every rank has room for what its stages need, taking it that the ranks of a
 * node will have memory in common, before anything is loaded.
 *   out_n_blocks  out  of the smallest pool of a decode stage
 * Local.  Returns ST_OK, ST_CONFIG (logged). */
enum status machine_check(const struct session *session, const struct crew *crew,
                          int *out_n_blocks);

/* machine_create - all of it, up to and with the stages, ready for the loop.
 *   needs    in  what rows with images need; counts on rank 0 only
 *   journal  in  rank 0: what the I/O thread appends to; others: NULL
 *   end      in  when the run has to be over; counts on rank 0 only
 * Collective over all.  Returns ST_OK, or what the lowest rank failed with; destroy it in either
 * case. */
enum status machine_create(struct crew *crew, const struct session *session,
                           const struct image_needs *needs, struct journal *journal,
                           const struct run_end *end, struct machine *machine);
/* machine_destroy - in_order: the loop ended well on all ranks, collective; else the process ends
 * soon and no peer is waited for.  machine->io stays, for the caller to stop after that. */
void machine_destroy(struct machine *machine, bool in_order);

/* ---- machine_vision.c ------------------------------------------------------------------------ */

/* vision_make - the tower on encoders' ranks, memory for embeddings; after the facts are known.
 * vision_open - feed and link of an encoder, once there is a world.  vision_add_encoder - the
 * stage. Collective over all; the last two Local.  Return ST_OK, or what one rank failed with. */
enum status vision_make(struct machine *machine, const struct image_needs *needs);
enum status vision_open(struct machine *machine);
enum status vision_add_encoder(struct machine *machine, struct stage **out_stage);
void vision_end_feed(struct machine *machine);
void vision_end(struct machine *machine);

/* ---- links.c --------------------------------------------------------------------------------- */

/* links_check - that the job's `link` is possible for every pair of the layout, before anything is
 * loaded.  Pure.  Returns ST_OK, ST_CONFIG (logged). */
enum status links_check(const struct crew *crew, const struct job *job);
/* links_of_encoders - the kind of every pair of an encoder and a prefill stage; counts them.
 *   out_kinds  out  [encoders, prefill stages]
 * Local.  Returns ST_OK, ST_CONFIG (logged). */
enum status links_of_encoders(struct machine *machine, enum link_kind *out_kinds);
/* links_cross - whether a stage `from` on one rank of this node writes into the memory of a stage
 * `to` on another.  Once the facts are known. */
bool links_cross(const struct machine *machine, enum role from, enum role to);
/* links_staging - whether prefill i sends rows of some decode stage by `mpi`. */
bool links_staging(const struct crew *crew, const struct job *job, int prefill, bool shares);
/* links_open - this rank's ends.  Local.  Returns ST_OK, ST_CONFIG (logged), ST_NOMEM. */
enum status links_open(struct machine *machine);
/* links_probe - move n_bytes from a rank to another by `mpi`, twice.  Both call it.
 *   out_s  out  how long the second time took; what the taking rank finds counts
 * Returns ST_OK, ST_NOMEM, ST_COMM (it takes too long; logged). */
enum status links_probe(struct world *world, const struct crew *crew, int from, int to,
                        size_t n_bytes, double *out_s);
/* links_measure - how fast a pair of each kind is.  Collective over all.  Returns ST_OK, ST_COMM.
 */
enum status links_measure(struct machine *machine);

#endif
