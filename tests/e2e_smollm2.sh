#!/bin/bash
# TEST needs: smollm2 timeout: 600
# The real model from prompt file to result file: the same answers whatever the schedule and after kills,
# and answers that make sense.
EPIDOTE_MODEL=$EPIDOTE_SMOLLM2
. "$(dirname "$0")/e2e.bash"

cat >"$dir/q.jsonl" <<'Q'
{"id": "france", "prompt": "What is the capital of France?"}
{"id": "sky", "prompt": "Why is the sky blue? Answer in one sentence."}
{"id": "list", "prompt": "List three fruits."}
{"id": "water", "prompt": "At what temperature in degrees Celsius does water boil at sea level?"}
{"id": "chat", "messages": [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "What colour is grass?"}]}
{"id": "opposite", "prompt": "What is the opposite of hot?", "max_tokens": 12}
Q
check "import" "$epidote" import "$dir/q.jsonl" "$dir/q.h5"
job a "$dir/q.h5" chat=true max_tokens=40 logprobs=2
check "greedy run" run a
grep -E '^(rows|time|tokens|memory)' "$dir/a.log"
want=$(digest "$dir/a.out.h5")
"$epidote" export "$dir/a.out.h5" "$dir/a.jsonl"
cut -c1-240 "$dir/a.jsonl"
answer() { grep "\"id\": *\"$1\"" "$dir/a.jsonl" >"$dir/answer"; }
answer france; has "the capital of France" "$dir/answer" Paris
answer water; has "boiling water" "$dir/answer" 100
answer chat; has "the colour of grass" "$dir/answer" reen
answer list; check "three fruits" grep -qiE 'apple|banana|orange|mango|strawberr|grape' "$dir/answer"

for set in decode_batch=1 prefill_chunk_tok=7 kv_block_tok=32 threads=1 threads=3 order=longest; do
    clear a
    run a --set "$set" || fail_log a "run with $set"
    same "$set" "$(digest "$dir/a.out.h5")" "$want"
done

clear a
run a --set temperature=0.8 --set top_p=0.9 --set seed=5
sampled=$(digest "$dir/a.out.h5")
clear a
for ms in 900 1600 2300; do
    "$epidote" run "$dir/a.cfg" --set temperature=0.8 --set top_p=0.9 --set seed=5 \
        --set decode_batch=2 >"$dir/k.log" 2>&1 &
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    kill -9 $! 2>/dev/null
    wait $! 2>/dev/null
done
run a --set temperature=0.8 --set top_p=0.9 --set seed=5
same "sampled, after three kills" "$(digest "$dir/a.out.h5")" "$sampled"
end
