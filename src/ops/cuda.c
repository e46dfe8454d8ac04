/*
 * cuda.c - whether there is CUDA to compute with: the library of the kernels, the runtime that it
 * needs, a driver, a device.
 *
 * The program is linked with none of them.  The library lies beside the program, in lib/epidote/ of
 * the same PREFIX, or where the loader finds it; what is missing is said in words that name the
 * remedy.  The device is not touched here (cuda_device.c).  Called by stage/ through ops.h.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "ops/ops.h"

enum { PATH_BYTES = 4096 };

/* printf into found->why, or append to it. */
static void why(struct ops_cuda *found, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void why(struct ops_cuda *found, const char *fmt, ...)
{
    const size_t n = strlen(found->why);
    va_list args;

    va_start(args, fmt);
    vsnprintf(found->why + n, sizeof found->why - n, fmt, args);
    va_end(args);
}

/* ---- the library ---------------------------------------------------------------------------- */

/* The folder that the program lies in, links followed; false if the system does not tell. */
static bool own_folder(char *folder)
{
    const ssize_t n = readlink("/proc/self/exe", folder, PATH_BYTES - 1);

    if (n <= 0)
        return false;
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

/* A library at a path: NULL if no file is there or it cannot be loaded; *out_is whether one is. */
static void *load_file(const char *path, bool *out_is)
{
    *out_is = access(path, F_OK) == 0;
    return *out_is ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

/* The first of the places that has the library; NULL after saying why not. */
static void *load(struct ops_cuda *found)
{
    char folder[PATH_BYTES], places[2][PATH_BYTES + 64];
    bool is = false;
    void *library;
    int n_places = 0;

    if (own_folder(folder)) {
        snprintf(places[0], sizeof places[0], "%s/" K_LIBRARY, folder);
        snprintf(places[1], sizeof places[1], "%s/../lib/epidote/" K_LIBRARY, folder);
        n_places = 2;
    }
    for (int i = 0; i < n_places; i++) {
        library = load_file(places[i], &is);
        if (library != NULL || is) {
            snprintf(found->library, sizeof found->library, "%.*s", (int)sizeof found->library - 1,
                     places[i]);
            if (library == NULL)
                why(found,
                    "%s cannot be loaded (%s): load the CUDA module, or put the folder of the "
                    "missing library into LD_LIBRARY_PATH",
                    places[i], dlerror());
            return library;
        }
    }
    library = dlopen(K_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        snprintf(found->library, sizeof found->library, "%s", K_LIBRARY);
        return library;
    }
    why(found, K_LIBRARY " is not there (looked for");
    for (int i = 0; i < n_places; i++)
        why(found, " %s,", places[i]);
    why(found, " and where the loader looks): `make cuda` builds it, with nvcc");
    return NULL;
}

/* Its table, if it is of this build; NULL after saying why not. */
static const struct k_table *table_of(void *library, struct ops_cuda *found)
{
    const struct k_table *(*give)(void) = NULL;
    const struct k_table *table = NULL;

    /* POSIX has it that a symbol's address can be copied into a pointer to a function. */
    void *symbol = dlsym(library, K_TABLE_NAME);
    memcpy(&give, &symbol, sizeof give);
    if (give != NULL)
        table = give();
    if (table == NULL || table->abi != K_ABI || table->n_bytes != sizeof *table) {
        why(found, "%s is of another version of epidote: `make cuda` builds the one that fits",
            found->library);
        return NULL;
    }
    return table;
}

/* ---- driver and devices --------------------------------------------------------------------- */

/* The first device that is new enough. */
static bool pick(const struct k_table *table, int n, struct ops_cuda *found)
{
    struct k_device facts;

    for (int i = 0; i < n; i++) {
        const int error = table->device_facts(i, &facts);

        if (error != 0) {
            why(found, "device %d does not answer: %s", i, table->error_text(error));
            return false;
        }
        if (facts.major > K_MIN_MAJOR ||
            (facts.major == K_MIN_MAJOR && facts.minor >= K_MIN_MINOR)) {
            snprintf(found->device, sizeof found->device, "%s, sm_%d%d, %.0f GiB", facts.name,
                     facts.major, facts.minor, (double)facts.memory_bytes / 1073741824.0);
            memcpy(found->numerics, facts.numerics, sizeof found->numerics);
            found->index = i;
            return true;
        }
    }
    why(found, "the %s has compute capability %d.%d, the kernels need %d.%d", facts.name,
        facts.major, facts.minor, K_MIN_MAJOR, K_MIN_MINOR);
    return false;
}

static bool devices(const struct k_table *table, struct ops_cuda *found)
{
    int n = 0, runtime = 0, driver = 0;
    const int error = table->device_count(&n);

    if (error == 0 && n > 0)
        return pick(table, n, found);
    if (table->versions(&runtime, &driver) == 0 && driver == 0)
        why(found, "there is no NVIDIA driver on this machine (%s): take one that has a GPU",
            table->error_text(error));
    else if (error != 0 && driver < runtime)
        why(found,
            "the NVIDIA driver knows CUDA up to %d.%d, this build uses %d.%d (%s): take a "
            "newer driver, or build with an older CUDA",
            driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10,
            table->error_text(error));
    else
        why(found,
            "no GPU may be used here (%s): ask for one (srun --gpus), and look at "
            "CUDA_VISIBLE_DEVICES",
            error != 0 ? table->error_text(error) : "the driver counts none");
    return false;
}

bool ops_cuda_look(struct ops_cuda *out_found)
{
    *out_found = (struct ops_cuda){.library = ""};
    /* Never unloaded: the runtime inside does not like to go before the process does. */
    void *library = load(out_found);
    const struct k_table *table = library != NULL ? table_of(library, out_found) : NULL;

    if (table == NULL || !devices(table, out_found))
        return false;
    out_found->kernels = table;
    return true;
}
