/*
 * internal.h - private to cli/.
 */
#ifndef EPIDOTE_CLI_INTERNAL_H
#define EPIDOTE_CLI_INTERNAL_H

#include "cli/cli.h"

/* cli_find - a command by its name, NULL if there is none.  cli_put_help - append all commands. */
const struct cli_command *cli_find(const struct cli_program *program, const char *name);
enum status cli_put_help(const struct cli_program *program, struct buf *out);
enum status cli_put_command_help(const struct cli_command *command, struct buf *out);
int cli_version(const struct cli_program *program);

#endif
