/* TEST */
/*
 * unit_cli.c - command lines read by a table, messages for wrong ones, help, and output that cannot
 * be written.
 */
#include <fcntl.h>
#include <signal.h>

#include "cli/cli.h"
#include "test.h"

static struct cli seen; /* as the command got it */
static const char *seen_settings[8];

static int cmd_take(const struct cli *cli)
{
    seen = *cli;
    for (int i = 0; i < cli->n_settings && i < 8; i++)
        seen_settings[i] = cli->settings[i];
    return 3;
}

static int cmd_say(const struct cli *cli)
{
    struct buf text = {0};
    const enum status st = buf_printf(&text, "said %s\n", cli->args[0]);

    return cli_finish(st, &text);
}

static const struct cli_command commands[] = {
    {"take",
     "A [B]",
     1,
     2,
     cmd_take,
     {{"--set", "NAME=VALUE", "set something"},
      {"--switch", NULL, "a switch"},
      {"--name", "NAME", "a name"}},
     "take arguments",
     "More about take."},
    {"say", "TEXT", 1, 1, cmd_say, {{NULL, NULL, NULL}}, "say a text", NULL},
    {"help", "[COMMAND]", 0, 1, cli_help, {{NULL, NULL, NULL}}, "describe", NULL},
};
static const struct cli_program program = {commands, 3, "A program of tests.", "7.8.9", "abc123"};

static char out_path[] = "/tmp/epidote-cli-XXXXXX";

/* Run a line of arguments parted by |, standard output in *out (NUL-terminated). */
static int run(const char *line, struct buf *out)
{
    char copy[512];
    char *argv[16] = {(char *)"epidote"};
    int argc = 1;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, "|"); word != NULL && argc < 16; word = strtok(NULL, "|"))
        argv[argc++] = word;

    fflush(stdout);
    const int kept = dup(STDOUT_FILENO);
    const int file = open(out_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(kept >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) >= 0);
    const int code = cli_main(&program, argc, argv);
    CHECK(fflush(stdout) == 0);
    CHECK(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    close(file);
    buf_reset(out);
    CHECK(file_read(out_path, 1 << 20, out) == ST_OK);
    CHECK(buf_put(out, "", 1) == ST_OK);
    return code;
}

static void arguments_reach_the_command(void)
{
    struct buf out = {0};

    CHECK_INT(run("take|a", &out), 3);
    CHECK_INT(seen.n_args, 1);
    CHECK_STR(seen.args[0], "a");
    CHECK(!cli_given(&seen, "--switch") && cli_value(&seen, "--name") == NULL);
    CHECK_INT(seen.n_settings, 0);

    CHECK_INT(run("take|--set|x=1|a|--switch|--set=y=2=3|b|--name|-|--set|z", &out), 3);
    CHECK_INT(seen.n_args, 2);
    CHECK(cli_given(&seen, "--switch"));
    CHECK_INT(seen.n_settings, 3);

    CHECK_INT(run("take|--name|one|--name=two|-|--|--switch", &out), 3);
    CHECK_INT(seen.n_args, 2); /* - is an argument, and everything after -- */
    CHECK(!cli_given(&seen, "--switch"));
    CHECK_INT(run("say|hello", &out), 0);
    CHECK_STR((const char *)out.data, "said hello\n");
    buf_free(&out);
}

static void wrong_lines(void)
{
    static const struct {
        const char *line;
        const char *has[2];
    } cases[] = {
        {"nosuch|a", {"no command nosuch", "take, say, help"}},
        {"take", {"take: an argument is missing", "epidote take A [B]"}},
        {"take|a|b|c", {"take: c is one argument too many", "take A [B]"}},
        {"take|a|--nosuch", {"take has no flag --nosuch", "epidote help take"}},
        {"take|a|-x", {"take has no flag -x"}},
        {"take|a|--switc", {"take has no flag --switc"}},
        {"take|a|--set", {"take: --set needs a value"}},
        {"take|a|--switch=1", {"take: --switch takes no value"}},
        {"say|x|--set|a=b", {"say has no flag --set"}},
        {"help|nosuch", {"no help on nosuch"}},
        {"--nosuch", {"no command --nosuch"}},
    };
    struct buf out = {0};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT(run(cases[i].line, &out), OUTCOME_JOB);
        CHECK_STR((const char *)out.data, "");
        for (int k = 0; k < 2 && cases[i].has[k] != NULL; k++)
            CHECK_HAS(log_last_error(), cases[i].has[k]);
    }
    CHECK_INT(run("", &out), OUTCOME_JOB);
    CHECK_STR((const char *)out.data, "");
    setenv("EPIDOTE_LOG", "loud", 1);
    CHECK_INT(run("say|x", &out), OUTCOME_JOB);
    CHECK_HAS(log_last_error(), "EPIDOTE_LOG is loud");
    setenv("EPIDOTE_LOG", "debug", 1);
    CHECK_INT(run("say|x", &out), 0);
    CHECK_INT(log_get_level(), LOG_DEBUG);
    unsetenv("EPIDOTE_LOG");
    buf_free(&out);
}

