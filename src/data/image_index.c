/*
 * image_index.c - the images that some rows use: which are the same, how large they are, when each
 * is used next.
 *
 * Each image is read once, and image_ref three times.  Kept:
 *
 *   facts [n_images]   32 bytes an image: the first with the same content; where its uses end
 *   uses  [n_uses]      8 bytes a use: rows, those of one content together and ascending
 *
 * While it is made there are 24 bytes more for each image, by which equal ones are found.  All of
 * it is in files without a name, mapped: memory that the system can write out and that is gone with
 * the process.  Two images are the same if 128 bits of hash and the number of bytes agree.
 * Callers: the stages, before the first row.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/prompts.h"

enum state { UNUSED, USED, BAD };
enum { MAX_REASONS_BYTES = 1 << 20 };

struct facts {
    uint64_t same_as;
    uint64_t uses_end; /* in uses; they begin where those of the image before end */
    uint32_t reason;   /* in reasons, of a bad one */
    uint16_t width, height;
    uint8_t state; /* enum state */
};

/* What is known of an image's bytes, for sorting. */
struct content {
    uint64_t hash, other_hash;
    uint64_t image;
};

struct scratch {
    void *data; /* [n_bytes] zeros; owned */
    size_t n_bytes;
};

struct image_index {
    uint64_t n_images; /* of the file */
    struct scratch facts_memory, uses_memory;
    struct facts *facts; /* [n_images] */
    uint64_t *uses;      /* [counts.n_uses] */
    struct image_index_counts counts;
    struct buf reasons; /* of bad images, each with a NUL; the first is for those without room */
};

/* ---- memory ---------------------------------------------------------------------------------- */

static enum status scratch_make(uint64_t n, size_t element_bytes, struct scratch *out)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    const size_t n_bytes = (size_t)n * element_bytes;
    void *data = MAP_FAILED;

    if (n > SIZE_MAX / 2 / element_bytes) {
        log_error("images: %llu of them are more than this machine can address",
                  (unsigned long long)n);
        return ST_NOMEM;
    }
    snprintf(path, sizeof path, "%s/epidote-images-XXXXXX", folder != NULL ? folder : "/tmp");
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
        if (posix_fallocate(fd, 0, (off_t)n_bytes) == 0)
            data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (data == MAP_FAILED) /* no room there: then it stays in memory */
        data = pages_map(n_bytes);
    if (data == NULL)
        return ST_NOMEM;
    *out = (struct scratch){data, n_bytes};
    return ST_OK;
}

static void scratch_free(struct scratch *scratch)
{
    pages_unmap(scratch->data, scratch->n_bytes);
}

/* ---- uses ------------------------------------------------------------------------------------ */

typedef void (*use_fn)(struct image_index *index, uint64_t row, uint64_t image);

/* Each use of an image by a row that is to be served, in order of rows. */
static enum status each_use(struct image_index *index, const struct image_index_args *args,
                            use_fn fn)
{
    enum { N_AT_ONCE = 1024 };
    enum status st = ST_NOMEM;
    struct arena *arena = NULL;
    struct prompt_row *rows = host_alloc(N_AT_ONCE * sizeof *rows);

    if (rows == NULL)
        return ST_NOMEM;
    TRY(arena_create(1 << 16, &arena), err);
    for (uint64_t first = args->rows_begin; first < args->rows_end; first += N_AT_ONCE) {
        const uint64_t left = args->rows_end - first, n = left < N_AT_ONCE ? left : N_AT_ONCE;

        arena_reset(arena);
        TRY(prompts_read_image_refs(args->prompts, first, n, arena, rows), err);
        for (uint64_t i = 0; i < n; i++) {
            if (rows[i].image_refs == NULL ||
                (args->skip != NULL && args->skip(args->arg, rows[i].row)))
                continue;
            if (rows[i].n_image_refs > (int64_t)index->counts.max_row_uses)
                index->counts.max_row_uses = (uint64_t)rows[i].n_image_refs;
            for (int64_t k = 0; k < rows[i].n_image_refs; k++)
                fn(index, rows[i].row, rows[i].image_refs[k]);
        }
    }
    st = ST_OK;
err:
    arena_destroy(arena);
    host_free(rows);
    return st;
}

static void mark(struct image_index *index, uint64_t row, uint64_t image)
{
    (void)row;
    index->counts.n_images += index->facts[image].state == UNUSED;
    index->counts.n_uses++;
    index->facts[image].state = USED;
}

/* While uses are counted, uses_end of an image is their number. */
static void count(struct image_index *index, uint64_t row, uint64_t image)
{
    (void)row;
    index->facts[index->facts[image].same_as].uses_end++;
}

/* While they are put in their places, it is where the next one goes. */
static void put(struct image_index *index, uint64_t row, uint64_t image)
{
    index->uses[index->facts[index->facts[image].same_as].uses_end++] = row;
}

static void place_uses(struct image_index *index)
{
    uint64_t place = 0;

    for (uint64_t i = 0; i < index->n_images; i++) {
        const uint64_t n = index->facts[i].uses_end;

        index->facts[i].uses_end = place;
        place += n;
    }
}

/* ---- images ---------------------------------------------------------------------------------- */

static enum status put_reason(struct image_index *index, struct facts *facts, uint64_t image,
                              const struct row_error *err)
{
    enum status st = ST_OK;
    const size_t at = index->reasons.n_bytes;

    facts->state = BAD;
    facts->same_as = image;
    if (at > MAX_REASONS_BYTES)
        return ST_OK;
    TRY(buf_put(&index->reasons, err->text, strlen(err->text) + 1), err);
    facts->reason = (uint32_t)at;
err:
    return st;
}

