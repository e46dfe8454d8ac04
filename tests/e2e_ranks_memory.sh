#!/bin/bash
# TEST needs: smollm2 mpirun timeout: 300
# One copy of the weights a node: 4 ranks take at most 1.3 times the resident memory of one rank, plus
# their KV pools.  Memory is PSS, which divides what processes share among them, at its highest.
EPIDOTE_MODEL=$EPIDOTE_SMOLLM2
. "$(dirname "$0")/e2e.bash"

kv_mib=128
for i in $(seq 40); do echo "{\"prompt\": \"Tell me something about the number $i.\"}"; done >"$dir/rows.jsonl"
"$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log" || fail "import"
job a "$dir/rows.h5" max_tokens=24 ignore_eos=true context=1024 kv_memory_mib=$kv_mib

# pss_kib - of all ranks together, now.
pss_kib() {
    local pid
    for pid in $(pgrep -f "^[^ ]*epidote run $dir/"); do
        awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null
    done | awk '{ sum += $1 } END { print sum + 0 }'
}

# peak COMMAND... - $peak: MiB of all ranks together, at its highest while the command runs.
peak() {
    local now
    : >"$dir/a.log"
    clear a
    "$@" >"$dir/a.log" 2>&1 &
    local pid=$!
    peak=0
    while kill -0 $pid 2>/dev/null; do
        now=$(pss_kib)
        [ "$now" -gt "$peak" ] && peak=$now
        sleep 0.05
    done
    wait $pid || { fail "$*"; tail -n 5 "$dir/a.log" >&2; }
    peak=$((peak / 1024))
}

peak "$epidote" run "$dir/a.cfg"
one=$peak want=$(digest "$dir/a.out.h5")
peak inputs/launch.sh 4 "$epidote" run "$dir/a.cfg"
four=$peak
same "digest of 4 ranks" "$(digest "$dir/a.out.h5")" "$want"
pools=$((2 * kv_mib)) # two decode ranks
bound=$((one * 13 / 10 + pools))
grep '^rank' "$dir/a.log"
echo "1 rank: $one MiB; 4 ranks: $four MiB together; 1.3 times the one and $pools MiB of pools: $bound MiB"
n_checks=$((n_checks + 1))
[ "$four" -le "$bound" ] || fail "4 ranks take $four MiB, more than $bound"
n_checks=$((n_checks + 1))
[ "$one" -gt 200 ] || fail "1 rank takes $one MiB, which cannot be: its weights are 257"
end
