/*
 * embed.c - both ends of the links that carry embeddings, from encoder to prefill.
 *
 * The coordinator has set places aside in prefill's memory before it asks for an image, so nothing
 * here ever waits for room.  A message decides where bytes go, so it is not believed.
 */
#include <assert.h>

#include "comm/comm.h"

struct embed_out {
    struct embed_out_args args;
    enum link_kind *kinds;      /* [n_prefill] owned */
    struct embed_space *spaces; /* [n_prefill] owned */
    struct buf payload;         /* scratch */
    uint64_t n_bytes;
};

enum status embed_out_create(const struct embed_out_args *args, struct embed_out **out_link)
{
    const size_t n = (size_t)args->n_prefill;
    struct embed_out *link = host_zalloc(sizeof *link);

    if (link == NULL)
        return ST_NOMEM;
    link->args = *args;
    link->kinds = host_alloc(n * sizeof *link->kinds);
    link->spaces = host_alloc(n * sizeof *link->spaces);
    if (link->kinds == NULL || link->spaces == NULL) {
        embed_out_destroy(link);
        return ST_NOMEM;
    }
    memcpy(link->kinds, args->kinds, n * sizeof *link->kinds);
    memcpy(link->spaces, args->spaces, n * sizeof *link->spaces);
    *out_link = link;
    return ST_OK;
}

void embed_out_destroy(struct embed_out *link)
{
    if (link == NULL)
        return;
    buf_free(&link->payload);
    host_free(link->spaces);
    host_free(link->kinds);
    host_free(link);
}

/* Whether places are in prefill's memory. */
static bool fits(const struct embed_space *space, int32_t at, int32_t n_rows)
{
    return at >= 0 && n_rows > 0 && at < space->n_places && n_rows <= space->n_places - at;
}

static enum status refuse(const struct embed_space *space, int32_t slot, int32_t number, int32_t at,
                          int32_t n_rows)
{
    log_error(
        "image %d of the row in slot %d: %d embeddings at %d do not lie in the %d places that "
        "prefill has: the stages do not run one job",
        number, slot, n_rows, at, space->n_places);
    return ST_COMM;
}

static enum status send(struct embed_out *link, const struct wire_encode *encode,
                        const struct wire_embed *embed)
{
    enum status st;

    buf_reset(&link->payload);
    TRY(wire_embed_pack(embed, &link->payload), err);
    st = world_send(link->args.world, MSG_EMBED, (struct address){ROLE_ENCODER, link->args.index},
                    (struct address){ROLE_PREFILL, encode->prefill}, link->payload.data,
                    link->payload.n_bytes);
err:
    return st;
}

enum status embed_out_send(struct embed_out *link, const struct wire_encode *encode,
                           const float *rows, double computed_s, struct transfer **out_transfer)
{
    enum status st;
    struct world *world = link->args.world;

    assert(encode->prefill >= 0 && encode->prefill < link->args.n_prefill);
    const struct embed_space *space = &link->spaces[encode->prefill];
    const size_t row_bytes = (size_t)space->D * sizeof *rows;
    const size_t n_bytes = (size_t)encode->n_rows * row_bytes;
    const struct wire_embed embed = {
        .slot = encode->slot,
        .number = encode->number,
        .at = encode->at,
        .n_rows = encode->n_rows,
        .computed_s = computed_s,
    };

    if (!fits(space, encode->at, encode->n_rows))
        return refuse(space, encode->slot, encode->number, encode->at, encode->n_rows);
    *out_transfer = NULL;
    if (link->kinds[encode->prefill] != LINK_MPI) {
        memcpy(space->base + (size_t)encode->at * (size_t)space->D, rows, n_bytes);
        return send(link, encode, &embed);
    }
    const struct byte_span span = {(void *)(uintptr_t)rows, n_bytes};
    TRY(send(link, encode, &embed), err);
    TRY(world_put(world, plan_layout_rank(world_layout(world), ROLE_PREFILL, encode->prefill),
                  encode->slot, &span, 1, out_transfer),
        err);
    link->n_bytes += n_bytes;
err:
    return st;
}

enum status embed_out_refuse(struct embed_out *link, const struct wire_encode *encode,
                             const struct row_error *error)
{
    const struct wire_embed embed = {
        .slot = encode->slot,
        .number = encode->number,
        .at = encode->at,
        .n_rows = encode->n_rows,
        .failed = true,
        .error = *error,
        .computed_s = world_now_s(link->args.world),
    };

    return send(link, encode, &embed);
}

uint64_t embed_out_bytes(const struct embed_out *link)
{
    return link->n_bytes;
}

enum status embed_in_take(struct world *world, enum link_kind kind, const struct embed_space *space,
                          int index, const struct wire_embed *embed, struct transfer **out_transfer)
{
    const size_t row_bytes = (size_t)space->D * sizeof *space->base;

    *out_transfer = NULL;
    if (!fits(space, embed->at, embed->n_rows))
        return refuse(space, embed->slot, embed->number, embed->at, embed->n_rows);
    if (kind != LINK_MPI || embed->failed)
        return ST_OK;
    const struct byte_span span = {space->base + (size_t)embed->at * (size_t)space->D,
                                   (size_t)embed->n_rows * row_bytes};

    return world_take(world, plan_layout_rank(world_layout(world), ROLE_ENCODER, index),
                      embed->slot, &span, 1, out_transfer);
}
