/*
 * intake.c - from a row of the prompt file to tokens, sampling parameters and limits.
 *
 * Whatever is wrong with a row is found here, before it takes a slot; the coordinator makes an
 * error row of it.
 */
#include "stage/stage.h"

/* The words of a prompt that stand for an image; their number. */
static int image_words(const struct intake *intake, struct text_swap words[2])
{
    static const char plain[] = "<image>";
    const struct vision_prompt *prompt = intake->vision.prompt;

    if (intake->vision.config == NULL)
        return 0;
    const char *marker = vision_prompt_marker(prompt), *wrapped = vision_prompt_wrapped(prompt);
    words[0] = (struct text_swap){{marker, strlen(marker)}, {marker, strlen(marker)}};
    words[1] = (struct text_swap){{plain, strlen(plain)}, {wrapped, strlen(wrapped)}};
    return strcmp(marker, plain) == 0 ? 1 : 2;
}

static enum status encode_messages(const struct intake *intake, const char *messages,
                                   size_t n_bytes, unsigned special, struct token_list *tokens,
                                   struct token_list *order, struct row_error *err)
{
    enum status st;

    TRY(chat_encode_messages(intake->chat, intake->tokenizer, messages, n_bytes,
                             intake->system_prompt, special, tokens, err),
        err);
    if (intake->vision.config != NULL)
        st = chat_image_order(messages, n_bytes, order, err);
err:
    return st;
}

/* A prompt that is a user's message; the words for images in it become parts of it. */
static enum status encode_user(const struct intake *intake, const struct prompt_row *prompt,
                               unsigned special, struct token_list *tokens,
                               struct token_list *order, struct row_error *err)
{
    enum status st;
    struct buf json = {0};
    struct text_swap words[2];
    const int n_words = image_words(intake, words);

    if (prompt->n_image_refs == 0)
        return chat_encode_user(intake->chat, intake->tokenizer, prompt->prompt,
                                prompt->prompt_bytes, intake->system_prompt, special, tokens, err);
    TRY(chat_user_messages(prompt->prompt, prompt->prompt_bytes, words, n_words, &json, err), done);
    st =
        encode_messages(intake, (const char *)json.data, json.n_bytes, special, tokens, order, err);
done:
    buf_free(&json);
    return st;
}

/* The row's prompt as tokens, from whichever source it has; order gets which image stands where, if
 * the prompt says so. */
static enum status make_tokens(const struct intake *intake, const struct prompt_row *prompt,
                               struct token_list *tokens, struct token_list *order,
                               struct row_error *err)
{
    const unsigned special = intake->parse_special ? ENCODE_PARSE_SPECIAL : 0;
    struct text_swap words[2];

    if (prompt->tokens != NULL) {
        const int n_known = tokenizer_n_tokens(intake->tokenizer);

        for (int64_t i = 0; i < prompt->n_tokens; i++)
            if (prompt->tokens[i] < 0 || prompt->tokens[i] >= n_known)
                return row_error_set(err, "prompt_tokens[%lld] is %d, outside the vocabulary of %d",
                                     (long long)i, prompt->tokens[i], n_known);
        return token_list_append(tokens, prompt->tokens, prompt->n_tokens);
    }
    if (prompt->messages != NULL)
        return encode_messages(intake, prompt->messages, prompt->messages_bytes, special, tokens,
                               order, err);
    if (prompt->prompt == NULL || prompt->prompt_bytes == 0)
        return row_error_set(err, "the prompt is empty");
    if (intake->chat_prompts)
        return encode_user(intake, prompt, special, tokens, order, err);
    return tokenizer_encode_swapped(intake->tokenizer, prompt->prompt, prompt->prompt_bytes,
                                    special | ENCODE_SPECIAL, words, image_words(intake, words),
                                    tokens, err);
}

/* Tokens with images in their places. */
static enum status make_prompt(const struct intake *intake, const struct prompt_row *prompt,
                               struct arena *arena, struct intake_row *row, struct row_error *err)
{
    enum status st;
    struct token_list order = {0};

