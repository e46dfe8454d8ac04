/*
 * data.h - prompt file, journal, result file, their in- and export, and the I/O thread.
 *
 * HDF5 is used in this room only.  The loop never calls what blocks: it talks to struct io.
 * File formats: src/data/FORMATS.md.
 */
#ifndef EPIDOTE_DATA_H
#define EPIDOTE_DATA_H

#include "base/base.h"

/* ---- prompt file (prompts.c prompts_rows.c) --------------------------------------------------- */

/* One row as read; strings are NUL-terminated and may hold anything a file may hold. */
struct prompt_row {
    uint64_t row; /* global row number */
    const char *prompt, *messages, *id,
        *stop; /* NULL = column absent or empty source; stop, messages: JSON text */
    size_t prompt_bytes, messages_bytes, id_bytes, stop_bytes;
    const int32_t *tokens; /* [n_tokens] or NULL */
    int64_t n_tokens;
    const uint64_t *image_refs; /* [n_image_refs] numbers of the images of this row, in order; NULL
                                   if there are none or one is wrong */
    int64_t n_image_refs;
    bool has_max_tokens, has_temperature, has_top_p, has_top_k, has_seed;
    int64_t max_tokens, top_k;
    double temperature, top_p;
    uint64_t seed;
    struct row_error error; /* text[0] != 0: this row could not be read; serve it as an error row */
};

struct prompts_info {
    uint64_t n_rows;
    uint64_t n_images;     /* 0 = none in the file */
    uint64_t n_image_refs; /* of all rows */
    bool has_prompt, has_messages, has_tokens, has_id;
    bool has_max_tokens, has_temperature, has_top_p, has_top_k, has_seed, has_stop;
};

struct prompts;

/*
 * prompts_open - open a prompt file read-only, without HDF5 file locking, and check its columns.
 *   An unknown schema, no prompt source, columns of different lengths, offsets that do not ascend
 * or point past `values`, wrong types, images without image_ref or the other way round, and columns
 * of a later version (continuation) are refused with file, column and remedy. Local.  Returns
 * ST_OK, ST_IO, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM.
 */
enum status prompts_open(const char *path, struct prompts **out_prompts);
void prompts_close(struct prompts *prompts);
const struct prompts_info *prompts_info(const struct prompts *prompts);

/* prompts_fingerprint - hash over the content of all columns that this version reads, in the order
 * of their names: files of equal content have equal fingerprints, however they are chunked and
 * whatever the width of their types.  Reads the whole file in windows.  Returns ST_OK, ST_IO,
 * ST_NOMEM. */
enum status prompts_fingerprint(struct prompts *prompts, uint64_t *out_hash);
/* prompts_glimpse - a hash of the number of rows, the file's size and its first and last MiB: not
 * what is in it, but enough to see that two ranks look at two files.  Local. */
uint64_t prompts_glimpse(const struct prompts *prompts);

/*
 * prompts_read - rows [first, first + n_rows) into out_rows; strings and tokens live in arena.
 *   A row that cannot be decoded gets row.error; the others are not touched by it.  So does a row
 * with no prompt or with several, and one whose settings are out of range (its fields are then not
 * to be used, but for row and id).  Memory is that of the rows asked for: read few at a time.
 * The range must be inside the file (assert).
 * Returns ST_OK, ST_IO (the file vanished or is damaged; logged), ST_NOMEM.
 */
enum status prompts_read(struct prompts *prompts, uint64_t first, uint64_t n_rows,
                         struct arena *arena, struct prompt_row *out_rows);

/* ---- images (picture.c picture_jpeg.c picture_png.c images.c image_index.c) ----------------- */

/* Pixels as they are to be looked at, those of Pillow's convert("RGB"): turned as EXIF says, grey,
 * palettes and CMYK as RGB, 16 bits as 8 by leaving out the lower ones, alpha left out, too: pixels
 * that would not be seen are as they stand in the file. */
