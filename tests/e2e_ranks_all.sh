#!/bin/bash
# TEST needs: slow mpirun timeout: 900
# The layouts of e2e_ranks.sh and more: up to 8 ranks.
E2E_ALL=1 exec bash "$(dirname "$0")/e2e_ranks.sh"
