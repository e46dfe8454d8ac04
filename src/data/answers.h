/*
 * answers.h - private to src/data: which answers are right, how many of each class, rows to show.
 *
 * No files: report.c brings the rows.
 */
#ifndef EPIDOTE_DATA_ANSWERS_H
#define EPIDOTE_DATA_ANSWERS_H

#include "data/data.h"

enum verdict {
    VERDICT_RIGHT,
    VERDICT_WRONG,
    VERDICT_ERROR, /* the row ended as an error: counts as wrong, whatever its answer would be */
    VERDICT_NONE,  /* the right answer is not known */
    VERDICT_COUNT
};

/* Bytes somewhere, not NUL-terminated. */
struct answer_text {
    const char *data;
    size_t n_bytes;
};

/* answer_trim - without white space at its ends. */
struct answer_text answer_trim(const char *data, size_t n_bytes);
/* answer_judge - right if got and known are equal but for white space at their ends and the case of
 * ASCII letters; an empty known answer is none. */
enum verdict answer_judge(enum finish_reason reason, struct answer_text got,
                          struct answer_text known);

/*
 * Counts for each class, in memory that does not grow with the rows: TALLY_CLASSES classes have
 * their names, all that come later share the last place; TALLY_ANSWERS different answers of all
 * classes are counted, which is for the baseline only.
 */
enum { TALLY_CLASSES = 64, TALLY_ANSWERS = 1 << 15 };
struct tally;
enum status tally_create(struct tally **out_tally);
void tally_destroy(struct tally *tally);
/* tally_add - one row.  out_class: its class, 0 .. TALLY_CLASSES - 1, by first appearance.
 * Returns ST_OK, ST_NOMEM. */
enum status tally_add(struct tally *tally, struct answer_text class_name, struct answer_text known,
                      enum verdict verdict, int *out_class);

struct tally_counts {
    uint64_t n_rows[VERDICT_COUNT];
    uint64_t n_known; /* rows whose right answer is known */
    uint64_t n_most;  /* of those, the ones that have the class's most frequent answer: what always
                         giving that one would get right; in all: the sum over classes */
};
int tally_n_classes(const struct tally *tally);
const char *tally_class_name(const struct tally *tally, int class);
/* tally_counts - of one class, or of all with class = -1. */
void tally_counts(const struct tally *tally, int class, struct tally_counts *out_counts);
/* tally_order - out[i]: the class that is i-th by name.  out has room for tally_n_classes. */
void tally_order(const struct tally *tally, int *out);
/* tally_put - the counts as a table, a line for each class and one for all.  with_answers: whether
 * right answers are known at all.  Returns ST_OK, ST_NOMEM. */
enum status tally_put(const struct tally *tally, bool with_answers, struct buf *out);

/* ---- rows to show (sample.c) ------------------------------------------------------------------ */

/* A few rows of each class, drawn at random, but always the same ones of the same rows. */
struct sample;
struct sample_row {
    uint64_t row;
    uint64_t picture; /* SAMPLE_NO_PICTURE = none */
    int class;
};
#define SAMPLE_NO_PICTURE UINT64_MAX

/* sample_create - n_rows: how many will be taken at most, at least 1.  Memory: n_rows * 24 bytes a
 * class.  Returns ST_OK, ST_NOMEM. */
enum status sample_create(int n_rows, struct sample **out_sample);
void sample_destroy(struct sample *sample);
/* sample_offer - a row of class 0 .. TALLY_CLASSES - 1.  Returns ST_OK, ST_NOMEM. */
enum status sample_offer(struct sample *sample, const struct sample_row *row);
/*
 * sample_take - at most n_rows of what was offered: of each class in turn, as long as there are
 * any; of a class, rows with pictures that are not among them already come first.
 *   order     in   [n_classes] classes, in the order in which they take turns and are given
 *   out_rows  out  [n_rows] by class, within it by row
 * Ends the sampling: only sample_destroy may follow.  Returns how many.
 */
int sample_take(struct sample *sample, const int *order, int n_classes,
                struct sample_row *out_rows);

#endif