struct picture {
    int width, height;
    uint8_t *rgb; /* [height, width, 3] owned; host_free */
};
enum { PICTURE_MAX_EDGE = 65535, PICTURE_MAX_PIXELS = 64 << 20 };
/* picture_peek - width and height from the header of a JPEG or PNG file in memory.
 * picture_decode - its pixels.  Both look at the sizes before they set memory aside.
 * Local.  Returns ST_OK, ST_ROW (not such a file, damaged, cut off, too large: err says what),
 * ST_NOMEM. */
enum status picture_peek(const uint8_t *data, size_t n_bytes, int *out_width, int *out_height,
                         struct row_error *err);
enum status picture_decode(const uint8_t *data, size_t n_bytes, struct picture *out_picture,
                           struct row_error *err);
/* picture_write_png - 8-bit RGB.  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status picture_write_png(const char *path, const struct picture *picture);

/* prompts_read_image - image number `image` of a prompt file, decoded.  May be called beside
 * prompts_read, from another thread: they take turns at the file.
 * Returns ST_OK, ST_ROW (that image cannot be used: err says why, not which), ST_IO, ST_NOMEM. */
enum status prompts_read_image(struct prompts *prompts, uint64_t image, struct picture *out_picture,
                               struct row_error *err);

/*
 * The images that some rows use, before any is decoded: which are the same, how large they are,
 * when each is used next.  Kept in unlinked scratch files in TMPDIR, 32 bytes an image of the file
 * and 8 bytes a use; bad ones have their reasons in memory, a MiB at most.
 */
struct image_index;
/* image_index_make - read every image that rows [rows_begin, rows_end) use, but those that skip()
 * says are done, once.  Rows whose image_ref is wrong use none.  Returns ST_OK, ST_IO, ST_NOMEM. */
struct image_index_args {
    struct prompts *prompts; /* borrowed until image_index_make returns */
    uint64_t rows_begin, rows_end;
    bool (*skip)(const void *arg, uint64_t row); /* NULL = none */
    const void *arg;
};
enum status image_index_make(const struct image_index_args *args, struct image_index **out_index);
void image_index_destroy(struct image_index *index);
struct image_facts {
    uint64_t same_as;  /* the lowest number of an image with the same content, of those that the
                          rows use; often its own */
    int width, height; /* as in struct picture */
};
/* image_index_facts - Returns ST_OK, ST_ROW (its header says that it cannot be used, or none of the
 * rows uses it: err). */
enum status image_index_facts(const struct image_index *index, uint64_t image,
                              struct image_facts *out_facts, struct row_error *err);
/* image_index_next_use - the lowest row above `row` that uses an image of the same content,
 * UINT64_MAX = none. */
uint64_t image_index_next_use(const struct image_index *index, uint64_t image, uint64_t row);
struct image_index_counts {
    uint64_t n_uses, n_images, n_distinct; /* used at all; of different content */
    uint64_t max_row_uses;                 /* images of one row, at most */
};
void image_index_counts(const struct image_index *index, struct image_index_counts *out_counts);

/* ---- one finished row ----------------------------------------------------------------------- */

enum finish_reason { FINISH_STOP, FINISH_LENGTH, FINISH_SCORED, FINISH_ERROR, FINISH_COUNT };
const char *finish_reason_name(enum finish_reason reason); /* "stop", "length", "scored", "error" */

/* Seconds, per row, in result files under /timing; not part of a digest. */
struct row_timing {
    float queue_s, encode_s, prefill_s, exposed_transfer_s, first_token_s, decode_s;
};

struct result_row {
    uint64_t row; /* global */
    enum finish_reason reason;
    const char *text; /* text_bytes of UTF-8, no NUL inside */
    size_t text_bytes;
    const char *error; /* error_bytes; empty unless reason is FINISH_ERROR */
    size_t error_bytes;
    const int32_t *tokens; /* [n_tokens], the stop token included when one was sampled */
    int n_tokens, prompt_len;
    bool has_logprobs; /* logprobs [n_tokens] is there */
    int n_top;         /* top_ids, top_logprobs [n_tokens, n_top]; 0 = none */
    const float *logprobs;
    const int32_t *top_ids;
    const float *top_logprobs;
    struct row_timing timing;
};

