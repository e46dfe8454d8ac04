/*
 * main.c - the table of commands, and what each does with its arguments.
 *
 * The work is elsewhere: run and check in stage/, the files in data/ and model/, text to ids in
 * text/, the command line in cli/.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "stage/stage.h"

#ifndef EPIDOTE_VERSION
#define EPIDOTE_VERSION "0.1.0"
#endif
#ifndef EPIDOTE_COMMIT
#define EPIDOTE_COMMIT ""
#endif

/* ---- run, check, status --------------------------------------------------------------------- */

/* What this build calls itself, in result files too. */
static const char program_name[] = "epidote " EPIDOTE_VERSION;

static enum outcome load_job(const struct cli *cli, struct job **out_job)
{
    if (!cli_readable(cli->args[0]))
        return OUTCOME_JOB;
    const enum status st = job_load(cli->args[0], cli->settings, cli->n_settings, out_job);
    return st == ST_OK ? OUTCOME_DONE : st == ST_NOMEM ? OUTCOME_MACHINE : OUTCOME_JOB;
}

/* How long the other ranks may take to come to the end. */
#define END_LIMIT_S 10.0

/* The launch itself is wrong, so no rank knows of another: the outcome still stands beside RESULTS,
 * where each of them can be found out by it. */
static int refuse_launch(const struct cli *cli, enum status st)
{
    struct job *job = NULL;
    char why[512];

    snprintf(why, sizeof why, "%s", log_last_error());
    if (why[0] != '\0' && load_job(cli, &job) == OUTCOME_DONE &&
        status_refuse(job->results, OUTCOME_JOB, why) != ST_OK)
        log_warn("the outcome could not be written beside %s", job->results);
    job_destroy(job);
    return cli_exit(st);
}

/* Rank 0 speaks for all. */
static void say_outcome(const struct ranks *ranks, enum outcome outcome)
{
    if (ranks_me(ranks) != 0)
        return;
    printf("outcome   %d, %s\n", (int)outcome, outcome_name(outcome));
    if (fflush(stdout) != 0)
        log_warn("standard output: %s", strerror(errno));
}

/* The role that --role names, -1 = not given.  Returns whether it is right; if not, it is logged.
 */
static bool asked_role(const struct cli *cli, int *out_role)
{
    const char *name = cli_value(cli, "--role");

    *out_role = -1;
    for (int role = 0; name != NULL && role < ROLE_WATCH; role++)
        if (strcmp(name, role_name((enum role)role)) == 0)
            *out_role = role;
    if (name == NULL || *out_role >= 0)
        return true;
    log_error("run: --role %s: a role is coordinator, encoder, prefill or decode", name);
    return false;
}

static int cmd_run(const struct cli *cli)
{
    int role;
    struct ranks *ranks;
    struct job *job = NULL;
    bool in_order;

    signal(SIGUSR1, SIG_IGN); /* until the run can heed it */
    const enum status st = ranks_begin(&ranks);
    if (st != ST_OK)
        return refuse_launch(cli, st);
    log_hold(ranks_me(ranks) > 0); /* what is wrong with the job, one tells */
    if (asked_role(cli, &role))
        (void)load_job(cli, &job);
    const enum outcome outcome = stage_run(job, program_name, role, ranks, &in_order);
    job_destroy(job);
    say_outcome(ranks, outcome);
    if (!in_order)
        ranks_abort(ranks, (int)outcome);
    ranks_end(ranks, END_LIMIT_S, (int)outcome);
    return (int)outcome;
}

/* The number that a flag gives; dflt = not given; -1 = wrong (logged). */
static int asked_number(const struct cli *cli, const char *flag, const char *what, int least,
                        int most, int dflt)
{
    const char *text = cli_value(cli, flag);
    char *end;

    if (text == NULL)
        return dflt;
    const long n = strtol(text, &end, 10);
    if (end != text && *end == '\0' && n >= least && n <= most)
        return (int)n;
    log_error("%s: %s %s: a number of %s is from %d to %d", cli->command->name, flag, text, what,
              least, most);
    return -1;
}

/* The value of an option that is a text, for scripts; a batch script is no launch, so no MPI. */
static int print_option(const struct cli *cli, const char *option)
{
    struct job *job = NULL;
    struct buf text = {0}, value = {0};
    enum status st;
    const enum outcome outcome = load_job(cli, &job);

    if (outcome != OUTCOME_DONE)
        return outcome;
    TRY(job_print(job, &text), err);
    TRY(buf_put(&text, "", 1), err);
    TRY(job_text_get((const char *)text.data, "check --get", option, &value), err);
    printf("%s\n", (const char *)value.data);
err:
    buf_free(&text);
    buf_free(&value);
    job_destroy(job);
    return cli_exit(st);
}

