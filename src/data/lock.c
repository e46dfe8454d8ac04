/*
 * lock.c - RESULTS.lock: one owner at a time, named in the file, taken over when he is dead.
 *
 * flock(2) decides where the file system has it: the kernel lets go when the owner ends, however he
 * ends.  The content then only says who it is.  Elsewhere the content decides: an owner on this
 * host is alive if his pid is and began when the file says; of an owner on another host nothing is
 * known, so he is refused with a remedy, unless he was this very Slurm job before it was requeued.
 *
 * The file is removed while it is still held.  Whoever opened it before that gets a lock on a file
 * without a name, sees so, and starts over: two owners cannot hold two files.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/journal.h"

enum {
    CONTENT_MAX_BYTES = 4096,
    ATTEMPTS = 100,  /* to take a lock that vanishes under our hands */
    HELD_TRIES = 10, /* a look holds it for an instant */
    HELD_WAIT_US = 20000,
    SETTLE_US = 500000, /* without flock: time for a rival to show himself */
};

struct lock {
    char *path;              /* owned */
    int fd;                  /* -1 without flock */
    struct lock_owner owner; /* us */
};

/* ---- who ------------------------------------------------------------------------------------- */

/* When process pid began, in clock ticks since boot; 0 if there is none. */
static uint64_t process_started(int64_t pid)
{
    char path[64], text[1024];
    uint64_t started = 0;

    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* "pid (name) state ...": the name may hold anything, so count from its last ')'. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL || sscanf(at, " %" SCNu64, &started) != 1)
        return 0;
    return started;
}

static bool process_alive(const struct lock_owner *owner)
{
    return owner->pid > 0 && (kill((pid_t)owner->pid, 0) == 0 || errno == EPERM) &&
           process_started(owner->pid) == owner->started;
}

/* This process's command line, for people. */
static void own_command(char *out, size_t cap)
{
    const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, out, cap - 1) : -1;

    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    for (ssize_t i = 0; i + 1 < n; i++)
        if (out[i] == '\0')
            out[i] = ' ';
}

static void own_host(char *out, size_t cap)
{
    if (gethostname(out, cap) != 0)
        snprintf(out, cap, "unknown");
    out[cap - 1] = '\0';
}

static void owner_self(bool flocked, struct lock_owner *out_owner)
{
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    struct lock_owner owner = {.pid = (int64_t)getpid(), .flock = flocked};

    owner.restart = restart != NULL ? strtoll(restart, NULL, 10) : 0;
    owner.started = process_started(owner.pid);
    own_host(owner.host, sizeof owner.host);
    clock_utc(owner.since, sizeof owner.since);
    snprintf(owner.job, sizeof owner.job, "%s", job != NULL ? job : "");
    own_command(owner.command, sizeof owner.command);
    *out_owner = owner;
}

/* Whether the owner is surely gone: his process is not there, or he was this very Slurm job before
 * it was put into the queue again. */
static bool owner_is_dead(const struct lock_owner *owner)
{
    struct lock_owner self;

    owner_self(false, &self);
    if (strcmp(owner->host, self.host) == 0 && !process_alive(owner))
        return true;
    return owner->job[0] != '\0' && strcmp(owner->job, self.job) == 0 &&
           owner->restart < self.restart;
}

static bool same_process(const struct lock_owner *a, const struct lock_owner *b)
{
    return a->pid == b->pid && a->started == b->started && strcmp(a->host, b->host) == 0;
}