/* result_pack - append the journal's and the wire's form of a row.  Returns ST_OK, ST_NOMEM. */
enum status result_pack(const struct result_row *row, struct buf *out);
/* result_unpack - views into data (which must be 8-byte aligned).  Every count is checked against
 * n_bytes.  Returns ST_OK, ST_FORMAT (not logged: the caller knows the place). */
enum status result_unpack(const void *data, size_t n_bytes, struct result_row *out_row);

/* ---- journal (journal.c) -------------------------------------------------------------------- */

/*
 * RESULTS.parts/<attempt>.log holds finished rows as records (bytes, row, payload, xxh64) behind a
 * header with the job's identity.  RESULTS.lock names the owner.  RESULTS.status is what `status`
 * reads.
 */
struct journal;

struct journal_args {
    const char *results_path;
    const char *identity;          /* "name = value\n" lines: options, model, prompts, numerics */
    uint64_t rows_begin, rows_end; /* global, end exclusive: the rows this run serves */
    bool retry_errors;             /* rows that ended as errors are not done, in RESULTS too */
    bool dry;                      /* `check`: look, change nothing, take no lock */
};

struct journal_counts {
    uint64_t n_rows;           /* in range */
    uint64_t n_done, n_failed; /* rows finished in all attempts; failed is part of done */
    uint64_t n_kept;           /* rows found finished when this attempt began */
    uint64_t n_records;        /* records in all logs: rows computed in all */
    uint64_t n_attempts;       /* this one included */
};

/*
 * journal_open - take the lock, look at RESULTS, then at the logs, and know what is done.
 *   Refuses: a lock that is held (says host, pid, start, job id); logs or a RESULTS of another
 *   identity (names each line that differs); a directory that cannot be written.  Takes over the
 *   lock of a dead owner with a log line.  A torn tail is ignored; a row found twice must be equal.
 *   A job that is continued may name more rows than before, never fewer.
 * Local.  Returns ST_OK, ST_CONFIG, ST_IO, ST_FORMAT, ST_NOMEM.
 */
enum status journal_open(const struct journal_args *args, struct journal **out_journal);
/* journal_close - sync, close, release the lock.  Accepts NULL. */
void journal_close(struct journal *journal);
bool journal_row_done(const struct journal *journal, uint64_t row);
/* journal_append - one record of result_pack's bytes; the log file is created at the first call.
 * A short write is undone by truncation, so the log stays whole.  Syncs every 64 MiB or 30 s.
 * Returns ST_OK, ST_IO (disk full and the like; logged with the remedy). */
enum status journal_append(struct journal *journal, const void *payload, size_t n_bytes);
enum status journal_sync(struct journal *journal);
void journal_counts(const struct journal *journal, struct journal_counts *out_counts);
/* journal_complete - whether RESULTS itself was found finished, with this identity and these rows.
 */
bool journal_complete(const struct journal *journal);

/* What the result file says about its run, beside the columns. */
struct result_meta {
    const char *program;  /* name and version */
    const char *job;      /* effective job */
    const char *identity; /* as journal_args */
    const char *numerics;
    uint64_t model_fingerprint, prompts_fingerprint, seed;
    const char *summary; /* figures of the run that came to the end, as text; NULL = none */
};

/*
 * journal_merge - write RESULTS from the logs in input order, windows of 32 MiB; close, reopen and
 *   verify, sync, rename, then remove the logs.
 *   Every row of the range must be there (ST_FORMAT otherwise, naming the first missing).
 * Local; reads ids from prompts.  Returns ST_OK, ST_IO, ST_FORMAT, ST_NOMEM.
 */
enum status journal_merge(struct journal *journal, struct prompts *prompts,
                          const struct result_meta *meta);

/* ---- status file (status.c) ----------------------------------------------------------------- */

