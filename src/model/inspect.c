/*
 * inspect.c - what an open model file holds, as text for people.
 */
#include "model/tower.h"

static const double MIB = 1 << 20;

/* What a tensor is for, as far as a choice of its type goes. */
enum tensor_class {
    CLASS_EMBED,
    CLASS_HEAD,
    CLASS_ATTENTION,
    CLASS_FFN,
    CLASS_EXPERTS,
    CLASS_ROUTER,
    CLASS_NORM,
    CLASS_BIAS,
    CLASS_COUNT
};

static const char *const class_names[CLASS_COUNT] = {
    [CLASS_EMBED] = "embedding", [CLASS_HEAD] = "LM head",    [CLASS_ATTENTION] = "attention",
    [CLASS_FFN] = "ffn",         [CLASS_EXPERTS] = "experts", [CLASS_ROUTER] = "router",
    [CLASS_NORM] = "norms",      [CLASS_BIAS] = "biases",
};

static enum tensor_class class_of(enum weight_id id)
{
    if (weight_is_bias(id))
        return CLASS_BIAS;
    if (weight_is_norm(id))
        return CLASS_NORM;
    if (weight_of_expert(id))
        return CLASS_EXPERTS;
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
    case WEIGHT_ROUTER:
        return CLASS_ROUTER;
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
    for (int i = 0; i < WEIGHT_COUNT; i++) {
        const enum weight_id id = (enum weight_id)i;

        for (int index = 0; index < weight_times(c, id); index++) {
            const struct tensor_view *view = model_source_tensor(source, id, index);

            if (view == NULL)
                continue;
            out->n_weights += view->n_rows * view->n_cols;
            out->file_bytes += (double)view->n_rows * (double)view->row_bytes;
            out->of[class_of(id)][view->type] += view->first_row == 0; /* once a tensor */
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

static enum status put_rope(const struct model_config *c, struct buf *out)
{
    enum status st;

    TRY(buf_printf(out, "RoPE, norm   base %.10g", c->rope.base), err);
    if (c->rope.scaling[0] != '\0')
        TRY(buf_printf(out, " scaled (%s, up to %.4gx)", c->rope.scaling,
                       c->rope.divisors[c->E / 2 - 1]),
            err);
    if (c->rope_window.base != 0)
        TRY(buf_printf(out, ", %.10g in layers with a window", c->rope_window.base), err);
    TRY(buf_printf(out, ", epsilon %g\n", (double)c->eps), err);
err:
    return st;
}

/* What a plain llama does not have; a line of its own where there is any. */
static enum status put_differences(const struct model_config *c, struct buf *out)
{
    int n_window = 0, n_no_rope = 0;
    enum status st = ST_OK;

    for (int l = 0; l < c->L; l++) {
        n_window += (c->layers[l] & LAYER_WINDOW) != 0;
        n_no_rope += (c->layers[l] & LAYER_NO_ROPE) != 0;
    }
    if (n_window > 0)
        TRY(buf_printf(out, "window       %d tokens in %d of %d layers\n", c->window, n_window,
                       c->L),
            err);
    if (n_no_rope > 0)
        TRY(buf_printf(out, "no RoPE      in %d of %d layers\n", n_no_rope, c->L), err);
    if (c->X > 0)
        TRY(buf_printf(out, "experts      %d, of which a token uses %d\n", c->X, c->n_used_experts),
            err);
    if (c->attn_softcap > 0 || c->final_softcap > 0)
        TRY(buf_printf(out, "soft caps    %g of attention, %g of logits (0: none)\n",
                       c->attn_softcap, c->final_softcap),
            err);
err:
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
                   c->qkv_bias || c->o_bias ? ", biases in attention" : ""),
        err);
    TRY(buf_printf(out,
                   "sizes        %d layers, width %d, ffn width %d, %d query heads, %d kv heads, "
                   "head size %d, vocabulary %d\n",
                   c->L, c->D, c->F, c->H, c->K, c->E, c->V),
        err);
    TRY(put_rope(c, out), err);
    TRY(put_differences(c, out), err);
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
    TRY(tower_inspect(source, out), err);
    TRY(buf_printf(out, "fingerprint  %016llx\n",
                   (unsigned long long)model_source_fingerprint(source)),
        err);
err:
    return st;
}
