/*
 * wire.c - messages as bytes: a fixed part, then its arrays.
 *
 * The fixed parts are structs of fixed-width members whose size is a multiple of 8, written as they
 * lie in memory (ranks of one job run one binary).  Unpacking believes no count before it has
 * checked it.
 */
#include <assert.h>

#include "comm/comm.h"

struct row_head {
    int32_t slot, prefill, decode;
    int32_t n_prompt, max_out, n_blocks, n_stops;
    int32_t ignore_eos;
    int32_t top_k, n_top;
    float queue_s;
    uint32_t stop_bytes;
    int32_t embed_at, rope_shift, n_images, reserved;
    double temperature, top_p, min_p, repetition_penalty;
    uint64_t row, seed, sampler_row, sample; /* row is global; see struct sampler_params */
};

struct encode_head {
    int32_t slot, number, prefill, at, n_rows, width, height, reserved;
    uint64_t image, shown, row, next_use;
};

struct embed_head {
    int32_t slot, number, at, n_rows, failed, reserved;
    double computed_s;
    char error[sizeof((struct row_error *)0)->text];
};

struct grant_head {
    int32_t slot, n_blocks;
    uint64_t layout_id;
};

struct piece_head {
    int32_t slot, number;
    int32_t layer, n_layers, block, n_blocks;
    uint64_t layout_id, n_bytes;
};

struct first_head {
    int32_t slot, failed;
    double computed_s;
    float wait_s, prefill_s, encode_s;
    int32_t n_pieces, token;
    float logprob;
    char error[sizeof((struct row_error *)0)->text];
    int32_t top_ids[SAMPLER_MAX_TOP];
    float top_logprobs[SAMPLER_MAX_TOP];
};

struct prefilled_head {
    int32_t slot, n_prompt;
};

struct done_head {
    int32_t slot, reserved;
};

struct beat_head {
    int32_t rank, n_rows;
    double sent_s, elapsed_s, busy_s;
    uint64_t n_steps, n_prompt_tok, n_answer_tok, n_messages, n_pieces, kv_bytes, n_handed;
    double exposed_s, prefill_s;
    struct encode_figures encode;
    uint64_t memory_peak_bytes;
    char doing[sizeof((struct wire_beat *)0)->doing];
};

struct fail_head {
    int32_t rank, status, lost, reserved;
    char message[sizeof((struct wire_fail *)0)->message];
};

static_assert(sizeof(struct row_head) % 8 == 0, "arrays after it are aligned");
static_assert(sizeof(struct seq_image) == 16, "it is written as it lies in memory");
static_assert(sizeof(struct encode_figures) == 9 * 8, "it is written as it lies in memory");
static_assert(sizeof(struct grant_head) % 8 == 0, "arrays after it are aligned");
static_assert(sizeof(struct piece_head) % 8 == 0, "arrays after it are aligned");
static_assert(sizeof(struct first_head) % 8 == 0, "arrays after it are aligned");
static_assert(sizeof(struct done_head) % 8 == 0, "arrays after it are aligned");

static enum status refuse(const char *what, size_t n_bytes)
{
    log_error("%s message of %zu bytes is damaged or from another version of the program", what,
              n_bytes);
    return ST_COMM;
}

int32_t wire_slot(const struct msg *msg)
{
    int32_t slot;

    if (msg->n_bytes < sizeof slot)
        return -1;
    memcpy(&slot, msg->payload, sizeof slot); /* every head begins with it */
    return slot;
}

/* After the head: images [n_images], tokens [n_prompt], stop lengths [n_stops] as u32, stop bytes.
 */
enum status wire_row_pack(const struct wire_row *row, struct buf *out)
{
    enum status st;
    size_t stop_bytes = 0;