enum outcome {
    OUTCOME_DONE = 0,    /* all rows done */
    OUTCOME_ERRORS = 1,  /* all rows done, some as error rows */
    OUTCOME_JOB = 2,     /* the job is wrong */
    OUTCOME_BROKEN = 3,  /* broken off; the same command continues it */
    OUTCOME_MACHINE = 4, /* a peer or the machine failed */
    OUTCOME_RUNNING = 5  /* in status files and reports only */
};
const char *outcome_name(enum outcome outcome);

struct run_status {
    enum outcome outcome;
    uint64_t n_rows, n_done, n_failed, n_attempts;
    uint64_t n_records;           /* rows computed in all attempts */
    double elapsed_s, rows_per_s; /* of this or the last attempt */
    char message[512];            /* why, when it is not OUTCOME_DONE or OUTCOME_RUNNING */
};
/* status_write - replace RESULTS.status atomically (JSON).  Returns ST_OK, ST_IO. */
enum status status_write(const char *results_path, const struct run_status *status);
/* status_read - what RESULTS.status says.  Returns ST_OK, ST_END (no such file), ST_IO, ST_FORMAT.
 */
enum status status_read(const char *results_path, struct run_status *out_status);
/* status_note - the run has ended, and its owner is past telling how: outcome and message, with the
 * counts that RESULTS.status has.  Returns ST_OK, ST_IO. */
enum status status_note(const char *results_path, enum outcome outcome, const char *message);
/* status_refuse - the run ended before the journal was opened: say so in RESULTS.status and keep
 * its counts; nothing where another process owns the results or their folder is not there.
 * Returns ST_OK, ST_IO. */
enum status status_refuse(const char *results_path, enum outcome outcome, const char *message);
/* status_report - what RESULTS, RESULTS.status, the logs and the lock say together, as text for
 * `epidote status`; a run whose owner is dead is OUTCOME_BROKEN.  Takes no lock, changes nothing.
 * Returns ST_OK, ST_IO (nothing there), ST_FORMAT. */
enum status status_report(const char *results_path, struct run_status *out_status,
                          struct buf *out_text);

/* ---- rows in, results out (io.c) ------------------------------------------------------------- */

/* Where the coordinator gets rows and leaves results; no call blocks.  The thread below is the
 * product's; tests bring one that keeps rows in memory. */
struct io;
struct io_ops {
    enum status (*next)(struct io *io, const struct prompt_row **out_row);
    void (*row_free)(struct io *io, const struct prompt_row *row);
    enum status (*put)(struct io *io, const void *payload, size_t n_bytes);
    int (*n_waiting)(struct io *io);
    void (*counts)(struct io *io, struct journal_counts *out_counts);
};
struct io { /* base of every kind */
    const struct io_ops *ops;
};

/* io_next - the next row to serve; *out_row is valid until io_row_free.
 * Returns ST_OK, ST_AGAIN (not read yet), ST_END (no rows left), or the error that ended reading.
 */
enum status io_next(struct io *io, const struct prompt_row **out_row);
void io_row_free(struct io *io, const struct prompt_row *row);

/* io_put - queue one finished row (bytes of result_pack, copied).
 * Returns ST_OK, ST_AGAIN (queue full), or the error that ended writing. */
enum status io_put(struct io *io, const void *payload, size_t n_bytes);
/* io_n_waiting - rows that were put and are not written yet: a kill would lose them.  io_counts -
 * as journal_counts, of what is written. */
int io_n_waiting(struct io *io);
void io_counts(struct io *io, struct journal_counts *out_counts);

/* The I/O thread: two bounded queues; prompt rows that are not done come in, finished rows go out.
 */
struct io_args {
    struct prompts *prompts;  /* borrowed; used by the thread only until io_stop */
    struct journal *journal;  /* likewise */
    const char *results_path; /* for RESULTS.status */
    bool longest_first;       /* within each window of rows */
    size_t queue_bytes;       /* bound of each queue, e.g. 64 MiB; one row may exceed it alone */
    int window_rows;          /* rows read at a time, e.g. 1,024 */
};
enum status io_start(const struct io_args *args, struct io **out_io);
/* io_stop - what io_start made: write what is queued, sync the journal, end the thread.  Accepts
 * NULL.  Returns ST_OK or the first error of the thread. */
