/*
 * session.h - what a job file leads to: files opened, options resolved.
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
    struct chat_template *chat; /* owned; NULL if no row needs one */
    const struct ops *ops;
    struct ops_cuda found;       /* the GPU, if the job wants one */
    const struct ops_cuda *cuda; /* that, started; NULL: the CPU computes */
    uint64_t cuda_free_bytes;    /* of its memory, before anything is loaded */
    const char *unit, *numerics; /* what computes, "avx2" or the GPU's name; what its results are */
    enum ops_type type;
    bool stored; /* weights stay as they are in the file */
    int context;
    struct kv_layout kv;
    struct model_sampling sampling; /* of rows that say nothing: the job's, or the model's */
    uint64_t rows_begin, rows_end;
    struct buf effective_job;                        /* NUL-terminated */
    uint64_t model_fingerprint, prompts_fingerprint; /* once session_identify has been called */
    struct buf identity;                             /* NUL-terminated; likewise */
    struct text_span *stops;                         /* [job->n_stop] of the job */
    const struct vision_config *vision; /* NULL: no row has images, or the model sees nothing */
    struct vision_prompt *vision_prompt;
    struct image_index *images; /* owned; once session_look_at_images has been called */
    struct intake intake;
};

/* session_open - open and check everything that a run on n_ranks needs but the weights' content.
 * Returns ST_OK, or why the job cannot run (logged); close it in either case.  It points into
 * itself: it is not copied. */
enum status session_open(const struct job *job, int n_ranks, struct session *session);
void session_close(struct session *session);
/* session_choose_backend - unit, numerics and, for a GPU, the device (backend.c); once the files
 * are open.  Returns ST_OK, ST_CONFIG (there is no GPU), ST_UNSUPPORTED, ST_IO; logged. */
enum status session_choose_backend(struct session *session, int n_ranks);
/* session_has_images - whether any row of the prompt file has one. */
bool session_has_images(const struct session *session);
/* session_print_sampling - append what rows are sampled with that say nothing, on one line. */
enum status session_print_sampling(const struct session *session, struct buf *out);
/* session_weights_bytes - memory, of the GPU if one computes, that the weights take: *out_own set
 * aside, shared by the ranks of a node if they can; *out_mapped of the model's files, which ranks
 * of a node share anyway. */
void session_weights_bytes(const struct session *session, size_t *out_own, size_t *out_mapped);
/* session_fingerprint - of the model; reads it to its end the first time. */
uint64_t session_fingerprint(struct session *session);
/* session_identify - what the results depend on, as the journal and the result file say it; reads
 * model and prompt file to their ends.  Returns ST_OK, ST_IO, ST_NOMEM. */
enum status session_identify(struct session *session);
/* What the rows to be served need of encoders and of prefill's memory for embeddings. */
struct image_needs {
    uint64_t n_images; /* of different content; 0 = nothing is to be encoded */
    int32_t max_rows;  /* embeddings of the largest image */
    int32_t max_patches;
    int32_t max_row_embeds; /* of all images of a row, at most */
    int32_t reserved;
};
/* session_look_at_images - read all images that rows to be served use, but for those that `done`
 * has; intake can serve rows with images from then on.  Of a session without images, nothing.
 *   done  in  NULL = none
 * Returns ST_OK, ST_IO, ST_NOMEM. */
enum status session_look_at_images(struct session *session, const struct journal *done,
                                   struct image_needs *out_needs);
/* session_journal - the journal of an identified session; dry: look only, as `check` does.
 * Returns as journal_open. */
enum status session_journal(const struct session *session, bool dry, struct journal **out_journal);

#endif
