/*
 * arguments.c - a command line read by the table, and the small things that commands share.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/internal.h"

/* Exit statuses are outcomes (data.h), for all commands. */
int cli_exit(enum status st)
{
    switch (st) {
    case ST_OK:
        return OUTCOME_DONE;
    case ST_CONFIG:
    case ST_FORMAT:
    case ST_UNSUPPORTED:
    case ST_ROW:
        return OUTCOME_JOB;
    default:
        return OUTCOME_MACHINE;
    }
}

const char *cli_value(const struct cli *cli, const char *flag)
{
    const struct cli_flag *flags = cli->command->flags;

    for (int i = 0; i < CLI_MAX_FLAGS && flags[i].name != NULL; i++)
        if (strcmp(flags[i].name, flag) == 0)
            return cli->values[i];
    assert(false); /* the command has no such flag: a slip in main.c */
    return NULL;
}

bool cli_given(const struct cli *cli, const char *flag)
{
    return cli_value(cli, flag) != NULL;
}

enum status cli_write(const void *data, size_t n_bytes)
{
    if (fwrite(data, 1, n_bytes, stdout) == n_bytes)
        return ST_OK;
    log_error("standard output: cannot write: %s", strerror(errno));
    return ST_IO;
}

/* What is still in stdio's buffer, at the end of a command. */
static enum status flush_out(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return ST_OK;
    log_error("standard output: cannot write: %s", strerror(errno));
    return ST_IO;
}

/* Print text, free it, and give the exit status of a command that ended with st. */
int cli_finish(enum status st, struct buf *text)
{
    if (st == ST_OK)
        st = cli_write(text->data, text->n_bytes);
    buf_free(text);
    return cli_exit(st);
}

/* A file that is not there is the caller's slip, not the machine's failure. */
bool cli_readable(const char *path)
{
    if (access(path, R_OK) == 0)
        return true;
    const int why = errno;
    char parts[4096];

    /* RESULTS comes into being at the end of a run. */
    snprintf(parts, sizeof parts, "%s.parts", path);
    if (why == ENOENT && access(parts, F_OK) == 0)
        log_error("%s: %s; its run is not finished: what it has so far is in %s", path,
                  strerror(why), parts);
    else
        log_error("%s: %s", path, strerror(why));
    return false;
}

/* ---- arguments ---------------------------------------------------------------------------- */

const struct cli_command *cli_find(const struct cli_program *program, const char *name)
{
    for (int i = 0; i < program->n_commands; i++)
        if (strcmp(program->commands[i].name, name) == 0)
            return &program->commands[i];
    return NULL;
}

/* One flag at argv[i], perhaps with its value in argv[i + 1].  Returns how many arguments it took,
 * 0 when it is wrong (logged). */
static int read_flag(struct cli *cli, const char *const *argv, int n_left)
{
    const struct cli_flag *flags = cli->command->flags;
    const size_t n_name = strcspn(argv[0], "=");

    for (int i = 0; i < CLI_MAX_FLAGS && flags[i].name != NULL; i++) {
        if (strlen(flags[i].name) != n_name || strncmp(flags[i].name, argv[0], n_name) != 0)
            continue;
        const bool attached = argv[0][n_name] == '=';
        if (flags[i].value == NULL && !attached) {
            cli->values[i] = "";
            return 1;
        }
        if (flags[i].value == NULL || (!attached && n_left < 2)) {
            log_error("%s: %s %s", cli->command->name, flags[i].name,
                      attached ? "takes no value" : "needs a value");
            return 0;
        }
        cli->values[i] = attached ? argv[0] + n_name + 1 : argv[1];
        if (strcmp(flags[i].name, "--set") == 0)
            cli->settings[cli->n_settings++] = cli->values[i];
        return attached ? 1 : 2;
    }
    log_error("%s has no flag %s: `epidote help %s` lists them", cli->command->name, argv[0],
              cli->command->name);
    return 0;
}

/* Returns whether the arguments after the command's name are right; if not, it is logged. */
static bool read_arguments(struct cli *cli, const char *const *argv, int n)
{
    const struct cli_command *command = cli->command;
    bool flags_end = false;

    for (int i = 0; i < n;) {
        if (!flags_end && strcmp(argv[i], "--") == 0) {
            flags_end = true;
            i++;
        } else if (!flags_end && argv[i][0] == '-' && argv[i][1] != '\0') {
            const int n_taken = read_flag(cli, argv + i, n - i);

            if (n_taken == 0)
                return false;
            i += n_taken;
        } else if (cli->n_args == command->max_args) {
            log_error("%s: %s is one argument too many: epidote %s %s", command->name, argv[i],
                      command->name, command->args);
            return false;
        } else {
            cli->args[cli->n_args++] = argv[i++];
        }
    }
    if (cli->n_args < command->min_args)
        log_error("%s: an argument is missing: epidote %s %s (`epidote help %s`)", command->name,
                  command->name, command->args, command->name);
    return cli->n_args >= command->min_args;
}

static bool set_log_level(const char *name)
{
    static const char *const names[LOG_COUNT] = {"error", "warn", "info", "debug", "trace"};

    for (int i = 0; name != NULL && i < LOG_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            log_set_level((enum log_level)i);
            return true;
        }
    }
    if (name != NULL)
        log_error("EPIDOTE_LOG is %s: it may be error, warn, info, debug or trace", name);
    return name == NULL;
}

static int refuse_command(const struct cli_program *program, const char *name)
{
    struct buf known = {0};

    for (int i = 0; i < program->n_commands; i++)
        if (buf_printf(&known, "%s%s", i > 0 ? ", " : "", program->commands[i].name) != ST_OK)
            break;
    log_error("there is no command %s; there are %.*s", name, (int)known.n_bytes,
              (const char *)known.data);
    buf_free(&known);
    return OUTCOME_JOB;
}

static int dispatch(const struct cli_program *program, const char *const *argv, int n)
{
    struct cli cli = {.program = program, .command = cli_find(program, argv[0])};
    int code = OUTCOME_JOB;

    if (strcmp(argv[0], "--version") == 0)
        return cli_version(program);
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)
        cli.command = cli_find(program, "help");
    if (cli.command == NULL)
        return refuse_command(program, argv[0]);
    for (int i = 1; i < n; i++) {
        if (strcmp(argv[i], "--") == 0)
            break;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            struct buf text = {0};

            return cli_finish(cli_put_command_help(cli.command, &text), &text);
        }
    }
    cli.settings = host_alloc((size_t)n * sizeof *cli.settings);
    if (cli.settings == NULL)
        return OUTCOME_MACHINE;
    if (read_arguments(&cli, argv + 1, n - 1))
        code = cli.command->run(&cli);
    host_free(cli.settings);
    return code;
}

int cli_main(const struct cli_program *program, int argc, char **argv)
{
    struct buf text = {0};
    int code;

    signal(SIGPIPE, SIG_IGN); /* a reader that has gone shows as a failed write */
    if (!set_log_level(getenv("EPIDOTE_LOG")))
        return OUTCOME_JOB;
    if (argc < 2) {
        if (cli_put_help(program, &text) == ST_OK)
            fwrite(text.data, 1, text.n_bytes, stderr);
        buf_free(&text);
        return OUTCOME_JOB;
    }
    code = dispatch(program, (const char *const *)argv + 1, argc - 1);
    /* What a run did stands beside its results; for everything else the output is the work. */
    if (flush_out() != ST_OK && code == 0 && strcmp(argv[1], "run") != 0)
        code = OUTCOME_MACHINE;
    return code;
}
