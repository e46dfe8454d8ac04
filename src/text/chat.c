/*
 * chat.c - chat templates written in C, and conversations to token ids.
 *
 * A template is recognised by the XXH64 of the Jinja text it stands for.  A conversation is written
 * out as one text with the places marked where the template wrote a special token; only there does
 * the tokeniser look for one (encode.c).  The text is not cut at those places beforehand: a line
 * break of the template and one of the content can share a token, as in the reference.
 */
#include <jansson.h>
#include <stdio.h>

#include "text/internal.h"

/* All templates of this version write turns as
 *   <|im_start|>ROLE\nCONTENT<|im_end|>\n
 * and differ in the system prompt they put before a conversation that has none. */
#define TURN_BEGIN "<|im_start|>"
#define TURN_END "<|im_end|>"

struct chat_template {
    const char *name;
    const char *default_system; /* NULL = none is put in */
    uint64_t source_hashes[4];  /* of the Jinja texts that do this; 0 = no more */
};

static const struct chat_template templates[] = {
    {"smollm2",
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     {0x406244e5f006a13a}},
    {"chatml", NULL, {0x408946d744ba89ee, 0x3f951c547f06568f}},
};
enum { N_TEMPLATES = sizeof templates / sizeof templates[0] };

/* ---- finding one ----------------------------------------------------------------------------- */

static const char *template_names(char *out, size_t cap)
{
    size_t at = 0;

    for (int i = 0; i < N_TEMPLATES && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? ", " : "", templates[i].name);
    return out;
}

static const struct chat_template *find_by_name(const char *name)
{
    for (int i = 0; i < N_TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
    return NULL;
}

static const struct chat_template *find_by_hash(uint64_t hash)
{
    for (int i = 0; i < N_TEMPLATES; i++)
        for (int j = 0; j < 4 && templates[i].source_hashes[j] != 0; j++)
            if (templates[i].source_hashes[j] == hash)
                return &templates[i];
    return NULL;
}

enum status chat_template_find(const char *name, const char *source,
                               const struct tokenizer *tokenizer,
                               const struct chat_template **out_template)
{
    static const char *const marks[] = {TURN_BEGIN, TURN_END};
    const struct chat_template *chat = NULL;
    char names[128];

    template_names(names, sizeof names);
    if (strcmp(name, "auto") != 0) {
        chat = find_by_name(name);
        if (chat == NULL) {
            log_error("chat template %s is not known; this version has: auto, %s", name, names);
            return ST_CONFIG;
        }
    } else if (source == NULL) {
        log_error("the model carries no chat template; name one with chat_template (%s) or set "
                  "chat = false",
                  names);
        return ST_UNSUPPORTED;
    } else {
        const uint64_t hash = hash_bytes(source, strlen(source), 0);

        chat = find_by_hash(hash);
        if (chat == NULL) {
            log_error("the model's chat template (xxh64 %016llx) is not known; if it writes what "
                      "one of these writes, name that one with chat_template: %s",
                      (unsigned long long)hash, names);
            return ST_UNSUPPORTED;
        }
    }
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        const int32_t id = tokenizer_find(tokenizer, marks[i]);

        if (id < 0 || tokenizer->kinds[id] != TOKEN_CONTROL) {
            log_error("chat template %s writes %s, which is no special token of this model; choose "
                      "another chat_template",
                      chat->name, marks[i]);
            return ST_CONFIG;
        }
    }
    *out_template = chat;
    return ST_OK;
}

const char *chat_template_name(const struct chat_template *chat)
{
    return chat->name;
}

/* ---- writing a conversation ----------------------------------------------------------------- */

struct writer {
    struct buf text;
    struct buf marks; /* struct text_range [n] */
};

static void writer_free(struct writer *w)
{
    buf_free(&w->text);
    buf_free(&w->marks);
}

/* Append a special token of the template. */
static enum status write_mark(struct writer *w, const char *token)
{
    const struct text_range range = {w->text.n_bytes, w->text.n_bytes + strlen(token)};
    enum status st = ST_OK;

    TRY(buf_puts(&w->text, token), done);
    TRY(buf_put(&w->marks, &range, sizeof range), done);
done:
    return st;
}

static enum status write_turn(struct writer *w, const char *role, const char *content,
                              size_t n_content)
{
    enum status st = ST_OK;

    TRY(write_mark(w, TURN_BEGIN), done);
    TRY(buf_printf(&w->text, "%s\n", role), done);
    TRY(buf_put(&w->text, content, n_content), done);
    TRY(write_mark(w, TURN_END), done);
    TRY(buf_puts(&w->text, "\n"), done);
done:
    return st;
}

