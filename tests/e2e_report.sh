#!/bin/bash
# TEST
# `report`: questions, answers and how many are right, of a run on JSON lines; with pictures, a sheet; and
# what it refuses.
. "$(dirname "$0")/e2e.bash"

# The answers of a run become the right answers of the same prompts, but for one that is then wrong and one that
# is not known; a prompt that is too long is an error row.
{
    for i in 1 2 3 4 5; do echo "{\"prompt\": \"Tell me about number $i.\", \"id\": \"r$i\"}"; done
    echo "{\"prompt\": \"$(printf 'word %.0s' {1..900})\", \"id\": \"long\"}"
} >"$dir/p.jsonl"
"$epidote" import "$dir/p.jsonl" "$dir/p.h5" 2>"$dir/log" || fail "import: $(cat "$dir/log")"
job a "$dir/p.h5" max_tokens=6 context=64
run a
same "the outcome" $? 1

report() { # ARGUMENT... - output in $dir/out, log in $dir/log
    "$epidote" report "$@" >"$dir/out" 2>"$dir/log"
}
report "$dir/a.out.h5" || fail "report: $(cat "$dir/log")"
has "rows" "$dir/out" "rows 0:6 of $dir/p.h5"
has "a question" "$dir/out" "    Tell me about number 3."
has "the error row" "$dir/out" "  row 5: the prompt has "
has "nothing is judged" "$dir/out" "no column \`answer\`"

"$epidote" export "$dir/a.out.h5" >"$dir/a.jsonl" || fail "export"
sed -n 's/.*"text": *"\(\([^"\\]\|\\.\)*\)".*/\1/p' "$dir/a.jsonl" >"$dir/texts"
same "texts" "$(wc -l <"$dir/texts")" 6
sed -i -e '2s/.*/something else/' -e '3s/.*//' "$dir/texts"
paste -d '\t' "$dir/p.jsonl" "$dir/texts" |
    awk -F '\t' '{ sub(/}$/, "", $1); print $1 ", \"answer\": \"" $2 "\", \"class\": \"" (NR % 2 ? "odd" : "even") "\"}" }' >"$dir/q.jsonl"
"$epidote" import "$dir/q.jsonl" "$dir/q.h5" 2>"$dir/log" || fail "import of answers: $(cat "$dir/log")"
same "answers are no part of a job's identity" "$("$epidote" inspect --digest "$dir/q.h5")" "$("$epidote" inspect --digest "$dir/p.h5")"

report "$dir/a.out.h5" --prompts "$dir/q.h5" --rows 4 || fail "report of answers: $(cat "$dir/log")"
same "four rows" "$(grep -c '^row ' "$dir/out")" 4
words() { sed -nE "s/^$1 +//p" "$dir/out" | tr -s ' '; }
same "even: 2 is something else, 6 is too long" "$(words even)" "3 1 3 1 33.3 % 50.0 %"
same "odd: 3 is not judged" "$(words odd)" "3 0 2 2 100.0 % 50.0 %"
same "all" "$(words all | cut -d ' ' -f 1-4)" "6 1 5 3"
report "$dir/a.out.h5" --prompts "$dir/q.h5" --rows 100 || fail "report of all rows"
has "what is wrong and what would be right" "$dir/out" ", not something else    [wrong]"
same "all rows" "$(grep -c '^row ' "$dir/out")" 6

# Refused, with a reason.
refused() { # WHAT OUTCOME TEXT ARGUMENT...
    report "${@:4}"
    same "$1" $? "$2"
    has "$1" "$dir/log" "$3"
    check "$1 prints nothing" test ! -s "$dir/out"
}
prompts other 6
refused "another prompt file" 2 "its fingerprint is" "$dir/a.out.h5" --prompts "$dir/other.h5"
refused "a prompt file as results" 2 "name the result file" "$dir/p.h5"
refused "no results" 2 "No such file" "$dir/nothing.h5"
refused "no such prompts" 2 "$dir/nothing.h5: No such file" "$dir/a.out.h5" --prompts "$dir/nothing.h5"
refused "a number of rows" 2 "--rows many: a number of rows is from 0 to 1000" "$dir/a.out.h5" --rows many
refused "a sheet without pictures" 2 "no row of $dir/p.h5 has a picture" "$dir/a.out.h5" --sheet "$dir/s.png"
refused "a sheet over the results" 2 "input and output are the same file" "$dir/a.out.h5" --sheet "$dir/a.out.h5"
refused "a sheet over the prompts" 2 "is an HDF5 file and is not overwritten" "$dir/a.out.h5" --sheet "$dir/p.h5"
mv "$dir/p.h5" "$dir/moved.h5"
refused "prompts that are gone" 2 "was made of $dir/p.h5: No such file" "$dir/a.out.h5"
report "$dir/a.out.h5" --prompts "$dir/moved.h5" || fail "prompts under another name: $(cat "$dir/log")"

# Pictures, on the model and the questions that ship.
model=inputs/models/shapes-vlm
job b inputs/shapes.h5 'rows="0:40"' context=512
run b
check "the run on pictures" test $? -le 1
report "$dir/b.out.h5" --sheet "$dir/sheet.png" || fail "report of pictures: $(cat "$dir/log")"
has "pictures by number" "$dir/out" ", picture "
same "no word for the model in a question" "$(grep -cE '<image>|USER:|ASSISTANT:' "$dir/out")" 0
same "40 rows" "$(words all | cut -d ' ' -f 1)" 40
same "the sheet is a PNG" "$(head -c 8 "$dir/sheet.png" | od -An -tx1 | tr -d ' ')" 89504e470d0a1a0a
cp "$dir/sheet.png" "$dir/first.png"
report "$dir/b.out.h5" --sheet "$dir/sheet.png" || fail "report once more"
check "the same rows give the same sheet" cmp -s "$dir/sheet.png" "$dir/first.png"
end
