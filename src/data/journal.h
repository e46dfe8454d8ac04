/*
 * journal.h - private to src/data: log files, the index of finished rows, lock and merge.
 *
 *   RESULTS.parts/<attempt>.log   journal_log.c   header, then records
 *   RESULTS.lock                  lock.c          who works on RESULTS
 *   RESULTS.tmp -> RESULTS        merge.c
 *   RESULTS.status                status.c
 *
 * Public side: data.h.  Formats: FORMATS.md.
 */
#ifndef EPIDOTE_DATA_JOURNAL_H
#define EPIDOTE_DATA_JOURNAL_H

#include <sys/types.h>

#include "data/data.h"

/* ---- one log file (journal_log.c) ------------------------------------------------------------ */

/* What the head of a log says. */
struct journal_log_head {
    uint64_t attempt;
    uint64_t rows_begin, rows_end; /* global, end exclusive */
    uint64_t n_bytes;              /* of the head: where the first record begins */
    uint64_t hash;                 /* of the head; seeds the checksum of every record of this log */
    const char *identity;          /* view */
};

struct journal_record {
    const void *payload; /* view, 8-byte aligned, until the next call; result_pack's bytes */
    uint32_t n_bytes;
    uint64_t row;    /* global */
    uint64_t offset; /* of the record in its file */
};

/* journal_log_head_pack - head in the form of the file; fills in n_bytes and hash.
 * Returns ST_OK, ST_NOMEM. */
enum status journal_log_head_pack(struct journal_log_head *head, struct buf *out);
/* journal_log_record_pack - one record in the form of the file.
 * Returns ST_OK, ST_FORMAT (payload too long; logged), ST_NOMEM. */
enum status journal_log_record_pack(uint64_t head_hash, uint64_t row, const void *payload,
                                    size_t n_bytes, struct buf *out);
/* journal_log_record_bytes - bytes that a record with a payload of n_bytes takes in its file. */
uint64_t journal_log_record_bytes(uint32_t n_bytes);
/* journal_log_record_unpack - look at the record at data, of which n_bytes are there.
 * Returns ST_OK, ST_END (cut off: not all of it is there), ST_FORMAT (not a record, or a wrong
 * checksum; not logged).  out_record->offset is left to the caller. */
enum status journal_log_record_unpack(uint64_t head_hash, const void *data, size_t n_bytes,
                                      struct journal_record *out_record);

/* Reads a log from start to end. */
struct journal_log;
/*
 * journal_log_open - open a log and read its head.  Bytes that are added later are not seen.
 * Returns ST_OK, ST_END (the head is cut off, or damaged, then with a warning: the log holds
 * nothing), ST_IO, ST_FORMAT (not a log), ST_UNSUPPORTED (another version), ST_NOMEM.
 */
enum status journal_log_open(const char *path, struct journal_log **out_log);
void journal_log_close(struct journal_log *log);
const struct journal_log_head *journal_log_head(const struct journal_log *log);
/* journal_log_next - the next whole record.  Returns ST_OK, ST_END, ST_IO, ST_NOMEM. */
enum status journal_log_next(struct journal_log *log, struct journal_record *out_record);

/* What stands after the last whole record, once journal_log_next has said ST_END. */
struct journal_log_tail {
    uint64_t offset, n_bytes; /* n_bytes 0: the log is whole */
    bool damaged;             /* not a record cut off by the end of the file, but a wrong one */
};
struct journal_log_tail journal_log_tail(const struct journal_log *log);

/* ---- lock (lock.c) --------------------------------------------------------------------------- */

/* Who holds, or held, a lock. */
struct lock_owner {
    char host[256], job[64], since[32], command[512];
    int64_t pid;
    uint64_t started; /* of the process, in clock ticks since boot */
    int64_t restart;  /* how often Slurm had put the job into the queue again by then */
    bool flock;       /* taken with flock(2); else only by what the file says */
};

enum lock_mode {
    LOCK_FLOCK,  /* flock(2); falls back to LOCK_CONTENT where the file system has none */
    LOCK_CONTENT /* by what the file says alone */
};

struct lock;
/*
 * lock_take - make RESULTS.lock ours.
 *   A living owner is refused with host, pid, start and job; a dead one's lock is taken over with a
 *   log line.
 * Returns ST_OK, ST_CONFIG (held), ST_IO (cannot be written), ST_NOMEM.
 */
enum status lock_take(const char *path, enum lock_mode mode, struct lock **out_lock);
/* lock_release - remove the file and let go.  Accepts NULL. */
void lock_release(struct lock *lock);

enum lock_state { LOCK_FREE, LOCK_HELD, LOCK_DEAD };
/* lock_look - who holds the lock, without taking it.  out_owner is filled unless LOCK_FREE. */
enum lock_state lock_look(const char *path, struct lock_owner *out_owner);

/* ---- journal (journal.c) --------------------------------------------------------------------- */

/* Where a finished row is: 16 bytes a row, in a mapped scratch file. */
struct journal_place {
    uint64_t offset;  /* of the record in its log; of the row in RESULTS */
    uint32_t n_bytes; /* of the payload; 0 in RESULTS */
    uint32_t where;   /* PLACE_ flags and source; 0 = the row is not finished */
};
#define PLACE_FAILED (1u << 31)       /* ended as an error */
#define PLACE_REDO (1u << 30)         /* failed, and this run computes it again: not done */
#define PLACE_SOURCE (PLACE_REDO - 1) /* 1 + number of the log, or: */
#define PLACE_RESULTS PLACE_SOURCE    /* in RESULTS itself */

