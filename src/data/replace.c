/*
 * replace.c - a file that was written under another name takes its place: sync, rename, sync.
 *
 * For files that are too large for base's file_write_atomic.  Callers: import.c, export.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/replace.h"

enum status replace_check(const char *path)
{
    struct stat facts;
    const char *slash = strrchr(path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - path);
    char *dir = slash == NULL ? host_strdup(".") : host_strndup(path, n > 0 ? n : 1);
    enum status st = ST_OK;

    if (dir == NULL)
        return ST_NOMEM;
    if (access(dir, W_OK | X_OK) != 0) {
        log_error("%s: cannot create: %s: %s; create this folder, or choose another", path, dir,
                  strerror(errno));
        st = ST_CONFIG;
    } else if (stat(path, &facts) == 0 && !S_ISREG(facts.st_mode)) {
        log_error("%s is not a regular file and is not replaced: choose another name", path);
        st = ST_CONFIG;
    }
    host_free(dir);
    return st;
}

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