/* On all ranks: the links between them. */
static int check_links(const struct cli *cli)
{
    struct ranks *ranks;
    struct job *job = NULL;
    const enum status st = ranks_begin(&ranks);

    if (st != ST_OK)
        return cli_exit(st);
    log_hold(ranks_me(ranks) > 0);
    (void)load_job(cli, &job);
    const enum outcome outcome = stage_preflight(job, program_name, ranks);
    job_destroy(job);
    ranks_end(ranks, END_LIMIT_S, (int)outcome);
    return (int)outcome;
}

/* One rank reads and prints; what it finds, all exit with. */
static int cmd_check(const struct cli *cli)
{
    struct ranks *ranks;
    struct job *job = NULL;
    enum outcome outcome = OUTCOME_DONE;

    if (cli_given(cli, "--get"))
        return print_option(cli, cli_value(cli, "--get"));
    if (cli_given(cli, "--links"))
        return check_links(cli);
    enum status st = ranks_begin(&ranks);
    if (st != ST_OK)
        return cli_exit(st);
    if (ranks_me(ranks) == 0) {
        const int n_asked = asked_number(cli, "--ranks", "ranks", 1, 65536, 0);

        outcome = n_asked < 0 ? OUTCOME_JOB : load_job(cli, &job);
        if (outcome == OUTCOME_DONE)
            outcome = stage_check(job, ranks, n_asked);
        job_destroy(job);
    }
    st = outcome == OUTCOME_DONE ? ST_OK : outcome == OUTCOME_JOB ? ST_CONFIG : ST_NOMEM;
    st = ranks_agree(ranks, st, "checking the job", 0);
    ranks_end(ranks, END_LIMIT_S, cli_exit(st));
    return cli_exit(st);
}

static int cmd_status(const struct cli *cli)
{
    struct buf text = {0};
    struct run_status status;

    if (status_report(cli->args[0], &status, &text) != ST_OK) {
        buf_free(&text);
        return OUTCOME_JOB; /* not 4: that would be the outcome of a run */
    }
    const int shown = cli_finish(ST_OK, &text);
    return shown != 0 ? shown : (int)status.outcome;
}

/* ---- inspect, import, export, report --------------------------------------------------------- */

/* A GGUF file, or a directory that is not a journal's. */
static bool is_model(const char *path)
{
    char magic[4] = {0}, config[4096];
    struct stat facts;
    FILE *file;

    if (stat(path, &facts) == 0 && S_ISDIR(facts.st_mode)) {
        snprintf(config, sizeof config, "%s/config.json", path);
        return access(config, F_OK) == 0;
    }
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    const bool gguf = fread(magic, 1, 4, file) == 4 && memcmp(magic, "GGUF", 4) == 0;
    fclose(file);
    return gguf;
}

static enum status inspect_model(const char *path, bool digest, struct buf *text)
{
    struct model_source *source = NULL;
    enum status st;

    TRY(model_open(path, &source), err);
    if (digest)
        st = buf_printf(text, "%016llx\n", (unsigned long long)model_source_fingerprint(source));
    else
        st = model_inspect(source, text);
err:
    model_close(source);
    return st;
}

static enum status inspect_data(const char *path, bool digest, struct buf *text)
{
    uint64_t hash;
    enum status st;

    if (digest) {
        TRY(data_digest(path, &hash), err);
        return buf_printf(text, "%016llx\n", (unsigned long long)hash);
    }
    st = data_inspect(path, text);
    if (st == ST_UNSUPPORTED)
        log_error("%s: not a model (GGUF file, directory with config.json), prompt file, result "
                  "file or journal",
                  path);
err:
    return st;
}

static int cmd_inspect(const struct cli *cli)
{
    const char *path = cli->args[0];
    const bool digest = cli_given(cli, "--digest");
    struct buf text = {0};

    if (!cli_readable(path))
        return OUTCOME_JOB;
    return cli_finish(is_model(path) ? inspect_model(path, digest, &text)
                                     : inspect_data(path, digest, &text),
                      &text);
}

static int cmd_import(const struct cli *cli)
{
    const struct import_args args = {
        .in_path = cli->args[0],
        .out_path = cli->args[1],
        .lines = cli_given(cli, "--lines"),
        .field_prompt = cli_value(cli, "--prompt"),
        .field_messages = cli_value(cli, "--messages"),
        .field_id = cli_value(cli, "--id"),
    };

    if (args.lines && (args.field_prompt != NULL || args.field_messages != NULL || args.field_id)) {
        log_error("import: --lines has no fields: leave out --prompt, --messages and --id");
        return OUTCOME_JOB;
    }
    if (strcmp(args.in_path, "-") != 0 && !cli_readable(args.in_path))
        return OUTCOME_JOB;
    return cli_exit(data_import(&args));
}

