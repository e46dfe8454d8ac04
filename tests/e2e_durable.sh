#!/bin/bash
# TEST timeout: 240
# What may happen to files while a job runs, and between two runs: each ends with a message that names
# file and remedy, and nothing that was finished is lost.
. "$(dirname "$0")/e2e.bash"

prompts rows 80
job a "$dir/rows.h5" max_tokens=200 ignore_eos=true threads=1 decode_batch=2
check "undisturbed run" run a
want=$(digest "$dir/a.out.h5")

# start NAME [--set ...] - run in the background until some rows are in the log, then stop it there; $pid.
# `kill -CONT $pid` lets it go on.  On a busy machine it may be over before this script has a turn: again then.
start() {
    local name=$1 turn
    shift
    for turn in 1 2 3 4 5 6 7 8; do
        EPIDOTE_LOG=debug "$epidote" run "$dir/$name.cfg" "$@" >"$dir/$name.log" 2>&1 &
        pid=$!
        for _ in $(seq 3000); do
            [ "$(grep -c 'row [0-9]* done$' "$dir/$name.log")" -ge 9 ] && break
            sleep 0.01
        done
        kill -STOP $pid 2>/dev/null && [ ! -e "$dir/$name.out.h5" ] && [ ! -e "$dir/$name.out.h5.tmp" ] && return
        kill -CONT $pid 2>/dev/null
        wait $pid
        clear "$name"
    done
    fail "a run could not be stopped in its middle"
}

# Done already: the same command changes nothing.
before=$(stat -c '%Y %s %i' "$dir/a.out.h5")
check "a finished job run again" run a
same "the result file is the same one" "$(stat -c '%Y %s %i' "$dir/a.out.h5")" "$before"

# Another option, another model or another prompt file on the same results: refused, naming it.
run a --set temperature=0.5
same "another temperature" $? 2
has "names the option" "$dir/a.log" temperature
run a --set threads=2
same "threads do not matter" $? 0
prompts other 10
run a --set "prompts=\"$dir/other.h5\""
same "another prompt file" $? 2
has "names prompts" "$dir/a.log" prompts
same "refusals change nothing" "$(digest "$dir/a.out.h5")" "$want"

# The same against logs of a run that was broken off.
clear a
start a
kill -9 $pid; wait $pid 2>/dev/null
"$epidote" status "$dir/a.out.h5" >"$dir/status.log"
same "status of a killed run" $? 3
run a --set seed=99
same "another seed on the logs" $? 2
has "names seed" "$dir/a.log" seed
"$epidote" export --partial "$dir/a.out.h5" "$dir/partial.jsonl" 2>"$dir/x.log" || fail "export --partial"
n=$(wc -l <"$dir/partial.jsonl")
check "finished rows can be taken out of a broken run ($n)" test "$n" -ge 5
run a
same "digest after it" "$(digest "$dir/a.out.h5")" "$want"

# A torn record: cut the log anywhere.
clear a
start a
kill -9 $pid; wait $pid 2>/dev/null
log=$(ls "$dir"/a.out.h5.parts/*.log | head -1)
truncate -s -5 "$log"
check "run after a torn record" run a
same "digest after a torn record" "$(digest "$dir/a.out.h5")" "$want"

# Two jobs on one result file: the second is refused and says who has it.
clear a
start a
"$epidote" run "$dir/a.cfg" >"$dir/second.log" 2>&1
same "the second job" $? 2
has "names the owner's pid" "$dir/second.log" "$pid"
has "names the owner's host" "$dir/second.log" "$(hostname)"
"$epidote" status "$dir/a.out.h5" >"$dir/status.log" 2>&1
has "status while it runs" "$dir/status.log" running
kill -CONT $pid
wait $pid
same "the first job" $? 0
same "digest of the first job" "$(digest "$dir/a.out.h5")" "$want"

# A dead owner's lock is taken over (its file stays after kill -9).
clear a
start a
kill -9 $pid; wait $pid 2>/dev/null
check "the lock file is still there" test -e "$dir/a.out.h5.lock"
check "it is taken over" run a
same "digest after taking over" "$(digest "$dir/a.out.h5")" "$want"

# The prompt file vanishes while rows are still to be read (it stays open, so it may also go on).
clear a
start a
mv "$dir/rows.h5" "$dir/rows.away"
kill -CONT $pid
wait $pid
rc=$?
mv "$dir/rows.away" "$dir/rows.h5"
[ $rc = 0 ] || { same "outcome when the prompt file vanished" $rc 4; has "names it" "$dir/a.log" rows.h5; }
check "and then on" run a
same "digest after it vanished" "$(digest "$dir/a.out.h5")" "$want"
run a --set "prompts=\"$dir/not-there.h5\"" --set "results=\"$dir/b.out.h5\""
same "no prompt file" $? 2
has "names it" "$dir/a.log" not-there.h5

# A full disk: a file size limit of 12 KiB stops the log; with room the same command goes on.
clear a
(ulimit -f 12; run a)
same "outcome of a full disk" $? 4
has "says what to do" "$dir/a.log" "same command"
kept=$("$epidote" export --partial "$dir/a.out.h5" - 2>/dev/null | wc -l)
check "rows that fitted are kept ($kept)" test "$kept" -gt 0
check "with room" run a
same "digest after a full disk" "$(digest "$dir/a.out.h5")" "$want"
if mkdir "$dir/small" && mount -t tmpfs -o size=24k tmpfs "$dir/small" 2>/dev/null; then
    run a --set "results=\"$dir/small/out.h5\""
    same "outcome of a really full disk" $? 4
    has "says so" "$dir/a.log" "No space left"
    mount -o remount,size=8m "$dir/small"
    check "with room" run a --set "results=\"$dir/small/out.h5\""
    same "digest" "$(digest "$dir/small/out.h5")" "$want"
    umount "$dir/small"
else
    echo "no right to mount a tmpfs: the size limit alone stands for a full disk"
fi

# A directory that cannot be written, or is not there.
run a --set "results=\"$dir/no/such/out.h5\""
same "no directory" $? 2
has "names it" "$dir/a.log" "no/such"
run a --set 'results="/proc/out.h5"'
same "a directory that cannot be written" $? 2
has "names it" "$dir/a.log" "/proc/out.h5"

# Error rows: outcome 1; retry_errors takes them up again; max_errors stops.
{ head -n 5 "$dir/rows.jsonl"; printf '%s\n' '{"prompt": ""}' '{"prompt": "x", "max_tokens": 0}'; } >"$dir/e.jsonl"
"$epidote" import "$dir/e.jsonl" "$dir/e.h5" 2>/dev/null || fail "import"
job e "$dir/e.h5" max_tokens=8
run e
same "outcome with error rows" $? 1
has "rows in = done + failed" "$dir/e.log" "7 in = 5 done + 2 failed"
run e --set retry_errors=true
same "error rows that stay errors" $? 1
clear e
run e --set max_errors=1
same "more errors than max_errors" $? 2
has "names max_errors" "$dir/e.log" max_errors
clear e
run e --set max_errors=0
same "an error where none may be" $? 2
"$epidote" export --partial "$dir/e.out.h5" "$dir/e.out.jsonl" 2>"$dir/e.export.log"
has "the reason that the message tells to look for" "$dir/e.out.jsonl" "prompt is empty"
run e --set max_errors=1
same "the errors of all attempts count" $? 2
has "how many there were" "$dir/e.log" "2 rows ended as errors"
end
