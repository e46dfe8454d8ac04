/*
 * hash.c - XXH64, whole and in pieces.  The only file that knows xxHash.
 */
#include <assert.h>
#define XXH_STATIC_LINKING_ONLY /* the state's definition, so that callers can hold one by value   \
                                 */
#include <xxhash.h>

#include "base/base.h"

static_assert(sizeof(XXH64_state_t) <= sizeof(struct hash_state), "hash_state is too small");

uint64_t hash_bytes(const void *data, size_t n_bytes, uint64_t seed)
{
    return XXH64(data, n_bytes, seed);
}

static XXH64_state_t *state_of(struct hash_state *state)
{
    return (XXH64_state_t *)(void *)state->opaque;
}

void hash_begin(struct hash_state *state, uint64_t seed)
{
    memset(state, 0, sizeof *state);
    XXH64_reset(state_of(state), seed);
}

void hash_add(struct hash_state *state, const void *data, size_t n_bytes)
{
    if (n_bytes > 0)
        XXH64_update(state_of(state), data, n_bytes);
}

uint64_t hash_end(const struct hash_state *state)
{
    return XXH64_digest((const XXH64_state_t *)(const void *)state->opaque);
}
