/*
 * inspect.c - what an open model file holds, as text for people.
 */
#include "model/source.h"

static const double MIB = 1 << 20;

/* What a tensor is for, as far as a choice of its type goes. */
enum tensor_class {
    CLASS_EMBED,
    CLASS_HEAD,
    CLASS_ATTENTION,
    CLASS_FFN,
    CLASS_NORM,
    CLASS_BIAS,
    CLASS_COUNT
};

static const char *const class_names[CLASS_COUNT] = {
    [CLASS_EMBED] = "embedding", [CLASS_HEAD] = "LM head", [CLASS_ATTENTION] = "attention",
    [CLASS_FFN] = "ffn",         [CLASS_NORM] = "norms",   [CLASS_BIAS] = "biases",
};

static enum tensor_class class_of(enum weight_id id, const struct tensor_view *view)
{
    if (weight_is_bias(id))
        return CLASS_BIAS;
    if (view->n_rows == 1)
        return CLASS_NORM;
    switch (id) {
    case WEIGHT_EMBED:
        return CLASS_EMBED;
    case WEIGHT_HEAD:
        return CLASS_HEAD;
    case WEIGHT_Q:
    case WEIGHT_K:
    case WEIGHT_V:
    case WEIGHT_O:
        return CLASS_ATTENTION;
    default:
        return CLASS_FFN;
    }
}

struct tensor_counts {
    int64_t n_weights;
    double file_bytes;
    int of[CLASS_COUNT][TENSOR_TYPE_COUNT]; /* tensors */
};

static void count_tensors(const struct model_source *source, struct tensor_counts *out)
{
    const struct model_config *c = &source->config;

    *out = (struct tensor_counts){0};
    for (int layer = 0; layer < c->L; layer++) {
        for (int i = 0; i < WEIGHT_COUNT; i++) {
            const enum weight_id id = (enum weight_id)i;
            const struct tensor_view *view = model_source_tensor(source, id, layer);

            if (view == NULL || (layer > 0 && !weight_of_layer(id)))
                continue;
            out->n_weights += view->n_rows * view->n_cols;
            out->of[class_of(id, view)][view->type]++;
            out->file_bytes += (double)view->n_rows * (double)view->row_bytes;
        }
    }
}

/* A line for each class: "attention Q4_K in 60 tensors, Q6_K in 60 tensors". */
static enum status put_types(const struct tensor_counts *counts, struct buf *out)
{
    const char *head = "types";
    enum status st = ST_OK;

    for (int k = 0; k < CLASS_COUNT; k++) {
        const char *sep = "";

        for (int t = 0; t < TENSOR_TYPE_COUNT; t++) {
            const int n = counts->of[k][t];

            if (n == 0)
                continue;
            if (sep[0] == '\0')
                TRY(buf_printf(out, "%-12s %-10s ", head, class_names[k]), err);
            TRY(buf_printf(out, "%s%s in %d tensor%s", sep, tensor_type_name((enum tensor_type)t),
                           n, n == 1 ? "" : "s"),
                err);
            sep = ", ";
            head = "";
        }
        if (sep[0] != '\0')
            TRY(buf_puts(out, "\n"), err);
    }
err:
    return st;
}

/* The files of a model that has several. */
static enum status put_files(const struct model_source *source, struct buf *out)
{
    enum status st = ST_OK;

    for (int i = 0; source->n_files > 1 && i < source->n_files; i++) {
        const struct source_file *file = &source->files[i];
        const char *slash = strrchr(file->path, '/');

        TRY(buf_printf(out, "%-12s %s, %.1f MiB\n", i == 0 ? "files" : "",
                       slash != NULL ? slash + 1 : file->path, (double)file->map.n_bytes / MIB),
            err);
    }
err:
    return st;
}

static enum status put_tokenizer(const struct model_source *source, struct buf *out)
{
    const struct model_config *c = &source->config;
    const char *text = source->chat_template;
    struct tokenizer *tokenizer = NULL;
    enum status st = model_source_tokenizer(source, &tokenizer);

    if (st == ST_NOMEM)
        goto done;
    if (st != ST_OK)
        TRY(buf_puts(out, "tokeniser    none that this version can use (see the message)\n"), done);
    else
        TRY(buf_printf(out, "tokeniser    %d tokens, fingerprint %016llx\n",
                       tokenizer_n_tokens(tokenizer),
                       (unsigned long long)tokenizer_fingerprint(tokenizer)),
            done);
    TRY(buf_puts(out, "BOS, EOS     "), done);
    if (c->bos_id >= 0)
        TRY(buf_printf(out, "%d; ", c->bos_id), done);
    else
        TRY(buf_puts(out, "none; "), done);
    for (int i = 0; i < c->n_eos; i++)
        TRY(buf_printf(out, "%s%d", i > 0 ? ", " : "", c->eos_ids[i]), done);
    TRY(buf_puts(out, c->n_eos > 0 ? "\n" : "none\n"), done);
    if (text != NULL) {
        TRY(buf_printf(out, "template     %zu bytes, hash %016llx; ", strlen(text),
                       (unsigned long long)hash_bytes(text, strlen(text), 0)),
            done);
        TRY(chat_template_describe(text, out), done);
        TRY(buf_puts(out, source->tool_template != NULL ? "; another for conversations with tools\n"
                                                        : "\n"),
            done);
    } else
        TRY(buf_puts(out, "template     none\n"), done);
done:
    tokenizer_destroy(tokenizer);
    return st;
}

enum status model_inspect(const struct model_source *source, struct buf *out)
{
    const struct model_config *c = &source->config;
    struct tensor_counts counts;
    const double kv_bytes = 2.0 * c->L * c->K * c->E * (double)ops_type_bytes(OPS_BF16);
    size_t mapped_bytes;
    const size_t own_bytes = weights_stored_bytes(source, &mapped_bytes);
    enum status st;

    count_tensors(source, &counts);
    TRY(buf_printf(out, "model        %s\n", source->path), err);
    TRY(buf_printf(out, "format       %s, %.1f MiB of weights%s\n", source->format,
                   counts.file_bytes / MIB, source->n_files > 1 ? " in several files" : ""),
        err);
    TRY(put_files(source, out), err);
    TRY(buf_printf(out, "family       %s%s%s\n", c->family,
                   c->tied ? ", LM head tied to the embedding" : "",
                   c->attention_bias ? ", biases in attention" : ""),
        err);
    TRY(buf_printf(out,
                   "sizes        %d layers, width %d, ffn width %d, %d query heads, %d kv heads, "
                   "head size %d, vocabulary %d\n",
                   c->L, c->D, c->F, c->H, c->K, c->E, c->V),
        err);
    TRY(buf_printf(out, "RoPE, norm   base %.10g, epsilon %g\n", c->rope_base, (double)c->eps),
        err);
    TRY(buf_printf(out, "context      %d tokens\n", c->context), err);
    TRY(put_types(&counts, out), err);
    TRY(buf_printf(out, "parameters   %.1f million\n", (double)counts.n_weights / 1e6), err);
    TRY(put_tokenizer(source, out), err);
    TRY(buf_printf(
            out,
            "memory       weights %.1f MiB as bf16, %.1f MiB with precision = \"stored\"; KV %.2f "
            "MiB per 1,000 tokens\n",
            (double)weights_bytes(c, OPS_BF16) / MIB, (double)(own_bytes + mapped_bytes) / MIB,
            1000.0 * kv_bytes / MIB),
        err);
    TRY(buf_printf(out, "fingerprint  %016llx\n",
                   (unsigned long long)model_source_fingerprint(source)),
        err);
err:
    return st;
}