    if (intake->vision.config == NULL) {
        if (prompt->n_image_refs > 0)
            return row_error_set(err, "the row has %lld image%s, and the model takes text only",
                                 (long long)prompt->n_image_refs,
                                 prompt->n_image_refs == 1 ? "" : "s");
        return make_tokens(intake, prompt, &row->tokens, NULL, err);
    }
    row->unplaced.n_ids = 0;
    TRY(make_tokens(intake, prompt, &row->unplaced, &order, err), done);
    st = intake_place_images(&intake->vision, prompt, order.n_ids > 0 ? &order : NULL, arena, row,
                             err);
done:
    token_list_free(&order);
    return st;
}

void intake_row_free(struct intake_row *row)
{
    token_list_free(&row->tokens);
    token_list_free(&row->unplaced);
}

/* The row's own options over the job's. */
static enum status make_options(const struct intake *intake, const struct prompt_row *prompt,
                                struct arena *arena, struct intake_row *row, int *out_max_tokens,
                                struct row_error *err)
{
    struct sampler_params *sampling = &row->sampling;

    *sampling = intake->sampling;
    sampling->row = prompt->row;
    *out_max_tokens = intake->max_tokens;
    row->stops = intake->stops;
    row->n_stops = intake->n_stops;
    row->ignore_eos = intake->ignore_eos;
    if (prompt->has_max_tokens) {
        if (prompt->max_tokens < 1)
            return row_error_set(err, "max_tokens is %lld: it has to be at least 1",
                                 (long long)prompt->max_tokens);
        *out_max_tokens = prompt->max_tokens < INT32_MAX ? (int)prompt->max_tokens : INT32_MAX;
    }
    if (prompt->has_temperature) {
        if (!(prompt->temperature >= 0 && prompt->temperature <= 1e6))
            return row_error_set(err, "temperature is %g: it has to be 0 or more",
                                 prompt->temperature);
        sampling->temperature = prompt->temperature;
    }
    if (prompt->has_top_p) {
        if (!(prompt->top_p > 0 && prompt->top_p <= 1))
            return row_error_set(err, "top_p is %g: it has to be above 0 and at most 1",
                                 prompt->top_p);
        sampling->top_p = prompt->top_p;
    }
    if (prompt->has_top_k) {
        if (prompt->top_k < 0)
            return row_error_set(err, "top_k is %lld: it has to be 0 (off) or more",
                                 (long long)prompt->top_k);
        sampling->top_k = prompt->top_k < INT32_MAX ? (int)prompt->top_k : INT32_MAX;
    }
    if (prompt->has_seed) {
        /* A row's own seed stands for seed and row, so that the row is the same wherever it lies.
         */
        sampling->seed = prompt->seed;
        sampling->row = 0;
    }
    if (prompt->stop != NULL) {
        struct text_span *stops = NULL;
        const enum status st =
            text_stop_list(prompt->stop, prompt->stop_bytes, arena, &stops, &row->n_stops, err);

        row->stops = stops;
        return st;
    }
    return ST_OK;
}

enum status intake_row_make(const struct intake *intake, const struct prompt_row *prompt,
                            struct arena *arena, struct intake_row *out_row, struct row_error *err)
{
    enum status st;
    int max_tokens;

    out_row->tokens.n_ids = 0;
    out_row->n_images = out_row->n_embeds = out_row->rope_shift = 0;
    if (prompt->error.text[0] != '\0') {
        *err = prompt->error;
        return ST_ROW;
    }
    TRY(make_options(intake, prompt, arena, out_row, &max_tokens, err), err);
    TRY(make_prompt(intake, prompt, arena, out_row, err), err);
    if (out_row->tokens.n_ids == 0)
        return row_error_set(err, "the prompt is empty");
    for (int64_t i = 0; i < out_row->tokens.n_ids; i++)
        if (out_row->tokens.ids[i] >= tokenizer_n_tokens(intake->tokenizer))
            return row_error_set(err,
                                 "the tokeniser makes token %d of the prompt, which the model "
                                 "does not have: its files do not belong together",
                                 out_row->tokens.ids[i]);
    if (out_row->tokens.n_ids >= intake->context)
        return row_error_set(
            err,
            "the prompt has %lld tokens, and the context of %d has to hold at least "
            "one more: shorten it, or raise context if the model allows",
            (long long)out_row->tokens.n_ids, intake->context);
    out_row->max_out = plan_output_limit((int)out_row->tokens.n_ids, max_tokens, intake->context);
    return ST_OK;
err:
    out_row->tokens.n_ids = 0; /* half a prompt has no length */
    return st;
}
