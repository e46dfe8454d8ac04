/*
 * safetensors.c - the tensors of a Hugging Face directory: model.safetensors, or the files that
 * model.safetensors.index.json lists.
 *
 *   header length (uint64) | header: a JSON object, name -> dtype, shape, [begin, end] | tensor
 * data
 *
 * Tensors must cover the data without holes or overlaps, as the format asks.  The directory's
 * configuration is read in hf_config.c; what the tensors are for is in bind.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "model/source.h"

enum {
    MAX_HEADER_BYTES = 100000000, /* the limit of the format */
    MAX_INDEX_BYTES = 64 << 20,
    MAX_FILES = 4096
};

static const char again[] = "the file is damaged or was cut short, get it again";

/* ---- one file ---------------------------------------------------------------------------------
 */

struct st_file {
    const char *origin;
    const uint8_t *data; /* tensor data, behind the header */
    size_t n_bytes;
    struct arena *arena; /* borrowed */
};

static enum status dtype_of(const struct st_file *f, const char *name, const json_t *value,
                            enum tensor_type *out)
{
    static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16};
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
        "%s: tensor %s is of dtype %.32s, not supported; this version has F32, F16, BF16: get "
        "the model in one of these",
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

/* ---- a directory of them ----------------------------------------------------------------------
 */

/* Map DIR/name as the next of source->maps, which has room, and list its tensors. */
static enum status add_file(struct model_source *source, const char *name, struct tensor_list *list)
{
    struct file_map *map = &source->maps[source->n_maps];
    char path[4096];
    enum status st;

    if (snprintf(path, sizeof path, "%s/%s", source->path, name) >= (int)sizeof path) {
        log_error("%s: path too long", source->path);
        return ST_IO;
    }
    const char *origin = arena_copy(source->arena, path, strlen(path));
    if (origin == NULL)
        return ST_NOMEM;
    TRY(file_map_open(origin, map), err);
    source->n_maps++;
    TRY(safetensors_list(map->data, map->n_bytes, origin, source->arena, list), err);
err:
    return st;
}

/* A file of the same directory and no other. */
static bool is_plain_name(const char *name)
{
    return name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
           strlen(name) < 256;
}

/* The names of the files in weight_map, each once: a JSON object with null values. */
static enum status collect_files(const char *origin, json_t *weight_map, json_t *files)
{
    const char *tensor = NULL;
    json_t *value = NULL;

    json_object_foreach(weight_map, tensor, value)
    {
        const char *name = json_string_value(value);

        if (!is_plain_name(name)) {
            log_error("%s: weight_map: the file of tensor %.80s must be the name of a file in the "
                      "same directory; %s",
                      origin, tensor, again);
            return ST_FORMAT;
        }
        if (json_object_set_new(files, name, json_null()) != 0)
            return ST_NOMEM;
    }
    if (json_object_size(files) == 0 || json_object_size(files) > MAX_FILES) {
        log_error("%s: weight_map names %zu files, not 1 to %d; %s", origin,
                  json_object_size(files), MAX_FILES, again);
        return ST_FORMAT;
    }
    return ST_OK;
}

/* Index and files must list the same tensors in the same places. */
static enum status check_index(const char *origin, const json_t *weight_map,
                               const struct tensor_list *list)
{
    for (int64_t i = 0; i < list->n_tensors; i++) {
        const struct source_tensor *t = &list->tensors[i];
        const char *file = json_string_value(json_object_get(weight_map, t->name));

        if (file == NULL || strcmp(strrchr(t->origin, '/') + 1, file) != 0) {
            log_error("%s: weight_map: tensor %s is in %s, but the index says %.80s; files and "
                      "index do not belong together, get them from one place",
                      origin, t->name, t->origin, file != NULL ? file : "nothing of it");
            return ST_FORMAT;
        }
    }
    if (json_object_size(weight_map) > (size_t)list->n_tensors) {
        log_error("%s: weight_map names %zu tensors and the files hold %lld; get them again, whole",
                  origin, json_object_size(weight_map), (long long)list->n_tensors);
        return ST_FORMAT;
    }
    return ST_OK;
}

static enum status add_indexed(struct model_source *source, const char *index_path,
                               struct tensor_list *list)
{
    struct buf text = {0};
    json_t *index = NULL, *files = json_object(), *unused = NULL;
    const char *name = NULL;
    enum status st = files != NULL ? ST_OK : ST_NOMEM;

    TRY(st, done);
    TRY(file_read(index_path, MAX_INDEX_BYTES, &text), done);
    TRY(json_file_parse(text.data, text.n_bytes, index_path, &index), done);
    json_t *weight_map = json_object_get(index, "weight_map");
    TRY(collect_files(index_path, weight_map, files), done);
    source->maps = host_zalloc(json_object_size(files) * sizeof *source->maps);
    if (source->maps == NULL) {
        st = ST_NOMEM;
        goto done;
    }
    json_object_foreach(files, name, unused) TRY(add_file(source, name, list), done);
    TRY(check_index(index_path, weight_map, list), done);
done:
    json_decref(files);
    json_decref(index);
    buf_free(&text);
    return st;
}

static bool exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0;
}

enum status hf_load(struct model_source *source)
{
    struct tensor_list list = {0};
    char whole[4096], index[4096];
    enum status st;

    if (snprintf(index, sizeof index, "%s/model.safetensors.index.json", source->path) >=
        (int)sizeof index) {
        log_error("%s: path too long", source->path);
        return ST_IO;
    }
    snprintf(whole, sizeof whole, "%.4000s/model.safetensors", source->path);
    TRY(hf_config_load(source), done);
    if (exists(whole)) {
        source->maps = host_zalloc(sizeof *source->maps);
        st = source->maps != NULL ? ST_OK : ST_NOMEM;
        TRY(st, done);
        TRY(add_file(source, "model.safetensors", &list), done);
    } else if (exists(index)) {
        TRY(add_indexed(source, index, &list), done);
    } else {
        log_error("%s: holds neither model.safetensors nor model.safetensors.index.json; other "
                  "weight files (pytorch_model.bin) are not supported, convert them to safetensors",
                  source->path);
        st = ST_IO;
        goto done;
    }
    TRY(source_bind(source, &weight_naming_hf, &list), done);
    source->format = "safetensors";
done:
    tensor_list_free(&list);
    return st;
}
