/*
 * join.c - result files of parts of one prompt file become the result file of the whole.
 *
 *   every part: rows, identity ─► one after another, without gap or overlap, of one job?
 *     ─► OUT.tmp, part after part ─► read again ─► OUT
 *
 * One part is open at a time, so there may be any number.  OUT.lock, as of a run, keeps others
 * away.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/journal.h"
#include "data/replace.h"
#include "data/result_file.h"

enum { DIFFERENCES_CUT = 2048 };

struct part {
    const char *path; /* borrowed */
    uint64_t rows_begin, rows_end;
};

/* What all parts together are; texts are the first part's, and those of its file, which stays open.
 */
struct join {
    struct part *parts; /* [n_parts] owned, in order of rows */
    int n_parts;
    struct result_file *first; /* owned */
    bool has_id, has_logprobs;
    int n_top;
    uint64_t n_failed;
    struct result_writer *writer;
};

/* ---- looking ----------------------------------------------------------------------------------- */

/* The part must be of the first one's job. */
static enum status check_identity(const struct join *join, const char *path,
                                  const struct result_file_info *info)
{
    const struct result_file_info *first = result_file_info(join->first);
    struct buf text = {0};
    enum status st;

    if (info->has_id != first->has_id) {
        log_error("%s and %s: one has ids and the other has none, so they are not of one prompt "
                  "file",
                  join->parts[0].path, path);
        return ST_CONFIG;
    }
    if (strcmp(info->identity, first->identity) == 0)
        return ST_OK;
    TRY(identity_differences(info->identity, first->identity, &text), err);
    log_error("%s is of another job than %s (%.*s): only parts of one job "
              "belong together",
              path, join->parts[0].path,
              (int)(text.n_bytes < DIFFERENCES_CUT ? text.n_bytes : DIFFERENCES_CUT),
              (const char *)text.data);
    st = ST_CONFIG;
err:
    buf_free(&text);
    return st;
}

static enum status look(struct join *join, int number)
{
    enum status st;
    struct result_file *file = NULL;
    struct part *part = &join->parts[number];

    TRY(result_file_open(part->path, &file), err);
    const struct result_file_info *info = result_file_info(file);
    part->rows_begin = info->rows_begin;
    part->rows_end = info->rows_end;
    join->has_logprobs |= info->has_logprobs;
    join->n_top = info->n_top > join->n_top ? info->n_top : join->n_top;
    join->n_failed += info->n_failed;
    if (number == 0) {
        join->first = file;
        join->has_id = info->has_id;
        return ST_OK;
    }
    st = check_identity(join, part->path, info);
err:
    result_file_close(file);
    return st;
}

static int by_rows(const void *a, const void *b)
{
    const struct part *x = a, *y = b;

    if (x->rows_begin != y->rows_begin)
        return x->rows_begin < y->rows_begin ? -1 : 1;
    return (x->rows_end > y->rows_end) - (x->rows_end < y->rows_end);
}

/* Each part begins where the one before it ends. */
static enum status check_rows(const struct join *join)
{
    for (int i = 1; i < join->n_parts; i++) {
        const struct part *before = &join->parts[i - 1], *part = &join->parts[i];

        if (part->rows_begin == before->rows_end)
            continue;
        if (part->rows_begin < before->rows_end)
            log_error("%s (rows %llu:%llu) and %s (rows %llu:%llu) have rows in common: give each "
                      "part once",
                      before->path, (unsigned long long)before->rows_begin,
                      (unsigned long long)before->rows_end, part->path,
                      (unsigned long long)part->rows_begin, (unsigned long long)part->rows_end);
        else
            log_error("rows %llu:%llu are in none of the parts, between %s and %s: give that part "
                      "too",
                      (unsigned long long)before->rows_end, (unsigned long long)part->rows_begin,
                      before->path, part->path);
        return ST_CONFIG;
    }
    return ST_OK;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static enum status append(void *arg, const struct result_row *rows, const char *const *ids,
                          uint64_t n_rows)
{
    struct join *join = arg;

    return result_writer_append(join->writer, rows, join->has_id ? ids : NULL, n_rows);
}

static enum status append_part(struct join *join, const char *path)
{
    enum status st;
    struct result_file *file = NULL;

