/*
 * prompts.h - private to src/data: what the rest of the room reads of a prompt file.
 */
#ifndef EPIDOTE_DATA_PROMPTS_H
#define EPIDOTE_DATA_PROMPTS_H

#include "data/data.h"

/* prompts_read_ids - the id column alone, as it stands in the file: it may hold bytes that are not
 * UTF-8.  Only for files that have it (assert).  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status prompts_read_ids(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                             struct arena *arena, const char **out_ids, size_t *out_bytes);

#endif
