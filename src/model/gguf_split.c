/*
 * gguf_split.c - the other files of a model that is split over several:
 *
 *   NAME-00001-of-00003.gguf   all keys, and tensors or none     opened by its name
 *   NAME-00002-of-00003.gguf   tensors                           found beside it
 *   NAME-00003-of-00003.gguf   tensors
 *
 * Each says which part it is, of how many (split.no, from 0; split.count), and how many tensors
 * they have together (split.tensors.count): parts of different models are not taken for one.
 * Called by gguf_config.c.
 */
#include <limits.h>
#include <stdio.h>

#include "model/gguf.h"

enum { MAX_PARTS = 4096 };

static const char together[] = "get all parts from one place";

struct split {
    int no, count, n_tensors; /* no from 0; count 0: the file is not split */
};

static enum status read_split(struct gguf *g, struct split *out)
{
    struct split s = {.no = -1, .n_tensors = -1};
    enum status st;

    TRY(gguf_get_int(g, "split.no", &s.no), err);
    TRY(gguf_get_int(g, "split.count", &s.count), err);
    TRY(gguf_get_int(g, "split.tensors.count", &s.n_tensors), err);
    if (s.count > 0 && (s.count > MAX_PARTS || s.no < 0 || s.no >= s.count || s.n_tensors < 0)) {
        log_error("%s: keys split.no, split.count and split.tensors.count are %d, %d and %d, which "
                  "no model of up to %d parts has (-1: absent); the file is damaged, get it again",
                  g->origin, s.no, s.count, s.n_tensors, MAX_PARTS);
        return ST_FORMAT;
    }
    *out = s;
err:
    return st;
}

enum { TAIL_BYTES = 20 }; /* of "-00001-of-00003.gguf" */

static void put_tail(char out[TAIL_BYTES + 13], int no, int count)
{
    snprintf(out, TAIL_BYTES + 13, "-%05d-of-%05d.gguf", no + 1, count);
}

/* The name of part `no`, in arena; NULL: no memory. */
static char *part_path(struct arena *arena, const char *first, int no, int count)
{
    char tail[TAIL_BYTES + 13];
    const size_t n = strlen(first);
    char *path = arena_copy(arena, first, n);

    put_tail(tail, no, count);
    if (path != NULL)
        memcpy(path + n - TAIL_BYTES, tail, TAIL_BYTES);
    return path;
}

/* The first part must be called so that the names of the others follow. */
static enum status check_first(const struct gguf *g, const struct split *split)
{
    char wanted[TAIL_BYTES + 13];
    const size_t n = strlen(g->origin);

    put_tail(wanted, 0, split->count);
    if (split->no != 0) {
        log_error("%s: is part %d of %d of a model (split.no is %d): name part 1, "
                  "...%s, which has the model's keys",
                  g->origin, split->no + 1, split->count, split->no, wanted);
        return ST_FORMAT;
    }
    if (n < TAIL_BYTES || strcmp(g->origin + n - TAIL_BYTES, wanted) != 0) {
        log_error("%s: is part 1 of %d of a model, whose other parts are found by their names: "
                  "this one's must end with %s",
                  g->origin, split->count, wanted);
        return ST_FORMAT;
    }
    return ST_OK;
}

enum status gguf_split_check(struct gguf *g)
{
    struct split split;
    const enum status st = read_split(g, &split);

    return st != ST_OK || split.count <= 1 ? st : check_first(g, &split);
}

/* Keys that a further part may have: about the file or the split.  Others could contradict. */
static enum status check_part_keys(const struct gguf *g)
{
    for (int i = 0; i < g->n_values; i++) {
        const char *key = g->values[i].key;

        if (strncmp(key, "split.", 6) == 0 || strncmp(key, "general.", 8) == 0)
            continue;
        log_error("%s: byte %zu: key %s stands in a part that is not the first; %s", g->origin,
                  g->values[i].at, key, together);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

enum status gguf_split_read(const struct file_map *map, const char *origin, int no, int count,
                            int n_tensors, struct arena *arena, struct tensor_list *list)
{
    struct gguf g = {.origin = origin, .data = map->data, .n_bytes = map->n_bytes, .arena = arena};
    struct split split;
    enum status st;

    TRY(gguf_read_values(&g), err);
    TRY(read_split(&g, &split), err);
    TRY(check_part_keys(&g), err);
    if (split.no != no || split.count != count || split.n_tensors != n_tensors) {
        log_error("%s: says that it is part %d of %d of a model of %d tensors, but its name and "
                  "part 1 ask for part %d of %d of one of %d; %s",
                  origin, split.no + 1, split.count, split.n_tensors, no + 1, count, n_tensors,
                  together);
        return ST_FORMAT;
    }
    TRY(gguf_read_tensors(&g, list), err);
err:
    return st;
}

static enum status add_part(struct model_source *source, const char *path, int no,
                            const struct split *split, struct tensor_list *list)
{
    struct file_map map;
    const enum status st = source_map(source, path, &map);

    if (st == ST_IO)
        log_error("%s: part %d of %d of the model is missing; %s", path, no + 1, split->count,
                  together);
    if (st != ST_OK)
        return st;
    return gguf_split_read(&map, path, no, split->count, split->n_tensors, source->arena, list);
}

enum status gguf_split_load(struct model_source *source, struct gguf *first,
                            struct tensor_list *list)
{
    struct split split;
    enum status st;

    TRY(read_split(first, &split), err);
    if (split.count == 0)
        return ST_OK;
    for (int no = 1; no < split.count; no++) {
        const char *path = part_path(source->arena, first->origin, no, split.count);

        if (path == NULL)
            return ST_NOMEM;
        TRY(add_part(source, path, no, &split, list), err);
    }
    if (list->n_tensors != split.n_tensors) {
        log_error("%s: key split.tensors.count is %d, but its %d parts have %lld tensors; %s",
                  first->origin, split.n_tensors, split.count, (long long)list->n_tensors,
                  together);
        return ST_FORMAT;
    }
err:
    return st;
}