/* "pid 41 on node07 since 2026-01-31T09:00:00Z, job 7 (epidote run x.cfg)" */
static void owner_print(const struct lock_owner *owner, char *out, size_t cap)
{
    if (owner->pid == 0)
        snprintf(out, cap, "an owner who has not said who he is");
    else
        snprintf(out, cap, "pid %" PRId64 " on %s since %s%s%s (%.200s)", owner->pid, owner->host,
                 owner->since, owner->job[0] != '\0' ? ", job " : "", owner->job, owner->command);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void copy_string(const json_t *object, const char *key, char *out, size_t cap)
{
    const char *value = json_string_value(json_object_get(object, key));

    snprintf(out, cap, "%s", value != NULL ? value : "");
}

/* What the file says; pid 0 if it says nothing that can be understood. */
static void owner_read(int fd, struct lock_owner *out_owner)
{
    char text[CONTENT_MAX_BYTES];
    const ssize_t n = pread(fd, text, sizeof text, 0);
    json_t *root = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
    const json_int_t pid = json_integer_value(json_object_get(root, "pid"));
    const json_int_t started = json_integer_value(json_object_get(root, "started"));

    *out_owner = (struct lock_owner){
        .pid = pid > 0 ? (int64_t)pid : 0,
        .started = started > 0 ? (uint64_t)started : 0,
        .restart = (int64_t)json_integer_value(json_object_get(root, "restart")),
        .flock = json_is_true(json_object_get(root, "flock")),
    };
    copy_string(root, "host", out_owner->host, sizeof out_owner->host);
    copy_string(root, "since", out_owner->since, sizeof out_owner->since);
    copy_string(root, "job", out_owner->job, sizeof out_owner->job);
    copy_string(root, "command", out_owner->command, sizeof out_owner->command);
    json_decref(root);
}

/* Bytes that no JSON reader would take are a '?' in a command line. */
static json_t *text_value(const char *text)
{
    json_t *value = json_string(text);

    return value != NULL ? value : json_string("?");
}

static enum status owner_write(int fd, const char *path, const struct lock_owner *owner)
{
    enum status st = ST_NOMEM;
    char *text = NULL;
    json_t *root = json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:o, s:b}", "host",
                             text_value(owner->host), "pid", (json_int_t)owner->pid, "started",
                             (json_int_t)owner->started, "since", text_value(owner->since), "job",
                             text_value(owner->job), "restart", (json_int_t)owner->restart,
                             "command", text_value(owner->command), "flock", (int)owner->flock);

    if (root == NULL || (text = json_dumps(root, JSON_INDENT(2))) == NULL) {
        log_error("%s: no memory to write it", path);
        goto err;
    }
    const size_t n = strlen(text);
    errno = ENOSPC; /* what a short write means */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, n, 0) != (ssize_t)n || fsync(fd) != 0) {
        log_error("%s: cannot write: %s; free space there and run the same command again", path,
                  strerror(errno));
        st = ST_IO;
        goto err;
    }
    st = ST_OK;
err:
    free(text);
    json_decref(root);
    return st;
}

static enum status refuse(const char *path, const struct lock_owner *owner, bool certain)
{
    char who[1024];

    owner_print(owner, who, sizeof who);
    if (certain)
        log_error("%s: %s works on this result file: wait for its end, stop it, or choose another "
                  "`results` path",
                  path, who);
    else
        log_error("%s: %s may still work on this result file, and this file system cannot tell "
                  "(no flock): if that process has ended, remove this lock; else choose another "
                  "`results` path",
                  path, who);
    return ST_CONFIG;
}

static void say_taken_over(const char *path, const struct lock_owner *owner)
{
    char who[1024];

    owner_print(owner, who, sizeof who);
    log_info("%s: taken over from %s, whose process has ended", path, who);
}

static enum status cannot_open(const char *path)
{
    log_error("%s: cannot create: %s; the folder of `results` has to be there and writable: create "
              "it, or choose another `results` path",
              path, strerror(errno));
    return ST_IO;
}

/* ---- with flock ------------------------------------------------------------------------------ */

/* Whether fd is still the file that path names. */
static bool still_named(int fd, const char *path)
{
    struct stat held, named;

    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

/* flock without waiting, but over the instant that a look takes.  Returns 0 or errno. */
static int flock_try(int fd)
{
    for (int i = 0;; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK || i == HELD_TRIES)
            return errno;
        clock_sleep_us(HELD_WAIT_US);
    }
}

/* Returns also ST_AGAIN: the file was removed meanwhile; ST_UNSUPPORTED: no flock here. */
static enum status take_flock(struct lock *lock)
{
    enum status st = ST_OK;
    struct lock_owner before;

    const int fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return cannot_open(lock->path);
    const int failed = flock_try(fd);
    if (failed != 0 && failed != EWOULDBLOCK) {
        st = ST_UNSUPPORTED;
        goto err;
    }
    owner_read(fd, &before);
    if (failed != 0) {
        st = still_named(fd, lock->path) ? refuse(lock->path, &before, true) : ST_AGAIN;
        goto err;
    }
    if (!still_named(fd, lock->path)) {
        st = ST_AGAIN;
        goto err;
    }
    /* Held by its content alone, by a process that saw this file system without flock. */
    if (before.pid != 0 && !before.flock && !owner_is_dead(&before)) {
        st = refuse(lock->path, &before, false);
        goto err;
    }
    if (before.pid != 0)
        say_taken_over(lock->path, &before);
    owner_self(true, &lock->owner);
    TRY(owner_write(fd, lock->path, &lock->owner), err_unlink);
    lock->fd = fd;
    return ST_OK;
err_unlink:
    unlink(lock->path); /* ours: it is still held */
err:
    close(fd);
    return st;
}

