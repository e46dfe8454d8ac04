#!/bin/bash
# TEST
# precision = "stored", weights as they are in the file: the digest of bf16 for every type of a GGUF file, whatever
# the schedule and on several ranks, and `check` says so.
EPIDOTE_MODEL=tests/golden/kquant/kquant.gguf
. "$(dirname "$0")/e2e.bash"

prompts rows 10
job a "$dir/rows.h5" max_tokens=10 context=256 temperature=0.7 logprobs=3 seed=3
run a || fail_log a "run with bf16"
want=$(digest "$dir/a.out.h5")
same "bf16 is not f32" "$(clear a; run a --set precision=f32; [ "$(digest "$dir/a.out.h5")" != "$want" ] && echo differs)" differs
stored() { # WHAT COMMAND... - a run with stored weights
    local what=$1
    shift
    clear a
    "$@" --set precision=stored || { fail "run: $what"; tail -n 5 "$dir/a.log" >&2; }
    same "$what" "$(digest "$dir/a.out.h5")" "$want"
}
stored "one rank" run a
has "the log" "$dir/a.log" "weights 0 MiB as stored"
stored "rows one by one" run a --set decode_batch=1 --set prefill_chunk_tok=7
stored "plain" run a --set instructions=plain --set threads=1
stored "three ranks" launch 3 a
stored "two ranks, link mpi" launch 2 a --set link=mpi

clear a
"$epidote" check "$dir/a.cfg" --set precision=stored >"$dir/check" 2>&1 || fail "check"
has "check" "$dir/check" "MiB, as stored in the file, KV"
has "check" "$dir/check" 'precision = "stored"'
end
