/*
 * session.h - what a job file leads to: files opened, options resolved, sizes decided.
 *
 * Private to this room.  `check` stops here; `run` goes on from here.
 */
#ifndef EPIDOTE_STAGE_SESSION_H
#define EPIDOTE_STAGE_SESSION_H

#include "stage/stage.h"

struct session {
    const struct job *job; /* borrowed */
    struct model_source *source;
    struct tokenizer *tokenizer;
    struct prompts *prompts;
    const struct chat_template *chat; /* NULL if no row needs one */
    const struct ops *ops;
    enum ops_type type;
    int context, n_threads;
    int n_slots, max_tok, max_seqs; /* rows in flight; limits of one step */
    struct kv_layout kv;
    int n_blocks;
    uint64_t rows_begin, rows_end;
    uint64_t model_fingerprint, prompts_fingerprint;
    struct buf identity;      /* NUL-terminated */
    struct buf effective_job; /* NUL-terminated */
    struct text_span *stops;  /* [job->n_stop] of the job */
    struct intake intake;
};

/* session_open - open and check everything that a run needs but the weights' content.
 * Returns ST_OK, or why the job cannot run (logged); close it in either case. */
enum status session_open(const struct job *job, struct session *session);
void session_close(struct session *session);
/* session_journal - the journal of an opened session; dry: look only, as `check` does.
 * Returns as journal_open. */
enum status session_journal(const struct session *session, bool dry, struct journal **out_journal);

#endif
