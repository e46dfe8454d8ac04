/*
 * comm.h - how stages talk: the ranks of a job, the protocol table, wire messages, the world,
 * links.
 *
 *   ranks    the processes of one job, at start-up and end: who is there, do they agree, what do
 *            those of a node share (ranks.c, ranks_talk.c, ranks_share.c)
 *   world    messages and bulk bytes between stages while the job runs, in three kinds: one process
 *            (world.c), MPI (world_mpi.c), virtual (world_virtual.c)
 *   links    KV blocks from prefill to decode (link.c, link_out.c, link_in.c), embeddings from
 *            encoder to prefill (embed.c)
 *
 * MPI and, later, NCCL stay inside this room.  Stages name each other by address (role, index) and
 * never learn where a peer lives.
 */
#ifndef EPIDOTE_COMM_H
#define EPIDOTE_COMM_H

#include "base/base.h"
#include "data/data.h"
#include "kv/kv.h"
#include "model/model.h"
#include "plan/plan.h"

/* ---- ranks (ranks*.c place.c) -------------------------------------------- */

/*
 * The processes of one job.  With a launcher's variables in the environment MPI is initialised;
 * else there is one rank and MPI is never touched.  Everything here is for start-up and end; while
 * the loop runs, only the world speaks.  Collective calls poll with back-off, so that a rank that
 * waits for slow ones burns no core, and give up with a message that names who is missing.
 */
struct ranks;

struct rank_info {
    char host[64];
    int32_t pid;
    int32_t node;         /* ranks with the same number share memory; 0, 1, ... in order of rank */
    int32_t node_rank;    /* 0, 1, ... among the ranks of its node */
    int32_t node_ranks;   /* how many those are */
    int32_t n_cores;      /* in its affinity mask */
    int32_t n_numa_nodes; /* of its host; 0: not known */
    uint64_t numa_nodes;  /* those that its cores are of, the first 64 */
    char cpu[64];         /* the name of its processor */
    uint64_t cores[16];   /* the mask's first 1,024 bits */
    uint64_t available_bytes; /* of memory, as host_memory_available_bytes */
    double clock_offset_s;    /* what to add to its clock_now_s to get rank 0's */
};

/* ranks_begin - MPI_Init_thread(FUNNELED) if a launcher started us, and who is there.
 * Collective over all.  Returns ST_OK, ST_CONFIG (a launcher started several of us and MPI says
 * one: the message says how to launch), ST_COMM, ST_NOMEM. */
enum status ranks_begin(struct ranks **out_ranks);
/* ranks_end - MPI_Finalize; if that takes longer than limit_s (a peer does not come), the process
 * ends at once with status exit_code.  Accepts NULL.  Collective over all. */
void ranks_end(struct ranks *ranks, double limit_s, int exit_code);
/* ranks_abort - end all ranks of the job now (MPI_Abort; stopped ones too where the launcher kills
 * them), with one exit status.  Standard output is flushed first. */
_Noreturn void ranks_abort(struct ranks *ranks, int exit_code);

int ranks_me(const struct ranks *ranks);
int ranks_n(const struct ranks *ranks);
/* ranks_launched - whether a launcher of MPI started this process, perhaps alone. */
bool ranks_launched(const struct ranks *ranks);
/* ranks_parent - the process that had started this one as ranks_begin was called. */
int ranks_parent(const struct ranks *ranks);
const struct rank_info *ranks_info(const struct ranks *ranks, int rank);
/* ranks_who - "rank 3 (decode/1) on node07, pid 4711" into buf; layout may be NULL. Returns buf. */
char *ranks_who(const struct ranks *ranks, const struct plan_layout *layout, int rank, char *buf,
                size_t cap);
/* ranks_mpi_version - "Open MPI v4.1.4" into buf; ranks_energy_j - what Slurm has accounted to this
 * job step so far, in joules; 0 = it accounts none, or there is no Slurm.  Local; the latter asks
 * sstat, which may take seconds. */
