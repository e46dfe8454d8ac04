/*
 * answers.c - judges answers and counts them by class; knows no files.
 *
 * What is counted is bounded, so that a report of any number of rows takes the same memory.  Called
 * by report.c.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/answers.h"

/* ---- one answer ------------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

struct answer_text answer_trim(const char *data, size_t n_bytes)
{
    while (n_bytes > 0 && is_space(data[0]))
        data++, n_bytes--;
    while (n_bytes > 0 && is_space(data[n_bytes - 1]))
        n_bytes--;
    return (struct answer_text){data, n_bytes};
}

enum verdict answer_judge(enum finish_reason reason, struct answer_text got,
                          struct answer_text known)
{
    if (reason == FINISH_ERROR)
        return VERDICT_ERROR;
    got = answer_trim(got.data, got.n_bytes);
    known = answer_trim(known.data, known.n_bytes);
    if (known.n_bytes == 0)
        return VERDICT_NONE;
    if (got.n_bytes != known.n_bytes)
        return VERDICT_WRONG;
    for (size_t i = 0; i < got.n_bytes; i++)
        if (lower(got.data[i]) != lower(known.data[i]))
            return VERDICT_WRONG;
    return VERDICT_RIGHT;
}

/* ---- counts ---------------------------------------------------------------------------------- */

enum { N_SLOTS = 2 * TALLY_ANSWERS };

struct tally {
    int n_classes;
    char *names[TALLY_CLASSES]; /* owned */
    struct tally_counts counts[TALLY_CLASSES];
    bool crowded; /* there are more different answers than are counted */
    int n_answers;
    struct tally_answer {
        uint64_t hash, n; /* n = 0: free */
    } answers[N_SLOTS];   /* open addressing; the hash of class and answer stands for both */
};

enum status tally_create(struct tally **out_tally)
{
    *out_tally = host_zalloc(sizeof **out_tally);
    return *out_tally != NULL ? ST_OK : ST_NOMEM;
}

void tally_destroy(struct tally *tally)
{
    if (tally == NULL)
        return;
    for (int c = 0; c < tally->n_classes; c++)
        host_free(tally->names[c]);
    host_free(tally);
}

/* The class of that name, made if there is room; -1: no memory. */
static int find_class(struct tally *tally, struct answer_text name)
{
    static const char others[] = "(other classes)";

    for (int c = 0; c < tally->n_classes; c++)
        if (strlen(tally->names[c]) == name.n_bytes &&
            memcmp(tally->names[c], name.data, name.n_bytes) == 0)
            return c;
    if (tally->n_classes == TALLY_CLASSES)
        return TALLY_CLASSES - 1;
    if (tally->n_classes == TALLY_CLASSES - 1)
        name = (struct answer_text){others, sizeof others - 1};
    tally->names[tally->n_classes] = host_strndup(name.data, name.n_bytes);
    if (tally->names[tally->n_classes] == NULL)
        return -1;
    return tally->n_classes++;
}

/* How often this class has had this answer, this time included; 0 = it is not counted. */
static uint64_t count_answer(struct tally *tally, int class, struct answer_text known)
{
    struct hash_state state;
    const int32_t number = class;

    hash_begin(&state, 0);
    hash_add(&state, &number, sizeof number);
    for (size_t i = 0; i < known.n_bytes; i++) {
        const char c = lower(known.data[i]);

        hash_add(&state, &c, 1);
    }
    const uint64_t hash = hash_end(&state);
    size_t at = (size_t)(hash % N_SLOTS);
    while (tally->answers[at].n > 0 && tally->answers[at].hash != hash)
        at = (at + 1) % N_SLOTS;
    if (tally->answers[at].n == 0) {
        if (tally->n_answers == TALLY_ANSWERS) {
            tally->crowded = true;
            return 0;
        }
        tally->n_answers++;
        tally->answers[at].hash = hash;
    }
    return ++tally->answers[at].n;
}

enum status tally_add(struct tally *tally, struct answer_text class_name, struct answer_text known,
                      enum verdict verdict, int *out_class)
{
    const int class = find_class(tally, answer_trim(class_name.data, class_name.n_bytes));

