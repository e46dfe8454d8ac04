/*
 * chat.c - conversations to token ids by a chat template.
 *
 * The template is the one that the model carries, a .jinja file, or one of those known by name; all
 * are run by template.c.  A conversation is written out as one text with the places marked that the
 * template wrote; only there does the tokeniser look for special tokens (encode.c).  The text is
 * not cut at those places beforehand: a line break of the template and one of the content can share
 * a token, as in the reference.  No BOS is put before it: a template writes its own.
 */
#include <stdio.h>

#include "text/chat.h"

/* These write turns as <|im_start|>ROLE\nCONTENT<|im_end|>\n. */
#define TURN_BEGIN "<|im_start|>"
#define TURN_END "<|im_end|>"
#define TURNS(first)                                                                               \
    "{% for message in messages %}" first "{{ '" TURN_BEGIN                                        \
    "' + message['role'] + '\n' + message['content'] + '" TURN_END "' + '\n' }}{% endfor %}"       \
    "{% if add_generation_prompt %}{{ '" TURN_BEGIN "assistant\n' }}{% endif %}"

/* Gemma has no system turn: the system message goes before the first of the user. */
#define GEMMA_BEGIN "<start_of_turn>"
#define GEMMA_END "<end_of_turn>"
#define GEMMA                                                                                      \
    "{{ bos_token }}{% set ns = namespace(before='', turns=messages) %}"                           \
    "{% if messages[0]['role'] == 'system' %}{% set ns.turns = messages[1:] %}"                    \
    "{% set ns.before = (messages[0]['content'] if messages[0]['content'] is string else "         \
    "messages[0]['content'] | map(attribute='text') | join) + '\n\n' %}{% endif %}"                \
    "{% for m in ns.turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"              \
    "{{ raise_exception('turns of user and assistant have to alternate') }}{% endif %}"            \
    "{{ '" GEMMA_BEGIN "' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"        \
    "{% if loop.first %}{{ ns.before }}{% endif %}"                                                \
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"                           \
    "{% for part in m['content'] %}{{ part['text'] | trim }}{% endfor %}{% endif %}"               \
    "{{ '" GEMMA_END "\n' }}{% endfor %}"                                                          \
    "{% if add_generation_prompt %}{{ '" GEMMA_BEGIN "model\n' }}{% endif %}"

static const struct known {
    const char *name, *source;
    const char *marks[2]; /* special tokens that the model must have */
    uint64_t hashes[4];   /* of texts in model files that do the same; 0 = no more */
} known[] = {
    {"smollm2",
     TURNS("{% if loop.first and messages[0]['role'] != 'system' %}{{ '" TURN_BEGIN "system\n"
           "You are a helpful AI assistant named SmolLM, trained by Hugging Face" TURN_END "\n' }}"
           "{% endif %}"),
     {TURN_BEGIN, TURN_END},
     {0x406244e5f006a13a}},
    {"gemma", GEMMA, {GEMMA_BEGIN, GEMMA_END}, {0}},
    {"chatml", TURNS(""), {TURN_BEGIN, TURN_END}, {0x408946d744ba89ee, 0x3f951c547f06568f}},
};
enum { N_KNOWN = sizeof known / sizeof known[0] };

/* ---- finding one ----------------------------------------------------------------------------- */

static const char *known_names(char *out, size_t cap)
{
    size_t at = 0;

    for (int i = 0; i < N_KNOWN && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? ", " : "", known[i].name);
    return out;
}

static const char *name_by_hash(uint64_t hash)
{
    for (int i = 0; i < N_KNOWN; i++)
        for (int j = 0; j < 4 && known[i].hashes[j] != 0; j++)
            if (known[i].hashes[j] == hash)
                return known[i].name;
    return NULL;
}

static bool is_path(const char *name)
{
    const size_t n = strlen(name);

    return strchr(name, '/') != NULL || (n > 6 && strcmp(name + n - 6, ".jinja") == 0);
}

