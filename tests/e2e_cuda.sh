#!/bin/bash
# TEST needs: readelf
# The program needs no CUDA, and says what is missing when a job asks for it: no library, one that
# does not load, one of another version, no driver, an old one, no device, one too old; and, with
# all of them there, a device that does not start.  Libraries are made up here, beside a copy of the
# program.  What computes is e2e_cuda_engine's.
. "$(dirname "$0")/e2e.bash"

readelf -d "$epidote" >"$dir/needed"
has "readelf reads the program" "$dir/needed" "NEEDED"
same "CUDA or NCCL that the program is linked with" "$(grep -ciE 'cuda|cublas|nccl|nvidia' "$dir/needed")" 0

mkdir "$dir/bin"
cp "$epidote" "$dir/bin/epidote"
epidote=$dir/bin/epidote
prompts rows 2
job a "$dir/rows.h5" max_tokens=2

# refused WHAT TEXT... - a job on CUDA ends with outcome 2, and the log has the texts.
refused() {
    local what=$1 text
    shift
    run a --set 'backend="cuda"'
    same "$what" $? 2
    for text in "$@"; do has "$what" "$dir/a.log" "$text"; done
    check "$what: no results" test ! -e "$dir/a.out.h5"
    clear a
}

# auto WHAT TEXT... - a job on whatever is there is done on the CPU, and says why.
auto() {
    local what=$1 text
    shift
    run a --set 'backend="auto"'
    same "$what, auto" $? 0
    has "$what, auto" "$dir/a.log" "backend auto takes cpu: "
    for text in "$@"; do has "$what, auto" "$dir/a.log" "$text"; done
    clear a
}

# library ABI COUNT_ERROR COUNT MAJOR RUNTIME DRIVER - the library, with these answers.
library() {
    cat >"$dir/made.c" <<MADE
#include <stdio.h>
#include "kernels/kernels.h"
static const char *error_text(int error) { return error == 0 ? "no error" : "made-up error"; }
static int versions(int *runtime, int *driver) { *runtime = $5; *driver = $6; return 0; }
static int device_count(int *n) { *n = $3; return $2; }
static int device_facts(int device, struct k_device *f)
{
    (void)device;
    snprintf(f->name, sizeof f->name, "Made-up GPU");
    f->major = $4; f->minor = 0; f->n_processors = 1; f->memory_bytes = (uint64_t)80 << 30;
    return 0;
}
static int start(int device) { (void)device; return 46; }
const struct k_table *epidote_cuda_table(void);
const struct k_table *epidote_cuda_table(void)
{
    static const struct k_table table = {.abi = $1, .n_bytes = sizeof table, .error_text = error_text,
        .versions = versions, .device_count = device_count, .device_facts = device_facts, .start = start};
    return &table;
}
MADE
    ${CC:-cc} -I. -shared -fPIC -o "$dir/bin/libepidote_cuda.so" "$dir/made.c" || fail "compiling a library"
}

refused "no library" "libepidote_cuda.so is not there (looked for" "$dir/bin/libepidote_cuda.so" "make cuda" 'use backend = "cpu"'
auto "no library" "libepidote_cuda.so is not there"
echo "this is no library" >"$dir/bin/libepidote_cuda.so"
refused "not a library" "$dir/bin/libepidote_cuda.so cannot be loaded" "LD_LIBRARY_PATH"
library 999 0 1 9 13000 13000
refused "another version" "is of another version of epidote"
library K_ABI 35 0 9 13000 0
refused "no driver" "there is no NVIDIA driver on this machine (made-up error)"
auto "no driver" "there is no NVIDIA driver on this machine"
library K_ABI 35 0 9 13020 12040
refused "an old driver" "knows CUDA up to 12.4, this build uses 13.2 (made-up error)"
library K_ABI 100 0 9 13000 13000
refused "no device" "no GPU may be used here (made-up error)" "CUDA_VISIBLE_DEVICES"
library K_ABI 0 1 7 13000 13000
refused "a device too old" "the Made-up GPU has compute capability 7.0, the kernels need 8.0"
library K_ABI 0 1 9 13000 13000
refused "a device that does not start" "the GPU (Made-up GPU, sm_90, 80 GiB) failed at starting up: made-up error"
mkdir -p "$dir/lib/epidote"
mv "$dir/bin/libepidote_cuda.so" "$dir/lib/epidote/"
refused "installed" "failed at starting up: made-up error"
rm "$dir/lib/epidote/libepidote_cuda.so"

# The real one, if this build has it.
real=${EPIDOTE_OUT:-build/release}/libepidote_cuda.so
if [ -f "$real" ]; then
    readelf -d "$real" >"$dir/needed"
    has "the runtime is shared" "$dir/needed" "Shared library: [libcudart.so"
    same "symbols that the library shows" "$(readelf -W --dyn-syms "$real" |
        awk '$5 == "GLOBAL" && $7 != "UND" { print $8 }' | sort | tr '\n' ' ')" "epidote_cuda_table "
    cp "$real" "$dir/bin/"
    run a --set 'backend="auto"'
    same "the real library, auto" $? 0
fi
end
