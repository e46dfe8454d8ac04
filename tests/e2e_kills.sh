#!/bin/bash
# TEST needs: slow timeout: 900
# The kill test with 60 kills.
E2E_KILLS=60 E2E_SEED=2024 exec bash "$(dirname "$0")/e2e_kill.sh"
