#!/bin/bash
# run.sh - run tests, one line each, and end with "N passed, N failed, N skipped".
#
#   tests/run.sh --bin DIR [--set fast|slow|smollm2|all] [NAME ...]
#
# A test is a binary DIR/unit_* or DIR/mpi_* made of tests/*.c or a script tests/e2e_*.sh.  One of the first
# three lines of its source holds the word TEST and may go on with
#   needs: slow smollm2 ...   what it needs: `slow` time, `smollm2` and `gemma3` the fetched models,
#                             `templates` the fetched chat templates and vocabularies, any other word
#                             a command that must be in PATH (else the test is skipped)
#   np: 2 3 4                 run it under mpirun, once for each number of ranks and, with Open MPI,
#                             for each of the PMLs ob1 and ucx (its two ways to move messages)
#   timeout: 300              seconds instead of 120
# The set `fast` is what needs neither time nor anything fetched; `slow` is what needs slow only;
# `smollm2` is what needs something fetched.  Exit status 77 means skipped, the last line says why.
# Output is kept in DIR/NAME.log and shown when a test fails.  Environment: TEST_PATIENCE multiplies
# every timeout (sanitizers are slow); TEST_JOBS is how many unit tests run at a time (1); MPIRUN is the
# launcher of the build's MPI.
set -u
cd "$(dirname "$0")/.." || exit 2

bin='' set_name=fast names=()
while [ $# -gt 0 ]; do
    case $1 in
    --bin) bin=$2 && shift ;;
    --set) set_name=$2 && shift ;;
    -*) echo "run.sh: unknown option $1" >&2 && exit 2 ;;
    *) names+=("$1") ;;
    esac
    shift
done
[ -d "$bin" ] || { echo "run.sh: --bin $bin is not a folder: build first (make test)" >&2; exit 2; }

patience=${TEST_PATIENCE:-1}
case $bin in *debug-*) patience=$((patience * 4)) ;; esac
model=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
templates=build/models/llama_cpp_files/templates
gemma3=build/models/gemma-3-270m-q4_k_m.gguf
export EPIDOTE_SMOLLM2="$PWD/$model" EPIDOTE_GEMMA3="$PWD/$gemma3"
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=0:detect_leaks=1}
# Only code that was compiled for it can be judged; MPI's and HDF5's was not.
export TSAN_OPTIONS=${TSAN_OPTIONS:-ignore_noninstrumented_modules=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

passed=0 failed=0 skipped=0 bad=''

# test_line SOURCE - what follows TEST in the head of a source.
test_line() {
    sed -nE '1,3s,^(/\*|#) TEST(.*),\2,p' "$1" | sed 's,\*/.*,,' | head -1
}

# field LINE NAME - the words after "NAME:" up to the next "word:".
field() {
    awk -v name="$2:" '{ on = 0
        for (i = 1; i <= NF; i++) { if ($i ~ /:$/) on = ($i == name); else if (on) printf "%s ", $i } }' <<<"$1"
}

in_set() {
    local slow=0 real=0 n
    for n in $1; do
        [ "$n" = slow ] && slow=1
        case $n in smollm2 | gemma3 | templates) real=1 ;; esac
    done
    case $set_name in
    fast) [ $slow$real = 00 ] ;;
    slow) [ $slow$real = 10 ] ;;
    smollm2) [ $real = 1 ] ;;
    all) true ;;
    *) echo "run.sh: no set $set_name" >&2 && exit 2 ;;
    esac
}

report() { # WORD NAME SECONDS [WHY]
    printf '%-5s %-36s %7.1f s  %s\n' "$1" "$2" "$3" "${4:-}"
}

lacks() { # NEEDS - the first thing that is not here
    local n
    for n in $1; do
        case $n in
        slow) ;;
        templates) [ -d "$templates" ] || { echo "$templates is not there: make model-files"; return; } ;;
        gemma3) [ -f "$gemma3" ] || { echo "$gemma3 is not there: make model-files"; return; } ;;
        smollm2) [ -f "$model" ] || { echo "$model is not there: make model"; return; } ;;
        *) command -v "$n" >/dev/null || { echo "no $n in PATH"; return; } ;;
        esac
    done
}

# Which ways to launch there are -> pmls, one word each; the words that mpirun needs for one.
mpirun=${MPIRUN:-mpirun} pmls=''
find_pmls() {
    [ -z "$pmls" ] || return 0
    pmls=any
    "$mpirun" --version 2>/dev/null | grep -q 'Open MPI' || return 0
    pmls='ob1 ucx'
    # It does not let root run anything unless told twice.
    [ "$(id -u)" = 0 ] && export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    return 0
}
pml_args() { # PML
    case $1 in
    ob1) echo '--oversubscribe --mca pml ob1' ;;
    ucx) echo '--oversubscribe --mca pml ucx --mca pml_ucx_tls any --mca pml_ucx_devices any' ;;
    esac
}
pml_lacks() { # PML
    [ "$1" = ucx ] && ! ompi_info --parsable 2>/dev/null | grep -q '^mca:pml:ucx:' &&
        echo 'this Open MPI has no PML ucx'
}

