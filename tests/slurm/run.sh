#!/bin/bash
# run.sh [NAME ...] - the scripts of slurm/ on real Slurm daemons, which it starts on this host: all, or those named.
#
# A line a test, its output when it fails, then "N passed, N failed, N skipped".  Environment: EPIDOTE, the
# program (default build/epidote); KEEP=1, leave the folder with all logs.
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/slurm/cluster.bash
export EPIDOTE=${EPIDOTE:-$PWD/build/epidote}
dir=$(mktemp -d "${TMPDIR:-/tmp}/epidote-slurm-XXXXXX")
trap 'cluster_stop; [ "${KEEP:-0}" = 1 ] && echo "$dir" || rm -rf "$dir"' EXIT
# Ranks find each other over the loopback of this host, whatever its other networks are.
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_pml=ob1 EPIDOTE_LOG=info

cluster_start "$dir/cluster" >"$dir/why" 2>&1
case $? in
0) ;;
77) cat "$dir/why" && tests/sum.sh --add 0 0 1 && exit 0 ;;
*) cat "$dir/why" && tests/sum.sh --add 0 1 0 && exit 1 ;;
esac

# ---- what tests share ------------------------------------------------------------------------------------

fail() {
    echo "FAILED: $*"
    n_wrong=$((n_wrong + 1))
}
same() { # WHAT GOT WANT
    [ "$2" = "$3" ] || fail "$1: $2, not $3"
}
has() { # WHAT FILE TEXT
    grep -qF -- "$3" "$2" || { fail "$1: no \"$3\" in $2:"; tail -n 30 "$2"; }
}
digest() {
    "$EPIDOTE" inspect --digest "$1" 2>&1
}

# job NAME ROWS MAX_TOKENS [key=value ...] - $dir/NAME.cfg, results $dir/NAME.h5; want=, the digest of one process.
job() {
    local name=$1 n=$2 max_tokens=$3 kv
    shift 3
    awk -v n="$n" 'BEGIN { for (i = 0; i < n; i++) printf "What is %d plus %d?\n", i % 97, i % 89 }' >"$dir/$name.txt"
    "$EPIDOTE" import --lines "$dir/$name.txt" "$dir/$name.rows.h5" >"$dir/import.log" 2>&1 || cat "$dir/import.log"
    {
        echo "model = \"$PWD/inputs/models/tiny-llama\"; prompts = \"$dir/$name.rows.h5\"; results = \"$dir/$name.h5\";"
        echo "max_tokens = $max_tokens; ignore_eos = true; temperature = 0.6; threads = 1; progress = 0; decode_batch = 8;"
        echo "peer_timeout_s = 5.0;"
        for kv in "$@"; do echo "${kv%%=*} = ${kv#*=};"; done
    } >"$dir/$name.cfg"
    "$EPIDOTE" run "$dir/$name.cfg" --set "results=$dir/$name.one.h5" >"$dir/$name.one.log" 2>&1 || tail "$dir/$name.one.log"
    want=$(digest "$dir/$name.one.h5")
}

# long_job NAME - as job, one that takes 14 s on this machine as it is now; one data set for all of them.
long_job() {
    local begin ms
    if [ ! -e "$dir/long.cfg" ]; then
        begin=$(date +%s%N)
        job long 300 150
        ms=$((($(date +%s%N) - begin) / 1000000))
        rm -f "$dir"/long.*
        job long $((300 * 14000 / ms)) 150
        long_want=$want
    fi
    want=$long_want
    sed "s|results = [^;]*;|results = \"$dir/$1.h5\";|" "$dir/long.cfg" >"$dir/$1.cfg"
}

# submit NAME ARG ... - sbatch with these, its log to $dir/NAME.log; $id.
submit() {
    local name=$1
    shift
    log=$dir/$name.log
    id=$(sbatch --parsable --output="$log" "$@" 2>"$dir/$name.sbatch.log") || { cat "$dir/$name.sbatch.log" && return 1; }
}

state() { # JOB
    scontrol show job "$1" 2>/dev/null | sed -n 's/^ *JobState=\([A-Z_]*\).*/\1/p' | head -n 1
}

