#!/bin/bash
# lint.sh - the house rules that a machine can check; one line for each, and at the end
# "N passed, N failed, N skipped".
#
#   tests/lint.sh              all rules on this tree, then the linter on itself
#   tests/lint.sh --root DIR   the quick rules (text and compiler only) on another tree
#
# What only STYLE or a reviewer can see (names, comments that say why) is not here.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
quick=0
if [ "${1:-}" = --root ]; then
    root=$(cd "$2" && pwd) && quick=1
fi
cd "$root" || exit 2

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
jobs=$(nproc 2>/dev/null || echo 2)
passed=0 failed=0 skipped=0

# A room includes only rooms that stand before it.
rooms='base job data text plan ops kv model engine comm stage cli'
flags=$(make -s --no-print-directory -C "$here/.." print-flags 2>/dev/null)

c_files() {
    find src tests kernels \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -not -path '*/golden/*' 2>/dev/null | sort
}
sources() {
    find src -name '*.[ch]' | sort
}

# rule NAME FUNCTION - a rule passes when its function prints nothing.
rule() {
    local out begin s
    begin=$(date +%s.%N)
    out=$($2 2>&1)
    s=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    case $out in
    '') passed=$((passed + 1)) && printf 'ok    %-58s %6s s\n' "$1" "$s" ;;
    skip:*) skipped=$((skipped + 1)) && printf 'skip  %-58s %s\n' "$1" "${out#skip:}" ;;
    *)
        failed=$((failed + 1))
        printf 'FAIL  %-58s %6s s\n' "$1" "$s"
        head -n 60 <<<"$out" | sed 's/^/      /'
        ;;
    esac
}

# code FILE ... - "file:line:text" without comments and the contents of strings.
# comments FILE ... - the same of the text in comments, without their stars.
code() {
    split_text 0 "$@"
}
comments() {
    split_text 1 "$@"
}
split_text() {
    awk -v want="$1" '
    FNR == 1 { block = 0 }
    {
        line = $0; out = ""; n = length(line); str = ""
        for (i = 1; i <= n; i++) {
            c = substr(line, i, 1); d = substr(line, i, 2)
            if (block) {
                if (d == "*/") { block = 0; i++; say(text); text = "" } else text = text c
                continue
            }
            if (str != "") { if (c == "\\") i++; else if (c == str) { str = ""; out = out c } continue }
            if (d == "/*") { block = 1; i++; continue }
            if (d == "//") { say(substr(line, i + 2)); break }
            if (c == "\"" || c == "\047") { str = c; out = out c; continue }
            out = out c
        }
        if (block) { say(text); text = "" }
        if (!want && out ~ /[^ \t]/) print FILENAME ":" FNR ":" out
    }
    function say(t) {
        sub(/^[ \t]*\**[ \t]*/, "", t); sub(/[ \t]*$/, "", t)
        if (want && t != "") print FILENAME ":" FNR ":" t
    }' "${@:2}" /dev/null
}

