/*
 * chat_messages.c - a row's conversation, checked and made ready for the template.
 *
 * What a template does not write is refused here (tools, tool calls, images), since a template
 * passes over what it does not know.
 */
#include <stdio.h>

#include "text/chat.h"

/* Whether the template's text has this word in quotes of either kind, or at all. */
static bool mentions(const struct template *t, const char *word, bool quoted)
{
    const size_t n = strlen(word);

    for (const char *at = t->text; (at = strstr(at, word)) != NULL; at++)
        if (!quoted || (at > t->text && strchr("'\"", at[-1]) != NULL && at[n] == at[-1]))
            return true;
    return false;
}

static bool written(const struct chat_template *chat, const char *word, bool quoted)
{
    return mentions(chat->main, word, quoted) ||
           (chat->for_tools != NULL && mentions(chat->for_tools, word, quoted));
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* The usual roles, and those that the template names. */
static enum status check_role(const struct chat_template *chat, const char *role, size_t i,
                              struct row_error *err)
{
    static const char *const usual[] = {"system", "user", "assistant", "tool", "developer"};

    for (size_t j = 0; j < sizeof usual / sizeof usual[0]; j++)
        if (strcmp(role, usual[j]) == 0)
            return ST_OK;
    if (role[0] != '\0' && written(chat, role, true))
        return ST_OK;
    return row_error_set(err,
                         "message %zu has the role \"%.40s\"; known are system, user, assistant, "
                         "tool, developer, and those that the chat template names",
                         i, role);
}

static enum status check_parts(const struct chat_template *chat, const json_t *parts, size_t i,
                               struct row_error *err)
{
    for (size_t j = 0; j < json_array_size(parts); j++) {
        const json_t *part = json_array_get(parts, j);
        const char *type = json_string_value(json_object_get(part, "type"));

        if (type == NULL)
            return row_error_set(err, "message %zu has a list of parts, and part %zu has no type",
                                 i, j);
        if (strcmp(type, "image") == 0) {
            if (!written(chat, "image", true))
                return row_error_set(err,
                                     "message %zu has an image, which template %s does not write",
                                     i, chat->name);
            continue;
        }
        if (strcmp(type, "text") != 0)
            return row_error_set(err,
                                 "message %zu has a list of parts, and part %zu is of type "
                                 "\"%.40s\"; this version takes text and image",
                                 i, j, type);
        if (!json_is_string(json_object_get(part, "text")))
            return row_error_set(err, "message %zu has a list of parts, and part %zu has no text",
                                 i, j);
    }
    return ST_OK;
}

/* A turn may say nothing if it calls tools or thinks. */
static bool says_more(const json_t *message)
{
    static const char *const keys[] = {"tool_calls", "reasoning_content", "thinking", "reasoning"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *value = json_object_get(message, keys[i]);

        if (json_is_string(value) || json_array_size(value) > 0)
            return true;
    }
    return false;
}

static enum status check_message(const struct chat_template *chat, const json_t *message, size_t i,
                                 struct row_error *err)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    enum status st;

    if (!json_is_object(message))
        return row_error_set(err, "message %zu is not an object with role and content", i);
    if (role == NULL)
        return row_error_set(err, "message %zu has no role", i);
    if (strlen(role) != json_string_length(json_object_get(message, "role")))
        return row_error_set(err, "message %zu has a role with a NUL in it", i);
    TRY(check_role(chat, role, i, err), done);
    if (calls != NULL && !json_is_null(calls)) {
        if (!written(chat, "tool_calls", false))
            return row_error_set(
                err, "message %zu has tool_calls, which template %s does not write", i, chat->name);
        if (!json_is_array(calls))
            return row_error_set(err, "message %zu has tool_calls that are not a list", i);
    }
    if (json_is_array(content))
        return check_parts(chat, content, i, err);
    if (!json_is_string(content) &&
        !((content == NULL || json_is_null(content)) && says_more(message)))
        return row_error_set(err, "message %zu has %s; it must be a string or a list of parts", i,
                             content == NULL         ? "no content"
                             : json_is_null(content) ? "null as content"
                                                     : "content of another type");
done:
    return st;
}

static enum status check_lists(const struct chat_template *chat, const struct chat_row *row,
                               struct row_error *err)
{
    const struct {
        const char *name;
        const json_t *list;
    } lists[] = {{"tools", row->tools}, {"documents", row->documents}};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (lists[i].list == NULL)
            continue;
        if (!json_is_array(lists[i].list))
            return row_error_set(err, "%s must be a list", lists[i].name);
        for (size_t j = 0; j < json_array_size(lists[i].list); j++)
            if (!json_is_object(json_array_get(lists[i].list, j)))
                return row_error_set(err, "%s: element %zu is not an object", lists[i].name, j);
        if (json_array_size(lists[i].list) > 0 && !written(chat, lists[i].name, false))
            return row_error_set(err, "the row has %s, which template %s does not write",
                                 lists[i].name, chat->name);
    }
    return ST_OK;
}

/* ---- as the template sees them --------------------------------------------------------------- */

