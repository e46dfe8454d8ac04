/*
 * fuzz_job.c - any bytes as a job file, or as a setting: refused, or a job whose print reads back.
 *
 * Every refusal logs a line: run it with -close_fd_mask=2.  The first byte chooses: 's' = the rest
 * is one --set text, else the whole input is a file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "job/job.h"

static char path[64];

static void remove_file(void)
{
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 loses the text before a syntax error; the program ends there anyway. */
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

static void write_file(const void *data, size_t n_bytes)
{
    FILE *file;

    if (path[0] == '\0') {
        snprintf(path, sizeof path, "/tmp/epidote-fuzz-job-%d.cfg", (int)getpid());
        atexit(remove_file);
    }
    file = fopen(path, "w");
    if (file == NULL || fwrite(data, 1, n_bytes, file) != n_bytes || fclose(file) != 0)
        abort();
}

static void reads_back(const struct job *job)
{
    struct buf first = {0}, second = {0};
    struct job *again = NULL;

    if (job_print(job, &first) != ST_OK)
        abort();
    write_file(first.data, first.n_bytes);
    if (job_load(path, NULL, 0, &again) != ST_OK || job_print(again, &second) != ST_OK)
        abort();
    if (first.n_bytes != second.n_bytes || memcmp(first.data, second.data, first.n_bytes) != 0)
        abort();
    job_destroy(again);
    buf_free(&first);
    buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const char *settings[4] = {"model=m", "prompts=p", "results=r", NULL};
    struct job *job = NULL;
    enum status st;
    char *setting;

    if (n_bytes > 0 && data[0] == 's') {
        setting = host_strndup((const char *)data + 1, n_bytes - 1);
        settings[3] = setting;
        st = job_load(NULL, settings, 4, &job);
        host_free(setting);
    } else {
        write_file(data, n_bytes);
        st = job_load(path, settings, 3, &job);
    }
    if (st == ST_OK)
        reads_back(job);
    job_destroy(job);
    return 0;
}
