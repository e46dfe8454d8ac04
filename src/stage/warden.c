/*
 * warden.c - signals, a launcher that is gone, and the hard end after WARDEN_HARD_S.
 *
 *   handler   counts the signal and wakes the thread; nothing else
 *   thread    looks which ranks of this host are dead, raises the flag, waits, ends the process
 *
 * The flag is for the loop and for the steps of the start; what does not look at it (a long layer,
 * a merge, a hanging file system) is ended by the thread.  That is safe at any instant: so is kill
 * -9.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "stage/warden.h"

#define TICK_S 0.25
#define FROZEN_S 1.0     /* a tick that took so much longer: the process had been stopped */
#define THAW_S 2.0       /* for so long after that, it is still worth a word */
#define LAST_WORD_S 0.15 /* for the hard end itself */

struct warden {
    struct warden_args args;
    pthread_t thread;
    pid_t parent;
    bool *
        visible; /* [ranks] owned: its pid is a living process of this host, as seen at the start */
    pthread_mutex_t mutex;     /* of what follows */
    struct warden_cause cause; /* final once flag is up */
    const char *results_path;
    double leave_s; /* when to end the process; 0 = not decided */
    int leave_code; /* -1: as the cause says */
    atomic_int flag;
    atomic_bool end;
};

/* A signal handler has no argument; this is the only state outside structs in this room. */
static atomic_int n_signals, last_signal; /* lock-free: a handler may touch them */
static atomic_int drain_asked;
static atomic_int wake_fd = -1;

static void wake(void)
{
    const uint64_t one = 1;

    if (write(wake_fd, &one, sizeof one) < 0) {
        /* The counter is full: the thread is awake. */
    }
}

static void on_signal(int number)
{
    const int before = errno;

    last_signal = number;
    n_signals++;
    wake();
    errno = before;
}

static void on_drain(int number)
{
    drain_asked = number;
}

static void on_alarm(int number)
{
    (void)number;
    _exit(OUTCOME_BROKEN);
}

/* ---- the dead -------------------------------------------------------------------------------- */

/* Whether a process is there and not a zombie. */
static bool process_lives(int pid)
{
    char path[64], text[512] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const char *line = fgets(text, sizeof text, file);
    fclose(file);
    /* "pid (name) state ...": the name may hold anything, so look behind its last ')'. */
    const char *at = line != NULL ? strrchr(line, ')') : NULL;
    return at != NULL && at[1] == ' ' && at[2] != 'Z' && at[2] != 'X';
}

static int n_ranks(const struct warden *warden)
{
    return warden->args.ranks != NULL ? ranks_n(warden->args.ranks) : 0;
}

/* Ranks of this host whose processes can be seen: containers may hide them. */
static void note_visible(struct warden *warden)
{
    const struct ranks *ranks = warden->args.ranks;

    for (int r = 0; r < n_ranks(warden); r++)
        warden->visible[r] =
            r != ranks_me(ranks) &&
            ranks_info(ranks, r)->node == ranks_info(ranks, ranks_me(ranks))->node &&
            process_lives(ranks_info(ranks, r)->pid);
}

int warden_find_lost(const struct warden *warden)
{
    for (int r = 0; r < n_ranks(warden); r++)
        if (warden->visible[r] && !process_lives(ranks_info(warden->args.ranks, r)->pid))
            return r;
    return -1;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void doze(double seconds)
{
    struct pollfd waker = {.fd = wake_fd, .events = POLLIN};
    uint64_t n;

    if (poll(&waker, 1, 1 + (int)(seconds * 1000)) > 0 && read(waker.fd, &n, sizeof n) < 0) {
        /* Somebody else has read it: nothing is lost, the counts say what happened. */
    }
}

static void raise_flag(struct warden *warden, double frozen_s)
{
    const struct warden_cause cause = {
        .signal = n_signals > 0 ? last_signal : SIGTERM,
        .orphaned = n_signals == 0,
        .lost = warden_find_lost(warden),
        .frozen_s = frozen_s,
    };

    pthread_mutex_lock(&warden->mutex);
    warden->cause = cause;
    if (warden->leave_s == 0)
        warden->leave_s = clock_now_s() + WARDEN_HARD_S;
    pthread_mutex_unlock(&warden->mutex);
    warden->flag = cause.signal;
}

/* The orderly way has not come to an end.  If this one hangs too, the timer ends the process. */
static _Noreturn void end_hard(struct warden *warden)
{
    const struct itimerval last_word = {.it_value = {.tv_usec = (int)(LAST_WORD_S * 1e6)}};
    const struct warden_cause *cause = &warden->cause;
    const enum outcome outcome = cause->lost >= 0 ? OUTCOME_MACHINE : OUTCOME_BROKEN;
    char text[256] = "", who[160];

    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &last_word, NULL);
    pthread_mutex_lock(&warden->mutex);
    if (warden->leave_code >= 0)
        _exit(warden->leave_code);
    warden_describe(cause, text, sizeof text);
    if (cause->lost >= 0)
        snprintf(text, sizeof text, "%s has died",
                 ranks_who(warden->args.ranks, NULL, cause->lost, who, sizeof who));
    if (warden->results_path != NULL)
        (void)status_note(warden->results_path, outcome, text);
    _exit((int)outcome);
}

