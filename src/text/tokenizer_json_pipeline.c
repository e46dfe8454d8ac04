/*
 * tokenizer_json_pipeline.c - what surrounds the model in a tokenizer.json: post-processor
 * and decoder; its rules for text are in tokenizer_json_rules.c.  Called by tokenizer_json.c.
 */
#include <limits.h>

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

/* ---- post-processor --------------------------------------------------------------------------- */

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

/* ---- decoder -------------------------------------------------------------------------------- */

static bool is_type(const json_t *object, const char *type)
{
    return strcmp(loader_type(object), type) == 0;
}

/* Whether a decoder's Replace is the one that makes spaces of their signs. */
static bool replaces_signs(const json_t *step)
{
    const char *from =
        json_string_value(json_object_get(json_object_get(step, "pattern"), "String"));
    const char *to = json_string_value(json_object_get(step, "content"));

    return is_type(step, "Replace") && from != NULL && strcmp(from, SPACE_SIGN) == 0 &&
           to != NULL && strcmp(to, " ") == 0;
}

static bool strips_one_space(const json_t *step)
{
    const char *content = json_string_value(json_object_get(step, "content"));

    return is_type(step, "Strip") && content != NULL && strcmp(content, " ") == 0 &&
           json_integer_value(json_object_get(step, "start")) == 1 &&
           json_integer_value(json_object_get(step, "stop")) == 0;
}

/* Replace, ByteFallback, Fuse and perhaps Strip, in this order. */
static enum status read_chars_decoder(struct loader *l, const json_t *decoder)
{
    const json_t *steps = json_object_get(decoder, "decoders");
    const size_t n = json_array_size(steps);
    size_t at = 0;

    if (is_type(decoder, "Sequence") && replaces_signs(json_array_get(steps, at)))
        at++;
    else
        goto refuse;
    l->byte_decoder = is_type(json_array_get(steps, at), "ByteFallback");
    at += l->byte_decoder;
    if (!is_type(json_array_get(steps, at), "Fuse"))
        goto refuse;
    at++;
    l->rules.strip_space = strips_one_space(json_array_get(steps, at));
    at += l->rules.strip_space;
    if (at == n)
        return ST_OK;
refuse:
    log_error(
        "%s: decoder %s is not supported beside this pre_tokenizer; this version has Sequence "
        "[Replace, ByteFallback, Fuse] with or without Strip of one space at the start",
        l->path, loader_type(decoder));
    return ST_UNSUPPORTED;
}

static enum status read_decoder(struct loader *l)
{
    const json_t *decoder = json_object_get(l->root, "decoder");
    const json_t *steps = json_object_get(decoder, "decoders");

    if (l->rules.chars)
        return read_chars_decoder(l, decoder);
    if (is_type(decoder, "Sequence") && json_array_size(steps) == 1)
        decoder = json_array_get(steps, 0);
    if (is_type(decoder, "ByteLevel"))
        return ST_OK;
    log_error("%s: decoder %s is not supported; this version has ByteLevel", l->path,
              loader_type(decoder));
    return ST_UNSUPPORTED;
}

/* Everything but the model and its tokens. */
enum status loader_read_pipeline(struct loader *l)
{
    static const char *const keys[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    const char *version = json_string_value(json_object_get(l->root, "version"));
    enum status st = ST_OK;

    TRY(loader_check_keys(l, l->root, "the file", keys), done);
    if (version == NULL || strcmp(version, "1.0") != 0) {
        log_error("%s: version %s is not supported; this version reads 1.0", l->path,
                  version != NULL ? version : "(none)");
        return ST_UNSUPPORTED;
    }
    /* What a training run left behind: the reference's tokeniser classes do not obey it either. */
    if (json_is_object(json_object_get(l->root, "truncation")) ||
        json_is_object(json_object_get(l->root, "padding")))
        log_info("%s: truncation and padding are not obeyed; `context` bounds a row", l->path);
    TRY(loader_read_rules(l), done);
    TRY(read_decoder(l), done);
    TRY(read_post_processor(l, json_object_get(l->root, "post_processor")), done);
done:
    return st;
}
