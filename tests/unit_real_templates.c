/* TEST needs: templates */
/*
 * unit_real_templates.c - the chat templates of well-known models, on conversations with system
 * messages, tools, tool calls, reasoning and options, against what transformers makes of them.
 */
#include "test.h"
#include "text/chat.h"

#define GOLDEN "tests/golden/templates/"
#define TEMPLATES "build/models/llama_cpp_files/templates/"

static struct chat_template *open_chat(const char *name)
{
    static char bos[] = "<s>", eos[] = "</s>";
    struct chat_template *chat = host_zalloc(sizeof *chat);
    struct buf file = {0};
    char path[300];

    snprintf(path, sizeof path, TEMPLATES "%s.jinja", name);
    CHECK(file_read(path, 1 << 20, &file) == ST_OK);
    CHECK(template_create((const char *)file.data, file.n_bytes, path, &chat->main) == ST_OK);
    buf_free(&file);
    chat->name = host_strdup(name);
    chat->bos = host_strdup(bos);
    chat->eos = host_strdup(eos);
    memcpy(chat->date, "2026-01-31", sizeof chat->date);
    return chat;
}

/* One conversation; what is expected is a hash, "error", or "-": refused before the template. */
static void check_row(const struct chat_template *chat, const char *name, const char *row_text,
                      const char *want)
{
    const struct text_span span = {row_text, strlen(row_text)};
    struct buf text = {0}, marks = {0};
    struct chat_row row = {0};
    struct row_error err = {{0}};
    char got[20] = "-";
    enum status st = chat_row_read(chat, span, NULL, &row, &err);

    if (st == ST_OK) {
        st = chat_write(chat, &row, &text, &marks, &err);
        snprintf(got, sizeof got, "error");
        if (st == ST_OK)
            snprintf(got, sizeof got, "%016llx",
                     (unsigned long long)hash_bytes(text.data, text.n_bytes, 0));
    }
    CHECK(st == ST_OK || st == ST_ROW);
    CHECK_STR(got, want);
    if (strcmp(got, want) != 0)
        fprintf(stderr, "  %s, %s: %s\n", chat->name, name, err.text);
    chat_row_free(&row);
    buf_free(&text);
    buf_free(&marks);
}

int main(void)
{
    json_t *rows = json_load_file(GOLDEN "conversations.json", 0, NULL);
    struct chat_template *chat = NULL;
    char template[100] = "", name[100], want[100];
    FILE *in = fopen(GOLDEN "expect.txt", "r");
    int n_templates = 0, n_texts = 0;

    CHECK(rows != NULL && in != NULL);
    while (in != NULL && fscanf(in, "%99s %99s %99s", template, name, want) == 3) {
        if (chat == NULL || strcmp(chat->name, template) != 0) {
            chat_template_destroy(chat);
            chat = open_chat(template);
            n_templates++;
        }
        char *row = json_dumps(json_object_get(rows, name), 0);
        CHECK(row != NULL);
        if (row != NULL)
            check_row(chat, name, row, want);
        n_texts += strlen(want) == 16;
        free(row);
    }
    CHECK(n_templates >= 65 && n_texts >= 1500);
    fprintf(stderr, "  %d templates, %d texts\n", n_templates, n_texts);
    chat_template_destroy(chat);
    json_decref(rows);
    if (in != NULL)
        fclose(in);
    TEST_END();
}