static int cmd_export(const struct cli *cli)
{
    const bool partial = cli_given(cli, "--partial");

    if (!partial && !cli_readable(cli->args[0])) {
        log_error("%s is not there; finished rows of a run that was broken off: export --partial",
                  cli->args[0]);
        return OUTCOME_JOB;
    }
    return cli_exit(data_export(cli->args[0], cli->n_args > 1 ? cli->args[1] : "-", partial));
}

static int cmd_merge(const struct cli *cli)
{
    struct join_counts counts;

    for (int i = 1; i < cli->n_args; i++)
        if (!cli_readable(cli->args[i]))
            return OUTCOME_JOB;
    const enum status st = data_join(cli->args[0], cli->args + 1, cli->n_args - 1, &counts);
    if (st != ST_OK)
        return cli_exit(st);
    printf("%s: rows %llu:%llu of %d parts, %llu of them failed\n", cli->args[0],
           (unsigned long long)counts.rows_begin, (unsigned long long)counts.rows_end,
           cli->n_args - 1, (unsigned long long)counts.n_failed);
    return counts.n_failed > 0 ? OUTCOME_ERRORS : OUTCOME_DONE;
}

/* The path of the prompt file that a result file was made of, into out, NUL-terminated. */
static enum status find_prompts(const char *results_path, struct buf *out)
{
    struct buf job = {0};
    enum status st;

    TRY(data_results_job(results_path, &job), err);
    TRY(job_text_get((const char *)job.data, results_path, "prompts", out), err);
    if (access((const char *)out->data, R_OK) != 0) {
        log_error("%s was made of %s: %s; where it is now, --prompts FILE says", results_path,
                  (const char *)out->data, strerror(errno));
        st = ST_CONFIG;
    }
err:
    buf_free(&job);
    return st;
}

static int cmd_report(const struct cli *cli)
{
    struct report_args args = {
        .results_path = cli->args[0],
        .prompts_path = cli_value(cli, "--prompts"),
        .sheet_path = cli_value(cli, "--sheet"),
        .n_rows = asked_number(cli, "--rows", "rows", 0, REPORT_MAX_ROWS, 8),
    };
    struct buf prompts = {0}, text = {0};
    enum status st = ST_OK;

    if (args.n_rows < 0 || !cli_readable(args.results_path) ||
        (args.prompts_path != NULL && !cli_readable(args.prompts_path)))
        return OUTCOME_JOB;
    if (args.prompts_path == NULL) {
        TRY(find_prompts(args.results_path, &prompts), err);
        args.prompts_path = (const char *)prompts.data;
    }
    st = data_report(&args, &text);
err:
    buf_free(&prompts);
    return cli_finish(st, &text);
}

/* ---- tokenize -------------------------------------------------------------------------------- */

/* What `tokenize` turns into what, one piece of input after the other. */
struct tokenize {
    const struct tokenizer *tokenizer;
    unsigned flags;       /* of tokenizer_encode */
    bool decode, special; /* special: also show special tokens when decoding */
    bool whole;
    char end;         /* of a text of the input, and of what becomes of it */
    const char *name; /* of the input, for messages */
    uint64_t line;
    struct token_list list;
};

/* Text to a line of ids. */
static enum status encode_piece(struct tokenize *t, const char *text, size_t n_bytes)
{
    struct row_error why;
    enum status st;

    t->list.n_ids = 0;
    st = tokenizer_encode(t->tokenizer, text, n_bytes, t->flags, &t->list, &why);
    if (st == ST_ROW)
        log_error("%s:%llu: %s", t->name, (unsigned long long)t->line, why.text);
    if (st != ST_OK)
        return st;
    for (int64_t i = 0; i < t->list.n_ids; i++)
        printf("%s%d", i > 0 ? " " : "", (int)t->list.ids[i]);
    return cli_write(&t->end, 1);
}

/* Ids, parted by white space, to the bytes that they stand for. */
static enum status decode_piece(struct tokenize *t, const char *text)
{
    const long n_tokens = tokenizer_n_tokens(t->tokenizer);
    struct detokenizer lead = {0};
    enum status st = ST_OK;

