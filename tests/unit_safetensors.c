/* TEST */
/*
 * unit_safetensors.c - safetensors files and Hugging Face directories, made here: valid ones are
 * read right, in one file or several; damaged, incomplete and contradictory ones are refused with a
 * message that names file, place and remedy.
 */
#include <sys/stat.h>

#include "model/source.h"
#include "test.h"

/* ---- one file ------------------------------------------------------------------------------- */

static enum status list_file(const char *header, size_t n_data, struct tensor_list *list)
{
    const uint64_t n_header = strlen(header);
    const size_t n_bytes = 8 + (size_t)n_header + n_data;
    uint8_t *file = malloc(n_bytes); /* ends where the data does, for sanitizers */
    struct arena *arena = NULL;
    enum status st;

    memcpy(file, &n_header, 8);
    memcpy(file + 8, header, (size_t)n_header);
    memset(file + 8 + n_header, 0, n_data);
    CHECK(arena_create(4096, &arena) == ST_OK);
    st = safetensors_list(file, n_bytes, "m.safetensors", arena, list);
    arena_destroy(arena);
    free(file);
    return st;
}

#define T(dtype, shape, offsets)                                                                   \
    "{\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": " offsets "}"

static const struct bad_file {
    const char *header;
    size_t n_data;
    enum status status;
    const char *says[2];
} bad_files[] = {
    {"{}", 0, ST_OK, {NULL}},
    {"{\"__metadata__\": {\"format\": \"pt\"}, \"a\": " T("F32", "[2, 3]", "[0, 24]") "}",
     24,
     ST_OK,
     {NULL}},
    {"{\"a\": " T("F32", "[2]", "[4, 12]") ", \"b\": " T("BF16", "[]", "[2, 4]") ", \"c\": " T(
         "F16", "[1]", "[0, 2]") ", \"d\": " T("F16", "[0]", "[4, 4]") "}  ",
     12,
     ST_OK,
     {NULL}},
    {"[]", 0, ST_FORMAT, {"byte 8", "not a safetensors file"}},
    {"{\"a\": 1", 0, ST_FORMAT, {"line 1 column", "get it again"}},
    {"{\"a\": 1}", 0, ST_FORMAT, {"tensor a must have dtype, shape and data_offsets"}},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": []}}", 0, ST_FORMAT, {"tensor a must have"}},
    {"{\"a\": " T("F32", "[1]", "[0, 4]") ", \"a\": " T("F32", "[1]", "[0, 4]") "}",
     4,
     ST_FORMAT,
     {"duplicate"}},
    {"{\"\": " T("F32", "[1]", "[0, 4]") "}", 4, ST_FORMAT, {"tensor's name", "printable"}},
    {"{\"a\\nb\": " T("F32", "[1]", "[0, 4]") "}", 4, ST_FORMAT, {"tensor's name", "printable"}},
    {"{\"a\": " T("F8_E4M3", "[4]", "[0, 4]") "}", 4, ST_OK, {NULL}},
    {"{\"a\": " T("F8_E5M2", "[4]", "[0, 4]") "}",
     4,
     ST_UNSUPPORTED,
     {"tensor a is of dtype F8_E5M2", "has F32, F16, BF16, F8_E4M3"}},
    {"{\"a\": " T("F32", "[-1]", "[0, 4]") "}", 4, ST_FORMAT, {"tensor a: shape"}},
    {"{\"a\": " T("F32", "[1.0]", "[0, 4]") "}", 4, ST_FORMAT, {"tensor a: shape"}},
    {"{\"a\": " T("F32", "[1,1,1,1,1,1]", "[0, 4]") "}", 4, ST_FORMAT, {"at most 5 sizes"}},
    {"{\"a\": " T("F32", "[4611686018427387904, 4]", "[0, 4]") "}", 4, ST_FORMAT, {"absurd shape"}},
    {"{\"a\": " T("F32", "[2]", "[0, 4]") "}", 4, ST_FORMAT, {"has 4 bytes", "ask for 8"}},
    {"{\"a\": " T("F32", "[2]", "[0, 8]") "}", 4, ST_FORMAT, {"ends at byte 8", "holds 4"}},
    {"{\"a\": " T("F32", "[1]", "[4, 0]") "}", 4, ST_FORMAT, {"data_offsets must be"}},
    {"{\"a\": " T("F32", "[1]", "[-4, 0]") "}", 4, ST_FORMAT, {"data_offsets must be"}},
    {"{\"a\": " T("F32", "[1]", "[0]") "}", 4, ST_FORMAT, {"data_offsets must be"}},
    {"{\"a\": " T("F32", "[2]", "[0, 8]") ", \"b\": " T("F32", "[2]", "[4, 12]") "}",
     12,
     ST_FORMAT,
     {"tensors a (8 bytes at 0 of the data) and b (at 4) overlap"}},
    {"{\"a\": " T("F32", "[1]", "[0, 4]") ", \"b\": " T("F32", "[1]", "[8, 12]") "}",
     12,
     ST_FORMAT,
     {"byte 4 of the tensor data belongs to no tensor"}},
    {"{\"a\": " T("F32", "[1]", "[0, 4]") "}", 8, ST_FORMAT, {"byte 4", "belongs to no tensor"}},
};

