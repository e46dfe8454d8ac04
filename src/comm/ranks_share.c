/*
 * ranks_share.c - memory that the ranks of a node have in common.
 *
 * The node's first rank makes a memfd, the others open it as /proc/PID/fd/N of that process, so it
 * has no name in any file system and goes away with its last process, however that ends.  Ranks in
 * containers of their own may see another process under that PID, or none: a random number behind
 * the memory proves that it is the same.
 *
 *   first      make, write the number ─ gather (pid, fd, number) ─ gather (well?) ─ close fd
 *   others                              gather ─ open, compare, map ─ gather
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/ranks.h"

struct offer {       /* what the node's first rank has made */
    int32_t pid, fd; /* fd -1: nothing */
    uint64_t number, n_bytes;
};

struct answer { /* how a rank fared */
    int32_t failed;
    char why[sizeof((struct row_error *)0)->text];
};

static enum status failed(struct row_error *why, const char *doing, size_t n_bytes)
{
    return row_error_set(why, "cannot %s %zu bytes of shared memory: %s", doing, n_bytes,
                         strerror(errno));
}

/* Where the number stands: on a page after the memory. */
static size_t number_at(size_t n_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (n_bytes + page - 1) / page * page;
}

/* Returns ST_OK, ST_ROW (why). */
static enum status make(size_t n_bytes, struct offer *offer, struct row_error *why)
{
    const size_t end = number_at(n_bytes);
    int fd = -1;

    if (end < n_bytes || end > INT64_MAX - sizeof offer->number)
        return row_error_set(why, "cannot make %zu bytes of shared memory: too many", n_bytes);
    if (getrandom(&offer->number, sizeof offer->number, 0) != (ssize_t)sizeof offer->number)
        return failed(why, "draw a number for", n_bytes);
    fd = memfd_create("epidote", MFD_CLOEXEC);
    if (fd < 0)
        return failed(why, "make", n_bytes);
    if (pwrite(fd, &offer->number, sizeof offer->number, (off_t)end) !=
        (ssize_t)sizeof offer->number) {
        const enum status st = failed(why, "make", n_bytes); /* before close changes errno */
        close(fd);
        return st;
    }
    offer->fd = fd;
    return ST_OK;
}

/* The memory that `offer` names, opened in the same way by all ranks of the node but the first.
 * Returns ST_OK, ST_ROW (why). */
static enum status open_offer(const struct offer *offer, int *out_fd, struct row_error *why)
{
    const size_t n_bytes = (size_t)offer->n_bytes;
    char path[64];
    uint64_t number = 0;
    struct stat is;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", offer->pid, offer->fd);
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK); /* a stranger's may be a pipe */
    if (fd < 0)
        return row_error_set(why, "cannot open %s: %s (containers of their own?)", path,
                             strerror(errno));
    if (fstat(fd, &is) != 0 || !S_ISREG(is.st_mode) ||
        pread(fd, &number, sizeof number, (off_t)number_at(n_bytes)) != (ssize_t)sizeof number ||
        number != offer->number) {
        close(fd);
        return row_error_set(why, "%s is not the memory of this job (containers of their own?)",
                             path);
    }
    *out_fd = fd;
    return ST_OK;
}

static enum status map(int fd, size_t n_bytes, void **out_base, struct row_error *why)
{
    void *base = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (base == MAP_FAILED)
        return failed(why, "map", n_bytes);
    madvise(base, n_bytes, MADV_HUGEPAGE); /* a hint: small pages work too */
    *out_base = base;
    return ST_OK;
}

/* The first rank of the node of `rank`, by number of rank. */
static int first_of_node(const struct ranks *ranks, int rank)
{
    int first = 0;

    while (ranks->info[first].node != ranks->info[rank].node)
        first++;
    return first;
}

/* A node has the memory if all of its ranks do.  Returns ST_OK, ST_ROW (why). */
static enum status judge(const struct ranks *ranks, const struct answer *answers,
                         struct row_error *why)
{
    char who[160];

    for (int rank = 0; rank < ranks->n; rank++)
        if (ranks->info[rank].node == ranks->info[ranks->me].node && answers[rank].failed)
            return row_error_set(why, "%s %.*s", ranks_who(ranks, NULL, rank, who, sizeof who), 160,
                                 answers[rank].why);
    return ST_OK;
}

enum status ranks_share(struct ranks *ranks, size_t n_bytes, void **out_base,
                        struct row_error *out_why)
{
    enum status st = ST_NOMEM;
    const int first = first_of_node(ranks, ranks->me);
    struct offer offer = {.pid = (int32_t)getpid(), .fd = -1, .n_bytes = n_bytes};
    struct offer *offers = host_alloc((size_t)ranks->n * sizeof *offers);
    struct answer mine = {0}, *answers = host_alloc((size_t)ranks->n * sizeof *answers);
    struct row_error why = {""};
    void *base = NULL;
    int fd = -1;

    if (offers == NULL || answers == NULL)
        goto err_free;
    if (n_bytes > 0 && ranks->info[ranks->me].node_ranks == 1) { /* nobody to share with */
        base = pages_map(n_bytes);
        if (base == NULL)
            mine.failed = row_error_set(&why, "%s", log_last_error()) != ST_OK;
    } else if (n_bytes > 0 && ranks->me == first) {
        mine.failed = make(n_bytes, &offer, &why) != ST_OK;
        fd = offer.fd;
    }
    TRY(ranks_gather(ranks, &offer, sizeof offer, offers), err_close);
    if (offers[first].n_bytes != n_bytes)
        mine.failed = row_error_set(&why, "wants %zu bytes, rank %d made %llu", n_bytes, first,
                                    (unsigned long long)offers[first].n_bytes) != ST_OK;
    else if (ranks->me != first && offers[first].fd >= 0)
        mine.failed = open_offer(&offers[first], &fd, &why) != ST_OK;
    if (fd >= 0)
        mine.failed = map(fd, n_bytes, &base, &why) != ST_OK;
    memcpy(mine.why, why.text, sizeof mine.why);
    TRY(ranks_gather(ranks, &mine, sizeof mine, answers), err_unmap);
    if (judge(ranks, answers, out_why) != ST_OK) {
        ranks_unshare(base, n_bytes);
        base = NULL;
    }
    *out_base = base;
    goto err_close; /* the mapping holds the memory now */
err_unmap:
    ranks_unshare(base, n_bytes);
err_close:
    if (fd >= 0)
        close(fd);
err_free:
    host_free(answers);
    host_free(offers);
    return st;
}

void ranks_unshare(void *base, size_t n_bytes)
{
    pages_unmap(base, n_bytes);
}