    for (const char *at = text; st == ST_OK;) {
        at += strspn(at, " \t\r\n");
        if (*at == '\0')
            break;
        char *end;
        errno = 0;
        const long id = strtol(at, &end, 10);
        if (end == at || (*end != '\0' && strchr(" \t\r\n", *end) == NULL) || errno != 0 ||
            id < 0 || id >= n_tokens) {
            log_error("%s:%llu: %.*s is not a token id (0 to %ld)", t->name,
                      (unsigned long long)t->line, (int)strcspn(at, " \t\r\n"), at, n_tokens - 1);
            return ST_FORMAT;
        }
        const struct text_span bytes = detokenizer_lead(
            &lead, t->tokenizer, tokenizer_token_bytes(t->tokenizer, (int32_t)id, t->special));
        st = cli_write(bytes.data, bytes.n_bytes);
        at = end;
    }
    if (st == ST_OK && !t->whole)
        st = cli_write(&t->end, 1);
    return st;
}

static enum status tokenize_piece(struct tokenize *t, const char *text, size_t n_bytes)
{
    return t->decode ? decode_piece(t, text) : encode_piece(t, text, n_bytes);
}

/* The input, cut after each newline or NUL or not at all. */
static enum status tokenize_input(struct tokenize *t, FILE *input)
{
    struct buf all = {0};
    enum status st = ST_OK;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while (st == ST_OK && (n = getdelim(&line, &cap, t->end, input)) >= 0) {
        t->line++;
        if (t->whole)
            st = buf_put(&all, line, (size_t)n);
        else {
            if (n > 0 && line[n - 1] == t->end)
                line[--n] = '\0';
            st = tokenize_piece(t, line, (size_t)n);
        }
    }
    if (st == ST_OK && ferror(input)) {
        log_error("%s: cannot read: %s", t->name, strerror(errno));
        st = ST_IO;
    }
    if (st == ST_OK && t->whole) {
        t->line = 1;
        st = buf_put(&all, "", 1);
        if (st == ST_OK)
            st = tokenize_piece(t, (const char *)all.data, all.n_bytes - 1);
    }
    free(line);
    buf_free(&all);
    return st;
}

/* The tokeniser of a model, or of a tokenizer.json alone. */
static enum status open_tokenizer(const char *path, struct tokenizer **out_tokenizer)
{
    const char *dot = strrchr(path, '.');

    if (dot != NULL && strcmp(dot, ".json") == 0)
        return tokenizer_load_json(path, out_tokenizer);
    return model_open_tokenizer(path, out_tokenizer);
}