/* A copy of a message without nulls; reasoning under the names that templates read. */
static json_t *prepare_message(const json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *object = (json_t *)(uintptr_t)message; /* jansson iterates over what is not const */
    json_t *copy = json_object(), *reasoning = NULL;
    int bad = copy == NULL;

    for (int i = 2; i >= 0; i--) {
        json_t *value = json_object_get(object, names[i]);

        if (value != NULL && !json_is_null(value))
            reasoning = value;
    }
    if (reasoning != NULL)
        bad |= json_object_set(copy, "thinking", reasoning);
    for (void *at = json_object_iter(object); at != NULL && !bad;
         at = json_object_iter_next(object, at))
        if (!json_is_null(json_object_iter_value(at)))
            bad |= json_object_set(copy, json_object_iter_key(at), json_object_iter_value(at));
    if (reasoning != NULL)
        bad |= json_object_set(copy, "reasoning_content", reasoning);
    if (bad) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

static enum status out_of_memory(void)
{
    log_error("no memory for a conversation");
    return ST_NOMEM;
}

/* A message of one role to the end of the list. */
static enum status add_text(json_t *messages, const char *role, struct text_span text)
{
    json_t *message = json_pack("{s:s, s:s%}", "role", role, "content", text.data, text.n_bytes);

    return message != NULL && json_array_append_new(messages, message) == 0 ? ST_OK
                                                                            : out_of_memory();
}

static enum status add_system(json_t *messages, const char *system_prompt, struct row_error *err)
{
    const size_t n = strlen(system_prompt);
    size_t bad = 0;

    if (!utf8_valid(system_prompt, n, &bad))
        return row_error_set(err, "the system prompt is not valid UTF-8 at offset %zu", bad);
    return add_text(messages, "system", (struct text_span){system_prompt, n});
}

static enum status prepare(const struct chat_template *chat, const json_t *list,
                           const char *system_prompt, json_t *out_messages, struct row_error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *message = json_array_get(list, i);

        TRY(check_message(chat, message, i, err), done);
        const char *role = json_string_value(json_object_get(message, "role"));
        if (i == 0 && system_prompt != NULL && strcmp(role, "system") != 0)
            TRY(add_system(out_messages, system_prompt, err), done);
        json_t *ready = prepare_message(message);
        if (ready == NULL || json_array_append_new(out_messages, ready) != 0)
            return out_of_memory();
    }
done:
    return st;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* {"messages": ..., "tools": ...}: null is the same as not there. */
static enum status take_keys(struct chat_row *row, const json_t **out_list, struct row_error *err)
{
    enum { MESSAGES, TOOLS, DOCUMENTS, KWARGS, N_KEYS };
    static const char *const names[] = {"messages", "tools", "documents", "chat_template_kwargs"};
    json_t *values[N_KEYS] = {NULL};

    for (void *at = json_object_iter(row->root); at != NULL;
         at = json_object_iter_next(row->root, at)) {
        int i = 0;

        while (i < N_KEYS && strcmp(names[i], json_object_iter_key(at)) != 0)
            i++;
        if (i == N_KEYS)
            return row_error_set(err,
                                 "messages: key \"%.40s\"; known are messages, tools, documents, "
                                 "chat_template_kwargs",
                                 json_object_iter_key(at));
        if (!json_is_null(json_object_iter_value(at)))
            values[i] = json_object_iter_value(at);
    }
    if (values[KWARGS] != NULL &&
        (!json_is_object(values[KWARGS]) || json_object_get(values[KWARGS], "messages") != NULL))
        return row_error_set(err, "chat_template_kwargs must be an object without messages");
    *out_list = values[MESSAGES];
    row->tools = values[TOOLS];
    row->documents = values[DOCUMENTS];
    row->kwargs = values[KWARGS];
    return ST_OK;
}

enum status chat_row_read(const struct chat_template *chat, struct text_span text,
                          const char *system_prompt, struct chat_row *out_row,
                          struct row_error *err)
{
    const json_t *list = NULL;
    json_error_t error;
    enum status st = ST_OK;

    out_row->root = json_loadb(text.data, text.n_bytes, JSON_ALLOW_NUL, &error);
    list = out_row->root;
    if (out_row->root == NULL)
        return row_error_set(err, "messages: line %d column %d: %s", error.line, error.column,
                             error.text);
    if (json_is_object(out_row->root))
        TRY(take_keys(out_row, &list, err), done);
    if (json_array_size(list) == 0) /* 0 for what is no list, too */
        return row_error_set(err, "messages must be a list of at least one message");
    TRY(check_lists(chat, out_row, err), done);
    out_row->messages = json_array();
    if (out_row->messages == NULL)
        return out_of_memory();
    TRY(prepare(chat, list, system_prompt, out_row->messages, err), done);
done:
    return st;
}

enum status chat_row_user(struct text_span text, const char *system_prompt,
                          struct chat_row *out_row, struct row_error *err)
{
    enum status st = ST_OK;

    out_row->messages = json_array();
    if (out_row->messages == NULL)
        return out_of_memory();
    if (system_prompt != NULL)
        TRY(add_system(out_row->messages, system_prompt, err), done);
    TRY(add_text(out_row->messages, "user", text), done);
done:
    return st;
}

void chat_row_free(struct chat_row *row)
{
    json_decref(row->messages);
    json_decref(row->root);
}
