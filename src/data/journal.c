/*
 * journal.c - which rows are finished, and the log that finished rows are appended to.
 *
 *   open     lock -> RESULTS -> heads of the logs (same job?) -> their records -> places
 *   append   payload -> record -> write(2) -> places            sync every 64 MiB or 30 s
 *
 * Every finished row has a place (16 bytes: which file, which byte), so memory is bounded and a row
 * found twice can be compared.  Reading rows back is journal_rows.c, writing RESULTS merge.c.  Used
 * by the I/O thread while rows are served, by main before and after.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"

#define SYNC_BYTES (UINT64_C(64) << 20)
#define SYNC_S 30.0

/* A path made of another and a suffix; NULL without memory. */
static char *path_join(const char *path, const char *suffix)
{
    const size_t n = strlen(path), m = strlen(suffix);
    char *joined = host_alloc(n + m + 1);

    if (joined == NULL)
        return NULL;
    memcpy(joined, path, n);
    memcpy(joined + n, suffix, m + 1);
    return joined;
}

/* ---- files and places ------------------------------------------------------------------------ */

enum status journal_add_file(struct journal *journal, uint64_t attempt)
{
    char name[32];
    struct journal_file *files =
        host_realloc(journal->files, ((size_t)journal->n_files + 1) * sizeof *files);

    if (files == NULL)
        return ST_NOMEM;
    journal->files = files;
    snprintf(name, sizeof name, "/%llu.log", (unsigned long long)attempt);
    char *path = path_join(journal->parts, name);
    if (path == NULL)
        return ST_NOMEM;
    files[journal->n_files++] = (struct journal_file){.path = path, .attempt = attempt};
    return ST_OK;
}

/* The places are in a scratch file, so that their pages can leave memory; space for it is claimed
 * now, since a mapped page that the disk has no room for kills the process. */
enum status journal_map_places(struct journal *journal)
{
    enum status st = ST_IO;
    char *path = NULL;
    int fd = -1;

    if (journal_n_rows(journal) > SIZE_MAX / sizeof *journal->places) {
        log_error("%s: rows %llu:%llu are more than this machine can address", journal->results,
                  (unsigned long long)journal->rows_begin, (unsigned long long)journal->rows_end);
        return ST_CONFIG;
    }
    journal->places_bytes = (size_t)journal_n_rows(journal) * sizeof *journal->places;
    if (journal->look_only || journal->places_bytes == 0) {
        journal->places = pages_map(journal->places_bytes);
        return journal->places != NULL ? ST_OK : ST_NOMEM;
    }
    path = path_join(journal->results, ".scratch");
    if (path == NULL)
        return ST_NOMEM;
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_error("%s: cannot create: %s", path, strerror(errno));
        goto err;
    }
    unlink(path); /* gone with the process, however it ends */
    const int failed = posix_fallocate(fd, 0, (off_t)journal->places_bytes);
    if (failed != 0) {
        log_error("%s: cannot reserve %zu bytes: %s; free space there and run the same command "
                  "again",
                  path, journal->places_bytes, strerror(failed));
        goto err;
    }
    void *places = mmap(NULL, journal->places_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (places == MAP_FAILED) /* some file systems cannot: then it stays in memory */
        places = pages_map(journal->places_bytes);
    journal->places = places;
    st = places != NULL ? ST_OK : ST_NOMEM;
err:
    if (fd >= 0)
        close(fd);
    host_free(path);
    return st;
}

void journal_note_columns(struct journal *journal, const struct result_row *row)
{
    journal->has_logprobs = journal->has_logprobs || row->has_logprobs;
    journal->n_top = row->n_top > journal->n_top ? row->n_top : journal->n_top;
}

void journal_set_place(struct journal *journal, uint64_t row, struct journal_place place)
{
    struct journal_place *old = &journal->places[row - journal->rows_begin];

    if (old->where == 0 || (old->where & PLACE_REDO) != 0)
        journal->counts.n_done++;
    else if ((old->where & PLACE_FAILED) != 0)
        journal->counts.n_failed--;
    if ((place.where & PLACE_FAILED) != 0)
        journal->counts.n_failed++;
    *old = place;
}

/* ---- open and close -------------------------------------------------------------------------- */

static enum status create(const char *results_path, struct journal **out_journal)
{
    struct journal *journal = host_zalloc(sizeof *journal);

    if (journal == NULL)
        return ST_NOMEM;
    journal->fd = -1;
    journal->results = host_strdup(results_path);
    journal->parts = path_join(results_path, ".parts");
    journal->temp = path_join(results_path, ".tmp");
    if (journal->results == NULL || journal->parts == NULL || journal->temp == NULL) {
        journal_close(journal);
        return ST_NOMEM;
    }
    *out_journal = journal;
    return ST_OK;
}

/* `check`: whether `run` could take the lock and write. */
static enum status look_before(const struct journal *journal, const char *lock_path)
{
    struct lock_owner owner;
    const char *slash = strrchr(journal->results, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - journal->results);
    char *dir = slash == NULL ? host_strdup(".") : host_strndup(journal->results, n > 0 ? n : 1);

