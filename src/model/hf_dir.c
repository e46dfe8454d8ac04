/*
 * hf_dir.c - a Hugging Face directory as an open model:
 *
 *   config.json  generation_config.json         hyper-parameters          (hf_config.c)
 *   chat_template.jinja  additional_chat_templates/tool_use.jinja  tokenizer_config.json
 *                        chat templates
 *   model.safetensors, or the files that        tensors                   (safetensors.c, bind.c)
 *     model.safetensors.index.json lists
 *   tokenizer.json                              read when it is asked for (source.c)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "model/tower.h"

enum {
    MAX_CONFIG_BYTES = 1 << 20,
    MAX_TOKENIZER_CONFIG_BYTES = 16 << 20,
    MAX_INDEX_BYTES = 64 << 20,
    MAX_FILES = 4096
};

/* ---- configuration ---------------------------------------------------------------------------- */

/* DIR/name in arena; NULL: no memory. */
static char *path_in(const struct model_source *source, const char *name)
{
    const size_t n = strlen(source->path), n_name = strlen(name);
    char *path = arena_alloc(source->arena, n + n_name + 2);

    if (path == NULL)
        return NULL;
    memcpy(path, source->path, n);
    path[n] = '/';
    memcpy(path + n + 1, name, n_name + 1);
    return path;
}

/* The text of DIR/name; one that does not exist leaves file empty with data NULL. */
static enum status read_optional(const struct model_source *source, const char *name, size_t limit,
                                 struct buf *file, const char **out_path)
{
    struct stat info;
    char *path = path_in(source, name);

    *out_path = path;
    if (path == NULL)
        return ST_NOMEM;
    if (stat(path, &info) != 0 && errno == ENOENT)
        return ST_OK;
    const enum status st = file_read(path, limit, file);
    return st == ST_OK ? buf_reserve(file, 1) : st; /* an empty file is there too */
}

static enum status load_configs(struct model_source *source)
{
    struct buf file = {0};
    const char *path = NULL;
    json_t *root = NULL;
    enum status st;

    TRY(read_optional(source, "config.json", MAX_CONFIG_BYTES, &file, &path), done);
    if (file.data == NULL) {
        log_error("%s: not there; name a directory with config.json, tokenizer.json and "
                  ".safetensors files, or a .gguf file itself",
                  path);
        st = ST_IO;
        goto done;
    }
    TRY(hf_config_parse_all(file.data, file.n_bytes, path, &source->config, &source->vision,
                            &source->sees),
        done);
    source->family = family_of_name(source->config.family);
    source->norms_less_one = source->family->hf_less_one;
    source->layers_key = "num_hidden_layers";
    TRY(json_file_parse(file.data, file.n_bytes, path, &root), done);
    TRY(hf_quant_parse(json_object_get(root, "quantization_config"), path, &source->quant), done);
    buf_free(&file);
    TRY(read_optional(source, "generation_config.json", MAX_CONFIG_BYTES, &file, &path), done);
    if (file.data != NULL)
        TRY(hf_config_parse_generation(file.data, file.n_bytes, path, &source->config), done);
done:
    json_decref(root);
    buf_free(&file);
    return st;
}

/* Of several templates, a list of {name, template}, the one of a name; "default" if it is alone. */
static const json_t *pick_template(const json_t *value, const char *wanted)
{
    if (!json_is_array(value))
        return strcmp(wanted, "default") == 0 ? value : NULL;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(one, "name"));

        if (name != NULL && strcmp(name, wanted) == 0)
            return json_object_get(one, "template");
    }
    return NULL;
}

/* A template in a file of its own; *out_text stays if the file is not there. */
static enum status load_template_file(struct model_source *source, const char *name,
                                      const char **out_text)
{
    struct buf file = {0};
    const char *path = NULL;
    size_t bad = 0;
    enum status st;

    TRY(read_optional(source, name, MAX_CONFIG_BYTES, &file, &path), done);
    if (file.data == NULL)
        goto done;
    if (!utf8_valid((const char *)file.data, file.n_bytes, &bad) ||
        (file.n_bytes > 0 && memchr(file.data, '\0', file.n_bytes) != NULL)) {
        log_error("%s: byte %zu: must be UTF-8 without NUL; get the file again", path, bad);
        st = ST_FORMAT;
        goto done;
    }
    *out_text = arena_copy(source->arena, file.data, file.n_bytes);
    st = *out_text != NULL ? ST_OK : ST_NOMEM;
done:
    buf_free(&file);
    return st;
}

/* A template in tokenizer_config.json. */
static enum status take_template(struct model_source *source, const json_t *root, const char *name,
                                 const char *path, const char **out_text)
{
    const json_t *text = pick_template(json_object_get(root, "chat_template"), name);

    if (text == NULL || json_is_null(text))
        return ST_OK;
    if (!json_is_string(text)) {
        log_error(
            "%s: key chat_template must be a text, or a list of {name, template}; get the file "
            "again",
            path);
        return ST_FORMAT;
    }
    *out_text = arena_copy(source->arena, json_string_value(text), json_string_length(text));
    return *out_text != NULL ? ST_OK : ST_NOMEM;
}

