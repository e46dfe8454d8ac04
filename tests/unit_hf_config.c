/* TEST */
/*
 * unit_hf_config.c - config.json as transformers 4 and 5 write it, defaults of absent keys, and
 * everything that is refused, each with file, key and remedy.
 */
#include "model/source.h"
#include "test.h"

static enum status parse(const char *text, struct model_config *config)
{
    return hf_config_parse((const uint8_t *)text, strlen(text), "config.json", config);
}

/* What LlamaConfig() means when a file says nothing. */
static void defaults(void)
{
    struct model_config c;

    CHECK(parse("{\"model_type\": \"llama\"}", &c) == ST_OK);
    CHECK_STR(c.family, "llama");
    CHECK(c.V == 32000 && c.D == 4096 && c.F == 11008 && c.L == 32 && c.H == 32 && c.K == 32);
    CHECK(c.E == 128 && c.context == 2048 && c.eps == 1e-6f && c.rope.base == 10000.0);
    CHECK(!c.tied && !c.qkv_bias && !c.o_bias && c.bos_id == 1 && c.n_eos == 1 &&
          c.eos_ids[0] == 2);
    /* The default ids are none where the vocabulary has no such token. */
    CHECK(parse("{\"model_type\": \"llama\", \"vocab_size\": 2}", &c) == ST_OK);
    CHECK(c.bos_id == 1 && c.n_eos == 0);
    CHECK(parse("{\"model_type\": \"llama\", \"vocab_size\": 1}", &c) == ST_OK);
    CHECK(c.bos_id == -1 && c.n_eos == 0);
}

static void version_4(void)
{
    struct model_config c;

    CHECK(parse("{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false,"
                "\"attention_dropout\": 0.0, \"bos_token_id\": 1, \"eos_token_id\": [2, 0, 2],"
                "\"hidden_act\": \"silu\", \"hidden_size\": 576, \"initializer_range\": 0.04,"
                "\"intermediate_size\": 1536, \"is_llama_config\": true,"
                "\"max_position_embeddings\": 8192, \"mlp_bias\": false, \"model_type\": \"llama\","
                "\"num_attention_heads\": 9, \"num_hidden_layers\": 30, \"num_key_value_heads\": 3,"
                "\"pad_token_id\": 2, \"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05,"
                "\"rope_interleaved\": false, \"rope_scaling\": null, \"rope_theta\": 100000,"
                "\"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\","
                "\"transformers.js_config\": {\"kv_cache_dtype\": {}}, \"_name_or_path\": 1,"
                "\"transformers_version\": \"4.42.3\", \"use_cache\": true, \"vocab_size\": 49152}",
                &c) == ST_OK);
    CHECK(c.L == 30 && c.D == 576 && c.H == 9 && c.K == 3 && c.E == 64 && c.V == 49152);
    CHECK(c.rope.base == 100000.0 && c.tied && c.eps == 1e-5f);
    CHECK(c.n_eos == 2 && c.eos_ids[0] == 2 && c.eos_ids[1] == 0);
}

static void biases(void)
{
    struct model_config c;

    CHECK(parse("{\"model_type\": \"llama\", \"attention_bias\": true}", &c) == ST_OK);
    CHECK(c.qkv_bias && c.o_bias);
    CHECK(parse("{\"model_type\": \"llama\", \"attention_bias\": false}", &c) == ST_OK);
    CHECK(!c.qkv_bias && !c.o_bias);
    CHECK(parse("{\"model_type\": \"llama\", \"attention_bias\": null}", &c) == ST_OK);
    CHECK(!c.qkv_bias && !c.o_bias);
}

