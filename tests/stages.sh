#!/bin/bash
# stages.sh - run stages (targets of the Makefile) one after another, each whatever became of those
# before it, and end with one line for all: "N passed, N failed, N skipped".
#
#   tests/stages.sh STAGE ...
#
# A stage adds its own line to the file TEST_SUMS names; one that leaves no line counts as one test.
# The fuzz stage gets 10 s a target, or CI_FUZZ_S; slow tests and those on real models are all, or those
# that CI_SLOW and CI_REAL name.
set -u
cd "$(dirname "$0")/.." || exit 2
mkdir -p build/ci
sums=build/ci/sums
outer=${TEST_SUMS:-}
: >"$sums"
bad=''
for stage in "$@"; do
    echo "== make $stage"
    begin=$SECONDS
    before=$(wc -l <"$sums")
    args=()
    [ "$stage" = fuzz ] && args=(FUZZ_S="${CI_FUZZ_S:-10}")
    [ "$stage" = test-slow ] && args=(TESTS="${CI_SLOW:-}")
    [ "$stage" = test-real ] && args=(TESTS="${CI_REAL:-}")
    TEST_SUMS="$PWD/$sums" make --no-print-directory "$stage" "${args[@]}"
    rc=$?
    lines=$(sed -n "$((before + 1)),\$p" "$sums")
    if [ "$rc" != 0 ]; then
        bad="$bad $stage"
        grep -qv ', 0 failed,' <<<"${lines:-, 0 failed,}" || echo "0 passed, 1 failed, 0 skipped" >>"$sums"
    elif [ -z "$lines" ]; then
        echo "1 passed, 0 failed, 0 skipped" >>"$sums"
    fi
    echo "== make $stage: $((SECONDS - begin)) s"
done
[ -z "$bad" ] || echo "failed stages:$bad"
[ -z "$outer" ] || cat "$sums" >>"$outer"
tests/sum.sh "$sums"
