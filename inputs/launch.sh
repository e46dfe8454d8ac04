#!/bin/bash
# launch.sh N COMMAND ARG ...    - run COMMAND as N ranks on this machine or in this Slurm allocation, by the
# launcher of the MPI that it was built with.
# launch.sh --find COMMAND       - print the name of that launcher (mpirun, not srun).
#
#   MPIRUN=...        the launcher, if this script finds another than you want
#   MPIRUN_ARGS=...   more arguments for it
#
# The launcher takes this script's place, so its process number and its exit status are this script's.
set -u
if [ $# -lt 2 ]; then
    echo "launch.sh: usage: launch.sh N COMMAND ARG ..., or launch.sh --find COMMAND" >&2
    exit 2
fi
n=$1
shift

# mpi_of COMMAND - openmpi or mpich, by the library that it is linked with; nothing if neither.
mpi_of() {
    ldd "$(command -v "$1")" 2>/dev/null | sed -nE 's/^[ \t]*(libmpi\.so|libmpi_|libopen-rte).*/openmpi/p; s/^[ \t]*libmpich.*/mpich/p' | head -n 1
}
mpi=$(mpi_of "$1")

# is_of COMMAND MPI - whether a launcher is of that MPI.
is_of() {
    case $2 in
    openmpi) "$1" --version 2>/dev/null | grep -qiE 'open[ -]?mpi|openrte|prte' ;;
    mpich) "$1" --version 2>/dev/null | grep -qiE 'hydra|mpich|intel\(r\) mpi' ;;
    *) true ;;
    esac
}

if [ "$n" != --find ] && [ -z "${MPIRUN:-}" ] && [ -n "${SLURM_JOB_ID:-}" ] && command -v srun >/dev/null; then
    case $mpi in
    mpich) exec srun --mpi=pmi2 -n "$n" ${MPIRUN_ARGS:-} "$@" ;;
    *) exec srun --mpi=pmix -n "$n" ${MPIRUN_ARGS:-} "$@" ;;
    esac
fi
launcher=${MPIRUN:-}
for name in mpirun "mpirun.$mpi" mpiexec "mpiexec.$mpi"; do
    [ -n "$launcher" ] && break
    command -v "$name" >/dev/null && is_of "$name" "$mpi" && launcher=$name
done
if [ -z "$launcher" ]; then
    echo "launch.sh: no launcher of ${mpi:-any MPI} in PATH (mpirun, mpiexec): install it, or name it in MPIRUN" >&2
    exit 2
fi
if [ "$n" = --find ]; then
    echo "$launcher"
    exit
fi
if is_of "$launcher" openmpi; then
    # More ranks than cores, and root in a container, are nothing out of the way here.
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    exec "$launcher" --oversubscribe -n "$n" ${MPIRUN_ARGS:-} "$@"
fi
exec "$launcher" -n "$n" ${MPIRUN_ARGS:-} "$@"
