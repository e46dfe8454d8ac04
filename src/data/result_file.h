/*
 * result_file.h - private to src/data: writing, verifying and reading RESULTS itself.
 *
 * The journal merges through the writer; export, inspect and a continued run read.  Public side:
 * data.h.  File format: FORMATS.md.
 */
#ifndef EPIDOTE_DATA_RESULT_FILE_H
#define EPIDOTE_DATA_RESULT_FILE_H

#include "data/data.h"

/* result_same_answer - whether two rows are equal bit for bit in all but their timing.  Local. */
bool result_same_answer(const struct result_row *a, const struct result_row *b);

/* ---- writing (result_writer.c) -------------------------------------------------------------- */

struct result_writer;

struct result_writer_args {
    const char *path;               /* RESULTS.tmp; one that is there is replaced */
    const struct result_meta *meta; /* borrowed until result_writer_close */
    struct prompts *prompts;        /* gives the ids; borrowed likewise; NULL = it does not */
    bool gives_ids;                 /* the rows come with their ids instead */
    uint64_t rows_begin, rows_end;  /* global, end exclusive */
    bool has_logprobs;              /* any row has */
    int n_top;                      /* the largest of all rows */
};

/*
 * result_writer_create - make the file with all its columns, empty.
 * Returns ST_OK, ST_IO (logged with path and reason), ST_NOMEM.
 */
enum status result_writer_create(const struct result_writer_args *args,
                                 struct result_writer **out_writer);
/*
 * result_writer_append - add the next n_rows rows to every column.
 *   rows  in  in order of row number, without a gap to what was appended before (else ST_FORMAT)
 *   ids   in  [n_rows] texts of UTF-8 if args.gives_ids, else NULL
 * Everything in rows is written or copied when this returns; a column keeps at most about 2 MiB.
 * Returns ST_OK, ST_IO, ST_FORMAT, ST_NOMEM.
 */
enum status result_writer_append(struct result_writer *writer, const struct result_row *rows,
                                 const char *const *ids, uint64_t n_rows);
/*
 * result_writer_finish - check that all rows are there, write the attributes, flush and close the
 *   file; only result_writer_close may follow.
 *   out_digest  out  what data_digest must find in the file
 * Returns ST_OK, ST_IO, ST_FORMAT, ST_NOMEM.
 */
enum status result_writer_finish(struct result_writer *writer, uint64_t *out_digest);
/* result_writer_close - free; removes the file unless result_writer_finish succeeded.  Accepts
 * NULL. */
void result_writer_close(struct result_writer *writer);

/* result_file_verify - read path again from the start: schema, row range, lengths, offsets and
 * content must be those that were written.  Returns ST_OK, ST_IO, ST_FORMAT (logged), ST_NOMEM. */
enum status result_file_verify(const char *path, uint64_t rows_begin, uint64_t rows_end,
                               uint64_t digest);

/* ---- reading (result_file.c) ---------------------------------------------------------------- */

enum { RESULT_TIMING_COUNT = 6 };
/* "queue_s", ...: columns of /timing, in the order of the fields of struct row_timing. */
extern const char *const result_timing_names[RESULT_TIMING_COUNT];

struct result_file;

struct result_file_info {
    uint64_t rows_begin, rows_end, n_failed;
    bool has_id, has_logprobs, has_timing;
    int n_top;
    const char *program, *job, *identity, *numerics, *summary; /* views; "" where it does not say */
    uint64_t model_fingerprint, prompts_fingerprint, seed;
};

/* result_file_is_one - whether the HDF5 file at path says that it is a result file.
 * Returns ST_OK, ST_IO, ST_FORMAT (not HDF5; logged). */
enum status result_file_is_one(const char *path, bool *out_is_results);
/* result_file_open - read-only, without HDF5 file locking; columns are checked as those of a prompt
 * file are.  Returns ST_OK, ST_IO, ST_FORMAT, ST_NOMEM. */
enum status result_file_open(const char *path, struct result_file **out_file);
void result_file_close(struct result_file *file);
const struct result_file_info *result_file_info(const struct result_file *file);
/*
 * result_file_read - rows [first, first + n_rows), counted from 0 at the file's first row.
 *   arena     in   owns all texts and numbers afterwards
 *   out_rows  out  [n_rows]; .row is global
 *   out_ids   out  [n_rows] or NULL; NUL-terminated, NULL where the file has no ids
 * Returns ST_OK, ST_IO, ST_FORMAT, ST_NOMEM.
 */
enum status result_file_read(struct result_file *file, uint64_t first, uint64_t n_rows,
                             struct arena *arena, struct result_row *out_rows,
                             const char **out_ids);

/* result_file_each - call fn with all rows in order, some at a time (result_each.c).
 *   fn  in  rows and ids [n_rows], as result_file_read gives them, are valid during the call
 * Returns what fn returned if not ST_OK, or as result_file_read. */
typedef enum status (*result_rows_fn)(void *arg, const struct result_row *rows,
                                      const char *const *ids, uint64_t n_rows);
enum status result_file_each(struct result_file *file, result_rows_fn fn, void *arg);

/* result_file_digest - what data_digest says.  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status result_file_digest(struct result_file *file, uint64_t *out_digest);

#endif