    if (dir == NULL)
        return ST_NOMEM;
    const bool writable = access(dir, W_OK | X_OK) == 0;
    if (!writable)
        log_error(
            "%s: cannot write in this folder: %s; the folder of `results` has to be there and "
            "writable: create it, or choose another `results` path",
            dir, strerror(errno));
    else if (lock_look(lock_path, &owner) == LOCK_HELD)
        log_warn("%s: held by pid %lld on %s since %s: `run` would be refused now", lock_path,
                 (long long)owner.pid, owner.host, owner.since);
    host_free(dir);
    return writable ? ST_OK : ST_IO;
}

enum status journal_open(const struct journal_args *args, struct journal **out_journal)
{
    enum status st = ST_OK;
    struct journal *journal = NULL;
    char *lock_path = path_join(args->results_path, ".lock");

    if (lock_path == NULL)
        return ST_NOMEM;
    TRY(create(args->results_path, &journal), err);
    st = ST_NOMEM;
    journal->identity = host_strdup(args->identity);
    if (journal->identity == NULL)
        goto err;
    journal->rows_begin = args->rows_begin;
    journal->rows_end = args->rows_end;
    journal->retry_errors = args->retry_errors;
    journal->look_only = args->dry;
    if (args->dry)
        TRY(look_before(journal, lock_path), err);
    else
        TRY(lock_take(lock_path, LOCK_FLOCK, &journal->lock), err);

    if (!args->dry && unlink(journal->temp) == 0)
        log_info("%s: removed; a merge was broken off", journal->temp);
    TRY(journal_look_fill(journal), err);
    journal->counts.n_attempts++;
    journal->counts.n_kept = journal->counts.n_done;
    journal->synced_s = clock_now_s();
    if (journal->complete && !args->dry)
        TRY(journal_remove_logs(journal), err);
    host_free(lock_path);
    *out_journal = journal;
    return ST_OK;
err:
    journal_close(journal);
    host_free(lock_path);
    return st;
}

enum status journal_look(const char *results_path, struct journal **out_journal)
{
    enum status st = ST_OK;
    struct journal *journal = NULL;

    TRY(create(results_path, &journal), err);
    journal->look_only = true;
    journal->any_rows = true;
    TRY(journal_look_fill(journal), err);
    *out_journal = journal;
    return ST_OK;
err:
    journal_close(journal);
    return st;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL)
        return;
    if (journal->fd >= 0) {
        if (!journal->broken)
            (void)journal_sync(journal); /* logged; whoever needs to know has synced before */
        close(journal->fd);
    }
    if (journal->places != NULL)
        pages_unmap(journal->places, journal->places_bytes);
    lock_release(journal->lock);
    for (int i = 0; i < journal->n_files; i++)
        host_free(journal->files[i].path);
    host_free(journal->files);
    buf_free(&journal->record);
    host_free(journal->identity);
    host_free(journal->results);
    host_free(journal->parts);
    host_free(journal->temp);
    host_free(journal);
}

bool journal_row_done(const struct journal *journal, uint64_t row)
{
    if (row < journal->rows_begin || row >= journal->rows_end)
        return false;
    if (journal->places == NULL)
        return journal->complete;
    const uint32_t where = journal->places[row - journal->rows_begin].where;
    return where != 0 && (where & PLACE_REDO) == 0;
}

void journal_counts(const struct journal *journal, struct journal_counts *out_counts)
{
    *out_counts = journal->counts;
}

bool journal_complete(const struct journal *journal)
{
    return journal->complete;
}

enum status journal_remove_logs(struct journal *journal)
{
    if (journal->fd >= 0)
        close(journal->fd);
    journal->fd = -1;
    for (int i = 0; i < journal->n_files; i++) {
        if (unlink(journal->files[i].path) != 0 && errno != ENOENT) {
            log_error("%s: cannot remove: %s; RESULTS is finished, this file is not needed",
                      journal->files[i].path, strerror(errno));
            return ST_IO;
        }
        host_free(journal->files[i].path);
        journal->files[i].path = NULL;
    }
    journal->n_files = 0;
    if (rmdir(journal->parts) != 0 && errno != ENOENT)
        log_warn("%s: cannot remove this folder: %s", journal->parts, strerror(errno));
    return ST_OK;
}

/* ---- append ---------------------------------------------------------------------------------- */

