/*
 * sample.c - a few rows of each class to look at, out of any number that come by.
 *
 * Of each class the rows whose numbers have the smallest hashes are kept: a draw without a clock
 * and without a state, so that the same rows always give the same ones.  Called by report.c.
 */
#include <assert.h>
#include <stdlib.h>

#include "data/answers.h"

struct candidate {
    uint64_t hash, row, picture;
};

struct sample {
    int n_rows;
    struct sample_class {
        struct candidate *kept; /* owned [n_rows], by hash; NULL = nothing was offered */
        int n;
    } classes[TALLY_CLASSES];
};

enum status sample_create(int n_rows, struct sample **out_sample)
{
    struct sample *sample = host_zalloc(sizeof *sample);

    assert(n_rows >= 1);
    if (sample == NULL)
        return ST_NOMEM;
    sample->n_rows = n_rows;
    *out_sample = sample;
    return ST_OK;
}

void sample_destroy(struct sample *sample)
{
    if (sample == NULL)
        return;
    for (int c = 0; c < TALLY_CLASSES; c++)
        host_free(sample->classes[c].kept);
    host_free(sample);
}

enum status sample_offer(struct sample *sample, const struct sample_row *row)
{
    assert(row->class >= 0 && row->class < TALLY_CLASSES);
    struct sample_class *of = &sample->classes[row->class];
    const struct candidate candidate = {hash_bytes(&row->row, sizeof row->row, 0), row->row,
                                        row->picture};

    if (of->kept == NULL)
        of->kept = host_alloc((size_t)sample->n_rows * sizeof *of->kept);
    if (of->kept == NULL)
        return ST_NOMEM;
    if (of->n == sample->n_rows && candidate.hash >= of->kept[of->n - 1].hash)
        return ST_OK;
    int at = of->n < sample->n_rows ? of->n++ : of->n - 1;
    for (; at > 0 && of->kept[at - 1].hash > candidate.hash; at--)
        of->kept[at] = of->kept[at - 1];
    of->kept[at] = candidate;
    return ST_OK;
}

static bool is_shown(const struct sample_row *rows, int n, uint64_t picture)
{
    for (int i = 0; i < n; i++)
        if (picture != SAMPLE_NO_PICTURE && rows[i].picture == picture)
            return true;
    return false;
}

/* Takes the next row of a class out of it; false if there is none. */
static bool take_one(struct sample_class *of, int class, const struct sample_row *rows, int n,
                     struct sample_row *out_row)
{
    int at = 0;

    if (of->n == 0)
        return false;
    while (at < of->n && is_shown(rows, n, of->kept[at].picture))
        at++;
    if (at == of->n)
        at = 0;
    *out_row = (struct sample_row){of->kept[at].row, of->kept[at].picture, class};
    of->n--;
    for (; at < of->n; at++)
        of->kept[at] = of->kept[at + 1];
    return true;
}

static int by_row(const void *a, const void *b)
{
    const struct sample_row *x = a, *y = b;

    return (x->row > y->row) - (x->row < y->row);
}

int sample_take(struct sample *sample, const int *order, int n_classes, struct sample_row *out_rows)
{
    int n = 0, n_before = -1, n_sorted = 0;
    struct sample_row swap;

    while (n < sample->n_rows && n > n_before) {
        n_before = n;
        for (int i = 0; i < n_classes && n < sample->n_rows; i++)
            n += take_one(&sample->classes[order[i]], order[i], out_rows, n, &out_rows[n]);
    }
    for (int i = 0; i < n_classes; i++) { /* few rows: bring each class's together, then sort */
        const int begin = n_sorted;

        for (int k = begin; k < n; k++) {
            if (out_rows[k].class != order[i])
                continue;
            swap = out_rows[k];
            out_rows[k] = out_rows[n_sorted];
            out_rows[n_sorted++] = swap;
        }
        qsort(out_rows + begin, (size_t)(n_sorted - begin), sizeof *out_rows, by_row);
    }
    return n;
}
