/*
 * session.c - from job to opened files and resolved options.
 *
 * What depends on how many ranks there are is not decided here.
 */
#include "stage/session.h"

static enum status resolve_link(const struct job *job)
{
    const char *const *names = link_names();
    struct buf known = {0};

    if (strcmp(job->link, "auto") == 0)
        return ST_OK;
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(job->link, names[i]) == 0) {
            buf_free(&known);
            return ST_OK;
        }
        (void)buf_printf(&known, ", %s", names[i]); /* without memory the list is shorter */
    }
    log_error("link = \"%s\" is not in this build: it has auto%.*s", job->link, (int)known.n_bytes,
              (const char *)known.data);
    buf_free(&known);
    return ST_CONFIG;
}

/* Under a margin as long as the limit no row would ever be begun. */
static enum status check_time(const struct job *job)
{
    if (job->time_limit_s == 0 || job->time_limit_s > job->time_margin_s)
        return ST_OK;
    log_error("time_limit_s = %g leaves no time before time_margin_s = %g: no row would be begun; "
              "raise the one or lower the other",
              job->time_limit_s, job->time_margin_s);
    return ST_CONFIG;
}

static enum status resolve_rows(struct session *session)
{
    const struct job *job = session->job;
    const uint64_t n_rows = prompts_info(session->prompts)->n_rows;

    if (job->n_shards > 0) {
        session->rows_begin = plan_shard(n_rows, job->rows_begin, job->n_shards);
        session->rows_end = plan_shard(n_rows, job->rows_end, job->n_shards);
        if (session->rows_begin < session->rows_end)
            return ST_OK;
        log_error("rows = \"%llu/%llu\": %s has %llu rows, and this part has none of them: take "
                  "fewer parts",
                  (unsigned long long)job->rows_end, (unsigned long long)job->n_shards,
                  job->prompts, (unsigned long long)n_rows);
        return ST_CONFIG;
    }
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
    session->context = asked > 0 ? asked : of_model;
    return ST_OK;
}

/* The job's sampling, or the model's, beside which the job may have none. */
static enum status resolve_sampling(struct session *session)
{
    static const char *const options[] = {"temperature", "top_k", "top_p", "min_p",
                                          "repetition_penalty"};
    const struct job *job = session->job;
    enum status st = ST_OK;

    session->sampling = (struct model_sampling){.temperature = job->temperature,
                                                .top_p = job->top_p,
                                                .min_p = job->min_p,
                                                .repetition_penalty = job->repetition_penalty,
                                                .top_k = job->top_k};
    if (job->sampling != SAMPLING_MODEL)
        return ST_OK;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        bool is_default = false;

        TRY(job_is_default(job, options[i], &is_default), err);
        if (!is_default) {
            log_error("%s is set, and sampling = \"model\" takes it from the model: leave one out",
                      options[i]);
            return ST_CONFIG;
        }
    }
    TRY(model_source_sampling(session->source, &session->sampling), err);
err:
    return st;
}

bool session_has_images(const struct session *session)
{
    return prompts_info(session->prompts)->n_image_refs > 0;
}

/* A model that is to see images must be able to. */
static enum status resolve_vision(struct session *session)
{
    const struct vision_config *vision = model_source_vision(session->source);

    if (!session_has_images(session) && vision == NULL)
        return ST_OK;
    if (vision == NULL) {
        log_error(
            "%s: rows have images, and %s takes text only: choose a vision-language model, or "
            "leave image_ref out",
            session->job->prompts, session->job->model);
        return ST_CONFIG;
    }
    session->vision = vision;
    return vision_prompt_create(vision, model_source_config(session->source), session->tokenizer,
                                &session->vision_prompt);
}

static enum status resolve_chat(struct session *session)
{
    const struct job *job = session->job;
    const bool needed = job->chat || prompts_info(session->prompts)->has_messages;

