/*
 * hf_config.h - what the files that read a Hugging Face configuration share.  Private to them.
 *
 *   hf_config.c  sizes and everything that families differ in
 *   hf_keys.c    every key that may stand in config.json, and how single values are read
 *   hf_rope.c    rope_theta, rope_scaling, rope_parameters
 *   vision_config.c  a vision-language model: what is whose, and the tower's part
 *   vision_prep_file.c  what is done to its images, by a file of its own
 */
#ifndef EPIDOTE_MODEL_HF_CONFIG_H
#define EPIDOTE_MODEL_HF_CONFIG_H

#include "model/source.h"

struct reader {
    const char *origin; /* file name for messages */
    const json_t *root; /* borrowed */
    const struct model_family *family;
    bool nested; /* the decoder's part of a vision-language model */
};

/* What a key's value must be. */
enum rule {
    READ,    /* read elsewhere */
    IGNORED, /* says nothing about inference */
    FALSE,   /* false or null */
    EMPTY,   /* null, or an empty list or object */
    ONE,     /* 1 or null */
    THREE,   /* 3 */
    SILU,    /* "silu", or "swish", which is the same */
    GELU     /* "gelu_pytorch_tanh" */
};
bool hf_follows(enum rule rule, const json_t *value);
/* A key that may stand in a file. */
struct key_rule {
    const char *key;
    enum rule rule;
    int who; /* mask of families, towers or image processors; 0: all */
};
/* hf_find_rule - the first row of a key that holds for one of `who`, which is the one that counts;
 * NULL: the key is not known there. */
const struct key_rule *hf_find_rule(const struct key_rule *rows, size_t n_rows, const char *key,
                                    int who);
/* hf_check_keys - that every key of the file is one of the family's and follows its rule.
 * Returns ST_OK, ST_UNSUPPORTED (logged with the key). */
enum status hf_check_keys(const struct reader *r);
/* hf_is_text_key - that the key is known in the configuration of some family; hf_is_harmless - that
 * it never changes what a model computes, or does not with this value. */
bool hf_is_text_key(const char *key);
bool hf_is_harmless(const char *key, const json_t *value);

/* Messages for a value that is wrong, and for one that this version does not compute. */
enum status hf_bad_value(const struct reader *r, const char *key, const char *wanted);
enum status hf_unsupported(const struct reader *r, const char *key, const json_t *value);

/* hf_get_x - the value of a key; *out keeps what it holds where the key is absent, or null and
 * null_is_absent.  hf_get_ids - an id or list of ids below V; null is none.
 * Return ST_OK, ST_FORMAT. */
enum status hf_get_bool(const struct reader *r, const char *key, bool null_is_absent, bool *out);
enum status hf_get_number(const struct reader *r, const char *key, bool null_is_absent,
                          double *out);
enum status hf_get_int(const struct reader *r, const char *key, bool null_is_absent, int *out);
enum status hf_get_ids(const struct reader *r, const char *key, const json_t *value, int V, int max,
                       int *ids, int *out_n);

/* vision_config_split - whether the root of a config.json is that of a vision-language model, and
 * if so the decoder's part of it as an object of its own; *out_text stays NULL if not.
 * vision_config_read - the tower's part, when the decoder's is known: its image_id and tied too.
 * Return ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status vision_config_split(const json_t *root, const char *origin, json_t **out_text);
enum status vision_config_read(const json_t *root, const char *origin, struct model_config *config,
                               struct vision_config *out);

/* hf_read_rope - rope and rope_window of a configuration whose sizes are known.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED. */
enum status hf_read_rope(const struct reader *r, double default_base, struct model_config *config);

#endif
