/*
 * report.c - who does what, and how it went, as lines of text.
 */
#include <stdio.h>
#include <stdlib.h>

#include "stage/report.h"

static double mib(uint64_t n_bytes)
{
    return (double)n_bytes / 1048576;
}

/* "0-3,8" of the cores a rank may use. */
static char *cores_text(const struct rank_info *info, char *buf, size_t cap)
{
    enum { N_CORES = 64 * sizeof info->cores / sizeof *info->cores };
    size_t n = 0;

    snprintf(buf, cap, "unknown");
    for (int core = 0, last; core < N_CORES && n < cap; core = last + 2) {
        last = core - 1;
        while (last + 1 < N_CORES && (info->cores[(last + 1) / 64] >> ((last + 1) % 64) & 1) != 0)
            last++;
        if (last < core)
            continue;
        n += (size_t)snprintf(buf + n, cap - n, last > core ? "%s%d-%d" : "%s%d", n > 0 ? "," : "",
                              core, last);
    }
    return buf;
}

/* ---- the start ------------------------------------------------------------------------------- */

static void report_rank(const struct machine *machine, int rank)
{
    const struct crew *crew = machine->crew;
    const struct rank_info *info = ranks_info(crew->ranks, rank);
    const struct machine_facts *facts = &machine->facts[rank];
    const uint64_t block_bytes = kv_block_bytes(&machine->session->kv);
    char stages[64], cores[128], numa[64] = "", threads[48] = "", kv[128] = "";

    if (info->n_numa_nodes > 1)
        snprintf(numa, sizeof numa, " of %d of %d NUMA nodes",
                 __builtin_popcountll(info->numa_nodes), info->n_numa_nodes);

    if (facts->n_threads > 0)
        snprintf(threads, sizeof threads, "; %d thread%s", facts->n_threads,
                 facts->n_threads == 1 ? "" : "s");
    if (facts->n_blocks + facts->n_staging > 0)
        snprintf(kv, sizeof kv, "; KV %d blocks, %.0f MiB%s", facts->n_blocks + facts->n_staging,
                 mib((uint64_t)(facts->n_blocks + facts->n_staging) * block_bytes),
                 facts->n_blocks == 0 ? " to send from" : "");
    log_info("rank %d on %s, pid %d: %s; cores %s%s%s; %.1f GiB of memory free%s", rank, info->host,
             info->pid, crew_stages(&crew->layout, rank, stages, sizeof stages),
             cores_text(info, cores, sizeof cores), numa, threads,
             mib(info->available_bytes) / 1024, kv);
}

/* Ranks that have to do with weights of their own though they are neighbours. */
static void warn_of_copies(const struct machine *machine)
{
    const struct crew *crew = machine->crew;

    for (int r = 0; r < crew->n; r++) {
        const struct node node = crew_node(crew, r);

        if (node.part == 0 && node.n_computing > 1 && !machine->facts[r].shares)
            log_warn("%s: its ranks cannot share memory (%s): %d copies of the weights there take "
                     "%.0f MiB instead of %.0f, and KV blocks are sent",
                     ranks_info(crew->ranks, r)->host, machine->facts[r].why, node.n_computing,
                     mib((uint64_t)node.n_computing * machine->weights_bytes),
                     mib(machine->weights_bytes));
    }
}

static void report_links(const struct machine *machine)
{
    for (int kind = 0; kind < LINK_KIND_COUNT; kind++) {
        const struct machine_link *link = &machine->embed_links[kind];

        if (link->n_pairs > 0)
            log_info("encoder to prefill: link %s for %d pair%s (%s)",
                     link_kind_name((enum link_kind)kind), link->n_pairs,
                     link->n_pairs == 1 ? "" : "s", link->why);
    }
    for (int kind = 0; kind < LINK_KIND_COUNT; kind++) {
        const struct machine_link *link = &machine->links[kind];
        char speed[96] = "nothing has to move";

        if (link->n_pairs == 0)
            continue;
        if (kind != LINK_SELF)
            snprintf(speed, sizeof speed, "%.2f GB/s measured from rank %d to rank %d",
                     link->bytes_per_s / 1e9, link->from, link->to);
        log_info("prefill to decode: link %s for %d pair%s (%s), %s",
                 link_kind_name((enum link_kind)kind), link->n_pairs, link->n_pairs == 1 ? "" : "s",
                 link->why, speed);
    }
}