    if (class < 0)
        return ST_NOMEM;
    struct tally_counts *counts = &tally->counts[class];
    counts->n_rows[verdict]++;
    known = answer_trim(known.data, known.n_bytes);
    if (known.n_bytes > 0) {
        const uint64_t n = count_answer(tally, class, known);

        counts->n_known++;
        if (n > counts->n_most)
            counts->n_most = n;
    }
    *out_class = class;
    return ST_OK;
}

int tally_n_classes(const struct tally *tally)
{
    return tally->n_classes;
}

const char *tally_class_name(const struct tally *tally, int class)
{
    assert(class >= 0 && class < tally->n_classes);
    return tally->names[class];
}

void tally_counts(const struct tally *tally, int class, struct tally_counts *out_counts)
{
    struct tally_counts sum = {.n_known = 0};

    for (int c = 0; c < tally->n_classes; c++) {
        if (class >= 0 && c != class)
            continue;
        for (int v = 0; v < VERDICT_COUNT; v++)
            sum.n_rows[v] += tally->counts[c].n_rows[v];
        sum.n_known += tally->counts[c].n_known;
        sum.n_most += tally->counts[c].n_most;
    }
    *out_counts = sum;
}

void tally_order(const struct tally *tally, int *out)
{
    for (int c = 0; c < tally->n_classes; c++) {
        int at = c;

        for (; at > 0 && strcmp(tally->names[out[at - 1]], tally->names[c]) > 0; at--)
            out[at] = out[at - 1];
        out[at] = c;
    }
}

/* ---- the table ------------------------------------------------------------------------------- */

enum { NAME_MOST = 24, PERCENT_CAP = 16 };

/* "98.5 %", "-" of nothing. */
static const char *percent(uint64_t n, uint64_t of, char out[PERCENT_CAP])
{
    if (of == 0)
        snprintf(out, PERCENT_CAP, "-");
    else
        snprintf(out, PERCENT_CAP, "%.1f %%", 100.0 * (double)n / (double)of);
    return out;
}

static enum status put_line(const struct tally *tally, int class, int width, const char *name,
                            bool with_answers, struct buf *out)
{
    struct tally_counts counts;
    char accuracy[PERCENT_CAP], majority[PERCENT_CAP];

    tally_counts(tally, class, &counts);
    const uint64_t *n = counts.n_rows;
    const uint64_t n_judged = n[VERDICT_RIGHT] + n[VERDICT_WRONG] + n[VERDICT_ERROR];
    if (!with_answers)
        return buf_printf(out, "%-*.*s %9" PRIu64 " %9" PRIu64 "\n", width, width, name,
                          n_judged + n[VERDICT_NONE], n[VERDICT_ERROR]);
    percent(n[VERDICT_RIGHT], n_judged, accuracy);
    if (tally->crowded)
        snprintf(majority, sizeof majority, "?");
    else
        percent(counts.n_most, counts.n_known, majority);
    return buf_printf(out, "%-*.*s %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %10s %10s\n",
                      width, width, name, n_judged + n[VERDICT_NONE], n[VERDICT_ERROR], n_judged,
                      n[VERDICT_RIGHT], accuracy, majority);
}

enum status tally_put(const struct tally *tally, bool with_answers, struct buf *out)
{
    int order[TALLY_CLASSES], width = 5; /* of "class" */
    enum status st;

    tally_order(tally, order);
    for (int c = 0; c < tally->n_classes; c++)
        if ((int)strlen(tally->names[c]) > width)
            width = (int)strlen(tally->names[c]);
    if (width > NAME_MOST)
        width = NAME_MOST;
    TRY(buf_printf(out, "%-*s %9s %9s", width, "class", "rows", "errors"), err);
    if (with_answers)
        TRY(buf_printf(out, " %9s %9s %10s %10s", "judged", "right", "accuracy", "majority"), err);
    TRY(buf_puts(out, "\n"), err);
    for (int i = 0; i < tally->n_classes && tally->n_classes > 1; i++)
        TRY(put_line(tally, order[i], width,
                     tally->names[order[i]][0] != '\0' ? tally->names[order[i]] : "(none)",
                     with_answers, out),
            err);
    TRY(put_line(tally, -1, width, "all", with_answers, out), err);
    if (with_answers && tally->crowded)
        st = buf_printf(out, "there are more than %d different answers: no majority is given\n",
                        TALLY_ANSWERS);
err:
    return st;
}