/* When to end the process: 0 = not decided. */
static double leave_time(struct warden *warden)
{
    pthread_mutex_lock(&warden->mutex);
    const double leave_s = warden->leave_s;
    pthread_mutex_unlock(&warden->mutex);
    return leave_s;
}

static void *warden_main(void *arg)
{
    struct warden *warden = arg;
    double tick_s = clock_now_s(), thawed_s = -THAW_S, frozen_s = 0;

    while (!atomic_load(&warden->end)) {
        const double now_s = clock_now_s(), leave_s = leave_time(warden);

        if (leave_s > 0 && now_s >= leave_s)
            end_hard(warden);
        if (now_s - tick_s > TICK_S + FROZEN_S) {
            frozen_s = now_s - tick_s;
            thawed_s = now_s;
        }
        tick_s = now_s;
        const bool orphaned = warden->args.has_launcher && getppid() != warden->parent;
        if (warden->flag == 0 && (n_signals > 0 || orphaned))
            raise_flag(warden, now_s - thawed_s < THAW_S ? frozen_s : 0);
        else
            doze(leave_s > 0 && leave_s - now_s < TICK_S ? leave_s - now_s : TICK_S);
    }
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

static void catch_signal(int number, void (*handler)(int))
{
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    sigaction(number, &action, NULL);
}

enum status warden_start(const struct warden_args *args, struct warden **out_warden)
{
    struct warden *warden = host_zalloc(sizeof *warden);

    if (warden == NULL)
        return ST_NOMEM;
    warden->args = *args;
    warden->parent = args->ranks != NULL ? ranks_parent(args->ranks) : getppid();
    warden->cause.lost = warden->leave_code = -1;
    warden->visible = host_zalloc((size_t)n_ranks(warden) * sizeof *warden->visible);
    if (warden->visible == NULL) {
        host_free(warden);
        return ST_NOMEM;
    }
    note_visible(warden);
    pthread_mutex_init(&warden->mutex, NULL);
    n_signals = drain_asked = 0;
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0 || pthread_create(&warden->thread, NULL, warden_main, warden) != 0) {
        log_error("cannot set up the handling of signals: %s", strerror(errno));
        if (wake_fd >= 0)
            close(wake_fd);
        pthread_mutex_destroy(&warden->mutex);
        host_free(warden->visible);
        host_free(warden);
        return ST_IO;
    }
    catch_signal(SIGINT, on_signal);
    catch_signal(SIGTERM, on_signal);
    catch_signal(SIGUSR1, on_drain);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit shows as a failed write, like a full disk */
    signal(SIGPIPE, SIG_IGN);
    *out_warden = warden;
    return ST_OK;
}

void warden_stop(struct warden *warden)
{
    if (warden == NULL)
        return;
    catch_signal(SIGINT, SIG_DFL);
    catch_signal(SIGTERM, SIG_DFL);
    catch_signal(SIGUSR1, SIG_IGN); /* the end is near anyway */
    atomic_store(&warden->end, true);
    wake();
    pthread_join(warden->thread, NULL);
    close(wake_fd);
    pthread_mutex_destroy(&warden->mutex);
    host_free(warden->visible);
    host_free(warden);
}

/* ---- questions ------------------------------------------------------------------------------- */

const atomic_int *warden_flag(const struct warden *warden)
{
    static const atomic_int never;

    return warden != NULL ? &warden->flag : &never;
}

const atomic_int *warden_drain(const struct warden *warden)
{
    (void)warden;
    return &drain_asked;
}

struct warden_cause warden_cause(struct warden *warden)
{
    if (warden == NULL)
        return (struct warden_cause){.lost = -1};
    pthread_mutex_lock(&warden->mutex);
    const struct warden_cause cause = warden->cause;
    pthread_mutex_unlock(&warden->mutex);
    return cause;
}

int warden_pressed(const struct warden *warden)
{
    (void)warden;
    return n_signals;
}

void warden_guard(struct warden *warden, const char *results_path)
{
    if (warden == NULL)
        return;
    pthread_mutex_lock(&warden->mutex);
    warden->results_path = results_path;
    pthread_mutex_unlock(&warden->mutex);
}

void warden_leave(struct warden *warden, double limit_s, int exit_code)
{
    const double at_s = clock_now_s() + limit_s;

    if (warden == NULL)
        return;
    pthread_mutex_lock(&warden->mutex);
    if (warden->leave_s == 0 || at_s < warden->leave_s)
        warden->leave_s = at_s;
    warden->leave_code = exit_code;
    pthread_mutex_unlock(&warden->mutex);
    wake();
}

char *warden_describe(const struct warden_cause *cause, char *buf, size_t cap)
{
    if (cause->orphaned)
        snprintf(buf, cap, "the launcher is gone");
    else
        snprintf(buf, cap, "stopped by signal %d", cause->signal);
    return buf;
}
