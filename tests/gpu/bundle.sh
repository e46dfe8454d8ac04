#!/bin/bash
# bundle.sh - pack what gpu_check.sh needs on a machine that has CUDA, a driver and nothing else of ours.
#
#   tests/gpu/bundle.sh BUILT FILE VERSION NO_CUDA
#
# BUILT is the folder of a build, with gpu/emulated/ and gpu/cuda/: program and tests that look for libraries in ../lib.
# NO_CUDA is why there is no gpu/cuda/, or empty.  FILE becomes epidote-gpu-check/ as .tar.gz:
#   gpu-check            this folder's gpu_check.sh
#   cuda/ emulated/      program and tests beside the library that they load, without debugging information
#   lib/                 all that they load, but the C library's and CUDA's own
#   openmpi/             launcher, plugins and texts of the MPI that they were built with, if that is Open MPI
#   tests/ inputs/       scripts, small models, right answers
# A bundle above 50 MiB is refused.  Called by make bundle.
set -eu
[ $# = 4 ] || { sed -n 2,14p "$0" >&2; exit 2; }
built=$1 file=$2 version=$3 no_cuda=$4
MAX_MIB=50
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
to=$work/epidote-gpu-check
mkdir -p "$to/lib" "$to/tests/golden" "$to/inputs/models"

die() {
    echo "bundle: $*" >&2
    exit 1
}

# Programs and tests; those that load the library from beside them are the same on both sides.
mkdir "$to/emulated"
strip -o "$to/emulated/libepidote_cuda.so" "$built/tests/libepidote_cuda.so"
for name in epidote unit_engine_cuda unit_kernels unit_prefill_kernel bench_kernels; do
    strip -o "$to/emulated/$name" "$built/gpu/emulated/$name"
done
if [ -z "$no_cuda" ]; then
    mkdir "$to/cuda"
    cp "$built/libepidote_cuda.so" "$to/cuda/"
    ln "$to/emulated/epidote" "$to/emulated/unit_engine_cuda" "$to/cuda/"
    for name in unit_kernels unit_prefill_kernel bench_kernels; do strip -o "$to/cuda/$name" "$built/gpu/cuda/$name"; done
fi

# Open MPI finds its parts below OPAL_PREFIX as they lie below the prefix of its build.
mpi_path() {
    ompi_info --parsable --path "$1" 2>/dev/null | sed -n "s/^path:$1://p" | head -n 1
}
prefix=$(mpi_path prefix)
if [ -n "$prefix" ]; then
    plugins=$(mpi_path pkglibdir) texts=$(mpi_path pkgdatadir)
    mkdir -p "$to/openmpi/bin" "$to/openmpi${plugins#"$prefix"}" "$to/openmpi${texts#"$prefix"}"
    cp "$(command -v mpirun)" "$to/openmpi/bin/mpirun"
    cp "$texts"/*.txt "$to/openmpi${texts#"$prefix"}/"
    for plugin in "$plugins"/mca_*.so; do
        case $plugin in # networks and what none of this calls
        *openib* | *ofi* | *psm* | *ucx* | *usnic* | *romio* | *memheap* | *scoll* | *spml* | *sshmem* | *atomic*) ;;
        *) cp "$plugin" "$to/openmpi${plugins#"$prefix"}/" ;;
        esac
    done
fi

# What all of these load.  What is not here of CUDA is on the other machine, in any folder.
find "$to" -type f \( -name '*.so' -o -perm -u+x \) -print0 | xargs -0 ldd 2>/dev/null |
    awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r library; do
    case $(basename "$library") in
    libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libresolv.so.* | ld-linux*) ;;
    libcuda.so.* | libcudart.so.* | libcublas* | libepidote_cuda.so) ;;
    *) cp -L "$library" "$to/lib/" ;;
    esac
done

cp -r tests/golden/{small,biased,odd,fp8,families} "$to/tests/golden/"
cp tests/e2e.bash tests/e2e_cuda_engine.sh tests/e2e_two_ranks.sh "$to/tests/"
cp inputs/tiny.jsonl inputs/shapes.h5 inputs/launch.sh "$to/inputs/"
cp -r inputs/models/tiny-llama inputs/models/shapes-vlm "$to/inputs/models/"
cp tests/gpu/gpu_check.sh "$to/gpu-check"
echo "$version" >"$to/VERSION"
[ -z "$no_cuda" ] || echo "$no_cuda" >"$to/NO_CUDA"

mkdir -p "$(dirname "$file")"
tar -C "$work" --owner=0 --group=0 -czf "$work/bundle.tar.gz" epidote-gpu-check
n_kib=$(($(stat -c %s "$work/bundle.tar.gz") / 1024))
[ "$n_kib" -le $((MAX_MIB * 1024)) ] || die "$((n_kib / 1024)) MiB are above $MAX_MIB MiB: $file is not written"
mv "$work/bundle.tar.gz" "$file"
echo "$file: $((n_kib / 1024)).$((n_kib % 1024 * 10 / 1024)) MiB, $(du -sm "$to" | cut -f 1) MiB unpacked${no_cuda:+, emulated device only: $no_cuda}"
