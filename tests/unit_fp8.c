/* TEST */
/*
 * unit_fp8.c - checkpoints with weights of 8-bit floats: pieces of rows, the fingerprint, and
 * scales that are missing, of a wrong shape or not asked for.  The right answers are in
 * unit_logits.c.
 */
#include "checkpoint.h"
#include "model/source.h"

static const char block[] = "tests/golden/fp8/block", row[] = "tests/golden/fp8/row";
static const char down[] = "model.layers.1.mlp.down_proj.weight";

/* In place: both texts are of one length. */
static void replace(struct buf *file, const char *from, const char *to)
{
    const size_t n = strlen(from);
    uint8_t *at = memmem(file->data, file->n_bytes, from, n);

    CHECK(at != NULL && strlen(to) == n);
    if (at != NULL)
        memcpy(at, to, n);
}

static struct model_source *open_spoilt(struct checkpoint *cp, enum status want)
{
    struct model_source *source = NULL;

    CHECK_INT(model_open(checkpoint_write(cp), &source), want);
    return source;
}

static void refused(const char *dir, bool in_config, const char *from, const char *to,
                    enum status status, const char *says, const char *also)
{
    struct checkpoint cp = checkpoint_read(dir);

    replace(in_config ? &cp.config : &cp.file, from, to);
    CHECK(open_spoilt(&cp, status) == NULL);
    CHECK_HAS(log_last_error(), says);
    CHECK_HAS(log_last_error(), also);
    checkpoint_end(&cp);
}

static void damages(void)
{
    char scale[96], spoilt[96];

    snprintf(scale, sizeof scale, "%s_scale_inv", down);
    snprintf(spoilt, sizeof spoilt, "%s_scale_inw", down);
    refused(block, false, scale, spoilt, ST_FORMAT, "its scales, model.layers.1.mlp.down_proj",
            "weight_scale_inv, are missing");
    refused(block, true, "\"quantization_config\"", "\"attn_implementation\"", ST_UNSUPPORTED,
            "weight_scale_inv (scales of quantised weights)", "not supported");
    refused(block, true, "      20\n", "      24\n", ST_FORMAT,
            "weight_scale_inv (F32, 2 dimensions", "as quantization_config describes them");
    refused(block, true, "weight_block_size", "weight_block_sizf", ST_UNSUPPORTED,
            "quantization_config.weight_block_sizf", "get the model in bf16");
    refused(row, true, "\"symmetric\": true", "\"symmetric\":false", ST_UNSUPPORTED,
            "quantization_config.config_groups = {", "or as a GGUF file");
}

/* Any piece of a row is what the whole row has there. */
static void pieces(const char *dir)
{
    struct model_source *source = NULL;
    float whole[128], piece[128];

    RIG_OK(model_open(dir, &source));
    const struct tensor_view *view = model_source_tensor(source, WEIGHT_DOWN, 1);
    CHECK(view->type == TENSOR_F8_E4M3 && view->n_cols == 80 && view->scales != NULL);
    for (int r = 0; r < (int)view->n_rows; r++) {
        model_source_row(source, WEIGHT_DOWN, 1, r, whole);
        for (int first = 0; first < 80; first += 7) {
            const int n = (r + first) % (80 - first) + 1;

            model_source_part(source, WEIGHT_DOWN, 1, r, first, n, piece);
            CHECK(memcmp(piece, whole + first, (size_t)n * sizeof *piece) == 0);
        }
    }
    model_close(source);
}

/* A weight that begins with row 3 of its tensor, whose blocks have 2 rows and 4 columns. */
static void rows_of_a_larger_tensor(void)
{
    static const float values[] = {1, 2, 3, 4, 5, 6}; /* [3, 2] */
    const struct tensor_scales scales = {.type = TENSOR_F32,
                                         .data = (const uint8_t *)values,
                                         .first_row = 3,
                                         .block_rows = 2,
                                         .block_cols = 4,
                                         .n_across = 2};
    static const float want[3][3] = {{3, 4, 4}, {5, 6, 6}, {5, 6, 6}}; /* columns 3 to 5 */

    for (int r = 0; r < 3; r++) {
        float out[3] = {1, 1, 1};

        tensor_apply_scales(&scales, r, 3, 3, out);
        CHECK(memcmp(out, want[r], sizeof out) == 0);
    }
}

/* One bit of one scale is another model. */
static void fingerprint(void)
{
    struct checkpoint cp = checkpoint_read(block);
    struct model_source *source;
    char name[96];

    RIG_OK(model_open(block, &source));
    const uint64_t was = model_source_fingerprint(source);
    model_close(source);
    snprintf(name, sizeof name, "%s_scale_inv", down);
    checkpoint_tensor(&cp, name).data[0] ^= 1;
    source = open_spoilt(&cp, ST_OK);
    CHECK(source != NULL && model_source_fingerprint(source) != was);
    model_close(source);
    checkpoint_end(&cp);
}

int main(void)
{
    damages();
    pieces(block);
    pieces(row);
    rows_of_a_larger_tensor();
    fingerprint();
    TEST_END();
}
