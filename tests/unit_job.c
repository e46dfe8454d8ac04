/* TEST */
/*
 * unit_job.c - job files, --set, defaults, messages for what is wrong, and text that reads back.
 */
#include "job/job.h"
#include "model/model.h"
#include "test.h"

static char dir[] = "/tmp/epidote-job-XXXXXX";

static const char *write_job(const char *text, size_t n_bytes)
{
    static char path[64];

    snprintf(path, sizeof path, "%s/job.cfg", dir);
    CHECK(file_write_atomic(path, text, n_bytes) == ST_OK);
    return path;
}

#define PATHS "model = \"m\"; prompts = \"p\"; results = \"r\";\n"

/* A job file with the required options in its first line, then `text`. */
static enum status load(const char *text, struct job **out_job)
{
    char file[4096];

    snprintf(file, sizeof file, PATHS "%s", text);
    return job_load(write_job(file, strlen(file)), NULL, 0, out_job);
}

static enum status load_setting(const char *setting, struct job **out_job)
{
    const char *settings[] = {"model=m", "prompts=p", "results=r", setting};

    return job_load(NULL, settings, 4, out_job);
}

static void defaults(void)
{
    struct job *job = NULL;

    CHECK(load("", &job) == ST_OK);
    CHECK_STR(job->model, "m");
    CHECK_STR(job->prompts, "p");
    CHECK_STR(job->results, "r");
    CHECK_HAS(job->path, "job.cfg");
    CHECK(job->rows_begin == 0 && job->rows_end == UINT64_MAX && job->n_shards == 0);
    CHECK(!job->retry_errors && job->max_errors == -1);
    CHECK(job->n_encoder == -1 && job->n_prefill == -1 && job->n_decode == -1);
    CHECK_INT(job->context, 0);
    CHECK_INT(job->max_tokens, 128);
    CHECK(job->temperature == 0 && job->top_p == 1 && job->min_p == 0);
    CHECK(job->repetition_penalty == 1 && job->top_k == 0);
    CHECK_INT(job->n_stop, 0);
    CHECK(job->seed == 0 && !job->ignore_eos && job->logprobs == -1);
    CHECK(!job->chat && job->system_prompt == NULL && !job->parse_special);
    CHECK_STR(job->chat_template, "auto");
    CHECK(job->precision == PRECISION_BF16 && job->order == ORDER_INPUT);
    CHECK_STR(job->backend, "cpu");
    CHECK_STR(job->instructions, "auto");
    CHECK_STR(job->link, "auto");
    CHECK(job->threads == 0 && job->prefill_chunk_tok == 512 && job->decode_batch == 32);
    CHECK(job->kv_block_tok == 16 && job->kv_memory_mib == 0);
    CHECK(job->peer_timeout_s == 60 && job->progress_s == 5);
    job_destroy(job);
    job_destroy(NULL);
}

static void values_of_every_type(void)
{
    struct job *job = NULL;

    CHECK(load("rows = \"5:90\"; retry_errors = true; max_errors = 7;\n"
               "groups = { encoder = 0; prefill = 2; decode : 3 };\n"
               "temperature = 1; top_p = 0.5; top_k = 0x28; // hex, an integer as a number\n"
               "stop = [\"a\\n\", \"\\\"q\\\"\"]; seed = 9223372036854775807;\n"
               "/* a comment with \"quotes\" and @include */\n"
               "system_prompt = \"\"; precision = \"f32\"; kv_block_tok = 64;\n"
               "order = \"longest\"; progress = 0.25; logprobs = 64; # last\n",
               &job) == ST_OK);
    CHECK(job->rows_begin == 5 && job->rows_end == 90 && job->retry_errors);
    CHECK_INT(job->max_errors, 7);
    CHECK(job->n_encoder == 0 && job->n_prefill == 2 && job->n_decode == 3);
    CHECK(job->temperature == 1 && job->top_p == 0.5 && job->top_k == 40);
    CHECK_INT(job->n_stop, 2);
    CHECK_STR(job->stop[0], "a\n");
    CHECK_STR(job->stop[1], "\"q\"");
    CHECK(job->seed == INT64_MAX);
    CHECK_STR(job->system_prompt, "");
    CHECK(job->precision == PRECISION_F32 && job->order == ORDER_LONGEST);
    CHECK_INT(job->kv_block_tok, 64);
    CHECK(job->progress_s == 0.25 && job->logprobs == SAMPLER_MAX_TOP);
    job_destroy(job);
}

