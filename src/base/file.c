/*
 * file.c - whole files: mapped, read, replaced atomically.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

enum status file_map_open(const char *path, struct file_map *out_map)
{
    enum status st = ST_IO;
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        return ST_IO;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        log_error("%s: not a regular file", path);
        goto err_close;
    }
    struct file_map map = {.data = NULL, .n_bytes = (size_t)info.st_size};
    if (map.n_bytes > 0) {
        void *data = mmap(NULL, map.n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);

        if (data == MAP_FAILED) {
            log_error("%s: cannot map %zu bytes: %s", path, map.n_bytes, strerror(errno));
            goto err_close;
        }
        map.data = data;
    }
    *out_map = map;
    st = ST_OK;
err_close:
    close(fd);
    return st;
}

void file_map_close(struct file_map *map)
{
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->n_bytes);
    *map = (struct file_map){0};
}

void file_map_forget(const struct file_map *map)
{
    if (map->data != NULL)
        madvise((void *)(uintptr_t)map->data, map->n_bytes, MADV_DONTNEED);
}

enum status file_read(const char *path, size_t limit_bytes, struct buf *buf)
{
    enum status st = ST_OK;
    const size_t before = buf->n_bytes;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        return ST_IO;
    }
    for (;;) {
        TRY(buf_reserve(buf, 65536), err_close);
        const ssize_t n = read(fd, buf->data + buf->n_bytes, 65536);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log_error("%s: cannot read: %s", path, strerror(errno));
            st = ST_IO;
            goto err_close;
        }
        if (n == 0)
            break;
        buf->n_bytes += (size_t)n;
        if (buf->n_bytes - before > limit_bytes) {
            log_error("%s: longer than the %zu bytes that such a file may have", path, limit_bytes);
            st = ST_FORMAT;
            goto err_close;
        }
    }
err_close:
    close(fd);
    return st;
}

enum status file_sync_dir(const char *path)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - path);

    if (n >= sizeof dir) {
        log_error("%s: path too long", path);
        return ST_IO;
    }
    memcpy(dir, path, n);
    dir[n] = '\0';
    const char *name = slash == NULL ? "." : n == 0 ? "/" : dir;
    const int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        log_error("%s: cannot open directory: %s", name, strerror(errno));
        return ST_IO;
    }
    /* Some network file systems cannot sync a directory and say EINVAL; they need not. */
    const bool failed = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP;
    if (failed)
        log_error("%s: cannot sync directory: %s", name, strerror(errno));
    close(fd);
    return failed ? ST_IO : ST_OK;
}

enum status file_write_atomic(const char *path, const void *data, size_t n_bytes)
{
    char temp[4096];
    size_t done = 0;

    if (snprintf(temp, sizeof temp, "%s.tmp", path) >= (int)sizeof temp) {
        log_error("%s: path too long", path);
        return ST_IO;
    }
    const int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        log_error("%s: cannot create: %s", temp, strerror(errno));
        return ST_IO;
    }
    while (done < n_bytes) {
        const ssize_t n = write(fd, (const uint8_t *)data + done, n_bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    bool ok = done == n_bytes && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (!ok || rename(temp, path) != 0) {
        log_error("%s: cannot write %zu bytes: %s", path, n_bytes, strerror(errno));
        unlink(temp);
        return ST_IO;
    }
    return file_sync_dir(path);
}