static void each_file(void)
{
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        const struct bad_file *b = &bad_files[i];
        struct tensor_list list = {0};
        const enum status st = list_file(b->header, b->n_data, &list);

        if (st != b->status)
            fprintf(stderr, "%s: %s\n", b->header, status_name(st));
        CHECK_INT(st, b->status);
        for (int s = 0; s < 2 && b->says[s] != NULL; s++)
            CHECK_HAS(log_last_error(), b->says[s]);
        if (st != ST_OK)
            CHECK_HAS(log_last_error(), "m.safetensors: ");
        tensor_list_free(&list);
    }
}

static void header_lengths(void)
{
    static const uint64_t lengths[] = {3, 100000001, UINT64_MAX, UINT64_MAX - 7};
    uint8_t file[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    struct tensor_list list = {0};

    for (size_t n = 0; n < sizeof file; n++) {
        CHECK(safetensors_list(file, n, "m", NULL, &list) == ST_FORMAT);
        CHECK_HAS(log_last_error(), "too short");
    }
    CHECK(safetensors_list(file, sizeof file, "m", NULL, &list) == ST_OK);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(file, &lengths[i], 8);
        CHECK(safetensors_list(file, sizeof file, "m", NULL, &list) == ST_FORMAT);
        CHECK_HAS(log_last_error(), "byte 0: a header of");
    }
}

/* ---- directories ------------------------------------------------------------------------------ */

enum { L = 2, D = 32, F = 48, H = 2, K = 1, E = 16, V = 5, MAX_TENSORS = 40 };

static const char config_text[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 32, \"intermediate_size\": 48,"
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
    "\"vocab_size\": 5, \"max_position_embeddings\": 64, \"bos_token_id\": 0,"
    "\"eos_token_id\": 1, \"tie_word_embeddings\": %s, \"attention_bias\": %s}";

/* Element (row, column) is number * 10000 + row * 100 + column. */
struct tensor {
    char name[80];
    int n_rows, n_cols;
    int number, file; /* file -1: in none */
};

static char dir[64];
static struct tensor tensors[MAX_TENSORS];
static int n_tensors;

static void add(int n_rows, int n_cols, const char *name)
{
    struct tensor *t = &tensors[n_tensors];

    snprintf(t->name, sizeof t->name, "%s", name);
    t->number = n_tensors++;
    t->n_rows = n_rows;
    t->n_cols = n_cols;
    t->file = 0;
}

static struct tensor *tensor(const char *name)
{
    for (int i = 0; i < n_tensors; i++)
        if (strcmp(tensors[i].name, name) == 0)
            return &tensors[i];
    return NULL;
}

static void fill(void)
{
    static const struct {
        int n_rows, n_cols;
        const char *name;
    } of_layer[] = {{0, D, "input_layernorm"},      {H * E, D, "self_attn.q_proj"},
                    {K * E, D, "self_attn.k_proj"}, {K * E, D, "self_attn.v_proj"},
                    {D, H * E, "self_attn.o_proj"}, {0, D, "post_attention_layernorm"},
                    {F, D, "mlp.gate_proj"},        {F, D, "mlp.up_proj"},
                    {D, F, "mlp.down_proj"}};

    n_tensors = 0;
    add(V, D, "model.embed_tokens.weight");
    add(0, D, "model.norm.weight");
    add(V, D, "lm_head.weight");
    for (int layer = 0; layer < L; layer++) {
        for (size_t i = 0; i < sizeof of_layer / sizeof of_layer[0]; i++) {
            char name[80];

            snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, of_layer[i].name);
            add(of_layer[i].n_rows, of_layer[i].n_cols, name);
        }
    }
}

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    CHECK(file_write_atomic(path_of(name), text, strlen(text)) == ST_OK);
}

