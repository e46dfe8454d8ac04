#!/bin/bash
# unpacked.sh BUNDLE ARG... - unpack the bundle into a folder of its own and run its gpu-check there with these
# arguments, in an environment that knows nothing of this tree.
set -u
bundle=$1
shift
dir=$(mktemp -d "${TMPDIR:-/tmp}/epidote-gpu-check-XXXXXX") || exit 2
trap 'rm -rf "$dir"' EXIT
tar -C "$dir" -xzf "$bundle" || exit 2
env -i PATH="$PATH" HOME="$dir" TMPDIR="$dir" ${CUDA_HOME:+CUDA_HOME="$CUDA_HOME"} \
    ${CUDA_VISIBLE_DEVICES:+CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"} "$dir/epidote-gpu-check/gpu-check" "$@"