/* rope_parameters; head_dim; nulls; rope_theta inside goes before rope_theta beside. */
static void version_5(void)
{
    struct model_config c;

    CHECK(parse("{\"model_type\": \"llama\", \"dtype\": \"float32\", \"head_dim\": 32,"
                "\"hidden_size\": 96, \"num_attention_heads\": 4, \"num_key_value_heads\": null,"
                "\"eos_token_id\": null, \"bos_token_id\": null, \"pad_token_id\": null,"
                "\"rope_parameters\": {\"rope_theta\": 5000.5, \"rope_type\": \"default\"}}",
                &c) == ST_OK);
    CHECK(c.E == 32 && c.K == 4 && c.rope.base == 5000.5 && c.n_eos == 0 && c.bos_id == -1);
    CHECK(parse("{\"model_type\": \"llama\", \"rope_theta\": 7, \"rope_parameters\":"
                "{\"rope_theta\": 8, \"rope_type\": \"default\"}}",
                &c) == ST_OK);
    CHECK(c.rope.base == 8.0);
    CHECK(parse("{\"model_type\": \"llama\", \"rope_theta\": 7, \"rope_parameters\":"
                "{\"rope_type\": \"default\", \"partial_rotary_factor\": 1.0}}",
                &c) == ST_OK);
    CHECK(c.rope.base == 7.0);
    CHECK(parse("{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"default\"},"
                "\"layer_types\": [\"full_attention\"], \"hidden_act\": \"swish\"}",
                &c) == ST_OK);
    CHECK(c.rope.base == 10000.0);
}

static void generation(void)
{
    static const char several[] = "{\"eos_token_id\": [5, 6], \"temperature\": 0.6}";
    static const char none[] = "{\"eos_token_id\": null, \"transformers_version\": \"5\"}";
    static const char bad[] = "{\"eos_token_id\": 32000}";
    struct model_config c;

    CHECK(parse("{\"model_type\": \"llama\"}", &c) == ST_OK);
    CHECK(hf_config_parse_generation((const uint8_t *)none, sizeof none - 1, "g", &c) == ST_OK);
    CHECK(c.n_eos == 1 && c.eos_ids[0] == 2);
    CHECK(hf_config_parse_generation((const uint8_t *)several, sizeof several - 1, "g", &c) ==
          ST_OK);
    CHECK(c.n_eos == 2 && c.eos_ids[0] == 5 && c.eos_ids[1] == 6);
    CHECK(hf_config_parse_generation((const uint8_t *)bad, sizeof bad - 1, "g.json", &c) ==
          ST_FORMAT);
    CHECK_HAS(log_last_error(), "g.json: key eos_token_id must be a token id below");
}

