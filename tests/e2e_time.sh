#!/bin/bash
# TEST needs: mpirun timeout: 200
# A run whose time is over, by its own limit, by the end of its Slurm job or by SIGUSR1, finishes the rows
# in flight, begins no more and ends with outcome 3; the same command goes on, to the same digest.
. "$(dirname "$0")/e2e.bash"
unset "${!SLURM_@}"

awk 'BEGIN { for (i = 0; i < 900; i++) printf "What is %d plus %d?\n", i % 97, i % 89 }' >"$dir/rows.txt"
"$epidote" import --lines "$dir/rows.txt" "$dir/rows.h5" 2>"$dir/import.log" || fail "import"
job a "$dir/rows.h5" max_tokens=100 ignore_eos=true decode_batch=8 temperature=0.5 threads=1
run a || fail_log a "a run without a limit"
want=$(digest "$dir/a.out.h5")

# told KEY - a number of `epidote status`.
told() {
    "$epidote" status "$dir/a.out.h5" | sed -n "s/.*[ ,] *\([0-9]*\) $1.*/\1/p"
}

# in_order WHAT LOG - the run ended with outcome 3 and has thrown nothing away.
in_order() {
    same "$1: outcome" "$outcome" 3
    has "$1: says so" "$dir/a.log" "no more rows are begun"
    same "$1: no rank was aborted" "$(grep -c MPI_ABORT "$dir/a.log")" 0
    check "$1: some rows were done" [ "$(told 'done')" -gt 0 ]
    same "$1: none was computed in vain" "$(told 'rows computed in all')" "$(told 'done')"
    "$epidote" status "$dir/a.out.h5" >"$dir/status.log"
    same "$1: status" $? 3
}

# By its own limit, again and again.  Rows take less than the margin, so none is given up.
clear a
for ((attempt = 1; attempt <= 60; attempt++)); do
    run a --set time_limit_s=3.5 --set time_margin_s=2
    outcome=$?
    [ $outcome = 0 ] && break
    [ $attempt -gt 1 ] || in_order "a limit"
done
same "at last all rows are done" $outcome 0
check "it took several attempts ($attempt)" [ $attempt -gt 1 ]
same "digest" "$(digest "$dir/a.out.h5")" "$want"

# With its Slurm job.
clear a
SLURM_JOB_END_TIME=$(($(date +%s) + 4)) run a --set time_margin_s=2
outcome=$?
in_order "a Slurm job's end"
has "which it knew at the start" "$dir/a.log" "the time of this run ends in"
run a || fail_log a "the run after that"
same "digest" "$(digest "$dir/a.out.h5")" "$want"

# No time at all: nothing is begun, nothing is wrong.
clear a
run a --set time_limit_s=0.001 --set time_margin_s=0
same "no time at all: outcome" $? 3
same "no time at all: rows" "$(told 'done')" 0

run a --set time_limit_s=20 --set time_margin_s=30
same "a margin that leaves no time: outcome" $? 2
has "a margin that leaves no time: why" "$dir/a.log" "raise the one or lower the other"
clear a
SLURM_JOB_END_TIME=1000000000 run a --set rows=0:9
same "a Slurm job that ended long ago: outcome" $? 0
has "a Slurm job that ended long ago: told" "$dir/a.log" "does not count"

# Asked to: one process, several ranks.
for n in 1 3; do
    clear a
    launch $n a &
    pid=$!
    for ((i = 0; i < 200; i++)); do
        grep -q loaded "$dir/a.log" 2>/dev/null && break
        sleep 0.02
    done
    sleep 0.7
    pkill -USR1 -f "^[^ ]*epidote run $dir/"
    wait $pid
    outcome=$?
    in_order "SIGUSR1, $n ranks"
    has "SIGUSR1, $n ranks: why" "$dir/status.log" "SIGUSR1"
    launch $((4 - n)) a || fail "the run after that"
    same "digest" "$(digest "$dir/a.out.h5")" "$want"
done

# Rows that take longer than there is time: they are given up in time, and nothing is lost.
clear a
launch 3 a --set time_limit_s=2.2 --set time_margin_s=0.3 --set decode_batch=400 --set kv_memory_mib=256
same "rows are given up: outcome" $? 3
has "rows are given up: why" "$dir/a.log" "rows in flight are left to the next run"
launch 2 a || fail_log a "the run after that"
same "digest" "$(digest "$dir/a.out.h5")" "$want"
end
