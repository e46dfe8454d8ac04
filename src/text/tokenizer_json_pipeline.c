/*
 * tokenizer_json_pipeline.c - what surrounds the model in a tokenizer.json: pre-tokeniser,
 * post-processor, decoder, the order of added tokens.  Called by tokenizer_json.c.
 */
#include <limits.h>
#include <stdlib.h>

#include "text/tokenizer_json.h"

/* ---- checks --------------------------------------------------------------------------- */

enum status loader_bad_type(const struct loader *l, const char *where, const char *what)
{
    log_error("%s: %s must be %s", l->path, where, what);
    return ST_FORMAT;
}

enum status loader_check_keys(const struct loader *l, json_t *object, const char *where,
                              const char *const *names)
{
    const char *key = NULL;
    json_t *value = NULL;

    json_object_foreach(object, key, value)
    {
        const char *const *name = names;

        while (*name != NULL && strcmp(*name, key) != 0)
            name++;
        if (*name == NULL) {
            log_error("%s: %s has the key \"%s\", which this version does not know", l->path, where,
                      key);
            return ST_UNSUPPORTED;
        }
    }
    return ST_OK;
}

enum status loader_check_flags(const struct loader *l, const json_t *object, const char *where,
                               const struct wanted_flag *flags)
{
    for (; flags->key != NULL; flags++) {
        const json_t *value = json_object_get(object, flags->key);

        if (value == NULL && !flags->required)
            continue;
        if (!json_is_boolean(value)) {
            log_error("%s: %s.%s must be true or false", l->path, where, flags->key);
            return ST_FORMAT;
        }
        if (json_is_true(value) != flags->value) {
            log_error("%s: %s.%s = %s is not supported", l->path, where, flags->key,
                      flags->value ? "false" : "true");
            return ST_UNSUPPORTED;
        }
    }
    return ST_OK;
}

enum status loader_check_nulls(const struct loader *l, const json_t *object, const char *where,
                               const char *const *names)
{
    for (; *names != NULL; names++) {
        const json_t *value = json_object_get(object, *names);

        if (value == NULL || json_is_null(value) ||
            (json_is_string(value) && json_string_length(value) == 0))
            continue;
        const char *type = json_string_value(json_object_get(value, "type"));
        log_error("%s: %s%s%s%s%s is not supported; only null is", l->path, where, *names,
                  type != NULL ? " (" : "", type != NULL ? type : "", type != NULL ? ")" : "");
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

const char *loader_type(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));

    return type != NULL ? type : "(no type)";
}

/* ---- pre-tokeniser and post-processor ------------------------------------------------------- */

static enum status check_byte_level(const struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    static const struct wanted_flag flags[] = {
        {"add_prefix_space", false, true}, {"use_regex", true, false}, {NULL, false, false}};
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.ByteLevel", keys), done);
    TRY(loader_check_flags(l, step, "pre_tokenizer.ByteLevel", flags), done);
done:
    return st;
}

static enum status check_digits(const struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "individual_digits", NULL};
    static const struct wanted_flag flags[] = {{"individual_digits", true, true},
                                               {NULL, false, false}};
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.Digits", keys), done);
    TRY(loader_check_flags(l, step, "pre_tokenizer.Digits", flags), done);
done:
    return st;
}

/* Sets spec.pre. */
static enum status read_pre_tokenizer(struct loader *l)
{
    json_t *pre = json_object_get(l->root, "pre_tokenizer");
    const json_t *steps = json_object_get(pre, "pretokenizers");
    json_t *first = json_array_get(steps, 0), *second = json_array_get(steps, 1);
    struct buf names = {0};
    enum status st = ST_OK;

    if (strcmp(loader_type(pre), "ByteLevel") == 0) {
        l->spec.pre = "gpt-2";
        return check_byte_level(l, pre);
    }
    if (strcmp(loader_type(pre), "Sequence") == 0 && json_array_size(steps) == 2 &&
        strcmp(loader_type(first), "Digits") == 0 &&
        strcmp(loader_type(second), "ByteLevel") == 0) {
        l->spec.pre = "smollm";
        TRY(check_digits(l, first), done);
        TRY(check_byte_level(l, second), done);
        return ST_OK;
    }
    for (size_t i = 0; i < json_array_size(steps); i++)
        TRY(buf_printf(&names, "%s%s", i > 0 ? ", " : "", loader_type(json_array_get(steps, i))),
            done);
    log_error("%s: pre_tokenizer %s [%.*s] is not supported; this version has ByteLevel and "
              "Sequence [Digits, ByteLevel]",
              l->path, loader_type(pre), (int)names.n_bytes,
              names.n_bytes > 0 ? (const char *)names.data : "");
    st = ST_UNSUPPORTED;
done:
    buf_free(&names);
    return st;
}

