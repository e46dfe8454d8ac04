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

digest() { # FILE
    "$epidote" inspect --digest "$1" 2>&1
}

# clear NAME - forget a job's results and logs.
clear() {
    rm -rf "$dir/$1.out.h5" "$dir/$1.out.h5".*
}
