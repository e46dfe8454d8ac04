#!/bin/bash
# TEST timeout: 240
# The same answer whatever the schedule: equal digests along every axis, one at a time, sampling on.
# E2E_COMBOS=40 adds that many seeded random combinations (tests/e2e_combos.sh does).
. "$(dirname "$0")/e2e.bash"

# Beside the short rows some that are cut by every chunk, fill several blocks and tiles of attention,
# and do not share a length.
head -n "${E2E_ROWS:-60}" inputs/tiny.jsonl >"$dir/rows.jsonl"
for n in 40 97 230 420; do
    echo "{\"prompt\": \"$(seq -s ' ' "$n" 3 "$((n * 2))") end\"}" >>"$dir/rows.jsonl"
done
"$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log" || fail "import"
job a "$dir/rows.h5" temperature=0.8 top_k=50 top_p=0.95 repetition_penalty=1.1 logprobs=3 \
    seed=11 max_tokens=24 'precision="bf16"'

variant() { # SET... - the digest of a run with these settings
    local args=() kv
    for kv in "$@"; do args+=(--set "$kv"); done
    clear a
    run a "${args[@]}" || { fail "run with $*"; tail -n 5 "$dir/a.log" >&2; }
    digest "$dir/a.out.h5"
}

"$epidote" check "$dir/a.cfg" >"$dir/check" 2>/dev/null
longest=$(sed -n 's/^rows .* longest \([0-9]*\) .*/\1/p' "$dir/check")
echo "longest prompt: $longest tokens"
check "a prompt is longer than any chunk" test "${longest:-0}" -gt 512
has "and none is too long" "$dir/check" " 0 would end as errors"

instructions=plain
for i in avx2 avx512 avx512bf16; do
    "$epidote" check "$dir/a.cfg" --set "instructions=$i" >/dev/null 2>&1 && instructions="$instructions $i"
done
echo "instruction sets here: $instructions"

want=$(variant)
echo "digest $want"
same "a digest is 16 hexadecimal digits" "$(grep -cE '(^| )[0-9a-f]{16}( |$)' <<<"$want")" 1
same "another seed gives another digest" "$([ "$(variant seed=12)" != "$want" ] && echo differs)" differs

axis() { # KEY VALUE...
    local key=$1 v
    shift
    for v in "$@"; do same "$key = $v" "$(variant "$key=$v")" "$want"; done
}
if [ "${E2E_COMBOS:-0}" = 0 ]; then
    axis decode_batch 1 3 16 64
    axis prefill_chunk_tok 1 7 64 333 512
    axis threads 1 2 3
    axis kv_block_tok 16 32
    axis instructions $instructions
    axis order input longest
    axis kv_memory_mib 8
    same "no logprobs of another kind: f32 differs from bf16" \
        "$([ "$(variant precision=f32)" != "$want" ] && echo differs)" differs
    # Three shards of rows, each row with its global number: the same rows' text as in the whole.
    clear a
    run a
    answers() { "$epidote" export "$dir/a.out.h5" - 2>/dev/null | sed 's/,"timing":{[^}]*}//'; }
    answers >"$dir/whole.jsonl"
    n=$(wc -l <"$dir/whole.jsonl") from=0
    : >"$dir/shards.jsonl"
    for to in $((n / 3)) $((n / 2)) "$n"; do
        clear a
        run a --set "rows=$from:$to" || fail_log a "rows $from:$to"
        answers >>"$dir/shards.jsonl"
        from=$to
    done
    check "shards give the rows of the whole" cmp "$dir/whole.jsonl" "$dir/shards.jsonl"
    end
fi

RANDOM=${E2E_SEED:-1}
echo "seed ${E2E_SEED:-1}"
pick() { # WORD... - one of them
    local n=$((RANDOM % $# + 1))
    echo "${!n}"
}
for ((c = 0; c < E2E_COMBOS; c++)); do
    combo=("decode_batch=$(pick 1 2 3 5 16 64)" "prefill_chunk_tok=$(pick 1 7 20 64 333 512)"
        "threads=$(pick 1 2 3)" "kv_block_tok=$(pick 16 32 64)" "order=$(pick input longest)"
        "instructions=$(pick $instructions)" "kv_memory_mib=$(pick 0 8 32)")
    same "combination $c: ${combo[*]}" "$(variant "${combo[@]}")" "$want"
done
end
