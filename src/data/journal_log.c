/*
 * journal_log.c - one log file of the journal: head and records as bytes, and a reader.
 *
 *   head     magic[8] version u32, head bytes u32, attempt u64, rows begin u64, end u64,
 *            identity bytes u64, identity, 0..7 zeros, xxh64 of all before
 *   record   mark u32, payload bytes u32, row u64, payload, 0..7 zeros, xxh64 of all before
 *   record   ...
 *
 * All little-endian, everything a multiple of 8 bytes.  A record's checksum is seeded with its
 * log's head, so bytes of another log, left on the disk by a crash, do not pass for a record.
 * The reader trusts nothing it reads.  Knows nothing of rows or of what was done before.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "logs are little-endian");

enum {
    VERSION = 1,
    MARK = 0x57524a45, /* "EJRW" */
    IDENTITY_MAX_BYTES = 1 << 24,
    PAYLOAD_MAX_BYTES = 1 << 30,
    READ_BYTES = 1 << 20,
};

static const char magic[8] = {'E', 'P', 'I', 'D', 'L', 'O', 'G', '\n'};
static const uint8_t zeros[8];

struct head_form {
    char magic[8];
    uint32_t version, n_bytes;
    uint64_t attempt, rows_begin, rows_end, identity_bytes;
};

struct record_form {
    uint32_t mark, n_bytes;
    uint64_t row;
};

_Static_assert(sizeof(struct head_form) == 48 && sizeof(struct record_form) == 16, "no padding");

static uint64_t round_up_8(uint64_t n_bytes)
{
    return (n_bytes + 7) & ~UINT64_C(7);
}

/* ---- as bytes -------------------------------------------------------------------------------- */

enum status journal_log_head_pack(struct journal_log_head *head, struct buf *out)
{
    enum status st = ST_OK;
    const size_t first = out->n_bytes, identity_bytes = strlen(head->identity);
    struct head_form form = {
        .version = VERSION,
        .attempt = head->attempt,
        .rows_begin = head->rows_begin,
        .rows_end = head->rows_end,
        .identity_bytes = identity_bytes,
    };

    if (identity_bytes > IDENTITY_MAX_BYTES) {
        log_error("the job's identity has %zu bytes; at most %d can be kept with its results",
                  identity_bytes, (int)IDENTITY_MAX_BYTES);
        return ST_UNSUPPORTED;
    }
    memcpy(form.magic, magic, sizeof magic);
    form.n_bytes = (uint32_t)(sizeof form + round_up_8(identity_bytes) + 8);
    TRY(buf_put(out, &form, sizeof form), err);
    TRY(buf_put(out, head->identity, identity_bytes), err);
    TRY(buf_put(out, zeros, round_up_8(identity_bytes) - identity_bytes), err);
    head->n_bytes = form.n_bytes;
    head->hash = hash_bytes(out->data + first, out->n_bytes - first, 0);
    TRY(buf_put(out, &head->hash, sizeof head->hash), err);
err:
    return st;
}

uint64_t journal_log_record_bytes(uint32_t n_bytes)
{
    return sizeof(struct record_form) + round_up_8(n_bytes) + 8;
}

enum status journal_log_record_pack(uint64_t head_hash, uint64_t row, const void *payload,
                                    size_t n_bytes, struct buf *out)
{
    enum status st = ST_OK;
    const size_t first = out->n_bytes;
    const struct record_form form = {.mark = MARK, .n_bytes = (uint32_t)n_bytes, .row = row};

    if (n_bytes > PAYLOAD_MAX_BYTES) {
        log_error("row %llu: its result has %zu bytes; at most %d can be kept",
                  (unsigned long long)row, n_bytes, (int)PAYLOAD_MAX_BYTES);
        return ST_FORMAT;
    }
    TRY(buf_put(out, &form, sizeof form), err);
    TRY(buf_put(out, payload, n_bytes), err);
    TRY(buf_put(out, zeros, round_up_8(n_bytes) - n_bytes), err);
    const uint64_t sum = hash_bytes(out->data + first, out->n_bytes - first, head_hash);
    TRY(buf_put(out, &sum, sizeof sum), err);
err:
    return st;
}

enum status journal_log_record_unpack(uint64_t head_hash, const void *data, size_t n_bytes,
                                      struct journal_record *out_record)
{
    struct record_form form;
    uint64_t sum;

    if (n_bytes < sizeof form)
        return ST_END;
    memcpy(&form, data, sizeof form);
    if (form.mark != MARK || form.n_bytes > PAYLOAD_MAX_BYTES)
        return ST_FORMAT;
    const uint64_t record_bytes = journal_log_record_bytes(form.n_bytes);
    if (n_bytes < record_bytes)
        return ST_END;
    memcpy(&sum, (const uint8_t *)data + record_bytes - sizeof sum, sizeof sum);
    if (sum != hash_bytes(data, record_bytes - sizeof sum, head_hash))
        return ST_FORMAT;
    *out_record = (struct journal_record){
        .payload = (const uint8_t *)data + sizeof form,
        .n_bytes = form.n_bytes,
        .row = form.row,
    };
    return ST_OK;
}

/* ---- reader ---------------------------------------------------------------------------------- */

struct journal_log {
    char *path; /* owned */
    int fd;
    uint64_t file_bytes; /* when it was opened */
    uint64_t read_bytes; /* of the file so far */
    uint64_t offset;     /* of the next record */
    struct buf window;   /* owned; bytes of the file, the next record at `used` */
    size_t used;
    struct journal_log_head head;
    char *identity; /* owned; head.identity views it */
    struct journal_log_tail tail;
};

/* Have n_bytes at `used` in the window, or all that the file has left. */
static enum status fill(struct journal_log *log, size_t n_bytes)
{
    enum status st = ST_OK;
    struct buf *window = &log->window;

