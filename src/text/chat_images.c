/*
 * chat_images.c - where the images of a conversation stand.
 *
 * A message may be a list of parts; one of type image stands for an image of the row.  What a
 * template makes of it is the template's; which image it is, is said here.
 */
#include <stdlib.h>

#include "text/chat.h"

/* ---- the order of images --------------------------------------------------------------------- */

static enum status part_order(const json_t *part, size_t message, size_t number,
                              struct token_list *list, int32_t *next, struct row_error *err)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *index = json_object_get(part, "index");

    if (type == NULL || strcmp(type, "image") != 0)
        return ST_OK;
    if (index != NULL && !json_is_null(index)) {
        const json_int_t value = json_integer_value(index);

        if (!json_is_integer(index) || value < 0 || value >= INT32_MAX)
            return row_error_set(err,
                                 "message %zu, part %zu: index must be the number of an image of "
                                 "the row, from 0 on",
                                 message, number);
        *next = (int32_t)value;
    }
    return token_list_append(list, &(int32_t){(*next)++}, 1);
}

enum status chat_image_order(const char *messages, size_t n_bytes, struct token_list *list,
                             struct row_error *err)
{
    enum status st = ST_OK;
    json_error_t error;
    json_t *root = json_loadb(messages, n_bytes, JSON_ALLOW_NUL, &error);
    const json_t *turns = json_is_object(root) ? json_object_get(root, "messages") : root;
    int32_t next = 0;

    if (root == NULL)
        return row_error_set(err, "messages: line %d column %d: %s", error.line, error.column,
                             error.text);
    for (size_t i = 0; i < json_array_size(turns); i++) {
        const json_t *content = json_object_get(json_array_get(turns, i), "content");

        for (size_t j = 0; j < json_array_size(content); j++)
            TRY(part_order(json_array_get(content, j), i, j, list, &next, err), done);
    }
done:
    json_decref(root);
    return st;
}

/* ---- one message of the user ----------------------------------------------------------------- */

static enum status out_of_memory(void)
{
    log_error("no memory for a conversation");
    return ST_NOMEM;
}

static enum status add_part(json_t *parts, json_t *part)
{
    return part != NULL && json_array_append_new(parts, part) == 0 ? ST_OK : out_of_memory();
}

static enum status add_text(json_t *parts, const char *text, size_t n_bytes)
{
    if (n_bytes == 0)
        return ST_OK;
    return add_part(parts, json_pack("{s:s, s:s%}", "type", "text", "text", text, n_bytes));
}

static enum status split(struct text_span text, const struct text_swap *words, int n_words,
                         json_t *parts)
{
    enum status st = ST_OK;
    const struct text_swap *word;
    size_t kept = 0, at = 0;

    while ((word = encode_find_swap(text, words, n_words, &at)) != NULL) {
        TRY(add_text(parts, text.data + kept, at - kept), done);
        TRY(add_part(parts, json_pack("{s:s}", "type", "image")), done);
        at += word->find.n_bytes;
        kept = at;
    }
    TRY(add_text(parts, text.data + kept, text.n_bytes - kept), done);
done:
    return st;
}

enum status chat_user_messages(const char *text, size_t n_bytes, const struct text_swap *words,
                               int n_words, struct buf *out_json, struct row_error *err)
{
    enum status st;
    json_t *parts = json_array(), *messages = NULL;
    char *json = NULL;
    size_t bad = 0;

    if (!utf8_valid(text, n_bytes, &bad)) {
        st = row_error_set(err, "not valid UTF-8: byte 0x%02x at offset %zu of %zu",
                           (unsigned)(uint8_t)text[bad], bad, n_bytes);
        goto done;
    }
    st = parts != NULL ? split((struct text_span){text, n_bytes}, words, n_words, parts)
                       : out_of_memory();
    if (st != ST_OK)
        goto done;
    messages = json_pack("[{s:s, s:O}]", "role", "user", "content", parts);
    json = messages != NULL ? json_dumps(messages, JSON_COMPACT) : NULL;
    st = json != NULL ? buf_puts(out_json, json) : out_of_memory();
done:
    free(json);
    json_decref(messages);
    json_decref(parts);
    return st;
}
