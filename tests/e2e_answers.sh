#!/bin/bash
# TEST
# Right answers, end to end: the small model counts, copies, sorts, adds and knows capitals, so its
# greedy answers to inputs/tiny.jsonl can be compared with what each row expects.  An independent
# implementation gets 180 of 183 (inputs/models/tiny-llama/README.md); bf16 rounding may cost a few.
. "$(dirname "$0")/e2e.bash"

prompts rows
job a "$dir/rows.h5" chat=true max_tokens=160
check "run" run a
check "export" "$epidote" export "$dir/a.out.h5" "$dir/a.jsonl" 2>"$dir/export.log"

# id <tab> answer; neither holds a quote where there is something to expect
sed -nE 's/^\{"id": "([^"]*)".*"expect": "([^"]*)"\}$/\1\t\2/p' "$dir/rows.jsonl" | sort >"$dir/want"
sed -nE 's/.*"id": ?"([^"]*)".*"text": ?"([^"\\]*)".*/\1\t\2/p' "$dir/a.jsonl" | sort >"$dir/got"
n=$(wc -l <"$dir/want")
n_right=$(comm -12 "$dir/want" "$dir/got" | wc -l)
echo "right answers: $n_right of $n"
join -t "$(printf '\t')" "$dir/want" "$dir/got" | awk -F'\t' '$2 != $3 { print "  " $1 ": wants \"" $2 "\", got \"" $3 "\"" }'
same "rows that expect an answer" "$n" 183
check "at least 176 right answers" [ "$n_right" -ge 176 ]

# every answer of this model ends by itself
n_stop=$(grep -c '"finish_reason": *"stop"' "$dir/a.jsonl")
check "at least 195 of 200 answers end by themselves ($n_stop)" [ "$n_stop" -ge 195 ]
end
