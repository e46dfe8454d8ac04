/* TEST */
/*
 * unit_mutations.c - whether the right answers can show bugs.  Each classic mistake of a llama
 * decoder, made on purpose, has to miss the f32 limit (NMSE 1e-11) by a factor of 100 at least.
 *
 * The mistakes are made outside the program: in the configuration that the decoder is given, or in
 * a copy of the checkpoint whose weights are moved so that a right decoder computes what a wrong
 * one would.
 */
#include "mutations.h"

#define GOLDEN "tests/golden/"

/* ---- mistakes in the configuration --------------------------------------------------------- */

static void wrong_config(const char *model, double rope_base, float eps)
{
    char path[128], golden[160];

    snprintf(path, sizeof path, GOLDEN "%s", model);
    snprintf(golden, sizeof golden, "%s/model.golden", path);
    struct golden g = golden_read(golden);
    const struct model_config right = config_of(path);
    struct model_config wrong = right;
    CHECK(error_of(path, NULL, &g) <= LIMIT);
    wrong.rope.base = rope_base;
    expect_shown(model, "RoPE base", error_of(path, &wrong, &g));
    if (right.qkv_bias) {
        wrong = right;
        wrong.qkv_bias = wrong.o_bias = false;
        expect_shown(model, "all biases left out", error_of(path, &wrong, &g));
    }
    if (eps > 0) {
        wrong = right;
        wrong.eps = eps;
        expect_shown(model, "eps", error_of(path, &wrong, &g));
    }
    buf_free(&g.file);
}

/* ---- mistakes in the weights ---------------------------------------------------------------- */

/* Order of n_heads heads of E rows: from halves (i, i + E/2) to neighbours, or back. */
static void pair_order(int *order, int n_heads, int E, bool to_neighbours)
{
    for (int h = 0; h < n_heads; h++) {
        for (int i = 0; i < E / 2; i++) {
            for (int part = 0; part < 2; part++) {
                const int halves = h * E + part * (E / 2) + i, neighbours = h * E + 2 * i + part;

                order[to_neighbours ? neighbours : halves] = to_neighbours ? halves : neighbours;
            }
        }
    }
}

/* Outputs of a projection: rows of its weight, elements of its bias. */
static void reorder_bias(const struct checkpoint *cp, int layer, const char *name, const int *order)
{
    const struct checkpoint_tensor bias = checkpoint_layer_bias(cp, layer, name);

    checkpoint_reorder_cols(&bias, order);
}

static void reorder_outputs(const struct checkpoint *cp, const struct model_config *c, int layer,
                            const char *name, const int *order)
{
    const struct checkpoint_tensor weight = checkpoint_layer_tensor(cp, layer, name);

    checkpoint_reorder_rows(&weight, order);
    if (c->qkv_bias)
        reorder_bias(cp, layer, name, order);
}

static void reorder_q_k(const struct checkpoint *cp, const struct model_config *c,
                        bool to_neighbours)
{
    int order[1024];

    for (int l = 0; l < c->L; l++) {
        pair_order(order, c->H, c->E, to_neighbours);
        reorder_outputs(cp, c, l, "self_attn.q_proj", order);
        pair_order(order, c->K, c->E, to_neighbours);
        reorder_outputs(cp, c, l, "self_attn.k_proj", order);
    }
}

/* The rows as a llama GGUF holds them, not put back. */
static void unpermuted(const struct checkpoint *cp, const struct model_config *c)
{
    reorder_q_k(cp, c, true);
}

/* Rotating neighbours instead of halves is rotating halves of rows moved the other way. */
static void neighbour_pairs(const struct checkpoint *cp, const struct model_config *c)
{
    reorder_q_k(cp, c, false);
}

/* Query head h reads kv head h % K instead of h / (H / K): as if the heads stood in another order,
 * in q and in the columns of o. */
static void grouping(const struct checkpoint *cp, const struct model_config *c)
{
    int order[1024], n = 0;

    for (int k = 0; k < c->K; k++)
        for (int h = k; h < c->H; h += c->K)
            for (int e = 0; e < c->E; e++)
                order[n++] = h * c->E + e;
    for (int l = 0; l < c->L; l++) {
        const struct checkpoint_tensor o = checkpoint_layer_tensor(cp, l, "self_attn.o_proj");

        reorder_outputs(cp, c, l, "self_attn.q_proj", order);
        checkpoint_reorder_cols(&o, order);
    }
}

/* As if every layer's were left out. */
static void no_bias(const struct checkpoint *cp, const struct model_config *c, const char *name)
{
    for (int l = 0; l < c->L; l++) {
        const struct checkpoint_tensor bias = checkpoint_layer_bias(cp, l, name);

        checkpoint_fill(&bias, 0);
    }
}

static void no_q_bias(const struct checkpoint *cp, const struct model_config *c)
{
    no_bias(cp, c, "self_attn.q_proj");
}

static void no_k_bias(const struct checkpoint *cp, const struct model_config *c)
{
    no_bias(cp, c, "self_attn.k_proj");
}

static void no_v_bias(const struct checkpoint *cp, const struct model_config *c)
{
    no_bias(cp, c, "self_attn.v_proj");
}

static void no_o_bias(const struct checkpoint *cp, const struct model_config *c)
{
    no_bias(cp, c, "self_attn.o_proj");
}

