/*
 * families.c - the table of model families: what each has in common, whatever file a model is in.
 *
 * A family here is a set of values of struct model_config, not code: the decoder knows only those.
 * What a file's keys add is read in hf_config.c and gguf_hparams.c.
 */
#include <stdio.h>

#include "model/source.h"

static const struct model_family families[FAMILY_COUNT] = {
    [FAMILY_LLAMA] =
        {
            .name = "llama",
            .hf_type = "llama",
            .hf_class = "LlamaForCausalLM",
            .gguf_arch = "llama",
            .gguf_permuted = true,
            .window_layers = WINDOW_EVERYWHERE,
        },
    [FAMILY_MISTRAL] =
        {
            .name = "mistral",
            .hf_type = "mistral",
            .hf_class = "MistralForCausalLM",
            .window_layers = WINDOW_EVERYWHERE,
        },
    [FAMILY_QWEN2] =
        {
            .name = "qwen2",
            .hf_type = "qwen2",
            .hf_class = "Qwen2ForCausalLM",
            .gguf_arch = "qwen2",
            .window_layers = WINDOW_HIGH,
            .common = {.qkv_bias = true},
        },
    [FAMILY_QWEN3] =
        {
            .name = "qwen3",
            .hf_type = "qwen3",
            .hf_class = "Qwen3ForCausalLM",
            .gguf_arch = "qwen3",
            .window_layers = WINDOW_HIGH,
            .common = {.qk_norm = QK_NORM_HEAD},
        },
    [FAMILY_GEMMA2] =
        {
            .name = "gemma2",
            .hf_type = "gemma2",
            .hf_class = "Gemma2ForCausalLM",
            .gguf_arch = "gemma2",
            .hf_less_one = true,
            .embed_by_width = true,
            .window_layers = WINDOW_PERIOD,
            .window_period = 2,
            .common = {.activation = ACTIVATION_GELU,
                       .post_norm = true,
                       .embed_scale_rounded = true},
        },
    [FAMILY_GEMMA3] =
        {
            .name = "gemma3",
            .hf_type = "gemma3_text",
            .hf_class = "Gemma3ForCausalLM",
            .gguf_arch = "gemma3",
            .hf_less_one = true,
            .embed_by_width = true,
            .window_layers = WINDOW_PERIOD,
            .window_period = 6,
            .common = {.activation = ACTIVATION_GELU,
                       .qk_norm = QK_NORM_HEAD,
                       .post_norm = true,
                       .embed_scale_rounded = true},
        },
    [FAMILY_SMOLLM3] =
        {
            .name = "smollm3",
            .hf_type = "smollm3",
            .hf_class = "SmolLM3ForCausalLM",
            .gguf_arch = "smollm3",
            .gguf_permuted = true,
            .window_layers = WINDOW_NO_ROPE,
            .no_rope_period = 4,
        },
    [FAMILY_PHI3] =
        {
            .name = "phi3",
            .hf_type = "phi3",
            .hf_class = "Phi3ForCausalLM",
            .gguf_arch = "phi3",
            .window_layers = WINDOW_EVERYWHERE,
        },
    [FAMILY_OLMO2] =
        {
            .name = "olmo2",
            .hf_type = "olmo2",
            .hf_class = "Olmo2ForCausalLM",
            .gguf_arch = "olmo2",
            .common = {.qk_norm = QK_NORM_ALL, .no_pre_norm = true, .post_norm = true},
        },
    [FAMILY_GRANITE] =
        {
            .name = "granite",
            .hf_type = "granite",
            .hf_class = "GraniteForCausalLM",
            .gguf_arch = "granite",
            .gguf_permuted = true,
        },
    [FAMILY_MIXTRAL] =
        {
            .name = "mixtral",
            .hf_type = "mixtral",
            .hf_class = "MixtralForCausalLM",
            .window_layers = WINDOW_EVERYWHERE,
            .common = {.normalise_experts = true},
        },
    [FAMILY_QWEN3MOE] =
        {
            .name = "qwen3moe",
            .hf_type = "qwen3_moe",
            .hf_class = "Qwen3MoeForCausalLM",
            .gguf_arch = "qwen3moe",
            .window_layers = WINDOW_EVERYWHERE,
            .common = {.qk_norm = QK_NORM_HEAD},
        },
    [FAMILY_OLMOE] =
        {
            .name = "olmoe",
            .hf_type = "olmoe",
            .hf_class = "OlmoeForCausalLM",
            .gguf_arch = "olmoe",
            .common = {.qk_norm = QK_NORM_ALL},
        },
    [FAMILY_QWEN2VL] =
        {
            .name = "qwen2vl",
            .hf_type = "qwen2_vl",
            .hf_class = "Qwen2VLForConditionalGeneration",
            .window_layers = WINDOW_HIGH,
            .common = {.qkv_bias = true},
        },
};

const struct model_family *family_of_id(enum family_id id)
{
    return &families[id];
}

const struct model_family *family_of_name(const char *name)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

const struct model_family *family_of_hf_type(const char *type)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(families[i].hf_type, type) == 0)
            return &families[i];
    return NULL;
}

const struct model_family *family_of_gguf(const char *arch, size_t n_bytes)
{
    for (int i = 0; i < FAMILY_COUNT; i++) {
        const char *name = families[i].gguf_arch;

        if (name != NULL && strlen(name) == n_bytes && memcmp(name, arch, n_bytes) == 0)
            return &families[i];
    }
    return NULL;
}

unsigned family_mask(const struct model_family *family)
{
    return family_bit((enum family_id)(family - families));
}

const char *families_put(bool gguf, char *out, size_t n_bytes)
{
    size_t n = 0;

    out[0] = '\0';
    for (int i = 0; i < FAMILY_COUNT && n < n_bytes; i++) {
        const char *name = gguf ? families[i].gguf_arch : families[i].hf_type;

        if (name != NULL)
            n += (size_t)snprintf(out + n, n_bytes - n, "%s%s", n > 0 ? ", " : "", name);
    }
    return out;
}

void family_set_windows(const struct model_family *family, struct model_config *c,
                        int max_window_layers)
{
    for (int l = 0; l < c->L && l < MODEL_MAX_L; l++) {
        bool has = false;

        switch (family->window_layers) {
        case WINDOW_NOWHERE:
            break;
        case WINDOW_EVERYWHERE:
            has = true;
            break;
        case WINDOW_HIGH:
            has = l >= max_window_layers;
            break;
        case WINDOW_PERIOD:
            has = (l + 1) % family->window_period != 0;
            break;
        case WINDOW_NO_ROPE:
            has = (c->layers[l] & LAYER_NO_ROPE) != 0;
            break;
        }
        if (has)
            c->layers[l] |= LAYER_WINDOW;
    }
}

void family_set_no_rope(struct model_config *c, int period)
{
    for (int l = 0; period > 0 && l < c->L && l < MODEL_MAX_L; l++)
        if ((l + 1) % period == 0)
            c->layers[l] |= LAYER_NO_ROPE;
}