static void help_comes_from_the_tables(void)
{
    static const char *const lines[] = {"help", "--help", "-h"};
    static const char *const take_lines[] = {"help|take", "take|--help", "take|a|-h|--nosuch"};
    struct buf out = {0};

    for (int i = 0; i < 3; i++) {
        CHECK_INT(run(lines[i], &out), 0);
        CHECK_HAS((const char *)out.data, "A program of tests.");
        CHECK_HAS((const char *)out.data,
                  "epidote take [--set NAME=VALUE] [--switch] [--name NAME] A [B]\n");
        CHECK_HAS((const char *)out.data, "epidote say TEXT\n      say a text\n");
        CHECK_HAS((const char *)out.data, "  3  broken off");
        CHECK_HAS((const char *)out.data, "EPIDOTE_LOG");
        CHECK_INT(run(take_lines[i], &out), 0);
        CHECK_HAS((const char *)out.data, "usage: epidote take");
        CHECK_HAS((const char *)out.data, "  --name NAME\n      a name\n");
        CHECK_HAS((const char *)out.data, "More about take.");
    }
    CHECK_INT(run("help|job", &out), 0);
    CHECK_HAS((const char *)out.data, "\n* max_tokens\n");

    CHECK_INT(run("help|man", &out), 0);
    const char *page = (const char *)out.data;
    CHECK(strncmp(page, ".TH EPIDOTE 1 ", 14) == 0);
    CHECK_HAS(page, ".SS take A [B]\n");
    CHECK_HAS(page, ".B \\-\\-name NAME\n");
    CHECK_HAS(page, ".B max_tokens *\n");
    int n_bare = 0;
    for (const char *c = page; *c != '\0'; c++)
        n_bare += *c == '-' && (c == page || c[-1] != '\\');
    CHECK_INT(n_bare, 0);

    CHECK_INT(run("--version", &out), 0);
    CHECK(strncmp((const char *)out.data, "epidote 7.8.9 (abc123)\n", 23) == 0);
    CHECK_HAS((const char *)out.data, "compiled by");
    CHECK_HAS((const char *)out.data, "libconfig");
    buf_free(&out);
}

/* A full device and a reader that has gone are errors, not silence. */
static void output_that_cannot_be_written(void)
{
    int ends[2];
    char *argv[] = {(char *)"epidote", (char *)"help", (char *)"job"};

    for (int gone = 0; gone < 2; gone++) {
        fflush(stdout);
        const int kept = dup(STDOUT_FILENO);
        int to = open("/dev/full", O_WRONLY | O_CLOEXEC);
        if (gone) {
            close(to);
            CHECK(pipe(ends) == 0);
            close(ends[0]);
            to = ends[1];
        }
        CHECK(dup2(to, STDOUT_FILENO) >= 0);
        CHECK_INT(cli_main(&program, 3, argv), OUTCOME_MACHINE);
        CHECK_HAS(log_last_error(), "standard output: cannot write");
        CHECK_HAS(log_last_error(), gone ? "Broken pipe" : "No space");
        clearerr(stdout);
        CHECK(dup2(kept, STDOUT_FILENO) >= 0);
        close(kept);
        close(to);
    }
}

int main(void)
{
    const int fd = mkstemp(out_path);

    CHECK(fd >= 0);
    close(fd);
    arguments_reach_the_command();
    wrong_lines();
    help_comes_from_the_tables();
    output_that_cannot_be_written();
    unlink(out_path);
    TEST_END();
}
