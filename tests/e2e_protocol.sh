#!/bin/bash
# TEST needs: slow timeout: 600
# The protocol cannot hang, at length: unit_protocol over EPIDOTE_SEEDS (200,000) seeds, on all cores,
# and a cell of 1,000 ranks to its end.
set -u
cd "$(dirname "$0")/.." || exit 2
bin=${EPIDOTE_OUT:-build/release}/tests

"$bin/unit_protocol" 0 "${EPIDOTE_SEEDS:-200000}" && "$bin/virtual" 1000 5000
