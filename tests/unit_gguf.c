/* TEST */
/*
 * unit_gguf.c - GGUF files, made here: a valid one is read right, and each of a list of damages,
 * absurdities and unsupported things is refused with a message that names file, place and remedy.
 */
#include "gguf_writer.h"
#include "model/source.h"
#include "test.h"

/* Read a copy that ends where the allocation does, so that a sanitizer sees any step beyond. */
static enum status load(const uint8_t *data, size_t n_bytes, struct model_source **out_source)
{
    struct model_source *source = NULL;
    struct source_file *copy = calloc(1, sizeof *copy);
    uint8_t *bytes = malloc(n_bytes > 0 ? n_bytes : 1);
    enum status st;

    if (n_bytes > 0)
        memcpy(bytes, data, n_bytes);
    CHECK(source_begin("test.gguf", &source) == ST_OK);
    st = gguf_load(source, bytes, n_bytes, "test.gguf");
    if (st == ST_OK && out_source != NULL) {
        copy->map = (struct file_map){bytes, n_bytes};
        source->files = copy; /* n_files stays 0: freed by the test */
        *out_source = source;
        return st;
    }
    model_close(source);
    free(bytes);
    free(copy);
    return st;
}

static void unload(struct model_source *source)
{
    free((void *)(uintptr_t)source->files[0].map.data);
    model_close(source);
}

/* ---- what is right ---------------------------------------------------------------------------- */

static void valid_file(void)
{
    struct file f;
    struct buf bytes;
    struct model_source *source = NULL;
    struct tokenizer *tokenizer = NULL;
    float row[H * E];

    fill(&f);
    write_file(&f, &bytes);
    CHECK(load(bytes.data, bytes.n_bytes, &source) == ST_OK);
    const struct model_config *c = model_source_config(source);
    CHECK_STR(c->family, "llama");
    CHECK(c->L == L && c->D == D && c->F == F && c->H == H && c->K == K && c->E == E && c->V == V);
    CHECK_INT(c->context, 128);
    CHECK(c->eps == 1e-3f && c->rope.base == 5000.0 && c->tied);
    CHECK(c->bos_id == 0 && c->n_eos == 2 && c->eos_ids[0] == 1 && c->eos_ids[1] == 0);
    CHECK_STR(model_source_chat_template(source), "{{ messages }}");
    CHECK(model_source_tensor(source, WEIGHT_HEAD, 0) == NULL);

    const struct tensor_view *down = model_source_tensor(source, WEIGHT_DOWN, 1);
    CHECK_STR(down->name, "blk.1.ffn_down.weight");
    CHECK(down->type == TENSOR_F32 && down->n_rows == D && down->n_cols == F);
    model_source_row(source, WEIGHT_DOWN, 1, 3, row);
    CHECK(row[5] == (float)((tensor(&f, down->name) - f.tensors) * 10000 + 305));

    CHECK(model_source_tokenizer(source, &tokenizer) == ST_OK);
    CHECK_INT(tokenizer_n_tokens(tokenizer), V);
    CHECK_INT(tokenizer_bos(tokenizer), 0);
    CHECK_INT(tokenizer_eos(tokenizer), 1);
    tokenizer_destroy(tokenizer);
    unload(source);
    buf_free(&bytes);
    free_file(&f);
}

/* The converter writes HF row (head, half, i) of q and k as row (head, i, half). */
static void permuted_rows(void)
{
    static const enum weight_id ids[] = {WEIGHT_Q, WEIGHT_K, WEIGHT_V, WEIGHT_O};
    static const int n_heads[] = {H, K, K, 1};
    struct file f;
    struct buf bytes;
    struct model_source *source = NULL;
    float row[H * E];

    fill(&f);
    write_file(&f, &bytes);
    CHECK(load(bytes.data, bytes.n_bytes, &source) == ST_OK);
    for (int w = 0; w < 4; w++) {
        const struct tensor_view *view = model_source_tensor(source, ids[w], 1);
        const float first = (float)((tensor(&f, view->name) - f.tensors) * 10000);

        for (int head = 0; w < 2 && head < n_heads[w]; head++) {
            int stored = head * E;

            for (int i = 0; i < E / 2; i++) {
                for (int half = 0; half < 2; half++, stored++) {
                    model_source_row(source, ids[w], 1, head * E + half * E / 2 + i, row);
                    CHECK(row[0] == first + (float)(stored * 100));
                    CHECK(row[7] == first + (float)(stored * 100 + 7));
                }
            }
        }
        for (int r = 0; w >= 2 && r < (int)view->n_rows; r++) {
            model_source_row(source, ids[w], 1, r, row);
            CHECK(row[0] == first + (float)(r * 100)); /* v and o are as they are */
        }
    }
    unload(source);
    buf_free(&bytes);
    free_file(&f);
}

