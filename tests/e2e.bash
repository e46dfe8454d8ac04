# e2e.bash - what the end-to-end scripts share: sourced, not run.
#
#   program   $EPIDOTE, else build/epidote
#   model     $EPIDOTE_MODEL, else the small model in inputs/
#   folder    $dir, made here and removed at the end
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
epidote=${EPIDOTE:-build/epidote}
model=${EPIDOTE_MODEL:-inputs/models/tiny-llama}
dir=$(mktemp -d "${TMPDIR:-/tmp}/epidote-e2e-XXXXXX")
trap 'rm -rf "$dir"' EXIT
n_checks=0 n_failed=0

fail() { # MESSAGE
    n_failed=$((n_failed + 1))
    echo "FAILED: $*" >&2
}

fail_log() { # NAME MESSAGE - a job failed: also the end of its log
    fail "$2"
    tail -n 30 "$dir/$1.log" >&2
}

check() { # MESSAGE COMMAND... - the command succeeds
    local what=$1
    shift
    n_checks=$((n_checks + 1))
    "$@" || fail "$what"
}

same() { # WHAT GOT WANT
    n_checks=$((n_checks + 1))
    [ "$2" = "$3" ] || fail "$1: $2, not $3"
}

has() { # WHAT FILE TEXT - the file contains the text
    n_checks=$((n_checks + 1))
    grep -qF -- "$3" "$2" || { fail "$1: no \"$3\" in:"; tail -n 20 "$2" >&2; }
}

end() {
    echo "$0: $n_checks checks, $n_failed failed"
    [ "$n_failed" = 0 ] && [ "$n_checks" -gt 0 ]
    exit
}

# prompts NAME [N] - import inputs/tiny.jsonl (its first N rows) as $dir/NAME.h5.
prompts() {
    head -n "${2:-1000000}" inputs/tiny.jsonl >"$dir/$1.jsonl"
    "$epidote" import "$dir/$1.jsonl" "$dir/$1.h5" 2>"$dir/import.log" ||
        { cat "$dir/import.log" >&2; fail "import of inputs/tiny.jsonl"; end; }
}

# job NAME PROMPTS [key=value ...] - a job file $dir/NAME.cfg with results $dir/NAME.h5.
job() {
    local name=$1 rows=$2 kv
    shift 2
    {
        echo "model = \"$model\"; prompts = \"$rows\"; results = \"$dir/$name.out.h5\"; progress = 0;"
        for kv in "$@"; do echo "${kv%%=*} = ${kv#*=};"; done
    } >"$dir/$name.cfg"
}

# run NAME [--set ...] - run a job; output and log in $dir/NAME.log; returns the outcome.
run() {
    local name=$1
    shift
    "$epidote" run "$dir/$name.cfg" "$@" >"$dir/$name.log" 2>&1
}

# launch N NAME [--set ...] - run a job on N ranks; as run.
launch() {
    local n=$1 name=$2
    shift 2
    inputs/launch.sh "$n" "$epidote" run "$dir/$name.cfg" "$@" >"$dir/$name.log" 2>&1
}

# ranks_there - "rank pid" of every rank of a job of this test that runs, by rank.
ranks_there() {
    local pid
    for pid in $(pgrep -f "^[^ ]*epidote run $dir/"); do
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" |
            sed -nE "s/^(OMPI_COMM_WORLD_RANK|PMI_RANK)=([0-9]+)$/\\2 $pid/p" | head -n 1
    done | sort -n
}

# gone_in SECONDS - wait until no rank of this test's jobs is left; what is left then is killed.
gone_in() {
    local i
    for ((i = 0; i < $1 * 20; i++)); do
        [ -z "$(ranks_there)" ] && return 0
        sleep 0.05
    done
    ranks_there | while read -r rank pid; do kill -9 "$pid" 2>/dev/null; done
    return 1
}

# wait_launcher PID - wait for it; returns its exit status.  Open MPI's hangs in its own end now and then when a
# rank was killed: without any rank for 10 s, it is killed.
wait_launcher() {
    local quiet=0
    while kill -0 "$1" 2>/dev/null; do
        if [ -z "$(ranks_there)" ]; then quiet=$((quiet + 1)); else quiet=0; fi
        [ $quiet -lt 200 ] || { echo "the launcher hung in its own end" && kill -9 "$1"; }
        sleep 0.05
    done
    wait "$1"
}

digest() { # FILE
    "$epidote" inspect --digest "$1" 2>&1
}

# clear NAME - forget a job's results and logs.
clear() {
    rm -rf "$dir/$1.out.h5" "$dir/$1.out.h5".*
}
