/*
 * background.c - one piece of work on a thread of its own, while its caller does something else.
 *
 * Not for parts of a computation: those are threads.c's.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/base.h"

struct background {
    pthread_t thread;
    background_fn work;
    void *arg; /* borrowed */
    enum status st;
    atomic_bool done;
};

static void *background_main(void *arg)
{
    struct background *background = arg;

    background->st = background->work(background->arg);
    atomic_store(&background->done, true);
    return NULL;
}

enum status background_start(background_fn work, void *arg, struct background **out_background)
{
    struct background *background = host_zalloc(sizeof *background);
    sigset_t all, before;

    if (background == NULL)
        return ST_NOMEM;
    background->work = work;
    background->arg = arg;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int result = pthread_create(&background->thread, NULL, background_main, background);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0) {
        log_error("cannot start a thread: %s", strerror(result));
        host_free(background);
        return ST_IO;
    }
    *out_background = background;
    return ST_OK;
}

bool background_done(const struct background *background)
{
    return atomic_load(&background->done);
}

enum status background_join(struct background *background)
{
    pthread_join(background->thread, NULL);
    const enum status st = background->st;

    host_free(background);
    return st;
}
