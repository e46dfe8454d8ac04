#!/bin/bash
# TEST needs: smollm2 timeout: 600
# The real model with its weights as they are in the file: the digest of bf16 in less memory.  What is resident beside
# the file is what is resident beside bf16 weights, too.
EPIDOTE_MODEL=$EPIDOTE_SMOLLM2
. "$(dirname "$0")/e2e.bash"

check "import" "$epidote" import inputs/demo.jsonl "$dir/q.h5"
job a "$dir/q.h5" chat=true max_tokens=24 context=1024 kv_memory_mib=64
peak() { sed -n 's/^memory *\([0-9]*\) MiB.*/\1/p' "$dir/a.log"; }

run a || fail_log a "run with bf16"
want=$(digest "$dir/a.out.h5")
packed=$(peak)
weights=$(sed -n 's/.*loaded in .*: weights \([0-9]*\) MiB.*/\1/p' "$dir/a.log")
clear a
run a --set precision=stored || fail_log a "run with stored"
same "digest of stored" "$(digest "$dir/a.out.h5")" "$want"
stored=$(peak)
grep -E '^(time|tokens|memory)' "$dir/a.log"
file=$(($(stat -L -c %s "$model") / 1048576))
echo "peak resident: $packed MiB with $weights MiB of bf16 weights, $stored MiB with those of a file of $file MiB"
n_checks=$((n_checks + 1))
[ $((stored - file * 11 / 10)) -le $((packed - weights)) ] || fail "stored weights take more than 1.1 times the file"
clear a
launch 3 a --set precision=stored || fail_log a "three ranks with stored"
same "digest of stored on three ranks" "$(digest "$dir/a.out.h5")" "$want"
end
