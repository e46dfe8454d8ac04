#!/bin/bash
# demo_llm.sh - import inputs/demo.jsonl, run jobs/demo-llm.cfg on it with 4 ranks, show prompts and answers
# and say where they are.  `make demo-llm` builds the program and fetches the model before it calls this.
set -eu
cd "$(dirname "$0")/.."
dir=build/demo-llm
mkdir -p "$dir"

# The demo shows a whole run: what an earlier demo left is removed, or it would have nothing to do.
rm -rf "$dir"/results.h5*
build/epidote import inputs/demo.jsonl "$dir/prompts.h5"
echo "demo: $(wc -l <inputs/demo.jsonl) prompts of inputs/demo.jsonl are in $dir/prompts.h5; running jobs/demo-llm.cfg"
echo "demo: on 4 ranks: one reads and writes, one computes prompts, two compute answers"
echo
inputs/launch.sh 4 build/epidote run jobs/demo-llm.cfg
build/epidote export "$dir/results.h5" "$dir/answers.jsonl"
echo
inputs/show.sh inputs/demo.jsonl "$dir/answers.jsonl"
build/epidote status "$dir/results.h5"
cat <<END

The answers are in $dir/results.h5 (and as text in $dir/answers.jsonl).  In Python:

    import h5py
    f = h5py.File("$dir/results.h5")
    print(f["text"].asstr()[:3], f["output_len"][:3])

Your own prompts: README.md, "Your own data".
END
