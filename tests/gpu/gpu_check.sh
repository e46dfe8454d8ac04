#!/bin/bash
# gpu_check.sh - check kernels and engine on this machine's GPU, against the CPU, and time them.  In a bundle
# (bundle.sh) it is called gpu-check and lies beside what it runs.
#
#   gpu-check [--emulated] [--out FOLDER]
#
#   --emulated   over the emulated device (tests/emulator/): what needs no GPU, and no times
#   --out        gets gpu-check.md, for tests/gpu/RESULTS.md, gpu-check.json and the logs; results/ if not given
#
# In 8 minutes: each check has a limit, and what would begin too late is not run.  What cannot run here says why.
# The last line is "N passed, N failed, N skipped".  Exit status: 0 if none failed, 1 if one did, 2 if there is
# nothing to check on.
set -u
export LC_ALL=C
begun=$(date +%s)
here=$(cd "$(dirname "$0")" && pwd)
side=cuda out=$here/results budget_s=480
while [ $# -gt 0 ]; do
    case $1 in
    --emulated) side=emulated budget_s=900 ;; # a CPU takes its time
    --out) out=$2 && shift ;;
    *) sed -n 5,8p "$0" >&2 && exit 2 ;;
    esac
    shift
done
case $out in /*) ;; *) out=$PWD/$out ;; esac
bin=$here/$side
mkdir -p "$out" && cd "$here" || exit 2
rm -f "$out/gpu-check.md" "$out/gpu-check.json" "$out/checks.tsv" "$out/timings.tsv"

die() {
    echo "gpu-check: $*" >&2
    exit 2
}

# ---- what there is --------------------------------------------------------------------------------

# CUDA's own libraries are wherever CUDA or a Python package has put them; which release, the library says.
find_cuda() {
    local folder missing
    missing=$(ldd "$bin/libepidote_cuda.so" | awk '/not found/ { print $1 }')
    [ -n "$missing" ] || return 0
    for folder in "${CUDA_HOME:-/usr/local/cuda}/lib64" /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib \
        $(timeout 20 python3 -c 'import nvidia; print(*(p + "/cu13/lib" for p in nvidia.__path__))' 2>/dev/null); do
        export LD_LIBRARY_PATH=$folder
        ldd "$bin/libepidote_cuda.so" | grep -q 'not found' || return 0
    done
    die "no folder with ${missing//$'\n'/ } was found: set CUDA_HOME"
}

[ -d "$bin" ] || die "this bundle was made without nvcc ($(cat NO_CUDA)), so it has nothing for a GPU: --emulated is what it can do"
[ "$side" = emulated ] || find_cuda
device=$(timeout 60 "$bin/bench_kernels" --device 2>&1) || die "no GPU to check on: $device"
driver=$(timeout 20 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
echo "on $device${driver:+, driver $driver}"

# For what launches ranks: nothing of an MPI that this machine may have, plugins of its parts neither.  What the MPI
# library itself needs is not looked for where the program says.
export PATH="$here/openmpi/bin:$PATH" OPAL_PREFIX=$here/openmpi
export PMIX_MCA_mca_base_component_disable_dlopen=1 HWLOC_PLUGINS_PATH=$here/openmpi
libraries=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# For the tests.
export EPIDOTE=$bin/epidote EPIDOTE_CUDA=beside

# ---- checks ---------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0

report() { # RESULT NAME SECONDS WORDS
    local words
    words=$(tr -d '\000-\037' <<<"$4" | sed "s,$here/,,g" | cut -c 1-200)
    case $1 in
    ok) passed=$((passed + 1)) ;;
    failed) failed=$((failed + 1)) ;;
    *) skipped=$((skipped + 1)) ;;
    esac
    printf '%-8s %-32s %6.1f s  %s\n' "$1" "$2" "$3" "$words"
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$words" >>"$out/checks.tsv"
}

not_run() { # NAME WHY
    report 'not run' "$1" 0 "$2"
}

# try NAME LIMIT COMMAND... - the output is kept in NAME.log; exit status 77 means that it cannot run here.
try() {
    local name=$1 limit=$2 log=$out/$1.log left from rc s
    shift 2
    left=$((begun + budget_s - $(date +%s)))
    [ "$left" -ge 10 ] || { not_run "$name" "$budget_s s are over"; return; }
    [ "$left" -ge "$limit" ] || limit=$left
    from=$(date +%s.%N)
    timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null
    rc=$?
    s=$(awk -v a="$from" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    case $rc in
    0) report ok "$name" "$s" "$(tail -n 1 "$log")" ;;
    77) not_run "$name" "$(tail -n 1 "$log")" ;;
    124 | 137) report failed "$name" "$s" "still running after $limit s" ;;
    *)
        report failed "$name" "$s" "exit status $rc: $(tail -n 1 "$log")"
        tail -n 40 "$log" | sed 's/^/    /'
        ;;
    esac
}

# sanitized TOOL TEST - a test under compute-sanitizer.  It takes many times as long: one that is not done in time, or
# a sanitizer that does not like the machine, says nothing about the kernels.
sanitizer=$(PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin" command -v compute-sanitizer)
sanitized() {
    [ "$side" = cuda ] || { echo "needs a GPU"; return 77; }
    [ -n "$sanitizer" ] || { echo "no compute-sanitizer in PATH or ${CUDA_HOME:-/usr/local/cuda}/bin"; return 77; }
    timeout --kill-after=2 80 "$sanitizer" --tool "$1" --error-exitcode 9 "$bin/$2" >"$out/$1-$2.words" 2>&1
    local rc=$?
    tail -n 100 "$out/$1-$2.words"
    [ $rc != 124 ] || { echo "not done in 80 s"; return 77; }
    ! grep -q 'Device not supported' "$out/$1-$2.words" || { echo "compute-sanitizer: Device not supported"; return 77; }
    grep -q 'SUMMARY' "$out/$1-$2.words" || { echo "compute-sanitizer gave no summary: $(tail -n 1 "$out/$1-$2.words")"; return 77; }
    return $rc
}
export -f sanitized
export here bin side out sanitizer

try unit_kernels 60 "$bin/unit_kernels"
try unit_prefill_kernel 60 "$bin/unit_prefill_kernel"
try unit_engine_cuda 180 env LD_LIBRARY_PATH="$libraries" "$bin/unit_engine_cuda"
try e2e_cuda_engine 180 env LD_LIBRARY_PATH="$libraries" bash tests/e2e_cuda_engine.sh
try e2e_two_ranks 60 env LD_LIBRARY_PATH="$libraries" bash tests/e2e_two_ranks.sh # on the CPU: the bundle's MPI
try bench_kernels 120 "$bin/bench_kernels" $([ "$side" = cuda ] || echo --toy)
for tool in memcheck racecheck; do
    for name in unit_kernels unit_prefill_kernel; do
        try "$tool-$name" 90 bash -c 'sanitized "$@"' - "$tool" "$name"
    done
done

# ---- what comes of it -----------------------------------------------------------------------------

sum="$passed passed, $failed failed, $skipped skipped"
what="$device${driver:+, driver $driver}"
when=$(date -u +%Y-%m-%d)
if [ "$side" = cuda ]; then grep -P '^[^\t]+(\t[^\t]*){5}$' "$out/bench_kernels.log" >"$out/timings.tsv"; else : >"$out/timings.tsv"; fi

{
    printf '## %s\n\n%s, version %s: %s.\n\n' "$what" "$when" "$(cat VERSION)" "$sum"
    printf '| check | result | s | |\n| --- | --- | --- | --- |\n'
    awk -F '\t' '{ gsub(/\|/, "\\|"); printf "| `%s` | %s | %s | %s |\n", $2, $1, $3, $4 }' "$out/checks.tsv"
    if [ -s "$out/timings.tsv" ]; then
        printf '\nTimes of launches back to back, median of 7; the last column is of the copy bandwidth (TB/s) or of the rate of\n'
        printf "cuBLASLt's matmul (TFLOP/s) in the same run.\n\n"
        printf '| kernel | shape | us | rate | %% |\n| --- | --- | --- | --- | --- |\n'
        awk -F '\t' '{ printf "| %s | %s | %s | %s %s | %s |\n", $1, $2, $3, $4, $5, $6 }' "$out/timings.tsv"
    else
        printf '\nTimes: not run, %s.\n' "$([ "$side" = emulated ] && echo 'the emulated device has none' || echo 'see bench_kernels')"
    fi
} >"$out/gpu-check.md"

awk -F '\t' -v device="$what" -v date="$when" -v version="$(cat VERSION)" -v emulated="$([ "$side" = emulated ] && echo true || echo false)" \
    -v passed=$passed -v failed=$failed -v skipped=$skipped '
function text(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }
function number(s) { return s ~ /^[0-9.]+$/ ? s : "null" }
BEGIN {
    printf "{\"device\": %s, \"date\": %s, \"version\": %s, \"emulated\": %s,\n", text(device), text(date), text(version), emulated
    printf " \"passed\": %d, \"failed\": %d, \"skipped\": %d,\n \"checks\": [", passed, failed, skipped
}
FNR == 1 && NR > 1 { printf "],\n \"timings\": ["; timings = 1 }
{ printf "%s\n  ", (FNR > 1 ? "," : "") }
!timings { printf "{\"name\": %s, \"result\": %s, \"s\": %s, \"words\": %s}", text($2), text($1), number($3), text($4) }
timings { printf "{\"kernel\": %s, \"shape\": %s, \"us\": %s, \"rate\": %s, \"unit\": %s, \"percent\": %s}",
              text($1), text($2), number($3), number($4), text($5), number($6) }
END { print (timings ? "" : "],\n \"timings\": [") "]}" }' "$out/checks.tsv" "$out/timings.tsv" >"$out/gpu-check.json"

echo "$out/gpu-check.md, $out/gpu-check.json"
echo "$sum"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