    TRY(result_file_open(path, &file), err);
    st = result_file_each(file, append, join);
err:
    result_file_close(file);
    return st;
}

/* The whole in temp_path, written and read again. */
static enum status write_whole(struct join *join, const char *temp_path, uint64_t *out_digest)
{
    enum status st;
    const struct result_file_info *first = result_file_info(join->first);
    const struct result_meta meta = {
        .program = first->program,
        .job = first->job,
        .identity = first->identity,
        .numerics = first->numerics,
        .model_fingerprint = first->model_fingerprint,
        .prompts_fingerprint = first->prompts_fingerprint,
        .seed = first->seed,
    };
    const struct result_writer_args args = {
        .path = temp_path,
        .meta = &meta,
        .gives_ids = join->has_id,
        .rows_begin = join->parts[0].rows_begin,
        .rows_end = join->parts[join->n_parts - 1].rows_end,
        .has_logprobs = join->has_logprobs,
        .n_top = join->n_top,
    };

    TRY(result_writer_create(&args, &join->writer), err);
    for (int i = 0; i < join->n_parts; i++)
        TRY(append_part(join, join->parts[i].path), err);
    TRY(result_writer_finish(join->writer, out_digest), err);
    result_writer_close(join->writer);
    join->writer = NULL;
    st = result_file_verify(temp_path, args.rows_begin, args.rows_end, *out_digest);
err:
    return st;
}

/* OUT is there: the same content, or not ours to replace. */
static enum status compare(const char *out_path, const char *temp_path, uint64_t digest)
{
    enum status st;
    uint64_t there;

    TRY(data_digest(out_path, &there), err);
    if (there != digest) {
        log_error("%s is there and holds something else: move it away, or name another file",
                  out_path);
        st = ST_CONFIG;
    }
err:
    if (unlink(temp_path) != 0)
        log_warn("%s: cannot remove", temp_path);
    return st;
}

enum status data_join(const char *out_path, const char *const *paths, int n_paths,
                      struct join_counts *out_counts)
{
    enum status st = ST_NOMEM;
    struct join join = {.n_parts = n_paths};
    struct buf lock_path = {0}, temp_path = {0};
    struct lock *lock = NULL;
    uint64_t digest;

    join.parts = host_zalloc((size_t)n_paths * sizeof *join.parts);
    if (join.parts == NULL)
        goto err;
    TRY(buf_printf(&temp_path, "%s.tmp", out_path), err);
    TRY(buf_put(&temp_path, "", 1), err);
    TRY(buf_printf(&lock_path, "%s.lock", out_path), err);
    TRY(buf_put(&lock_path, "", 1), err);
    const char *temp = (const char *)temp_path.data;
    for (int i = 0; i < n_paths; i++) {
        join.parts[i].path = paths[i];
        TRY(replace_allowed(paths[i], out_path), err);
        TRY(look(&join, i), err);
    }
    TRY(lock_take((const char *)lock_path.data, LOCK_FLOCK, &lock), err);
    qsort(join.parts, (size_t)n_paths, sizeof *join.parts, by_rows);
    TRY(check_rows(&join), err);
    TRY(write_whole(&join, temp, &digest), err);
    TRY(access(out_path, F_OK) == 0 ? compare(out_path, temp, digest)
                                    : replace_file(temp, out_path),
        err);
    *out_counts = (struct join_counts){
        .rows_begin = join.parts[0].rows_begin,
        .rows_end = join.parts[n_paths - 1].rows_end,
        .n_failed = join.n_failed,
    };
err:
    result_writer_close(join.writer);
    lock_release(lock);
    result_file_close(join.first);
    host_free(join.parts);
    buf_free(&lock_path);
    buf_free(&temp_path);
    return st;
}
