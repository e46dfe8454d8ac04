/*
 * tokenizer_json_rules.c - what a tokenizer.json does to a text before merging: normalizer and
 * pre_tokenizer.  Called by tokenizer_json_pipeline.c.
 */
#include "text/tokenizer_json.h"

static bool is_type(const json_t *object, const char *type)
{
    return strcmp(loader_type(object), type) == 0;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static enum status add_normal(struct loader *l, struct normal_rule *rules, int *n,
                              enum normal_kind kind, const char *from, const char *to)
{
    if (*n == MAX_NORMAL_RULES) {
        log_error("%s: more than %d rules of normalizer are not supported", l->path,
                  MAX_NORMAL_RULES);
        return ST_UNSUPPORTED;
    }
    rules[(*n)++] = (struct normal_rule){kind, from, to};
    return ST_OK;
}

/* A text without NUL: rules are strings. */
static const char *text_of(const json_t *value)
{
    const char *text = json_string_value(value);

    return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

static enum status read_replace(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "pattern", "content", NULL};
    const char *from = text_of(json_object_get(json_object_get(step, "pattern"), "String"));
    const char *to = text_of(json_object_get(step, "content"));
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "normalizer.Replace", keys), done);
    if (from == NULL || from[0] == '\0' || to == NULL) {
        log_error("%s: normalizer Replace is supported only of a String that is not empty",
                  l->path);
        return ST_UNSUPPORTED;
    }
    st = add_normal(l, l->rules.normal, &l->rules.n_normal, NORMAL_REPLACE, from, to);
done:
    return st;
}

static enum status read_prepend(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "prepend", NULL};
    const char *text = text_of(json_object_get(step, "prepend"));
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "normalizer.Prepend", keys), done);
    if (text == NULL)
        return loader_bad_type(l, "normalizer.Prepend.prepend", "a text");
    st = add_normal(l, l->rules.normal, &l->rules.n_normal, NORMAL_PREPEND, NULL, text);
done:
    return st;
}

static enum status read_normalizer(struct loader *l, json_t *step, int depth)
{
    const json_t *steps = json_object_get(step, "normalizers");
    enum status st = ST_OK;

    if (step == NULL || json_is_null(step))
        return ST_OK;
    if (is_type(step, "Sequence") && depth < 4) {
        for (size_t i = 0; i < json_array_size(steps); i++)
            TRY(read_normalizer(l, json_array_get(steps, i), depth + 1), done);
        return ST_OK;
    }
    if (is_type(step, "NFC"))
        return add_normal(l, l->rules.normal, &l->rules.n_normal, NORMAL_NFC, NULL, NULL);
    if (is_type(step, "Replace"))
        return read_replace(l, step);
    if (is_type(step, "Prepend"))
        return read_prepend(l, step);
    log_error("%s: normalizer (%s) is not supported; this version has NFC, Replace, Prepend",
              l->path, loader_type(step));
    return ST_UNSUPPORTED;
done:
    return st;
}

/* ---- pre_tokenizer --------------------------------------------------------------------------- */

/* What ByteLevel cuts by. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static enum status add_words(struct loader *l, const char *pattern, enum word_cut cut, bool own)
{
    if (l->rules.n_words == MAX_WORD_RULES) {
        log_error("%s: more than %d steps of pre_tokenizer are not supported", l->path,
                  MAX_WORD_RULES);
        return ST_UNSUPPORTED;
    }
    /* What comes after ByteLevel sees what that makes of bytes. */
    l->words[l->rules.n_words++] = (struct word_rule){pattern, cut, !l->rules.chars, own};
    return ST_OK;
}

static enum status read_byte_level(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                       NULL};
    static const struct wanted_flag flags[] = {{"add_prefix_space", false, true},
                                               {NULL, false, false}};
    const json_t *use_regex = json_object_get(step, "use_regex");
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.ByteLevel", keys), done);
    TRY(loader_check_flags(l, step, "pre_tokenizer.ByteLevel", flags), done);
    if (use_regex != NULL && !json_is_boolean(use_regex))
        return loader_bad_type(l, "pre_tokenizer.ByteLevel.use_regex", "true or false");
    if (!l->rules.chars) {
        log_error("%s: pre_tokenizer has ByteLevel twice, which is not supported", l->path);
        return ST_UNSUPPORTED;
    }
    if (use_regex == NULL || json_is_true(use_regex))
        TRY(add_words(l, gpt2_pattern, CUT_ISOLATED, false), done);
    l->rules.chars = false;
done:
    return st;
}

static enum status read_digits(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "individual_digits", NULL};
    const json_t *individual = json_object_get(step, "individual_digits");
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.Digits", keys), done);
    if (!json_is_boolean(individual))
        return loader_bad_type(l, "pre_tokenizer.Digits.individual_digits", "true or false");
    st =
        add_words(l, "\\p{_DIGIT}", json_is_true(individual) ? CUT_ISOLATED : CUT_CONTIGUOUS, true);
done:
    return st;
}

/* A behavior and what it is with `invert`; CUT_COUNT: not supported. */
static const struct behavior {
    const char *name;
    enum word_cut cut, inverted;
} behaviors[] = {
    {"Isolated", CUT_ISOLATED, CUT_ISOLATED},
    {"Contiguous", CUT_CONTIGUOUS, CUT_COUNT},
    {"Removed", CUT_REMOVED, CUT_KEPT},
    {"MergedWithPrevious", CUT_WITH_PREVIOUS, CUT_COUNT},
    {"MergedWithNext", CUT_WITH_NEXT, CUT_COUNT},
};

static enum status find_behavior(const struct loader *l, const json_t *step, const char *where,
                                 enum word_cut *out_cut)
{
    const char *name = json_string_value(json_object_get(step, "behavior"));
    const bool invert = json_is_true(json_object_get(step, "invert"));