static void settings_come_after_the_file(void)
{
    static const char *const settings[] = {"max_tokens=5",
                                           " temperature = 0.5 ",
                                           "stop=[\"x\", \"y\"]",
                                           "groups.decode=4",
                                           "rows=3:",
                                           "model = /data/a model.gguf",
                                           "system_prompt=\"quoted \\\"\"",
                                           "chat=true",
                                           "max_tokens=6",
                                           "order=\"longest\"",
                                           "kv_memory_mib=99999999"};
    struct job *job = NULL;

    CHECK(job_load(write_job(PATHS "max_tokens = 9; seed = 3;", strlen(PATHS) + 25), settings, 11,
                   &job) == ST_OK);
    CHECK_INT(job->max_tokens, 6);
    CHECK(job->temperature == 0.5 && job->seed == 3 && job->n_decode == 4 && job->chat);
    CHECK_INT(job->n_stop, 2);
    CHECK_STR(job->stop[1], "y");
    CHECK(job->rows_begin == 3 && job->rows_end == UINT64_MAX);
    CHECK_STR(job->model, "/data/a model.gguf");
    CHECK_STR(job->system_prompt, "quoted \"");
    CHECK_INT(job->order, ORDER_LONGEST);
    CHECK_INT(job->kv_memory_mib, 99999999);
    job_destroy(job);

    static const struct {
        const char *setting;
        int n_stop;
        const char *first;
    } stops[] = {
        {"stop=END", 1, "END"}, {"stop=\"a b\"", 1, "a b"}, {"stop=(\"p\", \"q\", \"r\")", 3, "p"},
        {"stop=", 0, NULL},     {"stop=[]", 0, NULL},       {"stop=</s>", 1, "</s>"}};
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        CHECK(load_setting(stops[i].setting, &job) == ST_OK);
        CHECK_INT(job->n_stop, stops[i].n_stop);
        if (stops[i].first != NULL)
            CHECK_STR(job->stop[0], stops[i].first);
        job_destroy(job);
    }
    CHECK(load_setting("rows=all", &job) == ST_OK);
    CHECK(job->path == NULL);
    job_destroy(job);
}

