/*
 * room.c - neighbouring places, taken and given back: first fit over a list of free extents.
 *
 * The coordinator mirrors prefill's memory for embeddings with it, an encoder keeps its cache.
 */
#include <assert.h>

#include "plan/plan.h"

void plan_room_init(struct plan_room *room, int32_t n_places, struct plan_extent *memory,
                    int cap_free)
{
    assert(n_places > 0 && cap_free > 0);
    *room = (struct plan_room){.n_places = n_places,
                               .n_free = n_places,
                               .free = memory,
                               .n_extents = 1,
                               .cap_free = cap_free};
    memory[0] = (struct plan_extent){0, n_places};
}

int32_t plan_room_take(struct plan_room *room, int32_t n)
{
    assert(n > 0);
    for (int i = 0; i < room->n_extents; i++) {
        struct plan_extent *extent = &room->free[i];
        const int32_t first = extent->first;

        if (extent->n < n)
            continue;
        extent->first += n;
        extent->n -= n;
        if (extent->n == 0) {
            room->n_extents--;
            memmove(extent, extent + 1, (size_t)(room->n_extents - i) * sizeof *extent);
        }
        room->n_free -= n;
        return first;
    }
    return -1;
}

void plan_room_give(struct plan_room *room, int32_t first, int32_t n)
{
    int i = 0;

    assert(first >= 0 && n > 0 && n <= room->n_places - first);
    while (i < room->n_extents && room->free[i].first < first)
        i++;
    /* Extents i - 1 and i lie before and behind what comes back. */
    struct plan_extent *before = i > 0 ? &room->free[i - 1] : NULL;
    struct plan_extent *behind = i < room->n_extents ? &room->free[i] : NULL;
    assert(before == NULL || before->first + before->n <= first);
    assert(behind == NULL || first + n <= behind->first);
    const bool joins_before = before != NULL && before->first + before->n == first;
    const bool joins_behind = behind != NULL && first + n == behind->first;

    if (joins_before && joins_behind) {
        before->n += n + behind->n;
        room->n_extents--;
        memmove(behind, behind + 1, (size_t)(room->n_extents - i) * sizeof *behind);
    } else if (joins_before) {
        before->n += n;
    } else if (joins_behind) {
        behind->first = first;
        behind->n += n;
    } else {
        assert(room->n_extents < room->cap_free);
        memmove(room->free + i + 1, room->free + i,
                (size_t)(room->n_extents - i) * sizeof *room->free);
        room->free[i] = (struct plan_extent){first, n};
        room->n_extents++;
    }
    room->n_free += n;
}
