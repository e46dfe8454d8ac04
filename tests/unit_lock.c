/* TEST */
/* RESULTS.lock: one owner at a time, dead owners make room, in both modes. */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>

#include "journal_test.h"

/* A process that takes the lock, says so on a pipe, and waits to be killed. */
static pid_t start_owner(enum lock_mode mode)
{
    int ends[2];
    char byte = 0;

    CHECK_INT(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        struct lock *lock = NULL;

        setenv("SLURM_JOB_ID", "4711", 1);
        byte = lock_take(beside(".lock"), mode, &lock) == ST_OK ? 'y' : 'n';
        if (write(ends[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    CHECK_INT(read(ends[0], &byte, 1), 1);
    CHECK_INT(byte, 'y');
    close(ends[0]);
    return pid;
}

static void end_owner(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void take_and_release(enum lock_mode mode)
{
    struct lock *lock = NULL;
    struct lock_owner owner;

    dir_renew();
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_FREE);
    CHECK_INT(lock_take(beside(".lock"), mode, &lock), ST_OK);
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_HELD);
    CHECK_INT(owner.pid, getpid());
    CHECK_INT(owner.flock, mode == LOCK_FLOCK);
    CHECK_HAS(owner.command, "unit_lock");
    CHECK_INT(strlen(owner.since), 20);
    CHECK_INT(dir_entries(test_dir), 1);
    lock_release(lock);
    CHECK_INT(dir_entries(test_dir), 0);
    lock_release(NULL);
}

static void held_by_another(enum lock_mode mode)
{
    struct lock *lock = NULL;
    struct lock_owner owner;
    struct journal *journal = NULL;
    const struct journal_args args = job(0, 10);
    char text[64];

    dir_renew();
    const pid_t pid = start_owner(mode);
    CHECK_INT(lock_take(beside(".lock"), mode, &lock), ST_CONFIG);
    snprintf(text, sizeof text, "r.h5.lock: pid %d on ", (int)pid);
    CHECK_HAS(log_last_error(), text);
    gethostname(text, sizeof text);
    CHECK_HAS(log_last_error(), text);
    CHECK_HAS(log_last_error(), ", job 4711 (");
    CHECK_HAS(log_last_error(), "unit_lock");
    CHECK_HAS(log_last_error(), "since 20");
    CHECK_HAS(log_last_error(), "another `results` path");
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_HELD);
    CHECK_INT(owner.pid, pid);
    CHECK_STR(owner.job, "4711");
    /* The other mode respects it too. */
    CHECK_INT(lock_take(beside(".lock"), mode == LOCK_FLOCK ? LOCK_CONTENT : LOCK_FLOCK, &lock),
              ST_CONFIG);
    CHECK_INT(journal_open(&args, &journal), ST_CONFIG);
    CHECK_HAS(log_last_error(), "4711");

    end_owner(pid);
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_DEAD);
    CHECK_INT(lock_take(beside(".lock"), mode, &lock), ST_OK);
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_HELD);
    CHECK_INT(owner.pid, getpid());
    lock_release(lock);
    CHECK_INT(dir_entries(test_dir), 0);
}

static void write_owner(const char *host, int64_t pid, uint64_t started, const char *flocked)
{
    char text[400];

    snprintf(text, sizeof text,
             "{\"host\": \"%s\", \"pid\": %" PRId64 ", \"started\": %" PRIu64
             ", \"since\": \"2026-01-31T09:00:00Z\", \"job\": \"\", \"command\": \"epidote\", "
             "\"flock\": %s}",
             host, pid, started, flocked);
    write_file(beside(".lock"), text, strlen(text));
}

static void other_host(void)
{
    struct lock *lock = NULL;
    struct lock_owner owner;

    dir_renew();
    /* Of a process on another node, only flock knows whether it lives. */
    write_owner("elsewhere", 41, 7, "false");
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_HELD);
    CHECK_INT(lock_take(beside(".lock"), LOCK_CONTENT, &lock), ST_CONFIG);
    CHECK_HAS(log_last_error(), "pid 41 on elsewhere since 2026-01-31T09:00:00Z (epidote)");
    CHECK_HAS(log_last_error(), "if that process has ended, remove this lock");
    CHECK_INT(lock_take(beside(".lock"), LOCK_FLOCK, &lock), ST_CONFIG);
    write_owner("elsewhere", 41, 7, "true");
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_DEAD);
    CHECK_INT(lock_take(beside(".lock"), LOCK_FLOCK, &lock), ST_OK);
    lock_release(lock);
}

