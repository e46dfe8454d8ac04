#!/bin/bash
# TEST needs: slow mpirun timeout: 1200
# The kill test on many ranks with 52 kills, or E2E_MANY_KILLS.
E2E_KILLS=${E2E_MANY_KILLS:-52} E2E_SEED=2024 exec bash "$(dirname "$0")/e2e_ranks_kill.sh"