/* All bytes, or the reason why not in errno. */
static bool write_all(int fd, const void *data, size_t n_bytes)
{
    size_t done = 0;

    while (done < n_bytes) {
        const ssize_t n = write(fd, (const uint8_t *)data + done, n_bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* The log of this attempt, its head on disk. */
static enum status create_file(struct journal *journal)
{
    enum status st = ST_OK;
    struct journal_log_head head = {
        .attempt = journal->counts.n_attempts,
        .rows_begin = journal->rows_begin,
        .rows_end = journal->rows_end,
        .identity = journal->identity,
    };

    if (mkdir(journal->parts, 0777) != 0 && errno != EEXIST) {
        log_error("%s: cannot create this folder: %s; no row can be kept: free space or choose "
                  "another `results` path",
                  journal->parts, strerror(errno));
        return ST_IO;
    }
    TRY(file_sync_dir(journal->parts), err); /* also a folder that a killed attempt has made */
    buf_reset(&journal->record);
    TRY(journal_log_head_pack(&head, &journal->record), err);
    TRY(journal_add_file(journal, head.attempt), err);
    struct journal_file *file = &journal->files[journal->n_files - 1];
    file->hash = head.hash;
    journal->fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (journal->fd < 0) {
        log_error("%s: cannot create: %s", file->path, strerror(errno));
        st = ST_IO;
        goto err_file;
    }
    if (!write_all(journal->fd, journal->record.data, journal->record.n_bytes) ||
        fsync(journal->fd) != 0) {
        log_error("%s: cannot write: %s; no row can be kept: free space and run the same command "
                  "again",
                  file->path, strerror(errno));
        st = ST_IO;
        goto err_unlink;
    }
    TRY(file_sync_dir(file->path), err_unlink);
    journal->end_bytes = head.n_bytes;
    journal->synced_s = clock_now_s();
    return ST_OK;
err_unlink:
    unlink(file->path);
    close(journal->fd);
    journal->fd = -1;
err_file:
    host_free(file->path);
    journal->n_files--;
err:
    return st;
}

/* A record that did not go out whole is taken back, so that the log ends with a whole one. */
static enum status take_back(struct journal *journal, size_t n_bytes)
{
    const char *path = journal->files[journal->n_files - 1].path;

    log_error("%s: cannot write a record of %zu bytes at byte %llu: %s; rows before it are kept: "
              "free space and run the same command again",
              path, n_bytes, (unsigned long long)journal->end_bytes, strerror(errno));
    if (ftruncate(journal->fd, (off_t)journal->end_bytes) != 0) {
        log_warn("%s: cannot cut it back to byte %llu: %s; the next run will", path,
                 (unsigned long long)journal->end_bytes, strerror(errno));
        journal->broken = true;
    }
    return ST_IO;
}

enum status journal_append(struct journal *journal, const void *payload, size_t n_bytes)
{
    enum status st = ST_OK;
    struct result_row row;

    if (journal->broken)
        return ST_IO;
    if (result_unpack(payload, n_bytes, &row) != ST_OK) {
        log_error("%s: %zu bytes that were to be kept are not a result: a bug in Epidote",
                  journal->results, n_bytes);
        return ST_FORMAT;
    }
    if (row.row < journal->rows_begin || row.row >= journal->rows_end ||
        journal_row_done(journal, row.row)) {
        log_error("%s: row %llu is %s: a bug in Epidote", journal->results,
                  (unsigned long long)row.row,
                  journal_row_done(journal, row.row) ? "finished already" : "not in this job");
        return ST_FORMAT;
    }
    if (journal->fd < 0)
        TRY(create_file(journal), err);
    const struct journal_file *file = &journal->files[journal->n_files - 1];
    buf_reset(&journal->record);
    TRY(journal_log_record_pack(file->hash, row.row, payload, n_bytes, &journal->record), err);
    if (!write_all(journal->fd, journal->record.data, journal->record.n_bytes))
        return take_back(journal, journal->record.n_bytes);

    journal_note_columns(journal, &row);
    journal_set_place(
        journal, row.row,
        (struct journal_place){.offset = journal->end_bytes,
                               .n_bytes = (uint32_t)n_bytes,
                               .where = (uint32_t)journal->n_files |
                                        (row.reason == FINISH_ERROR ? PLACE_FAILED : 0)});
    journal->counts.n_records++;
    journal->end_bytes += journal->record.n_bytes;
    journal->dirty_bytes += journal->record.n_bytes;
    TRY(journal_sync_if_due(journal), err);
err:
    return st;
}

enum status journal_sync_if_due(struct journal *journal)
{
    if (journal->dirty_bytes >= SYNC_BYTES || clock_now_s() - journal->synced_s >= SYNC_S)
        return journal_sync(journal);
    return ST_OK;
}

enum status journal_sync(struct journal *journal)
{
    if (journal->broken)
        return ST_IO;
    if (journal->fd < 0 || journal->dirty_bytes == 0)
        return ST_OK;
    if (fdatasync(journal->fd) != 0) {
        log_error("%s: cannot sync the last %llu bytes: %s; free space and run the same command "
                  "again: what did not reach the disk is computed again",
                  journal->files[journal->n_files - 1].path,
                  (unsigned long long)journal->dirty_bytes, strerror(errno));
        journal->broken = true;
        return ST_IO;
    }
    journal->dirty_bytes = 0;
    journal->synced_s = clock_now_s();
    return ST_OK;
}
