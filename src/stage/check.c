/*
 * check.c - `epidote check`: read all that `run` would, say what it would do, change nothing.
 */
#include <stdio.h>

#include "stage/report.h"

enum { WINDOW_ROWS = 256, ARENA_BYTES = 1 << 20 };

/* What the rows of the prompt file look like once they are tokens. */
struct survey {
    uint64_t n_rows, n_bad, n_beyond, n_cut, n_tok; /* beyond the context: part of bad */
    int64_t longest_tok;
    uint64_t longest_row, first_bad;
    struct row_error first_why;
};

static enum status survey_row(const struct session *session, const struct prompt_row *prompt,
                              struct arena *arena, struct intake_row *row, struct survey *survey)
{
    struct row_error why = {""};
    const enum status st = intake_row_make(&session->intake, prompt, arena, row, &why);

    if (st != ST_OK && st != ST_ROW)
        return st;
    survey->n_rows++;
    if (st == ST_ROW) {
        survey->n_beyond += row->tokens.n_ids >= session->context; /* else they have no length */
        if (survey->n_bad++ == 0) {
            survey->first_bad = prompt->row;
            survey->first_why = why;
        }
        return ST_OK;
    }
    const int max_tokens = prompt->has_max_tokens && prompt->max_tokens < INT32_MAX
                               ? (int)prompt->max_tokens
                               : session->intake.max_tokens;
    survey->n_tok += (uint64_t)row->tokens.n_ids;
    survey->n_cut += row->max_out < max_tokens;
    if (row->tokens.n_ids > survey->longest_tok) {
        survey->longest_tok = row->tokens.n_ids;
        survey->longest_row = prompt->row;
    }
    return ST_OK;
}

static enum status survey_rows(const struct session *session, struct survey *survey)
{
    enum status st = ST_OK;
    struct arena *arena = NULL;
    struct prompt_row *prompts = NULL;
    struct intake_row row = {0};

    *survey = (struct survey){0};
    TRY(arena_create(ARENA_BYTES, &arena), err);
    prompts = host_alloc(WINDOW_ROWS * sizeof *prompts);
    if (prompts == NULL) {
        st = ST_NOMEM;
        goto err;
    }
    for (uint64_t first = session->rows_begin; first < session->rows_end; first += WINDOW_ROWS) {
        const uint64_t left = session->rows_end - first;
        const uint64_t n = left < WINDOW_ROWS ? left : WINDOW_ROWS;

        arena_reset(arena);
        TRY(prompts_read(session->prompts, first, n, arena, prompts), err);
        for (uint64_t i = 0; i < n; i++)
            TRY(survey_row(session, &prompts[i], arena, &row, survey), err);
    }
err:
    intake_row_free(&row);
    host_free(prompts);
    arena_destroy(arena);
    return st;
}

static double mib(double bytes)
{
    return bytes / 1048576;
}

static void print_report(const struct session *session, const struct crew *crew, int n_blocks,
                         const struct survey *survey, const struct journal_counts *counts)
{
    const struct model_config *config = model_source_config(session->source);
    size_t own, mapped;
    struct buf text = {0};
    const double kv = (double)n_blocks * (double)kv_block_bytes(&session->kv);

    session_weights_bytes(session, &own, &mapped);
    report_layout(session, crew);
    printf("model     %s: %s, %d layers, width %d, vocabulary %d\n", session->job->model,
           config->family, config->L, config->D, config->V);
    printf("context   %d tokens, from the %s", session->context,
           session->job->context > 0 ? "job" : "model's file");
    if (session->job->context > 0)
        printf("; the model was made for %d", config->context);
    if (config->rope.scaling[0] != '\0')
        printf("; RoPE scaled: %s, wavelengths up to %.4g times as long", config->rope.scaling,
               config->rope.divisors[config->E / 2 - 1]);
    printf("\n");
    printf("memory    weights %.0f MiB%s%s, KV %.0f MiB%s (%d blocks of %d tokens, %.1f MiB per "
           "1,000 tokens)\n",
           mib((double)(own + mapped)), crew->n > 1 ? " a node" : "",
           session->stored ? ", as stored in the file" : "", mib(kv),
           crew->n > 1 ? " for each decode stage" : "", n_blocks, session->kv.P,
           mib((double)kv_block_bytes(&session->kv) * 1000 / session->kv.P));
    printf("chat      %s\n",
           session->chat != NULL ? chat_template_name(session->chat) : "not used");
    if (session->job->sampling == SAMPLING_MODEL && session_print_sampling(session, &text) == ST_OK)
        printf("sampling  the model's: %.*s\n", (int)text.n_bytes, (const char *)text.data);
    buf_free(&text);
    printf("rows      %llu (%llu:%llu of %s), %llu prompt tokens, longest %lld (row %llu)\n",
           (unsigned long long)survey->n_rows, (unsigned long long)session->rows_begin,
           (unsigned long long)session->rows_end, session->job->prompts,
           (unsigned long long)survey->n_tok, (long long)survey->longest_tok,
           (unsigned long long)survey->longest_row);
    printf("          %llu would be cut short by the context, %llu would end as errors (%llu of "
           "them beyond the context)\n",
           (unsigned long long)survey->n_cut, (unsigned long long)survey->n_bad,
           (unsigned long long)survey->n_beyond);
    if (survey->n_bad > 0)
        printf("          first error, row %llu: %s\n", (unsigned long long)survey->first_bad,
               survey->first_why.text);
    printf("results   %s: %llu rows done by earlier attempts\n\n", session->job->results,
           (unsigned long long)counts->n_kept);
    printf("%s", (const char *)session->effective_job.data);
}

enum outcome stage_check(const struct job *job, struct ranks *ranks, int n_ranks)
{
    enum status st;
    struct session session;
    struct survey survey;
    struct crew crew;
    struct journal *journal = NULL;
    struct journal_counts counts;
    struct image_needs images;
    int n_blocks;

    if (n_ranks > 0)
        crew_suppose(ranks, n_ranks, job, &crew);
    else
        crew_begin(ranks, NULL, job, &crew);
    TRY(session_open(job, crew.n, &session), err);
    TRY(crew_assign(&crew, session_has_images(&session)), err);
    TRY(links_check(&crew, job), err);
    TRY(machine_check(&session, &crew, &n_blocks), err);
    TRY(session_identify(&session), err);
    TRY(session_journal(&session, true, &journal), err);
    journal_counts(journal, &counts);
    TRY(session_look_at_images(&session, NULL, &images), err);
    TRY(survey_rows(&session, &survey), err);
    print_report(&session, &crew, n_blocks, &survey, &counts);
err:
    journal_close(journal);
    crew_end(&crew);
    session_close(&session);
    return st == ST_OK ? OUTCOME_DONE : st == ST_NOMEM ? OUTCOME_MACHINE : OUTCOME_JOB;
}
