#!/bin/bash
# TEST timeout: 280
# kill -9 at seeded random moments, the same command again, until it is done: the digest is that of an
# undisturbed run, and what was finished is kept.  E2E_KILLS kills in all (default 12; e2e_kills.sh: 60).
. "$(dirname "$0")/e2e.bash"

kills=${E2E_KILLS:-12} seed=${E2E_SEED:-7}
batch=4
prompts rows 120
job a "$dir/rows.h5" temperature=0.7 seed=3 max_tokens=32 logprobs=1 decode_batch=$batch threads=1
n_rows=$(wc -l <"$dir/rows.jsonl")

begin=$(date +%s%N)
check "undisturbed run" run a
took_ms=$((($(date +%s%N) - begin) / 1000000))
want=$(digest "$dir/a.out.h5")
echo "undisturbed: $took_ms ms, $want; seed $seed"

RANDOM=$seed
done_kills=0 chain=0
while [ $done_kills -lt "$kills" ]; do
    clear a
    : >"$dir/all.log"
    chain=$((chain + 1)) chain_kills=0
    # Up to 6 kills a chain, then it may finish.
    while [ $chain_kills -lt 6 ] && [ $done_kills -lt "$kills" ]; do
        EPIDOTE_LOG=debug "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1 &
        pid=$!
        ms=$((RANDOM % took_ms))
        sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
        alive=1
        kill -9 $pid 2>/dev/null || alive=0
        wait $pid 2>/dev/null
        cat "$dir/a.log" >>"$dir/all.log"
        [ $alive = 1 ] && chain_kills=$((chain_kills + 1)) && done_kills=$((done_kills + 1))
        [ $alive = 0 ] && break
        "$epidote" status "$dir/a.out.h5" >"$dir/status.log" 2>&1
        rc=$?
        n_checks=$((n_checks + 1))
        [ $rc = 3 ] || [ $rc = 0 ] || [ ! -e "$dir/a.out.h5.parts" ] ||
            { fail "status after a kill: outcome $rc"; cat "$dir/status.log" >&2; }
    done
    EPIDOTE_LOG=debug run a || fail "the run after $chain_kills kills"
    cat "$dir/a.log" >>"$dir/all.log"
    same "digest after $chain_kills kills (chain $chain)" "$(digest "$dir/a.out.h5")" "$want"
    # Every row that came out of decode left a line; rows in flight are lost with a kill, no others.
    computed=$(grep -c 'row [0-9]* done$' "$dir/all.log")
    bound=$((n_rows + chain_kills * 2 * batch))
    n_checks=$((n_checks + 1))
    [ "$computed" -ge "$n_rows" ] && [ "$computed" -le "$bound" ] ||
        fail "chain $chain computed $computed rows, $n_rows to $bound were expected"
    echo "chain $chain: $chain_kills kills, $computed rows computed for $n_rows (at most $bound)"
    check "no logs are left" test ! -e "$dir/a.out.h5.parts"
done
echo "$done_kills kills in $chain chains"

# SIGTERM: sync and leave with outcome 3; SIGINT likewise; then to the end.
for signal in TERM INT; do
    clear a
    "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1 &
    pid=$!
    sleep "$(printf '0.%03d' $((took_ms * 6 / 10 < 999 ? took_ms * 6 / 10 : 999)))"
    kill -$signal $pid
    wait $pid
    rc=$?
    if [ $rc = 3 ]; then
        has "message on $signal" "$dir/a.log" "same command goes on"
        "$epidote" status "$dir/a.out.h5" >"$dir/status.log"
        same "status after $signal" $? 3
    else
        same "outcome on $signal that came late" $rc 0
    fi
    run a
    same "digest after $signal" "$(digest "$dir/a.out.h5")" "$want"
done
end