/* One element of TemplateProcessing.single: NULL for the text itself, else the special token. */
static enum status read_template_piece(const struct loader *l, const json_t *processor,
                                       const json_t *piece, int *out_id)
{
    const json_t *sequence = json_object_get(piece, "Sequence");
    const json_t *special = json_object_get(piece, "SpecialToken");

    if (sequence != NULL) {
        const char *which = json_string_value(json_object_get(sequence, "id"));

        *out_id = -1;
        return which != NULL && strcmp(which, "A") == 0
                   ? ST_OK
                   : loader_bad_type(l, "post_processor.single.Sequence.id", "\"A\"");
    }
    const char *name = json_string_value(json_object_get(special, "id"));
    const json_t *entry =
        name != NULL ? json_object_get(json_object_get(processor, "special_tokens"), name) : NULL;
    const json_t *ids = json_object_get(entry, "ids");
    const json_int_t id = json_integer_value(json_array_get(ids, 0));

    if (!json_is_integer(json_array_get(ids, 0)) || id < 0 || id > INT_MAX)
        return loader_bad_type(l, "post_processor.single",
                               "a list of Sequence and known SpecialToken");
    if (json_array_size(ids) != 1) {
        log_error("%s: post_processor token %s of %zu ids is not supported", l->path, name,
                  json_array_size(ids));
        return ST_UNSUPPORTED;
    }
    *out_id = (int)id;
    return ST_OK;
}

/* TemplateProcessing: at most one token before the text (BOS) and one after it (EOS). */
static enum status read_template(struct loader *l, json_t *processor)
{
    static const char *const keys[] = {"type", "single", "pair", "special_tokens", NULL};
    const json_t *single = json_object_get(processor, "single");
    const size_t n = json_array_size(single);
    int ids[3] = {-1, -1, -1};
    size_t n_text = 0, text_at = 0;
    enum status st = ST_OK;

    TRY(loader_check_keys(l, processor, "post_processor.TemplateProcessing", keys), done);
    for (size_t i = 0; i < n && n <= 3; i++) {
        TRY(read_template_piece(l, processor, json_array_get(single, i), &ids[i]), done);
        if (ids[i] < 0) {
            n_text++;
            text_at = i;
        }
    }
    if (n_text != 1 || text_at > 1 || n - text_at > 2 || l->has_template) {
        log_error("%s: post_processor TemplateProcessing is supported only as [BOS] text [EOS]",
                  l->path);
        return ST_UNSUPPORTED;
    }
    l->has_template = true;
    l->spec.add_bos = text_at == 1;
    l->spec.bos_id = text_at == 1 ? ids[0] : -1;
    l->spec.add_eos = n == text_at + 2;
    l->spec.eos_id = l->spec.add_eos ? ids[text_at + 1] : -1;
done:
    return st;
}

static enum status read_post_processor(struct loader *l, json_t *processor)
{
    const char *type = loader_type(processor);
    enum status st = ST_OK;

    if (processor == NULL || json_is_null(processor) || strcmp(type, "ByteLevel") == 0)
        return ST_OK; /* ByteLevel moves offsets only */
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(l, processor);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *steps = json_object_get(processor, "processors");

        for (size_t i = 0; i < json_array_size(steps); i++) {
            json_t *step = json_array_get(steps, i);

            if (strcmp(loader_type(step), "Sequence") == 0)
                return loader_bad_type(l, "post_processor.processors", "a flat list");
            TRY(read_post_processor(l, step), done);
        }
        return ST_OK;
    }
    log_error("%s: post_processor %s is not supported; this version has ByteLevel and "
              "TemplateProcessing",
              l->path, type);
    return ST_UNSUPPORTED;
done:
    return st;
}

