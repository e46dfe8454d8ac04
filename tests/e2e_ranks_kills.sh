#!/bin/bash
# TEST needs: slow mpirun timeout: 1200
# The kill test on many ranks with 60 kills.
E2E_KILLS=60 E2E_SEED=2024 exec bash "$(dirname "$0")/e2e_ranks_kill.sh"
