/*
 * options.c - THE option table.  A new option is a field of struct job and a row here; reading,
 * checking, printing, help, the manual page and the job's identity follow from the row.
 *
 * What can be done with the value of a row is in value.c.
 */
#include "job/options.h"

static const char *const precision_names[] = {"bf16", "f32", "stored", NULL};
static const char *const sampling_names[] = {"job", "model", NULL};
static const char *const order_names[] = {"input", "longest", NULL};
static const char *const backend_names[] = {"cpu", "cuda", "auto", NULL};
static const char *const block_names[] = {"16", "32", "64", NULL};

_Static_assert(sizeof precision_names / sizeof *precision_names == PRECISION_COUNT + 1, "names");
_Static_assert(sizeof sampling_names / sizeof *sampling_names == SAMPLING_COUNT + 1, "names");
_Static_assert(sizeof order_names / sizeof *order_names == ORDER_COUNT + 1, "names");

#define FIELD(f) offsetof(struct job, f)
#define REQ OPT_REQUIRED
#define RES OPT_RESULTS
#define RES8 (OPT_RESULTS | OPT_UTF8)
#define RESM (OPT_RESULTS | OPT_RESOLVED)
/* clang-format off */
const struct job_option job_options[] = {
    /* path                 default  unit      type        flags field                      min   max     names, help */
    {"model",               NULL,    "",       OPT_TEXT,   REQ,  FIELD(model),              1,    4095,   NULL,
     "a GGUF file, or a directory with config.json and *.safetensors"},
    {"prompts",             NULL,    "",       OPT_TEXT,   REQ,  FIELD(prompts),            1,    4095,   NULL,
     "prompt file to read (HDF5)"},
    {"results",             NULL,    "",       OPT_TEXT,   REQ,  FIELD(results),            1,    4000,   NULL,
     "result file to write (HDF5); RESULTS.parts, RESULTS.lock and RESULTS.status stand beside it"},
    {"rows",                "all",   "",       OPT_ROWS,   0,    FIELD(rows_begin),         0,    0,      NULL,
     "global numbers of the rows to serve, end exclusive, or \"i/n\": the i-th of n equal parts of the file"},
    {"retry_errors",        "false", "",       OPT_BOOL,   0,    FIELD(retry_errors),       0,    0,      NULL,
     "serve rows again that an earlier attempt ended as errors"},
    {"max_errors",          "-1",    "rows",   OPT_INT64,  0,    FIELD(max_errors),         -1,   1e15,   NULL,
     "break off when more rows than this have ended as errors; -1 = never"},

    {"groups.encoder",      "-1",    "ranks",  OPT_INT,    0,    FIELD(n_encoder),          -1,   4096,   NULL,
     "ranks that encode images, if there are any; -1 = chosen by the program"},
    {"groups.prefill",      "-1",    "ranks",  OPT_INT,    0,    FIELD(n_prefill),          -1,   4096,   NULL,
     "ranks that compute prompts; -1 = chosen by the program"},
    {"groups.decode",       "-1",    "ranks",  OPT_INT,    0,    FIELD(n_decode),           -1,   4096,   NULL,
     "ranks that compute answers; -1 = chosen by the program"},

    {"context",             "0",     "tokens", OPT_INT,    RESM, FIELD(context),            0,    1 << 24, NULL,
     "most tokens of prompt and answer together; 0 = what the model was made for"},
    {"max_tokens",          "128",   "tokens", OPT_INT,    RES,  FIELD(max_tokens),         1,    1 << 24, NULL,
     "most tokens of an answer"},
    {"sampling",            "job",   "",       OPT_ENUM,   RES,  FIELD(sampling),           0,    0,      sampling_names,
     "model = temperature, top_k, top_p, min_p and repetition_penalty are the model's own, where a row has none"},
    {"temperature",         "0",     "",       OPT_NUMBER, RES,  FIELD(temperature),        0,    100,    NULL,
     "logits are divided by it; 0 = always the most likely token"},
    {"top_k",               "0",     "tokens", OPT_INT,    RES,  FIELD(top_k),              0,    1 << 24, NULL,
     "draw from this many most likely tokens only; 0 = from all"},
    {"top_p",               "1",     "",       OPT_NUMBER, RES,  FIELD(top_p),              1e-9, 1,      NULL,
     "draw from the fewest most likely tokens that have this probability together"},
    {"min_p",               "0",     "",       OPT_NUMBER, RES,  FIELD(min_p),              0,    1,      NULL,
     "draw from tokens at least this many times as likely as the most likely one only"},
    {"repetition_penalty",  "1",     "",       OPT_NUMBER, RES,  FIELD(repetition_penalty), 0.01, 100,    NULL,
     "tokens that stand in prompt or answer: positive logits are divided by it, others multiplied"},
    {"stop",                "[]",    "",       OPT_TEXTS,  RES8, FIELD(stop),               0,    64,     NULL,
     "an answer ends before the first of these texts"},
    {"seed",                "0",     "",       OPT_SEED,   RES,  FIELD(seed),               0,    0,      NULL,
     "of the random numbers, together with row number and position"},
    {"ignore_eos",          "false", "",       OPT_BOOL,   RES,  FIELD(ignore_eos),         0,    0,      NULL,
     "go on to max_tokens when the model ends its answer"},
    {"logprobs",            "-1",    "",       OPT_INT,    RES,  FIELD(logprobs),           -1,   64,     NULL,
     "store log-probabilities: -1 = none, 0 = of each token, n = and of the n most likely ones"},
    {"chat",                "false", "",       OPT_BOOL,   RES,  FIELD(chat),               0,    0,      NULL,
     "the column `prompt` holds user messages, not raw text"},
    {"system_prompt",       NULL,    "",       OPT_TEXT,   RES8, FIELD(system_prompt),      0,    1e6,    NULL,
     "system message of chats that have none; not given = what the chat template says"},
    {"chat_template",       "auto",  "",       OPT_TEXT,   RES8, FIELD(chat_template),      1,    4095,   NULL,
     "chat template: auto = the model's own, a .jinja file, smollm2, gemma or chatml"},
    {"chat_template_kwargs", NULL,   "",       OPT_TEXT,   RES8, FIELD(chat_template_kwargs), 2,  1e6,    NULL,
     "variables for the chat template, as an object of JSON: {\"enable_thinking\": false}"},
    {"chat_date",           NULL,    "",       OPT_TEXT,   RES8, FIELD(chat_date),          10,   10,     NULL,
     "today's date for chat templates that ask for it, like 2026-01-31; the clock is never read"},
    {"parse_special",       "false", "",       OPT_BOOL,   RES,  FIELD(parse_special),      0,    0,      NULL,
     "texts of special tokens (\"<|im_end|>\") in prompts become those tokens"},
    {"precision",           "bf16",  "",       OPT_ENUM,   RES,  FIELD(precision),          0,    0,      precision_names,
     "of weights and KV; stored = bf16, but weights stay as they are in the file: less memory, slower; f32 is for checking"},

    {"backend",             "cpu",   "",       OPT_TEXT,   0,    FIELD(backend),            1,    255,    backend_names,
     "what computes: cpu; cuda (a GPU: text, one rank); auto = cuda if it is there and can, else cpu"},
    {"instructions",        "auto",  "",       OPT_TEXT,   0,    FIELD(instructions),       1,    255,    NULL,
     "instruction set: plain, avx2, avx512, avx512bf16; auto = the fastest on this CPU; results are the same"},
    {"link",                "auto",  "",       OPT_TEXT,   0,    FIELD(link),               1,    255,    NULL,
     "how embeddings go to prefill and KV blocks to decode; auto = the best there is between two ranks"},
    {"threads",             "0",     "",       OPT_INT,    0,    FIELD(threads),            0,    4096,   NULL,
     "threads of a rank; 0 = the cores it may use, shared by the ranks that may use them"},
    {"prefill_chunk_tok",   "512",   "tokens", OPT_INT,    0,    FIELD(prefill_chunk_tok),  1,    65536,  NULL,
     "most prompt tokens computed in one step"},
    {"decode_batch",        "32",    "rows",   OPT_INT,    0,    FIELD(decode_batch),       1,    4096,   NULL,
     "most rows that get their next token in one step"},
    {"encode_batch",        "8",     "images", OPT_INT,    0,    FIELD(encode_batch),       1,    4096,   NULL,
     "most images encoded in one step"},
    {"encode_cache_mib",    "0",     "MiB",    OPT_INT64,  0,    FIELD(encode_cache_mib),   0,    1e9,    NULL,
     "memory in which an encoder keeps embeddings of images that will be used again; 0 = at most 512"},
    {"kv_block_tok",        "16",    "tokens", OPT_CHOICE, 0,    FIELD(kv_block_tok),       0,    0,      block_names,
     "tokens of one KV block"},
    {"kv_memory_mib",       "0",     "MiB",    OPT_INT64,  0,    FIELD(kv_memory_mib),      0,    1e9,    NULL,
     "memory of a rank's KV blocks; 0 = chosen from context, decode_batch and the free memory"},
    {"order",               "input", "",       OPT_ENUM,   0,    FIELD(order),              0,    0,      order_names,
     "order in which rows are begun: as in the file, or longest first within a window of rows"},
    {"peer_timeout_s",      "60",    "s",      OPT_NUMBER, 0,    FIELD(peer_timeout_s),     3,    86400,  NULL,
     "a rank that is silent for so long is taken for dead"},
    {"time_limit_s",        "0",     "s",      OPT_NUMBER, 0,    FIELD(time_limit_s),       0,    1e9,    NULL,
     "the run comes to an end in order so long after its launch; 0 = when its Slurm job ends, if that is known"},
    {"time_margin_s",       "30",    "s",      OPT_NUMBER, 0,    FIELD(time_margin_s),      0,    86400,  NULL,
     "time kept before that end: no row is begun that would not be finished by then, going by how long rows take"},
    {"progress",            "5",     "s",      OPT_NUMBER, 0,    FIELD(progress_s),         0,    86400,  NULL,
     "time between progress lines; 0 = none"},
};
/* clang-format on */
#undef FIELD
#undef REQ
#undef RES
#undef RES8
#undef RESM

