# job.bash - what the batch scripts share: read by them, not run.
#
#   serve JOB.cfg [--set ...]     run, wait, look how it went; put the job into the queue again if rows are left
#   launch ARG ...                the program on all ranks of this job, by srun or mpirun
#
# A run ends before its walltime by itself (SLURM_JOB_END_TIME); the signal that sbatch was told to send a
# little before (--signal=B:USR1@...) is the second line, and comes here, to the batch shell, first.
set -u

say() {
    echo "$(date '+%F %T') job ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}: $*"
}

# When this job ends, in seconds since 1970: Slurm says so itself since 23.02.
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then
    end=$(date -d "$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null | head -n 1)" +%s 2>/dev/null) || end=''
    [ -n "$end" ] && export SLURM_JOB_END_TIME=$end
fi
# srun has not taken this from sbatch since Slurm 22.05.
[ -n "${SLURM_CPUS_PER_TASK:-}" ] && export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
if [ "$(id -u)" = 0 ]; then # in containers and on test machines
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

launch() {
    case $EPIDOTE_LAUNCHER in
    srun) exec srun --mpi="$EPIDOTE_PMI" --kill-on-bad-exit=1 "$EPIDOTE" "$@" ;;
    mpirun) exec mpirun "$EPIDOTE" "$@" ;;
    *) say "EPIDOTE_LAUNCHER=$EPIDOTE_LAUNCHER: srun or mpirun (slurm/site.env)" && exit 2 ;;
    esac
}

# n_done RESULTS - how many rows of it are done.
n_done() {
    "$EPIDOTE" status "$1" 2>/dev/null | sed -n 's/^ *rows *[0-9]*: \([0-9]*\) done.*/\1/p'
}

# over RESULTS BEFORE - the run has told how it ended: beside RESULTS stands something else than BEFORE, and not
# that it runs.
over() {
    [ "$(cat "$1.status" 2>/dev/null)" != "$2" ] && ! grep -q '"outcome": 5' "$1.status"
}

# in_background RESULTS COMMAND... - run it, and pass on to it what comes to this shell.  A shell that waits for a
# foreground command would look at a signal only when that has ended.  A launcher that is still there half a
# minute after the run has told its end is ended: srun of heterogeneous steps hangs now and then.
in_background() {
    local results=$1 before pid looks=0
    shift
    before=$(cat "$results.status" 2>/dev/null)
    ("$@") &
    pid=$!
    trap 'kill -USR1 '$pid' 2>/dev/null' USR1
    trap 'kill -TERM '$pid' 2>/dev/null' TERM
    while kill -0 $pid 2>/dev/null; do
        sleep 5 &
        wait -n $pid $!
        if over "$results" "$before"; then looks=$((looks + 1)); else looks=0; fi
        [ $looks -lt 7 ] && continue
        say "the run has ended, and $EPIDOTE_LAUNCHER does not: it is killed"
        pkill -KILL -P $pid
        kill -KILL $pid
        wait $pid
    done
    trap - USR1 TERM
}

# ended_early - Slurm is ending this job, and not for want of time: somebody has cancelled it, or it will put it
# into the queue again by itself (a node was lost, another job had precedence).
ended_early() {
    scontrol show job "$SLURM_JOB_ID" | grep -q 'JobState=RUNNING' && return 1
    [ -z "${SLURM_JOB_END_TIME:-}" ] || [ "$(date +%s)" -lt $((SLURM_JOB_END_TIME - 2)) ]
}

# again WHY - put this job into the queue again, with the same number.
again() {
    local n=$((${SLURM_RESTART_COUNT:-0} + 1)) id=$SLURM_JOB_ID
    ended_early && say "$1, and Slurm ends this job: submit it again to go on" && exit 3
    if [ $n -gt "$EPIDOTE_REQUEUES" ]; then
        say "$1, for the ${n}th time: EPIDOTE_REQUEUES is $EPIDOTE_REQUEUES; submit it again to go on"
        exit 3
    fi
    say "$1: into the queue again, number $n of at most $EPIDOTE_REQUEUES"
    [ -n "${SLURM_ARRAY_JOB_ID:-}" ] && id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    scontrol requeue "$id" || { say "it cannot be requeued: submit it again to go on"; exit 3; }
    sleep 60 # Slurm ends this script
    exit 3
}

# How a run went is what `epidote status` says: srun's exit status may be that of a rank that was killed, or
# of srun itself.
serve() {
    local results before outcome
    results=$("$EPIDOTE" check "$@" --get results) || exit 2
    before=$(n_done "$results")
    say "${SLURM_JOB_NUM_NODES:-1} nodes, $results, ${before:-0} rows done before"
    in_background "$results" "${launch:-launch}" run "$@"
    "$EPIDOTE" status "$results"
    outcome=$?
    case $outcome in
    0 | 1) say "done" && return 0 ;; # rows that ended as errors are no failure of the job
    3) [ "$(n_done "$results")" != "${before:-0}" ] || {
        say "no row was finished: give the job more time, or a smaller time_margin_s"
        exit 3
    }
        again "rows are left" ;;
    4) again "a node or the machine failed" ;;
    5) say "another job works on $results" && exit 2 ;;
    *) exit "$outcome" ;;
    esac
}
