/*
 * oneline.h - private to src/data: questions and answers as one line for people.
 */
#ifndef EPIDOTE_DATA_ONELINE_H
#define EPIDOTE_DATA_ONELINE_H

#include "data/data.h"

/* oneline_put - a text with every run of white space and control characters as one blank, at most
 * `most` characters (at least 4), then cut with "..."; bytes that are not UTF-8 become "?".
 * Returns ST_OK, ST_NOMEM. */
enum status oneline_put(const char *text, size_t n_bytes, int most, struct buf *out);

/*
 * oneline_question - what a row asks, likewise: of a chat what the last user says; without words
 *   for images, control tokens such as <|im_start|>, and the USER: and ASSISTANT: around a question
 *   in LLaVA's form.  Of a row that gives token ids only: their number.
 * Returns ST_OK, ST_NOMEM.
 */
enum status oneline_question(const struct prompt_row *row, int most, struct buf *out);

#endif
