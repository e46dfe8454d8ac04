/*
 * prompts.c - the prompt file: what is in it, single images of it, its fingerprint.
 *
 * Decides what is wrong with a file: it is refused.  Rows are read in prompts_rows.c.  Called by
 * the I/O thread, by the encoder's and, before they start, by `run`, `check`, `inspect` and `plan`.
 *
 * How types are read: column.c.  What an image is: images.c.  The format: FORMATS.md.
 */
#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/column.h"
#include "data/data.h"
#include "data/digest.h"
#include "data/prompts.h"

const struct prompts_column_kind prompts_columns[COL_COUNT] = {
    [COL_ID] = {"id", COLUMN_TEXT, false},
    [COL_IMAGE_REF] = {"image_ref", COLUMN_INT, false}, /* ragged */
    [COL_IMAGES] = {"images", COLUMN_INT, false},       /* not one a row */
    [COL_MAX_TOKENS] = {"max_tokens", COLUMN_INT, false},
    [COL_MESSAGES] = {"messages", COLUMN_TEXT, true},
    [COL_PROMPT] = {"prompt", COLUMN_TEXT, true},
    [COL_PROMPT_TOKENS] = {"prompt_tokens", COLUMN_INT, true}, /* ragged */
    [COL_SEED] = {"seed", COLUMN_INT, false},
    [COL_STOP] = {"stop", COLUMN_TEXT, false},
    [COL_TEMPERATURE] = {"temperature", COLUMN_REAL, false},
    [COL_TOP_K] = {"top_k", COLUMN_INT, false},
    [COL_TOP_P] = {"top_p", COLUMN_REAL, false},
};

/* Columns that a later version will serve: ignoring them would give wrong answers. */
static const char *const later[] = {"continuation"};

static const char schema_ours[] = "epidote.prompts/1";

void prompts_lock(struct prompts *prompts)
{
    pthread_mutex_lock(&prompts->mutex);
    h5_quiet();
}

void prompts_unlock(struct prompts *prompts)
{
    pthread_mutex_unlock(&prompts->mutex);
}

/* ---- opening -------------------------------------------------------------------------------- */

static enum status check_schema(const struct prompts *prompts)
{
    struct buf text = {0};
    enum status st = h5_attr_get_text(prompts->file, "schema", &text);

    if (st == ST_END) {
        st = ST_OK; /* assumed */
    } else if (st == ST_FORMAT) {
        log_error("%s: attribute schema is not a text; remove it or set it to %s", prompts->path,
                  schema_ours);
    } else if (st == ST_OK && strcmp((char *)text.data, schema_ours) != 0) {
        log_error("%s: attribute schema is \"%s\", this version reads %s; %s", prompts->path,
                  (char *)text.data, schema_ours,
                  strncmp((char *)text.data, "epidote.results/", 16) == 0
                      ? "this is a result file, name the prompt file"
                      : "remove the attribute if the file is a prompt file");
        st = ST_FORMAT;
    }
    buf_free(&text);
    return st;
}

static enum status refuse_later_columns(const struct prompts *prompts)
{
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (h5_object_type(prompts->file, later[i]) == H5I_BADID)
            continue;
        log_error("%s: column %s is not supported by this version; remove the column, or wait for "
                  "the version that serves it",
                  prompts->path, later[i]);
        return ST_UNSUPPORTED;
    }
    return ST_OK;
}

/* "Temperature" for temperature, "prompts" for prompt: likely meant, so worth more than a note. */
static const char *nearly_known(const char *name)
{
    const size_t n = strlen(name);

    for (int c = 0; c < COL_COUNT; c++) {
        const size_t n_known = strlen(prompts_columns[c].name);

        if (strcasecmp(name, prompts_columns[c].name) == 0 ||
            (n == n_known + 1 && tolower((unsigned char)name[n - 1]) == 's' &&
             strncasecmp(name, prompts_columns[c].name, n_known) == 0))
            return prompts_columns[c].name;
    }
    return NULL;
}

/* Not for a run, but for `epidote report`. */
static bool is_for_report(const char *name)
{
    return strcmp(name, "answer") == 0 || strcmp(name, "class") == 0;
}

static void tell_ignored_columns(const struct prompts *prompts)
{
    H5G_info_t info;

    if (H5Gget_info(prompts->file, &info) < 0)
        return;
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[128];

        if (H5Lget_name_by_idx(prompts->file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                               H5P_DEFAULT) < 0)
            continue;
        bool used = is_for_report(name);
        for (int c = 0; c < COL_COUNT; c++)
            used = used || strcmp(name, prompts_columns[c].name) == 0;
        if (used)
            continue;
        if (nearly_known(name) != NULL)
            log_warn("%s: column %s is ignored: did you mean %s?", prompts->path, name,
                     nearly_known(name));
        else
            log_info("%s: column %s is ignored", prompts->path, name);
    }
}