static void report_vision(const struct machine *machine)
{
    const struct machine_vision *vision = &machine->vision;

    if (vision->needs.n_images == 0)
        return;
    log_info("images: %llu to encode, the largest %d patches and %d embeddings; tower %.0f MiB, "
             "memory for %d embeddings at each prefill stage",
             (unsigned long long)vision->needs.n_images, vision->needs.max_patches,
             vision->needs.max_rows, mib(vision->weights_bytes), vision->n_places);
}

void report_start(const struct machine *machine, double load_s)
{
    const struct session *session = machine->session;
    const struct machine_facts *mine = &machine->facts[0];
    const char *stored = session->stored ? " as stored" : "";

    report_vision(machine);
    if (machine->crew->n == 1) {
        log_info("loaded in %.2f s: weights %.0f MiB%s, KV %d blocks of %d tokens, %.0f MiB; %s, "
                 "%d threads",
                 load_s, mib(machine->weights_bytes + machine->mapped_bytes), stored,
                 mine->n_blocks, session->kv.P, mib(machine->kv.n_bytes), session->unit,
                 mine->n_threads);
        return;
    }
    for (int r = 0; r < machine->crew->n; r++)
        report_rank(machine, r);
    report_links(machine);
    warn_of_copies(machine);
    log_info("loaded in %.2f s: weights %.0f MiB%s, KV blocks of %d tokens and %.1f KiB; %s",
             load_s, mib(machine->weights_bytes + machine->mapped_bytes), stored, session->kv.P,
             (double)kv_block_bytes(&session->kv) / 1024, session->unit);
}

/* ---- the end --------------------------------------------------------------------------------- */

