/*
 * digest.h - private to src/data: one hash for the content of a column, however it is stored.
 *
 * A column is a stream of elements, each hashed in one form (a text with its length, an int64 with
 * its state, a double), so chunks, windows and the widths of types make no difference.  A file's
 * digest is the hash of its columns' names and hashes in the order of names.
 */
#ifndef EPIDOTE_DATA_DIGEST_H
#define EPIDOTE_DATA_DIGEST_H

#include "data/column.h"

/* One column's stream. */
struct digest {
    struct hash_state hash;
    uint64_t n_elements;
};
void digest_begin(struct digest *digest);
void digest_text(struct digest *digest, const char *text, size_t n_bytes);
void digest_int(struct digest *digest, int64_t value, enum number_state state);
void digest_real(struct digest *digest, double value); /* all NaNs are one */
/* digest_end - close the stream and add it to a file's digest under its name. */
void digest_end(const struct digest *digest, const char *name, struct hash_state *whole);

/* digest_results_begin - begin the digest of a result file of rows [rows_begin, rows_end). */
void digest_results_begin(struct hash_state *whole, uint64_t rows_begin, uint64_t rows_end);

/* digest_add_column, digest_add_ragged - the same for a column that is read now, in windows, under
 * the name it was opened with.  A ragged column counts as two: the rows' lengths, under the name of
 * its offsets, then the values in use.
 * Return ST_OK, ST_IO, ST_NOMEM. */
enum status digest_add_column(struct hash_state *whole, const struct column *column);
enum status digest_add_ragged(struct hash_state *whole, const struct ragged *ragged);

#endif