char *ranks_mpi_version(char *buf, size_t cap);
double ranks_energy_j(void);
/* ranks_threads - cores that are this rank's: of its mask, each core divided by the computing ranks
 * of the node whose masks have it; at least 1. */
int ranks_threads(const struct ranks *ranks, const struct plan_layout *layout);

/* ranks_agree - whether all are well.  If one is not, all get the status of the lowest rank that is
 * not, and rank 0 has logged what that rank logged last (log_last_error), with its rank and host
 * and how many others failed too.
 *   doing    in  what the ranks were doing, for the message about one that does not come
 *   limit_s  in  how long to wait for the others; <= 0: for ever
 * Collective over all.  Returns ST_OK, a rank's status, ST_COMM (a rank is missing). */
enum status ranks_agree(struct ranks *ranks, enum status mine, const char *doing, double limit_s);
/* ranks_missing - which rank an exchange that failed with ST_COMM waited for in vain, -1 = none. */
int ranks_missing(const struct ranks *ranks);
/* ranks_alive - rank 0, while it keeps the others waiting for it in an exchange: it lives, their
 * limit begins anew.  Call it often; a note a second leaves.  Waiting in an exchange itself, rank 0
 * does so too.  Local.  Returns ST_OK, ST_COMM (logged). */
enum status ranks_alive(struct ranks *ranks);
/* ranks_same - whether all hold the same value; if not, all get ST_CONFIG and rank 0 has logged
 * "what: rank 2 on node07 has another than rank 0 on node01: remedy".
 * Collective over all.  Returns ST_OK, ST_CONFIG, ST_COMM. */
enum status ranks_same(struct ranks *ranks, const char *what, uint64_t value, const char *remedy);
/* ranks_gather - n_bytes of every rank to every rank, in order of rank.
 *   out_all  out  [ranks_n * n_bytes]
 * Collective over all.  Returns ST_OK, ST_COMM. */
enum status ranks_gather(struct ranks *ranks, const void *mine, size_t n_bytes, void *out_all);
/* ranks_share - memory that all ranks of this node see, zeroed, 64-byte aligned.  It has no name in
 * a file system (memfd), so nothing can be left behind.
 *   n_bytes   in   the same on all ranks of the node; 0: this one wants none, others may
 *   out_base  out  ranks_unshare it; NULL if n_bytes is 0, or if they cannot share (out_why says
 *                  why)
 * Collective over all.  Returns ST_OK (also when they cannot), ST_NOMEM, ST_COMM. */
enum status ranks_share(struct ranks *ranks, size_t n_bytes, void **out_base,
                        struct row_error *out_why);
void ranks_unshare(void *base, size_t n_bytes);

/* ---- protocol (protocol.c) ------------------------------------------------------------------- */

/*
 * THE protocol: message, from, to, the most that can be in flight, what it releases.
 *
 * A row holds one slot of the coordinator from RESERVE until PREFILLED and DONE have both come.
 * Slots number rows in flight: 0 <= slot < n_slots <= 32,768, so that a slot can be a message tag.
 *
 *   message    from         to           in flight         releases at its receiver
 *   RESERVE    coordinator  decode       one a slot        nothing: opens the row, takes its blocks
 *   ADMIT      coordinator  prefill      one a slot        nothing: opens the row
 *   ENCODE     coordinator  encoder      one an image      nothing: asks for the image's embeddings
 *   GRANT      decode       prefill      one a slot        the row's start: it has all its blocks
 *   EMBED      encoder      prefill      one an ENCODE     the row, with its last: embeddings come
 *   PIECE      prefill      decode       pieces of a row   nothing: bytes of KV follow on the link
 *   FIRST      prefill      decode       one a slot        the row, once its pieces are there too
 *   PREFILLED  prefill      coordinator  one a slot        tokens, places in that queue's mirror
 *   DONE       decode       coordinator  one a slot        its blocks in the mirror
 *   STOP       coordinator  all others   one a stage       the stage: it has no rows and ends
 *   BEAT       watch        watch        one a beat        its time-out; what it is doing
 *   FAIL       watch        watch        one a peer        the run: it ends here
 *   REPORT     watch        watch/0      one a rank        the run's end: its figures are complete
 *
 * ENCODE names places that prefill keeps for the row; EMBED's bytes are there, or follow on the
 * link.  Messages may arrive in any order that keeps pairs of stages ordered: GRANT before ADMIT is
 * normal, EMBED before either too, FIRST before the bytes of the last PIECE.
 *
 * Later: RETRY (decode -> coordinator).
 */
