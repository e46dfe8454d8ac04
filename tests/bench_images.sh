#!/bin/bash
# bench_images.sh - one job with images on 1 and 4 ranks of the same cores, with no image used twice and
# with four uses of five served from what is there, measured in one run.
#
#   tests/bench_images.sh [ROWS]     default 300
#
# `make bench` runs it; not a test.  Environment: EPIDOTE, EPIDOTE_BENCH_VISION (bench_vision, which makes
# the pictures).
set -u
cd "$(dirname "$0")/.." || exit 2
epidote=${EPIDOTE:-build/epidote}
rows=${1:-300}
dir=$(mktemp -d "${TMPDIR:-/tmp}/epidote-bench-XXXXXX")
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/pictures"
"${EPIDOTE_BENCH_VISION:-build/release/tests/bench_vision}" --pictures "$rows" "$dir/pictures" || exit 1

# make_rows NAME DISTINCT - a prompt file of $rows rows over so many pictures.
make_rows() {
    awk -v rows="$rows" -v n="$2" 'BEGIN { for (r = 0; r < rows; r++)
        printf "{\"prompt\": \"USER: <image>\\nHow many red circles are there? ASSISTANT:\", \"images\": [\"pictures/%d.png\"]}\n", r % n }' >"$dir/$1.jsonl"
    "$epidote" import "$dir/$1.jsonl" "$dir/$1.h5" 2>"$dir/log" || { cat "$dir/log"; exit 1; }
}
make_rows none "$rows"
make_rows reuse $((rows / 5))

# measure WHAT FILE RANKS SET... - run it; its lines, and rows/s in $rate.
measure() {
    local what=$1 file=$2 ranks=$3 args=() s
    shift 3
    for s in "$@"; do args+=(--set "$s"); done
    cat >"$dir/job.cfg" <<END
model = "inputs/models/shapes-vlm"; prompts = "$dir/$file.h5"; results = "$dir/$file.out.h5";
max_tokens = 4; ignore_eos = true; progress = 0;
END
    rm -rf "$dir/$file.out.h5"*
    if [ "$ranks" = 1 ]; then
        "$epidote" run "$dir/job.cfg" "${args[@]}" >"$dir/log" 2>&1
    else
        inputs/launch.sh "$ranks" "$epidote" run "$dir/job.cfg" "${args[@]}" >"$dir/log" 2>&1
    fi || { echo "bench_images: $what failed:"; tail -n 20 "$dir/log"; exit 1; }
    rate=$(awk -v rows="$rows" '/^time / { for (i = 2; i <= NF; i++) if ($i ~ /^run/) print rows / $(i - 2) }' "$dir/log")
    echo "-- $what: $rate rows/s, $(awk -v a="$rate" -v b="${base:-$rate}" 'BEGIN { printf "%.2f", a / b }') of no reuse on as many ranks"
    grep -A1 -E '^images' "$dir/log" | sed 's/^/   /'
}

for ranks in 1 4; do
    base=''
    measure "$ranks rank(s), no image used twice" none "$ranks" threads=1
    base=$rate
    measure "$ranks rank(s), 80 % of the uses are of an image that was used before" reuse "$ranks" threads=1
done