    if (window->n_bytes - log->used >= n_bytes)
        return ST_OK;
    /* The rest moves to the front, so records stay aligned and memory stays what one record needs.
     */
    if (window->n_bytes > log->used)
        memmove(window->data, window->data + log->used, window->n_bytes - log->used);
    window->n_bytes -= log->used;
    log->used = 0;
    const uint64_t left = log->file_bytes - log->read_bytes;
    const size_t more =
        n_bytes - window->n_bytes > READ_BYTES ? n_bytes - window->n_bytes : READ_BYTES;
    size_t want = left < more ? (size_t)left : more;
    TRY(buf_reserve(window, want), err);
    while (want > 0) {
        const ssize_t n = read(log->fd, window->data + window->n_bytes, want);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log_error("%s: cannot read at byte %llu: %s", log->path,
                      (unsigned long long)log->read_bytes, strerror(errno));
            return ST_IO;
        }
        if (n == 0) { /* shorter than it was: as if it had ended here from the start */
            log->file_bytes = log->read_bytes;
            break;
        }
        window->n_bytes += (size_t)n;
        log->read_bytes += (uint64_t)n;
        want -= (size_t)n;
    }
err:
    return st;
}

static enum status read_head(struct journal_log *log)
{
    enum status st = ST_OK;
    struct head_form form;
    uint64_t sum;

    TRY(fill(log, sizeof form), err);
    if (log->window.n_bytes < sizeof form)
        return ST_END;
    memcpy(&form, log->window.data, sizeof form);
    if (memcmp(form.magic, zeros, sizeof zeros) == 0) /* a power loss kept the length only */
        return ST_END;
    if (memcmp(form.magic, magic, sizeof magic) != 0) {
        log_error("%s: byte 0: not a log of Epidote; move it out of that folder", log->path);
        return ST_FORMAT;
    }
    if (form.version != VERSION) {
        log_error("%s: a log of version %u; this program reads version %d: finish that job with "
                  "the program that began it, or choose another `results` path",
                  log->path, form.version, (int)VERSION);
        return ST_UNSUPPORTED;
    }
    if (form.identity_bytes > IDENTITY_MAX_BYTES || form.rows_begin > form.rows_end ||
        form.n_bytes != sizeof form + round_up_8(form.identity_bytes) + sizeof sum)
        goto damaged;
    TRY(fill(log, form.n_bytes), err);
    if (log->window.n_bytes < form.n_bytes)
        return ST_END;
    memcpy(&sum, log->window.data + form.n_bytes - sizeof sum, sizeof sum);
    if (sum != hash_bytes(log->window.data, form.n_bytes - sizeof sum, 0))
        goto damaged;
    log->identity = host_strndup((const char *)log->window.data + sizeof form, form.identity_bytes);
    if (log->identity == NULL)
        return ST_NOMEM;
    log->head = (struct journal_log_head){
        .attempt = form.attempt,
        .rows_begin = form.rows_begin,
        .rows_end = form.rows_end,
        .n_bytes = form.n_bytes,
        .hash = sum,
        .identity = log->identity,
    };
    log->used = form.n_bytes;
    log->offset = form.n_bytes;
err:
    return st;
damaged:
    log_warn("%s: byte 0: the head is damaged, so none of its %llu bytes is used: rows in it are "
             "computed again",
             log->path, (unsigned long long)log->file_bytes);
    return ST_END;
}

enum status journal_log_open(const char *path, struct journal_log **out_log)
{
    enum status st = ST_NOMEM;
    struct stat info;
    struct journal_log *log = host_zalloc(sizeof *log);

    if (log == NULL)
        return ST_NOMEM;
    log->fd = -1;
    log->path = host_strdup(path);
    if (log->path == NULL)
        goto err;
    log->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (log->fd < 0 || fstat(log->fd, &info) != 0) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        st = ST_IO;
        goto err;
    }
    log->file_bytes = (uint64_t)info.st_size;
    TRY(read_head(log), err);
    *out_log = log;
    return ST_OK;
err:
    journal_log_close(log);
    return st;
}

void journal_log_close(struct journal_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    buf_free(&log->window);
    host_free(log->identity);
    host_free(log->path);
    host_free(log);
}

const struct journal_log_head *journal_log_head(const struct journal_log *log)
{
    return &log->head;
}

enum status journal_log_next(struct journal_log *log, struct journal_record *out_record)
{
    enum status st = ST_OK;
    struct record_form form;
    struct journal_record record;

    TRY(fill(log, sizeof form), err);
    size_t there = log->window.n_bytes - log->used;
    if (there >= sizeof form) {
        memcpy(&form, log->window.data + log->used, sizeof form);
        /* Only a record that the file can hold is worth the memory. */
        if (form.n_bytes <= PAYLOAD_MAX_BYTES &&
            log->offset + journal_log_record_bytes(form.n_bytes) <= log->file_bytes)
            TRY(fill(log, journal_log_record_bytes(form.n_bytes)), err);
        there = log->window.n_bytes - log->used;
    }
    st = journal_log_record_unpack(log->head.hash, there > 0 ? log->window.data + log->used : NULL,
                                   there, &record);
    if (st != ST_OK) {
        log->tail = (struct journal_log_tail){
            .offset = log->offset,
            .n_bytes = log->file_bytes - log->offset,
            .damaged = st == ST_FORMAT,
        };
        return ST_END;
    }
    const uint64_t record_bytes = journal_log_record_bytes(record.n_bytes);
    record.offset = log->offset;
    log->offset += record_bytes;
    log->used += (size_t)record_bytes;
    *out_record = record;
err:
    return st;
}

struct journal_log_tail journal_log_tail(const struct journal_log *log)
{
    return log->tail;
}
