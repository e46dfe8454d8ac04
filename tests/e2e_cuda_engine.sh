#!/bin/bash
# TEST timeout: 240
# Whole runs on the CUDA engine, over the emulated device (tests/emulator/): the CPU's tokens
# wherever the CPU is sure, the host sampler's, one digest whatever the schedule and after a kill, results that are not
# the CPU's to go on with, what is refused by name.
#   EPIDOTE_CUDA=beside    over the library beside the program and the device that it finds (tests/gpu/gpu_check.sh)
. "$(dirname "$0")/e2e.bash"

if [ "${EPIDOTE_CUDA:-}" != beside ]; then
    emulated=${EPIDOTE_OUT:-build/release}/tests/libepidote_cuda.so
    [ -f "$emulated" ] || { echo "$emulated is not there: make $emulated"; exit 77; }
    mkdir "$dir/bin"
    cp "$epidote" "$emulated" "$dir/bin/"
    epidote=$dir/bin/epidote
fi

# One prompt is longer than a block, a chunk and a split of the attention.
head -n 11 inputs/tiny.jsonl >"$dir/rows.jsonl"
echo "{\"prompt\": \"$(seq -s ' ' 100 3 301) end\"}" >>"$dir/rows.jsonl"
"$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log" || fail "import"

# ---- the CPU's tokens ---------------------------------------------------------------------------

# compare CPU CUDA - rows of both, as "tokens|cpu's two best of each": they part only where the CPU's best
# two are nearer to each other than MARGIN.
MARGIN=0.05
compare() {
    paste -d '|' "$1" "$2" | awk -F '|' -v margin=$MARGIN '
    {
        n = split($1, cpu, ","); m = split($3, cuda, ","); split($2, best, ",")
        for (i = 1; i <= n && cpu[i] == cuda[i]; i++) n_same++
        if (i <= n || n != m) {
            gap = best[4 * i - 2] - best[4 * i]
            if (i > n || i > m || gap > margin) { printf "row %d, token %d: margin %g\n", NR - 1, i, gap; bad++ }
        }
    }
    END { print n_same " tokens alike" > "/dev/stderr"; exit bad > 0 || n_same < 100 }'
}
tokens() { # FILE - "tokens|id,logprob,id,logprob,..." of each row
    "$epidote" export "$1" - 2>/dev/null |
        sed -E 's/.*"tokens":\[([^]]*)\].*"top_logprobs":(\[.*\]\]\]).*/\1|\2/; s/[][]//g'
}

job a "$dir/rows.h5" max_tokens=12 logprobs=2
run a
same "the CPU" $? 0
tokens "$dir/a.out.h5" >"$dir/cpu"
run a --set 'backend="cuda"'
same "results of the CPU, the same job on a GPU" $? 2
numerics=$(sed -nE 's,.*numerics: ours ([a-z0-9-]+/[0-9]+)\, theirs bf16chain/1.*,\1,p' "$dir/a.log")
check "says what differs" test -n "$numerics"
clear a
run a --set 'backend="cuda"'
same "a GPU" $? 0
device=$(sed -nE 's/.*computing on (.*, sm_[0-9]+, [0-9]+ GiB).*/\1/p' "$dir/a.log" | head -n 1)
check "which device" test -n "$device"
echo "on $device, $numerics"
tokens "$dir/a.out.h5" >"$dir/cuda"
same "rows that were compared" "$(wc -l <"$dir/cuda")" 12
check "the CPU's tokens wherever it is sure" compare "$dir/cpu" "$dir/cuda"
"$epidote" inspect "$dir/a.out.h5" >"$dir/inspect"
has "numerics in the results" "$dir/inspect" "$numerics"
clear a
run a --set 'backend="auto"'
same "auto with a device" $? 0
has "auto takes it" "$dir/a.log" "computing on $device"
clear a

# ---- whatever the schedule ----------------------------------------------------------------------

job b "$dir/rows.h5" max_tokens=12 temperature=0.8 top_k=50 repetition_penalty=1.1 seed=11 'backend="cuda"'
variant() { # SET... - the digest of a run with these settings
    local args=() kv
    for kv in "$@"; do args+=(--set "$kv"); done
    clear b
    run b "${args[@]}" || { fail "run with $*"; tail -n 5 "$dir/b.log" >&2; }
    digest "$dir/b.out.h5"
}
want=$(variant threads=1)
echo "digest $want"
same "digest of small steps" "$(variant prefill_chunk_tok=7 decode_batch=1)" "$want"
same "digest of odd chunks" "$(variant prefill_chunk_tok=65 kv_block_tok=32)" "$want"
same "digest of little memory" "$(variant kv_memory_mib=17 decode_batch=5 kv_block_tok=64)" "$want"
same "digest of another order" "$(variant threads=3 order=longest)" "$want"

