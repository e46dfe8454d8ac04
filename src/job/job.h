/*
 * job.h - the job file: THE option table, libconfig -> struct job, --set, the effective job.
 *
 * libconfig is used in this room only.  struct job goes to stage/ and main.c; lower rooms take
 * values.
 */
#ifndef EPIDOTE_JOB_H
#define EPIDOTE_JOB_H

#include <stdio.h>

#include "base/base.h"

enum precision { PRECISION_BF16, PRECISION_F32, PRECISION_STORED, PRECISION_COUNT };
enum sampling { SAMPLING_JOB, SAMPLING_MODEL, SAMPLING_COUNT };
enum row_order { ORDER_INPUT, ORDER_LONGEST, ORDER_COUNT };

/* One field per row of the option table in options.c, where the meaning of each is written.  Paths
 * are as given: relative ones are relative to the current directory. */
struct job {
    char *path;                      /* of the job file; NULL when made of options only */
    char *model, *prompts, *results; /* owned */
    uint64_t rows_begin, rows_end;   /* global row numbers, end exclusive; 0, UINT64_MAX = all */
    uint64_t n_shards;               /* not 0: rows_begin counts, from 0, equal parts of the file */
    bool retry_errors;
    int64_t max_errors;                 /* < 0: no limit */
    int n_encoder, n_prefill, n_decode; /* ranks of each group; -1 = chosen by plan_layout */
    int context;                        /* tokens; 0 = the model's */
    int max_tokens;
    enum sampling sampling; /* whose the next five are; the model's own: the job's are defaults */
    double temperature, top_p, min_p, repetition_penalty;
    int top_k;   /* 0 = off */
    char **stop; /* owned, n_stop strings */
    int n_stop;
    uint64_t seed;
    bool ignore_eos;
    int logprobs;               /* -1 = none, 0 = of the chosen token, n = and the top n */
    bool chat;                  /* `prompt` is a user message, not raw text */
    char *system_prompt;        /* owned; NULL = the template's own default */
    char *chat_template;        /* owned; "auto", a path or a name that text/ knows */
    char *chat_template_kwargs; /* owned; JSON; NULL = none */
    char *chat_date;            /* owned; "2026-01-31"; NULL = none */
    bool parse_special;         /* special tokens inside `prompt` text are recognised */
    enum precision precision;
    char *backend;      /* owned; "cpu", "cuda" or "auto" */
    char *instructions; /* owned; "auto" or a name in the ops table: plain, avx2, ... */
    char *link;         /* owned; "auto" or a name in the link table */
    int threads;        /* per rank; 0 = cores in the affinity mask / ranks that share them */
    int prefill_chunk_tok, decode_batch, encode_batch, kv_block_tok;
    int64_t encode_cache_mib; /* 0 = chosen */
    int64_t kv_memory_mib;    /* 0 = sized by plan_kv_blocks */
    enum row_order order;
    double peer_timeout_s;
    double progress_s; /* 0 = no progress lines */
    double time_limit_s, time_margin_s; /* 0 = no limit of the job's own */
};

/*
 * job_load - the defaults, then what a job file says, then `key=value` settings in order.
 *   path      in   NULL = no file, settings only
 *   settings  in   [n_settings] "key=value"
 *   out_job   out  free with job_destroy
 * Unknown keys, wrong types, values out of range and missing required keys are refused with file
 * and line (or the --set text), the allowed range and, for an unknown key, the nearest known one.
 * Local.  Returns ST_OK, ST_IO, ST_CONFIG, ST_NOMEM.
 */
enum status job_load(const char *path, const char *const *settings, int n_settings,
                     struct job **out_job);
void job_destroy(struct job *job);

/* job_print - the effective job as a libconfig file, every option with unit and help as a comment.
 * Reading it back gives the same job.  Local.  Returns ST_OK, ST_NOMEM. */
enum status job_print(const struct job *job, struct buf *out);

/* job_text_get - the value of an option that is a text, from what job_print printed, also in
 * another version: what else stands there does not matter.  Appended to out with a NUL at the end.
 *   place  in  what messages begin with
 * Local.  Returns ST_OK, ST_CONFIG (no such text; logged), ST_NOMEM. */
enum status job_text_get(const char *text, const char *place, const char *option, struct buf *out);

/* job_is_default - whether an option has the value it has when nobody gives one.  Local. */
enum status job_is_default(const struct job *job, const char *path, bool *out_is);

/* job_identity - "name = value\n" for every option that changes results, in table order, without
 * paths, `rows` (a continued job may name its rows anew), and those whose value depends on the
 * model (OPT_RESOLVED: `context`), which the caller adds.  Local. */
enum status job_identity(const struct job *job, struct buf *out);

/* job_help - the option table as text for `epidote help job`.  job_man - the same as .TP items of a
 * manual page, in which - and \ have yet to be escaped. */
enum status job_help(struct buf *out);
enum status job_man(struct buf *out);

#endif