static enum status check_marks(const struct known *k, const struct tokenizer *tokenizer)
{
    for (size_t i = 0; i < 2; i++) {
        const int32_t id = tokenizer_find(tokenizer, k->marks[i]);

        if (id >= 0 && tokenizer->kinds[id] == TOKEN_CONTROL)
            continue;
        log_error("chat template %s writes %s, which is no special token of this model; choose "
                  "another chat_template",
                  k->name, k->marks[i]);
        return ST_CONFIG;
    }
    return ST_OK;
}

static enum status load(struct chat_template *chat, const char *text, size_t n_bytes,
                        const char *origin, const char *name)
{
    enum status st;

    TRY(template_create(text, n_bytes, origin, &chat->main), done);
    chat->hash = hash_bytes(text, n_bytes, chat->hash);
    chat->name = host_strdup(name);
    st = chat->name != NULL ? ST_OK : ST_NOMEM;
done:
    return st;
}

static enum status load_file(struct chat_template *chat, const char *path)
{
    struct buf file = {0};
    enum status st;

    TRY(file_read(path, TEMPLATE_MAX_BYTES, &file), done);
    TRY(load(chat, (const char *)file.data, file.n_bytes, path, path), done);
done:
    buf_free(&file);
    return st;
}

static enum status load_known(struct chat_template *chat, const char *name,
                              const struct tokenizer *tokenizer)
{
    char names[128];
    enum status st;

    for (int i = 0; i < N_KNOWN; i++)
        if (strcmp(known[i].name, name) == 0) {
            TRY(check_marks(&known[i], tokenizer), done);
            return load(chat, known[i].source, strlen(known[i].source), name, name);
        }
    log_error("chat template %s is not known; there are: auto, %s, and the path of a .jinja file",
              name, known_names(names, sizeof names));
    return ST_CONFIG;
done:
    return st;
}

/* What the model carries. */
static enum status load_own(struct chat_template *chat, const struct chat_spec *spec)
{
    const char *tools = spec->tool_source, *name = NULL;
    char names[128];
    enum status st;

    if (spec->source == NULL) {
        log_error("the model carries no chat template; name one with chat_template (%s, or the "
                  "path of a .jinja file) or set chat = false",
                  known_names(names, sizeof names));
        return ST_UNSUPPORTED;
    }
    name = name_by_hash(hash_bytes(spec->source, strlen(spec->source), 0));
    TRY(load(chat, spec->source, strlen(spec->source), "the model",
             name != NULL ? name : "the model's own"),
        done);
    if (tools != NULL) {
        TRY(template_create(tools, strlen(tools), "the model, template tool_use", &chat->for_tools),
            done);
        chat->hash = hash_bytes(tools, strlen(tools), chat->hash);
    }
done:
    if (st == ST_UNSUPPORTED)
        log_error("the model's chat template cannot be run; choose another with chat_template (%s, "
                  "or the path of a .jinja file)",
                  known_names(names, sizeof names));
    return st;
}

static enum status load_kwargs(struct chat_template *chat, const char *text)
{
    json_error_t error;

    if (text == NULL)
        return ST_OK;
    chat->kwargs = json_loads(text, JSON_ALLOW_NUL, &error);
    if (!json_is_object(chat->kwargs)) {
        log_error("chat_template_kwargs must be an object of JSON, like "
                  "{\"enable_thinking\": false}: %s",
                  chat->kwargs != NULL ? "this is something else" : error.text);
        return ST_CONFIG;
    }
    if (json_object_get(chat->kwargs, "messages") != NULL) {
        log_error("chat_template_kwargs must not hold messages: they are the prompt file's");
        return ST_CONFIG;
    }
    return ST_OK;
}

/* The text of a special token, NULL if the model has none. */
static enum status take_special(const struct tokenizer *tokenizer, int id, char **out_text)
{
    if (id < 0)
        return ST_OK;
    const struct text_span span = tokenizer_token_bytes(tokenizer, id, true);
    *out_text = host_strndup(span.data, span.n_bytes);
    return *out_text != NULL ? ST_OK : ST_NOMEM;
}