static enum status open_columns(struct prompts *prompts)
{
    static const char *const token_labels[2] = {"prompt_tokens/values", "prompt_tokens/offsets"};
    static const char *const ref_labels[2] = {"image_ref/values", "image_ref/offsets"};
    enum status st = ST_OK;
    bool has_source = false;

    for (int c = 0; c < COL_COUNT; c++) {
        if (h5_object_type(prompts->file, prompts_columns[c].name) == H5I_BADID)
            continue;
        if (c == COL_PROMPT_TOKENS)
            TRY(ragged_open(prompts->file, prompts->path, prompts_columns[c].name, token_labels,
                            COLUMN_INT, &prompts->tokens),
                err);
        else if (c == COL_IMAGE_REF)
            TRY(ragged_open(prompts->file, prompts->path, prompts_columns[c].name, ref_labels,
                            COLUMN_INT, &prompts->image_refs),
                err);
        else if (c == COL_IMAGES)
            TRY(images_open(prompts->file, prompts->path, &prompts->images), err);
        else
            TRY(column_open(prompts->file, prompts->path, prompts_columns[c].name,
                            prompts_columns[c].name, prompts_columns[c].type, 1,
                            &prompts->columns[c]),
                err);
        prompts->has[c] = true;
        has_source = has_source || prompts_columns[c].is_source;
    }
    if (!has_source) {
        char found[512];

        log_error("%s: no known prompt column (prompt, messages or prompt_tokens); found: %s",
                  prompts->path, h5_names(prompts->file, found, sizeof found));
        st = ST_FORMAT;
    }
err:
    return st;
}

/* Each of the two is of no use without the other, so whoever wrote one expects more of it. */
static enum status check_images(struct prompts *prompts)
{
    enum status st = ST_OK;
    const struct ragged *refs = &prompts->image_refs;
    uint64_t first[2], last[2];

    if (prompts->has[COL_IMAGE_REF] != prompts->has[COL_IMAGES]) {
        if (prompts->has[COL_IMAGES])
            log_error("%s: column images is there, but no column image_ref that says which rows "
                      "use which of them; add image_ref/{values,offsets}, or remove images",
                      prompts->path);
        else
            log_error("%s: column image_ref is there, but no column images that it could mean; add "
                      "images/pixels or images/encoded/{values,offsets}, or remove image_ref",
                      prompts->path);
        return ST_FORMAT;
    }
    if (!prompts->has[COL_IMAGES])
        return ST_OK;
    prompts->info.n_images = prompts->images.n_images;
    if (refs->n_rows == 0)
        return ST_OK;
    TRY(ragged_offsets(refs, 0, 1, first), err);
    TRY(ragged_offsets(refs, refs->n_rows - 1, 1, last), err);
    prompts->info.n_image_refs = last[1] - first[0];
err:
    return st;
}

static uint64_t column_rows(const struct prompts *prompts, int c)
{
    return c == COL_PROMPT_TOKENS ? prompts->tokens.n_rows
           : c == COL_IMAGE_REF   ? prompts->image_refs.n_rows
                                  : prompts->columns[c].n_rows;
}

static enum status check_lengths(struct prompts *prompts)
{
    int first = -1;

    for (int c = 0; c < COL_COUNT; c++) {
        if (!prompts->has[c] || c == COL_IMAGES)
            continue;
        if (first < 0)
            first = c;
        if (column_rows(prompts, c) == column_rows(prompts, first))
            continue;
        log_error("%s: column %s has %llu rows, column %s has %llu; all columns need one element "
                  "a row (offsets: one more)",
                  prompts->path, prompts_columns[c].name,
                  (unsigned long long)column_rows(prompts, c), prompts_columns[first].name,
                  (unsigned long long)column_rows(prompts, first));
        return ST_FORMAT;
    }
    prompts->info = (struct prompts_info){
        .n_rows = column_rows(prompts, first),
        .has_prompt = prompts->has[COL_PROMPT],
        .has_messages = prompts->has[COL_MESSAGES],
        .has_tokens = prompts->has[COL_PROMPT_TOKENS],
        .has_id = prompts->has[COL_ID],
        .has_max_tokens = prompts->has[COL_MAX_TOKENS],
        .has_temperature = prompts->has[COL_TEMPERATURE],
        .has_top_p = prompts->has[COL_TOP_P],
        .has_top_k = prompts->has[COL_TOP_K],
        .has_seed = prompts->has[COL_SEED],
        .has_stop = prompts->has[COL_STOP],
    };
    return ST_OK;
}

