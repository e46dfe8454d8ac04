/*
 * value.c - the value of one option: checked and stored, printed, freed.
 *
 * Defaults, --set and the job file all end in option_set, so they obey the same rules and give the
 * same messages.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "job/options.h"

_Static_assert(sizeof(enum precision) == sizeof(int) && sizeof(enum row_order) == sizeof(int) &&
                   sizeof(enum sampling) == sizeof(int),
               "OPT_ENUM stores an int");
_Static_assert(offsetof(struct job, rows_end) == offsetof(struct job, rows_begin) + 8, "OPT_ROWS");
_Static_assert(offsetof(struct job, n_shards) == offsetof(struct job, rows_begin) + 16, "OPT_ROWS");
_Static_assert(offsetof(struct job, n_stop) == offsetof(struct job, stop) + sizeof(char **),
               "OPT_TEXTS");

static void *field(const struct job *job, const struct job_option *opt)
{
    return (char *)job + opt->offset;
}

/* ---- messages ------------------------------------------------------------------------------- */

static enum status put_number(struct buf *out, double value)
{
    char text[40];

    /* The fewest digits that read back as the same number. */
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return buf_puts(out, text);
}

enum status option_allowed(const struct job_option *opt, struct buf *out)
{
    enum status st;

    if (opt->names != NULL) {
        TRY(buf_puts(out, opt->names[1] != NULL ? "one of " : ""), err);
        for (int i = 0; opt->names[i] != NULL; i++)
            TRY(buf_printf(out, "%s%s", i > 0 ? ", " : "", opt->names[i]), err);
        return ST_OK;
    }
    switch (opt->type) {
    case OPT_BOOL:
        return buf_puts(out, "true or false");
    case OPT_INT:
    case OPT_INT64:
        return buf_printf(out, "an integer from %lld to %lld", (long long)opt->min,
                          (long long)opt->max);
    case OPT_SEED:
        return buf_printf(out, "an integer from 0 to %lld", (long long)INT64_MAX);
    case OPT_NUMBER:
        TRY(buf_puts(out, "a number from "), err);
        TRY(put_number(out, opt->min), err);
        TRY(buf_puts(out, " to "), err);
        return put_number(out, opt->max);
    case OPT_ROWS:
        return buf_puts(out, "\"a:b\" (rows a to b - 1, a < b), \"a:\", \":b\", \"all\" or \"i/n\" "
                             "(part i of n, from 1)");
    case OPT_TEXTS:
        return buf_printf(out, "a text or a list of at most %d texts, none empty", (int)opt->max);
    case OPT_TEXT:
    case OPT_ENUM:
    case OPT_CHOICE:
        break;
    }
    return buf_printf(out, "a text of %d to %d bytes%s", (int)opt->min, (int)opt->max,
                      opt->flags & OPT_UTF8 ? " of UTF-8" : "");
err:
    return st;
}

/* What was given, for a message. */
static void describe(const config_setting_t *value, char *out, size_t cap)
{
    const char *text;

    switch (config_setting_type(value)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        snprintf(out, cap, "%lld", config_setting_get_int64(value));
        break;
    case CONFIG_TYPE_FLOAT:
        snprintf(out, cap, "%.15g", config_setting_get_float(value));
        break;
    case CONFIG_TYPE_BOOL:
        snprintf(out, cap, "%s", config_setting_get_bool(value) ? "true" : "false");
        break;
    case CONFIG_TYPE_STRING:
        text = config_setting_get_string(value);
        snprintf(out, cap, "\"%.60s\"%s", text, strlen(text) > 60 ? "..." : "");
        break;
    case CONFIG_TYPE_GROUP:
        snprintf(out, cap, "a group");
        break;
    default:
        snprintf(out, cap, "a list");
    }
}

static enum status refuse(const struct job_option *opt, const config_setting_t *value,
                          const char *place)
{
    struct buf allowed = {0};
    char given[120];

    describe(value, given, sizeof given);
    if (option_allowed(opt, &allowed) != ST_OK) {
        buf_free(&allowed);
        return ST_NOMEM;
    }
    log_error("%s: %s must be %.*s, not %s", place, opt->path, (int)allowed.n_bytes,
              (const char *)allowed.data, given);
    buf_free(&allowed);
    return ST_CONFIG;
}