const int job_n_options = sizeof job_options / sizeof *job_options;

const struct job_option *option_find(const char *path)
{
    for (int i = 0; i < job_n_options; i++)
        if (strcmp(job_options[i].path, path) == 0)
            return &job_options[i];
    return NULL;
}

bool option_is_group(const char *path)
{
    const size_t n = strlen(path);

    for (int i = 0; i < job_n_options; i++)
        if (strncmp(job_options[i].path, path, n) == 0 && job_options[i].path[n] == '.')
            return true;
    return false;
}

/* Slips (a letter missing, extra, wrong or swapped with its neighbour) that lead from a to b. */
static int slips(const char *a, const char *b)
{
    enum { MAX = 40 };
    int rows[3][MAX + 1] = {{0}}; /* of the usual table: before last, last, this */
    const size_t n_a = strlen(a), n_b = strlen(b);

    if (n_a > MAX || n_b > MAX)
        return MAX;
    for (size_t j = 0; j <= n_b; j++)
        rows[1][j] = (int)j;
    for (size_t i = 1; i <= n_a; i++) {
        rows[2][0] = (int)i;
        for (size_t j = 1; j <= n_b; j++) {
            int best = rows[1][j - 1] + (a[i - 1] != b[j - 1]);

            if (rows[1][j] + 1 < best)
                best = rows[1][j] + 1;
            if (rows[2][j - 1] + 1 < best)
                best = rows[2][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                rows[0][j - 2] + 1 < best)
                best = rows[0][j - 2] + 1;
            rows[2][j] = best;
        }
        memcpy(rows[0], rows[1], sizeof rows[0]);
        memcpy(rows[1], rows[2], sizeof rows[0]);
    }
    return rows[1][n_b];
}

const struct job_option *option_nearest(const char *path)
{
    const struct job_option *best = NULL;
    int best_slips = (int)strlen(path) / 2 + 1; /* more, and it is another word */

    for (int i = 0; i < job_n_options; i++) {
        const char *known = job_options[i].path, *dot = strrchr(known, '.');
        int n = slips(path, known);

        if (dot != NULL && slips(path, dot + 1) + 1 < n) /* `decode` for `groups.decode` */
            n = slips(path, dot + 1) + 1;
        if (n < best_slips) {
            best_slips = n;
            best = &job_options[i];
        }
    }
    return best;
}