/* The tensors of `file` as float32. */
static void write_tensors(const char *name, int file)
{
    struct buf header = {0}, data = {0}, whole = {0};

    buf_puts(&header, "{");
    for (int t = 0; t < n_tensors; t++) {
        const struct tensor *x = &tensors[t];
        const size_t begin = data.n_bytes;

        if (x->file != file)
            continue;
        for (int r = 0; r < (x->n_rows > 0 ? x->n_rows : 1); r++) {
            for (int c = 0; c < x->n_cols; c++) {
                const float value = (float)(x->number * 10000 + r * 100 + c);

                buf_put(&data, &value, sizeof value);
            }
        }
        buf_printf(&header, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", begin > 0 ? ", " : "",
                   x->name);
        if (x->n_rows > 0)
            buf_printf(&header, "%d, ", x->n_rows);
        buf_printf(&header, "%d], \"data_offsets\": [%zu, %zu]}", x->n_cols, begin, data.n_bytes);
    }
    buf_puts(&header, "}");
    const uint64_t n_header = header.n_bytes;
    buf_put(&whole, &n_header, 8);
    buf_put(&whole, header.data, header.n_bytes);
    buf_put(&whole, data.data, data.n_bytes);
    CHECK(file_write_atomic(path_of(name), whole.data, whole.n_bytes) == ST_OK);
    buf_free(&header);
    buf_free(&data);
    buf_free(&whole);
}

static void write_config(bool tied, bool attention_bias)
{
    char text[512];

    snprintf(text, sizeof text, config_text, tied ? "true" : "false",
             attention_bias ? "true" : "false");
    write_text("config.json", text);
}

static void remove_file(const char *name)
{
    unlink(path_of(name));
}

static void refused(enum status status, const char *says, const char *also)
{
    struct model_source *source = NULL;

    CHECK_INT(model_open(dir, &source), status);
    CHECK_HAS(log_last_error(), says);
    CHECK_HAS(log_last_error(), also);
    CHECK_HAS(log_last_error(), dir);
    CHECK(source == NULL);
}

static uint64_t accepted(void)
{
    struct model_source *source = NULL;
    float row[F];

    CHECK_INT(model_open(dir, &source), ST_OK);
    if (source == NULL)
        return 0;
    /* HF rows are in HF order already. */
    const struct tensor_view *q = model_source_tensor(source, WEIGHT_Q, 1);
    CHECK_STR(q->name, "model.layers.1.self_attn.q_proj.weight");
    for (int r = 0; r < H * E; r++) {
        model_source_row(source, WEIGHT_Q, 1, r, row);
        CHECK(row[9] == (float)(tensor(q->name)->number * 10000 + r * 100 + 9));
    }
    model_source_row(source, WEIGHT_FINAL_NORM, 0, 0, row);
    CHECK(row[31] == 10031.0f);
    const uint64_t hash = model_source_fingerprint(source);
    model_close(source);
    return hash;
}

