/*
 * journal_look.c - find out what is finished: RESULTS, then the heads of the logs (are they this
 * job's?), then their records.
 *
 * Fills in a journal's places and counts.  Changes no file.  Called by journal_open and
 * journal_look.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"
#include "data/result_file.h"

enum { READ_ROWS = 1024, VALUE_CUT = 100, DIFFERENCES_CUT = 1200 };

/* ---- identity -------------------------------------------------------------------------------- */

/* One "name = value\n" of an identity; views. */
struct line {
    const char *name, *value;
    int name_bytes, value_bytes;
};

static bool line_next(const char **at, struct line *out_line)
{
    const size_t n = strcspn(*at, "\n");
    const char *equals = memmem(*at, n, " = ", 3);
    const size_t name_bytes = equals != NULL ? (size_t)(equals - *at) : n;
    const size_t value_bytes = equals != NULL ? n - name_bytes - 3 : 0;

    if (**at == '\0')
        return false;
    *out_line = (struct line){
        .name = *at,
        .value = equals != NULL ? equals + 3 : "",
        .name_bytes = (int)name_bytes,
        .value_bytes = (int)value_bytes,
    };
    *at += n + ((*at)[n] == '\n');
    return true;
}

static bool same_bytes(const char *a, int a_bytes, const char *b, int b_bytes)
{
    return a_bytes == b_bytes && memcmp(a, b, (size_t)a_bytes) == 0;
}

static bool line_find(const char *lines, const struct line *like, struct line *out_line)
{
    while (line_next(&lines, out_line))
        if (same_bytes(out_line->name, out_line->name_bytes, like->name, like->name_bytes))
            return true;
    return false;
}

/* A value may be a whole system prompt. */
static int value_cut(const struct line *line)
{
    return line->value_bytes < VALUE_CUT ? line->value_bytes : VALUE_CUT;
}

enum status identity_differences(const char *ours, const char *theirs, struct buf *out)
{
    enum status st = ST_OK;
    struct line a, b;

    for (const char *at = ours; st == ST_OK && line_next(&at, &a);) {
        const char *sep = out->n_bytes > 0 ? "; " : "";

        if (!line_find(theirs, &a, &b))
            st = buf_printf(out, "%s%.*s: ours %.*s, theirs not set", sep, a.name_bytes, a.name,
                            value_cut(&a), a.value);
        else if (!same_bytes(a.value, a.value_bytes, b.value, b.value_bytes))
            st = buf_printf(out, "%s%.*s: ours %.*s, theirs %.*s", sep, a.name_bytes, a.name,
                            value_cut(&a), a.value, value_cut(&b), b.value);
    }
    for (const char *at = theirs; st == ST_OK && line_next(&at, &b);)
        if (!line_find(ours, &b, &a))
            st = buf_printf(out, "%s%.*s: ours not set, theirs %.*s", out->n_bytes > 0 ? "; " : "",
                            b.name_bytes, b.name, value_cut(&b), b.value);
    if (st == ST_OK && out->n_bytes == 0)
        st = buf_puts(out, "the order of what names it");
    return st;
}

/* Whose rows a file holds: RESULTS or a log. */
struct head {
    const char *path, *identity;
    uint64_t rows_begin, rows_end;
    const char *remove; /* what to move away to start anew */
};

/* Is that file this job's?  A look takes the first identity that it sees, and all rows. */
static enum status check_head(struct journal *journal, const struct head *head)
{
    struct buf text = {0};
    enum status st = ST_OK;

