/* TEST */
/*
 * unit_links.c - the same bytes over every kind of link: rows of random lengths in random chunks go
 * from prefill's end to decode's end over a virtual world with random delays, several at a time,
 * slots and blocks being used again and again.
 */
#include "comm/comm.h"
#include "test.h"

enum { N_SLOTS = 6, DECODE_BLOCKS = 40, OWN_BLOCKS = 12, N_ROWS = 60, MOST_BLOCK_BYTES = 1 << 16 };

/* One row on its way. */
struct row {
    bool open, computed, ended;
    int32_t blocks[16];
    struct wire_row wire;
    struct wire_grant grant;
    const int32_t *where; /* prefill writes here; NULL = not begun */
    int n_done, n_pieces;
};

struct rig {
    struct kv_layout layout;
    enum link_kind kind;
    struct virtual_net *net;
    struct world *worlds[2];
    struct kv_space spaces[2]; /* prefill's, decode's; the same memory unless kind is LINK_MPI */
    void *memory[2];
    struct kv_pool *own, *pool;
    struct link_out *out;
    struct link_in *in;
    struct row rows[N_SLOTS];
    unsigned seed;
    int n_again, n_open_most;
};

static const struct address prefill = {ROLE_PREFILL, 0}, decode = {ROLE_DECODE, 0};

/* What a row's block holds in a layer: differs in all that can be mixed up. */
static void pattern(const struct row *row, int layer, int block, size_t n_bytes, uint8_t *out)
{
    uint64_t x = (row->wire.row << 32 | (uint64_t)layer << 16 | (uint64_t)block) *
                 UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = 0; i < n_bytes; i += sizeof x) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const uint64_t word = x ^ x >> 29;
        memcpy(out + i, &word, sizeof word);
    }
}

static void rig_begin(struct rig *rig, enum link_kind kind, struct kv_layout layout, unsigned seed)
{
    const int asked[ROLE_COUNT] = {-1, 0, 1, 1, -1};
    struct plan_layout ranks;
    struct row_error why;

    *rig = (struct rig){.layout = layout, .kind = kind, .seed = seed};
    CHECK(plan_layout_make(kind == LINK_SELF ? 1 : 2, asked, &ranks, &why) == ST_OK);
    if (kind == LINK_SELF) {
        CHECK(world_create_local(&ranks, &rig->worlds[0]) == ST_OK);
        rig->worlds[1] = rig->worlds[0];
    } else {
        const struct virtual_args args = {.layout = &ranks, .seed = seed, .max_delay_s = 1e-3};

        CHECK(virtual_net_create(&args, &rig->net) == ST_OK);
        for (int r = 0; r < 2; r++)
            CHECK(virtual_net_world(rig->net, r, &rig->worlds[r]) == ST_OK);
    }
    rig->memory[0] = pages_map((DECODE_BLOCKS + OWN_BLOCKS) * kv_block_bytes(&layout));
    rig->memory[1] = pages_map(DECODE_BLOCKS * kv_block_bytes(&layout));
    rig->spaces[0] = (struct kv_space){layout, DECODE_BLOCKS + OWN_BLOCKS, rig->memory[0]};
    rig->spaces[1] = kind == LINK_MPI ? (struct kv_space){layout, DECODE_BLOCKS, rig->memory[1]}
                                      : rig->spaces[0];
    CHECK(kv_pool_create(&rig->spaces[0], DECODE_BLOCKS, OWN_BLOCKS, &rig->own) == ST_OK);
    CHECK(kv_pool_create(&rig->spaces[1], 0, DECODE_BLOCKS, &rig->pool) == ST_OK);
    const struct link_out_args out = {.world = rig->worlds[0],
                                      .kinds = &kind,
                                      .n_decode = 1,
                                      .n_slots = N_SLOTS,
                                      .space = rig->spaces[0],
                                      .pool = rig->own};
    const struct link_in_args in = {
        .world = rig->worlds[1], .n_slots = N_SLOTS, .space = rig->spaces[1]};
    CHECK(link_out_create(&out, &rig->out) == ST_OK);
    CHECK(link_in_create(&in, &rig->in) == ST_OK);
}

static void rig_end(struct rig *rig)
{
    CHECK(link_out_idle(rig->out));
    CHECK_INT(kv_pool_n_free(rig->own), OWN_BLOCKS);
    CHECK_INT(kv_pool_n_free(rig->pool), DECODE_BLOCKS);
    link_in_destroy(rig->in);
    link_out_destroy(rig->out);
    kv_pool_destroy(rig->pool);
    kv_pool_destroy(rig->own);
    pages_unmap(rig->memory[0], (DECODE_BLOCKS + OWN_BLOCKS) * kv_block_bytes(&rig->layout));
    pages_unmap(rig->memory[1], DECODE_BLOCKS * kv_block_bytes(&rig->layout));
    world_destroy(rig->worlds[0]);
    if (rig->net != NULL)
        world_destroy(rig->worlds[1]);
    virtual_net_destroy(rig->net);
}