enum msg_type {
    MSG_RESERVE,
    MSG_ADMIT,
    MSG_ENCODE,
    MSG_GRANT,
    MSG_EMBED,
    MSG_PIECE,
    MSG_FIRST,
    MSG_PREFILLED,
    MSG_DONE,
    MSG_STOP,
    MSG_BEAT,
    MSG_FAIL,
    MSG_REPORT,
    MSG_COUNT
};

enum { COMM_MAX_SLOTS = 32768 };

const char *msg_name(enum msg_type type);
/* msg_allowed - whether the table has this message from that role to that one. */
bool msg_allowed(enum msg_type type, enum role from, enum role to);

/* ---- wire messages (wire.c) ------------------------------------------------------------------ */

/* RESERVE and ADMIT: the row as both sides need it. */
struct wire_row {
    uint64_t row;                  /* global */
    int32_t slot, prefill, decode; /* indices inside their groups */
    int32_t n_prompt, max_out, n_blocks, n_stops;
    bool ignore_eos;
    float queue_s;      /* from read to admitted */
    int32_t embed_at;   /* first of the places for its embeddings in prefill's memory */
    int32_t rope_shift; /* what answer tokens add to their place to get their position */
    int32_t n_images;
    struct sampler_params params;
    const int32_t *tokens;         /* [n_prompt] */
    const struct text_span *stops; /* [n_stops] */
    const struct seq_image
        *images; /* [n_images] in order; their embeddings lie one after another */
};

/* ENCODE: the embeddings of an image are wanted for image `number` of the row in `slot`. */
struct wire_encode {
    int32_t slot, number;
    int32_t prefill, at, n_rows; /* their places in that stage's memory */
    int32_t width, height;       /* of the image, as a header said */
    uint64_t image;              /* in the prompt file, the first of those with its content */
    uint64_t shown;              /* the one that the row names: for messages */
    uint64_t row, next_use;      /* this row; the next that uses the image, UINT64_MAX = none */
};

/* EMBED: the embeddings are in their places, or, by link `mpi`, the next bytes with tag `slot`. */
struct wire_embed {
    int32_t slot, number, at, n_rows;
    bool failed;
    struct row_error error; /* if failed */
    double computed_s;      /* when they were there, by rank 0's clock */
};

/* GRANT: blocks in token order, in the space of the decode stage's rank. */
struct wire_grant {
    int32_t slot, n_blocks;
    uint64_t layout_id;
    const int32_t *blocks; /* [n_blocks] */
};

/* PIECE: which part of a row's KV the next bytes with tag `slot` are: for each layer of
 * [layer, layer + n_layers) the blocks [block, block + n_blocks) of the row's table. */
struct wire_piece {
    int32_t slot, number; /* 0, 1, ... within the row */
    int32_t layer, n_layers, block, n_blocks;
    uint64_t layout_id, n_bytes;
};

/* FIRST: the prompt's KV is in the granted blocks once n_pieces pieces have come; its first token,
 * or why there is none. */
struct wire_first {
    int32_t slot;
    int32_t n_pieces;
    bool failed;
    struct row_error error; /* if failed */
    float wait_s, prefill_s;
    float encode_s;    /* from admitted to the last embedding here; 0 without images */
    double computed_s; /* when prefill had computed the row, by rank 0's clock */
    struct sampled first;
};

/* PREFILLED: the row's prompt is computed; its tokens wait no longer. */
struct wire_prefilled {
    int32_t slot, n_prompt;
};