enum status io_stop(struct io *base);

/* data_versions - "HDF5 1.10.8, libjpeg-turbo 2.1.5, libpng 1.6.39" into buf.  Returns buf. */
char *data_versions(char *buf, size_t cap);

/* ---- inspect, digest, in- and export -------------------------------------------------------- */

/* results_digest - hash over the content of all result columns but /timing, and of the row range;
 * two result files with equal answers have equal digests.  Also works on a prompt file.
 * Returns ST_OK, ST_IO, ST_FORMAT, ST_UNSUPPORTED (a journal). */
enum status data_digest(const char *path, uint64_t *out_hash);
/* data_inspect - what a prompt file, result file, journal (a .log or a .parts folder) holds, as
 * text. Returns ST_OK, ST_IO, ST_FORMAT; ST_UNSUPPORTED (not logged) when path is none of these. */
enum status data_inspect(const char *path, struct buf *out_text);

struct import_args {
    const char *in_path; /* "-" = standard input */
    const char *out_path;
    bool lines; /* one prompt a line instead of JSONL */
    /* JSON fields; NULL = "prompt", "messages", "prompt_tokens", "id" where present.  Once prompt
     * or messages is named, only named fields are prompts. */
    const char *field_prompt, *field_messages, *field_id;
};
/* data_import - JSONL or lines -> prompt file.  A line that is not valid, or names a picture that
 * cannot be read, is refused with its number.  Overwrites only what an import made.  Streams:
 * memory does not grow with the file, but by 24 bytes for each picture. Returns ST_OK, ST_IO,
 * ST_FORMAT, ST_CONFIG. */
enum status data_import(const struct import_args *args);
/* data_export - result file -> JSONL on out_path ("-" = standard output); partial: finished rows of
 * a run that was broken off, from its logs, in row order.  Returns ST_OK, ST_IO, ST_FORMAT,
 * ST_CONFIG (out_path is the input, no regular file, or an HDF5 file). */
enum status data_export(const char *results_path, const char *out_path, bool partial);

/* What data_join has joined. */
struct join_counts {
    uint64_t rows_begin, rows_end, n_failed;
};
/*
 * data_join - result files of parts of one prompt file, made by one job, become one result file;
 *   its digest is that of a run that did all rows.
 *   paths  in  [n_paths] in any order; each begins where another ends
 *   An out_path that is there is left if it holds just that, else refused.  Streams.
 * Returns ST_OK, ST_CONFIG (rows that are missing or there twice, another job, out_path), ST_IO,
 * ST_FORMAT, ST_NOMEM.
 */
enum status data_join(const char *out_path, const char *const *paths, int n_paths,
                      struct join_counts *out_counts);

/* ---- report (report.c answers.c sample.c oneline.c sheet.c font.c) ---------------------------- */

/* data_results_job - the effective job that a result file keeps, as the text of a job file with a
 * NUL at the end, appended.  Returns ST_OK, ST_IO, ST_FORMAT, ST_NOMEM. */
enum status data_results_job(const char *results_path, struct buf *out_text);

struct report_args {
    const char *results_path;
    const char *prompts_path; /* the prompt file that RESULTS was made of */
    const char *sheet_path;   /* PNG file to write; NULL = none */
    int n_rows;               /* how many rows to show, 0 .. REPORT_MAX_ROWS */
};
enum { REPORT_MAX_ROWS = 1000 };
/*
 * data_report - what the answers of a finished run look like, as text for people: some rows of
 * every class, then how many rows of each class are right by the prompt file's columns `answer` and
 *   `class` (both optional), then the rows that ended as errors.  With sheet_path also up to 24
 * rows that have pictures as one picture. A prompt file with another fingerprint than the one in
 * RESULTS is refused, and so is a sheet_path that is an HDF5 file or no regular file.  Streams:
 * memory does not grow with the rows. Returns ST_OK, ST_IO, ST_FORMAT, ST_CONFIG (sheet_path; no
 * row has a picture), ST_NOMEM.
 */
enum status data_report(const struct report_args *args, struct buf *out_text);

#endif
