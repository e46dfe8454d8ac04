#!/bin/bash
# TEST needs: smollm2 mpirun timeout: 120
# An idle rank does not burn a core: while prefill is at work, the coordinator and the decode ranks of 4
# take at most 3 % of a core each, by the kernel's count over 3 s.
EPIDOTE_MODEL=$EPIDOTE_SMOLLM2
. "$(dirname "$0")/e2e.bash"

# Prompts of some 3,000 tokens: minutes of prefill, two answer tokens each.
for i in $(seq 40); do echo "{\"prompt\": \"$(seq -s ' ' "$i" $((i + 900)))\"}"; done >"$dir/rows.jsonl"
"$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log" || fail "import"
job a "$dir/rows.h5" max_tokens=2 context=8192

ticks_per_s=$(getconf CLK_TCK)
ticks() { # PID - user and system time so far
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f12,13 | { read -r user system; echo $((user + system)); }
}

: >"$dir/a.log"
EPIDOTE_LOG=debug inputs/launch.sh 4 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1 &
pid=$!
for ((i = 0; i < 600; i++)); do
    grep -q 'row 0 done$' "$dir/a.log" && break
    sleep 0.1
done
ranks_there >"$dir/ranks"
same "ranks at work" "$(wc -l <"$dir/ranks")" 4
while read -r rank p; do echo "$rank $p $(ticks "$p")"; done <"$dir/ranks" >"$dir/before"
sleep 3
while read -r rank p before; do
    share=$(awk -v n=$(($(ticks "$p") - before)) -v hz="$ticks_per_s" 'BEGIN { printf "%.1f", 100 * n / hz / 3 }')
    echo "rank $rank: $share % of a core"
    if [ "$rank" = 1 ]; then
        check "rank 1, which has the prompts, works ($share %)" awk -v s="$share" 'BEGIN { exit !(s > 10) }'
    else
        check "rank $rank is idle and takes $share % of a core, not at most 3" awk -v s="$share" 'BEGIN { exit !(s <= 3) }'
    fi
done <"$dir/before"
kill "$pid"
wait "$pid" 2>/dev/null
gone_in 3 || fail "ranks are left"
end