static enum status take_named(const struct tokenizer *tokenizer, char *out[TOKEN_NAME_COUNT])
{
    for (int i = 0; i < TOKEN_NAME_COUNT; i++) {
        const char *text = tokenizer_named(tokenizer, (enum token_name)i);

        if (text == NULL)
            continue;
        out[i] = host_strdup(text);
        if (out[i] == NULL)
            return ST_NOMEM;
    }
    return ST_OK;
}

enum status chat_template_create(const struct chat_spec *spec, const struct tokenizer *tokenizer,
                                 struct chat_template **out_template)
{
    struct chat_template *chat = host_zalloc(sizeof *chat);
    enum status st;

    if (chat == NULL)
        return ST_NOMEM;
    if (strcmp(spec->name, "auto") == 0)
        TRY(load_own(chat, spec), err);
    else if (is_path(spec->name))
        TRY(load_file(chat, spec->name), err);
    else
        TRY(load_known(chat, spec->name, tokenizer), err);
    TRY(load_kwargs(chat, spec->kwargs), err);
    if (spec->date != NULL) {
        if (!date_valid(spec->date)) {
            log_error("chat_date must be a date like 2026-01-31, not \"%.40s\"", spec->date);
            st = ST_CONFIG;
            goto err;
        }
        memcpy(chat->date, spec->date, sizeof chat->date);
    }
    TRY(take_special(tokenizer, tokenizer_bos(tokenizer), &chat->bos), err);
    TRY(take_special(tokenizer, tokenizer_eos(tokenizer), &chat->eos), err);
    TRY(take_named(tokenizer, chat->named), err);
    *out_template = chat;
    return ST_OK;
err:
    chat_template_destroy(chat);
    return st;
}

void chat_template_destroy(struct chat_template *chat)
{
    if (chat == NULL)
        return;
    template_destroy(chat->main);
    template_destroy(chat->for_tools);
    json_decref(chat->kwargs);
    host_free(chat->name);
    host_free(chat->bos);
    host_free(chat->eos);
    for (int i = 0; i < TOKEN_NAME_COUNT; i++)
        host_free(chat->named[i]);
    host_free(chat);
}

enum status chat_template_describe(const char *source, struct buf *out)
{
    static const char *const names[] = {"tools",
                                        "documents",
                                        "tool_calls",
                                        "reasoning_content",
                                        "enable_thinking",
                                        "thinking",
                                        "reasoning_effort",
                                        "builtin_tools",
                                        "strftime_now",
                                        "add_generation_prompt",
                                        "bos_token"};
    struct template *t = NULL;
    const char *sep = "reads ";
    enum status st = template_create(source, strlen(source), "the model", &t);

    if (st == ST_UNSUPPORTED)
        return buf_puts(out, "not one that this version can run (see the message)");
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!template_uses(t, names[i]))
            continue;
        TRY(buf_printf(out, "%s%s", sep, names[i]), done);
        sep = ", ";
    }
    if (sep[0] != ',')
        TRY(buf_puts(out, "reads messages only"), done);
done:
    template_destroy(t);
    return st;
}

const char *chat_template_name(const struct chat_template *chat)
{
    return chat->name;
}

uint64_t chat_template_hash(const struct chat_template *chat)
{
    return chat->hash;
}

/* ---- writing a conversation ------------------------------------------------------------------ */

/* Names and values of one run; later ones of a name replace earlier ones. */
struct variables {
    struct template_variable list[128];
    size_t n;
};

static void add_json(struct variables *v, const char *name, const json_t *json)
{
    if (v->n < sizeof v->list / sizeof v->list[0])
        v->list[v->n++] = (struct template_variable){.name = name, .json = json};
}

static enum status add_kwargs(struct variables *v, json_t *kwargs, struct row_error *err)
{
    enum { MAX_KWARGS = 50 };

    if (json_object_size(kwargs) > MAX_KWARGS)
        return row_error_set(err, "chat_template_kwargs: more than %d", MAX_KWARGS);
    for (void *at = json_object_iter(kwargs); at != NULL; at = json_object_iter_next(kwargs, at))
        add_json(v, json_object_iter_key(at), json_object_iter_value(at));
    return ST_OK;
}

