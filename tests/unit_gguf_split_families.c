/* TEST */
/*
 * unit_gguf_split_families.c - a model of each family, split over three GGUF files, is the model of
 * the whole file: the same fingerprint, of configuration and weights, and the same logits.
 * unit_gguf_split.c has what is refused.
 */
#include "gguf_copy.h"

#define GOLDEN "tests/golden/families/"

enum { N_PARTS = 3, T = 12 };

static void part_path(char out[300], const char *family, int no)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(out, 300, "%s/epidote-%s-%d-%05d-of-%05d.gguf", tmp != NULL ? tmp : "/tmp", family,
             (int)getpid(), no + 1, N_PARTS);
}

static void put_split_keys(struct buf *out, int no, int n_tensors)
{
    const struct {
        const char *key;
        int value;
    } keys[] = {{"split.no", no}, {"split.count", N_PARTS}, {"split.tensors.count", n_tensors}};

    for (int i = 0; i < 3; i++) {
        gguf_put_text(out, keys[i].key);
        gguf_put_u32(out, GGUF_U32);
        gguf_put_u32(out, (uint32_t)keys[i].value);
    }
}

/* All keys are in the first part; tensors go in turn, so that the parts of a layer are apart. */
static void write_part(const struct gguf_copy *copy, const char *path, int no)
{
    struct buf out = {0}, table = {0}, data = {0};
    uint64_t n_keys = 0, n_tensors = 0;

    for (int64_t i = no; i < copy->list.n_tensors; i += N_PARTS, n_tensors++) {
        const struct source_tensor *t = &copy->list.tensors[i];

        gguf_put_tensor(&table, t, gguf_type_of(t), data.n_bytes);
        RIG_OK(buf_put(&data, t->data, t->n_bytes));
        gguf_align(&data);
    }
    if (no == 0)
        memcpy(&n_keys, copy->file.data + GGUF_N_KEYS_AT, sizeof n_keys);
    RIG_OK(buf_put(&out, copy->file.data, 8)); /* magic, version */
    gguf_put_u64(&out, n_tensors);
    gguf_put_u64(&out, n_keys + 3);
    if (no == 0)
        RIG_OK(
            buf_put(&out, copy->file.data + GGUF_HEADER_BYTES, copy->keys_end - GGUF_HEADER_BYTES));
    put_split_keys(&out, no, (int)copy->list.n_tensors);
    RIG_OK(buf_put(&out, table.data, table.n_bytes));
    gguf_align(&out);
    RIG_OK(buf_put(&out, data.data, data.n_bytes));
    RIG_OK(file_write_atomic(path, out.data, out.n_bytes));
    buf_free(&out);
    buf_free(&table);
    buf_free(&data);
}

struct seen {
    int V;
    uint64_t fingerprint;
    float *logits;
};

static struct seen look(const char *path, bool stored)
{
    static const int32_t tokens[T] = {1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45};
    struct model_source *source;
    struct rig rig;
    struct seen seen;

    RIG_OK(model_open(path, &source));
    seen.V = model_source_config(source)->V;
    seen.fingerprint = model_source_fingerprint(source);
    model_close(source);
    rig_begin(&rig, (struct rig_args){.path = path, .type = OPS_BF16, .stored = stored});
    seen.logits = host_alloc((size_t)T * (size_t)seen.V * sizeof *seen.logits);
    RIG_OK(seen.logits != NULL ? ST_OK : ST_NOMEM);
    rig_logits(&rig, tokens, T, 5, seen.logits);
    rig_end(&rig);
    return seen;
}

static void same_model(const char *family)
{
    char whole_path[300], paths[N_PARTS][300];
    struct gguf_copy copy;

    snprintf(whole_path, sizeof whole_path, GOLDEN "%s/model.gguf", family);
    gguf_copy_read(&copy, whole_path);
    for (int no = 0; no < N_PARTS; no++) {
        part_path(paths[no], family, no);
        write_part(&copy, paths[no], no);
    }
    gguf_copy_end(&copy);
    struct seen whole = look(whole_path, false);
    for (int stored = 0; stored < 2; stored++) {
        struct seen split = look(paths[0], stored != 0);

        CHECK(split.fingerprint == whole.fingerprint);
        CHECK(memcmp(split.logits, whole.logits,
                     (size_t)T * (size_t)whole.V * sizeof *whole.logits) == 0);
        host_free(split.logits);
    }
    host_free(whole.logits);
    for (int no = 0; no < N_PARTS; no++)
        unlink(paths[no]);
}

int main(void)
{
    static const char *const families[] = {"llama3",  "qwen2",   "qwen3",    "gemma2",
                                           "gemma3",  "smollm3", "phi3",     "olmo2",
                                           "granite", "mixtral", "qwen3moe", "olmoe"};

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        fprintf(stderr, "%s\n", families[i]);
        same_model(families[i]);
    }
    TEST_END();
}
