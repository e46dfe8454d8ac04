/*
 * place.c - where this process runs: its CPU, the cores that it may use and the NUMA nodes they are
 * of; the MPI, and the energy that Slurm accounts.
 *
 * As Linux tells it under /proc and /sys; what it does not tell is left out.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "comm/ranks.h"

/* "model name	: AMD EPYC 9654" of the first processor. */
static void cpu_name(char *out, size_t cap)
{
    static const char key[] = "model name";
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");

    snprintf(out, cap, "unknown CPU");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, key, strlen(key)) != 0 || colon == NULL)
            continue;
        colon += 1 + strspn(colon + 1, " ");
        snprintf(out, cap, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    if (file != NULL)
        fclose(file);
}

/* Whether a list like "0-3,8" names a core of the mask. */
static bool list_meets(const char *list, const struct rank_info *info)
{
    enum { N_CORES = 64 * sizeof info->cores / sizeof *info->cores };
    int first, last, n;

    for (; sscanf(list, "%d%n", &first, &n) == 1; list += *list == ',') {
        list += n;
        last = first;
        if (sscanf(list, "-%d%n", &last, &n) == 1)
            list += n;
        for (int core = first; core <= last && core >= 0 && core < N_CORES; core++)
            if (info->cores[core / 64] >> core % 64 & 1)
                return true;
    }
    return false;
}

static void numa_nodes(struct rank_info *info)
{
    char path[64], list[1024];

    for (int node = 0; node < 64; node++) {
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
        FILE *file = fopen(path, "re");
        if (file == NULL)
            continue;
        info->n_numa_nodes++;
        if (fgets(list, sizeof list, file) != NULL && list_meets(list, info))
            info->numa_nodes |= UINT64_C(1) << node;
        fclose(file);
    }
}

void place_describe(struct rank_info *info)
{
    cpu_set_t set;

    info->n_cores = threads_default_count();
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (size_t core = 0; core < 8 * sizeof info->cores; core++)
            if (CPU_ISSET(core, &set))
                info->cores[core / 64] |= UINT64_C(1) << core % 64;
    cpu_name(info->cpu, sizeof info->cpu);
    numa_nodes(info);
}

char *ranks_mpi_version(char *buf, size_t cap)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n_chars;

    if (MPI_Get_library_version(text, &n_chars) != MPI_SUCCESS)
        snprintf(text, sizeof text, "unknown MPI");
    for (char *at = text; *at != '\0'; at++)
        *at = *at == '\t' ? ' ' : *at;
    snprintf(buf, cap, "%.*s", (int)strcspn(text, ",\n"), text);
    return buf;
}

double ranks_energy_j(void)
{
    const char *job = getenv("SLURM_JOB_ID"), *step = getenv("SLURM_STEP_ID");
    char command[160], text[64] = "";

    if (job == NULL || step == NULL || strspn(job, "0123456789") != strlen(job) ||
        strspn(step, "0123456789") != strlen(step))
        return 0;
    /* With a limit: a busy controller must not hold the end of a job up. */
    snprintf(command, sizeof command,
             "timeout 10 sstat -n -P -a -o ConsumedEnergyRaw -j %s.%s 2>/dev/null", job, step);
    FILE *pipe = popen(command, "re");
    if (pipe == NULL)
        return 0;
    const bool said = fgets(text, sizeof text, pipe) != NULL;
    pclose(pipe);
    return said ? strtod(text, NULL) : 0;
}
