#!/bin/bash
# TEST needs: slow timeout: 900
# Resident memory does not grow with the number of rows: 2,000 rows and E2E_ROWS (100,000) of one-token
# answers on the small model; the figures are printed.  The larger file may take 40 MiB more, for the
# merge's windows that a small one does not fill (32 MiB) and HDF5's caches, and 16 bytes a row.
. "$(dirname "$0")/e2e.bash"

make_rows() { # N FILE
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "What is %d plus %d?\n", i % 97, i % 89 }' >"$dir/rows.txt"
    "$epidote" import --lines "$dir/rows.txt" "$2" || fail "import of $1 rows"
}

peak() { # N - peak resident MiB of a run of n rows
    make_rows "$1" "$dir/m$1.h5" 2>"$dir/import.log"
    job "m$1" "$dir/m$1.h5" max_tokens=1 decode_batch=64 kv_memory_mib=64
    run "m$1" || { fail "run of $1 rows"; tail -n 3 "$dir/m$1.log" >&2; }
    sed -n 's/^memory *\([0-9]*\) MiB.*/\1/p' "$dir/m$1.log"
}

few=$(peak 2000)
many=$(peak "${E2E_ROWS:-100000}")
grep -E '^(rows|time|tokens|memory)' "$dir/m${E2E_ROWS:-100000}.log"
echo "peak resident: $few MiB for 2,000 rows, $many MiB for ${E2E_ROWS:-100000} rows"
n_checks=$((n_checks + 1))
[ "$many" -le $((few + 40 + ${E2E_ROWS:-100000} * 16 / 1048576)) ] || fail "memory grew from $few to $many MiB"
end