    for (size_t i = 0; name != NULL && i < sizeof behaviors / sizeof behaviors[0]; i++) {
        const enum word_cut cut = invert ? behaviors[i].inverted : behaviors[i].cut;

        if (strcmp(name, behaviors[i].name) != 0 || cut == CUT_COUNT)
            continue;
        *out_cut = cut;
        return ST_OK;
    }
    log_error("%s: %s.behavior %s%s is not supported", l->path, where,
              name != NULL ? name : "(none)", invert ? " with invert" : "");
    return ST_UNSUPPORTED;
}

/* A text as the pattern that matches it. */
static enum status escape(struct loader *l, const char *text, const char **out_pattern)
{
    struct buf buf = {0};
    enum status st = ST_OK;

    for (; *text != '\0'; text++) {
        if (strchr("\\.*+?()[]{}|^$", *text) != NULL)
            TRY(buf_put(&buf, "\\", 1), done);
        TRY(buf_put(&buf, text, 1), done);
    }
    *out_pattern = arena_copy(l->arena, buf.n_bytes > 0 ? buf.data : (const void *)"", buf.n_bytes);
    st = *out_pattern != NULL ? ST_OK : ST_NOMEM;
done:
    buf_free(&buf);
    return st;
}

static enum status read_split(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
    const json_t *pattern = json_object_get(step, "pattern");
    const char *text = text_of(json_object_get(pattern, "String"));
    const char *regex = text_of(json_object_get(pattern, "Regex"));
    enum word_cut cut = CUT_ISOLATED;
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.Split", keys), done);
    TRY(find_behavior(l, step, "pre_tokenizer.Split", &cut), done);
    if (text != NULL)
        TRY(escape(l, text, &regex), done);
    if (regex == NULL)
        return loader_bad_type(l, "pre_tokenizer.Split.pattern", "an object with Regex or String");
    st = add_words(l, regex, cut, false);
done:
    return st;
}

static enum status read_punctuation(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "behavior", NULL};
    enum word_cut cut = CUT_ISOLATED;
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.Punctuation", keys), done);
    if (json_object_get(step, "behavior") != NULL)
        TRY(find_behavior(l, step, "pre_tokenizer.Punctuation", &cut), done);
    st = add_words(l, "\\p{_PUNCT}", cut, true);
done:
    return st;
}

static enum status read_metaspace(struct loader *l, json_t *step)
{
    static const char *const keys[] = {"type", "replacement", "prepend_scheme", "split", NULL};
    const char *sign = text_of(json_object_get(step, "replacement"));
    const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
    const bool always = scheme != NULL && strcmp(scheme, "always") == 0;
    const bool first = scheme != NULL && strcmp(scheme, "first") == 0;
    enum status st = ST_OK;

    TRY(loader_check_keys(l, step, "pre_tokenizer.Metaspace", keys), done);
    if (sign == NULL || strcmp(sign, SPACE_SIGN) != 0 || l->rules.n_words > 0 ||
        (!always && !first && (scheme == NULL || strcmp(scheme, "never") != 0))) {
        log_error("%s: pre_tokenizer Metaspace is supported only as the first step, with the "
                  "replacement U+2581 and the prepend_scheme first, always or never",
                  l->path);
        return ST_UNSUPPORTED;
    }
    TRY(add_normal(l, l->rules.late, &l->rules.n_late, NORMAL_REPLACE, " ", SPACE_SIGN), done);
    if (always || first)
        TRY(add_normal(l, l->rules.late, &l->rules.n_late,
                       always ? NORMAL_PREPEND_MISSING : NORMAL_PREPEND_FIRST, NULL, SPACE_SIGN),
            done);
    if (!json_is_false(json_object_get(step, "split")))
        TRY(add_words(l, SPACE_SIGN, CUT_WITH_NEXT, false), done);
done:
    return st;
}

static enum status read_pre_tokenizer(struct loader *l, json_t *step, int depth)
{
    static const struct {
        const char *type;
        enum status (*read)(struct loader *l, json_t *step);
    } kinds[] = {
        {"ByteLevel", read_byte_level},    {"Digits", read_digits},       {"Split", read_split},
        {"Punctuation", read_punctuation}, {"Metaspace", read_metaspace},
    };
    const json_t *steps = json_object_get(step, "pretokenizers");
    enum status st = ST_OK;

    if (step == NULL || json_is_null(step))
        return ST_OK;
    if (is_type(step, "Sequence") && depth < 4) {
        for (size_t i = 0; i < json_array_size(steps); i++)
            TRY(read_pre_tokenizer(l, json_array_get(steps, i), depth + 1), done);
        return ST_OK;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (is_type(step, kinds[i].type))
            return kinds[i].read(l, step);
    log_error("%s: pre_tokenizer %s is not supported; this version has ByteLevel, Digits, Split, "
              "Punctuation, Metaspace and a Sequence of them",
              l->path, loader_type(step));
    return ST_UNSUPPORTED;
done:
    return st;
}

enum status loader_read_rules(struct loader *l)
{
    enum status st = ST_OK;

    l->rules.words = l->words;
    l->rules.chars = true; /* until there is a ByteLevel */
    TRY(read_normalizer(l, json_object_get(l->root, "normalizer"), 0), done);
    TRY(read_pre_tokenizer(l, json_object_get(l->root, "pre_tokenizer"), 0), done);
    l->spec.model = l->rules.chars ? "char-bpe" : "bpe";
    if (l->rules.chars || l->rules.n_late == 0)
        return ST_OK;
    log_error("%s: pre_tokenizer Metaspace beside ByteLevel is not supported", l->path);
    st = ST_UNSUPPORTED;
done:
    return st;
}
