#!/bin/bash
# TEST
# Two ranks of two threads over each link that can join them: the digest of one rank.  Short, because the thread
# sanitizer runs it too (make tsan).
. "$(dirname "$0")/e2e.bash"

prompts rows 12
job a "$dir/rows.h5" max_tokens=8 context=128 threads=2 temperature=0.8 logprobs=2
run a || fail_log a "run on one rank"
want=$(digest "$dir/a.out.h5")
for link in shm mpi; do
    clear a
    inputs/launch.sh 2 "$epidote" run "$dir/a.cfg" --set "link=$link" >"$dir/log" 2>&1 ||
        { fail "link $link"; tail -n 40 "$dir/log" >&2; }
    same "digest over link $link" "$(digest "$dir/a.out.h5")" "$want"
done
end
