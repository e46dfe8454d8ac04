#!/bin/bash
# TEST needs: smollm2 mpirun timeout: 1500
# The layouts of e2e_ranks.sh on the real model.
EPIDOTE_MODEL=$EPIDOTE_SMOLLM2 E2E_ALL=1 E2E_ROWS=6 E2E_CONTEXT=2048 E2E_POOL_MIB=64 exec bash "$(dirname "$0")/e2e_ranks.sh"
