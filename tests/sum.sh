#!/bin/bash
# sum.sh - the one place that writes and adds up the line "N passed, N failed, N skipped".
#
#   tests/sum.sh --add P F S     print the line; if TEST_SUMS names a file, append it there too
#   tests/sum.sh FILE            print the sum of a file's lines; exit 1 if any failed or none passed
set -eu
if [ "$1" = --add ]; then
    line="$2 passed, $3 failed, $4 skipped"
    [ -z "${TEST_SUMS:-}" ] || echo "$line" >>"$TEST_SUMS"
    echo "$line"
    exit 0
fi
awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0 }' "$1"