static void add_biases(struct file *f)
{
    static const struct {
        const char *name;
        int n;
    } of_layer[] = {{"attn_q", H * E}, {"attn_k", K * E}, {"attn_v", K * E}, {"attn_output", D}};

    for (int layer = 0; layer < L; layer++) {
        for (size_t i = 0; i < sizeof of_layer / sizeof of_layer[0]; i++) {
            char name[80];

            snprintf(name, sizeof name, "blk.%d.%s.bias", layer, of_layer[i].name);
            add_tensor(f, name, 1, of_layer[i].n);
        }
    }
}

/* The elements of q and k biases are permuted as the rows are, those of v and o are not. */
static void permuted_biases(void)
{
    static const int n_elems[] = {H * E, K * E, K * E, D};
    struct file f;
    struct buf bytes;
    struct model_source *source = NULL;
    float bias[H * E];

    fill(&f);
    add_biases(&f);
    write_file(&f, &bytes);
    CHECK(load(bytes.data, bytes.n_bytes, &source) == ST_OK);
    CHECK(model_source_config(source)->qkv_bias);
    for (int w = 0; w < 4; w++) {
        const enum weight_id id = (enum weight_id)(WEIGHT_Q_BIAS + w);
        const struct tensor_view *view = model_source_tensor(source, id, 1);
        const float first = (float)((tensor(&f, view->name) - f.tensors) * 10000);

        CHECK(view->n_rows == 1 && view->n_cols == n_elems[w]);
        model_source_row(source, id, 1, 0, bias);
        for (int e = 0; e < n_elems[w]; e++) {
            const int head = e / E, half = e % E / (E / 2), i = e % (E / 2);

            CHECK(bias[e] == first + (float)(w < 2 ? head * E + 2 * i + half : e));
        }
    }
    unload(source);
    buf_free(&bytes);
    free_file(&f);
}

/* With one bias, every layer needs all four. */
static void missing_biases(void)
{
    static const char *const names[] = {"blk.0.attn_q.bias", "blk.0.attn_k.bias",
                                        "blk.1.attn_v.bias", "blk.1.attn_output.bias"};

    for (int i = 0; i < 4; i++) {
        struct file f;
        struct buf bytes;
        char says[80];

        fill(&f);
        add_biases(&f);
        snprintf(tensor(&f, names[i])->name, sizeof f.tensors[0].name, "gone");
        snprintf(says, sizeof says, "tensor %s is missing", names[i]);
        write_file(&f, &bytes);
        CHECK(load(bytes.data, bytes.n_bytes, NULL) == ST_FORMAT);
        CHECK_HAS(log_last_error(), says);
        CHECK_HAS(log_last_error(), "there are other biases");
        buf_free(&bytes);
        free_file(&f);
    }
}

/* One checkpoint in both formats: the same rows, q and k among them. */
static void equals_directory(const char *path, const char *directory)
{
    struct model_source *gguf = NULL, *hf = NULL;
    float a[1024], b[1024];
    int n_wrong = 0, n_rows = 0;

    CHECK_INT(model_open(path, &gguf), ST_OK);
    CHECK_INT(model_open(directory, &hf), ST_OK);
    for (int layer = 0; layer < model_source_config(hf)->L; layer++) {
        for (int w = 0; w < WEIGHT_COUNT; w++) {
            const enum weight_id id = (enum weight_id)w;
            const struct tensor_view *view = model_source_tensor(hf, id, layer);

            CHECK((view != NULL) == (model_source_tensor(gguf, id, layer) != NULL));
            for (int64_t r = 0; view != NULL && r < view->n_rows; r++, n_rows++) {
                model_source_row(gguf, id, layer, r, a);
                model_source_row(hf, id, layer, r, b);
                n_wrong += memcmp(a, b, (size_t)view->n_cols * sizeof *a) != 0;
            }
        }
    }
    CHECK_INT(n_wrong, 0);
    CHECK(n_rows > 100);
    model_close(gguf);
    model_close(hf);
}

