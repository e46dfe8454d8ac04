#!/bin/bash
# TEST needs: mpirun timeout: 280
# A rank of each kind is stopped (kill -STOP) or dies (kill -9): the job ends within peer_timeout_s, with
# one message that names rank, host and what it was doing; the outcome beside RESULTS is 4, nobody is
# left, and the same command goes on.  E2E_ALL=1: more of them (e2e_peers_all.sh).
. "$(dirname "$0")/e2e.bash"

timeout_s=3
[ "${E2E_ALL:-0}" = 1 ] && timeout_s=5
prompts rows 100
job a "$dir/rows.h5" temperature=0.5 max_tokens=400 ignore_eos=true decode_batch=3 kv_memory_mib=16 \
    peer_timeout_s=$timeout_s.0 threads=1
export OMPI_MCA_orte_tmpdir_base=$dir OMPI_MCA_btl_vader_backing_directory=$dir UCX_POSIX_DIR=$dir
run a || fail_log a "the run on one rank"
want=$(digest "$dir/a.out.h5")
# MPICH's launcher kills all others the moment that a rank has died, so none of them can say why.
mpich=0
ldd "$epidote" | grep -q libmpich && mpich=1

# lost SIGNAL N RANK STAGE LIMIT_MS [SET...] - rank RANK of N, which hosts STAGE, gets SIGNAL while it works.
lost() {
    local signal=$1 n=$2 rank=$3 stage=$4 limit_ms=$5 what begin ms rc args=() kv
    what="SIG$1 to rank $3 of $2 ($4)"
    shift 5
    for kv in "$@"; do args+=(--set "$kv"); done
    clear a
    : >"$dir/a.log"
    EPIDOTE_LOG=debug inputs/launch.sh "$n" "$epidote" run "$dir/a.cfg" "${args[@]}" >"$dir/a.log" 2>&1 &
    pid=$!
    for ((i = 0; i < 250; i++)); do
        grep -q 'row [0-9]* done$' "$dir/a.log" && break
        sleep 0.02
    done
    sleep 0.6 # a beat of every rank
    begin=$(date +%s%N)
    kill -"$signal" "$(ranks_there | sed -n "s/^$rank //p")"
    wait_launcher $pid 2>/dev/null
    rc=$?
    ms=$((($(date +%s%N) - begin) / 1000000))
    echo "$what: over in $ms ms, launcher's exit status $rc"
    n_checks=$((n_checks + 1))
    [ $ms -le $((limit_ms * ${TEST_PATIENCE:-1})) ] || fail "$what: over in $ms ms, not in $limit_ms"
    n_checks=$((n_checks + 1))
    gone_in 1 || fail "$what: ranks are left"
    n_checks=$((n_checks + 1))
    [ $rc != 0 ] || fail "$what: the launcher's exit status is 0"
    if [ $signal != KILL ] || [ $mpich = 0 ]; then
        grep -E " E (.* )?rank $rank \($stage\) on [^ ]+, pid [0-9]+ has (been silent|died)" "$dir/a.log" >"$dir/told"
        same "$what: told once" "$(wc -l <"$dir/told")" 1; [ "$(wc -l <"$dir/told")" = 1 ] || cat "$dir/told" >&2
        has "$what: says what it did" "$dir/told" "it last said: $(tr + ' ' <<<"$stage" | cut -d' ' -f1)"
        "$epidote" status "$dir/a.out.h5" >"$dir/status.log"
        same "$what: outcome" $? 4
        has "$what: the message is beside the results" "$dir/status.log" "rank $rank ($stage) on "
    fi
}

# again N - the same command goes on.
again() {
    launch "$1" a || { fail "$1 ranks after that"; tail -n 5 "$dir/a.log" >&2; }
    same "digest" "$(digest "$dir/a.out.h5")" "$want"
}

silent_ms=$((timeout_s * 1000))
lost STOP 3 2 decode/0 $silent_ms
lost STOP 3 0 coordinator $silent_ms 'link="mpi"'
lost KILL 3 1 prefill/0 $silent_ms
again 2
if [ "${E2E_ALL:-0}" = 0 ]; then end; fi
lost STOP 4 1 prefill/0 $silent_ms
lost STOP 4 3 decode/1 $silent_ms 'link="mpi"'
again 3
lost STOP 2 1 decode/0 $silent_ms 'link="mpi"'
lost KILL 3 0 coordinator $silent_ms
again 1
lost KILL 3 1 prefill/0 $silent_ms 'link="mpi"'
lost KILL 3 2 decode/0 $silent_ms
again 4

# Not a loss: all ranks of a job that is stopped as a whole (the end of a day on a shared machine).
clear a
: >"$dir/a.log"
EPIDOTE_LOG=debug inputs/launch.sh 3 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1 &
pid=$!
for ((i = 0; i < 250; i++)); do
    grep -q 'row [0-9]* done$' "$dir/a.log" && break
    sleep 0.02
done
all=$(ranks_there | cut -d' ' -f2)
kill -STOP $all
sleep $((timeout_s + 1))
kill -CONT $all
wait $pid
same "a job that was stopped as a whole goes on" $? 0
same "and its digest" "$(digest "$dir/a.out.h5")" "$want"

# Ranks that are stopped while rank 0 merges: enough rows for the merge to be caught at it.
awk 'BEGIN { for (i = 0; i < 40000; i++) printf "What is %d plus %d?\n", i % 97, i % 89 }' >"$dir/rows.txt"
"$epidote" import --lines "$dir/rows.txt" "$dir/many.h5" 2>"$dir/import.log" || fail "import"
job m "$dir/many.h5" max_tokens=1 decode_batch=64 kv_memory_mib=64 peer_timeout_s=$timeout_s.0
run m || fail_log m "many rows on one rank"
want=$(digest "$dir/m.out.h5")

# in_merge RANK - rank RANK of 3 is stopped as soon as rank 0 has begun to write RESULTS.  If it is rank
# 0 itself, the outcome is 4, or 0 if it had just finished them.
in_merge() {
    local begin ms outcome=0
    clear m
    inputs/launch.sh 3 "$epidote" run "$dir/m.cfg" >"$dir/m.log" 2>&1 &
    pid=$!
    while [ ! -e "$dir/m.out.h5.tmp" ] && kill -0 $pid 2>/dev/null; do sleep 0.002; done
    begin=$(date +%s%N)
    kill -STOP "$(ranks_there | sed -n "s/^$1 //p")"
    wait_launcher $pid
    ms=$((($(date +%s%N) - begin) / 1000000))
    echo "rank $1 stopped in the merge: over in $ms ms"
    n_checks=$((n_checks + 1))
    [ $ms -le $((silent_ms * ${TEST_PATIENCE:-1})) ] || fail "rank $1 stopped in the merge: over in $ms ms, not in $silent_ms"
    gone_in 1 || fail "rank $1 stopped in the merge: ranks are left"
    same "rank $1 stopped in the merge: told once" "$(grep -c " E .*rank $1 .*has not finished" "$dir/m.log")" 1
    [ "$1" = 0 ] && [ -e "$dir/m.out.h5.parts" ] && outcome=4
    "$epidote" status "$dir/m.out.h5" >"$dir/status.log"
    same "rank $1 stopped in the merge: outcome" $? $outcome
    run m
    same "digest after that" "$(digest "$dir/m.out.h5")" "$want"
}
in_merge 2
in_merge 0
end
