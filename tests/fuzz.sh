#!/bin/bash
# fuzz.sh - run every libFuzzer target for some seconds; one line each, and at the end
# "N passed, N failed, N skipped".  `make fuzz` builds the targets and calls this.
#
#   tests/fuzz.sh SECONDS JOBS DIR        DIR holds the built fuzz_* targets
#
# Seeds are in tests/fuzz/seeds/NAME; what libFuzzer finds worth keeping goes to build/fuzz/corpus/NAME
# and is used again.  A finding is left in build/fuzz/findings/, with the command that repeats it.
set -u
cd "$(dirname "$0")/.." || exit 2
seconds=$1 jobs=$2 dir=$3
mkdir -p build/fuzz/corpus build/fuzz/findings build/fuzz/log
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}

fuzz_one() { # TARGET SECONDS
    local target=$1 seconds=$2 name log rc runs dict=()
    name=$(basename "$target") && name=${name#fuzz_}
    log=build/fuzz/log/$name
    mkdir -p "build/fuzz/corpus/$name"
    [ -f "tests/fuzz/$name.dict" ] && dict=(-dict="tests/fuzz/$name.dict")
    # bit 2 of close_fd_mask: the target's own log lines are not wanted, reports still come
    "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -close_fd_mask=2 -print_final_stats=1 \
        "${dict[@]}" -artifact_prefix="build/fuzz/findings/$name-" "build/fuzz/corpus/$name" \
        $([ -d "tests/fuzz/seeds/$name" ] && echo "tests/fuzz/seeds/$name") >"$log" 2>&1
    rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ $rc = 0 ]; then
        printf 'ok    fuzz_%-24s %10s inputs in %s s\n' "$name" "${runs:-?}" "$seconds"
    else
        printf 'FAIL  fuzz_%-24s exit status %s\n' "$name" "$rc"
        sed '/^Shadow bytes around/,/^==[0-9]*==ABORTING/d' "$log" | grep -vE '^#[0-9]+|^INFO|^stat::' | tail -n 60 | sed 's/^/      /'
        sed -n "s|.*Test unit written to \(.*\)|      again: $target \1|p" "$log"
    fi
}
export -f fuzz_one

# How many run at once is how many cores there are: seconds should be seconds of a core.
out=$(for src in tests/fuzz/fuzz_*.c; do [ -f "$src" ] && echo "$dir/$(basename "${src%.c}")"; done |
    xargs -r -P "$jobs" -I{} bash -c 'fuzz_one "$1" "$2"' _ {} "$seconds")
[ -n "$out" ] && echo "$out"
tests/sum.sh --add "$(grep -c '^ok ' <<<"$out")" "$(grep -c '^FAIL ' <<<"$out")" 0
! grep -q '^FAIL ' <<<"$out"
