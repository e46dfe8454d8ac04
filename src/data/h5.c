/*
 * h5.c - opening HDF5 files, saying why it failed, root attributes.
 *
 * Columns are column.c's business.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/h5.h"

/* 1.10.7 and 1.12.1 brought it; 1.12.0 stands between them without it. */
#define HAVE_SET_FILE_LOCKING                                                                      \
    (H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0)))

void h5_quiet(void)
{
    /* A file that could not be closed because the disk is full stays on HDF5's list, and 1.10 falls
     * over it in its atexit handler.  All files are closed where they are used; nothing is left to
     * do at exit. */
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static herr_t take_first_reason(unsigned n, const H5E_error2_t *error, void *arg)
{
    char *out = arg;

    (void)n;
    if (error->desc == NULL || error->desc[0] == '\0')
        return 0; /* go on to the frame around it */
    snprintf(out, H5_REASON_BYTES, "%s", error->desc);
    return 1;
}

/* "file write failed: time = ..., errno = 28, error message = 'No space left on device', buf = ..."
 * becomes "file write failed: No space left on device". */
static void fold_system_error(char out[H5_REASON_BYTES])
{
    static const char before[] = "error message = '";
    const char *message = strstr(out, before), *end;
    char *what_end = strchr(out, ':');

    if (message == NULL || what_end == NULL || what_end > message)
        return;
    message += sizeof before - 1;
    end = strchr(message, '\'');
    const size_t n = end != NULL ? (size_t)(end - message) : strlen(message);
    memcpy(what_end, ": ", 2);
    memmove(what_end + 2, message, n);
    what_end[2 + n] = '\0';
}

const char *h5_reason(char out[H5_REASON_BYTES])
{
    out[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first_reason, out);
    if (out[0] == '\0')
        snprintf(out, H5_REASON_BYTES, "no reason given");
    fold_system_error(out);
    return out;
}

/* Access properties of every file: network file systems refuse locks, and RESULTS.lock says more.
 */
static hid_t access_properties(void)
{
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);

#if HAVE_SET_FILE_LOCKING
    if (fapl >= 0)
        H5Pset_file_locking(fapl, false, true);
#else
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
#endif
    return fapl;
}

enum status h5_open_read(const char *path, hid_t *out_file)
{
    char reason[H5_REASON_BYTES];
    struct stat info;

    h5_quiet();
    if (stat(path, &info) != 0 || access(path, R_OK) != 0) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        return ST_IO;
    }
    if (!S_ISREG(info.st_mode)) {
        log_error("%s: not a regular file; name an HDF5 file", path);
        return ST_IO;
    }
    if (info.st_size == 0) {
        log_error("%s: the file is empty (0 bytes); write it again", path);
        return ST_FORMAT;
    }
    const hid_t fapl = access_properties();
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    if (file < 0)
        h5_reason(reason);
    h5_close(fapl);
    if (file >= 0) {
        *out_file = file;
        return ST_OK;
    }
    if (H5Fis_hdf5(path) == 0)
        log_error("%s: not an HDF5 file (%lld bytes): JSONL becomes one with `epidote import`",
                  path, (long long)info.st_size);
    else if (strstr(reason, "lock file") != NULL || strstr(reason, "lock the file") != NULL)
        log_error("%s: cannot open: %s; unset HDF5_USE_FILE_LOCKING or set it to FALSE", path,
                  reason);
    else
        log_error("%s: truncated or damaged HDF5 file of %lld bytes: %s; write or copy it again",
                  path, (long long)info.st_size, reason);
    return ST_FORMAT;
}

enum status h5_create(const char *path, hid_t *out_file)
{
    char reason[H5_REASON_BYTES];

    h5_quiet();
    const hid_t fapl = access_properties();
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    if (file < 0)
        log_error("%s: cannot create: %s", path, h5_reason(reason));
    h5_close(fapl);
    if (file < 0)
        return ST_IO;
    *out_file = file;
    return ST_OK;
}

void h5_close(hid_t id)
{
    if (id < 0)
        return;
    switch (H5Iget_type(id)) {
    case H5I_FILE:
        H5Fclose(id);
        break;
    case H5I_GROUP:
        H5Gclose(id);
        break;
    case H5I_DATASET:
        H5Dclose(id);
        break;
    case H5I_DATASPACE:
        H5Sclose(id);
        break;
    case H5I_DATATYPE:
        H5Tclose(id);
        break;
    case H5I_ATTR:
        H5Aclose(id);
        break;
    default:
        H5Pclose(id);
        break;
    }
}

