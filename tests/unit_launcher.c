/* TEST */
/*
 * unit_launcher.c - which launcher the environment speaks of, what is wrong with it, and whose
 * cores are whose among ranks that were made up.
 */
#include "comm/launcher.h"
#include "comm/ranks.h"
#include "test.h"

static const char *const names[] = {"OMPI_COMM_WORLD_RANK",
                                    "OMPI_COMM_WORLD_SIZE",
                                    "PMIX_RANK",
                                    "PMI_RANK",
                                    "PMI_SIZE",
                                    "PALS_RANKID",
                                    "SLURM_JOB_ID",
                                    "SLURM_STEP_ID",
                                    "SLURM_STEP_NUM_TASKS",
                                    "SLURM_NTASKS",
                                    "SLURM_PROCID"};

/* The launcher of an environment of these variables alone: "NAME=value ...". */
static struct launcher look(const char *environment)
{
    char text[512], *rest = NULL;
    struct launcher launcher;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    snprintf(text, sizeof text, "%s", environment);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');

        *value++ = '\0';
        setenv(word, value, 1);
    }
    launcher_look(&launcher);
    return launcher;
}

/* What real launchers set, as seen with Open MPI 4.1, MPICH 4.0 and Slurm 22.05. */
static void launchers(void)
{
    static const struct {
        const char *environment;
        int n_processes, number;
        bool has_mpi;
    } cases[] = {
        {"", 1, 0, false},
        {"OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 PMIX_RANK=2", 4, 2, true},
        {"PMI_RANK=1 PMI_SIZE=2", 2, 1, true},
        {"PMIX_RANK=1 SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=3 SLURM_NTASKS=3 "
         "SLURM_PROCID=1",
         3, 1, true},
        {"PMI_RANK=1 PMI_SIZE=2 SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2", 2, 1, true},
        {"SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=3 SLURM_NTASKS=3 SLURM_PROCID=2", 3,
         2, false},
        {"SLURM_JOB_ID=7 SLURM_NTASKS=3 SLURM_PROCID=0", 3, 0, false},
        {"SLURM_JOB_ID=7 SLURM_STEP_ID=1 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1", 1, 0, false},
        {"SLURM_JOB_ID=7 SLURM_NTASKS=3 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", 1, 0, true},
        {"SLURM_NTASKS=3", 1, 0, false}, /* left over, of no job */
        {"PMI_RANK=x PMI_SIZE=", 1, 0, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct launcher got = look(cases[i].environment);

        CHECK_INT(got.n_processes, cases[i].n_processes);
        CHECK_INT(got.number, cases[i].number);
        CHECK_INT(got.has_mpi, cases[i].has_mpi);
    }
}

static void worlds(void)
{
    struct row_error err = {""};
    struct launcher launcher = look("");

    CHECK(launcher_check(&launcher, 1, &err) == ST_OK);
    launcher = look("PMI_RANK=0 PMI_SIZE=2");
    CHECK(launcher_check(&launcher, 2, &err) == ST_OK);
    CHECK(launcher_check(&launcher, 1, &err) == ST_ROW);
    CHECK_HAS(err.text, "started 2 processes, but MPI sees one");
    CHECK_HAS(err.text, "srun --mpi=pmi2 (MPICH)"); /* the end of the longest message */
    launcher = look("SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=3 SLURM_NTASKS=3");
    CHECK(launcher_check(&launcher, 1, &err) == ST_ROW);
    CHECK_HAS(err.text, "srun --mpi=pmix");
    CHECK_HAS(err.text, "srun -n 1");
    launcher = look("SLURM_JOB_ID=7 SLURM_NTASKS=3");
    CHECK(launcher_check(&launcher, 1, &err) == ST_ROW);
    CHECK_HAS(err.text, "unset SLURM_NTASKS");
}

/* Rank 0 coordinates and does not compute; 1, 2, 3 compute. */
static void cores(void)
{
    static const int asked[ROLE_COUNT] = {-1, 0, -1, -1, -1};
    struct rank_info info[4];
    struct ranks ranks = {.n = 4, .info = info};
    struct plan_layout layout;
    struct row_error err;
    char who[160];
    static const struct {
        uint64_t cores[4];
        int32_t nodes[4];
        int want[4];
    } cases[] = {
        {{0xfff, 0xfff, 0xfff, 0xfff}, {0, 0, 0, 0}, {3, 4, 4, 4}}, /* 12 cores for all */
        {{0x3, 0x3, 0x3, 0x3}, {0, 0, 0, 0}, {1, 1, 1, 1}},         /* more ranks than cores */
        {{0x1, 0xe, 0x70, 0x80}, {0, 0, 0, 0}, {1, 3, 3, 1}},       /* each its own */
        {{0xf, 0xf, 0xf, 0xf}, {0, 0, 1, 1}, {2, 4, 2, 2}},         /* two nodes */
    };

    CHECK(plan_layout_make(4, asked, &layout, &err) == ST_OK);
    CHECK(!plan_layout_computes(&layout, 0));
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        memset(info, 0, sizeof info);
        for (int rank = 0; rank < 4; rank++) {
            info[rank].cores[0] = cases[c].cores[rank];
            info[rank].node = cases[c].nodes[rank];
        }
        for (int rank = 0; rank < 4; rank++) {
            ranks.me = rank;
            CHECK_INT(ranks_threads(&ranks, &layout), cases[c].want[rank]);
        }
    }
    snprintf(info[3].host, sizeof info[3].host, "node07");
    info[3].pid = 4711;
    CHECK_STR(ranks_who(&ranks, &layout, 3, who, sizeof who),
              "rank 3 (decode/1) on node07, pid 4711");
    CHECK_STR(ranks_who(&ranks, NULL, 3, who, sizeof who), "rank 3 on node07, pid 4711");
    CHECK_HAS(ranks_who(&ranks, &layout, 0, who, sizeof who), "rank 0 (coordinator) on ");
}

int main(void)
{
    launchers();
    worlds();
    cores();
    TEST_END();
}
