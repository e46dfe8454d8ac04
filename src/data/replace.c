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

enum status replace_allowed(const char *in_path, const char *out_path)
{
    struct stat in, out;
    const char *slash = strrchr(out_path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - out_path);
    char *dir = slash == NULL ? host_strdup(".") : host_strndup(out_path, n > 0 ? n : 1);

    if (dir == NULL)
        return ST_NOMEM;
    const bool writable = access(dir, W_OK | X_OK) == 0;
    if (!writable)
        log_error("%s: cannot create: %s: %s; create this folder, or choose another", out_path, dir,
                  strerror(errno));
    host_free(dir);
    if (!writable)
        return ST_CONFIG;
    if (stat(out_path, &out) != 0)
        return ST_OK;
    if (!S_ISREG(out.st_mode)) { /* a rename would put a file in the place of /dev/null */
        log_error("%s: not a regular file, so it is not replaced; name another file", out_path);
        return ST_CONFIG;
    }
    if (stat(in_path, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
        log_error("%s: input and output are the same file; name another one to write", out_path);
        return ST_CONFIG;
    }
    return ST_OK;
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