static void inspect_text(void)
{
    static const char *const lines[] = {"tests/golden/small/Q4_0.gguf\n",
                                        "format       GGUF v3, ",
                                        "family       llama",
                                        "context      ",
                                        "types        embedding  Q4_0 in 1 tensor\n",
                                        "             attention  Q4_0 in 8 tensors\n",
                                        "             norms      F32 in 5 tensors\n",
                                        "MiB as bf16, 0.",
                                        "MiB with precision = \"stored\"; KV 0.",
                                        "parameters   0.",
                                        "tokeniser    300 tokens",
                                        "BOS, EOS     ",
                                        "template     none\n",
                                        "KV 0.",
                                        "MiB per 1,000 tokens\n"};
    struct model_source *source = NULL;
    struct buf text = {0};
    char hash[64];

    CHECK_INT(model_open("tests/golden/small/Q4_0.gguf", &source), ST_OK);
    CHECK_INT(model_inspect(source, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        CHECK_HAS((const char *)text.data, lines[i]);
    snprintf(hash, sizeof hash, "fingerprint  %016llx\n",
             (unsigned long long)model_source_fingerprint(source));
    CHECK_HAS((const char *)text.data, hash);
    buf_free(&text);
    model_close(source);
}

static uint64_t fingerprint(const struct file *f, size_t flip_at)
{
    struct buf bytes;
    struct model_source *source = NULL;
    uint64_t hash = 0;

    write_file(f, &bytes);
    if (flip_at > 0)
        bytes.data[bytes.n_bytes - flip_at] ^= 1;
    CHECK(load(bytes.data, bytes.n_bytes, &source) == ST_OK);
    hash = model_source_fingerprint(source);
    unload(source);
    buf_free(&bytes);
    return hash;
}

/* Equal for equal content, different for one bit of a weight, a size, a token. */
static void fingerprints(void)
{
    struct file f;

    fill(&f);
    const uint64_t plain = fingerprint(&f, 0);
    CHECK(fingerprint(&f, 0) == plain);
    CHECK(fingerprint(&f, 1) != plain);
    CHECK(fingerprint(&f, D * F * 4 + 3) != plain);
    key_text(&f, "general.name", "renamed");
    CHECK(fingerprint(&f, 0) == plain);
    key_float(&f, "llama.rope.freq_base", 5001.0f);
    CHECK(fingerprint(&f, 0) != plain);
    key_float(&f, "llama.rope.freq_base", 5000.0f);
    key_u32(&f, "tokenizer.ggml.eot_token_id", 1);
    CHECK(fingerprint(&f, 0) != plain);
    key_u32(&f, "tokenizer.ggml.eot_token_id", 0);
    CHECK(fingerprint(&f, 0) == plain);
    put_u32(key(&f, "tokenizer.ggml.add_bos_token", BOOL), 0);
    f.keys[f.n_keys - 1].value.data[0] = 1;
    f.keys[f.n_keys - 1].value.n_bytes = 1;
    CHECK(fingerprint(&f, 0) != plain);
    add_biases(&f);
    const uint64_t biased = fingerprint(&f, 0);
    CHECK(fingerprint(&f, 1) != biased); /* the last bias of the file */
    free_file(&f);
}

/* ---- what is wrong ---------------------------------------------------------------------------- */

enum edit {
    KEY_U32,     /* set key to number */
    KEY_FLOAT,   /* ... to number as a float */
    KEY_TEXT,    /* ... to text */
    KEY_DROP,    /* remove it */
    KEY_TWICE,   /* append it once more */
    KEY_RAW,     /* set the value's type to number and its bytes to text, as hexadecimal */
    TENSOR_NAME, /* rename tensor `name` to text */
    TENSOR_ADD,  /* append a vector of D */
    TENSOR_DIM0, /* innermost dimension */
    TENSOR_DIM1,
    TENSOR_DIMS, /* number of dimensions */
    TENSOR_TYPE,
    TENSOR_OFFSET,
    BYTES_U32, /* set the bytes at offset atoi(name) of the finished file */
    BYTES_U64,
    CUT /* cut the file to number bytes; below 0: so many off its end */
};

struct damage {
    enum edit edit;
    const char *name;
    double number;
    const char *text;
    enum status status;
    const char *says[3];
};

static void edit_key(struct file *f, const struct damage *d)
{
    int i = 0;

    switch (d->edit) {
    case KEY_U32:
        key_u32(f, d->name, (uint32_t)d->number);
        break;
    case KEY_FLOAT:
        key_float(f, d->name, (float)d->number);
        break;
    case KEY_TEXT:
        key_text(f, d->name, d->text);
        break;
    case KEY_RAW: {
        struct buf *value = key(f, d->name, (uint32_t)d->number);

        for (const char *hex = d->text; hex[0] != '\0'; hex += 2) {
            const char two[3] = {hex[0], hex[1], '\0'};
            const uint8_t byte = (uint8_t)strtoul(two, NULL, 16);

            buf_put(value, &byte, 1);
        }
        break;
    }
    default:
        while (strcmp(f->keys[i].name, d->name) != 0)
            i++;
        if (d->edit == KEY_TWICE) {
            f->keys[f->n_keys] = f->keys[i];
            f->keys[f->n_keys].value = (struct buf){0};
            buf_put(&f->keys[f->n_keys++].value, f->keys[i].value.data, f->keys[i].value.n_bytes);
        } else {
            buf_free(&f->keys[i].value);
            f->keys[i] = f->keys[--f->n_keys];
        }
    }
}

static void edit_tensor(struct file *f, const struct damage *d)
{
    struct tensor *t = d->edit == TENSOR_ADD ? NULL : tensor(f, d->name);

    switch (d->edit) {
    case TENSOR_ADD:
        add_tensor(f, d->name, 1, D);
        break;
    case TENSOR_NAME:
        snprintf(t->name, sizeof t->name, "%s", d->text);
        break;
    case TENSOR_DIM0:
        t->dims[0] = (uint64_t)d->number;
        break;
    case TENSOR_DIM1:
        t->dims[1] = (uint64_t)d->number;
        break;
    case TENSOR_DIMS:
        t->n_dims = (uint32_t)d->number;
        break;
    case TENSOR_TYPE:
        t->type = (uint32_t)d->number;
        break;
    default:
        t->offset = (uint64_t)d->number;
    }
}

static void edit_bytes(struct buf *bytes, const struct damage *d)
{
    const uint64_t wide = d->number < 0 ? UINT64_MAX : (uint64_t)d->number;

    if (d->edit == CUT)
        bytes->n_bytes = d->number < 0 ? bytes->n_bytes - (size_t)-d->number : (size_t)d->number;
    else
        memcpy(bytes->data + atoi(d->name), &wide, d->edit == BYTES_U32 ? 4 : 8);
}

static const struct damage damages[] = {
    /* the container */
    {CUT, "", 0, "", ST_FORMAT, {"byte 0", "cut short", "get it again"}},
    {CUT, "", 10, "", ST_FORMAT, {"byte 8", "number of tensors"}},
    {CUT, "", -1, "", ST_FORMAT, {"blk.1.ffn_down.weight", "holds", "get it again"}},
    {BYTES_U32, "0", 0x46554746, "", ST_FORMAT, {"byte 0", "not a GGUF file", "name a .gguf"}},
    {BYTES_U32, "4", 2, "", ST_OK, {NULL}}, /* version 2 is the same, little-endian */
    {BYTES_U32, "4", 1, "", ST_UNSUPPORTED, {"byte 4", "version 1", "convert"}},
    {BYTES_U32, "4", 0x03000000, "", ST_UNSUPPORTED, {"byte 4", "big-endian", "convert"}},
    {BYTES_U64, "8", -1, "", ST_FORMAT, {"byte 8", "18446744073709551615 tensors"}},
    {BYTES_U64, "8", 1 << 20, "", ST_FORMAT, {"byte 8", "1048576 tensors"}},
    {BYTES_U64, "16", 1e15, "", ST_FORMAT, {"byte 8", "1000000000000000 keys"}},
    {BYTES_U64, "24", -1, "", ST_FORMAT, {"byte 24", "a key", "left"}},
    {BYTES_U64, "24", 0, "", ST_FORMAT, {"byte 24", "a key of 0 bytes"}},
    {BYTES_U32, "32", 0x01020304, "", ST_FORMAT, {"byte 24", "printable"}},
    {BYTES_U32, "52", 99, "", ST_FORMAT, {"byte 52", "general.architecture", "type 99"}},
    {KEY_TWICE, "general.name", 0, "", ST_FORMAT, {"general.name", "also at byte"}},
    {KEY_RAW, "general.tags", 9, "090000000100000000000000", ST_UNSUPPORTED, {"arrays of arrays"}},
    {KEY_RAW, "general.tags", 9, "08000000ffffffffffffff7f", ST_FORMAT, {"general.tags", "left"}},
    {KEY_RAW, "general.tags", 9, "04000000ffffffffffffff3f", ST_FORMAT, {"general.tags", "left"}},
    {KEY_RAW, "general.tags", 8, "ffffffffffffffff", ST_FORMAT, {"general.tags", "left"}},
    {KEY_RAW, "general.flag", 7, "02", ST_FORMAT, {"general.flag", "truth value 2"}},
    {KEY_U32, "general.alignment", 24, "", ST_FORMAT, {"general.alignment is 24", "power of two"}},
    {KEY_U32, "general.alignment", 0, "", ST_FORMAT, {"general.alignment is 0"}},
    {KEY_TEXT, "general.alignment", 0, "32", ST_FORMAT, {"general.alignment", "string"}},
    /* another family, not a model, a part of one */
    {KEY_DROP, "general.architecture", 0, "", ST_FORMAT, {"general.architecture is missing"}},
    {KEY_TEXT, "general.architecture", 0, "gpt2", ST_UNSUPPORTED, {"gpt2", "has: llama, qwen2"}},
    {KEY_TEXT, "general.type", 0, "adapter", ST_UNSUPPORTED, {"general.type", "adapter"}},
    {KEY_U32, "split.count", 3, "", ST_FORMAT, {"split.count", "-1, 3 and -1", "get it again"}},
    {KEY_U32, "split.count", 0, "", ST_OK, {NULL}},
    {KEY_U32, "general.quantization_version", 1, "", ST_UNSUPPORTED, {"quantization_version is 1"}},
    /* hyper-parameters */
    {KEY_TEXT, "tokenizer.ggml.fold", 0, "x", ST_UNSUPPORTED, {"ggml.fold may change the ids"}},
    {KEY_RAW,
     "tokenizer.ggml.suppress_tokens",
     9,
     "050000000000000000000000",
     ST_UNSUPPORTED,
     {"suppress"}},
    {KEY_TEXT, "tokenizer.rwkv.world", 0, "x", ST_UNSUPPORTED, {"tokenizer.rwkv.world"}},
    {KEY_RAW,
     "tokenizer.ggml.remove_extra_whitespaces",
     7,
     "01",
     ST_UNSUPPORTED,
     {"runs of spaces"}},
    {KEY_RAW, "tokenizer.ggml.remove_extra_whitespaces", 7, "00", ST_OK, {NULL}},
    {KEY_RAW,
     "tokenizer.ggml.precompiled_charsmap",
     9,
     "000000000000000000000000",
     ST_UNSUPPORTED,
     {"charsmap"}},
    {KEY_TEXT, "tokenizer.chat_template.rag", 0, "x", ST_OK, {NULL}},
    {KEY_TEXT, "tokenizer.huggingface.json", 0, "{}", ST_OK, {NULL}},
    {KEY_U32, "tokenizer.ggml.fim_pad_token_id", 1, "", ST_OK, {NULL}},
    {KEY_U32, "tokenizer.ggml.seperator_token_id", 1, "", ST_OK, {NULL}},
    {KEY_DROP, "llama.block_count", 0, "", ST_FORMAT, {"llama.block_count is missing"}},
    {KEY_DROP, "llama.attention.layer_norm_rms_epsilon", 0, "", ST_FORMAT, {"rms_epsilon is miss"}},
    {KEY_RAW, "llama.block_count", 5, "ffffffff", ST_FORMAT, {"llama.block_count", "negative"}},
    {KEY_RAW, "llama.block_count", 0, "ff", ST_FORMAT, {"blk.2.attn_norm.weight is missing"}},
    {KEY_RAW, "llama.block_count", 1, "ff", ST_FORMAT, {"llama.block_count", "negative"}},
    {KEY_FLOAT, "llama.block_count", 2, "", ST_FORMAT, {"float32, not an integer"}},
    {KEY_U32, "llama.rope.freq_base", 10000, "", ST_FORMAT, {"freq_base", "uint32, not a float"}},
    {KEY_U32, "llama.block_count", 0, "", ST_FORMAT, {"layers is 0"}},
    {KEY_U32, "llama.block_count", 2e9, "", ST_FORMAT, {"layers is 2000000000"}},
    {KEY_U32, "llama.block_count", 2000, "", ST_UNSUPPORTED, {"2000 layers are not supported"}},
    {KEY_U32, "llama.attention.head_count", 0, "", ST_FORMAT, {"head_count: 0 heads"}},
    {KEY_U32, "llama.attention.head_count", 3, "", ST_FORMAT, {"3 query heads", "2 kv heads"}},
    {KEY_U32, "llama.attention.head_count_kv", 0, "", ST_FORMAT, {"kv heads is 0"}},
    {KEY_RAW,
     "llama.attention.head_count_kv",
     9,
     "04000000010000000000000002000000",
     ST_UNSUPPORTED,
     {"head_count_kv", "for each layer"}},
    {KEY_U32, "llama.context_length", 0, "", ST_FORMAT, {"context is 0"}},
    {KEY_U32, "llama.attention.key_length", 24, "", ST_UNSUPPORTED, {"beside keys of 24"}},
    {KEY_U32, "llama.rope.dimension_count", 8, "", ST_UNSUPPORTED, {"dimension_count", "8 of 16"}},
    {KEY_FLOAT, "llama.attention.layer_norm_rms_epsilon", -1, "", ST_FORMAT, {"epsilon is -1"}},
    {KEY_FLOAT, "llama.rope.freq_base", 0, "", ST_FORMAT, {"RoPE base 0"}},
    {KEY_RAW, "llama.rope.freq_base", 6, "0000c07f", ST_FORMAT, {"llama.rope.freq_base is nan"}},
    {KEY_TEXT, "llama.rope.scaling.type", 0, "yarn", ST_UNSUPPORTED, {"scaling.type", "yarn"}},
    {KEY_FLOAT, "llama.rope.scaling.factor", 4, "", ST_UNSUPPORTED, {"scaling.factor"}},
    {KEY_FLOAT, "llama.rope.scale_linear", 0.5, "", ST_FORMAT, {"scale_linear", "0.5 is not 1"}},
    {KEY_U32, "llama.expert_count", 8, "", ST_FORMAT, {"0 of 8 experts"}},
    {KEY_RAW, "llama.attention.causal", 7, "00", ST_UNSUPPORTED, {"attention.causal"}},
    {KEY_FLOAT, "llama.logit_scale", 2, "", ST_UNSUPPORTED, {"llama.logit_scale", "may change"}},
    /* vocabulary */
    {KEY_DROP, "tokenizer.ggml.tokens", 0, "", ST_FORMAT, {"tokenizer.ggml.tokens is missing"}},
    {KEY_U32, "llama.vocab_size", 5, "", ST_FORMAT, {"has 6 tokens", "llama.vocab_size is 5"}},
    {KEY_U32, "llama.vocab_size", 7, "", ST_FORMAT, {"token_embd.weight is [6, 32]", "[7, 32]"}},
    {KEY_U32, "tokenizer.ggml.bos_token_id", 6, "", ST_FORMAT, {"bos_token_id is 6", "6 tokens"}},
    {KEY_U32, "tokenizer.ggml.token_type", 1, "", ST_FORMAT, {"token_type", "6 int32"}},
    {KEY_RAW,
     "tokenizer.ggml.token_type",
     9,
     "050000000100000000000000"
     "01000000",
     ST_FORMAT,
     {"token_type", "one for each token"}},
    {KEY_TEXT, "tokenizer.ggml.tokens", 0, "a", ST_FORMAT, {"tokens", "not an array of strings"}},
    {KEY_TEXT, "tokenizer.chat_template", 0, "\xff", ST_FORMAT, {"chat_template", "UTF-8"}},
    /* tensors */
    {TENSOR_NAME, "blk.1.attn_v.weight", 0, "gone", ST_FORMAT, {"blk.1.attn_v.weight is missing"}},
    {TENSOR_NAME, "output_norm.weight", 0, "gone", ST_FORMAT, {"output_norm.weight is missing"}},
    {TENSOR_NAME, "blk.1.attn_v.weight", 0, "blk.0.attn_v.weight", ST_FORMAT, {"there twice"}},
    {TENSOR_NAME, "blk.1.attn_v.weight", 0, "a\nb", ST_FORMAT, {"a tensor's name", "printable"}},
    {TENSOR_ADD, "rope_freqs.weight", 0, "", ST_FORMAT, {"rope_freqs.weight", "8 float32"}},
    {TENSOR_ADD, "blk.0.ffn_up.bias", 0, "", ST_UNSUPPORTED, {"blk.0.ffn_up.bias", "a bias"}},
    {TENSOR_ADD, "blk.0.attn_q.bias", 0, "", ST_FORMAT, {"is [32]", "ask for [64]"}},
    {TENSOR_ADD,
     "blk.1.attn_output.bias",
     0,
     "",
     ST_FORMAT,
     {"blk.0.attn_output.bias is missing", "there are other biases"}},
    {TENSOR_ADD, "blk.2.attn_norm.weight", 0, "", ST_UNSUPPORTED, {"blk.2.attn_norm", "2 layers"}},
    {TENSOR_DIM1, "blk.0.attn_q.weight", 48, "", ST_FORMAT, {"is [48, 32]", "ask for [64, 32]"}},
    {TENSOR_DIM0, "blk.0.attn_norm.weight", 31, "", ST_FORMAT, {"is [31]", "ask for [32]"}},
    {TENSOR_DIM0, "blk.0.attn_norm.weight", 0, "", ST_FORMAT, {"dimension of 0"}},
    {TENSOR_DIM0, "blk.0.attn_norm.weight", 1.7e19, "", ST_FORMAT, {"dimension of 17000000"}},
    {TENSOR_DIM0, "blk.0.attn_q.weight", 4e18, "", ST_FORMAT, {"absurd shape [64, 4000000"}},
    {TENSOR_DIM0, "blk.0.attn_q.weight", 1e15, "", ST_FORMAT, {"attn_q.weight takes", "holds"}},
    {TENSOR_DIMS, "blk.0.attn_q.weight", 0, "", ST_FORMAT, {"attn_q.weight has 0 dimensions"}},
    {TENSOR_DIMS, "blk.0.attn_q.weight", 5, "", ST_FORMAT, {"attn_q.weight has 5 dimensions"}},
    {TENSOR_TYPE, "blk.0.attn_q.weight", 23, "", ST_UNSUPPORTED, {"IQ4_XS", "Q5_K, Q6_K: get the"}},
    {TENSOR_TYPE, "blk.0.attn_q.weight", 12, "", ST_FORMAT, {"Q4_K", "blocks of 256 elements"}},
    {TENSOR_TYPE, "blk.0.attn_q.weight", 4000, "", ST_UNSUPPORTED, {"unknown (number 4000)"}},
    {TENSOR_TYPE, "output_norm.weight", 8, "", ST_OK, {NULL}}, /* Q8_0, in the same place */
    {TENSOR_OFFSET, "blk.0.attn_q.weight", 33, "", ST_FORMAT, {"at 33", "alignment 32"}},
    {TENSOR_OFFSET, "blk.0.attn_q.weight", 1e18, "", ST_FORMAT, {"attn_q.weight", "holds"}},
    {TENSOR_OFFSET, "blk.0.attn_q.weight", 64, "", ST_FORMAT, {"token_embd.weight", "overlap"}},
};

/* One of each pair of edits that only a pair can show. */
static void quantised_rows_are_whole_blocks(void)
{
    struct file f;
    struct buf bytes;

    fill(&f);
    key_u32(&f, "llama.embedding_length", 40);
    for (int i = 0; i < f.n_tensors; i++)
        f.tensors[i].type = 2; /* Q4_0 */
    f.tensors[0].dims[0] = 40;
    write_file(&f, &bytes);
    CHECK(load(bytes.data, bytes.n_bytes, NULL) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "token_embd.weight of shape [6, 40] is Q4_0");
    buf_free(&bytes);
    free_file(&f);
}

static void head_size_limits(void)
{
    struct file f;
    struct buf bytes;

    fill(&f);
    for (uint32_t e = 24; e <= 272; e += 248) {
        key_u32(&f, "llama.attention.key_length", e);
        key_u32(&f, "llama.attention.value_length", e);
        key_u32(&f, "llama.rope.dimension_count", e);
        write_file(&f, &bytes);
        CHECK(load(bytes.data, bytes.n_bytes, NULL) == ST_UNSUPPORTED);
        CHECK_HAS(log_last_error(), "head size");
        CHECK_HAS(log_last_error(), "multiples of 16");
        buf_free(&bytes);
    }
    free_file(&f);
}

static void each_damage(void)
{
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const struct damage *d = &damages[i];
        struct file f;
        struct buf bytes;

        fill(&f);
        if (d->edit <= KEY_RAW)
            edit_key(&f, d);
        else if (d->edit <= TENSOR_OFFSET)
            edit_tensor(&f, d);
        write_file(&f, &bytes);
        if (d->edit >= BYTES_U32)
            edit_bytes(&bytes, d);
        const enum status st = load(bytes.data, bytes.n_bytes, NULL);
        if (st != d->status)
            fprintf(stderr, "damage %zu, %s: %s instead of %s\n", i, d->name, status_name(st),
                    status_name(d->status));
        CHECK_INT(st, d->status);
        for (int s = 0; s < 3 && d->says[s] != NULL; s++)
            CHECK_HAS(log_last_error(), d->says[s]);
        if (d->status != ST_OK)
            CHECK_HAS(log_last_error(), "test.gguf: ");
        buf_free(&bytes);
        free_file(&f);
    }
}

/* However the file is cut short, it is refused; whatever byte is changed, nothing worse happens. */
static void every_cut_and_many_flips(void)
{
    struct file f;
    struct buf bytes;
    const uint32_t philox_key[2] = {20, 0};
    int n_opened = 0;

    fill(&f);
    write_file(&f, &bytes);
    for (size_t n = 0; n < bytes.n_bytes; n += n < 4096 ? 1 : 509)
        n_opened += load(bytes.data, n, NULL) == ST_OK;
    CHECK_INT(n_opened, 0);
    fprintf(stderr, "flips of seed %u\n", philox_key[0]);
    for (uint32_t i = 0; i < 4000; i++) {
        const uint32_t counter[4] = {i, 0, 0, 0};
        uint32_t random[4];

        philox4x32(philox_key, counter, random);
        uint8_t *byte = &bytes.data[random[0] % 2800];
        const uint8_t was = *byte;
        *byte = (uint8_t)random[1];
        const enum status st = load(bytes.data, bytes.n_bytes, NULL);
        CHECK(st == ST_OK || st == ST_FORMAT || st == ST_UNSUPPORTED);
        *byte = was;
    }
    CHECK(load(bytes.data, bytes.n_bytes, NULL) == ST_OK);
    buf_free(&bytes);
    free_file(&f);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    valid_file();
    permuted_rows();
    permuted_biases();
    missing_biases();
    equals_directory("tests/golden/small/F32.gguf", "tests/golden/small");
    equals_directory("tests/golden/small/F16.gguf", "tests/golden/small");
    equals_directory("tests/golden/biased/F32.gguf", "tests/golden/biased");
    inspect_text();
    fingerprints();
    each_damage();
    quantised_rows_are_whole_blocks();
    head_size_limits();
    every_cut_and_many_flips();
    TEST_END();
}
