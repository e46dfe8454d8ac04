/*
 * result_each.c - all rows of a result file, a window at a time.  Callers: export.c, inspect.c,
 * join.c.
 */
#include "data/column.h"
#include "data/result_file.h"

enum { MAX_ROWS = 1024 };

static uint64_t row_bytes(const struct result_row *row)
{
    return row->text_bytes + (uint64_t)row->n_tokens * 8 * (uint64_t)(1 + row->n_top);
}

enum status result_file_each(struct result_file *file, result_rows_fn fn, void *arg)
{
    enum status st = ST_NOMEM;
    const struct result_file_info *info = result_file_info(file);
    struct arena *arena = NULL;
    struct window window = {.first = 0};
    uint64_t n_bytes = 0;
    struct result_row *rows = host_alloc(MAX_ROWS * sizeof *rows);
    const char **ids = host_alloc(MAX_ROWS * sizeof *ids);

    if (rows == NULL || ids == NULL)
        goto err;
    TRY(arena_create(1 << 20, &arena), err);
    while (window_next(&window, info->rows_end - info->rows_begin, n_bytes)) {
        if (window.n_rows > MAX_ROWS)
            window.n_rows = MAX_ROWS;
        arena_reset(arena);
        n_bytes = 0;
        TRY(result_file_read(file, window.first, window.n_rows, arena, rows, ids), err);
        TRY(fn(arg, rows, ids, window.n_rows), err);
        for (uint64_t i = 0; i < window.n_rows; i++)
            n_bytes += row_bytes(&rows[i]);
    }
err:
    arena_destroy(arena);
    host_free(ids);
    host_free(rows);
    return st;
}
