/*
 * replace.h - private to src/data: a file that was written under another name takes its place.
 */
#ifndef EPIDOTE_DATA_REPLACE_H
#define EPIDOTE_DATA_REPLACE_H

#include "base/base.h"

/* replace_check - whether a command may write path: its folder is there, and nothing but a regular
 * file stands in its place.  Returns ST_OK, ST_CONFIG (logged). */
enum status replace_check(const char *path);

/* replace_file - sync temp_path, rename it to path, sync the directory.
 * Returns ST_OK, ST_IO (logged; temp_path is still there unless it was renamed). */
enum status replace_file(const char *temp_path, const char *path);

#endif
