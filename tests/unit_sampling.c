/* TEST */
/*
 * unit_sampling.c - sampling as the model's makers would have it: generation_config.json of a
 * directory and the keys of a GGUF file, and all that is refused, by name and with the remedy.
 */
#include "gguf_writer.h"
#include "model/source.h"
#include "test.h"

static enum status parse(const char *text, struct model_sampling *out)
{
    return hf_sampling_parse((const uint8_t *)text, strlen(text), "generation_config.json", out);
}

static void right(void)
{
    struct model_sampling s;

    /* Qwen's, Llama's and a file that only says which tokens end an answer */
    CHECK(parse("{\"bos_token_id\": 1, \"do_sample\": true, \"eos_token_id\": [2, 3],"
                "\"repetition_penalty\": 1.05, \"temperature\": 0.7, \"top_k\": 20, \"top_p\": 0.8,"
                "\"transformers_version\": \"4.37.0\"}",
                &s) == ST_OK);
    CHECK(s.temperature == 0.7 && s.top_k == 20 && s.top_p == 0.8 && s.min_p == 0.0);
    CHECK(s.repetition_penalty == 1.05);
    CHECK(parse("{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9}", &s) == ST_OK);
    CHECK(s.temperature == 0.6 && s.top_k == 50 && s.top_p == 0.9 && s.repetition_penalty == 1.0);
    CHECK(parse("{\"do_sample\": true, \"min_p\": 0.1, \"top_k\": 0, \"typical_p\": 1.0}", &s) ==
          ST_OK);
    CHECK(s.temperature == 1.0 && s.top_k == 0 && s.top_p == 1.0 && s.min_p == 0.1);
    CHECK(parse("{\"_from_model_config\": true, \"eos_token_id\": 2, \"num_beams\": 1}", &s) ==
          ST_OK);
    CHECK(s.temperature == 0.0 && s.top_k == 0 && s.top_p == 1.0 && s.repetition_penalty == 1.0);
    /* what transformers warns of: without do_sample, the most likely token is taken */
    CHECK(parse("{\"temperature\": 0.6, \"top_p\": 0.9, \"repetition_penalty\": 1.2}", &s) ==
          ST_OK);
    CHECK(s.temperature == 0.0 && s.top_p == 1.0 && s.repetition_penalty == 1.2);
}

static void refused(void)
{
    static const struct {
        const char *text;
        enum status status;
        const char *says;
    } cases[] = {
        {"{\"num_beams\": 4}", ST_UNSUPPORTED, "num_beams = 4"},
        {"{\"typical_p\": 0.9}", ST_UNSUPPORTED, "typical_p = 0.9"},
        {"{\"no_repeat_ngram_size\": 3}", ST_UNSUPPORTED, "no_repeat_ngram_size = 3"},
        {"{\"suppress_tokens\": [5]}", ST_UNSUPPORTED, "suppress_tokens = [5]"},
        {"{\"brand_new\": 1}", ST_UNSUPPORTED, "brand_new = 1"},
        {"{\"do_sample\": 1}", ST_FORMAT, "do_sample must be true or false"},
        {"{\"temperature\": \"hot\"}", ST_FORMAT, "temperature must be a number"},
        {"{\"do_sample\": true, \"temperature\": -1}", ST_FORMAT, "temperature is -1"},
        {"{\"do_sample\": true, \"top_p\": 1.5}", ST_FORMAT, "top_p is 1.5"},
        {"{\"do_sample\": true, \"top_k\": 1.5}", ST_FORMAT, "top_k is 1.5"},
        {"{\"do_sample\": true, \"top_k\": 1e300}", ST_FORMAT, "top_k is 1e+300"},
        {"{\"repetition_penalty\": 0}", ST_FORMAT, "repetition_penalty is 0"},
        {"[1]", ST_FORMAT, "must be a JSON object"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_sampling s = {.top_k = -5};

        CHECK_INT(parse(cases[i].text, &s), cases[i].status);
        CHECK_INT(s.top_k, -5); /* as it was */
        CHECK_HAS(log_last_error(), "generation_config.json: ");
        CHECK_HAS(log_last_error(), cases[i].says);
        if (cases[i].status == ST_UNSUPPORTED)
            CHECK_HAS(log_last_error(), "set temperature and the others in the job");
    }
}

static enum status of_gguf(const struct file *f, struct model_sampling *out)
{
    struct model_source *source = NULL;
    struct buf bytes;
    enum status st;

    write_file(f, &bytes);
    CHECK(source_begin("m.gguf", &source) == ST_OK);
    CHECK_INT(gguf_load(source, bytes.data, bytes.n_bytes, "m.gguf"), ST_OK);
    st = model_source_sampling(source, out);
    model_close(source);
    buf_free(&bytes);
    return st;
}

static void gguf_keys(void)
{
    struct model_sampling s;
    struct file f;

    fill(&f);
    CHECK_INT(of_gguf(&f, &s), ST_CONFIG);
    CHECK_HAS(log_last_error(), "m.gguf: has no keys general.sampling.*");
    key_float(&f, "general.sampling.temp", 0.5f);
    key_u32(&f, "general.sampling.top_k", 40);
    CHECK_INT(of_gguf(&f, &s), ST_OK);
    CHECK(s.temperature == 0.5 && s.top_k == 40 && s.top_p == 1.0 && s.repetition_penalty == 1.0);
    key_text(&f, "general.sampling.top_p", "most");
    CHECK_INT(of_gguf(&f, &s), ST_FORMAT);
    CHECK_HAS(log_last_error(), "general.sampling.top_p is of type string");
    key_float(&f, "general.sampling.top_p", 0.95f);
    CHECK_INT(of_gguf(&f, &s), ST_OK);
    key_u32(&f, "general.sampling.mirostat", 2);
    CHECK_INT(of_gguf(&f, &s), ST_UNSUPPORTED);
    CHECK_HAS(log_last_error(), "key general.sampling.mirostat is sampling");
    free_file(&f);
}

static void no_file(void)
{
    struct model_source *source = NULL;
    struct model_sampling s;

    CHECK_INT(model_open("tests/golden/small", &source), ST_OK);
    CHECK_INT(model_source_sampling(source, &s), ST_CONFIG);
    CHECK_HAS(log_last_error(), "small/generation_config.json: not there");
    model_close(source);
}

int main(void)
{
    right();
    refused();
    gguf_keys();
    no_file();
    TEST_END();
}