    for (int i = 0; i < row->n_stops; i++)
        stop_bytes += row->stops[i].n_bytes;
    const struct row_head head = {
        .slot = row->slot,
        .prefill = row->prefill,
        .decode = row->decode,
        .n_prompt = row->n_prompt,
        .max_out = row->max_out,
        .n_blocks = row->n_blocks,
        .n_stops = row->n_stops,
        .ignore_eos = row->ignore_eos,
        .top_k = row->params.top_k,
        .n_top = row->params.n_top,
        .queue_s = row->queue_s,
        .stop_bytes = (uint32_t)stop_bytes,
        .embed_at = row->embed_at,
        .rope_shift = row->rope_shift,
        .n_images = row->n_images,
        .temperature = row->params.temperature,
        .top_p = row->params.top_p,
        .min_p = row->params.min_p,
        .repetition_penalty = row->params.repetition_penalty,
        .seed = row->params.seed,
        .row = row->row,
        .sampler_row = row->params.row,
        .sample = row->params.sample,
    };

    assert(stop_bytes <= UINT32_MAX);
    TRY(buf_put(out, &head, sizeof head), err);
    TRY(buf_put(out, row->images, (size_t)row->n_images * sizeof *row->images), err);
    TRY(buf_put(out, row->tokens, (size_t)row->n_prompt * sizeof *row->tokens), err);
    for (int i = 0; i < row->n_stops; i++) {
        const uint32_t n = (uint32_t)row->stops[i].n_bytes;

        TRY(buf_put(out, &n, sizeof n), err);
    }
    for (int i = 0; i < row->n_stops; i++)
        TRY(buf_put(out, row->stops[i].data, row->stops[i].n_bytes), err);
    return ST_OK;
err:
    return st;
}

/* Whether images lie one behind the other inside the prompt. */
static bool images_fit(const struct seq_image *images, int n_images, int n_prompt)
{
    int32_t from = 0;

    for (int i = 0; i < n_images; i++) {
        if (images[i].first < from || images[i].n_rows < 1 || images[i].rows_h < 0 ||
            images[i].rows_w < 0 || images[i].n_rows > n_prompt - images[i].first)
            return false;
        from = images[i].first + images[i].n_rows;
    }
    return true;
}

enum status wire_row_unpack(const void *payload, size_t n_bytes, struct arena *arena,
                            struct wire_row *out_row)
{
    const uint8_t *bytes = payload;
    struct row_head head;

    if (n_bytes < sizeof head)
        return refuse("row", n_bytes);
    memcpy(&head, bytes, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.n_prompt < 1 || head.max_out < 1 ||
        head.n_blocks < 1 || head.n_stops < 0 || head.n_top > SAMPLER_MAX_TOP ||
        head.n_images < 0 || head.embed_at < 0 ||
        n_bytes != sizeof head + (size_t)head.n_images * sizeof(struct seq_image) +
                       ((size_t)head.n_prompt + (size_t)head.n_stops) * 4 + head.stop_bytes)
        return refuse("row", n_bytes);

    const struct seq_image *images = (const struct seq_image *)(const void *)(bytes + sizeof head);
    if (!images_fit(images, head.n_images, head.n_prompt))
        return refuse("row", n_bytes);
    const int32_t *tokens = (const int32_t *)(images + head.n_images);
    const uint32_t *lengths = (const uint32_t *)(tokens + head.n_prompt);
    const char *text = (const char *)(lengths + head.n_stops);
    struct text_span *stops = arena_alloc(arena, (size_t)head.n_stops * sizeof *stops);
    uint32_t left = head.stop_bytes;
    if (stops == NULL)
        return ST_NOMEM;
    for (int i = 0; i < head.n_stops; i++) {
        if (lengths[i] > left)
            return refuse("row", n_bytes);
        stops[i] = (struct text_span){text, lengths[i]};
        text += lengths[i];
        left -= lengths[i];
    }
    *out_row = (struct wire_row){
        .row = head.row,
        .slot = head.slot,
        .prefill = head.prefill,
        .decode = head.decode,
        .n_prompt = head.n_prompt,
        .max_out = head.max_out,
        .n_blocks = head.n_blocks,
        .n_stops = head.n_stops,
        .ignore_eos = head.ignore_eos != 0,
        .queue_s = head.queue_s,
        .embed_at = head.embed_at,
        .rope_shift = head.rope_shift,
        .n_images = head.n_images,
        .images = images,
        .params = {.temperature = head.temperature,
                   .top_p = head.top_p,
                   .min_p = head.min_p,
                   .repetition_penalty = head.repetition_penalty,
                   .top_k = head.top_k,
                   .seed = head.seed,
                   .row = head.sampler_row,
                   .sample = head.sample,
                   .n_top = head.n_top},
        .tokens = tokens,
        .stops = stops,
    };
    return ST_OK;
}