    if (journal->identity == NULL) {
        journal->identity = host_strdup(head->identity);
        if (journal->identity == NULL)
            return ST_NOMEM;
        journal->rows_begin = head->rows_begin;
        journal->rows_end = head->rows_end;
    }
    if (strcmp(head->identity, journal->identity) != 0) {
        TRY(identity_differences(journal->identity, head->identity, &text), err);
        log_error("%s holds rows of another job (%.*s): set what differs back, or choose another "
                  "`results` path, or move %s away to start anew",
                  head->path,
                  (int)(text.n_bytes < DIFFERENCES_CUT ? text.n_bytes : DIFFERENCES_CUT),
                  (const char *)text.data, head->remove);
        st = ST_CONFIG;
        goto err;
    }
    if (journal->any_rows) {
        if (head->rows_begin < journal->rows_begin)
            journal->rows_begin = head->rows_begin;
        if (head->rows_end > journal->rows_end)
            journal->rows_end = head->rows_end;
    }
    if (head->rows_begin < journal->rows_begin || head->rows_end > journal->rows_end) {
        log_error("%s was begun for rows %llu:%llu, and this job names rows %llu:%llu: a job that "
                  "is continued may name more rows, never fewer: include those, or choose another "
                  "`results` path, or move %s away to start anew",
                  head->path, (unsigned long long)head->rows_begin,
                  (unsigned long long)head->rows_end, (unsigned long long)journal->rows_begin,
                  (unsigned long long)journal->rows_end, head->remove);
        st = ST_CONFIG;
    }
err:
    buf_free(&text);
    return st;
}

/* ---- what is there --------------------------------------------------------------------------- */

static int compare_attempts(const void *a, const void *b)
{
    const struct journal_file *x = a, *y = b;

    return (x->attempt > y->attempt) - (x->attempt < y->attempt);
}

/* The logs in RESULTS.parts, by attempt. */
static enum status list_files(struct journal *journal)
{
    enum status st = ST_OK;
    DIR *dir = opendir(journal->parts);

    if (dir == NULL && errno == ENOENT)
        return ST_OK;
    if (dir == NULL) {
        log_error("%s: cannot read this folder: %s", journal->parts, strerror(errno));
        return ST_IO;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char *end = NULL;
        const uint64_t attempt = strtoull(entry->d_name, &end, 10);
        char name[32];

        /* Only names that we write ourselves: "7.log", not "07.log". */
        snprintf(name, sizeof name, "%llu.log", (unsigned long long)attempt);
        if (attempt > 0 && attempt < UINT64_MAX && strcmp(name, entry->d_name) == 0)
            TRY(journal_add_file(journal, attempt), err);
    }
    if (journal->n_files >= (int)PLACE_RESULTS - 1) {
        log_error("%s: too many logs", journal->parts);
        st = ST_UNSUPPORTED;
        goto err;
    }
    if (journal->n_files > 0)
        qsort(journal->files, (size_t)journal->n_files, sizeof *journal->files, compare_attempts);
err:
    closedir(dir);
    return st;
}

/* Whether the logs belong to this job, and for which rows. */
static enum status check_files(struct journal *journal)
{
    enum status st = ST_OK;

