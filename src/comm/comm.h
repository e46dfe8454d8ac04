/*
 * comm.h - how stages talk: the protocol table, wire messages, the world, links.
 *
 * Stages name each other by address (role, index) and never learn where a peer lives.  Now: one
 * world, in memory, for all stages of one process, and one link, `self`.  To come here: the MPI
 * world and the virtual one, links shm, mpi, nccl; MPI and NCCL stay inside this room.
 */
#ifndef EPIDOTE_COMM_H
#define EPIDOTE_COMM_H

#include "base/base.h"
#include "data/data.h"
#include "kv/kv.h"
#include "model/model.h"
#include "plan/plan.h"

/* ---- protocol (protocol.c) ------------------------------------------------------------------- */

/*
 * THE protocol: message, from, to, the most that can be in flight, what it releases.
 *
 * A row holds one slot of the coordinator from RESERVE to DONE.  Slots number rows in flight:
 * 0 <= slot < n_slots <= 32,768, so that a slot can be a message tag.
 *
 *   message    from         to           in flight     releases at its receiver
 *   RESERVE    coordinator  decode       one a slot    nothing: opens the row, takes its blocks
 *   ADMIT      coordinator  prefill      one a slot    nothing: opens the row
 *   GRANT      decode       prefill      one a slot    the row's start: it has all its blocks now
 *   FIRST      prefill      decode       one a slot    the row's blocks: the prompt's KV is in them
 *   DONE       decode       coordinator  one a slot    the slot; its blocks in the mirror
 *   STOP       coordinator  all others   one a stage   the stage: it has no rows and ends
 *
 * Messages may arrive in any order that keeps pairs of stages ordered: GRANT before ADMIT is
 * normal.
 *
 * To come, with the rooms that need them: EMBED (encoder -> prefill), RETRY (decode ->
 * coordinator), CANCEL / CANCELLED, FAIL, heartbeats.
 */
enum msg_type { MSG_RESERVE, MSG_ADMIT, MSG_GRANT, MSG_FIRST, MSG_DONE, MSG_STOP, MSG_COUNT };

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
    float queue_s; /* from read to admitted */
    struct sampler_params params;
    const int32_t *tokens;         /* [n_prompt] */
    const struct text_span *stops; /* [n_stops] */
};

/* GRANT: blocks in token order, in the pool of the decode stage's rank. */
struct wire_grant {
    int32_t slot, n_blocks;
    uint64_t layout_id;
    const int32_t *blocks; /* [n_blocks] */
};

/* FIRST: the prompt's KV is in the granted blocks; its first token, or why there is none. */
struct wire_first {
    int32_t slot;
    bool failed;
    struct row_error error; /* if failed */
    float wait_s, prefill_s, exposed_transfer_s;
    struct sampled first;
};

/* DONE: the row's slot and result. */
struct wire_done {
    int32_t slot;
    const void *result; /* [result_bytes] as result_pack wrote it, 8-byte aligned */
    size_t result_bytes;
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
enum status wire_grant_pack(const struct wire_grant *grant, struct buf *out);
enum status wire_grant_unpack(const void *payload, size_t n_bytes, struct wire_grant *out_grant);
enum status wire_first_pack(const struct wire_first *first, struct buf *out);
enum status wire_first_unpack(const void *payload, size_t n_bytes, struct wire_first *out_first);
enum status wire_done_pack(const struct wire_done *done, struct buf *out);
enum status wire_done_unpack(const void *payload, size_t n_bytes, struct wire_done *out_done);

/* ---- world (world.c) ------------------------------------------------------------------------ */

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

struct world;

/* world_create_local - all stages in this process, messages through memory.
 *   n_stages  in  [ROLE_COUNT] stages of each role
 * Local.  Returns ST_OK, ST_NOMEM. */
enum status world_create_local(const int n_stages[ROLE_COUNT], struct world **out_world);
/* world_destroy - messages that nobody took are dropped.  Accepts NULL. */
void world_destroy(struct world *world);

/* world_send - copies payload and returns; never blocks.  A message that the protocol table does
 * not have, or an address outside the world, is a broken promise (assert). Returns ST_OK, ST_NOMEM.
 */
enum status world_send(struct world *world, enum msg_type type, struct address from,
                       struct address to, const void *payload, size_t n_bytes);
/* world_next - the next message for `to`, owned by the caller until msg_free.
 * Returns ST_OK, ST_AGAIN. */
enum status world_next(struct world *world, struct address to, struct msg **out_msg);
void msg_free(struct msg *msg);
/* world_n_sent - messages sent so far, by type [MSG_COUNT]; view. */
const uint64_t *world_n_sent(const struct world *world);

/* ---- links (link.c) ------------------------------------------------------------------------- */

/*
 * A link moves the KV blocks of a row from the rank that prefills it to the rank that decodes it,
 * layer by layer while prefill still runs.
 */
struct link;

/* One kind of link. */
struct link_ops {
    const char *name; /* value of job option `link` */
    /* begin - where prefill has to write this row's KV, given the blocks that decode set aside.
     *   out_blocks  out  view, valid until end */
    enum status (*begin)(struct link *link, const struct wire_grant *grant,
                         const int32_t **out_blocks);
    /* layer - KV of tokens [pos0, pos0 + n_tok) of this layer is in its blocks: it may leave. */
    enum status (*layer)(struct link *link, int32_t slot, int layer, int pos0, int n_tok);
    /* arrived - whether all that was handed to `layer` is in the decode rank's blocks. */
    bool (*arrived)(struct link *link, int32_t slot);
    void (*end)(struct link *link, int32_t slot);
    void (*close)(struct link *link);
};
struct link { /* base of every link */
    const struct link_ops *ops;
};

struct link_args {
    const char *name;           /* job option: "auto" or a kind */
    const struct kv_pool *pool; /* of the prefill side; borrowed */
    int n_slots;
    bool same_rank; /* prefill and decode share a rank and its pool */
};
/* link_open - choose a kind and say in one log line which and why.
 * Returns ST_OK, ST_CONFIG (unknown, or not possible for this pair), ST_NOMEM. */
enum status link_open(const struct link_args *args, struct link **out_link);
void link_close(struct link *link);
/* link_names - NULL-terminated names that job option `link` takes beside "auto". */
const char *const *link_names(void);

#endif