enum status wire_encode_pack(const struct wire_encode *encode, struct buf *out)
{
    const struct encode_head head = {
        .slot = encode->slot,
        .number = encode->number,
        .prefill = encode->prefill,
        .at = encode->at,
        .n_rows = encode->n_rows,
        .width = encode->width,
        .height = encode->height,
        .image = encode->image,
        .shown = encode->shown,
        .row = encode->row,
        .next_use = encode->next_use,
    };

    return buf_put(out, &head, sizeof head);
}

enum status wire_encode_unpack(const void *payload, size_t n_bytes, struct wire_encode *out_encode)
{
    struct encode_head head;

    if (n_bytes != sizeof head)
        return refuse("ENCODE", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.number < 0 || head.prefill < 0 ||
        head.at < 0 || head.n_rows < 1 || head.width < 1 || head.height < 1)
        return refuse("ENCODE", n_bytes);
    *out_encode = (struct wire_encode){
        .slot = head.slot,
        .number = head.number,
        .prefill = head.prefill,
        .at = head.at,
        .n_rows = head.n_rows,
        .width = head.width,
        .height = head.height,
        .image = head.image,
        .shown = head.shown,
        .row = head.row,
        .next_use = head.next_use,
    };
    return ST_OK;
}

enum status wire_embed_pack(const struct wire_embed *embed, struct buf *out)
{
    struct embed_head head = {
        .slot = embed->slot,
        .number = embed->number,
        .at = embed->at,
        .n_rows = embed->n_rows,
        .failed = embed->failed,
        .computed_s = embed->computed_s,
    };

    memcpy(head.error, embed->error.text, sizeof head.error);
    return buf_put(out, &head, sizeof head);
}

enum status wire_embed_unpack(const void *payload, size_t n_bytes, struct wire_embed *out_embed)
{
    struct embed_head head;

    if (n_bytes != sizeof head)
        return refuse("EMBED", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.number < 0 || head.at < 0 ||
        head.n_rows < 1 || head.error[sizeof head.error - 1] != '\0')
        return refuse("EMBED", n_bytes);
    *out_embed = (struct wire_embed){
        .slot = head.slot,
        .number = head.number,
        .at = head.at,
        .n_rows = head.n_rows,
        .failed = head.failed != 0,
        .computed_s = head.computed_s,
    };
    memcpy(out_embed->error.text, head.error, sizeof head.error);
    return ST_OK;
}

enum status wire_grant_pack(const struct wire_grant *grant, struct buf *out)
{
    enum status st;
    const struct grant_head head = {grant->slot, grant->n_blocks, grant->layout_id};

    TRY(buf_put(out, &head, sizeof head), err);
    return buf_put(out, grant->blocks, (size_t)grant->n_blocks * sizeof *grant->blocks);
err:
    return st;
}

enum status wire_grant_unpack(const void *payload, size_t n_bytes, struct wire_grant *out_grant)
{
    const uint8_t *bytes = payload;
    struct grant_head head;

    if (n_bytes < sizeof head)
        return refuse("GRANT", n_bytes);
    memcpy(&head, bytes, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.n_blocks < 1 ||
        n_bytes != sizeof head + (size_t)head.n_blocks * sizeof(int32_t))
        return refuse("GRANT", n_bytes);
    *out_grant = (struct wire_grant){
        .slot = head.slot,
        .n_blocks = head.n_blocks,
        .layout_id = head.layout_id,
        .blocks = (const int32_t *)(const void *)(bytes + sizeof head),
    };
    return ST_OK;
}