static double share(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* Each group by itself: what it did in the run's time, and how much of that it was at it. */
static void print_group(const struct crew *crew, const struct figures *figures, enum role role,
                        FILE *out)
{
    const struct plan_layout *layout = &crew->layout;
    const double run_s = figures->run_s > 0 ? figures->run_s : 1e-9;
    struct wire_beat sum = {0};
    char rate[16];

    for (int i = 0; i < layout->n_stages[role]; i++) {
        const struct wire_beat *beat = &figures->beats[plan_layout_rank(layout, role, i)];

        sum.busy_s += beat->busy_s;
        sum.elapsed_s += beat->elapsed_s;
        sum.n_prompt_tok += beat->n_prompt_tok;
        sum.n_answer_tok += beat->n_answer_tok;
        sum.encode.n_images += beat->encode.n_images;
    }
    const uint64_t n = role == ROLE_ENCODER   ? sum.encode.n_images
                       : role == ROLE_PREFILL ? sum.n_prompt_tok
                                              : sum.n_answer_tok;
    if (layout->n_stages[role] == 0)
        return;
    fprintf(out, "%-9s %d rank%s: %llu %s, %s/s; busy %.0f %%\n", role_name(role),
            layout->n_stages[role], layout->n_stages[role] == 1 ? "" : "s", (unsigned long long)n,
            role == ROLE_ENCODER   ? "images"
            : role == ROLE_PREFILL ? "prompt tokens"
                                   : "answer tokens",
            units_si(rate, sizeof rate, (double)n / run_s), share(sum.busy_s, sum.elapsed_s));
}

static void print_ranks(const struct crew *crew, const struct figures *figures, FILE *out)
{
    const struct wire_beat *totals = &figures->totals;
    const uint64_t n_rows = figures->counts.n_done - figures->counts.n_kept;
    char stages[64];

    for (int r = 0; r < crew->n; r++) {
        const struct wire_beat *beat = &figures->beats[r];

        fprintf(out,
                "rank %-4d %s: busy %.0f %%, %llu prompt and %llu answer tokens, %llu steps, %.0f "
                "MiB\n",
                r, crew_stages(&crew->layout, r, stages, sizeof stages),
                share(beat->busy_s, beat->elapsed_s), (unsigned long long)beat->n_prompt_tok,
                (unsigned long long)beat->n_answer_tok, (unsigned long long)beat->n_steps,
                mib(beat->memory_peak_bytes));
    }
    for (int role = ROLE_ENCODER; role <= ROLE_DECODE; role++)
        print_group(crew, figures, (enum role)role, out);
    fprintf(
        out,
        "hand-off  %.2f ms a row exposed, %.1f %% of prefill; %llu pieces, %.1f MiB of KV; %.1f "
        "messages a row\n",
        totals->n_handed > 0 ? 1e3 * totals->exposed_s / (double)totals->n_handed : 0,
        share(totals->exposed_s, totals->prefill_s), (unsigned long long)totals->n_pieces,
        mib(totals->kv_bytes), n_rows > 0 ? (double)totals->n_messages / (double)n_rows : 0);
}

/* What encoders did: rates are those of one of them while it encodes. */
static void print_images(const struct crew *crew, const struct encode_figures *sum, FILE *out)
{
    const double busy_s = sum->busy_s > 0 ? sum->busy_s : 1e-9;
    const uint64_t n_hits = sum->n_uses > sum->n_images ? sum->n_uses - sum->n_images : 0;
    char rate[16], flop[16];

    if (sum->n_uses == 0)
        return;
    fprintf(
        out,
        "images    %llu encoded in %llu steps by %d encoder%s, %s/s each while busy (%sFLOP/s); "
        "%llu uses, %.1f %% served from the cache, %llu encoded again\n",
        (unsigned long long)sum->n_images, (unsigned long long)sum->n_steps,
        crew->layout.n_stages[ROLE_ENCODER], crew->layout.n_stages[ROLE_ENCODER] == 1 ? "" : "s",
        units_si(rate, sizeof rate, (double)sum->n_images / busy_s),
        units_si(flop, sizeof flop, sum->flop / busy_s), (unsigned long long)sum->n_uses,
        share((double)n_hits, (double)sum->n_uses), (unsigned long long)sum->n_again);
    fprintf(out, "          embeddings %.2f ms a row exposed; %.1f MiB sent\n",
            sum->n_rows > 0 ? 1e3 * sum->exposed_s / (double)sum->n_rows : 0, mib(sum->n_bytes));
}

/* "2 nodes: n1 n2; 3 x AMD EPYC 9654, 1 x Intel Xeon 8480", by rank; and the Slurm job. */
static void print_machine(const struct session *session, const struct crew *crew, FILE *out)
{
    enum { MOST_HOSTS = 32 };
    const struct ranks *ranks = crew->ranks;
    const char *job = getenv("SLURM_JOB_ID"), *partition = getenv("SLURM_JOB_PARTITION");
    const char *restarts = getenv("SLURM_RESTART_COUNT");
    int n_nodes = 0;

    for (int r = 0; r < crew->n; r++)
        n_nodes += ranks_info(ranks, r)->node_rank == 0;
    fprintf(out, "machine   %d node%s:", n_nodes, n_nodes == 1 ? "" : "s");
    for (int r = 0, n = 0; r < crew->n; r++)
        if (ranks_info(ranks, r)->node_rank == 0 && n++ < MOST_HOSTS)
            fprintf(out, " %s", ranks_info(ranks, r)->host);
    fprintf(out, "%s;", n_nodes > MOST_HOSTS ? " ..." : "");
    for (int r = 0; r < crew->n; r++) {
        int n_same = 0;
        bool first = true;

        for (int q = 0; q < crew->n; q++) {
            const bool same = strcmp(ranks_info(ranks, q)->cpu, ranks_info(ranks, r)->cpu) == 0;

            first &= !same || q >= r;
            n_same += same;
        }
        if (first)
            fprintf(out, " %d rank%s on %s;", n_same, n_same == 1 ? "" : "s",
                    ranks_info(ranks, r)->cpu);
    }
    fprintf(out, " %s\n", session->cuda != NULL ? session->found.device : "no GPU");
    if (job == NULL)
        return;
    fprintf(out, "slurm     job %s, partition %s, requeued %s times", job,
            partition != NULL ? partition : "unknown", restarts != NULL ? restarts : "0");
    const double energy_j = ranks_energy_j();
    if (energy_j > 0)
        fprintf(out, ", %.0f J for this step", energy_j);
    fprintf(out, "\n");
}

static void print_software(const struct session *session, const char *program, FILE *out)
{
    char mpi[128], data[128];

    fprintf(out, "software  %s; %s, %s; %s, %s\n", program, ranks_mpi_version(mpi, sizeof mpi),
            data_versions(data, sizeof data), session->unit, session->numerics);
}

void report_summary(const struct session *session, const struct crew *crew,
                    const struct figures *figures, const char *program, FILE *out)
{
    const struct journal_counts *counts = &figures->counts;
    const struct wire_beat *totals = &figures->totals;
    const double run_s = figures->run_s > 0 ? figures->run_s : 1e-9;
    uint64_t peak_bytes = host_memory_peak_bytes();
    int n_engines = 0;
    char in_rate[16], out_rate[16];

    for (int r = 0; r < crew->n; r++) {
        n_engines += plan_layout_computes(&crew->layout, r);
        if (figures->beats != NULL && figures->beats[r].memory_peak_bytes > peak_bytes)
            peak_bytes = figures->beats[r].memory_peak_bytes;
    }
    fprintf(out, "rows      %llu in = %llu done + %llu failed%s\n",
            (unsigned long long)counts->n_rows,
            (unsigned long long)(counts->n_done - counts->n_failed),
            (unsigned long long)counts->n_failed,
            counts->n_done == counts->n_rows ? "" : " + some left");
    fprintf(out, "attempts  %llu, %llu rows found done by this one\n",
            (unsigned long long)counts->n_attempts, (unsigned long long)counts->n_kept);
    fprintf(out, "time      %.2f s load, %.2f s run (engine%s busy %.0f %%)\n", figures->load_s,
            figures->run_s, n_engines > 1 ? "s" : "", share(totals->busy_s, run_s * n_engines));
    fprintf(out, "tokens    %llu prompt (%s/s), %llu answer (%s/s), %llu steps, %llu messages\n",
            (unsigned long long)totals->n_prompt_tok,
            units_si(in_rate, sizeof in_rate, (double)totals->n_prompt_tok / run_s),
            (unsigned long long)totals->n_answer_tok,
            units_si(out_rate, sizeof out_rate, (double)totals->n_answer_tok / run_s),
            (unsigned long long)totals->n_steps, (unsigned long long)totals->n_messages);
    print_images(crew, &totals->encode, out);
    fprintf(out, "memory    %.0f MiB resident at most%s\n", mib(peak_bytes),
            crew->n > 1 ? " in one rank, what it shares with others included" : "");
    if (crew->n > 1 && figures->beats != NULL)
        print_ranks(crew, figures, out);
    print_machine(session, crew, out);
    print_software(session, program, out);
    if (counts->n_failed > 0)
        fprintf(out, "failed    why: epidote inspect %s\n", session->job->results);
    fprintf(out, "results   %s\n", session->job->results);
}

/* ---- check ----------------------------------------------------------------------------------- */

void report_layout(const struct session *session, const struct crew *crew)
{
    char stages[64];

    if (crew->n == 1) {
        printf("layout    one process: coordinator, %sprefill, decode; link self; %d threads, %s, "
               "%s\n",
               crew->layout.n_stages[ROLE_ENCODER] > 0 ? "encoder, " : "",
               session->job->threads > 0 ? session->job->threads
                                         : ranks_threads(crew->ranks, &crew->layout),
               session->unit, session->numerics);
        return;
    }
    printf("layout    %d ranks%s: ", crew->n, crew->supposed ? " on one node, as an example" : "");
    if (crew->layout.n_stages[ROLE_ENCODER] > 0)
        printf("%d encoder, ", crew->layout.n_stages[ROLE_ENCODER]);
    printf("%d prefill, %d decode; link %s; %s, %s\n", crew->layout.n_stages[ROLE_PREFILL],
           crew->layout.n_stages[ROLE_DECODE], session->job->link, session->unit,
           session->numerics);
    for (int r = 0; r < crew->n; r++)
        printf("          rank %d%s%s: %s\n", r, crew->supposed ? "" : " on ",
               crew->supposed ? "" : ranks_info(crew->ranks, r)->host,
               crew_stages(&crew->layout, r, stages, sizeof stages));
}
