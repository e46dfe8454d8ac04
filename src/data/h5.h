/*
 * h5.h - private to src/data: HDF5 files without locks and without noise, and their attributes.
 *
 * HDF5 prints its own error stack unless told otherwise, once a thread.  Every public function of
 * this room calls h5_quiet first; h5_reason then gives the one line of the stack that says why.
 */
#ifndef EPIDOTE_DATA_H5_H
#define EPIDOTE_DATA_H5_H

#include <hdf5.h>

#include "base/base.h"

/* h5_quiet - no error stack from HDF5 on this thread's standard error. */
void h5_quiet(void);

/* h5_reason - what the innermost frame of this thread's error stack says, with the system's error
 * where there is one; "no reason given" if the stack is empty.  Returns out. */
enum { H5_REASON_BYTES = 256 };
const char *h5_reason(char out[H5_REASON_BYTES]);

/* h5_open_read - Returns ST_OK; ST_IO (cannot be opened); ST_FORMAT (empty, not HDF5, truncated).
 * Logged with path, reason and remedy. */
enum status h5_open_read(const char *path, hid_t *out_file);
/* h5_create - make path anew, empty.  Returns ST_OK, ST_IO (logged). */
enum status h5_create(const char *path, hid_t *out_file);

/* h5_close - close an id of any kind; ids below 0 are none. */
void h5_close(hid_t id);

/* h5_object_type - H5I_DATASET, H5I_GROUP, H5I_DATATYPE, or H5I_BADID if name is not there or is a
 * link that leads nowhere. */
H5I_type_t h5_object_type(hid_t loc, const char *name);

/*
 * h5_names - names of the links in loc, in the order of names, "a, b, c", for messages; cut with
 *   "..." where they do not fit; "nothing" if there are none.  Returns out.
 */
const char *h5_names(hid_t loc, char *out, size_t cap);

/* h5_text_type - a variable-length UTF-8 string; close with h5_close.  < 0 on failure. */
hid_t h5_text_type(void);

/* Attributes of the root group.  Getting: ST_END if the attribute is not there; texts may be
 * variable- or fixed-length, scalar or an array of one.  Not logged: the caller knows what it
 * means. */
enum status h5_attr_get_text(hid_t file, const char *name, struct buf *out); /* NUL at the end */
enum status h5_attr_get_u64(hid_t file, const char *name, uint64_t *out);
enum status h5_attr_put_text(hid_t file, const char *name, const char *text);
enum status h5_attr_put_u64(hid_t file, const char *name, uint64_t value);

#endif