/* The biases as a llama GGUF holds them, not put back, beside rows that are. */
static void unpermuted_biases(const struct checkpoint *cp, const struct model_config *c)
{
    int order[1024];

    for (int l = 0; l < c->L; l++) {
        pair_order(order, c->H, c->E, true);
        reorder_bias(cp, l, "self_attn.q_proj", order);
        pair_order(order, c->K, c->E, true);
        reorder_bias(cp, l, "self_attn.k_proj", order);
    }
}

/* A layer that adds nothing is a layer left out. */
static void skipped_layer(const struct checkpoint *cp, const struct model_config *c)
{
    const struct checkpoint_tensor o = checkpoint_layer_tensor(cp, c->L - 1, "self_attn.o_proj");
    const struct checkpoint_tensor down = checkpoint_layer_tensor(cp, c->L - 1, "mlp.down_proj");

    checkpoint_fill(&o, 0);
    checkpoint_fill(&down, 0);
    if (c->qkv_bias) {
        const struct checkpoint_tensor bias =
            checkpoint_layer_bias(cp, c->L - 1, "self_attn.o_proj");

        checkpoint_fill(&bias, 0);
    }
}

static void layer_norm_to_one(const struct checkpoint *cp, const char *name)
{
    const struct checkpoint_tensor norm = checkpoint_layer_tensor(cp, 0, name);

    checkpoint_fill(&norm, norm.one);
}

static void no_attn_norm_weight(const struct checkpoint *cp, const struct model_config *c)
{
    (void)c;
    layer_norm_to_one(cp, "input_layernorm");
}

static void no_ffn_norm_weight(const struct checkpoint *cp, const struct model_config *c)
{
    (void)c;
    layer_norm_to_one(cp, "post_attention_layernorm");
}

static void no_final_norm_weight(const struct checkpoint *cp, const struct model_config *c)
{
    (void)c;
    const struct checkpoint_tensor norm = checkpoint_tensor(cp, "model.norm.weight");

    checkpoint_fill(&norm, norm.one);
}

static void gate_and_up_swapped(const struct checkpoint *cp, const struct model_config *c)
{
    for (int l = 0; l < c->L; l++) {
        const struct checkpoint_tensor gate = checkpoint_layer_tensor(cp, l, "mlp.gate_proj");
        const struct checkpoint_tensor up = checkpoint_layer_tensor(cp, l, "mlp.up_proj");

        for (size_t i = 0; i < gate.n_rows * gate.n_cols * gate.elem_bytes; i++) {
            const uint8_t byte = gate.data[i];

            gate.data[i] = up.data[i];
            up.data[i] = byte;
        }
    }
}

static const struct {
    const char *mistake;
    void (*make)(const struct checkpoint *cp, const struct model_config *c);
    enum { ANY_MODEL, GROUPS, BIASES } needs; /* GROUPS: 1 < K < H */
} mistakes[] = {
    {"q and k left as in a GGUF", unpermuted, ANY_MODEL},
    {"RoPE of neighbours, not halves", neighbour_pairs, ANY_MODEL},
    {"wrong kv head of a query head", grouping, GROUPS},
    {"last layer skipped", skipped_layer, ANY_MODEL},
    {"no weight in an attention norm", no_attn_norm_weight, ANY_MODEL},
    {"no weight in an ffn norm", no_ffn_norm_weight, ANY_MODEL},
    {"no weight in the final norm", no_final_norm_weight, ANY_MODEL},
    {"gate and up swapped", gate_and_up_swapped, ANY_MODEL},
    {"q bias missing", no_q_bias, BIASES},
    {"k bias missing", no_k_bias, BIASES},
    {"v bias missing", no_v_bias, BIASES},
    {"o bias missing", no_o_bias, BIASES},
    {"q and k biases left as in a GGUF", unpermuted_biases, BIASES},
};

static void wrong_weights(const char *model)
{
    char path[128], golden[160];

    snprintf(path, sizeof path, GOLDEN "%s", model);
    snprintf(golden, sizeof golden, "%s/model.golden", path);
    struct golden g = golden_read(golden);
    const struct model_config c = config_of(path);
    const bool has[] = {[ANY_MODEL] = true, [GROUPS] = c.K > 1 && c.K < c.H, [BIASES] = c.qkv_bias};

    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct checkpoint cp = checkpoint_read(path);

        if (has[mistakes[i].needs]) {
            mistakes[i].make(&cp, &c);
            expect_shown(model, mistakes[i].mistake, error_of(checkpoint_write(&cp), NULL, &g));
        }
        checkpoint_end(&cp);
    }
    buf_free(&g.file);
}

/* The copy itself changes nothing. */
static void untouched_copy(void)
{
    struct golden g = golden_read(GOLDEN "small/model.golden");
    struct checkpoint cp = checkpoint_read(GOLDEN "small");

    CHECK(error_of(checkpoint_write(&cp), NULL, &g) <= LIMIT);
    checkpoint_end(&cp);
    buf_free(&g.file);
}

int main(void)
{
    untouched_copy();
    wrong_config("small", 500000.0, 0);
    wrong_config("wide_eps", 10000.0, 1e-5f);
    wrong_config("odd", 10000.0, 0);
    wrong_config("biased", 500000.0, 0);
    wrong_weights("small");
    wrong_weights("wide_eps");
    wrong_weights("odd");
    wrong_weights("biased");
    TEST_END();
}
