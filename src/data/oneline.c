/*
 * oneline.c - questions and answers as one line for people: no line breaks, nothing that a terminal
 * obeys, no words that are there for a model only.
 *
 * Called by report.c.
 */
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>

#include "data/oneline.h"

/* Bytes of the character at text, at most 4; 0 if it is not UTF-8. */
static size_t char_bytes(const char *text, size_t n_bytes)
{
    for (size_t n = 1; n <= 4 && n <= n_bytes; n++)
        if (utf8_valid(text, n, NULL))
            return n;
    return 0;
}

/* White space and control characters, U+0080 to U+009F among them. */
static bool is_blank(const char *text, size_t n)
{
    const unsigned char c = (unsigned char)text[0], d = n > 1 ? (unsigned char)text[1] : 0;

    return n == 1 ? c <= ' ' || c == 0x7f : n == 2 && c == 0xc2 && d <= 0xa0;
}

enum status oneline_put(const char *text, size_t n_bytes, int most, struct buf *out)
{
    enum { DOTS = 3 };
    enum status st = ST_OK;
    int n_chars = 0;
    bool gap = false;
    size_t cut = out->n_bytes; /* where "..." goes if there is more than fits */

    assert(most > DOTS);
    for (size_t at = 0; at < n_bytes;) {
        const size_t n = char_bytes(text + at, n_bytes - at);
        const char *c = n > 0 ? text + at : "?";
        const size_t n_char = n > 0 ? n : 1;

        at += n_char;
        if (is_blank(c, n_char)) {
            gap = n_chars > 0;
            continue;
        }
        if (n_chars + gap + 1 > most) {
            out->n_bytes = cut;
            return buf_puts(out, "...");
        }
        if (gap)
            TRY(buf_puts(out, " "), err);
        TRY(buf_put(out, c, n_char), err);
        n_chars += gap + 1;
        gap = false;
        if (n_chars <= most - DOTS)
            cut = out->n_bytes;
    }
err:
    return st;
}

/* ---- what a row asks ------------------------------------------------------------------------- */

static bool starts(const char *text, size_t n_bytes, const char *with)
{
    const size_t n = strlen(with);

    return n_bytes >= n && memcmp(text, with, n) == 0;
}

/* Bytes of a word at text that is there for the model only; 0 if there is none. */
static size_t model_word(const char *text, size_t n_bytes)
{
    static const char *const words[] = {
        "<image>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<s>", "</s>", "<bos>"};
    enum { LONGEST = 48 };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (starts(text, n_bytes, words[i]))
            return strlen(words[i]);
    if (!starts(text, n_bytes, "<|"))
        return 0;
    for (size_t n = 2; n + 1 < n_bytes && n < LONGEST; n++) {
        if (text[n] == '|' && text[n + 1] == '>')
            return n + 2;
        if (text[n] == ' ' || text[n] == '\n' || text[n] == '<')
            return 0;
    }
    return 0;
}

/* LLaVA's form, "... USER: question ASSISTANT:" -> question. */
static void shorten(const char **text, size_t *n_bytes)
{
    static const char user[] = "USER:", assistant[] = "ASSISTANT:";
    const size_t n_user = sizeof user - 1, n_assistant = sizeof assistant - 1;
    size_t n = *n_bytes;

    while (n > 0 && is_blank(*text + n - 1, 1))
        n--;
    if (n < n_assistant || memcmp(*text + n - n_assistant, assistant, n_assistant) != 0)
        return;
    n -= n_assistant;
    *n_bytes = n;
    for (size_t at = n; at-- > 0;) {
        if (!starts(*text + at, n - at, user))
            continue;
        *n_bytes = n - at - n_user;
        *text += at + n_user;
        return;
    }
}

static enum status put_prompt(const char *text, size_t n_bytes, int most, struct buf *out)
{
    struct buf plain = {0};
    enum status st = ST_OK;

    shorten(&text, &n_bytes);
    for (size_t at = 0; at < n_bytes;) {
        const size_t n = model_word(text + at, n_bytes - at);

        TRY(n > 0 ? buf_puts(&plain, " ") : buf_put(&plain, text + at, 1), err);
        at += n > 0 ? n : 1;
    }
    st = oneline_put((const char *)plain.data, plain.n_bytes, most, out);
err:
    buf_free(&plain);
    return st;
}

/* The texts of a message, appended. */
static enum status put_content(const json_t *content, struct buf *out)
{
    enum status st = ST_OK;
    const json_t *part;
    size_t i;

    if (json_is_string(content))
        return buf_put(out, json_string_value(content), json_string_length(content));
    json_array_foreach(content, i, part)
    {
        const json_t *text = json_object_get(part, "text");

        if (!json_is_string(text))
            continue;
        TRY(buf_puts(out, " "), err);
        TRY(buf_put(out, json_string_value(text), json_string_length(text)), err);
    }
err:
    return st;
}

/* Of a chat what the last user says; JSON that is none, as it stands. */
static enum status put_messages(const struct prompt_row *row, int most, struct buf *out)
{
    json_error_t error;
    json_t *root = json_loadb(row->messages, row->messages_bytes, 0, &error);
    const json_t *list = json_is_object(root) ? json_object_get(root, "messages") : root;
    struct buf text = {0};
    enum status st = ST_OK;

    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *message = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(message, "role"));

        if (role == NULL || strcmp(role, "user") != 0)
            continue;
        TRY(put_content(json_object_get(message, "content"), &text), err);
        break;
    }
    if (text.n_bytes > 0)
        st = put_prompt((const char *)text.data, text.n_bytes, most, out);
    else
        st = oneline_put(row->messages, row->messages_bytes, most, out);
err:
    json_decref(root);
    buf_free(&text);
    return st;
}

enum status oneline_question(const struct prompt_row *row, int most, struct buf *out)
{
    if (row->prompt != NULL)
        return put_prompt(row->prompt, row->prompt_bytes, most, out);
    if (row->messages != NULL)
        return put_messages(row, most, out);
    if (row->n_tokens > 0)
        return buf_printf(out, "(%" PRId64 " token ids)", row->n_tokens);
    return buf_puts(out, "(no prompt)");
}