static int draw(struct rig *rig, int n)
{
    return rand_r(&rig->seed) % n;
}

/* Decode opens a row, if a slot and blocks are free. */
static bool open_row(struct rig *rig, uint64_t number)
{
    const int P = rig->layout.P;
    int32_t slot = 0;

    while (slot < N_SLOTS && rig->rows[slot].open)
        slot++;
    const int n_prompt = 1 + draw(rig, 10 * P), n_blocks = plan_blocks(n_prompt, P) + draw(rig, 3);
    if (slot == N_SLOTS || n_blocks > kv_pool_n_free(rig->pool))
        return false;
    struct row *row = &rig->rows[slot];
    *row = (struct row){.open = true};
    CHECK(kv_pool_take(rig->pool, n_blocks, row->blocks) == ST_OK);
    row->wire = (struct wire_row){
        .row = number, .slot = slot, .n_prompt = n_prompt, .max_out = 1, .n_blocks = n_blocks};
    row->grant = (struct wire_grant){
        .slot = slot,
        .n_blocks = n_blocks,
        .layout_id = kv_layout_id(&rig->layout),
        .blocks = row->blocks,
    };
    CHECK(link_in_open(rig->in, slot, 0, row->blocks, n_blocks) == ST_OK);
    return true;
}

/* Prefill computes the next chunk of a row, layer by layer. */
static void compute(struct rig *rig, struct row *row)
{
    const int P = rig->layout.P, left = row->wire.n_prompt - row->n_done;
    const int n_tok = 1 + draw(rig, left), last = (row->n_done + n_tok - 1) / P;
    const size_t block_bytes = kv_layer_block_bytes(&rig->layout);

    if (row->n_done == 0) /* what an earlier row left must not pass for this one's */
        for (int l = 0; l < rig->layout.L; l++)
            for (int b = 0; b < plan_blocks(row->wire.n_prompt, P); b++)
                memset(kv_space_block(&rig->spaces[0], l, row->where[b]), 0xee, block_bytes);
    for (int l = 0; l < rig->layout.L; l++) {
        for (int b = row->n_done / P; b <= last; b++) {
            /* Only what these tokens fill: a block that leaves too early arrives incomplete. */
            const int filled = row->n_done + n_tok - b * P < P ? row->n_done + n_tok - b * P : P;
            const bool whole = row->n_done + n_tok == row->wire.n_prompt;
            uint8_t *at = kv_space_block(&rig->spaces[0], l, row->where[b]);

            const size_t n_bytes =
                whole ? block_bytes : block_bytes * (size_t)filled / (size_t)P / 8 * 8;
            pattern(row, l, b, n_bytes, at);
        }
        CHECK(link_out_layer(rig->out, row->wire.slot, l, row->n_done, n_tok) == ST_OK);
    }
    row->n_done += n_tok;
    if (row->n_done == row->wire.n_prompt) {
        row->computed = true;
        link_out_end(rig->out, row->wire.slot, &row->n_pieces);
        CHECK((row->n_pieces > 0) == (rig->kind == LINK_MPI));
    }
}

static void close_row(struct rig *rig, struct row *row)
{
    const size_t block_bytes = kv_layer_block_bytes(&rig->layout);
    int n_wrong = 0;

    for (int l = 0; l < rig->layout.L; l++)
        for (int b = 0; b < plan_blocks(row->wire.n_prompt, rig->layout.P); b++) {
            uint8_t want[MOST_BLOCK_BYTES];

            pattern(row, l, b, block_bytes, want);
            n_wrong +=
                memcmp(kv_space_block(&rig->spaces[1], l, row->blocks[b]), want, block_bytes) != 0;
        }
    CHECK_INT(n_wrong, 0);
    link_in_close(rig->in, row->wire.slot);
    kv_pool_give(rig->pool, row->blocks, row->wire.n_blocks);
    row->open = false;
}

static void turn(struct rig *rig)
{
    struct msg *msg;
    bool worked;

    for (int r = 0; r < 2; r++)
        CHECK(world_progress(rig->worlds[r], &worked) == ST_OK);
    while (world_next(rig->worlds[1], decode, &msg) == ST_OK) {
        CHECK(msg->type == MSG_PIECE && link_in_piece(rig->in, msg) == ST_OK);
        msg_free(msg);
    }
    link_out_poll(rig->out, &worked);
    if (rig->net != NULL && draw(rig, 2) == 0)
        virtual_net_advance(rig->net, 1e-4);
}

