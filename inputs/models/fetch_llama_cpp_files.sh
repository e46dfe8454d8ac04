#!/bin/bash
# fetch_llama_cpp_files.sh - vocabularies with test vectors and chat templates of well-known models
# (12 MB, MIT) into a folder, once: DIR/ggml-vocab-*.gguf{,.inp,.out} and DIR/templates/*.jinja.
#
#   inputs/models/fetch_llama_cpp_files.sh DIR
#
# They come inside the source archive of the PyPI package llama-cpp-python 0.3.36 (77 MB), by the
# ordinary pip client, and the archive is checked by its sha256.  Nothing of it is built or run
# but what pip does to read its name and version.
set -eu
dir=${1:?usage: fetch_llama_cpp_files.sh DIR}
sum=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
package=llama-cpp-python==0.3.36
root=$(cd "$(dirname "$0")/../.." && pwd)

[ -f "$dir/.ok" ] && [ "$(cat "$dir/.ok")" = "$sum" ] && exit 0

"$root/.ci/deps.sh" python
pip='python3 -m pip'
$pip --version >/dev/null 2>&1 || pip=pip3

mkdir -p "$dir"
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
echo "model: fetching the source of $package (77 MB) with pip"
if ! $pip download --disable-pip-version-check --quiet --no-deps --no-binary llama-cpp-python \
    --dest "$tmp" "$package" >"$tmp/log" 2>&1; then
    tail -n 5 "$tmp/log" >&2
    echo "model: pip could not download $package: is there a network, or a mirror in pip's configuration?" >&2
    exit 1
fi
archive=$(find "$tmp" -name '*.tar.gz' | head -n 1)
if ! echo "$sum  $archive" | sha256sum --check --status 2>/dev/null; then
    echo "model: the archive of $package has not the sha256 $sum" >&2
    exit 1
fi
tar -xzf "$archive" -C "$tmp" --wildcards '*/vendor/llama.cpp/models/*'
mkdir -p "$dir/templates"
mv "$tmp"/*/vendor/llama.cpp/models/templates/*.jinja "$dir/templates/"
mv "$tmp"/*/vendor/llama.cpp/models/ggml-vocab-* "$dir/"
echo "$sum" >"$dir/.ok"
echo "model: $dir"
