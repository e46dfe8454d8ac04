/*
 * gguf.c - the GGUF container: header, key-value section, tensor table.
 *
 *   "GGUF" version n_tensors n_values | key type value ... | name dims type offset ... | padding |
 *   tensor data
 *
 * Every count, length and offset is checked against what is left of the file before it is used, so
 * that reading takes time and memory linear in the file's size.  What the keys mean is in
 * gguf_config.c; what the tensors are for, in bind.c.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/gguf.h"

enum {
    GGUF_MAX_DIMS = 4,
    MAX_VALUES = 65536,
    MAX_TENSORS = 1 << 20,
    MAX_KEY = 1024,
    MIN_VALUE_BYTES = 8 + 1 + 4 + 1,          /* a key of one byte and a value of one */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* a name of one byte and one dimension */
    DEFAULT_ALIGNMENT = 32
};

static const char again[] = "the file is damaged or was cut short, get it again";

/* ---- reading forward ------------------------------------------------------------------------ */

static size_t left(const struct gguf *g)
{
    return g->n_bytes - g->at;
}

static enum status take(struct gguf *g, size_t n, const char *what, const uint8_t **out)
{
    if (n > left(g)) {
        log_error("%s: byte %zu: %s needs %zu bytes and the file has %zu left; %s", g->origin,
                  g->at, what, n, left(g), again);
        return ST_FORMAT;
    }
    *out = g->data + g->at;
    g->at += n;
    return ST_OK;
}

static enum status take_u32(struct gguf *g, const char *what, uint32_t *out)
{
    const uint8_t *data = NULL;
    const enum status st = take(g, sizeof *out, what, &data);

    if (st == ST_OK)
        memcpy(out, data, sizeof *out);
    return st;
}

static enum status take_u64(struct gguf *g, const char *what, uint64_t *out)
{
    const uint8_t *data = NULL;
    const enum status st = take(g, sizeof *out, what, &data);

    if (st == ST_OK)
        memcpy(out, data, sizeof *out);
    return st;
}

/* A count or length of things that take at least min_bytes each. */
static enum status take_count(struct gguf *g, const char *what, size_t min_bytes, uint64_t *out)
{
    const size_t at = g->at;
    uint64_t n = 0;
    const enum status st = take_u64(g, what, &n);

    if (st != ST_OK)
        return st;
    if (n > left(g) / min_bytes) {
        log_error("%s: byte %zu: %s is %llu, but only %zu bytes are left; %s", g->origin, at, what,
                  (unsigned long long)n, left(g), again);
        return ST_FORMAT;
    }
    *out = n;
    return ST_OK;
}

/* A key or tensor name: a short printable string, copied with a NUL. */
static enum status take_name(struct gguf *g, const char *what, size_t limit, const char **out)
{
    const size_t at = g->at;
    const uint8_t *data = NULL;
    uint64_t n = 0;
    enum status st;

    TRY(take_count(g, what, 1, &n), err);
    TRY(take(g, (size_t)n, what, &data), err);
    bool printable = n > 0 && n <= limit;
    for (uint64_t i = 0; printable && i < n; i++)
        printable = data[i] >= 0x20 && data[i] <= 0x7e;
    if (!printable) {
        log_error("%s: byte %zu: %s of %llu bytes must be 1 to %zu bytes of printable ASCII; %s",
                  g->origin, at, what, (unsigned long long)n, limit, again);
        return ST_FORMAT;
    }
    *out = arena_copy(g->arena, data, (size_t)n);
    return *out != NULL ? ST_OK : ST_NOMEM;
err:
    return st;
}

/* ---- values --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t n_bytes; /* 0: strings and arrays say so themselves */
} value_types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"uint8", 1},    [GGUF_I8] = {"int8", 1},    [GGUF_U16] = {"uint16", 2},
    [GGUF_I16] = {"int16", 2},   [GGUF_U32] = {"uint32", 4}, [GGUF_I32] = {"int32", 4},
    [GGUF_F32] = {"float32", 4}, [GGUF_BOOL] = {"bool", 1},  [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"uint64", 8}, [GGUF_I64] = {"int64", 8},
    [GGUF_F64] = {"float64", 8},
};

static enum status take_type(struct gguf *g, const char *key, enum gguf_type *out)
{
    const size_t at = g->at;
    uint32_t type = 0;
    const enum status st = take_u32(g, "the type of a value", &type);

    if (st != ST_OK)
        return st;
    if (type >= GGUF_TYPE_COUNT) {
        log_error("%s: byte %zu: key %s has a value of unknown type %u; %s", g->origin, at, key,
                  type, again);
        return ST_FORMAT;
    }
    *out = (enum gguf_type)type;
    return ST_OK;
}

