#!/bin/bash
# TEST needs: slow timeout: 900
# The kill test with 60 kills, or E2E_MANY_KILLS.
E2E_KILLS=${E2E_MANY_KILLS:-60} E2E_SEED=2024 exec bash "$(dirname "$0")/e2e_kill.sh"
