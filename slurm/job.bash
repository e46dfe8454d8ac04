# job.bash - what the batch scripts share: read by them, not run.
#
#   serve JOB.cfg [--set ...]     run, wait, look how it went; put the job into the queue again if rows are left
#   launch ARG ...                the program on all ranks of this job, by srun or mpirun
#
# A run ends before its walltime by itself (SLURM_JOB_END_TIME); the signal that sbatch was told to send before
# (--signal=B:USR1@...) is the second line, and comes here, to the batch shell.
set -u

# This job, or this task of an array: its plain number is that of the whole array for one of the tasks.
id=$SLURM_JOB_ID
[ -n "${SLURM_ARRAY_JOB_ID:-}" ] && id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

say() {
    echo "$(date '+%F %T') job $id: $*"
}

# ---- signals: from here on none ends this shell ---------------------------------------------------
launcher=''
pass_on() { # SIGNAL
    [ -z "$launcher" ] || kill -"$1" "$launcher" 2>/dev/null
}
# Slurm sends it up to a minute early; as long as the run's own clock can do its work, it is left alone.
drain() {
    local left=$((${SLURM_JOB_END_TIME:-0} - $(date +%s) - 20))
    if [ $left -gt 0 ] && [ $left -lt 160 ]; then
        (sleep $left && pass_on USR1) &
    else
        pass_on USR1
    fi
}
trap drain USR1
trap 'pass_on TERM' TERM

# ---- what the job is --------------------------------------------------------------------------------

# When it ends, in seconds since 1970: Slurm says so itself since 23.02.
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then
    end=$(squeue -h -j "$id" -o %e 2>/dev/null)
    [[ $end == 2???-* ]] && end=$(date -d "$end" +%s) && export SLURM_JOB_END_TIME=$end
fi
# srun has not taken this from sbatch since Slurm 22.05.
[ -n "${SLURM_CPUS_PER_TASK:-}" ] && export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
if [ "$(id -u)" = 0 ]; then # in containers and on test machines
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

launch() {
    case $EPIDOTE_LAUNCHER in
    srun) exec srun --mpi="$EPIDOTE_PMI" --kill-on-bad-exit=1 "$EPIDOTE" "$@" ;;
    mpirun) exec mpirun $EPIDOTE_MPIRUN_ARGS "$EPIDOTE" "$@" ;;
    *) say "EPIDOTE_LAUNCHER=$EPIDOTE_LAUNCHER: srun or mpirun (slurm/site.env)" && exit 2 ;;
    esac
}

# n_done RESULTS - how many rows of it are done.
n_done() {
    "$EPIDOTE" status "$1" 2>/dev/null | sed -n 's/^ *rows *[0-9]*: \([0-9]*\) done.*/\1/p'
}

# ---- a run --------------------------------------------------------------------------------------------

# over RESULTS BEFORE - the run has begun (beside RESULTS stands something else than BEFORE), and nobody works on it.
over() {
    [ "$(cat "$1.status" 2>/dev/null)" != "$2" ] || return 1
    "$EPIDOTE" status "$1" >/dev/null 2>&1
    [ $? != 5 ]
}

# in_background RESULTS COMMAND... - run it; a shell that waits for a foreground command would look at a signal only
# when that has ended.  A launcher that is still there half a minute after the run has ended is ended: srun of
# heterogeneous steps hangs now and then.
in_background() {
    local results=$1 before looks=0
    shift
    before=$(cat "$results.status" 2>/dev/null)
    ("$@") &
    launcher=$!
    while kill -0 "$launcher" 2>/dev/null; do
        sleep 5 &
        wait -n "$launcher" $!
        if over "$results" "$before"; then looks=$((looks + 1)); else looks=0; fi
        [ $looks -lt 7 ] && continue
        say "the run has ended, and $EPIDOTE_LAUNCHER does not: it is killed"
        pkill -KILL -P "$launcher"
        kill -KILL "$launcher"
        wait "$launcher"
    done
    launcher=''
}

# ---- and after it --------------------------------------------------------------------------------------

# ended_early - Slurm is ending this job, and not for want of time: somebody has cancelled it, or it will put it
# into the queue again by itself (a node was lost, another job had precedence).
ended_early() {
    local state
    state=$(scontrol show job "$id" 2>/dev/null | sed -n 's/^ *JobState=\([A-Z_]*\).*/\1/p' | head -n 1)
    [ "${state:-RUNNING}" != RUNNING ] || return 1 # no answer is no news
    [ -z "${SLURM_JOB_END_TIME:-}" ] || [ "$(date +%s)" -lt $((SLURM_JOB_END_TIME - 2)) ]
}

# again WHY - put this job into the queue again, with the same number.
again() {
    local n=$((${SLURM_RESTART_COUNT:-0} + 1)) try
    ended_early && say "$1, and Slurm ends this job: submit it again to go on" && exit 3
    if [ $n -gt "$EPIDOTE_REQUEUES" ]; then
        say "$1, for the ${n}th time: EPIDOTE_REQUEUES is $EPIDOTE_REQUEUES; submit it again to go on"
        exit 3
    fi
    say "$1: into the queue again, number $n of at most $EPIDOTE_REQUEUES"
    for try in 1 2 3; do
        scontrol requeue "$id" && sleep 60 # Slurm ends this script
        sleep 5
    done
    say "it cannot be requeued: submit it again to go on"
    exit 3
}

# fruitless RESULTS WHY MOST - another attempt that has finished no row; more than MOST in a row, and it ends here.
fruitless() {
    local n
    n=$(($(cat "$1.fruitless" 2>/dev/null || echo 0) + 1))
    if [ $n -gt "$3" ]; then
        rm -f "$1.fruitless"
        say "$2, and no row was finished, $n times in a row: look at what stands above"
        exit 3
    fi
    echo $n >"$1.fruitless"
}

# How a run went is what `epidote status` says: srun's exit status may be that of a rank that was killed, or
# of srun itself.  Failures of the machine without any progress are tried three times, in case it was that node.
serve() {
    local results before outcome now
    results=$("$EPIDOTE" check "$@" --get results) || exit 2
    before=$(n_done "$results")
    say "${SLURM_JOB_NUM_NODES:-1} nodes, $results, ${before:-0} rows done before"
    in_background "$results" "${launch:-launch}" run "$@"
    "$EPIDOTE" status "$results"
    outcome=$?
    now=$(n_done "$results")
    [ "${now:-0}" = "${before:-0}" ] || rm -f "$results.fruitless"
    case $outcome in
    0 | 1) # rows that ended as errors are no failure of the job
        rm -f "$results.fruitless"
        say "done"
        ;;
    3)
        [ "${now:-0}" != "${before:-0}" ] ||
            fruitless "$results" "the run was broken off: give the job more time, or a smaller time_margin_s" 0
        again "rows are left"
        ;;
    4)
        [ "${now:-0}" != "${before:-0}" ] || fruitless "$results" "a node or the machine failed" 2
        again "a node or the machine failed"
        ;;
    5) say "another job works on $results" && exit 2 ;;
    *) exit "$outcome" ;;
    esac
}
