/*
 * replace.c - a file that was written under another name takes its place: sync, rename, sync.
 *
 * For files that are too large for base's file_write_atomic.  Callers: import.c, export.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "data/replace.h"

enum status replace_file(const char *temp_path, const char *path)
{
    const int fd = open(temp_path, O_RDWR | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    ok = (fd < 0 || close(fd) == 0) && ok;
    if (!ok) {
        log_error("%s: cannot sync: %s; make room there and start the same command again",
                  temp_path, strerror(errno));
        return ST_IO;
    }
    if (rename(temp_path, path) != 0) {
        log_error("%s: cannot rename to %s: %s", temp_path, path, strerror(errno));
        return ST_IO;
    }
    return file_sync_dir(path);
}
