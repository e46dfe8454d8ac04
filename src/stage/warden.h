/*
 * warden.h - what may end this rank from outside: a signal, a launcher that is gone.  Private to
 * this room.
 *
 * Launchers end the other ranks when one has died, so a signal may be the first news of a lost
 * rank; and they wait a second or two, so a rank that was told to go has to be gone by then.
 */
#ifndef EPIDOTE_STAGE_WARDEN_H
#define EPIDOTE_STAGE_WARDEN_H

#include <stdatomic.h>

#include "comm/comm.h"

/* From the signal to the end of the process, whatever it is doing. */
#define WARDEN_HARD_S 0.55

struct warden_args {
    const struct ranks *ranks; /* borrowed; NULL = this process alone */
    bool has_launcher;         /* end when the parent process is gone */
};

/* Why to stop. */
struct warden_cause {
    int signal;      /* 0 = none came */
    bool orphaned;   /* it is the warden's own: the launcher is gone */
    int lost;        /* rank of this host that was dead by then, the lowest; -1 = none */
    double frozen_s; /* this rank itself had been stopped for so long just before; 0 = no */
};

/* Could none be started, NULL does in its place: nothing ever comes. */
struct warden;
/* warden_start - catch SIGINT, SIGTERM and SIGUSR1 from now on.  One at a time: signals have no
 * argument. Local.  Returns ST_OK, ST_NOMEM, ST_IO. */
enum status warden_start(const struct warden_args *args, struct warden **out_warden);
/* warden_stop - signals have their default effect again.  Accepts NULL. */
void warden_stop(struct warden *warden);
/* warden_flag - becomes the number of a signal when it is time to stop; by then warden_cause knows
 * why. */
const atomic_int *warden_flag(const struct warden *warden);
struct warden_cause warden_cause(struct warden *warden);
/* warden_drain - becomes non-zero when SIGUSR1 asks for an end in order: rows in flight are
 * finished, no more are begun. */
const atomic_int *warden_drain(const struct warden *warden);
/* warden_find_lost - rank of this host whose process is gone, as of now, the lowest; -1 = none. */
int warden_find_lost(const struct warden *warden);
/* warden_pressed - how many signals have come: a second one means now. */
int warden_pressed(const struct warden *warden);
/* warden_guard - RESULTS are ours from now on: if the process has to be ended the hard way, say
 * beside them how.  NULL = no longer.  Borrowed. */
void warden_guard(struct warden *warden, const char *results_path);
/* warden_leave - the process ends within limit_s from now with this exit status, whatever becomes
 * of what it is about to do. */
void warden_leave(struct warden *warden, double limit_s, int exit_code);
/* warden_describe - "stopped by signal 15", "the launcher is gone" into buf.  Returns buf. */
char *warden_describe(const struct warden_cause *cause, char *buf, size_t cap);

#endif