static void same_bytes(enum link_kind kind, struct kv_layout layout, unsigned seed)
{
    struct rig rig;
    int n_closed = 0, n_turns = 0;
    uint64_t n_opened = 0;

    rig_begin(&rig, kind, layout, seed);
    while (n_closed < N_ROWS && n_turns++ < 1000000) {
        struct row *row = &rig.rows[draw(&rig, N_SLOTS)];

        turn(&rig);
        if (n_opened < N_ROWS && draw(&rig, 3) == 0 && open_row(&rig, n_opened))
            n_opened++;
        if (!row->open) {
            continue;
        } else if (row->where == NULL) {
            const enum status st = link_out_begin(rig.out, &row->wire, &row->grant, &row->where);

            CHECK(st == ST_OK || (st == ST_AGAIN && kind == LINK_MPI));
            rig.n_again += st == ST_AGAIN;
        } else if (!row->computed) {
            compute(&rig, row);
        } else if (link_in_arrived(rig.in, row->wire.slot, row->n_pieces)) {
            close_row(&rig, row);
            n_closed++;
        }
    }
    CHECK_INT(n_closed, N_ROWS);
    CHECK((rig.n_again > 0) == (kind == LINK_MPI)); /* the own pool is small, so some had to wait */
    for (int i = 0; i < 10000 && !link_out_idle(rig.out); i++)
        turn(&rig);
    const struct link_figures figures = link_out_figures(rig.out);
    CHECK((figures.n_bytes > 0) == (kind == LINK_MPI));
    rig_end(&rig);
}

/* A PIECE that does not fit an open row is refused, and nothing is written. */
static void bad_pieces(void)
{
    const struct kv_layout layout = {OPS_BF16, 4, 1, 16, 8};
    struct buf payload = {0};
    struct rig rig;

    rig_begin(&rig, LINK_MPI, layout, 5);
    while (!open_row(&rig, 1))
        ;
    struct row *row = &rig.rows[0];
    const struct wire_piece good = {
        .n_layers = 2,
        .n_blocks = 1,
        .layout_id = kv_layout_id(&layout),
        .n_bytes = 2 * kv_layer_block_bytes(&layout),
    };
    for (int i = 0; i < 9; i++) {
        struct wire_piece bad = good;
        struct msg msg = {.type = MSG_PIECE, .from = prefill, .to = decode};

        switch (i) {
        case 0:
            bad.slot = 1;
            break;
        case 1:
            bad.slot = N_SLOTS;
            break;
        case 2:
            bad.number = 1;
            break;
        case 3:
            bad.layer = 3;
            break;
        case 4:
            bad.block = row->wire.n_blocks;
            break;
        case 5:
            bad.n_blocks = row->wire.n_blocks + 1;
            break;
        case 6:
            bad.n_bytes--;
            break;
        case 7:
            bad.layout_id++;
            break;
        default:
            msg.from.index = 1;
            break;
        }
        buf_reset(&payload);
        CHECK(wire_piece_pack(&bad, &payload) == ST_OK);
        msg.payload = payload.data;
        msg.n_bytes = payload.n_bytes;
        CHECK_INT(link_in_piece(rig.in, &msg), ST_COMM);
    }
    /* Another layout, or too few blocks, is refused before anything is computed. */
    struct wire_grant grant = row->grant;
    grant.layout_id++;
    CHECK_INT(link_out_begin(rig.out, &row->wire, &grant, &row->where), ST_COMM);
    grant = row->grant;
    grant.n_blocks--;
    CHECK_INT(link_out_begin(rig.out, &row->wire, &grant, &row->where), ST_COMM);
    link_in_close(rig.in, 0);
    kv_pool_give(rig.pool, row->blocks, row->wire.n_blocks);
    buf_free(&payload);
    rig_end(&rig);
}

static void choice(void)
{
    static const struct {
        const char *name;
        bool same_rank, shared;
        enum status st;
        enum link_kind kind;
    } cases[] = {
        {"auto", true, true, ST_OK, LINK_SELF},   {"auto", false, true, ST_OK, LINK_SHM},
        {"auto", false, false, ST_OK, LINK_MPI},  {"mpi", false, true, ST_OK, LINK_MPI},
        {"mpi", true, true, ST_OK, LINK_SELF},    {"shm", false, true, ST_OK, LINK_SHM},
        {"shm", false, false, ST_ROW, LINK_SELF}, {"self", false, true, ST_ROW, LINK_SELF},
        {"nccl", false, true, ST_ROW, LINK_SELF},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum link_kind kind = LINK_SELF;
        const char *why = "";
        struct row_error err;

        CHECK_INT(
            link_choose(cases[i].name, cases[i].same_rank, cases[i].shared, &kind, &why, &err),
            cases[i].st);
        CHECK_INT(kind, cases[i].kind);
    }
}

int main(void)
{
    static const struct kv_layout layouts[] = {
        {OPS_BF16, 3, 1, 16, 8},   /* a whole row is one piece */
        {OPS_F32, 2, 4, 32, 64},   /* a layer of a few blocks is a piece */
        {OPS_BF16, 30, 3, 16, 64}, /* layers are collected */
    };

    choice();
    bad_pieces();
    for (int kind = 0; kind < LINK_KIND_COUNT; kind++)
        for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
            for (unsigned seed = 1; seed <= 3; seed++)
                same_bytes((enum link_kind)kind, layouts[i], seed);
    TEST_END();
}