/* DONE: the row's slot and result. */
struct wire_done {
    int32_t slot;
    const void *result; /* [result_bytes] as result_pack wrote it, 8-byte aligned */
    size_t result_bytes;
};

/* What an encoder has done, and what prefill has waited for it. */
struct encode_figures {
    uint64_t n_images; /* encoded */
    uint64_t n_again;  /* of them, ones that had been encoded before and were put out */
    uint64_t n_uses;   /* ENCODEs; less n_images: served from what was there */
    uint64_t n_steps;  /* batches */
    uint64_t n_bytes;  /* of embeddings, sent by link `mpi` */
    uint64_t n_rows;   /* of the prompt file, with images, that prefill had all embeddings of */
    double busy_s;     /* of the engine, encoding */
    double flop;       /* additions and multiplications that took */
    double exposed_s;  /* summed over n_rows: from the last embedding computed to arrived */
};

/* BEAT and REPORT: what a rank is doing and has done since its loop began. */
struct wire_beat {
    int32_t rank, n_rows;     /* rows in its hands */
    double sent_s;            /* by its own clock */
    double elapsed_s, busy_s; /* of the loop; of the engine in it */
    uint64_t n_steps, n_prompt_tok, n_answer_tok, n_messages, n_pieces, kv_bytes;
    uint64_t n_handed;           /* rows that decode took over */
    double exposed_s, prefill_s; /* summed over those rows */
    struct encode_figures encode;
    uint64_t memory_peak_bytes;
    char doing[96]; /* "decode/1: step of 12 rows, layer 7 of 30" */
};

/* FAIL: the run is over, and why. */
struct wire_fail {
    int32_t rank;   /* whose failure it is */
    int32_t status; /* enum status */
    bool lost;      /* it did not say so itself: nothing is heard of it any more */
    char message[512];
};

/* wire_slot - the slot a row's message is about, -1 if it is too short to say. */
struct msg;
int32_t wire_slot(const struct msg *msg);
/* wire_*_pack - append to out.  Returns ST_OK, ST_NOMEM.
 * wire_*_unpack - pointers are views into payload (8-byte aligned), stops go to arena; every count
 * is checked against n_bytes.  Returns ST_OK, ST_COMM (logged), ST_NOMEM. */
enum status wire_row_pack(const struct wire_row *row, struct buf *out);
enum status wire_row_unpack(const void *payload, size_t n_bytes, struct arena *arena,
                            struct wire_row *out_row);
enum status wire_encode_pack(const struct wire_encode *encode, struct buf *out);
enum status wire_encode_unpack(const void *payload, size_t n_bytes, struct wire_encode *out_encode);
enum status wire_embed_pack(const struct wire_embed *embed, struct buf *out);
enum status wire_embed_unpack(const void *payload, size_t n_bytes, struct wire_embed *out_embed);
enum status wire_grant_pack(const struct wire_grant *grant, struct buf *out);
enum status wire_grant_unpack(const void *payload, size_t n_bytes, struct wire_grant *out_grant);
enum status wire_piece_pack(const struct wire_piece *piece, struct buf *out);
enum status wire_piece_unpack(const void *payload, size_t n_bytes, struct wire_piece *out_piece);
enum status wire_first_pack(const struct wire_first *first, struct buf *out);
enum status wire_first_unpack(const void *payload, size_t n_bytes, struct wire_first *out_first);
enum status wire_prefilled_pack(const struct wire_prefilled *prefilled, struct buf *out);
enum status wire_prefilled_unpack(const void *payload, size_t n_bytes,
                                  struct wire_prefilled *out_prefilled);
enum status wire_done_pack(const struct wire_done *done, struct buf *out);
enum status wire_done_unpack(const void *payload, size_t n_bytes, struct wire_done *out_done);
enum status wire_beat_pack(const struct wire_beat *beat, struct buf *out);
enum status wire_beat_unpack(const void *payload, size_t n_bytes, struct wire_beat *out_beat);
enum status wire_fail_pack(const struct wire_fail *fail, struct buf *out);
enum status wire_fail_unpack(const void *payload, size_t n_bytes, struct wire_fail *out_fail);