static void one_file(void)
{
    struct tensor was;

    fill();
    refused(ST_IO, "config.json: not there", "name a directory with config.json");
    write_config(false, false);
    refused(ST_IO, "neither model.safetensors nor", "convert them to safetensors");
    write_text("pytorch_model.bin", "PK");
    refused(ST_UNSUPPORTED, "/pytorch_model.bin: weights in this form", "model.safetensors");
    remove_file("pytorch_model.bin");
    write_tensors("model.safetensors", 0);
    accepted();

    was = *tensor("model.layers.1.mlp.up_proj.weight");
    tensor(was.name)->file = -1;
    write_tensors("model.safetensors", 0);
    refused(ST_FORMAT, "model.layers.1.mlp.up_proj.weight is missing", "num_hidden_layers is 2");
    *tensor(was.name) = was;
    tensor(was.name)->n_rows = F + 1;
    write_tensors("model.safetensors", 0);
    refused(ST_FORMAT, "up_proj.weight is [49, 32]", "ask for [48, 32]");
    tensor(was.name)->n_rows = 0;
    write_tensors("model.safetensors", 0);
    refused(ST_FORMAT, "up_proj.weight is [32]", "ask for [48, 32]");
    *tensor(was.name) = was;

    add(0, 8, "model.layers.0.self_attn.rotary_emb.inv_freq"); /* of old files, harmless */
    write_tensors("model.safetensors", 0);
    accepted();
    n_tensors--;
    add(0, H * E, "model.layers.0.self_attn.q_proj.bias");
    write_tensors("model.safetensors", 0);
    refused(ST_UNSUPPORTED, "q_proj.bias (a bias, while attention_bias is not true)",
            "not supported");
    n_tensors--;
    write_tensors("model.safetensors", 0);
    CHECK(truncate(path_of("model.safetensors"), 5000) == 0);
    refused(ST_FORMAT, "model.safetensors: tensor", "the file holds");
}

/* Biases that the configuration asks for: all there, one missing, of a wrong shape, too many. */
static void biases(void)
{
    static const struct {
        int n;
        const char *name;
    } of_layer[] = {{H * E, "q"}, {K * E, "k"}, {K * E, "v"}, {D, "o"}};
    struct model_source *source = NULL;
    float row[H * E];
    char name[80];

    fill();
    write_config(false, true);
    write_tensors("model.safetensors", 0);
    refused(ST_FORMAT, "model.layers.0.self_attn.q_proj.bias is missing", "attention_bias is true");
    for (int layer = 0; layer < L; layer++) {
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%s_proj.bias", layer,
                     of_layer[i].name);
            add(0, of_layer[i].n, name);
        }
    }
    write_tensors("model.safetensors", 0);
    accepted();
    CHECK_INT(model_open(dir, &source), ST_OK);
    for (int i = 0; i < 4; i++) {
        const enum weight_id id = (enum weight_id)(WEIGHT_Q_BIAS + i);
        const struct tensor_view *view = model_source_tensor(source, id, 1);

        snprintf(name, sizeof name, "model.layers.1.self_attn.%s_proj.bias", of_layer[i].name);
        CHECK_STR(view->name, name);
        model_source_row(source, id, 1, 0, row);
        for (int e = 0; e < of_layer[i].n; e++) /* in HF order already */
            CHECK(row[e] == (float)(tensor(name)->number * 10000 + e));
    }
    model_close(source);

    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "model.layers.1.self_attn.%s_proj.bias", of_layer[i].name);
        const struct tensor was = *tensor(name);

        tensor(name)->file = -1;
        write_tensors("model.safetensors", 0);
        refused(ST_FORMAT, name, "is missing (num_hidden_layers is 2, attention_bias is true)");
        *tensor(name) = was;
        tensor(name)->n_cols++;
        write_tensors("model.safetensors", 0);
        refused(ST_FORMAT, name, "where the hyper-parameters ask for");
        *tensor(name) = was;
        tensor(name)->n_rows = 1; /* a matrix of one row is no vector */
        write_tensors("model.safetensors", 0);
        refused(ST_FORMAT, name, "where the hyper-parameters ask for");
        *tensor(name) = was;
    }
    add(0, F, "model.layers.1.mlp.up_proj.bias");
    write_tensors("model.safetensors", 0);
    refused(ST_UNSUPPORTED, "model.layers.1.mlp.up_proj.bias (a bias)", "not supported");
    n_tensors--;
    write_config(false, false);
    write_tensors("model.safetensors", 0);
    refused(ST_UNSUPPORTED, "_proj.bias (a bias, while attention_bias is not true)",
            "not supported");
}