struct journal_file {
    char *path; /* owned */
    uint64_t attempt, hash;
};

struct journal {
    char *results, *parts, *temp; /* owned paths: RESULTS, RESULTS.parts, RESULTS.tmp */
    char *identity;               /* owned */
    uint64_t rows_begin, rows_end;
    bool retry_errors;
    bool look_only;    /* no lock, nothing is changed */
    bool any_rows;     /* identity and rows are those that are found */
    bool complete;     /* RESULTS is what this job would write */
    bool has_results;  /* RESULTS is there, with this identity and some or all of these rows */
    bool broken;       /* a write went wrong: nothing more is accepted */
    bool has_logprobs; /* some row has */
    int n_top;         /* largest of all rows */
    struct lock *lock; /* owned; NULL if look_only */
    struct journal_place *places; /* [n_rows], mapped */
    size_t places_bytes;
    struct journal_file *files; /* owned [n_files], by attempt */
    int n_files;
    struct journal_counts counts;

    int fd;               /* this attempt's log; -1 until the first row */
    uint64_t end_bytes;   /* of whole records in it */
    uint64_t dirty_bytes; /* written since the last sync */
    double synced_s;      /* when that was */
    struct buf record;    /* scratch */
};

/* identity_differences - each line that differs between two identities, as text: "temperature: ours
 * 0.5, theirs 0; ...", appended.  Returns ST_OK, ST_NOMEM. */
enum status identity_differences(const char *ours, const char *theirs, struct buf *out);
/*
 * journal_look - what is there, whatever job it belongs to: identity and rows are taken from the
 *   logs and RESULTS.  Takes no lock, changes nothing; for status, export --partial and inspect.
 * Returns ST_OK, ST_END (nothing there; not logged), ST_IO, ST_FORMAT, ST_NOMEM.
 */
enum status journal_look(const char *results_path, struct journal **out_journal);

/* journal_sync_if_due - journal_sync if 64 MiB or 30 s have gone by since the last. */
enum status journal_sync_if_due(struct journal *journal);

/* journal_look_fill (journal_look.c) - places and counts from RESULTS and the logs.
 * Returns ST_OK, ST_END (nothing there and no identity given), ST_CONFIG, ST_IO, ST_FORMAT,
 * ST_UNSUPPORTED, ST_NOMEM. */
enum status journal_look_fill(struct journal *journal);

static inline uint64_t journal_n_rows(const struct journal *journal)
{
    return journal->rows_end - journal->rows_begin;
}
/* journal_add_file - one more log, by its attempt.  Returns ST_OK, ST_NOMEM. */
enum status journal_add_file(struct journal *journal, uint64_t attempt);
/* journal_map_places - an empty place for every row.  Returns ST_OK, ST_IO, ST_CONFIG, ST_NOMEM. */
enum status journal_map_places(struct journal *journal);
/* journal_set_place - the row is finished, and this is where; counts follow. */
void journal_set_place(struct journal *journal, uint64_t row, struct journal_place place);
/* journal_note_columns - the columns that this row has will be needed. */
void journal_note_columns(struct journal *journal, const struct result_row *row);

/* ---- reading rows back (journal_rows.c) ------------------------------------------------------ */

/* journal_read_record - the record at `place` of a log that is open as fd, checked again.
 *   memory   in   [journal_log_record_bytes(place->n_bytes)], 8-byte aligned; out_row views it
 * Returns ST_OK, ST_IO, ST_FORMAT (it has changed on disk). */
enum status journal_read_record(const struct journal_file *file, int fd,
                                const struct journal_place *place, uint64_t row, void *memory,
                                struct result_row *out_row);
/*
 * journal_rows - call fn with the finished rows in order of their number, some at a time.
 *   fn  in  rows [n_rows] and what they point to are valid during the call
 * Returns what fn returned if not ST_OK, ST_IO, ST_FORMAT (a record changed on disk), ST_NOMEM.
 */
typedef enum status (*journal_rows_fn)(void *arg, const struct result_row *rows, uint64_t n_rows);
enum status journal_rows(struct journal *journal, journal_rows_fn fn, void *arg);

/* journal_remove_logs - after RESULTS holds all they say.  Returns ST_OK, ST_IO. */
enum status journal_remove_logs(struct journal *journal);

/* ---- merge (merge.c) ------------------------------------------------------------------------- */

/* The steps of journal_merge; a process may end after any of them. */
enum merge_step {
    MERGE_WRITTEN,  /* RESULTS.tmp is closed */
    MERGE_VERIFIED, /* read again */
    MERGE_SYNCED,
    MERGE_RENAMED, /* it is RESULTS, and its directory is synced */
    MERGE_CLEANED, /* the logs are gone */
    MERGE_COUNT
};
/* journal_merge_until - as journal_merge, up to and with step `last`; for tests.
 * Returns ST_STOPPED when it ended before MERGE_CLEANED. */
enum status journal_merge_until(struct journal *journal, struct prompts *prompts,
                                const struct result_meta *meta, enum merge_step last);

#endif
