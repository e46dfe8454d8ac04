#!/bin/bash
# deps.sh - what the build and its checks need, found by pkg-config and command -v; installed through
# apt-get where this user may, else named.
#
#   .ci/deps.sh LIST ...      build    compiler and libraries: make, make demo, make test
#                             mpich    a second MPI, for make mpich
#                             tools    clang, clang-format, clang-tidy, cppcheck, fuzzer runtime
#                             slurm    its daemons, for make test-slurm
#                             python   python3 with pip: only to fetch models, for make demo-llm and tests
#
# Prints nothing when all is there.  Exit status 1: something is missing and could not be installed.
set -u

have() {
    command -v "$1" >/dev/null 2>&1
}

# daemon COMMAND - as have, where PATH of a user does not look, too.
daemon() {
    PATH=$PATH:/usr/sbin:/sbin have "$1"
}

# lib HOME PKG ... - whether HOME is set or pkg-config knows one of the names.
lib() {
    local home=$1 p
    shift
    [ -n "$home" ] && return 0
    for p in "$@"; do pkg-config --exists "$p" 2>/dev/null && return 0; done
    return 1
}

# need PACKAGE MODULE COMMAND... - note Debian package and site module when COMMAND fails.
packages=() modules=()
need() {
    local package=$1 module=$2
    shift 2
    "$@" && return 0
    packages+=("$package")
    modules+=("$module")
}

# The sanitizers' and the fuzzer's runtime is a package of its own, whose name has clang's version.
fuzzer_works() {
    local dir rc
    have clang || return 1
    dir=$(mktemp -d) || return 1
    echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n); int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; return (int)(n >> 63); }' >"$dir/f.c"
    clang -fsanitize=fuzzer,address,undefined "$dir/f.c" -o "$dir/f" 2>/dev/null
    rc=$?
    rm -rf "$dir"
    return $rc
}

clang_runtime_package() {
    local v p
    v=$(clang -dumpversion 2>/dev/null | cut -d. -f1)
    [ -n "$v" ] || v=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1)
    for p in "libclang-rt-$v-dev" "libclang-common-$v-dev"; do
        apt-cache show "$p" >/dev/null 2>&1 && echo "$p" && return
    done
    echo "libclang-rt-${v:-14}-dev"
}

# Layout differs between versions of clang-format, and the tree is laid out by 14.
clang_format_package() {
    apt-cache show clang-format-14 >/dev/null 2>&1 && echo clang-format-14 && return
    echo clang-format
}

clang_format_there() {
    have clang-format-14 || have clang-format
}

pip_works() {
    python3 -m pip --version >/dev/null 2>&1 || have pip3
}

look_mpich() {
    need libmpich-dev mpich have mpicc.mpich
    need mpich mpich have mpirun.mpich
}

look() {
    local list
    packages=() modules=()
    for list in "$@"; do
        case $list in
        build)
            need gcc gcc have "${CC:-cc}"
            need g++ gcc have "${CXX:-c++}"
            need make make have make
            need pkg-config pkgconf have pkg-config
            need libc6-dev gcc test -e /usr/include/stdio.h -o -n "${CPATH:-}"
            need libhdf5-dev hdf5 lib "${HDF5_HOME:-}" hdf5 hdf5-serial
            need libconfig-dev libconfig lib "${LIBCONFIG_HOME:-}" libconfig
            need libjansson-dev jansson lib "${JANSSON_HOME:-}" jansson
            need libxxhash-dev xxhash lib "${XXHASH_HOME:-}" libxxhash
            need libutf8proc-dev utf8proc lib "${UTF8PROC_HOME:-}" libutf8proc
            need libjpeg-dev libjpeg-turbo lib "${JPEG_HOME:-}" libjpeg
            need libpng-dev libpng lib "${PNG_HOME:-}" libpng libpng16
            case ${MPICC:-mpicc} in
            *mpich) look_mpich ;;
            *)
                [ -n "${MPI_LIBS:-}" ] || need libopenmpi-dev openmpi have "${MPICC:-mpicc}"
                need openmpi-bin openmpi have "${MPIRUN:-mpirun}"
                ;;
            esac
            ;;
        mpich) look_mpich ;;
        tools)
            need clang llvm have clang
            need "$(clang_runtime_package)" llvm fuzzer_works
            need "$(clang_format_package)" llvm clang_format_there
            need clang-tidy llvm have clang-tidy
            need cppcheck cppcheck have cppcheck
            ;;
        slurm)
            need slurm-wlm slurm daemon slurmctld
            need slurm-wlm slurm daemon slurmd
            need slurm-wlm slurm have srun
            need munge munge daemon munged
            ;;
        python)
            need python3 python have python3
            need python3-pip python pip_works
            ;;
        *)
            echo "deps.sh: no list $list (build, mpich, tools, slurm, python)" >&2
            exit 2
            ;;
        esac
    done
}

look "$@"
[ ${#packages[@]} = 0 ] && exit 0

as_root=''
if [ "$(id -u)" != 0 ]; then
    as_root='sudo -n'
    have sudo && sudo -n true 2>/dev/null || as_root=no
fi

if have apt-get && [ "$as_root" != no ]; then
    echo "deps: installing ${packages[*]}"
    log=$(mktemp)
    apt() {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1
    }
    apt update || { echo "deps: apt-get update failed; going on with the lists at hand" >&2; tail -n 3 "$log" >&2; }
    look "$@" # names that depend on the package lists are known now
    apt install -y --no-install-recommends "${packages[@]}" || tail -n 20 "$log" >&2
    hash -r
    look "$@"
    # clang brings its version, which names the runtime package
    [ ${#packages[@]} = 0 ] || apt install -y --no-install-recommends "${packages[@]}" || tail -n 5 "$log" >&2
    look "$@"
    rm -f "$log"
    [ ${#packages[@]} = 0 ] && exit 0
fi

{
    echo "deps: missing, and this user cannot install it:"
    echo "  Debian, Ubuntu:  sudo apt-get install ${packages[*]}"
    echo "  on a cluster:    module load $(printf '%s\n' "${modules[@]}" | sort -u | tr '\n' ' ') (names vary: module avail)"
    echo "  a library that pkg-config does not know: make HDF5_HOME=/path (LIBCONFIG_HOME, JANSSON_HOME,"
    echo "                   XXHASH_HOME); an MPI whose wrapper is not mpicc: make MPICC=/path/mpicc, or MPI_CFLAGS= MPI_LIBS="
} >&2
exit 1