    if (!needed)
        return ST_OK;
    const struct chat_spec spec = {.name = job->chat_template,
                                   .source = model_source_chat_template(session->source),
                                   .tool_source = model_source_tool_template(session->source),
                                   .kwargs = job->chat_template_kwargs,
                                   .date = job->chat_date};
    return chat_template_create(&spec, session->tokenizer, &session->chat);
}

static struct kv_layout resolve_kv(const struct session *session)
{
    const struct model_config *config = model_source_config(session->source);

    return (struct kv_layout){
        .type = session->type,
        .L = config->L,
        .K = config->K,
        .P = session->job->kv_block_tok,
        .E = config->E,
    };
}

enum status session_print_sampling(const struct session *session, struct buf *out)
{
    const struct model_sampling *s = &session->sampling;

    return buf_printf(out,
                      "temperature %.10g, top_k %d, top_p %.10g, min_p %.10g, "
                      "repetition_penalty %.10g",
                      s->temperature, s->top_k, s->top_p, s->min_p, s->repetition_penalty);
}

/* What the results depend on; see journal.h for how it is compared. */
static enum status make_identity(struct session *session)
{
    enum status st;
    struct buf *out = &session->identity;

    TRY(buf_printf(out, "context = %d\n", session->context), err);
    TRY(job_identity(session->job, out), err);
    TRY(buf_printf(out,
                   "model_fingerprint = %016llx\nprompts_fingerprint = %016llx\n"
                   "numerics = %s\n",
                   (unsigned long long)session->model_fingerprint,
                   (unsigned long long)session->prompts_fingerprint, session->numerics),
        err);
    if (session->job->sampling == SAMPLING_MODEL) {
        TRY(buf_puts(out, "sampling_of_model = "), err);
        TRY(session_print_sampling(session, out), err);
        TRY(buf_puts(out, "\n"), err);
    }
    if (session->chat != NULL)
        TRY(buf_printf(out, "chat_template_text = %016llx\n",
                       (unsigned long long)chat_template_hash(session->chat)),
            err);
    TRY(buf_put(out, "", 1), err);
err:
    return st;
}

/* Of a model that sees, whether or not there are images: a place for one without is an error. */
static struct intake_vision intake_vision(const struct session *session)
{
    const struct model_config *config = model_source_config(session->source);

    if (session->vision == NULL)
        return (struct intake_vision){.config = NULL};
    return (struct intake_vision){
        .config = session->vision,
        .prompt = session->vision_prompt,
        .image_id = config->image_id,
        .mrope = config->mrope[0] > 0,
    };
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
        .sampling = {.temperature = session->sampling.temperature,
                     .top_p = session->sampling.top_p,
                     .min_p = session->sampling.min_p,
                     .repetition_penalty = session->sampling.repetition_penalty,
                     .top_k = session->sampling.top_k,
                     .seed = job->seed,
                     .n_top = job->logprobs},
        .stops = session->stops,
        .n_stops = job->n_stop,
        .vision = intake_vision(session),
    };
    return ST_OK;
}

enum status session_open(const struct job *job, int n_ranks, struct session *session)
{
    enum status st;

    *session = (struct session){.job = job};
    TRY(resolve_link(job), err);
    TRY(ops_find(job->instructions, &session->ops), err);
    TRY(model_open(job->model, &session->source), err);
    TRY(model_source_tokenizer(session->source, &session->tokenizer), err);
    TRY(prompts_open(job->prompts, &session->prompts), err);
    TRY(check_time(session->job), err);
    TRY(resolve_rows(session), err);
    TRY(resolve_context(session), err);
    TRY(resolve_sampling(session), err);
    TRY(resolve_chat(session), err);
    TRY(resolve_vision(session), err);
    TRY(session_choose_backend(session, n_ranks), err);
    session->type = job->precision == PRECISION_F32 ? OPS_F32 : OPS_BF16;
    session->stored = job->precision == PRECISION_STORED;
    session->kv = resolve_kv(session);
    TRY(make_intake(session), err);
    TRY(job_print(job, &session->effective_job), err);
    TRY(buf_put(&session->effective_job, "", 1), err);
err:
    return st;
}