/* Step over v->n elements of v->elem. */
static enum status take_elements(struct gguf *g, struct gguf_value *v)
{
    const size_t elem_bytes = value_types[v->elem].n_bytes;
    const uint8_t *data = NULL;
    enum status st;

    v->data = g->data + g->at;
    if (v->elem != GGUF_STRING) {
        TRY(take(g, (size_t)v->n * elem_bytes, v->key, &data), err); /* v->n <= left: no overflow */
        for (uint64_t i = 0; v->elem == GGUF_BOOL && i < v->n; i++) {
            if (data[i] > 1) {
                log_error("%s: byte %zu: key %s has the truth value %d; %s", g->origin,
                          (size_t)(data - g->data) + (size_t)i, v->key, data[i], again);
                return ST_FORMAT;
            }
        }
        return ST_OK;
    }
    for (uint64_t i = 0; i < v->n; i++) {
        uint64_t n_bytes = 0;

        TRY(take_count(g, v->key, 1, &n_bytes), err);
        TRY(take(g, (size_t)n_bytes, v->key, &data), err);
    }
    return ST_OK;
err:
    return st;
}

static enum status take_value(struct gguf *g, struct gguf_value *v)
{
    enum status st;

    v->at = g->at;
    TRY(take_name(g, "a key", MAX_KEY, &v->key), err);
    TRY(take_type(g, v->key, &v->type), err);
    v->elem = v->type;
    v->n = 1;
    if (v->type == GGUF_ARRAY) {
        TRY(take_type(g, v->key, &v->elem), err);
        if (v->elem == GGUF_ARRAY) {
            log_error("%s: byte %zu: key %s holds arrays of arrays, which this version cannot read",
                      g->origin, v->at, v->key);
            return ST_UNSUPPORTED;
        }
        const size_t elem_bytes = value_types[v->elem].n_bytes;
        TRY(take_count(g, v->key, elem_bytes > 0 ? elem_bytes : 8, &v->n), err);
    }
    TRY(take_elements(g, v), err);
err:
    return st;
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_value *x = a, *y = b;

    return strcmp(x->key, y->key);
}

static enum status read_header(struct gguf *g, uint64_t *out_n_values)
{
    const uint8_t *magic = NULL;
    uint64_t n_values = 0;
    enum status st;

    TRY(take(g, 4, "the magic number", &magic), err);
    if (memcmp(magic, "GGUF", 4) != 0) {
        log_error(
            "%s: byte 0: not a GGUF file (it does not begin with \"GGUF\"); name a .gguf file "
            "or a directory with config.json and .safetensors files",
            g->origin);
        return ST_FORMAT;
    }
    TRY(take_u32(g, "the version", &g->version), err);
    if (g->version != 2 && g->version != 3) {
        log_error("%s: byte 4: GGUF version %u%s; this version reads 2 and 3, little-endian: "
                  "convert the model anew",
                  g->origin, g->version, g->version >= 1 << 24 ? " (a big-endian file)" : "");
        return ST_UNSUPPORTED;
    }
    TRY(take_u64(g, "the number of tensors", &g->n_tensors), err);
    TRY(take_u64(g, "the number of keys", &n_values), err);
    if (g->n_tensors > left(g) / MIN_TENSOR_BYTES || g->n_tensors > MAX_TENSORS ||
        n_values > left(g) / MIN_VALUE_BYTES || n_values > MAX_VALUES) {
        log_error("%s: byte 8: %llu tensors and %llu keys in a file of %zu bytes; %s", g->origin,
                  (unsigned long long)g->n_tensors, (unsigned long long)n_values, g->n_bytes,
                  again);
        return ST_FORMAT;
    }
    *out_n_values = n_values;
err:
    return st;
}

enum status gguf_read_values(struct gguf *g)
{
    uint64_t n_values = 0;
    enum status st;

    TRY(read_header(g, &n_values), err);
    g->values = arena_alloc(g->arena, (size_t)n_values * sizeof *g->values);
    if (g->values == NULL)
        return ST_NOMEM;
    memset(g->values, 0, (size_t)n_values * sizeof *g->values);
    for (; g->n_values < (int)n_values; g->n_values++)
        TRY(take_value(g, &g->values[g->n_values]), err);
    qsort(g->values, (size_t)g->n_values, sizeof *g->values, by_key);
    for (int i = 1; i < g->n_values; i++) {
        if (by_key(&g->values[i - 1], &g->values[i]) == 0) {
            log_error("%s: byte %zu: key %s is also at byte %zu; %s", g->origin, g->values[i].at,
                      g->values[i].key, g->values[i - 1].at, again);
            return ST_FORMAT;
        }
    }
err:
    return st;
}

/* ---- asking for values ---------------------------------------------------------------------- */

struct gguf_value *gguf_find(struct gguf *g, const char *key)
{
    const struct gguf_value wanted = {.key = key};
    struct gguf_value *v =
        g->n_values > 0 ? bsearch(&wanted, g->values, (size_t)g->n_values, sizeof wanted, by_key)
                        : NULL;

