/*
 * text_test.h - what the tests of text/ share: the small vocabulary, golden files, and changed
 * copies of tokenizer.json.
 */
#ifndef EPIDOTE_TEXT_TEST_H
#define EPIDOTE_TEXT_TEST_H

#include <jansson.h>

#include "test.h"
#include "text/internal.h"

#define GOLDEN "tests/golden/tokenizer/"
#define SPAN(text)                                                                                 \
    {                                                                                              \
        text, sizeof text - 1                                                                      \
    }

static char tmp_dir[256];

static inline struct tokenizer *load_small(void)
{
    struct tokenizer *t = NULL;

    CHECK(tokenizer_load_json(GOLDEN "tokenizer.json", &t) == ST_OK);
    return t;
}

/* ---- reading goldens ------------------------------------------------------------------------- */

/* A golden file's lines, split at tabs into columns; NULL at the end. */
struct lines {
    struct buf file;
    char *next;
};

static inline void lines_open(struct lines *lines, const char *path)
{
    *lines = (struct lines){0};
    CHECK(file_read(path, 16 << 20, &lines->file) == ST_OK);
    CHECK(buf_put(&lines->file, "", 1) == ST_OK);
    lines->next = (char *)lines->file.data;
}

static inline bool lines_next(struct lines *lines, char **columns, int n_columns)
{
    char *line = lines->next, *end = strchr(line, '\n');

    if (end == NULL)
        return false;
    *end = '\0';
    lines->next = end + 1;
    for (int i = 0; i < n_columns; i++) {
        char *tab = i + 1 < n_columns ? strchr(line, '\t') : NULL;

        columns[i] = line;
        if (tab != NULL)
            *tab = '\0';
        line = tab != NULL ? tab + 1 : line;
    }
    return true;
}

static inline void from_hex(const char *hex, struct buf *out)
{
    unsigned byte = 0;

    buf_reset(out);
    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        CHECK(buf_put(out, &(uint8_t){(uint8_t)byte}, 1) == ST_OK);
}

static inline void from_decimals(char *text, struct token_list *out)
{
    out->n_ids = 0;
    for (char *end = text; *text != '\0'; text = end) {
        const int32_t id = (int32_t)strtol(text, &end, 10);

        CHECK(token_list_append(out, &id, 1) == ST_OK);
    }
}

static inline bool same_ids(const struct token_list *a, const struct token_list *b)
{
    return a->n_ids == b->n_ids &&
           (a->n_ids == 0 || memcmp(a->ids, b->ids, (size_t)a->n_ids * sizeof *a->ids) == 0);
}

static inline bool same_bytes(const struct buf *a, const struct buf *b)
{
    return a->n_bytes == b->n_bytes &&
           (a->n_bytes == 0 || memcmp(a->data, b->data, a->n_bytes) == 0);
}

/* ---- tokenizer.json, changed ---------------------------------------------------------------- */

/* Write golden/tokenizer.json to the temporary folder with the value at a path like "model/vocab"
 * or "added_tokens/0/special" replaced by JSON text (NULL = removed; a list grows at "+"). */
struct change {
    const char *path, *json;
};

static inline void apply(json_t *root, const struct change *change)
{
    char path[128], *save = NULL;
    json_t *at = root,
           *value = change->json ? json_loads(change->json, JSON_DECODE_ANY, NULL) : NULL;

    snprintf(path, sizeof path, "%s", change->path);
    CHECK((value != NULL) == (change->json != NULL));
    for (char *key = strtok_r(path, "/", &save), *next = NULL; key != NULL; key = next) {
        next = strtok_r(NULL, "/", &save);
        if (next != NULL)
            at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key))
                                   : json_object_get(at, key);
        else if (strcmp(key, "+") == 0)
            CHECK(json_array_append_new(at, value) == 0);
        else if (json_is_array(at))
            CHECK(json_array_set_new(at, (size_t)atoi(key), value) == 0);
        else if (value == NULL)
            CHECK(json_object_del(at, key) == 0);
        else
            CHECK(json_object_set_new(at, key, value) == 0);
    }
}

/* Both files of the golden folder, changed; changes end with a NULL path. */
static inline const char *write_changed(const struct change *changes, const char *config)
{
    static char path[300];
    json_t *root = json_load_file(GOLDEN "tokenizer.json", 0, NULL);
    char config_path[300];

    snprintf(path, sizeof path, "%s/tokenizer.json", tmp_dir);
    snprintf(config_path, sizeof config_path, "%s/tokenizer_config.json", tmp_dir);
    CHECK(root != NULL);
    for (; changes->path != NULL; changes++)
        apply(root, changes);
    CHECK(json_dump_file(root, path, JSON_COMPACT) == 0);
    json_decref(root);
    unlink(config_path);
    if (config != NULL)
        CHECK(file_write_atomic(config_path, config, strlen(config)) == ST_OK);
    return path;
}