/* A job that Slurm has put into the queue again is not where it was before; another job may be. */
static void requeued(void)
{
    static const char text[] =
        "{\"host\": \"elsewhere\", \"pid\": 41, \"started\": 7, \"job\": \"4711\", "
        "\"restart\": 1, \"flock\": false}";
    static const struct {
        const char *job, *restart;
        bool dead;
    } cases[] = {{"4711", "2", true}, {"4711", "1", false}, {"4712", "2", false}};
    struct lock *lock = NULL;
    struct lock_owner owner;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int mode = LOCK_FLOCK; mode <= LOCK_CONTENT; mode++) {
            dir_renew();
            write_file(beside(".lock"), text, strlen(text));
            setenv("SLURM_JOB_ID", cases[i].job, 1);
            setenv("SLURM_RESTART_COUNT", cases[i].restart, 1);
            CHECK_INT(lock_look(beside(".lock"), &owner), cases[i].dead ? LOCK_DEAD : LOCK_HELD);
            CHECK_INT(lock_take(beside(".lock"), (enum lock_mode)mode, &lock),
                      cases[i].dead ? ST_OK : ST_CONFIG);
            if (cases[i].dead)
                lock_release(lock);
        }
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
}

/* A pid that lives again in another process does not hold the lock of the first. */
static void pid_used_again(void)
{
    struct lock *lock = NULL;
    char host[256];

    dir_renew();
    gethostname(host, sizeof host);
    write_owner(host, getppid(), 1, "false");
    CHECK_INT(lock_take(beside(".lock"), LOCK_CONTENT, &lock), ST_OK);
    lock_release(lock);
}

/* What cannot be read names nobody: flock alone decides. */
static void unreadable(void)
{
    static const char *const texts[] = {
        "", "{", "[]", "{\"pid\": -4}", "{\"pid\": 1e99}", "{\"pid\": 5, \"host\": 7}"};
    struct lock *lock = NULL;
    struct lock_owner owner;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        dir_renew();
        write_file(beside(".lock"), texts[i], strlen(texts[i]));
        if (i + 1 < sizeof texts / sizeof texts[0])
            CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_DEAD);
        const int fd = open(beside(".lock"), O_RDWR);
        CHECK_INT(flock(fd, LOCK_EX), 0);
        CHECK_INT(lock_take(beside(".lock"), LOCK_FLOCK, &lock), ST_CONFIG);
        close(fd);
        if (i + 1 < sizeof texts / sizeof texts[0]) {
            CHECK_INT(lock_take(beside(".lock"), LOCK_FLOCK, &lock), ST_OK);
            lock_release(lock);
        }
    }
}

/* Removed by hand while it was held, and taken by another job: its lock stays. */
static void removed_by_hand(void)
{
    struct lock *lock = NULL, *second = NULL;
    struct lock_owner owner;

    dir_renew();
    CHECK_INT(lock_take(beside(".lock"), LOCK_FLOCK, &lock), ST_OK);
    unlink(beside(".lock"));
    CHECK_INT(lock_take(beside(".lock"), LOCK_FLOCK, &second), ST_OK);
    lock_release(lock);
    CHECK_INT(lock_look(beside(".lock"), &owner), LOCK_HELD);
    lock_release(second);
    CHECK_INT(dir_entries(test_dir), 0);
}

/* ---- many at once ---------------------------------------------------------------------------- */

struct shared {
    int n_inside, n_taken, n_refused, n_wrong;
};

enum { N_PROCESSES = 4, N_ROUNDS = 60 };

static void take_often(struct shared *shared)
{
    for (int i = 0; i < N_ROUNDS; i++) {
        struct lock *lock = NULL;
        const enum status st = lock_take(beside(".lock"), LOCK_FLOCK, &lock);

        if (st == ST_OK) {
            if (__atomic_add_fetch(&shared->n_inside, 1, __ATOMIC_SEQ_CST) != 1)
                __atomic_add_fetch(&shared->n_wrong, 1, __ATOMIC_SEQ_CST);
            __atomic_add_fetch(&shared->n_taken, 1, __ATOMIC_SEQ_CST);
            sched_yield();
            __atomic_sub_fetch(&shared->n_inside, 1, __ATOMIC_SEQ_CST);
            if (i % 7 == 6)
                _exit(0); /* dies with the lock held; the others take over */
            lock_release(lock);
        } else {
            __atomic_add_fetch(st == ST_CONFIG ? &shared->n_refused : &shared->n_wrong, 1,
                               __ATOMIC_SEQ_CST);
        }
    }
}

/* However many come and go or die, never are two inside. */
static void many_at_once(void)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    dir_renew();
    CHECK(shared != MAP_FAILED);
    /* Their refusals are expected, and not for this test's output. */
    const int err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < N_PROCESSES; i++) {
            if (fork() == 0) {
                take_often(shared);
                _exit(0);
            }
        }
        for (int i = 0; i < N_PROCESSES; i++)
            wait(NULL);
    }
    dup2(err, STDERR_FILENO);
    close(err);
    close(null);
    CHECK_INT(shared->n_wrong, 0);
    CHECK(shared->n_taken >= N_PROCESSES);
    munmap(shared, sizeof *shared);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    take_and_release(LOCK_FLOCK);
    take_and_release(LOCK_CONTENT);
    held_by_another(LOCK_FLOCK);
    held_by_another(LOCK_CONTENT);
    other_host();
    requeued();
    pid_used_again();
    unreadable();
    removed_by_hand();
    many_at_once();
    TEST_END();
}
