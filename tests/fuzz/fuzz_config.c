/*
 * fuzz_config.c - any bytes as config.json and as generation_config.json: refused, or sizes that a
 * decoder can be made for.
 *
 * Every refusal logs a line: run it with -close_fd_mask=2.
 */
#include <stdlib.h>

#include "model/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check(const struct model_config *c)
{
    if (source_check_config(c, "fuzz") != ST_OK || c->bos_id < -1 || c->bos_id >= c->V)
        abort();
    if (c->n_eos < 0 || c->n_eos > MODEL_MAX_EOS)
        abort();
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] < 0 || c->eos_ids[i] >= c->V)
            abort();
}

static void check_tower(const struct model_config *c, const struct vision_config *v)
{
    const int sections = c->mrope[0] + c->mrope[1] + c->mrope[2];

    if (v->D != v->H * v->E || v->L < 0 || v->L > v->L_file || v->D_out != c->D ||
        c->image_id < 0 || c->image_id >= c->V || (sections != 0 && sections != c->E / 2))
        abort();
    if (vision_weights_bytes(v, OPS_BF16) > (size_t)1 << 60)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char plain[] = "{\"model_type\": \"llama\"}";
    struct model_config config = {0};

    struct vision_config vision = {0};
    bool sees = false;

    if (hf_config_parse_all(data, n_bytes, "config.json", &config, &vision, &sees) == ST_OK) {
        check(&config);
        if (sees)
            check_tower(&config, &vision);
    }
    if (hf_config_parse((const uint8_t *)plain, sizeof plain - 1, "plain", &config) != ST_OK)
        abort();
    if (hf_config_parse_generation(data, n_bytes, "generation_config.json", &config) == ST_OK)
        check(&config);
    struct model_sampling sampling;
    if (hf_sampling_parse(data, n_bytes, "generation_config.json", &sampling) == ST_OK &&
        !(sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p > 0 &&
          sampling.min_p >= 0 && sampling.repetition_penalty > 0))
        abort();
    return 0;
}
