/*
 * safetensors.c - the tensors of one safetensors file.
 *
 *   header length (uint64) | header: a JSON object, name -> dtype, shape, [begin, end] | tensor
 * data
 *
 * Tensors must cover the data without holes or overlaps, as the format asks.  Which files a model
 * has is known in hf_dir.c; what the tensors are for, in bind.c.
 */
#include "model/source.h"

enum { MAX_HEADER_BYTES = 100000000 }; /* the limit of the format */

static const char again[] = "the file is damaged or was cut short, get it again";

/* ---- one file ------------------------------------------------------------------------------- */

struct st_file {
    const char *origin;
    const uint8_t *data; /* tensor data, behind the header */
    size_t n_bytes;
    struct arena *arena; /* borrowed */
};

static enum status dtype_of(const struct st_file *f, const char *name, const json_t *value,
                            enum tensor_type *out)
{
    static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_F8_E4M3};
    const char *text = json_string_value(value);

    if (text == NULL) {
        log_error("%s: tensor %s has no dtype; %s", f->origin, name, again);
        return ST_FORMAT;
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(tensor_type_name(types[i]), text) == 0) {
            *out = types[i];
            return ST_OK;
        }
    }
    log_error(
        "%s: tensor %s is of dtype %.32s, not supported; this version has F32, F16, BF16, F8_E4M3: "
        "get the model in one of these",
        f->origin, name, text);
    return ST_UNSUPPORTED;
}

static enum status read_shape(const struct st_file *f, const json_t *shape, struct source_tensor *t)
{
    const size_t n_dims = json_array_size(shape);
    bool ok = json_is_array(shape) && n_dims <= TENSOR_MAX_DIMS;

    for (size_t d = 0; ok && d < n_dims; d++) {
        const json_t *dim = json_array_get(shape, d);

        ok = json_is_integer(dim) && json_integer_value(dim) >= 0;
        t->dims[d] = json_integer_value(dim);
    }
    if (!ok) {
        log_error("%s: tensor %s: shape must be a list of at most %d sizes; %s", f->origin, t->name,
                  TENSOR_MAX_DIMS, again);
        return ST_FORMAT;
    }
    t->n_dims = (int)n_dims;
    return ST_OK;
}

static enum status read_place(const struct st_file *f, const json_t *offsets,
                              struct source_tensor *t)
{
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    const json_int_t begin = json_integer_value(first), end = json_integer_value(last);

    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        begin < 0 || end < begin) {
        log_error("%s: tensor %s: data_offsets must be [begin, end]; %s", f->origin, t->name,
                  again);
        return ST_FORMAT;
    }
    if ((uint64_t)end > f->n_bytes) {
        log_error("%s: tensor %s ends at byte %lld of the data, but the file holds %zu; %s",
                  f->origin, t->name, (long long)end, f->n_bytes, again);
        return ST_FORMAT;
    }
    if ((uint64_t)(end - begin) != t->n_bytes) {
        log_error("%s: tensor %s has %lld bytes of data where its shape and dtype ask for %zu; %s",
                  f->origin, t->name, (long long)(end - begin), t->n_bytes, again);
        return ST_FORMAT;
    }
    t->data = f->data + begin;
    return ST_OK;
}

static enum status read_tensor(const struct st_file *f, const char *name, const json_t *entry,
                               struct source_tensor *t)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    enum status st;

    if (!tensor_name_ok(name, strlen(name))) {
        log_error("%s: a tensor's name, \"%.40s\", must be 1 to %d characters of printable ASCII; "
                  "%s",
                  f->origin, name, TENSOR_MAX_NAME, again);
        return ST_FORMAT;
    }
    if (json_object_size(entry) != 3 || dtype == NULL || shape == NULL || offsets == NULL) {
        log_error("%s: tensor %s must have dtype, shape and data_offsets and nothing else; %s",
                  f->origin, name, again);
        return ST_FORMAT;
    }
    t->origin = f->origin;
    t->name = arena_copy(f->arena, name, strlen(name));
    if (t->name == NULL)
        return ST_NOMEM;
    TRY(dtype_of(f, name, dtype, &t->type), err);
    TRY(read_shape(f, shape, t), err);
    TRY(tensor_measure(t), err);
    TRY(read_place(f, offsets, t), err);
err:
    return st;
}

/* After tensor_list_check_places: no byte of the data may belong to nobody. */
static enum status check_holes(const struct st_file *f, const struct tensor_list *list,
                               int64_t first)
{
    const uint8_t *at = f->data, *end = f->data + f->n_bytes;

    for (int64_t i = first; i < list->n_tensors && list->tensors[i].data == at; i++)
        at += list->tensors[i].n_bytes;
    if (at == end)
        return ST_OK;
    log_error("%s: byte %zu of the tensor data belongs to no tensor; %s", f->origin,
              (size_t)(at - f->data), again);
    return ST_FORMAT;
}

static enum status read_header(const uint8_t *data, size_t n_bytes, const char *origin,
                               size_t *out_n_header, json_t **out_header)
{
    uint64_t n_header = 0;

    if (n_bytes < sizeof n_header + 2) {
        log_error("%s: %zu bytes are too short for a safetensors file; %s", origin, n_bytes, again);
        return ST_FORMAT;
    }
    memcpy(&n_header, data, sizeof n_header);
    if (n_header > n_bytes - sizeof n_header || n_header > MAX_HEADER_BYTES) {
        log_error("%s: byte 0: a header of %llu bytes in a file of %zu (at most %d); %s", origin,
                  (unsigned long long)n_header, n_bytes, MAX_HEADER_BYTES, again);
        return ST_FORMAT;
    }
    if (data[sizeof n_header] != '{') {
        log_error("%s: byte 8: not a safetensors file (its header does not begin with \"{\"); %s",
                  origin, again);
        return ST_FORMAT;
    }
    *out_n_header = (size_t)n_header;
    return json_file_parse(data + sizeof n_header, (size_t)n_header, origin, out_header);
}

enum status safetensors_list(const uint8_t *data, size_t n_bytes, const char *origin,
                             struct arena *arena, struct tensor_list *list)
{
    const int64_t first = list->n_tensors;
    const char *name = NULL;
    json_t *header = NULL, *entry = NULL;
    size_t n_header = 0;
    enum status st;

    TRY(read_header(data, n_bytes, origin, &n_header, &header), done);
    const struct st_file f = {origin, data + 8 + n_header, n_bytes - 8 - n_header, arena};
    json_object_foreach(header, name, entry)
    {
        struct source_tensor tensor = {0};

        if (strcmp(name, "__metadata__") == 0)
            continue;
        TRY(read_tensor(&f, name, entry, &tensor), done);
        TRY(tensor_list_add(list, &tensor), done);
    }
    TRY(tensor_list_check_places(list, first, f.data), done);
    TRY(check_holes(&f, list, first), done);
done:
    json_decref(header);
    return st;
}