# ---- tokens picked on the device ----------------------------------------------------------------

# With log-probabilities the host samples (tests/unit_engine_cuda.c counts who does).
picked() { # SET... - the tokens of each row
    local args=() kv
    for kv in "$@"; do args+=(--set "$kv"); done
    clear c
    run c "${args[@]}" || { fail "run with $*"; tail -n 5 "$dir/c.log" >&2; }
    "$epidote" export "$dir/c.out.h5" - 2>/dev/null | sed -E 's/.*"tokens":\[([^]]*)\].*/\1/'
}
job c "$dir/rows.h5" max_tokens=12 temperature=0.8 top_k=50 top_p=0.95 min_p=0.01 seed=11 'backend="cuda"'
there=$(picked decode_batch=12)
same "rows that were picked" "$(grep -cE '^[0-9]+,[0-9,]+$' <<<"$there")" 12
same "tokens picked in small steps" "$(picked prefill_chunk_tok=7 decode_batch=2)" "$there"
same "tokens that the host picks" "$(picked logprobs=0)" "$there"

# ---- after a kill -------------------------------------------------------------------------------

clear b
mkfifo "$dir/live" # a device does the rest in milliseconds: nothing may sleep until the kill
EPIDOTE_LOG=debug "$epidote" run "$dir/b.cfg" --set decode_batch=1 >"$dir/live" 2>&1 &
pid=$!
exec 3<"$dir/live"
n_done=0
while [ $n_done -lt 4 ] && read -r -t 60 line <&3; do
    [[ $line =~ \ row\ [0-9]+\ done$ ]] && n_done=$((n_done + 1))
done
kill -9 $pid
exec 3<&-
wait $pid 2>/dev/null
run b --set 'backend="cpu"'
same "a CPU going on with it" $? 2
run b
same "the same command again" $? 0
check "rows were kept" grep -qE 'attempts  2, [1-9][0-9]* rows found done' "$dir/b.log"
same "digest after a kill" "$(digest "$dir/b.out.h5")" "$want"

# ---- a device that fails ------------------------------------------------------------------------

case $numerics in emulated-*)
    clear b
    EMULATED_FAIL=40 run b
    same "a device that fails in a step" $? 4
    has "says so" "$dir/b.log" "the GPU ($device) failed at a step of"
    has "says how" "$dir/b.log" "an illegal memory access was encountered"
    run b
    same "the same command again" $? 0
    same "digest after a failure" "$(digest "$dir/b.out.h5")" "$want"
    ;;
esac

# ---- what is refused ----------------------------------------------------------------------------

refused() { # WHAT OUTCOME TEXT SET...
    local what=$1 outcome=$2 text=$3 args=() kv
    shift 3
    for kv in "$@"; do args+=(--set "$kv"); done
    clear b
    run b "${args[@]}"
    same "$what" $? "$outcome"
    has "$what" "$dir/b.log" "$text"
}
refused "f32" 2 'backend = "cuda" computes with precision = "bf16" only, yet: use backend = "cpu"' 'precision="f32"'
refused "another link" 2 'has no link "mpi" yet: use backend = "cpu"' 'link="mpi"'
refused "images" 2 'does not take images yet: use backend = "cpu"' 'prompts="inputs/shapes.h5"' 'model="inputs/models/shapes-vlm"'
refused "more memory than there is" 4 "1500000 MiB of GPU memory for KV blocks: out of memory" kv_memory_mib=1500000
has "what would help" "$dir/b.log" "lower kv_memory_mib, decode_batch or context"
clear b
run b --set 'backend="auto"' --set 'precision="f32"'
same "auto with f32" $? 0
has "auto says why" "$dir/b.log" "backend auto takes cpu: there is a GPU ($device"
"$epidote" check "$dir/b.cfg" --ranks 2 >"$dir/check.log" 2>&1
same "two ranks" $? 2
has "two ranks" "$dir/check.log" "runs on one rank yet, not on 2: use backend = \"cpu\""
end
