#!/bin/bash
# TEST needs: mpirun timeout: 120
# How ranks end, and launches that are wrong: with the test programs mpi_ranks and mpi_world, since a
# job would hide what is looked at here.
. "$(dirname "$0")/e2e.bash"

mpirun=${MPIRUN:-mpirun}
ranks=${EPIDOTE_OUT:-build/release}/tests/mpi_ranks
world=${EPIDOTE_OUT:-build/release}/tests/mpi_world
open_mpi=0
"$mpirun" --version 2>/dev/null | grep -q 'Open MPI' && open_mpi=1
more=()
if [ $open_mpi = 1 ]; then
    more=(--oversubscribe)
    [ "$(id -u)" = 0 ] && export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# timed COMMAND... - its output in $dir/out, status in rc, tenths of a second in took.
timed() {
    local begin
    begin=$(date +%s%N)
    timeout 30 "$@" >"$dir/out" 2>&1 </dev/null
    rc=$?
    took=$((($(date +%s%N) - begin) / 100000000))
}

# ranks_abort ends ranks that are stopped, with one exit status, and what was said is not lost.
timed "$mpirun" "${more[@]}" -n 3 "$ranks" abort
same 'exit status of an aborted job' "$rc" 3
check "an aborted job ends in 5 s, not $took tenths" [ "$took" -lt 50 ]
has 'output before the end' "$dir/out" 'said before'

# ranks_end with a rank that never comes: the others end by themselves, and the launcher ends that one.
timed "$mpirun" "${more[@]}" -n 2 "$ranks" stuck
same 'exit status when a rank is stuck at the end' "$rc" 4
check "a job with a stuck rank ends in 6 s, not $took tenths" [ "$took" -lt 60 ]

# Rank 0 is waited for as long as it says that it lives, and no longer.
"$mpirun" "${more[@]}" -n 3 "$ranks" slow >"$dir/slow" 2>&1 </dev/null &
slow=$!
timed "$mpirun" "${more[@]}" -n 3 "$ranks" silent
same 'exit status when rank 0 is silent' "$rc" 5
check "a silent rank 0 is given up in 1 to 6 s, not $took tenths" [ "$took" -gt 14 -a "$took" -lt 60 ]
has 'a silent rank 0 is named' "$dir/out" 'rank 0 on '
wait $slow
same 'exit status when rank 0 is slow' $? 0
has 'a slow rank 0 is waited for' "$dir/slow" ' 0 failed'

# Bytes that do not fit what was to come are noticed, and no transfer is larger than MPI can count.
for way in short long big; do
    timed "$mpirun" "${more[@]}" -n 2 "$world" "$way"
    has "a transfer that is too $way" "$dir/out" ' 0 failed'
done

# One process: without a launcher MPI is not touched; with one it is, in a world of one.
unset "${!SLURM_@}" "${!PMI_@}" "${!PMIX_@}"
timed "$ranks" lone
same 'one process without a launcher' "$rc: $(cat "$dir/out")" '0: 1 ranks'
timed "$mpirun" "${more[@]}" -n 1 "$ranks" lone
same 'one process with a launcher' "$rc: $(cat "$dir/out")" '0: 1 ranks'

# Slurm's variables without MPI's: several processes would each do the whole job.
timed env SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4 SLURM_PROCID=0 "$ranks" lone
same 'srun without a plug-in' "$rc" 2
has 'srun without a plug-in' "$dir/out" 'srun started 4 processes without a plug-in for MPI: use srun --mpi=pmix'
timed env SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4 SLURM_PROCID=3 "$ranks" lone
same 'only one of them says so' "$rc: $(cat "$dir/out")" '2: '
timed env SLURM_JOB_ID=7 SLURM_NTASKS=4 "$ranks" lone
same 'a batch script without srun' "$rc" 2
has 'a batch script without srun' "$dir/out" 'this Slurm job has 4 tasks, but no launcher started this process'
timed env SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1 SLURM_PROCID=0 "$ranks" lone
same 'srun -n 1' "$rc: $(cat "$dir/out")" '0: 1 ranks'

# The launcher of another MPI leaves every process in a world of its own.
other=mpirun.mpich
[ $open_mpi = 1 ] || other=mpirun.openmpi
if command -v "$other" >/dev/null && [ $open_mpi = 1 ]; then
    timed "$other" -n 2 "$ranks" lone
    check 'the launcher of another MPI is refused' [ "$rc" != 0 ]
    has 'the launcher of another MPI' "$dir/out" 'started 2 processes, but MPI sees one: the launcher is of another MPI'
    same 'it is said once' "$(grep -c 'MPI sees one' "$dir/out")" 1
elif command -v "$other" >/dev/null; then
    [ "$(id -u)" = 0 ] && export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    timed "$other" --oversubscribe -n 2 "$ranks" lone
    check 'the launcher of another MPI is refused' [ "$rc" != 0 ]
    has 'the launcher of another MPI' "$dir/out" 'started 2 processes, but MPI sees one: the launcher is of another MPI'
fi
end