static int cmd_tokenize(const struct cli *cli)
{
    const char *model = cli_value(cli, "--model");
    const bool from_file = cli->n_args > 0 && strcmp(cli->args[0], "-") != 0;
    struct tokenizer *tokenizer = NULL;
    FILE *input = stdin;
    enum status st = ST_CONFIG;

    if (model == NULL) {
        log_error("tokenize: --model MODEL is missing: whose ids? (`epidote help tokenize`)");
        return OUTCOME_JOB;
    }
    if (!cli_readable(model) || (from_file && !cli_readable(cli->args[0])))
        return OUTCOME_JOB;
    TRY(open_tokenizer(model, &tokenizer), err);
    if (from_file)
        input = fopen(cli->args[0], "re");
    if (input == NULL) {
        log_error("%s: cannot open: %s", cli->args[0], strerror(errno));
        st = ST_IO;
        goto err;
    }
    struct tokenize t = {
        .tokenizer = tokenizer,
        .flags = (cli_given(cli, "--special") ? ENCODE_SPECIAL : 0u) |
                 (cli_given(cli, "--parse-special") ? ENCODE_PARSE_SPECIAL : 0u),
        .decode = cli_given(cli, "--decode"),
        .special = cli_given(cli, "--special"),
        .whole = cli_given(cli, "--whole"),
        .end = cli_given(cli, "--null") ? '\0' : '\n',
        .name = from_file ? cli->args[0] : "standard input",
    };
    st = tokenize_input(&t, input);
    token_list_free(&t.list);
    if (from_file)
        fclose(input);
err:
    tokenizer_destroy(tokenizer);
    return cli_exit(st);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define FLAG_SET                                                                                   \
    {                                                                                              \
        "--set", "NAME=VALUE", "set an option of the job after its file; may stand several times"  \
    }

static const struct cli_command commands[] = {
    {"run",
     "JOB.cfg",
     1,
     1,
     cmd_run,
     {FLAG_SET,
      {"--role", "ROLE",
       "what this rank is for: coordinator, encoder, prefill or decode; given to all ranks, in "
       "this order, it stands for `groups`"}},
     "serve the rows of a job",
     "One process, or as many as mpirun or srun start: the ranks divide the work among them.  The "
     "same command continues a run that was broken off, on any number of ranks.  `epidote help "
     "job` lists the options of a job."},
    {"check",
     "JOB.cfg",
     1,
     1,
     cmd_check,
     {FLAG_SET,
      {"--ranks", "N", "the layout of N ranks on this host instead of the ranks there are"},
      {"--links", NULL,
       "on the ranks there are, measure the links between them instead; reads no model"},
      {"--get", "OPTION",
       "print the value of this option, one that is a text, and nothing else: --get results"}},
     "read all that run would read, print layout, memory and the effective job, change nothing",
     NULL},
    {"status",
     "RESULTS",
     1,
     1,
     cmd_status,
     {{NULL, NULL, NULL}},
     "say how far a run is, and return its outcome",
     "Rows done, failed and left, also while it runs.  The exit status is the run's outcome, 5 "
     "while it runs, and 2 when there is no run."},
    {"inspect",
     "FILE",
     1,
     1,
     cmd_inspect,
     {{"--digest", NULL,
       "print a hash of the content only, of all but journals; equal answers give "
       "equal digests"}},
     "say what a model, prompt file, result file or journal holds",
     NULL},
    {"import",
     "IN OUT",
     2,
     2,
     cmd_import,
     {{"--lines", NULL,
       "IN is text, one prompt a line, instead of JSON objects, one a line; blank "
       "lines are no rows"},
      {"--prompt", "FIELD", "JSON field that is the prompt; default prompt"},
      {"--messages", "FIELD", "JSON field that is the chat; default messages"},
      {"--id", "FIELD", "JSON field that is the row's id; default id"}},
     "make a prompt file of JSON lines or of text",
     "IN may be - for standard input.  OUT is replaced only if it is a prompt file made by "
     "import."},
    {"export",
     "RESULTS [OUT]",
     1,
     2,
     cmd_export,
     {{"--partial", NULL,
       "the rows that are finished, of a run that was broken off or still runs; "
       "without ids"}},
     "write a result file as JSON lines",
     "OUT is a file or -, standard output, which is the default."},
    {"merge",
     "OUT RESULTS...",
     2,
     CLI_MAX_ARGS,
     cmd_merge,
     {{NULL, NULL, NULL}},
     "join the result files of parts of a prompt file",
     "The parts are of one job with other `rows`, such as \"1/8\" to \"8/8\", and follow one "
     "another without a gap.  OUT has the digest of a run that did all rows.  An OUT that holds "
     "just that already is left as it is."},
    {"report",
     "RESULTS",
     1,
     1,
     cmd_report,
     {{"--rows", "N", "how many rows to show, of every class some; default 8"},
      {"--sheet", "FILE.png",
       "also draw up to 24 rows that have pictures: picture, question, "
       "answer, in a green frame if it is right, in a red one if not"},
      {"--prompts", "FILE",
       "the prompt file that RESULTS was made of, if it is no longer where "
       "the job had it"}},
     "show some rows of a finished run, and how many answers are right",
     "An answer is right if it is the text in the prompt file's column `answer`, but for white "
     "space at its ends and the case of ASCII letters; rows that ended as errors count as wrong, "
     "rows with an empty `answer` are not judged.  A column `class` gives the counts for each "
     "class."},
    {"tokenize",
     "[FILE]",
     0,
     1,
     cmd_tokenize,
     {{"--model", "MODEL",
       "GGUF file, also of a vocabulary only, directory or tokenizer.json; required"},
      {"--whole", NULL, "the input is one text, not a text a line"},
      {"--null", NULL, "texts end with a NUL byte instead of a newline, and so do answers"},
      {"--special", NULL, "add BOS and EOS as the model asks; with --decode, show special tokens"},
      {"--parse-special", NULL, "special tokens written in the text become those tokens"},
      {"--decode", NULL, "from ids to text"}},
     "print the token ids of each line of a text, a line of ids per line, or the way back",
     "Without FILE, or with -, standard input is read."},
    {"help",
     "[COMMAND | job]",
     0,
     1,
     cli_help,
     {{NULL, NULL, NULL}},
     "describe all commands, one command, or the options of a job",
     NULL},
};

int main(int argc, char **argv)
{
    const struct cli_program program = {
        .commands = commands,
        .n_commands = sizeof commands / sizeof *commands,
        .about = "Epidote runs large offline batches of LLM prompts: a prompt file in, a result "
                 "file out.",
        .version = EPIDOTE_VERSION,
        .commit = EPIDOTE_COMMIT,
    };

    return cli_main(&program, argc, argv);
}
