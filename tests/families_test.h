/*
 * families_test.h - tokenisers by the rules of families, over the small vocabularies of
 * tests/golden/tokenizer/families.
 */
#ifndef EPIDOTE_FAMILIES_TEST_H
#define EPIDOTE_FAMILIES_TEST_H

#include "text_test.h"

#define FAMILIES "tests/golden/tokenizer/families/"

static inline json_t *family_json(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, FAMILIES "%s.json", name);
    json_t *json = json_load_file(path, 0, NULL);
    CHECK(json != NULL);
    return json;
}

/* A tokenizer.json without vocab and merges, with those of base; NULL if it is refused. */
static inline struct tokenizer *family_create(json_t *spec, const json_t *base)
{
    json_t *model = json_object_get(spec, "model");
    struct tokenizer *t = NULL;
    char path[300];

    json_object_set(model, "vocab", json_object_get(base, "vocab"));
    json_object_set(model, "merges", json_object_get(base, "merges"));
    snprintf(path, sizeof path, "%s/tokenizer.json", tmp_dir);
    CHECK(json_dump_file(spec, path, JSON_COMPACT) == 0);
    CHECK(tokenizer_load_json(path, &t) == ST_OK);
    return t;
}

static inline struct tokenizer *family_load(const char *name)
{
    json_t *family = family_json(name);
    json_t *base = family_json(json_string_value(json_object_get(family, "base")));
    struct tokenizer *t = family_create(json_object_get(family, "tokenizer"), base);

    json_decref(base);
    json_decref(family);
    return t;
}

#endif