enum status prompts_open(const char *path, struct prompts **out_prompts)
{
    enum status st = ST_NOMEM;
    struct prompts *prompts = host_zalloc(sizeof *prompts);

    if (prompts == NULL)
        return ST_NOMEM;
    if (pthread_mutex_init(&prompts->mutex, NULL) != 0) {
        host_free(prompts);
        return ST_NOMEM;
    }
    prompts->file = H5I_INVALID_HID;
    prompts->path = host_strdup(path);
    if (prompts->path == NULL)
        goto err;
    TRY(h5_open_read(path, &prompts->file), err);
    TRY(check_schema(prompts), err);
    TRY(refuse_later_columns(prompts), err);
    TRY(open_columns(prompts), err);
    TRY(check_lengths(prompts), err);
    TRY(check_images(prompts), err);
    tell_ignored_columns(prompts);
    *out_prompts = prompts;
    return ST_OK;

err:
    prompts_close(prompts);
    return st;
}

void prompts_close(struct prompts *prompts)
{
    if (prompts == NULL)
        return;
    for (int c = 0; c < COL_COUNT; c++)
        column_close(&prompts->columns[c]);
    ragged_close(&prompts->tokens);
    ragged_close(&prompts->image_refs);
    images_close(&prompts->images);
    h5_close(prompts->file);
    pthread_mutex_destroy(&prompts->mutex);
    host_free(prompts->path);
    host_free(prompts);
}

const struct prompts_info *prompts_info(const struct prompts *prompts)
{
    return &prompts->info;
}

/* ---- images ------------------------------------------------------------------------------------ */

enum status prompts_read_image_bytes(struct prompts *prompts, uint64_t image, struct buf *bytes,
                                     struct row_error *err)
{
    prompts_lock(prompts);
    const enum status st = images_read(&prompts->images, image, bytes, err);
    prompts_unlock(prompts);
    return st;
}

enum status prompts_read_image(struct prompts *prompts, uint64_t image, struct picture *out_picture,
                               struct row_error *err)
{
    struct buf bytes = {0};
    enum status st = prompts_read_image_bytes(prompts, image, &bytes, err);

    if (st == ST_OK)
        st = images_decode(&prompts->images, &bytes, out_picture, err);
    buf_free(&bytes);
    return st;
}

/* ---- fingerprint ---------------------------------------------------------------------------- */

enum status prompts_fingerprint(struct prompts *prompts, uint64_t *out_hash)
{
    enum status st = ST_OK;
    struct hash_state whole;

    prompts_lock(prompts);
    hash_begin(&whole, 0);
    hash_add(&whole, schema_ours, sizeof schema_ours);
    for (int c = 0; c < COL_COUNT; c++) {
        if (!prompts->has[c])
            continue;
        if (c == COL_PROMPT_TOKENS)
            TRY(digest_add_ragged(&whole, &prompts->tokens), err);
        else if (c == COL_IMAGE_REF)
            TRY(digest_add_ragged(&whole, &prompts->image_refs), err);
        else if (c == COL_IMAGES)
            TRY(images_digest(&prompts->images, &whole), err);
        else
            TRY(digest_add_column(&whole, &prompts->columns[c]), err);
    }
    *out_hash = hash_end(&whole);
err:
    prompts_unlock(prompts);
    return st;
}

uint64_t prompts_glimpse(const struct prompts *prompts)
{
    enum { END_BYTES = 1 << 20 };
    struct hash_state some;
    struct stat facts = {.st_size = 0};
    const int fd = open(prompts->path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = host_alloc(END_BYTES);

    hash_begin(&some, 0);
    hash_add(&some, &prompts->info.n_rows, sizeof prompts->info.n_rows);
    if (fd >= 0 && bytes != NULL && fstat(fd, &facts) == 0) {
        const off_t last = facts.st_size > END_BYTES ? facts.st_size - END_BYTES : 0;
        const off_t places[2] = {0, last};

        hash_add(&some, &facts.st_size, sizeof facts.st_size);
        for (int i = 0; i < 2; i++) {
            const ssize_t n = pread(fd, bytes, END_BYTES, places[i]);

            hash_add(&some, bytes, n > 0 ? (size_t)n : 0);
        }
    }
    host_free(bytes);
    if (fd >= 0)
        close(fd);
    return hash_end(&some);
}