#define ADDED(id, content, special)                                                                \
    "{\"id\": " #id ", \"content\": \"" content "\", \"special\": " #special                       \
    ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}"
#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true}"
#define TEMPLATE_BOS                                                                               \
    "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"B\"}}, "        \
    "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"B\": {\"id\": \"B\", \"ids\": "      \
    "[1]}}}"

/* Variant B of make_golden.py. */
static inline struct tokenizer *load_variant_b(void)
{
    static const struct change changes[] = {
        {"added_tokens/+", ADDED(1024, "<think>", false)},
        {"added_tokens/+", ADDED(1025, "    ", false)},
        {"added_tokens/+", ADDED(1026, "na\\u00efve", false)},
        {"added_tokens/+", ADDED(1027, "<|im_start|>user", true)},
        {"pre_tokenizer", BYTE_LEVEL},
        {"post_processor", TEMPLATE_BOS},
        {NULL, NULL},
    };
    struct tokenizer *t = NULL;

    CHECK(tokenizer_load_json(write_changed(changes, NULL), &t) == ST_OK);
    return t;
}

/* ---- conversations --------------------------------------------------------------------------- */

static inline enum status open_chat(const char *name, const char *source, const struct tokenizer *t,
                                    struct chat_template **out_chat)
{
    const struct chat_spec spec = {.name = name, .source = source};

    return chat_template_create(&spec, t, out_chat);
}

static inline int64_t count_control(const struct tokenizer *t, const struct token_list *list)
{
    int64_t n = 0;

    for (int64_t i = 0; i < list->n_ids; i++)
        n += t->kinds[list->ids[i]] == TOKEN_CONTROL;
    return n;
}

/* One golden conversation; whether its contents spell special tokens. */
static inline bool check_conversation(const struct tokenizer *t, const json_t *golden)
{
    const json_t *ids = json_object_get(golden, "ids");
    const json_t *list = json_object_get(golden, "messages");
    const char *name = json_string_value(json_object_get(golden, "template"));
    const char *role = json_string_value(json_object_get(json_array_get(list, 0), "role"));
    const bool adds_system = strcmp(name, "smollm2") == 0 && strcmp(role, "system") != 0;
    const int64_t n_marks = 2 * ((int64_t)json_array_size(list) + adds_system) + 1;
    char *text = json_dumps(list, 0);
    struct chat_template *chat = NULL;
    struct token_list got = {0}, want = {0};
    struct row_error err;

    for (size_t i = 0; i < json_array_size(ids); i++) {
        const int32_t id = (int32_t)json_integer_value(json_array_get(ids, i));

        CHECK(token_list_append(&want, &id, 1) == ST_OK);
    }
    CHECK(open_chat(name, NULL, t, &chat) == ST_OK);
    CHECK(chat_encode_messages(chat, t, text, strlen(text), NULL, ENCODE_PARSE_SPECIAL, &got,
                               &err) == ST_OK);
    CHECK(same_ids(&got, &want));
    const bool injects = count_control(t, &want) != n_marks;

    /* Without the flag: the marks of the template and no others, whatever the contents spell. */
    got.n_ids = 0;
    CHECK(chat_encode_messages(chat, t, text, strlen(text), NULL, 0, &got, &err) == ST_OK);
    CHECK_INT(count_control(t, &got), n_marks);
    CHECK(same_ids(&got, &want) == !injects);
    token_list_free(&got);
    token_list_free(&want);
    chat_template_destroy(chat);
    free(text);
    return injects;
}

/* All conversations of a file; returns how many there are. */
static inline int check_conversations(const struct tokenizer *t, const char *path,
                                      int *out_n_injections)
{
    struct lines lines;
    char *line = NULL;
    int n = 0, n_injections = 0;

    for (lines_open(&lines, path); lines_next(&lines, &line, 1); n++) {
        json_t *golden = json_loads(line, JSON_ALLOW_NUL, NULL);

        n_injections += check_conversation(t, golden);
        json_decref(golden);
    }
    buf_free(&lines.file);
    *out_n_injections = n_injections;
    return n;
}

/* Begin and end with an empty folder for write_changed. */
static inline void tmp_begin(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(tmp_dir, sizeof tmp_dir, "%s/epidote-text-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(mkdtemp(tmp_dir) != NULL);
}

static inline void tmp_end(void)
{
    char path[300];

    snprintf(path, sizeof path, "%s/tokenizer.json", tmp_dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", tmp_dir);
    unlink(path);
    CHECK(rmdir(tmp_dir) == 0);
}

#endif