enum status wire_piece_pack(const struct wire_piece *piece, struct buf *out)
{
    const struct piece_head head = {
        .slot = piece->slot,
        .number = piece->number,
        .layer = piece->layer,
        .n_layers = piece->n_layers,
        .block = piece->block,
        .n_blocks = piece->n_blocks,
        .layout_id = piece->layout_id,
        .n_bytes = piece->n_bytes,
    };

    return buf_put(out, &head, sizeof head);
}

enum status wire_piece_unpack(const void *payload, size_t n_bytes, struct wire_piece *out_piece)
{
    struct piece_head head;

    if (n_bytes != sizeof head)
        return refuse("PIECE", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.number < 0 || head.layer < 0 ||
        head.n_layers < 1 || head.block < 0 || head.n_blocks < 1 ||
        head.n_layers > INT32_MAX - head.layer || head.n_blocks > INT32_MAX - head.block)
        return refuse("PIECE", n_bytes);
    *out_piece = (struct wire_piece){
        .slot = head.slot,
        .number = head.number,
        .layer = head.layer,
        .n_layers = head.n_layers,
        .block = head.block,
        .n_blocks = head.n_blocks,
        .layout_id = head.layout_id,
        .n_bytes = head.n_bytes,
    };
    return ST_OK;
}

enum status wire_first_pack(const struct wire_first *first, struct buf *out)
{
    struct first_head head = {
        .slot = first->slot,
        .failed = first->failed,
        .wait_s = first->wait_s,
        .prefill_s = first->prefill_s,
        .encode_s = first->encode_s,
        .computed_s = first->computed_s,
        .n_pieces = first->n_pieces,
        .token = first->first.token,
        .logprob = first->first.logprob,
    };

    memcpy(head.error, first->error.text, sizeof head.error);
    memcpy(head.top_ids, first->first.top_ids, sizeof head.top_ids);
    memcpy(head.top_logprobs, first->first.top_logprobs, sizeof head.top_logprobs);
    return buf_put(out, &head, sizeof head);
}

enum status wire_first_unpack(const void *payload, size_t n_bytes, struct wire_first *out_first)
{
    struct first_head head;

    if (n_bytes != sizeof head)
        return refuse("FIRST", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.n_pieces < 0 || head.token < 0 ||
        head.error[sizeof head.error - 1] != '\0')
        return refuse("FIRST", n_bytes);
    *out_first = (struct wire_first){
        .slot = head.slot,
        .failed = head.failed != 0,
        .wait_s = head.wait_s,
        .prefill_s = head.prefill_s,
        .encode_s = head.encode_s,
        .computed_s = head.computed_s,
        .n_pieces = head.n_pieces,
        .first = {.token = head.token, .logprob = head.logprob},
    };
    memcpy(out_first->error.text, head.error, sizeof head.error);
    memcpy(out_first->first.top_ids, head.top_ids, sizeof head.top_ids);
    memcpy(out_first->first.top_logprobs, head.top_logprobs, sizeof head.top_logprobs);
    return ST_OK;
}

enum status wire_prefilled_pack(const struct wire_prefilled *prefilled, struct buf *out)
{
    const struct prefilled_head head = {prefilled->slot, prefilled->n_prompt};

    return buf_put(out, &head, sizeof head);
}

enum status wire_prefilled_unpack(const void *payload, size_t n_bytes,
                                  struct wire_prefilled *out_prefilled)
{
    struct prefilled_head head;

    if (n_bytes != sizeof head)
        return refuse("PREFILLED", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS || head.n_prompt < 1)
        return refuse("PREFILLED", n_bytes);
    *out_prefilled = (struct wire_prefilled){head.slot, head.n_prompt};
    return ST_OK;
}