# until_over SECONDS JOB... - wait until none of them is waiting or running; 1: it took longer.
until_over() {
    local i limit=$1 job left
    shift
    for ((i = 0; i < limit * 5; i++)); do
        left=0
        for job in "$@"; do
            case $(state "$job") in PENDING | RUNNING | COMPLETING | CONFIGURING | SUSPENDED | REQUEUED) left=1 ;; esac
        done
        [ $left = 0 ] && return 0
        sleep 0.2
    done
    fail "job $* is still $(state "$1") after $limit s"
    squeue
    tail -n 20 "$log"
    scancel "$@"
    return 1
}

# until_rows N NAME - wait until so many rows of a job are done.
until_rows() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ "$("$EPIDOTE" status "$dir/$2.h5" 2>/dev/null | sed -n 's/^ *rows *[0-9]*: \([0-9]*\) done.*/\1/p')" -ge "$1" ] 2>/dev/null && return
        sleep 0.1
    done
    fail "no $1 rows of $2 were done in a minute"
    tail -n 20 "$log"
}

# finished NAME - a job has completed, with the digest of one process.
finished() {
    same "$1: state" "$(state "$id")" COMPLETED
    same "$1: digest" "$(digest "$dir/$1.h5")" "$want"
    [ $n_wrong = 0 ] || tail -n 40 "$log"
}

# ---- the tests -------------------------------------------------------------------------------------------

# One job on two nodes; the log has layout, links, figures and how it ended.
test_plain() {
    job plain 60 12
    submit plain -N 2 --ntasks-per-node=2 -t 5 slurm/run.sbatch "$dir/plain.cfg"
    until_over 60 "$id"
    finished plain
    has "links" "$log" "prefill to decode: link"
    has "outcome" "$log" "outcome   0, done"
    "$EPIDOTE" inspect "$dir/plain.h5" >"$dir/inspect.log"
    for line in "slurm     job $id, partition main" "prefill   " "decode    " "machine   2 nodes" "software  epidote"; do
        has "the summary" "$log" "$line"
        has "the summary in the results" "$dir/inspect.log" "  $line"
    done
    same "nobody was aborted" "$(grep -c MPI_ABORT "$log")" 0
}

# Components of a heterogeneous job are the groups, and nodes of their own.
test_hetero() {
    job hetero 60 12
    submit hetero slurm/run_hetero.sbatch "$dir/hetero.cfg"
    until_over 60 "$id"
    finished hetero
    has "four ranks" "$log" "rank 3 "
    has "an encoder's rank computes prompts if there are no images" "$log" "prefill/1"
    # Other components: a copy of the script that a user has edited, and says where the rest lies.
    awk '/^#SBATCH hetjob/ && n++ < 1 { getline; next } { print }' slurm/run_hetero.sbatch >"$dir/three.sbatch"
    EPIDOTE_SLURM=$PWD/slurm submit hetero3 "$dir/three.sbatch" "$dir/hetero.cfg" --set "results=$dir/hetero3.h5"
    until_over 60 "$id"
    same "three components: digest" "$(digest "$dir/hetero3.h5")" "$want"
    has "three components: three ranks" "$log" "rank 2 "
    awk '/^#SBATCH hetjob/ && n++ < 2 { getline; next } { print }' slurm/run_hetero.sbatch >"$dir/two.sbatch"
    EPIDOTE_SLURM=$PWD/slurm submit hetero2 "$dir/two.sbatch" "$dir/hetero.cfg" --set "results=$dir/hetero2.h5"
    until_over 60 "$id"
    same "two components: state" "$(state "$id")" FAILED
    has "two components: why" "$log" "this job has 2 components"
}

# Pictures: the component for encoders encodes.
test_hetero_images() {
    job images 1 1
    sed -e "s|^model.*|model = \"$PWD/inputs/models/shapes-vlm\"; prompts = \"$PWD/inputs/shapes.h5\"; results = \"$dir/images.h5\"; rows = \"0:48\";|" \
        -e 's/^max_tokens.*/max_tokens = 8; progress = 0; context = 512;/' "$dir/images.cfg" >"$dir/images.new" && mv "$dir/images.new" "$dir/images.cfg"
    rm -f "$dir"/images.one.h5*
    "$EPIDOTE" run "$dir/images.cfg" --set "results=$dir/images.one.h5" >"$dir/images.one.log" 2>&1
    want=$(digest "$dir/images.one.h5")
    submit images slurm/run_hetero.sbatch "$dir/images.cfg"
    until_over 60 "$id"
    finished images
    has "an encoder" "$log" "encoder/0"
}