layer_law() {
    grep -n '^#include "' $(sources) /dev/null | awk -v rooms="$rooms" '
    BEGIN { n = split(rooms, r, " "); for (i = 1; i <= n; i++) rank[r[i]] = i; rank["main.c"] = n + 1 }
    {
        split($0, part, ":"); split(part[1], path, "/"); room = path[2]
        if (!(room in rank)) { print part[1] ": not in a room (" rooms ")"; next }
        split($0, q, "\""); inc = q[2]; split(inc, ip, "/"); target = ip[1]
        if (inc !~ /\// || !(target in rank)) {
            if (inc ~ /^kernels\// && room == "ops") next
            if (inc !~ /\//) print part[1] ":" part[2] ": \"" inc "\": write the path from src/"
            else print part[1] ":" part[2] ": \"" inc "\" is in no room"
            next
        }
        if (rank[target] > rank[room])
            print part[1] ":" part[2] ": " room " includes " target ", which stands after it"
        if (target != room && inc != target "/" target ".h")
            print part[1] ":" part[2] ": \"" inc "\" is inside " target "; include " target "/" target ".h"
    }'
}

# header (regular expression) -> folders that may include it
external_headers() {
    while read -r header where; do
        grep -nE "^#include <$header>" $(sources) /dev/null | grep -vE "^($where)" |
            sed "s@\$@   only in: $where@"
    done <<'LIST'
mpi\.h src/comm/
nccl\.h src/comm/
(H5|hdf5).*\.h src/data/
libconfig\.h src/job/
cuda.*\.h src/ops/cuda|kernels/
xxhash\.h src/base/
jansson\.h src/data/|src/text/|src/model/
(pcre2|utf8proc)\.h src/text/
(png|jpeglib|jerror|turbojpeg)\.h src/data/picture_
(immintrin|x86intrin|xmmintrin|emmintrin)\.h src/ops/|src/base/threads\.c
pthread\.h src/base/|src/data/io\.c|src/data/prompts\.h|src/stage/feed\.c|src/stage/warden\.c
LIST
}

headers_alone() {
    local h
    for h in src/*/*.h; do
        [ "$(basename "$(dirname "$h")").h" = "$(basename "$h")" ] || continue
        printf '#include "%s"\n#include "%s"\n' "${h#src/}" "${h#src/}" >"$work/alone.c"
        ${CC:-cc} $flags -Isrc -D_GNU_SOURCE -std=c11 -Wall -Wextra -Werror -fsyntax-only "$work/alone.c"
    done
}

struct_job() {
    code $(sources) | grep -E 'struct job\b' | grep -vE '^src/(job|stage)/|^src/main\.c:'
}

file_heads() {
    local f
    for f in $(sources) $(ls kernels/*.h kernels/*.cu* tests/emulator/* 2>/dev/null); do
        [ "$(sed -n 1p "$f")" = '/*' ] && sed -n 2p "$f" | grep -q "^ \* $(basename "$f" | sed 's/\./\\./') - " && continue
        echo "$f:1: does not begin with a comment \"$(basename "$f") - what it does\""
    done
}

typedefs() {
    # function pointers only: typedef ret (*name)(...)
    code $(sources) | grep -E ':[[:space:]]*typedef\b' | grep -vE 'typedef[^(]*\(\*[a-z0-9_]+\)'
    # libraries' and C's own types may end in _t, ours may not
    code $(sources) | grep -oE '^[^:]+:[0-9]+:|\b[A-Za-z_][A-Za-z0-9_]*_t\b' |
        awk '/:$/ { at = $0; next } { print at " " $0 }' |
        grep -vE ' (u?int(8|16|32|64|ptr|max)_t|u?int_(fast|least)[0-9]+_t|s?size_t|ptrdiff_t|off_t|pid_t|mode_t|time_t|timer_t|siginfo_t|uid_t|gid_t|sigset_t|sig_atomic_t|clockid_t|cpu_set_t|max_align_t|pthread_([a-z]+_)?t|hid_t|herr_t|hsize_t|hssize_t|htri_t|haddr_t|hvl_t|hbool_t|H5[A-Z]+_[A-Za-z0-9_]+_t|json_(t|int_t|error_t)|config_(t|setting_t)|utf8proc_[a-z0-9]+_t|XXH[0-9]+_(hash|state)_t|cudaStream_t|cudaError_t|cudaEvent_t|locale_t|va_list_t)$' |
        sed 's/$/   a name of ours ends in _t/'
}

# _Exit and friends too; ranks.c ends an MPI job that cannot end in order, warden.c a process that hangs.
no_exit() {
    code $(sources) | grep -E '(^|[^A-Za-z0-9_.>])(exit|_exit|_Exit|abort|quick_exit|MPI_Abort)[[:space:]]*\(' |
        grep -vE '^src/main\.c:|^src/comm/ranks\.c:|^src/stage/warden\.c:'
}

dead_code() {
    grep -nE '^[[:space:]]*#[[:space:]]*if[[:space:]]+0\b' $(c_files) /dev/null
    # a comment line that ends as a statement does: f(x); or a = b;
    comments $(c_files) | grep -E ':([a-z_]+ )?[A-Za-z_*][A-Za-z0-9_.>-]*(\[[^]]*\])?( *[-+|&]?= ?[^= ].*|\([^()]*\));$' |
        grep -vE '\.\.\.|acc = ' | sed 's/$/   code in a comment?/'
    grep -nE '\b(TODO|FIXME|XXX)\b' $(c_files) /dev/null
}

macros_hide_nothing() {
    # a macro of many lines is joined first; TRY takes its label as an argument
    awk 'FNR == 1 { buf = "" }
        /^[ \t]*#[ \t]*define/ || buf != "" { if (buf == "") at = FILENAME ":" FNR; buf = buf $0
            if ($0 ~ /\\$/) next
            if (buf ~ /[^a-z_]return[^a-z_]/ && FILENAME !~ /tests\/test\.h/) print at ": a macro hides a return"
            if (buf ~ /[^a-z_]goto[^a-z_]/ && buf !~ /goto label/) print at ": a macro hides a goto"
            buf = "" }' $(c_files) /dev/null
}

# Mutable data at file scope: only the log's own, the clock's start, and what a signal handler sets.
globals() {
    local obj=$here/../build/release o
    [ -f "$obj/libepidote.a" ] || { echo "skip: not built yet: make"; return; }
    for o in $(find "$obj/src" -name '*.o' | sort); do
        objdump -t "$o" | awk -v o="${o#"$obj"/}" '$0 ~ / O \.(data|bss)[ \t]/ || $0 ~ / O \.(t?data|t?bss)[ \t]/ || $0 ~ /\*COM\*/ {
            print o ": " $NF " is data that can change" }'
    done | grep -vE '^src/base/(log|clock|threads)\.o|^src/main\.o|^src/stage/warden\.o: (n_signals|last_signal|drain_asked|wake_fd) is'
}

# enum status becomes a type that clang does not let anyone ignore.  row_error_set (and ROW_BAD, which
# calls it) always returns ST_ROW, for callers to pass on where they like.
status_ignored() {
    command -v clang >/dev/null || { echo "skip: no clang"; return; }
    [ -f src/base/base.h ] || return
    mkdir -p "$work/inc/base"
    sed 's/^enum status {/enum __attribute__((warn_unused_result)) status {/' src/base/base.h >"$work/inc/base/base.h"
    grep -q warn_unused "$work/inc/base/base.h" || { echo "src/base/base.h: no line 'enum status {'"; return; }
    find src -name '*.c' | sort | xargs -P "$jobs" -n 8 clang -I"$work/inc" $flags -Isrc -I. -D_GNU_SOURCE -std=c11 \
        -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -Wno-everything -Werror=unused-result -fsyntax-only 2>&1 |
        grep -E -A 1 'error:' | grep -v '^--' | paste - - | grep -vE 'row_error_set|ROW_BAD' |
        sed 's/ignoring return value.*\]/this status is ignored:/'
}

layout() {
    local cf
    cf=$(command -v clang-format-14 || command -v clang-format) || { echo "skip: no clang-format"; return; }
    $cf --version | grep -q ' version 14\.' || { echo "skip: the tree is laid out by clang-format 14, this is $($cf --version | grep -o '[0-9]*\.[0-9.]*' | head -1)"; return; }
    $cf --dry-run -Werror $(c_files) 2>&1 | grep -E 'error:'
}

shell_syntax() {
    local f
    for f in .ci/run .ci/*.sh tests/*.sh inputs/*.sh inputs/models/*.sh; do
        [ -f "$f" ] && { bash -n "$f" || echo "$f: bash -n fails"; }
    done
}

run_cppcheck() {
    command -v cppcheck >/dev/null || { echo "skip: no cppcheck"; return; }
    mkdir -p build/lint/cppcheck
    cppcheck -q -j "$jobs" --std=c11 --language=c -Isrc -I. -D_GNU_SOURCE -D__x86_64__ --enable=warning,performance,portability \
        --suppressions-list=tests/lint/cppcheck.txt --cppcheck-build-dir=build/lint/cppcheck \
        --template='{file}:{line}: {id}: {message}' -i tests/emulator src tests 2>&1 | grep -v '^nofile'
}

# What a file says to clang-tidy is kept by the hash of its preprocessed text: an unchanged file is
# not looked at twice.
tidy_one() {
    local f=$1 flags=$2 key kept isa=''
    case $f in
    *_avx2.c) isa='-mavx2 -mfma -mf16c' ;;
    *_avx512.c) isa='-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c' ;;
    *_avx512bf16.c) isa='-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx2 -mfma -mf16c' ;;
    esac
    flags="$flags -Isrc -I. -D_GNU_SOURCE -DEPIDOTE_VERSION=\"0\" -DEPIDOTE_COMMIT=\"0\" -std=c11 $isa"
    key=$({ clang $flags -E "$f" 2>/dev/null; cat tests/lint/clang-tidy.yaml; } | sha256sum | cut -c1-32)
    kept=build/lint/tidy/$(tr / _ <<<"$f").$key
    [ -f "$kept" ] && return
    rm -f "build/lint/tidy/$(tr / _ <<<"$f")".*
    if out=$(clang-tidy --quiet --config-file=tests/lint/clang-tidy.yaml "$f" -- $flags 2>/dev/null); then
        touch "$kept"
    fi
    grep -E '(warning|error):' <<<"$out" | sed "s@^$PWD/@@"
}
export -f tidy_one

run_clang_tidy() {
    command -v clang-tidy >/dev/null || { echo "skip: no clang-tidy"; return; }
    mkdir -p build/lint/tidy
    find src -name '*.c' | sort | xargs -P "$jobs" -I{} bash -c 'tidy_one "$1" "$2"' _ {} "$flags" | sort -u
}

# A tree that breaks every quick rule once; each must be seen, or the linter is asleep.
itself() {
    local bad=$work/bad out what
    mkdir -p "$bad"/src/{base,data,plan} "$bad/tests"
    cat >"$bad/src/base/base.h" <<'BAD'
/*
 * base.h - a bad one.
 */
#include "plan/plan.h"
enum status {
    ST_OK
};
struct thing_t {
    unknown_type x;
};
typedef int number;
BAD
    printf '/*\n * plan.h - empty.\n */\n' >"$bad/src/plan/plan.h"
    cat >"$bad/src/plan/plan.c" <<'BAD'
/*
 * plan.c - a bad one.
 */
#include <hdf5.h>
#include "base/base.h"
enum status f(struct job *job);
enum status f(struct job *job)
{
    /* the old way:
     * f(job);
     */
    exit(1);
}
#define LEAVE(x) if (x) return x
BAD
    printf 'int x;\n' >"$bad/src/data/data.c"
    printf '/*\n * ok.c - ignores a status.\n */\nenum status { ST_OK };\n' >"$bad/src/data/ok.c"
    out=$("$here/lint.sh" --root "$bad")
    for what in 'layer law' 'external headers' 'headers compile alone' 'struct job' 'file heads' 'typedef' 'exit' 'commented-out' 'macros'; do
        grep -q "^FAIL .*$what" <<<"$out" || echo "a tree that breaks the rule '$what' passes it"
    done
    for what in 'base includes plan' 'hdf5.h>   only in' 'unknown_type' 'src/plan/plan.c:6:.*struct job' 'src/data/data.c:1:' 'thing_t' 'typedef int number' 'exit(1)' 'f(job);' 'hides a return'; do
        grep -q -- "$what" <<<"$out" || echo "the linter's report does not contain: $what"
    done
    # an ignored status and a wrong layout, on real tools
    if command -v clang >/dev/null; then
        cat >"$bad/src/base/base.h" <<'BAD'
enum status {
    ST_OK
};
BAD
        printf '#include "base/base.h"\nenum status g(void);\nvoid h(void);\nvoid h(void)\n{\n    g();\n}\n' >"$bad/src/plan/plan.c"
        out=$("$here/lint.sh" --root "$bad")
        grep -q 'FAIL .*no status' <<<"$out" || echo "an ignored status passes"
    fi
}

rule 'layer law: a room includes only rooms before it' layer_law
rule 'external headers only where they belong' external_headers
rule 'public headers compile alone' headers_alone
rule 'struct job only in job/, stage/, main.c' struct_job
rule 'file heads say what the file does' file_heads
rule 'typedef for function pointers only, no _t of ours' typedefs
rule 'no exit or abort outside main.c' no_exit
rule 'no commented-out code, no #if 0, no TODO' dead_code
rule 'macros hide no return and no goto' macros_hide_nothing
rule 'no status is ignored' status_ignored
if [ $quick = 0 ]; then
    rule 'no mutable data at file scope' globals
    rule 'clang-format (14)' layout
    rule 'shell scripts parse' shell_syntax
    rule 'cppcheck' run_cppcheck
    rule 'clang-tidy' run_clang_tidy
    rule 'the linter sees what it should' itself
    tests/sum.sh --add $passed $failed $skipped
fi
[ $failed = 0 ]
