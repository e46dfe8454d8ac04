/* TEST */
/*
 * unit_strangers.c - messages that prefill and decode must not believe: of another job's stages, or
 * that would have bytes written where they may not be.
 */
#include "stages_test.h"

/* Hand a message to a stage, as it might come from anywhere. */
static enum status hand(struct stage *stage, enum msg_type type, struct address from,
                        const struct buf *payload)
{
    struct msg *msg = host_alloc(sizeof *msg + payload->n_bytes);

    *msg = (struct msg){.type = type,
                        .from = from,
                        .to = stage->at,
                        .payload = (const uint8_t *)(msg + 1),
                        .n_bytes = payload->n_bytes};
    if (payload->n_bytes > 0)
        memcpy(msg + 1, payload->data, payload->n_bytes);
    return stage->ops->on_message(stage, msg);
}

/* It must be refused with a line that holds `says`. */
static void refused(struct stage *stage, enum msg_type type, struct address from,
                    const struct buf *payload, const char *says)
{
    CHECK_INT(hand(stage, type, from, payload), ST_COMM);
    CHECK_HAS(log_last_error(), says);
}

static const struct buf *row_bytes(const struct wire_row *row, struct buf *buf)
{
    buf_reset(buf);
    CHECK(wire_row_pack(row, buf) == ST_OK);
    return buf;
}

static const struct buf *grant_bytes(const struct wire_grant *grant, struct buf *buf)
{
    buf_reset(buf);
    CHECK(wire_grant_pack(grant, buf) == ST_OK);
    return buf;
}

static const struct buf *first_bytes(const struct wire_first *first, struct buf *buf)
{
    buf_reset(buf);
    CHECK(wire_first_pack(first, buf) == ST_OK);
    return buf;
}

static const struct setting small = {
    .n_slots = 2, .n_blocks = 4, .max_tok = 8, .max_seqs = 2, .batch = 2};
static const int32_t three[] = {1, 2, 3};
static const struct wire_row small_row = {
    .n_prompt = 3, .max_out = 5, .n_blocks = 1, .tokens = three};

/* Slots that are not there, messages that were there before, rows that are another's or would write
 * where they may not. */
static void strangers_at_decode(struct tokenizer *tokenizer)
{
    struct house house;
    struct wire_row row = small_row;
    struct wire_first first = {.slot = 2};
    struct wire_piece piece = {.slot = 1, .n_layers = 1, .n_blocks = 1};
    struct buf buf = {0};

    house_begin(&house, &small, tokenizer);
    struct stage *decode = house.stages[1];
    row.slot = 2;
    refused(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf), "RESERVE for slot 2");
    row.slot = 1;
    row.decode = 1;
    refused(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf), "for decode/1");
    row.decode = 0;
    row.prefill = 1;
    refused(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf), "from prefill/1");
    row.prefill = 0;
    row.max_out = P - 3 + 2; /* one token too many: the last one sampled needs no place */
    refused(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf),
            "3 + 15 tokens in 1 KV blocks");
    row.max_out = INT32_MAX;
    refused(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf), "in 1 KV blocks");
    row.max_out = 5;
    row.n_blocks = 5;
    refused(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf), "needs 5 KV blocks and 4 are");
    CHECK_INT(kv_pool_n_free(house.pool), 4);

    refused(decode, MSG_FIRST, prefill_0, first_bytes(&first, &buf),
            "FIRST from prefill/0 for slot 2");
    first.slot = 1;
    refused(decode, MSG_FIRST, prefill_0, first_bytes(&first, &buf),
            "slot 1, which waits for none");
    buf_reset(&buf);
    CHECK(wire_piece_pack(&piece, &buf) == ST_OK);
    refused(decode, MSG_PIECE, prefill_0, &buf, "PIECE 0 from prefill/0 for slot 1");
    row.n_blocks = 1;
    row.max_out = P - 3 + 1;
    CHECK_INT(hand(decode, MSG_RESERVE, coordinator, row_bytes(&row, &buf)), ST_OK);
    CHECK_INT(kv_pool_n_free(house.pool), 3);
    refused(decode, MSG_RESERVE, coordinator, &buf, "RESERVE for slot 1");
    refused(decode, MSG_FIRST, (struct address){ROLE_PREFILL, 1}, first_bytes(&first, &buf),
            "FIRST from prefill/1 for slot 1");
    buf_reset(&buf);
    refused(decode, MSG_STOP, coordinator, &buf, "decode/0, which has 1 rows");
    house_end(&house);
    buf_free(&buf);
}