/* ---- by content ------------------------------------------------------------------------------ */

/* Returns also ST_AGAIN: the file vanished or appeared meanwhile. */
static enum status take_content(struct lock *lock)
{
    enum status st = ST_OK;
    struct lock_owner before, now;
    char *own_path = NULL;
    const size_t cap = strlen(lock->path) + sizeof lock->owner.host + 32;

    owner_self(false, &lock->owner);
    own_path = host_alloc(cap);
    if (own_path == NULL)
        return ST_NOMEM;
    snprintf(own_path, cap, "%s.%s.%" PRId64, lock->path, lock->owner.host, lock->owner.pid);
    int fd = open(own_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        st = cannot_open(own_path);
        goto err;
    }
    TRY(owner_write(fd, own_path, &lock->owner), err_close);
    close(fd);

    if (link(own_path, lock->path) == 0) /* atomic on every file system */
        goto taken;
    fd = open(lock->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        st = errno == ENOENT ? ST_AGAIN : cannot_open(lock->path);
        goto err_unlink;
    }
    owner_read(fd, &before);
    if (!owner_is_dead(&before)) {
        st = refuse(lock->path, &before, strcmp(before.host, lock->owner.host) == 0);
        goto err_close;
    }
    say_taken_over(lock->path, &before);
    close(fd);
    /* Two may find him dead at once.  The last rename wins; the others see it. */
    if (rename(own_path, lock->path) != 0) {
        st = cannot_open(lock->path);
        goto err_unlink;
    }
    clock_sleep_us(SETTLE_US);
    fd = open(lock->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        st = ST_AGAIN;
        goto err_unlink;
    }
    owner_read(fd, &now);
    if (!same_process(&now, &lock->owner)) {
        st = refuse(lock->path, &now, true);
        goto err_close;
    }
    close(fd);
taken:
    unlink(own_path);
    host_free(own_path);
    return ST_OK;
err_close:
    close(fd);
err_unlink:
    unlink(own_path);
err:
    host_free(own_path);
    return st;
}

/* ---- public ---------------------------------------------------------------------------------- */

enum status lock_take(const char *path, enum lock_mode mode, struct lock **out_lock)
{
    enum status st = ST_NOMEM;
    struct lock *lock = host_zalloc(sizeof *lock);

    if (lock == NULL)
        return ST_NOMEM;
    lock->fd = -1;
    lock->path = host_strdup(path);
    if (lock->path == NULL)
        goto err;
    st = ST_AGAIN;
    for (int i = 0; st == ST_AGAIN && i < ATTEMPTS; i++) {
        st = mode == LOCK_FLOCK ? take_flock(lock) : take_content(lock);
        if (st == ST_UNSUPPORTED) {
            log_info("%s: this file system has no flock: the lock is kept by its content", path);
            mode = LOCK_CONTENT;
            st = ST_AGAIN;
        }
    }
    if (st == ST_AGAIN) {
        log_error("%s: appears and vanishes: other jobs come and go on this result file", path);
        st = ST_CONFIG;
    }
    if (st != ST_OK)
        goto err;
    *out_lock = lock;
    return ST_OK;
err:
    host_free(lock->path);
    host_free(lock);
    return st;
}

void lock_release(struct lock *lock)
{
    struct lock_owner now;

    if (lock == NULL)
        return;
    const int fd = lock->fd >= 0 ? lock->fd : open(lock->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        owner_read(fd, &now);
        /* Only ours: someone may have removed it by hand, and another job taken it. */
        if (same_process(&now, &lock->owner) && still_named(fd, lock->path) &&
            unlink(lock->path) != 0)
            log_warn("%s: cannot remove: %s", lock->path, strerror(errno));
        close(fd);
    }
    host_free(lock->path);
    host_free(lock);
}

enum lock_state lock_look(const char *path, struct lock_owner *out_owner)
{
    struct lock_owner owner;
    bool held;

    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return LOCK_FREE;
    owner_read(fd, &owner);
    if (owner.pid == 0 || owner.flock) {
        /* Shared and for an instant; lock_take tries for longer than that. */
        held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    } else {
        held = !owner_is_dead(&owner);
    }
    close(fd);
    *out_owner = owner;
    return held ? LOCK_HELD : LOCK_DEAD;
}
