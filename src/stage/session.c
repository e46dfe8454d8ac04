/*
 * session.c - from job to opened files and decided sizes.
 */
#include <stdlib.h>

#include "stage/session.h"

enum { DEFAULT_CONTEXT = 8192, MAX_PREFILL_SEQS = 64 };

/* A launcher that started several of us expects MPI, which this version does not have. */
static enum status refuse_many_ranks(const struct job *job)
{
    /* SLURM_NTASKS would be the allocation's size in a batch script that starts us once. */
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);

        if (text != NULL && atoi(text) > 1) {
            log_error(
                "%s = %s: this version runs as one process; start one, or give the job's rows "
                "to several jobs with `rows`",
                names[i], text);
            return ST_CONFIG;
        }
    }
    if (job->n_encoder > 0 || job->n_prefill > 1 || job->n_decode > 1) {
        log_error(
            "groups: this version runs prefill and decode on one rank and has no encoder group; "
            "leave groups out");
        return ST_CONFIG;
    }
    return ST_OK;
}

static enum status resolve_rows(struct session *session)
{
    const struct job *job = session->job;
    const uint64_t n_rows = prompts_info(session->prompts)->n_rows;

    session->rows_begin = job->rows_begin;
    session->rows_end = job->rows_end == UINT64_MAX ? n_rows : job->rows_end;
    if (session->rows_begin <= session->rows_end && session->rows_end <= n_rows)
        return ST_OK;
    log_error("rows = \"%llu:%llu\": %s has rows 0:%llu", (unsigned long long)session->rows_begin,
              (unsigned long long)session->rows_end, job->prompts, (unsigned long long)n_rows);
    return ST_CONFIG;
}

static enum status resolve_context(struct session *session)
{
    const int of_model = model_source_config(session->source)->context;
    const int asked = session->job->context;

    if (asked > of_model) {
        log_error("context = %d: %s was made for %d tokens", asked, session->job->model, of_model);
        return ST_CONFIG;
    }
    session->context = asked > 0 ? asked : of_model < DEFAULT_CONTEXT ? of_model : DEFAULT_CONTEXT;
    return ST_OK;
}

static enum status resolve_chat(struct session *session)
{
    const struct job *job = session->job;
    const bool needed = job->chat || prompts_info(session->prompts)->has_messages;

    if (!needed)
        return ST_OK;
    return chat_template_find(job->chat_template, model_source_chat_template(session->source),
                              session->tokenizer, &session->chat);
}

static enum status resolve_kv(struct session *session)
{
    const struct model_config *config = model_source_config(session->source);
    const struct job *job = session->job;
    struct row_error why;

    session->kv = (struct kv_layout){
        .type = session->type,
        .L = config->L,
        .K = config->K,
        .P = job->kv_block_tok,
        .E = config->E,
    };
    const struct plan_kv_args args = {
        .context = session->context,
        .block_tok = job->kv_block_tok,
        .decode_batch = job->decode_batch,
        .block_bytes = kv_block_bytes(&session->kv),
        .available_bytes = host_memory_available_bytes(),
        .weights_bytes = weights_bytes(config, session->type),
        .n_sharing = 1,
        .asked_mib = job->kv_memory_mib,
    };
    if (plan_kv_blocks(&args, &session->n_blocks, &why) != ST_OK) {
        log_error("%s", why.text);
        return ST_CONFIG;
    }
    return ST_OK;
}

/* What the results depend on; see journal.h for how it is compared. */
static enum status make_identity(struct session *session)
{
    enum status st;
    struct buf *out = &session->identity;

    TRY(job_identity(session->job, out), err);
    TRY(buf_printf(out,
                   "model_fingerprint = %016llx\nprompts_fingerprint = %016llx\n"
                   "numerics = %s\n",
                   (unsigned long long)session->model_fingerprint,
                   (unsigned long long)session->prompts_fingerprint, session->ops->numerics),
        err);
    TRY(buf_put(out, "", 1), err);
    TRY(job_print(session->job, &session->effective_job), err);
    TRY(buf_put(&session->effective_job, "", 1), err);
err:
    return st;
}

static enum status make_intake(struct session *session)
{
    const struct job *job = session->job;

    session->stops = host_zalloc((size_t)job->n_stop * sizeof *session->stops);
    if (session->stops == NULL)
        return ST_NOMEM;
    for (int i = 0; i < job->n_stop; i++)
        session->stops[i] = (struct text_span){job->stop[i], strlen(job->stop[i])};
    session->intake = (struct intake){
        .tokenizer = session->tokenizer,
        .chat = session->chat,
        .chat_prompts = job->chat,
        .parse_special = job->parse_special,
        .ignore_eos = job->ignore_eos,
        .system_prompt = job->system_prompt,
        .context = session->context,
        .max_tokens = job->max_tokens,
        .sampling = {.temperature = job->temperature,
                     .top_p = job->top_p,
                     .min_p = job->min_p,
                     .repetition_penalty = job->repetition_penalty,
                     .top_k = job->top_k,
                     .seed = job->seed,
                     .n_top = job->logprobs},
        .stops = session->stops,
        .n_stops = job->n_stop,
    };
    return ST_OK;
}

enum status session_open(const struct job *job, struct session *session)
{
    enum status st;

    *session = (struct session){.job = job};
    TRY(refuse_many_ranks(job), err);
    if (strcmp(job->backend, "cpu") != 0 && strcmp(job->backend, "auto") != 0) {
        log_error("backend = \"%s\" is not in this build: it has cpu", job->backend);
        st = ST_CONFIG;
        goto err;
    }
    TRY(ops_find(job->instructions, &session->ops), err);
    TRY(model_open(job->model, &session->source), err);
    TRY(model_source_tokenizer(session->source, &session->tokenizer), err);
    TRY(prompts_open(job->prompts, &session->prompts), err);
    TRY(resolve_rows(session), err);
    TRY(resolve_context(session), err);
    TRY(resolve_chat(session), err);
    session->type = job->precision == PRECISION_F32 ? OPS_F32 : OPS_BF16;
    session->n_threads = job->threads > 0 ? job->threads : threads_default_count();
    /* Twice the batch in flight, so that a row that ends has a successor with its prompt computed.
     */
    session->n_slots = 2 * job->decode_batch;
    session->max_tok =
        job->prefill_chunk_tok > job->decode_batch ? job->prefill_chunk_tok : job->decode_batch;
    session->max_seqs = job->decode_batch > MAX_PREFILL_SEQS ? job->decode_batch : MAX_PREFILL_SEQS;
    TRY(resolve_kv(session), err);
    TRY(make_intake(session), err);
    TRY(prompts_fingerprint(session->prompts, &session->prompts_fingerprint), err);
    session->model_fingerprint = model_source_fingerprint(session->source);
    TRY(make_identity(session), err);
err:
    return st;
}

void session_close(struct session *session)
{
    host_free(session->stops);
    buf_free(&session->identity);
    buf_free(&session->effective_job);
    prompts_close(session->prompts);
    tokenizer_destroy(session->tokenizer);
    model_close(session->source);
    *session = (struct session){0};
}
