#!/bin/bash
# TEST needs: slow mpirun timeout: 1200
# 40 (or E2E_MANY_COMBOS) seeded random combinations of layouts, links and everything else that must not change an answer.
E2E_COMBOS=${E2E_MANY_COMBOS:-40} exec bash "$(dirname "$0")/e2e_ranks.sh"