/* ---- checks: false = refuse ------------------------------------------------------------------ */

static bool get_integer(const config_setting_t *value, long long *out)
{
    const int type = config_setting_type(value);

    if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
        return false;
    *out = config_setting_get_int64(value);
    return true;
}

static bool get_number(const config_setting_t *value, double *out)
{
    long long integer;

    if (config_setting_type(value) == CONFIG_TYPE_FLOAT)
        *out = config_setting_get_float(value);
    else if (get_integer(value, &integer))
        *out = (double)integer;
    else
        return false;
    return true;
}

/* Index of a text or integer in names; -1 if it is not there. */
static int get_name(const struct job_option *opt, const config_setting_t *value)
{
    const char *text = config_setting_get_string(value);
    long long integer;
    char digits[24];

    if (text == NULL) {
        if (opt->type != OPT_CHOICE || !get_integer(value, &integer))
            return -1;
        snprintf(digits, sizeof digits, "%lld", integer);
        text = digits;
    }
    for (int i = 0; opt->names[i] != NULL; i++)
        if (strcmp(opt->names[i], text) == 0)
            return i;
    return -1;
}

/* Digits up to `end`, or nothing at all, which leaves *out. */
static bool get_row(const char *text, const char *end, uint64_t *out)
{
    char *stop;

    if (text == end)
        return true;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *out = strtoull(text, &stop, 10);
    return errno == 0 && stop == end;
}

/* "i/n" */
static bool get_shard(const char *text, const char *slash, uint64_t *rows)
{
    uint64_t shard = 0, n_shards = 0;

    if (!get_row(text, slash, &shard) || !get_row(slash + 1, slash + strlen(slash), &n_shards) ||
        shard == 0 || shard > n_shards || n_shards > UINT32_MAX)
        return false;
    rows[0] = shard - 1;
    rows[1] = shard;
    rows[2] = n_shards;
    return true;
}

/* rows [3] out: begin, end, number of shards. */
static bool get_rows(const config_setting_t *value, uint64_t *rows)
{
    const char *text = config_setting_get_string(value), *colon;
    uint64_t begin = 0, end = UINT64_MAX;

    if (text == NULL)
        return false;
    if (strchr(text, '/') != NULL)
        return get_shard(text, strchr(text, '/'), rows);
    colon = strchr(text, ':');
    if (colon == NULL
            ? strcmp(text, "all") != 0
            : !get_row(text, colon, &begin) || !get_row(colon + 1, colon + strlen(colon), &end))
        return false;
    rows[0] = begin;
    rows[1] = end;
    rows[2] = 0;
    return begin < end;
}

static bool text_allowed(const struct job_option *opt, const char *text)
{
    return text != NULL && (!(opt->flags & OPT_UTF8) || utf8_valid(text, strlen(text), NULL));
}

/* ---- set ------------------------------------------------------------------------------------- */

static enum status set_text(struct job *job, const struct job_option *opt,
                            const config_setting_t *value, const char *place)
{
    const char *text = config_setting_get_string(value);
    char *copy;

    if (!text_allowed(opt, text) || (double)strlen(text) < opt->min ||
        (double)strlen(text) > opt->max || (opt->names != NULL && get_name(opt, value) < 0))
        return refuse(opt, value, place);
    copy = host_strdup(text);
    if (copy == NULL)
        return ST_NOMEM;
    option_clear(job, opt);
    *(char **)field(job, opt) = copy;
    return ST_OK;
}

static void texts_free(char **texts, int n)
{
    for (int i = 0; i < n; i++)
        host_free(texts[i]);
    host_free(texts);
}