execute() { # LOG TIMEOUT COMMAND... - run it; its exit status and seconds go to LOG.end
    local log=$1 limit=$2 begin rc
    shift 2
    begin=$(date +%s.%N)
    timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null
    rc=$?
    awk -v a="$begin" -v b="$(date +%s.%N)" -v rc=$rc 'BEGIN { print rc, b - a }' >"$log.end"
}

conclude() { # NAME LOG TIMEOUT - how it went
    local name=$1 log=$2 limit=$3 rc s
    read -r rc s <"$log.end"
    rm -f "$log.end"
    case $rc in
    0) passed=$((passed + 1)) && report ok "$name" "$s" ;;
    77) skipped=$((skipped + 1)) && report skip "$name" "$s" "$(tail -n 1 "$log")" ;;
    *)
        failed=$((failed + 1)) && bad="$bad $name"
        [ $rc = 124 ] || [ $rc = 137 ] && s="$limit"
        case $rc in
        124) report FAIL "$name" "$s" "still running after $limit s" ;;
        *) report FAIL "$name" "$s" "exit status $rc" ;;
        esac
        echo "---- $log"
        # without what a sanitizer says of memory around the place
        sed '/^Shadow bytes around/,/^==[0-9]*==ABORTING/d' "$log" | awk '
            NR <= 40 { print; next } { tail[NR] = $0 }
            END { if (NR > 120) print "[...]"
                  for (i = NR > 120 ? NR - 79 : 41; i <= NR; i++) print tail[i] }'
        echo "----"
        ;;
    esac
}

run_one() { # NAME LOG TIMEOUT COMMAND...
    execute "$2" "$3" "${@:4}"
    conclude "$1" "$2" "$3"
}

# Unit tests have one thread most of the time: with TEST_JOBS several run beside each other, and are told in
# order when all have ended.
jobs=${TEST_JOBS:-1} started=()
start_one() { # NAME LOG TIMEOUT COMMAND...
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    execute "$2" "$3" "${@:4}" &
    started+=("$1" "$2" "$3")
}
settle() {
    local i
    wait
    for ((i = 0; i < ${#started[@]}; i += 3)); do conclude "${started[@]:i:3}"; done
    started=()
}

wanted() { # NAME
    local n
    [ ${#names[@]} = 0 ] && return 0
    for n in "${names[@]}"; do [ "$n" = "$1" ] && return 0; done
    return 1
}

for src in tests/unit_*.c tests/mpi_*.c tests/e2e_*.sh; do
    [ -f "$src" ] || continue
    name=$(basename "${src%.*}")
    wanted "$name" || continue
    line=$(test_line "$src")
    needs=$(field "$line" needs)
    in_set "$needs" || continue
    if [ -z "$line" ] && ! sed -n 1,3p "$src" | grep -q TEST; then
        failed=$((failed + 1)) bad="$bad $name"
        report FAIL "$name" 0 "$src: no TEST in its first three lines"
        continue
    fi
    np=$(field "$line" np)
    why=$(lacks "$needs${np:+ $mpirun}")
    if [ -n "$why" ]; then
        skipped=$((skipped + 1))
        report skip "$name" 0 "$why"
        continue
    fi
    limit=$(field "$line" timeout)
    limit=$((${limit:-120} * patience))
    case $src in
    *.sh) cmd=(bash "$src") ;;
    *) cmd=("$bin/$name") ;;
    esac
    if [ "$jobs" -gt 1 ] && [ -z "$np" ] && [[ $src = *.c ]]; then
        start_one "$name" "$bin/$name.log" "$limit" "${cmd[@]}"
        continue
    fi
    settle
    if [ -z "$np" ]; then
        run_one "$name" "$bin/$name.log" "$limit" "${cmd[@]}"
        continue
    fi
    find_pmls
    for pml in $pmls; do
        why=$(pml_lacks "$pml")
        for n in $np; do
            if [ -n "$why" ]; then
                skipped=$((skipped + 1))
                report skip "$name/$n/$pml" 0 "$why"
                continue
            fi
            run_one "$name/$n/$pml" "$bin/$name.$n.$pml.log" "$limit" "$mpirun" $(pml_args "$pml") -n "$n" "${cmd[@]}"
        done
    done
done

settle
[ -z "$bad" ] || echo "failed:$bad"
tests/sum.sh --add "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
