/*
 * chat.h - private to src/text: a chat template with what the job sets, and one row's conversation.
 */
#ifndef EPIDOTE_TEXT_CHAT_H
#define EPIDOTE_TEXT_CHAT_H

#include "text/template.h"

struct chat_template {
    char *name;                     /* owned */
    struct template *main;          /* owned */
    struct template *for_tools;     /* owned; for rows with tools; NULL = main */
    json_t *kwargs;                 /* owned; NULL = none */
    char *bos, *eos;                /* owned; NULL = the model has none */
    char *named[TOKEN_NAME_COUNT];  /* likewise */
    char date[sizeof "2026-01-31"]; /* "" = none */
    uint64_t hash;                  /* of the texts */
};

/* What a row of the prompt file gives to the template. */
struct chat_row {
    json_t *root;                       /* owned: what was read */
    json_t *messages;                   /* owned: as the template is to see them */
    json_t *tools, *documents, *kwargs; /* borrowed from root; NULL = none */
};

/*
 * chat_row_read - a conversation as JSON text: a list of messages, or an object with messages,
 *   tools, documents and chat_template_kwargs.
 *   system_prompt  in   put first if the messages do not begin with one; NULL = none
 *   out_row        out  free with chat_row_free, also after a failure
 * Messages become what transformers makes of them: keys whose value is null go, and reasoning has
 * all the names that templates read it by.
 * Returns ST_OK, ST_ROW, ST_NOMEM.
 */
enum status chat_row_read(const struct chat_template *chat, struct text_span text,
                          const char *system_prompt, struct chat_row *out_row,
                          struct row_error *err);
/* chat_row_user - the same for one message of the user. */
enum status chat_row_user(struct text_span text, const char *system_prompt,
                          struct chat_row *out_row, struct row_error *err);
void chat_row_free(struct chat_row *row);

/* chat_write - append the conversation as text, and to marks what the template wrote of it (struct
 * text_range).  Returns ST_OK, ST_ROW, ST_NOMEM. */
enum status chat_write(const struct chat_template *chat, const struct chat_row *row,
                       struct buf *out_text, struct buf *out_marks, struct row_error *err);

#endif