H5I_type_t h5_object_type(hid_t loc, const char *name)
{
    if (H5Lexists(loc, name, H5P_DEFAULT) <= 0 || H5Oexists_by_name(loc, name, H5P_DEFAULT) <= 0)
        return H5I_BADID;
    const hid_t object = H5Oopen(loc, name, H5P_DEFAULT);
    if (object < 0)
        return H5I_BADID;
    const H5I_type_t type = H5Iget_type(object);
    h5_close(object);
    return type;
}

const char *h5_names(hid_t loc, char *out, size_t cap)
{
    H5G_info_t info;
    size_t used = 0;

    snprintf(out, cap, "nothing");
    if (H5Gget_info(loc, &info) < 0)
        return out;
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[128];

        if (H5Lget_name_by_idx(loc, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                               H5P_DEFAULT) < 0)
            continue;
        const int n = snprintf(out + used, cap - used, "%s%s", used > 0 ? ", " : "", name);
        if (n < 0 || (size_t)n >= cap - used) {
            snprintf(out + cap - 4, 4, "...");
            break;
        }
        used += (size_t)n;
    }
    return out;
}

hid_t h5_text_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);

    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

/* ---- attributes ------------------------------------------------------------------------------ */

/* Opens attribute `name` if it holds exactly one element. */
static enum status attr_open(hid_t file, const char *name, hid_t *out_attr, hid_t *out_type)
{
    if (H5Aexists(file, name) <= 0)
        return ST_END;
    const hid_t attr = H5Aopen(file, name, H5P_DEFAULT);
    if (attr < 0)
        return ST_FORMAT;
    const hid_t space = H5Aget_space(attr);
    const hssize_t n = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    h5_close(space);
    const hid_t type = H5Aget_type(attr);
    if (n != 1 || type < 0) {
        h5_close(type);
        h5_close(attr);
        return ST_FORMAT;
    }
    *out_attr = attr;
    *out_type = type;
    return ST_OK;
}

enum status h5_attr_get_text(hid_t file, const char *name, struct buf *out)
{
    enum status st = ST_FORMAT;
    hid_t attr, type;

    TRY(attr_open(file, name, &attr, &type), err);
    st = ST_FORMAT;
    if (H5Tget_class(type) != H5T_STRING)
        goto err_close;
    if (H5Tis_variable_str(type) > 0) {
        char *text = NULL;

        if (H5Aread(attr, type, &text) < 0)
            goto err_close;
        st = buf_puts(out, text != NULL ? text : "");
        H5free_memory(text);
    } else {
        const size_t n_bytes = H5Tget_size(type);

        TRY(buf_reserve(out, n_bytes + 1), err_close);
        st = ST_FORMAT;
        if (H5Aread(attr, type, out->data + out->n_bytes) < 0)
            goto err_close;
        size_t n = strnlen((char *)out->data + out->n_bytes, n_bytes);
        while (H5Tget_strpad(type) == H5T_STR_SPACEPAD && n > 0 &&
               out->data[out->n_bytes + n - 1] == ' ')
            n--;
        out->n_bytes += n;
        st = ST_OK;
    }
    if (st == ST_OK)
        st = buf_put(out, "", 1);
err_close:
    h5_close(type);
    h5_close(attr);
err:
    return st;
}

enum status h5_attr_get_u64(hid_t file, const char *name, uint64_t *out)
{
    enum status st = ST_FORMAT;
    hid_t attr, type;

    TRY(attr_open(file, name, &attr, &type), err);
    st = H5Tget_class(type) == H5T_INTEGER && H5Aread(attr, H5T_NATIVE_UINT64, out) >= 0
             ? ST_OK
             : ST_FORMAT;
    h5_close(type);
    h5_close(attr);
err:
    return st;
}

static enum status attr_put(hid_t file, const char *name, hid_t type, const void *value)
{
    char reason[H5_REASON_BYTES];
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attr = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = attr >= 0 && H5Awrite(attr, type, value) >= 0;

    if (!ok)
        log_error("cannot write attribute %s: %s", name, h5_reason(reason));
    h5_close(attr);
    h5_close(space);
    return ok ? ST_OK : ST_IO;
}

/* Variable-length, because a fixed-length attribute cannot pass 64 KiB and a job can. */
enum status h5_attr_put_text(hid_t file, const char *name, const char *text)
{
    const hid_t type = h5_text_type();
    const enum status st = attr_put(file, name, type, &text);

    h5_close(type);
    return st;
}

enum status h5_attr_put_u64(hid_t file, const char *name, uint64_t value)
{
    return attr_put(file, name, H5T_NATIVE_UINT64, &value);
}
