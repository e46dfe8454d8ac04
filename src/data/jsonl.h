/*
 * jsonl.h - private to src/data: lines of a text file, and one JSON line as a prompt row.
 */
#ifndef EPIDOTE_DATA_JSONL_H
#define EPIDOTE_DATA_JSONL_H

#include <jansson.h>
#include <stdio.h>

#include "data/data.h"

/* ---- lines ---------------------------------------------------------------------------------- */

enum { JSONL_LINE_LIMIT = 256 << 20 }; /* bytes: a longer line is not one */

/* Reads lines; memory is that of the longest line. */
struct jsonl_lines {
    FILE *in;          /* borrowed */
    const char *path;  /* borrowed: for messages */
    uint64_t n_lines;  /* number of the current line, from 1 */
    struct buf buffer; /* what was read and not yet handed out, from `at` on */
    size_t at;
    bool at_end;
};
void jsonl_lines_begin(struct jsonl_lines *lines, FILE *in, const char *path);
void jsonl_lines_end(struct jsonl_lines *lines);
/*
 * jsonl_lines_next - the next line that is not blank, without its end (LF or CR LF) and without a
 *   byte order mark.
 *   out_line  out  view until the next call; no NUL behind it
 * Returns ST_OK, ST_END, ST_IO, ST_FORMAT (too long; logged), ST_NOMEM.
 */
enum status jsonl_lines_next(struct jsonl_lines *lines, const char **out_line, size_t *out_bytes);

/* ---- rows ----------------------------------------------------------------------------------- */

/* One line as a row.  Texts are views of root, of the line, or of `scratch`. */
struct jsonl_row {
    json_t *root;                              /* owned; NULL for a line of plain text */
    const char *prompt, *messages, *id, *stop; /* NULL: not given */
    size_t prompt_bytes, messages_bytes, id_bytes, stop_bytes;
    const char *answer, *class_name; /* for whoever judges the results; NULL: not given */
    size_t answer_bytes, class_bytes;
    const json_t *tokens; /* borrowed from root: an array of token ids, checked; or NULL */
    const json_t *images; /* borrowed from root: an array of paths, checked; or NULL */
    bool has_max_tokens, has_top_k, has_seed, has_temperature, has_top_p;
    int64_t max_tokens, top_k, seed;
    double temperature, top_p;
    char *scratch[2];                                  /* owned: messages and stop as JSON text */
    char id_text[24], answer_text[24], class_text[24]; /* of integers */
};

/*
 * jsonl_row_parse - one line as the fields in args name it.
 *   out_row    out  free with jsonl_row_free, also after a failure
 *   out_error  out  what is wrong with the line, without path and number
 * Returns ST_OK, ST_ROW, ST_NOMEM.
 */
enum status jsonl_row_parse(const struct import_args *args, const char *line, size_t n_bytes,
                            struct jsonl_row *out_row, struct row_error *out_error);
void jsonl_row_free(struct jsonl_row *row);

#endif