# A data set in parts, joined by the last task.
test_array() {
    job array 61 10
    submit array --array=1-3 -n 2 -t 5 slurm/array.sbatch "$dir/array.cfg"
    until_over 90 "${id}_1" "${id}_2" "${id}_3"
    same "digest of the whole" "$(digest "$dir/array.h5")" "$want"
    same "three parts" "$(ls "$dir" | grep -c 'array.h5.[1-3]-of-3$')" 3
    "$EPIDOTE" inspect "$dir/array.h5" >/dev/null || fail "the whole cannot be read"
    submit array_rows --array=1-2 -n 2 -t 5 slurm/array.sbatch "$dir/array.cfg" --set rows=0:9
    until_over 60 "${id}_1" "${id}_2"
    has "rows of its own: refused" "$log" "leave \`rows\` out"
    submit array_wrong --array=2-3 -n 2 -t 5 slurm/array.sbatch "$dir/array.cfg"
    until_over 60 "${id}_2" "${id}_3"
    has "part of an array: refused" "$log" "tasks have to be 1 to N"
}

# Too little time: it ends by the clock, goes into the queue again, and is done at last.
test_walltime() {
    long_job walltime
    submit walltime --signal=CONT@1 -n 2 -t 1 slurm/run.sbatch "$dir/walltime.cfg" --set time_margin_s=52
    until_over 150 "$id"
    finished walltime
    has "it knew its end" "$log" "the time of this run ends in"
    has "it began no more rows, going by the clock" "$log" "rows take up to"
    has "and was requeued" "$log" "into the queue again, number 1"
    same "no rank was killed" "$(grep -c "MPI_ABORT\|CANCELLED AT.*TIME" "$log")" 0
}

# The second line: the signal that comes to the batch shell reaches the ranks.  How often it is requeued is bounded.
test_signal() {
    long_job signal
    EPIDOTE_REQUEUES=0 submit signal -n 3 -t 5 slurm/run.sbatch "$dir/signal.cfg"
    until_rows 1 signal
    scancel --signal=USR1 --batch "$id"
    until_over 60 "$id"
    has "it was asked" "$log" "asked to come to an end"
    has "that is why it ended" "$log" "SIGUSR1"
    has "its limit" "$log" "EPIDOTE_REQUEUES is 0"
    same "state" "$(state "$id")" FAILED
    "$EPIDOTE" status "$dir/signal.h5" >"$dir/status.log"
    same "outcome" $? 3
    [ $n_wrong = 0 ] || tail -n 30 "$log"
}

# A node dies under a job: Slurm, or the job itself, puts it into the queue again, and it is done on other nodes.
test_node_failure() {
    long_job node
    submit node -N 2 --ntasks-per-node=2 -t 10 slurm/run.sbatch "$dir/node.cfg"
    until_rows 8 node
    local victim
    victim=$(scontrol show hostnames "$(squeue -h -j "$id" -o %N)" | tail -n 1)
    node_kill "$victim"
    until_over 150 "$id"
    finished node
    has "it had been done in part before" "$log" "found done"
    node_start "$victim"
}

# Cancelled, then submitted again by hand.
test_cancel() {
    long_job cancel
    submit cancel -n 3 -t 5 slurm/run.sbatch "$dir/cancel.cfg"
    until_rows 8 cancel
    scancel "$id"
    until_over 60 "$id"
    same "state" "$(state "$id")" CANCELLED
    "$EPIDOTE" status "$dir/cancel.h5" >"$dir/status.log"
    same "outcome" $? 3
    submit cancel2 -n 2 -t 5 slurm/run.sbatch "$dir/cancel.cfg"
    until_over 90 "$id"
    finished cancel
    same "rows were found done" "$(grep -c "to do, 0 found done" "$log")" 0
}

# A task of an array that is cancelled stays so, though its sisters run on.
test_cancel_task() {
    long_job task
    submit task --array=1-3 -n 2 -t 5 slurm/array.sbatch "$dir/task.cfg"
    local i
    for ((i = 0; i < 600; i++)); do [ -s "$dir/task.h5.2-of-3.status" ] && break; sleep 0.1; done
    scancel "${id}_2"
    sleep 12 # a job in the queue again would wait for a while
    same "the task: state" "$(state "${id}_2")" CANCELLED
    scancel "$id"
    until_over 60 "${id}_1" "${id}_3"
}