static void expect_tied(void)
{
    struct model_source *source = NULL;

    write_tensors("model.safetensors", 0);
    CHECK_INT(model_open(dir, &source), ST_OK);
    CHECK(model_source_config(source)->tied);
    CHECK(model_source_tensor(source, WEIGHT_HEAD, 0) == NULL);
    model_close(source);
}

/* lm_head of a tied model: different, equal, absent. */
static void tied(void)
{
    fill();
    write_config(true, false);
    write_tensors("model.safetensors", 0);
    refused(ST_FORMAT, "tie_word_embeddings is true", "lm_head.weight differs");
    tensor("lm_head.weight")->number = tensor("model.embed_tokens.weight")->number;
    expect_tied();
    tensor("lm_head.weight")->file = -1;
    expect_tied();
    write_config(false, false);
    refused(ST_FORMAT, "lm_head.weight is missing", "tie_word_embeddings is false");
}

static void write_index(const char *file_of_norm)
{
    struct buf text = {0};

    buf_puts(&text, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (int t = 0; t < n_tensors; t++)
        buf_printf(&text, "%s\"%s\": \"%s\"", t > 0 ? ", " : "", tensors[t].name,
                   strcmp(tensors[t].name, "model.norm.weight") == 0 ? file_of_norm
                   : tensors[t].file == 1                            ? "b.safetensors"
                                                                     : "a.safetensors");
    buf_puts(&text, "}}");
    buf_put(&text, "", 1);
    write_text("model.safetensors.index.json", (const char *)text.data);
    buf_free(&text);
}

static void has_files(void)
{
    struct model_source *source = NULL;
    struct buf text = {0};

    CHECK_INT(model_open(dir, &source), ST_OK);
    CHECK_INT(model_inspect(source, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_HAS((const char *)text.data, "files        a.safetensors, 0.0 MiB\n             b.safet");
    buf_free(&text);
    model_close(source);
}

static void several_files(void)
{
    fill();
    write_config(false, false);
    write_tensors("model.safetensors", 0);
    const uint64_t whole = accepted();
    remove_file("model.safetensors");
    for (int t = 0; t < n_tensors; t += 3)
        tensors[t].file = 1;
    write_tensors("a.safetensors", 0);
    write_tensors("b.safetensors", 1);
    write_index("a.safetensors");
    CHECK(accepted() == whole); /* the fingerprint is of the content, not of the files */
    has_files();

    write_index("b.safetensors");
    refused(ST_FORMAT, "model.norm.weight is in", "the index says b.safetensors");
    write_index("c.safetensors");
    refused(ST_IO, "c.safetensors", "cannot open");
    write_index("../a.safetensors");
    refused(ST_FORMAT, "tensor model.norm.weight", "same directory");
    add(0, 1, "nowhere");
    write_index("a.safetensors");
    refused(ST_FORMAT, "names 22 tensors and the files hold 21", "whole");
    n_tensors--;
    write_index("a.safetensors");
    write_tensors("b.safetensors", 0);
    refused(ST_FORMAT, "weight_map: tensor", "do not belong together");
    write_text("model.safetensors.index.json", "{\"weight_map\": {}}");
    refused(ST_FORMAT, "names 0 files", "get the index again");
    remove_file("model.safetensors.index.json");
    remove_file("a.safetensors");
    remove_file("b.safetensors");
}

static void expect_template(const char *want)
{
    struct model_source *source = NULL;

    CHECK_INT(model_open(dir, &source), ST_OK);
    if (want == NULL)
        CHECK(model_source_chat_template(source) == NULL);
    else
        CHECK_STR(model_source_chat_template(source), want);
    model_close(source);
}

/* chat_template.jinja goes before tokenizer_config.json, where it can be a text or a list. */
static void templates_and_eos(void)
{
    struct model_source *source = NULL;

    fill();
    write_config(false, false);
    write_tensors("model.safetensors", 0);
    expect_template(NULL);
    write_text("tokenizer_config.json", "{\"chat_template\": null}");
    expect_template(NULL);
    write_text("tokenizer_config.json", "{\"chat_template\": \"{{ a }}\"}");
    expect_template("{{ a }}");
    write_text("tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"},"
               "{\"name\": \"default\", \"template\": \"d\"},"
               "{\"name\": \"tool_use\", \"template\": \"t\"}]}");
    expect_template("d");
    CHECK_INT(model_open(dir, &source), ST_OK);
    CHECK_STR(model_source_tool_template(source), "t");
    model_close(source);
    write_text("tokenizer_config.json", "{\"chat_template\": 3}");
    refused(ST_FORMAT, "tokenizer_config.json: key chat_template", "get the file again");
    write_text("chat_template.jinja", "{{ b }}\n");
    expect_template("{{ b }}\n");
    write_text("chat_template.jinja", "a\xc3");
    refused(ST_FORMAT, "chat_template.jinja: byte 1", "UTF-8");
    remove_file("chat_template.jinja");
    remove_file("tokenizer_config.json");

    write_text("generation_config.json", "{\"eos_token_id\": [1, 3]}");
    CHECK_INT(model_open(dir, &source), ST_OK);
    CHECK_INT(model_source_config(source)->n_eos, 2);
    CHECK_INT(model_source_config(source)->eos_ids[1], 3);
    model_close(source);
    write_text("generation_config.json", "{\"eos_token_id\": [1, 5]}");
    refused(ST_FORMAT, "generation_config.json: key eos_token_id", "below vocab_size, 5");
    remove_file("generation_config.json");
    remove_file("model.safetensors");
    remove_file("config.json");
}

/* The tokeniser of a directory is its tokenizer.json, which may not know more ids than the model.
 */
static void tokenizers(void)
{
    struct model_source *source = NULL;
    struct tokenizer *tokenizer = NULL;
    struct buf text = {0};

    CHECK_INT(model_open("tests/golden/small", &source), ST_OK);
    CHECK_INT(model_source_tokenizer(source, &tokenizer), ST_OK);
    CHECK(tokenizer_n_tokens(tokenizer) <= model_source_config(source)->V);
    tokenizer_destroy(tokenizer);
    model_close(source);

    fill();
    write_config(false, false);
    write_tensors("model.safetensors", 0);
    CHECK_INT(model_open(dir, &source), ST_OK);
    CHECK_INT(model_source_tokenizer(source, &tokenizer), ST_IO);
    CHECK_HAS(log_last_error(), "tokenizer.json");
    CHECK_INT(file_read("tests/golden/small/tokenizer.json", 1 << 20, &text), ST_OK);
    CHECK_INT(file_write_atomic(path_of("tokenizer.json"), text.data, text.n_bytes), ST_OK);
    CHECK_INT(model_source_tokenizer(source, &tokenizer), ST_FORMAT);
    CHECK_HAS(log_last_error(), "tokenizer.json: has");
    CHECK_HAS(log_last_error(), "vocab_size in config.json is 5, and not only added");
    model_close(source);
    buf_free(&text);
    remove_file("tokenizer.json");
    remove_file("model.safetensors");
    remove_file("config.json");
}

static void paths(void)
{
    struct model_source *source = NULL;

    CHECK(model_open("/nonexistent/model.gguf", &source) == ST_IO);
    CHECK_HAS(log_last_error(), "/nonexistent/model.gguf: cannot open the model");
    write_text("x.gguf", "");
    CHECK(model_open(path_of("x.gguf"), &source) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "x.gguf: byte 0");
    write_text("x.gguf", "not a model at all");
    CHECK(model_open(path_of("x.gguf"), &source) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "not a GGUF file");
    remove_file("x.gguf");
}

int main(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%.40s/epidote-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(mkdtemp(dir) != NULL);
    each_file();
    header_lengths();
    one_file();
    biases();
    tied();
    several_files();
    templates_and_eos();
    tokenizers();
    paths();
    CHECK(rmdir(dir) == 0);
    TEST_END();
}
