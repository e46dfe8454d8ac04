#!/bin/bash
# demo.sh - run jobs/demo.cfg with 4 ranks: the vision-language model that ships here answers the questions
# of inputs/shapes.h5 about pictures.  Shows some answers, how many are right and a sheet of pictures.
# `make demo` builds the program before it calls this; no network, no Python.
set -eu
cd "$(dirname "$0")/.."
dir=build/demo
mkdir -p "$dir"

# The demo shows a whole run: what an earlier demo left is removed, or it would have nothing to do.
rm -rf "$dir"/results.h5* "$dir/sheet.png"
echo "demo: questions of inputs/shapes.h5 about pictures, on 4 ranks: one reads and writes, one turns pictures into"
echo "demo: embeddings, one computes prompts, one computes answers; running jobs/demo.cfg"
echo
# One picture is broken on purpose, so the outcome is 1: all rows done, some of them as errors.  Open MPI's
# launcher need not explain that.
if [ -z "${SLURM_JOB_ID:-}" ] && "$(inputs/launch.sh --find build/epidote)" --version 2>/dev/null | grep -q 'Open MPI'; then
    export MPIRUN_ARGS="-q ${MPIRUN_ARGS:-}"
fi
outcome=0
inputs/launch.sh 4 build/epidote run jobs/demo.cfg || outcome=$?
if [ "$outcome" -gt 1 ]; then
    echo "demo: the run ended with $outcome; inputs/launch.sh 4 build/epidote run jobs/demo.cfg says all there is to say" >&2
    exit "$outcome"
fi
echo
build/epidote report "$dir/results.h5" --sheet "$dir/sheet.png"
cat <<END

The answers are in $dir/results.h5, pictures with questions and answers in $dir/sheet.png.
A model for text: make demo-llm.  Your own prompts: README.md, "Your own data".
END