static enum status load_template(struct model_source *source)
{
    struct buf file = {0};
    const char *path = NULL;
    json_t *root = NULL;
    enum status st;

    TRY(load_template_file(source, "chat_template.jinja", &source->chat_template), done);
    if (source->chat_template != NULL) {
        TRY(load_template_file(source, "additional_chat_templates/tool_use.jinja",
                               &source->tool_template),
            done);
        goto done;
    }
    TRY(read_optional(source, "tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES, &file, &path),
        done);
    if (file.data == NULL)
        goto done;
    TRY(json_file_parse(file.data, file.n_bytes, path, &root), done);
    TRY(take_template(source, root, "default", path, &source->chat_template), done);
    TRY(take_template(source, root, "tool_use", path, &source->tool_template), done);
done:
    json_decref(root);
    buf_free(&file);
    return st;
}

/* ---- weights ---------------------------------------------------------------------------------- */

/* Map a file and list its tensors. */
static enum status add_file(struct model_source *source, const char *path, struct tensor_list *list)
{
    struct file_map map;
    enum status st;

    TRY(source_map(source, path, &map), err);
    TRY(safetensors_list(map.data, map.n_bytes, path, source->arena, list), err);
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
    const char *tensor;
    json_t *value;

    json_object_foreach(weight_map, tensor, value)
    {
        const char *name = json_string_value(value);

        if (!is_plain_name(name)) {
            log_error("%s: weight_map: the file of tensor %.80s must be the name of a file in the "
                      "same directory; get the index again",
                      origin, tensor);
            return ST_FORMAT;
        }
        if (json_object_set_new(files, name, json_null()) != 0)
            return ST_NOMEM;
    }
    if (json_object_size(files) == 0 || json_object_size(files) > MAX_FILES) {
        log_error("%s: weight_map names %zu files, not 1 to %d; get the index again", origin,
                  json_object_size(files), MAX_FILES);
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

static int by_path(const void *a, const void *b)
{
    const struct source_file *x = a, *y = b;

    return strcmp(x->path, y->path);
}

static enum status add_files(struct model_source *source, json_t *files, struct tensor_list *list)
{
    const char *name;
    json_t *unused;
    enum status st = ST_OK;

    json_object_foreach(files, name, unused)
    {
        const char *path = path_in(source, name);

        if (path == NULL)
            return ST_NOMEM;
        TRY(add_file(source, path, list), err);
    }
    qsort(source->files, (size_t)source->n_files, sizeof *source->files, by_path);
err:
    return st;
}

static enum status add_indexed(struct model_source *source, const char *index_path,
                               struct tensor_list *list)
{
    struct buf text = {0};
    json_t *index = NULL, *files = json_object();
    enum status st = ST_NOMEM;

    if (files == NULL)
        goto done;
    TRY(file_read(index_path, MAX_INDEX_BYTES, &text), done);
    TRY(json_file_parse(text.data, text.n_bytes, index_path, &index), done);
    json_t *weight_map = json_object_get(index, "weight_map");
    TRY(collect_files(index_path, weight_map, files), done);
    TRY(add_files(source, files, list), done);
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

/* A directory with weights in a form that is not read, or without any. */
static enum status no_tensors(const struct model_source *source)
{
    static const char *const others[] = {"pytorch_model.bin",
                                         "pytorch_model.bin.index.json",
                                         "consolidated.safetensors",
                                         "consolidated.00.pth",
                                         "tf_model.h5",
                                         "flax_model.msgpack"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const char *path = path_in(source, others[i]);

        if (path == NULL)
            return ST_NOMEM;
        if (!exists(path))
            continue;
        log_error("%s: weights in this form are not supported; convert them to model.safetensors "
                  "(transformers: save_pretrained)",
                  path);
        return ST_UNSUPPORTED;
    }
    log_error("%s: holds neither model.safetensors nor model.safetensors.index.json; other weight "
              "files (pytorch_model.bin) are not supported, convert them to safetensors",
              source->path);
    return ST_IO;
}

static enum status load_tensors(struct model_source *source, struct tensor_list *list)
{
    const char *whole = path_in(source, "model.safetensors");
    const char *index = path_in(source, "model.safetensors.index.json");

    if (whole == NULL || index == NULL)
        return ST_NOMEM;
    if (exists(whole))
        return add_file(source, whole, list);
    if (exists(index))
        return add_indexed(source, index, list);
    return no_tensors(source);
}

enum status hf_dir_load(struct model_source *source)
{
    struct tensor_list list = {0};
    enum status st;

    TRY(load_configs(source), done);
    TRY(load_template(source), done);
    TRY(load_tensors(source, &list), done);
    if (source->sees)
        TRY(tower_rename(source, &list), done);
    TRY(source_bind(source, &weight_naming_hf, &list), done);
    source->format = "safetensors";
done:
    tensor_list_free(&list);
    return st;
}
