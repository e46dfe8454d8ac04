#!/bin/bash
# TEST
# A prompt file served in parts, `rows = "i/n"`, each a job of its own: `epidote merge` joins their results
# to the digest of one job.  What does not belong together is refused, and OUT is not touched.
. "$(dirname "$0")/e2e.bash"

# 41 rows with ids; the last part of 41 is a row that cannot be served, and has no logprobs.
{
    head -n 40 inputs/tiny.jsonl | sed 's/"id": *"/&é /'
    echo '{"prompt": "x", "max_tokens": 0, "id": "last"}'
} >"$dir/rows.jsonl"
"$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log" || { cat "$dir/import.log" >&2; fail "import"; end; }
job a "$dir/rows.h5" max_tokens=6 temperature=0.9 seed=4 logprobs=2 context=256 threads=1
run a
same "one job: outcome" $? 1
want=$(digest "$dir/a.out.h5")

# part I N [SET...] - serve part I of N into $dir/part-I-N.h5.
part() {
    local i=$1 n=$2
    shift 2
    run a --set "rows=$i/$n" --set "results=$dir/part-$i-$n.h5" "$@"
}
merge() {
    "$epidote" merge "$@" >"$dir/merge.log" 2>&1
}

for n in 1 4 41; do
    parts=()
    for ((i = n; i >= 1; i--)); do
        part $i $n
        outcome=$?
        [ $outcome -le 1 ] || fail "part $i of $n: outcome $outcome"
        parts+=("$dir/part-$i-$n.h5")
    done
    merge "$dir/all-$n.h5" "${parts[@]}"
    same "$n parts: outcome, with a row that failed" $? 1
    same "$n parts: digest" "$(digest "$dir/all-$n.h5")" "$want"
done
has "what was joined" "$dir/merge.log" "rows 0:41 of 41 parts, 1 of them failed"
"$epidote" export "$dir/a.out.h5" "$dir/a.jsonl" && "$epidote" export "$dir/all-4.h5" "$dir/b.jsonl"
same "rows, ids and all" "$(sed 's/"timing":.*//' "$dir/b.jsonl" | md5sum)" "$(sed 's/"timing":.*//' "$dir/a.jsonl" | md5sum)"
check "with their ids" grep -q '"id":"é ' "$dir/b.jsonl"

parts=("$dir"/part-{1,2,3,4}-4.h5)
merge "$dir/all-4.h5" "${parts[@]}"
same "once more: nothing to do" $? 1
merge "$dir/new.h5" "${parts[@]:1}"
same "rows at the end of the file alone" $? 1
has "which are told" "$dir/merge.log" "rows 11:41"

# wrong WHAT TEXT ARG... - refused, with the reason; nothing is left or changed.
wrong() {
    local what=$1 text=$2
    shift 2
    merge "$@"
    same "$what: outcome" $? 2
    has "$what: why" "$dir/merge.log" "$text"
    same "$what: nothing is left" "$(ls "$dir" | grep -c 'tmp$')" 0
}
wrong "a gap" "rows 11:21 are in none of the parts" "$dir/x.h5" "${parts[0]}" "${parts[2]}"
wrong "a part twice" "have rows in common" "$dir/x.h5" "${parts[@]}" "${parts[1]}"
part 2 4 --set seed=5 --set "results=$dir/other.h5"
wrong "another job" "(seed: ours 5, theirs 4)" "$dir/x.h5" "${parts[0]}" "$dir/other.h5"
wrong "OUT is a part" "same file" "${parts[0]}" "${parts[@]}"
wrong "OUT is something else" "holds something else" "$dir/all-4.h5" "${parts[@]:1}"
wrong "no result file" "this is a prompt file" "$dir/x.h5" "$dir/rows.h5"
wrong "a part is not there" "No such file" "$dir/x.h5" "${parts[0]}" "$dir/none.h5"
wrong "no part" "argument is missing" "$dir/x.h5"
check "no OUT was made" [ ! -e "$dir/x.h5" ]
same "and none was changed" "$(digest "$dir/all-4.h5")" "$want"

run a --set rows=43/50 --set "results=$dir/none.h5"
same "more parts than rows: outcome" $? 2
has "more parts than rows: why" "$dir/a.log" "this part has none of them"
end
