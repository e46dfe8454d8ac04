/*
 * job.c - a job file, --set and the defaults become a struct job; a job becomes text again.
 *
 * Which options there are stands in options.c, what their values may be in value.c.  Called by
 * main.c and stage/.
 */
#include <assert.h>
#include <stdlib.h>

#include "job/options.h"

enum { FILE_MAX_BYTES = 4 << 20, PATH_CAP = 160, PLACE_CAP = 1024 };

/* ---- read ------------------------------------------------------------------------------------ */

static enum status refuse_unknown(const char *path, const char *place)
{
    const struct job_option *near = option_nearest(path);

    if (option_is_group(path)) {
        log_error("%s: %s is a group of options: write %s = { name = value; };", place, path, path);
        return ST_CONFIG;
    }
    log_error("%s: there is no option %s%s%s%s (`epidote help job` lists all)", place, path,
              near != NULL ? "; did you mean " : "", near != NULL ? near->path : "",
              near != NULL ? "?" : "");
    return ST_CONFIG;
}

/* Every setting of a group, and of the groups in it that hold options. */
static enum status apply_group(struct job *job, const config_setting_t *group, const char *prefix,
                               const char *file)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *value = config_setting_get_elem(group, (unsigned)i);
        char path[PATH_CAP], place[PLACE_CAP];
        const struct job_option *opt;
        enum status st;

        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                 config_setting_name(value));
        snprintf(place, sizeof place, "%s:%d", file, config_setting_source_line(value));
        opt = option_find(path);
        if (opt != NULL)
            st = option_set(job, opt, value, place);
        else if (config_setting_is_group(value) && option_is_group(path))
            st = apply_group(job, value, path, file);
        else
            st = refuse_unknown(path, place);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status apply_file(struct job *job, const char *file)
{
    struct buf text = {0}, scanned = {0};
    config_t config;
    enum status st;

    config_init(&config);
    TRY(file_read(file, FILE_MAX_BYTES, &text), err);
    TRY(scan_job_text((const char *)text.data, text.n_bytes, file, 1, &scanned), err);
    if (config_read_string(&config, (const char *)scanned.data) != CONFIG_TRUE) {
        const char *why = config_error_text(&config);

        log_error("%s:%d: %s: %s", file, config_error_line(&config), why,
                  strstr(why, "duplicate") != NULL
                      ? "this option stands in the file twice, keep one"
                      : "write options as `name = value;` and texts in quotes");
        st = ST_CONFIG;
        goto err;
    }
    TRY(apply_group(job, config_root_setting(&config), "", file), err);
err:
    config_destroy(&config);
    buf_free(&scanned);
    buf_free(&text);
    return st;
}

/* The part of text without white space at its ends; *n_bytes is its length. */
static const char *trimmed(const char *text, const char *end, size_t *n_bytes)
{
    static const char space[] = " \t\r\n";

    while (text < end && strchr(space, *text) != NULL)
        text++;
    while (end > text && strchr(space, end[-1]) != NULL)
        end--;
    *n_bytes = (size_t)(end - text);
    return text;
}

static enum status apply_setting(struct job *job, const char *setting)
{
    const char *equals = strchr(setting, '=');
    char path[PATH_CAP], place[PLACE_CAP];
    const struct job_option *opt;
    enum status st = ST_NOMEM;
    size_t n_bytes;
    char *value;

    snprintf(place, sizeof place, "--set %.*s%s", 100, setting, strlen(setting) > 100 ? "..." : "");
    if (equals == NULL) {
        log_error("%s: write --set name=value", place);
        return ST_CONFIG;
    }
    const char *name = trimmed(setting, equals, &n_bytes);
    snprintf(path, sizeof path, "%.*s", n_bytes < PATH_CAP ? (int)n_bytes : PATH_CAP, name);
    opt = option_find(path);
    if (opt == NULL)
        return refuse_unknown(path, place);

    const char *text = trimmed(equals + 1, equals + strlen(equals), &n_bytes);
    value = host_strndup(text, n_bytes);
    if (value != NULL)
        st = option_set_text(job, opt, value, place);
    host_free(value);
    return st;
}

static enum status check_required(const struct job *job)
{
    for (int i = 0; i < job_n_options; i++) {
        const struct job_option *opt = &job_options[i];

        if (!(opt->flags & OPT_REQUIRED) || !option_is_absent(job, opt))
            continue;
        log_error(
            "%s: %s, %s, is missing: write %s = \"...\"; in the job file or give --set %s=...",
            job->path != NULL ? job->path : "the job", opt->path, opt->help, opt->path, opt->path);
        return ST_CONFIG;
    }
    return ST_OK;
}

enum status job_load(const char *path, const char *const *settings, int n_settings,
                     struct job **out_job)
{
    enum status st = ST_NOMEM;
    struct job *job = host_zalloc(sizeof *job);

    if (job == NULL)
        goto err;
    for (int i = 0; i < job_n_options; i++)
        if (job_options[i].dflt != NULL)
            TRY(option_set_text(job, &job_options[i], job_options[i].dflt, "default"), err);
    if (path != NULL) {
        st = ST_NOMEM;
        job->path = host_strdup(path);
        if (job->path == NULL)
            goto err;
        TRY(apply_file(job, path), err);
    }
    for (int i = 0; i < n_settings; i++)
        TRY(apply_setting(job, settings[i]), err);
    TRY(check_required(job), err);
    *out_job = job;
    return ST_OK;

err:
    job_destroy(job);
    return st;
}

void job_destroy(struct job *job)
{
    if (job == NULL)
        return;
    for (int i = 0; i < job_n_options; i++)
        option_clear(job, &job_options[i]);
    host_free(job->path);
    host_free(job);
}

