/*
 * tokenizer_json.h - shared by the files that read tokenizer.json.
 */
#ifndef EPIDOTE_TOKENIZER_JSON_H
#define EPIDOTE_TOKENIZER_JSON_H

#include <jansson.h>

#include "text/words.h"

struct loader {
    const char *path;
    json_t *root, *config; /* owned; config NULL if there is no such file */
    struct arena *arena;   /* owned; spellings and merges until the tokeniser is made */
    struct text_span *tokens, *merges;
    uint8_t *kinds, *flags; /* [spec.n_tokens] */
    struct vocab_spec spec;
    struct text_rules rules; /* its words are those below */
    struct word_rule words[MAX_WORD_RULES];
    bool byte_decoder; /* decoding makes bytes of byte tokens */
    bool has_unk, has_template;
};

/* Messages name l->path and `where`, the place inside the file. */
enum status loader_bad_type(const struct loader *l, const char *where, const char *what);
/* The value of "type", or words that say there is none. */
const char *loader_type(const json_t *object);
/* Refuse keys that are not in names, a NULL-terminated list. */
enum status loader_check_keys(const struct loader *l, json_t *object, const char *where,
                              const char *const *names);
/* Keys whose only supported value is null (or, in old files, an empty string). */
enum status loader_check_nulls(const struct loader *l, const json_t *object, const char *where,
                               const char *const *names);
/* A flag that must have one value: what the other would do is not supported. */
struct wanted_flag {
    const char *key;
    bool value, required; /* not required: absent means the value wanted */
};

enum status loader_check_flags(const struct loader *l, const json_t *object, const char *where,
                               const struct wanted_flag *flags);

/* loader_read_pipeline - everything of the file but the model and its tokens. */
enum status loader_read_pipeline(struct loader *l);
/* loader_read_rules - normalizer and pre_tokenizer, into l->rules. */
enum status loader_read_rules(struct loader *l);
/* loader_check_order - refuse added tokens that overlap so that the order in which the reference
 * looks for them (by their flag `normalized`) would change what is found. */
enum status loader_check_order(const struct loader *l, const json_t *added);

#endif
