/* TEST */
/*
 * unit_gguf_split.c - a model split over three GGUF files, made here: opened by its first file as
 * one model; each part that is missing, of another model or in another's place is named.
 */
#include <sys/stat.h>

#include "gguf_writer.h"
#include "model/source.h"
#include "test.h"

enum { N_PARTS = 3 };

static char dir[64];

static const char *path_of(int part)
{
    static char path[N_PARTS][128];

    snprintf(path[part], sizeof path[part], "%s/m-%05d-of-%05d.gguf", dir, part + 1, N_PARTS);
    return path[part];
}

static void key_u16(struct file *f, const char *name, uint16_t value)
{
    enum { U16 = 2 };

    buf_put(key(f, name, U16), &value, sizeof value);
}

static void split_keys(struct file *f, int no, int count, int n)
{
    key_u16(f, "split.no", (uint16_t)no);
    key_u16(f, "split.count", (uint16_t)count);
    key_u32(f, "split.tensors.count", (uint32_t)n);
    f->keys[f->n_keys - 1].type = I32;
}

/* Part `no` of the model of gguf_writer.h: all keys are in the first, the tensors go in turn. */
static void fill_part(struct file *f, int no)
{
    struct file whole;

    fill(&whole);
    *f = (struct file){0};
    if (no == 0)
        fill_keys(f);
    split_keys(f, no, N_PARTS, whole.n_tensors);
    for (int t = no; t < whole.n_tensors; t += N_PARTS) {
        const struct tensor *from = &whole.tensors[t];

        add_tensor(f, from->name, (int)(from->n_dims > 1 ? from->dims[1] : 1), (int)from->dims[0]);
    }
    free_file(&whole);
}

static void write_part(const char *path, struct file *f)
{
    struct buf bytes;

    write_file(f, &bytes);
    CHECK_INT(file_write_atomic(path, bytes.data, bytes.n_bytes), ST_OK);
    buf_free(&bytes);
    free_file(f);
}

static void write_all(void)
{
    for (int no = 0; no < N_PARTS; no++) {
        struct file f;

        fill_part(&f, no);
        write_part(path_of(no), &f);
    }
}

static void refused(enum status status, const char *path, const char *says, const char *also)
{
    struct model_source *source = NULL;

    CHECK_INT(model_open(path, &source), status);
    CHECK(source == NULL);
    CHECK_HAS(log_last_error(), says);
    CHECK_HAS(log_last_error(), also);
}

/* Every weight is there, with the rows of its part. */
static void whole_model(void)
{
    struct model_source *source = NULL;
    int n_found = 0;

    write_all();
    CHECK_INT(model_open(path_of(0), &source), ST_OK);
    for (int no = 0; source != NULL && no < N_PARTS; no++) {
        struct file f;

        fill_part(&f, no);
        for (int layer = 0; layer < L; layer++) {
            for (int id = 0; id < WEIGHT_COUNT; id++) {
                const struct tensor_view *view =
                    model_source_tensor(source, (enum weight_id)id, layer);
                const struct tensor *t = view != NULL ? tensor(&f, view->name) : NULL;
                float row[F];

                if (t == NULL || (layer > 0 && !weight_of_layer((enum weight_id)id)))
                    continue;
                n_found++;
                model_source_row(source, (enum weight_id)id, layer, 0, row);
                CHECK(row[5] == (float)((t - f.tensors) * 10000 + 5));
            }
        }
        free_file(&f);
    }
    CHECK_INT(n_found, 2 + 9 * L);
    struct buf text = {0};
    CHECK_INT(model_inspect(source, &text), ST_OK);
    CHECK_INT(buf_put(&text, "", 1), ST_OK);
    CHECK_HAS((const char *)text.data, "MiB of weights in several files\nfiles        m-00001-of");
    CHECK_HAS((const char *)text.data, "\n             m-00003-of-00003.gguf, 0.");
    buf_free(&text);
    model_close(source);
}

static void wrong_parts(void)
{
    struct file f;
    char other[128];

    write_all();
    refused(ST_FORMAT, path_of(1), "is part 2 of 3", "-00001-of-00003.gguf");
    snprintf(other, sizeof other, "%s/renamed.gguf", dir);
    CHECK(rename(path_of(0), other) == 0);
    refused(ST_FORMAT, other, "renamed.gguf: is part 1 of 3", "must end with -00001-of-00003.gguf");
    CHECK(rename(other, path_of(0)) == 0);

    CHECK(rename(path_of(1), other) == 0);
    refused(ST_IO, path_of(0), "m-00002-of-00003.gguf: part 2 of 3", "is missing");
    CHECK(rename(path_of(2), path_of(1)) == 0);
    refused(ST_FORMAT, path_of(0), "m-00002-of-00003.gguf: says that it is part 3 of 3",
            "ask for part 2 of 3");
    CHECK(rename(path_of(1), path_of(2)) == 0);
    CHECK(rename(other, path_of(1)) == 0);

    fill_part(&f, 2); /* of a model of another size */
    split_keys(&f, 2, N_PARTS, 30);
    write_part(path_of(2), &f);
    refused(ST_FORMAT, path_of(0), "m-00003-of-00003.gguf: says", "of a model of 30 tensors");
    fill_part(&f, 2); /* the same tensor in two parts */
    snprintf(f.tensors[1].name, sizeof f.tensors[1].name, "token_embd.weight");
    write_part(path_of(2), &f);
    refused(ST_FORMAT, path_of(0), "tensor token_embd.weight is also in", "-of-00003.gguf");
    fill_part(&f, 2); /* one is missing, and it shows by the count */
    f.n_tensors--;
    write_part(path_of(2), &f);
    refused(ST_FORMAT, path_of(0), "split.tensors.count is 20", "have 19 tensors");
    fill_part(&f, 2);
    key_u32(&f, "llama.block_count", 1);
    write_part(path_of(2), &f);
    refused(ST_UNSUPPORTED, path_of(0), "m-00003-of-00003.gguf: byte", "key llama.block_count");
    fill_part(&f, 2);
    write_part(path_of(2), &f);
    CHECK(truncate(path_of(2), 3000) == 0);
    refused(ST_FORMAT, path_of(0), "m-00003-of-00003.gguf: tensor", "the file holds");
    fill_part(&f, 2);
    split_keys(&f, 5, N_PARTS, 20);
    write_part(path_of(2), &f);
    refused(ST_FORMAT, path_of(0), "m-00003-of-00003.gguf: keys split.no", "5, 3 and 20");
}

int main(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%.40s/epidote-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(mkdtemp(dir) != NULL);
    whole_model();
    wrong_parts();
    for (int no = 0; no < N_PARTS; no++)
        unlink(path_of(no));
    CHECK(rmdir(dir) == 0);
    TEST_END();
}
