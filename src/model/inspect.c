/*
 * inspect.c - what an open model file holds, as text for people.
 */
#include "model/source.h"

static const double MIB = 1 << 20;

/* Weights in all, and tensors of each type. */
static int64_t count_weights(const struct model_source *source, int n_of_type[TENSOR_TYPE_COUNT],
                             double *out_file_bytes)
{
    const struct model_config *c = &source->config;
    int64_t n_weights = 0;

    *out_file_bytes = 0;
    for (size_t i = 0; i < model_n_views(c); i++) {
        const struct tensor_view *view = &source->views[i];

        if (view->data == NULL)
            continue;
        n_weights += view->n_rows * view->n_cols;
        n_of_type[view->type]++;
        *out_file_bytes += (double)view->n_rows * (double)view->row_bytes;
    }
    return n_weights;
}

static enum status put_types(const int n_of_type[TENSOR_TYPE_COUNT], struct buf *out)
{
    const char *sep = "";
    enum status st;

    TRY(buf_puts(out, "types        "), err);
    for (int t = 0; t < TENSOR_TYPE_COUNT; t++) {
        if (n_of_type[t] == 0)
            continue;
        TRY(buf_printf(out, "%s%s in %d tensor%s", sep, tensor_type_name((enum tensor_type)t),
                       n_of_type[t], n_of_type[t] == 1 ? "" : "s"),
            err);
        sep = ", ";
    }
    TRY(buf_puts(out, "\n"), err);
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
    if (text != NULL)
        TRY(buf_printf(out, "template     %zu bytes, hash %016llx\n", strlen(text),
                       (unsigned long long)hash_bytes(text, strlen(text), 0)),
            done);
    else
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
    int n_of_type[TENSOR_TYPE_COUNT] = {0};
    double file_bytes = 0;
    const int64_t n_weights = count_weights(source, n_of_type, &file_bytes);
    const double kv_bytes = 2.0 * c->L * c->K * c->E * (double)ops_type_bytes(OPS_BF16);
    enum status st;

    TRY(buf_printf(out, "model        %s\n", source->path), err);
    TRY(buf_printf(out, "format       %s, %.1f MiB of weights\n", source->format, file_bytes / MIB),
        err);
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
    TRY(put_types(n_of_type, out), err);
    TRY(buf_printf(out, "parameters   %.1f million\n", (double)n_weights / 1e6), err);
    TRY(put_tokenizer(source, out), err);
    TRY(buf_printf(out, "memory       weights %.1f MiB as bf16, KV %.2f MiB per 1,000 tokens\n",
                   (double)weights_bytes(c, OPS_BF16) / MIB, 1000.0 * kv_bytes / MIB),
        err);
    TRY(buf_printf(out, "fingerprint  %016llx\n",
                   (unsigned long long)model_source_fingerprint(source)),
        err);
err:
    return st;
}
