#!/bin/bash
# fetch_llama_cpp_files.sh - vocabularies with test vectors and chat templates of well-known models
# (12 MB, MIT) into a folder, once: DIR/ggml-vocab-*.gguf{,.inp,.out} and DIR/templates/*.jinja.
#
#   inputs/models/fetch_llama_cpp_files.sh DIR
#
# They come inside the source archive of the PyPI package llama-cpp-python 0.3.36 (77 MB), by the
# ordinary pip client, and the archive is checked by its sha256.  Nothing of it is built or run
# but what pip does to read its name and version.
. "$(dirname "$0")/fetch.bash"
sum=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
package=llama-cpp-python==0.3.36

[ -f "$dir/.ok" ] && [ "$(cat "$dir/.ok")" = "$sum" ] && exit 0
pip_download "the source of $package (77 MB)" --no-binary llama-cpp-python $package || exit 1
archive=$(find "$tmp" -name '*.tar.gz' | head -n 1)
if ! has_sum "$archive" $sum; then
    echo "model: the archive of $package has not the sha256 $sum" >&2
    exit 1
fi
tar -xzf "$archive" -C "$tmp" --wildcards '*/vendor/llama.cpp/models/*'
mkdir -p "$dir/templates"
mv "$tmp"/*/vendor/llama.cpp/models/templates/*.jinja "$dir/templates/"
mv "$tmp"/*/vendor/llama.cpp/models/ggml-vocab-* "$dir/"
echo "$sum" >"$dir/.ok"
echo "model: $dir"