/* ---- world (world.c, world_mpi.c, world_virtual.c) ------------------------------------------- */

struct address {
    enum role role;
    int index; /* within the role's group */
};

struct msg {
    enum msg_type type;
    struct address from, to;
    const uint8_t *payload; /* 8-byte aligned; valid until msg_free */
    size_t n_bytes;
    struct msg *next; /* private to the world */
};

/*
 * One rank's end of the job's messages.  Messages between stages of one rank go through memory,
 * those between ranks through the kind's transport.  No call blocks; world_progress moves what is
 * under way and is called between polls of the stages.
 */
struct world;

/* world_create_local - the only rank, with all stages of the layout, messages through memory.
 * Local.  Returns ST_OK, ST_NOMEM. */
enum status world_create_local(const struct plan_layout *layout, struct world **out_world);
/* world_create_mpi - this rank's end, over a communicator of its own.
 *   ranks  in  borrowed, outlives the world
 * Collective over all.  Returns ST_OK, ST_NOMEM, ST_COMM. */
enum status world_create_mpi(struct ranks *ranks, const struct plan_layout *layout,
                             struct world **out_world);

/*
 * The virtual world: n_ranks ends in one process, with one clock that moves only when the test says
 * so.  Each message and transfer is delivered after a delay drawn from the seed; pairs of stages
 * stay ordered, everything else may overtake.  A rank that was cut off sends and receives nothing
 * more; what it had sent and had not arrived is lost, or is not, all of it.
 */
struct virtual_net;
struct virtual_args {
    const struct plan_layout *layout; /* copied */
    uint64_t seed;
    double max_delay_s; /* of a message, and of bulk bytes; their source may hear 8 times later */
};
enum status virtual_net_create(const struct virtual_args *args, struct virtual_net **out_net);
/* virtual_net_destroy - after the worlds of its ranks. */
void virtual_net_destroy(struct virtual_net *net);
enum status virtual_net_world(struct virtual_net *net, int rank, struct world **out_world);
/* virtual_net_advance - move the clock; to the next delivery if that is sooner than `most_s`.
 * virtual_net_now_s - the clock.  virtual_net_cut - a rank is lost from now on. */
void virtual_net_advance(struct virtual_net *net, double most_s);
double virtual_net_now_s(const struct virtual_net *net);
void virtual_net_cut(struct virtual_net *net, int rank);

/* world_destroy - messages that nobody took are dropped.  Accepts NULL.
 * MPI: collective over all, after loop's end on every rank; world_abandon is the way out of a run
 * that failed: nothing is waited for, the process ends soon. */
void world_destroy(struct world *world);
void world_abandon(struct world *world);

int world_rank(const struct world *world);
const struct plan_layout *world_layout(const struct world *world);
/* world_now_s - seconds by rank 0's clock: MPI: this rank's plus the offset measured at start
 * (exact on rank 0's host, else good to about the network's latency and its drift since). */
double world_now_s(const struct world *world);

/* world_send - copies payload and returns; never blocks.  A message that the protocol table does
 * not have, or an address outside the world, is a broken promise (assert).
 * Returns ST_OK, ST_NOMEM, ST_COMM. */
enum status world_send(struct world *world, enum msg_type type, struct address from,
                       struct address to, const void *payload, size_t n_bytes);
/* world_next - the next message for `to`, a stage of this rank, owned by the caller until msg_free.
 * Returns ST_OK, ST_AGAIN. */
enum status world_next(struct world *world, struct address to, struct msg **out_msg);
void msg_free(struct msg *msg);
/* world_progress - move messages and transfers; *out_worked = true if something arrived or left.
 * Returns ST_OK, ST_COMM (logged: which rank, what). */