static enum status set_texts(struct job *job, const struct job_option *opt,
                             const config_setting_t *value, const char *place)
{
    const int type = config_setting_type(value);
    const bool one = type == CONFIG_TYPE_STRING;
    char **texts;
    int n = 0;

    if (!one && type != CONFIG_TYPE_LIST && type != CONFIG_TYPE_ARRAY)
        return refuse(opt, value, place);
    const int n_given = one ? 1 : config_setting_length(value);
    if (n_given > (int)opt->max)
        return refuse(opt, value, place);
    texts = host_zalloc((size_t)n_given * sizeof *texts);
    if (texts == NULL)
        return ST_NOMEM;
    for (; n < n_given; n++) {
        const config_setting_t *item = one ? value : config_setting_get_elem(value, (unsigned)n);
        const char *text = config_setting_get_string(item);

        if (!text_allowed(opt, text) || text[0] == '\0') {
            texts_free(texts, n);
            return refuse(opt, item, place);
        }
        texts[n] = host_strdup(text);
        if (texts[n] == NULL) {
            texts_free(texts, n);
            return ST_NOMEM;
        }
    }
    option_clear(job, opt);
    *(char ***)field(job, opt) = texts;
    *(int *)((char ***)field(job, opt) + 1) = n;
    return ST_OK;
}

enum status option_set(struct job *job, const struct job_option *opt, const config_setting_t *value,
                       const char *place)
{
    void *at = field(job, opt);
    uint64_t *rows = at;
    long long integer = 0;
    double number = 0;
    int name;

    switch (opt->type) {
    case OPT_BOOL:
        if (config_setting_type(value) != CONFIG_TYPE_BOOL)
            return refuse(opt, value, place);
        *(bool *)at = config_setting_get_bool(value);
        return ST_OK;
    case OPT_INT:
    case OPT_INT64:
        if (!get_integer(value, &integer) || integer < (long long)opt->min ||
            integer > (long long)opt->max)
            return refuse(opt, value, place);
        if (opt->type == OPT_INT)
            *(int *)at = (int)integer;
        else
            *(int64_t *)at = integer;
        return ST_OK;
    case OPT_SEED:
        if (!get_integer(value, &integer) || integer < 0)
            return refuse(opt, value, place);
        *(uint64_t *)at = (uint64_t)integer;
        return ST_OK;
    case OPT_NUMBER:
        if (!get_number(value, &number) || !(number >= opt->min && number <= opt->max))
            return refuse(opt, value, place);
        *(double *)at = number;
        return ST_OK;
    case OPT_ENUM:
    case OPT_CHOICE:
        name = get_name(opt, value);
        if (name < 0)
            return refuse(opt, value, place);
        *(int *)at = opt->type == OPT_ENUM ? name : atoi(opt->names[name]);
        return ST_OK;
    case OPT_ROWS:
        return get_rows(value, rows) ? ST_OK : refuse(opt, value, place);
    case OPT_TEXT:
        return set_text(job, opt, value, place);
    case OPT_TEXTS:
        return set_texts(job, opt, value, place);
    }
    return ST_CONFIG;
}

/* Whether `text` is libconfig's and not a bare text. */
static bool is_written_out(const struct job_option *opt, const char *text)
{
    switch (opt->type) {
    case OPT_TEXT:
    case OPT_ENUM:
    case OPT_ROWS:
        return text[0] == '"';
    case OPT_TEXTS:
        return text[0] == '"' || text[0] == '[' || text[0] == '(';
    default:
        return true;
    }
}

enum status option_set_text(struct job *job, const struct job_option *opt, const char *text,
                            const char *place)
{
    const config_setting_t *value = NULL;
    struct buf line = {0}, scanned = {0};
    config_t config;
    enum status st;

    config_init(&config);
    if (opt->type == OPT_TEXTS && text[0] == '\0')
        text = "[]"; /* `stop=` takes the list back */
    if (is_written_out(opt, text)) {
        TRY(buf_printf(&line, "v = %s\n;", text), err);
        TRY(scan_job_text((const char *)line.data, line.n_bytes, place, 0, &scanned), err);
        if (config_read_string(&config, (const char *)scanned.data) == CONFIG_TRUE &&
            config_setting_length(config_root_setting(&config)) == 1)
            value = config_lookup(&config, "v");
        if (value == NULL) {
            struct buf allowed = {0};

            st = option_allowed(opt, &allowed) == ST_OK ? ST_CONFIG : ST_NOMEM;
            log_error("%s: %s must be %.*s", place, opt->path, (int)allowed.n_bytes,
                      (const char *)allowed.data);
            buf_free(&allowed);
            goto err;
        }
    } else {
        config_setting_t *bare =
            config_setting_add(config_root_setting(&config), "v", CONFIG_TYPE_STRING);

        config_setting_set_string(bare, text);
        value = bare;
    }
    st = option_set(job, opt, value, place);
err:
    config_destroy(&config);
    buf_free(&scanned);
    buf_free(&line);
    return st;
}

