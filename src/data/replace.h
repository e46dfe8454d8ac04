/*
 * replace.h - private to src/data: a file that was written under another name takes its place.
 */
#ifndef EPIDOTE_DATA_REPLACE_H
#define EPIDOTE_DATA_REPLACE_H

#include "base/base.h"

/* replace_allowed - whether out_path may be replaced by what is made of in_path: its folder is
 * writable, and it is not there or is a regular file that is not the input.
 * Returns ST_OK, ST_CONFIG, ST_NOMEM (logged). */
enum status replace_allowed(const char *in_path, const char *out_path);
/* replace_file - sync temp_path, rename it to path, sync the directory.
 * Returns ST_OK, ST_IO (logged; temp_path is still there unless it was renamed). */
enum status replace_file(const char *temp_path, const char *path);

#endif