static void strangers_at_prefill(struct tokenizer *tokenizer)
{
    static const int32_t wild[] = {4, -1};
    struct house house;
    struct wire_row row = small_row;
    struct wire_grant grant = {.slot = 2, .n_blocks = 1, .blocks = wild};
    struct buf buf = {0};

    house_begin(&house, &small, tokenizer);
    struct stage *prefill = house.stages[0];
    row.slot = 2;
    refused(prefill, MSG_ADMIT, coordinator, row_bytes(&row, &buf),
            "ADMIT from coordinator/0 for slot 2");
    refused(prefill, MSG_GRANT, decode_0, grant_bytes(&grant, &buf),
            "GRANT from decode/0 for slot 2");
    row.slot = 1;
    row.decode = 1;
    refused(prefill, MSG_ADMIT, coordinator, row_bytes(&row, &buf), "for slot 1");
    row.decode = 0;
    row.prefill = 1;
    refused(prefill, MSG_ADMIT, coordinator, row_bytes(&row, &buf), "for slot 1");
    row.prefill = 0;
    CHECK_INT(hand(prefill, MSG_ADMIT, coordinator, row_bytes(&row, &buf)), ST_OK);
    refused(prefill, MSG_ADMIT, coordinator, &buf, "ADMIT from coordinator/0 for slot 1");
    grant.slot = 1;
    refused(prefill, MSG_GRANT, (struct address){ROLE_DECODE, 1}, grant_bytes(&grant, &buf),
            "GRANT from decode/1 for slot 1");
    buf_reset(&buf);
    refused(prefill, MSG_STOP, coordinator, &buf, "prefill/0, which has 1 rows");
    house_end(&house);
    buf_free(&buf);
}

/* Blocks that are not there, too few, or of another layout: the row does not begin. */
static void wild_grants(struct tokenizer *tokenizer)
{
    static const int32_t good[] = {0, 1}, wild[2][2] = {{0, 4}, {-1, 0}};
    struct wire_row row = small_row;
    struct buf buf = {0};
    bool worked;

    row.n_blocks = 2;
    row.max_out = 20;
    for (int i = 0; i < 5; i++) {
        struct house house;
        struct wire_grant grant = {
            .n_blocks = i == 2 ? 1 : 2, .layout_id = kv_layout_id(&kv), .blocks = good};

        grant.blocks = i < 2 ? wild[i] : good;
        grant.layout_id += i == 3;
        house_begin(&house, &small, tokenizer);
        struct stage *prefill = house.stages[0];
        CHECK_INT(hand(prefill, MSG_GRANT, decode_0, grant_bytes(&grant, &buf)), ST_OK);
        CHECK_INT(hand(prefill, MSG_ADMIT, coordinator, row_bytes(&row, &buf)), ST_OK);
        CHECK_INT(prefill->ops->poll(prefill, &worked), i < 4 ? ST_COMM : ST_OK);
        CHECK_INT(house.toys[0].n_steps, i == 4);
        house_end(&house);
    }
    buf_free(&buf);
}

int main(void)
{
    struct tokenizer *tokenizer = letters();

    log_set_level(LOG_WARN);
    strangers_at_decode(tokenizer);
    strangers_at_prefill(tokenizer);
    wild_grants(tokenizer);
    tokenizer_destroy(tokenizer);
    TEST_END();
}