    if (v != NULL)
        v->used = true;
    return v;
}

static enum status wrong_type(const struct gguf *g, const struct gguf_value *v, const char *wanted)
{
    log_error("%s: byte %zu: key %s is of type %s%s%s, not %s; the file was badly converted, get "
              "another",
              g->origin, v->at, v->key, value_types[v->type].name,
              v->type == GGUF_ARRAY ? " of " : "",
              v->type == GGUF_ARRAY ? value_types[v->elem].name : "", wanted);
    return ST_FORMAT;
}

/* The integer at v->data; false if it is none or outside 0 .. INT_MAX. */
static bool int_value(const struct gguf_value *v, int *out)
{
    uint64_t bits = 0;
    const size_t n_bytes = value_types[v->type].n_bytes;
    const bool is_signed =
        v->type == GGUF_I8 || v->type == GGUF_I16 || v->type == GGUF_I32 || v->type == GGUF_I64;

    memcpy(&bits, v->data, n_bytes);
    if (bits > INT_MAX || (is_signed && (bits >> (8 * n_bytes - 1)) != 0))
        return false;
    *out = (int)bits;
    return true;
}

enum status gguf_get_int(struct gguf *g, const char *key, int *out)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (v == NULL)
        return ST_OK;
    if (value_types[v->type].n_bytes == 0 || v->type == GGUF_F32 || v->type == GGUF_F64 ||
        v->type == GGUF_BOOL)
        return wrong_type(g, v, "an integer");
    if (!int_value(v, out)) {
        log_error("%s: byte %zu: key %s is negative or above %d; %s", g->origin, v->at, key,
                  INT_MAX, again);
        return ST_FORMAT;
    }
    return ST_OK;
}

enum status gguf_get_double(struct gguf *g, const char *key, double *out)
{
    const struct gguf_value *v = gguf_find(g, key);
    float single;

    if (v == NULL)
        return ST_OK;
    if (v->type == GGUF_F64) {
        memcpy(out, v->data, sizeof *out);
    } else if (v->type == GGUF_F32) {
        memcpy(&single, v->data, sizeof single);
        *out = single;
    } else {
        return wrong_type(g, v, "a float");
    }
    return ST_OK;
}

enum status gguf_get_bool(struct gguf *g, const char *key, bool *out)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (v == NULL)
        return ST_OK;
    if (v->type != GGUF_BOOL)
        return wrong_type(g, v, "a bool");
    *out = v->data[0] != 0;
    return ST_OK;
}

/* The string at *data, and *data behind it; its length has been checked by take_elements. */
static struct text_span next_string(const uint8_t **data)
{
    uint64_t n_bytes;

    memcpy(&n_bytes, *data, sizeof n_bytes);
    const struct text_span span = {(const char *)*data + sizeof n_bytes, (size_t)n_bytes};
    *data += sizeof n_bytes + (size_t)n_bytes;
    return span;
}

enum status gguf_get_string(struct gguf *g, const char *key, struct text_span *out)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (v == NULL)
        return ST_OK;
    if (v->type != GGUF_STRING)
        return wrong_type(g, v, "a string");
    const uint8_t *data = v->data;
    *out = next_string(&data);
    return ST_OK;
}

enum status gguf_get_strings(struct gguf *g, const char *key, int max,
                             const struct text_span **out_spans, int *out_n)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (v == NULL)
        return ST_OK;
    if (v->type != GGUF_ARRAY || v->elem != GGUF_STRING)
        return wrong_type(g, v, "an array of strings");
    if (v->n > (uint64_t)max) {
        log_error("%s: byte %zu: key %s has %llu elements, at most %d are possible; %s", g->origin,
                  v->at, key, (unsigned long long)v->n, max, again);
        return ST_FORMAT;
    }
    struct text_span *spans = arena_alloc(g->arena, (size_t)v->n * sizeof *spans);
    if (spans == NULL)
        return ST_NOMEM;
    const uint8_t *data = v->data;
    for (uint64_t i = 0; i < v->n; i++)
        spans[i] = next_string(&data);
    *out_spans = spans;
    *out_n = (int)v->n;
    return ST_OK;
}

/* ---- tensors -------------------------------------------------------------------------------- */

/* Names by number in the file, for messages; readable ones also have a tensor_type. */
static const char *const ggml_types[] = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4"};

static enum status tensor_type_of(const struct gguf *g, const char *name, size_t at, uint32_t type,
                                  enum tensor_type *out)
{
    const char *type_name = type < sizeof ggml_types / sizeof ggml_types[0] ? ggml_types[type] : "";
    char have[256] = "";
    size_t n_have = 0;

