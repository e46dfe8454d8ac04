/*
 * backend.c - whether the CPU or a GPU computes: what the job asks for, what is there, and what the
 * CUDA engine can do.
 *
 * "cuda" is a demand: what stands in its way is an error.  "auto" takes a GPU if nothing does, and
 * else says what.  Called by session.c.
 */
#include "stage/session.h"

enum { MAX_STEP_TOK = 65535 }; /* of a launch */

/* What of this job the CUDA engine does not do yet; false if there is nothing. */
static bool lacks(const struct session *session, int n_ranks, struct row_error *why)
{
    const struct job *job = session->job;
    struct row_error model;

    if (decoder_cuda_check(model_source_config(session->source), &model) != ST_OK)
        (void)row_error_set(why, "does not compute %s yet", model.text);
    else if (session_has_images(session))
        (void)row_error_set(why, "does not take images yet");
    else if (job->precision != PRECISION_BF16)
        (void)row_error_set(why, "computes with precision = \"bf16\" only, yet");
    else if (n_ranks > 1)
        (void)row_error_set(why, "runs on one rank yet, not on %d", n_ranks);
    else if (strcmp(job->link, "auto") != 0 && strcmp(job->link, "self") != 0)
        (void)row_error_set(why, "has no link \"%s\" yet", job->link);
    else if (job->prefill_chunk_tok > MAX_STEP_TOK)
        (void)row_error_set(why, "takes prefill_chunk_tok up to %d", MAX_STEP_TOK);
    else
        return false;
    return true;
}

static enum status take_cpu(struct session *session)
{
    session->unit = session->ops->name;
    session->numerics = session->ops->numerics;
    return ST_OK;
}

static enum status take_cuda(struct session *session)
{
    const enum status st = ops_cuda_start(&session->found, &session->cuda_free_bytes);

    session->cuda = &session->found;
    session->unit = session->found.device;
    session->numerics = session->found.numerics;
    if (st == ST_OK)
        log_warn("computing on %s: the CUDA engine has not been checked on a device yet; compare "
                 "some answers with those of backend = \"cpu\"",
                 session->unit);
    return st;
}

enum status session_choose_backend(struct session *session, int n_ranks)
{
    const char *backend = session->job->backend;
    struct row_error why;

    if (strcmp(backend, "cpu") == 0)
        return take_cpu(session);
    const bool is_auto = strcmp(backend, "auto") == 0;
    if (!ops_cuda_look(&session->found)) {
        if (is_auto) {
            log_info("backend auto takes cpu: %s", session->found.why);
            return take_cpu(session);
        }
        log_error("backend = \"cuda\": %s; or use backend = \"cpu\"", session->found.why);
        return ST_CONFIG;
    }
    if (!lacks(session, n_ranks, &why))
        return take_cuda(session);
    if (is_auto) {
        log_info("backend auto takes cpu: there is a GPU (%s), but the CUDA engine %s",
                 session->found.device, why.text);
        return take_cpu(session);
    }
    log_error("backend = \"cuda\" %s: use backend = \"cpu\"", why.text);
    return ST_UNSUPPORTED;
}
