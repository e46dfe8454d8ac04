#!/bin/bash
# bench_ranks.sh - one job on 1, 2 and 4 ranks of the same cores, measured in one run.
#
#   tests/bench_ranks.sh [ROWS]      rows of 128 prompt tokens and 64 answer tokens; default 256
#
# The layouts share the cores, so that a ratio of 1 means that dividing the work costs nothing.  `make
# bench` runs it; not a test.  Environment: EPIDOTE, EPIDOTE_SMOLLM2 (the model; else it is skipped).
set -u
cd "$(dirname "$0")/.." || exit 2
epidote=${EPIDOTE:-build/epidote}
model=${EPIDOTE_SMOLLM2:-build/models/SmolLM2-135M-Instruct.Q4_1.gguf}
rows=${1:-256}
if [ ! -f "$model" ]; then
    echo "bench_ranks: $model is not there (make model): skipped"
    exit 0
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/epidote-bench-XXXXXX")
trap 'rm -rf "$dir"' EXIT

# SmolLM2 takes digits one by one: 128 digits are 128 tokens.
awk -v rows="$rows" 'BEGIN { srand(7)
    for (r = 0; r < rows; r++) { s = ""; for (i = 0; i < 128; i++) s = s int(rand() * 10); print s } }' >"$dir/rows.txt"
"$epidote" import --lines "$dir/rows.txt" "$dir/rows.h5" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
cat >"$dir/job.cfg" <<END
model = "$model"; prompts = "$dir/rows.h5"; results = "$dir/out.h5";
max_tokens = 64; ignore_eos = true; decode_batch = 64; progress = 0;
END

# measure NAME RANKS SET... - run the job; its lines, and rows/s in $rate.
measure() {
    local name=$1 ranks=$2 args=() s
    shift 2
    for s in "$@"; do args+=(--set "$s"); done
    rm -rf "$dir/out.h5"*
    if [ "$ranks" = 1 ]; then
        "$epidote" run "$dir/job.cfg" "${args[@]}" >"$dir/log" 2>&1
    else
        inputs/launch.sh "$ranks" "$epidote" run "$dir/job.cfg" "${args[@]}" >"$dir/log" 2>&1
    fi || { echo "bench_ranks: $name failed:"; tail -n 20 "$dir/log"; exit 1; }
    rate=$(awk -v rows="$rows" '/^time / { for (i = 2; i <= NF; i++) if ($i ~ /^run/) print rows / $(i - 2) }' "$dir/log")
    local digest
    digest=$("$epidote" inspect --digest "$dir/out.h5")
    [ "${want:=$digest}" = "$digest" ] || { echo "bench_ranks: $name gives other answers"; exit 1; }
    echo "-- $name: $rate rows/s, $(awk -v a="$rate" -v b="${base:-$rate}" 'BEGIN { printf "%.2f", a / b }') of one rank"
    grep -E '^(time|tokens|rank|hand-off)' "$dir/log" | sed 's/^/   /'
}

cores=$(nproc)
measure "1 rank, $cores threads" 1 "threads=$cores"
base=$rate
measure "2 ranks, coordinator + prefill | decode" 2 "threads=$((cores > 1 ? cores / 2 : 1))"
measure "2 ranks, the same over link mpi" 2 "threads=$((cores > 1 ? cores / 2 : 1))" 'link="mpi"'
measure "2 ranks, both prefill and decode" 2 "threads=$((cores > 1 ? cores / 2 : 1))" groups.prefill=2 groups.decode=2
measure "4 ranks, coordinator | prefill | decode | decode" 4 "threads=$((cores > 2 ? cores / 3 : 1))"