enum status world_progress(struct world *world, bool *out_worked);
/* world_flushed - whether everything sent has left this rank. */
bool world_flushed(const struct world *world);
/* world_n_heard - a number that changes when something comes from a rank, if only a part of a
 * message: that rank lives.  A world that cannot say gives 0. */
uint32_t world_n_heard(const struct world *world, int rank);
/* world_n_sent - messages sent so far, by type [MSG_COUNT]; view. */
const uint64_t *world_n_sent(const struct world *world);

/* Bulk bytes between two ranks, straight from and into their places.  The nth put of a rank to
 * another with a tag meets the nth take there from it with that tag; both have the same number of
 * bytes in all, and may cut them differently. */
struct byte_span {
    void *data;
    size_t n_bytes;
};
struct transfer;
/* world_put, world_take - start; spans are copied, what they point to stays untouched until
 * transfer_done says true.  Do not block.  Returns ST_OK, ST_NOMEM, ST_COMM. */
enum status world_put(struct world *world, int rank, int tag, const struct byte_span *spans,
                      int n_spans, struct transfer **out_transfer);
enum status world_take(struct world *world, int rank, int tag, const struct byte_span *spans,
                       int n_spans, struct transfer **out_transfer);
/* transfer_done - whether the bytes are there (take) or may be overwritten (put).  When it says
 * true, the transfer is freed. */
bool transfer_done(struct transfer *transfer);

/* ---- links (link.c, link_out.c, link_in.c) --------------------------------------------------- */

/*
 * A link moves the KV blocks of a row from the rank that prefills it to the rank that decodes it,
 * layer by layer while prefill still runs.
 *
 *   self  both share a rank: prefill writes into decode's blocks, nothing moves
 *   shm   both share a node and its KV space: likewise
 *   mpi   two-sided: prefill writes into blocks of its own; after each layer, PIECE and the bytes
 *         of the blocks that are complete leave; layers are collected until a piece has
 *         LINK_PIECE_BYTES
 */
enum link_kind { LINK_SELF, LINK_SHM, LINK_MPI, LINK_KIND_COUNT };
enum { LINK_PIECE_BYTES = 256 << 10 };
const char *link_kind_name(enum link_kind kind);
/* link_names - NULL-terminated values of job option `link` beside "auto". */
const char *const *link_names(void);

/* link_choose - the kind for one pair of ranks.
 *   name       in   job option: "auto" or a kind; a pair that shares a rank is always `self`
 *   same_rank, shared_space  in  what the pair has
 *   out_why    out  half a sentence: "same node", "asked for", ...
 * Pure.  Returns ST_OK, ST_ROW (*err: that kind is not possible for this pair, or unknown). */
enum status link_choose(const char *name, bool same_rank, bool shared_space,
                        enum link_kind *out_kind, const char **out_why, struct row_error *err);

/* Prefill's end, for all its decode peers. */
struct link_out;
struct link_out_args {
    struct world *world;          /* borrowed, as everything here */
    const enum link_kind *kinds;  /* [n_decode] copied */
    int n_decode, index, n_slots; /* index: of this prefill stage */
    struct kv_space space;        /* of this rank */
    struct kv_pool *pool;         /* own blocks for rows that go by `mpi`; NULL = none do */
};
enum status link_out_create(const struct link_out_args *args, struct link_out **out_link);
void link_out_destroy(struct link_out *link);
/* link_out_begin - where prefill has to write this row's KV, given the blocks that decode set
 * aside.
 *   grant       in   borrowed until link_out_end
 *   out_blocks  out  view, valid until link_out_end
 * Returns ST_OK, ST_AGAIN (no blocks free now, or bytes of the slot's last row have not left: come
 * back), ST_COMM (layouts differ, or blocks that are too few or not there; logged), ST_NOMEM. */
enum status link_out_begin(struct link_out *link, const struct wire_row *row,
                           const struct wire_grant *grant, const int32_t **out_blocks);
/* link_out_layer - KV of tokens [pos0, pos0 + n_tok) of this layer is in its blocks: it may leave.
 * Every layer in turn for each range; ranges in turn; the last ends at n_prompt. */
