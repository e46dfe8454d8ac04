#!/bin/bash
# TEST
# The test runner itself: what passes, fails, is skipped, hangs or is left for another set, and the
# sum of several stages.  A runner that calls a failure a pass would make every other test worthless.
set -u
cd "$(dirname "$0")" || exit 2
dir=$(mktemp -d "${TMPDIR:-/tmp}/epidote-runner-XXXXXX")
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/tests" "$dir/bin"
cp run.sh sum.sh "$dir/tests/"
unset TEST_SUMS
n_failed=0

make_test() { # NAME HEAD BODY
    printf '#!/bin/bash\n# %s\n%s\n' "$2" "$3" >"$dir/tests/e2e_$1.sh"
}
expect() { # WHAT GOT WANT
    [ "$2" = "$3" ] && return
    n_failed=$((n_failed + 1))
    echo "FAILED: $1: \"$2\", not \"$3\""
}
run() { # ARG ... -> $out, $rc
    out=$(TEST_JOBS=${TEST_JOBS:-1} TEST_PATIENCE=1 "$dir/tests/run.sh" --bin "$dir/bin" "$@" 2>&1)
    rc=$?
}

make_test good 'TEST' 'echo fine'
run
expect 'one good test' "$(tail -n 1 <<<"$out"), status $rc" '1 passed, 0 failed, 0 skipped, status 0'

make_test bad 'TEST' 'echo the reason; exit 3'
make_test skip 'TEST' 'echo not on this machine; exit 77'
make_test lacks 'TEST needs: no-such-command-here' 'exit 0'
make_test hangs 'TEST timeout: 1' 'sleep 60'
make_test slow 'TEST needs: slow timeout: 9' 'exit 0'
make_test real 'TEST needs: smollm2' 'exit 0'
make_test mute 'nothing about tests' 'exit 0'
printf '/* TEST */\n' >"$dir/tests/unit_crash.c"
printf '#!/bin/bash\nkill -SEGV $$\n' >"$dir/bin/unit_crash"
chmod +x "$dir/bin/unit_crash"
run
expect 'a mixed lot' "$(tail -n 1 <<<"$out"), status $rc" '1 passed, 4 failed, 2 skipped, status 1'
expect 'names' "$(grep '^failed:' <<<"$out")" 'failed: unit_crash e2e_bad e2e_hangs e2e_mute'
expect 'output of a failed test' "$(grep -c 'the reason' <<<"$out")" 1
expect 'why a test was skipped' "$(grep -c '^skip .*no no-such-command-here in PATH' <<<"$out")" 1
TEST_JOBS=3 run
expect 'several at a time' "$(tail -n 1 <<<"$out"), status $rc" '1 passed, 4 failed, 2 skipped, status 1'
run --set slow
expect 'the slow set' "$(tail -n 1 <<<"$out"), status $rc" '1 passed, 0 failed, 0 skipped, status 0'
run --set smollm2 e2e_real
expect 'no model' "$(tail -n 1 <<<"$out"), status $rc" '0 passed, 0 failed, 1 skipped, status 0'
run e2e_good
expect 'by name' "$(tail -n 1 <<<"$out"), status $rc" '1 passed, 0 failed, 0 skipped, status 0'
run e2e_missing
expect 'no such test' "$rc" 1

# Tests of ranks: one line for each number of ranks, by the launcher of the build's MPI.
printf '/* TEST np: 2 3 */\n' >"$dir/tests/mpi_some.c"
printf '#!/bin/bash\n[ "$RANKS" != 3 ]\n' >"$dir/bin/mpi_some"
printf '#!/bin/bash\n[ "$1" = -n ] && RANKS=$2 exec "$3"\n' >"$dir/launcher"
chmod +x "$dir/bin/mpi_some" "$dir/launcher"
MPIRUN=$dir/launcher run mpi_some
expect 'a test of 2 and 3 ranks that fails with 3' "$(tail -n 1 <<<"$out"), $(grep '^failed:' <<<"$out")" \
    '1 passed, 1 failed, 0 skipped, failed: mpi_some/3/any'
MPIRUN=$dir/no-launcher run mpi_some
expect 'no launcher' "$(tail -n 1 <<<"$out"), status $rc" '0 passed, 0 failed, 1 skipped, status 0'

printf '5 passed, 0 failed, 1 skipped\nnoise 3 passed, 9 failed\n7 passed, 2 failed, 0 skipped\n' >"$dir/sums"
expect 'the sum' "$("$dir/tests/sum.sh" "$dir/sums"), status $?" '12 passed, 2 failed, 1 skipped, status 1'
: >"$dir/sums"
"$dir/tests/sum.sh" "$dir/sums" >/dev/null && expect 'the sum of nothing is no success' 0 1

echo "e2e_runner: $n_failed failed"
[ "$n_failed" = 0 ]