/* The system prompt of a conversation that does not begin with one. */
static enum status write_system(struct writer *w, const struct chat_template *chat,
                                const char *system_prompt)
{
    const char *content = system_prompt != NULL ? system_prompt : chat->default_system;

    return content != NULL ? write_turn(w, "system", content, strlen(content)) : ST_OK;
}

/* Open the assistant's turn and turn the text into ids. */
static enum status finish(struct writer *w, const struct tokenizer *tokenizer, unsigned flags,
                          struct token_list *list, struct row_error *err)
{
    const int64_t n_before = list->n_ids;
    struct text_range whole = {0, 0};
    struct text_span valid = {0};
    enum status st = ST_OK;

    TRY(write_mark(w, TURN_BEGIN), done);
    TRY(buf_puts(&w->text, "assistant\n"), done);
    /* Contents are valid by now; a system prompt from a job file may not be. */
    TRY(encode_check((const char *)w->text.data, w->text.n_bytes, 0, NULL, &valid, err), done);
    whole.end = valid.n_bytes;
    if (flags & ENCODE_PARSE_SPECIAL)
        TRY(encode_text(tokenizer, valid.data, valid.n_bytes, &whole, 1, list), done);
    else
        TRY(encode_text(tokenizer, valid.data, valid.n_bytes,
                        (const struct text_range *)(const void *)w->marks.data,
                        w->marks.n_bytes / sizeof whole, list),
            done);
done:
    if (st != ST_OK)
        list->n_ids = n_before;
    return st;
}

/* ---- messages ------------------------------------------------------------------------------- */

static bool role_known(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};

    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0)
            return true;
    return false;
}

static enum status write_message(struct writer *w, const struct chat_template *chat,
                                 const json_t *message, size_t i, const char *system_prompt,
                                 struct row_error *err)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    enum status st = ST_OK;

    if (!json_is_object(message))
        return row_error_set(err, "message %zu is not an object with role and content", i);
    if (role == NULL)
        return row_error_set(err, "message %zu has no role", i);
    if (!role_known(role))
        return row_error_set(err,
                             "message %zu has the role \"%.40s\"; known are system, user, "
                             "assistant, tool",
                             i, role);
    if (!json_is_string(content))
        return row_error_set(err, "message %zu has %s; it must be a string", i,
                             content == NULL          ? "no content"
                             : json_is_array(content) ? "a list of parts as content"
                             : json_is_null(content)  ? "null as content"
                                                      : "content of another type");
    if (calls != NULL && !json_is_null(calls))
        return row_error_set(err, "message %zu has tool_calls, which template %s does not write", i,
                             chat->name);
    if (i == 0 && strcmp(role, "system") != 0)
        TRY(write_system(w, chat, system_prompt), done);
    TRY(write_turn(w, role, json_string_value(content), json_string_length(content)), done);
done:
    return st;
}

enum status chat_encode_messages(const struct chat_template *chat,
                                 const struct tokenizer *tokenizer, const char *messages,
                                 size_t n_bytes, const char *system_prompt, unsigned flags,
                                 struct token_list *list, struct row_error *err)
{
    struct text_span valid = {0};
    struct buf lossy = {0};
    struct writer w = {0};
    json_error_t error;
    json_t *root = NULL;
    enum status st = ST_OK;

    TRY(encode_check(messages, n_bytes, flags, &lossy, &valid, err), done);
    root = json_loadb(valid.data, valid.n_bytes, JSON_ALLOW_NUL, &error);
    if (root == NULL) {
        st = row_error_set(err, "messages: line %d column %d: %s", error.line, error.column,
                           error.text);
        goto done;
    }
    if (json_array_size(root) == 0) { /* 0 for what is no list, too */
        st = row_error_set(err, "messages must be a list of at least one message");
        goto done;
    }
    for (size_t i = 0; i < json_array_size(root); i++)
        TRY(write_message(&w, chat, json_array_get(root, i), i, system_prompt, err), done);
    TRY(finish(&w, tokenizer, flags, list, err), done);
done:
    writer_free(&w);
    buf_free(&lossy);
    json_decref(root);
    return st;
}

enum status chat_encode_user(const struct chat_template *chat, const struct tokenizer *tokenizer,
                             const char *text, size_t n_bytes, const char *system_prompt,
                             unsigned flags, struct token_list *list, struct row_error *err)
{
    struct text_span valid = {0};
    struct buf lossy = {0};
    struct writer w = {0};
    enum status st = ST_OK;

    TRY(encode_check(text, n_bytes, flags, &lossy, &valid, err), done);
    TRY(write_system(&w, chat, system_prompt), done);
    TRY(write_turn(&w, "user", valid.data, valid.n_bytes), done);
    TRY(finish(&w, tokenizer, flags, list, err), done);
done:
    writer_free(&w);
    buf_free(&lossy);
    return st;
}