/* Each is put between {"model_type": "llama", and }, unless it begins with a brace. */
static const struct refused {
    const char *text;
    enum status status;
    const char *says[2];
} refused[] = {
    /* not JSON, or not as it must be */
    {"{", ST_FORMAT, {"line 1 column", "get it again"}},
    {"{} x", ST_FORMAT, {"line 1 column"}},
    {"{\"a\": 1, \"a\": 1}", ST_FORMAT, {"duplicate"}},
    {"{}", ST_FORMAT, {"key model_type must be"}},
    {"{\"model_type\": \"gpt2\"}", ST_UNSUPPORTED, {"family gpt2", "has: llama, mistral"}},
    {"\"architectures\": [\"LlamaModel\"]", ST_UNSUPPORTED, {"architectures", "LlamaModel"}},
    {"\"architectures\": \"LlamaForCausalLM\"", ST_FORMAT, {"architectures", "list of one name"}},
    {"\"vocab_size\": 32000.0", ST_FORMAT, {"vocab_size must be a positive whole number"}},
    {"\"vocab_size\": null", ST_FORMAT, {"vocab_size must be"}},
    {"\"hidden_size\": -4096", ST_FORMAT, {"hidden_size must be a positive"}},
    {"\"num_hidden_layers\": 99999999999", ST_FORMAT, {"num_hidden_layers must be"}},
    {"\"num_hidden_layers\": 9999999999999999999999", ST_FORMAT, {"too big"}},
    {"\"num_hidden_layers\": 2000000000", ST_FORMAT, {"layers is 2000000000", "damaged"}},
    {"\"num_attention_heads\": 0", ST_FORMAT, {"num_attention_heads must be"}},
    {"\"num_attention_heads\": 33", ST_FORMAT, {"num_attention_heads 33 does not divide"}},
    {"\"num_key_value_heads\": 5", ST_FORMAT, {"32 query heads cannot share 5 kv heads"}},
    {"\"rms_norm_eps\": \"1e-5\"", ST_FORMAT, {"rms_norm_eps must be a number"}},
    {"\"rms_norm_eps\": -1", ST_FORMAT, {"epsilon is -1"}},
    {"\"rope_theta\": 0", ST_FORMAT, {"RoPE base 0"}},
    {"\"rope_theta\": null", ST_FORMAT, {"rope_theta must be a number"}},
    {"\"tie_word_embeddings\": 1", ST_FORMAT, {"tie_word_embeddings must be true or false"}},
    {"\"attention_bias\": 1", ST_FORMAT, {"attention_bias must be true or false"}},
    {"\"attention_bias\": \"true\"", ST_FORMAT, {"attention_bias must be true or false"}},
    {"\"eos_token_id\": 32000", ST_FORMAT, {"eos_token_id must be a token id below vocab_size"}},
    {"\"eos_token_id\": [1, -1]", ST_FORMAT, {"eos_token_id must be"}},
    {"\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", ST_FORMAT, {"at most 16"}},
    {"\"bos_token_id\": [1]", ST_FORMAT, {"bos_token_id must be"}},
    {"\"rope_parameters\": []", ST_OK, {NULL}},
    {"\"rope_parameters\": [1]", ST_FORMAT, {"rope_parameters must be an object"}},
    {"\"rope_parameters\": {\"rope_theta\": 2.0}, \"rope_scaling\": {\"type\": \"default\"}",
     ST_FORMAT,
     {"rope_scaling and rope_parameters contradict"}},
    /* well-formed, and something else than this version computes */
    {"\"head_dim\": 72", ST_UNSUPPORTED, {"head size 72", "multiples of 16"}},
    {"\"head_dim\": 512", ST_UNSUPPORTED, {"head size 512", "at most 256"}},
    {"\"hidden_act\": \"gelu\"", ST_UNSUPPORTED, {"hidden_act = \"gelu\"", "not supported"}},
    {"\"mlp_bias\": true", ST_UNSUPPORTED, {"mlp_bias = true"}},
    {"\"pretraining_tp\": 2", ST_UNSUPPORTED, {"pretraining_tp = 2"}},
    {"\"rope_interleaved\": true", ST_UNSUPPORTED, {"rope_interleaved = true"}},
    {"\"partial_rotary_factor\": 0.5", ST_UNSUPPORTED, {"partial_rotary_factor = 0.5"}},
    {"\"sliding_window\": 4096", ST_UNSUPPORTED, {"sliding_window = 4096"}},
    {"\"layer_types\": [\"sliding_attention\"]", ST_UNSUPPORTED, {"layer_types", "sliding"}},
    {"\"quantization_config\": {\"bits\": 4}",
     ST_UNSUPPORTED,
     {"quantization_config.quant_method"}},
    {"\"quantization_config\": {\"quant_method\": \"gptq\"}",
     ST_UNSUPPORTED,
     {"quantization_config.quant_method = \"gptq\"", "or as a GGUF file"}},
    {"\"quantization_config\": {\"quant_method\": \"fp8\"}", ST_OK, {NULL}},
    {"\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}",
     ST_OK,
     {NULL}},
    {"\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}",
     ST_UNSUPPORTED,
     {"quantization_config.weight_block_size = [0,128]"}},
    {"\"quantization_config\": {\"quant_method\": \"fp8\", \"activation_scheme\": \"static\"}",
     ST_UNSUPPORTED,
     {"quantization_config.activation_scheme = \"static\""}},
    {"\"quantization_config\": {\"quant_method\": \"fp8\", \"scale_fmt\": \"ue8m0\"}",
     ST_UNSUPPORTED,
     {"quantization_config.scale_fmt"}},
    {"\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"pack-quantized\"}",
     ST_UNSUPPORTED,
     {"quantization_config.format = \"pack-quantized\""}},
    {"\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": "
     "\"float-quantized\","
     "\"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 4, \"type\": \"float\"}}}}",
     ST_UNSUPPORTED,
     {"quantization_config.config_groups = {\"num_bits\":4"}},
    {"\"auto_map\": {\"AutoModel\": \"m.M\"}", ST_UNSUPPORTED, {"auto_map"}},
    {"\"_attn_scale\": 8", ST_UNSUPPORTED, {"_attn_scale is not known", "remove it"}},
    {"\"num_experts\": 8", ST_UNSUPPORTED, {"num_experts is not known", "remove it"}},
    {"\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}",
     ST_FORMAT,
     {"rope_scaling.factor must be", "from 1"}},
    {"\"rope_scaling\": {\"type\": \"linear\"}", ST_FORMAT, {"rope_scaling.factor must be"}},
    {"\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.0}",
     ST_UNSUPPORTED,
     {"rope_scaling.type = \"dynamic\""}},
    {"\"rope_scaling\": {\"rope_type\": \"default\", \"factor\": 8.0}",
     ST_UNSUPPORTED,
     {"rope_scaling.factor = 8"}},
    {"\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 4,"
     "\"high_freq_factor\": 1, \"original_max_position_embeddings\": 8192}",
     ST_FORMAT,
     {"low_freq_factor must be", "below high_freq_factor"}},
    {"\"rope_parameters\": {\"rope_type\": \"yarn\"}", ST_UNSUPPORTED, {"rope_type = \"yarn\""}},
    {"\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}",
     ST_UNSUPPORTED,
     {"rope_parameters.full_attention"}},
    {"\"rope_parameters\": {\"partial_rotary_factor\": 0.25}", ST_UNSUPPORTED, {"0.25"}},
};

