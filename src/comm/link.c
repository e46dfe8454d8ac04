/*
 * link.c - the kinds of link, and the choice between them for a pair of ranks.
 *
 * What a kind does is in link_out.c and link_in.c.
 */
#include "comm/comm.h"

static const char *const names[] = {"self", "shm", "mpi", NULL}; /* by enum link_kind */

const char *link_kind_name(enum link_kind kind)
{
    return (unsigned)kind < LINK_KIND_COUNT ? names[kind] : "no link";
}

const char *const *link_names(void)
{
    return names;
}

enum status link_choose(const char *name, bool same_rank, bool shared_space,
                        enum link_kind *out_kind, const char **out_why, struct row_error *err)
{
    const bool any = strcmp(name, "auto") == 0;

    if (same_rank) { /* whatever was asked for: there is nothing to move */
        *out_kind = LINK_SELF;
        *out_why = "same rank";
    } else if (any && shared_space) {
        *out_kind = LINK_SHM;
        *out_why = "same node, shared KV memory";
    } else if (any) {
        *out_kind = LINK_MPI;
        *out_why = "no shared KV memory";
    } else if (strcmp(name, "shm") == 0) {
        if (!shared_space)
            return row_error_set(err, "link = \"shm\": this pair of ranks has no KV memory in "
                                      "common; use link = \"auto\" or \"mpi\"");
        *out_kind = LINK_SHM;
        *out_why = "asked for";
    } else if (strcmp(name, "mpi") == 0) {
        *out_kind = LINK_MPI;
        *out_why = "asked for";
    } else if (strcmp(name, "self") == 0) {
        return row_error_set(err, "link = \"self\" needs prefill and decode on one rank; use "
                                  "link = \"auto\"");
    } else {
        return row_error_set(err, "link = \"%s\" is not in this build: it has auto, self, shm, mpi",
                             name);
    }
    return ST_OK;
}