enum status wire_done_pack(const struct wire_done *done, struct buf *out)
{
    enum status st;
    const struct done_head head = {.slot = done->slot};

    TRY(buf_put(out, &head, sizeof head), err);
    return buf_put(out, done->result, done->result_bytes);
err:
    return st;
}

enum status wire_done_unpack(const void *payload, size_t n_bytes, struct wire_done *out_done)
{
    struct done_head head;

    if (n_bytes < sizeof head)
        return refuse("DONE", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.slot < 0 || head.slot >= COMM_MAX_SLOTS)
        return refuse("DONE", n_bytes);
    *out_done = (struct wire_done){
        .slot = head.slot,
        .result = (const uint8_t *)payload + sizeof head,
        .result_bytes = n_bytes - sizeof head,
    };
    return ST_OK;
}

enum status wire_beat_pack(const struct wire_beat *beat, struct buf *out)
{
    struct beat_head head = {
        .rank = beat->rank,
        .n_rows = beat->n_rows,
        .sent_s = beat->sent_s,
        .elapsed_s = beat->elapsed_s,
        .busy_s = beat->busy_s,
        .n_steps = beat->n_steps,
        .n_prompt_tok = beat->n_prompt_tok,
        .n_answer_tok = beat->n_answer_tok,
        .n_messages = beat->n_messages,
        .n_pieces = beat->n_pieces,
        .kv_bytes = beat->kv_bytes,
        .n_handed = beat->n_handed,
        .exposed_s = beat->exposed_s,
        .prefill_s = beat->prefill_s,
        .encode = beat->encode,
        .memory_peak_bytes = beat->memory_peak_bytes,
    };

    memcpy(head.doing, beat->doing, sizeof head.doing);
    return buf_put(out, &head, sizeof head);
}

enum status wire_beat_unpack(const void *payload, size_t n_bytes, struct wire_beat *out_beat)
{
    struct beat_head head;

    if (n_bytes != sizeof head)
        return refuse("BEAT", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.rank < 0 || head.n_rows < 0 || head.doing[sizeof head.doing - 1] != '\0')
        return refuse("BEAT", n_bytes);
    *out_beat = (struct wire_beat){
        .rank = head.rank,
        .n_rows = head.n_rows,
        .sent_s = head.sent_s,
        .elapsed_s = head.elapsed_s,
        .busy_s = head.busy_s,
        .n_steps = head.n_steps,
        .n_prompt_tok = head.n_prompt_tok,
        .n_answer_tok = head.n_answer_tok,
        .n_messages = head.n_messages,
        .n_pieces = head.n_pieces,
        .kv_bytes = head.kv_bytes,
        .n_handed = head.n_handed,
        .exposed_s = head.exposed_s,
        .prefill_s = head.prefill_s,
        .encode = head.encode,
        .memory_peak_bytes = head.memory_peak_bytes,
    };
    memcpy(out_beat->doing, head.doing, sizeof head.doing);
    return ST_OK;
}

enum status wire_fail_pack(const struct wire_fail *fail, struct buf *out)
{
    struct fail_head head = {.rank = fail->rank, .status = fail->status, .lost = fail->lost};

    memcpy(head.message, fail->message, sizeof head.message);
    return buf_put(out, &head, sizeof head);
}

enum status wire_fail_unpack(const void *payload, size_t n_bytes, struct wire_fail *out_fail)
{
    struct fail_head head;

    if (n_bytes != sizeof head)
        return refuse("FAIL", n_bytes);
    memcpy(&head, payload, sizeof head);
    if (head.rank < 0 || head.status <= ST_OK || head.status >= ST_COUNT ||
        head.message[sizeof head.message - 1] != '\0')
        return refuse("FAIL", n_bytes);
    *out_fail =
        (struct wire_fail){.rank = head.rank, .status = head.status, .lost = head.lost != 0};
    memcpy(out_fail->message, head.message, sizeof head.message);
    return ST_OK;
}