void session_weights_bytes(const struct session *session, size_t *out_own, size_t *out_mapped)
{
    const struct model_config *config = model_source_config(session->source);

    *out_mapped = 0;
    if (session->cuda != NULL)
        *out_own = weights_cuda_bytes(config);
    else if (session->stored)
        *out_own = weights_stored_bytes(session->source, out_mapped);
    else
        *out_own = weights_bytes(config, session->type);
}

uint64_t session_fingerprint(struct session *session)
{
    if (session->model_fingerprint == 0) {
        session->model_fingerprint = model_source_fingerprint(session->source);
        model_source_forget(session->source);
    }
    return session->model_fingerprint;
}

enum status session_identify(struct session *session)
{
    enum status st;

    (void)session_fingerprint(session);
    TRY(prompts_fingerprint(session->prompts, &session->prompts_fingerprint), err);
    st = make_identity(session);
err:
    return st;
}

void session_close(struct session *session)
{
    host_free(session->stops);
    image_index_destroy(session->images);
    vision_prompt_destroy(session->vision_prompt);
    buf_free(&session->identity);
    buf_free(&session->effective_job);
    prompts_close(session->prompts);
    chat_template_destroy(session->chat);
    tokenizer_destroy(session->tokenizer);
    model_close(session->source);
    *session = (struct session){0};
}

static bool row_done(const void *arg, uint64_t row)
{
    return journal_row_done(arg, row);
}

/* Sizes of an image that a row uses; one that cannot be used needs nothing. */
static void add_need(const struct session *session, uint64_t image, struct image_needs *needs)
{
    struct image_facts facts;
    struct vision_plan plan;
    struct row_error why;

    if (image_index_facts(session->images, image, &facts, &why) != ST_OK ||
        vision_plan_make(session->vision, facts.width, facts.height, &plan, &why) != ST_OK ||
        plan.n_rows >= session->context)
        return;
    needs->max_rows = plan.n_rows > needs->max_rows ? plan.n_rows : needs->max_rows;
    needs->max_patches = plan.n_patches > needs->max_patches ? plan.n_patches : needs->max_patches;
}

enum status session_look_at_images(struct session *session, const struct journal *done,
                                   struct image_needs *out_needs)
{
    enum status st;
    struct image_needs needs = {.n_images = 0};
    struct image_index_counts counts;
    const uint64_t n_images = prompts_info(session->prompts)->n_images;
    const struct image_index_args args = {
        .prompts = session->prompts,
        .rows_begin = session->rows_begin,
        .rows_end = session->rows_end,
        .skip = done != NULL ? row_done : NULL,
        .arg = done,
    };

    *out_needs = needs;
    if (!session_has_images(session))
        return ST_OK;
    TRY(image_index_make(&args, &session->images), err);
    session->intake.vision.book = image_book_of(session->images);
    image_index_counts(session->images, &counts);
    for (uint64_t i = 0; i < n_images; i++)
        add_need(session, i, &needs);
    needs.n_images = counts.n_distinct;
    /* A row has room for no more of them than for tokens. */
    needs.max_row_embeds = session->context;
    if (counts.max_row_uses < (uint64_t)(session->context / (needs.max_rows + 1)))
        needs.max_row_embeds = (int32_t)counts.max_row_uses * needs.max_rows;
    if (needs.max_row_embeds == 0) /* none can be used: rows end as errors before they need any */
        needs.n_images = 0;
    *out_needs = needs;
err:
    return st;
}

enum status session_journal(const struct session *session, bool dry, struct journal **out_journal)
{
    const struct journal_args args = {
        .results_path = session->job->results,
        .identity = (const char *)session->identity.data,
        .rows_begin = session->rows_begin,
        .rows_end = session->rows_end,
        .retry_errors = session->job->retry_errors,
        .dry = dry,
    };

    return journal_open(&args, out_journal);
}
