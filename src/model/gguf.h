/*
 * gguf.h - the container of a GGUF file: its keys and its tensors.  For the files gguf*.c.
 */
#ifndef EPIDOTE_MODEL_GGUF_H
#define EPIDOTE_MODEL_GGUF_H

#include "model/source.h"

/* Types of values, as numbered in the file. */
enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

struct gguf_value {
    const char *key; /* in arena */
    size_t at;       /* of the key in the file, for messages */
    enum gguf_type type, elem;
    uint64_t n;          /* elements of an array, else 1 */
    const uint8_t *data; /* the first element; strings have their length before them */
    bool used;           /* somebody asked for it */
};

struct gguf {
    const char *origin; /* file name for messages; borrowed */
    const uint8_t *data;
    size_t n_bytes, at; /* at: how far it has been read */
    const char *arch;   /* general.architecture, before the dot of the family's keys; static */
    uint32_t version;
    uint64_t n_tensors;
    struct arena *arena; /* borrowed */
    struct gguf_value *values;
    int n_values; /* sorted by key */
};

/* gguf_read_values - header and key-value section.  gguf_read_tensors - what follows: appends to
 * list.  Return ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status gguf_read_values(struct gguf *gguf);
enum status gguf_read_tensors(struct gguf *gguf, struct tensor_list *list);

/* gguf_split_load - the tensors of the other parts, if the file `first` is one of several; maps
 * them into source.  gguf_split_read - those of one of them.  Return as gguf_read_tensors, and
 * ST_IO. */
enum status gguf_split_check(struct gguf *gguf);
enum status gguf_split_load(struct model_source *source, struct gguf *first,
                            struct tensor_list *list);
enum status gguf_split_read(const struct file_map *map, const char *origin, int no, int count,
                            int n_tensors, struct arena *arena, struct tensor_list *list);

/* gguf_find - NULL if the key is not there; marks it used. */
struct gguf_value *gguf_find(struct gguf *gguf, const char *key);
/* gguf_get_x - the value of a key, which must be of that kind; keeps *out where it is absent.
 * Integers may have any width but must be 0 .. INT_MAX.  Return ST_OK, ST_FORMAT. */
enum status gguf_get_int(struct gguf *gguf, const char *key, int *out);
enum status gguf_get_double(struct gguf *gguf, const char *key, double *out);
enum status gguf_get_bool(struct gguf *gguf, const char *key, bool *out);
/* A view without a NUL at its end. */
enum status gguf_get_string(struct gguf *gguf, const char *key, struct text_span *out);
/* gguf_read_hparams - the family and its hyper-parameters; what no key says (biases, whether the
 * head is tied) is left to the tensors, V is -1 where it is that of the vocabulary
 * (gguf_hparams.c). Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status gguf_read_hparams(struct gguf *gguf, const struct model_family **out_family,
                              struct model_config *out_config);
/* gguf_get_strings - an array of strings as views in arena.  Also ST_NOMEM; ST_FORMAT if there are
 * more than max. */
enum status gguf_get_strings(struct gguf *gguf, const char *key, int max,
                             const struct text_span **out_spans, int *out_n);

/* gguf_missing_key - logs that a key should be there; returns ST_FORMAT. */
enum status gguf_missing_key(const struct gguf *gguf, const char *key);
/* gguf_read_vocab - fill vocab, and the ids of config; its V if that is below 0.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status gguf_read_vocab(struct gguf *gguf, struct model_config *config,
                            struct vocab_spec *vocab);

#endif
