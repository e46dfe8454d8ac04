/*
 * prompts.h - private to src/data: an open prompt file, and what the room alone reads of it.
 */
#ifndef EPIDOTE_DATA_PROMPTS_H
#define EPIDOTE_DATA_PROMPTS_H

#include <pthread.h>

#include "data/column.h"
#include "data/data.h"
#include "data/images.h"

/* The columns, in the order of their names, which is that of the fingerprint. */
enum prompts_column {
    COL_ID,
    COL_IMAGE_REF,
    COL_IMAGES,
    COL_MAX_TOKENS,
    COL_MESSAGES,
    COL_PROMPT,
    COL_PROMPT_TOKENS,
    COL_SEED,
    COL_STOP,
    COL_TEMPERATURE,
    COL_TOP_K,
    COL_TOP_P,
    COL_COUNT
};
struct prompts_column_kind {
    const char *name;
    enum column_type type;
    bool is_source;
};
extern const struct prompts_column_kind prompts_columns[COL_COUNT];

struct prompts {
    char *path;            /* owned */
    pthread_mutex_t mutex; /* whoever reads holds it: HDF5 may not know threads */
    hid_t file;            /* owned */
    struct prompts_info info;
    bool has[COL_COUNT];
    struct column columns[COL_COUNT]; /* all but those below */
    struct ragged tokens, image_refs;
    struct images images;
};

/* prompts_lock - HDF5 is this thread's until prompts_unlock, and prints nothing. */
void prompts_lock(struct prompts *prompts);
void prompts_unlock(struct prompts *prompts);

/* prompts_read_ids - the id column alone, as it stands in the file: it may hold bytes that are not
 * UTF-8.  Only for files that have it (assert).  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status prompts_read_ids(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_ids, size_t *out_bytes);

/* prompts_read_image_refs - as prompts_read, but of each row nothing else. */
enum status prompts_read_image_refs(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                                    struct arena *arena, struct prompt_row *out_rows);

/* prompts_read_image_bytes - what the file stores of an image (images_read). */
enum status prompts_read_image_bytes(struct prompts *prompts, uint64_t image, struct buf *bytes,
                                     struct row_error *err);

#endif
