/*
 * cli.h - a command line by one table of commands: arguments read, help and manual page printed.
 *
 * Knows no command but `help` and --version; main.c has the table and what the commands do.
 */
#ifndef EPIDOTE_CLI_H
#define EPIDOTE_CLI_H

#include "data/data.h"

enum { CLI_MAX_ARGS = 4096, CLI_MAX_FLAGS = 6 };

struct cli_flag {
    const char *name;
    const char *value; /* what stands for it in the usage; NULL = a switch */
    const char *help;  /* no full stop */
};

struct cli;
struct cli_command {
    const char *name, *args;
    int min_args, max_args;
    int (*run)(const struct cli *cli);    /* returns the exit status, an enum outcome */
    struct cli_flag flags[CLI_MAX_FLAGS]; /* up to the first without a name */
    const char *help;                     /* what it does, no full stop */
    const char *more;                     /* sentences for `help COMMAND`; NULL = none */
};

/* What this program is; all static. */
struct cli_program {
    const struct cli_command *commands; /* [n_commands] */
    int n_commands;
    const char *about; /* a sentence */
    const char *version, *commit;
};

/* A command line as read; all borrowed from argv. */
struct cli {
    const struct cli_program *program;
    const struct cli_command *command;
    const char *args[CLI_MAX_ARGS];
    int n_args;
    const char *values[CLI_MAX_FLAGS]; /* of each flag; NULL = not given; "" = a switch that was */
    const char **settings;             /* [n_settings] of --set, in order */
    int n_settings;
};

/*
 * cli_main - read the command line and run the command.
 *   A wrong command line is refused with what would be right; NAME=VALUE flags may stand several
 * times, of others the last counts.  --version, --help and -h work everywhere.  Sets the log level
 * of EPIDOTE_LOG; ignores SIGPIPE, so that a reader that has gone shows as a failed write.
 * Returns the exit status.
 */
int cli_main(const struct cli_program *program, int argc, char **argv);

/* cli_value - of a flag that the command has; NULL = not given.  cli_given - whether it was. */
const char *cli_value(const struct cli *cli, const char *flag);
bool cli_given(const struct cli *cli, const char *flag);

/* cli_exit - the exit status (an enum outcome) of a command that ended with st. */
int cli_exit(enum status st);
/* cli_write - to standard output.  Returns ST_OK, ST_IO (logged). */
enum status cli_write(const void *data, size_t n_bytes);
/* cli_finish - print text if st is ST_OK, free it, and give the exit status. */
int cli_finish(enum status st, struct buf *text);
/* cli_readable - whether a path can be read; logged if not, since it is a slip of the caller's. */
bool cli_readable(const char *path);

/* cli_help - the command `help [COMMAND | job | man]`; the table of commands must have it. */
int cli_help(const struct cli *cli);

#endif