# A machine that fails again and again without a row done is not tried for ever.
test_fruitless() {
    job fruitless 10 4
    # A program that crashes as soon as it serves.
    printf '#!/bin/sh\ncase $1 in run) echo "{ \\"outcome\\": 4, \\"n\\": $$ }" >"%s.status"; kill -9 $$ ;; *) exec "%s" "$@" ;; esac\n' "$dir/fruitless.h5" "$EPIDOTE" >"$dir/crashes"
    chmod +x "$dir/crashes"
    EPIDOTE=$dir/crashes submit fruitless -n 1 -t 5 slurm/run.sbatch "$dir/fruitless.cfg"
    until_over 120 "$id"
    has "three times in a row" "$log" "no row was finished, 3 times in a row"
    same "state" "$(state "$id")" FAILED
}

# Two jobs on one result file: the second is refused, and told which job has it.
test_two_jobs() {
    long_job two
    submit two -n 2 -t 5 slurm/run.sbatch "$dir/two.cfg"
    local first=$id
    until_rows 1 two
    submit two_second -n 2 -t 5 slurm/run.sbatch "$dir/two.cfg"
    until_over 60 "$id"
    same "the second: state" "$(state "$id")" FAILED
    has "the second: who has it" "$log" "job $first"
    has "the second: and the script" "$log" "another job works on"
    same "the first goes on" "$(state "$first")" RUNNING
    scancel "$first"
    until_over 30 "$first"
}

# Launches that are wrong are told so, once.
test_wrong_launch() {
    job launch 10 4
    srun --mpi=none -n 3 "$EPIDOTE" run "$dir/launch.cfg" >"$dir/launch.log" 2>&1
    has "no plug-in for MPI" "$dir/launch.log" "srun started 3 processes without a plug-in for MPI"
    same "told once" "$(grep -c "without a plug-in" "$dir/launch.log")" 1
    "$EPIDOTE" status "$dir/launch.h5" >"$dir/status.log"
    same "outcome" $? 2
    submit launch_none slurm/run.sbatch "$dir/nosuch.cfg"
    until_over 60 "$id"
    same "no job file: state" "$(state "$id")" FAILED
    has "no job file: why" "$log" "nosuch.cfg: No such file"
}

# mpirun inside an allocation.
test_mpirun() {
    job mpirun 60 12
    EPIDOTE_LAUNCHER=mpirun submit mpirun -n 3 -t 5 slurm/run.sbatch "$dir/mpirun.cfg"
    until_over 60 "$id"
    finished mpirun
    has "three ranks" "$log" "rank 2 "
}

# The table of links, between nodes and within one.
test_preflight() {
    job preflight 10 4
    submit preflight -N 2 --ntasks-per-node=2 -t 5 slurm/preflight.sbatch "$dir/preflight.cfg"
    until_over 60 "$id"
    same "state" "$(state "$id")" COMPLETED
    same "two kinds of pairs" "$(grep -cE '^prefill to decode .* (shm|mpi) +[0-9.]+ ' "$log")" 1
    [ ! -e "$dir/preflight.h5" ] || fail "it made results"
}

# ---- all of them -----------------------------------------------------------------------------------------

n_passed=0 n_failed=0
[ $# -gt 0 ] || set -- $(declare -F | sed -n 's/^declare -f test_//p')
for name in plain hetero hetero_images array walltime signal node_failure cancel cancel_task fruitless two_jobs wrong_launch mpirun preflight; do
    [[ " $* " = *" $name "* ]] || continue
    begin=$SECONDS n_wrong=0
    "test_$name" >"$dir/out" 2>&1
    if [ $n_wrong = 0 ]; then
        n_passed=$((n_passed + 1))
        printf 'ok    slurm_%-18s %4d s\n' "$name" $((SECONDS - begin))
    else
        n_failed=$((n_failed + 1))
        printf 'FAIL  slurm_%-18s %4d s\n---- \n' "$name" $((SECONDS - begin))
        cat "$dir/out"
        echo ----
    fi
done
tests/sum.sh --add $n_passed $n_failed 0
[ $n_failed = 0 ]