/* Each is refused, and the message has all of `has`: place, what is allowed, what was given. */
static void bad_files(void)
{
    static const struct {
        const char *text;
        const char *has[3];
    } cases[] = {
        {"max_tokens = 0;", {"job.cfg:2: max_tokens", "an integer from 1 to 16777216", "not 0"}},
        {"\n\nmax_tokens = -1;", {"job.cfg:4: max_tokens", "not -1"}},
        {"max_tokens = 1.5;", {"max_tokens must be an integer", "not 1.5"}},
        {"max_tokens = \"5\";", {"max_tokens must be an integer", "not \"5\""}},
        {"max_tokens = true;", {"max_tokens must be an integer", "not true"}},
        {"max_tokens = [5];", {"max_tokens must be an integer", "not a list"}},
        {"max_tokens = {a = 1;};", {"max_tokens must be an integer", "not a group"}},
        {"max_tokens = 4294967297;", {"max_tokens must be", "not 4294967297"}}, /* 2^32 + 1 */
        {"max_tokens = 0x100000001;", {"max_tokens must be", "not 4294967297"}},
        {"\n# 99999999999999999999 \"\n\nseed = 9223372036854775808;", {"job.cfg:5", "64 bits"}},
        {"seed = 99999999999999999999999L;", {"job.cfg:2", "64 bits"}},
        {"seed = -1;", {"seed must be an integer from 0 to 9223372036854775807", "not -1"}},
        {"temperature = -0.1;", {"temperature must be a number from 0 to 100", "not -0.1"}},
        {"temperature = 1e999;", {"temperature must be a number from 0 to 100", "not inf"}},
        {"temperature = \"hot\";", {"temperature must be a number", "not \"hot\""}},
        {"top_p = 0;", {"top_p must be a number from 1e-09 to 1", "not 0"}},
        {"top_p = 1.0001;", {"top_p must be", "not 1.0001"}},
        {"min_p = 2;", {"min_p must be a number from 0 to 1", "not 2"}},
        {"repetition_penalty = 0.0;", {"repetition_penalty must be a number from 0.01 to 100"}},
        {"logprobs = 65;", {"logprobs must be an integer from -1 to 64"}},
        {"kv_block_tok = 8;", {"kv_block_tok must be one of 16, 32, 64", "not 8"}},
        {"precision = \"q3\";", {"precision must be one of bf16, f32, stored", "not \"q3\""}},
        {"order = 1;", {"order must be one of input, longest", "not 1"}},
        {"backend = \"tpu\";", {"backend must be one of cpu, cuda, auto", "not \"tpu\""}},
        {"chat = 1;", {"chat must be true or false", "not 1"}},
        {"chat = \"yes\";", {"chat must be true or false", "not \"yes\""}},
        {"rows = \"9:5\";", {"rows must be \"a:b\"", "not \"9:5\""}},
        {"rows = \"5:5\";", {"rows must be \"a:b\"", "not \"5:5\""}},
        {"rows = \"5\";", {"rows must be \"a:b\"", "not \"5\""}},
        {"rows = \"-1:5\";", {"rows must be"}},
        {"rows = \"1:5x\";", {"rows must be"}},
        {"rows = \"1 :5\";", {"rows must be"}},
        {"rows = \"1:99999999999999999999\";", {"rows must be"}},
        {"rows = 5;", {"rows must be", "not 5"}},
        {"rows = \"0/3\";", {"rows must be", "not \"0/3\""}},
        {"rows = \"4/3\";", {"rows must be", "\"i/n\" (part i of n, from 1)"}},
        {"rows = \"1/\";", {"rows must be"}},
        {"rows = \"/1\";", {"rows must be"}},
        {"rows = \"1/2x\";", {"rows must be"}},
        {"rows = \"1/4294967296\";", {"rows must be"}},
        {"stop = \"\";", {"stop must be a text or a list of at most 64 texts, none empty", "\"\""}},
        {"stop = [\"a\", \"\"];", {"stop must be", "none empty", "not \"\""}},
        {"stop = (\"a\", 5);", {"stop must be", "not 5"}},
        {"stop = 5;", {"stop must be", "not 5"}},
        {"stop = \"\xff\";", {"stop must be"}},
        {"system_prompt = \"\xc3\";",
         {"system_prompt must be a text of 0 to 1000000 bytes of UTF-8"}},
        {"chat_template = \"\";", {"chat_template must be a text of 1 to 4095 bytes"}},
        {"max_token = 5;", {"job.cfg:2: there is no option max_token", "did you mean max_tokens?"}},
        {"temprature = 5;", {"no option temprature", "did you mean temperature?"}},
        {"maxtokens = 5;", {"did you mean max_tokens?", "epidote help job"}},
        {"decode = 5;", {"no option decode", "did you mean groups.decode?"}},
        {"groups = {\n prefil = 5; };",
         {"job.cfg:3: there is no option groups.prefil", "did you mean groups.prefill?"}},
        {"kv = { block_tok = 16; };", {"job.cfg:2: there is no option kv"}},
        {"groups = 5;", {"job.cfg:2: groups is a group of options"}},
        {"zzzzzzzzzzzzzz = 1;",
         {"there is no option zzzzzzzzzzzzzz (`epidote help job` lists all)"}},
        {"max_tokens = 5;\nmax_tokens = 6;", {"job.cfg:3: duplicate", "keep one"}},
        {"max_tokens = ;", {"job.cfg:2: syntax error", "name = value;"}},
        {"max_tokens 5;", {"job.cfg:2: syntax error"}},
        {"stop = \"open;\n\n", {"job.cfg:2: a text in quotes begins here and does not end"}},
        {"stop = \"open\\\"", {"job.cfg:2: a text in quotes begins here"}},
        {"chat_template = auto;", {"job.cfg:2: syntax error", "texts in quotes"}},
        {"groups = { decode = 1;", {"job.cfg:2: syntax error"}},
        {"@include \"other.cfg\"", {"job.cfg:2: @include is not supported"}},
        {"max_tokens = 1.5.2;", {"syntax error"}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job *job = NULL;

        CHECK(load(cases[i].text, &job) == ST_CONFIG);
        CHECK(job == NULL);
        for (int k = 0; k < 3 && cases[i].has[k] != NULL; k++)
            CHECK_HAS(log_last_error(), cases[i].has[k]);
    }
}

static void bad_settings(void)
{
    static const struct {
        const char *setting;
        const char *has[3];
    } cases[] = {
        {"max_tokens=0", {"--set max_tokens=0: max_tokens must be an integer from 1", "not 0"}},
        {"max_tokens=", {"--set max_tokens=: max_tokens must be an integer"}},
        {"max_tokens=five", {"--set max_tokens=five: max_tokens must be an integer"}},
        {"max_tokens=5; seed=3", {"max_tokens must be an integer"}},
        {"max_tokens=5 # five", {""}}, /* a comment is libconfig's: allowed */
        {"max_tokens=99999999999999999999", {"--set max_tokens=9999", "64 bits"}},
        {"max_tokens", {"--set max_tokens: write --set name=value"}},
        {"max_tokns=5", {"--set max_tokns=5: there is no option max_tokns", "mean max_tokens?"}},
        {"=5", {"there is no option"}},
        {"model=", {"model must be a text of 1 to 4095 bytes", "not \"\""}},
        {"precision=bf17", {"precision must be one of bf16, f32, stored", "not \"bf17\""}},
        {"stop=[\"a\"", {"stop must be a text or a list"}},
        {"stop=\"a", {"--set stop=\"a: a text in quotes begins here"}},
        {"rows=5-9", {"rows must be \"a:b\""}},
        {"seed=@include \"x\"", {"@include is not supported"}},
        {"groups=1", {"--set groups=1: groups is a group of options"}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job *job = NULL;
        const bool good = cases[i].has[0][0] == '\0';

        CHECK(load_setting(cases[i].setting, &job) == (good ? ST_OK : ST_CONFIG));
        for (int k = 0; k < 3 && cases[i].has[k] != NULL; k++)
            CHECK_HAS(log_last_error(), cases[i].has[k]);
        job_destroy(job);
    }
}

static void bad_as_a_whole(void)
{
    struct job *job = NULL;
    char path[64];

    snprintf(path, sizeof path, "%s/none.cfg", dir);
    CHECK(job_load(path, NULL, 0, &job) == ST_IO);
    CHECK_HAS(log_last_error(), path);
    CHECK(job_load(dir, NULL, 0, &job) == ST_IO);
    CHECK(job_load(write_job("", 0), NULL, 0, &job) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "job.cfg: model, a GGUF file");
    CHECK_HAS(log_last_error(), "--set model=");
    CHECK(job_load(write_job("model = \"m\"; results = \"r\";", 27), NULL, 0, &job) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "job.cfg: prompts, prompt file");
    CHECK(job_load(NULL, NULL, 0, &job) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "is missing: write model = ");
    CHECK(job_load(write_job("a\0b", 3), NULL, 0, &job) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "NUL");
    CHECK(job == NULL);
}

/* A very long text or name is cut in messages, never in memory. */
static void long_texts(void)
{
    char *text = host_alloc(6000);
    struct job *job = NULL;

    memset(text, 'x', 6000);
    memcpy(text, "model=", 6);
    text[5999] = '\0';
    CHECK(load_setting(text, &job) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "4095 bytes");
    CHECK_HAS(log_last_error(), "...");
    memset(text, 'y', 5000);
    memcpy(text + 5000, "=1", 3);
    CHECK(load_setting(text, &job) == ST_CONFIG);
    CHECK_HAS(log_last_error(), "there is no option yyyy");
    host_free(text);
}

static const char *text_of(struct buf *buf)
{
    CHECK(buf_put(buf, "", 1) == ST_OK);
    return (const char *)buf->data;
}

static void printed_jobs_read_back(void)
{
    static const struct {
        const char *text;
    } jobs[] = {
        {""},
        {"rows = \"1:\"; temperature = 0.1; top_p = 0.3333333333333333; seed = 123456789012345;\n"
         "max_errors = 99999999999L; stop = [\"\\\\\", \"tab\\t\\r\\f\\x01\", \"é\", \"# no\"];\n"
         "system_prompt = \"two\\nlines \\\"and\\\" // @include\"; groups = { decode = 2; };"},
        {"rows = \":18446744073709551614\"; peer_timeout_s = 3.0000000000000004; chat = true;\n"
         "system_prompt = \"\"; precision = \"f32\"; kv_block_tok = 32; progress = 1e-300;"},
        {"rows = \"2/7\"; time_limit_s = 3600;"},
    };

    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        struct buf first = {0}, second = {0}, first_id = {0}, second_id = {0};
        struct job *job = NULL, *again = NULL;

        CHECK(load(jobs[i].text, &job) == ST_OK);
        CHECK(job_print(job, &first) == ST_OK);
        CHECK(job_load(write_job((const char *)first.data, first.n_bytes), NULL, 0, &again) ==
              ST_OK);
        CHECK(job_print(again, &second) == ST_OK);
        CHECK_STR(text_of(&first), text_of(&second));
        CHECK(job_identity(job, &first_id) == ST_OK);
        CHECK(job_identity(again, &second_id) == ST_OK);
        CHECK_STR(text_of(&first_id), text_of(&second_id));
        CHECK(job->rows_begin == again->rows_begin && job->rows_end == again->rows_end);
        CHECK(job->n_shards == again->n_shards);
        CHECK(job->seed == again->seed && job->top_p == again->top_p);
        CHECK(job->peer_timeout_s == again->peer_timeout_s && job->progress_s == again->progress_s);
        CHECK_INT(job->max_errors, again->max_errors);
        CHECK_INT(job->n_stop, again->n_stop);
        for (int k = 0; k < job->n_stop; k++)
            CHECK_STR(again->stop[k], job->stop[k]);
        CHECK_INT(job->system_prompt == NULL, again->system_prompt == NULL);
        if (job->system_prompt != NULL)
            CHECK_STR(again->system_prompt, job->system_prompt);
        buf_free(&first);
        buf_free(&second);
        buf_free(&first_id);
        buf_free(&second_id);
        job_destroy(job);
        job_destroy(again);
    }
}

static void identity_of(const char *setting, struct buf *out)
{
    struct job *job = NULL;

    CHECK(load_setting(setting, &job) == ST_OK);
    CHECK(job_identity(job, out) == ST_OK);
    job_destroy(job);
}

/* Of each option: whether another value makes another identity. */
static void identity_has_what_changes_results(void)
{
    static const struct {
        const char *setting;
        bool changes;
    } cases[] = {
        {"model=x", false},
        {"prompts=x", false},
        {"results=x", false},
        {"rows=1:2", false},
        {"retry_errors=true", false},
        {"max_errors=3", false},
        {"groups.decode=2", false},
        {"groups.prefill=2", false},
        {"groups.encoder=2", false},
        {"context=77", false}, /* the session adds what it comes to */
        {"max_tokens=7", true},
        {"temperature=0.5", true},
        {"top_k=5", true},
        {"top_p=0.5", true},
        {"min_p=0.5", true},
        {"repetition_penalty=1.1", true},
        {"stop=x", true},
        {"seed=4", true},
        {"ignore_eos=true", true},
        {"logprobs=0", true},
        {"chat=true", true},
        {"system_prompt=", true},
        {"chat_template=x", true},
        {"chat_template_kwargs={}", true},
        {"chat_date=2026-01-31", true},
        {"parse_special=true", true},
        {"precision=f32", true},
        {"sampling=model", true},
        {"instructions=plain", false},
        {"link=self", false},
        {"threads=3", false},
        {"prefill_chunk_tok=7", false},
        {"decode_batch=3", false},
        {"kv_block_tok=32", false},
        {"kv_memory_mib=5", false},
        {"order=longest", false},
        {"peer_timeout_s=5", false},
        {"progress=0", false},
    };
    struct buf base = {0};

    identity_of("seed=0", &base);
    CHECK_HAS(text_of(&base), "temperature = 0\n");
    CHECK_HAS((const char *)base.data, "system_prompt = none\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf other = {0};

        identity_of(cases[i].setting, &other);
        CHECK_INT(strcmp(text_of(&other), (const char *)base.data) != 0, cases[i].changes);
        buf_free(&other);
    }
    buf_free(&base);
}

static void help_names_every_option(void)
{
    static const char *const names[] = {"  model",          "  groups.decode", "* max_tokens",
                                        "* stop",           "* precision",     "  kv_block_tok",
                                        "  peer_timeout_s", "  progress"};
    struct buf help = {0}, man = {0};

    CHECK(job_help(&help) == ST_OK);
    CHECK(job_man(&man) == ST_OK);
    text_of(&help);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char line[64];

        snprintf(line, sizeof line, "\n%s\n", names[i]);
        CHECK_HAS((const char *)help.data, line);
        snprintf(line, sizeof line, ".B %s", names[i] + 2);
        CHECK_HAS(text_of(&man), line);
    }
    CHECK_HAS((const char *)help.data, "an integer from 1 to 16777216; default 128");
    buf_free(&help);
    buf_free(&man);
}

