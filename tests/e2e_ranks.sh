#!/bin/bash
# TEST needs: mpirun timeout: 280
# The same answer whatever the layout: equal digests on one rank and on several, along every axis, one
# at a time, sampling on.  E2E_ALL=1 takes more values (e2e_ranks_all.sh), E2E_COMBOS=40 as many seeded
# random combinations (e2e_ranks_combos.sh).
. "$(dirname "$0")/e2e.bash"

head -n "${E2E_ROWS:-40}" inputs/tiny.jsonl >"$dir/rows.jsonl"
for n in 40 97 230 420; do # cut by every chunk, several blocks, no common length
    echo "{\"prompt\": \"$(seq -s ' ' "$n" 3 "$((n * 2))") end\"}" >>"$dir/rows.jsonl"
done
"$epidote" import "$dir/rows.jsonl" "$dir/rows.h5" 2>"$dir/import.log" || fail "import"
job a "$dir/rows.h5" temperature=0.8 top_k=50 top_p=0.95 repetition_penalty=1.1 logprobs=3 \
    seed=11 max_tokens=24 'precision="bf16"' context="${E2E_CONTEXT:-1024}"
run a || { fail "the run on one rank"; tail -n 3 "$dir/a.log" >&2; end; }
want=$(digest "$dir/a.out.h5")
same "a digest is 16 hexadecimal digits" "$(grep -cE '^[0-9a-f]{16}$' <<<"$want")" 1
all=${E2E_ALL:-0} took=0

# on N SET... - the digest of a run on N ranks with these settings.
on() {
    local n=$1 args=() kv begin
    shift
    for kv in "$@"; do args+=(--set "$kv"); done
    clear a
    begin=$(date +%s%N)
    launch "$n" a "${args[@]}" || { fail "run on $n ranks with $*"; grep -vE ' I |^$' "$dir/a.log" | head -n 8 >&2; }
    took=$(($(date +%s%N) - begin))
    digest "$dir/a.out.h5"
}

# equal WHAT N SET... - that digest is the one-rank run's; the figures of the hand-off are shown.
equal() {
    local what=$1 got
    shift
    got=$(on "$@")
    same "$what" "$got" "$want"
    printf '%-44s %s  %s\n' "$what" "$([ "$got" = "$want" ] && echo equal || echo DIFFERS)" \
        "$(sed -n 's/.*prefill to decode: //p' "$dir/a.log" | tr '\n' ' ')"
}

# link KIND - the last run had a link of that kind.
link() {
    has "the run had a link $1" "$dir/a.log" "link $1 for"
}

if [ "${E2E_COMBOS:-0}" = 0 ]; then
    for n in 2 3 4 $([ "$all" = 1 ] && echo 6 8); do equal "$n ranks" "$n"; done
    equal "groups 1 + 1" 2 groups.prefill=1 groups.decode=1 && link shm
    equal "groups 1 + 3" 4 groups.prefill=1 groups.decode=3 && link shm
    equal "groups 3 + 1" 4 groups.prefill=3 groups.decode=1 && link shm
    equal "groups 2 + 2, shared ranks" 2 groups.prefill=2 groups.decode=2 && link self
    equal "groups 2 + 2, shared ranks, coordinator alone" 3 groups.prefill=2 groups.decode=2 && link self
    equal "link shm" 3 'link="shm"' && link shm
    equal "link mpi" 3 'link="mpi"' && link mpi
    equal "link mpi, 2 ranks, small pieces" 2 'link="mpi"' prefill_chunk_tok=7 && link mpi
    equal "link mpi, small pools" 4 'link="mpi"' kv_memory_mib="${E2E_POOL_MIB:-16}" decode_batch=3 && link mpi
    equal "2 threads a rank" 2 threads=2
    equal "1 thread a rank" 4 threads=1
    if [ "$all" = 1 ]; then
        equal "groups 2 + 5, coordinator alone" 8 groups.prefill=2 groups.decode=5
        equal "groups 5 + 2, link mpi" 7 groups.prefill=5 groups.decode=2 'link="mpi"' && link mpi
        equal "2 threads a rank, link mpi" 4 threads=2 'link="mpi"'
    fi
    # What moves the bytes: of Open MPI two transports can be asked for.
    if command -v ompi_info >/dev/null && ldd "$epidote" | grep -q libmpi.so; then
        for pml in ob1 ucx; do
            ompi_info --parsable 2>/dev/null | grep -q "^mca:pml:$pml:" ||
                { echo "this Open MPI has no PML $pml"; continue; }
            export OMPI_MCA_pml=$pml OMPI_MCA_pml_ucx_tls=any OMPI_MCA_pml_ucx_devices=any
            equal "PML $pml, link mpi" 2 'link="mpi"' && link mpi
            [ "$all" = 1 ] && equal "PML $pml, 4 ranks, link mpi" 4 'link="mpi"'
            unset OMPI_MCA_pml OMPI_MCA_pml_ucx_tls OMPI_MCA_pml_ucx_devices
        done
    fi
    end
fi

RANDOM=${E2E_SEED:-1}
echo "seed ${E2E_SEED:-1}"
pick() { # WORD... - one of them
    local n=$((RANDOM % $# + 1))
    echo "${!n}"
}
instructions=plain
for i in avx2 avx512; do
    "$epidote" check "$dir/a.cfg" --set "instructions=$i" >/dev/null 2>&1 && instructions="$instructions $i"
done
for ((c = 0; c < E2E_COMBOS; c++)); do
    n=$(pick 1 2 3 4 6 8)
    case $n in # groups: as chosen, split, shared
    2) groups=$(pick -1+-1 1+1 2+2) ;;
    3) groups=$(pick -1+-1 1+1 1+2 2+1 2+2 3+3) ;;
    4) groups=$(pick -1+-1 1+2 2+1 1+3 3+1 2+2 4+4) ;;
    6) groups=$(pick -1+-1 1+4 3+3 4+2 5+5) ;;
    8) groups=$(pick -1+-1 1+7 6+1 4+4 8+8) ;;
    *) groups=-1+-1 ;;
    esac
    combo=("$n" "groups.prefill=${groups%+*}" "groups.decode=${groups#*+}" "link=\"$(pick auto auto mpi)\""
        "decode_batch=$(pick 1 2 3 5 16 64)" "prefill_chunk_tok=$(pick 1 7 20 64 333 512)"
        "threads=$(pick 0 1 2)" "kv_block_tok=$(pick 16 32 64)" "order=$(pick input longest)"
        "instructions=$(pick $instructions)" "kv_memory_mib=$(pick 0 17 32)")
    equal "combination $c: ${combo[*]}" "${combo[@]}"
done
end