static int compare_contents(const void *a, const void *b)
{
    const struct content *x = a, *y = b;

    if (x->hash != y->hash)
        return (x->hash > y->hash) - (x->hash < y->hash);
    if (x->other_hash != y->other_hash)
        return (x->other_hash > y->other_hash) - (x->other_hash < y->other_hash);
    return (x->image > y->image) - (x->image < y->image);
}

/* Sizes and hashes; contents [n_images used at most]. */
static enum status read_images(struct image_index *index, struct prompts *prompts,
                               struct content *contents, uint64_t *out_n)
{
    enum status st = ST_OK;
    struct buf bytes = {0};
    uint64_t n = 0;

    for (uint64_t i = 0; i < index->n_images; i++) {
        struct facts *facts = &index->facts[i];
        struct row_error err;
        int width = 0, height = 0;

        if (facts->state == UNUSED)
            continue;
        st = prompts_read_image_bytes(prompts, i, &bytes, &err);
        if (st == ST_OK)
            st = images_peek(&prompts->images, &bytes, &width, &height, &err);
        if (st == ST_ROW) {
            TRY(put_reason(index, facts, i, &err), err);
            continue;
        }
        if (st != ST_OK)
            goto err;
        facts->width = (uint16_t)width;
        facts->height = (uint16_t)height;
        contents[n++] = (struct content){
            .hash = hash_bytes(bytes.data, bytes.n_bytes, 0),
            .other_hash = hash_bytes(bytes.data, bytes.n_bytes, ~(uint64_t)bytes.n_bytes),
            .image = i};
    }
    *out_n = n;
    st = ST_OK;
err:
    buf_free(&bytes);
    return st;
}

static enum status find_same(struct image_index *index, struct prompts *prompts)
{
    enum status st = ST_OK;
    struct scratch memory = {0};
    uint64_t n = 0;

    TRY(scratch_make(index->counts.n_images, sizeof(struct content), &memory), err);
    struct content *contents = memory.data;
    TRY(read_images(index, prompts, contents, &n), err);
    qsort(contents, n, sizeof *contents, compare_contents);
    for (uint64_t k = 0, first = 0; k < n; k++) {
        if (contents[k].hash != contents[first].hash ||
            contents[k].other_hash != contents[first].other_hash)
            first = k;
        index->counts.n_distinct += k == first;
        index->facts[contents[k].image].same_as = contents[first].image;
    }
    index->counts.n_distinct += index->counts.n_images - n; /* bad ones are like no other */
err:
    scratch_free(&memory);
    return st;
}

enum status image_index_make(const struct image_index_args *args, struct image_index **out_index)
{
    static const char no_room[] = "its header cannot be read";
    enum status st = ST_NOMEM;
    struct image_index *index = host_zalloc(sizeof *index);

    if (index == NULL)
        return ST_NOMEM;
    index->n_images = prompts_info(args->prompts)->n_images;
    assert(args->rows_begin <= args->rows_end &&
           args->rows_end <= prompts_info(args->prompts)->n_rows);
    TRY(buf_put(&index->reasons, no_room, sizeof no_room), err);
    TRY(scratch_make(index->n_images, sizeof *index->facts, &index->facts_memory), err);
    index->facts = index->facts_memory.data;
    TRY(each_use(index, args, mark), err);
    TRY(find_same(index, args->prompts), err);
    TRY(scratch_make(index->counts.n_uses, sizeof *index->uses, &index->uses_memory), err);
    index->uses = index->uses_memory.data;
    TRY(each_use(index, args, count), err);
    place_uses(index);
    TRY(each_use(index, args, put), err);
    *out_index = index;
    return ST_OK;

err:
    image_index_destroy(index);
    return st;
}

void image_index_destroy(struct image_index *index)
{
    if (index == NULL)
        return;
    scratch_free(&index->facts_memory);
    scratch_free(&index->uses_memory);
    buf_free(&index->reasons);
    host_free(index);
}

/* ---- questions ------------------------------------------------------------------------------- */

enum status image_index_facts(const struct image_index *index, uint64_t image,
                              struct image_facts *out_facts, struct row_error *err)
{
    assert(image < index->n_images);
    const struct facts *facts = &index->facts[image];

    if (facts->state == UNUSED)
        return row_error_set(err, "image %llu: no row to be served uses it",
                             (unsigned long long)image);
    if (facts->state == BAD)
        return row_error_set(err, "image %llu: %.220s", (unsigned long long)image,
                             (const char *)index->reasons.data + facts->reason);
    *out_facts = (struct image_facts){
        .same_as = facts->same_as, .width = facts->width, .height = facts->height};
    return ST_OK;
}

uint64_t image_index_next_use(const struct image_index *index, uint64_t image, uint64_t row)
{
    assert(image < index->n_images);
    const uint64_t same = index->facts[image].same_as, all_end = index->facts[same].uses_end;
    uint64_t begin = same > 0 ? index->facts[same - 1].uses_end : 0, end = all_end;

    while (begin < end) { /* uses before begin are not above row, those from end on are */
        const uint64_t middle = begin + (end - begin) / 2;

        if (index->uses[middle] > row)
            end = middle;
        else
            begin = middle + 1;
    }
    return begin < all_end ? index->uses[begin] : UINT64_MAX;
}

void image_index_counts(const struct image_index *index, struct image_index_counts *out_counts)
{
    *out_counts = index->counts;
}
