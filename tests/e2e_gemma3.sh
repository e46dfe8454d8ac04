#!/bin/bash
# TEST needs: gemma3 mpirun timeout: 600
# Gemma 3 270M (Q4_K_M): completions that make sense, and the same ones with the weights as they are
# stored, on three ranks, and by other schedules.  It is a base model: prompts are texts to go on with.
EPIDOTE_MODEL=$EPIDOTE_GEMMA3
. "$(dirname "$0")/e2e.bash"

cat >"$dir/q.jsonl" <<'Q'
{"id": "france", "prompt": "The capital of France is the city of"}
{"id": "water", "prompt": "Water freezes at 0 degrees Celsius and boils at"}
{"id": "count", "prompt": "one, two, three, four, five, six,"}
{"id": "week", "prompt": "Monday, Tuesday, Wednesday, Thursday,"}
{"id": "german", "prompt": "English: Good morning. German: Guten"}
{"id": "long", "prompt": "Here is a list of the numbers: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40"}
Q
for i in $(seq 6); do # longer than the window of the local layers
    echo "{\"id\": \"window$i\", \"prompt\": \"$(seq -s ' ' "$i" $((i + 260)))\", \"max_tokens\": 8}"
done >>"$dir/q.jsonl"
check "import" "$epidote" import "$dir/q.jsonl" "$dir/q.h5"
job a "$dir/q.h5" max_tokens=12 context=2048 logprobs=1
check "greedy run" run a
grep -E '^(rows|time|tokens|memory)' "$dir/a.log"
want=$(digest "$dir/a.out.h5")
"$epidote" export "$dir/a.out.h5" "$dir/a.jsonl"
cut -c1-160 "$dir/a.jsonl"
answer() { grep "\"id\": *\"$1\"" "$dir/a.jsonl" >"$dir/answer"; }
answer france; has "the capital of France" "$dir/answer" Paris
answer water; has "boiling water" "$dir/answer" 100
answer count; has "counting" "$dir/answer" seven
answer week; has "days of the week" "$dir/answer" Friday
answer german; check "good morning, or day" grep -qE "Morgen|Tag" "$dir/answer"
answer long; has "counting on" "$dir/answer" "41 42"
answer window1; has "counting beyond the window" "$dir/answer" "262 263"

for set in decode_batch=1 prefill_chunk_tok=333 kv_block_tok=64 threads=1; do
    clear a
    run a --set "$set" || fail_log a "run with $set"
    same "$set" "$(digest "$dir/a.out.h5")" "$want"
done
clear a
launch 3 a --set 'link="mpi"' || fail_log a "3 ranks"
same "3 ranks" "$(digest "$dir/a.out.h5")" "$want"
clear a
run a --set 'precision="stored"' || fail_log a "weights as stored"
grep -E '^(time|memory)' "$dir/a.log"
same "weights as stored" "$(digest "$dir/a.out.h5")" "$want"
end
