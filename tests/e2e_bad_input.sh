#!/bin/bash
# TEST
# Bad input at the command line: outcome 2 and a message that names file, place and remedy.  (The
# parsers' own tables are in unit_formats, unit_prompts, unit_job, unit_text.)
. "$(dirname "$0")/e2e.bash"

prompts rows 4
job a "$dir/rows.h5" max_tokens=4
check "the job itself is right" run a
clear a

# bad WHAT TEXT [--set ...] - run ends with outcome 2 and the log has the text.
bad() {
    local what=$1 text=$2
    shift 2
    run a "$@"
    same "$what" $? 2
    cp "$dir/a.log" "$dir/refused.log"
    has "$what" "$dir/a.log" "$text"
    check "$what: no results" test ! -e "$dir/a.out.h5"
    "$epidote" status "$dir/a.out.h5" >"$dir/status.log" 2>&1
    same "$what: status" $? 2
    clear a
}

bad "unknown option" "max_token" --set max_token=3
bad "option out of range" "temperature" --set temperature=-1
bad "option of another type" "max_tokens" --set max_tokens=many
bad "no model" "no-model.gguf" --set 'model="no-model.gguf"'
bad "no prompts" "none.h5" --set 'prompts="none.h5"'
bad "rows beyond the file" "rows" --set 'rows="2:9"'
bad "a context beyond the model's" "context" --set context=100000000
bad "a pool too small for a row" "can be 1 MiB (kv_memory_mib): set context = 512 or less, or kv_memory_mib = 2 or more" \
    --set kv_memory_mib=1 --set precision=f32
check "said once, before weights are packed" test "$(grep -c "set context" "$dir/refused.log")$(grep -c loaded "$dir/refused.log")" = 10
bad "an unknown backend" "one of cpu, cuda, auto" --set 'backend="rocm"'
bad "an unknown link" "nccl" --set 'link="nccl"'
bad "an unknown template" "nosuch" --set chat=true --set 'chat_template="nosuch"'
printf 'a\n  {%% include "b" %%}\n' >"$dir/bad.jinja"
bad "a template beyond the subset" "bad.jinja: chat template, line 2 column 6: expected if" --set chat=true --set "chat_template=\"$dir/bad.jinja\""
bad "a template that is not there" "none.jinja" --set chat=true --set 'chat_template="none.jinja"'
bad "variables that are not JSON" "chat_template_kwargs must be an object of JSON" --set chat=true --set 'chat_template_kwargs="x=1"'
bad "a date that is none" "chat_date must be a date like 2026-01-31" --set chat=true --set 'chat_date="2026-02-30"'

printf 'model = "x";\nprompts = "y";\nresults = "z";\nspeed = 3;\n' >"$dir/b.cfg"
"$epidote" run "$dir/b.cfg" >"$dir/b.log" 2>&1
same "unknown key in a job file" $? 2
has "names file and line" "$dir/b.log" "b.cfg:4"
printf 'model = "x"\nprompts = = "y";\n' >"$dir/b.cfg"
"$epidote" run "$dir/b.cfg" >"$dir/b.log" 2>&1
same "a job file that is not libconfig" $? 2
has "names file and line" "$dir/b.log" "b.cfg:2"

# Files that are something else, empty, or cut.
: >"$dir/empty"
head -c 3000 "$dir/rows.h5" >"$dir/cut.h5"
head -c 100000 /dev/urandom >"$dir/noise"
for f in empty cut.h5 noise; do
    bad "prompt file $f" "$f" --set "prompts=\"$dir/$f\""
    bad "model file $f" "$f" --set "model=\"$dir/$f\""
done
cp -r "$model" "$dir/model"
head -c 5000 "$model/model.safetensors" >"$dir/model/model.safetensors"
bad "a cut safetensors file" "model.safetensors" --set "model=\"$dir/model\""
cp "$model/model.safetensors" "$dir/model/" && echo '{' >"$dir/model/config.json"
bad "a config that is not JSON" "config.json" --set "model=\"$dir/model\""
cp "$model/config.json" "$dir/model/" && echo '{"model": 3}' >"$dir/model/tokenizer.json"
bad "a tokeniser that is none" "tokenizer.json" --set "model=\"$dir/model\""

# Rows that cannot be served are error rows; the others are served.
long=$(printf 'word %.0s' $(seq 3000))
{
    echo '{"id": "good", "prompt": "one"}'
    echo '{"id": "empty", "prompt": ""}'
    echo "{\"id\": \"long\", \"prompt\": \"$long\"}"
    echo '{"id": "hot", "prompt": "one", "temperature": -2}'
    echo '{"id": "ids", "prompt_tokens": [1, 2, 99999999]}'
    echo '{"id": "roles", "messages": [{"role": 7}]}'
    echo '{"id": "last", "prompt": "two"}'
} >"$dir/mixed.jsonl"
check "import of mixed rows" "$epidote" import "$dir/mixed.jsonl" "$dir/mixed.h5"
job mixed "$dir/mixed.h5" max_tokens=4
"$epidote" check "$dir/mixed.cfg" >"$dir/check" 2>"$dir/log" || fail "check of mixed rows"
has "check counts them before they run" "$dir/check" "5 would end as errors (1 of them beyond the context)"
run mixed
same "outcome of mixed rows" $? 1
"$epidote" export "$dir/mixed.out.h5" "$dir/mixed.out.jsonl"
row() { grep "\"id\": *\"$1\"" "$dir/mixed.out.jsonl" >"$dir/row"; }
for id in good last; do row $id; check "$id is served" grep -qv '"finish_reason": *"error"' "$dir/row"; done
row empty; has "empty" "$dir/row" "empty"
row long; has "long" "$dir/row" "context"
row hot; has "hot" "$dir/row" "temperature"
row ids; has "ids" "$dir/row" "99999999"
row roles; has "roles" "$dir/row" "role"

# Zero rows: a job that ends well.
: >"$dir/none.jsonl"
if "$epidote" import "$dir/none.jsonl" "$dir/none.h5" 2>"$dir/none.log"; then
    job none "$dir/none.h5"
    run none
    same "a job of zero rows" $? 0
    has "zero rows" "$dir/none.log" "0 in = 0 done + 0 failed"
else
    has "an empty import says so" "$dir/none.log" "none.jsonl"
fi

# The command line itself.
for args in "" "nosuch" "run" "run a b" "inspect" "inspect $dir/noise" "tokenize" "status $dir/nothing" \
    "import $dir/mixed.jsonl" "run --set"; do
    $epidote $args >"$dir/cli.log" 2>&1
    same "epidote $args" $? 2
    check "epidote $args says something" test -s "$dir/cli.log"
done
end