    for (int t = 0; t < TENSOR_TYPE_COUNT; t++) {
        if (t == TENSOR_F8_E4M3) /* no GGUF file has it */
            continue;
        if (strcmp(tensor_type_name((enum tensor_type)t), type_name) == 0) {
            *out = (enum tensor_type)t;
            return ST_OK;
        }
        n_have += (size_t)snprintf(have + n_have, sizeof have - n_have, "%s%s", t > 0 ? ", " : "",
                                   tensor_type_name((enum tensor_type)t));
    }
    log_error("%s: byte %zu: tensor %s is of type %s (number %u), not supported; this version has "
              "%s: get the model in one of these",
              g->origin, at, name, type_name[0] != '\0' ? type_name : "unknown", type, have);
    return ST_UNSUPPORTED;
}

/* One row of the tensor table; *offset into the tensor data, which begins later. */
static enum status take_tensor(struct gguf *g, struct source_tensor *t, uint64_t *offset)
{
    const size_t at = g->at;
    uint32_t n_dims = 0, type = 0;
    enum status st;

    TRY(take_name(g, "a tensor's name", TENSOR_MAX_NAME, &t->name), err);
    TRY(take_u32(g, t->name, &n_dims), err);
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS) {
        log_error("%s: byte %zu: tensor %s has %u dimensions, not 1 to %d; %s", g->origin, at,
                  t->name, n_dims, GGUF_MAX_DIMS, again);
        return ST_FORMAT;
    }
    t->origin = g->origin;
    t->n_dims = (int)n_dims;
    for (int d = t->n_dims - 1; d >= 0; d--) { /* the file has the innermost first */
        uint64_t dim = 0;

        TRY(take_u64(g, t->name, &dim), err);
        if (dim == 0 || dim > INT64_MAX) {
            log_error("%s: byte %zu: tensor %s has a dimension of %llu elements; %s", g->origin, at,
                      t->name, (unsigned long long)dim, again);
            return ST_FORMAT;
        }
        t->dims[d] = (int64_t)dim;
    }
    TRY(take_u32(g, t->name, &type), err);
    TRY(tensor_type_of(g, t->name, at, type, &t->type), err);
    TRY(tensor_measure(t), err);
    TRY(take_u64(g, t->name, offset), err);
err:
    return st;
}

static enum status read_alignment(struct gguf *g, size_t *out)
{
    int alignment = DEFAULT_ALIGNMENT;
    const enum status st = gguf_get_int(g, "general.alignment", &alignment);

    if (st != ST_OK)
        return st;
    if (alignment < 8 || (alignment & (alignment - 1)) != 0 || alignment > 1 << 20) {
        log_error("%s: key general.alignment is %d, not a power of two from 8 to %d; %s", g->origin,
                  alignment, 1 << 20, again);
        return ST_FORMAT;
    }
    *out = (size_t)alignment;
    return ST_OK;
}

/* Where in the file each tensor is, now that the table has ended. */
static enum status place_tensors(struct gguf *g, struct tensor_list *list, int64_t first,
                                 const uint64_t *offsets, size_t alignment)
{
    const size_t begin = (g->at + alignment - 1) / alignment * alignment;
    const size_t n_data = begin <= g->n_bytes ? g->n_bytes - begin : 0;

    for (int64_t i = 0; i < list->n_tensors - first; i++) {
        struct source_tensor *t = &list->tensors[first + i];

        if (offsets[i] % alignment != 0) {
            log_error("%s: tensor %s is at %llu of the data, not a multiple of the alignment %zu; "
                      "%s",
                      g->origin, t->name, (unsigned long long)offsets[i], alignment, again);
            return ST_FORMAT;
        }
        if (offsets[i] > n_data || t->n_bytes > n_data - offsets[i]) {
            log_error(
                "%s: tensor %s takes %zu bytes from byte %llu of the data, but the file holds "
                "%zu bytes of data; %s",
                g->origin, t->name, t->n_bytes, (unsigned long long)offsets[i], n_data, again);
            return ST_FORMAT;
        }
        t->data = g->data + begin + offsets[i];
    }
    return tensor_list_check_places(list, first, g->data + begin);
}

enum status gguf_read_tensors(struct gguf *g, struct tensor_list *list)
{
    const int64_t first = list->n_tensors;
    size_t alignment = 0;
    uint64_t *offsets = NULL;
    enum status st;

    TRY(read_alignment(g, &alignment), err);
    offsets = host_zalloc((size_t)g->n_tensors * sizeof *offsets);
    if (offsets == NULL)
        return ST_NOMEM;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        struct source_tensor tensor = {0};

        TRY(take_tensor(g, &tensor, &offsets[i]), err);
        TRY(tensor_list_add(list, &tensor), err);
    }
    TRY(place_tensors(g, list, first, offsets, alignment), err);
err:
    host_free(offsets);
    return st;
}