static void each_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const struct refused *r = &refused[i];
        struct model_config c = {.L = 77};
        char text[512];

        if (r->text[0] == '{')
            snprintf(text, sizeof text, "%s", r->text);
        else
            snprintf(text, sizeof text, "{\"model_type\": \"llama\", %s}", r->text);
        const enum status st = parse(text, &c);
        if (st != r->status)
            fprintf(stderr, "%s\n", text);
        CHECK_INT(st, r->status);
        if (st == ST_OK)
            continue;
        CHECK_INT(c.L, 77); /* outputs are written only on success */
        CHECK_HAS(log_last_error(), "config.json: ");
        for (int s = 0; s < 2 && r->says[s] != NULL; s++)
            CHECK_HAS(log_last_error(), r->says[s]);
    }
}

/* Deep nesting is refused before it can exhaust the stack. */
static void deep_nesting(void)
{
    enum { DEPTH = 100000 };
    struct model_config c;
    char *text = malloc(DEPTH + 64);
    int n = snprintf(text, 64, "{\"model_type\": ");

    memset(text + n, '[', DEPTH);
    text[n + DEPTH] = '\0';
    CHECK(parse(text, &c) == ST_FORMAT);
    CHECK_HAS(log_last_error(), "depth");
    free(text);
}

/* transformers writes a length without bound as an integer that fits no type, into one file;
 * elsewhere and where no number can hold it, it is an error. */
static void huge_integers(void)
{
    static const char huge[] = "{\"model_max_length\": 1000000000000000019884624838656}";
    static const char wild[] = "{\"a\": 1e999}";
    json_t *object = NULL;

    CHECK_INT(json_file_parse((const uint8_t *)huge, sizeof huge - 1, "config.json", &object),
              ST_FORMAT);
    CHECK(json_file_parse((const uint8_t *)huge, sizeof huge - 1, "m/tokenizer_config.json",
                          &object) == ST_OK);
    CHECK(json_real_value(json_object_get(object, "model_max_length")) == 1e30);
    json_decref(object);
    CHECK_INT(
        json_file_parse((const uint8_t *)wild, sizeof wild - 1, "m/tokenizer_config.json", &object),
        ST_FORMAT);
    CHECK_HAS(log_last_error(), "m/tokenizer_config.json: line 1");
}

int main(void)
{
    huge_integers();
    defaults();
    version_4();
    version_5();
    biases();
    generation();
    each_refused();
    deep_nesting();
    TEST_END();
}
