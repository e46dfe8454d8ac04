#!/bin/bash
# TEST needs: mpirun timeout: 280
# Images: the same answer whatever the layout, the caches and the restarts, on the model and the pictures
# that ship; a broken picture is one error row; figures of encoders are right.  E2E_ALL=1 takes all
# rows, or E2E_MANY_ROWS of them, and more layouts (e2e_images_all.sh).
. "$(dirname "$0")/e2e.bash"
model=inputs/models/shapes-vlm
pictures=inputs/shapes.h5
all=${E2E_ALL:-0}

rows=0:96
[ "$all" = 1 ] && rows=${E2E_MANY_ROWS:-all}
job a "$pictures" "rows=\"$rows\"" temperature=0.7 seed=5 max_tokens=12 logprobs=2 context=512
run a
outcome=$?
[ "$outcome" -le 1 ] || { fail "the run in one process: outcome $outcome"; tail -n 3 "$dir/a.log" >&2; end; }
want=$(digest "$dir/a.out.h5")
cp "$dir/a.log" "$dir/one.log"
has "images were encoded" "$dir/one.log" "images    "
has "the layout has an encoder" "$dir/one.log" "images: "
n_uses=$(sed -n 's/.*; \([0-9]*\) uses, .*/\1/p' "$dir/one.log")
n_encoded=$(sed -n 's/^images    \([0-9]*\) encoded.*/\1/p' "$dir/one.log")
again=$(sed -n 's/.*served from the cache, \([0-9]*\) encoded again.*/\1/p' "$dir/one.log")
same "no image was encoded twice" "$again" 0
check "some images are used by several rows ($n_encoded encoded, $n_uses uses)" [ "$n_encoded" -lt "$n_uses" ]

# equal WHAT N SET... - N ranks with these settings have the same digest.
equal() {
    local what=$1 n=$2 args=() kv got
    shift 2
    for kv in "$@"; do args+=(--set "$kv"); done
    clear a
    launch "$n" a "${args[@]}"
    [ $? = "$outcome" ] || { fail "$what"; grep -vE ' I |^$' "$dir/a.log" | head -n 5 >&2; }
    got=$(digest "$dir/a.out.h5")
    same "$what" "$got" "$want"
    printf '%-52s %s  %s\n' "$what" "$([ "$got" = "$want" ] && echo equal || echo DIFFERS)" \
        "$(sed -n 's/.*encoder to prefill: //p' "$dir/a.log" | tr '\n' ' ')"
}

# encoders N - the last run encoded every image once, and had so many encoders.
encoders() {
    has "there were $1 encoders" "$dir/a.log" " by $1 encoder"
    has "each image was encoded once" "$dir/a.log" "images    $n_encoded encoded"
}

equal "2 ranks: coordinator + encoder + prefill | decode" 2 && encoders 1
equal "4 ranks: each stage by itself" 4 && encoders 1
has "rank 1 is the encoder" "$dir/a.log" "encoder/0"
equal "4 ranks, link mpi" 4 'link="mpi"' && has "link mpi" "$dir/a.log" "encoder to prefill: link mpi"
equal "2 encoders, 1 prefill, 1 decode" 5 groups.encoder=2 groups.prefill=1 groups.decode=1 && encoders 2
equal "2 ranks that do everything" 2 groups.encoder=2 groups.prefill=2 groups.decode=2 && encoders 2
equal "one image a step, small chunks" 1 encode_batch=1 prefill_chunk_tok=9 decode_batch=2
if [ "$all" = 1 ]; then
    equal "3 ranks" 3 && encoders 1
    equal "8 ranks" 8 && encoders 1
    equal "8 ranks, 3 encoders, link mpi" 8 groups.encoder=3 'link="mpi"' && encoders 3
    equal "4 ranks: encoders | prefill + decode" 4 groups.encoder=2 groups.prefill=2 groups.decode=2
    equal "longest rows first" 4 'order="longest"'
    for i in plain avx2 avx512 avx512bf16; do
        "$epidote" check "$dir/a.cfg" --set "instructions=$i" >/dev/null 2>&1 &&
            equal "instructions $i" 1 "instructions=$i"
    done
fi

# A cache that holds a few images: more is encoded, nothing is different.
equal "a cache of 1 MiB" 1 encode_cache_mib=1

# Killed and started again.
clear a
for ((i = 0; i < 3; i++)); do
    launch 4 a --set threads=1 &
    pid=$!
    sleep "0.$((3 + 2 * i))"
    ranks_there | while read -r rank pid; do kill -9 "$pid" 2>/dev/null; done
    wait_launcher "$pid"
    gone_in 5 || fail "ranks were left behind"
done
launch 4 a
same "the outcome after kills" "$?" "$outcome"
same "killed three times" "$(digest "$dir/a.out.h5")" "$want"

# Rows of text alone start no encoder.
prompts text 6
job t "$dir/text.h5" max_tokens=4 context=512
launch 4 t --set groups.encoder=1 --set groups.prefill=1 --set groups.decode=2
same "text on a model that sees" "$?" 0
same "no encoder is there" "$(grep -c encoder/0 "$dir/t.log")" 0
same "no image was encoded" "$(grep -c '^images' "$dir/t.log")" 0

# A model that sees nothing.
model=inputs/models/tiny-llama
job b "$pictures"
run b
same "the outcome of images for a model of text" "$?" 2
has "and why" "$dir/b.log" "takes text only"
end