/* ---- print ----------------------------------------------------------------------------------- */

/* "help (unit); an integer from ..; default 5" */
static enum status put_meaning(const struct job_option *opt, struct buf *out)
{
    enum status st;

    TRY(buf_puts(out, opt->help), err);
    if (opt->unit[0] != '\0')
        TRY(buf_printf(out, " (%s)", opt->unit), err);
    TRY(buf_puts(out, "; "), err);
    TRY(option_allowed(opt, out), err);
    if (opt->dflt != NULL)
        TRY(buf_printf(out, "; default %s", opt->dflt), err);
    else
        TRY(buf_puts(out, opt->flags & OPT_REQUIRED ? "; required" : "; default none"), err);
err:
    return st;
}

/* One option as lines of a job file: what it means, then its value. */
static enum status put_option(const struct job *job, const struct job_option *opt, struct buf *out)
{
    const char *dot = strrchr(opt->path, '.'), *name = dot != NULL ? dot + 1 : opt->path;
    const char *indent = dot != NULL ? "    " : "";
    enum status st;

    TRY(buf_printf(out, "%s# ", indent), err);
    TRY(put_meaning(opt, out), err);
    if (option_is_absent(job, opt))
        return buf_printf(out, "\n%s# %s = \"...\";\n", indent, name);
    TRY(buf_printf(out, "\n%s%s = ", indent, name), err);
    TRY(option_format(job, opt, out), err);
    return buf_puts(out, ";\n");
err:
    return st;
}

/* Bytes of the group's name in "group.name"; 0 = not in a group. */
static int group_bytes(const struct job_option *opt)
{
    const char *dot = strrchr(opt->path, '.');

    return dot != NULL ? (int)(dot - opt->path) : 0;
}

enum status job_print(const struct job *job, struct buf *out)
{
    enum status st = ST_OK;
    int open = 0; /* bytes of the name of the group that is open */

    for (int i = 0; i < job_n_options; i++) {
        const struct job_option *opt = &job_options[i];
        const int group = group_bytes(opt);

        if (group != open && open > 0)
            TRY(buf_puts(out, "};\n"), err);
        if (group != open && group > 0)
            TRY(buf_printf(out, "%.*s = {\n", group, opt->path), err);
        open = group;
        TRY(put_option(job, opt, out), err);
    }
err:
    return st;
}

enum status job_text_get(const char *text, const char *place, const char *option, struct buf *out)
{
    struct buf scanned = {0};
    const char *value = NULL;
    config_t config;
    enum status st;

    config_init(&config);
    TRY(scan_job_text(text, strlen(text), place, 0, &scanned), err);
    if (config_read_string(&config, (const char *)scanned.data) != CONFIG_TRUE ||
        config_lookup_string(&config, option, &value) != CONFIG_TRUE) {
        log_error("%s: the job in it does not say %s", place, option);
        st = ST_CONFIG;
        goto err;
    }
    st = buf_put(out, value, strlen(value) + 1);
err:
    config_destroy(&config);
    buf_free(&scanned);
    return st;
}

enum status job_is_default(const struct job *job, const char *path, bool *out_is)
{
    const struct job_option *opt = option_find(path);
    struct job *dflt = host_zalloc(sizeof *dflt);
    struct buf is = {0}, would_be = {0};
    enum status st = ST_NOMEM;

    assert(opt != NULL && opt->dflt != NULL);
    if (dflt == NULL)
        goto done;
    TRY(option_set_text(dflt, opt, opt->dflt, "default"), done);
    TRY(option_format(job, opt, &is), done);
    TRY(option_format(dflt, opt, &would_be), done);
    *out_is = is.n_bytes == would_be.n_bytes && memcmp(is.data, would_be.data, is.n_bytes) == 0;
done:
    buf_free(&is);
    buf_free(&would_be);
    job_destroy(dflt);
    return st;
}

enum status job_identity(const struct job *job, struct buf *out)
{
    enum status st = ST_OK;

    for (int i = 0; i < job_n_options; i++) {
        const struct job_option *opt = &job_options[i];

        if (!(opt->flags & OPT_RESULTS) || opt->flags & OPT_RESOLVED)
            continue;
        TRY(buf_printf(out, "%s = %s", opt->path, option_is_absent(job, opt) ? "none" : ""), err);
        TRY(option_format(job, opt, out), err);
        TRY(buf_puts(out, "\n"), err);
    }
err:
    return st;
}

enum status job_help(struct buf *out)
{
    enum status st;

    TRY(buf_puts(out,
                 "A job file has lines `name = value;` in libconfig's syntax: texts in quotes, "
                 "lists as\n[\"a\", \"b\"], comments after #.  --set name=value sets the same "
                 "options after the file;\nthere texts need no quotes.  Paths are relative to "
                 "the current directory.  * = changes\nresults: a run continues only with the "
                 "same value.\n\n"),
        err);
    for (int i = 0; i < job_n_options; i++) {
        const struct job_option *opt = &job_options[i];

        TRY(buf_printf(out, "%c %s\n      ", opt->flags & OPT_RESULTS ? '*' : ' ', opt->path), err);
        TRY(put_meaning(opt, out), err);
        TRY(buf_puts(out, "\n"), err);
    }
err:
    return st;
}

enum status job_man(struct buf *out)
{
    enum status st = ST_OK;

    for (int i = 0; i < job_n_options; i++) {
        const struct job_option *opt = &job_options[i];

        TRY(buf_printf(out, ".TP\n.B %s%s\n", opt->path, opt->flags & OPT_RESULTS ? " *" : ""),
            err);
        TRY(put_meaning(opt, out), err);
        TRY(buf_puts(out, "\n"), err);
    }
err:
    return st;
}
