/*
 * options.h - private to job/: the option table and what can be done with one row of it.
 */
#ifndef EPIDOTE_JOB_OPTIONS_H
#define EPIDOTE_JOB_OPTIONS_H

#include <libconfig.h>

#include "job/job.h"

enum opt_type {
    OPT_BOOL,
    OPT_INT,    /* int */
    OPT_INT64,  /* int64_t */
    OPT_SEED,   /* uint64_t; 0 .. 2^63 - 1, which is what a job file can hold */
    OPT_NUMBER, /* double */
    OPT_TEXT,   /* char *, owned; min, max are bytes; names, if any, are the allowed ones */
    OPT_ENUM,   /* an enum; index in names = value */
    OPT_CHOICE, /* int, one of names */
    OPT_ROWS,   /* uint64_t begin, followed by uint64_t end; "a:b" */
    OPT_TEXTS   /* char **, owned, followed by an int count; max is the most there may be */
};

enum opt_flags {
    OPT_REQUIRED = 1, /* has no default */
    OPT_RESULTS = 2,  /* changes results: part of the job's identity */
    OPT_UTF8 = 4,     /* goes to the tokeniser or the result file */
    OPT_RESOLVED = 8  /* OPT_RESULTS: its identity is what it comes to with the model, which the
                         caller of job_identity adds */
};

struct job_option {
    const char *path; /* in the job file; "groups.decode" is `decode` in the group `groups` */
    const char *dflt; /* as after --set path=; NULL = none: required, or absent */
    const char *unit; /* "" = none */
    enum opt_type type;
    unsigned flags;
    size_t offset;            /* into struct job */
    double min, max;          /* inclusive */
    const char *const *names; /* NULL-terminated */
    const char *help;         /* one line, no full stop */
};

extern const struct job_option job_options[]; /* THE table, in the order in which it is printed */
extern const int job_n_options;

/* option_find - NULL if there is none.  option_nearest - the known option that `path` is most
 * likely a slip for, NULL if none is near. */
const struct job_option *option_find(const char *path);
const struct job_option *option_nearest(const char *path);
/* option_is_group - whether options stand in a group of this name. */
bool option_is_group(const char *path);

/* option_allowed - append what the value may be: "an integer from 1 to 64". */
enum status option_allowed(const struct job_option *opt, struct buf *out);

/*
 * option_set - check a value and put it into the job, in place of the one before.
 *   place  in  what messages begin with: "job.cfg:12" or "--set top_k=x"
 * Returns ST_OK, ST_CONFIG (logged; the job is as before), ST_NOMEM.
 */
enum status option_set(struct job *job, const struct job_option *opt, const config_setting_t *value,
                       const char *place);
/* option_set_text - the same from text as it stands after --set path=.  Texts may go unquoted. */
enum status option_set_text(struct job *job, const struct job_option *opt, const char *text,
                            const char *place);
/* option_is_absent - a text that has no default and was not given. */
bool option_is_absent(const struct job *job, const struct job_option *opt);
/* option_format - append the value as a job file would have it; nothing for an absent one. */
enum status option_format(const struct job *job, const struct job_option *opt, struct buf *out);
/* option_clear - free what the value owns. */
void option_clear(struct job *job, const struct job_option *opt);

/*
 * scan_job_text - prepare a job file's text for libconfig (scan.c).
 *   libconfig before 1.7 silently cuts an integer over 32 bits to its low half unless an L follows
 * it: the L is added here.  Refuses integers over 64 bits, @include and NUL.
 *   place       in   what messages begin with
 *   first_line  in   1: messages give line numbers after place; 0: place is not a file
 * Returns ST_OK, ST_CONFIG (logged), ST_NOMEM.
 */
enum status scan_job_text(const char *text, size_t n_bytes, const char *place, int first_line,
                          struct buf *out);

#endif
