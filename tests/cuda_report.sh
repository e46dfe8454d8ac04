#!/bin/bash
# cuda_report.sh - what ptxas says that each kernel takes, beside the bounds it must keep.
#
#   tests/cuda_report.sh FOLDER BOUNDS "ARCH ..."
#
# FOLDER has *.ptxas, what ptxas -v said of each file; BOUNDS is kernels/bounds.txt.  A kernel beyond a
# bound, one that has no bounds, bounds of no kernel and an architecture that is missing are failures.
set -u
[ $# = 3 ] || { sed -n 2,8p "$0" >&2; exit 2; }
cat "$1"/*.ptxas | awk -v bounds="$2" -v archs="$3" '
BEGIN {
    while ((getline line < bounds) > 0) {
        n = split(line, f, " ")
        if (n == 0 || f[1] ~ /^#/) continue
        regs[f[1]] = f[2]; spill[f[1]] = f[3]; shared[f[1]] = f[4]
        n_bounds++
    }
    if (n_bounds == 0) { print "cuda_report: no bounds in " bounds; bad = 1; exit 1 }
    printf "%-20s %-6s %10s %12s %14s\n", "kernel", "arch", "registers", "spill bytes", "shared bytes"
}
# "_Z6attendILi8EEv16k_attention_args" is attend<8>
function name_of(mangled, part) {
    sub(/^_Z[0-9]+/, "", mangled)
    match(mangled, /^[a-z_]+/)
    part = substr(mangled, 1, RLENGTH)
    mangled = substr(mangled, RLENGTH + 1)
    if (match(mangled, /^IL[ib][0-9]+E/)) part = part "<" substr(mangled, 4, RLENGTH - 4) ">"
    return part
}
/Compiling entry function/ { split($0, q, "\047"); name = name_of(q[2]); arch = q[4]; bytes = 0; next }
/bytes spill stores/ { for (i = 1; i < NF; i++) if ($(i + 1) == "bytes" && $(i + 2) == "spill") bytes += $i; next }
/: Used [0-9]+ registers/ {
    smem = 0
    for (i = 1; i < NF; i++) { if ($i == "Used") r = $(i + 1); if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) smem = $i }
    word = ""
    if (!(name in regs)) word = "no bounds"
    else if (r + 0 > regs[name] + 0) word = "more than " regs[name] " registers"
    else if (bytes > spill[name] + 0) word = "more than " spill[name] " spilled"
    else if (smem > shared[name] + 0) word = "more than " shared[name] " shared"
    printf "%-20s %-6s %10d %12d %14d  %s\n", name, arch, r, bytes, smem, word == "" ? "ok" : "FAIL: " word
    n_failed += word != ""; n_ok += word == ""
    seen[name] = seen[name] arch " "
}
END {
    if (bad) exit 1
    n = split(archs, want, " ")
    for (name in regs)
        for (i = 1; i <= n; i++)
            if (index(seen[name], "sm_" want[i] " ") == 0) {
                printf "%-20s sm_%-3s FAIL: not compiled\n", name, want[i]
                n_failed++
            }
    printf "cuda-report: %d within their bounds, %d not\n", n_ok, n_failed
    exit n_failed > 0
}'
