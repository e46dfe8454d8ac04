#!/bin/bash
# TEST needs: mpirun timeout: 280
# kill -9 of a rank or of the launcher at seeded random moments, then the same command with another
# number of ranks, until it is done: the digest is that of an undisturbed run, what was finished is
# kept, nobody is left.  SIGTERM and SIGINT: gone within 0.8 s, outcome 3.
# E2E_KILLS kills in all (default 5; e2e_ranks_kills.sh: 52).
. "$(dirname "$0")/e2e.bash"

kills=${E2E_KILLS:-5} seed=${E2E_SEED:-5}
batch=3
prompts rows 120
job a "$dir/rows.h5" temperature=0.7 seed=3 max_tokens=300 ignore_eos=true logprobs=1 \
    decode_batch=$batch threads=1 kv_memory_mib=16
n_rows=$(wc -l <"$dir/rows.jsonl")
# What the MPI itself leaves behind when it is killed, it leaves in our folder.
export OMPI_MCA_orte_tmpdir_base=$dir OMPI_MCA_btl_vader_backing_directory=$dir UCX_POSIX_DIR=$dir
segments() { find /dev/shm -mindepth 1 2>/dev/null | grep -vE '/(vader_segment|ucx_|mpich|ompi|sm_segment|sem\.)' | sort; }
segments >"$dir/shm.before"

run a || fail_log a "undisturbed run on one rank"
want=$(digest "$dir/a.out.h5")
clear a
begin=$(date +%s%N)
launch 3 a || fail_log a "undisturbed run on 3 ranks"
took_ms=$((($(date +%s%N) - begin) / 1000000))
same "digest of 3 ranks" "$(digest "$dir/a.out.h5")" "$want"
echo "undisturbed on 3 ranks: $took_ms ms, $want; seed $seed"

# start N - the job on N ranks in the background: $pid is the launcher's.
start() {
    : >"$dir/a.log" # now, not when the launcher gets there
    EPIDOTE_LOG=debug inputs/launch.sh "$1" "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1 &
    pid=$!
}

pause() { # MS
    sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
}

# rank_pid R - its process, if it is there.
rank_pid() {
    ranks_there | sed -n "s/^$1 //p"
}

# note_records - $records: rows computed in all attempts, by the journal.  Once RESULTS are there and
# the logs are gone, it may not be known any more: at least all of them.
note_records() {
    local n
    n=$(sed -n 's/^ *attempts .* \([0-9]*\) rows computed in all$/\1/p' "$dir/status.log")
    [ -z "$n" ] && grep -q 'outcome *0' "$dir/status.log" && [ "$records" -lt "$n_rows" ] && n=$n_rows
    records=${n:-$records}
}