enum status link_out_layer(struct link_out *link, int32_t slot, int layer, int pos0, int n_tok);
/* link_out_end - the row is computed, or has failed: prefill touches its blocks no more.
 * *out_n_pieces: how many pieces decode has to wait for.  Own blocks are freed once they have left.
 */
void link_out_end(struct link_out *link, int32_t slot, int *out_n_pieces);
/* link_out_poll - free what has left.  link_out_idle - nothing is under way. */
void link_out_poll(struct link_out *link, bool *out_worked);
bool link_out_idle(const struct link_out *link);

/* Decode's end, for all its prefill peers. */
struct link_in;
struct link_in_args {
    struct world *world; /* borrowed */
    int index, n_slots;  /* index: of this decode stage */
    struct kv_space space;
};
enum status link_in_create(const struct link_in_args *args, struct link_in **out_link);
void link_in_destroy(struct link_in *link);
/* link_in_open - this slot's row has these blocks.  blocks [n_blocks] borrowed until link_in_close.
 */
enum status link_in_open(struct link_in *link, int32_t slot, int prefill, const int32_t *blocks,
                         int n_blocks);
/* link_in_piece - a PIECE message: its bytes come into the row's blocks.
 * Returns ST_OK, ST_COMM (not of an open row, out of its blocks, another layout), ST_NOMEM. */
enum status link_in_piece(struct link_in *link, const struct msg *msg);
/* link_in_arrived - whether n_pieces pieces are in the row's blocks. */
bool link_in_arrived(struct link_in *link, int32_t slot, int n_pieces);
void link_in_close(struct link_in *link, int32_t slot);

/* What went over the links of a stage. */
struct link_figures {
    uint64_t n_pieces, n_bytes;
};
struct link_figures link_out_figures(const struct link_out *link);

/* ---- embeddings (embed.c) -------------------------------------------------------------------- */

/*
 * Embeddings go from an encoder's cache to the places that the coordinator has set aside for them
 * in prefill's memory, over links of the same kinds:
 *
 *   self, shm  a copy into prefill's memory, which both see
 *   mpi        EMBED, then the bytes
 */

/* Prefill's memory for embeddings: float32 [n_places, D]; base NULL: this rank does not see it. */
struct embed_space {
    float *base;
    int32_t n_places, D;
};

/* An encoder's end, for all its prefill peers. */
struct embed_out;
struct embed_out_args {
    struct world *world;              /* borrowed */
    int index, n_prefill;             /* index: of this encoder */
    const enum link_kind *kinds;      /* [n_prefill] copied */
    const struct embed_space *spaces; /* [n_prefill] copied */
};
enum status embed_out_create(const struct embed_out_args *args, struct embed_out **out_link);
void embed_out_destroy(struct embed_out *link);
/* embed_out_send - rows [n_rows, D] to the places that `encode` names, and EMBED.
 *   out_transfer  out  not NULL: the rows stay untouched until transfer_done says true
 * Does not block.  Returns ST_OK, ST_COMM (places that are not there; logged), ST_NOMEM. */
enum status embed_out_send(struct embed_out *link, const struct wire_encode *encode,
                           const float *rows, double computed_s, struct transfer **out_transfer);
/* embed_out_refuse - EMBED that says that the image cannot be had. */
enum status embed_out_refuse(struct embed_out *link, const struct wire_encode *encode,
                             const struct row_error *error);
uint64_t embed_out_bytes(const struct embed_out *link); /* that went by `mpi` */

/* Prefill's end needs no memory of its own.  embed_in_take - where the rows of an EMBED come from
 * encoder `index` by link `mpi`: start taking them; by others they are there.
 *   embed  in   checked against space here
 *   out_transfer  out  NULL: there
 * Returns ST_OK, ST_COMM (places that are not there; logged), ST_NOMEM. */
enum status embed_in_take(struct world *world, enum link_kind kind, const struct embed_space *space,
                          int index, const struct wire_embed *embed,
                          struct transfer **out_transfer);

#endif