    for (int i = 0; i < journal->n_files; i++) {
        struct journal_file *file = &journal->files[i];
        struct journal_log *log = NULL;

        journal->counts.n_attempts = file->attempt;
        st = journal_log_open(file->path, &log);
        if (st == ST_END)
            continue;
        if (st != ST_OK)
            return st;
        const struct journal_log_head *head = journal_log_head(log);
        file->hash = head->hash;
        st = check_head(journal, &(struct head){.path = file->path,
                                                .identity = head->identity,
                                                .rows_begin = head->rows_begin,
                                                .rows_end = head->rows_end,
                                                .remove = journal->parts});
        journal_log_close(log);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- records --------------------------------------------------------------------------------- */

static enum status refuse_record(const struct journal_file *file,
                                 const struct journal_record *record, const char *what)
{
    log_error("%s: byte %llu: row %llu: %s: move this log away, and its rows are computed again",
              file->path, (unsigned long long)record->offset, (unsigned long long)record->row,
              what);
    return ST_FORMAT;
}

/* Row `row` stands in log `file` a second time: it must say the same. */
static enum status compare_twice(struct journal *journal, const struct journal_file *file,
                                 const struct journal_record *record, const struct result_row *row)
{
    enum status st = ST_OK;
    const struct journal_place *place = &journal->places[row->row - journal->rows_begin];
    const struct journal_file *first = &journal->files[(place->where & PLACE_SOURCE) - 1];
    struct result_row other;

    const int fd = open(first->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        log_error("%s: cannot open: %s", first->path, strerror(errno));
        return ST_IO;
    }
    buf_reset(&journal->record);
    TRY(buf_reserve(&journal->record, journal_log_record_bytes(place->n_bytes)), err);
    TRY(journal_read_record(first, fd, place, row->row, journal->record.data, &other), err);
    if (!result_same_answer(row, &other)) {
        log_error("row %llu has two different answers, in %s at byte %llu and in %s at byte %llu: "
                  "was one of them computed by another build?  Remove their folder to start anew",
                  (unsigned long long)row->row, first->path, (unsigned long long)place->offset,
                  file->path, (unsigned long long)record->offset);
        st = ST_FORMAT;
    }
err:
    close(fd);
    return st;
}

/* A record found in log number i. */
static enum status take_record(struct journal *journal, int i, const struct journal_log_head *head,
                               const struct journal_record *record)
{
    const struct journal_file *file = &journal->files[i];
    struct result_row row;

    if (record->row < head->rows_begin || record->row >= head->rows_end)
        return refuse_record(file, record, "not among the rows that this log was begun for");
    if (result_unpack(record->payload, record->n_bytes, &row) != ST_OK || row.row != record->row)
        return refuse_record(file, record, "has a right checksum but is not a result");

    const bool failed = row.reason == FINISH_ERROR;
    const struct journal_place *old = &journal->places[row.row - journal->rows_begin];
    const uint32_t source = old->where & PLACE_SOURCE;
    journal->counts.n_records++;
    if (old->where != 0 && (old->where & PLACE_FAILED) == 0 && source == PLACE_RESULTS)
        return ST_OK; /* merged already, by a run that was killed before it removed this log */
    if (old->where != 0 && source != PLACE_RESULTS) {
        /* An error may be followed by a later attempt's answer (retry_errors). */
        const bool later = file->attempt > journal->files[source - 1].attempt;

        if ((old->where & PLACE_FAILED) == 0 || !later) {
            const enum status st = compare_twice(journal, file, record, &row);

            if (st != ST_OK)
                return st;
        }
    }
    if (source == PLACE_RESULTS && !failed)
        journal->complete = false; /* RESULTS still says "error" */
    journal_note_columns(journal, &row);
    journal_set_place(
        journal, row.row,
        (struct journal_place){.offset = record->offset,
                               .n_bytes = record->n_bytes,
                               .where = (uint32_t)(i + 1) | (failed ? PLACE_FAILED : 0)});
    return ST_OK;
}

static enum status scan_file(struct journal *journal, int i)
{
    enum status st = ST_OK;
    const char *path = journal->files[i].path;
    struct journal_log *log = NULL;
    struct journal_record record;

    st = journal_log_open(path, &log);
    if (st != ST_OK)
        return st == ST_END ? ST_OK : st;
    while ((st = journal_log_next(log, &record)) == ST_OK)
        TRY(take_record(journal, i, journal_log_head(log), &record), err);
    if (st != ST_END)
        goto err;
    st = ST_OK;
    const struct journal_log_tail tail = journal_log_tail(log);
    if (tail.damaged)
        log_warn("%s: byte %llu: a damaged record; the %llu bytes from here on are not used: rows "
                 "in them are computed again",
                 path, (unsigned long long)tail.offset, (unsigned long long)tail.n_bytes);
    else if (tail.n_bytes > 0)
        log_info(
            "%s: byte %llu: the last record is cut off (%llu bytes); its row is computed again",
            path, (unsigned long long)tail.offset, (unsigned long long)tail.n_bytes);
err:
    journal_log_close(log);
    return st;
}

/* The rows that RESULTS holds.  Their text is read only to find those that failed. */
static enum status take_results(struct journal *journal, struct result_file *results)
{
    enum status st = ST_OK;
    const struct result_file_info *info = result_file_info(results);
    struct result_row *rows = host_alloc(READ_ROWS * sizeof *rows);
    struct arena *arena = NULL;

    if (rows == NULL)
        return ST_NOMEM;
    TRY(arena_create(1 << 20, &arena), err);
    for (uint64_t row = info->rows_begin; row < info->rows_end; row++)
        journal_set_place(
            journal, row,
            (struct journal_place){.offset = row - info->rows_begin, .where = PLACE_RESULTS});
    uint64_t n_left = info->n_failed;
    for (uint64_t at = 0; n_left > 0 && at < info->rows_end - info->rows_begin; at += READ_ROWS) {
        const uint64_t left = info->rows_end - info->rows_begin - at;
        const uint64_t n = left < READ_ROWS ? left : READ_ROWS;

        arena_reset(arena);
        TRY(result_file_read(results, at, n, arena, rows, NULL), err);
        for (uint64_t i = 0; i < n; i++) {
            if (rows[i].reason == FINISH_ERROR) {
                journal_set_place(journal, info->rows_begin + at + i,
                                  (struct journal_place){.offset = at + i,
                                                         .where = PLACE_RESULTS | PLACE_FAILED});
                n_left -= n_left > 0;
            }
        }
    }
    journal->has_logprobs = info->has_logprobs;
    journal->n_top = info->n_top;
err:
    arena_destroy(arena);
    host_free(rows);
    return st;
}

/* With retry_errors, rows that failed are computed again. */
static void mark_redo(struct journal *journal)
{
    for (uint64_t i = 0; i < journal_n_rows(journal) && journal->counts.n_failed > 0; i++) {
        struct journal_place *place = &journal->places[i];

        if ((place->where & PLACE_FAILED) != 0) {
            place->where |= PLACE_REDO;
            journal->counts.n_failed--;
            journal->counts.n_done--;
        }
    }
}

/* RESULTS, if it is there: ours? */
static enum status open_results(struct journal *journal, struct result_file **out_results)
{
    enum status st = ST_OK;
    struct stat facts;
    struct result_file *results = NULL;

    if (stat(journal->results, &facts) != 0) {
        if (errno == ENOENT)
            return ST_OK;
        log_error("%s: cannot look at it: %s", journal->results, strerror(errno));
        return ST_IO;
    }
    st = result_file_open(journal->results, &results);
    if (st != ST_OK) {
        log_error("%s is there and is not a result file that can be read; it is never "
                  "overwritten: move it away, or choose another `results` path",
                  journal->results);
        return st == ST_NOMEM ? st : ST_CONFIG;
    }
    const struct result_file_info *info = result_file_info(results);
    TRY(check_head(journal, &(struct head){.path = journal->results,
                                           .identity = info->identity,
                                           .rows_begin = info->rows_begin,
                                           .rows_end = info->rows_end,
                                           .remove = journal->results}),
        err);
    journal->has_results = true;
    *out_results = results;
    return ST_OK;
err:
    result_file_close(results);
    return st;
}

enum status journal_look_fill(struct journal *journal)
{
    enum status st = ST_OK;
    struct result_file *results = NULL;

    TRY(list_files(journal), err);
    TRY(open_results(journal, &results), err);
    TRY(check_files(journal), err);
    if (journal->identity == NULL) {
        st = ST_END; /* a look at nothing */
        goto err;
    }
    journal->counts.n_rows = journal_n_rows(journal);
    if (results != NULL) {
        const struct result_file_info *info = result_file_info(results);

        journal->complete =
            info->rows_begin == journal->rows_begin && info->rows_end == journal->rows_end;
        if (journal->complete && journal->n_files == 0 &&
            !(journal->retry_errors && info->n_failed > 0) && !journal->any_rows) {
            /* The usual case: nothing to do, so nothing to know about single rows. */
            journal->counts.n_done = journal->counts.n_rows;
            journal->counts.n_failed = info->n_failed;
            goto err;
        }
    }
    TRY(journal_map_places(journal), err);
    if (results != NULL)
        TRY(take_results(journal, results), err);
    for (int i = 0; i < journal->n_files; i++)
        TRY(scan_file(journal, i), err);
    if (journal->retry_errors && journal->counts.n_failed > 0) {
        journal->complete = false;
        mark_redo(journal);
    }
err:
    result_file_close(results);
    return st;
}