/* Everything but the model and its tokens. */
enum status loader_read_pipeline(struct loader *l)
{
    static const char *const keys[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    static const char *const nulls[] = {"normalizer", "truncation", "padding", NULL};
    const char *version = json_string_value(json_object_get(l->root, "version"));
    const json_t *decoder = json_object_get(l->root, "decoder");
    enum status st = ST_OK;

    TRY(loader_check_keys(l, l->root, "the file", keys), done);
    if (version == NULL || strcmp(version, "1.0") != 0) {
        log_error("%s: version %s is not supported; this version reads 1.0", l->path,
                  version != NULL ? version : "(none)");
        return ST_UNSUPPORTED;
    }
    TRY(loader_check_nulls(l, l->root, "", nulls), done);
    if (strcmp(loader_type(decoder), "ByteLevel") != 0) {
        log_error("%s: decoder %s is not supported; this version has ByteLevel", l->path,
                  loader_type(decoder));
        return ST_UNSUPPORTED;
    }
    TRY(read_pre_tokenizer(l), done);
    TRY(read_post_processor(l, json_object_get(l->root, "post_processor")), done);
done:
    return st;
}

/* ---- the order of added tokens --------------------------------------------------------------- */

enum { MAX_PAIRS = 10 * 1000 * 1000 };

struct added {
    const char *text;
    size_t n_bytes;
    bool normalized, control;
};

/* Whether in some text `a` begins before `b` and overlaps it, or begins with it and is longer: what
 * a search for both finds is then `a`. */
static bool can_lead(const struct added *a, const struct added *b)
{
    for (size_t at = 0; at < a->n_bytes; at++) {
        const size_t left = a->n_bytes - at, n = left < b->n_bytes ? left : b->n_bytes;

        if (memcmp(a->text + at, b->text, n) == 0 && (at > 0 || a->n_bytes > b->n_bytes))
            return true;
    }
    return false;
}

/* What a search finds of two overlapping tokens. */
enum winner { LEADER, FIRST, SECOND };

static enum winner winner_of(bool first_early, bool second_early)
{
    return first_early == second_early ? LEADER : first_early ? FIRST : SECOND;
}

static bool order_matters(const struct added *a, const struct added *b)
{
    /* The reference looks for what is not `normalized` first, this tokeniser for control tokens. */
    const enum winner theirs = winner_of(!a->normalized, !b->normalized);
    const enum winner ours = winner_of(a->control, b->control);

    if (theirs == ours)
        return false;
    /* Where a leads, FIRST is LEADER; where b does, SECOND is. */
    return (can_lead(a, b) && (theirs == SECOND) != (ours == SECOND)) ||
           (can_lead(b, a) && (theirs == FIRST) != (ours == FIRST));
}

/* Tokens of one kind are found in one search, here and there. */
static int kind_of(const struct added *a)
{
    return 2 * a->control + a->normalized;
}

static int by_kind(const void *a, const void *b)
{
    return kind_of(a) - kind_of(b);
}

static enum status check_pairs(const struct loader *l, const struct added *list, size_t n)
{
    size_t n_pairs = 0;

    for (size_t i = 0, other = 0; i < n; i++) {
        while (other < n && kind_of(&list[other]) == kind_of(&list[i]))
            other++;
        n_pairs += n - other;
        if (n_pairs > MAX_PAIRS) {
            log_error("%s: %zu added_tokens of mixed kinds are too many", l->path, n);
            return ST_UNSUPPORTED;
        }
        for (size_t j = other; j < n; j++)
            if (order_matters(&list[i], &list[j])) {
                log_error("%s: added_tokens \"%.60s\" and \"%.60s\" overlap, and their flags "
                          "special and normalized put them in an order that is not supported",
                          l->path, list[i].text, list[j].text);
                return ST_UNSUPPORTED;
            }
    }
    return ST_OK;
}

enum status loader_check_order(const struct loader *l, const json_t *added)
{
    const size_t n = json_array_size(added);
    struct added *list = host_alloc(n * sizeof *list);

    if (list == NULL)
        return ST_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(added, i), *text = json_object_get(item, "content");

        list[i] = (struct added){json_string_value(text), json_string_length(text),
                                 json_is_true(json_object_get(item, "normalized")),
                                 json_is_true(json_object_get(item, "special"))};
    }
    qsort(list, n, sizeof *list, by_kind);
    const enum status st = check_pairs(l, list, n);
    host_free(list);
    return st;
}
