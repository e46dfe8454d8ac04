#!/bin/bash
# TEST
# sampling = "model": the job that has the model's values written out gives the same answers, a row's own values come
# first, `check` names them, and a job that sets one of them itself, or a model without any, is refused.
. "$(dirname "$0")/e2e.bash"

cp -r "$model" "$dir/model"
chmod -R u+w "$dir/model"
echo '{"do_sample": true, "temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.1, "eos_token_id": 2}' \
    >"$dir/model/generation_config.json"
model=$dir/model
cat >"$dir/rows.jsonl" <<'Q'
{"prompt": "Once upon a time"}
{"prompt": "The sea is", "temperature": 0}
{"prompt": "A small house", "top_k": 3, "seed": 9}
{"prompt": "In the morning"}
Q
check "import" "$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log"
job a "$dir/rows.h5" max_tokens=12 context=128 seed=5 logprobs=2
run a --set temperature=0.8 --set top_p=0.9 --set top_k=50 --set repetition_penalty=1.1 || fail_log a "written out"
want=$(digest "$dir/a.out.h5")
clear a
run a || fail_log a "greedy"
check "greedy differs" [ "$(digest "$dir/a.out.h5")" != "$want" ]
clear a
run a --set sampling=model || fail_log a "the model's"
same "the model's sampling" "$(digest "$dir/a.out.h5")" "$want"
"$epidote" check "$dir/a.cfg" --set sampling=model >"$dir/log" 2>&1
has "check" "$dir/log" "sampling  the model's: temperature 0.8, top_k 50, top_p 0.9, min_p 0, repetition_penalty 1.1"

run a --set sampling=model --set top_k=7
same "a contradiction ends as a wrong job" "$?" 2
has "a contradiction" "$dir/a.log" 'top_k is set, and sampling = "model" takes it from the model'
rm "$dir/model/generation_config.json"
run a --set sampling=model
same "no advice ends as a wrong job" "$?" 2
has "no advice" "$dir/a.log" "generation_config.json: not there"
end