RANDOM=$seed
done_kills=0 chain=0
while [ $done_kills -lt "$kills" ]; do
    clear a
    : >"$dir/all.log"
    chain=$((chain + 1)) chain_kills=0 bound=$n_rows records=0
    while [ $chain_kills -lt 4 ] && [ $done_kills -lt "$kills" ]; do
        n=$((RANDOM % 4 + 2)) # 2 to 5 ranks
        who=$((RANDOM % (n + 1))) ms=$((RANDOM % took_ms))
        start $n
        pause $ms
        if [ $who = $n ]; then victim=$pid what=launcher; else victim=$(rank_pid $who) what="rank $who"; fi
        if [ -n "$victim" ] && kill -9 "$victim" 2>/dev/null; then
            chain_kills=$((chain_kills + 1)) done_kills=$((done_kills + 1))
            bound=$((bound + 2 * batch * n)) # no layout has more decode ranks than ranks
        else
            what="nobody (no $what at that time)"
        fi
        # The launcher of a rank that was killed takes its time (Open MPI: 1 s and 1 s more).
        n_checks=$((n_checks + 1))
        if [ "$what" = launcher ]; then gone_in 2; else wait_launcher $pid 2>/dev/null; gone_in 1; fi ||
            { fail "ranks were left after a kill of $what of $n at $ms ms"; tail -n 5 "$dir/a.log" >&2; }
        wait_launcher $pid 2>/dev/null
        cat "$dir/a.log" >>"$dir/all.log"
        "$epidote" status "$dir/a.out.h5" >"$dir/status.log" 2>&1
        rc=$?
        note_records
        echo "chain $chain: $n ranks, killed $what at $ms ms; outcome $rc"
        n_checks=$((n_checks + 1))
        case $rc in
        0 | 3 | 4) ;;
        *) [ ! -e "$dir/a.out.h5.parts" ] || { fail "status after a kill: $rc"; cat "$dir/status.log" >&2; } ;;
        esac
        [ $rc = 0 ] && break
    done
    n=$((RANDOM % 4 + 1))
    EPIDOTE_LOG=debug launch $n a || { fail "$n ranks after $chain_kills kills"; tail -n 8 "$dir/a.log" >&2; }
    cat "$dir/a.log" >>"$dir/all.log"
    same "digest of $n ranks after $chain_kills kills (chain $chain)" "$(digest "$dir/a.out.h5")" "$want"
    # By the journal, and by the log, of which a killed launcher keeps some lines to itself.
    "$epidote" status "$dir/a.out.h5" >"$dir/status.log"
    note_records
    computed=$(grep -c 'row [0-9]* done$' "$dir/all.log")
    n_checks=$((n_checks + 1))
    [ "$records" -ge "$n_rows" ] && [ "$records" -le "$bound" ] && [ "$computed" -le "$bound" ] ||
        fail "chain $chain computed $records rows ($computed by the log), $n_rows to $bound were expected"
    echo "chain $chain: $chain_kills kills, $records rows computed for $n_rows (at most $bound)"
    check "no logs are left" test ! -e "$dir/a.out.h5.parts"
done
echo "$done_kills kills in $chain chains"
segments >"$dir/shm.after"
same "what is left in /dev/shm by us" "$(comm -13 "$dir/shm.before" "$dir/shm.after")" ""

# told SIGNAL WHAT PID... - these processes get a signal in the middle of the loop: all ranks are gone
# within 0.8 s, the outcome is 3, and the same command goes on.
told() {
    local signal=$1 what=$2 begin ms
    shift 2
    begin=$(date +%s%N)
    kill -"$signal" "$@"
    gone_in 3 || fail "ranks are left 3 s after SIG$signal to $what"
    ms=$((($(date +%s%N) - begin) / 1000000))
    wait_launcher $pid
    echo "SIG$signal to $what: gone in $ms ms"
    n_checks=$((n_checks + 1))
    [ "$ms" -le $((800 * ${TEST_PATIENCE:-1})) ] || fail "SIG$signal to $what: gone after $ms ms, not within 800"
    has "message on SIG$signal to $what" "$dir/a.log" "same command goes on"
    "$epidote" status "$dir/a.out.h5" >"$dir/status.log"
    same "outcome after SIG$signal to $what" $? 3
    has "and its message" "$dir/status.log" "stopped by signal"
    same "one rank told it" "$(grep -c 'stopped by signal' "$dir/a.log")" 1
}

# in_loop N - start and wait until rows come out.
in_loop() {
    clear a
    start "$1"
    for ((i = 0; i < 200; i++)); do
        grep -q 'row [0-9]* done$' "$dir/a.log" 2>/dev/null && return
        sleep 0.02
    done
    fail "no row came out in 4 s"
}

for signal in TERM INT; do
    in_loop 3 # as srun and scancel do: every rank gets it
    told $signal "all of 3 ranks" $(ranks_there | cut -d' ' -f2)
    in_loop 4
    told $signal "rank 3 of 4" "$(rank_pid 3)"
done
in_loop 2
told TERM "rank 0 of 2" "$(rank_pid 0)"
launch 4 a
same "digest after all that" "$(digest "$dir/a.out.h5")" "$want"
end