enum status chat_write(const struct chat_template *chat, const struct chat_row *row,
                       struct buf *out_text, struct buf *out_marks, struct row_error *err)
{
    const bool has_tools =
        row->tools != NULL || json_is_array(json_object_get(chat->kwargs, "tools"));
    const struct template *t = has_tools && chat->for_tools != NULL ? chat->for_tools : chat->main;
    struct variables v = {0};
    enum status st;

    if (chat->bos != NULL)
        v.list[v.n++] = (struct template_variable){.name = "bos_token", .text = chat->bos};
    if (chat->eos != NULL)
        v.list[v.n++] = (struct template_variable){.name = "eos_token", .text = chat->eos};
    for (int i = 0; i < TOKEN_NAME_COUNT; i++)
        if (chat->named[i] != NULL)
            v.list[v.n++] = (struct template_variable){.name = token_name_key((enum token_name)i),
                                                       .text = chat->named[i]};
    add_json(&v, "tools", json_null());
    add_json(&v, "documents", json_null());
    add_json(&v, "add_generation_prompt", json_true());
    TRY(add_kwargs(&v, chat->kwargs, err), done);
    if (row->tools != NULL)
        add_json(&v, "tools", row->tools);
    if (row->documents != NULL)
        add_json(&v, "documents", row->documents);
    TRY(add_kwargs(&v, row->kwargs, err), done);
    v.list[v.n++] =
        (struct template_variable){.name = "messages", .json = row->messages, .roles = true};
    TRY(template_render(t, v.list, v.n, chat->date[0] != '\0' ? chat->date : NULL, out_text,
                        out_marks, err),
        done);
done:
    return st;
}

/* The conversation as ids. */
static enum status encode_row(const struct chat_template *chat, const struct tokenizer *tokenizer,
                              const struct chat_row *row, unsigned flags, struct token_list *list,
                              struct row_error *err)
{
    const int64_t n_before = list->n_ids;
    struct text_range whole = {0, 0};
    struct text_span valid = {0};
    struct buf text = {0}, marks = {0};
    enum status st;

    TRY(chat_write(chat, row, &text, &marks, err), done);
    TRY(encode_check((const char *)text.data, text.n_bytes, 0, NULL, &valid, err), done);
    whole.end = valid.n_bytes;
    if (flags & ENCODE_PARSE_SPECIAL)
        TRY(encode_text(tokenizer, valid.data, valid.n_bytes, &whole, 1, list), done);
    else
        TRY(encode_text(tokenizer, valid.data, valid.n_bytes,
                        (const struct text_range *)(const void *)marks.data,
                        marks.n_bytes / sizeof whole, list),
            done);
done:
    if (st != ST_OK)
        list->n_ids = n_before;
    buf_free(&text);
    buf_free(&marks);
    return st;
}

enum status chat_encode_messages(const struct chat_template *chat,
                                 const struct tokenizer *tokenizer, const char *messages,
                                 size_t n_bytes, const char *system_prompt, unsigned flags,
                                 struct token_list *list, struct row_error *err)
{
    struct chat_row row = {0};
    struct text_span valid = {0};
    struct buf lossy = {0};
    enum status st;

    TRY(encode_check(messages, n_bytes, flags, &lossy, &valid, err), done);
    TRY(chat_row_read(chat, valid, system_prompt, &row, err), done);
    TRY(encode_row(chat, tokenizer, &row, flags, list, err), done);
done:
    chat_row_free(&row);
    buf_free(&lossy);
    return st;
}

enum status chat_encode_user(const struct chat_template *chat, const struct tokenizer *tokenizer,
                             const char *text, size_t n_bytes, const char *system_prompt,
                             unsigned flags, struct token_list *list, struct row_error *err)
{
    struct chat_row row = {0};
    struct text_span valid = {0};
    struct buf lossy = {0};
    enum status st;

    TRY(encode_check(text, n_bytes, flags, &lossy, &valid, err), done);
    TRY(chat_row_user(valid, system_prompt, &row, err), done);
    TRY(encode_row(chat, tokenizer, &row, flags, list, err), done);
done:
    chat_row_free(&row);
    buf_free(&lossy);
    return st;
}
