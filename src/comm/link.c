/*
 * link.c - the kinds of link, and the choice between them.
 *
 * `self`: prefill and decode share a rank and its pool.  Prefill writes straight into the blocks
 * that decode set aside, so handing a row over is the FIRST message alone and nothing moves.
 */
#include "comm/comm.h"

/* ---- self ----------------------------------------------------------------------------------- */

static enum status self_begin(struct link *link, const struct wire_grant *grant,
                              const int32_t **out_blocks)
{
    (void)link;
    *out_blocks = grant->blocks;
    return ST_OK;
}

static enum status self_layer(struct link *link, int32_t slot, int layer, int pos0, int n_tok)
{
    (void)link, (void)slot, (void)layer, (void)pos0, (void)n_tok;
    return ST_OK;
}

static bool self_arrived(struct link *link, int32_t slot)
{
    (void)link, (void)slot;
    return true;
}

static void self_end(struct link *link, int32_t slot)
{
    (void)link, (void)slot;
}

static void self_close(struct link *link)
{
    host_free(link);
}

static const struct link_ops self_ops = {
    .name = "self",
    .begin = self_begin,
    .layer = self_layer,
    .arrived = self_arrived,
    .end = self_end,
    .close = self_close,
};

/* ---- choice --------------------------------------------------------------------------------- */

const char *const *link_names(void)
{
    static const char *const names[] = {"self", NULL};

    return names;
}

enum status link_open(const struct link_args *args, struct link **out_link)
{
    if (strcmp(args->name, "auto") != 0 && strcmp(args->name, self_ops.name) != 0) {
        log_error("link = \"%s\" is not in this build: it has auto, self", args->name);
        return ST_CONFIG;
    }
    if (!args->same_rank) {
        log_error("link self needs prefill and decode on one rank");
        return ST_CONFIG;
    }
    struct link *link = host_zalloc(sizeof *link);
    if (link == NULL)
        return ST_NOMEM;
    link->ops = &self_ops;
    log_info("link prefill to decode: self, because both share this rank and its KV pool");
    *out_link = link;
    return ST_OK;
}

void link_close(struct link *link)
{
    if (link != NULL)
        link->ops->close(link);
}
