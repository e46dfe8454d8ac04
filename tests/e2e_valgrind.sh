#!/bin/bash
# TEST needs: slow valgrind timeout: 600
# memcheck finds nothing on two ranks: bad reads and writes, decisions on bytes that nobody wrote, memory that nobody
# frees.  What it says about MPI's own libraries is in tests/valgrind.supp, with reasons.
. "$(dirname "$0")/e2e.bash"

prompts rows 8
job a "$dir/rows.h5" max_tokens=6 context=128 threads=1 temperature=0.8 logprobs=2
run a || fail_log a "run on one rank"
want=$(digest "$dir/a.out.h5")

supp=(--suppressions=tests/valgrind.supp)
for f in /usr/share/openmpi/openmpi-valgrind.supp /usr/lib/*/openmpi/share/openmpi/openmpi-valgrind.supp; do
    [ -f "$f" ] && supp+=("--suppressions=$f")
done
for link in shm mpi; do
    clear a
    inputs/launch.sh 2 valgrind --quiet --keep-debuginfo=yes --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
        --show-leak-kinds=definite "${supp[@]}" "$epidote" run "$dir/a.cfg" --set "link=$link" >"$dir/log" 2>&1
    same "valgrind on link $link" $? 0
    grep -E '^==[0-9]+==' "$dir/log" | head -n 60
    same "digest over link $link" "$(digest "$dir/a.out.h5")" "$want"
done
end