/* ---- print and free ------------------------------------------------------------------------- */

static enum status put_quoted(struct buf *out, const char *text)
{
    enum status st;

    TRY(buf_puts(out, "\""), err);
    for (const char *c = text; *c != '\0'; c++) {
        const unsigned char byte = (unsigned char)*c;

        if (byte == '"' || byte == '\\')
            TRY(buf_printf(out, "\\%c", byte), err);
        else if (byte == '\n' || byte == '\t' || byte == '\r')
            TRY(buf_puts(out, byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : "\\r"), err);
        else if (byte < 0x20 || byte == 0x7f)
            TRY(buf_printf(out, "\\x%02x", byte), err);
        else
            TRY(buf_put(out, c, 1), err);
    }
    return buf_puts(out, "\"");
err:
    return st;
}

bool option_is_absent(const struct job *job, const struct job_option *opt)
{
    return opt->type == OPT_TEXT && *(char *const *)field(job, opt) == NULL;
}

/* Over 32 bits libconfig wants an L. */
static enum status put_integer(struct buf *out, long long value)
{
    return buf_printf(out, "%lld%s", value, value > INT32_MAX || value < INT32_MIN ? "L" : "");
}

static enum status put_rows(struct buf *out, const uint64_t *rows)
{
    if (rows[2] > 0)
        return buf_printf(out, "\"%llu/%llu\"", (unsigned long long)rows[1],
                          (unsigned long long)rows[2]);
    if (rows[0] == 0 && rows[1] == UINT64_MAX)
        return buf_puts(out, "\"all\"");
    if (rows[1] == UINT64_MAX)
        return buf_printf(out, "\"%llu:\"", (unsigned long long)rows[0]);
    return buf_printf(out, "\"%llu:%llu\"", (unsigned long long)rows[0],
                      (unsigned long long)rows[1]);
}

enum status option_format(const struct job *job, const struct job_option *opt, struct buf *out)
{
    const void *at = field(job, opt);
    enum status st;

    switch (opt->type) {
    case OPT_BOOL:
        return buf_puts(out, *(const bool *)at ? "true" : "false");
    case OPT_INT:
    case OPT_CHOICE:
        return put_integer(out, *(const int *)at);
    case OPT_INT64:
    case OPT_SEED: /* never over INT64_MAX */
        return put_integer(out, *(const int64_t *)at);
    case OPT_NUMBER:
        return put_number(out, *(const double *)at);
    case OPT_ENUM:
        return put_quoted(out, opt->names[*(const int *)at]);
    case OPT_ROWS:
        return put_rows(out, at);
    case OPT_TEXT:
        return option_is_absent(job, opt) ? ST_OK : put_quoted(out, *(char *const *)at);
    case OPT_TEXTS:
        break;
    }

    char **texts = *(char ***)at;
    const int n = *(const int *)((char **const *)at + 1);
    TRY(buf_puts(out, "["), err);
    for (int i = 0; i < n; i++) {
        TRY(buf_puts(out, i > 0 ? ", " : ""), err);
        TRY(put_quoted(out, texts[i]), err);
    }
    return buf_puts(out, "]");
err:
    return st;
}

void option_clear(struct job *job, const struct job_option *opt)
{
    if (opt->type == OPT_TEXT) {
        host_free(*(char **)field(job, opt));
        *(char **)field(job, opt) = NULL;
    } else if (opt->type == OPT_TEXTS) {
        int *n = (int *)((char ***)field(job, opt) + 1);

        texts_free(*(char ***)field(job, opt), *n);
        *(char ***)field(job, opt) = NULL;
        *n = 0;
    }
}