/* The `n`th line that sets an option in a job file, commented out or not: its name, else "". */
static void option_of_line(const char *line, size_t n_bytes, char *out, size_t cap)
{
    size_t at = 0, n = 0;

    while (at < n_bytes && (line[at] == ' ' || line[at] == '#'))
        at++;
    while (at + n < n_bytes &&
           (line[at + n] == '_' || (line[at + n] >= 'a' && line[at + n] <= 'z')))
        n++;
    out[0] = '\0';
    if (n > 0 && n < cap && at + n + 3 < n_bytes && memcmp(line + at + n, " = ", 3) == 0 &&
        line[n_bytes - 1] == ';')
        snprintf(out, cap, "%.*s", (int)n, line + at);
}

/* Every option line of `text` has one of the same name in `other`. */
static void lines_are_in(const char *text, const char *other)
{
    for (const char *line = text; *line != '\0';) {
        const size_t n_bytes = strcspn(line, "\n");
        char name[64], want[80];

        option_of_line(line, n_bytes, name, sizeof name);
        if (name[0] != '\0') {
            snprintf(want, sizeof want, "%s = ", name);
            CHECK_HAS(other, want);
        }
        line += n_bytes + (line[n_bytes] == '\n');
    }
}

/* jobs/example.cfg sets every option, to its default where it has one; all jobs/ can be read. */
static void example_is_in_step_with_the_table(void)
{
    struct job *job = NULL, *plain = NULL;
    struct buf text = {0}, print = {0}, got = {0}, want = {0};

    CHECK(job_load("jobs/demo.cfg", NULL, 0, &job) == ST_OK);
    job_destroy(job);
    CHECK(job_load("jobs/demo-llm.cfg", NULL, 0, &job) == ST_OK);
    job_destroy(job);
    CHECK(job_load("jobs/example.cfg", NULL, 0, &job) == ST_OK);
    if (test_n_failed > 0)
        return;
    const char *paths[] = {"model=", "prompts=", "results="};
    const char *values[] = {job->model, job->prompts, job->results};
    char settings[3][256];
    const char *list[3];
    for (int i = 0; i < 3; i++) {
        snprintf(settings[i], sizeof settings[i], "%s%s", paths[i], values[i]);
        list[i] = settings[i];
    }
    CHECK(job_load(NULL, list, 3, &plain) == ST_OK);
    CHECK(job_print(job, &got) == ST_OK);
    CHECK(job_print(plain, &want) == ST_OK);
    CHECK_STR(text_of(&got), text_of(&want));

    CHECK(file_read("jobs/example.cfg", 1 << 20, &text) == ST_OK);
    CHECK(job_print(job, &print) == ST_OK);
    text_of(&text);
    text_of(&print);
    lines_are_in((const char *)print.data, (const char *)text.data);
    lines_are_in((const char *)text.data, (const char *)print.data);
    buf_free(&text);
    buf_free(&print);
    buf_free(&got);
    buf_free(&want);
    job_destroy(job);
    job_destroy(plain);
}

int main(void)
{
    char path[64];

    CHECK(mkdtemp(dir) != NULL);
    defaults();
    values_of_every_type();
    settings_come_after_the_file();
    bad_files();
    bad_settings();
    bad_as_a_whole();
    long_texts();
    printed_jobs_read_back();
    identity_has_what_changes_results();
    help_names_every_option();
    example_is_in_step_with_the_table();
    snprintf(path, sizeof path, "%s/job.cfg", dir);
    unlink(path);
    rmdir(dir);
    TEST_END();
}
