/*
 * help.c - help, manual page and version, printed from the table of commands and that of options.
 */
#include <gnu/libc-version.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/internal.h"
#include "job/job.h"

static const char environment[] =
    "how much is logged: error, warn, info (the default), debug (a line a row) or trace";

static enum status put_usage(const struct cli_command *command, struct buf *out)
{
    enum status st;

    TRY(buf_printf(out, "epidote %s", command->name), err);
    for (const struct cli_flag *f = command->flags; f < command->flags + CLI_MAX_FLAGS && f->name;
         f++)
        TRY(buf_printf(out, " [%s%s%s]", f->name, f->value != NULL ? " " : "",
                       f->value != NULL ? f->value : ""),
            err);
    TRY(buf_printf(out, " %s\n", command->args), err);
err:
    return st;
}

enum status cli_put_command_help(const struct cli_command *command, struct buf *out)
{
    enum status st;

    TRY(buf_puts(out, "usage: "), err);
    TRY(put_usage(command, out), err);
    TRY(buf_printf(out, "\n%s.\n", command->help), err);
    if (command->more != NULL)
        TRY(buf_printf(out, "%s\n", command->more), err);
    for (const struct cli_flag *f = command->flags; f < command->flags + CLI_MAX_FLAGS && f->name;
         f++)
        TRY(buf_printf(out, "\n  %s%s%s\n      %s\n", f->name, f->value != NULL ? " " : "",
                       f->value != NULL ? f->value : "", f->help),
            err);
err:
    return st;
}

enum status cli_put_help(const struct cli_program *program, struct buf *out)
{
    enum status st;

    TRY(buf_printf(out, "%s\n\nusage:\n", program->about), err);
    for (int i = 0; i < program->n_commands; i++) {
        TRY(buf_puts(out, "  "), err);
        TRY(put_usage(&program->commands[i], out), err);
        TRY(buf_printf(out, "      %s\n", program->commands[i].help), err);
    }
    TRY(buf_puts(out, "  epidote --version\n\nexit status:\n"), err);
    for (int i = OUTCOME_DONE; i <= OUTCOME_MACHINE; i++)
        TRY(buf_printf(out, "  %d  %s\n", i, outcome_name((enum outcome)i)), err);
    TRY(buf_printf(out, "  %d  %s (of status)\n", OUTCOME_RUNNING, outcome_name(OUTCOME_RUNNING)),
        err);
    TRY(buf_printf(out, "\nenvironment:\n  EPIDOTE_LOG  %s\n", environment), err);
err:
    return st;
}

static enum status put_man(const struct cli_program *program, struct buf *out)
{
    struct buf page = {0};
    enum status st;

    TRY(buf_printf(&page, ".TH EPIDOTE 1 \"\" \"epidote %s\"\n.SH NAME\n", program->version), err);
    TRY(buf_puts(&page, "epidote - large offline batches of LLM prompts\n.SH SYNOPSIS\n.nf\n"),
        err);
    for (int i = 0; i < program->n_commands; i++)
        TRY(put_usage(&program->commands[i], &page), err);
    TRY(buf_printf(&page, "epidote --version\n.fi\n.SH DESCRIPTION\n%s\n.SH COMMANDS\n",
                   program->about),
        err);
    for (int i = 0; i < program->n_commands; i++) {
        const struct cli_command *c = &program->commands[i];

        TRY(buf_printf(&page, ".SS %s %s\n%s.\n%s\n", c->name, c->args, c->help,
                       c->more != NULL ? c->more : ".br"),
            err);
        for (const struct cli_flag *f = c->flags; f < c->flags + CLI_MAX_FLAGS && f->name; f++)
            TRY(buf_printf(&page, ".TP\n.B %s %s\n%s\n", f->name, f->value ? f->value : "",
                           f->help),
                err);
    }
    TRY(buf_puts(&page, ".SH OPTIONS OF A JOB\nOptions with a * change results: a run continues "
                        "only with the same values.\n"),
        err);
    TRY(job_man(&page), err);
    TRY(buf_puts(&page, ".SH EXIT STATUS\n"), err);
    for (int i = OUTCOME_DONE; i <= OUTCOME_MACHINE; i++)
        TRY(buf_printf(&page, ".TP\n.B %d\n%s\n", i, outcome_name((enum outcome)i)), err);
    TRY(buf_printf(&page, ".TP\n.B %d\n%s (of status)\n", OUTCOME_RUNNING,
                   outcome_name(OUTCOME_RUNNING)),
        err);
    TRY(buf_printf(&page, ".SH ENVIRONMENT\n.TP\n.B EPIDOTE_LOG\n%s\n", environment), err);

    for (size_t i = 0; i < page.n_bytes; i++) {
        const char c = (char)page.data[i];

        TRY(c == '-'    ? buf_puts(out, "\\-")
            : c == '\\' ? buf_puts(out, "\\e")
                        : buf_put(out, &c, 1),
            err);
    }
err:
    buf_free(&page);
    return st;
}

int cli_help(const struct cli *cli)
{
    const char *topic = cli->n_args > 0 ? cli->args[0] : "";
    const struct cli_command *command = cli_find(cli->program, topic);
    struct buf text = {0};

    if (cli->n_args == 0)
        return cli_finish(cli_put_help(cli->program, &text), &text);
    if (command != NULL)
        return cli_finish(cli_put_command_help(command, &text), &text);
    if (strcmp(topic, "job") == 0)
        return cli_finish(job_help(&text), &text);
    if (strcmp(topic, "man") == 0) /* for the Makefile */
        return cli_finish(put_man(cli->program, &text), &text);
    log_error("there is no help on %s: `epidote help` lists the commands", topic);
    return OUTCOME_JOB;
}

/* One shared library of those that the program asks for itself, by the name of its file: that is
 * where its version stands. */
static int put_library(struct dl_phdr_info *info, size_t n_bytes, void *text)
{
    static const char *const asked[] = {"libhdf5", "libconfig", "libjansson", "libxxhash"};
    char *path = info->dlpi_name[0] == '/' ? realpath(info->dlpi_name, NULL) : NULL;
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    enum status st = ST_OK;

    (void)n_bytes;
    for (size_t i = 0; slash != NULL && i < sizeof asked / sizeof *asked; i++)
        if (strncmp(slash + 1, asked[i], strlen(asked[i])) == 0)
            st = buf_printf(text, "  %s\n", slash + 1);
    free(path);
    return st != ST_OK;
}

int cli_version(const struct cli_program *program)
{
    struct buf text = {0};
    enum status st;
    const char *compiler =
#ifdef __clang__
        ""; /* its version begins with its name */
#else
        "gcc ";
#endif

    TRY(buf_printf(&text, "epidote %s%s%s%s\ncompiled by %s%s, running with glibc %s\n",
                   program->version, program->commit[0] != '\0' ? " (" : "", program->commit,
                   program->commit[0] != '\0' ? ")" : "", compiler, __VERSION__,
                   gnu_get_libc_version()),
        err);
    if (dl_iterate_phdr(put_library, &text) != 0)
        st = ST_NOMEM;
err:
    return cli_finish(st, &text);
}
